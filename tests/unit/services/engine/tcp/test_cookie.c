/*
 * SYN cookies: what comes back of a SYN that was not remembered; lies, age, change of keys.
 */
#include "tcp_rig.h"

#include "tcp_cookie.h"

struct jar {
  struct abi_cookie keys;
  struct abi_tcb scratch;
  struct tcp_seg_out out;
};

static void jar_init(struct rig *r, struct jar *j) {
  memset(j, 0, sizeof *j);
  j->keys.gen = 1;
  memset(j->keys.key[1], 0x5a, 16);
  r->env.cookie = &j->keys;
  r->env.cfg.rcv_buf_max = 4u << 20;
  r->env.cfg.ecn = TCP_ECN_PASSIVE;
}

static int syn_in(struct rig *r, struct jar *j, unsigned flags, unsigned opts, uint16_t mss) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = (uint16_t)flags;
  s.hdr.wnd = r->wnd;
  s.hdr.opts.present = mss ? TCP_OPT_HAS_MSS : 0;
  s.hdr.opts.mss = mss;
  if (opts & RIG_SACK)
    s.hdr.opts.present |= TCP_OPT_HAS_SACK_OK;
  if (opts & RIG_WS) {
    s.hdr.opts.present |= TCP_OPT_HAS_WSCALE;
    s.hdr.opts.wscale = 9;
  }
  if (opts & RIG_TS) {
    s.hdr.opts.present |= TCP_OPT_HAS_TS;
    s.hdr.opts.ts_val = 777;
  }
  memset(&j->scratch, 0, sizeof j->scratch);
  j->scratch.local = r->d.local;
  j->scratch.remote = r->d.remote;
  return tcp_cookie_syn(&r->env, &j->scratch, &s, 1500, 65535, &j->out, r->now);
}

/* The client's ACK of j->out. */
static struct tcp_seg_in ack_of(const struct rig *r, const struct jar *j) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER + 1;
  s.hdr.ack = j->out.seq + 1;
  s.hdr.flags = TCP_ACK;
  s.hdr.wnd = r->wnd;
  if (j->out.opts.present & TCP_OPT_HAS_TS) {
    s.hdr.opts.present = TCP_OPT_HAS_TS;
    s.hdr.opts.ts_val = 780;
    s.hdr.opts.ts_ecr = j->out.opts.ts_val;
  }
  return s;
}

static int open_with(struct rig *r, const struct tcp_seg_in *s) {
  return tcp_cookie_open(&r->env, &r->conn, &r->d, s, 1500, r->now);
}

static void test_all_options_come_back(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN | TCP_ECE | TCP_CWR, RIG_SACK | RIG_WS | RIG_TS, 1400), 0);
  assert_int_equal(j.out.flags, TCP_SYN | TCP_ACK | TCP_ECE);
  assert_int_equal(j.out.ack, RIG_PEER + 1);
  assert_int_equal(j.out.opts.present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_TS);
  assert_int_equal(j.out.opts.ts_ecr, 777);
  assert_int_equal(r->d.life, ABI_TCB_FREE); /* nothing is remembered */
  r->now += 300 * RIG_MS;
  struct tcp_seg_in a = ack_of(r, &j);
  assert_int_equal(open_with(r, &a), 0);
  assert_int_equal(r->d.life, ABI_TCB_USED);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.iss, j.out.seq);
  assert_int_equal(r->d.irs, RIG_PEER);
  assert_int_equal(r->d.mss, 1400);
  assert_int_equal(r->d.nego, ABI_TCB_PASSIVE | ABI_TCB_SACK | ABI_TCB_TS | ABI_TCB_WSCALE | ABI_TCB_ECN);
  assert_int_equal(r->d.snd_wscale, 9);
  assert_int_equal(r->d.rcv_wscale, j.out.opts.wscale);
  assert_int_equal(r->d.ts_recent, 780);
  assert_true((int32_t)(tcp_open_ts(&r->d, r->now) - j.out.opts.ts_val) >= 0); /* our clock does not go back */
  tcp_input(&r->env, &r->conn, &a, r->now);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->d.snd_wnd, RIG_WND << 9);
  NOTHING(r);
  r->ts_val = 781;
  rig_in(r, TCP_ACK, 1, 1, 100); /* and data flows */
  EXPECT(r, TCP_ACK, 1, 101, 0);
  NOTHING(r);
}

