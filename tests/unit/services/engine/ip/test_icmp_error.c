/*
 * ICMP errors: what each that comes is told to be, which are not believed, and those that we send.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

/* An error from a router about a datagram of ours; keep: bytes of the quotation. */
static uint32_t error_about(uint8_t *f, unsigned type, unsigned code, uint32_t word, const char *src, const char *dst,
                            uint8_t proto, uint32_t keep) {
  uint8_t inner[128], msg[256] = {0}, l4[40] = {0};
  store_be16(l4, 1000);
  store_be16(l4 + 2, 2000);
  store_be32(l4 + 4, 0xabcd1234);
  (void)rig_build(inner, src, dst, proto, l4, sizeof l4);
  struct ip_addr a = rig_addr(src), peer = rig_addr(ip_addr_is4(&a) ? "10.0.0.9" : "2001:db8::9");
  int four = ip_addr_is4(&a);
  msg[0] = (uint8_t)type;
  msg[1] = (uint8_t)code;
  store_be32(msg + 4, word);
  memcpy(msg + 8, inner + 14, keep);
  struct ip_addr us = rig_addr(four ? "10.0.0.1" : "2001:db8::1");
  if (four)
    icmp4_cksum_set(msg, 8 + keep);
  else
    icmp6_cksum_set(msg, 8 + keep, &peer, &us);
  return rig_build(f, four ? "10.0.0.9" : "2001:db8::9", four ? "10.0.0.1" : "2001:db8::1",
                   four ? IP_PROTO_ICMP : IP_PROTO_ICMP6, msg, 8 + keep);
}

struct row {
  unsigned type, code;
  uint32_t word;
  int kind, err;
  uint32_t mtu;
};

static void expect(struct ip_rig *r, const struct row *row, const char *src, const char *dst, uint32_t keep) {
  uint8_t f[512];
  rig_clear(r);
  rig_in(r, f, error_about(f, row->type, row->code, row->word, src, dst, IP_PROTO_TCP, keep));
  if (row->kind < 0) {
    assert_int_equal(r->n_error, 0);
    return;
  }
  struct ip_addr local = rig_addr(src), remote = rig_addr(dst);
  assert_int_equal(r->n_error, 1);
  assert_int_equal(r->error[0].kind, row->kind);
  assert_int_equal(r->error[0].err, row->err);
  assert_int_equal(r->error[0].mtu, row->mtu);
  assert_int_equal(r->error[0].proto, IP_PROTO_TCP);
  assert_int_equal(r->error[0].lport, 1000);
  assert_int_equal(r->error[0].rport, 2000);
  assert_int_equal(r->error[0].seq, 0xabcd1234);
  assert_true(ip_addr_eq(&r->error[0].local, &local));
  assert_true(ip_addr_eq(&r->error[0].remote, &remote));
}

static void mapping_v4(void **state) {
  static const struct row rows[] = {
      {3, 0, 0, 0, ENETUNREACH, 0},
      {3, 1, 0, 0, EHOSTUNREACH, 0},
      {3, 2, 0, 1, ENOPROTOOPT, 0},
      {3, 3, 0, 1, ECONNREFUSED, 0},
      {3, 4, 1400, 2, EMSGSIZE, 1400},
      {3, 4, 0, 2, EMSGSIZE, 68}, /* the quoted packet was 60 bytes: the lowest plateau */
      {3, 4, 67, -1, 0, 0},
      {3, 5, 0, 0, EOPNOTSUPP, 0},
      {3, 9, 0, 0, ENETUNREACH, 0},
      {3, 13, 0, 0, EHOSTUNREACH, 0},
      {3, 16, 0, -1, 0, 0},
      {4, 0, 0, -1, 0, 0}, /* source quench */
      {5, 0, 0, -1, 0, 0}, /* redirect */
      {11, 0, 0, 0, EHOSTUNREACH, 0},
      {12, 0, 0, 0, EPROTO, 0},
  };
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    expect(*state, &rows[i], "10.0.0.1", "192.0.2.7", 28); /* the 8 bytes of RFC 792 */
    expect(*state, &rows[i], "10.0.0.1", "192.0.2.7", 60);
  }
}

