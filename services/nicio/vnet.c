/*
 * vnet header translation (vnet.h). Lcore thread, hot path.
 */
#include "vnet.h"

#include "wire/tcp.h"
#include "wire/udp.h"

int vnet_in(const struct virtio_net_hdr *v, struct abi_frame_desc *d, uint32_t len) {
  d->flags = 0;
  d->gso_size = 0;
  d->csum_start = 0;
  d->csum_off = 0;
  if (v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
    if ((uint32_t)v->csum_start + v->csum_offset + 2 > len || v->csum_offset > 255)
      return -1;
    /* the sender shares this machine's memory: the bytes are as it wrote them, only the sum is not finished */
    d->flags = ABI_FR_CSUM_PART | ABI_FR_CSUM_OK;
    d->csum_start = v->csum_start;
    d->csum_off = (uint8_t)v->csum_offset;
  } else if (v->flags & VIRTIO_NET_HDR_F_DATA_VALID) {
    d->flags = ABI_FR_CSUM_OK;
  }
  switch (v->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
  case VIRTIO_NET_HDR_GSO_NONE:
    return 0;
  case VIRTIO_NET_HDR_GSO_TCPV4:
    d->flags |= ABI_FR_GSO_TCP4;
    break;
  case VIRTIO_NET_HDR_GSO_TCPV6:
    d->flags |= ABI_FR_GSO_TCP6;
    break;
  case VIRTIO_NET_HDR_GSO_UDP_L4:
    d->flags |= ABI_FR_GSO_UDP;
    break;
  default:
    return -1;
  }
  d->gso_size = v->gso_size;
  return 0;
}

void vnet_out(struct virtio_net_hdr *v, const struct pkt *p) {
  const uint8_t *l4 = (const uint8_t *)p->iov[0].iov_base + p->csum_start;

  memset(v, 0, sizeof *v);
  if (!(p->flags & ABI_FR_CSUM_PART))
    return;
  v->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  v->csum_start = p->csum_start;
  v->csum_offset = p->csum_off;
  if (!(p->flags & PKT_GSO_ANY))
    return;
  v->gso_size = p->gso_size;
  if (p->flags & ABI_FR_GSO_UDP) {
    v->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
    v->hdr_len = (uint16_t)(p->csum_start + UDP_HLEN);
    return;
  }
  v->gso_type = p->flags & ABI_FR_GSO_TCP4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
  if (l4[TCP_OFF_FLAGS] & TCP_CWR)
    v->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
  v->hdr_len = (uint16_t)(p->csum_start + (l4[12] >> 4) * 4);
}
