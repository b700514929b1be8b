/*
 * Redirects: followed from the first hop, refused from anybody else, forgotten in time.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#include <stdio.h>

#define S 1000000ull

static int setup(void **state) { /* default routes by 10.0.0.254 and fe80::fe */
  struct ip_rig *r = rig_new();
  struct ip_addr any4 = rig_addr("0.0.0.0"), any6 = rig_addr("::"), gw4 = rig_addr("10.0.0.254"),
                 gw6 = rig_addr("fe80::fe");
  assert_int_equal(ip_route_add(r->s, &any4, 0, &gw4, 0), 0);
  assert_int_equal(ip_route_add(r->s, &any6, 0, &gw6, 0), 0);
  *state = r;
  return 0;
}

static void redirect4(struct ip_rig *r, const char *from, const char *our, const char *dst, const char *to,
                      uint8_t code) {
  uint8_t f[256], m[8 + 28] = {ICMP4_REDIRECT, code};
  struct ip_addr gw = rig_addr(to);
  struct ip_hdr h = {.version = 4, .ttl = 63, .proto = IP_PROTO_TCP, .total_len = 40, .src = rig_addr(our)};
  h.dst = rig_addr(dst);
  memcpy(m + 4, gw.b + 12, 4);
  assert_int_equal(ip_hdr_build(m + 8, 20, &h), 20);
  icmp4_cksum_set(m, sizeof m);
  rig_in(r, f, rig_build(f, from, "10.0.0.1", IP_PROTO_ICMP, m, sizeof m));
}

static void redirect6(struct ip_rig *r, const char *from, const char *dst, const char *to, uint8_t ttl) {
  uint8_t f[256], m[40] = {ICMP6_REDIRECT};
  struct ip_addr d = rig_addr(dst), t = rig_addr(to);
  struct ip_hdr h = {.version = 6, .ttl = ttl, .proto = IP_PROTO_ICMP6, .src = rig_addr(from)};
  h.dst = rig_addr("2001:db8::1");
  memcpy(m + 8, t.b, 16);
  memcpy(m + 24, d.b, 16);
  icmp6_cksum_set(m, sizeof m, &h.src, &h.dst);
  rig_in(r, f, rig_build_hdr(f, &h, rig_mac, m, sizeof m));
}

/* The first hop towards dst, dst itself if it is on the link. */
static void expect_hop(struct ip_rig *r, const char *dst, const char *want) {
  struct ip_addr d = rig_addr(dst), w = rig_addr(want);
  const struct route *rt = route_lookup(&r->s->routes, &d);
  assert_non_null(rt);
  assert_true(ip_addr_eq(rt->has_via ? &rt->via : &d, &w));
}

static void followed(void **state) {
  struct ip_rig *r = *state;
  uint32_t gen = r->s->gen;
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.253", 1);
  expect_hop(r, "9.9.9.9", "10.0.0.253");
  expect_hop(r, "9.9.9.8", "10.0.0.254");                             /* a host, whatever the code says */
  assert_int_not_equal(gen, r->s->gen);                               /* connections look anew */
  redirect4(r, "10.0.0.253", "10.0.0.1", "9.9.9.9", "10.0.0.252", 0); /* the new hop knows a better one */
  expect_hop(r, "9.9.9.9", "10.0.0.252");
  redirect6(r, "fe80::fe", "2a00::1", "fe80::fd", 255);
  expect_hop(r, "2a00::1", "fe80::fd");
  redirect6(r, "fe80::fe", "2a00::2", "2a00::2", 255); /* is on the link */
  expect_hop(r, "2a00::2", "2a00::2");
  assert_int_equal(r->c[IPC_REDIRECTS], 4);
  rig_advance(r, 599 * S);
  expect_hop(r, "9.9.9.9", "10.0.0.252");
  rig_advance(r, 2 * S);
  expect_hop(r, "9.9.9.9", "10.0.0.254");
  expect_hop(r, "2a00::1", "fe80::fe");
  expect_hop(r, "2a00::2", "fe80::fe");
}

static void refused(void **state) {
  struct ip_rig *r = *state;
  redirect4(r, "10.0.0.253", "10.0.0.1", "9.9.9.9", "10.0.0.252", 1);  /* not from the first hop */
  redirect4(r, "10.0.0.254", "10.0.0.9", "9.9.9.9", "10.0.0.252", 1);  /* about a packet that we did not send */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "192.0.2.1", 1);   /* no neighbour */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.1", 1);    /* we ourselves */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.255", 1);  /* broadcast */
  redirect4(r, "10.0.0.254", "10.0.0.1", "10.0.0.7", "10.0.0.252", 1); /* on the link already */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "9.9.9.9", 1);     /* of another net than ours */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.252", 4);  /* no such code */
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.254", 1);  /* itself */
  redirect6(r, "fe80::fd", "2a00::1", "fe80::fc", 255);
  redirect6(r, "fe80::fe", "2a00::1", "2a00::9", 255);      /* neither router nor the destination */
  redirect6(r, "fe80::fe", "2001:db8::1", "fe80::fc", 255); /* our own address */
  assert_int_equal(r->c[IPC_REDIRECT_REFUSED], 12);
  redirect6(r, "fe80::fe", "2a00::1", "fe80::fc", 254); /* from beyond the link */
  redirect6(r, "2001:db8::fe", "2a00::1", "fe80::fc", 255);
  assert_int_equal(r->c[IPC_ND_BAD], 2);
  struct ip_addr host = rig_addr("9.9.9.9"), gw = rig_addr("10.0.0.254");
  assert_int_equal(ip_route_add(r->s, &host, 32, &gw, 0), 0);
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.252", 1); /* against the user's own word */
  expect_hop(r, "9.9.9.9", "10.0.0.254");
  expect_hop(r, "2a00::1", "fe80::fe");
  assert_int_equal(r->c[IPC_REDIRECTS], 0);
}

static void forgotten(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr host = rig_addr("9.9.9.9"), gw = rig_addr("10.0.0.252");
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.253", 1);
  assert_int_equal(rig_out(r, "9.9.9.9", IP_PROTO_UDP, 20, 0, NULL), 0);
  rig_advance(r, 4 * S); /* the new hop does not answer */
  expect_hop(r, "9.9.9.9", "10.0.0.254");
  redirect4(r, "10.0.0.254", "10.0.0.1", "9.9.9.9", "10.0.0.253", 1);
  assert_int_equal(ip_route_add(r->s, &host, 32, &gw, 0), 0); /* the user's route replaces it, and stays */
  rig_advance(r, 700 * S);
  expect_hop(r, "9.9.9.9", "10.0.0.252");
  for (uint32_t i = 0; i < STACK_REDIRECTS_MAX + 10; i++) {
    char dst[32];
    snprintf(dst, sizeof dst, "9.8.0.%u", i + 1);
    redirect4(r, "10.0.0.254", "10.0.0.1", dst, "10.0.0.253", 1);
    rig_advance(r, 1000);
  }
  expect_hop(r, "9.8.0.10", "10.0.0.254"); /* the oldest gave way */
  expect_hop(r, "9.8.0.11", "10.0.0.253");
  expect_hop(r, "9.8.0.74", "10.0.0.253");
  assert_int_equal(ip_port_set(r->s, 0, rig_mac, 1500, 0), 0);
  expect_hop(r, "9.8.0.74", "10.0.0.254"); /* another link, perhaps */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(followed, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(refused, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(forgotten, setup, rig_teardown),
  };
  return cmocka_run_group_tests_name("ip_redirect", tests, NULL, NULL);
}
