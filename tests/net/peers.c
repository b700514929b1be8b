/*
 * A server of datagrams in VCL's way, for tests/net/test_net_peers.py and test_net_proxy_udp.py: one session per peer,
 * from accept, in one event loop. Single thread.
 *
 * peers PORT listen|set-connected|second   answers each datagram on its peer's session with "N TEXT", the N-th of that
 * session; "where" is answered with that session's own address and port, and those that it was meant for; "bye" closes
 * the session instead; prints "accepted ADDRESS PORT" and "closed N". second: behind a socket at PORT + 1 that is bound
 * and never read
 */
#include "vppcom.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEERS_MAX 1024

static uint32_t count_of[PEERS_MAX]; /* by session index: datagrams that came */

static int fail(const char *what, int rc) {
  fprintf(stderr, "peers: %s: %s\n", what, vppcom_retval_str(rc));
  return 1;
}

static int accept_all(uint32_t l, uint32_t set) {
  uint8_t ip[16];
  char text[64];
  vppcom_endpt_t ep = {.ip = ip};
  int h;
  while ((h = vppcom_session_accept(l, &ep, O_NONBLOCK)) >= 0) {
    int index = vppcom_session_index((uint32_t)h);
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint32_t)h};
    if (index >= PEERS_MAX || vppcom_epoll_ctl(set, EPOLL_CTL_ADD, (uint32_t)h, &ev) < 0)
      return fail("a session that cannot be watched", index);
    count_of[index] = 0;
    printf("accepted %s %u\n", inet_ntop(ep.is_ip4 ? AF_INET : AF_INET6, ip, text, sizeof text), ntohs(ep.port));
    fflush(stdout);
  }
  return h == VPPCOM_EAGAIN ? 0 : fail("accept", h);
}

/** Which ends an attribute tells. */
static const char *end_of(uint32_t h, uint32_t op, char *text, size_t room) {
  uint8_t ip[16];
  char name[64];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t len = sizeof ep;
  int rc = vppcom_session_attr(h, op, &ep, &len);
  if (rc < 0)
    snprintf(text, room, "%s", vppcom_retval_str(rc));
  else
    snprintf(text, room, "%s %u", inet_ntop(ep.is_ip4 ? AF_INET : AF_INET6, ip, name, sizeof name), ntohs(ep.port));
  return text;
}

/** Everything that one peer has sent. */
static int serve_one(uint32_t h) {
  char in[2000], out[2048];
  uint32_t *count = &count_of[vppcom_session_index(h)];
  int n;
  while ((n = vppcom_session_read(h, in, sizeof in - 1)) >= 0) {
    in[n] = 0;
    ++*count;
    if (strcmp(in, "bye") == 0)
      break;
    char own[96], meant[96];
    int len = strcmp(in, "where") != 0
                  ? snprintf(out, sizeof out, "%u %s", *count, in)
                  : snprintf(out, sizeof out, "%s %s", end_of(h, VPPCOM_ATTR_GET_LCL_ADDR, own, sizeof own),
                             end_of(h, VPPCOM_ATTR_GET_ORIGINAL_DST, meant, sizeof meant));
    int rc = vppcom_session_write(h, out, (size_t)len);
    if (rc != len)
      return fail("write", rc);
  }
  if (n == VPPCOM_EAGAIN)
    return 0;
  if (n < 0 && n != VPPCOM_ECONNREFUSED) /* a peer that is gone says so by ICMP */
    return fail("read", n);
  printf("closed %u\n", *count);
  fflush(stdout);
  return vppcom_session_close(h);
}

static int bind_only(uint16_t port) {
  uint8_t any[16] = {0};
  vppcom_endpt_t ep = {.is_ip4 = 0, .ip = any, .port = htons(port)};
  return vppcom_session_bind((uint32_t)vppcom_session_create(VPPCOM_PROTO_UDP, 1), &ep);
}

static int serve(uint16_t port, const char *how) {
  uint8_t any[16] = {0};
  int listens = strcmp(how, "set-connected") != 0;
  vppcom_endpt_t ep = {.is_ip4 = 0, .ip = any, .port = htons(port)};
  struct epoll_event ev[64] = {{.events = EPOLLIN, .data.u64 = UINT64_MAX}};
  uint32_t l = (uint32_t)vppcom_session_create(VPPCOM_PROTO_UDP, 1), set = (uint32_t)vppcom_epoll_create();
  int rc = listens ? 0 : vppcom_session_attr(l, VPPCOM_ATTR_SET_CONNECTED, NULL, NULL);
  if (rc == 0 && strcmp(how, "second") == 0)
    rc = bind_only((uint16_t)(port + 1));
  if (rc == 0)
    rc = vppcom_session_bind(l, &ep);
  if (rc == 0 && listens)
    rc = vppcom_session_listen(l, 10);
  if (rc == 0)
    rc = vppcom_epoll_ctl(set, EPOLL_CTL_ADD, l, &ev[0]);
  if (rc < 0)
    return fail("listen", rc);
  printf("up\n");
  fflush(stdout);
  while (rc == 0) {
    int n = vppcom_epoll_wait(set, ev, 64, -1);
    for (int i = 0; i < n && rc == 0; i++)
      rc = ev[i].data.u64 == UINT64_MAX ? accept_all(l, set) : serve_one((uint32_t)ev[i].data.u64);
  }
  return 1;
}

int main(int argc, char **argv) {
  int rc = vppcom_app_create("peers");
  if (rc < 0)
    return fail("app_create", rc);
  rc = argc == 3 ? serve((uint16_t)strtoul(argv[1], NULL, 10), argv[2]) : 2;
  vppcom_app_destroy();
  return rc;
}
