/*
 * Cut-through for datagrams between two workers (branch.c): there and back without the engine, boundaries, a full fifo,
 * who leaves when, refusal, the way back through the engine, and a peer that lies.
 */
#include "cut_dgram.h"

#include "abi/dgram.h"
#include "abi/session.h"

/** What is on its way already: a worker hears of a new pair by its bell, a moment after the other side wrote. */
static int await(uint32_t h, char *buf, uint32_t n, uint16_t *from) {
  assert_int_equal(rig_wait(h, POLLIN) & POLLIN, POLLIN);
  return cut_take(h, buf, n, from);
}

static uint32_t sender(uint16_t port) {
  uint32_t h = cut_udp(0);
  assert_int_equal(rig_connect(h, port), 0);
  return h;
}

static void test_there_and_back(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint16_t from;
  uint32_t s = cut_receiver(7600), c = sender(7600);
  assert_int_equal(vppcom_session_write(c, "one", 3), 3);
  assert_int_equal(vppcom_session_write(c, "", 0), 0);
  assert_int_equal(vppcom_session_write(c, "three", 5), 5);
  cut_as(1);
  assert_int_equal(await(s, buf, 2, &from), 2); /* cut off */
  assert_memory_equal(buf, "on", 2);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 0);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 5);
  assert_memory_equal(buf, "three", 5);
  assert_int_equal(cut_take(s, buf, sizeof buf, NULL), VPPCOM_EAGAIN);
  assert_int_equal(cut_say(s, from, "answer"), 6);
  cut_as(0);
  assert_int_equal(await(c, buf, sizeof buf, &from), 6);
  assert_int_equal(from, 7600);
  assert_int_equal(cut_by_engine(r), 0);
  assert_int_equal(cut_branches(0), 1);
  assert_int_equal(cut_branches(1), 1);
  cut_done(r, c, s);
  assert_int_equal(cut_branches(0), 0);
  assert_int_equal(cut_branches(1), 0);
}

/* What finds no room is lost, the sender goes on, and the engine has no part in it. */
static void test_full(void **state) {
  struct cut_rig *r = *state;
  static char block[10000], got[10000];
  uint32_t s = cut_receiver(7601), c = sender(7601), n = 0, sent = 150;
  for (uint32_t i = 0; i < sent; i++) {
    memcpy(block, &i, sizeof i);
    assert_int_equal(vppcom_session_write(c, block, sizeof block), sizeof block);
  }
  cut_as(1);
  assert_int_equal(rig_wait(s, POLLIN) & POLLIN, POLLIN);
  while (cut_take(s, got, sizeof got, NULL) == (int)sizeof got) {
    assert_memory_equal(got, &n, sizeof n);
    n++;
  }
  assert_true(n >= 100 && n < sent);
  cut_as(0);
  assert_int_equal(vppcom_session_write(c, "again", 5), 5);
  cut_as(1);
  assert_int_equal(await(s, got, sizeof got, NULL), 5);
  assert_int_equal(cut_by_engine(r), 0);
  cut_done(r, c, s);
}

/* The receiver goes: what follows is the engine's to refuse. What the sender had sent before it went arrives. */
static void test_ends(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint32_t s = cut_receiver(7602), c = sender(7602);
  assert_int_equal(vppcom_session_write(c, "last", 4), 4);
  assert_int_equal(vppcom_session_close(c), 0);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 4);
  assert_int_equal(cut_take(s, buf, sizeof buf, NULL), VPPCOM_EAGAIN); /* who looks and finds nothing lets go */
  assert_int_equal(cut_branches(1), 0);
  assert_int_equal(cut_branches(0), 0);
  c = sender(7602);
  assert_int_equal(vppcom_session_write(c, "x", 1), 1);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 1);
  assert_int_equal(vppcom_session_close(s), 0);
  RIG_UNTIL(fake_live_sessions(&r->rig.fake) == 1); /* the engine lets go of the receiver */
  cut_as(0);
  assert_int_equal(vppcom_session_write(c, "y", 1), 1);
  assert_int_equal(cut_by_engine(r), 1);
  assert_int_equal(cut_take(c, buf, sizeof buf, NULL), VPPCOM_ECONNREFUSED);
  assert_int_equal(vppcom_session_close(c), 0);
  rig_settle(&r->rig);
}

/* To another one, and to nobody: the branch is left on both sides, what it held is read. */
static void test_elsewhere(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint32_t s = cut_receiver(7603), t = cut_receiver(7604), c = sender(7603);
  assert_int_equal(vppcom_session_write(c, "before", 6), 6);
  assert_int_equal(rig_connect(c, 7604), 0);
  assert_int_equal(vppcom_session_write(c, "after", 5), 5);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 6);
  assert_int_equal(cut_take(s, buf, sizeof buf, NULL), VPPCOM_EAGAIN);
  assert_int_equal(await(t, buf, sizeof buf, NULL), 5);
  assert_int_equal(cut_branches(0), 1);
  assert_int_equal(cut_branches(1), 1); /* the last to hear of it */
  assert_int_equal(cut_by_engine(r), 0);
  cut_as(1);
  (void)vppcom_session_close(s);
  cut_done(r, c, t);
}

