/*
 * The grid of paths for test_sim_table.c: axes with their values, a small set of rows in which each two values of
 * different axes meet, the cross product of the main axes, and what a row means to the simulator. One thread.
 */
#ifndef HS_TESTS_GRID_H
#define HS_TESTS_GRID_H

#include "sim.h"

#include <stdio.h>

enum grid_axis {
  GRID_LOSS, /* how much, and whether singly or in bursts */
  GRID_DELAY,
  GRID_RATE,
  GRID_MTU,
  GRID_FAMILY, /* up to here: the main axes */
  GRID_JITTER,
  GRID_LATE, /* reordering */
  GRID_DUP,
  GRID_CORRUPT,
  GRID_ECN,
  GRID_GRO,
  GRID_SACK,
  GRID_STAMPS,
  GRID_WAYS, /* data one way or both */
  GRID_AXES
};

#define GRID_VALUES_MAX 13u
#define GRID_COVER_MAX  160u

/** One path: the number of a value on each axis. */
struct grid_row {
  uint8_t at[GRID_AXES];
};

/** Number of values of an axis. */
unsigned grid_values(unsigned axis);
/** Whether two values may meet: IPv6 has no MTU of 576. */
int grid_possible(unsigned a, unsigned va, unsigned b, unsigned vb);
/** Rows in which every possible pair of values is found, the same ones at every call. How many, at most GRID_COVER_MAX;
 * *missed = pairs that are in none (0, or GRID_COVER_MAX is too small). */
unsigned grid_cover(struct grid_row *rows, unsigned *missed);
/** Row number i of the cross product of the main axes, the other axes drawn by i. 1, or 0 if it is not possible, or -1
 * beyond the last. */
int grid_cross(uint32_t i, struct grid_row *row);
/** The case: all of it follows from row, control and seed. */
struct sim_case grid_case(const struct grid_row *row, const char *cc, uint64_t seed);
void grid_describe(FILE *f, const struct grid_row *row);
/** Name of a loss ("1.0 % in bursts") in buf, delay in µs. */
void grid_loss_name(unsigned value, char *buf, size_t size);
uint32_t grid_delay(unsigned value);

#endif
