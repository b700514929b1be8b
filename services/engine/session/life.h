/*
 * The life of a session record, as its state says (enum abi_sess_state): one table of every change there is, and the
 * only writer of that word. Who tells of the rest: `flags` (the peer's FIN, a reset), the app's `want` (closed), and
 * TCP's own table (tcp/tcp_state.c) for what is on the wire.
 *
 * Called by session.c, listen.c, app.c and adopt.c, on the worker that owns the slot. A change that is not in the table
 * is counted and made all the same: what the app is told must be true first. Tests hold the count to nought.
 */
#ifndef HS_ENGINE_LIFE_H
#define HS_ENGINE_LIFE_H

#include "abi/session.h"
#include "base/steps.h"

extern const struct step life_table[];
extern const uint32_t life_rows;
/** Changes that the table does not know, in this process so far; atomic. */
extern uint32_t life_wrong;

/** 1 if the table has it; staying as it is always is. */
int life_may(uint32_t from, uint32_t to);
/** The store, with release order: everything that the new state speaks of is written before. */
void life_set(struct abi_sess_engine *e, uint32_t to);
const char *life_name(uint32_t state);

#endif
