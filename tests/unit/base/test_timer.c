/*
 * Timing wheel: exactness, lazy re-set, limits per call, callbacks that set and cancel, far times.
 */
#include "base/bits.h"
#include "base/timer.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

#define MS 1000ull
#define S  1000000ull

static struct timer_wheel wheel;
static unsigned order[64], n_fired;

static void note(struct timer_ent *ent, void *ctx) {
  (void)ctx;
  assert_false(timer_armed(ent));
  if (n_fired < ARRAY_LEN(order))
    order[n_fired] = ent->user;
  n_fired++;
}

static int setup(void **state) {
  (void)state;
  timer_wheel_init(&wheel, 10 * S);
  n_fired = 0;
  return 0;
}

static unsigned advance(usec_t now) {
  return timer_advance(&wheel, now, note, NULL, UINT32_MAX);
}

static void fires_at_its_tick_never_early(void **state) {
  (void)state;
  struct timer_ent e = {.user = 1};
  assert_true(timer_next(&wheel) == TIMER_NEVER);
  timer_set(&wheel, &e, 10 * S + 5 * MS + 1);
  assert_true(timer_armed(&e));
  assert_true(timer_expires(&e) == 10 * S + 5 * MS + 1);
  assert_true(timer_next(&wheel) == 10 * S + 6 * MS);
  assert_int_equal(advance(10 * S + 5 * MS + 999), 0);
  assert_int_equal(advance(10 * S + 6 * MS), 1);
  assert_int_equal(advance(20 * S), 0);
  assert_int_equal(wheel.tick, 20 * S / MS); /* idle time is skipped */
  assert_true(timer_expires(&e) == TIMER_NEVER);
  assert_int_equal(wheel.count, 0);
}

static void order_is_by_tick(void **state) {
  (void)state;
  static const usec_t at[] = {700 * MS, 5 * MS, 64 * MS, 63 * MS, 3600 * S, 65 * MS, 4096 * MS, 5 * MS};
  static const unsigned want[] = {1, 7, 3, 2, 5, 0, 6, 4};
  struct timer_ent e[ARRAY_LEN(at)];
  memset(e, 0, sizeof e);
  for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
    e[i].user = i;
    timer_set(&wheel, &e[i], 10 * S + at[i]);
  }
  assert_int_equal(advance(10 * S + 3600 * S), ARRAY_LEN(at));
  assert_memory_equal(order, want, sizeof want);
}

static void later_is_lazy_and_earlier_is_exact(void **state) {
  (void)state;
  struct timer_ent e = {.user = 1};
  timer_set(&wheel, &e, 10 * S + 100 * MS);
  uint16_t where = e.where;
  for (unsigned i = 1; i <= 1000; i++)
    timer_set(&wheel, &e, 10 * S + 100 * MS + i * MS);
  assert_int_equal(e.where, where); /* untouched */
  assert_int_equal(wheel.count, 1);
  assert_int_equal(advance(10 * S + 1099 * MS), 0);
  assert_int_equal(advance(10 * S + 1100 * MS), 1);
  timer_set(&wheel, &e, 20 * S);
  timer_set(&wheel, &e, 12 * S);
  assert_int_equal(advance(12 * S - 1), 0);
  assert_int_equal(advance(12 * S), 1);
}

static void cancel_and_never(void **state) {
  (void)state;
  struct timer_ent a = {.user = 1}, b = {.user = 2};
  timer_cancel(&wheel, &a);
  timer_set(&wheel, &a, 11 * S);
  timer_set(&wheel, &b, 11 * S);
  timer_cancel(&wheel, &a);
  timer_set(&wheel, &b, 0);
  assert_int_equal(wheel.count, 0);
  assert_true(timer_next(&wheel) == TIMER_NEVER);
  timer_set(&wheel, &a, TIMER_NEVER);
  assert_false(timer_armed(&a));
  assert_int_equal(advance(30 * S), 0);
}

static void past_fires_at_next_advance(void **state) {
  (void)state;
  struct timer_ent e = {.user = 1};
  timer_set(&wheel, &e, 1);
  assert_true(timer_next(&wheel) <= 10 * S);
  assert_int_equal(advance(10 * S), 1);
  timer_set(&wheel, &e, 1);
  timer_set(&wheel, &e, 10 * S + 3 * MS); /* re-armed while due */
  assert_int_equal(advance(10 * S), 0);
  assert_int_equal(advance(10 * S + 3 * MS), 1);
}

