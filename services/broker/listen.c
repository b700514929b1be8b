/*
 * Bind, Listen and Unbind: what an app asks of local ports, and the way from a held port to an entry of the policy
 * table.
 *
 * Handlers of attach_srv.c, main thread. Each is idempotent by (worker, slot, gen): an app that got no answer from a
 * broker that died says the same again.
 */
#include "broker.h"

#include "base/bits.h"
#include "base/log.h"

#define LISTEN_BACKLOG_MAX 65535u

static void listen_endpoint(const struct abi_reg_bind *r, Hoststack__Attach__Endpoint *ep) {
  hoststack__attach__endpoint__init(ep);
  ep->ip.data = (uint8_t *)(uintptr_t)r->ip;
  ep->ip.len = 16;
  ep->port = r->port;
  ep->family = r->family;
  ep->scope = r->scope;
}

static int listen_answer(struct conn *c, uint32_t seq, const struct abi_reg_bind *r) {
  Hoststack__Attach__Endpoint ep;
  Hoststack__Attach__BindReply br = HOSTSTACK__ATTACH__BIND_REPLY__INIT;
  Hoststack__Attach__Reply reply = HOSTSTACK__ATTACH__REPLY__INIT;
  listen_endpoint(r, &ep);
  br.local = &ep;
  br.listener_id = r->listener_id;
  reply.seq = seq;
  reply.body_case = HOSTSTACK__ATTACH__REPLY__BODY_BIND;
  reply.bind = &br;
  return attach_srv_reply(c, &reply, NULL, 0);
}

/** A slot that was used anew: what its earlier life held is given up. */
static void listen_forget_old(struct broker *b, uint64_t worker_id, uint32_t slot, uint32_t gen) {
  int removed = 0;
  for (uint32_t i = 0; i < b->bind_high; i++) {
    const struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used == 0 || r->worker_id != worker_id || r->slot != slot || r->gen == gen)
      continue;
    if (b->bind[i].policy != REGISTRY_NONE) {
      policy_remove(b, b->bind[i].policy);
      removed++;
    }
    ports_remove(b, i);
  }
  if (removed > 0)
    policy_publish(b);
}

/** The wanted endpoint as a record. 0 or -errno. */
static int listen_want(const struct broker *b, const struct conn *c, const Hoststack__Attach__Bind *m,
                       struct abi_reg_bind *want, const char **text) {
  const Hoststack__Attach__Endpoint *ep = m->local;
  memset(want, 0, sizeof *want);
  if (m->proto > 1 || ep == NULL || (ep->ip.len != 0 && ep->ip.len != 16) || ep->port > 65535 ||
      (ep->family != 4 && ep->family != 6)) {
    *text = "bind: proto 0 or 1, an address of 16 bytes or none, family 4 or 6, port below 65536";
    return -EINVAL;
  }
  want->worker_id = m->worker_id;
  want->slot = m->slot;
  want->gen = m->gen;
  want->uid = c->cred.uid;
  want->proto = (uint8_t)m->proto;
  want->family = (uint8_t)ep->family;
  want->port = (uint16_t)ep->port;
  want->scope = ep->scope;
  want->vrf = config_ns_vrf(&b->svc.cfg, ns_of_worker(b, m->worker_id));
  want->flags = (m->reuseaddr ? ABI_BIND_REUSEADDR : 0u) | (m->reuseport ? ABI_BIND_REUSEPORT : 0u) |
                (m->v6only ? ABI_BIND_V6ONLY : 0u) | (m->app_share && m->proto == 0 ? ABI_BIND_APP_SHARE : 0u) |
                (m->proxy ? ABI_BIND_PROXY : 0u);
  if (ep->ip.len == 16)
    memcpy(want->ip, ep->ip.data, 16);
  else if (ep->family == 4)
    want->ip[10] = want->ip[11] = 0xff;
  if (ep->family == 4 && ports_is_wild(want->ip)) /* one form for "any IPv4 address" */
    want->ip[10] = want->ip[11] = 0xff;
  int rc = ports_address_ok(b, ns_of_worker(b, m->worker_id), want->proto, want->ip);
  if (rc < 0)
    *text = "bind: not an address of this stack, or not one of the namespace's";
  return rc;
}

