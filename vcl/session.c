/*
 * Sessions: slots, life, what the engine's half says, and closing (abi/session.h tells the slot's life).
 *
 * Called by every public function about a session and by worker.c for hints; under the worker's mutex. A fact of the
 * engine is believed only while its gen equals ours; words of the app half have one writer, which is us.
 */
#include "vcl_branch.h"

#include "base/fault.h"
#include "vcl_app.h"
#include "vcl_kin.h"
#include "vcl_parts.h"
#include "vcl_peers.h"
#include "vcl_vep.h"

#include <stdlib.h>
#include <string.h>

static uint64_t session_serial;

struct session *session_find(struct worker *w, uint32_t handle) {
  if (handle >> WORKER_INDEX_BITS != w->index)
    return NULL;
  struct session *s = pool_at(&w->sessions, handle & WORKER_INDEX_MASK);
  return s == NULL || s->life == SESSION_ZOMBIE || s->life == SESSION_OFFER || s->kind == SESSION_BRANCH ? NULL : s;
}

struct session *session_enter(uint32_t handle) {
  struct worker *w = worker_enter();
  struct session *s = w != NULL ? session_find(w, handle) : NULL;
  if (w != NULL && s == NULL)
    worker_leave(w);
  return s;
}

struct session *session_new(struct worker *w, uint32_t kind) {
  uint32_t index;
  struct session *s = pool_get(&w->sessions, &index);
  if (s == NULL)
    return NULL;
  s->w = w;
  s->index = index;
  s->kind = (uint8_t)kind;
  s->listener = UINT32_MAX;
  s->serial = __atomic_add_fetch(&session_serial, 1, __ATOMIC_RELAXED);
  list_init(&s->items);
  list_init(&s->watchers);
  list_init(&s->offers);
  list_init(&s->branches);
  list_init(&s->stash);
  list_init(&s->opening);
  list_init(&s->kin_link);
  return s;
}

uint8_t session_lane(const struct home *h, uint32_t slot, uint32_t gen) {
  const struct abi_sess_engine *e = worker_view_engine(&h->view, slot);
  uint32_t lane = __atomic_load_n(&e->gen, __ATOMIC_ACQUIRE) == gen ? __atomic_load_n(&e->lane, __ATOMIC_RELAXED)
                                                                    : slot % h->n_lanes;
  return (uint8_t)(lane < h->n_lanes ? lane : 0);
}

/** Ties a session to a slot of a home. */
static void session_place(struct session *s, struct home *h, uint32_t slot, uint32_t gen) {
  s->home = h;
  s->slot = slot;
  s->gen = gen;
  s->a = worker_view_app(&h->view, slot);
  s->e = worker_view_engine(&h->view, slot);
  s->lane = session_lane(h, slot, gen);
  h->owner[slot] = s->index + 1;
  h->n_sessions++;
}

void session_move(struct session *s, struct home *h, uint32_t slot) {
  if (s->home->owner[s->slot] == s->index + 1)
    s->home->owner[s->slot] = HOME_NO_OWNER;
  home_unref(s->home);
  session_place(s, h, slot, worker_view_app(&h->view, slot)->gen);
}

/** Options that a configuration file asks for. */
static void session_default_options(struct session *s) {
  s->opt.rcvbuf = app_state.cfg.rx_fifo_bytes;
  s->opt.sndbuf = app_state.cfg.tx_fifo_bytes;
  if (s->opt.rcvbuf != 0 || s->opt.sndbuf != 0)
    session_publish_options(s);
}

struct session *session_new_stream(struct worker *w, uint8_t proto, int nonblock, int *err) {
  if (w->home == NULL || w->home->detached) {
    *err = ENETDOWN;
    return NULL;
  }
  int64_t slot = home_slot_get(w->home);
  if (slot < 0) { /* zombies whose end we have not looked at yet */
    (void)worker_pump(w);
    slot = home_slot_get(w->home);
  }
  if (slot < 0) {
    *err = (int)-slot;
    return NULL;
  }
  struct session *s = session_new(w, SESSION_STREAM);
  if (s == NULL) {
    home_slot_put(w->home, (uint32_t)slot);
    *err = ENOMEM;
    return NULL;
  }
  worker_count(w, 1, 0);
  s->proto = proto;
  s->nonblock = nonblock != 0;
  session_place(s, w->home, (uint32_t)slot, worker_view_app(&w->home->view, (uint32_t)slot)->gen);
  session_default_options(s);
  return s;
}

