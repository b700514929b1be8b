/*
 * Connections that a family of processes holds: the last holder ends them, whoever made them, and however the others
 * went; what nobody holds ends with its maker. Killed at each store of a close and of the look after a death.
 *
 * The test itself is the peer (and hosts the fake stack). Its child is the maker, which connects and forks further.
 * Processes tell each other by pipes; the peer waits in blocking reads, of which an alarm is the bound.
 */
#include "fork_rig.h"

#include "base/fault.h"

#include <signal.h>
#include <sys/socket.h>

#define KIN_ALARM_S 60

static int kin_setup(void **state) {
  vcl_lock_mode(1);
  alarm(KIN_ALARM_S);
  int rc = rig_setup(state);
  struct rig *r = *state;
  if (rc == 0)
    r->fake.deaths = 1;
  return rc;
}

static int kin_teardown(void **state) {
  int rc = rig_teardown(state);
  vcl_lock_mode(0);
  alarm(0);
  return rc;
}

/* fork with the handlers around it: the parent goes on when the child holds, as ldp/fork.c does it. */
static pid_t forked(void) {
  int born[2];
  char c;
  if (pipe(born) < 0 || vcl_fork_prepare() != 0)
    abort();
  pid_t pid = fork();
  close(born[pid == 0 ? 0 : 1]);
  if (pid == 0) {
    alarm(KIN_ALARM_S);
    CHECK(vcl_fork_child() == 0 && write(born[1], "", 1) == 1);
  } else {
    (void)vcl_fork_parent();
    if (read(born[0], &c, 1) == 0)
      vcl_fork_unborn();
  }
  close(born[pid == 0 ? 1 : 0]);
  return pid;
}

/* Looks after the dead, as a process in some call of the library does, until the pipe ends. */
static void look_until(int end) {
  struct pollfd p = {.fd = end, .events = POLLIN};
  while (poll(&p, 1, 5) == 0)
    (void)vcl_pump();
}

static uint32_t dial(uint16_t port) {
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  CHECK(h >= 0 && rig_connect((uint32_t)h, port) == 0);
  return (uint32_t)h;
}

static uint32_t taken(uint32_t l) {
  int h = vppcom_session_accept(l, NULL, 0);
  assert_true(h >= 0);
  return (uint32_t)h;
}

/* What the peer says comes back until it says no more; then the close. */
static void echo_all(uint32_t c) {
  char b[100];
  int n;
  while ((n = vppcom_session_read(c, b, sizeof b)) > 0)
    CHECK(vppcom_session_write(c, b, (size_t)n) == n);
  CHECK(n == 0);
  CHECK(vppcom_session_close(c) == 0);
}

static void peer_talks(uint32_t s) {
  char b[100];
  for (int i = 0; i < 5; i++) {
    assert_int_equal(vppcom_session_write(s, "hello", 5), 5);
    assert_int_equal(vppcom_session_recvfrom(s, b, 5, MSG_WAITALL, NULL), 5);
  }
}

static void peer_ends(struct rig *r, uint32_t s, uint32_t l) {
  char b[8];
  assert_int_equal(vppcom_session_shutdown(s, SHUT_WR), 0);
  assert_int_equal(vppcom_session_read(s, b, 8), 0);
  assert_int_equal(vppcom_session_close(s), 0);
  assert_int_equal(vppcom_session_close(l), 0);
  rig_settle(r);
}

/* The peer listens; then the maker is born. a, b unless NULL: pipes that both of them have. As forked(). */
static pid_t begun(uint16_t port, uint32_t *l, int a[2], int b[2]) {
  assert_int_equal(a == NULL ? 0 : pipe(a), 0);
  assert_int_equal(b == NULL ? 0 : pipe(b), 0);
  *l = rig_listen(port, 0);
  return forked();
}

/* Three generations; the two elder ones are killed. */
static void test_generations(void **state) {
  struct rig *r = *state;
  int alive[2];
  uint32_t l;
  char c;
  pid_t maker = begun(7700, &l, alive, NULL);
  if (maker == 0) {
    uint32_t s = dial(7700);
    if (forked() != 0 || forked() != 0)
      raise(SIGKILL);
    close(alive[1]);
    CHECK(read(alive[0], &c, 1) == 0); /* both are gone */
    echo_all(s);
    _exit(0);
  }
  close(alive[1]);
  uint32_t s = taken(l);
  assert_int_equal(fork_ended_by(maker), SIGKILL);
  peer_talks(s);
  peer_ends(r, s, l);
  close(alive[0]);
}

