/*
 * TCB table: the durable half of every TCP connection, one dense array in the TCB segment.
 *
 * The engine writes it, its successor adopts it, the api server reads it. What follows from the fifo cursors is not
 * here: snd_una = iss + 1 + tx_head (+1 once the FIN is acked), rcv_nxt = irs + 1 + rx_tail (+1 once the FIN came),
 * modulo 2^32. Every transition is one store to an 8-byte word, or a sequence in one function whose every prefix is a
 * valid record, with a FAULT_POINT between its stores. A record is in use when `life` says so; `life` is stored last
 * when one is made and first when one is given up.
 */
#ifndef HS_ABI_TCB_H
#define HS_ABI_TCB_H

#include "abi/route.h"
#include "abi/session.h"
#include "abi/tunables.h"

/* RFC 9293 3.3.2. Values are Linux's, as TCP_INFO and netstat users expect. */
enum abi_tcp_state {
  ABI_TCP_ESTABLISHED = 1,
  ABI_TCP_SYN_SENT = 2,
  ABI_TCP_SYN_RECEIVED = 3,
  ABI_TCP_FIN_WAIT_1 = 4,
  ABI_TCP_FIN_WAIT_2 = 5,
  ABI_TCP_TIME_WAIT = 6,
  ABI_TCP_CLOSED = 7,
  ABI_TCP_CLOSE_WAIT = 8,
  ABI_TCP_LAST_ACK = 9,
  ABI_TCP_LISTEN = 10,
  ABI_TCP_CLOSING = 11,
};

#define ABI_TCB_FREE 0u
#define ABI_TCB_USED 0x54434231u /* "TCB1" */

/* abi_tcb.nego: what the handshake agreed on */
#define ABI_TCB_SACK    0x01u
#define ABI_TCB_TS      0x02u
#define ABI_TCB_WSCALE  0x04u
#define ABI_TCB_ECN     0x08u
#define ABI_TCB_PASSIVE 0x10u /* opened by a listener */
#define ABI_TCB_TFO     0x20u /* Fast Open: our SYN may have carried data, or the peer's did and was taken */

/* abi_tcb.fin: bits only ever added */
#define ABI_TCB_FIN_SENT  0x1u /* our FIN was sent at snd_max - 1 at least once */
#define ABI_TCB_FIN_ACKED 0x2u
#define ABI_TCB_FIN_RCVD  0x4u /* the peer's FIN is in sequence and counted in rcv_nxt */
#define ABI_TCB_ORPHAN    0x8u /* no app owns it any more */
#define ABI_TCB_SHUT_RD   0x10u

enum abi_accept_state {                      /* abi_tcb.accept */
                        ABI_ACCEPT_NONE = 0, /* active open */
                        ABI_ACCEPT_PARKED =
                            1, /* the handshake's ACK came, but no process takes offers: stays SYN_RECEIVED */
                        ABI_ACCEPT_OFFERED = 2, /* session record made, hint pushed */
                        ABI_ACCEPT_TAKEN = 3,
};

#define ABI_TCB_OOO 8u

/** A range of sequence numbers [l, r) whose bytes lie in the rx fifo beyond its tail. l == r: unused. One 8-byte store.
 */
struct abi_seq_range {
  seq32_t l, r;
};

