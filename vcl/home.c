/*
 * A home: slots, hint rings and the arena of one pair of segments, as the library uses them (abi/worker.h).
 *
 * Called by worker.c (life), session.c (slots) and rw.c (hints) on the worker's thread or under its mutex. Everything
 * in E is the engine's word and is loaded once; everything in A is ours.
 */
#include "vcl_cut.h"
#include "vcl_kin.h"
#include "vcl_parts.h"

#include "base/err.h"
#include "base/fault.h"
#include "shm/bell.h"

#include <stdlib.h>
#include <unistd.h>

/** The lock of a home that will be shared after a fork. */
static int home_lock_init(struct home *h) {
  pthread_mutexattr_t attr;
  int rc = pthread_mutexattr_init(&attr);
  if (rc != 0)
    return -rc;
  rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  if (rc == 0)
    rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  if (rc == 0)
    rc = pthread_mutex_init(&h->shared->lock, &attr);
  pthread_mutexattr_destroy(&attr);
  return -rc;
}

void home_let_go(struct home *h) {
  if (h->bell >= 0)
    close(h->bell);
  if (h->doorbell >= 0)
    close(h->doorbell);
  h->bell = h->doorbell = -1;
  h->ring_due = 0;
}

void home_drop(struct home *h) {
  home_flush(h);
  if (h->inherited)
    kin_forsake(h);
  home_let_go(h);
  list_del(&h->link);
  home_fini(h);
  free(h);
}

void home_unref(struct home *h) {
  h->n_sessions--;
  if (h->n_sessions != 0)
    return;
  if (h->pair != NULL) {
    cut_pair_empty(h->pair);
    return;
  }
  if (h->inherited || h->lost)
    home_drop(h);
}

void home_lock(struct home *h) {
  if (!h->forked)
    return;
  if (pthread_mutex_lock(&h->shared->lock) == EOWNERDEAD)
    (void)pthread_mutex_consistent(&h->shared->lock); /* a hint may be lost with its pusher: its session is an orphan */
  for (uint32_t i = 0; i < h->max_lanes; i++)
    h->to[i].tail = __atomic_load_n(&h->to[i].mine->tail, __ATOMIC_RELAXED);
}

void home_unlock(struct home *h) {
  if (h->forked)
    (void)pthread_mutex_unlock(&h->shared->lock);
}

static int home_tables(struct home *h) {
  struct worker_view *v = &h->view;
  uint64_t size = v->ga.arena_size;
  if (v->ga.locks_size < HOME_LOCKS_SIZE + arena_meta_size(size))
    return -EPROTO;
  uint8_t *locks = seg_at(&v->seg_a, v->ga.locks_off, v->ga.locks_size);
  h->kin_base = kin_base();
  h->shared = (struct home_shared *)(void *)locks;
  h->arena = arena_init(locks + HOME_LOCKS_SIZE, v->ga.locks_size - HOME_LOCKS_SIZE,
                        (uint32_t)(v->ga.arena_off / ABI_CHUNK_UNIT), size);
  if (h->arena == NULL)
    return -EPROTO;
  parts_found(h);
  h->owner = calloc(h->n_slots, sizeof *h->owner);
  h->free_slots = calloc(h->n_slots_app + 1, sizeof *h->free_slots);
  if (h->owner == NULL || h->free_slots == NULL)
    return -ENOMEM;
  return home_lock_init(h);
}

int home_init(struct home *h, const struct worker_view *v, uint64_t worker_id, int bell, int doorbell) {
  memset(h, 0, sizeof *h);
  h->view = *v;
  h->worker_id = worker_id;
  h->bell = bell;
  h->doorbell = doorbell;
  h->n_slots = (uint32_t)v->ga.n_slots;
  h->n_slots_app = (uint32_t)v->ga.n_slots_app;
  h->max_lanes = (uint32_t)v->ga.n_lanes;
  int rc = home_tables(h);
  if (rc < 0) {
    home_fini(h);
    return rc;
  }
  for (uint32_t i = 0; i < h->max_lanes; i++) {
    struct abi_lane_app *mine = &v->app->lane[i];
    struct abi_lane_engine *peer = &v->engine->lane[i];
    hint_prod_init(&h->to[i], &mine->to_engine, &peer->from_app, worker_view_ring_app(v, i), (uint32_t)v->ga.ring_cap);
    hint_cons_init(&h->from[i], &mine->from_engine, &peer->to_app, worker_view_ring_engine(v, i),
                   (uint32_t)v->ge.ring_cap);
  }
  h->epoch = home_epoch(h);
  h->n_lanes = home_lanes(h);
  __atomic_store_n(&v->app->epoch_seen, h->epoch, __ATOMIC_RELEASE);
  return 0;
}

