/*
 * Software GSO (gso.h). RFC 9293, 791, 8200, 768, 1071. Lcore thread, hot path.
 */
#include "gso.h"

#include "base/bits.h"
#include "wire/cksum.h"
#include "wire/ip.h"
#include "wire/tcp.h"
#include "wire/udp.h"

/** The header of a frame to be cut is copied once and checked in the copy: the engine could change it meanwhile. */
static int gso_init_cut(struct gso *g) {
  const struct pkt *p = g->p;
  uint32_t have = pkt_copy(p, 0, g->head, HS_MIN(p->len, PKT_HEAD_MAX));

  if (hdrs_parse(g->head, have, &g->h) < 0 || p->gso_size == 0)
    return -1;
  uint32_t ip_min = g->h.version == 4 ? IP4_HLEN : IP6_HLEN;
  if (p->csum_start < g->h.l3 + ip_min || p->csum_start + TCP_HLEN > have)
    return -1;
  g->l4 = p->csum_start;
  if (p->flags & ABI_FR_GSO_UDP)
    g->hdr_len = g->l4 + UDP_HLEN;
  else
    g->hdr_len = g->l4 + (uint32_t)(g->head[g->l4 + 12] >> 4) * 4;
  if (g->hdr_len > have || (!(p->flags & ABI_FR_GSO_UDP) && g->hdr_len < g->l4 + TCP_HLEN))
    return -1;
  int v6 = g->h.version == 6;
  if (((p->flags & ABI_FR_GSO_TCP4) && v6) || ((p->flags & ABI_FR_GSO_TCP6) && !v6))
    return -1;
  g->payload = p->len - g->hdr_len;
  return 0;
}

/** Move the cursor to byte `off` of the frame. */
static void gso_seek(struct gso *g, uint32_t off) {
  g->iov_at = 0;
  while (g->iov_at < g->p->n && off >= g->p->iov[g->iov_at].iov_len)
    off -= (uint32_t)g->p->iov[g->iov_at++].iov_len;
  g->iov_off = off;
}

int gso_init(struct gso *g, const struct pkt *p) {
  memset(g, 0, offsetof(struct gso, head));
  g->p = p;
  if (!(p->flags & PKT_GSO_ANY) || !(p->flags & ABI_FR_CSUM_PART)) {
    if ((p->flags & ABI_FR_CSUM_PART) && (uint32_t)p->csum_start + p->csum_off + 2 > p->len)
      return -1;
    return 0;
  }
  if (gso_init_cut(g) < 0)
    return -1;
  gso_seek(g, g->hdr_len);
  return 0;
}

uint32_t gso_longest(const struct gso *g) {
  return g->hdr_len == 0 ? g->p->len : g->hdr_len + HS_MIN(g->payload, (uint32_t)g->p->gso_size);
}

/** Copy the next n bytes of the frame to dst and add them to *sum; the first of them counts as even. */
static void gso_copy(struct gso *g, uint8_t *dst, uint32_t n, cksum_t *sum) {
  uint32_t done = 0;

  while (done < n && g->iov_at < g->p->n) {
    const struct iovec *v = &g->p->iov[g->iov_at];
    uint32_t take = HS_MIN(n - done, (uint32_t)v->iov_len - g->iov_off);
    const uint8_t *src = (const uint8_t *)v->iov_base + g->iov_off;
    if (sum == NULL)
      memcpy(dst + done, src, take);
    else
      *sum = cksum_combine(*sum, cksum_copy(dst + done, src, take, 0), done & 1);
    done += take;
    g->iov_off += take;
    if (g->iov_off == v->iov_len) {
      g->iov_at++;
      g->iov_off = 0;
    }
  }
}

/** UDP sends a computed 0 as ffff (RFC 768). */
static void gso_store_sum(uint8_t *field, cksum_t sum, int udp) {
  uint16_t v = cksum_fold(sum);
  cksum_store(field, udp && v == 0 ? 0xffff : v);
}

/** The whole frame, its checksum finished: the field holds the sum of the pseudo-header. */
static int gso_whole(struct gso *g, uint8_t *dst, uint32_t room) {
  const struct pkt *p = g->p;
  cksum_t sum = 0;

  if (g->count > 0)
    return 0;
  if (p->len > room)
    return -1;
  g->count = 1;
  gso_seek(g, 0);
  if (!(p->flags & ABI_FR_CSUM_PART)) {
    gso_copy(g, dst, p->len, NULL);
    return (int)p->len;
  }
  gso_copy(g, dst, p->csum_start, NULL);
  gso_copy(g, dst + p->csum_start, p->len - p->csum_start, &sum);
  gso_store_sum(dst + p->csum_start + p->csum_off, sum, p->csum_off == UDP_OFF_CKSUM);
  return (int)p->len;
}

static void gso_fix_ip(const struct gso *g, uint8_t *dst, uint32_t total) {
  uint8_t *ip = dst + g->h.l3;

  if (g->h.version == 4) {
    ip_hdr_set_len(ip, total - g->h.l3, (uint16_t)(load_be16(g->head + g->h.l3 + 4) + g->count));
    return;
  }
  store_be16(ip + 4, (uint16_t)(total - g->h.l3 - IP6_HLEN));
}

static cksum_t gso_pseudo(const struct gso *g, uint32_t l4_len) {
  const uint8_t *ip = g->head + g->h.l3;
  uint8_t proto = g->p->flags & ABI_FR_GSO_UDP ? IP_PROTO_UDP : IP_PROTO_TCP;

  if (g->h.version == 4)
    return cksum_pseudo4(load_be32(ip + 12), load_be32(ip + 16), proto, l4_len);
  struct ip_addr src = ip_addr_load6(ip + 8), dst = ip_addr_load6(ip + 24);
  return cksum_pseudo6(&src, &dst, proto, l4_len);
}

int gso_next(struct gso *g, uint8_t *dst, uint32_t room) {
  if (g->hdr_len == 0)
    return gso_whole(g, dst, room);
  if (g->off >= g->payload && g->count > 0)
    return 0;
  uint32_t n = HS_MIN(g->payload - g->off, (uint32_t)g->p->gso_size);
  uint32_t total = g->hdr_len + n, l4_len = total - g->l4;
  int last = g->off + n == g->payload, udp = (g->p->flags & ABI_FR_GSO_UDP) != 0;
  cksum_t sum = 0;

  if (total > room)
    return -1;
  memcpy(dst, g->head, g->hdr_len);
  gso_copy(g, dst + g->hdr_len, n, &sum);
  gso_fix_ip(g, dst, total);
  uint8_t *l4 = dst + g->l4;
  if (udp) {
    store_be16(l4 + UDP_OFF_LEN, (uint16_t)l4_len);
  } else {
    store_be32(l4 + TCP_OFF_SEQ, load_be32(l4 + TCP_OFF_SEQ) + g->off);
    if (!last)
      l4[TCP_OFF_FLAGS] = (uint8_t)(l4[TCP_OFF_FLAGS] & ~(TCP_FIN | TCP_PSH));
    if (g->count > 0)
      l4[TCP_OFF_FLAGS] = (uint8_t)(l4[TCP_OFF_FLAGS] & ~TCP_CWR);
  }
  uint8_t *field = l4 + (udp ? UDP_OFF_CKSUM : TCP_OFF_CKSUM);
  cksum_store(field, 0);
  sum = cksum_join(sum, cksum_add(gso_pseudo(g, l4_len), l4, g->hdr_len - g->l4));
  gso_store_sum(field, sum, udp);
  g->off += n;
  g->count++;
  return (int)total;
}
