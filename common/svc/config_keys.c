/*
 * The table of all configuration keys. What is here is what the parser knows; config/README.md repeats it and a test
 * compares the two.
 *
 * Read by config.c and config_types.c at start.
 */
#include "svc/config_keys.h"

#include "abi/fifo.h"
#include "base/bits.h"

#include <string.h>

#define C(f)  offsetof(struct config, f), sizeof(((struct config *)0)->f)
#define P(f)  offsetof(struct config_port, f), sizeof(((struct config_port *)0)->f)
#define V(f)  offsetof(struct config_vlan, f), sizeof(((struct config_vlan *)0)->f)
#define A(f)  offsetof(struct config_addr, f), sizeof(((struct config_addr *)0)->f)
#define R(f)  offsetof(struct config_route, f), sizeof(((struct config_route *)0)->f)
#define N(f)  offsetof(struct config_ns, f), sizeof(((struct config_ns *)0)->f)
#define U(f)  offsetof(struct config_rule, f), sizeof(((struct config_rule *)0)->f)
#define NO    0, ""
#define KI(n) ((uint64_t)(n) << 10)
#define MI(n) ((uint64_t)(n) << 20)
#define GI(n) ((uint64_t)(n) << 30)

#define IDLE_WORDS "adaptive poll sleep"

