/*
 * What is in the network: ranges of sequence numbers in the order in which they left, each with its time and with what
 * delivery-rate sampling needs (draft-cheng-iccrg-delivery-rate-estimation 3). Ranges that left together, or nearly so
 * (a sixteenth of a round trip), are one entry. An entry goes when its bytes have arrived or are held for lost; so a
 * byte below snd_nxt that is neither SACKed nor in an entry is lost and to be sent again: nothing else keeps the list
 * of losses (RFC 8985 5, RFC 6675 4).
 *
 * Two entries lie in the connection, more in a log from the env's pool while there is need. Whatever is full merges:
 * an entry may cover too much and be too young, never too little or too old, so a want of memory makes recovery slower
 * and never wrong. Called by tcp_ack.c, tcp_sack.c, tcp_rack.c, tcp_loss.c and tcp_output.c in the worker's thread.
 */
#include "tcp_int.h"

#define SENT_AGE_MAX (1u << 30) /* µs, 18 minutes: what left longer ago counts as sent then */
#define SENT_AHEAD   (1u << 16) /* µs by which an entry may be ahead of the clock, since no two have the same time */

static uint32_t sent_room(const struct tcp_conn *c) {
  return c->b->sent_log != NULL ? TCP_SENT_LOG_ENTRIES : ARRAY_LEN(c->b->sent_own);
}

/** More room, here and on the scoreboard, if there is a log to be had. 1 = there is more now. */
int tcp_sent_grow(struct tcp_env *e, struct tcp_conn *c) {
  if (c->b->sent_log != NULL)
    return 0;
  struct tcp_sent_log *g = tcp_log_get(e, 0);
  if (g == NULL) {
    TCP_COUNT(e, sent_log_none);
    return 0;
  }
  memcpy(g->e, c->b->sent_own, sizeof c->b->sent_own);
  memcpy(g->board, c->b->board.r, sizeof c->b->board.r);
  c->b->sent_log = g;
  return 1;
}

/** Nothing is out any more, or the connection is gone: the log goes home, and the scoreboard is empty. */
void tcp_sent_release(struct tcp_env *e, struct tcp_conn *c) {
  tcp_sent_drop(c);
  c->b->board.n = c->b->board.bytes = 0;
  if (c->b->sent_log == NULL)
    return;
  tcp_log_put(e, c->b->sent_log);
  c->b->sent_log = NULL;
}

/** Entry `i` goes. */
void tcp_sent_remove(struct tcp_conn *c, uint32_t i) {
  struct tcp_sent *s = tcp_sent_list(c);
  c->n_sent--;
  memmove(&s[i], &s[i + 1], (c->n_sent - i) * sizeof *s);
}

/* Two neighbours in time become one, the younger. 1 = done. */
static int sent_squeeze(struct tcp_conn *c) {
  struct tcp_sent *s = tcp_sent_list(c);
  for (uint32_t i = 0; i + 1 < c->n_sent; i++) {
    if (s[i].r != s[i + 1].l || s[i].rexmit != s[i + 1].rexmit)
      continue;
    s[i].r = s[i + 1].r;
    s[i].at = s[i + 1].at;
    s[i].limited |= s[i + 1].limited;
    tcp_sent_remove(c, i + 1);
    return 1;
  }
  return 0;
}

/** [l, r) is in the network no more: lost, arrived, or about to be sent again. Without room to split an entry in two it
 * stays whole. */
void tcp_sent_cut(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r) {
  for (uint32_t i = 0; i < c->n_sent;) {
    struct tcp_sent *s = &tcp_sent_list(c)[i];
    if (seq_leq(s->r, l) || seq_geq(s->l, r)) {
      i++;
    } else if (seq_geq(s->l, l) && seq_leq(s->r, r)) {
      tcp_sent_remove(c, i);
    } else if (seq_geq(s->l, l)) {
      s->l = r;
      i++;
    } else if (seq_leq(s->r, r)) {
      s->r = l;
      i++;
    } else if (c->n_sent < sent_room(c) || tcp_sent_grow(e, c)) {
      s = &tcp_sent_list(c)[i];
      memmove(s + 1, s, (c->n_sent - i) * sizeof *s);
      c->n_sent++;
      s[0].r = l;
      s[1].l = r;
      i += 2;
    } else {
      i++;
    }
  }
}

