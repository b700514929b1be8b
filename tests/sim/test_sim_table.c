/*
 * The grid: all congestion controls over paths of loss 0–30 % (single and in bursts), delay 0–300 ms one way, jitter,
 * reordering, duplication, corruption, rates from 1 Mbit/s to 10 Gbit/s, MTU 576–9000, ECN marks, both address
 * families, with and without GRO, SACK and timestamps, data one way and both (grid.c). Every byte is compared; how long
 * each transfer takes (virtual time, so the same on every machine) is held against golden/grid.txt: none may take a
 * quarter longer, none of the controls 3 % in the mean; where a tenth and more is lost: none twice as long. The rows
 * are a cover: each two values of different axes meet in one.
 *
 * `sim_tcp_table full` (in `make sim`) runs the cross product of loss, delay, rate, MTU, family and control, other axes
 * drawn, and holds means against golden/full.txt. After a change that is meant to change times: `sim_tcp_table write`,
 * `sim_tcp_table full write`, from the build folder; the tables' diff is part of the change.
 */
#include "base/bits.h"
#include "grid.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CCS 3u

static const char *const cc_names[CCS] = {"newreno", "cubic", "bbr"};
static int writes;
static struct grid_row rows[GRID_COVER_MAX];
static unsigned n_rows;

struct outcome {
  uint64_t us, rexmit, rto;
};

static struct outcome grid_run(const struct grid_row *row, uint64_t seed, const char *cc) {
  static struct sim s;
  struct sim_case c = grid_case(row, cc, seed);
  int r = sim_run(&s, &c);
  if (r < 0) {
    print_error("seed %" PRIu64 " %s: %s\n", seed, cc, s.fault);
    grid_describe(stderr, row);
  }
  struct outcome o = {.us = s.host[1].read_all_at - 1000000,
                      .rexmit = s.host[0].totals[TCP_C_rexmit_segs] + s.host[0].counters[TCP_C_rexmit_segs],
                      .rto = s.host[0].totals[TCP_C_rto] + s.host[0].counters[TCP_C_rto]};
  sim_fini(&s);
  assert_int_equal(r, 0);
  return o;
}

/* Counted anew here, not taken from grid.c's word: each possible pair of values is in a row. */
static void test_cover(void **state) {
  (void)state;
  unsigned missed, pairs = 0, found = 0;
  n_rows = grid_cover(rows, &missed);
  assert_int_equal(missed, 0);
  for (unsigned a = 0; a < GRID_AXES; a++)
    for (unsigned b = a + 1; b < GRID_AXES; b++)
      for (unsigned v = 0; v < grid_values(a) * grid_values(b); v++) {
        unsigned va = v % grid_values(a), vb = v / grid_values(a), r = 0;
        if (!grid_possible(a, va, b, vb))
          continue;
        while (r < n_rows && (rows[r].at[a] != va || rows[r].at[b] != vb))
          r++;
        pairs++;
        found += r < n_rows;
      }
  print_message("%u rows, %u pairs of values\n", n_rows, pairs);
  assert_int_equal(found, pairs);
}

static void grid_write(void) {
  FILE *f = fopen(SIM_GOLDEN "/grid.txt", "w");
  assert_non_null(f);
  fprintf(f,
          "# Written by `sim_tcp_table write`. row, control, µs until the last byte is read, retransmissions, RTOs\n");
  for (uint32_t row = 0; row < n_rows; row++) {
    fprintf(f, "# %u: ", row);
    grid_describe(f, &rows[row]);
    for (unsigned k = 0; k < CCS; k++) {
      struct outcome o = grid_run(&rows[row], 900 + row, cc_names[k]);
      fprintf(f, "%u %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", row, cc_names[k], o.us, o.rexmit, o.rto);
    }
  }
  assert_int_equal(fclose(f), 0);
}

/* Prints the means and returns how many of them are too long. `n` = rows of each control. */
static unsigned grid_means(const double *sum, unsigned n) {
  unsigned bad = 0;
  for (unsigned k = 0; k < CCS; k++) {
    double mean = exp(sum[k] / n);
    print_message("%s: %.3f of the golden times\n", cc_names[k], mean);
    bad += mean > 1.03;
  }
  return bad;
}

