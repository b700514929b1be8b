/*
 * IPv4 header (RFC 791, 1122 3.2.1, 6864), and what is common to both families. Called per packet; hot path.
 */
#include "wire/cksum.h"
#include "wire/ip.h"

#define IP4_DF      0x4000u
#define IP4_MF      0x2000u
#define IP4_OFFMASK 0x1fffu

#define IP4_OPT_END          0
#define IP4_OPT_NOP          1
#define IP4_OPT_LSRR         131
#define IP4_OPT_SSRR         137
#define IP4_OPT_ROUTER_ALERT 148

/* Walks options up to hdr_len; only what changes a packet's treatment is noted. Returns flags or WIRE_LENGTH. */
static int ip4_opts_walk(const uint8_t *p, unsigned hdr_len) {
  int flags = IP_FLAG_OPTS;
  for (unsigned at = IP4_HLEN; at < hdr_len && p[at] != IP4_OPT_END;) {
    if (p[at] == IP4_OPT_NOP) {
      at++;
      continue;
    }
    if (at + 2 > hdr_len || p[at + 1] < 2 || at + p[at + 1] > hdr_len)
      return WIRE_LENGTH;
    if (p[at] == IP4_OPT_LSRR || p[at] == IP4_OPT_SSRR)
      flags |= IP_FLAG_SRCROUTE;
    if (p[at] == IP4_OPT_ROUTER_ALERT)
      flags |= IP_FLAG_ROUTER_ALERT;
    at += p[at + 1];
  }
  return flags;
}

static int ip4_hdr_take(const uint8_t *p, size_t len, int cut, struct ip_hdr *out) {
  if (len < IP4_HLEN)
    return WIRE_SHORT;
  if (p[0] >> 4 != 4)
    return WIRE_VERSION;
  unsigned hdr_len = (p[0] & 15u) * 4u;
  unsigned total_len = load_be16(p + 2);
  if (hdr_len < IP4_HLEN || total_len < hdr_len)
    return WIRE_LENGTH;
  if ((cut ? hdr_len : total_len) > len)
    return WIRE_SHORT;
  memset(out, 0, sizeof *out);
  out->version = 4;
  out->tos = p[1];
  out->total_len = total_len;
  out->frag_id = load_be16(p + 4);
  out->ttl = p[8];
  out->proto = p[9];
  out->hdr_len = (uint16_t)hdr_len;
  out->src = ip_addr_load4(p + 12);
  out->dst = ip_addr_load4(p + 16);
  unsigned frag = load_be16(p + 6);
  unsigned flags = frag & IP4_DF ? IP_FLAG_DF : 0;
  if (frag & (IP4_MF | IP4_OFFMASK)) {
    out->frag_off = (uint16_t)((frag & IP4_OFFMASK) * 8u);
    flags |= IP_FLAG_FRAG | (frag & IP4_MF ? IP_FLAG_MF : 0);
    unsigned payload = total_len - hdr_len;
    if (payload == 0 || (frag & IP4_MF && payload % 8 != 0) || out->frag_off + total_len > 65535)
      return WIRE_LENGTH; /* RFC 791 3.2: whole units of 8, and the whole must be a possible datagram */
  }
  if (hdr_len > IP4_HLEN) {
    int opts = ip4_opts_walk(p, hdr_len);
    if (opts < 0)
      return opts;
    flags |= (unsigned)opts;
  }
  out->flags = (uint16_t)flags;
  return (int)hdr_len;
}

int ip4_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out) {
  return ip4_hdr_take(p, len, 0, out);
}

int ip_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out) {
  if (len < 1)
    return WIRE_SHORT;
  return p[0] >> 4 == 6 ? ip6_hdr_parse(p, len, out) : ip4_hdr_take(p, len, 0, out);
}

int ip_hdr_parse_quoted(const uint8_t *p, size_t len, struct ip_hdr *out) {
  if (len < 1)
    return WIRE_SHORT;
  return p[0] >> 4 == 6 ? ip6_hdr_take(p, len, 1, out) : ip4_hdr_take(p, len, 1, out);
}

