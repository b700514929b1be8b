/*
 * Echo behind a nicio under test (nicio_echo.h).
 */
#include "nicio_echo.h"

#include "test.h"

#include "base/bits.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const uint8_t echo_mac[6] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

/** ARP reply to a request for us, in place. */
static uint32_t echo_arp(uint8_t *f) {
  if (load_be16(f + 20) != 1 || load_be32(f + 38) != ECHO_ADDR)
    return 0;
  memcpy(f, f + 6, 6);
  memcpy(f + 6, echo_mac, 6);
  store_be16(f + 20, 2);
  uint8_t sender[10];
  memcpy(sender, f + 22, 10);
  memcpy(f + 22, echo_mac, 6);
  store_be32(f + 28, ECHO_ADDR);
  memcpy(f + 32, sender, 10);
  return 1;
}

/** Engine: answers ARP, sends UDP back to where it came from. */
void echo_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  struct echo *e = ctx;
  uint8_t t[6];

  if (len >= 42 && load_be16(f + 12) == 0x0806 && echo_arp(f)) {
    e->arps++;
    assert_int_equal(rig_send(r, f, 42, 42, 0, NULL), 0);
    return;
  }
  if (len < 42 || load_be16(f + 12) != 0x0800 || load_be32(f + 30) != ECHO_ADDR || f[23] != 17)
    return;
  memcpy(t, f, 6);
  memcpy(f, f + 6, 6);
  memcpy(f + 6, echo_mac, 6);
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

int echo_open(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(ECHO_ADDR)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  assert_true(fd >= 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

int echo_back(struct rig *r, void *ctx) {
  struct echo_udp *u = ((struct echo_wait *)ctx)->u;
  static uint8_t buf[65536];

  (void)r;
  ssize_t n = recv(u->fd, buf, sizeof buf, 0);
  if (n < 0)
    return 0;
  u->got = n == (ssize_t)u->len && memcmp(buf, u->want, u->len) == 0;
  return 1;
}

void echo_wait_frame(struct rig *r, void *ctx, const struct abi_frame_desc *d, uint8_t *f, uint32_t len) {
  echo_frame(r, ((struct echo_wait *)ctx)->e, d, f, len);
}

int echo_udp(struct rig *r, struct echo *e, uint32_t len, int tries) {
  return echo_try(r, e, len, tries, tries == 1 ? RIG_WAIT_MS : 500);
}

int echo_try(struct rig *r, struct echo *e, uint32_t len, int tries, int ms) {
  static struct echo_udp u;
  struct echo_wait w = {.e = e, .u = &u};
  int n = 0;

  u.fd = echo_open();
  u.len = len;
  u.got = 0;
  for (uint32_t i = 0; i < len; i++)
    u.want[i] = (uint8_t)(i * 7 + len);
  while (!u.got && n < tries) {
    (void)send(u.fd, u.want, len, 0);
    n++;
    (void)rig_until(r, echo_wait_frame, &w, echo_back, ms);
  }
  close(u.fd);
  return u.got ? n : 0;
}

int echo_port_up(struct rig *r, void *ctx) {
  (void)ctx;
  return __atomic_load_n(&r->fs.pkt->port[0].up, __ATOMIC_ACQUIRE) != 0;
}

int echo_link_up(struct rig *r, void *ctx) {
  (void)ctx;
  return r->link.up;
}

/** Every slot is at home: RX with nicio (seen from here: none held), TX with us. */
int echo_tx_home(struct rig *r, void *ctx) {
  (void)ctx;
  return r->n_tx_free == r->fs.geom.n_tx;
}
