/*
 * Session record: one slot, two halves, each with one writer.
 *
 * The app half lies in the worker's A segment and is written by the app, the engine half at the same slot number in the
 * E segment and is written by the engine. Everything that must survive a crash of either side, or the loss of all
 * rings, is a word here. A slot number below `n_slots_app` (worker geometry) is allocated by the app (connect, listen,
 * bind), one above by the engine (accepted sessions).
 *
 * A slot's life: the allocator of the slot raises `gen` in its own half; the other side follows by storing the same gen
 * in its half when it takes part. Halves whose gens differ do not belong together: nothing but `gen` may be believed.
 *   connect: app fills `req` → gen → op = CONNECT (release) → hint. Engine: no session for (slot, gen) yet → makes one,
 *            engine half: endpoints → gen → state = CONNECTING (release). Doing it twice is harmless: state says so.
 *   open:    (datagrams) as connect, op = OPEN, state = READY at once. Further requests of an open session: app fills
 *            `req` while req_seq == req_seen → req_seq + 1 (release) → hint. Engine: acts → req_error → req_seen =
 * req_seq (release) → hint. A successor that finds them different acts again; every request may be acted on twice.
 *   accept:  engine: endpoints, listener → gen → state = OFFERED (release) → hint. App: takes it: gen → accepted = gen.
 *   close:   app: want |= CLOSE (release) → hint. Engine: when nothing refers to the app half any more, state = CLOSED;
 *            app then stores op = NONE → gen+1 … in its half (app slots) or want |= FREED (engine slots), and the
 *            slot is free again.
 */
#ifndef HS_ABI_SESSION_H
#define HS_ABI_SESSION_H

#include "abi/fifo.h"
#include "base/bytes.h"

/** An address and port. Addresses of both families are 16 bytes, IPv4 as ::ffff:a.b.c.d. */
struct abi_endpoint {
  uint8_t ip[16]; /* network order */
  be16_t port;    /* 0 = choose one */
  uint8_t family; /* 4, 6 or 0 = none given */
  uint8_t flags;  /* reserved, 0 */
  uint32_t scope; /* IPv6 link-local: interface number; else 0 */
};
_Static_assert(sizeof(struct abi_endpoint) == 24, "endpoint");

enum abi_op { /* abi_request.op */
              ABI_OP_NONE = 0,
              ABI_OP_CONNECT = 1, /* open a session to `remote`, from `local` if its family is not 0 */
              ABI_OP_LISTEN = 2,  /* the slot is a listener that the broker confirmed (req.id = listener id) */
              ABI_OP_OPEN = 3,    /* the slot sends and receives datagrams; its requests are counted by req_seq */
};

enum abi_req_kind {                      /* abi_request.kind, of an open session of datagrams but for the last */
                    ABI_REQ_CONNECT = 0, /* `remote` is the peer from now on; its family 0: there is none any more */
                    ABI_REQ_PROBE = 1,   /* nothing changes: is there a way to `remote`? */
                    ABI_REQ_JOIN = 2,    /* receive what is sent to the group `remote` on interface `ifindex` */
                    ABI_REQ_LEAVE = 3,
                    /* of ABI_OP_CONNECT: may a SYN to `remote` carry data (RFC 7413)? Then it is refused, error ENODATA
                     * and in `mss` how many bytes: the app writes those into a fresh slot's tx fifo and connects as
                     * usual with ABI_OPT_FASTOPEN. Fast Open is off: EOPNOTSUPP. Else it is a connect like others. */
                    ABI_REQ_FAST = 4,
};

/** A request, idempotent by id. One cache line in the app half; written before sess_app.op names it. */
struct abi_request {
  uint32_t id;    /* unique per slot and gen; listener: the broker's listener id */
  uint8_t proto;  /* 0 TCP, 1 UDP (VCL numbers) */
  uint8_t v6only; /* IPV6_V6ONLY */
  uint8_t reuse;  /* bit 0 SO_REUSEADDR, bit 1 SO_REUSEPORT, ABI_REQ_LOCAL */
  uint8_t kind;   /* enum abi_req_kind */
  struct abi_endpoint local;
  struct abi_endpoint remote;
  uint32_t vrf;     /* 0 or its namespace's, in which it is; another: ENODEV */
  uint32_t ifindex; /* JOIN, LEAVE: 1 + interface number, 0 = by `local` or route */
};
#define ABI_REQ_LOCAL 0x10u /* in `reuse`: app-scope-global is off, it stays within its namespace */
_Static_assert(sizeof(struct abi_request) == 64, "request slot");

