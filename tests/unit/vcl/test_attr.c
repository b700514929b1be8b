/*
 * Every attribute operation and every private option: what it gives, what it refuses.
 */
#include "vcl_rig.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int get(uint32_t h, uint32_t op, uint32_t *v) {
  uint32_t len = sizeof *v;
  return vppcom_session_attr(h, op, v, &len);
}

static int set(uint32_t h, uint32_t op, uint32_t v) {
  uint32_t len = sizeof v;
  return vppcom_session_attr(h, op, &v, &len);
}

static void test_pairs(void **state) {
  static const struct {
    uint32_t get, set, first, value;
  } row[] = {
      {VPPCOM_ATTR_GET_TX_FIFO_LEN, VPPCOM_ATTR_SET_TX_FIFO_LEN, 0, 100000},
      {VPPCOM_ATTR_GET_RX_FIFO_LEN, VPPCOM_ATTR_SET_RX_FIFO_LEN, 0, 200000},
      {VPPCOM_ATTR_GET_REUSEADDR, VPPCOM_ATTR_SET_REUSEADDR, 0, 1},
      {VPPCOM_ATTR_GET_REUSEPORT, VPPCOM_ATTR_SET_REUSEPORT, 0, 1},
      {VPPCOM_ATTR_GET_BROADCAST, VPPCOM_ATTR_SET_BROADCAST, 0, 1},
      {VPPCOM_ATTR_GET_V6ONLY, VPPCOM_ATTR_SET_V6ONLY, 0, 1},
      {VPPCOM_ATTR_GET_KEEPALIVE, VPPCOM_ATTR_SET_KEEPALIVE, 0, 1},
      {VPPCOM_ATTR_GET_TCP_NODELAY, VPPCOM_ATTR_SET_TCP_NODELAY, 0, 1},
      {VPPCOM_ATTR_GET_TCP_KEEPIDLE, VPPCOM_ATTR_SET_TCP_KEEPIDLE, 7200, 30},
      {VPPCOM_ATTR_GET_TCP_KEEPINTVL, VPPCOM_ATTR_SET_TCP_KEEPINTVL, 75, 5},
      {VPPCOM_ATTR_GET_TCP_USER_MSS, VPPCOM_ATTR_SET_TCP_USER_MSS, 536, 1000},
      {VPPCOM_ATTR_GET_VRF, VPPCOM_ATTR_SET_VRF, 0, 0},
      {VPPCOM_ATTR_GET_COOKIE, VPPCOM_ATTR_SET_COOKIE, 0, 0xc00c1e},
      {VPPCOM_ATTR_GET_APP_PROTO_ERR_CODE, VPPCOM_ATTR_SET_APP_PROTO_ERR_CODE, 0, 77},
      {VPPCOM_ATTR_GET_FLAGS, VPPCOM_ATTR_SET_FLAGS, O_RDWR, O_RDWR | O_NONBLOCK},
  };
  uint32_t v, h = rig_session(0), small = 1;
  (void)state;
  for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
    assert_int_equal(get(h, row[i].get, &v), 0);
    assert_int_equal(v, row[i].first);
    assert_int_equal(set(h, row[i].set, row[i].value), 0);
    assert_int_equal(get(h, row[i].get, &v), 0);
    assert_int_equal(v, row[i].value);
    assert_int_equal(vppcom_session_attr(h, row[i].get, &v, &small), VPPCOM_EINVAL);
    assert_int_equal(vppcom_session_attr(h, row[i].set, &v, NULL), VPPCOM_EINVAL);
    assert_int_equal(vppcom_session_attr(h, row[i].get, NULL, &small), VPPCOM_EINVAL);
  }
  assert_int_equal(set(h, VPPCOM_ATTR_SET_TCP_KEEPIDLE, 0), VPPCOM_EINVAL);
  assert_int_equal(set(h, VPPCOM_ATTR_SET_TCP_KEEPINTVL, 40000), VPPCOM_EINVAL);
  assert_int_equal(set(h, VPPCOM_ATTR_SET_TCP_USER_MSS, 5), VPPCOM_EINVAL);
  assert_int_equal(set(h, VPPCOM_ATTR_SET_VRF, 3), -ENODEV); /* said at once, not at the connect */
  assert_int_equal(set(h, 52, 5), VPPCOM_EINVAL);
  assert_int_equal(set(4711, VPPCOM_ATTR_SET_FLAGS, 5), VPPCOM_EBADFD);
  vppcom_session_close(h);
}

