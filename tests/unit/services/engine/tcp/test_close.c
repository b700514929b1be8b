/*
 * Closing: every path through the states, orphans, RST rules (RFC 5961, RFC 1337), abort, segments of nobody,
 * TIME_WAIT.
 */
#include "tcp_rig.h"

static void test_active_close(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_shutdown(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_FIN_WAIT_1);
  rig_in(r, TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_FIN_WAIT_2);
  NOTHING(r);
  assert_true(rig_events(r) & EV(TCP_EV_CLOSING));
  rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  EXPECT(r, TCP_ACK, 2, 2, 0);
  STATE(r, ABI_TCP_TIME_WAIT);
  NOTHING(r);
  rig_pass(r, 60 * RIG_S);
  assert_true(r->closed);
  assert_int_equal(COUNTER(r, state_time_wait), 0);
  NOTHING(r);
}

static void test_passive_close(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_CLOSE_WAIT);
  assert_true(rig_events(r) & EV(TCP_EV_PEER_FIN));
  rig_write(r, 5); /* half closed: we may still send */
  EXPECT(r, TCP_ACK, 1, 2, 5);
  rig_close(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 6, 2, 0);
  STATE(r, ABI_TCP_LAST_ACK);
  rig_in(r, TCP_ACK, 2, 7, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, 0);
  NOTHING(r);
}

static void test_simultaneous_close(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_shutdown(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 2, 2, 0);
  STATE(r, ABI_TCP_CLOSING);
  rig_in(r, TCP_ACK, 2, 2, 0);
  STATE(r, ABI_TCP_TIME_WAIT);
  NOTHING(r);
}

static void test_fin_acked_with_fin(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_shutdown(r);
  rig_skip(r);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_TIME_WAIT);
  EXPECT(r, TCP_ACK, 2, 2, 0);
  NOTHING(r);
}

static void test_fin_behind_data(void **state) {
  struct rig *r = *state;
  r->wnd = 10; /* the window lets 10 bytes through */
  rig_passive(r, 0);
  rig_write(r, 30);
  EXPECT(r, TCP_ACK, 1, 1, 10);
  rig_shutdown(r);
  STATE(r, ABI_TCP_FIN_WAIT_1);
  NOTHING(r); /* the FIN waits for the data */
  assert_int_equal(r->d.fin & ABI_TCB_FIN_SENT, 0);
  r->wnd = 1000;
  rig_in(r, TCP_ACK, 1, 11, 0);
  EXPECT(r, TCP_FIN | TCP_ACK, 11, 1, 20);
  assert_int_equal(r->d.fin & ABI_TCB_FIN_SENT, ABI_TCB_FIN_SENT);
  NOTHING(r);
}

static void test_fin_retransmitted(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 7);
  rig_shutdown(r);
  EXPECT(r, TCP_ACK, 1, 1, 7);
  EXPECT(r, TCP_FIN | TCP_ACK, 8, 1, 0);
  rig_pass(r, 210 * RIG_MS);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 7); /* both in one */
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 8, 0);
  STATE(r, ABI_TCP_FIN_WAIT_1); /* the data only */
  rig_in(r, TCP_ACK, 1, 9, 0);
  STATE(r, ABI_TCP_FIN_WAIT_2);
}

static void test_fin_with_data_in(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 50);
  STATE(r, ABI_TCP_CLOSE_WAIT);
  assert_int_equal(r->rx_tail, 50);
  EXPECT(r, TCP_ACK, 1, 52, 0);
  NOTHING(r);
}

static void test_fin_out_of_order(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 11, 1, 10);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 10);
  STATE(r, ABI_TCP_CLOSE_WAIT);
  EXPECT(r, TCP_ACK, 1, 22, 0);
  NOTHING(r);
}

static void test_fin_again(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_CLOSE_WAIT);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_CLOSE_WAIT);
  NOTHING(r);
}

static void test_time_wait_fin_restarts(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_TIME_WAIT);
  rig_pass(r, 40 * RIG_S);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  EXPECT(r, TCP_ACK, 2, 2, 0);
  rig_pass(r, 59 * RIG_S);
  assert_false(r->closed);
  rig_pass(r, 2 * RIG_S);
  assert_true(r->closed);
}

static void test_time_wait_ignores_rst(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_TIME_WAIT);
  rig_in(r, TCP_RST, 2, 0, 0); /* RFC 1337 */
  STATE(r, ABI_TCP_TIME_WAIT);
  NOTHING(r);
  assert_int_equal(COUNTER(r, rst_ignored), 1);
}

