/*
 * The IP layer's door: Ethernet, ARP, ND, IPv4, IPv6, ICMP, routes, neighbours. One per engine worker and VRF; no
 * thread but the worker calls it; `now` is an argument; frames leave through ops.
 *
 * RFC 826, 894, 791, 792, 1122, 4861, 4443, 8200, 5227 (announce).
 */
#ifndef HS_ENGINE_IP_H
#define HS_ENGINE_IP_H

#include "base/bytes.h"
#include "base/timer.h"
#include "pkt.h"
#include "txf.h"
#include "wire/addr.h"

struct ip_stack;

struct ip_ops {
  /** Get an empty frame: slot allocated, data at TXF_HEADROOM into it, len 0. 0 or -ENOBUFS. */
  int (*frame_get)(void *ctx, struct txf *t);
  /** The slot was not needed after all. */
  void (*frame_drop)(void *ctx, struct txf *t);
  /** Frame complete from Ethernet header on: queue it on the link. The frame belongs to the link afterwards. */
  void (*frame_send)(void *ctx, struct txf *t);
  /** An IP datagram without Ethernet header for one of our own addresses: queue it for ip_loop_input, which is to be
   * called from the top of the loop and never from in here. 0, or -ENOBUFS: the frame stays ours. NULL: no loop, output
   * to ourselves is refused. */
  int (*frame_loop)(void *ctx, struct txf *t);
  /** A datagram for one of our addresses with protocol `p->ip.proto` (6 TCP, 17 UDP); p->l4_off is set; L4 checksum not
   * yet verified. Returns 0 if taken, -ENOENT if nobody is there (ip answers port unreachable for UDP). */
  int (*deliver)(void *ctx, struct pkt *p, usec_t now);
  /** An ICMP error quoting a datagram that we sent: proto, our address/port, remote address/port, quoted TCP seq; kind
   * and err as in tcp_icmp. */
  void (*error)(void *ctx, uint8_t proto, const struct ip_addr *local, uint16_t lport, const struct ip_addr *remote,
                uint16_t rport, uint32_t seq, int kind, int err, uint32_t mtu, usec_t now);
};

/** Cached way to a destination, kept by a connection; checked by generation. 48 bytes. */
struct ip_path {
  uint32_t gen;     /* generation of routes+neighbours it was made from; 0 = empty */
  uint8_t ifindex;  /* port or VLAN */
  uint8_t resolved; /* dst_mac is valid */
  uint8_t src_mac[6], dst_mac[6];
  uint16_t mtu;
  uint32_t neigh; /* neighbour entry */
};

int ip_new(struct ip_stack **out, const struct ip_ops *ops, void *ctx, uint64_t *counters);
void ip_free(struct ip_stack *s);

/* --- configuration (worker thread) --- */
int ip_port_set(struct ip_stack *s, uint32_t port, const uint8_t mac[6], uint32_t mtu, int up);
/** An 802.1Q VLAN of a port as an interface of its own: *out is the number by which all other calls name it. It has the
 * port's MAC and link state; mtu 0: the port's. -EINVAL (no such id, nor port), -EEXIST, -ENOSPC. */
int ip_vlan_add(struct ip_stack *s, uint32_t port, uint32_t id, uint32_t mtu, uint32_t *out);
/** A port or VLAN belongs to another VRF, whose stack gets its frames: here it has no addresses and no routes, and is
 * known for the MAC and state of VLANs alone. Before it has a MAC. 0, -EINVAL. */
