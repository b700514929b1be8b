/*
 * Workers: entering and leaving, attaching, taking hints, following the engine's epochs.
 *
 * Called by every public function. Without lock mode a worker belongs to the thread that registered it; with it, worker
 * 0 serves all threads under its mutex.
 */
#include "vcl_worker.h"

#include "base/clock.h"
#include "shm/bell.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_kin.h"
#include "vcl_parts.h"
#include "vcl_rejoin.h"
#include "vcl_session.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKER_HINT_BURST 64
#define WORKER_AWAY_US    (100 * CLOCK_US_PER_MS) /* a broker that is away is asked again */
#define WORKER_UNHEARD_US (1 * CLOCK_US_PER_S)    /* … one that does not answer: asking holds the caller up */
#define WORKER_POOL_BLOCK 64u
#define WORKER_SETS       4096u /* handles beyond the slots, for epoll sets */

struct worker_unbind {
  struct list link;
  struct broker_slot slot;
};

void worker_lock(struct worker *w) {
  if (app_state.lock_mode)
    pthread_mutex_lock(&w->lock);
}

void worker_unlock(struct worker *w) {
  if (app_state.lock_mode)
    pthread_mutex_unlock(&w->lock);
}

struct worker *worker_enter(void) {
  int index = app_state.lock_mode ? 0 : app_thread_index();
  if (index < 0)
    return NULL;
  struct worker *w = app_state.workers[index];
  if (w != NULL)
    worker_lock(w);
  return w;
}

void worker_flush_inherited(struct worker *w) {
  struct list *pos;
  list_for_each(pos, &w->inherited) home_flush(list_entry(pos, struct home, link));
}

void worker_settle_slow(struct worker *w) {
  if (!w->settle_due && clock_now_us() < w->unbinds_next)
    return;
  w->settle_due = 0;
  if (w->lazy && w->home == NULL)
    (void)worker_ready(w);
  life_settle_broker(w);
}

void worker_leave(struct worker *w) {
  kin_look(w);
  if (w->home != NULL)
    home_flush(w->home);
  worker_flush_inherited(w);
  cut_flush(w);
  worker_settle(w);
  if (w->edge_due) {
    w->edge_due = 0;
    worker_again(w);
  }
  worker_unlock(w);
}

int worker_front(struct worker *w) {
  if (w->front < 0)
    w->front = epoll_create1(EPOLL_CLOEXEC);
  return w->front >= 0 ? w->front : -errno;
}

void worker_front_watch(struct worker *w, int fd) {
  struct epoll_event ev = {.events = EPOLLIN};
  (void)epoll_ctl(w->front, EPOLL_CTL_ADD, fd, &ev);
}

void worker_front_forget(struct worker *w, int fd) {
  if (w->front >= 0 && fd >= 0)
    (void)epoll_ctl(w->front, EPOLL_CTL_DEL, fd, NULL);
}

void worker_again(struct worker *w) {
  uint64_t one = 1;
  if (!w->asked || w->again)
    return;
  if (w->again_fd < 0) {
    w->again_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->again_fd < 0)
      return;
    worker_front_watch(w, w->again_fd);
  }
  w->again = 1;
  (void)!write(w->again_fd, &one, sizeof one);
}

void worker_count(struct worker *w, int stack, int kernel) {
  w->n_stack += (uint32_t)stack;
  w->n_kernel += (uint32_t)kernel;
  if (w->home == NULL) /* told with the next one */
    return;
  struct abi_worker_app *block = w->home->view.app;
  __atomic_store_n(&block->sockets_stack, w->n_stack, __ATOMIC_RELAXED);
  __atomic_store_n(&block->sockets_kernel, w->n_kernel, __ATOMIC_RELAXED);
  __atomic_store_n(&block->dgrams_lost, w->n_lost, __ATOMIC_RELAXED);
}

void worker_count_lost(struct worker *w) {
  w->n_lost++;
  if (w->home != NULL)
    __atomic_store_n(&w->home->view.app->dgrams_lost, w->n_lost, __ATOMIC_RELAXED);
}

int worker_attach(struct worker *w, const uint8_t *parent) {
  struct worker_view v;
  uint64_t id = 0;
  int rc = worker_front(w);
  if (rc >= 0)
    rc = broker_hello(&w->broker, parent);
  if (rc < 0)
    return rc;
  rc = broker_add_worker(&w->broker, &v, &id);
  if (rc < 0)
    return rc;
  struct home *h = calloc(1, sizeof *h);
  if (h == NULL) {
    worker_view_close(&v);
    return -ENOMEM;
  }
  rc = home_init(h, &v, id, w->broker.bell, w->broker.doorbell);
  if (rc < 0) {
    free(h);
    return rc;
  }
  v.app->pid = (uint32_t)getpid();
  memcpy(h->token, w->broker.token, sizeof h->token);
  w->home = h;
  worker_count(w, 0, 0);
  worker_front_watch(w, h->bell);
  w->lazy = 0;
  if (!app_state.lock_mode) { /* the program may sleep on the bell from the first moment on */
    w->watched = w->bell_dirty = 1;
    (void)home_arm(h);
  }
  return 0;
}

