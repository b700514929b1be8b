/*
 * Datagrams that go: what an app may ask, headers and checksums, and what ICMP answers mean (RFC 768, RFC 1122 4.1.3,
 * RFC 8200 8.1). Called per datagram by session/transport_udp.c; hot path.
 */
#include "udp.h"

#include <errno.h>

int udp_dgram_check(const struct abi_dgram *d, uint32_t used) {
  if (d->len > ABI_DGRAM_MAX || used < sizeof *d || used - sizeof *d < d->len)
    return -EPROTO;
  if (d->family != 0 && d->family != 4 && d->family != 6)
    return -EPROTO;
  if (d->seg != 0 && (d->len + d->seg - 1u) / d->seg > UDP_SEGS_MAX)
    return -EPROTO;
  return 0;
}

uint32_t udp_segments(const struct abi_dgram *d) {
  return d->seg == 0 || d->len <= d->seg ? 1 : (d->len + d->seg - 1u) / d->seg;
}

static cksum_t udp_hdr_put(uint8_t *h, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst,
                           uint16_t dport, uint32_t len) {
  uint16_t total = (uint16_t)(UDP_HLEN + len);
  store_be16(h, sport);
  store_be16(h + 2, dport);
  store_be16(h + UDP_OFF_LEN, total);
  store_be16(h + UDP_OFF_CKSUM, 0);
  return cksum_pseudo(src, dst, IP_PROTO_UDP, total);
}

void udp_hdr_partial(uint8_t *h, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst, uint16_t dport,
                     uint32_t len) {
  cksum_store(h + UDP_OFF_CKSUM, cksum_reduce(udp_hdr_put(h, src, sport, dst, dport, len)));
}

void udp_hdr_whole(uint8_t *h, const struct ip_addr *src, uint16_t sport, const struct ip_addr *dst, uint16_t dport,
                   uint32_t len) {
  cksum_t sum = udp_hdr_put(h, src, sport, dst, dport, len);
  uint16_t folded = cksum_fold(cksum_add(sum, h, UDP_HLEN + len));
  cksum_store(h + UDP_OFF_CKSUM, folded != 0 ? folded : 0xffff);
}

int udp_icmp_errno(int kind, int err) {
  return kind == 1 ? err : kind == 2 ? EMSGSIZE : 0;
}
