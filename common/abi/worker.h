/*
 * A and E segments: what an app worker and the engine share.
 *
 * Each app worker (a process, or a thread that registered) has one A segment, which only the app writes, and one E
 * segment, which only the engine writes (the app's fd is read-only). Both begin with abi_seg_hdr; hdr.geom is a
 * struct abi_worker_geom, the same numbers in both. The lanes: one pair of hint rings per engine worker.
 *
 * A's file may end before its arena does (arena_off + arena_keep): the rest of the arena is address space, in which
 * parts are mapped as they come (ABI_SEG_PART, shm/part.h), and what has no part is zeros for whoever reads it. To
 * offsets, chunks and checks it is one range. Chunks are made only where there is memory, and a place is used only once
 * engine and nicio have it (AddPart, PartMapped in common/ctl/ATTACH.md).
 *
 * A pair segment (cut-through) is laid out as an A segment with one lane; the other app, not the engine, reads it. Its
 * block's epoch_seen counts the listeners that went, pid is 0 until its app has it.
 */
#ifndef HS_ABI_WORKER_H
#define HS_ABI_WORKER_H

#include "abi/ring.h"
#include "abi/seg.h"
#include "abi/session.h"

#define ABI_LANES_MAX 8u /* engine workers */

/** hdr.geom of an A or E segment. Offsets from the start of that segment. All 16 words are used or zero. */
struct abi_worker_geom {
  uint64_t worker_id; /* unique on this host while it lives; never 0 */
  uint64_t app_id;
  uint64_t n_slots;     /* session slots, 1 … 2^20 */
  uint64_t n_slots_app; /* slots [0, n) are the app's to allocate, [n, n_slots) the engine's */
  uint64_t n_lanes;     /* lanes that there is room for, 1 … ABI_LANES_MAX */
  uint64_t ring_cap;    /* entries of each hint ring, a power of two ≥ n_slots */
  uint64_t block_off;   /* struct abi_worker_app / abi_worker_engine */
  uint64_t rings_off;   /* n_lanes × ring_cap × uint32_t: the rings that this side produces */
  uint64_t slots_off;   /* n_slots × 512 bytes */
  uint64_t locks_off;   /* A only: the library's own locks and descriptor table; no service reads it */
  uint64_t locks_size;
  uint64_t arena_off;  /* chunks; multiple of ABI_CHUNK_MAX */
  uint64_t arena_size; /* multiple of ABI_CHUNK_MAX */
  uint64_t arena_keep; /* bytes of chunk memory that stay once touched (segment-size): A's are in its file, … */
  uint64_t arena_step; /* … in steps of which there is more while it is needed (add-segment-size), A's as parts; 0 = no
                          more */
  uint64_t meant_off;  /* E only: n_slots × struct abi_endpoint, where connects of ABI_SE_REDIRECTED were meant to go:
                        * both ends' slots, stored before the flag; 0 = a broker without them */
};
_Static_assert(sizeof(struct abi_worker_geom) == 128, "worker geometry fills hdr.geom");

/** One lane of the app's block: its side of both rings towards one engine worker. */
struct abi_lane_app {
  struct abi_ring_prod to_engine;
  struct abi_ring_cons from_engine;
};

/** A segment, at block_off. One writer: the app. */
struct abi_worker_app {
  uint32_t epoch_seen;     /* atomic: engine epoch whose rescan the app has done */
  uint32_t pid;            /* as the app sees itself; for tools only */
  uint32_t slots_high;     /* atomic: app slots [0, high) were ever used; raised before a slot's first `op` */
  uint32_t sockets_stack;  /* sockets of this worker so far that are the stack's: opened and accepted; for tools … */
  uint32_t sockets_kernel; /* … and those that the preload shim left to the kernel or moved there */
  uint32_t dgrams_lost;    /* datagrams sent by cut-through that found no room at their receiver; for tools */
  uint32_t reserved[10];
  struct abi_lane_app lane[ABI_LANES_MAX];
};

/** One lane of the engine's block. */
struct abi_lane_engine {
  struct abi_ring_prod to_app;
  struct abi_ring_cons from_app;
};

enum abi_worker_state { /* abi_worker_engine.state */
                        ABI_WORKER_NEW = 0,
                        ABI_WORKER_LIVE = 1,     /* the engine serves this worker */
                        ABI_WORKER_DETACHED = 2, /* the engine found a lie and let go: `why` */
};

/** E segment, at block_off. One writer: the engine. */
struct abi_worker_engine {
  uint32_t epoch;      /* atomic: grows by one with each engine that adopts this worker; stored before its rescan */
  uint32_t state;      /* atomic: enum abi_worker_state */
  uint32_t why;        /* errno-like reason of DETACHED */
  uint32_t slots_high; /* atomic: engine slots [n_slots_app, high) were ever used; 0 = none */
  uint32_t lanes_used; /* atomic: lanes [0, n) have an engine worker; stored before `epoch`; 0 counts as 1 */
  uint32_t reserved[11];
  struct abi_lane_engine lane[ABI_LANES_MAX];
};
_Static_assert(sizeof(struct abi_worker_app) == 64 + 8 * 128, "app block");
_Static_assert(sizeof(struct abi_worker_engine) == 64 + 8 * 128, "engine block");

#endif
