/*
 * What a connection learns of its path: MTU (tcp_pmtu.c) by ICMP, by black holes and by probes; sizes of the buffers
 * (tcp_rbuf.c); and the table of tunables behind both.
 */
#include "tcp_rig.h"

#define HEAD 40u /* IPv4 and TCP without options */

static uint32_t link_mtu, told_mtu, told_limit;

static uint32_t op_path_mtu(void *ctx, struct tcp_conn *c, uint32_t found) {
  (void)ctx;
  (void)c;
  if (found != 0)
    told_mtu = found;
  return link_mtu;
}

static void op_rx_limit(void *ctx, struct tcp_conn *c, uint32_t bytes) {
  struct rig *r = ctx;
  (void)c;
  told_limit = r->rx_limit = bytes;
}

/* The rig's ops, and those two. */
static void path_ops(struct rig *r) {
  static struct tcp_env_ops ops;
  ops = *r->env.ops;
  ops.path_mtu = op_path_mtu;
  ops.rx_limit = op_rx_limit;
  r->env.ops = &ops;
  r->env.cfg.rcv_buf_max = 1u << 20;
  link_mtu = 1500;
  told_mtu = told_limit = 0;
}

/* --- path MTU --- */

static void test_icmp_quotes_what_is_out(void **state) {
  struct rig *r = *state;
  path_ops(r);
  rig_passive(r, 0);
  rig_write(r, 3000);
  rig_skip(r);
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 1000, r->conn.snd_una - 1, r->now);
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 1000, r->d.snd_max, r->now);
  NOTHING(r);
  assert_int_equal(COUNTER(r, icmp_ignored), 2);
  assert_int_equal(r->d.pmtu, 1500);
  uint32_t cwnd = r->conn.cwnd;
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 1000, r->conn.snd_una, r->now);
  EXPECT(r, TCP_ACK, 1, 1, 960); /* all of it again, smaller */
  EXPECT(r, TCP_ACK, 961, 1, 960);
  EXPECT(r, TCP_ACK, 1921, 1, 960);
  EXPECT(r, TCP_ACK, 2881, 1, 120);
  NOTHING(r);
  assert_int_equal(r->conn.cwnd, cwnd);
  assert_int_equal(told_mtu, 1000);
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 100, r->conn.snd_una, r->now); /* an attack (RFC 5927 7.1) */
  assert_int_equal(r->d.pmtu, 552);
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 1400, r->conn.snd_una, r->now);
  assert_int_equal(r->d.pmtu, 552); /* never up by ICMP */
}

static void test_raised_after_a_while(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.mtu_probing = TCP_MTU_PROBING_OFF;
  rig_passive(r, 0);
  rig_write(r, 100);
  tcp_icmp(&r->env, &r->conn, 2, EMSGSIZE, 1000, r->conn.snd_una, r->now);
  rig_in(r, TCP_ACK, 1, 101, 0);
  rig_skip(r);
  rig_pass(r, r->env.cfg.pmtu_life - RIG_S);
  rig_write(r, 960);
  EXPECT(r, TCP_ACK, 101, 1, 960);
  rig_in(r, TCP_ACK, 1, 1061, 0);
  rig_pass(r, 3 * RIG_S);
  rig_write(r, 1460);
  assert_int_equal(r->d.pmtu, 1500);
  EXPECT(r, TCP_ACK, 1061, 1, 1460);
  NOTHING(r);
}

/* Acknowledge everything that is out. */
static void ack_all(struct rig *r) {
  rig_pass(r, 10 * RIG_MS);
  rig_in(r, TCP_ACK, 1, r->d.snd_max - r->d.iss, 0);
}

/* Three timeouts in a row, then answers again: the path MTU is 1024. Everything is acknowledged. */
static void into_black_hole(struct rig *r) {
  path_ops(r);
  rig_passive(r, RIG_SACK);
  rig_write(r, 5000);
  rig_skip(r);
  rig_pass(r, 700 * RIG_MS); /* timeouts after 200 and 400 ms */
  assert_int_equal(COUNTER(r, rto), 2);
  assert_int_equal(r->d.pmtu, 1500);
  rig_skip(r);
  rig_pass(r, 800 * RIG_MS); /* the third */
  assert_int_equal(r->d.pmtu, 1024);
  assert_int_equal(COUNTER(r, pmtu_blackhole), 1);
  EXPECT(r, TCP_ACK, 1, 1, 1024 - HEAD);
  for (int i = 0; i < 20 && r->conn.snd_una != r->d.snd_max; i++)
    ack_all(r);
  rig_skip(r);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
}

/* Data until a probe leaves; returns its relative number. It is the last segment that was looked at. */
static uint32_t until_probe(struct rig *r, uint32_t size) {
  for (int i = 0; i < 200; i++) {
    rig_write(r, 8 * 1024);
    while (r->seen < r->n_sent) {
      const struct tcp_seg_out *o = &r->sent[r->seen++ % RIG_SENT];
      if (o->len == size - HEAD) {
        assert_int_equal(o->gso_size, 0);
        return o->seq - r->d.iss;
      }
      assert_true(o->len <= r->d.pmtu - HEAD);
    }
    ack_all(r);
  }
  fail_msg("no probe of %u bytes", size);
  return 0;
}

