/*
 * The conversation with the broker: its requests and replies (proto/attach.proto), but for those about parts
 * (broker_part.c).
 *
 * Called by worker.c, listen.c, rejoin.c, fork.c and the files of cut-through on the thread of whoever needs it, with
 * broker.lock held. Control path: protobuf-c allocates. The broker may die at any moment of an exchange; the next one
 * gets the token and the same request again.
 */
#include "vcl_broker_talk.h"

#include "base/clock.h"
#include "base/err.h"
#include "ctl/attach.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BROKER_RETRY_MS   20
#define BROKER_TIMEOUT_MS 10000
#define BROKER_UNBIND_US  (100 * CLOCK_US_PER_MS)
#define BROKER_FIRST_US   (1 * CLOCK_US_PER_S) /* a broker that refuses is being restarted, or was stopped */
#define BROKER_MSG_MAX    4096                 /* bytes of one request or reply here */

void broker_init(struct broker *b, const struct vcl_config *cfg, const char *app_name) {
  memset(b, 0, sizeof *b);
  pthread_mutex_init(&b->lock, NULL);
  b->cfg = cfg;
  b->fd = b->bell = b->doorbell = b->part.fd = -1;
  snprintf(b->app_name, sizeof b->app_name, "%s", app_name != NULL ? app_name : "");
}

void broker_hangup(struct broker *b) {
  if (b->fd >= 0)
    close(b->fd);
  b->fd = -1;
  b->calls++;
  b->greeting = 0;
  b->part.seq = 0;
}

void broker_fini(struct broker *b) {
  broker_hangup(b);
  broker_part_forget(b);
  if (b->bell >= 0)
    close(b->bell);
  if (b->doorbell >= 0)
    close(b->doorbell);
  b->bell = b->doorbell = -1;
  pthread_mutex_destroy(&b->lock);
}

usec_t broker_deadline(const struct broker *b) {
  if (b->hurry_us != 0)
    return clock_now_us() + b->hurry_us;
  uint64_t ms = b->app_timeout_ms != 0 ? b->app_timeout_ms : BROKER_TIMEOUT_MS;
  if (b->cfg->app_timeout_s > 0)
    ms = (uint64_t)(b->cfg->app_timeout_s * 1000);
  return clock_now_us() + ms * CLOCK_US_PER_MS;
}

void broker_close_fds(int *fds, int *n) {
  while (*n > 0)
    close(fds[--*n]);
}

/** Polls b->fd until the deadline. 0, -ETIMEDOUT, -errno. */
static int broker_poll(const struct broker *b, short events, usec_t deadline) {
  for (;;) {
    usec_t now = clock_now_us();
    struct pollfd p = {.fd = b->fd, .events = events};
    int ms = now >= deadline ? 0 : (int)((deadline - now) / CLOCK_US_PER_MS + 1);
    int rc = poll(&p, 1, ms);
    if (rc > 0)
      return 0;
    if (rc < 0 && errno != EINTR)
      return err_last();
    if (now >= deadline)
      return -ETIMEDOUT;
  }
}

int broker_receive(struct broker *b, uint32_t seq, broker_reply **out, int *fds, int *n_fds, usec_t deadline) {
  uint8_t buf[BROKER_MSG_MAX];
  for (;;) {
    int rc = broker_poll(b, POLLIN, deadline);
    if (rc < 0)
      return rc;
    ssize_t len = attach_recv(b->fd, buf, sizeof buf, fds, BROKER_FDS, n_fds);
    if (len == -EAGAIN || len == -EINTR)
      continue;
    if (len <= 0)
      return len == 0 || len == -ECONNRESET ? -EPIPE : (int)len;
    broker_reply *r = hoststack__attach__reply__unpack(NULL, (size_t)len, buf);
    if (r != NULL && r->seq == seq) {
      *out = r;
      return 0;
    }
    if (r != NULL) {
      (void)broker_part_put_by(b, r, fds, n_fds);
      hoststack__attach__reply__free_unpacked(r, NULL);
    }
    broker_close_fds(fds, n_fds);
    if (r == NULL)
      return -EPROTO;
  }
}

