/*
 * Custody server: the broker's side of the conversation with engine, nicio and api (proto/custody.proto). One handler
 * per message; what they mean is in vault.c, boot.c and death.c.
 *
 * Main thread. A service that comes again while its old connection is still open replaces it.
 */
#include "broker.h"
#include "svc/custody_msg.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SHOWN_MAX (1u << 20) /* items one service may show */

static const char *const custody_names[BROKER_SERVICES] = {"?", "nicio", "engine", "?", "api"};

static void custody_srv_free(struct vault_svc *v) {
  list_del(&v->link);
  chan_free(v->ch);
  free(v->shown);
  free(v);
}

/** The service is gone, or another one takes its place. */
static void custody_srv_gone(struct broker *b, struct vault_svc *v) {
  uint32_t s = v->service;
  if (s != 0 && b->vsvc[s] == v) {
    uint8_t keep = (uint8_t) ~(1u << s);
    b->vsvc[s] = NULL;
    for (uint32_t i = 0; b->item != NULL && i < b->reg.n_items; i++) {
      b->item[i].have &= keep;
      b->item[i].sent &= keep;
      b->item[i].asked &= keep;
    }
    if (s == CUSTODY_ENGINE) {
      b->policy_seen_valid = 0;
      for (uint32_t i = 0; b->worker != NULL && i < b->reg.n_workers; i++)
        b->worker[i].live = 0;
    }
  }
  custody_srv_free(v);
  boot_step(b);
}

/* --- to the services --- */

static int custody_srv_say(struct broker *b, uint32_t service, const Hoststack__Custody__Message *m, int fd) {
  struct vault_svc *v = b->vsvc[service];
  int rc = v != NULL ? custody_msg_send(v->ch, m, fd) : -ENOTCONN;
  if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET && rc != -ENOTCONN)
    log_error("broker.custody", "%s: %s", custody_names[service], err_text(rc));
  return rc;
}

int custody_srv_send_give(struct broker *b, uint32_t service, uint32_t idx, int fd) {
  const struct abi_item *it = &b->reg.item[idx];
  struct custody_item plain = {.id = it->id,
                               .kind = it->kind,
                               .seg_kind = it->seg_kind,
                               .owner = it->owner,
                               .size = it->size,
                               .place = it->place,
                               .charge = it->charge};
  Hoststack__Custody__Item pb;
  Hoststack__Custody__Give give = HOSTSTACK__CUSTODY__GIVE__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  custody_msg_from_item(&pb, &plain);
  give.item = &pb;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_GIVE;
  m.give = &give;
  return custody_srv_say(b, service, &m, fd);
}

void custody_srv_send_drop(struct broker *b, uint32_t service, uint64_t id) {
  Hoststack__Custody__Drop drop = HOSTSTACK__CUSTODY__DROP__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  drop.n_id = 1;
  drop.id = &id;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_DROP;
  m.drop = &drop;
  custody_srv_say(b, service, &m, -1);
}

void custody_srv_welcome(struct broker *b, uint32_t service, const uint64_t *need, size_t n) {
  Hoststack__Custody__Welcome w = HOSTSTACK__CUSTODY__WELCOME__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  w.broker_epoch = b->reg.blk != NULL ? b->reg.blk->broker_epoch : 0;
  w.n_need = n;
  w.need = (uint64_t *)(uintptr_t)need;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WELCOME;
  m.welcome = &w;
  custody_srv_say(b, service, &m, -1);
}

void custody_srv_policy(struct broker *b) {
  Hoststack__Custody__PolicyGen pg = HOSTSTACK__CUSTODY__POLICY_GEN__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  pg.gen = __atomic_load_n(&b->policy->policy_gen, __ATOMIC_RELAXED);
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_GEN;
  m.policy_gen = &pg;
  if (b->vsvc[CUSTODY_ENGINE] != NULL && b->vsvc[CUSTODY_ENGINE]->ready)
    custody_srv_say(b, CUSTODY_ENGINE, &m, -1);
}

