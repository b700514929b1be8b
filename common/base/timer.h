/*
 * Hierarchical timing wheel: 7 levels of 64 slots, 1 ms per slot at the bottom (139 years in all). The owner embeds a
 * struct timer_ent in its object; a zero-filled one is idle. One owner thread; time is always an argument.
 *
 * Set and cancel are O(1). Setting an armed timer to a later time is one store: the entry stays where it is and moves
 * when its old slot comes up. A timer never fires early, and at most 1 ms late plus the time until timer_advance.
 */
#ifndef HS_BASE_TIMER_H
#define HS_BASE_TIMER_H

#include "base/bytes.h"
#include "base/list.h"

#define TIMER_TICK_US  1000u
#define TIMER_LEVELS   7u
#define TIMER_SLOTS    64u
#define TIMER_MOVE_MAX 1024u /* entries that one timer_advance moves between slots before it returns to its caller */
#define TIMER_NEVER    UINT64_MAX

struct timer_ent {
  struct list link;
  usec_t expires; /* as set; meaningful while armed */
  uint16_t where; /* 0 idle, else 1 + slot, or run/due */
  uint16_t kind;  /* the owner's: which of its timers this is */
  uint32_t user;  /* the owner's */
};

struct timer_wheel {
  uint64_t tick;               /* all ticks ≤ this one have been taken out of the slots */
  uint32_t count;              /* armed entries */
  uint16_t cascading;          /* 0, or 1 + the slot that is still being spread to lower levels */
  uint64_t bits[TIMER_LEVELS]; /* slots that may hold entries */
  struct list slots[TIMER_LEVELS * TIMER_SLOTS];
  struct list run; /* taken out of their slots, to be fired by the present or next timer_advance */
  struct list due; /* set to a time already past: fired by the next timer_advance */
};

/** Called for each expired entry, which is idle by then and may be set again or freed. May set and cancel any timer. */
typedef void (*timer_fn)(struct timer_ent *ent, void *ctx);

/** Starts an empty wheel at `now`. */
void timer_wheel_init(struct timer_wheel *w, usec_t now);

/** Arms ent, or re-arms it, for expires_us; 0 and TIMER_NEVER cancel. A time already past fires at the next advance. */
void timer_set(struct timer_wheel *w, struct timer_ent *ent, usec_t expires_us);

/** Makes ent idle; harmless if it is. */
void timer_cancel(struct timer_wheel *w, struct timer_ent *ent);

static inline int timer_armed(const struct timer_ent *ent) {
  return ent->where != 0;
}

/** When ent expires, TIMER_NEVER if idle. */
static inline usec_t timer_expires(const struct timer_ent *ent) {
  return ent->where ? ent->expires : TIMER_NEVER;
}

/**
 * Fires what has expired by `now`, at most max entries, in order of ticks. Returns the number fired. If it stopped
 * early timer_next tells a time that is past: call again in the next turn of the loop. A `now` that goes back does
 * nothing new.
 */
unsigned timer_advance(struct timer_wheel *w, usec_t now, timer_fn cb, void *ctx, unsigned max);

/** No entry fires before this time (µs); TIMER_NEVER if none is armed. May be early by what is moved lazily. */
usec_t timer_next(const struct timer_wheel *w);

#endif
