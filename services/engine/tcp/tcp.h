/*
 * The TCP core's door: what the session layer calls, and the ops through which the core reaches the outside.
 *
 * The core does no I/O and reads no clock: `now` is an argument, segments come in parsed and go out through ops->send.
 * One engine worker owns an env and all its connections; nothing is shared between threads. A connection has a durable
 * half (struct abi_tcb in the TCB segment; in simulations plain memory), which a successor adopts, and a soft half
 * (struct tcp_conn, tcp_conn.h), which dies with the process. Bytes live in fifos that only the ops know.
 * RFC 9293, 5681, 6298, 6582, 7323, 2018, 5961, 1337.
 */
#ifndef HS_ENGINE_TCP_H
#define HS_ENGINE_TCP_H

#include "abi/tcb.h"
#include "base/bytes.h"
#include "wire/tcp.h"

struct tcp_conn;
struct tcp_env;

/** A contiguous piece of a received segment's payload. */
struct tcp_piece {
  const uint8_t *p;
  uint32_t len;
};

/** A received segment: header parsed by wire/tcp.h, checksum already good, payload in pieces (up to 64 KB when merged).
 */
struct tcp_seg_in {
  struct tcp_hdr hdr;
  const struct tcp_piece *pieces;
  uint32_t n_pieces;
  uint32_t len;  /* payload bytes in all */
  uint32_t segs; /* wire segments merged in it, ≥ 1 (GRO): counts for ACK frequency */
  uint8_t ce;    /* IP ECN field was CE */
};

/** A segment to send: header values, and which bytes of the tx fifo follow. */
struct tcp_seg_out {
  seq32_t seq, ack;
  uint16_t flags;
  uint16_t wnd; /* as it goes on the wire, scaled */
  uint16_t urg;
  struct tcp_opts opts;
  uint32_t off;      /* first payload byte, counted from the tx fifo's head */
  uint32_t len;      /* payload bytes; > gso_size: to be cut by device or nicio */
  uint16_t gso_size; /* bytes per wire segment when len is larger, else 0 */
  uint8_t tos;
  uint8_t rexmit; /* counts as a retransmission */
};

/** What the core tells the session layer. */
enum tcp_event {
  TCP_EV_CONNECTED = 1, /* active open done */
  TCP_EV_READABLE,      /* bytes were published in the rx fifo */
  TCP_EV_PEER_FIN,      /* FIN in sequence: end of stream at the current rx tail */
  TCP_EV_WRITABLE,      /* tx head moved */
  TCP_EV_CLOSING,       /* our FIN is acknowledged: all that was written has arrived */
  TCP_EV_ERROR,         /* d->error holds an errno: reset, refused, timed out, unreachable */
  TCP_EV_CLOSED,     /* CLOSED or end of TIME_WAIT: the session layer frees both halves when this returns; last event */
  TCP_EV_SOFT_ERROR, /* an ICMP error about something of ours came, and the connection goes on: soft_error */
  TCP_EV_ROUTE_BAD,  /* too many retransmissions: the path below should be checked (neighbour unreachability) */
};

