/*
 * Listeners that go through exec: the executed program, which is this one again (heirs_run), accepts from a number that
 * it did not make. inetd's wait services, socket activation and changes of a running server's program work like this.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEIRS_FD 3 /* the first number of socket activation (sd_listen_fds(3)) */

static char heirs_self[] = "/proc/self/exe", heirs_word[] = "heir";
static char *heirs_argv[] = {heirs_self, heirs_word, NULL};

/* Status: 0 = served one connection. The port is told as the first two bytes. */
int heirs_run(void) {
  struct sockaddr_in a;
  socklen_t len = sizeof(a);
  int on = 0;
  char byte;
  if (getsockname(HEIRS_FD, (struct sockaddr *)&a, &len) < 0)
    return 1;
  if (getpeername(HEIRS_FD, (struct sockaddr *)&a, &(socklen_t){sizeof(a)}) == 0 || errno != ENOTCONN)
    return 2;
  len = sizeof(on);
  if (getsockopt(HEIRS_FD, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 || on != 1)
    return 3;
  struct linger linger = {0, 0};
  socklen_t size = sizeof(linger);
  struct timeval tv = {0, 0};
  if (getsockopt(HEIRS_FD, SOL_SOCKET, SO_LINGER, &linger, &size) < 0 || !linger.l_onoff || linger.l_linger != 7)
    return 8;
  size = sizeof(tv);
  if (getsockopt(HEIRS_FD, SOL_SOCKET, SO_RCVTIMEO, &tv, &size) < 0 || tv.tv_sec != 33)
    return 9;
  struct pollfd p = {.fd = HEIRS_FD, .events = POLLIN};
  if (poll(&p, 1, 20000) != 1)
    return 4;
  int fd = accept(HEIRS_FD, NULL, NULL);
  if (fd < 0)
    return 5;
  len = sizeof(on);
  if (getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &on, &len) < 0 || on != 77)
    return 10;
  if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) < 0 || on != 1)
    return 11;
  if (recv(fd, &byte, 1, 0) != 1 || (uint8_t)byte != peer_pattern(0) || send(fd, &byte, 1, 0) != 1)
    return 6;
  return recv(fd, &byte, 1, 0) == 0 ? 0 : 7;
}

static int heirs_status(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* The peer connects, says a byte, hears it again, ends. */
static void heirs_asked(uint16_t port) {
  say_num("peer connects", peer_do(PEER_CONNECT, ntohs(port)));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  say_num("peer hears it", peer_do(PEER_RECV, 1));
  peer_do(PEER_SHUT_WR, 0);
}

/* Nobody listens any more, at the latest when who held the listener for the program has seen its end. */
static bool heirs_refused(uint16_t port) {
  for (int i = 0; i < 1000; i++) {
    if (peer_do(PEER_CONNECT, ntohs(port)) == -ECONNREFUSED)
      return true;
    peer_do(PEER_CLOSE, 0);
    poll(NULL, 0, 20);
  }
  return false;
}

static void heirs_over(pid_t pid) {
  say_num("program ends", heirs_status(pid));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* What the executed program is to find set, on the listener and on what it accepts. */
static void heirs_set(int fd) {
  struct linger linger = {1, 7};
  struct timeval tv = {33, 0};
  int on = 1, idle = 77;
  need(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
           setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)) == 0,
       "options");
}

/* The parent keeps the listener and goes on with it, or has closed it. */
static void heirs_forked(bool keeps) {
  uint16_t port;
  int fd = subject_listener(&port);
  heirs_set(fd);
  pid_t pid = fork();
  if (pid == 0) {
    if (fd != HEIRS_FD)
      dup2(fd, HEIRS_FD);
    execv(heirs_self, heirs_argv);
    _exit(99);
  }
  if (!keeps)
    close(fd);
  heirs_asked(port);
  heirs_over(pid);
  if (keeps) {
    say_num("peer connects to the parent's", peer_do(PEER_CONNECT, ntohs(port)));
    int got = accept(fd, NULL, NULL);
    say_num("parent accepts", got >= 0);
    close(got);
    close(fd);
    peer_do(PEER_CLOSE, 0);
  }
  say_num("peer is refused in the end", heirs_refused(port));
}

/* Two listeners, one at a number that the file actions give, one that is close-on-exec and does not go along. */
static void heirs_spawned(void) {
  posix_spawn_file_actions_t fa;
  uint16_t port, other_port;
  pid_t pid = -1;
  int fd = subject_listener(&port), other = subject_listener(&other_port);
  heirs_set(fd);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(other, F_SETFD, FD_CLOEXEC);
  need(posix_spawn_file_actions_init(&fa) == 0, "file actions");
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 20);
  need(high >= 20, "dup");
  (void)posix_spawn_file_actions_adddup2(&fa, high, HEIRS_FD);
  say_num("spawn", posix_spawn(&pid, heirs_self, &fa, NULL, heirs_argv, environ));
  (void)posix_spawn_file_actions_destroy(&fa);
  close(high);
  close(fd);
  close(other);
  heirs_asked(port);
  heirs_over(pid);
  say_num("peer is refused by the other", heirs_refused(other_port));
}

/* More sockets than one hand counts: the last of forty goes along as the first does. */
static void heirs_many(void) {
  int fd[40];
  uint16_t port = 0;
  for (int i = 0; i < 40; i++)
    fd[i] = subject_listener(&port);
  heirs_set(fd[39]);
  pid_t pid = fork();
  if (pid == 0) {
    close(fd[0]); /* one of them is at HEIRS_FD */
    dup2(fd[39], HEIRS_FD);
    execv(heirs_self, heirs_argv);
    _exit(99);
  }
  for (int i = 0; i < 40; i++)
    close(fd[i]);
  heirs_asked(port);
  heirs_over(pid);
}

void check_heirs(void) {
  heirs_many();
  heirs_forked(false);
  heirs_forked(true);
  heirs_spawned();
}
