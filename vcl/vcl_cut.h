/*
 * Cut-through: sessions between two apps of one stack, without TCP, engine or any third process (NOTES.md,
 * "Cut-through").
 *
 * A pair is a home whose "engine" is the other app: its A side is our pair segment, its E side the other app's, mapped
 * read-only. A slot of it has two app halves; what a session wants to know of an engine's half is kept in a mirror of
 * its own, made from the other app's words as they are looked at. All under the worker's mutex or on its thread.
 */
#ifndef HS_VCL_CUT_H
#define HS_VCL_CUT_H

#include "vcl_session.h"

#define CUT_SHARES     8u              /* pairs that connects to one endpoint are spread over */
#define CUT_DESTS      64u             /* endpoints remembered, by hash */
#define CUT_ROAM       256u            /* … through the engine */
#define CUT_TX_LIMIT   (1024u * 1024u) /* bytes unread by the other side */
#define CUT_TX_FIRST   (64u * 1024u)   /* … before it has accepted */
#define CUT_OP_REFUSED 0x10u           /* in `op` of the accepting half: never accepted, take it elsewhere */

/** Leave to connect to one listener of the other worker. */
struct cut_grant {
  struct list link; /* in cut_pair.grants */
  struct cut_pair *pair;
  uint32_t listener_id, slot, backlog;
  uint32_t epoch;   /* the other side's when it was given: raised whenever a listener there goes */
  uint32_t pending; /* our connects that it has not accepted yet */
};

struct cut_pair {
  struct home home; /* first: session.home points at it */
  struct list link; /* in cut_state.pairs or .inherited */
  struct worker *w;
  uint64_t id;
  struct list grants;
  uint32_t port_lo, port_span;
  uint32_t asked_epoch; /* the other side's before the broker was asked last; 0 for a new pair */
  uint8_t client;       /* we connect, they accept */
  uint8_t lied;
  uint8_t touched; /* memory of the arena may be held */
  uint8_t mixed;   /* some session here had its port by bind: what a slot would give may be taken */
  usec_t idle_since;
};

/** What is known of an endpoint that was connected to. */
struct cut_dest {
  struct abi_endpoint to;
  uint8_t proto;
  usec_t until; /* ask the broker again after this */
  usec_t quiet; /* datagrams of senders that are not connected go through the engine until then: one was refused */
  uint32_t n, turn, shares;
  uint32_t asked; /* times, for the sake of further shares, since `until` was set anew */
  struct cut_grant *grant[CUT_SHARES];
};

/** A worker's part in it, made when it listens or connects. */
struct cut_state {
  struct list pairs;     /* live ones */
  struct list inherited; /* after a fork: the parent's, as long as sessions lie in them */
  uint32_t n_pairs;
  struct cut_pair *turn;      /* whose socket is looked at next when nothing sleeps */
  usec_t ask_after;           /* the broker is away: no question before */
  usec_t roam_after;          /* … none on behalf of a sender that is not connected */
  usec_t own_until;           /* addresses of the stack that the broker told of, as long as they count */
  usec_t by_engine[CUT_ROAM]; /* when a sender that is not connected last sent there through the engine, by hash */
  uint8_t own[BROKER_OWN_MAX][16];
  uint32_t n_own;
  uint64_t tick;     /* time stamp counter at the last look */
  uint64_t gone[16]; /* pairs that the broker is to be told about; lied: gone_lied */
  uint8_t gone_lied[16];
  uint32_t n_gone;
  uint8_t ring_due; /* some pair's bell is to be rung */
  uint8_t dirty;    /* armed since the sockets were last emptied */
  struct cut_dest dest[CUT_DESTS];
};

/** A session's private side of it. */
struct cut {
  struct abi_sess_engine mirror; /* what session.e points at */
  struct cut_pair *pair;
  const struct abi_sess_app *peer; /* the other app's half */
  struct abi_fifo_prod nothing;    /* stands for its fifo until it has accepted … */
  uint32_t zero;                   /* … and this for its head */
  struct cut_grant *grant;         /* counted as pending there */
  struct broker_slot kept;         /* of a bound client: its slot before, which the reservation names; gen 0 = none */
  uint8_t client, accepted;
  uint8_t seen;   /* the program looked, and saw that it is connected */
  usec_t until;   /* branch of a sender that is not connected: its grant is to be asked about again then … */
  usec_t used;    /* … and the last datagram was sent */
  uint32_t after; /* branch: what the lead's own fifo held when it began, up to here, is read first … */
  uint8_t behind; /* … it may not all be read yet */
  int error;      /* errno of its end, as we told it ourselves */
};

