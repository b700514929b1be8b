/*
 * Fast Open (RFC 7413), both sides: cookies asked for, given, kept, shown; data in SYNs taken, refused, lost; answers
 * before the handshake is complete; what a crash leaves.
 */
#include "tcp_rig.h"

#include "tcp_tfo.h"

static struct tcp_tfo cache;

static void start(struct rig *r) {
  memset(&cache, 0, sizeof cache);
  r->env.tfo = &cache;
  r->env.cfg.fastopen = TCP_TFO_CLIENT | TCP_TFO_SERVER;
}

/* --- server --- */

static struct tcp_seg_in syn_with(const uint8_t *cookie, uint32_t cookie_len, uint32_t len) {
  static uint8_t data[2000];
  static struct tcp_piece pc;
  for (uint32_t i = 0; i < len; i++)
    data[i] = (uint8_t)(i * 31 + (i >> 8));
  pc = (struct tcp_piece){data, len};
  struct tcp_seg_in s = {.segs = 1, .len = len, .pieces = &pc, .n_pieces = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.flags = TCP_SYN;
  s.hdr.wnd = RIG_WND;
  s.hdr.opts.present = TCP_OPT_HAS_MSS | TCP_OPT_HAS_TFO;
  s.hdr.opts.mss = RIG_MSS;
  s.hdr.opts.tfo_len = (uint8_t)cookie_len;
  if (cookie_len)
    memcpy(s.hdr.opts.tfo, cookie, cookie_len);
  return s;
}

static int open_with(struct rig *r, const struct tcp_seg_in *s) {
  unsigned tfo = tcp_tfo_check(&r->env, &r->d, s);
  return tcp_passive_fast(&r->env, &r->conn, &r->d, s, 1500, tfo, r->now);
}

/* The cookie that the server gives to this client. */
static void ask(struct rig *r, uint8_t *cookie) {
  struct abi_tcb was = r->d;
  struct tcp_seg_in s = syn_with(NULL, 0, 0);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  assert_int_equal(open_with(r, &s), 0);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0);
  assert_true(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  assert_int_equal(LAST(r)->opts.tfo_len, 8);
  memcpy(cookie, LAST(r)->opts.tfo, 8);
  r->d = was;
  r->timer_at = UINT64_MAX;
}

static void test_cookie_is_given(void **state) {
  struct rig *r = *state;
  uint8_t cookie[8], other[8];
  start(r);
  ask(r, cookie);
  struct tcp_seg_in s = syn_with(cookie, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA);
  s = syn_with(cookie, 7, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  cookie[3] ^= 1;
  s = syn_with(cookie, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  cookie[3] ^= 1;
  r->d.remote.ip[15] = 9; /* another client's */
  s = syn_with(cookie, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  r->d.remote.ip[15] = 2;
  r->d.vrf = 3; /* whoever has the address there */
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  ask(r, other);
  assert_memory_not_equal(cookie, other, 8);
  r->d.vrf = 0;
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA);
  r->env.cfg.fastopen_keys = 1; /* a key of the user's: other cookies */
  memset(r->env.cfg.fastopen_key, 0x33, 16);
  ask(r, other);
  assert_memory_not_equal(cookie, other, 8);
  r->env.cfg.fastopen = TCP_TFO_CLIENT;
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), 0);
}

/* TCP_FASTOPEN_KEY: cookies of the listener's first key, and for a while those of the one before. */
static void test_keys_of_a_listener(void **state) {
  struct rig *r = *state;
  uint8_t keys[32], cookie[8], elder[8], fresh[8];
  memset(keys, 0x11, 16);
  memset(keys + 16, 0x22, 16);
  start(r);
  ask(r, cookie);
  r->env.tfo_key = keys + 16;
  r->env.tfo_keys = 1;
  ask(r, elder);
  r->env.tfo_key = keys;
  ask(r, fresh);
  assert_memory_not_equal(cookie, elder, 8);
  assert_memory_not_equal(fresh, elder, 8);
  struct tcp_seg_in s = syn_with(elder, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  r->env.tfo_keys = 2;
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA | TCP_TFO_COOKIE);
  s = syn_with(fresh, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA);
  s = syn_with(cookie, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  s = syn_with(elder, 8, 10); /* its data is taken, and the SYN-ACK brings the new one */
  assert_int_equal(open_with(r, &s), 0);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 11, 0);
  assert_memory_equal(LAST(r)->opts.tfo, fresh, 8);
  r->env.tfo_key = NULL; /* the configured key again: of another listener */
  s = syn_with(cookie, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA);
}

/* The configured key, while it is being changed (RFC 7413 4.1.2): cookies of the one before count, and are renewed. */
static void test_key_changes(void **state) {
  struct rig *r = *state;
  uint8_t drawn[8], elder[8], fresh[8];
  start(r);
  ask(r, drawn);
  memset(r->env.cfg.fastopen_key, 0x11, 16);
  r->env.cfg.fastopen_keys = 1;
  ask(r, elder);
  memset(r->env.cfg.fastopen_key, 0x22, 16); /* a new one in front */
  memset(r->env.cfg.fastopen_key + 16, 0x11, 16);
  ask(r, fresh);
  assert_memory_not_equal(fresh, elder, 8);
  struct tcp_seg_in s = syn_with(elder, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE); /* not announced: forgotten */
  r->env.cfg.fastopen_keys = 2;
  s = syn_with(drawn, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  s = syn_with(fresh, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA);
  s = syn_with(elder, 7, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  uint8_t own[16] = {9};
  r->env.tfo_key = own; /* a listener with one key of its own has no other */
  r->env.tfo_keys = 1;
  s = syn_with(elder, 8, 10);
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
  r->env.tfo_key = NULL;
  assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_DATA | TCP_TFO_COOKIE);
  assert_int_equal(open_with(r, &s), 0); /* its data is taken, and the SYN-ACK brings the new one */
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 11, 0);
  assert_memory_equal(LAST(r)->opts.tfo, fresh, 8);
}

static void fast(struct rig *r, uint32_t len) {
  uint8_t cookie[8];
  start(r);
  ask(r, cookie);
  struct tcp_seg_in s = syn_with(cookie, 8, len);
  assert_int_equal(open_with(r, &s), 0);
}

static void test_data_is_taken(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 101, 0); /* acknowledges the data too */
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  NOTHING(r);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  assert_int_equal(r->rx_tail, 100);
  assert_int_equal(rig_events(r) & EV(TCP_EV_READABLE), EV(TCP_EV_READABLE));
  assert_int_equal(COUNTER(r, fastopen_in), 1);
  rig_in(r, TCP_ACK, 101, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  NOTHING(r);
  rig_in(r, TCP_ACK, 101, 1, 50);
  EXPECT(r, TCP_ACK, 1, 151, 0);
  NOTHING(r);
}

static void test_answer_before_the_ack(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_skip(r);
  rig_write(r, 3000); /* RFC 7413 4.2.2 */
  EXPECT(r, TCP_ACK, 1, 101, 1460);
  EXPECT(r, TCP_ACK, 1461, 101, 1460);
  EXPECT(r, TCP_ACK, 2921, 101, 80);
  NOTHING(r);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  rig_in(r, TCP_ACK, 101, 1461, 0); /* ends the handshake and acknowledges data */
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->tx_head, 1460);
  rig_in(r, TCP_ACK, 101, 3001, 0);
  assert_int_equal(r->tx_head, 3000);
  NOTHING(r);
}

