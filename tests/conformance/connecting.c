/*
 * Checks of connect: refused, in progress, twice, again, with time-outs.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int connecting_error(int fd) {
  int err = -1;
  socklen_t len = sizeof(err);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
  return err;
}

/* A port of the peer where nobody listens: one that was just given up. */
static struct sockaddr_in connecting_nobody(void) {
  struct sockaddr_in a = conform.peer_ip;
  int64_t port = peer_do(PEER_LISTEN, 1);
  need(port > 0, "peer listens");
  peer_do(PEER_UNLISTEN, 0);
  a.sin_port = htons((uint16_t)port);
  return a;
}

static struct sockaddr_in connecting_somebody(void) {
  struct sockaddr_in a = conform.peer_ip;
  int64_t port = peer_do(PEER_LISTEN, 8);
  need(port > 0, "peer listens");
  a.sin_port = htons((uint16_t)port);
  return a;
}

static void connecting_blocking(void) {
  struct sockaddr_in nobody = connecting_nobody(), me;
  socklen_t len = sizeof(me);
  int fd = subject_socket(0);
  say_rc("connect short", connect(fd, (struct sockaddr *)&nobody, 3));
  say_rc("connect refused", connect(fd, (struct sockaddr *)&nobody, sizeof(nobody)));
  say_num("ERROR after it was told", connecting_error(fd));
  struct sockaddr_in to = connecting_somebody();
  say_rc("connect again on the same socket", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  say_rc("connect when connected", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  say_rc("bind when connected", bind(fd, (struct sockaddr *)&conform.my_ip, sizeof(conform.my_ip)));
  say_rc("listen when connected", listen(fd, 1));
  say_rc("getsockname connected", getsockname(fd, (struct sockaddr *)&me, &len));
  say_num("own address and a port", me.sin_addr.s_addr == conform.my_ip.sin_addr.s_addr && me.sin_port != 0);
  len = sizeof(me);
  say_rc("getpeername connected", getpeername(fd, (struct sockaddr *)&me, &len));
  say_num("the peer's address and port", me.sin_addr.s_addr == to.sin_addr.s_addr && me.sin_port == to.sin_port);
  close(fd);
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

static void connecting_nonblocking(void) {
  struct sockaddr_in nobody = connecting_nobody();
  int fd = subject_socket(SOCK_NONBLOCK);
  int rc = connect(fd, (struct sockaddr *)&nobody, sizeof(nobody));
  say_num("non-blocking connect in progress or refused", rc < 0 && (errno == EINPROGRESS || errno == ECONNREFUSED));
  say_bits("poll after refusal", (unsigned)subject_poll(fd, POLLOUT, 20000) & (POLLOUT | POLLERR | POLLHUP));
  say_num("ERROR refused", connecting_error(fd));
  say_num("ERROR again", connecting_error(fd));
  char c;
  say_rc("recv after refusal", recv(fd, &c, 1, 0));
  close(fd);
  struct sockaddr_in to = connecting_somebody();
  fd = subject_socket(SOCK_NONBLOCK);
  rc = connect(fd, (struct sockaddr *)&to, sizeof(to));
  say_rc("non-blocking connect", rc);
  say_bits("poll after connect", (unsigned)subject_poll(fd, POLLOUT, 20000));
  say_num("ERROR connected", connecting_error(fd));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  say_rc("recv with nothing there", recv(fd, &c, 1, 0));
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&to, &(socklen_t){sizeof(to)}));
  say_rc("send", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void connecting_twice(void) {
  struct sockaddr_in to = connecting_somebody();
  int fd = subject_socket(SOCK_NONBLOCK);
  say_rc("connect, first", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  subject_poll(fd, POLLOUT, 20000);
  say_rc("connect, second", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  say_rc("connect, third", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void connecting_bound(void) {
  struct sockaddr_in to = connecting_somebody(), me = conform.my_ip, got;
  socklen_t len = sizeof(me);
  int fd = subject_socket(0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  say_rc("bind before connect", bind(fd, (struct sockaddr *)&me, sizeof(me)));
  getsockname(fd, (struct sockaddr *)&me, &len);
  say_rc("connect bound", connect(fd, (struct sockaddr *)&to, sizeof(to)));
  need(peer_do(PEER_ACCEPT, 0) == 0, "peer accepts");
  len = sizeof(got);
  getsockname(fd, (struct sockaddr *)&got, &len);
  say_num("the port is the bound one", got.sin_port == me.sin_port);
  int other = subject_socket(0);
  setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  say_rc("bind to the same port", bind(other, (struct sockaddr *)&me, sizeof(me)));
  say_rc("connect where the first is connected", connect(other, (struct sockaddr *)&to, sizeof(to)));
  close(other);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

/* The stream socket that goes to loopback is the kernel's in both runs, and keeps its number and options. */
static void connecting_loopback(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof(a);
  int listener = subject_socket(0), fd = subject_socket(0), value = 0;
  say_rc("bind loopback", bind(listener, (struct sockaddr *)&a, sizeof(a)));
  say_rc("listen loopback", listen(listener, 4));
  getsockname(listener, (struct sockaddr *)&a, &len);
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
  fcntl(fd, F_SETFL, O_NONBLOCK);
  int rc = connect(fd, (struct sockaddr *)&a, sizeof(a));
  say_num("connect loopback", rc == 0 || errno == EINPROGRESS);
  int got = accept(listener, NULL, NULL);
  say_num("accept loopback", got >= 0);
  len = sizeof(value);
  getsockopt(fd, IPPROTO_TCP, 1, &value, &len);
  say_num("option kept", value);
  say_num("O_NONBLOCK kept", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  say_rc("send over loopback", send(fd, "hi", 2, 0));
  char buf[4];
  say_rc("recv over loopback", recv(got, buf, sizeof(buf), 0));
  close(fd);
  close(got);
  close(listener);
}

void check_connect(void) {
  connecting_blocking();
  connecting_nonblocking();
  connecting_twice();
  connecting_bound();
  connecting_loopback();
}
