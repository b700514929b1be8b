/*
 * Epoll sets as on Linux: level, edge, ONESHOT, MOD, DEL, HUP, RDHUP, ERR, nested sets, many members, time-outs.
 */
#include "vcl_rig.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static uint32_t set_new(void) {
  int h = vppcom_epoll_create();
  assert_true(h >= 0);
  return (uint32_t)h;
}

static int ctl(uint32_t set, int op, uint32_t h, uint32_t events, uint64_t data) {
  struct epoll_event ev = {.events = events, .data.u64 = data};
  return vppcom_epoll_ctl(set, op, h, &ev);
}

/** Events of the one member that is ready within `seconds`, 0 when none is. */
static uint32_t one(uint32_t set, double seconds) {
  struct epoll_event ev[4];
  int n = vppcom_epoll_wait(set, ev, 4, seconds);
  assert_in_range(n, 0, 1);
  return n == 1 ? ev[0].events : 0;
}

static void write_byte(uint32_t h) {
  assert_int_equal(vppcom_session_write(h, "x", 1), 1);
}

static void read_byte(uint32_t h) {
  char b;
  assert_int_equal(vppcom_session_read(h, &b, 1), 1);
}

static void test_ctl_errors(void **state) {
  (void)state;
  uint32_t set = set_new();
  uint32_t h = rig_session(1);
  struct epoll_event ev[1];
  assert_int_equal(ctl(set, EPOLL_CTL_MOD, h, EPOLLIN, 1), VPPCOM_ENOENT);
  assert_int_equal(vppcom_epoll_ctl(set, EPOLL_CTL_DEL, h, NULL), VPPCOM_ENOENT);
  assert_int_equal(vppcom_epoll_ctl(set, EPOLL_CTL_ADD, h, NULL), VPPCOM_EFAULT);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, h, EPOLLIN, 1), 0);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, h, EPOLLIN, 1), VPPCOM_EEXIST);
  assert_int_equal(ctl(set, 99, h, EPOLLIN, 1), VPPCOM_EINVAL);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, set, EPOLLIN, 1), VPPCOM_EINVAL);
  assert_int_equal(ctl(h, EPOLL_CTL_ADD, h, EPOLLIN, 1), VPPCOM_EINVAL);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, 12345, EPOLLIN, 1), VPPCOM_EBADFD);
  assert_int_equal(ctl(54321, EPOLL_CTL_ADD, h, EPOLLIN, 1), VPPCOM_EBADFD);
  assert_int_equal(vppcom_epoll_wait(set, ev, 0, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_epoll_wait(set, NULL, 1, 0), VPPCOM_EFAULT);
  assert_int_equal(vppcom_epoll_wait(h, ev, 1, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_epoll_ctl(set, EPOLL_CTL_DEL, h, NULL), 0);
  vppcom_session_close(h);
  assert_int_equal(vppcom_session_close(set), 0);
  assert_int_equal(vppcom_session_close(set), VPPCOM_EBADFD);
}

static void test_fresh_session(void **state) {
  (void)state;
  uint32_t set = set_new();
  uint32_t h = rig_session(1);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, h, EPOLLIN | EPOLLOUT, 5), 0);
  assert_int_equal(one(set, 0), EPOLLOUT | EPOLLHUP); /* as an unconnected TCP socket on Linux */
  vppcom_session_close(h);
  assert_int_equal(one(set, 0), 0); /* close takes it out of the set */
  vppcom_session_close(set);
}

static void test_level(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7200, 1);
  uint32_t set = set_new();
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, r->server, EPOLLIN, 42), 0);
  assert_int_equal(one(set, 0), 0);
  write_byte(r->client);
  write_byte(r->client);
  struct epoll_event ev;
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, RIG_WAIT_S), 1);
  assert_int_equal(ev.events, EPOLLIN);
  assert_int_equal(ev.data.u64, 42);
  assert_int_equal(one(set, 0), EPOLLIN); /* again while it holds */
  read_byte(r->server);
  assert_int_equal(rig_wait(r->server, POLLIN), POLLIN);
  assert_int_equal(one(set, 0), EPOLLIN);
  read_byte(r->server);
  assert_int_equal(one(set, 0), 0);
  write_byte(r->client);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLIN);
  vppcom_session_close(set);
  rig_unpair(r);
  rig_settle(r);
}

