/*
 * The arena against a bitmap of units: random get, put and claim; no two chunks overlap, free bytes add up, a request
 * that fails could not have been met by any aligned run of free units. A second bitmap holds which pages have memory:
 * what is swept is nobody's, has memory, and only it loses it; the arena's count is never below the twin's. And places
 * that come, are drained and go: nothing is handed out where nothing is, or from what is to go.
 */
#include "abi/seg.h"
#include "base/err.h"
#include "base/rng.h"
#include "shm/arena.h"
#include "test.h"

#include <stdlib.h>

#define UNITS_MAX (8u * ABI_CHUNK_MAX / ABI_CHUNK_UNIT)
#define FIRST     12345u

struct held {
  uint32_t unit, len;
};

struct world {
  struct rng r;
  struct arena *a;
  uint64_t size;
  uint8_t taken[UNITS_MAX];      /* the twin */
  uint8_t memory[UNITS_MAX / 2]; /* pages that cost something */
  struct held held[UNITS_MAX];
  uint32_t n_held;
  uint64_t taken_bytes;
};

static void twin_set(struct world *w, uint32_t unit, uint32_t len, uint8_t was, uint8_t is) {
  for (uint32_t i = 0; i < len / ABI_CHUNK_UNIT; i++) {
    assert_int_equal(w->taken[unit - FIRST + i], was);
    w->taken[unit - FIRST + i] = is;
    w->memory[(unit - FIRST + i) / 2] |= is;
  }
  w->taken_bytes = is ? w->taken_bytes + len : w->taken_bytes - len;
}

static int twin_free(const struct world *w, uint32_t u, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (w->taken[u + i])
      return 0;
  return 1;
}

static int twin_could(const struct world *w, uint32_t len) {
  uint32_t n = len / ABI_CHUNK_UNIT;
  for (uint32_t u = 0; u < w->size / ABI_CHUNK_UNIT; u += n)
    if (twin_free(w, u, n))
      return 1;
  return 0;
}

static uint32_t any_len(struct world *w) {
  return ABI_CHUNK_UNIT << (rng_below(&w->r, 3) == 0 ? rng_below(&w->r, 10) : rng_below(&w->r, 4));
}

static void op_get(struct world *w) {
  uint32_t len = any_len(w);
  uint32_t unit = arena_get(w->a, len);
  if (unit == ABI_SEG_NONE) {
    assert_false(twin_could(w, len));
    return;
  }
  assert_int_equal((unit - FIRST) % (len / ABI_CHUNK_UNIT), 0);
  assert_true((uint64_t)(unit - FIRST) * ABI_CHUNK_UNIT + len <= w->size);
  twin_set(w, unit, len, 0, 1);
  w->held[w->n_held++] = (struct held){unit, len};
}

static void op_put(struct world *w) {
  if (w->n_held == 0)
    return;
  uint32_t i = (uint32_t)rng_below(&w->r, w->n_held);
  struct held h = w->held[i];
  w->held[i] = w->held[--w->n_held];
  twin_set(w, h.unit, h.len, 1, 0);
  arena_put(w->a, h.unit, h.len);
  if (rng_below(&w->r, 8) == 0)
    arena_put(w->a, h.unit, h.len); /* a second time: ignored */
}

static void op_claim(struct world *w) {
  uint32_t len = any_len(w);
  uint32_t n = len / ABI_CHUNK_UNIT;
  uint32_t u = (uint32_t)rng_below(&w->r, w->size / len) * n;
  int rc = arena_claim(w->a, FIRST + u, len);
  assert_int_equal(rc, twin_free(w, u, n) ? 0 : -EEXIST);
  if (rc == 0) {
    twin_set(w, FIRST + u, len, 0, 1);
    w->held[w->n_held++] = (struct held){FIRST + u, len};
  }
}

static uint64_t twin_memory(const struct world *w) {
  uint64_t pages = 0;
  for (uint64_t i = 0; i < w->size / 4096; i++)
    pages += w->memory[i];
  return pages * 4096;
}

/** Gives memory back until no more than `aim` is left, or nothing is free that could go. */
static void op_sweep(struct world *w) {
  uint64_t aim = rng_below(&w->r, w->size);
  uint32_t unit, len;
  while (arena_sweep(w->a, aim, &unit, &len)) {
    assert_true(twin_memory(w) > aim && len >= 4096);
    assert_true(twin_free(w, unit - FIRST, len / ABI_CHUNK_UNIT));
    uint64_t before = twin_memory(w);
    memset(w->memory + (unit - FIRST) / 2, 0, len / 4096);
    assert_true(twin_memory(w) < before); /* no call for nothing */
    arena_swept(w->a, unit, len);
    arena_swept(w->a, unit, len); /* a second time: ignored */
  }
  if (twin_memory(w) > aim) /* only pages that hold half a taken chunk, or more, are left */
    for (uint32_t u = 0; u < w->size / ABI_CHUNK_UNIT; u += 2)
      assert_true(!w->memory[u / 2] || !twin_free(w, u, 2));
}

