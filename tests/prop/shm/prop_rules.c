/*
 * Session rules against a naive twin: random rules over few, clustered prefixes and port ranges are added, removed and
 * published; every lookup in the compiled bank finds what a walk over all rules finds. Then ten thousand at once, what
 * is refused, and a second look at the same records as a new broker would take it.
 */
#include "base/rng.h"
#include "shm/rules.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct rig {
  struct rules_edit edit;
  struct rules_view reader;
};

static int rules_fd(uint32_t n) {
  struct abi_rules_geom g;
  uint64_t words[16];
  struct seg s;
  uint64_t size = rules_geom_make(&g, n);
  memcpy(words, &g, sizeof words);
  assert_int_equal(seg_create(&s, "rules", ABI_SEG_RULES, 7, size, words), 0);
  int fd = s.fd;
  s.fd = -1;
  seg_detach(&s);
  return fd;
}

static void rig_open(struct rig *r, uint32_t n) {
  struct rules_view v;
  const char *why = NULL;
  int fd = rules_fd(n);
  assert_int_equal(rules_open(&r->reader, dup(fd), SEG_RDONLY, &why), 0);
  assert_int_equal(rules_open(&v, fd, SEG_RDWR, &why), 0);
  assert_int_equal(rules_edit_open(&r->edit, &v), 0);
}

static void rig_close(struct rig *r) {
  rules_edit_close(&r->edit);
  rules_close(&r->reader);
}

static int covers(const uint8_t *prefix, unsigned bits, const uint8_t *a) {
  for (unsigned i = 0; i < bits; i++)
    if ((prefix[i / 8] ^ a[i / 8]) & (0x80u >> i % 8))
      return 0;
  return 1;
}

static int is4(const uint8_t ip[16]) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  return memcmp(ip, mapped, 12) == 0;
}

/* 1 = a comes before b, by the order that rules.h states. */
static int better(const struct abi_rule *a, const struct abi_rule *b) {
  if (a->remote_bits != b->remote_bits)
    return a->remote_bits > b->remote_bits;
  if (a->local_bits != b->local_bits)
    return a->local_bits > b->local_bits;
  if (a->port_hi - a->port_lo != b->port_hi - b->port_lo)
    return a->port_hi - a->port_lo < b->port_hi - b->port_lo;
  if ((a->proto == ABI_RULE_ANY) != (b->proto == ABI_RULE_ANY))
    return b->proto == ABI_RULE_ANY;
  if ((a->family == 0) != (b->family == 0))
    return b->family == 0;
  return a->id < b->id;
}

static const struct abi_rule *naive(const struct rules_edit *e, const struct rules_key *k) {
  const struct abi_rule *best = NULL;
  int family = is4(k->remote) ? 4 : 6;
  for (uint32_t i = 0; i < e->view.block->high; i++) {
    const struct abi_rule *r = &e->view.rule[i];
    if (r->used && r->table == k->table && r->scope == k->scope && (r->proto == ABI_RULE_ANY || r->proto == k->proto) &&
        (r->family == 0 || r->family == family) && k->port >= r->port_lo && k->port <= r->port_hi &&
        covers(r->remote, r->remote_bits, k->remote) && covers(r->local, r->local_bits, k->local) &&
        (best == NULL || better(r, best)))
      best = r;
  }
  return best;
}

