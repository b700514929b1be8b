/*
 * Waiters: dispatch, kicks, and the guarded hybrid sleep (DATAPATH.md; abi/ring.h has the armed protocol).
 *
 * Called by every blocking function of the library and, through wait.c, by the preload shim; under the worker's mutex.
 * The consumer side of `armed` with several sleepers: the rings stay armed as long as anybody sleeps; whoever wakes
 * empties the bell first and takes the hints after that, so a ring that comes in between leaves the bell readable for
 * the others; every hint taken is dispatched to the waiters that it concerns, and one that sleeps is kicked through its
 * own eventfd. Nobody trusts a kick: a waiter looks at its facts again after each.
 */
#include "vcl_waiter.h"

#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_parts.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define WAITER_SPIN_POLLS  50
#define WAITER_PAIR_POLLS  300 /* the other side of a pair answers within microseconds, or not soon */
#define WAITER_YIELD_SLOW  300 /* µs: a yield that takes longer says that others need the core */
#define WAITER_YIELD_PAUSE 20000
#define WAITER_SLOW_YIELDS 2  /* in a row: a single one may be the host's doing */
#define WAITER_SPIN_VAIN   8  /* spins in vain after which we go to sleep at once … */
#define WAITER_SPIN_RETRY  16 /* … but for one wait in so many, to see whether it pays again */
#define WAITER_PAIRS       4  /* sockets of pairs watched beside the bell; more are watched by the front */
#define WAITER_RANG_PAIR   2  /* of waiter_sleep_end's bell_rang: a pair's socket alone */
#define WAITER_HEIR_MS     2  /* look at inherited sessions that often: their hints go to the parent */

int waiter_late_ms = 500; /* as long as a service may wait for its turn among hundreds of threads */

struct waiter *waiter_get(struct worker *w) {
  struct list *link = list_pop_head(&w->spare_waiters);
  struct waiter *wt = link != NULL ? list_entry(link, struct waiter, link) : NULL;
  if (wt == NULL) {
    wt = calloc(1, sizeof *wt);
    if (wt == NULL)
      return NULL;
    wt->kick_fd = wt->epoll_fd = -1;
    list_init(&wt->attached);
  }
  if (app_state.lock_mode && wt->kick_fd < 0) {
    wt->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wt->kick_fd < 0) {
      list_add_head(&w->spare_waiters, &wt->link);
      return NULL;
    }
  }
  wt->w = w;
  wt->pending = wt->asleep = wt->any = 0;
  w->n_waiters++;
  list_add_tail(&w->waiters, &wt->link);
  return wt;
}

static void waiter_unkick(struct waiter *wt) {
  uint64_t n;
  if (wt->kicked && read(wt->kick_fd, &n, sizeof n) < 0 && errno != EAGAIN)
    return;
  wt->kicked = 0;
}

void waiter_put(struct waiter *wt) {
  waiter_unwatch_all(wt);
  waiter_unkick(wt);
  list_del(&wt->link);
  wt->w->n_waiters--;
  list_add_head(&wt->w->spare_waiters, &wt->link);
}

void waiter_free_all(struct worker *w) {
  struct list *link;
  while ((link = list_pop_head(&w->waiters)) != NULL)
    list_add_tail(&w->spare_waiters, link);
  while ((link = list_pop_head(&w->spare_waiters)) != NULL) {
    struct waiter *wt = list_entry(link, struct waiter, link);
    waiter_unwatch_all(wt);
    if (wt->kick_fd >= 0)
      close(wt->kick_fd);
    if (wt->epoll_fd >= 0)
      close(wt->epoll_fd);
    free(wt);
  }
}

static struct watch *waiter_find(struct waiter *wt, struct list *owners) {
  struct list *pos;
  list_for_each(pos, owners) {
    struct watch *wa = list_entry(pos, struct watch, owner_link);
    if (wa->waiter == wt)
      return wa;
  }
  return NULL;
}

int waiter_watch(struct waiter *wt, struct list *owners) {
  if (waiter_find(wt, owners) != NULL)
    return 0;
  struct watch *wa = calloc(1, sizeof *wa);
  if (wa == NULL)
    return -ENOMEM;
  wa->waiter = wt;
  list_add_tail(owners, &wa->owner_link);
  list_add_tail(&wt->attached, &wa->waiter_link);
  return 0;
}

static void waiter_watch_free(struct watch *wa) {
  list_del(&wa->owner_link);
  list_del(&wa->waiter_link);
  free(wa);
}

void waiter_unwatch(struct waiter *wt, struct list *owners) {
  struct watch *wa = waiter_find(wt, owners);
  if (wa != NULL)
    waiter_watch_free(wa);
}

void waiter_unwatch_all(struct waiter *wt) {
  struct list *link;
  while ((link = list_first(&wt->attached)) != NULL)
    waiter_watch_free(list_entry(link, struct watch, waiter_link));
}

