/*
 * An app worker as the engine sees it: its two segments, rings, bell, arena and the sessions it owns.
 *
 * Made by the control thread (mapping costs time), handed over through the mailbox, used by the worker thread alone,
 * given back when drained. Whatever it writes is a claim (shm/fifo.h, shm/hint.h check); a lie detaches it.
 */
#ifndef HS_ENGINE_APP_H
#define HS_ENGINE_APP_H

#include "base/bytes.h"
#include "shm/arena.h"
#include "shm/hint.h"
#include "shm/session.h"

struct worker;
struct session;

#define APP_NO_SESSION 0xffffffffu

enum app_life { APP_LIVE = 0, APP_DEAD = 1, APP_LIED = 2 };

struct app_worker {
  uint64_t id;
  struct worker_view v;
  struct hint_prod to_app;
  struct hint_cons from_app;
  struct arena *arena;
  int bell;     /* services' end of the process's socketpair; the app worker owns this dup */
  int doorbell; /* eventfd in the worker's epoll, edge-triggered, never read; owned dup */
  enum app_life life;
  uint8_t ring_due;     /* the bell is to be rung at the end of the turn */
  uint8_t drained;      /* told to the control thread */
  uint8_t rescan;       /* look at every slot at the next turn */
  uint8_t armed;        /* its ring is idle: not polled, its doorbell brings it back */
  usec_t active_at;     /* when it last had a hint for us */
  uint32_t n_sessions;  /* sessions that refer to the segments */
  uint32_t *by_slot;    /* n_slots session indices or APP_NO_SESSION */
  uint32_t *free_slots; /* engine slots that are free, stack */
  uint32_t n_free;
  uint32_t slots_high;
  const char *why; /* of APP_LIED */
};

/** Map and check; takes over all four fds in every case. 0 or -errno/-EPROTO. Control thread. */
int app_new(struct app_worker **out, uint64_t id, int fd_e, int fd_a, int bell, int doorbell, const char **why);
void app_free(struct app_worker *a);

/* --- worker thread --- */

/** Take over: epoch raised, free slots recounted, rescan ordered. Sessions of it have been adopted before. */
void app_adopt(struct worker *w, struct app_worker *a);
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
/** A free engine slot or APP_NO_SESSION. */
uint32_t app_slot_get(struct app_worker *a);
void app_slot_put(struct app_worker *a, uint32_t slot);
/** Ring the bells that are due; find out whether dead ones are drained. End of a turn. */
void app_flush(struct worker *w, struct app_worker *a);

#endif