struct tcp_env_ops {
  /** Copy pieces[skip … skip+len) of the segment to rx position rcv_nxt + off. Returns bytes placed: fewer when memory
   * is short; the rest is treated as not received. Does not publish. */
  uint32_t (*rx_place)(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                       uint32_t len);
  /** rx tail += n: durable from here on; only then may it be acknowledged. */
  void (*rx_publish)(void *ctx, struct tcp_conn *c, uint32_t n);
  /** Bytes beyond rcv_nxt that may be promised now (fifo limit − unread bytes), ≥ 0. */
  uint32_t (*rx_room)(void *ctx, struct tcp_conn *c);
  /** The rx fifo may hold `bytes` from now on: buffers grow with the path. May be NULL: they have one size for ever. */
  void (*rx_limit)(void *ctx, struct tcp_conn *c, uint32_t bytes);
  /** Bytes in the tx fifo from its head (= snd_una): acknowledged ones are gone. */
  uint32_t (*tx_used)(void *ctx, struct tcp_conn *c);
  /** tx head += n: n bytes are acknowledged. */
  void (*tx_release)(void *ctx, struct tcp_conn *c, uint32_t n);
  /** The byte before rx position tail + `off` is urgent, `off` ≥ 1: an app is to find it. Told again it is the same.
   * May be NULL. */
  void (*urgent)(void *ctx, struct tcp_conn *c, uint32_t off);
  /** Put a segment on its way. 0, or -ENOBUFS (no frame now: call tcp_output again when the session layer says so),
   * -EHOSTUNREACH, -EMSGSIZE. d->snd_max was stored before. */
  int (*send)(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out);
  void (*event)(void *ctx, struct tcp_conn *c, enum tcp_event ev);
  /** The handshake of a passive open is complete. 1 = offered to a process; 0 = nobody takes offers now: stay
   * SYN_RECEIVED, parked, until tcp_accept_ready(). -EAGAIN = the accept queue is full: the ACK counts as lost, the
   * SYN-ACK goes out again in time; -ECONNRESET = it is full, and the client is to know. */
  int (*offer)(void *ctx, struct tcp_conn *c);
  /** Have tcp_timer() called at `when` (µs), replacing an earlier order; UINT64_MAX = no call. */
  void (*timer)(void *ctx, struct tcp_conn *c, usec_t when);
  /** The first link's MTU towards the peer, bytes. `found` ≠ 0: so much is what the path takes, also for others to the
   * same host. May be NULL: the path never changes. */
  uint32_t (*path_mtu)(void *ctx, struct tcp_conn *c, uint32_t found);
  /** Largest payload that may leave in one piece to this peer (device or nicio cuts it), ≥ mss. */
  uint32_t (*gso_max)(void *ctx, struct tcp_conn *c);
};

/** tcp_config.mtu_probing (RFC 4821). */
enum tcp_mtu_probing { TCP_MTU_PROBING_OFF, TCP_MTU_PROBING_BLACKHOLE, TCP_MTU_PROBING_ON };

/** Tunables: the fields are those of abi/tunables.h, by name, and what belongs to them. Times in µs unless named
 * otherwise. Set through tcp_tunable_put, read by whoever needs one at the moment it is needed. */
struct tcp_config {
  uint8_t sack, timestamps, wscale, nodelay;
  uint8_t idle_restart;     /* the initial window again after an RTO without sending (RFC 5681 4.1) */
  uint8_t cc;               /* index in tcp_cc_list: tcp_cc_find() */
  uint8_t pacing;           /* spread what cwnd allows over the round trip (tcp_pace.c) */
  uint8_t ecn;              /* 0 off, 1 when the peer asks, 2 ask too (RFC 3168) */
  uint8_t fastopen;         /* bit 0 as client, bit 1 as server (RFC 7413) */
  uint8_t fastopen_keys;    /* 0: a key is drawn; 2: the second one's cookies are still good */
  uint8_t fastopen_key[32]; /* 16 bytes each */
  usec_t rto_initial, rto_min, rto_max, delack;
  usec_t time_wait, fin_wait2;
  uint32_t syn_retries, synack_retries, data_retries;
  uint32_t keepidle_s, keepintvl_s, keepcnt;
  uint32_t user_timeout_ms;
  uint32_t init_cwnd_segs;
  uint32_t orphans_max;                       /* the session layer's */
  uint32_t rcv_buf_min, rcv_buf, rcv_buf_max; /* bytes; the greatest gives the window scale we offer */
  uint32_t snd_buf_min, snd_buf, snd_buf_max;
  uint8_t rcv_auto;                      /* receive buffers grow with the path */
  uint8_t mtu_probing;                   /* enum tcp_mtu_probing */
  uint32_t mtu_base;                     /* bytes: what black holes are thought to take */
  usec_t pmtu_life;                      /* after which a larger path MTU is tried */
  uint32_t half_open_max, syn_rate;      /* the session layer's, as the next two */
  uint8_t syncookies, abort_on_overflow; /* 0 off, 1 auto, 2 always */
};
void tcp_config_defaults(struct tcp_config *cfg);
/** Value of a tunable (enum abi_tunable) in its unit; 0 for another number. */
uint32_t tcp_tunable_get(const struct tcp_config *cfg, uint32_t id);
/** Set it. 0, -EINVAL outside its range, -ENOENT for another number. */
int tcp_tunable_put(struct tcp_config *cfg, uint32_t id, uint32_t value);
/** Tunables whose values must stand in order (ABI_TUNE_ORDER): 0, or -EINVAL and the first pair that does not. */
int tcp_tunable_order(const struct tcp_config *cfg, uint32_t *lower, uint32_t *higher);
/** Index of a congestion control by its name (newreno, cubic) for cfg.cc; -ENOENT. abi_options.cc is 1 + index. */
int tcp_cc_find(const char *name);
/** Its name; "?" for another index. */
const char *tcp_cc_name(uint32_t index);

