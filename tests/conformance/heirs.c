/*
 * Listeners that go through exec: the executed program, which is this one again (heirs_run), accepts from a number that
 * it did not make. inetd's wait services, socket activation and changes of a running server's program work like this.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
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
  struct pollfd p = {.fd = HEIRS_FD, .events = POLLIN};
  if (poll(&p, 1, 20000) != 1)
    return 4;
  int fd = accept(HEIRS_FD, NULL, NULL);
  if (fd < 0)
    return 5;
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

static void heirs_over(pid_t pid) {
  say_num("program ends", heirs_status(pid));
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* The parent keeps the listener and goes on with it, or has closed it. */
static void heirs_forked(bool keeps) {
  uint16_t port;
  int fd = subject_listener(&port);
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
  say_num("peer is refused in the end", peer_do(PEER_CONNECT, ntohs(port)) == -ECONNREFUSED);
}

/* Two listeners, one at a number that the file actions give, one that is close-on-exec and does not go along. */
static void heirs_spawned(void) {
  posix_spawn_file_actions_t fa;
  uint16_t port, other_port;
  pid_t pid = -1;
  int fd = subject_listener(&port), other = subject_listener(&other_port);
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
  say_num("peer is refused by the other", peer_do(PEER_CONNECT, ntohs(other_port)) == -ECONNREFUSED);
}

void check_heirs(void) {
  heirs_forked(false);
  heirs_forked(true);
  heirs_spawned();
}
