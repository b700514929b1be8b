/*
 * Cut-through for datagrams of sessions that are not connected, between two workers (roam.c): the first one goes over a
 * branch, answers come back by it; who stays with the engine; order when the way changes; how many branches; rules.
 */
#include "cut_dgram.h"

#include "base/clock.h"
#include "vcl_cut.h"

#include <arpa/inet.h>

/** What comes next at h, which is worker's; the engine's take their time. */
static void hears(int worker, uint32_t h, const char *text) {
  char buf[32];
  cut_as(worker);
  assert_true((rig_wait(h, POLLIN) & POLLIN) != 0);
  int n = cut_take(h, buf, sizeof buf, NULL);
  assert_int_equal(n, strlen(text));
  assert_memory_equal(buf, text, strlen(text));
}

static void say(int worker, uint32_t h, uint16_t to, const char *text) {
  cut_as(worker);
  assert_int_equal(cut_say(h, to, text), strlen(text));
}

static int asked(struct cut_rig *r) {
  return fake_count(&r->rig.fake, &r->rig.fake.n_pair_asked);
}

static struct cut_state *cut_of(int worker) {
  assert_non_null(app_state.workers[worker]->cut);
  return app_state.workers[worker]->cut;
}

/** As if everything were long ago: what went through the engine, questions, refusals. */
static void time_passes(struct cut_rig *r, int worker) {
  struct cut_state *c = cut_of(worker);
  fake_run(&r->rig.fake);
  memset(c->by_engine, 0, sizeof c->by_engine);
  c->roam_after = 0;
  for (uint32_t i = 0; i < CUT_DESTS; i++)
    c->dest[i].until = c->dest[i].quiet = 0;
  for (uint32_t i = pool_next(&app_state.workers[worker]->sessions, 0); i != POOL_NONE;
       i = pool_next(&app_state.workers[worker]->sessions, i + 1)) {
    struct session *s = pool_ref(&app_state.workers[worker]->sessions, i);
    if (s->kind == SESSION_BRANCH) {
      s->cut->until = 1;
      s->cut->used = s->cut->used != 0;
    }
  }
}

/** As if no time passed since it sent through the engine, or was refused; whatever the machine does meanwhile. */
static void no_time_passes(int worker) {
  struct cut_state *c = cut_of(worker);
  usec_t later = clock_now_us() + 3600 * CLOCK_US_PER_S;
  for (uint32_t i = 0; i < CUT_ROAM; i++)
    c->by_engine[i] = c->by_engine[i] != 0 ? later : 0;
  for (uint32_t i = 0; i < CUT_DESTS; i++)
    c->dest[i].quiet = c->dest[i].quiet != 0 ? later : 0;
}

/** The pace of questions is no matter here. */
static void soon(int worker) {
  if (app_state.workers[worker]->cut != NULL)
    cut_of(worker)->roam_after = 0;
}

static void test_there_and_back(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint16_t from, again;
  uint32_t s = cut_receiver(7800), c = cut_udp(0);
  say(0, c, 7800, "one");
  say(0, c, 7800, "two");
  cut_as(1);
  assert_int_equal(cut_take(s, buf, sizeof buf, &from), 3);
  assert_memory_equal(buf, "one", 3);
  assert_int_equal(cut_take(s, buf, sizeof buf, &again), 3);
  assert_int_equal(from, again);
  say(1, s, from, "answer");
  cut_as(0);
  assert_int_equal(cut_take(c, buf, sizeof buf, &from), 6);
  assert_int_equal(from, 7800);
  assert_int_equal(cut_by_engine(r), 0);
  assert_int_equal(cut_branches(0), 1);
  assert_int_equal(cut_branches(1), 1);
  assert_true(asked(r) >= 1); /* once a second */
  cut_done(r, c, s);
  assert_int_equal(cut_branches(0) + cut_branches(1), 0);
}

