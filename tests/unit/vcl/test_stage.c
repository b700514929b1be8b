/*
 * The table of a session's stages in the library is whole: every one can be come to and ends, each change stands there
 * once, what is closed never lives again. Prints the diagram.
 */
#include "test.h"
#include "vcl_session.h"

#include <string.h>

#define STAGES (SESSION_ZOMBIE + 1u)

static void test_diagram(void **state) {
  (void)state;
  for (uint32_t from = 0; from < STAGES; from++) {
    print_message("%s\n", stage_name(from));
    for (uint32_t i = 0; i < stage_rows; i++)
      if (stage_table[i].from == from)
        print_message("  -> %-8s %s\n", stage_name(stage_table[i].to), stage_table[i].when);
  }
}

/* Stages that can be come to from `at`, as bits. */
static uint32_t reach(uint32_t at) {
  uint32_t seen = 1u << at, last;
  do {
    last = seen;
    for (uint32_t i = 0; i < stage_rows; i++)
      if (seen & 1u << stage_table[i].from)
        seen |= 1u << stage_table[i].to;
  } while (seen != last);
  return seen;
}

static void test_whole(void **state) {
  (void)state;
  assert_int_equal(reach(SESSION_NEW), (1u << STAGES) - 1);
  assert_int_equal(reach(SESSION_ZOMBIE), 1u << SESSION_ZOMBIE);
  for (uint32_t s = 0; s < STAGES; s++) {
    assert_true((reach(s) & 1u << SESSION_ZOMBIE) != 0);
    assert_true(stage_may(s, s));
    assert_string_not_equal(stage_name(s), "?");
    if (s != SESSION_OFFER) /* which has no handle to close */
      assert_true(stage_may(s, SESSION_ZOMBIE));
  }
  assert_string_equal(stage_name(STAGES), "?");
  for (uint32_t i = 0; i < stage_rows; i++) {
    assert_true(stage_table[i].from < STAGES && stage_table[i].to < STAGES && stage_table[i].when[0] != '\0');
    for (uint32_t k = 0; k < i; k++)
      assert_false(stage_table[i].from == stage_table[k].from && stage_table[i].to == stage_table[k].to);
  }
}

static void test_set(void **state) {
  (void)state;
  struct session s;
  memset(&s, 0, sizeof s);
  assert_false(stage_may(SESSION_LISTEN, SESSION_OPEN));
  assert_false(stage_may(SESSION_ZOMBIE, SESSION_OPEN));
  stage_set(&s, SESSION_BOUND);
  stage_set(&s, SESSION_LISTEN);
  assert_int_equal(stage_wrong, 0);
  stage_set(&s, SESSION_OPEN); /* counted, and made */
  assert_int_equal(stage_wrong, 1);
  assert_int_equal(s.life, SESSION_OPEN);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_diagram), cmocka_unit_test(test_whole),
                                     cmocka_unit_test(test_set)};
  return cmocka_run_group_tests_name("stages of a session in the library", tests, NULL, NULL);
}