static void test_syn_ack_lost_with_answer(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_write(r, 500);
  rig_skip(r);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 101, 0);
  NOTHING(r);
  rig_in(r, TCP_ACK, 101, 1, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  EXPECT(r, TCP_ACK, 1, 101, 500); /* again, as nothing says that it arrived */
  NOTHING(r);
  rig_in(r, TCP_ACK, 101, 501, 0);
  assert_int_equal(r->tx_head, 500);
}

static void test_syn_again_gets_syn_ack(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_skip(r);
  struct tcp_seg_in s = syn_with(NULL, 0, 0);
  s.hdr.opts.present = TCP_OPT_HAS_MSS;
  tcp_input(&r->env, &r->conn, &s, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 101, 0);
  NOTHING(r);
}

static void test_reset_is_told(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_skip(r);
  rig_in(r, TCP_RST, 101, 0, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ECONNRESET); /* an app has it already */
}

static void test_close_before_the_ack(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_write(r, 10);
  rig_read(r, 100);
  rig_skip(r);
  rig_close(r);
  NOTHING(r);
  rig_in(r, TCP_ACK, 101, 11, 0);
  EXPECT(r, TCP_FIN | TCP_ACK, 11, 101, 0);
  STATE(r, ABI_TCP_FIN_WAIT_1);
}

static void test_nobody_there(void **state) {
  struct rig *r = *state;
  r->offers = 0;
  fast(r, 100);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 1, 0); /* the SYN alone */
  NOTHING(r);
  assert_int_equal(r->rx_tail, 0);
  r->offers = 1;
  rig_in(r, TCP_ACK, 1, 1, 100);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->rx_tail, 100);
}

