/*
 * Path MTUs that transports found: per destination, never above the link's, for a time, in sets of four of which the
 * oldest gives way; and when another worker's stack has to hear of it.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#include <stdio.h>

#define S 1000000ull

static int mtu_of(struct ip_rig *r, const char *dst) {
  struct ip_addr a = rig_addr(dst);
  return ip_path_mtu(r->s, &a, r->now);
}

static int learn(struct ip_rig *r, const char *dst, uint32_t mtu, usec_t life) {
  struct ip_addr a = rig_addr(dst);
  return ip_path_mtu_learn(r->s, &a, mtu, r->now + life, r->now);
}

static void test_learned(void **state) {
  struct ip_rig *r = *state;
  static const char *const dst[] = {"10.0.0.7", "2001:db8::7"}, *const other[] = {"10.0.0.8", "2001:db8::8"};
  for (unsigned i = 0; i < 2; i++) {
    assert_int_equal(mtu_of(r, dst[i]), 1500);
    assert_int_equal(learn(r, dst[i], 1400, 100 * S), 1);
    assert_int_equal(mtu_of(r, dst[i]), 1400);
    assert_int_equal(mtu_of(r, other[i]), 1500);
    assert_int_equal(learn(r, dst[i], 1300, 100 * S), 1);
    assert_int_equal(mtu_of(r, dst[i]), 1300);
  }
  assert_int_equal(r->c[IPC_PMTU_LEARNED], 4);
  rig_advance(r, 100 * S);
  assert_int_equal(mtu_of(r, dst[0]), 1500);
  assert_int_equal(mtu_of(r, dst[1]), 1500);
}

/* What is new to others: a value, its end, a life longer by more than a second. */
static void test_news(void **state) {
  struct ip_rig *r = *state;
  assert_int_equal(learn(r, "10.0.0.7", 1500, 100 * S), 0); /* as the link says, of which nobody thought otherwise */
  assert_int_equal(learn(r, "10.0.0.7", 1400, 100 * S), 1);
  assert_int_equal(learn(r, "10.0.0.7", 1400, 100 * S), 0);
  assert_int_equal(learn(r, "10.0.0.7", 1400, 101 * S), 0);
  assert_int_equal(learn(r, "10.0.0.7", 1400, 103 * S), 1);
  assert_int_equal(learn(r, "10.0.0.7", 9000, 100 * S), 1);
  assert_int_equal(mtu_of(r, "10.0.0.7"), 1500);
  assert_int_equal(learn(r, "10.0.0.7", 1500, 100 * S), 0);
  assert_int_equal(learn(r, "198.51.100.1", 1400, 100 * S), 0); /* no way there */
}

/* Told by another worker: believed as well, counted there. */
static void test_told(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("10.0.0.7");
  assert_int_equal(ip_path_mtu_told(r->s, &a, 1400, r->now + 100 * S, r->now), 1);
  assert_int_equal(mtu_of(r, "10.0.0.7"), 1400);
  assert_int_equal(r->c[IPC_PMTU_LEARNED], 0);
  assert_int_equal(ip_path_mtu_told(r->s, &a, 1500, r->now + 100 * S, r->now), 1);
  assert_int_equal(mtu_of(r, "10.0.0.7"), 1500);
}

/* More destinations than fit: the table stays as it is, what was learned last is known. */
static void test_full(void **state) {
  struct ip_rig *r = *state;
  char dst[32];
  unsigned known = 0;
  for (unsigned i = 0; i < 4 * PMTU_SETS * PMTU_WAYS; i++) {
    snprintf(dst, sizeof dst, "2001:db8::%x:%x", 1 + i / 1000, i % 1000);
    assert_int_equal(learn(r, dst, 1300, (100 + i) * S), 1);
    assert_int_equal(mtu_of(r, dst), 1300);
  }
  for (unsigned i = 0; i < 4 * PMTU_SETS * PMTU_WAYS; i++) {
    snprintf(dst, sizeof dst, "2001:db8::%x:%x", 1 + i / 1000, i % 1000);
    known += mtu_of(r, dst) == 1300;
  }
  assert_true(known <= PMTU_SETS * PMTU_WAYS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_learned),
      RIG_TEST(test_news),
      RIG_TEST(test_told),
      RIG_TEST(test_full),
  };
  return cmocka_run_group_tests_name("ip_pmtu", tests, NULL, NULL);
}