static void random_ip(struct rng *g, int family, uint8_t ip[16]) {
  memset(ip, 0, 16);
  if (family == 4) {
    ip[10] = ip[11] = 0xff;
    ip[12] = 10;
  } else {
    ip[0] = 0x20;
  }
  for (unsigned i = 0; i < 2; i++) {
    unsigned bit = (family == 4 ? 104u : 8u) + (unsigned)rng_below(g, 20);
    ip[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
  }
}

static uint8_t random_bits(struct rng *g, int family) {
  if (rng_below(g, 3) == 0)
    return 0;
  return (uint8_t)((family == 4 ? 104u : 8u) + rng_below(g, 3) * 8);
}

static struct abi_rule random_rule(struct rng *g) {
  struct abi_rule r = {.table = (uint8_t)rng_below(g, 2), .scope = (uint32_t)rng_below(g, 2)};
  int family = rng_below(g, 2) ? 4 : 6;
  r.proto = rng_below(g, 3) == 0 ? ABI_RULE_ANY : (uint8_t)rng_below(g, 2);
  r.action = (uint8_t)rng_below(g, r.proto == 0 ? 3 : 2);
  r.remote_bits = random_bits(g, family);
  r.local_bits = random_bits(g, family);
  random_ip(g, family, r.remote);
  random_ip(g, family, r.local);
  r.family = (uint8_t)(r.remote_bits || r.local_bits || rng_below(g, 2) ? family : 0);
  r.port_lo = (uint16_t)rng_below(g, 8) == 0 ? 0 : (uint16_t)(80 + rng_below(g, 12));
  r.port_hi = r.port_lo == 0 ? 65535 : (uint16_t)(r.port_lo + rng_below(g, 6));
  if (r.action == ABI_RULE_REDIRECT) {
    snprintf(r.app, sizeof r.app, "%s", rng_below(g, 2) ? "one" : "two");
    r.to_port = (uint16_t)rng_below(g, 3);
  }
  return r;
}

static void compare(struct rig *r, struct rng *g) {
  uint8_t remote[16], local[16];
  int family = rng_below(g, 2) ? 4 : 6;
  struct rules_key k = {.table = (uint8_t)rng_below(g, 2),
                        .scope = (uint32_t)rng_below(g, 2),
                        .proto = (uint8_t)rng_below(g, 2),
                        .port = (uint16_t)(rng_below(g, 10) ? 78 + rng_below(g, 24) : rng_below(g, 65536)),
                        .remote = remote,
                        .local = local};
  struct abi_rule_verdict got;
  random_ip(g, family, remote);
  random_ip(g, family, local);
  const struct abi_rule *want = naive(&r->edit, &k);
  assert_int_equal(rules_find(&r->reader, &k, &got), want != NULL);
  if (want == NULL)
    return;
  assert_int_equal(got.rule_id, want->id);
  assert_int_equal(got.action, want->action);
  assert_int_equal(got.to_port, want->to_port);
  assert_true(got.app_tag == (want->action == ABI_RULE_REDIRECT ? rules_app_tag(want->app) : 0));
}

static void put_in_force(struct rig *r) {
  assert_int_equal(rules_publish(&r->edit), 0);
  assert_int_equal(rules_take(&r->reader), r->edit.view.block->gen);
}

static void twin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    struct rig r;
    struct rng g;
    rng_init(&g, seed);
    rig_open(&r, 1024);
    for (unsigned round = 0; round < 12; round++) {
      for (unsigned i = 0; i < 60; i++) {
        struct abi_rule rule = random_rule(&g);
        if (rng_below(&g, 3) == 0)
          (void)rules_del(&r.edit, 1 + (uint32_t)rng_below(&g, 1 + r.edit.view.block->next_id));
        int64_t id = rules_add(&r.edit, &rule);
        assert_true(id == -EEXIST || id == (int64_t)r.edit.view.block->next_id);
      }
      put_in_force(&r);
      for (unsigned i = 0; i < 400; i++)
        compare(&r, &g);
    }
    rig_close(&r);
  }
}

/* Ten thousand rules of two kinds: many prefixes, and one prefix with many ports. */
static void many(void **state) {
  (void)state;
  struct rig r;
  struct rng g;
  rng_init(&g, 99);
  rig_open(&r, 16384);
  for (uint32_t i = 0; i < 10000; i++) {
    struct abi_rule rule = {.family = 4, .proto = ABI_RULE_ANY, .action = (uint8_t)(i & 1), .port_hi = 65535};
    rule.remote[10] = rule.remote[11] = 0xff;
    rule.remote_bits = 128;
    store_be32(rule.remote + 12, i & 1 ? 0x0a000000u + i : 0x0b000000u);
    if (!(i & 1)) {
      rule.port_lo = (uint16_t)i;
      rule.port_hi = (uint16_t)(i + 7);
    }
    assert_int_equal(rules_add(&r.edit, &rule), i + 1);
  }
  put_in_force(&r);
  for (uint32_t i = 0; i < 300; i++) {
    uint8_t remote[16] = {[10] = 0xff, [11] = 0xff}, local[16] = {[10] = 0xff, [11] = 0xff};
    struct rules_key k = {.port = (uint16_t)rng_below(&g, 11000), .remote = remote, .local = local};
    struct abi_rule_verdict got;
    store_be32(remote + 12, rng_below(&g, 2) ? 0x0a000000u + (uint32_t)rng_below(&g, 10000) : 0x0b000000u);
    const struct abi_rule *want = naive(&r.edit, &k);
    assert_int_equal(rules_find(&r.reader, &k, &got), want != NULL);
    if (want != NULL)
      assert_int_equal(got.rule_id, want->id);
  }
  rig_close(&r);
}

