/*
 * hs-nicio with DPDK devices: net_af_packet and net_af_xdp on veth, net_tap, net_ring; the Linux kernel as the peer,
 * doubles of broker and engine. Peers' offloads stay as they are. Label unit; needs root, skipped otherwise.
 */
#include "test.h"

#include "nicio_echo.h"

#include <stdlib.h>
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
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, 10000));
  if (tap_cidr != NULL) {
    const char *const addr[] = {"ip", "addr", "add", tap_cidr, "dev", "hstap", NULL};
    const char *const up[] = {"ip", "link", "set", "hstap", "up", NULL};
    assert_int_equal(rig_run(addr), 0);
    assert_int_equal(rig_run(up), 0);
  }
  assert_int_not_equal(echo_udp(&r, &e, 100, 40), 0);
  for (uint32_t len = 1; len <= mtu - 28; len += 157)
    assert_int_not_equal(echo_udp(&r, &e, len, 2), 0);
  e.from_app = 1;
  for (uint32_t len = 1; len <= mtu - 28; len += 157)
    assert_int_not_equal(echo_udp(&r, &e, len, 2), 0);
  assert_int_not_equal(echo_udp(&r, &e, mtu - 28, 2), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_tx_home, 5000));
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
    assert_int_not_equal(echo_udp(&r, &e, 1000, 10), 0);
  }
  struct echo_wait w = {.e = &e};
  int fd = echo_open();
  for (int i = 0; i < 5000; i++) { /* more frames than slots */
    (void)send(fd, "x", 1, 0);
    rig_turn(&r, echo_wait_frame, &w);
  }
  close(fd);
  assert_int_not_equal(echo_udp(&r, &e, 1000, 10), 0);

  /* nicio dies: its devices are made anew, with the same MAC */
  rig_kill(&r);
  assert_int_equal(rig_engine_open(&r), 0); /* down until the next nicio says otherwise */
  assert_int_equal(rig_spawn(&r), 0);
  if (tap_cidr == NULL)
    assert_int_not_equal(echo_udp(&r, &e, 1000, 40), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, 10000));
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

/** A device that is not there is named, and nicio says no. */
static void test_no_device(void **state) {
  static struct rig r;

  (void)state;
  if (!rig_may())
    skip();
  assert_int_equal(rig_open(&r, 1024, 512), 0);
  assert_int_equal(rig_config(&r, "", ETHDEV("net_af_packet0,iface=nosuch0")), 0);
  assert_int_equal(rig_spawn(&r), 0);
  assert_int_equal(rig_wait(&r), 1);
  rig_close(&r);
}

int main(void) {
  /* DPDK's and libxdp's own memory at exit is not ours to judge */
  (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_af_packet), cmocka_unit_test(test_af_xdp),
                                     cmocka_unit_test(test_tap), cmocka_unit_test(test_no_device)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
