/*
 * A digest of all that a simulation puts on its wires, with the time: printed at exit if HS_SIM_DIGEST is in the
 * environment, so that two runs can be compared (tests/sim/repeat.py). Used by sim_path.c and engine_rig.c; one thread.
 */
#ifndef HS_TESTS_SIM_DIGEST_H
#define HS_TESTS_SIM_DIGEST_H

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t sim_digest_value, sim_digest_n;
static int sim_digest_on;

static void sim_digest_print(void) {
  if (sim_digest_on)
    printf("digest %016" PRIx64 " of %" PRIu64 " packets\n", sim_digest_value, sim_digest_n);
}

__attribute__((constructor)) static void sim_digest_begin(void) {
  sim_digest_on = getenv("HS_SIM_DIGEST") != NULL;
  if (sim_digest_on && atexit(sim_digest_print) != 0)
    abort();
}

/** len bytes leave at `now`, µs. */
static inline void sim_digest(uint64_t now, const void *bytes, size_t len) {
  const uint8_t *p = bytes;
  if (!sim_digest_on)
    return;
  uint64_t d = hash_mix64(sim_digest_value ^ now) ^ len;
  for (uint64_t v; len > 0; p += sizeof v) {
    size_t n = len < sizeof v ? len : sizeof v;
    v = 0;
    memcpy(&v, p, n);
    d = hash_mix64(d ^ v);
    len -= n;
  }
  sim_digest_value = d;
  sim_digest_n++;
}

#endif
