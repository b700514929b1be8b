/*
 * hs-nicio with DPDK devices: net_af_packet and net_af_xdp on veth, net_tap, net_ring; the Linux kernel as the peer,
 * doubles of broker and engine. Peers' offloads stay as they are. Label unit; needs root, skipped otherwise.
 */
#include "test.h"

#include "nicio_echo.h"

#include "base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHDEV(device)                                                                                                 \
  "    - name: net0\n      kind: ethdev\n      device: \"" device "\"\n      mac: 02:11:22:33:44:55\n"

/** Echo of all sizes through one device. */
static void echo_through(const char *interfaces, const char *tap_cidr, uint32_t mtu) {
  static struct rig r;
  struct echo e = {0};

  if (!rig_may())
    skip();
  assert_int_equal(rig_open(&r, 4096, 512), 0);
  assert_int_equal(rig_veth("hsk0", "hss0", tap_cidr != NULL ? "10.77.0.1/24" : ECHO_PEER), 0);
  assert_int_equal(rig_config(&r, "", interfaces), 0);
  assert_int_equal(rig_spawn(&r), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, RIG_WAIT_MS));
  assert_true(rig_until(&r, NULL, NULL, echo_port_up, RIG_WAIT_MS));
  if (tap_cidr != NULL) {
    const char *const addr[] = {"ip", "addr", "add", tap_cidr, "dev", "hstap", NULL};
    const char *const up[] = {"ip", "link", "set", "hstap", "up", NULL};
    assert_int_equal(rig_run(addr), 0);
    assert_int_equal(rig_run(up), 0);
  }
  assert_int_not_equal(echo_udp(&r, &e, 100, 60), 0);
  for (uint32_t len = 1; len <= mtu - 28; len += 157)
    assert_int_not_equal(echo_udp(&r, &e, len, 60), 0);
  e.from_app = 1;
  for (uint32_t len = 1; len <= mtu - 28; len += 157)
    assert_int_not_equal(echo_udp(&r, &e, len, 60), 0);
  assert_int_not_equal(echo_udp(&r, &e, mtu - 28, 60), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_tx_home, RIG_WAIT_MS));
  const struct abi_port *p = &r.fs.pkt->port[0];
  assert_int_equal(p->kind, 1);
  assert_memory_equal(p->mac, echo_mac, 6);
  assert_int_equal(p->counters[ABI_PC_TX_BAD_DESC], 0);
  assert_int_equal(p->counters[ABI_PC_TX_ERROR], 0);
  if (tap_cidr == NULL) /* a kernel peer on veth leaves its checksums unfinished, and so do our replies */
    assert_true(p->counters[ABI_PC_TX_CSUM_SOFT] > 0);

  /* an engine that dies and one that follows: slots of the pool come home all the same */
  for (int round = 0; round < 3; round++) {
    assert_int_equal(rig_engine_open(&r), 0);
    assert_int_not_equal(echo_udp(&r, &e, 1000, 60), 0);
  }
  struct echo_wait w = {.e = &e};
  int fd = echo_open();
  for (int i = 0; i < 5000; i++) { /* more frames than slots */
    (void)send(fd, "x", 1, 0);
    rig_turn(&r, echo_wait_frame, &w);
  }
  close(fd);
  assert_int_not_equal(echo_udp(&r, &e, 1000, 60), 0);

  /* nicio dies: its devices are made anew, with the same MAC */
  rig_kill(&r);
  assert_int_equal(rig_engine_open(&r), 0); /* down until the next nicio says otherwise */
  assert_int_equal(rig_spawn(&r), 0);
  if (tap_cidr == NULL)
    assert_int_not_equal(echo_udp(&r, &e, 1000, 60), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, RIG_WAIT_MS));
  assert_int_equal(rig_term(&r), 0);
  rig_close(&r);
}

static void test_af_packet(void **state) {
  (void)state;
  echo_through(ETHDEV("net_af_packet0,iface=hss0"), NULL, 1500);
}

static void test_af_xdp(void **state) {
  (void)state;
  echo_through(ETHDEV("net_af_xdp0,iface=hss0"), NULL, 1500);
}

