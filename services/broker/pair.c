/*
 * Pairs: two workers of different apps that exchange bytes without anybody else (cut-through, ARCHITECTURE section 1).
 *
 * Handlers of attach_srv.c, main thread. The worker that connects asks (Pair); if the best listener for that endpoint
 * belongs to another app in scope, it is given its side of a pair and a grant for that listener. The accepting side
 * goes first, over that worker's bell: its descriptors then lie in the worker's own socket, so that what the connecting
 * side writes arrives even if it, and this broker, are gone before the worker looks. The broker makes the two segments
 * and the socket between the apps, hands each side over once, and keeps read-only eyes on them for `hsctl show
 * session`. It is not needed afterwards: nothing here outlives it, a new broker makes a new pair for the next worker
 * that asks.
 */
#include "broker.h"

#include "abi/session.h"
#include "base/fault.h"
#include "base/log.h"
#include "shm/bell.h"
#include "shm/session.h"

#include <stdlib.h>
#include <unistd.h>

#define PAIR_SLOTS    8192u
#define PAIR_ARENA    (64u << 20) /* bytes of address space each way; memory only as it is touched */
#define PAIR_MAX      1024u       /* pairs at once */
#define PAIR_HAVE_MAX 64u

struct pair {
  struct list link;
  uint64_t id;
  uint64_t worker[2]; /* 0 connects, 1 accepts */
  int seg[2];         /* both sides' segments */
  struct abi_worker_geom geom;
};

static void pair_free(struct pair *p) {
  list_del(&p->link);
  for (int i = 0; i < 2; i++)
    if (p->seg[i] >= 0)
      close(p->seg[i]);
  free(p);
}

void pair_fini(struct broker *b) {
  struct list *l;
  while (b->pairs.next != NULL && (l = list_first(&b->pairs)) != NULL)
    pair_free(container_of(l, struct pair, link));
}

static struct pair *pair_find(const struct broker *b, uint64_t client, uint64_t server) {
  struct list *l;
  list_for_each(l, &b->pairs) {
    struct pair *p = container_of(l, struct pair, link);
    if (p->worker[0] == client && p->worker[1] == server)
      return p;
  }
  return NULL;
}

/** A segment of a pair. Descriptor or -errno. */
static int pair_seg(struct pair *p, uint64_t id) {
  uint64_t words[16];
  struct seg s;
  uint64_t size = worker_pair_geom(&p->geom, p->id, PAIR_SLOTS, PAIR_ARENA);
  memcpy(words, &p->geom, sizeof words);
  int rc = seg_create(&s, "hs-pair", ABI_SEG_PAIR, id, size, words);
  if (rc < 0)
    return rc;
  int fd = s.fd;
  s.fd = -1;
  seg_detach(&s);
  return fd;
}

/** The descriptors of one side, dups for the taking. 0 or -errno. */
static int pair_side(const struct pair *p, int side, int end, int fds[BELL_PAIR_FDS]) {
  struct seg theirs = {.fd = p->seg[!side]};
  fds[0] = p->seg[side];
  fds[1] = seg_reopen_rdonly(&theirs); /* the caller closes it */
  fds[2] = end;
  return fds[1] < 0 ? fds[1] : 0;
}

/** The accepting side goes to its worker. 0 or -errno: it has no bell, or no room there. */
static int pair_send(const struct broker *b, const struct pair *p, int end) {
  int fds[BELL_PAIR_FDS];
  uint32_t w = registry_worker_find(&b->reg, p->worker[1]);
  uint32_t bell =
      w != REGISTRY_NONE ? registry_item_find(&b->reg, ABI_ITEM_BELL, 0, b->reg.worker[w].proc_id) : REGISTRY_NONE;
  if (bell == REGISTRY_NONE || b->item[bell].fd < 0)
    return -ENOENT;
  int rc = pair_side(p, 1, end, fds);
  if (rc < 0)
    return rc;
  rc = bell_ring_pair(b->item[bell].fd, fds);
  close(fds[1]);
  return rc;
}

