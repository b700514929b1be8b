/*
 * Losses: RTO and its back-off, F-RTO, fast retransmission with and without SACK, how the window comes down, lost
 * retransmissions. What was no loss is in test_undo.c, the scoreboard in test_board.c.
 */
#include "tcp_rig.h"

static void test_rto(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  usec_t wait = r->conn.rto;
  for (int i = 0; i < 4; i++, wait *= 2) { /* RFC 6298 (5.5): doubled */
    rig_pass(r, wait - 1);
    NOTHING(r);
    rig_pass(r, 1);
    EXPECT(r, TCP_ACK, 1, 1, 1460); /* (5.4): the earliest; cwnd is one segment */
    assert_int_equal(LAST(r)->rexmit, 1);
    NOTHING(r);
  }
  assert_int_equal(r->conn.cwnd, 1460);
  assert_int_equal(r->conn.ssthresh, 5 * 1460);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0);
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
  EXPECT(r, TCP_ACK, rig_at(r, 2), 1, 1460);
  NOTHING(r);
  assert_int_equal(r->conn.backoff, 0);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0); /* the rest had arrived */
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->tx_head, 14600);
  NOTHING(r);
}

static void test_rto_gives_up(void **state) {
  struct rig *r = *state;
  r->env.cfg.data_retries = 4;
  rig_ten_out(r, 0);
  rig_pass(r, 100 * RIG_S);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
  assert_int_equal(rig_unseen(r), 4);
  assert_true(rig_events(r) & EV(TCP_EV_ROUTE_BAD));
}

static void test_rto_bounds(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  for (int i = 0; i < 10; i++) { /* a round trip of 0: the least RTO */
    rig_write(r, 10);
    rig_in(r, TCP_ACK, 1, 11 + (uint32_t)i * 10, 0);
  }
  assert_in_range(r->conn.rto, 200 * RIG_MS, 200 * RIG_MS + 10);
  assert_true(r->conn.srtt8 / 8 < 10);
}

static void test_rtt(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  rig_init(r);
  tcp_open_soft(&r->env, c, &r->d, r->now);
  tcp_rtt_sample(&r->env, c, 400000, r->now); /* RFC 6298 (2.2) */
  assert_int_equal(c->srtt8 / 8, 400000);
  assert_int_equal(c->rttvar4 / 4, 200000);
  assert_int_equal(c->rto, 400000 + 4 * 200000);
  tcp_rtt_sample(&r->env, c, 800000, r->now); /* (2.3) */
  assert_int_equal(c->rttvar4 / 4, 250000);
  assert_int_equal(c->srtt8 / 8, 450000);
  assert_int_equal(c->min_rtt, 400000);
}

static void test_karn(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  rig_pass(r, r->conn.rto);
  uint32_t srtt = r->conn.srtt8;
  rig_pass(r, 100 * RIG_MS);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(r->conn.srtt8, srtt); /* a retransmitted segment tells nothing */
}

static void test_three_duplicates(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  assert_int_equal(r->conn.ssthresh, 5 * 1460);
  rig_in(r, TCP_ACK, 1, rig_at(r, 4), 0); /* partial: RFC 6582, the next one is lost too */
  EXPECT(r, TCP_ACK, rig_at(r, 4), 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd <= 5 * 1460);
  NOTHING(r);
}

static void test_window_update_is_no_duplicate(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  for (uint16_t i = 0; i < 5; i++) {
    r->wnd = (uint16_t)(50000 + i);
    rig_in(r, TCP_ACK, 1, 1, 0);
  }
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  for (int i = 0; i < 5; i++)
    rig_in(r, TCP_ACK, 1 + (uint32_t)i * 10, 1, 10); /* nor is data */
  assert_int_equal(r->conn.recovery, TCP_OPEN);
}

static void test_sack_recovery(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_sack(r, 1, 3);
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_sack(r, 1, 4);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460); /* RFC 6675 5 (4) */
  NOTHING(r);
  rig_sack(r, 5, 10); /* 4 is missing as well */
  rig_sack(r, 1, 4);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, rig_at(r, 4), 1, 1460); /* only the hole */
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->conn.b->board.n, 0);
  NOTHING(r);
}

static void test_sack_new_data_in_recovery(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_write(r, 20 * 1460);
  NOTHING(r); /* cwnd is full */
  rig_sack(r, 1, 8);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460); /* first the hole, then what the pipe has room for */
  EXPECT(r, TCP_ACK, rig_at(r, 10), 1, 1460);
  EXPECT(r, TCP_ACK, rig_at(r, 11), 1, 1460);
  NOTHING(r); /* pipe: 8, 9, the retransmission and two new ones = ssthresh of 5 */
}

/* RFC 3042: each of the first two duplicates lets one new segment out, with and without SACK. */
static void test_limited_transmit(void **state) {
  for (unsigned opts = 0; opts <= RIG_SACK; opts += RIG_SACK) {
    struct rig *r = *state;
    rig_init(r);
    rig_ten_out(r, opts);
    rig_write(r, 20 * 1460);
    NOTHING(r);
    for (uint32_t i = 0; i < 2; i++) {
      if (opts & RIG_SACK)
        rig_sack(r, 1, 2 + i);
      rig_in(r, TCP_ACK, 1, 1, 0);
      EXPECT(r, TCP_ACK, rig_at(r, 10 + i), 1, 1460);
      NOTHING(r);
    }
    assert_int_equal(r->conn.recovery, TCP_OPEN);
    assert_int_equal(r->conn.cwnd, 10 * 1460);
  }
}

