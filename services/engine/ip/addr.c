/*
 * Our own addresses: adding, finding, choosing a source, announcing. Called by the configuration door, by input for
 * every packet (addr_find), by arp.c and nd.c; worker thread. RFC 6724 in the small, RFC 5227, RFC 4862 5.4 with the
 * optimism of RFC 4429: an IPv6 address is used while its uniqueness is still being asked, because after a restart
 * connections go on with it at once.
 */
#include "base/hash.h"
#include "ip/ip_stack.h"

#define ADDR_NO_FRAME_US 10000ull   /* no frame was free: try again */
#define ADDR_DAD_US      1000000ull /* RFC 4862 5.1: one probe, RetransTimer */
#define ADDR_AGAIN_US    2000000ull /* RFC 5227 1.1: ANNOUNCE_INTERVAL; ANNOUNCE_NUM is 2 */

static uint32_t addr_bucket(const struct ip_addr *a) {
  return (uint32_t)hash_mix64(ip_addr_hi_(a) ^ hash_mix64(ip_addr_lo_(a))) & (STACK_ADDRS_MAX - 1);
}

struct ip_local *addr_find(const struct ip_stack *s, const struct ip_addr *a) {
  for (uint32_t i = s->local_bucket[addr_bucket(a)]; i != 0; i = s->local[i - 1].next) {
    const struct ip_local *l = &s->local[i - 1];
    if (ip_addr_eq(&l->addr, a) && l->state != LOCAL_DUPLICATE)
      return (struct ip_local *)l;
  }
  return NULL;
}

struct ip_local *addr_on_port(const struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  for (uint32_t i = s->local_bucket[addr_bucket(a)]; i != 0; i = s->local[i - 1].next) {
    const struct ip_local *l = &s->local[i - 1];
    if (l->port == port && ip_addr_eq(&l->addr, a))
      return (struct ip_local *)l;
  }
  return NULL;
}

int ip_is_local(const struct ip_stack *s, const struct ip_addr *a) {
  return addr_find(s, a) != NULL;
}

/* The route to an address's net, made with the first address of that net. */
static int addr_route_add(struct ip_stack *s, const struct ip_local *l) {
  unsigned bits = ip_addr_bits(&l->addr, l->prefix);
  int err = 0;
  if (route_find(&s->routes, &l->addr, bits) != NULL)
    return 0; /* of a sister address, or the user's own: it stands */
  struct route *r = route_add(&s->routes, &l->addr, bits, &err);
  if (r == NULL)
    return err;
  r->port = l->port;
  r->connected = 1;
  return 0;
}

/* Takes the route away unless a sister address of the same net remains; then it is that one's. */
static void addr_route_del(struct ip_stack *s, const struct ip_addr *a, unsigned prefix, uint32_t port) {
  unsigned bits = ip_addr_bits(a, prefix);
  struct route *r = route_find(&s->routes, a, bits);
  if (r == NULL || !r->connected || r->port != port)
    return;
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || ip_addr_bits(&l->addr, l->prefix) != bits || !ip_addr_match(&l->addr, a, bits))
      continue;
    r->port = l->port;
    return;
  }
  (void)route_del(&s->routes, a, bits);
}

static int addr_add(struct ip_stack *s, uint32_t port, const struct ip_addr *a, uint32_t prefix, enum local_by by,
                    struct ip_local **out) {
  uint32_t i = 0;
  while (i < s->n_local && s->local[i].state != LOCAL_FREE)
    i++;
  if (i == STACK_ADDRS_MAX)
    return -ENOSPC;
  struct ip_local *l = &s->local[i];
  uint16_t *head = &s->local_bucket[addr_bucket(a)];
  memset(l, 0, sizeof *l);
  l->addr = *a;
  l->port = (uint8_t)port;
  l->prefix = (uint8_t)prefix;
  l->automatic = (uint8_t)by;
  int err = addr_route_add(s, l);
  if (err < 0)
    return err;
  l->state = ip_addr_is4(a) ? LOCAL_PREFERRED : LOCAL_OPTIMISTIC;
  l->due = 1;
  l->next = *head;
  *head = (uint16_t)(i + 1);
  s->n_local = HS_MAX(s->n_local, i + 1);
  s->announce_due = 1;
  s->next_due = 0;
  stack_changed(s);
  if (out != NULL)
    *out = l;
  return 0;
}

