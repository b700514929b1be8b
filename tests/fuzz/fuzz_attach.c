/*
 * Hostile requests through the broker's handler table: a broker in this process with engine and nicio as bare sockets.
 * Input: messages, each behind two bytes of length. Worker ids below 8 and tokens of zeros are replaced by real ones,
 * so that mutations reach behind the doors. Checked after each message: everything that is held is held once.
 */
#include "base/bits.h"
#include "base/log.h"
#include "broker_bare.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *fuzz_loop;
static void need(int cond) {
  if (!cond)
    abort();
}

static void check(const struct broker *b) {
  uint32_t live = 0, held = 0;
  for (uint32_t i = 0; i < b->policy->listen_high; i++) {
    need((b->entry[i].gen & 1) == 0);
    live += b->entry[i].live != 0;
  }
  for (uint32_t i = 0; i < b->bind_high; i++) {
    const struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used == 0)
      continue;
    uint32_t w = registry_worker_find(&b->reg, r->worker_id);
    need(w != REGISTRY_NONE && b->reg.worker[w].used == REG_LIVE && r->port != 0 && r->proto <= 1);
    if (b->bind[i].policy == REGISTRY_NONE)
      continue;
    held++;
    const struct abi_listen_entry *e = &b->entry[b->bind[i].policy];
    need(e->live == 1 && e->worker_id == r->worker_id && e->slot == r->slot && e->slot_gen == r->gen);
    need(e->backlog >= 1 && e->backlog <= 65535);
  }
  need(live == held);
}

static uint64_t real_worker(const struct broker *b, uint64_t id) {
  return id < HS_MIN(8u, b->reg.n_workers) && b->reg.worker[id].used != 0 ? b->reg.worker[id].id : id;
}

static void real_token(const struct broker *b, ProtobufCBinaryData *t) {
  static const uint8_t zero[16];
  if (t->len == 16 && memcmp(t->data, zero, 16) == 0)
    memcpy(t->data, b->reg.proc[0].token, 16);
}

/** The message with real names in it, through the door. */
static void request(struct broker *b, struct conn *c, const uint8_t *data, size_t len) {
  Hoststack__Attach__Request *r = hoststack__attach__request__unpack(NULL, len, data);
  uint8_t buf[4096];
  if (r == NULL) {
    attach_srv_request(b, c, data, len);
    return;
  }
  switch (r->body_case) {
  case HOSTSTACK__ATTACH__REQUEST__BODY_HELLO:
    real_token(b, &r->hello->token);
    real_token(b, &r->hello->parent_token);
    break;
  case HOSTSTACK__ATTACH__REQUEST__BODY_WORKER_MAPPED:
    r->worker_mapped->worker_id = real_worker(b, r->worker_mapped->worker_id);
    break;
  case HOSTSTACK__ATTACH__REQUEST__BODY_REMOVE_WORKER:
    r->remove_worker->worker_id = real_worker(b, r->remove_worker->worker_id);
    break;
  case HOSTSTACK__ATTACH__REQUEST__BODY_BIND:
    r->bind->worker_id = real_worker(b, r->bind->worker_id);
    break;
  case HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN:
    r->listen->worker_id = real_worker(b, r->listen->worker_id);
    if (r->listen->share_of == 1 && b->bind_high > 0)
      r->listen->share_of = b->reg.bind[0].listener_id;
    break;
  case HOSTSTACK__ATTACH__REQUEST__BODY_UNBIND:
    r->unbind->worker_id = real_worker(b, r->unbind->worker_id);
    break;
  default:
    break;
  }
  if (hoststack__attach__request__get_packed_size(r) <= sizeof buf)
    attach_srv_request(b, c, buf, hoststack__attach__request__pack(r, buf));
  hoststack__attach__request__free_unpacked(r, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct broker_bare t;
  struct broker *b = &t.b;
  if (fuzz_loop == NULL) {
    log_set_level(LOG_LEVEL_ERROR);
    need(loop_new(&fuzz_loop) == 0);
  }
  broker_bare_up(&t, fuzz_loop);
  struct conn *c[2] = {broker_bare_conn(&t, 7), broker_bare_conn(&t, 7)};
  for (unsigned n = 0; size >= 2 && n < 64; n++) {
    size_t len = HS_MIN((size_t)(data[0] | (data[1] & 0x0f) << 8), size - 2);
    request(b, c[data[1] >> 7], data + 2, len);
    broker_bare_nod(&t);
    need(list_empty(&b->pends));
    check(b);
    data += 2 + len;
    size -= 2 + len;
  }
  broker_bare_down(&t);
  need(loop_turn(fuzz_loop, 0) >= 0);
  return 0;
}
