/*
 * Receiving: in order, out of order, duplicates, SACK and DSACK, when an ACK goes out, the receive window, PAWS.
 */
#include "tcp_rig.h"

/* Past the quick ACKs of the start. */
static void calm(struct rig *r) {
  r->conn.quickack = 0;
}

static void test_quickack_then_every_second(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 101, 0); /* at once: the peer is in slow start */
  calm(r);
  r->conn.rcv_mss = 1460;
  rig_in(r, TCP_ACK, 101, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1561, 1, 1460);
  EXPECT(r, TCP_ACK, 1, 3021, 0);
  NOTHING(r);
}

/* After a hole, as at the start: each segment by itself, sixteen of them; then every second again. */
static void test_quickack_after_a_hole(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  calm(r);
  r->conn.rcv_mss = 1460;
  rig_in(r, TCP_ACK, 1461, 1, 1460);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 1460);
  EXPECT(r, TCP_ACK, 1, 2921, 0);
  for (uint32_t i = 2; i < 18; i++) {
    rig_in(r, TCP_ACK, 1 + i * 1460, 1, 1460);
    EXPECT(r, TCP_ACK, 1, 1461 + i * 1460, 0);
  }
  rig_in(r, TCP_ACK, 1 + 18 * 1460, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1 + 19 * 1460, 1, 1460);
  EXPECT(r, TCP_ACK, 1, 1 + 20 * 1460, 0);
  NOTHING(r);
}

static void test_delayed_ack(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  calm(r);
  rig_in(r, TCP_ACK, 1, 1, 100);
  NOTHING(r);
  rig_pass(r, 40 * RIG_MS - 1);
  NOTHING(r);
  rig_pass(r, 1);
  EXPECT(r, TCP_ACK, 1, 101, 0);
  rig_pass(r, RIG_S);
  NOTHING(r);
}

static void test_ack_rides_on_data(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  calm(r);
  rig_in(r, TCP_ACK, 1, 1, 100);
  rig_write(r, 30);
  EXPECT(r, TCP_ACK, 1, 101, 30);
  rig_pass(r, 100 * RIG_MS);
  NOTHING(r); /* no delayed ACK is left */
  assert_int_equal(r->conn.pingpong, 1);
}

static void test_merged_segment_one_ack(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  calm(r);
  for (uint32_t i = 0; i < 3; i++)
    rig_in_raw(r, TCP_ACK, 1 + i * 14600, 1, 14600, 10); /* a burst of three merged segments */
  NOTHING(r);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 43801, 0);
  NOTHING(r);
  assert_int_equal(r->conn.rcv_mss, 1460); /* learnt from the wire segments inside */
  assert_int_equal(COUNTER(r, wire_segs_in), 31);
}

static void test_option_quickack(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_QUICKACK};
  rig_passive(r, 0);
  calm(r);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_in(r, TCP_ACK, 1, 1, 1);
  EXPECT(r, TCP_ACK, 1, 2, 0);
}

static void test_out_of_order(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  calm(r);
  rig_in(r, TCP_ACK, 101, 1, 100);
  EXPECT(r, TCP_ACK, 1, 1, 0); /* RFC 5681 4.2: at once */
  assert_int_equal(LAST(r)->opts.n_sack, 1);
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 101);
  assert_int_equal(LAST(r)->opts.sack[0].r - RIG_PEER, 201);
  rig_in(r, TCP_ACK, 301, 1, 100);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 2); /* the latest first: RFC 2018 4 */
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 301);
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 201, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1);
  assert_int_equal(r->rx_tail, 200);
  rig_in(r, TCP_ACK, 201, 1, 100);
  EXPECT(r, TCP_ACK, 1, 401, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 0);
  assert_int_equal(r->rx_tail, 400);
  NOTHING(r);
}