static void test_without_timestamps(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN | TCP_ECE | TCP_CWR, RIG_SACK | RIG_WS, 1460), 0);
  assert_int_equal(j.out.opts.present, TCP_OPT_HAS_MSS);
  assert_int_equal(j.out.flags, TCP_SYN | TCP_ACK);
  struct tcp_seg_in a = ack_of(r, &j);
  assert_int_equal(open_with(r, &a), 0);
  assert_int_equal(r->d.nego, ABI_TCB_PASSIVE);
  assert_int_equal(r->d.mss, 1460);
  assert_int_equal(r->d.snd_wscale | r->d.rcv_wscale, 0);
}

static void test_mss_never_above(void **state) {
  struct rig *r = *state;
  static const uint16_t in[] = {0, 100, 536, 537, 1459, 1460, 1461, 9000, 65535};
  static const uint16_t kept[] = {536, 536, 536, 536, 1440, 1460, 1460, 8960, 8960};
  for (unsigned i = 0; i < ARRAY_LEN(in); i++) {
    struct jar j;
    jar_init(r, &j);
    assert_int_equal(syn_in(r, &j, TCP_SYN, RIG_TS, in[i]), 0);
    struct tcp_seg_in a = ack_of(r, &j);
    assert_int_equal(open_with(r, &a), 0);
    assert_int_equal(r->d.mss, kept[i]);
    struct abi_endpoint l = r->d.local, m = r->d.remote;
    memset(&r->d, 0, sizeof r->d);
    r->d.local = l;
    r->d.remote = m;
  }
}

static void test_lies(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, RIG_TS, 1460), 0);
  struct tcp_seg_in good = ack_of(r, &j), s;
  assert_true(tcp_cookie_valid(&r->env, &r->d, &good, r->now));
  s = good;
  s.hdr.ack++;
  assert_false(tcp_cookie_valid(&r->env, &r->d, &s, r->now));
  for (unsigned bit = 0; bit < 32; bit++) {
    s = good;
    s.hdr.ack = ((good.hdr.ack - 1) ^ 1u << bit) + 1;
    assert_false(tcp_cookie_valid(&r->env, &r->d, &s, r->now));
  }
  s = good;
  s.hdr.seq++; /* not the first segment behind the SYN */
  assert_false(tcp_cookie_valid(&r->env, &r->d, &s, r->now));
  s = good;
  s.hdr.opts.present = 0; /* timestamps were agreed on */
  assert_false(tcp_cookie_valid(&r->env, &r->d, &s, r->now));
  static const uint16_t flags[] = {0, TCP_SYN | TCP_ACK, TCP_RST | TCP_ACK, TCP_FIN, TCP_RST};
  for (unsigned i = 0; i < ARRAY_LEN(flags); i++) {
    s = good;
    s.hdr.flags = flags[i];
    assert_false(tcp_cookie_valid(&r->env, &r->d, &s, r->now));
    assert_int_equal(open_with(r, &s), -EINVAL);
  }
  r->d.remote.port = be16_from(4001);
  assert_false(tcp_cookie_valid(&r->env, &r->d, &good, r->now));
  r->d.remote.port = be16_from(4000);
  r->d.vrf = 3; /* the same addresses and ports there are somebody else's */
  assert_false(tcp_cookie_valid(&r->env, &r->d, &good, r->now));
  r->d.vrf = 0;
  assert_true(tcp_cookie_valid(&r->env, &r->d, &good, r->now));
  r->d.local.ip[15] ^= 1;
  assert_false(tcp_cookie_valid(&r->env, &r->d, &good, r->now));
  assert_int_equal(r->d.life, ABI_TCB_FREE);
  assert_true(COUNTER(r, cookies_bad) > 38);
}

