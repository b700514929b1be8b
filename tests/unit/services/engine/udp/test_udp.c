/*
 * UDP's core: headers that come in pieces, checksums of both families, what an app's header may say, segments, and the
 * two small memories.
 */
#include "udp.h"

#include "test.h"

#include <errno.h>
#include <string.h>

static struct ip_addr addr(const char *text) {
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(text, &a), 0);
  return a;
}

/* A datagram with `n` payload bytes, whole, as a packet in pieces of `step` bytes. */
static struct pkt packet(uint8_t *bytes, const char *src, const char *dst, uint32_t n, uint32_t step) {
  struct pkt p = {.l4_len = UDP_HLEN + n};
  struct ip_addr s = addr(src), d = addr(dst);
  for (uint32_t i = 0; i < n; i++)
    bytes[UDP_HLEN + i] = (uint8_t)(i * 7);
  udp_hdr_whole(bytes, &s, 1000, &d, 2000, n);
  p.ip = (struct ip_hdr){
      .version = ip_addr_is4(&s) ? 4 : 6, .proto = IP_PROTO_UDP, .src = s, .dst = d, .ttl = 9, .tos = 4};
  for (uint32_t at = 0; at < p.l4_len; at += step)
    p.piece[p.n_pieces++] = (struct pkt_piece){.p = bytes + at, .len = p.l4_len - at < step ? p.l4_len - at : step};
  return p;
}

static int gather(void *ctx, const uint8_t *bytes, uint32_t n) {
  uint8_t **to = ctx;
  memcpy(*to, bytes, n);
  *to += n;
  return 0;
}

static void test_parse(void **state) {
  uint8_t bytes[200], out[200], *end = out;
  struct udp_in in;
  (void)state;
  for (uint32_t step = 11; step <= 200; step += 63) {
    struct pkt p = packet(bytes, "10.0.0.1", "10.0.0.2", 100, step);
    assert_int_equal(udp_parse(&p, &in), 0);
    assert_int_equal(in.hdr.sport, 1000);
    assert_int_equal(in.hdr.dport, 2000);
    assert_int_equal(in.len, 100);
    assert_int_equal(udp_cksum_ok(&p, &in), 1);
    end = out;
    assert_int_equal(udp_payload(&p, &in, 10, 80, gather, &end), 0);
    assert_ptr_equal(end, out + 80);
    assert_memory_equal(out, bytes + UDP_HLEN + 10, 80);
  }
}

static void test_lengths(void **state) {
  uint8_t bytes[200];
  struct udp_in in;
  (void)state;
  struct pkt p = packet(bytes, "10.0.0.1", "10.0.0.2", 20, 200);
  bytes[UDP_OFF_LEN + 1] = 7; /* shorter than its header */
  assert_int_equal(udp_parse(&p, &in), -EINVAL);
  bytes[UDP_OFF_LEN + 1] = 29; /* longer than IP says */
  assert_int_equal(udp_parse(&p, &in), -EINVAL);
  bytes[UDP_OFF_LEN + 1] = 8; /* nothing, and padding behind it (RFC 768) */
  assert_int_equal(udp_parse(&p, &in), 0);
  assert_int_equal(in.len, 0);
  p.l4_len = 7;
  assert_int_equal(udp_parse(&p, &in), -EINVAL);
  p.l4_len = 28;
  p.piece[0].len = 5; /* IP promised more than there is */
  assert_int_equal(udp_parse(&p, &in), -EINVAL);
}

static void test_checksum(void **state) {
  static const char *const pair[2][2] = {{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}};
  uint8_t bytes[200];
  struct udp_in in;
  (void)state;
  for (int six = 0; six < 2; six++) {
    struct pkt p = packet(bytes, pair[six][0], pair[six][1], 33, 9); /* pieces of odd length */
    assert_int_equal(udp_parse(&p, &in), 0);
    assert_int_equal(udp_cksum_ok(&p, &in), 1);
    bytes[20] ^= 1;
    assert_int_equal(udp_cksum_ok(&p, &in), 0);
    p.flags = ABI_FR_CSUM_OK; /* the device looked at it */
    assert_int_equal(udp_cksum_ok(&p, &in), 1);
    p.flags = 0;
    memset(bytes + UDP_OFF_CKSUM, 0, 2);
    assert_int_equal(udp_parse(&p, &in), 0);
    assert_int_equal(udp_cksum_ok(&p, &in), !six); /* RFC 8200 8.1 */
  }
}

