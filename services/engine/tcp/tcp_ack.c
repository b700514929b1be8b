/*
 * What an acknowledgement does: checks (RFC 9293 3.10.7.4 fifth, RFC 5961 5.2), release of acknowledged bytes, round
 * trip, congestion window, send window. Losses are tcp_loss.c's. Called by tcp_input.c.
 *
 * Durable order: tx head (tx_release), then FIN_ACKED, then the state. snd_una follows from them.
 */
#include "tcp_int.h"

/** Send window update (RFC 9293 3.10.7.4 fifth). Stores: snd_wnd first: with the old wl1 and wl2 the same segment
 * would be taken again. */
void tcp_ack_window(struct tcp_conn *c, const struct tcp_seg_in *seg) {
  struct abi_tcb *d = c->d;
  const struct tcp_hdr *h = &seg->hdr;
  if (seq_lt(h->ack, c->snd_una))
    return;
  if (!seq_lt(d->snd_wl1, h->seq) && !(d->snd_wl1 == h->seq && seq_leq(d->snd_wl2, h->ack)))
    return;
  uint32_t wnd = (uint32_t)h->wnd << (h->flags & TCP_SYN ? 0 : d->snd_wscale);
  if (wnd != d->snd_wnd) {
    if (wnd > d->snd_wnd && c->b->due[TCP_T_PERSIST] != 0) { /* open again: send now, not when the timer says */
      tcp_timer_stop(c, TCP_T_PERSIST);
      c->persists = 0;
    }
    d->snd_wnd = wnd;
    if (wnd > d->max_wnd)
      d->max_wnd = wnd;
    FAULT_POINT("tcp.ack.window");
  }
  d->snd_wl1 = h->seq;
  d->snd_wl2 = h->ack;
}

/* Progress was made: timers start anew (RFC 6298 (5.2), (5.3)). */
static void ack_timers(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  c->backoff = 0;
  c->soft_error = 0; /* the way is open again */
  c->b->stuck_at = 0;
  if (c->d->user_timeout_at != 0) {
    c->d->user_timeout_at = 0;
    tcp_timer_stop(c, TCP_T_LIFE);
  }
  tcp_timer_stop(c, TCP_T_REO);
  if (c->snd_una == c->d->snd_max) {
    tcp_timer_stop(c, TCP_T_RTO);
  } else {
    tcp_timer_rto_restart(e, c, now);
    tcp_loss_tail_arm(c, now);
  }
}

/* The timestamp echoed, 0 = none. */
static uint32_t ack_ecr(const struct tcp_conn *c, const struct tcp_seg_in *seg) {
  return (c->d->nego & ABI_TCB_TS) && (seg->hdr.opts.present & TCP_OPT_HAS_TS) ? seg->hdr.opts.ts_ecr : 0;
}

