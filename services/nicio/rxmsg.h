/*
 * One message being received by a kernel port: a vnet header and 17 RX slots behind it, as the iovecs of one recvmsg or
 * readv. The iovecs are set up once; after a frame only the slots that it used are replaced. Lcore thread, hot path.
 */
#ifndef NICIO_RXMSG_H
#define NICIO_RXMSG_H

#include "port.h"
#include "vnet.h"

#define RXMSG_SLOTS 17u /* 65535 + 14 bytes in slots of 4096 less the room in front */
#define RXMSG_FRONT 8u  /* a VLAN tag that the kernel took out goes back in here */

struct rxmsg {
  struct virtio_net_hdr vnet;
  uint32_t n;                   /* slots held, from the first */
  uint16_t vlan_tpid, vlan_tci; /* by the caller, for the next deliver: tag to be put in; tpid 0: none */
  uint32_t slot[RXMSG_SLOTS];
  struct iovec iov[RXMSG_SLOTS + 1];
};

void rxmsg_init(struct rxmsg *m);
/** Fill the holes with free slots. 1, or 0 when there are not enough: then nothing may be received. */
int rxmsg_arm(struct port *p, struct rxmsg *m);
/** `got` bytes, vnet header included, were received: make descriptors, count. Returns how many, 0 = dropped. */
uint32_t rxmsg_deliver(struct port *p, struct rxmsg *m, uint32_t got, struct abi_frame_desc *d);
/** Slots go back to the stock. */
void rxmsg_fini(struct port *p, struct rxmsg *m);

#endif
