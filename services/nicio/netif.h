/*
 * A network interface of the kernel, by name: what kernel ports ask and set. Control thread; netdevice(7).
 */
#ifndef NICIO_NETIF_H
#define NICIO_NETIF_H

#include "base/err.h"

#include <stdint.h>

struct netif {
  int index;
  int up; /* IFF_UP and a carrier */
  uint32_t mtu;
  uint32_t speed_mbps; /* 0 = unknown */
  uint8_t mac[6];
};

/** Ask. 0, -ENODEV, -errno. */
HS_MUST_CHECK int netif_get(const char *name, struct netif *out);
/** Set IFF_UP. 0 or -errno. */
HS_MUST_CHECK int netif_set_up(const char *name);
/** 0 or -errno. */
HS_MUST_CHECK int netif_set_mtu(const char *name, uint32_t mtu);
/** Receive queues in use, ≥ 1. */
uint32_t netif_rx_queues(const char *name);
/** A descriptor that becomes readable when links change (rtnetlink), non-blocking. fd or -errno. */
HS_MUST_CHECK int netif_watch(void);
/** Swallow what the watch delivered. */
void netif_watch_drain(int fd);
/** MAC for a port that has no interface of its own: locally administered (RFC 7042 2.1), from the machine, the run dir,
 * the port's name and its device, so that it is the same after every restart and another at the other end of the wire.
 */
void netif_mac_derive(const char *run_dir, const char *name, const char *device, uint8_t mac[6]);

#endif
