/*
 * The search for the path's MTU (tcp_pmtu.c: RFC 1191, 4821, 8201) and the record of TIME_WAIT (tcp_tw.c: RFC 9293
 * 3.10.7.4, 1337, 6191), each call by hand: sizes, ages and windows to the byte.
 */
#include "tcp_rig.h"
#include "tcp_tw.h"

#define MSS 1460u

/* --- path MTU --- */

static uint32_t link_mtu, found_mtu;
static uint32_t path_mtu(void *ctx, struct tcp_conn *c, uint32_t found) {
  (void)ctx;
  (void)c;
  if (found != 0)
    found_mtu = found;
  return link_mtu;
}

/* Data can flow, the peer takes 8960 bytes, segments are made for `pmtu`. */
static struct tcp_conn *searching(struct rig *r, struct tcp_env_ops *ops, uint32_t pmtu) {
  rig_init(r);
  rig_passive(r, RIG_SACK);
  struct tcp_conn *c = &r->conn;
  *ops = *r->env.ops;
  ops->path_mtu = path_mtu;
  r->env.ops = ops;
  link_mtu = 9000;
  found_mtu = 0;
  r->now = 2000 * RIG_S;
  c->d->mss = 8960;
  c->d->pmtu = pmtu;
  c->d->snd_wnd = 200000;
  c->cwnd = 200000;
  c->mtu_at = 1;
  c->mtu_hi = 0;
  c->mtu_probe = 0;
  tcp_open_mss(c);
  return c;
}

static uint32_t when(usec_t at) {
  return (uint32_t)(at >> 20) + 1;
}

/* First what the link takes; then the middle, until eight bytes are left (RFC 4821 7.5.2). */
static void test_probe_sizes(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  struct tcp_conn *c = searching(r, &ops, 1500);
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 9000 - 40);
  assert_int_equal(c->mtu_probe, 9000);
  assert_int_equal(c->b->mtu_probe_end, c->snd_nxt + 8960);
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 0); /* one at a time */
  (void)tcp_pmtu_lost(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 9000);
  assert_int_equal(c->mtu_probe, 0);
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 5250 - 40);
  c->snd_una = c->b->mtu_probe_end - 1;
  tcp_pmtu_acked(&r->env, c, r->now);
  assert_int_equal(c->d->pmtu, 1500);
  c->snd_una++;
  tcp_pmtu_acked(&r->env, c, r->now);
  assert_int_equal(c->d->pmtu, 5250);
  assert_int_equal(c->mss, 5210);
  assert_int_equal(c->mtu_hi, 9000);
  c->snd_nxt = c->d->snd_max = c->snd_una;
  c->mtu_hi = 5259;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 5254 - 40);
  c->mtu_probe = 0;
  c->mtu_hi = 5258;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 0);
  assert_int_equal(c->mtu_hi, 0); /* over: looked at again when it is old */
  assert_int_equal(c->mtu_at, when(r->now + 600 * RIG_S));
  assert_int_equal(found_mtu, 5250);
  c = searching(r, &ops, 9000);
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 0);
  assert_int_equal(c->mtu_at, 0);
  c = searching(r, &ops, 1500);
  c->d->mss = 0; /* the peer said nothing: the link's */
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 8960);
  c = searching(r, &ops, 1500);
  c->d->mss = 5000;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 5000);
  c = searching(r, &ops, 1500);
  c->d->remote.family = 6;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 8940);
  c = searching(r, &ops, 1500);
  c->d->nego |= ABI_TCB_TS;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 8948);
}

