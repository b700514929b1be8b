/*
 * Arena: a buddy allocator over the chunk area of one segment (shm/arena.h).
 *
 * Called by fifo producers: the engine worker for an E segment, the library under its own lock for an A segment. The
 * book-keeping holds indices only, no pointers, so that it may lie in memory that several processes map.
 *
 * Units of ABI_CHUNK_UNIT, blocks of 2^order units. state[u] says what begins at unit u: a free block in a list, a
 * block in a stash, a taken block, or nothing (the inside of a block). In front of the buddy lists each order has a
 * stash of the blocks freed last: they are not merged and are handed out again first, newest first, because their
 * memory is warm and a fifo that streams should cost no splitting and merging. What the stash pushes out is merged.
 * Book-keeping is made block by block as the area is first used, so that a large arena costs neither time nor memory
 * before it is needed.
 */
#include "shm/arena.h"

#include "abi/seg.h"
#include "base/bits.h"
#include "base/err.h"

#include <sched.h>

#define ARENA_MAGIC  0x616e657261304e31ull
#define ARENA_ORDERS 10u /* 2 KB … 1 MB */
#define ARENA_STASH  8u
#define ARENA_TOP    (ARENA_ORDERS - 1)
#define ARENA_LIMIT  (1ull << 40) /* bytes */
#define ARENA_SPINS  256u

#define ARENA_INSIDE 0x00u /* state[]: no block begins here */
#define ARENA_FREE   0x10u /* | order: in a free list */
#define ARENA_STASHD 0x20u /* | order */
#define ARENA_TAKEN  0x40u /* | order */

_Static_assert(ABI_CHUNK_UNIT << ARENA_TOP == ABI_CHUNK_MAX, "orders span the chunk sizes");

/** Links of a free block, valid only while it is in a list. */
struct arena_link {
  uint32_t next, prev;
};

struct arena {
  uint64_t magic;
  uint64_t free_bytes;
  uint32_t n_units;
  uint32_t first_unit;
  uint32_t shared, lock;       /* arena_share */
  uint32_t n_made;             /* units [0, n_made) have book-keeping; the rest is free and was never touched */
  uint32_t head[ARENA_ORDERS]; /* free lists */
  uint32_t stash_n[ARENA_ORDERS];
  uint32_t stash[ARENA_ORDERS][ARENA_STASH]; /* [0] the oldest */
  struct arena_link link[];                  /* n_units; then uint8_t state[n_units] */
};

static inline uint8_t *arena_state(const struct arena *a) {
  return (uint8_t *)(uintptr_t)(const void *)(a->link + a->n_units);
}

/** Order of a chunk length, or ARENA_ORDERS when there is no such chunk. */
static inline uint32_t arena_order(uint32_t len) {
  if (!bits_is_pow2(len) || len < ABI_CHUNK_UNIT || len > ABI_CHUNK_MAX)
    return ARENA_ORDERS;
  return bits_log2(len / ABI_CHUNK_UNIT);
}

uint64_t arena_meta_size(uint64_t size) {
  uint64_t units = size / ABI_CHUNK_UNIT;
  return bits_align_up(sizeof(struct arena) + units * (sizeof(struct arena_link) + 1), 64);
}

static void arena_list_add(struct arena *a, uint32_t u, uint32_t order) {
  uint32_t next = a->head[order];
  a->link[u] = (struct arena_link){.next = next, .prev = ABI_SEG_NONE};
  if (next != ABI_SEG_NONE)
    a->link[next].prev = u;
  a->head[order] = u;
  arena_state(a)[u] = (uint8_t)(ARENA_FREE | order);
}

static void arena_list_del(struct arena *a, uint32_t u, uint32_t order) {
  struct arena_link l = a->link[u];
  if (l.prev != ABI_SEG_NONE)
    a->link[l.prev].next = l.next;
  else
    a->head[order] = l.next;
  if (l.next != ABI_SEG_NONE)
    a->link[l.next].prev = l.prev;
  arena_state(a)[u] = ARENA_INSIDE;
}

/** Makes the next never-used block of the largest order free; 0 at the end of the area. */
static int arena_make(struct arena *a) {
  uint32_t u = a->n_made;
  if (u == a->n_units)
    return 0;
  memset(arena_state(a) + u, ARENA_INSIDE, 1u << ARENA_TOP);
  a->n_made = u + (1u << ARENA_TOP);
  arena_list_add(a, u, ARENA_TOP);
  return 1;
}

