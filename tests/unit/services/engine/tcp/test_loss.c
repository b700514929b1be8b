/*
 * Losses: RTO and its back-off, fast retransmission with and without SACK, reordering, undo, reneging, lost
 * retransmissions; keep-alive and user timeout.
 */
#include "tcp_rig.h"

/* Ten full segments out, as segments 1, 1461, … */
static void ten_out(struct rig *r, unsigned opts) {
  r->wnd = 65535;
  rig_passive(r, opts);
  rig_write(r, 10 * tcp_mss_payload(&r->conn));
  assert_int_equal(rig_unseen(r), 10);
  rig_skip(r);
}

static uint32_t at(const struct rig *r, uint32_t n) {
  return 1 + n * tcp_mss_payload(&r->conn);
}

static void sack(struct rig *r, uint32_t first, uint32_t last) {
  r->sack[r->n_sack++] = (struct tcp_sack){at(r, first), at(r, last)};
}

static void test_rto(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
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
  rig_in(r, TCP_ACK, 1, at(r, 1), 0);
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
  EXPECT(r, TCP_ACK, at(r, 2), 1, 1460);
  NOTHING(r);
  assert_int_equal(r->conn.backoff, 0);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0); /* the rest had arrived */
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->tx_head, 14600);
  NOTHING(r);
}

static void test_rto_gives_up(void **state) {
  struct rig *r = *state;
  r->env.cfg.data_retries = 4;
  ten_out(r, 0);
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
  ten_out(r, 0);
  rig_pass(r, r->conn.rto);
  uint32_t srtt = r->conn.srtt8;
  rig_pass(r, 100 * RIG_MS);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(r->conn.srtt8, srtt); /* a retransmitted segment tells nothing */
}

static void test_three_duplicates(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  assert_int_equal(r->conn.ssthresh, 5 * 1460);
  rig_in(r, TCP_ACK, 1, at(r, 4), 0); /* partial: RFC 6582, the next one is lost too */
  EXPECT(r, TCP_ACK, at(r, 4), 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd <= 5 * 1460);
  NOTHING(r);
}

static void test_window_update_is_no_duplicate(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
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
  ten_out(r, RIG_SACK);
  sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  sack(r, 1, 3);
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  sack(r, 1, 4);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460); /* RFC 6675 5 (4) */
  NOTHING(r);
  sack(r, 5, 10); /* 4 is missing as well */
  sack(r, 1, 4);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, at(r, 4), 1, 1460); /* only the hole */
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->conn.b->board.n, 0);
  NOTHING(r);
}

static void test_sack_new_data_in_recovery(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  rig_write(r, 20 * 1460);
  NOTHING(r); /* cwnd is full */
  sack(r, 1, 8);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460); /* first the hole, then what the pipe has room for */
  EXPECT(r, TCP_ACK, at(r, 10), 1, 1460);
  EXPECT(r, TCP_ACK, at(r, 11), 1, 1460);
  NOTHING(r); /* pipe: 8, 9, the retransmission and two new ones = ssthresh of 5 */
}

/* RFC 3042: each of the first two duplicates lets one new segment out, with and without SACK. */
static void test_limited_transmit(void **state) {
  for (unsigned opts = 0; opts <= RIG_SACK; opts += RIG_SACK) {
    struct rig *r = *state;
    rig_init(r);
    ten_out(r, opts);
    rig_write(r, 20 * 1460);
    NOTHING(r);
    for (uint32_t i = 0; i < 2; i++) {
      if (opts & RIG_SACK)
        sack(r, 1, 2 + i);
      rig_in(r, TCP_ACK, 1, 1, 0);
      EXPECT(r, TCP_ACK, at(r, 10 + i), 1, 1460);
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
  sack(r, 1, 4); /* three at once: recovery begins */
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  assert_int_equal(r->conn.ssthresh, 10 * 1460);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r); /* 3 · 10 / 20 = one and a half */
  uint32_t out = 1;
  for (uint32_t i = 4; i < 16; i++) { /* until the pipe is down at ssthresh */
    sack(r, 1, i + 1);
    rig_in(r, TCP_ACK, 1, 1, 0);
    uint32_t want = i * 10 / 20; /* i have arrived; by bytes, so that half a segment waits */
    assert_int_equal(rig_unseen(r), want - out);
    out = want;
    rig_skip(r);
  }
  rig_in(r, TCP_ACK, 1, at(r, 20), 0);
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
  sack(r, 15, 18); /* fifteen are lost, two are still out */
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(rig_unseen(r), 4); /* three arrived, and one */
  rig_skip(r);
  sack(r, 15, 19);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(rig_unseen(r), 2);
  assert_true(tcp_loss_pipe(&r->conn) <= r->conn.ssthresh);
}

/* RFC 5682 2.1: the ACKs after an RTO were only late. */
static void test_frto_spurious(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
  rig_write(r, 20 * 1460);
  uint32_t cwnd = r->conn.cwnd;
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0); /* (2b): two new segments, not the second one again */
  EXPECT(r, TCP_ACK, at(r, 10), 1, 1460);
  EXPECT(r, TCP_ACK, at(r, 11), 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, at(r, 2), 0); /* (3b) */
  assert_int_equal(COUNTER(r, frto), 1);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.retrans_total, 1);
}

