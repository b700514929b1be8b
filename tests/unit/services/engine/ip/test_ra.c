/*
 * Autoconfiguration: solicitations, advertisements in (routers, prefixes, addresses, MTU, hop limit), lifetimes, lies.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#include <stdio.h>

#define S 1000000ull
#define H (3600 * S)

static const uint8_t ra_mac[6] = {2, 0, 0, 0, 0, 0x99};
static const char ours[] = "2001:db8:1::ff:fe00:1"; /* of rig_mac */

static int setup(void **state) {
  struct ip_rig *r = rig_new();
  assert_int_equal(ip_auto6(r->s, 0, 1), 0);
  *state = r;
  return 0;
}

static struct nd_prefix prefix(const char *net, uint8_t len, uint8_t flags, uint32_t valid, uint32_t preferred) {
  return (struct nd_prefix){
      .prefix = rig_addr(net), .len = len, .flags = flags, .valid_s = valid, .preferred_s = preferred};
}

static uint32_t ra_frame(uint8_t *f, const char *src, uint8_t ttl, const struct nd_msg *m) {
  uint8_t msg[512];
  struct ip_hdr h = {
      .version = 6, .ttl = ttl, .proto = IP_PROTO_ICMP6, .src = rig_addr(src), .dst = rig_addr("ff02::1")};
  struct mac_addr group = ip_addr_mcast_mac(&h.dst);
  int n = nd_msg_build(msg, sizeof msg, m);
  assert_true(n > 0);
  icmp6_cksum_set(msg, (size_t)n, &h.src, &h.dst);
  return rig_build_hdr(f, &h, group.b, msg, (uint32_t)n);
}

static void advertise(struct ip_rig *r, const char *src, struct nd_msg m) {
  uint8_t f[1024];
  m.type = ICMP6_RA;
  rig_in(r, f, ra_frame(f, src, 255, &m));
}

/* One with a prefix of ours, both flags. */
static void advertise_prefix(struct ip_rig *r, uint16_t router_s, uint32_t valid, uint32_t preferred) {
  struct nd_msg m = {.lifetime_s = router_s, .n_prefixes = 1};
  m.prefixes[0] = prefix("2001:db8:1::", 64, ND_PREFIX_ONLINK | ND_PREFIX_AUTO, valid, preferred);
  advertise(r, "fe80::99", m);
}

static struct ip_local *mine(struct ip_rig *r) {
  struct ip_addr a = rig_addr(ours);
  return addr_find(r->s, &a);
}

static const struct route *default_route(struct ip_rig *r) {
  struct ip_addr far = rig_addr("2a00::1");
  return route_lookup(&r->s->routes, &far);
}

static uint32_t solicitations(const struct ip_rig *r) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < HS_MIN(r->n_sent, RIG_SENT); i++)
    n += r->sent[i].b[20] == IP_PROTO_ICMP6 && r->sent[i].b[54] == ICMP6_RS;
  return n;
}

static void solicits_until_answered(void **state) {
  struct ip_rig *r = *state;
  rig_advance(r, 1000);
  assert_int_equal(solicitations(r), 1);
  const uint8_t *f = r->sent[0].b;
  struct ip_hdr h;
  static const uint8_t all_routers[6] = {0x33, 0x33, 0, 0, 0, 2};
  struct ip_addr ll = rig_addr("fe80::ff:fe00:1"), all = rig_addr("ff02::2");
  assert_memory_equal(f, all_routers, 6);
  assert_int_equal(ip_hdr_parse(f + 14, r->sent[0].len - 14, &h), 40);
  assert_int_equal(h.ttl, 255);
  assert_true(ip_addr_eq(&h.src, &ll));
  assert_true(ip_addr_eq(&h.dst, &all));
  assert_int_equal(h.total_len, 40 + 16);
  assert_int_equal(f[62], 1); /* source link-layer address */
  assert_memory_equal(f + 64, rig_mac, 6);
  assert_true(icmp6_cksum_ok(f + 54, 16, &h.src, &h.dst));
  rig_advance(r, 60 * S); /* at 4, 8, 16 … s, and up to a tenth later */
  assert_in_range(solicitations(r), 4, 5);
  advertise_prefix(r, 0, 100, 100); /* no default router: go on asking (RFC 7559 2.1) */
  rig_clear(r);
  rig_advance(r, 120 * S);
  assert_in_range(solicitations(r), 1, 2);
  advertise_prefix(r, 1800, 3600, 3600);
  rig_clear(r);
  rig_advance(r, 3000 * S);
  assert_int_equal(solicitations(r), 0);
  assert_int_equal(ip_port_set(r->s, 0, rig_mac, 1500, 0), 0);
  assert_int_equal(ip_port_set(r->s, 0, rig_mac, 1500, 1), 0); /* perhaps another link */
  rig_clear(r);
  rig_advance(r, 1000);
  assert_int_equal(solicitations(r), 1);
}

