/*
 * The table of a session's stages in the library is whole: every one can be come to and ends, each change stands there
 * once, what is closed never lives again. Prints the diagram.
 */
#include "steps_check.h"
#include "test.h"
#include "vcl_session.h"

#include <string.h>

#define STAGES (SESSION_ZOMBIE + 1u)

static void test_diagram(void **state) {
  (void)state;
  steps_print(stage_table, stage_rows, STAGES, stage_name);
}

static uint32_t reach(uint32_t at) {
  return steps_reach(stage_table, stage_rows, at);
}

static void test_whole(void **state) {
  (void)state;
  assert_int_equal(reach(SESSION_NEW), (1u << STAGES) - 1);
  assert_int_equal(reach(SESSION_ZOMBIE), 1u << SESSION_ZOMBIE);
  for (uint32_t s = 0; s < STAGES; s++) {
    assert_true((reach(s) & 1u << SESSION_ZOMBIE) != 0);
    if (s != SESSION_OFFER) /* which has no handle to close */
      assert_true(stage_may(s, SESSION_ZOMBIE));
  }
  steps_check(stage_table, stage_rows, STAGES, stage_name);
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
