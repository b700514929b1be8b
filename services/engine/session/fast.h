/*
 * Pending Fast Opens (RFC 7413 5.1): connections whose SYN's data an app has, and whose handshake is not complete. A
 * listener has room for as many as TCP_FASTOPEN says, of all workers. Worker thread.
 */
#ifndef HS_ENGINE_FAST_H
#define HS_ENGINE_FAST_H

#include "base/bytes.h"

#include <stdint.h>

struct worker;
struct session;
struct listener;
struct tcp_seg_in;

#define FAST_HELD 1024u /* places that one worker can keep; beyond it the oldest is given back early */

/** Places of those that were reset, a ring, oldest first. */
struct fast_gate {
  struct fast_held {
    usec_t until;
    uint32_t listener; /* 1 + entry in whose n_fast it counts, 0 = no more */
    uint32_t pad;
  } held[FAST_HELD];
  uint32_t first, n;
};

/** It takes a place at `l`, which is below UINT16_MAX in the table. */
void fast_begin(struct worker *w, struct session *s, struct listener *l);
/** Its handshake is complete, or it is over: the place is free. */
void fast_done(struct worker *w, struct session *s);
/** A segment for a pending one, to the TCP core. A reset keeps the place for a while. May end the session. */
void fast_input(struct worker *w, struct session *s, const struct tcp_seg_in *seg, usec_t now);
/** Places whose time is over are free. Each turn. */
void fast_expire(struct worker *w);
/** Another listener is in this entry: what was kept for the one before is free. */
void fast_forget(struct worker *w, uint32_t entry);

#endif
