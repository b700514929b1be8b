/*
 * Control requests of hsctl and api (those about rules are in rule_ctl.c): ShowApp, ShowNamespace, ShowSession (of
 * cut-through), ShowStats, ShowVersion. Generated structs stop here.
 *
 * Handler of the service's control socket, main thread. A request that is not the broker's is answered with ENOTSUP.
 */
#include "broker.h"

#include "control.pb-c.h"
#include "svc/rule_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

/** Everything one reply is built of, freed in one go. */
struct ctl_arena {
  void *blocks[8];
  unsigned n;
};

static void *ctl_alloc(struct ctl_arena *a, size_t n, size_t size) {
  void *p = a->n < 8 ? calloc(n + 1, size) : NULL;
  if (p != NULL)
    a->blocks[a->n++] = p;
  return p;
}

static void ctl_free(struct ctl_arena *a) {
  while (a->n > 0)
    free(a->blocks[--a->n]);
}

static void ctl_worker(const struct broker *b, uint32_t i, Hoststack__Control__Worker *w) {
  const struct abi_reg_worker *r = &b->reg.worker[i];
  uint32_t proc = registry_proc_find(&b->reg, r->proc_id);
  hoststack__control__worker__init(w);
  w->worker_id = r->id;
  w->pid = proc != REGISTRY_NONE ? b->reg.proc[proc].pid : 0;
  w->state = (char *)(uintptr_t)(r->used == REG_DYING ? "draining" : b->worker[i].live ? "live" : "starting");
  w->memory_bytes = limit_seg_memory(b, r->seg_e) + limit_seg_memory(b, r->seg_a) + parts_memory(b, r->id);
  w->tx_parts = parts_count(b, r->id);
  struct workers_words said;
  workers_words(b, i, &said);
  w->sockets_stack = said.on_stack;
  w->sockets_kernel = said.on_kernel;
  w->dgrams_lost = said.lost;
  w->late_wakeups = said.late;
  for (uint32_t k = 0; k < b->bind_high; k++)
    w->listeners += b->reg.bind[k].used != 0 && b->reg.bind[k].worker_id == r->id && b->bind[k].policy != REGISTRY_NONE;
}

static void ctl_listener(const struct broker *b, uint32_t i, Hoststack__Control__Listener *l, char *text, size_t len) {
  const struct abi_reg_bind *r = &b->reg.bind[i];
  char ip[INET6_ADDRSTRLEN] = "*";
  uint32_t w = registry_worker_find(&b->reg, r->worker_id);
  uint32_t proc = w != REGISTRY_NONE ? registry_proc_find(&b->reg, b->reg.worker[w].proc_id) : REGISTRY_NONE;
  hoststack__control__listener__init(l);
  if (!ports_is_wild(r->ip))
    inet_ntop(r->family == 4 ? AF_INET : AF_INET6, r->family == 4 ? r->ip + 12 : r->ip, ip, sizeof ip);
  else if (r->family == 4)
    snprintf(ip, sizeof ip, "0.0.0.0");
  else
    snprintf(ip, sizeof ip, "::");
  snprintf(text, len, r->family == 6 ? "[%s]:%u" : "%s:%u", ip, r->port);
  l->listener_id = r->listener_id;
  l->proto = (char *)(uintptr_t)(r->proto == 0 ? "tcp" : "udp");
  l->local = text;
  l->backlog = b->entry[b->bind[i].policy].backlog;
  l->vrf = b->reg.bind[i].vrf;
  l->worker_id = r->worker_id;
  l->pid = proc != REGISTRY_NONE ? b->reg.proc[proc].pid : 0;
}

struct ctl_apps {
  Hoststack__Control__App *app, **app_list;
  Hoststack__Control__Worker *worker, **worker_list;
  Hoststack__Control__Listener *listener, **listener_list;
  char (*text)[64];
  uint32_t n_app, n_worker, n_listener;
};

