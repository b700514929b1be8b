/*
 * Calls between the files of this room; nobody else includes it. Every one runs in the worker's thread inside one of
 * the public calls of tcp.h. None of them frees: a connection that ends only enters CLOSED, and the public call tells
 * the session layer by tcp_done() as the last thing it does.
 */
#ifndef HS_ENGINE_TCP_INT_H
#define HS_ENGINE_TCP_INT_H

#include "base/bits.h"
#include "base/bug.h"
#include "base/err.h"
#include "base/fault.h"
#include "tcp.h"
#include "tcp_cc.h"
#include "tcp_conn.h"

#include <errno.h>

/* tcp_state.c */
enum tcp_fsm_event {
  TCP_FSM_CONNECT,
  TCP_FSM_SYN,
  TCP_FSM_ESTABLISH,
  TCP_FSM_CLOSE,
  TCP_FSM_FIN,
  TCP_FSM_FIN_ACKED,
  TCP_FSM_TIMEOUT,
  TCP_FSM_ABORT,
  TCP_FSM_N
};
uint32_t tcp_state_next(uint32_t state, enum tcp_fsm_event ev);
void tcp_state_set(struct tcp_env *e, struct tcp_conn *c, enum tcp_fsm_event ev);
void tcp_state_count(struct tcp_env *e, uint32_t state, int by);
/** The state that a record with these FIN bits stands for: completes a transition that a crash cut off. */
uint32_t tcp_state_settle(uint32_t state, uint32_t fin);
void tcp_state_repair(struct abi_tcb *d, uint32_t state);

/* tcp_input.c */
int tcp_input_may_challenge(struct tcp_env *e, usec_t now);
void tcp_input_challenge(struct tcp_env *e, struct tcp_conn *c, usec_t now);

struct tcp_sack_news;

/* tcp_ack.c: 0 = go on with the segment, -1 = it was dropped */
int tcp_ack(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);
void tcp_ack_advance(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, struct tcp_sack_news *news,
                     usec_t now);
void tcp_ack_window(struct tcp_conn *c, const struct tcp_seg_in *seg);

/* tcp_recv.c */
int tcp_recv_open(uint32_t state);
void tcp_recv(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);
int tcp_recv_fast(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);

/* tcp_log.c: memory that is lent */
struct tcp_log { /* one at home */
  struct tcp_log *next;
};
void *tcp_log_get(struct tcp_env *e, int for_receiver);
void tcp_log_put(struct tcp_env *e, void *log);

/* tcp_ooo.c: ranges beyond a hole; eight are durable, more in a log that is lent */
#define TCP_OOO_LOG 510u
struct tcp_ooo_log {
  uint32_t n, pad;
  struct tcp_sack r[TCP_OOO_LOG]; /* sorted, disjoint */
};
_Static_assert(sizeof(struct tcp_ooo_log) <= TCP_LOG_SIZE, "a log is what the owner of the env counts with");
int tcp_ooo_empty(const struct tcp_conn *c);
int tcp_ooo_add(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r);
seq32_t tcp_ooo_reach(const struct tcp_conn *c, seq32_t to);
void tcp_ooo_trim(struct tcp_env *e, struct tcp_conn *c);
void tcp_ooo_clear(struct tcp_env *e, struct tcp_conn *c);
void tcp_ooo_release(struct tcp_env *e, struct tcp_conn *c);
int tcp_ooo_covers(const struct tcp_conn *c, seq32_t l, seq32_t r);
void tcp_ooo_dsack(struct tcp_conn *c, seq32_t l, seq32_t r);
/** The first part of [l, r) that is held beyond the hole, if any, is to be reported (RFC 2883 4.2). */
void tcp_ooo_dsack_part(struct tcp_conn *c, seq32_t l, seq32_t r);
void tcp_ooo_options(struct tcp_conn *c, struct tcp_opts *o);
int tcp_ooo_check(const struct tcp_conn *c);

