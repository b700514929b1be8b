/*
 * Adoption: every state, every prefix of the transitions that take several stores, records that contradict themselves.
 * The room's parts that need no connection are here too: the state table, window scales, ranges.
 */
#include "tcp_rig.h"

static const uint32_t synced[] = {ABI_TCP_ESTABLISHED, ABI_TCP_FIN_WAIT_1, ABI_TCP_FIN_WAIT_2, ABI_TCP_CLOSE_WAIT,
                                  ABI_TCP_CLOSING,     ABI_TCP_LAST_ACK,   ABI_TCP_TIME_WAIT};

static void test_every_state_sends_one_ack(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(synced); i++) {
    rig_init(r);
    rig_to(r, synced[i]);
    uint32_t una = r->conn.snd_una - r->d.iss, nxt = r->conn.rcv_nxt - RIG_PEER, max = r->d.snd_max - r->d.iss;
    assert_int_equal(rig_adopt(r), 0);
    STATE(r, synced[i]);
    assert_int_equal(r->conn.snd_una - r->d.iss, una);
    assert_int_equal(r->conn.rcv_nxt - RIG_PEER, nxt);
    assert_int_equal(COUNTER(r, adopted), 1);
    (void)tcp_output(&r->env, &r->conn, r->now);
    if (max != una) { /* our FIN, again, takes the ACK along */
      EXPECT(r, TCP_FIN | TCP_ACK, max - 1, nxt, 0);
    } else {
      EXPECT(r, TCP_ACK, max, nxt, 0);
    }
    NOTHING(r);
  }
}

static void test_data_out_is_sent_again(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK | RIG_TS);
  rig_write(r, 3000);
  rig_in(r, TCP_ACK, 1, 1449, 0);
  uint32_t offset = r->d.ts_offset;
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1449, 1, 1448);
  assert_int_equal(LAST(r)->off, 0);
  assert_int_equal(LAST(r)->rexmit, 1);
  assert_int_equal(LAST(r)->opts.ts_val, (uint32_t)(r->now / 1000) + offset); /* the clock goes on */
  EXPECT(r, TCP_ACK, 2897, 1, 104);
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 3001, 0);
  assert_int_equal(r->tx_head, 3000);
  assert_int_equal(r->conn.recovery, TCP_OPEN);
}

static void test_syn_sent(void **state) {
  struct rig *r = *state;
  (void)tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  NOTHING(r);
}

static void test_syn_received(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  rig_in(r, TCP_ACK, 1, 1, 0); /* the client believed itself connected all the time */
  STATE(r, ABI_TCP_ESTABLISHED);
}

static void test_parked(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  r->offers = 0;
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  rig_in(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  NOTHING(r);
  rig_pass(r, 60 * RIG_S);
  NOTHING(r);
  r->offers = 1;
  tcp_accept_ready(&r->env, &r->conn, r->now);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 1, 0);
}

static void test_offered_before_state(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  r->d.accept = ABI_ACCEPT_OFFERED; /* tcp_open_complete was cut off before the state */
  r->d.worker_id = 5;
  assert_int_equal(rig_adopt(r), 0);
  STATE(r, ABI_TCP_ESTABLISHED);
}

static void test_offered_without_record(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1, .hdr = {.seq = RIG_PEER, .flags = TCP_SYN, .wnd = 100}};
  (void)tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now);
  r->d.accept = ABI_ACCEPT_OFFERED; /* but the session layer says that its record was not finished */
  r->d.worker_id = 0;
  assert_int_equal(rig_adopt(r), 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.accept, ABI_ACCEPT_PARKED);
  tcp_accept_ready(&r->env, &r->conn, r->now);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  NOTHING(r);
}

