/*
 * Byte fifo, producer's side: chunks, placement, publishing, resuming (shm/fifo.h, abi/fifo.h).
 *
 * Called by the engine worker (rx fifos) and the library (tx fifos); hot path. The table and the chunks are own memory;
 * the only word of the peer is its head, loaded once per look and checked to lie between the last one seen and tail.
 *
 * Entries [chunk_head, chunk_tail) are the ones whose memory is ours; they lie side by side and reach up to `end`, so
 * head ≤ tail ≤ end. After a crash the same set is found again from the newest entry backwards: every entry until one
 * begins at or before head; none at all when the newest ends at or before head. Trimming is therefore one store: it
 * moves the newest entry's `start` back so that it ends at tail, which is dead by that rule.
 *
 * How large a chunk is: at least a quarter of what is held, at least the write up to 64 KB, twice the last one while
 * the fifo streams (16 KB when the consumer keeps up: few arena calls, warm cache); at most a quarter of the limit. And
 * never so small that the entries left could not reach the limit: whoever advertised the room must be able to fill it.
 */
#include "shm/fifo.h"

#include "abi/seg.h"
#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"

#define FIFO_LEN_WRITE  (64u * 1024u) /* a chunk follows the length of a write up to here, bytes */
#define FIFO_LEN_BUSY   (64u * 1024u) /* and doubles up to here while the consumer lags … */
#define FIFO_LEN_STREAM (16u * 1024u) /* … or up to here while it keeps up */

static inline struct abi_chunk *fifo_entry(const struct fifo_prod *f, uint32_t n) {
  return &f->table[n % ABI_FIFO_CHUNKS];
}

static void fifo_prod_set(struct fifo_prod *f, struct abi_fifo_prod *mine, struct abi_chunk *table,
                          const uint32_t *peer_head, uint8_t *base, struct arena *arena, uint32_t size) {
  memset(f, 0, sizeof *f);
  f->mine = mine;
  f->table = table;
  f->peer_head = peer_head;
  f->base = base;
  f->arena = arena;
  f->size = HS_MIN(size, ABI_FIFO_MAX);
  f->next_len = ABI_CHUNK_UNIT;
}

int fifo_prod_init(struct fifo_prod *f, struct abi_fifo_prod *mine, struct abi_chunk *table, const uint32_t *peer_head,
                   uint8_t *base, struct arena *arena, uint32_t size) {
  fifo_prod_set(f, mine, table, peer_head, base, arena, size);
  memset(table, 0, ABI_FIFO_CHUNKS * sizeof *table); /* len 0: a successor's walk ends there */
  __atomic_store_n(&mine->chunk_tail, 0u, __ATOMIC_RELAXED);
  __atomic_store_n(&mine->tail, 0u, __ATOMIC_RELEASE);
  return 0;
}

static int fifo_entry_ok(const struct abi_chunk *e) {
  return bits_is_pow2(e->len) && e->len >= ABI_CHUNK_UNIT && e->len <= ABI_CHUNK_MAX && e->seg == 0;
}

/** Claims the entries that hold [head, end), newest first. 0, -EPROTO or -EEXIST. */
static int fifo_prod_claim(struct fifo_prod *f) {
  const struct abi_chunk *e = fifo_entry(f, f->chunk_tail - 1);
  f->chunk_head = f->chunk_tail;
  f->end = f->tail;
  if (e->len == 0 || seq_leq(e->start + e->len, f->head)) /* fresh, or all dead */
    return f->tail == f->head ? 0 : -EPROTO;
  f->end = e->start + e->len;
  if (seq_gt(f->tail, f->end))
    return -EPROTO;
  for (uint32_t edge = f->end;;) {
    e = fifo_entry(f, f->chunk_head - 1);
    if (!fifo_entry_ok(e) || e->start + e->len != edge)
      return -EPROTO;
    if (arena_claim(f->arena, e->unit, e->len) < 0)
      return -EEXIST;
    f->chunk_head--;
    edge = e->start;
    if (seq_leq(edge, f->head))
      return 0;
    if (f->chunk_tail - f->chunk_head == ABI_FIFO_CHUNKS)
      return -EPROTO;
  }
}

int fifo_prod_resume(struct fifo_prod *f, struct abi_fifo_prod *mine, struct abi_chunk *table,
                     const uint32_t *peer_head, uint8_t *base, struct arena *arena, uint32_t size) {
  fifo_prod_set(f, mine, table, peer_head, base, arena, size);
  f->tail = __atomic_load_n(&mine->tail, __ATOMIC_RELAXED);
  f->chunk_tail = __atomic_load_n(&mine->chunk_tail, __ATOMIC_RELAXED);
  f->head = __atomic_load_n(peer_head, __ATOMIC_ACQUIRE);
  int rc = f->tail - f->head > ABI_FIFO_MAX ? -EPROTO : fifo_prod_claim(f);
  if (rc < 0)
    fifo_prod_fini(f); /* what was claimed until the damage was found */
  return rc;
}

