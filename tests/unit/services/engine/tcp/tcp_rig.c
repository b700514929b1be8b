/*
 * The rig's other half: ops over plain buffers, the peer's segments, expectations. Used by the tests in this folder.
 */
#include "tcp_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t peer_byte(uint32_t pos) {
  return (uint8_t)(pos * 31 + (pos >> 8));
}

/* --- ops --- */

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct rig *r = ctx;
  assert_ptr_equal(c, &r->conn);
  len = HS_MIN(len, r->place_max);
  assert_true(off + len <= r->rx_limit - (r->rx_tail - r->rx_head));
  assert_true(skip + len <= seg->len);
  for (uint32_t i = 0; i < len; i++)
    r->rx[(r->rx_tail + off + i) % RIG_BUF] = seg->pieces[0].p[skip + i];
  return len;
}

static void op_rx_publish(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct rig *r = ctx;
  (void)c;
  for (uint32_t i = 0; i < n; i++)
    assert_int_equal(r->rx[(r->rx_tail + i) % RIG_BUF], peer_byte(r->rx_tail + i));
  r->rx_tail += n;
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct rig *r = ctx;
  (void)c;
  uint32_t unread = r->rx_tail - r->rx_head;
  return r->rx_limit > unread ? r->rx_limit - unread : 0;
}

static uint32_t op_tx_used(void *ctx, struct tcp_conn *c) {
  struct rig *r = ctx;
  (void)c;
  return r->tx_tail - r->tx_head;
}

static void op_tx_release(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct rig *r = ctx;
  (void)c;
  assert_true(n <= r->tx_tail - r->tx_head);
  r->tx_head += n;
}

static int op_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out) {
  struct rig *r = ctx;
  (void)c;
  if (r->send_rc < 0)
    return r->send_rc;
  assert_true(r->n_sent - r->seen < RIG_SENT);
  r->sent[r->n_sent++ % RIG_SENT] = *out;
  return 0;
}

static void op_event(void *ctx, struct tcp_conn *c, enum tcp_event ev) {
  struct rig *r = ctx;
  (void)c;
  assert_false(r->closed);
  r->events |= EV(ev);
  if (ev == TCP_EV_CLOSED) {
    r->closed = 1;
    r->timer_at = UINT64_MAX;
  }
}

static int op_offer(void *ctx, struct tcp_conn *c) {
  struct rig *r = ctx;
  (void)c;
  return r->offers;
}

static void op_timer(void *ctx, struct tcp_conn *c, usec_t when) {
  struct rig *r = ctx;
  (void)c;
  r->timer_at = when;
}

static uint32_t op_gso_max(void *ctx, struct tcp_conn *c) {
  struct rig *r = ctx;
  (void)c;
  return r->gso;
}

static const struct tcp_env_ops rig_ops = {.rx_place = op_rx_place,
                                           .rx_publish = op_rx_publish,
                                           .rx_room = op_rx_room,
                                           .tx_used = op_tx_used,
                                           .tx_release = op_tx_release,
                                           .send = op_send,
                                           .event = op_event,
                                           .offer = op_offer,
                                           .timer = op_timer,
                                           .gso_max = op_gso_max};

void rig_init(struct rig *r) {
  memset(r, 0, sizeof *r);
  tcp_config_defaults(&r->env.cfg);
  r->env.cfg.cc = (uint8_t)tcp_cc_find("newreno"); /* plain numbers; test_cc.c has the others */
  r->env.cfg.pacing = 0;                           /* test_pace.c has it */
  r->env.ops = &rig_ops;
  r->env.ctx = r;
  r->env.counters = r->counters;
  tcp_env_memory(&r->env, r->logs, sizeof r->logs);
  tcp_env_busy(&r->env, r->busy, 64);
  memset(r->env.secret, 7, sizeof r->env.secret);
  r->env.cfg.rcv_buf_max = 65535; /* no scaling of ours unless a test wants it */
  r->rx_limit = 65535;
  r->place_max = UINT32_MAX;
  r->offers = 1;
  r->gso = RIG_MSS;
  r->now = 5 * RIG_S;
  r->timer_at = UINT64_MAX;
  r->wnd = RIG_WND;
  r->d.local = (struct abi_endpoint){.family = 4, .port = be16_from(80), .ip = {[15] = 1}};
  r->d.remote = (struct abi_endpoint){.family = 4, .port = be16_from(4000), .ip = {[15] = 2}};
}

