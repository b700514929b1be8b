/*
 * Figures that a connection goes by, each call by hand: round trip and RTO (RFC 6298), sizes of the receive buffer, the
 * window and its scale (RFC 7323 2), back-off, tunables, and what TCP_INFO shows of all that.
 */
#include "tcp_rig.h"

#define MSS 1460u

static struct tcp_conn *conn(struct rig *r, unsigned opts) {
  rig_init(r);
  rig_passive(r, opts);
  r->now += RIG_S;
  tcp_rtt_init(&r->env, &r->conn);
  r->conn.min_rtt = 0;
  return &r->conn;
}

/* RFC 6298 (2.1) to (2.3): the gains of 1/8 and 1/4. deviates: max(G, 4·rttvar) as max(rto-min, 4·rttvar). */
static void test_estimator(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  assert_int_equal(c->rto, 1000000);
  tcp_rtt_sample(&r->env, c, 100000, r->now);
  assert_int_equal(c->srtt8, 800000);
  assert_int_equal(c->rttvar4, 200000);
  assert_int_equal(c->rto, 300000);
  tcp_rtt_sample(&r->env, c, 180000, r->now); /* srtt 110 ms, rttvar 37.5 + 20 ms */
  assert_int_equal(c->srtt8, 880000);
  assert_int_equal(c->rttvar4, 230000);
  assert_int_equal(c->rto, 340000);
  tcp_rtt_sample(&r->env, c, 30000, r->now); /* 80 ms below */
  assert_int_equal(c->srtt8, 800000);
  assert_int_equal(c->rttvar4, 252500);
  assert_int_equal(c->rto, 352500);
  assert_int_equal(c->min_rtt, 30000);
  for (int i = 0; i < 100; i++)
    tcp_rtt_sample(&r->env, c, 1000, r->now);
  assert_int_equal(c->rto, 200000 + c->srtt8 / 8); /* no variance: rto-min in its place */
  assert_in_range(c->srtt8, 8000, 8100);
  tcp_rtt_sample(&r->env, c, 70 * RIG_S, r->now); /* a minute at most, and so is the RTO */
  assert_in_range(c->srtt8, 8000 + 60000000 - 2000, 8100 + 60000000);
  assert_int_equal(c->rto, 60000000);
  tcp_rtt_init(&r->env, c);
  tcp_rtt_sample(&r->env, c, 0, r->now);
  assert_int_equal(c->srtt8, 8);
  assert_int_equal(c->rttvar4, 2);
  tcp_rtt_sample(&r->env, c, 1, r->now);
  assert_int_equal(c->srtt8, 8); /* never 0, which says that nothing is known */
  r->env.cfg.rto_initial = 3 * RIG_S;
  r->env.cfg.rto_max = 2 * RIG_S;
  c->b->rtt_at = 5;
  tcp_rtt_init(&r->env, c);
  assert_int_equal(c->rto, 2000000);
  assert_true(c->b->rtt_at == 0);
  assert_int_equal(c->srtt8 + c->rttvar4, 0);
}

/* The least round trip of ten seconds. */
static void test_least(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  usec_t at = r->now;
  tcp_rtt_sample(&r->env, c, 5000, at);
  tcp_rtt_sample(&r->env, c, 6000, at + 10 * RIG_S);
  assert_int_equal(c->min_rtt, 5000);
  assert_true(c->b->min_rtt_at == at);
  tcp_rtt_sample(&r->env, c, 6000, at + 10 * RIG_S + 1);
  assert_int_equal(c->min_rtt, 6000);
  tcp_rtt_sample(&r->env, c, 6000, at + 11 * RIG_S);
  assert_true(c->b->min_rtt_at == at + 11 * RIG_S); /* as short: seen anew */
}

/* RFC 4015 3.2 step 9: after a spurious timeout the next sample sets the RTO anew, never lower. */
static void test_spurious(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->spurious = 1;
  tcp_rtt_sample(&r->env, c, 100000, r->now); /* the first ever is the first */
  assert_int_equal(c->spurious, 1);
  assert_int_equal(c->srtt8, 800000);
  tcp_rtt_sample(&r->env, c, 300000, r->now);
  assert_int_equal(c->srtt8, 2400000);
  assert_int_equal(c->rttvar4, 600000);
  assert_int_equal(c->spurious, 0);
  c->spurious = 1;
  tcp_rtt_sample(&r->env, c, 100000, r->now);
  assert_int_equal(c->srtt8, 2400000);
  assert_int_equal(c->rttvar4, 600000);
}

