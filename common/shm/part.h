/*
 * Parts: more memory for the arena of an A segment, each a memfd of its own, mapped side by side (abi/worker.h).
 *
 * The broker makes them, the app maps them writable, engine and nicio read-only. The place of a part in its segment
 * follows from three numbers (arena, first bytes, step), so that both ends of AddPart mean the same. Where no part is,
 * whoever reads finds zeros of private memory: a hostile app that names bytes there costs its reader nothing, and no
 * reader needs a check beyond the arena's bounds. Mapping replaces what was there in one step, under running readers.
 * Control paths; a struct seg's owner is the only one who calls.
 */
#ifndef HS_SHM_PART_H
#define HS_SHM_PART_H

#include "shm/seg.h"

#define PART_MAX 64u /* places of a worker; each one in use costs a descriptor in broker, engine and nicio */

/** Where place n lies, relative to the arena: *off, *len, multiples of ABI_CHUNK_MAX. The first eight have `step`
 * bytes, the next eight twice that, and so on; the last one ends with the arena. 0, -EINVAL: there is no such place. */
int part_place(uint64_t arena, uint64_t first, uint64_t step, uint32_t n, uint64_t *off, uint64_t *len);
/** A memfd of `size` zero bytes, sealed against shrink and grow. fd or -errno. Broker. */
int part_create(uint64_t size);
/** Whether fd is a memfd of that size, sealed so; with `no_writers` also against further writers. */
int part_fd_ok(int fd, uint64_t size, int no_writers);
/** The segment's address space grows to `span` bytes, which may move it; what is beyond the file reads as zeros. Before
 * anybody holds an address. 0 or -errno. */
int part_span(struct seg *s, uint64_t span);
/** The part behind fd (which stays the caller's) is mapped at offset `place`. 0, -EINVAL (not beyond the file, not
 * inside the span, not on a chunk's border), -EPROTO (not such a memfd), -errno. */
int part_map(struct seg *s, int fd, uint64_t place, uint64_t size);
/** Zeros again at [place, place+size). 0 or -errno. */
int part_clear(struct seg *s, uint64_t place, uint64_t size);

#endif
