/*
 * UDP as a transport: sessions of datagrams, their ports and peers, and what comes for them (RFC 768, RFC 1122 4.1).
 * Worker thread; input is hot path. Output is in transport_udp_tx.c.
 *
 * A port comes from the broker (a policy entry of protocol 1 that names the session's slot), or is chosen here for a
 * session that sends before it is bound, or is lent by a bound session of the same app worker to one that is connected
 * (what accept of VCL makes: one session per peer). Who gets a datagram: the session that is connected to its sender;
 * else the policy entry that fits best, a SO_REUSEPORT group by hash; else the session that chose the port; else that
 * of a proxy (stray.h). Groups and broadcasts go to everybody who has the port. Who has a port is one worker's
 * (wire/flow.h): a session is opened there, and what comes elsewhere is passed on.
 *
 * Durable is the session's record alone (state READY, proto, local, remote) and its fifos; a successor goes on from
 * there. A datagram in the rx fifo is published by one store of the tail: a crash loses it or has delivered it.
 */
#include "transport_udp.h"

#include "gate.h"
#include "stray.h"

#include "base/bits.h"
#include "base/fault.h"
#include "wire/flow.h"

#include <errno.h>
#include <stdlib.h>

_Static_assert(sizeof(struct udp_conn) > TRANSPORT_PRIV && sizeof(struct udp_conn) <= TRANSPORT_OUTER,
               "lies in worker.outers");

static const struct ip_addr udp_any6;
static const struct ip_addr udp_any4 = {.b = {[10] = 0xff, [11] = 0xff}};

static struct ip_addr addr_of(const struct abi_endpoint *ep) {
  struct ip_addr a;
  memcpy(&a, ep->ip, sizeof a);
  return a;
}

static void udp_record(struct session *s) {
  struct abi_endpoint l = {.port = be16_from(s->lport), .family = ip_addr_is4(&s->local) ? 4 : 6};
  struct abi_endpoint r = {.port = be16_from(s->rport), .family = ip_addr_is4(&s->remote) ? 4 : 6};
  memcpy(l.ip, s->local.b, sizeof l.ip);
  memcpy(r.ip, s->remote.b, sizeof r.ip);
  if (!udp_of(s)->connected)
    memset(&r, 0, sizeof r);
  s->e->local = l;
  FAULT_POINT("udp.record"); /* half a record: the request is not answered yet, and is made again */
  s->e->remote = r;
}

void udp_tell(struct session *s, int err) {
  if (!s->e || !err)
    return;
  uint32_t count = (s->e->soft_error >> 16) + 1;
  __atomic_store_n(&s->e->soft_error, count << 16 | ((uint32_t)err & 0xffffu), __ATOMIC_RELEASE);
  app_hint(s->app, s->slot);
}

/* --- ports --- */

static struct listener *udp_listener(struct worker *w, struct session *s) {
  uint32_t at = udp_of(s)->listener;
  if (at == 0 || at > w->listeners.high)
    return NULL;
  struct listener *l = &w->listeners.l[at - 1];
  return l->session == s->index + 1 ? l : NULL;
}

/* Where the session is found: under its peer, by its policy entry, or under its own port. */
static int udp_enlist(struct worker *w, struct session *s) {
  struct udp_conn *c = udp_of(s);
  struct listener *l = udp_listener(w, s);
  if (l)
    l->armed = !c->connected;
  if (!c->connected && l)
    return 0;
  if (!c->connected) {
    s->remote = udp_any6;
    s->rport = 0;
  } else if (flow_find(w, s->vrf, s->proto, &s->local, s->lport, &s->remote, s->rport)) {
    return -EADDRINUSE;
  }
  return s->lport ? flow_add(w, s) : 0;
}

static int udp_port_taken(struct worker *w, uint32_t vrf, uint16_t port) {
  return listen_has_port(w, vrf, transport_udp.proto, port) ||
         flow_find(w, vrf, transport_udp.proto, &udp_any4, port, &udp_any6, 0) ||
         flow_find(w, vrf, transport_udp.proto, &udp_any6, port, &udp_any6, 0);
}