static void test_black_hole_then_probe_passes(void **state) {
  struct rig *r = *state;
  into_black_hole(r);
  until_probe(r, 1500);
  ack_all(r);
  assert_int_equal(r->d.pmtu, 1500);
  assert_int_equal(COUNTER(r, pmtu_raised), 1);
  assert_int_equal(r->conn.mtu_at, 0); /* the link takes no more: the search is over */
}

/* RFC 4821 7.6.1. */
static void test_lost_probe_is_no_congestion(void **state) {
  struct rig *r = *state;
  into_black_hole(r);
  uint32_t at = until_probe(r, 1500), end = at + 1460, cwnd = r->conn.cwnd;
  rig_in(r, TCP_ACK, 1, at, 0); /* what was before it */
  cwnd = HS_MAX(cwnd, r->conn.cwnd);
  rig_skip(r);
  for (uint32_t i = 1; i <= 3; i++) {
    r->n_sack = 1;
    r->sack[0] = (struct tcp_sack){end, end + i * (1024 - HEAD)};
    rig_in(r, TCP_ACK, 1, at, 0);
  }
  r->n_sack = 0;
  assert_int_equal(COUNTER(r, pmtu_probes_lost), 1);
  const struct tcp_seg_out *again = NULL;
  while (r->seen < r->n_sent) {
    const struct tcp_seg_out *o = &r->sent[r->seen++ % RIG_SENT];
    if (o->rexmit && again == NULL)
      again = o;
  }
  assert_non_null(again);
  assert_int_equal(again->seq - r->d.iss, at);
  assert_true(again->len <= 1024 - HEAD);
  for (int i = 0; i < 10 && r->conn.recovery != TCP_OPEN; i++)
    ack_all(r);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->d.pmtu, 1024);
  until_probe(r, (1024 + 1500) / 2); /* the search goes on between */
  ack_all(r);
  assert_int_equal(r->d.pmtu, 1262);
}

static void test_probing_off(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.mtu_probing = TCP_MTU_PROBING_OFF;
  rig_passive(r, 0);
  rig_write(r, 5000);
  rig_pass(r, 30 * RIG_S);
  assert_true(COUNTER(r, rto) >= 4);
  assert_int_equal(r->d.pmtu, 1500);
  assert_int_equal(COUNTER(r, pmtu_blackhole), 0);
}

/* --- buffers --- */

/* The peer sends what the window allows once per round trip, the app reads it at once. */
static void rounds(struct rig *r, int n, usec_t rtt, uint32_t part) {
  r->conn.srtt8 = (uint32_t)rtt * 8; /* of the handshake */
  for (int i = 0; i < n; i++) {
    uint32_t wnd = tcp_wnd_current(&r->conn) / part;
    for (uint32_t sent = 0; sent + RIG_MSS <= wnd; sent += RIG_MSS) {
      rig_in(r, TCP_ACK, r->conn.rcv_nxt - r->d.irs, 1, RIG_MSS);
      rig_skip(r);
    }
    rig_read(r, r->rx_tail - r->rx_head);
    rig_skip(r);
    rig_pass(r, rtt);
  }
}

static void test_receive_buffer_grows(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.rcv_buf = 32768;
  rig_passive(r, RIG_WS);
  assert_int_equal(told_limit, 32768);
  rounds(r, 40, 20 * RIG_MS, 1);
  assert_true(told_limit > 8 * 32768);
  assert_true(told_limit <= 1u << 20);
  assert_true(COUNTER(r, rcv_buf_grown) > 0);
  assert_in_range(r->conn.rcv_rtt, 15000, 45000);
}

/* An app that reads little, or a sender that sends little, needs no more. */
static void test_receive_buffer_stays(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.rcv_buf = 65536;
  rig_passive(r, RIG_WS);
  rounds(r, 40, 20 * RIG_MS, 8);
  assert_int_equal(told_limit, 65536);
}

static void test_fixed_receive_buffer(void **state) {
  struct rig *r = *state;
  struct abi_options opt = {.rcvbuf = 30000};
  path_ops(r);
  r->env.cfg.rcv_buf = 65536;
  rig_passive(r, RIG_WS);
  seq32_t edge = r->d.rcv_adv;
  tcp_options(&r->env, &r->conn, &opt, r->now);
  assert_int_equal(told_limit, 65536); /* what was promised has room */
  rounds(r, 1, 20 * RIG_MS, 4);
  assert_true(seq_geq(r->d.rcv_adv, edge)); /* RFC 9293 3.8.6: never back */
  rounds(r, 40, 20 * RIG_MS, 1);
  assert_int_equal(r->conn.rcv_buf, 30000);
  assert_true(tcp_wnd_current(&r->conn) <= 30000);
  opt.rcvbuf = 1; /* no less than the least */
  tcp_options(&r->env, &r->conn, &opt, r->now);
  assert_int_equal(r->conn.rcv_buf, r->env.cfg.rcv_buf_min);
  assert_int_equal(told_limit, 65536);
}

