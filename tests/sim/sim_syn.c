/*
 * SYNs in a crowd: cookies between whole engines, also across the death of the one that sent them; a flood from
 * addresses that do not exist beside a flow that does; accept queues of Linux's length and what happens beyond; the
 * rate per source.
 */
#include "engine_rig.h"
#include "test.h"
#include "wire/cksum.h"

#include <stdlib.h>
#include <string.h>

static struct rig r;

static uint64_t count(int host, enum engine_counter c) {
  return r.host[host].counters[c];
}

static uint64_t tcp_count(int host, enum tcp_counter c) {
  return r.host[host].counters[EC_N + c];
}

static void open_server(uint64_t seed, uint32_t backlog) {
  rig_open(&r, seed);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  struct abi_listen_entry *le = seg_at(&r.host[1].policy, 4096, sizeof *le);
  le->gen += 1;
  le->backlog = backlog;
  le->gen += 1;
  (void)listen_refresh(&r.host[1].w);
}

static struct tcp_config *server(void) {
  return &r.host[1].w.tcp.cfg;
}

static const struct listener *listener(void) {
  return &r.host[1].w.listeners.l[0];
}

/* A SYN that nobody sent, onto the wire to host 1. */
static void forge(uint8_t last, uint16_t port) {
  static const uint8_t eth[14] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
  struct rig_host *h = &r.host[1];
  uint8_t *b = calloc(1, 80);
  memcpy(b, eth, sizeof eth);
  uint8_t *ip = b + 14;
  struct tcp_hdr t = {.sport = port, .dport = 80, .seq = port * 77777u, .flags = TCP_SYN, .wnd = 1000};
  t.opts.present = TCP_OPT_HAS_MSS;
  t.opts.mss = 1460;
  int n = tcp_hdr_build(ip + 20, 60, &t);
  assert_true(n > 0);
  static const uint8_t head[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 0, 10, 0, 0, 2};
  memcpy(ip, head, sizeof head);
  ip[3] = (uint8_t)(20 + n);
  ip[15] = last;
  cksum_store(ip + 10, cksum_fold(cksum_add(0, ip, 20)));
  h->wire[h->wire_tail++ % RIG_WIRE] =
      (struct rig_frame){.bytes = b, .len = (uint32_t)(34 + n), .flags = ABI_FR_CSUM_OK, .due = rig_now()};
}

static void talk(struct rig_sess *a, struct rig_sess *b, const char *what) {
  char buf[64] = "";
  uint32_t got = 0, len = (uint32_t)strlen(what);
  assert_int_equal(rig_write(a, what, len), len);
  for (int i = 0; i < 20000 && got < len; i++) {
    got += rig_read(b, buf + got, len - got);
    rig_step(&r, 100);
  }
  assert_string_equal(buf, what);
}

static void test_cookie_connects(void **state) {
  (void)state;
  struct rig_sess c, s;
  open_server(1, 8);
  server()->syncookies = 2;
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  assert_int_equal(tcp_count(1, TCP_C_cookies_sent), 1);
  assert_int_equal(tcp_count(1, TCP_C_cookies_ok), 1);
  const struct abi_tcb *d = &r.host[1].w.tcbs.tcb[s.e->tcb];
  assert_int_equal(d->nego & (ABI_TCB_SACK | ABI_TCB_TS | ABI_TCB_WSCALE), ABI_TCB_SACK | ABI_TCB_TS | ABI_TCB_WSCALE);
  assert_int_equal(d->mss, 1460);
  talk(&c, &s, "there");
  talk(&s, &c, "and back");
  assert_int_equal(r.host[1].w.n_half_open, 0);
  rig_close(&r);
}

/* The engine that sent the cookie dies before the ACK comes; its keys do not. */
static void test_cookie_outlives_engine(void **state) {
  (void)state;
  struct rig_sess c, s;
  open_server(2, 8);
  rig_connect(&r.host[0], &c, 1, 1, 80, 4); /* neighbours get known */
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  rig_turns(&r, 20);
  server()->syncookies = 2;
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  for (int i = 0; i < 1000 && tcp_count(1, TCP_C_cookies_sent) == 0; i++)
    rig_step(&r, 100);
  assert_int_equal(r.host[1].w.sessions.n_used, 1);
  rig_engine_kill(&r.host[1]);
  rig_turns(&r, 20);
  rig_engine_start(&r.host[1]);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  talk(&c, &s, "there");
  talk(&s, &c, "and back");
  assert_int_equal(tcp_count(1, TCP_C_cookies_ok), 1);
  rig_close(&r);
}

