/*
 * The policy table: listeners as the engine reads them (abi/policy.h).
 *
 * Called by listen.c and boot.c on the main thread. An entry's generation is odd while its fields are written, and
 * `live` is the last field stored, so that a crash at any point leaves an entry that is either whole or free:
 * policy_repair only makes the generation even.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"

#include <unistd.h>

int policy_open(struct broker *b, uint32_t item) {
  struct abi_policy_geom g;
  const char *why = "?";
  int fd = item != REGISTRY_NONE ? dup(b->item[item].fd) : -1;
  if (fd < 0)
    return -ENOENT;
  int rc = seg_attach(&b->policy_seg, fd, ABI_SEG_POLICY, SEG_RDWR, &why);
  if (rc < 0) {
    log_error("broker.policy", "segment: %s", why);
    return rc;
  }
  memcpy(&g, b->policy_seg.geom, sizeof g);
  b->policy = seg_at(&b->policy_seg, g.block_off, sizeof *b->policy);
  b->entry = g.n_listen <= 1u << 20 ? seg_at(&b->policy_seg, g.listen_off, g.n_listen * sizeof *b->entry) : NULL;
  b->n_entries = (uint32_t)g.n_listen;
  return b->policy != NULL && b->entry != NULL && g.block_off % 64 == 0 && g.listen_off % 64 == 0 ? 0 : -EPROTO;
}

void policy_close(struct broker *b) {
  seg_detach(&b->policy_seg);
  b->policy = NULL;
}

static void policy_begin(struct abi_listen_entry *e) {
  __atomic_store_n(&e->gen, e->gen | 1u, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST); /* no field may be seen before the odd generation */
  FAULT_POINT("broker.policy.odd");
}

static void policy_end(struct abi_listen_entry *e) {
  FAULT_POINT("broker.policy.fields");
  uint32_t gen = (e->gen | 1u) + 1;
  __atomic_store_n(&e->gen, gen != 0 ? gen : 2, __ATOMIC_RELEASE);
  FAULT_POINT("broker.policy.even");
}

uint32_t policy_add(struct broker *b, const struct abi_listen_entry *from) {
  for (uint32_t i = 0; i < b->n_entries; i++) {
    struct abi_listen_entry *e = &b->entry[i];
    if (e->live != 0)
      continue;
    if (i >= b->policy->listen_high)
      __atomic_store_n(&b->policy->listen_high, i + 1, __ATOMIC_RELEASE);
    policy_begin(e);
    struct abi_listen_entry fill = *from;
    fill.gen = e->gen; /* stays odd under the reader's eyes */
    fill.live = 0;
    *e = fill;
    FAULT_POINT("broker.policy.live");
    __atomic_store_n(&e->live, 1u, __ATOMIC_RELEASE);
    policy_end(e);
    return i;
  }
  return REGISTRY_NONE;
}

void policy_backlog(struct broker *b, uint32_t idx, uint32_t backlog) {
  struct abi_listen_entry *e = &b->entry[idx];
  policy_begin(e);
  __atomic_store_n(&e->backlog, backlog, __ATOMIC_RELEASE);
  policy_end(e);
}

void policy_remove(struct broker *b, uint32_t idx) {
  struct abi_listen_entry *e = &b->entry[idx];
  policy_begin(e);
  __atomic_store_n(&e->live, 0u, __ATOMIC_RELEASE);
  policy_end(e);
}

uint32_t policy_publish(struct broker *b) {
  uint32_t gen = b->policy->policy_gen + 1;
  FAULT_POINT("broker.policy.gen");
  __atomic_store_n(&b->policy->policy_gen, gen, __ATOMIC_RELEASE);
  custody_srv_policy(b);
  return gen;
}

void policy_repair(struct broker *b) {
  for (uint32_t i = 0; i < b->n_entries && i < b->policy->listen_high; i++) {
    struct abi_listen_entry *e = &b->entry[i];
    uint32_t w = e->live != 0 ? registry_worker_find(&b->reg, e->worker_id) : REGISTRY_NONE;
    uint32_t bind = e->live != 0 ? ports_find(b, e->worker_id, e->slot, e->slot_gen) : REGISTRY_NONE;
    if (e->live != 0 && (w == REGISTRY_NONE || b->reg.worker[w].used != REG_LIVE || bind == REGISTRY_NONE))
      policy_remove(b, i);
    else if ((e->gen & 1u) != 0)
      policy_end(e);
    if (e->live != 0) {
      b->bind[bind].policy = i;
      b->reg.bind[bind].listener_id = e->listener_id;
    }
  }
  policy_publish(b);
}