static void test_frto_true_loss(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
  rig_write(r, 20 * 1460);
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0); /* (3a): a duplicate: the second one is lost too */
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
  assert_int_equal(LAST(r)->rexmit, 1);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  assert_in_range(r->conn.cwnd, 1460, 3 * 1460);
  assert_int_equal(COUNTER(r, frto), 0);
}

static void test_frto_without_new_data(void **state) {
  struct rig *r = *state;
  ten_out(r, 0);
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0); /* nothing new to send: as without F-RTO */
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
  EXPECT(r, TCP_ACK, at(r, 2), 1, 1460);
  NOTHING(r);
}

static void test_lost_retransmission(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  rig_write(r, 20 * 1460);
  sack(r, 1, 10);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(rig_unseen(r), 4);
  rig_skip(r);
  sack(r, 1, 14); /* what was sent after it has arrived, it has not */
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(COUNTER(r, rexmit_lost), 1);
  assert_int_equal(COUNTER(r, rto), 0);
}

static void test_rto_spares_what_was_sacked(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  r->conn.b->due[TCP_T_REO] = 0; /* look at the RTO alone */
  rig_pass(r, r->conn.rto);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, at(r, 2), 0);
  EXPECT(r, TCP_ACK, at(r, 2), 1, 1460);
}

static void test_early_retransmit(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 1000;
  r->conn.min_rtt = 1000;
  rig_write(r, 2 * 1460);
  rig_skip(r);
  sack(r, 1, 2); /* one SACK only, but it stays a hole: RFC 8985 6.2 */
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  rig_pass(r, 250);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(COUNTER(r, rto), 0);
}

static void test_reordering_is_learnt(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, at(r, 2), 0); /* it came, and nobody had sent it again */
  assert_int_equal(r->conn.reo_seen, 1);
  assert_int_equal(COUNTER(r, reordering), 1);
  sack(r, 3, 7); /* four segments ahead: not yet a loss */
  rig_in(r, TCP_ACK, 1, at(r, 2), 0);
  NOTHING(r);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(COUNTER(r, fast_recovery), 0);
  NOTHING(r);
}

/* An ACK that moves on and brings the first SACK with it tells of a hole, not of reordering. */
static void test_ack_with_sack_is_no_reordering(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  sack(r, 3, 4);
  rig_in(r, TCP_ACK, 1, at(r, 2), 0);
  assert_int_equal(COUNTER(r, reordering), 0);
  sack(r, 6, 7);
  sack(r, 3, 5); /* what is new lies below what is new too, and above what was known */
  rig_in(r, TCP_ACK, 1, at(r, 2), 0);
  assert_int_equal(COUNTER(r, reordering), 0);
  assert_int_equal(r->conn.reo_seen, 0);
}

static void test_undo_by_dsack(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  uint32_t cwnd = r->conn.cwnd;
  sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_true(r->conn.cwnd < cwnd);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0); /* the original */
  sack(r, 0, 1);                       /* and the copy: a duplicate */
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(COUNTER(r, undo), 1);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.reo_seen, 1);
}

static void test_undo_by_timestamp(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK | RIG_TS);
  uint32_t cwnd = r->conn.cwnd;
  usec_t sent = r->now;
  r->conn.b->due[TCP_T_REO] = 0; /* no tail loss probe */
  rig_pass(r, r->conn.rto);
  rig_skip(r);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  usec_t real = r->now;
  r->now = sent; /* the peer echoes the original's timestamp (RFC 3522) */
  struct tcp_seg_in s = {.segs = 1};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER + 1, .ack = r->d.iss + at(r, 3), .flags = TCP_ACK, .wnd = 65535};
  s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_TS, .ts_val = 100, .ts_ecr = tcp_open_ts(&r->d, sent)};
  r->now = real;
  tcp_input(&r->env, &r->conn, &s, r->now);
  assert_int_equal(COUNTER(r, undo), 1);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.snd_nxt, r->d.snd_max);
  NOTHING(r);
}

