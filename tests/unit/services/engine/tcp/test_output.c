/*
 * Sending: segmentation and bursts, Nagle and cork, the peer's window with SWS avoidance and probes, want of frames,
 * options, ICMP and path MTU.
 */
#include "tcp_rig.h"

static void test_segments(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 3000);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(LAST(r)->off, 0);
  assert_int_equal(LAST(r)->flags & TCP_PSH, 0);
  EXPECT(r, TCP_ACK, 1461, 1, 1460);
  assert_int_equal(LAST(r)->off, 1460);
  EXPECT(r, TCP_ACK, 2921, 1, 80);
  assert_int_equal(LAST(r)->flags & TCP_PSH, TCP_PSH);
  NOTHING(r);
}

static void test_burst(void **state) {
  struct rig *r = *state;
  r->gso = 64000;
  rig_passive(r, RIG_TS);
  rig_write(r, 10000);
  EXPECT(r, TCP_ACK, 1, 1, 10000);
  assert_int_equal(LAST(r)->gso_size, 1448); /* 1460 without the timestamp */
  assert_int_equal(LAST(r)->opts.present, TCP_OPT_HAS_TS);
  NOTHING(r);
}

static void test_burst_is_whole_segments(void **state) {
  struct rig *r = *state;
  r->gso = 64000;
  rig_passive(r, 0);
  rig_write(r, 100000); /* cwnd of 10 segments */
  EXPECT(r, TCP_ACK, 1, 1, 14600);
  NOTHING(r);
  assert_int_equal(r->conn.limited, 1);
}

static void test_single_segment_has_no_gso(void **state) {
  struct rig *r = *state;
  r->gso = 64000;
  rig_passive(r, 0);
  rig_write(r, 1460);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(LAST(r)->gso_size, 0);
}

static void test_snd_max_before_send(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  r->send_rc = -ENOBUFS;
  r->tx_tail += 100;
  assert_int_equal(tcp_output(&r->env, &r->conn, r->now), 1);
  assert_int_equal(r->d.snd_max - r->d.iss, 101); /* stored before, whatever send says */
  assert_int_equal(r->conn.snd_nxt - r->d.iss, 1);
  r->send_rc = 0;
  assert_int_equal(tcp_output(&r->env, &r->conn, r->now), 0);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  NOTHING(r);
}

static void test_ack_without_frame_stays_due(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  r->send_rc = -ENOBUFS;
  rig_in(r, TCP_ACK, 1, 1, 100);
  assert_int_equal(rig_unseen(r), 0);
  r->send_rc = 0;
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 101, 0);
  NOTHING(r);
}

static void test_route_trouble_counts_as_loss(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  r->send_rc = -EHOSTUNREACH;
  rig_write(r, 100);
  r->send_rc = 0;
  rig_pass(r, 300 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  assert_int_equal(COUNTER(r, send_failed), 1);
  NOTHING(r);
}

static void test_nagle(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK, 1, 1, 10);
  rig_write(r, 10);
  rig_write(r, 10);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 11, 0);
  EXPECT(r, TCP_ACK, 11, 1, 20);
  rig_write(r, 1460); /* full-sized: not held back */
  EXPECT(r, TCP_ACK, 31, 1, 1460);
  NOTHING(r);
}

static void test_nodelay(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_NODELAY};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK, 1, 1, 10);
  EXPECT(r, TCP_ACK, 11, 1, 10);
  NOTHING(r);
}

static void test_cork(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_CORK};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  rig_write(r, 1500);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  o.flags = 0;
  tcp_options(&r->env, &r->conn, &o, r->now);
  EXPECT(r, TCP_ACK, 1461, 1, 50);
  NOTHING(r);
}

static void test_cork_ends_by_itself(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_CORK};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  NOTHING(r);
  rig_pass(r, 200 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 1, 10);
}

static void test_window_limits(void **state) {
  struct rig *r = *state;
  r->wnd = 2000;
  rig_passive(r, 0);
  rig_write(r, 5000);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r); /* 540 would be a silly segment while something is out */
  rig_in(r, TCP_ACK, 1, 1461, 0);
  EXPECT(r, TCP_ACK, 1461, 1, 1460);
  NOTHING(r);
}

static void test_half_the_largest_window_will_do(void **state) {
  struct rig *r = *state;
  r->wnd = 500;
  rig_passive(r, 0);
  rig_write(r, 5000);
  EXPECT(r, TCP_ACK, 1, 1, 500);
  r->wnd = 250; /* RFC 9293 3.8.6.2.1: at least half of the largest window */
  rig_in(r, TCP_ACK, 1, 501, 0);
  EXPECT(r, TCP_ACK, 501, 1, 250);
  r->wnd = 200;
  rig_in(r, TCP_ACK, 1, 751, 0);
  NOTHING(r);
  rig_pass(r, RIG_S); /* the override timer */
  EXPECT(r, TCP_ACK, 751, 1, 200);
}

