/*
 * Opening: active (RFC 9293 3.10.1), passive (3.10.7.2), SYN_SENT's segments (3.10.7.3) with simultaneous open, option
 * negotiation (RFC 7323 2.2, 3.2; RFC 2018 2), initial sequence numbers (RFC 6528), timestamp offsets (RFC 7323 5.4).
 *
 * A record is durable from the store of `life`, before the first segment leaves. Until then, whatever was written does
 * not exist.
 */
#include "tcp_int.h"

#include "base/hash.h"
#include "tcp_tfo.h"

#define MS           1000ull
#define SEC          1000000ull
#define MSS_MIN      88u  /* options take up to 40 of it */
#define MSS_DEFAULT4 536u /* RFC 9293 3.7.1 */
#define MSS_DEFAULT6 1220u
#define PARKED_LIFE  (120 * SEC)

static uint64_t open_hash(const uint8_t *key, const uint8_t *local, const uint8_t *remote, uint32_t vrf, be16_t lport,
                          be16_t rport) {
  uint8_t b[16 + 16 + 4 + 4];
  memcpy(b, local, 16);
  memcpy(b + 16, remote, 16);
  memcpy(b + 32, &vrf, 4);
  memcpy(b + 36, &lport.raw, 2);
  memcpy(b + 38, &rport.raw, 2);
  return hash_siphash24(key, b, sizeof b);
}

/* RFC 6528 3: ISN = M + F(tuple, secret), M ticks every 4 µs. After a TIME_WAIT that a new connection takes over it is
 * above the old one's last number (RFC 9293 3.6.1), which the caller has put into d->iss. */
static seq32_t open_isn(const struct tcp_env *e, const struct abi_tcb *d, usec_t now) {
  seq32_t isn = (seq32_t)(now / 4) +
                (seq32_t)open_hash(e->secret, d->local.ip, d->remote.ip, d->vrf, d->local.port, d->remote.port);
  return d->iss != 0 && seq_lt(isn, d->iss) ? d->iss : isn;
}

/** RFC 7323 7.1: the offset of our timestamp clock in a connection. A keyed hash, so that the next connection of the
 * same ports goes on where the last one was, as PAWS and RFC 6191 want it. */
uint32_t tcp_open_ts_offset(const struct tcp_env *e, const uint8_t local[16], const uint8_t remote[16], uint32_t vrf,
                            be16_t lport, be16_t rport) {
  return (uint32_t)open_hash(e->secret + 16, local, remote, vrf, lport, rport);
}

/** Our timestamp clock: ms, with an offset per connection. */
uint32_t tcp_open_ts(const struct abi_tcb *d, usec_t now) {
  return (uint32_t)(now / 1000) + d->ts_offset;
}

static uint32_t open_ip_len(const struct abi_tcb *d) {
  return d->remote.family == 6 ? 40 : 20;
}

/** c->mss from the peer's MSS, the path MTU and TCP_MAXSEG (RFC 9293 3.7.1; RFC 6691: options are taken off later). */
void tcp_open_mss(struct tcp_conn *c) {
  struct abi_tcb *d = c->d;
  uint32_t head = open_ip_len(d) + TCP_HLEN, mss = d->mss;
  if (mss == 0)
    mss = d->remote.family == 6 ? MSS_DEFAULT6 : MSS_DEFAULT4;
  mss = HS_MIN(mss, d->pmtu > head ? d->pmtu - head : 0);
  if (d->opt.mss != 0)
    mss = HS_MIN(mss, d->opt.mss);
  c->mss = HS_CLAMP(mss, MSS_MIN, 65535u);
}

/** A fresh soft half for `d`. */
void tcp_open_soft(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, usec_t now) {
  memset(c, 0, sizeof *c);
  c->d = d;
  c->cc = tcp_cc_list[d->cc < tcp_cc_count ? d->cc : 0];
  c->ordered = UINT64_MAX;
  c->rcv_mss = MSS_DEFAULT4;
  c->quickack = TCP_QUICKACKS;
  c->reo_mult = 1;
  c->last_rx = now;
  c->snd_una = c->snd_nxt = c->snd_sml = c->recover = d->iss;
  tcp_busy_wake(e, c, now);
  c->ooo_none = (uint8_t)tcp_ooo_empty(c);
  c->b->ecn_until = d->iss;
  tcp_rtt_init(e, c);
  tcp_rbuf_init(e, c);
  tcp_pmtu_init(e, c, d->life != ABI_TCB_USED, now);
  tcp_open_mss(c);
  c->cc->init(c, e->cfg.init_cwnd_segs);
}

