/*
 * Closing: shutdown, close, abort (RFC 9293 3.10.4, 3.10.5), FINs both ways, TIME_WAIT (3.6.1, RFC 1337, RFC 6191),
 * orphans (RFC 1122 4.2.2.13, RFC 2525 2.17), and the answer to segments of nobody (3.10.7.1).
 *
 * A FIN bit is stored before the state that follows from it: a record whose bits are ahead of its state is settled by
 * tcp_state_settle at adoption.
 */
#include "tcp_int.h"

static void close_bit(struct tcp_conn *c, uint8_t bit) {
  __atomic_store_n(&c->d->fin, (uint8_t)(c->d->fin | bit), __ATOMIC_RELEASE);
}

/* CLOSED was entered: tcp_done tells it when the running call ends. */
static void close_gone(struct tcp_conn *c) {
  memset(c->b->due, 0, sizeof c->b->due);
  c->ack_now = 0;
  c->told = 1;
}

void tcp_done(struct tcp_env *e, struct tcp_conn *c) {
  if (!c->told) {
    tcp_timer_order(e, c);
    return;
  }
  c->told = 0;
  tcp_busy_release(e, c);
  e->ops->event(e->ctx, c, TCP_EV_CLOSED); /* c and d may be freed now */
}

/** The connection ends; err > 0 is what the app is told. Stores: error, then the state. */
void tcp_close_fail(struct tcp_env *e, struct tcp_conn *c, int err) {
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  if (err > 0) {
    c->d->error = (uint32_t)err;
    FAULT_POINT("tcp.close.error");
  }
  tcp_state_set(e, c, TCP_FSM_ABORT);
  FAULT_POINT("tcp.close.aborted");
  close_gone(c);
  if (err > 0)
    e->ops->event(e->ctx, c, TCP_EV_ERROR);
}

/** End of TIME_WAIT, or of an orphan's FIN_WAIT_2. */
void tcp_close_timeout(struct tcp_env *e, struct tcp_conn *c) {
  tcp_state_set(e, c, TCP_FSM_TIMEOUT);
  FAULT_POINT("tcp.close.timeout");
  close_gone(c);
}

/** Our FIN is queued or out, and not acknowledged. */
int tcp_close_fin_queued(const struct tcp_conn *c) {
  uint32_t state = tcp_state(c);
  return state == ABI_TCP_FIN_WAIT_1 || state == ABI_TCP_CLOSING || state == ABI_TCP_LAST_ACK;
}

/** TIME_WAIT was entered, or its FIN came again (RFC 9293 3.10.7.4 eighth): 2 MSL from here. */
void tcp_close_time_wait(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  c->d->time_wait_end = now + e->cfg.time_wait;
  memset(c->b->due, 0, sizeof c->b->due);
  tcp_timer_arm(c, TCP_T_LIFE, c->d->time_wait_end);
}

/** FIN_WAIT_2 of an orphan ends by itself (Linux tcp_fin_timeout). */
void tcp_close_fin_wait2(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (tcp_state(c) != ABI_TCP_FIN_WAIT_2 || !(c->d->fin & ABI_TCB_ORPHAN))
    return;
  int32_t own = c->d->opt.linger2_s; /* TCP_LINGER2 */
  c->d->fin_wait2_end = now + (own == 0 ? e->cfg.fin_wait2 : own < 0 ? 1 : (usec_t)own * 1000000u);
  tcp_timer_arm(c, TCP_T_LIFE, c->d->fin_wait2_end);
}

/** Our FIN is acknowledged, and every byte before it was released. */
void tcp_close_fin_acked(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  close_bit(c, ABI_TCB_FIN_ACKED);
  FAULT_POINT("tcp.close.fin_acked");
  tcp_state_set(e, c, TCP_FSM_FIN_ACKED);
  FAULT_POINT("tcp.close.fin_acked_state");
  c->recovery = TCP_OPEN;
  tcp_timer_stop(c, TCP_T_RTO);
  tcp_timer_stop(c, TCP_T_PERSIST);
  e->ops->event(e->ctx, c, TCP_EV_CLOSING);
  switch (tcp_state(c)) {
  case ABI_TCP_CLOSED:
    close_gone(c);
    break;
  case ABI_TCP_TIME_WAIT:
    tcp_close_time_wait(e, c, now);
    break;
  default:
    tcp_close_fin_wait2(e, c, now);
    break;
  }
}

