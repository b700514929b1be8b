/*
 * CUBIC (RFC 9438) with HyStart++ (RFC 9406) as its slow start, in integers. Sizes are bytes, though the RFC counts
 * segments; cubic time is counted in ticks of 1024 µs, for which 0.4 · t³ is one multiplication and one division.
 * Recovery itself is tcp_loss.c's; here are only the numbers. Called through tcp_cc_ops in the worker's thread.
 *
 * HyStart++ judges by the round trip that each ACK shows, for which it needs timestamps (RFC 7323); without them too
 * few round trips are timed, and slow start ends with the first loss, as in RFC 5681.
 */
#include "tcp_int.h"

/* C = 0.4 segments per s³ (RFC 9438 5.1): C · tick³ = 0.4 · (1.024e-3)³ = 2^32 · 1e-19 segments */
#define TICK_SHIFT   10u
#define TICKS_MAX    (1u << 18) /* 4.5 min: 0.4 t³ is beyond TCP_CWND_MAX long before */
#define CUBE_SHIFT   10u
#define CUBE_DIV     2273737ull    /* 1 / (2^10 · 2^32 · 1e-19) */
#define CUBE_INVERSE 2328306437ull /* 1 / (2^32 · 1e-19): ticks³ per segment */

/* RFC 9438 4.6: beta = 0.7; 4.3: alpha = 3 (1 − beta) / (1 + beta) = 9/17 */
#define BETA(x)  ((uint32_t)((uint64_t)(x)*7 / 10))
#define ALPHA(x) ((uint32_t)((uint64_t)(x)*17 / 9)) /* bytes to be acked for one segment more, per window x */

/* RFC 9406 4.3 */
#define MIN_RTT_THRESH     4000u /* µs */
#define MAX_RTT_THRESH     16000u
#define MIN_RTT_DIVISOR    8u
#define N_RTT_SAMPLE       8u
#define CSS_GROWTH_DIVISOR 4u
#define CSS_ROUNDS         5u

/** Greatest k with k³ ≤ x. Used by tests too. */
uint32_t tcp_cc_cubic_root(uint64_t x) {
  uint64_t k = 0;
  for (int bit = 21; bit >= 0; bit--) { /* (2^22 − 1)³ is above 2^64 − 1 only for k > 2642245 */
    uint64_t t = k | 1ull << bit;
    if (t <= 2642245u && t * t * t <= x)
      k = t;
  }
  return (uint32_t)k;
}

/** W_cubic(t) in bytes, `ticks` after the epoch began (RFC 9438 4.2 equation 1). */
uint32_t tcp_cc_cubic_at(const struct tcp_conn *c, uint64_t ticks) {
  const struct tcp_cubic *q = &c->b->cubic;
  uint64_t t = HS_MIN(ticks, (uint64_t)TICKS_MAX);
  uint64_t d = t > q->k ? t - q->k : HS_MIN(q->k - t, (uint64_t)TICKS_MAX);
  uint64_t delta = (d * d * d >> CUBE_SHIFT) * tcp_mss_payload(c) / CUBE_DIV;
  if (t >= q->k)
    return (uint32_t)HS_MIN(c->w_max + delta, (uint64_t)TCP_CWND_MAX);
  return delta < c->w_max ? c->w_max - (uint32_t)delta : 0;
}

/* --- HyStart++ --- */

/* Conservative slow start, at the end of a round. */
static void hystart_css_round(struct tcp_conn *c) {
  struct tcp_hystart *h = &c->b->hystart;
  if (h->samples >= N_RTT_SAMPLE && h->now < h->last) {
    h->css = 0; /* RFC 9406 4.2: the delay is gone, it was no queue of ours */
  } else if (++h->css > CSS_ROUNDS) {
    c->ssthresh = c->cwnd;
    h->css = 0;
  }
}

/* One ACK in the initial slow start (RFC 9406 4.2). */
static void hystart_acked(struct tcp_conn *c) {
  struct tcp_hystart *h = &c->b->hystart;
  if (c->b->ack_rtt != 0) {
    h->now = HS_MIN(h->now, c->b->ack_rtt);
    h->samples = (uint8_t)HS_MIN(h->samples + 1u, 255u);
  }
  if (h->css == 0 && h->samples >= N_RTT_SAMPLE && h->last != UINT32_MAX &&
      h->now >= h->last + HS_CLAMP(h->last / MIN_RTT_DIVISOR, MIN_RTT_THRESH, MAX_RTT_THRESH)) {
    h->last = h->now; /* cssBaselineMinRtt */
    h->css = 1;
  }
  if (seq_lt(c->snd_una, h->end))
    return;
  if (h->css != 0)
    hystart_css_round(c);
  h->end = c->snd_nxt;
  if (h->css == 0)
    h->last = h->now;
  h->now = UINT32_MAX;
  h->samples = 0;
}

static void cubic_slow_start(struct tcp_conn *c, uint32_t acked, uint32_t flight) {
  uint32_t mss = tcp_mss_payload(c);
  if (c->ssthresh == TCP_CWND_MAX) /* RFC 9406 4.3: the initial one only */
    hystart_acked(c);
  if (!c->limited && flight < c->cwnd / 2)
    return;
  uint32_t grow = c->b->hystart.css != 0 ? acked / CSS_GROWTH_DIVISOR : acked;
  if (c->cwnd < c->ssthresh)
    c->cwnd = HS_MIN(c->cwnd + HS_MIN(grow, HS_MAX(c->ssthresh - c->cwnd, mss)), TCP_CWND_MAX);
}

