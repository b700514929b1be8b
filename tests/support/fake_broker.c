/*
 * The broker's half of the fake: the attach conversation, ports and listeners (fake_engine.h).
 *
 * Called by the fake's thread with its lock held.
 */
#include "fake_engine.h"

#include "attach.pb-c.h"
#include "base/rng.h"
#include "ctl/attach.h"
#include "shm/bell.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

typedef Hoststack__Attach__Request request;
typedef Hoststack__Attach__Reply reply;

void fake_broker_accept(struct fake *f) {
  int fd = attach_accept(f->listen_fd);
  if (fd < 0)
    return;
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct fake_proc *p = &f->proc[i];
    if (p->used)
      continue;
    *p = (struct fake_proc){.used = 1, .live = 1, .fd = fd, .bell = -1, .bell_app = -1, .doorbell = -1};
    return;
  }
  close(fd);
}

static void broker_answer(struct fake *f, struct fake_proc *p, const request *rq, reply *r, const int *fds, int n) {
  uint8_t buf[4096];
  (void)f;
  r->seq = rq->seq;
  size_t len = hoststack__attach__reply__pack(r, buf);
  (void)attach_send(p->fd, buf, len, fds, n);
}

static int broker_knows(const struct fake *f, const uint8_t *token) {
  for (int i = 0; i < FAKE_PROCS; i++)
    if (f->proc[i].used && memcmp(f->proc[i].token, token, 16) == 0)
      return 1;
  return 0;
}

static int broker_hello(struct fake *f, struct fake_proc *p, const request *rq) {
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  Hoststack__Attach__HelloReply h = HOSTSTACK__ATTACH__HELLO_REPLY__INIT;
  f->n_hello++;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_HELLO;
  r.hello = &h;
  h.app_id = 1;
  h.app_timeout_ms = f->app_timeout_ms;
  if (rq->hello->token.len == 16) { /* comes back: its record is taken over */
    for (int i = 0; i < FAKE_PROCS; i++) {
      struct fake_proc *o = &f->proc[i];
      if (o == p || !o->used || o->live || memcmp(o->token, rq->hello->token.data, 16) != 0)
        continue;
      o->fd = p->fd;
      o->live = 1;
      p->used = 0;
      h.proc_id = (uint64_t)i + 1;
      h.token = rq->hello->token;
      broker_answer(f, o, rq, &r, NULL, 0);
      return 0;
    }
    r.rc = ESTALE;
    broker_answer(f, p, rq, &r, NULL, 0);
    return 0;
  }
  if (rq->hello->parent_token.len == 16 && !broker_knows(f, rq->hello->parent_token.data)) {
    r.rc = ESTALE;
    broker_answer(f, p, rq, &r, NULL, 0);
    return 0;
  }
  int pair[2];
  if (bell_pair(pair) < 0)
    return -EIO;
  if (rng_secure(p->token, sizeof p->token) < 0)
    return -EIO;
  p->have_parent = rq->hello->parent_token.len == 16;
  p->bell = pair[0];
  p->doorbell = bell_doorbell();
  h.proc_id = (uint64_t)(p - f->proc) + 1;
  h.token = (ProtobufCBinaryData){.len = 16, .data = p->token};
  int fds[2] = {pair[1], p->doorbell};
  broker_answer(f, p, rq, &r, fds, 2);
  close(pair[1]);
  return 0;
}

static void broker_add_worker(struct fake *f, struct fake_proc *p, const request *rq) {
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  Hoststack__Attach__AddWorkerReply a = HOSTSTACK__ATTACH__ADD_WORKER_REPLY__INIT;
  int fds[2];
  f->n_add_worker++;
  struct fake_worker *w = fake_worker_new(f, (int)(p - f->proc), fds);
  if (w == NULL) {
    r.rc = ENOMEM;
    broker_answer(f, p, rq, &r, NULL, 0);
    return;
  }
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_ADD_WORKER;
  r.add_worker = &a;
  a.worker_id = w->id;
  broker_answer(f, p, rq, &r, fds, 2);
  close(fds[0]);
  close(fds[1]);
}

static struct fake_worker *broker_worker(struct fake *f, uint64_t id) {
  for (int i = 0; i < FAKE_PROCS; i++)
    if (f->worker[i].used && f->worker[i].id == id)
      return &f->worker[i];
  return NULL;
}