static void test_true_loss_is_not_undone(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK | RIG_TS);
  rig_pass(r, 5 * RIG_MS);
  sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  rig_pass(r, 5 * RIG_MS);
  rig_in(r, TCP_ACK, 1, at(r, 5), 0); /* echoes the retransmission */
  assert_int_equal(COUNTER(r, undo), 0);
  rig_in(r, TCP_ACK, 1, at(r, 10), 0);
  assert_int_equal(COUNTER(r, undo), 0);
}

/* The ACK of what an earlier recovery sent again echoes a time before the present one began: that shows nothing. */
static void test_earlier_retransmission_undoes_nothing(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK | RIG_TS); /* and the beginning of an eleventh */
  rig_write(r, 20 * 1460);
  rig_pass(r, 5 * RIG_MS);
  sack(r, 1, 10);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY); /* until what was out then is acknowledged */
  rig_pass(r, 5 * RIG_MS);
  sack(r, 1, 11);
  sack(r, 12, 15);
  rig_in(r, TCP_ACK, 1, 1, 0); /* the twelfth, sent since, is lost as well: again */
  usec_t again = r->now;
  rig_pass(r, 5 * RIG_MS);
  sack(r, 12, 15);
  rig_in(r, TCP_ACK, 1, at(r, 11), 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY); /* the first is over, the next has begun */
  assert_true(seq_gt(r->conn.recover, r->d.iss + at(r, 11)));
  struct tcp_seg_in s = {.segs = 1};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER + 1, .ack = r->d.iss + at(r, 15), .flags = TCP_ACK, .wnd = 65535};
  s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_TS, .ts_val = 100, .ts_ecr = tcp_open_ts(&r->d, again)};
  tcp_input(&r->env, &r->conn, &s, r->now);
  assert_int_equal(COUNTER(r, undo), 0);
  assert_int_equal(r->conn.reo_seen, 0);
}

static void test_reneging(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0); /* it has 1 … 4, it said: then why only this? */
  assert_int_equal(COUNTER(r, reneged), 1);
  assert_true(rig_unseen(r) >= 1);
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
}

static void test_hostile_sack(void **state) {
  struct rig *r = *state;
  ten_out(r, RIG_SACK);
  r->sack[0] = (struct tcp_sack){at(r, 9), at(r, 40)}; /* beyond snd_max */
  r->sack[1] = (struct tcp_sack){at(r, 5), at(r, 3)};  /* inverted */
  r->sack[2] = (struct tcp_sack){at(r, 2), at(r, 2)};  /* empty */
  r->sack[3] = (struct tcp_sack){(uint32_t)-70000, (uint32_t)-60000};
  r->n_sack = 4;
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.b->board.n, 0);
  NOTHING(r);
}

static void board_overflow(struct rig *r, int memory) {
  rig_init(r);
  if (!memory)
    tcp_env_memory(&r->env, NULL, 0);
  rig_passive(r, RIG_SACK);
  r->conn.cwnd = 1u << 20;
  r->wnd = 65535;
  r->conn.reo_seen = 1;
  rig_write(r, 60000);
  rig_skip(r);
  for (uint32_t i = 0; i < TCP_BOARD_MAX + 4; i++) {
    r->sack[0] = (struct tcp_sack){1001 + i * 2000, 1501 + i * 2000};
    r->n_sack = 1;
    rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
    assert_int_equal(tcp_sack_check(&r->conn), 0);
  }
  assert_int_equal(r->conn.b->board.n, memory ? TCP_BOARD_MAX + 4 : TCP_BOARD_MAX);
  assert_int_equal(tcp_sent_check(&r->conn), 0);
  r->sack[0] = (struct tcp_sack){1, 40001}; /* one that swallows all */
  r->sack[0].l = 501;
  r->n_sack = 1;
  rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
  assert_int_equal(r->conn.b->board.n, 1);
  assert_int_equal(r->conn.b->board.bytes, 39500);
}

static void test_board_overflow(void **state) {
  board_overflow(*state, 1);
  board_overflow(*state, 0);
}

/* More ranges than the board has room for, told from above and from below: what it had to forget, or never took, has
 * arrived and is not sent again; only the holes below its highest range are. */