/* A bound sender; both have a receiver's port, and each may be first. */
static void test_both_bound(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint16_t from;
  uint32_t s = cut_receiver(7801), c = cut_udp_bound(0, 7802);
  assert_int_equal(cut_take(c, buf, 1, NULL), VPPCOM_EAGAIN);
  say(1, s, 7802, "from the one");
  say(0, c, 7801, "from the other");
  cut_as(1);
  assert_int_equal(cut_take(s, buf, sizeof buf, &from), 14);
  assert_int_equal(from, 7802);
  cut_as(0);
  assert_int_equal(cut_take(c, buf, sizeof buf, &from), 12);
  assert_int_equal(from, 7801);
  assert_int_equal(cut_by_engine(r), 0);
  cut_done(r, c, s);
  assert_int_equal(cut_branches(0) + cut_branches(1), 0);
}

/* Nobody waits there: the engine. What it brought is read before what comes over the branch that is made later. */
static void test_order(void **state) {
  struct cut_rig *r = *state;
  uint32_t s = cut_udp_bound(1, 7803), c = cut_udp(0);
  say(0, c, 7803, "first");
  say(0, c, 7803, "second");
  assert_int_equal(cut_by_engine(r), 2);
  hears(1, s, "first"); /* it waits from now on */
  soon(0);
  no_time_passes(0);
  say(0, c, 7803, "third"); /* shortly after others, which the engine may still have */
  assert_int_equal(cut_by_engine(r), 3);
  assert_int_equal(cut_branches(0), 0);
  time_passes(r, 0);
  say(0, c, 7803, "fourth");
  say(0, c, 7803, "fifth");
  assert_int_equal(cut_by_engine(r), 3);
  assert_int_equal(cut_branches(0), 1);
  hears(1, s, "second");
  hears(1, s, "third");
  hears(1, s, "fourth");
  hears(1, s, "fifth");
  cut_done(r, c, s);
}

/* A server that answered through the engine goes on so for a while: no answer overtakes another. */
static void test_answers_in_order(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint16_t from;
  uint32_t s = cut_udp_bound(1, 7804), c = cut_udp(0);
  say(0, c, 7804, "ask");
  assert_int_equal(cut_by_engine(r), 1);
  cut_as(1);
  assert_true((rig_wait(s, POLLIN) & POLLIN) != 0);
  assert_int_equal(cut_take(s, buf, sizeof buf, &from), 3);
  say(1, s, from, "one");
  no_time_passes(1);
  time_passes(r, 0);
  say(0, c, 7804, "ask");
  hears(1, s, "ask");
  assert_int_equal(cut_branches(1), 1);
  say(1, s, from, "two");
  assert_int_equal(cut_by_engine(r), 3);
  hears(0, c, "one");
  hears(0, c, "two");
  time_passes(r, 1);
  say(1, s, from, "three");
  assert_int_equal(cut_by_engine(r), 3);
  hears(0, c, "three");
  cut_done(r, c, s);
}

/* More receivers than a session may have branches: the others hear by the engine, until one is idle. */
static void test_bounded(void **state) {
  struct cut_rig *r = *state;
  enum { N = 20, MOST = 16 };
  uint32_t s[N], c = cut_udp(0);
  for (uint16_t i = 0; i < N; i++)
    s[i] = cut_receiver((uint16_t)(7810 + i));
  for (uint16_t i = 0; i < N; i++) {
    soon(0);
    say(0, c, (uint16_t)(7810 + i), "hello");
  }
  assert_int_equal(cut_branches(0), MOST);
  assert_int_equal(cut_by_engine(r), N - MOST);
  for (int i = 1; i < N; i++)
    hears(1, s[i], "hello");
  time_passes(r, 0);
  for (uint16_t i = 1; i < MOST; i++)
    say(0, c, (uint16_t)(7810 + i), "again"); /* that to s[0] is the oldest, but not read */
  say(0, c, 7810 + N - 1, "more");
  assert_int_equal(cut_by_engine(r), N - MOST + 1);
  hears(1, s[0], "hello");
  soon(0);
  memset(cut_of(0)->by_engine, 0, sizeof cut_of(0)->by_engine);
  say(0, c, 7810 + N - 1, "and more");
  assert_int_equal(cut_by_engine(r), N - MOST + 1);
  hears(1, s[N - 1], "more");
  hears(1, s[N - 1], "and more");
  cut_as(1);
  cut_as(0);
  assert_int_equal(cut_branches(0), MOST);
  cut_as(1);
  for (int i = 0; i < N - 1; i++)
    (void)vppcom_session_close(s[i]);
  cut_done(r, c, s[N - 1]);
}

