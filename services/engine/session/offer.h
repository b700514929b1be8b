/*
 * Offers: from the SYN until an app has taken it, a passive session waits at a listener, and its handshake may be
 * parked.
 */
#ifndef HS_ENGINE_OFFER_H
#define HS_ENGINE_OFFER_H

#include "abi/policy.h"
#include "base/list.h"

struct worker;
struct session;
struct listener;

/** From now on `s` counts in the backlog of `l`; its TCB says so. */
void offer_wait(struct worker *w, struct session *s, struct listener *l);
/** Its handshake waits for the last ACK (1), or that came, or it is over (0). */
void offer_half_open(struct worker *w, struct session *s, int half);
/** An app took it, or it is over. */
void offer_leave(struct session *s);
/** The handshake is complete, and nobody takes it now. */
void offer_park(struct worker *w, struct session *s);
void offer_unpark(struct session *s);
/** Once per turn: offer what is parked, if somebody may take it now. Returns the number looked at. */
uint32_t offer_due(struct worker *w);
/** The listener of `s`, or the process that it is offered to, is gone: to another share, or reset as on Linux. */
void offer_rehome(struct worker *w, struct session *s);
/** The same for all that waited at a listener which `old` described. */
void offer_inherit(struct worker *w, struct list *sessions, const struct abi_listen_entry *old);
/** A share takes no offers any more while its listener lives, or another share begins to: armed ones get what it has
 * not taken. */
void offer_disarmed(struct worker *w, struct listener *l);
/** After adoption: an offer that names a share which went while no engine ran, or whose move a crash cut off. */
void offer_adopted(struct worker *w);

#endif
