/*
 * The broker's struct in this process, with engine and nicio as bare sockets: for tests that drive the handlers
 * themselves. One thread.
 */
#ifndef HS_TESTS_BROKER_BARE_H
#define HS_TESTS_BROKER_BARE_H

#include "broker.h"

struct broker_bare {
  struct broker b;
  int ends[2];
};

/** A fresh stack with small tables and default configuration. The loop stays the caller's. Aborts when it can't. */
void broker_bare_up(struct broker_bare *t, struct loop *l);
void broker_bare_down(struct broker_bare *t);
/** A connection without a socket: replies go nowhere. */
struct conn *broker_bare_conn(struct broker_bare *t, uint32_t uid);
/** What a healthy engine says: everything is vaulted, served and seen. Takes what was sent to the services. */
void broker_bare_nod(struct broker_bare *t);

#endif
