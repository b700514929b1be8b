/*
 * ICMP about a segment of ours (RFC 5927, RFC 5461; its MTUs: tcp_pmtu.c), and options set by the app. Called by the
 * session layer, worker's thread.
 */
#include "tcp_int.h"

/* A handshake of a peer's that nobody was told of ends with a hard error (RFC 1122 4.2.3.9), over IPv4 also with a soft
 * one, as on Linux; its client may try again. Nobody hears of it. */
static int icmp_half_open(const struct tcp_conn *c) {
  return tcp_state(c) == ABI_TCP_SYN_RECEIVED && (c->d->nego & ABI_TCB_PASSIVE) && c->d->accept == ABI_ACCEPT_NONE;
}

void tcp_icmp(struct tcp_env *e, struct tcp_conn *c, int kind, int err, uint32_t mtu, seq32_t seq, usec_t now) {
  uint32_t state = tcp_state(c);
  if (state == ABI_TCP_CLOSED)
    return;
  if (seq_lt(seq, c->snd_una) || !seq_lt(seq, c->d->snd_max)) { /* RFC 5927 4.1 */
    TCP_COUNT(e, icmp_ignored);
    return;
  }
  tcp_busy_need(e, c, now);
  if (kind == 2) {
    tcp_pmtu_icmp(e, c, mtu, now);
  } else if (state == ABI_TCP_SYN_SENT || (state == ABI_TCP_SYN_RECEIVED && !(c->d->nego & ABI_TCB_PASSIVE))) {
    tcp_close_fail(e, c, err); /* deviates: soft errors too, as Linux (RFC 5461 4.1), where RFC 1122 4.2.3.9 goes on */
  } else if (icmp_half_open(c) && (kind == 1 || c->d->remote.family == 4)) {
    TCP_COUNT(e, icmp_half_open);
    tcp_close_fail(e, c, err);
  } else {
    c->soft_error = (uint32_t)err; /* RFC 5927 5.2: hard errors of synchronized connections are soft */
    e->ops->event(e->ctx, c, TCP_EV_SOFT_ERROR);
  }
  tcp_done(e, c);
}

void tcp_options(struct tcp_env *e, struct tcp_conn *c, const struct abi_options *opt, usec_t now) {
  uint32_t before = c->d->opt.flags;
  c->d->opt = *opt; /* options do not depend on each other: a half-written set is a set the app might have asked for */
  FAULT_POINT("tcp.options.stored");
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  tcp_busy_need(e, c, now);
  if (opt->cc != 0 && opt->cc <= tcp_cc_count)
    tcp_cc_change(c, opt->cc - 1u);
  tcp_open_mss(c);
  tcp_rbuf_options(e, c);
  c->probes = 0;
  if (opt->flags & ~before & ABI_OPT_LAZYACK) {
    c->quickack = 0;
    c->pingpong = 1;
  }
  tcp_timer_keep_restart(e, c, now);
  if (tcp_synchronized(tcp_state(c)) && (before & ~opt->flags & ABI_OPT_CORK))
    (void)tcp_output_run(e, c, now); /* uncorked: the rest goes out */
  tcp_done(e, c);
}