/* What both kinds of open write into the durable half. */
static void open_record(struct tcp_env *e, struct abi_tcb *d, uint32_t mtu, usec_t now) {
  uint32_t head = open_ip_len(d) + TCP_HLEN;
  d->state = ABI_TCP_CLOSED;
  d->iss = open_isn(e, d, now);
  d->ts_offset = tcp_open_ts_offset(e, d->local.ip, d->remote.ip, d->vrf, d->local.port, d->remote.port);
  d->pmtu = mtu;
  d->rcv_mss = (uint16_t)HS_CLAMP(mtu > head ? mtu - head : 0, MSS_MIN, 65535u);
  if (d->opt.mss != 0)
    d->rcv_mss = (uint16_t)HS_CLAMP(d->opt.mss, MSS_MIN, (uint32_t)d->rcv_mss);
  d->rcv_wscale = tcp_wnd_scale_for(tcp_rbuf_greatest(e, d));
  d->nego = (uint8_t)((e->cfg.sack ? ABI_TCB_SACK : 0) | (e->cfg.timestamps ? ABI_TCB_TS : 0) |
                      (e->cfg.wscale ? ABI_TCB_WSCALE : 0) | (e->cfg.ecn == TCP_ECN_ON ? ABI_TCB_ECN : 0));
  if ((d->opt.flags & ABI_OPT_FASTOPEN) && (e->cfg.fastopen & TCP_TFO_CLIENT))
    d->nego |= ABI_TCB_TFO;
  d->cc = d->opt.cc != 0 && d->opt.cc <= tcp_cc_count ? (uint8_t)(d->opt.cc - 1)
          : e->cfg.cc < tcp_cc_count                  ? e->cfg.cc
                                                      : 0;
  d->snd_max = d->snd_up = d->snd_wl2 = d->iss;
  d->created_at = now;
}

/* The peer's SYN or SYN-ACK: what it offers and we offered is agreed on. Done again after a crash it changes nothing:
 * nego only loses bits. */
static void open_agree(struct abi_tcb *d, const struct tcp_seg_in *seg, usec_t now) {
  const struct tcp_opts *o = &seg->hdr.opts;
  uint8_t keep = (uint8_t)(ABI_TCB_PASSIVE | ABI_TCB_TFO | (tcp_ecn_offered(seg) ? ABI_TCB_ECN : 0));
  d->irs = seg->hdr.seq;
  d->mss = o->present & TCP_OPT_HAS_MSS ? o->mss : 0;
  d->rcv_up = d->last_ack_sent = seg->hdr.seq + 1;
  if (o->present & TCP_OPT_HAS_SACK_OK)
    keep |= ABI_TCB_SACK;
  if (o->present & TCP_OPT_HAS_TS) {
    keep |= ABI_TCB_TS;
    d->ts_recent = o->ts_val;
    d->ts_recent_at = now;
    d->ts_recent_valid = 1;
  }
  if (o->present & TCP_OPT_HAS_WSCALE) {
    keep |= ABI_TCB_WSCALE;
    d->snd_wscale = (uint8_t)HS_MIN((uint32_t)o->wscale, TCP_WSCALE_MAX); /* RFC 7323 2.3 */
  }
  d->nego &= keep;
  if (!(d->nego & ABI_TCB_WSCALE))
    d->snd_wscale = d->rcv_wscale = 0;
  /* RFC 7323 2.2: the window in a SYN is never scaled */
  d->snd_wnd = d->max_wnd = seg->hdr.wnd;
  d->snd_wl1 = seg->hdr.seq;
}

int tcp_connect(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, uint32_t mtu, usec_t now) {
  open_record(e, d, mtu, now);
  tcp_open_soft(e, c, d, now);
  tcp_state_set(e, c, TCP_FSM_CONNECT);
  FAULT_POINT("tcp.connect.filled"); /* prefix: life is not stored, the record is free */
  __atomic_store_n(&d->life, ABI_TCB_USED, __ATOMIC_RELEASE);
  FAULT_POINT("tcp.connect.durable"); /* prefix: SYN_SENT, nothing sent; adoption sends the SYN */
  TCP_COUNT(e, active_opens);
  int r = tcp_output_syn(e, c, now);
  tcp_done(e, c);
  return r;
}

