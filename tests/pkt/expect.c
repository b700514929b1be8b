/*
 * `>` lines: the next segment, within the time that the line gives, on its connection, with exactly these numbers,
 * options and bytes; learns from it what later lines refer to. Called by run.c and state.c.
 */
#include "run.h"

#include <string.h>

#define LATE 400000u /* how long to wait for a frame that is overdue, so that the message can say so */

/* When may the segment come? */
static void window_of(const struct run *r, const struct pkt_line *l, uint64_t *lo, uint64_t *hi) {
  if (!l->has_time) {
    *lo = r->last;
    *hi = r->last + (r->d->is_linux ? LINUX_AT_ONCE : ENGINE_AT_ONCE);
  } else if (r->d->is_linux) {
    uint64_t a = l->lo / 10 * 9;
    *lo = r->last + (a > 5000 ? a - 5000 : 0);
    *hi = r->last + l->hi + l->hi / (l->has_time == 1 ? 4 : 10) + 40000;
  } else {
    *lo = r->last + (l->lo > 1000 ? l->lo - 1000 : 0);
    *hi = r->last + l->hi + l->hi / 1000 + (l->has_time == 1 ? 2000 : 1000);
  }
}

static void learn(struct run *r, struct conn *k, const struct pkt_wire *w, const struct pkt_seg *g) {
  if (w->flags & TH_SYN) {
    if (k->known && !(g->mod & PKT_MOD_NEW) && w->seq != k->dut_isn)
      run_fail(r, "the initial sequence number has changed");
    if (k->known && (g->mod & PKT_MOD_NEW) && w->seq == k->dut_isn)
      run_fail(r, "the initial sequence number is the old one");
    int64_t step = w->seq - k->dut_isn;
    if ((g->has & PKT_HAS_STEP) && (!k->known || step < g->step[0] || step > g->step[1]))
      run_fail(r, "the initial sequence number has grown by %u", (unsigned)step);
    if ((g->has & PKT_HAS_PORT) && (w->sport < g->port[0] || w->sport > g->port[1]))
      run_fail(r, "port %u", w->sport);
    for (unsigned i = 0; (g->has & PKT_HAS_PORT) && i < PKT_CONNS; i++)
      if (&r->conn[i] != k && r->conn[i].known && r->conn[i].dut_port == w->sport)
        run_fail(r, "port %u has another connection", w->sport);
    k->known = 1;
    k->dut_isn = w->seq;
    k->dut_port = w->sport;
    k->dut_ws = w->has & PKT_HAS_WS ? w->ws : 0;
    k->dut_ts = (w->has & PKT_HAS_TS) != 0;
    k->dut_mss = w->mss;
    if (w->has & PKT_HAS_COOKIE) {
      r->n_cookie = w->n_cookie;
      memcpy(r->cookie, w->cookie, w->n_cookie);
    }
  }
}

static void check_numbers(struct run *r, const struct conn *k, const struct pkt_wire *w, const struct pkt_seg *g,
                          int64_t seq, const char *text) {
  uint8_t got = w->flags, want = g->flags;
  if (!g->check_psh) {
    got &= (uint8_t)~TH_PSH;
    want &= (uint8_t)~TH_PSH;
  }
  if (got != want)
    run_fail(r, "other flags: %s", text);
  uint32_t base = k->known && !(g->mod & PKT_MOD_ABS) ? k->dut_isn : 0;
  if (w->seq != base + (uint32_t)seq)
    run_fail(r, "another seq: %s", text);
  if ((g->flags & TH_ACK) && w->ack != (g->mod & PKT_MOD_ABS ? 0 : PEER_ISN) + (uint32_t)g->ack)
    run_fail(r, "another ack: %s", text);
  if (w->sport != k->dut_port)
    run_fail(r, "from another port: %s", text);
  if (g->has & PKT_HAS_URG ? w->urg != g->urg : 0)
    run_fail(r, "another urgent pointer: %s", text);
  if (g->ecn != 255 && w->ecn != g->ecn)
    run_fail(r, "another ECN field: %s", text);
  if (g->has & PKT_HAS_WIN) {
    int64_t win = (int64_t)w->win << (w->flags & TH_SYN || !(r->c->peer.has & PKT_HAS_WS) ? 0 : k->dut_ws);
    if (g->win_op == '=' ? win != g->win : g->win_op == '<' ? win >= g->win : win <= g->win)
      run_fail(r, "another window (%d): %s", (int)win, text);
  }
}