struct rig *rig_new(void) {
  struct rig *r = malloc(sizeof *r);
  assert_non_null(r);
  rig_init(r);
  return r;
}

int rig_setup(void **state) {
  *state = rig_new();
  return 0;
}

int rig_teardown(void **state) {
  free(*state);
  return 0;
}

/* --- the peer --- */

static void peer_opts(const struct rig *r, struct tcp_opts *o, unsigned opts) {
  o->present = TCP_OPT_HAS_MSS;
  o->mss = RIG_MSS;
  if (opts & RIG_SACK)
    o->present |= TCP_OPT_HAS_SACK_OK;
  if (opts & RIG_WS) {
    o->present |= TCP_OPT_HAS_WSCALE;
    o->wscale = 7;
  }
  if (opts & RIG_TS) {
    o->present |= TCP_OPT_HAS_TS;
    o->ts_val = r->ts_val;
  }
}

void rig_syn_in(struct rig *r, unsigned flags, uint32_t ack, unsigned opts) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.ack = flags & TCP_ACK ? r->d.iss + ack : 0;
  s.hdr.flags = (uint16_t)flags;
  s.hdr.wnd = r->wnd;
  if ((opts & RIG_TS) && r->ts_val == 0)
    r->ts_val = 100;
  peer_opts(r, &s.hdr.opts, opts);
  if (flags & TCP_ACK)
    s.hdr.opts.ts_ecr = tcp_open_ts(&r->d, r->now);
  tcp_input(&r->env, &r->conn, &s, r->now);
}

void rig_in_raw(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, uint32_t segs) {
  static uint8_t data[RIG_BUF];
  struct tcp_seg_in s = {.segs = segs, .len = len};
  assert_true(len <= sizeof data);
  for (uint32_t i = 0; i < len; i++)
    data[i] = peer_byte(seq - 1 + i);
  struct tcp_piece pc = {data, len};
  s.pieces = &pc;
  s.n_pieces = 1;
  s.hdr.seq = RIG_PEER + seq;
  s.hdr.ack = flags & TCP_ACK ? r->d.iss + ack : 0;
  s.hdr.flags = (uint16_t)flags;
  s.hdr.wnd = r->wnd;
  if (r->ts_val) {
    s.hdr.opts.present |= TCP_OPT_HAS_TS;
    s.hdr.opts.ts_val = r->ts_val;
    s.hdr.opts.ts_ecr = tcp_open_ts(&r->d, r->now);
  }
  if (r->n_sack) {
    s.hdr.opts.present |= TCP_OPT_HAS_SACK;
    s.hdr.opts.n_sack = (uint8_t)r->n_sack;
    for (uint32_t i = 0; i < r->n_sack; i++)
      s.hdr.opts.sack[i] = (struct tcp_sack){r->d.iss + r->sack[i].l, r->d.iss + r->sack[i].r};
    r->n_sack = 0;
  }
  tcp_input(&r->env, &r->conn, &s, r->now);
}

void rig_in(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len) {
  rig_in_raw(r, flags, seq, ack, len, 1);
  if (!r->closed)
    (void)tcp_output(&r->env, &r->conn, r->now);
}

/* --- opens --- */

void rig_passive(struct rig *r, unsigned opts) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = r->wnd;
  if (opts & RIG_TS)
    r->ts_val = 100;
  peer_opts(r, &s.hdr.opts, opts);
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  STATE(r, ABI_TCP_ESTABLISHED);
}

void rig_start(struct rig *r, unsigned opts) {
  rig_passive(r, opts);
  r->d.opt.flags |= ABI_OPT_NODELAY;
  (void)rig_events(r);
}

void rig_ten_out(struct rig *r, unsigned opts) {
  r->wnd = 65535;
  rig_passive(r, opts);
  rig_write(r, 10 * tcp_mss_payload(&r->conn));
  assert_int_equal(rig_unseen(r), 10);
  rig_skip(r);
}

uint32_t rig_at(const struct rig *r, uint32_t n) {
  return 1 + n * tcp_mss_payload(&r->conn);
}

void rig_sack(struct rig *r, uint32_t first, uint32_t last) {
  r->sack[r->n_sack++] = (struct tcp_sack){rig_at(r, first), rig_at(r, last)};
}

