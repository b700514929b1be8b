/*
 * Edges that no trace of packets reaches by itself, each call by hand: the invariants that tcp_conn_check watches over,
 * when a window update is worth an ACK, the sums of CUBIC and HyStart++ (RFC 9438, 9406), what the list of sent ranges
 * merges and when it runs out of memory.
 */
#include "tcp_rig.h"

#define MSS 1460u

static struct tcp_conn *conn(struct rig *r, unsigned opts) {
  rig_init(r);
  rig_passive(r, opts);
  r->now += RIG_S;
  return &r->conn;
}

/* Ten segments out, the third SACKed, two ranges beyond a hole received. */
static struct tcp_conn *busy(struct rig *r) {
  struct tcp_conn *c = conn(r, RIG_SACK);
  rig_write(r, 10 * MSS);
  rig_in(r, TCP_ACK, 2001, 1, 500);
  rig_in(r, TCP_ACK, 3001, 1, 500);
  r->sack[r->n_sack++] = (struct tcp_sack){1 + 2 * MSS, 1 + 3 * MSS};
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(tcp_conn_check(&r->env, c), 0);
  assert_int_equal(c->b->board.n, 1);
  return c;
}

#define BREAKS(change)                                                                                                 \
  do {                                                                                                                 \
    struct tcp_conn *c = busy(r);                                                                                      \
    struct abi_tcb *d = c->d;                                                                                          \
    (void)d;                                                                                                           \
    change;                                                                                                            \
    if (tcp_conn_check(&r->env, c) == 0) {                                                                             \
      print_error("not noticed: %s\n", #change);                                                                       \
      _fail(__FILE__, __LINE__);                                                                                       \
    }                                                                                                                  \
  } while (0)
#define KEEPS(change)                                                                                                  \
  do {                                                                                                                 \
    struct tcp_conn *c = busy(r);                                                                                      \
    struct abi_tcb *d = c->d;                                                                                          \
    (void)d;                                                                                                           \
    change;                                                                                                            \
    assert_int_equal(tcp_conn_check(&r->env, c), 0);                                                                   \
  } while (0)

static void test_invariants(void **state) {
  struct rig *r = *state;
  BREAKS(d->life = 0);
  BREAKS(d->state = 0);
  BREAKS(d->state = ABI_TCP_LISTEN);
  BREAKS(d->state = ABI_TCP_CLOSING + 1);
  BREAKS(c->cwnd = 0);
  KEEPS(c->cwnd = 1);
  BREAKS(c->mss = 87);
  KEEPS(c->mss = 88);
  BREAKS(d->rcv_wscale = 15);
  BREAKS(d->snd_wscale = 15);
  KEEPS(d->snd_wscale = 14);
  BREAKS(c->snd_nxt = c->snd_una - 1);
  BREAKS(c->snd_nxt = d->snd_max + 1);
  BREAKS(c->rcv_nxt = d->rcv_adv + 1);
  BREAKS(d->last_ack_sent = c->rcv_nxt + 1);
  BREAKS(c->recovery = TCP_LOSS; c->recover = c->snd_una - 1);
  BREAKS(c->recovery = TCP_LOSS; c->recover = d->snd_max + 1);
  BREAKS(r->tx_tail -= 1);
  BREAKS(d->fin |= ABI_TCB_FIN_ACKED);
  BREAKS(d->fin |= ABI_TCB_FIN_RCVD);
  BREAKS(d->state = ABI_TCP_TIME_WAIT);
  BREAKS(c->b->due[TCP_T_RTO] = 0);
  BREAKS(c->b->due[TCP_T_RTO] = c->ordered - 1);
  BREAKS(c->b->due[TCP_T_PACE] = c->ordered - 1);
  BREAKS(c->b->due[0] = c->ordered - 1);
  BREAKS(c->b->board.bytes++);
  BREAKS(c->b->board.n = TCP_BOARD_MAX + 1);
  BREAKS(c->b->board.r[0].r = c->b->board.r[0].l; c->b->board.bytes = 0);
  BREAKS(c->b->board.r[0].l = c->snd_una - 1; c->b->board.bytes = 3 * MSS + 1);
  BREAKS(c->b->board.r[0].r = d->snd_max + 1; c->b->board.bytes = 8 * MSS + 1);
  BREAKS(c->b->board.n = 2; c->b->board.r[1] = c->b->board.r[0]; c->b->board.bytes *= 2);
  BREAKS(c->ooo_none = 1);
  BREAKS(c->b->n_ooo_latest = TCP_OOO_LATEST + 1);
  BREAKS(d->ooo[7].l = c->rcv_nxt);
  BREAKS(d->ooo[7].r = d->ooo[7].l - 1);
  BREAKS(d->ooo[7].r = d->rcv_adv + 1);
  BREAKS(d->ooo[6].l = d->ooo[7].r);
  BREAKS(c->n_sent = TCP_SENT_LOG_ENTRIES + 1);
  BREAKS(tcp_sent_list(c)[0].r = tcp_sent_list(c)[0].l);
  BREAKS(tcp_sent_list(c)[0].l = c->snd_una - 1);
  BREAKS(tcp_sent_list(c)[c->n_sent - 1].r = d->snd_max + 1);
  BREAKS(tcp_sent_list(c)[0].at = tcp_sent_list(c)[0].from - 1);
  BREAKS(c->n_sent = 0); /* nothing is lost, and yet nobody has it */
  BREAKS(c->recovery = TCP_RECOVERY; c->recover = d->snd_max; c->b->lost = 1);
}

/* --- windows --- */

static struct tcp_conn *windowed(struct rig *r, uint32_t room, uint32_t cur, uint32_t rx_max, uint32_t mss,
                                 int closed) {
  struct tcp_conn *c = conn(r, 0);
  rig_in(r, TCP_ACK, 1, 1, 100); /* something came */
  rig_skip(r);
  r->rx_limit = room + 100;
  c->d->rcv_adv = c->rcv_nxt + cur;
  c->rx_max = rx_max;
  c->rcv_mss = mss;
  c->wnd_closed = (uint8_t)closed;
  return c;
}

/* RFC 9293 3.8.6.2.2: the edge moves by a segment, or half of the buffer, at least. */
static void test_window_edge(void **state) {
  static const struct {
    uint32_t room, cur, rx_max, mss, told, closed;
  } row[] = {
      {10999, 10000, 60000, 1000, 10000, 0},
      {11000, 10000, 60000, 1000, 11000, 0},
      {1500, 1001, 1500, 1000, 1001, 0},
      {1500, 750, 1500, 1000, 1500, 0},
      {1500, 751, 1500, 1000, 751, 1},
      {9000, 10000, 60000, 1000, 10000, 0},
      {1000, 0, 60000, 1000, 1000, 0},
      {999, 0, 60000, 1000, 0, 1},
      {0, 0, 60000, 1000, 0, 1},
      {500, 999, 60000, 1000, 999, 1},
      {65535, 50000, 60000, 1000, 65535, 0},
      {65636, 64000, 60000, 1000, 65535, 0},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_conn *c = windowed(r, row[i].room, row[i].cur, row[i].rx_max, row[i].mss, 0);
    assert_int_equal(tcp_wnd_select(&r->env, c, r->now), row[i].told);
    assert_int_equal(tcp_wnd_current(c), row[i].told);
    assert_int_equal(c->wnd_closed, row[i].closed);
  }
}

/* What the app read is told when it opens a closed window, or is a quarter of the buffer. */
static void test_window_update(void **state) {
  static const struct {
    uint32_t room, cur, rx_max, mss, closed, told;
  } row[] = {
      {1999, 0, 60000, 1000, 1, 0},
      {2000, 0, 60000, 1000, 1, 1},
      {1499, 0, 3000, 1000, 1, 0},
      {1500, 0, 3000, 1000, 1, 1},
      {24999, 10000, 60000, 1000, 0, 0},
      {25000, 10000, 60000, 1000, 0, 1},
      {60000, 29999, 60000, 1000, 0, 1},
      {60000, 30000, 60000, 1000, 0, 0},
      {10000, 10000, 60000, 1000, 0, 0},
      {900, 0, 2000, 1000, 0, 0},
      {1000, 0, 2000, 1000, 0, 1},
      {9000, 10000, 60000, 1000, 1, 0},
      {1, 0, 0, 1000, 1, 1},
      {999, 0, 2001, 1000, 1, 0},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_conn *c = windowed(r, row[i].room, row[i].cur, row[i].rx_max, row[i].mss, (int)row[i].closed);
    tcp_rx_consumed(&r->env, c, r->now);
    if (rig_unseen(r) != row[i].told)
      print_error("row %u\n", i);
    assert_int_equal(rig_unseen(r), row[i].told);
    assert_int_equal(COUNTER(r, window_updates), row[i].told);
  }
}

/* --- CUBIC --- */

static struct tcp_conn *cubic(struct rig *r) {
  rig_init(r);
  r->env.cfg.cc = (uint8_t)tcp_cc_find("cubic");
  rig_passive(r, 0);
  r->now += RIG_S;
  r->conn.srtt8 = 8 * 100000;
  r->conn.limited = 1;
  return &r->conn;
}

/* RFC 9438 4.2 equation 1 in floating point, over all windows: the error is below a four-millionth. */
static void test_curve(void **state) {
  struct tcp_conn *c = cubic(*state);
  c->w_max = 0;
  c->b->cubic.k = 0;
  for (uint64_t t = 90000; t < 132000; t += 999) {
    double s = (double)t * 1.024e-3, want = 0.4 * s * s * s * MSS, got = (double)tcp_cc_cubic_at(c, t);
    if (want < (double)TCP_CWND_MAX)
      assert_true(got > want * (1 - 2.5e-7) - 1 && got < want * (1 + 2.5e-7) + 1);
  }
  c->b->cubic.k = 1000;
  c->w_max = 100; /* far below the plateau: nothing is left */
  assert_int_equal(tcp_cc_cubic_at(c, 0), 0);
  c->w_max = 1000000;
  assert_int_equal(tcp_cc_cubic_at(c, 1000), 1000000);
}

static void test_epoch(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic(r);
  c->cwnd = c->ssthresh = 700 * MSS;
  c->w_max = 1000 * MSS;
  c->b->cubic.est_acked = 99;
  c->cwnd_acked = 99;
  c->cc->acked(c, 0, c->cwnd, r->now);
  assert_int_equal(c->b->cubic.est_acked, 0);
  assert_int_equal(c->b->cubic.w_est, 700 * MSS);
  assert_true(c->b->cubic.epoch_at == r->now);
  assert_int_equal(c->b->cubic.k, 8872); /* cbrt(300 / 0.4) s in ticks of 1024 µs */
  assert_int_equal(c->cwnd_acked, 0);
  /* half a round trip later: one round trip ahead is 150 ms from the epoch's begin */
  r->now += 50000;
  c->cc->acked(c, 100 * MSS, c->cwnd, r->now);
  uint32_t target = tcp_cc_cubic_at(c, (50000 + 100000) >> 10);
  uint64_t grow = (uint64_t)(target - 700 * MSS) * 100 * MSS;
  assert_int_equal(c->cwnd, 700 * MSS + grow / (700 * MSS));
  assert_int_equal(c->cwnd_acked, grow % (700 * MSS));
}

/* 5.8: a pause of more than two round trips does not count, but for one of them. */
static void test_pause(void **state) {
  struct rig *r = *state;
  for (uint32_t us = 201000; us < 201002; us++) {
    struct tcp_conn *c = cubic(r);
    c->cwnd = c->ssthresh = 700 * MSS;
    c->cc->acked(c, 0, c->cwnd, r->now);
    usec_t epoch = c->b->cubic.epoch_at;
    r->now += us;
    c->cc->acked(c, 0, c->cwnd, r->now);
    assert_true(c->b->cubic.epoch_at == (us == 201000 ? epoch : epoch + us - 100000));
    assert_true(c->b->cubic.last_at == r->now);
  }
}

/* Growth needs a window in use; one step is half of the window at most (4.4). */
static void test_cubic_bounds(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic(r);
  c->cwnd = c->ssthresh = 100 * MSS;
  c->limited = 0;
  c->cc->acked(c, MSS, 80 * MSS - 1, r->now);
  assert_true(c->b->cubic.epoch_at == 0);
  c->cc->acked(c, 0, 80 * MSS, r->now);
  assert_true(c->b->cubic.epoch_at == r->now);
  c->w_max = 1000 * MSS; /* the target is far away */
  c->cc->acked(c, 100 * MSS, 100 * MSS, r->now);
  assert_int_equal(c->cwnd, 150 * MSS);
  c = cubic(r);
  c->ssthresh = 100 * MSS - 1;
  c->cwnd = 20 * MSS;
  c->limited = 0;
  c->cc->acked(c, MSS, 10 * MSS - 1, r->now); /* slow start: half of it */
  assert_int_equal(c->cwnd, 20 * MSS);
  c->cc->acked(c, MSS, 10 * MSS, r->now);
  assert_int_equal(c->cwnd, 21 * MSS);
  c->cwnd = 100 * MSS - 5 * MSS;
  c->cc->acked(c, 20 * MSS, 100 * MSS, r->now); /* up to ssthresh */
  assert_int_equal(c->cwnd, 100 * MSS - 1);
}

static void test_cubic_forgets(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic(r);
  c->cwnd = 100 * MSS;
  c->w_max = 100 * MSS; /* as much as before: no convergence */
  c->b->cubic.epoch_at = 5;
  c->b->cubic.k = 6;
  c->cwnd_acked = 7;
  c->b->hystart.css = 3;
  c->cc->loss(c, 100 * MSS, r->now);
  assert_int_equal(c->w_max, 100 * MSS);
  assert_true(c->b->cubic.epoch_at == 0);
  assert_int_equal(c->cwnd_acked, 0);
  assert_int_equal(c->b->hystart.css, 0);
  c->b->prior_cwnd = c->b->prior_ssthresh = 0;
  c->cwnd_acked = 7;
  c->b->cubic.w_est = 8;
  c->cc->undo(c);
  assert_true(c->b->cubic.epoch_at == 5);
  assert_int_equal(c->b->cubic.k, 6);
  assert_int_equal(c->b->cubic.w_est, 0);
  assert_int_equal(c->cwnd_acked, 0);
  c->cwnd_acked = 7;
  c->b->hystart.css = 3;
  c->b->cubic.epoch_at = 5;
  c->cc->rto(c, 100 * MSS, 1, r->now);
  assert_int_equal(c->w_max, 0);
  assert_true(c->b->cubic.epoch_at == 0);
  assert_int_equal(c->cwnd_acked, 0);
  assert_int_equal(c->b->hystart.css, 0);
}

/* RFC 9406 4.2: an eighth more than the last round, in bounds, from the eighth sample on. */
static void test_hystart_threshold(void **state) {
  static const struct {
    uint32_t last, at, css;
  } row[] = {{20000, 23999, 0},   {20000, 24000, 1},   {80000, 89999, 0},   {80000, 90000, 1},
             {160000, 175999, 0}, {160000, 176000, 1}, {128000, 143999, 0}, {128000, 144000, 1}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct tcp_conn *c = cubic(*state);
    c->b->hystart.last = row[i].last;
    c->b->hystart.end = c->snd_una + 1000;
    for (int k = 0; k < 8; k++) {
      c->b->ack_rtt = row[i].at;
      assert_int_equal(c->b->hystart.css, 0);
      c->cc->acked(c, 100, c->cwnd, 0);
    }
    assert_int_equal(c->b->hystart.css, row[i].css);
    assert_int_equal(c->b->hystart.samples, 8);
    uint32_t cwnd = c->cwnd;
    c->b->ack_rtt = 0;
    c->cc->acked(c, 1000, c->cwnd, 0);
    assert_int_equal(c->cwnd - cwnd, row[i].css ? 250 : 1000);
    assert_int_equal(c->b->hystart.samples, 8);
  }
}

/* Five rounds of conservative slow start, then congestion avoidance; or the delay is gone. */
static void test_hystart_rounds(void **state) {
  struct tcp_conn *c = cubic(*state);
  c->b->hystart.css = 1;
  c->b->hystart.last = 20000;
  c->b->ack_rtt = 0;
  for (unsigned i = 1; i <= 5; i++) {
    assert_int_equal(c->b->hystart.css, i);
    c->b->hystart.end = c->snd_una;
    c->snd_nxt = c->snd_una + 500;
    c->cc->acked(c, 0, c->cwnd, 0);
    assert_int_equal(c->b->hystart.end, c->snd_nxt);
    assert_int_equal(c->b->hystart.samples, 0);
    assert_true(c->b->hystart.now == UINT32_MAX);
    if (i < 5)
      assert_true(c->ssthresh == TCP_CWND_MAX);
  }
  assert_int_equal(c->ssthresh, c->cwnd);
  assert_int_equal(c->b->hystart.css, 0);
  for (unsigned samples = 7; samples < 9; samples++) {
    c = cubic(*state);
    c->b->hystart.css = 2;
    c->b->hystart.last = 20000;
    c->b->hystart.now = 19999;
    c->b->hystart.samples = (uint8_t)samples;
    c->b->hystart.end = c->snd_una;
    c->b->ack_rtt = 0;
    c->cc->acked(c, 0, c->cwnd, 0);
    assert_int_equal(c->b->hystart.css, samples == 8 ? 0 : 3);
  }
  c->b->hystart.samples = 255;
  c->b->hystart.end = c->snd_una + 5;
  c->b->ack_rtt = 1;
  c->cc->acked(c, 0, c->cwnd, 0);
  assert_int_equal(c->b->hystart.samples, 255);
}

/* --- what is out --- */

static struct tcp_conn *sender(struct rig *r) {
  struct tcp_conn *c = conn(r, RIG_SACK);
  c->recovery = TCP_RECOVERY;
  c->b->app_limited = 0;
  c->srtt8 = 128 * 100; /* sends within 100 µs are one entry */
  return c;
}

static void add(struct rig *r, uint32_t l, uint32_t to, int again) {
  struct tcp_conn *c = &r->conn;
  tcp_sent_add(&r->env, c, c->snd_una + l, c->snd_una + to, again, r->now);
  c->snd_nxt = c->d->snd_max = c->snd_una + HS_MAX(to, tcp_flight(c));
}

static void test_merge(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = sender(r);
  uint32_t t = (uint32_t)r->now;
  c->b->delivered_at = c->b->first_at = 1;
  add(r, 0, 10, 0);
  assert_int_equal(c->b->delivered_at, t); /* nothing was out */
  assert_int_equal(c->b->first_at, t);
  r->now += 100;
  add(r, 10, 20, 0);
  assert_int_equal(c->n_sent, 1);
  assert_int_equal(tcp_sent_list(c)[0].at, t + 100);
  assert_int_equal(tcp_sent_list(c)[0].from, t);
  r->now++;
  c->b->app_limited = 5;
  add(r, 20, 30, 0);
  assert_int_equal(c->n_sent, 2);
  assert_int_equal(tcp_sent_list(c)[0].limited, 0);
  assert_int_equal(tcp_sent_list(c)[1].limited, 1);
  assert_int_equal(c->b->delivered_at, t);
  add(r, 40, 50, 0); /* does not touch: another, and a microsecond younger */
  assert_int_equal(c->n_sent, 3);
  assert_int_equal(tcp_sent_list(c)[2].at, t + 102);
  add(r, 50, 60, 1); /* not of the same kind */
  assert_int_equal(c->n_sent, 4);
  assert_int_equal(tcp_sent_list(c)[3].at, t + 103);
  r->now -= 2;
  add(r, 60, 70, 1); /* never older than it was */
  assert_int_equal(c->n_sent, 5);
  assert_int_equal(tcp_sent_list(c)[4].at, t + 104);
}

/* Two entries lie in the connection; without memory for more, neighbours in time become one, the younger. */
static void test_squeeze(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = sender(r);
  tcp_env_memory(&r->env, NULL, 5000);
  assert_int_equal(r->env.log_left, 0);
  uint32_t t = (uint32_t)r->now;
  add(r, 0, 10, 0);
  r->now += 1000;
  c->b->app_limited = 1;
  add(r, 10, 20, 0);
  r->now += 1000;
  c->b->app_limited = 0;
  add(r, 20, 30, 0);
  assert_int_equal(COUNTER(r, sent_log_none), 1);
  assert_int_equal(c->n_sent, 2);
  struct tcp_sent *s = tcp_sent_list(c);
  assert_int_equal(s[0].l, c->snd_una);
  assert_int_equal(s[0].r, c->snd_una + 20);
  assert_int_equal(s[0].from, t);
  assert_int_equal(s[0].at, t + 1000);
  assert_int_equal(s[0].limited, 1);
  assert_int_equal(s[1].r, c->snd_una + 30);
  r->now += 1000;
  add(r, 5, 9, 1); /* in the midst of one, without room: the last covers it too */
  assert_int_equal(c->n_sent, 2);
  add(r, 40, 50, 0);
  r->now += 1000;
  assert_int_equal(c->n_sent, 2);
  assert_int_equal(tcp_sent_list(c)[1].r, c->snd_una + 50);
  assert_int_equal(tcp_sent_list(c)[1].rexmit, 1);
}

/* The process stood still for longer than 31 bits of µs tell before from after: what was out stays the older. */
static void test_stood_still(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = sender(r);
  c->rack = 1;
  c->b->rack_at = (uint32_t)r->now - 500;
  add(r, 0, 10, 0);
  r->now += 2000;
  add(r, 10, 20, 0);
  r->now += 36ull * 60 * 1000000;
  add(r, 20, 30, 0);
  const struct tcp_sent *s = tcp_sent_list(c);
  uint32_t t = (uint32_t)r->now, old = t - (1u << 30);
  assert_int_equal(c->n_sent, 3);
  for (uint32_t i = 0; i < 2; i++) {
    assert_int_equal(s[i].from, old);
    assert_int_equal(s[i].at, old);
  }
  assert_int_equal(s[2].at, t);
  assert_int_equal(c->b->rack_at, old);
  r->now += 17ull * 60 * 1000000; /* not long enough: nothing changes */
  add(r, 30, 40, 0);
  assert_int_equal(tcp_sent_list(c)[2].at, t);
}

/* Logs come from the env's memory, and go home. */
static void test_logs(void **state) {
  static uint64_t memory[3 * TCP_LOG_SIZE / 8];
  struct rig *r = *state;
  struct tcp_conn *c = sender(r);
  tcp_env_memory(&r->env, memory, 2 * TCP_LOG_SIZE);
  for (unsigned round = 0; round < 4; round++) {
    for (uint32_t i = 0; i < 3; i++, r->now += 1000)
      add(r, 20 * i, 20 * i + 10, 0);
    assert_int_equal(c->n_sent, 3);
    struct tcp_sent_log *log = c->b->sent_log;
    assert_ptr_equal(log, round == 0 ? memory : memory + (round == 1 ? 1 : 0) * TCP_LOG_SIZE / 8);
    assert_int_equal(r->env.log_left, round == 0 ? TCP_LOG_SIZE : 0);
    if (round == 0) {
      c->b->sent_log = NULL; /* another connection has it */
      tcp_sent_drop(c);
      continue;
    }
    if (round == 1) {
      tcp_sent_release(&r->env, c);
      assert_ptr_equal(r->env.log_free, log);
      r->env.log_free->next = (struct tcp_log *)(void *)memory;
      r->env.log_free = r->env.log_free->next;
      r->env.log_free->next = (struct tcp_log *)(void *)log;
      continue;
    }
    tcp_sent_release(&r->env, c);
    assert_null(c->b->sent_log);
    assert_int_equal(c->n_sent, 0);
  }
}

/* RFC 8985 6.2 step 3: what came behind something that was sent after it, and was sent once, was reordered. */
static void test_reordered(void **state) {
  static const struct {
    uint32_t fack, again;
    int loss, late;
  } row[] = {{0, 0, 0, 0}, {5, 0, 0, 1}, {20, 0, 0, 1}, {20, 1, 0, 0}, {20, 0, 1, 1}, {20, 1, 1, 0}, {1, 0, 0, 1}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_conn *c = sender(r);
    add(r, 0, 10, (int)row[i].again);
    r->now += 5000;
    add(r, 10, 30, 0);
    c->recovery = row[i].loss ? TCP_LOSS : TCP_RECOVERY;
    r->env.fack = c->snd_una + row[i].fack;
    r->env.rate.valid = 0;
    uint32_t before = c->b->delivered;
    c->b->app_limited = before + 10;
    assert_int_equal(tcp_sent_delivered(&r->env, c, c->snd_una, c->snd_una + 10, 0, r->now), row[i].late);
    assert_int_equal(c->b->delivered, before + 10);
    assert_int_equal(c->b->app_limited, before + 10);
    assert_int_equal(r->env.rate.valid, 1);
    assert_int_equal(r->env.rate.send_us, 0);
    assert_int_equal(r->env.rate.rtt_us, 5000);
    assert_int_equal(c->n_sent, 1);
    r->now += 700;
    (void)tcp_sent_delivered(&r->env, c, c->snd_una + 10, c->snd_una + 20, 0, r->now);
    assert_int_equal(c->b->app_limited, 0); /* that is over */
    assert_int_equal(r->env.rate.send_us, 5000);
    assert_int_equal(r->env.rate.rtt_us, 700);
    assert_int_equal(tcp_sent_list(c)[0].l, c->snd_una + 20);
  }
}

/* Without SACK there is no list to ask; a retransmission is lost when later ones have arrived (RFC 6675 4). */
static void test_lost_by_bytes(void **state) {
  struct rig *r = *state;
  for (uint32_t more = 0; more < 2; more++) {
    struct tcp_conn *c = sender(r);
    tcp_env_memory(&r->env, NULL, 0);
    add(r, 0, 10 * MSS, 0); /* one entry: nobody knows in which order it left */
    c->b->board.n = 1;
    c->b->board.r[0] = (struct tcp_sack){c->snd_una + 2 * MSS, c->snd_una + 4 * MSS + more};
    c->b->board.bytes = 2 * MSS + more;
    c->reo_seen = 0;
    assert_int_equal(tcp_rack_detect(&r->env, c, r->now), more);
    struct tcp_sack lost = {0};
    assert_int_equal(tcp_sent_lost_next(c, c->snd_una, &lost), more);
    if (more)
      assert_int_equal(lost.r, c->snd_una + 2 * MSS);
    c->n_sent = 0;
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_invariants),     RIG_TEST(test_window_edge),   RIG_TEST(test_window_update),
      RIG_TEST(test_curve),          RIG_TEST(test_epoch),         RIG_TEST(test_pause),
      RIG_TEST(test_cubic_bounds),   RIG_TEST(test_cubic_forgets), RIG_TEST(test_hystart_threshold),
      RIG_TEST(test_hystart_rounds), RIG_TEST(test_merge),         RIG_TEST(test_squeeze),
      RIG_TEST(test_stood_still),    RIG_TEST(test_logs),          RIG_TEST(test_reordered),
      RIG_TEST(test_lost_by_bytes),
  };
  return cmocka_run_group_tests_name("tcp_edges", tests, NULL, NULL);
}
