/*
 * Session rules and namespaces as the engine applies them (gate.h). Hot path of connects and accepts.
 */
#include "gate.h"

#include "base/bits.h"
#include "worker.h"

#include <errno.h>

int gate_may_use(const struct worker *w, uint32_t ns, const struct ip_addr *local) {
  return HS_LIKELY(ns == 0) || config_ns_has(w->cfg, ns, local->b);
}

static int gate_among(const void *ctx, const struct ip_addr *a) {
  const struct config_ns *n = ctx;
  for (uint32_t i = 0; i < n->n_nets; i++)
    if (config_net_has(&n->net[i], a->b))
      return 1;
  return 0;
}

int gate_source(struct worker *w, const struct app_worker *a, const struct ip_addr *dst, uint32_t ifindex,
                struct ip_addr *src) {
  const struct config_ns *n = config_ns_get(w->cfg, a->sh->ns);
  struct ip_among among = {.may = gate_among, .ctx = n};
  return ip_source_among(worker_ip(w, a->sh->vrf), dst, ifindex, n && n->n_nets ? &among : NULL, src);
}

int gate_hears(const struct worker *w, uint32_t ns, uint32_t port) {
  const struct config_ns *n = config_ns_get(w->cfg, ns);
  struct ip_among among = {.may = gate_among, .ctx = n};
  return !n || !n->n_nets || ip_port_among(worker_ip(w, config_ns_vrf(w->cfg, ns)), port, &among);
}

/* The rule that speaks of it, if any. */
static int gate_rule(const struct worker *w, uint8_t table, uint32_t scope, uint8_t proto, const struct ip_addr *remote,
                     const struct ip_addr *local, uint16_t port, struct abi_rule_verdict *v) {
  struct rules_key k = {
      .table = table, .proto = proto, .port = port, .scope = scope, .remote = remote->b, .local = local->b};
  return rules_any(&w->rules, table) && rules_find(&w->rules, &k, v);
}

/* To the app's listener: its own address, or ours that is nearest to where the connect was to go. */
static int gate_redirect(struct worker *w, uint32_t vrf, const struct abi_rule_verdict *v, const struct ip_addr *source,
                         struct abi_request *req) {
  uint16_t port = v->to_port ? v->to_port : be16_get(req->remote.port);
  struct listener *l = listen_find_app(w, vrf, req->proto, v->app_tag, source, port, 0);
  if (!l) {
    worker_count(w, EC_RULE_NO_APP, 1);
    return -ECONNREFUSED;
  }
  struct ip_addr to;
  memcpy(&to, l->entry.addr.ip, sizeof to);
  if (ip_addr_is_any(&to))
    to = *source;
  memcpy(req->remote.ip, to.b, sizeof req->remote.ip);
  req->remote.port = be16_from(port);
  worker_count(w, EC_RULE_REDIRECTED, 1);
  return 0;
}

/* Whether an app may reach what has this port of ours in its VRF. */
static int gate_same_ns(struct worker *w, const struct app_worker *a, uint8_t proto, const struct ip_addr *dst,
                        uint16_t port) {
  const struct transport_ops *ops = transport_of(w, proto);
  const struct listener *l = transport_is_stream(ops) ? listen_taker(w, a->sh->vrf, proto, dst, port, 0)
                                                      : listen_find(w, a->sh->vrf, proto, dst, port, 0);
  uint32_t ns = l ? l->entry.ns : a->sh->ns;
  if (!l && (!ops || !ops->port_ns || !ops->port_ns(w, a->sh->vrf, dst, port, &ns)))
    return 1; /* nobody has it: whoever has it next is asked again */
  if (ns == a->sh->ns)
    return 1;
  worker_count(w, EC_NS_REFUSED, 1);
  return 0;
}

/* Beyond rules: other namespaces, and for an app without global scope all that is outside. */
static int gate_wall(struct worker *w, const struct app_worker *a, uint8_t proto, int confined,
                     const struct ip_addr *dst, uint16_t port) {
  if (HS_LIKELY(w->cfg->n_ns == 0 && !confined))
    return 0;
  if (ip_is_local(worker_ip(w, a->sh->vrf), dst))
    return gate_same_ns(w, a, proto, dst, port) ? 0 : -ECONNREFUSED;
  return confined ? -ENETUNREACH : 0;
}

