/*
 * Sending: data, FIN, pure ACKs, SYNs, probes, RST. What is due is decided by others (tcp_loss.c, tcp_recv.c,
 * tcp_timer.c) and left in flags; tcp_output_run turns it into segments of up to ops->gso_max, which devices or nicio
 * cut. An ACK that tcp_input owes waits in c->ack_now for the tcp_output at the end of the burst, so that one frame
 * acknowledges the burst and data takes it along.
 *
 * d->snd_max is stored before ops->send: a successor never thinks that less was sent than was. RFC 9293 3.8, RFC 5681.
 */
#include "tcp_int.h"

#define DEFER_WINDOW_MIN 20u       /* segments: of a small window a third is too much to leave unused */
#define CORK_MAX         200000ull /* µs: a corked partial segment goes out then */

static uint32_t output_opt_len(const struct tcp_opts *o) {
  int n = tcp_hdr_size(o);
  BUG_ON(n < (int)TCP_HLEN);
  return (uint32_t)n - TCP_HLEN;
}

static void output_fill(struct tcp_env *e, struct tcp_conn *c, struct tcp_seg_out *out, seq32_t seq, uint16_t flags,
                        usec_t now) {
  struct abi_tcb *d = c->d;
  memset(out, 0, sizeof *out);
  out->seq = seq;
  out->ack = c->rcv_nxt;
  out->flags = flags;
  out->wnd = tcp_wnd_select(e, c, now);
  out->tos = d->opt.tos;
  if (d->nego & ABI_TCB_TS) { /* RFC 7323 3.2: in every segment once agreed; RST: SHOULD */
    out->opts.present |= TCP_OPT_HAS_TS;
    out->opts.ts_val = tcp_open_ts(d, now);
    out->opts.ts_ecr = d->ts_recent;
  }
  tcp_ecn_fill(c, out);
  if (!(flags & TCP_RST)) {
    tcp_ooo_options(c, &out->opts);
    if (HS_UNLIKELY(c->urgent & TCP_URGENT_OUT))
      tcp_urgent_out(c, out);
  }
}

static void output_promise_max(struct abi_tcb *d, seq32_t end) {
  if (seq_gt(end, d->snd_max)) {
    d->snd_max = end;
    FAULT_POINT("tcp.output.numbered"); /* prefix: numbers that nobody has seen count as sent and lost */
  }
}

static int output_send(struct tcp_env *e, struct tcp_conn *c, struct tcp_seg_out *out, usec_t now) {
  int r = e->ops->send(e->ctx, c, out);
  FAULT_POINT("tcp.output.sent");
  if (r == -ENOBUFS) {
    TCP_COUNT(e, send_blocked);
    c->blocked = 1;
    return r;
  }
  if (r < 0) { /* counts as sent and lost: the timers repeat it */
    TCP_COUNT(e, send_failed);
    c->soft_error = (uint32_t)-r;
  }
  TCP_COUNT(e, segs_out);
  TCP_COUNT_N(e, bytes_out, out->len);
  if (out->flags & TCP_ACK) {
    c->d->last_ack_sent = out->ack;
    c->ack_now = 0;
    tcp_timer_stop(c, TCP_T_DELACK);
  }
  if (out->len == 0) {
    TCP_COUNT(e, acks_out);
  } else {
    c->last_tx = now;
  }
  return 0;
}

/* The number of a segment without data: snd_max, unless the peer's window shrank below it; beyond the window's edge an
 * ACK would be refused (RFC 9293 3.10.7.4 first). An edge that is lower by less than a unit of the scale has not moved
 * (RFC 7323 2.4): the peer may have all that is out, and refuses an ACK with a number below that. When both peers are
 * so, neither ever learns what the other has. */
static seq32_t output_ack_seq(const struct tcp_conn *c) {
  seq32_t edge = c->snd_una + c->d->snd_wnd, max = c->d->snd_max;
  return seq_gt(max, edge) && (max - edge) >> c->d->snd_wscale != 0 ? edge : max;
}

