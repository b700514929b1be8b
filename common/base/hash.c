/*
 * Index table: linear probing over 8-byte slots, at most 2/3 full, doubled while it works. During growth the old half
 * only loses values: a slot moved or deleted there becomes a tombstone, so that probe chains stay whole; in the new
 * half deletion shifts followers back and leaves none. Each insert and remove moves up to HASH_MOVE_MAX old slots,
 * which empties the old half long before the new one is 2/3 full.
 *
 * One owner thread. Memory is taken only at the moment of doubling (calloc: fresh pages come zeroed from the kernel).
 */
#include "base/hash.h"
#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

#define HASH_GONE      UINT32_MAX
#define HASH_SLOTS_MIN 16u
#define HASH_SLOTS_MAX (1u << 31)

static int hash_half_new(struct hash_half *h, uint64_t n_slots) {
  h->slots = calloc((size_t)n_slots, sizeof *h->slots);
  if (h->slots == NULL)
    return -ENOMEM;
  h->mask = (uint32_t)(n_slots - 1);
  return 0;
}

static void hash_half_free(struct hash_half *h) {
  free(h->slots);
  h->slots = NULL;
  h->mask = 0;
}

int hash_tab_init(struct hash_tab *t, uint32_t expect) {
  memset(t, 0, sizeof *t);
  if (expect > 1u << 30)
    return -EINVAL;
  uint64_t n = bits_pow2_up((uint64_t)expect + expect / 2 + 1);
  return hash_half_new(&t->now, HS_MAX(n, (uint64_t)HASH_SLOTS_MIN));
}

void hash_tab_fini(struct hash_tab *t) {
  hash_half_free(&t->now);
  hash_half_free(&t->old);
  memset(t, 0, sizeof *t);
}

/* Stores a cell in the first empty slot of its chain; the half is never full. */
static void hash_half_store(struct hash_half *h, uint32_t hash, uint32_t cell) {
  uint32_t i = hash & h->mask;
  while (h->slots[i].cell != 0)
    i = (i + 1) & h->mask;
  h->slots[i] = (struct hash_slot){hash, cell};
}

/* Moves the next HASH_MOVE_MAX slots of the old half; frees it at its end. */
static void hash_tab_move(struct hash_tab *t) {
  if (t->old.slots == NULL)
    return;
  uint32_t left = t->old.mask - t->old_pos + 1;
  uint32_t end = t->old_pos + HS_MIN(left, HASH_MOVE_MAX);
  for (uint32_t i = t->old_pos; i < end; i++) {
    struct hash_slot *s = &t->old.slots[i];
    if (s->cell == 0 || s->cell == HASH_GONE)
      continue;
    hash_half_store(&t->now, s->hash, s->cell);
    s->cell = HASH_GONE;
  }
  t->old_pos = end;
  if (end == t->old.mask + 1)
    hash_half_free(&t->old);
}

/* Makes room for one more value. Refuses only when memory is short and the present half is 7/8 full. */
static int hash_tab_make_room(struct hash_tab *t) {
  uint64_t slots = (uint64_t)t->now.mask + 1;
  if (t->old.slots != NULL || (uint64_t)(t->count + 1) * 3 <= slots * 2)
    return 0;
  struct hash_half bigger = {NULL, 0};
  if (slots < HASH_SLOTS_MAX && hash_half_new(&bigger, slots * 2) == 0) {
    t->old = t->now;
    t->old_pos = 0;
    t->now = bigger;
    return 0;
  }
  return (uint64_t)(t->count + 1) * 8 <= slots * 7 ? 0 : -ENOMEM;
}

int hash_tab_insert(struct hash_tab *t, uint32_t hash, uint32_t value) {
  if (value >= UINT32_MAX - 1)
    return -EINVAL;
  int err = hash_tab_make_room(t);
  if (err < 0)
    return err;
  hash_tab_move(t);
  hash_half_store(&t->now, hash, value + 1);
  t->count++;
  return 0;
}

static uint32_t hash_half_find(const struct hash_half *h, uint32_t hash, hash_eq_fn eq, const void *ctx) {
  for (uint32_t i = hash & h->mask;; i = (i + 1) & h->mask) {
    struct hash_slot s = h->slots[i];
    if (s.cell == 0)
      return HASH_NONE;
    if (s.hash == hash && s.cell != HASH_GONE && (eq == NULL || eq(s.cell - 1, ctx)))
      return s.cell - 1;
  }
}