static void check_syn_options(struct run *r, const struct pkt_wire *w, const struct pkt_seg *g, const char *text) {
  uint32_t mask = PKT_HAS_MSS | PKT_HAS_WS | PKT_HAS_SACKOK | PKT_HAS_TS | PKT_HAS_COOKIE;
  if (!(g->has & (mask | PKT_HAS_NOOPT)))
    return;
  if ((w->has & mask) != (g->has & mask))
    run_fail(r, "other options: %s", text);
  if ((g->has & PKT_HAS_MSS) && g->mss != PKT_ANY && w->mss != g->mss)
    run_fail(r, "another MSS: %s", text);
  if ((g->has & PKT_HAS_WS) && g->ws != PKT_ANY && w->ws != g->ws)
    run_fail(r, "another scale: %s", text);
}

static void check_options(struct run *r, const struct conn *k, const struct pkt_wire *w, const struct pkt_seg *g,
                          const char *text) {
  if (w->flags & TH_SYN) {
    check_syn_options(r, w, g, text);
  } else {
    int ts = k->dut_ts && k->peer_ts;
    if (!(w->flags & TH_RST) && ts != ((w->has & PKT_HAS_TS) != 0)) /* RFC 7323 3.2 */
      run_fail(r, "%s: %s", ts ? "no timestamp" : "a timestamp that was not agreed on", text);
    if (w->has & ~(PKT_HAS_TS | PKT_HAS_SACK))
      run_fail(r, "an option of SYNs: %s", text);
  }
  if ((g->has & PKT_HAS_ECR) && (!(w->has & PKT_HAS_TS) || w->ecr != (g->ecr == PKT_ECR_ZERO ? 0 : (uint32_t)g->ecr)))
    run_fail(r, "another timestamp echo: %s", text);
  if (w->n_sack != g->n_sack)
    run_fail(r, "other SACK blocks: %s", text);
  for (unsigned i = 0; i < g->n_sack; i++)
    if (w->sack[i][0] != PEER_ISN + (uint32_t)g->sack[i][0] || w->sack[i][1] != PEER_ISN + (uint32_t)g->sack[i][1])
      run_fail(r, "other SACK blocks: %s", text);
}

static void check_data(struct run *r, const struct pkt_wire *w, int64_t seq, int64_t len, const char *text) {
  if (w->len != len)
    run_fail(r, "another length (%u): %s", w->len, text);
  seq += (w->flags & TH_SYN) != 0; /* a SYN stands before its data */
  for (uint32_t i = 0; i < w->len; i++)
    if (w->data[i] != pkt_byte((uint32_t)(seq - 1) + i))
      run_fail(r, "wrong bytes from stream position %d: %s", (int)(seq - 1 + i), text);
}

static void expect_one(struct run *r, const struct pkt_line *l, int64_t seq, int64_t len, int first, int final) {
  struct pkt_wire w;
  unsigned conn;
  uint64_t lo, hi;
  const struct pkt_seg *g = &l->seg;
  struct pkt_seg one = *g;
  if (first)
    window_of(r, l, &lo, &hi);
  else
    lo = r->last, hi = r->d->now() + (r->d->is_linux ? LINUX_AT_ONCE : ENGINE_AT_ONCE);
  if (!run_take(r, &w, &conn, hi) && !run_take(r, &w, &conn, hi + LATE))
    run_fail(r, "nothing was sent");
  const char *text = run_text(r, &w, conn);
  uint64_t now = r->d->now();
  if (now > hi || now < lo)
    run_fail(r, "%s, %.1f ms after the line before: %s", now < lo ? "too early" : "too late",
             (double)(now - r->last) / 1000.0, text);
  if (conn != l->conn)
    run_fail(r, "on another connection (%u): %s", conn + 1, text);
  struct conn *k = &r->conn[conn];
  learn(r, k, &w, g);
  if (!final)
    one.flags &= (uint8_t)~TH_FIN;
  check_numbers(r, k, &w, &one, seq, text);
  check_options(r, k, &w, &one, text);
  check_data(r, &w, seq, len, text);
  if (w.has & PKT_HAS_TS) {
    k->ts_last = w.ts;
    if (g->mod & PKT_MOD_MARK)
      k->ts_mark = w.ts;
    if (w.len)
      k->sent[k->n_sent % SENT].end = w.seq + w.len, k->sent[k->n_sent++ % SENT].ts = w.ts;
  }
}

void expect_line(struct run *r, const struct pkt_line *l) {
  const struct pkt_seg *g = &l->seg;
  int64_t by = g->by > 0 ? g->by : g->len, at = 0;
  for (int64_t i = 1; i < g->times; i++)
    expect_one(r, l, g->seq, g->len, i == 1, 1);
  do {
    int64_t n = g->len - at < by ? g->len - at : by;
    expect_one(r, l, g->seq + at, n, at == 0 && g->times < 2, at + n >= g->len);
    at += n;
  } while (at < g->len);
}

void expect_skip(struct run *r, const struct pkt_line *l) {
  struct pkt_wire w;
  unsigned conn;
  while (run_take(r, &w, &conn, r->last + l->lo))
    if (w.has & PKT_HAS_TS)
      r->conn[conn].ts_last = w.ts;
}
