/*
 * Recovering from losses: found by RACK (tcp_rack.c, RFC 8985) with SACK, by RFC 6582 without, by tail loss probes (RFC
 * 8985 7) and by RTO as RFC 6298 and 5681 say; repaired as RFC 6675 and 6937 say. Paths reorder (AF_PACKET on veth
 * overtakes 0.1–0.3 % of packets, whole merged bursts at once), so needless reductions are taken back (DSACK: RFC 3708;
 * timestamps: RFC 3522, 4015). tcp_output.c sends what is decided here. Called by tcp_ack.c and tcp_timer.c.
 */
#include "tcp_int.h"

#define DUP_THRESH 3u
#define UNDO_LIFE  200000ull /* µs, or 8 round trips: later reports of duplicates are about something else */
#define TAIL_MIN   5000u     /* µs, least wait for a tail loss probe */

/** Bytes believed to be in the network (RFC 6675 4). */
uint32_t tcp_loss_pipe(const struct tcp_conn *c) {
  uint32_t flight = tcp_flight(c), out;
  if (c->d->nego & ABI_TCB_SACK) {
    out = (c->b->board.n == 0 ? 0 : c->b->board.bytes - tcp_sack_above(c, c->snd_nxt)) + c->b->lost;
  } else {
    out = c->b->dupacks * tcp_mss_payload(c); /* each duplicate ACK: one segment has left */
  }
  return out < flight ? flight - out : 0;
}

/* A reduction begins. again: what is lost may have been sent twice, so that its time counts. */
static void loss_remember(struct tcp_conn *c, int again, usec_t now) {
  if (!again)
    tcp_sent_mark_again(c, now);
  c->b->prior_cwnd = c->cwnd;
  c->b->prior_ssthresh = c->ssthresh;
  c->undo = TCP_UNDO_FIRST;
  c->b->undo_bytes = 0;
  c->b->undo_until = now + HS_MAX((usec_t)c->srtt8, UNDO_LIFE);
}

void tcp_loss_go_back(struct tcp_conn *c) {
  tcp_sent_drop(c);
  c->snd_nxt = c->snd_una;
}

/* The last reduction was needless; `acked` bytes by the ACK that says so. */
static void loss_undo(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, usec_t now) {
  uint32_t iw = e->cfg.init_cwnd_segs * tcp_mss_payload(c);
  TCP_COUNT(e, undo);
  c->undo = TCP_UNDO_NONE;
  tcp_rack_undone(c);
  if (c->recovery == TCP_LOSS) {
    c->snd_nxt = c->d->snd_max; /* nothing was lost */
    c->spurious = 1;
    /* RFC 4015 3.2 step 8: no burst; slow start goes on to where it was. Not below what the timeout left */
    c->b->prior_ssthresh = HS_MAX(c->b->prior_ssthresh, c->b->prior_cwnd);
    c->b->prior_cwnd = HS_MIN(c->b->prior_cwnd, HS_MAX(tcp_flight(c) + HS_MIN(acked, iw), c->cwnd));
  }
  c->cc->undo(c);
  c->recovery = TCP_OPEN;
  tcp_sent_all(e, c, now);
}

/** FlightSize for ssthresh. Not what SACKs let out beyond cwnd (RFC 3042 2); and when cwnd was what stopped the last
 * output, cwnd itself: in the midst of a burst of ACKs what they made room for is not sent yet. */
uint32_t tcp_loss_flight(const struct tcp_conn *c) {
  uint32_t wnd = c->recovery == TCP_RECOVERY ? c->ssthresh : c->cwnd; /* there cwnd is what PRR makes of it */
  return c->limited ? wnd : HS_MIN(tcp_flight(c), wnd);
}

/* Begins fast recovery (RFC 6675 5 (4), RFC 6582 3.2 step 2). again: see loss_remember. */
static void loss_enter(struct tcp_env *e, struct tcp_conn *c, int again, usec_t now) {
  loss_remember(c, again, now);
  TCP_COUNT(e, fast_recovery);
  tcp_rack_recovery(c);
  c->cc->loss(c, tcp_loss_flight(c), now);
  if (c->mtu_probe != 0 && tcp_pmtu_lost(e, c, now)) { /* RFC 4821 7.6.1: no congestion */
    c->cc->undo(c);
    c->ssthresh = c->cwnd; /* where recovery ends */
    c->undo = TCP_UNDO_NONE;
  } else {
    tcp_ecn_reduced(c);
  }
  tcp_prr_begin(c);
  c->recovery = TCP_RECOVERY;
  c->recover = c->d->snd_max;
  c->force = TCP_FORCE_ONE; /* the first retransmission does not wait for room in cwnd */
  c->lost_total++;
  c->b->rtt_at = 0; /* Karn: what is timed may be retransmitted */
  c->tail = TCP_TAIL_NONE;
}

