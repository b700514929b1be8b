/*
 * Door to the ethdev module (hs-nicio-ethdev.so), which holds DPDK: it is loaded only when the configuration names an
 * ethdev, so that a nicio with kernel ports alone starts without it. Control thread.
 */
#ifndef NICIO_ETHDEV_H
#define NICIO_ETHDEV_H

#include "port.h"

#include <stdio.h>

#define ETHDEV_MODULE "hs-nicio-ethdev.so"
#define ETHDEV_ABI    1u

/** What the module exports as `ethdev_module`. */
struct ethdev_module {
  uint32_t abi; /* ETHDEV_ABI */
  uint32_t pad;
  /** Start EAL; RX slots [0, n_eth) become its mbuf pool. 0 or -errno. */
  int (*start)(const char *eal_args, const struct frame_seg *fs, uint32_t n_eth);
  void (*stop)(void);
  /** A slot comes home. Lcore. */
  void (*home)(void *ctx, uint32_t slot);
  const struct port_ops *ops;
};

/** Whether a device string is a PCI address, 0000:03:00.0. */
static inline int ethdev_is_pci(const char *device) {
  unsigned domain, bus, slot, fn;
  return sscanf(device, "%4x:%2x:%2x.%1x", &domain, &bus, &slot, &fn) == 4;
}

/** How many RX slots the pool of ethdevs needs: 0 without any. 0 or -EINVAL. */
int ethdev_slots(const struct config *cfg, const struct frame_seg *fs, uint32_t *n_eth);
/** Load the module and start EAL if the configuration needs it. 0 or -errno. */
int ethdev_start(const struct config *cfg, const struct frame_seg *fs, struct slots *slots);
/** Open one ethdev port. 0 or -errno. */
int ethdev_open(struct port *p, const struct config_port *cfg);
void ethdev_stop(void);

#endif