static void test_bursts_are_not_crumbled(void **state) {
  struct rig *r = *state;
  r->gso = 20 * RIG_MSS;
  r->wnd = 58400; /* 40 segments */
  rig_passive(r, 0);
  r->conn.cwnd = 100 * RIG_MSS;
  rig_write(r, 200 * RIG_MSS);
  EXPECT(r, TCP_ACK, 1, 1, 20 * RIG_MSS);
  EXPECT(r, TCP_ACK, 1 + 20 * RIG_MSS, 1, 20 * RIG_MSS);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 1 + 4 * RIG_MSS, 0);
  NOTHING(r); /* the window moved by four: not yet worth a burst */
  rig_in(r, TCP_ACK, 1, 1 + 14 * RIG_MSS, 0);
  EXPECT(r, TCP_ACK, 1 + 40 * RIG_MSS, 1, 14 * RIG_MSS);
  NOTHING(r);
}

static void test_zero_window_probes(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 100);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  r->wnd = 0;
  rig_in(r, TCP_ACK, 1, 101, 0);
  rig_write(r, 50);
  NOTHING(r);
  usec_t wait = r->conn.rto;
  for (int i = 0; i < 4; i++, wait *= 2) { /* backed off */
    rig_pass(r, wait - 1);
    NOTHING(r);
    rig_pass(r, 1);
    EXPECT(r, TCP_ACK, 100, 1, 0); /* one below snd_una */
    rig_in(r, TCP_ACK, 1, 101, 0);
  }
  r->wnd = 1000;
  rig_in(r, TCP_ACK, 1, 101, 0);
  EXPECT(r, TCP_ACK, 101, 1, 50);
  NOTHING(r);
}

static void test_zero_window_for_ever(void **state) {
  struct rig *r = *state;
  r->wnd = 0;
  rig_passive(r, 0);
  rig_write(r, 50);
  for (int i = 0; i < 100; i++) { /* the peer answers: never given up */
    rig_pass(r, 60 * RIG_S);
    rig_skip(r);
    rig_in(r, TCP_ACK, 1, 1, 0);
  }
  assert_false(r->closed);
  NOTHING(r);
  rig_pass(r, 2000 * RIG_S); /* silence: given up */
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_peer_shrinks_window(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 2920);
  rig_skip(r);
  r->wnd = 1000; /* RFC 9293 3.8.6.2.1: must not upset us */
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_pass(r, 300 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 1, 1460); /* the RTO repeats what was promised before */
  rig_in(r, TCP_ACK, 1, 2921, 0);
  assert_int_equal(r->tx_head, 2920);
  NOTHING(r);
}

static void test_window_update_only_by_newer(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 100);
  r->wnd = 70;
  rig_in(r, TCP_ACK, 1, 1, 10); /* older sequence number than wl1 … */
  assert_int_equal(r->d.snd_wnd, RIG_WND);
  rig_in(r, TCP_ACK, 101, 1, 0);
  assert_int_equal(r->d.snd_wnd, 70);
}

static void test_idle_restarts_slowly(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 14600);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 14601, 0);
  assert_true(r->conn.cwnd > 10 * RIG_MSS);
  rig_pass(r, 10 * RIG_S);
  rig_write(r, 60000);
  assert_int_equal(rig_unseen(r), 10); /* RFC 5681 4.1 */
}

static void test_idle_restart_off(void **state) {
  struct rig *r = *state;
  r->env.cfg.idle_restart = 0;
  rig_passive(r, 0);
  rig_write(r, 14600);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 14601, 0);
  rig_pass(r, 10 * RIG_S);
  rig_write(r, 29200);
  assert_int_equal(rig_unseen(r), 20);
}

static void test_slow_start_and_avoidance(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 14600);
  uint32_t before = r->conn.cwnd;
  rig_in(r, TCP_ACK, 1, 14601, 0);
  assert_int_equal(r->conn.cwnd, 2 * before); /* bytes acknowledged */
  r->conn.ssthresh = r->conn.cwnd;
  rig_write(r, r->conn.cwnd);
  before = r->conn.cwnd;
  rig_in(r, TCP_ACK, 1, 14601 + before, 0);
  assert_int_equal(r->conn.cwnd, before + RIG_MSS); /* one segment per round trip */
}

static void test_cwnd_does_not_grow_unused(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  uint32_t before = r->conn.cwnd, at = 1;
  for (int i = 0; i < 20; i++, at += 100) {
    rig_write(r, 100);
    rig_in(r, TCP_ACK, 1, at + 100, 0);
  }
  assert_int_equal(r->conn.cwnd, before);
}

