/*
 * Fault points: listing, hook, Nth hit, kill and abort in a child, the environment's text.
 */
#include "base/fault.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int stores;

static void publish(void) {
  stores = 1;
  FAULT_POINT("unit.first");
  stores = 2;
  FAULT_POINT("unit.second");
  stores = 3;
  FAULT_POINT("unit.first"); /* a name may be used twice; it is listed once */
}

#ifdef HS_FAULT_POINTS

static char walked[256];
static jmp_buf out;

static void note(const char *name, void *ctx) {
  (void)ctx;
  size_t len = strlen(walked);
  snprintf(walked + len, sizeof walked - len, "%s ", name + strlen("unit."));
}

static void leave(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  longjmp(out, 1);
}

static void list_has_each_once(void **state) {
  (void)state;
  const char *names[8] = {0};
  assert_int_equal(fault_list(NULL, 0), 2);
  assert_int_equal(fault_list(names, 8), 2);
  assert_string_equal(names[0], "unit.first");
  assert_string_equal(names[1], "unit.second");
}

static void hook_walks_and_counts(void **state) {
  (void)state;
  walked[0] = 0;
  fault_set_hook(note, NULL);
  assert_int_equal(fault_arm("*", 1, FAULT_HOOK), 0);
  publish();
  assert_string_equal(walked, "first second first ");
  walked[0] = 0;
  assert_int_equal(fault_arm("unit.first", 2, FAULT_HOOK), 0);
  publish();
  assert_string_equal(walked, "first ");
  assert_int_equal(fault_hits(), 2);
  fault_disarm();
  publish();
  assert_string_equal(walked, "first ");
}

static void hook_may_leave_between_stores(void **state) {
  (void)state;
  fault_set_hook(leave, NULL);
  assert_int_equal(fault_arm("unit.second", 1, FAULT_HOOK), 0);
  if (setjmp(out) == 0)
    publish();
  fault_disarm();
  assert_int_equal(stores, 2);
}

static int run_child(const char *text) {
  pid_t pid = fork();
  if (pid == 0) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGABRT, SIG_DFL);
    if (fault_arm_text(text) < 0)
      _exit(99);
    publish();
    _exit(0);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid)
    return -1;
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void child_dies_as_asked(void **state) {
  (void)state;
  assert_int_equal(run_child("unit.second:1"), 1000 + SIGKILL);
  assert_int_equal(run_child("unit.first:2:kill"), 1000 + SIGKILL);
  assert_int_equal(run_child("unit.first:2:abort"), 1000 + SIGABRT);
  assert_int_equal(run_child("unit.first:3"), 0);
  assert_int_equal(run_child("other:1"), 0);
}

#else

static void nothing_is_compiled_in(void **state) {
  (void)state;
  assert_int_equal(fault_list(NULL, 0), 0);
  assert_int_equal(fault_arm("*", 1, FAULT_KILL), 0);
  publish();
  fault_disarm();
  assert_int_equal(stores, 3);
}

#endif

static void text_is_checked(void **state) {
  (void)state;
  static const char *const bad[] = {"",          "x",
                                    ":1",        "x:",
                                    "x:0",       "x:-1",
                                    "x:1:",      "x:1:burn",
                                    "x:1:kill ", "x:99999999999",
                                    "x: 1:no",   "x:18446744073709551616"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(fault_arm_text(bad[i]), -EINVAL);
  char longname[FAULT_NAME_MAX + 8];
  memset(longname, 'a', sizeof longname);
  memcpy(longname + sizeof longname - 3, ":1", 3);
  assert_int_equal(fault_arm_text(longname), -EINVAL);
  assert_int_equal(fault_arm("", 1, FAULT_KILL), -EINVAL);
  assert_int_equal(fault_arm("x", 0, FAULT_KILL), -EINVAL);
  assert_int_equal(fault_arm_text("x:7:hang"), 0);
  fault_disarm();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_is_checked),
#ifdef HS_FAULT_POINTS
      cmocka_unit_test(list_has_each_once),
      cmocka_unit_test(hook_walks_and_counts),
      cmocka_unit_test(hook_may_leave_between_stores),
      cmocka_unit_test(child_dies_as_asked),
#else
      cmocka_unit_test(nothing_is_compiled_in),
#endif
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
