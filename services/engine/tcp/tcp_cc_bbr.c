/*
 * BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00; from 02 what allows for ACKs in heaps; ACM Queue
 * 14(5), 2016): a model of the path, the greatest delivery rate of ten round trips and the least round trip of ten
 * seconds, sets the pacing rate and cwnd. Losses are repaired by tcp_loss.c as always; they do not reduce the model,
 * only cwnd for a round trip (packet conservation). Version 3 (draft-ietf-ccwg-bbr) was still changing when this was
 * written. Not here: the detection of policers, which Linux has and the draft has not.
 *
 * Delivery rates are tcp_sent.c's (draft-cheng-iccrg-delivery-rate-estimation). Called through tcp_cc_ops in the
 * worker's thread. Where pacing is off (tcp_pace.c) cwnd of two bandwidth-delay products is what bounds the queue.
 */
#include "tcp_int.h"

/* Gains in 1/256 (draft 4.2, 4.3.4.3) */
#define UNIT         256u
#define HIGH_GAIN    739u /* 2/ln 2 */
#define DRAIN_GAIN   88u
#define CWND_GAIN    512u
#define BW_ROUNDS    10u             /* BtlBwFilterLen */
#define RTPROP_LIFE  (10u * 1000000) /* µs, RTpropFilterLen */
#define PROBE_RTT_US 200000u         /* ProbeRTTDuration */
#define MIN_PIPE     4u              /* segments, BBRMinPipeCwnd */
#define FULL_ROUNDS  3u
#define CYCLE_LEN    8u
#define EXTRA_ROUNDS 5u         /* ExtraACKedFilterLen is two of these */
#define EXTRA_US     100000u    /* what may be added for it is what comes in so much time */
#define EXTRA_COUNT  (1u << 30) /* bytes, well within its word */
#define MARGIN       253u       /* of 256: a hundredth below the estimate, so that no queue stays for ever */

enum bbr_mode { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_BW, BBR_PROBE_RTT };

static const uint16_t cycle_gain[CYCLE_LEN] = {UNIT * 5 / 4, UNIT * 3 / 4, UNIT, UNIT, UNIT, UNIT, UNIT, UNIT};

/* --- the greatest rate of ten rounds: the best three, each later than the one before (Kathleen Nichols' filter) --- */

static void bbr_max_reset(struct tcp_bbr *b, uint32_t round, uint32_t bw) {
  for (unsigned i = 0; i < 3; i++)
    b->max[i] = (struct tcp_bbr_max){round, bw};
}

static void bbr_max_add(struct tcp_bbr *b, uint32_t round, uint32_t bw) {
  struct tcp_bbr_max s = {round, bw}, *m = b->max;
  if (bw >= m[0].bw || round - m[2].round > BW_ROUNDS) {
    bbr_max_reset(b, round, bw);
    return;
  }
  if (bw >= m[1].bw)
    m[1] = m[2] = s;
  else if (bw >= m[2].bw)
    m[2] = s;
  uint32_t age = round - m[0].round;
  if (age > BW_ROUNDS) {
    m[0] = m[1];
    m[1] = m[2];
    m[2] = s;
    if (round - m[0].round > BW_ROUNDS) {
      m[0] = m[1];
      m[1] = m[2];
    }
  } else if (m[1].round == m[0].round && age > BW_ROUNDS / 4) {
    m[1] = m[2] = s;
  } else if (m[2].round == m[1].round && age > BW_ROUNDS / 2) {
    m[2] = s;
  }
}

/** The present estimate, bytes per second. For tests too. */
uint32_t tcp_cc_bbr_bw(const struct tcp_conn *c) {
  return c->b->bbr.max[0].bw;
}

/* gain · BtlBw · RTprop in bytes (draft 4.2.3.2), with room for what GSO and delayed ACKs hold back. */
static uint32_t bbr_inflight(const struct tcp_conn *c, uint32_t gain) {
  const struct tcp_bbr *b = &c->b->bbr;
  if (b->rtprop == 0 || b->max[0].bw == 0)
    return c->cwnd;
  uint64_t bdp = (uint64_t)b->max[0].bw * b->rtprop / 1000000u;
  return (uint32_t)HS_MIN(bdp * gain / UNIT, (uint64_t)TCP_CWND_MAX);
}

