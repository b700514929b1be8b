/*
 * Ranges of received data beyond a hole; their bytes lie in the rx fifo beyond its tail. Eight are durable (d->ooo). A
 * ninth borrows a log (tcp_log.c), in which all of them lie from then on, sorted, until there is none left; eight of
 * those are durable still, the others die with the engine: the peer sends their bytes again, which is SACK reneging as
 * RFC 2018 8 allows.
 *
 * Each change of d->ooo is one 8-byte store, or grows one range before another inside it is cleared: every prefix is
 * valid, since ranges may overlap and may lie below rcv_nxt (they are trimmed). c->ooo_none spares a connection without
 * any the look at all of them; false says nothing. Builds SACK (RFC 2018 4) and DSACK (RFC 2883) options.
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

/* Range k of those that there are, in no order: 1 = *r holds it, 0 = nothing there, -1 = no more. */
static int ooo_nth(const struct tcp_conn *c, uint32_t k, struct tcp_sack *r) {
  const struct tcp_ooo_log *g = c->b->ooo_log;
  if (k >= (g != NULL ? g->n : ABI_TCB_OOO))
    return -1;
  *r = g != NULL ? g->r[k] : (struct tcp_sack){c->d->ooo[k].l, c->d->ooo[k].r};
  return r->l != r->r;
}

/* First range of the log that ends at or above `seq`; n = none. */
static uint32_t ooo_log_find(const struct tcp_ooo_log *g, seq32_t seq) {
  uint32_t lo = 0, hi = g->n;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (seq_geq(g->r[mid].r, seq))
      hi = mid;
    else
      lo = mid + 1;
  }
  return lo;
}

/* The lowest range that ends above `seq`. 1 = *r holds it. */
static int ooo_above(const struct tcp_conn *c, seq32_t seq, struct tcp_sack *r) {
  const struct tcp_ooo_log *g = c->b->ooo_log;
  struct tcp_sack o;
  int found = 0;
  if (g != NULL) {
    uint32_t i = ooo_log_find(g, seq + 1);
    if (i < g->n)
      *r = g->r[i];
    return i < g->n;
  }
  for (uint32_t k = 0; k < ABI_TCB_OOO; k++) {
    if (ooo_nth(c, k, &o) != 1 || !seq_gt(o.r, seq) || (found && seq_geq(o.l, r->l)))
      continue;
    *r = o;
    found = 1;
  }
  return found;
}

int tcp_ooo_empty(const struct tcp_conn *c) {
  if (HS_LIKELY(c->ooo_none))
    return 1;
  if (c->b->ooo_log != NULL)
    return 0;
  for (unsigned i = 0; i < ABI_TCB_OOO; i++)
    if (ooo_used(&c->d->ooo[i]))
      return 0;
  return 1;
}

/* [l, r) is a range now, and the byte at `seq` of it came last: first in the next SACK option. */
static void ooo_latest(struct tcp_conn *c, seq32_t seq, seq32_t l, seq32_t r) {
  struct tcp_busy *b = c->b;
  uint32_t n = 0;
  seq32_t others[TCP_OOO_LATEST];
  for (uint32_t k = 0; k < b->n_ooo_latest; k++)
    if ((seq_lt(b->ooo_latest[k], l) || seq_geq(b->ooo_latest[k], r)) && seq_gt(b->ooo_latest[k], c->rcv_nxt))
      others[n++] = b->ooo_latest[k];
  n = HS_MIN(n, TCP_OOO_LATEST - 1);
  b->ooo_latest[0] = seq;
  memcpy(b->ooo_latest + 1, others, n * sizeof others[0]);
  b->n_ooo_latest = n + 1;
}

/* Durable ranges that [l, r) of index i has grown into are swallowed. */
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

/* [*l, *r) becomes durable, if it touches a range that is, or there is room; *l and *r are what it is part of now. 0,
 * or -ENOSPC. */
static int ooo_add_durable(struct tcp_conn *c, seq32_t *l, seq32_t *r) {
  struct abi_seq_range *o = c->d->ooo;
  unsigned i, empty = ABI_TCB_OOO;
  for (i = 0; i < ABI_TCB_OOO; i++) {
    if (!ooo_used(&o[i])) {
      empty = i;
      continue;
    }
    if (seq_leq(o[i].l, *r) && seq_geq(o[i].r, *l))
      break;
  }
  if (i == ABI_TCB_OOO) {
    if (empty == ABI_TCB_OOO)
      return -ENOSPC;
    i = empty;
    ooo_store(&o[i], *l, *r);
  } else {
    seq32_t nl = seq_lt(*l, o[i].l) ? *l : o[i].l, nr = seq_gt(*r, o[i].r) ? *r : o[i].r;
    if (nl != o[i].l || nr != o[i].r)
      ooo_store(&o[i], nl, nr);
  }
  FAULT_POINT("tcp.ooo.added");
  ooo_swallow(c, i);
  *l = o[i].l;
  *r = o[i].r;
  return 0;
}

