/*
 * A broker and an engine in one thread, for tests of the client library: no packets, no NNG, no real services.
 *
 * It speaks the attach conversation (proto/attach.proto) on a socket of its own, makes the segments with the shm
 * functions, and joins a connect to whoever listens on the port, moving bytes between the two sessions' fifos as TCP
 * would: FIN, RST, back pressure, accept queues. Ports with a meaning of their own: FAKE_PORT_SILENT never answers,
 * FAKE_PORT_RESET accepts and resets at once; a port without a listener refuses.
 *
 * The test's threads call fake_*; everything happens in the fake's own thread.
 */
#ifndef HS_TESTS_FAKE_ENGINE_H
#define HS_TESTS_FAKE_ENGINE_H

#include "shm/fifo.h"
#include "shm/hint.h"
#include "shm/session.h"

#include <pthread.h>

#define FAKE_PORT_SILENT 1
#define FAKE_PORT_RESET  2
#define FAKE_PROCS       32
#define FAKE_LISTENERS   64
#define FAKE_SESSIONS    4096

struct fake_session;

/** A part of an A segment (fake_parts.c). */
struct fake_part {
  int fd; /* 0: none */
  int mapped;
  uint64_t place, size;
};

struct fake_worker {
  int used;
  uint64_t id;
  int proc;
  struct worker_view v;
  struct arena *arena;
  void *arena_book;
  struct hint_prod to_app;
  struct hint_cons from_app;
  struct fake_session **by_slot;
  uint32_t engine_next;
  uint32_t *engine_free;
  uint32_t n_engine_free;
  int ring_due;
  int dying; /* its app is gone: orphans finish, then it goes */
  struct fake_part part[64];
};

struct fake_proc {
  int used, live; /* live: attach socket open */
  int fd;
  int bell, bell_app; /* services' end, the app's end until it is handed over */
  int doorbell;
  uint8_t token[16];
  int have_parent;
};

struct fake_listener {
  int used;
  int listening;
  struct fake_worker *w;
  uint32_t slot, gen, id, backlog;
  uint16_t port;
  uint8_t reuse, app_share;
  uint32_t proto;
  uint32_t turn;
};

struct fake_session {
  int used;
  struct fake_worker *w;
  struct abi_sess_app *a;
  struct abi_sess_engine *e;
  uint32_t slot, gen;
  struct fifo_cons tx;
  struct fifo_prod rx;
  struct fake_session *peer;              /* NULL once it is gone */
  int believed, fin_sent, fin_seen, gone; /* gone: transport over, state CLOSED */
  int silent;
  int dgram; /* of datagrams: fake_dgram.c */
};

/** Two workers that were paired for cut-through. */
struct fake_pair {
  uint64_t id, client, server;
  int seg[2];
};

struct fake {
  char path[100];
  char dir[64];
  pthread_t thread;
  pthread_mutex_t lock;
  int wake, stop;
  int listen_fd;
  int broker_down; /* no attach socket */
  int engine_down; /* hints are not taken, nothing moves */
  int hold;        /* nothing is moved between fifos, everything else works */
  int corks;       /* what is corked stays where it is until the end of the stream */
  int mute;        /* hints are pushed, no bell is rung for them */
  uint32_t n_slots;
  uint32_t tx_limit, rx_limit;
  uint32_t app_timeout_ms; /* what Hello is told; so long that no busy machine comes near */
  uint64_t arena_size;
  uint64_t tx_first, tx_step; /* of A's arena; 0: all of it is in its file */
  int part_refuse;            /* errno for every AddPart, 0: none */
  int part_forget;            /* so many PartMapped are answered by ENOENT */
  int part_hold;              /* nothing about parts is answered; a broker's death forgets what was asked */
  int n_parts, n_part_asked, n_part_whole, n_part_dropped, n_part_held; /* there now, and so far */
  uint64_t next_id;
  uint16_t next_port;
  int n_hello, n_add_worker, n_bind, n_listen, n_unbind;
  int deaths;        /* a bell that hangs up is the death of its process */
  int forget_mapped; /* so many WorkerMapped are answered by ENOENT */
  int refuse;        /* errno for the next request, then 0 */
  int deaf_unbind;   /* so many Unbinds are neither heard nor answered */
  int mute_bind;     /* so many Binds are done and not answered: the broker died in between */
  int cut;           /* Pair is granted, between any two workers */
  int n_pair_asked, n_pair_gone, n_pair_lied;
  int n_dgrams;   /* that went through the engine */
  int hold_open;  /* sessions of datagrams that are to be connected are not opened … */
  int n_held;     /* … and so often one was looked at in vain */
  int open_error; /* errno for the next one, then 0 */
  uint32_t n_pairs;
  struct fake_pair pair[FAKE_PROCS];
  struct fake_proc proc[FAKE_PROCS];
  struct fake_worker worker[FAKE_PROCS];
  struct fake_listener listener[FAKE_LISTENERS];
  struct fake_session session[FAKE_SESSIONS];
};

