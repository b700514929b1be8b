/*
 * ICMP of both families and neighbour discovery: fields, checksums, options, refusals.
 */
#include "test.h"
#include "wire/icmp.h"
#include "wire/nd.h"

#include <string.h>

static struct ip_addr addr(const char *text) {
  struct ip_addr a = {{0}};
  assert_int_equal(ip_addr_parse(text, &a), 0);
  return a;
}

static void icmp4_messages(void **state) {
  (void)state;
  static const struct icmp_hdr rows[] = {
      {.type = ICMP4_ECHO, .id = 0x1234, .seq = 7},
      {.type = ICMP4_ECHO_REPLY, .id = 1, .seq = 0xffff},
      {.type = ICMP4_UNREACH, .code = ICMP4_UNREACH_PORT},
      {.type = ICMP4_UNREACH, .code = ICMP4_UNREACH_FRAG, .mtu = 1400},
      {.type = ICMP4_PARAM_PROBLEM, .ptr = 20},
      {.type = ICMP4_REDIRECT, .code = 1, .gateway = 0x0a000001},
      {.type = ICMP4_TIME_EXCEEDED},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    uint8_t p[20] = {0};
    struct icmp_hdr g;
    assert_int_equal(icmp4_hdr_build(p, 8, &rows[i]), 8);
    assert_int_equal(icmp4_hdr_parse(p, 20, &g), 8);
    assert_memory_equal(&rows[i], &g, sizeof g);
    icmp4_cksum_set(p, 20);
    assert_true(icmp4_cksum_ok(p, 20));
    p[19] ^= 4;
    assert_false(icmp4_cksum_ok(p, 20));
    assert_false(icmp4_cksum_ok(p, 7));
    assert_int_equal(icmp4_hdr_parse(p, 7, &g), WIRE_SHORT);
    assert_int_equal(icmp4_hdr_build(p, 7, &rows[i]), WIRE_ROOM);
    assert_int_equal(icmp4_is_error(rows[i].type) != 0, i >= 2);
  }
}

static void icmp6_messages(void **state) {
  (void)state;
  static const struct icmp_hdr rows[] = {
      {.type = ICMP6_ECHO, .id = 0x1234, .seq = 7},        {.type = ICMP6_ECHO_REPLY, .id = 1, .seq = 0xffff},
      {.type = ICMP6_UNREACH, .code = ICMP6_UNREACH_PORT}, {.type = ICMP6_TOO_BIG, .mtu = 1280},
      {.type = ICMP6_PARAM_PROBLEM, .code = 2, .ptr = 48},
  };
  struct ip_addr src = addr("fe80::1"), dst = addr("fe80::2"), other = addr("fe80::4");
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    uint8_t p[21] = {0};
    struct icmp_hdr g;
    assert_int_equal(icmp6_hdr_build(p, 8, &rows[i]), 8);
    assert_int_equal(icmp6_hdr_parse(p, 21, &g), 8);
    assert_memory_equal(&rows[i], &g, sizeof g);
    icmp6_cksum_set(p, 21, &src, &dst);
    assert_true(icmp6_cksum_ok(p, 21, &src, &dst));
    assert_false(icmp6_cksum_ok(p, 21, &src, &other));
    assert_false(icmp6_cksum_ok(p, 3, &src, &dst));
    assert_int_equal(icmp6_hdr_parse(p, 7, &g), WIRE_SHORT);
    assert_int_equal(icmp6_hdr_build(p, 7, &rows[i]), WIRE_ROOM);
    assert_int_equal(icmp6_is_error(rows[i].type) != 0, i >= 2);
  }
}

static void nd_solicitation_bytes(void **state) {
  (void)state;
  static const uint8_t want[32] = {135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0,
                                   0,   0, 0, 0, 0, 0, 0, 2, 1,    1,    2, 0, 0, 0, 0, 1};
  struct nd_msg m = {.type = ICMP6_NS, .present = ND_HAS_SLLA, .slla = {{2, 0, 0, 0, 0, 1}}}, g;
  uint8_t p[32];
  m.target = addr("fe80::2");
  assert_int_equal(nd_msg_build(p, 32, &m), 32);
  assert_memory_equal(p, want, 32);
  assert_int_equal(nd_msg_build(p, 31, &m), WIRE_ROOM);
  assert_int_equal(nd_msg_parse(p, 32, &g), 32);
  assert_memory_equal(&m, &g, sizeof m);
}

