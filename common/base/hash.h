/*
 * Index table: u32 values found by a caller-supplied 32-bit hash and equality callback; keys stay in the caller's
 * objects. Open addressing; it grows while it works, moving at most HASH_MOVE_MAX slots per insert or remove, so that
 * no single call is slow. Not thread-safe; one owner.
 *
 * Also the two hash functions: siphash24 (keyed; for whatever a stranger can choose: RFC 6528, SYN cookies, flow
 * tables) and mix64 (unkeyed; for our own numbers).
 */
#ifndef HS_BASE_HASH_H
#define HS_BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define HASH_NONE     UINT32_MAX /* not a value */
#define HASH_MOVE_MAX 64u        /* slots looked at by one incremental step */

struct hash_slot {
  uint32_t hash;
  uint32_t cell; /* 0 empty, UINT32_MAX moved or deleted (old half only), else value + 1 */
};

struct hash_half {
  struct hash_slot *slots;
  uint32_t mask; /* slots - 1 */
};

struct hash_tab {
  struct hash_half now;
  struct hash_half old; /* being emptied; slots NULL when not growing */
  uint32_t old_pos;     /* next slot of old to move */
  uint32_t count;       /* values in both halves */
};

/** Whether the object behind `value` has the key that ctx describes. */
typedef int (*hash_eq_fn)(uint32_t value, const void *ctx);

/** Makes a table with room for `expect` values (0..2^30) before it first grows. Returns 0, -EINVAL, -ENOMEM. */
HS_MUST_CHECK int hash_tab_init(struct hash_tab *t, uint32_t expect);

/** Frees all memory; harmless on a zero-filled table. */
void hash_tab_fini(struct hash_tab *t);

/**
 * Adds a value (< UINT32_MAX - 1); equal keys are not looked for: find first where they must not double.
 * Returns 0, -EINVAL (value out of range), -ENOMEM (full and cannot grow; the table is unchanged).
 */
HS_MUST_CHECK int hash_tab_insert(struct hash_tab *t, uint32_t hash, uint32_t value);

/** A value with this hash for which eq says yes (NULL eq: any), or HASH_NONE. */
uint32_t hash_tab_find(const struct hash_tab *t, uint32_t hash, hash_eq_fn eq, const void *ctx);

/** Removes the pair (hash, value) as it was inserted. Returns 0 or -ENOENT. */
int hash_tab_remove(struct hash_tab *t, uint32_t hash, uint32_t value);

/** Walk: *pos starts at 0; returns the next value or HASH_NONE at the end. The table must not change meanwhile. */
uint32_t hash_tab_next(const struct hash_tab *t, uint64_t *pos);

static inline uint32_t hash_tab_count(const struct hash_tab *t) {
  return t->count;
}

/** SipHash-2-4 (Aumasson, Bernstein 2012) of len bytes under a secret 16-byte key. */
uint64_t hash_siphash24(const uint8_t key[16], const void *data, size_t len);

/** Bijective mixer of 64 bits: every input bit changes every output bit with probability near 1/2. Not keyed. */
static inline uint64_t hash_mix64(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ull;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

#endif
