/*
 * Margins of a connection's life: what is offered and chosen at its beginning and how long that may take, ends that
 * nobody is told of, keep-alive, and records that no engine leaves behind. See test_margins.c.
 */
#include "tcp_rig.h"

static void test_handshake_counts(void **state) {
  struct rig *r = *state;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_pass(r, RIG_S);
  assert_int_equal(r->conn.retrans_total, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0);
  rig_pass(r, 2 * RIG_S);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0);
  rig_pass(r, 4 * RIG_S); /* the third in a row: the neighbour is doubted */
  assert_int_equal(r->conn.retrans_total, 3);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), EV(TCP_EV_ROUTE_BAD));
  rig_pass(r, 8 * RIG_S);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0); /* once */
}

/* Ends that nobody is told of: no error, no event. */
static void test_silent_ends(void **state) {
  static const uint32_t from[] = {ABI_TCP_CLOSING, ABI_TCP_LAST_ACK};
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
    rig_init(r);
    rig_to(r, from[i]);
    rig_in(r, TCP_RST, 2, 0, 0);
    assert_int_equal(r->closed, 1);
    assert_int_equal(r->d.error, 0);
    assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  }
  rig_init(r);
  rig_passive(r, 0);
  rig_write(r, 10);
  tcp_close(&r->env, &r->conn, 1, r->now); /* unread data: RST, and the app is gone */
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  rig_init(r);
  rig_passive(r, 0);
  rig_close(r);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 2, 1); /* a byte for an orphan */
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  rig_init(r);
  rig_passive(r, 0);
  tcp_abort(&r->env, &r->conn, 1, r->now); /* EPERM, the least errno */
  assert_int_equal(r->d.error, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), EV(TCP_EV_ERROR));
}

/* SYN_RECEIVED, passive: a SYN in the window leads back to LISTEN, in silence. */
static void test_back_to_listen(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = RIG_WND;
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  rig_skip(r);
  rig_in(r, TCP_SYN, 10, 0, 0);
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  assert_int_equal(rig_unseen(r), 0);
}

static void test_nothing_offered(void **state) {
  struct rig *r = *state;
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  r->env.cfg.ecn = TCP_ECN_OFF;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  assert_int_equal(r->d.nego, 0);
  rig_init(r);
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  r->env.cfg.ecn = TCP_ECN_OFF;
  rig_passive(r, RIG_SACK | RIG_TS | RIG_WS);
  assert_int_equal(r->d.nego, ABI_TCB_PASSIVE);
}

static void test_control_chosen(void **state) {
  struct rig *r = *state;
  for (uint32_t i = 0; i <= tcp_cc_count + 1; i++) {
    rig_init(r);
    r->env.cfg.cc = (uint8_t)tcp_cc_find("bbr");
    r->d.opt.cc = (uint8_t)i; /* 1 + its place in the list; 0, and what there is not: the configured one */
    assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
    assert_int_equal(r->d.cc, i == 0 || i > tcp_cc_count ? tcp_cc_find("bbr") : (int)i - 1);
    assert_ptr_equal(r->conn.cc, tcp_cc_list[r->d.cc]);
  }
  rig_init(r);
  r->env.cfg.cc = (uint8_t)tcp_cc_count;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  assert_int_equal(r->d.cc, 0);
}

/* A path that has room for no header, and one of the least segment. */
static void test_tiny_path(void **state) {
  struct rig *r = *state;
  static const uint32_t mtu[][2] = {{30, 88}, {40, 88}, {41, 88}, {128, 88}, {129, 89}, {576, 536}};
  for (unsigned i = 0; i < ARRAY_LEN(mtu); i++) {
    rig_init(r);
    assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, mtu[i][0], r->now), 0);
    assert_int_equal(r->d.rcv_mss, mtu[i][1]);
  }
}

/* How long the handshake took, a minute at most; or, its SYN lost, 3 s (RFC 6298 5.7). */
static void test_first_rto(void **state) {
  struct rig *r = *state;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_skip(r);
  r->conn.b->rtt_at = r->now;
  r->now += 100 * RIG_S;
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  assert_int_equal(r->conn.srtt8 / 8, 60 * RIG_S);
  rig_init(r);
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_pass(r, RIG_S);
  rig_skip(r);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  assert_int_equal(r->conn.rto, 3 * RIG_S);
}

/* A handshake that nobody takes is kept for two minutes, and for two more after a crash. */
static void test_parked_times(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1};
  r->offers = 0;
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = RIG_WND;
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.accept, ABI_ACCEPT_PARKED);
  assert_int_equal(r->conn.b->due[TCP_T_LIFE], r->now + 120 * RIG_S);
  r->now += RIG_S;
  assert_int_equal(rig_adopt(r), 0);
  assert_int_equal(r->conn.b->due[TCP_T_LIFE], r->now + 120 * RIG_S);
}

/* Due while data is out: from the last sign of the peer on, or, if that is long ago, from now on. */
static void test_keepalive_busy(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->d.opt.flags |= ABI_OPT_KEEPALIVE;
  r->d.opt.keepidle_s = 10;
  rig_write(r, 10);
  r->conn.last_rx = r->now - 3 * RIG_S;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 7 * RIG_S);
  r->conn.last_rx = r->now - 10 * RIG_S + 1;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 1);
  r->now += 60 * RIG_S;
  r->conn.last_rx = r->now - 10 * RIG_S;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  r->conn.b->due[TCP_T_RTO] = 0;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 10 * RIG_S);
}

static int adopted(struct rig *r, uint32_t state, uint32_t past_iss, uint32_t tx_head, uint32_t rx_tail) {
  rig_init(r);
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  if (state == ABI_TCP_SYN_RECEIVED)
    rig_syn_in(r, TCP_SYN, 0, 0); /* crossed */
  assert_int_equal(r->d.state, state);
  r->d.snd_max = r->d.iss + past_iss;
  r->tx_head = r->tx_tail = tx_head;
  r->rx_head = r->rx_tail = rx_tail;
  return rig_adopt(r);
}

static void test_handshake_records(void **state) {
  struct rig *r = *state;
  static const uint32_t from[] = {ABI_TCP_SYN_SENT, ABI_TCP_SYN_RECEIVED};
  for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
    assert_int_equal(adopted(r, from[i], 0, 0, 0), 0); /* numbered, not sent */
    assert_int_equal(adopted(r, from[i], 1, 0, 0), 0);
    assert_int_equal(adopted(r, from[i], 2, 0, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], (uint32_t)-1, 0, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], 1, 1, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], 1, 0, 1), -EPROTO);
  }
}

/* Our FIN is acknowledged, but not all in front of it. */
static void test_fin_record(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_FIN_WAIT_2);
  assert_int_equal(rig_adopt(r), 0);
  rig_init(r);
  rig_to(r, ABI_TCP_FIN_WAIT_2);
  r->d.snd_max++;
  assert_int_equal(rig_adopt(r), -EPROTO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_handshake_counts),  RIG_TEST(test_silent_ends),    RIG_TEST(test_back_to_listen),
      RIG_TEST(test_nothing_offered),   RIG_TEST(test_control_chosen), RIG_TEST(test_tiny_path),
      RIG_TEST(test_first_rto),         RIG_TEST(test_parked_times),   RIG_TEST(test_keepalive_busy),
      RIG_TEST(test_handshake_records), RIG_TEST(test_fin_record),
  };
  return cmocka_run_group_tests_name("tcp_margins_life", tests, NULL, NULL);
}
