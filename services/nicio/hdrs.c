/*
 * Header offsets (hdrs.h). Lcore thread, hot path.
 */
#include "hdrs.h"

#include "wire/eth.h"
#include "wire/ip.h"
#include "wire/tcp.h"
#include "wire/udp.h"

static int hdrs_ip4(const uint8_t *p, uint32_t len, struct hdrs *h) {
  if (len < IP4_HLEN || p[0] >> 4 != 4)
    return -1;
  uint32_t ihl = (p[0] & 15u) * 4;
  if (ihl < IP4_HLEN || ihl > len)
    return -1;
  uint16_t frag = load_be16(p + 6);
  h->version = 4;
  h->ip_len = load_be16(p + 2);
  h->proto = p[9];
  h->frag = (frag & 0x3fffu) != 0;
  h->opts = ihl > IP4_HLEN;
  if ((frag & 0x1fffu) == 0)
    h->l4 = (uint16_t)(h->l3 + ihl);
  return h->ip_len < ihl ? -1 : 0;
}

static int hdrs_ip6(const uint8_t *p, uint32_t len, struct hdrs *h) {
  if (len < IP6_HLEN || p[0] >> 4 != 6)
    return -1;
  h->version = 6;
  h->ip_len = load_be16(p + 4) + IP6_HLEN;
  h->proto = p[6];
  h->frag = p[6] == IP_PROTO_FRAGMENT;
  h->l4 = (uint16_t)(h->l3 + IP6_HLEN);
  return 0;
}

int hdrs_parse(const uint8_t *p, uint32_t len, struct hdrs *h) {
  uint32_t at = ETH_HLEN;

  memset(h, 0, sizeof *h);
  if (len < ETH_HLEN)
    return -1;
  h->type = load_be16(p + 12);
  for (uint32_t tags = 0; tags < ETH_TAGS_MAX && (h->type == ETH_TYPE_VLAN || h->type == ETH_TYPE_QINQ); tags++) {
    if (len < at + ETH_VLAN_LEN)
      return -1;
    h->type = load_be16(p + at + 2);
    at += ETH_VLAN_LEN;
  }
  if (h->type != ETH_TYPE_IP4 && h->type != ETH_TYPE_IP6)
    return -1;
  h->l3 = (uint16_t)at;
  int rc = h->type == ETH_TYPE_IP4 ? hdrs_ip4(p + at, len - at, h) : hdrs_ip6(p + at, len - at, h);
  if (rc < 0 || h->l4 == 0)
    return rc;
  if (h->proto == IP_PROTO_TCP && len >= h->l4 + TCP_HLEN) {
    uint32_t doff = (uint32_t)(p[h->l4 + 12] >> 4) * 4;
    if (doff >= TCP_HLEN)
      h->payload = (uint16_t)(h->l4 + doff);
  } else if (h->proto == IP_PROTO_UDP && len >= h->l4 + UDP_HLEN) {
    h->payload = (uint16_t)(h->l4 + UDP_HLEN);
  }
  return 0;
}