static void loss_open(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, usec_t now) {
  if (c->d->nego & ABI_TCB_SACK) {
    if (c->b->board.n > 0) /* now the timer is the reordering window's */
      tcp_timer_stop(c, TCP_T_REO);
    int found = tcp_rack_detect(e, c, now);
    if (found)
      loss_enter(e, c, found & 2, now);
    return;
  }
  if (acked > 0)
    c->b->dupacks = 0;
  else if (dup && ++c->b->dupacks >= DUP_THRESH && seq_geq(c->snd_una, c->recover))
    loss_enter(e, c, 0, now);
}

/* What was lost when it began is repaired; what was sent since may be lost as well, and that is a loss of its own. */
static void loss_recovery_done(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  int was = c->recovery;
  c->recovery = TCP_OPEN;
  c->b->dupacks = 0;
  c->frto = TCP_FRTO_NONE;
  if (was == TCP_RECOVERY)
    c->cc->recovered(c, tcp_flight(c));
  if ((c->d->nego & ABI_TCB_SACK) && (tcp_rack_detect(e, c, now) || tcp_sent_lost(c) > 0))
    loss_enter(e, c, 1, now);
}

/* More is lost; retransmissions too, if data sent after them has arrived and they have not. */
static void loss_more(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  tcp_timer_stop(c, TCP_T_REO);
  if (!(tcp_rack_detect(e, c, now) & 2))
    return;
  TCP_COUNT(e, rexmit_lost);
  c->undo = TCP_UNDO_NONE;
}

static void loss_in_recovery(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, usec_t now) {
  if (acked > 0 && seq_geq(c->snd_una, c->recover)) {
    loss_recovery_done(e, c, now);
    return;
  }
  if (c->d->nego & ABI_TCB_SACK) {
    loss_more(e, c, now);
    return;
  }
  if (acked > 0) { /* RFC 6582 3.2 step 3, partial ACK: the next segment is lost as well */
    uint32_t segs = acked / tcp_mss_payload(c);
    c->b->dupacks = c->b->dupacks > segs ? c->b->dupacks - segs : 0;
    c->force = TCP_FORCE_ONE;
  } else if (dup) {
    c->b->dupacks++;
  }
}

/* Whether there is something to send that was never sent. */
static int loss_has_new(struct tcp_env *e, const struct tcp_conn *c) {
  uint32_t out = c->d->snd_max - c->snd_una;
  return e->ops->tx_used(e->ctx, (struct tcp_conn *)(uintptr_t)c) > out && c->d->snd_wnd > out;
}

/* RFC 5682 2.1 steps 2 and 3, an ACK below `recover` after an RTO. */
static void loss_frto(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, usec_t now) {
  if (acked == 0 && !dup)
    return;
  if (c->frto == TCP_FRTO_FIRST && acked > 0 && loss_has_new(e, c)) { /* (2b): two new segments instead */
    c->frto = TCP_FRTO_SECOND;
    c->snd_nxt = c->d->snd_max;
    tcp_sent_all(e, c, now);
    c->cwnd = tcp_loss_pipe(c) + 2 * tcp_mss_payload(c);
    return;
  }
  if (c->frto == TCP_FRTO_SECOND && acked > 0) { /* (3b): what was not sent again has arrived */
    TCP_COUNT(e, frto);
    c->frto = TCP_FRTO_NONE;
    loss_undo(e, c, acked, now);
    return;
  }
  if (c->frto == TCP_FRTO_SECOND) { /* (3a): lost indeed */
    tcp_loss_go_back(c);
    c->cwnd = HS_MIN(c->ssthresh, 3 * tcp_mss_payload(c));
  }
  c->frto = TCP_FRTO_NONE;
}

static void loss_dsack(struct tcp_env *e, struct tcp_conn *c, uint32_t bytes, uint32_t acked, usec_t now) {
  TCP_COUNT(e, dsack_in);
  tcp_rack_dsack(c);
  if (!c->undo || c->b->undo_bytes == 0 || now >= c->b->undo_until)
    return;
  c->b->undo_bytes -= HS_MIN(bytes, c->b->undo_bytes);
  if (c->b->undo_bytes == 0)
    loss_undo(e, c, acked, now);
}

/* RFC 8985 7.4.2: did the tail loss probe repair a loss? Then cwnd is reduced as by any other. */
static void loss_tail_acked(struct tcp_env *e, struct tcp_conn *c, int dup, const struct tcp_sack_news *news,
                            usec_t now) {
  if (seq_lt(c->snd_una, c->b->tail_end))
    return;
  if (c->tail == TCP_TAIL_NEW || news->dsack > 0) {
    c->tail = TCP_TAIL_NONE; /* nothing was lost, or the original has arrived as well */
  } else if (seq_gt(c->snd_una, c->b->tail_end) && c->recovery == TCP_OPEN) {
    TCP_COUNT(e, tail_losses);
    c->tail = TCP_TAIL_NONE;
    tcp_rack_recovery(c);
    c->cc->loss(c, tcp_loss_flight(c), now);
    c->cc->recovered(c, tcp_flight(c));
  } else if (dup && news->bytes == 0) {
    c->tail = TCP_TAIL_NONE; /* a duplicate ACK: both have arrived */
  }
}

