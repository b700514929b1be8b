/*
 * Which sessions hold memory of the arena for what they write, so that those that have fallen idle give it back.
 *
 * A tx fifo keeps its newest chunk when all it held is acknowledged, because the next write will want it. Nobody tells
 * us of that moment (an acknowledgement wakes nobody who does not wait), so the oldest holders are looked at now and
 * then: one that has written nothing since the last look and is drained is trimmed. Called by rw.c and dgram.c (a
 * write) and worker.c (a pump) on the worker's thread or under its mutex; between looks lies at least HELD_TICK.
 */
#include "vcl_session.h"

#include "base/bits.h"

#define HELD_TICK (1ull << 24) /* cycles: some milliseconds */
#define HELD_LOOK 64u          /* sessions per look, and a part of all of them … */
#define HELD_PART 64u
#define HELD_MOST 512u /* … but a look must not be felt */

void held_add(struct session *s) {
  s->held_tail = s->tx.tail;
  s->w->n_held++;
  list_add_tail(&s->w->held, &s->held);
}

void held_drop(struct session *s) {
  if (!list_linked(&s->held))
    return;
  list_del(&s->held);
  s->w->n_held--;
}

/** 1 if it holds nothing any more, or is none of ours to look after. */
static int held_is_free(struct session *s) {
  if (!s->fifos_open || s->home->forked || fifo_prod_room(&s->tx) < 0)
    return 1;
  if (fifo_prod_used(&s->tx) != 0 || s->tx.tail != s->held_tail)
    return 0;
  fifo_prod_trim(&s->tx);
  return 1;
}

void held_look_slow(struct worker *w) {
  uint64_t now = __builtin_ia32_rdtsc();
  if (now - w->held_tick < HELD_TICK)
    return;
  w->held_tick = now;
  uint32_t n = HS_MIN(HELD_LOOK + w->n_held / HELD_PART, HELD_MOST);
  for (n = HS_MIN(n, w->n_held); n != 0; n--) {
    struct session *s = list_entry(list_first(&w->held), struct session, held);
    held_drop(s);
    if (!held_is_free(s))
      held_add(s);
  }
}
