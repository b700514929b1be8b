/*
 * Small arithmetic: powers of two, rounding, minimum and maximum, array length.
 *
 * Included by everything above base; inline only, any thread. The macros evaluate each argument once.
 */
#ifndef HS_BASE_BITS_H
#define HS_BASE_BITS_H

#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define HS_LIKELY(x)   __builtin_expect(!!(x), 1)
#define HS_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define HS_PASTE2_(a, b) a##b
#define HS_PASTE_(a, b)  HS_PASTE2_(a, b)
#define HS_PICK_(a, b, op, ua, ub)                                                                                     \
  ({                                                                                                                   \
    __typeof__(a) ua = (a);                                                                                            \
    __typeof__(b) ub = (b);                                                                                            \
    ua op ub ? ua : ub;                                                                                                \
  })

/** The smaller and the greater of two values of one type; fine inside each other. */
#define HS_MIN(a, b) HS_PICK_(a, b, <, HS_PASTE_(hs_a, __COUNTER__), HS_PASTE_(hs_b, __COUNTER__))
#define HS_MAX(a, b) HS_PICK_(a, b, >, HS_PASTE_(hs_a, __COUNTER__), HS_PASTE_(hs_b, __COUNTER__))
/** x forced into [lo, hi]; lo ≤ hi. */
#define HS_CLAMP(x, lo, hi) HS_MIN(HS_MAX(x, lo), hi)

static inline int bits_is_pow2(uint64_t x) {
  return x != 0 && (x & (x - 1)) == 0;
}

/** Position of the highest set bit, 0..63; x must not be 0. */
static inline unsigned bits_log2(uint64_t x) {
  return 63u - (unsigned)__builtin_clzll(x);
}

/** Smallest power of two ≥ x; 1 for 0. x ≤ 2^63. */
static inline uint64_t bits_pow2_up(uint64_t x) {
  return x <= 1 ? 1 : 1ull << (bits_log2(x - 1) + 1);
}

/** x rounded up or down to a multiple of `to`, a power of two. */
static inline uint64_t bits_align_up(uint64_t x, uint64_t to) {
  return (x + (to - 1)) & ~(to - 1);
}
static inline uint64_t bits_align_down(uint64_t x, uint64_t to) {
  return x & ~(to - 1);
}

/** Quotient rounded up; by > 0. */
static inline uint64_t bits_div_up(uint64_t x, uint64_t by) {
  return x / by + (x % by != 0);
}

#endif
