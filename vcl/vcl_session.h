/*
 * A session as the library sees it: private state around the two shared halves (abi/session.h).
 *
 * Everything here is under the worker's mutex (lock mode) or on the worker's thread. The engine's half is read through
 * session_facts(), which believes nothing while the generations differ.
 */
#ifndef HS_VCL_SESSION_H
#define HS_VCL_SESSION_H

#include "shm/fifo.h"
#include "vcl_stage.h"
#include "vcl_worker.h"

enum session_kind { SESSION_STREAM = 0, SESSION_SET = 1 /* epoll */, SESSION_BRANCH = 2 /* vcl_branch.h */ };

enum session_life {
  SESSION_NEW = 0,
  SESSION_BOUND,
  SESSION_LISTEN,
  SESSION_CONNECT, /* asked for, not answered */
  SESSION_OFFER,   /* in its listener's accept queue */
  SESSION_OPEN,    /* connected once; may be half closed, reset or over */
  SESSION_DEFER,   /* Fast Open: connects with the first bytes that are written */
  SESSION_ZOMBIE,  /* closed here, waiting for the engine to let go */
};

struct vep;
struct cut;
struct iovec;

#define SESSION_TX_LEAST 4096u /* bytes of a tx fifo, whatever was asked for */

struct session {
  struct worker *w;
  struct home *home;
  struct abi_sess_app *a;
  const struct abi_sess_engine *e;
  uint32_t index, slot, gen;
  uint8_t kind, life, proto, nonblock;
  uint8_t lane;
  uint8_t fifos_open;
  uint8_t shut_rd, shut_wr;
  uint8_t err_taken;   /* the engine's error was reported */
  uint8_t failed;      /* a connect that came to nothing */
  uint8_t told;        /* connect() reported success */
  uint8_t armed_offer; /* listen_armed is set */
  uint8_t took;        /* listener: something was accepted from it in this process */
  uint8_t quiet;       /* listener: left to the children of a fork until it is waited on again: in worker.n_quiet */
  uint8_t missed;      /* listener: offers may lie in slots that no session has */
  uint8_t tx_armed;
  uint8_t bound;        /* the broker holds a reservation for it */
  uint8_t bind_unheard; /* it was asked for one and did not answer: it may have made it */
  uint8_t v6only, reuse, domain;
  uint8_t connected;         /* datagrams: it has a peer */
  uint8_t pktinfo;           /* datagrams: recvfrom tells where they were sent to */
  uint8_t asking;            /* datagrams: a thread waits for the answer to a request */
  uint8_t own_next;          /* datagrams: the own fifo's turn, not a branch's */
  uint8_t kin;               /* others may hold it, too, after a fork (vcl_kin.h) */
  uint8_t left;              /* closed here, held by others: in worker.left */
  uint8_t shared;            /* datagrams: with another process, after a fork */
  uint8_t heard_apart;       /* datagrams: one of the stack's addresses wrote to another one (vcl_roam.h) */
  uint8_t accepts;           /* datagrams: peers get sessions of their own (vcl_peers.h) */
  uint8_t n_groups, regroup; /* groups joined; of them, those that a new engine is still to be told */
  struct vcl_dgram *groups;
  uint8_t listen_shut;
  uint8_t write_msg;    /* corked data is to be pushed */
  uint8_t more;         /* MSG_MORE: what the last call wrote is held back */
  uint8_t gone;         /* closed while another thread was inside: freed by the last one out */
  uint8_t redo;         /* outlived its stack: to be bound, or registered as a listener, in the next one */
  uint8_t rearm;        /* … and to be armed then */
  uint8_t share_due;    /* inherited listener whose share is not registered yet */
  uint8_t fast_connect; /* TCP_FASTOPEN_CONNECT: connect() waits for the first bytes if the server's cookie is known */
  uint8_t fast_asked;   /* the connect under way asked for the cookie: FASTOPEN_* */
  uint8_t fast_off;     /* … and was told that Fast Open is off */
  uint8_t tx_early;     /* the tx fifo was begun before the engine had a record */
  uint32_t soft_seen;   /* the engine's soft_error that was reported */
  int broken;           /* errno of a session that the engine contradicts, or that lost its services */
  uint32_t pins;        /* threads inside a blocking call */
  uint32_t rx_hinted;   /* rx head at the last hint */
  uint32_t handed;      /* bytes behind rx head that read_segments gave and free_segments has not taken back */
  uint32_t lowat;
  uint32_t listener_id;
  uint32_t backlog;
  uint32_t share_of;
  uint32_t cookie;
  uint32_t app_err; /* SET_APP_PROTO_ERR_CODE */
  uint64_t serial;
  uint32_t fast_room;           /* DEFER: bytes that its SYN can carry */
  struct abi_endpoint deferred; /* DEFER: where to */
  struct abi_endpoint local;    /* bound address */
  struct abi_options opt;       /* as last written to the app half */
  struct fifo_prod tx;
  struct fifo_cons rx;
  struct list held;     /* in worker.held: its tx fifo holds memory … */
  uint32_t held_tail;   /* … and its tail at the last look */
  struct list kin_link; /* in worker.left */
  struct list starved;  /* in parts.starved: what it has to write found no memory */
  struct list items;    /* vep_item of the sets it is in */
  struct list watchers; /* struct watch */
  struct list offers;   /* listener: sessions in SESSION_OFFER; datagrams: branches to read; such a session: its link */
  struct list branches; /* datagrams: all branches; a branch: its link */
  struct list stash;    /* datagrams that came before the own fifo's, or that wait for an accept (vcl_peers.h) */
  struct list opening;  /* sessions under way for peers of this one; such a session: its link */
  uint32_t stash_bytes; /* what is in the stash, with its headers */
  struct session *lead; /* branch: whose it is, NULL once it has ended */
  uint8_t *fast_key;    /* TCP_FASTOPEN_KEY as last set, 32 bytes; NULL: never */
  uint32_t n_offers;
  uint32_t n_accepted;
  uint32_t listener; /* index of the listener it came from, UINT32_MAX for none */
  uint64_t listener_serial;
  struct vep *vep;
  struct cut *cut;     /* over a pair (vcl_cut.h), else NULL */
  uint8_t *replay;     /* written to a pair that came to nothing: to be written again */
  uint32_t replay_len; /* bytes */
  uint8_t redial;      /* … by a TCP connection that is on its way; 2: the program knows it as connected */
};

