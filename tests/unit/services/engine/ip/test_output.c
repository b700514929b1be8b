/*
 * What goes to the link: headers, the cached path, large frames, groups, routes, refusals; and our own addresses:
 * announcing, duplicates, choosing a source.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/nd.h"

#define S 1000000ull

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[6] = {0};
static const uint8_t mac1[6] = {2, 0, 0, 0, 1, 1}; /* ours on port 1 */

static void headers(void **state) {
  struct ip_rig *r = *state;
  struct ip_hdr h;
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_resolve(r, "2001:db8::2", rig_peer);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 40, 0, NULL), 0);
  assert_int_equal(r->sent[0].len, 74);
  assert_int_equal(ip4_hdr_parse(r->sent[0].b + 14, 60, &h), 20);
  assert_int_equal(h.flags, IP_FLAG_DF);
  assert_int_equal(h.ttl, 64);
  assert_int_equal(h.proto, IP_PROTO_TCP);
  assert_int_equal(h.total_len, 60);
  assert_true(ip4_hdr_cksum_ok(r->sent[0].b + 14, 20));
  assert_int_equal(rig_out(r, "2001:db8::2", IP_PROTO_TCP, 40, 0, NULL), 0);
  assert_int_equal(r->sent[1].len, 94);
  assert_int_equal(ip6_hdr_parse(r->sent[1].b + 14, 80, &h), 40);
  assert_int_equal(h.total_len, 80);
  assert_int_equal(h.ttl, 64);
  assert_int_equal(load_be16(r->sent[1].b + 12), ETH_TYPE_IP6);
}

static int send_gso(struct ip_rig *r, const char *dst, uint32_t fifo, uint16_t gso, struct ip_path *path) {
  struct txf t;
  struct ip_addr d = rig_addr(dst), s = rig_addr(ip_addr_is4(&d) ? "10.0.0.1" : "2001:db8::1");
  memset(&t, 0, sizeof t);
  t.slot = 0;
  r->out[0] = 1;
  r->n_out++;
  t.slot_base = r->slot[0];
  t.data = r->slot[0] + ABI_SLOT_HEAD + TXF_HEADROOM;
  memset(t.data, 0, 32);
  t.len = 32;
  t.n_fifo = 1;
  t.fifo[0].len = t.fifo_len = fifo;
  t.flags = (uint16_t)(ABI_FR_CSUM_PART | (ip_addr_is4(&d) ? ABI_FR_GSO_TCP4 : ABI_FR_GSO_TCP6));
  t.csum_off = 16;
  t.gso_size = gso;
  return ip_output(r->s, &t, &s, &d, IP_PROTO_TCP, 0, 0, path, r->now);
}

static void large_frames(void **state) {
  struct ip_rig *r = *state;
  struct ip_hdr h;
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_resolve(r, "2001:db8::2", rig_peer);
  uint32_t most4 = 65535 - 20 - 32, most6 = 65535 - 32;
  assert_int_equal(send_gso(r, "10.0.0.2", most4, 1448, NULL), 0);
  assert_int_equal(r->sent[0].csum_start, 34); /* relative to the frame */
  assert_int_equal(r->sent[0].csum_off, 16);
  assert_int_equal(ip_hdr_parse_quoted(r->sent[0].b + 14, 52, &h), 20);
  assert_int_equal(h.total_len, 65535);
  assert_true(ip4_hdr_cksum_ok(r->sent[0].b + 14, 20));
  assert_int_equal(send_gso(r, "2001:db8::2", most6, 1428, NULL), 0);
  assert_int_equal(r->sent[1].csum_start, 54);
  assert_int_equal(ip_hdr_parse_quoted(r->sent[1].b + 14, 72, &h), 40);
  assert_int_equal(h.total_len, 65535 + 40);
  assert_int_equal(send_gso(r, "10.0.0.2", most4 + 1, 1448, NULL), -EMSGSIZE);
  assert_int_equal(send_gso(r, "2001:db8::2", most6 + 1, 1428, NULL), -EMSGSIZE);
  assert_int_equal(send_gso(r, "10.0.0.2", 60000, 1461, NULL), -EMSGSIZE);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 1480, 0, NULL), 0);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 1481, 0, NULL), -EMSGSIZE);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_UDP, 8, 1473, NULL), -EMSGSIZE);
  assert_int_equal(r->c[IPC_TX_TOO_LONG], 5);
  assert_int_equal(r->n_out, 0);
}

