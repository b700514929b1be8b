/*
 * ECN (RFC 3168 6.1): negotiation both ways with its fallbacks, the echo, the reduction, and which segments carry what.
 */
#include "tcp_rig.h"

#define ECT0 2u
#define CE   3u

static void syn_in(struct rig *r, unsigned flags) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER, .flags = (uint16_t)flags, .wnd = 65535};
  s.hdr.opts = (struct tcp_opts){.present = TCP_OPT_HAS_MSS | TCP_OPT_HAS_SACK_OK, .mss = RIG_MSS};
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
}

/* A segment of `len` bytes from the peer with these flags, marked or not. */
static void in(struct rig *r, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len, int ce) {
  static uint8_t data[RIG_BUF];
  for (uint32_t i = 0; i < len; i++)
    data[i] = (uint8_t)((seq - 1 + i) * 31 + ((seq - 1 + i) >> 8));
  struct tcp_piece pc = {data, len};
  struct tcp_seg_in s = {.segs = 1, .len = len, .pieces = &pc, .n_pieces = 1, .ce = (uint8_t)ce};
  s.hdr = (struct tcp_hdr){.seq = RIG_PEER + seq, .ack = r->d.iss + ack, .flags = (uint16_t)flags, .wnd = 65535};
  if (r->n_sack) {
    s.hdr.opts.present = TCP_OPT_HAS_SACK;
    s.hdr.opts.n_sack = (uint8_t)r->n_sack;
    for (uint32_t i = 0; i < r->n_sack; i++)
      s.hdr.opts.sack[i] = (struct tcp_sack){r->d.iss + r->sack[i].l, r->d.iss + r->sack[i].r};
    r->n_sack = 0;
  }
  tcp_input(&r->env, &r->conn, &s, r->now);
  if (!r->closed)
    (void)tcp_output(&r->env, &r->conn, r->now);
}

/* Established, ECN agreed on, quick ACKs over. */
static void open_ecn(struct rig *r) {
  r->wnd = 65535;
  syn_in(r, TCP_SYN | TCP_ECE | TCP_CWR);
  EXPECT(r, TCP_SYN | TCP_ACK | TCP_ECE, 0, 1, 0);
  assert_int_equal(LAST(r)->tos, 0); /* RFC 3168 6.1.1: no ECT on a SYN-ACK */
  in(r, TCP_ACK, 1, 1, 0, 0);
  NOTHING(r);
  assert_true(r->d.nego & ABI_TCB_ECN);
  r->conn.quickack = 0;
}

static void test_passive(void **state) {
  static const struct {
    uint8_t cfg;
    unsigned asks, answers;
  } row[] = {{TCP_ECN_OFF, TCP_ECE | TCP_CWR, 0},
             {TCP_ECN_PASSIVE, TCP_ECE | TCP_CWR, TCP_ECE},
             {TCP_ECN_ON, TCP_ECE | TCP_CWR, TCP_ECE},
             {TCP_ECN_ON, TCP_ECE, 0},
             {TCP_ECN_ON, TCP_CWR, 0},
             {TCP_ECN_ON, 0, 0}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    rig_init(r);
    r->env.cfg.ecn = row[i].cfg;
    syn_in(r, TCP_SYN | row[i].asks);
    EXPECT(r, TCP_SYN | TCP_ACK | row[i].answers, 0, 1, 0);
    assert_int_equal((r->d.nego & ABI_TCB_ECN) != 0, row[i].answers != 0);
  }
}

static void test_active(void **state) {
  static const struct {
    uint8_t cfg;
    unsigned answer;
    int agreed;
  } row[] = {{TCP_ECN_OFF, 0, 0},
             {TCP_ECN_PASSIVE, TCP_ECE, 0},
             {TCP_ECN_ON, TCP_ECE, 1},
             {TCP_ECN_ON, 0, 0},
             {TCP_ECN_ON, TCP_ECE | TCP_CWR, 0}}; /* it reflects what it does not know */
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    rig_init(r);
    r->env.cfg.ecn = row[i].cfg;
    assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
    EXPECT(r, TCP_SYN | (row[i].cfg == TCP_ECN_ON ? TCP_ECE | TCP_CWR : 0u), 0, 0, 0);
    rig_syn_in(r, TCP_SYN | TCP_ACK | row[i].answer, 1, RIG_SACK);
    EXPECT(r, TCP_ACK, 1, 1, 0);
    assert_int_equal((r->d.nego & ABI_TCB_ECN) != 0, row[i].agreed);
    assert_int_equal(COUNTER(r, ecn_agreed), (uint64_t)row[i].agreed);
  }
}

/* RFC 3168 6.1.1.1: what asks may be thrown away on the way; the second SYN does not ask. */
static void test_syn_fallback(void **state) {
  struct rig *r = *state;
  r->env.cfg.ecn = TCP_ECN_ON;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN | TCP_ECE | TCP_CWR, 0, 0, 0);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  rig_syn_in(r, TCP_SYN | TCP_ACK | TCP_ECE, 1, RIG_SACK); /* of the first, late: we asked no more */
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_false(r->d.nego & ABI_TCB_ECN);
  assert_int_equal(COUNTER(r, ecn_fallback), 1);
}

