/*
 * What only a busy connection needs (tcp_busy.c): lent, given back after a silence, never while something is out, owed
 * or held back; and that a connection which wakes goes on as if nothing had been.
 */
#include "tcp_rig.h"

#include "tcp_cc.h"

static void test_goes_to_rest(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK | RIG_TS);
  assert_non_null(r->conn.b);
  rig_pass(r, 3 * RIG_S);
  assert_non_null(r->conn.b); /* not silent for long enough */
  rig_pass(r, 5 * RIG_S);
  assert_null(r->conn.b);
  assert_int_equal(r->env.busy_out, 0);
  assert_true(r->timer_at == UINT64_MAX);
  assert_int_equal(COUNTER(r, rests), 1);
  NOTHING(r);
}

/* Data either way wakes it, and it rests again. */
static void test_wakes(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK | RIG_TS);
  uint32_t cwnd = r->conn.cwnd;
  for (unsigned i = 0; i < 3; i++) {
    rig_pass(r, 20 * RIG_S);
    assert_null(r->conn.b);
    rig_write(r, 100);
    assert_non_null(r->conn.b);
    assert_int_equal(r->env.busy_out, 1);
    EXPECT(r, TCP_ACK, 1 + 100 * i, 1 + 10 * i, 100);
    rig_in(r, TCP_ACK, 1 + 10 * i, 1 + 100 * (i + 1), 0);
    NOTHING(r);
    rig_pass(r, 20 * RIG_S);
    assert_null(r->conn.b);
    rig_in(r, TCP_ACK, 1 + 10 * i, 1 + 100 * (i + 1), 10);
    rig_pass(r, RIG_S);
    EXPECT(r, TCP_ACK, 1 + 100 * (i + 1), 1 + 10 * (i + 1), 0);
    assert_non_null(r->conn.b);
  }
  assert_true(r->conn.cwnd >= cwnd);
  NOTHING(r);
}

/* The block is not given back while data is out, nor while bytes are missing. */
static void test_stays_busy(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  rig_write(r, 100);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  for (unsigned i = 0; i < 20; i++) {
    rig_pass(r, RIG_S);
    assert_non_null(r->conn.b);
  }
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 101, 0);
  rig_in(r, TCP_ACK, 101, 101, 50); /* a hole */
  rig_skip(r);
  rig_pass(r, 20 * RIG_S);
  assert_non_null(r->conn.b);
  assert_int_equal(tcp_conn_check(&r->env, &r->conn), 0);
}

/* Everything that may come first to a connection at rest finds a block, and ends well. */
static void test_first_calls(void **state) {
  struct rig *r = *state;
  for (unsigned call = 0; call < 7; call++) {
    rig_init(r);
    rig_passive(r, RIG_SACK | RIG_TS);
    rig_pass(r, 20 * RIG_S);
    assert_null(r->conn.b);
    struct abi_tcp_figures figures;
    struct abi_tcp_more more;
    tcp_figures(&r->env, &r->conn, &figures); /* a look wakes nobody */
    tcp_figures_more(&r->env, &r->conn, &more);
    assert_int_equal(tcp_output(&r->env, &r->conn, r->now), 0);
    assert_null(r->conn.b);
    assert_int_equal(figures.tcp_state, ABI_TCP_ESTABLISHED);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(more.unacked, 0);
    switch (call) {
    case 0:
      tcp_timer(&r->env, &r->conn, r->now);
      break;
    case 1:
      tcp_rx_consumed(&r->env, &r->conn, r->now);
      break;
    case 2:
      rig_shutdown(r);
      STATE(r, ABI_TCP_FIN_WAIT_1);
      break;
    case 3:
      rig_close(r);
      STATE(r, ABI_TCP_FIN_WAIT_1);
      break;
    case 4:
      tcp_abort(&r->env, &r->conn, 0, r->now);
      STATE(r, ABI_TCP_CLOSED);
      assert_int_equal(r->env.busy_out, 0);
      continue;
    case 5: {
      struct abi_options opt = {.flags = ABI_OPT_KEEPALIVE, .keepidle_s = 60};
      tcp_options(&r->env, &r->conn, &opt, r->now);
      break;
    }
    default: /* about nothing that is out: no reason to wake */
      tcp_icmp(&r->env, &r->conn, 0, EHOSTUNREACH, 0, 1, r->now);
      assert_null(r->conn.b);
      continue;
    }
    assert_non_null(r->conn.b);
    assert_true(r->timer_at != UINT64_MAX); /* or it would never rest again */
    assert_int_equal(tcp_conn_check(&r->env, &r->conn), 0);
  }
}

/* The keep-alive goes on while it rests. */
static void test_keepalive(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  struct abi_options opt = {.flags = ABI_OPT_KEEPALIVE, .keepidle_s = 60};
  tcp_options(&r->env, &r->conn, &opt, r->now);
  rig_pass(r, 30 * RIG_S);
  assert_null(r->conn.b);
  NOTHING(r);
  rig_pass(r, 31 * RIG_S);
  assert_int_equal(COUNTER(r, keepalive_probes), 1);
  assert_int_equal(rig_unseen(r), 1);
}

/* CUBIC goes on towards its last maximum; BBR keeps its model for as long as its filters do. */
static void test_congestion(void **state) {
  struct rig *r = *state;
  r->env.cfg.cc = (uint8_t)tcp_cc_find("cubic");
  rig_passive(r, RIG_SACK | RIG_TS);
  r->conn.w_max = 100000;
  r->conn.w_prior = 90000;
  rig_pass(r, 20 * RIG_S);
  assert_null(r->conn.b);
  rig_write(r, 10);
  assert_int_equal(r->conn.w_max, 100000);
  assert_int_equal(r->conn.w_prior, 90000);
  assert_int_equal(r->conn.b->hystart.now, UINT32_MAX);
  rig_init(r);
  r->env.cfg.cc = (uint8_t)tcp_cc_find("bbr");
  rig_passive(r, RIG_SACK | RIG_TS);
  rig_pass(r, 9 * RIG_S);
  assert_non_null(r->conn.b);
  rig_pass(r, 20 * RIG_S);
  assert_null(r->conn.b);
}

int main(void) {
  const struct CMUnitTest tests[] = {RIG_TEST(test_goes_to_rest), RIG_TEST(test_wakes),     RIG_TEST(test_stays_busy),
                                     RIG_TEST(test_first_calls),  RIG_TEST(test_keepalive), RIG_TEST(test_congestion)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
