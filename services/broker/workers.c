/*
 * Workers of an app: their E and A segments from creation to the moment the engine serves them.
 *
 * Handlers of attach_srv.c, main thread. Order (ARCHITECTURE sections 3 and 6): E into the vaults → the app is sent
 * [E read-only, A read-write] → the app maps both and says so → A is sealed against further writers, the seals are
 * checked → A into the vaults → the engine serves the worker → the app is told.
 */
#include "broker.h"

#include "base/bits.h"
#include "base/fault.h"
#include "base/log.h"
#include "shm/session.h"

#include <fcntl.h>
#include <unistd.h>

#define WORKERS_KEEP (4ull << 20) /* bytes: segment-size and add-segment-size of who does not say */
#define WORKERS_STEP (4ull << 20)
#define WORKER_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

uint32_t workers_of_conn(const struct broker *b, const struct conn *c, uint64_t worker_id) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  if (w == REGISTRY_NONE || c->proc == REGISTRY_NONE || b->reg.worker[w].used != REG_LIVE ||
      b->reg.worker[w].proc_id != b->reg.proc[c->proc].id)
    return REGISTRY_NONE;
  return w;
}

uint32_t workers_of_app(const struct broker *b, const struct conn *c, uint64_t worker_id) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  if (w == REGISTRY_NONE || c->proc == REGISTRY_NONE || b->reg.worker[w].used != REG_LIVE ||
      b->reg.worker[w].app_id != b->reg.proc[c->proc].app_id)
    return REGISTRY_NONE;
  return w;
}

/** The app spoke again after it was sent its bells: it has them. */
static void workers_confirm_proc(struct broker *b, uint32_t proc) {
  static const uint32_t kinds[] = {ABI_ITEM_BELL, ABI_ITEM_DOORBELL};
  for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
    uint32_t idx = registry_item_find(&b->reg, kinds[i], 0, b->reg.proc[proc].id);
    if (idx != REGISTRY_NONE && registry_item_state(&b->reg, idx) != ABI_ITEM_CONFIRMED)
      registry_item_set(&b->reg, idx, ABI_ITEM_CONFIRMED);
  }
}

static uint64_t workers_arena(const struct broker *b, uint64_t asked) {
  uint64_t max = b->svc.cfg.arena_bytes;
  uint64_t size = asked == 0 || asked > max ? max : asked;
  return bits_align_up(size, ABI_CHUNK_MAX);
}

/** E. Item index or -errno. */
static int workers_seg_e(struct broker *b, const struct abi_reg_worker *w, uint32_t n_slots,
                         const Hoststack__Attach__AddWorker *m) {
  struct abi_worker_geom g;
  uint64_t arena = workers_arena(b, m->rx_arena);
  uint64_t size = worker_geom_make(&g, ABI_SEG_ENGINE, w->id, w->app_id, n_slots, ABI_LANES_MAX, arena);
  g.arena_keep = HS_MIN(m->rx_keep != 0 ? m->rx_keep : WORKERS_KEEP, g.arena_size);
  g.arena_step = m->rx_fixed ? 0 : HS_MIN(m->rx_step != 0 ? m->rx_step : WORKERS_STEP, g.arena_size);
  return vault_seg_new(b, "hs-e", ABI_SEG_ENGINE, w->seg_e, w->id, size, &g, 0);
}

/** A: the whole arena at once, or the first bytes of it, for who asks for the rest in parts. Item index or -errno. */
static int workers_seg_a(struct broker *b, struct abi_reg_worker *w, uint32_t n_slots,
                         const Hoststack__Attach__AddWorker *m) {
  struct abi_worker_geom g;
  uint64_t arena = workers_arena(b, m->tx_arena);
  uint64_t first = bits_align_up(m->tx_keep != 0 ? HS_MIN(m->tx_keep, arena) : WORKERS_KEEP, ABI_CHUNK_MAX);
  uint64_t step = bits_align_up(m->tx_step != 0 ? HS_MIN(m->tx_step, arena) : WORKERS_STEP, ABI_CHUNK_MAX);
  if (m->tx_parts && m->tx_fixed)
    arena = HS_MIN(arena, first);
  uint64_t size = worker_geom_make(&g, ABI_SEG_APP, w->id, w->app_id, n_slots, ABI_LANES_MAX, arena);
  g.arena_keep = m->tx_parts ? HS_MIN(first, arena) : arena;
  g.arena_step = g.arena_keep < arena ? HS_MIN(step, arena) : 0;
  w->tx_off = g.arena_off;
  w->tx_arena = g.arena_size;
  w->tx_first = g.arena_keep;
  w->tx_step = g.arena_step;
  int idx = vault_seg_new(b, "hs-a", ABI_SEG_APP, w->seg_a, w->id, size - (arena - g.arena_keep), &g, 0);
  if (idx >= 0 && g.arena_keep < arena)
    b->reg.item[idx].place = size; /* nobody has it yet */
  return idx;
}

