/*
 * A stream's life: connect, accept, bytes both ways, half close, reset, refuse, close; blocking and nonblocking.
 */
#include "vcl_rig.h"

#include "base/fault.h"
#include "shm/session.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int error_of(uint32_t h) {
  int err = -1;
  uint32_t len = sizeof err;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_ERROR, &err, &len), 0);
  return err;
}

static void test_create_refusals(void **state) {
  (void)state;
  errno = 0;
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_TLS, 0), -1);
  assert_int_equal(errno, EPROTONOSUPPORT);
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_QUIC, 0), -1);
  assert_int_equal(vppcom_session_create(77, 0), -1);
}

static void test_blocking_echo(void **state) {
  struct rig *r = *state;
  char buf[64] = {0};
  rig_pair(r, 7100, 0);
  assert_int_equal(vppcom_session_write(r->client, "hello", 5), 5);
  assert_int_equal(vppcom_session_read(r->server, buf, sizeof buf), 5);
  assert_memory_equal(buf, "hello", 5);
  assert_int_equal(vppcom_session_write_msg(r->server, "world!", 6), 6);
  assert_int_equal(vppcom_session_read(r->client, buf, 3), 3);
  assert_int_equal(vppcom_session_read(r->client, buf, sizeof buf), 3);
  assert_memory_equal(buf, "ld!", 3);
  rig_unpair(r);
  rig_settle(r);
}

static void test_nonblocking(void **state) {
  struct rig *r = *state;
  char buf[8];
  uint32_t l = rig_listen(7101, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  uint32_t c = rig_session(1);
  assert_int_equal(vppcom_session_read(c, buf, 8), VPPCOM_ENOTCONN);
  assert_int_equal(vppcom_session_write(c, buf, 8), VPPCOM_EPIPE);
  assert_int_equal(rig_connect(c, 7101), VPPCOM_EINPROGRESS);
  assert_true((rig_wait(c, POLLOUT) & POLLOUT) != 0);
  assert_int_equal(error_of(c), 0);
  assert_int_equal(rig_connect(c, 7101), 0); /* once, as Linux */
  assert_int_equal(rig_connect(c, 7101), -EISCONN);
  assert_true((rig_wait(l, POLLIN) & POLLIN) != 0);
  int s = vppcom_session_accept(l, NULL, O_NONBLOCK);
  assert_true(s >= 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, buf, 8), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_write(c, "abc", 3), 3);
  assert_true((rig_wait((uint32_t)s, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, buf, 8), 3);
  vppcom_session_close(c);
  assert_true((rig_wait((uint32_t)s, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, buf, 8), 0);
  assert_int_equal(vppcom_session_read((uint32_t)s, buf, 8), 0);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_refused(void **state) {
  struct rig *r = *state;
  char b;
  uint32_t c = rig_session(0);
  assert_int_equal(rig_connect(c, 9), VPPCOM_ECONNREFUSED);
  uint32_t l = rig_listen(7102, 0);
  assert_int_equal(rig_connect(c, 7102), 0); /* a socket may try again */
  vppcom_session_close(c);
  vppcom_session_close(l);
  c = rig_session(1);
  assert_int_equal(rig_connect(c, 9), VPPCOM_EINPROGRESS);
  int ev = rig_wait(c, POLLIN | POLLOUT);
  assert_int_equal(ev & (POLLIN | POLLOUT | POLLERR | POLLHUP), POLLIN | POLLOUT | POLLERR | POLLHUP);
  assert_int_equal(vppcom_session_get_error(c), VPPCOM_ECONNREFUSED);
  assert_int_equal(error_of(c), ECONNREFUSED);
  assert_int_equal(error_of(c), 0);
  assert_int_equal(vppcom_session_read(c, &b, 1), 0);
  assert_int_equal(vppcom_session_write(c, &b, 1), VPPCOM_EPIPE);
  vppcom_session_close(c);
  rig_settle(r);
}

/* A local address asked for is the one that the connection has; also on a second try. */
static void test_bound_client(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 2, 23456), got = {.ip = ip};
  uint32_t len = sizeof got, l = rig_listen(7111, 0);
  uint32_t c = rig_session(0);
  assert_int_equal(vppcom_session_bind(c, &ep), 0);
  assert_int_equal(rig_connect(c, 9), VPPCOM_ECONNREFUSED);
  assert_int_equal(rig_connect(c, 7111), 0);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_LCL_ADDR, &got, &len), 0);
  assert_int_equal(got.port, ep.port);
  vppcom_session_close(c);
  c = rig_session(0);
  ep = rig_ep(ip, 2, 23457);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_SET_LCL_ADDR, &ep, &len), 0);
  assert_int_equal(rig_connect(c, 7111), 0);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_LCL_ADDR, &got, &len), 0);
  assert_int_equal(got.port, ep.port);
  vppcom_session_close(c);
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_silent_timeout(void **state) {
  struct rig *r = *state;
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, FAKE_PORT_SILENT), VPPCOM_EINPROGRESS);
  assert_int_equal(rig_connect(c, FAKE_PORT_SILENT), -EALREADY);
  vcl_poll_t p = {.sh = c, .events = POLLIN | POLLOUT};
  assert_int_equal(vppcom_poll(&p, 1, 0.05), 0);
  assert_int_equal(vcl_session_wait(c, EPOLLOUT, 20000), -ETIMEDOUT);
  assert_int_equal(vppcom_session_close(c), 0);
  assert_int_equal(vppcom_session_close(c), VPPCOM_EBADFD);
  rig_settle(r);
}