static void test_edge(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7201, 1);
  uint32_t set = set_new();
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, r->server, EPOLLIN | EPOLLOUT | EPOLLET, 1), 0);
  assert_int_equal(one(set, 0), EPOLLOUT); /* raised on ADD, the condition holds */
  assert_int_equal(one(set, 0), 0);
  write_byte(r->client);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLIN | EPOLLOUT);
  assert_int_equal(one(set, 0.02), 0); /* not read, no new edge */
  write_byte(r->client);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLIN | EPOLLOUT); /* more came: an edge */
  assert_int_equal(ctl(set, EPOLL_CTL_MOD, r->server, EPOLLIN | EPOLLET, 2), 0);
  assert_int_equal(one(set, 0), EPOLLIN); /* MOD raises anew */
  assert_int_equal(one(set, 0.01), 0);
  read_byte(r->server);
  read_byte(r->server);
  assert_int_equal(one(set, 0.01), 0);
  vppcom_session_close(r->client);
  uint32_t ev = one(set, RIG_WAIT_S);
  assert_int_equal(ev & EPOLLIN, EPOLLIN);
  vppcom_session_close(set);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_edge_out(void **state) {
  struct rig *r = *state;
  static uint8_t buf[100000];
  rig_pair(r, 7202, 1);
  uint32_t set = set_new();
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, r->client, EPOLLOUT | EPOLLET, 1), 0);
  assert_int_equal(one(set, 0), EPOLLOUT);
  fake_lock(&r->fake);
  r->fake.hold = 1;
  fake_unlock(&r->fake);
  while (vppcom_session_write(r->client, buf, sizeof buf) > 0)
    ;
  assert_int_equal(one(set, 0.02), 0);
  fake_lock(&r->fake);
  r->fake.hold = 0;
  fake_unlock(&r->fake);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLOUT); /* also when the last write was short, not EAGAIN */
  vppcom_session_close(set);
  rig_unpair(r);
  rig_settle(r);
}

static void test_oneshot(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7203, 1);
  uint32_t set = set_new();
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, r->server, EPOLLIN | EPOLLONESHOT, 1), 0);
  write_byte(r->client);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLIN);
  write_byte(r->client);
  assert_int_equal(one(set, 0.02), 0);
  assert_int_equal(ctl(set, EPOLL_CTL_MOD, r->server, EPOLLIN | EPOLLONESHOT, 1), 0);
  assert_int_equal(one(set, 0), EPOLLIN);
  vppcom_session_close(r->client);
  assert_int_equal(one(set, 0.02), 0); /* fired: not even HUP */
  vppcom_session_close(set);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_hup(void **state) {
  struct rig *r = *state;
  char b;
  rig_pair(r, 7204, 1);
  uint32_t set = set_new();
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, r->server, EPOLLRDHUP, 1), 0);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  assert_int_equal(one(set, RIG_WAIT_S), EPOLLRDHUP);
  assert_int_equal(vppcom_session_read(r->server, &b, 1), 0);
  assert_int_equal(vppcom_session_shutdown(r->server, SHUT_WR), 0);
  assert_int_equal(one(set, 0), EPOLLRDHUP | EPOLLHUP);
  assert_int_equal(ctl(set, EPOLL_CTL_MOD, r->server, 0, 1), 0);
  assert_int_equal(one(set, 0), EPOLLHUP); /* HUP and ERR need not be asked for */
  vppcom_session_close(set);
  rig_unpair(r);
  rig_settle(r);
}

