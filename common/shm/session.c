/*
 * Worker segments: default geometry, and opening both segments of a worker with every number checked (shm/session.h).
 *
 * Called by the broker (make), the engine and the library (open); never on the hot path. A geometry is 16 words of a
 * header that an app may have written over since the broker made it: only the copy in struct seg is looked at.
 */
#include "shm/session.h"

#include "base/bits.h"
#include "base/err.h"
#include "shm/arena.h"
#include "shm/part.h"

#define WORKER_LOCKS     (64u * 1024u) /* bytes for the library's own tables, before the arena's book-keeping */
#define WORKER_BLOCK_OFF 4096u
#define WORKER_SLOTS_MAX (1u << 20)
#define WORKER_SLOT      512u
#define WORKER_ARENA_MAX (1ull << 40) /* bytes; broker.arena-size goes no further */

uint64_t worker_geom_make(struct abi_worker_geom *g, uint32_t kind, uint64_t worker_id, uint64_t app_id,
                          uint32_t n_slots, uint32_t n_lanes, uint64_t arena_size) {
  uint64_t off = WORKER_BLOCK_OFF;
  memset(g, 0, sizeof *g);
  g->worker_id = worker_id;
  g->app_id = app_id;
  g->n_slots = n_slots;
  g->n_slots_app = HS_MAX(n_slots / 2, 1u);
  g->n_lanes = n_lanes;
  g->ring_cap = bits_pow2_up(n_slots);
  g->block_off = off;
  off += kind == ABI_SEG_APP ? sizeof(struct abi_worker_app) : sizeof(struct abi_worker_engine);
  g->rings_off = off = bits_align_up(off, ABI_CACHE_LINE);
  off += n_lanes * g->ring_cap * sizeof(uint32_t);
  g->slots_off = off = bits_align_up(off, 4096);
  off += (uint64_t)n_slots * WORKER_SLOT;
  if (kind == ABI_SEG_ENGINE) {
    g->meant_off = off;
    off += (uint64_t)n_slots * sizeof(struct abi_endpoint);
  }
  g->arena_size = bits_align_up(arena_size, ABI_CHUNK_MAX);
  if (kind == ABI_SEG_APP) {
    g->locks_off = off = bits_align_up(off, 4096);
    g->locks_size = bits_align_up(WORKER_LOCKS + arena_meta_size(g->arena_size), 4096);
    off += g->locks_size;
  }
  g->arena_off = bits_align_up(off, ABI_CHUNK_MAX);
  return g->arena_off + g->arena_size;
}

/** Whether [off, off+len) with this alignment lies inside the segment, past the header. */
static int worker_area_ok(const struct seg *s, uint64_t off, uint64_t len, uint64_t align) {
  return off % align == 0 && off >= sizeof(struct abi_seg_hdr) && seg_at(s, off, len) != NULL;
}

/** NULL, or which number of a geometry is wrong. All products stay far below 2^64. */
static const char *worker_geom_wrong(const struct seg *s, const struct abi_worker_geom *g, uint64_t block_size) {
  if (g->worker_id == 0)
    return "worker_id";
  if (g->n_slots == 0 || g->n_slots > WORKER_SLOTS_MAX || g->n_slots_app > g->n_slots)
    return "n_slots";
  if (g->n_lanes == 0 || g->n_lanes > ABI_LANES_MAX)
    return "n_lanes";
  if (!bits_is_pow2(g->ring_cap) || g->ring_cap < g->n_slots || g->ring_cap > WORKER_SLOTS_MAX)
    return "ring_cap";
  if (!worker_area_ok(s, g->block_off, block_size, ABI_CACHE_LINE))
    return "block_off";
  if (!worker_area_ok(s, g->rings_off, g->n_lanes * g->ring_cap * sizeof(uint32_t), ABI_CACHE_LINE))
    return "rings_off";
  if (!worker_area_ok(s, g->slots_off, g->n_slots * WORKER_SLOT, ABI_CACHE_LINE))
    return "slots_off";
  if (s->kind == ABI_SEG_ENGINE && g->meant_off != 0 &&
      !worker_area_ok(s, g->meant_off, g->n_slots * sizeof(struct abi_endpoint), ABI_CACHE_LINE))
    return "meant_off";
  if (s->kind != ABI_SEG_ENGINE && !worker_area_ok(s, g->locks_off, g->locks_size, ABI_CACHE_LINE))
    return "locks_off";
  if (g->arena_size == 0 || g->arena_size % ABI_CHUNK_MAX != 0 || g->arena_size > WORKER_ARENA_MAX)
    return "arena_size";
  /* of an A segment the rest of the arena may be parts' (shm/part.h) */
  uint64_t here =
      s->kind == ABI_SEG_APP && g->arena_off <= s->size ? HS_MIN(g->arena_size, s->size - g->arena_off) : g->arena_size;
  if (!worker_area_ok(s, g->arena_off, here, ABI_CHUNK_MAX) || g->arena_off / ABI_CHUNK_UNIT > UINT32_MAX / 2)
    return "arena_off";
  return NULL;
}

