/*
 * vcl/ldp/addr.c: lengths, families, mapped addresses, cut copies.
 */
#include "ldp/addr.h"
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static struct sockaddr_in four(const char *ip, uint16_t port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  assert_int_equal(inet_pton(AF_INET, ip, &a.sin_addr), 1);
  return a;
}

static struct sockaddr_in6 six(const char *ip, uint16_t port) {
  struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  assert_int_equal(inet_pton(AF_INET6, ip, &a.sin6_addr), 1);
  return a;
}

static void test_from_four(void **state) {
  (void)state;
  struct addr_ep e;
  struct sockaddr_in a = four("10.1.2.3", 80);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET, (struct sockaddr *)&a, sizeof(a)), 0);
  assert_int_equal(e.ep.is_ip4, VPPCOM_IS_IP4);
  assert_int_equal(e.ep.port, htons(80));
  assert_memory_equal(e.ip, "\x0a\x01\x02\x03", 4);
  assert_ptr_equal(e.ep.ip, e.ip);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET, (struct sockaddr *)&a, sizeof(a) - 1), -EINVAL);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET, NULL, sizeof(a)), -EFAULT);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, sizeof(a)), -EINVAL);
  a.sin_family = AF_UNIX;
  assert_int_equal(addr_from_sockaddr(&e, AF_INET, (struct sockaddr *)&a, sizeof(a)), -EAFNOSUPPORT);
}

static void test_from_six(void **state) {
  (void)state;
  struct addr_ep e;
  struct sockaddr_in6 a = six("fd00::7", 443);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, sizeof(a)), 0);
  assert_int_equal(e.ep.is_ip4, VPPCOM_IS_IP6);
  assert_memory_equal(e.ip, &a.sin6_addr, 16);
  /* RFC 2133 had no scope id: 24 bytes are enough, 23 are not. */
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, 24), 0);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, 23), -EINVAL);
  a = six("::ffff:10.9.8.7", 1);
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, sizeof(a)), 0);
  assert_int_equal(e.ep.is_ip4, VPPCOM_IS_IP4);
  assert_memory_equal(e.ip, "\x0a\x09\x08\x07", 4);
  a.sin6_family = AF_INET;
  assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, sizeof(a)), -EAFNOSUPPORT);
}

static void test_to(void **state) {
  (void)state;
  struct addr_ep e;
  struct sockaddr_in a = four("10.1.2.3", 80), back;
  struct sockaddr_in6 mapped;
  assert_int_equal(addr_from_sockaddr(&e, AF_INET, (struct sockaddr *)&a, sizeof(a)), 0);
  socklen_t len = sizeof(back);
  memset(&back, 0xee, sizeof(back));
  assert_int_equal(addr_to_sockaddr(&e, AF_INET, (struct sockaddr *)&back, &len), 0);
  assert_int_equal(len, sizeof(back));
  assert_memory_equal(&a, &back, sizeof(a));
  len = sizeof(mapped);
  assert_int_equal(addr_to_sockaddr(&e, AF_INET6, (struct sockaddr *)&mapped, &len), 0);
  struct sockaddr_in6 want = six("::ffff:10.1.2.3", 80);
  assert_memory_equal(&mapped, &want, sizeof(want));
  len = 3; /* cut, full length told, the rest untouched */
  memset(&back, 0xee, sizeof(back));
  assert_int_equal(addr_to_sockaddr(&e, AF_INET, (struct sockaddr *)&back, &len), 0);
  assert_int_equal(len, sizeof(back));
  assert_int_equal(((unsigned char *)&back)[3], 0xee);
  assert_int_equal(addr_to_sockaddr(&e, AF_INET, (struct sockaddr *)&back, NULL), -EFAULT);
  len = (socklen_t)-1;
  assert_int_equal(addr_to_sockaddr(&e, AF_INET, (struct sockaddr *)&back, &len), -EINVAL);
  addr_ep_init(&e); /* an unbound IPv6 socket is ::, not ::ffff:0.0.0.0 */
  len = sizeof(mapped);
  assert_int_equal(addr_to_sockaddr(&e, AF_INET6, (struct sockaddr *)&mapped, &len), 0);
  want = six("::", 0);
  assert_memory_equal(&mapped, &want, sizeof(want));
}

static void test_whose(void **state) {
  (void)state;
  static const struct {
    const char *ip;
    int loopback, any;
  } rows[] = {{"127.0.0.1", 1, 0},
              {"127.255.0.9", 1, 0},
              {"128.0.0.1", 0, 0},
              {"0.0.0.0", 0, 1},
              {"126.1.1.1", 0, 0},
              {"::1", 1, 0},
              {"::", 0, 1},
              {"::2", 0, 0},
              {"::ffff:127.0.0.1", 1, 0},
              {"::ffff:10.0.0.1", 0, 0},
              {"fe80::1", 0, 0}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
    struct addr_ep e;
    if (strchr(rows[i].ip, ':')) {
      struct sockaddr_in6 a = six(rows[i].ip, 5);
      assert_int_equal(addr_from_sockaddr(&e, AF_INET6, (struct sockaddr *)&a, sizeof(a)), 0);
    } else {
      struct sockaddr_in a = four(rows[i].ip, 5);
      assert_int_equal(addr_from_sockaddr(&e, AF_INET, (struct sockaddr *)&a, sizeof(a)), 0);
    }
    assert_int_equal(addr_is_loopback(&e), rows[i].loopback);
    assert_int_equal(addr_is_any(&e), rows[i].any);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_from_four), cmocka_unit_test(test_from_six),
                                     cmocka_unit_test(test_to), cmocka_unit_test(test_whose)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
