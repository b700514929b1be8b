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
 *
 * Where the area has no memory (yet, or any more) largest blocks are GONE, or, beyond n_avail, nothing at all. A place
 * that is to go is drained first: its free blocks leave the lists at once and what is put there later does not enter
 * them, so that no new chunk keeps it from falling empty. Both count as absent, neither as free nor as taken.
 *
 * soiled[] has a bit for each page that was handed out since the system last gave or took it: what the area costs. What
 * is soiled beyond the aim is taken out of the free lists block by block (arena_sweep), given back to the system by the
 * caller, without the lock, and put back clean. The aim follows the most that was taken in the last two looks.
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

#define ARENA_PAGE      4096u
#define ARENA_WORD      64u                                       /* pages per word of soiled[] */
#define ARENA_TOP_WORDS (ABI_CHUNK_MAX / ARENA_PAGE / ARENA_WORD) /* words of a largest block */
#define ARENA_LOOK      64u                                       /* largest blocks looked at per sweep */

#define ARENA_INSIDE 0x00u /* state[]: no block begins here */
#define ARENA_FREE   0x10u /* | order: in a free list */
#define ARENA_STASHD 0x20u /* | order */
#define ARENA_TAKEN  0x40u /* | order */
#define ARENA_GONE   0x30u /* | largest order: no memory there */
#define ARENA_DRAIN  0x50u /* | order: free, but about to go: in no list */

_Static_assert(ABI_CHUNK_UNIT << ARENA_TOP == ABI_CHUNK_MAX, "orders span the chunk sizes");
_Static_assert(ABI_CHUNK_UNIT * 2 == ARENA_PAGE, "a block of order 1 is a page");

/** Links of a free block, valid only while it is in a list. */
struct arena_link {
  uint32_t next, prev;
};

struct arena {
  uint64_t magic;
  uint64_t free_bytes;
  uint32_t n_units;
  uint32_t first_unit;
  uint64_t limit;              /* bytes that may be taken at a time */
  uint64_t soiled_bytes;       /* of pages whose bit is set */
  uint64_t peak, peak_before;  /* most bytes taken since the last arena_aim, and between it and the one before */
  uint32_t shared, lock;       /* arena_share */
  uint32_t sweep_at;           /* unit of the largest block that arena_sweep looks at next */
  uint32_t n_made;             /* units [0, n_made) have book-keeping; the rest is free and was never touched … */
  uint32_t n_avail;            /* … up to here; beyond it there is no memory */
  uint32_t low;                /* the lowest of the largest blocks is split first, so that high places fall empty */
  uint64_t absent;             /* bytes of n_units without memory, or free in the place that is drained */
  uint32_t drain, drain_end;   /* units of the place that is drained; equal: none */
  uint32_t head[ARENA_ORDERS]; /* free lists */
  uint32_t stash_n[ARENA_ORDERS];
  uint32_t stash[ARENA_ORDERS][ARENA_STASH]; /* [0] the oldest */
  struct arena_link link[];                  /* n_units; then uint64_t soiled[], then uint8_t state[n_units] */
};

_Static_assert(offsetof(struct arena, link) % sizeof(uint64_t) == 0, "words of soiled[] are aligned");

static inline uint64_t *arena_soiled_words(const struct arena *a) {
  return (uint64_t *)(uintptr_t)(const void *)(a->link + a->n_units);
}

static inline uint8_t *arena_state(const struct arena *a) {
  return (uint8_t *)(arena_soiled_words(a) + a->n_units / (1u << ARENA_TOP) * ARENA_TOP_WORDS);
}

static inline uint64_t arena_taken(const struct arena *a) {
  return (uint64_t)a->n_units * ABI_CHUNK_UNIT - a->absent - a->free_bytes;
}

static inline int arena_is_draining(const struct arena *a, uint32_t u) {
  return u - a->drain < a->drain_end - a->drain;
}

/** What a free block at u is: ARENA_FREE or ARENA_DRAIN. */
static inline uint32_t arena_free_kind(const struct arena *a, uint32_t u) {
  return HS_UNLIKELY(arena_is_draining(a, u)) ? ARENA_DRAIN : ARENA_FREE;
}

/** Order of a chunk length, or ARENA_ORDERS when there is no such chunk. */
static inline uint32_t arena_order(uint32_t len) {
  if (!bits_is_pow2(len) || len < ABI_CHUNK_UNIT || len > ABI_CHUNK_MAX)
    return ARENA_ORDERS;
  return bits_log2(len / ABI_CHUNK_UNIT);
}