/* RFC 6056 3.3.1: random start, then the next one that is free. */
int udp_port_choose(struct worker *w, struct session *s) {
  uint32_t lo = w->cfg->port_lo, n = w->cfg->port_hi - lo + 1;
  uint32_t start = (uint32_t)hash_mix64(w->now ^ ((uint64_t)s->index << 32) ^ w->udp.chosen++ ^ w->flow_key[0]);
  for (uint32_t i = 0; i < n; i++) {
    uint16_t port = (uint16_t)(lo + (start + i) % n);
    if (flow_udp(port, w->group->n) != w->index)
      continue; /* what is sent there would come to another worker */
    if (udp_port_taken(w, s->vrf, port) || flow_find(w, s->vrf, s->proto, &s->local, port, &udp_any6, 0))
      continue;
    s->lport = port;
    return 0;
  }
  UDP_COUNT(&w->udp, no_ephemeral);
  return -EADDRNOTAVAIL;
}

/* --- open, connect, close --- */

/* A bound session of the same app worker that has the port s sends from, or takes what is sent to ports that nobody
 * has: it may have its peers in sessions of their own, as long as the port is its. */
static int udp_lender(struct worker *w, const struct session *s) {
  struct listener *l = NULL;
  do {
    l = listen_next(w, s->vrf, transport_udp.proto, &s->local, s->lport, l);
  } while (l && !(l->live && l->entry.worker_id == s->app->id));
  return l != NULL || stray_may_use(w, s->app, &s->local, s->lport);
}

/* RFC 1122 4.1.3.5: a connected socket has one local address, which is chosen now. */
static int udp_connect(struct worker *w, struct session *s, const struct abi_endpoint *to) {
  struct udp_conn *c = udp_of(s);
  struct ip_addr remote = addr_of(to), source;
  if (to->port.raw == 0 || ip_addr_is4(&remote) != (to->family == 4))
    return -EINVAL;
  if (c->lent && !udp_lender(w, s))
    return -EACCES; /* by now the port may be somebody else's: the peer that it has is all that it may have */
  int rc = gate_source(w, s->app, &remote, 0, &source);
  if (rc)
    return rc;
  if (ip_is_broadcast(worker_ip(w, s->vrf), &remote) && !(udp_of(s)->opt.flags & ABI_OPT_BROADCAST))
    return -EACCES;
  struct listener *l = udp_listener(w, s);
  struct ip_addr own = l ? addr_of(&l->entry.addr) : c->lent ? s->local : udp_any6;
  if (!ip_addr_is_any(&own) && !ip_addr_is_multicast(&own)) {
    source = own;
    if (ip_addr_is4(&source) != ip_addr_is4(&remote))
      return -EINVAL;
  }
  struct ip_addr was_local = s->local, was_remote = s->remote;
  uint16_t was_rport = s->rport;
  uint8_t was = c->connected;
  flow_del(w, s);
  s->local = source;
  s->remote = remote;
  s->rport = be16_get(to->port);
  c->connected = 1;
  rc = s->lport ? 0 : udp_port_choose(w, s);
  if (rc == 0)
    rc = udp_enlist(w, s);
  if (rc) { /* as it was */
    s->local = was_local;
    s->remote = was_remote;
    s->rport = was_rport;
    c->connected = was;
    (void)udp_enlist(w, s);
  }
  s->path.gen = 0;
  return rc;
}

/* connect(AF_UNSPEC): the address and port that connect chose are given up with the peer, as on Linux. */
static int udp_disconnect(struct worker *w, struct session *s) {
  struct udp_conn *c = udp_of(s);
  struct listener *l = udp_listener(w, s);
  int four = ip_addr_is4(&s->local);
  flow_del(w, s);
  c->connected = 0;
  s->local = l ? addr_of(&l->entry.addr) : four && !c->v6only ? udp_any4 : udp_any6;
  if (l && l->entry.addr.family == 4 && ip_addr_is_any(&s->local))
    s->local = udp_any4;
  if (!l)
    s->lport = c->lent = 0;
  s->path.gen = 0;
  return udp_enlist(w, s);
}

static void udp_options(struct worker *w, struct session *s, const struct abi_options *opt, usec_t now) {
  uint32_t rcv = opt->rcvbuf ? opt->rcvbuf : ABI_DGRAM_FIFO;
  (void)now;
  udp_of(s)->opt = *opt;
  if (rcv < ABI_DGRAM_MAX + sizeof(struct abi_dgram)) /* at least one of the longest */
    rcv = ABI_DGRAM_MAX + (uint32_t)sizeof(struct abi_dgram);
  fifo_prod_size_set(&s->rx, rcv > w->cfg->rx_fifo_max ? w->cfg->rx_fifo_max : rcv);
}

