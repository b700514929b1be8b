/*
 * Memory of written bytes that comes before it runs out and goes back when it is empty (parts.c).
 *
 * Called by rw.c and dgram.c (a write), worker.c (a pump), session.c, home.c and fork.c, on the worker's thread or
 * under its mutex.
 */
#ifndef HS_VCL_PARTS_H
#define HS_VCL_PARTS_H

#include "vcl_session.h"
#include "vcl_worker.h"

void parts_init(struct worker *w);
void parts_fini(struct worker *w);
/** A home's arena as it came: its first bytes are there. */
void parts_found(struct home *h);
/** Memory is short, soon: asks for more, at most now and then. */
void parts_want(struct worker *w);
/** After a write. */
static inline void parts_note(struct session *s) {
  if (__builtin_expect(arena_free_bytes(s->home->arena) < s->home->parts.low, 0) && s->home == s->w->home)
    parts_want(s->w);
}
/** Nothing of what the session has to write found memory: it is not writable until there is some. */
void parts_starve(struct session *s);
/** It does not wait for memory (any more). */
void parts_fed(struct session *s);
int parts_look_slow(struct worker *w);
/** Takes answers, gives memory back. Returns 1 if sessions became writable. */
static inline int parts_look(struct worker *w) {
  if (w->parts.step != 0 || w->parts.n_starved != 0 || w->parts.tick != 0 ||
      (w->home != NULL && w->home->parts.have != 0))
    return parts_look_slow(w);
  return 0;
}
/** Whether a sleeper has to watch the front. */
static inline int parts_busy(const struct worker *w) {
  return w->parts.step != 0 || w->parts.n_starved != 0;
}
/** The home will be shared with a child, which can map nothing later: all that there may be comes now, and stays.
 * Caller holds broker.lock, or is the only thread that uses it. Waits for at most a second. */
void parts_fork(struct worker *w);
void parts_fork_child(struct worker *w);

#endif
