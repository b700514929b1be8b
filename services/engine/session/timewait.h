/*
 * TIME_WAIT of connections whose apps have let go: compact records (abi/timewait.h) in the TCB segment, found by
 * 4-tuple, ended by time. Worker thread.
 *
 * When the table is full the record that ends first goes first, counted as engine.timewait.full: it has waited longest,
 * so the segments that it stands guard against are the least likely to come.
 */
#ifndef HS_ENGINE_TIMEWAIT_H
#define HS_ENGINE_TIMEWAIT_H

#include "abi/timewait.h"
#include "base/freelist.h"
#include "base/hash.h"
#include "pkt.h"
#include "tcp/tcp.h"
#include "wire/addr.h"

struct worker;
struct session;

#define TIMEWAIT_BUCKETS 2048u /* of 2^19 µs each: 1073 s, more than engine.tcp.time-wait-ms may be */
#define TIMEWAIT_NONE    UINT32_MAX

/** Soft half of a record: its place in the list of its bucket, or of the free ones. Index + 1, 0 = end. */
struct timewait_link {
  uint32_t next, prev;
};

struct timewait {
  struct abi_tw *tw;          /* in the TCB segment; NULL: this segment has none, full TCBs wait instead */
  uint32_t n;                 /* records */
  uint32_t used;              /* by this worker */
  struct freelist *free;      /* records below tw_high; shared by the workers of an engine … */
  struct timewait_link *link; /* … as is this: a link belongs to the worker that has the record */
  int borrowed;
  struct hash_tab index;
  uint64_t swept; /* number of the bucket that is looked at next */
  uint32_t bucket[TIMEWAIT_BUCKETS];
};

/** The table behind the TCBs of `w`, if there is one. 0 or -ENOMEM/-EPROTO. */
int timewait_open(struct worker *w);
/** The table of the first worker, for another: records of the same memory, found by each for itself. 0 or -ENOMEM. */
int timewait_borrow(struct worker *w, const struct timewait *of);
void timewait_close(struct timewait *t);
/** Take back what a predecessor left, for all workers of the group. Returns the number. */
uint32_t timewait_adopt(struct worker *w);
/** `s` is in TIME_WAIT and nobody owns it: leave a record. 1 = done, `s` and its TCB are gone; 0 = no table. */
int timewait_take(struct worker *w, struct session *s);
/** Record of a VRF and 4-tuple, or TIMEWAIT_NONE. */
uint32_t timewait_find(struct worker *w, uint32_t vrf, const struct ip_addr *local, uint16_t lport,
                       const struct ip_addr *remote, uint16_t rport);
/** End it now. */
void timewait_end(struct worker *w, uint32_t i);
/** A segment that no session wants. 1 = dealt with; 0 = not for a record, or a SYN that may begin anew: then the record
 * is gone, and *isn_floor tells which number the new ISN must exceed. */
int timewait_input(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, seq32_t *isn_floor, usec_t now);
/** End what is over. Returns the number, bounded per call. */
uint32_t timewait_expire(struct worker *w);

#endif
