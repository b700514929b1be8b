/*
 * Fast Open between whole engines: the second connect brings its request on the SYN and has the answer a round trip
 * later; limits; and the server's engine dying at every step of it.
 */
#include "base/fault.h"
#include "engine_rig.h"
#include "session/tunables.h"
#include "test.h"

#include <setjmp.h>
#include <string.h>

static struct rig r;

static void run(int turns) {
  for (int i = 0; i < turns; i++)
    rig_step(&r, 100);
}

static void until_state(struct rig_sess *s, uint32_t state) {
  for (int i = 0; i < 60000 && rig_state(s) != state; i++)
    rig_step(&r, 100);
  assert_int_equal(rig_state(s), state);
}

static void accept_one(struct rig_sess *s) {
  for (int i = 0; i < 60000; i++) {
    if (rig_accept(&r.host[1], 0, s))
      return;
    rig_step(&r, 100);
  }
  fail_msg("nothing was offered");
}

static void expect(struct rig_sess *s, const char *what) {
  char buf[64] = "";
  uint32_t got = 0, len = (uint32_t)strlen(what);
  for (int i = 0; i < 60000 && got < len; i++) {
    got += rig_read(s, buf + got, len - got);
    rig_step(&r, 100);
  }
  assert_string_equal(buf, what);
}

static uint64_t tcp_count(int host, enum tcp_counter c) {
  return r.host[host].counters[EC_N + c];
}

/* A server with TCP_FASTOPEN = qlen, and a client that has its cookie. */
static void open_pair(uint64_t seed, uint32_t qlen) {
  struct rig_sess c, s;
  rig_open(&r, seed);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  worker_view_app(&r.host[1].view, 0)->opt.fastopen = qlen;
  run(2);
  rig_connect_fast(&r.host[0], &c, 0, 80, "first", 5);
  until_state(&c, ABI_SESS_READY);
  accept_one(&s);
  expect(&s, "first");
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 0);
}

static void test_request_on_the_syn(void **state) {
  (void)state;
  struct rig_sess c, s;
  open_pair(1, 8);
  usec_t began = rig_now();
  rig_connect_fast(&r.host[0], &c, 1, 80, "request", 7);
  for (int i = 0; i < 100 && !rig_accept(&r.host[1], 0, &s); i++)
    rig_step(&r, 50);
  assert_true(rig_now() - began < 600); /* the wire takes 200 µs one way: no third segment was waited for */
  char buf[16] = "";
  assert_int_equal(rig_read(&s, buf, sizeof buf), 7);
  assert_string_equal(buf, "request");
  assert_int_equal(rig_write(&s, "answer", 6), 6);
  expect(&c, "answer");
  assert_int_equal(rig_state(&c), ABI_SESS_READY);
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 1);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), 1);
  run(20);
  assert_int_equal(*r.host[1].w.listeners.n_fast, 0);
  assert_int_equal(rig_write(&c, "more", 4), 4);
  expect(&s, "more");
  rig_close(&r);
}

static void test_limit(void **state) {
  (void)state;
  struct rig_sess c[2], s;
  open_pair(2, 1);
  *r.host[1].w.listeners.n_fast = 1; /* one is pending for ever */
  rig_connect_fast(&r.host[0], &c[0], 1, 80, "request", 7);
  until_state(&c[0], ABI_SESS_READY);
  accept_one(&s);
  expect(&s, "request"); /* by the usual way */
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 1);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), 0);
  rig_close(&r);
}

/* A client that goes away in the middle of a Fast Open: its engine answers the SYN-ACK by RST. */
static void ask_and_leave(uint32_t slot) {
  struct rig_sess c;
  uint64_t before = tcp_count(1, TCP_C_fastopen_in), out = tcp_count(0, TCP_C_fastopen_out);
  rig_connect_fast(&r.host[0], &c, slot, 80, "request", 7);
  for (int i = 0; i < 1000 && tcp_count(0, TCP_C_fastopen_out) == out; i++)
    rig_step(&r, 10);
  rig_want(&c, ABI_WANT_CLOSE);
  run(40);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), before + 1);
}