static void test_others(void **state) {
  struct rig *r = *state;
  uint32_t v, len;
  uint8_t dscp = 46, ip[16];
  vppcom_endpt_t ep;
  rig_pair(r, 7800, 0);
  memset(&ep, 0, sizeof ep);
  ep.ip = ip;
  len = sizeof ep;
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_PEER_ADDR, &ep, &len), 0);
  assert_int_equal(ntohs(ep.port), 7800);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_LCL_ADDR, &ep, &len), 0);
  assert_int_equal(ip[3], 2);
  assert_int_equal(vppcom_session_attr(r->listener, VPPCOM_ATTR_GET_PEER_ADDR, &ep, &len), VPPCOM_ENOTCONN);
  assert_int_equal(vppcom_session_attr(r->listener, VPPCOM_ATTR_GET_LCL_ADDR, &ep, &len), 0);
  assert_int_equal(ntohs(ep.port), 7800);
  assert_int_equal(vppcom_session_attr(r->listener, VPPCOM_ATTR_SET_LCL_ADDR, &ep, &len), VPPCOM_EINVAL);
  assert_int_equal(get(r->listener, VPPCOM_ATTR_GET_LISTEN, &v), 0);
  assert_int_equal(v, 1);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_LISTEN, &v), 0);
  assert_int_equal(v, 0);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_DOMAIN, &v), 0);
  assert_int_equal(v, AF_INET);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_PROTOCOL, &v), 0);
  assert_int_equal(v, VPPCOM_PROTO_TCP);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_ERROR, &v), 0);
  assert_int_equal(v, 0);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_NWRITE, NULL, NULL), 64 * 1024);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 0);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_NWRITEQ, &v), 0);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_TX_FIFO_LEN, &v), 0);
  assert_int_equal(v, 64 * 1024);
  assert_int_equal(get(r->client, VPPCOM_ATTR_GET_TCP_USER_MSS, &v), 0);
  assert_int_equal(v, 1448);
  len = 1;
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_SET_DSCP, &dscp, &len), 0);
  int tos = 0;
  len = sizeof tos;
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_TOS, &tos, &len), 0);
  assert_int_equal(tos, 46 << 2);
  static const uint32_t refused[] = {VPPCOM_ATTR_GET_UNUSED,       VPPCOM_ATTR_SET_UNUSED,
                                     VPPCOM_ATTR_SET_CKPAIR,       VPPCOM_ATTR_SET_ENDPT_EXT_CFG,
                                     VPPCOM_ATTR_SET_IP_PKTINFO,   VPPCOM_ATTR_GET_IP_PKTINFO,
                                     VPPCOM_ATTR_GET_STREAM_FLAGS, VPPCOM_ATTR_SET_STREAM_FLAGS};
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
    assert_int_equal(set(r->client, refused[i], 1), -EOPNOTSUPP);
  rig_unpair(r);
  rig_settle(r);
}

/** One address attribute as "a.b.c.d" packed, its port in *port. */
static uint32_t address(uint32_t h, uint32_t op, uint16_t *port) {
  uint8_t ip[16] = {0};
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t len = sizeof ep;
  assert_int_equal(vppcom_session_attr(h, op, &ep, &len), 0);
  assert_int_equal(len, sizeof ep);
  assert_int_equal(ep.is_ip4, 1);
  *port = ntohs(ep.port);
  return (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
}

/** What an engine says of both ends of a connect that an egress rule redirected. */
static void redirected(struct fake *f, uint8_t last, uint16_t port) {
  fake_lock(f);
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    if (!s->used || s->e == NULL)
      continue;
    struct abi_endpoint *meant = worker_view_meant(&s->w->v, s->slot);
    assert_non_null(meant);
    *meant = (struct abi_endpoint){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 9, [14] = 9, [15] = last},
                                   .port = be16_from(port),
                                   .family = 4};
    __atomic_or_fetch(&s->e->flags, ABI_SE_REDIRECTED, __ATOMIC_RELEASE);
  }
  fake_unlock(f);
}

