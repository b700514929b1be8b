/*
 * Branches: cut-through for datagrams (NOTES.md, "Cut-through for datagrams").
 *
 * A session of datagrams is the engine's as ever. When it is connected to a bound session of another app of this stack,
 * it gets a branch beside its own fifos: a hidden session (SESSION_BRANCH) in a slot of a pair, whose `lead` it is; the
 * other side has one, too. All under the worker's mutex or on its thread.
 */
#ifndef HS_VCL_BRANCH_H
#define HS_VCL_BRANCH_H

#include "vcl_cut.h"

struct abi_dgram;

/** s has become connected, or connected anew: branches to others are left, one to its peer is made if it may be. */
void branch_connected(struct session *s);
/** s ends, or its stack does: what is unread here is lost, what was sent can be read. */
void branch_drop_all(struct session *s);
/** This process waits for datagrams at s: other apps may come with branches from now on. */
void branch_arm_slow(struct session *s);
static inline void branch_arm(struct session *s) {
  if (__builtin_expect(!s->armed_offer && s->bound && !s->accepts, 0))
    branch_arm_slow(s);
}
/** Whose fifo the next datagram is to be taken from: s itself or a branch. */
struct session *branch_source_slow(struct session *s);
static inline struct session *branch_source(struct session *s) {
  return list_empty(&s->branches) ? s : branch_source_slow(s);
}
/** One was looked at there (took 0) or taken. */
void branch_turn(struct session *s, struct session *from, int took);
/** Something can be read of a branch. */
int branch_pending_slow(struct session *s);
static inline int branch_pending(struct session *s) {
  return !list_empty(&s->branches) && branch_pending_slow(s);
}
/** What the other app wrote in front of a datagram gives way to what is known. */
void branch_names(const struct session *b, struct abi_dgram *d);
/** Its fifo makes no sense: the pair ends, and b with it. */
void branch_lied(struct session *b);
/** To where a call says, of a session that is not connected. */
int branch_roams(const struct session *s, const struct abi_dgram *d);
/** Sends, or drops when the other side has read too little. Bytes, or -ENOENT: it goes through the engine. */
int branch_send_slow(struct session *s, const struct abi_dgram *d, const struct iovec *iov, int n);
static inline int branch_send(struct session *s, const struct abi_dgram *d, const struct iovec *iov, int n) {
  return list_empty(&s->branches) && !branch_roams(s, d) ? -ENOENT : branch_send_slow(s, d, iov, n);
}

/* for the pair, and for senders that are not connected (vcl_roam.h) */
/** Whether our side has left: nothing more is sent. */
int branch_has_left(const struct session *b);
void branch_leave(struct session *b);
/** A branch of s by this grant, or NULL: no slot, no memory. */
struct session *branch_place(struct session *s, struct cut_grant *g, const struct abi_endpoint *local,
                             const struct abi_endpoint *remote);
/** The session that a branch asks for by `slot`, and may, or NULL. */
struct session *branch_goal(struct worker *w, const struct abi_request *rq, uint32_t slot);
/** b, an offer in a slot of the pair, is lead's from now on. */
void branch_take(struct session *lead, struct session *b);
/** A hint about it. It may be gone afterwards. */
void branch_touch(struct session *b);
/** The other side is gone, or lied. */
void branch_dead(struct session *b, int lied);
void branch_free(struct session *b);
/** Before a fork: datagrams of both processes go through the engine from now on; what came is the parent's. */
void branch_fork_prepare(struct worker *w);
void branch_fork_child(struct worker *w);

#endif