/* RFC 4821 7.4: so much data must follow that its loss is seen; and nothing may be amiss. */
static void test_probe_needs(void **state) {
  static const uint32_t need = 8960 + 3 * MSS;
  struct rig *r = *state;
  struct tcp_env_ops ops;
  for (unsigned i = 0; i < 12; i++) {
    struct tcp_conn *c = searching(r, &ops, 1500);
    uint32_t left = need, size = 8960;
    c->snd_nxt = c->d->snd_max = c->snd_una + 100;
    c->d->snd_wnd = need + 100;
    c->cwnd = need + 100;
    switch (i) {
    case 1:
      left--;
      break;
    case 2:
      c->d->snd_wnd--;
      break;
    case 3:
      c->cwnd--;
      break;
    case 4:
      c->mtu_at = when(r->now) + 1;
      break;
    case 5:
      c->recovery = TCP_RECOVERY;
      break;
    case 6:
      c->b->board.n = 1;
      break;
    case 7:
      c->d->snd_max++;
      break;
    case 8:
      c->b->dsack = (struct tcp_sack){1, 2};
      break;
    case 9:
      assert_int_equal(tcp_ooo_add(&r->env, c, c->rcv_nxt + 5, c->rcv_nxt + 6), 0);
      break;
    case 10:
      c->d->snd_wnd = 50;
      break;
    default:
      c->mtu_at = i == 11 ? when(r->now) : 1;
      break;
    }
    assert_int_equal(tcp_pmtu_probe(&r->env, c, left, r->now), i == 0 || i == 11 ? size : 0);
    assert_int_equal(c->mtu_probe, i == 0 || i == 11 ? 9000 : 0);
  }
}

/* RFC 4821 7.6.1: its loss alone is no congestion. */
static void test_probe_lost(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  for (unsigned i = 0; i < 6; i++) {
    struct tcp_conn *c = searching(r, &ops, 1500);
    uint32_t len = 8960;
    assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), len);
    c->d->snd_max = c->snd_nxt = c->b->mtu_probe_end + 10 * MSS;
    if (i > 0) {
      c->b->board.n = 1;
      c->b->board.r[0] = (struct tcp_sack){c->b->mtu_probe_end, c->b->mtu_probe_end + 3 * MSS};
    }
    if (i == 2)
      c->snd_una -= 1;
    if (i == 3)
      c->b->board.r[0].l += 5; /* what follows it is lost as well */
    if (i == 4) {
      c->b->board.n = 2;
      c->b->board.r[1] = (struct tcp_sack){c->b->board.r[0].r + 1, c->b->board.r[0].r + 2};
    }
    if (i == 5)
      c->b->board.r[0].l -= 5;
    assert_int_equal(tcp_pmtu_lost(&r->env, c, r->now), i < 2);
    assert_int_equal(c->mtu_hi, 9000);
  }
  struct tcp_conn *c = searching(r, &ops, 1500);
  c->mtu_probe = 1508;
  c->mtu_hi = 1600;
  (void)tcp_pmtu_lost(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 0);
  c->mtu_probe = 1509;
  c->mtu_hi = 1600;
  (void)tcp_pmtu_lost(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 1509);
  c->mtu_probe = 1600;
  c->mtu_hi = 1550; /* a router was quicker */
  (void)tcp_pmtu_lost(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 1550);
  c->mtu_probe = 1592;
  c->b->mtu_probe_end = c->snd_una;
  c->mtu_hi = 1600;
  tcp_pmtu_acked(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 0);
  c->mtu_probe = 1600;
  c->mtu_hi = 1609;
  tcp_pmtu_acked(&r->env, c, r->now);
  assert_int_equal(c->mtu_hi, 1609);
}

