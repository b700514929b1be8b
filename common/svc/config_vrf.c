/*
 * VRFs in the configuration: interfaces and VLANs say which one they are in, namespaces and routes name one that some
 * interface is in. Called by config_check.c at start, and by services that ask where an interface belongs.
 *
 * A VRF has addresses, routes, neighbours and connections of its own: the same address may be there in each of them.
 */
#include "svc/config_keys.h"

#include <stdio.h>
#include <string.h>

uint32_t config_interface_vrf(const struct config *c, const char *name) {
  for (uint32_t i = 0; i < c->n_ports; i++)
    if (strcmp(c->port[i].name, name) == 0)
      return c->port[i].vrf;
  for (uint32_t i = 0; i < c->n_vlans; i++)
    if (strcmp(c->vlan[i].name, name) == 0)
      return c->vlan[i].vrf;
  return 0;
}

int config_has_vrf(const struct config *c, uint32_t vrf) {
  int found = vrf == 0;
  for (uint32_t i = 0; i < c->n_ports; i++)
    found |= c->port[i].vrf == vrf;
  for (uint32_t i = 0; i < c->n_vlans; i++)
    found |= c->vlan[i].vrf == vrf;
  return found;
}

/** A VRF that a list's element names must be some interface's. */
static void vrf_check_named(struct config_ctx *cx, const char *key, uint32_t i, uint32_t vrf) {
  char found[32];
  if (config_has_vrf(cx->cfg, vrf))
    return;
  snprintf(found, sizeof found, "%u", vrf);
  config_error(cx, config_line(cx, key, i), key, found, "the vrf of one of nicio.interfaces or engine.vlans");
}

static void vrf_check_route(struct config_ctx *cx, uint32_t i) {
  struct config_route *r = &cx->cfg->route[i];
  char found[80];
  if (r->port[0] == '\0') {
    vrf_check_named(cx, "engine.routes[].vrf", i, r->vrf);
    return;
  }
  uint32_t vrf = config_interface_vrf(cx->cfg, r->port);
  if (r->vrf != 0 && r->vrf != vrf) {
    snprintf(found, sizeof found, "%u with interface %s", r->vrf, r->port);
    config_error(cx, config_line(cx, "engine.routes[].vrf", i), "engine.routes[].vrf", found,
                 "the interface's own vrf, or none");
  }
  r->vrf = vrf;
}

void config_vrf_check(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  for (uint32_t i = 0; i < c->n_routes; i++)
    vrf_check_route(cx, i);
  for (uint32_t i = 0; i < c->n_ns; i++)
    vrf_check_named(cx, "broker.namespaces[].vrf", i, c->ns[i].vrf);
  for (uint32_t i = 0; i < c->n_rules; i++) {
    vrf_check_named(cx, "broker.rules[].vrf", i, c->rule[i].vrf);
    if (c->rule[i].vrf != 0 && strcmp(c->rule[i].table, "egress") == 0)
      config_error(cx, config_line(cx, "broker.rules[].vrf", i), "broker.rules[].vrf", "a vrf of an egress rule",
                   "for ingress alone: an egress rule is its namespace's");
  }
}
