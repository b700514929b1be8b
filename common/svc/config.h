/*
 * Configuration: one YAML file for the four services (config/hoststack.yaml is the annotated example).
 *
 * Table driven: each key has a path, type, unit, range and default; an unknown key, a wrong type or an impossible value
 * is refused with file:line, the key, what was found and what is allowed. Parsed once at start; plain structs behind
 * it.
 */
#ifndef HS_SVC_CONFIG_H
#define HS_SVC_CONFIG_H

#include "abi/tunables.h"
#include "base/bytes.h"
#include "svc/idle.h"
#include <stddef.h>

#define CONFIG_ENGINE_WORKERS_MAX 8 /* ABI_LINKS_MAX, ABI_LANES_MAX */

#define CONFIG_PORTS_MAX  8
#define CONFIG_ADDRS_MAX  16
#define CONFIG_ROUTES_MAX 64
#define CONFIG_VLANS_MAX  16
#define CONFIG_NS_MAX     16
#define CONFIG_NETS_MAX   16
#define CONFIG_RULES_MAX  64
#define CONFIG_VRFS_MAX   16 /* ABI_VRFS */

struct config_impair {
  double loss_percent, reorder_percent, duplicate_percent, corrupt_percent;
  uint32_t delay_us, jitter_us;
  uint64_t rate_bps;
  uint64_t queue_bytes;
  uint64_t seed;
};

struct config_port {
  char name[32];
  int kind;         /* 1 ethdev, 2 kernel */
  char device[128]; /* kernel: interface name; ethdev: vdev string or PCI address */
  int tap;          /* kernel: 1 = nicio makes the tap `device` */
  uint8_t mac[6];   /* all zero = the interface's own */
  uint32_t mtu;     /* 576 … 9216, 0 = the interface's own */
  uint32_t queues;
  uint32_t vrf; /* 0 … CONFIG_VRFS_MAX - 1, of untagged frames */
  struct config_impair rx, tx;
  char pcap[256]; /* capture file, empty = none */
};
enum config_addr_how {
  CONFIG_ADDR_GIVEN = 0,
  CONFIG_ADDR_AUTO = 1, /* IPv6 from router advertisements (RFC 4862); ip and prefix are 0 */
  CONFIG_ADDR_DHCP = 2, /* IPv4 from a DHCP server (RFC 2131); likewise */
};
struct config_addr {
  char port[32];
  uint8_t ip[16];  /* IPv4 mapped */
  uint32_t prefix; /* of the family: 0…32 or 0…128 */
  int family;
  int how; /* enum config_addr_how */
};
struct config_vlan {
  char port[32]; /* whose frames carry it */
  char name[32];
  uint32_t id;  /* 1 … 4094 */
  uint32_t mtu; /* 0 = the port's */
  uint32_t vrf; /* whatever its port's is */
};
struct config_route {
  uint8_t dst[16];
  uint32_t prefix;
  int family;
  uint8_t via[16];
  int has_via;
  char port[32]; /* empty = found through via */
  uint32_t vrf;  /* the interface's, if there is one */
};
struct config_limit { /* 0 = none */
  uint32_t sessions;  /* slots of all workers */
  uint32_t listeners; /* TCP, forked shares count once */
  uint64_t memory;    /* bytes of the workers' segments */
};
/** Addresses that belong together: those whose first `bits` are as in ip (IPv4 mapped, bits from 96 on). */
struct config_net {
  uint8_t ip[16];
  uint32_t bits;
};
struct config_ns {
  char id[64];
  uint64_t secret;
  struct config_limit limit;
  char attach[108]; /* own attach socket path, empty = the common one */
  struct config_net net[CONFIG_NETS_MAX];
  uint32_t n_nets; /* 0 = it may use all addresses */
  uint32_t vrf;    /* of all that its programs do */
};
struct config_rule { /* words, as svc/rule_text.h takes them */
  char table[8], proto[8], action[12];
  char ns[64]; /* egress: namespace, empty = default */
  char remote[52], local[52], ports[12];
  char app[64];
  uint32_t to_port;
  uint32_t vrf; /* ingress: where it arrives */
};

