/*
 * ICMP messages of IPv4 (RFC 792) and IPv6 (RFC 4443): the eight bytes that all begin with. Called by the engine's ip
 * room per ICMP packet.
 */
#include "wire/icmp.h"
#include "wire/cksum.h"
#include "wire/ip.h"

/* Type, code, checksum, and of an echo also id and number, which both families have in the same place. */
static void icmp_common_get(const uint8_t *p, int echo, struct icmp_hdr *out) {
  memset(out, 0, sizeof *out);
  out->type = p[0];
  out->code = p[1];
  out->cksum = load_be16(p + 2);
  if (echo) {
    out->id = load_be16(p + 4);
    out->seq = load_be16(p + 6);
  }
}

static void icmp_common_put(uint8_t *p, int echo, const struct icmp_hdr *in) {
  memset(p, 0, ICMP_HLEN);
  p[0] = in->type;
  p[1] = in->code;
  if (echo) {
    store_be16(p + 4, in->id);
    store_be16(p + 6, in->seq);
  }
}

static int icmp4_is_echo(uint8_t type) {
  return type == ICMP4_ECHO || type == ICMP4_ECHO_REPLY;
}

static int icmp6_is_echo(uint8_t type) {
  return type == ICMP6_ECHO || type == ICMP6_ECHO_REPLY;
}

int icmp4_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out) {
  if (len < ICMP_HLEN)
    return WIRE_SHORT;
  icmp_common_get(p, icmp4_is_echo(p[0]), out);
  if (out->type == ICMP4_UNREACH && out->code == ICMP4_UNREACH_FRAG)
    out->mtu = load_be16(p + 6); /* RFC 1191 4 */
  else if (out->type == ICMP4_PARAM_PROBLEM)
    out->ptr = p[4];
  else if (out->type == ICMP4_REDIRECT)
    out->gateway = load_be32(p + 4);
  return ICMP_HLEN;
}

int icmp4_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in) {
  if (room < ICMP_HLEN)
    return WIRE_ROOM;
  icmp_common_put(p, icmp4_is_echo(in->type), in);
  if (in->type == ICMP4_UNREACH && in->code == ICMP4_UNREACH_FRAG)
    store_be16(p + 6, in->mtu > 65535 ? 65535 : (uint16_t)in->mtu);
  else if (in->type == ICMP4_PARAM_PROBLEM)
    p[4] = (uint8_t)in->ptr;
  else if (in->type == ICMP4_REDIRECT)
    store_be32(p + 4, in->gateway);
  return ICMP_HLEN;
}

int icmp6_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out) {
  if (len < ICMP_HLEN)
    return WIRE_SHORT;
  icmp_common_get(p, icmp6_is_echo(p[0]), out);
  if (out->type == ICMP6_TOO_BIG)
    out->mtu = load_be32(p + 4);
  else if (out->type == ICMP6_PARAM_PROBLEM)
    out->ptr = load_be32(p + 4);
  return ICMP_HLEN;
}

int icmp6_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in) {
  if (room < ICMP_HLEN)
    return WIRE_ROOM;
  icmp_common_put(p, icmp6_is_echo(in->type), in);
  if (in->type == ICMP6_TOO_BIG)
    store_be32(p + 4, in->mtu);
  else if (in->type == ICMP6_PARAM_PROBLEM)
    store_be32(p + 4, in->ptr);
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

void icmp6_cksum_set(uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst) {
  memset(p + 2, 0, 2);
  cksum_t sum = cksum_pseudo6(src, dst, IP_PROTO_ICMP6, (uint32_t)len);
  cksum_store(p + 2, cksum_fold(cksum_add(sum, p, len)));
}

int icmp6_cksum_ok(const uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst) {
  return len >= 4 && cksum_l4_ok(src, dst, IP_PROTO_ICMP6, p, len);
}

int icmp6_is_error(uint8_t type) {
  return type < 128; /* RFC 4443 2.1 */
}
