/*
 * Out-of-order ranges of received data: durable, at most ABI_TCB_OOO, their bytes lie in the rx fifo beyond its tail.
 * Each change is one 8-byte store, or grows one range before another inside it is cleared: every prefix is valid, since
 * ranges may overlap and may lie below rcv_nxt (they are trimmed). c->ooo_none spares a connection without any the look
 * at all of them; false says nothing. Builds SACK (RFC 2018 4) and DSACK (RFC 2883) options.
 * Called by tcp_recv.c, tcp_output.c, tcp_adopt.c.
 */
#include "tcp_int.h"

static void ooo_store(struct abi_seq_range *r, seq32_t left, seq32_t right) {
  struct abi_seq_range v = {left, right};
  uint64_t word;
  memcpy(&word, &v, sizeof word);
  __atomic_store_n((uint64_t *)(void *)r, word, __ATOMIC_RELEASE);
}

static int ooo_used(const struct abi_seq_range *r) {
  return r->l != r->r;
}

int tcp_ooo_empty(const struct tcp_conn *c) {
  if (HS_LIKELY(c->ooo_none))
    return 1;
  for (unsigned i = 0; i < ABI_TCB_OOO; i++)
    if (ooo_used(&c->d->ooo[i]))
      return 0;
  return 1;
}

/* Index i was touched last: first in the next SACK option. */
static void ooo_latest(struct tcp_conn *c, unsigned i) {
  unsigned k = 0;
  while (k < ABI_TCB_OOO - 1 && c->b->ooo_order[k] != i)
    k++;
  memmove(c->b->ooo_order + 1, c->b->ooo_order, k);
  c->b->ooo_order[0] = (uint8_t)i;
}

/* Ranges that [l, r) of index i has grown into are swallowed. */
static void ooo_swallow(struct tcp_conn *c, unsigned i) {
  struct abi_seq_range *o = c->d->ooo;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    if (k == i || !ooo_used(&o[k]) || seq_gt(o[k].l, o[i].r) || seq_lt(o[k].r, o[i].l))
      continue;
    seq32_t l = seq_lt(o[k].l, o[i].l) ? o[k].l : o[i].l;
    seq32_t r = seq_gt(o[k].r, o[i].r) ? o[k].r : o[i].r;
    ooo_store(&o[i], l, r);
    FAULT_POINT("tcp.ooo.merged"); /* prefix: k lies inside i */
    ooo_store(&o[k], 0, 0);
    k = (unsigned)-1; /* grown: look at all of them again */
  }
}

/** Remember [l, r), whose bytes were placed. 0, or -ENOSPC: all ranges are in use, treat as not received. */
int tcp_ooo_add(struct tcp_conn *c, seq32_t l, seq32_t r) {
  struct abi_seq_range *o = c->d->ooo;
  unsigned i, empty = ABI_TCB_OOO;
  c->ooo_none = 0;
  for (i = 0; i < ABI_TCB_OOO; i++) {
    if (!ooo_used(&o[i])) {
      empty = i;
      continue;
    }
    if (seq_leq(o[i].l, r) && seq_geq(o[i].r, l))
      break;
  }
  if (i == ABI_TCB_OOO) {
    if (empty == ABI_TCB_OOO)
      return -ENOSPC;
    i = empty;
    ooo_store(&o[i], l, r);
  } else {
    seq32_t nl = seq_lt(l, o[i].l) ? l : o[i].l, nr = seq_gt(r, o[i].r) ? r : o[i].r;
    if (nl != o[i].l || nr != o[i].r)
      ooo_store(&o[i], nl, nr);
  }
  FAULT_POINT("tcp.ooo.added");
  ooo_swallow(c, i);
  ooo_latest(c, i);
  return 0;
}

/** Where in-order data ends when bytes up to `to` are here: behind every range that touches it. */
seq32_t tcp_ooo_reach(const struct tcp_conn *c, seq32_t to) {
  const struct abi_seq_range *o = c->d->ooo;
  if (HS_LIKELY(c->ooo_none))
    return to;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&o[k]) && seq_leq(o[k].l, to) && seq_gt(o[k].r, to)) {
      to = o[k].r;
      k = (unsigned)-1;
    }
  return to;
}