/* RFC 7413 5.1: a request that was reset keeps its place for a minute, and no longer; not for another listener. */
static void test_reset_keeps_place(void **state) {
  (void)state;
  struct rig_sess c;
  open_pair(7, 2);
  const uint32_t *pending = r.host[1].w.listeners.n_fast;
  ask_and_leave(1);
  assert_int_equal(*pending, 1);
  ask_and_leave(2);
  assert_int_equal(*pending, 2);
  assert_int_equal(r.host[1].counters[EC_FAST_HELD], 2);
  rig_connect_fast(&r.host[0], &c, 3, 80, "request", 7); /* by the usual way */
  until_state(&c, ABI_SESS_READY);
  run(20);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), 2);
  assert_int_equal(*pending, 2);
  rig_step(&r, 59000000);
  assert_int_equal(*pending, 2);
  rig_step(&r, 2000000);
  assert_int_equal(*pending, 0);
  ask_and_leave(4);
  assert_int_equal(*pending, 1);
  fast_forget(&r.host[1].w, 1);
  assert_int_equal(*pending, 1);
  fast_forget(&r.host[1].w, 0);
  assert_int_equal(*pending, 0);
  rig_step(&r, 61000000); /* given back once */
  assert_int_equal(*pending, 0);
  rig_close(&r);
}

/* As many as are remembered: the oldest gives way, and each place is given back once. */
static void test_many_resets(void **state) {
  (void)state;
  open_pair(8, 2 * FAST_HELD);
  const uint32_t *pending = r.host[1].w.listeners.n_fast;
  struct fast_gate *g = &r.host[1].w.fast;
  ask_and_leave(1);
  while (g->n < FAST_HELD) { /* by hand: others like it */
    g->held[(g->first + g->n) % FAST_HELD] = g->held[g->first];
    g->n++;
    r.host[1].w.listeners.n_fast[0]++;
  }
  ask_and_leave(2);
  assert_int_equal(*pending, FAST_HELD);
  assert_int_equal(g->n, FAST_HELD);
  rig_step(&r, 61000000);
  assert_int_equal(*pending, 0);
  assert_int_equal(g->n, 0);
  rig_close(&r);
}

/* TCP_FASTOPEN_KEY of a listener: cookies are its key's, and when another one comes, both for a while. */
static void test_own_key(void **state) {
  (void)state;
  static const uint8_t own[32] = "mine, mine, mine the elder, mine", next[16] = "the next one";
  struct rig_sess c, s;
  open_pair(4, 8); /* the client has a cookie of the configured key */
  struct abi_sess_app *l = worker_view_app(&r.host[1].view, 0);
  memcpy(l->fastopen_key, own, sizeof own);
  l->opt.flags |= ABI_OPT_TFO_KEY;
  for (uint32_t i = 0; i < 4; i++) {
    if (i == 2) { /* the next key; the old one behind it */
      memcpy(l->fastopen_key + 16, l->fastopen_key, 16);
      memcpy(l->fastopen_key, next, sizeof next);
      l->opt.flags |= ABI_OPT_TFO_ALT;
    }
    rig_connect_fast(&r.host[0], &c, 1 + i, 80, "request", 7);
    until_state(&c, ABI_SESS_READY);
    accept_one(&s);
    expect(&s, "request");
    assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 1 + i);
    assert_int_equal(tcp_count(1, TCP_C_fastopen_in), i); /* all but the first, whose cookie is no good any more */
  }
  l->opt.flags &= ~ABI_OPT_TFO_ALT; /* the last one brought the new key's cookie */
  rig_connect_fast(&r.host[0], &c, 5, 80, "request", 7);
  until_state(&c, ABI_SESS_READY);
  accept_one(&s);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), 4);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_bad), 1);
  rig_close(&r);
}

/* A client connects once more; `fast` requests have then been taken with their SYNs. */
static void ask_again(uint32_t slot, uint64_t fast) {
  struct rig_sess c, s;
  rig_connect_fast(&r.host[0], &c, slot, 80, "request", 7);
  until_state(&c, ABI_SESS_READY);
  accept_one(&s);
  expect(&s, "request");
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), fast);
}

static void set_keys(const char *text) {
  uint8_t key[32] = {0};
  int n = config_fastopen_keys(text, key);
  assert_true(n > 0);
  tunables_set_keys(&r.host[1].w.tcbs.block->tune, key, (uint32_t)n);
  tunables_apply(&r.host[1].w);
}

/* hsctl set tcp fastopen-key NEW,FORMER (RFC 7413 4.1.2): no client loses a round trip by the change, also when the
 * engine dies meanwhile, and each has the new key's cookie afterwards. */
