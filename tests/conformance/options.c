/*
 * Checks of socket options: values that come back, ranges, errno values.
 */
#include "conform.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

static void options_int(int fd, int level, int name, int value, const char *what) {
  char line[96];
  int got = -1;
  socklen_t len = sizeof(got);
  snprintf(line, sizeof(line), "set %s %d", what, value);
  say_rc(line, setsockopt(fd, level, name, &value, sizeof(value)));
  snprintf(line, sizeof(line), "get %s after %d", what, value);
  if (getsockopt(fd, level, name, &got, &len) < 0)
    say_rc(line, -1);
  else
    say_num(line, got);
}

static void options_fresh(int fd, int level, int name, const char *what) {
  int got = -1;
  socklen_t len = sizeof(got);
  if (getsockopt(fd, level, name, &got, &len) < 0)
    say_rc(what, -1);
  else
    say_num(what, got);
}

static void options_switches(int fd) {
  options_int(fd, SOL_SOCKET, SO_REUSEADDR, 1, "REUSEADDR");
  options_int(fd, SOL_SOCKET, SO_REUSEADDR, 5, "REUSEADDR");
  options_int(fd, SOL_SOCKET, SO_REUSEADDR, 0, "REUSEADDR");
  options_int(fd, SOL_SOCKET, SO_REUSEPORT, 1, "REUSEPORT");
  options_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "KEEPALIVE");
  options_int(fd, SOL_SOCKET, SO_OOBINLINE, 1, "OOBINLINE");
  options_int(fd, SOL_SOCKET, SO_RCVBUF, 50000, "RCVBUF");
  options_int(fd, SOL_SOCKET, SO_SNDBUF, 50000, "SNDBUF");
  options_int(fd, SOL_SOCKET, SO_RCVBUF, 1, "RCVBUF");
  options_int(fd, SOL_SOCKET, SO_SNDBUF, 1, "SNDBUF");
  options_int(fd, SOL_SOCKET, SO_RCVLOWAT, 1, "RCVLOWAT");
  options_int(fd, SOL_SOCKET, SO_PRIORITY, 5, "PRIORITY");
  options_int(fd, SOL_SOCKET, 9999, 1, "unknown");
  options_int(fd, IPPROTO_TCP, 9999, 1, "unknown tcp");
}

static void options_tcp(int fd) {
  options_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "NODELAY");
  options_int(fd, IPPROTO_TCP, TCP_NODELAY, 7, "NODELAY");
  options_int(fd, IPPROTO_TCP, TCP_CORK, 1, "CORK");
  options_int(fd, IPPROTO_TCP, TCP_CORK, 0, "CORK");
  options_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30, "KEEPIDLE");
  options_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0, "KEEPIDLE");
  options_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 32768, "KEEPIDLE");
  options_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 7, "KEEPINTVL");
  options_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3, "KEEPCNT");
  options_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 128, "KEEPCNT");
  options_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 5000, "USER_TIMEOUT");
  options_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, -1, "USER_TIMEOUT");
  options_int(fd, IPPROTO_TCP, TCP_MAXSEG, 20, "MAXSEG");
  options_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1200, "MAXSEG");
  options_fresh(fd, IPPROTO_TCP, TCP_SYNCNT, "SYNCNT fresh");
  options_int(fd, IPPROTO_TCP, TCP_SYNCNT, 3, "SYNCNT");
  options_int(fd, IPPROTO_TCP, TCP_SYNCNT, 0, "SYNCNT");
  options_int(fd, IPPROTO_TCP, TCP_SYNCNT, 128, "SYNCNT");
  options_fresh(fd, IPPROTO_TCP, TCP_LINGER2, "LINGER2 fresh");
  options_int(fd, IPPROTO_TCP, TCP_LINGER2, 30, "LINGER2");
  options_int(fd, IPPROTO_TCP, TCP_LINGER2, -7, "LINGER2");
  options_int(fd, IPPROTO_TCP, TCP_LINGER2, 500, "LINGER2");
  options_fresh(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, "DEFER_ACCEPT fresh");
  options_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1, "DEFER_ACCEPT");
  options_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5, "DEFER_ACCEPT");
  options_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 500, "DEFER_ACCEPT");
  options_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, -1, "DEFER_ACCEPT");
  options_int(fd, IPPROTO_TCP, TCP_QUICKACK, 0, "QUICKACK");
  options_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1, "QUICKACK");
  options_fresh(fd, SOL_SOCKET, SO_MAX_PACING_RATE, "MAX_PACING_RATE fresh");
  options_int(fd, SOL_SOCKET, SO_MAX_PACING_RATE, 1000000, "MAX_PACING_RATE");
  options_int(fd, SOL_SOCKET, SO_MAX_PACING_RATE, -1, "MAX_PACING_RATE");
  char cc[16] = "no-such-cc";
  say_rc("CONGESTION unknown", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)));
  say_rc("CONGESTION reno", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
}