/** Starts the thread; sets VCL_VPP_SAPI_SOCKET for the library. 0 or -errno. */
int fake_start(struct fake *f);
/** Ends it and removes everything. */
void fake_stop(struct fake *f);
/** Change fields under the lock, then wake the thread. */
void fake_lock(struct fake *f);
void fake_unlock(struct fake *f);
/** kill -9 of the broker: its sockets go; fake_broker_up starts a new one with the same registry. */
void fake_broker_kill(struct fake *f);
void fake_broker_up(struct fake *f);
/** A new engine: rings thrown away, epoch raised, everything looked at again. */
void fake_engine_restart(struct fake *f);
/** The engine lets go of all workers of the library. */
void fake_detach_all(struct fake *f);
/** The end of all services: every bell closes. */
void fake_all_dead(struct fake *f);
/** New services that know nothing, after fake_all_dead. */
void fake_all_new(struct fake *f);
/** Connects from "outside" to a listening port without a client session: the server's session has no peer. 0 or
 * -ENOENT. */
int fake_dial(struct fake *f, uint16_t port);
/** Runs the engine in the caller's thread until nothing changes any more. */
void fake_run(struct fake *f);
/** Sessions that the engine holds (not gone or not yet let go of by the app). */
int fake_live_sessions(struct fake *f);
/** One of f's counts, under its lock. */
static inline int fake_count(struct fake *f, const int *of) {
  fake_lock(f);
  int n = *of;
  fake_unlock(f);
  return n;
}

/* fake_parts.c: whether it was about a part; all of a worker go with it */
int fake_part_request(struct fake *f, struct fake_proc *p, const void *request, void *reply, int *fd);
void fake_part_free(struct fake *f, struct fake_worker *w);
/* fake_broker.c */
void fake_broker_message(struct fake *f, struct fake_proc *p);
void fake_broker_accept(struct fake *f);
/** Workers of processes whose bell has hung up die, if f->deaths. */
void fake_broker_deaths(struct fake *f);
/** Descriptors that are still kept of pairs; also what a broker's death does. */
void fake_broker_drop_pairs(struct fake *f);
/* fake_dgram.c */
/** Acts on the last request, if it has not yet. */
void fake_dgram_request(struct fake *f, struct fake_session *s);
/** The same, and what it sent goes where it is to. 1 if something did. */
int fake_dgram_step(struct fake *f, struct fake_session *s);
/* fake_engine.c */
/** A worker of process f->proc[proc]; fds: its segments E (read-only) and A, the caller's to close. NULL: no more. */
struct fake_worker *fake_worker_new(struct fake *f, int proc, int fds[2]);
void fake_worker_free(struct fake *f, struct fake_worker *w);
/* fake_sess.c */
/** Connections that nobody took are reset. The listener is out of the table already. */
void fake_listener_gone(struct fake *f, const struct fake_listener *l);

#endif