static void test_age(void **state) {
  struct rig *r = *state;
  for (unsigned i = 0; i < 8; i++) { /* whatever the phase: good for a slot, gone after two */
    struct jar j;
    jar_init(r, &j);
    r->now = (100u << 26) + i * ((1u << 26) / 8);
    assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
    struct tcp_seg_in a = ack_of(r, &j);
    r->now += 1u << 26;
    assert_true(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
    r->now += 1u << 26;
    assert_false(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
    r->now += 1u << 26;
    assert_false(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
  }
}

static void test_keys_change(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  memset(j.keys.key[0], 0x11, 16);
  j.keys.gen = 2;
  assert_true(tcp_cookie_valid(&r->env, &r->d, &a, r->now)); /* the last key still counts */
  memset(j.keys.key[1], 0x22, 16);
  j.keys.gen = 3;
  assert_false(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
  j.keys.gen = 0;
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), -EINVAL);
  assert_false(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
}

static void test_only_syns(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  static const uint16_t bad[] = {TCP_ACK, TCP_RST, TCP_SYN | TCP_ACK, TCP_SYN | TCP_RST, TCP_SYN | TCP_FIN, 0};
  for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
    assert_int_equal(syn_in(r, &j, bad[i], 0, 1460), -EINVAL);
}

/* The ACK finds the accept queue full: it counts as lost, the SYN-ACK goes out again; or the client is told. */
static void test_accept_queue_full(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  r->offers = -EAGAIN;
  assert_int_equal(open_with(r, &a), 0);
  tcp_input(&r->env, &r->conn, &a, r->now);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->d.accept, ABI_ACCEPT_NONE);
  rig_in(r, TCP_ACK, 1, 1, 10); /* data is not taken either */
  NOTHING(r);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0); /* the cookie's number again */
  r->offers = 1;
  rig_in(r, TCP_ACK, 1, 1, 10);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 11, 0);
  NOTHING(r);
}

static void test_accept_queue_full_reset(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  r->offers = -ECONNRESET;
  assert_int_equal(open_with(r, &a), 0);
  tcp_input(&r->env, &r->conn, &a, r->now);
  EXPECT(r, TCP_RST | TCP_ACK, 1, 1, 0);
  assert_true(r->closed);
}

/* The engine dies between the record and the handshake's end: the successor repeats the SYN-ACK. */
static void test_adopted(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, RIG_TS | RIG_WS, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  assert_int_equal(open_with(r, &a), 0);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  tcp_input(&r->env, &r->conn, &a, r->now);
  STATE(r, ABI_TCP_ESTABLISHED);
}

/* Each option alone comes back alone, and the low bits of the stamp are what says so. */
static void test_each_option(void **state) {
  struct rig *r = *state;
  static const struct {
    unsigned flags, opts, nego, bits;
  } row[] = {{TCP_SYN, RIG_TS, 0, 15},
             {TCP_SYN, RIG_TS | RIG_SACK, ABI_TCB_SACK, 15 + 16},
             {TCP_SYN, RIG_TS | RIG_WS, ABI_TCB_WSCALE, 9},
             {TCP_SYN | TCP_ECE | TCP_CWR, RIG_TS, ABI_TCB_ECN, 15 + 32}};
  for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
    struct jar j;
    rig_init(r);
    jar_init(r, &j);
    assert_int_equal(syn_in(r, &j, row[i].flags, row[i].opts, 1460), 0);
    assert_int_equal(j.out.opts.ts_val & 63, row[i].bits);
    struct tcp_seg_in a = ack_of(r, &j);
    assert_int_equal(open_with(r, &a), 0);
    assert_int_equal(r->d.nego, ABI_TCB_PASSIVE | ABI_TCB_TS | row[i].nego);
  }
}

