/*
 * hs-nicio as a process: a kernel port on veth and on a tap, the Linux kernel as the peer, doubles of broker and engine
 * (nicio_rig.h). Frames go both ways, also payload out of an A segment; nicio is killed, the engine is restarted, rings
 * are thrown away; control requests are answered. Label unit; needs root, skipped otherwise.
 */
#include "test.h"

#include "nicio_rig.h"

#include "base/bits.h"
#include "base/clock.h"
#include "control.pb-c.h"
#include "wire/cksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ME   0x0a090002u /* 10.9.0.2: the stack */
#define PEER "10.9.0.1/24"

static const uint8_t my_mac[6] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

struct echo {
  int from_app; /* payload out of the A segment */
  uint32_t arps, echoes, big;
  uint32_t full;
};

/** ARP reply to a request for us, in place. */
static uint32_t echo_arp(uint8_t *f) {
  if (load_be16(f + 20) != 1 || load_be32(f + 38) != ME)
    return 0;
  memcpy(f, f + 6, 6);
  memcpy(f + 6, my_mac, 6);
  store_be16(f + 20, 2);
  uint8_t sender[10];
  memcpy(sender, f + 22, 10);
  memcpy(f + 22, my_mac, 6);
  store_be32(f + 28, ME);
  memcpy(f + 32, sender, 10);
  return 1;
}

/** Engine: answers ARP, sends UDP back to where it came from. */
static void echo_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  struct echo *e = ctx;
  uint8_t t[6];

  if (len >= 42 && load_be16(f + 12) == 0x0806 && echo_arp(f)) {
    e->arps++;
    assert_int_equal(rig_send(r, f, 42, 42, 0, NULL), 0);
    return;
  }
  if (len < 42 || load_be16(f + 12) != 0x0800 || load_be32(f + 30) != ME || f[23] != 17)
    return;
  memcpy(t, f, 6);
  memcpy(f, f + 6, 6);
  memcpy(f + 6, my_mac, 6);
  memcpy(t, f + 26, 4);
  memcpy(f + 26, f + 30, 4);
  memcpy(f + 30, t, 4);
  memcpy(t, f + 34, 2);
  memcpy(f + 34, f + 36, 2);
  memcpy(f + 36, t, 2);
  e->echoes++;
  e->big += len > 4096;
  if (rig_send(r, f, len, HS_MIN(len, 42u), e->from_app && len > 42, d) < 0)
    e->full++;
}

struct udp_state {
  int fd;
  uint8_t want[65536];
  uint32_t len;
  int got;
};

