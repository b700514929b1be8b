/*
 * Arena: sizes it refuses, warm chunks first, whole again after use. Random use is in tests/prop/shm/prop_arena.c.
 *
 * One thread, private memory only. The naive twin is prop_arena.c.
 */
#include "abi/seg.h"
#include "base/err.h"
#include "shm/arena.h"
#include "test.h"

#include <stdlib.h>

#define SIZE (2ull * ABI_CHUNK_MAX)

static void refuses_sizes(void **state) {
  (void)state;
  uint64_t n = arena_meta_size(SIZE);
  void *meta = malloc(n);
  assert_null(arena_init(meta, n, 0, 0));
  assert_null(arena_init(meta, n, 0, SIZE + 2048));
  assert_null(arena_init(meta, n - 1, 0, SIZE));
  struct arena *a = arena_init(meta, n, 512, SIZE);
  assert_non_null(a);
  assert_int_equal(arena_free_bytes(a), SIZE);
  static const uint32_t bad[] = {0, 1, 1024, 2047, 3072, 6144, 2 * ABI_CHUNK_MAX, UINT32_MAX};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    assert_int_equal(arena_get(a, bad[i]), ABI_SEG_NONE);
    assert_int_equal(arena_claim(a, 512, bad[i]), -EINVAL);
    arena_put(a, 512, bad[i]);
  }
  assert_int_equal(arena_claim(a, 511, 2048), -EINVAL);
  assert_int_equal(arena_claim(a, 512 + 1024, 2048), -EINVAL);
  assert_int_equal(arena_claim(a, 513, 4096), -EINVAL); /* not aligned to its size */
  assert_int_equal(arena_claim(a, 513, 2048), 0);
  assert_int_equal(arena_claim(a, 512, 4096), -EEXIST);
  arena_put(a, 512, 2048); /* free: ignored */
  arena_put(a, 513, 4096); /* taken, but not like that */
  assert_int_equal(arena_free_bytes(a), SIZE - 2048);
  arena_put(a, 513, 2048);
  assert_int_equal(arena_free_bytes(a), SIZE);
  assert_int_equal(arena_check(a), 0);
  free(meta);
}

static void last_freed_first_used(void **state) {
  (void)state;
  uint64_t n = arena_meta_size(SIZE);
  void *meta = malloc(n);
  struct arena *a = arena_init(meta, n, 0, SIZE);
  uint32_t u[20];
  for (int i = 0; i < 20; i++)
    u[i] = arena_get(a, 16384);
  for (int i = 0; i < 20; i++)
    arena_put(a, u[i], 16384);
  for (int i = 19; i >= 12; i--)
    assert_int_equal(arena_get(a, 16384), u[i]);
  assert_int_equal(arena_check(a), 0);
  free(meta);
}

static void serves_large_after_small(void **state) {
  (void)state;
  uint64_t n = arena_meta_size(SIZE);
  void *meta = malloc(n);
  struct arena *a = arena_init(meta, n, 0, SIZE);
  uint32_t u[SIZE / 2048];
  for (size_t i = 0; i < SIZE / 2048; i++)
    assert_int_not_equal(u[i] = arena_get(a, 2048), ABI_SEG_NONE);
  assert_int_equal(arena_get(a, 2048), ABI_SEG_NONE);
  for (size_t i = 0; i < SIZE / 2048; i++)
    arena_put(a, u[(i * 701) % (SIZE / 2048)], 2048);
  assert_int_equal(arena_check(a), 0);
  assert_int_not_equal(arena_get(a, ABI_CHUNK_MAX), ABI_SEG_NONE);
  assert_int_not_equal(arena_get(a, ABI_CHUNK_MAX), ABI_SEG_NONE);
  free(meta);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(refuses_sizes),
      cmocka_unit_test(last_freed_first_used),
      cmocka_unit_test(serves_large_after_small),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