/* Refused (its receiver is connected to somebody else): by the engine, and no other try for a while. */
static void test_refused(void **state) {
  struct cut_rig *r = *state;
  uint32_t s = cut_receiver(7840), c = cut_udp(0);
  cut_as(1);
  assert_int_equal(rig_connect(s, 9), 0);
  say(0, c, 7840, "unheard");
  (void)cut_branches(1);
  assert_int_equal(cut_branches(0), 0);
  assert_int_equal(cut_by_engine(r), 1);
  memset(cut_of(0)->by_engine, 0, sizeof cut_of(0)->by_engine);
  soon(0);
  no_time_passes(0);
  say(0, c, 7840, "unheard");
  assert_int_equal(cut_branches(0), 0);
  assert_int_equal(cut_by_engine(r), 2);
  cut_done(r, c, s);
}

/* The broker says no from now on (a rule): the branch is left as soon as it is asked about again. */
static void test_revoked(void **state) {
  struct cut_rig *r = *state;
  uint32_t s = cut_receiver(7841), c = cut_udp(0);
  say(0, c, 7841, "allowed");
  cut_allow(r, 0);
  say(0, c, 7841, "still so");
  assert_int_equal(cut_by_engine(r), 0);
  time_passes(r, 0);
  say(0, c, 7841, "no more");
  assert_int_equal(cut_by_engine(r), 1);
  hears(1, s, "allowed");
  hears(1, s, "still so");
  hears(1, s, "no more");
  (void)cut_branches(0);
  assert_int_equal(cut_branches(1), 0);
  assert_int_equal(cut_branches(0), 0);
  cut_done(r, c, s);
}

/* The broker is away: what is known goes on. */
static void test_broker_away(void **state) {
  struct cut_rig *r = *state;
  uint32_t s = cut_receiver(7842), c = cut_udp(0);
  say(0, c, 7842, "before");
  fake_broker_kill(&r->rig.fake);
  time_passes(r, 0);
  say(0, c, 7842, "while");
  assert_int_equal(cut_by_engine(r), 0);
  hears(1, s, "before");
  hears(1, s, "while");
  fake_broker_up(&r->rig.fake);
  cut_done(r, c, s);
}

/* connect() to there keeps the branch, to elsewhere leaves it. */
static void test_connects(void **state) {
  struct cut_rig *r = *state;
  uint32_t s = cut_receiver(7843), c = cut_udp(0);
  say(0, c, 7843, "not connected");
  assert_int_equal(rig_connect(c, 7843), 0);
  assert_int_equal(vppcom_session_write(c, "connected", 9), 9);
  assert_int_equal(cut_by_engine(r), 0);
  assert_int_equal(cut_branches(0), 1);
  hears(1, s, "not connected");
  hears(1, s, "connected");
  cut_as(0);
  assert_int_equal(rig_connect(c, 9), 0);
  (void)cut_branches(1);
  assert_int_equal(cut_branches(0), 0);
  cut_done(r, c, s);
}

/* Addresses that are not the stack's: the broker is asked once, to learn which are. */
static void test_elsewhere(void **state) {
  struct cut_rig *r = *state;
  uint32_t c = cut_udp(0), s = cut_receiver(7844);
  cut_as(0);
  for (uint8_t i = 0; i < 200; i++) {
    uint8_t ip[16] = {192, 0, 2, i};
    vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = ip, .port = htons(53)};
    soon(0);
    assert_int_equal(vppcom_session_sendto(c, (void *)(uintptr_t) "x", 1, 0, &ep), 1);
  }
  assert_in_range(asked(r), 1, 20); /* once in ten seconds */
  assert_int_equal(cut_by_engine(r), 200);
  assert_int_equal(cut_branches(0), 0);
  cut_done(r, c, s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, cut_rig_setup, cut_rig_teardown)
      T(test_there_and_back), T(test_both_bound), T(test_order),       T(test_answers_in_order), T(test_bounded),
      T(test_refused),        T(test_revoked),    T(test_broker_away), T(test_connects),         T(test_elsewhere),
#undef T
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