/** What one ACK tells about the delivery rate (draft-cheng-iccrg-delivery-rate-estimation 3.3); tcp_sent.c. */
struct tcp_rate {
  uint8_t valid, limited, rexmit;
  uint32_t prior_delivered, prior_at; /* when the newest that arrived by it had left */
  uint32_t send_us;                   /* time over which that was sent */
  uint32_t rtt_us;
};

/** Bytes that a connection borrows from tcp_env_memory when it has many segments out, and when it holds much beyond
 * holes. */
#define TCP_LOG_SIZE 16384u

#define TCP_BUSY_SIZE 592u /* bytes that every connection borrows while it is busy, from tcp_env_busy */

struct tcp_log;
struct tcp_busy;

/** tcp_config.ecn. */
enum tcp_ecn { TCP_ECN_OFF, TCP_ECN_PASSIVE, TCP_ECN_ON };

/** One per engine worker. `ctx` is handed to every op. */
struct tcp_env {
  const struct tcp_env_ops *ops;
  void *ctx;
  struct tcp_config cfg;
  uint8_t secret[32];  /* ISN (RFC 6528), timestamp offsets; from abi_tcb_block */
  uint64_t *counters;  /* TCP_N_COUNTERS values, X-macro list in tcp_counters.h */
  usec_t challenge_at; /* challenge ACKs (RFC 5961 7): start of the running second; begin with 0 */
  uint32_t challenge_left;
  struct tcp_log *log_free; /* tcp_env_memory: logs that came back, and what was never used */
  uint8_t *log_mem;
  size_t log_left;
  uint32_t logs, logs_out;    /* how many there are, and are lent */
  struct tcp_busy *busy_free; /* tcp_env_busy, in the same way */
  uint8_t *busy_mem;
  uint32_t busy_left;
  uint32_t busy_out;      /* blocks lent */
  struct tcp_rate rate;   /* of the ACK at hand */
  seq32_t fack;           /* end of the highest that was known to have arrived before the ACK at hand */
  const uint8_t *tfo_key; /* Fast Open keys of the listener whose SYN is being looked at, 16 bytes each: its own,
                             and an elder one if tfo_keys is 2; NULL = the configured one */
  uint32_t tfo_keys;
  struct tcp_tfo *tfo;             /* cookies of servers for Fast Open; NULL = no client side */
  const struct abi_cookie *cookie; /* keys of SYN cookies, from abi_tcb_block; NULL = none are made or believed */
};

/** Memory, 8-byte aligned, for TCP_LOG_SIZE per connection that has much out or much beyond holes; the caller's, for
 * the env's life, touched only as far as it is needed. Without it, or when it is used up, losses are found and repaired
 * more slowly. */
void tcp_env_memory(struct tcp_env *e, void *mem, size_t bytes);
/** Memory for n blocks of TCP_BUSY_SIZE, 8-byte aligned, the caller's for the env's life: one for every connection that
 * can exist at once, so that none is ever wanting. It is touched only as far as connections are busy at the same time,
 * and used again last in first out: a million of them at rest cost nothing but addresses. */
void tcp_env_busy(struct tcp_env *e, void *mem, uint32_t n);

/* --- opening --- */

/** Begin an active open. `d` has local, remote, ifindex filled, all else zero (iss: 0, or the least ISN, as
 * tcp_tw_isn_floor tells); life is stored by this call, state
 * SYN_SENT, then the SYN goes out. `mtu` of the path. 0 or -errno of send (the SYN is retransmitted anyway). */
int tcp_connect(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, uint32_t mtu, usec_t now);
/** A SYN came for a listener: `d` has local, remote, listener_* filled. Makes it SYN_RECEIVED, durable, sends the
 * SYN-ACK. 0, or -errno when the segment is no acceptable SYN (then d stays free and the caller answers by
 * tcp_reply_closed). */
int tcp_passive_open(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                     uint32_t mtu, usec_t now);
/** The same with Fast Open (RFC 7413): `tfo` = TCP_TFO_* of tcp_tfo.h. With TCP_TFO_DATA the connection is offered at
 * once (ops->offer must not park it then) and the SYN's data published. */
