/*
 * A frame being built in the engine: headers grow downwards in one TX slot, payload follows in the slot or refers to a
 * tx fifo. The IP layer prepends its headers and hands it to the frame link.
 */
#ifndef HS_ENGINE_TXF_H
#define HS_ENGINE_TXF_H

#include "abi/frame.h"

#define TXF_HEADROOM    128u /* room kept in front of the L4 header: Ethernet 18 + IPv6 40 with space to spare */
#define TXF_FIFO_PIECES 20

struct txf {
  uint32_t slot;     /* TX slot */
  uint8_t *data;     /* first byte of what is built so far */
  uint32_t len;      /* bytes in the slot from data on */
  uint64_t slot_off; /* offset of the slot in the packet segment */
  uint8_t *slot_base;
  struct {
    uint32_t region;
    uint64_t off;
    uint32_t len;
  } fifo[TXF_FIFO_PIECES]; /* payload by reference */
  uint32_t n_fifo;
  uint32_t fifo_len;
  uint16_t flags, gso_size;
  uint16_t frag_mtu;   /* 0: never cut; else longer datagrams are cut into fragments of at most so many bytes and the
                        * port's MTU. Their checksum must be complete (no CSUM_PART); costs the cached path, so it is set
                        * only where ip_mtu says that it may be needed */
  uint16_t csum_start; /* offset from data; moved as headers are prepended */
  uint8_t csum_off;
  uint8_t port;
  uint8_t vrf; /* of one that is looped back; vrf.c sets it */
};

/** Make room for n bytes in front. Returns the new data pointer. */
static inline uint8_t *txf_push(struct txf *t, uint32_t n) {
  t->data -= n;
  t->len += n;
  t->csum_start = (uint16_t)(t->csum_start + n);
  return t->data;
}

#endif
