/*
 * ICMPv6 messages (RFC 4443). Called by the engine's ip room per ICMPv6 packet.
 */
#include "wire/cksum.h"
#include "wire/icmp.h"
#include "wire/ip.h"

int icmp6_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out) {
  if (len < ICMP_HLEN)
    return WIRE_SHORT;
  memset(out, 0, sizeof *out);
  out->type = p[0];
  out->code = p[1];
  out->cksum = load_be16(p + 2);
  if (out->type == ICMP6_ECHO || out->type == ICMP6_ECHO_REPLY) {
    out->id = load_be16(p + 4);
    out->seq = load_be16(p + 6);
  } else if (out->type == ICMP6_TOO_BIG) {
    out->mtu = load_be32(p + 4);
  } else if (out->type == ICMP6_PARAM_PROBLEM) {
    out->ptr = load_be32(p + 4);
  }
  return ICMP_HLEN;
}

int icmp6_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in) {
  if (room < ICMP_HLEN)
    return WIRE_ROOM;
  memset(p, 0, ICMP_HLEN);
  p[0] = in->type;
  p[1] = in->code;
  if (in->type == ICMP6_ECHO || in->type == ICMP6_ECHO_REPLY) {
    store_be16(p + 4, in->id);
    store_be16(p + 6, in->seq);
  } else if (in->type == ICMP6_TOO_BIG) {
    store_be32(p + 4, in->mtu);
  } else if (in->type == ICMP6_PARAM_PROBLEM) {
    store_be32(p + 4, in->ptr);
  }
  return ICMP_HLEN;
}

void icmp6_cksum_set(uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst) {
  memset(p + 2, 0, 2);
  cksum_t sum = cksum_pseudo6(src, dst, IP_PROTO_ICMP6, (uint32_t)len);
  cksum_store(p + 2, cksum_fold(cksum_add(sum, p, len)));
}

int icmp6_cksum_ok(const uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst) {
  return len >= 4 && cksum_l4_ok(src, dst, IP_PROTO_ICMP6, p, len);
}

int icmp6_is_error(uint8_t type) {
  return type < 128;
} /* RFC 4443 2.1 */
