/*
 * Branches of sessions that are not connected: sendto() to a bound session of another app (NOTES.md, "Cut-through for
 * datagrams"). All under the worker's mutex or on its thread.
 */
#ifndef HS_VCL_ROAM_H
#define HS_VCL_ROAM_H

#include "vcl_branch.h"

#include "abi/dgram.h"

/** Over what d, sent by s that is not connected, goes: b, which leads there already (NULL: none does), a new branch, or
 * NULL: through the engine. May wait for the broker, shortly and seldom. */
struct session *roam_over(struct session *s, const struct abi_dgram *d, struct session *b);
/** The rest of roam_heard. */
void roam_heard_slow(struct session *s, const struct abi_dgram *d);
/** The engine brought d. If its sender wrote to another address of ours than its own, the engine answers it from that
 * one (RFC 1122 4.1.3.5), which a branch would not: s stays with the engine. */
static inline void roam_heard(struct session *s, const struct abi_dgram *d) {
  if (s->w->cut != NULL && !s->connected && memcmp(d->ip, d->local, sizeof d->ip) != 0)
    roam_heard_slow(s, d);
}

#endif
