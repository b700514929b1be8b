/*
 * A segment arrives: reads as RFC 9293 3.10.7.4 reads. First the sequence number (with PAWS, RFC 7323 5.3, before it),
 * second RST (RFC 5961 3, RFC 1337), third security (none), fourth SYN (RFC 5961 4), fifth ACK (tcp_ack.c), sixth URG,
 * seventh text and eighth FIN (tcp_recv.c). In front of it all a fast path takes what needs none of that: in-order data
 * and plain ACKs of an established connection.
 *
 * Called by the session layer, worker's thread, once per (merged) segment.
 */
#include "tcp_int.h"

#define PAWS_FORGET    (24ull * 86400 * 1000000) /* RFC 7323 5.5: ts_recent is no evidence after 24 days */
#define OOW_EVERY      50000u                    /* µs between answers to unacceptable segments without data */
#define CHALLENGE_RATE 1000u                     /* per second and env, plus a secret part (RFC 5961 7) */

/** Whether the rate limit allows a challenge ACK now (RFC 5961 7); counts it. */
int tcp_input_may_challenge(struct tcp_env *e, usec_t now) {
  if (now - e->challenge_at >= 1000000u) {
    e->challenge_at = now;
    /* the limit varies, so that counting our ACKs tells nothing about other connections */
    e->challenge_left = CHALLENGE_RATE + e->secret[(now / 1000000u) % sizeof e->secret];
  }
  if (e->challenge_left == 0) {
    TCP_COUNT(e, challenge_limited);
    return 0;
  }
  e->challenge_left--;
  TCP_COUNT(e, challenge);
  return 1;
}

/** A challenge ACK (RFC 5961), as far as the rate limit allows. */
void tcp_input_challenge(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (tcp_input_may_challenge(e, now))
    tcp_output_ack(e, c, now);
}

/* An unacceptable segment is answered by an ACK; those without data could be answers to answers: not too often. */
static void input_unacceptable(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  TCP_COUNT(e, oow);
  if (seg->hdr.flags & TCP_RST)
    return;
  if (seg->len == 0 && !(seg->hdr.flags & TCP_FIN)) {
    if (c->b->oow_ack_at != 0 && now - c->b->oow_ack_at < OOW_EVERY)
      return;
    c->b->oow_ack_at = now;
  } else if (seg->len > 0 && seq_leq(seg->hdr.seq + seg->len, c->rcv_nxt)) {
    TCP_COUNT(e, dup_in);
    tcp_ooo_dsack(c, seg->hdr.seq, seg->hdr.seq + seg->len); /* RFC 2883 4.1 */
  }
  if (tcp_state(c) == ABI_TCP_TIME_WAIT && (seg->hdr.flags & TCP_FIN))
    tcp_close_time_wait(e, c, now); /* the peer did not get our last ACK */
  tcp_output_ack(e, c, now);
}

/* RFC 7323 5.3 R1: 1 = go on. */
static int input_timestamp(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  struct abi_tcb *d = c->d;
  const struct tcp_opts *o = &seg->hdr.opts;
  if (!(d->nego & ABI_TCB_TS) || (seg->hdr.flags & TCP_RST))
    return 1; /* RFC 7323 5.2: RSTs are not subject to PAWS */
  if (!(o->present & TCP_OPT_HAS_TS)) {
    TCP_COUNT(e, no_timestamp); /* RFC 7323 3.2: SHOULD be dropped */
    return 0;
  }
  if ((int32_t)(o->ts_val - d->ts_recent) < 0 && d->ts_recent_valid && now - d->ts_recent_at < PAWS_FORGET) {
    TCP_COUNT(e, paws);
    input_unacceptable(e, c, seg, now);
    return 0;
  }
  return 1;
}

/* RFC 7323 4.3 (2): a segment that covers what we acknowledged last sets ts_recent. */
static void input_ts_recent(struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  struct abi_tcb *d = c->d;
  const struct tcp_opts *o = &seg->hdr.opts;
  if (!(d->nego & ABI_TCB_TS) || !(o->present & TCP_OPT_HAS_TS) || seq_gt(seg->hdr.seq, d->last_ack_sent))
    return;
  if ((int32_t)(o->ts_val - d->ts_recent) < 0 && now - d->ts_recent_at < PAWS_FORGET)
    return;
  d->ts_recent = o->ts_val;
  d->ts_recent_at = now;
}

/* First: RFC 9293 3.10.7.4, the four cases. deviates: without data the number behind the window is inside, as on Linux:
 * a peer that has filled our window has no other for its ACKs, and while all that it sends again is old here, they
 * alone tell us what has arrived. Not for an RST (RFC 5961 3.2). */
