/*
 * Multicast listener reports of a host (RFC 3810, MLDv2), so that switches that snoop let through what is sent to our
 * solicited-node groups. Called by addr.c when an address is announced, by icmp6.c for queries, by the stack's clock;
 * worker thread. IPv4 needs none: its only group is 224.0.0.1, which is never reported (RFC 3376 5).
 *
 * deviates: leaving a group is not said, the router finds out by asking; MLDv1 queriers get version 2 reports; every
 * query is answered for all groups.
 */
#include "base/hash.h"
#include "ip/ip_stack.h"
#include "wire/icmp.h"

#define MLD_HOP_OPTS    8u /* hop-by-hop header with a router alert (RFC 2711) */
#define MLD_RECORD_LEN  20u
#define MLD_RECORDS_MAX 60u /* of 20 bytes in a packet that every link takes */
#define MLD_QUERY_MIN   24u
#define MLD_IS_EXCLUDE  2u /* record types: listens, in answer to a query; begins to listen */
#define MLD_TO_EXCLUDE  4u
#define MLD_DELAY_MAX   10000000ull

/* RFC 3590 4: from :: while the link-local address is not known to be ours alone. */
static struct ip_addr mld_source(const struct ip_stack *s, uint32_t port) {
  struct ip_addr any = {{0}};
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_PREFERRED && l->port == port && l->automatic == LOCAL_BY_MAC)
      return l->addr;
  }
  return any;
}

static int mld_send(struct ip_stack *s, uint32_t port, const struct ip_addr *group, uint32_t n, uint8_t type) {
  static const uint8_t all[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16}; /* RFC 3810 5.2.14 */
  static const uint8_t hop_opts[MLD_HOP_OPTS] = {IP_PROTO_ICMP6, 0, 5, 2, 0, 0, 1, 0};
  struct ip_addr src = mld_source(s, port), dst = ip_addr_load6(all);
  struct mac_addr mac = ip_addr_mcast_mac(&dst);
  struct txf t;
  int err = stack_frame(s, &t, port);
  if (err < 0)
    return err;
  t.len = MLD_HOP_OPTS + ICMP_HLEN + n * MLD_RECORD_LEN;
  memset(t.data, 0, t.len);
  memcpy(t.data, hop_opts, sizeof hop_opts);
  uint8_t *m = t.data + MLD_HOP_OPTS;
  m[0] = ICMP6_MLD2_REPORT;
  store_be16(m + 6, (uint16_t)n);
  for (uint32_t i = 0; i < n; i++) {
    m[ICMP_HLEN + i * MLD_RECORD_LEN] = type;
    memcpy(m + ICMP_HLEN + i * MLD_RECORD_LEN + 4, group[i].b, 16);
  }
  icmp6_cksum_set(m, t.len - MLD_HOP_OPTS, &src, &dst);
  stack_count(s, IPC_MLD_TX);
  return output_direct(s, &t, &src, &dst, IP_PROTO_HOPOPTS, 1, mac.b);
}

int mld_join(struct ip_stack *s, const struct ip_local *l) {
  struct ip_addr group = ip_addr_solicited(&l->addr);
  return mld_send(s, l->port, &group, 1, MLD_TO_EXCLUDE);
}

void mld_group(struct ip_stack *s, uint32_t port, const struct ip_addr *group, uint8_t type) {
  (void)mld_send(s, port, group, 1, type);
}

void mld_query(struct ip_stack *s, const struct pkt *p, const uint8_t *msg, uint32_t len, usec_t now) {
  /* RFC 3810 6.2, 5.1.14: from this link, and marked for routers */
  if (len < MLD_QUERY_MIN || p->ip.ttl != 1 || !ip_addr_is_linklocal(&p->ip.src) ||
      !(p->ip.flags & IP_FLAG_ROUTER_ALERT)) {
    stack_count(s, IPC_ICMP_BAD);
    return;
  }
  uint32_t code = load_be16(msg + 4);
  usec_t most = code < 32768 ? code * 1000ull : MLD_DELAY_MAX; /* 5.1.3; longer ones are answered sooner */
  usec_t delay = hash_mix64(now ^ load_be32(s->neigh.key)) % (HS_MIN(most, MLD_DELAY_MAX) + 1);
  struct timer_ent *t = &s->mld_timer[p->port];
  stack_count(s, IPC_MLD_QUERY);
  if (!timer_armed(t) || timer_expires(t) > now + delay)
    stack_arm(s, t, STACK_TIMER_MLD, p->port, now + delay, now);
}

void mld_timer(struct ip_stack *s, uint32_t port) {
  struct ip_addr group[MLD_RECORDS_MAX];
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || l->port != port || ip_addr_is4(&l->addr))
      continue;
    struct ip_addr g = ip_addr_solicited(&l->addr);
    uint32_t k = 0;
    while (k < n && !ip_addr_eq(&group[k], &g))
      k++;
    if (k < n)
      continue;
    if (n == MLD_RECORDS_MAX) {
      (void)mld_send(s, port, group, n, MLD_IS_EXCLUDE);
      n = 0;
    }
    group[n++] = g;
  }
  group_report(s, port, 0);
  if (n != 0)
    (void)mld_send(s, port, group, n, MLD_IS_EXCLUDE); /* without a frame the next query brings it */
}
