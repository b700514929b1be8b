/*
 * Coming back after the end of all services: the worker attaches anew, as a fresh process, in steps that never block.
 */
#ifndef HS_VCL_REJOIN_H
#define HS_VCL_REJOIN_H

#include "vcl_session.h"

struct rejoin;

/** Every service that knew this worker is gone: its connections end, its listeners wait for the next stack. */
void rejoin_begin(struct worker *w);
/** One look: whatever can be done without waiting. Cheap when nothing is due. */
void rejoin_step(struct worker *w);
void rejoin_free(struct worker *w);
/** In the child of a fork: the parent's attempt is not ours. */
void rejoin_fork_child(struct worker *w);
/** Waits until a session that outlived its stack has a place in the new one. 0, -EAGAIN (nonblocking), -ETIMEDOUT after
 * the application's time-out, -ENETDOWN when there is no coming back, -EBADF, -EINTR. */
int rejoin_wait(struct session *s);

#endif
