/*
 * A broker without a process (broker_bare.h). Used by fuzz_attach and prop_ports.
 */
#include "broker_bare.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

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

void broker_bare_up(struct broker_bare *t, struct loop *l) {
  struct broker *b = &t->b;
  memset(t, 0, sizeof *t);
  config_defaults(&b->svc.cfg);
  b->svc.cfg.max_apps = b->svc.cfg.max_workers = 4;
  b->svc.cfg.max_connections = 16;
  b->svc.cfg.slots_per_worker = 16;
  b->svc.cfg.arena_bytes = 1u << 20;
  b->svc.cfg.rx_slots = b->svc.cfg.tx_slots = 256;
  b->svc.loop = l;
  broker_init(b);
  t->ends[0] = fake_service(b, CUSTODY_ENGINE);
  t->ends[1] = fake_service(b, CUSTODY_NICIO);
  boot_step(b);
  need(b->boot == BOOT_DONE);
}

void broker_bare_down(struct broker_bare *t) {
  broker_fini(&t->b);
  close(t->ends[0]);
  close(t->ends[1]);
}

struct conn *broker_bare_conn(struct broker_bare *t, uint32_t uid) {
  struct conn *c = calloc(1, sizeof *c);
  need(c != NULL);
  *c = (struct conn){.b = &t->b, .proc = REGISTRY_NONE, .cred = {.pid = 1, .uid = uid, .gid = uid}};
  list_add_tail(&t->b.conns, &c->link);
  t->b.n_conns++;
  return c;
}

static void drain(int fd) {
  static uint8_t buf[65536];
  int fds[4], n = 0;
  while (attach_recv(fd, buf, sizeof buf, fds, 4, &n) > 0)
    while (n > 0)
      close(fds[--n]);
}

void broker_bare_nod(struct broker_bare *t) {
  struct broker *b = &t->b;
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
  drain(t->ends[0]);
  drain(t->ends[1]);
}
