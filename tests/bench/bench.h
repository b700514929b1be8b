/*
 * What the C programs of tests/bench share: the clock, numbers of the command line, times that were measured and what
 * half or nearly all of them were below. Needs nothing of ours: some of the programs stand for foreign ones, and are
 * built as such. One thread.
 */
#ifndef HS_BENCH_BENCH_H
#define HS_BENCH_BENCH_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_NS   1000000000ull /* a second */
#define BENCH_KEPT (1u << 22)    /* samples; older ones are forgotten */

struct bench_times {
  uint64_t n;   /* ever taken */
  uint32_t *ns; /* of the last BENCH_KEPT, in no order */
};

/** Says what went wrong, with errno, and ends the program. */
static inline void bench_die(const char *what) {
  perror(what);
  exit(1);
}

/** A decimal number of the command line. Ends the program, naming what is allowed, where it is none or out of range. */
static inline uint64_t bench_number(const char *text, uint64_t min, uint64_t max) {
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || v < min || v > max) {
    fprintf(stderr, "found %s, allowed %llu … %llu\n", text, (unsigned long long)min, (unsigned long long)max);
    exit(2);
  }
  return v;
}

static inline uint64_t bench_now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * BENCH_NS + (uint64_t)at.tv_nsec;
}

static inline void bench_times_init(struct bench_times *t) {
  *t = (struct bench_times){.ns = calloc(BENCH_KEPT, sizeof *t->ns)};
  if (t->ns == NULL)
    bench_die("memory for samples");
}

static inline void bench_times_add(struct bench_times *t, uint64_t ns) {
  t->ns[t->n++ % BENCH_KEPT] = (uint32_t)(ns < UINT32_MAX ? ns : UINT32_MAX);
}

static inline int bench_times_by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/** Once all are taken, before bench_times_us. */
static inline void bench_times_sort(struct bench_times *t) {
  qsort(t->ns, t->n < BENCH_KEPT ? (size_t)t->n : BENCH_KEPT, sizeof *t->ns, bench_times_by_size);
}

/** The time that so many of a hundred (0 … 99) were below, in µs; 0 where there are no samples. */
static inline double bench_times_us(const struct bench_times *t, unsigned percent) {
  return t->ns[(t->n < BENCH_KEPT ? t->n : BENCH_KEPT) * percent / 100] / 1e3;
}

/** One JSON line: how many, how many a second of the ns that they took, half and nearly all of them. Sorts. */
static inline void bench_times_report(struct bench_times *t, uint64_t ns) {
  bench_times_sort(t);
  printf("{\"requests\": %llu, \"rate\": %.0f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", (unsigned long long)t->n,
         (double)t->n * (double)BENCH_NS / (double)ns, bench_times_us(t, 50), bench_times_us(t, 99));
}

#endif