/* RFC 6937: a window of 20 comes down to 10 by one segment for each two that arrive. */
static void test_prr_is_proportional(void **state) {
  struct rig *r = *state;
  r->wnd = 65535;
  rig_passive(r, RIG_SACK);
  r->conn.cwnd = 20 * 1460;
  rig_write(r, 60 * 1460);
  assert_int_equal(rig_unseen(r), 20);
  rig_skip(r);
  rig_sack(r, 1, 4); /* three at once: recovery begins */
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  assert_int_equal(r->conn.ssthresh, 10 * 1460);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r); /* 3 · 10 / 20 = one and a half */
  uint32_t out = 1;
  for (uint32_t i = 4; i < 16; i++) { /* until the pipe is down at ssthresh */
    rig_sack(r, 1, i + 1);
    rig_in(r, TCP_ACK, 1, 1, 0);
    uint32_t want = i * 10 / 20; /* i have arrived; by bytes, so that half a segment waits */
    assert_int_equal(rig_unseen(r), want - out);
    out = want;
    rig_skip(r);
  }
  rig_in(r, TCP_ACK, 1, rig_at(r, 20), 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->conn.cwnd, 10 * 1460);
  assert_int_equal(rig_unseen(r), 4); /* six of the ten are out already: no burst */
}

/* PRR-SSRB: below ssthresh no more than one segment beyond what arrives, up to ssthresh. */
static void test_prr_after_heavy_loss(void **state) {
  struct rig *r = *state;
  r->wnd = 65535;
  rig_passive(r, RIG_SACK);
  r->conn.cwnd = 20 * 1460;
  rig_write(r, 40 * 1460);
  rig_skip(r);
  rig_sack(r, 15, 18); /* fifteen are lost, two are still out */
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(rig_unseen(r), 4); /* three arrived, and one */
  rig_skip(r);
  rig_sack(r, 15, 19);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(rig_unseen(r), 2);
  assert_true(tcp_loss_pipe(&r->conn) <= r->conn.ssthresh);
}

/* RFC 5682 2.1: the ACKs after an RTO were only late. */
static void test_frto_spurious(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  rig_write(r, 20 * 1460);
  uint32_t cwnd = r->conn.cwnd;
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0); /* (2b): two new segments, not the second one again */
  EXPECT(r, TCP_ACK, rig_at(r, 10), 1, 1460);
  EXPECT(r, TCP_ACK, rig_at(r, 11), 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0); /* (3b) */
  assert_int_equal(COUNTER(r, frto), 1);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.retrans_total, 1);
}

static void test_frto_true_loss(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  rig_write(r, 20 * 1460);
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0); /* (3a): a duplicate: the second one is lost too */
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
  assert_int_equal(LAST(r)->rexmit, 1);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  assert_in_range(r->conn.cwnd, 1460, 3 * 1460);
  assert_int_equal(COUNTER(r, frto), 0);
}

static void test_frto_without_new_data(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, 0);
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0); /* nothing new to send: as without F-RTO */
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
  EXPECT(r, TCP_ACK, rig_at(r, 2), 1, 1460);
  NOTHING(r);
}

static void test_lost_retransmission(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_write(r, 20 * 1460);
  rig_sack(r, 1, 10);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(rig_unseen(r), 4);
  rig_skip(r);
  rig_sack(r, 1, 14); /* what was sent after it has arrived, it has not */
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(COUNTER(r, rexmit_lost), 1);
  assert_int_equal(COUNTER(r, rto), 0);
}

static void test_rto_spares_what_was_sacked(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  r->conn.b->due[TCP_T_REO] = 0; /* look at the RTO alone */
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0);
  EXPECT(r, TCP_ACK, rig_at(r, 2), 1, 1460);
}

static void test_early_retransmit(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 1000;
  r->conn.min_rtt = 1000;
  rig_write(r, 2 * 1460);
  rig_skip(r);
  rig_sack(r, 1, 2); /* one SACK only, but it stays a hole: RFC 8985 6.2 */
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_pass(r, 250);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(COUNTER(r, rto), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_rto),
      RIG_TEST(test_rto_gives_up),
      RIG_TEST(test_rto_bounds),
      RIG_TEST(test_rtt),
      RIG_TEST(test_karn),
      RIG_TEST(test_three_duplicates),
      RIG_TEST(test_window_update_is_no_duplicate),
      RIG_TEST(test_sack_recovery),
      RIG_TEST(test_sack_new_data_in_recovery),
      RIG_TEST(test_lost_retransmission),
      RIG_TEST(test_rto_spares_what_was_sacked),
      RIG_TEST(test_early_retransmit),
      RIG_TEST(test_limited_transmit),
      RIG_TEST(test_prr_is_proportional),
      RIG_TEST(test_prr_after_heavy_loss),
      RIG_TEST(test_frto_spurious),
      RIG_TEST(test_frto_true_loss),
      RIG_TEST(test_frto_without_new_data),
  };
  return cmocka_run_group_tests_name("tcp_loss", tests, NULL, NULL);
}