static void waiter_mark(struct waiter *wt) {
  static const uint64_t one = 1;
  wt->pending = 1;
  if (!wt->asleep || wt->kicked || wt->kick_fd < 0)
    return;
  wt->kicked = 1;
  if (write(wt->kick_fd, &one, sizeof one) < 0)
    wt->kicked = 1; /* EAGAIN: the counter is full, so the descriptor is readable all the same */
}

void waiter_notify(struct list *owners) {
  struct list *pos;
  list_for_each(pos, owners) waiter_mark(list_entry(pos, struct watch, owner_link)->waiter);
}

void waiter_owner_gone(struct list *owners) {
  struct list *link;
  waiter_notify(owners);
  while ((link = list_first(owners)) != NULL)
    waiter_watch_free(list_entry(link, struct watch, owner_link));
}

void waiter_notify_any(struct worker *w) {
  struct list *pos;
  list_for_each(pos, &w->waiters) {
    struct waiter *wt = list_entry(pos, struct waiter, link);
    if (wt->any)
      waiter_mark(wt);
  }
}

/** Disarms when nobody sleeps and the program does not watch the bell itself. */
static void waiter_settle_arms(struct worker *w) {
  if (w->n_asleep != 0 || w->watched)
    return;
  if (w->home != NULL)
    home_disarm(w->home);
  cut_disarm(w);
}

static int waiter_take_pending(struct waiter *wt) {
  int was = wt->pending;
  wt->pending = 0;
  return was;
}

/** A forked child's worker that uses connections of its parent's home: their hints go to the parent, so it looks at
 * them every WAITER_HEIR_MS. */
static int waiter_is_heir(const struct worker *w) {
  struct list *pos;
  list_for_each(pos, &w->inherited) if (list_entry(pos, struct home, link)->bell >= 0) return 1;
  return cut_is_heir(w);
}

int waiter_bell(struct worker *w) {
  return w->front;
}

/** The timer beside the bell, for sleeps that are not ours (vcl_sleep_begin). */
static void waiter_heir_timer(struct worker *w) {
  struct itimerspec its = {.it_value = {.tv_nsec = WAITER_HEIR_MS * 1000000}};
  if (!waiter_is_heir(w)) {
    its.it_value.tv_nsec = 0; /* no longer: off, and unreadable */
  } else if (w->heir_timer < 0) {
    w->heir_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (w->heir_timer >= 0)
      worker_front_watch(w, w->heir_timer);
  }
  if (w->heir_timer >= 0)
    (void)timerfd_settime(w->heir_timer, 0, &its, NULL); /* this also makes it unreadable */
}

int waiter_sleep_begin(struct waiter *wt) {
  struct worker *w = wt->w;
  if (!w->asked)
    w->watched = 0; /* a program that sleeps in here does not watch the bell */
  for (;;) {
    (void)worker_pump(w);
    if (waiter_take_pending(wt)) {
      waiter_settle_arms(w);
      return 0;
    }
    w->bell_dirty = 1;
    int quiet = w->home == NULL || w->home->detached || home_arm(w->home);
    if (cut_arm(w) && quiet)
      break;
  }
  waiter_heir_timer(w);
  wt->asleep = 1;
  w->n_asleep++;
  if (w->home != NULL)
    home_flush(w->home);
  worker_flush_inherited(w);
  cut_flush(w);
  return 1;
}

void waiter_sleep_end(struct waiter *wt, int bell_rang) {
  struct worker *w = wt->w;
  wt->asleep = 0;
  w->n_asleep--;
  waiter_unkick(wt);
  if (bell_rang == WAITER_RANG_PAIR)
    cut_drain(w);
  else if (bell_rang)
    worker_take_bell(w);
  waiter_settle_arms(w);
  (void)worker_pump(w);
}

/** One sched_yield; others may enter the worker meanwhile. Returns the time after it. */
static usec_t waiter_yield(struct worker *w, usec_t before) {
  worker_unlock(w);
  sched_yield();
  worker_lock(w);
  usec_t now = clock_now_us();
  w->slow_yields = now - before > WAITER_YIELD_SLOW ? w->slow_yields + 1 : 0;
  if (w->slow_yields >= WAITER_SLOW_YIELDS)
    w->yield_guard = now + WAITER_YIELD_PAUSE;
  return now;
}

/** Whether spinning has paid lately: a program that waits long must not burn its core before each sleep. */
static int waiter_may_spin(struct worker *w) {
  if (app_state.cfg.spin_us == 0 || ((w->home == NULL || w->home->detached) && cut_n_pairs(w) == 0))
    return 0;
  return w->spin_vain < WAITER_SPIN_VAIN || ++w->spin_skipped % WAITER_SPIN_RETRY == 0;
}

static int waiter_has_news(const struct worker *w) {
  return (w->home != NULL && !w->home->detached && home_pending(w->home)) || cut_pending(w);
}

