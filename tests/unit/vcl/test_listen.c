/*
 * bind, listen, accept: addresses, conflicts, several workers on one port, offers that come and go, the broker away.
 */
#include "vcl_rig.h"

#include <pthread.h>
#include <sys/socket.h>

static void test_errors(void **state) {
  (void)state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7300);
  uint32_t a = rig_session(0), b = rig_session(0);
  assert_int_equal(vppcom_session_bind(a, NULL), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_bind(999, &ep), VPPCOM_EBADFD);
  assert_int_equal(vppcom_session_accept(a, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_bind(a, &ep), 0);
  assert_int_equal(vppcom_session_bind(a, &ep), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_bind(b, &ep), VPPCOM_EADDRINUSE);
  assert_int_equal(vppcom_session_listen(a, 10), 0);
  assert_int_equal(vppcom_session_listen(a, 10), 0);
  assert_int_equal(vppcom_session_listen(a, 20), 0); /* another backlog, as Linux allows */
  assert_int_equal(rig_connect(a, 7300), -EISCONN);
  char c;
  assert_int_equal(vppcom_session_read(a, &c, 1), VPPCOM_ENOTCONN);
  assert_int_equal(vppcom_session_write(a, &c, 1), VPPCOM_EPIPE);
  vppcom_session_close(a);
  assert_int_equal(vppcom_session_bind(b, &ep), 0); /* free at once */
  vppcom_session_close(b);
}

static void test_port_zero(void **state) {
  (void)state;
  uint8_t ip[16], got_ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 0), got;
  uint32_t h = rig_session(0), len = sizeof got;
  memset(&got, 0, sizeof got);
  got.ip = got_ip;
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_LCL_ADDR, &got, &len), 0);
  assert_int_not_equal(got.port, 0);
  assert_int_equal(got.is_ip4, 1);
  vppcom_session_close(h);
  h = rig_session(0);
  assert_int_equal(vppcom_session_listen(h, 1), 0); /* without bind: a port of its own, as Linux */
  vppcom_session_close(h);
}

static void test_queue(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t peer;
  uint32_t l = rig_listen(7301, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN); /* arms */
  for (int i = 0; i < 10; i++)
    assert_int_equal(fake_dial(&r->fake, 7301), 0);
  RIG_UNTIL(((void)vcl_pump(), vppcom_session_attr(l, VPPCOM_ATTR_GET_NREAD, NULL, NULL) >= 10));
  assert_int_equal(vppcom_session_attr(l, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 10);
  uint32_t s[10];
  memset(&peer, 0, sizeof peer);
  peer.ip = ip;
  for (int i = 0; i < 10; i++) {
    int h = vppcom_session_accept(l, &peer, O_NONBLOCK);
    assert_true(h >= 0);
    s[i] = (uint32_t)h;
    assert_int_equal(peer.is_ip4, 1);
    assert_int_equal(ip[0], 10);
    assert_int_equal(vppcom_session_listener(s[i]), (int)l);
    assert_int_equal(vppcom_session_n_accepted(l), i + 1);
  }
  assert_int_equal(vppcom_session_listener(l), VPPCOM_ENOENT);
  for (int i = 0; i < 10; i++)
    vppcom_session_close(s[i]);
  assert_int_equal(vppcom_session_n_accepted(l), 0);
  vppcom_session_close(l);
  rig_settle(r);
}

/* Nobody takes offers: the connection waits in the engine and comes when somebody does. */
static void test_arms_late(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7302, 0);
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 7302), 0);
  assert_int_equal(vppcom_session_write(c, "early", 5), 5);
  int s = vppcom_session_accept(l, NULL, 0);
  char b[8];
  assert_true(s >= 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, b, 8), 5);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(c);
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_close_with_offers(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7303, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, 7303), VPPCOM_EINPROGRESS);
  assert_int_equal(rig_wait(l, POLLIN), POLLIN);
  vppcom_session_close(l);
  assert_true((rig_wait(c, POLLIN) & POLLHUP) != 0); /* as Linux: reset */
  vppcom_session_close(c);
  rig_settle(r);
}

static void test_shutdown_listener(void **state) {
  (void)state;
  uint32_t l = rig_listen(7304, 0);
  assert_int_equal(vppcom_session_shutdown(l, SHUT_RD), 0);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(rig_wait(l, POLLIN) & POLLHUP, POLLHUP);
  vppcom_session_close(l);
}

struct worker_arg {
  struct fake *f;
  pthread_barrier_t *barrier;
  int got;
};

/** One of several workers that listen on the same port. */
static void *share_worker(void *p) {
  struct worker_arg *a = p;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7305);
  assert_int_equal(vppcom_worker_register(), 0);
  uint32_t l = rig_session(1);
  assert_int_equal(vppcom_session_bind(l, &ep), 0); /* no option: workers of one app share */
  assert_int_equal(vppcom_session_listen(l, 8), 0);
  uint32_t again = rig_session(0);
  assert_int_equal(vppcom_session_bind(again, &ep), VPPCOM_EADDRINUSE); /* but not a worker with itself */
  vppcom_session_close(again);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  (void)pthread_barrier_wait(a->barrier); /* all listen */
  (void)pthread_barrier_wait(a->barrier); /* all are connected */
  while (a->got < 5) {
    assert_true((rig_wait(l, POLLIN) & POLLIN) != 0);
    int s = vppcom_session_accept(l, NULL, 0);
    assert_true(s >= 0);
    a->got++;
    vppcom_session_close((uint32_t)s);
  }
  vppcom_session_close(l);
  vppcom_worker_unregister();
  return NULL;
}

