/*
 * Path MTU. What routers tell is believed if it quotes a segment that is out (RFC 1191, RFC 8201, RFC 5927 4.1). Where
 * they are silent, a segment that times out again and again is sent smaller (RFC 4821 7.7, black hole), and larger ones
 * are tried with data of the app (RFC 4821 7.3): a probe that is lost alone is no sign of congestion (7.6.1). After
 * cfg.pmtu_life a larger MTU is tried again (RFC 1191 6.3, RFC 8201 4), by probes or, without probing, at once. Called
 * by tcp_icmp.c, tcp_timer.c, tcp_ack.c, tcp_loss.c and tcp_output.c; worker's thread.
 *
 * d->pmtu is what segments are made for; it is durable, the search is not: a successor begins it anew.
 */
#include "tcp_int.h"

#define PMTU_MIN4  552u  /* smaller ones are attacks: as Linux min_pmtu */
#define PMTU_MIN6  1280u /* RFC 8200 5 */
#define PMTU_CLOSE 8u    /* bytes: a search that is so near is over */
#define PMTU_AFTER 3u    /* segments that follow a probe, so that its loss is found by duplicates (RFC 4821 7.4) */

static uint32_t pmtu_least(const struct tcp_conn *c) {
  return c->d->remote.family == 6 ? PMTU_MIN6 : PMTU_MIN4;
}

static uint32_t pmtu_head(const struct tcp_conn *c) {
  return (c->d->remote.family == 6 ? 40u : 20u) + TCP_HLEN;
}

/* The largest that makes sense: the first link's, and what the peer takes. */
static uint32_t pmtu_limit(struct tcp_env *e, struct tcp_conn *c) {
  uint32_t link = e->ops->path_mtu != NULL ? e->ops->path_mtu(e->ctx, c, 0) : c->d->pmtu;
  return c->d->mss != 0 ? HS_MIN(link, c->d->mss + pmtu_head(c)) : link;
}

static uint32_t pmtu_clock(usec_t at) {
  return (uint32_t)(at >> 20) + 1u; /* never 0 */
}

static void pmtu_store(struct tcp_conn *c, uint32_t mtu) {
  c->d->pmtu = mtu;
  tcp_open_mss(c);
}

/* d->pmtu is good: others may know it; look again when it is old. */
static void pmtu_settled(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  c->mtu_hi = 0;
  c->mtu_at = c->d->pmtu < pmtu_limit(e, c) ? pmtu_clock(now + e->cfg.pmtu_life) : 0;
  if (e->ops->path_mtu != NULL)
    (void)e->ops->path_mtu(e->ctx, c, c->d->pmtu);
}

/** A connection begins, or is taken over. */
void tcp_pmtu_init(struct tcp_env *e, struct tcp_conn *c, int fresh, usec_t now) {
  if (e->ops->path_mtu == NULL)
    return;
  if (fresh && e->cfg.mtu_probing == TCP_MTU_PROBING_ON)
    c->d->pmtu = HS_MIN(c->d->pmtu, HS_MAX(e->cfg.mtu_base, pmtu_least(c)));
  if (c->d->pmtu < pmtu_limit(e, c))
    c->mtu_at = pmtu_clock(e->cfg.mtu_probing == TCP_MTU_PROBING_ON ? now : now + e->cfg.pmtu_life);
}

/** A router says that a segment of ours was too big (RFC 1191 6.4): what was goes out again, smaller; no congestion. */
void tcp_pmtu_icmp(struct tcp_env *e, struct tcp_conn *c, uint32_t mtu, usec_t now) {
  uint32_t before = c->mss;
  mtu = HS_MAX(mtu, pmtu_least(c));
  if (mtu >= c->d->pmtu) {
    if (c->mtu_probe > mtu) /* about the probe */
      c->mtu_hi = (uint16_t)(mtu + 1u);
    return;
  }
  TCP_COUNT(e, pmtu_lowered);
  c->mtu_probe = 0;
  pmtu_store(c, mtu);
  pmtu_settled(e, c, now);
  if (c->mss >= before || !tcp_synchronized(tcp_state(c)) || c->snd_una == c->d->snd_max)
    return;
  c->recovery = TCP_LOSS;
  c->frto = TCP_FRTO_NONE;
  c->recover = c->d->snd_max;
  tcp_sent_mark_again(c, now);
  tcp_loss_go_back(c);
  c->b->dupacks = 0;
  c->b->rtt_at = 0;
  c->undo = TCP_UNDO_NONE;
  c->cwnd = HS_MAX(c->cwnd, tcp_mss_payload(c));
  (void)tcp_output_run(e, c, now);
}

/** The retransmission timer ran out, for the c->backoff'th time in a row before this one: from the third time on the
 * size may be the reason. */
