/*
 * The sender's scoreboard: ranges above snd_una that the peer's SACK options reported (RFC 2018 5, RFC 6675 3). Soft: a
 * successor starts without it. Sorted and disjoint; when it is full the highest range is forgotten, which costs a
 * needless retransmission at worst. Hostile options are cut to [snd_una, snd_max). Called by tcp_ack.c, tcp_loss.c,
 * tcp_output.c.
 */
#include "tcp_int.h"

/* Insert [l, r) and return how many bytes of it are new. */
static uint32_t board_add(struct tcp_board *b, seq32_t l, seq32_t r) {
  uint32_t i = 0, before = b->bytes, k;
  while (i < b->n && seq_lt(b->r[i].r, l))
    i++;
  for (k = i; k < b->n && seq_leq(b->r[k].l, r); k++) { /* touching or overlapping: swallow */
    l = seq_lt(b->r[k].l, l) ? b->r[k].l : l;
    r = seq_gt(b->r[k].r, r) ? b->r[k].r : r;
    b->bytes -= b->r[k].r - b->r[k].l;
  }
  if (k == i) { /* a range of its own */
    if (b->n == TCP_BOARD_MAX) {
      if (i == b->n)
        return 0; /* the highest of all: forgotten */
      b->n--;
      b->bytes -= b->r[b->n].r - b->r[b->n].l;
    }
    memmove(&b->r[i + 1], &b->r[i], (b->n - i) * sizeof b->r[0]);
    b->n++;
  } else if (k > i + 1) {
    memmove(&b->r[i + 1], &b->r[k], (b->n - k) * sizeof b->r[0]);
    b->n -= k - i - 1;
  }
  b->r[i] = (struct tcp_sack){l, r};
  b->bytes += r - l;
  return b->bytes > before ? b->bytes - before : 0;
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
  const struct tcp_board *b = &c->board;
  for (uint32_t i = 0; i <= b->n && seq_lt(l, r); i++) {
    seq32_t end = i < b->n && seq_lt(b->r[i].l, r) ? b->r[i].l : r;
    if (seq_lt(l, end))
      news->late |= tcp_sent_delivered(e, c, l, end, ts_ecr, now);
    if (i < b->n && seq_lt(l, b->r[i].r))
      l = b->r[i].r;
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
    if (seq_gt(r, una)) {
      l = seq_lt(l, una) ? una : l;
      tcp_sack_arrived(e, c, l, r, ts_ecr, news, now);
      news->bytes += board_add(&c->board, l, r);
    }
  }
}

/** snd_una has moved: what it covers is off the board. */
void tcp_sack_acked(struct tcp_conn *c) {
  struct tcp_board *b = &c->board;
  uint32_t i = 0;
  while (i < b->n && seq_leq(b->r[i].r, c->snd_una)) {
    b->bytes -= b->r[i].r - b->r[i].l;
    i++;
  }
  if (i > 0) {
    memmove(&b->r[0], &b->r[i], (b->n - i) * sizeof b->r[0]);
    b->n -= i;
  }
}

/** First hole [l, r) at or above `from` and below the highest SACK. 1 = found. */
int tcp_sack_hole(const struct tcp_conn *c, seq32_t from, struct tcp_sack *hole) {
  const struct tcp_board *b = &c->board;
  seq32_t at = seq_gt(from, c->snd_una) ? from : c->snd_una;
  for (uint32_t i = 0; i < b->n; i++) {
    if (seq_lt(at, b->r[i].l)) {
      *hole = (struct tcp_sack){at, b->r[i].l};
      return 1;
    }
    if (seq_lt(at, b->r[i].r))
      at = b->r[i].r;
  }
  return 0;
}

/** Bytes SACKed at or above `seq`. */
uint32_t tcp_sack_above(const struct tcp_conn *c, seq32_t seq) {
  const struct tcp_board *b = &c->board;
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->n; i++)
    if (seq_gt(b->r[i].r, seq))
      n += b->r[i].r - (seq_gt(b->r[i].l, seq) ? b->r[i].l : seq);
  return n;
}

/** Where to go on sending from `seq` after an RTO: behind the range that holds it; *len is cut at the next range. */
seq32_t tcp_sack_skip(const struct tcp_conn *c, seq32_t seq, uint32_t *len) {
  const struct tcp_board *b = &c->board;
  for (uint32_t i = 0; i < b->n; i++) {
    if (seq_lt(seq, b->r[i].l)) {
      *len = HS_MIN(*len, b->r[i].l - seq);
      break;
    }
    if (seq_lt(seq, b->r[i].r))
      seq = b->r[i].r;
  }
  return seq;
}

/** 0, or a line number. */
int tcp_sack_check(const struct tcp_conn *c) {
  const struct tcp_board *b = &c->board;
  uint32_t bytes = 0;
  if (b->n > TCP_BOARD_MAX)
    return __LINE__;
  for (uint32_t i = 0; i < b->n; i++) {
    if (!seq_lt(b->r[i].l, b->r[i].r) || seq_lt(b->r[i].l, c->snd_una) || seq_gt(b->r[i].r, c->d->snd_max))
      return __LINE__;
    if (i > 0 && !seq_gt(b->r[i].l, b->r[i - 1].r))
      return __LINE__;
    bytes += b->r[i].r - b->r[i].l;
  }
  return bytes == b->bytes ? 0 : __LINE__;
}