static struct tcp_seg_in ack_of(struct tcp_conn *c, uint32_t ack, uint32_t ecr) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.ack = c->d->iss + ack;
  s.hdr.flags = TCP_ACK;
  if (c->d->nego & ABI_TCB_TS) {
    s.hdr.opts.present = TCP_OPT_HAS_TS;
    s.hdr.opts.ts_ecr = ecr;
  }
  return s;
}

/* Karn: one segment is timed; the ACK of its end is the sample. */
static void test_timed_segment(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->b->rtt_at = r->now - 50000;
  c->b->rtt_seq = c->d->iss + 100;
  struct tcp_seg_in s = ack_of(c, 99, 0);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->srtt8, 0);
  assert_int_equal(c->b->ack_rtt, 0);
  s = ack_of(c, 100, 0);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->srtt8, 400000);
  assert_int_equal(c->b->ack_rtt, 50000);
  assert_true(c->b->rtt_at == 0);
  tcp_rtt_on_ack(&r->env, c, &s, r->now + RIG_S);
  assert_int_equal(c->srtt8, 400000);
  assert_int_equal(c->b->ack_rtt, 0);
  c->b->rtt_at = 1;
  tcp_rtt_on_ack(&r->env, c, &s, 100 * RIG_S);
  assert_int_equal(c->b->ack_rtt, 60000000);
}

/* RFC 7323 4.1: while something is sent again the echo is the sample. */
static void test_echo(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, RIG_TS);
  uint32_t ms = tcp_open_ts(c->d, r->now);
  struct tcp_seg_in s = ack_of(c, 1, ms - 30);
  c->recovery = TCP_OPEN;
  c->backoff = 0;
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->b->ack_rtt, 30000);
  assert_int_equal(c->srtt8, 0);
  c->backoff = 1;
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->srtt8, 240000);
  c->backoff = 0;
  c->recovery = TCP_LOSS;
  s = ack_of(c, 1, ms - 38);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->srtt8, 248000);
  s = ack_of(c, 1, ms - 60000); /* a minute and more is no round trip */
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->srtt8, 248000);
  assert_int_equal(c->b->ack_rtt, 0);
  s = ack_of(c, 1, ms - 59999);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->b->ack_rtt, 59999000);
  assert_int_equal(c->srtt8, 248000 - 31000 + 59999000);
  s = ack_of(c, 1, ms);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->b->ack_rtt, 1);
  s = ack_of(c, 1, 0);
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->b->ack_rtt, 0);
  s = ack_of(c, 1, ms - 30);
  s.hdr.opts.present = 0;
  tcp_rtt_on_ack(&r->env, c, &s, r->now);
  assert_int_equal(c->b->ack_rtt, 0);
}

static void test_back_off(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->rto = 300000;
  assert_true(tcp_timer_backed_off(&r->env, c, 0) == 300000);
  assert_true(tcp_timer_backed_off(&r->env, c, 3) == 2400000);
  assert_true(tcp_timer_backed_off(&r->env, c, 250) == 60000000);
  r->env.cfg.rto_max = 1ull << 50;
  c->rto = 1;
  assert_true(tcp_timer_backed_off(&r->env, c, 20) == 1u << 20);
  assert_true(tcp_timer_backed_off(&r->env, c, 21) == 1u << 20);
  assert_true(tcp_timer_user_timeout(&r->env, c) == 0);
  r->env.cfg.user_timeout_ms = 7;
  assert_true(tcp_timer_user_timeout(&r->env, c) == 7000);
  c->d->opt.user_timeout_ms = 9;
  assert_true(tcp_timer_user_timeout(&r->env, c) == 9000);
}

/* RFC 7323 2.3: the least shift that can tell of the whole buffer; 14 at most. */
static void test_scale(void **state) {
  static const struct {
    uint32_t buf, scale;
  } row[] = {{0, 0},
             {65535, 0},
             {65536, 1},
             {131070, 1},
             {131071, 2},
             {65535u << 13, 13},
             {(65535u << 13) + 1, 14},
             {65535u << 14, 14},
             {UINT32_MAX, 14}};
  (void)state;
  for (unsigned i = 0; i < ARRAY_LEN(row); i++)
    assert_int_equal(tcp_wnd_scale_for(row[i].buf), row[i].scale);
}

