/*
 * Runs one case against one device: sends what `<` lines say, and demands that the device sends exactly what `>` lines
 * say, in that order, at that time, and nothing else. Called by main.c.
 *
 * Before anything is sent, and at the end, nothing may be waiting. Where a line gives no time the device must have
 * acted at once: within AT_ONCE of the line before.
 */
#include "pkt.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PEER_ISN       0xfffff000u /* wraps within the first 4 KB */
#define ENGINE_AT_ONCE 2000u
#define LINUX_AT_ONCE  30000u
#define ENGINE_TAIL    5000u
#define LINUX_TAIL     10000u
#define LATE           400000u /* how long to wait for a frame that is overdue, so that the message can say so */

#define SENT 64u

struct conn {
  int known; /* dut_isn */
  uint32_t dut_isn;
  uint16_t dut_port;
  uint8_t dut_ws;
  int dut_ts, peer_ts;
  uint32_t ts_last, ts_mark;
  struct {
    uint32_t end, ts;
  } sent[SENT]; /* the last segments with data: where each ended, its timestamp */
  unsigned n_sent;
  uint32_t dut_mss;
  uint32_t written, was_read; /* stream positions of the app */
};

struct run {
  const struct pkt_case *c;
  const struct pkt_dut *d;
  struct pkt_addr a;
  struct conn conn[PKT_CONNS];
  uint32_t tsval;
  unsigned n_cookie; /* the last Fast Open cookie that was given out */
  uint8_t cookie[16];
  uint64_t last; /* when the last line was done */
  const struct pkt_line *line;
  int trace;
  char *msg;
  unsigned room;
  jmp_buf out;
};

static void fail(struct run *r, const char *fmt, ...) {
  va_list ap;
  int n = snprintf(r->msg, r->room, "%s:%u: %s on %s: ", r->c->file, r->line ? r->line->no : r->c->no, r->c->name,
                   r->d->name);
  va_start(ap, fmt);
  vsnprintf(r->msg + n, r->room - (unsigned)n, fmt, ap);
  va_end(ap);
  longjmp(r->out, 1);
}

static const char *const state_names[] = {"NONE",       "ESTABLISHED", "SYN_SENT",  "SYN_RECEIVED",
                                          "FIN_WAIT_1", "FIN_WAIT_2",  "TIME_WAIT", "CLOSED",
                                          "CLOSE_WAIT", "LAST_ACK",    "LISTEN",    "CLOSING"};

int pkt_state_number(const char *name) {
  for (int i = 0; i < 12; i++)
    if (!strcmp(state_names[i], name))
      return i;
  return -1;
}

static void flags_text(uint8_t f, char *out) {
  static const char letters[] = "FSRPAUEW";
  for (int i = 0; i < 8; i++)
    if (f >> i & 1)
      *out++ = letters[i];
  *out = 0;
}

/* The segment as a case would write it. */
static const char *wire_text(const struct run *r, const struct pkt_wire *w, unsigned conn) {
  static char text[400];
  const struct conn *k = &r->conn[conn];
  char f[9];
  uint32_t seq = w->seq - (k->known ? k->dut_isn : 0), ack = w->ack - PEER_ISN;
  flags_text(w->flags, f);
  int n = snprintf(text, sizeof text, "%s %d", f, (int32_t)seq);
  if (w->len)
    n += snprintf(text + n, sizeof text - (size_t)n, ":%d", (int32_t)(seq + w->len));
  if (w->flags & TH_ACK)
    n += snprintf(text + n, sizeof text - (size_t)n, " ack %d", (int32_t)ack);
  n += snprintf(text + n, sizeof text - (size_t)n, " win %u", (unsigned)w->win);
  if (w->has & PKT_HAS_MSS)
    n += snprintf(text + n, sizeof text - (size_t)n, " mss %u", w->mss);
  if (w->has & PKT_HAS_SACKOK)
    n += snprintf(text + n, sizeof text - (size_t)n, " sackok");
  if (w->has & PKT_HAS_WS)
    n += snprintf(text + n, sizeof text - (size_t)n, " ws %u", w->ws);
  if (w->has & PKT_HAS_TS)
    n += snprintf(text + n, sizeof text - (size_t)n, " ts %u ecr %u", w->ts, w->ecr);
  for (unsigned i = 0; i < w->n_sack; i++)
    n += snprintf(text + n, sizeof text - (size_t)n, "%s%d:%d", i ? " " : " sack ", (int32_t)(w->sack[i][0] - PEER_ISN),
                  (int32_t)(w->sack[i][1] - PEER_ISN));
  if (w->has & PKT_HAS_COOKIE)
    n += snprintf(text + n, sizeof text - (size_t)n, " cookie(%u)", w->n_cookie);
  if (w->flags & TH_URG)
    n += snprintf(text + n, sizeof text - (size_t)n, " urg %u", w->urg);
  if (w->ecn)
    snprintf(text + n, sizeof text - (size_t)n, " ecn %u", w->ecn);
  return text;
}

