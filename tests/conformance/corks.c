/*
 * Datagrams put together by several calls: MSG_MORE and UDP_CORK, udp(7); and the ways to treat the path's MTU, ip(7).
 */
#include "conform.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int corks_connected(void) {
  struct sockaddr_in to = conform.peer_ip;
  int64_t port = peer_do(PEER_UDP, 0);
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  need(port > 0 && fd >= 0, "sockets of datagrams");
  to.sin_port = htons((uint16_t)port);
  need(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0, "connect");
  return fd;
}

static void corks_back(int fd) {
  char buf[64] = "";
  say_num("peer got a datagram of", peer_do(PEER_UDP_ECHO, 1));
  say_rc("it comes back", recv(fd, buf, sizeof(buf) - 1, 0));
  printf("and says: %s\n", buf);
}

static void corks_more(void) {
  int fd = corks_connected();
  struct iovec v[2] = {{"de", 2}, {"f", 1}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
  say_rc("send with MSG_MORE", send(fd, "abc", 3, MSG_MORE));
  say_rc("sendmsg with MSG_MORE", sendmsg(fd, &m, MSG_MORE));
  say_rc("send", send(fd, "gh", 2, 0));
  corks_back(fd);
  say_rc("write", write(fd, "one", 3));
  corks_back(fd);
  close(fd);
}

static void corks_cork(void) {
  static char big[65000];
  int fd = corks_connected(), on = 1, off = 0, got = -1;
  socklen_t len = sizeof(got);
  say_rc("UDP_CORK", setsockopt(fd, IPPROTO_UDP, UDP_CORK, &on, sizeof(on)));
  say_rc("UDP_CORK get", getsockopt(fd, IPPROTO_UDP, UDP_CORK, &got, &len));
  say_num("is", got);
  say_rc("send", send(fd, "ab", 2, 0));
  say_rc("send", send(fd, "cd", 2, 0));
  say_rc("UDP_CORK off", setsockopt(fd, IPPROTO_UDP, UDP_CORK, &off, sizeof(off)));
  corks_back(fd);
  say_rc("send of 65000 with MSG_MORE", send(fd, big, sizeof(big), MSG_MORE));
  say_rc("send of 65000 more", send(fd, big, sizeof(big), 0));
  say_rc("send, and all of that is gone", send(fd, "x", 1, 0));
  corks_back(fd);
  close(fd);
}

static void corks_nowhere(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  say_rc("MSG_MORE without a destination", send(fd, "x", 1, MSG_MORE));
  close(fd);
}

static void corks_discover(int domain, int level, int name) {
  int fd = socket(domain, SOCK_DGRAM, 0);
  for (int v = -1; v < 7; v++) {
    int got = -1;
    socklen_t len = sizeof(got);
    say_rc("MTU_DISCOVER", setsockopt(fd, level, name, &v, sizeof(v)));
    (void)getsockopt(fd, level, name, &got, &len);
    say_num("is", got);
  }
  close(fd);
}

void check_corks(void) {
  corks_more();
  corks_cork();
  corks_nowhere();
  corks_discover(AF_INET, IPPROTO_IP, IP_MTU_DISCOVER);
  corks_discover(AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER);
}
