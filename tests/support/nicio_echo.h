/*
 * An engine's double that answers ARP and sends every UDP datagram back (for nicio_rig.h), and a kernel UDP socket that
 * talks to it. One address: 10.9.0.2; the kernel's end is 10.9.0.1.
 */
#ifndef HS_TESTS_NICIO_ECHO_H
#define HS_TESTS_NICIO_ECHO_H

#include "nicio_rig.h"

#define ECHO_ADDR 0x0a090002u
#define ECHO_PEER "10.9.0.1/24"

extern const uint8_t echo_mac[6];

struct echo {
  int from_app; /* payload of replies comes out of the A segment */
  uint32_t arps, echoes, big;
  uint32_t full; /* replies that found no slot */
};
struct echo_udp {
  int fd;
  uint8_t want[65536];
  uint32_t len;
  int got;
};
struct echo_wait {
  struct echo *e;
  struct echo_udp *u;
};

/** rig_frame_fn with struct echo as ctx. */
void echo_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len);
/** The same with struct echo_wait. */
void echo_wait_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len);
/** UDP socket connected to the echo. */
int echo_open(void);
/** Condition: the datagram came back (struct echo_wait). */
int echo_back(struct rig *r, void *ctx);
/** Send len bytes to the echo and wait for them, again while nothing comes back (a link may be coming up). A single one
 * may take as long as it likes. Sends it took, 0 = never. */
int echo_udp(struct rig *r, struct echo *e, uint32_t len, int tries);
/** The same; each send is waited for so many milliseconds. */
int echo_try(struct rig *r, struct echo *e, uint32_t len, int tries, int ms);
/** Conditions: the link is up; the first port is up; every TX slot has come home. */
int echo_link_up(struct rig *r, void *ctx);
int echo_port_up(struct rig *r, void *ctx);
int echo_tx_home(struct rig *r, void *ctx);

#endif
