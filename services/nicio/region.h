/*
 * Regions: the A segments of app workers, mapped read-only, so that a frame's payload can be sent straight from a tx
 * fifo. A TX descriptor names a segment by the low 32 bits of its id (abi/frame.h).
 *
 * The control thread maps and unmaps; the lcore looks up. Between them stands one immutable table: the control thread
 * publishes a new one, the lcore takes it over at the top of a turn and says so, and only then are the old table and
 * the mappings that it alone named given up. So nothing is mapped, unmapped or locked on the hot path.
 */
#ifndef NICIO_REGION_H
#define NICIO_REGION_H

#include "base/err.h"
#include "base/hash.h"
#include "base/list.h"
#include "shm/part.h"

struct region_entry {
  uint32_t key; /* low 32 bits of the segment id; 0 = empty */
  uint32_t pad;
  uint64_t lo, hi; /* arena bounds, offsets in the segment */
  const uint8_t *base;
};
struct region_table {
  uint32_t mask;
  uint32_t pad;
  struct region_table *older; /* to be freed with this one's successor */
  struct region_entry slot[];
};

struct region_map {
  struct list link;
  struct seg seg;
  uint64_t id;
  uint64_t worker_id;
  uint64_t lo, hi;
  int dead; /* dropped; unmapped once the lcore has a table without it */
};

struct regions {
  struct list maps; /* control thread: struct region_map */
  uint32_t n_maps;
  struct region_table *next;    /* atomic: published by the control thread */
  struct region_table *seen;    /* atomic: the one the lcore uses */
  struct region_table *retired; /* control thread: older tables, newest first */
};

HS_MUST_CHECK int region_init(struct regions *r);
/** Unmap all. The lcore must have stopped. */
void region_fini(struct regions *r);

/** Control thread: map the segment behind fd (which stays the caller's), with room for parts up to `span` bytes (0: it
 * has none). Twice the same id is harmless. 0, -errno, -EPROTO when its header lies. */
HS_MUST_CHECK int region_add(struct regions *r, uint64_t id, int fd, uint64_t span);
/** Control thread: a part of a worker's segment is mapped in its place, or zeros are again; the lcore reads on
 * meanwhile. 0, -ENOENT: the segment is not here (yet), else as part_map (shm/part.h). */
HS_MUST_CHECK int region_part(struct regions *r, uint64_t worker_id, int fd, uint64_t place, uint64_t size);
int region_unpart(struct regions *r, uint64_t worker_id, uint64_t place, uint64_t size);
/** Control thread: forget the segment; its memory goes as soon as the lcore has let go (region_collect). */
int region_drop(struct regions *r, uint64_t id);
/** Control thread: unmap what the lcore no longer sees. Returns how many mappings still wait. */
uint32_t region_collect(struct regions *r);

/** Lcore, top of each turn: take over the newest table. */
static inline void region_refresh(struct regions *r) {
  struct region_table *t = __atomic_load_n(&r->next, __ATOMIC_ACQUIRE);
  if (t != __atomic_load_n(&r->seen, __ATOMIC_RELAXED))
    __atomic_store_n(&r->seen, t, __ATOMIC_RELEASE);
}
static inline uint32_t region_hash(uint32_t key) {
  return (uint32_t)hash_mix64(key);
}
/** Lcore: address of [off, off+len) in the arena of segment `key`, or NULL when it is unknown or out of bounds. */
static inline const uint8_t *region_at(const struct regions *r, uint32_t key, uint64_t off, uint32_t len) {
  const struct region_table *t = __atomic_load_n(&r->seen, __ATOMIC_RELAXED);
  uint32_t i = region_hash(key) & t->mask;

  while (t->slot[i].key != key) {
    if (t->slot[i].key == 0)
      return NULL;
    i = (i + 1) & t->mask;
  }
  const struct region_entry *e = &t->slot[i];
  if (off < e->lo || off > e->hi || len > e->hi - off)
    return NULL;
  return e->base + off;
}

#endif
