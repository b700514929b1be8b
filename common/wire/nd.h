/*
 * IPv6 neighbour discovery messages with their options (RFC 4861, RDNSS not). The ICMPv6 checksum and the hop limit of
 * 255 (RFC 4861 6.1, 7.1) are the caller's to check. Used by the engine's ip room.
 */
#ifndef HS_WIRE_ND_H
#define HS_WIRE_ND_H

#include "wire/addr.h"
#include "wire/wire.h"

#define ND_OPTS_MAX     32u /* options looked at in one message (deviates: RFC 4861 sets no limit) */
#define ND_PREFIXES_MAX 8u  /* prefixes kept of one advertisement */
#define ND_LEN_MAX      96u /* room that nd_build can need, prefixes apart */

/* nd_msg.present: which options came */
enum nd_opt { ND_HAS_SLLA = 1, ND_HAS_TLLA = 2, ND_HAS_MTU = 4 };

/* nd_msg.flags of a neighbour advertisement (high three bits) and of a router advertisement */
enum nd_flag {
  ND_NA_ROUTER = 0x80,
  ND_NA_SOLICITED = 0x40,
  ND_NA_OVERRIDE = 0x20,
  ND_RA_MANAGED = 0x80,
  ND_RA_OTHER = 0x40,
  ND_PREFIX_ONLINK = 0x80,
  ND_PREFIX_AUTO = 0x40,
};

struct nd_prefix {
  struct ip_addr prefix;
  uint32_t valid_s, preferred_s; /* UINT32_MAX: for ever */
  uint8_t len;                   /* 0..128 */
  uint8_t flags;                 /* ND_PREFIX_* */
  uint16_t pad0;
};

struct nd_msg {
  uint8_t type;        /* ICMP6_RS, RA, NS, NA, REDIRECT */
  uint8_t flags;       /* ND_NA_* or ND_RA_* */
  uint8_t present;     /* enum nd_opt */
  uint8_t hop_limit;   /* RA: 0 unspecified */
  uint16_t lifetime_s; /* RA: router lifetime */
  uint8_t n_prefixes;  /* RA */
  uint8_t pad0;
  uint32_t reachable_ms; /* RA: 0 unspecified */
  uint32_t retrans_ms;   /* RA: 0 unspecified */
  uint32_t mtu;          /* if ND_HAS_MTU */
  struct ip_addr target; /* NS, NA, REDIRECT */
  struct ip_addr dest;   /* REDIRECT */
  struct mac_addr slla, tlla;
  struct nd_prefix prefixes[ND_PREFIXES_MAX];
};

/**
 * Parses a message from its ICMPv6 type byte; len is the whole message. Returns len, WIRE_SHORT, WIRE_LENGTH (an option
 * of length 0 or beyond the end), WIRE_VERSION (another type), WIRE_VALUE (code other than 0, multicast target),
 * WIRE_LIMIT.
 */
HS_MUST_CHECK int nd_msg_parse(const uint8_t *p, size_t len, struct nd_msg *out);

/** Builds RS, NS, NA or RA with the options in `present` and the prefixes, checksum 0. Returns the length or WIRE_*. */
HS_MUST_CHECK int nd_msg_build(uint8_t *p, size_t room, const struct nd_msg *in);

#endif