static void test_sack_limited_by_timestamps(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK | RIG_TS);
  for (uint32_t i = 1; i <= 5; i++)
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 100);
  assert_int_equal(r->sent[(r->n_sent - 1) % RIG_SENT].opts.n_sack, 3);
  int size = tcp_hdr_size(&r->sent[(r->n_sent - 1) % RIG_SENT].opts);
  assert_in_range(size, 20, 60);
}

static void test_no_sack_when_not_agreed(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_in(r, TCP_ACK, 101, 1, 100);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(LAST(r)->opts.present, 0);
}

static uint32_t durable(const struct rig *r) {
  uint32_t n = 0;
  for (unsigned i = 0; i < ABI_TCB_OOO; i++)
    n += r->d.ooo[i].l != r->d.ooo[i].r;
  return n;
}

/* More than eight lie in a log, which goes home when the last hole is filled. */
static void test_ranges_in_a_log(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  const uint32_t n = 60;
  rig_passive(r, RIG_SACK);
  for (uint32_t i = n; i >= 1; i--) { /* 101 … 201 is the lowest, 1 … 101 never came */
    rig_in(r, TCP_ACK, i * 200 - 99, 1, 100);
    const struct tcp_opts *o = &r->sent[(r->n_sent - 1) % RIG_SENT].opts;
    assert_int_equal(o->n_sack, HS_MIN(n + 1 - i, 4u));
    for (uint32_t k = 0; k < o->n_sack; k++) /* RFC 2018 4: the latest first, then those before it */
      assert_int_equal(o->sack[k].l - RIG_PEER, (i + k) * 200 - 99);
    assert_int_equal(tcp_conn_check(&r->env, c), 0);
  }
  rig_skip(r);
  assert_int_equal(COUNTER(r, ooo_full), 0);
  assert_int_equal(COUNTER(r, ooo_logs), 1);
  assert_int_equal(r->env.logs_out, 1);
  assert_int_equal(c->b->ooo_log->n, n);
  assert_int_equal(durable(r), ABI_TCB_OOO);
  for (uint32_t i = 0; i < n; i++) { /* hole by hole; each in one of the log takes the range behind it along */
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 100);
    rig_skip(r);
    assert_int_equal(r->rx_tail, (i + 1) * 200);
    assert_int_equal(tcp_conn_check(&r->env, c), 0);
  }
  assert_int_equal(durable(r), 0);
  assert_null(c->b->ooo_log);
  assert_int_equal(r->env.logs_out, 0);
  assert_true(tcp_ooo_empty(c));
}

/* What a successor finds of a log's ranges: eight. The others' bytes come again; nothing is wrong or stuck. */
static void test_log_dies(void **state) {
  struct rig *r = *state;
  const uint32_t n = 20;
  rig_passive(r, RIG_SACK);
  for (uint32_t i = 1; i <= n; i++)
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 100);
  tcp_env_memory(&r->env, r->logs, sizeof r->logs); /* with the process */
  tcp_env_busy(&r->env, r->busy, 64);
  assert_int_equal(rig_adopt(r), 0);
  rig_skip(r);
  assert_int_equal(durable(r), ABI_TCB_OOO);
  assert_null(r->conn.b->ooo_log);
  for (uint32_t i = 0; i <= n; i++) {
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 200);
    rig_skip(r);
  }
  assert_int_equal(r->rx_tail, (n + 1) * 200);
  assert_int_equal(tcp_conn_check(&r->env, &r->conn), 0);
}

/* A log has an end; what does not fit is as if it had not come. A reset gives the log back. */
static void test_log_full(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  rig_passive(r, RIG_SACK);
  for (uint32_t i = 1; i <= TCP_OOO_LOG + 3; i++) {
    rig_in(r, TCP_ACK, i * 20 + 1, 1, 10);
    rig_skip(r);
  }
  assert_int_equal(COUNTER(r, ooo_full), 3);
  assert_int_equal(c->b->ooo_log->n, TCP_OOO_LOG);
  rig_in(r, TCP_ACK, 31, 1, 10); /* between two of them: there is room again */
  rig_in(r, TCP_ACK, (TCP_OOO_LOG + 1) * 20 + 1, 1, 10);
  assert_int_equal(COUNTER(r, ooo_full), 3);
  assert_int_equal(c->b->ooo_log->n, TCP_OOO_LOG);
  assert_int_equal(tcp_conn_check(&r->env, c), 0);
  rig_skip(r);
  rig_in(r, TCP_RST, 1, 0, 0);
  assert_int_equal(r->env.logs_out, 0);
}