static void tell(const struct run *r, const char *dir, const char *text) {
  if (r->trace)
    fprintf(stderr, "  %8.3f ms %s %s\n", (double)(r->d->now() - r->last) / 1000.0, dir, text);
}

/* The next segment of this case's connections, until `until`. 1 = there is one; *conn says whose. */
static int take(struct run *r, struct pkt_wire *w, unsigned *conn, uint64_t until) {
  static uint8_t f[PKT_FRAME_MAX];
  uint8_t answer[128];
  int sum;
  for (;;) {
    uint32_t n = r->d->take(f, until, &sum);
    if (n == 0)
      return 0;
    uint32_t m = pkt_frame_answer(f, n, &r->a, answer);
    if (m) {
      r->d->inject(answer, m);
      continue;
    }
    if (!pkt_frame_parse(f, n, &r->a, sum, w) || w->dport < r->c->peer_port || w->dport >= r->c->peer_port + PKT_CONNS)
      continue;
    *conn = (unsigned)(w->dport - r->c->peer_port);
    tell(r, ">", wire_text(r, w, *conn));
    if (w->sum_bad)
      fail(r, "wrong checksum or malformed options: %s", wire_text(r, w, *conn));
    return 1;
  }
}

static void nothing_until(struct run *r, uint64_t until) {
  struct pkt_wire w;
  unsigned conn;
  if (take(r, &w, &conn, until))
    fail(r, "unexpected, %.1f ms after the line before: %s", (double)(r->d->now() - r->last) / 1000.0,
         wire_text(r, &w, conn));
}

static void done(struct run *r) {
  r->last = r->d->now();
}

/* --- < --- */

static uint32_t opt_put32(uint8_t *o, uint32_t v) {
  for (int i = 0; i < 4; i++)
    o[i] = (uint8_t)(v >> (24 - 8 * i));
  return 4;
}

static uint32_t ecr_of(const struct conn *k, const struct pkt_seg *g) {
  if (!(g->has & PKT_HAS_ECR) || g->ecr == PKT_ECR_LAST)
    return (g->flags & TH_ACK) ? k->ts_last : 0;
  if (g->ecr == PKT_ECR_MARK)
    return k->ts_mark;
  for (unsigned i = 0; g->ecr == PKT_ECR_SENT && i < SENT; i++)
    if (k->sent[i].end == k->dut_isn + (uint32_t)g->ack)
      return k->sent[i].ts;
  return g->ecr == PKT_ECR_ZERO ? 0 : (uint32_t)g->ecr;
}

static uint32_t opt_ts(const struct run *r, const struct conn *k, const struct pkt_seg *g, uint8_t *o) {
  memcpy(o, "\1\1\x08\x0a", 4);
  opt_put32(o + 4, g->has & PKT_HAS_TS && g->ts != PKT_ANY ? (uint32_t)g->ts : r->tsval);
  opt_put32(o + 8, ecr_of(k, g));
  return 12;
}

