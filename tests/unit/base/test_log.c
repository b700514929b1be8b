/*
 * Log records: form of a line, levels, escaping, length limit, rate limit.
 */
#include "base/log.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int pipe_fd[2];
static char seen[8192];

static int setup(void **state) {
  (void)state;
  if (pipe(pipe_fd) < 0 || fcntl(pipe_fd[0], F_SETFL, O_NONBLOCK) < 0)
    return -1;
  log_set_fd(pipe_fd[1]);
  log_set_level(LOG_LEVEL_INFO);
  log_set_name("unit");
  return 0;
}

static int teardown(void **state) {
  (void)state;
  log_set_fd(STDERR_FILENO);
  close(pipe_fd[0]);
  close(pipe_fd[1]);
  return 0;
}

static const char *drain(void) {
  ssize_t n = read(pipe_fd[0], seen, sizeof seen - 1);
  seen[n > 0 ? n : 0] = 0;
  return seen;
}

static unsigned lines(const char *text) {
  unsigned n = 0;
  for (; *text; text++)
    n += *text == '\n';
  return n;
}

static void line_has_its_form(void **state) {
  (void)state;
  unsigned y, mo, d, h, mi, s, us;
  char level[16], name[16], id[32], word[16];
  errno = ENOENT;
  log_warn("broker.attach", "app=%d %m", 7);
  assert_int_equal(errno, ENOENT);
  drain();
  assert_int_equal(sscanf(seen, "%4u-%2u-%2uT%2u:%2u:%2u.%6uZ %15s %15s %31s %15s", &y, &mo, &d, &h, &mi, &s, &us,
                          level, name, id, word),
                   11);
  assert_string_equal(level, "warn");
  assert_string_equal(name, "unit");
  assert_string_equal(id, "broker.attach");
  assert_string_equal(word, "app=7");
  assert_non_null(strstr(seen, "No such file"));
  assert_int_equal(lines(seen), 1);
}

static int evaluated;
static int count_me(void) {
  return ++evaluated;
}

static void level_filters_before_arguments(void **state) {
  (void)state;
  log_debug("x.y", "%d", count_me());
  assert_string_equal(drain(), "");
  assert_int_equal(evaluated, 0);
  log_set_level(LOG_LEVEL_DEBUG);
  log_debug("x.y", "%d", count_me());
  assert_int_equal(lines(drain()), 1);
  log_set_level(LOG_LEVEL_ERROR);
  log_warn("x.y", "no");
  log_error("x.y", "yes");
  assert_int_equal(lines(drain()), 1);
  assert_int_equal(log_level_parse("debug"), LOG_LEVEL_DEBUG);
  assert_int_equal(log_level_parse("loud"), -EINVAL);
}

static void text_stays_one_line(void **state) {
  (void)state;
  char huge[5000];
  log_info("x.y", "a\nb\x1b[31m\x7f");
  drain();
  assert_int_equal(lines(seen), 1);
  assert_non_null(strstr(seen, "a\\x0ab\\x1b[31m\\x7f\n"));
  memset(huge, '\n', sizeof huge - 1);
  huge[sizeof huge - 1] = 0;
  log_info("x.y", "%s", huge);
  drain();
  assert_int_equal(lines(seen), 1);
  assert_true(strlen(seen) <= 2048);
  huge[4000] = 0;
  log_write(LOG_LEVEL_INFO, huge + 1000, "an id of 3000 bytes"); /* cut, not overrun */
  assert_true(strlen(drain()) <= 2048);
}

static void rate_limit_tells_what_it_swallowed(void **state) {
  (void)state;
  struct log_rl rl = {0, 0};
  uint32_t lost = 99;
  assert_true(log_rl_pass(&rl, 3600ull * 1000000, &lost));
  assert_int_equal(lost, 0);
  for (int i = 0; i < 5; i++)
    assert_false(log_rl_pass(&rl, 3600ull * 1000000, &lost));
  rl.next_us = 1; /* the period is over */
  assert_true(log_rl_pass(&rl, 3600ull * 1000000, &lost));
  assert_int_equal(lost, 5);
  for (int i = 0; i < 100; i++)
    log_warn_rl("x.flood", "again %d", i);
  drain();
  assert_in_range(lines(seen), 1, 10); /* once, or once per second of a very slow machine */
  assert_non_null(strstr(seen, "again 0"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(line_has_its_form, setup, teardown),
      cmocka_unit_test_setup_teardown(level_filters_before_arguments, setup, teardown),
      cmocka_unit_test_setup_teardown(text_stays_one_line, setup, teardown),
      cmocka_unit_test_setup_teardown(rate_limit_tells_what_it_swallowed, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
