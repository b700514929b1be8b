/*
 * Margins: what one byte, one microsecond or one segment more or less changes, and what each end of a range does. The
 * stories are told by the other tests of this room; here stand the numbers that they pass over.
 */
#include "tcp_rig.h"

#define SMALL 1u /* a segment of one byte */

static void start(struct rig *r, unsigned opts) {
  rig_passive(r, opts);
  r->d.opt.flags |= ABI_OPT_NODELAY;
  (void)rig_events(r);
}

/* Each byte is a segment of its own. */
static void write_ones(struct rig *r, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    rig_write(r, SMALL);
  rig_skip(r);
}

static void sack(struct rig *r, uint32_t l, uint32_t end) {
  r->sack[r->n_sack++] = (struct tcp_sack){l, end};
}

/* --- output --- */

static void test_small_segment(void **state) {
  struct rig *r = *state;
  start(r, 0);
  uint64_t acks = COUNTER(r, acks_out);
  r->now += 7 * RIG_MS;
  rig_write(r, 1);
  EXPECT(r, TCP_ACK, 1, 1, 1);
  assert_true(LAST(r)->flags & TCP_PSH);
  assert_int_equal(COUNTER(r, acks_out), acks); /* it is data */
  assert_int_equal(r->conn.last_tx, r->now);
}

static void test_fin_is_no_data(void **state) {
  struct rig *r = *state;
  r->env.cfg.ecn = TCP_ECN_PASSIVE;
  start(r, 0);
  r->d.nego |= ABI_TCB_ECN;
  usec_t last = r->conn.last_tx;
  r->now += 7 * RIG_MS;
  rig_shutdown(r);
  EXPECT(r, TCP_FIN | TCP_ACK, 1, 1, 0);
  assert_false(LAST(r)->flags & TCP_PSH);
  assert_int_equal(LAST(r)->tos & 3, 0); /* RFC 3168 6.1.4: not ECT */
  assert_int_equal(r->conn.last_tx, last);
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_WRITABLE), 0); /* no byte has left the fifo */
}

static void test_one_byte_is_ect(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->d.nego |= ABI_TCB_ECN;
  rig_write(r, 1);
  EXPECT(r, TCP_ACK, 1, 1, 1);
  assert_int_equal(LAST(r)->tos & 3, 2); /* ECT(0) */
}

static void test_tos_of_a_syn(void **state) {
  struct rig *r = *state;
  r->d.opt.tos = 0x1f; /* an app may not set the low two, RFC 3168 */
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_int_equal(LAST(r)->tos, 0x1c);
}

static void test_acked_byte_is_room(void **state) {
  struct rig *r = *state;
  start(r, 0);
  rig_write(r, 1);
  rig_in(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(r->tx_head, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_WRITABLE), EV(TCP_EV_WRITABLE));
  assert_int_equal(r->conn.b->stuck_at, 0);
  assert_int_equal(r->conn.b->due[TCP_T_RTO], 0);
}

/* Room for one segment more where a third of the window would be more: it waits, but not with two segments out, whose
 * ACK the peer might delay. */
static void test_defer(void **state) {
  struct rig *r = *state;
  for (uint32_t out = 2; out <= 3; out++) {
    rig_init(r);
    start(r, RIG_WS);
    rig_in(r, TCP_ACK, 1, 1, 0);
    r->gso = 10 * RIG_MSS;
    r->conn.cwnd = out * RIG_MSS;
    rig_write(r, 60 * RIG_MSS);
    rig_skip(r);
    assert_int_equal(tcp_flight(&r->conn), out * RIG_MSS);
    r->conn.cwnd = 20 * RIG_MSS;
    r->d.snd_wnd = (out + 1) * RIG_MSS;
    (void)tcp_output(&r->env, &r->conn, r->now);
    if (out == 2)
      EXPECT(r, TCP_ACK, 1 + 2 * RIG_MSS, 1, RIG_MSS);
    NOTHING(r);
  }
}

/* A cork lets what fills a segment go, and a window of one segment is no reason to wait. */
static void test_cork_of_one_segment(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->d.opt.flags = ABI_OPT_CORK;
  r->wnd = RIG_MSS;
  rig_in(r, TCP_ACK, 1, 1, 0);
  r->d.snd_wnd = RIG_MSS;
  rig_write(r, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], r->now + 200 * RIG_MS);
  rig_init(r);
  start(r, 0);
  r->d.opt.flags = ABI_OPT_CORK;
  r->d.snd_wnd = RIG_MSS - 1; /* less than a segment: the persist timer's own time */
  r->conn.rto = 777 * RIG_MS;
  rig_write(r, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], r->now + 777 * RIG_MS);
}

