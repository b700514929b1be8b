/*
 * TCP's room in a session, for TCP's own files of this folder: transport_tcp.c, adopt.c, figures.c.
 */
#ifndef HS_ENGINE_TRANSPORT_TCP_H
#define HS_ENGINE_TRANSPORT_TCP_H

#include "tcp/tcp_conn.h"
#include "worker.h"

static inline struct tcp_conn *tcp_of(struct session *s) {
  return (struct tcp_conn *)(void *)s->priv;
}

#endif