void custody_srv_worker_dead(struct broker *b, uint64_t worker_id) {
  Hoststack__Custody__WorkerDead wd = HOSTSTACK__CUSTODY__WORKER_DEAD__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  wd.worker_id = worker_id;
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DEAD;
  m.worker_dead = &wd;
  if (b->vsvc[CUSTODY_ENGINE] != NULL && b->vsvc[CUSTODY_ENGINE]->ready)
    custody_srv_say(b, CUSTODY_ENGINE, &m, -1);
}

/** What the service showed against what the registry says: unknown ids are dropped, known ones need no Give. */
static void custody_srv_compare(struct broker *b, struct vault_svc *v) {
  for (uint32_t i = 0; i < v->n_shown; i++) {
    const struct custody_item *it = &v->shown[i];
    uint32_t idx = v->service == CUSTODY_API ? REGISTRY_NONE : vault_by_id(b, it->id);
    const struct abi_item *r = idx != REGISTRY_NONE ? &b->reg.item[idx] : NULL;
    if (r != NULL && r->kind == it->kind && r->seg_kind == it->seg_kind && r->owner == it->owner)
      b->item[idx].have |= (uint8_t)(1u << v->service);
    else /* of another life of the stack, or api's: it keeps nothing for us and is given all anew */
      custody_srv_send_drop(b, v->service, it->id);
  }
  free(v->shown);
  v->shown = NULL;
  v->n_shown = 0;
}

void custody_srv_ready(struct broker *b, uint32_t service) {
  struct vault_svc *v = b->vsvc[service];
  Hoststack__Custody__Ready ready = HOSTSTACK__CUSTODY__READY__INIT;
  Hoststack__Custody__Message m = HOSTSTACK__CUSTODY__MESSAGE__INIT;
  if (v == NULL || !v->hello || v->ready)
    return;
  custody_srv_compare(b, v);
  custody_srv_welcome(b, service, NULL, 0);
  vault_give_all(b, service);
  m.body_case = HOSTSTACK__CUSTODY__MESSAGE__BODY_READY;
  m.ready = &ready;
  custody_srv_say(b, service, &m, -1);
  v->ready = 1;
  log_info("broker.service", "%s (pid %u) is ready", custody_names[service], v->pid);
  if (service == CUSTODY_ENGINE) {
    custody_srv_policy(b);
    death_repeat(b);
  }
}

/* --- from the services --- */

static int custody_srv_on_hello(struct broker *b, struct vault_svc *v, const Hoststack__Custody__Hello *h) {
  if (h->service >= BROKER_SERVICES || custody_names[h->service][0] == '?' || v->hello) {
    log_error("broker.custody", "Hello of service %u refused", h->service);
    return -EPROTO;
  }
  if (h->abi_major != ABI_MAJOR) {
    log_error("broker.custody", "%s speaks ABI %u.%u, broker %d.%d", custody_names[h->service], h->abi_major,
              h->abi_minor, ABI_MAJOR, ABI_MINOR);
    return -EPROTO;
  }
  if (v->service == 0) {
    if (b->vsvc[h->service] != NULL)
      custody_srv_gone(b, b->vsvc[h->service]);
    v->service = h->service;
    v->pid = h->pid;
    list_del(&v->link);
    b->vsvc[h->service] = v;
  }
  if (v->service != h->service || h->n_have > SHOWN_MAX - v->n_shown)
    return -EPROTO;
  struct custody_item *p = realloc(v->shown, (v->n_shown + h->n_have + 1) * sizeof *p);
  if (p == NULL)
    return -ENOMEM;
  v->shown = p;
  for (size_t i = 0; i < h->n_have; i++)
    custody_msg_to_item(&p[v->n_shown++], h->have[i], -1);
  if (h->more)
    return 0;
  v->hello = 1;
  if (b->boot == BOOT_DONE)
    custody_srv_ready(b, v->service);
  else
    boot_step(b);
  return 0;
}