/* RFC 1191 6.4: believed down to 552 bytes, 1280 with IPv6; 6.3: raised again where probing is off. */
static void test_routers(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  struct tcp_conn *c = searching(r, &ops, 1500);
  tcp_pmtu_icmp(&r->env, c, 1500, r->now);
  assert_int_equal(COUNTER(r, pmtu_lowered), 0);
  c->mtu_probe = 3000;
  c->mtu_hi = 9001;
  tcp_pmtu_icmp(&r->env, c, 2000, r->now); /* about the probe */
  assert_int_equal(c->mtu_hi, 2001);
  c->mtu_hi = 9001;
  tcp_pmtu_icmp(&r->env, c, 3000, r->now);
  assert_int_equal(c->mtu_hi, 9001);
  tcp_pmtu_icmp(&r->env, c, 1499, r->now);
  assert_int_equal(c->d->pmtu, 1499);
  assert_int_equal(c->mtu_probe, 0);
  assert_int_equal(c->mtu_at, when(r->now + 600 * RIG_S));
  tcp_pmtu_icmp(&r->env, c, 60, r->now);
  assert_int_equal(c->d->pmtu, 552);
  c = searching(r, &ops, 1500);
  c->d->remote.family = 6;
  tcp_pmtu_icmp(&r->env, c, 60, r->now);
  assert_int_equal(c->d->pmtu, 1280);
  c = searching(r, &ops, 1500);
  r->env.cfg.mtu_probing = TCP_MTU_PROBING_OFF;
  assert_int_equal(tcp_pmtu_probe(&r->env, c, 100000, r->now), 0);
  assert_int_equal(c->d->pmtu, 9000);
  assert_int_equal(c->mtu_at, 0);
  c = searching(r, &ops, 1500); /* in flight: sent again, smaller, as after a loss that is none */
  r->tx_tail += 5000;
  (void)tcp_output_run(&r->env, c, r->now);
  rig_skip(r);
  c->cwnd = 100;
  c->b->dupacks = 2;
  tcp_pmtu_icmp(&r->env, c, 1000, r->now);
  assert_int_equal(c->recovery, TCP_LOSS);
  assert_int_equal(c->b->dupacks, 0);
  assert_int_equal(c->cwnd, 960);
  assert_int_equal(c->recover, c->d->snd_max);
  EXPECT(r, TCP_ACK, 1, 1, 960);
}

/* RFC 4821 7.7: from the third timeout in a row on, every second one; to the base, then to the least. */
static void test_black_hole(void **state) {
  static const struct {
    uint8_t backoff;
    uint32_t pmtu, out, to;
  } row[] = {
      {0, 9000, 9000, 9000}, {1, 9000, 9000, 9000}, {2, 9000, 9000, 1024}, {3, 9000, 9000, 9000}, {4, 9000, 9000, 1024},
      {2, 1024, 9000, 552},  {2, 1025, 9000, 1024}, {2, 552, 9000, 552},   {2, 9000, 984, 9000},  {2, 9000, 985, 1024},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct tcp_env_ops ops;
    struct tcp_conn *c = searching(r, &ops, row[i].pmtu);
    c->d->snd_max = c->snd_una + row[i].out;
    c->backoff = row[i].backoff;
    c->mtu_at = 0;
    c->mtu_hi = 77;
    tcp_pmtu_timeout(&r->env, c, r->now);
    assert_int_equal(c->d->pmtu, row[i].to);
    assert_int_equal(c->mtu_at, row[i].to != row[i].pmtu ? when(r->now) : 0);
    assert_int_equal(c->mtu_hi, row[i].to != row[i].pmtu ? 0 : 77);
  }
}

static void test_search_begins(void **state) {
  struct rig *r = *state;
  struct tcp_env_ops ops;
  for (unsigned i = 0; i < 5; i++) {
    struct tcp_conn *c = searching(r, &ops, i == 3 ? 9000 : 1500);
    c->mtu_at = 0;
    r->env.cfg.mtu_probing = i < 2 ? TCP_MTU_PROBING_ON : TCP_MTU_PROBING_BLACKHOLE;
    if (i == 4)
      r->env.cfg.mtu_base = 552;
    tcp_pmtu_init(&r->env, c, i == 0, r->now);
    assert_int_equal(c->d->pmtu, i == 0 ? 1024 : i == 3 ? 9000 : 1500);
    assert_int_equal(c->mtu_at, i < 2 ? when(r->now) : i == 3 ? 0 : when(r->now + 600 * RIG_S));
  }
}

/* --- TIME_WAIT --- */

struct record {
  struct abi_tw t;
  struct tcp_seg_out out;
};

