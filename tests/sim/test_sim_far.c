/*
 * BBR over a fast and long path: 200 Mbit/s, 50 ms there and back, a queue of one bandwidth-delay product. STARTUP
 * overflows it by hundreds of packets in a round trip, with as many holes; and what lies beyond them fills a send
 * buffer of 4 MB. Neither may keep BBR from finding the pipe full: the first seconds are what most transfers have.
 * Seeds are given, time is virtual. SIM_VERBOSE prints figures.
 */
#include "base/bits.h"
#include "sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define RATE  25000u /* bytes per ms: 200 Mbit/s */
#define DELAY 25000u /* µs one way */
#define SHOWN 2u     /* seconds */

enum { STARTUP, DRAIN, PROBE_BW };

struct result {
  double rate;       /* Mbit/s that were read in the first seconds */
  usec_t filled_at;  /* when STARTUP was over */
  uint32_t bw;       /* the model's, at the end */
  uint32_t n_sent;   /* longest list of what is out */
  uint32_t n_sacked; /* longest scoreboard */
};

static struct result far(uint64_t seed, uint32_t loss) {
  static struct sim s;
  struct result r = {0};
  struct sim_case c = {.seed = seed,
                       .family = 4,
                       .cc = "bbr",
                       .bytes = {100000000, 0},
                       .fifo = {1u << 22, 1u << 24},
                       .write_max = 1u << 22,
                       .read_max = 1u << 24,
                       .delay = DELAY,
                       .rate = RATE,
                       .queue = RATE * DELAY * 2 / 1000,
                       .loss = loss};
  int rc = sim_begin(&s, &c, NULL);
  usec_t begun = s.now;
  while (rc >= 0 && s.now - begun < SHOWN * 1000000u && (rc = sim_step(&s)) > 0) {
    const struct tcp_conn *k = s.host[0].conn;
    if (k == NULL || k->b == NULL)
      continue;
    r.n_sent = HS_MAX(r.n_sent, k->n_sent);
    r.n_sacked = HS_MAX(r.n_sacked, k->b->board.n);
    r.bw = k->b->bbr.max[0].bw;
    if (r.filled_at == 0 && k->b->bbr.mode == PROBE_BW)
      r.filled_at = s.now - begun;
  }
  if (rc < 0)
    print_error("%s\n", s.fault);
  assert_int_equal(rc, 1);
  r.rate = (double)s.host[1].read * 8 / SHOWN / 1e6;
  if (getenv("SIM_VERBOSE") != NULL)
    print_message(
        "seed %u, %u ppm lost: %.1f Mbit/s in %u s, STARTUP ended after %u ms, bw %u, entries %u, ranges %u\n",
        (unsigned)seed, loss, r.rate, SHOWN, (unsigned)(r.filled_at / 1000), r.bw, r.n_sent, r.n_sacked);
  sim_fini(&s);
  return r;
}

/* Nothing but what STARTUP itself loses. */
static void test_startup_ends(void **state) {
  (void)state;
  struct result r = far(5, 0);
  assert_in_range(r.filled_at, 500000, 900000); /* 500 ms for the rate, 3 rounds of a full queue to be sure */
  assert_true(r.rate > 152);
  assert_in_range(r.bw, RATE * 930, RATE * 1000);
}

static double mean(const uint64_t *seeds, unsigned n, uint32_t loss) {
  double sum = 0;
  for (unsigned i = 0; i < n; i++)
    sum += far(seeds[i], loss).rate;
  return sum / n;
}

static void test_few_losses(void **state) {
  static const uint64_t seeds[] = {3, 4};
  (void)state;
  assert_true(mean(seeds, ARRAY_LEN(seeds), 1000) > 145);
}

/* 40 losses in a round trip: each hole and what is sent again is known by itself. */
static void test_many_losses(void **state) {
  static const uint64_t seeds[] = {2, 5};
  (void)state;
  assert_true(mean(seeds, ARRAY_LEN(seeds), 50000) > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_startup_ends),
      cmocka_unit_test(test_few_losses),
      cmocka_unit_test(test_many_losses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