/* --- the receive buffer --- */

static uint32_t limit_told;
static void told(void *ctx, struct tcp_conn *c, uint32_t bytes) {
  (void)ctx;
  (void)c;
  limit_told = bytes;
}

static struct tcp_conn *buffered(struct rig *r, struct tcp_env_ops *ops) {
  struct tcp_conn *c = conn(r, 0);
  *ops = *r->env.ops;
  ops->rx_limit = told;
  r->env.ops = ops;
  r->env.cfg.rcv_buf_max = 4u << 20;
  tcp_rbuf_init(&r->env, c);
  assert_int_equal(limit_told, 262144);
  assert_int_equal(c->rcv_buf, 262144);
  assert_int_equal(c->rcv_fifo, 262144);
  c->rcv_mss = 1000;
  c->srtt8 = 8 * 40000;
  c->rcv_rtt = 50000; /* without timestamps the handshake's is believed, if it is less */
  return c;
}

/* The app reads `bytes` in `us`. */
static void reads(struct rig *r, uint32_t bytes, uint32_t us) {
  r->now += us;
  r->conn.rcv_nxt += bytes;
  (void)tcp_rbuf_room(&r->env, &r->conn, r->conn.rcv_fifo, r->now);
}

/* Twice what was read in a round trip, 16 segments, and what the rate grew by. */
static void test_buffer_grows(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  struct tcp_conn *c = buffered(r, &ops);
  r->now |= 1;
  assert_int_equal(tcp_rbuf_room(&r->env, c, c->rcv_fifo, r->now), 262144);
  assert_int_equal(c->b->rcvq_at, (uint32_t)r->now);
  reads(r, 100000, 39999); /* not a round trip yet */
  assert_int_equal(c->rcvq_space, 0);
  reads(r, 23072, 1);
  assert_int_equal(c->rcvq_space, 123072);
  assert_int_equal(c->rcv_buf, 262144); /* 2 · 123072 + 16000: as much as it has */
  assert_int_equal(COUNTER(r, rcv_buf_grown), 0);
  reads(r, 123073, 40001);
  assert_int_equal(c->rcvq_space, 123073);
  assert_int_equal(c->rcv_buf, 246146 + 16000 + 2); /* 2 · copied · 1 / space */
  assert_int_equal(limit_told, c->rcv_buf);
  assert_int_equal(c->rcv_fifo, c->rcv_buf);
  assert_int_equal(COUNTER(r, rcv_buf_grown), 1);
  reads(r, 246146, 40001);
  assert_int_equal(c->rcv_buf, 492292 + 16000 + 492292);
  reads(r, 246145, 40001); /* less: nothing changes */
  assert_int_equal(c->rcvq_space, 246146);
  reads(r, 3000000, 40001);
  assert_int_equal(c->rcv_buf, 4u << 20);
  c = buffered(r, &ops);
  r->env.cfg.rcv_auto = 0;
  (void)tcp_rbuf_room(&r->env, c, c->rcv_fifo, r->now);
  reads(r, 1000000, 41000);
  assert_int_equal(c->rcv_buf, 262144);
  assert_int_equal(c->rcvq_space, 1000000);
}

/* What is unread does not count as read, and takes room. */
static void test_buffer_room(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  struct tcp_conn *c = buffered(r, &ops);
  assert_int_equal(tcp_rbuf_room(&r->env, c, 262144 - 5000, 0), 257144);
  assert_int_equal(c->b->rcvq_at, 0);
  c->rcv_buf = 4000; /* a limit that was lowered */
  assert_int_equal(tcp_rbuf_room(&r->env, c, 262144 - 5000, 0), 0);
  assert_int_equal(tcp_rbuf_room(&r->env, c, 262144 - 3999, 0), 1);
  assert_int_equal(tcp_rbuf_room(&r->env, c, 262144 + 10, 0), 4000);
  assert_int_equal(tcp_rbuf_room(&r->env, c, 262144 - 5000, r->now), 0);
  assert_int_equal(c->b->rcvq_seq, c->rcv_nxt - 5000);
}