/** All entries go: what is not SACKed is lost (RTO), or believed so. */
void tcp_sent_drop(struct tcp_conn *c) {
  c->n_sent = 0;
  c->b->lost = 0;
}

/* `at` as seen at `t`: 32 bits of µs tell before from after for 35 minutes only, and a process may be stopped for
 * longer with data out. */
static uint32_t sent_aged(uint32_t at, uint32_t t) {
  uint32_t age = t - at;
  return age > SENT_AGE_MAX && age < 0u - SENT_AHEAD ? t - SENT_AGE_MAX : at;
}

static void sent_age(struct tcp_conn *c, uint32_t t) {
  struct tcp_sent *s = tcp_sent_list(c);
  if (c->rack)
    c->b->rack_at = sent_aged(c->b->rack_at, t);
  for (uint32_t i = 0; i < c->n_sent; i++) {
    s[i].from = sent_aged(s[i].from, t);
    s[i].at = sent_aged(s[i].at, t);
  }
}

/** [l, r) leaves now. */
void tcp_sent_add(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, int rexmit, usec_t now) {
  uint32_t t = (uint32_t)now;
  if (c->n_sent == 0) /* draft-cheng-iccrg-delivery-rate-estimation 3.2: nothing was out */
    c->b->first_at = c->b->delivered_at = t;
  else if (rexmit)
    tcp_sent_cut(e, c, l, r);
  if (c->n_sent > 0 && sent_aged(tcp_sent_list(c)[0].from, t) != tcp_sent_list(c)[0].from)
    sent_age(c, t);
  struct tcp_sent *last = c->n_sent > 0 ? &tcp_sent_list(c)[c->n_sent - 1] : NULL;
  if (last != NULL && last->r == l && last->rexmit == rexmit && t - last->from <= c->srtt8 / 128) {
    last->r = r;
    last->at = (int32_t)(t - last->at) > 0 ? t : last->at;
    return;
  }
  if (last != NULL && (int32_t)(t - last->at) <= 0)
    t = last->at + 1; /* no two entries have the same time: it is their order */
  if (c->n_sent == sent_room(c) && !tcp_sent_grow(e, c) && !sent_squeeze(c)) {
    last = &tcp_sent_list(c)[c->n_sent - 1];
    last->l = seq_lt(l, last->l) ? l : last->l;
    last->r = seq_gt(r, last->r) ? r : last->r;
    last->at = t;
    last->rexmit |= (uint8_t)rexmit;
    if (c->d->nego & ABI_TCB_SACK)
      c->b->lost = tcp_sent_lost(c); /* what lay between was lost, and no longer counts as that */
    return;
  }
  tcp_sent_list(c)[c->n_sent++] = (struct tcp_sent){.l = l,
                                                    .r = r,
                                                    .from = t,
                                                    .at = t,
                                                    .delivered = c->b->delivered,
                                                    .delivered_at = c->b->delivered_at,
                                                    .first_at = c->b->first_at,
                                                    .rexmit = (uint8_t)rexmit,
                                                    .limited = c->b->app_limited != 0};
}

/** What counted as lost is out after all (undo, F-RTO): one entry for everything up to snd_max. */
void tcp_sent_all(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  tcp_sent_drop(c);
  if (c->snd_una != c->d->snd_max)
    tcp_sent_add(e, c, c->snd_una, c->d->snd_max, 1, now);
}