/* Where the client meant to go, and under which address a session is seen from outside. */
static void test_original(void **state) {
  struct rig *r = *state;
  uint16_t port, local;
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t len = sizeof ep, short_len = 1, fresh = rig_session(1);
  rig_pair(r, 7804, 0);
  assert_int_equal(address(r->client, VPPCOM_ATTR_GET_ORIGINAL_DST, &port), 0x0a000001); /* nobody redirected it */
  assert_int_equal(port, 7804);
  assert_int_equal(address(r->server, VPPCOM_ATTR_GET_ORIGINAL_DST, &port), 0x0a000001);
  assert_int_equal(port, 7804);
  assert_int_equal(address(r->client, VPPCOM_ATTR_GET_EXT_ENDPT, &port), 0x0a000002);
  (void)address(r->client, VPPCOM_ATTR_GET_LCL_ADDR, &local);
  assert_int_equal(port, local);
  redirected(&r->fake, 7, 80);
  assert_int_equal(address(r->client, VPPCOM_ATTR_GET_ORIGINAL_DST, &port), 0x0a090907);
  assert_int_equal(port, 80);
  assert_int_equal(address(r->server, VPPCOM_ATTR_GET_ORIGINAL_DST, &port), 0x0a090907);
  assert_int_equal(port, 80);
  assert_int_equal(address(r->server, VPPCOM_ATTR_GET_LCL_ADDR, &port), 0x0a000001); /* as it is on the wire */
  for (uint32_t op = VPPCOM_ATTR_GET_ORIGINAL_DST; op != 0;
       op = op == VPPCOM_ATTR_GET_ORIGINAL_DST ? VPPCOM_ATTR_GET_EXT_ENDPT : 0) {
    assert_int_equal(vppcom_session_attr(fresh, op, &ep, &len), VPPCOM_ENOTCONN);
    assert_int_equal(vppcom_session_attr(r->listener, op, &ep, &len), VPPCOM_ENOTCONN);
    assert_int_equal(vppcom_session_attr(r->client, op, &ep, &short_len), VPPCOM_EINVAL);
    assert_int_equal(vppcom_session_attr(r->client, op, NULL, &len), VPPCOM_EINVAL);
  }
  vppcom_session_close(fresh);
  rig_unpair(r);
  rig_settle(r);
}

static int opt_int(uint32_t h, uint32_t opt) {
  int v = -1;
  uint32_t len = sizeof v;
  assert_int_equal(vcl_opt_get(h, opt, &v, &len), 0);
  assert_int_equal(len, sizeof v);
  return v;
}

static int opt_set(uint32_t h, uint32_t opt, int v) {
  return vcl_opt_set(h, opt, &v, sizeof v);
}