static void path_is_kept_until_something_changes(void **state) {
  struct ip_rig *r = *state;
  struct ip_path path = {0}, before;
  struct ip_addr other = rig_addr("192.168.0.0"), via = rig_addr("10.0.0.9");
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), 0); /* queued: nothing to keep yet */
  assert_int_equal(path.gen, 0);
  ip_drop_queued(r->s);
  rig_resolve(r, "10.0.0.2", rig_peer);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), 0);
  assert_int_equal(path.gen, r->s->gen);
  assert_int_equal(path.resolved, 1);
  assert_int_equal(path.mtu, 1500);
  assert_memory_equal(path.dst_mac, rig_peer, 6);
  assert_memory_equal(path.src_mac, rig_mac, 6);
  /* no lookup at all: a path of the present generation is believed whatever the destination */
  assert_int_equal(rig_out(r, "203.0.113.1", IP_PROTO_TCP, 20, 0, &path), 0);
  assert_memory_equal(r->sent[1].b, rig_peer, 6);
  before = path;
  assert_int_equal(ip_route_add(r->s, &other, 16, &via, 0), 0);
  assert_int_not_equal(before.gen, r->s->gen);
  assert_int_equal(rig_out(r, "203.0.113.1", IP_PROTO_TCP, 20, 0, &path), -ENETUNREACH);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 5000, &path), -EMSGSIZE);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), 0);
  assert_int_equal(path.gen, r->s->gen);
  assert_int_equal(ip_port_set(r->s, 0, rig_mac, 1400, 1), 0);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 1400, 0, &path), -EMSGSIZE);
  assert_int_equal(ip_port_set(r->s, 0, rig_mac, 1400, 0), 0);
  assert_int_equal(rig_out(r, "10.0.0.2", IP_PROTO_TCP, 20, 0, &path), -ENETUNREACH);
}

