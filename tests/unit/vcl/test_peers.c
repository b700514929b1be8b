/*
 * listen and accept of datagrams (vcl/peers.c): a session for each peer, with what it sent before, in order; what comes
 * while the engine is asked; SET_CONNECTED; what a listener may do beside; a proxy's (app-proxy-transport-udp).
 */
#include "vcl_rig.h"

#include "vcl_app.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>

#define PEERS 20

static uint32_t udp(int nonblock) {
  int h = vppcom_session_create(VPPCOM_PROTO_UDP, (uint8_t)nonblock);
  assert_true(h >= 0);
  return (uint32_t)h;
}

static uint32_t bound(uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, port);
  uint32_t h = udp(1);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  return h;
}

static uint32_t listening(uint16_t port) {
  uint32_t h = bound(port);
  assert_int_equal(vppcom_session_listen(h, 0), 0);
  return h;
}

static uint32_t client(uint16_t port) {
  uint32_t h = udp(1);
  assert_int_equal(rig_connect(h, port), 0);
  return h;
}

/** Sent, and where it is to go before the next one is. */
static void send_text(struct rig *r, uint32_t h, const char *text) {
  assert_int_equal(vppcom_session_write(h, (void *)(uintptr_t)text, strlen(text)), strlen(text));
  fake_run(&r->fake);
}

/** Accepts the session of the client `from`. */
static uint32_t accept_of(uint32_t l, uint32_t from) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  int h = vppcom_session_accept(l, &ep, O_NONBLOCK);
  assert_true(h >= 0);
  assert_int_equal(ntohs(ep.port), rig_port_of(from, VPPCOM_ATTR_GET_LCL_ADDR));
  assert_int_equal(rig_port_of((uint32_t)h, VPPCOM_ATTR_GET_PEER_ADDR), ntohs(ep.port));
  assert_int_equal(rig_port_of((uint32_t)h, VPPCOM_ATTR_GET_LCL_ADDR), rig_port_of(l, VPPCOM_ATTR_GET_LCL_ADDR));
  assert_int_equal(vppcom_session_listener((uint32_t)h), (int)l);
  return (uint32_t)h;
}

static void expect(uint32_t h, const char *text) {
  char buf[64];
  int n = vppcom_session_read(h, buf, sizeof buf);
  if (n != (int)strlen(text) || memcmp(buf, text, (size_t)n) != 0)
    fail_msg("%d bytes, not \"%s\"", n, text);
}

static void expect_nothing(uint32_t h) {
  char b;
  assert_int_equal(vppcom_session_read(h, &b, 1), VPPCOM_EAGAIN);
}

static uint32_t attr(uint32_t h, uint32_t op) {
  uint32_t v = 99, len = sizeof v;
  assert_int_equal(vppcom_session_attr(h, op, &v, &len), 0);
  return v;
}

static void close_all(struct rig *r, const uint32_t *h, size_t n) {
  for (size_t i = 0; i < n; i++)
    assert_int_equal(vppcom_session_close(h[i]), 0);
  rig_settle(r);
}

/* Three peers, whose datagrams came in turns: each gets its own, in order, and is answered alone. */
static void test_each(void **state) {
  struct rig *r = *state;
  uint32_t l = listening(6100), a = client(6100), b = client(6100), c = client(6100);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  send_text(r, a, "a1");
  send_text(r, b, "b1");
  send_text(r, a, "a2");
  send_text(r, c, "c1");
  send_text(r, b, "b2");
  assert_int_equal(rig_wait(l, POLLIN) & POLLIN, POLLIN);
  uint32_t sa = accept_of(l, a), sb = accept_of(l, b), sc = accept_of(l, c);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_n_accepted(l), 3);
  assert_int_equal(attr(l, VPPCOM_ATTR_GET_LISTEN), 1);
  assert_int_equal(attr(sa, VPPCOM_ATTR_GET_LISTEN), 0);
  assert_int_equal(attr(sa, VPPCOM_ATTR_GET_PROTOCOL), VPPCOM_PROTO_UDP);
  assert_int_equal(vppcom_session_attr(sa, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 2);
  assert_int_equal(rig_wait(sb, POLLIN) & POLLIN, POLLIN);
  expect(sb, "b1");
  expect(sa, "a1");
  send_text(r, a, "a3"); /* from here on the engine knows whose it is */
  expect(sa, "a2");
  expect(sa, "a3");
  expect_nothing(sa);
  expect(sb, "b2");
  expect_nothing(sb);
  expect(sc, "c1");
  expect_nothing(l);
  send_text(r, sb, "to b");
  expect_nothing(a);
  expect_nothing(c);
  expect(b, "to b");
  assert_int_equal(vppcom_session_close(sa), 0); /* it may come again */
  fake_run(&r->fake);
  assert_int_equal(vppcom_session_n_accepted(l), 2);
  send_text(r, a, "a4");
  sa = accept_of(l, a);
  expect(sa, "a4");
  close_all(r, (const uint32_t[]){sa, sb, sc, a, b, c, l}, 7);
}

