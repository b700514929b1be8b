/*
 * BBR version 1 (draft-cardwell-iccrg-bbr-congestion-control-00) step by step: what samples make of the model, when its
 * modes change, and which rate and window follow. Each ACK is given to the ops by hand, so that every figure is known.
 * How it fares on a path is tests/sim/test_sim_cc.c's.
 */
#include "tcp_rig.h"

#define MSS 1460u
#define RTT 40000u  /* µs */
#define BW  1250000 /* bytes per second: 10 Mbit/s */
#define BDP 50000u  /* bytes: both of them */

/* As in tcp_cc_bbr.c */
enum { STARTUP, DRAIN, PROBE_BW, PROBE_RTT };

static struct tcp_conn *bbr_new(struct rig *r) {
  r->env.cfg.cc = (uint8_t)tcp_cc_find("bbr");
  rig_passive(r, 0);
  struct tcp_conn *c = &r->conn;
  assert_ptr_equal(c->cc, &tcp_cc_bbr);
  c->cc->init(c, 10); /* the handshake was a sample already */
  assert_int_equal(c->cwnd, 10 * MSS);
  c->srtt8 = 8 * RTT;
  c->min_rtt = RTT;
  return c;
}

static struct tcp_conn *bbr_begun(struct rig *r) {
  struct tcp_conn *c = bbr_new(r);
  struct tcp_rate none = {0};
  c->cc->sample(c, &none, 0, 0, r->now);
  return c;
}

static void pipe_is(struct tcp_conn *c, uint32_t bytes) {
  c->snd_nxt = c->snd_una + bytes;
  c->d->snd_max = c->snd_nxt;
}

/* An ACK for `bytes` that took `us`: a round of its own. */
static struct tcp_rate sample(struct rig *r, uint32_t bytes, uint32_t us) {
  struct tcp_conn *c = &r->conn;
  struct tcp_rate rs = {
      .valid = 1, .prior_delivered = c->b->delivered, .prior_at = (uint32_t)r->now, .rtt_us = RTT, .send_us = us};
  r->now += us;
  c->b->delivered += bytes;
  return rs;
}

static void ack_as(struct rig *r, const struct tcp_rate *rs, uint32_t delivered) {
  r->conn.cc->sample(&r->conn, rs, delivered, 0, r->now);
}

static void ack(struct rig *r, uint32_t bytes, uint32_t us) {
  struct tcp_rate rs = sample(r, bytes, us);
  ack_as(r, &rs, bytes);
}

/* One whose sample is limited by the app. */
static void ack_limited(struct rig *r, uint32_t bytes, uint32_t us) {
  struct tcp_rate rs = sample(r, bytes, us);
  rs.limited = 1;
  ack_as(r, &rs, bytes);
}

/* 4.2.1: before the first sample the rate is 2/ln 2 times the initial window per round trip. */
static void test_initial_rate(void **state) {
  static const struct {
    uint32_t srtt8, rate;
  } row[] = {{8 * RTT, 365000u * 739 / 256}, {0, 14600000ull * 739 / 256}, {16, UINT32_MAX}, {7, UINT32_MAX}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    rig_init(r);
    struct tcp_conn *c = bbr_new(r);
    struct tcp_rate none = {0};
    assert_int_equal(c->cc->rate(c), 0);
    c->srtt8 = row[i].srtt8;
    c->b->delivered = 777;
    ack_as(r, &none, 0);
    assert_int_equal(c->cc->rate(c), row[i].rate);
    assert_int_equal(c->b->bbr.round_end, 777);
    assert_int_equal(c->b->bbr.rtprop_at, (uint32_t)r->now);
    assert_int_equal(c->b->bbr.mode, STARTUP);
  }
}

