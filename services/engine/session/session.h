/*
 * A session in the engine: the soft half that ties a session record, its fifos and a transport together.
 *
 * Owned by one engine worker. A session may be without a record (a handshake that nobody accepted yet, TIME_WAIT after
 * the app closed) and, at the end, without a transport (closed by the peer, bytes still to be read by the app).
 */
#ifndef HS_ENGINE_SESSION_H
#define HS_ENGINE_SESSION_H

#include "abi/tcb.h"
#include "base/list.h"
#include "base/timer.h"
#include "ip/ip.h"
#include "shm/fifo.h"
#include "transport.h"
#include "wire/addr.h"

struct worker;
struct app_worker;
struct listener;
struct transport_ops;

struct session {
  struct list due;     /* in worker.dirty, worker.starved or worker.graveyard */
  struct list waiting; /* in its listener's list until an app has taken it (offer.c) */
  struct list parked;  /* in worker.parked while nobody takes offers */
  struct timer_ent timer;
  const struct transport_ops *ops; /* NULL once the transport is gone */
  struct app_worker *app;          /* NULL without a record */
  struct abi_sess_engine *e;
  const struct abi_sess_app *a;
  uint32_t index; /* in worker.sessions */
  uint32_t slot, gen;
  uint32_t tcb; /* record number, ABI_SEG_NONE when freed */
  struct ip_addr local, remote;
  uint16_t lport, rport;
  uint32_t flow_hash;
  uint8_t proto; /* ops->proto, also when ops is gone */
  uint8_t vrf;   /* set before it has a flow, for good */
  uint8_t in_flows;
  uint8_t queued;     /* 0 in no list, 1 dirty, 2 starved */
  uint8_t app_closed; /* the app wants no more of it */
  uint8_t shut_wr;    /* want SHUT_WR was passed on */
  uint8_t orphan;     /* counts in worker.n_orphans */
  uint8_t dead;       /* in the graveyard: freed at the end of the turn */
  uint8_t half_open;  /* counts in worker.n_half_open and its listener's half */
  uint8_t believed;   /* the app half carries our gen: its words count */
  uint16_t fast;      /* Fast Open before its last ACK: 1 + entry of the listener in whose n_fast it counts */
  uint32_t opt_gen;
  struct listener *listener; /* whose backlog it counts in; NULL once taken */
  usec_t figures_at;
  struct list figures; /* in worker.figures while the record's figures are old */
  struct ip_path path;
  struct fifo_prod rx;
  struct fifo_cons tx;
  uint32_t outer; /* 1 + index in worker.outers of the transport's room, if that is too large for here; then the address
                     of it lies here */
  uint8_t priv[TRANSPORT_PRIV] __attribute__((aligned(16))); /* the transport's */
};

struct session *session_new(struct worker *w);
/** Which transport it is of, from now on. 0 or -ENOBUFS: there is no room for what it keeps. */
HS_MUST_CHECK int session_transport(struct worker *w, struct session *s, const struct transport_ops *ops);
/** Give it a record: fifos start (or resume, after a crash). 0 or -EPROTO. */
int session_bind_record(struct worker *w, struct session *s, struct app_worker *a, uint32_t slot, uint32_t gen,
                        int resume);
/** The record goes: fifo memory returns, state becomes CLOSED. */
void session_unbind_record(struct worker *w, struct session *s, int error);
/** Transport and record are gone. */
void session_free(struct worker *w, struct session *s);
/** The app half changed (hint or rescan): act on every fact in it. */
void session_look(struct worker *w, struct app_worker *a, uint32_t slot);
/** Begin a session for a slot as `op` (CONNECT, OPEN) and `req` say; a failure is written to its record. meant: what
 * req->remote was before a rule redirected it. */
void session_begin(struct worker *w, struct app_worker *a, uint32_t slot, uint32_t gen, uint32_t op,
                   const struct abi_request *req, const struct abi_endpoint *meant);
/** Queue for output at the end of the turn. */
void session_dirty(struct worker *w, struct session *s);
/** Output of everything that is due. Returns sessions served. */
uint32_t session_output_due(struct worker *w);
/** Frames are free again. */
void session_unstarve(struct worker *w);
/** Set engine words with the right order and hint the app. */
void session_set_state(struct session *s, uint32_t state);
void session_set_error(struct session *s, int err);
void session_set_flag(struct session *s, uint32_t flag);
/** The transport is gone (last event): the app may still read what is in the rx fifo. */
void session_transport_gone(struct worker *w, struct session *s);
/** The app's process died or closed: what is unsent still goes out. */
void session_orphan(struct worker *w, struct session *s);

/** It counts as an orphan no more. */
void session_orphan_end(struct worker *w, struct session *s);
/** 1 if the app left bytes unread. */
int session_close_unread(struct session *s);
/** Give the dead back to the pool. End of a turn. */
void session_bury(struct worker *w);

/* flow table: VRF, transport and 4-tuple → session */
int flow_add(struct worker *w, struct session *s);
void flow_del(struct worker *w, struct session *s);
struct session *flow_find(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *local, uint16_t lport,
                          const struct ip_addr *remote, uint16_t rport);
uint32_t flow_hash(const struct worker *w, uint32_t vrf, const struct ip_addr *local, uint16_t lport,
                   const struct ip_addr *remote, uint16_t rport);

#endif
