/*
 * TIME_WAIT without a connection: how a compact record (abi/timewait.h) is made of one, and what it answers. The table
 * of records is the session layer's (session/timewait.c). Worker's thread. RFC 9293 3.10.7.4, 3.6.1; RFC 1337; RFC
 * 6191; RFC 7323 5.3.
 */
#ifndef HS_ENGINE_TCP_TW_H
#define HS_ENGINE_TCP_TW_H

#include "abi/timewait.h"
#include "tcp.h"

/** What tcp_tw_input found. */
enum tcp_tw_does {
  TCP_TW_NOTHING, /* dropped */
  TCP_TW_ACK,     /* *out is to be sent */
  TCP_TW_AGAIN,   /* the same, and t->end was moved: 2 MSL begin anew */
  TCP_TW_REUSE,   /* a SYN that may open a new connection: the record goes, the SYN is a listener's */
};

/** Fill `t` (all but `life`) from a connection in TIME_WAIT. */
void tcp_tw_make(struct tcp_env *e, struct tcp_conn *c, struct abi_tw *t);
/** A segment for a record. Fills *out for TCP_TW_ACK and TCP_TW_AGAIN. */
enum tcp_tw_does tcp_tw_input(struct tcp_env *e, struct abi_tw *t, const struct tcp_seg_in *seg,
                              struct tcp_seg_out *out, usec_t now);
/** The number that the ISN of a successor must exceed (RFC 9293 3.6.1 (1)): to be put into abi_tcb.iss before
 * tcp_passive_open or tcp_connect. Never 0. */
seq32_t tcp_tw_isn_floor(const struct abi_tw *t);
/** Whether an active open may take the place of the record (RFC 6191 turned round, as Linux tcp_tw_reuse): timestamps
 * are on and ours has moved by a second since. */
int tcp_tw_may_connect(const struct tcp_env *e, const struct abi_tw *t, usec_t now);
/** A record began or ended: keeps the gauge. by = +1 or -1. */
void tcp_tw_count(struct tcp_env *e, int by);

#endif
