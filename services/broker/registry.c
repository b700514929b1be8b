/*
 * The registry segment: making, taking over, records.
 *
 * Called by the broker's other files on the main thread, its only one. Each record is filled before the word that makes
 * it count, with a fault point between; a broker that dies in the middle leaves a free record with scribbles in it.
 */
#include "registry.h"

#include "base/bits.h"
#include "base/fault.h"
#include "base/rng.h"

#include <stddef.h>
#include <unistd.h>

#define REGISTRY_BLOCK_OFF 4096u
#define REGISTRY_CORE      64u    /* items that belong to no process: segments, link bells, ports */
#define REGISTRY_PARTS     4u     /* parts of A segments, on the average of all workers */
#define REGISTRY_BINDS     16384u /* ports held at once */

static uint64_t registry_place(uint64_t *off, uint64_t n, uint64_t size) {
  uint64_t at = *off;
  *off = bits_align_up(at + n * size, 4096);
  return at;
}

static uint64_t registry_geom(struct abi_registry_geom *g, uint32_t max_apps, uint32_t max_workers) {
  uint64_t off = REGISTRY_BLOCK_OFF;
  memset(g, 0, sizeof *g);
  g->n_apps = max_apps;
  g->n_procs = max_workers;
  g->n_workers = max_workers;
  g->n_items = REGISTRY_CORE + (4ull + REGISTRY_PARTS) * max_workers;
  g->n_binds = REGISTRY_BINDS;
  g->block_off = registry_place(&off, 1, sizeof(struct abi_registry));
  g->items_off = registry_place(&off, g->n_items, sizeof(struct abi_item));
  g->apps_off = registry_place(&off, g->n_apps, sizeof(struct abi_reg_app));
  g->procs_off = registry_place(&off, g->n_procs, sizeof(struct abi_reg_proc));
  g->workers_off = registry_place(&off, g->n_workers, sizeof(struct abi_reg_worker));
  g->binds_off = registry_place(&off, g->n_binds, sizeof(struct abi_reg_bind));
  return off;
}

/** A table of n records inside the segment, or NULL. */
static void *registry_table(const struct registry *r, uint64_t off, uint64_t n, uint64_t size, uint32_t *count) {
  if (n == 0 || n > 1u << 20 || off % 64 != 0 || off < sizeof(struct abi_seg_hdr))
    return NULL;
  *count = (uint32_t)n;
  return seg_at(&r->seg, off, n * size);
}

static int registry_open(struct registry *r) {
  const struct abi_registry_geom *g = &r->geom;
  uint32_t one;
  memcpy(&r->geom, r->seg.geom, sizeof r->geom);
  r->blk = registry_table(r, g->block_off, 1, sizeof *r->blk, &one);
  r->item = registry_table(r, g->items_off, g->n_items, sizeof *r->item, &r->n_items);
  r->app = registry_table(r, g->apps_off, g->n_apps, sizeof *r->app, &r->n_apps);
  r->proc = registry_table(r, g->procs_off, g->n_procs, sizeof *r->proc, &r->n_procs);
  r->worker = registry_table(r, g->workers_off, g->n_workers, sizeof *r->worker, &r->n_workers);
  r->bind = registry_table(r, g->binds_off, g->n_binds, sizeof *r->bind, &r->n_binds);
  if (r->blk == NULL || r->item == NULL || r->app == NULL || r->proc == NULL || r->worker == NULL || r->bind == NULL)
    return -EPROTO;
  return 0;
}

int registry_create(struct registry *r, uint32_t max_apps, uint32_t max_workers, uint64_t first_id) {
  struct abi_registry_geom g;
  uint64_t words[16];
  uint64_t size = registry_geom(&g, max_apps, max_workers);
  memset(r, 0, sizeof *r);
  memcpy(words, &g, sizeof words);
  uint64_t id = first_id + 1;
  int rc = seg_create(&r->seg, "hs-registry", ABI_SEG_REGISTRY, id, size, words);
  if (rc < 0)
    return rc;
  rc = registry_open(r);
  if (rc < 0) {
    registry_close(r);
    return rc;
  }
  r->blk->broker_epoch = 1;
  __atomic_store_n(&r->blk->next_id, id + 1, __ATOMIC_RELEASE);
  (void)registry_item_new(r, id, ABI_ITEM_SEG, ABI_SEG_REGISTRY, 0, r->seg.size); /* the first: record 0 */
  return 0;
}