struct late {
  pthread_barrier_t turn;
  uint32_t l;
};

static void *late_acceptor(void *p) {
  struct late *t = p;
  char buf[8];
  assert_int_equal(vppcom_worker_register(), 0);
  t->l = listening(6101);
  (void)pthread_barrier_wait(&t->turn); /* its peer sends */
  (void)pthread_barrier_wait(&t->turn);
  int h = vppcom_session_accept(t->l, NULL, O_NONBLOCK);
  assert_true(h >= 0);
  for (int i = 1; i <= 3; i++) {
    assert_int_equal(vppcom_session_read((uint32_t)h, buf, sizeof buf), i);
    assert_int_equal(buf[0], '0' + i);
  }
  expect_nothing((uint32_t)h);
  expect_nothing(t->l);
  assert_int_equal(vppcom_session_accept(t->l, NULL, 0), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_close((uint32_t)h), 0);
  assert_int_equal(vppcom_session_close(t->l), 0);
  vppcom_worker_unregister();
  return NULL;
}

/** Waits until a counter of the fake is at least `n`. */
static void until(struct rig *r, const int *counter, int n) {
  int seen = 0;
  for (int i = 0; i < 10000 && seen < n; i++) {
    (void)poll(NULL, 0, 1);
    fake_lock(&r->fake);
    seen = *counter;
    fake_unlock(&r->fake);
  }
  assert_true(seen >= n);
}

/* What a peer sends while the engine is being asked for its session comes to the listener, and is the session's. */
static void test_meanwhile(void **state) {
  struct rig *r = *state;
  struct late t = {.l = 0};
  pthread_t thread;
  pthread_barrier_init(&t.turn, NULL, 2);
  assert_int_equal(pthread_create(&thread, NULL, late_acceptor, &t), 0);
  (void)pthread_barrier_wait(&t.turn);
  uint32_t c = client(6101);
  send_text(r, c, "1");
  fake_lock(&r->fake);
  r->fake.hold_open = 1;
  fake_unlock(&r->fake);
  (void)pthread_barrier_wait(&t.turn);
  until(r, &r->fake.n_held, 1);
  assert_int_equal(vppcom_session_write(c, "22", 2), 2);
  assert_int_equal(vppcom_session_write(c, "333", 3), 3);
  until(r, &r->fake.n_dgrams, 3);
  fake_lock(&r->fake);
  r->fake.hold_open = 0;
  fake_unlock(&r->fake);
  assert_int_equal(pthread_join(thread, NULL), 0);
  pthread_barrier_destroy(&t.turn);
  close_all(r, &c, 1);
}