static void test_board_full_is_no_loss(void **state) {
  for (int down = 0; down < 2; down++) {
    struct rig *r = *state;
    rig_init(r);
    tcp_env_memory(&r->env, NULL, 0);
    r->gso = RIG_MSS;
    r->wnd = 65535;
    rig_passive(r, RIG_SACK);
    r->conn.cwnd = 1u << 20;
    rig_write(r, 44 * RIG_MSS);
    rig_skip(r);
    r->now += 100 * RIG_MS;
    for (uint32_t i = 0; i < 22; i++) { /* every other segment */
      uint32_t k = down ? 21 - i : i;
      r->sack[0] = (struct tcp_sack){1 + (2 * k + 1) * RIG_MSS, 1 + (2 * k + 2) * RIG_MSS};
      r->n_sack = 1;
      rig_in_raw(r, TCP_ACK, 1, 1, 0, 1);
      assert_int_equal(tcp_sack_check(&r->conn), 0);
      assert_int_equal(tcp_sent_check(&r->conn), 0);
    }
    assert_int_equal(r->conn.b->board.n, TCP_BOARD_MAX);
    rig_skip(r);
    (void)tcp_output(&r->env, &r->conn, r->now);
    if (down) /* it looks like reordering: RACK waits */
      rig_pass(r, 100 * RIG_MS);
    rig_skip(r);
    assert_true(COUNTER(r, rexmit_segs) > 0);
    assert_true(COUNTER(r, rexmit_bytes) <= 22 * RIG_MSS);
  }
}

static void test_tail_probe(void **state) {
  struct rig *r = *state;
  r->gso = 1460;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 3 * 1460);
  rig_skip(r); /* all three are lost: no SACK will ever tell */
  rig_pass(r, 8 * RIG_MS - 1);
  NOTHING(r);
  rig_pass(r, 1); /* two round trips: RFC 8985 7.3, the last one again */
  EXPECT(r, TCP_ACK, at(r, 2), 1, 1460);
  assert_int_equal(COUNTER(r, tail_probes), 1);
  rig_pass(r, 50 * RIG_MS);
  NOTHING(r); /* one only */
  sack(r, 2, 3);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_pass(r, 5 * RIG_MS); /* the reordering window */
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0);
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
  NOTHING(r);
  assert_int_equal(COUNTER(r, rto), 0);
}

static void test_tail_probe_prefers_new_data(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  r->conn.cwnd = 2 * 1460;
  rig_write(r, 5 * 1460);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  EXPECT(r, TCP_ACK, at(r, 1), 1, 1460);
  NOTHING(r);
  rig_pass(r, 8 * RIG_MS);
  EXPECT(r, TCP_ACK, at(r, 2), 1, 1460);
  NOTHING(r);
}

static void test_tail_probe_of_a_fin(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 1460 + 100);
  rig_shutdown(r);
  rig_skip(r);
  rig_pass(r, 8 * RIG_MS);
  EXPECT(r, TCP_FIN | TCP_ACK, 101, 1, 1460); /* the last full segment, with the FIN */
  NOTHING(r);
}

static void test_no_tail_probe_for_one_segment(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 100);
  rig_skip(r);
  rig_pass(r, 190 * RIG_MS);
  NOTHING(r); /* its ACK may be delayed */
}

/* The scoreboard against a bitmap of 32 cells of 100 bytes: it never overflows, so both must agree. */
static void test_board_against_a_bitmap(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  uint32_t x = 99;
  rig_passive(r, RIG_SACK);
  c->snd_una = 0xfffffe00u; /* over the wrap */
  r->d.snd_max = c->snd_nxt = c->snd_una + 3200;
  uint32_t have = 0, base = c->snd_una;
  for (int i = 0; i < 50000; i++) {
    x = x * 1664525u + 1013904223u;
    uint32_t first = (x >> 8) % 32, n = (x >> 20) % 4 + 1;
    n = HS_MIN(n, 32 - first);
    struct tcp_seg_in s = {.segs = 1};
    struct tcp_sack_news news;
    s.hdr.ack = c->snd_una;
    s.hdr.opts.present = TCP_OPT_HAS_SACK;
    s.hdr.opts.n_sack = 1;
    s.hdr.opts.sack[0] = (struct tcp_sack){base + first * 100, base + (first + n) * 100};
    uint32_t mask = (uint32_t)(((1ull << n) - 1) << first);
    uint32_t una_cell = (c->snd_una - base) / 100;
    mask &= (uint32_t) ~((1ull << una_cell) - 1);
    tcp_sack_update(&r->env, c, &s, 0, &news, r->now);
    assert_int_equal(news.bytes, (uint32_t)__builtin_popcount(mask & ~have) * 100);
    have |= mask;
    assert_int_equal(tcp_sack_check(c), 0);
    assert_int_equal(c->b->board.bytes, (uint32_t)__builtin_popcount(have) * 100);
    for (uint32_t k = 0; k < 32; k++)
      assert_int_equal(tcp_sack_above(c, base + k * 100), (uint32_t)__builtin_popcount(have & ~((1u << k) - 1)) * 100);
    if (i % 7 == 0 && una_cell < 31 && !(have >> una_cell & 1)) { /* the first hole is filled */
      while (++una_cell < 32 && (have >> una_cell & 1)) {
      }
      c->snd_una = base + una_cell * 100;
      have &= (uint32_t) ~((1ull << una_cell) - 1);
      tcp_sack_acked(c);
    }
    if (c->snd_una == base + 3200 || i % 100 == 99) {
      c->snd_una = base;
      have = c->b->board.n = c->b->board.bytes = 0;
    }
  }
}

