/*
 * Configuration: defaults, every type, every refusal with its line, and the documents that must agree with the table.
 */
#include "abi/fifo.h"
#include "base/err.h"
#include "svc/config.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char err[8192];

/** Load text as a file. */
static int load(struct config *c, const char *text) {
  char path[] = "/tmp/hs-config-test.XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
  close(fd);
  int rc = config_load(c, path, err, sizeof err);
  unlink(path);
  char *p = err; /* the name differs in each run */
  while ((p = strstr(p, path)) != NULL) {
    memmove(p + 1, p + strlen(path), strlen(p + strlen(path)) + 1);
    *p = 'F';
  }
  return rc;
}

static void test_defaults(void **state) {
  struct config c;
  (void)state;
  assert_int_equal(load(&c, ""), 0);
  assert_string_equal(c.run_dir, "/run/hoststack");
  assert_string_equal(c.attach, "/run/hoststack/attach");
  assert_int_equal(c.n_api_listen, 1);
  assert_string_equal(c.api_listen[0], "ipc:///run/hoststack/api.sock");
  assert_int_equal(c.rx_slots, 8192);
  assert_int_equal(c.tx_slots, 4096);
  assert_int_equal(c.max_connections, 262144);
  assert_int_equal(c.rx_fifo_max, 4 << 20);
  assert_int_equal(c.slots_per_worker, 262144);
  assert_int_equal(c.arena_bytes, 4ull << 30);
  assert_int_equal(c.app_timeout_ms, 10000);
  assert_int_equal(c.attach_mode, 0666);
  assert_int_equal(c.nicio_cpu, -1);
  assert_int_equal(c.engine_workers, 1);
  assert_int_equal(c.tcp.rto_min, 200);
  assert_int_equal(c.tcp.cc, 1); /* cubic */
  assert_int_equal(c.tcp.sack, 1);
  assert_int_equal(config_set_run_dir(&c, "/tmp/x"), 0);
  assert_string_equal(c.run_dir, "/tmp/x");
  assert_string_equal(c.attach, "/tmp/x/attach");
  assert_string_equal(c.api_listen[0], "ipc:///tmp/x/api.sock");
}

