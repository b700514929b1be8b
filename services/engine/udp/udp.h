/*
 * UDP without I/O (RFC 768, RFC 1122 4.1, RFC 8200 8.1, RFC 8085): headers in and out, what the app's datagram headers
 * may say, what ICMP means to a socket, and two small memories: on which of our addresses a peer was heard, and path
 * MTUs. Called by session/transport_udp.c on the worker's thread; `now` is an argument.
 */
#ifndef HS_ENGINE_UDP_H
#define HS_ENGINE_UDP_H

#include "abi/dgram.h"
#include "abi/frame.h"
#include "abi/session.h"
#include "pkt.h"
#include "udp_counters.h"
#include "wire/cksum.h"
#include "wire/udp.h"

#define UDP_PMTU_ENTRIES 64u
#define UDP_REPLIES      6u
#define UDP_GROUPS       8u   /* of one session; Linux: 20 (igmp_max_memberships) */
#define UDP_SEGS_MAX     128u /* datagrams that one send may be cut into: as Linux (UDP_MAX_SEGMENTS) */

/** Path MTU to one destination, as ICMP told. */
struct udp_pmtu {
  struct ip_addr dst;
  uint32_t vrf;
  uint32_t mtu;
  usec_t until; /* 0: free */
};

struct udp_env {
  uint64_t *counters; /* UDP_N_COUNTERS */
  uint8_t *scratch;   /* room for the longest datagram and its headers; the owner's */
  uint32_t chosen;    /* ports chosen so far */
  struct udp_pmtu pmtu[UDP_PMTU_ENTRIES];
};

/** On which of our addresses a peer was heard. */
struct udp_reply {
  struct ip_addr peer, local;
  uint16_t port;
  uint8_t used;
};

/** A group that the session has joined. */
struct udp_group {
  struct ip_addr addr;
  uint8_t port, used;
};

/** The transport's room in a session: all of it soft. */
struct udp_conn {
  struct udp_reply reply[UDP_REPLIES];
  struct udp_group group[UDP_GROUPS];
  struct abi_options opt;  /* what the app set last */
  struct ip_addr path_dst; /* what session.path leads to */
  uint32_t listener;       /* 1 + index of the policy entry that gives it its port; 0 = none */
  uint8_t connected;
  uint8_t lent; /* the port is another session's of the same app worker: this one is for one of its peers */
  uint8_t v6only;
  uint8_t closing;     /* the app is gone: what is unsent is sent, then it ends */
  uint32_t waits;      /* tries for a neighbour's address that the datagram at the head has had */
  uint32_t soft_count; /* errors told */
};

/** A datagram that came. */
struct udp_in {
  struct udp_hdr hdr;
  uint32_t off; /* of the payload, from the start of the packet's pieces */
  uint32_t len; /* payload bytes */
};

#define UDP_COUNT(env, id) ((env)->counters[UDP_##id]++)

/* --- udp_input.c --- */
/** Header of p at l4_off. 0, or -EINVAL (too short, or its length contradicts IP's; RFC 768). */
HS_MUST_CHECK int udp_parse(const struct pkt *p, struct udp_in *in);
/** 1 if the checksum is right, was verified or is not needed (RFC 768: 0 over IPv4; RFC 8200 8.1: never over IPv6). */
int udp_cksum_ok(const struct pkt *p, const struct udp_in *in);
/** Calls `put` with the pieces of payload [off, off+len). Stops when it returns non-zero, and returns that. */
int udp_payload(const struct pkt *p, const struct udp_in *in, uint32_t off, uint32_t len,
                int (*put)(void *ctx, const uint8_t *bytes, uint32_t n), void *ctx);
/** The header that the app reads, for payload [off, off+len) of a datagram that came. */
void udp_describe(const struct pkt *p, const struct udp_in *in, uint32_t len, struct abi_dgram *out);
/** The time of its arrival, too (ABI_DGRAM_STAMPED). */
void udp_stamp(struct abi_dgram *d, usec_t now);
/** The port that it was sent to, which is not its session's own (ABI_DGRAM_STRAY). Not both. */
void udp_name_port(struct abi_dgram *d, uint16_t port);

/* --- udp_output.c --- */
/** Whether a header that an app wrote can be meant: `used` bytes are published, the header included. 0 or -EPROTO. */
HS_MUST_CHECK int udp_dgram_check(const struct abi_dgram *d, uint32_t used);
/** Datagrams that a send becomes: 1 without segmentation. */
uint32_t udp_segments(const struct abi_dgram *d);
/** Writes the 8 bytes of header for `len` bytes of payload, its checksum the pseudo-header's sum for somebody else to
 * finish. */
void udp_hdr_partial(uint8_t *h, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst, uint16_t dport,
                     uint32_t len);
/** The same with payload behind it: the checksum is complete, and never 0 (RFC 768). */
void udp_hdr_whole(uint8_t *h, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst, uint16_t dport,
                   uint32_t len);
/** What an ICMP error means to a connected socket: errno to tell, 0 = nothing (RFC 1122 4.1.3.3; soft errors are not
 * told, as on Linux without IP_RECVERR). kind as in ip_ops.error. */
int udp_icmp_errno(int kind, int err);

/* --- udp_peer.c --- */
/** `peer` was heard at `local`. */
void udp_reply_note(struct udp_conn *c, const struct ip_addr *peer, uint16_t port, const struct ip_addr *local);
/** Where it was heard last, NULL when that is forgotten. */
const struct ip_addr *udp_reply_find(const struct udp_conn *c, const struct ip_addr *peer, uint16_t port);
/** ICMP: packets to dst in a VRF may be `mtu` bytes long at most (RFC 1191 6.3, RFC 8201 4). */
void udp_pmtu_note(struct udp_env *e, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t now);
/** The smaller of `mtu` and what ICMP told. */
uint32_t udp_pmtu_min(const struct udp_env *e, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t now);

#endif
