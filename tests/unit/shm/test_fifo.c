/*
 * Byte fifos: lying peers, damaged own records, chunk sizes, trimming. Random use is in tests/prop/shm/prop_fifo.c.
 *
 * One thread that plays both ends over plain memory; each test gets a fifo of its own.
 */
#include "abi/seg.h"
#include "base/err.h"
#include "shm/fifo.h"
#include "test.h"

#include <stdlib.h>

#define ARENA_OFF  ((uint64_t)ABI_CHUNK_MAX)
#define ARENA_SIZE (16ull * ABI_CHUNK_MAX)

struct fix {
  uint8_t *base;
  void *meta;
  struct arena *arena;
  struct abi_fifo_prod words;
  struct abi_chunk table[ABI_FIFO_CHUNKS];
  uint32_t head;
  struct fifo_prod p;
  struct fifo_cons c;
};

static uint8_t bytes[3u << 20];

static void arena_anew(struct fix *f) {
  f->arena = arena_init(f->meta, arena_meta_size(ARENA_SIZE), (uint32_t)(ARENA_OFF / ABI_CHUNK_UNIT), ARENA_SIZE);
}

static int setup(void **state) {
  struct fix *f = calloc(1, sizeof *f);
  f->base = calloc(1, ARENA_OFF + ARENA_SIZE);
  f->meta = malloc(arena_meta_size(ARENA_SIZE));
  arena_anew(f);
  fifo_prod_init(&f->p, &f->words, f->table, &f->head, f->base, f->arena, 1u << 20);
  fifo_cons_init(&f->c, &f->words, f->table, &f->head, f->base, ARENA_OFF, ARENA_SIZE, 1u << 20);
  for (size_t i = 0; i < sizeof bytes; i++)
    bytes[i] = (uint8_t)(i * 31 + (i >> 8));
  *state = f;
  return 0;
}

static int teardown(void **state) {
  struct fix *f = *state;
  free(f->base);
  free(f->meta);
  free(f);
  return 0;
}

static void is_a_pipe(void **state) {
  struct fix *f = *state;
  uint8_t buf[5000];
  assert_int_equal(fifo_cons_used(&f->c), 0);
  assert_int_equal(fifo_cons_read(&f->c, buf, sizeof buf), 0);
  assert_int_equal(fifo_prod_room(&f->p), 1u << 20);
  assert_int_equal(fifo_prod_write(&f->p, bytes, 4000), 4000);
  assert_int_equal(fifo_prod_used(&f->p), 4000);
  assert_int_equal(fifo_cons_peek(&f->c, 1000, buf, 10), 10);
  assert_memory_equal(buf, bytes + 1000, 10);
  assert_int_equal(fifo_cons_peek(&f->c, 4000, buf, 10), 0);
  assert_int_equal(fifo_cons_read(&f->c, buf, sizeof buf), 4000);
  assert_memory_equal(buf, bytes, 4000);
  assert_int_equal(fifo_prod_write(&f->p, bytes, sizeof bytes), 1u << 20); /* no more than the limit */
  assert_int_equal(fifo_prod_write(&f->p, bytes, 1), 0);
  assert_int_equal(fifo_prod_room(&f->p), 0);
}

static void out_of_order_far_ahead(void **state) {
  struct fix *f = *state;
  uint8_t buf[10];
  assert_int_equal(fifo_prod_place(&f->p, (1u << 20) - 5, bytes, 10), 5);
  assert_int_equal(fifo_prod_place(&f->p, 1u << 20, bytes, 10), 0);
  assert_int_equal(fifo_prod_place(&f->p, UINT32_MAX, bytes, 10), 0);
  assert_int_equal(fifo_cons_used(&f->c), 0);
  assert_int_equal(fifo_prod_place(&f->p, 0, bytes, 100), 100);
  fifo_prod_publish(&f->p, 100);
  assert_int_equal(fifo_cons_read(&f->c, buf, 10), 10);
  assert_memory_equal(buf, bytes, 10);
  assert_int_equal(fifo_prod_check(&f->p), 0);
}

