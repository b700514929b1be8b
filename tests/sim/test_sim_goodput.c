/*
 * Goodput under loss against models of the average window, within 15 %. One long transfer per row and no other limit;
 * measured over the last two thirds, so that slow start does not count. Data is lost, ACKs are not.
 *
 * The published formulas, CUBIC's (RFC 9438 5.1 and, where it has more, the Reno-friendly region of 4.3) and NewReno's
 * (Mathis et al. 1997), assume one loss per 1/p packets, at equal distances, and leave out the round trip of recovery
 * in which nothing grows. At 0.1 % that is as the simulation is: each 1/p-th packet is lost. At 1 % and 3 %, where
 * windows are 12 and 7 segments, that round trip is a fifth of all; there packets are lost at random, several losses in
 * one round trip are one reduction, and the two about make up for each other. Random loss at 0.1 % has another mean
 * than the formula: a cubic curve that is not cut down for long rises far above it (a sixth more at 200 ms). Such rows
 * are held against twin(): the equations applied packet by packet to losses drawn at random, with one reduction per
 * round trip. Random rows are means over seeds. SIM_VERBOSE in the environment prints more.
 */
#include "base/bits.h"
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
  uint8_t seeds;
  uint8_t twin; /* held against twin(), not the formula */
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

/* The average window that the equations give when each packet is lost with chance p: fluid growth, one packet after the
 * other at the pace of the window, and for a round trip after a reduction no other. */
static double twin(const struct row *r, uint64_t seed) {
  double p = r->loss / 1e6, rtt = r->rtt / 1e6, w = 10, t = 0, until = 0, w_max = 0, k = 0, epoch = 0, est = 10;
  struct rng g;
  rng_init(&g, seed);
  const unsigned n = 1500000;
  for (unsigned i = 0; i < n; i++) {
    t += rtt / w;
    if (rng_unit(&g) < p && t >= until) {
      until = t + rtt;
      w_max = !r->newreno && w < w_max ? w * 0.85 : w; /* RFC 9438 4.7 */
      w = fmax(w * (r->newreno ? 0.5 : 0.7), 2);
      k = cbrt(fmax(w_max - w, 0) / 0.4);
      epoch = until;
      est = w;
      continue;
    }
    if (t < until)
      continue; /* in recovery */
    if (r->newreno) {
      w += 1 / w;
      continue;
    }
    est += (est < w_max ? 9.0 / 17 : 1) / w;
    double at = t - epoch + rtt - k, target = w_max + 0.4 * at * at * at;
    target = fmin(fmax(target, w), 1.5 * w);
    w = fmax(w + (target - w) / w, est);
  }
  return n / (t / rtt);
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

static void test_goodput(void **state) {
  (void)state;
  static const struct row rows[] = {
      {1000, 40000, 1, 1, 20000000, 1, 0},  {1000, 100000, 1, 1, 20000000, 1, 0}, {10000, 40000, 1, 0, 6000000, 3, 0},
      {10000, 100000, 1, 0, 6000000, 3, 0}, {30000, 40000, 1, 0, 3000000, 3, 0},  {30000, 100000, 1, 0, 3000000, 3, 0},
      {1000, 40000, 0, 1, 20000000, 1, 0},  {1000, 100000, 0, 1, 20000000, 1, 0}, {10000, 40000, 0, 0, 6000000, 3, 0},
      {10000, 100000, 0, 0, 6000000, 3, 0}, {30000, 40000, 0, 0, 3000000, 3, 0},  {30000, 100000, 0, 0, 3000000, 3, 0},
      {1000, 200000, 0, 1, 30000000, 1, 0}, {500, 200000, 0, 1, 30000000, 1, 0},  {1000, 100000, 1, 0, 20000000, 3, 1},
      {1000, 200000, 0, 0, 30000000, 4, 1}, {1000, 40000, 0, 0, 20000000, 4, 1},
  };
  unsigned bad = 0;
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    const struct row *r = &rows[i];
    double got = 0, want = r->twin ? twin(r, 5 + i) : model(r);
    for (unsigned k = 0; k < r->seeds; k++)
      got += measured(r, 2000 + i * 10 + k) / r->seeds;
    print_message("%-7s %5.2f %% loss %s, rtt %3u ms: window %6.2f segments, %s %6.2f, %3.0f %%\n",
                  r->newreno ? "newreno" : "cubic", r->loss / 1e4, r->periodic ? "periodic" : "random  ", r->rtt / 1000,
                  got, r->twin ? "twin   " : "formula", want, 100 * got / want);
    bad += got < 0.85 * want || got > 1.15 * want;
  }
  assert_int_equal(bad, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_goodput)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
