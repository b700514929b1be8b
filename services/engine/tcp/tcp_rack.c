/*
 * RACK (RFC 8985 6): a segment is lost when one that left later, by more than the reordering window, has arrived. The
 * window adapts to what DSACKs tell. The list of what is out is tcp_sent.c's. Where too little is remembered of what
 * was sent when, RFC 6675's count of SACKed bytes decides (4, IsLost). Called by tcp_sent.c and tcp_loss.c.
 */
#include "tcp_int.h"

#define DUP_THRESH     3u
#define REO_MULT_MAX   128u
#define REO_KEEP       16u  /* recoveries for which a grown window stays (RFC 8985 6.2 step 4, RACK.reo_wnd_persist) */
#define REO_WINDOW_MIN 200u /* µs. deviates: RFC 8985 knows no least window; below, our clock says nothing */

/** RFC 8985 6.2 step 2: `s` left at `at`, its bytes up to `end` have arrived now. */
void tcp_rack_sent(struct tcp_conn *c, const struct tcp_sent *s, uint32_t at, seq32_t end, uint32_t ts_ecr,
                   usec_t now) {
  uint32_t rtt = (int32_t)((uint32_t)now - at) > 0 ? (uint32_t)now - at : 0;
  if (s->rexmit) { /* of the original, perhaps */
    if (ts_ecr != 0 && (int32_t)(ts_ecr - tcp_open_ts(c->d, now - rtt)) < 0)
      return;
    if (rtt < c->min_rtt)
      return;
  }
  if (c->rack && ((int32_t)(at - c->b->rack_at) < 0 || (at == c->b->rack_at && seq_leq(end, c->b->rack_end))))
    return;
  c->rack = 1;
  c->b->rack_at = at;
  c->b->rack_end = end;
  c->b->rack_rtt = rtt;
}

/** Reordering was seen. */
void tcp_rack_reorders(struct tcp_conn *c) {
  c->reo_seen = 1;
}

/** A DSACK came (RFC 8985 6.2 step 4): once per round trip the window grows by a quarter of the least round trip. */
void tcp_rack_dsack(struct tcp_conn *c) {
  if (c->reo_round_set && seq_lt(c->snd_una, c->b->reo_round))
    return;
  c->reo_round_set = 1;
  c->b->reo_round = c->snd_nxt;
  c->reo_mult = (uint8_t)HS_MIN(c->reo_mult + 1u, REO_MULT_MAX);
  c->reo_keep = REO_KEEP;
}

/** A reduction was taken back: the window was much too small. deviates: RFC 8985 grows it by one only; whole merged
 * bursts overtake each other on a veth, by many times the round trip of an empty path. */
void tcp_rack_undone(struct tcp_conn *c) {
  tcp_rack_reorders(c);
  c->reo_mult = (uint8_t)HS_MIN(c->reo_mult * 2u, REO_MULT_MAX);
  c->reo_keep = REO_KEEP;
}

/** A recovery begins: after REO_KEEP without a DSACK the window is small again. */
void tcp_rack_recovery(struct tcp_conn *c) {
  if (c->reo_keep > 0 && --c->reo_keep == 0)
    c->reo_mult = 1;
}

/** µs that a segment may be later than one that left after it (RFC 8985 6.2 step 4). */
uint32_t tcp_rack_window(const struct tcp_conn *c) {
  if (!c->reo_seen && (c->recovery != TCP_OPEN || c->b->board.bytes > (DUP_THRESH - 1) * tcp_mss_payload(c)))
    return 0;
  uint32_t w = c->min_rtt / 4 * c->reo_mult;
  return HS_MAX(HS_MIN(w, c->srtt8 / 8), REO_WINDOW_MIN);
}

static int rack_unsacked(const struct tcp_conn *c, seq32_t l, seq32_t r) {
  return tcp_sack_within(c, l, r) < r - l;
}