static uint32_t build_options(const struct run *r, struct conn *k, const struct pkt_seg *g, uint8_t *o) {
  uint32_t n = 0;
  int syn = (g->flags & TH_SYN) != 0;
  const struct pkt_seg *s = syn && !(g->has & PKT_OPTIONS) ? &r->c->peer : g;
  if (s->has & PKT_HAS_MSS) {
    o[n++] = 2;
    o[n++] = 4;
    o[n++] = (uint8_t)(s->mss >> 8);
    o[n++] = (uint8_t)s->mss;
  }
  if (s->has & PKT_HAS_SACKOK) {
    memcpy(o + n, "\1\1\4\2", 4);
    n += 4;
  }
  if (s->has & PKT_HAS_WS) {
    memcpy(o + n, "\1\3\3", 3);
    o[n + 3] = (uint8_t)s->ws;
    n += 4;
  }
  if (syn && (s->has & PKT_HAS_TS))
    k->peer_ts = 1;
  if ((syn ? (s->has & PKT_HAS_TS) : (g->has & PKT_HAS_TS) || (k->peer_ts && k->dut_ts)) && !(g->mod & PKT_MOD_NOTS))
    n += opt_ts(r, k, g, o + n);
  if (s->n_sack) {
    memcpy(o + n, "\1\1\5", 3);
    o[n + 3] = (uint8_t)(2 + 8 * s->n_sack);
    n += 4;
    for (unsigned i = 0; i < s->n_sack; i++) {
      n += opt_put32(o + n, k->dut_isn + (uint32_t)s->sack[i][0]);
      n += opt_put32(o + n, k->dut_isn + (uint32_t)s->sack[i][1]);
    }
  }
  if (s->has & PKT_HAS_COOKIE) { /* RFC 7413 4.1.1 */
    o[n++] = 34;
    o[n++] = (uint8_t)(2 + r->n_cookie);
    memcpy(o + n, r->cookie, r->n_cookie);
    n += r->n_cookie;
  }
  if (s->has & PKT_HAS_RAW) {
    memcpy(o + n, s->raw, s->n_raw);
    n += s->n_raw;
  }
  while (n % 4)
    o[n++] = 0;
  return n;
}

static void send_one(struct run *r, unsigned conn, const struct pkt_seg *g, int64_t seq, int64_t len) {
  uint8_t opt[80], f[PKT_FRAME_MAX];
  struct conn *k = &r->conn[conn];
  struct pkt_build b = {.sport = (uint16_t)(r->c->peer_port + conn),
                        .dport = k->dut_port,
                        .flags = g->flags,
                        .seq = (g->mod & PKT_MOD_ABS ? 0 : PEER_ISN) + (uint32_t)seq,
                        .win = (uint16_t)(g->has & PKT_HAS_WIN ? g->win : r->c->peer.win),
                        .urg = (uint16_t)g->urg,
                        .ecn = g->ecn,
                        .badsum = (g->mod & PKT_MOD_BADSUM) != 0,
                        .opt = opt,
                        .len = (uint32_t)len,
                        .pos = (uint32_t)(seq - !(g->flags & TH_SYN))};
  if (g->has & PKT_HAS_ACK)
    b.ack = (g->mod & PKT_MOD_ABS || !k->known ? 0 : k->dut_isn) + (uint32_t)g->ack;
  b.n_opt = build_options(r, k, g, opt);
  if (b.n_opt > 40)
    fail(r, "more than 40 bytes of options");
  tell(r, "<", "");
  uint32_t n = pkt_frame_build(f, &r->a, &b);
  if (g->mod & PKT_MOD_EXT)
    n = pkt_frame_extend(f, n, &r->a);
  if (!(g->mod & PKT_MOD_FRAG)) {
    r->d->inject(f, n);
    return;
  }
  for (unsigned i = 0; i < 2; i++) {
    uint8_t part[PKT_FRAME_MAX];
    r->d->inject(part, pkt_frame_part(part, f, n, &r->a, i ^ !!(g->mod & PKT_MOD_FRAGR)));
  }
}

static void line_in(struct run *r, const struct pkt_line *l) {
  const struct pkt_seg *g = &l->seg;
  int64_t by = g->by > 0 ? g->by : g->len, at = 0;
  nothing_until(r, r->d->now());
  for (int64_t i = 1; i < g->times; i++)
    send_one(r, l->conn, g, g->seq, g->len);
  do {
    int64_t n = g->len - at < by ? g->len - at : by;
    struct pkt_seg one = *g;
    if (at + n < g->len)
      one.flags &= (uint8_t)~TH_FIN;
    send_one(r, l->conn, &one, g->seq + at, n);
    at += n;
  } while (at < g->len);
}

