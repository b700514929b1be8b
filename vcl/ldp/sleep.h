/*
 * What every waiting call needs: a waiter of the stack for the time of the call, and deadlines.
 */
#ifndef HS_LDP_SLEEP_H
#define HS_LDP_SLEEP_H

#include "vcl_wait.h"

#include <stdint.h>
#include <time.h>

/** An initialised waiter that nobody else uses, from a small cache; NULL if there can be none. */
struct vcl_waiter *sleep_waiter_get(void);
/** Back to the cache; it must be detached from everything. */
void sleep_waiter_put(struct vcl_waiter *w);
/** The child of a fork: cached waiters are the parent's. */
void sleep_fork_child(void);

/** Absolute CLOCK_MONOTONIC ns from a relative time-out; NULL = INT64_MAX; zero = 0. 0 or -EINVAL. */
int sleep_deadline(const struct timespec *timeout, int64_t *deadline_ns);
/** Time left as ppoll wants it: NULL for none, zero when past. */
struct timespec *sleep_left(int64_t deadline_ns, struct timespec *left);

#endif
