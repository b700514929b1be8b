/*
 * Sizes of the buffers. The receive buffer grows with the path: it shall hold what the app reads in two round trips,
 * and more while the sender's rate still doubles, so that the window is never what limits (the idea of Fisk and Feng,
 * "Dynamic right-sizing", 2001; RFC 7323 1.1 on why windows must be large). The send buffer holds two congestion
 * windows: one that is out, one that follows; with BBR, as on Linux, a third, since its STARTUP goes on in a recovery,
 * beside what waits for holes to be filled. SO_RCVBUF and SO_SNDBUF fix them. They never get smaller: what was
 * promised stays promised (tcp_wnd.c). Called by tcp_open.c, tcp_recv.c, tcp_wnd.c and the session layer; worker's
 * thread.
 */
#include "tcp_int.h"

#define RBUF_SEGS      16u        /* besides, so that a short round trip's measure does not starve the sender */
#define RBUF_RTT_MIN   1000u      /* µs, least round of measurement: the timestamp clock's tick (RFC 7323 5.4) */
#define RBUF_ADOPT_MAX (1u << 24) /* bytes: no fifo holds more (ABI_FIFO_MAX) */
#define RBUF_RTT_MAX   4000000u   /* µs; later samples are pauses of the sender */

/* The fifo follows, but never down: what was promised has room. */
static void rbuf_set(struct tcp_env *e, struct tcp_conn *c, uint32_t bytes) {
  c->rcv_buf = bytes;
  if (bytes <= c->rcv_fifo)
    return;
  c->rcv_fifo = bytes;
  e->ops->rx_limit(e->ctx, c, bytes);
}

static uint32_t rbuf_fixed(const struct tcp_env *e, const struct abi_tcb *d) {
  return HS_MAX(d->opt.rcvbuf, e->cfg.rcv_buf_min);
}

/** The size that it may ever have, bytes: for the window scale (RFC 7323 2.3). */
uint32_t tcp_rbuf_greatest(const struct tcp_env *e, const struct abi_tcb *d) {
  return HS_MAX(d->opt.rcvbuf, e->cfg.rcv_buf_max);
}

/** A connection begins. */
void tcp_rbuf_init(struct tcp_env *e, struct tcp_conn *c) {
  c->rcv_buf = c->rcv_fifo = 0;
  if (e->ops->rx_limit != NULL)
    rbuf_set(e, c, c->d->opt.rcvbuf != 0 ? rbuf_fixed(e, c->d) : e->cfg.rcv_buf);
}

/** Its predecessor's promises must fit. */
void tcp_rbuf_adopt(struct tcp_env *e, struct tcp_conn *c) {
  if (e->ops->rx_limit == NULL)
    return;
  uint32_t room = e->ops->rx_room(e->ctx, c), promised = tcp_wnd_current(c), size = c->rcv_buf;
  while (room == 0 && promised > 0 && c->rcv_fifo < RBUF_ADOPT_MAX) {
    rbuf_set(e, c, 2 * c->rcv_fifo); /* what lies there unread is more than a new fifo holds: no telling by how much */
    room = e->ops->rx_room(e->ctx, c);
  }
  if (promised > room)
    rbuf_set(e, c, c->rcv_fifo + (promised - room));
  if (c->d->opt.rcvbuf != 0)
    c->rcv_buf = size;
}

/** SO_RCVBUF was set, or set back. A lower size counts as the app reads. */
void tcp_rbuf_options(struct tcp_env *e, struct tcp_conn *c) {
  if (e->ops->rx_limit == NULL || c->d->opt.rcvbuf == 0 || rbuf_fixed(e, c->d) == c->rcv_buf)
    return;
  rbuf_set(e, c, rbuf_fixed(e, c->d));
  c->rx_max = HS_MIN(c->rx_max, c->rcv_buf);
}

/* What the app read in the round that ends asks for this size. */
static uint32_t rbuf_wanted(const struct tcp_env *e, const struct tcp_conn *c, uint32_t copied) {
  uint64_t want = 2ull * copied + RBUF_SEGS * (uint64_t)c->rcv_mss;
  if (c->rcvq_space > 0) /* the sender's rate grows: as much again as it grew, twice */
    want += 2ull * copied * (copied - c->rcvq_space) / c->rcvq_space;
  return (uint32_t)HS_MIN(want, (uint64_t)e->cfg.rcv_buf_max);
}