static struct fake_listener *broker_find(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  for (int i = 0; i < FAKE_LISTENERS; i++) {
    struct fake_listener *l = &f->listener[i];
    if (l->used && l->w == w && l->slot == slot && l->gen == gen)
      return l;
  }
  return NULL;
}

static struct fake_listener *broker_new(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  for (int i = 0; i < FAKE_LISTENERS; i++) {
    struct fake_listener *l = &f->listener[i];
    if (l->used)
      continue;
    *l = (struct fake_listener){.used = 1, .w = w, .slot = slot, .gen = gen};
    return l;
  }
  return NULL;
}

static int broker_port_taken(struct fake *f, const struct fake_worker *w, uint16_t port,
                             const Hoststack__Attach__Bind *b) {
  for (int i = 0; i < FAKE_LISTENERS; i++) {
    const struct fake_listener *l = &f->listener[i];
    if (l->used && l->port == port && !(l->reuse && b->reuseport) && !(l->app_share && b->app_share && l->w != w))
      return 1;
  }
  return 0;
}

static void broker_bind(struct fake *f, struct fake_proc *p, const request *rq) {
  const Hoststack__Attach__Bind *b = rq->bind;
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  Hoststack__Attach__BindReply br = HOSTSTACK__ATTACH__BIND_REPLY__INIT;
  Hoststack__Attach__Endpoint ep = HOSTSTACK__ATTACH__ENDPOINT__INIT;
  struct fake_worker *w = broker_worker(f, b->worker_id);
  f->n_bind++;
  uint16_t port = (uint16_t)b->local->port;
  while (port == 0 || broker_port_taken(f, w, port, b)) {
    if (b->local->port != 0) {
      r.rc = EADDRINUSE;
      break;
    }
    port = f->next_port++;
  }
  struct fake_listener *l = r.rc == 0 && w != NULL ? broker_new(f, w, b->slot, b->gen) : NULL;
  if (l != NULL) {
    l->port = port;
    l->reuse = b->reuseport != 0;
    l->proto = b->proto;
    l->listening = b->proto == 1;
    l->app_share = b->app_share != 0;
    l->id = (uint32_t)f->next_id++;
    r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_BIND;
    r.bind = &br;
    br.local = &ep;
    ep.ip = b->local->ip;
    ep.family = b->local->family;
    ep.port = port;
  } else if (r.rc == 0) {
    r.rc = EINVAL;
  }
  if (f->mute_bind > 0)
    f->mute_bind--;
  else
    broker_answer(f, p, rq, &r, NULL, 0);
}

static void broker_listen(struct fake *f, struct fake_proc *p, const request *rq) {
  const Hoststack__Attach__Listen *q = rq->listen;
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  Hoststack__Attach__BindReply br = HOSTSTACK__ATTACH__BIND_REPLY__INIT;
  struct fake_worker *w = broker_worker(f, q->worker_id);
  struct fake_listener *l = w != NULL ? broker_find(f, w, q->slot, q->gen) : NULL;
  f->n_listen++;
  for (int i = 0; i < FAKE_LISTENERS && l == NULL && w != NULL && q->share_of != 0; i++) {
    const struct fake_listener *o = &f->listener[i];
    if (!o->used || o->id != q->share_of)
      continue;
    l = broker_new(f, w, q->slot, q->gen);
    if (l != NULL) {
      l->port = o->port;
      l->id = o->id;
      l->reuse = 1;
    }
  }
  if (l != NULL) {
    struct abi_sess_engine *e = worker_view_engine(&w->v, q->slot);
    l->listening = 1;
    l->backlog = q->backlog;
    __atomic_store_n(&e->state, (uint32_t)ABI_SESS_FREE, __ATOMIC_RELAXED);
    __atomic_store_n(&e->gen, q->gen, __ATOMIC_RELEASE);
    __atomic_store_n(&e->state, (uint32_t)ABI_SESS_LISTENING, __ATOMIC_RELEASE);
    r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_BIND;
    r.bind = &br;
    br.listener_id = l->id;
  } else {
    r.rc = ENOENT;
  }
  broker_answer(f, p, rq, &r, NULL, 0);
}