/** What adoption does: an empty arena in which every live chunk is marked again. */
static void op_adopt(struct world *w, void *meta) {
  w->a = arena_init(meta, arena_meta_size(w->size), FIRST, w->size);
  for (uint64_t i = 0; i < w->size / 4096; i++)
    if (w->memory[i])
      arena_soil(w->a, i * 4096, 4096);
  for (uint32_t i = 0; i < w->n_held; i++) {
    assert_int_equal(arena_claim(w->a, w->held[i].unit, w->held[i].len), 0);
    assert_int_equal(arena_claim(w->a, w->held[i].unit, w->held[i].len), -EEXIST);
  }
}

static void arena_equals_bitmap(void **state) {
  (void)state;
  struct world *w = malloc(sizeof *w);
  for (uint64_t seed = 1; seed <= 12; seed++) {
    memset(w, 0, sizeof *w);
    rng_init(&w->r, seed);
    w->size = rng_range(&w->r, 1, 8) * ABI_CHUNK_MAX;
    uint64_t bytes = arena_meta_size(w->size);
    void *meta = malloc(bytes);
    memset(meta, 0xa5, bytes);
    w->a = arena_init(meta, bytes, FIRST, w->size);
    assert_non_null(w->a);
    for (int i = 0; i < 1500; i++) {
      uint64_t more = (uint64_t)i / 200 % 2 ? 4 : 7; /* fills up, drains, fills up */
      uint64_t what = rng_below(&w->r, 13);
      if (what < more)
        op_get(w);
      else if (what < 10)
        op_put(w);
      else if (what == 12)
        op_sweep(w);
      else if (rng_below(&w->r, 10) != 0)
        op_claim(w);
      else
        op_adopt(w, meta);
      int rc = arena_check(w->a);
      if (rc != 0)
        fail_msg("arena_check: line %d", -rc);
      assert_int_equal(arena_free_bytes(w->a) + w->taken_bytes, w->size);
      assert_int_equal(arena_soiled_bytes(w->a), twin_memory(w));
    }
    while (w->n_held != 0)
      op_put(w);
    for (uint64_t i = 0; i < w->size / ABI_CHUNK_MAX; i++) /* all of it comes together again */
      assert_int_not_equal(arena_get(w->a, ABI_CHUNK_MAX), ABI_SEG_NONE);
    assert_int_equal(arena_free_bytes(w->a), 0);
    free(meta);
  }
  free(w);
}

/* --- places that come and go: the same twin, with a third state, absent --- */

#define ABSENT 2

struct places {
  struct world w;
  uint32_t draining, drain_len; /* largest blocks; length 0: nothing is drained */
};

static void places_fill(struct places *p, uint32_t top, uint32_t n, uint8_t is) {
  memset(p->w.taken + top * (ABI_CHUNK_MAX / ABI_CHUNK_UNIT), is, n * (ABI_CHUNK_MAX / ABI_CHUNK_UNIT));
}

/** Whether every unit of n largest blocks is `is`. */
static int places_all(const struct places *p, uint32_t top, uint32_t n, uint8_t is) {
  for (uint32_t u = top * (ABI_CHUNK_MAX / ABI_CHUNK_UNIT); u < (top + n) * (ABI_CHUNK_MAX / ABI_CHUNK_UNIT); u++)
    if (p->w.taken[u] != is)
      return 0;
  return 1;
}

static int places_any(const struct places *p, uint32_t top, uint32_t n, uint8_t is) {
  for (uint32_t i = 0; i < n; i++)
    for (uint32_t u = 0; u < ABI_CHUNK_MAX / ABI_CHUNK_UNIT; u++)
      if (p->w.taken[(top + i) * (ABI_CHUNK_MAX / ABI_CHUNK_UNIT) + u] == is)
        return 1;
  return 0;
}

static int places_drained(const struct places *p, uint32_t unit) {
  uint32_t top = (unit - FIRST) / (ABI_CHUNK_MAX / ABI_CHUNK_UNIT);
  return top - p->draining < p->drain_len;
}