static void test_values(void **state) {
  static struct config c;
  (void)state;
  assert_int_equal(
      load(&c,
           "run-dir: /tmp/r\n"
           "nicio:\n  idle: sleep\n  cpu: 3\n  rx-slots: 1024\n"
           "  interfaces:\n"
           "    - {name: a, kind: ethdev, device: 'net_null0', queues: 4}\n"
           "    - {name: b, kind: kernel, device: hs0, tap: true, mac: '02:00:00:00:00:0a', mtu: 9000,\n"
           "       impairment: {rx: {loss-percent: 1.5, delay-us: 100, rate-bps: 10M, seed: 7},"
           " tx: {corrupt-percent: 2%}}}\n"
           "engine:\n  workers: 1\n  addresses:\n"
           "    - {interface: a, address: 10.0.0.1/24}\n    - {interface: b, address: 'fd00::1/64'}\n"
           "  routes:\n    - {to: 0.0.0.0/0, via: 10.0.0.254}\n    - {to: 'fd01::/48', via: 'fe80::1', interface: b}\n"
           "    - {to: 192.168.0.0/16, interface: a}\n"
           "  fifo: {rx-max: 64k, tx-max: 1M}\n  tcp: {sack: no, congestion-control: newreno}\n"
           "broker:\n  attach: /tmp/elsewhere\n  attach-mode: 0660\n  arena-size: 16M\n"
           "  namespaces: [{id: blue, secret: 18446744073709551615, attach: /tmp/blue,\n"
           "    addresses: [10.0.0.1, 'fd00::/16']}, {id: red, addresses: 10.0.0.0/30}]\n"
           "api:\n  listen: [ 'tcp://127.0.0.1:7000', 'ipc:///tmp/y' ]\n"),
      0);
  assert_int_equal(c.nicio_idle, IDLE_MODE_SLEEP);
  assert_int_equal(c.nicio_cpu, 3);
  assert_int_equal(c.n_ports, 2);
  assert_int_equal(c.port[0].kind, 1);
  assert_int_equal(c.port[0].queues, 4);
  assert_int_equal(c.port[1].kind, 2);
  assert_int_equal(c.port[1].tap, 1);
  assert_int_equal(c.port[1].mac[5], 10);
  assert_int_equal(c.port[1].mtu, 9000);
  assert_int_equal(c.port[1].queues, 1); /* the default of an element */
  assert_true(c.port[1].rx.loss_percent > 1.49 && c.port[1].rx.loss_percent < 1.51);
  assert_int_equal(c.port[1].rx.rate_bps, 10000000);
  assert_int_equal(c.port[1].rx.seed, 7);
  assert_true(c.port[1].tx.corrupt_percent > 1.9);
  assert_int_equal(c.n_addrs, 2);
  assert_int_equal(c.addr[0].family, 4);
  assert_int_equal(c.addr[0].prefix, 24);
  assert_int_equal(c.addr[0].ip[11], 0xff);
  assert_int_equal(c.addr[0].ip[15], 1);
  assert_int_equal(c.addr[1].family, 6);
  assert_int_equal(c.n_routes, 3);
  assert_int_equal(c.route[0].prefix, 0);
  assert_true(c.route[0].has_via);
  assert_int_equal(c.route[0].via[15], 254);
  assert_false(c.route[2].has_via);
  assert_string_equal(c.route[2].port, "a");
  assert_int_equal(c.rx_fifo_max, 65536);
  assert_int_equal(c.tcp.sack, 0);
  assert_string_equal(c.attach, "/tmp/elsewhere"); /* set: does not follow the run dir */
  assert_int_equal(c.attach_mode, 0660);
  assert_int_equal(c.arena_bytes, 16 << 20);
  assert_int_equal(c.n_ns, 2);
  assert_true(c.ns[0].secret == UINT64_MAX);
  assert_string_equal(c.ns[0].attach, "/tmp/blue");
  assert_int_equal(c.ns[0].n_nets, 2);
  assert_int_equal(c.ns[0].net[0].bits, 128);
  assert_int_equal(c.ns[0].net[1].bits, 16);
  assert_int_equal(c.ns[1].n_nets, 1);
  assert_int_equal(c.ns[1].net[0].bits, 96 + 30);
  uint8_t ip[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 3};
  assert_false(config_ns_has(&c, 1, ip));
  assert_true(config_ns_has(&c, 2, ip));
  assert_true(config_ns_has(&c, 0, ip)); /* the default one may use all */
  ip[15] = 4;
  assert_false(config_ns_has(&c, 2, ip));
  ip[15] = 1;
  assert_true(config_ns_has(&c, 1, ip));
  assert_true(config_ns_share(&c, 1, 2)); /* 10.0.0.1 */
  assert_true(config_ns_share(&c, 0, 2));
  c.ns[0].net[0].ip[15] = 5;
  assert_false(config_ns_share(&c, 1, 2));
  assert_int_equal(c.n_api_listen, 2);
}

static void test_learned_addresses(void **state) {
  static struct config c;
  (void)state;
  assert_int_equal(load(&c, "nicio: {interfaces: [{name: a, kind: kernel, device: d0}]}\n"
                            "engine:\n  addresses:\n    - {interface: a, address: auto}\n"
                            "    - {interface: a, address: dhcp}\n    - {interface: v, address: 10.0.0.1/24}\n"
                            "  vlans: [{interface: a, id: 9, name: v}]\n"),
                   0);
  assert_int_equal(c.addr[0].how, CONFIG_ADDR_AUTO);
  assert_int_equal(c.addr[0].family, 6);
  assert_int_equal(c.addr[1].how, CONFIG_ADDR_DHCP);
  assert_int_equal(c.addr[1].family, 4);
  assert_int_equal(c.addr[2].how, CONFIG_ADDR_GIVEN);
  assert_int_equal(c.n_vlans, 1);
  assert_int_equal(c.vlan[0].id, 9);
  assert_int_equal(c.vlan[0].mtu, 0);
}

