/*
 * The stack's inside, for the files of this room alone: ports, own addresses, and what the files call of each other.
 * One per engine worker; no thread but the worker touches it.
 */
#ifndef HS_ENGINE_IP_STACK_H
#define HS_ENGINE_IP_STACK_H

#include "base/bits.h"
#include "ip/dhcp.h"
#include "ip/group.h"
#include "ip/ip.h"
#include "ip/ip_counters.h"
#include "ip/neigh.h"
#include "ip/ra.h"
#include "ip/reasm.h"
#include "ip/route.h"
#include "wire/eth.h"
#include "wire/ip.h"
#include "wire/nd.h"

#define STACK_PORTS_MAX     (ABI_PORTS_MAX + 16u) /* ports, and VLANs behind them */
#define STACK_ADDRS_MAX     256u
#define STACK_HEAD_MAX      1024u /* bytes of a frame that are made contiguous: Ethernet, IP and extension headers */
#define STACK_MSG_MAX       2048u /* longest ICMP message but echo that is looked at */
#define STACK_SLOT_ROOM     (ABI_SLOT_SIZE - ABI_SLOT_HEAD - TXF_HEADROOM) /* bytes behind the headroom of a TX slot */
#define STACK_REDIRECTS_MAX 64u
#define STACK_FRAG_COUNTERS 256u
#define STACK_TTL           64u

struct ip_port {
  uint8_t used, up;
  uint8_t mac[6];
  uint8_t hop_limit; /* IPv6, unless the sender has a wish */
  uint8_t parent;    /* of a VLAN: the port whose frames carry it */
  uint8_t foreign;   /* of another VRF: here for the VLANs that it carries alone (ip_port_foreign) */
  uint16_t vlan;     /* 1 … 4094, 0: a port */
  uint32_t mtu_max;  /* of a VLAN, as configured; 0: the parent's */
  uint32_t mtu;
  uint32_t mtu4; /* what the DHCP server allows on the link, 0: nothing said */
  uint32_t mtu6; /* what routers allow */
};

/** Largest packet of a family that a port takes. */
static inline uint32_t port_mtu(const struct ip_port *p, int four) {
  uint32_t said = four ? p->mtu4 : p->mtu6;
  return said == 0 ? p->mtu : HS_MIN(p->mtu, said);
}

enum local_state {
  LOCAL_FREE = 0,
  LOCAL_OPTIMISTIC, /* IPv6, uniqueness not yet known: used, but advertised without override (RFC 4429) */
  LOCAL_PREFERRED,
  LOCAL_DUPLICATE, /* another station has it: not ours */
};

/* Where an address comes from. */
enum local_by {
  LOCAL_BY_USER = 0,
  LOCAL_BY_MAC, /* link-local */
  LOCAL_BY_RA,
  LOCAL_BY_DHCP,
};

/* One of our addresses. */
struct ip_local {
  struct ip_addr addr;
  uint8_t port;
  uint8_t prefix;          /* of the family */
  uint8_t state;           /* enum local_state */
  uint8_t automatic;       /* enum local_by */
  uint8_t step;            /* announcements done */
  uint8_t due;             /* to be announced by the next ip_timer */
  uint8_t deprecated;      /* its preferred lifetime is over (RFC 4862 5.5.4) */
  uint16_t next;           /* in its bucket, 1 + index */
  usec_t preferred, valid; /* until when, of learned ones */
  usec_t defended;         /* when we last defended it (RFC 5227 2.4) */
  struct timer_ent timer;
};

/* A destination with a better first hop than the routes say. */
struct redirect {
  struct ip_addr dst, to;
  usec_t until; /* 0: the record is free */
  uint8_t port;
};

/* A received frame while it is looked at: its head, contiguous. */
struct ip_view {
  const uint8_t *h;
  uint32_t avail; /* bytes at h: the whole frame, or at least STACK_HEAD_MAX */
  struct eth_hdr eth;
};