static void test_grid(void **state) {
  (void)state;
  if (writes) {
    grid_write();
    return;
  }
  FILE *f = fopen(SIM_GOLDEN "/grid.txt", "r");
  char line[400], cc[16];
  unsigned row, n = 0, bad = 0;
  uint64_t us;
  double sum[CCS] = {0};
  unsigned tame[CCS] = {0};
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL) {
    if (line[0] == '#')
      continue;
    assert_int_equal(sscanf(line, "%u %15s %" SCNu64, &row, cc, &us), 3);
    unsigned k = n % CCS;
    assert_string_equal(cc, cc_names[k]);
    assert_int_equal(row, n / CCS);
    assert_true(row < n_rows);
    struct outcome o = grid_run(&rows[row], 900 + row, cc_names[k]);
    uint32_t wild = grid_case(&rows[row], cc, 0).loss >= 100000; /* timeouts, each doubled: luck rules */
    if (!wild) {
      sum[k] += log((double)(o.us + 1000) / (double)(us + 1000)); /* a ms is a difference nobody sees */
      tame[k]++;
    }
    if (o.us > us + (wild ? us : us / 4) + 1000) {
      print_error("row %u %s: %" PRIu64 " us, golden %" PRIu64 "\n", row, cc, o.us, us);
      bad++;
    }
    n++;
  }
  (void)fclose(f);
  assert_int_equal(n, n_rows * CCS);
  assert_int_equal(bad + grid_means(sum, tame[0]), 0);
}

/* --- full --- */

struct cell {
  double sum; /* of the logarithms of times */
  unsigned runs;
};

static struct cell cells[CCS][GRID_VALUES_MAX][GRID_VALUES_MAX];

static void full_line(FILE *f, unsigned loss, unsigned delay) {
  char name[40];
  grid_loss_name(loss, name, sizeof name);
  fprintf(f, "%u %u", loss, delay);
  for (unsigned k = 0; k < CCS; k++)
    fprintf(f, " %.3f", exp(cells[k][loss][delay].sum / cells[k][loss][delay].runs) / 1000);
  fprintf(f, " # %u runs each: loss %s, delay %.2f ms\n", cells[0][loss][delay].runs, name, grid_delay(delay) / 1e3);
}

static void full_write(void) {
  FILE *f = fopen(SIM_GOLDEN "/full.txt", "w");
  assert_non_null(f);
  fprintf(f,
          "# Written by `sim_tcp_table full write`: loss, delay, ms until the last byte is read, geometric means over\n"
          "# all rates, MTUs and families, with newreno, cubic, bbr\n");
  for (unsigned loss = 0; loss < grid_values(GRID_LOSS); loss++)
    for (unsigned delay = 0; delay < grid_values(GRID_DELAY); delay++)
      full_line(f, loss, delay);
  assert_int_equal(fclose(f), 0);
}

static void full_compare(void) {
  FILE *f = fopen(SIM_GOLDEN "/full.txt", "r");
  char line[400];
  unsigned loss, delay, n = 0;
  double ms[CCS], sum[CCS] = {0};
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL) {
    if (line[0] == '#')
      continue;
    assert_int_equal(sscanf(line, "%u %u %lf %lf %lf", &loss, &delay, &ms[0], &ms[1], &ms[2]), 5);
    assert_true(loss < grid_values(GRID_LOSS) && delay < grid_values(GRID_DELAY));
    for (unsigned k = 0; k < CCS; k++)
      sum[k] += cells[k][loss][delay].sum / cells[k][loss][delay].runs - log(ms[k] * 1000);
    n++;
  }
  (void)fclose(f);
  assert_int_equal(n, grid_values(GRID_LOSS) * grid_values(GRID_DELAY));
  assert_int_equal(grid_means(sum, n), 0);
}

static void test_full(void **state) {
  (void)state;
  struct grid_row row;
  unsigned runs = 0;
  int r;
  for (uint32_t i = 0; (r = grid_cross(i, &row)) >= 0; i++)
    for (unsigned k = 0; r > 0 && k < CCS; k++) {
      struct outcome o = grid_run(&row, 5000000 + i, cc_names[k]);
      struct cell *cell = &cells[k][row.at[GRID_LOSS]][row.at[GRID_DELAY]];
      cell->sum += log((double)(o.us + 1000));
      cell->runs++;
      runs++;
    }
  print_message("%u transfers, every byte compared\n", runs);
  if (writes)
    full_write();
  else
    full_compare();
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cover), cmocka_unit_test(test_grid)};
  const struct CMUnitTest full[] = {cmocka_unit_test(test_cover), cmocka_unit_test(test_full)};
  unsigned missed;
  n_rows = grid_cover(rows, &missed); /* here, too: tests/mutants runs one test alone */
  writes = argc > 1 && strcmp(argv[argc - 1], "write") == 0;
  if (argc > 1 && strcmp(argv[1], "full") == 0)
    return cmocka_run_group_tests_name("sim_table full", full, NULL, NULL);
  return cmocka_run_group_tests_name("sim_table", tests, NULL, NULL);
}