/* How long a round is: what the receiver sees, the sender's half if that is less, a millisecond at least. */
static void test_buffer_round(void **state) {
  static const struct {
    uint32_t nego, rcv_rtt, srtt, round;
  } row[] = {
      {0, 50000, 40000, 40000},
      {0, 30000, 40000, 30000},
      {0, 50000, 0, 50000},
      {0, 0, 40000, 40000},
      {0, 0, 0, 1000},
      {0, 400, 40000, 1000},
      {ABI_TCB_TS, 50000, 40000, 50000},
      {ABI_TCB_TS, 0, 7000, 7000},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_env_ops ops;
    struct tcp_conn *c = buffered(r, &ops);
    c->d->nego = (uint8_t)row[i].nego;
    c->rcv_rtt = row[i].rcv_rtt;
    c->srtt8 = row[i].srtt * 8;
    r->now |= 1;
    (void)tcp_rbuf_room(&r->env, c, c->rcv_fifo, r->now);
    reads(r, 500, row[i].round - 1);
    assert_int_equal(c->rcvq_space, 0);
    reads(r, 1, 1);
    assert_int_equal(c->rcvq_space, 501);
  }
}

/* The receiver's measure: with timestamps an average, without them the least time in which a window came. */
static void test_receiver_rtt(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, RIG_TS);
  struct tcp_seg_in s = {.segs = 1, .len = 1000};
  uint32_t ms = tcp_open_ts(c->d, r->now);
  c->rcv_rtt = 0;
  c->rcv_mss = 1000;
  s.hdr.opts.present = TCP_OPT_HAS_TS;
  s.hdr.opts.ts_ecr = ms - 20;
  s.len = 999; /* a small one may have waited */
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 0);
  s.len = 1000;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 20000);
  s.hdr.opts.ts_ecr = ms - 28;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 21000);
  s.hdr.opts.ts_ecr = ms;
  tcp_rbuf_rtt(c, &s, r->now); /* the clock's tick is the least */
  assert_int_equal(c->rcv_rtt, 21000 - 2625 + 125);
  s.hdr.opts.ts_ecr = ms - 4000; /* a pause */
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 18500);
  s.hdr.opts.ts_ecr = ms - 3999;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 18500 - 2312 + 499875);
  c = conn(r, 0);
  c->rcv_rtt = c->b->rcv_rtt_at = 0;
  r->now |= 1;
  c->d->rcv_adv = c->rcv_nxt + 5000;
  tcp_rbuf_rtt(c, &s, r->now); /* begins */
  assert_int_equal(c->rcv_rtt, 0);
  assert_int_equal(c->b->rcv_rtt_seq, c->rcv_nxt + 5000);
  r->now += 30000;
  c->rcv_nxt += 4999;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 0);
  c->rcv_nxt++;
  c->d->rcv_adv += 5000;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 30000);
  r->now += 40000;
  c->rcv_nxt += 5000;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 30000);
  assert_int_equal(c->b->rcv_rtt_seq, c->rcv_nxt + 1); /* no window: the next byte */
  r->now += 5000000;
  c->rcv_rtt = 0;
  c->rcv_nxt++;
  tcp_rbuf_rtt(c, &s, r->now);
  assert_int_equal(c->rcv_rtt, 4000000);
}