/* abi_sess_app.want: bits are only ever added while a gen lives. */
#define ABI_WANT_SHUT_WR 0x1u  /* shutdown(SHUT_WR): FIN after the last byte of the tx fifo */
#define ABI_WANT_SHUT_RD 0x2u  /* shutdown(SHUT_RD): later data is discarded */
#define ABI_WANT_CLOSE   0x4u  /* close(): an orphan from here on (RFC 9293 3.6 + linger) */
#define ABI_WANT_ABORT   0x8u  /* RST now (linger 0, terminate) */
#define ABI_WANT_URGENT  0x20u /* an urgent byte was written; stored after tx_urg, before the byte's tail */
#define ABI_WANT_FREED   0x10u /* engine-allocated slot: the app has let go of a CLOSED session */

/** Socket options that the engine acts on. Valid when opt_gen (seqlock style: odd = being written) is even. */
struct abi_options {
  uint32_t linger_s;        /* seconds; valid if flags has LINGER */
  uint32_t flags;           /* ABI_OPT_* */
  uint32_t keepidle_s;      /* TCP_KEEPIDLE; 0 = the engine's default */
  uint32_t keepintvl_s;     /* TCP_KEEPINTVL; 0 = default */
  uint32_t keepcnt;         /* TCP_KEEPCNT; 0 = default */
  uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT; 0 = default */
  uint32_t mss;             /* TCP_MAXSEG; 0 = from the path */
  uint32_t rcvbuf;          /* SO_RCVBUF fixed by the user, bytes; 0 = automatic */
  uint32_t sndbuf;          /* SO_SNDBUF fixed by the user, bytes; 0 = automatic */
  uint8_t tos;              /* IP_TOS / IPV6_TCLASS */
  uint8_t ttl;              /* IP_TTL / hop limit; 0 = default */
  uint8_t cc;               /* congestion control: 0 = default, else 1 + index in the engine's list */
  uint8_t pad;
  uint32_t lowat; /* SO_RCVLOWAT */
  uint32_t vrf;
  uint32_t fastopen;   /* listener: TCP_FASTOPEN, handshakes under way whose data was taken already; 0 = none */
  uint32_t max_pacing; /* SO_MAX_PACING_RATE, bytes per second; 0 = no limit */
  int16_t linger2_s;   /* TCP_LINGER2: an orphan's life in FIN_WAIT_2; 0 = default, < 0 = none */
  uint8_t syncnt;      /* TCP_SYNCNT: SYNs sent again; 0 = default */
  uint8_t defer;       /* listener: TCP_DEFER_ACCEPT as SYN-ACK timeouts that a silent client is waited for; 0 = not */
  uint32_t notsent_lowat; /* TCP_NOTSENT_LOWAT, bytes; 0 = none */
};
_Static_assert(sizeof(struct abi_options) == 64, "options");
#define ABI_OPT_LINGER    0x01u
#define ABI_OPT_KEEPALIVE 0x02u
#define ABI_OPT_NODELAY   0x04u
#define ABI_OPT_CORK      0x08u
#define ABI_OPT_QUICKACK  0x10u
#define ABI_OPT_OOBINLINE 0x20u
#define ABI_OPT_BROADCAST 0x40u
#define ABI_OPT_LAZYACK   0x100u  /* TCP_QUICKACK was set to 0: no ACKs at once until the connection wants them again */
#define ABI_OPT_TFO_KEY   0x200u  /* listener: fastopen_key holds its own key … */
#define ABI_OPT_TFO_ALT   0x400u  /* … and behind it an elder one, whose cookies are still good */
#define ABI_OPT_TFO_BARE  0x800u  /* TCP_FASTOPEN_NO_COOKIE: data on a SYN needs none, nor is one asked for */
#define ABI_OPT_STAMP     0x1000u /* datagrams: each comes with the time of its arrival (ABI_DGRAM_STAMPED) */
#define ABI_OPT_STRAYS    0x2000u /* datagrams of a proxy (ABI_LISTEN_PROXY): also those to ports that nobody has */
#define ABI_OPT_FASTOPEN  0x80u   /* active open: what lies in the tx fifo may ride on the SYN (RFC 7413) */

