/*
 * Figures that recovery goes by, each call by hand: proportional rate reduction (RFC 6937), the pacing of what leaves,
 * RACK's window and which segment it believes to be the newest (RFC 8985 6.2), NewReno's window (RFC 5681, 6582).
 */
#include "tcp_rig.h"

#define MSS 1460u

static struct tcp_conn *conn(struct rig *r, unsigned opts) {
  rig_init(r);
  rig_passive(r, opts);
  r->now += RIG_S;
  return &r->conn;
}

static void flight(struct tcp_conn *c, uint32_t bytes) {
  c->snd_nxt = c->d->snd_max = c->snd_una + bytes;
}

/* RFC 6937 3: while more is out than ssthresh, what leaves is ssthresh/RecoverFS of what arrives, rounded up. */
static void test_prr_proportional(void **state) {
  static const struct {
    uint32_t fs, ssthresh, pipe, delivered, out, arrived, cwnd;
  } row[] = {
      {10000, 7000, 9000, 0, 0, 1000, 9700},
      {10000, 7000, 9000, 0, 0, 1001, 9701},
      {10000, 7000, 9000, 2000, 1000, 1000, 10100},
      {10000, 7000, 9000, 2000, 2100, 1000, 9000},
      {10000, 7000, 9000, 2000, 2101, 1000, 9000},
      {10000, 7000, 9000, 2000, 2099, 1000, 9001},
      {10000, 7000, 9000, UINT32_MAX, UINT32_MAX, 1000, 9000},
      {10000, 7000, 7001, 0, 0, 10, 7008},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct tcp_conn *c = conn(*state, 0);
    flight(c, row[i].fs);
    c->ssthresh = row[i].ssthresh;
    c->b->prr_delivered = c->b->prr_out = 99;
    tcp_prr_begin(c);
    assert_int_equal(c->b->prr_fs, row[i].fs);
    assert_int_equal(c->b->prr_delivered, 0);
    assert_int_equal(c->b->prr_out, 0);
    flight(c, row[i].pipe);
    c->b->prr_delivered = row[i].delivered;
    c->b->prr_out = row[i].out;
    tcp_prr_ack(c, row[i].arrived);
    assert_int_equal(c->cwnd, row[i].cwnd);
  }
}

/* Then the slow start reduction bound: what arrived and did not leave, a segment more, up to ssthresh. */
static void test_prr_bound(void **state) {
  static const struct {
    uint32_t pipe, delivered, out, arrived, cwnd;
  } row[] = {
      {30000, 5000, 4000, 1000, 33460}, /* 6000 − 4000 and a segment */
      {30000, 5000, 6000, 1000, 32460}, /* what arrives by this ACK at least */
      {30000, 5000, 6500, 1000, 32460}, {30000, 0, 0, 0, 31460},
      {49000, 5000, 0, 1000, 50000}, /* no more than ssthresh */
      {50000, 5000, 0, 1000, 50000},    {0, 0, 0, 0, 1460},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct tcp_conn *c = conn(*state, 0);
    c->ssthresh = 50000;
    flight(c, 0);
    tcp_prr_begin(c);
    assert_int_equal(c->b->prr_fs, 1);
    flight(c, row[i].pipe);
    c->b->prr_delivered = row[i].delivered;
    c->b->prr_out = row[i].out;
    tcp_prr_ack(c, row[i].arrived);
    assert_int_equal(c->cwnd, row[i].cwnd);
    assert_int_equal(c->b->prr_delivered, row[i].delivered + row[i].arrived);
  }
  struct tcp_conn *c = conn(*state, 0);
  flight(c, 0);
  c->ssthresh = 100;
  tcp_prr_ack(c, 0);
  assert_int_equal(c->cwnd, MSS); /* a segment can always leave */
}

static void test_prr_sent(void **state) {
  struct tcp_conn *c = conn(*state, 0);
  c->b->prr_out = 5;
  tcp_prr_sent(c, 10);
  assert_int_equal(c->b->prr_out, 5); /* not in recovery */
  c->recovery = TCP_RECOVERY;
  tcp_prr_sent(c, 10);
  assert_int_equal(c->b->prr_out, 15);
  c->b->prr_out = UINT32_MAX - 3;
  tcp_prr_sent(c, 10);
  assert_true(c->b->prr_out == UINT32_MAX);
}