/** Durable half. 384 bytes; one writer, the engine worker that holds the connection. */
struct abi_tcb {
  /* line 0: identity, written before `life` */
  uint32_t life; /* atomic: ABI_TCB_FREE / ABI_TCB_USED */
  uint32_t gen;  /* grows each time the record is used anew */
  struct abi_endpoint local, remote;
  uint32_t vrf;
  uint32_t ifindex; /* engine interface number; 0 = by route */
  /* line 1: owner and state */
  uint64_t worker_id; /* owning app worker; 0 = orphan without segments, or not yet offered */
  uint32_t slot;      /* session slot there */
  uint32_t slot_gen;
  uint32_t listener_slot; /* passive: listener it belongs to, of worker `listener_worker` */
  uint32_t listener_gen;
  uint64_t listener_worker;
  uint16_t state;                 /* enum abi_tcp_state, atomic; one writer function: tcp_state_set */
  uint8_t accept;                 /* enum abi_accept_state, atomic */
  uint8_t fin;                    /* ABI_TCB_FIN_*, atomic */
  uint32_t error;                 /* errno that the app is told, 0 = none */
  uint8_t nego;                   /* ABI_TCB_SACK … */
  uint8_t snd_wscale, rcv_wscale; /* shift counts, 0 … 14 (RFC 7323 2.3) */
  uint8_t cc;                     /* congestion control index */
  uint16_t mss;                   /* what the peer's MSS option allows us to send, bytes without options */
  uint16_t rcv_mss;               /* what we announced */
  uint32_t reserved1[4];
  /* line 2: sequence state */
  seq32_t iss, irs;
  seq32_t snd_max;          /* highest sequence ever sent + 1; stored before the frame is published */
  seq32_t rcv_adv;          /* advertised right edge; never moves left */
  seq32_t snd_wl1, snd_wl2; /* RFC 9293 3.10.7.4: segment of the last window update */
  uint32_t snd_wnd;         /* send window, bytes, scaled */
  uint32_t max_wnd;         /* largest window the peer ever offered */
  uint32_t ts_offset;       /* our timestamp clock's offset (RFC 7323 5.4) */
  uint32_t ts_recent;       /* RFC 7323 4.3 */
  usec_t ts_recent_at;      /* when it was set; CLOCK_MONOTONIC µs */
  uint32_t snd_up, rcv_up;  /* urgent pointers, sequence numbers; not ahead of snd_una/rcv_nxt = none */
  uint32_t pmtu;
  uint32_t last_ack_sent;
  /* line 3: deadlines, CLOCK_MONOTONIC µs, 0 = none */
  usec_t time_wait_end;
  usec_t fin_wait2_end;
  usec_t user_timeout_at;
  usec_t created_at;
  uint32_t ts_recent_valid;
  uint32_t reserved3;
  struct abi_endpoint meant; /* passive: where its connect was meant to go; family 0 = no egress rule redirected it */
  /* line 4: out-of-order ranges; forgetting one is SACK reneging (RFC 2018 8) */
  struct abi_seq_range ooo[ABI_TCB_OOO];
  /* line 5: options that were applied */
  struct abi_options opt;
};
_Static_assert(sizeof(struct abi_tcb) == 384, "durable half of a TCB");

/** Of the record with the same number: room for transports above (TLS keys and record numbers, QUIC). An array of its
 * own, so that connections without one cost no memory for it. */
struct abi_tcb_upper {
  uint8_t room[128];
};
_Static_assert(sizeof(struct abi_tcb_upper) == 128, "durable half of what is above TCP");

/** hdr.geom of the TCB segment. */
struct abi_tcb_geom {
  uint64_t block_off; /* struct abi_tcb_block */
  uint64_t table_off; /* n × struct abi_tcb */
  uint64_t n;         /* records */
  uint64_t tw_off;    /* n_tw × struct abi_tw */
  uint64_t n_tw;      /* TIME_WAIT records; 0 = none, TCBs wait themselves */
  uint64_t upper_off; /* n × struct abi_tcb_upper */
  uint64_t route_off; /* n_route × struct abi_route */
  uint64_t n_route;   /* 0 = a broker without them */
  uint64_t reserved[8];
};
_Static_assert(sizeof(struct abi_tcb_geom) == 128, "TCB geometry fills hdr.geom");

/** Keys of SYN cookies (RFC 4987 3.6): durable, so that a cookie outlives the engine that sent it. */
struct abi_cookie {
  uint32_t gen; /* atomic: key[gen & 1] is in use, the other one still counts if gen > 1; 0 = none drawn yet */
  uint32_t pad;
  usec_t drawn_at; /* when the key in use began */
  usec_t sent_at;  /* atomic: when a cookie was sent last, to a second; 0 = never */
  uint8_t key[2][16];
};
_Static_assert(sizeof(struct abi_cookie) == 56, "SYN cookie keys");

/** Head of the table: what one engine leaves to the next. */
struct abi_tcb_block {
  uint32_t epoch;     /* atomic: engine epoch, stored when adoption begins */
  uint32_t high;      /* atomic: records [0, high) were ever used; adoption walks only these */
  uint8_t secret[32]; /* keys of ISN, port choice, timestamps, cookies (RFC 6528, 6056); drawn once */
  uint32_t secret_set;
  uint32_t tw_high;         /* atomic: TIME_WAIT records [0, high) were ever used */
  struct abi_cookie cookie; /* SYN cookies */
  uint32_t reserved[38];
  struct abi_tunables tune; /* what hsctl set at run time */
};
_Static_assert(sizeof(struct abi_tcb_block) == 640, "TCB block");

#endif