/* --- congestion avoidance --- */

/* RFC 9438 4.2: a stage of congestion avoidance begins. Without a reduction before it (HyStart++) or after a timeout
 * (4.8), W_max is where it begins. */
static void cubic_epoch(struct tcp_conn *c, usec_t now) {
  struct tcp_cubic *q = &c->b->cubic;
  q->epoch_at = q->last_at = now;
  q->k = 0;
  if (c->w_max > c->cwnd)
    q->k = tcp_cc_cubic_root((c->w_max - c->cwnd) * CUBE_INVERSE / tcp_mss_payload(c)); /* equation 2 */
  else
    c->w_max = c->cwnd;
  q->w_est = c->cwnd;
  q->est_acked = 0;
  c->cwnd_acked = 0;
}

/* W_est, what Reno with CUBIC's beta would have (RFC 9438 4.3 equation 4). */
static void cubic_friendly(struct tcp_conn *c, uint32_t acked) {
  struct tcp_cubic *q = &c->b->cubic;
  uint32_t per_segment = q->w_est >= c->w_prior ? c->cwnd : ALPHA(c->cwnd);
  q->est_acked += HS_MIN(acked, TCP_CWND_MAX);
  while (q->est_acked >= per_segment) {
    q->est_acked -= per_segment;
    q->w_est = HS_MIN(q->w_est + tcp_mss_payload(c), TCP_CWND_MAX);
  }
}

static void cubic_acked(struct tcp_conn *c, uint32_t acked, uint32_t flight, usec_t now) {
  struct tcp_cubic *q = &c->b->cubic;
  if (c->cwnd < c->ssthresh) {
    cubic_slow_start(c, acked, flight);
    return;
  }
  if (!c->limited && flight + flight / 4 < c->cwnd)
    return;
  if (q->epoch_at == 0)
    cubic_epoch(c, now);
  usec_t srtt = c->srtt8 / 8;
  if (now - q->last_at > 2 * srtt + 1000) /* RFC 9438 5.8: time in which the app sent less does not count */
    q->epoch_at += now - q->last_at - srtt;
  q->last_at = now;
  cubic_friendly(c, acked);
  /* 4.4, 4.5: towards W_cubic one round trip ahead, by no more than half */
  uint32_t target = tcp_cc_cubic_at(c, (now - q->epoch_at + srtt) >> TICK_SHIFT);
  target = HS_MIN(HS_MAX(target, c->cwnd), c->cwnd + c->cwnd / 2);
  uint64_t grow = c->cwnd_acked + (uint64_t)(target - c->cwnd) * acked;
  c->cwnd_acked = (uint32_t)(grow % c->cwnd); /* what is left of a byte */
  c->cwnd = (uint32_t)HS_MIN(c->cwnd + grow / c->cwnd, (uint64_t)TCP_CWND_MAX);
  c->cwnd = HS_MAX(c->cwnd, q->w_est);
}

/* --- losses --- */

static void cubic_remember(struct tcp_conn *c) {
  struct tcp_cubic *q = &c->b->cubic;
  q->prior_w_max = c->w_max;
  q->prior_k = q->k;
  q->prior_epoch_at = q->epoch_at;
}

static void cubic_loss(struct tcp_conn *c, uint32_t flight, usec_t now) {
  (void)now;
  struct tcp_cubic *q = &c->b->cubic;
  cubic_remember(c);
  /* RFC 9438 4.7, fast convergence: the last maximum was not reached, others want their share */
  c->w_max = c->cwnd < c->w_max ? (uint32_t)((uint64_t)c->cwnd * 17 / 20) : c->cwnd;
  c->w_prior = c->cwnd;
  q->epoch_at = 0;
  c->ssthresh = tcp_cc_reduced(c, BETA(flight)); /* 4.6 */
  c->cwnd = c->ssthresh;
  c->cwnd_acked = 0;
  c->b->hystart.css = 0;
}

static void cubic_rto(struct tcp_conn *c, uint32_t flight, int first, usec_t now) {
  (void)now;
  struct tcp_cubic *q = &c->b->cubic;
  cubic_remember(c);
  c->w_max = 0; /* RFC 9438 4.8: the next stage begins with K = 0, W_max = its first cwnd */
  q->epoch_at = 0;
  if (first) {
    c->w_prior = c->cwnd;
    c->ssthresh = tcp_cc_reduced(c, BETA(flight));
  }
  c->cwnd = tcp_mss_payload(c);
  c->cwnd_acked = 0;
  c->b->hystart.css = 0;
}

/* RFC 9438 4.9: the congestion event was none. */
static void cubic_undo(struct tcp_conn *c) {
  struct tcp_cubic *q = &c->b->cubic;
  tcp_cc_newreno_undo(c);
  c->w_max = q->prior_w_max;
  q->k = q->prior_k;
  q->epoch_at = q->prior_epoch_at;
  q->w_est = 0;
  c->cwnd_acked = 0;
}

const struct tcp_cc_ops tcp_cc_cubic = {
    .name = "cubic",
    .init = tcp_cc_newreno_init,
    .acked = cubic_acked,
    .loss = cubic_loss,
    .rto = cubic_rto,
    .recovered = tcp_cc_newreno_recovered,
    .undo = cubic_undo,
    .idle = tcp_cc_newreno_idle,
};
