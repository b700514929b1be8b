/*
 * Messages for fuzz_ip made field by field from small sets, so that they meet: senders and targets out of a dozen
 * addresses (own, neighbours, routers, groups, nonsense), MACs out of six, quotations of what the stack has sent
 * itself. Any field may also be arbitrary, lengths may lie, extension headers and VLAN tags may come in between. Called
 * by fuzz_ip.c; one thread.
 */
#include "fuzz_ip_make.h"
#include "base/bits.h"
#include "fuzz.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/nd.h"

struct make {
  struct ip_rig *r;
  struct fuzz_input in;
};

static uint32_t take(struct make *m, unsigned n) {
  return fuzz_take(&m->in, n);
}

static struct ip_addr some4(struct make *m) {
  static const uint32_t set[] = {0x0a000001, 0x0a000002, 0x0a000003, 0x0a0000ff, 0xe00000fb, 0xe0000001,
                                 0xffffffff, 0x00000000, 0xc0000201, 0x0a050001, 0x0a050002, 0x7f000001};
  uint32_t b = take(m, 1);
  return ip_addr_from4(b >= 0xf0 ? take(m, 4) : set[b % (sizeof set / sizeof set[0])]);
}

static struct ip_addr some6(struct make *m) {
  static const char *const set[] = {"2001:db8::1", "2001:db8::2",         "fe80::2",         "fe80::ff:fe00:1",
                                    "ff02::1",     "ff02::1:ff00:1",      "ff02::16",        "::",
                                    "fe80::3",     "2001:db8::ff:fe00:1", "2001:db8:5::9",   "ff02::fb",
                                    "::1",         "fe80::ff:fe00:2",     "2001:db8:5::100", "ff02::2"};
  uint32_t b = take(m, 1);
  struct ip_addr a = rig_addr(set[b % (sizeof set / sizeof set[0])]);
  if (b >= 0xf0)
    a.b[15] ^= (uint8_t)take(m, 1);
  return a;
}

