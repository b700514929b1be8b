/*
 * Byte fifos against a naive twin: the byte at position p of fifo k is a function of k and the 64-bit position, so what
 * is read can be told right or wrong without the fifo's help. Random writes, out-of-order placement, publishing, reads,
 * peeks, trims, new limits, deaths of the producer at every fault point and restarts of both sides, positions and
 * table numbers across 2^32. Several fifos share one arena, as the sessions of a worker do.
 */
#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/rng.h"
#include "shm/fifo.h"
#include "test.h"

#include <stdlib.h>

#ifdef __SANITIZE_THREAD__
#define SEEDS 6u /* one thread: tsan has nothing to find here, and is slow */
#else
#define SEEDS 24u
#endif
#define FIFOS     3u
#define ARENA_OFF ((uint64_t)ABI_CHUNK_MAX)

struct twin {
  struct fifo_prod p;
  struct fifo_cons c;
  struct abi_fifo_prod mine;
  struct abi_chunk table[ABI_FIFO_CHUNKS];
  uint32_t head_word;
  uint64_t head, tail; /* true positions, 64 bits */
  uint8_t *placed;     /* [i] = 1: position tail + i was placed; ABI_FIFO_MAX of them */
  uint32_t n_placed;   /* how many bytes beyond tail are placed, and how far they reach */
  uint32_t high;
};

struct world {
  struct rng r;
  uint8_t *base;
  uint64_t arena_size;
  void *meta;
  struct arena *arena;
  struct twin f[FIFOS];
  int ample; /* the arena can never run out */
  uint64_t bytes, crashes;
};

static jmp_buf died;

static void die(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  longjmp(died, 1);
}

static uint8_t byte_at(uint32_t k, uint64_t pos) {
  uint64_t x = (pos + k * 0x51ed27ull) * 0x9e3779b97f4a7c15ull;
  return (uint8_t)(x >> 56);
}

static void make_bytes(uint32_t k, uint64_t pos, uint8_t *buf, uint32_t len) {
  for (uint32_t i = 0; i < len; i++)
    buf[i] = byte_at(k, pos + i);
}

static void check_bytes(uint32_t k, uint64_t pos, const uint8_t *buf, uint32_t len) {
  for (uint32_t i = 0; i < len; i++)
    if (buf[i] != byte_at(k, pos + i))
      fail_msg("fifo %u: byte at %llu is wrong", k, (unsigned long long)(pos + i));
}

static uint32_t any_len(struct rng *r, uint32_t max) {
  uint32_t top = 1u << rng_below(r, 19);
  return (uint32_t)rng_range(r, 1, HS_MIN(top, HS_MAX(max, 1u)));
}

static void mark(struct twin *t, uint32_t off, uint32_t len) {
  for (uint32_t i = off; i < off + len; i++) {
    t->n_placed += !t->placed[i];
    t->placed[i] = 1;
  }
  t->high = HS_MAX(t->high, off + len);
}

/** Shifts the map of placed bytes when the tail moves by n. */
static void moved(struct twin *t, uint32_t n) {
  t->tail += n;
  for (uint32_t i = 0; i < HS_MIN(n, t->high); i++)
    t->n_placed -= t->placed[i];
  if (n < t->high)
    memmove(t->placed, t->placed + n, t->high - n);
  memset(t->placed + (t->high - HS_MIN(n, t->high)), 0, HS_MIN(n, t->high));
  t->high -= HS_MIN(n, t->high);
}

static void check_all(struct world *w) {
  uint64_t held = 0;
  for (uint32_t k = 0; k < FIFOS; k++) {
    struct twin *t = &w->f[k];
    assert_int_equal(fifo_prod_check(&t->p), 0);
    assert_int_equal(fifo_cons_check(&t->c), 0);
    assert_int_equal((uint32_t)t->tail, t->mine.tail);
    assert_int_equal((uint32_t)t->head, t->head_word);
    for (uint32_t n = t->p.chunk_head; n != t->p.chunk_tail; n++)
      held += t->table[n % ABI_FIFO_CHUNKS].len;
  }
  assert_int_equal(arena_free_bytes(w->arena) + held, w->arena_size); /* no chunk is lost, none is owned twice */
}

