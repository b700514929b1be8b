/*
 * Arrival of a segment to the byte: which ones are acceptable (RFC 9293 3.10.7.4 first), how often the others are
 * answered, PAWS after 24 days (RFC 7323 5.5); and what adoption makes of deadlines and sizes.
 */
#include "tcp_rig.h"

static struct tcp_conn *conn(struct rig *r, unsigned opts) {
  rig_init(r);
  rig_passive(r, opts);
  r->now += RIG_S;
  return &r->conn;
}

/* The four cases with a window of 100 bytes, and with none. Number and length relative to rcv_nxt. The number behind
 * the window is inside when there is no data (deviates). */
static void test_acceptable(void **state) {
  static const struct {
    uint32_t wnd;
    int32_t seq;
    uint32_t len, fin, oow;
  } row[] = {{100, 0, 0, 0, 0},    {100, 99, 0, 0, 0},   {100, 100, 0, 0, 0}, {100, 101, 0, 0, 1},
             {100, -1, 0, 0, 1},   {0, 0, 0, 0, 0},      {0, 1, 0, 0, 1},     {0, -1, 0, 0, 1},
             {0, 0, 1, 0, 1},      {0, 0, 0, 1, 1},      {100, 99, 5, 0, 0},  {100, 100, 5, 0, 1},
             {100, -5, 5, 0, 1},   {100, -5, 6, 0, 0},   {100, -5, 5, 1, 0},  {100, -5, 200, 0, 0},
             {100, 99, 0, 1, 0},   {100, 100, 0, 1, 1},  {100, -1, 0, 1, 1},  {100, -200, 150, 0, 1},
             {100, -5, 105, 0, 0}, {100, -5, 106, 0, 0}, {100, 50, 51, 0, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_conn *c = conn(r, 0);
    rig_in(r, TCP_ACK, 1, 1, 1000);
    c->d->rcv_adv = c->rcv_nxt + row[i].wnd;
    r->rx_limit = 1000 + row[i].wnd;
    uint32_t before = (uint32_t)COUNTER(r, oow);
    rig_in_raw(r, TCP_ACK | (row[i].fin ? TCP_FIN : 0u), 1001 + (uint32_t)row[i].seq, 1, row[i].len, 1);
    if (COUNTER(r, oow) - before != row[i].oow)
      print_error("row %u\n", i);
    assert_int_equal(COUNTER(r, oow) - before, row[i].oow);
  }
}

/* Answers to segments without data: once in 50 ms. */
static void test_answers_are_rare(void **state) {
  struct rig *r = *state;
  (void)conn(r, 0);
  for (unsigned i = 0; i < 3; i++) {
    rig_in(r, TCP_ACK, 90000, 1, 0);
    assert_int_equal(rig_unseen(r), i == 1 ? 0 : 1);
    rig_skip(r);
    r->now += i == 0 ? 49999 : 1;
  }
}

/* RFC 7323 5.3, 5.5: an older timestamp is refused for 24 days. */
static void test_paws(void **state) {
  static const usec_t days24 = 24ull * 86400 * 1000000;
  struct rig *r = *state;
  for (unsigned late = 0; late < 2; late++) {
    struct tcp_conn *c = conn(r, RIG_TS);
    c->d->ts_recent = 1000;
    c->d->ts_recent_at = r->now;
    r->now += days24 - 1 + late;
    r->ts_val = 999;
    rig_in_raw(r, TCP_ACK, 1, 1, 10, 1);
    assert_int_equal(COUNTER(r, paws), !late);
    assert_int_equal(c->d->ts_recent, late ? 999 : 1000);
    assert_true(!late || c->d->ts_recent_at == r->now);
  }
  struct tcp_conn *c = conn(r, RIG_TS);
  c->d->ts_recent = 1000;
  c->d->ts_recent_at = r->now;
  r->now += 5000;
  r->ts_val = 1000;
  rig_in_raw(r, TCP_ACK, 1, 1, 10, 1);
  assert_true(c->d->ts_recent_at == r->now); /* as new */
  assert_int_equal(c->data_rx_at, (uint32_t)(r->now >> 10));
  assert_int_equal(c->ack_rx_at, (uint32_t)(r->now >> 10));
  uint32_t data = c->data_rx_at;
  r->now += 5000;
  rig_in_raw(r, TCP_ACK, 11, 1, 0, 1);
  assert_int_equal(c->data_rx_at, data);
  assert_int_equal(c->ack_rx_at, (uint32_t)(r->now >> 10));
}

/* RFC 5961 7: a thousand and a secret few per second. */
static void test_challenges(void **state) {
  struct rig *r = *state;
  (void)conn(r, 0);
  for (unsigned i = 0; i < 32; i++)
    r->env.secret[i] = (uint8_t)i;
  r->env.challenge_at = 0;
  for (unsigned round = 0; round < 2; round++) {
    r->now = (40 + round) * RIG_S;
    unsigned n = 0;
    while (tcp_input_may_challenge(&r->env, r->now + (n > 500 ? 999999 : 0)))
      n++;
    assert_int_equal(n, 1000 + 8 + round);
  }
  assert_int_equal(COUNTER(r, challenge_limited), 2);
}

/* A deadline that the state came without, or that cannot be; sizes of the path. */
static void test_adopted_deadlines(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < 4; i++) {
    rig_init(r);
    rig_to(r, ABI_TCP_TIME_WAIT);
    r->now += RIG_S;
    usec_t end = r->now + 60 * RIG_S, was = i == 0 ? 0 : i == 1 ? end : i == 2 ? end + 1 : 1;
    r->d.time_wait_end = was;
    assert_int_equal(rig_adopt(r), 0);
    assert_true(r->d.time_wait_end == (i == 3 ? 1 : end));
    assert_true(r->conn.b->due[TCP_T_LIFE] == r->d.time_wait_end);
    assert_int_equal(COUNTER(r, state_time_wait), 1);
  }
  static const uint32_t sizes[][3] = {
      {1500, 1400, 1400}, {1400, 1500, 1400}, {0, 1300, 1300}, {1400, 0, 1400}, {1400, 1, 1}};
  for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
    struct tcp_conn *c = conn(r, 0);
    c->d->pmtu = sizes[i][0];
    memset(r->counters, 0, sizeof r->counters);
    assert_int_equal(tcp_adopt(&r->env, c, &r->d, r->tx_head, r->rx_tail, sizes[i][1], r->now), 0);
    assert_int_equal(c->d->pmtu, sizes[i][2]);
    assert_int_equal(c->b->due[TCP_T_RTO], 0); /* nothing is out */
    assert_int_equal(c->recovery, TCP_OPEN);
    assert_int_equal(COUNTER(r, state_established), 1);
  }
}

