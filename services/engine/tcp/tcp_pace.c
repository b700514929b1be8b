/*
 * Pacing: what cwnd allows leaves spread over the round trip, in bursts of about a millisecond's worth, since that is
 * what the timer wheel can do. The rate is the congestion control's own (BBR), or a multiple of cwnd per round trip: 2
 * in slow start, so that cwnd can double, 1.2 afterwards, as Linux (RFC 9002 7.7 asks the same of QUIC). A connection
 * that may not send yet has an order with the wheel and costs nothing meanwhile.
 *
 * Without pacing goes a path whose round trip is so short that a millisecond is no part of it (there the clock of ACKs
 * is finer than ours), a window that is no more than an initial one, and a rate of which a millisecond is more than the
 * wheel should let out at once. Called by tcp_output.c and tcp_timer.c, worker's thread.
 */
#include "tcp_int.h"

#define PACE_SRTT_MIN   4000u    /* µs */
#define PACE_WINDOW_MIN 10u      /* segments: so many may leave as one burst at any time (RFC 6928) */
#define PACE_BURST_US   1000u    /* worth of one burst */
#define PACE_BURST_MAX  1048576u /* bytes: more per ms is not paced, 8 Gbit/s */
#define PACE_BEHIND_MAX 2000u    /* µs by which the wheel may be late without loss of rate */

static uint32_t pace_own(const struct tcp_env *e, const struct tcp_conn *c) {
  if (!e->cfg.pacing || c->srtt8 < 8 * PACE_SRTT_MIN)
    return 0;
  uint64_t rate;
  if (c->cc->rate != NULL) {
    rate = c->cc->rate(c);
  } else {
    uint32_t wnd = HS_MAX(c->cwnd, tcp_flight(c)), gain = c->cwnd < c->ssthresh / 2 ? 200 : 120; /* percent */
    if (wnd <= PACE_WINDOW_MIN * tcp_mss_payload(c))
      return 0;
    rate = (uint64_t)wnd * gain * 80000u / c->srtt8; /* 1e6 / 100 · 8 */
  }
  return rate == 0 || rate > (uint64_t)PACE_BURST_MAX * 1000u ? 0 : (uint32_t)rate;
}

/** Bytes per second at which data may leave now; 0 = not paced. */
uint32_t tcp_pace_rate(const struct tcp_env *e, const struct tcp_conn *c) {
  uint32_t rate = pace_own(e, c), max = c->d->opt.max_pacing; /* SO_MAX_PACING_RATE */
  if (HS_LIKELY(max == 0) || max > PACE_BURST_MAX * 1000u || (rate != 0 && rate < max))
    return rate;
  return max;
}

/** Bytes of one burst at this rate: whole segments, two at least. */
uint32_t tcp_pace_burst(uint32_t rate, uint32_t payload) {
  uint32_t burst = (uint32_t)((uint64_t)rate * PACE_BURST_US / 1000000u);
  return HS_MAX(burst - burst % payload, 2 * payload);
}

/** Whether data must wait; then the timer is armed. */
int tcp_pace_wait(struct tcp_conn *c, uint32_t rate, usec_t now) {
  if (rate == 0 || c->b->pace_at <= now) {
    tcp_timer_stop(c, TCP_T_PACE);
    return 0;
  }
  tcp_timer_arm(c, TCP_T_PACE, c->b->pace_at);
  return 1;
}

/** `len` bytes left now. */
void tcp_pace_sent(struct tcp_conn *c, uint32_t rate, uint32_t len, usec_t now) {
  if (rate == 0)
    return;
  usec_t from = HS_MAX(c->b->pace_at, now > PACE_BEHIND_MAX ? now - PACE_BEHIND_MAX : 0);
  c->b->pace_at = from + (usec_t)len * 1000000u / rate;
}