/** A segment without data, now. Without a frame it stays due. */
void tcp_output_ack(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct tcp_seg_out out;
  output_fill(e, c, &out, output_ack_seq(c), TCP_ACK, now);
  if (output_send(e, c, &out, now) == -ENOBUFS)
    c->ack_now = 1;
}

/** Keep-alive and zero-window probe: an old sequence number, which the peer must answer by an ACK with its window
 * (RFC 9293 3.8.4). deviates: RFC 9293 3.8.6.1 sends one octet of new data; the answer is the same, and a probe without
 * data needs no retransmission. */
void tcp_output_probe(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct tcp_seg_out out;
  if (HS_UNLIKELY(
          tcp_urgent_pending(c))) { /* a number that a closed window takes: the pointer counts (RFC 9293 3.8.5) */
    output_fill(e, c, &out, c->snd_una, TCP_ACK, now);
    (void)output_send(e, c, &out, now);
  }
  output_fill(e, c, &out, c->snd_una - 1, TCP_ACK, now);
  (void)output_send(e, c, &out, now);
}

void tcp_output_rst(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct tcp_seg_out out;
  output_fill(e, c, &out, output_ack_seq(c), TCP_RST | TCP_ACK, now);
  TCP_COUNT(e, rst_out);
  (void)output_send(e, c, &out, now);
}

/** Options of a SYN or SYN-ACK, but for the timestamp. */
void tcp_output_syn_opts(const struct abi_tcb *d, struct tcp_opts *o) {
  o->present = TCP_OPT_HAS_MSS;
  o->mss = d->rcv_mss;
  if (d->nego & ABI_TCB_WSCALE) {
    o->present |= TCP_OPT_HAS_WSCALE;
    o->wscale = d->rcv_wscale;
  }
  if (d->nego & ABI_TCB_SACK)
    o->present |= TCP_OPT_HAS_SACK_OK;
}

/** SYN or SYN-ACK, first or again; arms its timer. 0 or -errno of ops->send. */
int tcp_output_syn(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct abi_tcb *d = c->d;
  struct tcp_seg_out out = {.seq = d->iss, .flags = TCP_SYN, .tos = (uint8_t)(d->opt.tos & ~3u)};
  int passive = tcp_state(c) == ABI_TCP_SYN_RECEIVED;
  out.wnd = tcp_wnd_syn(e, c);
  if (passive) {
    out.flags |= TCP_ACK;
    out.ack = c->rcv_nxt;
  }
  tcp_output_syn_opts(d, &out.opts);
  if (d->nego & ABI_TCB_TS) {
    out.opts.present |= TCP_OPT_HAS_TS;
    out.opts.ts_val = tcp_open_ts(d, now);
    out.opts.ts_ecr = passive ? d->ts_recent : 0;
  }
  int again = d->snd_max != d->iss;
  if (passive)
    tcp_tfo_syn_ack(e, c, &out.opts);
  else
    tcp_tfo_syn(e, c, &out, again, now);
  out.flags |= (uint16_t)tcp_ecn_syn_flags(e, c, passive, again);
  output_promise_max(d, d->iss + 1 + out.len);
  tcp_timer_syn_arm(e, c, now);
  c->b->rtt_at = again ? 0 : now; /* Karn */
  c->b->rtt_seq = d->iss + 1;
  c->snd_nxt = d->iss + 1 + out.len;
  int r = e->ops->send(e->ctx, c, &out);
  FAULT_POINT("tcp.output.syn_sent");
  TCP_COUNT(e, segs_out);
  if (r < 0) {
    TCP_COUNT(e, send_failed);
    c->soft_error = r == -ENOBUFS ? 0 : (uint32_t)-r;
    if (r == -ENOBUFS) /* no frame left: due as soon as there is one, not an RTO later */
      c->snd_nxt = d->iss;
    return r;
  }
  c->ack_now = 0;
  return 0;
}

/* --- data --- */

