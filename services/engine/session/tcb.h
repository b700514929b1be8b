/*
 * TCB table of one engine: which durable records are free. Worker thread.
 */
#ifndef HS_ENGINE_TCB_H
#define HS_ENGINE_TCB_H

#include "abi/tcb.h"
#include "shm/seg.h"

/** Where the durable halves lie, checked and copied once. */
struct tcb_table {
  struct seg seg;
  struct abi_tcb_geom geom;
  struct abi_tcb_block *block;
  struct abi_tcb *tcb;
  uint32_t *free; /* stack of free record numbers below high */
  uint32_t n_free;
  uint32_t high;
};

/** Map the TCB segment (fd taken over), draw the secret if this is the first engine. 0, -errno, -EPROTO. */
int tcb_open(struct tcb_table *t, int fd);
void tcb_close(struct tcb_table *t);
/** Recount free records; records in use keep their numbers. */
void tcb_recount(struct tcb_table *t);
/** A zeroed record (life still FREE), its number in *n. NULL when the table is full. */
struct abi_tcb *tcb_get(struct tcb_table *t, uint32_t *n);
/** Keys for SYN cookies: drawn at the first need, changed every ten minutes. 0 or -errno. */
int tcb_cookie_key(struct tcb_table *t, usec_t now);
/** life must be FREE by now. */
void tcb_put(struct tcb_table *t, uint32_t n);

#endif