static int worker_init(struct worker *w, uint32_t index) {
  pthread_mutexattr_t attr;
  w->index = index;
  w->heir_timer = w->front = w->again_fd = -1;
  list_init(&w->lost);
  list_init(&w->inherited);
  list_init(&w->left);
  list_init(&w->waiters);
  list_init(&w->spare_waiters);
  list_init(&w->unbinds);
  list_init(&w->held);
  parts_init(w);
  pthread_mutexattr_init(&attr);
  pthread_mutex_init(&w->lock, &attr);
  pthread_mutexattr_destroy(&attr);
  broker_init(&w->broker, &app_state.cfg, app_state.name);
  return 0;
}

int worker_new(struct worker **out, uint32_t index, const uint8_t *parent) {
  struct worker *w = calloc(1, sizeof *w);
  if (w == NULL)
    return -ENOMEM;
  int rc = worker_init(w, index);
  if (rc == 0)
    rc = worker_attach(w, parent);
  if (rc == 0)
    rc = pool_init(&w->sessions, sizeof(struct session), WORKER_POOL_BLOCK, w->home->n_slots + WORKER_SETS);
  if (rc < 0) {
    worker_free(w);
    return rc;
  }
  *out = w;
  return 0;
}

static void worker_free_home(struct home **at) {
  if (*at == NULL)
    return;
  home_fini(*at);
  free(*at);
  *at = NULL;
}

void worker_free(struct worker *w) {
  struct list *link;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->life != SESSION_ZOMBIE && s->life != SESSION_OFFER && s->kind != SESSION_BRANCH)
      session_close(s, 0);
  }
  if (w->home != NULL)
    home_flush(w->home);
  rejoin_free(w);
  cut_flush(w);
  if (w->home != NULL && !w->lazy && !w->home->detached && !kin_has_heirs(w->home))
    broker_remove_worker(&w->broker, w->home->worker_id);
  waiter_free_all(w);
  worker_drop_unbinds(w);
  cut_end(w);
  pool_fini(&w->sessions);
  while ((link = list_first(&w->inherited)) != NULL)
    home_drop(list_entry(link, struct home, link));
  if (w->heir_timer >= 0)
    close(w->heir_timer);
  while ((link = list_first(&w->lost)) != NULL) { /* of sessions that other threads pin still */
    struct home *h = list_entry(link, struct home, link);
    list_del(link);
    home_fini(h);
    free(h);
  }
  worker_free_home(&w->home);
  broker_fini(&w->broker);
  parts_fini(w);
  if (w->again_fd >= 0)
    close(w->again_fd);
  if (w->front >= 0)
    close(w->front);
  pthread_mutex_destroy(&w->lock);
  free(w);
}

void worker_forget(struct worker *w) {
  struct list *pos;
  if (w->cut != NULL) {
    list_for_each(pos, &w->cut->pairs) home_let_go(&list_entry(pos, struct cut_pair, link)->home);
    list_for_each(pos, &w->cut->inherited) home_let_go(&list_entry(pos, struct cut_pair, link)->home);
  }
  list_for_each(pos, &w->inherited) home_let_go(list_entry(pos, struct home, link));
  broker_fini(&w->broker); /* the own home's bell, too */
  const int fds[] = {w->heir_timer, w->again_fd, w->front};
  for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
    if (fds[i] >= 0)
      close(fds[i]);
}

/** One hint: the owner of the slot is told, or the slot is a new offer. */
static void worker_hint(struct worker *w, struct home *h, uint32_t slot, uint32_t lane) {
  if (slot >= h->n_slots)
    return;
  uint32_t owner = h->owner[slot];
  if (owner == HOME_NO_OWNER) {
    if (slot >= h->n_slots_app)
      session_offered(w, h, slot, lane);
    return;
  }
  struct session *s = pool_ref(&w->sessions, owner - 1);
  s->lane = (uint8_t)lane;
  session_touch(s);
}

/** A new engine: everything that it may have missed is said again, everything that we may have missed is looked at. */
static void worker_rescan(struct worker *w, struct home *h, uint32_t epoch) {
  h->epoch = epoch;
  h->n_lanes = home_lanes(h);
  if (w->watched || w->n_asleep != 0) /* somebody sleeps on the bell: lanes that are new are armed by nobody else */
    (void)home_arm(h);
  for (uint32_t i = 0; i < ABI_LANES_MAX; i++)
    h->to[i].rung = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->home != h)
      continue;
    s->lane = session_lane(h, s->slot, s->gen);
    session_retell(s);
    session_touch(s);
  }
  uint32_t high = __atomic_load_n(&h->view.engine->slots_high, __ATOMIC_ACQUIRE);
  for (uint32_t slot = h->n_slots_app; slot < high && slot < h->n_slots; slot++)
    if (h->owner[slot] == HOME_NO_OWNER)
      session_offered(w, h, slot, session_lane(h, slot, worker_view_engine(&h->view, slot)->gen));
  __atomic_store_n(&h->view.app->epoch_seen, epoch, __ATOMIC_RELEASE);
  home_flush(h);
}