static int input_in_window(const struct tcp_conn *c, const struct tcp_seg_in *seg) {
  uint32_t seg_len = seg->len + ((seg->hdr.flags & TCP_SYN) != 0) + ((seg->hdr.flags & TCP_FIN) != 0);
  uint32_t wnd = tcp_wnd_current(c);
  seq32_t seq = seg->hdr.seq, nxt = c->rcv_nxt;
  if (seg_len == 0)
    return seq - nxt <= wnd - (wnd > 0 && (seg->hdr.flags & TCP_RST));
  if (wnd == 0)
    return 0;
  seq32_t last = seq + seg_len - 1;
  return (seq_leq(nxt, seq) && seq_lt(seq, nxt + wnd)) || (seq_leq(nxt, last) && seq_lt(last, nxt + wnd)) ||
         (seq_lt(seq, nxt) && seq_geq(last, nxt));
}

/* With a closed window ACKs, RSTs and URGs of acceptable place still count (RFC 9293 3.10.7.4): the bytes do not. */
static int input_first(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  if (input_in_window(c, seg))
    return 1;
  if (tcp_wnd_current(c) == 0 && seg->hdr.seq == c->rcv_nxt && (seg->hdr.flags & (TCP_ACK | TCP_SYN)) == TCP_ACK &&
      !(seg->hdr.flags & TCP_RST)) {
    (void)tcp_ack(e, c, seg, now);
    if (tcp_state(c) == ABI_TCP_CLOSED)
      return 0;
    if ((seg->hdr.flags & TCP_URG) && tcp_recv_open(tcp_state(c)))
      tcp_urgent_in(e, c, seg);
  }
  input_unacceptable(e, c, seg, now);
  return 0;
}

/* Second: RFC 5961 3.2. */
static void input_rst(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  uint32_t state = tcp_state(c);
  if (state == ABI_TCP_TIME_WAIT) { /* RFC 1337 3 (F1) */
    TCP_COUNT(e, rst_ignored);
    return;
  }
  if (seg->hdr.seq != c->rcv_nxt) {
    TCP_COUNT(e, rst_ignored);
    tcp_input_challenge(e, c, now);
    return;
  }
  TCP_COUNT(e, rst_in);
  switch (state) {
  case ABI_TCP_SYN_RECEIVED: /* passive: back to LISTEN, nobody is told; active: refused */
    tcp_close_fail(e, c,
                   c->d->accept >= ABI_ACCEPT_OFFERED ? ECONNRESET /* Fast Open: an app has it */
                   : c->d->nego & ABI_TCB_PASSIVE     ? 0
                                                      : ECONNREFUSED);
    break;
  case ABI_TCP_CLOSING:
  case ABI_TCP_LAST_ACK:
    tcp_close_fail(e, c, 0);
    break;
  case ABI_TCP_CLOSE_WAIT:
    tcp_close_fail(e, c, EPIPE); /* as Linux: all of the peer's data is here */
    break;
  default:
    tcp_close_fail(e, c, ECONNRESET);
    break;
  }
}

/* Fourth: RFC 5961 4.2. */
static void input_syn(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (tcp_state(c) == ABI_TCP_SYN_RECEIVED && (c->d->nego & ABI_TCB_PASSIVE) && c->d->accept < ABI_ACCEPT_OFFERED) {
    tcp_close_fail(e, c, 0); /* RFC 9293 3.10.7.4: back to LISTEN; the client's next SYN finds the listener */
    return;
  }
  tcp_input_challenge(e, c, now);
}

/* Fifth, in SYN_RECEIVED: 1 = ESTABLISHED now. */
static int input_ack_syn(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  if (!seq_gt(seg->hdr.ack, c->d->iss) || seq_gt(seg->hdr.ack, c->d->snd_max)) {
    struct tcp_seg_out out;
    TCP_COUNT(e, bad_ack);
    if (tcp_reply_closed(seg, &out)) {
      TCP_COUNT(e, rst_out);
      (void)e->ops->send(e->ctx, c, &out);
    }
    return 0;
  }
  if (c->defer > c->backoff && !(c->d->nego & ABI_TCB_TFO) && seg->len == 0 && !(seg->hdr.flags & TCP_FIN)) {
    c->defer_acked = 1; /* TCP_DEFER_ACCEPT, as Linux: as if this ACK had got lost, until data comes */
    return 0;
  }
  if (!tcp_open_complete(e, c, now))
    return 0;
  /* RFC 9293 3.10.7.4 fifth: SND.WND, WL1, WL2 from this segment */
  c->d->snd_wl1 = seg->hdr.seq - 1;
  tcp_ack_window(c, seg);
  return tcp_state(c) != ABI_TCP_CLOSED;
}