static int udp_mss(struct worker *w, const struct session *s) {
  int mtu = udp_of((struct session *)(uintptr_t)s)->connected ? ip_mtu_from(worker_ip(w, s->vrf), &s->local, &s->remote)
                                                              : 1500;
  return mtu > 0 ? (int)udp_pmtu_min(&w->udp, s->vrf, &s->remote, (uint32_t)mtu, w->now) : 1500;
}

static void udp_limits(struct worker *w, struct session *s) {
  uint32_t head = UDP_HLEN + (ip_addr_is4(&s->remote) ? 20u : 40u);
  s->e->mss = (uint32_t)udp_mss(w, s) - head;
}

/* The policy entry that gives the session its port. */
static int udp_claim(struct worker *w, struct session *s) {
  struct udp_conn *c = udp_of(s);
  struct listener *l = listen_by_slot(w, s->app->id, s->slot, s->gen);
  if (!l || l->entry.proto != transport_udp.proto || l->entry.vrf != s->vrf)
    return -ENOENT;
  c->listener = (uint32_t)(l - w->listeners.l) + 1;
  l->session = s->index + 1;
  s->lport = be16_get(l->entry.addr.port);
  return 0;
}

/* The port is lent. The source is the address asked for, or what the route says when that is none of ours (a group's).
 */
static int udp_lent(struct worker *w, struct session *s, const struct abi_endpoint *to) {
  struct ip_addr remote = addr_of(to);
  if (!ip_is_local(worker_ip(w, s->vrf), &s->local) && gate_source(w, s->app, &remote, 0, &s->local))
    return -EADDRNOTAVAIL;
  if (!gate_may_use(w, s->app->sh->ns, &s->local))
    return -EADDRNOTAVAIL;
  udp_of(s)->lent = 1;
  return udp_lender(w, s) ? 0 : -EACCES; /* ports are the broker's to give */
}

/* Order: record words → gen → state READY (release). A prefix leaves a FREE record: the request is served anew. */
static int udp_open(struct worker *w, struct session *s, const struct abi_request *req, usec_t now) {
  struct abi_options opt = s->a->opt;
  struct udp_conn *c = udp_of(s);
  int four = req->local.family == 4 || (req->local.family == 0 && req->remote.family == 4);
  c->v6only = req->v6only != 0;
  s->remote = udp_any6;
  s->rport = 0;
  int rc = udp_claim(w, s);
  if (rc == 0) {
    const struct abi_listen_entry *e = &w->listeners.l[c->listener - 1].entry;
    s->local = addr_of(&e->addr);
    c->v6only = (e->flags & ABI_LISTEN_V6ONLY) != 0;
    if (e->addr.family == 4 && ip_addr_is_any(&s->local))
      s->local = udp_any4;
  } else if (req->local.port.raw != 0) {
    rc = req->remote.family && req->kind == ABI_REQ_CONNECT ? udp_lent(w, s, &req->remote) : -EACCES;
    if (rc)
      return rc;
  } else {
    if (ip_addr_is_any(&s->local))
      s->local = four ? udp_any4 : udp_any6;
    else if (!ip_is_local(worker_ip(w, s->vrf), &s->local) || !gate_may_use(w, s->app->sh->ns, &s->local))
      return -EADDRNOTAVAIL;
    rc = udp_port_choose(w, s);
    if (rc)
      return rc;
  }
  rc = req->remote.family && req->kind == ABI_REQ_CONNECT ? udp_connect(w, s, &req->remote) : udp_enlist(w, s);
  if (rc == 0 && req->kind == ABI_REQ_PROBE && req->remote.family) {
    struct ip_addr source, to = addr_of(&req->remote);
    rc = gate_source(w, s->app, &to, 0, &source);
    rc = rc ? rc : gate_send(w, s, &source, &to, be16_get(req->remote.port));
  }
  if (rc) {
    struct listener *l = udp_listener(w, s);
    if (l)
      l->session = l->armed = 0;
    return rc;
  }
  udp_options(w, s, &opt, now);
  udp_record(s);
  udp_limits(w, s);
  s->e->tx_limit = ABI_DGRAM_FIFO;
  __atomic_store_n(&s->e->gen, s->gen, __ATOMIC_RELEASE);
  FAULT_POINT("udp.open");
  session_set_state(s, ABI_SESS_READY);
  return 0;
}

