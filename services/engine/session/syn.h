/*
 * SYNs for listeners: who may come in, and by which door. Worker thread.
 *
 * A listener's queue is Linux's: up to `backlog` half-open connections, up to `backlog` + 1 complete ones that no app
 * has taken. Half-open ones beyond, or beyond engine.tcp.half-open-max of all listeners, get a SYN cookie; a SYN for a
 * full accept queue is dropped; so is what one address sends beyond engine.tcp.syn-rate-per-source.
 */
#ifndef HS_ENGINE_SYN_H
#define HS_ENGINE_SYN_H

#include "pkt.h"
#include "tcp/tcp.h"

struct worker;
struct session;

#define SYN_SOURCES 4096u /* buckets of source addresses; two that share one share its rate */

struct syn_gate {
  usec_t next[SYN_SOURCES]; /* when the bucket's budget is whole again (GCRA) */
};

/** A SYN that no connection wants. 0 dealt with; -ENOENT: to be answered by RST. isn_floor as tcp_tw_isn_floor, or 0.
 */
int syn_input(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, seq32_t isn_floor, usec_t now);
/** An ACK that no connection wants. The session that a SYN cookie of ours promised, to be given the segment; NULL with
 * *drop = 1: say nothing; NULL with *drop = 0: answered by RST. */
struct session *syn_cookie_ack(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, int *drop,
                               usec_t now);

#endif
