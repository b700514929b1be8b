/*
 * RACK-TLP (RFC 8985): what is in the network, losses by time, the window that DSACKs widen, tail loss probes that tell
 * of losses; and the same without memory for the list (tcp_env_memory).
 */
#include "tcp_rig.h"

/* Ten full segments out, a millisecond apart, with a round trip of 40 ms known. */
static void ten_out(struct rig *r) {
  r->wnd = 65535;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 40000;
  r->conn.min_rtt = 40000;
  for (int i = 0; i < 10; i++) {
    rig_write(r, RIG_MSS);
    r->now += RIG_MS;
  }
  assert_int_equal(rig_unseen(r), 10);
  rig_skip(r);
}

static uint32_t at(uint32_t n) {
  return 1 + n * RIG_MSS;
}

static void sack(struct rig *r, uint32_t first, uint32_t last) {
  r->sack[r->n_sack++] = (struct tcp_sack){at(first), at(last)};
}

/* 6.2 step 5: one SACK, and the reordering window of a quarter of the least round trip decides. */
static void test_time_decides(void **state) {
  struct rig *r = *state;
  ten_out(r);
  rig_pass(r, 30 * RIG_MS);
  sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0); /* the first left a ms before it: lost when it is 10 ms late */
  NOTHING(r);
  rig_pass(r, 8 * RIG_MS);
  NOTHING(r);
  rig_pass(r, 5 * RIG_MS); /* a sixteenth of a round trip later at most: what is remembered together counts as young */
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
  NOTHING(r);
  assert_int_equal(COUNTER(r, rto), 0);
}

