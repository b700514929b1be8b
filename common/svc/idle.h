/*
 * Idle strategy of a data-path loop (DATAPATH.md: guarded hybrid): poll while there is work, yield for a while, then
 * ask to be woken, look again, and sleep.
 *
 *   for (;;) { n = work(); switch (idle_next(&idle, n, now)) { case IDLE_POLL: pause; case IDLE_YIELD: sched_yield;
 *              case IDLE_SLEEP: arm all; if nothing pending: epoll_wait(…, IDLE_CEILING_MS); disarm; idle_woke(…) } }
 */
#ifndef HS_SVC_IDLE_H
#define HS_SVC_IDLE_H

#include "base/bytes.h"

enum idle_mode { IDLE_MODE_ADAPTIVE = 0, IDLE_MODE_POLL = 1, IDLE_MODE_SLEEP = 2 };
enum idle_step { IDLE_WORK = 0, IDLE_PAUSE = 1, IDLE_YIELD = 2, IDLE_SLEEP = 3 };
#define IDLE_CEILING_MS 100

struct idle {
  enum idle_mode mode;
  uint32_t empty_polls;
  usec_t idle_since;     /* first empty poll since work or sleep */
  usec_t worked_until;   /* first empty poll since work */
  usec_t no_yield_until; /* guard: yields that took > 300 µs mean that others need the core */
  uint32_t slow_yields;  /* such yields in a row */
  /* Gaps between pieces of work tend to follow each other in a pattern (an answer comes soon, the next request late),
   * so there is one figure for the gap after a short one and one for the gap after a long one. */
  uint32_t soon[2]; /* share of gaps that were short, of late: 0 … IDLE_SOON_ALL */
  uint8_t was_soon; /* the last gap was short */
  uint8_t in_gap;   /* no work since worked_until */
  uint8_t waited;   /* the pauses of this gap are over: it counts */
  uint64_t sleeps, yields;
};

void idle_init(struct idle *i, enum idle_mode mode);
/** What to do after a turn that handled `work` items. The caller does it (idle_yield does the measured sched_yield). */
enum idle_step idle_next(struct idle *i, uint32_t work, usec_t now);
/** sched_yield, measured. Returns the time after it. */
usec_t idle_yield(struct idle *i, usec_t now);
static inline void idle_pause(void) {
  __builtin_ia32_pause();
}

#endif
