/*
 * Urgent data (RFC 9293 3.8.5, RFC 6093), as Linux has it with tcp_stdurg 0: the pointer names the byte behind the
 * urgent one, of which there is one; the byte itself stays in the stream, and its place is told to the session layer,
 * whose reader decides whether it is read in line. Called by tcp_input.c, tcp_recv.c, tcp_output.c, tcp_adopt.c and,
 * for what the app wrote, by the session layer; worker's thread.
 *
 * Durable: the place is in the session's record before any byte behind it is published, then d->rcv_up. Prefix, the
 * place told and rcv_up not stored: the segment comes again, and the same place is told again.
 */
#include "tcp_int.h"

/** Sixth: a segment with URG, in a state that takes data. Only a pointer to what has not come yet, and beyond an
 * earlier one, is news (as Linux). */
void tcp_urgent_in(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg) {
  seq32_t up = seg->hdr.seq + HS_MAX((uint32_t)seg->hdr.urg, 1u);
  if (!seq_gt(up, c->rcv_nxt) || ((c->urgent & TCP_URGENT_IN) && !seq_gt(up, c->d->rcv_up)))
    return;
  TCP_COUNT(e, urgent_in);
  if (e->ops->urgent != NULL)
    e->ops->urgent(e->ctx, c, up - c->rcv_nxt);
  FAULT_POINT("tcp.urgent.told");
  c->d->rcv_up = up;
  c->urgent |= TCP_URGENT_IN;
}

/** Bytes up to `to` are published: an urgent one below it has arrived. */
void tcp_urgent_passed(struct tcp_conn *c, seq32_t to) {
  if (seq_leq(c->d->rcv_up, to))
    c->urgent &= (uint8_t)~TCP_URGENT_IN;
}

void tcp_urgent(struct tcp_conn *c, uint32_t pos) {
  seq32_t up = c->d->iss + 1 + pos;
  if (up == c->d->snd_up)
    return;
  c->d->snd_up = up;
  FAULT_POINT("tcp.urgent.stored"); /* prefix: adoption finds it ahead of snd_una */
  if (seq_gt(up, c->snd_una))
    c->urgent |= TCP_URGENT_OUT;
}

/** Whether an urgent byte is not acknowledged yet. */
int tcp_urgent_pending(struct tcp_conn *c) {
  if ((c->urgent & TCP_URGENT_OUT) && !seq_gt(c->d->snd_up, c->snd_una))
    c->urgent &= (uint8_t)~TCP_URGENT_OUT;
  return (c->urgent & TCP_URGENT_OUT) != 0;
}

/** The pointer of a segment that is about to leave. One that is too far away for 16 bits is told as far as it goes,
 * unless the peer has bytes there already, which it would take for urgent. */
void tcp_urgent_out(struct tcp_conn *c, struct tcp_seg_out *out) {
  if (!tcp_urgent_pending(c) || !seq_gt(c->d->snd_up, out->seq))
    return;
  uint32_t far = c->d->snd_up - out->seq;
  if (far > UINT16_MAX && !seq_gt(out->seq + UINT16_MAX, c->d->snd_max))
    return;
  out->flags |= TCP_URG;
  out->urg = (uint16_t)HS_MIN(far, (uint32_t)UINT16_MAX);
}

/** After a crash: `unsent` bytes lie in the tx fifo. */
void tcp_urgent_adopt(struct tcp_conn *c, uint32_t unsent) {
  uint32_t in = c->d->rcv_up - c->rcv_nxt, out = c->d->snd_up - c->snd_una;
  if (in - 1 < UINT16_MAX + (c->d->rcv_adv - c->rcv_nxt))
    c->urgent |= TCP_URGENT_IN;
  if (out - 1 < unsent)
    c->urgent |= TCP_URGENT_OUT;
}
