/*
 * 802.1Q VLANs of a port: tags in and out, on every kind of frame, and what a VLAN has of its port.
 */
#include "base/bits.h"
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/eth.h"

#define S 1000000ull

static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[6] = {0};
static uint32_t vlan; /* IP's number of VLAN 5 of port 0 */

static int setup(void **state) {
  struct ip_rig *r = rig_new();
  struct ip_addr a = rig_addr("10.5.0.1"), b = rig_addr("2001:db8:5::1");
  assert_int_equal(ip_vlan_add(r->s, 0, 5, 0, &vlan), 0);
  assert_int_equal(ip_addr_add(r->s, vlan, &a, 24), 0);
  assert_int_equal(ip_addr_add(r->s, vlan, &b, 64), 0);
  rig_advance(r, 10 * S);
  *state = r;
  return 0;
}

/* The same frame with a tag. */
static uint32_t tag(uint8_t *f, uint32_t len, uint16_t tci) {
  memmove(f + 16, f + 12, len - 12);
  store_be16(f + 12, ETH_TYPE_VLAN);
  store_be16(f + 14, tci);
  return len + 4;
}

static void is_tagged(const struct rig_frame *f, uint16_t type) {
  assert_int_equal(f->port, 0);
  assert_int_equal(load_be16(f->b + 12), ETH_TYPE_VLAN);
  assert_int_equal(load_be16(f->b + 14), 5);
  assert_int_equal(load_be16(f->b + 16), type);
  assert_memory_equal(f->b + 6, rig_mac, 6);
}

static int send(struct ip_rig *r, const char *src, const char *dst, uint32_t fifo, uint16_t gso, struct ip_path *path) {
  struct txf t;
  struct ip_addr s = rig_addr(src), d = rig_addr(dst);
  memset(&t, 0, sizeof t);
  assert_int_equal(r->s->ops.frame_get(r, &t), 0);
  memset(t.data, 0x55, 32);
  t.len = 32;
  t.n_fifo = fifo != 0;
  t.fifo[0].len = t.fifo_len = fifo;
  t.gso_size = gso;
  t.flags = gso != 0 ? ABI_FR_CSUM_PART | ABI_FR_GSO_TCP4 : 0;
  t.csum_off = 16;
  return ip_output(r->s, &t, &s, &d, IP_PROTO_TCP, 0, 0, path, r->now);
}

static void announced_with_tag(void **state) {
  struct ip_rig *r = *state;
  uint32_t arp = 0, nd = 0;
  for (uint32_t i = 0; i < r->n_sent; i++) { /* all that was sent since the VLAN is there is of the VLAN */
    uint16_t type = load_be16(r->sent[i].b + 16);
    is_tagged(&r->sent[i], type);
    arp += type == ETH_TYPE_ARP;
    nd += type == ETH_TYPE_IP6;
  }
  assert_int_equal(arp, 2);
  assert_int_equal(nd, 10); /* the address and its own link-local one: probe, twice joined and announced */
}

