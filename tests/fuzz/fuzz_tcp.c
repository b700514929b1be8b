/*
 * Fuzz target over the TCP core: the input is a script of hostile segments, app calls, time and engine crashes, against
 * one connection over honest fifos. tcp_conn_check is the oracle after every step, and every segment that leaves must
 * keep the promises that adoption relies on (snd_max, rcv_adv, nothing acknowledged that is not published).
 * Corpus in corpus/tcp.
 */
#include "tcp_conn.h"
#include "tcp_counters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                                                  \
  do {                                                                                                                 \
    if (!(cond))                                                                                                       \
      abort();                                                                                                         \
  } while (0)

#define RX_SIZE   8192u
#define TX_SIZE   16384u
#define STEPS_MAX 400

struct fuzz {
  struct tcp_env env;
  struct tcp_conn *conn;
  struct abi_tcb d;
  uint64_t counters[TCP_N_COUNTERS];
  uint32_t rx_head, rx_tail, tx_head, tx_tail;
  uint32_t placed_end; /* furthest byte ever placed, from rx position 0 */
  usec_t now, timer_at;
  int closed, offers, short_memory, send_rc, shut;
  const uint8_t *in;
  size_t left;
};

static uint32_t take(struct fuzz *f, unsigned bytes) {
  uint32_t v = 0;
  while (bytes-- > 0) {
    v <<= 8;
    if (f->left > 0) {
      v |= *f->in++;
      f->left--;
    }
  }
  return v;
}

/* --- ops --- */

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct fuzz *f = ctx;
  REQUIRE(c == f->conn && skip + len <= seg->len && off + len <= RX_SIZE - (f->rx_tail - f->rx_head));
  if (f->short_memory)
    len /= 2;
  if (f->rx_tail + off + len > f->placed_end)
    f->placed_end = f->rx_tail + off + len;
  return len;
}

static void op_rx_publish(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct fuzz *f = ctx;
  (void)c;
  f->rx_tail += n;
  REQUIRE(f->rx_tail - f->rx_head <= RX_SIZE && f->rx_tail <= f->placed_end);
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct fuzz *f = ctx;
  (void)c;
  return RX_SIZE - (f->rx_tail - f->rx_head);
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
  REQUIRE((out->gso_size ? out->gso_size : out->len) + (uint32_t)hdr <= 1480);
  if (out->flags & TCP_RST)
    return f->send_rc;
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
                                            .tx_used = op_tx_used,
                                            .tx_release = op_tx_release,
                                            .send = op_send,
                                            .event = op_event,
                                            .offer = op_offer,
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
    may = TCP_OPT_HAS_MSS | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_TS;
  o->present = has & may;
  if (f->d.life == ABI_TCB_USED && (f->d.nego & ABI_TCB_TS) && !(has & 0x80))
    o->present |= TCP_OPT_HAS_TS; /* mostly there where it must be */
  o->mss = (uint16_t)take(f, syn ? 2 : 0);
  o->wscale = (uint8_t)take(f, syn ? 1 : 0);
  uint32_t step = o->present & TCP_OPT_HAS_TS ? take(f, 1) : 0;
  o->ts_val = f->d.ts_recent + step - (step & 0x80 ? 0x100u : 0);
  o->ts_ecr = (uint32_t)(f->now / 1000) + f->d.ts_offset - (has & 0x40 ? take(f, 1) : 0);
  if (!(o->present & TCP_OPT_HAS_SACK))
    return;
  o->n_sack = (uint8_t)(1 + take(f, 1) % TCP_SACK_MAX);
  for (unsigned i = 0; i < o->n_sack; i++) {
    o->sack[i].l = near_seq(f, f->conn ? f->conn->snd_una : 0);
    o->sack[i].r = o->sack[i].l + take(f, 2);
  }
}

