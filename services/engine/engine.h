/*
 * The engine process: a control thread (custody, control messages) around the worker threads that carry the data.
 */
#ifndef HS_ENGINE_ENGINE_H
#define HS_ENGINE_ENGINE_H

#include "session/mailbox.h"
#include "session/worker.h"
#include "shm/stats.h"
#include "svc/custody.h"
#include "svc/svc.h"

#include <pthread.h>

struct engine {
  struct svc svc;
  struct custody *custody;
  struct worker worker; /* the first of `group`, and the one that owns what they share */
  struct worker_group group;
  pthread_t thread[ABI_LINKS_MAX];
  pthread_barrier_t adopted; /* the others begin when the first has taken everything back */
  int running;               /* the worker threads were started */
  int adopted_all;           /* atomic: everything that lives is claimed */
  struct list memory;        /* memory.c: struct app_shared.link of all app workers */
  uint32_t memory_looks;
  struct mailbox back; /* worker → control thread */
  struct seg stats;
  struct seg registry; /* which process a worker belongs to, names of apps */
  uint64_t *counters;  /* in the stats page: the workers' added up (engine_count), or the only worker's own */
  uint64_t *before;    /* several workers: what the page said when we started, then each worker's counters */
};

/** Does nothing; wakes the worker to look at `stop`. */
void engine_nop(struct worker *w, void *arg);
/** Vault is complete: adopt and start, once. */
void engine_ready(void *ctx, uint32_t broker_epoch);
extern const struct custody_ops engine_custody_ops;

/** An app worker's memory is looked after from now on, until it is freed; before its chunks are claimed (memory.c). */
void memory_add(struct engine *e, struct app_shared *sh);
int memory_start(struct engine *e);

/** Parts of A segments (parts.c): given (0 or -errno: it is not mapped), or about to be taken back. */
int parts_add(struct engine *e, const struct custody_item *it);
void parts_drop(struct engine *e, const struct custody_item *it);
/** All that the vault has of a worker that was just mapped. 0, -errno: one of them is not. */
int parts_take(struct engine *e, struct app_shared *sh);
/** Bytes that they count against limits. */
uint64_t parts_memory(const struct app_shared *sh);

/** Control requests (ctl.c). */
int engine_ctl(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len);
struct Hoststack__Control__Reply;
/** Addresses and VLANs, for the reply to ShowInterface (ctl_link.c). 0 or -errno. */
int engine_show_interface(struct engine *e, struct Hoststack__Control__Reply *r);
/** What was set at run time, in the TCB segment; the engine runs. */
static inline struct abi_tunables *engine_tunables(struct engine *e) {
  return &e->worker.tcbs.block->tune;
}
/** Have `fn` run by every worker, with the same arg. 0 or -errno. */
int engine_post(struct engine *e, mail_fn fn, void *arg);
/** The same with a copy of `size` bytes at note for each. */
int engine_post_copy(struct engine *e, mail_fn fn, const void *note, size_t size);
/** Adds the workers' counters up in the page. */
void engine_count(struct engine *e);
/** Descriptions of all counters in their order in the page; fills `n`. */
const struct abi_stat_desc *engine_counter_list(uint32_t *n);
/** Names from the registry. */
const struct abi_reg_worker *engine_reg_worker(const struct engine *e, uint64_t worker_id);
const struct abi_reg_app *engine_reg_app(const struct engine *e, uint64_t app_id);
const struct abi_reg_proc *engine_reg_proc(const struct engine *e, uint64_t proc_id);

#endif
