/*
 * App workers: mapping, hints in and out, slots, death and lies. See app.h for who owns one when.
 */
#include "worker.h"

#include "base/bits.h"
#include "base/bug.h"
#include "life.h"
#include "shm/bell.h"
#include "transport.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define APP_HINT_BURST 64u
#define APP_QUIET_US   1000u /* a ring that was empty that long is armed instead of polled */

static int app_alloc(struct app_shared *sh) {
  uint64_t n = sh->v.ge.n_slots;
  uint64_t meta = arena_meta_size(sh->v.ge.arena_size);
  void *book = meta ? malloc(meta) : NULL;
  sh->arena =
      book ? arena_init(book, meta, (uint32_t)(sh->v.ge.arena_off / ABI_CHUNK_UNIT), sh->v.ge.arena_size) : NULL;
  sh->by_slot = calloc(n, sizeof *sh->by_slot); /* pages come as slots are used, here and below */
  sh->free.next = malloc(n * sizeof *sh->free.next);
  sh->owner = calloc(n, 1);
  sh->passed = calloc(n, 1);
  if (!sh->arena) {
    free(book);
    return -ENOMEM;
  }
  if (!sh->by_slot || !sh->free.next || !sh->owner || !sh->passed)
    return -ENOMEM;
  freelist_init(&sh->free, sh->free.next);
  arena_share(sh->arena);
  return 0;
}

static void app_shared_free(struct app_shared *sh) {
  struct list *part;
  list_del(&sh->link);
  while ((part = list_pop_head(&sh->parts)) != NULL)
    free(list_entry(part, struct app_part, link));
  worker_view_close(&sh->v);
  free(sh->arena);
  free(sh->by_slot);
  free(sh->free.next);
  free(sh->owner);
  free(sh->passed);
  close(sh->bell);
  close(sh->doorbell);
  free(sh);
}

/* One engine worker's view of it. */
static struct app_worker *app_lane(struct app_shared *sh, uint64_t id, uint32_t lane) {
  struct app_worker *a = calloc(1, sizeof *a);
  if (!a)
    return NULL;
  a->id = id;
  a->lane = (uint8_t)lane;
  a->sh = sh;
  a->v = sh->v;
  a->arena = sh->arena;
  a->by_slot = sh->by_slot;
  a->bell = sh->bell;
  a->doorbell = sh->doorbell;
  struct abi_lane_engine *mine = &a->v.engine->lane[lane];
  const struct abi_lane_app *peer = &a->v.app->lane[lane];
  uint32_t cap = (uint32_t)a->v.ge.ring_cap;
  hint_prod_init(&a->to_app, &mine->to_app, &peer->from_engine, worker_view_ring_engine(&a->v, lane), cap);
  hint_cons_init(&a->from_app, &mine->from_app, &peer->to_engine, worker_view_ring_app(&a->v, lane), cap);
  sh->refs++;
  return a;
}

int app_new(struct app_worker **out, uint64_t id, int fd_e, int fd_a, int bell, int doorbell, const char **why) {
  int rc = -ENOMEM;
  struct app_shared *sh = calloc(1, sizeof *sh);
  if (!sh) {
    close(fd_e);
    close(fd_a);
    goto out_fds;
  }
  rc = worker_view_open(&sh->v, fd_a, SEG_RDONLY, fd_e, SEG_RDWR, why);
  if (rc)
    goto out_free;
  sh->bell = bell;
  sh->doorbell = doorbell;
  sh->n_workers = 1;
  list_init(&sh->parts);
  rc = app_alloc(sh);
  *out = rc == 0 ? app_lane(sh, id, 0) : NULL;
  if (*out)
    return 0;
  app_shared_free(sh);
  return rc ? rc : -ENOMEM;
out_free:
  free(sh);
out_fds:
  close(bell);
  close(doorbell);
  return rc;
}

