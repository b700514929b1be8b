/*
 * Stats page of a service (abi/stats.h): fill it from a descriptor list, read another's.
 */
#ifndef HS_SHM_STATS_H
#define HS_SHM_STATS_H

#include "abi/stats.h"
#include "shm/seg.h"

/** Size of a stats segment; geom filled. */
uint64_t stats_geom_make(struct abi_stats_geom *g);
/** Writer: describe n counters (≤ ABI_STATS_MAX) and start at the values that the page holds (a restart goes on
 * counting). Returns the value array or NULL. */
uint64_t *stats_open(struct seg *s, uint32_t service, const struct abi_stat_desc *desc, uint32_t n);
/** Reader: copy of counter i with its description. 0 or -ENOENT. */
int stats_read(const struct seg *s, uint32_t i, struct abi_stat_desc *desc, uint64_t *value);

#endif