uint64_t arena_meta_size(uint64_t size) {
  uint64_t units = size / ABI_CHUNK_UNIT;
  return bits_align_up(sizeof(struct arena) + units * (sizeof(struct arena_link) + 1) + size / ARENA_PAGE / 8, 64);
}

static void arena_list_add(struct arena *a, uint32_t u, uint32_t order) {
  if (HS_UNLIKELY(arena_is_draining(a, u))) {
    arena_state(a)[u] = (uint8_t)(ARENA_DRAIN | order);
    return;
  }
  uint32_t next = a->head[order];
  a->link[u] = (struct arena_link){.next = next, .prev = ABI_SEG_NONE};
  if (next != ABI_SEG_NONE)
    a->link[next].prev = u;
  a->head[order] = u;
  arena_state(a)[u] = (uint8_t)(ARENA_FREE | order);
}

static void arena_list_del(struct arena *a, uint32_t u, uint32_t order) {
  if (HS_UNLIKELY(arena_is_draining(a, u))) {
    arena_state(a)[u] = ARENA_INSIDE;
    return;
  }
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
  if (u >= a->n_avail)
    return 0;
  memset(arena_state(a) + u, ARENA_INSIDE, 1u << ARENA_TOP);
  memset(arena_soiled_words(a) + u / (1u << ARENA_TOP) * ARENA_TOP_WORDS, 0, ARENA_TOP_WORDS * sizeof(uint64_t));
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
  a->n_avail = a->n_units;
  a->first_unit = first_unit;
  a->free_bytes = a->limit = size;
  for (uint32_t o = 0; o < ARENA_ORDERS; o++)
    a->head[o] = ABI_SEG_NONE;
  a->magic = ARENA_MAGIC;
  return a;
}