static void options_ip(int fd) {
  options_int(fd, IPPROTO_IP, IP_TOS, 0x10, "TOS");
  options_int(fd, IPPROTO_IP, IP_TOS, 0x13, "TOS");
  options_int(fd, IPPROTO_IP, IP_TTL, 77, "TTL");
  options_int(fd, IPPROTO_IP, IP_TTL, 256, "TTL");
  options_int(fd, IPPROTO_IP, IP_TTL, 0, "TTL");
  options_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "BIND_ADDRESS_NO_PORT");
  options_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "V6ONLY on AF_INET");
  unsigned char tos = 0x20, got = 0;
  socklen_t len = 1;
  say_rc("TOS as a byte", setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, 1));
  say_rc("TOS read as a byte", getsockopt(fd, IPPROTO_IP, IP_TOS, &got, &len));
  say_num("TOS byte", got);
  say_num("TOS byte length", (long)len);
}

static void options_structs(int fd) {
  struct linger l = {1, 9};
  socklen_t len = sizeof(l);
  say_rc("set LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  memset(&l, 0, sizeof(l));
  say_rc("get LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
  say_num("LINGER seconds", l.l_onoff ? l.l_linger : -1);
  say_rc("LINGER short", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 4));
  l = (struct linger){0, 0};
  say_rc("LINGER off", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
  struct timeval tv = {3, 500000};
  len = sizeof(tv);
  say_rc("set RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  memset(&tv, 0, sizeof(tv));
  say_rc("get RCVTIMEO", getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
  say_num("RCVTIMEO ms", (long)(tv.tv_sec * 1000 + tv.tv_usec / 1000));
  tv = (struct timeval){0, 1000000};
  say_rc("RCVTIMEO bad", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  say_rc("RCVTIMEO short", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, 4));
  int one = 1;
  say_rc("int option short", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, 2));
  say_rc("option NULL", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, sizeof(int)));
  short half = 0;
  len = sizeof(half);
  say_rc("get into two bytes", getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &half, &len));
  say_num("two bytes length", (long)len);
}

/* The keys of Fast Open, and a SYN without cookies. */
static void options_fastopen(int fd) {
  uint8_t key[40], got[40];
  socklen_t len = sizeof(got);
  memset(key, 0x5a, 16);
  memset(key + 16, 0x33, 24);
  say_rc("FASTOPEN_KEY", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, key, 16));
  say_rc("get FASTOPEN_KEY", getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, got, &len));
  say_num("FASTOPEN_KEY length", (long)len);
  say_num("FASTOPEN_KEY as set", memcmp(key, got, 16) == 0);
  say_rc("FASTOPEN_KEY with the one before", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, key, 32));
  len = sizeof(got);
  say_rc("get both", getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, got, &len));
  say_num("length of both", (long)len);
  say_num("both as set", memcmp(key, got, 32) == 0);
  say_rc("FASTOPEN_KEY of 15", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, key, 15));
  say_rc("FASTOPEN_KEY of 40", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, key, 40));
  len = 7;
  say_rc("get seven bytes", getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, got, &len));
  say_num("seven bytes length", (long)len);
  options_fresh(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, "FASTOPEN_NO_COOKIE fresh");
  options_int(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1, "FASTOPEN_NO_COOKIE");
  options_int(fd, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 2, "FASTOPEN_NO_COOKIE");
}

static long options_unsent(int fd) {
  int n = -1;
  return ioctl(fd, SIOCOUTQNSD, &n) < 0 ? -errno : n;
}

/* Writes until there is no room; what lies unsent then. The peer reads nothing. */
static long options_fill(int fd) {
  static uint8_t buf[4096];
  long room = 16 << 20;
  while (room > 0 && send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
    room -= (long)sizeof(buf);
  need(room > 0, "a peer that does not read stops the writer");
  return options_unsent(fd);
}

static void options_notsent(void) {
  int fd = subject_connected();
  options_fresh(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, "NOTSENT_LOWAT fresh");
  options_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384, "NOTSENT_LOWAT");
  say_bits("POLLOUT when all is sent", (unsigned)subject_poll(fd, POLLOUT, 20000));
  long unsent = options_fill(fd);
  say_num("unsent is bounded", unsent >= 0 && unsent <= 16384 + 65536); /* 0 by cut-through */
  options_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1, "NOTSENT_LOWAT");
  close(fd);
  peer_do(PEER_RESET, 0);
}

