/*
 * What the fuzz targets share: the entry point that libFuzzer or replay_main.c calls, the word that ends a run when an
 * invariant is broken, and the input as a program that is read from its front. Beyond its end all bytes are zero, so
 * that every input is a whole program. Header-only; one thread.
 */
#ifndef HS_TESTS_FUZZ_H
#define HS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                                                  \
  do {                                                                                                                 \
    if (!(cond))                                                                                                       \
      abort();                                                                                                         \
  } while (0)

struct fuzz_input {
  const uint8_t *p;
  size_t left;
};

/** The next `bytes` (at most 4) of the input, big-endian. */
static inline uint32_t fuzz_take(struct fuzz_input *in, unsigned bytes) {
  uint32_t v = 0;
  while (bytes-- > 0) {
    v <<= 8;
    if (in->left > 0) {
      v |= *in->p++;
      in->left--;
    }
  }
  return v;
}

/** The same, little-endian. */
static inline uint32_t fuzz_take_le(struct fuzz_input *in, unsigned bytes) {
  uint32_t v = 0;
  for (unsigned i = 0; i < bytes && in->left != 0; i++, in->left--)
    v |= (uint32_t)*in->p++ << (8 * i);
  return v;
}

/** The next n bytes as they are. */
static inline void fuzz_take_bytes(struct fuzz_input *in, void *to, size_t n) {
  size_t have = n < in->left ? n : in->left;
  memset(to, 0, n);
  if (have != 0)
    memcpy(to, in->p, have);
  in->p += have;
  in->left -= have;
}

#endif