static void test_key_changes(void **state) {
  (void)state;
  static const char one[] = "11111111111111111111111111111111", two[] = "22222222222222222222222222222222";
  open_pair(6, 8);
  set_keys(one);
  ask_again(1, 0); /* the drawn key's cookie: of no use, and another one is given */
  ask_again(2, 1);
  set_keys("22222222222222222222222222222222,11111111111111111111111111111111");
  rig_engine_kill(&r.host[1]);
  rig_engine_start(&r.host[1]);
  uint64_t before = tcp_count(1, TCP_C_fastopen_in), bad = tcp_count(1, TCP_C_fastopen_bad);
  ask_again(3, before + 1);
  set_keys(two); /* the change is over */
  ask_again(4, before + 2);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_bad), bad);
  set_keys(one); /* not announced as a change */
  ask_again(5, before + 2);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_bad), bad + 1);
  rig_close(&r);
}

/* TCP_FASTOPEN_NO_COOKIE on both sides: the first SYN of all carries data. */
static void test_no_cookie(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_open(&r, 5);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  worker_view_app(&r.host[1].view, 0)->opt.fastopen = 8;
  worker_view_app(&r.host[1].view, 0)->opt.flags = ABI_OPT_TFO_BARE;
  run(2);
  rig_connect_fast(&r.host[0], &c, 0, 80, "ask", 3); /* asks for a cookie */
  until_state(&c, ABI_SESS_READY);
  accept_one(&s);
  expect(&s, "ask");
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 0);
  rig_connect_with(&r.host[0], &c, 1, 80, "request", 7, ABI_OPT_FASTOPEN | ABI_OPT_TFO_BARE);
  until_state(&c, ABI_SESS_READY);
  accept_one(&s);
  expect(&s, "request");
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 1);
  assert_int_equal(tcp_count(1, TCP_C_fastopen_in), 1);
  rig_close(&r);
}

static void test_listener_without(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_open(&r, 3);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  run(2);
  for (uint32_t i = 0; i < 2; i++) {
    rig_connect_fast(&r.host[0], &c, i, 80, "request", 7);
    until_state(&c, ABI_SESS_READY);
    accept_one(&s);
    expect(&s, "request");
  }
  assert_int_equal(tcp_count(0, TCP_C_fastopen_out), 0); /* no cookie was given */
  rig_close(&r);
}

static jmp_buf died;
static int armed, lives;
static void die_here(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  if (!armed || lives == 0)
    return;
  armed = 0;
  lives = 0;
  longjmp(died, 1);
}

/* One turn of everybody; host 1's engine may die in its own. */
static void step_mortal(void) {
  r.host[1].alive = 0;
  rig_step(&r, 100);
  r.host[1].alive = 1;
  if (setjmp(died) == 0) {
    armed = 1;
    (void)worker_turn(&r.host[1].w);
    armed = 0;
    return;
  }
  rig_engine_kill(&r.host[1]);
  rig_engine_start(&r.host[1]);
}

static void test_server_dies(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  static const char *const points[] = {"tcp.passive.durable", "session.clear",          "session.offer.record",
                                       "session.offer.owner", "session.offer.state",    "tcp.tfo.offered",
                                       "tcp.tfo.placed",      "tcp.tfo.published",      "tcp.output.syn_sent",
                                       "tcp.open.offered",    "tcp.open.accept_stored", "tcp.open.established"};
  for (volatile size_t i = 0; i < sizeof points / sizeof *points; i++) {
    static struct rig_sess c, s;
    open_pair(10 + i, 8);
    run(20);
    rig_connect_fast(&r.host[0], &c, 1, 80, "request", 7);
    fault_set_hook(die_here, NULL);
    lives = 1;
    assert_int_equal(fault_arm(points[i], 1, FAULT_HOOK), 0);
    volatile int got = 0;
    for (volatile int k = 0; k < 60000 && !got; k++) {
      step_mortal();
      got = rig_accept(&r.host[1], 0, &s);
    }
    if (!got)
      fail_msg("%s: nothing was offered", points[i]);
    for (volatile int k = 0; k < 20; k++)
      step_mortal();
    fault_disarm();
    if (lives)
      fail_msg("%s was never passed", points[i]);
    expect(&s, "request");
    assert_int_equal(rig_write(&s, "answer", 6), 6);
    expect(&c, "answer");
    until_state(&c, ABI_SESS_READY);
    assert_int_equal(c.e->error, 0);
    assert_int_equal(s.e->error, 0);
    rig_close(&r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_request_on_the_syn),
      cmocka_unit_test(test_limit),
      cmocka_unit_test(test_reset_keeps_place),
      cmocka_unit_test(test_many_resets),
      cmocka_unit_test(test_own_key),
      cmocka_unit_test(test_key_changes),
      cmocka_unit_test(test_no_cookie),
      cmocka_unit_test(test_listener_without),
      cmocka_unit_test(test_server_dies),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
