/*
 * Adoption: a new engine resumes a connection from its durable half and the fifo cursors. Every prefix of every
 * transition in this room is accepted here; only a record that contradicts itself is refused (-EPROTO).
 *
 * What is believed: sequence state follows from the cursors, everything in [snd_una, snd_max) is lost (a conservative
 * restart as after an RTO), deadlines go on, out-of-order ranges are kept if they make sense. ARCHITECTURE section 3.
 */
#include "tcp_int.h"

#define HANDSHAKE_LIFE (120ull * 1000000) /* µs that a parked connection gets anew */

static int adopt_states_ok(uint32_t state, uint32_t fin) {
  if (state == 0 || state > ABI_TCP_CLOSING || state == ABI_TCP_LISTEN || state == ABI_TCP_CLOSED)
    return 0;
  if ((state == ABI_TCP_SYN_SENT || state == ABI_TCP_SYN_RECEIVED) &&
      (fin & (ABI_TCB_FIN_SENT | ABI_TCB_FIN_ACKED | ABI_TCB_FIN_RCVD)))
    return 0;
  if ((fin & ABI_TCB_FIN_ACKED) && !(fin & ABI_TCB_FIN_SENT))
    return 0;
  if ((state == ABI_TCP_CLOSE_WAIT || state == ABI_TCP_LAST_ACK || state == ABI_TCP_CLOSING ||
       state == ABI_TCP_TIME_WAIT) &&
      !(fin & ABI_TCB_FIN_RCVD))
    return 0;
  if ((state == ABI_TCP_FIN_WAIT_2 || state == ABI_TCP_TIME_WAIT) && !(fin & ABI_TCB_FIN_ACKED))
    return 0;
  return (state == ABI_TCP_ESTABLISHED || state == ABI_TCP_CLOSE_WAIT) ? !(fin & ABI_TCB_FIN_SENT) : 1;
}

/* Ranges that the new rcv_nxt has passed, or that cannot be, are dropped. */
static void adopt_ranges(struct tcp_conn *c) {
  struct abi_seq_range *o = c->d->ooo;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    if (o[k].l == o[k].r)
      continue;
    if (seq_leq(o[k].l, c->rcv_nxt) || !seq_lt(o[k].l, o[k].r) || seq_gt(o[k].r, c->d->rcv_adv)) {
      o[k] = (struct abi_seq_range){0, 0};
      continue;
    }
    for (unsigned i = 0; i < k; i++) /* a merge that was cut off: the greater one is whole */
      if (o[i].l != o[i].r && seq_leq(o[i].l, o[k].r) && seq_geq(o[i].r, o[k].l)) {
        struct abi_seq_range u = {seq_lt(o[i].l, o[k].l) ? o[i].l : o[k].l, seq_gt(o[i].r, o[k].r) ? o[i].r : o[k].r};
        o[i] = (struct abi_seq_range){0, 0};
        o[k] = u;
      }
  }
}

static int adopt_sequences(struct tcp_env *e, struct tcp_conn *c, uint32_t tx_head, uint32_t rx_tail) {
  struct abi_tcb *d = c->d;
  uint32_t state = tcp_state(c);
  if (state == ABI_TCP_SYN_SENT || state == ABI_TCP_SYN_RECEIVED) {
    c->snd_una = c->snd_nxt = d->iss; /* snd_nxt at iss: tcp_output sends the SYN again */
    c->rcv_nxt = state == ABI_TCP_SYN_RECEIVED ? d->irs + 1 + rx_tail : 0;
    uint32_t more = 0;
    if (d->nego & ABI_TCB_TFO) { /* data rode on the SYN, or was sent before the handshake was complete */
      more = e->ops->tx_used(e->ctx, c);
      if (state == ABI_TCP_SYN_RECEIVED && d->accept >= ABI_ACCEPT_OFFERED)
        c->snd_una = d->iss + 1;
    } else if (rx_tail != 0) {
      return -EPROTO;
    }
    if (tx_head != 0 || seq_lt(d->snd_max, d->iss) || seq_gt(d->snd_max, d->iss + 1 + more))
      return -EPROTO;
    return 0;
  }
  c->snd_una = d->iss + 1 + tx_head + ((d->fin & ABI_TCB_FIN_ACKED) != 0);
  c->rcv_nxt = d->irs + 1 + rx_tail + ((d->fin & ABI_TCB_FIN_RCVD) != 0);
  if (d->snd_max == d->iss) /* cannot be: the SYN was acknowledged */
    return -EPROTO;
  if (seq_gt(c->snd_una, d->snd_max))
    return -EPROTO;
  if (seq_gt(c->rcv_nxt, d->rcv_adv)) { /* only the FIN may lie beyond what was promised */
    if (c->rcv_nxt != d->rcv_adv + 1 || !(d->fin & ABI_TCB_FIN_RCVD))
      return -EPROTO;
    d->rcv_adv = c->rcv_nxt;
  }
  tcp_urgent_adopt(c, e->ops->tx_used(e->ctx, c));
  if (d->fin & ABI_TCB_FIN_SENT) {
    c->fin_seq = d->snd_max - 1;
  } else if (tcp_close_fin_queued(c)) { /* numbered, but not marked: it was not sent */
    seq32_t end = c->snd_una + e->ops->tx_used(e->ctx, c);
    if (seq_gt(d->snd_max, end))
      d->snd_max = end;
  }
  c->snd_nxt = c->snd_una;
  if ((d->fin & ABI_TCB_FIN_ACKED) && c->snd_una != d->snd_max)
    return -EPROTO;
  return 0;
}

