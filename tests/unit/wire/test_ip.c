/*
 * IP headers of both families: fields, fragments, options, extension headers and their limits, quoted packets.
 */
#include "test.h"
#include "wire/cksum.h"
#include "wire/ip.h"

#include <string.h>

static struct ip_hdr base4(void) {
  struct ip_hdr h = {.version = 4, .tos = 0x2e, .ttl = 64, .proto = IP_PROTO_TCP, .flags = IP_FLAG_DF, .total_len = 60};
  h.frag_id = 0x1234;
  h.src = ip_addr_from4(0x0a000001);
  h.dst = ip_addr_from4(0x0a000002);
  return h;
}

static struct ip_hdr base6(void) {
  struct ip_hdr h = {.version = 6, .tos = 0x2e, .ttl = 255, .proto = IP_PROTO_UDP, .total_len = 100};
  h.flow_label = 0xabcde;
  assert_int_equal(ip_addr_parse("2001:db8::1", &h.src), 0);
  assert_int_equal(ip_addr_parse("2001:db8::2", &h.dst), 0);
  return h;
}

static void ip4_both_ways(void **state) {
  (void)state;
  struct ip_hdr h = base4(), g;
  uint8_t p[64] = {0};
  assert_int_equal(ip_hdr_build(p, 20, &h), 20);
  assert_true(ip4_hdr_cksum_ok(p, 20));
  assert_int_equal(ip_hdr_parse(p, 60, &g), 20);
  h.hdr_len = 20;
  assert_memory_equal(&h, &g, sizeof h);
  assert_int_equal(ip_hdr_parse(p, 64, &g), 20); /* Ethernet padding */
  assert_int_equal(g.total_len, 60);
  assert_int_equal(ip_hdr_parse(p, 59, &g), WIRE_SHORT);
  assert_int_equal(ip_hdr_parse_quoted(p, 28, &g), 20);
  assert_int_equal(ip_hdr_parse_quoted(p, 19, &g), WIRE_SHORT);
  assert_int_equal(ip_hdr_build(p, 19, &h), WIRE_ROOM);
  assert_int_equal(ip_hdr_parse(p, 0, &g), WIRE_SHORT);
}

static void ip4_lengths_and_version(void **state) {
  (void)state;
  struct ip_hdr h = base4(), g;
  uint8_t p[64] = {0};
  assert_int_equal(ip_hdr_build(p, 20, &h), 20);
  p[0] = 0x44;
  assert_int_equal(ip_hdr_parse(p, 64, &g), WIRE_LENGTH);
  p[0] = 0x55;
  assert_int_equal(ip_hdr_parse(p, 64, &g), WIRE_VERSION);
  p[0] = 0x45;
  store_be16(p + 2, 19);
  assert_int_equal(ip_hdr_parse(p, 64, &g), WIRE_LENGTH);
}

static void ip4_fragments(void **state) {
  (void)state;
  struct ip_hdr h = base4(), g;
  uint8_t p[64] = {0};
  h.flags = IP_FLAG_MF | IP_FLAG_FRAG;
  h.frag_off = 1480;
  assert_int_equal(ip_hdr_build(p, 20, &h), 20);
  assert_int_equal(ip_hdr_parse(p, 60, &g), 20);
  assert_int_equal(g.flags, IP_FLAG_MF | IP_FLAG_FRAG);
  assert_int_equal(g.frag_off, 1480);
  store_be16(p + 2, 59); /* 39 bytes, and more to follow */
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
  store_be16(p + 6, 185); /* the last one may end anywhere */
  assert_int_equal(ip_hdr_parse(p, 60, &g), 20);
  assert_int_equal(g.flags, IP_FLAG_FRAG);
  store_be16(p + 2, 20);
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
  store_be16(p + 2, 60);
  store_be16(p + 6, 8191); /* reaches beyond 65535 */
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
}

