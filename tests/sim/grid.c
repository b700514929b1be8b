/*
 * The grid of paths: axes, pairwise cover, cross product (see grid.h). The cover is made greedily: each row begins with
 * a pair that is in no row yet, and takes on each other axis the value that meets most others for the first time. Used
 * by test_sim_table.c; nothing here depends on the engine, so a golden table stays comparable when it changes.
 */
#include "grid.h"

#include "base/bits.h"

#include <string.h>

#define GRID_CANDIDATES 24u /* rows tried for each one taken */

struct grid_loss {
  uint32_t ppm;
  uint32_t burst; /* mean length, 0 = singly */
};

static const struct grid_loss losses[] = {{0, 0},      {1000, 0},   {10000, 0}, {30000, 0}, {50000, 0},
                                          {100000, 0}, {300000, 0}, {1000, 4},  {10000, 4}, {30000, 4},
                                          {50000, 4},  {100000, 4}, {300000, 4}};
static const uint32_t delays[] = {0, 50, 500, 5000, 20000, 50000, 150000, 300000}; /* one way, µs */
static const uint32_t rates[] = {125, 1250, 2500, 12500, 125000, 1250000, 0}; /* bytes per ms: 1 Mbit/s–10 Gbit/s */
static const uint32_t mtus[] = {576, 1280, 1500, 4000, 9000};
static const uint8_t families[] = {4, 6};
static const uint32_t jitters[] = {0, 10, 2}; /* a part of the delay: each packet anew */
static const uint32_t lates[] = {0, 10000, 50000};
static const uint32_t dups[] = {0, 10000, 100000};
static const uint32_t corrupts[] = {0, 5000, 50000};

static const uint8_t values[GRID_AXES] = {
    [GRID_LOSS] = ARRAY_LEN(losses),
    [GRID_DELAY] = ARRAY_LEN(delays),
    [GRID_RATE] = ARRAY_LEN(rates),
    [GRID_MTU] = ARRAY_LEN(mtus),
    [GRID_FAMILY] = ARRAY_LEN(families),
    [GRID_JITTER] = ARRAY_LEN(jitters),
    [GRID_LATE] = ARRAY_LEN(lates),
    [GRID_DUP] = ARRAY_LEN(dups),
    [GRID_CORRUPT] = ARRAY_LEN(corrupts),
    [GRID_ECN] = 3, /* off, marks from the queue, marks by chance */
    [GRID_GRO] = 2,
    [GRID_SACK] = 2,
    [GRID_STAMPS] = 2,
    [GRID_WAYS] = 2,
};

unsigned grid_values(unsigned axis) {
  return values[axis];
}

int grid_possible(unsigned a, unsigned va, unsigned b, unsigned vb) {
  if (a == GRID_FAMILY && b == GRID_MTU)
    return grid_possible(b, vb, a, va);
  return !(a == GRID_MTU && b == GRID_FAMILY && mtus[va] < 1280 && families[vb] == 6);
}

/* --- cover --- */

struct cover {
  uint8_t met[GRID_AXES][GRID_VALUES_MAX][GRID_AXES][GRID_VALUES_MAX];
  unsigned left; /* possible pairs that have not met, each counted once (a < b) */
  struct rng rng;
};

static void cover_init(struct cover *c) {
  memset(c, 0, sizeof *c);
  rng_init(&c->rng, 4242);
  for (unsigned a = 0; a < GRID_AXES; a++)
    for (unsigned b = a + 1; b < GRID_AXES; b++)
      for (unsigned va = 0; va < values[a]; va++)
        for (unsigned vb = 0; vb < values[b]; vb++)
          c->left += grid_possible(a, va, b, vb) != 0;
}

/* New pairs that value v of axis a makes with the axes that are set; -1: not possible. */
static int cover_gain(const struct cover *c, const struct grid_row *row, const uint8_t *set, unsigned a, unsigned v) {
  int gain = 0;
  for (unsigned b = 0; b < GRID_AXES; b++) {
    if (!set[b] || b == a)
      continue;
    if (!grid_possible(a, v, b, row->at[b]))
      return -1;
    gain += !c->met[a][v][b][row->at[b]];
  }
  return gain;
}

/* The first pair that has not met, from a random axis on. */
static void cover_start(struct cover *c, struct grid_row *row, uint8_t *set) {
  unsigned from = (unsigned)rng_below(&c->rng, GRID_AXES);
  for (unsigned i = 0; i < GRID_AXES; i++)
    for (unsigned b = 0, a = (from + i) % GRID_AXES; b < GRID_AXES; b++)
      for (unsigned va = 0; b != a && va < values[a]; va++)
        for (unsigned vb = 0; vb < values[b]; vb++)
          if (!c->met[a][va][b][vb] && grid_possible(a, va, b, vb)) {
            row->at[a] = (uint8_t)va;
            row->at[b] = (uint8_t)vb;
            set[a] = set[b] = 1;
            return;
          }
}

static int cover_candidate(struct cover *c, struct grid_row *row) {
  uint8_t set[GRID_AXES] = {0}, order[GRID_AXES];
  int total = 1;
  cover_start(c, row, set);
  for (unsigned i = 0; i < GRID_AXES; i++) { /* in random order */
    unsigned k = (unsigned)rng_below(&c->rng, i + 1);
    order[i] = order[k];
    order[k] = (uint8_t)i;
  }
  for (unsigned i = 0; i < GRID_AXES; i++) {
    unsigned a = order[i], from = (unsigned)rng_below(&c->rng, values[a]);
    int best = -1;
    for (unsigned k = 0; !set[a] && k < values[a]; k++) {
      unsigned v = (from + k) % values[a];
      int gain = cover_gain(c, row, set, a, v);
      if (gain > best) {
        best = gain;
        row->at[a] = (uint8_t)v;
      }
    }
    if (set[a])
      continue;
    set[a] = 1;
    total += best;
  }
  return total;
}