/* User timeout and RTO go on; a FIN may lie one beyond the promise, nothing else. */
static void test_adopted_data(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < 3; i++) {
    (void)conn(r, 0);
    rig_write(r, 3000);
    r->d.opt.user_timeout_ms = i == 2 ? 0 : 10000;
    r->d.user_timeout_at = i == 1 ? r->now + 1 : r->now + 5 * RIG_S;
    assert_int_equal(rig_adopt(r), 0);
    struct tcp_conn *c = &r->conn;
    assert_int_equal(c->recovery, TCP_LOSS);
    assert_true(c->b->due[TCP_T_RTO] == r->now + c->rto);
    usec_t life = i == 0 ? r->now + 5 * RIG_S : i == 1 ? r->now + c->rto : 0;
    assert_true(c->b->due[TCP_T_LIFE] == life);
    if (i < 2)
      assert_true(c->b->stuck_at == r->d.user_timeout_at - HS_MIN(r->d.user_timeout_at, 10 * RIG_S));
  }
  for (unsigned i = 0; i < 4; i++) {
    rig_init(r);
    rig_to(r, i < 2 ? ABI_TCP_CLOSE_WAIT : ABI_TCP_ESTABLISHED);
    r->d.rcv_adv = r->d.irs + 1 - (i == 1) - (i == 3);
    assert_int_equal(rig_adopt(r), i == 0 || i == 2 ? 0 : -EPROTO);
  }
  rig_init(r);
  rig_passive(r, 0);
  r->d.snd_wscale = 15;
  assert_int_equal(rig_adopt(r), -EPROTO);
  r->d.snd_wscale = 14;
  r->d.rcv_wscale = 14;
  assert_int_equal(rig_adopt(r), 0);
}