/** seg.ack is new: snd_una < ack ≤ snd_max. */
void tcp_ack_advance(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, struct tcp_sack_news *news,
                     usec_t now) {
  struct abi_tcb *d = c->d;
  uint32_t acked = seg->hdr.ack - c->snd_una, flight = tcp_flight(c);
  int fin = (d->fin & (ABI_TCB_FIN_SENT | ABI_TCB_FIN_ACKED)) == ABI_TCB_FIN_SENT && seg->hdr.ack == c->fin_seq + 1;
  uint32_t bytes = acked - (uint32_t)fin;
  tcp_rtt_on_ack(e, c, seg, now);
  tcp_sack_arrived(e, c, c->snd_una, seg->hdr.ack, ack_ecr(c, seg), news, now);
  if (bytes > 0)
    e->ops->tx_release(e->ctx, c, bytes);
  FAULT_POINT("tcp.ack.released"); /* prefix: our FIN counts as not acknowledged, it is sent again */
  c->snd_una = seg->hdr.ack;
  if (c->mtu_probe != 0)
    tcp_pmtu_acked(e, c, now);
  if (seq_lt(c->snd_nxt, c->snd_una))
    c->snd_nxt = c->snd_una;
  if (seq_lt(c->snd_sml, c->snd_una))
    c->snd_sml = c->snd_una; /* keeps them near, so that comparisons hold across 2^31 */
  if (seq_lt(c->b->ecn_until, c->snd_una))
    c->b->ecn_until = c->snd_una - 1;
  if (c->recovery == TCP_OPEN && seq_lt(c->recover, c->snd_una))
    c->recover = c->snd_una;
  if (c->snd_una == d->snd_max)
    tcp_sent_release(e, c);
  ack_timers(e, c, now);
  if (c->b->board.n > 0) {
    tcp_sent_trim(c);
    tcp_sack_acked(c);
    if (c->b->board.n > 0 && seq_leq(tcp_board_list(c)[0].l, c->snd_una)) { /* RFC 2018 8: the peer has forgotten */
      TCP_COUNT(e, reneged);
      c->b->board.n = c->b->board.bytes = 0;
      c->recovery = TCP_LOSS;
      c->frto = TCP_FRTO_NONE;
      c->recover = d->snd_max;
      tcp_sent_mark_again(c, now);
      tcp_loss_go_back(c);
    }
  }
  if (c->recovery != TCP_RECOVERY)
    c->cc->acked(c, acked, flight, now);
  if (bytes > 0)
    e->ops->event(e->ctx, c, TCP_EV_WRITABLE);
  if (fin)
    tcp_close_fin_acked(e, c, now);
}

/* RFC 9293 3.10.7.4 fifth and RFC 5961 5.2. 1 = acceptable, or old but harmless. */
static int ack_acceptable(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  seq32_t ack = seg->hdr.ack;
  if (seq_gt(ack, c->d->snd_max)) {
    TCP_COUNT(e, bad_ack);
    tcp_input_challenge(e, c, now);
    return 0;
  }
  if (seq_lt(ack, c->snd_una - c->d->max_wnd)) {
    TCP_COUNT(e, bad_ack);
    tcp_input_challenge(e, c, now);
    return 0;
  }
  return 1;
}

int tcp_ack(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  const struct tcp_hdr *h = &seg->hdr;
  if (!ack_acceptable(e, c, seg, now))
    return -1;
  c->probes = 0; /* the peer is there */
  if (seq_lt(h->ack, c->snd_una))
    return 0; /* old: its data still counts */
  struct tcp_sack_news news;
  uint32_t acked = h->ack - c->snd_una;
  uint32_t wnd = (uint32_t)h->wnd << c->d->snd_wscale;
  int dup = acked == 0 && seg->len == 0 && !(h->flags & (TCP_SYN | TCP_FIN)) && wnd == c->d->snd_wnd &&
            c->snd_nxt != c->snd_una; /* RFC 5681 2 */
  uint32_t sacked = c->b->board.bytes;
  e->rate.valid = 0;
  e->fack = tcp_sack_top(c);
  tcp_sack_update(e, c, seg, ack_ecr(c, seg), &news, now);
  if (acked > 0) {
    tcp_ack_advance(e, c, seg, &news, now);
    if (tcp_state(c) == ABI_TCP_CLOSED || tcp_state(c) == ABI_TCP_TIME_WAIT)
      return 0;
  }
  uint32_t arrived = acked + c->b->board.bytes;
  news.delivered = arrived > sacked ? arrived - sacked : 0;
  tcp_ack_window(c, seg);
  if (c->snd_una != c->d->snd_max || c->recovery != TCP_OPEN || c->undo || c->tail != TCP_TAIL_NONE)
    tcp_loss_on_ack(e, c, acked, dup, &news, ack_ecr(c, seg), now);
  if ((h->flags & TCP_ECE) && (c->d->nego & ABI_TCB_ECN))
    tcp_ecn_echoed(e, c, now);
  if (c->cc->sample != NULL)
    c->cc->sample(c, &e->rate, news.delivered, c->recovery != TCP_OPEN && c->b->lost > 0, now);
  return 0;
}
