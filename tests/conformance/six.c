/*
 * Checks of AF_INET6 sockets: IPv6 itself, IPv4 through them, names, V6ONLY.
 */
#include "conform.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static int six_socket(void) {
  int fd = socket(AF_INET6, SOCK_STREAM, 0);
  need(fd >= 0, "socket");
  return fd;
}

static void six_name(const char *what, const struct sockaddr_in6 *a, const struct sockaddr_in6 *want) {
  say_num(what, a->sin6_family == AF_INET6 && memcmp(&a->sin6_addr, &want->sin6_addr, 16) == 0);
}

static struct sockaddr_in6 six_mapped(const struct sockaddr_in *a) {
  struct sockaddr_in6 m = {.sin6_family = AF_INET6, .sin6_port = a->sin_port};
  m.sin6_addr.s6_addr[10] = m.sin6_addr.s6_addr[11] = 0xff;
  memcpy(&m.sin6_addr.s6_addr[12], &a->sin_addr, 4);
  return m;
}

static void six_connect(void) {
  struct sockaddr_in6 to = conform.peer_ip6, a;
  socklen_t len = sizeof(a);
  int fd = six_socket();
  say_rc("getsockname fresh", getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("length", (long)len);
  six_name("any address", &a, &(struct sockaddr_in6){0});
  int64_t port = peer_do(PEER_LISTEN6, 4);
  need(port > 0, "peer listens");
  to.sin6_port = htons((uint16_t)port);
  say_rc("connect with an AF_INET address", connect(fd, (struct sockaddr *)&conform.peer_ip, sizeof(conform.peer_ip)));
  say_rc("connect too short", connect(fd, (struct sockaddr *)&to, 20));
  say_rc("connect", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  len = sizeof(a);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  six_name("the peer", &a, &to);
  len = sizeof(a);
  say_rc("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
  six_name("ourselves", &a, &conform.my_ip6);
  say_rc("send", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  int value = 0;
  len = sizeof(value);
  getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len);
  say_num("SO_DOMAIN", value);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void six_connect_mapped(void) {
  int64_t port = peer_do(PEER_LISTEN, 4);
  need(port > 0, "peer listens");
  struct sockaddr_in6 to = six_mapped(&conform.peer_ip), me = six_mapped(&conform.my_ip), a;
  to.sin6_port = htons((uint16_t)port);
  socklen_t len = sizeof(a);
  int fd = six_socket();
  say_rc("connect to a mapped address", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  say_rc("getpeername mapped", getpeername(fd, (struct sockaddr *)&a, &len));
  six_name("the peer, mapped", &a, &to);
  len = sizeof(a);
  say_rc("getsockname mapped", getsockname(fd, (struct sockaddr *)&a, &len));
  six_name("ourselves, mapped", &a, &me);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void six_listen(void) {
  struct sockaddr_in6 any = {.sin6_family = AF_INET6}, a, from = six_mapped(&conform.peer_ip);
  socklen_t len = sizeof(a);
  int listener = six_socket(), on = 1, value = -1;
  say_rc("bind AF_INET", bind(listener, (struct sockaddr *)&conform.my_ip, sizeof(conform.my_ip)));
  say_rc("bind ::", bind(listener, (struct sockaddr *)&any, sizeof(any)));
  say_rc("V6ONLY after bind", setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
  say_rc("listen", listen(listener, 4));
  arm_listener(listener);
  getsockname(listener, (struct sockaddr *)&a, &len);
  uint16_t port = a.sin6_port;
  need(peer_do(PEER_CONNECT6, ntohs(port)) == 0, "peer connects over IPv6");
  len = sizeof(a);
  int fd = accept(listener, (struct sockaddr *)&a, &len);
  say_num("accepted over IPv6", fd >= 0);
  six_name("from the peer", &a, &conform.peer_ip6);
  close(fd);
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects over IPv4");
  len = sizeof(a);
  fd = accept(listener, (struct sockaddr *)&a, &len);
  say_num("accepted over IPv4", fd >= 0);
  six_name("from the peer, mapped", &a, &from);
  len = sizeof(value);
  say_rc("get V6ONLY", getsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len));
  say_num("V6ONLY", value);
  close(fd);
  close(listener);
  peer_do(PEER_CLOSE, 0);
  listener = six_socket();
  say_rc("set V6ONLY", setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
  say_rc("bind :: V6ONLY", bind(listener, (struct sockaddr *)&any, sizeof(any)));
  say_rc("listen V6ONLY", listen(listener, 4));
  arm_listener(listener);
  len = sizeof(a);
  getsockname(listener, (struct sockaddr *)&a, &len);
  say_num("IPv4 is refused", peer_do(PEER_CONNECT, ntohs(a.sin6_port)) == -ECONNREFUSED);
  say_num("IPv6 is taken", peer_do(PEER_CONNECT6, ntohs(a.sin6_port)));
  /* An IPv4 listener on the same port beside the IPv6-only one. */
  struct sockaddr_in four = conform.my_ip;
  four.sin_port = a.sin6_port;
  int beside = subject_socket(0);
  say_rc("bind IPv4 beside it", bind(beside, (struct sockaddr *)&four, sizeof(four)));
  close(beside);
  close(listener);
  peer_do(PEER_CLOSE, 0);
}

static void six_options(void) {
  int fd = six_socket(), value = 0;
  static const struct {
    const char *what;
    int name, value;
  } rows[] = {{"TCLASS", IPV6_TCLASS, 0x20},
              {"TCLASS bad", IPV6_TCLASS, 256},
              {"UNICAST_HOPS", IPV6_UNICAST_HOPS, 9},
              {"UNICAST_HOPS bad", IPV6_UNICAST_HOPS, 256},
              {"V6ONLY", IPV6_V6ONLY, 1},
              {"unknown", 9999, 1}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
    socklen_t len = sizeof(value);
    value = -7;
    say_rc(rows[i].what, setsockopt(fd, IPPROTO_IPV6, rows[i].name, &rows[i].value, sizeof(int)));
    if (getsockopt(fd, IPPROTO_IPV6, rows[i].name, &value, &len) < 0)
      say_rc("  read back", -1);
    else
      say_num("  read back", value);
  }
  close(fd);
}

void check_six(void) {
  six_options();
  six_connect();
  six_connect_mapped();
  six_listen();
}
