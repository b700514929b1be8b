/*
 * Stats page: writer and reader (shm/stats.h, abi/stats.h).
 *
 * The writer is one service, at its start; after that it adds to the value words alone. The reader is the api server,
 * which maps the page read-only and believes nothing of it but numbers and text of bounded length.
 */
#include "shm/stats.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"

#include <unistd.h>

uint64_t stats_geom_make(struct abi_stats_geom *g) {
  memset(g, 0, sizeof *g);
  g->block_off = 4096;
  return bits_align_up(g->block_off + sizeof(struct abi_stats), 4096);
}

static struct abi_stats *stats_block(const struct seg *s) {
  struct abi_stats_geom g;
  memcpy(&g, s->geom, sizeof g);
  if (s->kind != ABI_SEG_STATS || g.block_off < sizeof(struct abi_seg_hdr) || g.block_off % 64 != 0)
    return NULL;
  return seg_at(s, g.block_off, sizeof(struct abi_stats));
}

/** Value that an earlier life of the service left under this name; 0 if there is none. */
static uint64_t stats_left(const struct abi_stats *page, const char *name, uint32_t guess) {
  for (uint32_t i = 0; i < ABI_STATS_MAX; i++) { /* all of them: the last writer may have died before it stored n */
    uint32_t k = (guess + i) % ABI_STATS_MAX;
    if (strncmp(page->desc[k].name, name, sizeof page->desc[k].name) == 0)
      return __atomic_load_n(&page->value[k], __ATOMIC_RELAXED);
  }
  return 0;
}

uint64_t *stats_open(struct seg *s, uint32_t service, const struct abi_stat_desc *desc, uint32_t n) {
  struct abi_stats *page = stats_block(s);
  uint64_t value[ABI_STATS_MAX];
  if (page == NULL || !s->writable || n > ABI_STATS_MAX)
    return NULL;
  for (uint32_t i = 0; i < n; i++)
    value[i] = desc[i].kind == 0 ? stats_left(page, desc[i].name, i) : 0; /* a gauge is measured anew */
  __atomic_store_n(&page->n, 0u, __ATOMIC_RELEASE); /* a reader between here and the end finds no counters */
  FAULT_POINT("stats.desc");
  memcpy(page->desc, desc, n * sizeof *desc);
  for (uint32_t i = 0; i < n; i++)
    __atomic_store_n(&page->value[i], value[i], __ATOMIC_RELAXED);
  page->service = service;
  page->pid = (uint32_t)getpid();
  __atomic_store_n(&page->epoch, page->epoch + 1, __ATOMIC_RELAXED);
  FAULT_POINT("stats.n");
  __atomic_store_n(&page->n, n, __ATOMIC_RELEASE);
  return page->value;
}

int stats_read(const struct seg *s, uint32_t i, struct abi_stat_desc *desc, uint64_t *value) {
  const struct abi_stats *page = stats_block(s);
  if (page == NULL || i >= ABI_STATS_MAX || i >= __atomic_load_n(&page->n, __ATOMIC_ACQUIRE))
    return -ENOENT;
  memcpy(desc, &page->desc[i], sizeof *desc);
  desc->name[sizeof desc->name - 1] = '\0';
  desc->help[sizeof desc->help - 1] = '\0';
  *value = __atomic_load_n(&page->value[i], __ATOMIC_RELAXED);
  return 0;
}
