/*
 * struct tcp_conn: the soft half of a connection, which dies with the process. Public so that the session layer can
 * embed it; only this room writes it. The durable half is reached through `d` (abi/tcb.h), what only a busy connection
 * needs through `b`.
 *
 * snd_una and rcv_nxt are copies of what the fifo cursors say (ARCHITECTURE section 3): they move in the same function
 * as the cursor, after it. One engine worker's thread owns the connection.
 */
#ifndef HS_ENGINE_TCP_CONN_H
#define HS_ENGINE_TCP_CONN_H

#include "tcp.h"
#include "tcp_counters.h"

struct tcp_cc_ops;

#define TCP_BOARD_MAX 16u /* SACKed ranges remembered here; with a log (tcp_sent.c) TCP_BOARD_LOG of them there */

#define TCP_OOO_LATEST 8u /* ranges beyond holes whose order is known; a SACK option takes four at most */

/** Deadlines of a connection; tcp_timer.c folds them into the one order that ops->timer takes. */
enum tcp_timer_id {
  TCP_T_RTO,     /* retransmission, RFC 6298; SYN and SYN-ACK too */
  TCP_T_DELACK,  /* delayed ACK, RFC 9293 3.8.6.3 */
  TCP_T_PERSIST, /* zero-window probe and override of SWS avoidance, RFC 9293 3.8.6.1, 3.8.6.2.1 */
  TCP_T_KEEP,    /* keep-alive, RFC 9293 3.8.4 */
  TCP_T_LIFE,    /* TIME_WAIT, FIN_WAIT_2 of an orphan, user timeout, parked */
  TCP_T_REO,  /* a hole has been open for the reordering window, RFC 8985 6.2; without a hole: tail loss probe, 7.2 */
  TCP_T_PACE, /* more may leave (tcp_pace.c) */
  TCP_T_REST, /* has it been silent for long? (tcp_busy.c); the last, since nothing may be due after it */
  TCP_T_N,
};

/** tcp_conn.force: what the next segment may ignore. */
enum tcp_force {
  TCP_FORCE_NONE,
  TCP_FORCE_SWS, /* Nagle, cork and SWS avoidance: the persist timer ran out while the window is small but open */
  TCP_FORCE_ONE, /* cwnd and window too: one retransmission */
};

/** tcp_conn.undo: what may still show that the last reduction of cwnd was needless. */
enum tcp_undo {
  TCP_UNDO_NONE,
  TCP_UNDO_DSACK, /* every retransmission is reported as a duplicate */
  TCP_UNDO_FIRST, /* that, or the timestamp echoed by the first new ACK */
};

/** tcp_conn.frto: what F-RTO (RFC 5682) waits for after an RTO. */
enum tcp_frto {
  TCP_FRTO_NONE,
  TCP_FRTO_FIRST,  /* the first ACK: was it caused by the retransmission? */
  TCP_FRTO_SECOND, /* new data went out instead of more retransmissions: does the next ACK cover what was not resent? */
};

/** tcp_conn.tail: the tail loss probe that is out (RFC 8985 7). */
enum tcp_tail {
  TCP_TAIL_NONE,
  TCP_TAIL_NEW,   /* it carried new data */
  TCP_TAIL_AGAIN, /* it was sent before */
};

enum tcp_recovery {
  TCP_OPEN,     /* nothing is believed lost */
  TCP_RECOVERY, /* fast recovery: RFC 6675 with SACK, RFC 6582 without */
  TCP_LOSS,     /* after an RTO, or after adoption: resent from snd_una in slow start */
};

/** [l, r) as the peer's SACK options told; sorted, disjoint, inside [snd_una, snd_max). They lie in r, or in the log:
 * tcp_board_list. */
struct tcp_board {
  uint32_t n;
  uint32_t bytes; /* sum of all ranges */
  struct tcp_sack r[TCP_BOARD_MAX];
};

/** A range that left; times are µs modulo 2^32 (tcp_sent.c). */
struct tcp_sent {
  seq32_t l, r;
  uint32_t from, at;                          /* when its first and its last byte left */
  uint32_t delivered, delivered_at, first_at; /* tcp_conn's when its first byte left: for delivery rates */
  uint8_t rexmit;                             /* sent before */
  uint8_t limited;                            /* the app had no more to send then */
  uint8_t pad[2];
};