static void test_reset(void **state) {
  struct rig *r = *state;
  char b[4];
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, FAKE_PORT_RESET), VPPCOM_EINPROGRESS);
  int ev;
  do
    ev = rig_wait(c, POLLIN | POLLOUT | POLLRDHUP);
  while ((ev & POLLERR) == 0);
  assert_int_equal(ev & (POLLRDHUP | POLLHUP), POLLRDHUP | POLLHUP);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 0); /* as a write will say */
  assert_int_equal(vppcom_session_read(c, b, 4), VPPCOM_ECONNRESET);
  assert_int_equal(vppcom_session_read(c, b, 4), 0);
  assert_int_equal(vppcom_session_write(c, b, 4), VPPCOM_EPIPE);
  vppcom_session_close(c);
  rig_pair(r, 7103, 1);
  assert_int_equal(vppcom_session_write(r->client, "last", 4), 4);
  assert_true((rig_wait(r->server, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_terminate(r->client), 0);
  do
    ev = rig_wait(r->server, POLLIN);
  while ((ev & POLLHUP) == 0);
  assert_int_equal(vppcom_session_read(r->server, b, 4), 4); /* what came before the reset is read first */
  assert_int_equal(vppcom_session_read(r->server, b, 4), VPPCOM_ECONNRESET);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_half_close(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7104, 0);
  assert_int_equal(vppcom_session_write(r->client, "req", 3), 3);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  assert_int_equal(vppcom_session_write(r->client, "x", 1), VPPCOM_EPIPE);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 3);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  assert_int_equal(rig_wait(r->server, POLLIN | POLLRDHUP | POLLOUT), POLLIN | POLLRDHUP | POLLOUT);
  assert_int_equal(vppcom_session_write(r->server, "answer", 6), 6);
  assert_int_equal(vppcom_session_read(r->client, b, 8), 6);
  assert_int_equal(vppcom_session_close(r->server), 0);
  assert_int_equal(vppcom_session_read(r->client, b, 8), 0);
  int ev;
  do
    ev = rig_wait(r->client, POLLIN);
  while ((ev & POLLHUP) == 0);
  assert_int_equal(vppcom_session_shutdown(r->client, 7), VPPCOM_EINVAL);
  vppcom_session_close(r->client);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_shut_rd(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7105, 0);
  assert_int_equal(vppcom_session_write(r->client, "abc", 3), 3);
  assert_true((rig_wait(r->server, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_shutdown(r->server, SHUT_RD), 0);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 3);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  rig_unpair(r);
  uint32_t h = rig_session(0);
  assert_int_equal(vppcom_session_shutdown(h, SHUT_RDWR), VPPCOM_ENOTCONN);
  vppcom_session_close(h);
  rig_settle(r);
}

/* A whole transfer with more bytes than the fifos hold, the reader in another thread of lock mode is in test_lock; here
 * one thread writes and reads nonblocking, to see back pressure at work. */
static void test_bulk(void **state) {
  struct rig *r = *state;
  enum { TOTAL = 3 * 1000 * 1000 };
  static uint8_t out[70000], in[50000];
  size_t sent = 0, got = 0;
  int full = 0;
  rig_pair(r, 7106, 1);
  while (got < TOTAL) {
    size_t want = TOTAL - sent < sizeof out ? TOTAL - sent : sizeof out;
    for (size_t i = 0; i < want; i++)
      out[i] = (uint8_t)((sent + i) * 7 + ((sent + i) >> 8));
    int n = want != 0 ? vppcom_session_write(r->client, out, want) : 0;
    if (n == VPPCOM_EAGAIN) {
      full++;
      n = 0;
    }
    assert_true(n >= 0);
    sent += (size_t)n;
    n = vppcom_session_read(r->server, in, sizeof in);
    if (n == VPPCOM_EAGAIN) {
      assert_true((rig_wait(r->server, POLLIN) & POLLIN) != 0);
      continue;
    }
    assert_true(n > 0);
    for (int i = 0; i < n; i++)
      assert_int_equal(in[i], (uint8_t)((got + (size_t)i) * 7 + ((got + (size_t)i) >> 8)));
    got += (size_t)n;
  }
  assert_int_equal(sent, TOTAL);
  assert_true(full >= 0);
  rig_unpair(r);
  rig_settle(r);
}

static void test_writable_at_a_third(void **state) {
  struct rig *r = *state;
  static uint8_t buf[64 * 1024];
  rig_pair(r, 7107, 1);
  int n, total = 0;
  fake_lock(&r->fake);
  r->fake.hold = 1;
  fake_unlock(&r->fake);
  while ((n = vppcom_session_write(r->client, buf, sizeof buf)) > 0)
    total += n;
  assert_int_equal(n, VPPCOM_EAGAIN);
  assert_int_equal(total, 64 * 1024);
  vcl_poll_t p = {.sh = r->client, .events = POLLOUT};
  assert_int_equal(vppcom_poll(&p, 1, 0.02), 0);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 0);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_NWRITEQ, NULL, NULL), 64 * 1024);
  fake_lock(&r->fake);
  r->fake.hold = 0;
  fake_unlock(&r->fake);
  assert_int_equal(rig_wait(r->client, POLLOUT), POLLOUT);
  rig_unpair(r);
  rig_settle(r);
}