static void ip4_options(void **state) {
  (void)state;
  struct ip_hdr h = base4(), g;
  uint8_t p[64] = {0};
  assert_int_equal(ip_hdr_build(p, 20, &h), 20);
  p[0] = 0x47;
  memcpy(p + 20, (uint8_t[]){1, 148, 4, 0, 0, 0, 99, 99}, 8);
  assert_int_equal(ip_hdr_parse(p, 60, &g), 28);
  assert_int_equal(g.flags, IP_FLAG_DF | IP_FLAG_OPTS | IP_FLAG_ROUTER_ALERT);
  memcpy(p + 20, (uint8_t[]){131, 7, 4, 1, 2, 3, 4, 0}, 8);
  assert_int_equal(ip_hdr_parse(p, 60, &g), 28);
  assert_true(g.flags & IP_FLAG_SRCROUTE);
  p[21] = 9; /* beyond the header */
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
  p[21] = 1;
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
  memcpy(p + 20, (uint8_t[]){1, 1, 1, 1, 1, 1, 1, 7}, 8); /* no room for a length */
  assert_int_equal(ip_hdr_parse(p, 60, &g), WIRE_LENGTH);
}

static void set_len_keeps_checksum(void **state) {
  (void)state;
  struct ip_hdr h = base4(), g;
  uint8_t p[64] = {0};
  assert_int_equal(ip_hdr_build(p, 20, &h), 20);
  ip_hdr_set_len(p, 44, 0x4321);
  assert_true(ip4_hdr_cksum_ok(p, 20));
  assert_int_equal(ip_hdr_parse(p, 64, &g), 20);
  assert_int_equal(g.total_len, 44);
  assert_int_equal(g.frag_id, 0x4321);
  h = base6();
  assert_int_equal(ip_hdr_build(p, 40, &h), 40);
  ip_hdr_set_len(p, 50, 7);
  assert_int_equal(ip_hdr_parse(p, 64, &g), 40);
  assert_int_equal(g.total_len, 50);
}

static void build_refuses_nonsense(void **state) {
  (void)state;
  struct ip_hdr h;
  uint8_t p[64];
#define BAD(init, change)                                                                                              \
  h = init();                                                                                                          \
  change;                                                                                                              \
  assert_int_equal(ip_hdr_build(p, sizeof p, &h), WIRE_VALUE)
  BAD(base4, h.version = 5);
  BAD(base4, h.total_len = 19);
  BAD(base4, h.total_len = 65536);
  BAD(base4, h.frag_off = 4);
  BAD(base4, h.src = base6().src);
  BAD(base6, h.dst = base4().dst);
  BAD(base6, h.flow_label = 1 << 20);
  BAD(base6, h.total_len = 39);
  BAD(base6, h.total_len = 65576);
  BAD(base6, h.flags = IP_FLAG_FRAG; h.total_len = 47);
#undef BAD
}

static void ip6_both_ways(void **state) {
  (void)state;
  struct ip_hdr h = base6(), g;
  uint8_t p[100] = {0};
  assert_int_equal(ip_hdr_build(p, 40, &h), 40);
  assert_int_equal(ip_hdr_parse(p, 100, &g), 40);
  h.hdr_len = 40;
  h.nh_at = 6;
  assert_memory_equal(&h, &g, sizeof h);
  assert_int_equal(ip_hdr_parse(p, 99, &g), WIRE_SHORT);
  assert_int_equal(ip_hdr_parse_quoted(p, 40, &g), 40);
  assert_int_equal(ip_hdr_parse_quoted(p, 39, &g), WIRE_SHORT);
  assert_int_equal(ip6_hdr_parse(p, 0, &g), WIRE_SHORT);
  h.src = ip_addr_from4(1); /* a mapped source on the wire would pass for IPv4 */
  memcpy(p + 8, h.src.b, 16);
  assert_int_equal(ip_hdr_parse(p, 100, &g), WIRE_VALUE);
}

/* An IPv6 packet with the given bytes behind its header; returns its length. */
static size_t packet6(uint8_t *p, size_t room, uint8_t nh, const uint8_t *ext, size_t n) {
  struct ip_hdr h = base6();
  h.proto = nh;
  h.total_len = (uint32_t)(40 + n);
  assert_int_equal(ip_hdr_build(p, room, &h), 40);
  memcpy(p + 40, ext, n);
  return 40 + n;
}