static uint32_t bbr_quanta(const struct tcp_conn *c) {
  return 3 * HS_MAX(tcp_pace_burst(c->b->bbr.rate, tcp_mss_payload(c)), 2 * tcp_mss_payload(c));
}

static uint32_t bbr_gain(const struct tcp_bbr *b) {
  switch (b->mode) {
  case BBR_STARTUP:
    return HIGH_GAIN;
  case BBR_DRAIN:
    return DRAIN_GAIN;
  case BBR_PROBE_BW:
    return cycle_gain[b->cycle];
  default:
    return UNIT;
  }
}

static void bbr_start(struct tcp_conn *c, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  uint32_t rtt = c->srtt8 != 0 ? HS_MAX(c->srtt8 / 8, 1u) : 1000;
  *b = (struct tcp_bbr){.begun = 1, .rtprop_at = (uint32_t)now, .round_end = c->b->delivered};
  b->rate = (uint32_t)HS_MIN((uint64_t)c->cwnd * 1000000u / rtt * HIGH_GAIN / UNIT, (uint64_t)UINT32_MAX);
}

static void bbr_init(struct tcp_conn *c, uint32_t init_segs) {
  tcp_cc_newreno_init(c, init_segs);
  c->b->bbr = (struct tcp_bbr){0};
}

static void bbr_acked(struct tcp_conn *c, uint32_t acked, uint32_t flight, usec_t now) {
  (void)c;
  (void)acked;
  (void)flight;
  (void)now;
}

/* --- the model --- */

static void bbr_round(struct tcp_conn *c, const struct tcp_rate *rs) {
  struct tcp_bbr *b = &c->b->bbr;
  b->round_start = (int32_t)(rs->prior_delivered - b->round_end) >= 0;
  if (!b->round_start)
    return;
  b->round_end = c->b->delivered;
  b->round++;
  b->conserve = 0; /* one round of packet conservation (draft 4.2.3.4) */
}

static void bbr_update_bw(struct tcp_conn *c, const struct tcp_rate *rs, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  uint32_t us = HS_MAX(rs->send_us, (uint32_t)now - rs->prior_at);
  bbr_round(c, rs);
  if (us == 0 || us < c->min_rtt) /* rate estimation 3.3: such a short interval is a compressed train of ACKs */
    return;
  uint64_t bw = (uint64_t)(c->b->delivered - rs->prior_delivered) * 1000000u / us;
  bw = HS_MIN(bw, (uint64_t)UINT32_MAX);
  if (!rs->limited || bw >= b->max[0].bw)
    bbr_max_add(b, b->round, (uint32_t)bw);
}

/* How much more is acknowledged at times than the rate says: what the receiver, the path and the devices save up for
 * one ACK has to be in flight besides, or the pipe runs dry meanwhile
 * (draft-cardwell-iccrg-bbr-congestion-control-02 4.5.5). */
static void bbr_update_extra(struct tcp_conn *c, uint32_t delivered, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  if (b->round_start && ++b->extra_rounds >= EXTRA_ROUNDS) {
    b->extra_rounds = 0;
    b->extra[1] = b->extra[0];
    b->extra[0] = 0;
  }
  uint64_t expected = (uint64_t)b->max[0].bw * ((uint32_t)now - b->extra_at) / 1000000u;
  if (b->extra_n <= expected || b->extra_n > EXTRA_COUNT) {
    b->extra_n = 0;
    b->extra_at = (uint32_t)now;
    expected = 0;
  }
  b->extra_n += delivered;
  b->extra[0] = HS_MAX(b->extra[0], HS_MIN(b->extra_n - (uint32_t)expected, c->cwnd));
}

static uint32_t bbr_extra(const struct tcp_bbr *b) {
  if (!b->filled)
    return 0;
  uint64_t most = (uint64_t)b->max[0].bw * EXTRA_US / 1000000u;
  return (uint32_t)HS_MIN(most, (uint64_t)HS_MAX(b->extra[0], b->extra[1]));
}

