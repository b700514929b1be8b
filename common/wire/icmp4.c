/*
 * ICMP messages of IPv4 (RFC 792). Called by the engine's ip room per ICMP packet.
 */
#include "wire/cksum.h"
#include "wire/icmp.h"

int icmp4_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out) {
  if (len < ICMP_HLEN)
    return WIRE_SHORT;
  memset(out, 0, sizeof *out);
  out->type = p[0];
  out->code = p[1];
  out->cksum = load_be16(p + 2);
  if (out->type == ICMP4_ECHO || out->type == ICMP4_ECHO_REPLY) {
    out->id = load_be16(p + 4);
    out->seq = load_be16(p + 6);
  } else if (out->type == ICMP4_UNREACH && out->code == ICMP4_UNREACH_FRAG) {
    out->mtu = load_be16(p + 6); /* RFC 1191 4 */
  } else if (out->type == ICMP4_PARAM_PROBLEM) {
    out->ptr = p[4];
  } else if (out->type == ICMP4_REDIRECT) {
    out->gateway = load_be32(p + 4);
  }
  return ICMP_HLEN;
}

int icmp4_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in) {
  if (room < ICMP_HLEN)
    return WIRE_ROOM;
  memset(p, 0, ICMP_HLEN);
  p[0] = in->type;
  p[1] = in->code;
  if (in->type == ICMP4_ECHO || in->type == ICMP4_ECHO_REPLY) {
    store_be16(p + 4, in->id);
    store_be16(p + 6, in->seq);
  } else if (in->type == ICMP4_UNREACH && in->code == ICMP4_UNREACH_FRAG) {
    store_be16(p + 6, in->mtu > 65535 ? 65535 : (uint16_t)in->mtu);
  } else if (in->type == ICMP4_PARAM_PROBLEM) {
    p[4] = (uint8_t)in->ptr;
  } else if (in->type == ICMP4_REDIRECT) {
    store_be32(p + 4, in->gateway);
  }
  return ICMP_HLEN;
}

void icmp4_cksum_set(uint8_t *p, size_t len) {
  memset(p + 2, 0, 2);
  cksum_store(p + 2, cksum_fold(cksum_add(0, p, len)));
}

int icmp4_cksum_ok(const uint8_t *p, size_t len) {
  return len >= ICMP_HLEN && cksum_fold(cksum_add(0, p, len)) == 0;
}

int icmp4_is_error(uint8_t type) {
  return type == ICMP4_UNREACH || type == ICMP4_SOURCE_QUENCH || type == ICMP4_REDIRECT ||
         type == ICMP4_TIME_EXCEEDED || type == ICMP4_PARAM_PROBLEM;
}
