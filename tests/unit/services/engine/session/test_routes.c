/*
 * Records of routes that were set at run time: which one counts after each change, and after an engine that died
 * between any two stores of one.
 */
#include "base/fault.h"
#include "session/routes.h"
#include "session/worker.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ROOM 4u

static const struct worker_control no_control = {0};
const struct worker_control *worker_control = &no_control;

static struct config_route route(uint8_t net, uint8_t via) {
  struct config_route r = {.family = 4, .prefix = 24, .has_via = 4};
  const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 0, [14] = net, [15] = 0};
  memcpy(r.dst, mapped, sizeof r.dst);
  memcpy(r.via, mapped, sizeof r.via);
  r.via[14] = 77;
  r.via[15] = via;
  snprintf(r.port, sizeof r.port, "hs0");
  return r;
}

static uint32_t used(const struct abi_route *t) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < ROOM; i++)
    n += t[i].life != ABI_ROUTE_FREE;
  return n;
}

/* Gateway of what counts, 0 = nothing. */
static uint8_t counts(const struct abi_route *t, const struct config_route *key) {
  const struct abi_route *r = routes_find(t, ROOM, key);
  return r ? r->via[15] : 0;
}

static void test_keep_and_forget(void **state) {
  struct abi_route t[ROOM] = {0};
  struct config_route a = route(1, 2), b = route(2, 3), six = a;
  (void)state;
  six.family = 6;
  assert_null(routes_find(t, ROOM, &a));
  assert_int_equal(routes_keep(t, ROOM, &a, ABI_ROUTE_SET), 0);
  assert_int_equal(routes_keep(t, ROOM, &b, ABI_ROUTE_GONE), 0);
  assert_int_equal(counts(t, &a), 2);
  assert_int_equal(routes_find(t, ROOM, &a)->life, ABI_ROUTE_SET);
  assert_int_equal(routes_find(t, ROOM, &b)->life, ABI_ROUTE_GONE);
  assert_string_equal(routes_find(t, ROOM, &a)->interface, "hs0");
  assert_null(routes_find(t, ROOM, &six));
  a.via[15] = 9;
  assert_int_equal(routes_keep(t, ROOM, &a, ABI_ROUTE_SET), 0);
  assert_int_equal(counts(t, &a), 9);
  assert_int_equal(used(t), 2);
  routes_forget(t, ROOM, &a);
  assert_null(routes_find(t, ROOM, &a));
  routes_forget(t, ROOM, &a);
  assert_int_equal(used(t), 1);
}

static void test_full(void **state) {
  struct abi_route t[ROOM] = {0};
  (void)state;
  for (uint8_t i = 0; i < ROOM; i++) {
    struct config_route r = route(i, 2);
    assert_int_equal(routes_keep(t, ROOM, &r, ABI_ROUTE_SET), 0);
  }
  struct config_route more = route(200, 2), first = route(0, 9);
  assert_int_equal(routes_keep(t, ROOM, &more, ABI_ROUTE_SET), -ENOSPC);
  assert_int_equal(routes_keep(t, ROOM, &first, ABI_ROUTE_SET), -ENOSPC); /* and the old one stands */
  assert_int_equal(counts(t, &first), 2);
  assert_int_equal(routes_keep(NULL, 0, &more, ABI_ROUTE_SET), -ENOSPC);
}

/* --- an engine that dies in between --- */

static struct abi_route seen[ROOM];
static const struct abi_route *watched;

static void look(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  memcpy(seen, watched, sizeof seen);
}

/* What a successor makes of the table as it was at the point. */
static uint8_t successor(const struct config_route *key) {
  uint32_t before = used(seen);
  uint8_t via = counts(seen, key);
  routes_settle(seen, ROOM);
  assert_int_equal(counts(seen, key), via);
  assert_true(used(seen) <= 1 && used(seen) <= before);
  return via;
}

static void at(const char *point, struct abi_route *t) {
  memset(seen, 0xff, sizeof seen);
  watched = t;
  fault_set_hook(look, NULL);
  assert_int_equal(fault_arm(point, 1, FAULT_HOOK), 0);
}

static void test_every_prefix(void **state) {
  struct abi_route t[ROOM] = {0};
  struct config_route a = route(1, 2);
  (void)state;
  if (fault_list(NULL, 0) == 0)
    skip(); /* a release build */
  at("routes.record", t);
  assert_int_equal(routes_keep(t, ROOM, &a, ABI_ROUTE_SET), 0);
  assert_int_equal(successor(&a), 0);
  a.via[15] = 3;
  at("routes.record", t);
  assert_int_equal(routes_keep(t, ROOM, &a, ABI_ROUTE_SET), 0);
  assert_int_equal(successor(&a), 2); /* not yet */
  a.via[15] = 4;
  at("routes.two", t);
  assert_int_equal(routes_keep(t, ROOM, &a, ABI_ROUTE_SET), 0);
  assert_int_equal(used(seen), 2);
  assert_int_equal(successor(&a), 4);
  t[3] = *routes_find(t, ROOM, &a); /* two, as after a death; the older one is not to come back */
  t[3].seq--;
  t[3].via[15] = 1;
  at("routes.forget", t);
  routes_forget(t, ROOM, &a);
  assert_int_equal(successor(&a), 4);
  assert_int_equal(used(t), 0);
  fault_disarm();
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keep_and_forget),
      cmocka_unit_test(test_full),
      cmocka_unit_test(test_every_prefix),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
