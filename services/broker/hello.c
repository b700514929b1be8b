/*
 * Hello: a process attaches, or comes back after the broker's restart with its token.
 *
 * Handler of attach_srv.c, main thread. The bell and the doorbell are in the engine's vault before the process sees
 * them; the process holds the only descriptor of its end of the bell, which makes its HUP the proof of its death.
 */
#include "broker.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/rng.h"
#include "shm/bell.h"

#include <unistd.h>

static int hello_answer(struct broker *b, struct conn *c, uint32_t seq, const int *fds, int n_fds) {
  struct abi_reg_proc *p = &b->reg.proc[c->proc];
  Hoststack__Attach__HelloReply hr = HOSTSTACK__ATTACH__HELLO_REPLY__INIT;
  Hoststack__Attach__Reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  hr.app_id = p->app_id;
  hr.proc_id = p->id;
  hr.token.data = p->token;
  hr.token.len = sizeof p->token;
  hr.app_timeout_ms = b->svc.cfg.app_timeout_ms;
  hr.vrf = config_ns_vrf(&b->svc.cfg, ns_of_app(b, p->app_id));
  r.seq = seq;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_HELLO;
  r.hello = &hr;
  return attach_srv_reply(c, &r, fds, n_fds);
}

/** The process speaks on this connection from now on. */
static void hello_take(struct broker *b, struct conn *c, uint32_t proc) {
  struct conn *old = b->proc[proc].conn;
  if (old != NULL && old != c) {
    pend_drop(b, old);
    old->proc = REGISTRY_NONE; /* says Hello again or goes */
  }
  c->proc = proc;
  b->proc[proc].conn = c;
}

static int hello_back(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Hello *h,
                      const char **text) {
  uint32_t proc = h->token.len == 16 ? registry_proc_by_token(&b->reg, h->token.data) : REGISTRY_NONE;
  if (proc == REGISTRY_NONE) {
    *text = "hello: unknown token, attach anew";
    return -ESTALE;
  }
  hello_take(b, c, proc);
  broker_count(b, BROKER_STAT_RETURNED);
  return hello_answer(b, c, seq, NULL, 0);
}

/** App of a new process: the parent's, or a new one. Registry index or -errno. */
static int64_t hello_app(struct broker *b, const Hoststack__Attach__Hello *h, uint32_t ns, const char **text) {
  if (h->parent_token.len != 0) {
    uint32_t parent = h->parent_token.len == 16 ? registry_proc_by_token(&b->reg, h->parent_token.data) : REGISTRY_NONE;
    uint32_t app = parent != REGISTRY_NONE ? registry_app_find(&b->reg, b->reg.proc[parent].app_id) : REGISTRY_NONE;
    if (app != REGISTRY_NONE)
      return app;
    *text = "hello: unknown parent token";
    return -ESTALE;
  }
  uint32_t app = registry_app_new(&b->reg, h->app_name, ns);
  if (app != REGISTRY_NONE)
    return app;
  *text = "hello: broker.max-apps applications are attached";
  return -EUSERS;
}

/** Bell and doorbell of a new process, in the vaults. 0 or -errno; *app_end is the process's end. */
static int hello_bells(struct broker *b, uint64_t proc_id, int *app_end) {
  int pair[2] = {-1, -1}, door = -1;
  uint32_t bi = registry_item_new(&b->reg, registry_id(&b->reg), ABI_ITEM_BELL, 0, proc_id, 0);
  uint32_t di = registry_item_new(&b->reg, registry_id(&b->reg), ABI_ITEM_DOORBELL, 0, proc_id, 0);
  int rc = bi != REGISTRY_NONE && di != REGISTRY_NONE ? bell_pair(pair) : -ENOSPC;
  if (rc == 0) {
    rc = door = bell_doorbell();
    if (rc < 0) {
      close(pair[0]);
      close(pair[1]);
    }
  }
  if (rc < 0) {
    if (bi != REGISTRY_NONE)
      registry_item_set(&b->reg, bi, ABI_ITEM_FREE);
    if (di != REGISTRY_NONE)
      registry_item_set(&b->reg, di, ABI_ITEM_FREE);
    return rc;
  }
  vault_put(b, bi, pair[0]);
  FAULT_POINT("broker.hello.bell");
  vault_put(b, di, door);
  *app_end = pair[1];
  return 0;
}