/* A key for each of TCP's tunables; all are kept in 32 bits, in the unit that the file has. */
#define KIND_BOOL   CONFIG_BOOL
#define KIND_NUM    CONFIG_U32
#define KIND_MS     CONFIG_U32
#define KIND_SEC    CONFIG_U32
#define KIND_SIZE   CONFIG_SIZE
#define KIND_CHOICE CONFIG_CHOICE
#define TUNABLE(field, name, kind, unit, lo, hi, def, text, reach, words, help)                                        \
  {"engine.tcp." name, KIND_##kind, unit, lo, hi, text, C(tcp.field), 0, words, help},

#define IMPAIRMENT "nicio.interfaces[].impairment."
#define IMPAIR_ROW(d, key, field, type, unit, lo, hi, flags, help)                                                     \
  { IMPAIRMENT #d "." key, type, unit, lo, hi, "0", P(d.field), flags, "", help }
#define IMPAIR(d)                                                                                                      \
  IMPAIR_ROW(d, "loss-percent", loss_percent, CONFIG_PERCENT, "%", 0, 100, 0, "frames lost"),                          \
      IMPAIR_ROW(d, "reorder-percent", reorder_percent, CONFIG_PERCENT, "%", 0, 100, 0,                                \
                 "frames that overtake those before them"),                                                            \
      IMPAIR_ROW(d, "duplicate-percent", duplicate_percent, CONFIG_PERCENT, "%", 0, 100, 0, "frames delivered twice"), \
      IMPAIR_ROW(d, "corrupt-percent", corrupt_percent, CONFIG_PERCENT, "%", 0, 100, 0,                                \
                 "frames with a bit turned over"),                                                                     \
      IMPAIR_ROW(d, "delay-us", delay_us, CONFIG_U32, "µs", 0, 10000000, 0, "delay of every frame"),                   \
      IMPAIR_ROW(d, "jitter-us", jitter_us, CONFIG_U32, "µs", 0, 10000000, 0, "random part added to the delay"),       \
      IMPAIR_ROW(d, "rate-bps", rate_bps, CONFIG_RATE, "bit/s", 8000, 400000000000, CONFIG_OR_ZERO,                    \
                 "rate limit, 0 = none; k, M, G are factors of 1000"),                                                 \
      IMPAIR_ROW(d, "queue-bytes", queue_bytes, CONFIG_SIZE, "bytes", 1024, MI(1024), CONFIG_OR_ZERO,                  \
                 "room before the rate limit, what comes to a full queue is lost; 0 = 200 ms worth"),                  \
      IMPAIR_ROW(d, "seed", seed, CONFIG_U64, "", 0, UINT64_MAX, 0, "of the random numbers: equal seeds, equal runs")

#define LIMIT_ROW(key, type, unit, lo, hi, where, help)                                                                \
  { key, type, unit, lo, hi, "0", where, CONFIG_OR_ZERO, "", help ", 0 = no limit" }
#define LIMIT(path, S, f, of)                                                                                          \
  LIMIT_ROW(path "sessions", CONFIG_U32, "sessions", 16, 16777216, S(f.sessions),                                      \
            "slots for sessions that all workers of " of " have together"),                                            \
      LIMIT_ROW(path "listeners", CONFIG_U32, "listeners", 1, 65536, S(f.listeners), "TCP listeners of " of),          \
      LIMIT_ROW(path "memory", CONFIG_SIZE, "bytes", MI(1), GI(1024), S(f.memory),                                     \
                "memory of " of                                                                                        \
                " beyond which no worker, listener, received byte or segment of written bytes is added")

const struct config_key config_keys[] = {
    {"run-dir", CONFIG_PATH, "", 1, 79, "/run/hoststack", C(run_dir), NO, "sockets and pid files; made if missing"},
    {"log-level", CONFIG_CHOICE, "", 0, 0, "info", C(log_level), 0, "error warn info debug", "least severe record"},

    {"nicio.rx-slots", CONFIG_U32, "slots of 4096 bytes", 256, 65536, "8192", C(rx_slots), CONFIG_POW2, "",
     "memory for received frames"},
    {"nicio.tx-slots", CONFIG_U32, "slots of 4096 bytes", 256, 65536, "4096", C(tx_slots), CONFIG_POW2, "",
     "memory for frames to be sent"},
    {"nicio.eal-args", CONFIG_STR, "", 0, 511, "", C(eal_args), NO,
     "further DPDK EAL arguments, for ethdev interfaces"},
    {"nicio.idle", CONFIG_CHOICE, "", 0, 0, "adaptive", C(nicio_idle), 0, IDLE_WORDS,
     "what the data loop does without work"},
    {"nicio.cpu", CONFIG_INT, "cpu number", (uint64_t)-1, 1023, "-1", C(nicio_cpu), NO,
     "cpu of the data loop, -1 = not pinned"},
    {"nicio.interfaces[].name", CONFIG_STR, "", 1, 31, "", P(name), CONFIG_REQUIRED, "", "name inside the stack"},
    {"nicio.interfaces[].kind", CONFIG_CHOICE, "", 1, 0, "", P(kind), CONFIG_REQUIRED, "ethdev kernel",
     "DPDK device, or an interface of the kernel"},
    {"nicio.interfaces[].device", CONFIG_STR, "", 1, 127, "", P(device), CONFIG_REQUIRED, "",
     "kernel: interface; ethdev: vdev string (net_af_xdp0,iface=eth1) or PCI address"},
    {"nicio.interfaces[].tap", CONFIG_BOOL, "", 0, 1, "false", P(tap), NO, "kernel: make `device` as a tap"},
    {"nicio.interfaces[].mac", CONFIG_MAC, "", 0, 0, "", P(mac), NO, "default: the interface's own"},
    {"nicio.interfaces[].mtu", CONFIG_U32, "bytes", 576, 9216, "0", P(mtu), CONFIG_OR_ZERO, "",
     "largest IP packet, 0 = the interface's own"},
    {"nicio.interfaces[].queues", CONFIG_U32, "queues", 1, 64, "1", P(queues), NO,
     "receive queues asked of the device"},
    {"nicio.interfaces[].vrf", CONFIG_U32, "", 0, CONFIG_VRFS_MAX - 1, "0", P(vrf), NO,
     "VRF of its untagged frames: addresses, routes and connections of their own"},
    {"nicio.interfaces[].pcap", CONFIG_PATH, "", 0, 255, "", P(pcap), NO,
     "capture both directions to this pcapng file"},
    IMPAIR(rx),
    IMPAIR(tx),

    {"engine.workers", CONFIG_U32, "threads", 1, CONFIG_ENGINE_WORKERS_MAX, "1", C(engine_workers), NO,
     "engine workers: TCP connections and UDP ports are spread over them; may change with an engine's restart"},
    {"engine.idle", CONFIG_CHOICE, "", 0, 0, "adaptive", C(engine_idle), 0, IDLE_WORDS,
     "what a worker does without work"},
    {"engine.cpu", CONFIG_INT, "cpu number", (uint64_t)-1, 1023, "-1", C(engine_cpu), NO,
     "cpu of the first worker, the others have those after it; -1 = not pinned"},
    {"engine.max-connections", CONFIG_U32, "connections", 16, 16777216, "262144", C(max_connections), NO,
     "TCP connections in all states together"},
    {"engine.max-time-waits", CONFIG_U32, "connections", 0, 16777216, "600000", C(max_time_waits), NO,
     "connections in TIME-WAIT whose program has let go; beyond it the oldest ends early"},
    {"engine.vlans[].interface", CONFIG_STR, "", 1, 31, "", V(port), CONFIG_REQUIRED, "",
     "name of the interface whose frames carry it"},
    {"engine.vlans[].id", CONFIG_U32, "", 1, 4094, "", V(id), CONFIG_REQUIRED, "", "VLAN number (IEEE 802.1Q)"},
    {"engine.vlans[].name", CONFIG_STR, "", 1, 31, "", V(name), CONFIG_REQUIRED, "",
     "name by which addresses and routes call it"},
    {"engine.vlans[].mtu", CONFIG_U32, "bytes", 576, 9216, "0", V(mtu), CONFIG_OR_ZERO, "",
     "largest IP packet, 0 = the interface's"},
    {"engine.vlans[].vrf", CONFIG_U32, "", 0, CONFIG_VRFS_MAX - 1, "0", V(vrf), NO,
     "its VRF, whatever the interface's is"},
    {"engine.addresses[].interface", CONFIG_STR, "", 1, 31, "", A(port), CONFIG_REQUIRED, "",
     "name of an interface or VLAN"},
    {"engine.addresses[].address", CONFIG_PREFIX, "", 1, 128, "", A(ip), CONFIG_REQUIRED, "",
     "address and prefix length; auto = IPv6 from router advertisements, dhcp = IPv4 from a server"},
    {"engine.routes[].to", CONFIG_PREFIX, "", 0, 128, "", R(dst), CONFIG_REQUIRED, "",
     "destination prefix; 0.0.0.0/0 = default route"},
    {"engine.routes[].via", CONFIG_IP, "", 0, 0, "", R(via), NO, "gateway; default: the destination is on the link"},
    {"engine.routes[].interface", CONFIG_STR, "", 1, 31, "", R(port), NO,
     "interface or VLAN; default: the one that reaches `via`"},
    {"engine.routes[].vrf", CONFIG_U32, "", 0, CONFIG_VRFS_MAX - 1, "0", R(vrf), NO,
     "whose table; with `interface` it is the interface's"},
    {"engine.fifo.rx-max", CONFIG_SIZE, "bytes", KI(16), ABI_FIFO_MAX, "4M", C(rx_fifo_max), NO,
     "largest receive buffer of a session"},
    {"engine.fifo.tx-max", CONFIG_SIZE, "bytes", KI(16), ABI_FIFO_MAX, "4M", C(tx_fifo_max), NO,
     "largest send buffer of a session"},
    {"engine.ports.low", CONFIG_U32, "port", 1024, 65535, "32768", C(port_lo), NO, "first ephemeral port"},
    {"engine.ports.high", CONFIG_U32, "port", 1024, 65535, "60999", C(port_hi), NO, "last ephemeral port"},
    ABI_TUNABLES(TUNABLE){"engine.tcp.fastopen-key", CONFIG_STR, "", 0, 65, "", C(fastopen_key), NO,
                          "32 hex digits: key of Fast Open cookies (RFC 7413 4.1.2), the same on hosts that share an "
                          "address; NEW,FORMER: cookies of the former are good still; none: drawn"},

    {"broker.attach", CONFIG_PATH, "", 0, 107, "RUN-DIR/attach", C(attach), NO,
     "attach socket of the default namespace"},
    {"broker.attach-mode", CONFIG_OCTAL, "octal", 0, 0777, "0666", C(attach_mode), NO,
     "permissions of the attach sockets"},
    {"broker.max-apps", CONFIG_U32, "applications", 1, 65536, "256", C(max_apps), NO, "applications at once"},
    {"broker.max-workers", CONFIG_U32, "workers", 1, 65536, "1024", C(max_workers), NO,
     "workers of all applications together; also processes"},
    {"broker.slots-per-worker", CONFIG_U32, "sessions", 16, 1048576, "262144", C(slots_per_worker), NO,
     "sessions of a worker, one half opened by the app, the other accepted"},
    {"broker.app-timeout-ms", CONFIG_U32, "ms", 100, 600000, "10000", C(app_timeout_ms), NO,
     "a request waits at most so long"},
    {"broker.arena-size", CONFIG_SIZE, "bytes", MI(1), GI(1024), "4G", C(arena_bytes), CONFIG_MIB, "",
     "address space for one direction's bytes per worker; memory is used only as sessions need it, in segments of "
     "vcl.conf's segment-size and add-segment-size"},
    LIMIT("broker.app-limit.", C, app_limit, "an application"),
    {"broker.namespaces[].id", CONFIG_STR, "", 1, 63, "", N(id), CONFIG_REQUIRED, "", "name that programs give"},
    {"broker.namespaces[].secret", CONFIG_U64, "", 0, UINT64_MAX, "0", N(secret), NO,
     "number that programs must show, 0 = none"},
    {"broker.namespaces[].attach", CONFIG_PATH, "", 0, 107, "", N(attach), NO,
     "attach socket of its own; default: the common one"},
    {"broker.namespaces[].addresses", CONFIG_NETS, "", 0, 0, "", N(net), NO,
     "addresses of this stack that its programs may use; default: all"},
    {"broker.namespaces[].vrf", CONFIG_U32, "", 0, CONFIG_VRFS_MAX - 1, "0", N(vrf), NO,
     "VRF that its programs are in: one of an interface or VLAN"},
    LIMIT("broker.namespaces[].limit.", N, limit, "the namespace"),

    {"broker.rules[].table", CONFIG_CHOICE, "", 0, 0, "", U(table), CONFIG_REQUIRED, "egress ingress",
     "egress: what a namespace's programs connect to; ingress: what arrives"},
    {"broker.rules[].namespace", CONFIG_STR, "", 0, 63, "", U(ns), NO, "egress: whose; default: the default one's"},
    {"broker.rules[].proto", CONFIG_CHOICE, "", 0, 0, "any", U(proto), 0, "tcp udp any", "protocol"},
    {"broker.rules[].remote", CONFIG_STR, "", 1, 51, "any", U(remote), NO,
     "the other side: address, address/length, any"},
    {"broker.rules[].local", CONFIG_STR, "", 1, 51, "any", U(local), NO, "this side: address, address/length, any"},
    {"broker.rules[].ports", CONFIG_STR, "", 1, 11, "any", U(ports), NO,
     "PORT, LOW-HIGH, any: of egress the remote port, of ingress the local one"},
    {"broker.rules[].action", CONFIG_CHOICE, "", 0, 0, "", U(action), CONFIG_REQUIRED, "allow deny redirect",
     "what becomes of it"},
    {"broker.rules[].app", CONFIG_STR, "", 0, 63, "", U(app), NO, "redirect (TCP): name of the app that gets it"},
    {"broker.rules[].to-port", CONFIG_U32, "port", 0, 65535, "0", U(to_port), NO,
     "redirect: where that app listens, 0 = on the port that was asked for"},
    {"broker.rules[].vrf", CONFIG_U32, "", 0, CONFIG_VRFS_MAX - 1, "0", U(vrf), NO, "ingress: VRF where it arrives"},

    {"api.listen[]", CONFIG_URL, "", 1, 127, "ipc://RUN-DIR/api.sock", 0, 128, NO,
     "where clients reach the API server"},
};
const uint32_t config_n_keys = ARRAY_LEN(config_keys);

const struct config_list config_lists[] = {
    {"nicio.interfaces", offsetof(struct config, port), sizeof(struct config_port), offsetof(struct config, n_ports),
     CONFIG_PORTS_MAX},
    {"engine.vlans", offsetof(struct config, vlan), sizeof(struct config_vlan), offsetof(struct config, n_vlans),
     CONFIG_VLANS_MAX},
    {"engine.addresses", offsetof(struct config, addr), sizeof(struct config_addr), offsetof(struct config, n_addrs),
     CONFIG_ADDRS_MAX},
    {"engine.routes", offsetof(struct config, route), sizeof(struct config_route), offsetof(struct config, n_routes),
     CONFIG_ROUTES_MAX},
    {"broker.namespaces", offsetof(struct config, ns), sizeof(struct config_ns), offsetof(struct config, n_ns),
     CONFIG_NS_MAX},
    {"broker.rules", offsetof(struct config, rule), sizeof(struct config_rule), offsetof(struct config, n_rules),
     CONFIG_RULES_MAX},
    {"api.listen", offsetof(struct config, api_listen), 128, offsetof(struct config, n_api_listen), 4},
};
const uint32_t config_n_lists = ARRAY_LEN(config_lists);

int config_key_find(const char *path) {
  for (uint32_t i = 0; i < config_n_keys; i++)
    if (strcmp(config_keys[i].path, path) == 0)
      return (int)i;
  return -1;
}
