/*
 * The life of a session, stage by stage, with two whole engines: a half-open connect is cancelled, a connect refused; a
 * reset comes at every stage; what was unsent at close arrives; linger 0; the peer is through before accept. The rig
 * holds every change of a record against the table of session/life.c.
 */
#include "base/fault.h"
#include "engine_rig.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static struct rig r;

/* Until nothing of any session is left on this host but what the app still holds. */
static void until_gone(int host) {
  for (int i = 0; i < 100000 && pool_used(&r.host[host].w.sessions) != 0; i++)
    rig_step(&r, 100);
  assert_int_equal(pool_used(&r.host[host].w.sessions), 0);
}

static void meet(struct rig_sess *c, struct rig_sess *s) {
  rig_meet(&r, 11, c);
  rig_accept_at(&r, 0, s);
  rig_until(&r, c, ABI_SESS_READY);
  rig_until(&r, s, ABI_SESS_READY);
}

static void expect_reset(struct rig_sess *s, int err) {
  rig_until(&r, s, ABI_SESS_CLOSED);
  assert_int_equal(s->e->error, err);
  assert_int_equal((s->e->flags & ABI_SE_RESET) != 0, err == ECONNRESET);
  rig_want(s, ABI_WANT_CLOSE);
}

static void test_cancelled(void **state) {
  (void)state;
  struct rig_sess c;
  rig_open(&r, 11);
  rig_turns(&r, 2);
  r.loss = 1.0;
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_CONNECTING);
  rig_want(&c, ABI_WANT_CLOSE);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  assert_int_equal(c.e->error, 0);
  until_gone(0);
  rig_close(&r);
}

static void test_refused(void **state) {
  (void)state;
  struct rig_sess c;
  rig_open(&r, 11);
  rig_turns(&r, 2);
  rig_connect(&r.host[0], &c, 0, 1, 81, 4);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  assert_int_equal(c.e->error, ECONNREFUSED);
  rig_want(&c, ABI_WANT_CLOSE);
  until_gone(0);
  rig_close(&r);
}

/* What an app does between two loads of the engine's look at a slot that it has just let go of. */
static void next_life(const char *name, void *ctx) {
  (void)name;
  struct rig_sess *c = ctx;
  fault_disarm();
  rig_connect(&r.host[0], c, 0, 3, 80, 4);
}

/* A look that begins in one life of a slot and ends in the next one begins nothing under the old generation. */
static void test_next_life_under_look(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip();
#endif
  struct rig_sess c;
  rig_open(&r, 11);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  rig_connect(&r.host[0], &c, 0, 1, 81, 4);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  rig_want(&c, ABI_WANT_CLOSE);
  until_gone(0);
  __atomic_store_n(&c.a->op, (uint32_t)ABI_OP_NONE, __ATOMIC_RELEASE);
  __atomic_store_n(&c.a->gen, 2u, __ATOMIC_RELEASE);
  rig_hint(&r.host[0], 0);
  fault_set_hook(next_life, &c);
  assert_int_equal(fault_arm("session.look", 1, FAULT_HOOK), 0);
  rig_turns(&r, 2);
  assert_int_equal(c.gen, 3); /* the hook has run */
  rig_until(&r, &c, ABI_SESS_READY);
  assert_null(r.host[0].lied);
  rig_close(&r);
}

/* Reset between SYN and the last ACK of the handshake: the listener's app never hears of it, nothing of it is left. */
static void test_reset_half_open(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_open(&r, 11);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  for (int i = 0; i < 1000 && r.host[1].w.n_half_open == 0; i++)
    rig_step(&r, 10);
  assert_int_equal(r.host[1].w.n_half_open, 1);
  assert_int_equal(rig_state(&c), ABI_SESS_CONNECTING); /* the SYN-ACK is on its way, and will meet nobody */
  rig_want(&c, ABI_WANT_CLOSE);
  until_gone(1);
  until_gone(0);
  assert_int_equal(r.host[1].w.n_half_open, 0);
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 0);
  rig_close(&r);
}

/* Reset after the app has closed, with bytes that were never sent: the orphan ends at once, not by its time-outs. */
static void test_reset_closed(void **state) {
  (void)state;
  static uint8_t out[60000];
  struct rig_sess c, s;
  meet(&c, &s);
  r.loss = 1.0;
  assert_int_equal(rig_write(&c, out, sizeof out), sizeof out);
  rig_want(&c, ABI_WANT_CLOSE);
  rig_turns(&r, 20);
  assert_int_equal(pool_used(&r.host[0].w.sessions), 1);
  r.loss = 0;
  usec_t from = rig_now();
  rig_want(&s, ABI_WANT_ABORT);
  until_gone(0);
  assert_true(rig_now() - from < 100 * 1000); /* before the first retransmission */
  until_gone(1);
  rig_close(&r);
}