/** A pair, its accepting side handed over; *end is the connecting side's end of the socket. */
static struct pair *pair_new(struct broker *b, uint64_t client, uint64_t server, int *end, int *err) {
  int ends[2] = {-1, -1};
  uint32_t n = 0;
  struct list *l;
  list_for_each(l, &b->pairs) n++;
  struct pair *p = n < PAIR_MAX ? calloc(1, sizeof *p) : NULL;
  if (p == NULL) {
    *err = -ENOSPC;
    return NULL;
  }
  *p = (struct pair){.id = registry_id(&b->reg), .worker = {client, server}, .seg = {-1, -1}};
  list_add_tail(&b->pairs, &p->link);
  for (int i = 0; i < 2 && *err == 0; i++) {
    p->seg[i] = pair_seg(p, registry_id(&b->reg));
    *err = p->seg[i] < 0 ? p->seg[i] : 0;
  }
  if (*err == 0)
    *err = bell_pair(ends);
  FAULT_POINT("broker.pair.other-side");
  if (*err == 0)
    *err = pair_send(b, p, ends[1]);
  if (ends[1] >= 0)
    close(ends[1]); /* the app's is the only one now: its closing is the app's death */
  if (*err < 0) {
    if (ends[0] >= 0)
      close(ends[0]);
    pair_free(p);
    return NULL;
  }
  *end = ends[0];
  broker_count(b, BROKER_STAT_PAIRS);
  return p;
}

/* --- which listener --- */

/** How well a bound record meets an endpoint, by the engine's rule: 0 not at all, 3 exactly. */
static int pair_fit(const struct abi_reg_bind *r, const uint8_t ip[16]) {
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  int dst4 = memcmp(ip, mapped, sizeof mapped) == 0;
  if (!ports_is_wild(r->ip))
    return memcmp(r->ip, ip, 16) == 0 ? 3 : 0;
  if (r->family == 4)
    return dst4 ? 2 : 0;
  if (!dst4)
    return 2;
  return (r->flags & ABI_BIND_V6ONLY) != 0 ? 0 : 1;
}

/** Whether the listener's process waits for connections (nginx' master never does). What an app says of itself. */
static int pair_armed(const struct broker *b, const struct abi_reg_bind *r) {
  struct abi_worker_geom g;
  uint32_t w = registry_worker_find(&b->reg, r->worker_id);
  uint32_t a = w != REGISTRY_NONE ? vault_by_id(b, b->reg.worker[w].seg_a) : REGISTRY_NONE;
  uint32_t armed = 0;
  if (a == REGISTRY_NONE || b->item[a].fd < 0 ||
      pread(b->item[a].fd, &g, sizeof g, offsetof(struct abi_seg_hdr, geom)) != (ssize_t)sizeof g)
    return 0;
  uint64_t off = g.slots_off + (uint64_t)r->slot * sizeof(struct abi_sess_app);
  if (off > b->reg.item[a].size ||
      pread(b->item[a].fd, &armed, sizeof armed, (off_t)off + (off_t)offsetof(struct abi_sess_app, listen_armed)) !=
          (ssize_t)sizeof armed)
    return 0;
  return armed == 1;
}

/** App of a worker, its namespace in *ns. */
static uint64_t pair_app(const struct broker *b, uint64_t worker_id, uint32_t *ns) {
  uint32_t w = registry_worker_find(&b->reg, worker_id);
  uint32_t app = w != REGISTRY_NONE && b->reg.worker[w].used == REG_LIVE
                     ? registry_app_find(&b->reg, b->reg.worker[w].app_id)
                     : REGISTRY_NONE;
  *ns = app != REGISTRY_NONE ? b->reg.app[app].ns : 0;
  return app != REGISTRY_NONE ? b->reg.app[app].id : 0;
}

/** A share that the asker may use: another app's, of its namespace, waiting for connections. */
static int pair_allowed(const struct broker *b, const struct abi_reg_bind *r, uint64_t app, uint32_t ns) {
  uint32_t its_ns;
  uint64_t its_app = pair_app(b, r->worker_id, &its_ns);
  return its_app != 0 && its_app != app && its_ns == ns && (r->flags & ABI_BIND_NO_CUT) == 0 && pair_armed(b, r);
}

/** How well a listener meets an endpoint of a VRF: also the namespace must have the address. */
static int pair_meets(const struct broker *b, uint32_t idx, uint32_t vrf, const uint8_t ip[16]) {
  const struct abi_reg_bind *r = &b->reg.bind[idx];
  int fit = b->bind[idx].policy != REGISTRY_NONE && r->vrf == vrf ? pair_fit(r, ip) : 0;
  return fit != 0 && config_ns_has(&b->svc.cfg, ns_of_worker(b, r->worker_id), ip) ? fit : 0;
}

