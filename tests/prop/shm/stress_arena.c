/*
 * Four threads share an arena (arena_share): no chunk overlaps another's, and all of it is free in the end. For tsan.
 */
#include "shm/arena.h"

#include "abi/seg.h"
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4u
#define ROUNDS  20000u
#define CHUNKS  4u
#define UNITS   (2u * ABI_CHUNK_MAX / ABI_CHUNK_UNIT)

static struct arena *arena;
static uint8_t owner[UNITS]; /* plain: written by who holds the unit, so that tsan and the check see a double holder */

static int paint(uint32_t unit, uint32_t len, uint8_t from, uint8_t to) {
  int wrong = 0;
  for (uint32_t u = unit; u < unit + len / ABI_CHUNK_UNIT; u++) {
    wrong |= owner[u] != from;
    owner[u] = to;
  }
  return wrong;
}

static void *user(void *arg) {
  uint8_t me = (uint8_t)(uintptr_t)arg;
  uint32_t unit[CHUNKS], len[CHUNKS], n = 0, seed = me;
  uintptr_t wrong = 0;
  for (uint32_t r = 0; r < ROUNDS; r++) {
    seed = seed * 1664525u + 1013904223u;
    if (n < CHUNKS && (seed >> 20 & 1)) {
      len[n] = ABI_CHUNK_UNIT << (seed >> 24 & 7);
      unit[n] = arena_get(arena, len[n]);
      if (unit[n] == ABI_SEG_NONE)
        continue;
      wrong += (uintptr_t)paint(unit[n], len[n], 0, me);
      n++;
    } else if (n > 0) {
      n--;
      wrong += (uintptr_t)paint(unit[n], len[n], me, 0);
      arena_put(arena, unit[n], len[n]);
    }
  }
  while (n-- > 0) {
    wrong += (uintptr_t)paint(unit[n], len[n], me, 0);
    arena_put(arena, unit[n], len[n]);
  }
  return (void *)wrong;
}

static void test_shared(void **state) {
  pthread_t t[THREADS];
  void *wrong;
  uint64_t size = (uint64_t)UNITS * ABI_CHUNK_UNIT, meta = arena_meta_size(size);
  void *book = malloc(meta);
  (void)state;
  arena = arena_init(book, meta, 0, size);
  assert_non_null(arena);
  arena_share(arena);
  for (uint32_t i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&t[i], NULL, user, (void *)(uintptr_t)(i + 1)), 0);
  for (uint32_t i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(t[i], &wrong), 0);
    assert_null(wrong);
  }
  assert_int_equal(arena_check(arena), 0);
  assert_int_equal(arena_free_bytes(arena), size);
  free(book);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
