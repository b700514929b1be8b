/*
 * A worker: one thread's (or, in lock mode, one process's) share of the application.
 *
 * It holds the sessions, its home (segments), its conversation with the broker and its waiters. Public functions enter
 * and leave it; in between they own it.
 */
#ifndef HS_VCL_WORKER_H
#define HS_VCL_WORKER_H

#include "base/pool.h"
#include "vcl_broker.h"
#include "vcl_home.h"
#include "vcl_waiter.h"

#define WORKER_MAX        128u
#define WORKER_INDEX_BITS 24u
#define WORKER_INDEX_MASK ((1u << WORKER_INDEX_BITS) - 1u)
#define WORKER_SLEEP_MS   100 /* ceiling of every sleep */

struct session;
struct cut_state;

/** What a worker asks the broker of its home's parts (parts.c). */
struct parts {
  uint64_t worker_id;  /* whose */
  uint8_t step;        /* enum parts_step */
  uint8_t ask;         /* enum broker_part_ask */
  uint8_t whole;       /* from place n to the end */
  uint8_t watching;    /* the attach socket is in the front … */
  uint32_t call;       /* … as long as this is broker.calls */
  uint32_t n;          /* the place in question … */
  uint64_t place, len; /* … its offset in A, its bytes */
  usec_t again;        /* not before: the broker is away, or refused */
  usec_t tick;         /* the timer's next, 0: off */
  int timer;           /* in the front, -1: not needed so far */
  uint64_t looked;     /* cycles: when it was last seen how much is needed, … */
  uint64_t peak;       /* … bytes in use at the most before that */
  uint8_t shrinks;     /* … and something is more than enough */
  struct list starved; /* sessions whose writes found no memory */
  uint32_t n_starved;
};

struct worker {
  uint32_t index;
  pthread_mutex_t lock; /* lock mode */
  struct broker broker;
  struct home *home;
  struct list inherited; /* homes that others made, after a fork: those with sessions of ours */
  struct list left;      /* own sessions that were closed here and are held by others (kin.c) */
  uint64_t kin_next;     /* µs: no look at them before */
  uint8_t heir;          /* it is somebody's child, and inherited sessions */
  uint8_t settle_due;    /* somebody dead left the broker something to be told */
  struct pool sessions;
  struct list waiters;        /* in use */
  struct list spare_waiters;  /* kept with their eventfds */
  struct list unbinds;        /* listeners closed while the broker was away */
  usec_t unbinds_next;        /* not said again before */
  uint32_t n_stack, n_kernel; /* sockets so far, as A tells them to tools (abi/worker.h) */
  uint32_t n_lost;            /* … and datagrams that found no room at the receiver of a branch */
  struct list held;           /* sessions whose tx fifo holds memory, those looked at longest ago first (held.c) */
  uint32_t n_held;
  uint64_t held_tick; /* cycles: when they were last looked at */
  struct parts parts;
  uint32_t n_asleep;
  uint32_t n_waiters;
  uint32_t spin_vain;    /* spins in a row that found nothing */
  uint32_t spin_skipped; /* waits since that went to sleep at once */
  uint32_t slow_yields;  /* yields in a row that took long */
  uint64_t yield_guard;  /* µs: no yielding before, a yield took long */
  uint8_t watched;       /* the program watches the bell itself: stay armed */
  uint8_t asked;         /* it asked for the bell */
  uint8_t bell_dirty;    /* armed since the bell was last emptied */
  uint32_t n_quiet;      /* listeners that listen_rest left to children */
  uint8_t offers_missed;
  uint8_t lazy;          /* child of a fork that has not said Hello yet */
  struct cut_state *cut; /* pairs with other apps (vcl_cut.h); NULL until it listens or connects */
  struct rejoin *rejoin; /* the stack is gone, or listeners are still to be made in the new one */
  struct list lost;      /* homes of stacks that are gone, as long as sessions lie in them */
  int front;             /* epoll fd around the bell and what else wakes: the same for the worker's whole life */
  int again_fd;          /* eventfd in the front: the program left events in a set; -1 = not needed so far */
  uint8_t again;         /* it is readable */
  uint8_t edge_due;      /* a bell was taken in here: the program gets an edge when this call returns */
  int heir_timer;        /* a forked child's: see waiter.c */
};

/** The worker that the calling thread acts as, NULL without one. In lock mode: worker 0, locked. */
struct worker *worker_enter(void);
/** Rings the doorbell if something was published, unlocks. */
void worker_leave(struct worker *w);
/** Rings the doorbells of inherited homes that are due. */
void worker_flush_inherited(struct worker *w);
void worker_lock(struct worker *w);
void worker_unlock(struct worker *w);

/** Makes worker `index` with its own conversation, home and bell. `parent`: token to join, NULL for the first. */
int worker_new(struct worker **out, uint32_t index, const uint8_t *parent);
/** Says Hello and maps the home of a worker that has none yet. */
int worker_attach(struct worker *w, const uint8_t *parent);
void worker_free(struct worker *w);
/** In the child of a fork: the worker of a thread that is not here. Its descriptors are closed, so that its end shows;
 * nothing that is shared is touched. */
void worker_forget(struct worker *w);
/** 0 when the worker has a home; a fork's child gets it now. -errno. */
int worker_ready(struct worker *w);

/** Takes all hints and dispatches them. Returns how many. */
int worker_pump(struct worker *w);
/** Empties the bell; finds out when every service is gone. For a caller that looks at the ready lists next. */
void worker_drain_bell(struct worker *w);
/** The same for every other caller: what the bell brought may be on a ready list that nobody looks at now, so a program
 * that watches the front gets an edge of its own when control goes back to it (not before: who sleeps in here watches
 * the front too at times). */
void worker_take_bell(struct worker *w);
/** A socket more or fewer on either side: told to `hsctl show app`. */
void worker_count(struct worker *w, int stack, int kernel);
/** A datagram of a branch found no room: the same. */
void worker_count_lost(struct worker *w);
void held_look_slow(struct worker *w);
void worker_settle_slow(struct worker *w);
/** Memory of idle sessions goes back, some of them at a time. */
static inline void held_look(struct worker *w) {
  if (w->n_held != 0)
    held_look_slow(w);
}
/** Nothing more comes from this worker's home: every session is over. */
void worker_detach(struct worker *w);
/** Hands memory of idle sessions back to the arena. */
void worker_trim(struct worker *w);
/** Tells the broker what is due (settle_due), and now and then again what it did not answer. Releases the mutex for
 * that. */
static inline void worker_settle(struct worker *w) {
  if (__builtin_expect(w->settle_due || !list_empty(&w->unbinds), 0))
    worker_settle_slow(w);
}
/** Retries what the broker missed while it was away. Caller holds w->broker.lock. 1: not all of it was answered, else
 * 0. */
int worker_flush_unbinds(struct worker *w);
/** Nobody is left who would want to hear them. */
void worker_drop_unbinds(struct worker *w);
/** The front, made when there is none. fd or -errno. */
int worker_front(struct worker *w);
void worker_front_watch(struct worker *w, int fd);
void worker_front_forget(struct worker *w, int fd);
/** Something is ready of which no bell tells (again), and a program that watches the front edge-triggered may sleep
 * now: an edge brings it back. Nothing for one that does not watch the front. */
void worker_again(struct worker *w);
int worker_later_unbind(struct worker *w, const struct broker_slot *s);

#endif