/* What the receiver knows of the round trip, µs. Without timestamps its measure is a window's time and may be many
 * round trips: then what the sender's half saw in the handshake counts, if it is less. */
static uint32_t rbuf_round(const struct tcp_conn *c) {
  uint32_t own = c->rcv_rtt, srtt = c->srtt8 / 8;
  if (own == 0 || (!(c->d->nego & ABI_TCB_TS) && srtt != 0 && srtt < own))
    own = srtt;
  return HS_MAX(own, RBUF_RTT_MIN);
}

/* Is a round trip over, and what has the app read in it? */
static void rbuf_measure(struct tcp_env *e, struct tcp_conn *c, seq32_t read, usec_t now) {
  uint32_t t = (uint32_t)now;
  if (c->b->rcvq_at == 0 || seq_lt(read, c->b->rcvq_seq)) { /* begins; or a FIN, or a limit that was lowered */
    c->b->rcvq_seq = read;
    c->b->rcvq_at = t | 1u;
    return;
  }
  if (t - c->b->rcvq_at < rbuf_round(c))
    return;
  uint32_t copied = read - c->b->rcvq_seq;
  if (copied > c->rcvq_space) {
    uint32_t want = rbuf_wanted(e, c, copied);
    if (e->cfg.rcv_auto && c->d->opt.rcvbuf == 0 && want > c->rcv_buf) {
      TCP_COUNT(e, rcv_buf_grown);
      rbuf_set(e, c, want);
    }
    c->rcvq_space = copied;
  }
  c->b->rcvq_seq = read;
  c->b->rcvq_at = t | 1u;
}

/** Bytes that the buffer has free; `room` is what the fifo has. `now` 0: nothing is measured. */
uint32_t tcp_rbuf_room(struct tcp_env *e, struct tcp_conn *c, uint32_t room, usec_t now) {
  uint32_t unread = c->rcv_fifo > room ? c->rcv_fifo - room : 0;
  if (now != 0)
    rbuf_measure(e, c, c->rcv_nxt - unread, now);
  return c->rcv_buf > unread ? c->rcv_buf - unread : 0;
}

static void rbuf_sample(struct tcp_conn *c, uint32_t us, int upper_bound) {
  us = HS_MIN(us, RBUF_RTT_MAX);
  if (c->rcv_rtt == 0 || (upper_bound && us < c->rcv_rtt))
    c->rcv_rtt = HS_MAX(us, 1u);
  else if (!upper_bound)
    c->rcv_rtt = c->rcv_rtt - c->rcv_rtt / 8 + us / 8;
}

/** Data came: what does it say about the round trip? With timestamps, the time since what it echoes; without, the time
 * in which a window came, which is no less than a round trip. */
void tcp_rbuf_rtt(struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now) {
  const struct tcp_opts *o = &seg->hdr.opts;
  if (c->d->nego & ABI_TCB_TS) {
    if ((o->present & TCP_OPT_HAS_TS) && o->ts_ecr != 0 && seg->len >= c->rcv_mss) {
      uint32_t ms = tcp_open_ts(c->d, now) - o->ts_ecr;
      if (ms < RBUF_RTT_MAX / 1000)
        rbuf_sample(c, HS_MAX(ms * 1000, RBUF_RTT_MIN), 0);
    }
    return;
  }
  if (c->b->rcv_rtt_at != 0 && seq_lt(c->rcv_nxt, c->b->rcv_rtt_seq))
    return;
  if (c->b->rcv_rtt_at != 0)
    rbuf_sample(c, (uint32_t)now - c->b->rcv_rtt_at, 1);
  c->b->rcv_rtt_seq = c->rcv_nxt + HS_MAX(tcp_wnd_current(c), 1u);
  c->b->rcv_rtt_at = (uint32_t)now | 1u;
}

uint32_t tcp_send_buffer(const struct tcp_env *e, const struct tcp_conn *c, uint32_t now_allowed) {
  if (c->d->opt.sndbuf != 0)
    return HS_MAX(c->d->opt.sndbuf, e->cfg.snd_buf_min);
  uint64_t want = (c->cc->own_cwnd ? 3ull : 2ull) * c->cwnd;
  return (uint32_t)HS_MAX(HS_MIN(want, (uint64_t)e->cfg.snd_buf_max), (uint64_t)now_allowed);
}
