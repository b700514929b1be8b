/*
 * Trace: a ring of 64-byte records in the process's own memory, for the question "what happened just before". Off it
 * costs one relaxed load per event; on, two locked instructions and seven stores. No clock, lock or system call: the
 * loop tells the time once per turn (trace_set_now). Any thread.
 */
#ifndef HS_BASE_TRACE_H
#define HS_BASE_TRACE_H

#include "base/bytes.h"
#include "base/err.h"

#include <stddef.h>

enum trace_id {
#define TRACE_EVENT(name, a, b, c, d) TRACE_##name,
#include "base/trace_list.h"
#undef TRACE_EVENT
  TRACE_N_EVENTS
};

struct trace_rec {
  uint64_t seq; /* 1 + number of the event; 0: none, UINT64_MAX: being written */
  usec_t time;  /* what trace_set_now of the thread last said */
  uint32_t id;
  uint32_t pad0;
  uint64_t arg[4];
  uint64_t pad1;
};
_Static_assert(sizeof(struct trace_rec) == 64, "a trace record is one cache line");

extern uint32_t trace_on;
extern __thread usec_t trace_now;

/** Starts tracing into a ring of n records (rounded up to a power of two, 64..2^20). Returns 0, -EINVAL, -ENOMEM. */
HS_MUST_CHECK int trace_start(uint32_t n);

/** Stops tracing; the records stay for trace_read and trace_dump until trace_free. */
void trace_stop(void);

/** Gives the ring back. No thread may be tracing. */
void trace_free(void);

static inline void trace_set_now(usec_t now) {
  trace_now = now;
}

/** Writes one record; use TRACE(). */
void trace_put(uint32_t id, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/** TRACE(tcp_rto, conn, seq, rto, backoff): always four arguments, 0 where the list says "". */
#define TRACE(name, a, b, c, d)                                                                                        \
  do {                                                                                                                 \
    if (__builtin_expect(__atomic_load_n(&trace_on, __ATOMIC_RELAXED) != 0, 0))                                        \
      trace_put(TRACE_##name, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d));                             \
  } while (0)

/** Copies the newest ≤ room records, oldest first; records overwritten meanwhile are left out. Returns how many. */
size_t trace_read(struct trace_rec *out, size_t room);

/** Writes a record as one line of JSON without newline, NUL-terminated. Returns its length or -ENOSPC. */
HS_MUST_CHECK int trace_format(const struct trace_rec *rec, char *buf, size_t room);

/** Writes the newest ≤ max records to fd, one JSON line each. Returns how many or -errno. */
HS_MUST_CHECK int trace_dump(int fd, size_t max);

/** Name of an event, NULL if there is no such id. */
const char *trace_name(uint32_t id);

#endif