static void test_adopted_promises_fit(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.rcv_buf = 32768;
  rig_passive(r, RIG_WS);
  rounds(r, 40, 20 * RIG_MS, 1);
  uint32_t promised = tcp_wnd_current(&r->conn);
  assert_true(promised > 65536);
  assert_int_equal(rig_adopt(r), 0);
  assert_true(r->rx_limit - (r->rx_tail - r->rx_head) >= promised);
  assert_int_equal(tcp_conn_check(&r->env, &r->conn), 0);
}

/* More lies there unread than a new engine's buffer holds: what was promised beyond it has room all the same. */
static void test_adopted_promises_fit_behind_unread(void **state) {
  struct rig *r = *state;
  path_ops(r);
  r->env.cfg.rcv_buf = 32768;
  rig_passive(r, RIG_WS);
  rounds(r, 40, 20 * RIG_MS, 1);
  while (r->rx_tail - r->rx_head < 3 * 32768) {
    rig_in(r, TCP_ACK, r->conn.rcv_nxt - r->d.irs, 1, RIG_MSS);
    rig_skip(r);
  }
  uint32_t promised = tcp_wnd_current(&r->conn);
  assert_true(promised > 65536);
  assert_int_equal(rig_adopt(r), 0);
  assert_true(r->rx_limit >= r->rx_tail - r->rx_head + promised);
  uint32_t at = r->conn.rcv_nxt - r->d.irs, off = (promised - RIG_MSS) / RIG_MSS * RIG_MSS;
  rig_in(r, TCP_ACK, at + off, 1, RIG_MSS); /* also the last segment of the window */
  assert_int_equal(COUNTER(r, no_memory), 0);
  assert_int_equal(tcp_conn_check(&r->env, &r->conn), 0);
}

static void test_send_buffer(void **state) {
  struct rig *r = *state;
  path_ops(r);
  rig_passive(r, 0);
  uint32_t first = r->env.cfg.snd_buf;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), first);
  r->conn.cwnd = 1000000;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), 2000000);
  r->conn.cc = &tcp_cc_bbr; /* STARTUP may go on while holes are filled */
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), 3000000);
  r->conn.cc = &tcp_cc_newreno;
  r->conn.cwnd = 20000;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, 2000000), 2000000); /* never back */
  r->conn.cwnd = 1u << 30;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), r->env.cfg.snd_buf_max);
  r->d.opt.sndbuf = 50000;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), 50000);
  r->d.opt.sndbuf = 100;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), r->env.cfg.snd_buf_min);
  r->env.cfg.snd_buf_min = 9000;
  assert_int_equal(tcp_send_buffer(&r->env, &r->conn, first), 9000);
}

/* --- tunables --- */

static void test_tunables(void **state) {
  (void)state;
  struct tcp_config cfg;
  uint32_t lower, higher;
  tcp_config_defaults(&cfg);
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), 0);
#define ROW(field, name, kind, unit, lo, hi, def, text, reach, words, help)                                            \
  assert_int_equal(tcp_tunable_get(&cfg, ABI_TUNE_##field), def);                                                      \
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_##field, hi), 0);                                                    \
  assert_int_equal(tcp_tunable_get(&cfg, ABI_TUNE_##field), hi);                                                       \
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_##field, lo), 0);                                                    \
  assert_int_equal(tcp_tunable_get(&cfg, ABI_TUNE_##field), lo);                                                       \
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_##field, (uint32_t)(hi) + 1), -EINVAL);                              \
  assert_int_equal(tcp_tunable_get(&cfg, ABI_TUNE_##field), lo);
  ABI_TUNABLES(ROW)
#undef ROW
  tcp_config_defaults(&cfg);
  assert_int_equal(cfg.rto_min, 200000); /* ms in the file, µs inside */
  assert_int_equal(cfg.pmtu_life, 600 * RIG_S);
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_rto_min, 5000), 0);
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), -EINVAL);
  assert_int_equal(lower, ABI_TUNE_rto_min);
  assert_int_equal(higher, ABI_TUNE_rto_initial);
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_N, 0), -ENOENT);
  const char *cc = "newreno"; /* words of the choice and the list of congestion controls are in the same order */
  assert_int_equal(tcp_cc_find(cc), 0);
  assert_string_equal(tcp_cc_name(1), "cubic");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_icmp_quotes_what_is_out),
      RIG_TEST(test_raised_after_a_while),
      RIG_TEST(test_black_hole_then_probe_passes),
      RIG_TEST(test_lost_probe_is_no_congestion),
      RIG_TEST(test_probing_off),
      RIG_TEST(test_receive_buffer_grows),
      RIG_TEST(test_receive_buffer_stays),
      RIG_TEST(test_fixed_receive_buffer),
      RIG_TEST(test_adopted_promises_fit),
      RIG_TEST(test_adopted_promises_fit_behind_unread),
      RIG_TEST(test_send_buffer),
      cmocka_unit_test(test_tunables),
  };
  return cmocka_run_group_tests_name("tcp_path", tests, NULL, NULL);
}