/* --- loss --- */

static void test_counts_of_loss(void **state) {
  struct rig *r = *state;
  start(r, 0);
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

static void test_handshake_counts(void **state) {
  struct rig *r = *state;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_pass(r, RIG_S);
  assert_int_equal(r->conn.retrans_total, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0);
  rig_pass(r, 2 * RIG_S);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0);
  rig_pass(r, 4 * RIG_S); /* the third in a row: the neighbour is doubted */
  assert_int_equal(r->conn.retrans_total, 3);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), EV(TCP_EV_ROUTE_BAD));
  rig_pass(r, 8 * RIG_S);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ROUTE_BAD), 0); /* once */
}

static void test_route_doubted(void **state) {
  struct rig *r = *state;
  start(r, 0);
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
  start(r, RIG_SACK);
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
    start(r, RIG_SACK);
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
  start(r, RIG_SACK);
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
  start(r, 0);
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
  start(r, 0);
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

/* --- RACK and the list of what is out, to the entry --- */

static void entries(struct rig *r, const struct tcp_sent *s, uint32_t n) {
  memcpy(tcp_sent_list(&r->conn), s, n * sizeof *s);
  r->conn.n_sent = (uint8_t)n;
}

static void test_list_remove(void **state) {
  struct rig *r = *state;
  struct tcp_sent s[4];
  start(r, RIG_SACK);
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
  start(r, RIG_SACK);
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
    start(r, RIG_SACK);
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

/* What RACK remembers is the newest: later by a µs, or as late and further. */
static void test_rack_newest(void **state) {
  struct rig *r = *state;
  start(r, RIG_SACK);
  struct tcp_sent s = {.l = 100, .r = 200};
  uint32_t t = (uint32_t)r->now;
  tcp_rack_sent(&r->conn, &s, t - 1, 200, 0, r->now);
  assert_int_equal(r->conn.b->rack_rtt, 1);
  tcp_rack_sent(&r->conn, &s, t - 1, 199, 0, r->now);
  assert_int_equal(r->conn.b->rack_end, 200);
  tcp_rack_sent(&r->conn, &s, t - 1, 201, 0, r->now);
  assert_int_equal(r->conn.b->rack_end, 201);
  tcp_rack_sent(&r->conn, &s, t - 2, 300, 0, r->now);
  assert_int_equal(r->conn.b->rack_end, 201);
  tcp_rack_sent(&r->conn, &s, t, 150, 0, r->now);
  assert_int_equal(r->conn.b->rack_end, 150);
  assert_int_equal(r->conn.b->rack_rtt, 0);
  tcp_rack_sent(&r->conn, &s, t + 5, 160, 0, r->now); /* entries may be a µs ahead of the clock */
  assert_int_equal(r->conn.b->rack_rtt, 0);
}

/* A grown window stays for sixteen recoveries; without one there is nothing to forget. */
static void test_rack_forgets(void **state) {
  struct rig *r = *state;
  start(r, RIG_SACK);
  r->conn.reo_keep = 0;
  r->conn.reo_mult = 3;
  tcp_rack_recovery(&r->conn);
  assert_int_equal(r->conn.reo_keep, 0);
  assert_int_equal(r->conn.reo_mult, 3);
  tcp_rack_dsack(&r->conn);
  assert_int_equal(r->conn.reo_mult, 4);
  for (int i = 0; i < 15; i++)
    tcp_rack_recovery(&r->conn);
  assert_int_equal(r->conn.reo_mult, 4);
  tcp_rack_recovery(&r->conn);
  assert_int_equal(r->conn.reo_mult, 1);
}

/* A sample's round trip is that of what left last, to the µs. */
static void test_sample_of_one(void **state) {
  struct rig *r = *state;
  start(r, RIG_SACK);
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

/* --- timers and the ends of a connection --- */

static void test_window_reopens(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->wnd = 0;
  rig_in(r, TCP_ACK, 1, 1, 0);
  rig_write(r, 100);
  NOTHING(r);
  rig_pass(r, 20 * RIG_S);
  rig_skip(r);
  assert_true(r->conn.persists > 1);
  assert_true(r->conn.probes > 1);
  r->wnd = 1000;
  rig_in(r, TCP_ACK, 1, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 100);
  assert_int_equal(r->conn.persists, 0);
  assert_int_equal(r->conn.probes, 0);
  assert_int_equal(r->conn.b->due[TCP_T_PERSIST], 0);
}

/* A window of one byte is small but open: no probe, the byte. */
static void test_window_of_one(void **state) {
  struct rig *r = *state;
  start(r, 0);
  rig_write(r, 1);
  r->wnd = 1;
  rig_in(r, TCP_ACK, 1, 2, 0);
  rig_skip(r);
  rig_write(r, 100);
  NOTHING(r);
  rig_pass(r, r->conn.b->due[TCP_T_PERSIST] - r->now);
  EXPECT(r, TCP_ACK, 2, 1, 1);
  assert_int_equal(r->conn.persists, 0);
  assert_int_equal(COUNTER(r, zero_window_probes), 0);
}

/* The delayed ACK's timer: no conversation any more. */
static void test_delack_ends_pingpong(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->conn.pingpong = 1;
  r->conn.quickack = 0;
  rig_in(r, TCP_ACK, 1, 1, 10);
  NOTHING(r);
  assert_int_equal(r->conn.b->due[TCP_T_DELACK], r->now + 40 * RIG_MS);
  rig_pass(r, 40 * RIG_MS);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  assert_int_equal(r->conn.pingpong, 0);
}

/* Ends that nobody is told of: no error, no event. */
static void test_silent_ends(void **state) {
  static const uint32_t from[] = {ABI_TCP_CLOSING, ABI_TCP_LAST_ACK};
  struct rig *r = *state;
  for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
    rig_init(r);
    rig_to(r, from[i]);
    rig_in(r, TCP_RST, 2, 0, 0);
    assert_int_equal(r->closed, 1);
    assert_int_equal(r->d.error, 0);
    assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  }
  rig_init(r);
  rig_passive(r, 0);
  rig_write(r, 10);
  tcp_close(&r->env, &r->conn, 1, r->now); /* unread data: RST, and the app is gone */
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  rig_init(r);
  rig_passive(r, 0);
  rig_close(r);
  rig_skip(r);
  rig_in(r, TCP_ACK, 1, 2, 1); /* a byte for an orphan */
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  rig_init(r);
  rig_passive(r, 0);
  tcp_abort(&r->env, &r->conn, 1, r->now); /* EPERM, the least errno */
  assert_int_equal(r->d.error, 1);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), EV(TCP_EV_ERROR));
}