enum stack_timer {
  STACK_TIMER_NEIGH = 1,
  STACK_TIMER_LOCAL = 2,
  STACK_TIMER_REASM = 3,
  STACK_TIMER_RS = 4,
  STACK_TIMER_RA = 5,
  STACK_TIMER_DHCP = 6,
  STACK_TIMER_MLD = 7,
  STACK_TIMER_REDIRECT = 8,
};

/** A path MTU that was found out (pmtu.c). */
struct ip_pmtu {
  struct ip_addr dst;
  uint32_t mtu;
  usec_t until; /* it counts */
};
#define PMTU_SETS 128u
#define PMTU_WAYS 4u

struct ip_stack {
  struct ip_ops ops;
  void *ctx;
  uint64_t *counters;
  uint32_t gen; /* of routes, addresses, ports and neighbours: struct ip_path */
  uint16_t ip_id;
  uint8_t clock_on, announce_due;
  uint8_t quiet; /* ip_quiet */
  struct ip_port port[STACK_PORTS_MAX];
  struct ip_local local[STACK_ADDRS_MAX];
  uint16_t local_bucket[STACK_ADDRS_MAX]; /* 1 + index, 0 empty */
  uint32_t n_local;                       /* records ever used: the walk's end */
  struct route_table routes;
  struct neigh_table neigh;
  struct reasm_table reasm;
  struct ra_table ra;
  struct ra_port ra_port[STACK_PORTS_MAX];
  struct dhcp_port dhcp[STACK_PORTS_MAX];
  struct timer_ent mld_timer[STACK_PORTS_MAX];
  struct ip_group group[GROUPS_MAX];
  struct redirect redirect[STACK_REDIRECTS_MAX];
  struct timer_ent redirect_timer;
  uint32_t dhcp_count;      /* transactions begun */
  uint32_t ra_reachable_ms; /* as advertised last */
  uint32_t frag_count[STACK_FRAG_COUNTERS];
  struct timer_wheel wheel;
  usec_t next_due;
  usec_t err_at; /* token bucket of ICMP errors */
  uint32_t err_tokens;
  uint64_t own_counters[IPC_N]; /* if the caller keeps none */
  uint8_t head[STACK_HEAD_MAX];
  uint8_t msg[STACK_MSG_MAX];
  struct ip_pmtu pmtu[PMTU_SETS * PMTU_WAYS];
  usec_t pmtu_until; /* none counts after this */
};

/** Whether there is, or may come, a port or VLAN of this number, of this stack's VRF. */
static inline int port_is(const struct ip_stack *s, uint32_t port) {
  return port < STACK_PORTS_MAX && !s->port[port].foreign && (port < ABI_PORTS_MAX || s->port[port].vlan != 0);
}

static inline void stack_count(struct ip_stack *s, enum ip_counter c) {
  s->counters[c]++;
}
/** Every struct ip_path made so far is void. */
static inline void stack_changed(struct ip_stack *s) {
  if (++s->gen == 0)
    s->gen = 1;
}
/** Arms a timer of this room; timer_cancel needs no help. */
void stack_arm(struct ip_stack *s, struct timer_ent *t, enum stack_timer kind, uint32_t user, usec_t when, usec_t now);
/** An empty frame for port, or counts and returns -ENOBUFS. */
int stack_frame(struct ip_stack *s, struct txf *t, uint32_t port);

/* eth.c */
/** Looks at a frame's Ethernet header. Returns 0 with *v set, or -EBADMSG: counted, drop it. */
int eth_input(struct ip_stack *s, struct pkt *p, struct ip_view *v);
/** Prepends the Ethernet header and hands the frame to the link. */
void eth_output(struct ip_stack *s, struct txf *t, const uint8_t dst[6], uint16_t type);

/* arp.c */
void arp_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v, usec_t now);
/** Who has dst? mac NULL: to everybody. 0 or -errno. */
int arp_ask(struct ip_stack *s, uint32_t port, const struct ip_addr *dst, const uint8_t *mac);
/** Has anybody this address? (RFC 5227 2.1.1) 0 or -ENOBUFS. */
int arp_probe(struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** RFC 5227 2.3 announcement. 0 or -ENOBUFS. */
int arp_announce(struct ip_stack *s, const struct ip_local *l);

/* nd.c */
/** msg: the ICMPv6 message, checksum right, len bytes contiguous. */
void nd_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v, const uint8_t *msg, uint32_t len,
              usec_t now);
