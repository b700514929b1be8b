/*
 * Received data: RFC 9293 3.10.7.4 seventh and eighth. Bytes are placed in the rx fifo, in order or beyond a hole, and
 * only published bytes are ever acknowledged. When an ACK is due: at once for what is out of order or fills a hole
 * (RFC 5681 4.2), for the second full-sized wire segment, at the start of a connection and after a hole by the flag
 * c->ack_now, which the tcp_output after the burst honours; else after cfg.delack. Called by tcp_input.c, tcp_open.c.
 *
 * Durable order: bytes → rx_publish → ranges trimmed → FIN_RCVD → state → ACK.
 */
#include "tcp_int.h"

/** States that take data (RFC 9293 3.10.7.4 seventh). */
int tcp_recv_open(uint32_t state) {
  return state == ABI_TCP_ESTABLISHED || state == ABI_TCP_FIN_WAIT_1 || state == ABI_TCP_FIN_WAIT_2;
}

/* The size of the peer's segments on the wire, for "every second full-sized segment" (RFC 5681 4.2). */
static void recv_learn_mss(struct tcp_conn *c, const struct tcp_seg_in *seg) {
  uint32_t per = seg->segs > 1 ? seg->len / seg->segs : seg->len;
  if (per > c->rcv_mss)
    c->rcv_mss = HS_MIN(per, (uint32_t)c->d->rcv_mss);
}

/* In-order bytes were published: is an ACK due now, or later? */
static void recv_schedule_ack(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  uint32_t owed = c->rcv_nxt - c->d->last_ack_sent;
  if (owed >= 2 * c->rcv_mss || (c->d->opt.flags & ABI_OPT_QUICKACK)) {
    c->ack_now = 1;
  } else if (c->quickack > 0 && !c->pingpong) {
    c->quickack = (uint8_t)(c->quickack - HS_MIN(seg->segs, (uint32_t)c->quickack));
    c->ack_now = 1;
  } else if (c->b->due[TCP_T_DELACK] == 0) {
    tcp_timer_arm(c, TCP_T_DELACK, now + e->cfg.delack);
  }
}

/* Publish everything up to `to`, take ranges behind it along. */
static void recv_publish(struct tcp_env *e, struct tcp_conn *c, seq32_t to) {
  to = tcp_ooo_reach(c, to);
  uint32_t n = to - c->rcv_nxt;
  if (n == 0)
    return;
  FAULT_POINT("tcp.recv.placed"); /* prefix: bytes beyond the tail that nobody knows */
  e->ops->rx_publish(e->ctx, c, n);
  FAULT_POINT("tcp.recv.published"); /* prefix: ranges at or below rcv_nxt: trimmed by adoption */
  c->rcv_nxt = to;
  tcp_ooo_trim(e, c);
  if (HS_UNLIKELY(c->urgent & TCP_URGENT_IN))
    tcp_urgent_passed(c, to);
  e->ops->event(e->ctx, c, TCP_EV_READABLE);
}

/* seq == rcv_nxt after trimming. Returns 1 if the FIN's place may be reached by this segment's own bytes. */
static int recv_in_order(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, uint32_t skip,
                         uint32_t len, usec_t now) {
  int filled = !tcp_ooo_empty(c);
  uint32_t placed = len > 0 ? e->ops->rx_place(e->ctx, c, 0, seg, skip, len) : 0;
  if (placed < len)
    TCP_COUNT(e, no_memory);
  recv_publish(e, c, c->rcv_nxt + placed);
  if (placed > 0)
    recv_schedule_ack(e, c, seg, now);
  if (filled) /* the path loses, ACKs too, and the sender has little out: it shall not wait for the one of a pair */
    c->quickack = TCP_QUICKACKS;
  if (filled || placed < len)
    c->ack_now = 1; /* RFC 5681 4.2: fills all or part of a gap */
  return placed == len;
}

/* Beyond a hole. The duplicate ACK goes out at once (RFC 5681 4.2). */
static void recv_out_of_order(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, seq32_t seq,
                              uint32_t skip, uint32_t len, usec_t now) {
  TCP_COUNT(e, ooo_in);
  if (len > 0 && tcp_ooo_covers(c, seq, seq + len)) {
    TCP_COUNT(e, dup_in);
  } else if (len > 0) {
    uint32_t placed = e->ops->rx_place(e->ctx, c, seq - c->rcv_nxt, seg, skip, len);
    if (placed < len)
      TCP_COUNT(e, no_memory);
    FAULT_POINT("tcp.recv.placed_ooo");
    if (placed > 0 && tcp_ooo_add(e, c, seq, seq + placed) < 0)
      TCP_COUNT(e, ooo_full);
  }
  tcp_output_ack(e, c, now);
}

/* Data for a connection whose app is gone: nobody will ever read it (RFC 2525 2.17, RFC 1122 4.2.2.13). */
static int recv_orphan(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  if (!(c->d->fin & ABI_TCB_ORPHAN) || seg->len == 0 || !seq_gt(seg->hdr.seq + seg->len, c->rcv_nxt))
    return 0;
  TCP_COUNT(e, orphan_data);
  tcp_output_rst(e, c, now);
  tcp_close_fail(e, c, 0);
  return 1;
}

void tcp_recv(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  seq32_t seq = seg->hdr.seq + ((seg->hdr.flags & TCP_SYN) != 0), edge = c->d->rcv_adv;
  uint32_t len = seg->len, skip = 0;
  int fin = (seg->hdr.flags & TCP_FIN) != 0;
  if (!tcp_recv_open(tcp_state(c)) || (len == 0 && !fin) || recv_orphan(e, c, seg, now))
    return;
  recv_learn_mss(c, seg);
  if (len > 0)
    tcp_rbuf_rtt(c, seg, now);
  if (seq_lt(seq, c->rcv_nxt)) { /* trim what is here already */
    skip = HS_MIN(c->rcv_nxt - seq, len);
    if (skip > 0)
      tcp_ooo_dsack(c, seq, seq + skip);
    c->ack_now = 1;
    seq += skip;
    len -= skip;
    if (seq_lt(seq, c->rcv_nxt))
      return;
  }
  uint32_t room = seq_gt(edge, seq) ? edge - seq : 0;
  if (len > room) { /* trim what was not promised */
    len = room;
    fin = 0;
  }
  if (fin) {
    c->peer_fin = 1;
    c->peer_fin_seq = seq + len;
  }
  if (len > 0 && skip == 0 && !tcp_ooo_empty(c)) /* what is held beyond the hole comes again, RFC 2883 4.2 */
    tcp_ooo_dsack_part(c, seq, seq + len);
  if (seq == c->rcv_nxt) {
    if (!recv_in_order(e, c, seg, skip, len, now) && fin)
      c->peer_fin = 0; /* the peer sends it again with the bytes that had no room */
  } else {
    recv_out_of_order(e, c, seg, seq, skip, len, now);
  }
  if (c->peer_fin && c->rcv_nxt == c->peer_fin_seq)
    tcp_close_peer_fin(e, c, now);
}

/** Header prediction: `seg` is in order, inside the window, without FIN, and there is no hole. 1 = taken. */
int tcp_recv_fast(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  if (seg->len > tcp_wnd_current(c) || !tcp_ooo_empty(c))
    return 0;
  recv_learn_mss(c, seg);
  tcp_rbuf_rtt(c, seg, now);
  if (!recv_in_order(e, c, seg, 0, seg->len, now))
    return 1;
  TCP_COUNT(e, fast_data);
  return 1;
}
