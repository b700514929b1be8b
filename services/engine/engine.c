/*
 * What the engine does with what it is given: segments and bells become the worker's, workers come and go. Control
 * thread.
 */
#include "engine.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void engine_nop(struct worker *w, void *arg) {
  (void)w;
  (void)arg;
}

static int item_dup(const struct custody_item *it) {
  return it ? fcntl(it->fd, F_DUPFD_CLOEXEC, 3) : -EBADF;
}

static int find_dup(struct engine *e, uint32_t kind, uint32_t seg_kind, uint64_t owner) {
  return item_dup(custody_find(e->custody, kind, seg_kind, owner));
}

/* --- registry: who belongs to whom --- */

static const void *reg_table(const struct engine *e, uint64_t off, uint64_t n, uint64_t size) {
  return e->registry.base && n <= 1u << 20 ? seg_at(&e->registry, off, n * size) : NULL;
}

static const struct abi_registry_geom *reg_geom(const struct engine *e) {
  return (const struct abi_registry_geom *)(const void *)e->registry.geom;
}

const struct abi_reg_worker *engine_reg_worker(const struct engine *e, uint64_t worker_id) {
  const struct abi_registry_geom *g = reg_geom(e);
  const struct abi_reg_worker *t = reg_table(e, g->workers_off, g->n_workers, sizeof *t);
  for (uint64_t i = 0; t && i < g->n_workers; i++)
    if (t[i].used && t[i].id == worker_id)
      return &t[i];
  return NULL;
}

const struct abi_reg_proc *engine_reg_proc(const struct engine *e, uint64_t proc_id) {
  const struct abi_registry_geom *g = reg_geom(e);
  const struct abi_reg_proc *t = reg_table(e, g->procs_off, g->n_procs, sizeof *t);
  for (uint64_t i = 0; t && i < g->n_procs; i++)
    if (t[i].used && t[i].id == proc_id)
      return &t[i];
  return NULL;
}

const struct abi_reg_app *engine_reg_app(const struct engine *e, uint64_t app_id) {
  const struct abi_registry_geom *g = reg_geom(e);
  const struct abi_reg_app *t = reg_table(e, g->apps_off, g->n_apps, sizeof *t);
  for (uint64_t i = 0; t && i < g->n_apps; i++)
    if (t[i].used && t[i].id == app_id)
      return &t[i];
  return NULL;
}

/* --- worker → control --- */

struct lied_note {
  struct engine *e;
  uint64_t worker_id;
  const char *why;
};

static void mail_lied(struct worker *w, void *arg) {
  struct lied_note *note = arg;
  (void)w;
  log_warn("engine.app.lied", "worker %llu detached: %s", (unsigned long long)note->worker_id, note->why);
  (void)custody_worker_lied(note->e->custody, note->worker_id, note->why);
  free(note);
}

static void on_lied(void *control, uint64_t worker_id, const char *why) {
  struct engine *e = control;
  struct lied_note *note = malloc(sizeof *note);
  if (!note)
    return; /* the worker stays detached; only the broker's note is missing */
  *note = (struct lied_note){.e = e, .worker_id = worker_id, .why = why};
  if (mailbox_post(&e->back, mail_lied, note))
    free(note);
}

struct drained_note {
  struct engine *e;
  struct app_worker *a;
};

static void mail_drained(struct worker *w, void *arg) {
  struct drained_note *note = arg;
  (void)w;
  uint64_t id = note->a->id;
  app_free(note->a);
  (void)custody_worker_drained(note->e->custody, id);
  free(note);
}

static void on_drained(void *control, struct app_worker *a) {
  struct engine *e = control;
  struct drained_note *note = malloc(sizeof *note);
  if (!note)
    return;
  *note = (struct drained_note){.e = e, .a = a};
  if (mailbox_post(&e->back, mail_drained, note))
    free(note);
}

static const struct worker_control control_ops = {.drained = on_drained, .lied = on_lied};
const struct worker_control *worker_control = &control_ops;

/* --- app workers --- */