/* cut.c: what the worker's loop calls; cheap without pairs */
int cut_ready(struct worker *w);
void cut_end(struct worker *w);
int cut_pump_slow(struct worker *w);
int cut_pending_slow(const struct worker *w);
int cut_arm_slow(struct worker *w);
void cut_disarm_slow(struct worker *w);
void cut_flush_slow(struct worker *w);
/** Empties the sockets that are readable; finds out who died. */
void cut_drain(struct worker *w);
/** A listener is about to go: connects that are on their way become offers, which are refused with it. */
void cut_hurry(struct worker *w);
/** A listener of ours went: who holds a grant asks the broker again. */
void cut_revoke(struct worker *w);
/** Empties the worker's bell and takes the pairs that came with it. As bell_drain. */
int cut_hear(struct worker *w);
/** An inherited pair is used here: its hints go to the parent. */
int cut_is_heir(const struct worker *w);
static inline int cut_pump(struct worker *w) {
  return w->cut != NULL ? cut_pump_slow(w) : 0;
}
static inline int cut_pending(const struct worker *w) {
  return w->cut != NULL && cut_pending_slow(w);
}
static inline int cut_arm(struct worker *w) {
  return w->cut == NULL || cut_arm_slow(w);
}
static inline void cut_disarm(struct worker *w) {
  if (w->cut != NULL)
    cut_disarm_slow(w);
}
static inline void cut_flush(struct worker *w) {
  if (w->cut != NULL && w->cut->ring_due)
    cut_flush_slow(w);
}
static inline uint32_t cut_n_pairs(const struct worker *w) {
  return w->cut != NULL ? w->cut->n_pairs : 0;
}

/* cut_pair.c: a pair's life */
/** Takes the three descriptors over; id 0: as our own segment says, which only the broker and we can write. NULL when
 * there is no memory or the segments are no good. */
struct cut_pair *cut_pair_new(struct worker *w, uint64_t id, int client, const int fds[3]);
/** The other side is gone, or lied: sessions end as an app's death ends them, unaccepted connects go by TCP. */
void cut_pair_dead(struct cut_pair *p, int lied);
void cut_pair_free(struct cut_pair *p);
/** Its last session went. */
void cut_pair_empty(struct cut_pair *p);
int cut_pair_pump(struct cut_pair *p);
void cut_pair_fork_prepare(struct worker *w);
/** In the child: before its sessions are sorted, and after. */
void cut_pair_fork_child(struct worker *w);
void cut_pair_fork_sorted(struct worker *w);

/* cut_dest.c: which connects go over a pair */
/** 0: s is connected over a pair from now on. -EADDRNOTAVAIL: its port is connected there already. Other -errno: by
 * TCP.
 */
int cut_dest_connect(struct session *s, const struct abi_endpoint *remote);
/** The grant for datagrams to `remote`, or NULL: through the engine. */
struct cut_grant *cut_dest_grant_for(struct session *s, const struct abi_endpoint *remote);
/** The same for a sender that is not connected, who asks seldom and waits shortly. *until: how long it counts. */
struct cut_grant *cut_dest_roam(struct session *s, const struct abi_endpoint *remote, usec_t now, usec_t *until);
/** Whether the grant that branch b was made by is good still: 1 (b->cut->until: how long), 0 it is not, -EAGAIN there
 * is nobody to ask. */
int cut_dest_holds(struct session *b, usec_t now);
/** b was refused or left by the other side: no other branch to there for a while. */
void cut_dest_quiet(struct session *b);
/** Whether the address is the stack's, as far as is known: 1, 0, or -EAGAIN the broker has not told yet. */
int cut_dest_own(const struct worker *w, const uint8_t ip[16], usec_t now);
/** The grant is no good any more (its listener or its pair is gone). */
void cut_dest_forget(struct cut_state *c, const struct cut_grant *g);

/* cut_sess.c: a session's facts */
int cut_sess_attach(struct session *s, struct cut_pair *p, const struct abi_endpoint *local,
                    const struct abi_endpoint *remote);
void cut_sess_free(struct session *s);
void cut_sess_open_fifos(struct session *s);
void cut_sess_open_rx(struct session *s);
struct session_facts cut_sess_facts(const struct session *s);
/** Notices that the other side has accepted. */
void cut_sess_settle(struct session *s);
/** The other side reads no more: what is written is lost, as on Linux once, then it is an error. 1 = so it is. */
int cut_sess_swallow(struct session *s);
/** Bytes were read: who waits for room is told. */
void cut_sess_consumed(struct session *s);
/** ABI_WANT_* that closing means now. */
uint32_t cut_sess_close_bits(struct session *s);
/** Both sides have let go of the slot. */
int cut_sess_over(const struct session *s);
/** An offer that nobody takes. */
void cut_sess_refuse(struct session *s);
/** Connects that its maker did not live to take, if we are one of its heirs. */
void cut_sess_refuse_rest(struct cut_pair *p);
/** A hint about a slot that no session of ours owns: maybe a connect. */
void cut_sess_offered(struct cut_pair *p, uint32_t slot);
/** A connect that was never accepted goes by TCP, with all that was written. */
void cut_sess_return(struct session *s);
int cut_sess_refused(const struct session *s);
/** The reservation of a bound client that ends: *slot = what the broker knows it by. The slot is free again. */
void cut_sess_unkeep(struct session *s, struct broker_slot *slot);
/** After its TCP connection opened: what had been written before. */
void cut_sess_replay(struct session *s);

#endif
