/*
 * Hostile requests through the broker's handler table: a broker in this process with engine and nicio as bare sockets.
 * Input: messages, each behind two bytes of length. Worker ids below 8 and tokens of zeros are replaced by real ones,
 * so that mutations reach behind the doors. Checked after each message: everything that is held is held once.
 */
#include "base/bits.h"
#include "base/log.h"
#include "broker.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *fuzz_loop;
static const struct chan_ops no_ops = {.msg = NULL, .closed = NULL};

static void need(int cond) {
  if (!cond)
    abort();
}

/** A service of which only the socket exists. Returns its end. */
static int fake_service(struct broker *b, uint32_t who) {
  int fds[2];
  struct vault_svc *v = calloc(1, sizeof *v);
  need(v != NULL && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
  need(chan_new(&v->ch, b->svc.loop, fds[0], 1, 16u << 20, &no_ops, v) == 0);
  v->b = b;
  v->service = who;
  v->hello = 1;
  b->vsvc[who] = v;
  return fds[1];
}

static void drain(int fd) {
  static uint8_t buf[65536];
  int fds[4], n = 0;
  while (attach_recv(fd, buf, sizeof buf, fds, 4, &n) > 0)
    while (n > 0)
      close(fds[--n]);
}

/** What a healthy engine says: everything is vaulted, served and seen. */
static void engine_nods(struct broker *b) {
  for (uint32_t i = 0; i < b->reg.n_items; i++) {
    uint32_t st = registry_item_state(&b->reg, i);
    if (st == ABI_ITEM_FREE || b->item[i].sent == 0)
      continue;
    b->item[i].have |= b->item[i].sent;
    if (st == ABI_ITEM_RESERVED)
      registry_item_set(&b->reg, i, ABI_ITEM_VAULTED);
    if (b->reg.item[i].kind == ABI_ITEM_SEG && b->reg.item[i].seg_kind == ABI_SEG_APP) {
      uint32_t w = registry_worker_find(&b->reg, b->reg.item[i].owner);
      if (w != REGISTRY_NONE)
        b->worker[w].live = 1;
    }
  }
  b->policy_seen = b->policy->policy_gen;
  b->policy_seen_valid = 1;
  pend_check(b);
  need(list_empty(&b->pends));
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

static void broker_up(struct broker *b, int ends[2]) {
  memset(b, 0, sizeof *b);
  config_defaults(&b->svc.cfg);
  b->svc.cfg.max_apps = b->svc.cfg.max_workers = 4;
  b->svc.cfg.max_connections = 16;
  b->svc.cfg.slots_per_worker = 16;
  b->svc.cfg.arena_bytes = 1u << 20;
  b->svc.cfg.rx_slots = b->svc.cfg.tx_slots = 256;
  b->svc.loop = fuzz_loop;
  broker_init(b);
  ends[0] = fake_service(b, CUSTODY_ENGINE);
  ends[1] = fake_service(b, CUSTODY_NICIO);
  boot_step(b);
  need(b->boot == BOOT_DONE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct broker b;
  struct conn *c[2];
  int ends[2];
  if (fuzz_loop == NULL) {
    log_set_level(LOG_LEVEL_ERROR);
    need(loop_new(&fuzz_loop) == 0);
  }
  broker_up(&b, ends);
  for (int i = 0; i < 2; i++) {
    c[i] = calloc(1, sizeof *c[i]);
    need(c[i] != NULL);
    *c[i] = (struct conn){.b = &b, .proc = REGISTRY_NONE, .cred = {.pid = 1, .uid = 7, .gid = 7}};
    list_add_tail(&b.conns, &c[i]->link);
  }
  for (unsigned n = 0; size >= 2 && n < 64; n++) {
    size_t len = HS_MIN((size_t)(data[0] | (data[1] & 0x0f) << 8), size - 2);
    request(&b, c[data[1] >> 7], data + 2, len);
    engine_nods(&b);
    check(&b);
    drain(ends[0]);
    drain(ends[1]);
    data += 2 + len;
    size -= 2 + len;
  }
  broker_fini(&b);
  close(ends[0]);
  close(ends[1]);
  need(loop_turn(fuzz_loop, 0) >= 0);
  return 0;
}
