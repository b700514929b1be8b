/*
 * fork under lock mode, as the preload shim does it: listeners become shares, connections go on in one process or the
 * other, the parent's end shows, and a child that uses nothing leaves no trace. And fork of a program without the shim.
 */
#include "fork_rig.h"

#include "vcl_app.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int fork_setup(void **state) {
  vcl_lock_mode(1);
  return rig_setup(state);
}

static int fork_teardown(void **state) {
  int rc = rig_teardown(state);
  vcl_lock_mode(0);
  return rc;
}

/** fork with the handlers around it. */
static pid_t forked(void) {
  assert_int_equal(vcl_fork_prepare(), 0);
  pid_t pid = fork();
  if (pid == 0) {
    alarm(50);
    if (vcl_fork_child() != 0)
      _exit(99);
  } else {
    (void)vcl_fork_parent();
  }
  return pid;
}

static void reap(pid_t pid) {
  assert_int_equal(fork_ended_by(pid), 0);
}

static void test_child_accepts(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7600, 0);
  pid_t pid = forked();
  if (pid == 0) {
    char b[8];
    CHECK(vcl_fork_share() == 1);
    for (int i = 0; i < 20; i++) {
      int s = vppcom_session_accept(l, NULL, 0);
      CHECK(s >= 0);
      CHECK(vppcom_session_read((uint32_t)s, b, 8) == 4);
      CHECK(vppcom_session_write((uint32_t)s, "pong", 4) == 4);
      CHECK(vppcom_session_close((uint32_t)s) == 0);
    }
    CHECK(vppcom_session_close(l) == 0);
    vppcom_app_destroy();
    _exit(0);
  }
  for (int i = 0; i < 20; i++) {
    char b[8];
    uint32_t c = rig_session(0);
    assert_int_equal(rig_connect(c, 7600), 0);
    assert_int_equal(vppcom_session_write(c, "ping", 4), 4);
    assert_int_equal(vppcom_session_read(c, b, 8), 4); /* the parent never armed: all go to the child */
    vppcom_session_close(c);
  }
  reap(pid);
  RIG_UNTIL(fake_count(&r->fake, &r->fake.n_unbind) == 1);
  fake_lock(&r->fake);
  int n_listen = r->fake.n_listen, n_unbind = r->fake.n_unbind;
  fake_unlock(&r->fake);
  assert_int_equal(n_listen, 2);
  assert_int_equal(n_unbind, 1); /* the child's share; the parent's stands */
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 7600), 0);
  int s = vppcom_session_accept(l, NULL, 0);
  assert_true(s >= 0);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(c);
  vppcom_session_close(l);
}

/* accept in the parent, work in the child, as an inetd-like server does. */
static void test_child_serves_connection(void **state) {
  struct rig *r = *state;
  enum { TOTAL = 1000000 };
  static uint8_t buf[20000];
  rig_pair(r, 7601, 0);
  pid_t pid = forked();
  if (pid == 0) {
    size_t got = 0;
    while (got < TOTAL) {
      int n = vppcom_session_read(r->server, buf, sizeof buf);
      CHECK(n > 0);
      for (int i = 0; i < n; i++)
        CHECK(buf[i] == (uint8_t)((got + (size_t)i) * 3));
      got += (size_t)n;
    }
    CHECK(vppcom_session_write(r->server, buf, 1000) == 1000);
    CHECK(vppcom_session_close(r->server) == 0); /* only the child's use of it */
    vppcom_app_destroy();
    _exit(0);
  }
  for (size_t sent = 0; sent < TOTAL; sent += 10000) {
    for (size_t i = 0; i < 10000; i++)
      buf[i] = (uint8_t)((sent + i) * 3);
    assert_int_equal(vppcom_session_write(r->client, buf, 10000), 10000);
  }
  assert_int_equal(vppcom_session_recvfrom(r->client, buf, 1000, MSG_WAITALL, NULL), 1000);
  reap(pid);
  assert_int_equal(vppcom_session_write(r->client, "again", 5), 5); /* the parent goes on where the child stopped */
  assert_int_equal(vppcom_session_read(r->server, buf, 100), 5);
  assert_int_equal(vppcom_session_write(r->server, "answer", 6), 6);
  assert_int_equal(vppcom_session_read(r->client, buf, 100), 6);
  rig_unpair(r);
  rig_settle(r);
}