int home_init_pair(struct home *h, const struct worker_view *v, uint64_t pair_id, int client, int bell,
                   struct cut_pair *pair) {
  memset(h, 0, sizeof *h);
  h->view = *v;
  h->worker_id = pair_id;
  h->bell = bell;
  h->doorbell = -1;
  h->pair = pair;
  h->n_slots = (uint32_t)v->ga.n_slots;
  h->n_slots_app = client ? h->n_slots : 0;
  h->n_lanes = h->max_lanes = 1;
  int rc = home_tables(h);
  if (rc < 0) {
    home_fini(h);
    return rc;
  }
  hint_prod_init(&h->to[0], &v->app->lane[0].to_engine, &v->partner->lane[0].from_engine, worker_view_ring_app(v, 0),
                 (uint32_t)v->ga.ring_cap);
  hint_cons_init(&h->from[0], &v->app->lane[0].from_engine, &v->partner->lane[0].to_engine,
                 worker_view_ring_engine(v, 0), (uint32_t)v->ge.ring_cap);
  return 0;
}

void home_fini(struct home *h) {
  worker_view_close(&h->view);
  free(h->owner);
  free(h->free_slots);
  free(h->left);
  h->owner = h->free_slots = h->left = NULL;
  h->n_left = 0;
  h->arena = NULL;
  h->shared = NULL;
}

void home_slot_clear(struct abi_sess_app *a) {
  uint32_t gen = a->gen;
  uint32_t hint_pos = a->hint_pos;
  memset((uint8_t *)a + sizeof a->gen, 0, offsetof(struct abi_sess_app, tx_chunk) - sizeof a->gen);
  a->gen = gen;
  a->hint_pos = hint_pos; /* of the ring, not of the session: an entry about this slot may still lie there */
}

int64_t home_slot_get(struct home *h) {
  uint32_t slot;
  if (h->n_free != 0)
    slot = h->free_slots[--h->n_free];
  else if (h->slot_next < h->n_slots_app) {
    slot = h->slot_next++;
    __atomic_store_n(&h->view.app->slots_high, h->slot_next, __ATOMIC_RELEASE);
  } else
    return -ENFILE;
  struct abi_sess_app *a = worker_view_app(&h->view, slot);
  uint32_t gen = a->gen + 1;
  __atomic_store_n(&a->gen, gen != 0 ? gen : 1u, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.slot_gen");
  home_slot_clear(a);
  return slot;
}

void home_slot_put(struct home *h, uint32_t slot) {
  struct abi_sess_app *a = worker_view_app(&h->view, slot);
  uint32_t gen = a->gen + 1;
  /* the request goes before the generation: whoever looks in between would take it for one of the next life */
  __atomic_store_n(&a->op, (uint32_t)ABI_OP_NONE, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.slot_quit");
  __atomic_store_n(&a->gen, gen != 0 ? gen : 1u, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.slot_free");
  home_slot_clear(a);
  h->owner[slot] = HOME_NO_OWNER;
  h->free_slots[h->n_free++] = slot;
}

void home_hint(struct home *h, uint32_t lane, uint32_t slot, struct abi_sess_app *a) {
  int ring = 0;
  if (lane >= home_lanes(h))
    lane = 0; /* of an engine with more workers */
  home_lock(h);
  (void)hint_push(&h->to[lane], slot, &a->hint_pos, &ring);
  home_unlock(h);
  if (ring && (h->forked || hint_ring_due(&h->to[lane])))
    h->ring_due = 1;
  if (h->due != NULL)
    *h->due = 1;
}

void home_flush_slow(struct home *h) {
  h->ring_due = 0;
  if (h->pair != NULL && h->bell >= 0)
    (void)bell_ring_app(h->bell);
  else if (h->doorbell >= 0)
    (void)bell_ring_service(h->doorbell);
}

int home_arm(struct home *h) {
  int empty = 1;
  for (uint32_t i = 0; i < h->n_lanes; i++)
    empty &= hint_arm(&h->from[i]);
  return empty && home_epoch(h) == h->epoch;
}

void home_disarm(struct home *h) {
  for (uint32_t i = 0; i < h->n_lanes; i++)
    hint_disarm(&h->from[i]);
}

int home_pending(const struct home *h) {
  for (uint32_t i = 0; i < h->n_lanes; i++)
    if (hint_pending(&h->from[i]))
      return 1;
  return home_epoch(h) != h->epoch;
}