int nd_ask(struct ip_stack *s, uint32_t port, const struct ip_addr *dst, const uint8_t *mac);
/** Duplicate address detection: a solicitation from ::. 0 or -ENOBUFS. */
int nd_probe(struct ip_stack *s, const struct ip_local *l);
/** Unsolicited advertisement to all nodes. 0 or -ENOBUFS. */
int nd_announce(struct ip_stack *s, const struct ip_local *l);

/** Router solicitation to all routers. 0 or -ENOBUFS. */
int nd_solicit_router(struct ip_stack *s, uint32_t port);

/* ra.c */
/** The port came up, or was told to learn. */
void ra_start(struct ip_stack *s, uint32_t port, usec_t now);
void ra_solicit(struct ip_stack *s, uint32_t port, usec_t now);
/** 0, or -EBADMSG: not a valid one. */
int ra_input(struct ip_stack *s, const struct pkt *p, const struct nd_msg *m, usec_t now);
void ra_timer(struct ip_stack *s, usec_t now);
/** A neighbour stopped answering, or answers again. */
void ra_silent(struct ip_stack *s, uint32_t port, const struct ip_addr *router, int silent);

/* redirect.c */
/** from says that `to` is the better first hop towards dst; to == dst: it is on the link. 0, or -errno: refused. */
int redirect_input(struct ip_stack *s, uint32_t port, const struct ip_addr *from, const struct ip_addr *dst,
                   const struct ip_addr *to, usec_t now);
/** A hop stopped answering; NULL: all of the port are void. */
void redirect_silent(struct ip_stack *s, uint32_t port, const struct ip_addr *hop);
void redirect_timer(struct ip_stack *s, usec_t now);

/* mld.c */
/** Says that we listen to the solicited-node group of an address. 0 or -ENOBUFS. */
int mld_join(struct ip_stack *s, const struct ip_local *l);
void mld_query(struct ip_stack *s, const struct pkt *p, const uint8_t *msg, uint32_t len, usec_t now);
void mld_timer(struct ip_stack *s, uint32_t port);
/** A report of one group of an app's; `type` as in RFC 3810 5.2.12. */
void mld_group(struct ip_stack *s, uint32_t port, const struct ip_addr *group, uint8_t type);

/* group.c */
int group_has(const struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** Every group of a family on a port, in answer to a query. */
void group_report(struct ip_stack *s, uint32_t port, int four);
void group_igmp_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v);

/* dhcp.c */
/** The port came up, or was told to ask. */
void dhcp_start(struct ip_stack *s, uint32_t port, usec_t now);
/** 1 if the datagram was for the DHCP client. */
int dhcp_input(struct ip_stack *s, const struct pkt *p, usec_t now);
/** Another station on the port's link uses this address. */
void dhcp_claimed(struct ip_stack *s, uint32_t port, const struct ip_addr *a, usec_t now);
void dhcp_timer(struct ip_stack *s, uint32_t port, usec_t now);

/* addr.c */
/** A new address of a port; NULL if there is no room. */
struct ip_local *addr_make(struct ip_stack *s, uint32_t port, const struct ip_addr *a, uint32_t prefix,
                           enum local_by by);
