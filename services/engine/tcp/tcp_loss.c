/*
 * Finding losses and recovering from them: RFC 6675 with SACK, RFC 6582 without, RTO as RFC 6298 and 5681 say. Paths
 * reorder (AF_PACKET on veth overtakes 0.1–0.3 % of packets, whole merged bursts at once), so that lateness is judged
 * by time once reordering was seen (in the manner of RFC 8985), and needless reductions are taken back (DSACK: RFC
 * 3708; timestamps: RFC 3522). tcp_output.c sends what is decided here. Called by tcp_ack.c and tcp_timer.c.
 */
#include "tcp_int.h"

#define DUP_THRESH     3u
#define REO_MULT_MAX   128u
#define REO_KEEP       16u  /* recoveries without a sign of reordering after which it is forgotten (RFC 8985 6.2) */
#define REO_WINDOW_MIN 200u /* µs: below, the clock of the timer wheel says nothing anyway */
#define UNDO_LIFE      200000ull      /* µs, or 8 round trips: later reports of duplicates are about something else */
#define TAIL_MIN       5000u          /* µs, least wait for a tail loss probe */
#define REO_BYTES_MAX  (192u * 1024u) /* three merged bursts */

/** Bytes believed to be in the network (RFC 6675 4). */
uint32_t tcp_loss_pipe(const struct tcp_conn *c) {
  uint32_t flight = tcp_flight(c), out;
  if (c->d->nego & ABI_TCB_SACK) {
    out = c->board.n == 0 ? 0 : c->board.bytes - tcp_sack_above(c, c->snd_nxt);
    if (c->recovery == TCP_RECOVERY && c->board.n > 0)
      out += tcp_sack_lost(c);
  } else {
    out = c->dupacks * tcp_mss_payload(c); /* each duplicate ACK: one segment has left */
  }
  return out < flight ? flight - out : 0;
}

/** µs that a hole may stay open before it counts as lost (RFC 8985 6.2). */
uint32_t tcp_loss_reo_window(const struct tcp_conn *c) {
  uint32_t w = c->min_rtt / 4 * c->reo_mult;
  return HS_MAX(HS_MIN(w, c->srtt8 / 8), REO_WINDOW_MIN);
}

/** Bytes SACKed above a hole beyond which it counts as lost. */
uint32_t tcp_loss_reo_bytes(const struct tcp_conn *c) {
  uint32_t b = (DUP_THRESH - 1) * tcp_mss_payload(c);
  return c->reo_seen ? HS_MAX(b, HS_MIN(REO_BYTES_MAX, c->cwnd / 4)) : b;
}

static void loss_remember(struct tcp_conn *c, usec_t now) {
  c->prior_cwnd = c->cwnd;
  c->prior_ssthresh = c->ssthresh;
  c->undo = TCP_UNDO_FIRST;
  c->undo_bytes = 0;
  c->undo_until = now + HS_MAX((usec_t)c->srtt8, UNDO_LIFE);
  c->rexmit_ts = tcp_open_ts(c->d, now);
}

static void loss_reorders(struct tcp_conn *c) {
  c->reo_seen = 1;
  c->reo_keep = REO_KEEP;
}

static void loss_undo(struct tcp_env *e, struct tcp_conn *c) {
  TCP_COUNT(e, undo);
  c->cc->undo(c);
  c->undo = TCP_UNDO_NONE;
  loss_reorders(c);
  c->reo_mult = (uint8_t)HS_MIN(c->reo_mult * 2u, REO_MULT_MAX);
  if (c->recovery == TCP_LOSS)
    c->snd_nxt = c->d->snd_max; /* nothing was lost */
  c->recovery = TCP_OPEN;
  c->hole_at = 0;
}

/* FlightSize for ssthresh. Not what SACKs let out beyond cwnd (RFC 3042 2); and when cwnd was what stopped the last
 * output, cwnd itself: in the midst of a burst of ACKs what they made room for is not sent yet. */
static uint32_t loss_flight(const struct tcp_conn *c) {
  uint32_t wnd = c->recovery == TCP_RECOVERY ? c->ssthresh : c->cwnd; /* there cwnd is what PRR makes of it */
  return c->limited ? wnd : HS_MIN(tcp_flight(c), wnd);
}

