/*
 * Arena: chunks of one segment, handed out by the segment's only writer.
 *
 * A buddy allocator over [arena_off, arena_off+arena_size) whose book-keeping lies in memory that the caller gives
 * (private memory in the engine; the A segment's locks area in the library, so that forked processes share it). O(log)
 * per call, no system call. After a crash the engine starts empty and re-marks every chunk that a live table names
 * (arena_claim).
 */
#ifndef HS_SHM_ARENA_H
#define HS_SHM_ARENA_H

#include "abi/fifo.h"

struct arena;

/** Bytes of book-keeping for an arena of `size` bytes (multiple of ABI_CHUNK_MAX). */
uint64_t arena_meta_size(uint64_t size);
/** Make an empty (all free) arena in `meta`. `first_unit` is arena_off / ABI_CHUNK_UNIT. Returns it, or NULL on a bad
 * size. */
struct arena *arena_init(void *meta, uint64_t meta_size, uint32_t first_unit, uint64_t size);
/** From now on several threads of this process use it: calls take a spinning lock of a few dozen instructions. Not for
 * memory that another process writes: its death would leave the lock taken. */
void arena_share(struct arena *a);
/** Get a chunk of exactly `len` bytes (ABI_CHUNK_UNIT × 2^k ≤ ABI_CHUNK_MAX). Returns its unit number or ABI_SEG_NONE.
 * Last freed, first used: warm memory. */
uint32_t arena_get(struct arena *a, uint32_t len);
void arena_put(struct arena *a, uint32_t unit, uint32_t len);
/** Mark a chunk as taken (adoption). 0, or -EEXIST if any part is taken already, -EINVAL if it is no chunk of this
 * arena. */
int arena_claim(struct arena *a, uint32_t unit, uint32_t len);
uint64_t arena_free_bytes(const struct arena *a);
/** Invariants: lists and bitmaps agree, free bytes add up. 0 or a negative line number. */
int arena_check(const struct arena *a);

#endif