static void test_bits_ahead_of_state(void **state) {
  struct rig *r = *state;
  static const struct {
    uint32_t at;
    uint8_t bits;
    uint32_t becomes;
  } t[] = {
      {ABI_TCP_ESTABLISHED, ABI_TCB_FIN_RCVD, ABI_TCP_CLOSE_WAIT},
      {ABI_TCP_FIN_WAIT_1, ABI_TCB_FIN_RCVD, ABI_TCP_CLOSING},
      {ABI_TCP_FIN_WAIT_2, ABI_TCB_FIN_RCVD, ABI_TCP_TIME_WAIT},
      {ABI_TCP_FIN_WAIT_1, ABI_TCB_FIN_ACKED, ABI_TCP_FIN_WAIT_2},
      {ABI_TCP_CLOSING, ABI_TCB_FIN_ACKED, ABI_TCP_TIME_WAIT},
      {ABI_TCP_ESTABLISHED, ABI_TCB_ORPHAN, ABI_TCP_FIN_WAIT_1},
      {ABI_TCP_CLOSE_WAIT, ABI_TCB_ORPHAN, ABI_TCP_LAST_ACK},
  };
  for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
    rig_init(r);
    rig_to(r, t[i].at);
    r->d.fin |= t[i].bits;
    assert_int_equal(rig_adopt(r), 0);
    STATE(r, t[i].becomes);
    NOTHING(r);
  }
}

static void test_last_ack_that_had_ended(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_LAST_ACK);
  r->d.fin |= ABI_TCB_FIN_ACKED;
  assert_int_equal(rig_adopt(r), -EPROTO); /* nothing is left to resume */
  STATE(r, ABI_TCP_CLOSED);
  assert_int_equal(COUNTER(r, adopt_refused), 0);
}

static void test_fin_numbered_not_marked(void **state) {
  struct rig *r = *state;
  rig_passive(r, 0);
  rig_write(r, 10);
  rig_skip(r);
  r->d.state = ABI_TCP_FIN_WAIT_1;
  r->d.snd_max++; /* output_number_fin was cut off before the bit */
  assert_int_equal(rig_adopt(r), 0);
  assert_int_equal(r->d.snd_max - r->d.iss, 11);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 10);
  NOTHING(r);
}

static void test_ranges_are_kept_or_trimmed(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  rig_in(r, TCP_ACK, 101, 1, 100);
  rig_in(r, TCP_ACK, 301, 1, 100);
  rig_in(r, TCP_ACK, 1, 1, 10);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 2);
  r->rx_tail += 190; /* published through the first range, which was not cleared yet */
  for (uint32_t k = 0; k < 190; k++)
    r->rx[(10 + k) % RIG_BUF] = 0;
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 201, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1);
  assert_int_equal(LAST(r)->opts.sack[0].l - RIG_PEER, 301);
  NOTHING(r);
}

static void test_merge_cut_off(void **state) {
  struct rig *r = *state;
  rig_passive(r, RIG_SACK);
  r->d.ooo[0] = (struct abi_seq_range){RIG_PEER + 101, RIG_PEER + 301};
  r->d.ooo[3] = (struct abi_seq_range){RIG_PEER + 201, RIG_PEER + 301};
  assert_int_equal(rig_adopt(r), 0);
  NOTHING(r);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1);
}

static void test_time_wait_goes_on(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_TIME_WAIT);
  rig_pass(r, 50 * RIG_S);
  assert_int_equal(rig_adopt(r), 0);
  rig_pass(r, 9 * RIG_S);
  assert_false(r->closed);
  rig_pass(r, 2 * RIG_S);
  assert_true(r->closed);
}

static void test_user_timeout_goes_on(void **state) {
  struct rig *r = *state;
  struct abi_options o = {.user_timeout_ms = 5000};
  rig_passive(r, 0);
  tcp_options(&r->env, &r->conn, &o, r->now);
  rig_write(r, 10);
  rig_pass(r, 2 * RIG_S);
  assert_int_equal(rig_adopt(r), 0);
  rig_pass(r, 2900 * RIG_MS);
  assert_false(r->closed);
  rig_pass(r, 200 * RIG_MS);
  assert_true(r->closed);
}

static void test_refused(void **state) {
  struct rig *r = *state;
  for (int i = 0; i < 9; i++) {
    rig_init(r);
    rig_to(r, ABI_TCP_ESTABLISHED);
    switch (i) {
    case 0:
      r->d.state = 0;
      break;
    case 1:
      r->d.state = 99;
      break;
    case 2:
      r->d.state = ABI_TCP_LISTEN;
      break;
    case 3:
      r->d.fin = ABI_TCB_FIN_ACKED;
      break;
    case 4:
      r->d.state = ABI_TCP_CLOSE_WAIT;
      break;
    case 5:
      r->d.snd_wscale = 15;
      break;
    case 6:
      r->tx_head = r->tx_tail = 5; /* acknowledged what was never sent */
      break;
    case 7:
      r->rx_tail = r->rx_head = 100000; /* received what was never promised */
      break;
    default:
      r->d.life = ABI_TCB_FREE;
      break;
    }
    assert_int_equal(rig_adopt(r), -EPROTO);
    assert_int_equal(COUNTER(r, adopt_refused), 1);
  }
}

