/*
 * Peers: listen and accept of datagrams (NOTES.md, "Listening for datagrams").
 *
 * A bound session of datagrams may give each peer a session of its own, which is connected to it and shares the port.
 * What came from a peer before the engine knew that session is kept here, in the order that it came, and is read first
 * (session.stash). All under the worker's mutex or on its thread.
 */
#ifndef HS_VCL_PEERS_H
#define HS_VCL_PEERS_H

#include "vcl_session.h"

struct iovec;

/** From now on (or from bind on) its peers can be accepted; other apps make no branches to it. 0, or -EINVAL of one
 * that no bind gave its port. */
int peers_begin(struct session *s);
/** It is a client from now on: nothing is accepted. */
void peers_end(struct session *s);
/** It listens: what GET_LISTEN says, and whether accept makes sense. */
static inline int peers_listens(const struct session *s) {
  return s->accepts && s->life == SESSION_OPEN && s->bound && !s->connected;
}
/** The session of the peer whose datagram came first; waits unless l is nonblocking. 0 with *out, -EAGAIN, -EINTR,
 * -EBADF (closed meanwhile), -EMFILE or -ENFILE … when there is no slot: the datagram stays. */
int peers_accept(struct session *l, uint32_t flags, struct session **out);

/** Something is kept for it. */
static inline int peers_pending(const struct session *s) {
  return !list_empty(&s->stash);
}
/** The datagram that is kept first, as dgram_head of a fifo; call only if there is one. */
const struct abi_dgram *peers_head(const struct session *s);
/** Copies what fits of its payload; it stays. Bytes copied. */
int peers_copy(const struct session *s, const struct iovec *iov, int n);
/** The datagram that is kept first is read: the next one is first. Call only if there is one. */
void peers_consume(struct session *s);
/** What is kept is lost: the session goes, or this process is a fork's child and has a copy only. */
void peers_drop(struct session *s);

#endif
