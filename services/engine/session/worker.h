/*
 * The engine worker: one thread that owns its connections, its IP stacks, its side of one frame link and one lane of
 * every app worker. Nothing here is shared with another thread but the mailbox, and the free lists of durable records
 * and session slots. Worker 0 alone answers ARP, ND and pings and learns addresses; the others are told (pass.h).
 */
#ifndef HS_ENGINE_WORKER_H
#define HS_ENGINE_WORKER_H

#include "app.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/timer.h"
#include "counters.h"
#include "fast.h"
#include "ip/ip.h"
#include "listen.h"
#include "mailbox.h"
#include "offer.h"
#include "pass.h"
#include "session.h"
#include "shm/frame.h"
#include "shm/rules.h"
#include "svc/config.h"
#include "svc/idle.h"
#include "syn.h"
#include "tcb.h"
#include "tcp/tcp.h"
#include "tcp/tcp_counters.h"
#include "tcp/tcp_tfo.h"
#include "timewait.h"
#include "transport.h"
#include "udp/udp.h"

#define WORKER_APPS_MAX      1024u
#define WORKER_RX_BURST      64u
#define WORKER_LOOP_MAX      256u /* power of two */
#define WORKER_PORT_MOVES    256u
#define WORKER_TX_INLINE     512u   /* payload up to this is copied behind the headers instead of referred to */
#define WORKER_TCP_LOGS      16384u /* connections that may have much out at once; more recover more slowly */
#define WORKER_TCP_LOGS_SIZE ((size_t)WORKER_TCP_LOGS * TCP_LOG_SIZE)

/** The workers of one engine. Set before they run; w[i]->index is i. */
struct worker_group {
  uint32_t n;
  struct worker *w[ABI_LINKS_MAX];
};

/** A VRF as a worker has it: addresses, routes and neighbours of its own. The context of its stack's ops (vrf.c). */
struct worker_vrf {
  struct worker *w;
  struct ip_stack *ip; /* NULL: no interface is in it */
  uint8_t n;           /* its number */
};

struct worker {
  const struct config *cfg;
  uint32_t index;
  struct worker_group *group; /* of one, `alone`, until worker_join */
  struct worker_group alone;
  struct pass pass;
  usec_t now;
  usec_t (*clock)(void); /* clock_now_us, or a simulator's */
  /* frames */
  struct seg packet_seg;
  struct frame_seg frames;
  struct frame_link link;
  int link_open;
  int link_bell;      /* wakes nicio */
  int link_bell_mine; /* wakes us; in epfd, edge-triggered */
  uint32_t *tx_free;  /* stack of TX slots that are home */
  uint8_t *tx_home;   /* per TX slot: 1 = home */
  uint32_t n_tx_free, n_tx;
  uint32_t tx_first;
  uint32_t port_gen[ABI_PORTS_MAX];
  uint32_t vlan_port[CONFIG_VLANS_MAX]; /* IP's number of cfg->vlan[i] */
  usec_t ports_seen_at;
  uint32_t routes_waiting;         /* set at run time, and their gateway is on no net of ours yet */
  uint32_t routes_gen;             /* IP's generation when they were tried */
  struct worker_vrf vrf[ABI_VRFS]; /* those that the configuration names, and number 0 */
  uint32_t n_vrfs;                 /* the highest one's number + 1 */
  uint8_t vlan_parent[CONFIG_VLANS_MAX];
  struct txf *loop; /* frames to our own addresses, WORKER_LOOP_MAX; they hold their TX slots */
  uint32_t loop_head, loop_tail;
  /* sessions */
  struct tcb_table tcbs;
  struct pool sessions;
  struct pool outers; /* rooms of transports that keep more than a session has room for */
  struct hash_tab flows;
  uint8_t flow_key[16];
  struct list dirty;   /* sessions whose output is due at the end of the turn */
  struct list starved; /* sessions that stopped for want of a frame */
  struct list graveyard;
  struct list figures; /* sessions whose figures are to be written to their records */
  usec_t figures_at;
  struct list parked; /* finished handshakes that nobody takes now */
  uint8_t offers_due; /* somebody may take them now */
  uint32_t n_orphans;
  struct listen_table listeners;
  struct rules_view rules;
  struct timewait timewait;
  struct syn_gate syn_gate;
  struct fast_gate fast;
  uint32_t n_half_open;
  struct tcp_tfo tfo;
  struct timer_wheel wheel;
  usec_t ip_next;
  const struct transport_ops *transport[TRANSPORTS_MAX];
  const struct transport_ops *transport_ip[256];
  struct tcp_env tcp;
  void *tcp_logs; /* of tcp_env_memory */
  void *tcp_busy; /* of tcp_env_busy */
  size_t tcp_busy_size;
  uint16_t port_moves[WORKER_PORT_MOVES]; /* RFC 6056 3.3.4: how far the walk of a destination's ports has come */
  struct udp_env udp;
  /* apps */
  struct app_worker *app[WORKER_APPS_MAX];
  uint32_t n_apps;
  /* outside */
  struct mailbox mail;
  int epfd;
  usec_t bells_at; /* when a busy worker last looked at the doorbells of idle rings */
  struct idle idle;
  uint8_t wake_peer; /* ring nicio at the end of the turn whatever `armed` says */
  int adopted;       /* RX starts only when adoption is complete */
  int stop;
  uint64_t *counters;
  void *control; /* struct engine: told of drained and lying workers */
};

