/*
 * Neighbour discovery for a host (RFC 4861 7): answers solicitations, asks, announces, detects duplicates (RFC 4862
 * 5.4). Called by icmp6.c, neigh.c and addr.c; worker thread.
 *
 * Router advertisements go to ra.c, redirects to redirect.c. A solicitation from an optimistic address
 * carries our MAC (deviates: RFC 4429 3.2), since some peers would not answer otherwise.
 */
#include "wire/nd.h"
#include "ip/ip_stack.h"
#include "wire/icmp.h"

#define ND_TTL 255u /* RFC 4861 6.1, 7.1: proves that the sender is on the link */

static const uint8_t nd_all_nodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

/* mac NULL: dst is a group. */
static int nd_send(struct ip_stack *s, uint32_t port, const struct nd_msg *m, const struct ip_addr *src,
                   const struct ip_addr *dst, const uint8_t *mac) {
  struct txf t;
  int err = stack_frame(s, &t, port);
  if (err < 0)
    return err;
  int len = nd_msg_build(t.data, ND_LEN_MAX, m);
  if (len < 0) {
    s->ops.frame_drop(s->ctx, &t);
    return -EINVAL;
  }
  t.len = (uint32_t)len;
  icmp6_cksum_set(t.data, t.len, src, dst);
  struct mac_addr group = ip_addr_mcast_mac(dst);
  return output_direct(s, &t, src, dst, IP_PROTO_ICMP6, ND_TTL, mac != NULL ? mac : group.b);
}

int nd_ask(struct ip_stack *s, uint32_t port, const struct ip_addr *dst, const uint8_t *mac) {
  const struct ip_local *l = addr_pick(s, port, dst, NULL);
  if (l == NULL)
    return -EADDRNOTAVAIL;
  struct nd_msg m = {
      .type = ICMP6_NS, .present = ND_HAS_SLLA, .target = *dst, .slla = mac_addr_load(s->port[port].mac)};
  struct ip_addr group = ip_addr_solicited(dst);
  int err = nd_send(s, port, &m, &l->addr, mac != NULL ? dst : &group, mac);
  if (err == 0)
    stack_count(s, IPC_ND_NS_TX);
  return err;
}

int nd_probe(struct ip_stack *s, const struct ip_local *l) {
  struct nd_msg m = {.type = ICMP6_NS, .target = l->addr}; /* RFC 4862 5.4.2: from ::, no link-layer option */
  struct ip_addr group = ip_addr_solicited(&l->addr), any = {{0}};
  int err = nd_send(s, l->port, &m, &any, &group, NULL);
  if (err == 0)
    stack_count(s, IPC_ND_NS_TX);
  return err;
}

int nd_solicit_router(struct ip_stack *s, uint32_t port) {
  static const uint8_t all_routers[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  struct nd_msg m = {.type = ICMP6_RS};
  struct ip_addr src = {{0}}, dst = ip_addr_load6(all_routers); /* RFC 4861 4.1: from :: without option */
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->port != port || l->automatic != LOCAL_BY_MAC || l->state == LOCAL_FREE || l->state == LOCAL_DUPLICATE)
      continue;
    src = l->addr;
    m.present = ND_HAS_SLLA;
    m.slla = mac_addr_load(s->port[port].mac);
  }
  int err = nd_send(s, port, &m, &src, &dst, NULL);
  if (err == 0)
    stack_count(s, IPC_ND_RS_TX);
  return err;
}

static void nd_say(const struct ip_stack *s, const struct ip_local *l, unsigned solicited, struct nd_msg *m) {
  memset(m, 0, sizeof *m);
  m->type = ICMP6_NA;
  m->flags = (uint8_t)(solicited | (l->state == LOCAL_OPTIMISTIC ? 0 : ND_NA_OVERRIDE)); /* RFC 4429 3.3 */
  m->present = ND_HAS_TLLA;
  m->target = l->addr;
  m->tlla = mac_addr_load(s->port[l->port].mac);
}

int nd_announce(struct ip_stack *s, const struct ip_local *l) {
  struct nd_msg m;
  struct ip_addr all = ip_addr_load6(nd_all_nodes);
  nd_say(s, l, 0, &m);
  int err = nd_send(s, l->port, &m, &l->addr, &all, NULL); /* RFC 4861 7.2.6 */
  if (err == 0)
    stack_count(s, IPC_ADDR_ANNOUNCED);
  return err;
}

