/*
 * What the mutated copy of services/engine/tcp is written in (tests/mutants/schema.py puts it there): every operator
 * and constant that has a mutant asks here which of the two it is to be. hs_mutant is the number of the one that is
 * awake, 0 = none. A choice whose two results differ is noted in hs_mutant_seen, one byte for each mutant: a test that
 * notes nothing for a mutant can't find it. Included by every file of that copy, never by the stack itself.
 */
#ifndef HS_MUTANTS_MUTANT_H
#define HS_MUTANTS_MUTANT_H

#include <stdint.h>

extern unsigned hs_mutant;
extern uint8_t *hs_mutant_seen; /* 1 evaluated, 2 with a difference, too */

static inline int hs_mutant_is(unsigned n, int differs) {
  if (__builtin_expect(hs_mutant_seen != 0, 0))
    hs_mutant_seen[n] |= differs ? 3 : 1;
  return hs_mutant == n;
}

static inline int hs_mutant_pick(unsigned n, int now, int then) {
  return hs_mutant_is(n, now != then) ? then : now;
}

static inline int hs_mutant_seq_lt(unsigned n, uint32_t a, uint32_t b) {
  return hs_mutant_pick(n, (int32_t)(a - b) < 0, (int32_t)(a - b) <= 0);
}

static inline int hs_mutant_seq_leq(unsigned n, uint32_t a, uint32_t b) {
  return hs_mutant_pick(n, (int32_t)(a - b) <= 0, (int32_t)(a - b) < 0);
}

static inline int hs_mutant_seq_gt(unsigned n, uint32_t a, uint32_t b) {
  return hs_mutant_pick(n, (int32_t)(a - b) > 0, (int32_t)(a - b) >= 0);
}

static inline int hs_mutant_seq_geq(unsigned n, uint32_t a, uint32_t b) {
  return hs_mutant_pick(n, (int32_t)(a - b) >= 0, (int32_t)(a - b) > 0);
}

#define HS_CONST(n, x) ((x) + hs_mutant_is(n, 1))
#define HS_COMPARE(n, op, new, l, r)                                                                                   \
  ({                                                                                                                   \
    __auto_type hs_l##n = l;                                                                                           \
    __auto_type hs_r##n = r;                                                                                           \
    hs_mutant_pick(n, hs_l##n op hs_r##n, hs_l##n new hs_r##n);                                                        \
  })
#define HS_SIGN(n, op, new, l, r)                                                                                      \
  ({                                                                                                                   \
    __auto_type hs_l##n = l;                                                                                           \
    __auto_type hs_r##n = r;                                                                                           \
    hs_mutant_is(n, hs_r##n != 0) ? hs_l##n new hs_r##n : hs_l##n op hs_r##n;                                          \
  })
#define HS_BY(n, op, new, l, r)                                                                                        \
  ({                                                                                                                   \
    __auto_type hs_l##n = &l;                                                                                          \
    __auto_type hs_r##n = r;                                                                                           \
    hs_mutant_is(n, hs_r##n != 0) ? (*hs_l##n new hs_r##n) : (*hs_l##n op hs_r##n);                                    \
  })
#define HS_STEP_PRE(n, x, op, new)                                                                                     \
  ({                                                                                                                   \
    __auto_type hs_l##n = &(x);                                                                                        \
    hs_mutant_is(n, 1) ? new *hs_l##n : op *hs_l##n;                                                                   \
  })
#define HS_STEP_POST(n, x, op, new)                                                                                    \
  ({                                                                                                                   \
    __auto_type hs_l##n = &(x);                                                                                        \
    hs_mutant_is(n, 1) ? (*hs_l##n) new : (*hs_l##n)op;                                                                \
  })
#define HS_NEGATIVE(n, x)                                                                                              \
  ({                                                                                                                   \
    __auto_type hs_l##n = (x);                                                                                         \
    hs_mutant_is(n, hs_l##n != 0) ? hs_l##n : -hs_l##n;                                                                \
  })

#endif