static void test_tap(void **state) {
  (void)state;
  echo_through(ETHDEV("net_tap0,iface=hstap"), ECHO_PEER, 1500);
}

struct pair {
  struct rig *other;
  uint32_t got, sent;
  uint8_t frame[1514];
};

/** The server's engine sends every frame back. */
static void pair_back(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  (void)ctx;
  (void)d;
  (void)rig_send(r, f, len, len, 0, NULL);
}

static void pair_got(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  struct pair *p = ctx;

  (void)r;
  (void)d;
  if (len == sizeof p->frame && memcmp(f + 14, p->frame + 14, 1500) == 0)
    p->got++;
}

/** Both engines turn; the client's sends whatever it has slots for. 1 once `want` frames came back. */
static int pair_run(struct rig *client, struct pair *p, uint32_t want, int ms) {
  usec_t end = clock_now_us() + (usec_t)ms * 1000;
  uint32_t start = p->got;

  while (clock_now_us() < end) {
    if (client->link.up && client->n_tx_free > 256 && rig_send(client, p->frame, sizeof p->frame, 64, 0, NULL) == 0)
      p->sent++;
    rig_turn(client, pair_got, p);
    rig_turn(p->other, pair_back, NULL);
    if (p->got - start >= want)
      return 1;
    sched_yield();
  }
  return 0;
}

/** Two stacks over memif: either nicio may come first, die, and come back. */
static void test_memif(void **state) {
  static struct rig server, client;
  static struct pair p;
  char yaml[256];
  struct rig *side[2] = {&server, &client};

  (void)state;
  if (!rig_may())
    skip();
  p = (struct pair){.other = &server};
  for (uint32_t i = 0; i < sizeof p.frame; i++)
    p.frame[i] = (uint8_t)(i * 3);
  assert_int_equal(rig_open(&server, 1024, 512), 0);
  assert_int_equal(rig_open(&client, 1024, 512), 0);
  for (int i = 0; i < 2; i++) {
    (void)snprintf(yaml, sizeof yaml,
                   "    - name: net0\n      kind: ethdev\n"
                   "      device: \"net_memif0,role=%s,socket=%s/memif.sock,socket-abstract=no\"\n",
                   i == 0 ? "server" : "client", server.dir);
    assert_int_equal(rig_config(side[i], "", yaml), 0);
  }
  assert_int_equal(rig_spawn(&client), 0); /* nobody there yet */
  assert_true(rig_until(&client, NULL, NULL, echo_link_up, RIG_WAIT_MS));
  assert_int_equal(client.fs.pkt->port[0].up, 0);
  assert_int_equal(rig_spawn(&server), 0);
  assert_true(pair_run(&client, &p, 2000, RIG_WAIT_MS));
  uint8_t mac[6];
  memcpy(mac, server.fs.pkt->port[0].mac, 6);
  assert_memory_not_equal(mac, client.fs.pkt->port[0].mac, 6);
  for (int i = 0; i < 4; i++) {
    struct rig *r = side[i % 2];
    rig_kill(r);
    assert_int_equal(rig_spawn(r), 0);
    assert_true(pair_run(&client, &p, 2000, RIG_WAIT_MS));
  }
  assert_memory_equal(server.fs.pkt->port[0].mac, mac, 6);
  rig_close(&client);
  rig_close(&server);
}

/** A device that is not there is named, and nicio says no. */
static void test_no_device(void **state) {
  static struct rig r;

  (void)state;
  if (!rig_may())
    skip();
  assert_int_equal(rig_open(&r, 1024, 512), 0);
  assert_int_equal(rig_config(&r, "", ETHDEV("net_af_packet0,iface=nosuch0")), 0);
  assert_int_equal(rig_spawn(&r), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, RIG_WAIT_MS)); /* nicio tries once the engine agrees */
  assert_int_equal(rig_wait(&r), 1);
  rig_close(&r);
}

int main(void) {
  /* DPDK's and libxdp's own memory at exit is not ours to judge */
  (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_af_packet), cmocka_unit_test(test_af_xdp),
                                     cmocka_unit_test(test_tap), cmocka_unit_test(test_memif),
                                     cmocka_unit_test(test_no_device)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
