/*
 * Checks of bind, listen, accept, names, numbers, close.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void life_bind(void) {
  struct sockaddr_in a = conform.my_ip;
  socklen_t len = sizeof(a);
  int fd = subject_socket(0), other = subject_socket(0);
  say_rc("getpeername fresh", getpeername(fd, (struct sockaddr *)&a, &len));
  len = sizeof(a);
  say_rc("getsockname fresh", getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("fresh family", a.sin_family);
  say_num("fresh port", a.sin_port);
  a = conform.my_ip;
  say_rc("bind short", bind(fd, (struct sockaddr *)&a, 4));
  a.sin_family = AF_INET6;
  say_rc("bind wrong family", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  a = conform.my_ip;
  a.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, RFC 5737 */
  say_rc("bind to nobody's address", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  a = conform.my_ip;
  say_rc("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  say_rc("bind twice", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  len = sizeof(a);
  say_rc("getsockname bound", getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("bound to a port", a.sin_port != 0);
  say_num("bound to the address", a.sin_addr.s_addr == conform.my_ip.sin_addr.s_addr);
  say_num("name length", (long)len);
  len = 4;
  struct sockaddr_in cut;
  memset(&cut, 0xee, sizeof(cut));
  say_rc("getsockname into 4 bytes", getsockname(fd, (struct sockaddr *)&cut, &len));
  say_num("full length told", (long)len);
  say_num("rest untouched", cut.sin_addr.s_addr == 0xeeeeeeee);
  say_rc("accept without listen", accept(fd, NULL, NULL));
  say_rc("listen", listen(fd, 4));
  say_rc("listen again", listen(fd, 8));
  say_rc("bind where another listens", bind(other, (struct sockaddr *)&a, sizeof(a)));
  int on = 0;
  len = sizeof(on);
  getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len);
  say_num("ACCEPTCONN listening", on);
  say_rc("connect a listener", connect(fd, (struct sockaddr *)&a, sizeof(a)));
  char c;
  say_rc("recv on a listener", recv(fd, &c, 1, 0));
  say_rc("send on a listener", send(fd, "x", 1, MSG_NOSIGNAL));
  close(other);
  say_rc("close", close(fd));
  say_rc("close twice", close(fd));
  other = subject_socket(0);
  say_rc("listen unbound", listen(other, 4));
  len = sizeof(a);
  getsockname(other, (struct sockaddr *)&a, &len);
  say_num("listen unbound has a port", a.sin_port != 0);
  close(other);
}

static void life_accept(void) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  uint16_t port;
  int listener = subject_listener(&port);
  fcntl(listener, F_SETFL, O_NONBLOCK);
  say_rc("accept with nobody there", accept(listener, NULL, NULL));
  say_bits("listener idle", (unsigned)subject_poll(listener, POLLIN | POLLOUT, 0));
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  say_bits("listener with a connection", (unsigned)subject_poll(listener, POLLIN | POLLOUT, 20000));
  int fd = accept(listener, (struct sockaddr *)&a, &len);
  say_num("accepted", fd >= 0);
  say_num("accepted from the peer", a.sin_addr.s_addr == conform.peer_ip.sin_addr.s_addr && a.sin_port != 0);
  say_num("O_NONBLOCK inherited", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  say_num("CLOEXEC inherited", fcntl(fd, F_GETFD));
  len = sizeof(a);
  say_rc("getsockname accepted", getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("accepted on the listener's port", a.sin_port == port);
  struct sockaddr_in b;
  len = sizeof(b);
  say_rc("getpeername accepted", getpeername(fd, (struct sockaddr *)&b, &len));
  close(fd);
  need(peer_do(PEER_RECV_EOF, 0) == 0, "peer sees the end");
  need(peer_do(PEER_CONNECT, ntohs(port)) == 0, "peer connects");
  subject_poll(listener, POLLIN, 20000);
  fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  say_num("accept4 O_NONBLOCK", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  say_num("accept4 CLOEXEC", fcntl(fd, F_GETFD));
  say_rc("accept4 unknown flag", accept4(listener, NULL, NULL, 1));
  close(fd);
  close(listener);
  peer_do(PEER_CLOSE, 0);
}

static void life_numbers(void) {
  int fd = subject_connected();
  struct stat st;
  say_rc("fstat", fstat(fd, &st));
  say_num("is a socket", S_ISSOCK(st.st_mode));
  say_rc("lseek", lseek(fd, 0, SEEK_CUR));
  say_num("F_GETFL", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  say_rc("F_SETFL", fcntl(fd, F_SETFL, O_NONBLOCK));
  int copy = dup(fd);
  say_num("dup shares O_NONBLOCK", (fcntl(copy, F_GETFL) & O_NONBLOCK) != 0);
  say_rc("F_SETFD", fcntl(fd, F_SETFD, FD_CLOEXEC));
  say_num("F_GETFD", fcntl(fd, F_GETFD));
  say_num("dup has its own F_GETFD", fcntl(copy, F_GETFD));
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 200);
  say_num("F_DUPFD at least 200", high >= 200);
  say_num("F_DUPFD_CLOEXEC", fcntl(high, F_GETFD));
  int target = open("/dev/null", O_RDONLY);
  say_num("dup2 over a file", dup2(fd, target) == target);
  say_rc("dup2 onto itself", dup2(fd, fd) - fd);
  say_rc("dup3 onto itself", dup3(fd, fd, 0));
  int off = 0;
  say_rc("FIONBIO", ioctl(copy, FIONBIO, &off));
  say_num("FIONBIO seen by all", fcntl(target, F_GETFL) & O_NONBLOCK);
  close(fd);
  close(high);
  say_rc("send by a copy", send(copy, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  int null = open("/dev/null", O_RDONLY);
  say_num("dup2 of a file over a socket", dup2(null, target) == target);
  char c;
  say_rc("it reads as the file", read(target, &c, 1));
  close(null);
  close(target);
  close(copy);
  say_num("peer sees the end after the last close", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
  say_rc("send on a closed number", send(copy, "x", 1, MSG_NOSIGNAL));
  say_rc("isatty", isatty(subject_socket(0)) ? 1 : -1);
}

static void life_ranges(void) {
  int a = fcntl(subject_socket(0), F_DUPFD, 300), b = fcntl(a, F_DUPFD, 310);
  say_rc("close_range", close_range(300, 320, 0));
  say_rc("first is closed", fcntl(a, F_GETFD));
  say_rc("second is closed", fcntl(b, F_GETFD));
  int fd = subject_socket(SOCK_CLOEXEC | SOCK_NONBLOCK);
  say_num("SOCK_CLOEXEC", fcntl(fd, F_GETFD));
  say_num("SOCK_NONBLOCK", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  say_bits("poll of a fresh socket", (unsigned)subject_poll(fd, POLLIN | POLLOUT, 0));
  char c;
  say_rc("recv unconnected", recv(fd, &c, 1, 0));
  say_rc("send unconnected", send(fd, "x", 1, MSG_NOSIGNAL));
  say_rc("shutdown unconnected", shutdown(fd, SHUT_RDWR));
  say_rc("shutdown bad how", shutdown(fd, 7));
  close(fd);
  say_rc("socket of an unknown type", socket(AF_INET, 77, 0));
  say_rc("udp socket", socket(AF_INET, SOCK_DGRAM, 0) >= 0 ? 0 : -1);
}

void check_life(void) {
  life_bind();
  life_accept();
  life_numbers();
  life_ranges();
}