/* Rate estimation 3.3: bytes per the longer of the times over which they were sent and acknowledged. */
static void test_delivery_rate(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  ack(r, BDP, RTT);
  assert_int_equal(tcp_cc_bbr_bw(c), BW);
  struct tcp_rate rs = sample(r, 2 * BDP, RTT);
  rs.send_us = RTT * 5 / 4;
  ack_as(r, &rs, 2 * BDP);
  assert_int_equal(tcp_cc_bbr_bw(c), BW * 8 / 5);
  rs = sample(r, 3 * BDP, RTT);
  rs.send_us = RTT - 1;
  ack_as(r, &rs, 3 * BDP);
  assert_int_equal(tcp_cc_bbr_bw(c), BW * 3);
  ack(r, 10 * BDP, RTT - 1); /* shorter than any round trip: a train of ACKs that was compressed */
  assert_int_equal(tcp_cc_bbr_bw(c), BW * 3);
  c->min_rtt = 0;
  ack(r, 10 * BDP, 0);
  assert_int_equal(tcp_cc_bbr_bw(c), BW * 3);
  ack(r, 5000, 1);
  assert_true(tcp_cc_bbr_bw(c) == UINT32_MAX); /* 5 GB/s, and no more than can be told */
}

/* 4.1.1.3: what the app limited counts only if it is more than what is known. */
static void test_limited_samples(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  ack(r, BDP, RTT);
  ack_limited(r, BDP - 4, RTT);
  assert_int_equal(tcp_cc_bbr_bw(c), BW);
  ack_limited(r, BDP + 4, RTT);
  assert_int_equal(tcp_cc_bbr_bw(c), BW + 100);
  for (int i = 0; i < 9; i++)
    ack_limited(r, BDP / 2, RTT);
  ack_limited(r, BDP + 4, RTT); /* as much: known anew */
  for (int i = 0; i < 9; i++)
    ack(r, BDP / 2, RTT);
  assert_int_equal(tcp_cc_bbr_bw(c), BW + 100);
}

/* A round is one of packets: it ends when something that left after its beginning has arrived. */
static void test_rounds(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  ack(r, BDP, RTT);
  uint32_t round = c->b->bbr.round;
  struct tcp_rate rs = sample(r, MSS, RTT);
  rs.prior_delivered = c->b->bbr.round_end - 1;
  ack_as(r, &rs, MSS);
  assert_int_equal(c->b->bbr.round, round);
  assert_false(c->b->bbr.round_start);
  rs = sample(r, MSS, RTT);
  rs.prior_delivered = c->b->bbr.round_end;
  ack_as(r, &rs, MSS);
  assert_int_equal(c->b->bbr.round, round + 1);
  assert_true(c->b->bbr.round_start);
  assert_int_equal(c->b->bbr.round_end, c->b->delivered);
}

/* The maximum of ten rounds, by three candidates from different parts of them. A falling rate shows which. */
static void test_maximum(void **state) {
  static const uint32_t want[] = {100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 97,
                                  97,  97,  94,  94,  94,  89,  89,  89,  89,  89,  86,  86};
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  for (uint32_t i = 0; i < ARRAY_LEN(want); i++) {
    ack(r, (100 - i) * 40, RTT);
    assert_int_equal(tcp_cc_bbr_bw(c), want[i] * 1000);
  }
}

/* Rounds without a sample: the candidates age as well. */
static void test_maximum_ages(void **state) {
  static const struct { uint32_t pause, want; } row[] = {{2, 100}, {3, 97}, {8, 94}, {9, 50}};
  for (unsigned k = 0; k < ARRAY_LEN(row); k++) {
    struct rig *r = *state;
    rig_init(r);
    struct tcp_conn *c = bbr_begun(r);
    for (uint32_t i = 0; i <= 7; i++)
      ack(r, (100 - i) * 40, RTT); /* candidates: of rounds 0, 3 and 6 */
    for (uint32_t i = 0; i < row[k].pause; i++)
      ack_limited(r, 40, RTT);
    ack(r, 50 * 40, RTT);
    assert_int_equal(tcp_cc_bbr_bw(c), row[k].want * 1000);
  }
}

