/*
 * What rng_secure gives in a test: a sequence that is the same in every run.
 */
#ifndef HS_TESTS_RNG_REPEAT_H
#define HS_TESTS_RNG_REPEAT_H

#include <stdint.h>

/** From here on rng_secure gives the sequence of `seed`; a program begins with that of seed 0. */
void rng_repeat(uint64_t seed);

#endif