static void test_options(void **state) {
  struct rig *r = *state;
  static const struct {
    uint32_t opt;
    int first, value, bad, why;
  } row[] = {
      {VCL_OPT_RCVLOWAT, 1, 1, 0, 0},
      {VCL_OPT_KEEPCNT, 9, 3, 128, -EINVAL},
      {VCL_OPT_USER_TIMEOUT, 0, 5000, -1, -EINVAL},
      {VCL_OPT_FASTOPEN, 0, 16, -1, -EINVAL},
      {VCL_OPT_CORK, 0, 1, 0, 0},
      {VCL_OPT_QUICKACK, 1, 0, 0, 0},
      {VCL_OPT_SYNCNT, 6, 3, 128, -EINVAL},
      {VCL_OPT_LINGER2, 60, 30, 0, 0},
      {VCL_OPT_DEFER_ACCEPT, 0, 3, -1, 0},
      {VCL_OPT_MAX_PACING, -1, 100000, -1, 0},
      {VCL_OPT_TOS, 0, 16, 256, -EINVAL},
      {VCL_OPT_TTL, 64, 12, 256, -EINVAL},
      {VCL_OPT_OOBINLINE, 0, 1, 0, 0},
  };
  rig_pair(r, 7801, 0);
  for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
    assert_int_equal(opt_int(r->client, row[i].opt), row[i].first);
    assert_int_equal(opt_set(r->client, row[i].opt, row[i].value), 0);
    assert_int_equal(opt_int(r->client, row[i].opt), row[i].value);
    assert_int_equal(opt_set(r->client, row[i].opt, row[i].bad), row[i].why);
    assert_int_equal(vcl_opt_set(r->client, row[i].opt, "", 1), -EINVAL);
    assert_int_equal(vcl_opt_set(r->client, row[i].opt, NULL, 4), -EFAULT);
  }
  assert_int_equal(opt_set(r->client, VCL_OPT_RCVBUF, 70000), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_RCVBUF), 70000);
  assert_int_equal(opt_set(r->client, VCL_OPT_SNDBUF, 1), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_SNDBUF), 4096);
  assert_int_equal(opt_int(r->client, VCL_OPT_ERROR), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_PEEK_ERROR), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_OUTQ), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_OUTQNSD), 0);
  assert_int_equal(opt_int(r->client, VCL_OPT_STATE), VCL_STATE_CONNECTED);
  assert_int_equal(opt_int(r->listener, VCL_OPT_STATE), VCL_STATE_LISTENING);
  assert_int_equal(opt_set(r->client, VCL_OPT_ERROR, 1), -ENOPROTOOPT);
  assert_int_equal(opt_set(r->client, VCL_OPT_N, 1), -ENOPROTOOPT);
  assert_int_equal(opt_set(4711, VCL_OPT_CORK, 1), VPPCOM_EBADFD);
  rig_unpair(r);
  uint32_t h = rig_session(1);
  assert_int_equal(opt_int(h, VCL_OPT_STATE), VCL_STATE_NEW);
  assert_int_equal(rig_connect(h, FAKE_PORT_SILENT), VPPCOM_EINPROGRESS);
  assert_int_equal(opt_int(h, VCL_OPT_STATE), VCL_STATE_CONNECTING);
  vppcom_session_close(h);
  rig_settle(r);
}

static void test_congestion_and_info(void **state) {
  struct rig *r = *state;
  char name[16];
  uint32_t len = sizeof name;
  struct tcp_info ti;
  rig_pair(r, 7802, 0);
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_CONGESTION, name, &len), 0);
  assert_string_equal(name, "cubic");
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CONGESTION, "vegas", 5), -ENOENT);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CONGESTION, "reno", 4), 0);
  len = sizeof name;
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_CONGESTION, name, &len), 0);
  assert_string_equal(name, "newreno");
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CONGESTION, "vegas", 5), -ENOENT);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CONGESTION, "", 0), -EINVAL);
  memset(&ti, 0xff, sizeof ti);
  len = sizeof ti;
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_TCP_INFO, &ti, &len), 0);
  assert_int_equal(ti.tcpi_state, TCP_ESTABLISHED);
  assert_int_equal(ti.tcpi_snd_mss, 1448);
  len = 1;
  assert_int_equal(vcl_opt_get(r->listener, VCL_OPT_TCP_INFO, &ti, &len), 0);
  assert_int_equal(len, 1);
  assert_int_equal(ti.tcpi_state, TCP_LISTEN);
  rig_unpair(r);
  rig_settle(r);
}

/* What the engine reads: options set before connect, after, and inherited over accept. */
static void test_inherit(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7803, 0);
  assert_int_equal(set(l, VPPCOM_ATTR_SET_TCP_NODELAY, 1), 0);
  assert_int_equal(opt_set(l, VCL_OPT_RCVLOWAT, 3), 0);
  assert_int_equal(fake_dial(&r->fake, 7803), 0);
  int s = vppcom_session_accept(l, NULL, 0);
  uint32_t v = 0;
  assert_true(s >= 0);
  assert_int_equal(get((uint32_t)s, VPPCOM_ATTR_GET_TCP_NODELAY, &v), 0);
  assert_int_equal(v, 1);
  assert_int_equal(opt_int((uint32_t)s, VCL_OPT_RCVLOWAT), 3);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(l);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {
      RIG(test_pairs),  RIG(test_others), RIG(test_original), RIG(test_options), RIG(test_congestion_and_info),
      RIG(test_inherit)};
  return cmocka_run_group_tests_name("vcl attr", tests, NULL, NULL);
}