static void test_server_adopted(void **state) {
  struct rig *r = *state;
  fast(r, 100);
  rig_write(r, 200);
  r->d.accept = ABI_ACCEPT_OFFERED; /* as the session layer's offer leaves it */
  r->d.worker_id = 7;
  assert_int_equal(rig_adopt(r), 0);
  STATE(r, ABI_TCP_SYN_RECEIVED);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 101, 0);
  EXPECT(r, TCP_ACK, 1, 101, 200);
  NOTHING(r);
  rig_in(r, TCP_ACK, 101, 201, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->tx_head, 200);
}

/* --- client --- */

static void syn_ack(struct rig *r, uint32_t ack, const uint8_t *cookie, uint32_t cookie_len) {
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.ack = r->d.iss + ack;
  s.hdr.flags = TCP_SYN | TCP_ACK;
  s.hdr.wnd = r->wnd;
  s.hdr.opts.present = TCP_OPT_HAS_MSS | (cookie_len ? TCP_OPT_HAS_TFO : 0);
  s.hdr.opts.mss = RIG_MSS;
  s.hdr.opts.tfo_len = (uint8_t)cookie_len;
  if (cookie_len)
    memcpy(s.hdr.opts.tfo, cookie, cookie_len);
  tcp_input(&r->env, &r->conn, &s, r->now);
}

static const uint8_t given[4] = {1, 2, 3, 4};

static void connect_fast(struct rig *r, uint32_t len) {
  struct abi_endpoint l = r->d.local, m = r->d.remote;
  memset(&r->d, 0, sizeof r->d);
  r->d.local = l;
  r->d.remote = m;
  r->d.opt.flags = ABI_OPT_FASTOPEN;
  r->tx_head = 0;
  r->tx_tail = len;
  r->timer_at = UINT64_MAX;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
}

/* The first connection learns the cookie. */
static void learn(struct rig *r) {
  start(r);
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 0); /* no cookie yet: none of the data */
  assert_true(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  assert_int_equal(LAST(r)->opts.tfo_len, 0);
  syn_ack(r, 1, given, sizeof given);
  EXPECT(r, TCP_ACK, 1, 1, 700); /* the handshake's ACK takes it along */
  NOTHING(r);
  STATE(r, ABI_TCP_ESTABLISHED);
}

static void test_client_data_on_the_syn(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 700);
  assert_int_equal(LAST(r)->opts.tfo_len, 4);
  assert_memory_equal(LAST(r)->opts.tfo, given, 4);
  NOTHING(r);
  syn_ack(r, 701, NULL, 0);
  STATE(r, ABI_TCP_ESTABLISHED);
  assert_int_equal(r->tx_head, 700);
  EXPECT(r, TCP_ACK, 701, 1, 0);
  NOTHING(r);
}

static void test_client_data_not_taken(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  rig_skip(r);
  syn_ack(r, 1, given, 4); /* the server takes the SYN alone */
  assert_int_equal(r->tx_head, 0);
  EXPECT(r, TCP_ACK, 1, 1, 700); /* at once, RFC 7413 4.2.1 */
  NOTHING(r);
  rig_in(r, TCP_ACK, 1, 701, 0);
  assert_int_equal(r->tx_head, 700);
}

static void test_client_part_taken(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  rig_skip(r);
  syn_ack(r, 301, NULL, 0);
  assert_int_equal(r->tx_head, 300);
  EXPECT(r, TCP_ACK, 301, 1, 400);
  NOTHING(r);
}

static void test_client_as_much_as_fits(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 5000);
  EXPECT(r, TCP_SYN, 0, 0, 1460 - 28); /* MSS 4, SACK and timestamps 12, scale none, cookie 6, padded */
  syn_ack(r, 1433, NULL, 0);
  EXPECT(r, TCP_ACK, 1433, 1, 1460);
}

static void test_client_fallback(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 700);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN, 0, 0, 0); /* bare, RFC 7413 4.1.3.1 */
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  NOTHING(r);
  syn_ack(r, 1, NULL, 0);
  EXPECT(r, TCP_ACK, 1, 1, 700);
  NOTHING(r);
  assert_int_equal(COUNTER(r, fastopen_fallback), 1);
  connect_fast(r, 700); /* for an hour */
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  r->now += 3601 * RIG_S;
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 700);
}