/* tcp_sack.c: the scoreboard */
struct tcp_sack_news {
  uint32_t bytes;     /* SACKed for the first time */
  uint32_t dsack;     /* bytes reported as duplicates */
  uint32_t delivered; /* bytes that this ACK shows to have arrived, cumulatively or SACKed (RFC 6937 2) */
  int late;           /* a hole below the highest SACK was filled */
};
void tcp_sack_arrived(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, uint32_t ts_ecr,
                      struct tcp_sack_news *news, usec_t now);
void tcp_sack_update(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, uint32_t ts_ecr,
                     struct tcp_sack_news *news, usec_t now);
void tcp_sack_acked(struct tcp_conn *c);
int tcp_sack_hole(const struct tcp_conn *c, seq32_t from, struct tcp_sack *hole);
uint32_t tcp_sack_above(const struct tcp_conn *c, seq32_t seq);
uint32_t tcp_sack_within(const struct tcp_conn *c, seq32_t l, seq32_t r);
seq32_t tcp_sack_top(const struct tcp_conn *c);
int tcp_sack_full(const struct tcp_conn *c);
seq32_t tcp_sack_skip(const struct tcp_conn *c, seq32_t seq, uint32_t *len);
int tcp_sack_check(const struct tcp_conn *c);

/* tcp_sent.c: what is in the network */
#define TCP_SENT_LOG_ENTRIES 384u
#define TCP_BOARD_LOG        510u
struct tcp_sent_log {
  struct tcp_sent e[TCP_SENT_LOG_ENTRIES];
  struct tcp_sack board[TCP_BOARD_LOG];
};
_Static_assert(sizeof(struct tcp_sent_log) <= TCP_LOG_SIZE, "a log is what the owner of the env counts with");

