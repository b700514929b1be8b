/*
 * Routes set at run time, see routes.h. Not the hot path: a change is one mail to each worker and touches one prefix;
 * connections find their way anew when the stack's generation has moved.
 */
#include "routes.h"

#include "base/fault.h"
#include "base/log.h"
#include "worker.h"

#include <errno.h>

/* --- records --- */

static int routes_same(const struct abi_route *a, const struct config_route *r) {
  return a->family == r->family && a->prefix == r->prefix && a->vrf == r->vrf &&
         memcmp(a->dst, r->dst, sizeof a->dst) == 0;
}

const struct abi_route *routes_find(const struct abi_route *t, uint64_t n, const struct config_route *key) {
  const struct abi_route *best = NULL;
  for (uint64_t i = 0; i < n; i++)
    if (__atomic_load_n(&t[i].life, __ATOMIC_ACQUIRE) != ABI_ROUTE_FREE && routes_same(&t[i], key) &&
        (best == NULL || t[i].seq > best->seq))
      best = &t[i];
  return best;
}

void routes_forget(struct abi_route *t, uint64_t n, const struct config_route *key) {
  const struct abi_route *last = routes_find(t, n, key);
  for (uint64_t i = 0; last && i < n; i++) /* older ones first: none of them comes back to life */
    if (&t[i] != last && t[i].life != ABI_ROUTE_FREE && routes_same(&t[i], key))
      __atomic_store_n(&t[i].life, ABI_ROUTE_FREE, __ATOMIC_RELEASE);
  FAULT_POINT("routes.forget"); /* prefix: the newest record counts still */
  if (last)
    __atomic_store_n(&t[last - t].life, ABI_ROUTE_FREE, __ATOMIC_RELEASE);
}

int routes_keep(struct abi_route *t, uint64_t n, const struct config_route *r, uint32_t life) {
  const struct abi_route *old = routes_find(t, n, r);
  struct abi_route *free_one = NULL;
  for (uint64_t i = 0; i < n && !free_one; i++)
    free_one = t[i].life == ABI_ROUTE_FREE ? &t[i] : NULL;
  if (!free_one)
    return -ENOSPC;
  free_one->family = (uint8_t)r->family;
  free_one->prefix = (uint8_t)r->prefix;
  free_one->has_via = r->has_via != 0;
  free_one->vrf = (uint8_t)r->vrf;
  free_one->seq = old ? old->seq + 1 : 1;
  memcpy(free_one->dst, r->dst, sizeof free_one->dst);
  memcpy(free_one->via, r->via, sizeof free_one->via);
  memcpy(free_one->interface, r->port, sizeof free_one->interface);
  FAULT_POINT("routes.record"); /* prefix: no such record */
  __atomic_store_n(&free_one->life, life, __ATOMIC_RELEASE);
  FAULT_POINT("routes.two"); /* prefix: two of one prefix, the higher seq counts; routes_settle frees the other */
  if (old)
    __atomic_store_n(&t[old - t].life, ABI_ROUTE_FREE, __ATOMIC_RELEASE);
  return 0;
}

static void routes_read(const struct abi_route *a, struct config_route *r) {
  *r = (struct config_route){
      .prefix = a->prefix, .family = a->family, .has_via = a->has_via ? a->family : 0, .vrf = a->vrf};
  memcpy(r->dst, a->dst, sizeof r->dst);
  memcpy(r->via, a->via, sizeof r->via);
  memcpy(r->port, a->interface, sizeof r->port);
  r->port[sizeof r->port - 1] = '\0';
}

void routes_settle(struct abi_route *t, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) {
    struct config_route key;
    if (t[i].life == ABI_ROUTE_FREE)
      continue;
    routes_read(&t[i], &key);
    if (routes_find(t, n, &key) != &t[i])
      __atomic_store_n(&t[i].life, ABI_ROUTE_FREE, __ATOMIC_RELEASE);
  }
}

const struct config_route *routes_configured(const struct config *cfg, const struct config_route *key) {
  for (uint32_t i = 0; i < cfg->n_routes; i++) {
    const struct config_route *r = &cfg->route[i];
    if (r->family == key->family && r->prefix == key->prefix && r->vrf == key->vrf &&
        memcmp(r->dst, key->dst, sizeof r->dst) == 0)
      return r;
  }
  return NULL;
}

/* --- a worker's stack --- */

static int routes_add(struct worker *w, struct ip_stack *ip, const struct config_route *r) {
  struct ip_addr dst, via;
  memcpy(dst.b, r->dst, sizeof dst.b);
  memcpy(via.b, r->via, sizeof via.b);
  uint32_t port = r->port[0] != '\0' ? worker_port(w, r->port) : 0; /* else via tells */
  int rc = ip_route_add(ip, &dst, r->prefix, r->has_via ? &via : NULL, port);
  struct ip_route_row row;
  if (rc || r->port[0] == '\0' || ip_route_get(ip, &dst, r->prefix, &row) || row.port == port)
    return rc;
  (void)ip_route_del(ip, &dst, r->prefix);
  return -ENETUNREACH; /* the gateway is on another interface's net */
}

int routes_put(struct worker *w, const struct routes_change *c) {
  struct ip_route_row old;
  struct ip_addr dst;
  struct ip_stack *ip = c->route.vrf < ABI_VRFS ? worker_ip(w, c->route.vrf) : NULL;
  if (!ip)
    return -ENODEV;
  memcpy(dst.b, c->route.dst, sizeof dst.b);
  int had = ip_route_get(ip, &dst, c->route.prefix, &old) == 0 && old.by == 0;
  if (had)
    (void)ip_route_del(ip, &dst, c->route.prefix);
  int rc = c->none ? 0 : routes_add(w, ip, &c->route);
  if (rc && had) /* what is taken back fits where it was */
    (void)ip_route_add(ip, &dst, old.bits, old.has_via ? &old.via : NULL, old.port);
  return rc;
}

/* Each record that is not yet in force; returns how many still wait for a net. */
static uint32_t routes_put_all(struct worker *w) {
  uint32_t waiting = 0;
  for (uint64_t i = 0; i < w->tcbs.geom.n_route; i++) {
    struct routes_change c = {.none = 0};
    uint32_t life = __atomic_load_n(&w->tcbs.route[i].life, __ATOMIC_ACQUIRE);
    if (life == ABI_ROUTE_FREE)
      continue;
    routes_read(&w->tcbs.route[i], &c.route);
    c.none = life == ABI_ROUTE_GONE;
    int rc = routes_put(w, &c);
    waiting += rc == -ENETUNREACH;
    if (rc && rc != -ENETUNREACH)
      log_warn("engine.route", "record %u of those set at run time is left out: %s", (unsigned)i, strerror(-rc));
  }
  return waiting;
}

void routes_start(struct worker *w) {
  w->routes_waiting = routes_put_all(w);
  w->routes_gen = vrf_gen(w);
}

void routes_again(struct worker *w) {
  if (vrf_gen(w) != w->routes_gen)
    routes_start(w);
}
