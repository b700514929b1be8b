/*
 * Branches: cut-through for datagrams (vcl_branch.h).
 *
 * Called by dgram.c (connect, send, receive), peers.c, ready.c (events), session.c (close), cut_sess.c and cut_pair.c
 * (offers, hints, death), rejoin.c and fork.c, on the worker's thread or under its mutex. A branch's fifos hold
 * datagrams as those of its lead do (abi/dgram.h); each header that the other app wrote is copied once and checked, its
 * addresses are not even looked at. A slot's life is that of a connection (cut_sess.c), with other wants: SHUT_RD and
 * SHUT_WR together say "I have left": nothing more is sent here, what is unread is read still, the other side leaves,
 * too. Who has left and read all says CLOSE. A datagram that finds no room is dropped, as a receive buffer drops it.
 * Whoever has no branch to a destination sends through the engine, which also says what became of a receiver that went
 * (ICMP).
 */
#include "vcl_branch.h"

#include "abi/dgram.h"
#include "base/bits.h"
#include "base/fault.h"
#include "vcl_app.h"
#include "vcl_roam.h"

#include <stdlib.h>
#include <sys/uio.h>

#define BRANCH_LEFT    (ABI_WANT_SHUT_WR | ABI_WANT_SHUT_RD)
#define BRANCH_TTL     64u /* of a sender that asks for none */
#define BRANCH_IFINDEX 1u  /* as Linux says of what a host sends to itself */

static int branch_same(const struct abi_endpoint *a, const uint8_t ip[16], uint16_t port) {
  return a->port.raw == port && memcmp(a->ip, ip, sizeof a->ip) == 0;
}

int branch_has_left(const struct session *b) {
  return (__atomic_load_n(&b->a->want, __ATOMIC_RELAXED) & (BRANCH_LEFT | ABI_WANT_CLOSE)) != 0;
}

/** ABI_WANT_* of the other side; its death is a close, a slot that nobody has taken yet says nothing. */
static uint32_t branch_peer(struct session *b) {
  const struct cut *c = b->cut;
  cut_sess_settle(b);
  if (b->home->detached)
    return ABI_WANT_CLOSE;
  if (c->client && !c->accepted)
    return 0;
  uint32_t want = __atomic_load_n(&c->peer->want, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) == b->gen ? want : ABI_WANT_CLOSE;
}

/** Bytes to read, or < 0. */
static int64_t branch_used(struct session *b) {
  session_lock(b);
  int64_t used = fifo_cons_used(&b->rx);
  session_unlock(b);
  return used;
}

static void branch_unlink(struct session *b) {
  list_del(&b->offers);
  list_del(&b->branches);
  b->lead = NULL;
}

/** Our side lets go. The slot stays until the other one does. */
static void branch_end(struct session *b) {
  branch_unlink(b);
  stage_set(b, SESSION_ZOMBIE);
  session_want(b, BRANCH_LEFT | ABI_WANT_CLOSE);
  session_touch(b); /* buried if it is over */
}

void branch_leave(struct session *b) {
  if (!branch_has_left(b))
    session_want(b, BRANCH_LEFT);
}

/** Left on both sides, and all is read: it ends. 1 = it did. */
static int branch_done(struct session *b) {
  if (!branch_has_left(b) || (branch_peer(b) & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) == 0 || branch_used(b) != 0)
    return 0; /* the other side's last word is looked at before its fifo */
  branch_end(b);
  return 1;
}

void branch_free(struct session *b) {
  branch_unlink(b);
  session_free(b);
}

void branch_drop_all(struct session *s) {
  struct list *link;
  while ((link = list_first(&s->branches)) != NULL)
    branch_end(list_entry(link, struct session, branches));
}

/* --- made and taken --- */

void branch_arm_slow(struct session *s) {
  if (!session_is_dgram(s) || s->life != SESSION_OPEN || s->shared || s->home != s->w->home || cut_ready(s->w) < 0)
    return;
  s->armed_offer = 1;
  __atomic_store_n(&s->a->listen_armed, 1u, __ATOMIC_RELEASE);
}

