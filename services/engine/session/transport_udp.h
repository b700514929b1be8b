/*
 * What the two halves of UDP's glue call of each other: transport_udp.c (life, input) and transport_udp_tx.c (output).
 */
#ifndef HS_ENGINE_TRANSPORT_UDP_H
#define HS_ENGINE_TRANSPORT_UDP_H

#include "worker.h"

static inline struct udp_conn *udp_of(struct session *s) {
  struct udp_conn *c;
  memcpy(&c, s->priv, sizeof c);
  return c;
}

/** Tells the app of an error, once more even if it is the same as the last one. */
void udp_tell(struct session *s, int err);
/** The session that chose the port itself and takes what comes to dst in the VRF from anybody, or NULL. */
struct session *udp_auto(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port);
/** A free port for a session that has none; it can receive from then on. 0 or -EADDRNOTAVAIL. */
int udp_port_choose(struct worker *w, struct session *s);
/** Everything was sent, and the app is gone. */
void udp_end(struct worker *w, struct session *s);
/** Room for the longest datagram with headers before it. 0 or -ENOMEM. */
int udp_scratch_init(struct worker *w);
/** transport_ops.output, .input */
int udp_output(struct worker *w, struct session *s, usec_t now);
int udp_input(struct worker *w, struct pkt *p, usec_t now);

#endif
