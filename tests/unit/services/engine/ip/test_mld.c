/*
 * Multicast listener reports: at the start of an address, and for queries.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#include <stdio.h>

#define S 1000000ull

/* The n-th report sent: its record type in *type; groups must be listened to. Returns the number of records. */
static uint32_t report(struct ip_rig *r, uint32_t n, uint8_t *type, struct ip_addr *src) {
  static const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 0x16};
  struct ip_addr all = rig_addr("ff02::16");
  struct ip_hdr h;
  for (uint32_t i = 0; i < r->n_sent; i++) {
    const struct rig_frame *f = &r->sent[i];
    if (f->b[20] != IP_PROTO_HOPOPTS || n-- != 0)
      continue;
    int at = ip_hdr_parse(f->b + 14, f->len - 14, &h);
    assert_int_equal(at, 48);
    assert_memory_equal(f->b, mac, 6);
    assert_true(h.flags & IP_FLAG_ROUTER_ALERT);
    assert_int_equal(h.opt_error, IP_OPT_OK);
    assert_int_equal(h.ttl, 1);
    assert_true(ip_addr_eq(&h.dst, &all));
    const uint8_t *m = f->b + 14 + at;
    assert_int_equal(m[0], ICMP6_MLD2_REPORT);
    assert_true(icmp6_cksum_ok(m, h.total_len - 48, &h.src, &h.dst));
    uint32_t records = load_be16(m + 6);
    assert_int_equal(h.total_len, 48 + 8 + records * 20);
    for (uint32_t k = 0; k < records; k++) {
      struct ip_addr g = ip_addr_load6(m + 8 + k * 20 + 4);
      *type = m[8 + k * 20];
      assert_int_equal(load_be32(m + 8 + k * 20) & 0xffffff, 0);
      assert_true(addr_is_group(r->s, f->port, &g));
    }
    *src = h.src;
    return records;
  }
  return 0;
}

static uint32_t query(uint8_t *f, const char *src, uint8_t ttl, uint16_t code, int alert) {
  uint8_t m[8 + 28] = {IP_PROTO_ICMP6, 0, 5, 2, 0, 0, 1, 0, ICMP6_MLD_QUERY};
  struct ip_hdr h = {
      .version = 6, .ttl = ttl, .proto = IP_PROTO_HOPOPTS, .src = rig_addr(src), .dst = rig_addr("ff02::1")};
  struct mac_addr mac = ip_addr_mcast_mac(&h.dst);
  store_be16(m + 12, code);
  if (!alert)
    m[2] = 1; /* PadN */
  icmp6_cksum_set(m + 8, 28, &h.src, &h.dst);
  return rig_build_hdr(f, &h, mac.b, m, sizeof m);
}

static void joins(void **state) {
  struct ip_rig *r = *state;
  struct ip_addr a = rig_addr("2001:db8::abc"), src, ll = rig_addr("fe80::ff:fe00:1");
  uint8_t type = 0;
  assert_int_equal(ip_addr_add(r->s, 0, &a, 64), 0);
  rig_advance(r, 1000);
  assert_int_equal(report(r, 0, &type, &src), 1);
  assert_int_equal(type, 4);
  assert_int_equal(r->sent[0].b[20], IP_PROTO_HOPOPTS); /* before the probe (RFC 4861 7.2.1) */
  assert_int_equal(r->sent[1].b[54], ICMP6_NS);
  assert_true(ip_addr_eq(&src, &ll));
  rig_advance(r, 5 * S);
  assert_int_equal(report(r, 1, &type, &src), 1); /* twice, for the first may be lost */
  assert_int_equal(report(r, 2, &type, &src), 0);
  rig_clear(r);
  ip_announce(r->s, 0, r->now); /* anew: no address of ours is certain */
  struct ip_addr any = rig_addr("::");
  assert_int_equal(report(r, 2, &type, &src), 1);
  assert_true(ip_addr_eq(&src, &any)); /* RFC 3590 4 */
}

static void answers_queries(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], type = 0;
  struct ip_addr src;
  rig_in(r, f, query(f, "fe80::9", 1, 2000, 1));
  rig_in(r, f, query(f, "fe80::9", 1, 2000, 1));
  rig_advance(r, 2100000);
  assert_int_equal(r->n_sent, 1);                 /* one answer for both */
  assert_int_equal(report(r, 0, &type, &src), 1); /* the address and the link-local one share a group */
  assert_int_equal(type, 2);
  for (uint32_t i = 0; i < 100; i++) { /* more groups than one packet takes */
    char text[64];
    snprintf(text, sizeof text, "2001:db8::%x", 0x100 + i);
    struct ip_addr a = rig_addr(text);
    assert_int_equal(ip_addr_add(r->s, 0, &a, 64), 0);
  }
  rig_advance(r, 10 * S);
  rig_clear(r);
  rig_in(r, f, query(f, "fe80::9", 1, 0, 1)); /* at once */
  rig_advance(r, 10000);
  assert_int_equal(report(r, 0, &type, &src), 60);
  assert_int_equal(report(r, 1, &type, &src), 41);
}

static void refuses_queries(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  rig_in(r, f, query(f, "2001:db8::9", 1, 0, 1));
  rig_in(r, f, query(f, "fe80::9", 2, 0, 1));
  rig_in(r, f, query(f, "fe80::9", 1, 0, 0));
  assert_int_equal(r->c[IPC_ICMP_BAD], 3);
  rig_advance(r, S);
  assert_int_equal(r->n_sent, 0);
}

/* Two apps in a group: it is heard until the second one leaves, and told to routers once each way. */
static void groups_are_shared(void **state) {
  struct ip_rig *r = *state;
  static const char *const groups[] = {"239.1.2.3", "ff05::1:3"};
  for (unsigned i = 0; i < ARRAY_LEN(groups); i++) {
    struct ip_addr g = rig_addr(groups[i]);
    rig_clear(r);
    assert_int_equal(ip_group_is(r->s, 0, &g), 0);
    assert_int_equal(ip_group_join(r->s, &g, 1, NULL), 0);
    assert_int_equal(ip_group_join(r->s, &g, 1, NULL), 0);
    assert_int_equal(r->n_sent, 1);
    ip_group_leave(r->s, &g, 0);
    assert_int_equal(ip_group_is(r->s, 0, &g), 1);
    assert_int_equal(r->n_sent, 1);
    ip_group_leave(r->s, &g, 0);
    assert_int_equal(ip_group_is(r->s, 0, &g), 0);
    assert_int_equal(r->n_sent, 2);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(joins),
      RIG_TEST(answers_queries),
      RIG_TEST(refuses_queries),
      RIG_TEST(groups_are_shared),
  };
  return cmocka_run_group_tests_name("ip_mld", tests, NULL, NULL);
}
