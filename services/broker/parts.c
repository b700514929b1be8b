/*
 * Parts of A segments: memory of written bytes, asked for by the app before it runs out and given back when empty
 * (shm/part.h).
 *
 * Handlers of attach_srv.c, main thread. AddPart: an item, a memfd, and the app gets it → it maps it and says so → it
 * is sealed against further writers, the seals are checked → engine and nicio have it in their vaults and mapped → the
 * app is told and may use it. It waits for a service that is away: whoever has no connection to this broker may be
 * alive all the same, and would read zeros where the app has written. DropPart: everybody closes it; what a service
 * reads there later is zeros. A broker that dies before the services had it leaves an item without a descriptor: the
 * next one forgets it, and PartMapped is answered with ENOENT.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"
#include "shm/part.h"

#include <sys/stat.h>
#include <unistd.h>

static int parts_is(const struct abi_item *it, uint64_t worker_id) {
  return it->state != ABI_ITEM_FREE && it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART &&
         it->owner == worker_id;
}

/** The worker's part that has any byte of [place, place+size), or REGISTRY_NONE. */
static uint32_t parts_find(const struct broker *b, uint64_t worker_id, uint64_t place, uint64_t size) {
  for (uint32_t i = 0; i < b->reg.n_items; i++) {
    const struct abi_item *it = &b->reg.item[i];
    if (parts_is(it, worker_id) && it->place < place + size && place < it->place + it->size)
      return i;
  }
  return REGISTRY_NONE;
}

/** The live worker of this process whose A is sealed and has parts, or REGISTRY_NONE. */
static uint32_t parts_worker(const struct broker *b, const struct conn *c, uint64_t worker_id) {
  uint32_t w = workers_of_conn(b, c, worker_id);
  uint32_t e = w != REGISTRY_NONE ? vault_by_id(b, b->reg.worker[w].seg_e) : REGISTRY_NONE;
  return e != REGISTRY_NONE && registry_item_state(&b->reg, e) == ABI_ITEM_CONFIRMED ? w : REGISTRY_NONE;
}

/** The descriptor goes to the app. 0 or -errno. */
static int parts_send(struct broker *b, struct conn *c, uint32_t seq, uint32_t idx) {
  Hoststack__Attach__AddPartReply ap = HOSTSTACK__ATTACH__ADD_PART_REPLY__INIT;
  Hoststack__Attach__Reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  ap.place = b->reg.item[idx].place;
  ap.size = b->reg.item[idx].size;
  r.seq = seq;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_ADD_PART;
  r.add_part = &ap;
  FAULT_POINT("broker.part.made");
  (void)attach_srv_reply(c, &r, &b->item[idx].fd, 1);
  FAULT_POINT("broker.part.sent");
  return 0;
}

int parts_on_add(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__AddPart *m,
                 const char **text) {
  uint32_t w = parts_worker(b, c, m->worker_id);
  uint64_t off = 0, len = 0;
  if (w == REGISTRY_NONE) {
    *text = "add part: no such worker of this process";
    return -ENOENT;
  }
  const struct abi_reg_worker *r = &b->reg.worker[w];
  if (part_place(r->tx_arena, r->tx_first, r->tx_step, m->n, &off, &len) < 0) {
    *text = "add part: the arena has no such place";
    return -EINVAL;
  }
  if (m->whole)
    len = r->tx_arena - off;
  uint64_t place = r->tx_off + off;
  uint32_t idx = parts_find(b, r->id, place, len);
  if (idx != REGISTRY_NONE) {
    const struct abi_item *it = &b->reg.item[idx];
    if (it->place == place && it->size == len && b->item[idx].fd >= 0 && !part_fd_ok(b->item[idx].fd, len, 1))
      return parts_send(b, c, seq, idx); /* our answer was lost */
    *text = "add part: there is one already";
    return -EEXIST;
  }
  int rc = limit_part(b, r->app_id, m->whole ? 0 : len, text);
  if (rc < 0)
    return rc;
  int fd = part_create(len);
  idx =
      fd >= 0 ? registry_part_new(&b->reg, registry_id(&b->reg), r->id, place, len, m->whole ? 0 : len) : REGISTRY_NONE;
  if (idx == REGISTRY_NONE) {
    *text = "add part: no memory, descriptors or records left";
    if (fd >= 0)
      close(fd);
    return fd < 0 ? fd : -ENOSPC;
  }
  b->item[idx].fd = fd;
  broker_count(b, BROKER_STAT_PARTS);
  return parts_send(b, c, seq, idx);
}

