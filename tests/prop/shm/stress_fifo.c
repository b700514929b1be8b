/*
 * A byte fifo between two threads: the producer writes, places out of order and trims, the consumer reads, peeks and
 * begins anew; every byte is checked. The bytes are plain memory, so tsan sees whether the words order them. Bounded.
 */
#include "base/bits.h"
#include "base/rng.h"
#include "shm/fifo.h"
#include "test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define ARENA_OFF  ((uint64_t)ABI_CHUNK_MAX)
#define ARENA_SIZE (2ull * ABI_CHUNK_MAX)
#define TOTAL      (24u << 20)
#define LIMIT      (300u << 10)
#define START      (0u - (6u << 20)) /* positions wrap on the way */

struct pipe {
  struct abi_fifo_prod words;
  struct abi_chunk table[ABI_FIFO_CHUNKS];
  uint32_t head;
  uint8_t *base;
  struct arena *arena;
  int64_t bad;
  uint32_t trims;
};

static uint8_t byte_at(uint32_t pos) {
  return (uint8_t)((pos * 0x9e3779b1u) >> 24);
}

static void fill(uint32_t pos, uint8_t *buf, uint32_t len) {
  for (uint32_t i = 0; i < len; i++)
    buf[i] = byte_at(pos + i);
}

static void *produce(void *arg) {
  struct pipe *q = arg;
  struct fifo_prod f;
  struct rng r;
  static uint8_t buf[1u << 16], gap[1u << 16];
  rng_init(&r, 1);
  q->bad = fifo_prod_resume(&f, &q->words, q->table, &q->head, q->base, q->arena, LIMIT);
  for (uint32_t sent = 0; sent < TOTAL && q->bad >= 0;) {
    uint32_t len = (uint32_t)HS_MIN(rng_range(&r, 1, 1u << rng_below(&r, 17)), (uint64_t)(TOTAL - sent));
    int64_t room = fifo_prod_room(&f), n;
    if (rng_below(&r, 8) == 0 && room >= 2 * (int64_t)len && len > 1) { /* the second half first */
      fill(START + sent, buf, len);
      n = fifo_prod_place(&f, len / 2, buf + len / 2, len - len / 2);
      if (n == len - len / 2) {
        n = fifo_prod_place(&f, 0, buf, len / 2);
        if (n == len / 2)
          fifo_prod_publish(&f, len);
        n = n == len / 2 ? (int64_t)len : -1;
      } else {
        n = 0;
      }
    } else {
      fill(START + sent, gap, len);
      n = fifo_prod_write(&f, gap, len);
    }
    q->bad = HS_MIN(n, room);
    sent += n > 0 ? (uint32_t)n : 0;
    if (n == 0)
      sched_yield();
    if (rng_below(&r, 20) == 0) { /* a pause: what is idle gives its memory back */
      while (fifo_prod_room(&f) < LIMIT && fifo_prod_room(&f) >= 0)
        sched_yield();
      fifo_prod_trim(&f);
      q->trims++;
    }
  }
  while (q->bad >= 0 && fifo_prod_room(&f) != LIMIT)
    sched_yield();
  fifo_prod_fini(&f);
  return NULL;
}

static void bytes_cross_threads(void **state) {
  (void)state;
  static struct pipe q;
  static uint8_t buf[1u << 17];
  struct fifo_cons c;
  struct rng r;
  pthread_t t;
  uint64_t meta = arena_meta_size(ARENA_SIZE);
  void *m = malloc(meta);
  uint32_t wrong = 0;
  int64_t n = 0;
  rng_init(&r, 2);
  q.base = malloc(ARENA_OFF + ARENA_SIZE);
  q.arena = arena_init(m, meta, (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT), ARENA_SIZE);
  q.words.tail = q.head = START;
  fifo_cons_init(&c, &q.words, q.table, &q.head, q.base, ARENA_OFF, ARENA_SIZE, LIMIT);
  assert_int_equal(pthread_create(&t, NULL, produce, &q), 0);
  for (uint32_t got = 0; got < TOTAL && n >= 0 && wrong == 0;) {
    uint32_t len = (uint32_t)rng_range(&r, 1, 1u << rng_below(&r, 18));
    if (rng_below(&r, 50) == 0)
      fifo_cons_init(&c, &q.words, q.table, &q.head, q.base, ARENA_OFF, ARENA_SIZE, LIMIT);
    n = fifo_cons_used(&c);
    if (n > 1 && rng_below(&r, 8) == 0) {
      uint32_t off = (uint32_t)rng_below(&r, (uint64_t)n);
      n = fifo_cons_peek(&c, off, buf, HS_MIN(len, 3000u));
      for (uint32_t i = 0; n > 0 && i < (uint32_t)n; i++)
        wrong += buf[i] != byte_at(START + got + off + i);
    }
    if (n >= 0)
      n = fifo_cons_read(&c, buf, len);
    for (uint32_t i = 0; n > 0 && i < (uint32_t)n; i++)
      wrong += buf[i] != byte_at(START + got + i);
    got += n > 0 ? (uint32_t)n : 0;
    if (n == 0)
      sched_yield();
  }
  assert_true(n >= 0 && wrong == 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_true(q.bad >= 0);
  assert_int_equal(arena_free_bytes(q.arena), ARENA_SIZE);
  assert_int_equal(arena_check(q.arena), 0);
  assert_true(q.trims > 50);
  free(q.base);
  free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_cross_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
