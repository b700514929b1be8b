/*
 * Death of app processes: proof, orphans, and the return of memory.
 *
 * Main thread. A process is dead when its end of the bell has hung up; the end of its attach connection proves nothing,
 * since it may come back. Its workers drain: the engine finishes their orphans and says so, then the segments are
 * dropped everywhere. All of it is in the registry (`used` = 2), so that the next broker goes on with it.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

static void death_on_bell(void *ctx, int fd, uint32_t events) {
  struct proc_rt *rt = ctx;
  struct broker *b = rt->b;
  (void)fd;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0)
    death_proc(b, (uint32_t)(rt - b->proc));
}

int death_watch(struct broker *b, uint32_t proc) {
  uint64_t id = b->reg.proc[proc].id;
  uint32_t bell = registry_item_find(&b->reg, ABI_ITEM_BELL, 0, id);
  uint32_t door = registry_item_find(&b->reg, ABI_ITEM_DOORBELL, 0, id);
  if (bell == REGISTRY_NONE || b->item[bell].fd < 0 || door == REGISTRY_NONE || b->item[door].fd < 0)
    return -ENOENT;
  struct pollfd pfd = {.fd = b->item[bell].fd};
  if (poll(&pfd, 1, 0) < 0 || (pfd.revents & POLLHUP) != 0)
    return -EPIPE;
  /* No event but HUP is asked for, so that nothing the process writes can wake us. */
  int rc = loop_add_fd(b->svc.loop, b->item[bell].fd, EPOLLET, death_on_bell, &b->proc[proc]);
  if (rc == 0)
    b->proc[proc].bell_fd = b->item[bell].fd;
  return rc;
}

/** Frees the worker's segments and record. */
static void death_free_worker(struct broker *b, uint32_t w) {
  struct abi_reg_worker *r = &b->reg.worker[w];
  uint64_t proc_id = r->proc_id;
  uint32_t e = vault_by_id(b, r->seg_e), a = vault_by_id(b, r->seg_a);
  parts_drop_worker(b, r->id);
  FAULT_POINT("broker.death.parts");
  if (a != REGISTRY_NONE)
    vault_drop(b, a);
  FAULT_POINT("broker.death.a");
  if (e != REGISTRY_NONE)
    vault_drop(b, e);
  registry_used_set(&r->used, 0);
  uint32_t proc = registry_proc_find(&b->reg, proc_id);
  if (proc != REGISTRY_NONE)
    death_collect(b, proc);
}

/** Whether the engine was ever given both segments: else nothing of the worker can live in it. */
static int death_engine_knows(const struct broker *b, const struct abi_reg_worker *w) {
  uint32_t a = vault_by_id(b, w->seg_a);
  return a != REGISTRY_NONE &&
         (b->item[a].sent != 0 || b->item[a].have != 0 || registry_item_state(&b->reg, a) >= ABI_ITEM_VAULTED);
}

/** Which sockets were where, once per worker that had any: nobody runs on the kernel without a trace. And whether it
 * ever slept over work. */
static void death_tell(const struct broker *b, uint32_t worker) {
  const struct abi_reg_worker *w = &b->reg.worker[worker];
  uint32_t app = registry_app_find(&b->reg, w->app_id), proc = registry_proc_find(&b->reg, w->proc_id);
  struct workers_words said;
  workers_words(b, worker, &said);
  const char *name = app != REGISTRY_NONE ? b->reg.app[app].name : "-";
  uint32_t pid = proc != REGISTRY_NONE ? b->reg.proc[proc].pid : 0;
  if ((said.on_stack | said.on_kernel) != 0)
    log_info("broker.sockets", "app %.64s (pid %u, worker %llu): %u sockets on the stack, %u on the kernel", name, pid,
             (unsigned long long)w->id, said.on_stack, said.on_kernel);
  if (said.lost != 0)
    log_info("broker.lost", "app %.64s (pid %u, worker %llu): %u datagrams by cut-through found no room", name, pid,
             (unsigned long long)w->id, said.lost);
  if (said.late != 0)
    log_warn("broker.late", "app %.64s (pid %u, worker %llu): %u lost wake-ups, as it says", name, pid,
             (unsigned long long)w->id, said.late);
}

