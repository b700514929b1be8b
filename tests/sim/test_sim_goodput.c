/*
 * Goodput under loss against models of the average window, within 15 %. One long transfer per row and no other limit;
 * measured over the last two thirds, so that slow start does not count. Data is lost, ACKs are not.
 *
 * The published formulas, CUBIC's (RFC 9438 5.1 and, where it has more, the Reno-friendly region of 4.3) and NewReno's
 * (Mathis et al. 1997), assume one loss per 1/p packets, at equal distances ("deterministic loss model", RFC 9438 5.1),
 * and leave out the round trip of recovery in which nothing grows. At 0.1 % that is as the simulation is: each 1/p-th
 * packet is lost. At 1 % and 3 %, where windows are 12 and 7 segments, that round trip is a fifth of all; there packets
 * are lost at random, several losses in one round trip are one reduction, and the two about make up for each other.
 * NewReno meets its formula at random 0.1 %, too. CUBIC has another mean there: a curve that is not cut down for long
 * rises far above the formula's. By how much is computed (cubic_chain.c), for the same loss process and without random
 * numbers; test_chain shows that this gives the formulas themselves when losses are at equal distances. Those rows are
 * held against it. Random rows are means over seeds; "<-" marks what a row is held against. `sim_tcp_goodput full` (in
 * `make sim`, docs/SIM.md) has two dozen seeds for every row. SIM_VERBOSE in the environment prints more.
 */
#include "base/bits.h"
#include "cubic_chain.h"
#include "sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MTU     576u
#define PAYLOAD (MTU - 20.0 - 20.0 - 12.0)

struct row {
  uint32_t loss, rtt; /* ppm, µs */
  uint8_t newreno, periodic;
  uint32_t bytes;
  uint8_t seeds;
  uint8_t chain; /* held against chain(), not the formula */
};

/* Segments. */
static double model(const struct row *r) {
  double p = r->loss / 1e6, rtt = r->rtt / 1e6;
  if (r->newreno)
    return sqrt(1.5 / p); /* Mathis, without delayed ACKs: growth is by bytes (RFC 3465) */
  double cubic = pow(0.4 * 3.7 / (4 * 0.3), 0.25) * pow(rtt / p, 0.75); /* RFC 9438 5.1 */
  double reno = sqrt(9.0 / 17 * 1.7 / (2 * 0.3 * p));                   /* RFC 9438 4.3: AIMD(9/17, 0.7) */
  return fmax(cubic, reno);
}

/* What the same rules give when each packet is lost with chance p: computed, see cubic_chain.c. */
static double chain(const struct row *r) {
  return cubic_chain_mean(r->newreno ? CUBIC_CHAIN_RENO : CUBIC_CHAIN_FRIENDLY, r->loss / 1e6, r->rtt / 1e6, 0);
}

/* Segments per round trip, measured. */
static double measured(const struct row *r, uint64_t seed) {
  struct sim_case c = {.seed = seed,
                       .family = 4,
                       .bytes = {r->bytes, 0},
                       .fifo = {SIM_FIFO_MAX, SIM_FIFO_MAX},
                       .write_max = SIM_FIFO_MAX,
                       .read_max = SIM_FIFO_MAX,
                       .delay = r->rtt / 2,
                       .loss = r->periodic ? 0 : r->loss,
                       .lose_every = r->periodic ? 1000000 / r->loss : 0,
                       .data_only = 1,
                       .mark = r->bytes / 3,
                       .mtu = MTU,
                       .delack = 1000, /* the formulas know no delayed ACKs */
                       .newreno = r->newreno};
  struct sim s;
  int rc = sim_run(&s, &c);
  if (rc < 0)
    print_error("%s\n", s.fault);
  assert_int_equal(rc, 0);
  double w = (r->bytes - r->bytes / 3) / PAYLOAD / ((double)(s.host[1].read_all_at - s.host[1].mark_at) / r->rtt);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("   seed %llu: %.2f segments, rto %llu, recoveries %llu, undo %llu, tail probes %llu, again %llu\n",
                  (unsigned long long)seed, w, (unsigned long long)s.host[0].counters[TCP_C_rto],
                  (unsigned long long)s.host[0].counters[TCP_C_fast_recovery],
                  (unsigned long long)s.host[0].counters[TCP_C_undo],
                  (unsigned long long)s.host[0].counters[TCP_C_tail_probes],
                  (unsigned long long)s.host[0].counters[TCP_C_rexmit_lost]);
  sim_fini(&s);
  return w;
}