/* SO_RCVBUF fixes it; a predecessor's promises make it larger again. */
static void test_buffer_fixed(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  struct tcp_conn *c = buffered(r, &ops);
  c->d->opt.rcvbuf = 5000;
  c->rx_max = 100000;
  limit_told = 0;
  tcp_rbuf_options(&r->env, c);
  assert_int_equal(c->rcv_buf, 5000);
  assert_int_equal(c->rx_max, 5000);
  assert_int_equal(c->rcv_fifo, 262144); /* never down */
  assert_int_equal(limit_told, 0);
  c->d->opt.rcvbuf = 10; /* but no less than the least */
  tcp_rbuf_options(&r->env, c);
  assert_int_equal(c->rcv_buf, 4096);
  c->d->opt.rcvbuf = 0;
  tcp_rbuf_options(&r->env, c);
  assert_int_equal(c->rcv_buf, 4096);
  c->d->opt.rcvbuf = 300000;
  tcp_rbuf_options(&r->env, c);
  assert_int_equal(limit_told, 300000);
  assert_int_equal(tcp_rbuf_greatest(&r->env, c->d), 4u << 20);
  c->d->opt.rcvbuf = 5u << 20;
  assert_int_equal(tcp_rbuf_greatest(&r->env, c->d), 5u << 20);
  tcp_rbuf_init(&r->env, c);
  assert_int_equal(c->rcv_buf, 5u << 20);
  c = buffered(r, &ops);
  c->d->rcv_adv = c->rcv_nxt + 70000; /* room for 65535 of them */
  tcp_rbuf_adopt(&r->env, c);
  assert_int_equal(c->rcv_fifo, 262144 + 70000 - 65535);
  assert_int_equal(c->rcv_buf, c->rcv_fifo);
  c->d->rcv_adv = c->rcv_nxt + 65535;
  c->rcv_buf = 7;
  tcp_rbuf_adopt(&r->env, c);
  assert_int_equal(c->rcv_buf, 7);
  c->d->opt.rcvbuf = 9000;
  c->d->rcv_adv++;
  tcp_rbuf_adopt(&r->env, c);
  assert_int_equal(c->rcv_buf, 7);
  assert_int_equal(c->rcv_fifo, 262144 + 70000 - 65535 + 1);
}

static void test_send_buffer(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->cwnd = 100000;
  assert_int_equal(tcp_send_buffer(&r->env, c, 0), 200000);
  assert_int_equal(tcp_send_buffer(&r->env, c, 200001), 200001);
  c->cwnd = 3u << 30;
  assert_int_equal(tcp_send_buffer(&r->env, c, 0), 4u << 20);
  c->d->opt.sndbuf = 100;
  assert_int_equal(tcp_send_buffer(&r->env, c, 1u << 20), 4096);
  c->d->opt.sndbuf = 5000;
  assert_int_equal(tcp_send_buffer(&r->env, c, 1u << 20), 5000);
}

/* --- tunables and figures --- */

static void test_tunables(void **state) {
  static const struct {
    uint32_t lo, hi, def;
    uint64_t unit;
  } row[] = {
#define ROW(field, name, kind, unit, lo, hi, def, ...) {lo, hi, def, UNIT_##kind},
#define UNIT_BOOL                                      1
#define UNIT_NUM                                       1
#define UNIT_MS                                        1000
#define UNIT_SEC                                       1000000
#define UNIT_SIZE                                      1
#define UNIT_CHOICE                                    1
      ABI_TUNABLES(ROW)};
  struct tcp_config cfg;
  (void)state;
  tcp_config_defaults(&cfg);
  for (uint32_t i = 0; i < ABI_TUNE_N; i++) {
    assert_int_equal(tcp_tunable_get(&cfg, i), row[i].def);
    assert_int_equal(tcp_tunable_put(&cfg, i, row[i].hi), 0);
    assert_int_equal(tcp_tunable_get(&cfg, i), row[i].hi);
    assert_int_equal(tcp_tunable_put(&cfg, i, row[i].hi + 1), -EINVAL);
    assert_int_equal(tcp_tunable_put(&cfg, i, row[i].lo), 0);
    if (row[i].lo > 0)
      assert_int_equal(tcp_tunable_put(&cfg, i, row[i].lo - 1), -EINVAL);
    assert_int_equal(tcp_tunable_get(&cfg, i), row[i].lo);
  }
  assert_int_equal(tcp_tunable_put(&cfg, ABI_TUNE_N, 1), -ENOENT);
  assert_int_equal(tcp_tunable_get(&cfg, ABI_TUNE_N), 0);
  tcp_config_defaults(&cfg);
  assert_true(cfg.rto_min == 200000);
  assert_true(cfg.pmtu_life == 600000000);
  assert_int_equal(cfg.keepidle_s, 7200);
  uint32_t lower, higher;
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), 0);
  cfg.rto_min = cfg.rto_initial;
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), 0);
  cfg.rto_min += 1000;
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), -EINVAL);
  assert_int_equal(lower, ABI_TUNE_rto_min);
  assert_int_equal(higher, ABI_TUNE_rto_initial);
  tcp_config_defaults(&cfg);
  cfg.snd_buf = cfg.snd_buf_max + 1;
  assert_int_equal(tcp_tunable_order(&cfg, &lower, &higher), -EINVAL);
  assert_int_equal(lower, ABI_TUNE_snd_buf);
}

