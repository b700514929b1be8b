/*
 * DHCPv4 messages (RFC 2131 2, RFC 2132; overloaded fields RFC 2132 9.3). Addresses are IPv4 in host order. Used by the
 * engine's DHCP client; tests build the server's side with it.
 */
#ifndef HS_WIRE_DHCP_H
#define HS_WIRE_DHCP_H

#include "wire/addr.h"
#include "wire/wire.h"

#define DHCP_PORT_SERVER 67u
#define DHCP_PORT_CLIENT 68u
#define DHCP_LEN_MIN     241u /* fixed part, cookie and an end option */
#define DHCP_LEN_BUILT   400u /* room that dhcp_msg_build can need; it pads to 300 (RFC 1542 2.1) */
#define DHCP_OPTS_MAX    128u /* options looked at */
#define DHCP_FLAG_BCAST  0x8000u

enum dhcp_type {
  DHCP_DISCOVER = 1,
  DHCP_OFFER = 2,
  DHCP_REQUEST = 3,
  DHCP_DECLINE = 4,
  DHCP_ACK = 5,
  DHCP_NAK = 6,
  DHCP_RELEASE = 7,
};

/* dhcp_msg.present: which options came, or are to be built */
enum dhcp_opt_has {
  DHCP_HAS_MASK = 1,
  DHCP_HAS_ROUTER = 2,
  DHCP_HAS_MTU = 4,
  DHCP_HAS_REQUESTED = 8,
  DHCP_HAS_LEASE = 16,
  DHCP_HAS_SERVER = 32,
  DHCP_HAS_T1 = 64,
  DHCP_HAS_T2 = 128,
  DHCP_HAS_CLIENT = 256, /* build: client identifier of chaddr, parameters wanted, largest message */
};

struct dhcp_msg {
  uint8_t op;   /* 1 from a client, 2 from a server */
  uint8_t type; /* enum dhcp_type */
  uint16_t secs, flags;
  uint16_t mtu;
  uint32_t present; /* enum dhcp_opt_has */
  uint32_t xid;
  uint32_t ciaddr, yiaddr;
  uint32_t mask, router, server, requested;
  uint32_t lease_s, t1_s, t2_s; /* UINT32_MAX: for ever */
  struct mac_addr chaddr;
  uint16_t pad0;
};

/**
 * Parses a message of len bytes. Of a repeated option the first counts; an option of another length than its RFC's is
 * skipped. Returns len, WIRE_SHORT, WIRE_VERSION (not Ethernet, or no cookie: plain BOOTP), WIRE_LENGTH (an option
 * beyond the end), WIRE_VALUE (no or an unknown message type), WIRE_LIMIT.
 */
HS_MUST_CHECK int dhcp_msg_parse(const uint8_t *p, size_t len, struct dhcp_msg *out);

/** Builds a message with the options in `present`. Returns its length (≥ 300) or WIRE_ROOM. */
HS_MUST_CHECK int dhcp_msg_build(uint8_t *p, size_t room, const struct dhcp_msg *in);

#endif