/* The stamp is never ahead of our clock, and never more than its low bits behind it. */
static void test_stamp(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  for (unsigned i = 0; i < 200; i++) {
    r->now += RIG_MS;
    assert_int_equal(syn_in(r, &j, TCP_SYN, RIG_SACK | RIG_WS | RIG_TS, 1460), 0);
    uint32_t behind = tcp_open_ts(&j.scratch, r->now) - j.out.opts.ts_val;
    assert_true(behind < 64);
    assert_int_equal(j.out.opts.ts_val & 63, 9 + 16);
  }
}

/* The peer's number, its top byte too, the slot and the use of timestamps are in the hash. */
static void test_all_hashed(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  for (unsigned ts = 0; ts < 2; ts++) {
    assert_int_equal(syn_in(r, &j, TCP_SYN, ts ? RIG_TS : 0, 1460), 0);
    struct tcp_seg_in good = ack_of(r, &j), s;
    assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &good, r->now), 1);
    for (unsigned bit = 0; bit < 32; bit++) {
      s = good;
      s.hdr.seq = ((good.hdr.seq - 1) ^ 1u << bit) + 1;
      assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &s, r->now), 0);
    }
    for (unsigned at = 0; at < 16; at++) {
      r->d.remote.ip[at] ^= 1;
      assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &good, r->now), 0);
      r->d.remote.ip[at] ^= 1;
      r->d.local.ip[at] ^= 1;
      assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &good, r->now), 0);
      r->d.local.ip[at] ^= 1;
    }
    for (unsigned slots = 2; slots < 34; slots += 2) /* the same parity, long ago */
      assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &good, r->now + ((usec_t)slots << 26)), 0);
    s = good;
    s.hdr.opts.present ^= TCP_OPT_HAS_TS;
    assert_int_equal(tcp_cookie_valid(&r->env, &r->d, &s, r->now), 0);
  }
}

/* IPv6 has a table of its own. */
static void test_mss6(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  r->d.remote.family = r->d.local.family = 6;
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1440), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  assert_int_equal(open_with(r, &a), 0);
  assert_int_equal(r->d.mss, 1440);
}

/* With one key so far there is no older one: a cookie of the other place is a guess. The current one and its forerunner
 * count, whatever is written elsewhere. */
static void test_two_keys(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  memset(j.keys.key[0], 0x5b, 16);
  j.keys.gen = 2; /* as if key[0] had been the first */
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  assert_true(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
  j.keys.gen = 3;
  assert_true(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
  j.keys.gen = 1; /* key[1] alone */
  assert_false(tcp_cookie_valid(&r->env, &r->d, &a, r->now));
}

/* What a cookie opened has a timer: should its ACK find no room, its SYN-ACK goes out a second later, not before. */
static void test_timer(void **state) {
  struct rig *r = *state;
  struct jar j;
  jar_init(r, &j);
  assert_int_equal(syn_in(r, &j, TCP_SYN, 0, 1460), 0);
  struct tcp_seg_in a = ack_of(r, &j);
  assert_int_equal(open_with(r, &a), 0);
  assert_int_equal(r->conn.b->due[TCP_T_RTO], r->now + RIG_S);
  rig_pass(r, RIG_S - RIG_MS);
  NOTHING(r);
  rig_pass(r, 2 * RIG_MS);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_all_options_come_back),
      RIG_TEST(test_without_timestamps),
      RIG_TEST(test_mss_never_above),
      RIG_TEST(test_lies),
      RIG_TEST(test_age),
      RIG_TEST(test_keys_change),
      RIG_TEST(test_only_syns),
      RIG_TEST(test_accept_queue_full),
      RIG_TEST(test_accept_queue_full_reset),
      RIG_TEST(test_adopted),
      RIG_TEST(test_each_option),
      RIG_TEST(test_stamp),
      RIG_TEST(test_all_hashed),
      RIG_TEST(test_mss6),
      RIG_TEST(test_two_keys),
      RIG_TEST(test_timer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