struct ip_local *addr_make(struct ip_stack *s, uint32_t port, const struct ip_addr *a, uint32_t prefix,
                           enum local_by by) {
  struct ip_local *l = NULL;
  return addr_add(s, port, a, prefix, by, &l) < 0 ? NULL : l;
}

void addr_remove(struct ip_stack *s, struct ip_local *l) {
  uint16_t *link = &s->local_bucket[addr_bucket(&l->addr)], idx = (uint16_t)(l - s->local + 1);
  while (*link != idx)
    link = &s->local[*link - 1].next;
  *link = l->next;
  timer_cancel(&s->wheel, &l->timer);
  l->state = LOCAL_FREE;
  addr_route_del(s, &l->addr, l->prefix, l->port);
  stack_changed(s);
}

int ip_addr_add(struct ip_stack *s, uint32_t port, const struct ip_addr *a, uint32_t prefix_len) {
  if (!port_is(s, port) || prefix_len > (ip_addr_is4(a) ? 32u : 128u) || ip_addr_is_any(a) || ip_addr_is_multicast(a) ||
      ip_addr_is_broadcast(a) || ip_addr_is_loopback(a))
    return -EINVAL;
  if (addr_on_port(s, port, a) != NULL || addr_find(s, a) != NULL)
    return -EEXIST;
  return addr_add(s, port, a, prefix_len, LOCAL_BY_USER, NULL);
}

int ip_addr_del(struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  struct ip_local *l = addr_on_port(s, port, a);
  if (l == NULL)
    return -ENOENT;
  addr_remove(s, l);
  return 0;
}

int addr_linklocal(struct ip_stack *s, uint32_t port) {
  struct mac_addr mac = mac_addr_load(s->port[port].mac);
  struct ip_addr a = ip_addr_linklocal(&mac);
  for (uint32_t i = 0; i < s->n_local; i++) {
    if (s->local[i].state != LOCAL_FREE && s->local[i].automatic && s->local[i].port == port)
      addr_remove(s, &s->local[i]);
  }
  if (mac_addr_is_zero(&mac) || addr_on_port(s, port, &a) != NULL) /* zero: the port is not there yet */
    return 0;
  return addr_add(s, port, &a, 64, LOCAL_BY_MAC, NULL);
}

/* Number of leading bits that agree. */
static unsigned addr_common(const struct ip_addr *a, const struct ip_addr *b) {
  for (unsigned i = 0; i < 16; i++) {
    unsigned diff = a->b[i] ^ b->b[i];
    if (diff != 0)
      return i * 8 + 7 - bits_log2(diff);
  }
  return 128;
}

/* How good l is towards dst; 0: not at all. RFC 6724 5: rule 1 same address, 2 scope, 3 not deprecated, not optimistic,
 * 8 prefix. */
static unsigned addr_score(const struct ip_local *l, const struct ip_addr *dst) {
  if (l->state == LOCAL_FREE || l->state == LOCAL_DUPLICATE || ip_addr_is4(&l->addr) != ip_addr_is4(dst))
    return 0;
  unsigned score = 1 + addr_common(&l->addr, dst);
  if (ip_addr_eq(&l->addr, dst))
    score += 4096;
  if (ip_addr_is_linklocal(&l->addr) == ip_addr_is_linklocal(dst))
    score += 1024;
  if (!l->deprecated)
    score += 512;
  if (l->state == LOCAL_PREFERRED)
    score += 256;
  return score;
}