int gate_connect(struct worker *w, const struct app_worker *a, struct abi_request *req) {
  struct ip_addr remote, source = {{0}};
  struct abi_rule_verdict v;
  memcpy(&remote, req->remote.ip, sizeof remote);
  uint16_t port = be16_get(req->remote.port);
  if (rules_any(&w->rules, ABI_RULE_EGRESS)) {
    if (req->local.family)
      memcpy(&source, req->local.ip, sizeof source);
    if (ip_addr_is_any(&source) && gate_source(w, a, &remote, IP_BY_ROUTE, &source))
      return 0; /* the transport says why */
    if (gate_rule(w, ABI_RULE_EGRESS, a->sh->ns, req->proto, &remote, &source, port, &v)) {
      if (v.action == ABI_RULE_REDIRECT)
        return gate_redirect(w, a->sh->vrf, &v, &source, req); /* also into another namespace of the VRF */
      if (v.action == ABI_RULE_DENY) {
        worker_count(w, EC_RULE_EGRESS, 1);
        return -ECONNREFUSED;
      }
    }
  }
  return gate_wall(w, a, req->proto, (req->reuse & ABI_REQ_LOCAL) != 0, &remote, port);
}

int gate_send(struct worker *w, const struct session *s, const struct ip_addr *src, const struct ip_addr *dst,
              uint16_t dport) {
  struct abi_rule_verdict v;
  const struct app_worker *a = s->app;
  if (gate_rule(w, ABI_RULE_EGRESS, a->sh->ns, s->proto, dst, src, dport, &v) && v.action == ABI_RULE_DENY) {
    worker_count(w, EC_RULE_EGRESS, 1);
    return -EPERM;
  }
  int rc = gate_wall(w, a, s->proto, (s->a->req.reuse & ABI_REQ_LOCAL) != 0, dst, dport);
  return rc == -ECONNREFUSED ? -EPERM : rc;
}

/* Ingress rules: 1 = drop. */
static int gate_ingress(struct worker *w, uint32_t vrf, uint8_t proto, const struct ip_addr *src,
                        const struct ip_addr *dst, uint16_t dport, struct abi_rule_verdict *v) {
  v->action = ABI_RULE_ALLOW;
  if (!gate_rule(w, ABI_RULE_INGRESS, vrf, proto, src, dst, dport, v) || v->action != ABI_RULE_DENY)
    return 0;
  worker_count(w, EC_RULE_INGRESS, 1);
  return 1;
}

/* A listener for its own namespace alone is not there for others. Those of our own stack were looked at as they
 * connected. */
static int gate_hidden(const struct worker *w, const struct listener *l, const struct ip_addr *src) {
  return (l->entry.flags & ABI_LISTEN_LOCAL) && !ip_is_local(worker_ip(w, l->entry.vrf), src);
}

int gate_syn(struct worker *w, uint8_t proto, uint32_t vrf, const struct ip_addr *src, const struct ip_addr *dst,
             uint16_t dport, uint32_t hash, struct listener **l) {
  struct abi_rule_verdict v;
  *l = NULL;
  if (gate_ingress(w, vrf, proto, src, dst, dport, &v))
    return 1;
  if (v.action != ABI_RULE_REDIRECT) {
    *l = listen_taker(w, vrf, proto, dst, dport, hash);
    if (*l && gate_hidden(w, *l, src))
      *l = NULL;
    return 0;
  }
  *l = listen_find_app(w, vrf, proto, v.app_tag, dst, v.to_port ? v.to_port : dport, hash);
  worker_count(w, *l ? EC_RULE_REDIRECTED : EC_RULE_NO_APP, 1);
  return 0;
}

int gate_datagram(struct worker *w, uint8_t proto, uint32_t vrf, const struct session *s, const struct ip_addr *src,
                  const struct ip_addr *dst, uint16_t dport) {
  struct abi_rule_verdict v;
  if (gate_ingress(w, vrf, proto, src, dst, dport, &v))
    return 1;
  return s && s->a && (s->a->req.reuse & ABI_REQ_LOCAL) && !ip_is_local(worker_ip(w, vrf), src);
}
