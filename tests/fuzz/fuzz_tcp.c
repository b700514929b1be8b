/*
 * Fuzz target over the TCP core: the input is a program of segments (hostile ones, and those of a peer that behaves, so
 * that windows open and recoveries end), app calls, tunables, time and engine crashes, against one connection over
 * honest fifos. tcp_conn_check is the oracle after every step; besides, each byte must be placed where its sequence
 * number says, only placed bytes be published, and every segment that leaves must keep the promises that adoption
 * relies on (snd_max, rcv_adv, nothing acknowledged that is not published).
 *
 * The first two bytes choose configuration and the way of opening; zero bits are the defaults. Corpus in corpus/tcp.
 */
#include "base/bits.h"
#include "fuzz.h"
#include "tcp_conn.h"
#include "tcp_cookie.h"
#include "tcp_counters.h"
#include "tcp_tfo.h"
#include "tcp_tw.h"

#include <errno.h>
#include <stdio.h>

#define RX_SIZE   8192u
#define RX_MAX    (1u << 22) /* to which the receive buffer may grow */
#define TX_SIZE   131072u
#define STEPS_MAX 400

static uint8_t placed[RX_MAX]; /* by position modulo RX_MAX: there, and not yet published */
static uint32_t placed_high;   /* what a run has touched of it */

struct fuzz {
  struct tcp_env env;
  uint64_t busy[4 * TCP_BUSY_SIZE / 8];
  struct tcp_conn *conn;
  struct abi_tcb d;
  struct tcp_tfo tfo;
  struct abi_cookie cookie;
  uint64_t counters[TCP_N_COUNTERS];
  uint64_t logs[4 * TCP_LOG_SIZE / 8];
  uint32_t rx_head, rx_tail, tx_head, tx_tail;
  uint32_t rx_cap, mtu;
  usec_t now, timer_at;
  int closed, offers, short_memory, send_rc, shut;
  struct fuzz_input in;
};

static uint32_t take(struct fuzz *f, unsigned bytes) {
  return fuzz_take(&f->in, bytes);
}

/* --- ops --- */

static uint32_t room(const struct fuzz *f) {
  uint32_t used = f->rx_tail - f->rx_head;
  return used < f->rx_cap ? f->rx_cap - used : 0;
}

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct fuzz *f = ctx;
  REQUIRE(c == f->conn && skip + len <= seg->len && off + len <= room(f));
  REQUIRE(c->rcv_nxt + off == seg->hdr.seq + ((seg->hdr.flags & TCP_SYN) != 0) + skip);
  if (f->short_memory)
    len /= 2;
  for (uint32_t i = 0; i < len; i++) {
    uint32_t at = (f->rx_tail + off + i) % RX_MAX;
    placed[at] = 1;
    placed_high = HS_MAX(placed_high, at + 1);
  }
  return len;
}

static void op_rx_publish(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct fuzz *f = ctx;
  (void)c;
  REQUIRE(n <= room(f));
  for (uint32_t i = 0; i < n; i++) {
    REQUIRE(placed[(f->rx_tail + i) % RX_MAX]);
    placed[(f->rx_tail + i) % RX_MAX] = 0;
  }
  f->rx_tail += n;
}

static void op_rx_limit(void *ctx, struct tcp_conn *c, uint32_t bytes) {
  struct fuzz *f = ctx;
  REQUIRE(c == f->conn);
  f->rx_cap = HS_MIN(bytes, RX_MAX); /* also less than it holds: a successor begins with the default */
}

static uint32_t op_path_mtu(void *ctx, struct tcp_conn *c, uint32_t found) {
  struct fuzz *f = ctx;
  (void)c;
  REQUIRE(found <= f->mtu);
  return f->mtu;
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct fuzz *f = ctx;
  (void)c;
  return room(f);
}

static void op_urgent(void *ctx, struct tcp_conn *c, uint32_t off) {
  (void)ctx;
  REQUIRE(off >= 1 && off <= 65535u + (c->d->rcv_adv - c->rcv_nxt));
}

static uint32_t op_tx_used(void *ctx, struct tcp_conn *c) {
  struct fuzz *f = ctx;
  (void)c;
  return f->tx_tail - f->tx_head;
}

