/*
 * Addresses: text, families, classes, prefixes, derived addresses.
 */
#include "test.h"
#include "wire/addr.h"

#include <string.h>

static struct ip_addr addr(const char *text) {
  struct ip_addr a;
  memset(&a, 0xee, sizeof a);
  assert_int_equal(ip_addr_parse(text, &a), 0);
  return a;
}

static void text_goes_both_ways(void **state) {
  (void)state;
  static const char *const same[] = {
      "10.0.0.1", "255.255.255.255",     "0.0.0.0", "::", "::1", "fe80::1", "2001:db8::ff",
      "ff02::1",  "2001:db8:0:1:1:1:1:1"};
  char buf[IP_ADDR_TEXT_MAX];
  for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
    struct ip_addr a = addr(same[i]);
    assert_string_equal(ip_addr_format(&a, buf, sizeof buf), same[i]);
    assert_int_equal(ip_addr_is4(&a), strchr(same[i], ':') == NULL);
  }
  struct ip_addr long6 = addr("1111:2222:3333:4444:5555:6666:7777:8888");
  assert_string_equal(ip_addr_format(&long6, buf, 5), "");
  struct ip_addr mapped = addr("::ffff:1.2.3.4"); /* one key for both spellings */
  assert_true(ip_addr_is4(&mapped));
  assert_int_equal(ip_addr_get4(&mapped), 0x01020304);
  struct ip_addr a = ip_addr_from4(0x01020304);
  assert_true(ip_addr_eq(&a, &mapped));
  assert_int_equal(ip_addr_cmp(&a, &mapped), 0);
}

static void bad_text_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"", "1.2.3", "1.2.3.4.5", "1.2.3.256", "::g", "10.0.0.1 ", "fe80::1%eth0", ":::"};
  struct ip_addr a = {{7}}, before = a;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(ip_addr_parse(bad[i], &a), -EINVAL);
  assert_memory_equal(&a, &before, sizeof a);
}

static void prefixes(void **state) {
  (void)state;
  struct ip_addr a, b;
  unsigned n;
  assert_int_equal(ip_addr_parse_prefix("10.1.2.3/8", &a, &n), 0);
  assert_int_equal(n, 8);
  assert_int_equal(ip_addr_bits(&a, n), 104);
  assert_int_equal(ip_addr_parse_prefix("fd00::1/64", &b, &n), 0);
  assert_int_equal(ip_addr_bits(&b, n), 64);
  assert_int_equal(ip_addr_parse_prefix("::1", &b, &n), 0);
  assert_int_equal(n, 128);
  static const char *const bad[] = {"10.0.0.0/33",
                                    "10.0.0.0/",
                                    "10.0.0.0/-1",
                                    "10.0.0.0/ 8",
                                    "::/129",
                                    "10.0.0.0/8x",
                                    "/8",
                                    "10.0.0.0/4294967304",
                                    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa/8"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(ip_addr_parse_prefix(bad[i], &b, &n), -EINVAL);
  struct ip_addr net = addr("10.0.0.0"), in = addr("10.255.0.1"), out = addr("11.0.0.1");
  assert_true(ip_addr_match(&net, &in, 104));
  assert_false(ip_addr_match(&net, &out, 104));
  assert_true(ip_addr_match(&net, &out, 0));
  assert_false(ip_addr_match(&net, &in, 128));
  struct ip_addr masked = ip_addr_mask(&a, 104);
  assert_true(ip_addr_eq(&masked, &net));
}

static void mask_agrees_with_bits(void **state) {
  (void)state;
  struct ip_addr all, zero;
  memset(all.b, 0xff, 16);
  memset(zero.b, 0, 16);
  for (unsigned bits = 0; bits <= 128; bits++) {
    struct ip_addr m = ip_addr_mask(&all, bits);
    for (unsigned i = 0; i < 128; i++)
      assert_int_equal(m.b[i / 8] >> (7 - i % 8) & 1, i < bits);
    assert_int_equal(ip_addr_match(&all, &zero, bits), bits == 0);
    assert_true(ip_addr_match(&all, &m, bits));
  }
}

static void classes(void **state) {
  (void)state;
  struct ip_addr a;
#define IS(what, text, yes) (a = addr(text), assert_int_equal(ip_addr_is_##what(&a) != 0, yes))
  IS(any, "0.0.0.0", 1);
  IS(any, "::", 1);
  IS(any, "0.0.0.1", 0);
  IS(loopback, "127.9.9.9", 1);
  IS(loopback, "::1", 1);
  IS(loopback, "128.0.0.1", 0);
  IS(loopback, "::2", 0);
  IS(multicast, "224.0.0.1", 1);
  IS(multicast, "239.255.255.255", 1);
  IS(multicast, "240.0.0.0", 0);
  IS(multicast, "ff05::2", 1);
  IS(multicast, "fe80::", 0);
  IS(linklocal, "169.254.3.4", 1);
  IS(linklocal, "fe80::1", 1);
  IS(linklocal, "febf::1", 1);
  IS(linklocal, "fec0::1", 0);
  IS(broadcast, "255.255.255.255", 1);
  IS(broadcast, "255.255.255.254", 0);
#undef IS
}

static void derived(void **state) {
  (void)state;
  struct ip_addr a = addr("224.129.2.3");
  struct mac_addr m = ip_addr_mcast_mac(&a);
  char buf[MAC_ADDR_TEXT_MAX], text[IP_ADDR_TEXT_MAX];
  assert_string_equal(mac_addr_format(&m, buf, sizeof buf), "01:00:5e:01:02:03");
  a = addr("2001:db8::1:ff28:9c5a");
  a = ip_addr_solicited(&a);
  assert_string_equal(ip_addr_format(&a, text, sizeof text), "ff02::1:ff28:9c5a");
  m = ip_addr_mcast_mac(&a);
  assert_string_equal(mac_addr_format(&m, buf, sizeof buf), "33:33:ff:28:9c:5a");
  assert_int_equal(mac_addr_parse("34:56:78:9A:bc:de", &m), 0);
  a = ip_addr_linklocal(&m); /* RFC 2464 4's example */
  assert_string_equal(ip_addr_format(&a, text, sizeof text), "fe80::3656:78ff:fe9a:bcde");
}

static void macs(void **state) {
  (void)state;
  struct mac_addr m;
  char buf[MAC_ADDR_TEXT_MAX];
  static const char *const bad[] = {
      "", "02:00:00:00:00", "02:00:00:00:00:0g", "02-00-00-00-00-01", "02:00:00:00:00:011", "020:0:00:00:00:01"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    assert_int_equal(mac_addr_parse(bad[i], &m), -EINVAL);
  assert_int_equal(mac_addr_parse("ff:ff:ff:ff:ff:ff", &m), 0);
  assert_true(mac_addr_is_broadcast(&m) && mac_addr_is_multicast(&m) && !mac_addr_is_zero(&m));
  assert_int_equal(mac_addr_parse("00:00:00:00:00:00", &m), 0);
  assert_true(mac_addr_is_zero(&m));
  assert_string_equal(mac_addr_format(&m, buf, 3), "");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_goes_both_ways),
      cmocka_unit_test(bad_text_is_refused),
      cmocka_unit_test(prefixes),
      cmocka_unit_test(mask_agrees_with_bits),
      cmocka_unit_test(classes),
      cmocka_unit_test(derived),
      cmocka_unit_test(macs),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
