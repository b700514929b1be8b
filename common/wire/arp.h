/*
 * ARP for IPv4 over Ethernet (RFC 826, RFC 5227). Used by the engine's ip room.
 */
#ifndef HS_WIRE_ARP_H
#define HS_WIRE_ARP_H

#include "wire/addr.h"
#include "wire/wire.h"

#define ARP_LEN 28u

enum arp_op { ARP_REQUEST = 1, ARP_REPLY = 2 };

struct arp_pkt {
  uint16_t op;         /* enum arp_op */
  struct mac_addr sha; /* sender */
  struct mac_addr tha; /* target; zero in a request */
  struct ip_addr spa;  /* IPv4, mapped */
  struct ip_addr tpa;
};

/** Returns ARP_LEN, WIRE_SHORT, WIRE_VERSION (not Ethernet/IPv4), WIRE_VALUE (op, or a multicast sender address). */
HS_MUST_CHECK int arp_pkt_parse(const uint8_t *p, size_t len, struct arp_pkt *out);
/** Returns ARP_LEN or WIRE_ROOM. */
HS_MUST_CHECK int arp_pkt_build(uint8_t *p, size_t room, const struct arp_pkt *in);

#endif
