/*
 * Bytes as operations on base's containers: pool, hash table and timer wheel, each beside a twin that is one array.
 * What they say must be what the twin says; nothing else may happen.
 */
#include "base/hash.h"
#include "base/pool.h"
#include "base/timer.h"

#include <stdlib.h>
#include <string.h>

#define OBJECTS 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
  struct pool pool;
  struct hash_tab hash;
  struct timer_wheel wheel;
  struct timer_ent ent[OBJECTS];
  uint8_t out[OBJECTS], in[OBJECTS];
  usec_t due[OBJECTS]; /* 0: idle */
  usec_t now;
} t;

static void need(int cond) {
  if (!cond)
    abort();
}

static int same(uint32_t value, const void *ctx) {
  return value == *(const uint32_t *)ctx;
}

static void pool_op(int get, uint32_t idx) {
  uint32_t i;
  if (!get) {
    need(pool_put(&t.pool, idx) == (t.out[idx] ? 0 : -EINVAL));
    t.out[idx] = 0;
    return;
  }
  if (pool_get(&t.pool, &i) == NULL) {
    for (uint32_t k = 0; k < OBJECTS; k++)
      need(t.out[k]);
    return;
  }
  need(i < OBJECTS && !t.out[i]);
  t.out[i] = 1;
}

static void hash_op(int insert, uint32_t value, uint32_t quality) {
  uint32_t h = value & quality; /* few bits: many collide */
  need(hash_tab_find(&t.hash, h, same, &value) == (t.in[value] ? value : HASH_NONE));
  if (!insert)
    need(hash_tab_remove(&t.hash, h, value) == (t.in[value] ? 0 : -ENOENT));
  else if (!t.in[value])
    need(hash_tab_insert(&t.hash, h, value) == 0);
  t.in[value] = (uint8_t)insert;
}

static void fired(struct timer_ent *ent, void *ctx) {
  uint32_t i = (uint32_t)(ent - t.ent);
  (void)ctx;
  need(i < OBJECTS && t.due[i] != 0 && t.due[i] < t.now + TIMER_TICK_US);
  t.due[i] = 0;
}

static void timer_op(uint32_t i, uint32_t arg, unsigned shift) {
  if (arg == 0) {
    timer_cancel(&t.wheel, &t.ent[i]);
    t.due[i] = 0;
    return;
  }
  t.due[i] = t.now + ((usec_t)arg << shift);
  timer_set(&t.wheel, &t.ent[i], t.due[i]);
}

/* Time goes on; everything that was due then has fired, and nothing that was not. */
static void time_op(uint32_t arg, unsigned shift) {
  t.now += (usec_t)arg << shift;
  while (timer_next(&t.wheel) <= t.now && timer_advance(&t.wheel, t.now, fired, NULL, 1000) != 0)
    ;
  (void)timer_advance(&t.wheel, t.now, fired, NULL, 1000);
  for (uint32_t i = 0; i < OBJECTS; i++) {
    need(timer_armed(&t.ent[i]) == (t.due[i] != 0));
    need(t.due[i] == 0 || timer_expires(&t.ent[i]) == t.due[i]);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  memset(&t, 0, sizeof t);
  if (size < 2 || pool_init(&t.pool, 8, 8, OBJECTS) < 0)
    return 0;
  need(hash_tab_init(&t.hash, 0) == 0);
  t.now = 1000000;
  timer_wheel_init(&t.wheel, t.now);
  uint32_t quality = data[0];
  for (size_t at = 1; at + 3 <= size; at += 3) {
    uint32_t op = data[at] & 7, what = data[at + 1] % OBJECTS, arg = data[at + 2];
    unsigned shift = data[at] >> 3;
    if (op < 2)
      pool_op(op == 0, what);
    else if (op < 4)
      hash_op(op == 2, what, quality);
    else if (op < 6)
      timer_op(what, arg, shift);
    else
      time_op(arg, shift);
  }
  need(hash_tab_count(&t.hash) <= OBJECTS && pool_used(&t.pool) <= OBJECTS);
  hash_tab_fini(&t.hash);
  pool_fini(&t.pool);
  return 0;
}