int registry_attach(struct registry *r, int fd) {
  const char *why;
  memset(r, 0, sizeof *r);
  int rc = seg_attach(&r->seg, fd, ABI_SEG_REGISTRY, SEG_RDWR, &why);
  if (rc < 0)
    return rc;
  rc = registry_open(r);
  if (rc < 0) {
    registry_close(r);
    return rc;
  }
  __atomic_store_n(&r->blk->broker_epoch, r->blk->broker_epoch + 1, __ATOMIC_RELEASE);
  return 0;
}

void registry_close(struct registry *r) {
  seg_detach(&r->seg);
  r->blk = NULL;
}

uint64_t registry_id(struct registry *r) {
  uint64_t id = __atomic_load_n(&r->blk->next_id, __ATOMIC_RELAXED);
  __atomic_store_n(&r->blk->next_id, id + 1, __ATOMIC_RELEASE); /* first, so that a crash only skips a number */
  FAULT_POINT("broker.id");
  return id;
}

void registry_used_set(uint32_t *used, uint32_t to) {
  FAULT_POINT("broker.record.filled");
  __atomic_store_n(used, to, __ATOMIC_RELEASE);
  FAULT_POINT("broker.record.used");
}

/* Records of apps, processes, workers and binds begin with `used`; all but binds have their number behind it. */
#define REGISTRY_ID_AT 8u
_Static_assert(offsetof(struct abi_reg_app, used) == 0 && offsetof(struct abi_reg_proc, used) == 0 &&
                   offsetof(struct abi_reg_worker, used) == 0 && offsetof(struct abi_reg_bind, used) == 0,
               "`used` comes first");
_Static_assert(offsetof(struct abi_reg_app, id) == REGISTRY_ID_AT &&
                   offsetof(struct abi_reg_proc, id) == REGISTRY_ID_AT &&
                   offsetof(struct abi_reg_worker, id) == REGISTRY_ID_AT,
               "the number stands in one place");

/** First record of a table that is free, or REGISTRY_NONE. */
static uint32_t registry_free(const void *table, uint32_t n, size_t size) {
  for (uint32_t i = 0; i < n; i++)
    if (*(const uint32_t *)((const uint8_t *)table + i * size) == 0)
      return i;
  return REGISTRY_NONE;
}

/** The record in use with this number, or REGISTRY_NONE. */
static uint32_t registry_by_id(const void *table, uint32_t n, size_t size, uint64_t id) {
  for (uint32_t i = 0; i < n; i++) {
    const uint8_t *rec = (const uint8_t *)table + i * size;
    if (*(const uint32_t *)rec != 0 && *(const uint64_t *)(rec + REGISTRY_ID_AT) == id)
      return i;
  }
  return REGISTRY_NONE;
}

/** Record idx becomes this item, RESERVED. */
static void registry_item_fill(struct registry *r, uint32_t idx, const struct abi_item *as) {
  struct abi_item *it = &r->item[idx];
  it->kind = as->kind;
  it->id = as->id;
  it->owner = as->owner;
  it->seg_kind = as->seg_kind;
  it->size = as->size;
  it->place = as->place;
  it->charge = as->charge;
  registry_item_set(r, idx, ABI_ITEM_RESERVED);
}

uint32_t registry_part_new(struct registry *r, uint64_t id, uint64_t worker_id, uint64_t place, uint64_t size,
                           uint64_t charge) {
  uint32_t used = 0, spare = REGISTRY_NONE;
  for (uint32_t i = 0; i < r->n_items; i++) {
    if (r->item[i].state == ABI_ITEM_FREE)
      spare = spare == REGISTRY_NONE ? i : spare;
    else
      used += r->item[i].seg_kind == ABI_SEG_PART && r->item[i].kind == ABI_ITEM_SEG;
  }
  /* workers, bells and ports must find room still: not every free record may be a part's */
  if (spare == REGISTRY_NONE || used + REGISTRY_CORE + 4 * r->n_workers >= r->n_items)
    return REGISTRY_NONE;
  registry_item_fill(r, spare,
                     &(struct abi_item){.kind = ABI_ITEM_SEG,
                                        .seg_kind = ABI_SEG_PART,
                                        .id = id,
                                        .owner = worker_id,
                                        .size = size,
                                        .place = place,
                                        .charge = charge});
  return spare;
}

