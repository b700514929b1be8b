/*
 * Explicit congestion notification (RFC 3168 6.1): what the handshake agrees on, what a mark or its echo does, and
 * which segments carry what. Agreed on is durable (nego); an echo that is owed and a CWR that is due are soft: after a
 * crash the next mark, or the next echo, brings them back. Called by tcp_open.c, tcp_input.c, tcp_ack.c, tcp_loss.c and
 * tcp_output.c.
 */
#include "tcp_int.h"

#define ECT0 2u /* RFC 3168 5: what we mark our data with */

/** A SYN or SYN-ACK came. 1 = the peer does ECN (RFC 3168 6.1.1): SYN with ECE and CWR, SYN-ACK with ECE alone; a peer
 * that reflects both flags knows nothing of them. */
int tcp_ecn_offered(const struct tcp_seg_in *seg) {
  uint32_t f = seg->hdr.flags & (TCP_ECE | TCP_CWR);
  return seg->hdr.flags & TCP_ACK ? f == TCP_ECE : f == (TCP_ECE | TCP_CWR);
}

/** Flags of our SYN or SYN-ACK. A SYN that is sent again asks no more (RFC 3168 6.1.1.1): something on the way may
 * throw away what asks. */
uint32_t tcp_ecn_syn_flags(struct tcp_env *e, struct tcp_conn *c, int passive, int again) {
  struct abi_tcb *d = c->d;
  if (!(d->nego & ABI_TCB_ECN))
    return 0;
  if (passive)
    return TCP_ECE;
  if (!again)
    return TCP_ECE | TCP_CWR;
  TCP_COUNT(e, ecn_fallback);
  d->nego &= (uint8_t)~ABI_TCB_ECN;
  return 0;
}

/** A segment is built: ECE on every ACK as long as the echo is owed (6.1.3), ECT on new data alone (6.1.5, 6.1.6: not
 * on what was sent before, nor on probes and pure ACKs, 6.1.4), CWR on the first new data after a reduction (6.1.2). */
void tcp_ecn_fill(struct tcp_conn *c, struct tcp_seg_out *out) {
  out->tos &= (uint8_t)~3u; /* ECN is not the program's to set */
  if (!(c->d->nego & ABI_TCB_ECN) || (out->flags & TCP_RST))
    return;
  if (c->ecn_echo)
    out->flags |= TCP_ECE;
}

void tcp_ecn_data(struct tcp_conn *c, struct tcp_seg_out *out) {
  if (!(c->d->nego & ABI_TCB_ECN))
    return;
  out->tos |= ECT0;
  if (c->ecn_cwr)
    out->flags |= TCP_CWR;
}

/** An acceptable segment came: CWR ends the echo, a mark on data begins it, and is told at once. */
void tcp_ecn_in(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg) {
  if (!(c->d->nego & ABI_TCB_ECN))
    return;
  if (seg->hdr.flags & TCP_CWR)
    c->ecn_echo = 0;
  if (!seg->ce || seg->len == 0)
    return;
  TCP_COUNT(e, ecn_ce_in);
  c->ecn_echo = 1;
  c->ack_now = 1;
}

/** An ACK with ECE came (BBR is deaf to it, as published): cwnd is reduced as by a loss, once per window of data (RFC
 * 3168 6.1.2; RFC 9438 4.6), and nothing is sent again. */
void tcp_ecn_echoed(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  TCP_COUNT(e, ecn_ece_in);
  if (c->cc->own_cwnd || c->recovery != TCP_OPEN || seq_leq(c->snd_una, c->b->ecn_until))
    return;
  TCP_COUNT(e, ecn_cuts);
  c->undo = TCP_UNDO_NONE;
  c->cc->loss(c, tcp_loss_flight(c), now);
  c->cc->recovered(c, tcp_flight(c));
  tcp_ecn_reduced(c);
}

/** cwnd was reduced, for whatever reason: the peer is told with the next new data. */
void tcp_ecn_reduced(struct tcp_conn *c) {
  c->ecn_cwr = 1;
  c->b->ecn_until = c->d->snd_max;
}