static void mapping_v6(void **state) {
  static const struct row rows[] = {
      {1, 0, 0, 0, ENETUNREACH, 0},    {1, 1, 0, 0, EACCES, 0},
      {1, 3, 0, 0, EHOSTUNREACH, 0},   {1, 4, 0, 1, ECONNREFUSED, 0},
      {1, 7, 0, 0, EPROTO, 0}, /* unknown ones, and those to come */
      {2, 0, 1400, 2, EMSGSIZE, 1400}, {2, 0, 1280, 2, EMSGSIZE, 1280},
      {2, 0, 1279, -1, 0, 0}, /* RFC 8201 4 */
      {3, 0, 0, 0, EHOSTUNREACH, 0},   {4, 0, 40, 0, EPROTO, 0},
      {4, 1, 6, 1, EPROTO, 0},         {5, 0, 0, -1, 0, 0},
      {137, 0, 0, -1, 0, 0},
  };
  for (size_t i = 0; i < ARRAY_LEN(rows); i++)
    expect(*state, &rows[i], "2001:db8::1", "2001:db8:7::7", 48);
}

/* Of datagrams, more of them are the sender's to know: nothing is sent again, so nothing else will tell. */
static void mapping_datagrams(void **state) {
  struct ip_rig *r = *state;
  static const struct {
    unsigned type, code;
    int kind;
  } four[] = {{3, 0, 0},  {3, 1, 0},  {3, 2, 1},  {3, 3, 1},  {3, 5, 0},  {3, 6, 1},  {3, 7, 1},  {3, 8, 1}, {3, 9, 1},
              {3, 10, 1}, {3, 11, 0}, {3, 12, 0}, {3, 13, 1}, {3, 14, 1}, {3, 15, 1}, {11, 0, 0}, {12, 0, 1}},
    six[] = {{1, 0, 0}, {1, 1, 1}, {1, 2, 0}, {1, 3, 0}, {1, 4, 1}, {1, 5, 1},
             {1, 6, 1}, {1, 7, 1}, {3, 0, 0}, {4, 0, 1}, {4, 1, 1}};
  uint8_t f[512];
  for (size_t i = 0; i < ARRAY_LEN(four); i++) {
    rig_clear(r);
    rig_in(r, f, error_about(f, four[i].type, four[i].code, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_UDP, 28));
    assert_int_equal(r->n_error, 1);
    assert_int_equal(r->error[0].proto, IP_PROTO_UDP);
    assert_int_equal(r->error[0].kind, four[i].kind);
  }
  for (size_t i = 0; i < ARRAY_LEN(six); i++) {
    rig_clear(r);
    rig_in(r, f, error_about(f, six[i].type, six[i].code, 0, "2001:db8::1", "2001:db8:7::7", IP_PROTO_UDP, 48));
    assert_int_equal(r->n_error, 1);
    assert_int_equal(r->error[0].kind, six[i].kind);
  }
}

static void plateaus(void **state) {
  struct ip_rig *r = *state;
  static const struct {
    uint16_t sent;
    uint32_t mtu;
  } rows[] = {{65535, 32000}, {1500, 1492}, {1492, 1006}, {576, 508}, {69, 68}, {20, 68}};
  uint8_t f[512];
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    uint32_t n = error_about(f, 3, 4, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_TCP, 28);
    store_be16(f + 44, rows[i].sent);
    memset(f + 36, 0, 2);
    icmp4_cksum_set(f + 34, n - 34);
    rig_clear(r);
    rig_in(r, f, n);
    if (rows[i].sent < 28) { /* contradicts itself or is too short to tell */
      assert_true(r->n_error <= 1);
      continue;
    }
    assert_int_equal(r->n_error, 1);
    assert_int_equal(r->error[0].mtu, rows[i].mtu);
  }
}