static void test_figures(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, RIG_SACK | RIG_WS | RIG_TS);
  struct abi_tcp_figures f;
  struct abi_tcp_more m;
  c->srtt8 = 8 * 40000;
  c->rttvar4 = 4 * 500;
  c->rto = 250000;
  c->backoff = 2;
  c->persists = 1;
  c->min_rtt = UINT32_MAX;
  c->reo_seen = 1;
  c->reo_mult = 5;
  c->b->lost = 100;
  c->snd_nxt = c->snd_una + 5000;
  c->d->snd_max = c->snd_una + 9000; /* 4000 behind snd_nxt, of which 1000 are SACKed */
  c->b->board.n = 1;
  c->b->board.bytes = 1000;
  c->b->board.r[0] = (struct tcp_sack){c->snd_una + 6000, c->snd_una + 7000};
  tcp_figures(&r->env, c, &f);
  assert_int_equal(f.srtt_us, 40000);
  assert_int_equal(f.rttvar_us, 500);
  assert_int_equal(f.rto_us, 1000000);
  assert_int_equal(f.lost, 3100);
  assert_int_equal(f.reordering, 15);
  assert_int_equal(f.snd_mss, 1448);
  assert_int_equal(f.rcv_wnd, c->d->rcv_adv - c->rcv_nxt);
  c->b->board.r[0] = (struct tcp_sack){c->snd_una + 5000, c->snd_una + 9001};
  c->reo_seen = 0;
  tcp_figures(&r->env, c, &f);
  assert_int_equal(f.lost, 100);
  assert_int_equal(f.reordering, 3);
  c->n_sent = 2;
  c->b->sent_own[0] = (struct tcp_sent){.l = 10, .r = 30, .rexmit = 1};
  c->b->sent_own[1] = (struct tcp_sent){.l = 30, .r = 70};
  c->last_tx = 5 * 1024;
  c->data_rx_at = 6;
  c->ack_rx_at = 7;
  tcp_figures_more(&r->env, c, &m);
  assert_int_equal(m.ca_state, 1);
  assert_int_equal(m.options, 1 | 2 | 4);
  assert_int_equal(m.wscale, 7);
  assert_int_equal(m.backoff, 2);
  assert_int_equal(m.unacked, 9000);
  assert_int_equal(m.rexmit, 20);
  assert_int_equal(m.min_rtt_us, 0);
  assert_int_equal(m.data_sent_at, 5);
  c->persists = 3;
  c->min_rtt = 77;
  c->d->nego = ABI_TCB_ECN;
  c->d->rcv_wscale = 3;
  c->d->snd_wscale = 14;
  c->recovery = TCP_RECOVERY;
  tcp_figures_more(&r->env, c, &m);
  assert_int_equal(m.ca_state, 3);
  assert_int_equal(m.options, 8);
  assert_int_equal(m.wscale, 14 | 3 << 4);
  assert_int_equal(m.backoff, 3);
  assert_int_equal(m.min_rtt_us, 77);
  c->recovery = TCP_LOSS;
  tcp_figures_more(&r->env, c, &m);
  assert_int_equal(m.ca_state, 4);
  c->recovery = TCP_OPEN;
  c->b->board.n = 0;
  c->b->dupacks = 1;
  tcp_figures_more(&r->env, c, &m);
  assert_int_equal(m.ca_state, 1);
  c->b->dupacks = 0;
  tcp_figures_more(&r->env, c, &m);
  assert_int_equal(m.ca_state, 0);
  c->n_sent = 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_estimator),     RIG_TEST(test_least),        RIG_TEST(test_spurious),
      RIG_TEST(test_timed_segment), RIG_TEST(test_echo),         RIG_TEST(test_back_off),
      RIG_TEST(test_scale),         RIG_TEST(test_buffer_grows), RIG_TEST(test_buffer_room),
      RIG_TEST(test_buffer_round),  RIG_TEST(test_receiver_rtt), RIG_TEST(test_buffer_fixed),
      RIG_TEST(test_send_buffer),   RIG_TEST(test_tunables),     RIG_TEST(test_figures),
  };
  return cmocka_run_group_tests_name("tcp_rtt", tests, NULL, NULL);
}
