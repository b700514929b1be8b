/*
 * What comes beside datagrams: the time of arrival (SO_TIMESTAMP and its kin, socket(7)), and how many were joined into
 * one (UDP_GRO, udp(7)). Whether datagrams are joined depends on when they come; that nothing is wrong with it does
 * not.
 */
#include "conform.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW   63
#define SO_TIMESTAMPNS_NEW 64
#endif

static struct sockaddr_in beside_peer;

static int beside_socket(void) {
  struct sockaddr_in a = conform.my_ip;
  struct timeval tv = {10, 0};
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  need(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "a bound socket of datagrams");
  need(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0, "a time-out");
  return fd;
}

static long beside_set(int fd, int level, int name, int v) {
  return setsockopt(fd, level, name, &v, sizeof(v));
}

static int beside_get(int fd, int level, int name) {
  int v = -1;
  socklen_t len = sizeof(v);
  return getsockopt(fd, level, name, &v, &len) < 0 ? -errno : v;
}

static const struct {
  const char *name;
  int opt;
} beside_stamps[] = {{"SO_TIMESTAMP", SO_TIMESTAMP},
                     {"SO_TIMESTAMPNS", SO_TIMESTAMPNS},
                     {"SO_TIMESTAMP_NEW", SO_TIMESTAMP_NEW},
                     {"SO_TIMESTAMPNS_NEW", SO_TIMESTAMPNS_NEW}};
#define BESIDE_STAMPS (sizeof(beside_stamps) / sizeof(beside_stamps[0]))

static int64_t beside_now(void) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* One datagram there and back. */
static void beside_one(int fd, int opt) {
  char byte, control[256];
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  int64_t before = beside_now(), at = 0;
  need(sendto(fd, "x", 1, 0, (struct sockaddr *)&beside_peer, sizeof(beside_peer)) == 1, "sendto");
  need(peer_do(PEER_UDP_ECHO, 1) == 1, "the peer answers");
  say_rc("recvmsg", recvmsg(fd, &m, 0));
  int64_t after = beside_now();
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  say_num("something beside it", c != NULL);
  if (!c)
    return;
  say_num("level", c->cmsg_level);
  say_num("type", c->cmsg_type);
  say_num("bytes", (long)(c->cmsg_len - CMSG_LEN(0)));
  long word[2];
  memcpy(word, CMSG_DATA(c), sizeof(word));
  bool ns = opt == SO_TIMESTAMPNS || opt == SO_TIMESTAMPNS_NEW;
  at = (int64_t)word[0] * 1000000 + (ns ? word[1] / 1000 : word[1]);
  say_num("not before it was sent", at >= before);
  say_num("not after it was read", at <= after);
  say_num("and nothing more", CMSG_NXTHDR(&m, c) == NULL);
}

static void beside_stamped(void) {
  for (size_t i = 0; i < BESIDE_STAMPS; i++) {
    int fd = beside_socket();
    say_rc(beside_stamps[i].name, beside_set(fd, SOL_SOCKET, beside_stamps[i].opt, 7));
    for (size_t k = 0; k < BESIDE_STAMPS; k++)
      say_num(beside_stamps[k].name, beside_get(fd, SOL_SOCKET, beside_stamps[k].opt));
    beside_one(fd, beside_stamps[i].opt);
    say_rc("of another kind", beside_set(fd, SOL_SOCKET, beside_stamps[(i + 1) % BESIDE_STAMPS].opt, 1));
    say_num("the first now", beside_get(fd, SOL_SOCKET, beside_stamps[i].opt));
    beside_one(fd, beside_stamps[(i + 1) % BESIDE_STAMPS].opt);
    say_rc("off", beside_set(fd, SOL_SOCKET, beside_stamps[i].opt, 0));
    beside_one(fd, 0);
    close(fd);
  }
}

/* A train of 1000, 1000, 1000, 500. Joined: whole datagrams, and their size is told; not joined: nothing is told. In
 * how many pieces it came; *right: each as it should be. */
static long beside_read_train(int fd, bool gro, long *right) {
  static uint8_t buf[65536];
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  long all = 0, pieces = 0;
  *right = 1;
  need(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
  need(peer_do(PEER_UDP_TRAIN, ntohs(a.sin_port)) == 3500, "the peer sends a train");
  while (all < 3500) {
    char control[256];
    struct iovec v[2] = {{buf, 10}, {buf + 10, sizeof(buf) - 10}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &m, 0);
    need(n > 0, "recvmsg");
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int size = 0;
    if (c && c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && c->cmsg_len == CMSG_LEN(sizeof(size)))
      memcpy(&size, CMSG_DATA(c), sizeof(size));
    *right &= n > 1000 ? gro && size == 1000 : c == NULL;
    for (ssize_t i = 0; i < n; i++)
      *right &= buf[i] == peer_pattern((size_t)(all + i));
    all += n;
    pieces++;
  }
  *right &= all == 3500;
  return pieces;
}

static void beside_train(bool gro) {
  int fd = beside_socket();
  long right;
  say_num("UDP_GRO at first", beside_get(fd, IPPROTO_UDP, UDP_GRO));
  say_rc("UDP_GRO", beside_set(fd, IPPROTO_UDP, UDP_GRO, gro ? 5 : 0));
  say_num("UDP_GRO is", beside_get(fd, IPPROTO_UDP, UDP_GRO));
  long pieces = beside_read_train(fd, gro, &right);
  say_num("each as it should be", right);
  say_num("in pieces", gro ? pieces >= 1 && pieces <= 4 : pieces == 4);
  close(fd);
}

void check_beside(void) {
  int64_t port = peer_do(PEER_UDP, 0);
  need(port > 0, "the peer's socket");
  beside_peer = conform.peer_ip;
  beside_peer.sin_port = htons((uint16_t)port);
  beside_stamped();
  beside_train(false);
  beside_train(true);
}

void check_arrived(void) {
  char byte, control[256];
  struct iovec v = {&byte, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  int64_t port = peer_do(PEER_UDP, 0);
  int fd = beside_socket();
  need(port > 0, "the peer's socket");
  beside_peer = conform.peer_ip;
  beside_peer.sin_port = htons((uint16_t)port);
  need(beside_set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1) == 0, "SO_TIMESTAMPNS");
  need(sendto(fd, "x", 1, 0, (struct sockaddr *)&beside_peer, sizeof(beside_peer)) == 1, "sendto");
  need(peer_do(PEER_UDP_ECHO, 1) == 1, "the peer answers");
  need(subject_poll(fd, POLLIN, 10000) != 0, "the answer");
  int64_t there = beside_now();
  need(peer_do(PEER_UDP, 0) > 0, "something else meanwhile");
  need(recvmsg(fd, &m, 0) == 1 && CMSG_FIRSTHDR(&m), "recvmsg");
  struct timespec ts;
  memcpy(&ts, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(ts));
  say_num("the time of its arrival, not of the reading", (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 <= there);
  close(fd);
  long right = 1, pieces = 4;
  fd = beside_socket();
  need(beside_set(fd, IPPROTO_UDP, UDP_GRO, 1) == 0, "UDP_GRO");
  for (int i = 0; i < 500 && right && pieces == 4; i++) /* whoever reads fast has them one by one */
    pieces = beside_read_train(fd, true, &right);
  say_num("a train that is joined", right && pieces < 4);
  close(fd);
}