/* Ranges: what touches is one, what the window never promised or the stream has passed is none. */
static void test_adopted_ranges(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, RIG_SACK);
  uint32_t n = c->rcv_nxt;
  struct abi_seq_range in[8] = {{n, n + 5},
                                {n + 10, n + 20},
                                {n + 20, n + 30},
                                {n + 50, n + 40},
                                {n + 60, n + 70},
                                {n + 62, n + 65},
                                {n + 80, c->d->rcv_adv + 1},
                                {n + 90, c->d->rcv_adv}};
  memcpy(r->d.ooo, in, sizeof in);
  assert_int_equal(rig_adopt(r), 0);
  uint32_t left = 0, bytes = 0;
  for (unsigned i = 0; i < 8; i++) {
    left += r->d.ooo[i].l != r->d.ooo[i].r;
    bytes += r->d.ooo[i].r - r->d.ooo[i].l;
  }
  assert_int_equal(left, 3);
  assert_int_equal(bytes, 20 + 10 + (c->d->rcv_adv - n - 90));
  assert_int_equal(tcp_conn_check(&r->env, c), 0);
}

/* What the app limits, and since when (delivery-rate estimation 3.4). */
static void test_app_limits(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->b->delivered = 7000;
  c->b->app_limited = 0;
  rig_write(r, 500);
  assert_int_equal(c->b->app_limited, 7500);
  c->b->app_limited = 0;
  rig_write(r, 8 * RIG_MSS); /* the window has room for one more */
  assert_true(c->b->app_limited != 0);
  c = conn(r, 0);
  c->b->app_limited = 0;
  rig_write(r, 10 * RIG_MSS); /* as much as the window takes */
  assert_int_equal(c->b->app_limited, 0);
  c = conn(r, 0);
  c->b->delivered = 0;
  (void)tcp_output(&r->env, c, r->now);
  assert_int_equal(c->b->app_limited, 1); /* 0 would mean: not limited */
}

/* A full send buffer is no limit of the app's: it waits for room, and does not write faster than it can when it gets
 * some. */
static void test_buffer_limits(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  c->b->app_limited = 0;
  c->d->opt.sndbuf = 8 * RIG_MSS;
  rig_write(r, 6 * RIG_MSS); /* three quarters count as full */
  assert_int_equal(c->b->app_limited, 0);
  rig_write(r, 2 * RIG_MSS);
  assert_int_equal(c->b->app_limited, 0);
  rig_in(r, TCP_ACK, 1, 1 + 4 * RIG_MSS, 0); /* there is room now, and nobody has used it yet */
  assert_int_equal(c->b->app_limited, 0);
  rig_in(r, TCP_ACK, 1, 1 + 8 * RIG_MSS, 0);
  assert_int_equal(c->b->app_limited, 0);
  rig_write(r, 100); /* this is all that it wanted */
  assert_int_equal(c->b->app_limited, c->b->delivered + 100);
  c = conn(r, 0);
  c->b->app_limited = 0;
  c->d->opt.sndbuf = 8 * RIG_MSS;
  rig_write(r, 6 * RIG_MSS - 1);
  assert_true(c->b->app_limited != 0);
}

