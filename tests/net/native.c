/*
 * A native program on libvppcom, for tests/net/test_net_native.py: an event-loop server in the way of Envoy (a kernel
 * epoll on vppcom_mq_epoll_fd, a session epoll polled with time-out 0, edge-triggered), and a blocking client.
 *
 * native serve PORT                  echoes on every connection until SIGTERM
 * native talk ADDRESS PORT BYTES N   N connections, each sends BYTES while it reads them back, then an end of file
 */
#include "vppcom.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NATIVE_BUF   65536
#define NATIVE_CONNS 4096

struct conn {
  uint32_t h;
  int have, at, eof;
  char buf[NATIVE_BUF];
};

static struct conn *conns[NATIVE_CONNS];

static int fail(const char *what, int rc) {
  fprintf(stderr, "native: %s: %s\n", what, vppcom_retval_str(rc));
  return 1;
}

/** Moves bytes until something would block. 1 = go on later, 0 = over. */
static int conn_turn(struct conn *c) {
  for (;;) {
    while (c->at < c->have) {
      int n = vppcom_session_write(c->h, c->buf + c->at, (size_t)(c->have - c->at));
      if (n == VPPCOM_EAGAIN)
        return 1;
      if (n < 0)
        return 0;
      c->at += n;
    }
    int n = vppcom_session_read(c->h, c->buf, sizeof c->buf);
    if (n == VPPCOM_EAGAIN)
      return 1;
    if (n <= 0)
      return 0;
    c->at = 0;
    c->have = n;
  }
}

static void accept_all(uint32_t listener, uint32_t set) {
  int h;
  while ((h = vppcom_session_accept(listener, NULL, O_NONBLOCK)) >= 0) {
    int index = vppcom_session_index((uint32_t)h);
    struct conn *c = index < NATIVE_CONNS ? calloc(1, sizeof *c) : NULL;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u64 = (uint64_t)index};
    if (c == NULL) {
      (void)vppcom_session_close((uint32_t)h);
      continue;
    }
    c->h = (uint32_t)h;
    conns[index] = c;
    (void)vppcom_epoll_ctl(set, EPOLL_CTL_ADD, c->h, &ev);
  }
}

static void serve_events(uint32_t listener, uint32_t set) {
  struct epoll_event ev[64];
  int n;
  do {
    n = vppcom_epoll_wait(set, ev, 64, 0);
    for (int i = 0; i < n; i++) {
      if (ev[i].data.u64 == UINT64_MAX) {
        accept_all(listener, set);
        continue;
      }
      struct conn *c = conns[ev[i].data.u64];
      if (c == NULL || conn_turn(c))
        continue;
      conns[ev[i].data.u64] = NULL;
      (void)vppcom_session_close(c->h);
      free(c);
    }
  } while (n == 64);
}

static int serve(uint16_t port) {
  uint8_t any[16] = {0};
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = any, .port = htons(port)};
  struct epoll_event ev = {.events = EPOLLIN, .data.u64 = UINT64_MAX}, got;
  int l = vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  int set = vppcom_epoll_create();
  int ep_fd = epoll_create1(EPOLL_CLOEXEC);
  int rc = vppcom_session_bind((uint32_t)l, &ep);
  if (rc == 0)
    rc = vppcom_session_listen((uint32_t)l, 512);
  if (rc == 0)
    rc = vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, (uint32_t)l, &ev);
  ev.events = EPOLLIN | EPOLLET;
  if (rc < 0 || epoll_ctl(ep_fd, EPOLL_CTL_ADD, vppcom_mq_epoll_fd(), &ev) < 0)
    return fail("listen", rc);
  printf("listening\n");
  fflush(stdout);
  for (;;) {
    serve_events((uint32_t)l, (uint32_t)set);
    (void)epoll_wait(ep_fd, &got, 1, -1); /* nothing but the bell: a lost ring would hang here */
  }
}

static uint8_t pattern(size_t i) {
  return (uint8_t)(i * 31 + (i >> 9));
}

/** One connection: writes nonblocking, reads blocking only when nothing can be written. */
static int talk_once(vppcom_endpt_t *ep, size_t size) {
  static uint8_t out[NATIVE_BUF], in[NATIVE_BUF];
  size_t sent = 0, got = 0;
  int h = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
  int rc = vppcom_session_connect((uint32_t)h, ep);
  if (rc < 0)
    return fail("connect", rc);
  while (got < size) {
    size_t len = size - sent < sizeof out ? size - sent : sizeof out;
    for (size_t i = 0; i < len; i++)
      out[i] = pattern(sent + i);
    int n = len != 0 ? vppcom_session_sendto((uint32_t)h, out, (uint32_t)len, MSG_DONTWAIT, NULL) : 0;
    if (n < 0 && n != VPPCOM_EAGAIN)
      return fail("write", n);
    int full = n == VPPCOM_EAGAIN || (size_t)n < len || sent + (size_t)n == size;
    sent += n > 0 ? (size_t)n : 0;
    n = vppcom_session_recvfrom((uint32_t)h, in, sizeof in, full ? 0 : MSG_DONTWAIT, NULL);
    if (n == VPPCOM_EAGAIN)
      continue;
    if (n <= 0)
      return fail("read", n);
    for (int i = 0; i < n; i++)
      if (in[i] != pattern(got + (size_t)i))
        return fail("what came back is not what was sent", 0);
    got += (size_t)n;
  }
  (void)vppcom_session_shutdown((uint32_t)h, SHUT_WR);
  rc = vppcom_session_read((uint32_t)h, in, 1);
  if (rc != 0)
    return fail("end of file", rc);
  return vppcom_session_close((uint32_t)h) == 0 ? 0 : 1;
}

