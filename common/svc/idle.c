/*
 * Idle strategy of a data-path loop: up to 50 empty polls with pause, 2 µs at most, then sched_yield until 50 µs have
 * been empty, then sleep (DATAPATH.md, "Rings and sleep", had 100: at a tenth of the load that burned three times the
 * CPU per request for the same rates and latencies). Two yields in a row that took longer than 300 µs say that somebody
 * else needs the core: no yielding for 20 ms. And none where work has not come soon of late: then yielding only burns
 * the core before a sleep.
 *
 * Called by the lcore of nicio and the workers of the engine, each with its own struct. Reads no clock but in
 * idle_yield.
 */
#include "svc/idle.h"

#include "base/clock.h"

#include <sched.h>

#define IDLE_PAUSE_POLLS   50u
#define IDLE_PAUSE_US      2u /* a poll that looks at devices is no short pause: the core may be what we wait for */
#define IDLE_EMPTY_US      50u
#define IDLE_YIELD_LONG_US 300u
#define IDLE_NO_YIELD_US   20000u
#define IDLE_SLOW_YIELDS   2u  /* in a row: a single one may be the host's doing (steal), not somebody on our core */
#define IDLE_SOON_US       70u /* a gap this short would have been worth yielding, seen from after a sleep too */
#define IDLE_SOON_ALL      256u

void idle_init(struct idle *i, enum idle_mode mode) {
  memset(i, 0, sizeof *i);
  i->mode = mode;
  i->was_soon = 1;
  i->soon[0] = i->soon[1] = IDLE_SOON_ALL;
}

/* Work came: what was the gap before it like? */
static void idle_learn(struct idle *i, usec_t now) {
  uint32_t *share = &i->soon[i->was_soon];
  i->was_soon = now - i->worked_until < IDLE_SOON_US;
  *share = *share - *share / 8 + (i->was_soon ? IDLE_SOON_ALL / 8 : 0);
}

static enum idle_step idle_work(struct idle *i, usec_t now) {
  if (i->in_gap && i->waited)
    idle_learn(i, now);
  i->in_gap = i->waited = 0;
  i->empty_polls = 0;
  return IDLE_WORK;
}

enum idle_step idle_next(struct idle *i, uint32_t work, usec_t now) {
  if (work > 0)
    return idle_work(i, now);
  if (!i->in_gap)
    i->worked_until = now;
  i->in_gap = 1;
  if (i->empty_polls == 0)
    i->idle_since = now;
  if (i->empty_polls < UINT32_MAX)
    i->empty_polls++;
  if (i->mode == IDLE_MODE_POLL)
    return IDLE_PAUSE;
  if (i->mode == IDLE_MODE_ADAPTIVE) {
    if (i->empty_polls <= IDLE_PAUSE_POLLS && now - i->idle_since < IDLE_PAUSE_US)
      return IDLE_PAUSE;
    i->waited = 1;
    if (now - i->worked_until < IDLE_EMPTY_US && now >= i->no_yield_until && i->soon[i->was_soon] >= IDLE_SOON_ALL / 2)
      return IDLE_YIELD;
  }
  i->sleeps++;
  i->empty_polls = 0; /* whatever woke us, look once more before sleeping again */
  return IDLE_SLEEP;
}

usec_t idle_yield(struct idle *i, usec_t now) {
  i->yields++;
  sched_yield();
  usec_t after = clock_now_us();
  i->slow_yields = after - now > IDLE_YIELD_LONG_US ? i->slow_yields + 1 : 0;
  if (i->slow_yields >= IDLE_SLOW_YIELDS)
    i->no_yield_until = after + IDLE_NO_YIELD_US;
  return after;
}