/* 6.1.3: from the first mark until CWR every ACK echoes. */
static void test_echo(void **state) {
  struct rig *r = *state;
  open_ecn(r);
  in(r, TCP_ACK, 1, 1, 100, 1);
  EXPECT(r, TCP_ACK | TCP_ECE, 1, 101, 0); /* at once */
  NOTHING(r);
  in(r, TCP_ACK, 101, 1, 1460, 0);
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK | TCP_ECE, 1, 1561, 0);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK | TCP_ECE, 1, 1561, 10); /* data too */
  assert_int_equal(LAST(r)->tos, ECT0);
  in(r, TCP_ACK | TCP_CWR, 1561, 11, 100, 0);
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK, 11, 1661, 0);
  in(r, TCP_ACK | TCP_CWR, 1661, 11, 100, 1); /* the peer's CWR is marked itself: the echo begins anew */
  EXPECT(r, TCP_ACK | TCP_ECE, 11, 1761, 0);
  assert_int_equal(COUNTER(r, ecn_ce_in), 2);
}

/* 6.1.2: one reduction per window of data, told by CWR on the next new segment. */
static void test_reduction(void **state) {
  struct rig *r = *state;
  open_ecn(r);
  rig_write(r, 20 * 1460);
  assert_int_equal(rig_unseen(r), 10);
  for (uint32_t i = 0; i < 10; i++)
    EXPECT(r, TCP_ACK, 1 + i * 1460, 1, 1460);
  assert_int_equal(LAST(r)->tos, ECT0);
  uint32_t cwnd = r->conn.cwnd;
  in(r, TCP_ACK | TCP_ECE, 1, 1461, 0, 0);
  assert_int_equal(COUNTER(r, ecn_cuts), 1);
  assert_true(r->conn.cwnd <= cwnd / 2 + 1460);
  uint32_t reduced = r->conn.cwnd;
  NOTHING(r); /* the window is full now */
  in(r, TCP_ACK | TCP_ECE, 1, 1 + 4 * 1460, 0, 0);
  assert_int_equal(COUNTER(r, ecn_cuts), 1); /* of the same window */
  assert_true(r->conn.cwnd >= reduced);
  in(r, TCP_ACK | TCP_ECE, 1, 1 + 7 * 1460, 0, 0);
  assert_true(rig_unseen(r) >= 1);
  EXPECT(r, TCP_ACK | TCP_CWR, 1 + 10 * 1460, 1, 1460);
  for (uint32_t left = rig_unseen(r); left > 0; left--) { /* once is enough */
    r->seen++;
    assert_false(LAST(r)->flags & TCP_CWR);
  }
  in(r, TCP_ACK | TCP_ECE, 1, r->conn.snd_nxt - r->d.iss, 0, 0);
  assert_int_equal(COUNTER(r, ecn_cuts), 2); /* the next window */
}

/* 6.1.4 to 6.1.6: no ECT on what was sent before, on pure ACKs and on probes; a loss is told by CWR too. */
static void test_retransmission(void **state) {
  struct rig *r = *state;
  open_ecn(r);
  rig_write(r, 12 * 1460);
  rig_skip(r);
  r->sack[r->n_sack++] = (struct tcp_sack){1461, 1 + 5 * 1460};
  in(r, TCP_ACK, 1, 1, 0, 0);
  EXPECT(r, TCP_ACK, 1, 1, 1460);
  assert_int_equal(LAST(r)->rexmit, 1);
  assert_int_equal(LAST(r)->tos, 0);
  rig_skip(r);
  in(r, TCP_ACK | TCP_ECE, 1, 1 + 10 * 1460, 0, 0); /* recovery has reduced already */
  assert_int_equal(COUNTER(r, ecn_cuts), 0);
  EXPECT(r, TCP_ACK | TCP_CWR, 1 + 10 * 1460, 1, 1460);
  assert_int_equal(LAST(r)->tos, ECT0);
  rig_skip(r);
  in(r, TCP_ACK, 1, 1 + 12 * 1460, 0, 0);
  in(r, TCP_ACK, 1, 1 + 12 * 1460, 10, 0);
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK, 1 + 12 * 1460, 11, 0);
  assert_int_equal(LAST(r)->tos, 0);
}

static void test_app_cannot_set_it(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.tos = 0xb8 | CE};
  rig_passive(r, RIG_SACK);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK, 1, 1, 10);
  assert_int_equal(LAST(r)->tos, 0xb8);
}

/* Without the agreement marks and echoes mean nothing. */
static void test_not_agreed(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->conn.quickack = 0;
  rig_write(r, 3 * 1460);
  rig_skip(r);
  uint32_t cwnd = r->conn.cwnd;
  in(r, TCP_ACK | TCP_ECE, 1, 1461, 100, 1);
  r->conn.b->due[TCP_T_REO] = 0; /* no tail loss probe */
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK, 1 + 3 * 1460, 101, 0);
  assert_true(r->conn.cwnd >= cwnd);
  assert_int_equal(COUNTER(r, ecn_cuts) + COUNTER(r, ecn_ce_in), 0);
}

/* The agreement is durable. */
static void test_adopted(void **state) {
  struct rig *r = *state;
  open_ecn(r);
  assert_int_equal(rig_adopt(r), 0);
  rig_write(r, 10);
  EXPECT(r, TCP_ACK, 1, 1, 10);
  assert_int_equal(LAST(r)->tos, ECT0);
}

int main(void) {
  const struct CMUnitTest tests[] = {RIG_TEST(test_passive),
                                     RIG_TEST(test_active),
                                     RIG_TEST(test_syn_fallback),
                                     RIG_TEST(test_echo),
                                     RIG_TEST(test_reduction),
                                     RIG_TEST(test_retransmission),
                                     RIG_TEST(test_app_cannot_set_it),
                                     RIG_TEST(test_not_agreed),
                                     RIG_TEST(test_adopted)};
  return cmocka_run_group_tests_name("tcp_ecn", tests, NULL, NULL);
}