/* Make an app worker of its four fds. NULL while something is missing (it comes later) or after a refusal. */
static struct app_worker *make_app(struct engine *e, uint64_t worker_id) {
  const struct custody_item *seg_e = custody_find(e->custody, ABI_ITEM_SEG, ABI_SEG_ENGINE, worker_id);
  const struct custody_item *seg_a = custody_find(e->custody, ABI_ITEM_SEG, ABI_SEG_APP, worker_id);
  const struct abi_reg_worker *reg = engine_reg_worker(e, worker_id);
  if (!seg_e || !seg_a || !reg)
    return NULL;
  int bell = find_dup(e, ABI_ITEM_BELL, 0, reg->proc_id);
  int doorbell = find_dup(e, ABI_ITEM_DOORBELL, 0, reg->proc_id);
  if (bell < 0 || doorbell < 0) {
    log_error("engine.app.bell", "worker %llu: no bell for process %llu", (unsigned long long)worker_id,
              (unsigned long long)reg->proc_id);
    if (bell >= 0)
      close(bell);
    return NULL;
  }
  struct app_worker *a = NULL;
  const char *why = "";
  int rc = app_new(&a, worker_id, item_dup(seg_e), item_dup(seg_a), bell, doorbell, &why);
  if (rc == 0)
    return a;
  log_warn("engine.app.refused", "worker %llu: %s (%s)", (unsigned long long)worker_id, why, strerror(-rc));
  (void)custody_worker_lied(e->custody, worker_id, why);
  return NULL;
}

struct dead_note {
  struct engine *e;
  uint64_t worker_id;
};

static void mail_unknown_drained(struct worker *w, void *arg) {
  struct dead_note *note = arg;
  (void)w;
  (void)custody_worker_drained(note->e->custody, note->worker_id);
  free(note);
}

/* A worker that we never took (refused), or let go of before the broker heard it, is drained as it stands. */
static void mail_app_dead(struct worker *w, void *arg) {
  struct dead_note *note = arg;
  struct app_worker *a = worker_app(w, note->worker_id);
  if (a)
    app_dead(w, a);
  else if (mailbox_post(&note->e->back, mail_unknown_drained, note) == 0)
    return;
  free(note);
}

static void mail_app_add(struct worker *w, void *arg) {
  struct app_worker *a = arg;
  if (worker_app(w, a->id) || worker_add_app(w, a)) {
    a->life = APP_DEAD;
    worker_control->drained(w->control, a);
    return;
  }
  app_adopt(w, a);
}

static void mail_policy_seen(struct worker *w, void *arg) {
  struct drained_note *note = arg; /* e only */
  (void)w;
  uint32_t gen = (uint32_t)(uintptr_t)note->a;
  (void)custody_policy_seen(note->e->custody, gen);
  free(note);
}

static void mail_policy(struct worker *w, void *arg) {
  struct engine *e = arg;
  uint32_t gen = listen_refresh(w);
  struct drained_note *note = malloc(sizeof *note);
  if (!note)
    return; /* the broker's next change asks again */
  *note = (struct drained_note){.e = e, .a = (struct app_worker *)(uintptr_t)gen};
  if (mailbox_post(&e->back, mail_policy_seen, note))
    free(note);
}

/* --- custody --- */

static void on_item(void *ctx, const struct custody_item *it) {
  struct engine *e = ctx;
  if (!e->running || it->kind != ABI_ITEM_SEG || it->seg_kind != ABI_SEG_APP)
    return; /* before the start everything is looked up by engine_ready; an A segment is what completes a worker */
  struct app_worker *a = make_app(e, it->owner);
  if (!a)
    return;
  if (mailbox_post(&e->worker.mail, mail_app_add, a)) {
    app_free(a);
    return;
  }
  (void)custody_worker_live(e->custody, it->owner);
}

static void on_drop(void *ctx, const struct custody_item *it) {
  (void)ctx; /* the engine maps dups, and lets go of a worker before the broker drops its items */
  log_debug("engine.drop", "item %llu kind %u", (unsigned long long)it->id, it->kind);
}

static void on_policy(void *ctx, uint32_t gen) {
  struct engine *e = ctx;
  (void)gen;
  if (e->running)
    (void)mailbox_post(&e->worker.mail, mail_policy, e);
}

static void on_worker_dead(void *ctx, uint64_t worker_id) {
  struct engine *e = ctx;
  struct dead_note *note = malloc(sizeof *note);
  if (!note || !e->running) {
    free(note);
    return;
  }
  *note = (struct dead_note){.e = e, .worker_id = worker_id};
  if (mailbox_post(&e->worker.mail, mail_app_dead, note))
    free(note);
}