/* All durable ranges are in use and a further one is to be remembered: into a log with them. 1 = done. */
static int ooo_log_begin(struct tcp_env *e, struct tcp_conn *c) {
  struct tcp_ooo_log *g = tcp_log_get(e, 1);
  if (g == NULL)
    return 0;
  g->n = 0;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    struct tcp_sack o = {c->d->ooo[k].l, c->d->ooo[k].r};
    uint32_t i = ooo_log_find(g, o.l);
    memmove(&g->r[i + 1], &g->r[i], (g->n - i) * sizeof o);
    g->r[i] = o;
    g->n++;
  }
  c->b->ooo_log = g;
  TCP_COUNT(e, ooo_logs);
  return 1;
}

/* As ooo_add_durable, in the log; what is durable of it grows along. */
static int ooo_add_log(struct tcp_conn *c, seq32_t *l, seq32_t *r) {
  struct tcp_ooo_log *g = c->b->ooo_log;
  uint32_t i = ooo_log_find(g, *l), k;
  for (k = i; k < g->n && seq_leq(g->r[k].l, *r); k++) { /* touching or overlapping */
    *l = seq_lt(g->r[k].l, *l) ? g->r[k].l : *l;
    *r = seq_gt(g->r[k].r, *r) ? g->r[k].r : *r;
  }
  if (k == i && g->n == TCP_OOO_LOG)
    return -ENOSPC;
  memmove(&g->r[i + 1], &g->r[k], (g->n - k) * sizeof g->r[0]);
  g->n = g->n + 1 - (k - i);
  g->r[i] = (struct tcp_sack){*l, *r};
  seq32_t durable_l = *l, durable_r = *r;
  (void)ooo_add_durable(c, &durable_l, &durable_r); /* no room: it dies with the engine */
  return 0;
}

/** Remember [l, r), whose bytes were placed. 0, or -ENOSPC: all ranges are in use, treat as not received. */
int tcp_ooo_add(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r) {
  seq32_t seq = l;
  int err = c->b->ooo_log == NULL ? ooo_add_durable(c, &l, &r) : -ENOSPC;
  if (err < 0 && (c->b->ooo_log != NULL || ooo_log_begin(e, c)))
    err = ooo_add_log(c, &l, &r);
  c->ooo_none = 0;
  if (err == 0)
    ooo_latest(c, seq, l, r);
  return err;
}

/** Where in-order data ends when bytes up to `to` are here: behind every range that touches it. */
seq32_t tcp_ooo_reach(const struct tcp_conn *c, seq32_t to) {
  struct tcp_sack r;
  if (HS_LIKELY(c->ooo_none) || !ooo_above(c, to, &r) || seq_gt(r.l, to))
    return to;
  return r.r; /* ranges do not touch each other */
}

/** The log goes home. */
void tcp_ooo_release(struct tcp_env *e, struct tcp_conn *c) {
  if (c->b->ooo_log == NULL)
    return;
  tcp_log_put(e, c->b->ooo_log);
  c->b->ooo_log = NULL;
}

/* Those of the log at or below rcv_nxt go; with the last the log. */
static void ooo_trim_log(struct tcp_env *e, struct tcp_conn *c) {
  struct tcp_ooo_log *g = c->b->ooo_log;
  uint32_t n = 0;
  while (n < g->n && seq_leq(g->r[n].l, c->rcv_nxt))
    n++;
  g->n -= n;
  if (g->n == 0)
    tcp_ooo_release(e, c);
  else if (n > 0)
    memmove(g->r, &g->r[n], g->n * sizeof g->r[0]);
}

/** Forget what lies at or below rcv_nxt. A crash between publish and this leaves ranges below rcv_nxt: trimmed here. */
void tcp_ooo_trim(struct tcp_env *e, struct tcp_conn *c) {
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
  if (c->b->ooo_log != NULL)
    ooo_trim_log(e, c);
  c->ooo_none = left == 0 && c->b->ooo_log == NULL;
  if (c->ooo_none)
    c->b->n_ooo_latest = 0;
}

/** Forget them all: the stream ends at the peer's FIN, what a liar sent beyond it is nothing. */
void tcp_ooo_clear(struct tcp_env *e, struct tcp_conn *c) {
  for (unsigned k = 0; k < ABI_TCB_OOO; k++)
    if (ooo_used(&c->d->ooo[k]))
      ooo_store(&c->d->ooo[k], 0, 0);
  tcp_ooo_release(e, c);
  c->ooo_none = 1;
  c->b->n_ooo_latest = 0;
}

