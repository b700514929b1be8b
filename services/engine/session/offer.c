/*
 * Who gets a connection that no app has taken yet: parked handshakes, and offers whose process or listener went away.
 *
 * Worker thread. Each listener has a list of the sessions that wait at it (its backlog), the worker one of the parked
 * ones. What an app can cause is bounded: parked sessions are looked at once per turn and OFFER_BURST at most.
 *
 * Moving an offer: the bytes that came already are copied to the new record, then the TCB names it. Ranges beyond a
 * hole are forgotten (SACK reneging, RFC 2018 8). A crash between the stores leaves a TCB that names no record that
 * belongs to it: the successor resets it, as if the first process's listener had not been shared.
 */
#include "worker.h"

#include "base/fault.h"
#include "shm/fence.h"
#include "transport.h"

#include <errno.h>

#define OFFER_BURST 256u

/* NULL: its transport keeps none. */
static struct abi_tcb *offer_tcb(struct worker *w, const struct session *s) {
  return s->tcb != ABI_SEG_NONE ? &w->tcbs.tcb[s->tcb] : NULL;
}

void offer_leave(struct session *s) {
  offer_unpark(s);
  if (s->listener) {
    list_del(&s->waiting);
    list_init(&s->waiting);
    listen_count(s->listener, -1, -(int)s->half_open);
  }
  s->listener = NULL;
}

void offer_half_open(struct worker *w, struct session *s, int half) {
  if (s->half_open == half)
    return;
  s->half_open = (uint8_t)half;
  if (half) {
    w->n_half_open++;
    if (s->listener)
      listen_count(s->listener, 0, 1);
  } else {
    w->n_half_open--;
    if (s->listener)
      listen_count(s->listener, 0, -1);
  }
}

void offer_wait(struct worker *w, struct session *s, struct listener *l) {
  struct abi_tcb *d = offer_tcb(w, s);
  if (s->listener == l)
    return;
  if (s->listener) {
    list_del(&s->waiting);
    listen_count(s->listener, -1, -(int)s->half_open);
  }
  list_add_tail(&l->waiting, &s->waiting);
  listen_count(l, 1, s->half_open);
  s->listener = l;
  if (!d)
    return;
  d->listener_slot = l->entry.slot;
  d->listener_gen = l->entry.slot_gen;
  FAULT_POINT("session.listener"); /* names no listener: adoption asks who listens at the address */
  d->listener_worker = l->entry.worker_id;
}

void offer_park(struct worker *w, struct session *s) {
  if (list_empty(&s->parked))
    list_add_tail(&w->parked, &s->parked);
}

void offer_unpark(struct session *s) {
  list_del(&s->parked);
  list_init(&s->parked);
}

uint32_t offer_due(struct worker *w) {
  struct list todo, tried;
  uint32_t n = 0;
  if (!w->offers_due)
    return 0;
  w->offers_due = 0;
  list_init(&todo);
  list_init(&tried);
  list_splice_tail(&todo, &w->parked);
  list_init(&w->parked);
  for (; n < OFFER_BURST && !list_empty(&todo); n++) {
    struct session *s = container_of(todo.next, struct session, parked);
    list_del(&s->parked);
    list_add_tail(&tried, &s->parked);
    if (s->ops && s->listener && listen_share(w, s->listener, s->flow_hash))
      s->ops->accept_ready(w, s, w->now);
  }
  w->offers_due = !list_empty(&todo);
  list_splice_tail(&todo, &tried); /* those that were not tried come first next time */
  list_splice_tail(&w->parked, &todo);
  return n;
}

/* What lies in the old rx fifo, into the new record's. 0 or -ENOBUFS. */
static int offer_copy(struct session *s, const struct app_worker *from, struct abi_sess_engine *e) {
  struct fifo_cons old;
  struct fifo_piece pc[ABI_FIFO_CHUNKS];
  uint32_t head = 0, got = 0, at = 0, tail = e->rx.tail;
  if (tail == 0)
    return 0;
  fifo_cons_init(&old, &e->rx, e->rx_chunk, &head, from->v.seg_e.base, from->v.ge.arena_off, from->v.ge.arena_size,
                 ABI_FIFO_MAX);
  (void)fifo_cons_used(&old);
  int n = fifo_cons_pieces(&old, 0, tail, pc, (int)ABI_FIFO_CHUNKS, &got);
  for (int i = 0; i < n; i++) {
    if (fifo_prod_place(&s->rx, at, pc[i].p, pc[i].len) != (int64_t)pc[i].len)
      return -ENOBUFS;
    at += pc[i].len;
  }
  if (at != tail)
    return -ENOBUFS;
  fifo_prod_publish(&s->rx, tail);
  return 0;
}

/* The words of a record that is offered. */
static void offer_words(struct worker *w, struct session *s, const struct listener *l) {
  struct abi_tcb *d = offer_tcb(w, s);
  s->e->local = d->local;
  s->e->remote = d->remote;
  s->e->listener = l->entry.slot;
  s->e->listener_gen = l->entry.slot_gen;
  s->e->tcb = s->tcb;
  __atomic_store_n(&s->e->gen, s->gen, __ATOMIC_RELEASE);
  if (d->fin & ABI_TCB_FIN_RCVD) {
    s->e->fin_pos = s->rx.tail;
    s->e->flags |= ABI_SE_PEER_FIN;
  }
}

/* To a slot of the process of `l`. 0; or -errno, and nothing has changed: so without a TCB, which the move is recorded
 * in. */