/** Of the sessions that share a port: which datagrams from `from` to `to` are for, by the rule of the engine. */
static int branch_fits(const struct session *s, const struct abi_endpoint *from, const struct abi_endpoint *to) {
  static const uint8_t any[16], any4[16] = {[10] = 0xff, [11] = 0xff};
  if (!session_is_dgram(s) || s->life != SESSION_OPEN || !s->bound || s->accepts || s->broken != 0 ||
      s->home != s->w->home || s->shared || s->local.port.raw != to->port.raw)
    return 0;
  int four = memcmp(to->ip, any4, 12) == 0;
  int wild6 = memcmp(s->local.ip, any, 16) == 0 && s->local.family != 4 && !(four && s->v6only);
  int wild4 = four && s->local.family == 4 && (memcmp(s->local.ip, any4, 16) == 0 || memcmp(s->local.ip, any, 16) == 0);
  if (!wild6 && !wild4 && memcmp(s->local.ip, to->ip, 16) != 0)
    return 0;
  if (!s->connected)
    return 1;
  struct abi_endpoint peer = s->e->remote;
  return branch_same(&peer, from->ip, from->port.raw) ? 2 : 0;
}

struct session *branch_goal(struct worker *w, const struct abi_request *rq, uint32_t slot) {
  struct home *h = w->home;
  if (h == NULL || h->detached || slot >= h->n_slots_app || h->owner[slot] == HOME_NO_OWNER)
    return NULL;
  if (memcmp(rq->local.ip, rq->remote.ip, 16) != 0 || be16_get(rq->local.port) == 0)
    return NULL; /* an address that its stack does not have */
  struct session *s = pool_ref(&w->sessions, h->owner[slot] - 1);
  int fit = branch_fits(s, &rq->local, &rq->remote);
  if (!session_is_dgram(s) || s->reuse == 0 || fit == 2)
    return fit != 0 ? s : NULL;
  struct session *best = fit != 0 ? s : NULL;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *o = pool_ref(&w->sessions, i);
    if (o->home == h && branch_fits(o, &rq->local, &rq->remote) == 2)
      best = o; /* it is the one that is connected to just that sender */
  }
  return best;
}

/** Becomes what it is, with its fifos. */
static void branch_begin(struct session *lead, struct session *b) {
  b->kind = SESSION_BRANCH;
  b->proto = VPPCOM_PROTO_UDP;
  stage_set(b, SESSION_OPEN);
  b->lead = lead;
  list_del(&b->offers); /* links here, not heads */
  list_del(&b->branches);
  session_open_fifos(b);
  fifo_prod_size_set(&b->tx, CUT_TX_LIMIT);
  /* What came through the engine is older, and read first; unless this one was left meanwhile. */
  int64_t older = branch_peer(b) == 0 ? branch_used(lead) : 0;
  b->cut->behind = older > 0;
  b->cut->after = lead->rx.head + (uint32_t)(older > 0 ? older : 0);
  list_add_head(&lead->branches, &b->branches);
}

/** The same sender's datagrams were for another session of this port until now: they go on through the engine, which
 * knows the new one. */
static void branch_take_over(struct session *s) {
  const struct abi_endpoint peer = s->e->remote;
  if (s->reuse == 0)
    return;
  for (uint32_t i = pool_next(&s->w->sessions, 0); i != POOL_NONE; i = pool_next(&s->w->sessions, i + 1)) {
    struct session *b = pool_ref(&s->w->sessions, i);
    if (b->kind == SESSION_BRANCH && b->lead != NULL && b->lead != s && !b->cut->client &&
        branch_same(&b->cut->mirror.remote, peer.ip, peer.port.raw) &&
        b->cut->mirror.local.port.raw == s->e->local.port.raw)
      branch_leave(b);
  }
}

