/*
 * Margins of loss recovery, to the byte, the microsecond and the entry: what is counted, when probes and proofs are
 * due, holes of one byte, the list of what is out and what RACK finds in it (what RACK remembers: test_prr.c). See
 * test_margins.c.
 */
#include "tcp_rig.h"

#define SMALL 1u /* a segment of one byte */

/* Each byte is a segment of its own. */
static void write_ones(struct rig *r, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    rig_write(r, SMALL);
  rig_skip(r);
}

static void sack(struct rig *r, uint32_t l, uint32_t end) {
  r->sack[r->n_sack++] = (struct tcp_sack){l, end};
}

static void test_counts_of_loss(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  rig_write(r, 6 * RIG_MSS);
  rig_skip(r);
  for (int i = 0; i < 3; i++)
    rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  assert_int_equal(r->conn.lost_total, 1);
  EXPECT(r, TCP_ACK, 1, 1, RIG_MSS);
  assert_int_equal(r->conn.retrans_total, 1);
  rig_pass(r, r->conn.b->due[TCP_T_RTO] - r->now);
  assert_int_equal(r->conn.lost_total, 2);
  assert_true(r->conn.retrans_total >= 2);
}

static void test_route_doubted(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  rig_write(r, 1);
  for (unsigned i = 1; i <= 4; i++) {
    rig_pass(r, r->conn.b->due[TCP_T_RTO] - r->now);
    assert_int_equal(r->conn.backoff, i);
    assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), i == 3 ? EV(TCP_EV_ROUTE_BAD) : 0);
  }
}

/* The tail probe: two round trips, 5 ms at least, and never behind the RTO. */
static void test_tail_times(void **state) {
  struct rig *r = *state;
  rig_start(r, RIG_SACK);
  rig_write(r, 2 * RIG_MSS);
  rig_in(r, TCP_ACK, 1, 1 + 2 * RIG_MSS, 0);
  r->conn.srtt8 = 8 * 1000;
  rig_write(r, 2 * RIG_MSS);
  assert_int_equal(r->conn.b->due[TCP_T_REO], r->now + 5000);
  tcp_timer_stop(&r->conn, TCP_T_REO);
  r->conn.srtt8 = 8 * 3000;
  tcp_loss_tail_arm(&r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_REO], r->now + 6000);
  r->conn.srtt8 = 8 * 2501;
  tcp_loss_tail_arm(&r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_REO], r->now + 5002);
  r->conn.b->due[TCP_T_RTO] = r->now + 5001;
  tcp_loss_tail_arm(&r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_REO], 0);
}

/* A needless retransmission may be told of for eight round trips, 200 ms at least. */
static void test_undo_times(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < 2; i++) {
    rig_init(r);
    rig_start(r, RIG_SACK);
    rig_write(r, 6 * RIG_MSS);
    rig_skip(r);
    r->conn.srtt8 = i ? 8 * 50 * 1000 : 8 * 1000;
    sack(r, 1 + RIG_MSS, 1 + 5 * RIG_MSS);
    rig_in(r, TCP_ACK, 1, 1, 0);
    assert_int_equal(r->conn.recovery, TCP_RECOVERY);
    assert_int_equal(r->conn.b->undo_until, r->now + (i ? 400000 : 200000));
  }
}

/* One byte each: the sixth is beyond a hole of one; the retransmission's and the hole's size are 1. */
static void test_hole_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, RIG_SACK);
  write_ones(r, 6);
  sack(r, 2, 7);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_pass(r, 2 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 1, 1);
  NOTHING(r);
  assert_int_equal(r->conn.b->undo_bytes, 1);
  r->n_sack = 0;
  rig_in(r, TCP_ACK, 1, 7, 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(r->conn.b->board.n, 0);
  assert_int_equal(r->tx_head, 6);
}

/* Without SACK: a partial ACK of one byte goes on with the next hole, one of everything ends it. */
static void test_partial_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  write_ones(r, 5);
  for (int i = 0; i < 3; i++)
    rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY);
  EXPECT(r, TCP_ACK, 2, 1, 4);
  rig_in(r, TCP_ACK, 1, 6, 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
}

/* F-RTO with one byte acknowledged at a time: new data, then the proof (RFC 5682 2.1). */
static void test_frto_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, 0);
  write_ones(r, 3);
  rig_pass(r, r->conn.b->due[TCP_T_RTO] - r->now);
  EXPECT(r, TCP_ACK, 1, 1, 3);
  r->tx_tail += 2; /* something that was never sent */
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(r->conn.frto, TCP_FRTO_SECOND);
  EXPECT(r, TCP_ACK, 4, 1, 2);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 3, 0);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_int_equal(COUNTER(r, frto), 1);
  NOTHING(r);
}

static void entries(struct rig *r, const struct tcp_sent *s, uint32_t n) {
  memcpy(tcp_sent_list(&r->conn), s, n * sizeof *s);
  r->conn.n_sent = (uint8_t)n;
}

