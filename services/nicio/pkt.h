/*
 * A frame on its way out, or under the eyes of a test stage: where its bytes lie and what is to be finished.
 *
 * Made by txq.c from checked descriptors, or by rx stages from RX slots; consumed by port_*.c, gso.c, csum.c,
 * capture.c and impair.c. The bytes are not owned: they lie in the packet segment, in a worker's A segment, or in a
 * buffer of the impairment stage. Lcore thread only.
 */
#ifndef NICIO_PKT_H
#define NICIO_PKT_H

#include "abi/frame.h"

#include <stddef.h>
#include <sys/uio.h>

#define PKT_IOV_MAX  36u            /* pieces of one frame: header, 16 fifo chunks cut twice, and some */
#define PKT_LEN_MAX  (65535u + 64u) /* abi/frame.h: bytes of a whole frame */
#define PKT_LEN_MIN  14u            /* an Ethernet header */
#define PKT_HEAD_MAX 256u           /* headers that gso.c looks at */
#define PKT_GSO_ANY  (ABI_FR_GSO_TCP4 | ABI_FR_GSO_TCP6 | ABI_FR_GSO_UDP)

struct pkt {
  uint32_t len; /* of all pieces */
  uint16_t n;   /* pieces in iov */
  uint16_t flags;
  uint16_t gso_size;
  uint16_t csum_start;
  uint8_t csum_off;
  uint8_t port;
  uint8_t link; /* TX: whose slots these are */
  uint8_t pad;
  struct iovec iov[PKT_IOV_MAX];
};

/** A flat frame of one piece. */
static inline void pkt_flat(struct pkt *p, void *data, uint32_t len) {
  memset(p, 0, offsetof(struct pkt, iov));
  p->len = len;
  p->n = 1;
  p->iov[0].iov_base = data;
  p->iov[0].iov_len = len;
}

/** Copy [off, off+len) of the frame; returns bytes copied, fewer at its end. */
uint32_t pkt_copy(const struct pkt *p, uint32_t off, void *dst, uint32_t len);

#endif
