/*
 * TIME_WAIT from a record: every class of segment that may come, RFC 9293 3.10.7.4 with RFC 1337, 5961, 6191, 7323.
 */
#include "tcp_rig.h"

#include "tcp_tw.h"

struct tw {
  struct abi_tw t;
  struct tcp_seg_out out;
};

static void make(struct rig *r, struct tw *w) {
  rig_to(r, ABI_TCP_TIME_WAIT);
  memset(w, 0, sizeof *w);
  tcp_tw_make(&r->env, &r->conn, &w->t);
}

static enum tcp_tw_does in(struct rig *r, struct tw *w, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len) {
  static uint8_t data[64];
  struct tcp_piece pc = {data, len};
  struct tcp_seg_in s = {.segs = 1, .len = len, .pieces = &pc, .n_pieces = 1};
  s.hdr.seq = RIG_PEER + seq;
  s.hdr.ack = flags & TCP_ACK ? r->d.iss + ack : 0;
  s.hdr.flags = (uint16_t)flags;
  s.hdr.wnd = 1000;
  if (r->ts_val) {
    s.hdr.opts.present = TCP_OPT_HAS_TS;
    s.hdr.opts.ts_val = r->ts_val;
  }
  memset(&w->out, 0xff, sizeof w->out);
  enum tcp_tw_does did = tcp_tw_input(&r->env, &w->t, &s, &w->out, r->now);
  if (did == TCP_TW_ACK || did == TCP_TW_AGAIN) {
    assert_int_equal(w->out.flags, TCP_ACK);
    assert_int_equal(w->out.seq, r->d.iss + 2);
    assert_int_equal(w->out.ack - RIG_PEER, 2);
    assert_int_equal(w->out.len, 0);
  }
  return did;
}

/* rig_to: our FIN is 1, the peer's is 1. */
static void test_plain(void **state) {
  struct rig *r = *state;
  struct tw w;
  make(r, &w);
  assert_int_equal(in(r, &w, TCP_ACK, 2, 2, 0), TCP_TW_NOTHING);
  usec_t end = w.t.end;
  r->now += 10 * RIG_S;
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 1, 2, 0), TCP_TW_AGAIN); /* eighth: 2 MSL anew */
  assert_int_equal(w.t.end, end + 10 * RIG_S);
  assert_int_equal(in(r, &w, TCP_RST, 2, 0, 0), TCP_TW_NOTHING); /* RFC 1337 */
  assert_int_equal(in(r, &w, TCP_RST | TCP_ACK, 2, 2, 0), TCP_TW_NOTHING);
  assert_int_equal(COUNTER(r, rst_ignored), 2);
}

static void test_unacceptable(void **state) {
  struct rig *r = *state;
  struct tw w;
  make(r, &w);
  assert_int_equal(in(r, &w, TCP_ACK, 1, 2, 0), TCP_TW_ACK);             /* old: a keep-alive */
  assert_int_equal(in(r, &w, TCP_ACK, 2 + 65536 * 2, 2, 0), TCP_TW_ACK); /* beyond the window */
  assert_int_equal(in(r, &w, TCP_ACK, 2, 3, 0), TCP_TW_ACK);             /* acknowledges what was never sent */
  assert_int_equal(in(r, &w, TCP_ACK, 2, 2, 10), TCP_TW_ACK);            /* data behind its FIN */
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 5, 2, 0), TCP_TW_ACK);   /* another FIN */
  assert_int_equal(in(r, &w, 0, 2, 0, 0), TCP_TW_NOTHING);               /* no ACK */
  assert_int_equal(in(r, &w, TCP_SYN | TCP_ACK, 100, 2, 0), TCP_TW_ACK); /* RFC 5961 4.2 */
  r->env.challenge_left = 0;
  assert_int_equal(in(r, &w, TCP_ACK, 1, 2, 0), TCP_TW_NOTHING); /* at a rate */
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 1, 2, 0), TCP_TW_AGAIN);
}

static void test_syn(void **state) {
  struct rig *r = *state;
  struct tw w;
  make(r, &w);
  assert_int_equal(in(r, &w, TCP_SYN, 2, 0, 0), TCP_TW_ACK); /* not above rcv_nxt */
  assert_int_equal(in(r, &w, TCP_SYN, 3, 0, 0), TCP_TW_REUSE);
  assert_true(seq_gt(tcp_tw_isn_floor(&w.t), w.t.snd_nxt + 65535));
}

