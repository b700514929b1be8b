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

/** A limit refuses what goes beyond it, and only that. */
static void limit_holds(void **state) {
  (void)state;
  uint64_t n = arena_meta_size(SIZE);
  void *meta = malloc(n);
  struct arena *a = arena_init(meta, n, 0, SIZE);
  assert_int_equal(arena_limit_set(a, 1024, 6144, UINT64_MAX), 6144);
  uint32_t u = arena_get(a, 4096);
  assert_int_not_equal(u, ABI_SEG_NONE);
  assert_int_equal(arena_get(a, 4096), ABI_SEG_NONE);
  uint32_t v = arena_get(a, 2048);
  assert_int_not_equal(v, ABI_SEG_NONE);
  assert_int_equal(arena_limit_set(a, 2048, 0, UINT64_MAX), 6144); /* what is out stays so */
  arena_put(a, u, 4096);
  assert_int_equal(arena_limit_set(a, 3072, 0, UINT64_MAX), 3072);
  assert_int_equal(arena_get(a, 2048), ABI_SEG_NONE);
  uint32_t y = arena_get_first(a); /* goes beyond it, once per fifo */
  assert_int_not_equal(y, ABI_SEG_NONE);
  arena_put(a, y, 2048);
  assert_int_equal(arena_limit_set(a, 4096, 0, UINT64_MAX), 4096);
  uint32_t x = arena_get(a, 2048);
  assert_int_not_equal(x, ABI_SEG_NONE);
  arena_put(a, x, 2048);
  assert_int_equal(arena_limit_set(a, 4096, UINT64_MAX, 8192), 8192);
  assert_true(arena_limit_set(a, 0, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
  assert_int_equal(arena_get(a, 4096), u);
  arena_put(a, u, 4096);
  arena_put(a, v, 2048);
  assert_int_equal(arena_free_bytes(a), SIZE);
  assert_int_equal(arena_check(a), 0);
  free(meta);
}

/** The aim follows the peak of two looks in whole steps, with half a step of room; what is soiled beyond it goes. */
static void aim_follows_the_peak(void **state) {
  (void)state;
  uint64_t n = arena_meta_size(SIZE), keep = 64 * 1024, step = 32 * 1024;
  void *meta = malloc(n);
  struct arena *a = arena_init(meta, n, 0, SIZE);
  uint32_t u[4], unit, len;
  assert_int_equal(arena_aim(a, keep, step), keep);
  for (int i = 0; i < 4; i++)
    u[i] = arena_get(a, 65536);
  assert_int_equal(arena_soiled_bytes(a), 4 * 65536);
  assert_int_equal(arena_aim(a, keep, step), 4 * 65536 + step); /* half a step of room, in whole steps */
  for (int i = 0; i < 4; i++)
    arena_put(a, u[i], 65536);
  assert_int_equal(arena_aim(a, keep, step), 4 * 65536 + step); /* this look's peak */
  assert_int_equal(arena_sweep(a, 4 * 65536 + step, &unit, &len), 0);
  assert_int_equal(arena_aim(a, keep, step), 4 * 65536 + step); /* the one before's */
  uint64_t aim = arena_aim(a, keep, step);
  assert_int_equal(aim, keep); /* two looks without need */
  while (arena_sweep(a, aim, &unit, &len))
    arena_swept(a, unit, len);
  assert_true(arena_soiled_bytes(a) <= keep);
  assert_int_equal(arena_check(a), 0);
  uint64_t before = arena_soiled_bytes(a);
  arena_soil(a, ABI_CHUNK_MAX + 1, 1); /* one byte makes a page */
  arena_soil(a, SIZE - 4096, 2 * SIZE);
  arena_soil(a, SIZE, 1);
  assert_int_equal(arena_soiled_bytes(a), before + 2 * 4096);
  assert_int_equal(arena_check(a), 0);
  free(meta);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(refuses_sizes),        cmocka_unit_test(last_freed_first_used),    cmocka_unit_test(limit_holds),
      cmocka_unit_test(aim_follows_the_peak), cmocka_unit_test(serves_large_after_small),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
