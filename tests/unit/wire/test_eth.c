/*
 * Ethernet, ARP and UDP headers: exact bytes, tags, refusals.
 */
#include "test.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/udp.h"

#include <string.h>

static const uint8_t frame[14] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06};

static void plain_frame(void **state) {
  (void)state;
  struct eth_hdr h;
  uint8_t out[14];
  assert_int_equal(eth_hdr_parse(frame, 14, &h), 14);
  assert_int_equal(h.type, ETH_TYPE_ARP);
  assert_int_equal(h.n_tags, 0);
  assert_true(mac_addr_is_broadcast(&h.dst));
  assert_int_equal(eth_hdr_build(out, 14, &h), 14);
  assert_memory_equal(out, frame, 14);
  assert_int_equal(eth_hdr_build(out, 13, &h), WIRE_ROOM);
  for (size_t n = 0; n < 14; n++)
    assert_int_equal(eth_hdr_parse(frame, n, &h), WIRE_SHORT);
}

static void tagged_frames(void **state) {
  (void)state;
  uint8_t p[26];
  struct eth_hdr h = {.type = ETH_TYPE_IP6, .n_tags = 2, .tci = {0x2005, 0x0fff}}, g;
  assert_int_equal(eth_hdr_build(p, sizeof p, &h), 22);
  assert_int_equal(load_be16(p + 12), 0x88a8);
  assert_int_equal(load_be16(p + 16), 0x8100);
  assert_int_equal(eth_hdr_parse(p, 22, &g), 22);
  assert_int_equal(eth_vlan_id(g.tci[0]), 5);
  assert_int_equal(g.tci[1], 0x0fff);
  assert_int_equal(g.type, ETH_TYPE_IP6);
  assert_int_equal(eth_hdr_parse(p, 21, &g), WIRE_SHORT);
  store_be16(p + 20, ETH_TYPE_VLAN);
  assert_int_equal(eth_hdr_parse(p, 26, &g), WIRE_LIMIT);
  h.n_tags = 3;
  assert_int_equal(eth_hdr_build(p, sizeof p, &h), WIRE_VALUE);
}

static void length_field_is_no_type(void **state) {
  (void)state;
  uint8_t p[14];
  struct eth_hdr h;
  memcpy(p, frame, 14);
  store_be16(p + 12, 0x0026);
  assert_int_equal(eth_hdr_parse(p, 14, &h), WIRE_VALUE);
}

static void arp_request(void **state) {
  (void)state;
  static const uint8_t want[28] = {0,  1, 8, 0, 6, 4, 0, 1, 2, 0, 0,  0, 0, 1,
                                   10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2};
  struct arp_pkt a = {.op = ARP_REQUEST, .sha = {{2, 0, 0, 0, 0, 1}}}, b;
  uint8_t p[28];
  a.spa = ip_addr_from4(0x0a000001);
  a.tpa = ip_addr_from4(0x0a000002);
  assert_int_equal(arp_pkt_build(p, 28, &a), 28);
  assert_memory_equal(p, want, 28);
  assert_int_equal(arp_pkt_build(p, 27, &a), WIRE_ROOM);
  assert_int_equal(arp_pkt_parse(p, 28, &b), 28);
  assert_memory_equal(&a, &b, sizeof a);
  assert_int_equal(arp_pkt_parse(p, 27, &b), WIRE_SHORT);
}

static void arp_refusals(void **state) {
  (void)state;
  static const struct {
    uint8_t at, value;
    int err;
  } bad[] = {{1, 6, WIRE_VERSION},  {2, 9, WIRE_VERSION}, {4, 8, WIRE_VERSION},
             {5, 16, WIRE_VERSION}, {7, 3, WIRE_VALUE},   {8, 1, WIRE_VALUE}};
  uint8_t good[28] = {0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2};
  struct arp_pkt a;
  assert_int_equal(arp_pkt_parse(good, 28, &a), 28);
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    uint8_t p[28];
    memcpy(p, good, 28);
    p[bad[i].at] = bad[i].value;
    assert_int_equal(arp_pkt_parse(p, 28, &a), bad[i].err);
  }
  memset(good + 8, 0, 6);
  assert_int_equal(arp_pkt_parse(good, 28, &a), WIRE_VALUE);
}

static void udp_header(void **state) {
  (void)state;
  struct udp_hdr h = {.sport = 53, .dport = 40000, .len = 12}, g;
  uint8_t p[12] = {0};
  assert_int_equal(udp_hdr_build(p, 8, &h), 8);
  assert_int_equal(udp_hdr_parse(p, 12, &g), 8);
  assert_memory_equal(&h, &g, sizeof h);
  assert_int_equal(udp_hdr_parse(p, 11, &g), WIRE_LENGTH);
  assert_int_equal(udp_hdr_parse(p, 7, &g), WIRE_SHORT);
  store_be16(p + 4, 7);
  assert_int_equal(udp_hdr_parse(p, 12, &g), WIRE_LENGTH);
  h.len = 7;
  assert_int_equal(udp_hdr_build(p, 8, &h), WIRE_VALUE);
  assert_int_equal(udp_hdr_build(p, 7, &h), WIRE_ROOM);
}

static void reasons_have_names(void **state) {
  (void)state;
  assert_string_equal(wire_err_name(WIRE_CKSUM), "cksum");
  assert_string_equal(wire_err_name(20), "ok");
  assert_string_equal(wire_err_name(-99), "unknown");
  assert_string_equal(wire_err_name(INT32_MIN), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_frame),        cmocka_unit_test(tagged_frames), cmocka_unit_test(length_field_is_no_type),
      cmocka_unit_test(arp_request),        cmocka_unit_test(arp_refusals),  cmocka_unit_test(udp_header),
      cmocka_unit_test(reasons_have_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
