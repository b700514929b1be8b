/*
 * What comes from the link: echo of both families byte by byte, delivery, and one refusal per rule with its counter.
 */
#include "ip_rig.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/cksum.h"
#include "wire/eth.h"
#include "wire/nd.h"

static uint32_t echo4(uint8_t *f, const char *src, const char *dst, uint32_t data) {
  uint8_t msg[4096];
  struct icmp_hdr h = {.type = ICMP4_ECHO, .id = 0x1234, .seq = 7};
  assert_int_equal(icmp4_hdr_build(msg, 8, &h), 8);
  for (uint32_t i = 0; i < data; i++)
    msg[8 + i] = (uint8_t)i;
  icmp4_cksum_set(msg, 8 + data);
  return rig_build(f, src, dst, IP_PROTO_ICMP, msg, 8 + data);
}

static uint32_t echo6(uint8_t *f, const char *src, const char *dst, uint32_t data) {
  uint8_t msg[4096];
  struct icmp_hdr h = {.type = ICMP6_ECHO, .id = 0x1234, .seq = 7};
  struct ip_addr s = rig_addr(src), d = rig_addr(dst);
  assert_int_equal(icmp6_hdr_build(msg, 8, &h), 8);
  for (uint32_t i = 0; i < data; i++)
    msg[8 + i] = (uint8_t)i;
  icmp6_cksum_set(msg, 8 + data, &s, &d);
  return rig_build(f, src, dst, IP_PROTO_ICMP6, msg, 8 + data);
}

static void echo_reply_v4(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600], want[1600];
  uint32_t n = echo4(f, "10.0.0.2", "10.0.0.1", 56);
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_in(r, f, n);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].len, n);
  const uint8_t *got = r->sent[0].b;
  memcpy(want, f, n);
  memcpy(want, rig_peer, 6);
  memcpy(want + 6, rig_mac, 6);
  memcpy(want + 18, got + 18, 2); /* id: any */
  want[20] = 0x40;                /* DF */
  memcpy(want + 24, got + 24, 2); /* header checksum: checked below */
  memcpy(want + 26, f + 30, 4);
  memcpy(want + 30, f + 26, 4);
  want[34] = ICMP4_ECHO_REPLY;
  icmp4_cksum_set(want + 34, n - 34);
  assert_memory_equal(got, want, n);
  assert_true(ip4_hdr_cksum_ok(got + 14, 20));
}

static void echo_reply_v6(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600], want[1600];
  uint32_t n = echo6(f, "2001:db8::2", "2001:db8::1", 33);
  struct ip_addr us = rig_addr("2001:db8::1"), peer = rig_addr("2001:db8::2");
  rig_resolve(r, "2001:db8::2", rig_peer);
  rig_in(r, f, n);
  assert_int_equal(r->n_sent, 1);
  memcpy(want, f, n);
  memcpy(want, rig_peer, 6);
  memcpy(want + 6, rig_mac, 6);
  memcpy(want + 22, us.b, 16);
  memcpy(want + 38, peer.b, 16);
  want[54] = ICMP6_ECHO_REPLY;
  icmp6_cksum_set(want + 54, n - 54, &us, &peer);
  assert_int_equal(r->sent[0].len, n);
  assert_memory_equal(r->sent[0].b, want, n);
}

static void echo_asks_first(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600];
  rig_in(r, f, echo4(f, "10.0.0.2", "10.0.0.1", 56));
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(load_be16(r->sent[0].b + 12), ETH_TYPE_ARP);
  rig_in(r, f, rig_arp(f, rig_mac, ARP_REPLY, rig_peer, "10.0.0.2", rig_mac, "10.0.0.1"));
  assert_int_equal(r->n_sent, 2);
  assert_int_equal(r->sent[1].b[34], ICMP4_ECHO_REPLY);
  assert_memory_equal(r->sent[1].b, rig_peer, 6);
}

