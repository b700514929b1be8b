/*
 * IPv6 header and the walk over extension headers (RFC 8200 4), within the limits of ip.h. Called per packet by the
 * engine's ip room and by nicio; a packet without extension headers takes the short way.
 */
#include "wire/ip.h"

#define IP6_OPT_PAD1         0
#define IP6_OPT_ROUTER_ALERT 5

/* First thing that demands a refusal wins; the walk goes on for the lengths. */
static void ip6_refuse(struct ip_hdr *out, unsigned error, unsigned at) {
  if (out->opt_error != IP_OPT_OK)
    return;
  out->opt_error = (uint8_t)error;
  out->opt_at = (uint16_t)at;
}

/* Options of a hop-by-hop or destination header in [at, end). RFC 8200 4.2: the two high bits of an unknown type. */
static int ip6_opts_walk(const uint8_t *p, unsigned at, unsigned end, struct ip_hdr *out) {
  static const uint8_t actions[] = {IP_OPT_OK, IP_OPT_DISCARD, IP_OPT_PROBLEM, IP_OPT_PROBLEM_UNICAST};
  for (unsigned n = 0; at < end;) {
    uint8_t type = p[at];
    if (type == IP6_OPT_PAD1) {
      at++;
      continue;
    }
    if (at + 2 > end || at + 2u + p[at + 1] > end)
      return WIRE_LENGTH;
    if (++n > IP6_EXT_OPTS_MAX)
      return WIRE_LIMIT;
    if (type == IP6_OPT_ROUTER_ALERT)
      out->flags |= IP_FLAG_ROUTER_ALERT;
    else if (actions[type >> 6] != IP_OPT_OK)
      ip6_refuse(out, actions[type >> 6], at);
    at += 2u + p[at + 1];
  }
  return 0;
}

/* Fragment header at `at`. Returns 1 if the packet is a real fragment, where the walk ends. */
static int ip6_frag_take(const uint8_t *p, unsigned at, struct ip_hdr *out) {
  unsigned word = load_be16(p + at + 2);
  out->frag_at = (uint16_t)at;
  out->frag_off = (uint16_t)(word & 0xfff8u);
  out->frag_id = load_be32(p + at + 4);
  if (out->frag_off == 0 && !(word & 1)) {
    out->flags |= IP_FLAG_ATOMIC;
    return 0;
  }
  unsigned payload = out->total_len - (at + IP6_FRAG_LEN);
  if (payload == 0 || (word & 1 && payload % 8 != 0) || out->frag_off + payload > 65535)
    return WIRE_LENGTH; /* RFC 8200 4.5 */
  out->flags |= (uint16_t)(IP_FLAG_FRAG | (word & 1 ? IP_FLAG_MF : 0));
  return 1;
}

static int ip6_is_ext(uint8_t nh) {
  return nh == IP_PROTO_HOPOPTS || nh == IP_PROTO_ROUTING || nh == IP_PROTO_FRAGMENT || nh == IP_PROTO_DSTOPTS;
}

/* One extension header of type nh at `at`, of size bytes. Returns 0, 1 (a real fragment: stop), WIRE_*. */
static int ip6_ext_take(const uint8_t *p, uint8_t nh, unsigned at, unsigned size, struct ip_hdr *out) {
  switch (nh) {
  case IP_PROTO_FRAGMENT:
    return out->frag_at != 0 ? WIRE_VALUE : ip6_frag_take(p, at, out);
  case IP_PROTO_ROUTING: /* RFC 8200 4.4; type 0 is as unknown as the others (RFC 5095) */
    if (p[at + 3] != 0) {
      out->flags |= IP_FLAG_SRCROUTE;
      ip6_refuse(out, IP_OPT_ROUTING, at + 2);
    }
    return 0;
  default:
    return ip6_opts_walk(p, at + 2, at + size, out);
  }
}

/* avail: bytes that are there, ≤ total_len; less only in a quotation. */
static int ip6_ext_walk(const uint8_t *p, size_t avail, uint8_t nh, struct ip_hdr *out) {
  unsigned at = IP6_HLEN, nh_at = 6, n = 0;
  while (ip6_is_ext(nh)) {
    if (nh == IP_PROTO_HOPOPTS && at != IP6_HLEN) { /* RFC 8200 4.1: only directly after the IPv6 header */
      ip6_refuse(out, IP_OPT_NEXT_HEADER, nh_at);
      break;
    }
    if (++n > IP6_EXT_MAX)
      return WIRE_LIMIT;
    if (at + 8 > avail)
      return WIRE_SHORT;
    unsigned size = nh == IP_PROTO_FRAGMENT ? IP6_FRAG_LEN : (p[at + 1] + 1u) * 8u;
    if (at + size > out->total_len)
      return WIRE_LENGTH;
    if (at + size > IP6_HLEN + IP6_EXT_LEN_MAX)
      return WIRE_LIMIT;
    if (at + size > avail)
      return WIRE_SHORT;
    int stop = ip6_ext_take(p, nh, at, size, out);
    if (stop < 0)
      return stop;
    if (!stop)
      nh_at = at;
    nh = p[at];
    at += size;
    if (stop) {
      if (nh == IP_PROTO_HOPOPTS && out->frag_off == 0) /* RFC 8200 4.1 again; it would be first when put together */
        ip6_refuse(out, IP_OPT_NEXT_HEADER, out->frag_at);
      break;
    }
  }
  out->flags |= IP_FLAG_OPTS;
  out->proto = nh;
  out->nh_at = (uint16_t)nh_at;
  out->hdr_len = (uint16_t)at;
  return (int)at;
}

/* cut: the packet may end early behind its headers, as in an ICMP error. For ip4.c too. */
int ip6_hdr_take(const uint8_t *p, size_t len, int cut, struct ip_hdr *out) {
  if (len < IP6_HLEN)
    return WIRE_SHORT;
  uint32_t word = load_be32(p);
  if (word >> 28 != 6)
    return WIRE_VERSION;
  unsigned payload = load_be16(p + 4);
  uint8_t nh = p[6];
  if (payload == 0 && nh == IP_PROTO_HOPOPTS) /* a jumbogram, or no room for the header it names */
    return WIRE_LENGTH;
  if (!cut && IP6_HLEN + payload > len)
    return WIRE_SHORT;
  memset(out, 0, sizeof *out);
  out->version = 6;
  out->tos = (uint8_t)(word >> 20);
  out->flow_label = word & 0xfffffu;
  out->ttl = p[7];
  out->proto = nh;
  out->hdr_len = IP6_HLEN;
  out->nh_at = 6;
  out->total_len = IP6_HLEN + payload;
  out->src = ip_addr_load6(p + 8);
  out->dst = ip_addr_load6(p + 24);
  if (ip_addr_is4(&out->src) || ip_addr_is4(&out->dst)) /* would pass for IPv4 from here on (RFC 4942 2.2) */
    return WIRE_VALUE;
  return ip6_is_ext(nh) ? ip6_ext_walk(p, len < out->total_len ? len : out->total_len, nh, out) : (int)IP6_HLEN;
}

int ip6_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out) {
  return ip6_hdr_take(p, len, 0, out);
}