/* A better second or third takes the place of the older ones; as good is better, being younger. */
static void test_maximum_candidates(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  for (uint32_t i = 0; i <= 6; i++)
    ack(r, (100 - i) * 40, RTT);
  assert_int_equal(c->b->bbr.max[1].bw, 97000);
  assert_int_equal(c->b->bbr.max[2].bw, 94000);
  ack(r, 94 * 40, RTT);
  assert_int_equal(c->b->bbr.max[2].round, c->b->bbr.round);
  assert_int_equal(c->b->bbr.max[1].bw, 97000);
  ack(r, 97 * 40, RTT);
  assert_int_equal(c->b->bbr.max[1].round, c->b->bbr.round);
  assert_int_equal(c->b->bbr.max[2].bw, 97000);
  ack(r, 100 * 40, RTT);
  assert_int_equal(c->b->bbr.max[0].round, c->b->bbr.round);
  assert_int_equal(c->b->bbr.max[2].bw, 100000);
}

/* 4.3.2.2: the pipe is full after three rounds that did not bring a quarter more; then DRAIN. */
static void test_startup_ends(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  pipe_is(c, 10 * BDP);
  ack(r, 40000, RTT);
  assert_int_equal(c->b->bbr.full_bw, 1000000);
  ack(r, 45000, RTT);
  ack(r, 49996, RTT);
  assert_int_equal(c->b->bbr.full_rounds, 2);
  ack(r, 50000, RTT); /* exactly a quarter */
  assert_int_equal(c->b->bbr.full_rounds, 0);
  assert_int_equal(c->b->bbr.full_bw, BW);
  ack(r, 50000, RTT);
  ack_limited(r, 50000, RTT);
  struct tcp_rate rs = sample(r, 49999, RTT);
  rs.prior_delivered = c->b->bbr.round_end - 1;
  ack_as(r, &rs, 49999); /* not a round's first */
  assert_int_equal(c->b->bbr.full_rounds, 1);
  ack(r, 50000, RTT);
  assert_int_equal(c->b->bbr.mode, STARTUP);
  assert_int_equal(c->cc->rate(c), BW * 739ull / 256 * 253 / 256);
  ack(r, 50000, RTT);
  assert_int_equal(c->b->bbr.mode, DRAIN);
  assert_int_equal(c->cc->rate(c), BW * 88ull / 256 * 253 / 256);
  ack(r, 100000, RTT);
  assert_int_equal(c->b->bbr.full_bw, BW); /* not looked at any more */
}

/* To DRAIN, with a model of BW and RTT. */
static struct tcp_conn *bbr_drain(struct rig *r) {
  struct tcp_conn *c = bbr_begun(r);
  pipe_is(c, 10 * BDP);
  for (int i = 0; i < 4; i++)
    ack(r, BDP, RTT);
  assert_int_equal(c->b->bbr.mode, DRAIN);
  return c;
}

/* 4.3.3: until what is out is one bandwidth-delay product. */
static void test_drain_ends(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_drain(r);
  pipe_is(c, BDP + 1);
  ack(r, BDP, RTT);
  assert_int_equal(c->b->bbr.mode, DRAIN);
  pipe_is(c, BDP);
  ack(r, BDP, RTT);
  assert_int_equal(c->b->bbr.mode, PROBE_BW);
  assert_int_equal(c->b->bbr.cycle_at, (uint32_t)r->now);
}

/* 4.3.4.3: begins in any phase but that which drains. */
static void test_first_phase(void **state) {
  unsigned seen = 0;
  for (uint32_t iss = 0; iss < 100; iss++) {
    struct rig *r = *state;
    rig_init(r);
    struct tcp_conn *c = bbr_drain(r);
    uint32_t was = c->d->iss;
    c->d->iss = iss << 16;
    pipe_is(c, BDP);
    ack(r, BDP, RTT);
    c->d->iss = was;
    assert_int_equal(c->b->bbr.mode, PROBE_BW);
    seen |= 1u << c->b->bbr.cycle;
  }
  assert_int_equal(seen, 0xfd);
}

/* In PROBE_BW, in this phase of it. */
static struct tcp_conn *bbr_probe_bw(struct rig *r, uint8_t phase) {
  struct tcp_conn *c = bbr_drain(r);
  pipe_is(c, BDP);
  ack(r, BDP, RTT);
  c->b->bbr.cycle = phase;
  return c;
}