static void places_get(struct places *p) {
  uint32_t len = any_len(&p->w), n = len / ABI_CHUNK_UNIT, could = 0;
  for (uint32_t u = 0; u < p->w.size / ABI_CHUNK_UNIT && !could; u += n)
    could = twin_free(&p->w, u, n) && !places_drained(p, FIRST + u);
  uint32_t unit = arena_get(p->w.a, len);
  assert_int_equal(unit != ABI_SEG_NONE, could);
  if (!could)
    return;
  assert_false(places_drained(p, unit));
  twin_set(&p->w, unit, len, 0, 1);
  p->w.held[p->w.n_held++] = (struct held){unit, len};
}

static void places_change(struct places *p) {
  uint32_t tops = (uint32_t)(p->w.size / ABI_CHUNK_MAX), at = (uint32_t)rng_below(&p->w.r, tops);
  uint32_t n = (uint32_t)rng_range(&p->w.r, 1, tops - at);
  uint64_t off = (uint64_t)at * ABI_CHUNK_MAX, len = (uint64_t)n * ABI_CHUNK_MAX;
  switch (rng_below(&p->w.r, 4)) {
  case 0:
    if (places_all(p, at, n, ABSENT)) {
      if (arena_add(p->w.a, off, len) == 0) /* across the end of what was ever there: in two calls */
        places_fill(p, at, n, 0);
    } else {
      assert_true(arena_add(p->w.a, off, len) < 0);
    }
    break;
  case 1:
    if (p->drain_len != 0) {
      assert_int_equal(arena_drain(p->w.a, off, len), -EBUSY);
    } else if (places_any(p, at, n, ABSENT)) {
      assert_int_equal(arena_drain(p->w.a, off, len), -EINVAL);
    } else {
      assert_int_equal(arena_drain(p->w.a, off, len), 0);
      p->draining = at;
      p->drain_len = n;
    }
    break;
  case 2:
    if (rng_below(&p->w.r, 3) != 0)
      break;
    arena_undrain(p->w.a);
    p->drain_len = 0;
    break;
  default: {
    int gone = p->drain_len != 0 && places_all(p, p->draining, p->drain_len, 0);
    assert_int_equal(arena_remove(p->w.a), gone);
    if (gone) {
      places_fill(p, p->draining, p->drain_len, ABSENT);
      memset(p->w.memory + p->draining * (ABI_CHUNK_MAX / 4096), 0, p->drain_len * (ABI_CHUNK_MAX / 4096));
      p->drain_len = 0;
    }
  }
  }
}

/** Bytes that are free and may be handed out. */
static uint64_t places_free(const struct places *p) {
  uint64_t n = 0;
  for (uint32_t u = 0; u < p->w.size / ABI_CHUNK_UNIT; u++)
    n += p->w.taken[u] == 0 && !places_drained(p, FIRST + u);
  return n * ABI_CHUNK_UNIT;
}

static void places_come_and_go(void **state) {
  (void)state;
  struct places *p = malloc(sizeof *p);
  uint32_t removed = 0;
  for (uint64_t seed = 1; seed <= 12; seed++) {
    memset(p, 0, sizeof *p);
    rng_init(&p->w.r, seed);
    p->w.size = 8 * ABI_CHUNK_MAX;
    uint64_t bytes = arena_meta_size(p->w.size);
    void *meta = malloc(bytes);
    memset(meta, 0xa5, bytes);
    p->w.a = arena_init(meta, bytes, FIRST, p->w.size);
    assert_non_null(p->w.a);
    arena_bound(p->w.a, 2 * ABI_CHUNK_MAX);
    places_fill(p, 2, 6, ABSENT);
    for (int i = 0; i < 1500; i++) {
      uint64_t more = (uint64_t)i / 150 % 2 ? 2 : 6; /* fills up, drains, fills up */
      uint64_t what = rng_below(&p->w.r, 10);
      int draining = p->drain_len != 0;
      if (what >= 8)
        places_change(p);
      else if (what < more)
        places_get(p);
      else
        op_put(&p->w);
      removed += draining && p->drain_len == 0;
      int rc = arena_check(p->w.a);
      if (rc != 0)
        fail_msg("arena_check: line %d", -rc);
      assert_int_equal(arena_free_bytes(p->w.a), places_free(p));
      assert_int_equal(arena_taken_bytes(p->w.a), p->w.taken_bytes);
      assert_int_equal(arena_soiled_bytes(p->w.a), twin_memory(&p->w));
    }
    free(meta);
  }
  assert_true(removed > 12);
  free(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(arena_equals_bitmap), cmocka_unit_test(places_come_and_go)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