static void broker_unbind(struct fake *f, struct fake_proc *p, const request *rq) {
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  if (f->deaf_unbind > 0) {
    f->deaf_unbind--;
    return;
  }
  struct fake_worker *w = broker_worker(f, rq->unbind->worker_id);
  struct fake_listener *l = w != NULL ? broker_find(f, w, rq->unbind->slot, rq->unbind->gen) : NULL;
  if (l != NULL) { /* said once more, when the first answer came too late, it is none */
    f->n_unbind++;
    struct abi_sess_engine *e = worker_view_engine(&w->v, l->slot);
    int ring = 0;
    if (l->listening && e->gen == l->gen) {
      __atomic_store_n(&e->state, (uint32_t)ABI_SESS_CLOSED, __ATOMIC_RELEASE);
      (void)hint_push(&w->to_app, l->slot, &e->hint_pos, &ring);
      w->ring_due |= ring;
    }
    l->used = 0;
    fake_listener_gone(f, l);
  }
  broker_answer(f, p, rq, &r, NULL, 0);
}

/** Descriptors of one side; the second is the caller's to close. */
static void broker_pair_side(const struct fake_pair *fp, int side, int end, int fds[3]) {
  struct seg theirs = {.fd = fp->seg[!side]};
  fds[0] = fp->seg[side];
  fds[1] = seg_reopen_rdonly(&theirs);
  fds[2] = end;
}

/** A pair whose accepting side is on its way. The connecting side's end or -errno. */
static int broker_pair_new(struct fake *f, uint64_t client, const struct fake_worker *server) {
  struct abi_worker_geom g;
  uint64_t words[16];
  int bell = f->proc[server->proc].bell, end[2], fds[3];
  if (f->n_pairs == FAKE_PROCS || bell < 0)
    return -ENOSPC;
  struct fake_pair *p = &f->pair[f->n_pairs];
  *p = (struct fake_pair){.id = f->next_id++, .client = client, .server = server->id};
  for (int i = 0; i < 2; i++) {
    struct seg s;
    uint64_t size = worker_pair_geom(&g, p->id, 64, 4u << 20);
    memcpy(words, &g, sizeof words);
    if (seg_create(&s, "fake-pair", ABI_SEG_PAIR, f->next_id++, size, words) < 0)
      return -EIO;
    p->seg[i] = dup(s.fd);
    seg_detach(&s);
  }
  f->n_pairs++;
  int rc = bell_pair(end);
  if (rc < 0)
    return rc;
  broker_pair_side(p, 1, end[1], fds);
  rc = bell_ring_pair(bell, fds);
  close(fds[1]);
  close(end[1]);
  if (rc == 0)
    return end[0];
  close(end[0]);
  return rc;
}

/** Of datagrams: whether anybody waits for them there. */
static int broker_waits(const struct fake_listener *l) {
  return l->proto == 0 || __atomic_load_n(&worker_view_app(&l->w->v, l->slot)->listen_armed, __ATOMIC_ACQUIRE) == 1;
}

static void broker_pair(struct fake *f, struct fake_proc *p, const request *rq) {
  reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  Hoststack__Attach__PairReply pr = HOSTSTACK__ATTACH__PAIR_REPLY__INIT;
  const struct fake_listener *l = NULL;
  struct fake_pair *fp = NULL;
  f->n_pair_asked++;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_PAIR;
  r.pair = &pr;
  static uint8_t here[16] = {[10] = 0xff, 0xff, 10, 0, 0, 1};
  ProtobufCBinaryData own = {.len = sizeof here, .data = here};
  pr.own = &own;
  pr.n_own = 1;
  pr.own_address = 1;
  for (int i = 0; i < FAKE_LISTENERS && f->cut; i++)
    if (f->listener[i].used && f->listener[i].listening && f->listener[i].port == rq->pair->remote->port &&
        f->listener[i].proto == rq->pair->proto && broker_waits(&f->listener[i]) &&
        f->listener[i].w->id != rq->pair->worker_id)
      l = &f->listener[i];
  for (uint32_t i = 0; i < f->n_pairs && l != NULL; i++)
    if (f->pair[i].client == rq->pair->worker_id && f->pair[i].server == l->w->id)
      fp = &f->pair[i];
  int had = 0, end = -1, fds[3];
  for (size_t i = 0; i < rq->pair->n_have && fp != NULL; i++)
    had |= rq->pair->have[i] == fp->id;
  if (l != NULL && !had)
    end = broker_pair_new(f, rq->pair->worker_id, l->w);
  if (end >= 0)
    fp = &f->pair[f->n_pairs - 1];
  if (l == NULL || (!had && end < 0)) {
    broker_answer(f, p, rq, &r, NULL, 0);
    return;
  }
  pr.listener_id = l->id;
  pr.slot = l->slot;
  pr.backlog = l->backlog;
  pr.shares = 1;
  pr.port_lo = 40000;
  pr.port_hi = 50000;
  pr.pair_id = fp->id;
  if (had) {
    broker_answer(f, p, rq, &r, NULL, 0);
    return;
  }
  broker_pair_side(fp, 0, end, fds);
  broker_answer(f, p, rq, &r, fds, 3);
  close(fds[1]);
  close(end);
}