static inline struct tcp_sent *tcp_sent_list(const struct tcp_conn *c) {
  return c->b->sent_log != NULL ? c->b->sent_log->e : (struct tcp_sent *)(uintptr_t)c->b->sent_own;
}
static inline struct tcp_sack *tcp_board_list(const struct tcp_conn *c) {
  return c->b->sent_log != NULL ? c->b->sent_log->board : (struct tcp_sack *)(uintptr_t)c->b->board.r;
}
/** Of ranges, with the log that is or is not there. */
static inline uint32_t tcp_board_room(const struct tcp_conn *c) {
  return c->b->sent_log != NULL ? TCP_BOARD_LOG : TCP_BOARD_MAX;
}
int tcp_sent_grow(struct tcp_env *e, struct tcp_conn *c);
void tcp_sent_add(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, int rexmit, usec_t now);
void tcp_sent_all(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_sent_cut(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r);
void tcp_sent_remove(struct tcp_conn *c, uint32_t i);
void tcp_sent_drop(struct tcp_conn *c);
void tcp_sent_trim(struct tcp_conn *c);
void tcp_sent_release(struct tcp_env *e, struct tcp_conn *c);
int tcp_sent_delivered(struct tcp_env *e, struct tcp_conn *c, seq32_t l, seq32_t r, uint32_t ts_ecr, usec_t now);
void tcp_sent_mark_again(struct tcp_conn *c, usec_t now);
int tcp_sent_lost_next(const struct tcp_conn *c, seq32_t from, struct tcp_sack *lost);
uint32_t tcp_sent_lost(const struct tcp_conn *c);
int tcp_sent_check(const struct tcp_conn *c);

/* tcp_rack.c */
void tcp_rack_sent(struct tcp_conn *c, const struct tcp_sent *s, uint32_t at, seq32_t end, uint32_t ts_ecr, usec_t now);
void tcp_rack_reorders(struct tcp_conn *c);
void tcp_rack_dsack(struct tcp_conn *c);
void tcp_rack_undone(struct tcp_conn *c);
void tcp_rack_recovery(struct tcp_conn *c);
uint32_t tcp_rack_window(const struct tcp_conn *c);
int tcp_rack_detect(struct tcp_env *e, struct tcp_conn *c, usec_t now);

/* tcp_pace.c */
uint32_t tcp_pace_rate(const struct tcp_env *e, const struct tcp_conn *c);
uint32_t tcp_pace_burst(uint32_t rate, uint32_t payload);
int tcp_pace_wait(struct tcp_conn *c, uint32_t rate, usec_t now);
void tcp_pace_sent(struct tcp_conn *c, uint32_t rate, uint32_t len, usec_t now);

/* tcp_ecn.c */
int tcp_ecn_offered(const struct tcp_seg_in *seg);
uint32_t tcp_ecn_syn_flags(struct tcp_env *e, struct tcp_conn *c, int passive, int again);
void tcp_ecn_fill(struct tcp_conn *c, struct tcp_seg_out *out);
void tcp_ecn_data(struct tcp_conn *c, struct tcp_seg_out *out);
void tcp_ecn_in(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg);
void tcp_ecn_echoed(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_ecn_reduced(struct tcp_conn *c);

/* tcp_loss.c */
/** FlightSize for ssthresh. */
uint32_t tcp_loss_flight(const struct tcp_conn *c);
uint32_t tcp_loss_pipe(const struct tcp_conn *c);
void tcp_loss_on_ack(struct tcp_env *e, struct tcp_conn *c, uint32_t acked, int dup, const struct tcp_sack_news *news,
                     uint32_t ts_ecr, usec_t now);
void tcp_loss_tail_arm(struct tcp_conn *c, usec_t now);
void tcp_loss_rto(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_loss_reo_expired(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** Everything from snd_una on is sent again (RTO, reneging, a smaller MTU): snd_nxt goes back. */
void tcp_loss_go_back(struct tcp_conn *c);

/* tcp_prr.c */
void tcp_prr_begin(struct tcp_conn *c);
void tcp_prr_ack(struct tcp_conn *c, uint32_t delivered);
void tcp_prr_sent(struct tcp_conn *c, uint32_t len);

/* tcp_output.c */
int tcp_output_run(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_output_tail(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_output_ack(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_output_probe(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_output_rst(struct tcp_env *e, struct tcp_conn *c, usec_t now);
int tcp_output_syn(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_output_syn_opts(const struct abi_tcb *d, struct tcp_opts *o);

/* tcp_urgent.c */
void tcp_urgent_in(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg);
void tcp_urgent_passed(struct tcp_conn *c, seq32_t to);
int tcp_urgent_pending(struct tcp_conn *c);
void tcp_urgent_out(struct tcp_conn *c, struct tcp_seg_out *out);
void tcp_urgent_adopt(struct tcp_conn *c, uint32_t unsent);

/* tcp_timer.c */
void tcp_timer_arm(struct tcp_conn *c, enum tcp_timer_id id, usec_t when);
void tcp_timer_stop(struct tcp_conn *c, enum tcp_timer_id id);
void tcp_timer_rto_restart(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_timer_keep_restart(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_timer_order(struct tcp_env *e, struct tcp_conn *c);
usec_t tcp_timer_user_timeout(const struct tcp_env *e, const struct tcp_conn *c);
usec_t tcp_timer_backed_off(const struct tcp_env *e, const struct tcp_conn *c, uint32_t shift);
void tcp_timer_syn_arm(struct tcp_env *e, struct tcp_conn *c, usec_t now);

/* tcp_open.c */
uint32_t tcp_open_ts(const struct abi_tcb *d, usec_t now);
uint32_t tcp_open_ts_offset(const struct tcp_env *e, const uint8_t local[16], const uint8_t remote[16], uint32_t vrf,
                            be16_t lport, be16_t rport);
void tcp_open_soft(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, usec_t now);
void tcp_open_mss(struct tcp_conn *c);
int tcp_open_passive(struct tcp_env *e, struct abi_tcb *d, const struct tcp_seg_in *seg, uint32_t mtu, usec_t now);
void tcp_open_established(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_open_syn_sent(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);
int tcp_open_complete(struct tcp_env *e, struct tcp_conn *c, usec_t now);

/* tcp_busy.c */
void tcp_busy_wake(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_busy_release(struct tcp_env *e, struct tcp_conn *c);
void tcp_busy_rest(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** A look at a connection at rest: a copy in `room` that has a block, with nothing in it. Others as they are. No op
 * may be called for a copy. */
const struct tcp_conn *tcp_busy_look(const struct tcp_conn *c, struct tcp_conn *room);
/** In front of everything that may touch c->b. */
static inline void tcp_busy_need(struct tcp_env *e, struct tcp_conn *c, usec_t now) {
  if (HS_UNLIKELY(c->b == NULL))
    tcp_busy_wake(e, c, now);
}

/* tcp_tfo.c */
void tcp_tfo_syn_ack(const struct tcp_env *e, const struct tcp_conn *c, struct tcp_opts *o);
void tcp_tfo_syn(struct tcp_env *e, struct tcp_conn *c, struct tcp_seg_out *out, int again, usec_t now);
void tcp_tfo_learn(struct tcp_env *e, const struct tcp_conn *c, const struct tcp_seg_in *seg);
int tcp_tfo_may_send(const struct tcp_env *e, struct tcp_conn *c);
void tcp_tfo_accept(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg);

/* tcp_close.c */
void tcp_close_fail(struct tcp_env *e, struct tcp_conn *c, int err);
void tcp_close_fin_acked(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_close_peer_fin(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_close_time_wait(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_close_timeout(struct tcp_env *e, struct tcp_conn *c);
void tcp_close_fin_wait2(struct tcp_env *e, struct tcp_conn *c, usec_t now);
void tcp_close_deferred(struct tcp_env *e, struct tcp_conn *c, usec_t now);
int tcp_close_fin_queued(const struct tcp_conn *c);
/** Last act of every public call: orders the timer, or tells that the connection is gone (c is dead then). */
void tcp_done(struct tcp_env *e, struct tcp_conn *c);

/* tcp_rtt.c */
void tcp_rtt_init(const struct tcp_env *e, struct tcp_conn *c);
void tcp_rtt_sample(const struct tcp_env *e, struct tcp_conn *c, uint32_t us, usec_t now);
void tcp_rtt_on_ack(const struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);

/* tcp_wnd.c */
uint32_t tcp_wnd_current(const struct tcp_conn *c);
uint16_t tcp_wnd_select(struct tcp_env *e, struct tcp_conn *c, usec_t now);
uint16_t tcp_wnd_syn(struct tcp_env *e, struct tcp_conn *c);
uint8_t tcp_wnd_scale_for(uint32_t buf);

/* tcp_pmtu.c */
void tcp_pmtu_init(struct tcp_env *e, struct tcp_conn *c, int fresh, usec_t now);
void tcp_pmtu_icmp(struct tcp_env *e, struct tcp_conn *c, uint32_t mtu, usec_t now);
void tcp_pmtu_timeout(struct tcp_env *e, struct tcp_conn *c, usec_t now);
uint32_t tcp_pmtu_probe(struct tcp_env *e, struct tcp_conn *c, uint32_t left, usec_t now);
void tcp_pmtu_unsent(struct tcp_conn *c);
void tcp_pmtu_acked(struct tcp_env *e, struct tcp_conn *c, usec_t now);
int tcp_pmtu_lost(struct tcp_env *e, struct tcp_conn *c, usec_t now);

/* tcp_rbuf.c: the receive buffer's size */
void tcp_rbuf_init(struct tcp_env *e, struct tcp_conn *c);
void tcp_rbuf_adopt(struct tcp_env *e, struct tcp_conn *c);
void tcp_rbuf_options(struct tcp_env *e, struct tcp_conn *c);
uint32_t tcp_rbuf_greatest(const struct tcp_env *e, const struct abi_tcb *d);
uint32_t tcp_rbuf_room(struct tcp_env *e, struct tcp_conn *c, uint32_t room, usec_t now);
void tcp_rbuf_rtt(struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);

#endif