/* TCP_INQ of one recvmsg: what its message says is left. */
static void options_inq_one(int fd, size_t n, int flags, const char *what) {
  uint8_t buf[64], control[64];
  struct iovec iov = {buf, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  int left = -1;
  say_rc(what, recvmsg(fd, &m, flags));
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  if (c && c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ)
    memcpy(&left, CMSG_DATA(c), sizeof(left));
  say_num("its TCP_INQ", left);
  say_num("its control length", (long)m.msg_controllen);
}

static void options_inq(void) {
  int fd = subject_connected();
  options_fresh(fd, IPPROTO_TCP, TCP_INQ, "INQ fresh");
  options_int(fd, IPPROTO_TCP, TCP_INQ, 2, "INQ");
  need(peer_do(PEER_SEND, 60) == 60, "peer sends");
  for (int i = 0, n = 0; i < 500 && ioctl(fd, FIONREAD, &n) == 0 && n < 60; i++)
    poll(NULL, 0, 10);
  options_inq_one(fd, 10, 0, "recvmsg without INQ");
  options_int(fd, IPPROTO_TCP, TCP_INQ, 1, "INQ");
  options_inq_one(fd, 10, 0, "recvmsg with INQ");
  options_inq_one(fd, 10, MSG_PEEK, "PEEK with INQ");
  options_inq_one(fd, 40, 0, "the rest");
  options_inq_one(fd, 40, MSG_DONTWAIT, "nothing there");
  peer_do(PEER_CLOSE, 0);
  subject_poll(fd, POLLRDHUP, 20000);
  options_inq_one(fd, 40, 0, "at the end");
  close(fd);
}

static void options_connected(void) {
  int fd = subject_connected();
  struct tcp_info info;
  memset(&info, 0, sizeof(info));
  socklen_t len = sizeof(info);
  say_rc("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
  say_num("TCP_INFO state", info.tcpi_state);
  say_num("TCP_INFO has an mss", info.tcpi_snd_mss >= 536);
  int mss = 0;
  len = sizeof(mss);
  say_rc("MAXSEG connected", getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &len));
  say_num("MAXSEG plausible", mss >= 536);
  options_fresh(fd, SOL_SOCKET, SO_ERROR, "ERROR connected");
  options_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "NODELAY connected");
  options_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "KEEPALIVE connected");
  options_int(fd, IPPROTO_TCP, TCP_QUICKACK, 1, "QUICKACK connected");
  char cc[16] = {0};
  len = sizeof(cc);
  say_rc("get CONGESTION", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &len));
  say_num("CONGESTION length", (long)len);
  close(fd);
  peer_do(PEER_CLOSE, 0);
}

void check_options(void) {
  int fd = subject_socket(0);
  options_fresh(fd, SOL_SOCKET, SO_TYPE, "TYPE");
  options_fresh(fd, SOL_SOCKET, SO_DOMAIN, "DOMAIN");
  options_fresh(fd, SOL_SOCKET, SO_PROTOCOL, "PROTOCOL");
  options_fresh(fd, SOL_SOCKET, SO_ACCEPTCONN, "ACCEPTCONN");
  options_fresh(fd, SOL_SOCKET, SO_ERROR, "ERROR");
  options_fresh(fd, SOL_SOCKET, SO_RCVLOWAT, "RCVLOWAT");
  options_fresh(fd, SOL_SOCKET, SO_SNDLOWAT, "SNDLOWAT");
  options_fresh(fd, IPPROTO_TCP, TCP_KEEPIDLE, "KEEPIDLE");
  options_fresh(fd, IPPROTO_TCP, TCP_KEEPINTVL, "KEEPINTVL");
  options_fresh(fd, IPPROTO_TCP, TCP_KEEPCNT, "KEEPCNT");
  options_fresh(fd, IPPROTO_TCP, TCP_NODELAY, "NODELAY");
  options_fresh(fd, IPPROTO_TCP, TCP_QUICKACK, "QUICKACK");
  options_fresh(fd, IPPROTO_TCP, TCP_MAXSEG, "MAXSEG");
  options_fresh(fd, IPPROTO_IP, IP_TOS, "TOS");
  options_fresh(fd, IPPROTO_IP, IP_TTL, "TTL");
  options_fresh(fd, IPPROTO_IP, IP_MTU_DISCOVER, "MTU_DISCOVER");
  options_fresh(fd, IPPROTO_IP, IP_MTU, "MTU unconnected");
  options_switches(fd);
  options_tcp(fd);
  options_ip(fd);
  options_structs(fd);
  options_fastopen(fd);
  close(fd);
  options_connected();
  options_notsent();
  options_inq();
}
