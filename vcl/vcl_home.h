/*
 * A home: the pair of segments (A and E) that sessions live in, with its rings, its arena and its slots.
 *
 * A worker has one home of its own; after a fork the child keeps its parent's home beside it, and those that its
 * parent had inherited, for the sessions that it holds in them. Every call is made under the worker's mutex (lock mode)
 * or on the worker's thread. A home that two processes produce in (`forked`) takes a robust process-shared lock, which
 * lies in A, around ring and arena.
 */
#ifndef HS_VCL_HOME_H
#define HS_VCL_HOME_H

#include "base/list.h"
#include "shm/arena.h"
#include "shm/hint.h"
#include "shm/session.h"

#include <pthread.h>

struct cut_pair;

/** Which places of a home's arena have memory (parts.c). */
struct home_parts {
  uint64_t have;     /* bit n: place n is there */
  uint64_t backed;   /* bytes of the arena that are there, but for a place that is drained; 0: all, and nothing to do */
  uint64_t low;      /* fewer free bytes, and the next place is asked for; 0: there is none */
  uint32_t draining; /* 1 + the place that is to go, 0: none */
};

#define HOME_LOCKS_SIZE (64u * 1024u) /* of the locks area, before the arena's book-keeping */
#define HOME_NO_OWNER   0u

/** At locks_off of A: the library's own; no service reads it. */
struct home_shared {
  pthread_mutex_t lock; /* robust, process-shared: hint rings and arena of a home that was forked */
};

struct home {
  struct worker_view view;
  struct home_shared *shared;
  struct arena *arena;
  struct hint_prod to[ABI_LANES_MAX];   /* hints to the engine */
  struct hint_cons from[ABI_LANES_MAX]; /* hints from the engine */
  uint64_t worker_id;
  uint8_t token[16]; /* of its maker, by which an heir may join the application as long as the bell is held */
  uint32_t n_slots, n_slots_app;
  uint32_t n_lanes;     /* in use by the engine of `epoch` */
  uint32_t max_lanes;   /* that the segments have room for */
  uint32_t *owner;      /* per slot: session index + 1, or HOME_NO_OWNER */
  uint32_t *free_slots; /* stack of freed app slots */
  uint32_t n_free, slot_next;
  uint32_t epoch; /* of the engine whose rescan is done */
  int bell, doorbell;
  uint64_t kin_base; /* of its bytes in the file of locks (vcl_kin.h) */
  uint32_t *left;    /* a dead maker's: slots that others held at the last look */
  uint32_t n_left;
  int mourned;      /* its maker is dead, and what it alone had was ended */
  int ring_due;     /* the doorbell is to be rung at the end of this call */
  int inherited;    /* the parent's, after a fork */
  int forked;       /* shared with another process */
  int detached;     /* the engine let go of it, or every service is gone */
  int lost;         /* every service that knew it is gone: freed with its last session */
  struct list link; /* in worker.lost or worker.inherited */
  uint32_t n_sessions;
  struct cut_pair *pair; /* it is a pair's: the "engine" is another app (vcl_cut.h) */
  uint8_t *due;          /* a pair's: set with ring_due */
  struct home_parts parts;
};

/** Takes over *v (also on failure) and the descriptors' numbers. 0 or -errno. */
int home_init(struct home *h, const struct worker_view *v, uint64_t worker_id, int bell, int doorbell);
/** The home of a pair of workers; `client`: its slots are ours to allocate. Takes over *v (also on failure). */
int home_init_pair(struct home *h, const struct worker_view *v, uint64_t pair_id, int client, int bell,
                   struct cut_pair *pair);
void home_fini(struct home *h);

/** Closes bell and doorbell of an inherited home: its owner's death must show. */
void home_let_go(struct home *h);
/** Frees an inherited home in which no session lives. */
void home_drop(struct home *h);
/** One session fewer lives in it. */
void home_unref(struct home *h);
void home_lock(struct home *h);
void home_unlock(struct home *h);

/** A free slot for an app-allocated session, its gen fresh and its words zero. Slot or -ENFILE. */
int64_t home_slot_get(struct home *h);
/** Gives an app slot back: op = NONE → the next gen, so that nothing in the engine's half is believed → zeroes. */
void home_slot_put(struct home *h, uint32_t slot);
/** Zeroes the words of an app half except gen. */
void home_slot_clear(struct abi_sess_app *a);

/** Lanes that the present engine serves, as it says now: 1 … max_lanes. */
static inline uint32_t home_lanes(const struct home *h) {
  uint32_t n = h->pair != NULL ? 1 : __atomic_load_n(&h->view.engine->lanes_used, __ATOMIC_RELAXED);
  return n == 0 ? 1 : n > h->max_lanes ? h->max_lanes : n;
}
/** Says "look at `slot`" to an engine worker (any one passes it on to the right one). The bell rings in home_flush. */
void home_hint(struct home *h, uint32_t lane, uint32_t slot, struct abi_sess_app *a);
void home_flush_slow(struct home *h);
/** Rings the doorbell if it is due. */
static inline void home_flush(struct home *h) {
  if (__builtin_expect(h->ring_due != 0, 0))
    home_flush_slow(h);
}
/** 1 when all rings from the engine were armed and are empty. */
int home_arm(struct home *h);
void home_disarm(struct home *h);
int home_pending(const struct home *h);
/** Current epoch of the engine. */
static inline uint32_t home_epoch(const struct home *h) {
  return h->pair != NULL ? h->epoch : __atomic_load_n(&h->view.engine->epoch, __ATOMIC_ACQUIRE);
}

#endif
