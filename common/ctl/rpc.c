/*
 * Request and reply over NNG: rep0 behind a pollable descriptor for services, req0 for clients.
 *
 * The server side runs on the main loop of a service: no call in it waits. A reply may: the last one to the same client
 * is on its way until a thread of NNG has said otherwise, and that can be after the client has read it and asked the
 * next question. So each answer is sent by one of a few contexts, which keeps it until then. The client side (api,
 * hsctl, tests) blocks for at most the time it is given; NNG repeats a request by itself when the server was restarted
 * in the middle, so control requests are idempotent. One thread per server or client.
 */
#include "ctl/rpc.h"

#include "base/clock.h"
#include "base/err.h"
#include "ctl/nngerr.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RPC_REQ_MAX   (1u << 20) /* bytes of a request */
#define RPC_REPLY_MAX (64u << 20)
#define RPC_BURST     16 /* requests handled per turn of the loop */
#define RPC_CONTEXTS  16 /* replies that may wait for their clients */

struct rpc_context {
  nng_ctx ctx;
  nng_aio *send;
  int open;
  int waits; /* atomic: a reply is with `send`; cleared on a thread of NNG */
};

struct rpc_server {
  nng_socket sock;
  nng_aio *recv;
  struct rpc_context context[RPC_CONTEXTS];
  unsigned next; /* context: the one whose reply is the oldest */
  rpc_handler handler;
  void *ctx;
  int fd;
};

struct rpc_client {
  nng_socket sock;
  char *url;
  int open;
  int pipes; /* atomic: connections to a server; counted on a thread of NNG */
};

/** A reply is with its client's pipe, or is given up. */
static void rpc_context_sent(void *arg) {
  struct rpc_context *x = arg;
  if (nng_aio_result(x->send) != 0) {
    nng_msg_free(nng_aio_get_msg(x->send));
    nng_aio_set_msg(x->send, NULL);
  }
  __atomic_store_n(&x->waits, 0, __ATOMIC_RELEASE);
}

static int rpc_context_open(struct rpc_context *x, nng_socket sock) {
  int rc = nngerr_errno(nng_ctx_open(&x->ctx, sock));
  if (rc < 0)
    return rc;
  x->open = 1;
  rc = nngerr_errno(nng_aio_alloc(&x->send, rpc_context_sent, x));
  if (rc == 0)
    nng_aio_set_timeout(x->send, NNG_DURATION_INFINITE);
  return rc;
}

static void rpc_context_close(struct rpc_context *x) {
  if (x->open)
    nng_ctx_close(x->ctx); /* a reply that waits is given up */
  if (x->send != NULL)
    nng_aio_free(x->send); /* its callback is over when it returns */
}

/** The context for the next request. When all replies wait, the oldest one goes: its client does not read. */
static struct rpc_context *rpc_context_next(struct rpc_server *s) {
  struct rpc_context *x = NULL;
  for (unsigned i = 0; i < RPC_CONTEXTS; i++) {
    x = &s->context[(s->next + i) % RPC_CONTEXTS];
    if (!__atomic_load_n(&x->waits, __ATOMIC_ACQUIRE)) {
      s->next = (s->next + i + 1) % RPC_CONTEXTS;
      return x;
    }
  }
  x = &s->context[s->next];
  s->next = (s->next + 1) % RPC_CONTEXTS;
  nng_aio_cancel(x->send);
  nng_aio_wait(x->send);
  return x;
}

int rpc_server_new(struct rpc_server **out, rpc_handler handler, void *ctx) {
  struct rpc_server *s = calloc(1, sizeof *s);
  if (s == NULL)
    return -ENOMEM;
  s->handler = handler;
  s->ctx = ctx;
  int rc = nngerr_errno(nng_rep0_open(&s->sock));
  if (rc < 0) {
    free(s);
    return rc;
  }
  rc = nngerr_errno(nng_socket_set_size(s->sock, NNG_OPT_RECVMAXSZ, RPC_REQ_MAX));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_get_int(s->sock, NNG_OPT_RECVFD, &s->fd));
  if (rc == 0)
    rc = nngerr_errno(nng_aio_alloc(&s->recv, NULL, NULL));
  if (rc == 0)
    nng_aio_set_timeout(s->recv, NNG_DURATION_ZERO);
  for (int i = 0; rc == 0 && i < RPC_CONTEXTS; i++)
    rc = rpc_context_open(&s->context[i], s->sock);
  if (rc < 0) {
    rpc_server_free(s);
    return rc;
  }
  *out = s;
  return 0;
}

int rpc_server_listen(struct rpc_server *s, const char *url) {
  nng_listener l;
  int rc = nngerr_errno(nng_listener_create(&l, s->sock, url));
  if (rc < 0)
    return rc;
  int ipc = strncmp(url, "ipc://", 6) == 0;
  mode_t old = 0;
  if (ipc) {
    old = umask(0177); /* services alone: 0600 from its first instant */
    (void)nng_listener_set_int(l, NNG_OPT_IPC_PERMISSIONS, 0600);
  }
  rc = nngerr_errno(nng_listener_start(l, 0));
  if (ipc)
    umask(old);
  if (rc < 0)
    nng_listener_close(l);
  return rc;
}

int rpc_server_fd(const struct rpc_server *s) {
  return s->fd;
}

