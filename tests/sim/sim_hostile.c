/*
 * A hostile app: it writes nonsense over its A segment while sessions are open. The engine must survive (asan watches),
 * believe nothing, and the stack on the other side must see its connections end in an orderly way.
 */
#include "engine_rig.h"
#include "shm/bell.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

static void until_ready(struct rig *r, struct rig_sess *c) {
  for (int i = 0; i < 20000 && rig_state(c) != ABI_SESS_READY; i++)
    rig_step(r, 100);
  assert_int_equal(rig_state(c), ABI_SESS_READY);
}

static void accept_one(struct rig *r, struct rig_host *h, uint32_t slot, struct rig_sess *s) {
  for (int i = 0; i < 20000; i++) {
    if (rig_accept(h, slot, s))
      return;
    rig_step(r, 100);
  }
  fail_msg("nothing was offered");
}

static void open_pair(struct rig *r, struct rig_sess *c, struct rig_sess *s, uint64_t seed) {
  rig_open(r, seed);
  r->host[0].may_lie = 1;
  rig_listen(&r->host[1], 0, 80, 4, 1);
  rig_step(r, 100);
  rig_connect(&r->host[0], c, 0, 1, 80, 4);
  until_ready(r, c);
  accept_one(r, &r->host[1], 0, s);
  uint8_t bytes[5000] = {1};
  assert_int_equal(rig_write(c, bytes, sizeof bytes), sizeof bytes);
  assert_int_equal(rig_write(s, bytes, sizeof bytes), sizeof bytes);
  for (int i = 0; i < 20; i++)
    rig_step(r, 100);
}

/* The good side goes on: whatever happened, it ends in finite time and a close leaves no record behind. */
static void close_good_side(struct rig *r, struct rig_sess *s) {
  uint8_t sink[4096];
  while (rig_read(s, sink, sizeof sink))
    ;
  rig_want(s, ABI_WANT_CLOSE | ABI_WANT_ABORT);
  for (int i = 0; i < 20000 && rig_state(s) != ABI_SESS_CLOSED; i++)
    rig_step(r, 1000);
  assert_int_equal(rig_state(s), ABI_SESS_CLOSED);
}

/* Random words of the block, the slots and the ring are overwritten; hints name random slots. */
static void scribble(struct rig *r, struct rig_host *h) {
  uint64_t end = h->view.ga.slots_off + 64 * sizeof(struct abi_sess_app);
  for (int i = 0; i < 8; i++) {
    uint64_t off = h->view.ga.block_off + rng_below(&r->rng, end - h->view.ga.block_off);
    uint32_t v = rng_below(&r->rng, 3) ? (uint32_t)rng_below(&r->rng, 70000) : (uint32_t)rng_u64(&r->rng);
    memcpy(h->view.seg_a.base + (off & ~3ull), &v, sizeof v);
  }
  struct abi_sess_app *a = worker_view_app(&h->view, (uint32_t)rng_below(&r->rng, 64));
  a->gen = (uint32_t)rng_below(&r->rng, 3);
  a->op = (uint32_t)rng_below(&r->rng, 4);
  a->want = (uint32_t)rng_below(&r->rng, 32);
  int ring = 0;
  (void)hint_push(&h->to_engine, (uint32_t)rng_below(&r->rng, 66), &a->hint_pos, &ring);
  assert_int_equal(bell_ring_service(h->doorbell), 0);
}

static void test_scribble(void **state) {
  (void)state;
  static struct rig r;
  uint32_t lies = 0;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    struct rig_sess c, s;
    open_pair(&r, &c, &s, seed);
    for (int round = 0; round < 60; round++) {
      scribble(&r, &r.host[0]);
      /* the rig's own handle of the ring is damaged too: only the engine's turns matter here */
      (void)worker_turn(&r.host[0].w);
      rig_step(&r, 500);
    }
    lies += r.host[0].lied != NULL;
    close_good_side(&r, &s);
    rig_close(&r);
  }
  assert_true(lies > 0); /* some of it was impossible, and was called so */
}

static void lie_and_expect(void (*lie)(struct rig_sess *c), const char *why) {
  static struct rig r;
  struct rig_sess c, s;
  open_pair(&r, &c, &s, 99);
  rig_hint(&r.host[0], 0); /* the hint first: a push would repair a ring's tail */
  lie(&c);
  for (int i = 0; i < 50 && !r.host[0].lied; i++)
    rig_step(&r, 1000);
  assert_non_null(r.host[0].lied);
  assert_non_null(strstr(r.host[0].lied, why));
  assert_int_equal(r.host[0].view.engine->state, ABI_WORKER_DETACHED);
  close_good_side(&r, &s);
  rig_close(&r);
}

static void lie_rx_head(struct rig_sess *c) {
  c->a->rx_head = c->e->rx.tail + 100000;
}
static void lie_tx_tail(struct rig_sess *c) {
  c->a->tx.tail += 0x40000000u;
}
static void lie_chunk(struct rig_sess *c) {
  c->a->tx_chunk[c->a->tx.chunk_tail % ABI_FIFO_CHUNKS] =
      (struct abi_chunk){.start = c->tx.end, .len = 4096, .unit = 0x7fffffff};
  c->a->tx.chunk_tail++;
  c->a->tx.tail = c->tx.end + 4096;
}
static void lie_slot_reuse(struct rig_sess *c) {
  c->a->gen = 7;
}
static void lie_ring_tail(struct rig_sess *c) {
  c->h->view.app->lane[0].to_engine.tail += 1u << 20;
}

static void test_rx_head(void **state) {
  (void)state;
  lie_and_expect(lie_rx_head, "rx fifo");
}
static void test_tx_tail(void **state) {
  (void)state;
  lie_and_expect(lie_tx_tail, "tx fifo");
}
static void test_tx_chunk(void **state) {
  (void)state;
  lie_and_expect(lie_chunk, "tx fifo");
}
static void test_slot_reuse(void **state) {
  (void)state;
  lie_and_expect(lie_slot_reuse, "slot");
}
static void test_ring_tail(void **state) {
  (void)state;
  lie_and_expect(lie_ring_tail, "hint ring");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_scribble), cmocka_unit_test(test_rx_head),    cmocka_unit_test(test_tx_tail),
      cmocka_unit_test(test_tx_chunk), cmocka_unit_test(test_slot_reuse), cmocka_unit_test(test_ring_tail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
