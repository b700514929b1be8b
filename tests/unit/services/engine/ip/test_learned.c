/*
 * Two stacks of one host: what the first learned (a redirect, an MTU) is the second's by ip_learn, and goes with it;
 * the second answers nobody.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#define S 1000000ull

static struct ip_learned seen;

static int has_hop(struct ip_rig *r, const char *dst, const char *via) {
  struct ip_addr d = rig_addr(dst), v = rig_addr(via);
  const struct route *rt = route_lookup(&r->s->routes, &d);
  return rt != NULL && rt->has_via && ip_addr_eq(&rt->via, &v);
}

static void test_learned(void **state) {
  struct ip_rig *a = rig_new(), *b = rig_new();
  struct ip_addr any = rig_addr("0.0.0.0"), gw = rig_addr("10.0.0.254"), dhcp = rig_addr("10.5.0.9");
  int err;
  (void)state;
  ip_quiet(b->s);
  ip_learned(a->s, &seen);
  assert_int_equal(seen.n_addrs, 0);
  assert_int_equal(seen.n_routes, 0);
  uint32_t gen = ip_gen(a->s);
  struct route *r = route_add(&a->s->routes, &any, 96, &err);
  assert_non_null(r);
  r->via = gw;
  r->has_via = r->learned = 1;
  assert_non_null(addr_make(a->s, 0, &dhcp, 24, LOCAL_BY_DHCP));
  a->s->port[0].mtu4 = 1400;
  assert_true(ip_gen(a->s) != gen);
  ip_learned(a->s, &seen);
  assert_int_equal(seen.n_addrs, 1);
  assert_int_equal(seen.n_routes, 1);

  ip_learn(b->s, &seen, b->now);
  assert_true(ip_is_local(b->s, &dhcp));
  assert_true(has_hop(b, "9.9.9.9", "10.0.0.254"));
  assert_int_equal(b->s->port[0].mtu4, 1400);
  uint32_t n_routes = b->s->routes.n;
  ip_learn(b->s, &seen, b->now); /* twice is once */
  assert_int_equal(b->s->routes.n, n_routes);

  r->via = rig_addr("10.0.0.253"); /* another router */
  ip_learned(a->s, &seen);
  ip_learn(b->s, &seen, b->now);
  assert_true(has_hop(b, "9.9.9.9", "10.0.0.253"));

  addr_remove(a->s, addr_on_port(a->s, 0, &dhcp));
  assert_int_equal(route_del(&a->s->routes, &any, 96), 0);
  ip_learned(a->s, &seen);
  ip_learn(b->s, &seen, b->now);
  assert_false(ip_is_local(b->s, &dhcp));
  assert_false(has_hop(b, "9.9.9.9", "10.0.0.253"));
  rig_free(a);
  rig_free(b);
}

/* A user's route stands, whatever the sister learned. */
static void test_configured_stands(void **state) {
  struct ip_rig *a = rig_new(), *b = rig_new();
  struct ip_addr any = rig_addr("0.0.0.0"), mine = rig_addr("10.0.0.77");
  int err;
  (void)state;
  assert_int_equal(ip_route_add(b->s, &any, 0, &mine, 0), 0);
  struct route *r = route_add(&a->s->routes, &any, 96, &err);
  r->via = rig_addr("10.0.0.254");
  r->has_via = r->learned = 1;
  ip_learned(a->s, &seen);
  ip_learn(b->s, &seen, b->now);
  assert_true(has_hop(b, "9.9.9.9", "10.0.0.77"));
  memset(&seen, 0, sizeof seen);
  ip_learn(b->s, &seen, b->now);
  assert_true(has_hop(b, "9.9.9.9", "10.0.0.77"));
  rig_free(a);
  rig_free(b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_learned), cmocka_unit_test(test_configured_stands)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
