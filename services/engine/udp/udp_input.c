/*
 * Datagrams that come: header, checksum, the pieces of their payload (RFC 768, RFC 8200 8.1). Called per packet by
 * session/transport_udp.c; hot path.
 */
#include "udp.h"

#include "base/bits.h"

#include <errno.h>

/** Copies n bytes of the packet from `off` on. 0 or -EINVAL when they are not there. */
static int udp_read(const struct pkt *p, uint32_t off, uint8_t *to, uint32_t n) {
  for (uint32_t i = 0; i < p->n_pieces && n != 0; i++) {
    if (off >= p->piece[i].len) {
      off -= p->piece[i].len;
      continue;
    }
    uint32_t part = HS_MIN(n, p->piece[i].len - off);
    memcpy(to, p->piece[i].p + off, part);
    to += part;
    n -= part;
    off = 0;
  }
  return n == 0 ? 0 : -EINVAL;
}

int udp_parse(const struct pkt *p, struct udp_in *in) {
  uint8_t h[UDP_HLEN];
  if (p->l4_len < UDP_HLEN || udp_read(p, p->l4_off, h, sizeof h) < 0)
    return -EINVAL;
  uint32_t sum = load_be16(h + UDP_OFF_LEN);
  in->hdr = (struct udp_hdr){
      .sport = load_be16(h), .dport = load_be16(h + 2), .len = (uint16_t)sum, .cksum = load_be16(h + UDP_OFF_CKSUM)};
  if (sum < UDP_HLEN || sum > p->l4_len)
    return -EINVAL;
  in->off = p->l4_off + UDP_HLEN;
  in->len = sum - UDP_HLEN;
  return 0;
}

struct udp_sum {
  cksum_t sum;
  int odd;
};

static int udp_sum_put(void *ctx, const uint8_t *bytes, uint32_t n) {
  struct udp_sum *u = ctx;
  u->sum = cksum_combine(u->sum, cksum_add(0, bytes, n), u->odd);
  u->odd ^= (int)(n & 1u);
  return 0;
}

int udp_cksum_ok(const struct pkt *p, const struct udp_in *in) {
  if (p->flags & (ABI_FR_CSUM_OK | ABI_FR_CSUM_PART))
    return 1;
  if (in->hdr.cksum == 0)
    return p->ip.version == 4; /* RFC 768: none was computed */
  struct udp_in whole = {.off = in->off - UDP_HLEN, .len = in->hdr.len};
  struct udp_sum u = {.sum = cksum_pseudo(&p->ip.src, &p->ip.dst, IP_PROTO_UDP, in->hdr.len)};
  (void)udp_payload(p, &whole, 0, whole.len, udp_sum_put, &u);
  return cksum_fold(u.sum) == 0;
}

int udp_payload(const struct pkt *p, const struct udp_in *in, uint32_t off, uint32_t len,
                int (*put)(void *ctx, const uint8_t *bytes, uint32_t n), void *ctx) {
  uint32_t skip = in->off + off;
  for (uint32_t i = 0; i < p->n_pieces && len != 0; i++) {
    if (skip >= p->piece[i].len) {
      skip -= p->piece[i].len;
      continue;
    }
    uint32_t n = HS_MIN(len, p->piece[i].len - skip);
    int rc = put(ctx, p->piece[i].p + skip, n);
    if (rc != 0)
      return rc;
    len -= n;
    skip = 0;
  }
  return 0;
}

void udp_describe(const struct pkt *p, const struct udp_in *in, uint32_t len, struct abi_dgram *out) {
  *out = (struct abi_dgram){.len = len,
                            .tos = p->ip.tos,
                            .ttl = p->ip.ttl,
                            .port = be16_from(in->hdr.sport),
                            .family = p->ip.version == 4 ? 4 : 6,
                            .ifindex = 1u + p->port};
  memcpy(out->ip, p->ip.src.b, sizeof out->ip);
  memcpy(out->local, p->ip.dst.b, sizeof out->local);
}

void udp_stamp(struct abi_dgram *d, usec_t now) {
  uint32_t low = (uint32_t)now;
  d->flags |= ABI_DGRAM_STAMPED;
  d->seg = (uint16_t)low;
  d->ifindex = (d->ifindex & 0xffffu) | (low & 0xffff0000u);
}

void udp_name_port(struct abi_dgram *d, uint16_t port) {
  d->flags |= ABI_DGRAM_STRAY;
  d->seg = port;
}
