/*
 * Object pool with stable addresses: blocks of objects, and one u32 per object that is either the next free index or
 * POOL_IN_USE. The links array is one reservation for the whole limit; its pages come into being as indices are made.
 * One owner thread. Called by whoever keeps many objects of a kind: connections, sessions, neighbours, requests.
 */
#include "base/pool.h"
#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

#define POOL_OBJ_MAX   (1u << 20)
#define POOL_LIMIT_MAX (1u << 31)

int pool_init(struct pool *p, uint32_t obj_size, uint32_t block_objs, uint32_t limit) {
  memset(p, 0, sizeof *p);
  if (obj_size == 0 || obj_size > POOL_OBJ_MAX || block_objs == 0 || block_objs > POOL_LIMIT_MAX || limit == 0 ||
      limit > POOL_LIMIT_MAX)
    return -EINVAL;
  p->obj_size = (uint32_t)bits_align_up(obj_size, obj_size >= 64 ? 64 : 16);
  p->block_shift = bits_log2(bits_pow2_up(HS_MIN(block_objs, limit)));
  p->limit = limit;
  p->free_head = POOL_NONE;
  size_t max_blocks = (size_t)bits_div_up(limit, 1ull << p->block_shift);
  p->blocks = calloc(max_blocks, sizeof *p->blocks);
  p->links = calloc(limit, sizeof *p->links);
  if (p->blocks == NULL || p->links == NULL) {
    pool_fini(p);
    return -ENOMEM;
  }
  return 0;
}

void pool_fini(struct pool *p) {
  for (uint32_t b = 0; p->blocks != NULL && b < p->n_blocks; b++)
    free(p->blocks[b]);
  free(p->blocks);
  free(p->links);
  memset(p, 0, sizeof *p);
}

/* Allocates one more block and puts its objects on the free list, lowest index first. */
static int pool_grow(struct pool *p) {
  uint32_t room = p->limit - p->n_made;
  uint32_t n = HS_MIN(1u << p->block_shift, room);
  if (n == 0)
    return -ENOSPC;
  uint8_t *block = aligned_alloc(64, (size_t)bits_align_up((uint64_t)n * p->obj_size, 64));
  if (block == NULL)
    return -ENOMEM;
  p->blocks[p->n_blocks++] = block;
  for (uint32_t i = n; i-- > 0;) {
    p->links[p->n_made + i] = p->free_head;
    p->free_head = p->n_made + i;
  }
  p->n_made += n;
  return 0;
}

int pool_reserve(struct pool *p, uint32_t n) {
  if (n > p->limit - p->n_used)
    return -ENOSPC;
  while (p->n_made - p->n_used < n) {
    int err = pool_grow(p);
    if (err < 0)
      return err;
  }
  return 0;
}

void *pool_get(struct pool *p, uint32_t *idx) {
  if (p->free_head == POOL_NONE && pool_grow(p) < 0) {
    *idx = POOL_NONE;
    return NULL;
  }
  uint32_t i = p->free_head;
  p->free_head = p->links[i];
  p->links[i] = POOL_IN_USE;
  p->n_used++;
  *idx = i;
  return memset(pool_ref(p, i), 0, p->obj_size);
}

int pool_put(struct pool *p, uint32_t idx) {
  if (idx >= p->n_made || p->links[idx] != POOL_IN_USE)
    return -EINVAL;
  p->links[idx] = p->free_head;
  p->free_head = idx;
  p->n_used--;
  return 0;
}

uint32_t pool_next(const struct pool *p, uint32_t from) {
  for (uint32_t i = from; i < p->n_made; i++)
    if (p->links[i] == POOL_IN_USE)
      return i;
  return POOL_NONE;
}