static void consumer_rejects_words(void **state) {
  struct fix *f = *state;
  uint8_t buf[100];
  assert_int_equal(fifo_prod_write(&f->p, bytes, 5000), 5000);
  assert_int_equal(fifo_cons_read(&f->c, buf, 100), 100);
  uint32_t good = f->words.tail;
  f->words.tail = f->head + (1u << 20) + 1; /* beyond max */
  assert_int_equal(fifo_cons_used(&f->c), -EPROTO);
  f->words.tail = good - 1; /* rewound */
  assert_int_equal(fifo_cons_used(&f->c), -EPROTO);
  f->words.tail = 99;
  assert_int_equal(fifo_cons_peek(&f->c, 0, buf, 100), 100); /* what was published before may still be read */
  assert_int_equal(fifo_cons_peek(&f->c, 4880, buf, 100), -EPROTO);
  f->words.tail = good;
  assert_int_equal(fifo_cons_used(&f->c), 4900);
}

/** One damaged entry at a time: nothing is read through it. */
static void consumer_rejects_entries(void **state) {
  struct fix *f = *state;
  uint8_t buf[8000];
  for (int i = 0; i < 10; i++) {
    setup(state);
    struct fix *g = *state;
    assert_int_equal(fifo_prod_write(&g->p, bytes, 8000), 8000);
    assert_int_equal(fifo_prod_write(&g->p, bytes, 8000), 8000);
    struct abi_chunk *e = &g->table[0];
    switch (i) {
    case 0:
      e->len = 0;
      break;
    case 1:
      e->len = 3 * ABI_CHUNK_UNIT;
      break;
    case 2:
      e->len = 2 * ABI_CHUNK_MAX;
      break;
    case 3:
      e->seg = 1;
      break;
    case 4:
      e->unit = 0; /* before the arena */
      break;
    case 5:
      e->unit = (uint32_t)((ARENA_OFF + ARENA_SIZE) / ABI_CHUNK_UNIT) - 1; /* its end is beyond */
      break;
    case 6:
      e->unit = UINT32_MAX;
      break;
    case 7:
      e->start = 1; /* does not hold head */
      break;
    case 8:
      g->words.chunk_tail = 0; /* published bytes, no entries */
      break;
    default:
      g->words.chunk_tail += 40;
      break;
    }
    assert_int_equal(fifo_cons_read(&g->c, buf, 8000), -EPROTO);
    assert_int_equal(g->head, 0);
    teardown(state);
  }
  *state = f;
}

static void producer_rejects_heads(void **state) {
  struct fix *f = *state;
  assert_int_equal(fifo_prod_write(&f->p, bytes, 1000), 1000);
  f->head = 1001;
  assert_int_equal(fifo_prod_room(&f->p), -EPROTO);
  assert_int_equal(fifo_prod_write(&f->p, bytes, 1u << 20), -EPROTO);
  f->head = 500;
  assert_int_equal(fifo_prod_room(&f->p), (1 << 20) - 500);
  f->head = 499; /* rewound */
  assert_int_equal(fifo_prod_room(&f->p), -EPROTO);
}

static void resume_rejects_damage(void **state) {
  struct fix *f = *state;
  struct fifo_prod q;
  assert_int_equal(fifo_prod_write(&f->p, bytes, 300000), 300000);
  assert_int_equal(fifo_prod_write(&f->p, bytes, 300000), 300000);
  assert_true(f->words.chunk_tail >= 3);
  for (int i = 0; i < 5; i++) {
    struct abi_fifo_prod words = f->words;
    struct abi_chunk table[ABI_FIFO_CHUNKS];
    uint32_t head = 0;
    memcpy(table, f->table, sizeof table);
    if (i == 0)
      words.tail += 5000000;
    if (i == 1)
      table[0].len = 5;
    if (i == 2)
      table[1].start++;
    if (i == 3)
      head = words.tail + 1;
    if (i == 4)
      head = 0u - 1000000;
    arena_anew(f);
    assert_int_equal(fifo_prod_resume(&q, &words, table, &head, f->base, f->arena, 1u << 20), -EPROTO);
    assert_int_equal(arena_free_bytes(f->arena), ARENA_SIZE); /* nothing is held by it */
  }
  arena_anew(f);
  assert_int_equal(arena_claim(f->arena, f->table[1].unit, ABI_CHUNK_UNIT), 0);
  assert_int_equal(fifo_prod_resume(&q, &f->words, f->table, &f->head, f->base, f->arena, 1u << 20), -EEXIST);
  assert_int_equal(arena_free_bytes(f->arena), ARENA_SIZE - ABI_CHUNK_UNIT);
}