struct arena *arena_init(void *meta, uint64_t meta_size, uint32_t first_unit, uint64_t size) {
  struct arena *a = meta;
  if (size == 0 || size % ABI_CHUNK_MAX != 0 || size > ARENA_LIMIT || meta_size < arena_meta_size(size))
    return NULL;
  memset(a, 0, sizeof *a);
  a->n_units = (uint32_t)(size / ABI_CHUNK_UNIT);
  a->first_unit = first_unit;
  a->free_bytes = size;
  for (uint32_t o = 0; o < ARENA_ORDERS; o++)
    a->head[o] = ABI_SEG_NONE;
  a->magic = ARENA_MAGIC;
  return a;
}

/** Puts a block into the lists, merged with its buddy as long as that is free. */
static void arena_merge(struct arena *a, uint32_t u, uint32_t order) {
  uint8_t *state = arena_state(a);
  state[u] = ARENA_INSIDE;
  while (order < ARENA_TOP) {
    uint32_t buddy = u ^ (1u << order);
    if (state[buddy] != (ARENA_FREE | order))
      break;
    arena_list_del(a, buddy, order);
    u &= ~(1u << order);
    order++;
  }
  arena_list_add(a, u, order);
}

/** Empties all stashes; returns whether there was anything in them. */
static int arena_unstash(struct arena *a) {
  int any = 0;
  for (uint32_t o = 0; o < ARENA_ORDERS; o++) {
    for (uint32_t i = 0; i < a->stash_n[o]; i++, any = 1)
      arena_merge(a, a->stash[o][i], o);
    a->stash_n[o] = 0;
  }
  return any;
}

/** Takes a block of this order out of the lists, splitting a larger one; ABI_SEG_NONE when there is none. */
static uint32_t arena_split(struct arena *a, uint32_t order) {
  uint32_t o = order;
  while (o < ARENA_ORDERS && a->head[o] == ABI_SEG_NONE)
    o++;
  if (o == ARENA_ORDERS)
    return ABI_SEG_NONE;
  uint32_t u = a->head[o];
  arena_list_del(a, u, o);
  while (o > order) {
    o--;
    arena_list_add(a, u + (1u << o), o);
  }
  return u;
}

void arena_share(struct arena *a) {
  a->shared = 1;
}

static inline void arena_lock(struct arena *a) {
  if (HS_LIKELY(!a->shared))
    return;
  for (uint32_t spins = 1; __atomic_exchange_n(&a->lock, 1u, __ATOMIC_ACQUIRE) != 0; spins++)
    if (spins % ARENA_SPINS == 0)
      (void)sched_yield(); /* its holder was interrupted */
    else
      __builtin_ia32_pause();
}

static inline void arena_unlock(struct arena *a) {
  if (HS_UNLIKELY(a->shared))
    __atomic_store_n(&a->lock, 0u, __ATOMIC_RELEASE);
}

static uint32_t arena_take(struct arena *a, uint32_t len) {
  uint32_t order = arena_order(len);
  uint32_t u;
  if (order == ARENA_ORDERS)
    return ABI_SEG_NONE;
  if (a->stash_n[order] != 0) {
    u = a->stash[order][--a->stash_n[order]];
  } else {
    u = arena_split(a, order);
    if (u == ABI_SEG_NONE && (arena_unstash(a) || arena_make(a)))
      u = arena_split(a, order);
    if (u == ABI_SEG_NONE && arena_make(a)) /* what was in the stash did not do */
      u = arena_split(a, order);
    if (u == ABI_SEG_NONE)
      return ABI_SEG_NONE;
  }
  arena_state(a)[u] = (uint8_t)(ARENA_TAKEN | order);
  a->free_bytes -= len;
  return a->first_unit + u;
}

uint32_t arena_get(struct arena *a, uint32_t len) {
  arena_lock(a);
  uint32_t unit = arena_take(a, len);
  arena_unlock(a);
  return unit;
}

static void arena_give(struct arena *a, uint32_t unit, uint32_t len) {
  uint32_t order = arena_order(len);
  uint32_t u = unit - a->first_unit;
  /* What was not handed out in this shape is ignored: the library must not abort its host over it. */
  if (order == ARENA_ORDERS || u >= a->n_made || arena_state(a)[u] != (ARENA_TAKEN | order))
    return;
  uint32_t *stash = a->stash[order];
  if (a->stash_n[order] == ARENA_STASH) {
    arena_merge(a, stash[0], order);
    memmove(stash, stash + 1, (ARENA_STASH - 1) * sizeof *stash);
    a->stash_n[order]--;
  }
  stash[a->stash_n[order]++] = u;
  arena_state(a)[u] = (uint8_t)(ARENA_STASHD | order);
  a->free_bytes += len;
}

