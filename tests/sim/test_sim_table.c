/*
 * The grid: congestion controls over paths drawn from loss 0–30 % (single and in bursts), delay 0–300 ms, jitter,
 * reordering, duplication, corruption, rates from 1 Mbit/s to 10 Gbit/s, MTU 576–9000, ECN marks, both address
 * families. Every byte is compared; how long each transfer takes (virtual time, so the same on every machine) is held
 * against the golden table golden/grid.txt: none may take a quarter longer, none of the controls 3 % in the mean.
 *
 * A row's path follows from its number alone. After a change that is meant to change times: `sim_tcp_table write` (from
 * the build folder: tests/sim/sim_tcp_table write) writes the table anew; its diff is part of the change.
 */
#include "base/bits.h"
#include "sim.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROWS          96u
#define PICK(g, list) ((list)[rng_below((g), ARRAY_LEN(list))])

static const char *const cc_names[] = {"newreno", "cubic", "bbr"};
static int writes;

struct outcome {
  uint64_t us, rexmit, rto;
};

/* Path number `row`. */
static struct sim_case grid_case(uint32_t row, const char *cc) {
  static const uint32_t loss[] = {0, 0, 0, 1000, 10000, 30000, 50000, 100000, 300000};
  static const uint32_t delay[] = {0, 50, 500, 5000, 20000, 50000, 150000};             /* one way, µs */
  static const uint32_t rate[] = {125, 1250, 2500, 12500, 125000, 1250000, 1250000, 0}; /* bytes per ms */
  static const uint32_t mtu[] = {576, 1280, 1500, 1500, 4000, 9000};
  struct rng g;
  rng_init(&g, 77000 + row);
  struct sim_case c = {.seed = 900 + row, .cc = cc, .fifo = {1u << 19, 1u << 19}};
  c.write_max = c.read_max = 1u << 19;
  c.patient = 1;
  c.mtu = PICK(&g, mtu);
  c.family = c.mtu >= 1280 && rng_below(&g, 2) ? 6 : 4;
  c.loss = PICK(&g, loss);
  c.burst = rng_below(&g, 3) == 0 ? 4 : 0;
  c.delay = PICK(&g, delay);
  c.rate = PICK(&g, rate);
  if (c.rate)
    c.queue = HS_MAX(20 * c.mtu, c.rate * 2 * c.delay / 1000);
  c.jitter = rng_below(&g, 4) == 0 ? 1 + c.delay / 10 : 0;
  c.late = rng_below(&g, 4) == 0 ? 10000 : 0;
  c.late_by = c.delay / 4 + 100;
  c.dup = rng_below(&g, 5) == 0 ? 10000 : 0;
  c.corrupt = rng_below(&g, 5) == 0 ? 5000 : 0;
  if (rng_below(&g, 3) == 0) {
    c.ecn = TCP_ECN_ON;
    c.mark_queue = c.queue / 3;
    c.mark_ce = c.rate ? 0 : 5000;
  }
  c.gro = rng_below(&g, 4) == 0;
  c.no_sack = rng_below(&g, 8) == 0;
  c.no_ts = rng_below(&g, 8) == 0;
  c.bytes[0] = c.loss >= 100000 ? 60000 : c.rate && c.rate < 2500 ? 200000 : 700000;
  c.bytes[1] = 1000;
  return c;
}

static struct outcome grid_run(uint32_t row, const char *cc) {
  struct sim s;
  struct sim_case c = grid_case(row, cc);
  int r = sim_run(&s, &c);
  if (r < 0)
    print_error("row %u %s: %s\n", row, cc, s.fault);
  assert_int_equal(r, 0);
  struct outcome o = {.us = s.host[1].read_all_at - 1000000,
                      .rexmit = s.host[0].totals[TCP_C_rexmit_segs] + s.host[0].counters[TCP_C_rexmit_segs],
                      .rto = s.host[0].totals[TCP_C_rto] + s.host[0].counters[TCP_C_rto]};
  sim_fini(&s);
  return o;
}

static void grid_describe(FILE *f, uint32_t row) {
  struct sim_case c = grid_case(row, "cubic");
  fprintf(f, "# %u: %u bytes, IPv%u, mtu %u, loss %.1f %%%s, delay %.2f ms, rate %.0f Mbit/s%s%s%s%s%s%s%s%s\n", row,
          c.bytes[0], c.family, c.mtu, c.loss / 1e4, c.burst && c.loss ? " in bursts" : "", c.delay / 1e3,
          c.rate * 8 / 1e3, c.jitter ? ", jitter" : "", c.late ? ", reordering" : "", c.dup ? ", duplicates" : "",
          c.corrupt ? ", corruption" : "", c.ecn ? ", ECN" : "", c.gro ? ", GRO" : "", c.no_sack ? ", no SACK" : "",
          c.no_ts ? ", no timestamps" : "");
}

static void grid_write(void) {
  FILE *f = fopen(SIM_GOLDEN, "w");
  assert_non_null(f);
  fprintf(f,
          "# Written by `sim_tcp_table write`. row, control, µs until the last byte is read, retransmissions, RTOs\n");
  for (uint32_t row = 0; row < ROWS; row++) {
    grid_describe(f, row);
    for (unsigned k = 0; k < ARRAY_LEN(cc_names); k++) {
      struct outcome o = grid_run(row, cc_names[k]);
      fprintf(f, "%u %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", row, cc_names[k], o.us, o.rexmit, o.rto);
    }
  }
  assert_int_equal(fclose(f), 0);
}

static void test_grid(void **state) {
  (void)state;
  if (writes) {
    grid_write();
    return;
  }
  FILE *f = fopen(SIM_GOLDEN, "r");
  char line[400], cc[16];
  unsigned row, rows = 0, bad = 0;
  uint64_t us;
  double sum[ARRAY_LEN(cc_names)] = {0};
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL) {
    if (line[0] == '#')
      continue;
    assert_int_equal(sscanf(line, "%u %15s %" SCNu64, &row, cc, &us), 3);
    unsigned k = rows % ARRAY_LEN(cc_names);
    assert_string_equal(cc, cc_names[k]);
    assert_int_equal(row, rows / ARRAY_LEN(cc_names));
    struct outcome o = grid_run(row, cc_names[k]);
    sum[k] += log((double)(o.us + 1000) / (double)(us + 1000)); /* a ms is a difference nobody sees */
    if (o.us > us + us / 4 + 1000) {
      print_error("row %u %s: %" PRIu64 " us, golden %" PRIu64 "\n", row, cc, o.us, us);
      bad++;
    }
    rows++;
  }
  (void)fclose(f);
  assert_int_equal(rows, ROWS * ARRAY_LEN(cc_names));
  for (unsigned k = 0; k < ARRAY_LEN(cc_names); k++) {
    double mean = exp(sum[k] / ROWS);
    print_message("%s: %.3f of the golden times\n", cc_names[k], mean);
    bad += mean > 1.03;
  }
  assert_int_equal(bad, 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_grid)};
  writes = argc > 1 && strcmp(argv[1], "write") == 0;
  return cmocka_run_group_tests_name("sim_table", tests, NULL, NULL);
}
