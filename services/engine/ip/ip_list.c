/*
 * Routes and neighbours for those who look on: `hsctl show route`, `show neighbor`, and the changing of routes. Called
 * by the worker on its own thread, never per packet.
 */
#include "ip/ip_stack.h"

static void list_route(const struct route *r, struct ip_route_row *out) {
  int four = ip_addr_is4(&r->prefix) && r->bits >= 96;
  *out = (struct ip_route_row){.prefix = r->prefix,
                               .bits = (uint8_t)(four ? r->bits - 96 : r->bits),
                               .has_via = r->has_via,
                               .port = r->port,
                               .by = r->connected ? 1
                                     : r->learned ? 2
                                                  : 0};
  if (r->has_via)
    out->via = r->via;
}

uint32_t ip_route_list(const struct ip_stack *s, struct ip_route_row *out, uint32_t max, uint32_t skip,
                       uint32_t *total) {
  uint32_t n = 0, seen = 0;
  for (uint32_t b = 0; b < ROUTE_BUCKETS; b++)
    for (uint32_t i = s->routes.bucket[b]; i != ROUTE_NONE; i = s->routes.r[i].next)
      if (seen++ >= skip && n < max)
        list_route(&s->routes.r[i], &out[n++]);
  *total = seen;
  return n;
}

int ip_route_get(const struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len, struct ip_route_row *out) {
  const struct route *r = route_find(&s->routes, dst, ip_addr_bits(dst, prefix_len));
  if (r == NULL)
    return -ENOENT;
  list_route(r, out);
  return 0;
}

uint32_t ip_neigh_list(const struct ip_stack *s, struct ip_neigh_row *out, uint32_t max) {
  static const char *const names[] = {"", "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED"};
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->neigh.n_made && n < max; i++) {
    const struct neigh *e = &s->neigh.n[i];
    if (e->state == NEIGH_FREE)
      continue;
    struct ip_neigh_row *row = &out[n++];
    *row = (struct ip_neigh_row){.addr = e->addr, .port = e->port, .state = names[e->state], .confirmed = e->confirmed};
    memcpy(row->mac, e->mac, sizeof row->mac);
  }
  return n;
}