/* Paced or not: the edges of the round trip, of the window and of the rate. */
static void test_pace_edges(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  r->env.cfg.pacing = 1;
  c->ssthresh = 2 * MSS;
  c->cwnd = 10 * MSS + 1;
  c->srtt8 = 32000;
  assert_int_equal(tcp_pace_rate(&r->env, c), (uint64_t)(10 * MSS + 1) * 120 * 80000 / 32000);
  c->srtt8--;
  assert_int_equal(tcp_pace_rate(&r->env, c), 0);
  c->srtt8 = 32000;
  c->cwnd--;
  assert_int_equal(tcp_pace_rate(&r->env, c), 0);
  flight(c, 20 * MSS); /* what is out counts, if it is more */
  assert_int_equal(tcp_pace_rate(&r->env, c), (uint64_t)(20 * MSS) * 120 * 80000 / 32000);
  c->cwnd = 30 * MSS;
  c->ssthresh = 60 * MSS;
  assert_int_equal(tcp_pace_rate(&r->env, c), (uint64_t)(30 * MSS) * 120 * 80000 / 32000);
  c->ssthresh = 60 * MSS + 2;
  assert_int_equal(tcp_pace_rate(&r->env, c), (uint64_t)(30 * MSS) * 200 * 80000 / 32000);
  c->ssthresh = 0;
  c->srtt8 = 96000000; /* such that a byte of window is a tenth of a byte per second */
  c->cwnd = 1u << 30;
  assert_int_equal(tcp_pace_rate(&r->env, c), 107374182);
  c->srtt8 = 32000;
  c->cwnd = 3495253; /* 1048576 bytes per millisecond, and a little less or more */
  assert_int_equal(tcp_pace_rate(&r->env, c), 1048575900u);
  c->cwnd = 3495254;
  assert_int_equal(tcp_pace_rate(&r->env, c), 0);
}

/* The greatest rate that is paced, and none: as BBR tells them. */
static uint32_t told;
static uint32_t tell(const struct tcp_conn *c) {
  (void)c;
  return told;
}

