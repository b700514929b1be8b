/*
 * Pool of objects of one size with u32 indices. It grows by blocks; objects never move, so pointers stay good until
 * pool_put. It refuses past its limit instead of growing without bound.
 *
 * One owner thread, private memory. pool_get may allocate a block; pool_reserve does so beforehand.
 */
#ifndef HS_BASE_POOL_H
#define HS_BASE_POOL_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define POOL_NONE   UINT32_MAX       /* no object */
#define POOL_IN_USE (UINT32_MAX - 1) /* in links: the object is out */

struct pool {
  uint8_t **blocks;     /* block b holds objects [b << shift, (b + 1) << shift) */
  uint32_t *links;      /* per object: POOL_IN_USE or the next free index; room for all blocks, touched as they come */
  uint32_t obj_size;    /* bytes, rounded up to obj alignment */
  uint32_t block_shift; /* log2 of objects per block */
  uint32_t n_blocks;    /* blocks allocated */
  uint32_t limit;       /* most objects ever out at once */
  uint32_t n_made;      /* objects that exist, free or out */
  uint32_t n_used;      /* objects out */
  uint32_t free_head;   /* first free index or POOL_NONE */
};

/**
 * Makes a pool. obj_size 1..2^20 bytes (objects are aligned to 64 if that large, else to 16); block_objs is rounded up
 * to a power of two; limit 1..2^31 objects. Returns 0, -EINVAL, -ENOMEM.
 */
HS_MUST_CHECK int pool_init(struct pool *p, uint32_t obj_size, uint32_t block_objs, uint32_t limit);

/** Frees all memory; objects still out become invalid. Harmless on a zero-filled or finished pool. */
void pool_fini(struct pool *p);

/** Allocates so that the next n pool_get need no memory. Returns 0, -ENOSPC past the limit, -ENOMEM. */
HS_MUST_CHECK int pool_reserve(struct pool *p, uint32_t n);

/** Takes a zero-filled object; its index goes to *idx. NULL with *idx = POOL_NONE at the limit or without memory. */
HS_MUST_CHECK void *pool_get(struct pool *p, uint32_t *idx);

/** Gives an object back. Returns 0, or -EINVAL if idx is not out (the caller's bug; nothing changes). */
int pool_put(struct pool *p, uint32_t idx);

/** Pointer of an index known to be out; no check. */
static inline void *pool_ref(const struct pool *p, uint32_t idx) {
  uint32_t in_block = idx & ((1u << p->block_shift) - 1);
  return p->blocks[idx >> p->block_shift] + (size_t)in_block * p->obj_size;
}

/** Pointer of an index, NULL if it is not out. */
static inline void *pool_at(const struct pool *p, uint32_t idx) {
  return idx < p->n_made && p->links[idx] == POOL_IN_USE ? pool_ref(p, idx) : NULL;
}

/** First index ≥ from that is out, or POOL_NONE; for walks: i = pool_next(p, 0); i != POOL_NONE; pool_next(p, i + 1).
 */
uint32_t pool_next(const struct pool *p, uint32_t from);

static inline uint32_t pool_used(const struct pool *p) {
  return p->n_used;
}

#endif