int broker_send(struct broker *b, broker_request *rq, usec_t deadline) {
  uint8_t buf[BROKER_MSG_MAX];
  rq->seq = ++b->seq;
  if (hoststack__attach__request__get_packed_size(rq) > sizeof buf)
    return -EMSGSIZE;
  size_t len = hoststack__attach__request__pack(rq, buf);
  for (;;) {
    int rc = attach_send(b->fd, buf, len, NULL, 0);
    if (rc == -ECONNRESET || rc == -ENOTCONN)
      return -EPIPE;
    if (rc != -EAGAIN)
      return rc;
    rc = broker_poll(b, POLLOUT, deadline);
    if (rc < 0)
      return rc;
  }
}

/** One request, one reply on the open socket. 0, -EPIPE when the broker is gone, -ETIMEDOUT, -errno. */
static int broker_exchange(struct broker *b, broker_request *rq, broker_reply **out, int *fds, int *n_fds,
                           usec_t deadline) {
  *n_fds = 0;
  int rc = broker_send(b, rq, deadline);
  return rc == 0 ? broker_receive(b, rq->seq, out, fds, n_fds, deadline) : rc;
}

int broker_result(const struct broker *b, const broker_reply *r) {
  if (r->rc == 0)
    return 0;
  if (b->cfg->debug > 0)
    dprintf(STDERR_FILENO, "vcl.broker refused: %s (%s)\n", r->text, err_name(r->rc));
  return r->rc > 0 && r->rc < 4096 ? -r->rc : -EPROTO;
}

/** Takes over what the reply to Hello says. 0 or -EPROTO. */
static int broker_welcome(struct broker *b, const broker_reply *r, int *fds, int *n_fds) {
  if (r->body_case != HOSTSTACK__ATTACH__REPLY__BODY_HELLO)
    return -EPROTO;
  const Hoststack__Attach__HelloReply *h = r->hello;
  b->app_id = h->app_id;
  b->proc_id = h->proc_id;
  b->app_timeout_ms = h->app_timeout_ms;
  b->vrf = h->vrf;
  if (b->have_token)
    return 0;
  if (*n_fds != 2 || h->token.len != BROKER_TOKEN)
    return -EPROTO;
  memcpy(b->token, h->token.data, BROKER_TOKEN);
  b->have_token = 1;
  b->bell = fds[0];
  b->doorbell = fds[1];
  *n_fds = 0;
  return 0;
}

/** What we say of ourselves, with the token when there is one. */
static void broker_introduce(struct broker *b, Hoststack__Attach__Hello *hello) {
  hello->abi_major = ABI_MAJOR;
  hello->abi_minor = ABI_MINOR;
  hello->app_name = b->app_name;
  hello->namespace_id = (char *)(uintptr_t)b->cfg->namespace_id;
  hello->namespace_secret = b->cfg->namespace_secret;
  if (b->have_token)
    hello->token = (ProtobufCBinaryData){.len = BROKER_TOKEN, .data = b->token};
  else if (b->have_parent)
    hello->parent_token = (ProtobufCBinaryData){.len = BROKER_TOKEN, .data = b->parent};
}

/** Connects and says Hello. */
static int broker_connect(struct broker *b, usec_t deadline) {
  Hoststack__Attach__Hello hello = HOSTSTACK__ATTACH__HELLO__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  int rc = attach_connect_nb(b->cfg->socket_path);
  if (rc < 0)
    return rc;
  b->fd = rc;
  broker_introduce(b, &hello);
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_HELLO;
  rq.hello = &hello;
  rc = broker_exchange(b, &rq, &r, fds, &n_fds, deadline);
  if (rc == 0)
    rc = broker_result(b, r);
  if (rc == 0)
    rc = broker_welcome(b, r, fds, &n_fds);
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  broker_close_fds(fds, &n_fds);
  if (rc < 0)
    broker_hangup(b);
  return rc;
}