static void test_time_wait_reuse(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.flags = TCP_SYN}};
  rig_to(r, ABI_TCP_TIME_WAIT);
  s.hdr.seq = RIG_PEER + 2;
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 0);
  s.hdr.seq = RIG_PEER + 3;
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 1);
  s.hdr.flags |= TCP_ACK;
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 0);
}

static void test_time_wait_reuse_by_timestamp(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS);
  rig_shutdown(r);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_TIME_WAIT);
  struct tcp_seg_in s = {.segs = 1, .hdr = {.flags = TCP_SYN, .seq = RIG_PEER - 5000}};
  s.hdr.opts.present = TCP_OPT_HAS_TS;
  s.hdr.opts.ts_val = 101; /* RFC 6191: newer, though the sequence number is lower */
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 1);
  s.hdr.opts.ts_val = 100;
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 0);
  s.hdr.seq = RIG_PEER + 100;
  assert_int_equal(tcp_time_wait_reuse(&r->conn, &s), 1);
}

static void test_rst_in_place(void **state) {
  struct rig *r = *state;
  static const struct {
    uint32_t state;
    uint32_t seq;
    uint32_t error;
  } t[] = {{ABI_TCP_ESTABLISHED, 1, ECONNRESET},
           {ABI_TCP_FIN_WAIT_1, 1, ECONNRESET},
           {ABI_TCP_FIN_WAIT_2, 1, ECONNRESET},
           {ABI_TCP_CLOSE_WAIT, 2, EPIPE},
           {ABI_TCP_CLOSING, 2, 0},
           {ABI_TCP_LAST_ACK, 2, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
    rig_init(r);
    rig_to(r, t[i].state);
    rig_in(r, TCP_RST, t[i].seq, 0, 0);
    assert_true(r->closed);
    assert_int_equal(r->d.error, t[i].error);
    assert_int_equal(rig_events(r), EV(TCP_EV_CLOSED) | (t[i].error ? EV(TCP_EV_ERROR) : 0));
    NOTHING(r);
  }
}

static void test_rst_in_window_is_challenged(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_RST, 100, 0, 0); /* RFC 5961 3.2 */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  rig_in(r, TCP_RST, 1, 0, 0); /* the true peer's answer */
  assert_true(r->closed);
}

static void test_rst_outside_window(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_RST, 70000, 0, 0);
  rig_in(r, TCP_RST, 0, 0, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  NOTHING(r);
}

static void test_syn_is_challenged(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_SYN, 10, 0, 0); /* RFC 5961 4.2 */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  NOTHING(r);
}

static void test_challenge_rate(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  for (int i = 0; i < 3000; i++) {
    rig_in(r, TCP_RST, 100, 0, 0);
    rig_skip(r);
  }
  assert_int_equal(COUNTER(r, challenge), 1007); /* 1000 and what the secret says */
  assert_int_equal(COUNTER(r, challenge_limited), 3000 - 1007);
  rig_pass(r, RIG_S);
  rig_in(r, TCP_RST, 100, 0, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
}

static void test_ack_of_the_future(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 1, 500, 20); /* RFC 9293: ACK and drop */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->rx_tail, 0);
  NOTHING(r);
}

static void test_ack_of_the_past(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 1, (uint32_t)-1000, 20); /* within the largest window: old, its data counts */
  assert_int_equal(r->rx_tail, 20);
  rig_skip(r);
  rig_in(r, TCP_ACK, 21, (uint32_t)-70000, 20); /* RFC 5961 5.2 */
  assert_int_equal(r->rx_tail, 20);
  EXPECT(r, TCP_ACK, 1, 21, 0);
}

static void test_no_ack_bit(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, 0, 1, 0, 20);
  assert_int_equal(r->rx_tail, 0);
  NOTHING(r);
}

static void test_abort(void **state) {
  struct rig *r = *state;
  static const struct {
    uint32_t state;
    int rst;
  } t[] = {{ABI_TCP_ESTABLISHED, 1}, {ABI_TCP_FIN_WAIT_1, 1}, {ABI_TCP_FIN_WAIT_2, 1}, {ABI_TCP_CLOSE_WAIT, 1},
           {ABI_TCP_CLOSING, 0},     {ABI_TCP_LAST_ACK, 0},   {ABI_TCP_TIME_WAIT, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(t); i++) { /* RFC 9293 3.10.5 */
    rig_init(r);
    rig_to(r, t[i].state);
    tcp_abort(&r->env, &r->conn, ECONNABORTED, r->now);
    assert_true(r->closed);
    assert_int_equal(r->d.error, ECONNABORTED);
    assert_int_equal(rig_unseen(r), t[i].rst);
    if (t[i].rst)
      assert_int_equal(r->sent[r->seen % RIG_SENT].flags, TCP_RST | TCP_ACK);
  }
}

static void test_close_with_unread(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 10);
  rig_skip(r);
  rig_close(r); /* RFC 2525 2.17 */
  EXPECT(r, TCP_RST | TCP_ACK, 1, 11, 0);
  assert_true(r->closed);
  NOTHING(r);
}