/** Text of the file and what must be in the complaint. */
static const struct {
  const char *text, *want;
} refusals[] = {
    {"colour: red\n", "F:1: colour: found an unknown key, allowed run-dir, log-level, nicio, engine, broker, api\n"},
    {"\nnicio:\n  rx-slot: 1\n", "F:3: nicio.rx-slot: found an unknown key"},
    {"engine: {workers: 9}\n", "F:1: engine.workers: found 9, allowed 1 to 8\n"},
    {"nicio: {rx-slots: 1000}\n", "F:1: nicio.rx-slots: found 1000, allowed 256 to 65536, a power of two\n"},
    {"nicio: {rx-slots: [1]}\n", "found a list, allowed 256"},
    {"nicio: {rx-slots: 0x200, tx-slots: 512k}\n", "nicio.tx-slots: found 512k"},
    {"nicio: {cpu: -2}\n", "nicio.cpu: found -2, allowed -1 to 1023"},
    {"nicio: {cpu: one}\n", "nicio.cpu: found one"},
    {"nicio: {rx-slots: }\n", "nicio.rx-slots: found an empty value"},
    {"nicio: 7\n", "F:1: nicio: found a single value, allowed a group of keys"},
    {"nicio: {interfaces: 7}\n", "nicio.interfaces: found a single value, allowed a list"},
    {"- a\n", "F:1: the file: found a list, allowed a group of keys"},
    {"log-level: loud\n", "log-level: found loud, allowed error, warn, info, debug"},
    {"log-level: info\nlog-level: warn\n", "F:2: log-level: found the key again, allowed each key once"},
    {"run-dir: relative\n", "run-dir: found relative, allowed absolute path"},
    {"a: [\n", "F:2: the file: found"},
    {"nicio:\n\tx: 1\n", "F:2: the file: found"},
    {"engine: {tcp: {sack: maybe}}\n", "engine.tcp.sack: found maybe, allowed true, false"},
    {"engine: {fifo: {rx-max: 15M}}\n", "engine.fifo.rx-max: found 15M, allowed 16k to 14M"},
    {"engine: {fifo: {rx-max: 1T}}\n", "engine.fifo.rx-max: found 1T"},
    {"engine: {max-connections: 99999999999999999999}\n", "engine.max-connections: found 9999999"},
    {"engine: {ports: {low: 5000, high: 4000}}\n", "F:1: engine.ports: found 5000 to 4000, allowed low not above high"},
    {"engine: {tcp: {rto-min-ms: 3000}}\n",
     "engine.tcp.rto-min-ms: found 3000, allowed at most engine.tcp.rto-initial-ms (1000)"},
    {"engine: {tcp: {congestion-control: magic}}\n", "found magic, allowed newreno, cubic"},
    {"broker: {attach-mode: 0888}\n", "broker.attach-mode: found 0888, allowed 0 to 0777"},
    {"broker: {arena-size: 1500k}\n", "broker.arena-size: found 1500k, allowed 1M to 1024G, a multiple of 1M"},
    {"broker: {arena-size: 2M}\n", "broker.arena-size: found 2097152 bytes, allowed at least engine.fifo"},
    {"broker: {namespaces: [{id: a}, {id: a}]}\n", "broker.namespaces[].id: found a, allowed each namespace once"},
    {"broker: {namespaces: [{id: a, addresses: [10.0.0.1]}]}\n",
     "F:1: broker.namespaces[].addresses: found 10.0.0.1, allowed what holds one of engine.addresses"},
    {"broker: {namespaces: [{id: a, addresses: [10.0.0.1/24]}]}\n",
     "F:1: broker.namespaces[].addresses: found 10.0.0.1/24, allowed at most 16 of: address, network address/length"},
    {"broker: {namespaces: [{id: a, limit: {sessions: 15}}]}\n",
     "F:1: broker.namespaces[].limit.sessions: found 15, allowed 0, 16 to 16777216"},
    {"broker:\n  app-limit: {listeners: 65537}\n",
     "F:2: broker.app-limit.listeners: found 65537, allowed 0, 1 to 65536"},
    {"broker: {app-limit: {memory: 10k}}\n", "broker.app-limit.memory: found 10k, allowed 0, 1M to 1024G"},
    {"broker: {app-limit: {files: 1}}\n", "broker.app-limit.files: found an unknown key"},
    {"broker: {namespaces: [{secret: 1}]}\n", "broker.namespaces[].id: found nothing (the key is missing)"},
    {"broker: {attach: /x, namespaces: [{id: a, attach: /x}]}\n", "broker.namespaces[].attach: found /x"},
    {"api: {listen: [ 'http://x' ]}\n", "api.listen[]: found http://x, allowed ipc:///PATH"},
    {"api: {listen: [ a, b, c, d, e ]}\n", "api.listen: found 5 entries, allowed at most 4"},
};