static void test_client_reset(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  rig_skip(r);
  rig_in(r, TCP_RST | TCP_ACK, 0, 701, 0);
  assert_true(r->closed);
  assert_int_equal(r->d.error, ECONNREFUSED);
}

static void test_client_adopted(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 700);
  assert_int_equal(rig_adopt(r), 0);
  (void)tcp_output(&r->env, &r->conn, r->now);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  NOTHING(r);
  syn_ack(r, 701, NULL, 0); /* the first one's answer */
  assert_int_equal(r->tx_head, 700);
  STATE(r, ABI_TCP_ESTABLISHED);
}

static void test_client_does_not_ask(void **state) {
  struct rig *r = *state;
  start(r);
  r->tx_tail = 100;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
}

/* Every byte of a cookie counts; who only asks has shown no bad one. */
static void test_cookie_bytes(void **state) {
  struct rig *r = *state;
  uint8_t cookie[8];
  start(r);
  ask(r, cookie);
  assert_int_equal(COUNTER(r, fastopen_bad), 0);
  for (unsigned i = 0; i < 8; i++) {
    cookie[i] ^= 0x80;
    struct tcp_seg_in s = syn_with(cookie, 8, 10);
    assert_int_equal(tcp_tfo_check(&r->env, &r->d, &s), TCP_TFO_COOKIE);
    assert_int_equal(COUNTER(r, fastopen_bad), i + 1);
    cookie[i] ^= 0x80;
  }
}

/* One byte on the SYN, one byte of answer, a window of one byte. */
static void test_one_byte(void **state) {
  struct rig *r = *state;
  r->wnd = 1;
  fast(r, 1);
  EXPECT(r, TCP_SYN | TCP_ACK, 0, 2, 0);
  assert_int_equal(r->rx_tail, 1);
  assert_int_equal(COUNTER(r, fastopen_in), 1);
  rig_write(r, 1);
  EXPECT(r, TCP_ACK, 1, 2, 1);
  NOTHING(r);
}

/* A window of 0: no answer before the handshake is complete. */
static void test_no_window(void **state) {
  struct rig *r = *state;
  fast(r, 10);
  rig_skip(r);
  r->d.snd_wnd = 0;
  assert_false(tcp_tfo_may_send(&r->env, &r->conn));
  r->d.snd_wnd = 1;
  assert_false(tcp_tfo_may_send(&r->env, &r->conn)); /* and nothing to say */
  r->tx_tail = 1;
  assert_true(tcp_tfo_may_send(&r->env, &r->conn));
}

/* What fits: the lesser of the server's MSS and of the path, less the options of this SYN. */
static void test_room(void **state) {
  struct rig *r = *state;
  struct abi_endpoint six = {.family = 6, .ip = {[0] = 0xfd, [15] = 2}};
  learn(r);
  /* MSS 4, SACK and timestamps 12, scale 4, cookie 6, padded: 28 */
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 1460 - 28);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 9000, r->now), 1460 - 28);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 1, 1500, r->now), 0); /* the server of that VRF is not known */
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1499, r->now), 1459 - 28);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 40 + 29, r->now), 1);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 40 + 28, r->now), 0);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 40, r->now), 0);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 30, r->now), 0);
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 1460 - 12);
  r->env.cfg.fastopen = TCP_TFO_SERVER;
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), -EOPNOTSUPP);
  r->env.cfg.fastopen = TCP_TFO_CLIENT;
  assert_int_equal(tcp_tfo_room(&r->env, &six, 0, 1500, r->now), 0);
  r->d.remote = six;
  connect_fast(r, 10);
  rig_skip(r);
  syn_ack(r, 1, given, sizeof given);
  assert_int_equal(tcp_tfo_room(&r->env, &six, 0, 1400, r->now), 1400 - 60 - 12);
}

/* TCP_FASTOPEN_NO_COOKIE: data at once and no option; not while such SYNs get lost. */
static void test_without_cookie(void **state) {
  struct rig *r = *state;
  start(r);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 0);
  assert_int_equal(tcp_tfo_room_bare(&r->env, &r->d.remote, 0, 1500, r->now), 536 - 20);
  r->d.opt.flags = ABI_OPT_FASTOPEN | ABI_OPT_TFO_BARE;
  r->tx_tail = 1000;
  assert_int_equal(tcp_connect(&r->env, &r->conn, &r->d, 1500, r->now), 0);
  EXPECT(r, TCP_SYN, 0, 0, 536 - 20);
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN, 0, 0, 0); /* it was lost: as any other */
  assert_int_equal(tcp_tfo_room_bare(&r->env, &r->d.remote, 0, 1500, r->now), 0);
}