static void routes_and_gateways(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr any4 = rig_addr("0.0.0.0"), any6 = rig_addr("::"), gw = rig_addr("10.0.0.254"),
                 gw6 = rig_addr("fe80::99"), far = rig_addr("9.9.9.9"), net = rig_addr("172.16.0.0"),
                 us = rig_addr("10.0.0.1"), connected = rig_addr("10.0.0.0");
  assert_int_equal(rig_out(r, "192.0.2.1", IP_PROTO_UDP, 20, 0, NULL), -ENETUNREACH);
  assert_int_equal(ip_mtu(r->s, &far), -ENETUNREACH);
  assert_int_equal(ip_route_add(r->s, &any4, 0, &far, 0), -ENETUNREACH); /* a gateway must be a neighbour */
  assert_int_equal(ip_route_add(r->s, &any4, 0, &us, 0), -ENETUNREACH);
  assert_int_equal(ip_route_add(r->s, &any4, 0, &gw6, 0), -EINVAL);
  assert_int_equal(ip_route_add(r->s, &any4, 33, &gw, 0), -EINVAL);
  assert_int_equal(ip_route_add(r->s, &any4, 0, &gw, 0), 0);
  assert_int_equal(ip_route_add(r->s, &any4, 0, &gw, 0), -EEXIST);
  assert_int_equal(ip_route_add(r->s, &connected, 24, NULL, 0), -EEXIST);
  assert_int_equal(ip_route_add(r->s, &any6, 0, &gw6, 0), 0);
  assert_int_equal(ip_route_add(r->s, &net, 12, NULL, 0), 0);
  assert_int_equal(ip_mtu(r->s, &far), 1500);
  assert_int_equal(rig_out(r, "9.9.9.9", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[0].b + 38, gw.b + 12, 4); /* ARP asks for the gateway */
  assert_int_equal(rig_out(r, "172.31.1.1", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_int_equal(load_be32(r->sent[1].b + 38), 0xac1f0101); /* on link: for the destination itself */
  assert_int_equal(rig_out(r, "2a00::1", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[2].b + 62, gw6.b, 16);
  assert_int_equal(ip_route_del(r->s, &any4, 0), 0);
  assert_int_equal(ip_route_del(r->s, &any4, 0), -ENOENT);
  assert_int_equal(rig_out(r, "9.9.9.9", IP_PROTO_UDP, 20, 0, NULL), -ENETUNREACH);
  assert_int_equal(rig_out(r, "2a00::1", IP_PROTO_UDP, 20, 0, NULL), 0); /* ::/0 stands, and is not IPv4's */
}

static void groups(void **state) {
  struct ip_rig *r = *state;
  static const uint8_t m4[6] = {1, 0, 0x5e, 0, 0, 0xfb}, m6[6] = {0x33, 0x33, 0, 0, 0, 0xfb};
  assert_int_equal(rig_out(r, "224.0.0.251", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[0].b, m4, 6);
  assert_int_equal(rig_out(r, "ff02::fb", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[1].b, m6, 6);
  assert_int_equal(rig_out(r, "255.255.255.255", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[2].b, everybody, 6);
  assert_int_equal(rig_out(r, "10.0.0.255", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_memory_equal(r->sent[3].b, everybody, 6);
  assert_int_equal(r->s->neigh.n_used, 0);
}

static void announces(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a4 = rig_addr("10.0.0.7"), a6 = rig_addr("2001:db8::7");
  uint8_t want[128];
  assert_int_equal(ip_addr_add(r->s, 0, &a4, 24), 0);
  assert_int_equal(ip_addr_add(r->s, 0, &a4, 24), -EEXIST);
  assert_int_equal(ip_timer(r->s, r->now) > r->now, 1);
  assert_int_equal(r->n_sent, 1); /* RFC 5227: now and again after two seconds */
  uint32_t n = rig_arp(want, everybody, ARP_REQUEST, rig_mac, "10.0.0.7", nobody, "10.0.0.7");
  assert_int_equal(r->sent[0].len, n);
  assert_memory_equal(r->sent[0].b, want, n);
  rig_advance(r, 2100000);
  assert_int_equal(r->n_sent, 2);
  assert_memory_equal(r->sent[1].b, want, n);
  rig_advance(r, 100 * S);
  assert_int_equal(r->n_sent, 2);

  rig_clear(r);
  assert_int_equal(ip_addr_add(r->s, 0, &a6, 64), 0);
  ip_timer(r->s, r->now);
  assert_int_equal(r->n_sent, 3); /* the group is joined first: see test_mld.c */
  n = rig_nd(want, ICMP6_NS, 0, "::", "ff02::1:ff00:7", "2001:db8::7", NULL);
  memcpy(want + 6, rig_mac, 6);
  assert_memory_equal(r->sent[1].b, want, n);
  n = rig_nd(want, ICMP6_NA, 0, "2001:db8::7", "ff02::1", "2001:db8::7", rig_mac);
  memcpy(want + 6, rig_mac, 6);
  assert_memory_equal(r->sent[2].b, want, n);
  rig_advance(r, 1100000); /* nobody objected */
  assert_int_equal(r->n_sent, 5);
  n = rig_nd(want, ICMP6_NA, ND_NA_OVERRIDE, "2001:db8::7", "ff02::1", "2001:db8::7", rig_mac);
  memcpy(want + 6, rig_mac, 6);
  assert_memory_equal(r->sent[4].b, want, n);
  rig_advance(r, 100 * S);
  assert_int_equal(r->n_sent, 5);

  rig_clear(r);
  ip_announce(r->s, 0, r->now);
  assert_int_equal(r->n_sent, 2 + 3 * 3); /* two IPv4, three IPv6 with the link-local one */
}

static void announcing_waits_for_frames(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a4 = rig_addr("10.0.0.7");
  r->slots = 0;
  assert_int_equal(ip_addr_add(r->s, 0, &a4, 24), 0);
  rig_advance(r, 50000);
  r->slots = RIG_SLOTS;
  rig_advance(r, 20000);
  assert_int_equal(r->n_sent, 1);
}

static void duplicates(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("2001:db8::7"), b = rig_addr("2001:db8::8");
  uint8_t f[256];
  assert_int_equal(ip_addr_add(r->s, 0, &a, 64), 0);
  assert_int_equal(ip_addr_add(r->s, 0, &b, 64), 0);
  ip_timer(r->s, r->now);
  assert_int_equal(ip_is_local(r->s, &a), 1);
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_OVERRIDE, "2001:db8::7", "ff02::1", "2001:db8::7", rig_peer));
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "::", "ff02::1:ff00:8", "2001:db8::8", NULL)); /* both ask at once */
  assert_int_equal(r->c[IPC_ADDR_DUPLICATE], 2);
  assert_int_equal(ip_is_local(r->s, &a), 0);
  assert_int_equal(ip_is_local(r->s, &b), 0);
  rig_clear(r);
  rig_advance(r, 10 * S);
  rig_in(r, f, rig_nd(f, ICMP6_NS, 0, "2001:db8::2", "ff02::1:ff00:7", "2001:db8::7", rig_peer));
  assert_int_equal(r->n_sent, 0);
  /* a settled address is defended, not given up */
  rig_in(r, f, rig_nd(f, ICMP6_NA, ND_NA_OVERRIDE, "2001:db8::1", "ff02::1", "2001:db8::1", rig_peer));
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.1", nobody, "10.0.0.1"));
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.1", nobody, "10.0.0.1"));
  assert_int_equal(r->c[IPC_ADDR_CONFLICT], 5);
  assert_int_equal(r->n_sent, 1); /* at most one defence in ten seconds */
  rig_advance(r, 11 * S);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.1", nobody, "10.0.0.1"));
  assert_int_equal(r->n_sent, 2);
  assert_int_equal(ip_addr_del(r->s, 0, &a), 0);
  assert_int_equal(ip_addr_del(r->s, 0, &a), -ENOENT);
}

static void expect_source(struct ip_rig *r, const char *dst, const char *want) {
  struct ip_addr d = rig_addr(dst), got, w = rig_addr(want);
  assert_int_equal(ip_source(r->s, &d, &got), 0);
  assert_true(ip_addr_eq(&got, &w));
}

static void sources(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("10.1.0.1"), b = rig_addr("2001:db8:1::1"), c = rig_addr("10.2.0.1"),
                 any = rig_addr("::"), gw = rig_addr("10.1.0.9"), got, far = rig_addr("8.8.8.8"),
                 gw6 = rig_addr("2001:db8::9"), any4 = rig_addr("0.0.0.0"), x = rig_addr("10.0.0.1");
  assert_int_equal(ip_source(r->s, &far, &got), -ENETUNREACH);
  assert_int_equal(ip_addr_add(r->s, 0, &a, 16), 0);
  assert_int_equal(ip_addr_add(r->s, 0, &b, 64), 0);
  assert_int_equal(ip_port_set(r->s, 1, mac1, 9000, 1), 0);
  assert_int_equal(ip_addr_add(r->s, 1, &c, 16), 0);
  rig_advance(r, 10 * S);
  expect_source(r, "10.0.0.77", "10.0.0.1");
  expect_source(r, "10.1.200.77", "10.1.0.1");
  expect_source(r, "10.2.0.77", "10.2.0.1");
  assert_int_equal(ip_mtu(r->s, &c), 9000);
  assert_int_equal(ip_route_add(r->s, &any4, 0, &gw, 0), 0);
  expect_source(r, "8.8.8.8", "10.1.0.1"); /* the one that the gateway knows */
  assert_int_equal(ip_route_add(r->s, &any, 0, &gw6, 0), 0);
  expect_source(r, "2001:db8:1::77", "2001:db8:1::1");
  expect_source(r, "2001:db8::77", "2001:db8::1");
  expect_source(r, "fe80::77", "fe80::ff:fe00:1"); /* scope before prefix */
  expect_source(r, "2001:db8::1", "2001:db8::1");
  /* the net's route goes with its last address */
  assert_int_equal(ip_route_del(r->s, &any4, 0), 0);
  assert_int_equal(ip_addr_del(r->s, 0, &x), 0);
  assert_int_equal(ip_source(r->s, &x, &got), -ENETUNREACH);
  assert_int_equal(ip_is_local(r->s, &x), 0);
}

static int odd_net(const void *ctx, const struct ip_addr *a) {
  (void)ctx;
  return ip_addr_is4(a) ? a->b[13] & 1 : 0;
}

/* Some of our addresses: the best one of them, one of another interface if need be, or none. */
static void sources_among(void **state) {
  struct ip_rig *r = *state;
  struct ip_among odd = {.may = odd_net};
  struct ip_addr a = rig_addr("10.1.0.1"), c = rig_addr("10.3.0.1"), own = rig_addr("10.0.0.1"), got,
                 near = rig_addr("10.0.0.77"), other = rig_addr("10.3.0.77"), six = rig_addr("2001:db8::77"),
                 far = rig_addr("8.8.8.8"), group = rig_addr("224.0.0.9");
  assert_int_equal(ip_source_among(r->s, &near, IP_BY_ROUTE, &odd, &got), -EADDRNOTAVAIL);
  assert_int_equal(ip_addr_add(r->s, 0, &a, 16), 0);
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1500, 1), 0);
  assert_int_equal(ip_port_among(r->s, 0, &odd), 1);
  assert_int_equal(ip_port_among(r->s, 1, &odd), 0);
  assert_int_equal(ip_addr_add(r->s, 1, &c, 16), 0);
  rig_advance(r, 10 * S);
  assert_int_equal(ip_port_among(r->s, 1, &odd), 1);
  assert_int_equal(ip_source_among(r->s, &near, IP_BY_ROUTE, NULL, &got), 0);
  assert_true(ip_addr_eq(&got, &own));
  assert_int_equal(ip_source_among(r->s, &near, IP_BY_ROUTE, &odd, &got), 0);
  assert_true(ip_addr_eq(&got, &a)); /* of the same interface */
  assert_int_equal(ip_source_among(r->s, &other, IP_BY_ROUTE, &odd, &got), 0);
  assert_true(ip_addr_eq(&got, &c));
  assert_int_equal(ip_source_among(r->s, &own, IP_BY_ROUTE, &odd, &got), 0);
  assert_true(ip_addr_eq(&got, &a)); /* to our own address, but not from it */
  assert_int_equal(ip_source_among(r->s, &six, IP_BY_ROUTE, &odd, &got), -EADDRNOTAVAIL);
  assert_int_equal(ip_source_among(r->s, &far, IP_BY_ROUTE, &odd, &got), -ENETUNREACH);
  assert_int_equal(ip_source_among(r->s, &group, IP_BY_ROUTE, &odd, &got), -ENETUNREACH);
  assert_int_equal(ip_source_among(r->s, &group, 2, &odd, &got), 0);
  assert_true(ip_addr_eq(&got, &c));
}

static void link_local_by_mac(void **state) {
  struct ip_rig *r = *state;
  static const uint8_t other[6] = {2, 0, 0, 0, 0, 7};
  struct ip_addr old = rig_addr("fe80::ff:fe00:1"), new = rig_addr("fe80::ff:fe00:7");
  assert_int_equal(ip_is_local(r->s, &old), 1);
  rig_resolve(r, "10.0.0.2", rig_peer);
  assert_int_equal(ip_port_set(r->s, 0, other, 1500, 1), 0);
  assert_int_equal(ip_is_local(r->s, &old), 0);
  assert_int_equal(ip_is_local(r->s, &new), 1);
  assert_int_equal(r->s->neigh.n_used, 0);
  ip_timer(r->s, r->now);
  assert_true(r->n_sent >= 5); /* all addresses are announced anew */
  assert_memory_equal(r->sent[0].b + 6, other, 6);
  static const uint8_t group[6] = {1, 0, 0, 0, 0, 0}, none[6] = {0};
  struct ip_addr of_none = rig_addr("fe80::200:ff:fe00:0");
  assert_int_equal(ip_port_set(r->s, 2, none, 1500, 0), 0); /* a port that is still to come */
  assert_int_equal(ip_is_local(r->s, &of_none), 0);
  assert_int_equal(ip_port_set(r->s, 0, group, 1500, 1), -EINVAL);
  assert_int_equal(ip_port_set(r->s, ABI_PORTS_MAX, other, 1500, 1), -EINVAL);
}

static void two_ports(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("10.2.0.1");
  uint8_t f[256];
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1500, 1), 0);
  assert_int_equal(ip_addr_add(r->s, 1, &a, 24), 0);
  rig_advance(r, 10 * S);
  rig_clear(r);
  assert_int_equal(rig_out(r, "10.2.0.5", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_int_equal(r->sent[0].port, 1);
  assert_memory_equal(r->sent[0].b + 6, mac1, 6);
  assert_int_equal(load_be32(r->sent[0].b + 28), 0x0a020001);
  /* ARP for port 1's address asked on port 0 is not answered */
  rig_clear(r);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.0.0.2", nobody, "10.2.0.1"));
  assert_int_equal(r->n_sent, 0);
}

/* What is for one of our own addresses comes back without Ethernet, whole, and no path is kept for it. */
static void to_ourselves(void **state) {
  struct ip_rig *r = *state;
  struct ip_path path = {0};
  struct ip_addr a = rig_addr("10.0.0.1"), b = rig_addr("192.0.2.7"), src;
  assert_int_equal(rig_out(r, "10.0.0.1", IP_PROTO_UDP, 20, 3000, NULL), -EMSGSIZE);
  assert_int_equal(rig_out(r, "10.0.0.1", IP_PROTO_UDP, 20, 1000, &path), 0);
  assert_int_equal(path.gen, 0);
  assert_int_equal(r->n_up, 0); /* not from within the call */
  rig_loop(r);
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].l3_off, 0);
  assert_int_equal(r->up[0].l4_off, 20);
  assert_int_equal(r->up[0].l4_len, 1020);
  assert_int_equal(r->up[0].to_us, 1);
  assert_true(r->up[0].flags & ABI_FR_CSUM_OK);
  assert_true(ip_addr_eq(&r->up[0].ip.src, &a));
  assert_int_equal(send_gso(r, "2001:db8::1", 60000, 1428, NULL), 0); /* large frames stay whole */
  rig_loop(r);
  assert_int_equal(r->up[1].l4_len, 60032);
  assert_int_equal(r->up[1].gso_size, 1428);
  assert_int_equal(r->n_sent, 0);
  assert_int_equal(r->c[IPC_TX_LOOPED], 2);
  assert_int_equal(r->c[IPC_RX_DELIVERED], 2);
  /* an address of another port, not routed otherwise; gone while the frame waits */
  assert_int_equal(ip_port_set(r->s, 1, mac1, 1400, 0), 0); /* down */
  assert_int_equal(ip_addr_add(r->s, 1, &b, 32), 0);
  assert_int_equal(ip_source(r->s, &b, &src), 0);
  assert_true(ip_addr_eq(&src, &b));
  assert_int_equal(ip_mtu(r->s, &b), 1400);
  assert_int_equal(rig_out(r, "192.0.2.7", IP_PROTO_UDP, 20, 0, NULL), 0);
  rig_loop(r);
  assert_int_equal(r->n_up, 3);
  assert_int_equal(rig_out(r, "192.0.2.7", IP_PROTO_UDP, 20, 0, NULL), 0);
  assert_int_equal(ip_addr_del(r->s, 1, &b), 0);
  rig_loop(r);
  assert_int_equal(r->n_up, 3);
  assert_int_equal(r->c[IPC_RX_NOT_OURS], 1);
}

static void to_ourselves_errors(void **state) {
  struct ip_rig *r = *state;
  r->up_result = -ENOENT; /* port unreachable comes back to the sender */
  for (int six = 0; six < 2; six++) {
    assert_int_equal(rig_out(r, six ? "2001:db8::1" : "10.0.0.1", IP_PROTO_UDP, 20, 0, NULL), 0);
    rig_loop(r);
    assert_int_equal(r->n_error, six + 1);
    assert_int_equal(r->error[six].err, ECONNREFUSED);
    assert_int_equal(r->error[six].lport, 1000);
    assert_int_equal(r->error[six].rport, 2000);
  }
  assert_int_equal(r->n_sent, 0);
  r->loop_room = 1; /* full: the sender keeps it */
  assert_int_equal(rig_out(r, "10.0.0.1", IP_PROTO_TCP, 20, 0, NULL), 0);
  assert_int_equal(rig_out(r, "10.0.0.1", IP_PROTO_TCP, 20, 0, NULL), -ENOBUFS);
  assert_int_equal(r->c[IPC_TX_LOOP_FULL], 1);
  rig_loop(r);
  struct ip_ops deaf = r->s->ops;
  deaf.frame_loop = NULL;
  r->s->ops = deaf;
  assert_int_equal(rig_out(r, "10.0.0.1", IP_PROTO_UDP, 20, 0, NULL), -EHOSTUNREACH);
  assert_int_equal(r->c[IPC_TX_TO_SELF], 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(headers),
      RIG_TEST(large_frames),
      RIG_TEST(path_is_kept_until_something_changes),
      RIG_TEST(routes_and_gateways),
      RIG_TEST(groups),
      RIG_TEST(announces),
      RIG_TEST(announcing_waits_for_frames),
      RIG_TEST(duplicates),
      RIG_TEST(sources),
      RIG_TEST(sources_among),
      RIG_TEST(link_local_by_mac),
      RIG_TEST(two_ports),
      RIG_TEST(to_ourselves),
      RIG_TEST(to_ourselves_errors),
  };
  return cmocka_run_group_tests_name("ip_output", tests, NULL, NULL);
}