/** CUBIC, RFC 9438. Sizes in bytes, K in ticks of 1024 µs. */
struct tcp_cubic {
  usec_t epoch_at, last_at; /* start of this stage of congestion avoidance, 0 = not begun; last ACK that counted */
  usec_t prior_epoch_at;    /* for undo, as the other prior_* */
  uint32_t k;
  uint32_t w_est, est_acked; /* the Reno-friendly estimate, and bytes acked since it last grew */
  uint32_t prior_w_max, prior_k;
};

/** HyStart++, RFC 9406. Round trips in µs, UINT32_MAX = none seen. */
struct tcp_hystart {
  seq32_t end;        /* of the round that runs */
  uint32_t last, now; /* least round trip of the last round, or when conservative slow start began, and of this */
  uint8_t samples;    /* of this round */
  uint8_t css;        /* 0 = slow start, else 1 + rounds of conservative slow start */
  uint8_t pad[2];
};

struct tcp_bbr_max {
  uint32_t round, bw;
};

/** BBR version 1 (tcp_cc_bbr.c). Times in µs modulo 2^32, rates in bytes per second. */
struct tcp_bbr {
  struct tcp_bbr_max max[3];  /* delivery rate: greatest of ten rounds first */
  uint32_t round, round_end;  /* round trips, and what was delivered when the present one ends */
  uint32_t rtprop, rtprop_at; /* least round trip, and when it was seen */
  uint32_t done_at;           /* end of PROBE_RTT; 0 = not yet down to four segments */
  uint32_t cycle_at;          /* when this phase of PROBE_BW began */
  uint32_t full_bw;           /* what STARTUP has to exceed by a quarter */
  uint32_t rate;              /* to pace at */
  uint32_t prior_cwnd;        /* before recovery or PROBE_RTT */
  uint32_t extra[2];          /* most that came beyond the rate in five rounds: the present five, the five before */
  uint32_t extra_at, extra_n; /* since when that is counted, and what has come since */
  uint8_t mode, cycle, full_rounds;
  uint8_t begun, filled;           /* the model is in use; STARTUP has found the pipe full */
  uint8_t round_start, done_round; /* this ACK begins a round; PROBE_RTT has lasted one */
  uint8_t conserve;                /* the first round of a recovery: what arrives lets out as much */
  uint8_t idle;                    /* restarting */
  uint8_t extra_rounds;            /* of the present five */
  uint8_t pad[2];
};

/** What only a busy connection needs, lent by the env (tcp_busy.c): given back after a while of silence, when nothing
 * in it is worth remembering. tcp_busy_wake says what a fresh one looks like. */
struct tcp_busy {
  struct tcp_busy *next; /* in the env's free list */

  /* timers */
  usec_t due[TCP_T_N]; /* 0 = none */
  usec_t pace_at;      /* before it nothing may leave that is paced */
  usec_t oow_ack_at;   /* last answer to an unacceptable segment without data */
  usec_t stuck_at;     /* since when nothing was acknowledged although something is out; 0 = no */

  /* what is in the network: tcp_sent.c */
  struct tcp_sent_log *sent_log; /* NULL: in sent_own */
  struct tcp_sent sent_own[2];
  uint32_t lost;                              /* bytes below snd_nxt that are lost and not sent again */
  uint32_t delivered, delivered_at, first_at; /* bytes that arrived, when the last did, when what it was left */
  uint32_t app_limited;                       /* until so much is delivered the app was the limit; 0 = no */
  seq32_t full_end;                           /* behind the last byte in the send buffer when it was last full */
  uint32_t rack_at, rack_rtt;                 /* RFC 8985 5.2: of the newest that has arrived, if rack */
  seq32_t rack_end;
  seq32_t reo_round; /* a DSACK before this is acknowledged counts no more, if reo_round_set */
  seq32_t tail_end;  /* snd_max after the tail loss probe, if tail */
  seq32_t ecn_until; /* until this is acknowledged another ECE says nothing new */

  /* round trip, µs */
  uint32_t ack_rtt; /* what the ACK at hand shows, 0 = nothing; from timestamps if agreed on: whole ms */
  seq32_t rtt_seq;  /* end of the segment being timed, if rtt_at */
  usec_t rtt_at;
  usec_t min_rtt_at;

