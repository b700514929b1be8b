/*
 * The IP stacks of a worker, one for each VRF that an interface is in: making them, which frame belongs to which, and
 * what their ops mean. Worker thread; frames and ops are hot path.
 *
 * A stack knows nothing of VRFs. It has the frames of its own interfaces alone, and what it hands up is marked here
 * with its number (pkt.vrf), which flows, listeners and TIME_WAIT records are looked up by. Interfaces have the same
 * numbers in all stacks; those of other VRFs are foreign there (ip_port_foreign).
 */
#include "worker.h"

#include "wire/eth.h"
#include "wire/flow.h"

#include <errno.h>

_Static_assert(CONFIG_VRFS_MAX == ABI_VRFS, "what the configuration allows, records can name");

/* --- ip ops --- */

static int ip_frame_get(void *ctx, struct txf *t) {
  const struct worker_vrf *v = ctx;
  return frame_io_get(v->w, t);
}
static void ip_frame_drop(void *ctx, struct txf *t) {
  const struct worker_vrf *v = ctx;
  frame_io_drop(v->w, t);
}
static void ip_frame_send(void *ctx, struct txf *t) {
  const struct worker_vrf *v = ctx;
  frame_io_send(v->w, t);
}

static int ip_frame_loop(void *ctx, struct txf *t) {
  const struct worker_vrf *v = ctx;
  t->vrf = v->n;
  return frame_io_loop_put(v->w, t);
}

static int ip_deliver(void *ctx, struct pkt *p, usec_t now) {
  const struct worker_vrf *v = ctx;
  const struct transport_ops *ops = transport_of_ip(v->w, p->ip.proto);
  p->vrf = v->n;
  return ops ? ops->input(v->w, p, now) : -ENOENT;
}

static void ip_error(void *ctx, uint8_t proto, const struct ip_addr *local, uint16_t lport,
                     const struct ip_addr *remote, uint16_t rport, uint32_t seq, int kind, int err, uint32_t mtu,
                     usec_t now) {
  const struct worker_vrf *v = ctx;
  struct worker *w = v->w;
  const struct transport_ops *ops = transport_of_ip(w, proto);
  uint32_t to = transport_worker(w, ops, local, lport, remote, rport);
  if (to != w->index) {
    struct pass_error e = {.local = *local, .remote = *remote, .lport = lport, .rport = rport, .proto = proto};
    e.vrf = v->n;
    e.seq = seq;
    e.mtu = mtu;
    e.kind = kind;
    e.err = err;
    pass_error(w, to, &e);
    return;
  }
  struct session *s = ops ? flow_find(w, v->n, ops->proto, local, lport, remote, rport) : NULL;
  if (s && s->ops && s->ops->icmp)
    s->ops->icmp(w, s, kind, err, mtu, seq, now);
}

void worker_icmp(struct worker *w, const struct pass_error *e) {
  ip_error(&w->vrf[e->vrf], e->proto, &e->local, e->lport, &e->remote, e->rport, e->seq, e->kind, e->err, e->mtu,
           w->now);
}

static const struct ip_ops worker_ip_ops = {.frame_get = ip_frame_get,
                                            .frame_drop = ip_frame_drop,
                                            .frame_send = ip_frame_send,
                                            .frame_loop = ip_frame_loop,
                                            .deliver = ip_deliver,
                                            .error = ip_error};

/* --- set-up --- */

static int vrf_addr(struct worker *w, const struct config_addr *c) {
  struct ip_stack *ip = worker_ip(w, config_interface_vrf(w->cfg, c->port));
  uint32_t port = worker_port(w, c->port);
  struct ip_addr a;
  memcpy(a.b, c->ip, 16);
  if (w->index != 0 && c->how != CONFIG_ADDR_GIVEN)
    return 0; /* worker 0 learns it, and tells us */
  switch ((enum config_addr_how)c->how) {
  case CONFIG_ADDR_AUTO:
    return ip_auto6(ip, port, 1);
  case CONFIG_ADDR_DHCP:
    return ip_dhcp4(ip, port, NULL);
  case CONFIG_ADDR_GIVEN:
    break;
  }
  return ip_addr_add(ip, port, &a, c->prefix);
}

static int vrf_route(struct worker *w, const struct config_route *r) {
  struct ip_addr dst, via;
  memcpy(dst.b, r->dst, 16);
  memcpy(via.b, r->via, 16);
  uint32_t port = r->port[0] != '\0' ? worker_port(w, r->port) : 0; /* else via tells */
  return ip_route_add(worker_ip(w, r->vrf), &dst, r->prefix, r->has_via ? &via : NULL, port);
}

