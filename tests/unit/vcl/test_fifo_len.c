/*
 * The growth policy that a program sets for its fifos: SET_RX_FIFO_LEN and SET_TX_FIFO_LEN before a connect, on a
 * running connection, on a listener for what it accepts, and rx-fifo-size and tx-fifo-size of vcl.conf; each as the
 * engine finds it in the app's half. What the engine makes of it is tests/sim/sim_fifos.c.
 */
#include "vcl_rig.h"

#include "vcl_app.h"
#include "vcl_session.h"

#include <stdio.h>
#include <unistd.h>

static int set(uint32_t h, uint32_t op, uint32_t v) {
  uint32_t len = sizeof v;
  return vppcom_session_attr(h, op, &v, &len);
}

static uint32_t get(uint32_t h, uint32_t op) {
  uint32_t v = 0, len = sizeof v;
  assert_int_equal(vppcom_session_attr(h, op, &v, &len), 0);
  return v;
}

/** What the engine reads; published whole. */
static void wished(uint32_t h, uint32_t rx, uint32_t tx) {
  const struct session *s = pool_at(&app_state.workers[0]->sessions, (uint32_t)vppcom_session_index(h));
  assert_non_null(s);
  assert_int_equal(s->a->opt_gen & 1u, 0);
  assert_int_equal(s->a->opt_gen != 0, rx != 0 || tx != 0);
  assert_int_equal(s->a->opt.rcvbuf, rx);
  assert_int_equal(s->a->opt.sndbuf, tx);
}

static void test_before_and_while(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7100, 0), c = rig_session(0), plain = rig_session(0);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_RX_FIFO_LEN, 40000), 0);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_TX_FIFO_LEN, 30000), 0);
  wished(c, 40000, 30000); /* before the request, so that the SYN's window is right */
  assert_int_equal(rig_connect(c, 7100), 0);
  assert_int_equal(rig_connect(plain, 7100), 0);
  wished(c, 40000, 30000);
  wished(plain, 0, 0); /* the engine's own policy */
  assert_int_equal(get(plain, VPPCOM_ATTR_GET_TX_FIFO_LEN), 64 * 1024);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 30000); /* and no more is taken */
  assert_int_equal(set(c, VPPCOM_ATTR_SET_RX_FIFO_LEN, 80000), 0);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_TX_FIFO_LEN, 50000), 0);
  wished(c, 80000, 50000);
  assert_int_equal(get(c, VPPCOM_ATTR_GET_RX_FIFO_LEN), 80000);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 50000);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_TX_FIFO_LEN, 0), 0); /* back to the engine's policy */
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 64 * 1024);
  for (int i = 0; i < 2; i++) {
    int h = vppcom_session_accept(l, NULL, 0);
    assert_true(h >= 0);
    assert_int_equal(vppcom_session_close((uint32_t)h), 0);
  }
  assert_int_equal(set(c, VPPCOM_ATTR_SET_TX_FIFO_LEN, 1),
                   0); /* what no fifo can be is taken, and told, as the nearest */
  assert_int_equal(get(c, VPPCOM_ATTR_GET_TX_FIFO_LEN), 4096);
  assert_int_equal(vppcom_session_attr(c, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 4096);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_TX_FIFO_LEN, 1u << 31), 0);
  assert_int_equal(get(c, VPPCOM_ATTR_GET_TX_FIFO_LEN), ABI_FIFO_MAX);
  assert_int_equal(set(c, VPPCOM_ATTR_SET_RX_FIFO_LEN, UINT32_MAX), 0);
  assert_int_equal(get(c, VPPCOM_ATTR_GET_RX_FIFO_LEN), ABI_FIFO_MAX);
  assert_int_equal(vppcom_session_close(c), 0);
  assert_int_equal(vppcom_session_close(plain), 0);
  assert_int_equal(vppcom_session_close(l), 0);
  rig_settle(r);
}

static void test_listener(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7101, 0);
  assert_int_equal(set(l, VPPCOM_ATTR_SET_RX_FIFO_LEN, 40000), 0);
  assert_int_equal(set(l, VPPCOM_ATTR_SET_TX_FIFO_LEN, 30000), 0);
  assert_int_equal(fake_dial(&r->fake, 7101), 0);
  int h = vppcom_session_accept(l, NULL, 0);
  assert_true(h >= 0);
  wished((uint32_t)h, 40000, 30000);
  assert_int_equal(get((uint32_t)h, VPPCOM_ATTR_GET_RX_FIFO_LEN), 40000);
  assert_int_equal(vppcom_session_attr((uint32_t)h, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 30000);
  assert_int_equal(set((uint32_t)h, VPPCOM_ATTR_SET_RX_FIFO_LEN, 20000), 0); /* its own from here on */
  wished((uint32_t)h, 20000, 30000);
  wished(l, 40000, 30000);
  assert_int_equal(vppcom_session_close((uint32_t)h), 0);
  assert_int_equal(vppcom_session_close(l), 0);
  rig_settle(r);
}

/** A stack, and an application on it whose vcl.conf has sizes. */
static int configured(void **state) {
  char path[] = "/tmp/hs-fifo-len-XXXXXX";
  static const char text[] = "vcl { rx-fifo-size 40000\n tx-fifo-size 30000 }\n";
  int fd = mkstemp(path);
  if (fd < 0 || write(fd, text, sizeof text - 1) != (ssize_t)sizeof text - 1)
    return -1;
  close(fd);
  struct rig *r = calloc(1, sizeof *r);
  if (r == NULL || fake_start(&r->fake) != 0) /* which forgets VCL_CONFIG */
    return -1;
  *state = r;
  setenv("VCL_CONFIG", path, 1);
  int rc = vppcom_app_create("test");
  unsetenv("VCL_CONFIG");
  unlink(path);
  return rc;
}

static void test_configured(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7102, 0);
  wished(r->client, 40000, 30000);
  wished(r->server, 40000, 30000);
  assert_int_equal(set(r->client, VPPCOM_ATTR_SET_RX_FIFO_LEN, 50000), 0); /* a session's own wish comes first */
  wished(r->client, 50000, 30000);
  wished(r->server, 40000, 30000);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_before_and_while), RIG(test_listener),
                                     cmocka_unit_test_setup_teardown(test_configured, configured, rig_teardown)};
  return cmocka_run_group_tests_name("vcl fifo sizes", tests, NULL, NULL);
}