/* RFC 5681 4.1: the initial window again after more than an RTO without sending. */
static void test_idle_restart(void **state) {
  struct rig *r = *state;
  for (unsigned late = 0; late < 2; late++) {
    struct tcp_conn *c = conn(r, 0);
    rig_write(r, 100);
    rig_in(r, TCP_ACK, 1, 101, 0);
    c->cwnd = 30 * RIG_MSS;
    r->now = c->last_tx + c->rto + late;
    rig_write(r, 100);
    assert_int_equal(c->cwnd, (late ? 10u : 30u) * RIG_MSS);
  }
}

/* A way out that is closed: the errno is remembered, what was sent counts as sent; without a frame it does not. */
static void test_send_fails(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = conn(r, 0);
  r->send_rc = -EHOSTUNREACH;
  rig_write(r, 100);
  assert_int_equal(c->soft_error, EHOSTUNREACH);
  assert_int_equal(c->snd_nxt, r->d.iss + 101);
  c = conn(r, 0);
  r->send_rc = -ENOBUFS;
  c->ack_now = 0;
  tcp_output_ack(&r->env, c, r->now);
  assert_true(c->ack_now);
  r->tx_tail += 100;
  assert_int_equal(tcp_output(&r->env, c, r->now), 1);
  assert_int_equal(c->snd_nxt, r->d.iss + 1);
  r->send_rc = 0;
  assert_int_equal(tcp_output(&r->env, c, r->now), 0);
  rig_init(r);
  r->send_rc = -EHOSTUNREACH;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), -EHOSTUNREACH);
  assert_int_equal(r->conn.soft_error, EHOSTUNREACH);
  rig_init(r);
  r->send_rc = -ENOBUFS;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), -ENOBUFS);
  assert_int_equal(r->conn.soft_error, 0);
}

/* How a connection begins: sixteen ACKs at once, until data answers data; the SYN is timed. */
static void test_beginning(void **state) {
  struct rig *r = *state;
  rig_init(r);
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  assert_int_equal(r->conn.b->rtt_seq, r->d.iss + 1);
  assert_true(r->conn.b->rtt_at == r->now);
  r->now += 30000;
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  assert_int_equal(r->conn.srtt8, 8 * 30000);
  struct tcp_conn *c = conn(r, 0);
  assert_int_equal(c->quickack, 16);
  rig_in_raw(r, TCP_ACK, 1, 1, 1000, 3); /* three wire segments */
  assert_int_equal(c->quickack, 13);
  assert_true(c->ack_now);
  c->quickack = 2;
  (void)tcp_output(&r->env, c, r->now);
  rig_in_raw(r, TCP_ACK, 1001, 1, 10, 3);
  assert_int_equal(c->quickack, 0);
  (void)tcp_output(&r->env, c, r->now);
  rig_in_raw(r, TCP_ACK, 1011, 1, 10, 1);
  assert_false(c->ack_now);
  assert_true(c->b->due[TCP_T_DELACK] == r->now + 40000);
  c = conn(r, 0);
  rig_in_raw(r, TCP_ACK, 1, 1, 10, 1);
  rig_write(r, 10); /* the answer takes the ACK along */
  assert_true(c->pingpong);
  assert_int_equal(c->quickack, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_acceptable),     RIG_TEST(test_answers_are_rare),  RIG_TEST(test_paws),
      RIG_TEST(test_challenges),     RIG_TEST(test_adopted_deadlines), RIG_TEST(test_adopted_data),
      RIG_TEST(test_adopted_ranges), RIG_TEST(test_app_limits),        RIG_TEST(test_buffer_limits),
      RIG_TEST(test_idle_restart),   RIG_TEST(test_send_fails),        RIG_TEST(test_beginning),
  };
  return cmocka_run_group_tests_name("tcp_arrive", tests, NULL, NULL);
}