static struct mac_addr some_mac(struct make *m) {
  static const uint8_t set[][6] = {{2, 0, 0, 0, 0, 2},       {2, 0, 0, 0, 0, 3},
                                   {2, 0, 0, 0, 0, 1},       {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                   {0x33, 0x33, 0, 0, 0, 1}, {0}};
  return mac_addr_load(set[take(m, 1) % 6]);
}

/* Ethernet header; sometimes a VLAN tag. Returns its length. */
static uint32_t put_eth(struct make *m, uint8_t *out, unsigned type, const struct ip_addr *dst) {
  uint32_t how = take(m, 1), n = ETH_HLEN;
  struct mac_addr to = mac_addr_load(rig_mac), from = some_mac(m);
  if (how & 1)
    to = some_mac(m);
  else if (dst != NULL && ip_addr_is_multicast(dst))
    to = ip_addr_mcast_mac(dst);
  memcpy(out, to.b, 6);
  memcpy(out + 6, from.b, 6);
  if ((how & 0xc0) == 0xc0) {
    store_be16(out + 12, 0x8100);
    store_be16(out + 14, how & 2 ? 5 : (uint16_t)take(m, 2));
    n += 4;
  }
  store_be16(out + n - 2, (uint16_t)type);
  return n;
}

static uint32_t make_arp(struct make *m, uint8_t *out) {
  uint32_t n = put_eth(m, out, ETH_TYPE_ARP, NULL), how = take(m, 1);
  struct arp_pkt a = {.op = how & 1 ? ARP_REPLY : ARP_REQUEST};
  a.sha = how & 2 ? some_mac(m) : mac_addr_load(out + 6);
  a.tha = some_mac(m);
  a.spa = some4(m);
  a.tpa = some4(m);
  REQUIRE(arp_pkt_build(out + n, ARP_LEN, &a) > 0);
  if (how & 0x80)
    out[n + take(m, 1) % 8] ^= (uint8_t)take(m, 1);
  return n + ARP_LEN;
}

/* IP header of a message of `len` bytes, then the message; the length may lie, IPv6 may get a header in between. */
static uint32_t put_ip(struct make *m, uint8_t *out, uint8_t version, uint8_t proto, const uint8_t *msg, uint32_t len,
                       uint8_t ttl) {
  struct ip_hdr h = {.version = version, .proto = proto, .ttl = ttl};
  uint32_t how = take(m, 1), ext = 0;
  h.src = version == 4 ? some4(m) : some6(m);
  h.dst = version == 4 ? some4(m) : some6(m);
  if (how & 1) /* to us */
    h.dst = rig_addr(version == 4 ? "10.0.0.1" : how & 2 ? "fe80::ff:fe00:1" : "2001:db8::1");
  if (how & 4)
    h.ttl = (uint8_t)take(m, 1);
  if ((how & 0x30) == 0x30 && version == 6) { /* an options header: hop by hop with a router alert, or of the end */
    static const uint8_t alert[8] = {0, 0, 5, 2, 0, 0, 1, 0};
    h.proto = how & 8 ? IP_PROTO_DSTOPTS : IP_PROTO_HOPOPTS;
    ext = 8;
    uint8_t *e = out + ETH_HLEN + 4 + IP6_HLEN;
    memcpy(e, alert, 8);
    e[0] = proto;
    if (how & 0x40)
      e[2] = (uint8_t)take(m, 1);
  }
  h.total_len = ip_hdr_size(&h) + ext + len;
  if ((how & 0xc0) == 0xc0)
    h.total_len += take(m, 1) & 15;
  uint8_t hdr[64], x[8];
  memcpy(x, out + ETH_HLEN + 4 + IP6_HLEN, 8);
  int n = ip_hdr_build(hdr, sizeof hdr, &h);
  REQUIRE(n > 0);
  uint32_t at = put_eth(m, out, version == 4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6, &h.dst);
  memcpy(out + at, hdr, (uint32_t)n);
  at += (uint32_t)n;
  memcpy(out + at, x, ext);
  at += ext;
  memcpy(out + at, msg, len);
  return at + len;
}

/* Neighbour and router discovery. */
static uint32_t make_nd(struct make *m, uint8_t *out) {
  static const uint8_t types[] = {ICMP6_NS, ICMP6_NA, ICMP6_RA, ICMP6_RS};
  uint8_t msg[ND_LEN_MAX + ND_PREFIXES_MAX * 32 + 64];
  uint32_t how = take(m, 1);
  struct nd_msg d = {.type = types[how & 3], .flags = (uint8_t)(how & 0xe0), .present = (uint8_t)(take(m, 1) & 7)};
  d.target = some6(m);
  if (ip_addr_is_multicast(&d.target))
    d.target = rig_addr("2001:db8::2");
  d.slla = some_mac(m);
  d.tlla = some_mac(m);
  if (d.type == ICMP6_RA) {
    d.hop_limit = (uint8_t)take(m, 1);
    d.lifetime_s = (uint16_t)take(m, how & 4 ? 1 : 2);
    d.reachable_ms = take(m, 1) * 1000;
    d.retrans_ms = take(m, 1);
    d.mtu = take(m, 2);
    d.n_prefixes = (uint8_t)(take(m, 1) % 4);
    for (unsigned i = 0; i < d.n_prefixes; i++) {
      struct nd_prefix *p = &d.prefixes[i];
      uint32_t b = take(m, 1);
      p->prefix = rig_addr("2001:db8:5::");
      p->prefix.b[5] = (uint8_t)(b & 7);
      p->len = b & 8 ? (uint8_t)(take(m, 1) % 129) : 64;
      p->flags = (uint8_t)(b & 0xc0);
      p->valid_s = b & 16 ? UINT32_MAX : take(m, 2);
      p->preferred_s = b & 32 ? p->valid_s : take(m, 2);
    }
  }
  int n = nd_msg_build(msg, sizeof msg, &d);
  REQUIRE(n > 0);
  if (how & 8) { /* options that nobody knows, lengths that lie */
    msg[n] = (uint8_t)take(m, 1);
    msg[n + 1] = (uint8_t)(take(m, 1) % 4);
    memset(msg + n + 2, 0, 22);
    n += 8 * (1 + (int)(take(m, 1) % 3));
  }
  return put_ip(m, out, 6, IP_PROTO_ICMP6, msg, (uint32_t)n, 255);
}

static uint32_t make_redirect6(struct make *m, uint8_t *out) {
  uint8_t msg[48 + 8] = {ICMP6_REDIRECT};
  struct ip_addr target = some6(m), dest = some6(m);
  uint32_t how = take(m, 1);
  memcpy(msg + 8, target.b, 16);
  memcpy(msg + 24, how & 1 ? target.b : dest.b, 16);
  msg[40] = 2;
  msg[41] = 1;
  struct mac_addr mac = some_mac(m);
  memcpy(msg + 42, mac.b, 6);
  return put_ip(m, out, 6, IP_PROTO_ICMP6, msg, how & 2 ? 48 : 40, 255);
}

/* A quotation: the start of a datagram that we might have sent, or of one of the last that we did send. */
static uint32_t put_quote(struct make *m, uint8_t *to, uint8_t version) {
  uint32_t how = take(m, 1), want = 8 + (how & 0x3f), n;
  const struct ip_rig *r = m->r;
  if ((how & 0x40) && r->n_sent > 0) {
    const struct rig_frame *f = &r->sent[HS_MIN(r->n_sent, RIG_SENT) - 1];
    n = f->len > ETH_HLEN ? HS_MIN(f->len - ETH_HLEN, want + 20) : 0;
    memcpy(to, f->b + ETH_HLEN, n);
    return n;
  }
  struct ip_hdr h = {.version = version, .ttl = 64};
  static const uint8_t protos[] = {IP_PROTO_TCP, IP_PROTO_UDP, IP_PROTO_ICMP, IP_PROTO_ICMP6};
  h.proto = protos[take(m, 1) & 3];
  h.src = how & 0x80 ? version == 4 ? some4(m) : some6(m) : rig_addr(version == 4 ? "10.0.0.1" : "2001:db8::1");
  h.dst = version == 4 ? some4(m) : some6(m);
  h.total_len = ip_hdr_size(&h) + 500;
  n = (uint32_t)ip_hdr_build(to, 64, &h);
  for (uint32_t i = 0; i < want; i++)
    to[n + i] = (uint8_t)(i < 8 ? take(m, 1) : i);
  return n + want;
}

static uint32_t make_error(struct make *m, uint8_t *out, uint8_t version) {
  static const uint8_t types4[] = {ICMP4_UNREACH,       ICMP4_UNREACH,  ICMP4_TIME_EXCEEDED,
                                   ICMP4_PARAM_PROBLEM, ICMP4_REDIRECT, ICMP4_SOURCE_QUENCH};
  static const uint8_t types6[] = {ICMP6_UNREACH, ICMP6_TOO_BIG, ICMP6_TIME_EXCEEDED, ICMP6_PARAM_PROBLEM};
  uint8_t msg[256] = {0};
  uint32_t how = take(m, 1);
  struct icmp_hdr h = {.code = (uint8_t)(take(m, 1) % 16), .mtu = take(m, 2), .gateway = 0x0a000003, .ptr = how};
  h.type = version == 4 ? types4[how % 6] : types6[how % 4];
  int n = version == 4 ? icmp4_hdr_build(msg, sizeof msg, &h) : icmp6_hdr_build(msg, sizeof msg, &h);
  REQUIRE(n == 8);
  if (h.type == ICMP4_REDIRECT && version == 4)
    store_be32(msg + 4, how & 0x80 ? 0x0a000002 : h.gateway);
  return put_ip(m, out, version, version == 4 ? IP_PROTO_ICMP : IP_PROTO_ICMP6, msg, 8 + put_quote(m, msg + 8, version),
                64);
}

static uint32_t make_echo(struct make *m, uint8_t *out, uint8_t version) {
  uint8_t msg[600];
  uint32_t how = take(m, 1), len = 8 + take(m, 2) % 560;
  struct icmp_hdr h = {.id = 7, .seq = (uint16_t)how};
  h.type = version == 4 ? how & 1 ? ICMP4_ECHO_REPLY : ICMP4_ECHO : how & 1 ? ICMP6_ECHO_REPLY : ICMP6_ECHO;
  memset(msg, 0x5a, sizeof msg);
  REQUIRE((version == 4 ? icmp4_hdr_build(msg, sizeof msg, &h) : icmp6_hdr_build(msg, sizeof msg, &h)) == 8);
  return put_ip(m, out, version, version == 4 ? IP_PROTO_ICMP : IP_PROTO_ICMP6, msg, len, 64);
}

/* Group queries, MLD and IGMP, and reports of others. */
static uint32_t make_group(struct make *m, uint8_t *out, uint8_t version) {
  uint8_t msg[64] = {0};
  uint32_t how = take(m, 1), len;
  if (version == 4) {
    struct ip_addr g = some4(m);
    msg[0] = how & 1 ? 0x16 : 0x11;
    msg[1] = (uint8_t)take(m, 1);
    memcpy(msg + 4, g.b + 12, how & 2 ? 4 : 0);
    msg[8] = (uint8_t)take(m, 1);
    msg[9] = (uint8_t)take(m, 1);
    msg[11] = how & 4 ? 1 : 0;
    len = how & 8 ? 8 : 12 + (how & 4 ? 4 : 0);
    return put_ip(m, out, 4, IP_PROTO_IGMP, msg, len, 1);
  }
  struct ip_addr g = some6(m);
  msg[0] = how & 1 ? ICMP6_MLD_REPORT : ICMP6_MLD_QUERY;
  store_be16(msg + 4, (uint16_t)take(m, 2));
  memcpy(msg + 8, g.b, how & 2 ? 16 : 0);
  msg[24] = (uint8_t)take(m, 1);
  msg[25] = (uint8_t)take(m, 1);
  len = how & 8 ? 24 : 28;
  return put_ip(m, out, 6, IP_PROTO_ICMP6, msg, len, 1);
}

/* Segments and datagrams for transports: nobody there, or somebody. */
static uint32_t make_data(struct make *m, uint8_t *out, uint8_t version) {
  uint8_t msg[512];
  uint32_t how = take(m, 1), len = 8 + take(m, 1);
  for (uint32_t i = 0; i < len; i++)
    msg[i] = (uint8_t)i;
  store_be16(msg + 4, (uint16_t)len);
  static const uint8_t protos[] = {IP_PROTO_TCP, IP_PROTO_UDP, 132, IP_PROTO_ESP};
  return put_ip(m, out, version, protos[how & 3], msg, len, 64);
}

uint32_t fuzz_ip_make(struct ip_rig *r, unsigned kind, const uint8_t *choice, uint32_t n, uint8_t *out) {
  struct make m = {r, {choice, n}};
  uint8_t version = kind & 1 ? 6 : 4;
  memset(out, 0, FUZZ_IP_FRAME);
  switch (kind >> 1 & 7) {
  case 0:
    return version == 4 ? make_arp(&m, out) : make_nd(&m, out);
  case 1:
  case 2:
    return version == 4 && (kind & 16) ? make_arp(&m, out) : make_nd(&m, out);
  case 3:
    return version == 4 ? make_error(&m, out, 4) : make_redirect6(&m, out);
  case 4:
    return make_error(&m, out, version);
  case 5:
    return make_echo(&m, out, version);
  case 6:
    return make_group(&m, out, version);
  default:
    return make_data(&m, out, version);
  }
}
