/*
 * hs-nicio as a process: a kernel port on veth and on a tap, the Linux kernel as the peer, doubles of broker and engine
 * (nicio_rig.h). Frames go both ways, also payload out of an A segment; nicio is killed, the engine is restarted, rings
 * are thrown away; control requests are answered. Label unit; needs root, skipped otherwise.
 */
#include "test.h"

#include "nicio_echo.h"

#include "base/bits.h"
#include "base/clock.h"
#include "control.pb-c.h"
#include "wire/cksum.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
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

#define VETH_IF                                                                                                        \
  "    - name: net0\n      kind: kernel\n      device: hss0\n      mac: 02:11:22:33:44:55\n"                           \
  "    - name: tap0\n      kind: kernel\n      device: hst0\n      tap: true\n      mtu: 9000\n"

static void rig_begin(struct rig *r, const char *interfaces) {
  if (!rig_may())
    skip();
  assert_int_equal(rig_open(r, 1024, 512), 0);
  assert_int_equal(rig_veth("hsk0", "hss0", ECHO_PEER), 0);
  assert_int_equal(rig_config(r, "", interfaces), 0);
  assert_int_equal(rig_spawn(r), 0);
}

static void test_echo(void **state) {
  static struct rig r;
  struct echo e = {0};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, RIG_WAIT_MS));
  assert_int_not_equal(echo_udp(&r, &e, 100, 60), 0);
  assert_true(e.arps > 0);
  for (uint32_t len = 1; len <= 1472; len += 157)
    assert_int_equal(echo_udp(&r, &e, len, 1), 1);
  e.from_app = 1;
  for (uint32_t len = 1; len <= 1472; len += 157)
    assert_int_equal(echo_udp(&r, &e, len, 1), 1);
  assert_true(rig_until(&r, NULL, NULL, echo_tx_home, RIG_WAIT_MS));
  const struct abi_port *p = &r.fs.pkt->port[0];
  assert_int_equal(p->used, 1);
  assert_int_equal(p->up, 1);
  assert_int_equal(p->mtu, 1500);
  assert_memory_equal(p->mac, echo_mac, 6);
  assert_string_equal(p->name, "net0");
  assert_true(p->counters[ABI_PC_RX_FRAMES] >= 20 && p->counters[ABI_PC_TX_FRAMES] >= 20);
  assert_int_equal(p->counters[ABI_PC_TX_BAD_DESC], 0);
  assert_int_equal(p->counters[ABI_PC_TX_ERROR], 0);
  assert_int_equal(r.fs.pkt->port[1].mtu, 9000);
  assert_int_equal(rig_term(&r), 0);
  rig_close(&r);
}

/* A UDP datagram in VLAN 5 whose checksum is not finished. */
#define VLAN_FRAME_LEN 60u
static void vlan_datagram(uint8_t f[VLAN_FRAME_LEN]) {
  static const uint8_t head[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,   0,   0,   0,   9,    0x81,
                                 0,    0x60, 5,    8,    0,    0x45, 0, 0,   42,  0,   0,   0x40, 0,
                                 64,   17,   0,    0,    10,   9,    0, 1,   10,  9,   0,   2,    0,
                                 7,    0x10, 0x92, 0,    22,   0,    0, 't', 'a', 'g', 'g', 'e',  'd'};
  memset(f, 0, VLAN_FRAME_LEN);
  memcpy(f, head, sizeof head);
}

struct vlan_seen {
  int frames;
  uint16_t flags, csum_start;
};

static void vlan_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  struct vlan_seen *seen = ctx;
  uint8_t want[VLAN_FRAME_LEN];
  (void)r;
  vlan_datagram(want);
  if (len != sizeof want || memcmp(f, want, len) != 0)
    return;
  seen->frames++;
  seen->flags = d->flags;
  seen->csum_start = d->csum_start;
}

static int vlan_seen(struct rig *r, void *ctx) {
  (void)r;
  return ((struct vlan_seen *)ctx)->frames > 0;
}