/* RFC 1112 6.1: JoinHostGroup. A second time is refused, unless a successor acts again on the same request. */
static int udp_join(struct worker *w, struct session *s, const struct abi_request *req) {
  struct udp_conn *c = udp_of(s);
  struct ip_addr group = addr_of(&req->remote), local = addr_of(&req->local);
  struct udp_group *room = NULL;
  for (uint32_t i = 0; i < UDP_GROUPS; i++)
    if (!c->group[i].used)
      room = &c->group[i];
  if (!room)
    return -ENOBUFS;
  int port = ip_group_join(worker_ip(w, s->vrf), &group, req->ifindex, &local);
  if (port < 0)
    return port;
  if (!gate_hears(w, s->app->sh->ns, (uint32_t)port)) {
    ip_group_leave(worker_ip(w, s->vrf), &group, (uint32_t)port);
    return -ENODEV;
  }
  for (uint32_t i = 0; i < UDP_GROUPS; i++) {
    if (!c->group[i].used || c->group[i].port != port || !ip_addr_eq(&c->group[i].addr, &group))
      continue;
    ip_group_leave(worker_ip(w, s->vrf), &group, (uint32_t)port);
    return -EADDRINUSE;
  }
  pass_group(w, s->vrf, &group, (uint32_t)port, 1);
  *room = (struct udp_group){.addr = group, .port = (uint8_t)port, .used = 1};
  return 0;
}

static void udp_leave_group(struct worker *w, const struct session *s, const struct udp_group *g) {
  ip_group_leave(worker_ip(w, s->vrf), &g->addr, g->port);
  pass_group(w, s->vrf, &g->addr, g->port, 0);
}

static int udp_leave(struct worker *w, struct session *s, const struct abi_request *req) {
  struct udp_conn *c = udp_of(s);
  struct ip_addr group = addr_of(&req->remote), local = addr_of(&req->local);
  uint32_t ifindex = req->ifindex                                ? req->ifindex
                     : ip_is_local(worker_ip(w, s->vrf), &local) ? 1u + ip_port_of(worker_ip(w, s->vrf), &local)
                                                                 : 0;
  for (uint32_t i = 0; i < UDP_GROUPS; i++) {
    struct udp_group *g = &c->group[i];
    if (!g->used || !ip_addr_eq(&g->addr, &group) || (ifindex && g->port + 1u != ifindex))
      continue;
    g->used = 0;
    udp_leave_group(w, s, g);
    return 0;
  }
  return -EADDRNOTAVAIL;
}

static void udp_leave_all(struct worker *w, struct session *s) {
  struct udp_conn *c = udp_of(s);
  for (uint32_t i = 0; i < UDP_GROUPS; i++) {
    if (c->group[i].used)
      udp_leave_group(w, s, &c->group[i]);
    c->group[i].used = 0;
  }
}

static int udp_request(struct worker *w, struct session *s, const struct abi_request *req, usec_t now) {
  struct abi_request copy = *req;
  struct ip_addr source, to = addr_of(&req->remote);
  int rc = 0;
  (void)udp_output(w, s, now); /* what was sent before goes where it was sent to */
  switch (req->kind) {
  case ABI_REQ_CONNECT:
    rc = req->remote.family ? gate_connect(w, s->app, &copy) : 0;
    if (rc)
      return rc;
    rc = req->remote.family ? udp_connect(w, s, &req->remote) : udp_disconnect(w, s);
    udp_record(s);
    udp_limits(w, s);
    return rc;
  case ABI_REQ_PROBE:
    rc = gate_source(w, s->app, &to, 0, &source);
    rc = rc ? rc : gate_send(w, s, &source, &to, be16_get(req->remote.port));
    return rc == 0 && ip_is_broadcast(worker_ip(w, s->vrf), &to) && !(udp_of(s)->opt.flags & ABI_OPT_BROADCAST)
               ? -EACCES
               : rc;
  case ABI_REQ_JOIN:
    return udp_join(w, s, req);
  case ABI_REQ_LEAVE:
    return udp_leave(w, s, req);
  default:
    return -EOPNOTSUPP;
  }
}

void udp_end(struct worker *w, struct session *s) {
  struct listener *l = udp_listener(w, s);
  if (l)
    l->session = l->armed = 0;
  udp_leave_all(w, s);
  session_transport_gone(w, s);
}

