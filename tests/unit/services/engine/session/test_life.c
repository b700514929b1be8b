/*
 * The state table of session records is whole: every state can be come to and left, each change stands there once, what
 * is over never lives again. Prints the diagram.
 */
#include "session/life.h"
#include "test.h"

#include <string.h>

#define STATES (ABI_SESS_CLOSED + 1u)

static void test_diagram(void **state) {
  (void)state;
  for (uint32_t from = 0; from < STATES; from++) {
    print_message("%s\n", life_name(from));
    for (uint32_t i = 0; i < life_rows; i++)
      if (life_table[i].from == from)
        print_message("  -> %-10s  %s\n", life_name(life_table[i].to), life_table[i].when);
  }
}

/* States that can be come to from `at`, as bits. */
static uint32_t reach(uint32_t at) {
  uint32_t seen = 1u << at, last;
  do {
    last = seen;
    for (uint32_t i = 0; i < life_rows; i++)
      if (seen & 1u << life_table[i].from)
        seen |= 1u << life_table[i].to;
  } while (seen != last);
  return seen;
}

static void test_whole(void **state) {
  (void)state;
  uint32_t none_comes_there = 1u << ABI_SESS_CLOSING; /* only an older engine made it */
  assert_int_equal(reach(ABI_SESS_FREE) | none_comes_there, (1u << STATES) - 1);
  for (uint32_t s = 0; s < STATES; s++) {
    assert_true((reach(s) & 1u << ABI_SESS_FREE) != 0);
    assert_true(life_may(s, s));
    assert_string_not_equal(life_name(s), "?");
  }
  assert_string_equal(life_name(STATES), "?");
  for (uint32_t i = 0; i < life_rows; i++) {
    assert_true(life_table[i].from < STATES && life_table[i].to < STATES && life_table[i].when[0] != '\0');
    for (uint32_t k = 0; k < i; k++)
      assert_false(life_table[i].from == life_table[k].from && life_table[i].to == life_table[k].to);
  }
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