static void ip6_extension_chain(void **state) {
  (void)state;
  uint8_t p[200];
  struct ip_hdr g;
  const uint8_t ext[] = {43, 0, 5,  2, 0,    0, 1, 0, /* hop-by-hop: router alert, PadN */
                         60, 0, 99, 0, 0,    0, 0, 0, /* routing, no segments left */
                         44, 1, 1,  4, 0,    0, 0, 0,
                         0,  0, 0,  0, 0x1e, 2, 0, 0, /* destination: PadN, Pad1s, unknown to skip */
                         6,  0, 0,  0, 0,    0, 0, 9, /* atomic fragment */
                         1,  2, 3,  4};
  size_t len = packet6(p, sizeof p, 0, ext, sizeof ext);
  assert_int_equal(ip_hdr_parse(p, len, &g), 80);
  assert_int_equal(g.proto, IP_PROTO_TCP);
  assert_int_equal(g.flags, IP_FLAG_OPTS | IP_FLAG_ROUTER_ALERT | IP_FLAG_ATOMIC);
  assert_int_equal(g.opt_error, IP_OPT_OK);
  assert_int_equal(g.frag_at, 72);
  assert_int_equal(g.frag_id, 9);
  assert_int_equal(g.nh_at, 72);
  for (size_t n = 40; n < 80; n++) { /* cut within the headers, quoted or not */
    assert_true(ip_hdr_parse_quoted(p, n, &g) < 0);
    store_be16(p + 4, (uint16_t)(n - 40));
    assert_true(ip_hdr_parse(p, n, &g) < 0);
    store_be16(p + 4, (uint16_t)(len - 40));
  }
  assert_int_equal(ip_hdr_parse_quoted(p, 80, &g), 80);
}

static void ip6_fragments(void **state) {
  (void)state;
  struct ip_hdr h = base6(), g;
  uint8_t p[100] = {0};
  h.flags = IP_FLAG_FRAG | IP_FLAG_MF;
  h.frag_off = 1448;
  h.frag_id = 0xdeadbeef;
  h.total_len = 96;
  assert_int_equal(ip_hdr_size(&h), 48);
  assert_int_equal(ip_hdr_build(p, 47, &h), WIRE_ROOM);
  assert_int_equal(ip_hdr_build(p, 48, &h), 48);
  assert_int_equal(ip_hdr_parse(p, 100, &g), 48);
  assert_int_equal(g.flags, IP_FLAG_FRAG | IP_FLAG_MF | IP_FLAG_OPTS);
  assert_int_equal(g.frag_off, 1448);
  assert_int_equal(g.frag_id, 0xdeadbeef);
  assert_int_equal(g.frag_at, 40);
  assert_int_equal(g.nh_at, 6);
  assert_int_equal(g.proto, IP_PROTO_UDP);
  store_be16(p + 4, 55); /* not a multiple of 8 with more to follow */
  assert_int_equal(ip_hdr_parse(p, 100, &g), WIRE_LENGTH);
  store_be16(p + 4, 56);
  store_be16(p + 42, 0xfff8);
  assert_int_equal(ip_hdr_parse(p, 100, &g), WIRE_LENGTH);
  store_be16(p + 4, 8);
  assert_int_equal(ip_hdr_parse(p, 100, &g), WIRE_LENGTH);
}

