/*
 * Who holds which local address and port. The records are in the registry (struct abi_reg_bind), so a port stays held
 * over the broker's death; a chain per port and protocol makes looking cheap.
 *
 * Called by listen.c and boot.c on the main thread. The conflict rules are those a Linux program sees from bind(2) and
 * listen(2); the engine's connections are not looked at: a port with connections left on it can always be bound again.
 */
#include "broker.h"

#include "base/log.h"
#include "base/rng.h"

#include <stdlib.h>

#define PORTS_N 65536u

static const uint8_t ports_mapped[12] = {[10] = 0xff, [11] = 0xff};

static int ports_is_v4(const uint8_t ip[16]) {
  return memcmp(ip, ports_mapped, 12) == 0;
}

int ports_is_wild(const uint8_t ip[16]) {
  static const uint8_t zero[16];
  return memcmp(ip, zero, 16) == 0 || (ports_is_v4(ip) && memcmp(ip + 12, zero, 4) == 0);
}

static void ports_link(struct broker *b, uint32_t idx) {
  const struct abi_reg_bind *r = &b->reg.bind[idx];
  uint32_t *head = &b->port_head[r->proto & 1][r->port];
  b->bind[idx].next = *head;
  b->bind[idx].policy = REGISTRY_NONE;
  *head = idx;
  if (idx >= b->bind_high)
    b->bind_high = idx + 1;
}

int ports_tables(struct broker *b) {
  b->bind = calloc(b->reg.n_binds, sizeof *b->bind);
  for (unsigned p = 0; p < 2; p++) {
    b->port_head[p] = malloc(PORTS_N * sizeof *b->port_head[p]);
    if (b->port_head[p] == NULL)
      return -ENOMEM;
    memset(b->port_head[p], 0xff, PORTS_N * sizeof *b->port_head[p]); /* REGISTRY_NONE */
  }
  if (b->bind == NULL)
    return -ENOMEM;
  for (uint32_t i = 0; i < b->reg.n_binds; i++) {
    struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used == 0)
      continue;
    uint32_t w = registry_worker_find(&b->reg, r->worker_id);
    if (w != REGISTRY_NONE && b->reg.worker[w].used == REG_LIVE)
      ports_link(b, i);
    else
      registry_used_set(&r->used, 0);
  }
  return 0;
}

void ports_free(struct broker *b) {
  free(b->bind);
  free(b->port_head[0]);
  free(b->port_head[1]);
  b->bind = NULL;
  b->port_head[0] = b->port_head[1] = NULL;
}

/** Whether one packet could be meant for both. A v6 wildcard takes IPv4 too, unless it is v6only. */
static int ports_overlap(const struct abi_reg_bind *a, const struct abi_reg_bind *c) {
  int a4 = ports_is_v4(a->ip), c4 = ports_is_v4(c->ip);
  int aw = ports_is_wild(a->ip), cw = ports_is_wild(c->ip);
  if (a4 == c4)
    return aw || cw || (memcmp(a->ip, c->ip, 16) == 0 && (a->scope == 0 || c->scope == 0 || a->scope == c->scope));
  const struct abi_reg_bind *six = a4 ? c : a;
  return ports_is_wild(six->ip) && (six->flags & ABI_BIND_V6ONLY) == 0;
}

/** Whether what comes for one may reach the other: only within a namespace. */
static int ports_same_ns(const struct broker *b, const struct abi_reg_bind *n, const struct abi_reg_bind *e) {
  return n->worker_id == e->worker_id || ns_of_worker(b, n->worker_id) == ns_of_worker(b, e->worker_id);
}

/** Whether they are of namespaces that divide what both would take: no address that comes for one is the other's. */
static int ports_apart(const struct broker *b, const struct abi_reg_bind *n, const struct abi_reg_bind *e) {
  const struct config *c = &b->svc.cfg;
  uint32_t ns_n = ns_of_worker(b, n->worker_id), ns_e = ns_of_worker(b, e->worker_id);
  int wild_n = ports_is_wild(n->ip), wild_e = ports_is_wild(e->ip);
  if (ns_n == ns_e || (!wild_n && !wild_e))
    return 0;
  if (wild_n && wild_e)
    return !config_ns_share(c, ns_n, ns_e);
  return wild_n ? !config_ns_has(c, ns_n, e->ip) : !config_ns_has(c, ns_e, n->ip);
}

/** Whether both are of workers of one application. */
static int ports_one_app(const struct broker *b, const struct abi_reg_bind *n, const struct abi_reg_bind *e) {
  uint32_t wn = registry_worker_find(&b->reg, n->worker_id), we = registry_worker_find(&b->reg, e->worker_id);
  return wn != REGISTRY_NONE && we != REGISTRY_NONE && b->reg.worker[wn].app_id == b->reg.worker[we].app_id;
}

