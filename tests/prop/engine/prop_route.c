/*
 * Longest prefix match against a naive twin: random adds, removals and lookups over few, clustered addresses of both
 * families, so that prefixes nest and collide.
 */
#include "base/rng.h"
#include "ip/route.h"
#include "test.h"

#include <stdlib.h>

#define TWIN_MAX 600u

struct twin_route {
  struct ip_addr prefix;
  unsigned bits, port;
};

struct twin {
  struct twin_route r[TWIN_MAX];
  unsigned n;
};

/* Bit by bit. */
static int twin_covers(const struct ip_addr *prefix, unsigned bits, const struct ip_addr *a) {
  for (unsigned i = 0; i < bits; i++) {
    unsigned mask = 0x80u >> i % 8;
    if ((prefix->b[i / 8] & mask) != (a->b[i / 8] & mask))
      return 0;
  }
  return 1;
}

static int twin_same_family(const struct twin_route *t, const struct ip_addr *a) {
  return (t->bits >= 96 && ip_addr_is4(&t->prefix)) == ip_addr_is4(a);
}

static int twin_find(const struct twin *t, const struct ip_addr *prefix, unsigned bits) {
  for (unsigned i = 0; i < t->n; i++) {
    if (t->r[i].bits == bits && twin_covers(&t->r[i].prefix, bits, prefix))
      return (int)i;
  }
  return -1;
}

static const struct twin_route *twin_lookup(const struct twin *t, const struct ip_addr *dst) {
  const struct twin_route *best = NULL;
  for (unsigned i = 0; i < t->n; i++) {
    const struct twin_route *r = &t->r[i];
    if (twin_same_family(r, dst) && twin_covers(&r->prefix, r->bits, dst) && (best == NULL || r->bits > best->bits))
      best = r;
  }
  return best;
}

/* Few bits vary, so that addresses share prefixes of all lengths. */
static struct ip_addr random_addr(struct rng *g) {
  if (rng_below(g, 2) == 0)
    return ip_addr_from4(0x0a000000u ^ (1u << rng_below(g, 32)) ^ (1u << rng_below(g, 32)) ^ (uint32_t)rng_below(g, 4));
  struct ip_addr a = {{0x20, 1, 0xd, 0xb8}};
  for (unsigned i = 0; i < 3; i++) {
    unsigned bit = (unsigned)rng_below(g, 128);
    a.b[bit / 8] ^= (uint8_t)(1u << bit % 8);
  }
  return a;
}

static void step(struct route_table *t, struct twin *twin, struct rng *g) {
  struct ip_addr a = random_addr(g);
  unsigned bits = ip_addr_is4(&a) ? 96u + (unsigned)rng_below(g, 33) : (unsigned)rng_below(g, 129);
  int at = twin_find(twin, &a, bits), err = 0;
  if (rng_below(g, 100) < 55 && twin->n < TWIN_MAX) {
    struct route *r = route_add(t, &a, bits, &err);
    if (at >= 0) {
      assert_null(r);
      assert_int_equal(err, -EEXIST);
      return;
    }
    assert_non_null(r);
    unsigned port = (unsigned)rng_below(g, 8);
    r->port = (uint8_t)port;
    twin->r[twin->n++] = (struct twin_route){ip_addr_mask(&a, bits), bits, port};
    return;
  }
  if (twin->n != 0 && rng_below(g, 2) == 0) { /* one that is there */
    at = (int)rng_below(g, twin->n);
    a = twin->r[at].prefix;
    bits = twin->r[at].bits;
  }
  assert_int_equal(route_del(t, &a, bits), at >= 0 ? 0 : -ENOENT);
  if (at >= 0)
    twin->r[at] = twin->r[--twin->n];
}

static void longest_prefix(void **state) {
  (void)state;
  struct route *mem = calloc(ROUTE_MAX, sizeof *mem);
  uint32_t *bucket = calloc(ROUTE_BUCKETS, sizeof *bucket);
  struct twin *twin = calloc(1, sizeof *twin);
  assert_true(mem != NULL && bucket != NULL && twin != NULL);
  for (uint64_t seed = 1; seed <= 6; seed++) {
    struct route_table t;
    struct rng g;
    rng_init(&g, seed);
    route_init(&t, mem, bucket);
    twin->n = 0;
    for (unsigned i = 0; i < 4000; i++) {
      step(&t, twin, &g);
      struct ip_addr a = random_addr(&g);
      const struct route *got = route_lookup(&t, &a);
      const struct twin_route *want = twin_lookup(twin, &a);
      assert_int_equal(got != NULL, want != NULL);
      if (got != NULL) {
        assert_int_equal(got->bits, want->bits);
        assert_int_equal(got->port, want->port);
      }
      assert_int_equal(t.n, twin->n);
    }
  }
  free(twin);
  free(bucket);
  free(mem);
}

/* Ten thousand routes, then one too many. */
static void limit(void **state) {
  (void)state;
  struct route *mem = calloc(ROUTE_MAX, sizeof *mem);
  uint32_t *bucket = calloc(ROUTE_BUCKETS, sizeof *bucket);
  struct route_table t;
  int err;
  assert_true(mem != NULL && bucket != NULL);
  route_init(&t, mem, bucket);
  for (uint32_t i = 0; i < ROUTE_MAX; i++) {
    struct ip_addr a = ip_addr_from4(0x0a000000u + (i << 8));
    struct route *r = route_add(&t, &a, 120, &err);
    assert_non_null(r);
    r->port = (uint8_t)(i % 8);
  }
  struct ip_addr more = ip_addr_from4(0x7f000000u);
  assert_null(route_add(&t, &more, 120, &err));
  assert_int_equal(err, -ENOSPC);
  for (uint32_t i = 0; i < ROUTE_MAX; i++) {
    struct ip_addr a = ip_addr_from4(0x0a000000u + (i << 8) + 7);
    const struct route *r = route_lookup(&t, &a);
    assert_non_null(r);
    assert_int_equal(r->port, i % 8);
  }
  struct ip_addr one = ip_addr_from4(0x0a000300u);
  assert_int_equal(route_del(&t, &one, 120), 0);
  assert_non_null(route_add(&t, &more, 120, &err));
  free(bucket);
  free(mem);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(longest_prefix), cmocka_unit_test(limit)};
  return cmocka_run_group_tests_name("prop_route", tests, NULL, NULL);
}
