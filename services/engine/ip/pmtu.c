/*
 * What is known of the MTU of paths beyond their first link, per destination, shared by all transports of a worker
 * (RFC 1191 6.3, RFC 8201 5.2). Bounded: sets of four, the oldest of a set gives way. What comes in here was checked by
 * a transport before; an entry only lowers what the link says, and not for long. Worker thread.
 */
#include "base/hash.h"
#include "ip/ip_stack.h"

#define PMTU_RENEW 1000000u /* µs; other workers need not be told that an entry lives longer by less */

static struct ip_pmtu *pmtu_set(struct ip_stack *s, const struct ip_addr *dst) {
  return &s->pmtu[hash_siphash24(s->neigh.key, dst->b, sizeof dst->b) % PMTU_SETS * PMTU_WAYS];
}

static struct ip_pmtu *pmtu_find(struct ip_stack *s, const struct ip_addr *dst, usec_t now) {
  struct ip_pmtu *e = pmtu_set(s, dst);
  for (unsigned i = 0; i < PMTU_WAYS; i++)
    if (e[i].until > now && ip_addr_eq(&e[i].dst, dst))
      return &e[i];
  return NULL;
}

int ip_path_mtu_told(struct ip_stack *s, const struct ip_addr *dst, uint32_t mtu, usec_t until, usec_t now) {
  struct ip_pmtu *e = pmtu_find(s, dst, now), *set = pmtu_set(s, dst);
  int link = ip_mtu(s, dst), fresh = e == NULL || e->mtu != mtu || e->until + PMTU_RENEW < until;
  if (link < 0 || (uint32_t)link <= mtu) { /* nothing that the link does not say */
    if (e != NULL)
      e->until = 0;
    return e != NULL;
  }
  for (unsigned i = 0; e == NULL && i < PMTU_WAYS; i++)
    if (set[i].until <= now)
      e = &set[i];
  if (e == NULL) {
    e = set;
    for (unsigned i = 1; i < PMTU_WAYS; i++)
      e = set[i].until < e->until ? &set[i] : e;
  }
  *e = (struct ip_pmtu){.dst = *dst, .mtu = mtu, .until = until};
  if (until > s->pmtu_until)
    s->pmtu_until = until;
  return fresh;
}

int ip_path_mtu_learn(struct ip_stack *s, const struct ip_addr *dst, uint32_t mtu, usec_t until, usec_t now) {
  int link = ip_mtu(s, dst);
  if (link >= 0 && mtu < (uint32_t)link)
    stack_count(s, IPC_PMTU_LEARNED);
  return ip_path_mtu_told(s, dst, mtu, until, now);
}

int ip_path_mtu(struct ip_stack *s, const struct ip_addr *dst, usec_t now) {
  int link = ip_mtu(s, dst);
  if (link < 0 || s->pmtu_until <= now) /* nothing is known of anybody: the common case */
    return link;
  const struct ip_pmtu *e = pmtu_find(s, dst, now);
  return e != NULL && e->mtu < (uint32_t)link ? (int)e->mtu : link;
}