static int waiter_spin_paid(struct waiter *wt) {
  if (!wt->pending)
    return 0;
  wt->w->spin_vain = 0;
  return waiter_take_pending(wt);
}

int waiter_spin(struct waiter *wt) {
  struct worker *w = wt->w;
  if (wt->pending)
    return waiter_take_pending(wt);
  if (!waiter_may_spin(w))
    return 0;
  if (w->home != NULL)
    home_flush(w->home);
  cut_flush(w);
  int polls = cut_n_pairs(w) != 0 ? WAITER_PAIR_POLLS : WAITER_SPIN_POLLS;
  for (int i = 0; i < polls; i++) {
    if (waiter_has_news(w)) {
      (void)worker_pump(w);
      if (waiter_spin_paid(wt))
        return 1;
    }
    __builtin_ia32_pause();
  }
  usec_t start = clock_now_us();
  for (usec_t now = start; now - start < app_state.cfg.spin_us && now >= w->yield_guard;) {
    now = waiter_yield(w, now);
    if (waiter_has_news(w))
      (void)worker_pump(w);
    if (waiter_spin_paid(wt))
      return 1;
  }
  if (w->spin_vain < WAITER_SPIN_VAIN)
    w->spin_vain++;
  return 0;
}

/** The pairs' sockets; few. Returns how many. */
static nfds_t waiter_pairs(const struct worker *w, struct pollfd *p) {
  struct list *pos;
  nfds_t n = 0;
  if (w->cut == NULL)
    return 0;
  list_for_each(pos, &w->cut->pairs) {
    if (n == WAITER_PAIRS)
      break;
    p[n++] = (struct pollfd){.fd = list_entry(pos, struct cut_pair, link)->home.bell, .events = POLLIN};
  }
  return n;
}

/** Whether work lies there that nobody rang for. */
static int waiter_is_late(const struct worker *w) {
  return w->home != NULL && !w->home->detached && (home_pending(w->home) || cut_pending(w));
}

/** Sleeps until a descriptor is readable or the ceiling. *late: the ceiling ended it, there was work, and no bell was
 * on its way. Returns poll's result. */
static int waiter_poll(struct waiter *wt, usec_t deadline, int *bell_rang, int *late) {
  struct worker *w = wt->w;
  struct pollfd p[2 + WAITER_PAIRS] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
  nfds_t n = 2;
  usec_t now = clock_now_us();
  usec_t ceiling = WORKER_SLEEP_MS * CLOCK_US_PER_MS;
  if (w->rejoin != NULL || parts_busy(w) || cut_n_pairs(w) > WAITER_PAIRS)
    p[0].fd = w->front;
  else
    n += waiter_pairs(w, &p[2]);
  if (p[0].fd < 0 && w->home != NULL && !w->home->detached)
    p[0].fd = w->home->bell;
  p[1].fd = wt->kick_fd;
  if (waiter_is_heir(w))
    ceiling = WAITER_HEIR_MS * CLOCK_US_PER_MS;
  *late = deadline == 0 || deadline > now + ceiling;
  usec_t us = *late ? ceiling : deadline > now ? deadline - now : 0;
  struct timespec ts = {.tv_sec = (time_t)(us / CLOCK_US_PER_S), .tv_nsec = (long)(us % CLOCK_US_PER_S * 1000)};
  worker_unlock(w);
  int rc = ppoll(p, n, &ts, NULL);
  int err = errno;
  worker_lock(w);
  *late = *late && rc == 0 && waiter_is_late(w);
  if (*late) { /* whoever pushed may be about to ring */
    worker_unlock(w);
    rc = poll(p, n, waiter_late_ms);
    err = errno;
    worker_lock(w);
    *late = rc == 0 && waiter_is_late(w);
  }
  *bell_rang = rc > 0 && p[0].revents != 0;
  for (nfds_t i = 2; i < n && rc > 0 && !*bell_rang; i++)
    if (p[i].revents != 0)
      *bell_rang = WAITER_RANG_PAIR;
  errno = err;
  return rc;
}

int waiter_wait(struct waiter *wt, usec_t deadline) {
  struct worker *w = wt->w;
  if (!w->lazy)
    worker_settle(w);
  if (waiter_take_pending(wt) || (deadline == 0 || clock_now_us() < deadline ? waiter_spin(wt) : 0))
    return 0;
  if (!waiter_sleep_begin(wt))
    return 0;
  int bell_rang, late;
  int rc = waiter_poll(wt, deadline, &bell_rang, &late);
  int err = errno;
  if (late)
    w->home->from[0].mine->late_wakeup++;
  waiter_sleep_end(wt, bell_rang);
  if (waiter_take_pending(wt))
    return 0;
  if (waiter_is_heir(w))
    waiter_notify_any(w);
  if (rc < 0 && err == EINTR)
    return -EINTR;
  return deadline != 0 && clock_now_us() >= deadline ? -ETIMEDOUT : 0;
}
