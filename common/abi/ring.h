/*
 * Hint ring: "look at session N". Single producer, single consumer, across the page-table border.
 *
 * The producer's words and the entries lie in the producer's segment, the consumer's words in the consumer's. Indices
 * run free modulo 2^32; capacity is a power of two, at least the number of session slots of the worker, and a session
 * is in the ring at most once (session half: hint_pos), so the ring never overflows.
 *
 * Sleeping: only the consumer writes `armed`. Consumer: armed = 1; full fence; look again; sleep. Producer: entry; tail
 * (release); full fence; if armed, ring the bell, once per burst. A ring carries hints, never facts: losing all entries
 * and rescanning the session halves gives the same state.
 */
#ifndef HS_ABI_RING_H
#define HS_ABI_RING_H

#include "base/bytes.h"

/** Producer's line. */
struct abi_ring_prod {
  uint32_t tail; /* atomic: entries published */
  uint32_t reserved[15];
};

/** Consumer's line. */
struct abi_ring_cons {
  uint32_t head;        /* atomic: entries taken; stored before the entry's session is looked at */
  uint32_t armed;       /* atomic: 1 = ring the bell after publishing */
  uint32_t late_wakeup; /* times work was found at the sleep ceiling: must stay 0 */
  uint32_t reserved[13];
};

_Static_assert(sizeof(struct abi_ring_prod) == 64, "producer line");
_Static_assert(sizeof(struct abi_ring_cons) == 64, "consumer line");

#endif
