/*
 * JSON of messages whose strings an app chose: valid whatever the bytes; and text for a terminal without its commands.
 */
#include "hsctl.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static char *json_of(const char *text) {
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  char *out = NULL;
  size_t size = 0;
  FILE *f = open_memstream(&out, &size);
  assert_non_null(f);
  r.text = (char *)(uintptr_t)text;
  json_print(f, &r.base);
  fclose(f);
  return out;
}

static void expect(const char *text, const char *json) {
  char *out = json_of(text);
  char want[128];
  snprintf(want, sizeof want, "\"%s\"", json);
  if (strstr(out, want) == NULL)
    fail_msg("%s is not in %s", want, out);
  free(out);
}

static void test_strings(void **state) {
  (void)state;
  expect("plain", "plain");
  expect("a\"b\\c", "a\\\"b\\\\c");
  expect("tab\tesc\033[2J\177", "tab\\u0009esc\\u001b[2J\\u007f");
  expect("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  expect("\xff", "\\ufffd");
  expect("a\xc3", "a\\ufffd");                       /* cut off */
  expect("\xc0\xaf", "\\ufffd\\ufffd");              /* too long a form */
  expect("\xed\xa0\x80z", "\\ufffd\\ufffd\\ufffdz"); /* a surrogate */
  expect("\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd");
}

static void test_plain(void **state) {
  (void)state;
  char buf[8];
  assert_string_equal(table_plain(buf, sizeof buf, "\033[2J\nx"), "?[2J?x");
  assert_string_equal(table_plain(buf, sizeof buf, "longer than that"), "longer ");
  assert_string_equal(table_plain(buf, sizeof buf, NULL), "");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_strings), cmocka_unit_test(test_plain)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
