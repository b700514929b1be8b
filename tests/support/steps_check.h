/*
 * What is asked of every table of base/steps.h: it is printed as a diagram, each change stands in it once, and where
 * one can come to from a state follows from it.
 */
#ifndef HS_TEST_STEPS_CHECK_H
#define HS_TEST_STEPS_CHECK_H

#include "base/steps.h"
#include "test.h"

static inline void steps_print(const struct step *row, uint32_t n, uint32_t states, const char *(*name)(uint32_t)) {
  for (uint32_t from = 0; from < states; from++) {
    print_message("%s\n", name(from));
    for (uint32_t i = 0; i < n; i++)
      if (row[i].from == from)
        print_message("  -> %-10s %s\n", name(row[i].to), row[i].when);
  }
}

/** States that can be come to from `at`, as bits. */
static inline uint32_t steps_reach(const struct step *row, uint32_t n, uint32_t at) {
  uint32_t seen = 1u << at, last;
  do {
    last = seen;
    for (uint32_t i = 0; i < n; i++)
      if (seen & 1u << row[i].from)
        seen |= 1u << row[i].to;
  } while (seen != last);
  return seen;
}

/** Each state has a name, each row a reason, and no change stands there twice. */
static inline void steps_check(const struct step *row, uint32_t n, uint32_t states, const char *(*name)(uint32_t)) {
  for (uint32_t s = 0; s < states; s++) {
    assert_true(steps_may(row, n, s, s));
    assert_string_not_equal(name(s), "?");
  }
  assert_string_equal(name(states), "?");
  for (uint32_t i = 0; i < n; i++) {
    assert_true(row[i].from < states && row[i].to < states && row[i].when[0] != '\0');
    for (uint32_t k = 0; k < i; k++)
      assert_false(row[i].from == row[k].from && row[i].to == row[k].to);
  }
}

#endif
