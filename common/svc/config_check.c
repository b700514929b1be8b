/*
 * What only several configuration keys together can get wrong: names that must be unique or must exist, addresses that
 * contradict each other, gateways out of reach, ranges upside down.
 *
 * Called by config.c after the walk. Each finding names the line of the key that is to be changed.
 */
#include "svc/config_keys.h"

#include "base/bits.h"
#include "svc/rule_text.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PORT_MAX ((uint32_t)CONFIG_PORTS_MAX)

/** Address in mapped form as text. */
static const char *check_ip_text(const uint8_t ip[16], int family, char *buf, size_t len) {
  if (inet_ntop(family == 4 ? AF_INET : AF_INET6, family == 4 ? ip + 12 : ip, buf, (socklen_t)len) == NULL)
    snprintf(buf, len, "?");
  return buf;
}

/** Whether the first `prefix` bits (of the family) agree. */
static int check_same_net(const uint8_t a[16], const uint8_t b[16], int family, uint32_t prefix) {
  uint32_t bits = prefix + (family == 4 ? 96u : 0u);
  uint32_t whole = bits / 8, rest = bits % 8;
  if (memcmp(a, b, whole) != 0)
    return 0;
  return rest == 0 || ((a[whole] ^ b[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

/** Whether all bits behind the prefix are `bit`. */
static int check_host_bits(const uint8_t ip[16], int family, uint32_t prefix, int bit) {
  for (uint32_t i = prefix + (family == 4 ? 96u : 0u); i < 128; i++)
    if (((ip[i / 8] >> (7 - i % 8)) & 1) != bit)
      return 0;
  return 1;
}

static const struct config_port *check_port(const struct config *c, const char *name) {
  for (uint32_t i = 0; i < c->n_ports && i < PORT_MAX; i++)
    if (strcmp(c->port[i].name, name) == 0)
      return &c->port[i];
  return NULL;
}

static const struct config_vlan *check_vlan(const struct config *c, const char *name) {
  for (uint32_t i = 0; i < c->n_vlans; i++)
    if (strcmp(c->vlan[i].name, name) == 0)
      return &c->vlan[i];
  return NULL;
}

static int check_is_interface(const struct config *c, const char *name) {
  return check_port(c, name) != NULL || check_vlan(c, name) != NULL;
}

/** Configured MTU of an interface or VLAN, 0 = not configured. */
static uint32_t check_mtu(const struct config *c, const char *name) {
  const struct config_vlan *v = check_vlan(c, name);
  const struct config_port *p = check_port(c, v != NULL ? v->port : name);
  uint32_t mtu = p != NULL ? p->mtu : 0;
  if (v == NULL || v->mtu == 0)
    return mtu;
  return mtu == 0 ? v->mtu : HS_MIN(mtu, v->mtu);
}

static void check_vlans(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  char found[48];
  for (uint32_t i = 0; i < c->n_vlans; i++) {
    const struct config_vlan *v = &c->vlan[i];
    int again = v->name[0] != '\0' && check_port(c, v->name) != NULL;
    if (v->port[0] != '\0' && check_port(c, v->port) == NULL)
      config_error(cx, config_line(cx, "engine.vlans[].interface", i), "engine.vlans[].interface", v->port,
                   "the name of one of nicio.interfaces");
    for (uint32_t j = 0; j < i; j++) {
      again |= v->name[0] != '\0' && strcmp(v->name, c->vlan[j].name) == 0;
      if (v->id != c->vlan[j].id || strcmp(v->port, c->vlan[j].port) != 0)
        continue;
      snprintf(found, sizeof found, "%u", v->id);
      config_error(cx, config_line(cx, "engine.vlans[].id", i), "engine.vlans[].id", found,
                   "each number once per interface");
    }
    if (again)
      config_error(cx, config_line(cx, "engine.vlans[].name", i), "engine.vlans[].name", v->name,
                   "a name that no other interface or VLAN has");
  }
}

static void check_ports(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  for (uint32_t i = 0; i < c->n_ports; i++) {
    const struct config_port *p = &c->port[i];
    for (uint32_t j = 0; j < i; j++) {
      if (p->name[0] != '\0' && strcmp(p->name, c->port[j].name) == 0)
        config_error(cx, config_line(cx, "nicio.interfaces[].name", i), "nicio.interfaces[].name", p->name,
                     "a name that no other interface has");
      if (p->device[0] != '\0' && strcmp(p->device, c->port[j].device) == 0)
        config_error(cx, config_line(cx, "nicio.interfaces[].device", i), "nicio.interfaces[].device", p->device,
                     "a device that no other interface uses");
    }
    if (p->kind == 2 && strlen(p->device) >= IF_NAMESIZE)
      config_error(cx, config_line(cx, "nicio.interfaces[].device", i), "nicio.interfaces[].device", p->device,
                   "the name of a kernel interface, 1 to 15 bytes");
    if (p->kind == 1 && p->tap)
      config_error(cx, config_line(cx, "nicio.interfaces[].tap", i), "nicio.interfaces[].tap", "true with kind ethdev",
                   "true only with kind kernel (ethdev: device net_tap0,iface=NAME)");
    if (p->pcap[0] != '\0') {
      char dir[sizeof p->pcap];
      struct stat st;
      memcpy(dir, p->pcap, sizeof dir);
      char *slash = strrchr(dir, '/');
      slash[slash == dir ? 1 : 0] = '\0';
      if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        config_error(cx, config_line(cx, "nicio.interfaces[].pcap", i), "nicio.interfaces[].pcap", p->pcap,
                     "a file in a folder that exists");
    }
  }
}

/** An address that an interface can have (RFC 1122 3.2.1.3, RFC 4291 2.5, 2.7). */
static int check_is_host(const struct config_addr *a) {
  const uint8_t *ip = a->family == 4 ? a->ip + 12 : a->ip;
  if (a->family == 4) {
    if (ip[0] == 0 || ip[0] == 127 || ip[0] >= 224)
      return 0;
    return a->prefix >= 31 || (!check_host_bits(a->ip, 4, a->prefix, 0) && !check_host_bits(a->ip, 4, a->prefix, 1));
  }
  static const uint8_t loopback[16] = {[15] = 1};
  return ip[0] != 0xff && !check_host_bits(a->ip, 6, 0, 0) && memcmp(ip, loopback, 16) != 0;
}

static void check_addrs(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  char ip[INET6_ADDRSTRLEN];
  for (uint32_t i = 0; i < c->n_addrs; i++) {
    const struct config_addr *a = &c->addr[i];
    uint32_t line = config_line(cx, "engine.addresses[].address", i);
    if (a->family == 0)
      continue;
    check_ip_text(a->ip, a->family, ip, sizeof ip);
    uint32_t mtu = check_mtu(c, a->port);
    if (!check_is_interface(c, a->port) && a->port[0] != '\0')
      config_error(cx, config_line(cx, "engine.addresses[].interface", i), "engine.addresses[].interface", a->port,
                   "the name of one of nicio.interfaces or engine.vlans");
    if (a->family == 6 && mtu != 0 && mtu < 1280)
      config_error(cx, line, "engine.addresses[].address", "IPv6 on an interface with an mtu below 1280",
                   "an mtu of at least 1280 (RFC 8200 5)");
    if (a->how == CONFIG_ADDR_GIVEN && !check_is_host(a))
      config_error(cx, line, "engine.addresses[].address", ip,
                   "the address of a host: not 0.0.0.0, loopback, multicast, network or broadcast");
    for (uint32_t j = 0; j < i; j++) {
      const struct config_addr *b = &c->addr[j];
      int apart = config_interface_vrf(c, a->port) != config_interface_vrf(c, b->port);
      if (b->family != a->family || b->how != a->how)
        continue;
      if (a->how != CONFIG_ADDR_GIVEN) {
        if (strcmp(a->port, b->port) == 0)
          config_error(cx, line, "engine.addresses[].address", "the same again",
                       "auto and dhcp once per interface each");
        continue;
      }
      if (apart)
        continue;
      if (memcmp(a->ip, b->ip, 16) == 0)
        config_error(cx, line, "engine.addresses[].address", ip, "each address once per VRF");
      else if (strcmp(a->port, b->port) != 0 && !(a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80) &&
               check_same_net(a->ip, b->ip, a->family, HS_MIN(a->prefix, b->prefix)))
        config_error(cx, line, "engine.addresses[].address", ip, "networks of two interfaces that do not overlap");
    }
  }
}

/** Whether a gateway lies in the network of an address of the interface (any interface if empty). */
static int check_reaches(const struct config *c, const struct config_route *r) {
  if (r->family == 6 && r->via[0] == 0xfe && (r->via[1] & 0xc0) == 0x80)
    return r->port[0] != '\0'; /* link-local: any link, but it must be named */
  for (uint32_t i = 0; i < c->n_addrs; i++) {
    const struct config_addr *a = &c->addr[i];
    if (a->how == CONFIG_ADDR_GIVEN && a->family == r->family && config_interface_vrf(c, a->port) == r->vrf &&
        (r->port[0] == '\0' || strcmp(r->port, a->port) == 0) && check_same_net(a->ip, r->via, a->family, a->prefix) &&
        memcmp(a->ip, r->via, 16) != 0)
      return 1;
  }
  return 0;
}

static void check_routes(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  char ip[INET6_ADDRSTRLEN];
  for (uint32_t i = 0; i < c->n_routes; i++) {
    const struct config_route *r = &c->route[i];
    uint32_t to = config_line(cx, "engine.routes[].to", i), via = config_line(cx, "engine.routes[].via", i);
    if (r->family == 0)
      continue;
    if (!check_host_bits(r->dst, r->family, r->prefix, 0))
      config_error(cx, to, "engine.routes[].to", check_ip_text(r->dst, r->family, ip, sizeof ip),
                   "a network address: no bits set behind the prefix");
    if (r->port[0] != '\0' && !check_is_interface(c, r->port))
      config_error(cx, config_line(cx, "engine.routes[].interface", i), "engine.routes[].interface", r->port,
                   "the name of one of nicio.interfaces or engine.vlans");
    if (!r->has_via && r->port[0] == '\0')
      config_error(cx, to, "engine.routes[].via", "neither via nor interface", "at least one of them");
    if (r->has_via && r->has_via != r->family)
      config_error(cx, via, "engine.routes[].via", check_ip_text(r->via, r->has_via, ip, sizeof ip),
                   "an address of the same family as `to`");
    else if (r->has_via && !check_reaches(c, r))
      config_error(cx, via, "engine.routes[].via", check_ip_text(r->via, r->family, ip, sizeof ip),
                   "a gateway in the network of one of engine.addresses");
    for (uint32_t j = 0; j < i; j++)
      if (c->route[j].family == r->family && c->route[j].prefix == r->prefix && c->route[j].vrf == r->vrf &&
          memcmp(c->route[j].dst, r->dst, 16) == 0)
        config_error(cx, to, "engine.routes[].to", check_ip_text(r->dst, r->family, ip, sizeof ip),
                     "each destination once per VRF");
  }
}

/** Whether some address of a VRF may lie in the net: one that is configured, or one to be learned. */
static int check_net_used(const struct config *c, uint32_t vrf, const struct config_net *net) {
  static const uint8_t linklocal[2] = {0xfe, 0x80};
  static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
  int four = net->bits >= 96 && memcmp(net->ip, mapped, sizeof mapped) == 0;
  if (net->bits >= 10 && memcmp(net->ip, linklocal, sizeof linklocal) == 0)
    return 1;
  for (uint32_t i = 0; i < c->n_addrs; i++) {
    const struct config_addr *a = &c->addr[i];
    if (config_interface_vrf(c, a->port) != vrf)
      continue;
    if (a->how == CONFIG_ADDR_GIVEN ? config_net_has(net, a->ip) : (a->family == 4) == four)
      return 1;
  }
  return 0;
}

static void check_ns_nets(struct config_ctx *cx, uint32_t i) {
  const struct config_ns *n = &cx->cfg->ns[i];
  char text[INET6_ADDRSTRLEN];
  for (uint32_t k = 0; k < n->n_nets; k++) {
    int family = n->net[k].bits >= 96 && n->net[k].ip[10] == 0xff ? 4 : 6;
    if (!check_net_used(cx->cfg, n->vrf, &n->net[k]))
      config_error(cx, config_line(cx, "broker.namespaces[].addresses", i), "broker.namespaces[].addresses",
                   check_ip_text(n->net[k].ip, family, text, sizeof text), "what holds one of engine.addresses");
  }
}

int config_ns_share(const struct config *c, uint32_t a, uint32_t b) {
  const struct config_ns *x = config_ns_get(c, a), *y = config_ns_get(c, b);
  if (config_ns_vrf(c, a) != config_ns_vrf(c, b))
    return 0;
  if (x == NULL || y == NULL || x->n_nets == 0 || y->n_nets == 0)
    return 1;
  for (uint32_t i = 0; i < x->n_nets; i++)
    for (uint32_t k = 0; k < y->n_nets; k++) {
      const struct config_net *wide = x->net[i].bits < y->net[k].bits ? &x->net[i] : &y->net[k];
      if (config_net_has(wide, wide == &x->net[i] ? y->net[k].ip : x->net[i].ip))
        return 1;
    }
  return 0;
}

static void check_namespaces(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  for (uint32_t i = 0; i < c->n_ns; i++) {
    const struct config_ns *n = &c->ns[i];
    int same_path = n->attach[0] != '\0' && strcmp(n->attach, c->attach) == 0;
    for (uint32_t j = 0; j < i; j++) {
      if (n->id[0] != '\0' && strcmp(n->id, c->ns[j].id) == 0)
        config_error(cx, config_line(cx, "broker.namespaces[].id", i), "broker.namespaces[].id", n->id,
                     "each namespace once");
      same_path |= n->attach[0] != '\0' && strcmp(n->attach, c->ns[j].attach) == 0;
    }
    if (same_path)
      config_error(cx, config_line(cx, "broker.namespaces[].attach", i), "broker.namespaces[].attach", n->attach,
                   "a path of its own, or none for the common socket");
    check_ns_nets(cx, i);
  }
}

struct rule_text config_rule_text(const struct config_rule *c) {
  return (struct rule_text){.table = c->table,
                            .proto = c->proto,
                            .remote = c->remote,
                            .local = c->local,
                            .ports = c->ports,
                            .action = c->action,
                            .app = c->app,
                            .to_port = c->to_port,
                            .vrf = c->vrf};
}

static void check_rules(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  for (uint32_t i = 0; i < c->n_rules; i++) {
    const struct config_rule *cr = &c->rule[i];
    struct rule_text t = config_rule_text(cr);
    struct abi_rule r;
    char why[160];
    int known = cr->ns[0] == '\0' || strcmp(cr->ns, "default") == 0;
    for (uint32_t k = 0; k < c->n_ns; k++)
      known |= strcmp(c->ns[k].id, cr->ns) == 0;
    if (!known || (cr->ns[0] != '\0' && strcmp(cr->table, "ingress") == 0))
      config_error(cx, config_line(cx, "broker.rules[].namespace", i), "broker.rules[].namespace", cr->ns,
                   "for egress one of broker.namespaces, for ingress none");
    if (cr->table[0] != '\0' && cr->action[0] != '\0' && rule_text_parse(&t, &r, why, sizeof why) != NULL)
      config_error(cx, config_line(cx, "broker.rules[]", i), "broker.rules[]", why, "what config/README.md says");
  }
}

/** Tunables whose values must stand in order. */
static void check_tunables(struct config_ctx *cx) {
#define FIELD(f, name, kind, unit, lo, hi, def, text, reach, words, help)                                              \
  {"engine.tcp." name, offsetof(struct config_tcp, f)},
#define PAIR(a, b) {ABI_TUNE_##a, ABI_TUNE_##b},
  static const struct {
    const char *key;
    size_t off;
  } fields[] = {ABI_TUNABLES(FIELD)};
  static const uint8_t pairs[][2] = {ABI_TUNE_ORDER(PAIR)};
#undef FIELD
#undef PAIR
  for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
    const char *low = fields[pairs[i][0]].key, *high = fields[pairs[i][1]].key;
    uint32_t lo, hi, at_low = config_line(cx, low, 0), at_high = config_line(cx, high, 0);
    char found[32], allowed[96];
    memcpy(&lo, (const uint8_t *)&cx->cfg->tcp + fields[pairs[i][0]].off, sizeof lo);
    memcpy(&hi, (const uint8_t *)&cx->cfg->tcp + fields[pairs[i][1]].off, sizeof hi);
    if (lo <= hi)
      continue;
    snprintf(found, sizeof found, "%u", at_high > at_low ? hi : lo);
    snprintf(allowed, sizeof allowed, at_high > at_low ? "at least %s (%u)" : "at most %s (%u)",
             at_high > at_low ? low : high, at_high > at_low ? lo : hi);
    config_error(cx, HS_MAX(at_low, at_high), at_high > at_low ? high : low, found, allowed);
  }
}

static void check_ranges(struct config_ctx *cx) {
  const struct config *c = cx->cfg;
  char found[64];
  if (c->port_lo > c->port_hi) {
    snprintf(found, sizeof found, "%u to %u", c->port_lo, c->port_hi);
    config_error(cx, HS_MAX(config_line(cx, "engine.ports.low", 0), config_line(cx, "engine.ports.high", 0)),
                 "engine.ports", found, "low not above high");
  }
  uint8_t key[32];
  if (c->fastopen_key[0] != '\0' && config_fastopen_keys(c->fastopen_key, key) < 0)
    config_error(cx, config_line(cx, "engine.tcp.fastopen-key", 0), "engine.tcp.fastopen-key", "something else",
                 "32 hex digits, or two keys of 32 with a comma between");
  check_tunables(cx);
  if (c->arena_bytes < HS_MAX(c->rx_fifo_max, c->tx_fifo_max)) {
    snprintf(found, sizeof found, "%llu bytes", (unsigned long long)c->arena_bytes);
    config_error(cx, config_line(cx, "broker.arena-size", 0), "broker.arena-size", found,
                 "at least engine.fifo.rx-max and tx-max");
  }
}

void config_check(struct config_ctx *cx) {
  check_ports(cx);
  check_vlans(cx);
  config_vrf_check(cx);
  check_addrs(cx);
  check_routes(cx);
  check_namespaces(cx);
  check_rules(cx);
  check_ranges(cx);
}