static void test_keepalive(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_KEEPALIVE, .keepidle_s = 10, .keepintvl_s = 2, .keepcnt = 3};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_pass(r, 9 * RIG_S);
  rig_in(r, TCP_ACK, 1, 1, 5);
  rig_skip(r);
  rig_pass(r, 10 * RIG_S - 1);
  NOTHING(r);
  rig_pass(r, 1);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_in(r, TCP_ACK, 6, 1, 0); /* the peer is there */
  rig_pass(r, 2 * RIG_S);
  NOTHING(r);
  rig_pass(r, 8 * RIG_S);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_pass(r, 4 * RIG_S);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_pass(r, 2 * RIG_S);
  EXPECT(r, TCP_RST | TCP_ACK, 1, 6, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_user_timeout(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.user_timeout_ms = 3000};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  usec_t began = r->now;
  rig_pass(r, 2900 * RIG_MS);
  assert_false(r->closed);
  assert_int_equal(r->d.user_timeout_at, began + 3 * RIG_S);
  rig_pass(r, 101 * RIG_MS);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_user_timeout_forgotten(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.user_timeout_ms = 3000};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  rig_pass(r, 2 * RIG_S);
  rig_in(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(r->d.user_timeout_at, 0);
  rig_pass(r, 100 * RIG_S);
  assert_false(r->closed);
}

static void test_orders_are_few(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 100);
  usec_t first = r->timer_at;
  r->now += 1000;
  rig_in(r, TCP_ACK, 1, 51, 0); /* the RTO moves on: no new order */
  assert_true(r->conn.b->due[TCP_T_RTO] > first);
  assert_int_equal(r->timer_at, first);
  rig_skip(r);
  rig_pass(r, first - r->now); /* it comes too early, and orders anew */
  NOTHING(r);
  assert_int_equal(r->timer_at, r->conn.b->due[TCP_T_RTO]);
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
      RIG_TEST(test_reordering_is_learnt),
      RIG_TEST(test_ack_with_sack_is_no_reordering),
      RIG_TEST(test_undo_by_dsack),
      RIG_TEST(test_limited_transmit),
      RIG_TEST(test_prr_is_proportional),
      RIG_TEST(test_prr_after_heavy_loss),
      RIG_TEST(test_frto_spurious),
      RIG_TEST(test_frto_true_loss),
      RIG_TEST(test_frto_without_new_data),
      RIG_TEST(test_undo_by_timestamp),
      RIG_TEST(test_true_loss_is_not_undone),
      RIG_TEST(test_earlier_retransmission_undoes_nothing),
      RIG_TEST(test_reneging),
      RIG_TEST(test_hostile_sack),
      RIG_TEST(test_board_overflow),
      RIG_TEST(test_board_full_is_no_loss),
      RIG_TEST(test_board_against_a_bitmap),
      RIG_TEST(test_tail_probe),
      RIG_TEST(test_tail_probe_prefers_new_data),
      RIG_TEST(test_tail_probe_of_a_fin),
      RIG_TEST(test_no_tail_probe_for_one_segment),
      RIG_TEST(test_keepalive),
      RIG_TEST(test_user_timeout),
      RIG_TEST(test_user_timeout_forgotten),
      RIG_TEST(test_orders_are_few),
  };
  return cmocka_run_group_tests_name("tcp_loss", tests, NULL, NULL);
}