/** What a SYN makes of a record: all but the soft half, the state and `life`. 0, or -EINVAL. */
int tcp_open_passive(struct tcp_env *e, struct abi_tcb *d, const struct tcp_seg_in *seg, uint32_t mtu, usec_t now) {
  /* RFC 9293 3.10.7.2: RST is ignored, ACK is answered by RST, only then SYN counts */
  if ((seg->hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
    return -EINVAL;
  open_record(e, d, mtu, now);
  d->nego |= (uint8_t)(ABI_TCB_PASSIVE | (e->cfg.ecn != TCP_ECN_OFF ? ABI_TCB_ECN : 0));
  open_agree(d, seg, now);
  return 0;
}

int tcp_passive_open(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                     uint32_t mtu, usec_t now) {
  return tcp_passive_fast(e, c, d, seg, mtu, 0, now);
}

int tcp_passive_fast(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                     uint32_t mtu, unsigned tfo, usec_t now) {
  if (tcp_open_passive(e, d, seg, mtu, now) < 0)
    return -EINVAL;
  if (tfo & TCP_TFO_DATA)
    d->nego |= ABI_TCB_TFO; /* before there are bytes: adoption believes an rx tail in SYN_RECEIVED only so */
  tcp_open_soft(e, c, d, now);
  c->rcv_nxt = d->irs + 1;
  d->rcv_adv = c->rcv_nxt + tcp_wnd_syn(e, c);
  tcp_state_set(e, c, TCP_FSM_SYN);
  FAULT_POINT("tcp.passive.filled"); /* prefix: life is not stored, the record is free */
  __atomic_store_n(&d->life, ABI_TCB_USED, __ATOMIC_RELEASE);
  FAULT_POINT("tcp.passive.durable"); /* prefix: SYN_RECEIVED, nothing sent; adoption sends the SYN-ACK */
  TCP_COUNT(e, passive_opens);
  c->tfo = (uint8_t)tfo;
  if (tfo & TCP_TFO_DATA)
    tcp_tfo_accept(e, c, seg);
  (void)tcp_output_syn(e, c, now); /* its loss is repaired by its timer */
  tcp_done(e, c);
  return 0;
}

/** ESTABLISHED was entered: what starts now. */
void tcp_open_established(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  TCP_COUNT(e, established);
  TCP_COUNT_N(e, ecn_agreed, (c->d->nego & ABI_TCB_ECN) != 0);
  c->snd_una = c->d->iss + 1;
  c->snd_nxt = seq_gt(c->snd_nxt, c->snd_una) ? c->snd_nxt : c->snd_una;
  c->snd_sml = c->recover = c->snd_una;
  c->recovery = TCP_OPEN;
  c->ack_now = 0;
  if (c->b->rtt_at != 0) {
    tcp_rtt_sample(e, c, (uint32_t)HS_MIN(now - c->b->rtt_at, 60 * SEC), now);
    c->b->rtt_at = 0;
  } else if (c->backoff > 0) {
    c->rto = (uint32_t)HS_MIN(3 * SEC, e->cfg.rto_max); /* RFC 6298 (5.7) */
  }
  c->backoff = 0;
  c->soft_error = 0;
  c->b->stuck_at = 0;
  tcp_timer_stop(c, TCP_T_RTO);
  tcp_timer_stop(c, TCP_T_LIFE);
  if (c->snd_nxt != c->snd_una) /* Fast Open: bytes left before the handshake was complete (RFC 7413 4.2.2) */
    tcp_timer_rto_restart(e, c, now);
  tcp_open_mss(c);
  c->cc->init(c, e->cfg.init_cwnd_segs);
  tcp_timer_keep_restart(e, c, now);
  if (!(c->d->nego & ABI_TCB_PASSIVE))
    e->ops->event(e->ctx, c, TCP_EV_CONNECTED);
  tcp_close_deferred(e, c, now);
}

/* What the session layer said to a finished handshake that it did not take. */
static void open_not_taken(struct tcp_env *e, struct tcp_conn *c, int why, usec_t now) {
  struct abi_tcb *d = c->d;
  if (why == -EAGAIN) /* as Linux: the peer believes itself connected, and finds out by its data or our SYN-ACK */
    return;
  if (why < 0) {
    tcp_output_rst(e, c, now);
    tcp_close_fail(e, c, 0);
    return;
  }
  if (d->accept != ABI_ACCEPT_PARKED)
    __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_PARKED, __ATOMIC_RELEASE);
  if (c->b->due[TCP_T_LIFE] == 0) {
    TCP_COUNT(e, parked);
    tcp_timer_stop(c, TCP_T_RTO);
    tcp_timer_arm(c, TCP_T_LIFE, now + PARKED_LIFE);
  }
}

/** SYN_RECEIVED got its ACK. 1 = ESTABLISHED; 0 = parked, since nobody takes offers now, or not taken at all.
 * Stores: accept = OFFERED, then the state. Prefix OFFERED in SYN_RECEIVED: the session exists; adoption goes on. */
int tcp_open_complete(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct abi_tcb *d = c->d;
  if (d->nego & ABI_TCB_PASSIVE) {
    int offered = d->accept == ABI_ACCEPT_OFFERED || d->accept == ABI_ACCEPT_TAKEN ? 1 : e->ops->offer(e->ctx, c);
    if (offered != 1) {
      open_not_taken(e, c, offered, now);
      return 0;
    }
    FAULT_POINT("tcp.open.offered");
    if (d->accept != ABI_ACCEPT_TAKEN)
      __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_OFFERED, __ATOMIC_RELEASE);
    FAULT_POINT("tcp.open.accept_stored");
  }
  tcp_state_set(e, c, TCP_FSM_ESTABLISH);
  FAULT_POINT("tcp.open.established");
  tcp_open_established(e, c, now);
  return 1;
}