/* Receivers leave a quarter of the logs to senders. */
static void test_logs_for_senders(void **state) {
  static uint64_t memory[8 * TCP_LOG_SIZE / 8];
  struct rig *r = *state;
  void *log[8];
  tcp_env_memory(&r->env, memory, sizeof memory);
  for (unsigned i = 0; i < 6; i++)
    assert_non_null(log[i] = tcp_log_get(&r->env, 1));
  assert_null(tcp_log_get(&r->env, 1));
  for (unsigned i = 6; i < 8; i++)
    assert_non_null(log[i] = tcp_log_get(&r->env, 0));
  assert_null(tcp_log_get(&r->env, 0));
  for (unsigned i = 0; i < 8; i++) {
    for (unsigned k = 0; k < i; k++)
      assert_ptr_not_equal(log[i], log[k]);
    tcp_log_put(&r->env, log[i]);
  }
  assert_ptr_equal(tcp_log_get(&r->env, 1), log[7]);
  assert_int_equal(r->env.logs_out, 1);
}

static void test_ranges_run_out(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  tcp_env_memory(&r->env, NULL, 0); /* no log is to be had: the durable ones are all */
  for (uint32_t i = 1; i <= ABI_TCB_OOO + 2; i++)
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 100);
  assert_int_equal(COUNTER(r, ooo_full), 2);
  assert_int_equal(COUNTER(r, ooo_logs), 0);
  rig_skip(r);
  for (uint32_t i = 0; i <= ABI_TCB_OOO + 2; i++) { /* the peer sends it all again: nothing is lost */
    rig_in(r, TCP_ACK, i * 200 + 1, 1, 200);
    rig_skip(r);
  }
  assert_int_equal(r->rx_tail, (ABI_TCB_OOO + 3) * 200);
  NOTHING(r);
}

static void test_duplicate_is_reported(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  rig_in(r, TCP_ACK, 1, 1, 100);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 101, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1); /* RFC 2883 4.1 */
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 1);
  assert_int_equal(LAST(r)->opts.sack[0].r - RIG_PEER, 101);
  rig_in(r, TCP_ACK, 51, 1, 100); /* half of it is new */
  EXPECT(r, TCP_ACK, 1, 151, 0);
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 51);
  assert_int_equal(LAST(r)->opts.sack[0].r - RIG_PEER, 101);
  assert_int_equal(r->rx_tail, 150);
  NOTHING(r);
}

static void test_duplicate_beyond_hole_is_reported(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  rig_in(r, TCP_ACK, 101, 1, 100);
  rig_skip(r);
  rig_in(r, TCP_ACK, 121, 1, 50);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 2); /* RFC 2883 4.2: DSACK, then the range that holds it */
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 121);
  assert_int_equal(LAST(r)->opts.sack[1].l - RIG_PEER, 101);
}

static void test_overlaps(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  rig_in(r, TCP_ACK, 101, 1, 100);
  rig_in(r, TCP_ACK, 151, 1, 100);
  rig_in(r, TCP_ACK, 301, 1, 50);
  rig_in(r, TCP_ACK, 81, 1, 300); /* swallows all */
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 1, 90);
  assert_int_equal(r->rx_tail, 380);
  EXPECT(r, TCP_ACK, 1, 381, 0);
  NOTHING(r);
}

static void test_memory_short(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  calm(r);
  r->place_max = 60;
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 100); /* what did not fit was not received, nor was the FIN */
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 61, 0);
  r->place_max = UINT32_MAX;
  rig_in(r, TCP_FIN | TCP_ACK, 61, 1, 40);
  EXPECT(r, TCP_ACK, 1, 102, 0);
  STATE(r, ABI_TCP_CLOSE_WAIT);
}