struct session *session_new_offer(struct worker *w, struct home *h, uint32_t slot, uint32_t gen) {
  struct session *s = session_new(w, SESSION_STREAM);
  if (s == NULL)
    return NULL;
  stage_set(s, SESSION_OFFER);
  session_place(s, h, slot, gen);
  return s;
}

void session_free(struct session *s) {
  struct worker *w = s->w;
  cut_sess_free(s);
  if (s->home != NULL) {
    if (s->home->owner[s->slot] == s->index + 1)
      s->home->owner[s->slot] = HOME_NO_OWNER;
    home_unref(s->home);
  }
  if (s->quiet)
    w->n_quiet--;
  peers_drop(s);
  free(s->groups);
  free(s->fast_key);
  held_drop(s);
  if (s->left)
    list_del(&s->kin_link);
  parts_fed(s);
  (void)pool_put(&w->sessions, s->index);
}

struct session_facts session_facts(const struct session *s) {
  struct session_facts f = {0, 0, 0};
  if (s->cut != NULL)
    return cut_sess_facts(s);
  if (s->e == NULL || __atomic_load_n(&s->e->gen, __ATOMIC_ACQUIRE) != s->gen)
    return f;
  f.state = __atomic_load_n(&s->e->state, __ATOMIC_ACQUIRE);
  f.flags = __atomic_load_n(&s->e->flags, __ATOMIC_ACQUIRE);
  f.error = __atomic_load_n(&s->e->error, __ATOMIC_ACQUIRE);
  /* The engine stores error → RESET → CLOSED, and this look may fall between: an error is a session's end, and is told
   * together with it. What ends it is stored, and hinted, next (by a successor if need be). */
  if (f.state != ABI_SESS_CLOSED && (f.flags & ABI_SE_RESET) == 0)
    f.error = 0;
  return f;
}

void session_seed(struct session *s) {
  if (s->fifos_open)
    __atomic_store_n(&session_local(s)->chunk_head, s->tx.chunk_head, __ATOMIC_RELAXED);
}

/** The reader's handle, at the position that the app half says. */
static void session_open_rx(struct session *s) {
  struct worker_view *v = &s->home->view;
  if (s->cut != NULL)
    cut_sess_open_rx(s);
  else
    fifo_cons_init(&s->rx, &s->e->rx, s->e->rx_chunk, &s->a->rx_head, v->seg_e.base, v->ge.arena_off, v->ge.arena_size,
                   ABI_FIFO_MAX);
}

void session_open_fifos(struct session *s) {
  if (s->fifos_open)
    return;
  struct worker_view *v = &s->home->view;
  if (s->cut != NULL) {
    cut_sess_open_fifos(s);
  } else if (s->tx_early) { /* its first bytes went with the connect: fastopen.c */
    s->tx.peer_head = &s->e->tx_head;
    s->tx_early = 0;
    held_note(s);
    session_open_rx(s);
  } else {
    home_lock(s->home);
    if (fifo_prod_init(&s->tx, &s->a->tx, s->a->tx_chunk, &s->e->tx_head, v->seg_a.base, s->home->arena, 0) < 0)
      s->broken = ECONNRESET;
    home_unlock(s->home);
    session_open_rx(s);
  }
  s->tx.patient = s->cut == NULL;
  s->rx_hinted = s->rx.head;
  s->handed = 0;
  s->fifos_open = 1;
  session_seed(s);
}