/* Partial sum of a header; nearly all have no options, and cksum_add's loops would be most of what they cost. */
static cksum_t ip4_hdr_sum(const uint8_t *p, size_t hdr_len) {
  uint32_t w[IP4_HLEN / 4];
  if (hdr_len != sizeof w)
    return cksum_add(0, p, hdr_len);
  memcpy(w, p, sizeof w);
  return (cksum_t)w[0] + w[1] + w[2] + w[3] + w[4];
}

int ip4_hdr_cksum_ok(const uint8_t *p, size_t hdr_len) {
  return cksum_fold(ip4_hdr_sum(p, hdr_len)) == 0;
}

static int ip4_hdr_build(uint8_t *p, size_t room, const struct ip_hdr *in) {
  if (room < IP4_HLEN)
    return WIRE_ROOM;
  if (in->total_len < IP4_HLEN || in->total_len > 65535 || in->frag_off % 8 != 0 || !ip_addr_is4(&in->src) ||
      !ip_addr_is4(&in->dst))
    return WIRE_VALUE;
  unsigned frag = in->frag_off / 8u | (in->flags & IP_FLAG_DF ? IP4_DF : 0) | (in->flags & IP_FLAG_MF ? IP4_MF : 0);
  p[0] = 0x45;
  p[1] = in->tos;
  store_be16(p + 2, (uint16_t)in->total_len);
  store_be16(p + 4, (uint16_t)in->frag_id);
  store_be16(p + 6, (uint16_t)frag);
  p[8] = in->ttl;
  p[9] = in->proto;
  memset(p + 10, 0, 2);
  memcpy(p + 12, in->src.b + 12, 4);
  memcpy(p + 16, in->dst.b + 12, 4);
  cksum_store(p + 10, cksum_fold(ip4_hdr_sum(p, IP4_HLEN)));
  return IP4_HLEN;
}

static int ip6_hdr_build(uint8_t *p, size_t room, const struct ip_hdr *in) {
  unsigned size = ip_hdr_size(in);
  if (room < size)
    return WIRE_ROOM;
  if (in->total_len < size || in->total_len > 65535 + IP6_HLEN || in->frag_off % 8 != 0 || in->flow_label >> 20 != 0 ||
      ip_addr_is4(&in->src) || ip_addr_is4(&in->dst))
    return WIRE_VALUE;
  store_be32(p, 6u << 28 | (uint32_t)in->tos << 20 | in->flow_label);
  store_be16(p + 4, (uint16_t)(in->total_len - IP6_HLEN));
  p[6] = size > IP6_HLEN ? IP_PROTO_FRAGMENT : in->proto;
  p[7] = in->ttl;
  memcpy(p + 8, in->src.b, 16);
  memcpy(p + 24, in->dst.b, 16);
  if (size > IP6_HLEN) { /* RFC 8200 4.5 */
    p[40] = in->proto;
    p[41] = 0;
    store_be16(p + 42, (uint16_t)(in->frag_off | (in->flags & IP_FLAG_MF ? 1u : 0)));
    store_be32(p + 44, in->frag_id);
  }
  return (int)size;
}

int ip_hdr_build(uint8_t *p, size_t room, const struct ip_hdr *in) {
  if (in->version == 4)
    return ip4_hdr_build(p, room, in);
  return in->version == 6 ? ip6_hdr_build(p, room, in) : WIRE_VALUE;
}

void ip_hdr_set_len(uint8_t *p, uint32_t total_len, uint16_t ip4_id) {
  if (p[0] >> 4 == 6) {
    store_be16(p + 4, (uint16_t)(total_len - IP6_HLEN));
    return;
  }
  store_be16(p + 2, (uint16_t)total_len);
  store_be16(p + 4, ip4_id);
  memset(p + 10, 0, 2);
  cksum_store(p + 10, cksum_fold(cksum_add(0, p, (p[0] & 15u) * 4u)));
}
