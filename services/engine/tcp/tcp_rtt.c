/*
 * Round-trip time and retransmission timeout, RFC 6298. One segment per window is timed in µs (Karn: never a
 * retransmitted one); while retransmissions are about, the timestamp echo serves instead (RFC 7323 4.1), in ms.
 * Called by tcp_ack.c and tcp_open.c.
 */
#include "tcp_int.h"

#define MIN_RTT_LIFE (10ull * 1000 * 1000) /* a minimum older than that is forgotten; the path may have changed */

static uint32_t rtt_clamp(const struct tcp_env *e, uint64_t rto) {
  return (uint32_t)HS_CLAMP(rto, e->cfg.rto_min, e->cfg.rto_max);
}

void tcp_rtt_init(const struct tcp_env *e, struct tcp_conn *c) {
  c->srtt8 = c->rttvar4 = 0;
  c->rto = (uint32_t)HS_MIN(e->cfg.rto_initial, e->cfg.rto_max); /* RFC 6298 (2.1) */
  c->b->rtt_at = 0;
}

void tcp_rtt_sample(const struct tcp_env *e, struct tcp_conn *c, uint32_t us, usec_t now) {
  us = HS_CLAMP(us, 1u, 60u * 1000 * 1000);
  if (c->min_rtt == 0 || us <= c->min_rtt || now - c->b->min_rtt_at > MIN_RTT_LIFE) {
    c->min_rtt = us;
    c->b->min_rtt_at = now;
  }
  if (c->spurious && c->srtt8 != 0) { /* RFC 4015 3.2 step 9: or the next delay of this kind fires the timer again */
    c->spurious = 0;
    c->srtt8 = HS_MAX(c->srtt8, us * 8);
    c->rttvar4 = HS_MAX(c->rttvar4, us * 2);
  } else if (c->srtt8 == 0) { /* RFC 6298 (2.2) */
    c->srtt8 = us * 8;
    c->rttvar4 = us * 2;
  } else { /* (2.3): rttvar first, with the old srtt */
    uint32_t srtt = c->srtt8 / 8;
    uint32_t err = srtt > us ? srtt - us : us - srtt;
    c->rttvar4 = c->rttvar4 - c->rttvar4 / 4 + err;
    c->srtt8 = HS_MAX(c->srtt8 - c->srtt8 / 8 + us, 8u);
  }
  /* deviates: (2.3) says max(G, 4 * rttvar). A steady path has no variance, but the ACK of a retransmission may be
   * delayed all the same; as Linux does */
  c->rto = rtt_clamp(e, (uint64_t)c->srtt8 / 8 + HS_MAX((usec_t)c->rttvar4, e->cfg.rto_min));
}

/* The round trip that this very ACK shows (HyStart++ wants many of them). */
static uint32_t rtt_of_ack(const struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  if (c->d->nego & ABI_TCB_TS) {
    if (!(seg->hdr.opts.present & TCP_OPT_HAS_TS) || seg->hdr.opts.ts_ecr == 0)
      return 0;
    uint32_t ms = tcp_open_ts(c->d, now) - seg->hdr.opts.ts_ecr;
    return ms < 60000 ? HS_MAX(ms * 1000, 1u) : 0;
  }
  return c->b->rtt_at != 0 && seq_geq(seg->hdr.ack, c->b->rtt_seq) ? (uint32_t)HS_MIN(now - c->b->rtt_at, 60000000ull)
                                                                   : 0;
}

void tcp_rtt_on_ack(const struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  c->b->ack_rtt = rtt_of_ack(c, seg, now);
  if (c->b->rtt_at != 0) {
    if (seq_lt(seg->hdr.ack, c->b->rtt_seq))
      return;
    tcp_rtt_sample(e, c, (uint32_t)HS_MIN(now - c->b->rtt_at, 60000000ull), now);
    c->b->rtt_at = 0;
    return;
  }
  if (c->recovery == TCP_OPEN && c->backoff == 0)
    return; /* nothing was being timed: the ACK ends no round trip */
  if (!(c->d->nego & ABI_TCB_TS) || !(seg->hdr.opts.present & TCP_OPT_HAS_TS) || seg->hdr.opts.ts_ecr == 0)
    return;
  uint32_t ms = tcp_open_ts(c->d, now) - seg->hdr.opts.ts_ecr;
  if (ms < 60000)
    tcp_rtt_sample(e, c, ms * 1000, now);
}
