/*
 * What an app and a namespace use, and the limits of it: sessions, listeners, memory (broker.app-limit,
 * broker.namespaces[].limit).
 *
 * Called by workers.c, listen.c, parts.c and ctl.c on the main thread. Nothing is counted along: each use is added up
 * from the registry when somebody asks, so that a broker that died and came back knows the same. Sessions are limited
 * by the slots that a new worker is given, which it can't exceed; memory is looked at when a worker, a listener or a
 * part of A is asked for.
 */
#include "broker.h"

#include "abi/worker.h"
#include "base/log.h"

#include <sys/stat.h>
#include <unistd.h>

uint64_t limit_seg_memory(const struct broker *b, uint64_t seg_id) {
  struct stat st;
  uint32_t idx = vault_by_id(b, seg_id);
  if (idx == REGISTRY_NONE || b->item[idx].fd < 0 || fstat(b->item[idx].fd, &st) < 0)
    return 0;
  return (uint64_t)st.st_blocks * 512;
}

/** Slots of a worker, from the header of its E segment, which no app can write. */
static uint32_t limit_slots(const struct broker *b, uint32_t w) {
  struct abi_worker_geom g;
  if (b->worker[w].slots != 0)
    return b->worker[w].slots;
  uint32_t e = vault_by_id(b, b->reg.worker[w].seg_e);
  if (e == REGISTRY_NONE || b->item[e].fd < 0 ||
      pread(b->item[e].fd, &g, sizeof g, offsetof(struct abi_seg_hdr, geom)) != (ssize_t)sizeof g)
    return 0;
  b->worker[w].slots = (uint32_t)g.n_slots;
  return b->worker[w].slots;
}

/** Whether an earlier record is a share of the same listener: they stand in one chain. */
static int limit_counted(const struct broker *b, uint32_t idx) {
  const struct abi_reg_bind *r = &b->reg.bind[idx];
  for (uint32_t i = b->port_head[0][r->port]; i != REGISTRY_NONE; i = b->bind[i].next)
    if (i < idx && b->reg.bind[i].listener_id == r->listener_id && b->bind[i].policy != REGISTRY_NONE)
      return 1;
  return 0;
}

void limit_use(const struct broker *b, uint64_t app_id, uint32_t ns, struct limit_use *u) {
  memset(u, 0, sizeof *u);
  for (uint32_t i = 0; i < b->reg.n_apps; i++)
    u->apps += b->reg.app[i].used != 0 && (app_id != 0 ? b->reg.app[i].id == app_id : b->reg.app[i].ns == ns);
  for (uint32_t i = 0; i < b->reg.n_workers; i++) {
    const struct abi_reg_worker *w = &b->reg.worker[i];
    if (w->used == 0 || (app_id != 0 ? w->app_id != app_id : ns_of_app(b, w->app_id) != ns))
      continue;
    u->workers++;
    u->sessions += w->used == REG_LIVE ? limit_slots(b, i) : 0;
    u->memory += limit_seg_memory(b, w->seg_e) + limit_seg_memory(b, w->seg_a) + parts_memory(b, w->id);
  }
  for (uint32_t i = 0; i < b->bind_high; i++) {
    const struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used == 0 || r->proto != 0 || b->bind[i].policy == REGISTRY_NONE || limit_counted(b, i))
      continue;
    uint32_t w = registry_worker_find(&b->reg, r->worker_id);
    uint64_t app = w != REGISTRY_NONE ? b->reg.worker[w].app_id : 0;
    u->listeners += app_id != 0 ? app == app_id : ns_of_app(b, app) == ns;
  }
}

const struct config_limit *limit_of_ns(const struct broker *b, uint32_t ns) {
  return ns > 0 && ns <= b->svc.cfg.n_ns ? &b->svc.cfg.ns[ns - 1].limit : NULL;
}

/** One refusal: counted, logged at a bounded rate. Returns err. */
static int limit_refuse(struct broker *b, enum broker_stat stat, int err, const char *say, const char **text) {
  *text = say;
  broker_count(b, stat);
  log_warn_rl("broker.limit", "%s", say);
  return err;
}