static void record(struct rig *r, struct record *w, uint8_t nego) {
  rig_init(r);
  r->now = 1000 * RIG_S;
  *w = (struct record){.t = {.nego = nego,
                             .rcv_wscale = 2,
                             .wnd = 25,
                             .snd_nxt = 5000,
                             .rcv_nxt = 0xfffffff0u,
                             .ts_recent = 700,
                             .end = r->now + 60 * RIG_S}};
}

static enum tcp_tw_does in(struct rig *r, struct record *w, unsigned flags, uint32_t seq, uint32_t ack, uint32_t len,
                           uint32_t ts) {
  struct tcp_seg_in s = {.segs = 3, .len = len};
  s.hdr.seq = w->t.rcv_nxt + seq;
  s.hdr.ack = ack;
  s.hdr.flags = (uint16_t)flags;
  if (ts != 0) {
    s.hdr.opts.present = TCP_OPT_HAS_TS;
    s.hdr.opts.ts_val = ts;
  }
  return tcp_tw_input(&r->env, &w->t, &s, &w->out, r->now);
}

/* RFC 9293 3.10.7.4 first: a window of 100 bytes. What lies in it and asks for nothing gets nothing. */
static void test_tw_window(void **state) {
  static const struct {
    int32_t seq;
    uint32_t len, ack;
    enum tcp_tw_does does;
  } row[] = {
      {0, 0, 5000, TCP_TW_NOTHING}, {99, 0, 5000, TCP_TW_NOTHING}, {100, 0, 5000, TCP_TW_ACK},
      {-1, 0, 5000, TCP_TW_ACK},    {0, 0, 4999, TCP_TW_ACK},      {0, 0, 5001, TCP_TW_ACK},
      {0, 1, 5000, TCP_TW_ACK},
  };
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct record w;
    record(r, &w, 0);
    assert_int_equal(in(r, &w, TCP_ACK, (uint32_t)row[i].seq, row[i].ack, row[i].len, 0), row[i].does);
    if (row[i].does == TCP_TW_ACK) {
      assert_int_equal(w.out.seq, 5000);
      assert_int_equal(w.out.ack, 0xfffffff0u);
      assert_int_equal(w.out.wnd, 25);
      assert_int_equal(w.out.flags, TCP_ACK);
      assert_int_equal(w.out.opts.present, 0);
    }
    assert_int_equal(COUNTER(r, wire_segs_in), 3);
  }
  static const struct {
    int32_t seq;
    uint32_t len, oow;
  } text[] = {{0, 10, 0},   {99, 10, 0},   {100, 10, 1},  {-10, 10, 1},
              {-10, 11, 0}, {-10, 110, 0}, {-10, 111, 1}, {-1, 102, 1}};
  for (unsigned i = 0; i < ARRAY_LEN(text); i++) {
    struct rig *r = *state;
    struct record w;
    record(r, &w, 0);
    assert_int_equal(in(r, &w, TCP_ACK, (uint32_t)text[i].seq, 5000, text[i].len, 0), TCP_TW_ACK);
    assert_int_equal(COUNTER(r, oow), text[i].oow);
    record(r, &w, 0);
    w.t.wnd = 0; /* a closed window takes no text */
    assert_int_equal(in(r, &w, TCP_ACK, (uint32_t)text[i].seq, 5000, text[i].len, 0), TCP_TW_ACK);
    assert_int_equal(COUNTER(r, oow), 1);
  }
}

/* RFC 6191: what takes over; RFC 9293 3.6.1 without timestamps. */
static void test_tw_syn(void **state) {
  static const struct {
    uint8_t nego;
    uint32_t ts;
    int32_t seq;
    int reuse;
  } row[] = {{0, 0, 1, 1},
             {0, 0, 0, 0},
             {0, 0, -1, 0},
             {ABI_TCB_TS, 701, -5, 1},
             {ABI_TCB_TS, 700, 1, 1},
             {ABI_TCB_TS, 700, 0, 0},
             {ABI_TCB_TS, 699, 9, 0},
             {ABI_TCB_TS, 0, 1, 1},
             {0, 1, 1, 1}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct rig *r = *state;
    struct record w;
    record(r, &w, row[i].nego);
    assert_int_equal(in(r, &w, TCP_SYN, (uint32_t)row[i].seq, 0, 0, row[i].ts),
                     row[i].reuse ? TCP_TW_REUSE : TCP_TW_ACK);
    if (!row[i].reuse && row[i].nego) {
      assert_int_equal(w.out.opts.ts_ecr, 700);
      assert_int_equal(w.out.opts.ts_val - tcp_open_ts_offset(&r->env, w.t.local, w.t.remote, 0, be16_from(w.t.lport),
                                                              be16_from(w.t.rport)),
                       r->now / 1000);
    }
    assert_int_equal(in(r, &w, TCP_SYN | TCP_ACK, 1, 5000, 0, 800), TCP_TW_ACK);
  }
}

