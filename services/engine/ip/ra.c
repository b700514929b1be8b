/*
 * Stateless address autoconfiguration and router discovery of a host (RFC 4861 6.3, RFC 4862 5.5, RFC 7559). Called by
 * nd.c for every advertisement, by ip_stack.c when a port comes up, by neigh.c when a router falls silent, and by the
 * stack's clock; worker thread.
 *
 * Only for ports that were told to (ip_auto6). An address is formed of the prefix and the modified EUI-64 of the MAC,
 * so that it is the same after every restart; it has a /128 of its own, whether the net is on-link the advertisement
 * says. A route that the user gave is never replaced.
 *
 * deviates: RFC 4861 6.3.7 wants a random delay before the first solicitation; connections of a restarted engine wait
 * for it. RetransTimer is not taken over; Reachable Time counts for all ports alike.
 */
#include "ip/ra.h"
#include "base/hash.h"
#include "ip/ip_stack.h"
#include "wire/icmp.h"

#define RA_ADDR_BITS 64u
#define RA_MTU_MIN   1280u /* RFC 8200 5 */

static const struct ip_addr ra_any = {{0}};

static usec_t ra_until(uint32_t seconds, usec_t now) {
  return seconds == UINT32_MAX ? TIMER_NEVER : now + seconds * 1000000ull;
}

/* --- soliciting --- */

void ra_start(struct ip_stack *s, uint32_t port, usec_t now) {
  struct ra_port *rp = &s->ra_port[port];
  rp->due = 0;
  rp->wait = 0;
  if (rp->on && s->port[port].up)
    ra_solicit(s, port, now);
  else
    timer_cancel(&s->wheel, &rp->timer);
}

void ra_solicit(struct ip_stack *s, uint32_t port, usec_t now) {
  struct ra_port *rp = &s->ra_port[port];
  if (!rp->on || !s->port[port].up)
    return;
  usec_t wait = rp->wait == 0 ? RA_RS_US : HS_MIN(2 * rp->wait, RA_RS_MAX);
  if (nd_solicit_router(s, port) < 0)
    wait = HS_MAX(rp->wait, 10000ull); /* no frame: soon again */
  else
    rp->wait = wait;
  wait += hash_mix64(now + port) % (wait / 10 + 1); /* RFC 8415 15: not all hosts at once */
  stack_arm(s, &rp->timer, STACK_TIMER_RS, port, now + wait, now);
}

int ip_auto6(struct ip_stack *s, uint32_t port, int on) {
  if (!port_is(s, port))
    return -EINVAL;
  s->ra_port[port].on = on != 0;
  s->ra_port[port].due = 1;
  s->announce_due = 1;
  s->next_due = 0;
  return 0;
}

/* --- routes --- */

/* The router of the default route: the present one while it answers, else the first that does, else the first. */
static const struct ra_router *ra_choose(const struct ip_stack *s, const struct route *now) {
  const struct ra_router *best = NULL;
  for (uint32_t i = 0; i < RA_ROUTERS; i++) {
    const struct ra_router *r = &s->ra.router[i];
    if (r->until == 0)
      continue;
    int present = now != NULL && now->port == r->port && ip_addr_eq(&now->via, &r->addr);
    if (best == NULL || (best->silent && !r->silent) || (present && r->silent <= best->silent))
      best = r;
  }
  return best;
}

static void ra_default_route(struct ip_stack *s) {
  struct route *r = route_find(&s->routes, &ra_any, 0);
  int err;
  if (r != NULL && !r->learned)
    return; /* the user's */
  const struct ra_router *best = ra_choose(s, r);
  if (best == NULL) {
    if (r != NULL) {
      (void)route_del(&s->routes, &ra_any, 0);
      stack_changed(s);
    }
    return;
  }
  if (r != NULL && r->port == best->port && ip_addr_eq(&r->via, &best->addr))
    return;
  if (r == NULL)
    r = route_add(&s->routes, &ra_any, 0, &err);
  if (r == NULL) {
    stack_count(s, IPC_RA_LIMIT);
    return;
  }
  r->via = best->addr;
  r->has_via = 1;
  r->port = best->port;
  r->learned = 1;
  stack_changed(s);
}

/* The net is no longer on the link, unless a configured address says so. */
static void ra_prefix_drop(struct ip_stack *s, struct ra_prefix *x) {
  struct route *r = route_find(&s->routes, &x->prefix, x->len);
  x->until = 0;
  if (r == NULL || !r->learned || r->has_via || r->port != x->port)
    return;
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || l->port != x->port || l->prefix != x->len || ip_addr_is4(&l->addr) ||
        !ip_addr_match(&l->addr, &x->prefix, x->len))
      continue;
    r->learned = 0;
    r->connected = 1;
    return;
  }
  (void)route_del(&s->routes, &x->prefix, x->len);
  stack_changed(s);
}

