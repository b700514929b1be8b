/*
 * UDP header (RFC 768). Called per datagram by the engine's udp room and by nicio; hot path.
 */
#include "wire/udp.h"

int udp_hdr_parse(const uint8_t *p, size_t len, struct udp_hdr *out) {
  if (len < UDP_HLEN)
    return WIRE_SHORT;
  out->sport = load_be16(p);
  out->dport = load_be16(p + 2);
  out->len = load_be16(p + UDP_OFF_LEN);
  out->cksum = load_be16(p + UDP_OFF_CKSUM);
  if (out->len < UDP_HLEN || out->len > len)
    return WIRE_LENGTH;
  return UDP_HLEN;
}

int udp_hdr_build(uint8_t *p, size_t room, const struct udp_hdr *in) {
  if (room < UDP_HLEN)
    return WIRE_ROOM;
  if (in->len < UDP_HLEN)
    return WIRE_VALUE;
  store_be16(p, in->sport);
  store_be16(p + 2, in->dport);
  store_be16(p + UDP_OFF_LEN, in->len);
  store_be16(p + UDP_OFF_CKSUM, 0);
  return UDP_HLEN;
}