/** The next share for this endpoint; *shares = how many there are. Index of the bound record or REGISTRY_NONE. */
static uint32_t pair_listener(struct broker *b, uint64_t app, uint32_t ns, uint8_t proto, const uint8_t ip[16],
                              uint16_t port, uint32_t *shares) {
  int best = 0;
  uint32_t vrf = config_ns_vrf(&b->svc.cfg, ns);
  *shares = 0;
  for (uint32_t i = b->port_head[proto][port]; i != REGISTRY_NONE; i = b->bind[i].next) {
    int fit = pair_meets(b, i, vrf, ip);
    best = fit > best ? fit : best;
  }
  for (int round = 0; round < 2 && best > 0; round++) {
    uint32_t k = 0, want = *shares != 0 ? b->pair_turn % *shares : 0;
    for (uint32_t i = b->port_head[proto][port]; i != REGISTRY_NONE; i = b->bind[i].next) {
      const struct abi_reg_bind *r = &b->reg.bind[i];
      if (pair_meets(b, i, vrf, ip) != best || !pair_allowed(b, r, app, ns))
        continue;
      if (round == 1 && k == want)
        return i;
      k++;
    }
    *shares = k;
    if (k == 0)
      break;
  }
  return REGISTRY_NONE;
}

/** The addresses that the configuration gave to a namespace's VRF. Learned ones are known to the engine alone. */
static size_t pair_own(struct broker *b, uint32_t ns, ProtobufCBinaryData own[CONFIG_ADDRS_MAX]) {
  struct config *c = &b->svc.cfg;
  size_t n = 0;
  for (uint32_t i = 0; i < c->n_addrs; i++)
    if (c->addr[i].how == CONFIG_ADDR_GIVEN && config_interface_vrf(c, c->addr[i].port) == config_ns_vrf(c, ns))
      own[n++] = (ProtobufCBinaryData){.len = 16, .data = c->addr[i].ip};
  return n;
}

static int pair_is_own(struct broker *b, uint32_t ns, const uint8_t ip[16]) {
  ProtobufCBinaryData own[CONFIG_ADDRS_MAX];
  size_t n = pair_own(b, ns, own);
  for (size_t i = 0; i < n; i++)
    if (memcmp(own[i].data, ip, 16) == 0)
      return 1;
  return 0;
}

/* --- replies --- */

static int pair_answer(struct broker *b, struct conn *c, uint32_t seq, uint32_t ns, Hoststack__Attach__PairReply *pr,
                       const int *fds, int n_fds) {
  Hoststack__Attach__Reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  ProtobufCBinaryData own[CONFIG_ADDRS_MAX];
  pr->n_own = pair_own(b, ns, own);
  pr->own = own;
  pr->port_lo = b->svc.cfg.port_lo;
  pr->port_hi = b->svc.cfg.port_hi;
  r.seq = seq;
  r.body_case = HOSTSTACK__ATTACH__REPLY__BODY_PAIR;
  r.pair = pr;
  return attach_srv_reply(c, &r, fds, n_fds);
}

/** Hands the connecting side over. */
static void pair_hand_over(struct broker *b, struct conn *c, uint32_t seq, uint32_t ns, struct pair *p, int end,
                           Hoststack__Attach__PairReply *pr) {
  int fds[BELL_PAIR_FDS];
  int rc = pair_side(p, 0, end, fds);
  FAULT_POINT("broker.pair.hand-over");
  if (rc == 0) {
    rc = pair_answer(b, c, seq, ns, pr, fds, BELL_PAIR_FDS);
    close(fds[1]);
  }
  FAULT_POINT("broker.pair.handed-over");
  close(end);
  if (rc < 0)
    pair_free(p); /* who accepts sees the end of the socket */
}

static int pair_has(const Hoststack__Attach__Pair *m, uint64_t id) {
  for (size_t i = 0; i < m->n_have; i++)
    if (m->have[i] == id)
      return 1;
  return 0;
}