static void echo_in_pieces(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600], flat[1600];
  uint32_t n = echo4(f, "10.0.0.2", "10.0.0.1", 1001);
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_in(r, f, n);
  memcpy(flat, r->sent[0].b, n);
  for (uint32_t piece = 1; piece < n; piece += piece < 80 ? 1 : 97) {
    rig_clear(r);
    rig_in_pieces(r, f, n, piece);
    assert_int_equal(r->n_sent, 1);
    assert_memory_equal(r->sent[0].b + 34, flat + 34, n - 34);
  }
}

static void echo_to_groups_and_long_ones(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[5000];
  uint32_t n = echo4(f, "10.0.0.2", "10.0.0.1", 56);
  memset(f, 0xff, 6); /* unicast packet in a broadcast frame */
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_RX_L2_GROUP], 1);
  rig_in(r, f, echo4(f, "10.0.0.2", "255.255.255.255", 56));
  rig_in(r, f, echo4(f, "10.0.0.2", "224.0.0.1", 56));
  rig_in(r, f, echo6(f, "2001:db8::2", "ff02::1", 56));
  assert_int_equal(r->c[IPC_ICMP_IGNORED], 3);
  rig_in(r, f, echo4(f, "10.0.0.2", "10.0.0.1", 3700)); /* beyond MTU and slot */
  assert_int_equal(r->c[IPC_ICMP_ECHO_LONG], 1);
  n = echo4(f, "10.0.0.2", "10.0.0.1", 56);
  f[60] ^= 1;
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_ICMP_BAD], 1);
  assert_int_equal(r->n_sent, 0);
}

static void delivers(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600], l4[64] = {0};
  uint32_t n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, 21);
  memset(f + n, 0xee, 30); /* Ethernet padding */
  rig_in(r, f, n + 30);
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].l3_off, 14);
  assert_int_equal(r->up[0].l4_off, 34);
  assert_int_equal(r->up[0].l4_len, 21);
  assert_int_equal(r->up[0].to_us, 1);
  assert_int_equal(r->up[0].ip.proto, IP_PROTO_TCP);
  n = rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_UDP, l4, 20);
  rig_in(r, f, n);
  assert_int_equal(r->up[1].l4_off, 54);
  assert_int_equal(r->up[1].l4_len, 20);
  assert_int_equal(r->c[IPC_RX_DELIVERED], 2);
  /* a priority tag (VLAN 0) is taken off, another VLAN is not ours */
  n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, 21);
  memmove(f + 16, f + 12, n - 12);
  store_be16(f + 12, ETH_TYPE_VLAN);
  store_be16(f + 14, 0xe000);
  rig_in(r, f, n + 4);
  assert_int_equal(r->n_up, 3);
  assert_int_equal(r->up[2].l4_off, 38);
  store_be16(f + 14, 5);
  rig_in(r, f, n + 4);
  assert_int_equal(r->n_up, 3);
  assert_int_equal(r->c[IPC_RX_VLAN], 1);
}

