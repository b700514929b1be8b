/*
 * Listeners of one engine worker, compiled from the broker's policy table (abi/policy.h), and who is offered what.
 *
 * An entry is one process's share. A SYN chooses an entry by address and port; when the handshake is complete the
 * connection is offered to an armed share of the same listening socket, or of the same SO_REUSEPORT group.
 */
#ifndef HS_ENGINE_LISTEN_H
#define HS_ENGINE_LISTEN_H

#include "abi/policy.h"
#include "base/bytes.h"
#include "base/list.h"
#include "shm/seg.h"
#include "wire/addr.h"

struct worker;
struct session;

struct listener {
  uint32_t seen_gen; /* policy entry's gen that this copy is of; 0 = none */
  uint8_t live;
  uint8_t armed; /* its process takes offers; datagrams: its session takes what nobody is connected for */
  struct abi_listen_entry entry; /* the copy */
  uint32_t session;              /* datagrams: 1 + index of the session that has this port; 0 = not opened yet */
  uint32_t pending;              /* handshakes and offers not yet taken, of this worker … */
  uint32_t half;                 /* … of these, handshakes that wait for their last ACK */
  uint64_t *total;               /* the same of all workers: pending << 32 | half; atomic */
  uint32_t *n_fast;              /* Fast Opens whose last ACK has not come, of all workers; atomic */
  struct list waiting;           /* those sessions */
  struct list changed;           /* in the table's while its record is to be told of its accept queue */
  struct list *news;             /* the table's */
  uint32_t next;                 /* chain of one port; index + 1 */
  struct list proxy;             /* in the table's while it also takes ports that nobody listens at */
};

#define LISTEN_BUCKETS 1024u

static inline void listen_count(struct listener *l, int pending, int half) {
  l->pending += (uint32_t)pending;
  l->half += (uint32_t)half;
  (void)__atomic_add_fetch(l->total, ((uint64_t)(int64_t)pending << 32) + (uint64_t)(int64_t)half, __ATOMIC_RELAXED);
  if (!list_linked(&l->changed))
    list_add_tail(l->news, &l->changed);
}
/** Half-open connections, of all workers. */
static inline uint32_t listen_half(const struct listener *l) {
  return (uint32_t)__atomic_load_n(l->total, __ATOMIC_RELAXED);
}
/** Its accept queue: complete connections that no app has taken, of all workers. */
static inline uint32_t listen_ready(const struct listener *l) {
  uint64_t total = __atomic_load_n(l->total, __ATOMIC_RELAXED);
  return (uint32_t)(total >> 32) - (uint32_t)total;
}

struct listen_table {
  struct seg seg;
  struct abi_policy_geom geom;
  const struct abi_policy *policy;
  const struct abi_listen_entry *entries;
  struct listener *l;              /* n_listen */
  uint64_t *total;                 /* n_listen, shared by the workers of an engine */
  uint32_t *n_fast;                /* as many, shared too */
  struct list proxies;             /* listeners with ABI_LISTEN_PROXY */
  struct list changed;             /* listeners whose counts are others than their records say */
  int borrowed;                    /* another worker's mapping and totals */
  uint32_t bucket[LISTEN_BUCKETS]; /* by port: index + 1 */
  uint32_t high;
};

/** Map the policy segment (fd taken over). */
int listen_open(struct listen_table *t, int fd);
/** The table of another worker, which outlives us, with a state of our own. 0 or -ENOMEM. */
int listen_borrow(struct listen_table *t, const struct listen_table *of);
void listen_close(struct listen_table *t);
/** Read what changed. Returns the policy generation now served. */
uint32_t listen_refresh(struct worker *w);
/** Best entry for a destination in a VRF, or NULL. Specific address before wildcard; a REUSEPORT group spreads by
 * `hash`. */
struct listener *listen_find(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                             uint32_t hash);
/** The same among listeners of the app with that tag (abi_listen_entry), on any address of the family of `dst`. */
struct listener *listen_find_app(struct worker *w, uint32_t vrf, uint8_t proto, uint64_t tag, const struct ip_addr *dst,
                                 uint16_t port, uint32_t hash);
/** Streams: whoever takes connections there: the listener, or, where nobody listens, the first one of a proxy that is
 * there for `dst`, or a share of it by `hash`. Datagrams: stray.h. */
struct listener *listen_taker(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                              uint32_t hash);
/** listen_find among the armed ones alone: datagrams for whom no session is connected. */
struct listener *listen_find_armed(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst,
                                   uint16_t port, uint32_t hash);
/** Entries of a port that take `dst`, one after the other: NULL begins, and ends. */
struct listener *listen_next(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *dst, uint16_t port,
                             const struct listener *after);
/** Whether its address takes `dst`, whatever the port. */
int listen_takes(const struct listener *l, const struct ip_addr *dst);
/** An armed share, of its namespace, that may be offered a connection which came for `l`; NULL = park it. */
struct listener *listen_share(struct worker *w, struct listener *l, uint32_t hash);
/** A live share, armed if there is one, of the namespace and address that `of` names; NULL = nobody listens there any
 * more. */
struct listener *listen_heir(struct worker *w, const struct abi_listen_entry *of);
/** An app worker is dead or detached: its shares take no offers. */
void listen_gone(struct worker *w, uint64_t worker_id);
/** The app half of a listener's slot was hinted: armed may have changed. Every worker is told. */
void listen_look(struct worker *w, uint64_t worker_id, uint32_t slot, uint32_t gen, uint32_t armed);
struct listener *listen_by_slot(struct worker *w, uint64_t worker_id, uint32_t slot, uint32_t gen);
static inline int listen_has_news(const struct listen_table *t) {
  return t->l != NULL && !list_empty(&t->changed);
}
/** Accept queues of listeners that changed, to their records (TCP_INFO). With the figures of sessions. */
void listen_tell(struct worker *w);
/** 1 if some listener of the VRF uses this port (ephemeral ports avoid it). */
int listen_has_port(const struct worker *w, uint32_t vrf, uint8_t proto, uint16_t port);

#endif