static void test_workers_share_port(void **state) {
  struct rig *r = *state;
  pthread_t t[3];
  pthread_barrier_t barrier;
  struct worker_arg a[3];
  pthread_barrier_init(&barrier, NULL, 4);
  for (int i = 0; i < 3; i++) {
    a[i] = (struct worker_arg){.f = &r->fake, .barrier = &barrier};
    assert_int_equal(pthread_create(&t[i], NULL, share_worker, &a[i]), 0);
  }
  (void)pthread_barrier_wait(&barrier);
  for (int i = 0; i < 15; i++)
    assert_int_equal(fake_dial(&r->fake, 7305), 0);
  (void)pthread_barrier_wait(&barrier);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_int_equal(a[i].got, 5); /* spread */
  }
  pthread_barrier_destroy(&barrier);
}

static void *broker_back(void *p) {
  (void)poll(NULL, 0, 150);
  fake_broker_up(p);
  return NULL;
}

static void test_broker_away(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7306);
  pthread_t t;
  rig_pair(r, 7307, 0);
  fake_broker_kill(&r->fake);
  uint32_t nb = rig_session(1);
  assert_int_equal(vppcom_session_bind(nb, &ep), VPPCOM_EAGAIN);
  /* all else goes on: data, connects, accepts */
  char b[8];
  assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 1);
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 7307), 0);
  int s = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(s >= 0);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(c);
  assert_int_equal(vppcom_session_close(r->listener), 0); /* said again when the broker is back */
  assert_int_equal(pthread_create(&t, NULL, broker_back, &r->fake), 0);
  uint32_t h = rig_session(0);
  assert_int_equal(vppcom_session_bind(h, &ep), 0); /* waits for it; the token makes us known */
  assert_int_equal(pthread_join(t, NULL), 0);
  RIG_UNTIL(fake_count(&r->fake, &r->fake.n_unbind) == 1);
  fake_lock(&r->fake);
  int n_unbind = r->fake.n_unbind, n_hello = r->fake.n_hello, n_add = r->fake.n_add_worker;
  fake_unlock(&r->fake);
  assert_int_equal(n_unbind, 1);
  assert_int_equal(n_hello, 2);
  assert_int_equal(n_add, 1);
  assert_int_equal(vppcom_session_listen(h, 5), 0);
  vppcom_session_close(h);
  vppcom_session_close(nb);
  vppcom_session_close(r->client);
  vppcom_session_close(r->server);
  rig_settle(r);
}

/** With the time-out that an application has of the broker short. */
static int hasty_setup(void **state) {
  struct rig *r = calloc(1, sizeof *r);
  if (r == NULL || fake_start(&r->fake) != 0)
    return -1;
  *state = r;
  fake_lock(&r->fake);
  r->fake.app_timeout_ms = 300;
  fake_unlock(&r->fake);
  return vppcom_app_create("test") == 0 ? 0 : -1;
}

static void test_broker_gone_times_out(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7308);
  uint32_t h = rig_session(0);
  fake_broker_kill(&r->fake);
  assert_int_equal(vppcom_session_bind(h, &ep), VPPCOM_ETIMEDOUT);
  vppcom_session_close(h);
  fake_broker_up(&r->fake);
}

/** A broker that hangs, and is then killed with the request unread: the port is free in the end, though the program
 * asks nothing more of it. */
static void test_unbind_unheard(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7309, 4);
  fake_lock(&r->fake);
  r->fake.deaf_unbind = 1;
  fake_unlock(&r->fake);
  assert_int_equal(vppcom_session_close(l), 0);
  assert_int_equal(fake_count(&r->fake, &r->fake.deaf_unbind), 0);
  RIG_UNTIL(((void)vcl_pump(), fake_count(&r->fake, &r->fake.n_unbind) == 1));
  l = rig_listen(7309, 4);
  vppcom_session_close(l);
}

/** A listener is closed and opened again while the broker is away: what it hears first is not that the port is in use.
 */
static void test_reopen_while_away(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7311, 4);
  fake_lock(&r->fake);
  r->fake.deaf_unbind = 2; /* the close's, and the one before the bind */
  fake_unlock(&r->fake);
  assert_int_equal(vppcom_session_close(l), 0);
  l = rig_listen(7311, 4);
  assert_int_equal(fake_count(&r->fake, &r->fake.n_unbind), 1);
  vppcom_session_close(l);
}

/** It reserved the port and died before it said so: who gives up gives the port back. */
static void test_bind_unheard(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7310);
  uint32_t h = rig_session(0);
  fake_lock(&r->fake);
  r->fake.mute_bind = 1;
  fake_unlock(&r->fake);
  assert_int_equal(vppcom_session_bind(h, &ep), VPPCOM_ETIMEDOUT);
  vppcom_session_close(h);
  h = rig_session(0);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  vppcom_session_close(h);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      RIG(test_errors),
      RIG(test_port_zero),
      RIG(test_queue),
      RIG(test_arms_late),
      RIG(test_close_with_offers),
      RIG(test_shutdown_listener),
      RIG(test_workers_share_port),
      RIG(test_broker_away),
      RIG(test_unbind_unheard),
      RIG(test_reopen_while_away),
      cmocka_unit_test_setup_teardown(test_bind_unheard, hasty_setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_broker_gone_times_out, hasty_setup, rig_teardown)};
  return cmocka_run_group_tests_name("vcl listen", tests, NULL, NULL);
}