/* Both sides by turns, many chunks: the arena's book-keeping is one for both processes. */
static void test_turns(void **state) {
  struct rig *r = *state;
  static uint8_t buf[50000];
  rig_pair(r, 7602, 0);
  for (int turn = 0; turn < 5; turn++) {
    pid_t pid = forked();
    if (pid == 0) {
      for (int i = 0; i < 10; i++) {
        CHECK(vppcom_session_write(r->server, buf, sizeof buf) == (int)sizeof buf);
        CHECK(vppcom_session_recvfrom(r->server, buf, 100, MSG_WAITALL, NULL) == 100);
      }
      vppcom_app_destroy();
      _exit(0);
    }
    for (int i = 0; i < 10; i++) {
      assert_int_equal(vppcom_session_recvfrom(r->client, buf, sizeof buf, MSG_WAITALL, NULL), (int)sizeof buf);
      assert_int_equal(vppcom_session_write(r->client, buf, 100), 100);
    }
    reap(pid);
    assert_int_equal(vppcom_session_write(r->server, buf, sizeof buf), (int)sizeof buf);
    assert_int_equal(vppcom_session_recvfrom(r->client, buf, sizeof buf, MSG_WAITALL, NULL), (int)sizeof buf);
  }
  rig_unpair(r);
  rig_settle(r);
}

static void test_child_that_uses_nothing(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7603, 0);
  for (int i = 0; i < 10; i++) {
    pid_t pid = forked();
    if (pid == 0)
      _exit(0);
    reap(pid);
  }
  char b[8];
  assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 1);
  fake_lock(&r->fake);
  int n_hello = r->fake.n_hello;
  fake_unlock(&r->fake);
  assert_int_equal(n_hello, 1);
  rig_unpair(r);
  rig_settle(r);
}

static void test_child_connects(void **state) {
  (void)state;
  uint32_t l = rig_listen(7604, 0);
  pid_t pid = forked();
  if (pid == 0) {
    uint32_t c = rig_session(0);
    CHECK(rig_connect(c, 7604) == 0);
    CHECK(vppcom_session_write(c, "from the child", 14) == 14);
    CHECK(vppcom_session_close(c) == 0);
    pid_t grand = fork(); /* and a grandchild */
    if (grand == 0) {
      CHECK(vcl_fork_child() == 0);
      c = rig_session(0);
      CHECK(rig_connect(c, 7604) == 0);
      CHECK(vppcom_session_write(c, "from the grandchild", 19) == 19);
      vppcom_app_destroy();
      _exit(0);
    }
    int status = 0;
    CHECK(waitpid(grand, &status, 0) == grand && status == 0);
    vppcom_app_destroy();
    _exit(0);
  }
  char b[32];
  int s = vppcom_session_accept(l, NULL, 0);
  assert_true(s >= 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, b, 32), 14);
  vppcom_session_close((uint32_t)s);
  s = vppcom_session_accept(l, NULL, 0);
  assert_true(s >= 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, b, 32), 19);
  vppcom_session_close((uint32_t)s);
  reap(pid);
  vppcom_session_close(l);
}

/** Child: takes one connection of each stack, tells so on the pipe. */
static void accept_in_each_stack(uint32_t l, int told, int stacks) {
  for (int i = 0; i < stacks; i++) {
    int s = vppcom_session_accept(l, NULL, 0);
    CHECK(s >= 0);
    CHECK(write(told, "a", 1) == 1);
    CHECK(vppcom_session_close((uint32_t)s) == 0);
  }
  CHECK(vppcom_session_close(l) == 0);
  vppcom_app_destroy();
  _exit(0);
}

