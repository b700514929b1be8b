/*
 * TCB table of one engine: which durable records are free. The workers of an engine share it; a record belongs to the
 * worker that took or adopted it.
 */
#ifndef HS_ENGINE_TCB_H
#define HS_ENGINE_TCB_H

#include "abi/tcb.h"
#include "base/freelist.h"
#include "shm/seg.h"

struct tcb_shared {
  struct freelist free; /* record numbers below high */
  uint32_t drawing;     /* atomic: one of them makes a cookie key */
  uint32_t next[];
};

/** Where the durable halves lie, checked and copied once. */
struct tcb_table {
  struct seg seg;
  struct abi_tcb_geom geom;
  struct abi_tcb_block *block;
  struct abi_tcb *tcb;
  struct abi_route *route; /* geom.n_route of them; NULL if there are none */
  struct tcb_shared *sh;   /* what the workers of this engine share */
  int borrowed;            /* another worker's mapping and list */
};

/** Map the TCB segment (fd taken over), draw the secret if this is the first engine. 0, -errno, -EPROTO. */
int tcb_open(struct tcb_table *t, int fd);
/** The table of another worker of this engine, which outlives us. */
void tcb_borrow(struct tcb_table *t, const struct tcb_table *of);
void tcb_close(struct tcb_table *t);
/** Records [0, n) were ever used. */
static inline uint32_t tcb_high(const struct tcb_table *t) {
  uint32_t high = __atomic_load_n(&t->block->high, __ATOMIC_ACQUIRE);
  return high < t->geom.n ? high : (uint32_t)t->geom.n;
}
/** Records that are out. */
static inline uint32_t tcb_n_used(const struct tcb_table *t) {
  return tcb_high(t) - freelist_n(&t->sh->free);
}
/** Recount free records; records in use keep their numbers. Before the workers run. */
void tcb_recount(struct tcb_table *t);
/** A zeroed record (life still FREE), its number in *n. NULL when the table is full. */
struct abi_tcb *tcb_get(struct tcb_table *t, uint32_t *n);
/** Keys for SYN cookies: drawn at the first need, changed every ten minutes. 0 or -errno. */
int tcb_cookie_key(struct tcb_table *t, usec_t now);
/** life must be FREE by now. */
void tcb_put(struct tcb_table *t, uint32_t n);

#endif
