/*
 * Byte fifo, consumer's side: finding, checking and reading chunks that a peer wrote (shm/fifo.h, abi/fifo.h).
 *
 * Called by the engine worker (tx fifos: the retransmit queue) and the library (rx fifos); hot path. Everything but the
 * own head is hostile: tail and chunk_tail are loaded once per look, an entry is copied before it is checked, and only
 * the copy is used. Nothing outside [arena_off, arena_off + arena_size) is ever touched, whatever the peer writes.
 *
 * Which entries may be read: those that are live, that is, end beyond head. The producer changes a live entry never,
 * except that trimming an empty fifo kills the newest one; after that nothing is readable until a new chunk came. So a
 * copy is forgotten when the fifo was empty and chunk_tail has moved, and a dead entry ends every search.
 */
#include "shm/fifo.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"

void fifo_cons_init(struct fifo_cons *f, const struct abi_fifo_prod *peer, const struct abi_chunk *table,
                    uint32_t *mine_head, const uint8_t *base, uint64_t arena_off, uint64_t arena_size, uint32_t max) {
  memset(f, 0, sizeof *f);
  f->peer = peer;
  f->table = table;
  f->mine_head = mine_head;
  f->base = base;
  f->arena_off = arena_off;
  f->arena_size = arena_size;
  f->max = HS_MIN(max, ABI_FIFO_MAX);
  f->head = __atomic_load_n(mine_head, __ATOMIC_RELAXED);
  f->tail = f->head;
}

static inline int fifo_holds(const struct abi_chunk *e, uint32_t pos) {
  return pos - e->start < e->len;
}

/** Copies entry n, checks the copy. 0 or -EPROTO. */
static int fifo_cons_load(const struct fifo_cons *f, uint32_t n, struct abi_chunk *e) {
  const struct abi_chunk *theirs = &f->table[n % ABI_FIFO_CHUNKS];
  e->start = __atomic_load_n(&theirs->start, __ATOMIC_RELAXED);
  e->len = __atomic_load_n(&theirs->len, __ATOMIC_RELAXED);
  e->unit = __atomic_load_n(&theirs->unit, __ATOMIC_RELAXED);
  e->seg = __atomic_load_n(&theirs->seg, __ATOMIC_RELAXED);
  if (!bits_is_pow2(e->len) || e->len < ABI_CHUNK_UNIT || e->len > ABI_CHUNK_MAX || e->seg != 0)
    return -EPROTO; /* only the worker's first segment holds chunks; growing into more is not built yet */
  uint64_t off = (uint64_t)e->unit * ABI_CHUNK_UNIT;
  if (off < f->arena_off || off - f->arena_off > f->arena_size || e->len > f->arena_size - (off - f->arena_off))
    return -EPROTO;
  return 0;
}

static inline void fifo_cons_forget(struct fifo_cons *f) {
  f->cur.len = 0;
  f->far.len = 0;
}

int64_t fifo_cons_used(struct fifo_cons *f) {
  uint32_t tail = __atomic_load_n(&f->peer->tail, __ATOMIC_ACQUIRE);
  uint32_t used = tail - f->head;
  if (tail == f->tail)
    return used;
  if (HS_UNLIKELY(used > f->max || used < f->tail - f->head))
    return -EPROTO;
  uint32_t chunk_tail = __atomic_load_n(&f->peer->chunk_tail, __ATOMIC_RELAXED); /* tail's acquire orders it */
  if (chunk_tail != f->chunk_tail) {
    if (f->tail == f->head)
      fifo_cons_forget(f); /* a trim may have been in between */
    else if (f->cur.len != 0 && chunk_tail - f->entry - 1 >= ABI_FIFO_CHUNKS)
      return -EPROTO;
    f->chunk_tail = chunk_tail;
  }
  f->tail = tail;
  return used;
}

/** Finds the entry that holds head, newest first: all that are looked at are live. Only if tail is beyond head. */
static int fifo_cons_find(struct fifo_cons *f) {
  struct abi_chunk e;
  uint32_t edge = 0;
  for (uint32_t i = 1; i <= ABI_FIFO_CHUNKS; i++) {
    uint32_t n = f->chunk_tail - i;
    if (fifo_cons_load(f, n, &e) < 0)
      return -EPROTO;
    if (i == 1 ? seq_lt(e.start + e.len, f->tail) : e.start + e.len != edge)
      return -EPROTO; /* published bytes without a chunk, or a gap between chunks */
    if (fifo_holds(&e, f->head)) {
      f->cur = e;
      f->entry = n;
      return 0;
    }
    if (seq_leq(e.start, f->head))
      return -EPROTO; /* dead, and still head was not found */
    edge = e.start;
  }
  return -EPROTO;
}

/** The entry after n, which ends at `edge`. 0 or -EPROTO. */
static int fifo_cons_next(const struct fifo_cons *f, uint32_t n, uint32_t edge, struct abi_chunk *e) {
  if (n + 1 == f->chunk_tail || fifo_cons_load(f, n + 1, e) < 0 || e->start != edge)
    return -EPROTO;
  return 0;
}