/** The entry that the engine reads. */
static uint32_t listen_publish(struct broker *b, uint32_t idx, uint32_t backlog, const struct abi_reg_app *app) {
  const struct abi_reg_bind *r = &b->reg.bind[idx];
  struct abi_listen_entry e = {.worker_id = r->worker_id,
                               .slot = r->slot,
                               .slot_gen = r->gen,
                               .listener_id = r->listener_id,
                               .backlog = backlog,
                               .vrf = r->vrf,
                               .ns = app != NULL ? app->ns : 0,
                               .app_tag = app != NULL ? rules_app_tag(app->name) : 0,
                               .proto = r->proto};
  memcpy(e.addr.ip, r->ip, 16);
  if (ports_is_wild(r->ip)) /* the engine's wildcard is all zero for both families (abi/policy.h) */
    memset(e.addr.ip, 0, 16);
  e.addr.port = be16_from(r->port);
  e.addr.family = r->family;
  e.addr.scope = r->scope;
  e.flags = ((r->flags & (ABI_BIND_REUSEPORT | ABI_BIND_APP_SHARE)) != 0 ? ABI_LISTEN_REUSEPORT : 0u) |
            ((r->flags & ABI_BIND_V6ONLY) != 0 ? ABI_LISTEN_V6ONLY : 0u) |
            ((r->flags & ABI_BIND_LOCAL) != 0 ? ABI_LISTEN_LOCAL : 0u) |
            ((r->flags & ABI_BIND_PROXY) != 0 ? ABI_LISTEN_PROXY : 0u);
  return policy_add(b, &e);
}

/** A bound record becomes a listener. 0 or -errno. */
static int listen_start(struct broker *b, const struct conn *c, uint32_t idx, uint32_t backlog, const char **text) {
  struct abi_reg_bind *r = &b->reg.bind[idx];
  if (r->listener_id == 0) {
    if (ports_conflict(b, r, 1, idx) < 0) {
      *text = "listen: address in use";
      return -EADDRINUSE;
    }
    int rc = r->proto == 0 ? limit_listener(b, b->reg.proc[c->proc].app_id, text) : 0;
    if (rc < 0)
      return rc;
    uint32_t id = (uint32_t)registry_id(&b->reg);
    __atomic_store_n(&r->listener_id, id, __ATOMIC_RELEASE);
  }
  uint32_t app = registry_app_find(&b->reg, b->reg.proc[c->proc].app_id);
  uint32_t entry = listen_publish(b, idx, backlog, app != REGISTRY_NONE ? &b->reg.app[app] : NULL);
  if (entry == REGISTRY_NONE) {
    r->listener_id = 0;
    *text = "listen: the policy table is full";
    return -ENOBUFS;
  }
  b->bind[idx].policy = entry;
  broker_count(b, BROKER_STAT_LISTENS);
  return 0;
}

/** The engine is told of a bound record; the app is answered when it serves it. 0 or -errno. */
static int listen_serve(struct broker *b, struct conn *c, uint32_t seq, uint32_t idx, uint32_t backlog,
                        const char **text) {
  if (b->bind[idx].policy == REGISTRY_NONE) {
    int rc = listen_start(b, c, idx, backlog, text);
    if (rc < 0)
      return rc;
    policy_publish(b);
  } else if (b->entry[b->bind[idx].policy].backlog != backlog) {
    policy_backlog(b, b->bind[idx].policy, backlog);
    policy_publish(b);
  }
  struct pend *p = pend_new(c, seq, PEND_POLICY, idx, b->reg.bind[idx].listener_id);
  if (p == NULL)
    return -ENOMEM;
  p->policy_gen = b->policy->policy_gen;
  pend_check(b);
  return 0;
}

int listen_on_bind(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Bind *m,
                   const char **text) {
  struct abi_reg_bind want;
  if (workers_of_conn(b, c, m->worker_id) == REGISTRY_NONE) {
    *text = "bind: no such worker of this process";
    return -ENOENT;
  }
  int rc = listen_want(b, c, m, &want, text);
  if (rc < 0)
    return rc;
  uint32_t idx = ports_find(b, m->worker_id, m->slot, m->gen);
  if (idx != REGISTRY_NONE) {
    const struct abi_reg_bind *r = &b->reg.bind[idx];
    if (memcmp(r->ip, want.ip, 16) == 0 && r->proto == want.proto && (want.port == 0 || want.port == r->port))
      return want.proto == 1 ? listen_serve(b, c, seq, idx, 1, text) : listen_answer(c, seq, r);
    *text = "bind: this session is bound already";
    return -EINVAL;
  }
  listen_forget_old(b, m->worker_id, m->slot, m->gen);
  if (want.port == 0) {
    rc = ports_pick(b, &want);
    if (rc < 0) {
      *text = "bind: no ephemeral port is free";
      return rc;
    }
    want.port = (uint16_t)rc;
  } else {
    rc = ports_conflict(b, &want, 0, REGISTRY_NONE);
    if (rc < 0) {
      *text = "bind: address in use";
      return rc;
    }
  }
  idx = ports_add(b, &want);
  if (idx == REGISTRY_NONE) {
    *text = "bind: all ports records are in use";
    return -ENOBUFS;
  }
  if (want.proto == 1) { /* datagrams: what is bound receives */
    rc = listen_serve(b, c, seq, idx, 1, text);
    if (rc < 0)
      ports_remove(b, idx);
    return rc;
  }
  return listen_answer(c, seq, &b->reg.bind[idx]);
}