static void idle_costs_nothing(void **state) {
  struct fix *f = *state;
  uint8_t buf[300];
  for (int i = 0; i < 100; i++) {
    assert_int_equal(fifo_prod_write(&f->p, bytes, 300), 300);
    fifo_prod_trim(&f->p); /* not empty: nothing happens */
    assert_int_not_equal(arena_free_bytes(f->arena), ARENA_SIZE);
    assert_true(arena_free_bytes(f->arena) >= ARENA_SIZE - ABI_CHUNK_UNIT); /* a small message costs 2 KB */
    assert_int_equal(fifo_cons_read(&f->c, buf, 300), 300);
    assert_memory_equal(buf, bytes, 300);
    fifo_prod_trim(&f->p);
    assert_int_equal(arena_free_bytes(f->arena), ARENA_SIZE);
    assert_int_equal(fifo_prod_check(&f->p), 0);
  }
  /* A consumer and a producer that start now find each other. */
  fifo_cons_init(&f->c, &f->words, f->table, &f->head, f->base, ARENA_OFF, ARENA_SIZE, 1u << 20);
  arena_anew(f);
  assert_int_equal(fifo_prod_resume(&f->p, &f->words, f->table, &f->head, f->base, f->arena, 1u << 20), 0);
  assert_int_equal(arena_free_bytes(f->arena), ARENA_SIZE);
  assert_int_equal(fifo_prod_write(&f->p, bytes, 300), 300);
  assert_int_equal(fifo_cons_read(&f->c, buf, 300), 300);
  assert_memory_equal(buf, bytes, 300);
}

static void streams_in_few_chunks(void **state) {
  struct fix *f = *state;
  static const struct {
    uint32_t write, lag, chunks_per_mb;
  } run[] = {{1448, 0, 66}, {1448, 100000, 18}, {65536, 0, 18}, {262144, 1000000, 6}, {64, 0, 66}};
  static uint8_t buf[1u << 20];
  for (size_t i = 0; i < sizeof run / sizeof run[0]; i++) {
    setup(state);
    struct fix *g = *state;
    fifo_prod_size_set(&g->p, 4u << 20);
    g->c.max = 4u << 20;
    uint32_t before = 0;
    for (uint64_t sent = 0; sent < 24u << 20; sent += run[i].write) {
      if (sent < 4u << 20) /* while it starts up */
        before = g->words.chunk_tail;
      assert_int_equal(fifo_prod_write(&g->p, bytes, run[i].write), run[i].write);
      int64_t used = fifo_cons_used(&g->c);
      while (used > (int64_t)run[i].lag)
        used -= fifo_cons_read(&g->c, buf, (uint32_t)(used - (int64_t)run[i].lag));
    }
    assert_in_range((g->words.chunk_tail - before) / 20, 1, run[i].chunks_per_mb);
    teardown(state);
  }
  *state = f;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(is_a_pipe, setup, teardown),
      cmocka_unit_test_setup_teardown(out_of_order_far_ahead, setup, teardown),
      cmocka_unit_test_setup_teardown(consumer_rejects_words, setup, teardown),
      cmocka_unit_test_setup_teardown(consumer_rejects_entries, setup, teardown),
      cmocka_unit_test_setup_teardown(producer_rejects_heads, setup, teardown),
      cmocka_unit_test_setup_teardown(resume_rejects_damage, setup, teardown),
      cmocka_unit_test_setup_teardown(idle_costs_nothing, setup, teardown),
      cmocka_unit_test_setup_teardown(streams_in_few_chunks, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
