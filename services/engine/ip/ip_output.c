/*
 * Packets to the link. Called by TCP's and UDP's glue per segment, hot path; by icmp*.c and nd.c. RFC 791, 8200, 1122
 * 3.3.1, 6864.
 *
 * The short way: a connection's struct ip_path of the present generation needs no lookup, its headers are prepended and
 * the frame is gone. The long way finds route and neighbour and fills the path; datagrams that may be cut always take
 * it.
 */
#include "ip/ip_stack.h"

static int output_drop(struct ip_stack *s, struct txf *t, enum ip_counter why, int err) {
  stack_count(s, why);
  s->ops.frame_drop(s->ctx, t);
  return err;
}

/* Prepends the IP header of a whole datagram; DF is set in IPv4. Returns 0 or -EMSGSIZE. */
static int output_header(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst,
                         uint8_t proto, uint8_t tos, uint8_t ttl, uint32_t mtu) {
  int four = ip_addr_is4(dst);
  unsigned hlen = four ? IP4_HLEN : IP6_HLEN;
  uint32_t l4 = t->len + t->fifo_len, total = hlen + l4;
  if (t->gso_size == 0) {
    if (HS_UNLIKELY(total > mtu))
      return -EMSGSIZE;
  } else {
    /* cut into wire segments of gso_size behind TCP's 20 bytes at least; the whole must fit its length field */
    if (HS_UNLIKELY(hlen + 20u + t->gso_size > mtu || (four ? total : l4) > 65535))
      return -EMSGSIZE;
  }
  struct ip_hdr h = {.version = four ? 4 : 6,
                     .tos = tos,
                     .ttl = ttl != 0 ? ttl
                            : four   ? STACK_TTL
                                     : s->port[t->port].hop_limit,
                     .proto = proto,
                     .flags = IP_FLAG_DF,
                     .total_len = total,
                     .src = *src,
                     .dst = *dst};
  if (four) { /* RFC 6864 4.1: any id will do with DF; a GSO frame uses up one per segment */
    h.frag_id = s->ip_id;
    s->ip_id = (uint16_t)(s->ip_id + (t->gso_size == 0 ? 1u : 128u));
  }
  return ip_hdr_build(txf_push(t, hlen), hlen, &h) < 0 ? -EMSGSIZE : 0;
}

static inline void output_eth(struct ip_stack *s, struct txf *t, const uint8_t dst[6], const uint8_t src[6], int four) {
  if (HS_UNLIKELY(s->port[t->port].vlan != 0)) { /* src is the port's */
    stack_count(s, IPC_TX_PACKETS);
    eth_output(s, t, dst, four ? ETH_TYPE_IP4 : ETH_TYPE_IP6);
    return;
  }
  uint8_t *h = txf_push(t, ETH_HLEN);
  memcpy(h, dst, 6);
  memcpy(h + 6, src, 6);
  store_be16(h + 12, four ? ETH_TYPE_IP4 : ETH_TYPE_IP6);
  stack_count(s, IPC_TX_PACKETS);
  s->ops.frame_send(s->ctx, t);
}

int output_direct(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst,
                  uint8_t proto, uint8_t ttl, const uint8_t mac[6]) {
  const struct ip_port *port = &s->port[t->port];
  int err = output_header(s, t, src, dst, proto, 0, ttl, port_mtu(port, ip_addr_is4(dst)));
  if (err < 0)
    return output_drop(s, t, IPC_TX_TOO_LONG, err);
  output_eth(s, t, mac, port->mac, ip_addr_is4(dst));
  return 0;
}

/* Port and next hop towards dst. 0 or -ENETUNREACH. */
int output_route(const struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst, uint32_t *port,
                 struct ip_addr *hop) { /* *port: where the frame was made for, if for any */
  const struct route *r = route_lookup(&s->routes, dst);
  *hop = *dst;
  if (r != NULL && !(ip_addr_is_linklocal(dst) && !ip_addr_is4(dst)) && !ip_addr_is_multicast(dst)) {
    *port = r->port;
    if (r->has_via)
      *hop = r->via;
  } else if (ip_addr_is_linklocal(dst) || ip_addr_is_multicast(dst) || ip_addr_is_broadcast(dst)) {
    const struct ip_local *l = addr_on_port(s, *port, src); /* no route names the link: the source address does */
    if (l == NULL)
      l = addr_find(s, src);
    if (l == NULL)
      return -ENETUNREACH;
    *port = l->port;
  } else {
    return -ENETUNREACH;
  }
  return s->port[*port].used && s->port[*port].up ? 0 : -ENETUNREACH;
}

/* Multicast and broadcast need no neighbour (RFC 1112 6.4, RFC 2464 7, RFC 1122 3.3.6). */
static int output_group_mac(const struct ip_stack *s, uint32_t port, const struct ip_addr *dst, uint8_t mac[6]) {
  if (ip_addr_is_multicast(dst)) {
    struct mac_addr group = ip_addr_mcast_mac(dst);
    memcpy(mac, group.b, 6);
    return 1;
  }
  if (ip_addr_is_broadcast(dst) || addr_is_subnet_broadcast(s, port, dst)) {
    memset(mac, 0xff, 6);
    return 1;
  }
  return 0;
}

