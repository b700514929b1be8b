/*
 * xoshiro256** seeded through splitmix64 (Blackman, Vigna, "Scrambled linear pseudorandom number generators"). A struct
 * rng belongs to one thread. The kernel's generator: rng_secure.c.
 */
#include "base/rng.h"
#include "base/hash.h"

#include <string.h>

static inline uint64_t rng_rotl(uint64_t x, unsigned n) {
  return x << n | x >> (64 - n);
}

void rng_init(struct rng *r, uint64_t seed) {
  for (int i = 0; i < 4; i++) {
    seed += 0x9e3779b97f4a7c15ull;
    r->s[i] = hash_mix64(seed);
  }
}

uint64_t rng_u64(struct rng *r) {
  uint64_t *s = r->s;
  uint64_t out = rng_rotl(s[1] * 5, 7) * 9;
  uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rng_rotl(s[3], 45);
  return out;
}

uint64_t rng_below(struct rng *r, uint64_t n) {
  if (n < 2)
    return 0;
  uint64_t low = -n % n; /* 2^64 mod n: values below it would come once too often */
  uint64_t v;
  do
    v = rng_u64(r);
  while (v < low);
  return v % n;
}

uint64_t rng_range(struct rng *r, uint64_t lo, uint64_t hi) {
  uint64_t span = hi - lo;
  return span == UINT64_MAX ? rng_u64(r) : lo + rng_below(r, span + 1);
}

int rng_chance_ppm(struct rng *r, uint32_t ppm) {
  return rng_below(r, 1000000) < ppm;
}

double rng_unit(struct rng *r) {
  return (double)(rng_u64(r) >> 11) * 0x1.0p-53;
}

void rng_fill(struct rng *r, void *buf, size_t len) {
  uint8_t *p = buf;
  while (len > 0) {
    uint64_t v = rng_u64(r);
    size_t n = len < sizeof v ? len : sizeof v;
    memcpy(p, &v, n);
    p += n;
    len -= n;
  }
}
