/*
 * The stages of a session's life in the library (enum session_life): one table of every change there is, and the only
 * writer of session.life. The engine's table for the shared record is its own (session/life.c); how they meet is
 * session_settle's affair.
 *
 * Called wherever a session's life goes on, under the worker's mutex (lock mode) or on its thread. A change that is not
 * in the table is counted and made all the same: a library never aborts its host. Tests hold the count to nought, and
 * tests/lint/stores.py holds every store to this file.
 */
#ifndef HS_VCL_STAGE_H
#define HS_VCL_STAGE_H

#include "base/steps.h"

struct session;

extern const struct step stage_table[];
extern const uint32_t stage_rows;
/** Changes that the table does not know, in this process so far; atomic. */
extern uint32_t stage_wrong;

/** 1 if the table has it; staying as it is always is. */
int stage_may(uint32_t from, uint32_t to);
void stage_set(struct session *s, uint32_t to);
const char *stage_name(uint32_t life);

#endif
