/*
 * Memory of written bytes in parts, against a fake broker that can refuse, hold back, forget and die: what is asked for
 * and when, who waits and who is told, and that every byte arrives.
 */
#include "vcl_app.h"
#include "vcl_rig.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define MI (1u << 20)

static int setup(void **state) {
  struct rig *r = calloc(1, sizeof *r);
  if (r == NULL || fake_start(&r->fake) != 0)
    return -1;
  fake_lock(&r->fake);
  r->fake.arena_size = 32 * (uint64_t)MI;
  r->fake.tx_first = r->fake.tx_step = MI;
  r->fake.tx_limit = r->fake.rx_limit = 8 * MI;
  fake_unlock(&r->fake);
  *state = r;
  waiter_late_ms = RIG_LATE_MS;
  return vppcom_app_create("test") == 0 ? 0 : -1;
}

static void fake_set(struct rig *r, int *word, int to) {
  fake_lock(&r->fake);
  *word = to;
  fake_unlock(&r->fake);
}

static struct home *home(void) {
  return app_state.workers[0]->home;
}

static uint8_t byte_at(uint32_t seed, uint64_t pos) {
  return (uint8_t)(pos * 7 + (pos >> 8) * 3 + (pos >> 16) + seed);
}

/** Writes as much as it takes, at most up to `end`. Returns the new position. */
static uint64_t write_some(uint32_t h, uint32_t seed, uint64_t pos, uint64_t end) {
  static uint8_t buf[64 * 1024];
  while (pos < end) {
    uint64_t n = end - pos < sizeof buf ? end - pos : sizeof buf;
    for (uint64_t i = 0; i < n; i++)
      buf[i] = byte_at(seed, pos + i);
    int put = vppcom_session_write(h, buf, n);
    if (put == VPPCOM_EAGAIN)
      return pos;
    assert_true(put > 0);
    pos += (uint64_t)put;
  }
  return pos;
}

/** The same, waiting for room in between. */
static void write_all(uint32_t h, uint32_t seed, uint64_t pos, uint64_t end) {
  while ((pos = write_some(h, seed, pos, end)) < end)
    assert_int_equal(rig_wait(h, POLLOUT) & POLLOUT, POLLOUT);
}

static void read_all(uint32_t h, uint32_t seed, uint64_t end) {
  static uint8_t buf[64 * 1024];
  for (uint64_t pos = 0; pos < end;) {
    int n = vppcom_session_read(h, buf, sizeof buf);
    if (n == VPPCOM_EAGAIN) {
      assert_true((rig_wait(h, POLLIN) & POLLIN) != 0);
      continue;
    }
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
      if (buf[i] != byte_at(seed, pos + (uint64_t)i))
        fail_msg("byte %llu is wrong", (unsigned long long)pos + (unsigned)i);
    pos += (uint64_t)n;
  }
}

/** Until the fake has had so many parts at a time, or has none. */
static void until_parts(struct rig *r, int n) {
  RIG_UNTIL(((void)vcl_pump(), fake_count(&r->fake, &r->fake.n_parts) == n));
  assert_int_equal(fake_count(&r->fake, &r->fake.n_parts), n);
}

/** Before half of the memory is used nothing is asked; then the next part comes; all of it goes back. */
static void test_comes_and_goes(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7700, 1);
  for (uint32_t round = 0; round < 2; round++) {
    int asked = fake_count(&r->fake, &r->fake.n_part_asked);
    fake_set(r, &r->fake.hold, 1);
    uint64_t pos = write_some(r->client, round, 0, MI / 4);
    assert_int_equal(pos, MI / 4);
    (void)vcl_pump();
    assert_int_equal(fake_count(&r->fake, &r->fake.n_part_asked), asked);
    pos = write_some(r->client, round, pos, MI * 3 / 4); /* no write has found less than it wanted so far */
    assert_int_equal(pos, MI * 3 / 4);
    until_parts(r, 1);
    RIG_UNTIL(((void)vcl_pump(), home()->parts.backed != MI)); /* the answer comes after the fake has it */
    assert_int_equal(home()->parts.backed, 2 * MI);
    write_all(r->client, round, pos, 5 * MI);
    RIG_UNTIL(((void)vcl_pump(), fake_count(&r->fake, &r->fake.n_parts) >= 5));
    assert_true(fake_count(&r->fake, &r->fake.n_parts) >= 5);
    fake_set(r, &r->fake.hold, 0);
    read_all(r->server, round, 5 * MI);
    until_parts(r, 0);
    assert_int_equal(home()->parts.have, 0);
    assert_int_equal(home()->parts.backed, MI);
    assert_int_equal(arena_check(home()->arena), 0);
  }
  rig_unpair(r);
  rig_settle(r);
}

/** A limit: a session that holds memory waits, one that holds none has its say; what is acknowledged makes room, and so
 * does a part once it is granted. */