static void ctl_app(const struct broker *b, uint32_t i, struct ctl_apps *t) {
  const struct abi_reg_app *r = &b->reg.app[i];
  Hoststack__Control__App *a = &t->app[t->n_app];
  hoststack__control__app__init(a);
  t->app_list[t->n_app++] = a;
  a->app_id = r->id;
  a->name = (char *)(uintptr_t)r->name;
  a->namespace_id = (char *)(uintptr_t)ns_name(b, r->ns);
  a->worker = &t->worker_list[t->n_worker];
  for (uint32_t k = 0; k < b->reg.n_workers; k++) {
    if (b->reg.worker[k].used == 0 || b->reg.worker[k].app_id != r->id)
      continue;
    ctl_worker(b, k, &t->worker[t->n_worker]);
    t->worker_list[t->n_worker] = &t->worker[t->n_worker];
    t->n_worker++;
    a->n_worker++;
  }
  a->listener = &t->listener_list[t->n_listener];
  for (uint32_t k = 0; k < b->bind_high; k++) {
    if (b->reg.bind[k].used == 0 || b->bind[k].policy == REGISTRY_NONE)
      continue;
    uint32_t w = registry_worker_find(&b->reg, b->reg.bind[k].worker_id);
    if (w == REGISTRY_NONE || b->reg.worker[w].app_id != r->id)
      continue;
    ctl_listener(b, k, &t->listener[t->n_listener], t->text[t->n_listener], sizeof t->text[0]);
    t->listener_list[t->n_listener] = &t->listener[t->n_listener];
    t->n_listener++;
    a->n_listener++;
  }
}

static int ctl_show_app(const struct broker *b, uint8_t **reply, size_t *reply_len) {
  struct ctl_arena mem = {.n = 0};
  uint32_t apps = 0, workers = 0, binds = 0;
  int rc = -ENOMEM;
  for (uint32_t i = 0; i < b->reg.n_apps; i++)
    apps += b->reg.app[i].used != 0;
  for (uint32_t i = 0; i < b->reg.n_workers; i++)
    workers += b->reg.worker[i].used != 0;
  for (uint32_t i = 0; i < b->bind_high; i++)
    binds += b->reg.bind[i].used != 0;
  struct ctl_apps t = {.app = ctl_alloc(&mem, apps, sizeof *t.app),
                       .app_list = ctl_alloc(&mem, apps, sizeof *t.app_list),
                       .worker = ctl_alloc(&mem, workers, sizeof *t.worker),
                       .worker_list = ctl_alloc(&mem, workers, sizeof *t.worker_list),
                       .listener = ctl_alloc(&mem, binds, sizeof *t.listener),
                       .listener_list = ctl_alloc(&mem, binds, sizeof *t.listener_list),
                       .text = ctl_alloc(&mem, binds, sizeof *t.text)};
  if (mem.n < 7)
    goto out;
  for (uint32_t i = 0; i < b->reg.n_apps; i++)
    if (b->reg.app[i].used != 0)
      ctl_app(b, i, &t);
  Hoststack__Control__Apps list = HOSTSTACK__CONTROL__APPS__INIT;
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  list.n_app = t.n_app;
  list.app = t.app_list;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_APPS;
  r.apps = &list;
  rc = svc_pack_reply(&r, reply, reply_len);
out:
  ctl_free(&mem);
  return rc;
}

static void ctl_limit(Hoststack__Control__Limit *l, Hoststack__Control__Limit **to, uint64_t used, uint64_t most) {
  hoststack__control__limit__init(l);
  l->used = used;
  l->limit = most;
  *to = l;
}

static char *ctl_net(const struct config_net *n, char *buf, size_t len) {
  int four = n->bits >= 96 && n->ip[10] == 0xff;
  (void)rule_text_prefix(n->ip, (uint8_t)n->bits, four ? 4 : 6, buf, len);
  return buf;
}