static void nd_advertisements(void **state) {
  (void)state;
  struct nd_msg m = {.type = ICMP6_NA, .flags = ND_NA_SOLICITED | ND_NA_OVERRIDE, .present = ND_HAS_TLLA}, g;
  uint8_t p[400];
  m.tlla = (struct mac_addr){{2, 0, 0, 0, 0, 9}};
  m.target = addr("2001:db8::9");
  assert_int_equal(nd_msg_build(p, sizeof p, &m), 32);
  assert_int_equal(nd_msg_parse(p, 32, &g), 32);
  assert_memory_equal(&m, &g, sizeof m);

  struct nd_msg r = {.type = ICMP6_RA, .flags = ND_RA_MANAGED, .hop_limit = 64, .lifetime_s = 1800, .mtu = 1400};
  r.present = ND_HAS_SLLA | ND_HAS_MTU;
  r.reachable_ms = 30000;
  r.retrans_ms = 1000;
  r.n_prefixes = ND_PREFIXES_MAX;
  for (uint8_t i = 0; i < ND_PREFIXES_MAX; i++) {
    r.prefixes[i] = (struct nd_prefix){.valid_s = 7200, .preferred_s = UINT32_MAX, .len = 64, .flags = ND_PREFIX_AUTO};
    r.prefixes[i].prefix = addr("2001:db8:1::");
    r.prefixes[i].prefix.b[5] = i;
  }
  int n = nd_msg_build(p, sizeof p, &r);
  assert_int_equal(n, 16 + 8 + 8 + 32 * ND_PREFIXES_MAX);
  assert_int_equal(nd_msg_parse(p, (size_t)n, &g), n);
  assert_memory_equal(&r, &g, sizeof r);
  r.n_prefixes++;
  assert_int_equal(nd_msg_build(p, sizeof p, &r), WIRE_VALUE);
}

static void nd_refusals(void **state) {
  (void)state;
  struct nd_msg m = {.type = ICMP6_NS, .present = ND_HAS_SLLA}, g;
  uint8_t p[400], q[400] = {0};
  m.target = addr("fe80::2");
  assert_int_equal(nd_msg_build(p, sizeof p, &m), 32);
  assert_int_equal(nd_msg_parse(p, 23, &g), WIRE_SHORT);
  assert_int_equal(nd_msg_parse(p, 24, &g), 24);
  assert_int_equal(g.present, 0);
  assert_int_equal(nd_msg_parse(p, 31, &g), WIRE_LENGTH);
  p[25] = 0; /* an option of length 0 */
  assert_int_equal(nd_msg_parse(p, 32, &g), WIRE_LENGTH);
  p[25] = 2;
  assert_int_equal(nd_msg_parse(p, 32, &g), WIRE_LENGTH);
  p[25] = 1;
  p[24] = 200; /* unknown */
  assert_int_equal(nd_msg_parse(p, 32, &g), 32);
  p[1] = 1;
  assert_int_equal(nd_msg_parse(p, 32, &g), WIRE_VALUE);
  p[1] = 0;
  p[8] = 0xff;
  assert_int_equal(nd_msg_parse(p, 32, &g), WIRE_VALUE);
  p[0] = ICMP6_ECHO;
  assert_int_equal(nd_msg_parse(p, 32, &g), WIRE_VERSION);
  q[0] = ICMP6_RS;
  for (size_t i = 8; i < 8 + 33 * 8; i += 8)
    q[i] = 14, q[i + 1] = 1;
  assert_int_equal(nd_msg_parse(q, 8 + 32 * 8, &g), 8 + 32 * 8);
  assert_int_equal(nd_msg_parse(q, 8 + 33 * 8, &g), WIRE_LIMIT);
  m.type = ICMP6_REDIRECT;
  assert_int_equal(nd_msg_build(p, sizeof p, &m), WIRE_VALUE);
}

static void nd_redirect_and_bad_prefix(void **state) {
  (void)state;
  uint8_t p[80] = {ICMP6_REDIRECT};
  struct nd_msg g;
  struct ip_addr t = addr("fe80::7"), d = addr("2001:db8::5");
  memcpy(p + 8, t.b, 16);
  memcpy(p + 24, d.b, 16);
  p[40] = 2, p[41] = 1, p[42] = 2;
  assert_int_equal(nd_msg_parse(p, 48, &g), 48);
  assert_true(ip_addr_eq(&g.dest, &d) && ip_addr_eq(&g.target, &t));
  assert_int_equal(g.present, ND_HAS_TLLA);
  p[24] = 0xff;
  assert_int_equal(nd_msg_parse(p, 48, &g), WIRE_VALUE);
  uint8_t ra[48] = {ICMP6_RA};
  ra[16] = 3, ra[17] = 4, ra[18] = 129;
  assert_int_equal(nd_msg_parse(ra, 48, &g), 48);
  assert_int_equal(g.n_prefixes, 0);
  ra[18] = 128;
  assert_int_equal(nd_msg_parse(ra, 48, &g), 48);
  assert_int_equal(g.n_prefixes, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(icmp4_messages),        cmocka_unit_test(icmp6_messages),
      cmocka_unit_test(nd_solicitation_bytes), cmocka_unit_test(nd_advertisements),
      cmocka_unit_test(nd_refusals),           cmocka_unit_test(nd_redirect_and_bad_prefix),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
