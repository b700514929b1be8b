/*
 * Which connects go over a pair: endpoints that were asked for, and the grants that the broker gave (vcl_cut.h).
 *
 * Called by connect.c, branch.c and roam.c. The broker is asked once per endpoint and second at most, never waited for
 * longer than CUT_DEST_WAIT_US, and not at all while it is away: what is known then goes on. Whatever is not granted,
 * has its backlog full, or lies in a pair whose other side is gone, goes by TCP, which has the same answers for it.
 */
#include "vcl_cut.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "shm/bell.h"
#include "vcl_app.h"

#include <stdlib.h>
#include <sys/socket.h>

#define CUT_DEST_WAIT_US  (50 * CLOCK_US_PER_MS)
#define CUT_DEST_LEASE_US (1 * CLOCK_US_PER_S)    /* a grant, or "not an address of ours", is asked for again */
#define CUT_DEST_NONE_US  (50 * CLOCK_US_PER_MS)  /* our address, but nobody to connect to */
#define CUT_DEST_OWN_US   (10 * CLOCK_US_PER_S)   /* the stack's addresses */
#define CUT_DEST_ROAM_US  (20 * CLOCK_US_PER_MS)  /* longest wait in a call that sends a datagram … */
#define CUT_DEST_PACE_US  (2 * CLOCK_US_PER_MS)   /* … and time between two */
#define CUT_DEST_AWAY_US  (100 * CLOCK_US_PER_MS) /* the broker is away */

static struct cut_dest *cut_dest_of(struct cut_state *c, uint8_t proto, const struct abi_endpoint *to) {
  uint64_t a, b;
  memcpy(&a, to->ip, 8);
  memcpy(&b, to->ip + 8, 8);
  uint64_t h = (a * 31 + b + be16_get(to->port) + ((uint64_t)proto << 16)) * 0x9e3779b97f4a7c15ull;
  struct cut_dest *d = &c->dest[h >> 58];
  if (memcmp(d->to.ip, to->ip, 16) != 0 || be16_get(d->to.port) != be16_get(to->port) || d->proto != proto) {
    memset(d, 0, sizeof *d);
    d->to = *to;
    d->proto = proto;
  }
  return d;
}

void cut_dest_forget(struct cut_state *c, const struct cut_grant *g) {
  if (g == NULL)
    return;
  for (uint32_t i = 0; i < CUT_DESTS; i++) {
    struct cut_dest *d = &c->dest[i];
    for (uint32_t k = 0; k < d->n;) {
      if (d->grant[k] != g) {
        k++;
        continue;
      }
      d->grant[k] = d->grant[--d->n];
      d->until = 0; /* others may have taken its place */
    }
  }
}

static struct cut_pair *cut_dest_pair(struct cut_state *c, uint64_t id) {
  struct list *pos;
  list_for_each(pos, &c->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    if (p->id == id)
      return p;
  }
  return NULL;
}

static uint32_t cut_dest_epoch(const struct cut_pair *p) {
  return __atomic_load_n(&p->home.view.partner->epoch_seen, __ATOMIC_ACQUIRE);
}

/** The pair's grant for a listener, made when it is new. */
static struct cut_grant *cut_dest_grant(struct cut_pair *p, const struct broker_pair *bp, uint32_t epoch) {
  struct list *pos;
  struct cut_grant *g = NULL;
  list_for_each(pos, &p->grants) {
    struct cut_grant *old = list_entry(pos, struct cut_grant, link);
    if (old->listener_id == bp->listener_id && old->slot == bp->slot)
      g = old;
  }
  if (g == NULL) {
    g = calloc(1, sizeof *g);
    if (g == NULL)
      return NULL;
    g->pair = p;
    g->listener_id = bp->listener_id;
    g->slot = bp->slot;
    list_add_tail(&p->grants, &g->link);
  }
  g->epoch = epoch;
  g->backlog = bp->backlog;
  p->port_lo = bp->port_lo;
  p->port_span = bp->port_hi >= bp->port_lo ? bp->port_hi - bp->port_lo + 1 : 1;
  return g;
}