/* Interfaces and VLANs of one stack; those of other VRFs are there, too, so that all have the same numbers. */
static int vrf_ports(struct worker *w, const struct worker_vrf *v) {
  const struct config *cfg = w->cfg;
  static const uint8_t no_mac[6];
  int rc = 0;
  for (uint32_t p = 0; rc == 0 && p < cfg->n_ports; p++)
    rc = ip_port_set(v->ip, p, no_mac, cfg->port[p].mtu ? cfg->port[p].mtu : 1500, 0);
  for (uint32_t i = 0; rc == 0 && i < cfg->n_vlans; i++) {
    w->vlan_parent[i] = (uint8_t)worker_port(w, cfg->vlan[i].port);
    rc = ip_vlan_add(v->ip, w->vlan_parent[i], cfg->vlan[i].id, cfg->vlan[i].mtu, &w->vlan_port[i]);
    if (rc == 0 && cfg->vlan[i].vrf != v->n)
      rc = ip_port_foreign(v->ip, w->vlan_port[i]);
  }
  for (uint32_t p = 0; rc == 0 && p < cfg->n_ports; p++)
    if (cfg->port[p].vrf != v->n)
      rc = ip_port_foreign(v->ip, p);
  return rc;
}

int vrf_init(struct worker *w, uint64_t *counters) {
  int rc = 0;
  for (uint32_t n = 0; rc == 0 && n < ABI_VRFS; n++) {
    struct worker_vrf *v = &w->vrf[n];
    *v = (struct worker_vrf){.w = w, .n = (uint8_t)n};
    if (!config_has_vrf(w->cfg, n))
      continue;
    w->n_vrfs = n + 1;
    rc = ip_new(&v->ip, &worker_ip_ops, v, counters);
    if (rc == 0 && w->index != 0)
      ip_quiet(v->ip);
    if (rc == 0)
      rc = vrf_ports(w, v);
  }
  for (uint32_t i = 0; rc == 0 && i < w->cfg->n_addrs; i++)
    rc = vrf_addr(w, &w->cfg->addr[i]);
  for (uint32_t i = 0; rc == 0 && i < w->cfg->n_routes; i++)
    rc = vrf_route(w, &w->cfg->route[i]);
  return rc;
}

void vrf_fini(struct worker *w) {
  for (uint32_t n = 0; n < w->n_vrfs; n++)
    ip_free(w->vrf[n].ip);
}

/* --- all of them --- */

void vrf_port_set(struct worker *w, uint32_t port, const uint8_t mac[6], uint32_t mtu, int up) {
  for (uint32_t n = 0; n < w->n_vrfs; n++) {
    struct ip_stack *ip = worker_ip(w, n);
    if (ip == NULL)
      continue;
    (void)ip_port_set(ip, port, mac, mtu, up);
    if (up && w->index == 0)
      ip_announce(ip, port, w->now);
  }
}

usec_t vrf_timer(struct worker *w) {
  usec_t next = ip_timer(worker_ip(w, 0), w->now);
  for (uint32_t n = 1; n < w->n_vrfs; n++) {
    usec_t at = worker_ip(w, n) ? ip_timer(worker_ip(w, n), w->now) : next;
    next = at < next ? at : next;
  }
  return next;
}

uint32_t vrf_gen(const struct worker *w) {
  uint32_t sum = 0;
  for (uint32_t n = 0; n < w->n_vrfs; n++)
    sum += worker_ip(w, n) ? ip_gen(worker_ip(w, n)) : 0;
  return sum;
}

void vrf_drop_queued(struct worker *w) {
  for (uint32_t n = 0; n < w->n_vrfs; n++)
    if (worker_ip(w, n))
      ip_drop_queued(worker_ip(w, n));
}

uint8_t vrf_of_frame(const struct worker *w, const struct pkt *p) {
  const struct config *cfg = w->cfg;
  const uint8_t *h = p->piece[0].p;
  if (p->port >= cfg->n_ports)
    return 0; /* which counts it */
  uint16_t type = p->piece[0].len < ETH_HLEN + ETH_VLAN_LEN ? 0 : load_be16(h + 12);
  if (type == ETH_TYPE_VLAN || type == ETH_TYPE_QINQ)
    for (uint32_t i = 0; i < cfg->n_vlans; i++)
      if (w->vlan_parent[i] == p->port && cfg->vlan[i].id == eth_vlan_id(load_be16(h + 14)))
        return (uint8_t)cfg->vlan[i].vrf;
  return (uint8_t)cfg->port[p->port].vrf; /* also of a VLAN that is not there: counted by that stack */
}