void death_worker(struct broker *b, uint32_t worker, const char *why) {
  struct abi_reg_worker *w = &b->reg.worker[worker];
  if (w->used != REG_LIVE)
    return;
  if (why != NULL)
    log_warn("broker.worker", "worker %llu: %s", (unsigned long long)w->id, why);
  death_tell(b, worker);
  registry_used_set(&w->used, REG_DYING);
  b->worker[worker].live = 0;
  listen_drop_worker(b, w->id);
  pair_drop_worker(b, w->id);
  if (death_engine_knows(b, w))
    custody_srv_worker_dead(b, w->id);
  else
    death_free_worker(b, worker);
}

void death_proc(struct broker *b, uint32_t proc) {
  struct abi_reg_proc *p = &b->reg.proc[proc];
  if (p->used != REG_LIVE)
    return;
  registry_used_set(&p->used, REG_DYING);
  broker_count(b, BROKER_STAT_DEATHS);
  log_info("broker.death", "process %llu (pid %u) is dead", (unsigned long long)p->id, p->pid);
  if (b->proc[proc].bell_fd >= 0)
    loop_del_fd(b->svc.loop, b->proc[proc].bell_fd);
  b->proc[proc].bell_fd = -1;
  if (b->proc[proc].conn != NULL) {
    pend_drop(b, b->proc[proc].conn);
    b->proc[proc].conn->proc = REGISTRY_NONE;
    b->proc[proc].conn = NULL;
  }
  death_finish(b, proc);
}

void death_finish(struct broker *b, uint32_t proc) {
  uint64_t id = b->reg.proc[proc].id;
  for (uint32_t i = 0; i < b->reg.n_workers; i++)
    if (b->reg.worker[i].used == REG_LIVE && b->reg.worker[i].proc_id == id)
      death_worker(b, i, NULL);
  if (b->reg.proc[proc].id == id) /* the last worker may have collected it already */
    death_collect(b, proc);
}

void death_collect(struct broker *b, uint32_t proc) {
  struct abi_reg_proc *p = &b->reg.proc[proc];
  if (p->used != REG_DYING)
    return;
  for (uint32_t i = 0; i < b->reg.n_workers; i++)
    if (b->reg.worker[i].used != 0 && b->reg.worker[i].proc_id == p->id)
      return;
  uint32_t bell = registry_item_find(&b->reg, ABI_ITEM_BELL, 0, p->id);
  uint32_t door = registry_item_find(&b->reg, ABI_ITEM_DOORBELL, 0, p->id);
  if (bell != REGISTRY_NONE)
    vault_drop(b, bell);
  if (door != REGISTRY_NONE)
    vault_drop(b, door);
  uint64_t app_id = p->app_id;
  memset(p->token, 0, sizeof p->token);
  registry_used_set(&p->used, 0);
  death_collect_app(b, app_id);
}

void death_collect_app(struct broker *b, uint64_t app_id) {
  uint32_t app = registry_app_find(&b->reg, app_id);
  for (uint32_t i = 0; i < b->reg.n_procs; i++)
    if (b->reg.proc[i].used != 0 && b->reg.proc[i].app_id == app_id)
      return;
  if (app != REGISTRY_NONE)
    registry_used_set(&b->reg.app[app].used, 0);
}

void death_drained(struct broker *b, uint64_t worker_id) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  if (w == REGISTRY_NONE)
    return; /* said twice */
  if (b->reg.worker[w].used != REG_DYING) {
    log_warn("broker.drained", "engine says that worker %llu is drained, but it lives", (unsigned long long)worker_id);
    return;
  }
  broker_count(b, BROKER_STAT_DRAINED);
  death_free_worker(b, w);
}

void death_lied(struct broker *b, uint64_t worker_id, const char *why) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  if (w == REGISTRY_NONE || b->reg.worker[w].used != REG_LIVE)
    return;
  broker_count(b, BROKER_STAT_LIED);
  char text[128];
  size_t n = strnlen(why, sizeof text - 16);
  memcpy(text, "it lied: ", 9);
  memcpy(text + 9, why, n);
  text[9 + n] = '\0';
  death_worker(b, w, text);
}

void death_repeat(struct broker *b) {
  for (uint32_t i = 0; i < b->reg.n_workers; i++)
    if (b->reg.worker[i].used == REG_DYING)
      custody_srv_worker_dead(b, b->reg.worker[i].id);
}
