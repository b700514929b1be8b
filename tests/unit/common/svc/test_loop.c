/*
 * Loop and idle strategy: descriptors, timers, removal inside callbacks, signals.
 */
#include "base/clock.h"
#include "base/err.h"
#include "svc/idle.h"
#include "svc/loop.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct seen {
  struct loop *l;
  int fd, other, timer;
  unsigned n;
  usec_t at;
};

static void on_fd(void *ctx, int fd, uint32_t events) {
  struct seen *s = ctx;
  uint64_t v;
  assert_true((events & EPOLLIN) != 0);
  assert_int_equal(read(fd, &v, sizeof v), (int)sizeof v);
  s->n++;
}

static void bump(int fd) {
  uint64_t one = 1;
  assert_int_equal(write(fd, &one, sizeof one), (int)sizeof one);
}

static void test_fds(void **state) {
  struct loop *l;
  (void)state;
  assert_int_equal(loop_new(&l), 0);
  struct seen s = {.l = l, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  assert_int_equal(loop_add_fd(l, s.fd, EPOLLIN, on_fd, &s), 0);
  assert_int_equal(loop_add_fd(l, s.fd, EPOLLIN, on_fd, &s), -EEXIST);
  assert_int_equal(loop_turn(l, 0), 0);
  bump(s.fd);
  assert_int_equal(loop_turn(l, -1), 1);
  assert_int_equal(s.n, 1);
  assert_int_equal(loop_mod_fd(l, s.fd, 0), 0);
  bump(s.fd);
  assert_int_equal(loop_turn(l, 0), 0);
  assert_int_equal(loop_mod_fd(l, s.fd, EPOLLIN), 0);
  assert_int_equal(loop_turn(l, -1), 1);
  loop_del_fd(l, s.fd);
  loop_del_fd(l, s.fd);
  bump(s.fd);
  assert_int_equal(loop_turn(l, 0), 0);
  assert_int_equal(loop_mod_fd(l, s.fd, EPOLLIN), -ENOENT);
  assert_int_equal(loop_add_fd(l, -1, EPOLLIN, on_fd, &s), -EINVAL);
  close(s.fd);
  loop_free(l);
}

/** Removes the other descriptor, closes it and opens one that gets its number: what epoll reported for the old one must
 * not reach the new. */
static void on_fd_replace(void *ctx, int fd, uint32_t events) {
  struct seen *s = ctx;
  int other = fd == s->fd ? s->other : s->fd;
  (void)events;
  s->n++;
  loop_del_fd(s->l, other);
  close(other);
  int fresh = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  assert_int_equal(fresh, other);
  assert_int_equal(loop_add_fd(s->l, fresh, EPOLLIN, on_fd_replace, s), 0);
  loop_del_fd(s->l, fd);
}

static void test_removed_inside(void **state) {
  struct loop *l;
  (void)state;
  assert_int_equal(loop_new(&l), 0);
  struct seen s = {
      .l = l, .fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), .other = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)};
  assert_int_equal(loop_add_fd(l, s.fd, EPOLLIN, on_fd_replace, &s), 0);
  assert_int_equal(loop_add_fd(l, s.other, EPOLLIN, on_fd_replace, &s), 0);
  assert_true(loop_turn(l, -1) >= 0);
  assert_int_equal(s.n, 1);
  close(s.fd);
  close(s.other);
  loop_free(l);
}

static void on_timer(void *ctx) {
  struct seen *s = ctx;
  s->n++;
  s->at = clock_now_us();
}

static void on_timer_last(void *ctx) {
  struct seen *s = ctx;
  if (++s->n == 3)
    loop_del_timer(s->l, s->timer);
}

static void test_timers(void **state) {
  struct loop *l;
  (void)state;
  assert_int_equal(loop_new(&l), 0);
  struct seen once = {.l = l}, again = {.l = l}, never = {.l = l};
  usec_t start = clock_now_us();
  int id = loop_add_timer(l, 3000, 0, on_timer, &once);
  assert_true(id > 0);
  again.timer = loop_add_timer(l, 1000, 1000, on_timer_last, &again);
  int gone = loop_add_timer(l, 1000, 0, on_timer, &never);
  loop_del_timer(l, gone);
  while (once.n == 0 || again.n < 3)
    assert_true(loop_turn(l, -1) >= 0);
  assert_true(once.at >= start + 3000);
  assert_int_equal(never.n, 0);
  /* An id is not used again soon: deleting a fired one hits nobody else. */
  int next = loop_add_timer(l, 1000, 0, on_timer, &never);
  assert_int_not_equal(next, id);
  loop_del_timer(l, id);
  while (never.n == 0)
    assert_true(loop_turn(l, -1) >= 0);
  assert_int_equal(loop_add_timer(l, 0, 0, NULL, NULL), -EINVAL);
  assert_int_equal(loop_turn(l, 0), 0);
  assert_int_equal(again.n, 3);
  loop_free(l);
}

