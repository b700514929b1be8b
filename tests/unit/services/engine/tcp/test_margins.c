/*
 * Margins: what one byte, one microsecond or one segment more or less changes, and what each end of a range does. The
 * stories are told by the other tests of this room; here stand the numbers that they pass over: of output, windows and
 * answers. Those of losses are in test_margins_loss.c, those of a connection's beginning and end in
 * test_margins_life.c.
 */
#include "tcp_rig.h"

static void test_small_segment(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  uint64_t acks = COUNTER(r, acks_out);
  r->now += 7 * RIG_MS;
  rig_write(r, 1);
  EXPECT(r, TCP_ACK, 1, 1, 1);
  assert_true(LAST(r)->flags & TCP_PSH);
  assert_int_equal(COUNTER(r, acks_out), acks); /* it is data */
  assert_int_equal(r->conn.last_tx, r->now);
}

static void test_fin_is_no_data(void **state) {
  struct rig *r = *state;
  r->env.cfg.ecn = TCP_ECN_PASSIVE;
  rig_start(r, 0);
  r->d.nego |= ABI_TCB_ECN;
  usec_t last = r->conn.last_tx;
  r->now += 7 * RIG_MS;
  rig_shutdown(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  assert_false(LAST(r)->flags & TCP_PSH);
  assert_int_equal(LAST(r)->tos & 3, 0); /* RFC 3168 6.1.4: not ECT */
  assert_int_equal(r->conn.last_tx, last);
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_WRITABLE), 0); /* no byte has left the fifo */
}

static void test_one_byte_is_ect(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->d.nego |= ABI_TCB_ECN;
  rig_write(r, 1);
  EXPECT(r, TCP_ACK, 1, 1, 1);
  assert_int_equal(LAST(r)->tos & 3, 2); /* ECT(0) */
}

static void test_tos_of_a_syn(void **state) {
  struct rig *r = *state;
  r->d.opt.tos = 0x1f; /* an app may not set the low two, RFC 3168 */
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_int_equal(LAST(r)->tos, 0x1c);
}

static void test_acked_byte_is_room(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  rig_write(r, 1);
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(r->tx_head, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_WRITABLE), EV(TCP_EV_WRITABLE));
  assert_int_equal(r->conn.b->stuck_at, 0);
  assert_int_equal(r->conn.b->due[TCP_T_RTO], 0);
}

/* Room for one segment more where a third of the window would be more: it waits, but not with two segments out, whose
 * ACK the peer might delay. */
static void test_defer(void **state) {
  struct rig *r = *state;
  for (uint32_t out = 2; out <= 3; out++) {
    rig_init(r);
    rig_start(r, RIG_WS);
    rig_in(r, TCP_ACK, 1, 1, 0);
    r->gso = 10 * RIG_MSS;
    r->conn.cwnd = out * RIG_MSS;
    rig_write(r, 60 * RIG_MSS);
    rig_skip(r);
    assert_int_equal(tcp_flight(&r->conn), out * RIG_MSS);
    r->conn.cwnd = 20 * RIG_MSS;
    r->d.snd_wnd = (out + 1) * RIG_MSS;
    (void)tcp_output(&r->env, &r->conn, r->now);
    if (out == 2)
      EXPECT(r, TCP_ACK, 1 + 2 * RIG_MSS, 1, RIG_MSS);
    NOTHING(r);
  }
}

/* A cork lets what fills a segment go, and a window of one segment is no reason to wait. */
static void test_cork_of_one_segment(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->d.opt.flags = ABI_OPT_CORK;
  r->wnd = RIG_MSS;
  rig_in(r, TCP_ACK, 1, 1, 0);
  r->d.snd_wnd = RIG_MSS;
  rig_write(r, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], r->now + 200 * RIG_MS);
  rig_init(r);
  rig_start(r, 0);
  r->d.opt.flags = ABI_OPT_CORK;
  r->d.snd_wnd = RIG_MSS - 1; /* less than a segment: the persist timer's own time */
  r->conn.rto = 777 * RIG_MS;
  rig_write(r, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], r->now + 777 * RIG_MS);
}