/* The same below two interfaces and an address. */
#define BASE                                                                                                           \
  "nicio: {interfaces: [{name: a, kind: kernel, device: d0}, {name: b, kind: kernel, device: d1}]}\n"                  \
  "engine:\n  addresses:\n    - {interface: a, address: 10.0.0.1/24}\n"
static const struct {
  const char *text, *want;
} traps[] = {
    {"    - {interface: c, address: 10.0.1.1/24}\n", "F:5: engine.addresses[].interface: found c, allowed the name of"},
    {"    - {interface: b, address: 10.0.0.1/24}\n", "F:5: engine.addresses[].address: found 10.0.0.1, allowed each"},
    {"  vlans:\n    - {interface: c, id: 7, name: v}\n", "engine.vlans[].interface: found c, allowed the name of"},
    {"  vlans:\n    - {interface: a, id: 7, name: b}\n", "engine.vlans[].name: found b, allowed a name that no other"},
    {"  vlans:\n    - {interface: a, id: 4095, name: v}\n", "engine.vlans[].id: found 4095, allowed 1 to 4094"},
    {"  vlans:\n    - {interface: a, id: 7, name: v}\n    - {interface: a, id: 7, name: w}\n",
     "F:7: engine.vlans[].id: found 7, allowed each number once per interface"},
    {"    - {interface: v, address: 'fd00::1/64'}\n  vlans:\n    - {interface: a, id: 7, name: v, mtu: 1000}\n",
     "found IPv6 on an interface with an mtu below 1280"},
    {"    - {interface: c, address: auto}\n", "F:5: engine.addresses[].interface: found c, allowed the name of"},
    {"    - {interface: b, address: auto}\n    - {interface: b, address: auto}\n",
     "F:6: engine.addresses[].address: found the same again, allowed auto and dhcp once per interface each"},
    {"    - {interface: b, address: dhcp}\n    - {interface: b, address: dhcp}\n",
     "F:6: engine.addresses[].address: found the same again"},
    {"    - {interface: b, address: automatic}\n", "found automatic, allowed IPv4 or IPv6 address/length, auto, dhcp"},
    {"    - {interface: b, address: auto}\n  routes:\n    - {to: '::/0', via: '2001:db8::1'}\n",
     "engine.routes[].via: found 2001:db8::1, allowed a gateway in the network"},
    {"    - {interface: b, address: 10.0.0.9/16}\n", "networks of two interfaces that do not overlap"},
    {"    - {interface: b, address: 10.0.1.0/24}\n", "found 10.0.1.0, allowed the address of a host"},
    {"    - {interface: b, address: 10.0.1.255/24}\n", "found 10.0.1.255, allowed the address of a host"},
    {"    - {interface: b, address: 127.0.0.1/8}\n", "found 127.0.0.1, allowed the address of a host"},
    {"    - {interface: b, address: 224.0.0.1/8}\n", "found 224.0.0.1, allowed the address of a host"},
    {"    - {interface: b, address: 'ff02::1/64'}\n", "found ff02::1, allowed the address of a host"},
    {"    - {interface: b, address: '::1/64'}\n", "found ::1, allowed the address of a host"},
    {"    - {interface: b, address: 10.0.1.1/33}\n", "found 10.0.1.1/33, allowed IPv4 or IPv6 address/length"},
    {"    - {interface: b, address: 10.0.1.1}\n", "found 10.0.1.1, allowed IPv4 or IPv6 address/length"},
    {"    - {interface: b}\n", "F:5: engine.addresses[].address: found nothing (the key is missing)"},
    {"  routes: [{to: 0.0.0.0/0, via: 10.0.9.1}]\n", "F:5: engine.routes[].via: found 10.0.9.1, allowed a gateway"},
    {"  routes: [{to: 0.0.0.0/0, via: 10.0.0.1}]\n", "found 10.0.0.1, allowed a gateway"},
    {"  routes: [{to: 0.0.0.0/0, via: 10.0.0.2, interface: b}]\n", "found 10.0.0.2, allowed a gateway"},
    {"  routes: [{to: 0.0.0.0/0, via: 'fd00::1'}]\n", "found fd00::1, allowed an address of the same family"},
    {"  routes: [{to: 10.9.0.1/16, interface: a}]\n", "found 10.9.0.1, allowed a network address"},
    {"  routes: [{to: 10.9.0.0/16}]\n", "found neither via nor interface"},
    {"  routes: [{to: 10.9.0.0/16, interface: z}]\n", "engine.routes[].interface: found z"},
    {"  routes: [{to: '::/0', via: 'fe80::1'}]\n", "found fe80::1, allowed a gateway"},
    {"  routes: [{to: 1.0.0.0/8, interface: a}, {to: 1.0.0.0/8, interface: b}]\n", "found 1.0.0.0, allowed each"},
    {"  vlans:\n    - {interface: a, id: 7, name: v, vrf: 16}\n", "F:6: engine.vlans[].vrf: found 16, allowed 0 to 15"},
    {"    - {interface: v, address: 10.0.0.1/24}\n    - {interface: v, address: 10.0.0.1/24}\n"
     "  vlans:\n    - {interface: a, id: 7, name: v, vrf: 2}\n",
     "F:6: engine.addresses[].address: found 10.0.0.1, allowed each address once per VRF"},
    {"  routes: [{to: 1.0.0.0/8, via: 10.0.0.2, vrf: 2}]\n",
     "F:5: engine.routes[].vrf: found 2, allowed the vrf of one of nicio.interfaces or engine.vlans"},
    {"  routes: [{to: 1.0.0.0/8, interface: a, vrf: 2}]\n",
     "F:5: engine.routes[].vrf: found 2 with interface a, allowed the interface's own vrf, or none"},
    {"  routes: [{to: 1.0.0.0/8, via: 10.0.0.2, vrf: 2}]\n  vlans:\n    - {interface: a, id: 7, name: v, vrf: 2}\n",
     "F:5: engine.routes[].via: found 10.0.0.2, allowed a gateway"},
    {"broker:\n  namespaces:\n    - {id: x, vrf: 2}\n",
     "F:7: broker.namespaces[].vrf: found 2, allowed the vrf of one of nicio.interfaces or engine.vlans"},
    {"broker:\n  namespaces:\n    - {id: x, vrf: 2, addresses: 10.0.0.1}\n",
     "F:7: broker.namespaces[].addresses: found"},
    {"broker:\n  rules:\n    - {table: ingress, action: deny, vrf: 2}\n",
     "F:7: broker.rules[].vrf: found 2, allowed the"},
    {"broker:\n  rules:\n    - {table: egress, action: deny, vrf: 2}\n", "found a vrf of an egress rule, allowed for"},
};
static const struct {
  const char *text, *want;
} ports[] = {
    {"{name: a, kind: kernel, device: d0}, {name: a, kind: kernel, device: d1}", "name: found a, allowed a name that"},
    {"{name: a, kind: kernel, device: d0}, {name: b, kind: kernel, device: d0}", "device: found d0, allowed a device"},
    {"{name: a, kind: kernel, device: this-is-too-long}", "found this-is-too-long, allowed the name of a kernel"},
    {"{name: a, kind: ethdev, device: net_null0, tap: true}", "found true with kind ethdev"},
    {"{name: a, kind: kernel}", "device: found nothing"},
    {"{name: a, kind: kernel, device: d, vrf: 16}", "F:1: nicio.interfaces[].vrf: found 16, allowed 0 to 15"},
    {"{name: a, kind: kernel, device: d, mtu: 100}", "mtu: found 100, allowed 0, 576 to 9216"},
    {"{name: a, kind: kernel, device: d, mac: '01:00:00:00:00:00'}", "mac: found 01:00"},
    {"{name: a, kind: kernel, device: d, mac: '02-00-00-00-00-00'}", "mac: found 02-00"},
    {"{name: a, kind: kernel, device: d, pcap: /no/such/folder/x}",
     "found /no/such/folder/x, allowed a file in a folder"},
    {"{name: a, kind: kernel, device: d, impairment: {rx: {loss-percent: 101}}}", "loss-percent: found 101"},
    {"{name: a, kind: kernel, device: d, impairment: {rx: {loss-percent: nan}}}", "loss-percent: found nan"},
    {"{name: a, kind: kernel, device: d, impairment: {up: {}}}", "impairment.up: found an unknown key, allowed rx, tx"},
};