static void udp_close(struct worker *w, struct session *s, usec_t now) {
  udp_of(s)->closing = 1;
  (void)udp_output(w, s, now); /* ends it when nothing is left */
  if (!s->dead && s->ops)
    session_dirty(w, s);
}

static void udp_abort(struct worker *w, struct session *s, int err, usec_t now) {
  (void)now;
  session_set_error(s, err);
  s->app_closed = 1;
  udp_end(w, s);
}

static void udp_timer(struct worker *w, struct session *s, usec_t now) {
  (void)now;
  session_dirty(w, s);
}

/* RFC 1122 4.1.3.3: to the socket whose peer it is about; the quoted ports were what found it. A datagram that was too
 * long for the path is lost: that is told, too; the next ones are cut. */
static void udp_icmp(struct worker *w, struct session *s, int kind, int err, uint32_t mtu, uint32_t seq, usec_t now) {
  (void)seq;
  if (kind == 2) {
    udp_pmtu_note(&w->udp, s->vrf, &s->remote, mtu, now);
    if (s->e)
      udp_limits(w, s);
  }
  int told = udp_icmp_errno(kind, err);
  if (!told || !udp_of(s)->connected) {
    UDP_COUNT(&w->udp, icmp_ignored);
    return;
  }
  UDP_COUNT(&w->udp, icmp_told);
  udp_tell(s, told);
}

static int udp_adopt(struct worker *w, struct session *s, usec_t now) {
  struct udp_conn *c = udp_of(s);
  c->connected = s->e->remote.family != 0;
  if (udp_claim(w, s)) /* the port was chosen by an engine, or lent: s->lport */
    c->lent = c->connected && (s->lport < w->cfg->port_lo || s->lport > w->cfg->port_hi ||
                               listen_has_port(w, s->vrf, transport_udp.proto, s->lport));
  s->opt_gen = 0;
  struct abi_options opt = s->a->opt;
  udp_options(w, s, &opt, now);
  return udp_enlist(w, s);
}

/* --- input --- */

struct udp_put {
  struct session *s;
  uint32_t off;
};

static int udp_place(void *ctx, const uint8_t *bytes, uint32_t n) {
  struct udp_put *u = ctx;
  int64_t got = fifo_prod_place(&u->s->rx, u->off, bytes, n);
  if (got < 0)
    app_suspect(u->s->app, "rx fifo: impossible head");
  u->off += n;
  return got == (int64_t)n ? 0 : -ENOBUFS;
}

/* Payload [off, off+len) as a datagram of its own: header, bytes, then one store of the tail. */
static void udp_put_one(struct worker *w, struct session *s, const struct pkt *p, const struct udp_in *in, uint32_t off,
                        uint32_t len) {
  struct abi_dgram d;
  struct udp_put put = {.s = s};
  int64_t room = fifo_prod_room(&s->rx);
  if (room < 0)
    app_suspect(s->app, "rx fifo: impossible head");
  if (room < (int64_t)(sizeof d + len)) {
    UDP_COUNT(&w->udp, rx_full);
    __atomic_store_n(&s->e->figures.lost, s->e->figures.lost + 1, __ATOMIC_RELAXED);
    return;
  }
  udp_describe(p, in, len, &d);
  if (HS_UNLIKELY(in->hdr.dport != s->lport))
    udp_name_port(&d, in->hdr.dport);
  else if (udp_of(s)->opt.flags & ABI_OPT_STAMP)
    udp_stamp(&d, w->now);
  int rc = udp_place(&put, (const uint8_t *)&d, sizeof d);
  if (rc == 0)
    rc = udp_payload(p, in, off, len, udp_place, &put);
  if (rc) {
    UDP_COUNT(&w->udp, rx_no_chunk);
    return;
  }
  FAULT_POINT("udp.rx"); /* lost, as by any other accident */
  fifo_prod_publish(&s->rx, put.off);
  UDP_COUNT(&w->udp, rx);
  w->udp.counters[UDP_rx_bytes] += len;
}