static void test_state_table(void **state) {
  (void)state;
  int edges = 0;
  for (uint32_t s = 0; s < 16; s++)
    for (int ev = 0; ev < TCP_FSM_N; ev++) {
      uint32_t next = tcp_state_next(s, (enum tcp_fsm_event)ev);
      edges += next != 0;
      if (next == 0)
        continue;
      assert_in_range(next, ABI_TCP_ESTABLISHED, ABI_TCP_CLOSING);
      assert_true(strcmp(tcp_state_name(next), "?") != 0);
      if (ev == TCP_FSM_ABORT)
        assert_int_equal(next, ABI_TCP_CLOSED);
    }
  assert_int_equal(edges, 27);
  assert_string_equal(tcp_state_name(12), "?");
  assert_int_equal(tcp_state_next(ABI_TCP_TIME_WAIT, TCP_FSM_FIN), 0);
}

static void test_window_scale(void **state) {
  (void)state;
  assert_int_equal(tcp_wnd_scale_for(0), 0);
  assert_int_equal(tcp_wnd_scale_for(65535), 0);
  assert_int_equal(tcp_wnd_scale_for(65536), 1);
  assert_int_equal(tcp_wnd_scale_for(1u << 20), 5);
  assert_int_equal(tcp_wnd_scale_for(UINT32_MAX), 14);
}

/* Ranges against a bitmap: every add and every trim, over the wrap. */
static void test_ranges_against_a_bitmap(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = &r->conn;
  uint32_t x = 12345;
  rig_passive(r, RIG_SACK);
  c->rcv_nxt = r->d.rcv_adv = 0xffffff00u;
  r->d.rcv_adv += 1024;
  uint8_t have[1024] = {0};
  for (int i = 0; i < 20000; i++) {
    x = x * 1664525u + 1013904223u;
    uint32_t l = (x >> 8) % 1000 + 1, n = (x >> 20) % 60 + 1;
    n = HS_MIN(n, 1024 - l);
    if (tcp_ooo_add(&r->env, c, c->rcv_nxt + l, c->rcv_nxt + l + n) == 0)
      memset(have + l, 1, n);
    assert_int_equal(tcp_ooo_check(c), 0);
    for (uint32_t k = 1; k < 1024; k++)
      assert_int_equal(tcp_ooo_covers(c, c->rcv_nxt + k, c->rcv_nxt + k + 1), have[k]);
    if (i % 50 == 49) {
      tcp_ooo_clear(&r->env, c);
      memset(have, 0, sizeof have);
    }
  }
}

static void test_figures(void **state) {
  struct rig *r = *state;
  struct abi_tcp_figures f;
  rig_passive(r, RIG_TS);
  rig_write(r, 100);
  tcp_figures(&r->env, &r->conn, &f);
  assert_int_equal(f.tcp_state, ABI_TCP_ESTABLISHED);
  assert_int_equal(f.snd_mss, 1448);
  assert_int_equal(f.in_flight, 100);
  assert_int_equal(f.cwnd, 14480);
  assert_int_equal(f.pmtu, 1500);
  assert_int_equal(f.rcv_wnd, 65535);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_every_state_sends_one_ack),
      RIG_TEST(test_data_out_is_sent_again),
      RIG_TEST(test_syn_sent),
      RIG_TEST(test_syn_received),
      RIG_TEST(test_parked),
      RIG_TEST(test_offered_before_state),
      RIG_TEST(test_offered_without_record),
      RIG_TEST(test_bits_ahead_of_state),
      RIG_TEST(test_last_ack_that_had_ended),
      RIG_TEST(test_fin_numbered_not_marked),
      RIG_TEST(test_ranges_are_kept_or_trimmed),
      RIG_TEST(test_merge_cut_off),
      RIG_TEST(test_time_wait_goes_on),
      RIG_TEST(test_user_timeout_goes_on),
      RIG_TEST(test_refused),
      RIG_TEST(test_state_table),
      RIG_TEST(test_window_scale),
      RIG_TEST(test_ranges_against_a_bitmap),
      RIG_TEST(test_figures),
  };
  return cmocka_run_group_tests_name("tcp_adopt", tests, NULL, NULL);
}
