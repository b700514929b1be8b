/*
 * Ports: one interface, two kinds behind it. `kernel` is AF_PACKET with vnet headers or a tap (port_packet.c,
 * port_tap.c); `ethdev` is DPDK (port_ethdev.c, in a module that is loaded only when an ethdev is configured).
 *
 * open, link and close are called on the control thread while the lcore does not use the port (open and close) or only
 * reads `up` (link); rx_burst and tx_burst on the lcore, hot path. A burst never blocks.
 */
#ifndef NICIO_PORT_H
#define NICIO_PORT_H

#include "netif.h"
#include "pkt.h"
#include "shm/frame.h"
#include "slots.h"
#include "svc/config.h"

#define PORT_KIND_ETHDEV 1
#define PORT_KIND_KERNEL 2
#define PORT_RX_FRAMES   64u                    /* frames of one rx burst */
#define PORT_RX_DESCS    (PORT_RX_FRAMES * 18u) /* a 64 KB frame needs 17 slots */
#define PORT_FDS_MAX     8u

struct port;

struct port_link {
  int up;
  uint32_t mtu; /* L3 bytes */
  uint32_t speed_mbps;
  uint8_t mac[6];
};

struct port_ops {
  const char *name; /* packet, tap, ethdev */
  /** Make the device ready. `vault_fd` ≥ 0: a descriptor of an earlier nicio, taken over if it fits, else closed.
   * Returns 0, 1 when vault_fd was taken (nothing to deposit), or -errno. */
  int (*open)(struct port *p, const struct config_port *cfg, int vault_fd);
  void (*close)(struct port *p);
  /** Fill `out` from the device. 0 or -errno. */
  int (*link)(struct port *p, struct port_link *out);
  /** Receive whole frames into RX slots; at most max descriptors. Returns descriptors. Sets p->rx_empty when the
   * device had no more. */
  uint32_t (*rx_burst)(struct port *p, struct abi_frame_desc *d, uint32_t max);
  /** Send frames; returns how many are done with (sent, or dropped and counted). Fewer than n: the device is full,
   * p->tx_full is set; the rest is offered again. */
  uint32_t (*tx_burst)(struct port *p, const struct pkt *pk, uint32_t n);
  /** Frames that the device itself lost since the last call; NULL = does not tell. Control thread. */
  uint64_t (*lost)(struct port *p);
};

struct port {
  const struct port_ops *ops;
  void *priv; /* of the kind */
  const struct frame_seg *fs;
  struct slots *slots;
  uint64_t *count; /* abi_port.counters; written by the lcore */
  uint8_t index;
  uint8_t kind;
  uint8_t mac_set; /* the MAC is configured */
  uint8_t up;      /* atomic: link; control writes, lcore reads */
  uint32_t caps;   /* ABI_PORT_* */
  uint32_t mtu;
  uint32_t speed_mbps;
  uint8_t mac[6];
  uint8_t mac_derived[6]; /* for devices without one that stays: netif_mac_derive */
  char name[32];
  char device[128];
  int fd;                /* kernel: to be deposited; -1 otherwise */
  int fds[PORT_FDS_MAX]; /* for the lcore's epoll, edge-triggered */
  uint32_t n_fds;
  uint32_t poll_us; /* > 0: the device can't wake us, look again after so long */
  int rx_empty;
  int rx_starved; /* set by rx_burst when no slot was free; the lcore clears it */
  int tx_full;
  int tx_no_wake; /* full, and no descriptor will tell when it is not: look again soon */
};

static inline void port_count(struct port *p, uint32_t which, uint64_t n) {
  __atomic_store_n(&p->count[which], p->count[which] + n, __ATOMIC_RELAXED);
}

extern const struct port_ops port_packet_ops;
extern const struct port_ops port_tap_ops;

/** Fill in what is common from the configuration; the page entry is marked used once the port is open. */
void port_init(struct port *p, uint32_t index, const struct config *all, const struct frame_seg *fs,
               struct slots *slots);
/** Write link, MTU and MAC into the shared page (control thread). */
void port_publish(struct port *p);
/** Ask the device and publish if something changed. Returns 1 when it did. */
int port_refresh(struct port *p);

/* --- for the kinds that are one descriptor of the kernel: port_packet.c, port_tap.c --- */

/** An open kernel port: its own data and its descriptor, both given up by port_kernel_unset. Publishes. */
void port_kernel_set(struct port *p, void *priv, int fd);
/** Closes the descriptor, frees the data. */
void port_kernel_unset(struct port *p);
/** What the interface says of itself; `out` has the interface's MAC. 0 or -errno. */
HS_MUST_CHECK int port_kernel_link(const struct port *p, struct netif *nif, struct port_link *out);

#endif
