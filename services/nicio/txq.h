/*
 * TX queue of a port: descriptors that were copied out of the link's ring and checked, waiting for the device.
 *
 * A descriptor from the engine is a claim. txq_check looks at a copy of each frame: lengths, bounds inside the TX
 * region, header bytes in the first piece, sane offload words; what fails is dropped and counted, its slots go home.
 * Addresses in A segments are looked up only when the frame is about to be sent, so that a segment may go away while
 * frames wait. Lcore thread, hot path.
 */
#ifndef NICIO_TXQ_H
#define NICIO_TXQ_H

#include "link.h"
#include "pkt.h"
#include "region.h"

#define TXQ_CAP   1024u /* descriptors; a power of two */
#define TXQ_BURST 32u   /* frames offered to a device at a time */

struct txq {
  struct abi_frame_desc d[TXQ_CAP]; /* tag holds the link's number */
  uint32_t head, tail;
};

static inline uint32_t txq_room(const struct txq *q) {
  return TXQ_CAP - (q->tail - q->head);
}
static inline int txq_empty(const struct txq *q) {
  return q->head == q->tail;
}

/** Pieces of the first frame in d[0..n): up to and including the one without CHAIN; n when none ends. */
uint32_t txq_pieces(const struct abi_frame_desc *d, uint32_t n);
/** Whether the n pieces of one frame make sense. Returns 0 or a negative line number. `link_slots` is how many TX
 * slots each link has. */
int txq_check(const struct abi_frame_desc *d, uint32_t n, const struct frame_seg *fs);
/** Append a checked frame; the caller made sure of room. */
void txq_push(struct txq *q, uint32_t link, const struct abi_frame_desc *d, uint32_t n);
/** Addresses of the next frames, at most max ≤ TXQ_BURST, without taking them. A frame whose segment is gone has len
 * 0: the caller drops it. Returns frames. */
uint32_t txq_peek(const struct txq *q, const struct frame_seg *fs, const struct regions *rg, struct pkt *pk,
                  uint32_t max);
/** Take n frames off the queue; their TX slots go home. */
void txq_pop(struct txq *q, struct links *ls, uint32_t n);
/** Forget the frames of one link; its engine is dead, so no slot goes home. */
void txq_purge(struct txq *q, uint32_t link);

#endif