static void refused(void **state) {
  (void)state;
  struct rig r;
  rig_open(&r, 16);
  struct abi_rule rule = {.family = 4, .action = ABI_RULE_DENY, .port_hi = 65535, .remote_bits = 104};
  rule.remote[10] = rule.remote[11] = 0xff;
  rule.remote[12] = 10;
  assert_int_equal(rules_add(&r.edit, &rule), 1);
  rule.remote[13] = 9; /* behind the prefix: the same rule */
  rule.action = ABI_RULE_ALLOW;
  assert_int_equal(rules_add(&r.edit, &rule), -EEXIST);
  rule.port_lo = 9;
  rule.port_hi = 8;
  assert_int_equal(rules_add(&r.edit, &rule), -EINVAL);
  rule.port_hi = 9;
  rule.action = ABI_RULE_REDIRECT;
  assert_string_equal(rules_check(&rule), "redirect to which app?");
  rule.app[0] = 'x';
  assert_null(rules_check(&rule));
  rule.proto = 1;
  assert_string_equal(rules_check(&rule), "redirect is for TCP alone");
  rule.proto = 0;
  rule.family = 6;
  assert_non_null(rules_check(&rule));
  rule.family = 4;
  for (uint16_t i = 1; i < 16; i++) {
    rule.port_lo = rule.port_hi = i;
    assert_int_equal(rules_add(&r.edit, &rule), i + 1);
  }
  rule.port_lo = rule.port_hi = 99;
  assert_int_equal(rules_add(&r.edit, &rule), -ENOSPC);
  assert_int_equal(rules_del(&r.edit, 3), 0);
  assert_int_equal(rules_del(&r.edit, 3), -ENOENT);
  assert_int_equal(rules_add(&r.edit, &rule), 17);
  rig_close(&r);
}

/* Pairs of prefix lengths are limited; the limit gives way when a rule goes. */
static void tuples(void **state) {
  (void)state;
  struct rig r;
  uint32_t n = 0;
  int64_t id = 0;
  rig_open(&r, 1024);
  for (uint8_t a = 0; a < 128 && id >= 0; a++)
    for (uint8_t b = 0; b < 3 && id >= 0; b++) {
      struct abi_rule rule = {.family = 6, .port_hi = 65535, .remote_bits = a, .local_bits = b};
      rule.remote[0] = 0x20;
      id = rules_add(&r.edit, &rule);
      n += id >= 0;
    }
  assert_int_equal(id, -E2BIG);
  assert_int_equal(n, ABI_RULE_TUPLES);
  put_in_force(&r);
  assert_int_equal(r.reader.bank.n_tuples[1], ABI_RULE_TUPLES);
  assert_int_equal(rules_del(&r.edit, 1), 0);
  struct abi_rule rule = {.family = 6, .port_hi = 65535, .remote_bits = 128, .local_bits = 128};
  assert_true(rules_add(&r.edit, &rule) > 0);
  rig_close(&r);
}

/* A new broker over the same segment: the same rules, a record that is none is freed, ids go on. */
static void again(void **state) {
  (void)state;
  struct rig r;
  struct rng g;
  rng_init(&g, 5);
  rig_open(&r, 256);
  for (unsigned i = 0; i < 100; i++) {
    struct abi_rule rule = random_rule(&g);
    (void)rules_add(&r.edit, &rule);
  }
  put_in_force(&r);
  uint32_t n = r.edit.n, id = r.edit.view.block->next_id;
  struct rules_view v = r.edit.view;
  r.edit.view = (struct rules_view){.seg = {.fd = -1}};
  rules_edit_close(&r.edit);
  v.rule[0].action = 99;
  assert_int_equal(rules_edit_open(&r.edit, &v), 0);
  assert_int_equal(r.edit.n, n - 1);
  assert_int_equal(v.seg.fd, -1);
  put_in_force(&r);
  for (unsigned i = 0; i < 1000; i++)
    compare(&r, &g);
  struct abi_rule rule = {.port_lo = 7, .port_hi = 7, .scope = 9};
  assert_int_equal(rules_add(&r.edit, &rule), id + 1);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(twin), cmocka_unit_test(many), cmocka_unit_test(refused),
                                     cmocka_unit_test(tuples), cmocka_unit_test(again)};
  return cmocka_run_group_tests_name("prop_rules", tests, NULL, NULL);
}
