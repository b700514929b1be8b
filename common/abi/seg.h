/*
 * Segment header: the first 256 bytes of every shared segment, and the one way from an offset to an address.
 *
 * A segment is a sealed memfd that the broker creates. The header is written once, by the broker, before anybody else
 * sees the segment; `state` becomes READY last. Whoever attaches copies the header, checks the copy, and never reads
 * geometry from shared memory again (ARCHITECTURE section 6). Any thread; no functions but offset helpers.
 */
#ifndef HS_ABI_SEG_H
#define HS_ABI_SEG_H

#include "base/bytes.h"

#define ABI_MAGIC 0x4b43545354534f48ull /* "HOSTSTCK" in memory order */
#define ABI_MAJOR 3                     /* layouts differ: attach is refused */
#define ABI_MINOR 2                     /* fields were added in reserved room */

#define ABI_CACHE_LINE 64u
#define ABI_SEG_NONE   0xffffffffu

enum abi_seg_kind { /* stored as uint32_t */
                    ABI_SEG_FREE = 0,
                    ABI_SEG_REGISTRY = 1, /* broker writes: apps, workers, vault states (abi/registry.h) */
                    ABI_SEG_POLICY = 2,   /* broker writes, engine reads: listeners (abi/policy.h) */
                    ABI_SEG_PACKET = 3,   /* nicio and engine: frames and frame rings (abi/frame.h) */
                    ABI_SEG_TCB = 4,      /* engine writes, api reads: durable halves (abi/tcb.h) */
                    ABI_SEG_STATS = 5,    /* one service writes, api reads (abi/stats.h) */
                    ABI_SEG_ENGINE = 6,   /* an app worker's E segment: engine writes, app reads (abi/worker.h) */
                    ABI_SEG_APP = 7, /* an app worker's A segment: app writes, engine and nicio read (abi/worker.h) */
                    ABI_SEG_PAIR =
                        8, /* one side of two paired workers: one app writes, the other reads (abi/worker.h) */
                    ABI_SEG_RULES = 9, /* broker writes, engine reads: session rules (abi/rules.h) */
                    ABI_SEG_PART =
                        10, /* more of an A segment's arena: bytes and nothing else, no header (abi/worker.h) */
};

enum abi_seg_state { ABI_SEG_INIT = 0, ABI_SEG_READY = 0x52454459 /* "REDY" */ };

/** The fixed start of a segment. One writer: the broker, before the segment is handed out. */
struct abi_seg_hdr {
  uint64_t magic;       /* ABI_MAGIC */
  uint32_t kind;        /* enum abi_seg_kind */
  uint16_t major;       /* ABI_MAJOR */
  uint16_t minor;       /* ABI_MINOR of the creator */
  uint64_t size;        /* bytes of the whole segment, a multiple of 4096 */
  uint64_t id;          /* unique on this host while it exists; never 0 */
  uint64_t created_us;  /* wall clock, microseconds since 1970 */
  uint32_t creator_pid; /* of the broker that made it */
  uint32_t state;       /* enum abi_seg_state, atomic, stored last */
  uint64_t geom[16];    /* meaning per kind: struct abi_*_geom, copied at attach */
  uint8_t reserved[80];
};
_Static_assert(sizeof(struct abi_seg_hdr) == 256, "segment header");

/** Address of [off, off+len) inside a mapped segment of `size` bytes, or NULL when any byte of it lies outside. */
static inline void *abi_seg_at(void *base, uint64_t size, shm_off_t off, uint64_t len) {
  if (off > size || len > size - off)
    return (void *)0;
  return (uint8_t *)base + off;
}

#endif