/** The entry that holds pos, head ≤ pos < tail, into *e and *at. 0 or -EPROTO. */
static int fifo_cons_seek(struct fifo_cons *f, uint32_t pos, struct abi_chunk *e, uint32_t *at) {
  if (f->cur.len == 0 && fifo_cons_find(f) < 0)
    return -EPROTO;
  *e = f->cur;
  *at = f->entry;
  if (fifo_holds(e, pos))
    return 0;
  if (f->far.len != 0 && seq_geq(pos, f->far.start)) {
    *e = f->far;
    *at = f->far_entry;
  }
  for (uint32_t i = 0; !fifo_holds(e, pos); i++) {
    if (i == ABI_FIFO_CHUNKS || fifo_cons_next(f, *at, e->start + e->len, e) < 0)
      return -EPROTO;
    ++*at;
  }
  f->far = *e;
  f->far_entry = *at;
  return 0;
}

int fifo_cons_pieces(struct fifo_cons *f, uint32_t off, uint32_t len, struct fifo_piece *pc, int n, uint32_t *got) {
  struct abi_chunk e;
  uint32_t at;
  uint32_t have = f->tail - f->head;
  uint32_t pos = f->head + off;
  int k = 0;
  *got = 0;
  if (off > have || len > have - off) {
    int64_t now = fifo_cons_used(f);
    if (now < 0)
      return -EPROTO;
    have = (uint32_t)now;
    if (off >= have)
      return 0;
    len = HS_MIN(len, have - off);
  }
  if (len == 0 || n <= 0)
    return 0;
  if (fifo_cons_seek(f, pos, &e, &at) < 0)
    return -EPROTO;
  for (;;) {
    uint32_t skip = pos - e.start;
    uint32_t part = HS_MIN(len, e.len - skip);
    uint64_t where = (uint64_t)e.unit * ABI_CHUNK_UNIT + skip;
    uint8_t *p = (uint8_t *)(uintptr_t)(f->base + where); /* writable by type only: the mapping is read-only */
    pc[k++] = (struct fifo_piece){.p = p, .len = part, .seg = e.seg, .off = where};
    pos += part;
    len -= part;
    *got += part;
    if (len == 0 || k == n)
      return k;
    if (fifo_cons_next(f, at, pos, &e) < 0)
      return -EPROTO;
    at++;
  }
}

int64_t fifo_cons_peek(struct fifo_cons *f, uint32_t off, void *dst, uint32_t len) {
  struct fifo_piece pc[ABI_FIFO_CHUNKS];
  uint8_t *to = dst;
  uint32_t got;
  int n = fifo_cons_pieces(f, off, len, pc, (int)ABI_FIFO_CHUNKS, &got);
  if (n < 0)
    return n;
  for (int i = 0; i < n; i++) {
    memcpy(to, pc[i].p, pc[i].len);
    to += pc[i].len;
  }
  return got;
}

/** Moves the current entry on to the one that holds pos, as far as entries are there and make sense. */
static void fifo_cons_advance(struct fifo_cons *f, uint32_t pos) {
  while (f->cur.len != 0 && !fifo_holds(&f->cur, pos)) {
    struct abi_chunk e;
    if (fifo_cons_next(f, f->entry, f->cur.start + f->cur.len, &e) < 0) {
      f->cur.len = 0; /* not there yet, or nonsense: the next look finds it anew and says so */
      break;
    }
    f->cur = e;
    f->entry++;
  }
  if (f->cur.len == 0 || (int32_t)(f->far_entry - f->entry) <= 0)
    f->far.len = 0;
}

void fifo_cons_consume(struct fifo_cons *f, uint32_t n) {
  uint32_t head = f->head + HS_MIN(n, f->tail - f->head);
  if (!fifo_holds(&f->cur, head))
    fifo_cons_advance(f, head); /* before head moves: after that the entries in between may be overwritten */
  f->head = head;
  FAULT_POINT("fifo.head");
  __atomic_store_n(f->mine_head, head, __ATOMIC_RELEASE);
}

int64_t fifo_cons_read(struct fifo_cons *f, void *dst, uint32_t len) {
  int64_t got = fifo_cons_peek(f, 0, dst, len);
  if (got > 0)
    fifo_cons_consume(f, (uint32_t)got);
  return got;
}

int fifo_cons_check(const struct fifo_cons *f) {
  if (*f->mine_head != f->head || f->tail - f->head > f->max)
    return -__LINE__;
  if (f->cur.len != 0 && f->cur.start + f->cur.len != f->head && !fifo_holds(&f->cur, f->head))
    return -__LINE__;
  if (f->far.len != 0 && (f->cur.len == 0 || seq_leq(f->far.start, f->cur.start)))
    return -__LINE__;
  return 0;
}