static void test_list_remove(void **state) {
  struct rig *r = *state;
  struct tcp_sent s[4];
  rig_start(r, RIG_SACK);
  assert_int_equal(tcp_sent_grow(&r->env, &r->conn), 1);
  memset(s, 0, sizeof s);
  for (uint32_t i = 0; i < 4; i++)
    s[i].l = 10 * i, s[i].r = 10 * i + 10;
  for (uint32_t gone = 0; gone < 4; gone++) {
    struct tcp_sent beyond = {.l = 4711};
    entries(r, s, 4);
    tcp_sent_list(&r->conn)[4] = beyond;
    tcp_sent_list(&r->conn)[3 + 2] = beyond;
    tcp_sent_remove(&r->conn, gone);
    assert_int_equal(r->conn.n_sent, 3);
    for (uint32_t i = 0; i < 3; i++)
      assert_int_equal(tcp_sent_list(&r->conn)[i].l, s[i + (i >= gone)].l);
    assert_int_equal(tcp_sent_list(&r->conn)[3].l, s[3].l); /* what lies behind is left alone */
    assert_int_equal(tcp_sent_list(&r->conn)[4].l, 4711);
  }
  r->conn.n_sent = 0;
}

static void test_list_cut(void **state) {
  struct rig *r = *state;
  static const struct {
    uint32_t l, r, n, at[4][2];
  } row[] = {{0, 100, 2, {{100, 200}, {300, 400}}},
             {200, 300, 2, {{100, 200}, {300, 400}}},
             {100, 200, 1, {{300, 400}}},
             {99, 201, 1, {{300, 400}}},
             {100, 101, 2, {{101, 200}, {300, 400}}},
             {199, 200, 2, {{100, 199}, {300, 400}}},
             {150, 151, 3, {{100, 150}, {151, 200}, {300, 400}}},
             {199, 301, 2, {{100, 199}, {301, 400}}},
             {399, 500, 2, {{100, 200}, {300, 399}}},
             {310, 390, 3, {{100, 200}, {300, 310}, {390, 400}}}};
  rig_start(r, RIG_SACK);
  assert_int_equal(tcp_sent_grow(&r->env, &r->conn), 1);
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct tcp_sent s[2];
    memset(s, 0, sizeof s);
    s[0].l = 100, s[0].r = 200, s[1].l = 300, s[1].r = 400;
    entries(r, s, 2);
    tcp_sent_cut(&r->env, &r->conn, row[i].l, row[i].r);
    assert_int_equal(r->conn.n_sent, row[i].n);
    for (uint32_t k = 0; k < row[i].n; k++) {
      assert_int_equal(tcp_sent_list(&r->conn)[k].l, row[i].at[k][0]);
      assert_int_equal(tcp_sent_list(&r->conn)[k].r, row[i].at[k][1]);
    }
  }
  r->conn.n_sent = 0;
}

/* What is found is told apart: bit 0 a loss, bit 1 a retransmission. */
static void test_detect_bits(void **state) {
  struct rig *r = *state;
  for (unsigned again = 0; again < 2; again++) {
    rig_init(r);
    rig_start(r, RIG_SACK);
    rig_write(r, 3 * RIG_MSS);
    rig_skip(r);
    struct tcp_sent s[2];
    memset(s, 0, sizeof s);
    s[0].l = r->conn.snd_una, s[0].r = s[0].l + RIG_MSS, s[0].at = s[0].from = (uint32_t)r->now - 900000;
    s[0].rexmit = (uint8_t)again;
    s[1].l = s[0].r, s[1].r = r->d.snd_max, s[1].at = s[1].from = (uint32_t)r->now - 1000;
    entries(r, s, 2);
    r->conn.rack = 1;
    r->conn.b->rack_at = (uint32_t)r->now - 2000;
    r->conn.b->rack_end = r->d.snd_max;
    r->conn.b->rack_rtt = 1000;
    assert_int_equal(tcp_rack_detect(&r->env, &r->conn, r->now), again ? 3 : 1);
    assert_int_equal(r->conn.n_sent, 1);
    assert_int_equal(tcp_rack_detect(&r->env, &r->conn, r->now), 0);
    assert_int_equal(r->conn.n_sent, 1);
  }
}

/* A sample's round trip is that of what left last, to the µs. */
static void test_sample_of_one(void **state) {
  struct rig *r = *state;
  rig_start(r, RIG_SACK);
  r->now += RIG_S;
  rig_write(r, RIG_MSS);
  r->now += 1;
  r->env.fack = r->conn.snd_una;
  r->env.rate.valid = 0;
  (void)tcp_sent_delivered(&r->env, &r->conn, r->conn.snd_una, r->conn.snd_una + RIG_MSS, 0, r->now);
  assert_int_equal(r->env.rate.valid, 1);
  assert_int_equal(r->env.rate.rtt_us, 1);
  assert_int_equal(r->conn.n_sent, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_counts_of_loss), RIG_TEST(test_route_doubted), RIG_TEST(test_tail_times),
      RIG_TEST(test_undo_times),     RIG_TEST(test_hole_of_one),   RIG_TEST(test_partial_of_one),
      RIG_TEST(test_frto_of_one),    RIG_TEST(test_list_remove),   RIG_TEST(test_list_cut),
      RIG_TEST(test_detect_bits),    RIG_TEST(test_sample_of_one),
  };
  return cmocka_run_group_tests_name("tcp_margins_loss", tests, NULL, NULL);
}