struct output_plan {
  seq32_t end;      /* behind the last byte that may be sent */
  uint32_t payload; /* bytes per wire segment */
  uint32_t burst;   /* bytes per segment handed down, a multiple of payload */
  uint32_t rate;    /* bytes per second to pace at, 0 = not paced */
  int fin;          /* our FIN follows at `end` */
  int whole;        /* the segment is a probe of the path's MTU: not to be cut */
  usec_t now;
};

static void output_plan(struct tcp_env *e, struct tcp_conn *c, struct output_plan *p, usec_t now) {
  struct abi_tcb *d = c->d;
  p->payload = tcp_mss_payload(c);
  uint32_t gso = e->ops->gso_max(e->ctx, c);
  p->rate = tcp_pace_rate(e, c);
  if (p->rate != 0)
    gso = HS_MIN(gso, tcp_pace_burst(p->rate, p->payload));
  p->burst = HS_MAX(gso - gso % p->payload, p->payload);
  p->fin = tcp_close_fin_queued(c);
  p->end = c->snd_una + e->ops->tx_used(e->ctx, c);
  if (HS_UNLIKELY(c->urgent & TCP_URGENT_OUT) && tcp_urgent_pending(c)) {
    /* each wire segment has a pointer of its own: none is cut, whatever options come along */
    p->payload = p->burst = HS_MIN(p->payload, c->mss - TCP_OPTS_MAX);
  }
  if (d->fin & ABI_TCB_FIN_SENT) /* its number is fixed: what an app writes behind it is never sent */
    p->end = seq_gt(p->end, c->fin_seq) ? c->fin_seq : p->end;
  p->whole = 0;
  p->now = now;
}

/* Number our FIN: snd_max, then the bit. Prefix: snd_max alone, in a state that has a FIN queued: not yet sent. */
static void output_number_fin(struct tcp_conn *c, seq32_t seq) {
  if (c->d->fin & ABI_TCB_FIN_SENT)
    return;
  c->fin_seq = seq;
  output_promise_max(c->d, seq + 1);
  FAULT_POINT("tcp.fin.numbered");
  __atomic_store_n(&c->d->fin, (uint8_t)(c->d->fin | ABI_TCB_FIN_SENT), __ATOMIC_RELEASE);
  FAULT_POINT("tcp.fin.sent");
}

/* One segment of `len` bytes from seq, with our FIN if it is the last. 0 or -ENOBUFS. */
static int output_data(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p, seq32_t seq, uint32_t len) {
  struct tcp_seg_out out;
  seq32_t end = seq + len;
  int rexmit = seq_lt(seq, c->d->snd_max), was_owed = c->ack_now || c->b->due[TCP_T_DELACK] != 0;
  output_fill(e, c, &out, seq, TCP_ACK, p->now);
  out.off = seq - c->snd_una;
  out.len = len;
  uint32_t room = c->mss - output_opt_len(&out.opts);
  out.gso_size = len > room && !p->whole ? (uint16_t)room : 0;
  out.rexmit = (uint8_t)rexmit;
  if (!rexmit && len > 0)
    tcp_ecn_data(c, &out);
  if (end == p->end && len > 0)
    out.flags |= TCP_PSH;
  if (end == p->end && p->fin) {
    output_number_fin(c, end);
    out.flags |= TCP_FIN;
    end++;
  }
  output_promise_max(c->d, end);
  if (output_send(e, c, &out, p->now) == -ENOBUFS)
    return -ENOBUFS;
  if (out.flags & TCP_CWR)
    c->ecn_cwr = 0;
  tcp_pace_sent(c, p->rate, len, p->now);
  tcp_prr_sent(c, len);
  tcp_sent_add(e, c, seq, end, rexmit, p->now);
  if (rexmit) {
    TCP_COUNT(e, rexmit_segs);
    TCP_COUNT_N(e, rexmit_bytes, len);
    c->retrans_total++;
    c->b->undo_bytes += len;
    if (c->b->rtt_at != 0 && seq_lt(seq, c->b->rtt_seq))
      c->b->rtt_at = 0; /* Karn */
  } else {
    if (c->b->rtt_at == 0) {
      c->b->rtt_seq = end;
      c->b->rtt_at = p->now;
    }
    if (was_owed && len > 0) { /* the answer took the ACK along: request and response */
      c->pingpong = 1;
      c->quickack = 0;
    }
  }
  if (len % p->payload != 0)
    c->snd_sml = end;
  return 0;
}

