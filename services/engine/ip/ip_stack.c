/*
 * An IP stack's making, its configuration, and its clock. ip_new and ip_free allocate; nothing after them does, so a
 * stack's memory is fixed: 4096 neighbours, 16384 routes, 256 addresses, 64 datagrams in fragments, touched only as
 * they come into use. Worker thread.
 */
#include "ip/ip_stack.h"
#include "base/rng.h"

#include <stdlib.h>

#define STACK_FIRE_MAX 256u      /* timers fired per ip_timer */
#define STACK_LOOK_US  100000ull /* output may order an earlier call than the last answer said: look this often */

int ip_new(struct ip_stack **out, const struct ip_ops *ops, void *ctx, uint64_t *counters) {
  struct neigh *n = NULL;
  struct route *r = NULL;
  uint32_t *nb = NULL, *rb = NULL;
  struct reasm *re = NULL;
  uint8_t *reb = NULL;
  uint32_t jitter = 0;
  int err = -ENOMEM;
  struct ip_stack *s = calloc(1, sizeof *s);
  if (s == NULL)
    goto out;
  n = calloc(NEIGH_MAX, sizeof *n);
  nb = calloc(NEIGH_BUCKETS, sizeof *nb);
  r = calloc(ROUTE_MAX, sizeof *r);
  rb = calloc(ROUTE_BUCKETS, sizeof *rb);
  re = calloc(REASM_MAX, sizeof *re);
  reb = calloc(REASM_MAX, REASM_ROOM);
  if (n == NULL || nb == NULL || r == NULL || rb == NULL || re == NULL || reb == NULL)
    goto out;
  neigh_init(&s->neigh, n, nb);
  route_init(&s->routes, r, rb);
  reasm_init(&s->reasm, re, reb);
  err = rng_secure(s->neigh.key, sizeof s->neigh.key);
  if (err == 0)
    err = rng_secure(&jitter, sizeof jitter);
  if (err < 0)
    goto out;
  s->neigh.reachable = NEIGH_REACH_US / 2 + jitter % NEIGH_REACH_US; /* RFC 4861 6.3.2 */
  s->ip_id = (uint16_t)(jitter >> 16);
  for (uint32_t i = 0; i < STACK_PORTS_MAX; i++)
    s->port[i].hop_limit = STACK_TTL;
  s->ops = *ops;
  s->ctx = ctx;
  s->counters = counters != NULL ? counters : s->own_counters;
  s->gen = 1;
  *out = s;
  return 0;
out:
  free(reb);
  free(re);
  free(rb);
  free(r);
  free(nb);
  free(n);
  free(s);
  return err;
}

void ip_free(struct ip_stack *s) {
  if (s == NULL)
    return;
  ip_drop_queued(s);
  free(s->neigh.n);
  free(s->neigh.bucket);
  free(s->routes.r);
  free(s->routes.bucket);
  free(s->reasm.r);
  free(s->reasm.buf);
  free(s);
}

static int stack_port_set(struct ip_stack *s, uint32_t port, const uint8_t mac[6], uint32_t mtu, int up) {
  struct ip_port *p = &s->port[port];
  int same_mac = p->used && memcmp(p->mac, mac, 6) == 0, rose = up && !p->up;
  if (same_mac && p->mtu == mtu && !rose && p->up == (up != 0))
    return 0;
  if (!same_mac || (p->up && !up)) {
    neigh_flush_port(s, port);
    redirect_silent(s, port, NULL);
  }
  p->used = 1;
  p->up = up != 0;
  p->mtu = mtu;
  memcpy(p->mac, mac, 6);
  stack_changed(s);
  int err = same_mac || p->foreign ? 0 : addr_linklocal(s, port);
  if (rose || !same_mac) {
    for (uint32_t i = 0; i < s->n_local; i++) {
      if (s->local[i].state != LOCAL_FREE && s->local[i].port == port)
        s->local[i].due = 1;
    }
    s->ra_port[port].due = s->dhcp[port].due = 1;
    s->announce_due = 1;
    s->next_due = 0;
  }
  return err;
}

/* What a VLAN has of its port. */
static int stack_vlan_follow(struct ip_stack *s, uint32_t vlan) {
  const struct ip_port *v = &s->port[vlan], *p = &s->port[v->parent];
  if (!p->used)
    return 0;
  return stack_port_set(s, vlan, p->mac, v->mtu_max != 0 ? HS_MIN(v->mtu_max, p->mtu) : p->mtu, p->up);
}

int ip_port_set(struct ip_stack *s, uint32_t port, const uint8_t mac[6], uint32_t mtu, int up) {
  if (port >= ABI_PORTS_MAX || mac[0] & 1 || mtu < 68) /* RFC 791 3.1: every link carries 68 */
    return -EINVAL;
  int err = stack_port_set(s, port, mac, mtu, up);
  for (uint32_t i = ABI_PORTS_MAX; i < STACK_PORTS_MAX; i++) {
    if (s->port[i].vlan == 0 || s->port[i].parent != port)
      continue;
    int rc = stack_vlan_follow(s, i);
    err = err < 0 ? err : rc;
  }
  return err;
}

int ip_port_foreign(struct ip_stack *s, uint32_t port) {
  if (!port_is(s, port))
    return -EINVAL;
  s->port[port].foreign = 1;
  return 0;
}

void ip_port_get(const struct ip_stack *s, uint32_t port, struct ip_port_row *out) {
  memset(out, 0, sizeof *out);
  if (port >= STACK_PORTS_MAX || !s->port[port].used)
    return;
  *out = (struct ip_port_row){.up = s->port[port].up, .mtu = s->port[port].mtu};
  memcpy(out->mac, s->port[port].mac, 6);
}

