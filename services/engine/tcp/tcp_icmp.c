/*
 * ICMP about a segment of ours (RFC 5927, RFC 5461, RFC 1191, RFC 8201), and options set by the app. Called by the
 * session layer, worker's thread.
 */
#include "tcp_int.h"

#define PMTU_MIN4 552u  /* smaller ones are attacks: as Linux min_pmtu */
#define PMTU_MIN6 1280u /* RFC 8200 5 */

/* RFC 1191 6.4: a smaller MTU, and what was too big goes out again; no sign of congestion. */
static void icmp_pmtu(struct tcp_env *e, struct tcp_conn *c, uint32_t mtu, usec_t now) {
  uint32_t least = c->d->remote.family == 6 ? PMTU_MIN6 : PMTU_MIN4, before = c->mss;
  mtu = HS_MAX(mtu, least);
  if (mtu >= c->d->pmtu)
    return;
  c->d->pmtu = mtu;
  TCP_COUNT(e, pmtu_lowered);
  tcp_open_mss(c);
  if (c->mss >= before || !tcp_synchronized(tcp_state(c)) || c->snd_una == c->d->snd_max)
    return;
  c->recovery = TCP_LOSS;
  c->frto = TCP_FRTO_NONE;
  c->recover = c->d->snd_max;
  tcp_loss_go_back(c);
  c->dupacks = 0;
  c->rtt_at = 0;
  c->undo = TCP_UNDO_NONE;
  c->cwnd = HS_MAX(c->cwnd, tcp_mss_payload(c));
  (void)tcp_output_run(e, c, now);
}

void tcp_icmp(struct tcp_env *e, struct tcp_conn *c, int kind, int err, uint32_t mtu, seq32_t seq, usec_t now) {
  uint32_t state = tcp_state(c);
  if (state == ABI_TCP_CLOSED)
    return;
  if (seq_lt(seq, c->snd_una) || !seq_lt(seq, c->d->snd_max)) { /* RFC 5927 4.1 */
    TCP_COUNT(e, icmp_ignored);
    return;
  }
  if (kind == 2) {
    icmp_pmtu(e, c, mtu, now);
  } else if (kind == 1 &&
             (state == ABI_TCP_SYN_SENT || (state == ABI_TCP_SYN_RECEIVED && !(c->d->nego & ABI_TCB_PASSIVE)))) {
    tcp_close_fail(e, c, err);
  } else {
    c->soft_error = (uint32_t)err; /* RFC 5927 5.2: hard errors of synchronized connections are soft */
  }
  tcp_done(e, c);
}

void tcp_options(struct tcp_env *e, struct tcp_conn *c, const struct abi_options *opt, usec_t now) {
  uint32_t before = c->d->opt.flags;
  c->d->opt = *opt; /* options do not depend on each other: a half-written set is a set the app might have asked for */
  FAULT_POINT("tcp.options.stored");
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  if (opt->cc != 0 && opt->cc <= tcp_cc_count)
    tcp_cc_change(c, opt->cc - 1u);
  tcp_open_mss(c);
  tcp_rbuf_options(e, c);
  c->probes = 0;
  tcp_timer_keep_restart(e, c, now);
  if (tcp_synchronized(tcp_state(c)) && (before & ~opt->flags & ABI_OPT_CORK))
    (void)tcp_output_run(e, c, now); /* uncorked: the rest goes out */
  tcp_done(e, c);
}