/* SYN_RECEIVED, passive: a SYN in the window leads back to LISTEN, in silence. */
static void test_back_to_listen(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = RIG_WND;
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  rig_skip(r);
  rig_in(r, TCP_SYN, 10, 0, 0);
  assert_int_equal(r->closed, 1);
  assert_int_equal(r->d.error, 0);
  assert_int_equal(rig_events(r) & EV(TCP_EV_ERROR), 0);
  assert_int_equal(rig_unseen(r), 0);
}

/* An unacceptable segment without data is answered once in 50 ms, the first at once. */
static void test_answers_in_time(void **state) {
  struct rig *r = *state;
  start(r, 0);
  rig_in(r, TCP_ACK, 0, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
  r->now += 49999;
  rig_in(r, TCP_ACK, 0, 1, 0);
  NOTHING(r);
  r->now += 1;
  rig_in(r, TCP_ACK, 0, 1, 0);
  EXPECT(r, TCP_ACK, 1, 1, 0);
}

/* A duplicate of one byte is one, and is counted. */
static void test_duplicate_of_one(void **state) {
  struct rig *r = *state;
  start(r, RIG_SACK);
  rig_in(r, TCP_ACK, 1, 1, 1);
  rig_skip(r);
  uint64_t dups = COUNTER(r, dup_in);
  rig_in(r, TCP_ACK, 1, 1, 1);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(LAST(r)->opts.n_sack, 1);
  assert_int_equal(COUNTER(r, dup_in), dups + 1);
  rig_in(r, TCP_ACK, 3, 1, 1); /* beyond a hole */
  EXPECT(r, TCP_ACK, 1, 2, 0);
  rig_in(r, TCP_ACK, 3, 1, 1);
  EXPECT(r, TCP_ACK, 1, 2, 0);
  assert_int_equal(COUNTER(r, dup_in), dups + 2);
  assert_int_equal(LAST(r)->opts.n_sack, 2);
}

/* --- the beginning --- */

static void test_nothing_offered(void **state) {
  struct rig *r = *state;
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  r->env.cfg.ecn = TCP_ECN_OFF;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  assert_int_equal(r->d.nego, 0);
  rig_init(r);
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  r->env.cfg.ecn = TCP_ECN_OFF;
  rig_passive(r, RIG_SACK | RIG_TS | RIG_WS);
  assert_int_equal(r->d.nego, ABI_TCB_PASSIVE);
}

static void test_control_chosen(void **state) {
  struct rig *r = *state;
  for (uint32_t i = 0; i <= tcp_cc_count + 1; i++) {
    rig_init(r);
    r->env.cfg.cc = (uint8_t)tcp_cc_find("bbr");
    r->d.opt.cc = (uint8_t)i; /* 1 + its place in the list; 0, and what there is not: the configured one */
    assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
    assert_int_equal(r->d.cc, i == 0 || i > tcp_cc_count ? tcp_cc_find("bbr") : (int)i - 1);
    assert_ptr_equal(r->conn.cc, tcp_cc_list[r->d.cc]);
  }
  rig_init(r);
  r->env.cfg.cc = (uint8_t)tcp_cc_count;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  assert_int_equal(r->d.cc, 0);
}

/* A path that has room for no header, and one of the least segment. */
static void test_tiny_path(void **state) {
  struct rig *r = *state;
  static const uint32_t mtu[][2] = {{30, 88}, {40, 88}, {41, 88}, {128, 88}, {129, 89}, {576, 536}};
  for (unsigned i = 0; i < ARRAY_LEN(mtu); i++) {
    rig_init(r);
    assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, mtu[i][0], r->now), 0);
    assert_int_equal(r->d.rcv_mss, mtu[i][1]);
  }
}