static void test_window_closes_and_opens(void **state) {
  struct rig *r = *state;
  r->rx_limit = 4000;
  rig_passive(r, 0);
  calm(r);
  rig_in(r, TCP_ACK, 1, 1, 4000);
  EXPECT(r, TCP_ACK, 1, 4001, 0);
  assert_int_equal(LAST(r)->wnd, 0);
  rig_read(r, 100);
  NOTHING(r); /* RFC 9293 3.8.6.2.2: too little to tell */
  rig_read(r, 2900);
  EXPECT(r, TCP_ACK, 1, 4001, 0);
  assert_int_equal(LAST(r)->wnd, 3000);
  NOTHING(r);
}

static void test_window_never_shrinks(void **state) {
  struct rig *r = *state;
  r->rx_limit = 8000;
  rig_passive(r, 0);
  seq32_t edge = r->d.rcv_adv;
  r->rx_limit = 2000; /* memory got short */
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 101, 0);
  assert_int_equal(r->d.rcv_adv, edge);
  assert_int_equal(LAST(r)->wnd, 7900);
}

static void test_beyond_the_window(void **state) {
  struct rig *r = *state;
  r->rx_limit = 1000;
  rig_passive(r, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 1500); /* cut at the edge, the FIN with it */
  assert_int_equal(r->rx_tail, 1000);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 1001, 0);
  rig_in(r, TCP_ACK, 1001, 1, 10); /* a probe of the closed window */
  EXPECT(r, TCP_ACK, 1, 1001, 0);
  assert_int_equal(LAST(r)->wnd, 0);
  assert_int_equal(r->rx_tail, 1000);
  NOTHING(r);
}

static void test_ack_counts_while_window_closed(void **state) {
  struct rig *r = *state;
  r->rx_limit = 1000;
  rig_passive(r, 0);
  rig_write(r, 50);
  rig_in(r, TCP_ACK, 1, 1, 1000);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1001, 51, 20); /* RFC 9293 3.10.7.4: the ACK is processed, the text is not */
  assert_int_equal(r->tx_head, 50);
  assert_int_equal(r->rx_tail, 1000);
}

static void test_scaled_window(void **state) {
  struct rig *r = *state;
  r->env.cfg.rcv_buf_max = 1u << 20;
  r->rx_limit = 1u << 20;
  rig_passive(r, RIG_WS);
  assert_int_equal(r->d.rcv_wscale, 5);
  rig_in(r, TCP_ACK, 1, 1, 33);
  EXPECT(r, TCP_ACK, 1, 34, 0);
  assert_int_equal(LAST(r)->wnd, ((1u << 20) - 33) >> 5);
  assert_int_equal(r->d.rcv_adv - (RIG_PEER + 34), (uint32_t)LAST(r)->wnd << 5); /* stored as it was promised */
}

static void test_few_updates_for_a_bulk_reader(void **state) {
  struct rig *r = *state;
  r->env.cfg.rcv_buf_max = 1u << 20;
  r->rx_limit = 1u << 20;
  rig_passive(r, RIG_WS);
  uint32_t seq = 1;
  for (int i = 0; i < 8; i++, seq += 64240) {
    rig_in_raw(r, TCP_ACK, seq, 1, 64240, 44);
    (void)tcp_output(&r->env, &r->conn, r->now);
  }
  rig_skip(r);
  for (int i = 0; i < 8; i++)
    rig_read(r, 64240); /* half a buffer is free: nobody is waiting */
  assert_in_range(rig_unseen(r), 0, 2);
}