uint32_t registry_item_new(struct registry *r, uint64_t id, uint32_t kind, uint32_t seg_kind, uint64_t owner,
                           uint64_t size) {
  for (uint32_t i = 0; i < r->n_items; i++) {
    if (r->item[i].state != ABI_ITEM_FREE)
      continue;
    registry_item_fill(r, i,
                       &(struct abi_item){.kind = kind, .seg_kind = seg_kind, .id = id, .owner = owner, .size = size});
    return i;
  }
  return REGISTRY_NONE;
}

void registry_item_set(struct registry *r, uint32_t idx, enum abi_item_state st) {
  FAULT_POINT("broker.item.before");
  __atomic_store_n(&r->item[idx].state, (uint32_t)st, __ATOMIC_RELEASE);
  FAULT_POINT("broker.item.after");
}

uint32_t registry_item_find(const struct registry *r, uint32_t kind, uint32_t seg_kind, uint64_t owner) {
  for (uint32_t i = 0; i < r->n_items; i++) {
    const struct abi_item *it = &r->item[i];
    if (it->state != ABI_ITEM_FREE && it->kind == kind && it->seg_kind == seg_kind && it->owner == owner)
      return i;
  }
  return REGISTRY_NONE;
}

uint32_t registry_app_new(struct registry *r, const char *name, uint32_t ns) {
  uint32_t i = registry_free(r->app, r->n_apps, sizeof *r->app);
  if (i == REGISTRY_NONE)
    return i;
  struct abi_reg_app *a = &r->app[i];
  a->id = registry_id(r);
  a->ns = ns;
  memset(a->name, 0, sizeof a->name);
  memcpy(a->name, name, strnlen(name, sizeof a->name - 1));
  registry_used_set(&a->used, REG_LIVE);
  return i;
}

uint32_t registry_app_find(const struct registry *r, uint64_t id) {
  return registry_by_id(r->app, r->n_apps, sizeof *r->app, id);
}

uint32_t registry_proc_new(struct registry *r, uint64_t app_id, uint32_t pid, uint32_t uid, uint32_t gid,
                           const uint8_t token[16]) {
  uint32_t i = registry_free(r->proc, r->n_procs, sizeof *r->proc);
  if (i == REGISTRY_NONE)
    return i;
  struct abi_reg_proc *p = &r->proc[i];
  p->pid = pid;
  p->id = registry_id(r);
  p->app_id = app_id;
  p->uid = uid;
  p->gid = gid;
  memcpy(p->token, token, sizeof p->token);
  registry_used_set(&p->used, REG_LIVE);
  return i;
}

uint32_t registry_proc_find(const struct registry *r, uint64_t id) {
  return registry_by_id(r->proc, r->n_procs, sizeof *r->proc, id);
}

uint32_t registry_proc_by_token(const struct registry *r, const uint8_t token[16]) {
  uint32_t found = REGISTRY_NONE;
  for (uint32_t i = 0; i < r->n_procs; i++) {
    unsigned diff = r->proc[i].used ^ REG_LIVE;
    for (unsigned k = 0; k < 16; k++)
      diff |= (unsigned)(r->proc[i].token[k] ^ token[k]);
    if (diff == 0)
      found = i;
  }
  return found;
}

uint32_t registry_worker_new(struct registry *r, uint64_t id, uint64_t proc_id, uint64_t app_id, uint64_t seg_e,
                             uint64_t seg_a) {
  uint32_t i = registry_free(r->worker, r->n_workers, sizeof *r->worker);
  if (i == REGISTRY_NONE)
    return i;
  struct abi_reg_worker *w = &r->worker[i];
  w->id = id;
  w->proc_id = proc_id;
  w->app_id = app_id;
  w->seg_e = seg_e;
  w->seg_a = seg_a;
  registry_used_set(&w->used, REG_LIVE);
  return i;
}

uint32_t registry_worker_find(const struct registry *r, uint64_t id) {
  return registry_by_id(r->worker, r->n_workers, sizeof *r->worker, id);
}

uint32_t registry_bind_new(struct registry *r, const struct abi_reg_bind *b) {
  uint32_t i = registry_free(r->bind, r->n_binds, sizeof *r->bind);
  if (i == REGISTRY_NONE)
    return i;
  r->bind[i] = *b;
  registry_used_set(&r->bind[i].used, REG_LIVE);
  return i;
}
