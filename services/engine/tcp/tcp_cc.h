/*
 * Congestion control as a const ops struct: newreno, cubic and bbr. State is in struct tcp_conn (cwnd, ssthresh,
 * cwnd_acked, cubic, hystart, bbr); no call allocates or sends. Called by tcp_ack.c, tcp_loss.c and tcp_open.c.
 */
#ifndef HS_ENGINE_TCP_CC_H
#define HS_ENGINE_TCP_CC_H

#include "base/bytes.h"

struct tcp_conn;
struct tcp_rate;

#define TCP_CWND_MAX (1u << 30) /* bytes; an ssthresh of so much has never been set by a loss */

struct tcp_cc_ops {
  const char *name;
  uint8_t own_cwnd; /* in recovery too: no PRR */
  /** Fresh or adopted: cwnd = the initial window, ssthresh as high as can be. */
  void (*init)(struct tcp_conn *c, uint32_t init_segs);
  /** `acked` new bytes, outside of fast recovery; `flight` = bytes that were out before this ACK. */
  void (*acked)(struct tcp_conn *c, uint32_t acked, uint32_t flight, usec_t now);
  /** A loss was found by duplicates; flight at that time. Sets ssthresh and cwnd. */
  void (*loss)(struct tcp_conn *c, uint32_t flight, usec_t now);
  /** The retransmission timer ran out; `first` time for this data (RFC 5681 3.1). */
  void (*rto)(struct tcp_conn *c, uint32_t flight, int first, usec_t now);
  /** Fast recovery is over. */
  void (*recovered)(struct tcp_conn *c, uint32_t flight);
  /** The last reduction was needless: prior_cwnd and prior_ssthresh come back. */
  void (*undo)(struct tcp_conn *c);
  /** Nothing was sent for longer than an RTO (RFC 5681 4.1). */
  void (*idle)(struct tcp_conn *c, uint32_t init_segs);
  /** An ACK was dealt with: what it tells about the delivery rate, bytes delivered by it, whether something is held for
   * lost. May be NULL. */
  void (*sample)(struct tcp_conn *c, const struct tcp_rate *rs, uint32_t delivered, int lost, usec_t now);
  /** Bytes per second to pace at. NULL: a multiple of cwnd per round trip (tcp_pace.c). */
  uint32_t (*rate)(const struct tcp_conn *c);
};

/** All of them; cfg.cc is an index, d->cc too. */
extern const struct tcp_cc_ops *const tcp_cc_list[];
extern const uint32_t tcp_cc_count;
extern const struct tcp_cc_ops tcp_cc_newreno, tcp_cc_cubic, tcp_cc_bbr;

/* tcp_cc.c */
uint32_t tcp_cc_reduced(const struct tcp_conn *c, uint32_t bytes);
void tcp_cc_forget(struct tcp_conn *c);
void tcp_cc_round(struct tcp_conn *c);
void tcp_cc_change(struct tcp_conn *c, uint32_t index);

/* What others have in common with newreno. */
void tcp_cc_newreno_init(struct tcp_conn *c, uint32_t init_segs);
void tcp_cc_newreno_recovered(struct tcp_conn *c, uint32_t flight);
void tcp_cc_newreno_undo(struct tcp_conn *c);
void tcp_cc_newreno_idle(struct tcp_conn *c, uint32_t init_segs);

/* For tests: the arithmetic of tcp_cc_cubic.c, the estimate of tcp_cc_bbr.c. */
uint32_t tcp_cc_bbr_bw(const struct tcp_conn *c);
uint32_t tcp_cc_cubic_root(uint64_t x);
uint32_t tcp_cc_cubic_at(const struct tcp_conn *c, uint64_t ticks);

#endif