static void learns(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr on_link = rig_addr("2001:db8:1::77"), far = rig_addr("2a00::1"), src;
  advertise_prefix(r, 1800, 86400, 14400);
  assert_non_null(mine(r));
  assert_int_equal(mine(r)->state, LOCAL_OPTIMISTIC);
  rig_clear(r);
  rig_advance(r, 2 * S); /* asked for, and announced */
  assert_int_equal(mine(r)->state, LOCAL_PREFERRED);
  assert_true(r->n_sent >= 3);
  assert_int_equal(r->sent[0].b[62], ICMP6_MLD2_REPORT);
  assert_int_equal(r->sent[1].b[54], ICMP6_NS);
  assert_non_null(default_route(r));
  assert_int_equal(default_route(r)->has_via, 1);
  assert_int_equal(ip_source(r->s, &far, &src), 0);
  assert_int_equal(ip_source(r->s, &on_link, &src), 0);
  assert_true(ip_addr_eq(&src, &mine(r)->addr));
  rig_clear(r);
  assert_int_equal(rig_out(r, "2001:db8:1::77", IP_PROTO_UDP, 20, 0, NULL), 0); /* asks for it, not for the router */
  assert_memory_equal(r->sent[0].b + 62, on_link.b, 16);
  rig_clear(r);
  assert_int_equal(rig_out(r, "2a00::1", IP_PROTO_UDP, 20, 0, NULL), 0);
  struct ip_addr router = rig_addr("fe80::99");
  assert_memory_equal(r->sent[0].b + 62, router.b, 16);
  assert_int_equal(r->c[IPC_RA_ADDR], 1);
  advertise_prefix(r, 1800, 86400, 14400); /* again: nothing new */
  assert_int_equal(r->c[IPC_RA_ADDR], 1);
}

static void flags_and_lengths(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr on_link = rig_addr("2001:db8:1::77");
  struct nd_msg m = {.n_prefixes = 6};
  m.prefixes[0] = prefix("2001:db8:1::", 64, ND_PREFIX_AUTO, 100, 100); /* an address, but the net is not on the link */
  m.prefixes[1] = prefix("2001:db8:2::", 64, ND_PREFIX_ONLINK, 100, 100);
  m.prefixes[2] = prefix("2001:db8:3::", 56, ND_PREFIX_AUTO, 100, 100);
  m.prefixes[3] = prefix("fe80::", 64, ND_PREFIX_AUTO | ND_PREFIX_ONLINK, 100, 100);
  m.prefixes[4] = prefix("2001:db8:4::", 64, ND_PREFIX_AUTO, 100, 101); /* RFC 4862 5.5.3 c */
  m.prefixes[5] = prefix("2001:db8:5::", 64, ND_PREFIX_AUTO, 0, 0);
  advertise(r, "fe80::99", m);
  assert_int_equal(r->c[IPC_RA_ADDR], 1);
  assert_non_null(mine(r));
  assert_null(route_lookup(&r->s->routes, &on_link));
  on_link = rig_addr("2001:db8:2::77");
  assert_non_null(route_lookup(&r->s->routes, &on_link));
  assert_null(default_route(r)); /* lifetime 0 */
}

static void lifetimes(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr on_link = rig_addr("2001:db8:1::77"), other = rig_addr("2001:db8::77"), src;
  advertise_prefix(r, 600, 7200, 300);
  rig_advance(r, 299 * S);
  assert_int_equal(mine(r)->deprecated, 0);
  assert_int_equal(ip_source(r->s, &on_link, &src), 0); /* of its own net it is the best */
  assert_true(ip_addr_eq(&src, &mine(r)->addr));
  rig_advance(r, 2 * S);
  assert_int_equal(mine(r)->deprecated, 1);
  assert_int_equal(ip_source(r->s, &on_link, &src), 0); /* RFC 6724 5 rule 3 */
  assert_false(ip_addr_eq(&src, &mine(r)->addr));
  assert_int_equal(ip_source(r->s, &other, &src), 0);
  assert_false(ip_addr_eq(&src, &mine(r)->addr));
  assert_non_null(default_route(r));
  rig_advance(r, 300 * S);
  assert_null(default_route(r));
  rig_advance(r, 6598 * S);
  assert_non_null(mine(r));
  assert_non_null(route_lookup(&r->s->routes, &on_link));
  rig_advance(r, 2 * S);
  assert_null(mine(r));
  assert_null(route_lookup(&r->s->routes, &on_link));
  assert_int_equal(r->c[IPC_RA_EXPIRED], 1);
  advertise_prefix(r, 0, UINT32_MAX, UINT32_MAX); /* for ever */
  rig_advance(r, 20 * H);
  assert_int_equal(mine(r)->deprecated, 0);
}

