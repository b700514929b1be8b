/*
 * Free list: last given first taken; and four threads that take and give: no number is ever with two of them, none is
 * lost. The threads part is for tsan too.
 */
#include "base/freelist.h"
#include "test.h"

#include <pthread.h>

#define NUMBERS 64u
#define THREADS 4u
#define ROUNDS  20000u

static uint32_t next[NUMBERS];
static struct freelist list;
static uint32_t held[NUMBERS]; /* atomic: by how many */
static uint32_t mark[NUMBERS]; /* plain: its holder's alone */

static void test_order(void **state) {
  (void)state;
  freelist_init(&list, next);
  assert_int_equal(freelist_get(&list), FREELIST_NONE);
  for (uint32_t i = 0; i < NUMBERS; i++)
    freelist_put(&list, i);
  assert_int_equal(freelist_n(&list), NUMBERS);
  for (uint32_t i = NUMBERS; i > 0; i--)
    assert_int_equal(freelist_get(&list), i - 1);
  assert_int_equal(freelist_get(&list), FREELIST_NONE);
  assert_int_equal(freelist_n(&list), 0);
}

static void *taker(void *arg) {
  uint32_t mine[8], n = 0, seed = (uint32_t)(uintptr_t)arg;
  uintptr_t wrong = 0;
  for (uint32_t r = 0; r < ROUNDS; r++) {
    seed = seed * 1664525u + 1013904223u;
    if (n < 8 && (seed >> 16 & 1)) {
      uint32_t i = freelist_get(&list);
      if (i == FREELIST_NONE)
        continue;
      wrong += __atomic_add_fetch(&held[i], 1, __ATOMIC_RELAXED) != 1;
      mark[i]++;
      mine[n++] = i;
    } else if (n > 0) {
      uint32_t i = mine[--n];
      mark[i]++;
      __atomic_sub_fetch(&held[i], 1, __ATOMIC_RELAXED);
      freelist_put(&list, i);
    }
  }
  while (n > 0) {
    __atomic_sub_fetch(&held[mine[--n]], 1, __ATOMIC_RELAXED);
    freelist_put(&list, mine[n]);
  }
  return (void *)wrong;
}

static void test_threads(void **state) {
  pthread_t t[THREADS];
  void *wrong;
  uint8_t seen[NUMBERS] = {0};
  (void)state;
  freelist_init(&list, next);
  for (uint32_t i = 0; i < NUMBERS / 4; i++) /* fewer than the threads want */
    freelist_put(&list, i);
  for (uint32_t i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&t[i], NULL, taker, (void *)(uintptr_t)(i + 1)), 0);
  for (uint32_t i = 0; i < THREADS; i++) {
    assert_int_equal(pthread_join(t[i], &wrong), 0);
    assert_null(wrong);
  }
  assert_int_equal(freelist_n(&list), NUMBERS / 4);
  for (uint32_t i = 0; i < NUMBERS / 4; i++) {
    uint32_t got = freelist_get(&list);
    assert_true(got < NUMBERS / 4 && !seen[got]);
    seen[got] = 1;
  }
  assert_int_equal(freelist_get(&list), FREELIST_NONE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