/* After `us` in this phase, with so much out: the phase that follows, and the rate in percent. */
static void test_phases(void **state) {
  static const struct {
    uint8_t phase;
    uint32_t us, pipe;
    int lost;
    uint8_t then;
    uint32_t gain;
  } row[] = {
      {0, RTT, 2 * BDP, 0, 0, 320},             /* a round trip at least */
      {0, RTT + 1, BDP * 5 / 4 - 1, 0, 0, 320}, /* and until what it asks for is out, */
      {0, RTT + 1, BDP * 5 / 4, 0, 1, 192},
      {0, RTT + 1, BDP, 1, 1, 192}, /* or lost */
      {1, RTT, BDP + 1, 0, 1, 192},
      {1, RTT + 1, 2 * BDP, 0, 2, 256}, /* a round trip at most */
      {1, 1000, BDP, 0, 2, 256},        /* or until the queue is gone */
      {2, RTT, BDP, 0, 2, 256},
      {2, RTT + 1, 10 * BDP, 0, 3, 256},
      {6, RTT + 1, BDP, 0, 7, 256},
      {7, RTT, BDP, 0, 7, 256},
      {7, RTT + 1, BDP, 0, 0, 320},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    rig_init(r);
    struct tcp_conn *c = bbr_probe_bw(r, row[i].phase);
    struct tcp_rate none = {0};
    pipe_is(c, row[i].pipe);
    r->now += row[i].us;
    c->cc->sample(c, &none, 0, row[i].lost, r->now);
    assert_int_equal(c->b->bbr.cycle, row[i].then);
    assert_int_equal(c->cc->rate(c), (uint64_t)BW * row[i].gain / 256 * 253 / 256);
    if (row[i].phase != row[i].then)
      assert_int_equal(c->b->bbr.cycle_at, (uint32_t)r->now);
  }
}

/* 4.2.3: the window follows what arrives up to twice the product and what is held back on the way. */
static void test_window(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate none = {0};
  uint32_t rate = (uint32_t)((uint64_t)BW * 253 / 256), burst = HS_MAX(rate / 1000 / MSS * MSS, 2 * MSS);
  uint32_t target = 2 * BDP + 3 * burst;
  c->b->bbr.extra[0] = c->b->bbr.extra[1] = 0;
  c->cwnd = target - 1000;
  ack_as(r, &none, 999);
  assert_int_equal(c->cc->rate(c), rate);
  assert_int_equal(c->cwnd, target - 1);
  ack_as(r, &none, 999);
  assert_int_equal(c->cwnd, target);
  c->cwnd = 10 * target;
  ack_as(r, &none, 0);
  assert_int_equal(c->cwnd, target);
  c->cwnd = 0;
  ack_as(r, &none, 100);
  assert_int_equal(c->cwnd, 4 * MSS); /* BBRMinPipeCwnd */
}

/* draft 02 4.5.5: what came beyond the rate, in the present five rounds or the five before, is in the window as well.
 */
static void test_extra(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_bbr *b = &c->b->bbr;
  struct tcp_rate none = {0}, same_round = {.valid = 1, .limited = 1, .send_us = RTT};
  uint32_t rate = (uint32_t)((uint64_t)BW * 253 / 256), burst = HS_MAX(rate / 1000 / MSS * MSS, 2 * MSS);
  uint32_t target = 2 * BDP + 3 * burst;
  same_round.prior_delivered = b->round_end - 1;
  same_round.prior_at = (uint32_t)r->now;
  b->extra[0] = b->extra[1] = b->extra_n = b->extra_rounds = 0;
  b->extra_at = (uint32_t)r->now;
  ack_as(r, &same_round, 20 * MSS); /* all at once */
  assert_int_equal(b->extra[0], 20 * MSS);
  r->now += RTT / 2;
  ack_as(r, &same_round, 2 * MSS); /* 7120 more than half a product: less than before */
  assert_int_equal(b->extra_n, 22 * MSS);
  assert_int_equal(b->extra[0], 20 * MSS);
  r->now += RTT;
  ack_as(r, &same_round, MSS); /* the rate has caught up: from here on anew */
  assert_int_equal(b->extra_n, MSS);
  assert_int_equal(b->extra_at, (uint32_t)r->now);
  c->cwnd = 10 * target;
  ack_as(r, &none, 0);
  assert_int_equal(c->cwnd, target + 20 * MSS);
  b->extra[1] = 200000; /* what comes in 100 ms at most */
  c->cwnd = 10 * target;
  ack_as(r, &none, 0);
  assert_int_equal(c->cwnd, target + BW / 10);
  b->extra_rounds = 4;
  b->extra_n = 0;
  ack(r, BDP, RTT); /* the fifth round */
  assert_int_equal(b->extra[1], 20 * MSS);
  assert_int_equal(b->extra[0], BDP);
  assert_int_equal(b->extra_rounds, 0);
}

