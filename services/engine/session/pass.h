/*
 * What one engine worker passes to another of its group, as mail with a copy: segments and ICMP errors of a connection
 * that another worker owns, ARP and ND packets that every stack learns from, path MTUs, and what worker 0's stack has
 * learned.
 *
 * nicio sends everything but whole TCP segments and datagrams to worker 0 (wire/flow.h), so this is the rare way, and
 * it is bounded: a worker that has PASS_MAX mails waiting gets no more packets, which is counted.
 */
#ifndef HS_ENGINE_PASS_H
#define HS_ENGINE_PASS_H

#include "abi/timewait.h"
#include "ip/ip.h"

#define PASS_MAX 512u /* mails */

struct worker;
struct pass_packet;
struct pass_learned;

struct pass {
  struct pass_packet *room; /* a packet being copied; made when the first one comes */
  struct {
    struct pass_learned *told;    /* worker 0: what the others know */
    struct pass_learned *learned; /* and what is being looked at */
    uint32_t gen;                 /* of the stack when that was */
    usec_t at;
  } vrf[ABI_VRFS];
};

/** An ICMP error about a connection of ours: as ip_ops.error. */
struct pass_error {
  struct ip_addr local, remote;
  uint16_t lport, rport;
  uint8_t proto, vrf;
  uint32_t seq, mtu;
  int kind, err;
};

void pass_fini(struct pass *p);
/** A whole packet, its TCP or UDP checksum found right, that belongs to a connection or a port of worker `to`. */
void pass_packet(struct worker *w, const struct pkt *p, uint32_t to);
/** The same of a datagram whose port nobody has, to the worker of a proxy (stray.h). */
void pass_stray(struct worker *w, const struct pkt *p, uint32_t to);
void pass_error(struct worker *w, uint32_t to, const struct pass_error *e);
/** Worker 0: a frame came; if it is ARP or ND, the other stacks hear it too. */
void pass_neighbour(struct worker *w, const struct pkt *p);
/** A transport of ours found out what the path to dst takes: the other stacks hear of it. */
void pass_path_mtu(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint32_t mtu, usec_t until);
/** A session of ours has joined a group on a port, or left it: the other stacks listen, too (worker 0's answers
 * queries; an app of any of them may send to it). */
void pass_group(struct worker *w, uint32_t vrf, const struct ip_addr *group, uint32_t port, int join);
/** Worker 0, every turn: if a stack of it has learned addresses, routes or values, the others are told. */
void pass_learned(struct worker *w);

#endif
