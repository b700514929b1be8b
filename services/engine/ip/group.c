/*
 * Multicast groups of apps: who has joined what on which interface, and telling routers and switches (RFC 1112, IGMPv3
 * RFC 3376, MLDv2 RFC 3810, of both only "listen to all sources"). Called by session/transport_udp.c when a session
 * joins or leaves, by ip_input.c for IGMP queries, by mld.c; worker thread.
 *
 * deviates: an IGMP query is answered at once, and for all groups (RFC 3376 5.2 spreads answers over time); reports of
 * a change are sent once more with the first query instead of after a random second.
 */
#include "base/bits.h"
#include "ip/ip_stack.h"
#include "wire/cksum.h"

#define IGMP_QUERY     0x11u
#define IGMP_V3_REPORT 0x22u
#define IGMP_IS_EX     2u /* record types: listens to all, in answer to a query; begins to; ends */
#define IGMP_TO_EX     4u
#define IGMP_TO_IN     3u
#define IGMP_RECORD    8u
#define IGMP_IP_HLEN   24u /* with a router alert (RFC 2113) */

static struct ip_group *group_find(struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  for (uint32_t i = 0; i < GROUPS_MAX; i++)
    if (s->group[i].refs != 0 && s->group[i].port == port && ip_addr_eq(&s->group[i].addr, a))
      return &s->group[i];
  return NULL;
}

int group_has(const struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  for (uint32_t i = 0; i < GROUPS_MAX; i++)
    if (s->group[i].refs != 0 && s->group[i].port == port && ip_addr_eq(&s->group[i].addr, a))
      return 1;
  return 0;
}

/* An IGMPv3 report of one group (RFC 3376 4.2): its IP header carries an option, so it is written here. */
static void group_igmp(struct ip_stack *s, uint32_t port, const struct ip_addr *group, uint8_t type) {
  static const uint8_t all[4] = {224, 0, 0, 22}; /* RFC 3376 4.2.14 */
  struct ip_addr dst = ip_addr_load4(all);
  const struct ip_local *l = addr_pick(s, port, &dst, NULL);
  struct mac_addr mac = ip_addr_mcast_mac(&dst);
  struct txf t;
  if (stack_frame(s, &t, port) < 0)
    return;
  uint32_t total = IGMP_IP_HLEN + 8u + IGMP_RECORD;
  uint8_t *h = t.data, *m = h + IGMP_IP_HLEN;
  memset(h, 0, total);
  h[0] = 0x46;
  h[1] = 0xc0; /* RFC 3376 4: internetwork control */
  store_be16(h + 2, (uint16_t)total);
  h[8] = 1;
  h[9] = IP_PROTO_IGMP;
  if (l != NULL)
    memcpy(h + 12, l->addr.b + 12, 4);
  memcpy(h + 16, all, 4);
  h[20] = 0x94; /* router alert, RFC 2113 */
  h[21] = 4;
  cksum_store(h + 10, cksum_fold(cksum_add(0, h, IGMP_IP_HLEN)));
  m[0] = IGMP_V3_REPORT;
  store_be16(m + 6, 1);
  m[8] = type;
  memcpy(m + 12, group->b + 12, 4);
  cksum_store(m + 2, cksum_fold(cksum_add(0, m, 8u + IGMP_RECORD)));
  t.len = total;
  stack_count(s, IPC_IGMP_TX);
  eth_output(s, &t, mac.b, ETH_TYPE_IP4);
}

static void group_tell(struct ip_stack *s, const struct ip_group *g, uint8_t type) {
  static const uint8_t igmp[] = {[IGMP_IS_EX] = IGMP_IS_EX, [IGMP_TO_EX] = IGMP_TO_EX, [IGMP_TO_IN] = IGMP_TO_IN};
  if (!s->port[g->port].up)
    return;
  if (ip_addr_is4(&g->addr)) {
    if (ip_addr_get4(&g->addr) != 0xe0000001u) /* RFC 3376 5: all hosts is never reported */
      group_igmp(s, g->port, &g->addr, igmp[type]);
  } else {
    mld_group(s, g->port, &g->addr, type); /* the record types are IGMP's */
  }
}

/* The interface: by number, by an address of ours, by the route to the group, or the first one of the family. */
static int group_port(struct ip_stack *s, const struct ip_addr *group, uint32_t ifindex, const struct ip_addr *local) {
  struct ip_addr src;
  if (ifindex != 0)
    return port_is(s, ifindex - 1) && s->port[ifindex - 1].used ? (int)ifindex - 1 : -ENODEV;
  if (local != NULL && !ip_addr_is_any(local)) {
    const struct ip_local *l = addr_find(s, local);
    return l != NULL ? l->port : -ENODEV;
  }
  return ip_source_on(s, group, 0, &src) == 0 ? (int)ip_port_of(s, &src) : -ENODEV;
}

/* One more session listens; it has refs 1 if it is the first. NULL: no room. */
static struct ip_group *group_more(struct ip_stack *s, const struct ip_addr *group, uint32_t port) {
  struct ip_group *g = group_find(s, port, group);
  if (g != NULL) {
    g->refs++;
    return g;
  }
  for (uint32_t i = 0; i < GROUPS_MAX; i++) {
    g = &s->group[i];
    if (g->refs != 0)
      continue;
    *g = (struct ip_group){.addr = *group, .refs = 1, .port = (uint8_t)port, .again = 1};
    return g;
  }
  return NULL;
}

int ip_group_join(struct ip_stack *s, const struct ip_addr *group, uint32_t ifindex, const struct ip_addr *local) {
  int port = group_port(s, group, ifindex, local);
  if (port < 0 || !ip_addr_is_multicast(group))
    return port < 0 ? port : -EINVAL;
  struct ip_group *g = group_more(s, group, (uint32_t)port);
  if (g == NULL)
    return -ENOBUFS;
  if (g->refs == 1)
    group_tell(s, g, IGMP_TO_EX);
  return port;
}

void ip_group_leave(struct ip_stack *s, const struct ip_addr *group, uint32_t port) {
  struct ip_group *g = group_find(s, port, group);
  if (g == NULL || --g->refs != 0)
    return;
  group_tell(s, g, IGMP_TO_IN);
}

void ip_group_told(struct ip_stack *s, const struct ip_addr *group, uint32_t port, int join) {
  struct ip_group *g = join ? group_more(s, group, port) : group_find(s, port, group);
  if (g != NULL && !join)
    g->refs--;
}

void group_report(struct ip_stack *s, uint32_t port, int four) {
  for (uint32_t i = 0; i < GROUPS_MAX; i++)
    if (s->group[i].refs != 0 && s->group[i].port == port && ip_addr_is4(&s->group[i].addr) == four)
      group_tell(s, &s->group[i], IGMP_IS_EX);
}

void group_igmp_input(struct ip_stack *s, const struct pkt *p, const struct ip_view *v) {
  const uint8_t *m = p->l4_off < v->avail ? v->h + p->l4_off : NULL;
  if (m == NULL || v->avail - p->l4_off < 8u || p->l4_len < 8u || p->ip.ttl != 1 || m[0] != IGMP_QUERY)
    return; /* other hosts' reports are none of our business */
  stack_count(s, IPC_IGMP_QUERY);
  group_report(s, p->port, 1);
}