/* RFC 4862 5.5.3 e: an advertisement without authentication may not end an address at once. */
static void two_hours(void **state) {
  struct ip_rig *r = *state;
  advertise_prefix(r, 0, 10 * 3600, 3600);
  advertise_prefix(r, 0, 60, 60);
  assert_int_equal(mine(r)->valid, r->now + 2 * H);
  assert_int_equal(mine(r)->preferred, r->now + 60 * S); /* this counts always */
  advertise_prefix(r, 0, 5, 0);
  assert_int_equal(mine(r)->valid, r->now + 2 * H);
  assert_int_equal(mine(r)->deprecated, 1);
  advertise_prefix(r, 0, 3 * 3600, 3600);
  assert_int_equal(mine(r)->valid, r->now + 3 * H);
  assert_int_equal(mine(r)->deprecated, 0);
  rig_advance(r, 2 * H + 1800 * S);
  advertise_prefix(r, 0, 3600, 60); /* longer than what is left */
  assert_int_equal(mine(r)->valid, r->now + H);
}

static void routers(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("fe80::a"), b = rig_addr("fe80::b");
  uint8_t f[256];
  advertise(r, "fe80::a", (struct nd_msg){.lifetime_s = 1000});
  advertise(r, "fe80::b", (struct nd_msg){.lifetime_s = 9000});
  assert_true(ip_addr_eq(&default_route(r)->via, &a));
  assert_int_equal(rig_out(r, "2a00::1", IP_PROTO_UDP, 20, 0, NULL), 0);
  rig_advance(r, 4 * S); /* nobody answers for a: the other one (RFC 4861 6.3.6) */
  assert_true(ip_addr_eq(&default_route(r)->via, &b));
  assert_int_equal(rig_out(r, "2a00::1", IP_PROTO_UDP, 20, 0, NULL), 0);
  rig_in(r, f,
         rig_nd(f, ICMP6_NA, ND_NA_SOLICITED | ND_NA_OVERRIDE | ND_NA_ROUTER, "fe80::b", "fe80::ff:fe00:1", "fe80::b",
                ra_mac));
  rig_advance(r, 1000 * S); /* a's time is over */
  assert_true(ip_addr_eq(&default_route(r)->via, &b));
  advertise(r, "fe80::b", (struct nd_msg){.lifetime_s = 0});
  assert_null(default_route(r));
  /* the user's route stays, and is preferred */
  struct ip_addr any = rig_addr("::");
  advertise(r, "fe80::b", (struct nd_msg){.lifetime_s = 9000});
  assert_int_equal(default_route(r)->learned, 1);
  assert_int_equal(ip_route_add(r->s, &any, 0, &a, 0), 0);
  assert_int_equal(default_route(r)->learned, 0);
  advertise(r, "fe80::b", (struct nd_msg){.lifetime_s = 0});
  advertise(r, "fe80::b", (struct nd_msg){.lifetime_s = 9000});
  assert_true(ip_addr_eq(&default_route(r)->via, &a));
}

static void link_values(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr six = rig_addr("2001:db8::2"), four = rig_addr("10.0.0.2");
  struct ip_path path = {0};
  advertise(r, "fe80::99", (struct nd_msg){.hop_limit = 33, .present = ND_HAS_MTU, .mtu = 1400, .reachable_ms = 60000});
  assert_int_equal(ip_mtu(r->s, &six), 1400);
  assert_int_equal(ip_mtu(r->s, &four), 1500);
  rig_resolve(r, "2001:db8::2", rig_peer);
  assert_int_equal(rig_out(r, "2001:db8::2", IP_PROTO_TCP, 1360, 0, &path), 0);
  assert_int_equal(path.mtu, 1400);
  assert_int_equal(r->sent[0].b[21], 33);
  assert_int_equal(rig_out(r, "2001:db8::2", IP_PROTO_TCP, 1361, 0, &path), -EMSGSIZE);
  assert_in_range(r->s->neigh.reachable, 30 * S, 90 * S);
  advertise(r, "fe80::99", (struct nd_msg){.present = ND_HAS_MTU, .mtu = 1279});
  assert_int_equal(ip_mtu(r->s, &six), 1400);
  advertise(r, "fe80::99", (struct nd_msg){.present = ND_HAS_MTU, .mtu = 9000}); /* not above the port's own */
  assert_int_equal(ip_mtu(r->s, &six), 1500);
}