int tcp_ooo_covers(const struct tcp_conn *c, seq32_t l, seq32_t r) {
  struct tcp_sack o;
  return ooo_above(c, l, &o) && seq_leq(o.l, l) && seq_geq(o.r, r);
}

void tcp_ooo_dsack_part(struct tcp_conn *c, seq32_t l, seq32_t r) {
  struct tcp_sack first;
  if (ooo_above(c, l, &first) && seq_lt(first.l, r))
    tcp_ooo_dsack(c, seq_gt(first.l, l) ? first.l : l, seq_lt(first.r, r) ? first.r : r);
}

void tcp_ooo_dsack(struct tcp_conn *c, seq32_t l, seq32_t r) {
  if (c->d->nego & ABI_TCB_SACK)
    c->b->dsack = (struct tcp_sack){l, r};
}

/* One more block, unless it is there already. Returns how many there are. */
static unsigned ooo_option_add(struct tcp_opts *o, unsigned first, unsigned n, const struct tcp_sack *r) {
  for (unsigned i = first; i < n; i++)
    if (o->sack[i].l == r->l)
      return n;
  o->sack[n] = *r;
  return n + 1;
}

/** Fill the SACK option: a pending DSACK first (RFC 2883 4), then the ranges that segments fell into, latest first,
 * then any others (RFC 2018 4). */
void tcp_ooo_options(struct tcp_conn *c, struct tcp_opts *o) {
  unsigned max = c->d->nego & ABI_TCB_TS ? 3 : 4, n = 0;
  struct tcp_sack r;
  if (!(c->d->nego & ABI_TCB_SACK))
    return;
  if (c->b->dsack.l != c->b->dsack.r) {
    o->sack[n++] = c->b->dsack;
    c->b->dsack = (struct tcp_sack){0, 0};
  }
  unsigned first = n;
  for (uint32_t k = 0; k < c->b->n_ooo_latest && n < max; k++) {
    seq32_t seq = c->b->ooo_latest[k];
    if (ooo_above(c, seq, &r) && seq_leq(r.l, seq) && seq_gt(r.l, c->rcv_nxt))
      n = ooo_option_add(o, first, n, &r);
  }
  int more = c->ooo_none ? -1 : 1;
  for (uint32_t k = 0; more >= 0 && n < max; k++)
    if ((more = ooo_nth(c, k, &r)) == 1 && seq_gt(r.l, c->rcv_nxt))
      n = ooo_option_add(o, first, n, &r);
  o->n_sack = (uint8_t)n;
  if (n > 0)
    o->present |= TCP_OPT_HAS_SACK;
}

/* The log is in order, and holds what is durable. */
static int ooo_check_log(const struct tcp_conn *c) {
  const struct tcp_ooo_log *g = c->b->ooo_log;
  if (g->n == 0 || g->n > TCP_OOO_LOG || c->ooo_none)
    return __LINE__;
  for (uint32_t i = 0; i < g->n; i++) {
    if (seq_leq(g->r[i].l, i > 0 ? g->r[i - 1].r : c->rcv_nxt) || seq_geq(g->r[i].l, g->r[i].r))
      return __LINE__;
  }
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    const struct abi_seq_range *o = &c->d->ooo[k];
    uint32_t i = ooo_used(o) ? ooo_log_find(g, o->r) : 0;
    if (ooo_used(o) && (i == g->n || g->r[i].l != o->l || g->r[i].r != o->r))
      return __LINE__;
  }
  return seq_gt(g->r[g->n - 1].r, c->d->rcv_adv) ? __LINE__ : 0;
}

/** 0, or a line number. */
int tcp_ooo_check(const struct tcp_conn *c) {
  const struct abi_seq_range *o = c->d->ooo;
  if (c->b->n_ooo_latest > TCP_OOO_LATEST)
    return __LINE__;
  for (unsigned k = 0; k < ABI_TCB_OOO; k++) {
    if (!ooo_used(&o[k]))
      continue;
    if (c->ooo_none || seq_leq(o[k].l, c->rcv_nxt) || seq_geq(o[k].l, o[k].r) || seq_gt(o[k].r, c->d->rcv_adv))
      return __LINE__;
    for (unsigned i = 0; i < k; i++)
      if (ooo_used(&o[i]) && seq_leq(o[i].l, o[k].r) && seq_geq(o[i].r, o[k].l))
        return __LINE__;
  }
  return c->b->ooo_log != NULL ? ooo_check_log(c) : 0;
}
