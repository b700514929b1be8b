/*
 * App workers: mapping, hints in and out, slots, death and lies. See app.h for who owns one when.
 */
#include "worker.h"

#include "base/bug.h"
#include "shm/bell.h"
#include "transport.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define APP_HINT_BURST 64u
#define APP_QUIET_US   1000u /* a ring that was empty that long is armed instead of polled */

static int app_alloc(struct app_worker *a) {
  uint64_t meta = arena_meta_size(a->v.ge.arena_size);
  void *book = meta ? malloc(meta) : NULL;
  a->arena = book ? arena_init(book, meta, (uint32_t)(a->v.ge.arena_off / ABI_CHUNK_UNIT), a->v.ge.arena_size) : NULL;
  a->by_slot = malloc(a->v.ge.n_slots * sizeof *a->by_slot);
  a->free_slots = malloc(a->v.ge.n_slots * sizeof *a->free_slots);
  if (!a->arena) {
    free(book);
    return -ENOMEM;
  }
  if (!a->by_slot || !a->free_slots)
    return -ENOMEM;
  memset(a->by_slot, 0xff, a->v.ge.n_slots * sizeof *a->by_slot);
  return 0;
}

int app_new(struct app_worker **out, uint64_t id, int fd_e, int fd_a, int bell, int doorbell, const char **why) {
  int rc = -ENOMEM;
  struct app_worker *a = calloc(1, sizeof *a);
  if (!a) {
    close(fd_e);
    close(fd_a);
    goto out_fds;
  }
  rc = worker_view_open(&a->v, fd_a, SEG_RDONLY, fd_e, SEG_RDWR, why);
  if (rc)
    goto out_free;
  a->id = id;
  a->bell = bell;
  a->doorbell = doorbell;
  rc = app_alloc(a);
  if (rc) {
    app_free(a);
    return rc;
  }
  struct abi_lane_engine *mine = &a->v.engine->lane[0];
  const struct abi_lane_app *peer = &a->v.app->lane[0];
  uint32_t cap = (uint32_t)a->v.ge.ring_cap;
  hint_prod_init(&a->to_app, &mine->to_app, &peer->from_engine, worker_view_ring_engine(&a->v, 0), cap);
  hint_cons_init(&a->from_app, &mine->from_app, &peer->to_engine, worker_view_ring_app(&a->v, 0), cap);
  *out = a;
  return 0;
out_free:
  free(a);
out_fds:
  close(bell);
  close(doorbell);
  return rc;
}

void app_free(struct app_worker *a) {
  if (!a)
    return;
  worker_view_close(&a->v);
  free(a->arena);
  free(a->by_slot);
  free(a->free_slots);
  close(a->bell);
  close(a->doorbell);
  free(a);
}

/* Engine slots whose record is FREE (or CLOSED and let go by the app) may be offered again. */
static void app_recount_slots(struct app_worker *a) {
  uint32_t first = (uint32_t)a->v.ge.n_slots_app, n = (uint32_t)a->v.ge.n_slots;
  uint32_t high = __atomic_load_n(&a->v.engine->slots_high, __ATOMIC_ACQUIRE);
  a->slots_high = high < first ? first : high > n ? n : high;
  a->n_free = 0;
  for (uint32_t slot = a->slots_high; slot > first; slot--) {
    struct abi_sess_engine *e = worker_view_engine(&a->v, slot - 1);
    if (a->by_slot[slot - 1] == APP_NO_SESSION && __atomic_load_n(&e->state, __ATOMIC_ACQUIRE) == ABI_SESS_FREE)
      a->free_slots[a->n_free++] = slot - 1;
  }
}

void app_adopt(struct worker *w, struct app_worker *a) {
  if (a->life != APP_LIVE)
    return; /* a reset of the rings: what was detached stays so */
  app_wake(w, a);
  app_recount_slots(a);
  struct abi_worker_engine *block = a->v.engine;
  __atomic_store_n(&block->state, ABI_WORKER_LIVE, __ATOMIC_RELEASE);
  __atomic_store_n(&block->epoch, __atomic_load_n(&block->epoch, __ATOMIC_RELAXED) + 1, __ATOMIC_SEQ_CST);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  a->rescan = 1;
  a->ring_due = 1;
}

void app_wake(struct worker *w, struct app_worker *a) {
  if (a->armed)
    hint_disarm(&a->from_app);
  a->armed = 0;
  a->active_at = w->now;
}

int app_arm(struct app_worker *a) {
  a->armed = 1;
  if (!a->rescan && hint_arm(&a->from_app))
    return 1;
  hint_disarm(&a->from_app);
  a->armed = 0;
  return 0;
}