void fake_broker_drop_pairs(struct fake *f) {
  for (uint32_t i = 0; i < f->n_pairs; i++)
    for (int side = 0; side < 2; side++)
      close(f->pair[i].seg[side]);
  f->n_pairs = 0;
}

static void broker_request(struct fake *f, struct fake_proc *p, const request *rq) {
  reply ok = HOSTSTACK__ATTACH__REPLY__INIT;
  if (f->refuse != 0) {
    ok.rc = f->refuse;
    f->refuse = 0;
    broker_answer(f, p, rq, &ok, NULL, 0);
    return;
  }
  int part = -1;
  switch (fake_part_request(f, p, rq, &ok, &part)) {
  case 0:
    break;
  case 1:
    broker_answer(f, p, rq, &ok, &part, part >= 0 ? 1 : 0);
    return;
  default: /* held back */
    return;
  }
  switch (rq->body_case) {
  case HOSTSTACK__ATTACH__REQUEST__BODY_HELLO:
    (void)broker_hello(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER:
    broker_add_worker(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_BIND:
    broker_bind(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN:
    broker_listen(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_UNBIND:
    broker_unbind(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_REMOVE_WORKER: {
    struct fake_worker *w = broker_worker(f, rq->remove_worker->worker_id);
    broker_answer(f, p, rq, &ok, NULL, 0);
    if (w != NULL)
      w->dying = 1;
    return;
  }
  case HOSTSTACK__ATTACH__REQUEST__BODY_PAIR:
    broker_pair(f, p, rq);
    return;
  case HOSTSTACK__ATTACH__REQUEST__BODY_PAIR_GONE:
    f->n_pair_gone++;
    f->n_pair_lied += rq->pair_gone->lied != 0;
    broker_answer(f, p, rq, &ok, NULL, 0);
    return;
  default:                      /* WorkerMapped */
    if (f->forget_mapped > 0) { /* died before A was in a vault */
      f->forget_mapped--;
      ok.rc = ENOENT;
    }
    broker_answer(f, p, rq, &ok, NULL, 0);
    return;
  }
}

void fake_broker_deaths(struct fake *f) {
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct pollfd p = {.fd = f->proc[i].bell};
    if (!f->proc[i].used || p.fd < 0 || poll(&p, 1, 0) <= 0 || (p.revents & POLLHUP) == 0)
      continue;
    for (int k = 0; k < FAKE_PROCS; k++)
      if (f->worker[k].used && f->worker[k].proc == i)
        f->worker[k].dying = 1;
    close(p.fd);
    f->proc[i].bell = -1;
  }
}

void fake_broker_message(struct fake *f, struct fake_proc *p) {
  uint8_t buf[4096];
  int fds[ATTACH_FDS_MAX], n_fds = 0;
  ssize_t len = attach_recv(p->fd, buf, sizeof buf, fds, ATTACH_FDS_MAX, &n_fds);
  if (len == -EAGAIN || len == -EINTR)
    return;
  if (len <= 0) { /* no death yet: the bell tells that */
    close(p->fd);
    p->fd = -1;
    p->live = 0;
    if (p->bell < 0)
      p->used = 0;
    return;
  }
  request *rq = hoststack__attach__request__unpack(NULL, (size_t)len, buf);
  if (rq == NULL)
    return;
  broker_request(f, p, rq);
  hoststack__attach__request__free_unpacked(rq, NULL);
}