static void line_icmp(struct run *r, const struct pkt_line *l) {
  uint8_t f[256];
  const struct conn *k = &r->conn[l->conn];
  nothing_until(r, r->d->now());
  uint32_t n = pkt_frame_icmp(f, &r->a, (uint8_t)l->n, (uint8_t)l->n2, (uint32_t)l->n3, k->dut_port,
                              (uint16_t)(r->c->peer_port + l->conn), k->dut_isn + (uint32_t)l->seg.seq);
  tell(r, "<", "icmp");
  r->d->inject(f, n);
}

/* --- > --- */

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
      fail(r, "the initial sequence number has changed");
    if (k->known && (g->mod & PKT_MOD_NEW) && w->seq == k->dut_isn)
      fail(r, "the initial sequence number is the old one");
    int64_t step = w->seq - k->dut_isn;
    if ((g->has & PKT_HAS_STEP) && (!k->known || step < g->step[0] || step > g->step[1]))
      fail(r, "the initial sequence number has grown by %u", (unsigned)step);
    if ((g->has & PKT_HAS_PORT) && (w->sport < g->port[0] || w->sport > g->port[1]))
      fail(r, "port %u", w->sport);
    for (unsigned i = 0; (g->has & PKT_HAS_PORT) && i < PKT_CONNS; i++)
      if (&r->conn[i] != k && r->conn[i].known && r->conn[i].dut_port == w->sport)
        fail(r, "port %u has another connection", w->sport);
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
    fail(r, "other flags: %s", text);
  uint32_t base = k->known && !(g->mod & PKT_MOD_ABS) ? k->dut_isn : 0;
  if (w->seq != base + (uint32_t)seq)
    fail(r, "another seq: %s", text);
  if ((g->flags & TH_ACK) && w->ack != (g->mod & PKT_MOD_ABS ? 0 : PEER_ISN) + (uint32_t)g->ack)
    fail(r, "another ack: %s", text);
  if (w->sport != k->dut_port)
    fail(r, "from another port: %s", text);
  if (g->has & PKT_HAS_URG ? w->urg != g->urg : 0)
    fail(r, "another urgent pointer: %s", text);
  if (g->ecn != 255 && w->ecn != g->ecn)
    fail(r, "another ECN field: %s", text);
  if (g->has & PKT_HAS_WIN) {
    int64_t win = (int64_t)w->win << (w->flags & TH_SYN || !(r->c->peer.has & PKT_HAS_WS) ? 0 : k->dut_ws);
    if (g->win_op == '=' ? win != g->win : g->win_op == '<' ? win >= g->win : win <= g->win)
      fail(r, "another window (%d): %s", (int)win, text);
  }
}

static void check_syn_options(struct run *r, const struct pkt_wire *w, const struct pkt_seg *g, const char *text) {
  uint32_t mask = PKT_HAS_MSS | PKT_HAS_WS | PKT_HAS_SACKOK | PKT_HAS_TS | PKT_HAS_COOKIE;
  if (!(g->has & (mask | PKT_HAS_NOOPT)))
    return;
  if ((w->has & mask) != (g->has & mask))
    fail(r, "other options: %s", text);
  if ((g->has & PKT_HAS_MSS) && g->mss != PKT_ANY && w->mss != g->mss)
    fail(r, "another MSS: %s", text);
  if ((g->has & PKT_HAS_WS) && g->ws != PKT_ANY && w->ws != g->ws)
    fail(r, "another scale: %s", text);
}

static void check_options(struct run *r, const struct conn *k, const struct pkt_wire *w, const struct pkt_seg *g,
                          const char *text) {
  if (w->flags & TH_SYN) {
    check_syn_options(r, w, g, text);
  } else {
    int ts = k->dut_ts && k->peer_ts;
    if (!(w->flags & TH_RST) && ts != ((w->has & PKT_HAS_TS) != 0)) /* RFC 7323 3.2 */
      fail(r, "%s: %s", ts ? "no timestamp" : "a timestamp that was not agreed on", text);
    if (w->has & ~(PKT_HAS_TS | PKT_HAS_SACK))
      fail(r, "an option of SYNs: %s", text);
  }
  if ((g->has & PKT_HAS_ECR) && (!(w->has & PKT_HAS_TS) || w->ecr != (g->ecr == PKT_ECR_ZERO ? 0 : (uint32_t)g->ecr)))
    fail(r, "another timestamp echo: %s", text);
  if (w->n_sack != g->n_sack)
    fail(r, "other SACK blocks: %s", text);
  for (unsigned i = 0; i < g->n_sack; i++)
    if (w->sack[i][0] != PEER_ISN + (uint32_t)g->sack[i][0] || w->sack[i][1] != PEER_ISN + (uint32_t)g->sack[i][1])
      fail(r, "other SACK blocks: %s", text);
}