static uint32_t app_slots_high(const struct app_worker *a) {
  uint32_t first = (uint32_t)a->v.ge.n_slots_app, n = (uint32_t)a->v.ge.n_slots;
  uint32_t high = __atomic_load_n(&a->v.engine->slots_high, __ATOMIC_ACQUIRE);
  return high < first ? first : high > n ? n : high;
}

/* Engine slots whose record is FREE (or CLOSED and let go by the app) may be offered again. */
void app_recount(struct app_worker *a) {
  uint32_t first = (uint32_t)a->v.ge.n_slots_app;
  freelist_init(&a->sh->free, a->sh->free.next);
  for (uint32_t slot = app_slots_high(a); slot > first; slot--) {
    struct abi_sess_engine *e = worker_view_engine(&a->v, slot - 1);
    if (a->by_slot[slot - 1] == APP_NO_SESSION && __atomic_load_n(&e->state, __ATOMIC_ACQUIRE) == ABI_SESS_FREE)
      freelist_put(&a->sh->free, slot - 1 - first);
  }
}

int app_lanes(struct app_worker **lane, uint32_t n) {
  struct app_shared *sh = lane[0]->sh;
  for (uint32_t i = 1; i < n; i++) {
    lane[i] = i < sh->v.ge.n_lanes ? app_lane(sh, lane[0]->id, i) : NULL;
    if (lane[i])
      continue;
    while (--i > 0)
      (void)app_free(lane[i]);
    return -ENOMEM;
  }
  sh->n_workers = n;
  for (uint32_t slot = 0; n > 1 && slot < sh->v.ge.n_slots; slot++)
    sh->owner[slot] = (uint8_t)(slot % n);
  app_recount(lane[0]);
  return 0;
}