static void expect(const char *text, const char *want) {
  static struct config c;
  int rc = load(&c, text);
  if (rc != -EINVAL || strstr(err, want) == NULL)
    fail_msg("for\n%s\nwanted %s, got %d:\n%s", text, want, rc, err);
}

static void test_refusals(void **state) {
  char text[1024];
  (void)state;
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
    expect(refusals[i].text, refusals[i].want);
  for (size_t i = 0; i < sizeof traps / sizeof *traps; i++) {
    snprintf(text, sizeof text, BASE "%s", traps[i].text);
    expect(text, traps[i].want);
  }
  for (size_t i = 0; i < sizeof ports / sizeof *ports; i++) {
    snprintf(text, sizeof text, "nicio: {interfaces: [%s]}\n", ports[i].text);
    expect(text, ports[i].want);
  }
}

/** All errors at once, at most twenty, and a short buffer stays terminated. */
/* One key of Fast Open cookies, or two. */
static void test_fastopen_keys(void **state) {
  static const char *const bad[] = {"",
                                    "0",
                                    "00112233445566778899aabbccddeef",
                                    "00112233445566778899aabbccddeefff",
                                    "00112233445566778899aabbccddeeff,",
                                    "00112233445566778899aabbccddeeff,0011",
                                    "00112233445566778899aabbccddeeff 00112233445566778899aabbccddeeff",
                                    "00112233445566778899aabbccddeeff,00112233445566778899aabbccddeexy",
                                    "00112233445566778899aabbccddeeff,00112233445566778899aabbccddeeff0",
                                    "00112233445566778899aabbccddeeff,00112233445566778899aabbccddeeff,"};
  uint8_t key[32];
  (void)state;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_true(config_fastopen_keys(bad[i], key) < 0);
  assert_int_equal(config_fastopen_keys("00112233445566778899aabbccddeeff", key), 1);
  assert_int_equal(key[1], 0x11);
  assert_int_equal(key[15], 0xff);
  assert_int_equal(config_fastopen_keys("00112233445566778899aabbccddeeff,A0000000000000000000000000000042", key), 2);
  assert_int_equal(key[0], 0);
  assert_int_equal(key[16], 0xa0);
  assert_int_equal(key[31], 0x42);
  struct config c;
  assert_int_equal(
      load(&c, "engine: {tcp: {fastopen-key: \"00112233445566778899aabbccddeeff,a0000000000000000000000000000042\"}}"),
      0);
  assert_int_equal(strlen(c.fastopen_key), 65);
  assert_true(load(&c, "engine: {tcp: {fastopen-key: \"00112233445566778899aabbccddeeff,a\"}}") < 0);
}