uint32_t hash_tab_find(const struct hash_tab *t, uint32_t hash, hash_eq_fn eq, const void *ctx) {
  uint32_t value = hash_half_find(&t->now, hash, eq, ctx);
  if (value == HASH_NONE && t->old.slots != NULL)
    value = hash_half_find(&t->old, hash, eq, ctx);
  return value;
}

/* Slot of the pair, or -1. */
static int64_t hash_half_locate(const struct hash_half *h, uint32_t hash, uint32_t cell) {
  for (uint32_t i = hash & h->mask; h->slots[i].cell != 0; i = (i + 1) & h->mask)
    if (h->slots[i].hash == hash && h->slots[i].cell == cell)
      return i;
  return -1;
}

/* Empties slot i and shifts later members of the chain back, so that no probe meets a hole before its value. */
static void hash_half_erase(struct hash_half *h, uint32_t i) {
  for (uint32_t j = (i + 1) & h->mask; h->slots[j].cell != 0; j = (j + 1) & h->mask) {
    uint32_t home = h->slots[j].hash & h->mask;
    if (((j - home) & h->mask) < ((j - i) & h->mask))
      continue; /* its home lies after the hole: it must stay */
    h->slots[i] = h->slots[j];
    i = j;
  }
  h->slots[i].cell = 0;
}

int hash_tab_remove(struct hash_tab *t, uint32_t hash, uint32_t value) {
  if (value >= UINT32_MAX - 1)
    return -ENOENT;
  int64_t i = hash_half_locate(&t->now, hash, value + 1);
  if (i >= 0) {
    hash_half_erase(&t->now, (uint32_t)i);
  } else {
    i = t->old.slots != NULL ? hash_half_locate(&t->old, hash, value + 1) : -1;
    if (i < 0)
      return -ENOENT;
    t->old.slots[i].cell = HASH_GONE;
  }
  t->count--;
  hash_tab_move(t);
  return 0;
}

uint32_t hash_tab_next(const struct hash_tab *t, uint64_t *pos) {
  uint64_t n_now = t->now.slots != NULL ? (uint64_t)t->now.mask + 1 : 0;
  uint64_t n_old = t->old.slots != NULL ? (uint64_t)t->old.mask + 1 : 0;
  while (*pos < n_now + n_old) {
    uint64_t i = (*pos)++;
    uint32_t cell = i < n_now ? t->now.slots[i].cell : t->old.slots[i - n_now].cell;
    if (cell != 0 && cell != HASH_GONE)
      return cell - 1;
  }
  return HASH_NONE;
}

static inline uint64_t hash_rotl(uint64_t x, unsigned n) {
  return x << n | x >> (64 - n);
}

/* One SipRound (Aumasson, Bernstein 2012, section 2). */
static inline void hash_sip_round(uint64_t v[4]) {
  v[0] += v[1];
  v[1] = hash_rotl(v[1], 13) ^ v[0];
  v[0] = hash_rotl(v[0], 32);
  v[2] += v[3];
  v[3] = hash_rotl(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = hash_rotl(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = hash_rotl(v[1], 17) ^ v[2];
  v[2] = hash_rotl(v[2], 32);
}

static inline uint64_t hash_load_le64(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

uint64_t hash_siphash24(const uint8_t key[16], const void *data, size_t len) {
  const uint8_t *p = data;
  uint64_t k0 = hash_load_le64(key), k1 = hash_load_le64(key + 8);
  uint64_t v[4] = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull, k0 ^ 0x6c7967656e657261ull,
                   k1 ^ 0x7465646279746573ull};
  uint64_t last = (uint64_t)len << 56;
  size_t whole = len & ~(size_t)7;
  for (size_t i = 0; i < whole; i += 8) {
    uint64_t m = hash_load_le64(p + i);
    v[3] ^= m;
    hash_sip_round(v);
    hash_sip_round(v);
    v[0] ^= m;
  }
  for (size_t i = whole; i < len; i++)
    last |= (uint64_t)p[i] << (8 * (i - whole));
  v[3] ^= last;
  hash_sip_round(v);
  hash_sip_round(v);
  v[0] ^= last;
  v[2] ^= 0xff;
  for (int i = 0; i < 4; i++)
    hash_sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}
