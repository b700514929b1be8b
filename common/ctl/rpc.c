/*
 * Request and reply over NNG: rep0 behind a pollable descriptor for services, req0 for clients.
 *
 * The server side runs on the main loop of a service: no call in it waits. The client side (api, hsctl, tests) blocks
 * for at most the time it is given; NNG repeats a request by itself when the server was restarted in the middle, so
 * control requests are idempotent. One thread per server or client.
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

struct rpc_server {
  nng_socket sock;
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

/** Answers one request. 0, or -EAGAIN when none waits. */
static int rpc_server_one(struct rpc_server *s) {
  nng_msg *m;
  int rc = nngerr_errno(nng_recvmsg(s->sock, &m, NNG_FLAG_NONBLOCK));
  if (rc < 0)
    return rc;
  uint8_t *reply = NULL;
  size_t reply_len = 0;
  rc = s->handler(s->ctx, nng_msg_body(m), nng_msg_len(m), &reply, &reply_len);
  nng_msg_clear(m);
  if (rc == 0)
    rc = nngerr_errno(nng_msg_append(m, reply, reply_len));
  free(reply);
  if (rc < 0 || nng_sendmsg(s->sock, m, NNG_FLAG_NONBLOCK) != 0) /* a client that does not read loses its answer */
    nng_msg_free(m);
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
