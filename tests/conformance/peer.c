/*
 * The peer of the conformance run: does one step per command, on kernel sockets, and answers (conform.h).
 */
#include "conform.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

static int peer_listener = -1;
static int peer_conn = -1;
static size_t peer_sent, peer_got;

static void peer_drop(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

static void peer_fresh(int fd) {
  struct timeval tv = {10, 0};
  peer_drop(&peer_conn);
  peer_conn = fd;
  peer_sent = peer_got = 0;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static int64_t peer_listen(const void *own, socklen_t len, int backlog) {
  struct sockaddr_in6 got;
  struct sockaddr_in any;
  socklen_t got_len = sizeof(got);
  int family = ((const struct sockaddr *)own)->sa_family;
  struct timeval tv = {10, 0};
  peer_drop(&peer_listener);
  peer_listener = socket(family, SOCK_STREAM, 0);
  if (peer_listener < 0 || bind(peer_listener, own, len) < 0 || listen(peer_listener, backlog) < 0 ||
      getsockname(peer_listener, (struct sockaddr *)&got, &got_len) < 0)
    return -errno;
  setsockopt(peer_listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  arm_listener(peer_listener);
  memcpy(&any, &got, sizeof(any)); /* the port lies at the same place in both families */
  return ntohs(any.sin_port);
}

static int64_t peer_accept(void) {
  int fd = accept(peer_listener, NULL, NULL);
  if (fd < 0)
    return -errno;
  peer_fresh(fd);
  return 0;
}

static int64_t peer_connect(const void *to, socklen_t len, int64_t port) {
  union {
    struct sockaddr_in6 six;
    struct sockaddr_in four;
  } a = {0};
  memcpy(&a, to, len);
  a.four.sin_port = htons((uint16_t)port);
  int fd = socket(a.four.sin_family, SOCK_STREAM, 0);
  if (fd < 0)
    return -errno;
  peer_fresh(fd);
  return connect(fd, (struct sockaddr *)&a, len) < 0 ? -errno : 0;
}

static int64_t peer_send(int64_t n) {
  uint8_t buf[4096];
  int64_t done = 0;
  while (done < n) {
    size_t step = n - done < (int64_t)sizeof(buf) ? (size_t)(n - done) : sizeof(buf);
    for (size_t i = 0; i < step; i++)
      buf[i] = peer_pattern(peer_sent + i);
    ssize_t rc = send(peer_conn, buf, step, MSG_NOSIGNAL);
    if (rc < 0)
      return -errno;
    peer_sent += (size_t)rc;
    done += rc;
  }
  return done;
}

static int64_t peer_recv(int64_t n) {
  uint8_t buf[4096];
  int64_t done = 0;
  while (done < n) {
    size_t step = n - done < (int64_t)sizeof(buf) ? (size_t)(n - done) : sizeof(buf);
    ssize_t rc = recv(peer_conn, buf, step, 0);
    if (rc < 0)
      return -errno;
    if (rc == 0)
      break;
    for (ssize_t i = 0; i < rc; i++)
      if (buf[i] != peer_pattern(peer_got + (size_t)i))
        return -1;
    peer_got += (size_t)rc;
    done += rc;
  }
  return done;
}

static int64_t peer_recv_eof(void) {
  char c;
  ssize_t rc = recv(peer_conn, &c, 1, 0);
  return rc < 0 ? -errno : rc;
}

static int64_t peer_reset(void) {
  struct linger l = {1, 0};
  setsockopt(peer_conn, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
  peer_drop(&peer_conn);
  return 0;
}

static int64_t peer_send_oob(int64_t n) {
  uint8_t buf[64];
  if (n < 1 || n > (int64_t)sizeof(buf))
    return -EINVAL;
  for (size_t i = 0; i < (size_t)n; i++)
    buf[i] = peer_pattern(peer_sent + i);
  ssize_t rc = send(peer_conn, buf, (size_t)n, MSG_OOB | MSG_NOSIGNAL);
  if (rc < 0)
    return -errno;
  peer_sent += (size_t)rc;
  return rc;
}

static int64_t peer_urgent(void) {
  struct pollfd p = {.fd = peer_conn, .events = POLLPRI};
  uint8_t byte;
  int at = 0;
  if (poll(&p, 1, 20000) <= 0)
    return -ETIMEDOUT;
  ioctl(peer_conn, SIOCATMARK, &at);
  if (recv(peer_conn, &byte, 1, MSG_OOB) != 1)
    return -errno;
  return byte | (at ? 0x100 : 0);
}

static int64_t peer_to_mark(void) {
  uint8_t byte;
  int64_t n = 0;
  for (int at = 0; ioctl(peer_conn, SIOCATMARK, &at) == 0 && !at; n++) {
    ssize_t rc = recv(peer_conn, &byte, 1, 0);
    if (rc != 1 || byte != peer_pattern(peer_got))
      return rc == 1 ? -1 : -errno;
    peer_got++;
  }
  peer_got++; /* the urgent byte is left out of what is read next */
  return n;
}

static int peer_udp = -1;

static int64_t peer_udp_open(void) {
  struct sockaddr_in a = conform.peer_ip;
  struct timeval tv = {10, 0};
  socklen_t len = sizeof(a);
  peer_drop(&peer_udp);
  peer_udp = socket(AF_INET, SOCK_DGRAM, 0);
  if (peer_udp < 0 || bind(peer_udp, (struct sockaddr *)&a, sizeof(a)) < 0 ||
      getsockname(peer_udp, (struct sockaddr *)&a, &len) < 0)
    return -errno;
  setsockopt(peer_udp, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  return ntohs(a.sin_port);
}

static int64_t peer_udp_echo(int64_t n) {
  static char buf[65536];
  ssize_t got = 0;
  while (n-- > 0) {
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    got = recvfrom(peer_udp, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);
    if (got < 0 || sendto(peer_udp, buf, (size_t)got, 0, (struct sockaddr *)&from, len) != got)
      return -errno;
  }
  return got;
}

static int64_t peer_udp_send(int64_t arg) {
  struct sockaddr_in to = conform.my_ip;
  to.sin_port = htons((uint16_t)(arg & 0xffff));
  int64_t n = 0;
  for (; n < arg >> 16; n++) {
    char word = (char)('0' + n);
    if (sendto(peer_udp, &word, 1, 0, (struct sockaddr *)&to, sizeof(to)) != 1)
      return -errno;
  }
  return n;
}

static int64_t peer_udp_train(int64_t port) {
  struct sockaddr_in to = conform.my_ip;
  uint8_t buf[3500];
  int seg = 1000, none = 0;
  to.sin_port = htons((uint16_t)port);
  for (size_t i = 0; i < sizeof(buf); i++)
    buf[i] = peer_pattern(i);
  if (setsockopt(peer_udp, IPPROTO_UDP, UDP_SEGMENT, &seg, sizeof(seg)) < 0)
    return -errno;
  ssize_t rc = sendto(peer_udp, buf, sizeof(buf), 0, (struct sockaddr *)&to, sizeof(to));
  int err = errno;
  setsockopt(peer_udp, IPPROTO_UDP, UDP_SEGMENT, &none, sizeof(none));
  return rc < 0 ? -err : rc;
}

static int64_t peer_udp_recv(void) {
  uint8_t word;
  return recv(peer_udp, &word, 1, 0) == 1 ? word : -errno;
}

#define PEER_STORM_MAX 64
static int peer_storm[PEER_STORM_MAX], peer_storm_n;

static int64_t peer_storm_begin(int64_t arg) {
  struct sockaddr_in a = conform.my_ip;
  struct timeval tv = {10, 0};
  a.sin_port = htons((uint16_t)(arg & 0xffff));
  for (peer_storm_n = 0; peer_storm_n < (arg >> 16) && peer_storm_n < PEER_STORM_MAX; peer_storm_n++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint8_t word = (uint8_t)peer_storm_n;
    if (fd < 0)
      break;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || send(fd, &word, 1, MSG_NOSIGNAL) != 1) {
      close(fd);
      break;
    }
    peer_storm[peer_storm_n] = fd;
  }
  return peer_storm_n;
}

static int64_t peer_storm_end(void) {
  int64_t right = 0;
  for (int i = 0; i < peer_storm_n; i++) {
    uint8_t word = 0xff, more;
    right += recv(peer_storm[i], &word, 1, 0) == 1 && word == i && recv(peer_storm[i], &more, 1, 0) == 0;
    close(peer_storm[i]);
  }
  peer_storm_n = 0;
  return right;
}

static int64_t peer_step(const struct peer_msg *m) {
  switch (m->op) {
  case PEER_LISTEN:
    return peer_listen(&conform.peer_ip, sizeof(conform.peer_ip), (int)m->arg);
  case PEER_LISTEN6:
    return peer_listen(&conform.peer_ip6, sizeof(conform.peer_ip6), (int)m->arg);
  case PEER_ACCEPT:
    return peer_accept();
  case PEER_CONNECT:
    return peer_connect(&conform.my_ip, sizeof(conform.my_ip), m->arg);
  case PEER_CONNECT6:
    return peer_connect(&conform.my_ip6, sizeof(conform.my_ip6), m->arg);
  case PEER_SEND:
    return peer_send(m->arg);
  case PEER_RECV:
    return peer_recv(m->arg);
  case PEER_RECV_EOF:
    return peer_recv_eof();
  case PEER_SHUT_WR:
    return shutdown(peer_conn, SHUT_WR) < 0 ? -errno : 0;
  case PEER_CLOSE:
    peer_drop(&peer_conn);
    return 0;
  case PEER_RESET:
    return peer_reset();
  case PEER_UNLISTEN:
    peer_drop(&peer_listener);
    return 0;
  case PEER_SEND_OOB:
    return peer_send_oob(m->arg);
  case PEER_URGENT:
    return peer_urgent();
  case PEER_TO_MARK:
    return peer_to_mark();
  case PEER_UDP:
    return peer_udp_open();
  case PEER_UDP_ECHO:
    return peer_udp_echo(m->arg);
  case PEER_UDP_SEND:
    return peer_udp_send(m->arg);
  case PEER_UDP_TRAIN:
    return peer_udp_train(m->arg);
  case PEER_UDP_RECV:
    return peer_udp_recv();
  case PEER_STORM:
    return peer_storm_begin(m->arg);
  case PEER_STORM_OVER:
    return peer_storm_end();
  default:
    return -EINVAL;
  }
}

int peer_run(int control) {
  struct peer_msg m;
  for (;;) {
    ssize_t n = recv(control, &m, sizeof(m), MSG_WAITALL);
    if (n != (ssize_t)sizeof(m) || m.op == PEER_QUIT)
      return n == 0 || n == (ssize_t)sizeof(m) ? 0 : 1;
    int64_t answer = peer_step(&m);
    if (send(control, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer))
      return 1;
  }
}

int64_t peer_do(uint32_t op, int64_t arg) {
  struct peer_msg m = {.op = op, .arg = arg};
  int64_t answer = -EPIPE;
  need(send(conform.control, &m, sizeof(m), MSG_NOSIGNAL) == (ssize_t)sizeof(m), "command to the peer");
  need(recv(conform.control, &answer, sizeof(answer), MSG_WAITALL) == (ssize_t)sizeof(answer), "answer of the peer");
  return answer;
}
