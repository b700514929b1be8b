/*
 * Goodput under loss against the published models of the average window: CUBIC (RFC 9438 5.1 and, where it has more,
 * the Reno-friendly region of 4.3) and NewReno (Mathis et al.), within 15 %. One long transfer per row and no other
 * limit; measured over the last two thirds, so that slow start does not count. Data is lost, ACKs are not. At 0.1 %
 * and less the losses are periodic, as the models assume: a transfer of this length sees too few for a mean of random
 * ones, and that of a cubic curve is another then (about a third more). SIM_VERBOSE in the environment prints more.
 */
#include "sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MTU     576u
#define PAYLOAD (MTU - 20.0 - 20.0 - 12.0)

struct row {
  uint32_t loss, rtt; /* ppm, µs */
  uint8_t newreno, periodic;
  uint32_t bytes;
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

static void test_goodput(void **state) {
  (void)state;
  static const struct row rows[] = {
      {1000, 40000, 1, 1, 20000000},  {1000, 100000, 1, 1, 20000000}, {10000, 40000, 1, 0, 8000000},
      {10000, 100000, 1, 0, 8000000}, {30000, 40000, 1, 0, 5000000},  {30000, 100000, 1, 0, 5000000},
      {1000, 40000, 0, 1, 20000000},  {1000, 100000, 0, 1, 20000000}, {10000, 40000, 0, 0, 8000000},
      {10000, 100000, 0, 0, 8000000}, {30000, 40000, 0, 0, 5000000},  {30000, 100000, 0, 0, 5000000},
      {1000, 200000, 0, 1, 30000000}, {500, 200000, 0, 1, 30000000},
  };
  unsigned bad = 0;
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    double want = model(&rows[i]), got = measured(&rows[i], 2000 + i);
    print_message("%-7s %5.2f %% loss %s, rtt %3u ms: window %6.2f segments, model %6.2f, %3.0f %%\n",
                  rows[i].newreno ? "newreno" : "cubic", rows[i].loss / 1e4, rows[i].periodic ? "periodic" : "random  ",
                  rows[i].rtt / 1000, got, want, 100 * got / want);
    bad += got < 0.85 * want || got > 1.15 * want;
  }
  assert_int_equal(bad, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_goodput)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