void branch_take(struct session *lead, struct session *b) {
  home_slot_clear(b->a);
  branch_begin(lead, b);
  __atomic_store_n(&b->a->gen, b->gen, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.branch_take");
  __atomic_store_n(&b->a->accepted, b->gen, __ATOMIC_RELEASE);
  branch_touch(b);
}

/** A slot of the pair, and the request: req → accepted → op → hint. */
struct session *branch_place(struct session *s, struct cut_grant *g, const struct abi_endpoint *local,
                             const struct abi_endpoint *remote) {
  struct home *h = &g->pair->home;
  int64_t slot = home_slot_get(h);
  if (slot < 0)
    return NULL; /* through the engine */
  struct abi_sess_app *a = worker_view_app(&h->view, (uint32_t)slot);
  struct session *b = session_new_offer(s->w, h, (uint32_t)slot, a->gen);
  if (b == NULL) {
    home_slot_put(h, (uint32_t)slot);
    return NULL;
  }
  if (cut_sess_attach(b, g->pair, local, remote) < 0) {
    home_slot_put(h, (uint32_t)slot);
    session_free(b);
    return NULL;
  }
  branch_begin(s, b);
  a->req.id = g->listener_id;
  a->req.proto = VPPCOM_PROTO_UDP;
  a->pair_slot = g->slot;
  a->req.local = *local;
  a->req.remote = *remote;
  a->accepted = b->gen;
  FAULT_POINT("vcl.branch");
  __atomic_store_n(&a->op, (uint32_t)ABI_OP_CONNECT, __ATOMIC_RELEASE);
  session_hint(b);
  return b;
}

/** What stays of the branches of a session that connected: the one to its peer. 1 = there is one. */
static int branch_sift(struct session *s, const struct abi_endpoint *peer) {
  struct list *pos, *tmp;
  int have = 0;
  list_for_each_safe(pos, tmp, &s->branches) {
    struct session *b = list_entry(pos, struct session, branches);
    int same = s->connected && branch_same(&b->cut->mirror.remote, peer->ip, peer->port.raw);
    if (!same && (s->connected || b->cut->client))
      branch_leave(b);
    have |= same && !branch_has_left(b);
  }
  return have;
}

void branch_connected(struct session *s) {
  struct worker *w = s->w;
  struct abi_endpoint local = s->e->local, remote = s->e->remote;
  if (s->life != SESSION_OPEN || s->broken != 0 || branch_sift(s, &remote) || !s->connected)
    return;
  branch_take_over(s);
  if (s->home != w->home || s->home->detached || s->shared || local.port.raw == 0 || remote.port.raw == 0 ||
      memcmp(local.ip, remote.ip, sizeof local.ip) != 0 || cut_ready(w) < 0)
    return; /* sender and receiver have one address, or they are not on one stack */
  struct cut_grant *g = cut_dest_grant_for(s, &remote);
  if (g != NULL)
    (void)branch_place(s, g, &local, &remote);
}

/* --- the way back --- */

/** Datagrams that nobody has looked at go through the engine. */
static void branch_resend(struct session *b) {
  struct session *s = b->lead;
  struct worker_view *v = &b->home->view;
  struct abi_dgram d;
  struct fifo_cons mine;
  uint32_t zero = 0;
  uint8_t *buf = malloc(ABI_DGRAM_MAX);
  if (buf == NULL)
    return;
  fifo_cons_init(&mine, &b->a->tx, b->a->tx_chunk, &zero, v->seg_a.base, v->ga.arena_off, v->ga.arena_size,
                 ABI_FIFO_MAX);
  while (fifo_cons_used(&mine) >= (int64_t)sizeof d && fifo_cons_read(&mine, &d, sizeof d) == (int64_t)sizeof d &&
         d.len <= ABI_DGRAM_MAX && fifo_cons_read(&mine, buf, d.len) == (int64_t)d.len) {
    struct iovec iov = {.iov_base = buf, .iov_len = d.len};
    dgram_again(s, &d, &iov);
  }
  free(buf);
}

/** The other side never took it. */
static void branch_back(struct session *b) {
  if (!branch_has_left(b) && b->lead != NULL && !b->lead->connected)
    cut_dest_quiet(b);
  if (!branch_has_left(b) && b->lead != NULL)
    branch_resend(b);
  branch_end(b);
}

void branch_dead(struct session *b, int lied) {
  if (b->life == SESSION_ZOMBIE)
    session_touch(b);
  else if (lied)
    branch_end(b);
  else if (b->cut->client && !b->cut->accepted)
    branch_back(b);
  else
    branch_touch(b);
}

/* --- receive --- */

void branch_touch(struct session *b) {
  struct session *s = b->lead;
  if (b->life == SESSION_ZOMBIE) {
    session_touch(b);
    return;
  }
  if (cut_sess_refused(b)) {
    branch_back(b);
    return;
  }
  if (branch_peer(b) != 0) {
    if (b->cut->client && !s->connected && !branch_has_left(b))
      cut_dest_quiet(b);
    branch_leave(b);
  }
  if (branch_used(b) == 0) {
    (void)branch_done(b);
    return;
  }
  if (!list_linked(&b->offers))
    list_add_tail(&s->offers, &b->offers);
  session_touch(s);
}

/** The lead's own fifo holds what came before the branch began. */
static int branch_behind(const struct session *s, struct session *b) {
  b->cut->behind = b->cut->behind && (int32_t)(s->rx.head - b->cut->after) < 0;
  return b->cut->behind;
}

/** The first branch that something can be read of; empty ones leave the list. */
static struct session *branch_first(struct session *s) {
  struct list *pos, *tmp;
  list_for_each_safe(pos, tmp, &s->offers) {
    struct session *b = list_entry(pos, struct session, offers);
    if (branch_used(b) != 0) {
      if (branch_behind(s, b))
        continue;
      return b; /* < 0: a lie, which whoever reads it finds */
    }
    list_del(pos);
    (void)branch_done(b);
  }
  return NULL;
}

int branch_pending_slow(struct session *s) {
  return branch_first(s) != NULL;
}

struct session *branch_source_slow(struct session *s) {
  struct session *b = branch_first(s);
  if (b != NULL && branch_peer(b) != 0)
    return b; /* the other side goes on through the engine, if at all: this is older */
  return b == NULL || (s->own_next && branch_used(s) != 0) ? s : b;
}

void branch_turn(struct session *s, struct session *from, int took) {
  s->own_next = took ? from != s : from == s; /* what was looked at is what comes next */
  if (from == s || !took)
    return;
  list_del(&from->branches); /* an answer finds it first */
  list_add_head(&s->branches, &from->branches);
  if (!list_linked(&from->offers))
    return;
  list_del(&from->offers);
  list_add_tail(&s->offers, &from->offers);
}

void branch_names(const struct session *b, struct abi_dgram *d) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  const struct abi_sess_engine *m = &b->cut->mirror;
  memcpy(d->ip, m->remote.ip, sizeof d->ip);
  memcpy(d->local, m->local.ip, sizeof d->local);
  d->port = m->remote.port;
  d->family = memcmp(d->ip, mapped, sizeof mapped) == 0 ? 4 : 6;
  d->ifindex = BRANCH_IFINDEX;
}