/** The app's half. 512 bytes; one writer, the app worker's process(es). */
struct abi_sess_app {
  /* line 0: hot words, all atomic */
  uint32_t gen;            /* generation these words speak of; 0 = never used */
  uint32_t op;             /* enum abi_op, stored (release) after req */
  uint32_t want;           /* ABI_WANT_* */
  uint32_t accepted;       /* == gen: the offered session was taken by accept() */
  struct abi_fifo_prod tx; /* tx fifo: the app produces */
  uint32_t rx_head;        /* rx fifo: bytes consumed */
  uint32_t tx_armed;       /* 1 = the app waits for room in the tx fifo: hint when tx_head moves */
  uint32_t opt_gen;        /* options generation; odd while `opt` is being written */
  uint32_t hint_pos;       /* ring position of the last hint pushed about this slot */
  uint32_t waiter;         /* worker id whose ring gets the hints of this session; 0 = the owning worker */
  uint32_t listen_armed;   /* listener: 1 = this process wants offers (accept() or epoll was called) */
  uint32_t rx_lowat;       /* hint only when at least this much can be read; 0 or 1 = at once */
  uint32_t tx_urg;         /* tx position behind the last urgent byte, if want has URGENT; pairs, datagrams: drops */
  uint32_t tx_wake;        /* with tx_armed: hint only once tx_head has reached this position (modulo 2^32) */
  uint32_t req_seq;        /* datagrams: requests made so far; the last one is `req` */
  /* line 1 */
  struct abi_request req;
  /* line 2 */
  struct abi_options opt;
  /* line 3: words of the client library alone, no service reads them; then a listener's keys */
  uint8_t local[28];
  uint32_t pair_slot;       /* pairs: the slot, in the other worker's own segment, of the session that `req` is for */
  uint8_t fastopen_key[32]; /* TCP_FASTOPEN_KEY: 16 bytes each of two; valid as opt.flags says, under opt_gen */
  /* lines 4..7 */
  struct abi_chunk tx_chunk[ABI_FIFO_CHUNKS];
};
_Static_assert(sizeof(struct abi_sess_app) == 512, "app half of a session");

enum abi_sess_state { /* abi_sess_engine.state */
                      ABI_SESS_FREE = 0,
                      ABI_SESS_LISTENING = 1,
                      ABI_SESS_CONNECTING = 2,
                      ABI_SESS_OFFERED = 3, /* handshake done, waiting for accept() */
                      ABI_SESS_READY = 4,   /* data flows */
                      ABI_SESS_CLOSING = 5, /* transport is finishing; nothing more can be written */
                      ABI_SESS_CLOSED = 6,  /* transport is gone; `error` says how; rx bytes may still be read */
};

/* abi_sess_engine.flags: bits are only ever added while a gen lives. */
#define ABI_SE_PEER_FIN   0x1u /* the peer's FIN came at rx position `fin_pos` */
#define ABI_SE_RESET      0x2u /* RST received or sent */
#define ABI_SE_CUTTHROUGH 0x4u
#define ABI_SE_FIN_ACKED  0x8u  /* all that was written, and our FIN, is acknowledged */
#define ABI_SE_URGENT     0x10u /* an urgent byte came, or was announced: urg_pos, stored before this */
#define ABI_SE_REDIRECTED 0x20u /* an egress rule redirected it; where it was meant to go: geom.meant_off */