/* draft-cheng-iccrg-delivery-rate-estimation 3.3: the entry that left last among those that this ACK covers. */
static void sent_rate(struct tcp_env *e, struct tcp_conn *c, const struct tcp_sent *s, uint32_t at) {
  struct tcp_rate *rs = &e->rate;
  if (rs->valid && (int32_t)(s->delivered - rs->prior_delivered) < 0)
    return;
  rs->valid = 1;
  rs->prior_delivered = s->delivered;
  rs->prior_at = s->delivered_at;
  rs->send_us = at - s->first_at;
  rs->limited = s->limited;
  rs->rexmit = s->rexmit;
  rs->rtt_us = (int32_t)(c->b->delivered_at - at) > 0 ? c->b->delivered_at - at : 0;
  c->b->first_at = at;
}

/** [l, r) has arrived, and was not known to. `ts_ecr` of the ACK, 0 = none. Returns 1 if it came behind what was sent
 * after it although it was sent but once: the path reorders (RFC 8985 6.2 step 3). */
int tcp_sent_delivered(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, uint32_t ts_ecr, usec_t now) {
  seq32_t fack = e->fack;
  uint32_t low = seq_lt(l, fack) ? (seq_lt(r, fack) ? r : fack) - l : 0, again = 0, once = 0, kept = 0, n = c->n_sent;
  struct tcp_sent *list = tcp_sent_list(c);
  c->b->delivered += r - l;
  if (c->b->app_limited != 0 && (int32_t)(c->b->delivered - c->b->app_limited) > 0)
    c->b->app_limited = 0;
  c->b->delivered_at = (uint32_t)now;
  for (uint32_t i = 0; i < n; i++) {
    struct tcp_sent *s = &list[i];
    if (seq_lt(l, s->r) && seq_lt(s->l, r)) {
      seq32_t ol = seq_gt(s->l, l) ? s->l : l, or = seq_lt(s->r, r) ? s->r : r;
      uint32_t at = or == s->r ? s->at : s->from;
      *(s->rexmit ? &again : &once) += or -ol;
      tcp_rack_sent(c, s, at, or, ts_ecr, now);
      sent_rate(e, c, s, at);
      if (ol == s->l && or == s->r)
        continue; /* it goes */
      if (ol == s->l)
        s->l = or ;
      else if (or == s->r)
        s->r = ol;
    }
    if (kept != i)
      list[kept] = *s;
    kept++;
  }
  c->n_sent = (uint16_t)kept;
  if (low == 0)
    return 0;
  return c->recovery == TCP_LOSS ? once > 0 : low > again;
}

/** snd_una has moved, and the board told before of what lies around it. */
void tcp_sent_trim(struct tcp_conn *c) {
  for (uint32_t i = 0; i < c->n_sent;) {
    struct tcp_sent *s = &tcp_sent_list(c)[i];
    if (seq_leq(s->r, c->snd_una)) {
      tcp_sent_remove(c, i);
      continue;
    }
    if (seq_lt(s->l, c->snd_una))
      s->l = c->snd_una;
    i++;
  }
}

/* A walk over what is lost, from low to high: the list in the order of numbers, beside the board, which has it. */
struct sent_walk {
  seq32_t at;
  uint32_t i, k; /* next of order, next of the board */
  uint16_t order[TCP_SENT_LOG_ENTRIES];
};

static uint32_t sent_insert(const struct tcp_sent *s, uint16_t *order, uint32_t n, uint32_t i) {
  uint32_t k = n;
  for (; k > 0 && seq_lt(s[i].l, s[order[k - 1]].l); k--)
    order[k] = order[k - 1];
  order[k] = (uint16_t)i;
  return n + 1;
}

/* In the order of sending, new data and what is sent again are each nearly sorted: insertion has little to move. Then
 * the two are merged, from the highest down. */
static void sent_walk_begin(const struct tcp_conn *c, struct sent_walk *w, seq32_t from) {
  const struct tcp_sent *s = tcp_sent_list(c);
  uint16_t once[TCP_SENT_LOG_ENTRIES];
  uint32_t n = 0, again = 0;
  for (uint32_t i = 0; i < c->n_sent; i++) {
    if (s[i].rexmit)
      again = sent_insert(s, w->order, again, i);
    else
      n = sent_insert(s, once, n, i);
  }
  while (n > 0) {
    uint32_t k = n + again - 1;
    if (again > 0 && seq_lt(s[once[n - 1]].l, s[w->order[again - 1]].l))
      w->order[k] = w->order[--again];
    else
      w->order[k] = once[--n];
  }
  w->at = seq_gt(from, c->snd_una) ? from : c->snd_una;
  w->i = w->k = 0;
}