/* In STARTUP it grows by what arrives, beyond the target only at the very start. */
static void test_window_startup(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  struct tcp_rate none = {0};
  ack(r, BDP, RTT);
  uint32_t rate = (uint32_t)(BW * 739ull / 256 * 253 / 256), burst = HS_MAX(rate / 1000 / MSS * MSS, 2 * MSS);
  uint32_t target = (uint32_t)(BDP * 739ull / 256) + 3 * burst;
  assert_int_equal(c->cc->rate(c), rate);
  c->cwnd = target - 1;
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, target + 499);
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, target + 499);
  c->cwnd = target;
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, target);
  c->b->delivered = 10 * MSS - 1;
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, target + 500);
  c->b->delivered = 10 * MSS;
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, target + 500);
}

/* 4.2.2: a rate below the one in use counts only when the pipe is known to be full. */
static void test_rate_falls_when_filled(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  ack(r, 400, RTT);
  assert_int_equal(c->cc->rate(c), 365000u * 739 / 256);
  r = *state;
  rig_init(r);
  c = bbr_probe_bw(r, 2);
  for (int i = 0; i < 16; i++)
    ack(r, 1, RTT);
  assert_int_equal(tcp_cc_bbr_bw(c), 25);
  assert_int_equal(c->cc->rate(c), 1000); /* the least */
}

/* 4.3.5: the least round trip is ten seconds old. */
static void test_probe_rtt_begins(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate none = {0};
  c->cwnd = 77 * MSS;
  usec_t at = r->now;
  assert_int_equal(c->b->bbr.rtprop_at, (uint32_t)at);
  r->now = at + 10 * RIG_S;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_BW);
  r->now++;
  c->cwnd = 77 * MSS;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
  assert_int_equal(c->b->bbr.prior_cwnd, 77 * MSS);
  assert_int_equal(c->cwnd, 4 * MSS);
  assert_int_equal(c->cc->rate(c), (uint64_t)BW * 253 / 256);
}

/* A pause of the app's is no reason (4.3.4.4), nor is a round trip that is as short. */
static void test_probe_rtt_not_needed(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate none = {0};
  r->now += 11 * RIG_S;
  c->cc->idle(c, 10);
  assert_int_equal(c->b->bbr.idle, 1);
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_BW);
  assert_int_equal(c->b->bbr.idle, 0);
  ack(r, BDP, RTT); /* expired: whatever it is, it is the new least */
  rig_init(r);
  c = bbr_probe_bw(r, 2);
  r->now += 9 * RIG_S;
  struct tcp_rate rs = {
      .valid = 1, .rtt_us = RTT, .prior_delivered = c->b->delivered - 1, .prior_at = (uint32_t)r->now - RTT};
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop_at, (uint32_t)r->now);
  uint32_t at = c->b->bbr.rtprop_at;
  r->now += RIG_MS;
  rs.rtt_us = RTT + 1;
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop_at, at);
  assert_int_equal(c->b->bbr.rtprop, RTT);
  rs.rtt_us = RTT - 1;
  rs.rexmit = 1;
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop, RTT); /* Karn */
  rs.rexmit = 0;
  rs.rtt_us = 0;
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop, RTT);
  rs.rtt_us = RTT - 1;
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop, RTT - 1);
}