/* 4.3.2.2: three rounds without a quarter more: the pipe is full. */
static void bbr_full(struct tcp_conn *c, const struct tcp_rate *rs) {
  struct tcp_bbr *b = &c->b->bbr;
  if (b->filled || !b->round_start || rs->limited)
    return;
  if ((uint64_t)b->max[0].bw * 4 >= (uint64_t)b->full_bw * 5) {
    b->full_bw = b->max[0].bw;
    b->full_rounds = 0;
    return;
  }
  b->filled = ++b->full_rounds >= FULL_ROUNDS;
}

/* --- the modes --- */

static void bbr_probe_bw(struct tcp_conn *c, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  b->mode = BBR_PROBE_BW;
  uint32_t draw = (c->d->iss ^ b->round * 2654435761u) >> 16;
  b->cycle = (uint8_t)(CYCLE_LEN - 1 - draw % (CYCLE_LEN - 1)); /* any phase but the one that drains: 4.3.4.3 */
  if (b->cycle == 1)
    b->cycle = 0;
  b->cycle_at = (uint32_t)now;
}

static void bbr_cycle(struct tcp_conn *c, uint32_t pipe, int lost, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  int full_length = (uint32_t)now - b->cycle_at > b->rtprop;
  uint32_t gain = cycle_gain[b->cycle];
  int next = gain == UNIT  ? full_length
             : gain > UNIT ? full_length && (lost || pipe >= bbr_inflight(c, gain))
                           : full_length || pipe <= bbr_inflight(c, UNIT);
  if (!next)
    return;
  b->cycle = (uint8_t)((b->cycle + 1) % CYCLE_LEN);
  b->cycle_at = (uint32_t)now;
}

static void bbr_probe_rtt(struct tcp_conn *c, uint32_t pipe, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  c->b->app_limited = c->b->delivered + pipe; /* what is measured now says nothing about the path's rate */
  if (c->b->app_limited == 0)
    c->b->app_limited = 1;
  if (b->done_at == 0) {
    if (pipe <= MIN_PIPE * tcp_mss_payload(c)) {
      b->done_at = ((uint32_t)now + PROBE_RTT_US) | 1u;
      b->done_round = 0;
      b->round_end = c->b->delivered;
    }
    return;
  }
  b->done_round |= b->round_start;
  if (!b->done_round || (int32_t)((uint32_t)now - b->done_at) < 0)
    return;
  b->rtprop_at = (uint32_t)now;
  c->cwnd = HS_MAX(c->cwnd, b->prior_cwnd);
  if (b->filled)
    bbr_probe_bw(c, now);
  else
    b->mode = BBR_STARTUP;
}

static void bbr_update_rtprop(struct tcp_conn *c, const struct tcp_rate *rs, uint32_t pipe, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  int expired = (uint32_t)now - b->rtprop_at > RTPROP_LIFE;
  if (rs->valid && !rs->rexmit && rs->rtt_us != 0 && (b->rtprop == 0 || rs->rtt_us <= b->rtprop || expired)) {
    b->rtprop = rs->rtt_us;
    b->rtprop_at = (uint32_t)now;
  }
  if (expired && b->mode != BBR_PROBE_RTT && !b->idle) {
    b->mode = BBR_PROBE_RTT;
    b->prior_cwnd = c->recovery == TCP_OPEN ? c->cwnd : HS_MAX(b->prior_cwnd, c->cwnd);
    b->done_at = 0;
  }
  if (b->mode == BBR_PROBE_RTT)
    bbr_probe_rtt(c, pipe, now);
  b->idle = 0;
}

static void bbr_modes(struct tcp_conn *c, const struct tcp_rate *rs, uint32_t pipe, int lost, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  if (b->mode == BBR_PROBE_BW)
    bbr_cycle(c, pipe, lost, now);
  bbr_full(c, rs);
  if (b->mode == BBR_STARTUP && b->filled)
    b->mode = BBR_DRAIN;
  if (b->mode == BBR_DRAIN && pipe <= bbr_inflight(c, UNIT))
    bbr_probe_bw(c, now);
  bbr_update_rtprop(c, rs, pipe, now);
}

/* --- the controls --- */

static void bbr_set_rate(struct tcp_conn *c) {
  struct tcp_bbr *b = &c->b->bbr;
  if (b->max[0].bw == 0)
    return;
  uint64_t rate = (uint64_t)b->max[0].bw * bbr_gain(b) / UNIT * MARGIN / UNIT;
  rate = HS_CLAMP(rate, 1000u, (uint64_t)UINT32_MAX);
  if (b->filled || rate > b->rate)
    b->rate = (uint32_t)rate;
}

