/*
 * Losses that were none: reordering and what is learnt from it, needless retransmissions that a DSACK or a timestamp
 * tells of and the window that comes back, and what shows nothing of the kind.
 */
#include "tcp_rig.h"

static void test_reordering_is_learnt(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_sack(r, 1, 2);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0); /* it came, and nobody had sent it again */
  assert_int_equal(r->conn.reo_seen, 1);
  assert_int_equal(COUNTER(r, reordering), 1);
  rig_sack(r, 3, 7); /* four segments ahead: not yet a loss */
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0);
  NOTHING(r);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(COUNTER(r, fast_recovery), 0);
  NOTHING(r);
}

/* An ACK that moves on and brings the first SACK with it tells of a hole, not of reordering. */
static void test_ack_with_sack_is_no_reordering(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  rig_sack(r, 3, 4);
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0);
  assert_int_equal(COUNTER(r, reordering), 0);
  rig_sack(r, 6, 7);
  rig_sack(r, 3, 5); /* what is new lies below what is new too, and above what was known */
  rig_in(r, TCP_ACK, 1, rig_at(r, 2), 0);
  assert_int_equal(COUNTER(r, reordering), 0);
  assert_int_equal(r->conn.reo_seen, 0);
}

static void test_undo_by_dsack(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK);
  uint32_t cwnd = r->conn.cwnd;
  rig_sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_true(r->conn.cwnd < cwnd);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0); /* the original */
  rig_sack(r, 0, 1);                       /* and the copy: a duplicate */
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(COUNTER(r, undo), 1);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.reo_seen, 1);
}

static void test_undo_by_timestamp(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK | RIG_TS);
  uint32_t cwnd = r->conn.cwnd;
  usec_t sent = r->now;
  r->conn.b->due[TCP_T_REO] = 0; /* no tail loss probe */
  rig_pass(r, r->conn.rto);
  rig_skip(r);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  usec_t real = r->now;
  r->now = sent; /* the peer echoes the original's timestamp (RFC 3522) */
  struct tcp_seg_in s = {.segs = 1};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER + 1, .ack = r->d.iss + rig_at(r, 3), .flags = TCP_ACK, .wnd = 65535};
  s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_TS, .ts_val = 100, .ts_ecr = tcp_open_ts(&r->d, sent)};
  r->now = real;
  tcp_input(&r->env, &r->conn, &s, r->now);
  assert_int_equal(COUNTER(r, undo), 1);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(r->conn.snd_nxt, r->d.snd_max);
  NOTHING(r);
}

static void test_true_loss_is_not_undone(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK | RIG_TS);
  rig_pass(r, 5 * RIG_MS);
  rig_sack(r, 1, 5);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_skip(r);
  rig_pass(r, 5 * RIG_MS);
  rig_in(r, TCP_ACK, 1, rig_at(r, 5), 0); /* echoes the retransmission */
  assert_int_equal(COUNTER(r, undo), 0);
  rig_in(r, TCP_ACK, 1, rig_at(r, 10), 0);
  assert_int_equal(COUNTER(r, undo), 0);
}

/* The ACK of what an earlier recovery sent again echoes a time before the present one began: that shows nothing. */
static void test_earlier_retransmission_undoes_nothing(void **state) {
  struct rig *r = *state;
  rig_ten_out(r, RIG_SACK | RIG_TS); /* and the beginning of an eleventh */
  rig_write(r, 20 * 1460);
  rig_pass(r, 5 * RIG_MS);
  rig_sack(r, 1, 10);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY); /* until what was out then is acknowledged */
  rig_pass(r, 5 * RIG_MS);
  rig_sack(r, 1, 11);
  rig_sack(r, 12, 15);
  rig_in(r, TCP_ACK, 1, 1, 0); /* the twelfth, sent since, is lost as well: again */
  usec_t again = r->now;
  rig_pass(r, 5 * RIG_MS);
  rig_sack(r, 12, 15);
  rig_in(r, TCP_ACK, 1, rig_at(r, 11), 0);
  assert_int_equal(r->conn.recovery, TCP_RECOVERY); /* the first is over, the next has begun */
  assert_true(seq_gt(r->conn.recover, r->d.iss + rig_at(r, 11)));
  struct tcp_seg_in s = {.segs = 1};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER + 1, .ack = r->d.iss + rig_at(r, 15), .flags = TCP_ACK, .wnd = 65535};
  s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_TS, .ts_val = 100, .ts_ecr = tcp_open_ts(&r->d, again)};
  tcp_input(&r->env, &r->conn, &s, r->now);
  assert_int_equal(COUNTER(r, undo), 0);
  assert_int_equal(r->conn.reo_seen, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_reordering_is_learnt),    RIG_TEST(test_ack_with_sack_is_no_reordering),
      RIG_TEST(test_undo_by_dsack),           RIG_TEST(test_undo_by_timestamp),
      RIG_TEST(test_true_loss_is_not_undone), RIG_TEST(test_earlier_retransmission_undoes_nothing),
  };
  return cmocka_run_group_tests_name("tcp_undo", tests, NULL, NULL);
}
