/*
 * Cases drawn at random from everything the simulator can vary: path, sizes, options, order of closing, want of frames
 * and memory, engine crashes between and inside calls. A failure names its seed; a number as argument runs other seeds
 * (test_sim_random 40000 runs 1 … 40000).
 */
#include "sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned n_cases = 600;

static uint32_t some(struct rng *g, uint32_t below) {
  return (uint32_t)rng_below(g, below);
}

/* v with a chance of 1 in n, else 0. */
static uint32_t one_in(struct rng *g, uint32_t n, uint32_t v) {
  return some(g, n) == 0 ? v : 0;
}

static struct sim_case draw(uint64_t seed) {
  struct rng g;
  rng_init(&g, seed * 7919);
  struct sim_case c = {.seed = seed, .family = seed & 1 ? 6 : 4, .late_by = 3000};
  c.gro = (uint8_t)some(&g, 2);
  for (int i = 0; i < 2; i++) {
    c.bytes[i] = some(&g, 80000);
    c.fifo[i] = 1u << (10 + some(&g, 8));
  }
  c.write_max = 100 + some(&g, 30000);
  c.read_max = 200 + some(&g, 30000);
  c.delay = some(&g, 20000);
  c.jitter = one_in(&g, 2, 1 + some(&g, 9000));
  c.loss = one_in(&g, 2, some(&g, 100000));
  c.dup = one_in(&g, 2, 20000);
  c.corrupt = one_in(&g, 3, 20000);
  c.late = one_in(&g, 3, 10000);
  if (some(&g, 3) == 0) {
    c.rate = 200 + some(&g, 20000);
    c.queue = 5000 + some(&g, 100000);
  }
  c.mtu = one_in(&g, 3, 600 + some(&g, 8400));
  c.close_first = (uint8_t)some(&g, 3);
  c.simultaneous_open = (uint8_t)one_in(&g, 5, 1);
  c.parked = !c.simultaneous_open && one_in(&g, 5, 1);
  c.no_sack = (uint8_t)one_in(&g, 4, 1);
  c.no_ts = (uint8_t)one_in(&g, 4, 1);
  c.no_wscale = (uint8_t)one_in(&g, 4, 1);
  c.blocked = one_in(&g, 4, 50000);
  c.no_chunk = one_in(&g, 4, 50000);
  c.slow_app = one_in(&g, 3, 700000);
  c.crash = one_in(&g, 3, 20000);
  c.crash_in = one_in(&g, 2, 10 + some(&g, 300));
  c.lose_ooo = one_in(&g, 2, 300000);
  c.down = some(&g, 100000);
  c.newreno = (uint8_t)one_in(&g, 3, 1);
  if (some(&g, 4) == 0)
    c.cc = "bbr";
  c.no_logs = (uint8_t)one_in(&g, 6, 1);
  c.ecn = (uint8_t)some(&g, 3);
  c.mark_ce = one_in(&g, 3, 20000);
  c.burst = one_in(&g, 4, 4);
  return c;
}

static void test_random(void **state) {
  (void)state;
  unsigned bad = 0;
  uint64_t crashes = 0;
  for (uint64_t seed = 1; seed <= n_cases; seed++) {
    struct sim_case c = draw(seed);
    struct sim s;
    if (sim_run(&s, &c) < 0) {
      print_error("seed %llu: %s\n", (unsigned long long)seed, s.fault);
      bad++;
    }
    crashes += s.host[0].crashes + s.host[1].crashes;
    sim_fini(&s);
  }
  assert_int_equal(bad, 0);
#ifdef HS_FAULT_POINTS
  assert_true(crashes > n_cases);
#endif
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
  if (argc > 1)
    n_cases = (unsigned)strtoul(argv[1], NULL, 10);
  return cmocka_run_group_tests_name("sim_random", tests, NULL, NULL);
}