/* An old least is replaced by a greater one, and asks for PROBE_RTT all the same. */
static void test_rtprop_expires(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate rs = {.valid = 1, .rtt_us = 3 * RTT, .prior_delivered = c->b->delivered - 1};
  r->now += 10 * RIG_S + 1;
  rs.prior_at = (uint32_t)r->now - RTT;
  ack_as(r, &rs, 0);
  assert_int_equal(c->b->bbr.rtprop, 3 * RTT);
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
}

static struct tcp_conn *bbr_probe_rtt(struct rig *r) {
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate none = {0};
  r->now += 10 * RIG_S + 1;
  c->cwnd = 50 * MSS;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
  return c;
}

/* 4.3.5: four segments out for 200 ms and a round trip; then the window of before, and PROBE_BW. */
static void test_probe_rtt_ends(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_rtt(r);
  struct tcp_rate none = {0};
  pipe_is(c, 4 * MSS + 1);
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.done_at, 0);
  assert_int_equal(c->b->app_limited, c->b->delivered + 4 * MSS + 1); /* says nothing about the path's rate */
  pipe_is(c, 4 * MSS);
  ack_as(r, &none, 0);
  uint32_t end = ((uint32_t)r->now + 200000) | 1;
  assert_int_equal(c->b->bbr.done_at, end);
  assert_int_equal(c->b->bbr.round_end, c->b->delivered);
  r->now += (uint32_t)(end - (uint32_t)r->now) + 1;
  ack_as(r, &none, 0); /* time has passed, a round has not */
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
  assert_int_equal(c->cwnd, 4 * MSS);
  c->b->bbr.done_at = (uint32_t)r->now + RTT + 1;
  ack(r, MSS, RTT); /* a round, but not the time */
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
  assert_int_equal(c->b->bbr.done_round, 1);
  r->now++;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_BW);
  assert_int_equal(c->cwnd, 50 * MSS);
  assert_int_equal(c->b->bbr.rtprop_at, (uint32_t)r->now);
  assert_int_equal(c->b->bbr.cycle_at, (uint32_t)r->now);
}

/* It goes back to STARTUP when that had not found the pipe full. */
static void test_probe_rtt_in_startup(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  struct tcp_rate none = {0};
  ack(r, BDP, RTT);
  r->now += 10 * RIG_S + 1;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->bbr.mode, PROBE_RTT);
  pipe_is(c, 0);
  ack_as(r, &none, 0);
  r->now += 300000;
  ack(r, MSS, RTT);
  assert_int_equal(c->b->bbr.mode, STARTUP);
  c->b->delivered = 0;
  c->b->bbr.mode = PROBE_RTT;
  ack_as(r, &none, 0);
  assert_int_equal(c->b->app_limited, 1); /* 0 would mean: not limited */
}

/* Losses (4.2.3.4): one round of packet conservation, then the model again; the window of before comes back. */
static void test_loss(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_bw(r, 2);
  struct tcp_rate none = {0};
  c->cwnd = 60 * MSS;
  pipe_is(c, 30 * MSS);
  uint32_t ssthresh = c->ssthresh;
  c->cc->loss(c, 60 * MSS, r->now);
  assert_int_equal(c->cwnd, 31 * MSS);
  assert_int_equal(c->ssthresh, ssthresh);
  assert_int_equal(c->b->bbr.prior_cwnd, 60 * MSS);
  assert_int_equal(c->b->bbr.round_end, c->b->delivered);
  c->recovery = TCP_RECOVERY;
  c->recover = c->d->snd_max;
  c->cwnd = 20 * MSS;
  ack_as(r, &none, 3 * MSS);
  assert_int_equal(c->cwnd, 33 * MSS); /* as much leaves as arrives */
  c->cwnd = 40 * MSS;
  ack_as(r, &none, 3 * MSS);
  assert_int_equal(c->cwnd, 40 * MSS);
  c->cc->loss(c, 60 * MSS, r->now); /* another, in the midst of it */
  assert_int_equal(c->b->bbr.prior_cwnd, 60 * MSS);
  struct tcp_rate rs = sample(r, MSS, RTT);
  ack_as(r, &rs, MSS); /* a round later */
  assert_false(c->b->bbr.conserve);
  assert_int_equal(c->cwnd, 32 * MSS);
  c->cc->recovered(c, 0);
  assert_int_equal(c->cwnd, 60 * MSS);
  c->cwnd = 70 * MSS;
  c->b->bbr.conserve = 1;
  c->cc->undo(c);
  assert_int_equal(c->cwnd, 70 * MSS);
  assert_false(c->b->bbr.conserve);
  c->recovery = TCP_OPEN; /* nothing is conserved outside of a recovery */
  c->b->bbr.conserve = 1;
  c->cwnd = 20 * MSS;
  ack_as(r, &none, MSS);
  assert_int_equal(c->cwnd, 21 * MSS);
}

