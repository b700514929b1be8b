/*
 * Connections that a parent and its forked children both hold: whose close is the last.
 *
 * The kernel counts the references of a file over processes; the stack knows one process per session, the one that made
 * it (the owner). So the family shares a small anonymous mapping: per connection that a fork has spread, a mask of the
 * processes that hold it. The last one to leave closes. A child that dies or executes another program leaves all at
 * once: the owner sees the end of a pipe that the child holds.
 */
#ifndef HS_LDP_SHARE_H
#define HS_LDP_SHARE_H

#include <stdbool.h>

struct sock;

/** fork, before it: every connection of this process gets the coming child as a holder. */
void share_fork_prepare(void);
/** fork, in the parent and in the child. */
void share_fork_parent(void);
void share_fork_child(void);
/** The process closes s for good: its session ends unless others hold it. */
void share_close(struct sock *s);
/** True if no other process of the family holds s, as far as the family counts. */
bool share_alone(const struct sock *s);
/** Closes sessions whose last foreign holder has gone. Cheap when there are none. */
void share_sweep(void);
/** True while share_sweep has something to wait for: blocking calls then look every SHARE_SLICE_MS. */
bool share_waiting(void);
/** exit and _exit of a child: it leaves all that it inherited, its shares of listeners too. */
void share_exit(void);

#define SHARE_SLICE_MS 100

#endif