/* Retransmit what fast recovery holds for lost. 0, or -ENOBUFS. */
static int output_holes(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p) {
  while (c->recovery != TCP_OPEN) {
    struct tcp_sack h = {c->snd_una, c->snd_una + p->payload};
    if (c->d->nego & ABI_TCB_SACK) {
      if (c->b->lost == 0 || !tcp_sent_lost_next(c, c->snd_una, &h))
        break;
    } else if (c->force != TCP_FORCE_ONE || c->recovery == TCP_LOSS) {
      break;
    }
    if (seq_gt(h.r, p->end))
      h.r = p->end;
    uint32_t len = seq_gt(h.r, h.l) ? HS_MIN(h.r - h.l, p->burst) : 0;
    if (c->force == TCP_FORCE_ONE) {
      len = HS_MIN(len, p->payload);
    } else {
      uint32_t pipe = tcp_loss_pipe(c), room = c->cwnd > pipe ? c->cwnd - pipe : 0;
      if (room < len)
        len = room - room % p->payload;
      if (len == 0)
        break;
    }
    if (len == 0 && !(p->fin && h.l == p->end))
      break;
    if (c->force == TCP_FORCE_NONE && tcp_pace_wait(c, p->rate, p->now))
      break;
    if (output_data(e, c, p, h.l, len) < 0)
      return -ENOBUFS;
    c->force = TCP_FORCE_NONE;
    if (h.l == c->snd_una) /* its answer needs a round trip from now on, as RFC 6298 (5.1) means it */
      tcp_timer_rto_restart(e, c, p->now);
    c->b->lost = c->d->nego & ABI_TCB_SACK ? tcp_sent_lost(c) : 0;
  }
  return 0;
}

static int output_small_ok(const struct tcp_env *e, const struct tcp_conn *c, const struct output_plan *p) {
  if (p->fin || c->force != TCP_FORCE_NONE || seq_lt(c->snd_nxt, c->d->snd_max))
    return 1;
  if (c->urgent & TCP_URGENT_OUT) /* as Linux: neither Nagle nor a cork holds it back */
    return 1;
  if (c->d->opt.flags & ABI_OPT_CORK)
    return 0;
  if (e->cfg.nodelay || (c->d->opt.flags & ABI_OPT_NODELAY))
    return 1;
  /* RFC 9293 3.7.4, in Minshall's form: only an unacknowledged small segment holds back the next small one */
  return seq_leq(c->snd_sml, c->snd_una);
}

/* Room for a small burst now would be room for a whole one soon: wait for the next ACK, unless a third of what may be
 * out is free. Never with so little out that the peer might delay its ACK. */
static int output_defer(const struct tcp_conn *c, const struct output_plan *p, uint32_t len, uint32_t pipe) {
  if (c->recovery != TCP_OPEN || c->force != TCP_FORCE_NONE || c->cwnd < DEFER_WINDOW_MIN * p->payload ||
      pipe <= 2 * p->payload)
    return 0;
  return len < p->burst && len < HS_MIN(c->cwnd, c->d->snd_wnd) / 3;
}

/* How many bytes may go out at snd_nxt now; 0: none. */
static uint32_t output_new_len(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p, uint32_t left) {
  seq32_t edge = c->snd_una + c->d->snd_wnd;
  uint32_t wnd = seq_gt(edge, c->snd_nxt) ? edge - c->snd_nxt : 0;
  uint32_t pipe = tcp_loss_pipe(c), room = c->cwnd > pipe ? c->cwnd - pipe : 0;
  if (c->force == TCP_FORCE_ONE) {
    wnd = HS_MAX(wnd, seq_lt(c->snd_nxt, c->d->snd_max) ? p->payload : 0);
    room = HS_MAX(room, p->payload);
  }
  uint32_t len = HS_MIN(HS_MIN(left, wnd), p->burst);
  if (HS_MIN(len, room) < left && output_defer(c, p, HS_MIN(len, room), pipe)) {
    c->limited |= room < len;
    return 0;
  }
  if (room < len) {
    c->limited = 1;
    len = pipe == 0 ? HS_MIN(len, HS_MAX(room, p->payload)) : room;
    if (len < p->payload && pipe > 0)
      return 0;
    if (len > p->payload)
      return len - len % p->payload;
  }
  uint32_t tail = len % p->payload;
  if (tail == 0)
    return len;
  if (len == left) /* the end of what the app wrote */
    return output_small_ok(e, c, p) ? len : len - tail;
  if (len > tail)
    return len - tail;
  /* the window cuts it: RFC 9293 3.8.6.2.1 */
  return c->force != TCP_FORCE_NONE || len >= c->d->max_wnd / 2 ? len : 0;
}