static int udp_open(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(ME)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  assert_true(fd >= 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

struct wait {
  struct echo *e;
  struct udp_state *u;
};

static int udp_back(struct rig *r, void *ctx) {
  struct udp_state *u = ((struct wait *)ctx)->u;
  static uint8_t buf[65536];

  (void)r;
  ssize_t n = recv(u->fd, buf, sizeof buf, 0);
  if (n < 0)
    return 0;
  u->got = n == (ssize_t)u->len && memcmp(buf, u->want, u->len) == 0;
  return 1;
}

static void wait_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  echo_frame(r, ((struct wait *)ctx)->e, d, f, len);
}

/** Send len bytes to the stack's echo and wait for them. Repeats while nothing comes back (a link may be coming up).
 * Returns how many sends it took, 0 = never. */
static int udp_echo(struct rig *r, struct echo *e, uint32_t len, int tries) {
  static struct udp_state u;
  struct wait w = {.e = e, .u = &u};
  int n = 0;

  u.fd = udp_open();
  u.len = len;
  u.got = 0;
  for (uint32_t i = 0; i < len; i++)
    u.want[i] = (uint8_t)(i * 7 + len);
  while (!u.got && n < tries) {
    (void)send(u.fd, u.want, len, 0);
    n++;
    (void)rig_until(r, wait_frame, &w, udp_back, 500);
  }
  close(u.fd);
  return u.got ? n : 0;
}

#define VETH_IF                                                                                                        \
  "    - name: net0\n      kind: kernel\n      device: hss0\n      mac: 02:11:22:33:44:55\n"                           \
  "    - name: tap0\n      kind: kernel\n      device: hst0\n      tap: true\n      mtu: 9000\n"

static void rig_begin(struct rig *r, const char *interfaces) {
  if (!rig_may())
    skip();
  assert_int_equal(rig_open(r, 1024, 512), 0);
  assert_int_equal(rig_veth("hsk0", "hss0", PEER), 0);
  assert_int_equal(rig_config(r, "", interfaces), 0);
  assert_int_equal(rig_spawn(r), 0);
}

static int link_is_up(struct rig *r, void *ctx) {
  (void)ctx;
  return r->link.up;
}

/** Every slot is at home: RX with nicio (seen from here: none held), TX with us. */
static int tx_all_home(struct rig *r, void *ctx) {
  (void)ctx;
  return r->n_tx_free == r->fs.geom.n_tx;
}

static void test_echo(void **state) {
  static struct rig r;
  struct echo e = {0};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_true(rig_until(&r, NULL, NULL, link_is_up, 5000));
  assert_int_not_equal(udp_echo(&r, &e, 100, 20), 0);
  assert_true(e.arps > 0);
  for (uint32_t len = 1; len <= 1472; len += 157)
    assert_int_equal(udp_echo(&r, &e, len, 1), 1);
  e.from_app = 1;
  for (uint32_t len = 1; len <= 1472; len += 157)
    assert_int_equal(udp_echo(&r, &e, len, 1), 1);
  assert_true(rig_until(&r, NULL, NULL, tx_all_home, 2000));
  const struct abi_port *p = &r.fs.pkt->port[0];
  assert_int_equal(p->used, 1);
  assert_int_equal(p->up, 1);
  assert_int_equal(p->mtu, 1500);
  assert_memory_equal(p->mac, my_mac, 6);
  assert_string_equal(p->name, "net0");
  assert_true(p->counters[ABI_PC_RX_FRAMES] >= 20 && p->counters[ABI_PC_TX_FRAMES] >= 20);
  assert_int_equal(p->counters[ABI_PC_TX_BAD_DESC], 0);
  assert_int_equal(p->counters[ABI_PC_TX_ERROR], 0);
  assert_int_equal(r.fs.pkt->port[1].mtu, 9000);
  assert_int_equal(rig_term(&r), 0);
  rig_close(&r);
}

static void test_nicio_killed(void **state) {
  static struct rig r;
  struct echo e = {0};
  uint8_t mac[6];

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(udp_echo(&r, &e, 500, 40), 0);
  memcpy(mac, r.fs.pkt->port[1].mac, 6);
  for (int round = 0; round < 3; round++) {
    rig_kill(&r);
    int fd = udp_open(); /* waits in the socket's queue, which the broker keeps */
    assert_int_equal(send(fd, "kept", 4, 0), 4);
    assert_int_equal(rig_spawn(&r), 0);
    static struct udp_state u;
    u = (struct udp_state){.fd = fd, .len = 4, .want = "kept"};
    struct wait w = {.e = &e, .u = &u};
    assert_true(rig_until(&r, wait_frame, &w, udp_back, 5000));
    assert_true(u.got);
    close(fd);
    assert_int_equal(udp_echo(&r, &e, 1400, 1), 1);
    assert_memory_equal(r.fs.pkt->port[1].mac, mac, 6);
  }
  pthread_mutex_lock(&r.lock);
  assert_int_equal(r.deposits, 2); /* once per port: later ones took them from the vault */
  assert_int_equal(r.hellos, 4);
  pthread_mutex_unlock(&r.lock);
  rig_close(&r);
}

static void test_engine_restarted(void **state) {
  static struct rig r;
  struct echo e = {0};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(udp_echo(&r, &e, 500, 40), 0);
  for (int round = 0; round < 3; round++) {
    int fd = udp_open();
    static struct udp_state u;
    u = (struct udp_state){.fd = fd, .len = 5, .want = "again"};
    struct wait w = {.e = &e, .u = &u};
    assert_int_equal(send(fd, "again", 5, 0), 5);
    /* the engine sees the frame, holds it, and dies: the next one gets it again */
    uint64_t before = r.rx_frames;
    r.held_rx = 1;
    usec_t end = clock_now_us() + 2000000;
    while (r.rx_frames == before && clock_now_us() < end)
      rig_turn(&r, NULL, NULL);
    assert_true(r.rx_frames > before);
    r.held_rx = 0;
    assert_int_equal(rig_engine_open(&r), 0);
    assert_true(rig_until(&r, wait_frame, &w, udp_back, 5000));
    assert_true(u.got);
    close(fd);
    assert_int_equal(udp_echo(&r, &e, 1200, 1), 1);
  }
  rig_close(&r);
}

/** While no engine returns slots nicio takes in what it can, and loses nothing that fits. */
static void test_engine_away(void **state) {
  static struct rig r;
  struct echo e = {0};
  uint8_t one[64] = {1};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(udp_echo(&r, &e, 500, 40), 0);
  int fd = udp_open();
  for (int i = 0; i < 3000; i++) /* more than there are slots; the rest waits in the kernel */
    assert_int_equal(send(fd, one, sizeof one, 0), (int)sizeof one);
  e.echoes = 0;
  assert_int_equal(rig_engine_open(&r), 0);
  usec_t end = clock_now_us() + 5000000;
  struct wait w = {.e = &e};
  while (e.echoes < 3000 && clock_now_us() < end)
    rig_turn(&r, wait_frame, &w);
  assert_int_equal(e.echoes, 3000);
  assert_int_equal(r.fs.pkt->port[0].counters[ABI_PC_RX_DROP_NO_SLOT], 0);
  close(fd);
  rig_close(&r);
}

static Hoststack__Control__Reply *ask(struct rig *r, Hoststack__Control__Request *q) {
  uint8_t buf[512], *reply;
  size_t len;
  size_t n = hoststack__control__request__pack(q, buf);

  assert_int_equal(rig_control(r, buf, n, &reply, &len), 0);
  Hoststack__Control__Reply *a = hoststack__control__reply__unpack(NULL, len, reply);
  free(reply);
  assert_non_null(a);
  return a;
}

static void test_control(void **state) {
  static struct rig r;
  struct echo e = {0};
  char path[128];
  struct stat st;

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(udp_echo(&r, &e, 500, 40), 0);
  Hoststack__Control__Request q = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowInterface si = HOSTSTACK__CONTROL__SHOW_INTERFACE__INIT;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_INTERFACE;
  q.show_interface = &si;
  Hoststack__Control__Reply *a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  assert_int_equal(a->interfaces->n_interface, 2);
  assert_string_equal(a->interfaces->interface[0]->mac, "02:11:22:33:44:55");
  assert_true(a->interfaces->interface[0]->up);
  hoststack__control__reply__free_unpacked(a, NULL);

  Hoststack__Control__Capture cap = HOSTSTACK__CONTROL__CAPTURE__INIT;
  char name[] = "net0", dir[] = "both";
  (void)snprintf(path, sizeof path, "%s/cap.pcapng", r.dir);
  cap.interface = name;
  cap.path = path;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_CAPTURE;
  q.capture = &cap;
  a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  hoststack__control__reply__free_unpacked(a, NULL);
  assert_int_equal(udp_echo(&r, &e, 1000, 1), 1);
  cap.stop = 1;
  a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  hoststack__control__reply__free_unpacked(a, NULL);
  assert_int_equal(stat(path, &st), 0);
  assert_true(st.st_size > 2 * (1000 + 42)); /* there and back */

  Hoststack__Control__ResetRings rr = HOSTSTACK__CONTROL__RESET_RINGS__INIT;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_RESET_RINGS;
  q.reset_rings = &rr;
  for (int i = 0; i < 3; i++) {
    a = ask(&r, &q);
    assert_int_equal(a->rc, 0);
    hoststack__control__reply__free_unpacked(a, NULL);
    assert_int_not_equal(udp_echo(&r, &e, 1000, 2), 0);
  }

  Hoststack__Control__SetImpairment im = HOSTSTACK__CONTROL__SET_IMPAIRMENT__INIT;
  im.interface = name;
  im.direction = dir;
  im.loss_percent = 100;
  q.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SET_IMPAIRMENT;
  q.set_impairment = &im;
  a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  hoststack__control__reply__free_unpacked(a, NULL);
  assert_int_equal(udp_echo(&r, &e, 100, 1), 0);
  im.loss_percent = 0;
  im.delay_us = 20000;
  a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  hoststack__control__reply__free_unpacked(a, NULL);
  usec_t start = clock_now_us();
  assert_int_equal(udp_echo(&r, &e, 100, 1), 1);
  assert_true(clock_now_us() - start >= 40000);
  im.interface = dir;
  a = ask(&r, &q);
  assert_int_equal(a->rc, ENOENT);
  hoststack__control__reply__free_unpacked(a, NULL);
  rig_close(&r);
}

/** An A segment that was dropped is not read any more: the frame is dropped and counted, its header slot comes home. */
static void test_region_dropped(void **state) {
  static struct rig r;
  struct echo e = {0};
  uint8_t frame[1000] = {0};
  struct abi_frame_desc like = {0};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(udp_echo(&r, &e, 500, 40), 0);
  pthread_mutex_lock(&r.lock);
  r.drop_id = 22;
  pthread_mutex_unlock(&r.lock);
  assert_int_equal(write(r.wake[1], "d", 1), 1);
  usec_t end = clock_now_us() + 5000000;
  while (r.fs.pkt->port[0].counters[ABI_PC_TX_BAD_DESC] == 0 && clock_now_us() < end) {
    if (r.n_tx_free > 0)
      (void)rig_send(&r, frame, sizeof frame, 42, 1, &like);
    rig_turn(&r, NULL, NULL);
  }
  assert_true(r.fs.pkt->port[0].counters[ABI_PC_TX_BAD_DESC] > 0);
  assert_true(rig_until(&r, NULL, NULL, tx_all_home, 2000));
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_echo),        cmocka_unit_test(test_nicio_killed), cmocka_unit_test(test_engine_restarted),
      cmocka_unit_test(test_engine_away), cmocka_unit_test(test_control),      cmocka_unit_test(test_region_dropped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