/** The stack of a VRF; NULL if no interface is in it. */
static inline struct ip_stack *worker_ip(const struct worker *w, uint32_t vrf) {
  return w->vrf[vrf].ip;
}

/** IP's number of an interface or VLAN by name, in all VRFs the same, UINT32_MAX if there is none. */
uint32_t worker_port(const struct worker *w, const char *name);

/** What the worker thread tells the control thread; called on the worker's thread, must not block. */
struct worker_control {
  /** No session refers to it any more; the callee frees it (on its own thread). */
  void (*drained)(void *control, struct app_worker *a);
  void (*lied)(void *control, uint64_t worker_id, const char *why);
};
extern const struct worker_control *worker_control;

/** `counters`: EC_N + TCP_N_COUNTERS + IPC_N + UDP_N_COUNTERS values. `clock` NULL = CLOCK_MONOTONIC. 0 or -errno. */
int worker_init(struct worker *w, const struct config *cfg, uint32_t index, uint64_t *counters, void *control,
                usec_t (*clock)(void));
/** An ICMP error for one of our connections that another worker heard. */
void worker_icmp(struct worker *w, const struct pass_error *e);
void worker_fini(struct worker *w);
/** `w` is worker `index` of a group of several, after worker_init: the first has its segments already, and lends them;
 * bell_mine wakes this one. Every worker of the group is in it by now. 0 or -errno. */
int worker_join(struct worker *w, struct worker_group *g, uint32_t index, int bell_peer, int bell_mine);
/** Take over fds of the packet and TCB segments and the link bells. 0 or -errno/-EPROTO. */
int worker_set_packet(struct worker *w, int fd, int bell_peer, int bell_mine);
int worker_set_tcbs(struct worker *w, int fd);
/** An app worker from the control thread. 0, -ENOSPC, -errno; on failure it stays the caller's. */
int worker_add_app(struct worker *w, struct app_worker *a);
struct app_worker *worker_app(struct worker *w, uint64_t id);
/** Everything was given: take all connections back, for every worker of the group, then begin. By worker 0, before the
 * others run. Returns the number adopted. */
int worker_adopt(struct worker *w);
/** adopt.c: records of `a` that no TCB claimed. */
void adopt_records(struct worker *w, struct app_worker *a);
/** Number of connections taken back, each by the worker of the group that its packets will come to. */
int tcp_transport_adopt(struct worker *w, usec_t now);
/** Loop until stop; the thread's main function. */
void worker_run(struct worker *w);
/** One turn; returns the number of things done. For tests. */
uint32_t worker_turn(struct worker *w);
/** The way to the wire is whole again: handshakes do not wait for their RTO. */
void worker_path_back(struct worker *w);
/** Throw away everything in flight with nicio and have every app rescan: nobody notices. On worker 0's thread, which
 * has the others do the same. */
void worker_reset_rings(struct worker *w);

/* figures.c: what is told about sessions in their records */
/** Written at once. */
void figures_now(struct worker *w, struct session *s);
/** The word behind SO_ERROR of a connection that lives on: a `fresh` error is told though it be the same again. */
void figures_soft_error(struct session *s, int fresh);
/** Something changed: written at once if the last time is 10 ms ago, otherwise with the next figures_write(). */
void figures_due(struct worker *w, struct session *s);
/** Write what is due: every 10 ms, or all at once before the worker sleeps. */
void figures_write(struct worker *w, int all);

/* vrf.c: the IP stacks of a worker */
/** Makes them, with the interfaces, addresses and routes of the configuration. 0 or -errno. */
int vrf_init(struct worker *w, uint64_t *counters);
void vrf_fini(struct worker *w);
/** nicio says what a port is: every stack may have a VLAN of it. */
void vrf_port_set(struct worker *w, uint32_t port, const uint8_t mac[6], uint32_t mtu, int up);
/** The clock of all of them; the next time that one wants to be called. */
usec_t vrf_timer(struct worker *w);
/** Changes whenever routes or addresses of one do. */
uint32_t vrf_gen(const struct worker *w);
/** ip_drop_queued of all. */
void vrf_drop_queued(struct worker *w);
/** Which one a frame from the link belongs to: its port's, or its VLAN's. */
uint8_t vrf_of_frame(const struct worker *w, const struct pkt *p);

/* frame_io.c: frames in and out */
int frame_io_get(struct worker *w, struct txf *t);
void frame_io_drop(struct worker *w, struct txf *t);
void frame_io_send(struct worker *w, struct txf *t);
/** Descriptors that still fit: a sender checks before it builds. */
static inline int frame_io_ready(const struct worker *w) {
  return w->link.up && w->n_tx_free > 0;
}
uint32_t frame_io_rx(struct worker *w);
uint32_t frame_io_done(struct worker *w);
/** Queues a datagram to one of our own addresses. 0 or -ENOBUFS. */
int frame_io_loop_put(struct worker *w, const struct txf *t);
/** Hands the frames that are queued now to IP, not those that this brings about. Returns the number. */
uint32_t frame_io_loop(struct worker *w);
/** Epoch changes of the link. */
void frame_io_poll(struct worker *w);
/** Every TX slot is home again. */
void frame_io_reclaim(struct worker *w);

static inline void worker_count(struct worker *w, enum engine_counter c, uint64_t n) {
  w->counters[c] += n;
}

#endif