static void test_paws(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS);
  r->ts_val = 200;
  rig_in(r, TCP_ACK, 1, 1, 10);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(LAST(r)->opts.ts_ecr, 200);
  r->ts_val = 150;
  rig_in(r, TCP_ACK, 11, 1, 10); /* RFC 7323 5.3: old */
  assert_int_equal(r->rx_tail, 10);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(COUNTER(r, paws), 1);
  r->now += 25ull * 86400 * RIG_S; /* 24 days later it is no evidence any more */
  rig_in(r, TCP_ACK, 11, 1, 10);
  assert_int_equal(r->rx_tail, 20);
}

static void test_missing_timestamp(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS);
  r->ts_val = 0;
  rig_in(r, TCP_ACK, 1, 1, 10);
  assert_int_equal(r->rx_tail, 0);
  NOTHING(r);
  rig_in(r, TCP_RST, 1, 0, 0); /* but a RST need not have one */
  assert_true(r->closed);
}

static void test_ts_recent_from_the_acked_segment(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS);
  calm(r);
  r->ts_val = 300;
  rig_in(r, TCP_ACK, 101, 1, 100); /* beyond a hole: does not count (RFC 7323 4.3) */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(LAST(r)->opts.ts_ecr, 100);
  r->ts_val = 310;
  rig_in(r, TCP_ACK, 1, 1, 100);
  EXPECT(r, TCP_ACK, 1, 201, 0);
  assert_int_equal(LAST(r)->opts.ts_ecr, 310);
}

static void test_no_data_after_fin(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_CLOSE_WAIT);
  rig_in(r, TCP_ACK, 2, 1, 10);
  assert_int_equal(r->rx_tail, 0);
  STATE(r, ABI_TCP_CLOSE_WAIT);
  NOTHING(r);
}

static void test_fast_path(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_TS | RIG_SACK);
  rig_in(r, TCP_ACK | TCP_PSH, 1, 1, 500);
  assert_int_equal(COUNTER(r, fast_data), 1);
  rig_skip(r);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK, 1, 501, 10);
  rig_in(r, TCP_ACK, 501, 11, 0);
  assert_int_equal(COUNTER(r, fast_ack), 1);
  assert_int_equal(r->tx_head, 10);
  NOTHING(r);
}

static void test_old_ack_probe_answered_seldom(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  for (int i = 0; i < 5; i++)
    rig_in(r, TCP_ACK, 0, 1, 0); /* keep-alive probes: one answer per 50 ms, no ACK war */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_pass(r, 60 * RIG_MS);
  rig_in(r, TCP_ACK, 0, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_quickack_then_every_second),
      RIG_TEST(test_quickack_after_a_hole),
      RIG_TEST(test_delayed_ack),
      RIG_TEST(test_ack_rides_on_data),
      RIG_TEST(test_merged_segment_one_ack),
      RIG_TEST(test_option_quickack),
      RIG_TEST(test_out_of_order),
      RIG_TEST(test_sack_limited_by_timestamps),
      RIG_TEST(test_no_sack_when_not_agreed),
      RIG_TEST(test_ranges_in_a_log),
      RIG_TEST(test_log_dies),
      RIG_TEST(test_log_full),
      RIG_TEST(test_logs_for_senders),
      RIG_TEST(test_ranges_run_out),
      RIG_TEST(test_duplicate_is_reported),
      RIG_TEST(test_duplicate_beyond_hole_is_reported),
      RIG_TEST(test_overlaps),
      RIG_TEST(test_memory_short),
      RIG_TEST(test_window_closes_and_opens),
      RIG_TEST(test_window_never_shrinks),
      RIG_TEST(test_beyond_the_window),
      RIG_TEST(test_ack_counts_while_window_closed),
      RIG_TEST(test_scaled_window),
      RIG_TEST(test_few_updates_for_a_bulk_reader),
      RIG_TEST(test_paws),
      RIG_TEST(test_missing_timestamp),
      RIG_TEST(test_ts_recent_from_the_acked_segment),
      RIG_TEST(test_no_data_after_fin),
      RIG_TEST(test_fast_path),
      RIG_TEST(test_old_ack_probe_answered_seldom),
  };
  return cmocka_run_group_tests_name("tcp_recv", tests, NULL, NULL);
}