/** Whether an error means that the broker is away and may come back. */
static int broker_is_away(int rc) {
  return rc == -ECONNREFUSED || rc == -ENOENT || rc == -EPIPE || rc == -EAGAIN;
}

/** A request to a broker that may be restarting. -EAGAIN with nowait when it is away, -ETIMEDOUT at the deadline. */
static int broker_call(struct broker *b, broker_request *rq, broker_reply **out, int *fds, int *n_fds, usec_t deadline,
                       int nowait) {
  if (b->greeting) /* a Hello that nobody waits for: what comes back is to be known here */
    broker_hangup(b);
  for (;;) {
    int rc = b->fd >= 0 ? 0 : broker_connect(b, deadline);
    if (rc == 0) {
      rc = broker_exchange(b, rq, out, fds, n_fds, deadline);
      if (rc == 0) {
        rc = broker_result(b, *out);
        if (rc == 0)
          return 0;
        hoststack__attach__reply__free_unpacked(*out, NULL);
        *out = NULL;
        broker_close_fds(fds, n_fds);
        return rc;
      }
      if (rc == -EPIPE) {
        broker_hangup(b);
        if (!nowait)
          continue; /* at once: it may be back already */
      }
    }
    if (!broker_is_away(rc))
      return rc;
    if (nowait)
      return -EAGAIN;
    if (clock_now_us() >= deadline)
      return -ETIMEDOUT;
    (void)poll(NULL, 0, BROKER_RETRY_MS);
  }
}

int broker_hello(struct broker *b, const uint8_t *parent) {
  usec_t first = clock_now_us() + BROKER_FIRST_US;
  if (parent != NULL) {
    memcpy(b->parent, parent, BROKER_TOKEN);
    b->have_parent = 1;
  }
  if (b->fd >= 0 && b->have_token) /* a child that had something to say before it needed a home */
    return 0;
  for (int seen = 0;; seen = 1) {
    int rc = broker_connect(b, broker_deadline(b));
    if (!broker_is_away(rc) || (rc == -ENOENT && !seen)) /* seen: the old one's socket makes room for the new one's */
      return rc;
    if (clock_now_us() >= first)
      return rc == -EPIPE ? -ECONNREFUSED : rc;
    (void)poll(NULL, 0, BROKER_RETRY_MS);
  }
}

/** What segment-size and add-segment-size ask for. */
static void broker_size_worker(const struct broker *b, Hoststack__Attach__AddWorker *add) {
  add->rx_keep = b->cfg->segment_bytes;
  add->rx_fixed = b->cfg->add_segment_bytes == 0;
  if (b->cfg->add_segment_bytes != CONFIG_UNSET)
    add->rx_step = b->cfg->add_segment_bytes;
  add->tx_parts = 1;
  add->tx_keep = add->rx_keep;
  add->tx_fixed = add->rx_fixed;
  add->tx_step = add->rx_step;
}

/** AddWorker; the two segments' fds go to *fd_e and *fd_a. */
static int broker_ask_worker(struct broker *b, usec_t deadline, uint64_t *worker_id, int *fd_e, int *fd_a) {
  Hoststack__Attach__AddWorker add = HOSTSTACK__ATTACH__ADD_WORKER__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER;
  broker_size_worker(b, &add);
  rq.add_worker = &add;
  int rc = broker_call(b, &rq, &r, fds, &n_fds, deadline, 0);
  if (rc < 0)
    return rc;
  rc = -EPROTO;
  if (r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_ADD_WORKER && n_fds == 2) {
    *worker_id = r->add_worker->worker_id;
    *fd_e = fds[0];
    *fd_a = fds[1];
    n_fds = 0;
    rc = 0;
  }
  hoststack__attach__reply__free_unpacked(r, NULL);
  broker_close_fds(fds, &n_fds);
  return rc;
}