static void test_many_errors(void **state) {
  static struct config c;
  char text[4096] = "", tiny[10];
  unsigned lines = 0;
  (void)state;
  for (int i = 0; i < 50; i++)
    snprintf(text + strlen(text), sizeof text - strlen(text), "bad%d: 1\n", i);
  assert_int_equal(load(&c, text), -EINVAL);
  for (const char *p = err; *p != '\0'; p++)
    lines += *p == '\n';
  assert_int_equal(lines, 20);
  memset(tiny, 'x', sizeof tiny);
  assert_int_equal(config_load(&c, "/dev/null/x", tiny, sizeof tiny), -ENOTDIR);
  assert_true(memchr(tiny, '\0', sizeof tiny) != NULL);
  assert_int_equal(config_load(&c, "/no/such/file.yaml", err, sizeof err), -ENOENT);
  assert_string_equal(err, "/no/such/file.yaml: No such file or directory\n");
}

static char *slurp(const char *path) {
  FILE *f = fopen(path, "re");
  assert_non_null(f);
  char *text = calloc(1, 1 << 17);
  assert_true(fread(text, 1, (1 << 17) - 1, f) > 0);
  fclose(f);
  return text;
}

/** config/README.md holds the table line by line, and hoststack.yaml is a good file that names every key. */
static void test_documents(void **state) {
  static struct config c;
  static char table[65536];
  (void)state;
  int n = config_keys_text(NULL, 0);
  assert_true(n > 0 && n < (int)sizeof table);
  assert_int_equal(config_keys_text(table, sizeof table), n);
  char *readme = slurp(HS_SOURCE_DIR "/config/README.md");
  if (strstr(readme, table) == NULL)
    fail_msg("config/README.md does not hold the table of keys; it is:\n%s", table);
  free(readme);
  assert_int_equal(config_load(&c, HS_SOURCE_DIR "/config/hoststack.yaml", err, sizeof err), 0);
  char *yaml = slurp(HS_SOURCE_DIR "/config/hoststack.yaml");
  for (char *line = table; *line != '\0'; line += strcspn(line, "\n") + 1) {
    char key[128];
    assert_int_equal(sscanf(line, "| `%127[^`]`", key), 1);
    char *last = strrchr(key, '.') != NULL ? strrchr(key, '.') + 1 : key;
    char *brackets = strstr(last, "[]");
    if (brackets != NULL)
      *brackets = '\0';
    if (strstr(yaml, last) == NULL)
      fail_msg("config/hoststack.yaml does not show %s", key);
  }
  free(yaml);
}