int workers_on_add(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__AddWorker *m,
                   const char **text) {
  const struct abi_reg_proc *proc = &b->reg.proc[c->proc];
  uint32_t max = b->svc.cfg.slots_per_worker;
  uint32_t slots = m->n_slots == 0 || m->n_slots > max ? max : HS_MAX(m->n_slots, BROKER_SLOTS_MIN);
  int rc = limit_worker(b, proc->app_id, &slots, text);
  if (rc < 0)
    return rc;
  uint64_t id = registry_id(&b->reg), id_e = registry_id(&b->reg), id_a = registry_id(&b->reg);
  workers_confirm_proc(b, c->proc);
  uint32_t w = registry_worker_new(&b->reg, id, proc->id, proc->app_id, id_e, id_a);
  if (w == REGISTRY_NONE) {
    *text = "add worker: broker.max-workers workers exist";
    return -EUSERS;
  }
  b->worker[w] = (struct worker_rt){.slots = slots};
  int e = workers_seg_e(b, &b->reg.worker[w], slots, m);
  FAULT_POINT("broker.worker.e");
  int a = e < 0 ? e : workers_seg_a(b, &b->reg.worker[w], slots, m);
  struct pend *p = a < 0 ? NULL : pend_new(c, seq, PEND_ADD, w, id);
  if (p == NULL) {
    *text = "add worker: no memory or no descriptors left";
    death_worker(b, w, "could not be made");
    return a < 0 ? a : -ENOMEM;
  }
  vault_give_round(b, (uint32_t)e);
  broker_count(b, BROKER_STAT_WORKERS);
  pend_check(b);
  return 0;
}

/** 1 answered, 0 E is not in the engine's vault yet. */
int workers_add_done(struct broker *b, struct pend *p) {
  const struct abi_reg_worker *w = &b->reg.worker[p->idx];
  uint32_t e = w->id == p->id && w->used == REG_LIVE ? vault_by_id(b, w->seg_e) : REGISTRY_NONE;
  uint32_t a = e != REGISTRY_NONE ? vault_by_id(b, w->seg_a) : REGISTRY_NONE;
  if (a == REGISTRY_NONE) {
    attach_srv_answer(p->conn, p->seq, -ENOENT, "add worker: the worker is gone");
    return 1;
  }
  if (!vault_engine_has(b, e))
    return 0;
  struct seg s = {.fd = b->item[e].fd};
  int ro = seg_reopen_rdonly(&s);
  if (ro < 0) {
    attach_srv_answer(p->conn, p->seq, ro, "add worker: read-only descriptor");
    return 1;
  }
  Hoststack__Attach__AddWorkerReply ar = HOSTSTACK__ATTACH__ADD_WORKER_REPLY__INIT;
  Hoststack__Attach__Reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  ar.worker_id = w->id;
  r.seq = p->seq;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_ADD_WORKER;
  r.add_worker = &ar;
  int fds[2] = {ro, b->item[a].fd};
  FAULT_POINT("broker.worker.vaulted");
  int rc = attach_srv_reply(p->conn, &r, fds, 2);
  FAULT_POINT("broker.worker.sent");
  if (rc == 0)
    registry_item_set(&b->reg, e, ABI_ITEM_SENT);
  close(ro);
  return 1;
}

int workers_on_mapped(struct broker *b, struct conn *c, uint32_t seq, uint64_t worker_id, const char **text) {
  uint32_t w = workers_of_conn(b, c, worker_id);
  uint32_t e = w != REGISTRY_NONE ? vault_by_id(b, b->reg.worker[w].seg_e) : REGISTRY_NONE;
  uint32_t a = w != REGISTRY_NONE ? vault_by_id(b, b->reg.worker[w].seg_a) : REGISTRY_NONE;
  if (a == REGISTRY_NONE || e == REGISTRY_NONE || registry_item_state(&b->reg, e) < ABI_ITEM_SENT) {
    *text = "worker mapped: no such worker of this process, add one";
    return -ENOENT;
  }
  int fd = b->item[a].fd;
  int rc = seg_seal_writers(fd);
  int seals = fcntl(fd, F_GET_SEALS);
  if (rc < 0 || seals < 0 || (seals & WORKER_SEALS) != WORKER_SEALS || (seals & F_SEAL_WRITE) != 0) {
    *text = "worker mapped: the A segment can't be sealed";
    death_worker(b, w, "its A segment can't be sealed");
    return rc < 0 ? rc : -EPERM;
  }
  FAULT_POINT("broker.worker.sealed");
  struct pend *p = pend_new(c, seq, PEND_LIVE, w, worker_id);
  if (p == NULL)
    return -ENOMEM;
  vault_give_round(b, a);
  registry_item_set(&b->reg, e, ABI_ITEM_CONFIRMED);
  pend_check(b);
  return 0;
}

void workers_words(const struct broker *b, uint32_t w, struct workers_words *out) {
  struct abi_worker_geom g;
  struct abi_worker_app block;
  uint32_t e = vault_by_id(b, b->reg.worker[w].seg_e), a = vault_by_id(b, b->reg.worker[w].seg_a);
  *out = (struct workers_words){.on_stack = 0};
  if (e == REGISTRY_NONE || a == REGISTRY_NONE || b->item[e].fd < 0 || b->item[a].fd < 0 ||
      pread(b->item[e].fd, &g, sizeof g, offsetof(struct abi_seg_hdr, geom)) != (ssize_t)sizeof g ||
      pread(b->item[a].fd, &block, sizeof block, (off_t)g.block_off) != (ssize_t)sizeof block)
    return;
  out->on_stack = block.sockets_stack;
  out->on_kernel = block.sockets_kernel;
  out->lost = block.dgrams_lost;
  for (uint32_t i = 0; i < ABI_LANES_MAX; i++)
    out->late += block.lane[i].from_engine.late_wakeup;
}

int workers_on_remove(struct broker *b, struct conn *c, uint32_t seq, uint64_t worker_id, const char **text) {
  uint32_t w = workers_of_conn(b, c, worker_id);
  (void)text;
  if (w != REGISTRY_NONE) /* else it was said twice */
    death_worker(b, w, NULL);
  attach_srv_answer(c, seq, 0, NULL);
  return 0;
}
