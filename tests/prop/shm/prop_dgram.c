/*
 * A fifo of datagrams against a naive twin: random lengths, headers and bytes, a producer that restarts from its own
 * words and a consumer that restarts from its head at any time, a small arena that runs out. Every datagram comes out
 * whole, once and in order; nothing is published that was not placed whole.
 */
#include "abi/dgram.h"
#include "base/rng.h"
#include "shm/arena.h"
#include "shm/fifo.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

#define ARENA (2u * ABI_CHUNK_MAX)
#define TWIN  512u

static struct {
  struct abi_fifo_prod words;
  struct abi_chunk table[ABI_FIFO_CHUNKS];
  uint32_t head;
  struct fifo_prod prod;
  struct fifo_cons cons;
  uint8_t *memory;
  struct arena *arena;
  void *book;
  struct {
    uint32_t len, seed;
  } twin[TWIN]; /* what lies in the fifo */
  uint32_t first, last;
} t;

static uint8_t byte_of(uint32_t seed, uint32_t i) {
  return (uint8_t)((seed + i) * 2654435761u >> 17);
}

static void resume(void) {
  memset(t.book, 0, arena_meta_size(ARENA));
  t.arena = arena_init(t.book, arena_meta_size(ARENA), 0, ARENA);
  assert_int_equal(fifo_prod_resume(&t.prod, &t.words, t.table, &t.head, t.memory, t.arena, 2 * ABI_DGRAM_FIFO), 0);
}

static void put(uint32_t len, uint32_t seed) {
  static uint8_t bytes[ABI_DGRAM_MAX];
  struct abi_dgram d = {.len = len, .ifindex = seed};
  if (t.last - t.first == TWIN || fifo_prod_room(&t.prod) < (int64_t)(sizeof d + len))
    return;
  for (uint32_t i = 0; i < len; i++)
    bytes[i] = byte_of(seed, i);
  int64_t got = fifo_prod_place(&t.prod, 0, &d, sizeof d);
  if (got == (int64_t)sizeof d && len != 0)
    got += fifo_prod_place(&t.prod, sizeof d, bytes, len);
  if (got != (int64_t)(sizeof d + len))
    return; /* memory ran out: never published */
  fifo_prod_publish(&t.prod, (uint32_t)got);
  t.twin[t.last % TWIN].len = len;
  t.twin[t.last++ % TWIN].seed = seed;
}

static void get(void) {
  static uint8_t bytes[ABI_DGRAM_MAX];
  struct abi_dgram d;
  int64_t used = fifo_cons_used(&t.cons);
  if (t.first == t.last) {
    assert_int_equal(used, 0);
    return;
  }
  assert_true(used >= (int64_t)sizeof d);
  assert_int_equal(fifo_cons_peek(&t.cons, 0, &d, sizeof d), sizeof d);
  assert_int_equal(d.len, t.twin[t.first % TWIN].len);
  assert_int_equal(d.ifindex, t.twin[t.first % TWIN].seed);
  assert_true(used - (int64_t)sizeof d >= (int64_t)d.len);
  assert_int_equal(fifo_cons_peek(&t.cons, sizeof d, bytes, d.len), d.len);
  for (uint32_t i = 0; i < d.len; i++)
    assert_int_equal(bytes[i], byte_of(d.ifindex, i));
  fifo_cons_consume(&t.cons, (uint32_t)sizeof d + d.len);
  t.first++;
}

static void cons_open(void) {
  fifo_cons_init(&t.cons, &t.words, t.table, &t.head, t.memory, 0, ARENA, ABI_FIFO_MAX);
}

static void test_twin(void **state) {
  struct rng r;
  (void)state;
  memset(&t, 0, sizeof t);
  rng_init(&r, 42);
  t.memory = malloc(ARENA);
  t.book = calloc(1, arena_meta_size(ARENA));
  assert_non_null(t.memory);
  t.arena = arena_init(t.book, arena_meta_size(ARENA), 0, ARENA);
  assert_int_equal(fifo_prod_init(&t.prod, &t.words, t.table, &t.head, t.memory, t.arena, 2 * ABI_DGRAM_FIFO), 0);
  cons_open();
  for (uint32_t i = 0; i < 20000; i++) {
    uint32_t what = (uint32_t)(rng_u64(&r) % 100);
    uint32_t big = rng_u64(&r) % 8 == 0 ? ABI_DGRAM_MAX + 1 : 3000;
    if (what < 47)
      put((uint32_t)(rng_u64(&r) % big), (uint32_t)rng_u64(&r));
    else if (what < 96)
      get();
    else if (what < 97)
      resume(); /* the producer's process is another one */
    else if (what < 98)
      cons_open();
    else if (what < 99)
      fifo_prod_trim(&t.prod);
    else
      while (t.first != t.last)
        get();
  }
  while (t.first != t.last)
    get();
  assert_true(fifo_prod_room(&t.prod) > 0);
  fifo_prod_trim(&t.prod);
  assert_int_equal(arena_free_bytes(t.arena), ARENA);
  assert_int_equal(fifo_prod_check(&t.prod), 0);
  free(t.memory);
  free(t.book);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_twin)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