/* The maker and one of two children go, each by itself or killed; the other one works on. */
static void brothers(struct rig *r, uint16_t port, int kills, int maker_goes) {
  int one_goes[2], done[2];
  uint32_t l;
  char c;
  pid_t maker = begun(port, &l, one_goes, done);
  if (maker == 0) {
    close(one_goes[1]);
    close(done[1]);
    uint32_t s = dial(port);
    pid_t one = forked();
    if (one == 0) {
      CHECK(read(one_goes[0], &c, 1) == 0);
      if (kills)
        raise(SIGKILL);
      vcl_kin_exit();
      _exit(0);
    }
    if (forked() == 0) {
      echo_all(s);
      _exit(0);
    }
    if (maker_goes && kills)
      raise(SIGKILL);
    if (!maker_goes) {
      CHECK(vppcom_session_close(s) == 0);
      look_until(done[0]);
    }
    vcl_kin_exit();
    _exit(0);
  }
  uint32_t s = taken(l);
  peer_talks(s);
  if (maker_goes)
    assert_int_equal(fork_ended_by(maker), kills ? SIGKILL : 0);
  peer_talks(s);
  close(one_goes[1]);
  peer_talks(s);
  peer_ends(r, s, l);
  close(done[1]);
  if (!maker_goes)
    assert_int_equal(fork_ended_by(maker), 0);
  close(done[0]);
  close(one_goes[0]);
}

static void test_brothers(void **state) {
  for (int kills = 0; kills < 2; kills++)
    for (int maker_goes = 0; maker_goes < 2; maker_goes++)
      brothers(*state, (uint16_t)(7710 + 2 * kills + maker_goes), kills, maker_goes);
}

/* The last holder is killed at each store of its close, or holds it to its death: the maker, which has closed long ago,
 * finds it. */
static void last_one(struct rig *r, uint16_t port, const char *fault) {
  int done[2];
  uint32_t l;
  char b[8];
  pid_t maker = begun(port, &l, done, NULL);
  if (maker == 0) {
    close(done[1]);
    uint32_t s = dial(port);
    pid_t child = forked();
    if (child == 0) {
      if (fault != NULL)
        CHECK(fault_arm(fault, 1, FAULT_KILL) == 0);
      CHECK(fault == NULL || vppcom_session_close(s) == 0);
      raise(SIGKILL);
    }
    CHECK(vppcom_session_close(s) == 0);
    CHECK(fork_ended_by(child) == SIGKILL);
    look_until(done[0]);
    _exit(0);
  }
  uint32_t s = taken(l);
  assert_int_equal(vppcom_session_read(s, b, 8), 0);
  peer_ends(r, s, l);
  close(done[1]);
  assert_int_equal(fork_ended_by(maker), 0);
  close(done[0]);
}

static void test_last_one(void **state) {
  last_one(*state, 7720, NULL);
  last_one(*state, 7721, "vcl.kin_want");
  last_one(*state, 7722, "vcl.kin_left");
}

/* The maker is killed: what it alone held ends although a child lives on, and the child, killed in the middle of ending
 * it, has a brother who goes on with that. */
static void mourned(struct rig *r, uint16_t port, const char *fault) {
  int elder[2], told[2];
  uint32_t l;
  char b[8];
  pid_t maker = begun(port, &l, elder, told);
  if (maker == 0) {
    close(told[1]);
    uint32_t kept = dial(port);
    if (forked() == 0) {
      if (fault != NULL)
        CHECK(fault_arm(fault, 1, FAULT_KILL) == 0);
      look_until(told[0]);
      CHECK(fault == NULL); /* it was not reached */
      _exit(0);
    }
    close(elder[1]);
    if (forked() == 0) {
      CHECK(fault == NULL || read(elder[0], b, 1) == 0);
      look_until(told[0]);
      echo_all(kept);
      _exit(0);
    }
    (void)dial(port); /* nobody else has it */
    CHECK(vppcom_session_close(kept) == 0);
    raise(SIGKILL);
  }
  close(elder[1]);
  uint32_t s = taken(l), alone = taken(l);
  assert_int_equal(fork_ended_by(maker), SIGKILL);
  assert_int_equal(vppcom_session_read(alone, b, 8), 0);
  assert_int_equal(vppcom_session_close(alone), 0);
  close(told[0]);
  close(told[1]);
  peer_talks(s);
  peer_ends(r, s, l);
  close(elder[0]);
}