/** Forget what lies at or below rcv_nxt. A crash between publish and this leaves ranges below rcv_nxt: trimmed here. */
void tcp_ooo_trim(struct tcp_conn *c) {
  struct abi_seq_range *o = c->d->ooo;
  unsigned left = 0;
  if (HS_LIKELY(c->ooo_none))
    return;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&o[k]) && seq_leq(o[k].l, c->rcv_nxt)) {
      ooo_store(&o[k], 0, 0);
      FAULT_POINT("tcp.ooo.trimmed");
    } else {
      left += (unsigned)ooo_used(&o[k]);
    }
  c->ooo_none = left == 0;
}

/** Forget them all: the stream ends at the peer's FIN, what a liar sent beyond it is nothing. */
void tcp_ooo_clear(struct tcp_conn *c) {
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&c->d->ooo[k]))
      ooo_store(&c->d->ooo[k], 0, 0);
  c->ooo_none = 1;
}

int tcp_ooo_covers(const struct tcp_conn *c, seq32_t l, seq32_t r) {
  const struct abi_seq_range *o = c->d->ooo;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&o[k]) && seq_leq(o[k].l, l) && seq_geq(o[k].r, r))
      return 1;
  return 0;
}

void tcp_ooo_dsack_part(struct tcp_conn *c, seq32_t l, seq32_t r) {
  const struct abi_seq_range *o = c->d->ooo, *first = NULL;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&o[k]) && seq_lt(o[k].l, r) && seq_gt(o[k].r, l) && (first == NULL || seq_lt(o[k].l, first->l)))
      first = &o[k];
  if (first != NULL)
    tcp_ooo_dsack(c, seq_gt(first->l, l) ? first->l : l, seq_lt(first->r, r) ? first->r : r);
}

void tcp_ooo_dsack(struct tcp_conn *c, seq32_t l, seq32_t r) {
  if (c->d->nego & ABI_TCB_SACK)
    c->b->dsack = (struct tcp_sack){l, r};
}

/** Fill the SACK option: a pending DSACK first (RFC 2883 4), then ranges, latest first. */
void tcp_ooo_options(struct tcp_conn *c, struct tcp_opts *o) {
  const struct abi_seq_range *d = c->d->ooo;
  unsigned max = c->d->nego & ABI_TCB_TS ? 3 : 4, n = 0;
  if (!(c->d->nego & ABI_TCB_SACK))
    return;
  if (c->b->dsack.l != c->b->dsack.r) {
    o->sack[n++] = c->b->dsack;
    c->b->dsack = (struct tcp_sack){0, 0};
  }
  for (unsigned k = 0; k < ABI_TCB_OOO && n < max && !c->ooo_none; k++) {
    const struct abi_seq_range *r = &d[c->b->ooo_order[k]];
    if (ooo_used(r) && seq_gt(r->l, c->rcv_nxt))
      o->sack[n++] = (struct tcp_sack){r->l, r->r};
  }
  o->n_sack = (uint8_t)n;
  if (n > 0)
    o->present |= TCP_OPT_HAS_SACK;
}

/** 0, or a line number. */
int tcp_ooo_check(const struct tcp_conn *c) {
  const struct abi_seq_range *o = c->d->ooo;
  uint32_t seen = 0;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    if (c->b->ooo_order[k] >= ABI_TCB_OOO)
      return __LINE__;
    seen |= 1u << c->b->ooo_order[k];
    if (!ooo_used(&o[k]))
      continue;
    if (c->ooo_none || seq_leq(o[k].l, c->rcv_nxt) || seq_geq(o[k].l, o[k].r) || seq_gt(o[k].r, c->d->rcv_adv))
      return __LINE__;
    for (unsigned i = 0; i < k; i++)
      if (ooo_used(&o[i]) && seq_leq(o[i].l, o[k].r) && seq_geq(o[i].r, o[k].l))
        return __LINE__;
  }
  return seen == (1u << ABI_TCB_OOO) - 1 ? 0 : __LINE__;
}