static int nd_ns_in(struct ip_stack *s, const struct pkt *p, const struct ip_view *v, const struct nd_msg *m,
                    usec_t now) {
  struct ip_addr all = ip_addr_load6(nd_all_nodes);
  struct nd_msg out;
  struct ip_local *l = addr_on_port(s, p->port, &m->target);
  int dad = ip_addr_is_any(&p->ip.src);
  if (dad && (m->present & ND_HAS_SLLA || p->to_us)) /* RFC 4861 7.1.1 */
    return -EBADMSG;
  if (l == NULL || l->state == LOCAL_DUPLICATE || (dad && s->quiet))
    return 0;
  if (dad && l->state == LOCAL_OPTIMISTIC) {
    addr_conflict(s, l, now); /* RFC 4862 5.4.3: two stations ask at once, neither gets it */
    return 0;
  }
  if (dad) {
    nd_say(s, l, 0, &out);
    if (nd_send(s, p->port, &out, &l->addr, &all, NULL) == 0) /* RFC 4861 7.2.4 */
      stack_count(s, IPC_ND_NA_TX);
    return 0;
  }
  /* RFC 4861 7.2.3 would add the asker; we ask him when we have something to send (deviates) */
  struct neigh *e = neigh_find(s, p->port, &p->ip.src);
  if (e != NULL && m->present & ND_HAS_SLLA)
    neigh_heard(s, e, m->slla.b, NEIGH_SAID_OVERRIDE, now);
  if (s->quiet)
    return 0;
  nd_say(s, l, ND_NA_SOLICITED, &out);
  const uint8_t *mac = m->present & ND_HAS_SLLA ? m->slla.b : v->eth.src.b;
  if (nd_send(s, p->port, &out, &l->addr, &p->ip.src, mac) == 0)
    stack_count(s, IPC_ND_NA_TX);
  return 0;
}

static int nd_na_in(struct ip_stack *s, const struct pkt *p, const struct nd_msg *m, usec_t now) {
  if (ip_addr_is_multicast(&p->ip.dst) && m->flags & ND_NA_SOLICITED) /* RFC 4861 7.1.2 */
    return -EBADMSG;
  struct ip_local *l = addr_on_port(s, p->port, &m->target);
  if (l != NULL && l->state != LOCAL_DUPLICATE) { /* else it is that station's, and a neighbour like others */
    if (!s->quiet)
      addr_conflict(s, l, now); /* RFC 4862 5.4.4 */
    return 0;
  }
  struct neigh *e = neigh_find(s, p->port, &m->target);
  if (e == NULL)
    return 0; /* RFC 4861 7.2.5 */
  unsigned what = 0;
  if (m->flags & ND_NA_SOLICITED)
    what |= NEIGH_SAID_SOLICITED;
  if (m->flags & ND_NA_OVERRIDE)
    what |= NEIGH_SAID_OVERRIDE;
  neigh_heard(s, e, m->present & ND_HAS_TLLA ? m->tlla.b : NULL, what, now);
  return 0;
}

static int nd_redirect_in(struct ip_stack *s, const struct pkt *p, const struct nd_msg *m, usec_t now) {
  if (!p->to_us || !ip_addr_is_linklocal(&p->ip.src)) /* RFC 4861 8.1 */
    return -EBADMSG;
  if (redirect_input(s, p->port, &p->ip.src, &m->dest, &m->target, now) < 0)
    return 0;
  struct neigh *e = neigh_find(s, p->port, &m->target);
  if (e != NULL && m->present & ND_HAS_TLLA) /* RFC 4861 8.3 */
    neigh_heard(s, e, m->tlla.b, NEIGH_SAID_OVERRIDE, now);
  return 0;
}

static int nd_mac_bad(const struct mac_addr *m) {
  return mac_addr_is_multicast(m) || mac_addr_is_zero(m);
}

void nd_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v, const uint8_t *msg, uint32_t len,
              usec_t now) {
  struct nd_msg m;
  int bad = p->ip.ttl != ND_TTL || nd_msg_parse(msg, len, &m) < 0;
  if (!bad)
    bad = (m.present & ND_HAS_SLLA && nd_mac_bad(&m.slla)) || (m.present & ND_HAS_TLLA && nd_mac_bad(&m.tlla));
  if (bad) {
    stack_count(s, IPC_ND_BAD);
    return;
  }
  switch (m.type) {
  case ICMP6_NS:
    stack_count(s, IPC_ND_NS_RX);
    bad = nd_ns_in(s, p, v, &m, now) < 0;
    break;
  case ICMP6_NA:
    stack_count(s, IPC_ND_NA_RX);
    bad = nd_na_in(s, p, &m, now) < 0;
    break;
  case ICMP6_RA:
    bad = ra_input(s, p, &m, now) < 0;
    break;
  case ICMP6_REDIRECT:
    bad = nd_redirect_in(s, p, &m, now) < 0;
    break;
  default:
    stack_count(s, IPC_ICMP_IGNORED);
    break;
  }
  if (bad)
    stack_count(s, IPC_ND_BAD);
}