/** A request whose reply carries nothing but its result. */
static int broker_simple(struct broker *b, broker_request *rq, usec_t deadline, int nowait) {
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  int rc = broker_call(b, rq, &r, fds, &n_fds, deadline, nowait);
  if (rc == 0) {
    hoststack__attach__reply__free_unpacked(r, NULL);
    broker_close_fds(fds, &n_fds);
  }
  return rc;
}

/** One try of broker_add_worker; -ENOENT: the broker forgot the worker between the two requests. */
static int broker_try_worker(struct broker *b, struct worker_view *v, uint64_t *worker_id, usec_t deadline) {
  Hoststack__Attach__WorkerMapped mapped = HOSTSTACK__ATTACH__WORKER_MAPPED__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  const char *why = NULL;
  int fd_e = -1, fd_a = -1;
  int rc = broker_ask_worker(b, deadline, worker_id, &fd_e, &fd_a);
  if (rc < 0)
    return rc;
  rc = worker_view_open(v, fd_a, SEG_RDWR, fd_e, SEG_RDONLY, &why);
  if (rc < 0) {
    if (b->cfg->debug > 0)
      dprintf(STDERR_FILENO, "vcl.broker bad segments: %s (%s)\n", why != NULL ? why : "", err_name(rc));
    return rc;
  }
  mapped.worker_id = *worker_id;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_WORKER_MAPPED;
  rq.worker_mapped = &mapped;
  rc = v->ga.worker_id == *worker_id ? broker_simple(b, &rq, deadline, 0) : -EPROTO;
  if (rc < 0)
    worker_view_close(v);
  return rc;
}

int broker_add_worker(struct broker *b, struct worker_view *v, uint64_t *worker_id) {
  usec_t deadline = broker_deadline(b);
  int rc;
  do {
    rc = broker_try_worker(b, v, worker_id, deadline);
  } while (rc == -ENOENT && clock_now_us() < deadline); /* it died before A was in a vault: asked for anew */
  return rc;
}

int broker_step_begin(struct broker *b, enum broker_step step, uint64_t worker_id) {
  Hoststack__Attach__Hello hello = HOSTSTACK__ATTACH__HELLO__INIT;
  Hoststack__Attach__AddWorker add = HOSTSTACK__ATTACH__ADD_WORKER__INIT;
  Hoststack__Attach__WorkerMapped mapped = HOSTSTACK__ATTACH__WORKER_MAPPED__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  if (step == BROKER_STEP_HELLO) {
    int fd = attach_connect_nb(b->cfg->socket_path);
    if (fd < 0)
      return fd;
    b->fd = fd;
    broker_introduce(b, &hello);
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_HELLO;
    rq.hello = &hello;
  } else if (step == BROKER_STEP_WORKER) {
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER;
    broker_size_worker(b, &add);
    rq.add_worker = &add;
  } else {
    mapped.worker_id = worker_id;
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_WORKER_MAPPED;
    rq.worker_mapped = &mapped;
  }
  return broker_send(b, &rq, 0);
}

void broker_step_quit(struct broker *b) {
  broker_hangup(b);
}

int broker_step_end(struct broker *b, enum broker_step step, struct broker_worker *out) {
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  int rc = broker_receive(b, b->seq, &r, fds, &n_fds, 0);
  if (rc == -ETIMEDOUT)
    return -EAGAIN;
  if (rc < 0)
    return rc;
  rc = broker_result(b, r);
  if (rc == 0 && step == BROKER_STEP_HELLO)
    rc = broker_welcome(b, r, fds, &n_fds);
  if (rc == 0 && step == BROKER_STEP_WORKER) {
    rc = r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_ADD_WORKER && n_fds == 2 ? 0 : -EPROTO;
    if (rc == 0)
      *out = (struct broker_worker){.id = r->add_worker->worker_id, .fd_e = fds[0], .fd_a = fds[1]};
    if (rc == 0)
      n_fds = 0;
  }
  hoststack__attach__reply__free_unpacked(r, NULL);
  broker_close_fds(fds, &n_fds);
  return rc;
}