int parts_on_mapped(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__PartMapped *m,
                    const char **text) {
  uint32_t w = parts_worker(b, c, m->worker_id);
  uint32_t idx = w != REGISTRY_NONE ? parts_find(b, m->worker_id, m->place, 1) : REGISTRY_NONE;
  if (idx == REGISTRY_NONE || b->reg.item[idx].place != m->place || b->item[idx].fd < 0) {
    *text = "part mapped: no such part, add it";
    return -ENOENT;
  }
  int rc = seg_seal_writers(b->item[idx].fd);
  if (rc < 0 || !part_fd_ok(b->item[idx].fd, b->reg.item[idx].size, 1)) {
    *text = "part mapped: it can't be sealed";
    death_worker(b, w, "a part of its A segment can't be sealed");
    return rc < 0 ? rc : -EPERM;
  }
  FAULT_POINT("broker.part.sealed");
  struct pend *p = pend_new(c, seq, PEND_PART, idx, b->reg.item[idx].id);
  if (p == NULL)
    return -ENOMEM;
  vault_give_round(b, idx);
  FAULT_POINT("broker.part.given");
  pend_check(b);
  return 0;
}

int parts_done(struct broker *b, struct pend *p) {
  const struct abi_item *it = &b->reg.item[p->idx];
  if (it->state == ABI_ITEM_FREE || it->id != p->id) {
    attach_srv_answer(p->conn, p->seq, -ENOENT, "part mapped: the part is gone");
    return 1;
  }
  const uint8_t all = 1u << CUSTODY_ENGINE | 1u << CUSTODY_NICIO;
  if ((b->item[p->idx].have & all) != all)
    return 0;
  FAULT_POINT("broker.part.vaulted");
  attach_srv_answer(p->conn, p->seq, 0, NULL);
  return 1;
}

int parts_on_drop(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__DropPart *m,
                  const char **text) {
  uint32_t w = parts_worker(b, c, m->worker_id);
  if (w == REGISTRY_NONE) {
    *text = "drop part: no such worker of this process";
    return -ENOENT;
  }
  uint32_t idx = parts_find(b, m->worker_id, m->place, 1);
  if (idx != REGISTRY_NONE && b->reg.item[idx].place == m->place) { /* else it was said twice */
    FAULT_POINT("broker.part.drop");
    vault_drop(b, idx);
    FAULT_POINT("broker.part.dropped");
  }
  attach_srv_answer(c, seq, 0, NULL);
  return 0;
}

void parts_drop_worker(struct broker *b, uint64_t worker_id) {
  for (uint32_t i = 0; i < b->reg.n_items; i++)
    if (parts_is(&b->reg.item[i], worker_id))
      vault_drop(b, i);
}

uint32_t parts_count(const struct broker *b, uint64_t worker_id) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->reg.n_items; i++)
    n += (uint32_t)parts_is(&b->reg.item[i], worker_id);
  return n;
}

uint64_t parts_memory(const struct broker *b, uint64_t worker_id) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < b->reg.n_items; i++) {
    const struct abi_item *it = &b->reg.item[i];
    struct stat st;
    if (!parts_is(it, worker_id))
      continue;
    uint64_t touched = b->item[i].fd >= 0 && fstat(b->item[i].fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
    sum += touched > it->charge ? touched : it->charge;
  }
  return sum;
}