static void op_tx_release(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct fuzz *f = ctx;
  (void)c;
  REQUIRE(n <= f->tx_tail - f->tx_head);
  f->tx_head += n;
}

static int op_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out) {
  struct fuzz *f = ctx;
  const struct abi_tcb *d = &f->d;
  REQUIRE(c == f->conn && !f->closed && d->life == ABI_TCB_USED);
  int hdr = tcp_hdr_size(&out->opts);
  REQUIRE(hdr >= (int)TCP_HLEN);
  REQUIRE(out->len == 0 || out->off + out->len <= f->tx_tail - f->tx_head);
  REQUIRE((out->gso_size ? out->gso_size : out->len) + (uint32_t)hdr <= f->mtu - (d->remote.family == 6 ? 40 : 20));
  if (out->flags & TCP_RST)
    return f->send_rc;
  REQUIRE(out->len == 0 || out->seq + ((out->flags & TCP_SYN) != 0) == d->iss + 1 + f->tx_head + out->off);
  REQUIRE(seq_leq(out->seq + out->len + ((out->flags & (TCP_SYN | TCP_FIN)) != 0), d->snd_max));
  if ((out->flags & (TCP_ACK | TCP_SYN)) == TCP_ACK) {
    REQUIRE(out->ack == d->irs + 1 + f->rx_tail + ((d->fin & ABI_TCB_FIN_RCVD) != 0));
    REQUIRE(seq_leq(out->ack + ((uint32_t)out->wnd << d->rcv_wscale), d->rcv_adv));
  }
  return f->send_rc;
}

static void op_event(void *ctx, struct tcp_conn *c, enum tcp_event ev) {
  struct fuzz *f = ctx;
  REQUIRE(c == f->conn && !f->closed);
  if (ev != TCP_EV_CLOSED)
    return;
  REQUIRE(f->d.state == ABI_TCP_CLOSED);
  f->closed = 1;
  tcp_tcb_free(&f->d);
  free(c);
  f->conn = NULL;
}

static int op_offer(void *ctx, struct tcp_conn *c) {
  (void)c;
  return ((struct fuzz *)ctx)->offers;
}

static void op_timer(void *ctx, struct tcp_conn *c, usec_t when) {
  (void)c;
  ((struct fuzz *)ctx)->timer_at = when;
}

static uint32_t op_gso_max(void *ctx, struct tcp_conn *c) {
  (void)ctx;
  (void)c;
  return 9000;
}

static const struct tcp_env_ops fuzz_ops = {.rx_place = op_rx_place,
                                            .rx_publish = op_rx_publish,
                                            .rx_room = op_rx_room,
                                            .urgent = op_urgent,
                                            .tx_used = op_tx_used,
                                            .tx_release = op_tx_release,
                                            .send = op_send,
                                            .event = op_event,
                                            .offer = op_offer,
                                            .rx_limit = op_rx_limit,
                                            .path_mtu = op_path_mtu,
                                            .timer = op_timer,
                                            .gso_max = op_gso_max};

/* --- steps --- */

/* A value near `base`: small offsets either way, so that the input hits edges without knowing our numbers. */
static seq32_t near_seq(struct fuzz *f, seq32_t base) {
  uint32_t v = take(f, 2);
  return base + (uint32_t)(int32_t)(int16_t)v * (v & 1 ? 1u : 16u);
}

