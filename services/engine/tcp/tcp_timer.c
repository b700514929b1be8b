/*
 * Deadlines: retransmission (RFC 6298 5), delayed ACK, persist (RFC 9293 3.8.6.1), keep-alive (RFC 9293 3.8.4), the
 * ends of TIME_WAIT, FIN_WAIT_2, parked connections and the user timeout (RFC 5482), the reordering window. They are
 * kept in c->b->due; the session layer holds one order per connection. An order is only given when it must be earlier
 * than the one that stands: a timer that comes too early finds nothing due and orders anew, so an ACK costs no order.
 */
#include "tcp_int.h"

#define ORPHAN_RETRIES 8u /* RTOs or probes for a connection without an app (Linux tcp_orphan_retries) */
#define ROUTE_BAD_AT   3u /* RTOs in a row after which the neighbour is doubted (RFC 1122 3.3.1.4) */

void tcp_timer_arm(struct tcp_conn *c, enum tcp_timer_id id, usec_t when) {
  c->b->due[id] = when;
}

void tcp_timer_stop(struct tcp_conn *c, enum tcp_timer_id id) {
  c->b->due[id] = 0;
}

/** Tell the session layer about the earliest deadline if its order comes too late. */
void tcp_timer_order(struct tcp_env *e, struct tcp_conn *c) {
  usec_t before = UINT64_MAX; /* one less than the earliest: so none, 0, is the latest of all */
  for (unsigned i = 0; i < TCP_T_N; i++)
    before = HS_MIN(before, c->b->due[i] - 1);
  if (before < c->ordered - 1) {
    c->ordered = before + 1;
    e->ops->timer(e->ctx, c, before + 1);
  }
}

/** RTO doubled `shift` times, µs (RFC 6298 (5.5)). */
usec_t tcp_timer_backed_off(const struct tcp_env *e, const struct tcp_conn *c, uint32_t shift) {
  return HS_MIN((usec_t)c->rto << HS_MIN(shift, 20u), e->cfg.rto_max);
}

void tcp_timer_rto_restart(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (c->b->stuck_at == 0)
    c->b->stuck_at = now;
  tcp_timer_arm(c, TCP_T_RTO, now + tcp_timer_backed_off(e, c, c->backoff));
}

static uint32_t timer_retries(const struct tcp_env *e, const struct tcp_conn *c) {
  return c->d->fin & ABI_TCB_ORPHAN ? HS_MIN(e->cfg.data_retries, ORPHAN_RETRIES) : e->cfg.data_retries;
}

static void timer_give_up(struct tcp_env *e, struct tcp_conn *c) {
  TCP_COUNT(e, timeouts);
  tcp_close_fail(e, c, c->soft_error != 0 ? (int)c->soft_error : ETIMEDOUT);
}

/** µs that data may stay unacknowledged (RFC 5482), 0 = without limit. */
usec_t tcp_timer_user_timeout(const struct tcp_env *e, const struct tcp_conn *c) {
  return 1000ull * (c->d->opt.user_timeout_ms != 0 ? c->d->opt.user_timeout_ms : e->cfg.user_timeout_ms);
}

static void timer_user_timeout(struct tcp_env *e, struct tcp_conn *c) {
  usec_t limit = tcp_timer_user_timeout(e, c);
  if (limit == 0 || c->b->stuck_at == 0)
    return;
  c->d->user_timeout_at = c->b->stuck_at + limit;
  tcp_timer_arm(c, TCP_T_LIFE, c->d->user_timeout_at);
}

/* When a connect is given up (RFC 5482 applied to the SYN, as Linux); passive opens have their own limit. */
static usec_t timer_connect_end(const struct tcp_env *e, const struct tcp_conn *c) {
  usec_t limit = c->d->nego & ABI_TCB_PASSIVE ? 0 : tcp_timer_user_timeout(e, c);
  return limit == 0 || c->b->stuck_at == 0 ? UINT64_MAX : c->b->stuck_at + limit;
}

/** A SYN or SYN-ACK leaves: when it is looked at again. */
void tcp_timer_syn_arm(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (c->b->stuck_at == 0)
    c->b->stuck_at = now;
  tcp_timer_arm(c, TCP_T_RTO, HS_MIN(now + tcp_timer_backed_off(e, c, c->backoff), timer_connect_end(e, c)));
}

static void timer_rto_handshake(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (c->d->accept == ABI_ACCEPT_PARKED)
    return;
  uint32_t limit = c->d->nego & ABI_TCB_PASSIVE ? e->cfg.synack_retries
                   : c->d->opt.syncnt != 0      ? c->d->opt.syncnt
                                                : e->cfg.syn_retries;
  if (c->defer_acked) { /* the client has answered: only the last SYN-ACK, whose answer counts, is sent again */
    limit = HS_MAX(limit, (uint32_t)c->defer);
    if (c->backoff + 1u < c->defer) {
      c->backoff++;
      tcp_timer_arm(c, TCP_T_RTO, now + tcp_timer_backed_off(e, c, c->backoff));
      return;
    }
  }
  if (c->backoff >= limit || now >= timer_connect_end(e, c)) {
    timer_give_up(e, c);
    return;
  }
  c->backoff++;
  TCP_COUNT(e, rto);
  TCP_COUNT(e, rexmit_segs);
  c->retrans_total++;
  if (c->backoff == ROUTE_BAD_AT)
    e->ops->event(e->ctx, c, TCP_EV_ROUTE_BAD);
  (void)tcp_output_syn(e, c, now);
}