/* A server that tells no MSS has the least. */
static void test_room_without_mss(void **state) {
  struct rig *r = *state;
  start(r);
  connect_fast(r, 10);
  rig_skip(r);
  struct tcp_seg_in s = {.segs = 1};
  s.hdr.seq = RIG_PEER;
  s.hdr.ack = r->d.iss + 1;
  s.hdr.flags = TCP_SYN | TCP_ACK;
  s.hdr.wnd = r->wnd;
  s.hdr.opts.present = TCP_OPT_HAS_TFO;
  s.hdr.opts.tfo_len = 4;
  memcpy(s.hdr.opts.tfo, given, 4);
  tcp_input(&r->env, &r->conn, &s, r->now);
  r->env.cfg.sack = r->env.cfg.timestamps = r->env.cfg.wscale = 0;
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 536 - 12);
}

/* Where such SYNs get lost: an hour, to the µs; then a cookie that is known is used, one that is not is asked for. */
static void test_an_hour(void **state) {
  struct rig *r = *state;
  learn(r);
  connect_fast(r, 700);
  rig_pass(r, RIG_S);
  usec_t until = r->now + 3600 * RIG_S;
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, until - 1), 0);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, until), 1460 - 28);
  r->d.remote.ip[15] = 77; /* a server whose first SYN is lost */
  rig_skip(r);
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_true(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  rig_pass(r, RIG_S);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  r->now += 3600 * RIG_S;
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_true(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  assert_int_equal(LAST(r)->opts.tfo_len, 0);
}

/* A cookie is the server's address's alone: another port of it has it too, no other address, whichever slot it has. */
static void test_whose_cookie(void **state) {
  struct rig *r = *state;
  learn(r);
  r->d.remote.port = be16_from(4001);
  assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 1460 - 28);
  connect_fast(r, 1);
  EXPECT(r, TCP_SYN, 0, 0, 1);
  assert_int_equal(COUNTER(r, fastopen_out), 1);
  for (uint32_t i = 0; i < 16 * TCP_TFO_SLOTS; i++) {
    r->d.remote.ip[13] = (uint8_t)(1 + (i >> 8));
    r->d.remote.ip[14] = (uint8_t)i;
    assert_int_equal(tcp_tfo_room(&r->env, &r->d.remote, 0, 1500, r->now), 0);
  }
}

/* A cookie for which there is no room beside the other options, and one byte more than that. */
static void test_cookie_without_room(void **state) {
  struct rig *r = *state;
  struct abi_endpoint to = r->d.remote;
  learn(r);
  for (unsigned i = 0; i < TCP_TFO_SLOTS; i++)
    if (!memcmp(cache.e[i].remote, to.ip, 16))
      cache.e[i].mss = 28;
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 0);
  assert_false(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
  for (unsigned i = 0; i < TCP_TFO_SLOTS; i++)
    if (!memcmp(cache.e[i].remote, to.ip, 16))
      cache.e[i].mss = 30;
  connect_fast(r, 700);
  EXPECT(r, TCP_SYN, 0, 0, 2);
  assert_true(LAST(r)->opts.present & TCP_OPT_HAS_TFO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(test_cookie_is_given),
      RIG_TEST(test_keys_of_a_listener),
      RIG_TEST(test_key_changes),
      RIG_TEST(test_without_cookie),
      RIG_TEST(test_data_is_taken),
      RIG_TEST(test_answer_before_the_ack),
      RIG_TEST(test_syn_ack_lost_with_answer),
      RIG_TEST(test_syn_again_gets_syn_ack),
      RIG_TEST(test_reset_is_told),
      RIG_TEST(test_close_before_the_ack),
      RIG_TEST(test_nobody_there),
      RIG_TEST(test_server_adopted),
      RIG_TEST(test_client_data_on_the_syn),
      RIG_TEST(test_client_data_not_taken),
      RIG_TEST(test_client_part_taken),
      RIG_TEST(test_client_as_much_as_fits),
      RIG_TEST(test_client_fallback),
      RIG_TEST(test_client_reset),
      RIG_TEST(test_client_adopted),
      RIG_TEST(test_client_does_not_ask),
      RIG_TEST(test_cookie_bytes),
      RIG_TEST(test_one_byte),
      RIG_TEST(test_no_window),
      RIG_TEST(test_room),
      RIG_TEST(test_room_without_mss),
      RIG_TEST(test_an_hour),
      RIG_TEST(test_whose_cookie),
      RIG_TEST(test_cookie_without_room),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