int pair_on_pair(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__Pair *m, const char **text) {
  Hoststack__Attach__PairReply pr = HOSTSTACK__ATTACH__PAIR_REPLY__INIT;
  const Hoststack__Attach__Endpoint *ep = m->remote;
  uint32_t ns;
  int err = 0, end = -1;
  if (workers_of_conn(b, c, m->worker_id) == REGISTRY_NONE) {
    *text = "pair: no such worker of this process";
    return -ENOENT;
  }
  if (ep == NULL || ep->ip.len != 16 || ep->port == 0 || ep->port > 65535 || m->n_have > PAIR_HAVE_MAX ||
      m->proto > 1) {
    *text = "pair: an address of 16 bytes, a port, TCP or UDP, at most 64 pairs at hand";
    return -EINVAL;
  }
  uint8_t proto = (uint8_t)m->proto;
  uint64_t app = pair_app(b, m->worker_id, &ns);
  pr.own_address = pair_is_own(b, ns, ep->ip.data);
  int may = pr.own_address && rule_cut_ok(b, ns, proto, ep->ip.data, (uint16_t)ep->port);
  uint32_t at = may ? pair_listener(b, app, ns, proto, ep->ip.data, (uint16_t)ep->port, &pr.shares) : REGISTRY_NONE;
  if (at == REGISTRY_NONE)
    goto plain;
  b->pair_turn++;
  const struct abi_reg_bind *r = &b->reg.bind[at];
  struct pair *p = pair_find(b, m->worker_id, r->worker_id);
  if (p != NULL && !pair_has(m, p->id)) { /* the answer was lost, or the asker let go of it */
    pair_free(p);
    p = NULL;
  }
  if (p == NULL)
    p = pair_new(b, m->worker_id, r->worker_id, &end, &err);
  if (p == NULL && err == -ENOSPC) {
    *text = "pair: no memory, no descriptors, or too many pairs";
    return err;
  }
  if (p == NULL)
    goto plain; /* its bell is full: it has not looked for long */
  pr.pair_id = p->id;
  pr.listener_id = r->listener_id;
  pr.slot = r->slot;
  pr.backlog = b->entry[b->bind[at].policy].backlog;
  if (end >= 0) {
    pair_hand_over(b, c, seq, ns, p, end, &pr);
    return 0;
  }
plain:
  (void)pair_answer(b, c, seq, ns, &pr, NULL, 0);
  return 0;
}

int pair_on_gone(struct broker *b, struct conn *c, uint32_t seq, const Hoststack__Attach__PairGone *m,
                 const char **text) {
  struct list *l;
  if (workers_of_conn(b, c, m->worker_id) == REGISTRY_NONE) {
    *text = "pair gone: no such worker of this process";
    return -ENOENT;
  }
  list_for_each(l, &b->pairs) {
    struct pair *p = container_of(l, struct pair, link);
    if (p->id != m->pair_id || (p->worker[0] != m->worker_id && p->worker[1] != m->worker_id))
      continue;
    if (m->lied) {
      broker_count(b, BROKER_STAT_PAIR_LIED);
      log_warn_rl("broker.pair", "worker %llu says that worker %llu lied", (unsigned long long)m->worker_id,
                  (unsigned long long)p->worker[p->worker[0] == m->worker_id]);
    }
    pair_free(p);
    break;
  }
  attach_srv_answer(c, seq, 0, NULL);
  return 0;
}

void pair_drop_worker(struct broker *b, uint64_t worker_id) {
  for (struct list *l = b->pairs.next, *next; l != &b->pairs; l = next) {
    struct pair *p = container_of(l, struct pair, link);
    next = l->next;
    if (p->worker[0] == worker_id || p->worker[1] == worker_id)
      pair_free(p);
  }
}

/* --- for hsctl --- */

static int pair_half(const struct pair *p, int side, uint32_t slot, struct abi_sess_app *out) {
  uint64_t off = p->geom.slots_off + (uint64_t)slot * sizeof *out;
  return pread(p->seg[side], out, sizeof *out, (off_t)off) == (ssize_t)sizeof *out ? 0 : -EIO;
}

void pair_each(const struct broker *b, pair_each_fn *fn, void *ctx) {
  struct list *l;
  list_for_each(l, &b->pairs) {
    const struct pair *p = container_of(l, struct pair, link);
    uint32_t high = 0;
    off_t at = (off_t)(p->geom.block_off + offsetof(struct abi_worker_app, slots_high));
    if (pread(p->seg[0], &high, sizeof high, at) != (ssize_t)sizeof high)
      continue;
    for (uint32_t slot = 0; slot < high && slot < PAIR_SLOTS; slot++) {
      struct abi_sess_app client, server;
      if (pair_half(p, 0, slot, &client) < 0 || pair_half(p, 1, slot, &server) < 0)
        break;
      if (client.op == ABI_OP_CONNECT && client.accepted == client.gen)
        fn(ctx, p->worker[0], p->worker[1], &client, &server);
    }
  }
}
