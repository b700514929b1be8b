/*
 * Byte fifo: positions and the chunk table.
 *
 * A fifo carries one direction of one session. The producer owns `tail`, the chunks and the chunk table, and they lie
 * in the segment that only it writes; the consumer owns `head`, in its own segment. Positions are bytes since the
 * session began, modulo 2^32. Bytes lie in chunks of memory; the table is a ring of ABI_FIFO_CHUNKS entries, entry
 * number n at index n % ABI_FIFO_CHUNKS, each saying which positions it holds: `start` of entry n+1 equals start+len of
 * entry n. `chunk_tail` counts the entries ever published. An entry is dead when the consumer's head has reached its
 * end; only then may the producer overwrite it or hand its memory to another fifo. So a fifo grows and shrinks by whole
 * chunks and no byte ever moves; an empty fifo may hold no chunk at all. Bytes may be placed beyond `tail`
 * (out-of-order segments) as far as published chunks reach.
 *
 * Order of stores, producer: bytes → tail (release). New chunk: entry → chunk_tail (release) → bytes → tail.
 * Every prefix is a valid record: an entry without bytes is memory held, not data.
 */
#ifndef HS_ABI_FIFO_H
#define HS_ABI_FIFO_H

#include "base/bytes.h"

#define ABI_FIFO_CHUNKS 16u                   /* entries in a chunk table */
#define ABI_CHUNK_UNIT  2048u                 /* chunks are this times a power of two, aligned to their unit */
#define ABI_CHUNK_MAX   (1024u * 1024u)       /* largest chunk, bytes */
#define ABI_FIFO_MAX    (14u * ABI_CHUNK_MAX) /* largest fifo: two entries may be half used at the ends */

/** One chunk. 16 bytes; written whole before chunk_tail covers it. */
struct abi_chunk {
  uint32_t start; /* position of its first byte */
  uint32_t len;   /* bytes, a power of two times ABI_CHUNK_UNIT */
  uint32_t unit;  /* offset in the segment, in ABI_CHUNK_UNIT */
  uint32_t seg;   /* which of the worker's segments of this side: 0 = the first one */
};
_Static_assert(sizeof(struct abi_chunk) == 16, "chunk table entry");

/** The producer's words of a fifo (they sit inside a session half). */
struct abi_fifo_prod {
  uint32_t tail;       /* atomic: bytes published */
  uint32_t chunk_tail; /* atomic: table entries published */
};

#endif
