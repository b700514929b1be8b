/*
 * Runs one case against one device: sends what `<` lines say, and demands that the device sends exactly what `>` lines
 * say, in that order, at that time, and nothing else. Called by main.c. The kinds of lines are in send.c, expect.c,
 * app.c and state.c; here are the steps that they share.
 *
 * Before anything is sent, and at the end, nothing may be waiting. Where a line gives no time the device must have
 * acted at once: within AT_ONCE of the line before.
 */
#include "run.h"

#include <stdarg.h>
#include <string.h>

#define ENGINE_TAIL 5000u
#define LINUX_TAIL  10000u

_Noreturn void run_fail(struct run *r, const char *fmt, ...) {
  va_list ap;
  int n = snprintf(r->msg, r->room, "%s:%u: %s on %s: ", r->c->file, r->line ? r->line->no : r->c->no, r->c->name,
                   r->d->name);
  va_start(ap, fmt);
  vsnprintf(r->msg + n, r->room - (unsigned)n, fmt, ap);
  va_end(ap);
  longjmp(r->out, 1);
}

void run_must(struct run *r, int rc, const char *what) {
  if (rc < 0)
    run_fail(r, "%s: %s", what, strerror(-rc));
}

static void flags_text(uint8_t f, char *out) {
  static const char letters[] = "FSRPAUEW";
  for (int i = 0; i < 8; i++)
    if (f >> i & 1)
      *out++ = letters[i];
  *out = 0;
}

const char *run_text(const struct run *r, const struct pkt_wire *w, unsigned conn) {
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

void run_tell(const struct run *r, const char *dir, const char *text) {
  if (r->trace)
    fprintf(stderr, "  %8.3f ms %s %s\n", (double)(r->d->now() - r->last) / 1000.0, dir, text);
}

int run_take(struct run *r, struct pkt_wire *w, unsigned *conn, uint64_t until) {
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
    run_tell(r, ">", run_text(r, w, *conn));
    if (w->sum_bad)
      run_fail(r, "wrong checksum or malformed options: %s", run_text(r, w, *conn));
    return 1;
  }
}

void run_quiet(struct run *r, uint64_t until) {
  struct pkt_wire w;
  unsigned conn;
  if (run_take(r, &w, &conn, until))
    run_fail(r, "unexpected, %.1f ms after the line before: %s", (double)(r->d->now() - r->last) / 1000.0,
             run_text(r, &w, conn));
}

void run_done(struct run *r) {
  r->last = r->d->now();
}

static void one_line(struct run *r, const struct pkt_line *l) {
  switch (l->verb) {
  case PKT_IN:
    send_line(r, l);
    break;
  case PKT_OUT:
    expect_line(r, l);
    break;
  case PKT_ICMP:
    send_icmp(r, l);
    break;
  case PKT_QUIET:
    run_quiet(r, r->last + l->lo);
    break;
  case PKT_SKIP:
    expect_skip(r, l);
    break;
  case PKT_STATE:
    state_check(r, l->word, l->conn);
    break;
  case PKT_TO:
    state_reach(r, l);
    break;
  case PKT_TSVAL:
    r->tsval = (uint32_t)l->n;
    break;
  default:
    app_line(r, l);
    break;
  }
  int bad = r->d->check();
  if (bad)
    run_fail(r, "tcp_conn_check: line %d", bad);
  run_done(r);
}

static void warm_up(struct run *r) {
  uint8_t f[128];
  struct pkt_wire w;
  unsigned conn;
  uint32_t n = pkt_frame_ask(f, &r->a);
  r->d->inject(f, n);
  if (!r->d->is_linux) /* duplicate address detection and the like are over */
    while (run_take(r, &w, &conn, r->d->now() + 3000000))
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
    run_done(&r);
    for (unsigned i = 0; i < c->n; i++) {
      const struct pkt_line *l = &c->line[i];
      if (l->only == (d->is_linux ? PKT_OURS : PKT_LINUX))
        continue;
      r.line = l;
      one_line(&r, l);
    }
    run_quiet(&r, r.last + (d->is_linux ? LINUX_TAIL : ENGINE_TAIL));
    rc = 0;
  } else {
    rc = -1;
  }
  d->close();
  return rc;
}