/* RFC 768: a checksum that comes out as 0 is sent as ffff. */
static void test_never_zero(void **state) {
  uint8_t bytes[UDP_HLEN + 2];
  struct ip_addr s = addr("10.0.0.1"), d = addr("10.0.0.2");
  int seen = 0;
  (void)state;
  for (uint32_t v = 0; v < 65536; v++) {
    store_be16(bytes + UDP_HLEN, (uint16_t)v);
    udp_hdr_whole(bytes, &s, 1, &d, 2, 2);
    assert_int_not_equal(load_be16(bytes + UDP_OFF_CKSUM), 0);
    seen += load_be16(bytes + UDP_OFF_CKSUM) == 0xffff;
  }
  assert_int_equal(seen, 1);
}

static void test_headers_of_apps(void **state) {
  struct abi_dgram d = {.len = 1000};
  (void)state;
  assert_int_equal(udp_dgram_check(&d, sizeof d + 1000), 0);
  assert_int_equal(udp_dgram_check(&d, sizeof d + 999), -EPROTO);
  assert_int_equal(udp_dgram_check(&d, 3), -EPROTO);
  d.seg = 7;
  assert_int_equal(udp_dgram_check(&d, 2000), -EPROTO); /* more than 128 datagrams */
  d.seg = 8;
  assert_int_equal(udp_dgram_check(&d, 2000), 0);
  assert_int_equal(udp_segments(&d), 125);
  d.seg = 1000;
  assert_int_equal(udp_segments(&d), 1);
  d.seg = 999;
  assert_int_equal(udp_segments(&d), 2);
  d.family = 5;
  assert_int_equal(udp_dgram_check(&d, 2000), -EPROTO);
  d = (struct abi_dgram){.len = ABI_DGRAM_MAX + 1};
  assert_int_equal(udp_dgram_check(&d, UINT32_MAX), -EPROTO);
  d.len = 0;
  d.seg = 1;
  assert_int_equal(udp_dgram_check(&d, sizeof d), 0);
  assert_int_equal(udp_segments(&d), 1);
}

/** The time of arrival beside the interface, whatever it is modulo 2^32. */
static void test_stamp(void **state) {
  (void)state;
  static const usec_t at[] = {0, 1, 0xffff, 0x10000, 0xffffffffull, 0x123456789abcdefull};
  for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
    struct abi_dgram d = {.ifindex = 7, .len = 5};
    udp_stamp(&d, at[i]);
    assert_int_equal(d.flags, ABI_DGRAM_STAMPED);
    assert_int_equal(d.ifindex & 0xffffu, 7);
    assert_int_equal((d.ifindex & 0xffff0000u) | d.seg, (uint32_t)at[i]);
    assert_int_equal(d.len, 5);
  }
}

static void test_replies(void **state) {
  static struct udp_conn c;
  struct ip_addr peer = addr("10.0.0.9"), one = addr("10.0.0.1"), two = addr("10.0.0.2");
  (void)state;
  assert_null(udp_reply_find(&c, &peer, 5));
  udp_reply_note(&c, &peer, 5, &one);
  assert_int_equal(ip_addr_eq(udp_reply_find(&c, &peer, 5), &one), 1);
  assert_null(udp_reply_find(&c, &peer, 6));
  udp_reply_note(&c, &peer, 5, &two);
  assert_int_equal(ip_addr_eq(udp_reply_find(&c, &peer, 5), &two), 1);
}

static void test_pmtu(void **state) {
  static uint64_t counters[UDP_N_COUNTERS];
  static struct udp_env e = {.counters = counters};
  struct ip_addr a = addr("10.0.0.9"), b = addr("fd00::9");
  (void)state;
  assert_int_equal(udp_pmtu_min(&e, 0, &a, 1500, 10), 1500);
  udp_pmtu_note(&e, 0, &a, 1400, 10);
  assert_int_equal(udp_pmtu_min(&e, 0, &a, 1500, 11), 1400);
  udp_pmtu_note(&e, 0, &a, 1450, 12); /* not raised by ICMP (RFC 1191 6.3) */
  assert_int_equal(udp_pmtu_min(&e, 0, &a, 1500, 13), 1400);
  udp_pmtu_note(&e, 0, &a, 68, 14); /* an attack */
  assert_int_equal(udp_pmtu_min(&e, 0, &a, 1500, 15), 552);
  udp_pmtu_note(&e, 0, &b, 600, 16);
  assert_int_equal(udp_pmtu_min(&e, 0, &b, 1500, 17), 1280);
  assert_int_equal(udp_pmtu_min(&e, 0, &a, 1500, 700000000ull), 1500); /* forgotten after ten minutes */
  assert_int_equal(udp_icmp_errno(1, ECONNREFUSED), ECONNREFUSED);
  assert_int_equal(udp_icmp_errno(0, EHOSTUNREACH), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse),           cmocka_unit_test(test_lengths),
                                     cmocka_unit_test(test_checksum),        cmocka_unit_test(test_never_zero),
                                     cmocka_unit_test(test_headers_of_apps), cmocka_unit_test(test_stamp),
                                     cmocka_unit_test(test_replies),         cmocka_unit_test(test_pmtu)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
