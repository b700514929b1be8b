/*
 * Pacing (tcp_pace.c): what is not paced, the size of bursts, the wait, and that a late timer costs no rate.
 */
#include "tcp_rig.h"

/* An open connection with this round trip and window (segments), in congestion avoidance, and much to send. */
static void paced(struct rig *r, uint32_t srtt, uint32_t segs) {
  r->env.cfg.pacing = 1;
  r->env.cfg.rcv_buf_max = 1u << 20;
  r->gso = 10 * RIG_MSS;
  rig_passive(r, RIG_SACK | RIG_WS);
  rig_in(r, TCP_ACK, 1, 1, 0); /* the window is scaled from here on */
  r->conn.srtt8 = srtt * 8;
  r->conn.cwnd = segs * RIG_MSS;
  r->conn.ssthresh = 2 * RIG_MSS;
}

static uint32_t sent(struct rig *r) {
  uint32_t n = 0;
  while (r->seen != r->n_sent)
    n += r->sent[r->seen++ % RIG_SENT].len;
  return n;
}

static void test_not_paced(void **state) {
  static const struct { uint32_t srtt, segs, on; } row[] = {{3000, 100, 1}, {100000, 10, 1}, {100000, 100, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    rig_init(r);
    paced(r, row[i].srtt, row[i].segs);
    r->env.cfg.pacing = (uint8_t)row[i].on;
    rig_write(r, 200 * RIG_MSS);
    assert_int_equal(sent(r), row[i].segs * RIG_MSS);
    assert_int_equal(r->conn.b->due[TCP_T_PACE], 0);
  }
}

static void test_rate(void **state) {
  struct rig *r = *state;
  paced(r, 100000, 100);
  assert_int_equal(tcp_pace_rate(&r->env, &r->conn), 100u * RIG_MSS * 12); /* 1.2 windows per 100 ms */
  r->conn.ssthresh = TCP_CWND_MAX;
  assert_int_equal(tcp_pace_rate(&r->env, &r->conn), 100u * RIG_MSS * 20); /* 2 in slow start */
  assert_int_equal(tcp_pace_burst(10000000, RIG_MSS), 6 * RIG_MSS);        /* 10 KB per ms */
  assert_int_equal(tcp_pace_burst(100, RIG_MSS), 2 * RIG_MSS);
  r->conn.cwnd = TCP_CWND_MAX; /* 20 GB/s: more than the wheel should let out */
  assert_int_equal(tcp_pace_rate(&r->env, &r->conn), 0);
}

/* What TCP_INFO and hsctl show is that rate, and nothing where nothing is paced. */
static void test_figures(void **state) {
  struct rig *r = *state;
  struct abi_tcp_figures f;
  paced(r, 100000, 100);
  tcp_figures(&r->env, &r->conn, &f);
  assert_int_equal(f.pacing_kbps, 100u * RIG_MSS * 12 / 125);
  r->conn.cwnd = 11;
  r->conn.mss = 1;
  r->conn.srtt8 = 8 * 440000; /* 400 bits per second: one kbit/s is the least that is told */
  tcp_figures(&r->env, &r->conn, &f);
  assert_int_equal(f.pacing_kbps, 1);
  r->env.cfg.pacing = 0;
  tcp_figures(&r->env, &r->conn, &f);
  assert_int_equal(f.pacing_kbps, 0);
}

/* A window of 100 per 100 ms leaves in bursts of two, at 1.2 times that. */
static void test_spread(void **state) {
  struct rig *r = *state;
  paced(r, 100000, 100);
  usec_t began = r->now;
  rig_write(r, 500 * RIG_MSS);
  uint32_t n = sent(r);
  assert_int_equal(n, 4 * RIG_MSS); /* a fresh one may be behind by two bursts */
  while (n < 80 * RIG_MSS && r->now < began + RIG_S) {
    assert_true(r->conn.b->due[TCP_T_PACE] > r->now);
    rig_pass(r, r->conn.b->due[TCP_T_PACE] - r->now);
    uint32_t burst = sent(r);
    assert_in_range(burst, RIG_MSS, 2 * RIG_MSS);
    n += burst;
  }
  uint32_t ms = (uint32_t)(r->now - began) / 1000;
  assert_in_range(ms, 60, 68); /* 80 segments at 1.2 per ms */
}

/* The wheel comes a millisecond late each time: the bursts are larger, the rate is the same. */
static void test_late_wheel(void **state) {
  struct rig *r = *state;
  paced(r, 100000, 100);
  usec_t began = r->now;
  rig_write(r, 500 * RIG_MSS);
  uint32_t n = sent(r);
  while (n < 80 * RIG_MSS && r->now < began + RIG_S) {
    r->now = r->conn.b->due[TCP_T_PACE] + RIG_MS;
    r->timer_at = UINT64_MAX;
    tcp_timer(&r->env, &r->conn, r->now);
    n += sent(r);
  }
  assert_in_range((uint32_t)(r->now - began) / 1000, 58, 70);
}

/* What is to be sent at once does not wait: the first retransmission of a recovery. */
static void test_retransmission_is_not_held(void **state) {
  struct rig *r = *state;
  paced(r, 100000, 100);
  rig_write(r, 500 * RIG_MSS);
  (void)sent(r);
  r->conn.b->pace_at = r->now + RIG_S;
  rig_pass(r, 10 * RIG_MS);
  r->sack[r->n_sack++] = (struct tcp_sack){1 + RIG_MSS, 1 + 4 * RIG_MSS};
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
}

/* Nothing to send: no order, whatever was paced before. */
static void test_idle_has_no_order(void **state) {
  struct rig *r = *state;
  paced(r, 100000, 100);
  rig_write(r, 20 * RIG_MSS);
  rig_pass(r, 50 * RIG_MS);
  assert_int_equal(sent(r), 20 * RIG_MSS);
  assert_int_equal(r->conn.b->due[TCP_T_PACE], 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {RIG_TEST(test_not_paced),        RIG_TEST(test_rate),
                                     RIG_TEST(test_figures),          RIG_TEST(test_spread),
                                     RIG_TEST(test_late_wheel),       RIG_TEST(test_retransmission_is_not_held),
                                     RIG_TEST(test_idle_has_no_order)};
  return cmocka_run_group_tests_name("tcp_pace", tests, NULL, NULL);
}
