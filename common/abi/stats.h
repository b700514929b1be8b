/*
 * Stats page: counters of one service, written by it, read by the api server.
 *
 * Names, units and help texts are X-macro lists of the services; the page carries them too, so that a reader needs no
 * header of the service. A counter is one 8-byte word, written by one thread.
 */
#ifndef HS_ABI_STATS_H
#define HS_ABI_STATS_H

#include "abi/seg.h"

#define ABI_STATS_MAX 256u

struct abi_stat_desc {
  char name[40]; /* dotted id, e.g. tcp.in.bad_cksum */
  char help[80];
  uint32_t kind;     /* 0 counter, 1 gauge */
  uint32_t severity; /* 0 info, 1 warning, 2 error */
};
_Static_assert(sizeof(struct abi_stat_desc) == 128, "counter description");

/** At geom.block_off. */
struct abi_stats {
  uint32_t service; /* 1 nicio 2 engine 3 broker 4 api */
  uint32_t pid;
  uint32_t n; /* counters in use */
  uint32_t epoch;
  uint64_t heartbeat;  /* monotonic µs */
  uint64_t policy_gen; /* engine: policy generation it serves */
  uint64_t reserved[4];
  uint64_t value[ABI_STATS_MAX];
  struct abi_stat_desc desc[ABI_STATS_MAX];
};

struct abi_stats_geom {
  uint64_t block_off;
  uint64_t reserved[15];
};
_Static_assert(sizeof(struct abi_stats_geom) == 128, "stats geometry fills hdr.geom");

#endif