/* As VPP's test programs do it: the attribute without a value, before bind, which is enough. */
static void test_set_connected(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 6102);
  uint32_t l = udp(1), plain = bound(6103), stream = rig_session(1), sender = udp(1), any = udp(1);
  assert_int_equal(vppcom_session_accept(plain, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(attr(plain, VPPCOM_ATTR_GET_LISTEN), 0);
  assert_int_equal(vppcom_session_attr(l, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL), 0);
  assert_int_equal(attr(l, VPPCOM_ATTR_GET_LISTEN), 0);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_bind(l, &ep), 0);
  assert_int_equal(attr(l, VPPCOM_ATTR_GET_LISTEN), 1);
  uint32_t c = client(6102);
  send_text(r, c, "hello");
  uint32_t s = accept_of(l, c);
  expect(s, "hello");
  assert_int_equal(vppcom_session_attr(s, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL), 0); /* it is */
  assert_int_equal(vppcom_session_attr(stream, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL), 0);
  assert_int_equal(vppcom_session_listen(s, 1), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_accept(s, NULL, 0), VPPCOM_EINVAL);
  ep = rig_ep(ip, 1, 6103);
  assert_int_equal(vppcom_session_sendto(sender, (void *)(uintptr_t) "x", 1, 0, &ep), 1);
  assert_int_equal(vppcom_session_listen(sender, 1), VPPCOM_EINVAL); /* a port that no bind gave */
  assert_int_equal(vppcom_session_attr(sender, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL), -EOPNOTSUPP);
  assert_int_equal(vppcom_session_attr(plain, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL), 0); /* bound before */
  assert_int_equal(attr(plain, VPPCOM_ATTR_GET_LISTEN), 1);
  assert_int_equal(vppcom_session_listen(any, 1), 0); /* without bind: some port */
  assert_int_not_equal(rig_port_of(any, VPPCOM_ATTR_GET_LCL_ADDR), 0);
  assert_int_equal(rig_connect(any, 6102), 0); /* and then it is a client */
  assert_int_equal(attr(any, VPPCOM_ATTR_GET_LISTEN), 0);
  close_all(r, (const uint32_t[]){any, s, c, l, plain, stream, sender}, 7);
}

/* What no accept took can be read of the listener, with its sender, and is not accepted then. */
static void test_read_listener(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  char buf[8];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t l = listening(6104), a = client(6104), b = client(6104);
  send_text(r, a, "first");
  send_text(r, b, "second");
  uint32_t sa = accept_of(l, a);
  assert_int_equal(vppcom_session_attr(l, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 6);
  assert_int_equal(rig_wait(l, POLLIN) & POLLIN, POLLIN);
  assert_int_equal(vppcom_session_recvfrom(l, buf, 3, MSG_PEEK, NULL), 3);
  assert_int_equal(vppcom_session_recvfrom(l, buf, 3, MSG_PEEK | MSG_TRUNC, NULL), 6);
  assert_int_equal(vppcom_session_recvfrom(l, buf, sizeof buf, 0, &ep), 6);
  assert_memory_equal(buf, "second", 6);
  assert_int_equal(ntohs(ep.port), rig_port_of(b, VPPCOM_ATTR_GET_LCL_ADDR));
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_sendto(l, (void *)(uintptr_t) "back", 4, 0, &ep), 4);
  fake_run(&r->fake);
  expect(b, "back");
  expect(sa, "first");
  close_all(r, (const uint32_t[]){sa, a, b, l}, 4);
}

/* A peer that may have no session (a rule, a namespace) is passed over. */
static void test_refused(void **state) {
  struct rig *r = *state;
  uint32_t l = listening(6105), a = client(6105), b = client(6105);
  send_text(r, a, "a");
  send_text(r, b, "b");
  fake_lock(&r->fake);
  r->fake.open_error = ECONNREFUSED;
  fake_unlock(&r->fake);
  uint32_t sb = accept_of(l, b);
  expect(sb, "b");
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  close_all(r, (const uint32_t[]){sb, a, b, l}, 4);
}

/* What waits for accepts is bounded: beyond a megabyte it stays in the fifo, and what finds no room there is lost. */
static void test_bounded(void **state) {
  struct rig *r = *state;
  static char big[60000];
  uint32_t l = listening(6106), many[PEERS], of[PEERS], loud = udp(1);
  for (int i = 0; i < PEERS; i++) {
    many[i] = client(6106);
    send_text(r, many[i], "x");
  }
  assert_int_equal(rig_connect(loud, 6106), 0);
  for (int i = 0; i < PEERS; i++) {
    memset(big, i, sizeof big);
    assert_int_equal(vppcom_session_write(loud, big, sizeof big), sizeof big);
    fake_run(&r->fake);
    of[i] = accept_of(l, many[i]);
  }
  uint32_t s = accept_of(l, loud);
  for (int i = 0; i < 19; i++) { /* 18 make a megabyte, one was in the fifo, the last one found that full */
    assert_int_equal(vppcom_session_read(s, big, sizeof big), sizeof big);
    assert_int_equal(big[0], i);
  }
  expect_nothing(s);
  for (int i = 0; i < PEERS; i++) {
    assert_int_equal(vppcom_session_close(many[i]), 0);
    assert_int_equal(vppcom_session_close(of[i]), 0); /* its datagram unread */
  }
  close_all(r, (const uint32_t[]){s, loud, l}, 3);
}