static void take_opts(struct fuzz *f, struct tcp_opts *o, int syn) {
  uint8_t has = (uint8_t)take(f, 1);
  uint32_t may = TCP_OPT_HAS_TS | TCP_OPT_HAS_SACK;
  if (syn)
    may = TCP_OPT_HAS_MSS | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_TS | TCP_OPT_HAS_TFO;
  o->present = has & may;
  if (f->d.life == ABI_TCB_USED && (f->d.nego & ABI_TCB_TS) && !(has & 0x80))
    o->present |= TCP_OPT_HAS_TS; /* mostly there where it must be */
  o->mss = (uint16_t)take(f, syn ? 2 : 0);
  o->wscale = (uint8_t)take(f, syn ? 1 : 0);
  uint32_t step = o->present & TCP_OPT_HAS_TS ? take(f, 1) : 0;
  o->ts_val = f->d.ts_recent + step - (step & 0x80 ? 0x100u : 0);
  o->ts_ecr = (uint32_t)(f->now / 1000) + f->d.ts_offset - (has & 0x40 ? take(f, 1) : 0);
  if (o->present & TCP_OPT_HAS_TFO) {
    o->tfo_len = (uint8_t)(take(f, 1) % 8 * 2);
    o->tfo_len = o->tfo_len == 2 ? 16 : o->tfo_len;
    fuzz_take_bytes(&f->in, o->tfo, o->tfo_len);
  }
  if (!(o->present & TCP_OPT_HAS_SACK))
    return;
  o->n_sack = (uint8_t)(1 + take(f, 1) % TCP_SACK_MAX);
  for (unsigned i = 0; i < o->n_sack; i++) {
    o->sack[i].l = near_seq(f, f->conn ? f->conn->snd_una : 0);
    o->sack[i].r = o->sack[i].l + take(f, 2);
  }
}

static void feed(struct fuzz *f, struct tcp_seg_in *s) {
  static const uint8_t zeros[70000];
  struct tcp_piece pc[2] = {{zeros, s->len / 3}, {zeros, s->len - s->len / 3}};
  s->pieces = pc;
  s->n_pieces = 2;
  s->segs = 1 + s->len / 1460;
  struct tcp_seg_out out;
  (void)tcp_reply_closed(s, &out);
  (void)tcp_time_wait_reuse(f->conn, s);
  tcp_input(&f->env, f->conn, s, f->now);
}

static void segment(struct fuzz *f) {
  static const uint16_t flags[16] = {TCP_ACK,
                                     TCP_ACK | TCP_ECE,
                                     TCP_ACK | TCP_CWR,
                                     TCP_ACK | TCP_PSH,
                                     TCP_ACK | TCP_FIN,
                                     TCP_RST,
                                     TCP_SYN,
                                     TCP_SYN | TCP_ACK,
                                     TCP_RST | TCP_ACK,
                                     TCP_FIN,
                                     TCP_ACK | TCP_URG,
                                     TCP_SYN | TCP_FIN,
                                     0,
                                     TCP_SYN | TCP_RST,
                                     TCP_SYN | TCP_ACK | TCP_ECE,
                                     0x1ff};
  uint8_t kind = (uint8_t)take(f, 1);
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.flags = flags[kind & 15];
  seq32_t nxt = f->conn->rcv_nxt;
  s.hdr.seq = kind & 0x10 ? near_seq(f, nxt) : nxt;
  s.hdr.ack = kind & 0x20 ? near_seq(f, f->d.snd_max) : f->d.snd_max;
  s.len = kind & 0x40 ? take(f, 2) % (kind & 0x80 ? 65000 : 3000) : 0;
  s.hdr.wnd = kind & 0x80 ? (uint16_t)take(f, 2) : 30000;
  s.hdr.urg = s.hdr.flags & TCP_URG ? (uint16_t)take(f, 2) : 0;
  take_opts(f, &s.hdr.opts, (s.hdr.flags & TCP_SYN) != 0);
  feed(f, &s);
}

/* A segment as a peer sends one that behaves: acknowledges `acked` segments of ours, selectively those named by a mask
 * behind that, reports a duplicate; brings data in order or behind a hole. */
