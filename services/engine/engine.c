/*
 * What the engine does with what it is given: segments and bells become the worker's, workers come and go. Control
 * thread.
 */
#include "engine.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ENGINE_COUNT_US 100000u /* several workers: how often their counters are added up */

void engine_nop(struct worker *w, void *arg) {
  (void)w;
  (void)arg;
}

int engine_post(struct engine *e, mail_fn fn, void *arg) {
  int rc = 0;
  for (uint32_t k = 0; k < e->group.n; k++) {
    int one = mailbox_post(&e->group.w[k]->mail, fn, arg);
    rc = rc ? rc : one;
  }
  return rc;
}

int engine_post_copy(struct engine *e, mail_fn fn, const void *note, size_t size) {
  int rc = 0;
  for (uint32_t k = 0; k < e->group.n; k++) {
    int one = mailbox_post_copy(&e->group.w[k]->mail, fn, note, size);
    rc = rc ? rc : one;
  }
  return rc;
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

/* Another worker found it out, perhaps. */
static void mail_lied_too(struct worker *w, void *arg) {
  const struct lied_note *note = arg;
  struct app_worker *a = worker_app(w, note->worker_id);
  if (a)
    app_let_go(w, a, note->why);
}

static void mail_lied(struct worker *w, void *arg) {
  const struct lied_note *note = arg;
  (void)w;
  log_warn("engine.app.lied", "worker %llu detached: %s", (unsigned long long)note->worker_id, note->why);
  (void)custody_worker_lied(note->e->custody, note->worker_id, note->why);
  if (note->e->group.n > 1)
    (void)engine_post_copy(note->e, mail_lied_too, note, sizeof *note);
}

static void on_lied(void *control, uint64_t worker_id, const char *why) {
  struct engine *e = control;
  struct lied_note note = {.e = e, .worker_id = worker_id, .why = why};
  (void)mailbox_post_copy(&e->back, mail_lied, &note, sizeof note); /* else it stays detached; only the broker's note is
                                                                     * missing */
}

struct drained_note {
  struct engine *e;
  struct app_worker *a;
};

/* One engine worker has let go of it; the last one's word is the engine's. */
static void mail_drained(struct worker *w, void *arg) {
  const struct drained_note *note = arg;
  (void)w;
  uint64_t id = note->a->id;
  if (app_free(note->a))
    (void)custody_worker_drained(note->e->custody, id);
}

static void on_drained(void *control, struct app_worker *a) {
  struct engine *e = control;
  struct drained_note note = {.e = e, .a = a};
  (void)mailbox_post_copy(&e->back, mail_drained, &note, sizeof note);
}

static const struct worker_control control_ops = {.drained = on_drained, .lied = on_lied};
const struct worker_control *worker_control = &control_ops;

/* --- app workers --- */

/* Make an app worker of its four fds, with a lane for each of our workers. 0; -ENOENT while something is missing (it
 * comes later) or after a refusal. */
static int make_app(struct engine *e, uint64_t worker_id, struct app_worker **lane) {
  const struct custody_item *seg_e = custody_find(e->custody, ABI_ITEM_SEG, ABI_SEG_ENGINE, worker_id);
  const struct custody_item *seg_a = custody_find(e->custody, ABI_ITEM_SEG, ABI_SEG_APP, worker_id);
  const struct abi_reg_worker *reg = engine_reg_worker(e, worker_id);
  if (!seg_e || !seg_a || !reg)
    return -ENOENT;
  int bell = find_dup(e, ABI_ITEM_BELL, 0, reg->proc_id);
  int doorbell = find_dup(e, ABI_ITEM_DOORBELL, 0, reg->proc_id);
  if (bell < 0 || doorbell < 0) {
    log_error("engine.app.bell", "worker %llu: no bell for process %llu", (unsigned long long)worker_id,
              (unsigned long long)reg->proc_id);
    if (bell >= 0)
      close(bell);
    return -ENOENT;
  }
  const char *why = "";
  int rc = app_new(&lane[0], worker_id, item_dup(seg_e), item_dup(seg_a), bell, doorbell, &why);
  if (rc == 0) {
    const struct abi_reg_app *app = engine_reg_app(e, reg->app_id);
    lane[0]->sh->ns = app ? app->ns : 0;
    lane[0]->sh->vrf = config_ns_vrf(&e->svc.cfg, lane[0]->sh->ns);
    const struct seg *s = &lane[0]->sh->v.seg_a;
    rc = s->size == (seg_a->place ? seg_a->place : s->file) ? 0 : -EPROTO; /* the header is the app's to write over */
    why = "A's arena is not as it was made";
    if (rc == 0) {
      rc = parts_take(e, lane[0]->sh); /* its app uses them: sent as zeros they would be another stream of bytes */
      why = "a part of A can't be mapped";
    }
    if (rc == 0) {
      memory_add(e, lane[0]->sh);
      rc = app_lanes(lane, e->group.n);
      why = "no lanes for our workers";
    }
    if (rc == 0)
      return 0;
    (void)app_free(lane[0]);
  }
  log_warn("engine.app.refused", "worker %llu: %s (%s)", (unsigned long long)worker_id, why, strerror(-rc));
  (void)custody_worker_lied(e->custody, worker_id, why);
  return -ENOENT;
}

struct dead_note {
  struct engine *e;
  uint64_t worker_id;
};

static void mail_unknown_drained(struct worker *w, void *arg) {
  const struct dead_note *note = arg;
  (void)w;
  (void)custody_worker_drained(note->e->custody, note->worker_id);
}

/* What all workers do, and the last one to do it answers for. */
struct round {
  struct engine *e;
  uint64_t worker_id;
  uint32_t left;  /* atomic: workers that have not done it yet */
  uint32_t known; /* atomic: some of them knew the app worker */
  uint32_t gen;   /* atomic: oldest policy that any of them serves */
};

/* Starts a round. 0 or -ENOMEM. */
static int engine_round(struct engine *e, mail_fn fn, uint64_t worker_id) {
  struct round *rd = malloc(sizeof *rd);
  if (!rd)
    return -ENOMEM;
  *rd = (struct round){.e = e, .worker_id = worker_id, .left = e->group.n};
  for (uint32_t k = 0; k < e->group.n; k++)
    if (mailbox_post(&e->group.w[k]->mail, fn, rd) == -ENOMEM &&
        __atomic_sub_fetch(&rd->left, 1, __ATOMIC_ACQ_REL) == 0)
      free(rd);
  return 0;
}

/* A worker that we never took (refused), or let go of before the broker heard it, is drained as it stands. */
static void mail_app_dead(struct worker *w, void *arg) {
  struct round *rd = arg;
  struct app_worker *a = worker_app(w, rd->worker_id);
  if (a) {
    __atomic_store_n(&rd->known, 1, __ATOMIC_RELAXED);
    app_dead(w, a);
  }
  if (__atomic_sub_fetch(&rd->left, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  struct dead_note note = {.e = rd->e, .worker_id = rd->worker_id};
  if (!rd->known)
    (void)mailbox_post_copy(&rd->e->back, mail_unknown_drained, &note, sizeof note);
  free(rd);
}

static void mail_app_add(struct worker *w, void *arg) {
  struct app_worker *a = arg;
  if (worker_app(w, a->id) || worker_add_app(w, a)) {
    a->life = APP_DEAD;
    worker_control->drained(w->control, a);
    return;
  }
  if (w->index == 0)
    app_again(w, a);
  else
    app_rescan_due(w, a);
}

struct policy_note {
  struct engine *e;
  uint32_t gen;
};

static void mail_policy_seen(struct worker *w, void *arg) {
  const struct policy_note *note = arg;
  (void)w;
  (void)custody_policy_seen(note->e->custody, note->gen);
}

/* The broker hears of the oldest policy that is in force. */
static void mail_policy(struct worker *w, void *arg) {
  struct round *rd = arg;
  uint32_t gen = listen_refresh(w), was = __atomic_load_n(&rd->gen, __ATOMIC_RELAXED);
  while ((was == 0 || (int32_t)(gen - was) < 0) &&
         !__atomic_compare_exchange_n(&rd->gen, &was, gen, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    ;
  if (__atomic_sub_fetch(&rd->left, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  struct policy_note note = {.e = rd->e, .gen = rd->gen};
  (void)mailbox_post_copy(&rd->e->back, mail_policy_seen, &note, sizeof note); /* else the broker's next change asks */
  free(rd);
}

/* --- custody --- */

static int on_item(void *ctx, const struct custody_item *it) {
  struct engine *e = ctx;
  int rc = e->running ? parts_add(e, it) : 0;
  if (!e->running || it->kind != ABI_ITEM_SEG || it->seg_kind != ABI_SEG_APP)
    return rc; /* before the start everything is looked up by engine_ready; an A segment is what completes a worker */
  struct app_worker *lane[ABI_LINKS_MAX];
  if (make_app(e, it->owner, lane))
    return 0;
  for (uint32_t k = 0; k < e->group.n; k++)
    if (mailbox_post(&e->group.w[k]->mail, mail_app_add, lane[k]) == -ENOMEM) {
      log_error("engine.app.memory", "worker %llu: no memory to hand it over", (unsigned long long)it->owner);
      (void)app_free(lane[k]);
    }
  (void)custody_worker_live(e->custody, it->owner);
  return 0;
}

static void on_drop(void *ctx, const struct custody_item *it) {
  struct engine *e = ctx;
  if (e->running) /* all else: the engine maps dups, and lets go of a worker before the broker drops its items */
    parts_drop(e, it);
  log_debug("engine.drop", "item %llu kind %u", (unsigned long long)it->id, it->kind);
}

static void on_policy(void *ctx, uint32_t gen) {
  struct engine *e = ctx;
  (void)gen;
  if (e->running)
    (void)engine_round(e, mail_policy, 0);
}

static void on_worker_dead(void *ctx, uint64_t worker_id) {
  struct engine *e = ctx;
  if (e->running)
    (void)engine_round(e, mail_app_dead, worker_id);
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

/* Counters of one worker among several, private; before the first one's: what the page said when we started. */
static uint64_t *worker_counters(struct engine *e, uint32_t k) {
  uint32_t n;
  (void)engine_counter_list(&n);
  return e->group.n == 1 ? e->counters : e->before + (size_t)n * (1 + k);
}

void engine_count(struct engine *e) {
  uint32_t n;
  (void)engine_counter_list(&n);
  for (uint32_t i = 0; e->before && i < n; i++) {
    uint64_t sum = e->before[i];
    for (uint32_t k = 0; k < e->group.n; k++)
      sum += __atomic_load_n(&worker_counters(e, k)[i], __ATOMIC_RELAXED);
    __atomic_store_n(&e->counters[i], sum, __ATOMIC_RELAXED);
  }
}

static void on_count(void *ctx) {
  engine_count(ctx);
}

/* The workers but for their segments. */
static int make_workers(struct engine *e) {
  uint32_t n;
  (void)engine_counter_list(&n);
  e->group.n = e->svc.cfg.engine_workers;
  if (e->group.n > 1) {
    e->before = calloc((size_t)n * (1 + e->group.n), sizeof *e->before);
    if (!e->before)
      return -ENOMEM;
    memcpy(e->before, e->counters, n * sizeof *e->before);
    int timer = loop_add_timer(e->svc.loop, ENGINE_COUNT_US, ENGINE_COUNT_US, on_count, e);
    if (timer < 0)
      return timer;
  }
  int rc = 0;
  for (uint32_t k = 0; k < e->group.n && rc == 0; k++) {
    struct worker *w = k == 0 ? &e->worker : calloc(1, sizeof *w);
    if (!w)
      return -ENOMEM;
    e->group.w[k] = w;
    rc = worker_init(w, &e->svc.cfg, k, worker_counters(e, k), e, NULL);
    w->group = &e->group;
  }
  return rc;
}

static int open_segments(struct engine *e) {
  struct worker *w = &e->worker;
  const char *why = "";
  int rc = seg_attach(&e->registry, find_dup(e, ABI_ITEM_SEG, ABI_SEG_REGISTRY, 0), ABI_SEG_REGISTRY, SEG_RDONLY, &why);
  if (rc == 0)
    rc = open_stats(e);
  if (rc == 0)
    rc = make_workers(e);
  if (rc == 0)
    rc = worker_set_tcbs(w, find_dup(e, ABI_ITEM_SEG, ABI_SEG_TCB, 0));
  if (rc == 0)
    rc = listen_open(&w->listeners, find_dup(e, ABI_ITEM_SEG, ABI_SEG_POLICY, 0));
  if (rc == 0)
    rc = rules_open(&w->rules, find_dup(e, ABI_ITEM_SEG, ABI_SEG_RULES, 0), SEG_RDONLY, &why);
  if (rc == 0)
    rc = worker_set_packet(w, find_dup(e, ABI_ITEM_SEG, ABI_SEG_PACKET, 0), find_dup(e, ABI_ITEM_LINK_BELL, 0, 0),
                           find_dup(e, ABI_ITEM_LINK_BELL, 0, 1));
  for (uint32_t k = 1; k < e->group.n && rc == 0; k++)
    rc = worker_join(e->group.w[k], &e->group, k, find_dup(e, ABI_ITEM_LINK_BELL, 0, 0),
                     find_dup(e, ABI_ITEM_LINK_BELL, 0, 1 + k));
  return rc;
}

static void take_worker(void *ctx, const struct custody_item *it) {
  struct engine *e = ctx;
  struct app_worker *lane[ABI_LINKS_MAX];
  if (it->kind != ABI_ITEM_SEG || it->seg_kind != ABI_SEG_APP || make_app(e, it->owner, lane))
    return;
  for (uint32_t k = 0; k < e->group.n; k++)
    if (worker_add_app(e->group.w[k], lane[k])) {
      log_error("engine.app.limit", "more than %u app workers", WORKER_APPS_MAX);
      (void)app_free(lane[k]);
    }
}

static void *engine_thread(void *arg) {
  struct worker *w = arg;
  struct engine *e = w->control;
  if (w->index == 0) {
    usec_t began = clock_now_us();
    int n = worker_adopt(w);
    log_info("engine.adopt", "%d connections and %u app workers taken over by %u workers in %llu us", n, w->n_apps,
             e->group.n, (unsigned long long)(clock_now_us() - began));
    __atomic_store_n(&e->adopted_all, 1, __ATOMIC_RELEASE);
  }
  if (e->group.n > 1)
    (void)pthread_barrier_wait(&e->adopted);
  worker_run(w);
  return NULL;
}

/* engine.cpu is the first worker's, the others follow. */
static void engine_pin(struct engine *e, uint32_t k) {
  cpu_set_t set;
  unsigned cpu = (unsigned)e->svc.cfg.engine_cpu + k;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  int rc = pthread_setaffinity_np(e->thread[k], sizeof set, &set);
  if (rc)
    log_warn("engine.pin", "worker %u, cpu %u: %s", k, cpu, strerror(rc));
}

static int start_threads(struct engine *e) {
  int rc = -pthread_barrier_init(&e->adopted, NULL, e->group.n);
  for (uint32_t k = 0; k < e->group.n && rc == 0; k++) {
    char name[16];
    rc = -pthread_create(&e->thread[k], NULL, engine_thread, e->group.w[k]);
    snprintf(name, sizeof name, "engine-%u", (uint8_t)k);
    if (rc == 0)
      (void)pthread_setname_np(e->thread[k], name);
    if (rc == 0 && e->svc.cfg.engine_cpu >= 0)
      engine_pin(e, k);
  }
  return rc;
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
    (void)engine_round(e, mail_policy, 0);
    return;
  }
  int rc = open_segments(e);
  if (rc) {
    log_error("engine.segments", "what the broker gave cannot be used: %s", strerror(-rc));
    loop_stop(e->svc.loop);
    return;
  }
  rc = memory_start(e);
  if (rc == 0) {
    custody_each(e->custody, take_worker, e);
    rc = start_threads(e);
  }
  if (rc) { /* those that were started wait for the others, and end with the process */
    log_error("engine.thread", "cannot start the workers: %s", strerror(-rc));
    loop_stop(e->svc.loop);
    return;
  }
  e->running = 1;
  for (uint32_t i = 0; i < e->worker.n_apps; i++)
    (void)custody_worker_live(e->custody, e->worker.app[i]->id);
  bury_dead(e);
  (void)engine_round(e, mail_policy, 0);
  svc_ready(&e->svc);
}
