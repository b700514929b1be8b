/*
 * Invariants of a connection: the oracle of unit tests, simulations and fuzzers. Returns the line of the first one that
 * does not hold. Not called on the hot path.
 */
#include "tcp_int.h"

static int check_handshake(const struct tcp_env *e, const struct tcp_conn *c) {
  uint32_t max = 1;
  if (c->d->nego & ABI_TCB_TFO)
    max += e->ops->tx_used(e->ctx, (struct tcp_conn *)(uintptr_t)c);
  if (c->snd_una != c->d->iss && !((c->d->nego & ABI_TCB_TFO) && c->snd_una == c->d->iss + 1))
    return __LINE__;
  if (c->snd_nxt - c->d->iss > max || c->d->snd_max - c->d->iss > max)
    return __LINE__;
  if (c->d->fin & (ABI_TCB_FIN_SENT | ABI_TCB_FIN_ACKED | ABI_TCB_FIN_RCVD))
    return __LINE__;
  return 0;
}

static int check_fin(const struct tcp_conn *c) {
  uint32_t state = tcp_state(c), fin = c->d->fin;
  if (tcp_state_settle(state, fin) != state) /* between calls no transition is pending */
    return __LINE__;
  if ((fin & ABI_TCB_FIN_SENT) && c->d->snd_max != c->fin_seq + 1)
    return __LINE__;
  if ((fin & ABI_TCB_FIN_ACKED) && c->snd_una != c->d->snd_max)
    return __LINE__;
  if ((fin & ABI_TCB_FIN_SENT) && (state == ABI_TCP_ESTABLISHED || state == ABI_TCP_CLOSE_WAIT))
    return __LINE__;
  int rcvd = state == ABI_TCP_CLOSE_WAIT || state == ABI_TCP_LAST_ACK || state == ABI_TCP_CLOSING ||
             state == ABI_TCP_TIME_WAIT;
  if (rcvd != ((fin & ABI_TCB_FIN_RCVD) != 0))
    return __LINE__;
  if ((state == ABI_TCP_FIN_WAIT_2 || state == ABI_TCP_TIME_WAIT) && !(fin & ABI_TCB_FIN_ACKED))
    return __LINE__;
  return 0;
}

static int check_sequences(const struct tcp_env *e, const struct tcp_conn *c) {
  const struct abi_tcb *d = c->d;
  if (seq_lt(c->snd_nxt, c->snd_una) || seq_gt(c->snd_nxt, d->snd_max))
    return __LINE__;
  if (seq_gt(c->rcv_nxt, d->rcv_adv))
    return __LINE__;
  if (seq_gt(d->last_ack_sent, c->rcv_nxt))
    return __LINE__;
  if (c->recovery != TCP_OPEN && (seq_lt(c->recover, c->snd_una) || seq_gt(c->recover, d->snd_max)))
    return __LINE__;
  if (!(d->fin & ABI_TCB_FIN_ACKED)) { /* nothing is sent that the fifo does not hold */
    uint32_t used = e->ops->tx_used(e->ctx, (struct tcp_conn *)(uintptr_t)c);
    if (d->snd_max - c->snd_una > used + ((d->fin & ABI_TCB_FIN_SENT) != 0))
      return __LINE__;
  }
  return 0;
}

static int check_timers(const struct tcp_conn *c) {
  if (c->snd_nxt != c->snd_una && c->b->due[TCP_T_RTO] == 0)
    return __LINE__;
  if (c->b->due[TCP_T_RTO] != 0 && c->ordered > c->b->due[TCP_T_RTO])
    return __LINE__;
  for (unsigned i = 0; i < TCP_T_N; i++)
    if (c->b->due[i] != 0 && c->ordered > c->b->due[i])
      return __LINE__;
  return 0;
}

/* At rest nothing is out, owed, held back or timed, and one order at most stands. */
static int check_rest(const struct tcp_conn *c) {
  uint32_t state = tcp_state(c);
  if (state != ABI_TCP_ESTABLISHED && state != ABI_TCP_CLOSE_WAIT)
    return __LINE__;
  if (c->snd_una != c->d->snd_max || c->n_sent > 0 || c->recovery != TCP_OPEN || c->ack_now || !tcp_ooo_empty(c))
    return __LINE__;
  if (!(c->d->opt.flags & ABI_OPT_KEEPALIVE) && c->ordered != UINT64_MAX)
    return __LINE__;
  return 0;
}

int tcp_conn_check(const struct tcp_env *e, const struct tcp_conn *c) {
  const struct abi_tcb *d = c->d;
  uint32_t state = tcp_state(c);
  int r;
  if (d->life != ABI_TCB_USED)
    return __LINE__;
  if (state == 0 || state > ABI_TCP_CLOSING || state == ABI_TCP_LISTEN)
    return __LINE__;
  if (state == ABI_TCP_CLOSED)
    return 0;
  if (c->cwnd < 1 || c->mss < 88 || d->rcv_wscale > TCP_WSCALE_MAX || d->snd_wscale > TCP_WSCALE_MAX)
    return __LINE__;
  if (!tcp_synchronized(state))
    return check_handshake(e, c);
  if ((r = check_sequences(e, c)) != 0 || (r = check_fin(c)) != 0)
    return r;
  if (c->b == NULL)
    return check_rest(c);
  if ((r = check_timers(c)) != 0)
    return r;
  if ((r = tcp_ooo_check(c)) != 0)
    return r;
  if ((r = tcp_sack_check(c)) != 0)
    return r;
  return tcp_sent_check(c);
}