/** Begin fast recovery (RFC 6675 5 (4), RFC 6582 3.2 step 2). */
void tcp_loss_enter(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  loss_remember(c, now);
  TCP_COUNT(e, fast_recovery);
  if (c->reo_keep > 0 && --c->reo_keep == 0) {
    c->reo_seen = 0;
    c->reo_mult = 1;
  }
  c->cc->loss(c, loss_flight(c), now);
  tcp_prr_begin(c);
  c->recovery = TCP_RECOVERY;
  c->recover = c->rxt_mark = c->d->snd_max;
  c->high_rxt = c->snd_una;
  c->force = TCP_FORCE_ONE; /* the first retransmission does not wait for room in cwnd */
  c->lost_total++;
  c->hole_at = 0;
  c->rtt_at = 0; /* Karn: what is timed may be retransmitted */
  tcp_timer_stop(c, TCP_T_REO);
}

static void loss_open_sack(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, usec_t now) {
  if (c->board.n == 0) {
    c->hole_at = 0;
    tcp_timer_stop(c, TCP_T_REO);
    return;
  }
  if (c->hole_at == 0 || acked > 0)
    c->hole_at = now;
  usec_t until = c->hole_at + tcp_loss_reo_window(c);
  if (now >= until || (!c->reo_seen && c->board.bytes > (DUP_THRESH - 1) * tcp_mss_payload(c)))
    tcp_loss_enter(e, c, now);
  else
    tcp_timer_arm(c, TCP_T_REO, until);
}

static void loss_open(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, usec_t now) {
  if (c->d->nego & ABI_TCB_SACK) {
    loss_open_sack(e, c, acked, now);
    return;
  }
  if (acked > 0)
    c->dupacks = 0;
  else if (dup && ++c->dupacks >= DUP_THRESH && seq_geq(c->snd_una, c->recover))
    tcp_loss_enter(e, c, now);
}

static void loss_recovery_done(struct tcp_conn *c) {
  c->recovery = TCP_OPEN;
  c->dupacks = 0;
  c->hole_at = 0;
  c->cc->recovered(c, tcp_flight(c));
}

/* A retransmission was lost too if data sent after it has arrived and it has not. */
static void loss_next_pass(struct tcp_env *e, struct tcp_conn *c) {
  struct tcp_sack h;
  if (!tcp_sack_hole(c, c->snd_una, &h) || seq_geq(h.l, c->high_rxt))
    return;
  if (tcp_sack_above(c, c->rxt_mark) <= tcp_loss_reo_bytes(c))
    return;
  TCP_COUNT(e, rexmit_lost);
  c->high_rxt = c->snd_una;
  c->rxt_mark = c->d->snd_max;
  c->undo = TCP_UNDO_NONE;
}

static void loss_in_recovery(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup) {
  if (acked > 0 && seq_geq(c->snd_una, c->recover)) {
    loss_recovery_done(c);
    return;
  }
  if (seq_lt(c->high_rxt, c->snd_una))
    c->high_rxt = c->snd_una;
  if (c->d->nego & ABI_TCB_SACK) {
    loss_next_pass(e, c);
    return;
  }
  if (acked > 0) { /* RFC 6582 3.2 step 3, partial ACK: the next segment is lost as well */
    uint32_t segs = acked / tcp_mss_payload(c);
    c->dupacks = c->dupacks > segs ? c->dupacks - segs : 0;
    c->force = TCP_FORCE_ONE;
  } else if (dup) {
    c->dupacks++;
  }
}

/* Whether there is something to send that was never sent. */
static int loss_has_new(struct tcp_env *e, const struct tcp_conn *c) {
  uint32_t out = c->d->snd_max - c->snd_una;
  return e->ops->tx_used(e->ctx, (struct tcp_conn *)(uintptr_t)c) > out && c->d->snd_wnd > out;
}

/* RFC 5682 2.1 steps 2 and 3, an ACK below `recover` after an RTO. */
static void loss_frto(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup) {
  if (acked == 0 && !dup)
    return;
  if (c->frto == TCP_FRTO_FIRST && acked > 0 && loss_has_new(e, c)) { /* (2b): two new segments instead */
    c->frto = TCP_FRTO_SECOND;
    c->snd_nxt = c->d->snd_max;
    c->cwnd = tcp_loss_pipe(c) + 2 * tcp_mss_payload(c);
    return;
  }
  if (c->frto == TCP_FRTO_SECOND && acked > 0) { /* (3b): what was not sent again has arrived */
    TCP_COUNT(e, frto);
    c->frto = TCP_FRTO_NONE;
    loss_undo(e, c);
    return;
  }
  if (c->frto == TCP_FRTO_SECOND) { /* (3a): lost indeed */
    c->snd_nxt = c->snd_una;
    c->cwnd = HS_MIN(c->ssthresh, 3 * tcp_mss_payload(c));
  }
  c->frto = TCP_FRTO_NONE;
}

