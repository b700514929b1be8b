/*
 * The broker's memory beyond its death: typed access to the registry segment (abi/registry.h). Records are made by
 * filling them and storing `used` (or the item's state) last, and given up by clearing that word first.
 */
#ifndef HS_BROKER_REGISTRY_H
#define HS_BROKER_REGISTRY_H

#include "abi/registry.h"
#include "base/err.h"
#include "shm/seg.h"

struct registry {
  struct seg seg;
  struct abi_registry_geom geom; /* checked copy */
  struct abi_registry *blk;
  struct abi_item *item;
  struct abi_reg_app *app;
  struct abi_reg_proc *proc;
  struct abi_reg_worker *worker;
  struct abi_reg_bind *bind;
  uint32_t n_items, n_apps, n_procs, n_workers, n_binds;
};

#define REGISTRY_NONE UINT32_MAX
#define REG_LIVE      1u
#define REG_DYING     2u /* process dead, worker draining */

/** A fresh registry whose ids begin above first_id. Its own item is record 0, RESERVED. 0 or -errno. */
HS_MUST_CHECK int registry_create(struct registry *r, uint32_t max_apps, uint32_t max_workers, uint64_t first_id);
/** Take one over from the broker before; fd is taken over. Raises the broker epoch. 0 or -EPROTO, -errno. */
HS_MUST_CHECK int registry_attach(struct registry *r, int fd);
void registry_close(struct registry *r);
/** A number never given before: of an item, app, process, worker or listener. */
uint64_t registry_id(struct registry *r);

/** New item in state RESERVED. Index or REGISTRY_NONE when the table is full. */
uint32_t registry_item_new(struct registry *r, uint64_t id, uint32_t kind, uint32_t seg_kind, uint64_t owner,
                           uint64_t size);
/** New item of a worker's part of A. Fewer records than workers, bells and ports may need are left alone. */
uint32_t registry_part_new(struct registry *r, uint64_t id, uint64_t worker_id, uint64_t place, uint64_t size,
                           uint64_t charge);
void registry_item_set(struct registry *r, uint32_t idx, enum abi_item_state st);
static inline uint32_t registry_item_state(const struct registry *r, uint32_t idx) {
  return __atomic_load_n(&r->item[idx].state, __ATOMIC_ACQUIRE);
}
/** First item not FREE with these marks and a state, or REGISTRY_NONE. */
uint32_t registry_item_find(const struct registry *r, uint32_t kind, uint32_t seg_kind, uint64_t owner);

uint32_t registry_app_new(struct registry *r, const char *name, uint32_t ns);
uint32_t registry_app_find(const struct registry *r, uint64_t id);
uint32_t registry_proc_new(struct registry *r, uint64_t app_id, uint32_t pid, uint32_t uid, uint32_t gid,
                           const uint8_t token[16]);
uint32_t registry_proc_find(const struct registry *r, uint64_t id);
/** Live process with this token, compared in constant time. */
uint32_t registry_proc_by_token(const struct registry *r, const uint8_t token[16]);
uint32_t registry_worker_new(struct registry *r, uint64_t id, uint64_t proc_id, uint64_t app_id, uint64_t seg_e,
                             uint64_t seg_a);
uint32_t registry_worker_find(const struct registry *r, uint64_t id);
/** Copies `b`, whose `used` is 0, to a free record. Index or REGISTRY_NONE. */
uint32_t registry_bind_new(struct registry *r, const struct abi_reg_bind *b);
/** Store a `used` word. */
void registry_used_set(uint32_t *used, uint32_t to);

#endif