/** A connection from outside, as soon as somebody who can take it listens. */
static void dial_until_told(struct rig *r, uint16_t port, int told) {
  struct pollfd p = {.fd = told, .events = POLLIN};
  char c;
  int dialled = 0;
  for (int i = 0; i < 6000 && poll(&p, 1, 5) == 0; i++) {
    (void)vcl_pump();
    if (!dialled) /* from then on it waits for the share that is armed */
      dialled = fake_dial(&r->fake, port) == 0;
  }
  assert_int_equal(p.revents & POLLIN, POLLIN);
  assert_int_equal(read(told, &c, 1), 1);
}

/** Sleeps on an empty set, so that nothing is armed. */
static void until_detached(uint32_t vep, int want) {
  struct epoll_event ev;
  for (int i = 0; i < 3000 && vppcom_worker_is_detached() != want; i++)
    (void)vppcom_epoll_wait(vep, &ev, 1, 0.01);
  assert_int_equal(vppcom_worker_is_detached(), want);
}

/* Parent and child lose their stack, twice: one founds the application anew, the other joins it, a share stays one. */
static void test_family_comes_back(void **state) {
  struct rig *r = *state;
  int told[2];
  assert_int_equal(pipe(told), 0);
  uint32_t l = rig_listen(7620, 0), vep = (uint32_t)vppcom_epoll_create();
  pid_t pid = forked();
  if (pid == 0) {
    close(r->fake.proc[0].bell); /* the services' own: their end must show */
    close(r->fake.proc[0].fd);
    close(r->fake.listen_fd);
    accept_in_each_stack(l, told[1], 3);
  }
  for (int i = 0; i < 3; i++) {
    if (i != 0) {
      fake_all_dead(&r->fake);
      until_detached(vep, 1);
      fake_all_new(&r->fake);
    }
    dial_until_told(r, 7620, told[0]);
  }
  reap(pid);
  until_detached(vep, 0);
  vppcom_session_close(vep);
  vppcom_session_close(l);
  close(told[0]);
  close(told[1]);
  rig_settle(r);
}

/* A child that is forked while the stack is away, from a parent that never looks again. */
static void test_fork_without_a_stack(void **state) {
  struct rig *r = *state;
  int told[2];
  assert_int_equal(pipe(told), 0);
  uint32_t l = rig_listen(7621, 0);
  fake_all_dead(&r->fake);
  pid_t pid = forked(); /* its prepare handler finds out */
  if (pid == 0)
    accept_in_each_stack(l, told[1], 1);
  assert_int_equal(vppcom_worker_is_detached(), 1);
  fake_all_new(&r->fake);
  dial_until_told(r, 7621, told[0]);
  reap(pid);
  vppcom_session_close(l);
  close(told[0]);
  close(told[1]);
  rig_settle(r);
}

/* --- programs without the shim: fork() alone, workers of several threads --- */

struct bystander {
  pthread_barrier_t step;
  uint32_t listener;
};

/** A worker of another thread: the fork is none of its concern. */
static void *stands_by(void *arg) {
  struct bystander *b = arg;
  assert_int_equal(vppcom_worker_register(), 0);
  b->listener = rig_listen(7651, 1);
  pthread_barrier_wait(&b->step);
  pthread_barrier_wait(&b->step);
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 7650), 0);
  assert_int_equal(vppcom_session_write(c, "by", 2), 2);
  assert_int_equal(vppcom_session_close(c), 0);
  assert_int_equal(vppcom_session_close(b->listener), 0);
  return NULL;
}

/** Whether any descriptor of this process is that socket. */
static int is_open(ino_t socket_ino) {
  struct stat st;
  for (int fd = 0; fd < 1024; fd++)
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == socket_ino)
      return 1;
  return 0;
}

