/*
 * The vault: every descriptor that the stack lives on, which service holds a dup of it, and its way through the states
 * RESERVED → VAULTED → SENT → CONFIRMED.
 *
 * Called by boot.c, custody_srv.c and the handlers, on the main thread. Engine and nicio hold everything; the api
 * server is given read-only dups of what it shows.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"
#include "shm/part.h"

#include <stdlib.h>
#include <unistd.h>

void vault_tables(struct broker *b) {
  b->item = calloc(b->reg.n_items, sizeof *b->item);
  if (b->item == NULL) {
    log_error("broker.memory", "no memory for %u items", b->reg.n_items);
    abort();
  }
  for (uint32_t i = 0; i < b->reg.n_items; i++)
    b->item[i].fd = -1;
}

void vault_free(struct broker *b) {
  for (uint32_t i = 0; b->item != NULL && i < b->reg.n_items; i++)
    if (b->item[i].fd >= 0)
      close(b->item[i].fd);
  free(b->item);
  b->item = NULL;
}

uint32_t vault_by_id(const struct broker *b, uint64_t id) {
  for (uint32_t i = 0; i < b->reg.n_items; i++)
    if (b->reg.item[i].id == id && registry_item_state(&b->reg, i) != ABI_ITEM_FREE)
      return i;
  return REGISTRY_NONE;
}

int vault_engine_has(const struct broker *b, uint32_t idx) {
  return (b->item[idx].have & (1u << CUSTODY_ENGINE)) != 0;
}

/** What the api server is given: 0 nothing, 1 read-only, 2 as it is (its own stats page). */
static int vault_api_gets(const struct abi_item *it) {
  if (it->kind != ABI_ITEM_SEG)
    return 0;
  if (it->seg_kind == ABI_SEG_STATS)
    return it->owner == CUSTODY_API ? 2 : 1;
  return it->seg_kind == ABI_SEG_TCB ? 1 : 0;
}

/** Whether a service may have it: what an app writes only once nobody else can become a writer of it. Who asks for
 * everything (a service that comes back) may do so before that; it is given with the app's word that it is mapped. */
static int vault_may_give(const struct broker *b, uint32_t idx) {
  const struct abi_item *it = &b->reg.item[idx];
  if (it->kind != ABI_ITEM_SEG || (it->seg_kind != ABI_SEG_APP && it->seg_kind != ABI_SEG_PART))
    return 1;
  return part_fd_ok(b->item[idx].fd, it->size, 1);
}

static void vault_give(struct broker *b, uint32_t service, uint32_t idx) {
  struct vault_svc *v = b->vsvc[service];
  struct vault_item *vi = &b->item[idx];
  uint8_t bit = (uint8_t)(1u << service);
  if (v == NULL || !v->hello || vi->fd < 0 || ((vi->have | vi->sent) & bit) != 0)
    return;
  int fd = vi->fd, api = service == CUSTODY_API ? vault_api_gets(&b->reg.item[idx]) : 2;
  if (api == 0 || !vault_may_give(b, idx))
    return;
  if (api == 1) {
    struct seg s = {.fd = fd};
    fd = seg_reopen_rdonly(&s);
    if (fd < 0) {
      log_warn_rl("broker.give", "read-only dup for api: %s", err_text(fd));
      return;
    }
  }
  if (custody_srv_send_give(b, service, idx, fd) == 0)
    vi->sent |= bit;
  if (fd != vi->fd)
    close(fd);
}

void vault_give_round(struct broker *b, uint32_t idx) {
  vault_give(b, CUSTODY_ENGINE, idx);
  vault_give(b, CUSTODY_NICIO, idx);
  vault_give(b, CUSTODY_API, idx);
}

void vault_give_all(struct broker *b, uint32_t service) {
  for (uint32_t i = 0; i < b->reg.n_items; i++)
    if (registry_item_state(&b->reg, i) != ABI_ITEM_FREE)
      vault_give(b, service, i);
}

void vault_put(struct broker *b, uint32_t idx, int fd) {
  if (b->item[idx].fd >= 0)
    close(b->item[idx].fd);
  b->item[idx].fd = fd;
  vault_give_round(b, idx);
}

void vault_drop(struct broker *b, uint32_t idx) {
  struct vault_item *vi = &b->item[idx];
  uint64_t id = b->reg.item[idx].id;
  for (uint32_t s = 1; s < BROKER_SERVICES; s++)
    if (b->vsvc[s] != NULL && ((vi->have | vi->sent) & (1u << s)) != 0)
      custody_srv_send_drop(b, s, id);
  if (vi->fd >= 0)
    close(vi->fd);
  *vi = (struct vault_item){.fd = -1};
  registry_item_set(&b->reg, idx, ABI_ITEM_FREE); /* a service that is away now is told when it shows the id again */
}

int vault_seg_new(struct broker *b, const char *name, uint32_t seg_kind, uint64_t id, uint64_t owner, uint64_t size,
                  const void *geom, int round) {
  uint64_t words[16];
  struct seg s;
  uint32_t idx = registry_item_new(&b->reg, id, ABI_ITEM_SEG, seg_kind, owner, size);
  if (idx == REGISTRY_NONE)
    return -ENOSPC;
  memcpy(words, geom, sizeof words);
  int rc = seg_create(&s, name, seg_kind, id, size, words);
  if (rc < 0) {
    registry_item_set(&b->reg, idx, ABI_ITEM_FREE);
    return rc;
  }
  b->reg.item[idx].size = s.size;
  int fd = s.fd;
  s.fd = -1; /* keeps the descriptor, loses the writable map: an A segment must have no writer but its app */
  seg_detach(&s);
  if (round)
    vault_put(b, idx, fd);
  else
    b->item[idx].fd = fd;
  return (int)idx;
}
