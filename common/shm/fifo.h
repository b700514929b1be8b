/*
 * Byte fifo over chunks (abi/fifo.h): producer's and consumer's private handles.
 *
 * Producer: reserve → copy (or place out of order) → publish. Consumer: peek pieces → copy or use in place → consume.
 * Every word of the peer is loaded once per call and checked; -EPROTO means the peer lies and is to be detached. Chunk
 * entries are copied into the handle before they are checked. Hot path: no log, malloc, lock or system call.
 */
#ifndef HS_SHM_FIFO_H
#define HS_SHM_FIFO_H

#include "abi/fifo.h"
#include "shm/arena.h"
#include "shm/seg.h"

/** A contiguous piece of fifo memory. */
struct fifo_piece {
  uint8_t *p;
  uint32_t len;
  uint32_t seg; /* index of the segment it lies in */
  uint64_t off; /* its offset in that segment */
};

/** Producer's private handle; about 100 bytes, no pointer into the peer's memory but the head word. */
struct fifo_prod {
  struct abi_fifo_prod *mine;
  struct abi_chunk *table;   /* own segment */
  const uint32_t *peer_head; /* consumer's word */
  uint8_t *base;             /* own segment's mapping */
  struct arena *arena;
  uint32_t tail; /* private copies of own words */
  uint32_t chunk_tail;
  uint32_t chunk_head; /* oldest entry whose memory we have not taken back */
  uint32_t end;        /* position up to which chunks exist */
  uint32_t head;       /* last head seen, always tail - head ≤ size */
  uint32_t size;       /* limit: bytes between head and end of promised room; fifo_prod_size_set changes it */
  uint32_t
      patient; /* its user can wait for memory: no chunk so small that the entries can't reach the limit any more */
  uint32_t next_len; /* bytes of the next chunk if nothing asks for more: doubles while the fifo streams */
};

/** Consumer's private handle. */
struct fifo_cons {
  const struct abi_fifo_prod *peer;
  const struct abi_chunk *table;  /* peer's segment */
  uint32_t *mine_head;            /* own word */
  const uint8_t *base;            /* peer's segment mapping */
  uint64_t arena_off, arena_size; /* chunks must lie inside */
  uint32_t head;
  uint32_t tail;        /* last tail seen */
  uint32_t entry;       /* number of the table entry that holds head */
  struct abi_chunk cur; /* its checked copy; len 0 = none */
  uint32_t max;         /* a tail further than this from head is a lie */
  uint32_t chunk_tail;  /* entries published, as last seen */
  uint32_t far_entry;   /* cursor of reads far beyond head (retransmit queue, MSG_PEEK) … */
  struct abi_chunk far; /* … and its checked copy; len 0 = none */
};

/* --- producer --- */

/** Fresh (words and table are zeroed) or resumed from the own segment's words after a crash: live entries are claimed
 * from the arena. `size` ≤ ABI_FIFO_MAX. 0 or -EPROTO/-EEXIST when own records are damaged; then no chunk is held.
 * While the peer's half still speaks of another generation, its head must not be read: point `peer_head` at a private
 * zero, and at the word once the gens agree. */
int fifo_prod_init(struct fifo_prod *f, struct abi_fifo_prod *mine, struct abi_chunk *table, const uint32_t *peer_head,
                   uint8_t *base, struct arena *arena, uint32_t size);
int fifo_prod_resume(struct fifo_prod *f, struct abi_fifo_prod *mine, struct abi_chunk *table,
                     const uint32_t *peer_head, uint8_t *base, struct arena *arena, uint32_t size);
/** Give every chunk back to the arena. */
void fifo_prod_fini(struct fifo_prod *f);
/** Look at the consumer's head, take back dead chunks. Bytes that may still be put in before `size` is reached, or
 * -EPROTO. */
int64_t fifo_prod_room(struct fifo_prod *f);
/** Bytes published and not consumed, by the last head seen. */
static inline uint32_t fifo_prod_used(const struct fifo_prod *f) {
  return f->tail - f->head;
}
/** Up to n pieces of writable memory for [tail+off, tail+off+len), allocating chunks as needed (chunk size grows with
 * the fifo: 2 KB first, ≥ used/4 later, so that 16 entries always suffice). Returns the number of pieces, total length
 * possibly less than len when memory or entries run out (*got), or -EPROTO. */
int fifo_prod_pieces(struct fifo_prod *f, uint32_t off, uint32_t len, struct fifo_piece *pc, int n, uint32_t *got);
/** Copy `len` bytes to tail+off. Returns bytes placed (fewer when memory ran out) or -EPROTO. Does not publish. */
int64_t fifo_prod_place(struct fifo_prod *f, uint32_t off, const void *src, uint32_t len);
/** tail += n (release). The bytes must have been placed, so n never goes beyond the chunks. */
void fifo_prod_publish(struct fifo_prod *f, uint32_t n);
/** room + place + publish: what send() does. Returns bytes written, 0 when full, or -EPROTO. */
int64_t fifo_prod_write(struct fifo_prod *f, const void *src, uint32_t len);
/** Change the limit, at most ABI_FIFO_MAX. A lower one takes effect as the consumer reads; nothing is cut off. */
void fifo_prod_size_set(struct fifo_prod *f, uint32_t size);
/** When drained and idle: hand all chunks back so that an idle session costs no arena memory. Does nothing while bytes
 * are not consumed. Bytes placed beyond the tail are forgotten: not to be called while there are any. */
void fifo_prod_trim(struct fifo_prod *f);
/** Invariants of the handle and the own table. 0 or a negative line number. */
int fifo_prod_check(const struct fifo_prod *f);

/* --- consumer --- */

/** `mine_head` holds the position to go on from (0 when fresh). */
void fifo_cons_init(struct fifo_cons *f, const struct abi_fifo_prod *peer, const struct abi_chunk *table,
                    uint32_t *mine_head, const uint8_t *base, uint64_t arena_off, uint64_t arena_size, uint32_t max);
/** Bytes readable from head now, or -EPROTO (tail beyond max, or rewound). */
int64_t fifo_cons_used(struct fifo_cons *f);
/** Up to n pieces of [head+off, head+off+len), which must be published. Returns pieces or -EPROTO. Does not move head.
 */
int fifo_cons_pieces(struct fifo_cons *f, uint32_t off, uint32_t len, struct fifo_piece *pc, int n, uint32_t *got);
/** Copy from head+off. Returns bytes copied (≤ len) or -EPROTO. */
int64_t fifo_cons_peek(struct fifo_cons *f, uint32_t off, void *dst, uint32_t len);
/** head += n (release), n ≤ used. */
void fifo_cons_consume(struct fifo_cons *f, uint32_t n);
/** peek + consume: what recv() does. Returns bytes, 0 when empty, or -EPROTO. */
int64_t fifo_cons_read(struct fifo_cons *f, void *dst, uint32_t len);
/** Invariants of the handle. 0 or a negative line number. */
int fifo_cons_check(const struct fifo_cons *f);

#endif
