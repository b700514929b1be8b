/*
 * How a broker comes to life. Either some vault holds a registry: then it is taken back, everything in it is asked back
 * and reconciled; or engine and nicio have both shown that they hold none: then the stack is made anew. It decides
 * nothing before it has heard the engine, and nothing about a fresh start before it has heard both.
 *
 * Called from custody_srv.c whenever a service has said something, on the main thread. Apps are served from BOOT_DONE
 * on.
 */
#include "broker.h"

#include "abi/tcb.h"
#include "abi/timewait.h"
#include "base/fault.h"
#include "base/log.h"
#include "shm/bell.h"
#include "shm/frame.h"
#include "shm/rules.h"
#include "shm/stats.h"

#include <stdlib.h>
#include <unistd.h>

#define BOOT_ASK_MAX 1024 /* ids in one Welcome */

static const struct vault_svc *boot_shown(const struct broker *b, uint32_t service) {
  return b->vsvc[service] != NULL && b->vsvc[service]->hello ? b->vsvc[service] : NULL;
}

/** Id of the registry in a service's vault, 0 = none. */
static uint64_t boot_registry_in(const struct vault_svc *v) {
  for (uint32_t i = 0; v != NULL && i < v->n_shown; i++)
    if (v->shown[i].kind == ABI_ITEM_SEG && v->shown[i].seg_kind == ABI_SEG_REGISTRY)
      return v->shown[i].id;
  return 0;
}

static int boot_holds(const struct vault_svc *v, const struct abi_item *it) {
  for (uint32_t i = 0; v != NULL && i < v->n_shown; i++)
    if (v->shown[i].id == it->id && v->shown[i].kind == it->kind && v->shown[i].seg_kind == it->seg_kind)
      return 1;
  return 0;
}

/* --- the segments that belong to no app --- */

static int boot_seg(struct broker *b, const char *name, uint32_t seg_kind, uint64_t owner, uint64_t size,
                    const void *geom) {
  uint32_t idx = registry_item_find(&b->reg, ABI_ITEM_SEG, seg_kind, owner);
  if (idx != REGISTRY_NONE && b->item[idx].fd >= 0)
    return 0;
  if (idx != REGISTRY_NONE)
    vault_drop(b, idx);
  int rc = vault_seg_new(b, name, seg_kind, registry_id(&b->reg), owner, size, geom, 0);
  if (rc < 0)
    log_error("broker.boot", "%s: %s", name, err_text(rc));
  FAULT_POINT("broker.boot.seg");
  return rc < 0 ? rc : 0;
}

static int boot_link_bell(struct broker *b, uint64_t owner) {
  uint32_t idx = registry_item_find(&b->reg, ABI_ITEM_LINK_BELL, 0, owner);
  if (idx != REGISTRY_NONE && b->item[idx].fd >= 0)
    return 0;
  if (idx != REGISTRY_NONE)
    vault_drop(b, idx);
  idx = registry_item_new(&b->reg, registry_id(&b->reg), ABI_ITEM_LINK_BELL, 0, owner, 0);
  int fd = idx != REGISTRY_NONE ? bell_doorbell() : -ENOSPC;
  if (fd < 0)
    return fd;
  b->item[idx].fd = fd;
  return 0;
}

/** Everything that every service needs, as far as it is not there already. 0 or -errno. */
static int boot_core(struct broker *b) {
  struct abi_packet_geom packet;
  struct abi_tcb_geom tcb = {.block_off = 4096,
                             .table_off = 8192,
                             .n = b->svc.cfg.max_connections,
                             .tw_off = 8192 + b->svc.cfg.max_connections * sizeof(struct abi_tcb),
                             .n_tw = b->svc.cfg.max_time_waits};
  tcb.upper_off = tcb.tw_off + tcb.n_tw * sizeof(struct abi_tw);
  tcb.route_off = tcb.upper_off + tcb.n * sizeof(struct abi_tcb_upper);
  tcb.n_route = ABI_ROUTES_MAX;
  struct abi_policy_geom pol = {.block_off = 4096, .n_listen = BROKER_LISTEN_MAX, .listen_off = 8192};
  struct abi_stats_geom stats;
  struct abi_rules_geom rules;
  uint64_t packet_size = frame_geom_make(&packet, ABI_LINKS_MAX, b->svc.cfg.rx_slots, b->svc.cfg.tx_slots);
  uint64_t stats_size = stats_geom_make(&stats), rules_size = rules_geom_make(&rules, ABI_RULES_MAX);
  int rc = boot_seg(b, "hs-policy", ABI_SEG_POLICY, 0, pol.listen_off + pol.n_listen * sizeof(struct abi_listen_entry),
                    &pol);
  if (rc == 0)
    rc = boot_seg(b, "hs-rules", ABI_SEG_RULES, 0, rules_size, &rules);
  if (rc == 0)
    rc = boot_seg(b, "hs-packet", ABI_SEG_PACKET, 0, packet_size, &packet);
  if (rc == 0)
    rc = boot_seg(b, "hs-tcb", ABI_SEG_TCB, 0, tcb.route_off + tcb.n_route * sizeof(struct abi_route), &tcb);
  for (uint64_t s = 1; rc == 0 && s <= 4; s++)
    rc = boot_seg(b, "hs-stats", ABI_SEG_STATS, s, stats_size, &stats);
  for (uint64_t bell = 0; rc == 0 && bell <= ABI_LINKS_MAX; bell++) /* nicio's, then one per engine worker */
    rc = boot_link_bell(b, bell);
  return rc;
}