void branch_lied(struct session *b) {
  if (b->home->detached)
    branch_end(b); /* the lie was found after its death */
  else
    cut_pair_dead(b->cut->pair, 1);
}

/* --- send --- */

/** The branch to where d goes, if there is one that may be used. */
static struct session *branch_to(struct session *s, const struct abi_dgram *d) {
  static const uint8_t none[16];
  struct abi_endpoint to = s->e->remote;
  struct list *pos;
  if (d->family != 0) {
    memcpy(to.ip, d->ip, sizeof to.ip);
    to.port = d->port;
  }
  int wished = memcmp(d->local, none, sizeof none) != 0;
  list_for_each(pos, &s->branches) {
    struct session *b = list_entry(pos, struct session, branches);
    if (branch_same(&b->cut->mirror.remote, to.ip, to.port.raw) && !branch_has_left(b) &&
        (!wished || memcmp(b->cut->mirror.local.ip, d->local, sizeof d->local) == 0))
      return b;
  }
  return NULL;
}

/** Copies `len` bytes from position `from` of the vector to tail + at. 0, or < 0 when it could not be done. */
static int branch_bytes(struct session *b, uint32_t at, const struct iovec *iov, int n, size_t from, uint32_t len) {
  for (int i = 0; i < n && len != 0; i++) {
    if (from >= iov[i].iov_len) {
      from -= iov[i].iov_len;
      continue;
    }
    uint32_t part = (uint32_t)HS_MIN(iov[i].iov_len - from, (size_t)len);
    if (fifo_prod_place(&b->tx, at, (const uint8_t *)iov[i].iov_base + from, part) != (int64_t)part)
      return -EAGAIN;
    at += part;
    len -= part;
    from = 0;
  }
  return 0;
}