static void test_listener_and_nested(void **state) {
  struct rig *r = *state;
  struct epoll_event ev[2];
  uint32_t l = rig_listen(7205, 1);
  uint32_t inner = set_new(), outer = set_new();
  assert_int_equal(ctl(inner, EPOLL_CTL_ADD, l, EPOLLIN, 7), 0);
  assert_int_equal(ctl(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 8), 0);
  assert_int_equal(ctl(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 9), -ELOOP);
  assert_int_equal(one(outer, 0), 0);
  assert_int_equal(fake_dial(&r->fake, 7205), 0);
  assert_int_equal(vppcom_epoll_wait(outer, ev, 2, RIG_WAIT_S), 1);
  assert_int_equal(ev[0].data.u64, 8);
  assert_int_equal(vppcom_epoll_wait(inner, ev, 2, 0), 1);
  assert_int_equal(ev[0].data.u64, 7);
  int s = vppcom_session_accept(l, NULL, 0);
  assert_true(s >= 0);
  assert_int_equal(one(outer, 0), 0);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(inner);
  vppcom_session_close(outer);
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_two_sets(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7206, 1);
  uint32_t a = set_new(), b = set_new();
  assert_int_equal(ctl(a, EPOLL_CTL_ADD, r->server, EPOLLIN | EPOLLET, 1), 0);
  assert_int_equal(ctl(b, EPOLL_CTL_ADD, r->server, EPOLLIN | EPOLLET, 2), 0);
  write_byte(r->client);
  assert_int_equal(one(a, RIG_WAIT_S), EPOLLIN);
  assert_int_equal(one(b, 0), EPOLLIN);
  vppcom_session_close(a);
  write_byte(r->client);
  assert_int_equal(one(b, RIG_WAIT_S), EPOLLIN);
  vppcom_session_close(b);
  rig_unpair(r);
  rig_settle(r);
}

/* maxevents smaller than what is ready: nobody is forgotten, nobody starves. */
static void test_fair(void **state) {
  struct rig *r = *state;
  enum { N = 40 };
  uint32_t c[N], s[N];
  int seen[N] = {0};
  uint32_t l = rig_listen(7207, 0);
  uint32_t set = set_new();
  for (uint32_t i = 0; i < N; i++) {
    c[i] = rig_session(0);
    assert_int_equal(rig_connect(c[i], 7207), 0);
    int h = vppcom_session_accept(l, NULL, O_NONBLOCK);
    assert_true(h >= 0);
    s[i] = (uint32_t)h;
    assert_int_equal(ctl(set, EPOLL_CTL_ADD, s[i], EPOLLIN, i), 0);
    write_byte(c[i]);
  }
  for (uint32_t i = 0; i < N; i++)
    assert_int_equal(rig_wait(s[i], POLLIN), POLLIN);
  for (int turn = 0; turn < N / 4; turn++) {
    struct epoll_event ev[4];
    assert_int_equal(vppcom_epoll_wait(set, ev, 4, 0), 4);
    for (int i = 0; i < 4; i++)
      seen[ev[i].data.u64]++;
  }
  for (int i = 0; i < N; i++) {
    assert_int_equal(seen[i], 1);
    vppcom_session_close(c[i]);
    vppcom_session_close(s[i]);
  }
  vppcom_session_close(set);
  vppcom_session_close(l);
  rig_settle(r);
}

