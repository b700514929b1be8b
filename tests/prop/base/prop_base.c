/*
 * Properties of base's containers against naive twins: random operations, the same answers.
 */
#include "base/bits.h"
#include "base/hash.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/timer.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

/* ---- pool: the twin is an array of what each index should hold ---- */

#define POOL_N 300

static void pool_run(uint64_t seed) {
  struct rng r;
  struct pool p;
  uint64_t twin[POOL_N];
  uint8_t out[POOL_N] = {0};
  uint32_t n_out = 0;
  rng_init(&r, seed);
  uint32_t limit = (uint32_t)rng_range(&r, 1, POOL_N);
  assert_int_equal(pool_init(&p, (uint32_t)rng_range(&r, 8, 200), (uint32_t)rng_range(&r, 1, 64), limit), 0);
  for (int step = 0; step < 5000; step++) {
    uint32_t i;
    if (rng_below(&r, 100) < (step / 500 % 2 ? 70u : 35u)) {
      uint64_t *obj = pool_get(&p, &i);
      assert_int_equal(obj != NULL, n_out < limit);
      if (obj == NULL)
        continue;
      assert_true(i < limit && !out[i] && *obj == 0);
      out[i] = 1;
      n_out++;
      *obj = twin[i] = rng_u64(&r) | 1;
    } else {
      i = (uint32_t)rng_below(&r, limit + 3);
      int have = i < limit && out[i];
      uint64_t *obj = pool_at(&p, i);
      assert_int_equal(obj != NULL, have);
      assert_true(!have || *obj == twin[i]);
      assert_int_equal(pool_put(&p, i), have ? 0 : -EINVAL);
      if (have)
        out[i] = 0, n_out--;
    }
    assert_int_equal(pool_used(&p), n_out);
  }
  uint32_t seen = 0;
  for (uint32_t i = pool_next(&p, 0); i != POOL_NONE; i = pool_next(&p, i + 1), seen++)
    assert_true(out[i] && *(uint64_t *)pool_ref(&p, i) == twin[i]);
  assert_int_equal(seen, n_out);
  pool_fini(&p);
}

static void pool_equals_twin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 40; seed++)
    pool_run(seed);
}

/* ---- hash: the twin is a flag per value; hashes are bad on purpose ---- */

#define HASH_N 4000

static uint32_t hash_of(uint32_t value, unsigned quality) {
  uint32_t h = (uint32_t)hash_mix64(value);
  return quality == 0 ? h : quality == 1 ? h & 0xff0000ffu : value;
}

static int hash_eq(uint32_t value, const void *ctx) {
  return value == *(const uint32_t *)ctx;
}

static void hash_run(uint64_t seed, unsigned quality) {
  struct rng r;
  struct hash_tab t;
  static uint8_t in[HASH_N];
  uint32_t count = 0;
  rng_init(&r, seed);
  memset(in, 0, sizeof in);
  assert_int_equal(hash_tab_init(&t, (uint32_t)rng_below(&r, 100)), 0);
  uint32_t range = (uint32_t)rng_range(&r, 10, quality == 1 ? 500 : HASH_N);
  for (int step = 0; step < 20000; step++) {
    uint32_t v = (uint32_t)rng_below(&r, range), h = hash_of(v, quality);
    uint32_t found = hash_tab_find(&t, h, hash_eq, &v);
    assert_int_equal(found, in[v] ? v : HASH_NONE);
    if (rng_below(&r, 100) < (step / 4000 % 2 ? 30u : 65u)) {
      if (in[v])
        continue;
      assert_int_equal(hash_tab_insert(&t, h, v), 0);
      in[v] = 1;
      count++;
    } else {
      assert_int_equal(hash_tab_remove(&t, h, v), in[v] ? 0 : -ENOENT);
      count -= in[v];
      in[v] = 0;
    }
    assert_int_equal(hash_tab_count(&t), count);
  }
  uint64_t pos = 0;
  uint32_t n = 0;
  for (uint32_t v; (v = hash_tab_next(&t, &pos)) != HASH_NONE; n++)
    assert_int_equal(in[v], 1);
  assert_int_equal(n, count);
  for (uint32_t v = 0; v < range; v++)
    assert_int_equal(hash_tab_find(&t, hash_of(v, quality), hash_eq, &v), in[v] ? v : HASH_NONE);
  hash_tab_fini(&t);
}

static void hash_equals_twin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 24; seed++)
    hash_run(seed, (unsigned)(seed % 3));
}

/* ---- timer: the twin is an array of expiry times ---- */

#define TIMER_ENTS 200