static void max_stops_and_goes_on(void **state) {
  (void)state;
  struct timer_ent e[50];
  memset(e, 0, sizeof e);
  for (unsigned i = 0; i < 50; i++)
    timer_set(&wheel, &e[i], 10 * S + (i / 10) * MS + MS);
  usec_t now = 10 * S + 30 * MS;
  assert_int_equal(timer_advance(&wheel, now, note, NULL, 0), 0);
  assert_int_equal(timer_advance(&wheel, now, note, NULL, 15), 15);
  assert_true(timer_next(&wheel) <= now);
  timer_cancel(&wheel, &e[16]); /* waits on the run list */
  assert_int_equal(timer_advance(&wheel, now, note, NULL, 15), 15);
  assert_int_equal(timer_advance(&wheel, now, note, NULL, 1000), 19);
  assert_true(timer_next(&wheel) == TIMER_NEVER);
}

static struct timer_ent pair[3];

static void meddle(struct timer_ent *ent, void *ctx) {
  (void)ctx;
  n_fired++;
  if (ent == &pair[0]) {
    timer_cancel(&wheel, &pair[1]);
    timer_set(&wheel, &pair[2], wheel.tick * TIMER_TICK_US + 5 * MS);
    timer_set(&wheel, ent, 1); /* past: not in this call */
  }
}

static void callbacks_set_and_cancel(void **state) {
  (void)state;
  memset(pair, 0, sizeof pair);
  for (unsigned i = 0; i < 3; i++)
    timer_set(&wheel, &pair[i], 10 * S + MS);
  assert_int_equal(timer_advance(&wheel, 10 * S + MS, meddle, NULL, 100), 1);
  assert_false(timer_armed(&pair[1]));
  assert_int_equal(timer_advance(&wheel, 10 * S + MS, meddle, NULL, 100), 1);
  timer_cancel(&wheel, &pair[0]);
  assert_int_equal(timer_advance(&wheel, 10 * S + 6 * MS, meddle, NULL, 100), 1);
  assert_int_equal(wheel.count, 0);
}

static void far_times_and_long_idle(void **state) {
  (void)state;
  struct timer_ent e[3] = {{.user = 0}, {.user = 1}, {.user = 2}};
  usec_t year = 365ull * 86400 * S;
  timer_set(&wheel, &e[0], 100 * year);
  timer_set(&wheel, &e[1], year);
  timer_set(&wheel, &e[2], 10 * S + 1);
  assert_int_equal(advance(year - 1), 1);
  assert_int_equal(advance(year), 1);
  assert_int_equal(advance(100 * year - MS), 0);
  assert_int_equal(advance(100 * year), 1);
  assert_int_equal(advance(10 * S), 0); /* a clock that goes back does nothing */
}

static usec_t last_fired;

static void note_order(struct timer_ent *ent, void *ctx) {
  (void)ctx;
  assert_true(ent->expires >= last_fired);
  last_fired = ent->expires;
  n_fired++;
}

static void many_in_bounded_steps(void **state) {
  (void)state;
  const unsigned n = 200000;
  struct timer_ent *e = calloc(n, sizeof *e);
  assert_non_null(e);
  for (unsigned i = 0; i < n; i++) /* all in one far slot, to be spread in portions */
    timer_set(&wheel, &e[i], 10 * S + 7200 * S + (i % 50) * MS);
  usec_t now = 10 * S + 7200 * S + 50 * MS;
  unsigned calls = 0;
  last_fired = 0;
  do {
    unsigned fired = timer_advance(&wheel, now, note_order, NULL, 1000);
    assert_true(fired <= 1000);
    calls++;
  } while (timer_next(&wheel) <= now && calls < 100000);
  assert_int_equal(n_fired, n);
  assert_int_equal(wheel.count, 0);
  assert_true(calls >= n / 1000);
  free(e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(fires_at_its_tick_never_early, setup),
      cmocka_unit_test_setup(order_is_by_tick, setup),
      cmocka_unit_test_setup(later_is_lazy_and_earlier_is_exact, setup),
      cmocka_unit_test_setup(cancel_and_never, setup),
      cmocka_unit_test_setup(past_fires_at_next_advance, setup),
      cmocka_unit_test_setup(max_stops_and_goes_on, setup),
      cmocka_unit_test_setup(callbacks_set_and_cancel, setup),
      cmocka_unit_test_setup(far_times_and_long_idle, setup),
      cmocka_unit_test_setup(many_in_bounded_steps, setup),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