static int hello_new(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Hello *h, uint32_t ns,
                     const char **text) {
  uint8_t token[16];
  int app_end = -1, rc = rng_secure(token, sizeof token);
  if (rc < 0)
    return rc;
  int64_t app = hello_app(b, h, ns, text);
  if (app < 0)
    return (int)app;
  uint64_t app_id = b->reg.app[app].id;
  uint32_t proc = registry_proc_new(&b->reg, app_id, (uint32_t)c->cred.pid, c->cred.uid, c->cred.gid, token);
  if (proc == REGISTRY_NONE) {
    *text = "hello: broker.max-workers processes are attached";
    death_collect_app(b, app_id);
    return -EUSERS;
  }
  b->proc[proc] = (struct proc_rt){.bell_fd = -1, .b = b};
  rc = hello_bells(b, b->reg.proc[proc].id, &app_end);
  struct pend *p = rc == 0 ? pend_new(c, seq, PEND_HELLO, proc, b->reg.proc[proc].id) : NULL;
  if (p == NULL) {
    if (app_end >= 0)
      close(app_end);
    death_proc(b, proc);
    return rc < 0 ? rc : -ENOMEM;
  }
  p->app_fd = app_end;
  hello_take(b, c, proc);
  rc = death_watch(b, proc); /* its end is ours until it is sent: dropping it is dying */
  if (rc < 0)
    log_error("broker.hello", "bell watch: %s", err_text(rc));
  log_info("broker.attach", "app %s (%llu), pid %d, uid %u", b->reg.app[app].name, (unsigned long long)app_id,
           c->cred.pid, c->cred.uid);
  broker_count(b, BROKER_STAT_HELLO);
  pend_check(b);
  return 0;
}

int hello_on(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Hello *h, const char **text) {
  if (h->abi_major != ABI_MAJOR) {
    *text = "hello: another ABI major version: client library and stack do not belong together";
    return -EPROTONOSUPPORT;
  }
  if (strlen(h->app_name) > 63 || strlen(h->namespace_id) > 63) {
    *text = "hello: names have at most 63 bytes";
    return -EINVAL;
  }
  if (c->proc != REGISTRY_NONE) {
    *text = "hello: said before on this connection";
    return -EALREADY;
  }
  if (h->token.len != 0)
    return hello_back(b, c, seq, h, text);
  int ns = ns_check(b, c->ns, h->namespace_id, h->namespace_secret, text);
  return ns < 0 ? ns : hello_new(b, c, seq, h, (uint32_t)ns, text);
}

/** 1 answered, 0 still waiting for the engine's Vaulted. */
int hello_done(struct broker *b, struct pend *p) {
  uint32_t bi = registry_item_find(&b->reg, ABI_ITEM_BELL, 0, p->id);
  uint32_t di = registry_item_find(&b->reg, ABI_ITEM_DOORBELL, 0, p->id);
  if (bi == REGISTRY_NONE || di == REGISTRY_NONE)
    return 1; /* the process died while it waited */
  if (!vault_engine_has(b, bi) || !vault_engine_has(b, di))
    return 0;
  int fds[2] = {p->app_fd, b->item[di].fd};
  FAULT_POINT("broker.hello.vaulted");
  int rc = hello_answer(b, p->conn, p->seq, fds, 2);
  FAULT_POINT("broker.hello.sent");
  if (rc == 0) {
    registry_item_set(&b->reg, bi, ABI_ITEM_SENT);
    registry_item_set(&b->reg, di, ABI_ITEM_SENT);
  }
  return 1; /* pend_free closes our copy of the process's end */
}