  /* recovery */
  uint32_t prior_cwnd, prior_ssthresh;
  uint32_t prr_delivered, prr_out, prr_fs; /* RFC 6937: in this recovery; flight when it began */
  uint32_t undo_bytes;                     /* retransmitted in this recovery and not yet reported as duplicates */
  uint32_t rexmit_ts;                      /* our timestamp of the first retransmission (RFC 3522) */
  uint32_t dupacks;
  usec_t undo_until;
  union { /* of the congestion control in use */
    struct {
      struct tcp_cubic cubic;
      struct tcp_hystart hystart;
    };
    struct tcp_bbr bbr;
  };
  struct tcp_board board;

  /* receiver; moments in µs modulo 2^32 */
  struct tcp_sack dsack; /* to be reported once, l == r: none (RFC 2883) */
  uint32_t n_ooo_latest;
  seq32_t ooo_latest[TCP_OOO_LATEST]; /* a byte of each range that a segment fell into, latest first (RFC 2018 4) */
  struct tcp_ooo_log *ooo_log;        /* NULL: all ranges beyond holes are in d->ooo */
  seq32_t rcv_rtt_seq;                /* without timestamps: a window of data is through when this has come … */
  uint32_t rcv_rtt_at;                /* … and it began then */
  seq32_t rcvq_seq;                   /* what the app had read when the round that is measured began */
  uint32_t rcvq_at;                   /* when that was */
  seq32_t mtu_probe_end;              /* of the probe that is out, if mtu_probe */
};
_Static_assert(sizeof(struct tcp_busy) <= TCP_BUSY_SIZE, "what the owner of the env counts with");

#define TCP_URGENT_IN  1u /* d->rcv_up is ahead of rcv_nxt */
#define TCP_URGENT_OUT 2u /* d->snd_up was ahead of snd_una */

#define TCP_QUICKACKS 16u /* segments acked at once at the start and after a hole: the peer has little out */

/** What a connection needs for as long as it lives. */
struct tcp_conn {
  struct abi_tcb *d;
  const struct tcp_cc_ops *cc;
  struct tcp_busy *b; /* NULL: at rest. Every public call that needs one sees to it (tcp_busy.c) */

  /* sequence space */
  seq32_t snd_una;      /* = iss + 1 + tx head (+1 when the FIN is acked); iss while the SYN is not */
  seq32_t snd_nxt;      /* next to send; below snd_max after an RTO */
  seq32_t rcv_nxt;      /* = irs + 1 + rx tail (+1 when the FIN came) */
  seq32_t fin_seq;      /* our FIN's number, if FIN_SENT */
  seq32_t snd_sml;      /* end of the last small segment (Nagle as Minshall has it) */
  seq32_t peer_fin_seq; /* of a FIN beyond a hole, if peer_fin */
  seq32_t recover;      /* snd_max when recovery began */
  uint32_t mss;         /* bytes of options and payload that fit into one segment */
  uint32_t rcv_mss;     /* largest wire segment seen: two of them are worth an ACK */
  uint32_t rx_max;      /* largest rx_room seen: the buffer's size as far as we know */

  /* congestion */
  uint32_t cwnd, ssthresh;
  uint32_t cwnd_acked;     /* congestion avoidance: bytes acked since cwnd last grew; cubic: what was left of a byte */
  uint32_t w_max, w_prior; /* cubic: as RFC 9438 has it; cwnd before the last reduction */

  /* round trip, µs */
  uint32_t srtt8, rttvar4; /* scaled by 8 and 4 as RFC 6298's gains suggest */
  uint32_t rto, min_rtt;

  usec_t ordered; /* what ops->timer was told last; UINT64_MAX = nothing */
  usec_t last_rx, last_tx;