static void adopt_timers(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct abi_tcb *d = c->d;
  switch (tcp_state(c)) {
  case ABI_TCP_TIME_WAIT:
    if (d->time_wait_end == 0 || d->time_wait_end > now + e->cfg.time_wait)
      d->time_wait_end = now + e->cfg.time_wait; /* the state came, its deadline did not */
    tcp_timer_arm(c, TCP_T_LIFE, d->time_wait_end);
    return;
  case ABI_TCP_FIN_WAIT_2:
    if (d->fin & ABI_TCB_ORPHAN) {
      if (d->fin_wait2_end == 0)
        tcp_close_fin_wait2(e, c, now);
      tcp_timer_arm(c, TCP_T_LIFE, d->fin_wait2_end);
    }
    break;
  case ABI_TCP_SYN_RECEIVED:
    if (d->accept == ABI_ACCEPT_PARKED) {
      tcp_timer_arm(c, TCP_T_LIFE, now + HANDSHAKE_LIFE);
      break;
    }
    tcp_timer_rto_restart(e, c, now);
    break;
  default:
    if (d->snd_max != c->snd_una)
      tcp_timer_rto_restart(e, c, now);
    break;
  }
  usec_t user_timeout = tcp_timer_user_timeout(e, c);
  if (d->user_timeout_at != 0 && user_timeout != 0 && d->snd_max != c->snd_una) {
    c->b->stuck_at = d->user_timeout_at - HS_MIN(d->user_timeout_at, user_timeout);
    tcp_timer_arm(c, TCP_T_LIFE, HS_MAX(d->user_timeout_at, now + c->rto));
  }
  tcp_timer_keep_restart(e, c, now);
}

/* Transitions that a crash cut off: FIN bits ahead of the state, a close ahead of its FIN, an offer ahead of its state.
 */
static void adopt_settle(struct tcp_conn *c) {
  struct abi_tcb *d = c->d;
  uint32_t state = tcp_state_settle(d->state, d->fin);
  if (d->fin & ABI_TCB_ORPHAN) {
    uint32_t next = tcp_state_next(state, TCP_FSM_CLOSE);
    state = next != 0 ? next : state;
    if (state == ABI_TCP_SYN_RECEIVED)
      c->shut_wr = 1;
  }
  /* with Fast Open the offer comes before the handshake's end, which our SYN-ACK brings about again */
  if (state == ABI_TCP_SYN_RECEIVED && d->accept >= ABI_ACCEPT_OFFERED && !(d->nego & ABI_TCB_TFO)) {
    if (d->worker_id != 0)
      state = ABI_TCP_ESTABLISHED;
    else /* the session layer found that the offer's record was not finished: to be offered again */
      __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_PARKED, __ATOMIC_RELEASE);
  }
  if (state != d->state)
    tcp_state_repair(d, state);
}

int tcp_adopt(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, uint32_t tx_head, uint32_t rx_tail,
              uint32_t mtu, usec_t now) {
  c->b = NULL;
  if (d->life != ABI_TCB_USED || d->snd_wscale > TCP_WSCALE_MAX || d->rcv_wscale > TCP_WSCALE_MAX)
    goto refuse;
  tcp_open_soft(e, c, d, now);
  adopt_settle(c);
  if (!adopt_states_ok(d->state, d->fin)) {
    if (d->state == ABI_TCP_CLOSED || tcp_state_settle(d->state, d->fin) == ABI_TCP_CLOSED)
      goto out; /* it had ended: nothing is wrong, nothing is left */
    goto refuse;
  }
  if (adopt_sequences(e, c, tx_head, rx_tail) < 0)
    goto refuse;
  if (d->pmtu == 0 || (mtu != 0 && mtu < d->pmtu))
    d->pmtu = mtu;
  tcp_open_mss(c);
  c->cc->init(c, e->cfg.init_cwnd_segs);
  c->snd_sml = c->snd_una;
  c->recover = d->snd_max;
  c->last_tx = now;
  if (tcp_synchronized(d->state) && d->snd_max != c->snd_una) {
    c->recovery = TCP_LOSS;
    tcp_sent_mark_again(c, now);
  }
  tcp_rbuf_adopt(e, c);
  adopt_ranges(c);
  adopt_timers(e, c, now);
  c->ack_now = tcp_synchronized(d->state) != 0;
  tcp_state_count(e, d->state, 1);
  TCP_COUNT(e, adopted);
  tcp_timer_order(e, c);
  return 0;
refuse:
  TCP_COUNT(e, adopt_refused);
out:
  tcp_busy_release(e, c);
  return -EPROTO;
}
