/*
 * Congestion control as RFC 5681 has it, with appropriate byte counting (RFC 3465; the limit L is left out because one
 * ACK here stands for a whole merged burst, and bursts are paced by the ACK clock of GSO segments). Recovery itself is
 * tcp_loss.c's; here are only the numbers.
 */
#include "tcp_int.h"

void tcp_cc_newreno_init(struct tcp_conn *c, uint32_t init_segs) {
  c->cwnd = HS_MAX(init_segs, 1u) * tcp_mss_payload(c); /* RFC 6928 */
  c->ssthresh = TCP_CWND_MAX;
  tcp_cc_forget(c);
}

static void newreno_acked(struct tcp_conn *c, uint32_t acked, uint32_t flight, usec_t now) {
  (void)now;
  uint32_t mss = tcp_mss_payload(c);
  if (c->cwnd < c->ssthresh) {
    /* RFC 5681 3.1 slow start; grown only when at least half of cwnd is in use (RFC 7661) */
    if (c->limited || flight >= c->cwnd / 2)
      c->cwnd = HS_MIN(c->cwnd + HS_MIN(acked, HS_MAX(c->ssthresh - c->cwnd, mss)), TCP_CWND_MAX);
    return;
  }
  if (!c->limited && flight + flight / 4 < c->cwnd)
    return;
  c->cwnd_acked += acked;
  if (c->cwnd_acked >= c->cwnd) { /* one segment per cwnd of acknowledged bytes */
    c->cwnd_acked -= c->cwnd;
    c->cwnd = HS_MIN(c->cwnd + mss, TCP_CWND_MAX);
  }
}

static void newreno_loss(struct tcp_conn *c, uint32_t flight, usec_t now) {
  (void)now;
  c->ssthresh = tcp_cc_reduced(c, flight / 2); /* RFC 5681 (4) */
  c->cwnd = c->ssthresh;
  c->cwnd_acked = 0;
}

static void newreno_rto(struct tcp_conn *c, uint32_t flight, int first, usec_t now) {
  (void)now;
  if (first)
    c->ssthresh = tcp_cc_reduced(c, flight / 2);
  c->cwnd = tcp_mss_payload(c); /* loss window */
  c->cwnd_acked = 0;
}

void tcp_cc_newreno_recovered(struct tcp_conn *c, uint32_t flight) {
  uint32_t mss = tcp_mss_payload(c);
  if (c->d->nego & ABI_TCB_SACK)
    c->cwnd = c->ssthresh; /* RFC 6675: the pipe was kept full on the way */
  else
    c->cwnd = HS_MIN(c->ssthresh, HS_MAX(flight, mss) + mss); /* RFC 6582 3.2 step 3: no burst after recovery */
  c->cwnd = HS_MAX(c->cwnd, mss);
  c->cwnd_acked = 0;
}

void tcp_cc_newreno_undo(struct tcp_conn *c) {
  c->cwnd = HS_MAX(c->cwnd, c->b->prior_cwnd);
  c->ssthresh = HS_MAX(c->ssthresh, c->b->prior_ssthresh);
}

void tcp_cc_newreno_idle(struct tcp_conn *c, uint32_t init_segs) {
  c->cwnd = HS_MIN(c->cwnd, HS_MAX(init_segs, 1u) * tcp_mss_payload(c)); /* RFC 5681 4.1 */
}

const struct tcp_cc_ops tcp_cc_newreno = {
    .name = "newreno",
    .init = tcp_cc_newreno_init,
    .acked = newreno_acked,
    .loss = newreno_loss,
    .rto = newreno_rto,
    .recovered = tcp_cc_newreno_recovered,
    .undo = tcp_cc_newreno_undo,
    .idle = tcp_cc_newreno_idle,
};