/* The kernel's end of the wire, with tags and unfinished checksums. */
static int vlan_socket(void) {
  struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  int one = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  a.sll_ifindex = (int)if_nametoindex("hsk0");
  assert_true(fd >= 0 && a.sll_ifindex > 0);
  assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one), 0);
  assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one), 0);
  assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one), 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
  return fd;
}

/* Whether the next frames of the socket hold ours, its tag in the auxiliary data. */
static int vlan_came(int fd) {
  uint8_t buf[2048], aux[64], want[VLAN_FRAME_LEN];
  struct iovec iov = {buf, sizeof buf};
  struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = aux, .msg_controllen = sizeof aux};
  struct pollfd pfd = {.fd = fd, .events = POLLIN};
  vlan_datagram(want);
  while (poll(&pfd, 1, RIG_WAIT_MS) == 1) {
    h.msg_controllen = sizeof aux;
    ssize_t n = recvmsg(fd, &h, 0);
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    struct tpacket_auxdata a = {0};
    if (c != NULL && c->cmsg_type == PACKET_AUXDATA)
      memcpy(&a, CMSG_DATA(c), sizeof a);
    if (n == 10 + (ssize_t)VLAN_FRAME_LEN - 4 && a.tp_vlan_tci == 0x6005 && memcmp(buf + 22, want + 16, 28) == 0)
      return 1;
  }
  return 0;
}

/* The kernel takes VLAN tags out of what an AF_PACKET socket receives: the engine sees them all the same. */
static void test_vlan_tags(void **state) {
  static struct rig r;
  struct vlan_seen seen = {0, 0, 0};
  struct abi_frame_desc like = {.flags = 0};
  uint8_t f[10 + VLAN_FRAME_LEN] = {1, 0, 0, 0, 0, 0, 38, 0, 6, 0}; /* vnet header: finish the sum from 38 on */

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_true(rig_until(&r, NULL, NULL, echo_link_up, RIG_WAIT_MS));
  assert_true(rig_until(&r, NULL, NULL, echo_port_up, RIG_WAIT_MS));
  int fd = vlan_socket();
  vlan_datagram(f + 10);
  assert_int_equal(send(fd, f, sizeof f, 0), sizeof f);
  assert_true(rig_until(&r, vlan_frame, &seen, vlan_seen, RIG_WAIT_MS));
  assert_true(seen.flags & ABI_FR_CSUM_PART);
  assert_int_equal(seen.csum_start, 38);
  assert_int_equal(rig_send(&r, f + 10, VLAN_FRAME_LEN, VLAN_FRAME_LEN, 0, &like), 0);
  assert_true(rig_until(&r, NULL, NULL, echo_tx_home, RIG_WAIT_MS));
  assert_true(vlan_came(fd));
  close(fd);
  assert_int_equal(rig_term(&r), 0);
  rig_close(&r);
}

static void test_nicio_killed(void **state) {
  static struct rig r;
  struct echo e = {0};
  uint8_t mac[6];

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
  memcpy(mac, r.fs.pkt->port[1].mac, 6);
  for (int round = 0; round < 3; round++) {
    rig_kill(&r);
    int fd = echo_open(); /* waits in the socket's queue, which the broker keeps */
    assert_int_equal(send(fd, "kept", 4, 0), 4);
    assert_int_equal(rig_spawn(&r), 0);
    static struct echo_udp u;
    u = (struct echo_udp){.fd = fd, .len = 4, .want = "kept"};
    struct echo_wait w = {.e = &e, .u = &u};
    assert_true(rig_until(&r, echo_wait_frame, &w, echo_back, RIG_WAIT_MS));
    assert_true(u.got);
    close(fd);
    assert_int_equal(echo_udp(&r, &e, 1400, 1), 1);
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
  assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
  for (int round = 0; round < 3; round++) {
    int fd = echo_open();
    static struct echo_udp u;
    u = (struct echo_udp){.fd = fd, .len = 5, .want = "again"};
    struct echo_wait w = {.e = &e, .u = &u};
    assert_int_equal(send(fd, "again", 5, 0), 5);
    /* the engine sees the frame, holds it, and dies: the next one gets it again */
    uint64_t before = r.rx_frames;
    r.held_rx = 1;
    usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
    while (r.rx_frames == before && clock_now_us() < end)
      rig_turn(&r, NULL, NULL);
    assert_true(r.rx_frames > before);
    r.held_rx = 0;
    assert_int_equal(rig_engine_open(&r), 0);
    assert_true(rig_until(&r, echo_wait_frame, &w, echo_back, RIG_WAIT_MS));
    assert_true(u.got);
    close(fd);
    assert_int_equal(echo_udp(&r, &e, 1200, 1), 1);
  }
  rig_close(&r);
}

#define AWAY_LEN 64u

struct away {
  struct echo e;
  uint32_t seen;
};

/** Counts the datagrams of that length alone: one that was sent again before the link was up may come late. */
static void away_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  struct away *a = ctx;
  a->seen += len == 42 + AWAY_LEN && f[23] == 17;
  echo_frame(r, &a->e, d, f, len);
}