static const struct ip_local *addr_best(const struct ip_stack *s, int any_port, uint32_t port,
                                        const struct ip_addr *dst, const struct ip_among *among) {
  const struct ip_local *best = NULL;
  unsigned most = 0;
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    unsigned score = any_port || l->port == port ? addr_score(l, dst) : 0;
    if (any_port && ip_addr_is_linklocal(&l->addr))
      score = 0; /* means nothing on another link */
    if (score > most && (among == NULL || among->may(among->ctx, &l->addr))) {
      most = score;
      best = l;
    }
  }
  return best;
}

const struct ip_local *addr_pick(const struct ip_stack *s, uint32_t port, const struct ip_addr *dst,
                                 const struct ip_among *among) {
  return addr_best(s, 0, port, dst, among);
}

int ip_port_among(const struct ip_stack *s, uint32_t port, const struct ip_among *among) {
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state != LOCAL_FREE && l->port == port && among->may(among->ctx, &l->addr))
      return 1;
  }
  return 0;
}

static int addr_source(const struct ip_stack *s, const struct ip_addr *dst, const struct ip_among *among,
                       struct ip_addr *src) {
  const struct ip_local *own = addr_find(s, dst);
  if (own != NULL && (among == NULL || among->may(among->ctx, dst))) { /* RFC 6724 5 rule 1, whatever the routes say */
    *src = *dst;
    return 0;
  }
  const struct route *r = route_lookup(&s->routes, dst);
  if (r == NULL)
    return -ENETUNREACH;
  /* IPv4: the address that the next hop knows as its neighbour; IPv6: the one most like the destination */
  const struct ip_local *l = addr_pick(s, r->port, r->has_via && ip_addr_is4(dst) ? &r->via : dst, among);
  if (l == NULL)
    l = addr_best(s, 1, 0, dst, among);
  if (l == NULL)
    return among != NULL ? -EADDRNOTAVAIL : -ENETUNREACH;
  *src = l->addr;
  return 0;
}

int ip_source(struct ip_stack *s, const struct ip_addr *dst, struct ip_addr *src) {
  return addr_source(s, dst, NULL, src);
}

int ip_source_among(struct ip_stack *s, const struct ip_addr *dst, uint32_t ifindex, const struct ip_among *among,
                    struct ip_addr *src) {
  int by_route = ifindex == 0 || ifindex == IP_BY_ROUTE;
  int err = by_route ? addr_source(s, dst, among, src) : -ENETUNREACH;
  if (err != -ENETUNREACH || ifindex == IP_BY_ROUTE)
    return err;
  uint32_t from = ifindex != 0 ? ifindex - 1 : 0, to = ifindex != 0 ? ifindex : STACK_PORTS_MAX;
  for (uint32_t port = from; port < to && port < STACK_PORTS_MAX; port++) {
    const struct ip_local *l = s->port[port].used && s->port[port].up ? addr_pick(s, port, dst, among) : NULL;
    if (l != NULL) {
      *src = l->addr;
      return 0;
    }
  }
  return -ENETUNREACH;
}

int addr_is_subnet_broadcast(const struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  if (!ip_addr_is4(a))
    return 0;
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || l->port != port || !ip_addr_is4(&l->addr) || l->prefix > 30) /* RFC 3021 */
      continue;
    uint32_t host = l->prefix == 0 ? UINT32_MAX : (1u << (32 - l->prefix)) - 1;
    if ((ip_addr_get4(&l->addr) | host) == ip_addr_get4(a))
      return 1;
  }
  return 0;
}

int addr_is_group(const struct ip_stack *s, uint32_t port, const struct ip_addr *a) {
  if (group_has(s, port, a))
    return 1;
  if (ip_addr_is4(a))
    return ip_addr_get4(a) == 0xe0000001u; /* RFC 1112 4: all hosts */
  if (a->b[1] == 2 || a->b[1] == 1) {      /* RFC 4291 2.7.1: all nodes of the link and of the node */
    static const uint8_t rest[14] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    if (memcmp(a->b + 2, rest, 14) == 0)
      return 1;
  }
  for (uint32_t i = 0; i < s->n_local; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE || l->port != port || ip_addr_is4(&l->addr))
      continue;
    struct ip_addr group = ip_addr_solicited(&l->addr);
    if (ip_addr_eq(&group, a))
      return 1;
  }
  return 0;
}