/** The library's own words of a slot, beside the app half's (abi_sess_app.local): what processes that share it agree
 * on. */
struct session_local {
  uint32_t chunk_head; /* fifo_prod.chunk_head of whoever wrote last */
  uint32_t urg_pos;    /* urgent mark that was seen last (urgent.c), if known; it was passed; its byte was read */
  uint32_t urg_known, urg_passed, urg_read;
  uint32_t bound; /* the broker holds a reservation for it */
};
_Static_assert(sizeof(struct session_local) <= sizeof(((struct abi_sess_app *)0)->local), "local words");

static inline struct session_local *session_local(const struct session *s) {
  return (struct session_local *)(void *)s->a->local;
}

struct session_facts {
  uint32_t state; /* enum abi_sess_state; ABI_SESS_FREE while the engine takes no part */
  uint32_t flags;
  uint32_t error;
};

static inline int session_is_dgram(const struct session *s) {
  return s->kind == SESSION_STREAM && s->proto == VPPCOM_PROTO_UDP;
}

/** Handle → session of the calling worker, NULL when there is none. */
struct session *session_find(struct worker *w, uint32_t handle);
/** As worker_enter, and the session; -EBADFD's case: NULL. */
struct session *session_enter(uint32_t handle);
static inline uint32_t session_handle(const struct session *s) {
  return s->w->index << WORKER_INDEX_BITS | s->index;
}