void broker_take(struct broker *b, struct broker *from) {
  broker_hangup(b);
  b->fd = from->fd;
  b->bell = from->bell;
  b->doorbell = from->doorbell;
  b->seq = from->seq;
  b->app_timeout_ms = from->app_timeout_ms;
  b->app_id = from->app_id;
  b->proc_id = from->proc_id;
  memcpy(b->token, from->token, sizeof b->token);
  memcpy(b->parent, from->parent, sizeof b->parent);
  b->have_token = from->have_token;
  b->have_parent = from->have_parent;
  from->fd = from->bell = from->doorbell = -1;
}

void broker_remove_worker(struct broker *b, uint64_t worker_id) {
  Hoststack__Attach__RemoveWorker remove_rq = HOSTSTACK__ATTACH__REMOVE_WORKER__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  remove_rq.worker_id = worker_id;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_REMOVE_WORKER;
  rq.remove_worker = &remove_rq;
  if (b->fd >= 0) /* away: the bell's end tells it */
    (void)broker_simple(b, &rq, clock_now_us() + BROKER_UNBIND_US, 1);
}

/** Endpoint of a reply into *ep. 0 or -EPROTO. */
static int broker_endpoint(const Hoststack__Attach__Endpoint *in, struct abi_endpoint *ep) {
  if (in == NULL || in->port > 65535 || (in->ip.len != 16 && in->ip.len != 0) || (in->family != 4 && in->family != 6))
    return -EPROTO;
  memset(ep, 0, sizeof *ep);
  if (in->ip.len == 16)
    memcpy(ep->ip, in->ip.data, 16);
  ep->port = be16_from((uint16_t)in->port);
  ep->family = (uint8_t)in->family;
  ep->scope = in->scope;
  return 0;
}

int broker_bind(struct broker *b, const struct broker_slot *s, const struct abi_request *want, struct abi_endpoint *ep,
                int nowait) {
  Hoststack__Attach__Endpoint local = HOSTSTACK__ATTACH__ENDPOINT__INIT;
  Hoststack__Attach__Bind bind_rq = HOSTSTACK__ATTACH__BIND__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  local.ip = (ProtobufCBinaryData){.len = 16, .data = ep->ip};
  local.port = be16_get(ep->port);
  local.family = ep->family;
  local.scope = ep->scope;
  bind_rq.worker_id = s->worker_id;
  bind_rq.slot = s->slot;
  bind_rq.gen = s->gen;
  bind_rq.proto = want->proto;
  bind_rq.local = &local;
  bind_rq.reuseaddr = (want->reuse & 1) != 0;
  bind_rq.reuseport = (want->reuse & 2) != 0;
  bind_rq.v6only = want->v6only != 0;
  bind_rq.app_share = (want->reuse & BROKER_APP_SHARE) != 0;
  bind_rq.proxy = (want->proto == VPPCOM_PROTO_UDP ? b->cfg->proxy_udp : b->cfg->proxy_tcp) != 0;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_BIND;
  rq.bind = &bind_rq;
  int rc = broker_call(b, &rq, &r, fds, &n_fds, broker_deadline(b), nowait);
  if (rc < 0)
    return rc;
  struct abi_endpoint got = *ep;
  rc = r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_BIND ? broker_endpoint(r->bind->local, &got) : -EPROTO;
  if (rc == 0)
    *ep = got;
  hoststack__attach__reply__free_unpacked(r, NULL);
  broker_close_fds(fds, &n_fds);
  return rc;
}

