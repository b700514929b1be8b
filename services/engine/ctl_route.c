/*
 * Control requests about routes and neighbours: what is there, and changes at run time, which the TCB segment keeps for
 * the engines to come (session/routes.h). Control thread. A change is tried in the first worker's stack, then written
 * down, then told to the other workers: what was answered with success outlives the engine.
 */
#include "ctl_route.h"

#include "ask.h"
#include "base/log.h"
#include "session/routes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUTE_ROWS 1000u
#define NEIGH_ROWS 4096u

static int refuse(Hoststack__Control__Reply *r, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(Hoststack__Control__Reply *r, int rc, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  if (vasprintf(&r->text, fmt, ap) < 0)
    r->text = NULL;
  va_end(ap);
  r->rc = -rc;
  return 0;
}

/* Name of the interface that IP calls by this number. Numbers of VLANs are given once, before the workers run. */
static const char *interface_name(const struct engine *e, uint32_t port) {
  const struct config *cfg = &e->svc.cfg;
  for (uint32_t i = 0; i < cfg->n_vlans; i++)
    if (e->worker.vlan_port[i] == port)
      return cfg->vlan[i].name;
  return port < cfg->n_ports ? cfg->port[port].name : "?";
}

static int is_interface(const struct config *cfg, const char *name) {
  for (uint32_t i = 0; i < cfg->n_ports; i++)
    if (strcmp(cfg->port[i].name, name) == 0)
      return 1;
  for (uint32_t i = 0; i < cfg->n_vlans; i++)
    if (strcmp(cfg->vlan[i].name, name) == 0)
      return 1;
  return 0;
}

static char *prefix_text(const uint8_t ip[16], uint32_t bits) {
  struct ip_addr a;
  char text[IP_ADDR_TEXT_MAX], *out = NULL;
  memcpy(a.b, ip, sizeof a.b);
  return asprintf(&out, "%s/%u", ip_addr_format(&a, text, sizeof text), bits) < 0 ? NULL : out;
}

/* --- show --- */

struct route_note {
  uint32_t skip, n, total;
  struct ip_route_row row[ROUTE_ROWS];
  uint8_t vrf[ROUTE_ROWS];
};

static void mail_route_list(struct worker *w, void *arg) {
  struct route_note *n = arg;
  uint32_t skip = n->skip;
  for (uint32_t v = 0; v < w->n_vrfs; v++) {
    uint32_t total;
    if (!worker_ip(w, v))
      continue;
    uint32_t had = n->n;
    n->n += ip_route_list(worker_ip(w, v), n->row + n->n, ROUTE_ROWS - n->n, skip, &total);
    memset(n->vrf + had, (int)v, n->n - had);
    skip -= skip < total ? skip : total;
    n->total += total;
  }
}

/* Who the user's route is of: the file, or hsctl. */
static const char *route_by(const struct engine *e, uint32_t vrf, const struct ip_route_row *row) {
  static const char *const by[] = {"configured", "connected", "learned"};
  struct config_route key = {.prefix = row->bits, .family = ip_addr_is4(&row->prefix) ? 4 : 6, .vrf = vrf};
  memcpy(key.dst, row->prefix.b, sizeof key.dst);
  const struct tcb_table *t = &e->worker.tcbs;
  return row->by == 0 && routes_find(t->route, t->geom.n_route, &key) ? "set" : by[row->by % 3];
}

static Hoststack__Control__Route *route_row(const struct engine *e, uint32_t vrf, const struct ip_route_row *row) {
  char via[IP_ADDR_TEXT_MAX];
  Hoststack__Control__Route *m = malloc(sizeof *m);
  if (!m)
    return NULL;
  hoststack__control__route__init(m);
  m->to = prefix_text(row->prefix.b, row->bits);
  m->via = strdup(row->has_via ? ip_addr_format(&row->via, via, sizeof via) : "");
  m->interface = strdup(interface_name(e, row->port));
  m->by = strdup(route_by(e, vrf, row));
  m->vrf = vrf;
  return m;
}

int ctl_show_route(struct engine *e, const Hoststack__Control__ShowRoute *q, Hoststack__Control__Reply *r) {
  if (!e->running)
    return -EAGAIN;
  struct route_note *n = ask_new(sizeof *n);
  Hoststack__Control__Routes *m = calloc(1, sizeof *m);
  int rc = -ENOMEM;
  if (!n || !m)
    goto out;
  n->skip = q->offset;
  rc = ask_worker(e, mail_route_list, n);
  if (rc)
    goto out;
  hoststack__control__routes__init(m);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_ROUTES;
  r->routes = m;
  m->total = n->total;
  m->route = calloc(n->n + 1, sizeof(Hoststack__Control__Route *));
  for (uint32_t i = 0; m->route && i < n->n && (m->route[i] = route_row(e, n->vrf[i], &n->row[i])) != NULL; i++)
    m->n_route++;
  rc = m->n_route == n->n ? 0 : -ENOMEM;
  m = NULL;
out:
  free(m);
  ask_free(n);
  return rc;
}

struct neigh_note {
  uint32_t n;
  usec_t now;
  struct ip_neigh_row row[NEIGH_ROWS];
  uint8_t vrf[NEIGH_ROWS];
};

static void mail_neigh_list(struct worker *w, void *arg) {
  struct neigh_note *n = arg;
  for (uint32_t v = 0; v < w->n_vrfs; v++) {
    uint32_t had = n->n;
    if (!worker_ip(w, v))
      continue;
    n->n += ip_neigh_list(worker_ip(w, v), n->row + n->n, NEIGH_ROWS - n->n);
    memset(n->vrf + had, (int)v, n->n - had);
  }
  n->now = w->now;
}

static Hoststack__Control__Neighbor *neigh_row(const struct engine *e, uint32_t vrf, const struct ip_neigh_row *row,
                                               usec_t now) {
  char text[IP_ADDR_TEXT_MAX];
  Hoststack__Control__Neighbor *m = malloc(sizeof *m);
  if (!m)
    return NULL;
  hoststack__control__neighbor__init(m);
  const uint8_t *mac = row->mac;
  m->address = strdup(ip_addr_format(&row->addr, text, sizeof text));
  snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
  m->mac = strdup(text);
  m->interface = strdup(interface_name(e, row->port));
  m->state = strdup(row->state);
  m->vrf = vrf;
  m->confirmed_ms_ago = row->confirmed && now > row->confirmed ? (now - row->confirmed) / 1000 : 0;
  return m;
}

int ctl_show_neighbor(struct engine *e, Hoststack__Control__Reply *r) {
  if (!e->running)
    return -EAGAIN;
  struct neigh_note *n = ask_new(sizeof *n);
  Hoststack__Control__Neighbors *m = calloc(1, sizeof *m);
  int rc = n && m ? ask_worker(e, mail_neigh_list, n) : -ENOMEM;
  if (rc)
    goto out;
  hoststack__control__neighbors__init(m);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_NEIGHBORS;
  r->neighbors = m;
  m->neighbor = calloc(n->n + 1, sizeof(Hoststack__Control__Neighbor *));
  for (uint32_t i = 0;
       m->neighbor && i < n->n && (m->neighbor[i] = neigh_row(e, n->vrf[i], &n->row[i], n->now)) != NULL; i++)
    m->n_neighbor++;
  rc = m->n_neighbor == n->n ? 0 : -ENOMEM;
  m = NULL;
out:
  free(m);
  ask_free(n);
  return rc;
}

/* --- change --- */

/* The words of a request. 0, or the request is refused. */
static int route_words(const struct config *cfg, const Hoststack__Control__SetRoute *q, struct config_route *c,
                       Hoststack__Control__Reply *r) {
  struct ip_addr dst, via = {{0}};
  unsigned bits = 0;
  *c = (struct config_route){0};
  if (strchr(q->to, '/') == NULL || ip_addr_parse_prefix(q->to, &dst, &bits) < 0 || ip_addr_is_multicast(&dst))
    return refuse(r, -EINVAL, "to: found %.64s, allowed a prefix as 10.0.0.0/8 or fd00::/64", q->to), -1;
  struct ip_addr net = ip_addr_mask(&dst, ip_addr_bits(&dst, bits));
  if (!ip_addr_eq(&net, &dst))
    return refuse(r, -EINVAL, "to: found %.64s, allowed no bits behind the prefix", q->to), -1;
  memcpy(c->dst, dst.b, sizeof c->dst);
  c->prefix = bits;
  c->family = ip_addr_is4(&dst) ? 4 : 6;
  c->vrf = q->vrf;
  if (!config_has_vrf(cfg, q->vrf))
    return refuse(r, -ENODEV, "vrf: found %u, allowed one of an interface", q->vrf), -1;
  if (q->del)
    return 0;
  if (*q->via && (ip_addr_parse(q->via, &via) < 0 || ip_addr_is4(&via) != ip_addr_is4(&dst)))
    return refuse(r, -EINVAL, "via: found %.64s, allowed an address of the same family", q->via), -1;
  if (*q->interface && !is_interface(cfg, q->interface))
    return refuse(r, -ENODEV, "interface: found %.31s, allowed one that hsctl show interface tells", q->interface), -1;
  if (*q->interface && config_interface_vrf(cfg, q->interface) != q->vrf)
    return refuse(r, -ENODEV, "interface: %.31s is in vrf %u", q->interface, config_interface_vrf(cfg, q->interface)),
           -1;
  if (!*q->interface && (!*q->via || (ip_addr_is_linklocal(&via) && !ip_addr_is4(&via))))
    return refuse(r, -EINVAL, "%s needs an interface", *q->via ? q->via : "a route without a gateway"), -1;
  memcpy(c->via, via.b, sizeof c->via);
  c->has_via = *q->via ? c->family : 0;
  snprintf(c->port, sizeof c->port, "%s", q->interface);
  return 0;
}

struct change_note {
  struct routes_change change;
  int rc;
  int present; /* a route of the user's was there */
  int replace;
};

static void mail_try(struct worker *w, void *arg) {
  struct change_note *n = arg;
  struct ip_route_row row;
  struct ip_addr dst;
  memcpy(dst.b, n->change.route.dst, sizeof dst.b);
  n->present = ip_route_get(worker_ip(w, n->change.route.vrf), &dst, n->change.route.prefix, &row) == 0 && row.by == 0;
  if (n->present != n->replace)
    return;
  n->rc = routes_put(w, &n->change);
}

static void mail_put(struct worker *w, void *arg) {
  const struct routes_change *c = arg;
  if (w->index == 0)
    return; /* it has tried */
  int rc = routes_put(w, c);
  if (rc)
    log_warn("engine.route", "worker %u has no room for a route: %s", w->index, strerror(-rc));
}

/* Written down: what the configuration says by itself needs no record. */
static int route_keep(struct engine *e, const struct config_route *c, int del) {
  struct tcb_table *t = &e->worker.tcbs;
  const struct config_route *base = routes_configured(&e->svc.cfg, c);
  int same = base && !del && base->has_via == c->has_via && memcmp(base->via, c->via, sizeof c->via) == 0 &&
             strcmp(base->port, c->port) == 0;
  if (same || (del && !base)) {
    routes_forget(t->route, t->geom.n_route, c);
    return 0;
  }
  return routes_keep(t->route, t->geom.n_route, c, del ? ABI_ROUTE_GONE : ABI_ROUTE_SET);
}

static const char *route_why(int rc) {
  switch (rc) {
  case -ENETUNREACH:
    return "the gateway is on no net of that interface";
  case -EEXIST:
    return "the net of one of the interface's own addresses";
  case -ENOSPC:
    return "no room";
  default:
    return "refused";
  }
}

int ctl_set_route(struct engine *e, const Hoststack__Control__SetRoute *q, Hoststack__Control__Reply *r) {
  struct config_route c;
  if (!e->running)
    return -EAGAIN;
  if (e->worker.tcbs.geom.n_route == 0)
    return refuse(r, -EOPNOTSUPP, "the broker that made the segments knows no routes of run time");
  if (route_words(&e->svc.cfg, q, &c, r))
    return 0;
  struct change_note *n = ask_new(sizeof *n);
  if (!n)
    return -ENOMEM;
  n->change = (struct routes_change){.route = c, .none = q->del != 0};
  n->replace = q->replace || q->del;
  int rc = ask_worker(e, mail_try, n);
  if (rc == 0 && n->present != n->replace)
    rc = refuse(r, n->present ? -EEXIST : -ENOENT,
                n->present ? "%s is there already; hsctl route replace changes it"
                           : "%s is no route of the configuration or hsctl",
                q->to);
  else if (rc == 0 && n->rc)
    rc = refuse(r, n->rc, "%s: %s", q->to, route_why(n->rc));
  else if (rc == 0 && (rc = route_keep(e, &c, q->del)) == 0)
    rc = engine_post_copy(e, mail_put, &n->change, sizeof n->change);
  if (rc == 0 && r->rc == 0)
    log_info("engine.route", "%s %s%s%s%s%s vrf %u",
             q->del       ? "deleted"
             : q->replace ? "replaced"
                          : "added",
             q->to, *q->via ? " via " : "", q->via, *q->interface ? " interface " : "", q->interface, q->vrf);
  ask_free(n);
  return rc;
}