static void good_segment(struct fuzz *f) {
  struct tcp_conn *c = f->conn;
  uint32_t how = take(f, 1), mss = tcp_mss_payload(c), acked = take(f, 1), mask = how & 1 ? take(f, 2) : 0;
  struct tcp_seg_in s = {.segs = 1, .ce = (how & 2) != 0};
  struct tcp_opts *o = &s.hdr.opts;
  uint32_t out = f->d.snd_max - c->snd_una, n = HS_MIN(acked * mss, out);
  s.hdr.flags = how & 4 ? TCP_ACK | TCP_ECE : TCP_ACK;
  s.hdr.seq = c->rcv_nxt + (how & 8 ? (1 + take(f, 1) % 16) * 1000 : 0);
  s.hdr.ack = c->snd_una + (acked == 0xff ? out : n);
  s.hdr.wnd = (uint16_t)(how & 16 ? take(f, 2) : 0xffff);
  s.len = how & 32 ? (how & 64 ? take(f, 2) : 1000) : 0;
  if (f->d.nego & ABI_TCB_TS) {
    o->present |= TCP_OPT_HAS_TS;
    o->ts_val = f->d.ts_recent + (how & 128 ? 1 : 0);
    o->ts_ecr = (uint32_t)(f->now / 1000) + f->d.ts_offset - (how & 128 ? take(f, 1) : 0);
  }
  if (mask & 0x8000) { /* a duplicate first (RFC 2883) */
    o->sack[o->n_sack].l = s.hdr.ack - mss;
    o->sack[o->n_sack++].r = s.hdr.ack;
  }
  for (uint32_t i = 0; i < 15 && o->n_sack < TCP_SACK_MAX; i++) {
    if (!(mask >> i & 1))
      continue;
    uint32_t to = i;
    while (to < 15 && (mask >> to & 1))
      to++;
    o->sack[o->n_sack].l = s.hdr.ack + (i + 1) * mss;
    o->sack[o->n_sack++].r = s.hdr.ack + (to + 1) * mss;
    i = to;
  }
  if (o->n_sack != 0)
    o->present |= TCP_OPT_HAS_SACK;
  feed(f, &s);
}

static void pass_time(struct fuzz *f) {
  uint32_t v = take(f, 2);
  usec_t end = f->now + ((usec_t)v << (v & 15));
  for (int i = 0; i < 50 && !f->closed && f->timer_at <= end; i++) {
    f->now = f->timer_at > f->now ? f->timer_at : f->now;
    f->timer_at = UINT64_MAX;
    tcp_timer(&f->env, f->conn, f->now);
  }
  f->now = end;
}

static void adopt(struct fuzz *f, int ranges) {
  f->conn = realloc(f->conn, sizeof *f->conn);
  REQUIRE(f->conn != NULL);
  memset(f->conn, 0xa5, sizeof *f->conn);
  if (!ranges) {
    memset(f->d.ooo, 0, sizeof f->d.ooo);
    memset(placed, 0, placed_high);
  }
  if (f->env.log_mem != NULL)
    tcp_env_memory(&f->env, f->logs, sizeof f->logs); /* soft: all of it is there again */
  f->timer_at = UINT64_MAX;
  tcp_env_busy(&f->env, f->busy, 4);
  REQUIRE(tcp_adopt(&f->env, f->conn, &f->d, f->tx_head, f->rx_tail, f->mtu, f->now) == 0);
  if (f->shut)
    tcp_shutdown(&f->env, f->conn, f->now);
}

static void options(struct fuzz *f) {
  struct abi_options o = {.flags = take(f, 1),
                          .keepidle_s = take(f, 1),
                          .keepintvl_s = take(f, 1),
                          .keepcnt = take(f, 1),
                          .user_timeout_ms = take(f, 2),
                          .mss = take(f, 2)};
  o.flags &= ~ABI_OPT_FASTOPEN; /* said before the connect, if at all */
  o.cc = (uint8_t)(o.keepcnt & 3);
  if (o.keepcnt & 0x40)
    o.rcvbuf = o.mss * 16;
  if (o.keepcnt & 0x20)
    o.sndbuf = o.mss * 16;
  tcp_options(&f->env, f->conn, &o, f->now);
}

static void look(struct fuzz *f) {
  struct abi_tcp_figures g;
  struct abi_tcp_more m;
  tcp_figures(&f->env, f->conn, &g);
  tcp_figures_more(&f->env, f->conn, &m);
  REQUIRE(tcp_send_buffer(&f->env, f->conn, 1u << 16) <= 1u << 24);
  struct abi_tw t = {.life = 0};
  if (f->d.state == ABI_TCP_TIME_WAIT)
    tcp_tw_make(&f->env, f->conn, &t);
}