int broker_listen(struct broker *b, const struct broker_slot *s, uint32_t backlog, uint32_t share_of, uint32_t *id,
                  int nowait) {
  Hoststack__Attach__Listen listen_rq = HOSTSTACK__ATTACH__LISTEN__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  listen_rq.worker_id = s->worker_id;
  listen_rq.slot = s->slot;
  listen_rq.gen = s->gen;
  listen_rq.backlog = backlog;
  listen_rq.share_of = share_of;
  listen_rq.no_cut = b->cfg->scope_local == 0;
  listen_rq.no_global = b->cfg->scope_global == 0;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN;
  rq.listen = &listen_rq;
  int rc = broker_call(b, &rq, &r, fds, &n_fds, broker_deadline(b), nowait);
  if (rc < 0)
    return rc;
  if (r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_BIND)
    *id = r->bind->listener_id;
  else
    rc = -EPROTO;
  hoststack__attach__reply__free_unpacked(r, NULL);
  broker_close_fds(fds, &n_fds);
  return rc;
}

int broker_unbind(struct broker *b, const struct broker_slot *s) {
  Hoststack__Attach__Unbind unbind_rq = HOSTSTACK__ATTACH__UNBIND__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  unbind_rq.worker_id = s->worker_id;
  unbind_rq.slot = s->slot;
  unbind_rq.gen = s->gen;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_UNBIND;
  rq.unbind = &unbind_rq;
  return broker_simple(b, &rq, clock_now_us() + BROKER_UNBIND_US, 1);
}

/** A request that PairReply answers. */
static int broker_pair_call(struct broker *b, broker_request *rq, usec_t deadline, struct broker_pair *out) {
  broker_reply *r = NULL;
  int n_fds = 0;
  memset(out, 0, sizeof *out);
  int rc = broker_call(b, rq, &r, out->fds, &n_fds, deadline, 1);
  if (rc < 0)
    return rc;
  if (r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_PAIR && (n_fds == 0 || (n_fds == 3 && r->pair->pair_id != 0))) {
    const Hoststack__Attach__PairReply *p = r->pair;
    out->id = p->pair_id;
    out->listener_id = p->listener_id;
    out->slot = p->slot;
    out->backlog = p->backlog;
    out->shares = p->shares;
    out->port_lo = p->port_lo;
    out->port_hi = p->port_hi;
    out->own_address = p->own_address;
    for (size_t i = 0; i < p->n_own && out->n_own < BROKER_OWN_MAX; i++)
      if (p->own[i].len == sizeof out->own[0])
        memcpy(out->own[out->n_own++], p->own[i].data, sizeof out->own[0]);
    out->n_fds = n_fds;
  } else {
    broker_close_fds(out->fds, &n_fds);
    rc = -EPROTO;
  }
  hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

int broker_pair(struct broker *b, uint64_t worker_id, uint8_t proto, const struct abi_endpoint *to, uint64_t *have,
                uint32_t n_have, usec_t deadline, struct broker_pair *out) {
  Hoststack__Attach__Endpoint remote = HOSTSTACK__ATTACH__ENDPOINT__INIT;
  Hoststack__Attach__Pair pair = HOSTSTACK__ATTACH__PAIR__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  remote.ip = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)(uintptr_t)to->ip};
  remote.port = be16_get(to->port);
  remote.family = to->family;
  pair.worker_id = worker_id;
  pair.proto = proto;
  pair.remote = &remote;
  pair.n_have = n_have;
  pair.have = have;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PAIR;
  rq.pair = &pair;
  return broker_pair_call(b, &rq, deadline, out);
}

int broker_pair_gone(struct broker *b, uint64_t worker_id, uint64_t pair_id, int lied) {
  Hoststack__Attach__PairGone gone = HOSTSTACK__ATTACH__PAIR_GONE__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  gone.worker_id = worker_id;
  gone.pair_id = pair_id;
  gone.lied = lied != 0;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PAIR_GONE;
  rq.pair_gone = &gone;
  return broker_simple(b, &rq, clock_now_us() + BROKER_UNBIND_US, 1);
}
