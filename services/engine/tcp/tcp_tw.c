/*
 * TIME_WAIT from a 64-byte record: reads as RFC 9293 3.10.7.4 reads for that state. RST is ignored (RFC 1337 3, F1), a
 * SYN may open a new connection (RFC 9293 3.6.1, RFC 6191) or is challenged (RFC 5961 4.2), a FIN that comes again is
 * acknowledged and restarts 2 MSL, everything outside the window is answered by an ACK, at the rate of challenge ACKs.
 *
 * Called by session/timewait.c, worker's thread; hot path.
 */
#include "tcp_tw.h"

#include "tcp_int.h"

#define ISN_STEP 65538u /* beyond the old connection's last number: a window without scaling and a bit */

void tcp_tw_make(struct tcp_env *e, struct tcp_conn *c, struct abi_tw *t) {
  const struct abi_tcb *d = c->d;
  (void)e;
  t->nego = (uint8_t)((d->nego & ABI_TCB_TS) | d->vrf << ABI_TW_VRF_SHIFT);
  t->rcv_wscale = d->rcv_wscale;
  t->wnd = (uint16_t)HS_MIN(tcp_wnd_current(c) >> d->rcv_wscale, 65535u);
  memcpy(t->local, d->local.ip, 16);
  memcpy(t->remote, d->remote.ip, 16);
  t->lport = be16_get(d->local.port);
  t->rport = be16_get(d->remote.port);
  t->snd_nxt = d->snd_max;
  t->rcv_nxt = c->rcv_nxt;
  t->ts_recent = d->ts_recent;
  t->end = d->time_wait_end;
}

void tcp_tw_count(struct tcp_env *e, int by) {
  tcp_state_count(e, ABI_TCP_TIME_WAIT, by);
}

seq32_t tcp_tw_isn_floor(const struct abi_tw *t) {
  seq32_t floor = t->snd_nxt + ISN_STEP;
  return floor != 0 ? floor : 1;
}

int tcp_tw_may_connect(const struct tcp_env *e, const struct abi_tw *t, usec_t now) {
  usec_t began = t->end - HS_MIN(t->end, e->cfg.time_wait);
  return (t->nego & ABI_TCB_TS) && e->cfg.timestamps && now > began && now - began > 1000000u;
}

static enum tcp_tw_does tw_ack(struct tcp_env *e, const struct abi_tw *t, struct tcp_seg_out *out, usec_t now) {
  memset(out, 0, sizeof *out);
  out->seq = t->snd_nxt;
  out->ack = t->rcv_nxt;
  out->flags = TCP_ACK;
  out->wnd = t->wnd;
  if (t->nego & ABI_TCB_TS) {
    out->opts.present = TCP_OPT_HAS_TS;
    out->opts.ts_val = (uint32_t)(now / 1000) + tcp_open_ts_offset(e, t->local, t->remote, abi_tw_vrf(t),
                                                                   be16_from(t->lport), be16_from(t->rport));
    out->opts.ts_ecr = t->ts_recent;
  }
  TCP_COUNT(e, acks_out);
  TCP_COUNT(e, segs_out);
  return TCP_TW_ACK;
}

/* The same at the rate of challenge ACKs (RFC 5961 7): what brings it about may be an answer to an answer. */
static enum tcp_tw_does tw_challenge(struct tcp_env *e, const struct abi_tw *t, struct tcp_seg_out *out, usec_t now) {
  return tcp_input_may_challenge(e, now) ? tw_ack(e, t, out, now) : TCP_TW_NOTHING;
}

/* RFC 9293 3.10.7.4 first: the same four cases as tcp_input.c has. */
static int tw_in_window(const struct abi_tw *t, const struct tcp_seg_in *seg) {
  uint32_t len = seg->len + ((seg->hdr.flags & TCP_FIN) != 0), wnd = (uint32_t)t->wnd << t->rcv_wscale;
  seq32_t seq = seg->hdr.seq, last = seq + len - 1;
  if (len == 0)
    return seq == t->rcv_nxt || (seq_leq(t->rcv_nxt, seq) && seq_lt(seq, t->rcv_nxt + wnd));
  return wnd != 0 && ((seq_leq(t->rcv_nxt, seq) && seq_lt(seq, t->rcv_nxt + wnd)) ||
                      (seq_leq(t->rcv_nxt, last) && seq_lt(last, t->rcv_nxt + wnd)));
}

/* RFC 6191 2; without timestamps RFC 9293 3.6.1. */
static int tw_syn_is_new(const struct abi_tw *t, const struct tcp_seg_in *seg) {
  const struct tcp_opts *o = &seg->hdr.opts;
  if ((t->nego & ABI_TCB_TS) && (o->present & TCP_OPT_HAS_TS)) {
    int32_t newer = (int32_t)(o->ts_val - t->ts_recent);
    return newer > 0 || (newer == 0 && seq_gt(seg->hdr.seq, t->rcv_nxt));
  }
  return seq_gt(seg->hdr.seq, t->rcv_nxt);
}

enum tcp_tw_does tcp_tw_input(struct tcp_env *e, struct abi_tw *t, const struct tcp_seg_in *seg,
                              struct tcp_seg_out *out, usec_t now) {
  const struct tcp_hdr *h = &seg->hdr;
  int has_ts = (t->nego & ABI_TCB_TS) && (h->opts.present & TCP_OPT_HAS_TS);
  TCP_COUNT(e, segs_in);
  TCP_COUNT_N(e, wire_segs_in, seg->segs);
  TCP_COUNT_N(e, bytes_in, seg->len);
  if (h->flags & TCP_RST) { /* RFC 1337 3 (F1) */
    TCP_COUNT(e, rst_ignored);
    return TCP_TW_NOTHING;
  }
  if (h->flags & TCP_SYN) {
    if (!(h->flags & (TCP_ACK | TCP_FIN)) && tw_syn_is_new(t, seg))
      return TCP_TW_REUSE;
    return tw_challenge(e, t, out, now); /* RFC 5961 4.2 */
  }
  if ((t->nego & ABI_TCB_TS) && !has_ts) { /* RFC 7323 3.2 */
    TCP_COUNT(e, no_timestamp);
    return TCP_TW_NOTHING;
  }
  if (has_ts && (int32_t)(h->opts.ts_val - t->ts_recent) < 0) { /* RFC 7323 5.3 R1 */
    TCP_COUNT(e, paws);
    return tw_challenge(e, t, out, now);
  }
  if (h->flags & TCP_FIN) { /* eighth: the peer did not get our last ACK */
    if (h->seq + seg->len + 1 == t->rcv_nxt) {
      t->end = now + e->cfg.time_wait;
      (void)tw_ack(e, t, out, now);
      return TCP_TW_AGAIN;
    }
    return tw_challenge(e, t, out, now);
  }
  if (!tw_in_window(t, seg) || !(h->flags & TCP_ACK)) {
    TCP_COUNT(e, oow);
    return h->flags & TCP_ACK ? tw_challenge(e, t, out, now) : TCP_TW_NOTHING;
  }
  if (h->ack != t->snd_nxt) { /* fifth; RFC 5961 5.2 */
    TCP_COUNT(e, bad_ack);
    return tw_challenge(e, t, out, now);
  }
  if (has_ts)
    t->ts_recent = h->opts.ts_val;
  return seg->len > 0 ? tw_challenge(e, t, out, now) : TCP_TW_NOTHING;
}
