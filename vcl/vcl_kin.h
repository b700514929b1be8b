/*
 * Kin: the processes of a family (parent, children, grandchildren by fork) that hold a session together, and who closes
 * it: the last one, whoever made it.
 *
 * Who holds what is told by the kernel: a process that holds a session after a fork has a read lock (fcntl) on that
 * session's byte of a file that the family shares. Such a lock ends with its process, also by kill -9 and exec, and
 * anybody may ask whether somebody else has one. So there is no count that a death leaves wrong. Under the worker's
 * mutex; a leave is under the home's shared lock, too.
 */
#ifndef HS_VCL_KIN_H
#define HS_VCL_KIN_H

#include "vcl_worker.h"

#define KIN_SPAN  (1u << WORKER_INDEX_BITS) /* bytes of the file per home: one per slot … */
#define KIN_MAKER (KIN_SPAN - 1)            /* … the process that made it, as long as it lives … */
#define KIN_HEIR  (KIN_SPAN - 2)            /* … and those that inherited it */

struct session;

/** Once per process tree, before the first home is made. 0 or -errno: then a child never closes for others. */
int kin_make(void);
/** Where the bytes of a new home begin; 0 = there is no file. */
uint64_t kin_base(void);

/** Before a fork: this process holds all its connections, so that the child has something to hold, too. */
void kin_fork_prepare(struct worker *w);
/** In the child, whose homes are all inherited by now: it holds what its parent held, from before its parent goes on.
 */
void kin_fork_child(struct worker *w);
/** In a copy of the process that goes on in its place (exec's relay): it holds what that held. */
void kin_again(struct worker *w);

/** Whether others inherited it. */
int kin_has_heirs(const struct home *h);
/** This process has nothing of an inherited home any more. */
void kin_forsake(const struct home *h);
/** Whether nobody else holds it. */
int kin_alone(const struct session *s);
/** This process holds it no more. 1: nobody else does; `want` (ABI_WANT_*) was stored. */
int kin_leave(struct session *s, uint32_t want);
/** close() of an inherited session: the last one ends it. */
void kin_close(struct session *s, int abortive);
/** close() of an own session that others hold: it waits for them as a zombie. */
void kin_wait(struct session *s);

void kin_look_slow(struct worker *w);
/** Now and then: whom the dead left behind. Cheap for who shares nothing. */
static inline void kin_look(struct worker *w) {
  if (__builtin_expect(w->heir || !list_empty(&w->left), 0))
    kin_look_slow(w);
}

#endif
