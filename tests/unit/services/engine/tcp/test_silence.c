/*
 * What is done when nothing comes: tail loss probes, keep-alive, user timeout; and how few timers are ordered for it.
 */
#include "tcp_rig.h"

static void test_tail_probe(void **state) {
  struct rig *r = *state;
  r->gso = 1460;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 3 * 1460);
  rig_skip(r); /* all three are lost: no SACK will ever tell */
  rig_pass(r, 8 * RIG_MS - 1);
  NOTHING(r);
  rig_pass(r, 1); /* two round trips: RFC 8985 7.3, the last one again */
  EXPECT(r, TCP_ACK, rig_at(r, 2), 1, 1460);
  assert_int_equal(COUNTER(r, tail_probes), 1);
  rig_pass(r, 50 * RIG_MS);
  NOTHING(r); /* one only */
  rig_sack(r, 2, 3);
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_pass(r, 5 * RIG_MS); /* the reordering window */
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  rig_in(r, TCP_ACK, 1, rig_at(r, 1), 0);
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
  NOTHING(r);
  assert_int_equal(COUNTER(r, rto), 0);
}

static void test_tail_probe_prefers_new_data(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  r->conn.cwnd = 2 * 1460;
  rig_write(r, 5 * 1460);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  EXPECT(r, TCP_ACK, rig_at(r, 1), 1, 1460);
  NOTHING(r);
  rig_pass(r, 8 * RIG_MS);
  EXPECT(r, TCP_ACK, rig_at(r, 2), 1, 1460);
  NOTHING(r);
}

static void test_tail_probe_of_a_fin(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 1460 + 100);
  rig_shutdown(r);
  rig_skip(r);
  rig_pass(r, 8 * RIG_MS);
  EXPECT(r, TCP_FIN | TCP_ACK, 101, 1, 1460); /* the last full segment, with the FIN */
  NOTHING(r);
}

static void test_no_tail_probe_for_one_segment(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.srtt8 = 8 * 4000;
  rig_write(r, 100);
  rig_skip(r);
  rig_pass(r, 190 * RIG_MS);
  NOTHING(r); /* its ACK may be delayed */
}

static void test_keepalive(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.flags = ABI_OPT_KEEPALIVE, .keepidle_s = 10, .keepintvl_s = 2, .keepcnt = 3};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_pass(r, 9 * RIG_S);
  rig_in(r, TCP_ACK, 1, 1, 5);
  rig_skip(r);
  rig_pass(r, 10 * RIG_S - 1);
  NOTHING(r);
  rig_pass(r, 1);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_in(r, TCP_ACK, 6, 1, 0); /* the peer is there */
  rig_pass(r, 2 * RIG_S);
  NOTHING(r);
  rig_pass(r, 8 * RIG_S);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_pass(r, 4 * RIG_S);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  EXPECT(r, TCP_ACK, 0, 6, 0);
  rig_pass(r, 2 * RIG_S);
  EXPECT(r, TCP_RST | TCP_ACK, 1, 6, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_user_timeout(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.user_timeout_ms = 3000};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  usec_t began = r->now;
  rig_pass(r, 2900 * RIG_MS);
  assert_false(r->closed);
  assert_int_equal(r->d.user_timeout_at, began + 3 * RIG_S);
  rig_pass(r, 101 * RIG_MS);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ETIMEDOUT);
}

static void test_user_timeout_forgotten(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.user_timeout_ms = 3000};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  rig_pass(r, 2 * RIG_S);
  rig_in(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(r->d.user_timeout_at, 0);
  rig_pass(r, 100 * RIG_S);
  assert_false(r->closed);
}

static void test_orders_are_few(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 100);
  usec_t first = r->timer_at;
  r->now += 1000;
  rig_in(r, TCP_ACK, 1, 51, 0); /* the RTO moves on: no new order */
  assert_true(r->conn.b->due[TCP_T_RTO] > first);
  assert_int_equal(r->timer_at, first);
  rig_skip(r);
  rig_pass(r, first - r->now); /* it comes too early, and orders anew */
  NOTHING(r);
  assert_int_equal(r->timer_at, r->conn.b->due[TCP_T_RTO]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_tail_probe),
      RIG_TEST(test_tail_probe_prefers_new_data),
      RIG_TEST(test_tail_probe_of_a_fin),
      RIG_TEST(test_no_tail_probe_for_one_segment),
      RIG_TEST(test_keepalive),
      RIG_TEST(test_user_timeout),
      RIG_TEST(test_user_timeout_forgotten),
      RIG_TEST(test_orders_are_few),
  };
  return cmocka_run_group_tests_name("tcp_silence", tests, NULL, NULL);
}