struct session *session_new(struct worker *w, uint32_t kind);
/** A new stream with an app slot. NULL with *err. */
struct session *session_new_stream(struct worker *w, uint8_t proto, int nonblock, int *err);
/** An offered session of the engine's slot. NULL when there is no memory. */
struct session *session_new_offer(struct worker *w, struct home *h, uint32_t slot, uint32_t gen);
void session_free(struct session *s);
/** Into a slot of another home (after a fork). */
void session_move(struct session *s, struct home *h, uint32_t slot);
/** close(): by then nobody can find it any more. */
void session_close(struct session *s, int abortive);
/** The end of one that waited for others to close it, too. */
void session_end(struct session *s);
/** The broker holds a reservation for it. */
static inline void session_bound(struct session *s) {
  s->bound = 1;
  session_local(s)->bound = 1;
}
/** A slot for another try of a session whose connect came to nothing. 0 or -errno. */
int session_renew(struct session *s);

/** Lane of the engine worker that serves a slot: as it says, else the one that is asked first. */
uint8_t session_lane(const struct home *h, uint32_t slot, uint32_t gen);
struct session_facts session_facts(const struct session *s);
/** Brings `life` up to what the engine says. Call before judging. */
void session_settle(struct session *s);
void session_open_fifos(struct session *s);
/** Around every use of the fifos: nothing, unless the home was forked. Not recursive. */
void session_lock(struct session *s);
void session_unlock(struct session *s);
/** Before a fork: what another process needs to go on with the fifos. */
void session_seed(struct session *s);
/** Look-at-me to the engine. */
void session_hint(struct session *s);
void session_want(struct session *s, uint32_t bits);
/** The options as they stand in s->opt go to the app half. */
void session_publish_options(struct session *s);
/** The engine (or a local call) changed something: tell sets and waiters, bury it if it is over. */
void session_touch(struct session *s);
/** Epoch: everything that the engine may have missed is said again. */
void session_retell(struct session *s);
/** A hint about an engine slot that no session owns. */
void session_offered(struct worker *w, struct home *h, uint32_t slot, uint32_t lane);
/** Leave after ready_wait may have found the session closed. */
void session_unpin(struct session *s);

/* ready.c */
/** EPOLL* bits now; arms the tx fifo when it is full. */
uint32_t ready_events(struct session *s);
/** Blocks until an event of `events` holds. Worker stays entered. 0, -ETIMEDOUT, -EINTR, -EBADF (closed meanwhile).
 * timeout µs, negative = none. */
int ready_wait(struct session *s, uint32_t events, int64_t timeout_us);
/** Pending error as positive errno, 0 = none. */
int ready_error(const struct session *s);
/** The same, taken: reported once as Linux does. */
int ready_take_error(struct session *s);
/** The same of a stream that goes on: errno of the last ICMP error about something of it that is not acknowledged; 0 if
 * there is none, or it was told. Moves nobody to wake up. */
int ready_take_soft_error(struct session *s);
/** Bytes that a write may add now, refreshed. */
int64_t ready_tx_room(struct session *s);
/** Bytes that TCP_NOTSENT_LOWAT still lets be written, < 0 or 0: none; INT64_MAX without it. */
int64_t ready_unsent_room(const struct session *s);

/* life.c */
/** Says to the broker what closes left to be said. The worker stays entered. */
void life_settle_broker(struct worker *w);

/* listen.c, connect.c */
int listen_arm(struct session *s);
/** Before a fork: listeners that were looked at and never accepted from are left to the children, with what was offered
 * here and not taken, until this process waits on them again. Not while other threads may wait on them. */
void listen_rest(struct worker *w);
/** What broker_bind is told of sharing: the program's options; without lock mode workers share, too (VCL-CONTRACT). */
uint8_t listen_reuse(const struct session *s);
/** The broker has it as listener `id`: the engine is told. */
void listen_registered(struct session *s, uint32_t id, uint32_t backlog);
void listen_drop_offers(struct session *s);
/** Publishes a connect by TCP of a fresh session; kind: 0 or ABI_REQ_FAST. */
void connect_ask(struct session *s, const struct abi_endpoint *remote, uint8_t kind);
/** connect() with data to follow at once (MSG_FASTOPEN): 0 deferred or connected, -EINPROGRESS under way without data,
 * -errno as connect(), -EOPNOTSUPP switched off. */