static void test_pace_own_rate(void **state) {
  static const struct tcp_cc_ops own = {.name = "own", .rate = tell};
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  r->env.cfg.pacing = 1;
  c->srtt8 = 32000;
  c->cc = &own;
  static const uint32_t row[][2] = {{0, 0}, {1, 1}, {1048576000, 1048576000}, {1048576001, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    told = row[i][0];
    assert_int_equal(tcp_pace_rate(&r->env, c), row[i][1]);
  }
}

static void test_pace_burst(void **state) {
  (void)state;
  assert_int_equal(tcp_pace_burst(3000000, 1000), 3000);
  assert_int_equal(tcp_pace_burst(2999999, 1000), 2000);
  assert_int_equal(tcp_pace_burst(3999999, 1000), 3000);
  assert_int_equal(tcp_pace_burst(3000000, 999), 2997);
  assert_int_equal(tcp_pace_burst(0, 1000), 2000);
  assert_int_equal(tcp_pace_burst(1000999999, 1), 1000999);
}

static void test_pace_wait(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->b->pace_at = r->now + 1;
  assert_int_equal(tcp_pace_wait(c, 1000, r->now), 1);
  assert_true(c->b->due[TCP_T_PACE] == r->now + 1);
  assert_int_equal(tcp_pace_wait(c, 0, r->now), 0);
  assert_true(c->b->due[TCP_T_PACE] == 0);
  c->b->due[TCP_T_PACE] = 1;
  c->b->pace_at = r->now;
  assert_int_equal(tcp_pace_wait(c, 1000, r->now), 0);
  assert_true(c->b->due[TCP_T_PACE] == 0);
  tcp_pace_sent(c, 0, 5000, r->now);
  assert_true(c->b->pace_at == r->now);
  tcp_pace_sent(c, 1000000, 5000, r->now); /* a microsecond for each byte */
  assert_true(c->b->pace_at == r->now + 5000);
  tcp_pace_sent(c, 500000, 5000, r->now);
  assert_true(c->b->pace_at == r->now + 15000);
  c->b->pace_at = r->now - 1999; /* the wheel was late */
  tcp_pace_sent(c, 1000000, 5000, r->now);
  assert_true(c->b->pace_at == r->now + 3001);
  c->b->pace_at = r->now - 50000; /* it was idle */
  tcp_pace_sent(c, 1000000, 5000, r->now);
  assert_true(c->b->pace_at == r->now + 3000);
  c->b->pace_at = 0;
  tcp_pace_sent(c, 1000000, 5000, 2000); /* the clock has just begun */
  assert_true(c->b->pace_at == 5000);
  c->b->pace_at = 0;
  tcp_pace_sent(c, 1000000, 5000, 2001);
  assert_true(c->b->pace_at == 5001);
}

/* RFC 8985 6.2 step 4. */
static void test_rack_window(void **state) {
  struct tcp_conn *c = conn(*state, RIG_SACK);
  c->min_rtt = 40003;
  c->srtt8 = 8 * 100000;
  c->reo_mult = 1;
  assert_int_equal(tcp_rack_window(c), 10000);
  c->reo_mult = 5;
  assert_int_equal(tcp_rack_window(c), 50000);
  c->reo_mult = 20;
  assert_int_equal(tcp_rack_window(c), 100000); /* a round trip at most */
  c->min_rtt = 400;
  c->reo_mult = 1;
  assert_int_equal(tcp_rack_window(c), 200); /* and no less than this */
  c->reo_mult = 2;
  c->min_rtt = 404;
  assert_int_equal(tcp_rack_window(c), 202);
  c->b->board.bytes = 2 * MSS;
  assert_int_equal(tcp_rack_window(c), 202);
  c->b->board.bytes++; /* more than two segments SACKed, and never any reordering */
  assert_int_equal(tcp_rack_window(c), 0);
  tcp_rack_reorders(c);
  assert_int_equal(tcp_rack_window(c), 202);
  c->reo_seen = 0;
  c->b->board.bytes = 0;
  c->recovery = TCP_RECOVERY;
  assert_int_equal(tcp_rack_window(c), 0);
}

/* A DSACK widens it once per round trip, for sixteen recoveries; an undone reduction doubles it. */
static void test_rack_widens(void **state) {
  struct tcp_conn *c = conn(*state, RIG_SACK);
  c->reo_mult = 1;
  flight(c, 5 * MSS);
  tcp_rack_dsack(c);
  assert_int_equal(c->reo_mult, 2);
  tcp_rack_dsack(c); /* the same round trip */
  assert_int_equal(c->reo_mult, 2);
  c->snd_una = c->snd_nxt - 1;
  tcp_rack_dsack(c);
  assert_int_equal(c->reo_mult, 2);
  c->snd_una = c->snd_nxt;
  tcp_rack_dsack(c);
  assert_int_equal(c->reo_mult, 3);
  for (int i = 0; i < 15; i++)
    tcp_rack_recovery(c);
  assert_int_equal(c->reo_mult, 3);
  tcp_rack_recovery(c);
  assert_int_equal(c->reo_mult, 1);
  c->reo_mult = 7;
  tcp_rack_recovery(c); /* nothing to forget */
  assert_int_equal(c->reo_mult, 7);
  assert_int_equal(c->reo_keep, 0);
  c->reo_seen = 0;
  tcp_rack_undone(c);
  assert_int_equal(c->reo_mult, 14);
  assert_int_equal(c->reo_seen, 1);
  assert_int_equal(c->reo_keep, 16);
  c->reo_mult = 65;
  tcp_rack_undone(c);
  assert_int_equal(c->reo_mult, 128);
  c->snd_una = c->snd_nxt;
  tcp_rack_dsack(c);
  assert_int_equal(c->reo_mult, 128);
  assert_int_equal(c->reo_keep, 16);
}

/* RFC 8985 6.2 step 2: which of what arrived left last. */
static void test_rack_newest(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, RIG_SACK | RIG_TS);
  uint32_t t = (uint32_t)r->now;
  struct tcp_sent once = {.rexmit = 0}, again = {.rexmit = 1};
  c->rack = 0;
  c->min_rtt = 10000;
  tcp_rack_sent(c, &once, t - 20000, 1000, 0, r->now);
  assert_int_equal(c->rack, 1);
  assert_int_equal(c->b->rack_at, t - 20000);
  assert_int_equal(c->b->rack_rtt, 20000);
  assert_int_equal(c->b->rack_end, 1000);
  tcp_rack_sent(c, &once, t - 20001, 5000, 0, r->now);     /* left before */
  tcp_rack_sent(c, &once, t - 20000, 999, 0, r->now + 7);  /* as old, not so far */
  tcp_rack_sent(c, &once, t - 20000, 1000, 0, r->now + 7); /* as old, no further */
  assert_int_equal(c->b->rack_rtt, 20000);
  assert_int_equal(c->b->rack_end, 1000);
  tcp_rack_sent(c, &once, t - 20000, 1001, 0, r->now + 7);
  assert_int_equal(c->b->rack_end, 1001);
  assert_int_equal(c->b->rack_rtt, 20007);
  tcp_rack_sent(c, &once, t - 19999, 10, 0, r->now);
  assert_int_equal(c->b->rack_end, 10);
  tcp_rack_sent(c, &again, t - 9999, 20, 0, r->now); /* too quick: its original, perhaps */
  assert_int_equal(c->b->rack_end, 10);
  tcp_rack_sent(c, &again, t - 10000, 20, 0, r->now);
  assert_int_equal(c->b->rack_end, 20);
  c->min_rtt = 0;
  uint32_t ms = tcp_open_ts(c->d, r->now - 5000); /* when the retransmission left */
  tcp_rack_sent(c, &again, t - 5000, 30, ms - 1, r->now);
  assert_int_equal(c->b->rack_end, 20);
  tcp_rack_sent(c, &again, t - 5000, 30, ms, r->now);
  assert_int_equal(c->b->rack_end, 30);
  tcp_rack_sent(c, &once, t - 1, 32, 0, r->now);
  assert_int_equal(c->b->rack_rtt, 1);
  tcp_rack_sent(c, &once, t, 31, 0, r->now);
  assert_int_equal(c->b->rack_end, 31);
  assert_int_equal(c->b->rack_rtt, 0);
  tcp_rack_sent(c, &once, t, 33, 0, r->now + 3);
  assert_int_equal(c->b->rack_rtt, 3);
  tcp_rack_sent(c, &once, t + 5, 40, 0, r->now); /* clocks of merged entries may be ahead */
  assert_int_equal(c->b->rack_end, 40);
  assert_int_equal(c->b->rack_rtt, 0);
}

