/*
 * Capture: from the lcore to a pcapng file. The lcore copies frames into a bounded ring and never waits; the control
 * thread takes them out and writes the file. What does not fit is lost and counted. One ring per capture, SPSC.
 */
#ifndef NICIO_CAPTURE_H
#define NICIO_CAPTURE_H

#include "base/bytes.h"
#include "base/err.h"
#include "pkt.h"

#define CAPTURE_RING_BYTES (8u << 20)
#define CAPTURE_IN         0
#define CAPTURE_OUT        1

/** One record in the ring; caplen bytes follow, padded to 8. */
struct capture_rec {
  uint64_t wall_us;
  uint32_t caplen, origlen;
  uint32_t port;
  uint32_t dir; /* CAPTURE_IN, CAPTURE_OUT */
};

struct capture_ring;

/** NULL without memory. bytes: a power of two. */
struct capture_ring *capture_new(uint32_t bytes);
void capture_free(struct capture_ring *r);
/** Lcore: copy at most snaplen bytes of the frame; counts a loss when the ring is full. */
void capture_put(struct capture_ring *r, const struct pkt *p, uint32_t port, uint32_t dir, uint32_t snaplen,
                 uint64_t wall_us);
/** Control thread: next record; its bytes go to buf (caplen ≤ room always holds for room ≥ PKT_LEN_MAX). 1, or 0 when
 * the ring is empty. */
int capture_get(struct capture_ring *r, struct capture_rec *rec, uint8_t *buf, uint32_t room);
uint64_t capture_lost(const struct capture_ring *r);

#endif
