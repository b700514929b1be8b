/*
 * The sender's scoreboard: ranges above snd_una that the peer's SACK options reported (RFC 2018 5, RFC 6675 3). Soft: a
 * successor starts without it. Sorted and disjoint; sixteen ranges lie in the connection, more in its log (tcp_sent.c).
 * On a full board the lowest are kept; what has arrived above them counts as being in the network still, never as lost,
 * or each such segment would be sent again. Hostile options are cut to [snd_una, snd_max). Called by tcp_ack.c,
 * tcp_loss.c, tcp_output.c.
 */
#include "tcp_int.h"

/* First range that ends above `seq`; board.n = none. */
static uint32_t board_find(const struct tcp_conn *c, seq32_t seq) {
  const struct tcp_sack *b = tcp_board_list(c);
  uint32_t lo = 0, hi = c->b->board.n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (seq_gt(b[mid].r, seq))
      hi = mid;
    else
      lo = mid + 1;
  }
  return lo;
}

/** End of the highest range, or snd_una. */
seq32_t tcp_sack_top(const struct tcp_conn *c) {
  return c->b->board.n > 0 ? tcp_board_list(c)[c->b->board.n - 1].r : c->snd_una;
}

/** No room for a further range: what has arrived above the highest may not be known. */
int tcp_sack_full(const struct tcp_conn *c) {
  return c->b->board.n == tcp_board_room(c);
}

/* Whether [l, r) can be taken: it touches a range, or there is room, or a higher one can go in its place. */
static int board_takes(struct tcp_env *e, struct tcp_conn *c, seq32_t l) {
  return !tcp_sack_full(c) || seq_leq(l, tcp_sack_top(c)) || tcp_sent_grow(e, c);
}

/* A range of its own at index i. On a full board the highest makes room: what it told counts as sent just now. */
static void board_open(struct tcp_env *e, struct tcp_conn *c, uint32_t i, usec_t now) {
  if (tcp_sack_full(c) && !tcp_sent_grow(e, c)) {
    struct tcp_sack last = tcp_board_list(c)[--c->b->board.n];
    c->b->board.bytes -= last.r - last.l;
    tcp_sent_mark_again(c, now);
    tcp_sent_add(e, c, last.l, last.r, 1, now);
  }
  struct tcp_sack *b = tcp_board_list(c);
  memmove(&b[i + 1], &b[i], (c->b->board.n - i) * sizeof *b);
  c->b->board.n++;
}

/* Insert [l, r), which board_takes, and return how many bytes of it are new. */
static uint32_t board_add(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, usec_t now) {
  struct tcp_board *b = &c->b->board;
  const struct tcp_sack *at = tcp_board_list(c);
  uint32_t i = board_find(c, l - 1), had = 0, k;
  for (k = i; k < b->n && seq_leq(at[k].l, r); k++) { /* touching or overlapping: swallow */
    l = seq_lt(at[k].l, l) ? at[k].l : l;
    r = seq_gt(at[k].r, r) ? at[k].r : r;
    had += at[k].r - at[k].l;
  }
  if (k == i) {
    board_open(e, c, i, now);
  } else if (k > i + 1) {
    memmove(&tcp_board_list(c)[i + 1], &at[k], (b->n - k) * sizeof *at);
    b->n -= k - i - 1;
  }
  tcp_board_list(c)[i] = (struct tcp_sack){l, r};
  b->bytes += r - l - had;
  return r - l - had;
}

/* RFC 2883 4: the first block is a DSACK if it lies below the ACK or inside the second block. */
static int sack_is_dsack(const struct tcp_opts *o, seq32_t ack, unsigned i) {
  if (i != 0)
    return 0;
  if (seq_leq(o->sack[0].r, ack))
    return 1;
  return o->n_sack > 1 && seq_geq(o->sack[0].l, o->sack[1].l) && seq_leq(o->sack[0].r, o->sack[1].r);
}

/** [l, r) has arrived: tell of what the board does not have yet. news->late: something came behind what was sent after
 * it, and we had not sent it twice: the path reorders. */
void tcp_sack_arrived(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, uint32_t ts_ecr,
                      struct tcp_sack_news *news, usec_t now) {
  const struct tcp_sack *b = tcp_board_list(c);
  for (uint32_t i = board_find(c, l); i <= c->b->board.n && seq_lt(l, r); i++) {
    seq32_t end = i < c->b->board.n && seq_lt(b[i].l, r) ? b[i].l : r;
    if (seq_lt(l, end))
      news->late |= tcp_sent_delivered(e, c, l, end, ts_ecr, now);
    if (i < c->b->board.n && seq_lt(l, b[i].r))
      l = b[i].r;
  }
}

