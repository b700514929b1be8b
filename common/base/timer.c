/*
 * Timing wheel. An entry for tick t lies on the level of the highest 6-bit digit in which t differs from the wheel's
 * present tick, in the slot of t's digit there. So all entries of a level lie after the present digit, lower levels
 * come before higher ones, the next slot is one count-trailing-zeros away, and idle time is skipped, not walked.
 * When the wheel reaches a slot of a higher level, its entries are spread to lower levels, TIMER_MOVE_MAX per call.
 *
 * One owner thread; hot path of the engine: no clock, no memory, no locks.
 */
#include "base/timer.h"
#include "base/bits.h"

#define TIMER_DIGIT  6u
#define TIMER_N      (TIMER_LEVELS * TIMER_SLOTS)
#define TIMER_IN_RUN ((uint16_t)(TIMER_N + 1)) /* timer_ent.where: on the run or due list */

/* First tick at or after a time, so that nothing fires early. */
static inline uint64_t timer_tick_of(usec_t us) {
  return us / TIMER_TICK_US + (us % TIMER_TICK_US != 0);
}

void timer_wheel_init(struct timer_wheel *w, usec_t now) {
  memset(w, 0, sizeof *w);
  w->tick = now / TIMER_TICK_US;
  for (unsigned i = 0; i < TIMER_N; i++)
    list_init(&w->slots[i]);
  list_init(&w->run);
  list_init(&w->due);
}

/* Puts an entry into the slot of its tick, which is after w->tick. */
static void timer_place(struct timer_wheel *w, struct timer_ent *ent, uint64_t tick) {
  unsigned level = bits_log2(tick ^ w->tick) / TIMER_DIGIT;
  unsigned digit;
  if (level < TIMER_LEVELS) {
    digit = (unsigned)(tick >> (level * TIMER_DIGIT)) & (TIMER_SLOTS - 1);
  } else { /* more than 139 years ahead: the last slot of all, from where it is placed anew */
    level = TIMER_LEVELS - 1;
    digit = TIMER_SLOTS - 1;
  }
  unsigned slot = level * TIMER_SLOTS + digit;
  list_add_tail(&w->slots[slot], &ent->link);
  w->bits[level] |= 1ull << digit;
  ent->where = (uint16_t)(slot + 1);
}

static void timer_unlink(struct timer_wheel *w, struct timer_ent *ent) {
  list_del(&ent->link);
  if (ent->where <= TIMER_N) {
    unsigned slot = ent->where - 1u;
    if (list_empty(&w->slots[slot]))
      w->bits[slot / TIMER_SLOTS] &= ~(1ull << (slot % TIMER_SLOTS));
  }
  ent->where = 0;
}

void timer_cancel(struct timer_wheel *w, struct timer_ent *ent) {
  if (ent->where == 0)
    return;
  timer_unlink(w, ent);
  w->count--;
}

void timer_set(struct timer_wheel *w, struct timer_ent *ent, usec_t expires_us) {
  if (expires_us == 0 || expires_us == TIMER_NEVER) {
    timer_cancel(w, ent);
    return;
  }
  if (ent->where != 0) {
    if (expires_us >= ent->expires) { /* later: looked at again when its slot comes up */
      ent->expires = expires_us;
      return;
    }
    timer_unlink(w, ent);
  } else {
    w->count++;
  }
  ent->expires = expires_us;
  uint64_t tick = timer_tick_of(expires_us);
  if (tick > w->tick) {
    timer_place(w, ent, tick);
  } else {
    list_add_tail(&w->due, &ent->link);
    ent->where = TIMER_IN_RUN;
  }
}

/* Slot that comes next: 0 and its first tick, or -1 if all are empty. A slot still being spread comes first. */
static int timer_next_slot(const struct timer_wheel *w, unsigned *slot, uint64_t *tick) {
  if (w->cascading != 0) {
    *slot = w->cascading - 1u;
    *tick = w->tick;
    return 0;
  }
  for (unsigned level = 0; level < TIMER_LEVELS; level++) {
    if (w->bits[level] == 0)
      continue;
    unsigned shift = level * TIMER_DIGIT;
    unsigned digit = (unsigned)__builtin_ctzll(w->bits[level]);
    *slot = level * TIMER_SLOTS + digit;
    *tick = (w->tick >> (shift + TIMER_DIGIT) << TIMER_DIGIT | digit) << shift;
    return 0;
  }
  return -1;
}

/* Takes up to *moves entries out of a slot whose time has come: to the run list, or down a level. */
static void timer_spread(struct timer_wheel *w, unsigned slot, unsigned *moves) {
  struct list *head = &w->slots[slot];
  while (*moves > 0) {
    struct list *link = list_first(head);
    if (link == NULL)
      break;
    struct timer_ent *ent = container_of(link, struct timer_ent, link);
    timer_unlink(w, ent);
    uint64_t tick = timer_tick_of(ent->expires);
    if (tick > w->tick) {
      timer_place(w, ent, tick);
    } else {
      list_add_tail(&w->run, link);
      ent->where = TIMER_IN_RUN;
    }
    (*moves)--;
  }
  w->cascading = list_empty(head) ? 0 : (uint16_t)(slot + 1);
}

/* Fires entries of the run list; those meanwhile set to a later time go back into the wheel. */
static unsigned timer_run(struct timer_wheel *w, timer_fn cb, void *ctx, unsigned max, unsigned *moves) {
  unsigned fired = 0;
  while (fired<max && * moves> 0) {
    struct list *link = list_first(&w->run);
    if (link == NULL)
      break;
    struct timer_ent *ent = container_of(link, struct timer_ent, link);
    timer_unlink(w, ent);
    uint64_t tick = timer_tick_of(ent->expires);
    if (tick > w->tick) {
      timer_place(w, ent, tick);
      (*moves)--;
      continue;
    }
    w->count--;
    fired++;
    cb(ent, ctx);
  }
  return fired;
}

unsigned timer_advance(struct timer_wheel *w, usec_t now, timer_fn cb, void *ctx, unsigned max) {
  uint64_t now_tick = now / TIMER_TICK_US;
  unsigned moves = TIMER_MOVE_MAX;
  /* What callbacks set to the past from here on waits for the next call, so that this one ends. */
  list_splice_tail(&w->run, &w->due);
  unsigned fired = timer_run(w, cb, ctx, max, &moves);
  while (fired < max && moves > 0) {
    unsigned slot;
    uint64_t tick;
    if (timer_next_slot(w, &slot, &tick) < 0 || tick > now_tick)
      break;
    w->tick = tick;
    timer_spread(w, slot, &moves);
    fired += timer_run(w, cb, ctx, max - fired, &moves);
  }
  if (fired < max && moves > 0 && now_tick > w->tick)
    w->tick = now_tick; /* nothing is left before: no entry changes its slot by this (see the top) */
  return fired;
}

usec_t timer_next(const struct timer_wheel *w) {
  unsigned slot;
  uint64_t tick;
  if (!list_empty(&w->run) || !list_empty(&w->due))
    return w->tick * TIMER_TICK_US;
  if (timer_next_slot(w, &slot, &tick) < 0)
    return TIMER_NEVER;
  return tick * TIMER_TICK_US;
}
