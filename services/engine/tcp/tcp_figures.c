/*
 * Figures of a connection for TCP_INFO and `hsctl show session verbose`: read off, never decided upon. Called by the
 * session layer now and then, worker's thread.
 */
#include "tcp_int.h"
#include "tcp_tfo.h"

/* Bytes held for lost and not sent again; after a timeout that is all behind snd_nxt, but what was SACKed. */
static uint32_t figures_lost(const struct tcp_conn *c) {
  uint32_t behind = c->d->snd_max - c->snd_nxt, sacked = c->b->board.n > 0 ? tcp_sack_above(c, c->snd_nxt) : 0;
  return c->b->lost + (behind > sacked ? behind - sacked : 0);
}

/* What data is paced at now; a rate below one is told as one, since 0 says that nothing is. */
static uint32_t figures_pacing(const struct tcp_env *e, const struct tcp_conn *c) {
  uint32_t rate = c->cc != NULL && tcp_synchronized(tcp_state(c)) ? tcp_pace_rate(e, c) : 0;
  return rate == 0 ? 0 : HS_MAX(rate / 125u, 1u); /* bytes per second to kbit/s */
}

void tcp_figures(const struct tcp_env *e, const struct tcp_conn *conn, struct abi_tcp_figures *out) {
  struct tcp_conn room;
  const struct tcp_conn *c = tcp_busy_look(conn, &room);
  *out = (struct abi_tcp_figures){
      .srtt_us = c->srtt8 / 8,
      .rttvar_us = c->rttvar4 / 4,
      .rto_us = (uint32_t)tcp_timer_backed_off(e, c, c->backoff),
      .cwnd = c->cwnd,
      .ssthresh = c->ssthresh,
      .snd_mss = tcp_mss_payload(c),
      .rcv_mss = c->rcv_mss,
      .snd_wnd = c->d->snd_wnd,
      .rcv_wnd = tcp_wnd_current(c),
      .in_flight = tcp_loss_pipe(c),
      .retrans_total = c->retrans_total,
      .lost = figures_lost(c),
      .pmtu = c->d->pmtu,
      .pacing_kbps = figures_pacing(e, c),
      .tcp_state = tcp_state(c),
      .reordering = c->reo_seen ? 3u * c->reo_mult : 3u,
  };
}

static uint8_t figures_ca_state(const struct tcp_conn *c) {
  switch (c->recovery) {
  case TCP_RECOVERY:
    return 3;
  case TCP_LOSS:
    return 4;
  default:
    return c->b->board.n > 0 || c->b->dupacks > 0;
  }
}

static uint8_t figures_options(const struct tcp_conn *c) {
  const struct abi_tcb *d = c->d;
  return (uint8_t)((d->nego & ABI_TCB_TS ? 1 : 0) | (d->nego & ABI_TCB_SACK ? 2 : 0) |
                   (d->nego & ABI_TCB_WSCALE ? 4 : 0) | (d->nego & ABI_TCB_ECN ? 8 : 0) |
                   (c->tfo & TCP_TFO_TAKEN ? 32 : 0));
}

/* Bytes out that were sent before. */
static uint32_t figures_rexmit(const struct tcp_conn *c) {
  const struct tcp_sent *s = tcp_sent_list(c);
  uint32_t n = 0;
  for (uint32_t i = 0; i < c->n_sent; i++)
    n += s[i].rexmit ? s[i].r - s[i].l : 0;
  return n;
}

void tcp_figures_more(const struct tcp_env *e, const struct tcp_conn *conn, struct abi_tcp_more *out) {
  struct tcp_conn room;
  const struct tcp_conn *c = tcp_busy_look(conn, &room);
  const struct abi_tcb *d = c->d;
  *out = (struct abi_tcp_more){
      .ca_state = figures_ca_state(c),
      .retransmits = c->backoff,
      .probes = c->probes,
      .backoff = c->backoff > c->persists ? c->backoff : c->persists,
      .options = figures_options(c),
      .wscale = (uint8_t)((d->snd_wscale & 15u) | (uint32_t)d->rcv_wscale << 4),
      .advmss = d->rcv_mss,
      .ato_us = (uint32_t)e->cfg.delack,
      .unacked = c->d->snd_max - c->snd_una,
      .sacked = c->b->board.bytes,
      .rexmit = figures_rexmit(c),
      .rcv_rtt_us = c->rcv_rtt,
      .rcv_space = c->rcvq_space,
      .min_rtt_us = c->min_rtt == UINT32_MAX ? 0 : c->min_rtt,
      .data_sent_at = (uint32_t)(c->last_tx >> 10),
      .data_rcvd_at = c->data_rx_at,
      .ack_rcvd_at = c->ack_rx_at,
  };
}