static void timer_rto(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t state = tcp_state(c);
  if (!tcp_synchronized(state)) {
    timer_rto_handshake(e, c, now);
    return;
  }
  if (c->d->snd_max == c->snd_una || state == ABI_TCP_TIME_WAIT)
    return;
  if (c->backoff >= timer_retries(e, c)) {
    timer_give_up(e, c);
    return;
  }
  tcp_pmtu_timeout(e, c, now);
  tcp_loss_rto(e, c, now);
  c->backoff++;
  timer_user_timeout(e, c);
  if (c->backoff == ROUTE_BAD_AT)
    e->ops->event(e->ctx, c, TCP_EV_ROUTE_BAD);
  tcp_timer_rto_restart(e, c, now);
  (void)tcp_output_run(e, c, now);
}

static void timer_persist(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t limit = timer_retries(e, c);
  if (c->d->snd_wnd > 0) { /* small but open: RFC 9293 3.8.6.2.1 (3), override */
    c->force = TCP_FORCE_SWS;
    (void)tcp_output_run(e, c, now);
    return;
  }
  /* A peer that answers may keep its window shut for ever (RFC 9293 3.8.6.1), but not that of an orphan. */
  if (c->probes >= limit || ((c->d->fin & ABI_TCB_ORPHAN) && c->persists >= limit)) {
    timer_give_up(e, c);
    return;
  }
  c->probes++;
  if (c->persists < UINT8_MAX)
    c->persists++;
  TCP_COUNT(e, zero_window_probes);
  tcp_output_probe(e, c, now);
  tcp_timer_arm(c, TCP_T_PERSIST, now + tcp_timer_backed_off(e, c, c->persists));
}

static uint64_t timer_s(uint32_t own, uint32_t dflt) {
  return (uint64_t)(own != 0 ? own : dflt) * 1000000u;
}

void tcp_timer_keep_restart(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t state = tcp_state(c);
  if (!(c->d->opt.flags & ABI_OPT_KEEPALIVE) || !tcp_synchronized(state) || state == ABI_TCP_TIME_WAIT)
    tcp_timer_stop(c, TCP_T_KEEP);
  else
    tcp_timer_arm(c, TCP_T_KEEP, now + timer_s(c->d->opt.keepidle_s, e->cfg.keepidle_s));
}

static void timer_keep(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  usec_t idle = timer_s(c->d->opt.keepidle_s, e->cfg.keepidle_s);
  uint32_t state = tcp_state(c);
  if (!tcp_synchronized(state) || state == ABI_TCP_TIME_WAIT || !(c->d->opt.flags & ABI_OPT_KEEPALIVE))
    return;
  if (c->snd_una != c->d->snd_max || now - c->last_rx < idle) { /* RFC 9293 3.8.4: only when idle */
    if (c->last_rx + idle > now)
      tcp_timer_arm(c, TCP_T_KEEP, c->last_rx + idle);
    else
      tcp_timer_arm(c, TCP_T_KEEP, now + idle);
    return;
  }
  if (c->probes >= (c->d->opt.keepcnt != 0 ? c->d->opt.keepcnt : e->cfg.keepcnt)) {
    tcp_output_rst(e, c, now);
    timer_give_up(e, c);
    return;
  }
  c->probes++;
  TCP_COUNT(e, keepalive_probes);
  tcp_output_probe(e, c, now);
  tcp_timer_arm(c, TCP_T_KEEP, now + timer_s(c->d->opt.keepintvl_s, e->cfg.keepintvl_s));
}

static void timer_delack(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  TCP_COUNT(e, delayed_acks);
  c->pingpong = 0; /* no answer came that could take it along */
  tcp_output_ack(e, c, now);
}

static void timer_pace(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  (void)tcp_output_run(e, c, now);
}

static void timer_life(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  switch (tcp_state(c)) {
  case ABI_TCP_TIME_WAIT:
  case ABI_TCP_FIN_WAIT_2:
    tcp_close_timeout(e, c);
    break;
  case ABI_TCP_SYN_RECEIVED: /* parked, nobody came */
    tcp_output_rst(e, c, now);
    timer_give_up(e, c);
    break;
  default: /* user timeout */
    if (c->d->user_timeout_at != 0 && c->b->stuck_at != 0) {
      tcp_output_rst(e, c, now);
      timer_give_up(e, c);
    }
    break;
  }
}

void tcp_timer(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  static void (*const act[TCP_T_N])(struct tcp_env *, struct tcp_conn *, usec_t) = {
      [TCP_T_RTO] = timer_rto,   [TCP_T_DELACK] = timer_delack, [TCP_T_PERSIST] = timer_persist,
      [TCP_T_KEEP] = timer_keep, [TCP_T_LIFE] = timer_life,     [TCP_T_REO] = tcp_loss_reo_expired,
      [TCP_T_PACE] = timer_pace, [TCP_T_REST] = tcp_busy_rest,
  };
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  tcp_busy_need(e, c, now);
  c->ordered = UINT64_MAX;
  for (unsigned i = 0; i < TCP_T_N && tcp_state(c) != ABI_TCP_CLOSED; i++) {
    if (c->b->due[i] == 0 || c->b->due[i] > now)
      continue;
    c->b->due[i] = 0;
    act[i](e, c, now);
  }
  if (c->b != NULL) /* else it is at rest, and has ordered what it waits for */
    tcp_done(e, c);
}
