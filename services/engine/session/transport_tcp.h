/*
 * TCP's room in a session, for TCP's own files of this folder: transport_tcp*.c, adopt.c, figures.c; and what those
 * call of each other.
 */
#ifndef HS_ENGINE_TRANSPORT_TCP_H
#define HS_ENGINE_TRANSPORT_TCP_H

#include "tcp/tcp_conn.h"
#include "worker.h"

/** What an idle established connection takes in the engine, bytes: the durable half and the session with the soft half
 * in it, as the pool rounds it up. Apart from its fifos and the flow table's slot. Issue 3: 1024 at most. */
#define TRANSPORT_TCP_SESSION ((sizeof(struct session) + 63u) / 64u * 64u)
#define TRANSPORT_TCP_IDLE    (sizeof(struct abi_tcb) + TRANSPORT_TCP_SESSION)
_Static_assert(TRANSPORT_TCP_IDLE <= 1024, "an idle connection may not become larger");

static inline struct tcp_conn *tcp_of(struct session *s) {
  return (struct tcp_conn *)(void *)s->priv;
}

static inline struct session *tcp_session(struct tcp_conn *c) {
  return container_of((uint8_t *)c, struct session, priv[0]);
}
static inline struct abi_tcb *session_tcb(struct worker *w, const struct session *s) {
  return &w->tcbs.tcb[s->tcb];
}

/** After each call into the core: room to write, figures due, and the end in TIME_WAIT. */
void transport_tcp_settle(struct worker *w, struct session *s);
/** tcp_ops.send */
int transport_tcp_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out);
/** transport_ops.connect, .input */
int transport_tcp_connect(struct worker *w, struct session *s, usec_t now);
int transport_tcp_input(struct worker *w, struct pkt *p, usec_t now);

/** A drained rx fifo gives its memory back; the next bytes bring some. Not while there are bytes beyond a hole. */
static inline void tcp_trim(struct session *s) {
  if (s->e && tcp_of(s)->ooo_none)
    fifo_prod_trim(&s->rx);
}

#endif