/* Next range [l, r) below snd_nxt that is on neither. 1 = found. */
static int sent_walk_next(const struct tcp_conn *c, struct sent_walk *w, struct tcp_sack *lost) {
  const struct tcp_sent *s = tcp_sent_list(c);
  const struct tcp_sack *b = tcp_board_list(c);
  for (seq32_t before = w->at - 1; before != w->at;) {
    before = w->at;
    for (; w->k < c->b->board.n && seq_leq(b[w->k].l, w->at); w->k++)
      w->at = seq_gt(b[w->k].r, w->at) ? b[w->k].r : w->at;
    for (; w->i < c->n_sent && seq_leq(s[w->order[w->i]].l, w->at); w->i++)
      w->at = seq_gt(s[w->order[w->i]].r, w->at) ? s[w->order[w->i]].r : w->at;
  }
  if (!seq_lt(w->at, c->snd_nxt))
    return 0;
  seq32_t end = c->snd_nxt;
  if (w->k < c->b->board.n && seq_lt(b[w->k].l, end))
    end = b[w->k].l;
  if (w->i < c->n_sent && seq_lt(s[w->order[w->i]].l, end))
    end = s[w->order[w->i]].l;
  *lost = (struct tcp_sack){w->at, end};
  w->at = end;
  return 1;
}

/* Whether something that is out was sent more than once. */
static int sent_again(const struct tcp_conn *c) {
  const struct tcp_sent *s = tcp_sent_list(c);
  for (uint32_t i = 0; i < c->n_sent; i++)
    if (s[i].rexmit)
      return 1;
  return 0;
}

/** Something is to be sent again, now. While anything is out that was sent again earlier, its time counts: an ACK of
 * that is newer than the first such time, and shows nothing (RFC 3522 3.2 step 1). */
void tcp_sent_mark_again(struct tcp_conn *c, usec_t now) {
  if (!sent_again(c))
    c->b->rexmit_ts = tcp_open_ts(c->d, now);
}

/** First range [l, r) at or above `from` and below snd_nxt that is lost. 1 = found. */
int tcp_sent_lost_next(const struct tcp_conn *c, seq32_t from, struct tcp_sack *lost) {
  struct sent_walk w;
  sent_walk_begin(c, &w, from);
  return sent_walk_next(c, &w, lost);
}

/** Bytes below snd_nxt that are lost and not sent again. */
uint32_t tcp_sent_lost(const struct tcp_conn *c) {
  struct sent_walk w;
  struct tcp_sack h;
  uint32_t n = 0;
  sent_walk_begin(c, &w, c->snd_una);
  while (sent_walk_next(c, &w, &h))
    n += h.r - h.l;
  return n;
}

/** 0, or a line number. */
int tcp_sent_check(const struct tcp_conn *c) {
  const struct tcp_sent *s = tcp_sent_list(c);
  if (c->n_sent > sent_room(c))
    return __LINE__;
  for (uint32_t i = 0; i < c->n_sent; i++) {
    if (!seq_lt(s[i].l, s[i].r) || seq_gt(s[i].r, c->d->snd_max) || seq_lt(s[i].l, c->snd_una))
      return __LINE__;
    if ((int32_t)(s[i].at - s[i].from) < 0 || (i > 0 && (int32_t)(s[i].at - s[i - 1].at) < 0))
      return __LINE__;
  }
  if (c->recovery == TCP_OPEN && tcp_synchronized(tcp_state(c)) && tcp_sent_lost(c) > 0)
    return __LINE__; /* every byte that is out is somewhere in the list */
  return c->b->lost == tcp_sent_lost(c) || !(c->d->nego & ABI_TCB_SACK) ? 0 : __LINE__;
}
