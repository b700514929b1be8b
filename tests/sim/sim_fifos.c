/*
 * The growth policy that an app sets for its fifos, as the engine keeps it: sizes asked for before a connect and while
 * the connection runs, larger and smaller, for what comes in and for what is written. What the library makes of
 * SET_RX_FIFO_LEN, SET_TX_FIFO_LEN, a listener and vcl.conf is tests/unit/vcl/test_fifo_len.c.
 */
#include "engine_rig.h"
#include "test.h"

#include <setjmp.h>
#include <string.h>

#define SLACK 3000u /* bytes of a window that are too few for a segment */

static struct rig r;
static struct rig_sess c, s;

/** The app's wish, as the library publishes it: odd, words, even, hint. */
static void wish(struct rig_sess *x, uint32_t rcvbuf, uint32_t sndbuf) {
  __atomic_store_n(&x->a->opt_gen, x->a->opt_gen + 1, __ATOMIC_RELEASE);
  x->a->opt.rcvbuf = rcvbuf;
  x->a->opt.sndbuf = sndbuf;
  __atomic_store_n(&x->a->opt_gen, x->a->opt_gen + 1, __ATOMIC_RELEASE);
}

static void meet(uint64_t seed, uint32_t rcvbuf, uint32_t sndbuf) {
  rig_open(&r, seed);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  rig_sess_open(&r.host[0], &c, 0, 1);
  wish(&c, rcvbuf, sndbuf);
  rig_connect_ask(&r.host[0], &c, rig_endpoint(2, 80, 4), 0);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
}

/** The server writes all that it may, for so many turns; how much lies unread at the client. */
static uint32_t pour(int turns) {
  static const uint8_t bytes[4096];
  for (; turns > 0; turns--) {
    (void)rig_write(&s, bytes, sizeof bytes);
    rig_turns(&r, 1);
  }
  return (uint32_t)fifo_cons_used(&c.rx);
}

static void drain(void) {
  static uint8_t bytes[4096];
  while (rig_read(&c, bytes, sizeof bytes) > 0)
    ;
  rig_hint(c.h, c.slot);
}

static void between(uint32_t n, uint32_t most) {
  if (n > most || n < most - SLACK)
    fail_msg("%u bytes unread, not %u", n, most);
}

static void test_receive(void **state) {
  (void)state;
  meet(1, 40000, 0);
  between(pour(400), 40000); /* and not more, however long it takes */
  between(pour(2000), 40000);
  wish(&c, 150000, 0);
  rig_hint(c.h, c.slot);
  between(pour(4000), 150000);
  wish(&c, 20000, 0); /* what was promised is kept, then it counts */
  rig_hint(c.h, c.slot);
  assert_true(pour(400) <= 150000);
  drain();
  between(pour(4000), 20000);
  rig_close(&r);
}

static void test_send(void **state) {
  static const uint32_t size[] = {30000, 90000, 12000};
  static uint8_t bytes[4096];
  (void)state;
  meet(2, 0, size[0]);
  for (int i = 0; i < 3; i++) {
    wish(&c, 0, size[i]);
    rig_hint(c.h, c.slot);
    rig_turns(&r, 20);
    assert_int_equal(c.e->tx_limit, size[i]);
  }
  wish(&c, 0, 0); /* set back: it grows with the path again */
  for (int i = 0; i < 400; i++) {
    (void)rig_write(&c, bytes, sizeof bytes);
    rig_turns(&r, 1);
    while (rig_read(&s, bytes, sizeof bytes) > 0)
      ;
  }
  assert_true(c.e->tx_limit > 12000);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_receive), cmocka_unit_test(test_send)};
  return cmocka_run_group_tests_name("growth policy of apps", tests, NULL, NULL);
}