static int boot_stats(struct broker *b) {
  static const struct abi_stat_desc desc[] = {
#define X(id, nm, hlp, sev) {.name = nm, .help = hlp, .kind = 0, .severity = sev},
      BROKER_STATS(X)
#undef X
  };
  const char *why;
  uint32_t idx = registry_item_find(&b->reg, ABI_ITEM_SEG, ABI_SEG_STATS, 3);
  int fd = idx != REGISTRY_NONE ? dup(b->item[idx].fd) : -1;
  if (fd < 0)
    return -ENOENT;
  int rc = seg_attach(&b->stats_seg, fd, ABI_SEG_STATS, SEG_RDWR, &why);
  if (rc < 0)
    return rc;
  b->stat = stats_open(&b->stats_seg, 3, desc, BROKER_STAT_N);
  return b->stat != NULL ? 0 : -EPROTO;
}

/* --- reconciliation --- */

static int boot_has_fd(const struct broker *b, uint64_t id) {
  uint32_t idx = vault_by_id(b, id);
  return idx != REGISTRY_NONE && b->item[idx].fd >= 0;
}

/** A worker lives on only if both its segments are here; below that its app repeats AddWorker. */
static void boot_workers(struct broker *b) {
  for (uint32_t i = 0; i < b->reg.n_workers; i++) {
    struct abi_reg_worker *w = &b->reg.worker[i];
    if (w->used == 0)
      continue;
    int whole = boot_has_fd(b, w->seg_e) && boot_has_fd(b, w->seg_a);
    if (whole && registry_proc_find(&b->reg, w->proc_id) != REGISTRY_NONE)
      continue;
    log_info("broker.boot", "worker %llu had not been handed over: dropped", (unsigned long long)w->id);
    uint32_t e = vault_by_id(b, w->seg_e), a = vault_by_id(b, w->seg_a);
    if (e != REGISTRY_NONE)
      vault_drop(b, e);
    if (a != REGISTRY_NONE)
      vault_drop(b, a);
    registry_used_set(&w->used, 0);
  }
}

/** Items that no record speaks of: made, and the broker died before it said for whom. */
static void boot_items(struct broker *b) {
  for (uint32_t i = 0; i < b->reg.n_items; i++) {
    const struct abi_item *it = &b->reg.item[i];
    int owned = 1;
    if (registry_item_state(&b->reg, i) == ABI_ITEM_FREE)
      continue;
    if (it->kind == ABI_ITEM_BELL || it->kind == ABI_ITEM_DOORBELL)
      owned = registry_proc_find(&b->reg, it->owner) != REGISTRY_NONE;
    else if (it->kind == ABI_ITEM_SEG && (it->seg_kind == ABI_SEG_APP || it->seg_kind == ABI_SEG_ENGINE))
      owned = registry_worker_find(&b->reg, it->owner) != REGISTRY_NONE;
    else if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART) /* no service had it: nobody uses it */
      owned = registry_worker_find(&b->reg, it->owner) != REGISTRY_NONE && b->item[i].fd >= 0;
    else if (it->kind == ABI_ITEM_PORT)
      owned = b->item[i].fd >= 0;
    if (!owned)
      vault_drop(b, i);
  }
}

/** A live process is one whose bell is here and has not hung up; everybody else is dead. */
static void boot_procs(struct broker *b) {
  for (uint32_t i = 0; i < b->reg.n_procs; i++) {
    if (b->reg.proc[i].used == REG_LIVE && death_watch(b, i) < 0)
      death_proc(b, i);
    else if (b->reg.proc[i].used == REG_DYING)
      death_finish(b, i);
  }
  for (uint32_t i = 0; i < b->reg.n_apps; i++)
    if (b->reg.app[i].used != 0)
      death_collect_app(b, b->reg.app[i].id);
}

static int boot_runtime(struct broker *b) {
  b->proc = calloc(b->reg.n_procs, sizeof *b->proc);
  b->worker = calloc(b->reg.n_workers, sizeof *b->worker);
  if (b->proc == NULL || b->worker == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; i < b->reg.n_procs; i++)
    b->proc[i] = (struct proc_rt){.bell_fd = -1, .b = b};
  return ports_tables(b);
}