/** Whether two that overlap may be held together. */
static int ports_may_share(const struct broker *b, const struct abi_reg_bind *n, const struct abi_reg_bind *e,
                           int listening) {
  uint32_t both = n->flags & e->flags;
  if (n->listener_id != 0 && n->listener_id == e->listener_id)
    return 1; /* two processes of one listener */
  if ((both & ABI_BIND_REUSEPORT) != 0 && n->uid == e->uid)
    return ports_same_ns(b, n, e);
  if ((both & ABI_BIND_APP_SHARE) != 0 && n->worker_id != e->worker_id && ports_one_app(b, n, e))
    return 1;
  if ((both & ABI_BIND_REUSEADDR) == 0)
    return n->proto == 0 && listening && e->listener_id == 0; /* both passed bind() once: only listeners matter now */
  return n->proto == 1 ? ports_same_ns(b, n, e) : e->listener_id == 0;
}

int ports_conflict(const struct broker *b, const struct abi_reg_bind *n, int listening, uint32_t skip) {
  for (uint32_t i = b->port_head[n->proto & 1][n->port]; i != REGISTRY_NONE; i = b->bind[i].next) {
    const struct abi_reg_bind *e = &b->reg.bind[i];
    if (i != skip && e->vrf == n->vrf && ports_overlap(n, e) && !ports_apart(b, n, e) &&
        !ports_may_share(b, n, e, listening))
      return -EADDRINUSE;
  }
  return 0;
}

/** Whether datagrams may be received at a group or at the broadcast address (bind(2) of a multicast receiver). */
static int ports_is_group(const uint8_t ip[16]) {
  return ports_is_v4(ip) ? (ip[12] & 0xf0) == 0xe0 || memcmp(ip + 12, "\xff\xff\xff\xff", 4) == 0 : ip[0] == 0xff;
}

int ports_address_ok(const struct broker *b, uint32_t ns, uint8_t proto, const uint8_t ip[16]) {
  if (ports_is_wild(ip) || (proto == 1 && ports_is_group(ip)))
    return 0;
  if (!config_ns_has(&b->svc.cfg, ns, ip))
    return -EADDRNOTAVAIL;
  for (uint32_t i = 0; i < b->svc.cfg.n_addrs; i++) {
    const struct config_addr *a = &b->svc.cfg.addr[i];
    if (config_interface_vrf(&b->svc.cfg, a->port) != config_ns_vrf(&b->svc.cfg, ns))
      continue;
    if (memcmp(a->ip, ip, 16) == 0)
      return 0;
    if (a->how != CONFIG_ADDR_GIVEN && (a->family == 4) == ports_is_v4(ip))
      return 0; /* learned ones are known to the engine alone */
  }
  return -EADDRNOTAVAIL;
}

int ports_pick(struct broker *b, const struct abi_reg_bind *n) {
  uint32_t lo = b->svc.cfg.port_lo, span = b->svc.cfg.port_hi - lo + 1, start;
  struct abi_reg_bind probe = *n;
  if (rng_secure(&start, sizeof start) < 0)
    start = n->slot;
  probe.flags &= (uint32_t)ABI_BIND_V6ONLY; /* a chosen port is shared with nobody */
  for (uint32_t i = 0; i < span; i++) {
    probe.port = (uint16_t)(lo + (start % span + i) % span);
    if (ports_conflict(b, &probe, 0, REGISTRY_NONE) == 0)
      return probe.port;
  }
  return -EADDRINUSE;
}

uint32_t ports_add(struct broker *b, const struct abi_reg_bind *n) {
  uint32_t idx = registry_bind_new(&b->reg, n);
  if (idx != REGISTRY_NONE)
    ports_link(b, idx);
  return idx;
}

void ports_remove(struct broker *b, uint32_t idx) {
  struct abi_reg_bind *r = &b->reg.bind[idx];
  uint32_t *p = &b->port_head[r->proto & 1][r->port];
  while (*p != REGISTRY_NONE && *p != idx)
    p = &b->bind[*p].next;
  if (*p == idx)
    *p = b->bind[idx].next;
  b->bind[idx] = (struct bind_rt){.next = REGISTRY_NONE, .policy = REGISTRY_NONE};
  registry_used_set(&r->used, 0);
}

uint32_t ports_find(const struct broker *b, uint64_t worker_id, uint32_t slot, uint32_t gen) {
  for (uint32_t i = 0; i < b->bind_high; i++) {
    const struct abi_reg_bind *r = &b->reg.bind[i];
    if (r->used != 0 && r->worker_id == worker_id && r->slot == slot && r->gen == gen)
      return i;
  }
  return REGISTRY_NONE;
}
