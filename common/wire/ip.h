/*
 * The IP header of both families as one struct; formats in ip4.c (RFC 791) and ip6.c (RFC 8200). Used by the engine's
 * ip room, and by nicio for GSO, GRO and the flow hash.
 */
#ifndef HS_WIRE_IP_H
#define HS_WIRE_IP_H

#include "wire/addr.h"
#include "wire/wire.h"

enum ip_proto {
  IP_PROTO_HOPOPTS = 0,
  IP_PROTO_ICMP = 1,
  IP_PROTO_IGMP = 2,
  IP_PROTO_TCP = 6,
  IP_PROTO_UDP = 17,
  IP_PROTO_ROUTING = 43,
  IP_PROTO_FRAGMENT = 44,
  IP_PROTO_ESP = 50,
  IP_PROTO_AH = 51,
  IP_PROTO_ICMP6 = 58,
  IP_PROTO_NONE = 59,
  IP_PROTO_DSTOPTS = 60,
  IP_PROTO_MOBILITY = 135,
};

#define IP4_HLEN         20u
#define IP4_HLEN_MAX     60u
#define IP6_HLEN         40u
#define IP6_FRAG_LEN     8u
#define IP6_EXT_MAX      8u   /* extension headers followed (deviates: RFC 8200 sets no limit; RFC 9098 tells why) */
#define IP6_EXT_OPTS_MAX 32u  /* options looked at in one options header */
#define IP6_EXT_LEN_MAX  512u /* bytes of all extension headers together */

/* ip_hdr.flags */
enum ip_flag {
  IP_FLAG_DF = 1,     /* IPv4 don't fragment */
  IP_FLAG_MF = 2,     /* more fragments follow */
  IP_FLAG_FRAG = 4,   /* one of several fragments: MF, or an offset other than 0 */
  IP_FLAG_ATOMIC = 8, /* IPv6 fragment header on a whole packet (RFC 6946) */
  IP_FLAG_OPTS = 16,  /* IPv4 options or IPv6 extension headers are there */
  IP_FLAG_ROUTER_ALERT = 32,
  IP_FLAG_SRCROUTE = 64, /* LSRR/SSRR, or a routing header with segments left */
};

/* ip_hdr.opt_error: what an unknown IPv6 option or header demands (RFC 8200 4, 4.2) */
enum ip_opt_error {
  IP_OPT_OK = 0,
  IP_OPT_DISCARD = 1,         /* drop silently */
  IP_OPT_PROBLEM = 2,         /* drop, ICMPv6 parameter problem code 2, whatever the destination */
  IP_OPT_PROBLEM_UNICAST = 3, /* the same, unless the destination was multicast */
  IP_OPT_ROUTING = 4,         /* unknown routing type with segments left: parameter problem code 0 */
  IP_OPT_NEXT_HEADER = 5,     /* hop-by-hop header not in first place: parameter problem code 1 */
};

struct ip_hdr {
  uint8_t version;    /* 4 or 6 */
  uint8_t tos;        /* DSCP 6 bits, ECN 2 bits */
  uint8_t ttl;        /* or hop limit */
  uint8_t proto;      /* of what follows the extension headers; in a later fragment, of the fragmented part */
  uint16_t hdr_len;   /* bytes up to the payload, options and extension headers included */
  uint16_t flags;     /* enum ip_flag */
  uint32_t total_len; /* header and payload, ≤ 65535 + 40 */
  uint32_t frag_id;   /* 16 bits in IPv4 */
  uint16_t frag_off;  /* bytes, multiple of 8 */
  uint16_t frag_at;   /* IPv6: offset of the fragment header, 0 if none */
  uint16_t nh_at;     /* IPv6: offset of the next-header byte that names proto (of frag header: that names 44) */
  uint16_t opt_at;    /* where opt_error points to */
  uint8_t opt_error;  /* enum ip_opt_error */
  uint8_t pad0[3];
  uint32_t flow_label; /* IPv6, 20 bits */
  struct ip_addr src, dst;
};

/**
 * Parses either family by its version nibble. len is what the link delivered, ≥ total_len (Ethernet pads); the payload
 * is [hdr_len, total_len). Returns hdr_len or WIRE_*. The IPv4 header checksum is checked by ip4_hdr_cksum_ok, not
 * here. IPv6: hop-by-hop, routing, destination and fragment headers are walked, within the limits above; a jumbogram
 * (RFC 2675) is WIRE_LENGTH. With opt_error set, the result is ≥ 0 and valid, but the packet is to be refused so.
 */
HS_MUST_CHECK int ip_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out);
HS_MUST_CHECK int ip4_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out);
HS_MUST_CHECK int ip6_hdr_parse(const uint8_t *p, size_t len, struct ip_hdr *out);

/**
 * The same for a packet quoted in an ICMP error: the payload may be cut short (RFC 792, RFC 4443 2.4 c), so that
 * total_len may exceed len; the headers must be whole.
 */
HS_MUST_CHECK int ip_hdr_parse_quoted(const uint8_t *p, size_t len, struct ip_hdr *out);

/* Between ip4.c and ip6.c. */
HS_MUST_CHECK int ip6_hdr_take(const uint8_t *p, size_t len, int cut, struct ip_hdr *out);

/** Whether the checksum over an IPv4 header of hdr_len bytes is right. */
int ip4_hdr_cksum_ok(const uint8_t *p, size_t hdr_len);

/**
 * Builds a header without options: 20 bytes with its checksum, or 40; with IP_FLAG_FRAG in IPv6 40 + 8. Uses version,
 * tos, ttl, proto, flags (DF, MF, FRAG), total_len (of the packet, this header included), frag_id, frag_off,
 * flow_label, src, dst. Returns bytes written, WIRE_ROOM or WIRE_VALUE.
 */
HS_MUST_CHECK int ip_hdr_build(uint8_t *p, size_t room, const struct ip_hdr *in);

/** Bytes ip_hdr_build will write. */
static inline unsigned ip_hdr_size(const struct ip_hdr *in) {
  return in->version == 4 ? IP4_HLEN : IP6_HLEN + (in->flags & IP_FLAG_FRAG ? IP6_FRAG_LEN : 0);
}

/** Rewrites the total length (and IPv4 id and checksum) of a built header of either family; for GSO. */
void ip_hdr_set_len(uint8_t *p, uint32_t total_len, uint16_t ip4_id);

#endif
