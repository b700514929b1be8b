/*
 * DPDK's environment and the two mbuf pools: the RX slots of the packet segment, and private memory for TX. Only for
 * port_ethdev.c, in the module hs-nicio-ethdev.so. Control thread, but for eal_home (lcore).
 */
#ifndef NICIO_EAL_H
#define NICIO_EAL_H

#include "shm/frame.h"

#include <rte_mbuf.h>

#define EAL_TX_ROOM 9344u /* a jumbo frame with its headers */

struct eal {
  const struct frame_seg *fs;
  struct rte_mempool *rx; /* objects are the RX slots [0, n_eth) */
  struct rte_mempool *tx;
  uint8_t *slots; /* address of RX slot 0 */
  uint32_t n_eth;
};
extern struct eal eal;

int eal_start(const char *args, const struct frame_seg *fs, uint32_t n_eth);
void eal_stop(void);
/** A slot comes home to the pool. Lcore. */
void eal_home(void *ctx, uint32_t slot);

/** Slot that holds this mbuf of the RX pool; UINT32_MAX when it is none of ours. */
static inline uint32_t eal_slot(const struct rte_mbuf *m) {
  uint64_t at = (uint64_t)((const uint8_t *)m - eal.slots) / ABI_SLOT_SIZE;
  return at < eal.n_eth ? (uint32_t)at : UINT32_MAX;
}

#endif
