/*
 * Congestion controls and ECN over a simulated bottleneck, against their published behaviour: BBR (ACM Queue 14(5),
 * 2016) fills a pipe that loses 1 % where loss-based ones cannot, keeps about one bandwidth-delay product in flight
 * whatever the buffer holds, finds the least round trip again, and two of its flows share; CUBIC and NewReno fill a
 * pipe with a buffer of one product, and share; after one loss CUBIC's window follows RFC 9438's curve and NewReno's
 * RFC 5681's line; with ECN the queue is held without a loss. Bytes are compared as
 * always. SIM_VERBOSE prints figures.
 */
#include "base/bits.h"
#include "sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define RATE  2000u  /* bytes per ms: 16 Mbit/s */
#define DELAY 20000u /* µs one way */
#define BDP   (RATE * DELAY * 2 / 1000)

static struct sim_case base_case(const char *cc, uint32_t bytes) {
  return (struct sim_case){.seed = 5,
                           .family = 4,
                           .cc = cc,
                           .bytes = {bytes, 0},
                           .fifo = {1u << 20, 1u << 20},
                           .write_max = 1u << 20,
                           .read_max = 1u << 20,
                           .delay = DELAY,
                           .data_only = 1,
                           .rate = RATE,
                           .queue = BDP};
}

struct result {
  double share;        /* of the line's rate */
  uint32_t flight_max; /* in the second half */
  uint32_t rtprop, bw; /* of BBR, at the end of the data */
  uint64_t probe_rtt;  /* looks that found it in PROBE_RTT */
};

/* One flow to its end. */
static struct result run(struct sim *s, const struct sim_case *c) {
  struct result r = {0};
  int rc = sim_begin(s, c, NULL);
  while (rc >= 0 && (rc = sim_step(s)) > 0) {
    const struct tcp_conn *k = s->host[0].conn;
    uint32_t state = s->host[0].tcb.state; /* the server has nothing to say: its FIN comes early */
    if (k == NULL || (state != ABI_TCP_ESTABLISHED && state != ABI_TCP_CLOSE_WAIT))
      continue;
    if (s->host[1].read > c->bytes[0] / 2)
      r.flight_max = HS_MAX(r.flight_max, tcp_flight(k));
    if (c->cc != NULL && c->cc[0] == 'b' && k->b != NULL) {
      r.rtprop = k->b->bbr.rtprop;
      r.bw = k->b->bbr.max[0].bw;
      r.probe_rtt += k->b->bbr.mode == 3;
    }
  }
  if (rc < 0)
    print_error("%s\n", s->fault);
  assert_int_equal(rc, 0);
  r.share = (double)c->bytes[0] / ((double)(s->host[1].read_all_at - 1000000) * RATE / 1000);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("%-8s loss %u queue %u: %.3f of the rate, flight %u, queue %llu us, rtprop %u, bw %u, lost %llu\n",
                  c->cc, c->loss, c->queue, r.share, r.flight_max, (unsigned long long)s->queue_max, r.rtprop, r.bw,
                  (unsigned long long)s->lost);
  return r;
}

static uint64_t total(const struct sim_host *h, int i) {
  return h->totals[i] + h->counters[i];
}

static void test_fills_the_pipe(void **state) {
  static const char *const cc[] = {"newreno", "cubic", "bbr"};
  (void)state;
  for (unsigned i = 0; i < 3; i++) {
    struct sim s;
    struct sim_case c = base_case(cc[i], 12000000);
    assert_true(run(&s, &c).share > 0.85);
    sim_fini(&s);
  }
}

static void test_random_loss(void **state) {
  struct sim s;
  (void)state;
  struct sim_case c = base_case("cubic", 6000000);
  c.loss = 10000;
  assert_true(run(&s, &c).share < 0.45); /* that is what a loss means to it */
  sim_fini(&s);
  c = base_case("bbr", 12000000);
  c.loss = 10000;
  struct result r = run(&s, &c);
  assert_true(r.share > 0.8);
  assert_in_range(r.bw, RATE * 850, RATE * 1050);
  sim_fini(&s);
}