void arena_put(struct arena *a, uint32_t unit, uint32_t len) {
  arena_lock(a);
  arena_give(a, unit, len);
  arena_unlock(a);
}

int arena_claim(struct arena *a, uint32_t unit, uint32_t len) {
  uint32_t order = arena_order(len);
  uint32_t u = unit - a->first_unit;
  if (order == ARENA_ORDERS || u >= a->n_units || (u & ((1u << order) - 1)) != 0)
    return -EINVAL;
  while (a->n_made <= u)
    (void)arena_make(a);
  arena_unstash(a);
  uint32_t o = order;
  while (o < ARENA_ORDERS && arena_state(a)[u & ~((1u << o) - 1)] != (ARENA_FREE | o))
    o++;
  if (o == ARENA_ORDERS)
    return -EEXIST; /* no free block holds it whole, so some part of it is taken */
  uint32_t at = u & ~((1u << o) - 1);
  arena_list_del(a, at, o);
  while (o > order) { /* keep the half that holds u, free the other */
    o--;
    uint32_t half = 1u << o;
    arena_list_add(a, (u & half) != 0 ? at : at + half, o);
    at |= u & half;
  }
  arena_state(a)[u] = (uint8_t)(ARENA_TAKEN | order);
  a->free_bytes -= len;
  return 0;
}

uint64_t arena_free_bytes(const struct arena *a) {
  return a->free_bytes;
}

/** Walks one free list; adds its bytes. 0 or a negative line number. */
static int arena_check_list(const struct arena *a, uint32_t order, uint64_t *bytes) {
  uint32_t prev = ABI_SEG_NONE;
  uint32_t left = a->n_made;
  for (uint32_t u = a->head[order]; u != ABI_SEG_NONE; prev = u, u = a->link[u].next) {
    if (u >= a->n_made || left-- == 0)
      return -__LINE__;
    if (arena_state(a)[u] != (ARENA_FREE | order) || a->link[u].prev != prev)
      return -__LINE__;
    *bytes += (uint64_t)ABI_CHUNK_UNIT << order;
  }
  return 0;
}

/** Walks the units: blocks lie side by side, aligned, and no two free buddies stand unmerged. */
static int arena_check_units(const struct arena *a, uint64_t *free_bytes) {
  const uint8_t *state = arena_state(a);
  for (uint32_t u = 0; u < a->n_made;) {
    uint32_t order = state[u] & 0x0fu;
    uint32_t what = state[u] & 0xf0u;
    if (order >= ARENA_ORDERS || (what != ARENA_FREE && what != ARENA_STASHD && what != ARENA_TAKEN))
      return -__LINE__;
    uint32_t n = 1u << order;
    if ((u & (n - 1)) != 0 || n > a->n_made - u)
      return -__LINE__;
    for (uint32_t i = 1; i < n; i++)
      if (state[u + i] != ARENA_INSIDE)
        return -__LINE__;
    if (what == ARENA_FREE && order < ARENA_TOP && state[u ^ n] == state[u])
      return -__LINE__;
    if (what != ARENA_TAKEN)
      *free_bytes += (uint64_t)ABI_CHUNK_UNIT << order;
    u += n;
  }
  return 0;
}

int arena_check(const struct arena *a) {
  uint64_t unmade = (uint64_t)(a->n_units - a->n_made) * ABI_CHUNK_UNIT;
  uint64_t listed = unmade, walked = unmade;
  if (a->magic != ARENA_MAGIC)
    return -__LINE__;
  for (uint32_t o = 0; o < ARENA_ORDERS; o++) {
    int rc = arena_check_list(a, o, &listed);
    if (rc < 0)
      return rc;
    if (a->stash_n[o] > ARENA_STASH)
      return -__LINE__;
    for (uint32_t i = 0; i < a->stash_n[o]; i++) {
      uint32_t u = a->stash[o][i];
      if (u >= a->n_made || arena_state(a)[u] != (ARENA_STASHD | o))
        return -__LINE__;
      listed += (uint64_t)ABI_CHUNK_UNIT << o;
    }
  }
  int rc = arena_check_units(a, &walked);
  if (rc < 0)
    return rc;
  return listed == walked && walked == a->free_bytes ? 0 : -__LINE__;
}