/* 6.2 step 4: three SACKed without reordering seen: no window. What left later is not lost. */
static void test_three_decide(void **state) {
  struct rig *r = *state;
  ten_out(r);
  rig_pass(r, 30 * RIG_MS);
  sack(r, 1, 2);
  sack(r, 3, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
  assert_int_equal(r->conn.b->lost, RIG_MSS); /* the third segment; 5 … 9 may be on their way */
  assert_int_equal(tcp_loss_pipe(&r->conn), 6 * RIG_MSS);
}

/* A retransmission is lost when what left after it arrives: no RTO, and no undo. */
static void test_lost_retransmission(void **state) {
  struct rig *r = *state;
  ten_out(r);
  rig_write(r, 20 * RIG_MSS);
  rig_pass(r, 30 * RIG_MS);
  sack(r, 1, 10);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
  assert_true(rig_unseen(r) > 0); /* new data, after it */
  rig_skip(r);
  rig_pass(r, 45 * RIG_MS);
  sack(r, 1, 11);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
  assert_int_equal(COUNTER(r, rexmit_lost), 1);
  assert_int_equal(COUNTER(r, rto), 0);
}

/* 6.2 step 4: a DSACK widens the window once per round trip; sixteen recoveries without one narrow it again. */
static void test_dsack_widens(void **state) {
  struct rig *r = *state;
  ten_out(r);
  rig_pass(r, 30 * RIG_MS);
  r->conn.reo_seen = 1;
  assert_int_equal(tcp_rack_window(&r->conn), 10000);
  sack(r, 0, 1);
  rig_in(r, TCP_ACK, 1, at(1), 0);
  assert_int_equal(tcp_rack_window(&r->conn), 20000);
  sack(r, 0, 1);
  rig_in(r, TCP_ACK, 1, at(1), 0); /* of the same round */
  assert_int_equal(tcp_rack_window(&r->conn), 20000);
  rig_in(r, TCP_ACK, 1, at(10), 0);
  for (int i = 0; i < 5; i++)
    tcp_rack_dsack(&r->conn);
  assert_true(tcp_rack_window(&r->conn) <= r->conn.srtt8 / 8); /* never more than a round trip */
  for (int i = 0; i < 16; i++)
    tcp_rack_recovery(&r->conn);
  assert_int_equal(r->conn.reo_mult, 1);
}

static void probe(struct rig *r) {
  r->wnd = 65535;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 40000;
  rig_write(r, 3 * RIG_MSS);
  rig_skip(r);
  rig_pass(r, 80 * RIG_MS);
  EXPECT(r, TCP_ACK, at(2), 1, RIG_MSS);
  NOTHING(r);
}

/* 7.4.2: the probe was needed: what it repaired was a loss, and the window says so. */
static void test_probe_repairs(void **state) {
  struct rig *r = *state;
  probe(r);
  uint32_t cwnd = r->conn.cwnd;
  rig_write(r, RIG_MSS); /* its ACK covers more than the probe */
  rig_skip(r);
  rig_pass(r, 40 * RIG_MS);
  rig_in(r, TCP_ACK, 1, at(4), 0);
  assert_int_equal(COUNTER(r, tail_losses), 1);
  assert_true(r->conn.cwnd < cwnd);
}

/* The original had arrived too: a DSACK, and nothing was lost. */
static void test_probe_was_needless(void **state) {
  struct rig *r = *state;
  probe(r);
  uint32_t cwnd = r->conn.cwnd;
  sack(r, 2, 3);
  rig_in(r, TCP_ACK, 1, at(3), 0);
  rig_write(r, RIG_MSS);
  rig_in(r, TCP_ACK, 1, at(4), 0);
  assert_int_equal(COUNTER(r, tail_losses), 0);
  assert_true(r->conn.cwnd >= cwnd);
}

/* 7.3: the RTO counts from the probe on. */
static void test_probe_restarts_rto(void **state) {
  struct rig *r = *state;
  probe(r);
  assert_true(r->conn.b->due[TCP_T_RTO] >= r->now + r->conn.rto);
}

/* Three losses of thirty, with a log, with the two entries of the connection, and again and again: the same end. */
static void test_without_memory(void **state) {
  for (int memory = 0; memory < 2; memory++) {
    struct rig *r = *state;
    rig_init(r);
    if (!memory)
      tcp_env_memory(&r->env, NULL, 0);
    ten_out(r);
    sack(r, 1, 4);
    sack(r, 5, 8);
    rig_in(r, TCP_ACK, 1, 1, 0);
    EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
    for (int i = 0; i < 60 && r->conn.snd_una != r->d.snd_max; i++) {
      rig_pass(r, 40 * RIG_MS);
      uint32_t have = r->conn.snd_una - r->d.iss; /* the peer gets what was sent again, one by one */
      rig_in(r, TCP_ACK, 1, have == 1 ? at(4) : have == at(4) ? at(8) : at(10), 0);
      rig_skip(r);
      NOTHING(r);
    }
    assert_int_equal(r->conn.snd_una, r->d.snd_max);
    assert_int_equal(r->conn.n_sent, 0);
    assert_null(r->conn.b->sent_log);
    assert_int_equal(COUNTER(r, sent_log_none) == 0, memory);
  }
}

/* The list against an array of cells with the time each was last sent: what is in no entry is what the twin holds for
 * lost, and what the list lets go by time is never younger. */
static void test_list_against_cells(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  enum { CELLS = 64 };
  uint8_t out[CELLS] = {0};
  uint32_t x = 7;
  int full = 0;
  rig_passive(r, RIG_SACK);
  seq32_t base = c->snd_una;
  r->d.snd_max = c->snd_nxt = base + CELLS * 100;
  for (int i = 0; i < 40000; i++) {
    x = x * 1664525u + 1013904223u;
    uint32_t from = (x >> 8) % CELLS, n = HS_MIN((x >> 16) % 6 + 1, CELLS - from);
    r->now += (x >> 24) % 3 * 1000;
    if ((x >> 30) == 0) {
      tcp_sent_cut(&r->env, c, base + from * 100, base + (from + n) * 100);
      memset(out + from, 0, n);
    } else {
      tcp_sent_add(&r->env, c, base + from * 100, base + (from + n) * 100, 1, r->now);
      memset(out + from, 1, n);
    }
    uint32_t twin = 0;
    for (uint32_t k = 0; k < CELLS; k++)
      twin += !out[k];
    uint32_t lost = tcp_sent_lost(c) / 100;
    assert_true(lost <= twin); /* too much in the network is allowed when the list is full, too little never */
    full |= c->n_sent >= TCP_SENT_LOG_ENTRIES - 1;
    if (!full)
      assert_int_equal(lost, twin);
    for (uint32_t k = 1; k < c->n_sent; k++)
      assert_true((int32_t)(tcp_sent_list(c)[k].at - tcp_sent_list(c)[k - 1].at) >= 0);
    if (i % 50 == 49) {
      tcp_sent_drop(c);
      memset(out, 0, sizeof out);
      full = 0;
      assert_int_equal(tcp_sent_lost(c), CELLS * 100);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_time_decides),       RIG_TEST(test_three_decide),   RIG_TEST(test_lost_retransmission),
      RIG_TEST(test_dsack_widens),       RIG_TEST(test_probe_repairs),  RIG_TEST(test_probe_was_needless),
      RIG_TEST(test_probe_restarts_rto), RIG_TEST(test_without_memory), RIG_TEST(test_list_against_cells),
  };
  return cmocka_run_group_tests_name("tcp_rack", tests, NULL, NULL);
}