static void cover_take(struct cover *c, const struct grid_row *row) {
  for (unsigned a = 0; a < GRID_AXES; a++)
    for (unsigned b = 0; b < GRID_AXES; b++) {
      uint8_t *met = &c->met[a][row->at[a]][b][row->at[b]];
      c->left -= a < b && !*met;
      *met = 1;
    }
}

unsigned grid_cover(struct grid_row *rows, unsigned *missed) {
  static struct cover c;
  unsigned n = 0;
  cover_init(&c);
  while (c.left > 0 && n < GRID_COVER_MAX) {
    int best = -1;
    for (unsigned i = 0; i < GRID_CANDIDATES; i++) {
      struct grid_row row;
      int gain = cover_candidate(&c, &row);
      if (gain > best) {
        best = gain;
        rows[n] = row;
      }
    }
    cover_take(&c, &rows[n++]);
  }
  *missed = c.left;
  return n;
}

int grid_cross(uint32_t i, struct grid_row *row) {
  struct rng g;
  rng_init(&g, 31000 + i);
  for (unsigned a = 0; a < GRID_AXES; a++) {
    if (a > GRID_FAMILY) {
      row->at[a] = (uint8_t)rng_below(&g, values[a]);
      continue;
    }
    row->at[a] = (uint8_t)(i % values[a]);
    i /= values[a];
  }
  if (i > 0)
    return -1;
  return grid_possible(GRID_MTU, row->at[GRID_MTU], GRID_FAMILY, row->at[GRID_FAMILY]);
}

/* --- what a row means --- */

struct sim_case grid_case(const struct grid_row *row, const char *cc, uint64_t seed) {
  const struct grid_loss *loss = &losses[row->at[GRID_LOSS]];
  uint32_t fifo = 1u << 19;
  struct sim_case c = {.seed = seed, .cc = cc, .fifo = {fifo, fifo}, .write_max = fifo, .read_max = fifo, .patient = 1};
  c.loss = loss->ppm;
  c.burst = loss->burst;
  c.delay = delays[row->at[GRID_DELAY]];
  c.rate = rates[row->at[GRID_RATE]];
  c.mtu = mtus[row->at[GRID_MTU]];
  c.family = families[row->at[GRID_FAMILY]];
  if (c.rate)
    c.queue = HS_MAX(20 * c.mtu, c.rate * 2 * c.delay / 1000);
  uint32_t part = jitters[row->at[GRID_JITTER]];
  c.jitter = part ? 10 + c.delay / part : 0;
  c.late = lates[row->at[GRID_LATE]];
  c.late_by = c.delay / 4 + 100;
  c.dup = dups[row->at[GRID_DUP]];
  c.corrupt = corrupts[row->at[GRID_CORRUPT]];
  if (row->at[GRID_ECN] != 0)
    c.ecn = TCP_ECN_ON;
  if (row->at[GRID_ECN] == 1)
    c.mark_queue = c.queue / 3;
  if (row->at[GRID_ECN] == 2 || (row->at[GRID_ECN] == 1 && c.rate == 0)) /* a line without a rate has no queue */
    c.mark_ce = 5000;
  c.gro = row->at[GRID_GRO];
  c.no_sack = row->at[GRID_SACK];
  c.no_ts = row->at[GRID_STAMPS];
  c.bytes[0] = c.loss + c.corrupt >= 100000 ? 40 * HS_MAX(c.mtu, 1500u) : c.rate && c.rate < 2500 ? 200000 : 700000;
  c.bytes[1] = row->at[GRID_WAYS] ? c.bytes[0] / 2 : 1000;
  return c;
}

void grid_describe(FILE *f, const struct grid_row *row) {
  struct sim_case c = grid_case(row, "cubic", 0);
  char loss[40];
  grid_loss_name(row->at[GRID_LOSS], loss, sizeof loss);
  fprintf(f, "%u bytes%s, IPv%u, mtu %u, loss %s, delay %.2f ms, ", c.bytes[0],
          row->at[GRID_WAYS] ? " and half back" : "", c.family, c.mtu, loss, c.delay / 1e3);
  if (c.rate)
    fprintf(f, "rate %.0f Mbit/s", c.rate * 8 / 1e3);
  else
    fprintf(f, "no rate");
  if (c.jitter)
    fprintf(f, ", jitter %.2f ms", c.jitter / 1e3);
  if (c.late)
    fprintf(f, ", reordering %.0f %%", c.late / 1e4);
  if (c.dup)
    fprintf(f, ", duplicates %.0f %%", c.dup / 1e4);
  if (c.corrupt)
    fprintf(f, ", corruption %.1f %%", c.corrupt / 1e4);
  fprintf(f, "%s%s%s%s\n",
          c.mark_ce ? ", ECN marks by chance"
          : c.ecn   ? ", ECN marks from the queue"
                    : "",
          c.gro ? ", GRO" : "", c.no_sack ? ", no SACK" : "", c.no_ts ? ", no timestamps" : "");
}

void grid_loss_name(unsigned value, char *buf, size_t size) {
  snprintf(buf, size, "%.1f %%%s", losses[value].ppm / 1e4, losses[value].burst ? " in bursts" : "");
}

uint32_t grid_delay(unsigned value) {
  return delays[value];
}