/* RFC 4861 6.3.4, prefix information with L. */
static void ra_prefix_on_link(struct ip_stack *s, uint32_t port, const struct nd_prefix *in, usec_t now) {
  struct ip_addr net = ip_addr_mask(&in->prefix, in->len);
  struct ra_prefix *x = NULL, *empty = NULL;
  int err;
  for (uint32_t i = 0; i < RA_PREFIXES; i++) {
    struct ra_prefix *y = &s->ra.prefix[i];
    if (y->until == 0)
      empty = empty != NULL ? empty : y;
    else if (y->port == port && y->len == in->len && ip_addr_eq(&y->prefix, &net))
      x = y;
  }
  if (in->valid_s == 0) {
    if (x != NULL)
      ra_prefix_drop(s, x);
    return;
  }
  if (x == NULL) {
    struct route *r = route_find(&s->routes, &net, in->len);
    if (r == NULL && empty != NULL && in->len != 0) {
      r = route_add(&s->routes, &net, in->len, &err);
      if (r != NULL) {
        r->port = (uint8_t)port;
        r->learned = 1;
        stack_changed(s);
      }
    }
    if (r == NULL || empty == NULL) {
      stack_count(s, IPC_RA_LIMIT);
      return;
    }
    x = empty;
    *x = (struct ra_prefix){.prefix = net, .len = in->len, .port = (uint8_t)port};
  }
  x->until = ra_until(in->valid_s, now);
}

/* --- addresses --- */

static uint32_t ra_addr_count(const struct ip_stack *s, uint32_t port) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n_local; i++)
    n += s->local[i].state != LOCAL_FREE && s->local[i].automatic == LOCAL_BY_RA && s->local[i].port == port;
  return n;
}

/* RFC 4862 5.5.3, prefix information with A. */
static void ra_prefix_address(struct ip_stack *s, uint32_t port, const struct nd_prefix *in, usec_t now) {
  if (ip_addr_is_linklocal(&in->prefix) || ip_addr_is_multicast(&in->prefix) || in->preferred_s > in->valid_s ||
      in->len != RA_ADDR_BITS)
    return;
  struct mac_addr mac = mac_addr_load(s->port[port].mac);
  struct ip_addr a = ip_addr_linklocal(&mac);
  memcpy(a.b, in->prefix.b, 8);
  struct ip_local *l = addr_on_port(s, port, &a);
  if (l == NULL) {
    if (in->valid_s == 0 || addr_find(s, &a) != NULL)
      return;
    l = ra_addr_count(s, port) < RA_ADDRS ? addr_make(s, port, &a, 128, LOCAL_BY_RA) : NULL;
    if (l == NULL) {
      stack_count(s, IPC_RA_LIMIT);
      return;
    }
    stack_count(s, IPC_RA_ADDR);
    l->valid = ra_until(in->valid_s, now);
  }
  if (l->automatic != LOCAL_BY_RA)
    return;
  usec_t valid = ra_until(in->valid_s, now);
  if (in->valid_s * 1000000ull > RA_TWO_H || valid > l->valid) /* e: a forged advertisement can't end it at once */
    l->valid = valid;
  else if (l->valid > now + RA_TWO_H)
    l->valid = now + RA_TWO_H;
  l->preferred = HS_MIN(ra_until(in->preferred_s, now), l->valid);
  l->deprecated = in->preferred_s == 0;
}

/* --- time --- */

/* Arms the timer for whatever ends first. */
static void ra_rearm(struct ip_stack *s, usec_t now) {
  usec_t next = TIMER_NEVER;
  for (uint32_t i = 0; i < RA_ROUTERS; i++) {
    if (s->ra.router[i].until != 0)
      next = HS_MIN(next, s->ra.router[i].until);
  }
  for (uint32_t i = 0; i < RA_PREFIXES; i++) {
    if (s->ra.prefix[i].until != 0)
      next = HS_MIN(next, s->ra.prefix[i].until);
  }
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state != LOCAL_FREE && l->automatic == LOCAL_BY_RA)
      next = HS_MIN(next, l->deprecated ? l->valid : HS_MIN(l->preferred, l->valid));
  }
  if (next == TIMER_NEVER)
    timer_cancel(&s->wheel, &s->ra.timer);
  else
    stack_arm(s, &s->ra.timer, STACK_TIMER_RA, 0, next, now);
}