static struct {
  struct timer_wheel w;
  struct timer_ent ent[TIMER_ENTS];
  usec_t twin[TIMER_ENTS]; /* 0: idle */
  usec_t now, last;        /* last: tick of the last one fired */
  struct rng r;
  unsigned fired;
} tw;

static usec_t timer_tick_up(usec_t us) {
  return bits_div_up(us, TIMER_TICK_US) * TIMER_TICK_US;
}

/* A span from a microsecond to months, each order of magnitude as likely as the other. */
static usec_t timer_random_span(void) {
  return rng_u64(&tw.r) >> rng_range(&tw.r, 20, 63);
}

static void timer_check_fired(struct timer_ent *ent, void *ctx) {
  (void)ctx;
  unsigned i = ent->user;
  usec_t due = tw.twin[i];
  assert_ptr_equal(ent, &tw.ent[i]);
  assert_true(due != 0);                      /* armed, */
  assert_true(timer_tick_up(due) <= tw.now);  /* not early, */
  assert_true(timer_tick_up(due) >= tw.last); /* and in order of ticks */
  tw.last = timer_tick_up(due);
  tw.twin[i] = 0;
  tw.fired++;
  if (rng_below(&tw.r, 3) == 0) { /* a callback that sets itself or another one */
    unsigned j = rng_below(&tw.r, 2) ? i : (unsigned)rng_below(&tw.r, TIMER_ENTS);
    usec_t at = tw.now + timer_random_span() + 1;
    tw.twin[j] = at;
    timer_set(&tw.w, &tw.ent[j], at);
  }
}

/* All that were due by now have fired, and timer_next promises no less than the truth. */
static void timer_check_rest(void) {
  usec_t first = TIMER_NEVER;
  unsigned armed = 0;
  for (unsigned i = 0; i < TIMER_ENTS; i++) {
    assert_int_equal(timer_armed(&tw.ent[i]) != 0, tw.twin[i] != 0);
    if (tw.twin[i] == 0)
      continue;
    armed++;
    assert_true(timer_tick_up(tw.twin[i]) > tw.now / TIMER_TICK_US * TIMER_TICK_US);
    assert_true(timer_expires(&tw.ent[i]) == tw.twin[i]);
    first = HS_MIN(first, timer_tick_up(tw.twin[i]));
  }
  assert_int_equal(tw.w.count, armed);
  assert_true(timer_next(&tw.w) <= first);
  assert_true(timer_next(&tw.w) > tw.now);
}

static void timer_step(void) {
  unsigned i = (unsigned)rng_below(&tw.r, TIMER_ENTS);
  switch (rng_below(&tw.r, 8)) {
  case 0:
    timer_cancel(&tw.w, &tw.ent[i]);
    tw.twin[i] = 0;
    break;
  case 1: /* time goes on: by nothing, by a bit, to the next expiry, by months */
    tw.now += rng_below(&tw.r, 4) == 0 ? timer_random_span() : rng_below(&tw.r, 5000);
    if (rng_below(&tw.r, 4) == 0 && timer_next(&tw.w) != TIMER_NEVER)
      tw.now = HS_MAX(tw.now, timer_next(&tw.w));
    tw.last = 0;
    do
      timer_advance(&tw.w, tw.now, timer_check_fired, NULL, (unsigned)rng_range(&tw.r, 1, 50));
    while (timer_next(&tw.w) <= tw.now);
    timer_check_rest();
    break;
  case 2: /* push an armed one later, as every ACK does */
    if (tw.twin[i] != 0) {
      tw.twin[i] += timer_random_span();
      timer_set(&tw.w, &tw.ent[i], tw.twin[i]);
    }
    break;
  default:
    tw.twin[i] = tw.now + timer_random_span() + 1;
    timer_set(&tw.w, &tw.ent[i], tw.twin[i]);
  }
}

static void timer_equals_twin(void **state) {
  (void)state;
  unsigned fired = 0;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    memset(&tw, 0, sizeof tw);
    rng_init(&tw.r, seed);
    tw.now = rng_u64(&tw.r) >> rng_range(&tw.r, 14, 40);
    timer_wheel_init(&tw.w, tw.now);
    for (unsigned i = 0; i < TIMER_ENTS; i++)
      tw.ent[i].user = i;
    for (int step = 0; step < 4000 && tw.now < 1ull << 51; step++)
      timer_step();
    fired += tw.fired;
  }
  assert_true(fired > 10000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pool_equals_twin),
      cmocka_unit_test(hash_equals_twin),
      cmocka_unit_test(timer_equals_twin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