static void test_linger(void **state) {
  struct rig *r = *state;
  struct linger l = {.l_onoff = 1, .l_linger = 30};
  char b[8];
  rig_pair(r, 7108, 0);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_LINGER, &l, sizeof l), 0);
  assert_int_equal(vppcom_session_write(r->client, "bye", 3), 3);
  assert_int_equal(vppcom_session_close(r->client), 0); /* back when the FIN is acknowledged */
  assert_int_equal(vppcom_session_read(r->server, b, 8), 3);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
  rig_pair(r, 7109, 0);
  l.l_linger = 0;
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_LINGER, &l, sizeof l), 0);
  assert_int_equal(vppcom_session_close(r->client), 0);
  assert_int_equal(vppcom_session_read(r->server, b, 8), VPPCOM_ECONNRESET);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_slots_come_back(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7110, 0);
  for (int i = 0; i < 3000; i++) { /* more than there are slots */
    uint32_t c = rig_session(0);
    assert_int_equal(rig_connect(c, 7110), 0);
    int s = vppcom_session_accept(l, NULL, 0);
    assert_true(s >= 0);
    assert_int_equal(vppcom_session_write(c, "x", 1), 1);
    char b;
    assert_int_equal(vppcom_session_read((uint32_t)s, &b, 1), 1);
    vppcom_session_close((uint32_t)s);
    vppcom_session_close(c);
  }
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_too_many(void **state) {
  struct rig *r = *state;
  static uint32_t h[1024];
  int n = 0, rc;
  (void)r;
  while ((rc = vppcom_session_create(VPPCOM_PROTO_TCP, 1)) >= 0)
    h[n++] = (uint32_t)rc;
  assert_int_equal(rc, -1);
  assert_int_equal(errno, ENFILE);
  assert_int_equal(n, 512);
  while (n > 0)
    assert_int_equal(vppcom_session_close(h[--n]), 0);
  assert_int_equal(vppcom_session_close(rig_session(1)), 0);
}

static void test_not_here(void **state) {
  (void)state;
  uint32_t h = rig_session(1);
  assert_int_equal(vppcom_session_stream_connect(h, h), -EOPNOTSUPP);
  assert_int_equal(vppcom_session_is_stream(h), 0);
  assert_int_equal(vppcom_session_is_connectable_listener(h), 0);
  assert_int_equal(vppcom_add_cert_key_pair(NULL), -EOPNOTSUPP);
  assert_int_equal(vppcom_del_cert_key_pair(0), -EOPNOTSUPP);
  assert_int_equal(vppcom_session_index(INVALID_SESSION_ID), -1);
  vppcom_session_close(h);
}