static void op_write(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  int64_t room = fifo_prod_room(&t->p);
  assert_int_equal(room, t->p.size - HS_MIN((uint32_t)(t->tail - t->head), t->p.size));
  uint32_t len = any_len(&w->r, 1u << 18);
  uint8_t *buf = malloc(len);
  make_bytes(k, t->tail, buf, len);
  int64_t n = fifo_prod_write(&t->p, buf, len);
  free(buf);
  assert_in_range(n, 0, HS_MIN((int64_t)len, room));
  if (w->ample)
    assert_int_equal(n, HS_MIN((int64_t)len, room)); /* promised room can always be filled */
  moved(t, (uint32_t)n);
  w->bytes += (uint64_t)n;
}

static void op_place(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  int64_t room = fifo_prod_room(&t->p);
  uint32_t off = (uint32_t)rng_below(&w->r, (uint64_t)HS_MAX(room, 1));
  uint32_t len = any_len(&w->r, 1u << 17);
  uint8_t *buf = malloc(len);
  make_bytes(k, t->tail + off, buf, len);
  int64_t n = fifo_prod_place(&t->p, off, buf, len);
  free(buf);
  int64_t most = HS_MAX(HS_MIN((int64_t)len, room - (int64_t)off), 0);
  assert_in_range(n, 0, most);
  if (w->ample)
    assert_int_equal(n, most);
  mark(t, off, (uint32_t)n);
}

static void op_publish(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  uint32_t n = 0;
  while (n < t->n_placed && t->placed[n])
    n++;
  if (n != 0 && rng_below(&w->r, 4) == 0)
    n = (uint32_t)rng_range(&w->r, 1, n);
  fifo_prod_publish(&t->p, n);
  moved(t, n);
  w->bytes += n;
}

static void op_read(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  uint32_t len = rng_below(&w->r, 3) == 0 ? ABI_FIFO_MAX : any_len(&w->r, 1u << 18);
  int64_t used = fifo_cons_used(&t->c);
  assert_int_equal(used, t->tail - t->head);
  len = HS_MIN(len, (uint32_t)used);
  uint8_t *buf = malloc(len + 1);
  if (rng_below(&w->r, 2) == 0) {
    assert_int_equal(fifo_cons_read(&t->c, buf, len), len);
  } else { /* in place, piece by piece, consumed at once or at the end */
    struct fifo_piece pc[3];
    uint32_t done = 0, got;
    while (done < len) {
      int n = fifo_cons_pieces(&t->c, done, len - done, pc, 3, &got);
      assert_in_range(n, 1, 3);
      for (int i = 0; i < n; i++) {
        assert_ptr_equal(pc[i].p, w->base + pc[i].off);
        memcpy(buf + done, pc[i].p, pc[i].len);
        done += pc[i].len;
      }
    }
    fifo_cons_consume(&t->c, len);
  }
  check_bytes(k, t->head, buf, len);
  t->head += len;
  free(buf);
}

static void op_peek(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  uint32_t used = (uint32_t)(t->tail - t->head);
  uint32_t off = (uint32_t)rng_below(&w->r, used + 2u);
  uint32_t len = any_len(&w->r, 70000);
  uint8_t *buf = malloc(len);
  int64_t n = fifo_cons_peek(&t->c, off, buf, len);
  assert_int_equal(n, off >= used ? 0 : HS_MIN(len, used - off));
  check_bytes(k, t->head + off, buf, (uint32_t)n);
  free(buf);
}

static void op_trim(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  if (t->n_placed != 0)
    return;
  fifo_prod_trim(&t->p);
  if (t->tail == t->head)
    assert_int_equal(t->p.chunk_head, t->p.chunk_tail);
}