/* Calls of the app. 1: it was one. */
static int app_step(struct fuzz *f, uint32_t op) {
  uint32_t n;
  switch (op) {
  case 2:
    n = take(f, 2) * (f->env.cfg.nodelay ? 1 : 4) % (TX_SIZE + 1);
    if (!f->shut && n <= TX_SIZE - (f->tx_tail - f->tx_head))
      f->tx_tail += n;
    return 1;
  case 3:
    n = take(f, 2);
    f->rx_head += n < f->rx_tail - f->rx_head ? n : f->rx_tail - f->rx_head;
    tcp_rx_consumed(&f->env, f->conn, f->now);
    return 1;
  case 4:
    f->shut = 1;
    tcp_shutdown(&f->env, f->conn, f->now);
    return 1;
  case 5:
    f->shut = 1;
    tcp_close(&f->env, f->conn, f->rx_head != f->rx_tail, f->now);
    return 1;
  case 7:
    options(f);
    return 1;
  case 9:
    tcp_accept_ready(&f->env, f->conn, f->now);
    return 1;
  case 13:
    if (take(f, 1) % 32 == 31)
      tcp_abort(&f->env, f->conn, ECONNABORTED, f->now);
    return 1;
  }
  return 0;
}

static void step(struct fuzz *f) {
  uint32_t n, op = take(f, 1) % 20;
  if (app_step(f, op))
    return;
  switch (op) {
  default:
    segment(f);
    break;
  case 1:
    pass_time(f);
    break;
  case 6:
    adopt(f, take(f, 1) & 1);
    break;
  case 8:
    n = take(f, 1);
    f->send_rc = n & 3 ? 0 : n & 4 ? -ENOBUFS : n & 64 ? -EMSGSIZE : -EHOSTUNREACH;
    f->short_memory = (n & 8) != 0;
    f->offers = n & 32 ? -EAGAIN : (n & 16) == 0;
    break;
  case 10:
    n = take(f, 1);
    tcp_icmp(&f->env, f->conn, (int)(n % 3), (int)(n & 16 ? EHOSTUNREACH : ECONNREFUSED), take(f, 2),
             near_seq(f, f->conn->snd_una), f->now);
    break;
  case 11:
    look(f);
    break;
  case 12:
    tcp_path_back(&f->env, f->conn);
    break;
  case 14: /* receive buffers have what they have here: their tunables stay */
    n = take(f, 1) % ABI_TUNE_N;
    if (n < ABI_TUNE_rcv_buf_min || n > ABI_TUNE_snd_buf_max)
      (void)tcp_tunable_put(&f->env.cfg, n, take(f, 2) >> (n & 1 ? 8 : 0));
    break;
  case 17: /* the app's urgent mark: the session layer tells those that lie behind bytes of the fifo */
    n = take(f, 2);
    if (f->tx_tail != f->tx_head)
      tcp_urgent(f->conn, f->tx_head + 1 + n % (f->tx_tail - f->tx_head));
    break;
  case 15:
  case 16:
    good_segment(f);
    break;
  }
}

/* The three ways of a listener: a SYN remembered, with Fast Open, or answered by a cookie whose ACK comes back. */
static int open_passive(struct fuzz *f, unsigned how) {
  struct tcp_seg_in s = {.segs = 1, .hdr = {.flags = TCP_SYN, .seq = take(f, 4), .wnd = (uint16_t)take(f, 2)}};
  struct tcp_seg_out out;
  take_opts(f, &s.hdr.opts, 1);
  if (how == 1) {
    static const uint8_t payload[1460];
    unsigned tfo = tcp_tfo_check(&f->env, &f->d, &s) | (take(f, 1) & (TCP_TFO_COOKIE | TCP_TFO_DATA));
    struct tcp_piece pc = {payload, s.len = take(f, 2) % sizeof payload};
    s.pieces = &pc;
    s.n_pieces = 1;
    return tcp_passive_fast(&f->env, f->conn, &f->d, &s, f->mtu, tfo, f->now);
  }
  if (how != 2)
    return tcp_passive_open(&f->env, f->conn, &f->d, &s, f->mtu, f->now);
  struct abi_tcb d = f->d;
  if (tcp_cookie_syn(&f->env, &d, &s, f->mtu, f->rx_cap, &out, f->now) < 0)
    return -1;
  struct tcp_opts o = {.present = out.opts.present & TCP_OPT_HAS_TS, .ts_val = s.hdr.opts.ts_val + 1};
  o.ts_ecr = out.opts.ts_val;
  struct tcp_seg_in a = {.segs = 1,
                         .hdr = {.flags = TCP_ACK, .seq = out.ack, .ack = out.seq + 1, .wnd = 30000, .opts = o}};
  f->now += take(f, 2) * 1000;
  REQUIRE(tcp_cookie_valid(&f->env, &f->d, &a, f->now)); /* 65 s at most: it still counts */
  if (tcp_cookie_open(&f->env, f->conn, &f->d, &a, f->mtu, f->now) < 0)
    return -1;
  feed(f, &a);
  return f->closed ? -1 : 0;
}

