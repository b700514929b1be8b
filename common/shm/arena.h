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
/** A chunk of ABI_CHUNK_UNIT whatever the limit says: a fifo that holds none is never kept waiting by what others hold.
 */
uint32_t arena_get_first(struct arena *a);
void arena_put(struct arena *a, uint32_t unit, uint32_t len);
/** Mark a chunk as taken (adoption). 0, or -EEXIST if any part is taken already, -EINVAL if it is no chunk of this
 * arena. */
int arena_claim(struct arena *a, uint32_t unit, uint32_t len);
/** From now on `more` bytes beyond what is out may go out, or `least` in all, but not beyond `most`; what is out stays
 * so. Adoption is not bound by it. Returns how much may be out. */
uint64_t arena_limit_set(struct arena *a, uint64_t least, uint64_t more, uint64_t most);

/* --- memory that goes back to the system; the calls that do it are the caller's, between arena_sweep and arena_swept
 */

/** Bytes of memory, in pages, that the area costs: handed out at some time and not given back since. */
uint64_t arena_soiled_bytes(struct arena *a);
/** The file has memory at [off, off+len) of the area already (a predecessor's); before the first arena_claim. */
void arena_soil(struct arena *a, uint64_t off, uint64_t len);
/** How much memory is worth keeping: `keep` and as many `step`s as the most that was out in the last two looks needs,
 * half a step of room included. Each call is a look: once a second or so. */
uint64_t arena_aim(struct arena *a, uint64_t keep, uint64_t step);
/** 1: more than `aim` is soiled, and [*unit, + *len bytes) is a free block of it, nobody's now: give its memory back
 * and say arena_swept. 0: enough is clean, or nothing was found among the next 64 MB (a later call goes on). */
int arena_sweep(struct arena *a, uint64_t aim, uint32_t *unit, uint32_t *len);
/** The block of arena_sweep has no memory any more. */
void arena_swept(struct arena *a, uint32_t unit, uint32_t len);
/** The look of arena_aim: the most that was out in the last two looks, bytes. */
uint64_t arena_peak(struct arena *a);

/* --- memory that comes and goes by whole places (shm/part.h): multiples of ABI_CHUNK_MAX, relative to the area; not
 * for an arena that threads share --- */

/** Only the first `size` bytes are there. Right after arena_init. */
void arena_bound(struct arena *a, uint64_t size);
/** [off, off+len) is there from now on. 0, -EINVAL, -EEXIST. */
int arena_add(struct arena *a, uint64_t off, uint64_t len);
/** No new chunk lies in [off, off+len), which is all there, so that it falls empty; one place at a time. 0, -EINVAL,
 * -EBUSY. */
int arena_drain(struct arena *a, uint64_t off, uint64_t len);
/** The place stays. */
void arena_undrain(struct arena *a);
/** 1: the drained place is empty, and not there any more; 0: it still holds chunks, or there is none. */
int arena_remove(struct arena *a);

/** Bytes that are out. */
uint64_t arena_taken_bytes(const struct arena *a);
/** Bytes that are there and not out, but for those of a place that is drained. */
uint64_t arena_free_bytes(const struct arena *a);
/** Invariants: lists and bitmaps agree, free bytes add up. 0 or a negative line number. */
int arena_check(const struct arena *a);

#endif
