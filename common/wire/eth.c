/*
 * Ethernet header, parse and build. Called per frame by nicio and by the engine's ip room; hot path.
 */
#include "wire/eth.h"

#define ETH_TYPE_MIN 0x0600 /* below it is a length (IEEE 802.3) */

int eth_hdr_parse(const uint8_t *p, size_t len, struct eth_hdr *out) {
  if (len < ETH_HLEN)
    return WIRE_SHORT;
  out->dst = mac_addr_load(p);
  out->src = mac_addr_load(p + 6);
  out->n_tags = 0;
  out->tci[0] = out->tci[1] = 0;
  unsigned at = 12;
  uint16_t type = load_be16(p + at);
  while (type == ETH_TYPE_VLAN || type == ETH_TYPE_QINQ) {
    if (out->n_tags == ETH_TAGS_MAX)
      return WIRE_LIMIT;
    if (len < at + 2 + ETH_VLAN_LEN)
      return WIRE_SHORT;
    out->tci[out->n_tags++] = load_be16(p + at + 2);
    at += ETH_VLAN_LEN;
    type = load_be16(p + at);
  }
  if (type < ETH_TYPE_MIN)
    return WIRE_VALUE;
  out->type = type;
  out->hdr_len = (uint8_t)(at + 2);
  return out->hdr_len;
}

int eth_hdr_build(uint8_t *p, size_t room, const struct eth_hdr *in) {
  if (in->n_tags > ETH_TAGS_MAX || in->type < ETH_TYPE_MIN)
    return WIRE_VALUE;
  size_t need = ETH_HLEN + in->n_tags * ETH_VLAN_LEN;
  if (room < need)
    return WIRE_ROOM;
  memcpy(p, in->dst.b, 6);
  memcpy(p + 6, in->src.b, 6);
  unsigned at = 12;
  for (unsigned i = 0; i < in->n_tags; i++) {
    store_be16(p + at, i + 1u < in->n_tags ? ETH_TYPE_QINQ : ETH_TYPE_VLAN);
    store_be16(p + at + 2, in->tci[i]);
    at += ETH_VLAN_LEN;
  }
  store_be16(p + at, in->type);
  return (int)need;
}