static void custody_srv_on_return(struct broker *b, struct vault_svc *v, const Hoststack__Custody__Return *r, int fd) {
  if (r->item == NULL || fd < 0 || v->service == CUSTODY_API)
    goto out;
  if (b->boot == BOOT_REGISTRY) {
    if (r->item->kind == ABI_ITEM_SEG && r->item->seg_kind == ABI_SEG_REGISTRY && v->service == b->boot_from) {
      boot_registry(b, v->service, fd);
      return;
    }
    goto out;
  }
  if (b->item == NULL)
    goto out;
  uint32_t idx = vault_by_id(b, r->item->id);
  if (idx == REGISTRY_NONE || b->item[idx].fd >= 0)
    goto out;
  b->item[idx].fd = fd;
  b->item[idx].asked = 0;
  if (b->boot == BOOT_DONE)
    vault_give_round(b, idx);
  else
    boot_step(b);
  return;
out:
  if (fd >= 0)
    close(fd);
}

static void custody_srv_on_vaulted(struct broker *b, struct vault_svc *v, uint64_t id) {
  uint32_t idx = b->item != NULL ? vault_by_id(b, id) : REGISTRY_NONE;
  if (idx == REGISTRY_NONE)
    return; /* dropped meanwhile */
  b->item[idx].have |= (uint8_t)(1u << v->service);
  if (v->service == CUSTODY_ENGINE && registry_item_state(&b->reg, idx) == ABI_ITEM_RESERVED)
    registry_item_set(&b->reg, idx, ABI_ITEM_VAULTED);
  if (v->service == CUSTODY_ENGINE || b->reg.item[idx].seg_kind == ABI_SEG_PART)
    pend_check(b);
}

/** nicio hands over the fd of a port: it becomes an item of its own and goes round; one of the same port before it is
 * forgotten. */
static void custody_srv_on_deposit(struct broker *b, struct vault_svc *v, const Hoststack__Custody__Deposit *d,
                                   int fd) {
  if (fd < 0)
    return;
  if (b->boot != BOOT_DONE || v->service != CUSTODY_NICIO || d->item == NULL || d->item->kind != ABI_ITEM_PORT ||
      d->item->owner >= CONFIG_PORTS_MAX) {
    log_warn_rl("broker.deposit", "refused a deposit of service %u", v->service);
    close(fd);
    return;
  }
  uint32_t old = registry_item_find(&b->reg, ABI_ITEM_PORT, 0, d->item->owner);
  if (old != REGISTRY_NONE)
    vault_drop(b, old);
  uint32_t idx = registry_item_new(&b->reg, registry_id(&b->reg), ABI_ITEM_PORT, 0, d->item->owner, 0);
  if (idx == REGISTRY_NONE) {
    log_error("broker.deposit", "registry is full");
    close(fd);
    return;
  }
  vault_put(b, idx, fd);
}

static void custody_srv_on_engine(struct broker *b, const Hoststack__Custody__Message *m) {
  uint32_t w;
  switch (m->body_case) {
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_SEEN:
    b->policy_seen = m->policy_seen->gen;
    b->policy_seen_valid = 1;
    rule_tick(b);
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIVE:
    w = registry_worker_find(&b->reg, m->worker_live->worker_id);
    if (w != REGISTRY_NONE)
      b->worker[w].live = 1;
    break;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DRAINED:
    death_drained(b, m->worker_drained->worker_id);
    break;
  default:
    death_lied(b, m->worker_lied->worker_id, m->worker_lied->why);
  }
  pend_check(b);
}

/** 0, or -errno to end the conversation. */
static int custody_srv_dispatch(struct broker *b, struct vault_svc *v, const Hoststack__Custody__Message *m, int fd) {
  if (m->body_case == HOSTSTACK__CUSTODY__MESSAGE__BODY_HELLO)
    return custody_srv_on_hello(b, v, m->hello);
  if (v->service == 0 || !v->hello)
    return -EPROTO;
  switch (m->body_case) {
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_RETURN:
    custody_srv_on_return(b, v, m->return_, fd);
    return 0;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_VAULTED:
    custody_srv_on_vaulted(b, v, m->vaulted->id);
    return 0;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_DEPOSIT:
    custody_srv_on_deposit(b, v, m->deposit, fd);
    return 0;
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_POLICY_SEEN:
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIVE:
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_DRAINED:
  case HOSTSTACK__CUSTODY__MESSAGE__BODY_WORKER_LIED:
    if (v->service == CUSTODY_ENGINE && b->boot == BOOT_DONE)
      custody_srv_on_engine(b, m);
    return 0;
  default:
    return -EPROTO;
  }
}