static int open_conn(struct fuzz *f) {
  uint8_t how = (uint8_t)take(f, 1);
  f->conn = malloc(sizeof *f->conn);
  REQUIRE(f->conn != NULL);
  memset(f->conn, 0xa5, sizeof *f->conn);
  f->d.local = (struct abi_endpoint){.family = how & 8 ? 6 : 4, .ip = {[15] = 1}};
  f->d.remote = (struct abi_endpoint){.family = how & 8 ? 6 : 4, .ip = {[15] = 2}};
  f->env.cfg.sack = !(how & 16);
  f->env.cfg.timestamps = !(how & 32);
  f->env.cfg.wscale = !(how & 64);
  f->env.cfg.pacing = !(how & 128);
  if (!(how & 1))
    return open_passive(f, how >> 1 & 3);
  if (how & 6) { /* Fast Open: a cookie may be known, bytes may lie there before the connect */
    f->d.opt.flags = ABI_OPT_FASTOPEN;
    f->tx_tail = take(f, 2) % 4000;
    for (unsigned i = 0; how & 4 && i < TCP_TFO_SLOTS; i++) {
      struct tcp_tfo_entry *e = &f->tfo.e[i];
      memcpy(e->remote, f->d.remote.ip, 16);
      e->len = 8;
      e->mss = 1400;
    }
  }
  (void)tcp_connect(&f->env, f->conn, &f->d, f->mtu, f->now);
  return 0;
}

static void configure(struct fuzz *f) {
  uint8_t b = (uint8_t)take(f, 1);
  tcp_config_defaults(&f->env.cfg);
  f->env.cfg.rcv_buf_max = b & 1 ? RX_SIZE : RX_MAX;
  f->env.cfg.rcv_buf = b & 1 ? RX_SIZE : 65536;
  f->rx_cap = f->env.cfg.rcv_buf;
  f->env.cfg.cc = (uint8_t)((1 + (b >> 1 & 3)) % 3);
  f->env.cfg.ecn = (uint8_t)((1 + (b >> 3 & 3)) % 3);
  f->env.cfg.mtu_probing = (uint8_t)((1 + (b >> 5 & 3)) % 3);
  f->mtu = b & 0x40 ? 9000 : 1500;
  f->env.tfo = &f->tfo;
  f->cookie = (struct abi_cookie){.gen = 1, .drawn_at = f->now, .key = {{1}, {2}}};
  f->env.cookie = &f->cookie;
  f->env.ops = &fuzz_ops;
  f->env.ctx = f;
  f->env.counters = f->counters;
  tcp_env_busy(&f->env, f->busy, 4);
  if (!(b & 0x80))
    tcp_env_memory(&f->env, f->logs, sizeof f->logs);
}

static void check(const struct fuzz *f) {
  int line = tcp_conn_check(&f->env, f->conn);
  if (line == 0)
    return;
  fprintf(stderr, "tcp_conn_check: line %d in %s, fin %x\n", line, tcp_state_name(f->d.state), f->d.fin);
  abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz *f = calloc(1, sizeof *f);
  REQUIRE(f != NULL);
  memset(placed, 0, placed_high);
  placed_high = 0;
  f->in = (struct fuzz_input){data, size};
  f->now = 1000000;
  f->timer_at = UINT64_MAX;
  f->offers = 1;
  configure(f);
  if (open_conn(f) == 0)
    for (int i = 0; i < STEPS_MAX && f->in.left > 0 && !f->closed; i++) {
      step(f);
      if (!f->closed && (take(f, 1) & 3) != 0)
        (void)tcp_output(&f->env, f->conn, f->now);
      if (!f->closed)
        check(f);
    }
  free(f->conn);
  free(f);
  return 0;
}