static int talk(const char *address, uint16_t port, size_t size, int count) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.is_ip4 = strchr(address, ':') == NULL, .ip = ip, .port = htons(port)};
  if (inet_pton(ep.is_ip4 ? AF_INET : AF_INET6, address, ip) != 1)
    return fail("address", VPPCOM_EINVAL);
  for (int i = 0; i < count; i++)
    if (talk_once(&ep, size) != 0)
      return 1;
  printf("equal\n");
  return 0;
}

static int udp_expect(uint32_t h, const uint8_t *what, uint32_t len, const vppcom_endpt_t *peer, vppcom_endpt_t *from) {
  static uint8_t in[65536];
  int n = vppcom_session_recvfrom(h, in, sizeof in, 0, from);
  if (n != (int)len || memcmp(in, what, len) != 0 || from->port != peer->port)
    return fail("a datagram that was not sent", n);
  return 0;
}

/* Datagrams against an echo server: unconnected with segments and the local address told, then connected in a set. */
static int udp(const char *address, uint16_t port) {
  static uint8_t out[3000];
  uint8_t ip[16], heard[16];
  uint32_t room[2 + 4]; /* one tlv with up to 16 bytes */
  uint32_t seg_tlv[3] = {VCL_UDP_SEGMENT, sizeof(uint16_t), 0}, on = 1, len = sizeof on;
  uint16_t seg = 1000;
  vppcom_endpt_t ep = {.is_ip4 = strchr(address, ':') == NULL, .ip = ip, .port = htons(port)};
  vppcom_endpt_t from = {.ip = heard, .app_tlvs = (vppcom_endpt_tlv_t *)(void *)room, .app_tlv_len = sizeof room};
  if (inet_pton(ep.is_ip4 ? AF_INET : AF_INET6, address, ip) != 1)
    return fail("address", VPPCOM_EINVAL);
  for (size_t i = 0; i < sizeof out; i++)
    out[i] = pattern(i);
  uint32_t h = (uint32_t)vppcom_session_create(VPPCOM_PROTO_UDP, 0);
  int rc = vppcom_session_attr(h, VPPCOM_ATTR_SET_IP_PKTINFO, &on, &len);
  if (rc != 0)
    return fail("pktinfo", rc);
  memcpy(&seg_tlv[2], &seg, sizeof seg);
  ep.app_tlvs = (vppcom_endpt_tlv_t *)(void *)seg_tlv;
  ep.app_tlv_len = 2 * sizeof(uint32_t) + sizeof seg;
  rc = vppcom_session_sendto(h, out, 2500, 0, &ep);
  if (rc != 2500)
    return fail("sendto with segments", rc);
  for (uint32_t off = 0; off < 2500; off += 1000) {
    from.app_tlv_len = sizeof room;
    if (udp_expect(h, out + off, off == 2000 ? 500 : 1000, &ep, &from) != 0)
      return 1;
    if (room[0] != VCL_IP_PKTINFO || room[1] != (ep.is_ip4 ? 4u : 16u))
      return fail("where it was sent to", 0);
  }
  ep.app_tlvs = NULL;
  rc = vppcom_session_connect(h, &ep);
  if (rc != 0)
    return fail("connect", rc);
  int set = vppcom_epoll_create();
  struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 42};
  rc = vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, h, &ev);
  for (uint32_t n = 0; rc == 0 && n < sizeof out; n += 1499) {
    rc = vppcom_session_write(h, out, n) == (int)n ? 0 : fail("write", (int)n);
    if (rc == 0 && (vppcom_epoll_wait((uint32_t)set, &ev, 1, 5.0) != 1 || ev.data.u64 != 42))
      return fail("epoll", 0);
    if (rc == 0 && vppcom_session_attr(h, VPPCOM_ATTR_GET_NREAD, NULL, NULL) != (int)n)
      return fail("the next datagram's length", 0);
    rc = rc == 0 ? udp_expect(h, out, n, &ep, &from) : rc;
  }
  if (rc != 0)
    return fail("connected", rc);
  (void)vppcom_session_close((uint32_t)set);
  if (vppcom_session_close(h) != 0)
    return fail("close", 0);
  printf("equal\n");
  return 0;
}

int main(int argc, char **argv) {
  int rc = vppcom_app_create("native");
  if (rc < 0)
    return fail("app_create", rc);
  if (argc == 3 && strcmp(argv[1], "serve") == 0)
    rc = serve((uint16_t)strtoul(argv[2], NULL, 10));
  else if (argc == 6 && strcmp(argv[1], "talk") == 0)
    rc =
        talk(argv[2], (uint16_t)strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10), (int)strtol(argv[5], NULL, 10));
  else if (argc == 4 && strcmp(argv[1], "udp") == 0)
    rc = udp(argv[2], (uint16_t)strtoul(argv[3], NULL, 10));
  else
    rc = 2;
  vppcom_app_destroy();
  return rc;
}