/* How long the handshake took, a minute at most; or, its SYN lost, 3 s (RFC 6298 5.7). */
static void test_first_rto(void **state) {
  struct rig *r = *state;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_skip(r);
  r->conn.b->rtt_at = r->now;
  r->now += 100 * RIG_S;
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  assert_int_equal(r->conn.srtt8 / 8, 60 * RIG_S);
  rig_init(r);
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  rig_pass(r, RIG_S);
  rig_skip(r);
  rig_syn_in(r, TCP_SYN | TCP_ACK, 1, 0);
  assert_int_equal(r->conn.rto, 3 * RIG_S);
}

/* A handshake that nobody takes is kept for two minutes, and for two more after a crash. */
static void test_parked_times(void **state) {
  struct rig *r = *state;
  struct tcp_seg_in s = {.segs = 1};
  r->offers = 0;
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = RIG_WND;
  assert_int_equal(tcp_passive_open(&r->env, &r->conn, &r->d, &s, 1500, r->now), 0);
  rig_in(r, TCP_ACK, 1, 1, 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.accept, ABI_ACCEPT_PARKED);
  assert_int_equal(r->conn.b->due[TCP_T_LIFE], r->now + 120 * RIG_S);
  r->now += RIG_S;
  assert_int_equal(rig_adopt(r), 0);
  assert_int_equal(r->conn.b->due[TCP_T_LIFE], r->now + 120 * RIG_S);
}

/* --- figures --- */

static void test_each_option_told(void **state) {
  struct rig *r = *state;
  static const uint8_t told[][2] = {{0, 0}, {ABI_TCB_TS, 1}, {ABI_TCB_SACK, 2}, {ABI_TCB_WSCALE, 4}, {ABI_TCB_ECN, 8}};
  struct abi_tcp_more m;
  start(r, 0);
  for (unsigned i = 0; i < ARRAY_LEN(told); i++) {
    r->d.nego = told[i][0];
    tcp_figures_more(&r->env, &r->conn, &m);
    assert_int_equal(m.options, told[i][1]);
  }
}

/* --- keep-alive --- */

