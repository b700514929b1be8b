/*
 * Fault points: places between the stores of a publish step where a test can kill the process. Every publish step
 * anywhere carries them; tests/restart walks them all.
 *
 * In builds with HS_FAULT_POINTS (debug, sanitizers) an unarmed point costs one relaxed load; elsewhere it is nothing.
 * Armed by the environment before main, HS_FAULT="name:N[:kill|abort|hang]", it acts at the Nth hit (from 1; "*" is any
 * point); or by fault_arm in tests. Any thread.
 */
#ifndef HS_BASE_FAULT_H
#define HS_BASE_FAULT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum fault_action {
  FAULT_KILL = 0,  /* SIGKILL to itself, as the restart matrix wants it */
  FAULT_ABORT = 1, /* abort() */
  FAULT_HANG = 2,  /* this thread sleeps for ever */
  FAULT_HOOK = 3,  /* calls the hook at every matching hit from the Nth on; it may longjmp away */
};

typedef void (*fault_hook_fn)(const char *name, void *ctx);

#define FAULT_NAME_MAX 64

/** Arms one point ("*": all). Not while other threads run through points. Returns 0, -EINVAL (name, nth 0). */
HS_MUST_CHECK int fault_arm(const char *name, uint32_t nth, enum fault_action action);

/** Arms from "name:N[:action]". Returns 0 or -EINVAL. */
HS_MUST_CHECK int fault_arm_text(const char *text);

/** No point acts any more; the hook is forgotten. */
void fault_disarm(void);

/** What FAULT_HOOK calls. */
void fault_set_hook(fault_hook_fn hook, void *ctx);

/** Matching hits since the point was armed. */
uint32_t fault_hits(void);

/**
 * Names of all points linked into this program or library, each once, sorted: up to room of them go to names[].
 * Returns how many there are; 0 in builds without fault points.
 */
size_t fault_list(const char **names, size_t room);

/** Called by FAULT_POINT when something is armed. */
void fault_hit(const char *name);

#ifdef HS_FAULT_POINTS
extern uint32_t fault_armed;
#define FAULT_POINT(name)                                                                                              \
  do {                                                                                                                 \
    static const char *const fault_site_ __attribute__((section("hs_fault"), used)) = name;                            \
    if (__builtin_expect(__atomic_load_n(&fault_armed, __ATOMIC_RELAXED) != 0, 0))                                     \
      fault_hit(fault_site_);                                                                                          \
  } while (0)
#else
#define FAULT_POINT(name)                                                                                              \
  do {                                                                                                                 \
  } while (0)
#endif

#endif