static void test_linger_zero(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_LINGER};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_close(r);
  EXPECT(r, TCP_RST | TCP_ACK, 1, 1, 0);
  assert_true(r->closed);
}

static void test_orphan_data_is_reset(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_close(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 2, 0);
  STATE(r, ABI_TCP_FIN_WAIT_2);
  rig_in(r, TCP_ACK, 1, 2, 5);
  EXPECT(r, TCP_RST | TCP_ACK, 2, 1, 0);
  assert_true(r->closed);
  assert_int_equal(COUNTER(r, orphan_data), 1);
}

static void test_orphan_fin_wait_2_ends(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_close(r);
  rig_in(r, TCP_ACK, 1, 2, 0);
  rig_skip(r);
  rig_pass(r, 61 * RIG_S);
  assert_true(r->closed);
  NOTHING(r);
}

static void test_fin_wait_2_of_an_app_stays(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_FIN_WAIT_2);
  rig_pass(r, 1000 * RIG_S);
  STATE(r, ABI_TCP_FIN_WAIT_2);
  rig_close(r); /* now it is an orphan */
  rig_pass(r, 61 * RIG_S);
  assert_true(r->closed);
}

static void test_orphan_gives_up_early(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 10);
  rig_close(r);
  rig_pass(r, 400 * RIG_S);
  assert_true(r->closed);
  assert_int_equal(COUNTER(r, rto), 8);
}

static void test_reply_closed(void **state) {
  (void)state;
  struct tcp_seg_in s = {.segs = 1, .len = 10};
  struct tcp_seg_out o;
  s.hdr.seq = 1000;
  s.hdr.ack = 77;
  s.hdr.flags = TCP_RST;
  assert_int_equal(tcp_reply_closed(&s, &o), 0);
  s.hdr.flags = TCP_ACK;
  assert_int_equal(tcp_reply_closed(&s, &o), 1);
  assert_int_equal(o.flags, TCP_RST);
  assert_int_equal(o.seq, 77);
  s.hdr.flags = TCP_SYN | TCP_FIN;
  assert_int_equal(tcp_reply_closed(&s, &o), 1);
  assert_int_equal(o.flags, TCP_RST | TCP_ACK);
  assert_int_equal(o.seq, 0);
  assert_int_equal(o.ack, 1012);
}

static void test_calls_after_the_end(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  tcp_abort(&r->env, &r->conn, ECONNABORTED, r->now);
  rig_skip(r);
  tcp_abort(&r->env, &r->conn, ECONNABORTED, r->now); /* one last event only: op_event asserts it */
  tcp_close(&r->env, &r->conn, 0, r->now);
  rig_in_raw(r, TCP_ACK, 1, 1, 10, 1);
  NOTHING(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_active_close),
      RIG_TEST(test_passive_close),
      RIG_TEST(test_simultaneous_close),
      RIG_TEST(test_fin_acked_with_fin),
      RIG_TEST(test_fin_behind_data),
      RIG_TEST(test_fin_retransmitted),
      RIG_TEST(test_fin_with_data_in),
      RIG_TEST(test_fin_out_of_order),
      RIG_TEST(test_fin_again),
      RIG_TEST(test_time_wait_fin_restarts),
      RIG_TEST(test_time_wait_ignores_rst),
      RIG_TEST(test_time_wait_reuse),
      RIG_TEST(test_time_wait_reuse_by_timestamp),
      RIG_TEST(test_rst_in_place),
      RIG_TEST(test_rst_in_window_is_challenged),
      RIG_TEST(test_rst_outside_window),
      RIG_TEST(test_syn_is_challenged),
      RIG_TEST(test_challenge_rate),
      RIG_TEST(test_ack_of_the_future),
      RIG_TEST(test_ack_of_the_past),
      RIG_TEST(test_no_ack_bit),
      RIG_TEST(test_abort),
      RIG_TEST(test_close_with_unread),
      RIG_TEST(test_linger_zero),
      RIG_TEST(test_orphan_data_is_reset),
      RIG_TEST(test_orphan_fin_wait_2_ends),
      RIG_TEST(test_fin_wait_2_of_an_app_stays),
      RIG_TEST(test_orphan_gives_up_early),
      RIG_TEST(test_reply_closed),
      RIG_TEST(test_calls_after_the_end),
  };
  return cmocka_run_group_tests_name("tcp_close", tests, NULL, NULL);
}