int connect_fast(struct session *s, const vppcom_endpt_t *ep);
/** MSG_FASTOPEN: connects and sends the first bytes. Bytes, -EINPROGRESS (none were taken), or -errno. */
int connect_send(struct session *s, const struct iovec *iov, int n_iov, int flags, const vppcom_endpt_t *ep);
int connect_endpoint(const vppcom_endpt_t *ep, struct abi_endpoint *out);
void connect_fill(const struct abi_endpoint *in, vppcom_endpt_t *ep);
int listen_share(struct session *s);

/* fastopen.c */
#define FASTOPEN_ASKED    1u /* by a call that waits for the answer */
#define FASTOPEN_GIVEN_UP 2u /* that call has returned */
/** Whether the SYNs of later connects may use Fast Open. */
void fastopen_flag(struct session *s, int on);
/** Asks the engine: 0 = deferred, -EINPROGRESS = connecting, or -errno. Waits a moment, also if non-blocking. */
int fastopen_begin(struct session *s, const struct abi_endpoint *remote);
/** The engine's answer to it. 1 = it was one, the session has a new slot. */
int fastopen_answer(struct session *s, const struct session_facts *f);
/** The first bytes of a deferred session: it connects. Bytes taken or -errno. */
int fastopen_write(struct session *s, const struct iovec *iov, int n_iov, size_t skip);

/* dgram.c */
struct vcl_dgram;
struct abi_dgram;
/** The session begins. `to`: its peer, or with ABI_REQ_PROBE where the first datagram goes. Waits for the engine. 0,
 * -EBADF when another thread closed it, -errno. */
int dgram_open(struct session *s, uint8_t kind, const struct vcl_dgram *to);
/** The next datagram's header in the fifo, checked. 1, 0 = none, -EPROTO. Under session_lock. */
int dgram_head(struct session *s, struct abi_dgram *d);
/** After bind: it receives from now on. */
int dgram_bound(struct session *s);
int dgram_connect(struct session *s, const struct vcl_dgram *peer);
int dgram_recv(struct session *s, const struct iovec *iov, int n, int flags, struct vcl_dgram *out);
int dgram_send(struct session *s, const struct iovec *iov, int n, int flags, const struct vcl_dgram *to);
int dgram_group(struct session *s, const struct vcl_dgram *d, int join);
/** A datagram that was sent before goes through the engine, or is lost. */
void dgram_again(struct session *s, const struct abi_dgram *d, const struct iovec *iov);
/** A new engine: the groups are joined again, one after the other. */
void dgram_regroup(struct session *s);
/** Bytes of the next datagram. */
int dgram_nread(struct session *s);

/* held.c */
void held_add(struct session *s);
/** It goes, or its tx fifo does. */
void held_drop(struct session *s);
/** Something was put into the tx fifo. */
static inline void held_note(struct session *s) {
  if (__builtin_expect(!list_linked(&s->held), 0))
    held_add(s);
}

/* urgent.c */
enum urgent_state { URGENT_NONE, URGENT_COMING, URGENT_HERE, URGENT_READ };
/** The urgent mark of what comes in (enum urgent_state), and how many bytes are to be read before it. */
int urgent_mark(struct session *s, uint32_t *ahead);
/** Bytes to read before the mark, or in all (FIONREAD); -EPROTO as fifo_cons_used. */
int64_t urgent_readable(struct session *s);
/** Whether the next byte in the stream is the urgent one (SIOCATMARK). */
int urgent_at_mark(struct session *s);
/** How many of `len` bytes a read may take; at the mark the urgent byte is left out: *skip bytes are to be peeked over.
 */
uint32_t urgent_limit(struct session *s, uint32_t len, int flags, uint32_t *skip);
int urgent_recv(struct session *s, void *buf, size_t n, int flags);
/** Writes an urgent byte. 1, 0 when full, or -errno. */
int64_t urgent_put(struct session *s, const uint8_t *byte);

/* rw.c */
int rw_read(struct session *s, void *buf, size_t n, int flags);
int rw_write(struct session *s, const struct iovec *iov, int n_iov, int flags);

#endif