/* Edges, in a set: one for a new peer, one for the session that it gets. */
static void test_edges(void **state) {
  struct rig *r = *state;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = 1};
  int set = vppcom_epoll_create();
  uint32_t l = listening(6107), a = client(6107), b = client(6107);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, l, &ev), 0);
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, 0), 0);
  send_text(r, a, "a");
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, RIG_WAIT_S), 1);
  uint32_t sa = accept_of(l, a);
  ev = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u64 = 2};
  assert_int_equal(vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, sa, &ev), 0);
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, RIG_WAIT_S), 1);
  assert_int_equal(ev.data.u64, 2); /* what it sent before */
  expect(sa, "a");
  send_text(r, b, "b");
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, RIG_WAIT_S), 1);
  assert_int_equal(ev.data.u64, 1);
  send_text(r, a, "a");
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, RIG_WAIT_S), 1);
  assert_int_equal(ev.data.u64, 2);
  assert_int_equal(vppcom_session_close((uint32_t)set), 0);
  close_all(r, (const uint32_t[]){sa, a, b, l}, 4);
}

/** Accepts what `from` sent to a port that nobody has. */
static uint32_t accept_stray(uint32_t l, uint32_t from, uint16_t port) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip}, meant = {.ip = ip};
  uint32_t len = sizeof meant;
  int h = vppcom_session_accept(l, &ep, O_NONBLOCK);
  assert_true(h >= 0);
  assert_int_equal(ntohs(ep.port), rig_port_of(from, VPPCOM_ATTR_GET_LCL_ADDR));
  assert_int_equal(rig_port_of((uint32_t)h, VPPCOM_ATTR_GET_LCL_ADDR), port);
  assert_int_equal(vppcom_session_attr((uint32_t)h, VPPCOM_ATTR_GET_ORIGINAL_DST, &meant, &len), 0);
  assert_int_equal(ntohs(meant.port), port);
  assert_int_equal(ip[0], 10);
  assert_int_equal(vppcom_session_listener((uint32_t)h), (int)l);
  return (uint32_t)h;
}

/* A proxy: one peer at two ports that nobody has and at the listener's own are three sessions, each with its own port.
 * A socket that is bound and no more gets its own port's alone, and so does a listener of who is no proxy. */
static void test_proxy(void **state) {
  struct rig *r = *state;
  app_state.cfg.proxy_udp = 1;
  uint32_t plain = bound(6108), l = listening(6109), a = client(6109), b = client(6201), c = client(6202),
           d = client(6108);
  assert_int_equal(vppcom_session_attr(l, VPPCOM_ATTR_GET_ORIGINAL_DST, NULL, NULL), -EOPNOTSUPP);
  send_text(r, b, "b1");
  send_text(r, c, "c1");
  send_text(r, a, "a1");
  send_text(r, b, "b2");
  send_text(r, d, "d1");
  uint32_t sb = accept_stray(l, b, 6201), sc = accept_stray(l, c, 6202), sa = accept_of(l, a);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  send_text(r, b, "b3");
  expect(sb, "b1");
  expect(sb, "b2");
  expect(sb, "b3");
  expect_nothing(sb);
  expect(sc, "c1");
  expect(sa, "a1");
  expect(plain, "d1");
  expect_nothing(plain);
  send_text(r, sb, "to b");
  expect(b, "to b");
  expect_nothing(c);
  assert_int_equal(rig_connect(l, 6108), 0); /* a client from now on */
  uint32_t e = client(6203);
  send_text(r, e, "e1");
  assert_int_equal(rig_wait(e, POLLIN) & POLLERR, POLLERR);
  app_state.cfg.proxy_udp = 0;
  uint32_t other = listening(6110), f = client(6204);
  send_text(r, f, "f1");
  assert_int_equal(rig_wait(f, POLLIN) & POLLERR, POLLERR);
  assert_int_equal(vppcom_session_accept(other, NULL, 0), VPPCOM_EAGAIN);
  close_all(r, (const uint32_t[]){sa, sb, sc, a, b, c, d, e, f, l, other, plain}, 12);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_each),          RIG(test_meanwhile), RIG(test_set_connected),
                                     RIG(test_read_listener), RIG(test_refused),   RIG(test_bounded),
                                     RIG(test_edges),         RIG(test_proxy)};
  return cmocka_run_group_tests_name("vcl peers", tests, NULL, NULL);
}