/** While no engine returns slots nicio takes in what it can, and loses nothing that fits. */
static void test_engine_away(void **state) {
  static struct rig r;
  struct away a = {.seen = 0};
  uint8_t one[AWAY_LEN] = {1};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(echo_udp(&r, &a.e, 500, 60), 0);
  int fd = echo_open();
  for (int i = 0; i < 3000; i++) /* more than there are slots; the rest waits in the kernel */
    assert_int_equal(send(fd, one, sizeof one, 0), (int)sizeof one);
  assert_int_equal(rig_engine_open(&r), 0);
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  while (a.seen < 3000 && clock_now_us() < end)
    rig_turn(&r, away_frame, &a);
  assert_int_equal(a.seen, 3000);
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
  assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
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
  assert_int_equal(echo_udp(&r, &e, 1000, 1), 1);
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
    assert_int_not_equal(echo_udp(&r, &e, 1000, 60), 0);
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
  assert_int_equal(echo_try(&r, &e, 100, 1, 500), 0);
  im.loss_percent = 0;
  im.delay_us = 20000;
  a = ask(&r, &q);
  assert_int_equal(a->rc, 0);
  hoststack__control__reply__free_unpacked(a, NULL);
  usec_t start = clock_now_us();
  assert_int_equal(echo_udp(&r, &e, 100, 1), 1);
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
  assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
  pthread_mutex_lock(&r.lock);
  r.drop_id = 22;
  pthread_mutex_unlock(&r.lock);
  assert_int_equal(write(r.wake[1], "d", 1), 1);
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  while (r.fs.pkt->port[0].counters[ABI_PC_TX_BAD_DESC] == 0 && clock_now_us() < end) {
    if (r.n_tx_free > 0)
      (void)rig_send(&r, frame, sizeof frame, 42, 1, &like);
    rig_turn(&r, NULL, NULL);
  }
  assert_true(r.fs.pkt->port[0].counters[ABI_PC_TX_BAD_DESC] > 0);
  assert_true(rig_until(&r, NULL, NULL, echo_tx_home, RIG_WAIT_MS));
  rig_close(&r);
}

/** The interface under the port is deleted and made anew: down, then up again with the same descriptor. */
static void test_interface_anew(void **state) {
  static struct rig r;
  struct echo e = {0};
  const char *const del[] = {"ip", "link", "del", "hsk0", NULL};

  (void)state;
  rig_begin(&r, VETH_IF);
  assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(rig_run(del), 0);
    usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
    while (__atomic_load_n(&r.fs.pkt->port[0].up, __ATOMIC_RELAXED) && clock_now_us() < end)
      rig_turn(&r, NULL, NULL);
    assert_int_equal(r.fs.pkt->port[0].up, 0);
    assert_int_equal(rig_veth("hsk0", "hss0", ECHO_PEER), 0);
    assert_int_not_equal(echo_udp(&r, &e, 500, 60), 0);
  }
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_echo),           cmocka_unit_test(test_vlan_tags),
      cmocka_unit_test(test_nicio_killed),   cmocka_unit_test(test_engine_restarted),
      cmocka_unit_test(test_engine_away),    cmocka_unit_test(test_control),
      cmocka_unit_test(test_region_dropped), cmocka_unit_test(test_interface_anew),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
