/*
 * The death of an engine in the middle of its own turn, at the n-th passing of a fault point: for simulations over
 * engine_rig that go through every point in turn. One thread; one plan at a time.
 */
#ifndef HS_TESTS_ENGINE_DEATH_H
#define HS_TESTS_ENGINE_DEATH_H

#include "engine_rig.h"

/** From now on `victim` dies at the nth passing of fault point `name` in a turn of its own. */
void engine_death_plan(struct rig_host *victim, const char *name, uint32_t nth);
/** No more. 1 if it died. */
int engine_death_over(void);
/** Where it died, or "nowhere". */
const char *engine_death_where(void);
/** One turn of everybody, then the victim's, which may die in it and has a successor at once. */
void engine_death_step(struct rig *r, usec_t us);

#endif