static void bbr_set_cwnd(struct tcp_conn *c, uint32_t delivered, uint32_t pipe) {
  struct tcp_bbr *b = &c->b->bbr;
  uint32_t mss = tcp_mss_payload(c), least = MIN_PIPE * mss;
  uint32_t gain = b->mode == BBR_STARTUP || b->mode == BBR_DRAIN ? HIGH_GAIN : CWND_GAIN;
  if (b->conserve && c->recovery != TCP_OPEN) {
    c->cwnd = HS_MAX(HS_MIN(c->cwnd, TCP_CWND_MAX), pipe + delivered);
  } else if (b->mode != BBR_PROBE_RTT) {
    uint32_t target = HS_MIN(bbr_inflight(c, gain) + bbr_quanta(c) + bbr_extra(b), TCP_CWND_MAX);
    if (b->filled)
      c->cwnd = HS_MIN(c->cwnd + delivered, target);
    else if (c->cwnd < target || c->b->delivered < 10 * mss)
      c->cwnd = HS_MIN(c->cwnd + delivered, TCP_CWND_MAX);
    c->cwnd = HS_MAX(c->cwnd, least);
  }
  if (b->mode == BBR_PROBE_RTT)
    c->cwnd = HS_MIN(c->cwnd, least);
}

static void bbr_sample(struct tcp_conn *c, const struct tcp_rate *rs, uint32_t delivered, int lost, usec_t now) {
  uint32_t pipe = tcp_loss_pipe(c);
  if (!c->b->bbr.begun)
    bbr_start(c, now);
  c->b->bbr.round_start = 0; /* also by an ACK that says nothing of a rate: no round may count twice */
  if (rs->valid) {
    bbr_update_bw(c, rs, now);
    bbr_update_extra(c, delivered, now);
  }
  bbr_modes(c, rs, pipe, lost, now);
  bbr_set_rate(c);
  bbr_set_cwnd(c, delivered, pipe);
}

static uint32_t bbr_rate(const struct tcp_conn *c) {
  return c->b->bbr.rate;
}

/* --- losses: 4.2.3.4 --- */

static void bbr_loss(struct tcp_conn *c, uint32_t flight, usec_t now) {
  struct tcp_bbr *b = &c->b->bbr;
  (void)flight;
  if (!b->begun)
    bbr_start(c, now);
  if (c->recovery == TCP_OPEN)
    b->prior_cwnd = b->mode == BBR_PROBE_RTT ? HS_MAX(b->prior_cwnd, c->cwnd) : c->cwnd;
  b->conserve = 1;
  b->round_end = c->b->delivered;
  c->cwnd = HS_MAX(tcp_loss_pipe(c) + tcp_mss_payload(c), tcp_mss_payload(c));
}

static void bbr_rto(struct tcp_conn *c, uint32_t flight, int first, usec_t now) {
  (void)first;
  bbr_loss(c, flight, now);
  c->b->bbr.conserve = 0;
  c->b->bbr.full_rounds = 0;
  c->cwnd = tcp_mss_payload(c);
}

static void bbr_recovered(struct tcp_conn *c, uint32_t flight) {
  struct tcp_bbr *b = &c->b->bbr;
  (void)flight;
  b->conserve = 0;
  if (b->mode != BBR_PROBE_RTT)
    c->cwnd = HS_MAX(c->cwnd, b->prior_cwnd);
}

static void bbr_undo(struct tcp_conn *c) {
  bbr_recovered(c, 0);
}

static void bbr_idle(struct tcp_conn *c, uint32_t init_segs) {
  (void)init_segs;
  c->b->bbr.idle =
      1; /* 4.3.4.4: pacing at the known rate is the restart; the pause is no reason to probe the round trip */
}

const struct tcp_cc_ops tcp_cc_bbr = {
    .name = "bbr",
    .own_cwnd = 1,
    .init = bbr_init,
    .acked = bbr_acked,
    .loss = bbr_loss,
    .rto = bbr_rto,
    .recovered = bbr_recovered,
    .undo = bbr_undo,
    .idle = bbr_idle,
    .sample = bbr_sample,
    .rate = bbr_rate,
};