static void plain_child(struct rig *r, uint32_t listener, ino_t bell) {
  char b[8];
  alarm(50);
  CHECK(vppcom_worker_index() == 0);
  CHECK(app_state.workers[1] == NULL && !is_open(bell)); /* so its end can be seen */
  CHECK(vppcom_session_write(r->client, "ping", 4) == 4);
  CHECK(vppcom_session_recvfrom(r->server, b, 4, MSG_WAITALL, NULL) == 4);
  uint32_t c = (uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  CHECK(rig_connect(c, 7653) == 0);
  int s = vppcom_session_accept(listener, NULL, 0); /* the parent never looked at it */
  CHECK(s >= 0);
  CHECK(vppcom_session_write(c, "own", 3) == 3);
  CHECK(vppcom_session_read((uint32_t)s, b, 8) == 3);
  CHECK(vppcom_mq_epoll_fd() >= 0);
  CHECK(vppcom_session_close((uint32_t)s) == 0 && vppcom_session_close(c) == 0);
  vppcom_app_destroy();
  _exit(0);
}

/* The child goes on with what its parent's thread had, and leaves all of its parent as it was. */
static void test_without_shim(void **state) {
  struct rig *r = *state;
  struct bystander by;
  pthread_t t;
  char b[8];
  assert_int_equal(pthread_barrier_init(&by.step, NULL, 2), 0);
  assert_int_equal(pthread_create(&t, NULL, stands_by, &by), 0);
  pthread_barrier_wait(&by.step);
  rig_pair(r, 7650, 0);
  uint32_t listener = rig_listen(7653, 0);
  struct stat bell;
  assert_int_equal(fstat(app_state.workers[1]->home->bell, &bell), 0);
  assert_true(is_open(bell.st_ino));
  pid_t pid = fork();
  if (pid == 0)
    plain_child(r, listener, bell.st_ino);
  reap(pid);
  for (int i = 0; i < 100; i++) { /* the hint rings are whole */
    assert_int_equal(vppcom_session_write(r->client, "pong", 4), 4);
    assert_int_equal(vppcom_session_recvfrom(r->server, b, 4, MSG_WAITALL, NULL), 4);
  }
  pthread_barrier_wait(&by.step);
  int s = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(s >= 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, b, 8), 2);
  assert_int_equal(vppcom_session_close((uint32_t)s), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(vppcom_session_close(listener), 0);
  rig_unpair(r);
  rig_settle(r);
  pthread_barrier_destroy(&by.step);
}

static void *forks_as_none(void *arg) {
  pid_t *pid = arg;
  *pid = fork();
  if (*pid != 0)
    return NULL;
  alarm(50);
  CHECK(vppcom_worker_index() == -1);
  CHECK(vppcom_worker_register() == VPPCOM_EINVAL);
  CHECK(vppcom_app_create("child") == 0); /* one of its own */
  CHECK(vppcom_session_close((uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 0)) == 0);
  vppcom_app_destroy();
  _exit(0);
}

/* A thread that is no worker forks: the child has no part in the application. */
static void test_without_worker(void **state) {
  struct rig *r = *state;
  pthread_t t;
  pid_t pid = -1;
  char b[8];
  rig_pair(r, 7652, 0);
  assert_int_equal(pthread_create(&t, NULL, forks_as_none, &pid), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  reap(pid);
  assert_int_equal(vppcom_session_write(r->client, "pong", 4), 4);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 4, MSG_WAITALL, NULL), 4);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, fork_setup, fork_teardown)
  const struct CMUnitTest tests[] = {
      RIG(test_child_accepts),           RIG(test_child_serves_connection), RIG(test_turns),
      RIG(test_child_that_uses_nothing), RIG(test_child_connects),          RIG(test_family_comes_back),
      RIG(test_fork_without_a_stack)};
#undef RIG
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest plain[] = {RIG(test_without_shim), RIG(test_without_worker)};
  int rc = cmocka_run_group_tests_name("vcl fork", tests, NULL, NULL);
  return rc + cmocka_run_group_tests_name("vcl fork, no shim", plain, NULL, NULL);
}