uint32_t app_slot_get(struct app_worker *a) {
  if (a->n_free)
    return a->free_slots[--a->n_free];
  if (a->slots_high >= a->v.ge.n_slots)
    return APP_NO_SESSION;
  uint32_t slot = a->slots_high++;
  __atomic_store_n(&a->v.engine->slots_high, a->slots_high, __ATOMIC_RELEASE);
  return slot;
}

void app_slot_put(struct app_worker *a, uint32_t slot) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  __atomic_store_n(&e->state, ABI_SESS_FREE, __ATOMIC_RELEASE);
  a->free_slots[a->n_free++] = slot;
}

void app_hint(struct app_worker *a, uint32_t slot) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  int ring = 0;
  if (a->life != APP_LIVE)
    return;
  (void)hint_push(&a->to_app, slot, &e->hint_pos, &ring);
  if (ring)
    a->ring_due = 1;
}

static uint32_t app_rescan(struct worker *w, struct app_worker *a) {
  a->rescan = 0;
  uint32_t n_app = (uint32_t)a->v.ga.n_slots_app;
  uint32_t high = __atomic_load_n(&a->v.app->slots_high, __ATOMIC_ACQUIRE);
  if (high > n_app)
    high = n_app;
  for (uint32_t slot = 0; slot < high && a->life == APP_LIVE; slot++)
    session_look(w, a, slot);
  for (uint32_t slot = n_app; slot < a->slots_high && a->life == APP_LIVE; slot++)
    session_look(w, a, slot);
  return 1;
}

uint32_t app_poll(struct worker *w, struct app_worker *a) {
  if (a->life != APP_LIVE || a->armed)
    return 0;
  if (a->rescan)
    return app_rescan(w, a);
  uint32_t slots[APP_HINT_BURST];
  int n = hint_take(&a->from_app, slots, APP_HINT_BURST);
  if (n == 0 && w->now - a->active_at > APP_QUIET_US)
    return app_arm(a) ? 0 : 1;
  if (n != 0)
    a->active_at = w->now;
  if (n < 0) {
    app_suspect(a, "hint ring: tail beyond capacity");
    return 1;
  }
  for (int i = 0; i < n && a->life == APP_LIVE; i++) {
    if (slots[i] >= a->v.ga.n_slots) {
      app_suspect(a, "hint ring: no such slot");
      break;
    }
    session_look(w, a, slots[i]);
  }
  return (uint32_t)n;
}

void app_dead(struct worker *w, struct app_worker *a) {
  if (a->life != APP_LIVE)
    return;
  app_wake(w, a);
  a->rescan = 1; /* the last facts it stored still count: data written before the death is sent */
  (void)app_poll(w, a);
  a->life = APP_DEAD;
  listen_gone(w, a->id);
  for (uint32_t slot = 0; slot < a->v.ge.n_slots && a->n_sessions; slot++)
    if (a->by_slot[slot] != APP_NO_SESSION)
      session_orphan(w, pool_ref(&w->sessions, a->by_slot[slot]));
}

void app_suspect(struct app_worker *a, const char *why) {
  if (!a->why)
    a->why = why;
}

void app_lied(struct worker *w, struct app_worker *a, const char *why) {
  if (a->life == APP_LIED)
    return;
  a->life = APP_LIED;
  a->why = why;
  listen_gone(w, a->id);
  worker_count(w, EC_APP_LIED, 1);
  __atomic_store_n(&a->v.engine->why, EPROTO, __ATOMIC_RELAXED);
  __atomic_store_n(&a->v.engine->state, ABI_WORKER_DETACHED, __ATOMIC_RELEASE);
  for (uint32_t slot = 0; slot < a->v.ge.n_slots && a->n_sessions; slot++) {
    if (a->by_slot[slot] == APP_NO_SESSION)
      continue;
    struct session *s = pool_ref(&w->sessions, a->by_slot[slot]);
    if (s->ops)
      s->ops->abort(w, s, ECONNABORTED, w->now);
    else {
      session_unbind_record(w, s, ECONNABORTED);
      session_free(w, s);
    }
  }
  worker_control->lied(w->control, a->id, why);
  (void)bell_ring_app(a->bell);
}

void app_flush(struct worker *w, struct app_worker *a) {
  if (a->why && a->life != APP_LIED)
    app_lied(w, a, a->why);
  if (!a->ring_due)
    return;
  a->ring_due = 0;
  (void)bell_ring_app(a->bell); /* -EPIPE: its death reaches us from the broker, with proof */
}
