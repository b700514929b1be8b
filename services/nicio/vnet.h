/*
 * The vnet header (struct virtio_net_hdr, 10 bytes, host byte order) that the kernel puts before each frame of an
 * AF_PACKET socket or a tap, to and from the words of a frame descriptor. Linux virtio_net.h; virtio 1.2, 5.1.6.
 * Pure functions, lcore thread, hot path.
 */
#ifndef NICIO_VNET_H
#define NICIO_VNET_H

#include "pkt.h"

#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/** Header → flags, gso and csum words of d (first descriptor of a frame of `len` bytes). 0, or -1 when it points
 * outside the frame. */
int vnet_in(const struct virtio_net_hdr *v, struct abi_frame_desc *d, uint32_t len);
/** Frame → header. The frame was checked by txq.c: csum words inside the first piece. */
void vnet_out(struct virtio_net_hdr *v, const struct pkt *p);

#endif