/* A buffer of 25 products: CUBIC fills what it may, BBR leaves it empty. */
static void test_deep_buffer(void **state) {
  struct sim s;
  (void)state;
  struct sim_case c = base_case("bbr", 12000000);
  c.queue = 25 * BDP;
  struct result r = run(&s, &c);
  assert_true(r.share > 0.85);
  assert_true(r.flight_max < 2 * BDP);
  assert_in_range(r.rtprop, 2 * DELAY, 2 * DELAY * 11 / 10);
  assert_int_equal(s.lost, 0);
  sim_fini(&s);
  c = base_case("cubic", 12000000);
  c.queue = 25 * BDP;
  c.fifo[0] = c.fifo[1] = 1u << 22;
  assert_true(run(&s, &c).flight_max > 3 * BDP);
  sim_fini(&s);
}

/* Two flows over one line. The second starts when the first has the pipe. Shares over the time that both send. */
static double jain(const char *cc, uint32_t queue, uint64_t *probes) {
  static struct sim s[2];
  usec_t line[2] = {0, 0};
  double got[2] = {0, 0};
  struct sim_case c = base_case(cc, 40000000);
  c.queue = queue;
  assert_int_equal(sim_begin(&s[0], &c, line), 0);
  c.seed = 6;
  assert_int_equal(sim_begin(&s[1], &c, line), 0);
  s[1].now = 3000000;
  uint64_t from[2] = {0, 0};
  *probes = 0;
  for (;;) {
    unsigned i = HS_MAX(sim_next(&s[1]), s[1].now) < HS_MAX(sim_next(&s[0]), s[0].now);
    if (sim_step(&s[i]) <= 0)
      break;
    if (s[i].host[0].conn != NULL && cc[0] == 'b')
      *probes += s[i].host[0].conn->b->bbr.mode == 3;
    if (from[1] == 0 && s[0].now > 15000000)
      for (unsigned k = 0; k < 2; k++)
        from[k] = s[k].host[1].read + 1;
    if (s[0].now > 31000000)
      break;
  }
  for (unsigned k = 0; k < 2; k++) {
    if (s[k].fault[0])
      fail_msg("%s", s[k].fault);
    got[k] = (double)(s[k].host[1].read + 1 - from[k]);
    sim_fini(&s[k]);
  }
  double index = (got[0] + got[1]) * (got[0] + got[1]) / (2 * (got[0] * got[0] + got[1] * got[1]));
  double used = (got[0] + got[1]) / (16000.0 * RATE);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("%s: two flows get %.0f and %.0f, Jain %.3f, together %.2f of the rate\n", cc, got[0], got[1], index,
                  used);
  assert_true(used > 0.8);
  return index;
}

static void test_two_flows(void **state) {
  uint64_t probes;
  (void)state;
  assert_true(jain("bbr", 10 * BDP, &probes) > 0.9);
  assert_true(probes > 0); /* each keeps the other's queue from telling the least round trip: PROBE_RTT empties it */
  assert_true(jain("cubic", BDP, &probes) > 0.8);
  assert_true(jain("newreno", BDP, &probes) > 0.8);
}

/* RFC 3168: a router that marks above half a product; nothing is lost. */
static void test_ecn(void **state) {
  static const char *const cc[] = {"newreno", "cubic"};
  (void)state;
  for (unsigned i = 0; i < 4; i++) {
    struct sim s;
    struct sim_case c = base_case(cc[i % 2], 8000000);
    c.family = i < 2 ? 4 : 6;
    c.ecn = TCP_ECN_ON;
    c.mark_queue = BDP / 2;
    c.queue = 20 * BDP;
    struct result r = run(&s, &c);
    assert_true(r.share > 0.85);
    assert_int_equal(s.lost, 0);
    assert_true(s.marked > 0);
    assert_true(total(&s.host[0], TCP_C_ecn_cuts) > 0);
    assert_int_equal(total(&s.host[0], TCP_C_rexmit_segs), 0);
    assert_true(r.flight_max < 3 * BDP);
    sim_fini(&s);
  }
}

/* Marks on one packet in a hundred reduce as losses do. */
static void test_ecn_random_marks(void **state) {
  struct sim s;
  (void)state;
  struct sim_case c = base_case("newreno", 3000000);
  c.ecn = TCP_ECN_ON;
  c.mark_ce = 10000;
  struct result r = run(&s, &c);
  assert_true(r.share < 0.45);
  assert_int_equal(total(&s.host[0], TCP_C_rexmit_segs), 0);
  sim_fini(&s);
}

/* --- the window over time --- */