/* Runs one row with `seeds` seeds; 1 if it is off by more than 15 %. */
static unsigned judge(const struct row *r, unsigned i, unsigned seeds) {
  double got = 0, formula = model(r), other = r->periodic ? 0 : chain(r), want = r->chain ? other : formula;
  for (unsigned k = 0; k < seeds; k++)
    got += measured(r, 2000 + i * 100 + k) / seeds;
  print_message("%-7s %4.1f %% loss %s, rtt %3u ms, %2u runs: window %6.2f segments; formula %6.2f, %3.0f %%%s",
                r->newreno ? "newreno" : "cubic", r->loss / 1e4, r->periodic ? "periodic" : "random  ", r->rtt / 1000,
                seeds, got, formula, 100 * got / formula, r->chain ? "" : " <-");
  if (!r->periodic)
    print_message("; computed %6.2f, %3.0f %%%s", other, 100 * got / other, r->chain ? " <-" : "");
  print_message("\n");
  return got < 0.85 * want || got > 1.15 * want;
}

/* With losses at equal distances the computation gives what is published; at random, more for CUBIC. */
static void test_chain(void **state) {
  (void)state;
  for (unsigned i = 0; i < 3; i++) {
    struct row r = {.loss = i == 1 ? 10000 : 1000, .rtt = 200000, .newreno = i == 2};
    double p = r.loss / 1e6, rtt = r.rtt / 1e6;
    double formula = r.newreno ? model(&r) : pow(0.4 * 3.7 / (4 * 0.3), 0.25) * pow(rtt / p, 0.75);
    enum cubic_chain_rule rule = r.newreno ? CUBIC_CHAIN_RENO : CUBIC_CHAIN_CURVE;
    double even = cubic_chain_mean(rule, p, rtt, 1), random = cubic_chain_mean(rule, p, rtt, 0);
    print_message("%-7s %4.1f %% loss, rtt %3u ms: formula %6.2f; computed %6.2f at equal distances, %6.2f at random\n",
                  r.newreno ? "newreno" : "cubic", r.loss / 1e4, r.rtt / 1000, formula, even, random);
    assert_true(fabs(even - formula) < 0.03 * formula);
    assert_true(random > even && random < 1.3 * even);
  }
}

static void test_goodput(void **state) {
  (void)state;
  static const struct row rows[] = {
      {1000, 40000, 1, 1, 20000000, 1, 0},  {1000, 100000, 1, 1, 20000000, 1, 0}, {10000, 40000, 1, 0, 6000000, 3, 0},
      {10000, 100000, 1, 0, 6000000, 3, 0}, {30000, 40000, 1, 0, 3000000, 3, 0},  {30000, 100000, 1, 0, 3000000, 3, 0},
      {1000, 40000, 0, 1, 20000000, 1, 0},  {1000, 100000, 0, 1, 20000000, 1, 0}, {10000, 40000, 0, 0, 6000000, 3, 0},
      {10000, 100000, 0, 0, 6000000, 3, 0}, {30000, 40000, 0, 0, 3000000, 3, 0},  {30000, 100000, 0, 0, 3000000, 3, 0},
      {1000, 200000, 0, 1, 30000000, 1, 0}, {500, 200000, 0, 1, 30000000, 1, 0},  {1000, 100000, 1, 0, 20000000, 3, 0},
      {1000, 200000, 0, 0, 30000000, 5, 1}, {1000, 40000, 0, 0, 20000000, 3, 1},  {1000, 100000, 0, 0, 20000000, 4, 1},
  };
  unsigned bad = 0;
  for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
    bad += judge(&rows[i], i, rows[i].seeds);
  assert_int_equal(bad, 0);
}

/* All losses, three round trips, both controls, two dozen seeds. */
static void test_goodput_full(void **state) {
  (void)state;
  static const struct row losses[] = {{1000, 0, 0, 1, 20000000, 1, 0},
                                      {1000, 0, 0, 0, 20000000, 24, 0},
                                      {10000, 0, 0, 0, 6000000, 24, 0},
                                      {30000, 0, 0, 0, 3000000, 24, 0}};
  static const uint32_t rtts[] = {40000, 100000, 200000};
  unsigned bad = 0;
  for (unsigned i = 0; i < 2 * ARRAY_LEN(losses) * ARRAY_LEN(rtts); i++) {
    struct row r = losses[i / 3 % 4];
    r.rtt = rtts[i % 3];
    r.newreno = i < 12;
    r.chain = !r.newreno && !r.periodic && r.loss == 1000;
    bad += judge(&r, 100 + i, r.seeds);
  }
  assert_int_equal(bad, 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_chain), cmocka_unit_test(test_goodput)},
                          all[] = {cmocka_unit_test(test_chain), cmocka_unit_test(test_goodput_full)};
  int full = argc > 1 && strcmp(argv[1], "full") == 0;
  if (full)
    return cmocka_run_group_tests_name("sim_goodput full", all, NULL, NULL);
  return cmocka_run_group_tests_name("sim_goodput", tests, NULL, NULL);
}