static void stop_it(void *ctx) {
  (void)ctx;
  assert_int_equal(kill(getpid(), SIGTERM), 0);
}

static void test_sigterm(void **state) {
  struct loop *l;
  (void)state;
  assert_int_equal(loop_new(&l), 0);
  assert_true(loop_add_timer(l, 0, 0, stop_it, NULL) > 0);
  assert_int_equal(loop_run(l), 0);
  assert_int_equal(loop_stopped(l), 1);
  loop_free(l);
}

static void test_idle(void **state) {
  struct idle i;
  usec_t now = 1000000;
  (void)state;
  idle_init(&i, IDLE_MODE_ADAPTIVE);
  assert_int_equal(idle_next(&i, 1, now), IDLE_WORK);
  for (int k = 0; k < 50; k++)
    assert_int_equal(idle_next(&i, 0, now), IDLE_PAUSE);
  assert_int_equal(idle_next(&i, 0, now + 10), IDLE_YIELD);
  assert_int_equal(idle_next(&i, 1, now + 11), IDLE_WORK); /* work starts it over */
  for (int k = 0; k < 50; k++)
    assert_int_equal(idle_next(&i, 0, now + 12), IDLE_PAUSE);
  assert_int_equal(idle_next(&i, 0, now + 50), IDLE_YIELD);
  assert_int_equal(idle_next(&i, 0, now + 112), IDLE_SLEEP);
  i.no_yield_until = now + 20000; /* somebody needs the core */
  for (int k = 0; k < 50; k++)
    assert_int_equal(idle_next(&i, 0, now + 200), IDLE_PAUSE);
  assert_int_equal(idle_next(&i, 0, now + 201), IDLE_SLEEP);
  usec_t before = clock_now_us();
  assert_true(idle_yield(&i, before) >= before);
  idle_init(&i, IDLE_MODE_POLL);
  for (int k = 0; k < 1000; k++)
    assert_int_equal(idle_next(&i, 0, now += 1000), IDLE_PAUSE);
  idle_init(&i, IDLE_MODE_SLEEP);
  assert_int_equal(idle_next(&i, 1, now), IDLE_WORK);
  assert_int_equal(idle_next(&i, 0, now), IDLE_SLEEP);
}

/* One idle time of `us` µs after a piece of work; returns how many yields it had. */
static int idle_gap(struct idle *i, usec_t *now, usec_t us) {
  int yields = 0;
  usec_t end = *now + us;
  assert_int_equal(idle_next(i, 1, *now), IDLE_WORK);
  while (*now < end) {
    enum idle_step step = idle_next(i, 0, *now);
    yields += step == IDLE_YIELD;
    if (step == IDLE_SLEEP)
      *now = end; /* woken by the next work */
    *now += step == IDLE_YIELD ? 2 : 0;
  }
  return yields;
}

/* Long gaps make yielding useless: it stops, and comes back when gaps are short. */
static void test_idle_learns(void **state) {
  (void)state;
  struct idle i;
  usec_t now = 5000000;
  idle_init(&i, IDLE_MODE_ADAPTIVE);
  assert_true(idle_gap(&i, &now, 500) > 0);
  for (int n = 0; n < 20; n++)
    (void)idle_gap(&i, &now, 500);
  for (int n = 0; n < 32; n++)
    assert_int_equal(idle_gap(&i, &now, 500), 0);
  for (int n = 0; n < 20; n++)
    (void)idle_gap(&i, &now, 20);
  for (int n = 0; n < 32; n++)
    assert_true(idle_gap(&i, &now, 20) > 0);
  assert_true(idle_gap(&i, &now, 500) > 0); /* a single long one is no pattern */
  (void)idle_gap(&i, &now, 20);
  assert_true(idle_gap(&i, &now, 20) > 0);
}

/* An answer that comes soon after each request, requests far apart: yield for the answer, sleep for the request. */
static void test_idle_learns_alternation(void **state) {
  (void)state;
  struct idle i;
  usec_t now = 5000000;
  idle_init(&i, IDLE_MODE_ADAPTIVE);
  for (int n = 0; n < 40; n++) {
    int soon = idle_gap(&i, &now, 30), late = idle_gap(&i, &now, 400);
    if (n < 20)
      continue;
    assert_true(soon > 0);
    assert_int_equal(late, 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fds),
      cmocka_unit_test(test_removed_inside),
      cmocka_unit_test(test_timers),
      cmocka_unit_test(test_sigterm),
      cmocka_unit_test(test_idle),
      cmocka_unit_test(test_idle_learns),
      cmocka_unit_test(test_idle_learns_alternation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