int tcp_passive_fast(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, const struct tcp_seg_in *seg,
                     uint32_t mtu, unsigned tfo, usec_t now);
/** A process takes offers now: a parked connection becomes ESTABLISHED and is offered (ops->offer). */
void tcp_accept_ready(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** The way out was interrupted and is whole again: the SYN or SYN-ACK of a handshake that may have been lost with it
 * goes out again by the next tcp_output, not an RTO later. */
void tcp_path_back(struct tcp_env *e, struct tcp_conn *c);
/** Build the answer to a segment that belongs to no connection (RFC 9293 3.10.7.1). 1 = *out holds a RST to send, 0 =
 * say nothing. */
int tcp_reply_closed(const struct tcp_seg_in *seg, struct tcp_seg_out *out);
/** Resume a connection from its durable half after a crash: fifo cursors as found; soft half as after an RTO; timers
 * armed; one ACK is sent by the following tcp_output. 0, or -EPROTO when the record contradicts itself (the caller
 * frees it). */
int tcp_adopt(struct tcp_env *e, struct tcp_conn *c, struct abi_tcb *d, uint32_t tx_head, uint32_t rx_tail,
              uint32_t mtu, usec_t now);

/* --- running --- */

/** Segment arrives, RFC 9293 3.10.7. May free the connection (TCP_EV_CLOSED). Sends immediate ACKs itself; data goes
 * out by tcp_output. */
void tcp_input(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg, usec_t now);
/** Send what may be sent: data, FIN, window update, due ACK. Called after app hints, after a burst of tcp_input, and
 * when frames are free again. Returns 1 if it stopped for -ENOBUFS. */
int tcp_output(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** The ordered time has come. May free the connection. */
void tcp_timer(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** The byte before position `pos` of the tx fifo, which the app has written, is urgent. Called by ops->tx_used, so that
 * no byte leaves before it is known; again for nothing. */
void tcp_urgent(struct tcp_conn *c, uint32_t pos);
/** The app read bytes: send a window update if it is worth one (RFC 9293 3.8.6.2.2). */
void tcp_rx_consumed(struct tcp_env *e, struct tcp_conn *c, usec_t now);

/* --- closing --- */

/** shutdown(SHUT_WR): FIN after the last byte of the tx fifo. */
void tcp_shutdown(struct tcp_env *e, struct tcp_conn *c, usec_t now);
/** close(): the app is gone. Data and FIN still go out (orphan); FIN_WAIT_2 is bounded; unread data or data that comes
 * later → RST (RFC 2525 2.17, RFC 1122 4.2.2.13). `unread` = the app left bytes in the rx fifo. */
void tcp_close(struct tcp_env *e, struct tcp_conn *c, int unread, usec_t now);
/** RST now and TCP_EV_CLOSED. `err` goes to d->error. */
void tcp_abort(struct tcp_env *e, struct tcp_conn *c, int err, usec_t now);
/** ICMP says something about the segment with `seq`: kind 0 = soft error err, 1 = hard error err (RFC 5927 rules), 2 =
 * new path MTU `mtu`. */
void tcp_icmp(struct tcp_env *e, struct tcp_conn *c, int kind, int err, uint32_t mtu, seq32_t seq, usec_t now);
/** The app changed options (struct abi_options, copied and checked by the caller). */
void tcp_options(struct tcp_env *e, struct tcp_conn *c, const struct abi_options *opt, usec_t now);
/** Bytes that the app may hold in the tx fifo: enough for twice the congestion window, or what SO_SNDBUF says. */
uint32_t tcp_send_buffer(const struct tcp_env *e, const struct tcp_conn *c, uint32_t now_allowed);
/** The caller lets go of a connection that did not end: a TIME_WAIT record has taken its place, or it could not be
 * adopted. */
void tcp_release(struct tcp_env *e, struct tcp_conn *c);
/** Figures for TCP_INFO and show session. */
void tcp_figures(const struct tcp_env *e, const struct tcp_conn *c, struct abi_tcp_figures *out);
void tcp_figures_more(const struct tcp_env *e, const struct tcp_conn *c, struct abi_tcp_more *out);
/** Invariants; 0, or the line number of the first one that is broken. Oracle of unit tests, simulations and fuzzers. */
int tcp_conn_check(const struct tcp_env *e, const struct tcp_conn *c);

#endif