static void test_mourned(void **state) {
  mourned(*state, 7730, NULL);
  mourned(*state, 7731, "vcl.kin_disarm");
  mourned(*state, 7732, "vcl.kin_end");
}

/* A child that is killed before it holds: its parent says so, and what was open ends as ever. */
static void test_unborn(void **state) {
  struct rig *r = *state;
  uint32_t l;
  char b[8];
  pid_t maker = begun(7740, &l, NULL, NULL);
  if (maker == 0) {
    uint32_t s = dial(7740);
    CHECK(fault_arm("vcl.kin_born", 1, FAULT_KILL) == 0);
    pid_t child = forked();
    if (child == 0) /* a build without fault points */
      raise(SIGKILL);
    fault_disarm();
    CHECK(fork_ended_by(child) == SIGKILL);
    CHECK(vppcom_session_write(s, "x", 1) == 1);
    CHECK(vcl_session_alone(s));
    CHECK(vppcom_session_close(s) == 0);
    vppcom_app_destroy();
    _exit(0);
  }
  uint32_t s = taken(l);
  assert_int_equal(vppcom_session_recvfrom(s, b, 1, MSG_WAITALL, NULL), 1);
  assert_int_equal(vppcom_session_read(s, b, 8), 0);
  assert_int_equal(fork_ended_by(maker), 0);
  peer_ends(r, s, l);
}

/* More connections and more children than any mask has bits, every second one killed. */
static void test_many(void **state) {
  struct rig *r = *state;
  enum { CONNS = 40, CHILDREN = 70 };
  static uint32_t s[CONNS];
  uint32_t l;
  char b[8];
  pid_t maker = begun(7750, &l, NULL, NULL);
  if (maker == 0) {
    static uint32_t mine[CONNS];
    int hold[2];
    CHECK(pipe(hold) == 0);
    for (int i = 0; i < CONNS; i++)
      mine[i] = dial(7750);
    static pid_t pid[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
      pid[i] = forked();
      if (pid[i] != 0)
        continue;
      close(hold[1]);
      CHECK(read(hold[0], b, 1) == 0);
      if (i % 2)
        raise(SIGKILL);
      for (int k = 0; k < CONNS; k++)
        CHECK(vppcom_session_close(mine[k]) == 0);
      _exit(0);
    }
    CHECK(!vcl_session_alone(mine[0]) && !vcl_session_alone(mine[CONNS - 1]));
    close(hold[1]);
    for (int i = 0; i < CHILDREN; i++)
      CHECK(fork_ended_by(pid[i]) == (i % 2 ? SIGKILL : 0));
    for (int k = 0; k < CONNS; k++)
      CHECK(vcl_session_alone(mine[k]) && vppcom_session_write(mine[k], "x", 1) == 1);
    vppcom_app_destroy();
    _exit(0);
  }
  for (int i = 0; i < CONNS; i++)
    s[i] = taken(l);
  for (int i = 0; i < CONNS; i++) {
    assert_int_equal(vppcom_session_recvfrom(s[i], b, 1, MSG_WAITALL, NULL), 1);
    assert_int_equal(vppcom_session_read(s[i], b, 8), 0);
    assert_int_equal(vppcom_session_close(s[i]), 0);
  }
  assert_int_equal(fork_ended_by(maker), 0);
  assert_int_equal(vppcom_session_close(l), 0);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, kin_setup, kin_teardown)
  const struct CMUnitTest tests[] = {RIG(test_generations), RIG(test_brothers), RIG(test_last_one),
                                     RIG(test_mourned),     RIG(test_unborn),   RIG(test_many)};
  return cmocka_run_group_tests_name("vcl kin", tests, NULL, NULL);
}