/* The VRF stays with the record, and the timestamp's offset is that VRF's. */
static void test_vrf(void **state) {
  struct rig *r = *state;
  for (uint32_t vrf = 0; vrf < 16; vrf += 5) {
    struct abi_tw t;
    memset(&t, 0, sizeof t);
    r->d.vrf = vrf;
    r->d.nego = ABI_TCB_TS | ABI_TCB_SACK;
    r->conn.d = &r->d;
    tcp_tw_make(&r->env, &r->conn, &t);
    assert_int_equal(abi_tw_vrf(&t), vrf);
    assert_int_equal(t.nego & (ABI_TCB_TS | ABI_TCB_SACK), ABI_TCB_TS);
  }
}

static void test_timestamps(void **state) {
  struct rig *r = *state;
  struct tw w;
  rig_passive(r, RIG_TS);
  rig_shutdown(r);
  rig_in(r, TCP_ACK, 1, 2, 0);
  rig_in(r, TCP_FIN | TCP_ACK, 1, 2, 0);
  rig_skip(r);
  STATE(r, ABI_TCP_TIME_WAIT);
  memset(&w, 0, sizeof w);
  tcp_tw_make(&r->env, &r->conn, &w.t);
  r->ts_val = 99; /* RFC 7323 5.3 R1 */
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 1, 2, 0), TCP_TW_ACK);
  assert_int_equal(COUNTER(r, paws), 1);
  r->ts_val = 0; /* RFC 7323 3.2 */
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 1, 2, 0), TCP_TW_NOTHING);
  r->ts_val = 100;
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 1, 2, 0), TCP_TW_AGAIN);
  assert_int_equal(w.out.opts.present, TCP_OPT_HAS_TS);
  assert_int_equal(w.out.opts.ts_ecr, 100);
  assert_int_equal(w.out.opts.ts_val, tcp_open_ts(&r->d, r->now)); /* the offset is found again */
  assert_int_equal(in(r, &w, TCP_SYN, 1, 0, 0), TCP_TW_ACK);       /* same timestamp, not a greater number */
  assert_int_equal(in(r, &w, TCP_SYN, 3, 0, 0), TCP_TW_REUSE);     /* RFC 6191 */
  r->ts_val = 101;
  assert_int_equal(in(r, &w, TCP_SYN, 0x80000000u, 0, 0), TCP_TW_REUSE);
  r->ts_val = 102;
  assert_int_equal(in(r, &w, TCP_ACK, 2, 2, 0), TCP_TW_NOTHING);
  assert_int_equal(w.t.ts_recent, 102);
}

static void test_may_connect(void **state) {
  struct rig *r = *state;
  struct tw w;
  make(r, &w);
  r->now += 5 * RIG_S;
  assert_false(tcp_tw_may_connect(&r->env, &w.t, r->now)); /* without timestamps never */
  w.t.nego = ABI_TCB_TS;
  assert_true(tcp_tw_may_connect(&r->env, &w.t, r->now));
  assert_false(tcp_tw_may_connect(&r->env, &w.t, r->now - 5 * RIG_S + 999999));
  r->env.cfg.timestamps = 0;
  assert_false(tcp_tw_may_connect(&r->env, &w.t, r->now));
}

static void test_isn_above_floor(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  seq32_t plain = r->d.iss;
  memset(&r->d.life, 0, sizeof r->d.life);
  r->d.iss = plain + 1000;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  assert_int_equal(r->d.iss, plain + 1000);
  r->d.iss = plain - 1000;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  assert_int_equal(r->d.iss, plain);
}

static void test_path_back(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  NOTHING(r);
  tcp_path_back(&r->env, &r->conn);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  NOTHING(r);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  tcp_path_back(&r->env, &r->conn); /* nothing to repeat */
  (void)tcp_output(&r->env, &r->conn, r->now);
  NOTHING(r);
}

static void test_syn_without_frame(void **state) {
  struct rig *r = *state;
  r->send_rc = -ENOBUFS;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), -ENOBUFS);
  assert_int_equal(tcp_output(&r->env, &r->conn, r->now), 1); /* asks to be called again */
  r->send_rc = 0;
  assert_int_equal(tcp_output(&r->env, &r->conn, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  NOTHING(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_plain),
      RIG_TEST(test_unacceptable),
      RIG_TEST(test_syn),
      RIG_TEST(test_vrf),
      RIG_TEST(test_timestamps),
      RIG_TEST(test_may_connect),
      RIG_TEST(test_isn_above_floor),
      RIG_TEST(test_path_back),
      RIG_TEST(test_syn_without_frame),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