static int limit_worker_of(struct broker *b, uint64_t app_id, uint32_t ns, const struct config_limit *l,
                           uint32_t *slots, const char **text) {
  struct limit_use u;
  if (l == NULL || (l->sessions == 0 && l->memory == 0))
    return 0;
  limit_use(b, app_id, ns, &u);
  if (l->memory != 0 && u.memory >= l->memory)
    return limit_refuse(b, BROKER_STAT_LIMIT_MEMORY, -ENOMEM,
                        app_id != 0 ? "add worker: the app has broker.app-limit.memory"
                                    : "add worker: the namespace has its limit.memory",
                        text);
  if (l->sessions == 0)
    return 0;
  uint64_t left = u.sessions < l->sessions ? l->sessions - u.sessions : 0;
  if (left < BROKER_SLOTS_MIN)
    return limit_refuse(b, BROKER_STAT_LIMIT_SESSIONS, app_id != 0 ? -EMFILE : -ENFILE,
                        app_id != 0 ? "add worker: the app has broker.app-limit.sessions"
                                    : "add worker: the namespace has its limit.sessions",
                        text);
  if (*slots > left)
    *slots = (uint32_t)left;
  return 0;
}

int limit_worker(struct broker *b, uint64_t app_id, uint32_t *slots, const char **text) {
  uint32_t ns = ns_of_app(b, app_id);
  int rc = limit_worker_of(b, app_id, 0, &b->svc.cfg.app_limit, slots, text);
  return rc < 0 ? rc : limit_worker_of(b, 0, ns, limit_of_ns(b, ns), slots, text);
}

static int limit_listener_of(struct broker *b, uint64_t app_id, uint32_t ns, const struct config_limit *l,
                             const char **text) {
  struct limit_use u;
  if (l == NULL || (l->listeners == 0 && l->memory == 0))
    return 0;
  limit_use(b, app_id, ns, &u);
  if (l->memory != 0 && u.memory >= l->memory)
    return limit_refuse(b, BROKER_STAT_LIMIT_MEMORY, -ENOBUFS,
                        app_id != 0 ? "listen: the app has broker.app-limit.memory"
                                    : "listen: the namespace has its limit.memory",
                        text);
  if (l->listeners != 0 && u.listeners >= l->listeners)
    return limit_refuse(b, BROKER_STAT_LIMIT_LISTENERS, -ENOBUFS,
                        app_id != 0 ? "listen: the app has broker.app-limit.listeners"
                                    : "listen: the namespace has its limit.listeners",
                        text);
  return 0;
}

int limit_listener(struct broker *b, uint64_t app_id, const char **text) {
  uint32_t ns = ns_of_app(b, app_id);
  int rc = limit_listener_of(b, app_id, 0, &b->svc.cfg.app_limit, text);
  return rc < 0 ? rc : limit_listener_of(b, 0, ns, limit_of_ns(b, ns), text);
}

static int limit_part_of(struct broker *b, uint64_t app_id, uint32_t ns, const struct config_limit *l, uint64_t size,
                         const char **text) {
  struct limit_use u;
  if (l == NULL || l->memory == 0)
    return 0;
  limit_use(b, app_id, ns, &u);
  if (u.memory < l->memory && size <= l->memory - u.memory)
    return 0;
  return limit_refuse(b, BROKER_STAT_LIMIT_PARTS, -ENOMEM,
                      app_id != 0 ? "add part: the app has broker.app-limit.memory"
                                  : "add part: the namespace has its limit.memory",
                      text);
}

int limit_part(struct broker *b, uint64_t app_id, uint64_t size, const char **text) {
  uint32_t ns = ns_of_app(b, app_id);
  int rc = limit_part_of(b, app_id, 0, &b->svc.cfg.app_limit, size, text);
  return rc < 0 ? rc : limit_part_of(b, 0, ns, limit_of_ns(b, ns), size, text);
}