/** What the broker answered about `d`. */
static void cut_dest_learn(struct worker *w, struct cut_dest *d, const struct broker_pair *bp) {
  if (bp->id == 0) {
    d->n = d->shares = 0;
    d->until = clock_now_us() + (bp->own_address ? CUT_DEST_NONE_US : CUT_DEST_LEASE_US);
    return;
  }
  struct cut_pair *p = cut_dest_pair(w->cut, bp->id);
  if (p == NULL && bp->n_fds == 3)
    p = cut_pair_new(w, bp->id, 1, bp->fds);
  struct cut_grant *g = p != NULL ? cut_dest_grant(p, bp, p->asked_epoch) : NULL;
  if (g == NULL) {
    d->until = clock_now_us() + CUT_DEST_AWAY_US;
    return;
  }
  d->shares = HS_MIN(bp->shares, CUT_SHARES);
  if (d->asked == 0)
    d->until = clock_now_us() + CUT_DEST_LEASE_US;
  for (uint32_t k = 0; k < d->n; k++)
    if (d->grant[k] == g)
      return;
  if (d->n < CUT_SHARES)
    d->grant[d->n++] = g;
}

/** … and about the stack's addresses. */
static void cut_dest_learn_own(struct cut_state *c, const struct broker_pair *bp) {
  memcpy(c->own, bp->own, sizeof c->own);
  c->n_own = bp->n_own;
  c->own_until = clock_now_us() + CUT_DEST_OWN_US;
}

int cut_dest_own(const struct worker *w, const uint8_t ip[16], usec_t now) {
  const struct cut_state *c = w->cut;
  if (c == NULL || now >= c->own_until)
    return -EAGAIN;
  for (uint32_t i = 0; i < c->n_own; i++)
    if (memcmp(c->own[i], ip, 16) == 0)
      return 1;
  return 0;
}

/** Waits for `wait` µs at the longest. */
static void cut_dest_ask(struct session *s, struct cut_dest *d, usec_t wait) {
  struct worker *w = s->w;
  struct cut_state *c = w->cut;
  struct broker_pair bp;
  uint64_t have[64];
  uint32_t n = 0;
  struct list *pos;
  usec_t now = clock_now_us();
  if (now < c->ask_after || pthread_mutex_trylock(&w->broker.lock) != 0)
    return;
  list_for_each(pos, &c->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    p->asked_epoch = p->client ? cut_dest_epoch(p) : 0;
    if (p->client && n < ARRAY_LEN(have))
      have[n++] = p->id;
  }
  int rc = broker_pair(&w->broker, w->home->worker_id, d->proto, &d->to, have, n, now + wait, &bp);
  pthread_mutex_unlock(&w->broker.lock);
  if (rc == 0) {
    cut_dest_learn_own(c, &bp);
    cut_dest_learn(w, d, &bp);
  } else
    c->ask_after = clock_now_us() + CUT_DEST_AWAY_US;
}

/** How many of our connects the listener has not accepted yet, looked at anew. */
static uint32_t cut_dest_pending(struct worker *w, const struct cut_grant *g) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->cut != NULL && s->cut->grant == g)
      cut_sess_settle(s);
  }
  return g->pending;
}

