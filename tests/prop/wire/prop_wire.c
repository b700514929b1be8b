/*
 * Properties of the packet formats: the checksum against a byte-by-byte twin, and build then parse is the identity for
 * random headers of every format.
 */
#include "base/rng.h"
#include "test.h"
#include "wire/arp.h"
#include "wire/cksum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/ip.h"
#include "wire/nd.h"
#include "wire/tcp.h"
#include "wire/udp.h"

#include <string.h>

static struct rng r;

/* RFC 1071 1, word by word; the result is the checksum in host order. */
static uint16_t twin_cksum(const uint8_t *p, size_t len) {
  uint32_t sum = 0;
  for (size_t i = 0; i < len; i++) {
    sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return (uint16_t)~sum;
}

static uint16_t host_fold(cksum_t s) {
  return __builtin_bswap16(cksum_fold(s));
}

static void cksum_equals_twin(void **state) {
  (void)state;
  static uint8_t buf[5000], copy[5000];
  for (int round = 0; round < 3000; round++) {
    size_t at = rng_below(&r, 64), len = rng_below(&r, round % 3 ? 200 : 4900);
    rng_fill(&r, buf + at, len);
    if (round % 7 == 0)
      memset(buf + at, round % 2 ? 0xff : 0, len);
    uint16_t want = twin_cksum(buf + at, len);
    assert_int_equal(host_fold(cksum_add(0, buf + at, len)), want);
    /* in pieces of any length, each added, copied or joined */
    cksum_t s = 0;
    for (size_t done = 0; done < len;) {
      size_t n = rng_range(&r, 1, len - done);
      cksum_t piece =
          rng_below(&r, 2) ? cksum_add(0, buf + at + done, n) : cksum_copy(copy + done, buf + at + done, n, 0);
      s = cksum_combine(s, piece, done & 1);
      done += n;
    }
    assert_int_equal(host_fold(s), want);
    cksum_t c = cksum_copy(copy, buf + at, len, 0);
    assert_memory_equal(copy, buf + at, len);
    assert_int_equal(host_fold(c), want);
  }
}

/* A changed field's update gives a checksum that verifies, like one computed anew. */
static void cksum_updates_verify(void **state) {
  (void)state;
  uint8_t p[64];
  for (int round = 0; round < 20000; round++) {
    rng_fill(&r, p, sizeof p);
    p[0] = 0x45; /* never all zero, as no real packet is */
    memset(p + 10, 0, 2);
    cksum_store(p + 10, cksum_fold(cksum_add(0, p, sizeof p)));
    size_t at = 12 + 2 * rng_below(&r, 24);
    uint32_t now = rng_below(&r, 4) == 0 ? 0 : rng_u32(&r);
    uint16_t field = cksum_load(p + 10);
    if (round % 2) {
      field = cksum_update16(field, load_be16(p + at), (uint16_t)now);
      store_be16(p + at, (uint16_t)now);
    } else {
      field = cksum_update32(field, load_be32(p + at), now);
      store_be32(p + at, now);
    }
    cksum_store(p + 10, field);
    assert_int_equal(cksum_fold(cksum_add(0, p, sizeof p)), 0);
  }
}

static void pseudo_equals_twin(void **state) {
  (void)state;
  for (int round = 0; round < 5000; round++) {
    uint8_t flat[40] = {0};
    struct ip_addr a, b;
    uint32_t len = rng_u32(&r) >> rng_below(&r, 32);
    uint8_t proto = (uint8_t)rng_u32(&r);
    size_t n = round % 2 ? 4 : 16;
    rng_fill(&r, flat, 2 * n);
    if (n == 4) {
      len &= 0xffff;
      a = ip_addr_load4(flat);
      b = ip_addr_load4(flat + 4);
      flat[9] = proto;
      store_be16(flat + 10, (uint16_t)len);
    } else {
      flat[0] = 0x20;
      a = ip_addr_load6(flat);
      b = ip_addr_load6(flat + 16);
      store_be32(flat + 32, len);
      flat[39] = proto;
    }
    assert_int_equal(host_fold(cksum_pseudo(&a, &b, proto, len)), twin_cksum(flat, n == 4 ? 12 : 40));
  }
}

static struct ip_addr random_addr(int v) {
  struct ip_addr a;
  rng_fill(&r, a.b, 16);
  a.b[0] = 0x20;
  return v == 4 ? ip_addr_from4(rng_u32(&r)) : a;
}

static void eth_arp_udp_round_trip(void **state) {
  (void)state;
  for (int round = 0; round < 5000; round++) {
    uint8_t p[32];
    struct eth_hdr e = {.n_tags = (uint8_t)rng_below(&r, 3)}, f;
    rng_fill(&r, e.dst.b, 6);
    rng_fill(&r, e.src.b, 6);
    do
      e.type = (uint16_t)rng_range(&r, 0x600, 0xffff);
    while (e.type == ETH_TYPE_VLAN || e.type == ETH_TYPE_QINQ);
    for (unsigned i = 0; i < e.n_tags; i++)
      e.tci[i] = (uint16_t)rng_u32(&r);
    e.hdr_len = (uint8_t)(14 + 4 * e.n_tags);
    assert_int_equal(eth_hdr_build(p, sizeof p, &e), e.hdr_len);
    assert_int_equal(eth_hdr_parse(p, sizeof p, &f), e.hdr_len);
    assert_memory_equal(&e, &f, sizeof e);

    struct arp_pkt a = {.op = (uint16_t)rng_range(&r, 1, 2), .spa = random_addr(4), .tpa = random_addr(4)}, b;
    rng_fill(&r, a.sha.b, 6);
    rng_fill(&r, a.tha.b, 6);
    a.sha.b[0] = 2;
    assert_int_equal(arp_pkt_build(p, sizeof p, &a), ARP_LEN);
    assert_int_equal(arp_pkt_parse(p, ARP_LEN, &b), ARP_LEN);
    assert_memory_equal(&a, &b, sizeof a);

    struct udp_hdr u = {.sport = (uint16_t)rng_u32(&r), .dport = (uint16_t)rng_u32(&r)}, v;
    u.len = (uint16_t)rng_range(&r, 8, sizeof p);
    assert_int_equal(udp_hdr_build(p, sizeof p, &u), UDP_HLEN);
    assert_int_equal(udp_hdr_parse(p, sizeof p, &v), UDP_HLEN);
    assert_memory_equal(&u, &v, sizeof u);
  }
}

static void ip_round_trip(void **state) {
  (void)state;
  for (int round = 0; round < 10000; round++) {
    uint8_t p[64] = {0};
    struct ip_hdr h = {.version = round % 2 ? 4 : 6, .tos = (uint8_t)rng_u32(&r), .ttl = (uint8_t)rng_u32(&r)}, g;
    h.proto = round % 3 ? IP_PROTO_TCP : IP_PROTO_UDP;
    h.src = random_addr(h.version);
    h.dst = random_addr(h.version);
    if (h.version == 6)
      h.flow_label = rng_u32(&r) >> 12;
    else
      h.flags = (uint16_t)rng_below(&r, 2); /* DF */
    if (rng_below(&r, 3) == 0) {
      int more = rng_below(&r, 2) != 0;
      h.flags |= (uint16_t)(IP_FLAG_FRAG | (more ? IP_FLAG_MF : 0));
      h.frag_off = (uint16_t)(8 * rng_range(&r, 1, 1000));
    }
    h.frag_id = h.version == 4 ? rng_u32(&r) >> 16 : h.flags & IP_FLAG_FRAG ? rng_u32(&r) : 0;
    unsigned size = ip_hdr_size(&h);
    h.total_len = size + 8 * (uint32_t)rng_range(&r, 1, 1000);
    assert_int_equal(ip_hdr_build(p, size, &h), size);
    assert_int_equal(ip_hdr_parse_quoted(p, size, &g), size);
    h.hdr_len = (uint16_t)size;
    if (h.version == 6) {
      h.nh_at = 6;
      if (h.flags & IP_FLAG_FRAG) {
        h.frag_at = 40;
        h.flags |= IP_FLAG_OPTS;
      }
    } else {
      assert_int_equal(twin_cksum(p, 20), 0);
    }
    assert_memory_equal(&h, &g, sizeof h);
  }
}

static void tcp_round_trip(void **state) {
  (void)state;
  for (int round = 0; round < 20000; round++) {
    uint8_t p[64];
    struct tcp_hdr h, g;
    memset(&h, 0, sizeof h);
    memset(&g, 0, sizeof g);
    h.sport = (uint16_t)rng_u32(&r);
    h.dport = (uint16_t)rng_u32(&r);
    h.seq = rng_u32(&r);
    h.ack = rng_u32(&r);
    h.flags = (uint16_t)rng_below(&r, 512);
    h.wnd = (uint16_t)rng_u32(&r);
    h.urg = (uint16_t)rng_u32(&r);
    struct tcp_opts *o = &h.opts;
    o->present = (uint32_t)rng_below(&r, 64);
    if (o->present & TCP_OPT_HAS_MSS)
      o->mss = (uint16_t)rng_u32(&r);
    if (o->present & TCP_OPT_HAS_WSCALE)
      o->wscale = (uint8_t)rng_below(&r, 15);
    if (o->present & TCP_OPT_HAS_TS) {
      o->ts_val = rng_u32(&r);
      o->ts_ecr = rng_u32(&r);
    }
    if (o->present & TCP_OPT_HAS_TFO) {
      o->tfo_len = (uint8_t)(rng_below(&r, 2) ? 0 : 4 + 2 * rng_below(&r, 7));
      rng_fill(&r, o->tfo, o->tfo_len);
    }
    if (o->present & TCP_OPT_HAS_SACK) {
      o->n_sack = (uint8_t)rng_range(&r, 1, 4);
      for (unsigned i = 0; i < o->n_sack; i++)
        o->sack[i] = (struct tcp_sack){rng_u32(&r), rng_u32(&r)};
    }
    int n = tcp_hdr_build(p, sizeof p, &h);
    assert_in_range(n, 20, 60);
    assert_int_equal(tcp_hdr_size(o), n);
    assert_int_equal(tcp_hdr_parse(p, (size_t)n, &g), n);
    assert_int_equal(g.hdr_len, n);
    h.hdr_len = (uint8_t)n;
    if (o->present & TCP_OPT_HAS_SACK) { /* what did not fit is missing, and only because it did not fit */
      assert_true(g.opts.n_sack <= o->n_sack);
      assert_true(g.opts.n_sack == o->n_sack || 60 - n < (g.opts.n_sack ? 8 : 12));
      memset(&o->sack[g.opts.n_sack], 0, (size_t)(4 - g.opts.n_sack) * sizeof o->sack[0]);
      if (g.opts.n_sack == 0)
        o->present &= ~(uint32_t)TCP_OPT_HAS_SACK;
      o->n_sack = g.opts.n_sack;
    }
    assert_memory_equal(&h, &g, sizeof h);
  }
}

static void nd_round_trip(void **state) {
  (void)state;
  static const uint8_t types[] = {ICMP6_RS, ICMP6_RA, ICMP6_NS, ICMP6_NA};
  for (int round = 0; round < 5000; round++) {
    uint8_t p[400];
    struct nd_msg m, g;
    memset(&m, 0, sizeof m);
    m.type = types[round % 4];
    m.present = (uint8_t)rng_below(&r, 8);
    if (m.present & ND_HAS_SLLA)
      rng_fill(&r, m.slla.b, 6);
    if (m.present & ND_HAS_TLLA)
      rng_fill(&r, m.tlla.b, 6);
    if (m.present & ND_HAS_MTU)
      m.mtu = rng_u32(&r);
    if (m.type == ICMP6_NS || m.type == ICMP6_NA)
      m.target = random_addr(6);
    if (m.type == ICMP6_NA || m.type == ICMP6_RA)
      m.flags = (uint8_t)rng_u32(&r);
    if (m.type == ICMP6_RA) {
      m.hop_limit = (uint8_t)rng_u32(&r);
      m.lifetime_s = (uint16_t)rng_u32(&r);
      m.reachable_ms = rng_u32(&r);
      m.retrans_ms = rng_u32(&r);
      m.n_prefixes = (uint8_t)rng_below(&r, ND_PREFIXES_MAX + 1);
      for (unsigned i = 0; i < m.n_prefixes; i++) {
        struct nd_prefix *x = &m.prefixes[i];
        x->prefix = random_addr(6);
        x->valid_s = rng_u32(&r);
        x->preferred_s = rng_u32(&r);
        x->len = (uint8_t)rng_below(&r, 129);
        x->flags = (uint8_t)rng_u32(&r);
      }
    }
    int n = nd_msg_build(p, sizeof p, &m);
    assert_true(n > 0);
    assert_int_equal(nd_msg_build(p, (size_t)n - 1, &m), WIRE_ROOM);
    assert_int_equal(nd_msg_parse(p, (size_t)n, &g), n);
    assert_memory_equal(&m, &g, sizeof m);
  }
}

static int seed(void **state) {
  (void)state;
  rng_init(&r, 20240607);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cksum_equals_twin),  cmocka_unit_test(cksum_updates_verify),
      cmocka_unit_test(pseudo_equals_twin), cmocka_unit_test(eth_arp_udp_round_trip),
      cmocka_unit_test(ip_round_trip),      cmocka_unit_test(tcp_round_trip),
      cmocka_unit_test(nd_round_trip),
  };
  return cmocka_run_group_tests(tests, seed, NULL);
}