/** share_of: another process's listener of the same app. Index of a new record or -errno. */
static int64_t listen_share(struct broker *b, struct conn *c, uint32_t worker, const Hoststack__Attach__Listen *m,
                            const char **text) {
  for (uint32_t i = 0; i < b->bind_high; i++) {
    const struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used == 0 || r->listener_id != m->share_of)
      continue;
    uint32_t w = registry_worker_find(&b->reg, r->worker_id);
    if (w == REGISTRY_NONE || b->reg.worker[w].app_id != b->reg.worker[worker].app_id)
      continue;
    struct abi_reg_bind mine = *r;
    mine.used = 0;
    mine.worker_id = m->worker_id;
    mine.slot = m->slot;
    mine.gen = m->gen;
    mine.uid = c->cred.uid;
    uint32_t idx = ports_add(b, &mine);
    if (idx != REGISTRY_NONE)
      return idx;
    *text = "listen: all ports records are in use";
    return -ENOBUFS;
  }
  *text = "listen: no such listener of this app";
  return -ENOENT;
}

int listen_on_listen(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Listen *m,
                     const char **text) {
  uint32_t worker = workers_of_conn(b, c, m->worker_id);
  uint32_t backlog = HS_CLAMP(m->backlog, 1u, LISTEN_BACKLOG_MAX);
  if (worker == REGISTRY_NONE) {
    *text = "listen: no such worker of this process";
    return -ENOENT;
  }
  uint32_t idx = ports_find(b, m->worker_id, m->slot, m->gen);
  if (idx == REGISTRY_NONE && m->share_of != 0) {
    listen_forget_old(b, m->worker_id, m->slot, m->gen);
    int64_t rc = listen_share(b, c, worker, m, text);
    if (rc < 0)
      return (int)rc;
    idx = (uint32_t)rc;
  }
  if (idx == REGISTRY_NONE) {
    *text = "listen: the session is not bound";
    return -EDESTADDRREQ;
  }
  b->reg.bind[idx].flags |= (m->no_cut ? ABI_BIND_NO_CUT : 0u) | (m->no_global ? ABI_BIND_LOCAL : 0u);
  return listen_serve(b, c, seq, idx, backlog, text);
}

/** 1 answered, 0 still waiting. */
int listen_done(struct broker *b, struct pend *p) {
  const struct abi_reg_bind *r = &b->reg.bind[p->idx];
  if (r->used == 0 || r->listener_id != (uint32_t)p->id) {
    attach_srv_answer(p->conn, p->seq, -ENOENT, "listen: the session was closed meanwhile");
    return 1;
  }
  if (!b->policy_seen_valid || (int32_t)(b->policy_seen - p->policy_gen) < 0)
    return 0;
  (void)listen_answer(p->conn, p->seq, r);
  return 1;
}

int listen_on_unbind(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Unbind *m,
                     const char **text) {
  if (workers_of_app(b, c, m->worker_id) == REGISTRY_NONE) { /* a dead process's, which its children go on with */
    *text = "unbind: no such worker of this application";
    return -ENOENT;
  }
  uint32_t idx = ports_find(b, m->worker_id, m->slot, m->gen);
  if (idx != REGISTRY_NONE) { /* else it was said twice */
    uint32_t entry = b->bind[idx].policy;
    if (entry != REGISTRY_NONE)
      policy_remove(b, entry);
    ports_remove(b, idx);
    if (entry != REGISTRY_NONE)
      policy_publish(b);
    struct pend *p = entry != REGISTRY_NONE ? pend_new(c, seq, PEND_UNBIND, idx, 0) : NULL;
    if (p != NULL) { /* as on Linux: who connects after the close is refused */
      p->policy_gen = b->policy->policy_gen;
      pend_check(b);
      return 0;
    }
  }
  attach_srv_answer(c, seq, 0, NULL);
  return 0;
}

void listen_drop_worker(struct broker *b, uint64_t worker_id) {
  int removed = 0;
  for (uint32_t i = 0; i < b->bind_high; i++) {
    if (b->reg.bind[i].used == 0 || b->reg.bind[i].worker_id != worker_id)
      continue;
    if (b->bind[i].policy != REGISTRY_NONE) {
      policy_remove(b, b->bind[i].policy);
      removed++;
    }
    ports_remove(b, i);
  }
  if (removed > 0)
    policy_publish(b);
}