void worker_detach(struct worker *w) {
  struct home *h = w->home;
  if (h == NULL || h->detached)
    return;
  h->detached = 1;
  app_debug(1, "vcl.detached worker %u: the stack is gone", w->index);
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->home != h)
      continue;
    if (s->broken == 0)
      s->broken = ENETDOWN;
    session_touch(s);
  }
  waiter_notify_any(w);
}

int worker_pump(struct worker *w) {
  struct home *h = w->home;
  uint32_t slots[WORKER_HINT_BURST];
  kin_look(w);
  int n = cut_pump(w);
  h = w->home;
  if (__builtin_expect(w->rejoin != NULL, 0)) {
    rejoin_step(w);
    h = w->home;
  }
  if (h == NULL || h->detached)
    goto out;
  uint32_t epoch = home_epoch(h);
  if (__builtin_expect(epoch != h->epoch, 0)) {
    worker_rescan(w, h, epoch);
    n++;
  }
  for (uint32_t lane = 0; lane < h->n_lanes && !h->detached; lane++) {
    int k;
    while ((k = hint_take(&h->from[lane], slots, WORKER_HINT_BURST)) > 0) {
      for (int i = 0; i < k; i++)
        worker_hint(w, h, slots[i], lane);
      n += k;
    }
    if (k < 0)
      worker_detach(w);
  }
  if (__atomic_load_n(&h->view.engine->state, __ATOMIC_ACQUIRE) == ABI_WORKER_DETACHED)
    worker_detach(w);
out:
  held_look(w);
  n += parts_look(w);
  if (n != 0)
    waiter_notify_any(w);
  return n;
}

void worker_drain_bell(struct worker *w) {
  uint64_t count;
  if (w->again) {
    w->again = 0;
    (void)!read(w->again_fd, &count, sizeof count);
  }
  cut_drain(w);
  if (w->home == NULL || w->home->detached || !w->bell_dirty)
    return;
  if (w->n_asleep == 0 && !w->watched)
    w->bell_dirty = 0;
  if (cut_hear(w) == -EPIPE)
    rejoin_begin(w);
}

void worker_take_bell(struct worker *w) {
  worker_drain_bell(w);
  w->edge_due = 1;
}

void worker_trim(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->fifos_open && !s->home->forked && fifo_prod_room(&s->tx) >= 0 &&
        fifo_prod_used(&s->tx) == 0)
      fifo_prod_trim(&s->tx);
  }
}

int worker_later_unbind(struct worker *w, const struct broker_slot *slot) {
  struct worker_unbind *u = calloc(1, sizeof *u);
  if (u == NULL)
    return -ENOMEM;
  u->slot = *slot;
  list_add_tail(&w->unbinds, &u->link);
  return 0;
}

void worker_drop_unbinds(struct worker *w) {
  struct list *link;
  while ((link = list_pop_head(&w->unbinds)) != NULL)
    free(list_entry(link, struct worker_unbind, link));
}

int worker_flush_unbinds(struct worker *w) {
  struct list todo;
  list_init(&todo);
  worker_lock(w);
  list_splice_tail(&todo, &w->unbinds);
  worker_unlock(w);
  struct list *link;
  int rc = 0;
  while ((link = list_first(&todo)) != NULL) {
    struct worker_unbind *u = list_entry(link, struct worker_unbind, link);
    rc = broker_unbind(&w->broker, &u->slot);
    if (rc == -EAGAIN || rc == -ETIMEDOUT)
      break; /* away, or no answer, which may mean that it was not heard: said again, twice does no harm */
    list_del(link);
    free(u);
  }
  worker_lock(w);
  w->unbinds_next = clock_now_us() + (rc == -ETIMEDOUT ? WORKER_UNHEARD_US : WORKER_AWAY_US);
  cut_revoke(w); /* the broker knows now */
  int left = !list_empty(&todo);
  list_splice_tail(&w->unbinds, &todo);
  worker_unlock(w);
  return left;
}

int vppcom_worker_is_detached(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return 0;
  (void)worker_pump(w);
  int rc = w->home != NULL ? w->home->detached : w->rejoin != NULL;
  worker_leave(w);
  return rc;
}

int vppcom_mq_epoll_fd(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return VPPCOM_EINVAL;
  int fd = VPPCOM_EINVAL;
  if (w->home != NULL || w->rejoin != NULL) {
    fd = w->front;
    int first = !w->asked;
    w->asked = w->watched = w->bell_dirty = 1;
    if (w->home != NULL)
      (void)home_arm(w->home);
    (void)cut_arm(w);
    if (first) /* hints that came before it was armed, and what is on ready lists already */
      worker_again(w);
  }
  worker_leave(w);
  return fd;
}

int vppcom_worker_mqs_epfd(void) {
  return vppcom_mq_epoll_fd();
}