/** All producers of a segment die together: a new arena, every fifo resumed. Bytes beyond the tails are forgotten. */
static void op_restart_prod(struct world *w) {
  uint64_t meta = arena_meta_size(w->arena_size);
  w->arena = arena_init(w->meta, meta, (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT), w->arena_size);
  for (uint32_t k = 0; k < FIFOS; k++) {
    struct twin *t = &w->f[k];
    uint32_t size = t->p.size;
    assert_int_equal(fifo_prod_resume(&t->p, &t->mine, t->table, &t->head_word, w->base, w->arena, size), 0);
    memset(t->placed, 0, t->high);
    t->n_placed = t->high = 0;
  }
  assert_int_equal(arena_check(w->arena), 0);
}

static void op_restart_cons(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  fifo_cons_init(&t->c, &t->mine, t->table, &t->head_word, w->base, ARENA_OFF, w->arena_size, ABI_FIFO_MAX);
}

/** A producer's call that dies at its nth fault point, whatever that is. */
static void op_crash(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  uint32_t len = any_len(&w->r, 1u << 18);
  uint8_t *volatile buf = malloc(len);
  int trim = rng_below(&w->r, 4) == 0 && t->n_placed == 0;
  make_bytes(k, t->tail, buf, len);
  fault_set_hook(die, NULL);
  assert_int_equal(fault_arm("*", (uint32_t)rng_range(&w->r, 1, rng_below(&w->r, 2) ? 2 : 14), FAULT_HOOK), 0);
  if (setjmp(died) == 0) {
    if (trim)
      fifo_prod_trim(&t->p);
    else
      (void)fifo_prod_write(&t->p, buf, len);
  } else {
    w->crashes++;
  }
  fault_disarm();
  free(buf);
  uint32_t n = t->mine.tail - (uint32_t)t->tail; /* all or nothing was published */
  assert_in_range(n, 0, len);
  moved(t, n);
  op_restart_prod(w);
}

/** A consumer that dies before its head is stored: it reads the same again. */
static void op_crash_cons(struct world *w, uint32_t k) {
  struct twin *t = &w->f[k];
  int64_t used = fifo_cons_used(&t->c);
  assert_int_equal(used, t->tail - t->head);
  if (used == 0 || fault_list(NULL, 0) == 0) /* nothing there, or a build without fault points */
    return;
  fault_set_hook(die, NULL);
  assert_int_equal(fault_arm("fifo.head", 1, FAULT_HOOK), 0);
  if (setjmp(died) == 0) {
    fifo_cons_consume(&t->c, (uint32_t)rng_range(&w->r, 1, (uint64_t)used));
    fail_msg("no fault point");
  }
  fault_disarm();
  op_restart_cons(w, k);
}

static void world_init(struct world *w, uint64_t seed) {
  memset(w, 0, sizeof *w);
  rng_init(&w->r, seed);
  w->ample = seed % 2 == 0;
  /* Ample: three full fifos, each with its last chunk unused and rounding; scarce: far less than their limits. */
  w->arena_size = (w->ample ? 64ull : 1 + rng_below(&w->r, 3)) * ABI_CHUNK_MAX;
  w->base = calloc(1, ARENA_OFF + w->arena_size);
  w->meta = malloc(arena_meta_size(w->arena_size));
  for (uint32_t k = 0; k < FIFOS; k++) {
    struct twin *t = &w->f[k];
    t->placed = calloc(1, ABI_FIFO_MAX);
    t->p.size = HS_MIN(1u << rng_range(&w->r, 11, 24), ABI_FIFO_MAX);
    if (rng_below(&w->r, 3) == 0)
      t->p.size = (uint32_t)rng_range(&w->r, 1, t->p.size);
    t->mine.chunk_tail = 0xfffffffau + (uint32_t)rng_below(&w->r, 12);
    t->head = t->tail = 0xffffffffull - rng_below(&w->r, 600000);
    t->mine.tail = t->head_word = (uint32_t)t->tail;
    op_restart_cons(w, k);
  }
  op_restart_prod(w);
}