/* RFC 5681 3.1, 3465, 7661. */
static void test_newreno(void **state) {
  struct tcp_conn *c = conn(*state, 0);
  c->cwnd = 10 * MSS;
  c->limited = 0;
  c->cc->acked(c, MSS, 5 * MSS - 1, 0); /* less than half in use */
  assert_int_equal(c->cwnd, 10 * MSS);
  c->cc->acked(c, MSS, 5 * MSS, 0);
  assert_int_equal(c->cwnd, 11 * MSS);
  c->limited = 1;
  c->cc->acked(c, 700, 0, 0);
  assert_int_equal(c->cwnd, 11 * MSS + 700);
  c->ssthresh = 12 * MSS; /* the last step of slow start: a segment at least, to ssthresh at most */
  c->cc->acked(c, 4 * MSS, 0, 0);
  assert_int_equal(c->cwnd, 12 * MSS + 700);
  c->cwnd = 12 * MSS;
  c->limited = 0;
  c->cwnd_acked = 0;
  c->cc->acked(c, MSS, 12 * MSS * 4 / 5 - 1, 0); /* four fifths of the window is what counts as used */
  assert_int_equal(c->cwnd_acked, 0);
  c->cc->acked(c, MSS, 12 * MSS * 4 / 5, 0);
  assert_int_equal(c->cwnd_acked, MSS);
  c->cc->acked(c, 11 * MSS - 1, 12 * MSS, 0);
  assert_int_equal(c->cwnd, 12 * MSS);
  c->cc->acked(c, 1, 12 * MSS, 0);
  assert_int_equal(c->cwnd, 13 * MSS);
  assert_int_equal(c->cwnd_acked, 0);
  c->cc->acked(c, 13 * MSS + 5, 13 * MSS, 0);
  assert_int_equal(c->cwnd_acked, 5);
  c->cwnd_acked = 9;
  c->cc->loss(c, 10 * MSS, 0);
  assert_int_equal(c->cwnd, 5 * MSS);
  assert_int_equal(c->ssthresh, 5 * MSS);
  assert_int_equal(c->cwnd_acked, 0);
  c->cwnd_acked = 9;
  c->cc->rto(c, 8 * MSS, 1, 0);
  assert_int_equal(c->cwnd, MSS);
  assert_int_equal(c->ssthresh, 4 * MSS);
  assert_int_equal(c->cwnd_acked, 0);
  c->cc->rto(c, 2 * MSS, 0, 0);
  assert_int_equal(c->ssthresh, 4 * MSS);
}