void tcp_pmtu_timeout(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t base = HS_MAX(e->cfg.mtu_base, pmtu_least(c)), to = c->d->pmtu > base ? base : pmtu_least(c);
  if (c->mtu_probe != 0)
    (void)tcp_pmtu_lost(e, c, now);
  if (e->cfg.mtu_probing == TCP_MTU_PROBING_OFF || e->ops->path_mtu == NULL || c->backoff < 2 || c->backoff % 2 != 0)
    return;
  if (to >= c->d->pmtu || c->d->snd_max - c->snd_una <= to - pmtu_head(c))
    return;
  TCP_COUNT(e, pmtu_blackhole);
  pmtu_store(c, to);
  c->mtu_hi = 0;
  c->mtu_at = pmtu_clock(now); /* larger ones are tried as soon as data flows again */
}

/* The size to try next; 0: none. */
static uint32_t pmtu_next(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t limit = pmtu_limit(e, c);
  if (c->d->pmtu >= limit) {
    c->mtu_at = 0;
    return 0;
  }
  if (e->cfg.mtu_probing == TCP_MTU_PROBING_OFF) { /* RFC 1191 6.3: routers will tell again */
    TCP_COUNT(e, pmtu_raised);
    pmtu_store(c, limit);
    c->mtu_at = 0;
    return 0;
  }
  if (c->mtu_hi == 0)
    c->mtu_hi = (uint16_t)HS_MIN(limit + 1, 65535u);
  if (c->mtu_hi > limit)
    return limit; /* most black holes are none: first what the link takes */
  if (c->mtu_hi - c->d->pmtu <= PMTU_CLOSE) {
    pmtu_settled(e, c, now);
    return 0;
  }
  return (c->d->pmtu + c->mtu_hi) / 2;
}

/** Bytes at snd_nxt that are to go out as one segment larger than the others, 0: none now. `left` of the app's are not
 * sent yet. */
uint32_t tcp_pmtu_probe(struct tcp_env *e, struct tcp_conn *c, uint32_t left, usec_t now) {
  if (c->mtu_at > pmtu_clock(now) || c->mtu_probe != 0 || c->recovery != TCP_OPEN || c->b->board.n > 0 ||
      c->snd_nxt != c->d->snd_max || !tcp_ooo_empty(c) || c->b->dsack.l != c->b->dsack.r)
    return 0;
  uint32_t size = pmtu_next(e, c, now);
  if (size == 0)
    return 0;
  uint32_t len = size - pmtu_head(c) - (c->d->nego & ABI_TCB_TS ? 12u : 0u), after = PMTU_AFTER * tcp_mss_payload(c);
  seq32_t edge = c->snd_una + c->d->snd_wnd;
  uint32_t pipe = tcp_loss_pipe(c), wnd = seq_gt(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
  if (left < len + after || wnd < len + after || c->cwnd < pipe + len + after)
    return 0;
  c->mtu_probe = (uint16_t)size;
  c->b->mtu_probe_end = c->snd_nxt + len;
  TCP_COUNT(e, pmtu_probes);
  return len;
}

/** The probe found no frame. */
void tcp_pmtu_unsent(struct tcp_conn *c) {
  c->mtu_probe = 0;
}

/** snd_una moved while a probe is out. */
void tcp_pmtu_acked(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (seq_lt(c->snd_una, c->b->mtu_probe_end))
    return;
  TCP_COUNT(e, pmtu_raised);
  pmtu_store(c, c->mtu_probe);
  c->mtu_probe = 0;
  if (c->mtu_hi <= c->d->pmtu + PMTU_CLOSE)
    pmtu_settled(e, c, now);
}

/** Something is lost while a probe is out. 1 = the probe, and nothing else: no sign of congestion. */
int tcp_pmtu_lost(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t len = c->mtu_probe - pmtu_head(c) - (c->d->nego & ABI_TCB_TS ? 12u : 0u);
  seq32_t from = c->b->mtu_probe_end - len;
  struct tcp_sack h = {c->snd_una, c->b->mtu_probe_end}, more;
  int alone = c->snd_una == from;
  if (c->b->board.n > 0)
    alone = alone && tcp_sack_hole(c, c->snd_una, &h) && h.l == from && h.r == c->b->mtu_probe_end &&
            !tcp_sack_hole(c, h.r, &more);
  TCP_COUNT(e, pmtu_probes_lost);
  if (c->mtu_hi > c->mtu_probe)
    c->mtu_hi = c->mtu_probe;
  c->mtu_probe = 0;
  if (c->mtu_hi <= c->d->pmtu + PMTU_CLOSE)
    pmtu_settled(e, c, now);
  return alone;
}