struct config {
  char run_dir[80];  /* sockets and pid files; default /run/hoststack */
  char log_level[8]; /* error warn info debug */
  /* nicio */
  uint32_t rx_slots, tx_slots; /* powers of two */
  char eal_args[512];
  enum idle_mode nicio_idle;
  int nicio_cpu; /* -1 = not pinned */
  struct config_port port[CONFIG_PORTS_MAX];
  uint32_t n_ports;
  /* engine */
  uint32_t engine_workers;
  enum idle_mode engine_idle;
  int engine_cpu;
  uint32_t max_connections; /* TCB records */
  uint32_t max_time_waits;  /* TIME_WAIT records */
  struct config_vlan vlan[CONFIG_VLANS_MAX];
  uint32_t n_vlans;
  struct config_addr addr[CONFIG_ADDRS_MAX];
  uint32_t n_addrs;
  struct config_route route[CONFIG_ROUTES_MAX];
  uint32_t n_routes;
  uint32_t rx_fifo_max, tx_fifo_max; /* bytes */
  uint32_t port_lo, port_hi;         /* ephemeral range */
  struct config_tcp {
#define CONFIG_TCP_FIELD(field, name, kind, unit, lo, hi, def, text, reach, words, help) uint32_t field;
    ABI_TUNABLES(CONFIG_TCP_FIELD) /* abi/tunables.h, each in its own unit */
#undef CONFIG_TCP_FIELD
  } tcp;
  char fastopen_key[72]; /* one or two of 32 hex digits, or empty: drawn */
  /* broker */
  char attach[108];     /* attach socket of the default namespace */
  uint32_t attach_mode; /* permissions of the attach socket, octal in the file */
  uint32_t max_apps, max_workers, slots_per_worker, app_timeout_ms;
  struct config_limit app_limit; /* of each app */
  uint64_t
      arena_bytes; /* address space of one direction's chunks per worker; memory is used only as sessions need it */
  struct config_ns ns[CONFIG_NS_MAX];
  uint32_t n_ns;
  struct config_rule rule[CONFIG_RULES_MAX];
  uint32_t n_rules;
  /* api */
  char api_listen[4][128]; /* NNG urls */
  uint32_t n_api_listen;
};

/** Whether an address lies in a net. */
static inline int config_net_has(const struct config_net *n, const uint8_t ip[16]) {
  for (uint32_t i = 0; i < n->bits / 8; i++)
    if (n->ip[i] != ip[i])
      return 0;
  uint32_t rest = n->bits % 8;
  return rest == 0 || ((n->ip[n->bits / 8] ^ ip[n->bits / 8]) >> (8 - rest)) == 0;
}
/** What the configuration says of namespace number `ns`; NULL of the default one, and of none. */
static inline const struct config_ns *config_ns_get(const struct config *c, uint32_t ns) {
  return ns != 0 && ns <= c->n_ns ? &c->ns[ns - 1] : NULL;
}
/** The VRF that programs of namespace number `ns` are in. */
static inline uint32_t config_ns_vrf(const struct config *c, uint32_t ns) {
  const struct config_ns *n = config_ns_get(c, ns);
  return n == NULL ? 0 : n->vrf;
}
/** The VRF of an interface or VLAN by name, 0 if there is none. */
uint32_t config_interface_vrf(const struct config *c, const char *name);
/** Whether some interface or VLAN is in a VRF; in VRF 0, the default one, always. */
int config_has_vrf(const struct config *c, uint32_t vrf);
/** Whether programs of namespace number `ns` may use a local address. */
static inline int config_ns_has(const struct config *c, uint32_t ns, const uint8_t ip[16]) {
  const struct config_ns *n = config_ns_get(c, ns);
  if (n == NULL || n->n_nets == 0)
    return 1;
  for (uint32_t i = 0; i < n->n_nets; i++)
    if (config_net_has(&n->net[i], ip))
      return 1;
  return 0;
}
/** Whether two namespaces may have an address in common. */
int config_ns_share(const struct config *c, uint32_t a, uint32_t b);

struct rule_text;
/** The words of a rule; they live as long as the rule. */
struct rule_text config_rule_text(const struct config_rule *c);
/** Read and check. On failure every error found (at most 20) is written to `err` one per line: "FILE:LINE: key: found
 * X, allowed Y". 0 or -EINVAL, -errno of open. */
int config_load(struct config *c, const char *path, char *err, size_t err_len);
/** Defaults only. */
void config_defaults(struct config *c);
/** Another run dir (-r): paths that were derived from the old one follow. 0 or -ENAMETOOLONG. */
int config_set_run_dir(struct config *c, const char *dir);
/** Text of every key with type, unit, range, default (for docs and `hsctl show config-keys`); a test compares it with
 * config/README.md. */
int config_keys_text(char *buf, size_t len);

/** Keys of Fast Open cookies (RFC 7413 4.1.2) from 32 hex digits, or twice as many with a comma between: the second one
 * is that before. 1 or 2, how many; or -EINVAL. */
int config_fastopen_keys(const char *text, uint8_t key[32]);
/** TCP's tunables (abi/tunables.h) as text. Their number by name as in the file ("rto-min-ms"), or -ENOENT. */
int config_tunable_find(const char *name);
/** Value from text as it would be written in the file. 0 or -EINVAL. */
int config_tunable_parse(uint32_t id, const char *text, uint32_t *value);
/** The value as one would write it. Returns buf. */
const char *config_tunable_text(uint32_t id, uint32_t value, char *buf, size_t len);
/** What is allowed. Returns buf. */
const char *config_tunable_allowed(uint32_t id, char *buf, size_t len);
const char *config_tunable_name(uint32_t id);
const char *config_tunable_unit(uint32_t id);
const char *config_tunable_help(uint32_t id);
/** 1 = a change counts for all connections from the next use of the value on, 0 = for those opened later. */
int config_tunable_reaches_all(uint32_t id);
/** The value that the configuration has. */
uint32_t config_tunable_value(const struct config *c, uint32_t id);
/** The value without any configuration. */
uint32_t config_tunable_default(uint32_t id);

#endif