/* How much of `s` left before the newest of what has arrived: up to this number. */
static seq32_t rack_before(const struct tcp_conn *c, const struct tcp_sent *s) {
  int32_t after = (int32_t)(s->at - c->b->rack_at);
  if (after < 0 || (after == 0 && seq_leq(s->r, c->b->rack_end)))
    return s->r;
  if ((int32_t)(s->from - c->b->rack_at) <= 0 && seq_gt(c->b->rack_end, s->l) && seq_lt(c->b->rack_end, s->r))
    return c->b->rack_end; /* the newest is in its midst */
  return s->l;
}

/* That, but nothing above a full scoreboard, which may have arrived. */
static seq32_t rack_until(const struct tcp_conn *c, const struct tcp_sent *s) {
  seq32_t until = rack_before(c, s), top = tcp_sack_top(c);
  if (!tcp_sack_full(c) || seq_leq(until, top))
    return until;
  return seq_gt(top, s->l) ? top : s->l;
}

/* RFC 6675 4 IsLost, by bytes, for what was sent once: when the list merged too much to tell (tcp_sent.c). */
static uint32_t rack_by_bytes(struct tcp_env *e, struct tcp_conn *c) {
  uint32_t found = 0;
  if (c->reo_seen || c->b->board.bytes <= (DUP_THRESH - 1) * tcp_mss_payload(c))
    return 0;
  seq32_t first = c->snd_nxt; /* below it nothing is out that was sent once: those holes need no look */
  for (uint32_t i = 0; i < c->n_sent; i++)
    if (!tcp_sent_list(c)[i].rexmit && seq_lt(tcp_sent_list(c)[i].l, first))
      first = tcp_sent_list(c)[i].l;
  const struct tcp_sack *b = tcp_board_list(c);
  uint32_t above = c->b->board.bytes;
  struct tcp_sack h = {c->snd_una, c->snd_una};
  for (uint32_t k = 0; k < c->b->board.n && above > (DUP_THRESH - 1) * tcp_mss_payload(c); k++) {
    h.r = b[k].l;
    for (uint32_t i = 0; i < c->n_sent && seq_lt(h.l, h.r) && seq_gt(h.r, first); i++) {
      const struct tcp_sent *s = &tcp_sent_list(c)[i];
      if (s->rexmit || seq_leq(s->r, h.l) || seq_geq(s->l, h.r))
        continue;
      tcp_sent_cut(e, c, h.l, h.r);
      b = tcp_board_list(c); /* it may have moved to a log */
      found += h.r - h.l;
      break;
    }
    above -= b[k].r - b[k].l;
    h.l = b[k].r;
  }
  return found;
}

/** Take what is lost out of the list (RFC 8985 6.2 step 5). Bit 0: something was; bit 1: a retransmission among it.
 * Else the timer is armed for the first moment that may tell more. */
int tcp_rack_detect(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  uint32_t window = tcp_rack_window(c), t = (uint32_t)now;
  int32_t wait = 0;
  int found = 0;
  for (uint32_t i = 0; c->rack && i < c->n_sent;) {
    struct tcp_sent *s = &tcp_sent_list(c)[i];
    seq32_t l = s->l, until = rack_until(c, s);
    if (!seq_gt(until, l)) {
      i++;
      continue;
    }
    int unsacked = rack_unsacked(c, l, until);
    int32_t left = (int32_t)(s->at + c->b->rack_rtt + window - t);
    if (unsacked && window > 0 && left > 0) {
      wait = HS_MAX(wait, left);
      i++;
      continue;
    }
    if (unsacked)
      found |= s->rexmit ? 3 : 1;
    if (until == s->r) {
      tcp_sent_remove(c, i);
    } else {
      s->l = until;
      i++;
    }
  }
  found |= rack_by_bytes(e, c) > 0;
  if (wait > 0)
    tcp_timer_arm(c, TCP_T_REO, now + (usec_t)wait);
  return found;
}
