/*
 * Main loop of a service's control thread: epoll, a timing wheel and a signalfd for SIGTERM and SIGINT.
 *
 * Called by every service's main thread and by the custody client. One thread. A callback may add and remove any
 * descriptor or timer, its own included: what epoll reported for a removed descriptor is dropped by a generation.
 * Signals stay blocked from loop_new to loop_free.
 */
#include "svc/loop.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/pool.h"
#include "base/timer.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LOOP_EVENTS    64
#define LOOP_TIMERS    65536u /* most timers at once; also the step between generations in a timer id */
#define LOOP_FIRE_MAX  256u
#define LOOP_SLEEP_MAX 60000 /* ms */

struct loop_fd {
  loop_fd_cb cb; /* NULL: not watched */
  void *ctx;
  uint32_t gen;
};

struct loop_timer {
  struct timer_ent ent;
  loop_timer_cb cb;
  void *ctx;
  usec_t every;
  int id;
  uint32_t idx;
};

struct loop {
  int epfd;
  int sigfd;
  int stop;
  struct loop_fd *fds; /* indexed by descriptor */
  uint32_t n_fds;
  uint32_t gen;
  struct pool timers;
  struct timer_wheel wheel;
  uint32_t timer_gen;
  sigset_t old_mask;
};

static void loop_on_signal(void *ctx, int fd, uint32_t events) {
  struct loop *l = ctx;
  struct signalfd_siginfo si;
  (void)events;
  while (read(fd, &si, sizeof si) == (ssize_t)sizeof si)
    l->stop = 1;
}

static int loop_signals(struct loop *l) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  int rc = sigprocmask(SIG_BLOCK, &set, &l->old_mask);
  if (rc < 0)
    return err_last();
  l->sigfd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (l->sigfd < 0)
    return err_last();
  return loop_add_fd(l, l->sigfd, EPOLLIN, loop_on_signal, l);
}

int loop_new(struct loop **out) {
  int rc;
  struct loop *l = calloc(1, sizeof *l);
  if (l == NULL)
    return -ENOMEM;
  sigprocmask(SIG_BLOCK, NULL, &l->old_mask);
  l->sigfd = -1;
  l->epfd = epoll_create1(EPOLL_CLOEXEC);
  if (l->epfd < 0) {
    rc = err_last();
    goto out;
  }
  rc = pool_init(&l->timers, sizeof(struct loop_timer), 64, LOOP_TIMERS - 1);
  if (rc < 0)
    goto out;
  timer_wheel_init(&l->wheel, clock_now_us());
  rc = loop_signals(l);
  if (rc < 0)
    goto out;
  *out = l;
  return 0;
out:
  loop_free(l);
  return rc;
}

void loop_free(struct loop *l) {
  if (l == NULL)
    return;
  if (l->sigfd >= 0)
    close(l->sigfd);
  if (l->epfd >= 0)
    close(l->epfd);
  sigprocmask(SIG_SETMASK, &l->old_mask, NULL);
  pool_fini(&l->timers);
  free(l->fds);
  free(l);
}

static int loop_grow(struct loop *l, uint32_t fd) {
  if (fd < l->n_fds)
    return 0;
  uint32_t n = (uint32_t)bits_pow2_up((uint64_t)fd + 1);
  if (n < 64)
    n = 64;
  struct loop_fd *p = realloc(l->fds, n * sizeof *p);
  if (p == NULL)
    return -ENOMEM;
  memset(p + l->n_fds, 0, (n - l->n_fds) * sizeof *p);
  l->fds = p;
  l->n_fds = n;
  return 0;
}

int loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_cb cb, void *ctx) {
  if (fd < 0 || cb == NULL)
    return -EINVAL;
  int rc = loop_grow(l, (uint32_t)fd);
  if (rc < 0)
    return rc;
  uint32_t gen = ++l->gen;
  struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)gen << 32 | (uint32_t)fd};
  if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
    return err_last();
  l->fds[fd] = (struct loop_fd){.cb = cb, .ctx = ctx, .gen = gen};
  return 0;
}

