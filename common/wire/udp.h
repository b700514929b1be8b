/*
 * UDP header (RFC 768; RFC 8200 8.1 for IPv6). Used by the engine's udp room and by nicio.
 */
#ifndef HS_WIRE_UDP_H
#define HS_WIRE_UDP_H

#include "wire/wire.h"

#define UDP_HLEN      8u
#define UDP_OFF_LEN   4u
#define UDP_OFF_CKSUM 6u

struct udp_hdr {
  uint16_t sport, dport;
  uint16_t len;   /* header and data, 8..65535 */
  uint16_t cksum; /* parse only; 0 = the sender computed none, which IPv6 forbids */
};

/** len is the IP payload. Returns 8, WIRE_SHORT, or WIRE_LENGTH (its length field < 8 or beyond len). */
HS_MUST_CHECK int udp_hdr_parse(const uint8_t *p, size_t len, struct udp_hdr *out);
/** Checksum 0. Returns 8, WIRE_ROOM or WIRE_VALUE (len < 8). */
HS_MUST_CHECK int udp_hdr_build(uint8_t *p, size_t room, const struct udp_hdr *in);

#endif