/* One step of an address's announcement; returns when the next is due, 0: done. */
static usec_t addr_step(struct ip_stack *s, struct ip_local *l, usec_t now) {
  int err;
  if (s->quiet) { /* a sister says it all; what it hears against it, ip_learn tells */
    if (!ip_addr_is4(&l->addr) && l->step != 0)
      l->state = LOCAL_PREFERRED;
    return !ip_addr_is4(&l->addr) && ++l->step == 1 ? now + ADDR_DAD_US : 0;
  }
  if (ip_addr_is4(&l->addr)) {
    err = arp_announce(s, l);
    if (err < 0)
      return now + ADDR_NO_FRAME_US;
    return ++l->step == 1 ? now + ADDR_AGAIN_US : 0;
  }
  err = mld_join(s, l); /* before the probe (RFC 4861 7.2.1), and again, since it may be lost (RFC 3810 9.1) */
  if (err == 0 && l->step == 0) {
    err = nd_probe(s, l);
    if (err == 0)
      err = nd_announce(s, l);
  } else if (err == 0) {
    l->state = LOCAL_PREFERRED; /* nobody objected (RFC 4862 5.4) */
    err = nd_announce(s, l);
  }
  if (err < 0)
    return now + ADDR_NO_FRAME_US;
  return ++l->step == 1 ? now + ADDR_DAD_US : 0;
}

void addr_timer(struct ip_stack *s, struct ip_local *l, usec_t now) {
  if (l->state == LOCAL_FREE || l->state == LOCAL_DUPLICATE || !s->port[l->port].up)
    return;
  usec_t when = addr_step(s, l, now);
  if (when != 0)
    stack_arm(s, &l->timer, STACK_TIMER_LOCAL, (uint32_t)(l - s->local), when, now);
}

static void addr_announce(struct ip_stack *s, struct ip_local *l, usec_t now) {
  l->due = 0;
  l->step = 0;
  if (!ip_addr_is4(&l->addr) && l->state == LOCAL_PREFERRED)
    l->state = LOCAL_OPTIMISTIC; /* the link may be another one now */
  addr_timer(s, l, now);
}

void addr_announce_due(struct ip_stack *s, usec_t now) {
  for (uint32_t i = 0; i < s->n_local; i++) {
    struct ip_local *l = &s->local[i];
    if (l->state != LOCAL_FREE && l->due && s->port[l->port].up)
      addr_announce(s, l, now);
  }
}

void ip_announce(struct ip_stack *s, uint32_t port, usec_t now) {
  for (uint32_t i = 0; i < s->n_local; i++) {
    if (s->local[i].state != LOCAL_FREE && s->local[i].port == port)
      addr_announce(s, &s->local[i], now);
  }
}

void addr_conflict(struct ip_stack *s, struct ip_local *l, usec_t now) {
  (void)now;
  stack_count(s, IPC_ADDR_CONFLICT);
  if (l->state != LOCAL_OPTIMISTIC)
    return; /* a settled address is kept: its connections live */
  stack_count(s, IPC_ADDR_DUPLICATE);
  l->state = LOCAL_DUPLICATE;
  timer_cancel(&s->wheel, &l->timer);
  stack_changed(s);
}

uint32_t ip_addr_list(const struct ip_stack *s, struct ip_addr_row *out, uint32_t max) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < s->n_local && n < max; i++) {
    const struct ip_local *l = &s->local[i];
    if (l->state == LOCAL_FREE)
      continue;
    out[n++] = (struct ip_addr_row){.addr = l->addr,
                                    .port = l->port,
                                    .prefix = l->prefix,
                                    .by = l->automatic,
                                    .duplicate = l->state == LOCAL_DUPLICATE};
  }
  return n;
}