int loop_mod_fd(struct loop *l, int fd, uint32_t events) {
  if (fd < 0 || (uint32_t)fd >= l->n_fds || l->fds[fd].cb == NULL)
    return -ENOENT;
  struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)l->fds[fd].gen << 32 | (uint32_t)fd};
  return epoll_ctl(l->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 ? err_last() : 0;
}

void loop_del_fd(struct loop *l, int fd) {
  if (fd < 0 || (uint32_t)fd >= l->n_fds || l->fds[fd].cb == NULL)
    return;
  l->fds[fd].cb = NULL;
  epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL);
}

int loop_add_timer(struct loop *l, usec_t delay, usec_t every, loop_timer_cb cb, void *ctx) {
  uint32_t idx;
  if (cb == NULL)
    return -EINVAL;
  struct loop_timer *t = pool_get(&l->timers, &idx);
  if (t == NULL)
    return -ENOSPC;
  l->timer_gen = (l->timer_gen + 1) & 0x7fff;
  t->id = (int)(l->timer_gen * LOOP_TIMERS + idx + 1);
  t->idx = idx;
  t->cb = cb;
  t->ctx = ctx;
  t->every = every;
  timer_set(&l->wheel, &t->ent, clock_now_us() + delay);
  return t->id;
}

void loop_del_timer(struct loop *l, int id) {
  if (id <= 0)
    return;
  uint32_t idx = (uint32_t)id % LOOP_TIMERS - 1;
  struct loop_timer *t = pool_at(&l->timers, idx);
  if (t == NULL || t->id != id)
    return;
  timer_cancel(&l->wheel, &t->ent);
  pool_put(&l->timers, idx);
}

static void loop_fire(struct timer_ent *ent, void *ctx) {
  struct loop *l = ctx;
  struct loop_timer *t = container_of(ent, struct loop_timer, ent);
  loop_timer_cb cb = t->cb;
  void *cb_ctx = t->ctx;
  if (t->every > 0)
    timer_set(&l->wheel, ent, clock_now_us() + t->every);
  else
    pool_put(&l->timers, t->idx);
  cb(cb_ctx);
}

/** Milliseconds until the next timer, rounded up so that the loop does not spin before it. */
static int loop_timeout(const struct loop *l) {
  usec_t next = timer_next(&l->wheel);
  if (next == TIMER_NEVER)
    return -1;
  usec_t now = clock_now_us();
  if (next <= now)
    return 0;
  uint64_t ms = bits_div_up(next - now, CLOCK_US_PER_MS);
  return ms > LOOP_SLEEP_MAX ? LOOP_SLEEP_MAX : (int)ms;
}

int loop_turn(struct loop *l, int max_ms) {
  struct epoll_event ev[LOOP_EVENTS];
  int wait = loop_timeout(l);
  if (max_ms >= 0 && (wait < 0 || wait > max_ms))
    wait = max_ms;
  int n = epoll_wait(l->epfd, ev, LOOP_EVENTS, wait);
  if (n < 0 && errno != EINTR)
    return err_last();
  for (int i = 0; i < n; i++) {
    uint32_t fd = (uint32_t)ev[i].data.u64;
    uint32_t gen = (uint32_t)(ev[i].data.u64 >> 32);
    if (fd < l->n_fds && l->fds[fd].cb != NULL && l->fds[fd].gen == gen)
      l->fds[fd].cb(l->fds[fd].ctx, (int)fd, ev[i].events);
  }
  unsigned fired = timer_advance(&l->wheel, clock_now_us(), loop_fire, l, LOOP_FIRE_MAX);
  return (n > 0 ? n : 0) + (int)fired;
}

int loop_run(struct loop *l) {
  int rc = 0;
  while (!l->stop && rc >= 0)
    rc = loop_turn(l, -1);
  return rc < 0 ? rc : 0;
}

void loop_stop(struct loop *l) {
  l->stop = 1;
}

int loop_stopped(const struct loop *l) {
  return l->stop;
}