static int offer_move(struct worker *w, struct session *s, struct listener *l) {
  struct app_worker *to = worker_app(w, l->entry.worker_id), *from = s->app;
  struct abi_tcb *d = offer_tcb(w, s);
  uint32_t slot = d && to && to->life == APP_LIVE ? app_slot_get(to) : APP_NO_SLOT;
  if (slot == APP_NO_SLOT)
    return -ENOBUFS;
  struct session was = *s;
  uint32_t gen = worker_view_engine(&to->v, slot)->gen + 1;
  int rc = session_bind_record(w, s, to, slot, gen ? gen : 1, 0);
  if (rc == 0)
    rc = offer_copy(s, from, was.e);
  if (rc) {
    if (s->app == to)
      session_unbind_record(w, s, 0);
    app_slot_put(to, slot);
    s->app = from;
    s->e = was.e;
    s->a = was.a;
    s->slot = was.slot;
    s->gen = was.gen;
    s->rx = was.rx;
    s->tx = was.tx;
    s->believed = was.believed;
    return rc;
  }
  offer_words(w, s, l);
  memset(d->ooo, 0, sizeof d->ooo);
  session_set_state(s, ABI_SESS_OFFERED);
  FAULT_POINT(
      "session.move.record"); /* the TCB names the old record still: adoption moves it again, this one is void */
  __atomic_store_n(&d->worker_id, 0, __ATOMIC_RELEASE);
  d->slot = slot;
  d->slot_gen = s->gen;
  __atomic_store_n(&d->worker_id, to->id, __ATOMIC_RELEASE);
  FAULT_POINT("session.move.owner"); /* the old record is without a TCB: void */
  fifo_prod_fini(&was.rx);
  from->by_slot[was.slot] = APP_NO_SESSION;
  from->n_sessions--;
  app_slot_put(from, was.slot); /* never believed there: FREE tells the library that it was withdrawn */
  offer_wait(w, s, l);
  worker_count(w, EC_ACCEPT_MOVED, 1);
  return 0;
}

static void offer_rehome_at(struct worker *w, struct session *s, const struct abi_listen_entry *of) {
  struct listener *l = listen_heir(w, of);
  if (l && !s->app) {
    offer_wait(w, s, l);
    w->offers_due = 1;
    return;
  }
  if (!l || offer_move(w, s, l))
    s->ops->abort(w, s, ECONNRESET, w->now);
}

void offer_rehome(struct worker *w, struct session *s) {
  if (s->listener) {
    struct abi_listen_entry of = s->listener->entry;
    offer_rehome_at(w, s, &of);
  } else {
    s->ops->abort(w, s, ECONNRESET, w->now);
  }
}

void offer_inherit(struct worker *w, struct list *sessions, const struct abi_listen_entry *old) {
  while (!list_empty(sessions)) {
    struct session *s = container_of(sessions->next, struct session, waiting);
    list_del(&s->waiting);
    list_init(&s->waiting);
    s->listener = NULL;
    if (s->app)
      session_look(w, s->app, s->slot); /* taken in time? */
    if (!s->dead && s->ops && !s->believed)
      offer_rehome_at(w, s, old);
  }
}

void offer_adopted(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    struct listener *l = s->listener;
    if (s->dead || !s->ops || !s->app || s->believed || !l)
      continue;
    if (l->entry.worker_id != s->app->id || l->entry.slot != s->e->listener || l->entry.slot_gen != s->e->listener_gen)
      offer_rehome(w, s);
    else if (!l->armed) /* a share may have been armed while no engine ran */
      offer_disarmed(w, l);
  }
}

/* The app may look at its listener again, and take the offer, at this moment. Both store and then look: it stores
 * `accepted` and looks at listener_gen (listen_take in vcl), so that one of the two sees the other's store. Who takes
 * an offer that is withdrawn gives it back. 0, or -EBUSY: it was taken. */
static int offer_withdraw(struct session *s) {
  uint32_t gen = s->e->listener_gen;
  __atomic_store_n(&s->e->listener_gen, 0, __ATOMIC_RELEASE);
  FAULT_POINT("session.move.withdrawn"); /* names no listener: adoption moves it */
  shm_fence();
  if (__atomic_load_n(&s->a->accepted, __ATOMIC_ACQUIRE) != s->gen)
    return 0;
  __atomic_store_n(&s->e->listener_gen, gen, __ATOMIC_RELEASE);
  app_hint(s->app, s->slot); /* if it gave it back, it is offered anew */
  return -EBUSY;
}

/* An offer that its process has not taken yet, to that of `to`. 0 or -errno: it stays. */
static int offer_pull(struct worker *w, struct session *s, struct listener *to) {
  uint32_t gen = s->e->listener_gen;
  int rc = offer_withdraw(s);
  if (rc == 0 && (rc = offer_move(w, s, to)) != 0) {
    __atomic_store_n(&s->e->listener_gen, gen, __ATOMIC_RELEASE);
    app_hint(s->app, s->slot);
  }
  return rc;
}

void offer_disarmed(struct worker *w, struct listener *l) {
  for (uint32_t n = 0; n < OFFER_BURST && !list_empty(&l->waiting); n++) {
    struct session *s = container_of(l->waiting.next, struct session, waiting);
    struct listener *to = listen_share(w, l, s->flow_hash);
    list_del(&s->waiting);
    list_add_tail(&l->waiting, &s->waiting);
    if (!to || to == l)
      return;
    if (s->app && s->ops && s->e->state == ABI_SESS_OFFERED &&
        __atomic_load_n(&s->a->accepted, __ATOMIC_ACQUIRE) != s->gen && offer_pull(w, s, to) == -ENOBUFS)
      return;
  }
}
