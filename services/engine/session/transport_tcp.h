/*
 * TCP's room in a session, for TCP's own files of this folder: transport_tcp.c, adopt.c, figures.c.
 */
#ifndef HS_ENGINE_TRANSPORT_TCP_H
#define HS_ENGINE_TRANSPORT_TCP_H

#include "tcp/tcp_conn.h"
#include "worker.h"

/** What an idle established connection takes in the engine, bytes: the durable half and the session with the soft half
 * in it. Apart from its fifos and the flow table's slot. The goal of issue 3 is 1024: until then it must not grow. */
#define TRANSPORT_TCP_IDLE (sizeof(struct abi_tcb) + sizeof(struct session))
_Static_assert(TRANSPORT_TCP_IDLE <= 1696, "an idle connection may not become larger");

static inline struct tcp_conn *tcp_of(struct session *s) {
  return (struct tcp_conn *)(void *)s->priv;
}

#endif