/** Puts a block into the lists, merged with its buddy as long as that is free. */
static void arena_merge(struct arena *a, uint32_t u, uint32_t order) {
  uint8_t *state = arena_state(a);
  uint32_t kind = arena_free_kind(a, u);
  state[u] = ARENA_INSIDE;
  while (order < ARENA_TOP) {
    uint32_t buddy = u ^ (1u << order);
    if (state[buddy] != (kind | order))
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
  if (o == ARENA_TOP && a->low)
    for (uint32_t other = u; other != ABI_SEG_NONE; other = a->link[other].next)
      u = HS_MIN(u, other);
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

/** Bits that are set: by halves, because the compiler's own is a call into its library. */
static inline uint64_t arena_ones(uint64_t v) {
  v -= v >> 1 & 0x5555555555555555ull;
  v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
  return ((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full) * 0x0101010101010101ull >> 56;
}

/** Sets (or clears) the bits of the pages of [u, u + 1 << order); they never straddle a word unless they fill words. */
static void arena_mark(struct arena *a, uint32_t u, uint32_t order, int set) {
  uint32_t page = u / 2, n = order == 0 ? 1u : 1u << (order - 1);
  uint64_t *word = arena_soiled_words(a) + page / ARENA_WORD;
  for (; n != 0; word++) {
    uint32_t part = HS_MIN(n, ARENA_WORD);
    uint64_t mask = (~0ull >> (ARENA_WORD - part)) << (page % ARENA_WORD);
    uint64_t now = set ? *word | mask : *word & ~mask;
    uint64_t changed = arena_ones(*word ^ now) * ARENA_PAGE;
    a->soiled_bytes += set ? changed : -changed;
    *word = now;
    n -= part;
  }
}

/** Whether any page of the block has its bit set. */
static int arena_is_soiled(const struct arena *a, uint32_t u, uint32_t order) {
  uint32_t page = u / 2, n = order == 0 ? 1u : 1u << (order - 1);
  const uint64_t *word = arena_soiled_words(a) + page / ARENA_WORD;
  if (n < ARENA_WORD)
    return (*word >> (page % ARENA_WORD) & (~0ull >> (ARENA_WORD - n))) != 0;
  for (; n != 0; word++, n -= ARENA_WORD)
    if (*word != 0)
      return 1;
  return 0;
}

/** A block is its taker's from now on. */
static inline uint32_t arena_hand_out(struct arena *a, uint32_t u, uint32_t order) {
  arena_state(a)[u] = (uint8_t)(ARENA_TAKEN | order);
  a->free_bytes -= (uint64_t)ABI_CHUNK_UNIT << order;
  arena_mark(a, u, order, 1);
  uint64_t taken = arena_taken(a);
  if (taken > a->peak)
    a->peak = taken;
  return a->first_unit + u;
}

static uint32_t arena_take(struct arena *a, uint32_t len, uint64_t limit) {
  uint32_t order = arena_order(len);
  uint32_t u;
  if (order == ARENA_ORDERS || arena_taken(a) + len > limit)
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
  return arena_hand_out(a, u, order);
}

uint32_t arena_get(struct arena *a, uint32_t len) {
  arena_lock(a);
  uint32_t unit = arena_take(a, len, a->limit);
  arena_unlock(a);
  return unit;
}

uint32_t arena_get_first(struct arena *a) {
  arena_lock(a);
  uint32_t unit = arena_take(a, ABI_CHUNK_UNIT, UINT64_MAX);
  arena_unlock(a);
  return unit;
}

static void arena_give(struct arena *a, uint32_t unit, uint32_t len) {
  uint32_t order = arena_order(len);
  uint32_t u = unit - a->first_unit;
  /* What was not handed out in this shape is ignored: the library must not abort its host over it. */
  if (order == ARENA_ORDERS || u >= a->n_made || arena_state(a)[u] != (ARENA_TAKEN | order))
    return;
  if (HS_UNLIKELY(arena_is_draining(a, u))) {
    arena_merge(a, u, order);
    a->absent += len;
    return;
  }
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

static int arena_own(struct arena *a, uint32_t unit, uint32_t len) {
  uint32_t order = arena_order(len);
  uint32_t u = unit - a->first_unit;
  if (order == ARENA_ORDERS || u >= a->n_avail || (u & ((1u << order) - 1)) != 0)
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
  (void)arena_hand_out(a, u, order);
  return 0;
}

int arena_claim(struct arena *a, uint32_t unit, uint32_t len) {
  arena_lock(a);
  int rc = arena_own(a, unit, len);
  arena_unlock(a);
  return rc;
}

uint64_t arena_limit_set(struct arena *a, uint64_t least, uint64_t more, uint64_t most) {
  arena_lock(a);
  uint64_t taken = arena_taken(a);
  a->limit = HS_MIN(most, HS_MAX(least, more < UINT64_MAX - taken ? taken + more : UINT64_MAX));
  uint64_t limit = a->limit;
  arena_unlock(a);
  return limit;
}

uint64_t arena_soiled_bytes(struct arena *a) {
  arena_lock(a);
  uint64_t bytes = a->soiled_bytes;
  arena_unlock(a);
  return bytes;
}

void arena_soil(struct arena *a, uint64_t off, uint64_t len) {
  uint64_t size = (uint64_t)a->n_units * ABI_CHUNK_UNIT;
  if (off >= size || len == 0)
    return;
  arena_lock(a);
  uint64_t end = len < size - off ? off + len : size;
  while ((uint64_t)a->n_made * ABI_CHUNK_UNIT < end)
    (void)arena_make(a);
  for (uint64_t at = off & ~(uint64_t)(ARENA_PAGE - 1); at < end; at += ARENA_PAGE)
    arena_mark(a, (uint32_t)(at / ABI_CHUNK_UNIT), 1, 1);
  arena_unlock(a);
}

uint64_t arena_peak(struct arena *a) {
  arena_lock(a);
  uint64_t most = HS_MAX(a->peak, a->peak_before);
  a->peak_before = a->peak;
  a->peak = arena_taken(a);
  arena_unlock(a);
  return most;
}

uint64_t arena_aim(struct arena *a, uint64_t keep, uint64_t step) {
  uint64_t most = arena_peak(a);
  most += step / 2;
  return most <= keep || step == 0 ? HS_MAX(keep, most) : keep + (most - keep + step - 1) / step * step;
}

/** A soiled free block of at least a page within the largest block at `top`, as its first unit; ABI_SEG_NONE. */
static uint32_t arena_soiled_block(const struct arena *a, uint32_t top) {
  const uint8_t *state = arena_state(a);
  if (!arena_is_soiled(a, top, ARENA_TOP))
    return ABI_SEG_NONE;
  for (uint32_t u = top; u < top + (1u << ARENA_TOP); u += 1u << (state[u] & 0x0fu))
    if ((state[u] & 0xf0u) == ARENA_FREE && (state[u] & 0x0fu) != 0 && arena_is_soiled(a, u, state[u] & 0x0fu))
      return u;
  return ABI_SEG_NONE;
}

int arena_sweep(struct arena *a, uint64_t aim, uint32_t *unit, uint32_t *len) {
  int rc = 0;
  arena_lock(a);
  if (a->soiled_bytes <= aim)
    goto out;
  (void)arena_unstash(a);
  for (uint32_t i = 0; i < ARENA_LOOK; i++, a->sweep_at += 1u << ARENA_TOP) {
    if (a->sweep_at >= a->n_made)
      a->sweep_at = 0;
    uint32_t u = a->n_made != 0 ? arena_soiled_block(a, a->sweep_at) : ABI_SEG_NONE;
    if (u == ABI_SEG_NONE)
      continue;
    uint32_t order = arena_state(a)[u] & 0x0fu;
    arena_list_del(a, u, order);
    arena_state(a)[u] = (uint8_t)(ARENA_TAKEN | order);
    a->free_bytes -= (uint64_t)ABI_CHUNK_UNIT << order;
    *unit = a->first_unit + u;
    *len = ABI_CHUNK_UNIT << order;
    rc = 1;
    break;
  }
out:
  arena_unlock(a);
  return rc;
}

void arena_swept(struct arena *a, uint32_t unit, uint32_t len) {
  uint32_t order = arena_order(len), u = unit - a->first_unit;
  arena_lock(a);
  if (order != ARENA_ORDERS && u < a->n_made && arena_state(a)[u] == (ARENA_TAKEN | order)) {
    arena_mark(a, u, order, 0);
    a->free_bytes += len;
    arena_merge(a, u, order);
  }
  arena_unlock(a);
}

/* --- places that come and go; an arena that is not shared by threads --- */

void arena_bound(struct arena *a, uint64_t size) {
  uint64_t all = (uint64_t)a->n_units * ABI_CHUNK_UNIT;
  if (a->n_made != 0 || size > all || size % ABI_CHUNK_MAX != 0)
    return;
  a->n_avail = (uint32_t)(size / ABI_CHUNK_UNIT);
  a->free_bytes = size;
  a->absent = all - size;
  a->low = 1;
}

/** Book-keeping for the largest blocks up to u, which have no memory. */
static void arena_skip(struct arena *a, uint32_t u) {
  while (arena_make(a))
    ;
  for (; a->n_avail < u; a->n_avail = a->n_made += 1u << ARENA_TOP) {
    uint32_t at = a->n_made;
    memset(arena_state(a) + at, ARENA_INSIDE, 1u << ARENA_TOP);
    memset(arena_soiled_words(a) + at / (1u << ARENA_TOP) * ARENA_TOP_WORDS, 0, ARENA_TOP_WORDS * sizeof(uint64_t));
    arena_state(a)[at] = ARENA_GONE | ARENA_TOP;
  }
}

/** Units of [off, off+len) of the area: 1, or 0 when those are no largest blocks of it. */
static int arena_range(const struct arena *a, uint64_t off, uint64_t len, uint32_t *u, uint32_t *end) {
  uint64_t all = (uint64_t)a->n_units * ABI_CHUNK_UNIT;
  if (len == 0 || off % ABI_CHUNK_MAX != 0 || len % ABI_CHUNK_MAX != 0 || off > all || len > all - off)
    return 0;
  *u = (uint32_t)(off / ABI_CHUNK_UNIT);
  *end = (uint32_t)((off + len) / ABI_CHUNK_UNIT);
  return 1;
}

int arena_add(struct arena *a, uint64_t off, uint64_t len) {
  uint32_t u, end;
  if (!arena_range(a, off, len, &u, &end) || (u < a->n_avail && end > a->n_avail))
    return -EINVAL;
  for (uint32_t at = u; at < end && u < a->n_avail; at += 1u << ARENA_TOP)
    if (at >= a->n_made || arena_state(a)[at] != (ARENA_GONE | ARENA_TOP))
      return -EEXIST;
  if (u > a->n_avail)
    arena_skip(a, u);
  if (u == a->n_avail)
    a->n_avail = end; /* made as it is needed */
  else
    for (uint32_t at = end; at != u;) /* the lowest comes to the head of the list */
      arena_list_add(a, at -= 1u << ARENA_TOP, ARENA_TOP);
  a->absent -= len;
  a->free_bytes += len;
  return 0;
}

/** Every free block of the drained place enters the lists (in) or leaves them. */
static void arena_drain_turn(struct arena *a, uint32_t u, uint32_t end, int in) {
  const uint8_t *state = arena_state(a);
  for (uint32_t at = u, order; at < end; at += 1u << order) {
    order = state[at] & 0x0fu;
    if ((state[at] & 0xf0u) == (in ? ARENA_DRAIN : ARENA_FREE)) {
      uint64_t len = (uint64_t)ABI_CHUNK_UNIT << order;
      if (in)
        arena_list_add(a, at, order);
      else
        arena_list_del(a, at, order);
      arena_state(a)[at] = (uint8_t)((in ? ARENA_FREE : ARENA_DRAIN) | order);
      a->free_bytes += in ? len : -len;
      a->absent -= in ? len : -len;
    }
  }
}

int arena_drain(struct arena *a, uint64_t off, uint64_t len) {
  uint32_t u, end;
  if (a->drain != a->drain_end)
    return -EBUSY;
  if (!arena_range(a, off, len, &u, &end) || end > a->n_avail)
    return -EINVAL;
  while (a->n_made < end)
    (void)arena_make(a);
  for (uint32_t at = u; at < end; at += 1u << ARENA_TOP)
    if (arena_state(a)[at] == (ARENA_GONE | ARENA_TOP))
      return -EINVAL;
  (void)arena_unstash(a);
  arena_drain_turn(a, u, end, 0);
  a->drain = u;
  a->drain_end = end;
  return 0;
}

void arena_undrain(struct arena *a) {
  uint32_t u = a->drain, end = a->drain_end;
  a->drain = a->drain_end = 0;
  arena_drain_turn(a, u, end, 1);
}

int arena_remove(struct arena *a) {
  const uint8_t *state = arena_state(a);
  if (a->drain == a->drain_end)
    return 0;
  for (uint32_t at = a->drain; at < a->drain_end; at += 1u << ARENA_TOP)
    if (state[at] != (ARENA_DRAIN | ARENA_TOP))
      return 0;
  for (uint32_t at = a->drain; at < a->drain_end; at += 1u << ARENA_TOP) {
    arena_mark(a, at, ARENA_TOP, 0);
    arena_state(a)[at] = ARENA_GONE | ARENA_TOP;
  }
  a->drain = a->drain_end = 0;
  return 1;
}

uint64_t arena_taken_bytes(const struct arena *a) {
  return arena_taken(a);
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
static int arena_check_units(const struct arena *a, uint64_t *free_bytes, uint64_t *absent) {
  const uint8_t *state = arena_state(a);
  for (uint32_t u = 0; u < a->n_made;) {
    uint32_t order = state[u] & 0x0fu;
    uint32_t what = state[u] & 0xf0u;
    int gone = what == ARENA_GONE && order == ARENA_TOP;
    int drain = what == ARENA_DRAIN && arena_is_draining(a, u);
    if (order >= ARENA_ORDERS || (what != ARENA_FREE && what != ARENA_STASHD && what != ARENA_TAKEN && !gone && !drain))
      return -__LINE__;
    if (what == ARENA_FREE && arena_is_draining(a, u))
      return -__LINE__;
    uint32_t n = 1u << order;
    if ((u & (n - 1)) != 0 || n > a->n_made - u)
      return -__LINE__;
    for (uint32_t i = 1; i < n; i++)
      if (state[u + i] != ARENA_INSIDE)
        return -__LINE__;
    if ((what == ARENA_FREE || drain) && order < ARENA_TOP && state[u ^ n] == state[u])
      return -__LINE__;
    if (what == ARENA_TAKEN && !arena_is_soiled(a, u, order))
      return -__LINE__;
    if (gone || drain)
      *absent += (uint64_t)ABI_CHUNK_UNIT << order;
    else if (what != ARENA_TAKEN)
      *free_bytes += (uint64_t)ABI_CHUNK_UNIT << order;
    u += n;
  }
  return 0;
}

/** The count of soiled bytes is that of the bits. */
static int arena_check_soiled(const struct arena *a) {
  uint64_t pages = 0;
  for (uint32_t i = 0; i < a->n_made / (1u << ARENA_TOP) * ARENA_TOP_WORDS; i++)
    pages += arena_ones(arena_soiled_words(a)[i]);
  return pages * ARENA_PAGE == a->soiled_bytes ? 0 : -__LINE__;
}

int arena_check(const struct arena *a) {
  uint64_t unmade = (uint64_t)(a->n_avail - a->n_made) * ABI_CHUNK_UNIT;
  uint64_t absent = (uint64_t)(a->n_units - a->n_avail) * ABI_CHUNK_UNIT;
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
  int rc = arena_check_units(a, &walked, &absent);
  if (rc == 0)
    rc = arena_check_soiled(a);
  if (rc < 0)
    return rc;
  return listed == walked && walked == a->free_bytes && absent == a->absent ? 0 : -__LINE__;
}
