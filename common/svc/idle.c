/*
 * Idle strategy of a data-path loop: up to 50 empty polls with pause, 2 µs at most, then sched_yield until 100 µs have
 * been empty, then sleep (figures measured: DATAPATH.md, "Rings and sleep"). Two yields in a row that took
 * longer than 300 µs say that somebody else needs the core: no yielding for 20 ms.
 *
 * Called by the lcore of nicio and the workers of the engine, each with its own struct. Reads no clock but in
 * idle_yield.
 */
#include "svc/idle.h"

#include "base/clock.h"

#include <sched.h>

#define IDLE_PAUSE_POLLS   50u
#define IDLE_PAUSE_US      2u /* a poll that looks at devices is no short pause: the core may be what we wait for */
#define IDLE_EMPTY_US      100u
#define IDLE_YIELD_LONG_US 300u
#define IDLE_NO_YIELD_US   20000u
#define IDLE_SLOW_YIELDS   2u  /* in a row: a single one may be the host's doing (steal), not somebody on our core */
#define IDLE_VAIN          8u  /* yielding phases in vain after which they are left out … */
#define IDLE_RETRY         16u /* … but for one in so many, to see whether it pays again */

void idle_init(struct idle *i, enum idle_mode mode) {
  memset(i, 0, sizeof *i);
  i->mode = mode;
}

/* Whether this idle time may be spent yielding; asked once, when the pauses are over. */
static int idle_may_yield(struct idle *i) {
  return i->vain < IDLE_VAIN || ++i->skipped % IDLE_RETRY == 0;
}

enum idle_step idle_next(struct idle *i, uint32_t work, usec_t now) {
  if (work > 0) {
    if (i->yielding)
      i->vain = 0;
    i->yielding = 0;
    i->empty_polls = 0;
    return IDLE_WORK;
  }
  if (i->empty_polls == 0)
    i->idle_since = now;
  if (i->empty_polls < UINT32_MAX)
    i->empty_polls++;
  if (i->mode == IDLE_MODE_POLL)
    return IDLE_PAUSE;
  if (i->mode == IDLE_MODE_ADAPTIVE) {
    if (i->empty_polls <= IDLE_PAUSE_POLLS && now - i->idle_since < IDLE_PAUSE_US)
      return IDLE_PAUSE;
    if (now - i->idle_since < IDLE_EMPTY_US && now >= i->no_yield_until && (i->yielding || idle_may_yield(i))) {
      i->yielding = 1;
      return IDLE_YIELD;
    }
    if (i->yielding && i->vain < IDLE_VAIN)
      i->vain++;
    i->yielding = 0;
  }
  i->sleeps++;
  i->empty_polls = 0; /* whatever woke us, look a while before sleeping again */
  return IDLE_SLEEP;
}

usec_t idle_yield(struct idle *i, usec_t now) {
  i->yield_started = now;
  i->yields++;
  sched_yield();
  usec_t after = clock_now_us();
  i->slow_yields = after - now > IDLE_YIELD_LONG_US ? i->slow_yields + 1 : 0;
  if (i->slow_yields >= IDLE_SLOW_YIELDS)
    i->no_yield_until = after + IDLE_NO_YIELD_US;
  return after;
}