static void segment(struct fuzz *f) {
  static const uint8_t zeros[70000];
  static const uint16_t flags[16] = {TCP_ACK,
                                     TCP_ACK,
                                     TCP_ACK,
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
                                     TCP_ACK,
                                     0x1ff};
  uint8_t kind = (uint8_t)take(f, 1);
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.flags = flags[kind & 15];
  seq32_t nxt = f->conn ? f->conn->rcv_nxt : 0;
  s.hdr.seq = kind & 0x10 ? near_seq(f, nxt) : nxt;
  s.hdr.ack = kind & 0x20 ? near_seq(f, f->d.snd_max) : f->d.snd_max;
  s.len = kind & 0x40 ? take(f, 2) % (kind & 0x80 ? 65000 : 3000) : 0;
  s.hdr.wnd = kind & 0x80 ? (uint16_t)take(f, 2) : 30000;
  take_opts(f, &s.hdr.opts, (s.hdr.flags & TCP_SYN) != 0);
  struct tcp_piece pc = {zeros, s.len};
  s.pieces = &pc;
  s.n_pieces = 1;
  s.segs = 1 + s.len / 1460;
  struct tcp_seg_out out;
  (void)tcp_reply_closed(&s, &out);
  (void)tcp_time_wait_reuse(f->conn, &s);
  tcp_input(&f->env, f->conn, &s, f->now);
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
  if (!ranges)
    memset(f->d.ooo, 0, sizeof f->d.ooo);
  f->timer_at = UINT64_MAX;
  REQUIRE(tcp_adopt(&f->env, f->conn, &f->d, f->tx_head, f->rx_tail, 1500, f->now) == 0);
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
  tcp_options(&f->env, f->conn, &o, f->now);
}

static void step(struct fuzz *f) {
  uint32_t n, op = take(f, 1) % 20;
  switch (op) {
  default:
    segment(f);
    break;
  case 1:
    pass_time(f);
    break;
  case 2:
    n = take(f, 2) % (TX_SIZE + 1);
    if (!f->shut && n <= TX_SIZE - (f->tx_tail - f->tx_head))
      f->tx_tail += n;
    break;
  case 3:
    n = take(f, 2);
    f->rx_head += n < f->rx_tail - f->rx_head ? n : f->rx_tail - f->rx_head;
    tcp_rx_consumed(&f->env, f->conn, f->now);
    break;
  case 4:
    f->shut = 1;
    tcp_shutdown(&f->env, f->conn, f->now);
    break;
  case 5:
    f->shut = 1;
    tcp_close(&f->env, f->conn, f->rx_head != f->rx_tail, f->now);
    break;
  case 6:
    adopt(f, take(f, 1) & 1);
    break;
  case 7:
    options(f);
    break;
  case 8:
    n = take(f, 1);
    f->send_rc = n & 3 ? 0 : n & 4 ? -ENOBUFS : -EHOSTUNREACH;
    f->short_memory = (n & 8) != 0;
    f->offers = (n & 16) == 0;
    break;
  case 9:
    tcp_accept_ready(&f->env, f->conn, f->now);
    break;
  case 10:
    n = take(f, 1);
    tcp_icmp(&f->env, f->conn, (int)(n % 3), (int)(n & 16 ? EHOSTUNREACH : ECONNREFUSED), take(f, 2),
             near_seq(f, f->conn->snd_una), f->now);
    break;
  }
}

static int open_conn(struct fuzz *f) {
  f->conn = malloc(sizeof *f->conn);
  REQUIRE(f->conn != NULL);
  memset(f->conn, 0xa5, sizeof *f->conn);
  f->d.local = (struct abi_endpoint){.family = 4, .ip = {[15] = 1}};
  f->d.remote = (struct abi_endpoint){.family = 4, .ip = {[15] = 2}};
  if (take(f, 1) & 1) {
    (void)tcp_connect(&f->env, f->conn, &f->d, 1500, f->now);
    return 0;
  }
  struct tcp_seg_in s = {.segs = 1, .hdr = {.flags = TCP_SYN, .seq = take(f, 4), .wnd = (uint16_t)take(f, 2)}};
  take_opts(f, &s.hdr.opts, 1);
  return tcp_passive_open(&f->env, f->conn, &f->d, &s, 1500, f->now);
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
  f->in = data;
  f->left = size;
  f->now = 1000000;
  f->timer_at = UINT64_MAX;
  f->offers = 1;
  tcp_config_defaults(&f->env.cfg);
  f->env.cfg.rcv_buf_max = take(f, 1) & 1 ? RX_SIZE : 1u << 22;
  f->env.ops = &fuzz_ops;
  f->env.ctx = f;
  f->env.counters = f->counters;
  if (open_conn(f) == 0)
    for (int i = 0; i < STEPS_MAX && f->left > 0 && !f->closed; i++) {
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
