/*
 * Hint rings: facts change and hints are pushed about them at random, producers die between their stores, either side
 * resumes. However it goes: once everything was taken, the consumer has seen every fact; a session is in the ring at
 * most once; the ring never overflows.
 */
#include "base/err.h"
#include "base/fault.h"
#include "base/rng.h"
#include "shm/hint.h"
#include "test.h"

#define SLOTS 61u
#define CAP   64u

struct world {
  struct rng r;
  struct abi_ring_prod pw;
  struct abi_ring_cons cw;
  uint32_t entries[CAP];
  struct hint_prod p;
  struct hint_cons c;
  uint32_t fact[SLOTS], hint_pos[SLOTS], seen[SLOTS];
  uint8_t dirty[SLOTS]; /* a fact without a completed push: what a rescan after a death is for */
  uint32_t crashes;
};

static jmp_buf died;

static void die(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  longjmp(died, 1);
}

static void check_once(struct world *w) {
  uint8_t in[SLOTS] = {0};
  uint32_t n = w->pw.tail - w->cw.head;
  assert_in_range(n, 0, CAP);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t slot = w->entries[(w->cw.head + i) % CAP];
    assert_in_range(slot, 0, SLOTS - 1);
    assert_int_equal(in[slot]++, 0);
  }
  for (uint32_t s = 0; s < SLOTS; s++) /* a fact that was pushed is seen or pending */
    assert_true(w->dirty[s] || in[s] || w->seen[s] == w->fact[s]);
}

static void op_push(struct world *w) {
  uint32_t slot = (uint32_t)rng_below(&w->r, SLOTS);
  int ring = 0;
  w->fact[slot]++;
  w->dirty[slot] = 1;
  assert_int_equal(hint_push(&w->p, slot, &w->hint_pos[slot], &ring), 1);
  w->dirty[slot] = 0;
  assert_int_equal(ring, w->cw.armed != 0);
}

static void op_take(struct world *w) {
  uint32_t slots[16];
  int n = hint_take(&w->c, slots, (uint32_t)rng_range(&w->r, 0, 16));
  assert_in_range(n, 0, 16);
  for (int i = 0; i < n; i++)
    w->seen[slots[i]] = w->fact[slots[i]];
}

static void op_crash(struct world *w) {
  uint32_t slot = (uint32_t)rng_below(&w->r, SLOTS);
  int ring = 0;
  w->fact[slot]++;
  w->dirty[slot] = 1;
  fault_set_hook(die, NULL);
  assert_int_equal(fault_arm("*", (uint32_t)rng_range(&w->r, 1, 3), FAULT_HOOK), 0);
  if (setjmp(died) == 0)
    (void)hint_push(&w->p, slot, &w->hint_pos[slot], &ring);
  else
    w->crashes++;
  fault_disarm();
  hint_prod_init(&w->p, &w->pw, &w->cw, w->entries, CAP);
  if (rng_below(&w->r, 2) == 0) /* the successor says again what its predecessor was about to say */
    for (slot = 0; slot < SLOTS; slot++)
      if (w->dirty[slot] && hint_push(&w->p, slot, &w->hint_pos[slot], &ring) == 1)
        w->dirty[slot] = 0;
}

static void facts_are_seen(void **state) {
  (void)state;
  uint32_t crashes = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    struct world w;
    memset(&w, 0, sizeof w);
    rng_init(&w.r, seed);
    w.pw.tail = w.cw.head = 0u - (uint32_t)rng_below(&w.r, 3000);
    hint_prod_init(&w.p, &w.pw, &w.cw, w.entries, CAP);
    hint_cons_init(&w.c, &w.cw, &w.pw, w.entries, CAP);
    for (int i = 0; i < 5000; i++) {
      uint64_t what = rng_below(&w.r, 32);
      if (what < 20)
        op_push(&w);
      else if (what < 26)
        op_take(&w);
      else if (what < 28)
        op_crash(&w);
      else if (what == 28)
        hint_cons_init(&w.c, &w.cw, &w.pw, w.entries, CAP);
      else if (what == 29)
        assert_int_equal(hint_arm(&w.c), w.pw.tail == w.cw.head);
      else
        hint_disarm(&w.c);
      check_once(&w);
    }
    while (hint_pending(&w.c))
      op_take(&w);
    for (uint32_t s = 0; s < SLOTS; s++)
      assert_true(w.dirty[s] || w.seen[s] == w.fact[s]);
    crashes += w.crashes;
  }
  assert_true(crashes > 1000 || fault_list(NULL, 0) == 0); /* release builds have no fault points */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(facts_are_seen)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
