/*
 * Regions (region.h): mapping on the control thread, lookup on the lcore.
 */
#include "region.h"

#include "abi/frame.h"
#include "abi/worker.h"
#include "base/bits.h"
#include "base/fault.h"
#include "base/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/** A table of all living maps. NULL without memory. */
static struct region_table *region_table_make(const struct regions *r) {
  uint32_t cap = (uint32_t)bits_pow2_up((uint64_t)r->n_maps * 2 + 8);
  struct region_table *t = calloc(1, sizeof *t + cap * sizeof t->slot[0]);
  struct list *pos;

  if (t == NULL)
    return NULL;
  t->mask = cap - 1;
  list_for_each(pos, &r->maps) {
    const struct region_map *m = list_entry(pos, struct region_map, link);
    if (m->dead)
      continue;
    uint32_t i = region_hash((uint32_t)m->id) & t->mask;
    while (t->slot[i].key != 0)
      i = (i + 1) & t->mask;
    t->slot[i] = (struct region_entry){.key = (uint32_t)m->id, .lo = m->lo, .hi = m->hi, .base = m->seg.base};
  }
  return t;
}

static int region_publish(struct regions *r) {
  struct region_table *t = region_table_make(r);

  if (t == NULL)
    return -ENOMEM;
  if (r->next != NULL) {
    r->next->older = r->retired;
    r->retired = r->next;
  }
  FAULT_POINT("nicio.region");
  __atomic_store_n(&r->next, t, __ATOMIC_RELEASE);
  return 0;
}

int region_init(struct regions *r) {
  memset(r, 0, sizeof *r);
  list_init(&r->maps);
  int rc = region_publish(r);
  if (rc == 0)
    r->seen = r->next;
  return rc;
}

static struct region_map *region_find(struct regions *r, uint64_t id) {
  struct list *pos;
  list_for_each(pos, &r->maps) {
    struct region_map *m = list_entry(pos, struct region_map, link);
    if (m->id == id && !m->dead)
      return m;
  }
  return NULL;
}

/** The arena lies wholly inside the segment; geometry is the checked copy of seg_attach. */
static int region_bounds(struct region_map *m, uint64_t span) {
  struct abi_worker_geom g;
  memcpy(&g, m->seg.geom, sizeof g);
  uint64_t want = span != 0 ? span : m->seg.file;
  if (g.arena_size > want || g.arena_off > want - g.arena_size || part_span(&m->seg, want) < 0)
    return -EPROTO;
  if (abi_seg_at(m->seg.base, m->seg.size, g.arena_off, g.arena_size) == NULL || g.arena_size == 0)
    return -EPROTO;
  m->worker_id = g.worker_id;
  m->lo = g.arena_off;
  m->hi = g.arena_off + g.arena_size;
  return 0;
}

int region_add(struct regions *r, uint64_t id, int fd, uint64_t span) {
  const char *why = "bad arena";
  struct region_map *m;
  int rc;

  if ((uint32_t)id == ABI_REGION_PACKET)
    return -EINVAL;
  if (region_find(r, id) != NULL)
    return 0;
  m = calloc(1, sizeof *m);
  if (m == NULL)
    return -ENOMEM;
  m->id = id;
  m->seg.fd = -1;
  int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (own < 0) {
    rc = err_last();
    goto out;
  }
  rc = seg_attach(&m->seg, own, ABI_SEG_APP, SEG_RDONLY, &why);
  if (rc < 0)
    goto out;
  rc = region_bounds(m, span);
  if (rc < 0)
    goto out_seg;
  list_add_tail(&r->maps, &m->link);
  r->n_maps++;
  rc = region_publish(r);
  if (rc == 0)
    return 0;
  list_del(&m->link);
  r->n_maps--;
out_seg:
  seg_detach(&m->seg);
out:
  if (rc == -EPROTO)
    log_error("nicio.region", "segment %llu refused: %s", (unsigned long long)id, why);
  free(m);
  return rc;
}

static struct region_map *region_of(const struct regions *r, uint64_t worker_id) {
  struct list *pos;

  list_for_each(pos, &r->maps) {
    struct region_map *m = list_entry(pos, struct region_map, link);
    if (m->worker_id == worker_id && !m->dead)
      return m;
  }
  return NULL;
}

int region_part(struct regions *r, uint64_t worker_id, int fd, uint64_t place, uint64_t size) {
  struct region_map *m = region_of(r, worker_id);
  return m != NULL ? part_map(&m->seg, fd, place, size) : -ENOENT;
}

int region_unpart(struct regions *r, uint64_t worker_id, uint64_t place, uint64_t size) {
  struct region_map *m = region_of(r, worker_id);
  return m != NULL ? part_clear(&m->seg, place, size) : -ENOENT;
}

int region_drop(struct regions *r, uint64_t id) {
  struct region_map *m = region_find(r, id);

  if (m == NULL)
    return -ENOENT;
  m->dead = 1;
  int rc = region_publish(r);
  if (rc == 0)
    (void)region_collect(r);
  return rc;
}

uint32_t region_collect(struct regions *r) {
  uint32_t waiting = 0;
  struct list *pos, *tmp;

  if (__atomic_load_n(&r->seen, __ATOMIC_ACQUIRE) != r->next) {
    list_for_each(pos, &r->maps) {
      waiting += list_entry(pos, struct region_map, link)->dead ? 1u : 0u;
    }
    return waiting;
  }
  while (r->retired != NULL) {
    struct region_table *t = r->retired;
    r->retired = t->older;
    free(t);
  }
  list_for_each_safe(pos, tmp, &r->maps) {
    struct region_map *m = list_entry(pos, struct region_map, link);
    if (!m->dead)
      continue;
    list_del(&m->link);
    r->n_maps--;
    seg_detach(&m->seg);
    free(m);
  }
  return 0;
}

void region_fini(struct regions *r) {
  struct list *pos;

  if (r->next == NULL)
    return;
  list_for_each(pos, &r->maps) {
    list_entry(pos, struct region_map, link)->dead = 1;
  }
  __atomic_store_n(&r->seen, r->next, __ATOMIC_RELEASE);
  (void)region_collect(r);
  free(r->next);
  memset(r, 0, sizeof *r);
}