static void input_synchronized(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  const struct tcp_hdr *h = &seg->hdr;
  if (tcp_state(c) == ABI_TCP_SYN_RECEIVED && (h->flags & TCP_SYN) && !(h->flags & TCP_RST) && h->seq == c->d->irs &&
      !((h->flags & TCP_ACK) && h->ack == c->d->iss + 1)) {
    if (c->d->accept != ABI_ACCEPT_PARKED)
      (void)tcp_output_syn(e, c, now); /* the peer did not get our SYN-ACK */
    return;
  }
  if (tcp_state(c) == ABI_TCP_SYN_RECEIVED && (h->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) &&
      h->seq == c->d->irs) { /* simultaneous open: the peer's SYN-ACK; its SYN is old, its ACK is not */
    if (input_ack_syn(e, c, seg, now))
      c->ack_now = 1;
    return;
  }
  if (!input_timestamp(e, c, seg, now) || !input_first(e, c, seg, now))
    return;
  if (h->flags & TCP_RST) {
    input_rst(e, c, seg, now);
    return;
  }
  if (h->flags & TCP_SYN) {
    input_syn(e, c, now);
    return;
  }
  if (!(h->flags & TCP_ACK))
    return;
  if (tcp_state(c) == ABI_TCP_SYN_RECEIVED && !input_ack_syn(e, c, seg, now))
    return;
  input_ts_recent(c, seg, now);
  if (tcp_ack(e, c, seg, now) < 0 || tcp_state(c) == ABI_TCP_CLOSED)
    return;
  tcp_ecn_in(e, c, seg);
  if ((h->flags & TCP_URG) && tcp_recv_open(tcp_state(c))) /* sixth */
    tcp_urgent_in(e, c, seg);
  tcp_recv(e, c, seg, now);
}

/* Header prediction. 1 = taken. */
static int input_fast(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  const struct tcp_hdr *h = &seg->hdr;
  struct abi_tcb *d = c->d;
  if (tcp_state(c) != ABI_TCP_ESTABLISHED || (h->flags & ~(uint32_t)TCP_PSH) != TCP_ACK || h->seq != c->rcv_nxt ||
      c->recovery != TCP_OPEN || c->b->board.n > 0 || c->peer_fin || seg->ce || c->tail != TCP_TAIL_NONE)
    return 0;
  uint32_t ts = d->nego & ABI_TCB_TS ? TCP_OPT_HAS_TS : 0;
  if (h->opts.present != ts || (ts && (int32_t)(h->opts.ts_val - d->ts_recent) < 0))
    return 0;
  if (seq_lt(h->ack, c->snd_una) || seq_gt(h->ack, d->snd_max) || (h->ack == c->snd_una && seg->len == 0))
    return 0;
  if (seg->len > 0 && (seg->len > tcp_wnd_current(c) || !tcp_ooo_empty(c)))
    return 0;
  input_ts_recent(c, seg, now);
  c->probes = 0;
  if (seq_gt(h->ack, c->snd_una)) {
    c->b->dupacks = 0;
    struct tcp_sack_news news = {0};
    e->rate.valid = 0;
    e->fack = c->snd_una;
    uint32_t acked = h->ack - c->snd_una;
    tcp_ack_advance(e, c, seg, &news, now);
    if (c->cc->sample != NULL)
      c->cc->sample(c, &e->rate, acked, 0, now);
    TCP_COUNT(e, fast_ack);
  }
  tcp_ack_window(c, seg);
  return seg->len == 0 || tcp_recv_fast(e, c, seg, now);
}

void tcp_input(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  TCP_COUNT(e, segs_in);
  TCP_COUNT_N(e, wire_segs_in, seg->segs);
  TCP_COUNT_N(e, bytes_in, seg->len);
  if (HS_UNLIKELY(c->b == NULL)) {
    if (tcp_state(c) == ABI_TCP_CLOSED)
      return;
    tcp_busy_wake(e, c, now);
  }
  c->last_rx = now;
  if (seg->hdr.flags & TCP_ACK)
    c->ack_rx_at = (uint32_t)(now >> 10);
  if (seg->len > 0)
    c->data_rx_at = (uint32_t)(now >> 10);
  switch (tcp_state(c)) {
  case ABI_TCP_CLOSED:
    return;
  case ABI_TCP_SYN_SENT:
    tcp_open_syn_sent(e, c, seg, now);
    break;
  default:
    if (!input_fast(e, c, seg, now))
      input_synchronized(e, c, seg, now);
    break;
  }
  tcp_done(e, c);
}
