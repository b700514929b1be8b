/*
 * Waiters: who is to be told when something happens to a session or to a member of an epoll set.
 *
 * A waiter that looks at its facts, finds nothing and goes to sleep is kicked by whoever dispatches a hint that
 * concerns it. All under the worker's mutex; the sleep itself holds no lock.
 */
#ifndef HS_VCL_WAITER_H
#define HS_VCL_WAITER_H

#include "base/bytes.h"
#include "base/list.h"

struct worker;

/** Grace for a bell under way when a sleep's ceiling finds work; longer where whoever rings may not get to run. */
extern int waiter_late_ms;

struct waiter {
  struct list link;     /* in worker.waiters (any) or worker.spare_waiters */
  struct list attached; /* struct watch, by their waiter_link */
  struct worker *w;
  int kick_fd; /* eventfd, -1 when this waiter is the only thread of its worker */
  int epoll_fd;
  uint8_t pending; /* something concerned it since it last looked */
  uint8_t asleep;
  uint8_t any;    /* every hint concerns it */
  uint8_t kicked; /* its eventfd was written and not read since */
};

/** One end lies in a session's or set's list of watchers, the other in the waiter's. */
struct watch {
  struct list owner_link;
  struct list waiter_link;
  struct waiter *waiter;
};

/** A waiter of this worker, from its store of spare ones. NULL when there is no memory or descriptor. */
struct waiter *waiter_get(struct worker *w);
void waiter_put(struct waiter *wt);
/** `owners` is the watcher list of a session or an epoll set. 0 or -ENOMEM. */
int waiter_watch(struct waiter *wt, struct list *owners);
void waiter_unwatch(struct waiter *wt, struct list *owners);
void waiter_unwatch_all(struct waiter *wt);
/** The owner goes: its watchers are told and forgotten. */
void waiter_owner_gone(struct list *owners);
/** Something happened to the owner of this list. */
void waiter_notify(struct list *owners);
/** Something happened to the worker: every waiter with `any`. */
void waiter_notify_any(struct worker *w);

/** 1 = safe to sleep on the descriptors, 0 = something concerns it. Drops nothing but `pending`. */
int waiter_sleep_begin(struct waiter *wt);
void waiter_sleep_end(struct waiter *wt, int bell_rang);
/** Spin for a short while. 1 = something concerns it. */
int waiter_spin(struct waiter *wt);
/** Spin, then sleep until something concerns it: 0 = look again, -ETIMEDOUT, -EINTR. deadline in µs of the monotonic
 * clock, 0 = none. Releases the worker's mutex while asleep. */
int waiter_wait(struct waiter *wt, usec_t deadline);
/** The descriptor that stands for the bell in a sleep. */
int waiter_bell(struct worker *w);
void waiter_free_all(struct worker *w);

#endif
