/*
 * One neighbour (RFC 4861 5.1, 7.3; the same life for ARP): who calls what is in ip_stack.h. The table is bounded
 * and its records never move.
 */
#ifndef HS_ENGINE_IP_NEIGH_H
#define HS_ENGINE_IP_NEIGH_H

#include "base/list.h"
#include "base/timer.h"
#include "txf.h"
#include "wire/addr.h"

#define NEIGH_MAX        4096u
#define NEIGH_BUCKETS    4096u /* power of two */
#define NEIGH_NEW_MAX    1024u /* entries without a MAC at a time: a scan must not push out who we talk to (RFC 6583) */
#define NEIGH_QUEUE      96u /* frames kept per entry (RFC 4861 7.2.2): a burst of handshakes must not wait for its RTO */
#define NEIGH_QUEUED_MAX 128u /* in the whole table: each holds a TX slot */
#define NEIGH_NONE       UINT32_MAX

#define NEIGH_RETRANS_US 1000000ull  /* RFC 4861 10: RETRANS_TIMER */
#define NEIGH_PROBES     3u          /* MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT */
#define NEIGH_DELAY_US   5000000ull  /* DELAY_FIRST_PROBE_TIME */
#define NEIGH_REACH_US   30000000ull /* REACHABLE_TIME, times 0.5 … 1.5 */
#define NEIGH_FAILED_US  1000000ull  /* so long a silent neighbour is refused at once before we ask again */

enum neigh_state {
  NEIGH_FREE = 0,
  NEIGH_INCOMPLETE,
  NEIGH_REACHABLE,
  NEIGH_STALE,
  NEIGH_DELAY,
  NEIGH_PROBE,
  NEIGH_FAILED, /* asked three times, no answer */
};

/* What was heard of a neighbour; the ARP cases are said in arp.c. */
enum neigh_said {
  NEIGH_SAID_SOLICITED = 1, /* it answers us */
  NEIGH_SAID_OVERRIDE = 2,  /* a new MAC is to be believed */
};

/* A queued frame: struct txf without the fifo pieces, which are never queued. */
struct neigh_frame {
  uint32_t next; /* in its neighbour's queue, or in the free list */
  uint8_t *data, *slot_base;
  uint64_t slot_off;
  uint32_t slot, len;
  uint16_t flags, gso_size, csum_start;
  uint8_t csum_off;
};

struct neigh {
  struct ip_addr addr;
  uint8_t mac[6];
  uint8_t port;
  uint8_t state; /* enum neigh_state */
  uint8_t probes;
  uint8_t n_queued;
  uint8_t pad[2];
  uint32_t first, last; /* of the queue; valid while n_queued != 0 */
  uint32_t next;        /* in its bucket, or in the free list */
  usec_t confirmed;     /* last time it was known to answer */
  struct timer_ent timer;
  struct list age;     /* neigh_table.fresh or .known, least recently used first */
  struct list waiting; /* neigh_table.waiting while frames are queued */
};

struct neigh_table {
  struct neigh *n;  /* NEIGH_MAX, by the owner */
  uint32_t *bucket; /* NEIGH_BUCKETS, by the owner */
  uint8_t key[16];  /* of the hash: addresses are strangers' choice */
  usec_t reachable; /* REACHABLE_TIME of this stack */
  uint32_t n_made, free;
  uint32_t n_used, n_fresh, n_queued;
  uint32_t frame_free; /* first of the free ones in .frame */
  struct list fresh;   /* INCOMPLETE and FAILED */
  struct list known;   /* the others */
  struct list waiting;
  struct neigh_frame frame[NEIGH_QUEUED_MAX];
};

#endif