static int ctl_show_namespace(const struct broker *b, uint8_t **reply, size_t *reply_len) {
  static const struct config_limit none;
  Hoststack__Control__Namespace ns[1 + CONFIG_NS_MAX], *list[1 + CONFIG_NS_MAX];
  Hoststack__Control__Limit limit[1 + CONFIG_NS_MAX][3];
  char text[CONFIG_NS_MAX][CONFIG_NETS_MAX][52], *addr[CONFIG_NS_MAX][CONFIG_NETS_MAX];
  Hoststack__Control__Namespaces all = HOSTSTACK__CONTROL__NAMESPACES__INIT;
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  for (uint32_t i = 0; i <= b->svc.cfg.n_ns; i++) {
    const struct config_ns *c = i > 0 ? &b->svc.cfg.ns[i - 1] : NULL;
    const struct config_limit *most = limit_of_ns(b, i) != NULL ? limit_of_ns(b, i) : &none;
    struct limit_use u;
    limit_use(b, 0, i, &u);
    hoststack__control__namespace__init(&ns[i]);
    ns[i].vrf = config_ns_vrf(&b->svc.cfg, i);
    ns[i].namespace_id = (char *)(uintptr_t)ns_name(b, i);
    ns[i].attach = (char *)(uintptr_t)(c != NULL && c->attach[0] != '\0' ? c->attach : b->svc.cfg.attach);
    ns[i].secret = c != NULL && c->secret != 0;
    for (uint32_t k = 0; c != NULL && k < c->n_nets; k++)
      addr[i - 1][k] = ctl_net(&c->net[k], text[i - 1][k], sizeof text[0][0]);
    if (c != NULL) {
      ns[i].n_address = c->n_nets;
      ns[i].address = addr[i - 1];
    }
    ns[i].apps = u.apps;
    ns[i].workers = u.workers;
    ctl_limit(&limit[i][0], &ns[i].sessions, u.sessions, most->sessions);
    ctl_limit(&limit[i][1], &ns[i].listeners, u.listeners, most->listeners);
    ctl_limit(&limit[i][2], &ns[i].memory_bytes, u.memory, most->memory);
    list[i] = &ns[i];
  }
  all.n_namespace_ = b->svc.cfg.n_ns + 1;
  all.namespace_ = list;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_NAMESPACES;
  r.namespaces = &all;
  return svc_pack_reply(&r, reply, reply_len);
}

static int ctl_show_stats(const struct broker *b, uint8_t **reply, size_t *reply_len) {
  static const char *const names[][2] = {
#define X(id, name, help, sev) {name, help},
      BROKER_STATS(X)
#undef X
  };
  static const uint32_t severity[] = {
#define X(id, name, help, sev) sev,
      BROKER_STATS(X)
#undef X
  };
  Hoststack__Control__Counter counter[BROKER_STAT_N], *list[BROKER_STAT_N];
  Hoststack__Control__Stats stats = HOSTSTACK__CONTROL__STATS__INIT;
  Hoststack__Control__Reply r = HOSTSTACK__CONTROL__REPLY__INIT;
  for (unsigned i = 0; i < BROKER_STAT_N; i++) {
    hoststack__control__counter__init(&counter[i]);
    counter[i].name = (char *)(uintptr_t)names[i][0];
    counter[i].help = (char *)(uintptr_t)names[i][1];
    counter[i].severity = severity[i];
    counter[i].value = b->stat != NULL ? b->stat[i] : 0;
    list[i] = &counter[i];
  }
  stats.n_counter = BROKER_STAT_N;
  stats.counter = list;
  r.body_case = HOSTSTACK__CONTROL__REPLY__BODY_STATS;
  r.stats = &stats;
  return svc_pack_reply(&r, reply, reply_len);
}

static int ctl_not_up(uint8_t **reply, size_t *reply_len) {
  return svc_error_reply(-EAGAIN, "the broker waits for engine and nicio", reply, reply_len);
}

int broker_ctl(void *ctx, const uint8_t *req, size_t req_len, uint8_t **reply, size_t *reply_len) {
  struct broker *b = ctx;
  int rc;
  Hoststack__Control__Request *r = hoststack__control__request__unpack(NULL, req_len, req);
  if (r == NULL)
    return svc_error_reply(-EPROTO, "unreadable request", reply, reply_len);
  int up = b->boot == BOOT_DONE;
  switch (r->body_case) {
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_VERSION:
    rc = svc_version_reply(&b->svc, up ? b->reg.blk->broker_epoch : 0, reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_APP:
    rc = up ? ctl_show_app(b, reply, reply_len) : ctl_not_up(reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NAMESPACE:
    rc = up ? ctl_show_namespace(b, reply, reply_len) : ctl_not_up(reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_SESSION:
    rc = pair_ctl_sessions(b, r->show_session->offset, r->show_session->limit, reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_ADD_RULE:
    rc = up ? rule_ctl_add(b, r->add_rule, reply, reply_len) : ctl_not_up(reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_DEL_RULE:
    rc = up ? rule_ctl_del(b, r->del_rule, reply, reply_len) : ctl_not_up(reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_RULE:
    rc = up ? rule_ctl_show(b, r->show_rule, reply, reply_len) : ctl_not_up(reply, reply_len);
    break;
  case HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS:
    rc = ctl_show_stats(b, reply, reply_len);
    break;
  default:
    rc = svc_error_reply(-ENOTSUP, "not a request for the broker", reply, reply_len);
  }
  hoststack__control__request__free_unpacked(r, NULL);
  return rc;
}