int app_free(struct app_worker *a) {
  if (!a)
    return 0;
  struct app_shared *sh = a->sh;
  free(a);
  if (__atomic_sub_fetch(&sh->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return 0;
  app_shared_free(sh);
  return 1;
}

uint32_t app_slots_used(const struct app_worker *a) {
  return app_slots_high(a) - (uint32_t)a->v.ge.n_slots_app - freelist_n(&a->sh->free);
}

void app_rescan_due(struct worker *w, struct app_worker *a) {
  if (a->life != APP_LIVE)
    return; /* what was detached stays so */
  app_wake(w, a);
  a->rescan = 1;
}

void app_again(struct worker *w, struct app_worker *a) {
  if (a->life != APP_LIVE)
    return;
  struct abi_worker_engine *block = a->v.engine;
  __atomic_store_n(&block->lanes_used, a->sh->n_workers, __ATOMIC_RELEASE);
  __atomic_store_n(&block->state, ABI_WORKER_LIVE, __ATOMIC_RELEASE);
  __atomic_store_n(&block->epoch, __atomic_load_n(&block->epoch, __ATOMIC_RELAXED) + 1, __ATOMIC_SEQ_CST);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  app_rescan_due(w, a);
  a->ring_due = 1;
}

/* What one worker tells another: look at this slot, which is yours. */
struct app_note {
  uint64_t id;
  uint32_t slot;
};

static void mail_passed(struct worker *w, void *arg) {
  const struct app_note *note = arg;
  struct app_worker *a = worker_app(w, note->id);
  if (!a)
    return;
  __atomic_store_n(&a->sh->passed[note->slot], 0, __ATOMIC_SEQ_CST); /* before the look at the facts */
  if (a->life != APP_LIVE || !w->adopted)
    return;
  if (app_owner(a, note->slot) == w->index)
    session_look(w, a, note->slot);
  else
    app_pass(w, a, note->slot);
}

void app_pass(struct worker *w, struct app_worker *a, uint32_t slot) {
  struct app_note note = {.id = a->id, .slot = slot};
  if (__atomic_exchange_n(&a->sh->passed[slot], 1, __ATOMIC_SEQ_CST))
    return; /* its owner will look after our fact */
  if (mailbox_post_copy(&w->group->w[app_owner(a, slot)]->mail, mail_passed, &note, sizeof note) == 0) {
    worker_count(w, EC_HINT_PASSED, 1);
    return;
  }
  __atomic_store_n(&a->sh->passed[slot], 0, __ATOMIC_SEQ_CST);
  (void)__atomic_or_fetch(&a->sh->lost, 1u << app_owner(a, slot), __ATOMIC_SEQ_CST); /* seen in its next turn */
}

/* Hints of ours that another worker had no memory to pass on. */
static void app_look_lost(struct worker *w, struct app_worker *a) {
  uint32_t mine = 1u << w->index;
  if (HS_LIKELY(!(__atomic_load_n(&a->sh->lost, __ATOMIC_RELAXED) & mine)))
    return;
  (void)__atomic_and_fetch(&a->sh->lost, ~mine, __ATOMIC_SEQ_CST);
  app_rescan_due(w, a);
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
  uint32_t first = (uint32_t)a->v.ge.n_slots_app, n = (uint32_t)a->v.ge.n_slots;
  uint32_t slot = freelist_get(&a->sh->free);
  if (slot != FREELIST_NONE) {
    slot += first;
  } else {
    uint32_t high = __atomic_load_n(&a->v.engine->slots_high, __ATOMIC_ACQUIRE);
    do {
      slot = high < first ? first : high;
      if (slot >= n)
        return APP_NO_SLOT;
    } while (
        !__atomic_compare_exchange_n(&a->v.engine->slots_high, &high, slot + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  }
  app_give(a, slot, a->lane);
  return slot;
}

void app_slot_put(struct app_worker *a, uint32_t slot) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  life_set(e, ABI_SESS_FREE);
  freelist_put(&a->sh->free, slot - (uint32_t)a->v.ge.n_slots_app);
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
    if (app_owner(a, slot) == w->index)
      session_look(w, a, slot);
  high = app_slots_high(a);
  for (uint32_t slot = n_app; slot < high && a->life == APP_LIVE; slot++)
    if (app_owner(a, slot) == w->index)
      session_look(w, a, slot);
  return 1;
}

uint32_t app_poll(struct worker *w, struct app_worker *a) {
  app_look_lost(w, a);
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
    if (HS_LIKELY(app_owner(a, slots[i]) == w->index))
      session_look(w, a, slots[i]);
    else
      app_pass(w, a, slots[i]);
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
    if (app_owner(a, slot) == w->index && a->by_slot[slot] != APP_NO_SESSION)
      session_orphan(w, pool_ref(&w->sessions, a->by_slot[slot] - 1));
}

void app_suspect(struct app_worker *a, const char *why) {
  if (!a->why)
    a->why = why;
}

void app_lied(struct worker *w, struct app_worker *a, const char *why) {
  if (a->life == APP_LIED)
    return;
  worker_count(w, EC_APP_LIED, 1);
  app_let_go(w, a, why);
  worker_control->lied(w->control, a->id, why);
}

void app_let_go(struct worker *w, struct app_worker *a, const char *why) {
  if (a->life == APP_LIED)
    return;
  a->life = APP_LIED;
  a->why = why;
  listen_gone(w, a->id);
  __atomic_store_n(&a->v.engine->why, EPROTO, __ATOMIC_RELAXED);
  __atomic_store_n(&a->v.engine->state, ABI_WORKER_DETACHED, __ATOMIC_RELEASE);
  for (uint32_t slot = 0; slot < a->v.ge.n_slots && a->n_sessions; slot++) {
    if (app_owner(a, slot) != w->index || a->by_slot[slot] == APP_NO_SESSION)
      continue;
    struct session *s = pool_ref(&w->sessions, a->by_slot[slot] - 1);
    if (s->ops)
      s->ops->abort(w, s, ECONNABORTED, w->now);
    else {
      session_unbind_record(w, s, ECONNABORTED);
      session_free(w, s);
    }
  }
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