static void test_newreno_ends(void **state) {
  struct tcp_conn *c = conn(*state, 0);
  c->ssthresh = 8 * MSS;
  c->cwnd_acked = 7;
  c->cc->recovered(c, 3 * MSS); /* RFC 6582 3.2 step 3 (1) */
  assert_int_equal(c->cwnd, 4 * MSS);
  assert_int_equal(c->cwnd_acked, 0);
  c->cc->recovered(c, 0);
  assert_int_equal(c->cwnd, 2 * MSS);
  c->cc->recovered(c, 9 * MSS);
  assert_int_equal(c->cwnd, 8 * MSS);
  c->ssthresh = 1;
  c->cc->recovered(c, 0);
  assert_int_equal(c->cwnd, MSS);
  c->cwnd = 50 * MSS;
  c->cc->idle(c, 10);
  assert_int_equal(c->cwnd, 10 * MSS);
  c->cc->idle(c, 0);
  assert_int_equal(c->cwnd, MSS);
  c->cc->init(c, 0);
  assert_int_equal(c->cwnd, MSS);
  assert_true(c->ssthresh == 1u << 30);
  c->b->prior_cwnd = 20;
  c->b->prior_ssthresh = 1u << 31;
  c->cc->undo(c);
  assert_int_equal(c->cwnd, MSS);
  assert_true(c->ssthresh == 1u << 31);
  assert_int_equal(tcp_cc_reduced(c, 3 * MSS + MSS / 2 - 1), 3 * MSS); /* the nearest number of segments */
  assert_int_equal(tcp_cc_reduced(c, 3 * MSS + MSS / 2), 4 * MSS);
  assert_int_equal(tcp_cc_reduced(c, 0), 2 * MSS);
}

/* What counts as out when a window is reduced, and as in the network. */
static void test_flight(void **state) {
  struct tcp_conn *c = conn(*state, 0);
  flight(c, 10 * MSS);
  c->cwnd = 8 * MSS;
  c->ssthresh = 5 * MSS;
  assert_int_equal(tcp_loss_flight(c), 8 * MSS);
  c->cwnd = 20 * MSS;
  c->limited = 0;
  assert_int_equal(tcp_loss_flight(c), 10 * MSS);
  c->limited = 1;
  assert_int_equal(tcp_loss_flight(c), 20 * MSS);
  c->recovery = TCP_RECOVERY;
  assert_int_equal(tcp_loss_flight(c), 5 * MSS);
  c->b->dupacks = 3;
  assert_int_equal(tcp_loss_pipe(c), 7 * MSS);
  c->b->dupacks = 11;
  assert_int_equal(tcp_loss_pipe(c), 0);
  c->d->nego |= ABI_TCB_SACK;
  c->b->lost = 2 * MSS;
  assert_int_equal(tcp_loss_pipe(c), 8 * MSS);
  c->b->board.n = 1;
  c->b->board.r[0] = (struct tcp_sack){c->snd_una + MSS, c->snd_una + 4 * MSS};
  c->b->board.bytes = 3 * MSS;
  assert_int_equal(tcp_loss_pipe(c), 5 * MSS);
  c->snd_nxt = c->snd_una + 3 * MSS; /* after a timeout: what is SACKed beyond it is not out */
  c->b->lost = 0;
  assert_int_equal(tcp_loss_pipe(c), MSS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_prr_proportional), RIG_TEST(test_prr_bound),     RIG_TEST(test_prr_sent),
      RIG_TEST(test_pace_edges),       RIG_TEST(test_pace_own_rate), RIG_TEST(test_pace_burst),
      RIG_TEST(test_pace_wait),        RIG_TEST(test_rack_window),   RIG_TEST(test_rack_widens),
      RIG_TEST(test_rack_newest),      RIG_TEST(test_newreno),       RIG_TEST(test_newreno_ends),
      RIG_TEST(test_flight),
  };
  return cmocka_run_group_tests_name("tcp_prr", tests, NULL, NULL);
}