static void boot_done(struct broker *b) {
  int rc = boot_core(b);
  if (rc == 0)
    boot_workers(b);
  if (rc == 0)
    rc = boot_runtime(b);
  if (rc == 0)
    rc = policy_open(b, registry_item_find(&b->reg, ABI_ITEM_SEG, ABI_SEG_POLICY, 0));
  if (rc == 0)
    rc = rule_open(b, registry_item_find(&b->reg, ABI_ITEM_SEG, ABI_SEG_RULES, 0));
  if (rc == 0)
    rc = boot_stats(b);
  if (rc < 0) {
    log_error("broker.boot", "cannot start: %s", err_text(rc));
    loop_stop(b->svc.loop);
    return;
  }
  b->boot = BOOT_DONE;
  boot_items(b);
  policy_repair(b);
  b->rules_policy = b->policy->policy_gen; /* the engine may read the other bank until it has seen this */
  rule_tick(b);
  boot_procs(b);
  log_info("broker.boot", "epoch %u", b->reg.blk->broker_epoch);
  custody_srv_ready(b, CUSTODY_ENGINE);
  custody_srv_ready(b, CUSTODY_NICIO);
  custody_srv_ready(b, CUSTODY_API);
  attach_srv_open(b);
  svc_ready(&b->svc);
}

/* --- the steps --- */

static void boot_fresh(struct broker *b) {
  uint64_t high = 0;
  for (uint32_t s = 1; s < BROKER_SERVICES; s++) /* numbers of an earlier life are not given again */
    for (uint32_t i = 0; b->vsvc[s] != NULL && i < b->vsvc[s]->n_shown; i++)
      high = b->vsvc[s]->shown[i].id > high ? b->vsvc[s]->shown[i].id : high;
  int rc = registry_create(&b->reg, b->svc.cfg.max_apps, b->svc.cfg.max_workers, high);
  if (rc < 0) {
    log_error("broker.boot", "registry: %s", err_text(rc));
    loop_stop(b->svc.loop);
    return;
  }
  vault_tables(b);
  b->item[0].fd = dup(b->reg.seg.fd);
  log_info("broker.boot", "fresh start");
  boot_done(b);
}

static void boot_wait(struct broker *b) {
  const struct vault_svc *engine = boot_shown(b, CUSTODY_ENGINE), *nicio = boot_shown(b, CUSTODY_NICIO);
  if (engine == NULL || (boot_registry_in(engine) == 0 && nicio == NULL))
    return;
  uint32_t from = boot_registry_in(engine) != 0 ? CUSTODY_ENGINE : CUSTODY_NICIO;
  uint64_t id = boot_registry_in(from == CUSTODY_ENGINE ? engine : nicio);
  if (id == 0) {
    boot_fresh(b);
    return;
  }
  b->boot = BOOT_REGISTRY;
  b->boot_from = from;
  custody_srv_welcome(b, from, &id, 1);
}

void boot_registry(struct broker *b, uint32_t service, int fd) {
  int keep = dup(fd);
  int rc = registry_attach(&b->reg, fd);
  if (rc < 0 || keep < 0) {
    log_error("broker.boot", "the registry that service %u returned is no good (%s): starting afresh", service,
              err_text(rc < 0 ? rc : -EMFILE));
    if (keep >= 0)
      close(keep);
    boot_fresh(b);
    return;
  }
  vault_tables(b);
  uint32_t idx = vault_by_id(b, b->reg.seg.id);
  if (idx != REGISTRY_NONE)
    b->item[idx].fd = keep;
  else
    close(keep);
  b->boot = BOOT_ITEMS;
  boot_step(b);
}

/** Ask every item that is not here from a vault that has it. Returns how many are outstanding. */
static uint32_t boot_ask(struct broker *b, uint32_t service) {
  const struct vault_svc *v = boot_shown(b, service);
  uint64_t need[BOOT_ASK_MAX];
  uint32_t n = 0, out = 0;
  for (uint32_t i = 0; v != NULL && i < b->reg.n_items; i++) {
    if (registry_item_state(&b->reg, i) == ABI_ITEM_FREE || b->item[i].fd >= 0)
      continue;
    if (b->item[i].asked != 0) {
      out += (b->item[i].asked & (1u << service)) != 0;
      continue;
    }
    if (!boot_holds(v, &b->reg.item[i]))
      continue;
    b->item[i].asked = (uint8_t)(1u << service);
    need[n++] = b->reg.item[i].id;
    out++;
    if (n == BOOT_ASK_MAX) {
      custody_srv_welcome(b, service, need, n);
      n = 0;
    }
  }
  if (n > 0)
    custody_srv_welcome(b, service, need, n);
  return out;
}

void boot_step(struct broker *b) {
  switch (b->boot) {
  case BOOT_WAIT:
    boot_wait(b);
    break;
  case BOOT_REGISTRY:
    if (boot_shown(b, b->boot_from) == NULL) { /* it died before it answered */
      b->boot = BOOT_WAIT;
      boot_wait(b);
    }
    break;
  case BOOT_ITEMS:
    if (boot_shown(b, CUSTODY_ENGINE) == NULL && boot_shown(b, CUSTODY_NICIO) == NULL)
      break; /* both vaults are away: wait for one */
    if (boot_ask(b, CUSTODY_ENGINE) + boot_ask(b, CUSTODY_NICIO) == 0)
      boot_done(b);
    break;
  case BOOT_DONE:
    break;
  }
}
