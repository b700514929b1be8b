/*
 * What rules.c and rules_edit.c have in common: the exact key of a group of rules, and its hash. Private to the two.
 */
#ifndef HS_SHM_RULES_HASH_H
#define HS_SHM_RULES_HASH_H

#include "abi/rules.h"
#include "base/hash.h"

/* Key of one group: prefixes with all bits behind them 0. */
struct rules_exact {
  uint64_t remote[2], local[2];
  uint32_t scope;
  uint8_t set, proto, remote_bits, local_bits;
};

/* 16 bytes in network order as two numbers. */
static inline void rules_words(const uint8_t ip[16], uint64_t w[2]) {
  w[0] = (uint64_t)load_be32(ip) << 32 | load_be32(ip + 4);
  w[1] = (uint64_t)load_be32(ip + 8) << 32 | load_be32(ip + 12);
}

static inline int rules_is4(const uint64_t w[2]) {
  return w[0] == 0 && w[1] >> 32 == 0xffff;
}

static inline void rules_mask(const uint64_t in[2], uint8_t bits, uint64_t out[2]) {
  out[0] = bits >= 64 ? in[0] : bits == 0 ? 0 : in[0] & ~0ull << (64 - bits);
  out[1] = bits >= 128 ? in[1] : bits <= 64 ? 0 : in[1] & ~0ull << (128 - bits);
}

static inline uint32_t rules_exact_hash(const struct rules_exact *x) {
  uint64_t h = hash_mix64(x->remote[0] ^ ((uint64_t)x->scope << 32 | (uint32_t)x->set << 24 | (uint32_t)x->proto << 16 |
                                          (uint32_t)x->remote_bits << 8 | x->local_bits));
  h = hash_mix64(h ^ x->remote[1]);
  h = hash_mix64(h + x->local[0]);
  return (uint32_t)hash_mix64(h ^ x->local[1]);
}

static inline int rules_exact_is(const struct rules_exact *x, const struct abi_rule_group *g) {
  return x->remote[1] == g->remote[1] && x->remote[0] == g->remote[0] && x->local[1] == g->local[1] &&
         x->local[0] == g->local[0] && x->scope == g->scope && x->set == g->set && x->proto == g->proto &&
         x->remote_bits == g->remote_bits && x->local_bits == g->local_bits;
}

#endif
