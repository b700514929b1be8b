/*
 * Ethernet II frames with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad). Used by nicio (classification, GSO) and
 * by the engine's ip room.
 */
#ifndef HS_WIRE_ETH_H
#define HS_WIRE_ETH_H

#include "wire/addr.h"
#include "wire/wire.h"

#define ETH_HLEN     14u
#define ETH_VLAN_LEN 4u
#define ETH_TAGS_MAX 2u
#define ETH_HLEN_MAX (ETH_HLEN + ETH_TAGS_MAX * ETH_VLAN_LEN)

enum eth_type {
  ETH_TYPE_IP4 = 0x0800,
  ETH_TYPE_ARP = 0x0806,
  ETH_TYPE_IP6 = 0x86dd,
  ETH_TYPE_VLAN = 0x8100,
  ETH_TYPE_QINQ = 0x88a8,
};

struct eth_hdr {
  struct mac_addr dst, src;
  uint16_t type;              /* of the payload, after the tags */
  uint8_t n_tags;             /* 0..2 */
  uint8_t hdr_len;            /* parse: offset of the payload */
  uint16_t tci[ETH_TAGS_MAX]; /* outermost first: priority 3 bits, DEI 1, VLAN id 12 */
};

static inline uint16_t eth_vlan_id(uint16_t tci) {
  return tci & 0x0fff;
}

/** Returns the header's length 14, 18 or 22, WIRE_SHORT, WIRE_LIMIT (more tags), WIRE_VALUE (802.3 length, not a type).
 */
HS_MUST_CHECK int eth_hdr_parse(const uint8_t *p, size_t len, struct eth_hdr *out);
/** Returns the length written or WIRE_ROOM, WIRE_VALUE. One tag gets 0x8100, of two the outer gets 0x88a8. */
HS_MUST_CHECK int eth_hdr_build(uint8_t *p, size_t room, const struct eth_hdr *in);

#endif