static void udp_put(struct worker *w, struct session *s, const struct pkt *p, const struct udp_in *in) {
  if (!s->e || !s->believed || udp_of(s)->closing)
    return;
  if (!udp_of(s)->connected && ip_addr_is_any(&s->local) && p->to_us)
    udp_reply_note(udp_of(s), &p->ip.src, in->hdr.sport, &p->ip.dst);
  uint32_t step = (p->flags & ABI_FR_GSO_UDP) && p->gso_size ? p->gso_size : in->len, off = 0;
  do { /* what the sender's kernel or the device merged is several datagrams */
    uint32_t n = in->len - off < step ? in->len - off : step;
    udp_put_one(w, s, p, in, off, n);
    off += n;
  } while (off < in->len);
  app_hint(s->app, s->slot);
  if (p->to_us)
    ip_confirm(worker_ip(w, s->vrf), &s->path, w->now);
}

/* The session behind a policy entry, opened on the spot if its app asked for that and we have not looked yet. */
static struct session *udp_behind(struct worker *w, struct listener *l) {
  if (l->session == 0) {
    struct app_worker *a = worker_app(w, l->entry.worker_id);
    uint32_t slot = l->entry.slot;
    if (a && a->life == APP_LIVE && slot < a->v.ga.n_slots_app && app_owner(a, slot) == w->index &&
        a->by_slot[slot] == APP_NO_SESSION)
      session_look(w, a, slot);
  }
  return l->session ? pool_ref(&w->sessions, l->session - 1) : NULL;
}

/* An entry that nobody has opened yet hides no other, but its app may just have said so. */
static void udp_look_unopened(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port) {
  for (struct listener *l = listen_next(w, vrf, transport_udp.proto, dst, port, NULL); l;
       l = listen_next(w, vrf, transport_udp.proto, dst, port, l))
    if (l->session == 0)
      (void)udp_behind(w, l);
}

struct session *udp_auto(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port) {
  struct session *s = flow_find(w, vrf, transport_udp.proto, dst, port, &udp_any6, 0);
  if (!s && ip_addr_is4(dst))
    s = flow_find(w, vrf, transport_udp.proto, &udp_any4, port, &udp_any6, 0);
  if (!s)
    s = flow_find(w, vrf, transport_udp.proto, &udp_any6, port, &udp_any6, 0);
  if (s && ip_addr_is4(dst) && ip_addr_is_any(&s->local) && !ip_addr_is4(&s->local) && udp_of(s)->v6only)
    return NULL;
  return s && s->app && ip_is_local(worker_ip(w, vrf), dst) && !gate_may_use(w, s->app->sh->ns, dst) ? NULL : s;
}

static struct session *udp_find(struct worker *w, const struct pkt *p, const struct udp_in *in) {
  const struct ip_addr *dst = &p->ip.dst, *src = &p->ip.src;
  struct session *s = flow_find(w, p->vrf, transport_udp.proto, dst, in->hdr.dport, src, in->hdr.sport);
  if (s)
    return s;
  uint32_t hash = flow_hash(w, p->vrf, dst, in->hdr.dport, src, in->hdr.sport);
  struct listener *l = listen_find_armed(w, p->vrf, transport_udp.proto, dst, in->hdr.dport, hash);
  if (!l) {
    udp_look_unopened(w, p->vrf, dst, in->hdr.dport);
    l = listen_find_armed(w, p->vrf, transport_udp.proto, dst, in->hdr.dport, hash);
  }
  return l ? udp_behind(w, l) : udp_auto(w, p->vrf, dst, in->hdr.dport);
}

/* Nobody has the port: the session of a proxy, which is another worker's perhaps. 1 = it is dealt with. */
static int udp_stray(struct worker *w, struct pkt *p, const struct udp_in *in) {
  if (HS_LIKELY(list_empty(&w->listeners.proxies)) || in->hdr.dport == 0)
    return 0;
  uint32_t hash = flow_hash(w, p->vrf, &p->ip.dst, in->hdr.dport, &p->ip.src, in->hdr.sport);
  if (listen_find(w, p->vrf, transport_udp.proto, &p->ip.dst, in->hdr.dport, hash))
    return 0; /* somebody has it, and is connected to another peer */
  struct listener *l = stray_listener(w, p->vrf, &p->ip.dst, hash);
  uint32_t to = l ? flow_udp(be16_get(l->entry.addr.port), w->group->n) : w->index;
  if (to != w->index) {
    if (!(p->flags & PKT_STRAY)) /* else the proxy went meanwhile */
      pass_stray(w, p, to);
    return !(p->flags & PKT_STRAY);
  }
  struct session *s = l ? udp_behind(w, l) : NULL;
  if (!s || udp_of(s)->connected)
    return 0;
  UDP_COUNT(&w->udp, rx_stray);
  if (!gate_datagram(w, transport_udp.proto, p->vrf, s, &p->ip.src, &p->ip.dst, in->hdr.dport))
    udp_put(w, s, p, in);
  return 1;
}