/** An ACK came: `acked` bytes were new (snd_una has moved), or `dup` = a duplicate in the sense of RFC 5681 2. */
void tcp_loss_on_ack(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, const struct tcp_sack_news *news,
                     uint32_t ts_ecr, usec_t now) {
  if (news->late) {
    TCP_COUNT(e, reordering);
    tcp_rack_reorders(c);
  }
  if (c->tail != TCP_TAIL_NONE)
    loss_tail_acked(e, c, dup, news, now);
  if (news->dsack > 0)
    loss_dsack(e, c, news->dsack, acked, now);
  /* Eifel: the first new ACK was caused by the original, sent before the retransmission (RFC 3522 3.2 step 4) */
  if (c->undo == TCP_UNDO_FIRST && acked > 0 && c->recovery != TCP_OPEN) {
    c->undo = TCP_UNDO_DSACK;
    if (ts_ecr != 0 && (int32_t)(ts_ecr - c->b->rexmit_ts) < 0)
      loss_undo(e, c, acked, now);
  }
  switch (c->recovery) {
  case TCP_OPEN:
    loss_open(e, c, acked, dup, now);
    break;
  case TCP_RECOVERY:
    loss_in_recovery(e, c, acked, dup, now);
    break;
  default:
    if (acked > 0 && seq_geq(c->snd_una, c->recover))
      loss_recovery_done(e, c, now);
    else if (c->frto != TCP_FRTO_NONE)
      loss_frto(e, c, acked, dup, now);
    else if (c->d->nego & ABI_TCB_SACK)
      loss_more(e, c, now);
    break;
  }
  c->b->lost = c->recovery != TCP_OPEN && (c->d->nego & ABI_TCB_SACK) ? tcp_sent_lost(c) : 0;
  if (c->recovery == TCP_RECOVERY && (c->d->nego & ABI_TCB_SACK) && !c->cc->own_cwnd)
    tcp_prr_ack(c, news->delivered);
}

/** The retransmission timer ran out: everything out is lost, but what was SACKed (RFC 5681 3.1, RFC 6675 5.1). */
void tcp_loss_rto(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  int first = c->backoff == 0;
  if (first)
    loss_remember(c, 0, now);
  else
    c->undo = TCP_UNDO_NONE;
  TCP_COUNT(e, rto);
  c->cc->rto(c, tcp_loss_flight(c), first && c->recovery != TCP_LOSS, now);
  tcp_ecn_reduced(c);
  /* RFC 5682 2.1 step 1, where no timestamps tell (RFC 3522) */
  c->frto = first && c->recovery == TCP_OPEN && !(c->d->nego & ABI_TCB_TS) ? TCP_FRTO_FIRST : TCP_FRTO_NONE;
  c->recovery = TCP_LOSS;
  c->recover = c->d->snd_max;
  tcp_loss_go_back(c);
  c->tail = TCP_TAIL_NONE;
  c->b->dupacks = 0;
  c->b->rtt_at = 0;
  c->lost_total++;
  c->force = TCP_FORCE_ONE;
  tcp_timer_stop(c, TCP_T_REO);
  if (!first) /* the peer may have forgotten what it SACKed (RFC 2018 8) */
    c->b->board.n = c->b->board.bytes = 0;
}

/** Order a tail loss probe: if the last of what is out is lost, no SACK will ever tell (RFC 8985 7.2). Not for a single
 * segment, whose ACK may be delayed, and not when the RTO comes first. */
void tcp_loss_tail_arm(struct tcp_conn *c, usec_t now) {
  if (c->recovery != TCP_OPEN || c->tail || c->b->board.n > 0 || c->srtt8 == 0 || !(c->d->nego & ABI_TCB_SACK) ||
      tcp_flight(c) <= tcp_mss_payload(c))
    return;
  usec_t when = now + HS_MAX(c->srtt8 / 4, TAIL_MIN);
  tcp_timer_arm(c, TCP_T_REO, when < c->b->due[TCP_T_RTO] ? when : 0);
}

/** A hole has been open for the reordering window; or, without a hole, the tail has been out for two round trips. */
void tcp_loss_reo_expired(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (c->snd_nxt == c->snd_una || !(c->d->nego & ABI_TCB_SACK))
    return;
  if (c->b->board.n > 0 || c->recovery != TCP_OPEN) {
    int found = 0;
    if (c->recovery != TCP_OPEN)
      loss_more(e, c, now);
    else if ((found = tcp_rack_detect(e, c, now)) != 0)
      loss_enter(e, c, found & 2, now);
    c->b->lost = c->recovery != TCP_OPEN ? tcp_sent_lost(c) : 0;
    (void)tcp_output_run(e, c, now);
    return;
  }
  TCP_COUNT(e, tail_probes);
  seq32_t max = c->d->snd_max;
  tcp_sent_mark_again(c, now);
  c->tail = TCP_TAIL_NEW; /* one at a time */
  tcp_output_tail(e, c, now);
  c->tail = c->d->snd_max != max ? TCP_TAIL_NEW : TCP_TAIL_AGAIN;
  c->b->tail_end = c->d->snd_max;
  tcp_timer_rto_restart(e, c, now); /* RFC 8985 7.3: from the probe on */
}
