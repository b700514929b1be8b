/*
 * Opening: active, passive, simultaneous, options, refusals, retransmitted SYNs, parked connections.
 */
#include "tcp_rig.h"

static void test_passive(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  assert_int_equal(COUNTER(r, passive_opens), 1);
  assert_int_equal(COUNTER(r, state_established), 1);
  assert_int_equal(COUNTER(r, state_syn_received), 0);
  assert_int_equal(r->d.accept, ABI_ACCEPT_OFFERED);
  assert_int_equal(rig_events(r) & EV(TCP_EV_CONNECTED), 0); /* that is for active opens */
}

static void test_active(void **state) {
  struct rig *r = *state;
  rig_active(r, 0);
  assert_int_equal(rig_events(r), EV(TCP_EV_CONNECTED));
  assert_int_equal(r->d.life, ABI_TCB_USED);
}

static void test_syn_options(void **state) {
  struct rig *r = *state;
  r->env.cfg.rcv_buf_max = 4u << 20;
  r->rx_limit = 4u << 19;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  const struct tcp_opts *o = &LAST(r)->opts;
  assert_int_equal(o->present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_TS);
  assert_int_equal(o->mss, 1460);
  assert_int_equal(o->wscale, 7);        /* 65535 << 6 is one byte short of 4 MB */
  assert_int_equal(LAST(r)->wnd, 65535); /* never scaled in a SYN */
}

static void test_options_only_what_both_want(void **state) {
  struct rig *r = *state;
  r->env.cfg.rcv_buf_max = 4u << 20;
  rig_passive(r, RIG_SACK);
  assert_int_equal(r->d.nego & (ABI_TCB_SACK | ABI_TCB_TS | ABI_TCB_WSCALE), ABI_TCB_SACK);
  assert_int_equal(r->d.rcv_wscale, 0);
}

static void test_syn_ack_mirrors_offer(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS | RIG_WS);
  const struct tcp_opts *o = &r->sent[0].opts;
  assert_int_equal(o->present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_TS);
  assert_int_equal(o->ts_ecr, 100);
  assert_int_equal(r->d.snd_wscale, 7);
  assert_int_equal(r->d.snd_wnd, RIG_WND << 7); /* the handshake's ACK is scaled */
}

static void test_mss_option_limits(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = 1000;
  s.hdr.opts.present = TCP_OPT_HAS_MSS;
  s.hdr.opts.mss = 700;
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  assert_int_equal(r->conn.mss, 700);
  s.hdr.opts.mss = 5; /* hostile */
  memset(&r->d.life, 0, sizeof r->d.life);
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  assert_int_equal(r->conn.mss, 88);
  s.hdr.opts.present = 0; /* RFC 9293 3.7.1: 536 */
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  assert_int_equal(r->conn.mss, 536);
}

static void test_passive_refuses(void **state) {
  struct rig *r = *state;
  static const uint16_t bad[] = {TCP_ACK, TCP_RST, TCP_SYN | TCP_ACK, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN, 0};
  for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
    struct tcp_seg_in s = {.segs = 1, .hdr = {.flags = bad[i]}};
    assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), -EINVAL);
    assert_int_equal(r->d.life, ABI_TCB_FREE);
  }
  assert_int_equal(r->n_sent, 0);
}

static void test_syn_sent_bad_ack(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_ACK, 50, 77, 0); /* RFC 9293 3.10.7.3 first: RST at its ACK */
  EXPECT(r, TCP_RST, 77, 0, 0);
  NOTHING(r);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 0, 0); /* ack == iss: not good either */
  EXPECT(r, TCP_RST, 0, 0, 0);
  STATE(r, ABI_TCP_SYN_SENT);
}

static void test_syn_sent_rst(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_RST, 0, 0, 0); /* without ACK: blind */
  STATE(r, ABI_TCP_SYN_SENT);
  rig_in(r, TCP_RST | TCP_ACK, 0, 9, 0);
  STATE(r, ABI_TCP_SYN_SENT);
  NOTHING(r);
  rig_in(r, TCP_RST | TCP_ACK, 0, 1, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ECONNREFUSED);
  assert_int_equal(rig_events(r), EV(TCP_EV_ERROR) | EV(TCP_EV_CLOSED));
}

static void test_syn_retransmitted_then_timeout(void **state) {
  struct rig *r = *state;
  r->env.cfg.syn_retries = 3;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  usec_t wait = RIG_S;
  for (int i = 0; i < 3; i++, wait *= 2) { /* 1, 2, 4 s */
    rig_pass(r, wait - 1);
    NOTHING(r);
    rig_pass(r, 1);
    EXPECT(r, TCP_SYN, 0, 0, 0);
  }
  rig_pass(r, 8 * RIG_S);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_syn_blocked_then_sent(void **state) {
  struct rig *r = *state;
  r->send_rc = -ENOBUFS;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), -ENOBUFS);
  assert_int_equal(r->d.life, ABI_TCB_USED);
  r->send_rc = 0;
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN, 0, 0, 0);
}

