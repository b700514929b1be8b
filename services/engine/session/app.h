/*
 * An app worker as the engine sees it: its two segments, rings, bell, arena and the sessions it owns.
 *
 * Each engine worker has a struct app_worker of it, with a lane (ring pair) of its own; what they have in common is
 * struct app_shared. A session slot has one owner at a time, the engine worker that alone writes its engine half; only
 * the owner hands it on, and a hint that comes to another is passed to the owner by mail.
 *
 * Made by the control thread (mapping costs time), handed over through the mailbox, used by the worker thread alone,
 * given back when drained. Whatever it writes is a claim (shm/fifo.h, shm/hint.h check); a lie detaches it.
 */
#ifndef HS_ENGINE_APP_H
#define HS_ENGINE_APP_H

#include "base/bytes.h"
#include "base/freelist.h"
#include "base/list.h"
#include "shm/arena.h"
#include "shm/hint.h"
#include "shm/session.h"

struct worker;
struct session;

#define APP_NO_SESSION 0u /* in by_slot */
#define APP_NO_SLOT    0xffffffffu

enum app_life { APP_LIVE = 0, APP_DEAD = 1, APP_LIED = 2 };

/* A further piece of A's arena that is mapped (../parts.c). */
struct app_part {
  struct list link;
  uint64_t id;     /* of the item in the vault */
  uint64_t charge; /* bytes that it counts at least against limits */
  int fd;          /* the vault's, valid until the item is dropped */
};

/* What the engine workers share of one app worker. */
struct app_shared {
  uint32_t refs;      /* atomic: struct app_workers that are left */
  uint32_t n_workers; /* engine workers that serve it */
  uint32_t ns;        /* namespace of its app */
  uint32_t vrf;       /* which that is in */
  uint32_t lost;      /* atomic: bit n: hints to worker n could not be passed on, it rescans */
  struct worker_view v;
  struct arena *arena; /* shared by all, and by the control thread */
  int bell, doorbell;
  uint32_t *by_slot;    /* n_slots: 1 + index in the owner's pool of sessions, or APP_NO_SESSION; the owner's word */
  uint8_t *owner;       /* n_slots, atomic: engine worker */
  uint8_t *passed;      /* n_slots, atomic: mail about it is under way to its owner */
  struct freelist free; /* engine slots below slots_high, numbers from 0 = n_slots_app */
  struct list link;     /* the control thread's alone, as the following (../memory.c) */
  struct list parts;    /* struct app_part */
  uint64_t use;         /* bytes of both segments at the last look, if memory is limited */
  uint64_t aim;         /* bytes of E's chunks that are worth keeping */
};

struct app_worker {
  uint64_t id;
  struct app_shared *sh;
  struct worker_view v; /* copy of sh->v */
  struct hint_prod to_app;
  struct hint_cons from_app;
  struct arena *arena;
  int bell;     /* services' end of the process's socketpair; the app worker owns this dup */
  int doorbell; /* eventfd in the worker's epoll, edge-triggered, never read; owned dup */
  enum app_life life;
  uint8_t ring_due;    /* the bell is to be rung at the end of the turn */
  uint8_t drained;     /* told to the control thread */
  uint8_t rescan;      /* look at every slot at the next turn */
  uint8_t armed;       /* its ring is idle: not polled, its doorbell brings it back */
  usec_t active_at;    /* when it last had a hint for us */
  uint32_t n_sessions; /* sessions that refer to the segments */
  uint32_t *by_slot;   /* sh->by_slot */
  uint8_t lane;        /* engine worker that this is for */
  const char *why;     /* of APP_LIED */
};

/** Map and check; takes over all four fds in every case. 0 or -errno/-EPROTO. Control thread. */
int app_new(struct app_worker **out, uint64_t id, int fd_e, int fd_a, int bell, int doorbell, const char **why);
/** lane[0] is new: make lane[1 … n-1] for the other engine workers, before the first is handed over. 0 or -ENOMEM, and
 * lane[0] is as it was. Control thread. */
int app_lanes(struct app_worker **lane, uint32_t n);
/** Returns 1 if it was the last lane: the segments are unmapped now. */
int app_free(struct app_worker *a);

/* --- worker thread --- */

/** Engine worker that owns a slot. Any thread. */
static inline uint32_t app_owner(const struct app_worker *a, uint32_t slot) {
  return __atomic_load_n(&a->sh->owner[slot], __ATOMIC_ACQUIRE);
}
/** The owner hands a slot without a session to another worker. */
static inline void app_give(struct app_worker *a, uint32_t slot, uint32_t to) {
  __atomic_store_n(&a->sh->owner[slot], (uint8_t)to, __ATOMIC_RELEASE);
}
/** Has the owner of a slot look at it. */
void app_pass(struct worker *w, struct app_worker *a, uint32_t slot);
/** Recount free engine slots. Before the app worker is handed over, and when its sessions have been adopted. */
void app_recount(struct app_worker *a);
/** New epoch: the library and this worker look at every slot again. One worker does it, the others app_rescan_due. */
void app_again(struct worker *w, struct app_worker *a);
/** This worker looks at every slot of its own again. */
void app_rescan_due(struct worker *w, struct app_worker *a);
/** Drain its ring (or rescan). Returns the number of hints handled. */
uint32_t app_poll(struct worker *w, struct app_worker *a);
/** Its doorbell rang, or there is other reason to look: poll it again from the next turn on. */
void app_wake(struct worker *w, struct app_worker *a);
/** Ask to be rung instead of being polled. 1 = nothing came meanwhile. */
int app_arm(struct app_worker *a);
/** Tell it to look at a slot; the bell rings at most once per turn. */
void app_hint(struct app_worker *a, uint32_t slot);
/** Its process is proved dead, or it lied: sessions become orphans or are aborted. */
void app_dead(struct worker *w, struct app_worker *a);
/** It holds an impossible value: detached at the end of the turn (the caller may be deep inside a transport). */
void app_suspect(struct app_worker *a, const char *why);
void app_lied(struct worker *w, struct app_worker *a, const char *why);
/** It was found to lie, by this worker or another: no session of it is served any more. */
void app_let_go(struct worker *w, struct app_worker *a, const char *why);
/** A free engine slot, now this worker's, or APP_NO_SLOT. */
uint32_t app_slot_get(struct app_worker *a);
/** Engine slots that are in use. */
uint32_t app_slots_used(const struct app_worker *a);
void app_slot_put(struct app_worker *a, uint32_t slot);
/** Ring the bells that are due; find out whether dead ones are drained. End of a turn. */
void app_flush(struct worker *w, struct app_worker *a);

#endif