/* To a group or a broadcast address: everybody who has the port. */
static void udp_put_all(struct worker *w, const struct pkt *p, const struct udp_in *in) {
  const struct ip_addr *dst = &p->ip.dst;
  uint32_t n = 0;
  udp_look_unopened(w, p->vrf, dst, in->hdr.dport);
  for (struct listener *l = listen_next(w, p->vrf, transport_udp.proto, dst, in->hdr.dport, NULL); l;
       l = listen_next(w, p->vrf, transport_udp.proto, dst, in->hdr.dport, l)) {
    struct session *s = l->session ? pool_ref(&w->sessions, l->session - 1) : NULL;
    if (!s || !gate_hears(w, l->entry.ns, p->port) ||
        (udp_of(s)->connected && !(s->rport == in->hdr.sport && ip_addr_eq(&s->remote, &p->ip.src))))
      continue;
    udp_put(w, s, p, in);
    n++;
  }
  struct session *s = udp_auto(w, p->vrf, dst, in->hdr.dport);
  if (s && s->app && gate_hears(w, s->app->sh->ns, p->port)) {
    udp_put(w, s, p, in);
    n++;
  }
  if (n == 0)
    UDP_COUNT(&w->udp, rx_group_nobody);
}

int udp_input(struct worker *w, struct pkt *p, usec_t now) {
  struct udp_in in;
  (void)now;
  if (udp_parse(p, &in)) {
    UDP_COUNT(&w->udp, rx_bad_header);
    return 0;
  }
  if (!udp_cksum_ok(p, &in)) {
    UDP_COUNT(&w->udp, rx_bad_cksum);
    return 0;
  }
  uint32_t to = flow_udp(in.hdr.dport, w->group->n);
  int stray = p->flags & PKT_STRAY;
  if (HS_UNLIKELY(to != w->index && !stray)) { /* it was in fragments, or comes from an app of ours */
    pass_packet(w, p, to);
    return 0;
  }
  if (ip_addr_is_multicast(&p->ip.dst) || ip_is_broadcast(worker_ip(w, p->vrf), &p->ip.dst)) {
    if (!gate_datagram(w, transport_udp.proto, p->vrf, NULL, &p->ip.src, &p->ip.dst, in.hdr.dport))
      udp_put_all(w, p, &in);
    return 0; /* RFC 1122 3.2.2: no ICMP about these */
  }
  struct session *s = HS_UNLIKELY(stray) ? NULL : udp_find(w, p, &in);
  if (HS_UNLIKELY(!s && udp_stray(w, p, &in)))
    return 0;
  if (!s) {
    UDP_COUNT(&w->udp, rx_no_port);
    return -ENOENT;
  }
  if (udp_of(s)->connected || !gate_datagram(w, transport_udp.proto, p->vrf, s, &p->ip.src, &p->ip.dst, in.hdr.dport))
    udp_put(w, s, p, &in);
  return 0;
}

static int udp_init(struct worker *w) {
  return udp_scratch_init(w);
}

static int udp_port_ns(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port, uint32_t *ns) {
  const struct session *s = udp_auto(w, vrf, dst, port);
  const struct listener *l = s ? NULL : stray_listener(w, vrf, dst, 0);
  if (!l && (!s || !s->app))
    return 0;
  *ns = l ? l->entry.ns : s->app->sh->ns;
  return 1;
}

const struct transport_ops transport_udp = {.name = "udp",
                                            .proto = 1,
                                            .ip_proto = IP_PROTO_UDP,
                                            .spread = TRANSPORT_PORT,
                                            .priv_size = sizeof(struct udp_conn),
                                            .init = udp_init,
                                            .open = udp_open,
                                            .request = udp_request,
                                            .input = udp_input,
                                            .output = udp_output,
                                            .close = udp_close,
                                            .abort = udp_abort,
                                            .options = udp_options,
                                            .timer = udp_timer,
                                            .icmp = udp_icmp,
                                            .port_ns = udp_port_ns,
                                            .adopt_record = udp_adopt};