/* New data, or, after an RTO, everything again but what was SACKed. 0, or -ENOBUFS. */
static int output_new(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p) {
  for (;;) {
    uint32_t left = seq_gt(p->end, c->snd_nxt) ? p->end - c->snd_nxt : 0;
    if (c->b->board.n > 0 && seq_lt(c->snd_nxt, c->d->snd_max)) {
      seq32_t at = tcp_sack_skip(c, c->snd_nxt, &left);
      if (at != c->snd_nxt) {
        c->snd_nxt = at;
        continue;
      }
    }
    uint32_t len = left > 0 ? output_new_len(e, c, p, left) : 0;
    int fin = p->fin && c->snd_nxt + len == p->end; /* snd_nxt is behind it once it is out */
    if (len == 0 && !fin)
      return 0;
    if (len > 0 && c->force == TCP_FORCE_NONE && tcp_pace_wait(c, p->rate, p->now))
      return 0;
    if (output_data(e, c, p, c->snd_nxt, len) < 0)
      return -ENOBUFS;
    c->force = TCP_FORCE_NONE;
    c->snd_nxt += len + (uint32_t)fin;
    if (fin)
      return 0;
  }
}

/* A segment that is larger than the path is known to take (RFC 4821). 0, or -ENOBUFS. */
static int output_probe(struct tcp_env *e, struct tcp_conn *c, struct output_plan *p) {
  uint32_t left = seq_gt(p->end, c->snd_nxt) ? p->end - c->snd_nxt : 0, len = tcp_pmtu_probe(e, c, left, p->now);
  if (len == 0)
    return 0;
  p->whole = 1;
  int r = output_data(e, c, p, c->snd_nxt, len);
  p->whole = 0;
  if (r < 0)
    tcp_pmtu_unsent(c);
  else
    c->snd_nxt += len;
  output_plan(e, c, p, p->now); /* the search may have ended by a larger MTU */
  return r;
}

static void output_timers(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p, int sent) {
  if (c->snd_nxt != c->snd_una) {
    tcp_timer_stop(c, TCP_T_PERSIST);
    if (c->b->due[TCP_T_RTO] == 0)
      tcp_timer_rto_restart(e, c, p->now);
    if (sent || c->b->due[TCP_T_REO] == 0) /* RFC 8985 7.2: from the last transmission on, not from the last look */
      tcp_loss_tail_arm(c, p->now);
    return;
  }
  int waiting = seq_gt(p->end, c->snd_nxt) || (p->fin && !(c->d->fin & ABI_TCB_FIN_ACKED));
  if (!waiting || c->blocked || c->b->due[TCP_T_PACE] != 0) {
    if (!waiting)
      tcp_timer_stop(c, TCP_T_PERSIST);
    return;
  }
  tcp_timer_stop(c, TCP_T_RTO);
  if (c->b->due[TCP_T_PERSIST] == 0) {
    usec_t wait = tcp_timer_backed_off(e, c, c->persists);
    if ((c->d->opt.flags & ABI_OPT_CORK) && c->d->snd_wnd >= p->payload)
      wait = CORK_MAX;
    tcp_timer_arm(c, TCP_T_PERSIST, p->now + wait);
  }
}