const struct custody_ops engine_custody_ops = {
    .item = on_item, .drop = on_drop, .ready = engine_ready, .policy = on_policy, .worker_dead = on_worker_dead};

/* --- start --- */

static int open_stats(struct engine *e) {
  uint32_t n;
  const struct abi_stat_desc *desc = engine_counter_list(&n);
  const char *why = "";
  int fd = find_dup(e, ABI_ITEM_SEG, ABI_SEG_STATS, CUSTODY_ENGINE);
  int rc = fd < 0 ? -ENOENT : seg_attach(&e->stats, fd, ABI_SEG_STATS, SEG_RDWR, &why);
  if (rc)
    return rc;
  e->counters = stats_open(&e->stats, CUSTODY_ENGINE, desc, n);
  for (uint32_t i = 0; e->counters && i < n; i++)
    if (desc[i].kind == 1) /* gauges are counted anew by adoption */
      e->counters[i] = 0;
  return e->counters ? 0 : -EPROTO;
}

static int open_segments(struct engine *e) {
  struct worker *w = &e->worker;
  const char *why = "";
  int rc = seg_attach(&e->registry, find_dup(e, ABI_ITEM_SEG, ABI_SEG_REGISTRY, 0), ABI_SEG_REGISTRY, SEG_RDONLY, &why);
  if (rc == 0)
    rc = open_stats(e);
  if (rc == 0)
    rc = worker_init(w, &e->svc.cfg, e->counters, e, NULL);
  if (rc == 0)
    rc = worker_set_tcbs(w, find_dup(e, ABI_ITEM_SEG, ABI_SEG_TCB, 0));
  if (rc == 0)
    rc = listen_open(&w->listeners, find_dup(e, ABI_ITEM_SEG, ABI_SEG_POLICY, 0));
  if (rc == 0)
    rc = worker_set_packet(w, find_dup(e, ABI_ITEM_SEG, ABI_SEG_PACKET, 0), find_dup(e, ABI_ITEM_LINK_BELL, 0, 0),
                           find_dup(e, ABI_ITEM_LINK_BELL, 0, 1));
  return rc;
}

static void take_worker(void *ctx, const struct custody_item *it) {
  struct engine *e = ctx;
  if (it->kind != ABI_ITEM_SEG || it->seg_kind != ABI_SEG_APP)
    return;
  struct app_worker *a = make_app(e, it->owner);
  if (a && worker_add_app(&e->worker, a)) {
    log_error("engine.app.limit", "more than %u app workers", WORKER_APPS_MAX);
    app_free(a);
  }
}

static void *engine_thread(void *arg) {
  struct engine *e = arg;
  usec_t began = clock_now_us();
  int n = worker_adopt(&e->worker);
  log_info("engine.adopt", "%d connections and %u app workers taken over in %llu us", n, e->worker.n_apps,
           (unsigned long long)(clock_now_us() - began));
  worker_run(&e->worker);
  return NULL;
}

/* Dead processes whose news came while no engine ran. */
static void bury_dead(struct engine *e) {
  for (uint32_t i = 0; i < e->worker.n_apps; i++) {
    const struct abi_reg_worker *reg = engine_reg_worker(e, e->worker.app[i]->id);
    if (reg && reg->used == 2)
      on_worker_dead(e, reg->id);
  }
}

void engine_ready(void *ctx, uint32_t broker_epoch) {
  struct engine *e = ctx;
  log_info("engine.ready", "broker epoch %u", broker_epoch);
  if (e->running) { /* a broker that came back: it wants to hear again where we are */
    (void)mailbox_post(&e->worker.mail, mail_policy, e);
    return;
  }
  int rc = open_segments(e);
  if (rc) {
    log_error("engine.segments", "what the broker gave cannot be used: %s", strerror(-rc));
    loop_stop(e->svc.loop);
    return;
  }
  custody_each(e->custody, take_worker, e);
  rc = pthread_create(&e->thread, NULL, engine_thread, e);
  if (rc) {
    log_error("engine.thread", "cannot start the worker: %s", strerror(rc));
    loop_stop(e->svc.loop);
    return;
  }
  e->running = 1;
  for (uint32_t i = 0; i < e->worker.n_apps; i++)
    (void)custody_worker_live(e->custody, e->worker.app[i]->id);
  bury_dead(e);
  (void)mailbox_post(&e->worker.mail, mail_policy, e);
  svc_ready(&e->svc);
}