/** NULL, or in what the two geometries differ though they are said to be one worker's. */
static const char *worker_pair_wrong(const struct abi_worker_geom *a, const struct abi_worker_geom *e) {
  if (a->worker_id != e->worker_id || a->app_id != e->app_id)
    return "segments of different workers";
  if (a->n_slots != e->n_slots || a->n_slots_app != e->n_slots_app)
    return "n_slots differ";
  if (a->n_lanes != e->n_lanes || a->ring_cap != e->ring_cap)
    return "lanes differ";
  return NULL;
}

/* Two segments become one view: `a` of the app or our own half of a pair, and the partner's, whose block has
 * block_e bytes. Both descriptors are taken over in any case. */
static int worker_open(struct worker_view *v, int fd_a, uint32_t kind_a, int rw_a, int fd_e, uint32_t kind_e, int rw_e,
                       uint64_t block_e, const char **why) {
  const char *wrong = NULL;
  memset(v, 0, sizeof *v);
  int rc = seg_attach(&v->seg_a, fd_a, kind_a, rw_a, &wrong);
  int rc_e = seg_attach(&v->seg_e, fd_e, kind_e, rw_e, rc < 0 ? NULL : &wrong);
  if (rc == 0)
    rc = rc_e;
  if (rc < 0)
    goto out;
  memcpy(&v->ga, v->seg_a.geom, sizeof v->ga);
  memcpy(&v->ge, v->seg_e.geom, sizeof v->ge);
  rc = -EPROTO;
  wrong = worker_geom_wrong(&v->seg_a, &v->ga, sizeof(struct abi_worker_app));
  if (wrong == NULL)
    wrong = worker_geom_wrong(&v->seg_e, &v->ge, block_e);
  if (wrong == NULL)
    wrong = worker_pair_wrong(&v->ga, &v->ge);
  if (wrong != NULL)
    goto out;
  if (kind_a == ABI_SEG_APP) {
    rc = part_span(&v->seg_a, v->ga.arena_off + v->ga.arena_size);
    wrong = "address space for A's parts";
    if (rc < 0)
      goto out;
  }
  v->app = seg_at(&v->seg_a, v->ga.block_off, sizeof *v->app);
  return 0;
out:
  if (why != NULL)
    *why = wrong;
  worker_view_close(v);
  return rc;
}

int worker_view_open(struct worker_view *v, int fd_a, int rw_a, int fd_e, int rw_e, const char **why) {
  int rc = worker_open(v, fd_a, ABI_SEG_APP, rw_a, fd_e, ABI_SEG_ENGINE, rw_e, sizeof(struct abi_worker_engine), why);
  if (rc == 0)
    v->engine = seg_at(&v->seg_e, v->ge.block_off, sizeof *v->engine);
  return rc;
}

uint64_t worker_pair_geom(struct abi_worker_geom *g, uint64_t pair_id, uint32_t n_slots, uint64_t arena_size) {
  uint64_t size = worker_geom_make(g, ABI_SEG_APP, pair_id, 0, n_slots, 1, arena_size);
  g->n_slots_app = n_slots;
  return size;
}

int worker_pair_open(struct worker_view *v, int fd_mine, int fd_theirs, const char **why) {
  int rc = worker_open(v, fd_mine, ABI_SEG_PAIR, SEG_RDWR, fd_theirs, ABI_SEG_PAIR, SEG_RDONLY,
                       sizeof(struct abi_worker_app), why);
  if (rc == 0)
    v->partner = seg_at(&v->seg_e, v->ge.block_off, sizeof *v->partner);
  return rc;
}

void worker_view_close(struct worker_view *v) {
  seg_detach(&v->seg_a);
  seg_detach(&v->seg_e);
  v->app = NULL;
  v->engine = NULL;
  v->partner = NULL;
}

uint32_t *worker_view_ring_app(const struct worker_view *v, uint32_t lane) {
  if (lane >= v->ga.n_lanes)
    return NULL;
  return (uint32_t *)(void *)(v->seg_a.base + v->ga.rings_off) + lane * v->ga.ring_cap;
}

uint32_t *worker_view_ring_engine(const struct worker_view *v, uint32_t lane) {
  if (lane >= v->ge.n_lanes)
    return NULL;
  return (uint32_t *)(void *)(v->seg_e.base + v->ge.rings_off) + lane * v->ge.ring_cap;
}