/* 300 SYNs of strangers: the backlog fills, then cookies; who is there already, or comes honestly, is served. */
static void test_flood(void **state) {
  (void)state;
  struct rig_sess c, s, c2, s2;
  open_server(3, 8);
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  for (uint16_t i = 0; i < 300; i++) {
    forge((uint8_t)(100 + i % 50), (uint16_t)(2000 + i));
    if (i % 20 == 0)
      rig_turns(&r, 1);
  }
  rig_turns(&r, 20);
  assert_int_equal(listener()->half, 8);
  assert_int_equal(listener()->pending, 8);
  assert_int_equal(r.host[1].w.n_half_open, 8);
  assert_int_equal(tcp_count(1, TCP_C_cookies_sent), 292);
  talk(&c, &s, "unharmed");
  talk(&s, &c, "both ways");
  rig_connect(&r.host[0], &c2, 1, 1, 80, 4);
  rig_until(&r, &c2, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s2);
  talk(&c2, &s2, "came in by a cookie");
  assert_int_equal(tcp_count(1, TCP_C_cookies_ok), 1);
  r.host[1].w.tcp.cfg.synack_retries = 1;
  for (int i = 0; i < 100; i++) /* the strangers never answer */
    rig_step(&r, 100000);
  assert_int_equal(listener()->half, 0);
  assert_int_equal(r.host[1].w.n_half_open, 0);
  rig_close(&r);
}

static void test_flood_without_cookies(void **state) {
  (void)state;
  open_server(4, 8);
  server()->syncookies = 0;
  for (uint16_t i = 0; i < 30; i++)
    forge(100, (uint16_t)(2000 + i));
  rig_turns(&r, 20);
  assert_int_equal(count(1, EC_SYN_BACKLOG), 22);
  assert_int_equal(tcp_count(1, TCP_C_cookies_sent), 0);
  rig_close(&r);
}

static void test_half_open_limit_of_all(void **state) {
  (void)state;
  open_server(5, 100);
  server()->half_open_max = 5;
  for (uint16_t i = 0; i < 20; i++)
    forge(100, (uint16_t)(2000 + i));
  rig_turns(&r, 20);
  assert_int_equal(r.host[1].w.n_half_open, 5);
  assert_int_equal(tcp_count(1, TCP_C_cookies_sent), 15);
  rig_close(&r);
}

static void test_rate_per_source(void **state) {
  (void)state;
  open_server(6, 1000);
  server()->syn_rate = 10;
  for (uint16_t i = 0; i < 40; i++)
    forge(100, (uint16_t)(2000 + i));
  forge(101, 2000); /* somebody else */
  rig_turns(&r, 20);
  assert_int_equal(count(1, EC_SYN_RATE), 29); /* a second's worth at once, and the one that fills it */
  assert_int_equal(r.host[1].w.n_half_open, 12);
  for (int i = 0; i < 10; i++)
    rig_step(&r, 100000); /* a second: ten more */
  for (uint16_t i = 0; i < 20; i++)
    forge(100, (uint16_t)(3000 + i));
  rig_turns(&r, 20);
  assert_int_equal(count(1, EC_SYN_RATE), 39);
  rig_close(&r);
}

/* backlog 2: three wait to be accepted, as on Linux; the next SYN is dropped, and served when there is room. */
static void test_accept_queue(void **state) {
  (void)state;
  static struct rig_sess c[5], s[5];
  open_server(7, 2);
  for (uint32_t i = 0; i < 3; i++) {
    rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
    rig_until(&r, &c[i], ABI_SESS_READY);
    rig_turns(&r, 20);
  }
  assert_int_equal(listen_ready(listener()), 3);
  rig_connect(&r.host[0], &c[3], 3, 1, 80, 4);
  rig_turns(&r, 2000);
  assert_int_equal(rig_state(&c[3]), ABI_SESS_CONNECTING);
  assert_int_equal(count(1, EC_SYN_ACCEPT_FULL), 1);
  rig_accept_at(&r, 0, &s[0]);
  rig_until(&r, &c[3], ABI_SESS_READY);
  for (uint32_t i = 1; i < 4; i++)
    rig_accept_at(&r, 0, &s[i]);
  rig_turns(&r, 20);
  assert_int_equal(listener()->pending, 0);
  rig_close(&r);
}