/* A FIN that comes again restarts 2 MSL; PAWS; RST is nothing; timestamps move on. */
static void test_tw_rest(void **state) {
  struct rig *r = *state;
  struct record w;
  record(r, &w, ABI_TCB_TS);
  r->now += 10 * RIG_S;
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, (uint32_t)-1, 5000, 0, 700), TCP_TW_AGAIN);
  assert_true(w.t.end == r->now + 60 * RIG_S);
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, (uint32_t)-6, 5000, 5, 700), TCP_TW_AGAIN);
  usec_t end = w.t.end;
  r->now++;
  assert_int_equal(in(r, &w, TCP_FIN | TCP_ACK, 0, 5000, 0, 700), TCP_TW_ACK);
  assert_true(w.t.end == end);
  assert_int_equal(in(r, &w, TCP_ACK, 0, 5000, 0, 699), TCP_TW_ACK);
  assert_int_equal(COUNTER(r, paws), 1);
  assert_int_equal(in(r, &w, TCP_ACK, 0, 5000, 0, 0), TCP_TW_NOTHING);
  assert_int_equal(COUNTER(r, no_timestamp), 1);
  assert_int_equal(in(r, &w, TCP_RST, 0, 5000, 0, 700), TCP_TW_NOTHING);
  assert_int_equal(COUNTER(r, rst_ignored), 1);
  assert_int_equal(in(r, &w, 0, 0, 0, 0, 700), TCP_TW_NOTHING);
  assert_int_equal(w.t.ts_recent, 700);
  assert_int_equal(in(r, &w, TCP_ACK, 0, 5000, 0, 705), TCP_TW_NOTHING);
  assert_int_equal(w.t.ts_recent, 705);
}

/* RFC 9293 3.6.1 (1): numbers beyond the old ones, never 0; an active open takes over after a second. */
static void test_tw_successor(void **state) {
  struct rig *r = *state;
  struct record w;
  record(r, &w, ABI_TCB_TS);
  assert_int_equal(tcp_tw_isn_floor(&w.t), 5000 + 65538);
  w.t.snd_nxt = 0u - 65538u;
  assert_int_equal(tcp_tw_isn_floor(&w.t), 1);
  w.t.snd_nxt++;
  assert_int_equal(tcp_tw_isn_floor(&w.t), 1);
  w.t.snd_nxt++;
  assert_int_equal(tcp_tw_isn_floor(&w.t), 2);
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now), 0);
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now - 1), 0);
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now + RIG_S), 0);
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now + RIG_S + 1), 1);
  r->env.cfg.timestamps = 0;
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now + RIG_S + 1), 0);
  r->env.cfg.timestamps = 1;
  w.t.nego = 0;
  assert_int_equal(tcp_tw_may_connect(&r->env, &w.t, r->now + RIG_S + 1), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_probe_sizes), RIG_TEST(test_probe_needs),   RIG_TEST(test_probe_lost), RIG_TEST(test_routers),
      RIG_TEST(test_black_hole),  RIG_TEST(test_search_begins), RIG_TEST(test_tw_window),  RIG_TEST(test_tw_syn),
      RIG_TEST(test_tw_rest),     RIG_TEST(test_tw_successor),
  };
  return cmocka_run_group_tests_name("tcp_search", tests, NULL, NULL);
}
