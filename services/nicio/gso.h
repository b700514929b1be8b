/*
 * Software GSO and checksum completion: a frame in pieces → wire packets in flat buffers.
 *
 * TCP over IPv4 and IPv6 and UDP are cut into gso_size segments: IPv4 id counts up, FIN and PSH only on the last, CWR
 * only on the first (RFC 3168 6.1.2), lengths and checksums computed anew while the payload is copied. A frame without
 * GSO comes out whole, its partial checksum finished. Used by port_ethdev.c for devices that lack it and by impair.c.
 * Lcore thread, hot path.
 */
#ifndef NICIO_GSO_H
#define NICIO_GSO_H

#include "hdrs.h"
#include "pkt.h"

struct gso {
  const struct pkt *p;
  struct hdrs h;
  uint32_t l4;              /* offset of the TCP or UDP header */
  uint32_t hdr_len;         /* bytes repeated in each segment; 0 = the frame is not cut */
  uint32_t payload;         /* bytes behind the header */
  uint32_t off;             /* payload bytes done */
  uint32_t count;           /* segments made */
  uint32_t iov_at, iov_off; /* cursor in the frame's pieces */
  uint8_t head[PKT_HEAD_MAX];
};

/** 0, or -1 when the headers do not fit the offload words (the frame is to be dropped). */
int gso_init(struct gso *g, const struct pkt *p);
/** Write the next wire packet to dst. Returns its length, 0 after the last, -1 when it needs more than room. */
int gso_next(struct gso *g, uint8_t *dst, uint32_t room);
/** Length of the longest wire packet that will come out. */
uint32_t gso_longest(const struct gso *g);

#endif