/** Another process may have used the fifos: go on where it stopped. */
static void session_follow(struct session *s) {
  uint32_t tail = __atomic_load_n(&s->a->tx.tail, __ATOMIC_RELAXED);
  uint32_t chunk_tail = __atomic_load_n(&s->a->tx.chunk_tail, __ATOMIC_RELAXED);
  uint32_t chunk_head = __atomic_load_n(&session_local(s)->chunk_head, __ATOMIC_RELAXED);
  if (tail != s->tx.tail || chunk_tail != s->tx.chunk_tail || chunk_head != s->tx.chunk_head) {
    const struct abi_chunk *newest = &s->a->tx_chunk[(chunk_tail - 1) % ABI_FIFO_CHUNKS];
    s->tx.tail = tail;
    s->tx.chunk_tail = chunk_tail;
    s->tx.chunk_head = chunk_head;
    s->tx.end = chunk_tail != chunk_head ? newest->start + newest->len : tail;
    s->tx.head = __atomic_load_n(s->tx.peer_head, __ATOMIC_ACQUIRE);
  }
  uint32_t head = __atomic_load_n(&s->a->rx_head, __ATOMIC_RELAXED);
  if (head != s->rx.head)
    session_open_rx(s);
}

void session_lock(struct session *s) {
  if (!s->home->forked)
    return;
  home_lock(s->home);
  if (s->fifos_open)
    session_follow(s);
}

void session_unlock(struct session *s) {
  if (!s->home->forked)
    return;
  session_seed(s);
  home_unlock(s->home);
}

void session_settle(struct session *s) {
  if (s->cut != NULL)
    cut_sess_settle(s);
  if (s->kin) { /* shutdown by one of those who hold it is all theirs */
    uint32_t want = __atomic_load_n(&s->a->want, __ATOMIC_RELAXED);
    s->shut_rd |= (want & ABI_WANT_SHUT_RD) != 0;
    s->shut_wr |= (want & ABI_WANT_SHUT_WR) != 0;
  }
  if (s->life != SESSION_CONNECT)
    return;
  struct session_facts f = session_facts(s);
  if (s->broken != 0) {
    stage_set(s, SESSION_OPEN);
    s->failed = 1;
    if (s->redial)
      cut_sess_replay(s);
    return;
  }
  if (f.state < ABI_SESS_READY || fastopen_answer(s, &f))
    return;
  s->fast_asked = 0;
  uint32_t got = __atomic_load_n(&s->e->rx.tail, __ATOMIC_ACQUIRE);
  int lived = f.state != ABI_SESS_CLOSED || got != 0 || (f.flags & ABI_SE_PEER_FIN) != 0;
  if (!lived && f.error == 0)
    return; /* the state is the slot's former life's: the engine is about to answer */
  session_open_fifos(s);
  s->failed = !lived;
  stage_set(s, SESSION_OPEN);
  if (s->redial)
    cut_sess_replay(s);
}

void session_hint(struct session *s) {
  home_hint(s->home, s->lane, s->slot, s->a);
}

