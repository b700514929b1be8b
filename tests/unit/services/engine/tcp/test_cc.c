/*
 * Congestion control: CUBIC's arithmetic and reactions (RFC 9438), HyStart++ (RFC 9406), choice of the algorithm. The
 * reactions of NewReno are in test_loss.c; goodput is tests/sim/test_sim_goodput.c's.
 */
#include "tcp_rig.h"

#define MSS 1460u

/* An established connection with cubic, in congestion avoidance from `cwnd` segments on. */
static struct tcp_conn *cubic_at(struct rig *r, uint32_t cwnd, uint32_t w_max) {
  r->env.cfg.cc = (uint8_t)tcp_cc_find("cubic");
  rig_passive(r, 0);
  struct tcp_conn *c = &r->conn;
  assert_ptr_equal(c->cc, &tcp_cc_cubic);
  c->cwnd = c->ssthresh = cwnd * MSS;
  c->w_max = w_max * MSS;
  c->srtt8 = 8;
  c->limited = 1;
  return c;
}

static void test_root(void **state) {
  (void)state;
  for (uint64_t k = 0; k < 2642245; k = k * 5 / 4 + 1) {
    assert_int_equal(tcp_cc_cubic_root(k * k * k), k);
    if (k > 0)
      assert_int_equal(tcp_cc_cubic_root(k * k * k - 1), k - 1);
  }
  assert_int_equal(tcp_cc_cubic_root(UINT64_MAX), 2642245);
}

/* RFC 9438 4.2: K = cbrt((W_max - cwnd_epoch) / C): 300 segments of 1000 are missing: 9.086 s. */
static void test_curve(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 700, 1000);
  c->cc->acked(c, MSS, c->cwnd, r->now);
  assert_in_range(c->b->cubic.k * 1024ull, 9080000, 9092000);
  assert_int_equal(tcp_cc_cubic_at(c, c->b->cubic.k), 1000 * MSS);
  assert_in_range(tcp_cc_cubic_at(c, 0) / MSS, 699, 700);
  uint32_t s = 976; /* ticks of about 1 s: 0.4 segments away from the plateau, on both sides */
  assert_in_range(1000 * MSS - tcp_cc_cubic_at(c, c->b->cubic.k - s), MSS * 39 / 100, MSS * 41 / 100);
  assert_in_range(tcp_cc_cubic_at(c, c->b->cubic.k + s) - 1000 * MSS, MSS * 39 / 100, MSS * 41 / 100);
  assert_in_range(tcp_cc_cubic_at(c, c->b->cubic.k + 10 * s) / MSS, 1399, 1400); /* 0.4 · 10³ */
  for (uint64_t t = 0, was = 0; t < 1ull << 40; t = t * 3 / 2 + 1) {             /* never down, never beyond */
    uint32_t w = tcp_cc_cubic_at(c, t);
    assert_true(w >= was && w <= TCP_CWND_MAX);
    was = w;
  }
}

/* Followed for 20 s with an ACK each 10 ms: the window is where equation 1 has it. */
static void test_growth(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 700, 1000);
  c->srtt8 = 8 * 100000;
  c->w_prior = 1000 * MSS;
  for (int i = 0; i < 2000; i++, r->now += 10000)
    c->cc->acked(c, c->cwnd / 10, c->cwnd, r->now);
  assert_in_range(c->cwnd / MSS, 1480, 1530); /* 1000 + 0.4 · (20 − 9.09)³ = 1519, less a round trip's lag */
}

/* RFC 9438 4.3: in the Reno-friendly region 9/17 of a segment per window, then one. */
static void test_friendly(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 70, 100);
  c->w_prior = 75 * MSS;
  for (int i = 0; i < 10 * 17; i++) /* ten windows, no time: equation 1 stands still */
    c->cc->acked(c, c->cwnd / 17, c->cwnd, r->now);
  assert_in_range(c->cwnd, 75 * MSS, 75 * MSS + MSS / 2);
  uint32_t before = c->cwnd;
  for (int i = 0; i < 10 * 17; i++)
    c->cc->acked(c, c->cwnd / 17, c->cwnd, r->now);
  assert_in_range(c->cwnd - before, 9 * MSS, 10 * MSS);
}

/* Time in which the app sent less than cwnd allows is not counted (RFC 9438 5.8). */
static void test_app_limited(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 70, 100);
  c->cc->acked(c, MSS, c->cwnd, r->now);
  c->limited = 0;
  for (int i = 0; i < 1000; i++) {
    r->now += 100000;
    c->cc->acked(c, MSS, MSS, r->now);
  }
  c->limited = 1;
  c->cc->acked(c, MSS, c->cwnd, r->now);
  assert_in_range(c->cwnd, 70 * MSS, 71 * MSS);
}

static void test_loss(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 100, 0);
  c->cc->loss(c, 100 * MSS, r->now);
  assert_int_equal(c->cwnd, 70 * MSS); /* 4.6 */
  assert_int_equal(c->ssthresh, 70 * MSS);
  assert_int_equal(c->w_max, 100 * MSS);
  c->cc->loss(c, 70 * MSS, r->now); /* 4.7: below the last maximum: 0.85 of it is the new one */
  assert_int_equal(c->cwnd, 49 * MSS);
  assert_int_equal(c->w_max, 70 * MSS * 17 / 20);
  for (int i = 0; i < 10; i++)
    c->cc->loss(c, c->cwnd, r->now);
  assert_int_equal(c->cwnd, 2 * MSS);
}