void tcp_path_back(struct tcp_env *e, struct tcp_conn *c) {
  uint32_t state = tcp_state(c);
  (void)e;
  if (state == ABI_TCP_SYN_SENT || (state == ABI_TCP_SYN_RECEIVED && c->d->accept != ABI_ACCEPT_PARKED))
    c->snd_nxt = c->d->iss; /* the next tcp_output sends the SYN or SYN-ACK again */
}

void tcp_accept_ready(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (tcp_state(c) != ABI_TCP_SYN_RECEIVED || c->d->accept != ABI_ACCEPT_PARKED)
    return;
  tcp_busy_need(e, c, now);
  if (tcp_open_complete(e, c, now) && tcp_state(c) != ABI_TCP_CLOSED)
    tcp_output_ack(e, c, now); /* the peer's data was dropped meanwhile: show that we are here */
  tcp_done(e, c);
}

static void open_refuse(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg) {
  struct tcp_seg_out out;
  if (tcp_reply_closed(seg, &out)) {
    TCP_COUNT(e, rst_out);
    (void)e->ops->send(e->ctx, c, &out);
  }
}

/** RFC 9293 3.10.7.3: a segment in SYN_SENT. */
void tcp_open_syn_sent(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  struct abi_tcb *d = c->d;
  const struct tcp_hdr *h = &seg->hdr;
  int acked = 0;
  if (h->flags & TCP_ACK) { /* first */
    if (seq_leq(h->ack, d->iss) || seq_gt(h->ack, d->snd_max)) {
      TCP_COUNT(e, bad_ack);
      open_refuse(e, c, seg);
      return;
    }
    acked = 1;
  }
  if (h->flags & TCP_RST) { /* second; RFC 5961 3.2: only with a good ACK */
    if (acked) {
      TCP_COUNT(e, rst_in);
      tcp_close_fail(e, c, ECONNREFUSED);
    }
    return;
  }
  if (!(h->flags & TCP_SYN)) /* fifth */
    return;
  open_agree(d, seg, now);            /* fourth */
  FAULT_POINT("tcp.syn_sent.agreed"); /* prefix: still SYN_SENT; the SYN is sent again and this is done again */
  c->rcv_nxt = d->irs + 1;
  d->rcv_adv = c->rcv_nxt + tcp_wnd_syn(e, c);
  if (!acked) { /* simultaneous open */
    tcp_state_set(e, c, TCP_FSM_SYN);
    FAULT_POINT("tcp.syn_sent.crossed");
    (void)tcp_output_syn(e, c, now);
    return;
  }
  d->snd_wl2 = h->ack;
  FAULT_POINT("tcp.syn_sent.edges");
  tcp_state_set(e, c, TCP_FSM_ESTABLISH);
  FAULT_POINT("tcp.syn_sent.established");
  tcp_tfo_learn(e, c, seg);
  if (seq_gt(h->ack, d->iss + 1))
    c->tfo |= TCP_TFO_TAKEN;
  c->snd_nxt = h->ack; /* data of our SYN that was not taken goes out again, now (RFC 7413 4.2.1) */
  tcp_open_established(e, c, now);
  if (tcp_state(c) == ABI_TCP_CLOSED)
    return;
  if (seq_gt(h->ack, c->snd_una))
    (void)tcp_ack(e, c, seg, now);
  c->ack_now = 1;
  if (seg->len > 0 || (h->flags & TCP_FIN))
    tcp_recv(e, c, seg, now);
  if (tcp_state(c) != ABI_TCP_CLOSED && c->ack_now)
    (void)tcp_output_run(e, c, now); /* the ACK, with data if there is some */
}