/* Sends to a neighbour, or queues, or refuses; the IP header is in place. */
static int output_neigh(struct ip_stack *s, struct txf *t, const struct ip_addr *hop, int four, struct ip_path *path,
                        usec_t now) {
  const struct ip_port *port = &s->port[t->port];
  struct neigh *e = neigh_need(s, t->port, hop, now);
  if (e->state == NEIGH_FAILED)
    return output_drop(s, t, IPC_TX_UNREACH, -EHOSTUNREACH);
  if (e->state == NEIGH_INCOMPLETE) {
    if (t->n_fifo != 0) /* the fifo's owner will send these bytes again */
      return output_drop(s, t, IPC_NEIGH_AGAIN, -EAGAIN);
    neigh_queue(s, e, t);
    return 0;
  }
  neigh_used(s, e, now);
  if (path != NULL) {
    path->ifindex = t->port;
    path->resolved = 1;
    path->mtu = (uint16_t)HS_MIN(port_mtu(port, four), 65535u);
    path->neigh = (uint32_t)(e - s->neigh.n);
    memcpy(path->src_mac, port->mac, 6);
    memcpy(path->dst_mac, e->mac, 6);
    path->gen = s->gen;
  }
  output_eth(s, t, e->mac, port->mac, four);
  return 0;
}

/* To one of our own addresses: the owner hands it back to ip_loop_input. No path is kept, so that a frame is looped
 * only while the address is ours. */
static int output_loop(struct ip_stack *s, struct txf *t, const struct ip_local *to, const struct ip_addr *src,
                       uint8_t proto, uint8_t tos, uint8_t ttl) {
  if (s->ops.frame_loop == NULL)
    return output_drop(s, t, IPC_TX_TO_SELF, -EHOSTUNREACH);
  t->port = to->port;
  uint32_t mtu = t->frag_mtu != 0 ? UINT16_MAX : s->port[to->port].mtu; /* nothing needs to be cut */
  int err = output_header(s, t, src, &to->addr, proto, tos, ttl, mtu);
  if (err < 0)
    return output_drop(s, t, IPC_TX_TOO_LONG, err);
  err = s->ops.frame_loop(s->ctx, t);
  if (err < 0)
    return output_drop(s, t, IPC_TX_LOOP_FULL, err);
  stack_count(s, IPC_TX_LOOPED);
  return 0;
}

/* Too long for its way, and the sender allows to cut it. The neighbour must be known: fragments are too many to queue.
 */
static int output_cut(struct ip_stack *s, struct txf *t, struct ip_hdr *h, const struct ip_addr *hop, uint32_t mtu,
                      usec_t now) {
  uint8_t mac[6];
  if (!output_group_mac(s, t->port, &h->dst, mac)) {
    struct neigh *e = neigh_need(s, t->port, hop, now);
    if (e->state == NEIGH_FAILED)
      return output_drop(s, t, IPC_TX_UNREACH, -EHOSTUNREACH);
    if (e->state == NEIGH_INCOMPLETE)
      return output_drop(s, t, IPC_NEIGH_AGAIN, -EAGAIN);
    neigh_used(s, e, now);
    memcpy(mac, e->mac, 6);
  }
  return frag_output(s, t, h, mtu, mac);
}

static uint32_t output_total(const struct txf *t, int four) {
  return (four ? IP4_HLEN : IP6_HLEN) + t->len + t->fifo_len;
}

static int output_long_way(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst,
                           uint8_t proto, uint8_t tos, uint8_t ttl, struct ip_path *path, usec_t now) {
  struct ip_addr hop;
  uint32_t port = t->port;
  uint8_t mac[6];
  int four = ip_addr_is4(dst);
  if (path != NULL)
    path->gen = 0;
  if (ip_addr_is4(src) != four)
    return output_drop(s, t, IPC_TX_TO_SELF, -EHOSTUNREACH);
  const struct ip_local *own = addr_find(s, dst);
  if (own != NULL)
    return output_loop(s, t, own, src, proto, tos, ttl);
  int err = output_route(s, src, dst, &port, &hop);
  if (err < 0)
    return output_drop(s, t, IPC_TX_NO_ROUTE, err);
  t->port = (uint8_t)port;
  uint32_t mtu = port_mtu(&s->port[port], four), cut = HS_MIN(mtu, t->frag_mtu);
  if (HS_UNLIKELY(cut != 0 && output_total(t, four) > cut)) {
    struct ip_hdr h = {.version = four ? 4 : 6,
                       .tos = tos,
                       .ttl = ttl != 0 ? ttl
                              : four   ? STACK_TTL
                                       : s->port[port].hop_limit,
                       .proto = proto,
                       .src = *src,
                       .dst = *dst};
    return output_cut(s, t, &h, &hop, cut, now);
  }
  err = output_header(s, t, src, dst, proto, tos, ttl, mtu);
  if (err < 0)
    return output_drop(s, t, IPC_TX_TOO_LONG, err);
  if (output_group_mac(s, port, dst, mac)) {
    output_eth(s, t, mac, s->port[port].mac, four);
    return 0;
  }
  return output_neigh(s, t, &hop, four, path, now);
}

int ip_output(struct ip_stack *s, struct txf *t, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto,
              uint8_t tos, uint8_t ttl, struct ip_path *path, usec_t now) {
  if (HS_UNLIKELY(path == NULL || path->gen != s->gen || !path->resolved || t->frag_mtu != 0))
    return output_long_way(s, t, src, dst, proto, tos, ttl, path, now);
  t->port = path->ifindex;
  int err = output_header(s, t, src, dst, proto, tos, ttl, path->mtu);
  if (HS_UNLIKELY(err < 0))
    return output_drop(s, t, IPC_TX_TOO_LONG, err);
  output_eth(s, t, path->dst_mac, path->src_mac, ip_addr_is4(dst));
  return 0;
}

int ip_mtu(struct ip_stack *s, const struct ip_addr *dst) {
  const struct ip_local *own = addr_find(s, dst);
  if (own != NULL)
    return (int)port_mtu(&s->port[own->port], ip_addr_is4(dst));
  const struct route *r = route_lookup(&s->routes, dst);
  if (r == NULL || !s->port[r->port].used)
    return -ENETUNREACH;
  return (int)port_mtu(&s->port[r->port], ip_addr_is4(dst));
}