void session_want(struct session *s, uint32_t bits) {
  (void)__atomic_or_fetch(&s->a->want, bits, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.want");
  session_hint(s);
}

void session_publish_options(struct session *s) {
  if (s->a == NULL || s->life == SESSION_OFFER || s->cut != NULL)
    return;
  uint32_t gen = (s->a->opt_gen | 1u) + 1;
  __atomic_store_n(&s->a->opt_gen, gen - 1, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  FAULT_POINT("vcl.options");
  s->a->opt = s->opt;
  s->a->opt.flags |= s->more ? ABI_OPT_CORK : 0u;
  if (s->fast_key != NULL)
    memcpy(s->a->fastopen_key, s->fast_key, sizeof s->a->fastopen_key);
  FAULT_POINT("vcl.options_gen");
  __atomic_store_n(&s->a->opt_gen, gen, __ATOMIC_RELEASE);
  if (s->life == SESSION_CONNECT || s->life == SESSION_OPEN || s->life == SESSION_LISTEN)
    session_hint(s);
}

/** The memory of the tx fifo goes back. */
static void session_close_tx(struct session *s) {
  if (!s->fifos_open && !s->tx_early)
    return;
  session_lock(s);
  fifo_prod_fini(&s->tx);
  session_unlock(s);
  s->tx_early = 0;
}

/** A closed session: free its slot once the engine has let go of it. */
static void session_bury(struct session *s) {
  int over = s->cut != NULL ? cut_sess_over(s) : s->home->detached || session_facts(s).state == ABI_SESS_CLOSED;
  if (!over || s->pins != 0)
    return;
  if (s->left && !s->home->detached && (__atomic_load_n(&s->a->want, __ATOMIC_ACQUIRE) & ABI_WANT_CLOSE) == 0)
    return; /* others hold it: the last one's close stores that, and of a pair the slot may be in use again at once */
  struct home *h = s->home;
  session_close_tx(s);
  if (s->cut != NULL) {
    if (s->cut->client)
      home_slot_put(h, s->slot);
  } else if (s->slot < h->n_slots_app) {
    home_slot_put(h, s->slot);
    home_hint(h, s->lane, s->slot, s->a);
  } else {
    session_want(s, ABI_WANT_FREED);
  }
  session_free(s);
}

void session_touch(struct session *s) {
  if (s->life == SESSION_ZOMBIE) {
    session_bury(s);
    return;
  }
  session_settle(s);
  if (s->regroup != 0)
    dgram_regroup(s);
  struct list *pos;
  list_for_each(pos, &s->items) vep_item_touch(list_entry(pos, struct vep_item, sess_link));
  waiter_notify(&s->watchers);
}

void session_retell(struct session *s) {
  if (s->life == SESSION_NEW || s->life == SESSION_BOUND || s->life == SESSION_OFFER || s->life == SESSION_DEFER)
    return;
  s->regroup = s->n_groups;
  session_hint(s);
}

/** An engine slot that is over before anybody here knew it: let go. */
static void session_release_slot(struct home *h, uint32_t slot, uint32_t gen, uint32_t lane) {
  struct abi_sess_app *a = worker_view_app(&h->view, slot);
  if (a->gen == gen)
    return;
  home_slot_clear(a);
  __atomic_store_n(&a->gen, gen, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.release");
  __atomic_store_n(&a->want, ABI_WANT_CLOSE | ABI_WANT_FREED, __ATOMIC_RELEASE);
  home_hint(h, lane, slot, a);
}

void session_offered(struct worker *w, struct home *h, uint32_t slot, uint32_t lane) {
  const struct abi_sess_engine *e = worker_view_engine(&h->view, slot);
  uint32_t gen = __atomic_load_n(&e->gen, __ATOMIC_ACQUIRE);
  uint32_t state = __atomic_load_n(&e->state, __ATOMIC_ACQUIRE);
  if (state == ABI_SESS_CLOSED)
    session_release_slot(h, slot, gen, lane);
  if (state != ABI_SESS_OFFERED)
    return;
  uint32_t at = __atomic_load_n(&e->listener, __ATOMIC_RELAXED);
  uint32_t at_gen = __atomic_load_n(&e->listener_gen, __ATOMIC_RELAXED);
  uint32_t owner = at < h->n_slots_app ? h->owner[at] : HOME_NO_OWNER;
  struct session *l = owner != HOME_NO_OWNER ? pool_ref(&w->sessions, owner - 1) : NULL;
  if (l == NULL || l->life != SESSION_LISTEN || l->gen != at_gen || l->home != h)
    return;              /* closed meanwhile: the engine takes the connection back */
  if (!l->armed_offer) { /* found when it is, if nobody else has taken it by then */
    l->missed = 1;
    return;
  }
  struct session *s = session_new_offer(w, h, slot, gen);
  if (s == NULL) {
    w->offers_missed = 1;
    return;
  }
  s->lane = (uint8_t)lane;
  s->listener = l->index;
  s->listener_serial = l->serial;
  list_add_tail(&l->offers, &s->offers);
  l->n_offers++;
  session_touch(l);
}

/** The broker's reservation or listener goes, now or when the broker is back. */
static void session_unbind(struct session *s) {
  if (!s->bound && !s->bind_unheard)
    return;
  struct broker_slot slot = {.worker_id = s->home->worker_id, .slot = s->slot, .gen = s->gen};
  if (s->cut != NULL)
    cut_sess_unkeep(s, &slot);
  s->bound = s->bind_unheard = 0;
  session_local(s)->bound = 0;
  (void)worker_later_unbind(s->w, &slot);
}

int session_renew(struct session *s) {
  session_unbind(s); /* the reservation names the old slot; the address stays a wish */
  struct home *to = s->home->detached && s->w->home != NULL ? s->w->home : s->home;
  if (to->detached)
    return -ENETDOWN;
  int64_t slot = home_slot_get(to);
  if (slot < 0)
    return (int)slot;
  uint32_t old = s->slot;
  if (s->kin)
    (void)kin_leave(s, 0);
  session_close_tx(s);
  s->fifos_open = 0;
  home_slot_put(s->home, old);
  home_hint(s->home, s->lane, old, worker_view_app(&s->home->view, old));
  if (to != s->home)
    s->broken = 0; /* what ended was the other stack */
  session_move(s, to, (uint32_t)slot);
  stage_set(s, SESSION_NEW);
  s->connected = 0;
  s->soft_seen = 0;
  s->failed = s->err_taken = s->told = s->tx_armed = s->shut_rd = s->shut_wr = 0;
  session_publish_options(s);
  return 0;
}

/** Tells the engine. The slot stays until it has let go. */
static void session_part(struct session *s, int abortive) {
  struct session_facts f = session_facts(s);
  if (s->handed != 0 && s->fifos_open) { /* read, though not given back: no reason for a reset */
    session_lock(s);
    fifo_cons_consume(&s->rx, s->handed);
    session_unlock(s);
  }
  uint32_t want = s->cut != NULL ? cut_sess_close_bits(s) : ABI_WANT_CLOSE;
  if (abortive || ((s->opt.flags & ABI_OPT_LINGER) != 0 && s->opt.linger_s == 0 && s->life != SESSION_LISTEN))
    want |= ABI_WANT_ABORT;
  stage_set(s, SESSION_ZOMBIE);
  if (s->home->detached) {
    session_bury(s);
    return;
  }
  session_want(s, want);
  if (f.state == ABI_SESS_CLOSED || s->cut != NULL)
    session_bury(s);
}

void session_close(struct session *s, int abortive) {
  struct list *link;
  while ((link = list_first(&s->items)) != NULL)
    vep_item_free(list_entry(link, struct vep_item, sess_link));
  peers_drop(s);
  waiter_owner_gone(&s->watchers);
  waiter_notify_any(s->w);
  if (s->kind == SESSION_SET) {
    vep_free(s->vep);
    s->vep = NULL;
    stage_set(s, SESSION_ZOMBIE);
    if (s->pins == 0)
      session_free(s);
    return;
  }
  if (s->home->inherited) { /* another's: the last one who holds it ends it */
    kin_close(s, abortive);
    stage_set(s, SESSION_ZOMBIE);
    if (s->pins == 0)
      session_free(s);
    return;
  }
  session_settle(s);
  if (session_is_dgram(s))
    branch_drop_all(s);
  if (session_is_dgram(s) && s->bound)
    cut_revoke(s->w);
  if (s->kin && !s->home->detached && !kin_leave(s, 0)) {
    kin_wait(s);
    stage_set(s, SESSION_ZOMBIE);
    return;
  }
  session_unbind(s);
  struct session *l = s->listener != UINT32_MAX ? pool_at(&s->w->sessions, s->listener) : NULL;
  if (l != NULL && l->serial == s->listener_serial && l->n_accepted != 0)
    l->n_accepted--;
  if (s->life == SESSION_LISTEN) {
    listen_drop_offers(s);
    __atomic_store_n(&s->a->listen_armed, 0u, __ATOMIC_RELEASE);
    cut_revoke(s->w);
  }
  if (s->life != SESSION_NEW && s->life != SESSION_BOUND && s->life != SESSION_DEFER && !s->redo) {
    session_part(s, abortive);
    return;
  }
  stage_set(s, SESSION_ZOMBIE);
  home_slot_put(s->home, s->slot); /* the engine never knew it */
  if (s->pins == 0)
    session_free(s);
}

void session_end(struct session *s) {
  session_unbind(s);
  if (!s->home->detached) {
    uint32_t want = __atomic_load_n(&s->a->want, __ATOMIC_RELAXED);
    if ((want & ABI_WANT_CLOSE) == 0)
      want = s->cut != NULL ? cut_sess_close_bits(s) : ABI_WANT_CLOSE;
    session_want(s, want); /* said again: whoever stored it may have died before the hint */
  }
  session_bury(s);
}

void session_unpin(struct session *s) {
  s->pins--;
  if (s->pins != 0 || s->life != SESSION_ZOMBIE)
    return;
  if (s->kind == SESSION_SET || s->home->inherited || s->home->owner[s->slot] != s->index + 1)
    session_free(s);
  else
    session_bury(s);
}
