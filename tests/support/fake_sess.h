/*
 * What the fake engine's files share: its sessions (fake_sess.c). On the fake's thread, under its lock.
 */
#ifndef HS_TESTS_FAKE_SESS_H
#define HS_TESTS_FAKE_SESS_H

#include "fake_engine.h"

#define LOAD(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/** A free one, in use from now on and empty; NULL if there is none. */
struct fake_session *fake_sess_make(struct fake *f);
/** The one that listens on the port and has waited longest; armed: only one whose process takes offers. NULL if there
 * is none. */
struct fake_listener *fake_sess_listener(struct fake *f, uint16_t port, int armed);
/** Its peer goes on without it. */
void fake_sess_unlink(struct fake_session *s);
/** Tells its app to look at it; the bell is rung at the end of the turn. */
void fake_sess_hint(struct fake_session *s);
/** A hint of the app's: a session opens, connects, or lets go of its record. */
void fake_sess_look(struct fake *f, struct fake_worker *w, uint32_t slot);
/** Acts on the app's words and moves bytes. Returns whether anything changed. */
int fake_sess_step(struct fake *f, struct fake_session *s);

#endif