static void martians(void **state) {
  struct ip_rig *r = *state;
  static const struct {
    const char *src, *dst;
    enum ip_counter why;
  } rows[] = {
      {"0.0.0.0", "10.0.0.1", IPC_RX_MARTIAN_SRC},     {"0.1.2.3", "10.0.0.1", IPC_RX_MARTIAN_SRC},
      {"127.0.0.1", "10.0.0.1", IPC_RX_MARTIAN_SRC},   {"224.0.0.1", "10.0.0.1", IPC_RX_MARTIAN_SRC},
      {"240.0.0.1", "10.0.0.1", IPC_RX_MARTIAN_SRC},   {"255.255.255.255", "10.0.0.1", IPC_RX_MARTIAN_SRC},
      {"10.0.0.255", "10.0.0.1", IPC_RX_MARTIAN_SRC},  {"10.0.0.1", "10.0.0.1", IPC_RX_MARTIAN_SRC},
      {"10.0.0.2", "127.0.0.1", IPC_RX_MARTIAN_DST},   {"10.0.0.2", "0.0.0.0", IPC_RX_MARTIAN_DST},
      {"10.0.0.2", "10.0.0.3", IPC_RX_NOT_OURS},       {"10.0.0.2", "224.0.0.9", IPC_RX_NOT_OURS},
      {"::", "2001:db8::1", IPC_RX_MARTIAN_SRC},       {"::1", "2001:db8::1", IPC_RX_MARTIAN_SRC},
      {"ff02::1", "2001:db8::1", IPC_RX_MARTIAN_SRC},  {"2001:db8::1", "2001:db8::1", IPC_RX_MARTIAN_SRC},
      {"2001:db8::2", "::1", IPC_RX_MARTIAN_DST},      {"2001:db8::2", "::", IPC_RX_MARTIAN_DST},
      {"2001:db8::2", "2001:db8::3", IPC_RX_NOT_OURS}, {"2001:db8::2", "ff02::fb", IPC_RX_NOT_OURS},
  };
  uint8_t f[256], l4[20] = {0};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    uint64_t before = r->c[rows[i].why];
    rig_in(r, f, rig_build(f, rows[i].src, rows[i].dst, IP_PROTO_TCP, l4, sizeof l4));
    assert_int_equal(r->c[rows[i].why], before + 1);
  }
  assert_int_equal(r->n_up, 0);
  assert_int_equal(r->n_sent, 0);
  /* and what looks like them but is fine: an edge of the net, all hosts, our group */
  rig_in(r, f, rig_build(f, "10.0.0.254", "10.0.0.255", IP_PROTO_UDP, l4, sizeof l4));
  rig_in(r, f, rig_build(f, "10.0.1.255", "224.0.0.1", IP_PROTO_UDP, l4, sizeof l4));
  rig_in(r, f, rig_build(f, "fe80::5", "ff02::1:ff00:1", IP_PROTO_UDP, l4, sizeof l4));
  assert_int_equal(r->n_up, 3);
  assert_int_equal(r->up[0].to_us | r->up[1].to_us | r->up[2].to_us, 0);
}

/* Sets one byte of a good IPv4 frame, mends the header checksum unless told otherwise, and expects this counter. */
static void spoil4(struct ip_rig *r, unsigned at, uint8_t value, int mend, enum ip_counter why) {
  uint8_t f[256], l4[40] = {0};
  uint32_t n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, sizeof l4);
  uint64_t before = r->c[why];
  f[at] = value;
  if (mend) {
    memset(f + 24, 0, 2);
    cksum_store(f + 24, cksum_fold(cksum_add(0, f + 14, 20)));
  }
  rig_in(r, f, n);
  assert_int_equal(r->c[why], before + 1);
  assert_int_equal(r->n_up, 0);
}

static void bad_headers_v4(void **state) {
  struct ip_rig *r = *state;
  spoil4(r, 14, 0x65, 1, IPC_RX_BAD_LEN); /* says version 6: too short for that */
  spoil4(r, 14, 0x55, 1, IPC_RX_BAD_HDR);
  spoil4(r, 14, 0x44, 1, IPC_RX_BAD_LEN);
  spoil4(r, 16, 0x01, 1, IPC_RX_BAD_LEN); /* total length beyond the frame */
  spoil4(r, 17, 10, 1, IPC_RX_BAD_LEN);
  spoil4(r, 24, 0xff, 0, IPC_RX_BAD_CKSUM);
  spoil4(r, 22, 1, 0, IPC_RX_BAD_CKSUM);
  spoil4(r, 20, 0x20, 1, IPC_RX_FRAGMENT); /* more fragments */
  spoil4(r, 21, 0x55, 1, IPC_RX_FRAGMENT); /* offset, with a gap between */
  spoil4(r, 23, 99, 1, IPC_RX_PROTO);
  spoil4(r, 0, 4, 0, IPC_RX_OTHER_MAC);
  spoil4(r, 6, 1, 0, IPC_RX_BAD_ETH); /* group address as source */
  spoil4(r, 12, 0x99, 0, IPC_RX_ETHERTYPE);
  spoil4(r, 12, 0, 0, IPC_RX_BAD_ETH);
  uint8_t f[64] = {0};
  rig_in(r, f, 13);
  assert_int_equal(r->c[IPC_RX_SHORT], 1);
}

