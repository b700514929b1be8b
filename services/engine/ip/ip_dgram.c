/*
 * What a transport of datagrams asks of the IP layer before it sends: broadcast or not, which source for a group, the
 * MTU of a way that no route names, and whether the next hop is known (RFC 1122 3.3.4, 3.3.6; RFC 1112 6.1). Called by
 * session/transport_udp.c; worker thread, hot path.
 */
#include "ip/ip_stack.h"

int ip_is_broadcast(const struct ip_stack *s, const struct ip_addr *a) {
  if (!ip_addr_is4(a) || ip_addr_is_multicast(a))
    return 0;
  if (ip_addr_is_broadcast(a))
    return 1;
  for (uint32_t port = 0; port < STACK_PORTS_MAX; port++)
    if (s->port[port].used && addr_is_subnet_broadcast(s, port, a))
      return 1;
  return 0;
}

int ip_source_on(struct ip_stack *s, const struct ip_addr *dst, uint32_t ifindex, struct ip_addr *src) {
  return ip_source_among(s, dst, ifindex, NULL, src);
}

int ip_mtu_from(struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst) {
  int mtu = ip_mtu(s, dst);
  if (mtu >= 0)
    return mtu;
  const struct ip_local *l = addr_find(s, src); /* a link that only the source address names */
  if (l == NULL || !(ip_addr_is_multicast(dst) || ip_addr_is_broadcast(dst) || ip_addr_is_linklocal(dst)))
    return mtu;
  return (int)port_mtu(&s->port[l->port], ip_addr_is4(dst));
}

int ip_ready(struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst, usec_t now) {
  struct ip_addr hop;
  uint32_t port = 0;
  if (ip_is_local(s, dst) || ip_addr_is_multicast(dst) || ip_is_broadcast(s, dst))
    return 1;
  int err = output_route(s, src, dst, &port, &hop);
  if (err < 0)
    return err;
  const struct neigh *e = neigh_need(s, port, &hop, now);
  return e->state == NEIGH_FAILED ? -EHOSTUNREACH : e->state != NEIGH_INCOMPLETE;
}

uint32_t ip_port_of(const struct ip_stack *s, const struct ip_addr *local) {
  const struct ip_local *l = addr_find(s, local);
  return l != NULL ? l->port : 0;
}

int ip_group_is(const struct ip_stack *s, uint32_t port, const struct ip_addr *group) {
  return addr_is_group(s, port, group);
}