/** Take the SACK option of `seg` onto the board. */
void tcp_sack_update(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, uint32_t ts_ecr,
                     struct tcp_sack_news *news, usec_t now) {
  const struct tcp_opts *o = &seg->hdr.opts;
  *news = (struct tcp_sack_news){0};
  if (!(c->d->nego & ABI_TCB_SACK) || !(o->present & TCP_OPT_HAS_SACK))
    return;
  seq32_t una = seq_gt(seg->hdr.ack, c->snd_una) ? seg->hdr.ack : c->snd_una;
  for (unsigned i = 0; i < o->n_sack && i < TCP_SACK_MAX; i++) {
    seq32_t l = o->sack[i].l, r = o->sack[i].r;
    if (!seq_lt(l, r) || seq_gt(r, c->d->snd_max))
      continue;
    if (sack_is_dsack(o, seg->hdr.ack, i)) {
      news->dsack += HS_MIN(r - l, 1u << 24);
      continue;
    }
    if (seq_gt(r, una) && board_takes(e, c, l)) {
      l = seq_lt(l, una) ? una : l;
      tcp_sack_arrived(e, c, l, r, ts_ecr, news, now);
      news->bytes += board_add(e, c, l, r, now);
    }
  }
}

/** snd_una has moved: what it covers is off the board. */
void tcp_sack_acked(struct tcp_conn *c) {
  struct tcp_sack *b = tcp_board_list(c);
  uint32_t n = board_find(c, c->snd_una);
  for (uint32_t i = 0; i < n; i++)
    c->b->board.bytes -= b[i].r - b[i].l;
  if (n > 0) {
    c->b->board.n -= n;
    memmove(b, &b[n], c->b->board.n * sizeof *b);
  }
}

/** First hole [l, r) at or above `from` and below the highest SACK. 1 = found. */
int tcp_sack_hole(const struct tcp_conn *c, seq32_t from, struct tcp_sack *hole) {
  const struct tcp_sack *b = tcp_board_list(c);
  seq32_t at = seq_gt(from, c->snd_una) ? from : c->snd_una;
  uint32_t i = board_find(c, at);
  if (i < c->b->board.n && seq_leq(b[i].l, at))
    at = b[i++].r;
  if (i == c->b->board.n)
    return 0;
  *hole = (struct tcp_sack){at, b[i].l};
  return 1;
}

/** Bytes SACKed of [l, r). */
uint32_t tcp_sack_within(const struct tcp_conn *c, seq32_t l, seq32_t r) {
  const struct tcp_sack *b = tcp_board_list(c);
  uint32_t n = 0;
  for (uint32_t i = board_find(c, l); i < c->b->board.n && seq_lt(b[i].l, r); i++)
    n += (seq_lt(b[i].r, r) ? b[i].r : r) - (seq_gt(b[i].l, l) ? b[i].l : l);
  return n;
}

/** Bytes SACKed at or above `seq`. */
uint32_t tcp_sack_above(const struct tcp_conn *c, seq32_t seq) {
  seq32_t top = tcp_sack_top(c);
  return seq_lt(seq, top) ? tcp_sack_within(c, seq, top) : 0;
}

/** Where to go on sending from `seq` after an RTO: behind the range that holds it; *len is cut at the next range. */
seq32_t tcp_sack_skip(const struct tcp_conn *c, seq32_t seq, uint32_t *len) {
  const struct tcp_sack *b = tcp_board_list(c);
  for (uint32_t i = board_find(c, seq); i < c->b->board.n; i++) {
    if (seq_lt(seq, b[i].l)) {
      *len = HS_MIN(*len, b[i].l - seq);
      break;
    }
    seq = b[i].r;
  }
  return seq;
}

/** 0, or a line number. */
int tcp_sack_check(const struct tcp_conn *c) {
  const struct tcp_sack *b = tcp_board_list(c);
  uint32_t bytes = 0;
  if (c->b->board.n > tcp_board_room(c))
    return __LINE__;
  for (uint32_t i = 0; i < c->b->board.n; i++) {
    if (!seq_lt(b[i].l, b[i].r) || seq_lt(b[i].l, c->snd_una) || seq_gt(b[i].r, c->d->snd_max))
      return __LINE__;
    if (i > 0 && !seq_gt(b[i].l, b[i - 1].r))
      return __LINE__;
    bytes += b[i].r - b[i].l;
  }
  return bytes == c->b->board.bytes ? 0 : __LINE__;
}