/** A grant whose pair is alive; waits for the broker for `wait` µs at the longest. NULL: by TCP. */
static struct cut_grant *cut_dest_choose(struct session *s, struct cut_dest *d, usec_t wait) {
  for (uint32_t k = 0; k < d->n;) {
    if (cut_dest_epoch(d->grant[k]->pair) == d->grant[k]->epoch)
      k++;
    else
      cut_dest_forget(s->w->cut, d->grant[k]); /* takes it out of d, and has the broker asked */
  }
  /* Of a pair that nobody has fetched yet only the broker knows whether anybody listens still. */
  int fresh =
      d->n != 0 && __atomic_load_n(&d->grant[d->turn % d->n]->pair->home.view.partner->pid, __ATOMIC_RELAXED) == 0;
  int more = d->n != 0 && d->n < d->shares && d->asked < 2 * d->shares;
  int due = clock_now_us() >= d->until;
  d->asked = due ? 0 : d->asked + (more != 0);
  if (fresh || due || more)
    cut_dest_ask(s, d, wait);
  while (d->n != 0) {
    struct cut_grant *g = d->grant[d->turn++ % d->n];
    char b;
    if (recv(g->pair->home.bell, &b, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
      cut_pair_dead(g->pair, 0); /* forgets its grants */
      continue;
    }
    return g;
  }
  return NULL;
}

/** Whether a connection of this worker, over a pair or by TCP, has both ends already. */
static int cut_dest_taken(const struct worker *w, be16_t port, const struct abi_endpoint *remote) {
  const struct pool *all = &w->sessions;
  for (uint32_t i = pool_next(all, 0); i != POOL_NONE; i = pool_next(all, i + 1)) {
    const struct session *s = pool_ref(all, i);
    if (s->kind != SESSION_STREAM || s->proto != VPPCOM_PROTO_TCP || s->a->op != ABI_OP_CONNECT)
      continue;
    uint16_t near = s->cut != NULL ? s->a->req.local.port.raw : s->bound ? s->local.port.raw : 0;
    if (near == port.raw && s->a->req.remote.port.raw == remote->port.raw &&
        memcmp(s->a->req.remote.ip, remote->ip, 16) == 0)
      return 1;
  }
  return 0;
}

/** The near end of a connection: as bound, else by the slot. 0, -EADDRINUSE: TCP finds another port. */
static int cut_dest_local(const struct session *s, struct cut_pair *p, uint32_t slot, const struct abi_endpoint *remote,
                          struct abi_endpoint *local) {
  *local = *remote;
  p->mixed |= s->bound;
  if (s->bound) {
    local->port = s->local.port;
    return 0;
  }
  local->port = be16_from((uint16_t)(p->port_lo + ((uint32_t)p->id * 4099u + slot) % p->port_span));
  return p->mixed && cut_dest_taken(s->w, local->port, remote) ? -EADDRINUSE : 0;
}

/** Moves a fresh session into a slot of the pair and publishes the connect: req → accepted → op → hint. */
static int cut_dest_place(struct session *s, struct cut_grant *g, const struct abi_endpoint *remote) {
  struct cut_pair *p = g->pair;
  struct abi_endpoint local;
  int64_t slot = home_slot_get(&p->home);
  if (slot < 0)
    return (int)slot;
  int rc = cut_dest_local(s, p, (uint32_t)slot, remote, &local);
  if (rc < 0) {
    home_slot_put(&p->home, (uint32_t)slot);
    return rc;
  }
  struct home *old = s->home;
  struct broker_slot kept = {.worker_id = old->worker_id, .slot = s->slot, .gen = s->gen};
  session_move(s, &p->home, (uint32_t)slot);
  rc = cut_sess_attach(s, p, &local, remote);
  if (rc < 0) {
    session_move(s, old, kept.slot);
    home_slot_put(&p->home, (uint32_t)slot);
    return rc;
  }
  if (s->bound)
    s->cut->kept = kept; /* until the reservation goes */
  else
    home_slot_put(old, kept.slot); /* the engine never knew it */
  s->cut->grant = g;
  g->pending++;
  s->a->rx_lowat = s->lowat;
  struct abi_request *rq = &s->a->req;
  rq->id = g->listener_id;
  s->a->pair_slot = g->slot;
  rq->local = local;
  rq->remote = *remote;
  s->a->accepted = s->gen;
  FAULT_POINT("vcl.cut_connect");
  __atomic_store_n(&s->a->op, (uint32_t)ABI_OP_CONNECT, __ATOMIC_RELEASE);
  s->domain = remote->family;
  stage_set(s, SESSION_CONNECT);
  session_hint(s);
  session_settle(s);
  return 0;
}

/** Whether the near end can be what the program wants: any, or bound to where it connects. */
static int cut_dest_near(const struct session *s, const struct abi_endpoint *remote) {
  static const uint8_t any[16], any4[16] = {[10] = 0xff, [11] = 0xff};
  if (!s->bound)
    return s->life == SESSION_NEW && s->local.family == 0;
  if (s->life != SESSION_BOUND || s->redo || be16_get(s->local.port) == 0 ||
      (s->local.family == 4 ? remote->family != 4 : remote->family != 6 && s->v6only))
    return 0;
  return memcmp(s->local.ip, any, 16) == 0 || memcmp(s->local.ip, any4, 16) == 0 ||
         memcmp(s->local.ip, remote->ip, 16) == 0;
}

struct cut_grant *cut_dest_grant_for(struct session *s, const struct abi_endpoint *remote) {
  return cut_dest_choose(s, cut_dest_of(s->w->cut, s->proto, remote), CUT_DEST_WAIT_US);
}

struct cut_grant *cut_dest_roam(struct session *s, const struct abi_endpoint *remote, usec_t now, usec_t *until) {
  struct cut_state *c = s->w->cut;
  struct cut_dest *d = cut_dest_of(c, s->proto, remote);
  if (now < d->quiet || (d->n == 0 && (now < d->until || now < c->roam_after)))
    return NULL;
  c->roam_after = now + CUT_DEST_PACE_US;
  struct cut_grant *g = cut_dest_choose(s, d, CUT_DEST_ROAM_US);
  *until = d->until;
  return g;
}

int cut_dest_holds(struct session *b, usec_t now) {
  struct cut_state *c = b->w->cut;
  struct cut_dest *d = cut_dest_of(c, b->proto, &b->cut->mirror.remote);
  if (now >= d->until) {
    if (now < c->roam_after)
      return -EAGAIN;
    c->roam_after = now + CUT_DEST_PACE_US;
    d->asked = 0;
    cut_dest_ask(b->lead, d, CUT_DEST_ROAM_US);
  }
  if (now >= d->until)
    return -EAGAIN;
  b->cut->until = d->until;
  for (uint32_t k = 0; k < d->n; k++)
    if (&d->grant[k]->pair->home == b->home && d->grant[k]->slot == b->a->pair_slot &&
        d->grant[k]->listener_id == b->a->req.id)
      return 1;
  return 0;
}

void cut_dest_quiet(struct session *b) {
  cut_dest_of(b->w->cut, b->proto, &b->cut->mirror.remote)->quiet = clock_now_us() + CUT_DEST_LEASE_US;
}

int cut_dest_connect(struct session *s, const struct abi_endpoint *remote) {
  struct worker *w = s->w;
  if (s->proto != VPPCOM_PROTO_TCP || !cut_dest_near(s, remote) || s->home != w->home || w->home->detached ||
      be16_get(remote->port) == 0 || cut_ready(w) < 0)
    return -EOPNOTSUPP;
  if (s->bound && cut_dest_taken(w, s->local.port, remote))
    return -EADDRNOTAVAIL; /* as Linux says, whichever way the other one goes */
  struct cut_dest *d = cut_dest_of(w->cut, VPPCOM_PROTO_TCP, remote);
  struct cut_grant *g = cut_dest_choose(s, d, CUT_DEST_WAIT_US);
  if (g == NULL)
    return -ENOENT;
  if (g->pending >= g->backlog && cut_dest_pending(w, g) >= g->backlog)
    return -EAGAIN; /* TCP waits for room as TCP does */
  return cut_dest_place(s, g, remote);
}