/** Gives the oldest entry's memory back. */
static inline void fifo_prod_drop(struct fifo_prod *f) {
  const struct abi_chunk *e = fifo_entry(f, f->chunk_head);
  arena_put(f->arena, e->unit, e->len);
  f->chunk_head++;
}

void fifo_prod_fini(struct fifo_prod *f) {
  while (f->chunk_head != f->chunk_tail)
    fifo_prod_drop(f);
  f->end = f->tail;
}

int64_t fifo_prod_room(struct fifo_prod *f) {
  uint32_t head = __atomic_load_n(f->peer_head, __ATOMIC_ACQUIRE);
  if (HS_UNLIKELY(head - f->head > f->tail - f->head))
    return -EPROTO; /* before the last head seen, or beyond what was published */
  f->head = head;
  while (f->chunk_head != f->chunk_tail) {
    const struct abi_chunk *e = fifo_entry(f, f->chunk_head);
    if (seq_gt(e->start + e->len, head))
      break;
    fifo_prod_drop(f);
  }
  uint32_t used = f->tail - head;
  return used < f->size ? f->size - used : 0;
}

/** The least length of the next chunk with which the entries left can reach the limit. */
static uint32_t fifo_prod_least(const struct fifo_prod *f) {
  uint32_t live = f->chunk_tail - f->chunk_head;
  if (live == 0 || live == ABI_FIFO_CHUNKS)
    return 0;
  /* Head may come as far as the end of the oldest entry without freeing it, and the limit moves with head. */
  const struct abi_chunk *oldest = fifo_entry(f, f->chunk_head);
  int64_t reach = (int64_t)f->size - (int64_t)(uint32_t)(f->end - (oldest->start + oldest->len));
  int64_t must = reach - (int64_t)(ABI_FIFO_CHUNKS - live - 1) * ABI_CHUNK_MAX;
  return must > 0 ? (uint32_t)bits_pow2_up((uint64_t)HS_MIN(must, (int64_t)ABI_CHUNK_MAX)) : 0;
}

/** Length of the next chunk when `need` bytes beyond `end` are wanted; see the top of this file. */
static uint32_t fifo_prod_len(const struct fifo_prod *f, uint32_t need) {
  uint32_t want = HS_MAX(f->next_len, (f->end - f->head) / 4);
  uint32_t top = HS_MAX(f->size / 4, ABI_CHUNK_UNIT);
  want = (uint32_t)HS_MIN(bits_pow2_up(HS_MAX(want, HS_MIN(need, FIFO_LEN_WRITE))), 1ull << bits_log2(top));
  want = HS_MAX(want, fifo_prod_least(f));
  return HS_CLAMP(want, ABI_CHUNK_UNIT, ABI_CHUNK_MAX);
}

/** One more chunk at `end`. Returns its length, 0 when no entry or no memory is left. */
static uint32_t fifo_prod_grow(struct fifo_prod *f, uint32_t need) {
  uint32_t unit = ABI_SEG_NONE;
  uint32_t len = fifo_prod_len(f, need), least = f->patient ? fifo_prod_least(f) : 0;
  if (f->chunk_tail - f->chunk_head == ABI_FIFO_CHUNKS)
    return 0;
  for (;; len /= 2) { /* memory is short: less is better than nothing */
    unit = arena_get(f->arena, len);
    if (unit != ABI_SEG_NONE)
      break;
    if (len == ABI_CHUNK_UNIT && f->chunk_tail == f->chunk_head)
      unit = arena_get_first(f->arena);
    if (unit != ABI_SEG_NONE)
      break;
    if (len == ABI_CHUNK_UNIT || len <= least)
      return 0;
  }
  struct abi_chunk *e = fifo_entry(f, f->chunk_tail);
  FAULT_POINT("fifo.entry");
  __atomic_store_n(&e->start, f->end, __ATOMIC_RELAXED);
  FAULT_POINT("fifo.entry_start");
  __atomic_store_n(&e->len, len, __ATOMIC_RELAXED);
  FAULT_POINT("fifo.entry_len");
  __atomic_store_n(&e->unit, unit, __ATOMIC_RELAXED);
  FAULT_POINT("fifo.entry_unit");
  __atomic_store_n(&e->seg, 0u, __ATOMIC_RELAXED);
  FAULT_POINT("fifo.chunk");
  __atomic_store_n(&f->mine->chunk_tail, ++f->chunk_tail, __ATOMIC_RELEASE);
  f->end += len;
  uint32_t top = f->tail != f->head ? FIFO_LEN_BUSY : FIFO_LEN_STREAM;
  f->next_len = HS_MIN(HS_MAX(f->next_len, len) * 2, top);
  return len;
}