/* Six at once for a backlog of 2: three get in; the ACKs of the others count as lost, nobody is reset, and they come in
 * as room is made. */
static void overflow(uint8_t reset) {
  static struct rig_sess c[6], s[6];
  open_server(8, 2);
  server()->abort_on_overflow = reset;
  struct rig_sess first;
  rig_connect(&r.host[0], &first, 10, 1, 80, 4); /* neighbours get known */
  rig_until(&r, &first, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s[0]);
  for (uint32_t i = 0; i < 6; i++)
    rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
  rig_turns(&r, 100);
  assert_int_equal(listen_ready(listener()), 3);
  assert_true(count(1, EC_ACCEPT_OVERFLOW) >= 3);
  uint32_t alive = 0;
  for (uint32_t i = 0; i < 6; i++)
    alive += rig_state(&c[i]) == ABI_SESS_READY;
  assert_int_equal(alive, reset ? 3 : 6);
  for (uint32_t i = 0; i < 6; i++)
    if (rig_state(&c[i]) == ABI_SESS_READY)
      assert_int_equal(rig_write(&c[i], "x", 1), 1);
  for (uint32_t i = 0; i < alive; i++)
    rig_accept_at(&r, 0, &s[i]);
  char b[2];
  for (uint32_t i = 0; i < alive; i++) {
    int turns = 0;
    while (rig_read(&s[i], b, 1) == 0 && turns++ < 60000)
      rig_step(&r, 100);
    assert_true(turns < 60000);
  }
  rig_close(&r);
}

static void test_overflow_drops_the_ack(void **state) {
  (void)state;
  overflow(0);
}

static void test_overflow_resets(void **state) {
  (void)state;
  overflow(1);
}

/* Five at once for a backlog of 2, by cookies in part, and none of them has anything to say: all come in as room is
 * made. */
static void test_overflow_of_the_silent(void **state) {
  (void)state;
  static struct rig_sess c[5], s[6];
  struct rig_sess first;
  open_server(11, 2);
  rig_connect(&r.host[0], &first, 10, 1, 80, 4); /* neighbours get known */
  rig_until(&r, &first, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s[5]);
  for (uint32_t i = 0; i < 5; i++)
    rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
  rig_turns(&r, 100);
  assert_true(tcp_count(1, TCP_C_cookies_sent) > 0);
  assert_int_equal(listen_ready(listener()), 3);
  assert_int_equal(listen_half(listener()), 2);
  for (uint32_t i = 0; i < 5; i++) {
    assert_int_equal(rig_state(&c[i]), ABI_SESS_READY);
    rig_accept_at(&r, 0, &s[i]);
  }
  assert_int_equal(listen_half(listener()), 0);
  rig_close(&r);
}

/* Half-open connections are counted anew by a successor. */
static void test_counts_adopted(void **state) {
  (void)state;
  open_server(9, 8);
  for (uint16_t i = 0; i < 5; i++)
    forge(100, (uint16_t)(2000 + i));
  rig_turns(&r, 20);
  assert_int_equal(listener()->half, 5);
  rig_engine_kill(&r.host[1]);
  rig_engine_start(&r.host[1]);
  assert_int_equal(listener()->half, 5);
  assert_int_equal(r.host[1].w.n_half_open, 5);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cookie_connects),
      cmocka_unit_test(test_cookie_outlives_engine),
      cmocka_unit_test(test_flood),
      cmocka_unit_test(test_flood_without_cookies),
      cmocka_unit_test(test_half_open_limit_of_all),
      cmocka_unit_test(test_rate_per_source),
      cmocka_unit_test(test_accept_queue),
      cmocka_unit_test(test_overflow_drops_the_ack),
      cmocka_unit_test(test_overflow_resets),
      cmocka_unit_test(test_overflow_of_the_silent),
      cmocka_unit_test(test_counts_adopted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