  uint8_t recovery; /* enum tcp_recovery */
  uint8_t backoff;  /* RTOs in a row */
  uint8_t probes;   /* zero-window or keep-alive probes without an answer */
  uint8_t persists; /* zero-window probes since the window closed: their back-off */
  uint8_t quickack; /* segments still to be acked at once */
  uint8_t reo_mult; /* reordering window in quarters of min_rtt */
  uint8_t reo_seen; /* this path reorders: lateness in time, not in segments, means loss */
  uint8_t reo_round_set;
  uint8_t rack;        /* rack_* are valid */
  uint16_t n_sent;     /* entries of the list */
  uint8_t ack_now;     /* an ACK is due: the next tcp_output sends it, alone or with data */
  uint8_t pingpong;    /* request and response: the ACK will ride on the answer */
  uint8_t undo;        /* enum tcp_undo */
  uint8_t force;       /* enum tcp_force */
  uint8_t limited;     /* cwnd was what stopped us: it may grow (RFC 7661 4.3 in spirit) */
  uint8_t peer_fin;    /* peer_fin_seq is valid */
  uint8_t shut_wr;     /* shutdown came before the handshake was done */
  uint8_t blocked;     /* ops->send had no frame */
  uint8_t told;        /* TCP_EV_CLOSED is to be sent when the call that is running ends */
  uint8_t wnd_closed;  /* the wire says that our window is 0 or nearly so */
  uint8_t tail;        /* enum tcp_tail */
  uint8_t reo_keep;    /* recoveries for which reo_mult still holds */
  uint8_t ecn_echo;    /* a mark came, and no CWR since */
  uint8_t ecn_cwr;     /* cwnd was reduced, and the peer not told */
  uint8_t spurious;    /* a timeout was: the next round trip sets the RTO anew (RFC 4015 3.2 step 9) */
  uint8_t frto;        /* enum tcp_frto */
  uint8_t tfo;         /* TCP_TFO_* (tcp_tfo.h) */
  uint8_t ooo_none;    /* d->ooo is known to be empty (tcp_ooo.c): nobody need look */
  uint8_t defer;       /* TCP_DEFER_ACCEPT: SYN-ACK timeouts before a handshake without data counts … */
  uint8_t defer_acked; /* … and its ACK came */
  uint8_t urgent;      /* TCP_URGENT_*: an urgent byte is yet to come; one is not acknowledged (tcp_urgent.c) */
  uint32_t soft_error; /* errno of the last ICMP soft error (RFC 5461) */
  uint32_t retrans_total, lost_total;

  /* the receive buffer and the path (tcp_wnd.c) */
  uint32_t rcv_buf;               /* size of the receive buffer, bytes */
  uint32_t rcv_fifo;              /* what the rx fifo may hold: never less, and never less than was promised */
  uint32_t rcv_rtt;               /* round trip as the receiver sees it, µs; 0 = not known */
  uint32_t rcvq_space;            /* most bytes that the app has read in a round trip */
  uint32_t data_rx_at, ack_rx_at; /* units of 1024 µs modulo 2^32 */

  /* the search for the path's MTU (tcp_pmtu.c) */
  uint32_t mtu_at;    /* when larger ones may be tried, units of 2^20 µs + 1; 0 = never */
  uint16_t mtu_probe; /* size of the probe that is out, as an IP packet; 0 = none is out */
  uint16_t mtu_hi;    /* the least that is thought not to pass; 0 = no search runs */
};

_Static_assert(sizeof(struct tcp_conn) <= 208, "an idle connection stays small");

static inline uint32_t tcp_state(const struct tcp_conn *c) {
  return __atomic_load_n(&c->d->state, __ATOMIC_RELAXED);
}

/** Whether the handshake is behind us and the connection is not gone. */
static inline int tcp_synchronized(uint32_t state) {
  return state != ABI_TCP_CLOSED && state != ABI_TCP_LISTEN && state != ABI_TCP_SYN_SENT &&
         state != ABI_TCP_SYN_RECEIVED;
}

/** Bytes of sequence space out and not acknowledged, as far as snd_nxt believes. */
static inline uint32_t tcp_flight(const struct tcp_conn *c) {
  return c->snd_nxt - c->snd_una;
}

/** Payload per segment when nothing but timestamps is in the options. */
static inline uint32_t tcp_mss_payload(const struct tcp_conn *c) {
  return c->d->nego & ABI_TCB_TS ? c->mss - 12u : c->mss;
}

/** Give the record up, when TCP_EV_CLOSED came and the session layer has let go of it: life is stored first. */
static inline void tcp_tcb_free(struct abi_tcb *d) {
  __atomic_store_n(&d->life, ABI_TCB_FREE, __ATOMIC_RELEASE);
}

/** Whether a SYN may take over a connection in TIME_WAIT: 1 = end the old one, open a new one (RFC 9293 3.6.1, RFC
 * 6191). */
int tcp_time_wait_reuse(const struct tcp_conn *c, const struct tcp_seg_in *seg);

/** State's name as netstat prints it; "?" for another number. */
const char *tcp_state_name(uint32_t state);

#endif
