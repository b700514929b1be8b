/*
 * Pool: limits, stable addresses, zeroed objects, refusal of a double put.
 */
#include "base/pool.h"
#include "test.h"

#include <string.h>

static void grows_and_keeps_addresses(void **state) {
  (void)state;
  struct pool p;
  uint32_t idx[1000];
  uint32_t *obj[1000];
  assert_int_equal(pool_init(&p, 100, 60, 1000), 0);
  for (uint32_t i = 0; i < 1000; i++) {
    obj[i] = pool_get(&p, &idx[i]);
    assert_non_null(obj[i]);
    assert_int_equal((uintptr_t)obj[i] % 64, 0);
    assert_int_equal(*obj[i], 0);
    *obj[i] = i;
  }
  uint32_t over;
  assert_null(pool_get(&p, &over));
  assert_int_equal(over, POOL_NONE);
  assert_int_equal(pool_used(&p), 1000);
  for (uint32_t i = 0; i < 1000; i++) {
    assert_ptr_equal(pool_at(&p, idx[i]), obj[i]);
    assert_ptr_equal(pool_ref(&p, idx[i]), obj[i]);
    assert_int_equal(*obj[i], i);
  }
  pool_fini(&p);
  pool_fini(&p);
}

static void reuses_zeroed(void **state) {
  (void)state;
  struct pool p;
  uint32_t a, b;
  assert_int_equal(pool_init(&p, 24, 8, 8), 0);
  uint8_t *obj = pool_get(&p, &a);
  assert_non_null(obj);
  memset(obj, 0xff, 24);
  assert_int_equal(pool_put(&p, a), 0);
  assert_null(pool_at(&p, a));
  assert_int_equal(pool_put(&p, a), -EINVAL);
  assert_int_equal(pool_put(&p, 7777), -EINVAL);
  assert_int_equal(pool_put(&p, POOL_NONE), -EINVAL);
  uint8_t *again = pool_get(&p, &b);
  assert_int_equal(b, a);
  static const uint8_t zero[24];
  assert_memory_equal(again, zero, 24);
  pool_fini(&p);
}

static void walks_what_is_out(void **state) {
  (void)state;
  struct pool p;
  uint32_t idx[100], seen = 0;
  assert_int_equal(pool_init(&p, 8, 16, 100), 0);
  assert_int_equal(pool_next(&p, 0), POOL_NONE);
  for (int i = 0; i < 100; i++)
    assert_non_null(pool_get(&p, &idx[i]));
  for (int i = 0; i < 100; i += 2)
    assert_int_equal(pool_put(&p, idx[i]), 0);
  for (uint32_t i = pool_next(&p, 0); i != POOL_NONE; i = pool_next(&p, i + 1)) {
    assert_int_equal(i % 2, 1);
    seen++;
  }
  assert_int_equal(seen, 50);
  pool_fini(&p);
}

static void reserves_ahead(void **state) {
  (void)state;
  struct pool p;
  uint32_t i;
  assert_int_equal(pool_init(&p, 8, 4, 10), 0);
  assert_int_equal(pool_reserve(&p, 11), -ENOSPC);
  assert_int_equal(pool_reserve(&p, 10), 0);
  assert_int_equal(p.n_made, 10);
  assert_non_null(pool_get(&p, &i));
  assert_int_equal(pool_reserve(&p, 10), -ENOSPC);
  assert_int_equal(pool_reserve(&p, 9), 0);
  pool_fini(&p);
}

static void refuses_bad_sizes(void **state) {
  (void)state;
  struct pool p;
  assert_int_equal(pool_init(&p, 0, 1, 1), -EINVAL);
  assert_int_equal(pool_init(&p, 1, 0, 1), -EINVAL);
  assert_int_equal(pool_init(&p, 1, 1, 0), -EINVAL);
  assert_int_equal(pool_init(&p, 2u << 20, 1, 1), -EINVAL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(grows_and_keeps_addresses), cmocka_unit_test(reuses_zeroed),
      cmocka_unit_test(walks_what_is_out),         cmocka_unit_test(reserves_ahead),
      cmocka_unit_test(refuses_bad_sizes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
