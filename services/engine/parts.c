/*
 * Parts of A segments in the engine: mapped read-only as the broker gives them, zeros again when it takes them back
 * (shm/part.h).
 *
 * Control thread; workers read the segment meanwhile and are not asked: what changes is only what lies behind addresses
 * that no live chunk names. A part whose A segment is not here yet waits in the vault until app_new has mapped that.
 */
#include "engine.h"

#include "base/log.h"
#include "shm/part.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int parts_is(const struct custody_item *it) {
  return it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART;
}

static struct app_shared *parts_app(const struct engine *e, uint64_t worker_id) {
  for (const struct list *at = e->memory.next; at != &e->memory; at = at->next) {
    struct app_shared *sh = list_entry(at, struct app_shared, link);
    if (sh->v.ga.worker_id == worker_id)
      return sh;
  }
  return NULL;
}

/** 0 or -errno: bytes in it read as zeros, so its app must not use it. */
static int parts_map(struct app_shared *sh, const struct custody_item *it) {
  struct app_part *p = calloc(1, sizeof *p);
  int rc = p ? part_map(&sh->v.seg_a, it->fd, it->place, it->size) : -ENOMEM;
  if (rc < 0) {
    log_error("engine.part", "worker %llu, part at %llu: %s", (unsigned long long)it->owner,
              (unsigned long long)it->place, strerror(-rc));
    free(p);
    return rc;
  }
  *p = (struct app_part){.id = it->id, .charge = it->charge, .fd = it->fd};
  list_add_tail(&sh->parts, &p->link);
  return 0;
}

int parts_add(struct engine *e, const struct custody_item *it) {
  struct app_shared *sh = parts_is(it) ? parts_app(e, it->owner) : NULL;
  return sh ? parts_map(sh, it) : 0;
}

struct parts_taking {
  struct app_shared *sh;
  int rc;
};

static void parts_take_one(void *ctx, const struct custody_item *it) {
  struct parts_taking *t = ctx;
  if (t->rc == 0 && parts_is(it) && it->owner == t->sh->v.ga.worker_id)
    t->rc = parts_map(t->sh, it);
}

int parts_take(struct engine *e, struct app_shared *sh) {
  struct parts_taking t = {.sh = sh};
  custody_each(e->custody, parts_take_one, &t);
  return t.rc;
}

void parts_drop(struct engine *e, const struct custody_item *it) {
  struct app_shared *sh = parts_is(it) ? parts_app(e, it->owner) : NULL;
  struct list *at, *next;
  if (!sh)
    return;
  list_for_each_safe(at, next, &sh->parts) {
    struct app_part *p = list_entry(at, struct app_part, link);
    if (p->id != it->id)
      continue;
    int rc = part_clear(&sh->v.seg_a, it->place, it->size);
    if (rc < 0)
      log_error("engine.part", "worker %llu, part at %llu stays: %s", (unsigned long long)it->owner,
                (unsigned long long)it->place, strerror(-rc));
    list_del(at);
    free(p);
  }
}

uint64_t parts_memory(const struct app_shared *sh) {
  uint64_t sum = 0;
  struct list *at;
  list_for_each(at, &sh->parts) {
    const struct app_part *p = list_entry(at, struct app_part, link);
    struct stat st;
    uint64_t touched = fstat(p->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    sum += touched > p->charge ? touched : p->charge;
  }
  return sum;
}