/** The tail has been out for long and nothing came back: one segment, new or the last one again, makes the peer speak
 * (RFC 8985 7.3). */
void tcp_output_tail(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  struct output_plan p;
  seq32_t max = c->d->snd_max;
  c->force = TCP_FORCE_ONE;
  (void)tcp_output_run(e, c, now);
  if (c->d->snd_max != max || c->blocked || c->snd_nxt != max)
    return;
  output_plan(e, c, &p, now);
  seq32_t end = seq_gt(max, p.end) ? p.end : max;
  uint32_t len = HS_MIN(end - c->snd_una, p.payload);
  if (len > 0 || p.fin)
    (void)output_data(e, c, &p, end - len, len);
}

/* The app was the limit (delivery-rate estimation 3.4): what is measured until this is delivered is no more than a
 * lower bound. Not when the send buffer was: the app waits for room, and has written nothing since only because it has
 * just got some. That is a limit of this path, and STARTUP would never end if its rounds did not count (BBR 4.3.2.2).
 */
static void output_app_limited(struct tcp_env *e, struct tcp_conn *c, const struct output_plan *p) {
  uint32_t pipe = tcp_loss_pipe(c), room = tcp_send_buffer(e, c, 0);
  if (p->end - c->snd_una >= room - room / 4)
    c->b->full_end = p->end;
  if (p->end == c->b->full_end || c->limited || c->b->due[TCP_T_PACE] != 0 || pipe >= c->cwnd ||
      seq_gt(p->end, c->snd_nxt + p->payload) || c->b->lost > 0)
    return;
  c->b->app_limited = HS_MAX(c->b->delivered + pipe, 1u);
}

static int output_may_send(uint32_t state) {
  return state == ABI_TCP_ESTABLISHED || state == ABI_TCP_CLOSE_WAIT || state == ABI_TCP_FIN_WAIT_1 ||
         state == ABI_TCP_CLOSING || state == ABI_TCP_LAST_ACK;
}

int tcp_output_run(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t state = tcp_state(c);
  int fast = 0; /* an answer before the handshake is complete (RFC 7413 4.2.2) */
  c->blocked = 0;
  if (state == ABI_TCP_SYN_SENT || state == ABI_TCP_SYN_RECEIVED) {
    if (c->snd_nxt == c->d->iss && c->d->accept != ABI_ACCEPT_PARKED)
      c->blocked = tcp_output_syn(e, c, now) == -ENOBUFS;
    if (c->blocked || !tcp_tfo_may_send(e, c))
      return c->blocked;
    fast = 1;
  }
  if ((output_may_send(state) || fast) && !(c->d->fin & ABI_TCB_FIN_ACKED)) {
    struct output_plan p;
    output_plan(e, c, &p, now);
    if (e->cfg.idle_restart && c->snd_nxt == c->snd_una && c->recovery == TCP_OPEN && c->last_tx != 0 &&
        now - c->last_tx > c->rto)
      c->cc->idle(c, e->cfg.init_cwnd_segs);
    seq32_t before = c->snd_nxt;
    c->limited = 0;
    if (HS_UNLIKELY(c->mtu_at != 0))
      (void)output_probe(e, c, &p);
    if (output_holes(e, c, &p) == 0 && output_new(e, c, &p) == 0)
      output_app_limited(e, c, &p);
    if (!c->blocked)
      c->force = TCP_FORCE_NONE;
    output_timers(e, c, &p, c->snd_nxt != before);
    if (fast) /* the SYN-ACK's timer sees to it all */
      tcp_timer_stop(c, TCP_T_REO);
  }
  if (c->ack_now && !c->blocked && tcp_synchronized(state))
    tcp_output_ack(e, c, now);
  return c->blocked;
}

int tcp_output(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (HS_UNLIKELY(c->b == NULL)) {
    if (tcp_state(c) == ABI_TCP_CLOSED || e->ops->tx_used(e->ctx, c) == 0)
      return 0; /* gone; or at rest, and it may stay so */
    tcp_busy_wake(e, c, now);
  }
  int r = tcp_output_run(e, c, now);
  tcp_done(e, c);
  return r;
}