#define LOOKS 400u

struct curve {
  double t[LOOKS], w[LOOKS]; /* seconds since recovery ended; segments */
  unsigned n;
  double w_max; /* segments when the loss was found */
};

/* One flow over a path without a bottleneck, of which one packet is lost, in slow start: its window each round trip
 * from the end of recovery on. */
static void follow(const char *cc, uint32_t bytes, struct curve *v) {
  struct sim s;
  struct sim_case c = base_case(cc, bytes);
  c.rate = c.queue = 0;
  c.delay = 50000;
  c.mtu = 576;
  c.lose_at = 300;
  c.delack = 1000; /* the equations know no delayed ACKs */
  c.fifo[0] = c.fifo[1] = c.write_max = c.read_max = 1u << 20;
  usec_t from = 0, next = 0;
  int rc = sim_begin(&s, &c, NULL), recovering = 0;
  v->n = 0;
  while (rc >= 0 && (rc = sim_step(&s)) > 0) {
    const struct tcp_conn *k = s.host[0].conn;
    if (k == NULL || s.host[0].written == c.bytes[0]) /* the app's end: the window is not used any more */
      continue;
    if (from == 0 && k->recovery == TCP_OPEN && !recovering)
      v->w_max = (double)k->cwnd / k->mss;
    if (recovering && k->recovery == TCP_OPEN && from == 0)
      from = next = s.now;
    recovering = k->recovery != TCP_OPEN;
    if (from != 0 && s.now >= next && v->n < LOOKS) {
      v->t[v->n] = (double)(s.now - from) / 1e6;
      v->w[v->n++] = (double)k->cwnd / k->mss;
      next += 2 * c.delay;
    }
  }
  if (rc < 0)
    print_error("%s\n", s.fault);
  assert_int_equal(rc, 0);
  assert_int_equal(s.lost, 1);
  assert_int_equal(total(&s.host[0], TCP_C_fast_recovery), 1);
  sim_fini(&s);
}

/* RFC 9438 4.2, 4.6: down to 0.7 of W_max, then W(t) = C (t - K)^3 + W_max: steep, flat around W_max, steep again. */
static void test_cubic_curve(void **state) {
  static struct curve v;
  double worst = 0;
  (void)state;
  follow("cubic", 18000000, &v);
  assert_true(v.n > 60);
  double k = cbrt((v.w_max - v.w[0]) / 0.4);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("cubic: W_max %.1f, then %.1f, K %.2f s, followed for %.2f s\n", v.w_max, v.w[0], k, v.t[v.n - 1]);
  assert_true(fabs(v.w[0] / v.w_max - 0.7) < 0.02);
  assert_true(v.t[v.n - 1] > 1.3 * k); /* past the plateau */
  for (unsigned i = 0; i < v.n; i++) {
    double want = 0.4 * pow(v.t[i] - k, 3) + v.w_max;
    worst = fmax(worst, fabs(v.w[i] - want) / v.w_max);
  }
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("cubic: never further than %.1f %% of W_max from the curve\n", 100 * worst);
  assert_true(worst < 0.03);
}

/* RFC 5681 3.1, RFC 6582: half, then a segment each round trip. */
static void test_newreno_line(void **state) {
  static struct curve v;
  (void)state;
  follow("newreno", 6000000, &v);
  assert_true(v.n > 40);
  if (getenv("SIM_VERBOSE") != NULL)
    print_message("newreno: window %.1f, then %.1f, after %u round trips %.1f\n", v.w_max, v.w[0], v.n - 1,
                  v.w[v.n - 1]);
  assert_true(fabs(v.w[0] / v.w_max - 0.5) < 0.02);
  double slope = (v.w[v.n - 1] - v.w[0]) / ((v.t[v.n - 1] - v.t[0]) / 0.1);
  assert_true(fabs(slope - 1) < 0.1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fills_the_pipe),
      cmocka_unit_test(test_random_loss),
      cmocka_unit_test(test_deep_buffer),
      cmocka_unit_test(test_two_flows),
      cmocka_unit_test(test_ecn),
      cmocka_unit_test(test_ecn_random_marks),
      cmocka_unit_test(test_cubic_curve),
      cmocka_unit_test(test_newreno_line),
  };
  return cmocka_run_group_tests_name("sim_cc", tests, NULL, NULL);
}