void ra_timer(struct ip_stack *s, usec_t now) {
  for (uint32_t i = 0; i < RA_ROUTERS; i++) {
    if (s->ra.router[i].until <= now)
      s->ra.router[i].until = 0;
  }
  for (uint32_t i = 0; i < RA_PREFIXES; i++) {
    if (s->ra.prefix[i].until != 0 && s->ra.prefix[i].until <= now)
      ra_prefix_drop(s, &s->ra.prefix[i]);
  }
  for (uint32_t i = 0; i < s->n_local; i++) {
    struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || l->automatic != LOCAL_BY_RA)
      continue;
    l->deprecated |= l->preferred <= now;
    if (l->valid <= now) {
      stack_count(s, IPC_RA_EXPIRED);
      addr_remove(s, l);
    }
  }
  ra_default_route(s);
  ra_rearm(s, now);
}

/* --- advertisements --- */

static void ra_router_in(struct ip_stack *s, uint32_t port, const struct ip_addr *from, uint32_t lifetime_s,
                         usec_t now) {
  struct ra_router *r = NULL, *empty = NULL;
  for (uint32_t i = 0; i < RA_ROUTERS; i++) {
    struct ra_router *x = &s->ra.router[i];
    if (x->until == 0)
      empty = empty != NULL ? empty : x;
    else if (x->port == port && ip_addr_eq(&x->addr, from))
      r = x;
  }
  if (lifetime_s == 0) { /* RFC 4861 6.3.4: no default router (any more) */
    if (r != NULL)
      r->until = 0;
    return;
  }
  if (r == NULL && empty == NULL) {
    stack_count(s, IPC_RA_LIMIT);
    return;
  }
  if (r == NULL) {
    r = empty;
    *r = (struct ra_router){.addr = *from, .port = (uint8_t)port};
  }
  r->until = ra_until(lifetime_s, now);
}

void ra_silent(struct ip_stack *s, uint32_t port, const struct ip_addr *router, int silent) {
  for (uint32_t i = 0; i < RA_ROUTERS; i++) {
    struct ra_router *r = &s->ra.router[i];
    if (r->until == 0 || r->port != port || r->silent == silent || !ip_addr_eq(&r->addr, router))
      continue;
    r->silent = (uint8_t)silent;
    ra_default_route(s);
  }
}

static void ra_link_values(struct ip_stack *s, struct ip_port *port, const struct nd_msg *m) {
  if (m->hop_limit != 0)
    port->hop_limit = m->hop_limit;
  if (m->present & ND_HAS_MTU && m->mtu >= RA_MTU_MIN && m->mtu != port->mtu6) { /* RFC 4861 6.3.4 */
    port->mtu6 = m->mtu;
    stack_changed(s);
  }
  if (m->reachable_ms != 0 && m->reachable_ms <= 3600000u && m->reachable_ms != s->ra_reachable_ms) {
    s->ra_reachable_ms = m->reachable_ms;
    usec_t base = m->reachable_ms * 1000ull;
    s->neigh.reachable = base / 2 + hash_mix64(base ^ load_be32(s->neigh.key)) % base; /* RFC 4861 6.3.2 */
  }
}

int ra_input(struct ip_stack *s, const struct pkt *p, const struct nd_msg *m, usec_t now) {
  uint32_t port = p->port;
  if (!ip_addr_is_linklocal(&p->ip.src)) /* RFC 4861 6.1.2 */
    return -EBADMSG;
  if (!s->ra_port[port].on) {
    stack_count(s, IPC_ND_RA_IGNORED);
    return 0;
  }
  stack_count(s, IPC_ND_RA_RX);
  if (m->lifetime_s != 0)
    timer_cancel(&s->wheel, &s->ra_port[port].timer); /* RFC 7559 2.1: a router answered */
  struct neigh *e = neigh_find(s, port, &p->ip.src);
  if (e != NULL && m->present & ND_HAS_SLLA)
    neigh_heard(s, e, m->slla.b, NEIGH_SAID_OVERRIDE, now);
  ra_link_values(s, &s->port[port], m);
  ra_router_in(s, port, &p->ip.src, m->lifetime_s, now);
  for (uint32_t i = 0; i < m->n_prefixes; i++) {
    const struct nd_prefix *x = &m->prefixes[i];
    if (ip_addr_is_linklocal(&x->prefix) || ip_addr_is_multicast(&x->prefix))
      continue;
    if (x->flags & ND_PREFIX_ONLINK)
      ra_prefix_on_link(s, port, x, now);
    if (x->flags & ND_PREFIX_AUTO)
      ra_prefix_address(s, port, x, now);
  }
  ra_default_route(s);
  ra_rearm(s, now);
  return 0;
}