static void ttl_is_no_reason(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[20] = {0};
  struct ip_hdr h = {.version = 4, .ttl = 0, .proto = IP_PROTO_TCP, .src = rig_addr("10.0.0.2")};
  h.dst = rig_addr("10.0.0.1");
  rig_in(r, f, rig_build_hdr(f, &h, rig_mac, l4, sizeof l4));
  assert_int_equal(r->n_up, 1);
}

static void source_route_and_options(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[40] = {0};
  for (unsigned i = 0; i < 2; i++) { /* four bytes of options: LSRR, then NOPs */
    uint32_t n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, sizeof l4);
    f[14] = 0x46;
    memcpy(f + 34, i == 0 ? "\x83\x03\x04\x00" : "\x01\x01\x01\x00", 4);
    memset(f + 24, 0, 2);
    cksum_store(f + 24, cksum_fold(cksum_add(0, f + 14, 24)));
    rig_in(r, f, n);
  }
  assert_int_equal(r->c[IPC_RX_SRCROUTE], 1);
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].l4_off, 38);
  assert_int_equal(r->up[0].l4_len, 36);
}

static void ip6_extension_headers(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[64];
  memset(l4, 0, sizeof l4);
  rig_resolve(r, "2001:db8::2", rig_peer);
  l4[0] = IP_PROTO_UDP; /* destination options: PadN */
  l4[2] = 1;
  l4[3] = 4;
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, l4, 28));
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].ip.proto, IP_PROTO_UDP);
  assert_int_equal(r->up[0].l4_off, 62);
  assert_int_equal(r->up[0].l4_len, 20);
  l4[2] = 0x80; /* an unknown option that wants an answer */
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, l4, 28));
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].b[54], ICMP6_PARAM_PROBLEM);
  assert_int_equal(r->sent[0].b[55], 2);
  assert_int_equal(load_be32(r->sent[0].b + 58), 42);
  l4[2] = 0x40; /* one that wants none */
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, l4, 28));
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->c[IPC_RX_OPTION], 2);
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", 99, l4, 28)); /* unknown protocol: code 1 at byte 6 */
  assert_int_equal(r->n_sent, 2);
  assert_int_equal(r->sent[1].b[55], 1);
  assert_int_equal(load_be32(r->sent[1].b + 58), 6);
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_NONE, l4, 28));
  assert_int_equal(r->n_sent, 2);
  memset(l4, 0, 8); /* fragment header: atomic is whole, another waits for the rest */
  l4[0] = IP_PROTO_UDP;
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_FRAGMENT, l4, 28));
  assert_int_equal(r->n_up, 2);
  l4[3] = 8;
  rig_in(r, f, rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_FRAGMENT, l4, 28));
  assert_int_equal(r->c[IPC_RX_FRAGMENT], 1);
  assert_int_equal(r->n_up, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(echo_reply_v4),
      RIG_TEST(echo_reply_v6),
      RIG_TEST(echo_asks_first),
      RIG_TEST(echo_in_pieces),
      RIG_TEST(echo_to_groups_and_long_ones),
      RIG_TEST(delivers),
      RIG_TEST(martians),
      RIG_TEST(bad_headers_v4),
      RIG_TEST(ttl_is_no_reason),
      RIG_TEST(source_route_and_options),
      RIG_TEST(ip6_extension_headers),
  };
  return cmocka_run_group_tests_name("ip_input", tests, NULL, NULL);
}
