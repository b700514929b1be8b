/*
 * Memory of the apps' E segments: what is no longer needed goes back to the system, and limits of memory hold while
 * sessions run (broker.app-limit.memory, broker.namespaces[].limit.memory).
 *
 * Control thread, by a timer, so that no turn of a worker ever waits for the system. A free block is taken out of the
 * arena like any chunk, a hole is punched where it was, and it is put back: whatever may be handed to another fifo may
 * be swept. How much stays is the worker's segment-size, and more in steps of its add-segment-size as long as the last
 * seconds needed it (arena_aim). A segments are the apps' and sealed against holes: they shrink by whole parts
 * (parts.c), which the apps give back, and are only counted here. A crash between hole and book-keeping leaves a hole;
 * the successor asks the file where memory is.
 */
#include "engine.h"

#include "base/bits.h"
#include "base/fault.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_LOOK_US  1000000u       /* between two looks at what is needed; … */
#define MEMORY_FAST_US  100000u        /* … between two looks at limits, if there are any */
#define MEMORY_LEAST    (256u * 1024u) /* a worker may always hold that much, so that nothing stands still for ever */
#define MEMORY_PIECE    (256u * 1024u) /* how finely a successor looks where memory is */
#define MEMORY_PER_LOOK 256u           /* holes per worker and look */

/** Bytes that a segment's file has. */
static uint64_t memory_of(const struct seg *s) {
  struct stat st;
  return s->fd >= 0 && fstat(s->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/** What a predecessor's sessions left in E: told to the arena before anything is claimed. */
static void memory_find(struct app_shared *sh) {
  int fd = sh->v.seg_e.fd;
  uint64_t first = sh->v.ge.arena_off, size = sh->v.ge.arena_size;
  for (uint64_t at = 0; at < size;) {
    off_t found = lseek(fd, (off_t)(first + at), SEEK_DATA);
    if (found < 0 || (uint64_t)found >= first + size)
      return; /* ENXIO: no more */
    at = ((uint64_t)found - first) / MEMORY_PIECE * MEMORY_PIECE;
    arena_soil(sh->arena, at, MEMORY_PIECE);
    at += MEMORY_PIECE;
  }
}

/** `more` bytes beyond what it holds, if need be up to its segment-size only. Returns how many it may hold. */
static uint64_t memory_limit(struct app_shared *sh, uint64_t more) {
  uint64_t most = sh->v.ge.arena_step != 0 ? UINT64_MAX : sh->v.ge.arena_keep;
  return arena_limit_set(sh->arena, MEMORY_LEAST, more, most);
}

/** Gives back what is soiled beyond the aim. */
static void memory_sweep(struct app_shared *sh, uint64_t aim) {
  uint32_t unit, len;
  for (uint32_t n = 0; n < MEMORY_PER_LOOK && arena_sweep(sh->arena, aim, &unit, &len); n++) {
    off_t at = (off_t)unit * ABI_CHUNK_UNIT;
    int rc = fallocate(sh->v.seg_e.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, (off_t)len);
    FAULT_POINT("engine.memory.hole");
    if (rc < 0)
      log_error_rl("engine.memory", "memory of worker %llu can't be given back: %s",
                   (unsigned long long)sh->v.ge.worker_id, strerror(errno));
    arena_swept(sh->arena, unit, len);
  }
}

/** What one limit leaves for each worker under it; UINT64_MAX: there is none. `app` 0: of a namespace. */
static uint64_t memory_left(const struct engine *e, uint64_t app, uint32_t ns, uint64_t limit) {
  uint64_t use = 0, n = 0;
  if (limit == 0)
    return UINT64_MAX;
  for (const struct list *at = e->memory.next; at != &e->memory; at = at->next) {
    const struct app_shared *sh = list_entry(at, struct app_shared, link);
    if (app != 0 ? sh->v.ge.app_id != app : sh->ns != ns)
      continue;
    use += sh->use;
    n++;
  }
  return use < limit && n != 0 ? (limit - use) / (2 * n) : 0;
}

/** How much more memory this worker may take until the next look, as limits of apps and namespaces have it. */
static uint64_t memory_more(const struct engine *e, const struct app_shared *sh) {
  const struct config *cfg = &e->svc.cfg;
  uint64_t app = memory_left(e, sh->v.ge.app_id, 0, cfg->app_limit.memory), ns = UINT64_MAX;
  if (sh->ns > 0 && sh->ns <= cfg->n_ns)
    ns = memory_left(e, 0, sh->ns, cfg->ns[sh->ns - 1].limit.memory);
  return HS_MIN(app, ns);
}

/** Whether any memory is limited. */
static int memory_limited(const struct config *cfg) {
  int any = cfg->app_limit.memory != 0;
  for (uint32_t i = 0; i < cfg->n_ns; i++)
    any |= cfg->ns[i].limit.memory != 0;
  return any;
}

void memory_add(struct engine *e, struct app_shared *sh) {
  memory_find(sh);
  list_add_tail(&e->memory, &sh->link);
  uint64_t more = UINT64_MAX;
  if (memory_limited(&e->svc.cfg)) { /* from its first byte on: a look may be long in coming */
    sh->use = memory_of(&sh->v.seg_e) + memory_of(&sh->v.seg_a) + parts_memory(sh);
    more = memory_more(e, sh);
  }
  (void)memory_limit(sh, more);
}

static void memory_look(void *ctx) {
  struct engine *e = ctx;
  struct list *link;
  if (!__atomic_load_n(&e->adopted_all, __ATOMIC_ACQUIRE))
    return; /* chunks that live look free until they are claimed */
  int limited = memory_limited(&e->svc.cfg);
  int aim_too = !limited || ++e->memory_looks % (MEMORY_LOOK_US / MEMORY_FAST_US) == 0;
  list_for_each(link, &e->memory) {
    struct app_shared *sh = list_entry(link, struct app_shared, link);
    if (limited)
      sh->use = memory_of(&sh->v.seg_e) + memory_of(&sh->v.seg_a) + parts_memory(sh);
    if (aim_too)
      sh->aim = arena_aim(sh->arena, sh->v.ge.arena_keep, sh->v.ge.arena_step);
  }
  list_for_each(link, &e->memory) {
    struct app_shared *sh = list_entry(link, struct app_shared, link);
    uint64_t more = limited ? memory_more(e, sh) : UINT64_MAX;
    if (more != UINT64_MAX)
      memory_sweep(sh, HS_MIN(sh->aim, memory_limit(sh, more)));
    else if (aim_too)
      memory_sweep(sh, sh->aim);
  }
}

int memory_start(struct engine *e) {
  list_init(&e->memory);
  uint32_t every = memory_limited(&e->svc.cfg) ? MEMORY_FAST_US : MEMORY_LOOK_US;
  int timer = loop_add_timer(e->svc.loop, every, every, memory_look, e);
  return timer < 0 ? timer : 0;
}
