/*
 * ARP packets, parse and build (RFC 826). Called by the engine's ip room, per ARP packet.
 */
#include "wire/arp.h"
#include "wire/eth.h"

#define ARP_HTYPE_ETHERNET 1

int arp_pkt_parse(const uint8_t *p, size_t len, struct arp_pkt *out) {
  if (len < ARP_LEN)
    return WIRE_SHORT;
  if (load_be16(p) != ARP_HTYPE_ETHERNET || load_be16(p + 2) != ETH_TYPE_IP4 || p[4] != 6 || p[5] != 4)
    return WIRE_VERSION;
  out->op = load_be16(p + 6);
  out->sha = mac_addr_load(p + 8);
  out->spa = ip_addr_load4(p + 14);
  out->tha = mac_addr_load(p + 18);
  out->tpa = ip_addr_load4(p + 24);
  if (out->op != ARP_REQUEST && out->op != ARP_REPLY)
    return WIRE_VALUE;
  if (mac_addr_is_multicast(&out->sha) || mac_addr_is_zero(&out->sha)) /* nobody's address: never to be cached */
    return WIRE_VALUE;
  return ARP_LEN;
}

int arp_pkt_build(uint8_t *p, size_t room, const struct arp_pkt *in) {
  if (room < ARP_LEN)
    return WIRE_ROOM;
  store_be16(p, ARP_HTYPE_ETHERNET);
  store_be16(p + 2, ETH_TYPE_IP4);
  p[4] = 6;
  p[5] = 4;
  store_be16(p + 6, in->op);
  memcpy(p + 8, in->sha.b, 6);
  memcpy(p + 14, in->spa.b + 12, 4);
  memcpy(p + 18, in->tha.b, 6);
  memcpy(p + 24, in->tpa.b + 12, 4);
  return ARP_LEN;
}
