/*
 * Worker segments: geometry and checked access to the halves of a session (abi/worker.h, abi/session.h).
 *
 * Used by the broker (make), the engine and the library (attach). All pointers are computed once at attach from the
 * copied geometry; a slot number from the peer goes through worker_view_app()/worker_view_engine(), which check it.
 */
#ifndef HS_SHM_SESSION_H
#define HS_SHM_SESSION_H

#include "abi/worker.h"
#include "shm/seg.h"

/** Both segments of one worker, as one process maps them. */
struct worker_view {
  struct seg seg_a, seg_e;
  struct abi_worker_geom ga, ge; /* checked copies */
  struct abi_worker_app *app;
  struct abi_worker_engine *engine;     /* NULL: the segments are a pair's */
  const struct abi_worker_app *partner; /* the other app's block; NULL: the segments are a worker's */
};

/** Geometry of an A (kind ABI_SEG_APP) or E segment for n_slots sessions and an arena of arena_size bytes. Returns the
 * segment size. */
uint64_t worker_geom_make(struct abi_worker_geom *g, uint32_t kind, uint64_t worker_id, uint64_t app_id,
                          uint32_t n_slots, uint32_t n_lanes, uint64_t arena_size);
/** Take over both fds, map (rw_a / rw_e), check that the geometries belong together. 0 or -EPROTO with *why, -errno. */
int worker_view_open(struct worker_view *v, int fd_a, int rw_a, int fd_e, int rw_e, const char **why);
void worker_view_close(struct worker_view *v);
/** Geometry of one side of a pair: as an A segment with one lane, whose slots are all the connecting side's to
 * allocate. Returns the segment size. */
uint64_t worker_pair_geom(struct abi_worker_geom *g, uint64_t pair_id, uint32_t n_slots, uint64_t arena_size);
/** Take over both fds of a pair: ours is mapped writable, the other app's read-only; `engine` stays NULL. */
int worker_pair_open(struct worker_view *v, int fd_mine, int fd_theirs, const char **why);

static inline struct abi_sess_app *worker_view_app(const struct worker_view *v, uint32_t slot) {
  if (slot >= v->ga.n_slots)
    return (struct abi_sess_app *)0;
  return (struct abi_sess_app *)(void *)(v->seg_a.base + v->ga.slots_off) + slot;
}
static inline struct abi_sess_engine *worker_view_engine(const struct worker_view *v, uint32_t slot) {
  if (slot >= v->ge.n_slots)
    return (struct abi_sess_engine *)0;
  return (struct abi_sess_engine *)(void *)(v->seg_e.base + v->ge.slots_off) + slot;
}
/** Where the connect of a slot was meant to go, if it has ABI_SE_REDIRECTED; NULL: this broker has no room for it. */
static inline struct abi_endpoint *worker_view_meant(const struct worker_view *v, uint32_t slot) {
  if (v->engine == (void *)0 || v->ge.meant_off == 0 || slot >= v->ge.n_slots)
    return (struct abi_endpoint *)0;
  return (struct abi_endpoint *)(void *)(v->seg_e.base + v->ge.meant_off) + slot;
}
/** The other app's half of a pair's slot. */
static inline const struct abi_sess_app *worker_view_partner(const struct worker_view *v, uint32_t slot) {
  if (slot >= v->ge.n_slots)
    return (const struct abi_sess_app *)0;
  return (const struct abi_sess_app *)(void *)(v->seg_e.base + v->ge.slots_off) + slot;
}
/** Entries of the ring that the A (or E) side produces towards lane `lane`. */
uint32_t *worker_view_ring_app(const struct worker_view *v, uint32_t lane);
uint32_t *worker_view_ring_engine(const struct worker_view *v, uint32_t lane);

#endif