static void world_fini(struct world *w) {
  for (uint32_t k = 0; k < FIFOS; k++) {
    fifo_prod_fini(&w->f[k].p);
    free(w->f[k].placed);
  }
  assert_int_equal(arena_free_bytes(w->arena), w->arena_size);
  assert_int_equal(arena_check(w->arena), 0);
  free(w->meta);
  free(w->base);
}

static void step(struct world *w) {
  uint32_t k = (uint32_t)rng_below(&w->r, FIFOS);
  switch (rng_below(&w->r, 24)) {
  case 0 ... 6:
    op_write(w, k);
    break;
  case 7 ... 9:
    op_place(w, k);
    break;
  case 10 ... 12:
    op_publish(w, k);
    break;
  case 13 ... 18:
    op_read(w, k);
    break;
  case 19:
    op_peek(w, k);
    break;
  case 20:
    op_trim(w, k);
    break;
  case 21:
    op_restart_cons(w, k);
    break;
  case 22:
    op_crash(w, k);
    break;
  default:
    op_crash_cons(w, k);
    break;
  }
}

static void fifo_equals_twin(void **state) {
  (void)state;
  uint64_t bytes = 0, crashes = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct world w;
    world_init(&w, seed);
    for (int i = 0; i < 1600; i++) {
      step(&w);
      check_all(&w);
    }
    bytes += w.bytes;
    crashes += w.crashes;
    world_fini(&w);
  }
  print_message("%llu MB, %llu deaths\n", (unsigned long long)(bytes >> 20), (unsigned long long)crashes);
  assert_true(bytes > (uint64_t)SEEDS << 20);
  assert_true(crashes > SEEDS * 4 || fault_list(NULL, 0) == 0); /* release builds have no fault points */
}

/** A 14 MB promise is kept even when every write is one byte short of nothing, and again after any number of reads. */
static void promise_is_kept(void **state) {
  (void)state;
  struct world w;
  struct twin *t = &w.f[0];
  static uint8_t buf[1u << 20];
  world_init(&w, 2);
  fifo_prod_size_set(&t->p, ABI_FIFO_MAX);
  for (int round = 0; round < 30; round++) {
    for (uint32_t n = 0; n < 200; n++) { /* small writes make small chunks */
      uint32_t len = (uint32_t)rng_range(&w.r, 1, 1500);
      make_bytes(0, t->tail, buf, len);
      int64_t put = fifo_prod_write(&t->p, buf, len);
      assert_in_range(put, 0, len);
      t->tail += (uint64_t)put;
    }
    int64_t room = fifo_prod_room(&t->p);
    if (room > 0) { /* the last byte of the room, out of order: chunks must reach there */
      make_bytes(0, t->tail + (uint64_t)room - 1, buf, 1);
      assert_int_equal(fifo_prod_place(&t->p, (uint32_t)room - 1, buf, 1), 1);
    }
    while (room > 0) {
      uint32_t len = (uint32_t)HS_MIN(room, (int64_t)sizeof buf);
      make_bytes(0, t->tail, buf, len);
      assert_int_equal(fifo_prod_write(&t->p, buf, len), len);
      t->tail += len;
      room -= len;
    }
    assert_int_equal(fifo_prod_check(&t->p), 0);
    uint64_t left = rng_below(&w.r, ABI_FIFO_MAX + 1);
    while (t->tail - t->head > left) {
      uint32_t len = (uint32_t)HS_MIN(t->tail - t->head - left, (uint64_t)sizeof buf);
      assert_int_equal(fifo_cons_read(&t->c, buf, len), len);
      check_bytes(0, t->head, buf, len);
      t->head += len;
    }
  }
  world_fini(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fifo_equals_twin),
      cmocka_unit_test(promise_is_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
