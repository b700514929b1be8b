/*
 * What dies and comes back: the engine (epochs, lost rings, absence), the worker's detachment, the end of everything.
 */
#include "vcl_rig.h"

#include <pthread.h>
#include <sys/epoll.h>

static void put(uint32_t h, const char *text) {
  assert_int_equal(vppcom_session_write(h, (void *)(uintptr_t)text, strlen(text)), (int)strlen(text));
}

static void test_engine_restart_idle(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7500, 0);
  for (int i = 0; i < 20; i++) {
    fake_engine_restart(&r->fake);
    put(r->client, "ping");
    assert_int_equal(vppcom_session_read(r->server, b, 8), 4);
    put(r->server, "pong");
    assert_int_equal(vppcom_session_read(r->client, b, 8), 4);
  }
  assert_int_equal(vppcom_worker_is_detached(), 0);
  rig_unpair(r);
  rig_settle(r);
}

/* While the engine is away, writes fill the fifo, reads of what is there go on; afterwards everything is said again. */
static void test_engine_away(void **state) {
  struct rig *r = *state;
  static char buf[64 * 1024];
  rig_pair(r, 7501, 1);
  put(r->server, "before");
  assert_int_equal(rig_wait(r->client, POLLIN), POLLIN);
  fake_lock(&r->fake);
  r->fake.engine_down = 1;
  fake_unlock(&r->fake);
  int n, total = 0;
  while ((n = vppcom_session_write(r->client, buf, sizeof buf)) > 0)
    total += n;
  assert_int_equal(n, VPPCOM_EAGAIN);
  assert_int_equal(total, 64 * 1024);
  assert_int_equal(vppcom_session_read(r->client, buf, 8), 6);
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, 7501), VPPCOM_EINPROGRESS);
  fake_lock(&r->fake);
  r->fake.engine_down = 0;
  fake_unlock(&r->fake);
  fake_engine_restart(&r->fake);
  assert_int_equal(rig_wait(c, POLLOUT), POLLOUT);
  int got = 0;
  while (got < total) {
    n = vppcom_session_read(r->server, buf, sizeof buf);
    if (n == VPPCOM_EAGAIN) {
      (void)rig_wait(r->server, POLLIN);
      continue;
    }
    assert_true(n > 0);
    got += n;
  }
  vppcom_session_close(c);
  rig_unpair(r);
  rig_settle(r);
}

static void *restarter(void *p) {
  struct rig *r = p;
  for (int i = 0; i < 200; i++) {
    (void)poll(NULL, 0, 1);
    fake_engine_restart(&r->fake);
  }
  return NULL;
}

/* Hints are thrown away again and again during a checked transfer: every byte arrives, once, in order. */
static void test_restarts_under_load(void **state) {
  struct rig *r = *state;
  enum { TOTAL = 20 * 1000 * 1000 };
  static uint8_t out[30000], in[30000];
  size_t sent = 0, got = 0;
  pthread_t t;
  struct epoll_event ev[4], want = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
  rig_pair(r, 7502, 1);
  int vep = vppcom_epoll_create();
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, r->client, &want), 0);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, r->server, &want), 0);
  assert_int_equal(pthread_create(&t, NULL, restarter, r), 0);
  while (got < TOTAL) {
    int n = 0, idle = 1;
    if (sent < TOTAL) {
      size_t len = TOTAL - sent < sizeof out ? TOTAL - sent : sizeof out;
      for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)((sent + i) ^ ((sent + i) >> 11));
      n = vppcom_session_write(r->client, out, len);
      assert_true(n > 0 || n == VPPCOM_EAGAIN);
      sent += n > 0 ? (size_t)n : 0;
      idle &= n < 0;
    }
    n = vppcom_session_read(r->server, in, sizeof in);
    assert_true(n > 0 || n == VPPCOM_EAGAIN);
    for (int i = 0; i < n; i++)
      assert_int_equal(in[i], (uint8_t)((got + (size_t)i) ^ ((got + (size_t)i) >> 11)));
    got += n > 0 ? (size_t)n : 0;
    idle &= n < 0;
    if (idle)
      assert_true(vppcom_epoll_wait((uint32_t)vep, ev, 4, 5) > 0);
  }
  assert_int_equal(pthread_join(t, NULL), 0);
  vppcom_session_close((uint32_t)vep);
  rig_unpair(r);
  rig_settle(r);
}

/* A close that the engine missed is said again. */
static void test_close_while_away(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7503, 0);
  fake_lock(&r->fake);
  r->fake.engine_down = 1;
  fake_unlock(&r->fake);
  put(r->client, "last");
  vppcom_session_close(r->client);
  fake_lock(&r->fake);
  r->fake.engine_down = 0;
  fake_unlock(&r->fake);
  fake_engine_restart(&r->fake);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 4);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_offer_while_rings_are_lost(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7504, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(fake_dial(&r->fake, 7504), 0);
    (void)poll(NULL, 0, 2);
    fake_engine_restart(&r->fake);
    assert_true((rig_wait(l, POLLIN) & POLLIN) != 0);
    int s = vppcom_session_accept(l, NULL, 0);
    assert_true(s >= 0);
    vppcom_session_close((uint32_t)s);
  }
  vppcom_session_close(l);
  rig_settle(r);
}

static void ends(struct rig *r, int err) {
  char b[8];
  assert_true((rig_wait(r->server, POLLIN) & POLLERR) != 0);
  assert_int_equal(vppcom_session_read(r->server, b, 8), err);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  assert_int_equal(vppcom_session_write(r->client, b, 8), err);
  assert_int_equal(vppcom_session_write(r->client, b, 8), VPPCOM_EPIPE);
  assert_int_equal(vppcom_worker_is_detached(), 1);
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_TCP, 0), -1);
  assert_int_equal(errno, ENETDOWN);
  assert_int_equal(vppcom_session_accept(r->listener, NULL, 0), err);
  vppcom_session_close(r->server);
  vppcom_session_close(r->client);
  vppcom_session_close(r->listener);
}

static void test_detached(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7505, 1);
  fake_detach_all(&r->fake);
  ends(r, -ENETDOWN);
}

static void test_everything_dead(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7506, 1);
  fake_all_dead(&r->fake);
  ends(r, -ENETDOWN);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_engine_restart_idle),
                                     RIG(test_engine_away),
                                     RIG(test_restarts_under_load),
                                     RIG(test_close_while_away),
                                     RIG(test_offer_while_rings_are_lost),
                                     RIG(test_detached),
                                     RIG(test_everything_dead)};
  return cmocka_run_group_tests_name("vcl restart", tests, NULL, NULL);
}