static void test_icmp_pmtu(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 2920);
  rig_skip(r);
  tcp_icmp(&r->env, &r->conn, 2, 0, 1400, r->d.iss + 5000, r->now);
  assert_int_equal(COUNTER(r, icmp_ignored), 1); /* RFC 5927 4.1: not out */
  tcp_icmp(&r->env, &r->conn, 2, 0, 1400, r->d.iss + 1, r->now);
  assert_int_equal(r->d.pmtu, 1400);
  EXPECT(r, TCP_ACK, 1, 1, 1360);
  EXPECT(r, TCP_ACK, 1361, 1, 1360);
  EXPECT(r, TCP_ACK, 2721, 1, 200);
  NOTHING(r);
  tcp_icmp(&r->env, &r->conn, 2, 0, 68, r->d.iss + 1, r->now); /* an attack */
  assert_int_equal(r->d.pmtu, 552);
  tcp_icmp(&r->env, &r->conn, 2, 0, 9000, r->d.iss + 1, r->now); /* never up */
  assert_int_equal(r->d.pmtu, 552);
}

static void test_icmp_errors(void **state) {
  struct rig *r = *state;
  for (int hard = 0; hard < 2; hard++) { /* RFC 5461 4.1: a connect ends with either */
    (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
    tcp_icmp(&r->env, &r->conn, hard, hard ? ECONNREFUSED : EHOSTUNREACH, 0, r->d.iss, r->now);
    assert_true(r->closed);
    assert_int_equal(r->d.error, hard ? ECONNREFUSED : EHOSTUNREACH);
    rig_init(r);
  }
  rig_passive(r, 0);
  rig_write(r, 10);
  rig_skip(r);
  tcp_icmp(&r->env, &r->conn, 1, EHOSTUNREACH, 0, r->d.iss + 1, r->now);
  STATE(r, ABI_TCP_ESTABLISHED); /* RFC 5927 5.2: hard errors are soft here */
  rig_pass(r, 2000 * RIG_S);
  assert_true(r->closed);
  assert_int_equal(r->d.error, EHOSTUNREACH); /* but they explain the timeout */
}

static void test_maxseg_option(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.mss = 500};
  r->gso = 500;
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 600);
  EXPECT(r, TCP_ACK, 1, 1, 500);
  EXPECT(r, TCP_ACK, 501, 1, 100);
}

static void test_mss_of_ipv6(void **state) {
  struct rig *r = *state;
  r->d.remote.family = r->d.local.family = 6;
  rig_passive(r, 0);
  assert_int_equal(r->d.rcv_mss, 1440);
  rig_write(r, 3000);
  EXPECT(r, TCP_ACK, 1, 1, 1440);
}

static void test_app_that_writes_behind_its_fin(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 10);
  rig_shutdown(r);
  rig_skip(r);
  rig_write(r, 50); /* the FIN's number is taken: these bytes are never sent */
  NOTHING(r);
  rig_pass(r, 300 * RIG_MS);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 10);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 12, 0);
  STATE(r, ABI_TCP_FIN_WAIT_2);
  assert_int_equal(r->tx_head, 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_segments),
      RIG_TEST(test_burst),
      RIG_TEST(test_burst_is_whole_segments),
      RIG_TEST(test_single_segment_has_no_gso),
      RIG_TEST(test_snd_max_before_send),
      RIG_TEST(test_ack_without_frame_stays_due),
      RIG_TEST(test_route_trouble_counts_as_loss),
      RIG_TEST(test_nagle),
      RIG_TEST(test_nodelay),
      RIG_TEST(test_cork),
      RIG_TEST(test_cork_ends_by_itself),
      RIG_TEST(test_window_limits),
      RIG_TEST(test_half_the_largest_window_will_do),
      RIG_TEST(test_bursts_are_not_crumbled),
      RIG_TEST(test_zero_window_probes),
      RIG_TEST(test_zero_window_for_ever),
      RIG_TEST(test_peer_shrinks_window),
      RIG_TEST(test_window_update_only_by_newer),
      RIG_TEST(test_idle_restarts_slowly),
      RIG_TEST(test_idle_restart_off),
      RIG_TEST(test_slow_start_and_avoidance),
      RIG_TEST(test_cwnd_does_not_grow_unused),
      RIG_TEST(test_icmp_pmtu),
      RIG_TEST(test_icmp_errors),
      RIG_TEST(test_maxseg_option),
      RIG_TEST(test_mss_of_ipv6),
      RIG_TEST(test_app_that_writes_behind_its_fin),
  };
  return cmocka_run_group_tests_name("tcp_output", tests, NULL, NULL);
}