static void ip6_what_unknown_options_demand(void **state) {
  (void)state;
  static const struct {
    uint8_t type, error;
  } rows[] = {{0x3e, IP_OPT_OK},
              {0x7e, IP_OPT_DISCARD},
              {0xbe, IP_OPT_PROBLEM},
              {0xfe, IP_OPT_PROBLEM_UNICAST},
              {0xc2, IP_OPT_PROBLEM_UNICAST}};
  uint8_t p[100];
  struct ip_hdr g;
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    const uint8_t ext[] = {17, 0, 1, 0, rows[i].type, 2, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    size_t len = packet6(p, sizeof p, 60, ext, sizeof ext);
    assert_int_equal(ip_hdr_parse(p, len, &g), 48);
    assert_int_equal(g.opt_error, rows[i].error);
    assert_int_equal(g.opt_at, rows[i].error ? 44 : 0);
  }
  const uint8_t routing[] = {17, 0, 0, 1, 0, 0, 0, 0};
  size_t len = packet6(p, sizeof p, 43, routing, sizeof routing);
  assert_int_equal(ip_hdr_parse(p, len, &g), 48);
  assert_int_equal(g.opt_error, IP_OPT_ROUTING);
  assert_int_equal(g.opt_at, 42);
  assert_true(g.flags & IP_FLAG_SRCROUTE);
  const uint8_t late[] = {0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0}; /* hop-by-hop in second place */
  len = packet6(p, sizeof p, 60, late, sizeof late);
  assert_int_equal(ip_hdr_parse(p, len, &g), 48);
  assert_int_equal(g.opt_error, IP_OPT_NEXT_HEADER);
  assert_int_equal(g.opt_at, 40);
  uint8_t behind[] = {0, 0, 0, 1, 0, 0, 0, 7, 17, 0, 1, 4, 0, 0, 0, 0}; /* and behind a fragment header */
  len = packet6(p, sizeof p, 44, behind, sizeof behind);
  assert_int_equal(ip_hdr_parse(p, len, &g), 48);
  assert_int_equal(g.opt_error, IP_OPT_NEXT_HEADER);
  assert_int_equal(g.opt_at, 40);
  behind[3] = 2 << 3 | 1; /* a later fragment: data, whatever the header says */
  len = packet6(p, sizeof p, 44, behind, sizeof behind);
  assert_int_equal(ip_hdr_parse(p, len, &g), 48);
  assert_int_equal(g.opt_error, IP_OPT_OK);
}

static void ip6_limits(void **state) {
  (void)state;
  uint8_t p[1400], ext[1300];
  struct ip_hdr g;
  memset(ext, 0, sizeof ext);
  for (unsigned i = 0; i < 9; i++)
    ext[8 * i] = 60;
  ext[8 * 7] = 17;
  size_t len = packet6(p, sizeof p, 60, ext, 80);
  assert_int_equal(ip_hdr_parse(p, len, &g), 40 + 64);
  ext[8 * 7] = 60;
  ext[8 * 8] = 17;
  len = packet6(p, sizeof p, 60, ext, 80);
  assert_int_equal(ip_hdr_parse(p, len, &g), WIRE_LIMIT);
  memset(ext, 0, sizeof ext);
  ext[0] = 17;
  ext[1] = 65; /* 528 bytes */
  len = packet6(p, sizeof p, 60, ext, 1000);
  assert_int_equal(ip_hdr_parse(p, len, &g), WIRE_LIMIT);
  ext[1] = 12; /* 104 bytes: 51 options of two bytes */
  for (unsigned i = 2; i < 104; i += 2)
    ext[i] = 1;
  len = packet6(p, sizeof p, 60, ext, 1000);
  assert_int_equal(ip_hdr_parse(p, len, &g), WIRE_LIMIT);
  memset(ext, 0, sizeof ext);
  ext[0] = 44; /* two fragment headers */
  ext[8] = 17;
  len = packet6(p, sizeof p, 44, ext, 32);
  assert_int_equal(ip_hdr_parse(p, len, &g), WIRE_VALUE);
  len = packet6(p, sizeof p, 0, ext, 0); /* jumbogram */
  assert_int_equal(ip_hdr_parse(p, len, &g), WIRE_LENGTH);
  len = packet6(p, sizeof p, IP_PROTO_NONE, ext, 0);
  assert_int_equal(ip_hdr_parse(p, len, &g), 40);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ip4_both_ways),
      cmocka_unit_test(ip4_lengths_and_version),
      cmocka_unit_test(ip4_fragments),
      cmocka_unit_test(ip4_options),
      cmocka_unit_test(set_len_keeps_checksum),
      cmocka_unit_test(build_refuses_nonsense),
      cmocka_unit_test(ip6_both_ways),
      cmocka_unit_test(ip6_extension_chain),
      cmocka_unit_test(ip6_fragments),
      cmocka_unit_test(ip6_what_unknown_options_demand),
      cmocka_unit_test(ip6_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
