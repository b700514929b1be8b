/*
 * `<` lines: builds a segment or an ICMP error as the case says, with the options that the connection has agreed on
 * where it says nothing, and hands it to the device. Called by run.c and state.c. Byte by byte, as frame.c.
 */
#include "run.h"

#include <string.h>

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
    run_fail(r, "more than 40 bytes of options");
  run_tell(r, "<", "");
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

void send_line(struct run *r, const struct pkt_line *l) {
  const struct pkt_seg *g = &l->seg;
  int64_t by = g->by > 0 ? g->by : g->len, at = 0;
  run_quiet(r, r->d->now());
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

void send_icmp(struct run *r, const struct pkt_line *l) {
  uint8_t f[256];
  const struct conn *k = &r->conn[l->conn];
  run_quiet(r, r->d->now());
  uint32_t n = pkt_frame_icmp(f, &r->a, (uint8_t)l->n, (uint8_t)l->n2, (uint32_t)l->n3, k->dut_port,
                              (uint16_t)(r->c->peer_port + l->conn), k->dut_isn + (uint32_t)l->seg.seq);
  run_tell(r, "<", "icmp");
  r->d->inject(f, n);
}
