/*
 * Several stacks of one host, one per engine worker: one learns addresses (SLAAC, DHCP), routers, redirects and link
 * values, detects duplicates, and its sisters take that over as a whole. Called by the worker through ip.h, when the
 * generation has moved; worker thread, not the hot path.
 *
 * A sister's own records of learned things never time out: what is not in the picture any more is forgotten. Addresses
 * of the configuration and those made of the MAC every stack has by itself; only that one is a duplicate is told.
 */
#include "ip/ip_stack.h"

void ip_quiet(struct ip_stack *s) {
  s->quiet = 1;
}

uint32_t ip_gen(const struct ip_stack *s) {
  return s->gen;
}

static int learned_by_net(const struct ip_local *l) {
  return l->automatic == LOCAL_BY_RA || l->automatic == LOCAL_BY_DHCP;
}

static void learned_routes(const struct ip_stack *s, struct ip_learned *out) {
  for (uint32_t b = 0; b < ROUTE_BUCKETS; b++)
    for (uint32_t i = s->routes.bucket[b]; i != ROUTE_NONE && out->n_routes < IP_LEARNED_ROUTES;
         i = s->routes.r[i].next) {
      const struct route *r = &s->routes.r[i];
      if (!r->learned)
        continue;
      uint32_t n = out->n_routes++;
      out->route[n].prefix = r->prefix;
      out->route[n].bits = r->bits;
      out->route[n].port = r->port;
      out->route[n].has_via = r->has_via;
      if (r->has_via)
        out->route[n].via = r->via;
    }
}

void ip_learned(const struct ip_stack *s, struct ip_learned *out) {
  memset(out, 0, sizeof *out);
  for (uint32_t i = 0; i < s->n_local && out->n_addrs < IP_LEARNED_ADDRS; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || (!learned_by_net(l) && l->state != LOCAL_DUPLICATE))
      continue;
    uint32_t n = out->n_addrs++;
    out->addr[n].addr = l->addr;
    out->addr[n].port = l->port;
    out->addr[n].prefix = l->prefix;
    out->addr[n].by = l->automatic;
    out->addr[n].deprecated = l->deprecated;
    out->addr[n].duplicate = l->state == LOCAL_DUPLICATE;
  }
  learned_routes(s, out);
  for (uint32_t p = 0; p < STACK_PORTS_MAX; p++) {
    out->port[p].mtu4 = s->port[p].mtu4;
    out->port[p].mtu6 = s->port[p].mtu6;
    out->port[p].hop_limit = s->port[p].hop_limit;
  }
}
_Static_assert(IP_LEARNED_PORTS == STACK_PORTS_MAX, "every port and VLAN");

/* --- taking over --- */

static int learned_has_addr(const struct ip_learned *in, const struct ip_local *l) {
  for (uint32_t i = 0; i < in->n_addrs && i < IP_LEARNED_ADDRS; i++)
    if (in->addr[i].port == l->port && ip_addr_eq(&in->addr[i].addr, &l->addr))
      return 1;
  return 0;
}

static void learned_take_addrs(struct ip_stack *s, const struct ip_learned *in, usec_t now) {
  for (uint32_t i = 0; i < s->n_local; i++) {
    struct ip_local *l = &s->local[i];
    if (l->state != LOCAL_FREE && learned_by_net(l) && !learned_has_addr(in, l))
      addr_remove(s, l);
  }
  for (uint32_t i = 0; i < in->n_addrs && i < IP_LEARNED_ADDRS; i++) {
    struct ip_local *l = addr_on_port(s, in->addr[i].port, &in->addr[i].addr);
    if (l == NULL && (in->addr[i].by == LOCAL_BY_RA || in->addr[i].by == LOCAL_BY_DHCP))
      l = addr_make(s, in->addr[i].port, &in->addr[i].addr, in->addr[i].prefix, (enum local_by)in->addr[i].by);
    if (l == NULL)
      continue;
    l->valid = l->preferred = TIMER_NEVER;
    l->deprecated = in->addr[i].deprecated;
    if (in->addr[i].duplicate && l->state != LOCAL_DUPLICATE) {
      l->state = LOCAL_DUPLICATE;
      timer_cancel(&s->wheel, &l->timer);
      stack_changed(s);
    }
  }
  (void)now;
}

static int learned_has_route(const struct ip_learned *in, const struct route *r) {
  for (uint32_t i = 0; i < in->n_routes && i < IP_LEARNED_ROUTES; i++)
    if (in->route[i].bits == r->bits && ip_addr_eq(&in->route[i].prefix, &r->prefix))
      return 1;
  return 0;
}

/* One learned route that is not in the picture any more. Returns 1 if there was one. */
static int learned_drop_route(struct ip_stack *s, const struct ip_learned *in) {
  for (uint32_t b = 0; b < ROUTE_BUCKETS; b++)
    for (uint32_t i = s->routes.bucket[b]; i != ROUTE_NONE; i = s->routes.r[i].next) {
      const struct route *r = &s->routes.r[i];
      if (!r->learned || learned_has_route(in, r))
        continue;
      struct ip_addr prefix = r->prefix;
      (void)route_del(&s->routes, &prefix, r->bits);
      stack_changed(s);
      return 1;
    }
  return 0;
}

static void learned_take_routes(struct ip_stack *s, const struct ip_learned *in) {
  while (learned_drop_route(s, in))
    ;
  for (uint32_t i = 0; i < in->n_routes && i < IP_LEARNED_ROUTES; i++) {
    int err = 0;
    struct route *r = route_find(&s->routes, &in->route[i].prefix, in->route[i].bits);
    if (r == NULL)
      r = route_add(&s->routes, &in->route[i].prefix, in->route[i].bits, &err);
    else if (!r->learned)
      continue; /* configured here as there */
    if (r == NULL)
      continue;
    r->via = in->route[i].via;
    r->has_via = in->route[i].has_via;
    r->port = in->route[i].port;
    r->learned = 1;
    stack_changed(s);
  }
}

void ip_learn(struct ip_stack *s, const struct ip_learned *in, usec_t now) {
  learned_take_addrs(s, in, now);
  learned_take_routes(s, in);
  for (uint32_t p = 0; p < STACK_PORTS_MAX; p++) {
    struct ip_port *port = &s->port[p];
    if (port->mtu4 != in->port[p].mtu4 || port->mtu6 != in->port[p].mtu6)
      stack_changed(s);
    port->mtu4 = in->port[p].mtu4;
    port->mtu6 = in->port[p].mtu6;
    port->hop_limit = (uint8_t)in->port[p].hop_limit;
  }
}
