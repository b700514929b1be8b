/*
 * Sockets of datagrams that go through exec: the executed program, which is this one again (passed_run), reads and
 * answers at a number that it did not make. inetd's wait services and socket activation work like this: what is queued
 * must be there, and what the program leaves must be there for the one who executed it.
 */
#include "conform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PASSED_FD 3

static char passed_self[] = "/proc/self/exe", passed_word[] = "passed";
static char *passed_argv[] = {passed_self, passed_word, NULL};

static int passed_number(int fd, int level, int name) {
  int v = -1;
  socklen_t len = sizeof(v);
  return getsockopt(fd, level, name, &v, &len) < 0 ? -errno : v;
}

static void passed_names(int fd) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  say_rc("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
  say_num("of the family", a.sin_family == AF_INET && len == sizeof(a));
  say_num("has a port", a.sin_port != 0);
  say_rc("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
  say_num("SO_DOMAIN", passed_number(fd, SOL_SOCKET, SO_DOMAIN));
  say_num("SO_TYPE", passed_number(fd, SOL_SOCKET, SO_TYPE));
  say_num("SO_PROTOCOL", passed_number(fd, SOL_SOCKET, SO_PROTOCOL));
  say_num("SO_BROADCAST as it was set", passed_number(fd, SOL_SOCKET, SO_BROADCAST));
  say_num("IP_PKTINFO as it was set", passed_number(fd, IPPROTO_IP, IP_PKTINFO));
  say_num("TCP_NODELAY", passed_number(fd, IPPROTO_TCP, 1));
  say_rc("bind again", bind(fd, (struct sockaddr *)&a, sizeof(a)));
  say_rc("listen", listen(fd, 1));
  say_rc("accept", accept(fd, NULL, NULL));
}

/* The first two datagrams: one by recvfrom, one by recvmsg with what stands beside it; both are answered. */
static void passed_read(int fd) {
  struct sockaddr_in from, other;
  socklen_t len = sizeof(from);
  char word = 0, peeked = 0, control[200];
  struct iovec v = {&word, 1};
  struct msghdr m = {.msg_name = &other,
                     .msg_namelen = sizeof(other),
                     .msg_iov = &v,
                     .msg_iovlen = 1,
                     .msg_control = control,
                     .msg_controllen = sizeof(control)};
  int n = -1, flags = fcntl(fd, F_GETFL);
  say_num("POLLIN", subject_poll(fd, POLLIN, 10000));
  say_rc("FIONREAD", ioctl(fd, FIONREAD, &n));
  say_num("bytes", n);
  say_rc("PEEK", recv(fd, &peeked, 1, MSG_PEEK));
  say_rc("recvfrom", recvfrom(fd, &word, 1, 0, (struct sockaddr *)&from, &len));
  say_num("it says the same", word == peeked && word >= '0');
  say_rc("the answer", sendto(fd, &word, 1, 0, (struct sockaddr *)&from, len));
  say_num("POLLIN still", subject_poll(fd, POLLIN, 10000));
  say_rc("recvmsg", recvmsg(fd, &m, 0));
  say_num("it says another thing", word != peeked && word >= '0');
  say_num("from the same", memcmp(&from, &other, sizeof(from)) == 0 && m.msg_namelen == sizeof(other));
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  say_num("with IP_PKTINFO", c && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO);
  say_rc("the answer",
         sendmsg(fd, &(struct msghdr){.msg_name = &from, .msg_namelen = len, .msg_iov = &v, .msg_iovlen = 1}, 0));
  say_rc("sendto port 0", (from.sin_port = 0, sendto(fd, "x", 1, 0, (struct sockaddr *)&from, sizeof(from))));
  say_rc("send without a peer", send(fd, "x", 1, 0));
  (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Reads what is left, one datagram, until there is nothing: the number is quiet then. */
static void passed_empty(int fd) {
  struct timeval tv = {0, 20000};
  struct epoll_event ev = {.events = EPOLLIN};
  char word;
  int ep = epoll_create1(0);
  need(ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0, "an epoll set");
  say_num("epoll says so", epoll_wait(ep, &ev, 1, 10000));
  say_rc("recv of the last", recv(fd, &word, 1, 0));
  say_rc("recv of nothing", recv(fd, &word, 1, 0));
  say_num("poll of nothing", subject_poll(fd, POLLIN, 0));
  say_num("epoll of nothing", epoll_wait(ep, &ev, 1, 0));
  close(ep);
  (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  say_rc("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
  say_rc("recv that waits in vain", recv(fd, &word, 1, 0));
}

/* Status 0. PASSED says how much is read: "two" leaves the rest. */
int passed_run(void) {
  const char *how = getenv("PASSED");
  setvbuf(stdout, NULL, _IOLBF, 0);
  alarm(60);
  passed_names(PASSED_FD);
  passed_read(PASSED_FD);
  if (how && strcmp(how, "two") == 0)
    return 0;
  passed_empty(PASSED_FD);
  return 0;
}

static int passed_status(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int passed_socket(int type) {
  struct sockaddr_in a = conform.my_ip;
  int fd = socket(AF_INET, SOCK_DGRAM | type, 0), on = 1;
  need(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "a bound socket of datagrams");
  need(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0, "IP_PKTINFO");
  need(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) == 0, "SO_BROADCAST");
  return fd;
}

/* n datagrams of the peer, of which one has arrived when this returns. */
static void passed_sent(int fd, int n) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  char word = 0;
  need(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
  say_num("peer sends", peer_do(PEER_UDP_SEND, (int64_t)n << 16 | ntohs(a.sin_port)));
  struct pollfd p = {.fd = fd, .events = POLLIN};
  need(poll(&p, 1, 10000) == 1 && recv(fd, &word, 1, MSG_PEEK) == 1, "datagrams");
}

/* The answers of the program to two datagrams: the sum of what they say. */
static long passed_answers(void) {
  long one = peer_do(PEER_UDP_RECV, 0), two = peer_do(PEER_UDP_RECV, 0);
  say_num("peer hears", (one >= '0') + (two >= '0'));
  return one + two;
}

static void passed_exec(int fd) {
  if (fd != PASSED_FD)
    dup2(fd, PASSED_FD);
  execv(passed_self, passed_argv);
  _exit(99);
}

/* inetd, wait: who executes keeps the socket and goes on with what was left. */
static void passed_wait(void) {
  char word = 0;
  int fd = passed_socket(0);
  passed_sent(fd, 4);
  setenv("PASSED", "two", 1);
  pid_t pid = fork();
  if (pid == 0)
    passed_exec(fd);
  say_num("program ends", passed_status(pid));
  long sum = passed_answers();
  for (int i = 0; i < 2; i++) {
    say_num("POLLIN for who executed", subject_poll(fd, POLLIN, 10000));
    say_rc("recv", recv(fd, &word, 1, MSG_DONTWAIT));
    sum += word;
  }
  say_num("each was read once", sum == '0' + '1' + '2' + '3');
  say_rc("and no more", recv(fd, &word, 1, MSG_DONTWAIT));
  close(fd);
}

/* The process that made the socket executes: nobody else has it. */
static void passed_alone(void) {
  unsetenv("PASSED");
  pid_t pid = fork();
  if (pid == 0) {
    int fd = passed_socket(0);
    passed_sent(fd, 3);
    passed_exec(fd);
  }
  say_num("program ends", passed_status(pid));
  (void)passed_answers();
}

/* A spawn's file actions give a number to one that is close-on-exec; another is not given. */
static void passed_spawned(void) {
  posix_spawn_file_actions_t fa;
  pid_t pid = -1;
  int fd = passed_socket(SOCK_CLOEXEC), high = fcntl(fd, F_DUPFD_CLOEXEC, 20);
  passed_sent(fd, 3);
  setenv("PASSED", "two", 1);
  need(high >= 20 && posix_spawn_file_actions_init(&fa) == 0, "file actions");
  (void)posix_spawn_file_actions_adddup2(&fa, high, PASSED_FD);
  int rc = posix_spawn(&pid, passed_self, &fa, NULL, passed_argv, environ);
  (void)posix_spawn_file_actions_destroy(&fa);
  close(high);
  say_num("program ends", passed_status(pid));
  say_num("spawn said", rc);
  (void)passed_answers();
  close(fd);
}

void check_passed(void) {
  need(peer_do(PEER_UDP, 0) > 0, "the peer's socket");
  fflush(stdout);
  passed_wait();
  passed_alone();
  passed_spawned();
}