/* With a window that is full not even one byte goes, and with one byte of it free that one. */
static void test_no_room(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->conn.cwnd = 10;
  rig_write(r, 10);
  rig_skip(r);
  rig_write(r, 1);
  NOTHING(r);
  r->conn.cwnd = 11;
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 11, 1, 1);
}

static void test_window_reopens(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->wnd = 0;
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_write(r, 100);
  NOTHING(r);
  rig_pass(r, 20 * RIG_S);
  rig_skip(r);
  assert_true(r->conn.persists > 1);
  assert_true(r->conn.probes > 1);
  r->wnd = 1000;
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  assert_int_equal(r->conn.persists, 0);
  assert_int_equal(r->conn.probes, 0);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], 0);
}

/* A window of one byte is small but open: no probe, the byte. */
static void test_window_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  rig_write(r, 1);
  r->wnd = 1;
  rig_in(r, TCP_ACK, 1, 2, 0);
  rig_skip(r);
  rig_write(r, 100);
  NOTHING(r);
  rig_pass(r, r->conn.b->due[TCP_T_PERSIST] - r->now);
  EXPECT(r, TCP_ACK, 2, 1, 1);
  assert_int_equal(r->conn.persists, 0);
  assert_int_equal(COUNTER(r, zero_window_probes), 0);
}

/* The delayed ACK's timer: no conversation any more. */
static void test_delack_ends_pingpong(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  r->conn.pingpong = 1;
  r->conn.quickack = 0;
  rig_in(r, TCP_ACK, 1, 1, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_DELACK], r->now + 40 * RIG_MS);
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(r->conn.pingpong, 0);
}

/* An unacceptable segment without data is answered once in 50 ms, the first at once. */
static void test_answers_in_time(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  rig_in(r, TCP_ACK, 0, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  r->now += 49999;
  rig_in(r, TCP_ACK, 0, 1, 0);
  NOTHING(r);
  r->now += 1;
  rig_in(r, TCP_ACK, 0, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
}

/* A duplicate of one byte is one, and is counted. */
static void test_duplicate_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, RIG_SACK);
  rig_in(r, TCP_ACK, 1, 1, 1);
  rig_skip(r);
  uint64_t dups = COUNTER(r, dup_in);
  rig_in(r, TCP_ACK, 1, 1, 1);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1);
  assert_int_equal(COUNTER(r, dup_in), dups + 1);
  rig_in(r, TCP_ACK, 3, 1, 1); /* beyond a hole */
  EXPECT(r, TCP_ACK, 1, 2, 0);
  rig_in(r, TCP_ACK, 3, 1, 1);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(COUNTER(r, dup_in), dups + 2);
  assert_int_equal(LAST(r)->opts.n_sack, 2);
}

static void test_each_option_told(void **state) {
  struct rig *r = *state;
  static const uint8_t told[][2] = {{0, 0}, {ABI_TCB_TS, 1}, {ABI_TCB_SACK, 2}, {ABI_TCB_WSCALE, 4}, {ABI_TCB_ECN, 8}};
  struct abi_tcp_more m;
  rig_start(r, 0);
  for (unsigned i = 0; i < ARRAY_LEN(told); i++) {
    r->d.nego = told[i][0];
    tcp_figures_more(&r->env, &r->conn, &m);
    assert_int_equal(m.options, told[i][1]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_small_segment),       RIG_TEST(test_fin_is_no_data),
      RIG_TEST(test_one_byte_is_ect),     RIG_TEST(test_tos_of_a_syn),
      RIG_TEST(test_acked_byte_is_room),  RIG_TEST(test_defer),
      RIG_TEST(test_cork_of_one_segment), RIG_TEST(test_window_reopens),
      RIG_TEST(test_window_of_one),       RIG_TEST(test_delack_ends_pingpong),
      RIG_TEST(test_answers_in_time),     RIG_TEST(test_duplicate_of_one),
      RIG_TEST(test_each_option_told),    RIG_TEST(test_no_room),
  };
  return cmocka_run_group_tests_name("tcp_margins", tests, NULL, NULL);
}
