/*
 * vcl/ldp/share.c: whoever holds a connection last closes it, over forks, closes, exits and kills.
 *
 * Real forks; the handlers are called by hand in the order that pthread_atfork would. Sessions closed are counted in
 * memory that the processes share.
 */
#include "test.h"

#include "fakes.h"
#include "ldp/share.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARE_FD = 400 };

/* As close() of the last number does. */
static void close_last(struct sock *s) {
  share_close(s);
  fd_put(fd_take(SHARE_FD));
}

static struct sock *share_connection(void) {
  struct sock *s = fakes_sock(SOCK_F_CONNECTED);
  assert_int_equal(fd_set_file(SHARE_FD, &s->file, 0), 0);
  *fakes_closed = 0;
  return s;
}

static pid_t share_fork(void) {
  share_fork_prepare();
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    fd_own_process();
    fakes_child = true;
    share_fork_child();
  } else {
    share_fork_parent();
  }
  return pid;
}

static void share_wait(pid_t pid) {
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
}

static void test_alone(void **state) {
  (void)state;
  close_last(share_connection());
  assert_int_equal(*fakes_closed, 1);
  assert_false(share_waiting());
}

static void test_child_closes_first(void **state) {
  (void)state;
  struct sock *s = share_connection();
  pid_t pid = share_fork();
  if (pid == 0) {
    close_last(s);
    _exit(*fakes_closed == 0 ? 0 : 1);
  }
  share_wait(pid);
  assert_int_equal(*fakes_closed, 0);
  close_last(s);
  assert_int_equal(*fakes_closed, 1);
}

static void test_parent_closes_first(void **state) {
  (void)state;
  int go[2];
  char c = 0;
  assert_int_equal(pipe(go), 0);
  struct sock *s = share_connection();
  pid_t pid = share_fork();
  if (pid == 0) {
    bool ok = read(go[0], &c, 1) == 1 && *fakes_closed == 0;
    close_last(s); /* the last one: closes for the owner */
    _exit(ok && *fakes_closed == 1 ? 0 : 1);
  }
  close_last(s);
  assert_true(share_waiting());
  assert_int_equal(*fakes_closed, 0);
  share_sweep();
  assert_int_equal(*fakes_closed, 0);
  assert_int_equal(write(go[1], "x", 1), 1);
  share_wait(pid);
  share_sweep(); /* the owner buries it */
  assert_int_equal(*fakes_closed, 2);
  assert_false(share_waiting());
  close(go[0]);
  close(go[1]);
}

/* The child is killed, or exits without closing and without a destructor: seen by the end of its line. */
static void test_child_dies(void **state) {
  (void)state;
  struct sock *s = share_connection();
  pid_t pid = share_fork();
  if (pid == 0) {
    for (;;)
      pause();
  }
  close_last(s);
  assert_true(share_waiting());
  assert_int_equal(kill(pid, SIGKILL), 0);
  share_wait(pid);
  share_sweep();
  assert_int_equal(*fakes_closed, 1);
  assert_false(share_waiting());
  s = share_connection();
  pid = share_fork();
  if (pid == 0)
    _exit(0);
  share_wait(pid);
  close_last(s); /* the dead hold nothing */
  assert_int_equal(*fakes_closed, 1);
}

static void test_child_exits(void **state) {
  (void)state;
  struct sock *s = share_connection();
  int go[2];
  assert_int_equal(pipe(go), 0);
  pid_t pid = share_fork();
  if (pid == 0) {
    close(go[1]);
    char c;
    (void)!read(go[0], &c, 1); /* until the parent has closed */
    share_exit();
    _exit(*fakes_closed == 1 ? 0 : 1);
  }
  close(go[0]);
  close_last(s);
  close(go[1]);
  share_wait(pid);
  share_sweep();
  assert_false(share_waiting());
}

static void test_two_children(void **state) {
  (void)state;
  struct sock *s = share_connection();
  int go[2];
  assert_int_equal(pipe(go), 0);
  pid_t pid[2];
  for (int i = 0; i < 2; i++) {
    pid[i] = share_fork();
    if (pid[i] == 0) {
      char c;
      (void)!read(go[0], &c, 1);
      close_last(s);
      _exit(0);
    }
  }
  close_last(s);
  assert_int_equal(write(go[1], "x", 1), 1);
  int status;
  pid_t first = waitpid(-1, &status, 0);
  assert_true(first == pid[0] || first == pid[1]);
  share_sweep();
  assert_int_equal(*fakes_closed, 0);
  assert_int_equal(write(go[1], "x", 1), 1);
  share_wait(first == pid[0] ? pid[1] : pid[0]);
  assert_int_equal(*fakes_closed, 1);
  share_sweep();
  assert_false(share_waiting());
  close(go[0]);
  close(go[1]);
}

/* More children at once than the family has numbers for: those without one have no say, nothing is left open. */
static void test_many_children(void **state) {
  (void)state;
  enum { N = 70 };
  pid_t pid[N];
  struct sock *s = share_connection();
  for (int i = 0; i < N; i++) {
    pid[i] = share_fork();
    if (pid[i] == 0)
      for (;;)
        pause();
  }
  close_last(s);
  assert_int_equal(*fakes_closed, 0);
  for (int i = 0; i < N; i++) {
    assert_int_equal(kill(pid[i], SIGKILL), 0);
    share_wait(pid[i]);
  }
  share_sweep();
  assert_int_equal(*fakes_closed, 1);
  assert_false(share_waiting());
}

/* Children that close before the parent does: their numbers come back all the same, or the 63rd would go uncounted. */
static void test_many_orderly(void **state) {
  (void)state;
  for (int i = 0; i < 150; i++) {
    struct sock *s = share_connection();
    pid_t pid = share_fork();
    if (pid == 0) {
      bool counted = s->cell != 0;
      close_last(s);
      _exit(counted ? 0 : 1);
    }
    share_wait(pid);
    close_last(s);
    assert_int_equal(*fakes_closed, 1);
  }
}

/* A forking server: many connections, each to a child of its own. Cells and numbers come back. */
static void test_many_connections(void **state) {
  (void)state;
  for (int i = 0; i < 200; i++) {
    struct sock *s = share_connection();
    pid_t pid = share_fork();
    if (pid == 0) {
      close_last(s);
      _exit(0);
    }
    close_last(s);
    share_wait(pid);
    share_sweep();
    assert_true(*fakes_closed >= 1);
    assert_false(share_waiting());
  }
}

int main(void) {
  fakes_closed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fakes_closed == MAP_FAILED)
    return 1;
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone),
                                     cmocka_unit_test(test_child_closes_first),
                                     cmocka_unit_test(test_parent_closes_first),
                                     cmocka_unit_test(test_child_dies),
                                     cmocka_unit_test(test_child_exits),
                                     cmocka_unit_test(test_two_children),
                                     cmocka_unit_test(test_many_children),
                                     cmocka_unit_test(test_many_orderly),
                                     cmocka_unit_test(test_many_connections)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
