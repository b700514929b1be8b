/*
 * ICMP for IPv4 (RFC 792, 1122, 1191, 4884) and IPv6 (RFC 4443): echo and errors. Neighbour discovery is in nd.h.
 * Used by the engine's ip room.
 */
#ifndef HS_WIRE_ICMP_H
#define HS_WIRE_ICMP_H

#include "wire/addr.h"
#include "wire/wire.h"

#define ICMP_HLEN 8u

enum icmp4_type {
  ICMP4_ECHO_REPLY = 0,
  ICMP4_UNREACH = 3,
  ICMP4_SOURCE_QUENCH = 4,
  ICMP4_REDIRECT = 5,
  ICMP4_ECHO = 8,
  ICMP4_TIME_EXCEEDED = 11,
  ICMP4_PARAM_PROBLEM = 12,
};

enum icmp4_unreach {
  ICMP4_UNREACH_NET = 0,
  ICMP4_UNREACH_HOST = 1,
  ICMP4_UNREACH_PROTO = 2,
  ICMP4_UNREACH_PORT = 3,
  ICMP4_UNREACH_FRAG = 4, /* fragmentation needed and DF set: mtu holds the next hop's (RFC 1191) */
  ICMP4_UNREACH_SRCROUTE = 5,
  ICMP4_UNREACH_ADMIN = 13,
};

enum icmp6_type {
  ICMP6_UNREACH = 1,
  ICMP6_TOO_BIG = 2,
  ICMP6_TIME_EXCEEDED = 3,
  ICMP6_PARAM_PROBLEM = 4,
  ICMP6_ECHO = 128,
  ICMP6_ECHO_REPLY = 129,
  ICMP6_MLD_QUERY = 130,
  ICMP6_MLD_REPORT = 131,
  ICMP6_MLD_DONE = 132,
  ICMP6_RS = 133,
  ICMP6_RA = 134,
  ICMP6_NS = 135,
  ICMP6_NA = 136,
  ICMP6_REDIRECT = 137,
  ICMP6_MLD2_REPORT = 143,
};

enum icmp6_unreach {
  ICMP6_UNREACH_NOROUTE = 0,
  ICMP6_UNREACH_ADMIN = 1,
  ICMP6_UNREACH_ADDR = 3,
  ICMP6_UNREACH_PORT = 4,
};

struct icmp_hdr {
  uint8_t type, code;
  uint16_t cksum;   /* parse only */
  uint16_t id;      /* echo */
  uint16_t seq;     /* echo */
  uint32_t mtu;     /* ICMP4_UNREACH_FRAG (0: an old router did not say), ICMP6_TOO_BIG */
  uint32_t ptr;     /* parameter problem */
  uint32_t gateway; /* ICMP4_REDIRECT, host order */
};

/** Parses the 8 bytes common to all messages; those of other types only get type and code. Returns 8 or WIRE_SHORT. */
HS_MUST_CHECK int icmp4_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out);
HS_MUST_CHECK int icmp6_hdr_parse(const uint8_t *p, size_t len, struct icmp_hdr *out);

/** Builds the 8 bytes, checksum 0. Returns 8 or WIRE_ROOM. */
HS_MUST_CHECK int icmp4_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in);
HS_MUST_CHECK int icmp6_hdr_build(uint8_t *p, size_t room, const struct icmp_hdr *in);

/** Stores the checksum of a whole message of len bytes (≥ 8); for IPv6 with its pseudo-header (RFC 4443 2.3). */
void icmp4_cksum_set(uint8_t *p, size_t len);
void icmp6_cksum_set(uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst);
/** Whether the checksum of a whole message is right. */
int icmp4_cksum_ok(const uint8_t *p, size_t len);
int icmp6_cksum_ok(const uint8_t *p, size_t len, const struct ip_addr *src, const struct ip_addr *dst);

/** Whether a type is an error message, about which no error may be sent (RFC 1122 3.2.2, RFC 4443 2.4 e). */
int icmp4_is_error(uint8_t type);
int icmp6_is_error(uint8_t type);

#endif