int ip_port_foreign(struct ip_stack *s, uint32_t port);
int ip_addr_add(struct ip_stack *s, uint32_t port, const struct ip_addr *a, uint32_t prefix_len);
int ip_addr_del(struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** IPv6 addresses and routers of a port are learned from router advertisements, from now on or no longer; what was
 * learned stays until its time is up. 0, -EINVAL. */
int ip_auto6(struct ip_stack *s, uint32_t port, int on);
/** The IPv4 address, net, router and MTU of a port come from DHCP (RFC 2131). last: an address that it had before,
 * which is asked for again, or NULL. May be called again with one, before the first ip_timer. 0, -EINVAL. */
int ip_dhcp4(struct ip_stack *s, uint32_t port, const struct ip_addr *last);
/** prefix_len counts in the address's own family (0…32, 0…128). via may be NULL (on link). -EEXIST, -ENOSPC,
 * -ENETUNREACH (via not on a connected net). Replaces a learned route. */
int ip_route_add(struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len, const struct ip_addr *via,
                 uint32_t port);
int ip_route_del(struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len);

/* --- for those who look on (worker thread) --- */
struct ip_addr_row {
  struct ip_addr addr;
  uint8_t port;
  uint8_t prefix;    /* of the family */
  uint8_t by;        /* 0 the configuration, 1 the MAC (link-local), 2 a router's advertisement, 3 DHCP */
  uint8_t duplicate; /* another station has it */
};
/** Our addresses; returns how many were written. */
uint32_t ip_addr_list(const struct ip_stack *s, struct ip_addr_row *out, uint32_t max);
struct ip_port_row {
  uint8_t mac[6];
  uint8_t up;
  uint32_t mtu;
};
struct ip_route_row {
  struct ip_addr prefix, via;
  uint8_t bits; /* of the family */
  uint8_t has_via;
  uint8_t port;
  uint8_t by; /* 0 the user, 1 an address of the interface, 2 learned from a router or by DHCP */
};
/** Routes in no order, from the `skip`th on; returns how many were written, *total how many there are. */
uint32_t ip_route_list(const struct ip_stack *s, struct ip_route_row *out, uint32_t max, uint32_t skip,
                       uint32_t *total);
/** The route of exactly this prefix: 0 or -ENOENT. prefix_len as in ip_route_add. */
int ip_route_get(const struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len, struct ip_route_row *out);
struct ip_neigh_row {
  struct ip_addr addr;
  uint8_t mac[6];
  uint8_t port;
  const char *state; /* as RFC 4861 7.3.2 names it; also for IPv4 */
  usec_t confirmed;  /* when it was last known to answer; 0 = never */
};
/** Neighbours in no order; returns how many were written. */
uint32_t ip_neigh_list(const struct ip_stack *s, struct ip_neigh_row *out, uint32_t max);
/** A port or VLAN, zeros if there is none yet. */
void ip_port_get(const struct ip_stack *s, uint32_t port, struct ip_port_row *out);

/* --- several stacks of one host (learned.c) --- */

#define IP_LEARNED_ADDRS  64u
#define IP_LEARNED_ROUTES 128u
#define IP_LEARNED_PORTS  24u

/** What a stack has learned, for its sisters. Bytes that mean nothing are 0, so that two can be compared. */
struct ip_learned {
  uint32_t n_addrs, n_routes;
  struct {
    struct ip_addr addr;
    uint8_t port, prefix, by, deprecated, duplicate;
  } addr[IP_LEARNED_ADDRS];
  struct {
    struct ip_addr prefix, via;
    uint8_t bits, port, has_via;
  } route[IP_LEARNED_ROUTES];
  struct {
    uint32_t mtu4, mtu6, hop_limit;
  } port[IP_LEARNED_PORTS];
};

/** This stack is a sister of one that answers ARP, ND and echo, announces, detects duplicates and learns: it only asks
 * for neighbours that it needs. Before anything else. */
void ip_quiet(struct ip_stack *s);
/** Addresses, routes and values that came from the network. */
void ip_learned(const struct ip_stack *s, struct ip_learned *out);
/** Take over what a sister has learned, and forget what it no longer knows. */
void ip_learn(struct ip_stack *s, const struct ip_learned *in, usec_t now);
/** Changes whenever something that ip_learned tells may have changed, and at times without. */
uint32_t ip_gen(const struct ip_stack *s);

/* --- data path --- */
/** A frame from the link: parses, answers ARP/ND/ICMP, delivers. Never keeps pointers into p. */
void ip_input(struct ip_stack *s, struct pkt *p, usec_t now);
/** A datagram that frame_loop kept: its headers lie in the first piece, its checksums need no look. */
void ip_loop_input(struct ip_stack *s, struct pkt *p, usec_t now);
/** Choose the source address towards dst (RFC 6724 in the small): 0, -ENETUNREACH. */
int ip_source(struct ip_stack *s, const struct ip_addr *dst, struct ip_addr *src);
/** Some of our addresses: those that may() says 1 of. */
struct ip_among {
  int (*may)(const void *ctx, const struct ip_addr *a);
  const void *ctx;
};
#define IP_BY_ROUTE UINT32_MAX /* ifindex: a route must tell, as in ip_source */
/** As ip_source_on, one of those (NULL = of all); -EADDRNOTAVAIL if there is a route, but none of them. */
int ip_source_among(struct ip_stack *s, const struct ip_addr *dst, uint32_t ifindex, const struct ip_among *among,
                    struct ip_addr *src);
/** Whether interface number `port` has one of them. */
int ip_port_among(const struct ip_stack *s, uint32_t port, const struct ip_among *among);
/** 1 if it is one of our addresses. */
int ip_is_local(const struct ip_stack *s, const struct ip_addr *a);
/** MTU towards dst, or -ENETUNREACH. */
int ip_mtu(struct ip_stack *s, const struct ip_addr *dst);
/** The same, or less if a transport found out that the path takes less. */
int ip_path_mtu(struct ip_stack *s, const struct ip_addr *dst, usec_t now);
/** A transport found out (and checked) that the path to dst takes `mtu` bytes; believed until `until`. 1 if the
 * other workers' stacks should be told, 0 if it is nothing new. */
int ip_path_mtu_learn(struct ip_stack *s, const struct ip_addr *dst, uint32_t mtu, usec_t until, usec_t now);
/** The same, found by another worker: not counted again. */
int ip_path_mtu_told(struct ip_stack *s, const struct ip_addr *dst, uint32_t mtu, usec_t until, usec_t now);
/** 1 if it is the limited broadcast address, or that of one of our nets. */
int ip_is_broadcast(const struct ip_stack *s, const struct ip_addr *a);
/** As ip_source; with ifindex (1 + interface number) an address of that interface, and without a route to a group or
 * link-local address the first one that fits. 0, -ENETUNREACH. */
int ip_source_on(struct ip_stack *s, const struct ip_addr *dst, uint32_t ifindex, struct ip_addr *src);
/** As ip_mtu, also for groups and links that only the source address names. */
int ip_mtu_from(struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst);
/** Whether a frame would leave at once: 1; 0: the next hop's address is being asked for; -ENETUNREACH, -EHOSTUNREACH.
 */
int ip_ready(struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst, usec_t now);
/** A session receives what is sent to the group on an interface: number ifindex - 1, else that of our address `local`
 * (may be NULL), else by route. Interface number, -ENODEV, -ENOBUFS, -EINVAL (no group). One leave per join. */
int ip_group_join(struct ip_stack *s, const struct ip_addr *group, uint32_t ifindex, const struct ip_addr *local);
void ip_group_leave(struct ip_stack *s, const struct ip_addr *group, uint32_t port);
/** A session of another engine worker has joined the group, or left it, and its stack has told the link. */
void ip_group_told(struct ip_stack *s, const struct ip_addr *group, uint32_t port, int join);
/** 1 if what is sent to the group is ours to receive on interface number `port`. */
int ip_group_is(const struct ip_stack *s, uint32_t port, const struct ip_addr *group);
/** Number of the interface that has this address of ours. */
uint32_t ip_port_of(const struct ip_stack *s, const struct ip_addr *local);
/** Send an L4 datagram: t holds L4 header (+ payload pieces); IP and Ethernet headers are prepended. If the neighbour
 * is unknown the frame is queued there (bounded, oldest dropped and counted; fifo references stay valid only as long as
 * the owner keeps them: TCP's retransmission covers that, so queued frames with fifo pieces are *dropped*, and -EAGAIN
 * is returned; the owner is told nothing more). 0, -ENETUNREACH, -EHOSTUNREACH, -EMSGSIZE, -EAGAIN. t is consumed in
 * every case. `path` may be NULL. To one of our own addresses it goes to ops->frame_loop, -ENOBUFS if that is full.
 * With t->frag_mtu a datagram that is too long leaves in fragments; -EAGAIN if the neighbour is not yet known. */
int ip_output(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
              uint8_t tos, uint8_t ttl, struct ip_path *path, usec_t now);
/** Upper layer says the peer answers (RFC 4861 7.3.1): keeps the neighbour reachable. */
void ip_confirm(struct ip_stack *s, const struct ip_path *path, usec_t now);
/** Timers: ARP/ND retries, ageing, announcements. Returns the next time it wants to be called, at most 100 ms ahead,
 * since input, output and configuration may bring it forward; calling it every turn costs one comparison. */
usec_t ip_timer(struct ip_stack *s, usec_t now);
/** Gives every frame that waits for a neighbour back through frame_drop; before the link's TX slots are recounted. */
void ip_drop_queued(struct ip_stack *s);
/** Announce all addresses of a port: gratuitous ARP / unsolicited NA (start, link up). ip_timer does it by itself after
 * ip_addr_add, and after ip_port_set that brought the port up or changed its MAC. */
void ip_announce(struct ip_stack *s, uint32_t port, usec_t now);

#endif