void rig_active(struct rig *r, unsigned opts) {
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, opts);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
  STATE(r, ABI_TCP_ESTABLISHED);
}

void rig_to(struct rig *r, uint32_t state) {
  rig_passive(r, 0);
  int peer_first = state == ABI_TCP_CLOSE_WAIT || state == ABI_TCP_LAST_ACK;
  if (peer_first)
    rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  if (state != ABI_TCP_ESTABLISHED && state != ABI_TCP_CLOSE_WAIT)
    rig_shutdown(r);
  if (state == ABI_TCP_FIN_WAIT_2 || state == ABI_TCP_TIME_WAIT)
    rig_in(r, TCP_ACK, 1, 2, 0);
  if (state == ABI_TCP_CLOSING)
    rig_in(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  if (state == ABI_TCP_TIME_WAIT)
    rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  rig_skip(r);
  STATE(r, state);
  (void)rig_events(r);
}

int rig_adopt(struct rig *r) {
  memset(&r->conn, 0xa5, sizeof r->conn);
  memset(r->counters, 0, sizeof r->counters);
  r->timer_at = UINT64_MAX;
  rig_skip(r);
  return tcp_adopt(&r->env, &r->conn, &r->d, r->tx_head, r->rx_tail, 1500, r->now);
}

/* --- the app and the clock --- */

void rig_write(struct rig *r, uint32_t len) {
  r->tx_tail += len;
  (void)tcp_output(&r->env, &r->conn, r->now);
}

void rig_read(struct rig *r, uint32_t len) {
  assert_true(len <= r->rx_tail - r->rx_head);
  r->rx_head += len;
  tcp_rx_consumed(&r->env, &r->conn, r->now);
}

void rig_pass(struct rig *r, usec_t us) {
  usec_t end = r->now + us;
  while (!r->closed && r->timer_at <= end) {
    r->now = HS_MAX(r->now, r->timer_at);
    r->timer_at = UINT64_MAX;
    tcp_timer(&r->env, &r->conn, r->now);
  }
  r->now = end;
}

void rig_shutdown(struct rig *r) {
  tcp_shutdown(&r->env, &r->conn, r->now);
}

void rig_close(struct rig *r) {
  tcp_close(&r->env, &r->conn, r->rx_head != r->rx_tail, r->now);
}

uint32_t rig_events(struct rig *r) {
  uint32_t e = r->events;
  r->events = 0;
  return e;
}

void rig_skip(struct rig *r) {
  r->seen = r->n_sent;
}

uint32_t rig_unseen(const struct rig *r) {
  return r->n_sent - r->seen;
}

/* --- expectations --- */

void rig_expect_at(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, const char *file,
                   int line) {
  if (r->seen == r->n_sent) {
    print_error("%s:%d: nothing was sent\n", file, line);
    _fail(file, line);
  }
  const struct tcp_seg_out *o = &r->sent[r->seen++ % RIG_SENT];
  unsigned got = o->flags & ~(unsigned)TCP_PSH;
  uint32_t got_seq = o->seq - r->d.iss, got_ack = o->ack - RIG_PEER;
  if (got != flags || got_seq != seq || o->len != len || ((flags & TCP_ACK) && got_ack != ack)) {
    print_error("%s:%d: sent flags %x seq %u ack %u len %u, not flags %x seq %u ack %u len %u\n", file, line, got,
                got_seq, got_ack, o->len, flags, seq, ack, len);
    _fail(file, line);
  }
}

void rig_nothing_at(struct rig *r, const char *file, int line) {
  if (r->seen != r->n_sent) {
    const struct tcp_seg_out *o = &r->sent[r->seen % RIG_SENT];
    print_error("%s:%d: also sent flags %x seq %u ack %u len %u (%u segments unseen)\n", file, line, o->flags,
                o->seq - r->d.iss, o->ack - RIG_PEER, o->len, r->n_sent - r->seen);
    _fail(file, line);
  }
  int bad = r->closed ? 0 : tcp_conn_check(&r->env, &r->conn);
  if (bad) {
    print_error("%s:%d: tcp_conn_check: line %d\n", file, line, bad);
    _fail(file, line);
  }
}

void rig_state_at(struct rig *r, uint32_t state, const char *file, int line) {
  if (r->d.state != state) {
    print_error("%s:%d: state %s, not %s\n", file, line, tcp_state_name(r->d.state), tcp_state_name(state));
    _fail(file, line);
  }
}