/** An ACK came: `acked` bytes were new (snd_una has moved), or `dup` = a duplicate in the sense of RFC 5681 2. */
void tcp_loss_on_ack(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, const struct tcp_sack_news *news,
                     uint32_t ts_ecr, usec_t now) {
  if (news->late) {
    TCP_COUNT(e, reordering);
    loss_reorders(c);
  }
  if (news->dsack > 0) {
    TCP_COUNT(e, dsack_in);
    if (c->undo && c->undo_bytes > 0 && now < c->undo_until) {
      c->undo_bytes -= HS_MIN(news->dsack, c->undo_bytes);
      if (c->undo_bytes == 0)
        loss_undo(e, c);
    }
  }
  /* Eifel: the first new ACK was caused by the original, sent before the retransmission (RFC 3522 3.2 step 4) */
  if (c->undo == TCP_UNDO_FIRST && acked > 0 && c->recovery != TCP_OPEN) {
    c->undo = TCP_UNDO_DSACK;
    if (ts_ecr != 0 && (int32_t)(ts_ecr - c->rexmit_ts) < 0)
      loss_undo(e, c);
  }
  switch (c->recovery) {
  case TCP_OPEN:
    loss_open(e, c, acked, dup, now);
    break;
  case TCP_RECOVERY:
    loss_in_recovery(e, c, acked, dup);
    break;
  default:
    if (acked > 0 && seq_geq(c->snd_una, c->recover)) {
      c->recovery = TCP_OPEN;
      c->dupacks = 0;
      c->frto = TCP_FRTO_NONE;
    } else if (c->frto != TCP_FRTO_NONE) {
      loss_frto(e, c, acked, dup);
    }
    break;
  }
  if (c->recovery == TCP_RECOVERY && (c->d->nego & ABI_TCB_SACK))
    tcp_prr_ack(c, news->delivered);
}

/** The retransmission timer ran out: everything out is lost, but what was SACKed (RFC 5681 3.1, RFC 6675 5.1). */
void tcp_loss_rto(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  int first = c->backoff == 0;
  if (first)
    loss_remember(c, now);
  else
    c->undo = TCP_UNDO_NONE;
  TCP_COUNT(e, rto);
  c->cc->rto(c, loss_flight(c), first && c->recovery != TCP_LOSS, now);
  /* RFC 5682 2.1 step 1, where no timestamps tell (RFC 3522) */
  c->frto = first && c->recovery == TCP_OPEN && !(c->d->nego & ABI_TCB_TS) ? TCP_FRTO_FIRST : TCP_FRTO_NONE;
  c->recovery = TCP_LOSS;
  c->recover = c->d->snd_max;
  c->snd_nxt = c->high_rxt = c->snd_una;
  c->dupacks = 0;
  c->hole_at = 0;
  c->rtt_at = 0;
  c->lost_total++;
  c->force = TCP_FORCE_ONE;
  tcp_timer_stop(c, TCP_T_REO);
  if (!first) /* the peer may have forgotten what it SACKed (RFC 2018 8) */
    c->board.n = c->board.bytes = 0;
}

/** Order a tail loss probe: if the last of what is out is lost, no SACK will ever tell (RFC 8985 7.2). Not for a single
 * segment, whose ACK may be delayed, and not when the RTO comes first. */
void tcp_loss_tail_arm(struct tcp_conn *c, usec_t now) {
  if (c->recovery != TCP_OPEN || c->tail || c->board.n > 0 || c->srtt8 == 0 || !(c->d->nego & ABI_TCB_SACK) ||
      tcp_flight(c) <= tcp_mss_payload(c))
    return;
  usec_t when = now + HS_MAX(c->srtt8 / 4, TAIL_MIN);
  tcp_timer_arm(c, TCP_T_REO, when < c->due[TCP_T_RTO] ? when : 0);
}

/** A hole has been open for the reordering window; or, without a hole, the tail has been out for two round trips. */
void tcp_loss_reo_expired(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (c->recovery != TCP_OPEN || c->snd_nxt == c->snd_una)
    return;
  if (c->board.n > 0) {
    tcp_loss_enter(e, c, now);
    (void)tcp_output_run(e, c, now);
    return;
  }
  c->tail = 1;
  TCP_COUNT(e, tail_probes);
  tcp_output_tail(e, c, now);
}
