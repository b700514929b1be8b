/*
 * The crash model of TCP: engines die at random, between calls and inside them at every FAULT_POINT of the room, and a
 * successor adopts the connection from its durable half and the fifo cursors. Bytes are still exact, nobody sees an
 * error, nothing is stuck. The last test walks the list of fault points linked into this program, so that a new one is
 * covered without being named here, and insists that each one of the TCP core was hit.
 */
#include "sim.h"

#include "base/bits.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sim_case base_case(uint64_t seed) {
  return (struct sim_case){.seed = seed,
                           .family = seed & 1 ? 6 : 4,
                           .gro = (seed & 2) != 0,
                           .bytes = {60000, 60000},
                           .fifo = {1u << 15, 1u << 16},
                           .write_max = 9000,
                           .read_max = 20000,
                           .delay = 1000,
                           .jitter = seed % 3 ? 100 : 2000,
                           .loss = seed % 5 ? 10000 : 50000,
                           .dup = 10000,
                           .corrupt = 5000,
                           .close_first = (uint8_t)(seed % 3),
                           .simultaneous_open = seed % 7 == 3,
                           .parked = seed % 7 == 5,
                           .urgent = seed % 2 ? 200000 : 0,
                           .no_sack = seed % 8 == 6,
                           .no_ts = seed % 9 == 7,
                           .down = 30000};
}

static uint32_t run(const struct sim_case *c, const char *what) {
  struct sim s;
  int r = sim_run(&s, c);
  uint32_t crashes = s.host[0].crashes + s.host[1].crashes;
  if (r < 0)
    print_error("%s seed %llu: %s\n", what, (unsigned long long)c->seed, s.fault);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("%-28s seed %4llu: %9.1f ms, %6llu steps, %3u crashes, delivered %llu\n", what,
                  (unsigned long long)c->seed, (double)s.now / 1000, (unsigned long long)s.steps, crashes,
                  (unsigned long long)s.delivered);
  sim_fini(&s);
  assert_int_equal(r, 0);
  return crashes;
}

static void test_between_calls(void **state) {
  (void)state;
  uint32_t crashes = 0;
  for (uint64_t seed = 1; seed <= 100; seed++) {
    struct sim_case c = base_case(seed);
    c.crash = 20000;
    crashes += run(&c, "between");
  }
  assert_true(crashes > 300);
}

static void test_inside(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  uint32_t crashes = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) {
    struct sim_case c = base_case(1000 + seed);
    c.crash_in = seed % 2 ? 25 : 100;
    crashes += run(&c, "inside");
  }
  assert_true(crashes > 500);
}

/* The successor does not keep the out-of-order ranges: SACK reneging, which costs the peer an RTO at worst. */
static void test_reneging(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct sim_case c = base_case(2000 + seed);
    c.crash = 30000;
    c.lose_ooo = 1000000;
    c.loss = 50000;
    c.no_sack = 0;
    run(&c, "reneging");
  }
}

/* The client aborts in the middle; engines die all the while. */
static void test_abort(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 30; seed++) {
    struct sim_case c = base_case(5000 + seed);
    c.abort_at = 20000;
    c.close_first = 0;
    c.bytes[1] = 4000000;
    c.crash_in = 50;
    run(&c, "abort");
  }
}

/* Nothing is lost on the path and the engine is back at once: a crash costs little. */
static void test_clean_path(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 10; seed++) {
    struct sim_case c = base_case(3000 + seed);
    c.loss = c.dup = c.corrupt = c.jitter = 0;
    c.crash_in = 60;
    c.down = 0;
    run(&c, "clean path");
  }
}

/* Every fault point by itself, often: in a case that is likely to come past it. */
static void test_each_point(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  const char *names[128];
  size_t n = fault_list(names, ARRAY_LEN(names)), missed = 0;
  assert_true(n > 20 && n <= ARRAY_LEN(names));
  for (size_t i = 0; i < n; i++) {
    if (strncmp(names[i], "tcp.", 4) != 0 || strcmp(names[i], "tcp.options.stored") == 0)
      continue; /* options: no app sets any here; test_options covers it */
    if (strncmp(names[i], "tcp.tfo.", 8) == 0)
      continue; /* data in a SYN: sim_tfo.c */
    uint32_t crashes = 0;
    for (uint64_t seed = 1; seed <= 24 && crashes < 6; seed++) {
      struct sim_case c = base_case(4000 + seed);
      c.bytes[0] = c.bytes[1] = 30000;
      c.loss = 50000;
      c.jitter = 3000;
      c.no_sack = 0;
      /* elsewhere not: an engine that dies after each few of many small segments gets nowhere */
      c.urgent = strncmp(names[i], "tcp.urgent.", 11) == 0 ? 200000 : 0;
      c.crash_at = names[i];
      c.crash_in = 1 + (uint32_t)(seed % 3);
      if (strcmp(names[i], "tcp.close.error") == 0 || strcmp(names[i], "tcp.close.aborted") == 0) {
        c.abort_at = 5000;
        c.close_first = 0;
        c.bytes[1] = 4000000; /* the server never stops by itself: it notices */
      }
      crashes += run(&c, names[i]);
    }
    if (crashes == 0) {
      print_error("fault point %s was never passed\n", names[i]);
      missed++;
    }
  }
  assert_int_equal(missed, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_between_calls), cmocka_unit_test(test_inside), cmocka_unit_test(test_reneging),
      cmocka_unit_test(test_clean_path),    cmocka_unit_test(test_abort),  cmocka_unit_test(test_each_point),
  };
  return cmocka_run_group_tests_name("sim_crash", tests, NULL, NULL);
}