static void test_simultaneous_open(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  rig_syn_in(r, TCP_SYN, 0, 0);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_true(rig_events(r) & EV(TCP_EV_CONNECTED));
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
}

static void test_syn_ack_with_data(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  rig_skip(r);
  uint8_t data[] = {0, 31, 62};
  struct tcp_piece pc = {data, 3};
  struct tcp_seg_in s = {.segs = 1, .len = 3, .pieces = &pc, .n_pieces = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.ack = r->d.iss + 1;
  s.hdr.flags = TCP_SYN | TCP_ACK;
  s.hdr.wnd = 500;
  tcp_input(&r->env, &r->conn, &s, r->now);
  EXPECT(r, TCP_ACK, 1, 4, 0);
  assert_int_equal(r->rx_tail, 3);
  NOTHING(r);
}

static void test_dup_syn_gets_syn_ack(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  tcp_input(&r->env, &r->conn, &s, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  rig_pass(r, 3 * RIG_S - 1);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0); /* and by its timer */
  NOTHING(r);
}

static void test_syn_received_bad_ack(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 100, 0); /* RFC 9293 3.10.7.4 fifth */
  EXPECT(r, TCP_RST, 100, 0, 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  NOTHING(r);
}

static void test_syn_received_rst(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_RST, 1, 0, 0);
  assert_true(r->closed);
  assert_int_equal(rig_events(r), EV(TCP_EV_CLOSED)); /* nobody is told */
  assert_int_equal(COUNTER(r, state_syn_received), 0);
}

static void test_handshake_ack_with_data(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_ACK | TCP_PSH, 1, 1, 10);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->rx_tail, 10);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  NOTHING(r);
}

static void test_parked(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  r->offers = 0;
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.accept, ABI_ACCEPT_PARKED);
  rig_in(r, TCP_ACK, 1, 1, 100); /* its data is not taken, not acknowledged */
  assert_int_equal(r->rx_tail, 0);
  rig_pass(r, 60 * RIG_S); /* still there */
  NOTHING(r);
  r->offers = 1;
  tcp_accept_ready(&r->env, &r->conn, r->now);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 101, 0);
  NOTHING(r);
}

static void test_parked_forgotten(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  r->offers = 0;
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  rig_pass(r, 200 * RIG_S);
  EXPECT(r, TCP_RST | TCP_ACK, 1, 1, 0);
  assert_true(r->closed);
}

static void test_isn(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  seq32_t first = r->d.iss;
  uint32_t off = r->d.ts_offset;
  struct rig *q = rig_new();
  q->now = r->now + 4000;
  (void)tcp_connect(&q->env, &q->conn, &q->d, 1500, q->now);
  assert_int_equal(q->d.iss - first, 1000); /* same tuple: the clock alone, one per 4 µs */
  assert_int_equal(q->d.ts_offset, off);
  rig_init(q);
  q->d.remote.port = be16_from(4001);
  (void)tcp_connect(&q->env, &q->conn, &q->d, 1500, r->now);
  assert_int_not_equal(q->d.iss, first);
  assert_int_not_equal(q->d.ts_offset, off); /* RFC 7323 7.1: of each connection */
  rig_init(q);
  q->env.secret[0] = 9;
  (void)tcp_connect(&q->env, &q->conn, &q->d, 1500, r->now);
  assert_int_not_equal(q->d.iss, first);
  rig_teardown((void **)&q);
}

static void test_shutdown_before_handshake(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  rig_skip(r);
  rig_shutdown(r);
  STATE(r, ABI_TCP_SYN_SENT);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  STATE(r, ABI_TCP_FIN_WAIT_1);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  NOTHING(r);
}

static void test_close_in_syn_sent(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  rig_skip(r);
  rig_close(r);
  assert_true(r->closed);
  NOTHING(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_passive),
      RIG_TEST(test_active),
      RIG_TEST(test_syn_options),
      RIG_TEST(test_options_only_what_both_want),
      RIG_TEST(test_syn_ack_mirrors_offer),
      RIG_TEST(test_mss_option_limits),
      RIG_TEST(test_passive_refuses),
      RIG_TEST(test_syn_sent_bad_ack),
      RIG_TEST(test_syn_sent_rst),
      RIG_TEST(test_syn_retransmitted_then_timeout),
      RIG_TEST(test_syn_blocked_then_sent),
      RIG_TEST(test_simultaneous_open),
      RIG_TEST(test_syn_ack_with_data),
      RIG_TEST(test_dup_syn_gets_syn_ack),
      RIG_TEST(test_syn_received_bad_ack),
      RIG_TEST(test_syn_received_rst),
      RIG_TEST(test_handshake_ack_with_data),
      RIG_TEST(test_parked),
      RIG_TEST(test_parked_forgotten),
      RIG_TEST(test_isn),
      RIG_TEST(test_shutdown_before_handshake),
      RIG_TEST(test_close_in_syn_sent),
  };
  return cmocka_run_group_tests_name("tcp_handshake", tests, NULL, NULL);
}