/** Places it, cut into pieces if it is to be, and publishes all at once. 0, -EAGAIN: dropped, -EPROTO: the other side's
 * head makes no sense. Under session_lock. */
static int branch_put(struct session *b, const struct abi_dgram *d, const struct iovec *iov, int n) {
  uint32_t seg = d->seg != 0 && d->len != 0 ? d->seg : HS_MAX(d->len, 1u);
  uint32_t pieces = d->len != 0 ? (d->len + seg - 1) / seg : 1, at = 0, done = 0;
  int64_t room = fifo_prod_room(&b->tx);
  if (room < 0)
    return -EPROTO;
  if (room < (int64_t)(d->len + pieces * (uint32_t)sizeof *d))
    return -EAGAIN;
  for (uint32_t i = 0; i < pieces; i++) {
    struct abi_dgram piece = *d;
    piece.seg = 0;
    piece.len = HS_MIN(seg, d->len - done);
    if (fifo_prod_place(&b->tx, at, &piece, sizeof piece) != (int64_t)sizeof piece ||
        branch_bytes(b, at + (uint32_t)sizeof piece, iov, n, done, piece.len) < 0)
      return -EAGAIN; /* the arena is short: nothing was published */
    at += (uint32_t)sizeof piece + piece.len;
    done += piece.len;
  }
  FAULT_POINT("vcl.branch_put");
  held_note(b);
  fifo_prod_publish(&b->tx, at);
  return 0;
}

/** It found no room: counted at the receiver's row of ShowSession, and at this worker in ShowApp. */
static void branch_lost(struct session *b) {
  __atomic_store_n(&b->a->tx_urg, b->a->tx_urg + 1, __ATOMIC_RELAXED);
  worker_count_lost(b->w);
}

int branch_roams(const struct session *s, const struct abi_dgram *d) {
  return d->family != 0 && !s->connected;
}

int branch_send_slow(struct session *s, const struct abi_dgram *d, const struct iovec *iov, int n) {
  struct abi_dgram as_sent = *d;
  (void)cut_pump(s->w); /* who sends without ever receiving finds out here that the other side is gone */
  struct session *b = branch_to(s, d);
  if (branch_roams(s, d))
    b = roam_over(s, d, b);
  if (b == NULL)
    return -ENOENT;
  if (cut_sess_refused(b) || branch_peer(b) != 0) {
    branch_touch(b);
    return -ENOENT;
  }
  if (as_sent.ttl == 0)
    as_sent.ttl = s->opt.ttl != 0 ? s->opt.ttl : (uint8_t)BRANCH_TTL;
  session_lock(b);
  int rc = branch_put(b, &as_sent, iov, n);
  session_unlock(b);
  if (rc == -EPROTO) {
    branch_lied(b);
    return -ENOENT;
  }
  if (rc == 0)
    session_hint(b);
  else
    branch_lost(b);
  return (int)d->len;
}

/* --- fork --- */

void branch_fork_prepare(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_BRANCH && s->life != SESSION_ZOMBIE)
      branch_leave(s);
    if (!session_is_dgram(s) || s->life != SESSION_OPEN)
      continue;
    s->shared = 1;
    s->armed_offer = 0;
    __atomic_store_n(&s->a->listen_armed, 0u, __ATOMIC_RELEASE);
  }
}

void branch_fork_child(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_BRANCH)
      branch_free(s);
  }
}