/* 4.8: after a timeout the curve begins where congestion avoidance does, with K = 0. */
static void test_timeout(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 100, 150);
  c->cc->rto(c, 100 * MSS, 1, r->now);
  assert_int_equal(c->cwnd, MSS);
  assert_int_equal(c->ssthresh, 70 * MSS);
  c->cc->rto(c, MSS, 0, r->now);
  assert_int_equal(c->ssthresh, 70 * MSS);
  for (int i = 0; i < 70; i++)
    c->cc->acked(c, MSS, c->cwnd, r->now);
  assert_int_equal(c->cwnd, 70 * MSS);
  c->cc->acked(c, 1, c->cwnd, r->now);
  assert_int_equal(c->b->cubic.k, 0);
  assert_int_equal(c->w_max, 70 * MSS);
}

/* 4.9: a spurious event leaves the curve as it was. */
static void test_undo(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = cubic_at(r, 70, 100);
  c->cc->acked(c, 1, c->cwnd, r->now);
  struct tcp_cubic was = c->b->cubic;
  uint32_t w_max = c->w_max;
  c->b->prior_cwnd = c->cwnd;
  c->b->prior_ssthresh = c->ssthresh;
  c->cc->loss(c, c->cwnd, r->now);
  c->cc->undo(c);
  assert_int_equal(c->cwnd, 70 * MSS);
  assert_int_equal(c->w_max, w_max);
  assert_int_equal(c->b->cubic.k, was.k);
  assert_true(c->b->cubic.epoch_at == was.epoch_at);
}

/* A round of HyStart++: `acks` ACKs of one segment each with this round trip. */
static void round_of(struct tcp_conn *c, unsigned acks, uint32_t rtt, usec_t now) {
  c->snd_nxt = c->b->hystart.end = c->snd_una + acks * MSS; /* all sent when the last round ended */
  for (unsigned i = 0; i < acks; i++) {
    c->snd_una += MSS;
    c->b->ack_rtt = rtt;
    c->cc->acked(c, MSS, c->cwnd, now);
  }
}

static struct tcp_conn *hystart_at(struct rig *r) {
  struct tcp_conn *c = cubic_at(r, 10, 0);
  c->cc->init(c, 10);
  round_of(c, 10, 20000, r->now);
  round_of(c, 10, 20000, r->now);
  assert_int_equal(c->cwnd, 30 * MSS);
  return c;
}

static void test_hystart(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = hystart_at(r);
  round_of(c, 20, 23900, r->now); /* less than 4 ms more */
  assert_int_equal(c->b->hystart.css, 0);
  round_of(c, 20, 27900, r->now); /* the eighth ACK shows it: a quarter of the pace from there on */
  assert_true(c->b->hystart.css > 0);
  assert_in_range(c->cwnd, 50 * MSS + 8 * MSS, 50 * MSS + 8 * MSS + 14 * MSS / 4);
  for (int i = 0; i < 6 && c->cwnd < c->ssthresh; i++)
    round_of(c, 12, 30000, r->now);
  assert_int_equal(c->cwnd, c->ssthresh); /* congestion avoidance after CSS_ROUNDS */
  assert_true(c->ssthresh < 75 * MSS);
}

static void test_hystart_resumes(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = hystart_at(r);
  round_of(c, 20, 27900, r->now);
  assert_true(c->b->hystart.css > 0);
  round_of(c, 20, 20000, r->now); /* it was no queue */
  round_of(c, 20, 20000, r->now);
  assert_int_equal(c->b->hystart.css, 0);
  assert_true(c->ssthresh == TCP_CWND_MAX);
}

static void test_hystart_few_samples(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = hystart_at(r);
  for (int i = 0; i < 20; i++)
    round_of(c, 7, 90000, r->now);
  assert_int_equal(c->b->hystart.css, 0);
}

/* TCP_CONGESTION and the configuration. */
static void test_choice(void **state) {
  struct rig *r = *state;
  assert_int_equal(tcp_cc_find("newreno"), 0);
  assert_int_equal(tcp_cc_find("cubic"), 1);
  assert_int_equal(tcp_cc_find("vegas"), -ENOENT);
  assert_string_equal(tcp_cc_name(1), "cubic");
  assert_string_equal(tcp_cc_name(200), "?");
  rig_passive(r, 0);
  struct tcp_conn *c = &r->conn;
  assert_ptr_equal(c->cc, &tcp_cc_newreno); /* the rig's configuration */
  struct abi_options o = r->d.opt;
  uint32_t cwnd = c->cwnd;
  o.cc = 2;
  tcp_options(&r->env, c, &o, r->now);
  assert_ptr_equal(c->cc, &tcp_cc_cubic);
  assert_int_equal(r->d.cc, 1);
  assert_int_equal(c->cwnd, cwnd);
  assert_true(c->b->hystart.last == UINT32_MAX); /* begins anew */
  o.cc = 77;                                     /* not one of ours: stays */
  tcp_options(&r->env, c, &o, r->now);
  assert_ptr_equal(c->cc, &tcp_cc_cubic);
  assert_int_equal(rig_adopt(r), 0); /* durable */
  assert_ptr_equal(r->conn.cc, &tcp_cc_cubic);
  struct tcp_config cfg;
  tcp_config_defaults(&cfg);
  assert_string_equal(tcp_cc_name(cfg.cc), "cubic");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_root),
      RIG_TEST(test_curve),
      RIG_TEST(test_growth),
      RIG_TEST(test_friendly),
      RIG_TEST(test_app_limited),
      RIG_TEST(test_loss),
      RIG_TEST(test_timeout),
      RIG_TEST(test_undo),
      RIG_TEST(test_hystart),
      RIG_TEST(test_choice),
      RIG_TEST(test_hystart_resumes),
      RIG_TEST(test_hystart_few_samples),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
