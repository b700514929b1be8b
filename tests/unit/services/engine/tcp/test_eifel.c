/*
 * Eifel detection (RFC 3522) where what is out had been sent again without a reduction: by a tail loss probe, or by the
 * successor of an engine that died. A timeout after that is undone by an ACK of an original alone, in either half of
 * the timestamp clock; else each further timeout would be taken back too, and one segment would leave per timeout.
 */
#include "tcp_rig.h"

static const uint32_t offsets[] = {0x10000000u, 0x90000000u};

static uint32_t at(const struct rig *r, uint32_t segs) {
  return 1 + segs * tcp_mss_payload(&r->conn);
}

static void ten_out(struct rig *r, uint32_t offset) {
  rig_init(r);
  r->wnd = 65535;
  rig_passive(r, RIG_SACK | RIG_TS);
  r->d.ts_offset = offset;
  rig_write(r, 10 * tcp_mss_payload(&r->conn));
  rig_skip(r);
}

/* The timeout runs out; the ACK of what it sends again echoes a time after it: nothing is undone, slow start goes on.
 */
static void timeout_is_true(struct rig *r) {
  rig_pass(r, r->conn.b->due[TCP_T_RTO] - r->now);
  rig_skip(r);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  rig_pass(r, RIG_MS);
  rig_in(r, TCP_ACK, 1, at(r, 1), 0);
  assert_int_equal(COUNTER(r, undo), 0);
  assert_int_equal(r->conn.recovery, TCP_LOSS);
  EXPECT(r, TCP_ACK, at(r, 1), 1, tcp_mss_payload(&r->conn));
}

static void test_after_adoption(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
    ten_out(r, offsets[i]);
    assert_int_equal(rig_adopt(r), 0);
    (void)tcp_output(&r->env, &r->conn, r->now);
    rig_skip(r);
    timeout_is_true(r);
  }
}

static void test_after_a_tail_probe(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
    ten_out(r, offsets[i]);
    rig_pass(r, r->conn.b->due[TCP_T_REO] - r->now);
    EXPECT(r, TCP_ACK, at(r, 9), 1, tcp_mss_payload(&r->conn));
    assert_int_equal(LAST(r)->rexmit, 1);
    timeout_is_true(r);
  }
}

/* What the successor sent again was needless: the ACK echoes a time before it began. */
static void test_original_after_adoption(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
    ten_out(r, offsets[i]);
    uint32_t ts = tcp_open_ts(&r->d, r->now);
    rig_pass(r, 5 * RIG_MS);
    assert_int_equal(rig_adopt(r), 0);
    (void)tcp_output(&r->env, &r->conn, r->now);
    rig_pass(r, r->conn.b->due[TCP_T_RTO] - r->now);
    rig_skip(r);
    struct tcp_seg_in s = {.segs = 1};
    s.hdr = (struct tcp_hdr){.seq = RIG_PEER + 1, .ack = r->d.iss + at(r, 3), .flags = TCP_ACK, .wnd = 65535};
    s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_TS, .ts_val = 100, .ts_ecr = ts};
    tcp_input(&r->env, &r->conn, &s, r->now);
    assert_int_equal(COUNTER(r, undo), 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_after_adoption),
      RIG_TEST(test_after_a_tail_probe),
      RIG_TEST(test_original_after_adoption),
  };
  return cmocka_run_group_tests_name("tcp_eifel", tests, NULL, NULL);
}