/** The peer's FIN is next in sequence, and every byte before it was published. Stores: bit, then state. */
void tcp_close_peer_fin(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  tcp_ooo_clear(e, c);
  close_bit(c, ABI_TCB_FIN_RCVD);
  FAULT_POINT("tcp.close.fin_rcvd");
  c->rcv_nxt++;
  if (seq_lt(c->d->rcv_adv, c->rcv_nxt))
    c->d->rcv_adv = c->rcv_nxt;
  c->peer_fin = 0;
  tcp_state_set(e, c, TCP_FSM_FIN);
  FAULT_POINT("tcp.close.fin_rcvd_state");
  c->ack_now = 1;
  if (tcp_state(c) == ABI_TCP_TIME_WAIT) {
    tcp_close_time_wait(e, c, now);
    tcp_output_ack(e, c, now); /* at once: no data can take it along, and last_ack_sent is all that a record-less
                                  TIME_WAIT is adopted by */
  }
  e->ops->event(e->ctx, c, TCP_EV_PEER_FIN);
}

/* Queue our FIN: one store of the state; it goes out behind the last byte (RFC 9293 3.10.4). */
static void close_write_side(struct tcp_env *e, struct tcp_conn *c) {
  tcp_state_set(e, c, TCP_FSM_CLOSE);
  FAULT_POINT("tcp.close.queued");
}

/** A shutdown or close that came before the handshake was complete (RFC 9293 3.10.4, SYN_RECEIVED). */
void tcp_close_deferred(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  (void)now;
  if (c->shut_wr || (c->d->fin & ABI_TCB_ORPHAN)) {
    c->shut_wr = 0;
    close_write_side(e, c);
  }
}

void tcp_shutdown(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  tcp_busy_need(e, c, now);
  switch (tcp_state(c)) {
  case ABI_TCP_SYN_SENT:
  case ABI_TCP_SYN_RECEIVED:
    c->shut_wr = 1;
    break;
  case ABI_TCP_ESTABLISHED:
  case ABI_TCP_CLOSE_WAIT:
    close_write_side(e, c);
    (void)tcp_output_run(e, c, now);
    break;
  default:
    break;
  }
  tcp_done(e, c);
}

/* States in which an abort is told to the peer (RFC 9293 3.10.5). */
static int close_wants_rst(uint32_t state) {
  return state == ABI_TCP_SYN_RECEIVED || state == ABI_TCP_ESTABLISHED || state == ABI_TCP_FIN_WAIT_1 ||
         state == ABI_TCP_FIN_WAIT_2 || state == ABI_TCP_CLOSE_WAIT;
}

void tcp_close(struct tcp_env *e, struct tcp_conn *c, int unread, usec_t now) {
  uint32_t state = tcp_state(c);
  if (state == ABI_TCP_CLOSED)
    return;
  tcp_busy_need(e, c, now);
  close_bit(c, ABI_TCB_ORPHAN);
  FAULT_POINT("tcp.close.orphan"); /* prefix: an orphan whose FIN is not queued; adoption queues it */
  int linger0 = (c->d->opt.flags & ABI_OPT_LINGER) && c->d->opt.linger_s == 0;
  if (state == ABI_TCP_SYN_SENT) {
    tcp_close_fail(e, c, 0);
  } else if ((unread || linger0) && close_wants_rst(state)) {
    tcp_output_rst(e, c, now);
    tcp_close_fail(e, c, 0);
  } else if (state == ABI_TCP_ESTABLISHED || state == ABI_TCP_CLOSE_WAIT) {
    close_write_side(e, c);
    (void)tcp_output_run(e, c, now);
  } else {
    tcp_close_fin_wait2(e, c, now);
  }
  tcp_done(e, c);
}

void tcp_abort(struct tcp_env *e, struct tcp_conn *c, int err, usec_t now) {
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  tcp_busy_need(e, c, now);
  if (close_wants_rst(tcp_state(c)))
    tcp_output_rst(e, c, now);
  tcp_close_fail(e, c, err);
  tcp_done(e, c);
}

int tcp_reply_closed(const struct tcp_seg_in *seg, struct tcp_seg_out *out) {
  const struct tcp_hdr *h = &seg->hdr;
  if (h->flags & TCP_RST)
    return 0;
  memset(out, 0, sizeof *out);
  out->flags = TCP_RST;
  if (h->flags & TCP_ACK) {
    out->seq = h->ack;
  } else {
    out->flags |= TCP_ACK;
    out->ack = h->seq + seg->len + ((h->flags & TCP_SYN) != 0) + ((h->flags & TCP_FIN) != 0);
  }
  return 1;
}

int tcp_time_wait_reuse(const struct tcp_conn *c, const struct tcp_seg_in *seg) {
  const struct tcp_opts *o = &seg->hdr.opts;
  if (tcp_state(c) != ABI_TCP_TIME_WAIT || (seg->hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
    return 0;
  if ((c->d->nego & ABI_TCB_TS) && (o->present & TCP_OPT_HAS_TS)) { /* RFC 6191 2 */
    int32_t newer = (int32_t)(o->ts_val - c->d->ts_recent);
    return newer > 0 || (newer == 0 && seq_gt(seg->hdr.seq, c->rcv_nxt));
  }
  return seq_gt(seg->hdr.seq, c->rcv_nxt); /* RFC 1122 4.2.2.13 */
}
