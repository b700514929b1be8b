/*
 * Redirects of both families (RFC 4861 8, RFC 1122 3.2.2.2): a destination's first hop says which other one is better.
 * Called by nd.c and icmp.c for messages, by neigh.c when a neighbour falls silent, by ip_stack.c when a port goes
 * down, and by the stack's clock; worker thread.
 *
 * Believed only from the present first hop of that destination, only about a single host, never against a host route of
 * the user; each is a learned route that ends after ten minutes or when the new hop does not answer. Bounded: the
 * oldest gives way.
 */
#include "ip/ip_stack.h"

#define REDIRECT_US 600000000ull

static void redirect_end(struct ip_stack *s, struct redirect *x) {
  const struct route *r = route_find(&s->routes, &x->dst, 128);
  x->until = 0;
  if (r == NULL || !r->learned)
    return; /* the user has said else since */
  (void)route_del(&s->routes, &x->dst, 128);
  stack_changed(s);
}

/* The record for dst: its own, a free one, or the oldest. */
static struct redirect *redirect_record(struct ip_stack *s, const struct ip_addr *dst) {
  struct redirect *best = &s->redirect[0];
  for (uint32_t i = 0; i < STACK_REDIRECTS_MAX; i++) {
    struct redirect *x = &s->redirect[i];
    if (x->until != 0 && ip_addr_eq(&x->dst, dst))
      return x;
    if (x->until < best->until)
      best = x;
  }
  if (best->until != 0)
    redirect_end(s, best);
  return best;
}

/* Whether `to` can be a neighbour on port. IPv6 routers name themselves by link-local address (RFC 4861 8.1), or say
 * that the destination itself is on the link. */
static int redirect_is_neighbour(const struct ip_stack *s, uint32_t port, const struct ip_addr *dst,
                                 const struct ip_addr *to) {
  if (!ip_addr_is4(to))
    return ip_addr_is_linklocal(to) || ip_addr_eq(to, dst);
  const struct route *hop = route_lookup(&s->routes, to);
  return hop != NULL && !hop->has_via && hop->port == port && !addr_is_subnet_broadcast(s, port, to);
}

int redirect_input(struct ip_stack *s, uint32_t port, const struct ip_addr *from, const struct ip_addr *dst,
                   const struct ip_addr *to, usec_t now) {
  const struct route *present = route_lookup(&s->routes, dst);
  struct route *r = route_find(&s->routes, dst, 128);
  int err, on_link = ip_addr_eq(to, dst);
  if (present == NULL || !present->has_via || present->port != port || !ip_addr_eq(&present->via, from) ||
      (r != NULL && !r->learned) || ip_addr_is_multicast(dst) || ip_addr_is_multicast(to) || ip_addr_is_any(to) ||
      addr_find(s, dst) != NULL || addr_find(s, to) != NULL || ip_addr_eq(to, from) ||
      !redirect_is_neighbour(s, port, dst, to)) {
    stack_count(s, IPC_REDIRECT_REFUSED);
    return -EBADMSG;
  }
  struct redirect *x = redirect_record(s, dst);
  if (r == NULL)
    r = route_add(&s->routes, dst, 128, &err);
  if (r == NULL) {
    stack_count(s, IPC_REDIRECT_REFUSED);
    return err;
  }
  r->via = *to;
  r->has_via = !on_link;
  r->port = (uint8_t)port;
  r->learned = 1;
  *x = (struct redirect){.dst = *dst, .to = *to, .until = now + REDIRECT_US, .port = (uint8_t)port};
  stack_arm(s, &s->redirect_timer, STACK_TIMER_REDIRECT, 0, HS_MIN(timer_expires(&s->redirect_timer), x->until), now);
  stack_count(s, IPC_REDIRECTS);
  stack_changed(s);
  return 0;
}

void redirect_silent(struct ip_stack *s, uint32_t port, const struct ip_addr *hop) {
  for (uint32_t i = 0; i < STACK_REDIRECTS_MAX; i++) {
    struct redirect *x = &s->redirect[i];
    if (x->until != 0 && x->port == port && (hop == NULL || ip_addr_eq(&x->to, hop)))
      redirect_end(s, x);
  }
}

void redirect_timer(struct ip_stack *s, usec_t now) {
  usec_t next = TIMER_NEVER;
  for (uint32_t i = 0; i < STACK_REDIRECTS_MAX; i++) {
    struct redirect *x = &s->redirect[i];
    if (x->until != 0 && x->until <= now)
      redirect_end(s, x);
    if (x->until != 0)
      next = HS_MIN(next, x->until);
  }
  if (next != TIMER_NEVER)
    stack_arm(s, &s->redirect_timer, STACK_TIMER_REDIRECT, 0, next, now);
}
