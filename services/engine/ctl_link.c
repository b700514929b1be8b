/*
 * The engine's part of `show interface`: VLANs, and the addresses in use, be they configured, learned or made of the
 * MAC. Control thread; what the IP stack knows is copied on the worker's own thread, by mail.
 */
#include "ask.h"

#include "control.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LINK_ADDRS 64u

struct link_note {
  uint32_t n_addr;
  struct ip_addr_row addr[LINK_ADDRS];
  struct ip_port_row vlan[CONFIG_VLANS_MAX];
  uint32_t vlan_port[CONFIG_VLANS_MAX];
};

static void mail_link(struct worker *w, void *arg) {
  struct link_note *n = arg;
  for (uint32_t v = 0; v < w->n_vrfs; v++)
    if (worker_ip(w, v))
      n->n_addr += ip_addr_list(worker_ip(w, v), n->addr + n->n_addr, LINK_ADDRS - n->n_addr);
  for (uint32_t i = 0; i < w->cfg->n_vlans; i++) {
    n->vlan_port[i] = w->vlan_port[i];
    ip_port_get(worker_ip(w, w->cfg->vlan[i].vrf), w->vlan_port[i], &n->vlan[i]);
  }
}

static char *link_text(const struct ip_addr_row *a) {
  static const char *const by[] = {"", " link-local", " auto", " dhcp"};
  char ip[IP_ADDR_TEXT_MAX], *out = NULL;
  if (asprintf(&out, "%s/%u%s%s", ip_addr_format(&a->addr, ip, sizeof ip), a->prefix, by[a->by % 4],
               a->duplicate ? " duplicate, not used" : "") < 0)
    return NULL;
  return out;
}

/* Addresses of one of IP's ports. 0 or -ENOMEM. */
static int link_addresses(const struct link_note *n, uint32_t port, Hoststack__Control__Interface *row) {
  row->address = calloc(n->n_addr + 1, sizeof *row->address);
  if (!row->address)
    return -ENOMEM;
  for (uint32_t i = 0; i < n->n_addr; i++) {
    if (n->addr[i].port != port)
      continue;
    row->address[row->n_address] = link_text(&n->addr[i]);
    if (!row->address[row->n_address])
      return -ENOMEM;
    row->n_address++;
  }
  return 0;
}

static Hoststack__Control__Interface *link_row(Hoststack__Control__Interfaces *list, const char *name) {
  Hoststack__Control__Interface *row = malloc(sizeof *row);
  if (!row)
    return NULL;
  hoststack__control__interface__init(row);
  list->interface[list->n_interface++] = row;
  row->name = strdup(name);
  return row->name ? row : NULL;
}

static int link_vlan(Hoststack__Control__Interface *row, const struct config_vlan *v, const struct ip_port_row *p) {
  row->kind = strdup("vlan");
  if (asprintf(&row->device, "%s id %u", v->port, v->id) < 0)
    row->device = NULL;
  if (asprintf(&row->mac, "%02x:%02x:%02x:%02x:%02x:%02x", p->mac[0], p->mac[1], p->mac[2], p->mac[3], p->mac[4],
               p->mac[5]) < 0)
    row->mac = NULL;
  row->mtu = p->mtu;
  row->up = p->up;
  return row->kind && row->device && row->mac ? 0 : -ENOMEM;
}

static int link_fill(const struct config *cfg, const struct link_note *n, Hoststack__Control__Interfaces *list) {
  int rc = 0;
  for (uint32_t i = 0; i < cfg->n_ports && rc == 0; i++) {
    Hoststack__Control__Interface *row = link_row(list, cfg->port[i].name);
    rc = row ? link_addresses(n, i, row) : -ENOMEM;
    if (rc == 0)
      row->vrf = cfg->port[i].vrf;
  }
  for (uint32_t i = 0; i < cfg->n_vlans && rc == 0; i++) {
    Hoststack__Control__Interface *row = link_row(list, cfg->vlan[i].name);
    rc = row ? link_vlan(row, &cfg->vlan[i], &n->vlan[i]) : -ENOMEM;
    if (rc == 0)
      rc = link_addresses(n, n->vlan_port[i], row);
    if (rc == 0)
      row->vrf = cfg->vlan[i].vrf;
  }
  return rc;
}

int engine_show_interface(struct engine *e, Hoststack__Control__Reply *r) {
  if (!e->running)
    return -EAGAIN;
  struct link_note *n = ask_new(sizeof *n);
  int rc = n ? ask_worker(e, mail_link, n) : -ENOMEM;
  if (rc)
    goto out;
  Hoststack__Control__Interfaces *list = calloc(1, sizeof *list);
  rc = -ENOMEM;
  if (!list)
    goto out;
  hoststack__control__interfaces__init(list);
  r->body_case = HOSTSTACK__CONTROL__REPLY__BODY_INTERFACES;
  r->interfaces = list;
  list->interface = calloc(CONFIG_PORTS_MAX + CONFIG_VLANS_MAX, sizeof(Hoststack__Control__Interface *));
  if (list->interface)
    rc = link_fill(&e->svc.cfg, n, list);
out:
  ask_free(n);
  return rc;
}