/* A receiver that is connected to somebody else refuses, and what was sent meanwhile goes through the engine. */
static void test_refused(void **state) {
  struct cut_rig *r = *state;
  char buf[16];
  uint16_t from;
  uint32_t s = cut_receiver(7605), c = sender(7605);
  assert_int_equal(vppcom_session_write(c, "hello", 5), 5);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, &from), 5);
  assert_int_equal(rig_connect(s, from), 0);
  uint32_t other = sender(7605);
  assert_int_equal(vppcom_session_write(other, "unheard", 7), 7);
  assert_int_equal(cut_branches(1), 1);
  assert_int_equal(cut_branches(0), 1);
  assert_int_equal(cut_by_engine(r), 1);
  cut_as(0);
  assert_int_equal(vppcom_session_write(other, "x", 1), VPPCOM_ECONNREFUSED);
  (void)vppcom_session_close(other);
  assert_int_equal(vppcom_session_write(c, "heard", 5), 5);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 5);
  assert_int_equal(cut_by_engine(r), 1);
  cut_done(r, c, s);
}

/* Nobody waits there, or no pairs are made: through the engine. */
static void test_by_engine(void **state) {
  struct cut_rig *r = *state;
  uint8_t ip[16];
  char buf[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7606);
  uint32_t s = cut_udp(1);
  assert_int_equal(vppcom_session_bind(s, &ep), 0);
  uint32_t c = sender(7606);
  assert_int_equal(vppcom_session_write(c, "hello", 5), 5);
  assert_int_equal(cut_by_engine(r), 1);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 5);
  assert_int_equal(cut_branches(0) + cut_branches(1), 0);
  cut_done(r, c, s);
}

/* Slots go round: many sockets one after the other and at once. */
static void test_many(void **state) {
  struct cut_rig *r = *state;
  uint32_t c[16], s = cut_receiver(7607);
  char buf[16];
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 16; i++) {
      c[i] = sender(7607);
      buf[0] = (char)i;
      assert_int_equal(vppcom_session_write(c[i], buf, 1), 1);
    }
    cut_as(1);
    for (int i = 0, seen = 0; i < 16; i++) {
      uint16_t from;
      assert_int_equal(await(s, buf, sizeof buf, &from), 1);
      assert_true((seen & 1 << buf[0]) == 0);
      seen |= 1 << buf[0];
      assert_int_equal(cut_say(s, from, "yes"), 3);
    }
    cut_as(0);
    for (int i = 0; i < 16; i++) {
      assert_int_equal(await(c[i], buf, sizeof buf, NULL), 3);
      assert_int_equal(vppcom_session_close(c[i]), 0);
    }
    assert_int_equal(cut_branches(1), 0);
    assert_int_equal(cut_branches(0), 0);
  }
  assert_int_equal(cut_by_engine(r), 0);
  fake_lock(&r->rig.fake);
  assert_int_equal(r->rig.fake.n_pairs, 1);
  fake_unlock(&r->rig.fake);
  cut_as(1);
  (void)vppcom_session_close(s);
  rig_settle(&r->rig);
}

/* A header that makes no sense ends the pair, is counted, and the two go on through the engine. */
static void test_liar(void **state) {
  struct cut_rig *r = *state;
  struct abi_worker_geom g;
  char buf[16];
  uint32_t s = cut_receiver(7608), c = sender(7608);
  assert_int_equal(vppcom_session_write(c, "good", 4), 4);
  uint8_t *base = cut_map(r, 0, &g);
  struct abi_sess_app *a = (struct abi_sess_app *)(void *)(base + g.slots_off);
  struct abi_dgram *d = (struct abi_dgram *)(void *)(base + (size_t)a->tx_chunk[0].unit * ABI_CHUNK_UNIT);
  assert_int_equal(d->len, 4);
  memset(d->ip, 0xee, sizeof d->ip); /* its addresses count for nothing … */
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 4);
  cut_as(0);
  assert_int_equal(vppcom_session_write(c, "bad", 3), 3);
  d = (struct abi_dgram *)(void *)((uint8_t *)d + sizeof *d + 4);
  assert_int_equal(d->len, 3);
  d->len = 60000; /* … its length does */
  cut_as(1);
  assert_int_equal(cut_take(s, buf, sizeof buf, NULL), VPPCOM_EAGAIN);
  assert_int_equal(cut_branches(1), 0);
  RIG_UNTIL(cut_branches(0) == 0);
  assert_int_equal(cut_branches(0), 0);
  assert_int_equal(vppcom_session_write(c, "after", 5), 5);
  assert_int_equal(cut_by_engine(r), 1);
  cut_as(1);
  assert_int_equal(await(s, buf, sizeof buf, NULL), 5);
  munmap(base, g.arena_off + g.arena_size);
  cut_done(r, c, s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, cut_rig_setup, cut_rig_teardown)
      T(test_there_and_back), T(test_full),      T(test_ends), T(test_elsewhere),
      T(test_refused),        T(test_by_engine), T(test_many), T(test_liar),
#undef T
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