/* Due while data is out: from the last sign of the peer on, or, if that is long ago, from now on. */
static void test_keepalive_busy(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->d.opt.flags |= ABI_OPT_KEEPALIVE;
  r->d.opt.keepidle_s = 10;
  rig_write(r, 10);
  r->conn.last_rx = r->now - 3 * RIG_S;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 7 * RIG_S);
  r->conn.last_rx = r->now - 10 * RIG_S + 1;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 1);
  r->now += 60 * RIG_S;
  r->conn.last_rx = r->now - 10 * RIG_S;
  r->conn.b->due[TCP_T_KEEP] = r->now;
  r->conn.b->due[TCP_T_RTO] = 0;
  tcp_timer(&r->env, &r->conn, r->now);
  assert_int_equal(r->conn.b->due[TCP_T_KEEP], r->now + 10 * RIG_S);
}

/* --- records that no engine leaves behind --- */

static int adopted(struct rig *r, uint32_t state, uint32_t past_iss, uint32_t tx_head, uint32_t rx_tail) {
  rig_init(r);
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  if (state == ABI_TCP_SYN_RECEIVED)
    rig_syn_in(r, TCP_SYN, 0, 0); /* crossed */
  assert_int_equal(r->d.state, state);
  r->d.snd_max = r->d.iss + past_iss;
  r->tx_head = r->tx_tail = tx_head;
  r->rx_head = r->rx_tail = rx_tail;
  return rig_adopt(r);
}

static void test_handshake_records(void **state) {
  struct rig *r = *state;
  static const uint32_t from[] = {ABI_TCP_SYN_SENT, ABI_TCP_SYN_RECEIVED};
  for (unsigned i = 0; i < ARRAY_LEN(from); i++) {
    assert_int_equal(adopted(r, from[i], 0, 0, 0), 0); /* numbered, not sent */
    assert_int_equal(adopted(r, from[i], 1, 0, 0), 0);
    assert_int_equal(adopted(r, from[i], 2, 0, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], (uint32_t)-1, 0, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], 1, 1, 0), -EPROTO);
    assert_int_equal(adopted(r, from[i], 1, 0, 1), -EPROTO);
  }
}

/* Our FIN is acknowledged, but not all in front of it. */
static void test_fin_record(void **state) {
  struct rig *r = *state;
  rig_to(r, ABI_TCP_FIN_WAIT_2);
  assert_int_equal(rig_adopt(r), 0);
  rig_init(r);
  rig_to(r, ABI_TCP_FIN_WAIT_2);
  r->d.snd_max++;
  assert_int_equal(rig_adopt(r), -EPROTO);
}

/* With a window that is full not even one byte goes, and with one byte of it free that one. */
static void test_no_room(void **state) {
  struct rig *r = *state;
  start(r, 0);
  r->conn.cwnd = 10;
  rig_write(r, 10);
  rig_skip(r);
  rig_write(r, 1);
  NOTHING(r);
  r->conn.cwnd = 11;
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_ACK, 11, 1, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_small_segment),
      RIG_TEST(test_fin_is_no_data),
      RIG_TEST(test_one_byte_is_ect),
      RIG_TEST(test_tos_of_a_syn),
      RIG_TEST(test_acked_byte_is_room),
      RIG_TEST(test_defer),
      RIG_TEST(test_cork_of_one_segment),
      RIG_TEST(test_counts_of_loss),
      RIG_TEST(test_handshake_counts),
      RIG_TEST(test_route_doubted),
      RIG_TEST(test_tail_times),
      RIG_TEST(test_undo_times),
      RIG_TEST(test_hole_of_one),
      RIG_TEST(test_partial_of_one),
      RIG_TEST(test_frto_of_one),
      RIG_TEST(test_list_remove),
      RIG_TEST(test_list_cut),
      RIG_TEST(test_detect_bits),
      RIG_TEST(test_rack_newest),
      RIG_TEST(test_rack_forgets),
      RIG_TEST(test_sample_of_one),
      RIG_TEST(test_window_reopens),
      RIG_TEST(test_window_of_one),
      RIG_TEST(test_delack_ends_pingpong),
      RIG_TEST(test_silent_ends),
      RIG_TEST(test_back_to_listen),
      RIG_TEST(test_answers_in_time),
      RIG_TEST(test_duplicate_of_one),
      RIG_TEST(test_nothing_offered),
      RIG_TEST(test_control_chosen),
      RIG_TEST(test_tiny_path),
      RIG_TEST(test_first_rto),
      RIG_TEST(test_parked_times),
      RIG_TEST(test_each_option_told),
      RIG_TEST(test_keepalive_busy),
      RIG_TEST(test_handshake_records),
      RIG_TEST(test_fin_record),
      RIG_TEST(test_no_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