struct quit {
  const struct fake *fake;
  uint32_t hits, stale;
};

/** Between the stores that free a slot: what an engine that looks just now would find. */
static void quit_look(const char *name, void *ctx) {
  struct quit *q = ctx;
  const struct worker_view *v = &q->fake->worker[0].v;
  (void)name;
  q->hits++;
  for (uint32_t slot = 0; slot < v->ga.n_slots_app; slot++) {
    const struct abi_sess_app *a = worker_view_app(v, slot);
    q->stale += a != NULL && __atomic_load_n(&a->op, __ATOMIC_ACQUIRE) == ABI_OP_CONNECT;
  }
}

/* A slot's next generation never shows the request of the last one. */
static void test_request_goes_first(void **state) {
  struct rig *r = *state;
  struct quit q = {.fake = &r->fake};
  if (fault_list(NULL, 0) == 0)
    skip(); /* a release build */
  fault_set_hook(quit_look, &q);
  for (uint32_t i = 0; i < 3; i++) {
    rig_pair(r, 7113, 0);
    assert_int_equal(fault_arm("vcl.slot_free", 1, FAULT_HOOK), 0);
    vppcom_session_close(r->client);
    vppcom_session_close(r->server);
    RIG_UNTIL(((void)vcl_pump(), q.hits > i));
    fault_disarm();
    fault_set_hook(quit_look, &q);
    vppcom_session_close(r->listener);
  }
  fault_disarm();
  assert_int_equal(q.hits, 3);
  assert_int_equal(q.stale, 0);
  rig_settle(r);
}

/* TCP_NOTSENT_LOWAT: so many bytes may wait, and the writer is woken when less than half of them do. */
static void test_notsent_lowat(void **state) {
  struct rig *r = *state;
  static char b[4096];
  int n, lowat = 1000;
  uint32_t len = sizeof n;
  rig_pair(r, 7114, 0);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_NOTSENT_LOWAT, &lowat, sizeof lowat), 0);
  do {                  /* the server reads nothing: what it can hold fills up, then the rest stays here */
    fake_run(&r->fake); /* until it moves no more */
    n = vppcom_session_sendto(r->client, b, sizeof b, MSG_DONTWAIT, NULL);
    assert_true(n == -EAGAIN || (n > 0 && n <= lowat));
  } while (n != -EAGAIN);
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_OUTQ, &n, &len), 0);
  assert_int_equal(n, lowat);
  assert_false(vcl_session_events(r->client) & EPOLLOUT);
  lowat = 2500; /* 1500 more, but nobody is woken for them: half of it would have to be free */
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_NOTSENT_LOWAT, &lowat, sizeof lowat), 0);
  assert_true(vcl_session_events(r->client) & EPOLLOUT);
  assert_int_equal(vppcom_session_sendto(r->client, b, 250, MSG_DONTWAIT, NULL), 250);
  assert_false(vcl_session_events(r->client) & EPOLLOUT);
  assert_int_equal(vppcom_session_sendto(r->client, b, sizeof b, MSG_DONTWAIT, NULL), 1250);
  RIG_UNTIL((vcl_session_events(r->client) & EPOLLOUT) != 0 ||
            (vppcom_session_recvfrom(r->server, b, sizeof b, MSG_DONTWAIT, NULL), fake_run(&r->fake), 0));
  assert_true(vcl_session_events(r->client) & EPOLLOUT);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_create_refusals),
                                     RIG(test_blocking_echo),
                                     RIG(test_nonblocking),
                                     RIG(test_refused),
                                     RIG(test_bound_client),
                                     RIG(test_silent_timeout),
                                     RIG(test_reset),
                                     RIG(test_half_close),
                                     RIG(test_shut_rd),
                                     RIG(test_bulk),
                                     RIG(test_writable_at_a_third),
                                     RIG(test_notsent_lowat),
                                     RIG(test_linger),
                                     RIG(test_slots_come_back),
                                     RIG(test_request_goes_first),
                                     RIG(test_too_many),
                                     RIG(test_not_here)};
  return cmocka_run_group_tests_name("vcl stream", tests, NULL, NULL);
}