void addr_remove(struct ip_stack *s, struct ip_local *l);
/** Our address record, or NULL; duplicates are not ours. */
struct ip_local *addr_find(const struct ip_stack *s, const struct ip_addr *a);
/** The same on one port, duplicates included. */
struct ip_local *addr_on_port(const struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** Best source address on a port towards dst, or NULL. */
const struct ip_local *addr_pick(const struct ip_stack *s, uint32_t port, const struct ip_addr *dst,
                                 const struct ip_among *among);
/** Whether a is the subnet broadcast address of some address on port. */
int addr_is_subnet_broadcast(const struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** Whether a multicast group is one that we listen to on port. */
int addr_is_group(const struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** Makes or renews the automatic link-local address of a port. 0 or -ENOSPC. */
int addr_linklocal(struct ip_stack *s, uint32_t port);
void addr_timer(struct ip_stack *s, struct ip_local *l, usec_t now);
/** Starts the announcements of all addresses that are due. */
void addr_announce_due(struct ip_stack *s, usec_t now);
/** Another station claims this address of ours. */
void addr_conflict(struct ip_stack *s, struct ip_local *l, usec_t now);

/* neigh.c */
void neigh_init(struct neigh_table *t, struct neigh *n, uint32_t *bucket);
struct neigh *neigh_find(struct ip_stack *s, uint32_t port, const struct ip_addr *a);
/** The entry, made INCOMPLETE and asked for if there is none; NULL never: the oldest one gives way. */
struct neigh *neigh_need(struct ip_stack *s, uint32_t port, const struct ip_addr *a, usec_t now);
/** Output uses a resolved entry: STALE becomes DELAY. */
void neigh_used(struct ip_stack *s, struct neigh *e, usec_t now);
/** Keeps a frame, complete but for its Ethernet header, until the MAC is known. The frame is taken in every case. */
void neigh_queue(struct ip_stack *s, struct neigh *e, struct txf *t);
/** Something was heard of it; mac may be NULL. what: enum neigh_said. */
void neigh_heard(struct ip_stack *s, struct neigh *e, const uint8_t *mac, unsigned what, usec_t now);
void neigh_timer(struct ip_stack *s, struct neigh *e, usec_t now);
/** Forgets all neighbours of a port. */
void neigh_flush_port(struct ip_stack *s, uint32_t port);

/* reasm.c */
void reasm_init(struct reasm_table *t, struct reasm *r, uint8_t *buf);
/** A fragment that is for us. */
void reasm_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now);
void reasm_timer(struct ip_stack *s, struct reasm *r, usec_t now);

/* ip_input.c */
/** A datagram put together from fragments: headers from v->h on, p->l3_off 0, to_us known. */
void input_whole(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now);

/* frag.c */
/** Sends the L4 datagram t in fragments of at most mtu bytes; h has version, tos, ttl, proto, src and dst. Takes t. 0,
 * -EMSGSIZE, -ENOBUFS. */
int frag_output(struct ip_stack *s, struct txf *t, struct ip_hdr *h, uint32_t mtu, const uint8_t mac[6]);

/* ip_output.c */
/** Port and next hop towards dst. 0 or -ENETUNREACH. */
int output_route(const struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst, uint32_t *port,
                 struct ip_addr *hop);
/** Prepends IP and Ethernet headers and sends: port, source, destination and MAC are given. For ND and the like. */
int output_direct(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst,
                  uint8_t proto, uint8_t ttl, const uint8_t mac[6]);

/* icmp.c, icmp6.c, icmp_error.c */
void icmp4_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now);
void icmp6_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now);
/** Sends an error about p if the RFCs and the rate limit allow. ptr: parameter problem only. */
void icmp4_send_error(struct ip_stack *s, struct pkt *p, const struct ip_view *v, uint8_t type, uint8_t code,
                      usec_t now);
void icmp6_send_error(struct ip_stack *s, struct pkt *p, const struct ip_view *v, uint8_t type, uint8_t code,
                      uint32_t ptr, usec_t now);
/** Answers an echo request of either family with `reply` as type. */
void icmp_echo(struct ip_stack *s, struct pkt *p, uint8_t reply, usec_t now);

/** What an ICMP error means to a transport. */
struct icmp_verdict {
  int kind; /* 0 soft, 1 hard, 2 path MTU; -1: nothing */
  int err;  /* errno */
  uint32_t mtu;
  int dgram; /* a soft error that is hard for datagrams: nobody sends those again */
};
/** Finds the flow that the quoted datagram belongs to and tells the owner. */
void icmp_error_tell(struct ip_stack *s, const uint8_t *quote, uint32_t len, const struct icmp_verdict *v, usec_t now);
/** A token of the error rate limit, 1 if there was one. */
int icmp_error_allowed(struct ip_stack *s, usec_t now);

#endif
