/*
 * The state table of session records is whole: every state can be come to and left, each change stands there once, what
 * is over never lives again. Prints the diagram.
 */
#include "session/life.h"
#include "steps_check.h"
#include "test.h"

#include <string.h>

#define STATES (ABI_SESS_CLOSED + 1u)

static void test_diagram(void **state) {
  (void)state;
  steps_print(life_table, life_rows, STATES, life_name);
}

static uint32_t reach(uint32_t at) {
  return steps_reach(life_table, life_rows, at);
}

static void test_whole(void **state) {
  (void)state;
  uint32_t none_comes_there = 1u << ABI_SESS_CLOSING; /* only an older engine made it */
  assert_int_equal(reach(ABI_SESS_FREE) | none_comes_there, (1u << STATES) - 1);
  for (uint32_t s = 0; s < STATES; s++) {
    assert_true((reach(s) & 1u << ABI_SESS_FREE) != 0);
  }
  steps_check(life_table, life_rows, STATES, life_name);
}

static void test_set(void **state) {
  (void)state;
  struct abi_sess_engine e;
  memset(&e, 0, sizeof e);
  assert_false(life_may(ABI_SESS_CLOSED, ABI_SESS_READY));
  assert_false(life_may(ABI_SESS_READY, ABI_SESS_CONNECTING));
  life_set(&e, ABI_SESS_CONNECTING);
  life_set(&e, ABI_SESS_READY);
  assert_int_equal(life_wrong, 0);
  life_set(&e, ABI_SESS_OFFERED); /* counted, and made */
  assert_int_equal(life_wrong, 1);
  assert_int_equal(e.state, ABI_SESS_OFFERED);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_diagram), cmocka_unit_test(test_whole),
                                     cmocka_unit_test(test_set)};
  return cmocka_run_group_tests_name("session life table", tests, NULL, NULL);
}