static void test_timeout(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_begun(r);
  ack(r, BDP, RTT);
  ack(r, BDP, RTT);
  assert_int_equal(c->b->bbr.full_rounds, 1);
  c->cwnd = 60 * MSS;
  c->cc->rto(c, 60 * MSS, 1, r->now);
  assert_int_equal(c->cwnd, MSS);
  assert_int_equal(c->b->bbr.prior_cwnd, 60 * MSS);
  assert_int_equal(c->b->bbr.conserve, 0);
  assert_int_equal(c->b->bbr.full_rounds, 0);
  rig_init(r);
  c = bbr_new(r); /* before any sample: the model begins with it */
  c->cc->loss(c, MSS, r->now);
  assert_int_equal(c->b->bbr.begun, 1);
  assert_int_equal(c->cc->rate(c), 365000u * 739 / 256);
}

/* Losses while PROBE_RTT holds the window down: the one of before is not forgotten. */
static void test_loss_in_probe_rtt(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_probe_rtt(r);
  assert_int_equal(c->cwnd, 4 * MSS);
  c->cc->loss(c, 4 * MSS, r->now);
  assert_int_equal(c->b->bbr.prior_cwnd, 50 * MSS);
  c->cwnd = 4 * MSS;
  c->cc->recovered(c, 0);
  assert_int_equal(c->cwnd, 4 * MSS);
}

/* No product is known yet: the window is what it is. */
static void test_without_model(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = bbr_new(r);
  struct tcp_rate none = {0};
  ack_as(r, &none, 500);
  assert_int_equal(c->cwnd, 10 * MSS + 500);
  struct tcp_rate rs = sample(r, BDP, RTT);
  rs.rtt_us = 0; /* a rate, but no round trip */
  c->cwnd = 10 * MSS;
  ack_as(r, &rs, 300);
  assert_int_equal(c->b->bbr.rtprop, 0);
  assert_int_equal(c->cwnd, 10 * MSS + 300);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_initial_rate),
      RIG_TEST(test_delivery_rate),
      RIG_TEST(test_limited_samples),
      RIG_TEST(test_rounds),
      RIG_TEST(test_maximum),
      RIG_TEST(test_maximum_ages),
      RIG_TEST(test_maximum_candidates),
      RIG_TEST(test_startup_ends),
      RIG_TEST(test_drain_ends),
      RIG_TEST(test_first_phase),
      RIG_TEST(test_phases),
      RIG_TEST(test_window),
      RIG_TEST(test_extra),
      RIG_TEST(test_window_startup),
      RIG_TEST(test_rate_falls_when_filled),
      RIG_TEST(test_probe_rtt_begins),
      RIG_TEST(test_probe_rtt_not_needed),
      RIG_TEST(test_rtprop_expires),
      RIG_TEST(test_probe_rtt_ends),
      RIG_TEST(test_probe_rtt_in_startup),
      RIG_TEST(test_loss),
      RIG_TEST(test_timeout),
      RIG_TEST(test_loss_in_probe_rtt),
      RIG_TEST(test_without_model),
  };
  return cmocka_run_group_tests_name("tcp_bbr", tests, NULL, NULL);
}