static void whose_frame(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[20] = {0};
  rig_clear(r);
  rig_in(r, f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.5.0.2", nobody, "10.5.0.1"));
  assert_int_equal(r->n_sent, 0); /* not on the port itself */
  rig_in(r, f, tag(f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.5.0.2", nobody, "10.5.0.1"), 0xa005));
  assert_int_equal(r->n_sent, 1); /* priority bits do not matter */
  is_tagged(&r->sent[0], ETH_TYPE_ARP);
  assert_memory_equal(r->sent[0].b, rig_peer, 6);
  rig_in(r, f, tag(f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.5.0.2", nobody, "10.5.0.1"), 6));
  assert_int_equal(r->c[IPC_RX_VLAN], 1);
  uint32_t n = tag(f, rig_arp(f, everybody, ARP_REQUEST, rig_peer, "10.5.0.2", nobody, "10.5.0.1"), 5);
  rig_in(r, f, tag(f, n, 5)); /* doubly tagged */
  assert_int_equal(r->c[IPC_RX_VLAN], 2);
  uint32_t other;
  assert_int_equal(ip_vlan_add(r->s, 1, 7, 0, &other), 0); /* a VLAN of another port is none of this one's */
  rig_in(r, f, tag(f, rig_build(f, "10.5.0.2", "10.5.0.1", IP_PROTO_TCP, l4, sizeof l4), 7));
  assert_int_equal(r->c[IPC_RX_VLAN], 3);
  assert_int_equal(r->n_up, 0);
  rig_in(r, f, tag(f, rig_build(f, "10.5.0.2", "10.5.0.1", IP_PROTO_TCP, l4, sizeof l4), 5));
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].port, vlan);
  assert_int_equal(r->up[0].l4_off, 38);
  rig_in(r, f, tag(f, rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, sizeof l4), 0)); /* VLAN 0: the port */
  assert_int_equal(r->up[1].port, 0);
}

static void output_is_tagged(void **state) {
  struct ip_rig *r = *state;
  struct ip_path path = {0};
  uint8_t f[256];
  rig_clear(r);
  assert_int_equal(send(r, "10.5.0.1", "10.5.0.2", 0, 0, &path), 0); /* queued behind a question */
  is_tagged(&r->sent[0], ETH_TYPE_ARP);
  rig_in(r, f, tag(f, rig_arp(f, rig_mac, ARP_REPLY, rig_peer, "10.5.0.2", rig_mac, "10.5.0.1"), 5));
  is_tagged(&r->sent[1], ETH_TYPE_IP4);
  assert_int_equal(r->sent[1].len, 18 + 20 + 32);
  assert_int_equal(send(r, "10.5.0.1", "10.5.0.2", 60000, 1448, &path), 0);
  is_tagged(&r->sent[2], ETH_TYPE_IP4);
  assert_int_equal(r->sent[2].csum_start, 38);
  assert_int_equal(r->sent[2].gso_size, 1448);
  assert_int_equal(path.ifindex, vlan);
  assert_int_equal(send(r, "10.5.0.1", "10.5.0.2", 60000, 1448, &path), 0); /* the short way */
  assert_memory_equal(r->sent[3].b, r->sent[2].b, 18);
  assert_int_equal(r->sent[3].csum_start, 38);
  assert_int_equal(r->sent[3].port, 0);
}

/* Link-local addresses are the same on the port and its VLANs: an answer goes where the question came from. */
static void link_local_echo(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], msg[16];
  struct icmp_hdr h = {.type = ICMP6_ECHO, .id = 1, .seq = 2};
  struct ip_addr src = rig_addr("fe80::2"), dst = rig_addr("fe80::ff:fe00:1");
  assert_int_equal(icmp6_hdr_build(msg, 8, &h), 8);
  icmp6_cksum_set(msg, 8, &src, &dst);
  for (int tagged = 0; tagged < 2; tagged++) {
    rig_clear(r);
    uint32_t len = rig_build(f, "fe80::2", "fe80::ff:fe00:1", IP_PROTO_ICMP6, msg, 8);
    rig_in(r, f, tagged ? tag(f, len, 5) : len);
    uint32_t n = rig_nd(f, ICMP6_NA, 0x60, "fe80::2", "fe80::ff:fe00:1", "fe80::2", rig_peer);
    rig_in(r, f, tagged ? tag(f, n, 5) : n);
    assert_int_equal(r->n_sent, 2);
    assert_int_equal(load_be16(r->sent[0].b + 12), tagged ? ETH_TYPE_VLAN : ETH_TYPE_IP6);
    assert_int_equal(r->sent[1].b[tagged ? 58 : 54], ICMP6_ECHO_REPLY);
    assert_int_equal(load_be16(r->sent[1].b + 12), tagged ? ETH_TYPE_VLAN : ETH_TYPE_IP6);
  }
}

static void follows_its_port(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr on = rig_addr("10.5.0.9"), small = rig_addr("10.6.0.1"), on6 = rig_addr("10.6.0.9");
  uint32_t narrow, none;
  static const uint8_t other[6] = {2, 0, 0, 0, 0, 7};
  assert_int_equal(ip_mtu(r->s, &on), 1500);
  assert_int_equal(ip_vlan_add(r->s, 0, 6, 1400, &narrow), 0);
  assert_int_equal(ip_addr_add(r->s, narrow, &small, 24), 0);
  assert_int_equal(ip_mtu(r->s, &on6), 1400);
  assert_int_equal(ip_port_set(r->s, 0, other, 1300, 1), 0);
  assert_int_equal(ip_mtu(r->s, &on), 1300);
  assert_int_equal(ip_mtu(r->s, &on6), 1300);
  assert_memory_equal(r->s->port[vlan].mac, other, 6);
  assert_int_equal(ip_port_set(r->s, 0, other, 9000, 0), 0);
  assert_int_equal(ip_mtu(r->s, &on6), 1400);
  assert_int_equal(send(r, "10.5.0.1", "10.5.0.9", 0, 0, NULL), -ENETUNREACH);
  assert_int_equal(ip_vlan_add(r->s, 0, 5, 0, &none), -EEXIST);
  assert_int_equal(ip_vlan_add(r->s, 0, 0, 0, &none), -EINVAL);
  assert_int_equal(ip_vlan_add(r->s, 0, 4095, 0, &none), -EINVAL);
  assert_int_equal(ip_vlan_add(r->s, vlan, 7, 0, &none), -EINVAL); /* no VLAN in a VLAN */
  assert_int_equal(ip_vlan_add(r->s, 1, 5, 0, &none), 0);          /* its port may come later */
  uint32_t i = 10;
  while (ip_vlan_add(r->s, 0, i, 0, &none) == 0)
    i++;
  assert_int_equal(i, 10 + STACK_PORTS_MAX - ABI_PORTS_MAX - 3);
  assert_int_equal(ip_vlan_add(r->s, 0, i, 0, &none), -ENOSPC);
  assert_int_equal(ip_auto6(r->s, none, 1), 0);
  assert_int_equal(ip_auto6(r->s, STACK_PORTS_MAX, 1), -EINVAL);
}

static void learns_its_addresses(void **state) {
  struct ip_rig *r = *state;
  rig_clear(r);
  assert_int_equal(ip_dhcp4(r->s, vlan, NULL), 0);
  assert_int_equal(ip_auto6(r->s, vlan, 1), 0);
  rig_advance(r, 1000);
  assert_int_equal(r->n_sent, 2);
  is_tagged(&r->sent[0], ETH_TYPE_IP6);
  assert_int_equal(r->sent[0].b[58], ICMP6_RS);
  is_tagged(&r->sent[1], ETH_TYPE_IP4);
  assert_int_equal(load_be16(r->sent[1].b + 40), 67);
}

/* Of a port of another VRF only the VLAN is ours, and of our port's VLANs not that of another VRF. */
static void belongs_to_another_vrf(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("10.7.0.1"), group = rig_addr("239.1.1.1");
  struct ip_addr_row row[16];
  static const uint8_t other[6] = {2, 0, 0, 0, 0, 9};
  uint32_t theirs, ours;
  assert_int_equal(ip_vlan_add(r->s, 1, 7, 0, &ours), 0);
  assert_int_equal(ip_vlan_add(r->s, 1, 8, 0, &theirs), 0);
  assert_int_equal(ip_port_foreign(r->s, 1), 0);
  assert_int_equal(ip_port_foreign(r->s, theirs), 0);
  assert_int_equal(ip_port_foreign(r->s, STACK_PORTS_MAX), -EINVAL);
  assert_int_equal(ip_port_set(r->s, 1, other, 1400, 1), 0);
  uint32_t n = ip_addr_list(r->s, row, ARRAY_LEN(row)), mine = 0;
  for (uint32_t i = 0; i < n; i++) {
    assert_int_not_equal(row[i].port, 1);
    assert_int_not_equal(row[i].port, theirs);
    mine += row[i].port == ours;
  }
  assert_int_equal(mine, 1); /* the link-local one, of its port's MAC */
  assert_int_equal(ip_addr_add(r->s, 1, &a, 24), -EINVAL);
  assert_int_equal(ip_addr_add(r->s, theirs, &a, 24), -EINVAL);
  assert_int_equal(ip_route_add(r->s, &a, 32, NULL, 1), -EINVAL);
  assert_int_equal(ip_group_join(r->s, &group, 2, NULL), -ENODEV);
  assert_int_equal(ip_addr_add(r->s, ours, &a, 24), 0);
  uint8_t f[64] = {0};
  memcpy(f, other, 6);
  f[6] = 2;
  f[11] = 3;
  store_be16(f + 12, ETH_TYPE_VLAN);
  store_be16(f + 14, 8);
  store_be16(f + 16, ETH_TYPE_ARP);
  struct pkt p = {.piece = {{.p = f, .len = sizeof f}}, .n_pieces = 1, .len = sizeof f, .port = 1};
  uint64_t before = r->s->counters[IPC_RX_VLAN];
  ip_input(r->s, &p, r->now);
  assert_int_equal(r->s->counters[IPC_RX_VLAN], before + 1);
  store_be16(f + 14, 7);
  p.port = 1;
  ip_input(r->s, &p, r->now);
  assert_int_equal(r->s->counters[IPC_RX_VLAN], before + 1);
  assert_int_equal(p.port, ours);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(announced_with_tag, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(whose_frame, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(output_is_tagged, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(link_local_echo, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(follows_its_port, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(learns_its_addresses, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(belongs_to_another_vrf, setup, rig_teardown),
  };
  return cmocka_run_group_tests_name("ip_vlan", tests, NULL, NULL);
}