static void test_refused(void **state) {
  struct rig *r = *state;
  fake_set(r, &r->fake.part_refuse, ENOMEM);
  rig_pair(r, 7701, 1);
  uint32_t other = rig_session(0);
  assert_int_equal(rig_connect(other, 7701), 0);
  int peer = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(peer >= 0);
  fake_set(r, &r->fake.hold, 1);
  uint64_t pos = write_some(r->client, 1, 0, 4 * MI);
  assert_true(pos >= MI / 2 && pos < MI);
  assert_int_equal(vcl_session_events((uint32_t)r->client) & EPOLLOUT, 0); /* or it would try all the time */
  assert_int_equal(vppcom_session_write(other, "hello", 5), 5);
  RIG_UNTIL(fake_count(&r->fake, &r->fake.n_part_asked) > 0);
  assert_true(fake_count(&r->fake, &r->fake.n_part_asked) > 0);
  assert_int_equal(write_some(r->client, 1, pos, 4 * MI), pos);
  fake_set(r, &r->fake.part_refuse, 0); /* asked again before long, though nothing else happens */
  assert_int_equal(rig_wait(r->client, POLLOUT) & POLLOUT, POLLOUT);
  assert_true(fake_count(&r->fake, &r->fake.n_parts) >= 1);
  write_all(r->client, 1, pos, 4 * MI);
  fake_set(r, &r->fake.part_refuse, ENOMEM);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 1, 4 * MI);
  char b[8];
  assert_int_equal(vppcom_session_read((uint32_t)peer, b, sizeof b), 5);
  until_parts(r, 0);
  fake_set(r, &r->fake.hold, 1); /* no part will come: room does, by what is acknowledged */
  pos = write_some(r->client, 2, 0, 4 * MI);
  assert_true(pos < MI);
  fake_set(r, &r->fake.hold, 0);
  assert_int_equal(rig_wait(r->client, POLLOUT) & POLLOUT, POLLOUT);
  write_all(r->client, 2, pos, 2 * MI);
  read_all(r->server, 2, 2 * MI);
  assert_int_equal(vppcom_session_close(other), 0);
  assert_int_equal(vppcom_session_close((uint32_t)peer), 0);
  rig_unpair(r);
  rig_settle(r);
}

/** The broker is away when memory is needed, comes back, and whoever waits hears of it. */
static void test_broker_away(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7702, 1);
  fake_set(r, &r->fake.hold, 1);
  fake_broker_kill(&r->fake);
  uint64_t pos = write_some(r->client, 3, 0, 4 * MI);
  assert_true(pos < MI);
  vcl_poll_t p = {.sh = r->client, .events = POLLOUT};
  assert_int_equal(vppcom_poll(&p, 1, 0.05), 0);
  fake_broker_up(&r->fake);
  write_all(r->client, 3, pos, 4 * MI);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 3, 4 * MI);
  until_parts(r, 0);
  rig_unpair(r);
  rig_settle(r);
}

/** It dies after each of the requests; what was asked is asked again. */
static void test_broker_dies(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7703, 1);
  fake_set(r, &r->fake.hold, 1);
  fake_set(r, &r->fake.part_hold, 1);
  uint64_t pos = write_some(r->client, 4, 0, 4 * MI);
  assert_true(pos < MI);
  RIG_UNTIL(((void)vcl_pump(), fake_count(&r->fake, &r->fake.n_part_held) == 1)); /* AddPart */
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_held), 1);
  fake_broker_kill(&r->fake);
  fake_lock(&r->fake);
  r->fake.part_hold = 0;
  r->fake.part_forget = 1; /* … and the next one forgets what it made: PartMapped is answered with ENOENT */
  fake_unlock(&r->fake);
  fake_broker_up(&r->fake);
  write_all(r->client, 4, pos, 2 * MI);
  assert_int_equal(fake_count(&r->fake, &r->fake.part_forget), 0);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 4, 2 * MI);
  fake_set(r, &r->fake.part_hold, 1);
  int held = fake_count(&r->fake, &r->fake.n_part_held);
  RIG_UNTIL(((void)vcl_pump(), fake_count(&r->fake, &r->fake.n_part_held) > held)); /* DropPart */
  fake_broker_kill(&r->fake);
  fake_set(r, &r->fake.part_hold, 0);
  fake_broker_up(&r->fake);
  until_parts(r, 0);
  rig_unpair(r);
  rig_settle(r);
}

/** Other requests on the same socket while an answer is out: both get theirs. */
static void test_between(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7704, 1);
  fake_set(r, &r->fake.hold, 1);
  uint64_t pos = write_some(r->client, 5, 0, MI * 3 / 4); /* asked; nobody has looked at the answer yet */
  assert_int_equal(pos, MI * 3 / 4);
  for (uint16_t i = 0; i < 8; i++) {
    uint32_t l = rig_listen((uint16_t)(7710 + i), 1);
    assert_int_equal(vppcom_session_close(l), 0);
  }
  until_parts(r, 1);
  write_all(r->client, 5, pos, 3 * MI);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 5, 3 * MI);
  rig_unpair(r);
  rig_settle(r);
}

static void *late_parts(void *p) {
  struct rig *r = p;
  RIG_UNTIL(fake_count(&r->fake, &r->fake.n_part_asked) >= 2);
  fake_set(r, &r->fake.part_refuse, 0);
  return NULL;
}