/* Reset while it waits for accept: the app may still take it, and finds it over. */
static void test_reset_offered(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_meet(&r, 11, &c);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_turns(&r, 20);
  rig_want(&c, ABI_WANT_ABORT);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  rig_turns(&r, 20);
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 0); /* withdrawn with the connection: nothing to take */
  until_gone(1);
  rig_close(&r);
}

static void test_reset_ready(void **state) {
  (void)state;
  struct rig_sess c, s;
  meet(&c, &s);
  rig_want(&c, ABI_WANT_ABORT);
  expect_reset(&s, ECONNRESET);
  until_gone(0);
  until_gone(1);
  rig_close(&r);
}

/* Both ways half closed: the one whose FIN has gone, and the one who has got it. */
static void test_reset_half_closed(void **state) {
  (void)state;
  for (int who = 0; who < 2; who++) {
    struct rig_sess c, s;
    meet(&c, &s);
    rig_want(&c, ABI_WANT_SHUT_WR);
    for (int i = 0; i < 1000 && !rig_eof(&s); i++)
      rig_step(&r, 100);
    assert_true(rig_eof(&s));
    rig_want(who ? &s : &c, ABI_WANT_ABORT);
    expect_reset(who ? &c : &s, who ? ECONNRESET : EPIPE); /* as Linux in CLOSE_WAIT */
    until_gone(0);
    until_gone(1);
    rig_close(&r);
  }
}

/* close() with bytes unsent: they go first, then the FIN; the record lives until then. */
static void test_unsent(void **state) {
  (void)state;
  static uint8_t out[60000], in[60000];
  struct rig_sess c, s;
  meet(&c, &s);
  for (uint32_t i = 0; i < sizeof out; i++)
    out[i] = (uint8_t)(i * 7 + (i >> 8));
  assert_int_equal(rig_write(&c, out, sizeof out), sizeof out);
  rig_want(&c, ABI_WANT_CLOSE);
  uint32_t n = 0;
  for (int i = 0; i < 20000 && !(n == sizeof in && rig_eof(&s)); i++) {
    n += rig_read(&s, in + n, (uint32_t)sizeof in - n);
    rig_step(&r, 100);
  }
  assert_int_equal(n, sizeof in);
  assert_memory_equal(in, out, sizeof in);
  assert_int_equal(s.e->error, 0);
  rig_want(&s, ABI_WANT_CLOSE);
  until_gone(1);
  rig_close(&r);
}

static void test_linger_zero(void **state) {
  (void)state;
  static uint8_t out[60000];
  struct rig_sess c, s;
  meet(&c, &s);
  c.a->opt.flags = ABI_OPT_LINGER;
  c.a->opt.linger_s = 0;
  __atomic_store_n(&c.a->opt_gen, 2, __ATOMIC_RELEASE);
  assert_int_equal(rig_write(&c, out, sizeof out), sizeof out);
  rig_want(&c, ABI_WANT_CLOSE);
  expect_reset(&s, ECONNRESET);
  until_gone(0);
  until_gone(1);
  rig_close(&r);
}

/* The client has written and closed before anybody accepts: all of it can be read, then the end. */
static void test_over_before_accept(void **state) {
  (void)state;
  struct rig_sess c, s;
  char in[8];
  rig_meet(&r, 11, &c);
  rig_until(&r, &c, ABI_SESS_READY);
  assert_int_equal(rig_write(&c, "hello", 5), 5);
  rig_want(&c, ABI_WANT_CLOSE);
  rig_turns(&r, 2000);
  rig_accept_at(&r, 0, &s);
  rig_until(&r, &s, ABI_SESS_READY);
  assert_int_equal(rig_read(&s, in, sizeof in), 5);
  assert_memory_equal(in, "hello", 5);
  assert_true(rig_eof(&s));
  rig_want(&s, ABI_WANT_CLOSE);
  until_gone(1);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cancelled),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_reset_half_open),
      cmocka_unit_test(test_reset_offered),
      cmocka_unit_test(test_reset_ready),
      cmocka_unit_test(test_reset_half_closed),
      cmocka_unit_test(test_reset_closed),
      cmocka_unit_test(test_unsent),
      cmocka_unit_test(test_linger_zero),
      cmocka_unit_test(test_over_before_accept),
      cmocka_unit_test(test_next_life_under_look),
  };
  return cmocka_run_group_tests_name("session life", tests, NULL, NULL);
}