/** Figures behind TCP_INFO, refreshed by the engine at its leisure; not facts of the protocol. */
struct abi_tcp_figures {
  uint32_t srtt_us, rttvar_us, rto_us, cwnd; /* cwnd in bytes */
  uint32_t ssthresh, snd_mss, rcv_mss, snd_wnd;
  uint32_t rcv_wnd, in_flight, retrans_total, lost;  /* lost: bytes not yet sent again */
  uint32_t pmtu, pacing_kbps, tcp_state, reordering; /* tcp_state: Linux numbers, TCP_ESTABLISHED = 1 … */
};
_Static_assert(sizeof(struct abi_tcp_figures) == 64, "figures");

/** More of them. Moments are CLOCK_MONOTONIC in units of 1024 µs, modulo 2^32; 0 = never. */
struct abi_tcp_more {
  uint8_t ca_state;    /* Linux: 0 open, 1 disorder, 3 recovery, 4 loss */
  uint8_t retransmits; /* timeouts in a row */
  uint8_t probes;      /* unanswered probes of a closed window, or of an idle peer */
  uint8_t backoff;     /* doublings of the RTO, or of the probe's interval */
  uint8_t options;     /* Linux TCPI_OPT_*: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 32 data in SYN */
  uint8_t wscale;      /* shift of the peer's window; of ours << 4 */
  uint16_t advmss;     /* MSS that we announced */
  uint32_t ato_us;     /* longest wait with an ACK */
  uint32_t unacked, sacked, rexmit; /* bytes out (listener: its accept queue); of them SACKed; of them sent again */
  uint32_t rcv_rtt_us, rcv_space;   /* round trip as the receiver sees it; bytes that the app reads in one */
  uint32_t min_rtt_us;
  uint32_t data_sent_at, data_rcvd_at, ack_rcvd_at;
};
_Static_assert(sizeof(struct abi_tcp_more) == 48, "figures, continued");

/** The engine's half. 512 bytes; one writer, the engine worker that owns the flow. */
struct abi_sess_engine {
  /* line 0: hot words, all atomic */
  uint32_t gen;            /* generation these words speak of */
  uint32_t state;          /* enum abi_sess_state */
  uint32_t flags;          /* ABI_SE_* */
  uint32_t error;          /* positive errno, 0 = none */
  struct abi_fifo_prod rx; /* rx fifo: the engine produces */
  uint32_t tx_head;        /* tx fifo: bytes acknowledged by the peer */
  uint32_t tx_limit;       /* bytes the app may hold in the tx fifo (send buffer) */
  uint32_t fin_pos;        /* rx position of the peer's FIN */
  uint32_t hint_pos;       /* ring position of the last hint pushed about this slot */
  uint32_t opt_seen;       /* opt_gen that was applied */
  uint32_t listener;       /* accepted session: listener's slot */
  uint32_t listener_gen;   /* … and its gen; 0: withdrawn; who finds that behind his `accepted` takes it back */
  uint32_t urg_pos;        /* rx position behind the last urgent byte, before or beyond the tail */
  uint32_t tcb;            /* index in the TCB segment, for tools */
  uint32_t mss;            /* current send MSS, bytes: the app sizes its writes by it */
  /* line 1 */
  struct abi_endpoint local, remote;
  uint32_t proto;      /* VCL number of the transport */
  uint32_t req_seen;   /* atomic: the req_seq that was acted on … */
  uint32_t req_error;  /* … and how: positive errno, 0 = done */
  uint32_t soft_error; /* atomic; errors that it outlived (datagrams: all) << 16 | errno of the last one, 0 = over */
  /* line 2 */
  struct abi_tcp_figures figures;
  /* line 3 */
  uint32_t tx_sent;    /* bytes ever put on the wire; SIOCOUTQNSD */
  uint32_t n_accepted; /* listener: connections offered so far */
  uint32_t cc;         /* congestion control in use: 1 + index in the engine's list; 0 = none yet */
  uint32_t lane;       /* atomic: lane of the engine worker that serves it; hints to another lane are passed on */
  struct abi_tcp_more more;
  /* lines 4..7 */
  struct abi_chunk rx_chunk[ABI_FIFO_CHUNKS];
};
_Static_assert(sizeof(struct abi_sess_engine) == 512, "engine half of a session");

#endif