/* Who watches the mq fd edge-triggered and takes a full batch gets another edge for what is left. */
static void test_left_behind(void **state) {
  struct rig *r = *state;
  enum { N = 3 };
  uint32_t c[N], s[N];
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  uint32_t l = rig_listen(7208, 0);
  uint32_t set = set_new();
  int kernel = epoll_create1(EPOLL_CLOEXEC);
  assert_int_equal(epoll_ctl(kernel, EPOLL_CTL_ADD, vppcom_mq_epoll_fd(), &ev), 0);
  for (uint32_t i = 0; i < N; i++) {
    c[i] = rig_session(0);
    assert_int_equal(rig_connect(c[i], 7208), 0);
    int h = vppcom_session_accept(l, NULL, O_NONBLOCK);
    assert_true(h >= 0);
    s[i] = (uint32_t)h;
    assert_int_equal(ctl(set, EPOLL_CTL_ADD, s[i], EPOLLIN | EPOLLET, i), 0);
    write_byte(c[i]);
  }
  fake_run(&r->fake); /* all hints of it are there */
  for (uint32_t i = 0; i < N; i++)
    assert_int_equal(rig_wait(s[i], POLLIN), POLLIN);
  while (epoll_wait(kernel, &ev, 1, 50) == 1) /* edges of before; all hints are taken */
    ;
  for (uint32_t i = 0; i < N; i++) {
    assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 1);
    assert_int_equal(ev.data.u64, i);
    assert_int_equal(epoll_wait(kernel, &ev, 1, 0), i + 1 < N);
  }
  close(kernel);
  for (uint32_t i = 0; i < N; i++) {
    vppcom_session_close(c[i]);
    vppcom_session_close(s[i]);
  }
  vppcom_session_close(set);
  vppcom_session_close(l);
  rig_settle(r);
}

/* Nobody rings for what is ready already: bytes that came before their session was put into the set (between accept and
 * ADD), a condition that stays (level-triggered), or a bell that a blocking call took. Who sleeps on the mq fd after
 * each gets an edge, and none when nothing is left. */
static void test_edge_without_bell(void **state) {
  struct rig *r = *state;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  uint32_t l = rig_listen(7209, 0);
  uint32_t set = set_new();
  int kernel = epoll_create1(EPOLL_CLOEXEC);
  assert_int_equal(epoll_ctl(kernel, EPOLL_CTL_ADD, vppcom_mq_epoll_fd(), &ev), 0);
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 7209), 0);
  int s = vppcom_session_accept(l, NULL, O_NONBLOCK);
  assert_true(s >= 0);
  write_byte(c);
  fake_run(&r->fake);                                      /* all hints of it are there */
  assert_int_equal(rig_wait((uint32_t)s, POLLIN), POLLIN); /* takes them and the bell */
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 1);      /* another set might have had it */
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 0);
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 0);
  assert_int_equal(ctl(set, EPOLL_CTL_ADD, (uint32_t)s, EPOLLIN | EPOLLET, 7), 0);
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 1);
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 1);
  assert_int_equal(ev.data.u64, 7);
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 0);
  assert_int_equal(ctl(set, EPOLL_CTL_MOD, (uint32_t)s, EPOLLIN, 8), 0);
  for (int turn = 0; turn < 3; turn++) { /* stays readable */
    assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 1);
    assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 1);
    assert_int_equal(ev.data.u64, 8);
  }
  char byte;
  assert_int_equal(vppcom_session_read((uint32_t)s, &byte, 1), 1);
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 1);
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 0);
  assert_int_equal(epoll_wait(kernel, &ev, 1, 0), 0);
  close(kernel);
  vppcom_session_close(c);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(set);
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_timeout(void **state) {
  (void)state;
  struct epoll_event ev;
  uint32_t set = set_new();
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 0);
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0.03), 0);
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0.25), 0); /* beyond the sleep's ceiling */
  vppcom_session_close(set);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      RIG(test_ctl_errors), RIG(test_fresh_session), RIG(test_level),       RIG(test_edge),
      RIG(test_edge_out),   RIG(test_oneshot),       RIG(test_hup),         RIG(test_listener_and_nested),
      RIG(test_two_sets),   RIG(test_fair),          RIG(test_left_behind), RIG(test_edge_without_bell),
      RIG(test_timeout),
  };
  return cmocka_run_group_tests_name("vcl epoll", tests, NULL, NULL);
}