/** Makes chunks reach up to pos as far as possible. 0 or -EPROTO. */
static int fifo_prod_reach(struct fifo_prod *f, uint32_t pos) {
  if (HS_LIKELY(seq_leq(pos, f->end)))
    return 0;
  if (fifo_prod_room(f) < 0) /* dead chunks first: their memory is warm */
    return -EPROTO;
  while (seq_gt(pos, f->end))
    if (fifo_prod_grow(f, pos - f->end) == 0)
      break;
  return 0;
}

int fifo_prod_pieces(struct fifo_prod *f, uint32_t off, uint32_t len, struct fifo_piece *pc, int n, uint32_t *got) {
  uint32_t used = f->tail - f->head;
  uint32_t room = used < f->size ? f->size - used : 0;
  uint32_t pos = f->tail + off;
  int k = 0;
  *got = 0;
  if (off > room || len > room - off) {
    int64_t now = fifo_prod_room(f);
    if (now < 0)
      return -EPROTO;
    room = (uint32_t)now;
    if (off >= room)
      return 0;
    len = HS_MIN(len, room - off);
  }
  if (len == 0 || n <= 0)
    return 0;
  if (fifo_prod_reach(f, pos + len) < 0)
    return -EPROTO;
  if (seq_geq(pos, f->end))
    return 0; /* memory ended before this offset */
  len = HS_MIN(len, f->end - pos);
  uint32_t at = f->chunk_tail - 1; /* the newest is most often the right one */
  while (seq_lt(pos, fifo_entry(f, at)->start))
    at--;
  for (; len != 0 && k < n; at++, k++) {
    const struct abi_chunk *e = fifo_entry(f, at);
    uint32_t skip = pos - e->start;
    uint32_t part = HS_MIN(len, e->len - skip);
    uint64_t where = (uint64_t)e->unit * ABI_CHUNK_UNIT + skip;
    pc[k] = (struct fifo_piece){.p = f->base + where, .len = part, .seg = e->seg, .off = where};
    pos += part;
    len -= part;
    *got += part;
  }
  return k;
}

int64_t fifo_prod_place(struct fifo_prod *f, uint32_t off, const void *src, uint32_t len) {
  struct fifo_piece pc[ABI_FIFO_CHUNKS];
  const uint8_t *from = src;
  uint32_t got;
  int n = fifo_prod_pieces(f, off, len, pc, (int)ABI_FIFO_CHUNKS, &got);
  if (n < 0)
    return n;
  for (int i = 0; i < n; i++) {
    memcpy(pc[i].p, from, pc[i].len);
    from += pc[i].len;
  }
  return got;
}

void fifo_prod_publish(struct fifo_prod *f, uint32_t n) {
  FAULT_POINT("fifo.tail");
  f->tail += n;
  __atomic_store_n(&f->mine->tail, f->tail, __ATOMIC_RELEASE);
}

int64_t fifo_prod_write(struct fifo_prod *f, const void *src, uint32_t len) {
  int64_t placed = fifo_prod_place(f, 0, src, len);
  if (placed > 0)
    fifo_prod_publish(f, (uint32_t)placed);
  return placed;
}

void fifo_prod_size_set(struct fifo_prod *f, uint32_t size) {
  f->size = HS_MIN(size, ABI_FIFO_MAX);
}

void fifo_prod_trim(struct fifo_prod *f) {
  if (fifo_prod_room(f) < 0 || f->tail != f->head)
    return;
  f->next_len = HS_MAX(f->next_len / 4, ABI_CHUNK_UNIT);
  if (f->chunk_head == f->chunk_tail)
    return;
  struct abi_chunk *newest = fifo_entry(f, f->chunk_tail - 1);
  FAULT_POINT("fifo.trim");
  __atomic_store_n(&newest->start, f->tail - newest->len, __ATOMIC_RELEASE);
  FAULT_POINT("fifo.trimmed"); /* dead from here on for any successor; only now may the memory go to others */
  fifo_prod_fini(f);
}

int fifo_prod_check(const struct fifo_prod *f) {
  uint32_t live = f->chunk_tail - f->chunk_head;
  if (live > ABI_FIFO_CHUNKS || f->size > ABI_FIFO_MAX)
    return -__LINE__;
  if (f->mine->tail != f->tail || f->mine->chunk_tail != f->chunk_tail)
    return -__LINE__;
  if (seq_gt(f->head, f->tail) || seq_gt(f->tail, f->end))
    return -__LINE__;
  if (live == 0)
    return f->end == f->tail && f->head == f->tail ? 0 : -__LINE__;
  uint32_t pos = fifo_entry(f, f->chunk_head)->start;
  if (seq_gt(pos, f->head))
    return -__LINE__;
  for (uint32_t n = f->chunk_head; n != f->chunk_tail; n++) {
    const struct abi_chunk *e = fifo_entry(f, n);
    if (!fifo_entry_ok(e) || e->start != pos)
      return -__LINE__;
    pos += e->len;
  }
  return pos == f->end ? 0 : -__LINE__;
}