static void custody_srv_on_msg(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds) {
  struct vault_svc *v = ctx;
  struct broker *b = v->b;
  Hoststack__Custody__Message *m = hoststack__custody__message__unpack(NULL, len, buf);
  int fd = n_fds > 0 ? fds[0] : -1, rc = -EPROTO;
  if (m != NULL && fd >= 0 && m->body_case != HOSTSTACK__CUSTODY__MESSAGE__BODY_RETURN &&
      m->body_case != HOSTSTACK__CUSTODY__MESSAGE__BODY_DEPOSIT) {
    close(fd);
    fd = -1;
  }
  if (m != NULL)
    rc = custody_srv_dispatch(b, v, m, fd);
  else if (fd >= 0)
    close(fd);
  hoststack__custody__message__free_unpacked(m, NULL);
  if (rc < 0) {
    log_error("broker.custody", "%s (pid %u): message refused: %s", custody_names[v->service], v->pid, err_text(rc));
    custody_srv_gone(b, v);
  }
}

static void custody_srv_on_closed(void *ctx, int why) {
  struct vault_svc *v = ctx;
  log_info("broker.service", "%s (pid %u) is gone%s%s", custody_names[v->service], v->pid, why < 0 ? ": " : "",
           why < 0 ? err_text(why) : "");
  custody_srv_gone(v->b, v);
}

static const struct chan_ops custody_srv_ops = {.msg = custody_srv_on_msg, .closed = custody_srv_on_closed};

static void custody_srv_accept(void *ctx, int fd, uint32_t events) {
  struct broker *b = ctx;
  struct attach_cred cred;
  (void)events;
  int s = attach_accept(fd);
  if (s < 0)
    return;
  if (attach_peer(s, &cred) < 0 || (cred.uid != 0 && cred.uid != geteuid())) {
    log_warn_rl("broker.custody", "uid %u may not speak here", cred.uid);
    close(s);
    return;
  }
  struct vault_svc *v = calloc(1, sizeof *v);
  if (v == NULL || chan_new(&v->ch, b->svc.loop, s, 1, CUSTODY_QUEUE, &custody_srv_ops, v) < 0) {
    free(v);
    close(s);
    return;
  }
  v->b = b;
  list_add_tail(&b->vsvc_new, &v->link);
}

int custody_srv_start(struct broker *b) {
  char path[160];
  list_init(&b->vsvc_new);
  b->custody_fd = attach_listen(svc_path(&b->svc, CUSTODY_SOCKET, path, sizeof path), 0600, 16);
  if (b->custody_fd < 0) {
    log_error("broker.custody", "%s: %s", path, err_text(b->custody_fd));
    return b->custody_fd;
  }
  return loop_add_fd(b->svc.loop, b->custody_fd, EPOLLIN, custody_srv_accept, b);
}

void custody_srv_stop(struct broker *b) {
  struct list *p;
  b->boot = BOOT_DONE; /* nothing starts any more */
  while (b->vsvc_new.next != NULL && (p = list_first(&b->vsvc_new)) != NULL)
    custody_srv_free(container_of(p, struct vault_svc, link));
  for (uint32_t s = 1; s < BROKER_SERVICES; s++)
    if (b->vsvc[s] != NULL) {
      custody_srv_free(b->vsvc[s]);
      b->vsvc[s] = NULL;
    }
  if (b->custody_fd >= 0) {
    loop_del_fd(b->svc.loop, b->custody_fd);
    close(b->custody_fd);
    b->custody_fd = -1;
  }
}
