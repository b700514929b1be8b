/*
 * Hint rings: one hint per session, the bell, lying peers.
 *
 * One thread that plays both ends over plain memory. Two threads: tests/prop/shm/stress_hint.c.
 */
#include "base/err.h"
#include "shm/hint.h"
#include "test.h"

#define CAP 8u

struct ring {
  struct abi_ring_prod pw;
  struct abi_ring_cons cw;
  uint32_t entries[CAP], pos[CAP + 2];
  struct hint_prod p;
  struct hint_cons c;
};

static void setup(struct ring *r, uint32_t start) {
  memset(r, 0, sizeof *r);
  r->pw.tail = r->cw.head = start;
  hint_prod_init(&r->p, &r->pw, &r->cw, r->entries, CAP);
  hint_cons_init(&r->c, &r->cw, &r->pw, r->entries, CAP);
}

static int push(struct ring *r, uint32_t slot, int *ring) {
  *ring = 0;
  return hint_push(&r->p, slot, &r->pos[slot], ring);
}

static void one_hint_per_session(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[CAP];
  int ring;
  setup(&r, UINT32_MAX - 2); /* across the wrap */
  for (int round = 0; round < 5; round++) {
    for (int i = 0; i < 3; i++)
      for (uint32_t s = 0; s < CAP; s++) {
        assert_int_equal(push(&r, s, &ring), 1);
        assert_int_equal(ring, 0);
      }
    assert_int_equal(r.pw.tail - r.cw.head, CAP);
    assert_int_equal(hint_take(&r.c, got, 3), 3);
    assert_true(got[0] == 0 && got[1] == 1 && got[2] == 2);
    assert_int_equal(push(&r, 1, &ring), 1); /* it was taken: again */
    assert_int_equal(push(&r, 4, &ring), 1); /* it was not: once is enough */
    assert_int_equal(hint_take(&r.c, got, CAP), 6);
    assert_true(got[0] == 3 && got[4] == 7 && got[5] == 1);
    assert_int_equal(hint_take(&r.c, got, CAP), 0);
  }
}

static void rings_when_armed(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[2];
  int ring;
  setup(&r, 0);
  assert_int_equal(hint_arm(&r.c), 1);
  assert_int_equal(push(&r, 2, &ring), 1);
  assert_int_equal(ring, 1);
  assert_int_equal(push(&r, 2, &ring), 1); /* pending: the bell may have died with a predecessor */
  assert_int_equal(ring, 1);
  assert_int_equal(r.cw.armed, 1); /* only the consumer writes it */
  hint_disarm(&r.c);
  assert_int_equal(push(&r, 3, &ring), 1);
  assert_int_equal(ring, 0);
  assert_int_equal(hint_pending(&r.c), 1);
  assert_int_equal(hint_arm(&r.c), 0);
  assert_int_equal(hint_take(&r.c, got, 2), 2);
  assert_int_equal(hint_arm(&r.c), 1);
}

static void one_bell_until_the_consumer_looked(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[CAP];
  int ring;
  setup(&r, UINT32_MAX - 1); /* across the wrap */
  for (uint32_t round = 0; round < CAP; round++) {
    assert_int_equal(hint_arm(&r.c), 1);
    assert_true(push(&r, 1, &ring) == 1 && ring);
    if (round & 1) /* an earlier bell made it look between our push and our look at its head */
      assert_int_equal(hint_take(&r.c, got, CAP), 1);
    assert_int_equal(hint_ring_due(&r.p), 1);
    if (!(round & 1)) {
      assert_true(push(&r, 2, &ring) == 1 && ring);
      assert_int_equal(hint_ring_due(&r.p), 0); /* that bell is still to be heard */
      assert_true(push(&r, 2, &ring) == 1 && ring);
      assert_int_equal(hint_ring_due(&r.p), 0);
      hint_disarm(&r.c);
      assert_int_equal(hint_take(&r.c, got, CAP), 2);
    }
  }
  assert_int_equal(hint_arm(&r.c), 1);
  assert_true(push(&r, 1, &ring) == 1 && ring);
  assert_int_equal(hint_ring_due(&r.p), 1);
  r.p.rung = 0; /* a new consumer: it has not heard that bell */
  assert_true(push(&r, 1, &ring) == 1 && ring);
  assert_int_equal(hint_ring_due(&r.p), 1);
}

static void lying_peers(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[CAP];
  int ring;
  setup(&r, 100);
  r.pw.tail = 100 + CAP + 1;
  assert_int_equal(hint_take(&r.c, got, CAP), -EPROTO);
  r.pw.tail = 99;
  assert_int_equal(hint_take(&r.c, got, CAP), -EPROTO);
  setup(&r, 100);
  r.cw.head = 50; /* a consumer that never takes, or rewinds: the ring is full, nothing is overwritten out of bounds */
  assert_int_equal(push(&r, 1, &ring), 0);
  r.cw.head = 101;
  assert_int_equal(push(&r, 1, &ring), 0);
  r.cw.head = 100;
  assert_int_equal(push(&r, 1, &ring), 1);
  assert_int_equal(r.pw.tail, 101);
}

static void a_stale_position_is_no_entry(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[CAP];
  int ring;
  setup(&r, 0);
  assert_int_equal(push(&r, 5, &ring), 1);
  r.pos[6] = 0; /* as a position of another ring or of 2^32 hints ago: in range, but of another session */
  assert_int_equal(push(&r, 6, &ring), 1);
  assert_int_equal(hint_take(&r.c, got, CAP), 2);
  assert_true(got[0] == 5 && got[1] == 6);
}

static void resumes(void **state) {
  (void)state;
  struct ring r;
  uint32_t got[CAP];
  int ring;
  setup(&r, 7);
  assert_int_equal(push(&r, 1, &ring), 1);
  assert_int_equal(push(&r, 2, &ring), 1);
  hint_prod_init(&r.p, &r.pw, &r.cw, r.entries, CAP);
  assert_int_equal(push(&r, 2, &ring), 1);
  assert_int_equal(push(&r, 3, &ring), 1);
  assert_int_equal(hint_take(&r.c, got, 1), 1);
  hint_cons_init(&r.c, &r.cw, &r.pw, r.entries, CAP);
  assert_int_equal(hint_take(&r.c, got, CAP), 2);
  assert_true(got[0] == 2 && got[1] == 3);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_hint_per_session),
      cmocka_unit_test(rings_when_armed),
      cmocka_unit_test(one_bell_until_the_consumer_looked),
      cmocka_unit_test(lying_peers),
      cmocka_unit_test(a_stale_position_is_no_entry),
      cmocka_unit_test(resumes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
