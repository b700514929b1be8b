/*
 * Proportional Rate Reduction (RFC 6937): how much each ACK of a SACK recovery lets out, so that the window comes down
 * to ssthresh over one round trip, without the silence of half a window at its start and without a burst at its end.
 * The result is stored as cwnd, which tcp_output.c compares with the pipe. Called by tcp_loss.c and tcp_output.c.
 */
#include "tcp_int.h"

/** Recovery begins; ssthresh is set. */
void tcp_prr_begin(struct tcp_conn *c) {
  c->b->prr_delivered = c->b->prr_out = 0;
  c->b->prr_fs = HS_MAX(tcp_flight(c), 1u); /* RecoverFS */
}

/** An ACK in recovery (RFC 6937 3): `delivered` bytes arrived by it, cumulatively or SACKed. */
void tcp_prr_ack(struct tcp_conn *c, uint32_t delivered) {
  uint32_t pipe = tcp_loss_pipe(c), mss = tcp_mss_payload(c), more;
  c->b->prr_delivered += HS_MIN(delivered, UINT32_MAX - c->b->prr_delivered);
  if (pipe > c->ssthresh) { /* proportional */
    uint64_t due = ((uint64_t)c->b->prr_delivered * c->ssthresh + c->b->prr_fs - 1) / c->b->prr_fs;
    more = due > c->b->prr_out ? (uint32_t)HS_MIN(due - c->b->prr_out, (uint64_t)TCP_CWND_MAX) : 0;
  } else { /* slow start reduction bound: PRR-SSRB */
    uint32_t left = c->b->prr_delivered > c->b->prr_out ? c->b->prr_delivered - c->b->prr_out : 0;
    more = HS_MIN(c->ssthresh - pipe, HS_MIN(HS_MAX(left, delivered), TCP_CWND_MAX) + mss);
  }
  c->cwnd = HS_MAX(HS_MIN(pipe + more, TCP_CWND_MAX), mss);
}

/** `len` bytes left, new or again. */
void tcp_prr_sent(struct tcp_conn *c, uint32_t len) {
  if (c->recovery == TCP_RECOVERY)
    c->b->prr_out += HS_MIN(len, UINT32_MAX - c->b->prr_out);
}