static void check_data(struct run *r, const struct pkt_wire *w, int64_t seq, int64_t len, const char *text) {
  if (w->len != len)
    fail(r, "another length (%u): %s", w->len, text);
  seq += (w->flags & TH_SYN) != 0; /* a SYN stands before its data */
  for (uint32_t i = 0; i < w->len; i++)
    if (w->data[i] != pkt_byte((uint32_t)(seq - 1) + i))
      fail(r, "wrong bytes from stream position %d: %s", (int)(seq - 1 + i), text);
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
  if (!take(r, &w, &conn, hi) && !take(r, &w, &conn, hi + LATE))
    fail(r, "nothing was sent");
  const char *text = wire_text(r, &w, conn);
  uint64_t now = r->d->now();
  if (now > hi || now < lo)
    fail(r, "%s, %.1f ms after the line before: %s", now < lo ? "too early" : "too late",
         (double)(now - r->last) / 1000.0, text);
  if (conn != l->conn)
    fail(r, "on another connection (%u): %s", conn + 1, text);
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

static void line_out(struct run *r, const struct pkt_line *l) {
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

/* --- the app --- */

static void line_write(struct run *r, const struct pkt_line *l) {
  struct conn *k = &r->conn[l->conn];
  nothing_until(r, r->d->now());
  uint8_t *p = malloc((size_t)l->n);
  if (!p)
    abort();
  for (int64_t i = 0; i < l->n; i++)
    p[i] = pkt_byte(k->written + (uint32_t)i);
  int fast = l->verb == PKT_FASTOPEN;
  int n = (fast ? r->d->fastopen : l->verb == PKT_URGENT ? r->d->urgent : r->d->write)(l->conn, p, (uint32_t)l->n);
  free(p);
  if (fast && n == -EINPROGRESS) /* the first segment tells whether the cookie was known */
    return;
  if (n != l->n)
    fail(r, "write(%d) returned %d", (int)l->n, n);
  k->written += (uint32_t)n;
}

/* Stream byte N, counted from 1, is urgent and here; 0: no urgent byte is. */
static void line_oob(struct run *r, const struct pkt_line *l) {
  uint8_t byte = 0;
  uint64_t end = r->d->now() + 200000;
  int n;
  do { /* Linux looks at packets when it comes to it */
    n = r->d->oob(l->conn, &byte);
  } while (n == 0 && l->n > 0 && r->d->is_linux && r->d->now() < end);
  if (n != (l->n > 0))
    fail(r, "urgent bytes: %d", n);
  if (n > 0 && byte != pkt_byte((uint32_t)l->n - 1))
    fail(r, "the urgent byte is another: 0x%x", byte);
}

static void line_read(struct run *r, const struct pkt_line *l) {
  struct conn *k = &r->conn[l->conn];
  static uint8_t p[65536];
  for (int64_t left = l->n; left > 0;) {
    int n = r->d->read(l->conn, p, left < (int64_t)sizeof p ? (uint32_t)left : (uint32_t)sizeof p);
    if (n <= 0)
      fail(r, "read: %d with %d bytes missing", n, (int)left);
    for (int i = 0; i < n; i++)
      if (p[i] != pkt_byte(k->was_read + (uint32_t)i))
        fail(r, "wrong byte at stream position %u", k->was_read + (uint32_t)i);
    k->was_read += (uint32_t)n;
    left -= n;
  }
}

static const struct {
  const char *name;
  int err;
} errors[] = {{"ECONNRESET", ECONNRESET},
              {"ECONNREFUSED", ECONNREFUSED},
              {"ETIMEDOUT", ETIMEDOUT},
              {"EHOSTUNREACH", EHOSTUNREACH},
              {"ENETUNREACH", ENETUNREACH},
              {"EPIPE", EPIPE},
              {"ENOPROTOOPT", ENOPROTOOPT},
              {"EACCES", EACCES},
              {"EHOSTDOWN", EHOSTDOWN},
              {"ENONET", ENONET},
              {"EOPNOTSUPP", EOPNOTSUPP},
              {"EPROTO", EPROTO},
              {"NONE", 0},
              {"EMSGSIZE", EMSGSIZE}};

static void line_error(struct run *r, const struct pkt_line *l) {
  int want = -1, got = r->d->error(l->conn);
  for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++)
    if (!strcmp(errors[i].name, l->word))
      want = errors[i].err;
  if (want < 0)
    fail(r, "no errno of this name: %s", l->word);
  if (got != want)
    fail(r, "the error is %d (%s)", got, strerror(got));
}

static void line_state(struct run *r, const char *name, unsigned conn) {
  int want = pkt_state_number(name);
  int got = r->d->state(r->conn[conn].dut_port, (uint16_t)(r->c->peer_port + conn));
  if (got == 7)
    got = 0;
  if (got != (want == 7 ? 0 : want))
    fail(r, "the state is %s, not %s", state_names[got <= 11 ? got : 0], name);
}

static void line_connected(struct run *r, const struct pkt_line *l) {
  int rc = r->d->connected(l->conn);
  if (rc != 1)
    fail(r, "not connected: %d", rc);
}

static void line_eof(struct run *r, const struct pkt_line *l) {
  uint8_t p[1];
  int n = r->d->read(l->conn, p, 1);
  if (n != 0)
    fail(r, "no end of stream: read returns %d", n);
}

/* --- to STATE --- */

static void do_in(struct run *r, unsigned conn, uint8_t flags, int64_t seq, int64_t ack) {
  struct pkt_line l = {.verb = PKT_IN, .conn = conn, .no = r->line->no};
  l.seg = (struct pkt_seg){.flags = flags, .seq = seq, .ack = ack, .has = flags & TH_ACK ? PKT_HAS_ACK : 0};
  line_in(r, &l);
  done(r);
}

static void do_out(struct run *r, unsigned conn, uint8_t flags, int64_t seq, int64_t ack) {
  struct pkt_line l = {.verb = PKT_OUT, .conn = conn, .no = r->line->no};
  l.seg = (struct pkt_seg){.flags = flags, .seq = seq, .ack = ack, .has = PKT_HAS_ACK, .ecn = 255};
  line_out(r, &l);
  done(r);
}

static void must(struct run *r, int rc, const char *what) {
  if (rc < 0)
    fail(r, "%s: %s", what, strerror(-rc));
}

static void to_established(struct run *r, unsigned conn, int active, int want) {
  if (active) {
    must(r, r->d->connect(conn), "connect");
    do_out(r, conn, TH_SYN, 0, 0);
    if (want == 2)
      return;
    do_in(r, conn, TH_SYN | TH_ACK, 0, 1);
    do_out(r, conn, TH_ACK, 1, 1);
    return;
  }
  must(r, r->d->listen(8), "listen");
  do_in(r, conn, TH_SYN, 0, 0);
  do_out(r, conn, TH_SYN | TH_ACK, 0, 1);
  if (want == 3)
    return;
  do_in(r, conn, TH_ACK, 1, 1);
  must(r, r->d->accept(conn), "accept");
}

static void line_to(struct run *r, const struct pkt_line *l) {
  int want = pkt_state_number(l->word), peer_first = want == 8 || want == 9;
  unsigned c = l->conn;
  to_established(r, c, l->n || want == 2, want);
  if (peer_first) {
    do_in(r, c, TH_FIN | TH_ACK, 1, 1);
    do_out(r, c, TH_ACK, 1, 2);
  }
  if (want == 4 || want == 5 || want == 6 || want == 9 || want == 11) {
    must(r, r->d->shutdown(c), "shutdown");
    do_out(r, c, TH_FIN | TH_ACK, 1, peer_first ? 2 : 1);
  }
  if (want == 5 || want == 6)
    do_in(r, c, TH_ACK, 1, 2);
  if (want == 6 || want == 11) {
    do_in(r, c, TH_FIN | TH_ACK, 1, want == 6 ? 2 : 1);
    do_out(r, c, TH_ACK, 2, 2);
  }
  line_state(r, l->word, c);
}

/* Time passes, and whatever is sent meanwhile is not looked at. */
static void line_skip(struct run *r, const struct pkt_line *l) {
  struct pkt_wire w;
  unsigned conn;
  while (take(r, &w, &conn, r->last + l->lo))
    if (w.has & PKT_HAS_TS)
      r->conn[conn].ts_last = w.ts;
}

static void line_app(struct run *r, const struct pkt_line *l) {
  switch (l->verb) {
  case PKT_LISTEN:
    must(r, r->d->listen((unsigned)l->n), "listen");
    break;
  case PKT_CONNECT:
    must(r, r->d->connect(l->conn), "connect");
    break;
  case PKT_ACCEPT:
    must(r, r->d->accept(l->conn), "accept");
    break;
  case PKT_SHUTDOWN:
    must(r, r->d->shutdown(l->conn), "shutdown");
    break;
  case PKT_CLOSE:
    must(r, r->d->shut(l->conn), "close");
    break;
  case PKT_ABORT:
    must(r, r->d->sockopt(l->conn, "linger", 0), "SO_LINGER");
    must(r, r->d->shut(l->conn), "close");
    break;
  default:
    must(r, r->d->sockopt(l->conn, l->word, l->n), "option");
    break;
  case PKT_TUNE:
    must(r, r->d->tune(l->word, l->n), "tunable");
    break;
  }
}

static void one_line(struct run *r, const struct pkt_line *l) {
  switch (l->verb) {
  case PKT_IN:
    line_in(r, l);
    break;
  case PKT_OUT:
    line_out(r, l);
    break;
  case PKT_ICMP:
    line_icmp(r, l);
    break;
  case PKT_QUIET:
    nothing_until(r, r->last + l->lo);
    break;
  case PKT_SKIP:
    line_skip(r, l);
    break;
  case PKT_WRITE:
  case PKT_FASTOPEN:
  case PKT_URGENT:
    line_write(r, l);
    break;
  case PKT_OOB:
    line_oob(r, l);
    break;
  case PKT_READ:
    line_read(r, l);
    break;
  case PKT_EOF:
    line_eof(r, l);
    break;
  case PKT_ERROR:
    line_error(r, l);
    break;
  case PKT_CONNECTED:
    line_connected(r, l);
    break;
  case PKT_STATE:
    line_state(r, l->word, l->conn);
    break;
  case PKT_TO:
    line_to(r, l);
    break;
  case PKT_TSVAL:
    r->tsval = (uint32_t)l->n;
    break;
  default:
    line_app(r, l);
    break;
  }
  int bad = r->d->check();
  if (bad)
    fail(r, "tcp_conn_check: line %d", bad);
  done(r);
}

static void warm_up(struct run *r) {
  uint8_t f[128];
  struct pkt_wire w;
  unsigned conn;
  uint32_t n = pkt_frame_ask(f, &r->a);
  r->d->inject(f, n);
  if (!r->d->is_linux) /* duplicate address detection and the like are over */
    while (take(r, &w, &conn, r->d->now() + 3000000))
      ;
}

int pkt_run(const struct pkt_case *c, const struct pkt_dut *d, char *msg, unsigned room, int trace) {
  static struct run r;
  memset(&r, 0, sizeof r);
  r.c = c;
  r.d = d;
  r.msg = msg;
  r.room = room;
  r.tsval = 1000;
  pkt_addr_init(&r.a, c->family);
  int rc = d->open(c, &r.a);
  if (rc) {
    snprintf(msg, room, "%s:%u: %s on %s: cannot begin: %s", c->file, c->no, c->name, d->name, strerror(-rc));
    return -1;
  }
  for (unsigned i = 0; i < PKT_CONNS; i++)
    r.conn[i].dut_port = c->port;
  r.trace = trace;
  if (setjmp(r.out) == 0) {
    warm_up(&r);
    done(&r);
    for (unsigned i = 0; i < c->n; i++) {
      const struct pkt_line *l = &c->line[i];
      if (l->only == (d->is_linux ? PKT_OURS : PKT_LINUX))
        continue;
      r.line = l;
      one_line(&r, l);
    }
    nothing_until(&r, r.last + (d->is_linux ? LINUX_TAIL : ENGINE_TAIL));
    rc = 0;
  } else {
    rc = -1;
  }
  d->close();
  return rc;
}
