/*
 * TX queue of a port and the check of descriptors (txq.h). Lcore thread, hot path.
 */
#include "txq.h"

#include "wire/tcp.h"
#include "wire/udp.h"

#define TXQ_MASK (TXQ_CAP - 1u)

uint32_t txq_pieces(const struct abi_frame_desc *d, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!(d[i].flags & ABI_FR_CHAIN))
      return i + 1;
  return n;
}

/** One piece: its bytes lie in the TX region, or in an A segment, which is looked up when it is sent. */
static int txq_check_piece(const struct abi_frame_desc *d, const struct frame_seg *fs) {
  uint64_t lo = fs->geom.tx_off, hi = lo + fs->geom.n_tx * ABI_SLOT_SIZE;

  if (d->len == 0 || d->len > PKT_LEN_MAX)
    return -__LINE__;
  if (d->region == ABI_REGION_PACKET && (d->off < lo || d->off > hi || d->len > hi - d->off))
    return -__LINE__;
  if (d->flags & ABI_FR_NO_SLOT)
    return 0;
  return d->slot < fs->geom.n_tx ? 0 : -__LINE__;
}

/** Offload words of the first piece. All headers must lie in it. */
static int txq_check_offload(const struct abi_frame_desc *d, const struct frame_seg *fs) {
  uint32_t gso = d->flags & PKT_GSO_ANY;

  if (!(d->flags & ABI_FR_CSUM_PART))
    return gso ? -__LINE__ : 0;
  if (d->csum_start < PKT_LEN_MIN || (uint32_t)d->csum_start + d->csum_off + 2 > d->len)
    return -__LINE__;
  if (!gso)
    return 0;
  if (d->gso_size == 0 || (gso & (gso - 1)) || d->region != ABI_REGION_PACKET)
    return -__LINE__;
  if (gso == ABI_FR_GSO_UDP)
    return d->csum_off == UDP_OFF_CKSUM && d->csum_start + UDP_HLEN <= d->len ? 0 : -__LINE__;
  if (d->csum_off != TCP_OFF_CKSUM || d->csum_start + TCP_HLEN > d->len)
    return -__LINE__;
  uint32_t doff = (uint32_t)(fs->seg->base[d->off + d->csum_start + 12] >> 4) * 4;
  return doff >= TCP_HLEN && d->csum_start + doff <= d->len && d->csum_start + doff <= PKT_HEAD_MAX ? 0 : -__LINE__;
}

int txq_check(const struct abi_frame_desc *d, uint32_t n, const struct frame_seg *fs) {
  uint64_t total = 0;

  if (n == 0 || n > PKT_IOV_MAX || (d[n - 1].flags & ABI_FR_CHAIN))
    return -__LINE__;
  for (uint32_t i = 0; i < n; i++) {
    int rc = txq_check_piece(&d[i], fs);
    if (rc < 0)
      return rc;
    total += d[i].len;
  }
  if (total > PKT_LEN_MAX || d[0].len < PKT_LEN_MIN)
    return -__LINE__;
  return txq_check_offload(d, fs);
}

void txq_push(struct txq *q, uint32_t link, const struct abi_frame_desc *d, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    struct abi_frame_desc *to = &q->d[(q->tail + i) & TXQ_MASK];
    *to = d[i];
    to->tag = link;
  }
  q->tail += n;
}

static void txq_resolve(const struct abi_frame_desc *d, struct pkt *p, const struct frame_seg *fs,
                        const struct regions *rg) {
  const uint8_t *at =
      d->region == ABI_REGION_PACKET ? fs->seg->base + d->off : region_at(rg, d->region, d->off, d->len);

  if (at == NULL || p->n == PKT_IOV_MAX) {
    p->pad = 1;
    return;
  }
  p->iov[p->n].iov_base = (void *)(uintptr_t)at;
  p->iov[p->n].iov_len = d->len;
  p->n++;
  p->len += d->len;
}

uint32_t txq_peek(const struct txq *q, const struct frame_seg *fs, const struct regions *rg, struct pkt *pk,
                  uint32_t max) {
  uint32_t at = q->head, n = 0;

  while (n < max && at != q->tail) {
    const struct abi_frame_desc *d = &q->d[at & TXQ_MASK];
    struct pkt *p = &pk[n++];
    p->len = 0;
    p->n = 0;
    p->pad = 0;
    p->flags = d->flags;
    p->gso_size = d->gso_size;
    p->csum_start = d->csum_start;
    p->csum_off = d->csum_off;
    p->port = d->port;
    p->link = (uint8_t)d->tag;
    for (;;) {
      d = &q->d[at++ & TXQ_MASK];
      txq_resolve(d, p, fs, rg);
      if (!(d->flags & ABI_FR_CHAIN) || at == q->tail)
        break;
    }
    if (p->pad)
      p->len = 0;
  }
  return n;
}

void txq_pop(struct txq *q, struct links *ls, uint32_t n) {
  while (n > 0 && q->head != q->tail) {
    const struct abi_frame_desc *d = &q->d[q->head++ & TXQ_MASK];
    if (!(d->flags & ABI_FR_NO_SLOT))
      link_tx_done(ls, d->tag, d->slot);
    n -= d->flags & ABI_FR_CHAIN ? 0u : 1u;
  }
}

void txq_purge(struct txq *q, uint32_t link) {
  uint32_t to = q->head;

  for (uint32_t at = q->head; at != q->tail; at++)
    if (q->d[at & TXQ_MASK].tag != link)
      q->d[to++ & TXQ_MASK] = q->d[at & TXQ_MASK];
  q->tail = to;
}