static void refused(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1024];
  struct nd_msg m = {.type = ICMP6_RA, .lifetime_s = 1000};
  rig_in(r, f, ra_frame(f, "fe80::99", 254, &m)); /* from beyond the link */
  rig_in(r, f, ra_frame(f, "2001:db8::99", 255, &m));
  assert_int_equal(r->c[IPC_ND_BAD], 2);
  assert_null(default_route(r));
  assert_int_equal(ip_auto6(r->s, 0, 0), 0);
  advertise_prefix(r, 1000, 1000, 1000);
  assert_int_equal(r->c[IPC_ND_RA_IGNORED], 1);
  assert_null(mine(r));
  assert_int_equal(ip_auto6(r->s, ABI_PORTS_MAX, 1), -EINVAL);
}

/* Anybody on the link can advertise: all that is learned is bounded. */
static void floods(void **state) {
  struct ip_rig *r = *state;
  char text[64];
  for (uint32_t i = 0; i < 100; i++) {
    struct nd_msg m = {.lifetime_s = 1000, .n_prefixes = 1};
    snprintf(text, sizeof text, "2001:db8:%x::", 0x100 + i);
    m.prefixes[0] = prefix(text, 64, ND_PREFIX_ONLINK | ND_PREFIX_AUTO, 1000, 1000);
    snprintf(text, sizeof text, "fe80::%x", 0x100 + i);
    advertise(r, text, m);
  }
  assert_int_equal(r->c[IPC_RA_ADDR], RA_ADDRS);
  assert_int_equal(r->c[IPC_RA_LIMIT], 100 - RA_ADDRS + 100 - RA_PREFIXES + 100 - RA_ROUTERS);
  rig_advance(r, 1001 * S); /* all of it goes again */
  assert_null(default_route(r));
  advertise_prefix(r, 1000, 1000, 1000);
  assert_non_null(mine(r));
}

/* Another station has the address: not used (RFC 4862 5.4.5). A configured one of the same net keeps its route. */
static void duplicate_and_sister(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  struct ip_addr given = rig_addr("2001:db8:1::5"), on_link = rig_addr("2001:db8:1::77");
  advertise_prefix(r, 0, 7200, 7200);
  rig_advance(r, 1000);
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_OVERRIDE, ours, "ff02::1", ours, ra_mac));
  assert_null(mine(r));
  assert_int_equal(r->c[IPC_ADDR_DUPLICATE], 1);
  advertise_prefix(r, 0, 7200, 7200);
  rig_advance(r, 5 * S);
  assert_null(mine(r));
  assert_int_equal(rig_out(r, ours, IP_PROTO_TCP, 20, 0, NULL), 0); /* it is that station's: found like any other */
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_OVERRIDE | ND_NA_SOLICITED, ours, "2001:db8::1", ours, ra_mac));
  assert_non_null(neigh_find(r->s, 0, &(struct ip_addr[]){rig_addr(ours)}[0]));
  assert_int_equal(neigh_find(r->s, 0, &(struct ip_addr[]){rig_addr(ours)}[0])->state, NEIGH_REACHABLE);
  assert_int_equal(r->c[IPC_ADDR_DUPLICATE], 1);
  assert_int_equal(ip_addr_add(r->s, 0, &given, 64), 0);
  rig_advance(r, 7300 * S);
  assert_non_null(route_lookup(&r->s->routes, &on_link));
  assert_int_equal(ip_addr_del(r->s, 0, &given), 0);
  assert_null(route_lookup(&r->s->routes, &on_link));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(solicits_until_answered, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(learns, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(flags_and_lengths, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(lifetimes, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(two_hours, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(routers, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(link_values, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(refused, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(floods, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(duplicate_and_sister, setup, rig_teardown),
  };
  return cmocka_run_group_tests_name("ip_ra", tests, NULL, NULL);
}