/** The same addresses, networks and routes in several VRFs; a route is its interface's. */
static void test_vrfs(void **state) {
  static struct config c;
  (void)state;
  int rc = load(&c, "nicio:\n  interfaces:\n    - {name: a, kind: kernel, device: d0}\n"
                    "    - {name: b, kind: kernel, device: d1, vrf: 15}\n"
                    "engine:\n  vlans: [{interface: a, id: 7, name: v, vrf: 2}]\n"
                    "  addresses:\n    - {interface: a, address: 10.0.0.1/24}\n"
                    "    - {interface: b, address: 10.0.0.1/24}\n    - {interface: v, address: 10.0.0.2/16}\n"
                    "  routes:\n    - {to: 0.0.0.0/0, via: 10.0.0.9}\n    - {to: 0.0.0.0/0, via: 10.0.0.9, vrf: 15}\n"
                    "    - {to: 0.0.0.0/0, interface: v}\n"
                    "broker:\n  namespaces: [{id: x}, {id: y, vrf: 2, addresses: 10.0.0.2}]\n"
                    "  rules: [{table: ingress, action: deny, vrf: 15}]\n");
  if (rc != 0)
    fail_msg("%s", err);
  assert_int_equal(config_interface_vrf(&c, "a"), 0);
  assert_int_equal(config_interface_vrf(&c, "b"), 15);
  assert_int_equal(config_interface_vrf(&c, "v"), 2);
  assert_int_equal(config_has_vrf(&c, 2) && config_has_vrf(&c, 15) && !config_has_vrf(&c, 1), 1);
  assert_int_equal(c.route[0].vrf, 0);
  assert_int_equal(c.route[1].vrf, 15);
  assert_int_equal(c.route[2].vrf, 2);
  assert_int_equal(config_ns_vrf(&c, 1), 0);
  assert_int_equal(config_ns_vrf(&c, 2), 2);
  assert_int_equal(config_ns_share(&c, 1, 2), 0);
  assert_int_equal(config_ns_share(&c, 0, 1), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_defaults), cmocka_unit_test(test_values),        cmocka_unit_test(test_learned_addresses),
      cmocka_unit_test(test_refusals), cmocka_unit_test(test_fastopen_keys), cmocka_unit_test(test_many_errors),
      cmocka_unit_test(test_vrfs),     cmocka_unit_test(test_documents)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