static void not_believed(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[512];
  rig_in(r, f, error_about(f, 3, 3, 0, "10.0.0.3", "192.0.2.7", IP_PROTO_TCP, 28)); /* not from us */
  rig_in(r, f, error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_TCP, 27)); /* cut too short */
  rig_in(r, f, error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_ICMP, 28));
  rig_in(r, f, error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_TCP, 0));
  uint32_t n = error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_TCP, 28);
  store_be16(f + 48, 0x0001); /* about a later fragment */
  icmp4_cksum_set(f + 34, n - 34);
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_ICMP_ERROR_BAD], 5);
  rig_in(r, f, error_about(f, 1, 4, 0, "2001:db8::3", "2001:db8:7::7", IP_PROTO_TCP, 48));
  assert_int_equal(r->c[IPC_ICMP_ERROR_BAD], 6);
  n = error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_TCP, 28);
  f[36] ^= 0x40;
  rig_in(r, f, n);
  assert_int_equal(r->c[IPC_ICMP_BAD], 1);
  assert_int_equal(r->n_error, 0);
  rig_in(r, f, error_about(f, 3, 3, 0, "10.0.0.1", "192.0.2.7", IP_PROTO_UDP, 28));
  assert_int_equal(r->error[0].proto, IP_PROTO_UDP);
  assert_int_equal(r->error[0].seq, 0);
}

static void port_unreachable(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[1600], l4[1400];
  memset(l4, 0x77, sizeof l4);
  rig_resolve(r, "10.0.0.2", rig_peer);
  rig_resolve(r, "2001:db8::2", rig_peer);
  r->up_result = -ENOENT;
  uint32_t n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_UDP, l4, 30);
  rig_in(r, f, n);
  assert_int_equal(r->n_sent, 1);
  const uint8_t *icmp = r->sent[0].b + 34;
  assert_int_equal(icmp[0], 3);
  assert_int_equal(icmp[1], 3);
  assert_int_equal(r->sent[0].len, 34 + 8 + 50);
  assert_memory_equal(icmp + 8, f + 14, 50); /* the datagram as it came */
  assert_true(icmp4_cksum_ok(icmp, 58));
  rig_in(r, f, rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_UDP, l4, 1400));
  assert_int_equal(r->sent[1].len, 14 + 576); /* no longer than this */
  n = rig_build(f, "2001:db8::2", "2001:db8::1", IP_PROTO_UDP, l4, 1400);
  rig_in(r, f, n);
  assert_int_equal(r->sent[2].len, 14 + 1280);
  icmp = r->sent[2].b + 54;
  assert_int_equal(icmp[0], 1);
  assert_int_equal(icmp[1], 4);
  assert_memory_equal(icmp + 8, f + 14, 1280 - 48);
  struct ip_addr us = rig_addr("2001:db8::1"), peer = rig_addr("2001:db8::2");
  assert_true(icmp6_cksum_ok(icmp, 1280 - 40, &us, &peer));
  /* silence: TCP, groups, broadcast */
  rig_in(r, f, rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, l4, 30));
  rig_in(r, f, rig_build(f, "10.0.0.2", "224.0.0.1", IP_PROTO_UDP, l4, 30));
  rig_in(r, f, rig_build(f, "10.0.0.2", "255.255.255.255", IP_PROTO_UDP, l4, 30));
  rig_in(r, f, rig_build(f, "2001:db8::2", "ff02::1", IP_PROTO_UDP, l4, 30));
  assert_int_equal(r->n_sent, 3);
  assert_int_equal(r->c[IPC_RX_NOBODY], 7);
}

static void rate_limit(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[40] = {0};
  rig_resolve(r, "10.0.0.2", rig_peer);
  r->up_result = -ENOENT;
  uint32_t n = rig_build(f, "10.0.0.2", "10.0.0.1", IP_PROTO_UDP, l4, 30);
  for (unsigned i = 0; i < 500; i++)
    rig_in(r, f, n);
  assert_int_equal(r->n_sent, 50);
  assert_int_equal(r->c[IPC_ICMP_TX_LIMITED], 450);
  r->now += 10000;
  for (unsigned i = 0; i < 500; i++)
    rig_in(r, f, n);
  assert_int_equal(r->n_sent, 60);
  for (unsigned i = 0; i < 3000; i++) { /* many small steps are not lost in rounding */
    r->now += 333;
    rig_in(r, f, n);
  }
  assert_in_range(r->n_sent, 60 + 700, 60 + 1010);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      RIG_TEST(mapping_v4),   RIG_TEST(mapping_v6),       RIG_TEST(mapping_datagrams), RIG_TEST(plateaus),
      RIG_TEST(not_believed), RIG_TEST(port_unreachable), RIG_TEST(rate_limit),
  };
  return cmocka_run_group_tests_name("icmp_error", tests, NULL, NULL);
}
