/*
 * Checks of urgent data: MSG_OOB both ways, the mark, SO_OOBINLINE, and what poll, select and epoll say of it.
 */
#include "conform.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static long urgent_ioctl(int fd, unsigned long req) {
  int n = -1;
  return ioctl(fd, req, &n) < 0 ? -errno : n;
}

/* Bounded: until that many bytes can be read before the mark. */
static void urgent_until(int fd, long n) {
  for (int i = 0; i < 500 && urgent_ioctl(fd, FIONREAD) < n; i++)
    poll(NULL, 0, 10);
}

static void urgent_wait(int fd) {
  need(subject_poll(fd, POLLPRI, 20000) != 0, "an urgent byte comes");
}

static void urgent_apart(void) {
  int fd = subject_connected();
  uint8_t buf[64];
  struct iovec iov = {buf, sizeof(buf)};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  say_rc("OOB before there is any", recv(fd, buf, 1, MSG_OOB));
  need(peer_do(PEER_SEND, 3) == 3 && peer_do(PEER_SEND_OOB, 2) == 2, "peer sends");
  urgent_wait(fd);
  say_bits("poll", (unsigned)subject_poll(fd, POLLIN | POLLPRI | POLLOUT, 0));
  say_bits("poll for PRI alone", (unsigned)subject_poll(fd, POLLPRI, 0));
  say_num("bytes before the mark", urgent_ioctl(fd, FIONREAD));
  say_num("at the mark", urgent_ioctl(fd, SIOCATMARK));
  say_rc("OOB PEEK", recv(fd, buf, 8, MSG_OOB | MSG_PEEK));
  say_num("its byte", buf[0] == peer_pattern(4));
  say_rc("OOB of 0 bytes, PEEK", recv(fd, buf, 0, MSG_OOB | MSG_PEEK));
  say_rc("PEEK stops at the mark", recv(fd, buf, 64, MSG_PEEK));
  say_rc("read stops at the mark", recv(fd, buf, 64, 0));
  say_num("at the mark then", urgent_ioctl(fd, SIOCATMARK));
  say_num("bytes at the mark", urgent_ioctl(fd, FIONREAD));
  say_bits("poll at the mark", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  say_rc("OOB by recvmsg", recvmsg(fd, &m, MSG_OOB));
  say_bits("its flags", (unsigned)m.msg_flags);
  say_num("its byte", buf[0] == peer_pattern(4));
  say_rc("OOB again", recv(fd, buf, 1, MSG_OOB));
  say_bits("poll when it was read", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  say_num("still at the mark", urgent_ioctl(fd, SIOCATMARK));
  need(peer_do(PEER_SEND, 3) == 3, "peer sends");
  say_bits("poll with more behind it", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 20000));
  say_rc("read behind the mark", recv(fd, buf, 3, MSG_WAITALL));
  say_num("the urgent byte is left out", buf[0] == peer_pattern(5));
  say_num("no mark any more", urgent_ioctl(fd, SIOCATMARK));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void urgent_unread(void) {
  int fd = subject_connected();
  uint8_t buf[64];
  need(peer_do(PEER_SEND_OOB, 1) == 1, "peer sends");
  urgent_wait(fd);
  say_num("at the mark at once", urgent_ioctl(fd, SIOCATMARK));
  say_bits("poll with nothing else", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  say_rc("read over it", recv(fd, buf, 8, MSG_DONTWAIT));
  say_rc("OOB when it was read over", recv(fd, buf, 1, MSG_OOB));
  say_bits("poll then", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  need(peer_do(PEER_SEND, 2) == 2 && peer_do(PEER_SEND_OOB, 1) == 1, "peer sends");
  urgent_wait(fd);
  say_rc("read up to the next", recv(fd, buf, 8, MSG_WAITALL));
  need(peer_do(PEER_SEND, 2) == 2 && peer_do(PEER_SEND_OOB, 1) == 1, "peer sends");
  urgent_until(fd, 2);
  say_num("one that was not read is gone when another comes", urgent_ioctl(fd, FIONREAD));
  say_rc("read again", recv(fd, buf, 8, 0));
  say_num("first byte", buf[0] == peer_pattern(4));
  say_rc("OOB of the last", recv(fd, buf, 1, MSG_OOB));
  say_num("its byte", buf[0] == peer_pattern(6));
  need(peer_do(PEER_SHUT_WR, 0) == 0, "peer ends");
  say_bits("poll at the end", (unsigned)subject_poll(fd, POLLIN | POLLPRI | POLLRDHUP, 20000));
  say_rc("OOB at the end", recv(fd, buf, 1, MSG_OOB));
  say_rc("read at the end", recv(fd, buf, 8, 0));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void urgent_inline(void) {
  int fd = subject_connected(), one = 1;
  uint8_t buf[64];
  say_rc("OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)));
  need(peer_do(PEER_SEND, 2) == 2 && peer_do(PEER_SEND_OOB, 2) == 2, "peer sends");
  urgent_wait(fd);
  say_num("bytes, in line", urgent_ioctl(fd, FIONREAD));
  say_rc("OOB, in line", recv(fd, buf, 1, MSG_OOB));
  say_rc("read up to the mark", recv(fd, buf, 64, 0));
  say_num("at the mark", urgent_ioctl(fd, SIOCATMARK));
  say_bits("poll at the mark", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  say_rc("read the urgent byte", recv(fd, buf, 64, 0));
  say_num("it is the one", buf[0] == peer_pattern(3));
  say_num("behind it", urgent_ioctl(fd, SIOCATMARK));
  say_bits("poll behind it", (unsigned)subject_poll(fd, POLLIN | POLLPRI, 0));
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void urgent_vectors(void) {
  int fd = subject_connected(), e = epoll_create1(0);
  uint8_t a[2], b[64];
  struct iovec iov[2] = {{a, 2}, {b, 62}};
  struct epoll_event ev = {.events = EPOLLPRI | EPOLLET};
  need(e >= 0 && epoll_ctl(e, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll");
  need(peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_bits("data", (unsigned)subject_poll(fd, POLLIN, 20000));
  say_rc("epoll for PRI", epoll_wait(e, &ev, 1, 0));
  need(peer_do(PEER_SEND_OOB, 1) == 1 && peer_do(PEER_SEND, 4) == 4, "peer sends");
  say_rc("epoll for PRI, urgent", epoll_wait(e, &ev, 1, 20000));
  say_bits("its events", ev.events);
  say_rc("readv stops at the mark", readv(fd, iov, 2));
  fd_set x;
  FD_ZERO(&x);
  FD_SET(fd, &x);
  struct timeval tv = {5, 0};
  say_rc("select for exceptions", select(fd + 1, NULL, NULL, &x, &tv));
  say_num("it is one", FD_ISSET(fd, &x) != 0);
  say_rc("readv behind it, all", recv(fd, b, 4, MSG_WAITALL));
  tv = (struct timeval){0, 0};
  FD_SET(fd, &x);
  say_rc("select for exceptions then", select(fd + 1, NULL, NULL, &x, &tv));
  close(e);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

static void urgent_send(void) {
  int fd = subject_connected();
  uint8_t buf[64];
  for (size_t i = 0; i < sizeof(buf); i++)
    buf[i] = peer_pattern(i);
  say_rc("send OOB of 0 bytes", send(fd, buf, 0, MSG_OOB));
  say_rc("send 5", send(fd, buf, 5, 0));
  say_rc("send OOB 3", send(fd, buf + 5, 3, MSG_OOB));
  say_rc("send 4 behind", send(fd, buf + 8, 4, 0));
  say_num("peer: the byte", peer_do(PEER_URGENT, 0) == peer_pattern(7));
  say_num("peer: bytes before it", peer_do(PEER_TO_MARK, 0));
  say_num("peer: bytes behind it", peer_do(PEER_RECV, 4));
  struct iovec iov[3] = {{buf + 12, 2}, {buf + 14, 1}, {buf + 15, 0}};
  struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};
  say_rc("sendmsg OOB", sendmsg(fd, &m, MSG_OOB));
  say_num("peer: the byte", peer_do(PEER_URGENT, 0) == peer_pattern(14));
  say_num("peer: bytes before it", peer_do(PEER_TO_MARK, 0));
  say_rc("send OOB 1", send(fd, buf + 15, 1, MSG_OOB));
  say_num("peer: the byte, at once", peer_do(PEER_URGENT, 0) == (0x100 | peer_pattern(15)));
  shutdown(fd, SHUT_WR);
  say_rc("send OOB after shutdown", send(fd, buf, 1, MSG_OOB | MSG_NOSIGNAL));
  close(fd);
  peer_do(PEER_CLOSE, 0);
  fd = subject_socket(0);
  say_rc("recv OOB, unconnected", recv(fd, buf, 1, MSG_OOB));
  say_rc("send OOB, unconnected", send(fd, buf, 1, MSG_OOB | MSG_NOSIGNAL));
  say_num("SIOCATMARK, unconnected", urgent_ioctl(fd, SIOCATMARK));
  close(fd);
}

void check_urgent(void) {
  urgent_apart();
  urgent_unread();
  urgent_inline();
  urgent_vectors();
  urgent_send();
}
