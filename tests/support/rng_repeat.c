/*
 * rng_secure for tests, linked in place of common/base/rng_secure.c: keys, secrets and start values are drawn from a
 * seeded sequence, so that an assertion which holds in one run holds in all. For any thread, as the original; threads
 * that draw at the same time share one sequence.
 */
#include "rng_repeat.h"

#include "base/hash.h"
#include "base/rng.h"

#include <string.h>

static uint64_t rng_at;

void rng_repeat(uint64_t seed) {
  __atomic_store_n(&rng_at, hash_mix64(seed), __ATOMIC_RELAXED);
}

int rng_secure(void *buf, size_t len) {
  uint8_t *p = buf;
  while (len > 0) {
    uint64_t v = hash_mix64(__atomic_add_fetch(&rng_at, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED));
    size_t n = len < sizeof v ? len : sizeof v;
    memcpy(p, &v, n);
    p += n;
    len -= n;
  }
  return 0;
}
