/*
 * Random numbers: xoshiro256** (Blackman, Vigna) seeded and repeatable for tests, jitter and impairment; getrandom for
 * whatever an attacker must not guess. A struct rng belongs to one thread.
 */
#ifndef HS_BASE_RNG_H
#define HS_BASE_RNG_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct rng {
  uint64_t s[4];
};

/** Any seed is good; equal seeds give equal sequences. */
void rng_init(struct rng *r, uint64_t seed);

uint64_t rng_u64(struct rng *r);
static inline uint32_t rng_u32(struct rng *r) {
  return (uint32_t)(rng_u64(r) >> 32);
}

/** Uniform in [0, n); n > 0 (0 gives 0). */
uint64_t rng_below(struct rng *r, uint64_t n);

/** Uniform in [lo, hi], lo ≤ hi. */
uint64_t rng_range(struct rng *r, uint64_t lo, uint64_t hi);

/** Whether an event of probability ppm / 1000000 happens. */
int rng_chance_ppm(struct rng *r, uint32_t ppm);

/** Uniform in [0, 1). */
double rng_unit(struct rng *r);

/** Fills buf with len repeatable bytes. */
void rng_fill(struct rng *r, void *buf, size_t len);

/** Fills buf with len unguessable bytes from the kernel. Returns 0 or -errno. */
HS_MUST_CHECK int rng_secure(void *buf, size_t len);

#endif
