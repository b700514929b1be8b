/*
 * Checksum: RFC 1071's example, real packets, odd pieces, RFC 1624 updates and their corner case.
 */
#include "test.h"
#include "wire/cksum.h"
#include "wire/ip.h"

#include <string.h>

static void rfc1071_example(void **state) {
  (void)state;
  const uint8_t p[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  uint8_t field[2];
  cksum_store(field, cksum_fold(cksum_add(0, p, sizeof p)));
  assert_int_equal(load_be16(field), 0xffff - 0xddf2);
  assert_int_equal(cksum_fold(0), 0xffff);
}

static void known_ip_header(void **state) {
  (void)state;
  uint8_t h[20] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
                   0,    0,    0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};
  cksum_store(h + 10, cksum_fold(cksum_add(0, h, 20)));
  assert_int_equal(load_be16(h + 10), 0xb861);
  assert_true(ip4_hdr_cksum_ok(h, 20));
  h[8]--;
  assert_false(ip4_hdr_cksum_ok(h, 20));
  uint16_t field = cksum_update16(cksum_load(h + 10), 0x4011, 0x3f11);
  cksum_store(h + 10, field);
  assert_true(ip4_hdr_cksum_ok(h, 20));
}

/* RFC 1624 4: with eqn. 2 the result would be 0xffff, which is wrong. */
static void rfc1624_example(void **state) {
  (void)state;
  uint8_t field[2];
  store_be16(field, 0xdd2f);
  uint16_t now = cksum_update16(cksum_load(field), 0x5555, 0x3285);
  assert_int_equal(now, 0);
}

static void pseudo_headers(void **state) {
  (void)state;
  /* a UDP datagram of 10 bytes, 192.168.0.31 → 192.168.0.30, ports 20 → 10, "Hi" */
  uint8_t u[10] = {0, 20, 0, 10, 0, 10, 0, 0, 'H', 'i'};
  struct ip_addr src = ip_addr_from4(0xc0a8001f), dst = ip_addr_from4(0xc0a8001e);
  cksum_t s = cksum_pseudo(&src, &dst, IP_PROTO_UDP, 10);
  cksum_store(u + 6, cksum_fold(cksum_add(s, u, 10)));
  assert_int_equal(load_be16(u + 6), 0x35c5);
  assert_true(cksum_l4_ok(&src, &dst, IP_PROTO_UDP, u, 10));
  u[9] ^= 1;
  assert_false(cksum_l4_ok(&src, &dst, IP_PROTO_UDP, u, 10));

  struct ip_addr s6, d6;
  assert_int_equal(ip_addr_parse("2001:db8::1", &s6), 0);
  assert_int_equal(ip_addr_parse("2001:db8:ffff::fedc", &d6), 0);
  uint8_t flat[40] = {0};
  memcpy(flat, s6.b, 16);
  memcpy(flat + 16, d6.b, 16);
  store_be32(flat + 32, 0x12345);
  flat[39] = IP_PROTO_TCP;
  assert_int_equal(cksum_fold(cksum_pseudo(&s6, &d6, IP_PROTO_TCP, 0x12345)), cksum_fold(cksum_add(0, flat, 40)));
}

static void odd_pieces(void **state) {
  (void)state;
  uint8_t p[301];
  for (unsigned i = 0; i < sizeof p; i++)
    p[i] = (uint8_t)(i * 37 + 11);
  uint16_t whole = cksum_fold(cksum_add(0, p, sizeof p));
  for (unsigned cut = 0; cut <= sizeof p; cut++) {
    cksum_t s = cksum_combine(cksum_add(0, p, cut), cksum_add(0, p + cut, sizeof p - cut), cut & 1);
    assert_int_equal(cksum_fold(s), whole);
  }
}

static void copy_sums_and_copies_exactly(void **state) {
  (void)state;
  uint8_t src[700], dst[720];
  for (unsigned i = 0; i < sizeof src; i++)
    src[i] = (uint8_t)(i * 131 + 7);
  for (unsigned len = 0; len < 650; len += len < 140 ? 1 : 37)
    for (unsigned off = 0; off < 4; off++) {
      memset(dst, 0xa5, sizeof dst);
      cksum_t s = cksum_copy(dst + 8 + off, src + off * 3, len, 5);
      assert_memory_equal(dst + 8 + off, src + off * 3, len);
      assert_int_equal(dst[7 + off], 0xa5);
      assert_int_equal(dst[8 + off + len], 0xa5);
      assert_int_equal(cksum_fold(s), cksum_fold(cksum_add(5, src + off * 3, len)));
    }
}

static void sums_never_overflow(void **state) {
  (void)state;
  static uint8_t ff[1 << 17];
  memset(ff, 0xff, sizeof ff);
  assert_int_equal(cksum_fold(cksum_add(0, ff, sizeof ff)), 0);
  assert_int_equal(cksum_fold(cksum_add(UINT64_MAX, ff, sizeof ff)), 0);
  assert_int_equal(cksum_reduce(UINT64_MAX), 0xffff);
  assert_int_equal(cksum_fold(cksum_add_u16(0, 0x1234)), (uint16_t)~0x3412);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rfc1071_example),     cmocka_unit_test(known_ip_header),
      cmocka_unit_test(rfc1624_example),     cmocka_unit_test(pseudo_headers),
      cmocka_unit_test(odd_pieces),          cmocka_unit_test(copy_sums_and_copies_exactly),
      cmocka_unit_test(sums_never_overflow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
