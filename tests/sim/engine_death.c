/*
 * What engine_death.h describes: the hook of the fault point leaves the victim's turn by a long jump, as a kill would,
 * and a new engine adopts what the old one left.
 */
#include "engine_death.h"
#include "base/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct {
  jmp_buf out;
  struct rig_host *victim;
  int in_turn;
  uint32_t left; /* hits until it dies */
  uint32_t fired;
  const char *where;
} plan;

static void death_hook(const char *name, void *ctx) {
  (void)ctx;
  if (!plan.in_turn || plan.left == 0 || --plan.left > 0)
    return;
  plan.fired++;
  plan.where = name;
  longjmp(plan.out, 1);
}

void engine_death_plan(struct rig_host *victim, const char *name, uint32_t nth) {
  plan.victim = victim;
  plan.left = nth;
  plan.fired = 0;
  plan.where = NULL;
  assert_int_equal(fault_arm(name, 1, FAULT_HOOK), 0);
  fault_set_hook(death_hook, NULL);
}

int engine_death_over(void) {
  fault_disarm();
  plan.victim = NULL;
  return plan.fired > 0;
}

const char *engine_death_where(void) {
  return plan.where != NULL ? plan.where : "nowhere";
}

void engine_death_step(struct rig *r, usec_t us) {
  for (int i = 0; i < 2; i++)
    r->host[i].alive = &r->host[i] == plan.victim ? 0 : r->host[i].alive;
  rig_step(r, us);
  if (!plan.victim)
    return;
  if (setjmp(plan.out) == 0) {
    plan.in_turn = 1;
    (void)worker_turn(&plan.victim->w);
    plan.in_turn = 0;
    plan.victim->alive = 1;
    return;
  }
  plan.in_turn = 0;
  rig_engine_kill(plan.victim);
  rig_engine_start(plan.victim);
}