int ip_vlan_add(struct ip_stack *s, uint32_t port, uint32_t id, uint32_t mtu, uint32_t *out) {
  uint32_t i = ABI_PORTS_MAX;
  if (port >= ABI_PORTS_MAX || id == 0 || id > 4094 || (mtu != 0 && mtu < 68))
    return -EINVAL;
  for (; i < STACK_PORTS_MAX && s->port[i].vlan != 0; i++) {
    if (s->port[i].parent == port && s->port[i].vlan == id)
      return -EEXIST;
  }
  if (i == STACK_PORTS_MAX)
    return -ENOSPC;
  s->port[i].parent = (uint8_t)port;
  s->port[i].vlan = (uint16_t)id;
  s->port[i].mtu_max = mtu;
  *out = i;
  return stack_vlan_follow(s, i);
}

int ip_route_add(struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len, const struct ip_addr *via,
                 uint32_t port) {
  int err = 0;
  if (prefix_len > (ip_addr_is4(dst) ? 32u : 128u) || ip_addr_is_multicast(dst))
    return -EINVAL;
  if (via != NULL) {
    const struct route *hop = route_lookup(&s->routes, via);
    if (ip_addr_is4(via) != ip_addr_is4(dst))
      return -EINVAL;
    if (!ip_addr_is_linklocal(via) || ip_addr_is4(via)) {
      if (hop == NULL || hop->has_via || addr_find(s, via) != NULL)
        return -ENETUNREACH;
      port = hop->port;
    }
  }
  if (!port_is(s, port))
    return -EINVAL;
  unsigned bits = ip_addr_bits(dst, prefix_len);
  struct route *r = route_find(&s->routes, dst, bits);
  if (r != NULL && r->learned)
    (void)route_del(&s->routes, dst, bits);
  r = route_add(&s->routes, dst, bits, &err);
  if (r == NULL)
    return err;
  r->port = (uint8_t)port;
  if (via != NULL) {
    r->via = *via;
    r->has_via = 1;
  }
  stack_changed(s);
  return 0;
}

int ip_route_del(struct ip_stack *s, const struct ip_addr *dst, uint32_t prefix_len) {
  if (prefix_len > (ip_addr_is4(dst) ? 32u : 128u))
    return -EINVAL;
  int err = route_del(&s->routes, dst, ip_addr_bits(dst, prefix_len));
  if (err == 0)
    stack_changed(s);
  return err;
}

void stack_arm(struct ip_stack *s, struct timer_ent *t, enum stack_timer kind, uint32_t user, usec_t when, usec_t now) {
  if (!s->clock_on) {
    timer_wheel_init(&s->wheel, now);
    s->clock_on = 1;
  }
  t->kind = (uint16_t)kind;
  t->user = user;
  timer_set(&s->wheel, t, when);
  s->next_due = HS_MIN(s->next_due, when);
}

int stack_frame(struct ip_stack *s, struct txf *t, uint32_t port) {
  t->n_fifo = t->fifo_len = 0;
  t->flags = t->gso_size = t->frag_mtu = t->csum_start = 0;
  t->csum_off = 0;
  t->port = (uint8_t)port;
  if (s->ops.frame_get(s->ctx, t) < 0) {
    stack_count(s, IPC_TX_NO_FRAME);
    return -ENOBUFS;
  }
  t->port = (uint8_t)port;
  return 0;
}

/* What the wheel's callback needs besides the entry. */
struct stack_turn {
  struct ip_stack *s;
  usec_t now;
};

static void stack_fire(struct timer_ent *t, void *ctx) {
  const struct stack_turn *turn = ctx;
  switch ((enum stack_timer)t->kind) {
  case STACK_TIMER_NEIGH:
    neigh_timer(turn->s, &turn->s->neigh.n[t->user], turn->now);
    return;
  case STACK_TIMER_LOCAL:
    addr_timer(turn->s, &turn->s->local[t->user], turn->now);
    return;
  case STACK_TIMER_REASM:
    reasm_timer(turn->s, &turn->s->reasm.r[t->user], turn->now);
    return;
  case STACK_TIMER_RS:
    ra_solicit(turn->s, t->user, turn->now);
    return;
  case STACK_TIMER_DHCP:
    dhcp_timer(turn->s, t->user, turn->now);
    return;
  case STACK_TIMER_REDIRECT:
    redirect_timer(turn->s, turn->now);
    return;
  case STACK_TIMER_MLD:
    mld_timer(turn->s, t->user);
    return;
  case STACK_TIMER_RA:
    ra_timer(turn->s, turn->now);
    return;
  }
}

usec_t ip_timer(struct ip_stack *s, usec_t now) {
  if (HS_LIKELY(now < s->next_due))
    return HS_MIN(s->next_due, now + STACK_LOOK_US);
  struct stack_turn turn = {s, now};
  s->next_due = TIMER_NEVER;
  if (s->announce_due) {
    s->announce_due = 0;
    addr_announce_due(s, now);
    for (uint32_t port = 0; port < STACK_PORTS_MAX; port++) {
      if (s->ra_port[port].due)
        ra_start(s, port, now);
      if (s->dhcp[port].due)
        dhcp_start(s, port, now);
    }
  }
  if (s->clock_on) {
    timer_advance(&s->wheel, now, stack_fire, &turn, STACK_FIRE_MAX);
    s->next_due = timer_next(&s->wheel);
  }
  return HS_MIN(s->next_due, now + STACK_LOOK_US);
}