/** Answers one request. 0, or -errno when none waits. */
static int rpc_server_one(struct rpc_server *s) {
  struct rpc_context *x = rpc_context_next(s);
  nng_ctx_recv(x->ctx, s->recv);
  nng_aio_wait(s->recv); /* its time is zero */
  int rc = nngerr_errno(nng_aio_result(s->recv));
  if (rc < 0)
    return rc;
  nng_msg *m = nng_aio_get_msg(s->recv);
  uint8_t *reply = NULL;
  size_t reply_len = 0;
  nng_aio_set_msg(s->recv, NULL);
  rc = s->handler(s->ctx, nng_msg_body(m), nng_msg_len(m), &reply, &reply_len);
  nng_msg_clear(m);
  if (rc == 0)
    rc = nngerr_errno(nng_msg_append(m, reply, reply_len));
  free(reply);
  if (rc < 0) {
    nng_msg_free(m);
    return 0;
  }
  __atomic_store_n(&x->waits, 1, __ATOMIC_RELAXED);
  nng_aio_set_msg(x->send, m);
  nng_ctx_send(x->ctx, x->send);
  return 0;
}

void rpc_server_run(struct rpc_server *s) {
  for (int i = 0; i < RPC_BURST; i++)
    if (rpc_server_one(s) < 0)
      return;
}

void rpc_server_free(struct rpc_server *s) {
  if (s == NULL)
    return;
  for (int i = 0; i < RPC_CONTEXTS; i++)
    rpc_context_close(&s->context[i]);
  if (s->recv != NULL)
    nng_aio_free(s->recv);
  nng_close(s->sock);
  free(s);
}

static void rpc_client_on_pipe(nng_pipe pipe, nng_pipe_ev ev, void *arg) {
  struct rpc_client *c = arg;
  (void)pipe;
  __atomic_fetch_add(&c->pipes, ev == NNG_PIPE_EV_ADD_POST ? 1 : -1, __ATOMIC_RELAXED);
}

static int rpc_client_open(struct rpc_client *c) {
  int rc = nngerr_errno(nng_req0_open(&c->sock));
  if (rc < 0)
    return rc;
  c->open = 1;
  rc = nngerr_errno(nng_socket_set_size(c->sock, NNG_OPT_RECVMAXSZ, RPC_REPLY_MAX));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_set_ms(c->sock, NNG_OPT_RECONNMINT, 20));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_set_ms(c->sock, NNG_OPT_RECONNMAXT, 200));
  if (rc == 0)
    rc = nngerr_errno(nng_pipe_notify(c->sock, NNG_PIPE_EV_ADD_POST, rpc_client_on_pipe, c));
  if (rc == 0)
    rc = nngerr_errno(nng_pipe_notify(c->sock, NNG_PIPE_EV_REM_POST, rpc_client_on_pipe, c));
  if (rc == 0)
    rc = nngerr_errno(nng_dial(c->sock, c->url, NULL, NNG_FLAG_NONBLOCK));
  return rc;
}

static void rpc_client_close(struct rpc_client *c) {
  if (c->open)
    nng_close(c->sock); /* the callbacks of its pipes are over when it returns */
  c->open = 0;
  c->pipes = 0;
}

int rpc_client_new(struct rpc_client **out, const char *url) {
  struct rpc_client *c = calloc(1, sizeof *c);
  if (c == NULL)
    return -ENOMEM;
  c->url = strdup(url);
  int rc = c->url == NULL ? -ENOMEM : rpc_client_open(c);
  if (rc < 0) {
    rpc_client_free(c);
    return rc;
  }
  *out = c;
  return 0;
}

static int rpc_client_recv(struct rpc_client *c, uint8_t **reply, size_t *reply_len, usec_t end) {
  usec_t now = clock_now_us();
  int left = now < end ? (int)((end - now) / CLOCK_US_PER_MS) : 0;
  nng_msg *m;
  (void)nng_socket_set_ms(c->sock, NNG_OPT_RECVTIMEO, left);
  int rc = nngerr_errno(nng_recvmsg(c->sock, &m, 0));
  if (rc < 0)
    return rc;
  size_t len = nng_msg_len(m);
  uint8_t *buf = malloc(len > 0 ? len : 1);
  if (buf == NULL) {
    nng_msg_free(m);
    return -ENOMEM;
  }
  memcpy(buf, nng_msg_body(m), len);
  nng_msg_free(m);
  *reply = buf;
  *reply_len = len;
  return 0;
}

int rpc_client_call(struct rpc_client *c, const void *req, size_t req_len, uint8_t **reply, size_t *reply_len,
                    int timeout_ms) {
  nng_msg *m;
  usec_t end = clock_now_us() + (unsigned)(timeout_ms > 0 ? timeout_ms : 0) * CLOCK_US_PER_MS;
  int rc = c->open ? 0 : rpc_client_open(c);
  if (rc == 0)
    rc = nngerr_errno(nng_msg_alloc(&m, 0));
  if (rc < 0)
    return rc;
  rc = nngerr_errno(nng_msg_append(m, req, req_len));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_set_ms(c->sock, NNG_OPT_SENDTIMEO, timeout_ms));
  if (rc == 0) {
    rc = nngerr_errno(nng_sendmsg(c->sock, m, 0));
  }
  if (rc < 0)
    nng_msg_free(m);
  else
    rc = rpc_client_recv(c, reply, reply_len, end);
  if (rc == -ETIMEDOUT && __atomic_load_n(&c->pipes, __ATOMIC_RELAXED) <= 0)
    rc = -ECONNREFUSED; /* nobody is there: not the same as one that does not answer */
  if (rc < 0 && rc != -ENOMEM)
    rpc_client_close(c); /* the next call dials anew: once a socket of NNG 1.5 never came back to a restarted service */
  return rc;
}

void rpc_client_free(struct rpc_client *c) {
  if (c == NULL)
    return;
  rpc_client_close(c);
  free(c->url);
  free(c);
}
