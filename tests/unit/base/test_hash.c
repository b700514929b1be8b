/*
 * Index table: equal hashes, growth in bounded steps, removal during growth; SipHash against its published vectors.
 */
#include "base/hash.h"
#include "test.h"

#include <string.h>

static int eq_value(uint32_t value, const void *ctx) {
  return value == *(const uint32_t *)ctx;
}

static void equal_hashes_are_told_apart(void **state) {
  (void)state;
  struct hash_tab t;
  assert_int_equal(hash_tab_init(&t, 0), 0);
  for (uint32_t v = 0; v < 500; v++)
    assert_int_equal(hash_tab_insert(&t, 42, v), 0);
  for (uint32_t v = 0; v < 500; v++)
    assert_int_equal(hash_tab_find(&t, 42, eq_value, &v), v);
  uint32_t none = 500;
  assert_int_equal(hash_tab_find(&t, 42, eq_value, &none), HASH_NONE);
  assert_int_equal(hash_tab_find(&t, 43, NULL, NULL), HASH_NONE);
  assert_int_equal(hash_tab_remove(&t, 42, 500), -ENOENT);
  assert_int_equal(hash_tab_remove(&t, 42, UINT32_MAX), -ENOENT);
  assert_int_equal(hash_tab_remove(&t, 43, 1), -ENOENT);
  for (uint32_t v = 0; v < 500; v++) {
    assert_int_equal(hash_tab_remove(&t, 42, v), 0);
    assert_int_equal(hash_tab_find(&t, 42, eq_value, &v), HASH_NONE);
  }
  assert_int_equal(hash_tab_count(&t), 0);
  hash_tab_fini(&t);
  hash_tab_fini(&t);
}

static void every_step_is_small(void **state) {
  (void)state;
  struct hash_tab t;
  assert_int_equal(hash_tab_init(&t, 0), 0);
  unsigned growths = 0;
  for (uint32_t v = 0; v < 200000; v++) {
    uint32_t pos = t.old.slots != NULL ? t.old_pos : 0;
    int growing = t.old.slots != NULL;
    assert_int_equal(hash_tab_insert(&t, (uint32_t)hash_mix64(v), v), 0);
    if (t.old.slots != NULL) {
      assert_true(t.old_pos - pos <= HASH_MOVE_MAX);
      growths += !growing;
    }
    assert_true((uint64_t)t.count * 100 <= ((uint64_t)t.now.mask + 1) * 70);
  }
  assert_true(growths >= 10);
  for (uint32_t v = 0; v < 200000; v++)
    assert_int_equal(hash_tab_find(&t, (uint32_t)hash_mix64(v), eq_value, &v), v);
  hash_tab_fini(&t);
}

static uint32_t crowded(uint32_t v) {
  return (v & ~15u) + 9; /* chains of 16 and more, that cross every boundary of a step */
}

static void nothing_is_lost_while_growing(void **state) {
  (void)state;
  struct hash_tab t;
  static uint8_t in[3000];
  unsigned checks = 0;
  assert_int_equal(hash_tab_init(&t, 0), 0);
  memset(in, 0, sizeof in);
  for (uint32_t v = 0; v < 3000; v++) {
    assert_int_equal(hash_tab_insert(&t, crowded(v), v), 0);
    in[v] = 1;
    if (t.old.slots == NULL)
      continue;
    uint32_t gone = t.old_pos + 70 + v % 32; /* will not move in this step */
    gone = gone < v ? gone : v / 2;
    if (in[gone]) {
      assert_int_equal(hash_tab_remove(&t, crowded(gone), gone), 0);
      in[gone] = 0;
    }
    for (uint32_t u = 0; u <= v; u++)
      assert_int_equal(hash_tab_find(&t, crowded(u), eq_value, &u), in[u] ? u : HASH_NONE);
    checks++;
  }
  assert_true(checks > 20);
  hash_tab_fini(&t);
}

static void expectation_avoids_growth(void **state) {
  (void)state;
  struct hash_tab t;
  assert_int_equal(hash_tab_init(&t, 1000), 0);
  uint32_t mask = t.now.mask;
  for (uint32_t v = 0; v < 1000; v++)
    assert_int_equal(hash_tab_insert(&t, (uint32_t)hash_mix64(v), v), 0);
  assert_int_equal(t.now.mask, mask);
  assert_int_equal(hash_tab_insert(&t, 1, UINT32_MAX), -EINVAL);
  assert_int_equal(hash_tab_insert(&t, 1, UINT32_MAX - 1), -EINVAL);
  hash_tab_fini(&t);
  assert_int_equal(hash_tab_init(&t, (1u << 30) + 1), -EINVAL);
  hash_tab_fini(&t); /* harmless after a refused init */
}

static void walk_sees_all_once(void **state) {
  (void)state;
  struct hash_tab t;
  uint8_t seen[3000] = {0};
  assert_int_equal(hash_tab_init(&t, 0), 0);
  for (uint32_t v = 0; v < 3000; v++) {
    assert_int_equal(hash_tab_insert(&t, (uint32_t)hash_mix64(v), v), 0);
    if (t.old.slots != NULL && v > 2000)
      break; /* in the middle of a growth */
  }
  uint64_t pos = 0;
  uint32_t n = 0;
  for (uint32_t v; (v = hash_tab_next(&t, &pos)) != HASH_NONE; n++)
    assert_int_equal(seen[v]++, 0);
  assert_int_equal(n, hash_tab_count(&t));
  hash_tab_fini(&t);
  pos = 0;
  assert_int_equal(hash_tab_next(&t, &pos), HASH_NONE);
}

/* The paper's appendix A: key 00..0f, message 00..0e; and the first of the reference vectors. */
static void siphash_vectors(void **state) {
  (void)state;
  uint8_t key[16], msg[64];
  for (uint8_t i = 0; i < 16; i++)
    key[i] = i;
  for (uint8_t i = 0; i < 64; i++)
    msg[i] = i;
  assert_true(hash_siphash24(key, msg, 15) == 0xa129ca6149be45e5ull);
  assert_true(hash_siphash24(key, msg, 0) == 0x726fdb47dd0e0e31ull);
  assert_true(hash_siphash24(key, msg, 1) == 0x74f839c593dc67fdull);
  assert_true(hash_siphash24(key, msg, 8) == 0x93f5f5799a932462ull);
  uint8_t odd[65];
  memcpy(odd + 1, msg, 64);
  assert_true(hash_siphash24(key, odd + 1, 63) == hash_siphash24(key, msg, 63));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(equal_hashes_are_told_apart),
      cmocka_unit_test(every_step_is_small),
      cmocka_unit_test(nothing_is_lost_while_growing),
      cmocka_unit_test(expectation_avoids_growth),
      cmocka_unit_test(walk_sees_all_once),
      cmocka_unit_test(siphash_vectors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