/** A write that blocks sleeps until memory comes. */
static void test_blocking(void **state) {
  struct rig *r = *state;
  pthread_t t;
  static uint8_t buf[3 * MI];
  rig_pair(r, 7705, 0);
  for (uint32_t i = 0; i < sizeof buf; i++)
    buf[i] = byte_at(6, i);
  fake_set(r, &r->fake.hold, 1);
  fake_set(r, &r->fake.part_refuse, ENOMEM);
  assert_int_equal(pthread_create(&t, NULL, late_parts, r), 0);
  assert_int_equal(vppcom_session_write(r->client, buf, sizeof buf), (int)sizeof buf);
  assert_int_equal(pthread_join(t, NULL), 0);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 6, sizeof buf);
  rig_unpair(r);
  rig_settle(r);
}

/** A fork: all that there may be comes at once and stays, because a child could not map what comes later. */
static void test_fork(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7706, 1);
  fake_set(r, &r->fake.hold, 1);
  uint64_t pos = write_some(r->client, 7, 0, MI * 3 / 4);
  until_parts(r, 1);
  assert_int_equal(vcl_fork_prepare(), 0);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_whole), 1);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_parts), 2);
  assert_int_equal(home()->parts.backed, 32 * (uint64_t)MI);
  assert_int_equal(vcl_fork_parent(), 0);
  int asked = fake_count(&r->fake, &r->fake.n_part_asked);
  write_all(r->client, 7, pos, 6 * MI);
  fake_set(r, &r->fake.hold, 0);
  read_all(r->server, 7, 6 * MI);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_asked), asked);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_parts), 2);
  assert_int_equal(vcl_fork_prepare(), 0); /* once is enough */
  assert_int_equal(vcl_fork_parent(), 0);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_asked), asked);
  rig_unpair(r);
  rig_settle(r);
}

static int family_setup(void **state) {
  vcl_lock_mode(1);
  alarm(60);
  int rc = setup(state);
  struct rig *r = *state;
  if (rc == 0)
    r->fake.deaths = 1;
  return rc;
}

static int family_teardown(void **state) {
  int rc = rig_teardown(state);
  vcl_lock_mode(0);
  alarm(0);
  return rc;
}

/** A child that holds what it inherits; in the child 0. */
static pid_t born(void) {
  int two[2];
  char c = 1;
  if (pipe(two) < 0 || vcl_fork_prepare() != 0)
    abort();
  pid_t pid = fork();
  if (pid < 0)
    abort();
  close(two[pid == 0 ? 0 : 1]);
  if (pid == 0) {
    alarm(60);
    if (vcl_fork_child() != 0 || write(two[1], &c, 1) != 1)
      abort();
  } else {
    (void)vcl_fork_parent();
    if (read(two[0], &c, 1) != 1)
      abort();
  }
  close(two[pid == 0 ? 1 : 0]);
  return pid;
}

/** Whoever takes a home over from the dead uses all of its memory, and asks for nothing and gives nothing back. */
static void test_heir(void **state) {
  struct rig *r = *state;
  int alive[2], full[2], status = 0;
  char c = 1;
  assert_int_equal(pipe(alive), 0);
  assert_int_equal(pipe(full), 0);
  uint32_t l = rig_listen(7707, 0);
  pid_t maker = born();
  if (maker == 0) {
    int s = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
    if (s < 0 || rig_connect((uint32_t)s, 7707) != 0)
      abort();
    if (born() != 0)
      raise(SIGKILL);
    close(alive[1]);
    if (read(alive[0], &c, 1) != 0)
      abort();
    write_all((uint32_t)s, 9, 0, 4 * MI);
    if (write(full[1], &c, 1) != 1)
      abort();
    write_all((uint32_t)s, 9, 4 * MI, 6 * MI);
    if (vppcom_session_read((uint32_t)s, &c, 1) != 0) /* until all was counted */
      abort();
    _exit(vppcom_session_close((uint32_t)s) == 0 ? 0 : 1);
  }
  int s = vppcom_session_accept(l, NULL, 0);
  assert_true(s >= 0);
  fake_set(r, &r->fake.hold, 1);
  close(alive[1]);
  close(full[1]);
  assert_int_equal(waitpid(maker, &status, 0), maker);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  assert_int_equal(read(full[0], &c, 1), 1); /* more waits than the first piece has room for */
  fake_set(r, &r->fake.hold, 0);
  read_all((uint32_t)s, 9, 6 * MI);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_whole), 2); /* ours, when we forked, and the maker's */
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_asked), 2);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_parts), 2);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_part_dropped), 0);
  assert_int_equal(vppcom_session_close((uint32_t)s), 0);
  assert_int_equal(vppcom_session_close(l), 0);
  assert_int_equal(read(full[0], &c, 1), 0); /* the heir has ended */
  close(alive[0]);
  close(full[0]);
  rig_settle(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_comes_and_goes, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_refused, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_broker_away, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_broker_dies, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_between, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_blocking, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_fork, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_heir, family_setup, family_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
