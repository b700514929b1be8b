/*
 * Programs executed in other ways than fork and exec: posix_spawn with file actions, vfork. A connection is their
 * standard input and output; cat sends back what the peer says.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPAWNS_FD 7 /* of the commands of system and popen: a shell takes one digit */

/* What is tested, which nothing else in the tree may call (lint). */
static int (*const spawns_sh)(const char *) = system;
static FILE *(*const spawns_open)(const char *, const char *) = popen;

static char *spawns_cat[] = {"cat", NULL};

static int spawns_status(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* What the peer sends comes back through cat; its end is the end of cat. */
static void spawns_through_cat(pid_t pid) {
  need(peer_do(PEER_SEND, 50000) == 50000, "peer sends");
  say_num("cat answers", peer_do(PEER_RECV, 50000));
  peer_do(PEER_SHUT_WR, 0);
  say_num("cat exits", spawns_status(pid));
}

static void spawns_over(void) {
  say_num("peer sees the end", peer_do(PEER_RECV_EOF, 0));
  peer_do(PEER_CLOSE, 0);
}

/* The parent closes the connection before or after cat has used it; it may be close-on-exec. */
static void spawns_dup(bool search, bool cloexec, bool keeps) {
  posix_spawn_file_actions_t fa;
  pid_t pid = -1;
  int fd = subject_accepted();
  fcntl(fd, F_SETFD, cloexec ? FD_CLOEXEC : 0);
  need(posix_spawn_file_actions_init(&fa) == 0, "file actions");
  say_num("adddup2", posix_spawn_file_actions_adddup2(&fa, fd, 0));
  say_num("adddup2", posix_spawn_file_actions_adddup2(&fa, fd, 1));
  if (!cloexec)
    (void)posix_spawn_file_actions_addclose(&fa, fd);
  say_num("spawn", search ? posix_spawnp(&pid, "cat", &fa, NULL, spawns_cat, environ)
                          : posix_spawn(&pid, "/bin/cat", &fa, NULL, spawns_cat, environ));
  (void)posix_spawn_file_actions_destroy(&fa);
  say_num("still close-on-exec", fcntl(fd, F_GETFD) == (cloexec ? FD_CLOEXEC : 0));
  if (!keeps)
    close(fd);
  spawns_through_cat(pid);
  if (keeps) {
    say_rc("the parent's send", send(fd, "\0", 1, MSG_NOSIGNAL));
    close(fd);
    say_num("peer got bytes", peer_do(PEER_RECV, 1));
  }
  spawns_over();
}

/* One that does not use the connection leaves it to the parent; one that can't be executed does, too. */
static void spawns_beside(void) {
  char *argv[] = {"true", NULL};
  pid_t pid;
  char c;
  int fd = subject_connected();
  say_num("spawn", posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ));
  say_num("exits", spawns_status(pid));
  say_num("spawn of nothing", posix_spawn(&pid, "/nonexistent", NULL, NULL, argv, environ));
  say_rc("send", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  need(peer_do(PEER_SEND, 1) == 1, "peer sends");
  say_rc("recv", recv(fd, &c, 1, 0));
  close(fd);
  spawns_over();
}

static void spawns_vfork(bool keeps) {
  int fd = subject_accepted();
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  pid_t pid = vfork();
  if (pid == 0) {
    if (dup2(fd, 0) < 0 || dup2(fd, 1) < 0)
      _exit(8);
    execvp("cat", spawns_cat);
    _exit(9);
  }
  if (!keeps)
    close(fd);
  spawns_through_cat(pid);
  if (keeps)
    close(fd);
  spawns_over();
}

/* A vfork that fails to execute, and one beside a connection that it closes. */
static void spawns_vfork_fails(void) {
  int fd = subject_connected();
  char *argv[] = {"x", NULL};
  pid_t pid = vfork();
  if (pid == 0) {
    close(fd);
    execv("/nonexistent", argv);
    _exit(errno == ENOENT ? 7 : 9);
  }
  say_num("vfork child ends", spawns_status(pid));
  say_rc("send", send(fd, "\0", 1, 0));
  say_num("peer got it", peer_do(PEER_RECV, 1));
  close(fd);
  spawns_over();
}

/* system: the command reads from and writes to a number; the parent goes on with the connection afterwards. */
static void spawns_system(void) {
  char command[64];
  int fd = subject_accepted();
  struct sigaction sa;
  need(dup2(fd, SPAWNS_FD) == SPAWNS_FD, "dup2");
  if (fd != SPAWNS_FD)
    close(fd);
  need(peer_do(PEER_SEND, 5000) == 5000, "peer sends");
  snprintf(command, sizeof(command), "head -c 5000 <&7 >&7; exit 3");
  say_num("system", spawns_sh(command));
  say_num("peer got bytes", peer_do(PEER_RECV, 5000));
  say_num("system that does not know it", spawns_sh("exit 4"));
  say_num("system that is killed", spawns_sh("kill -9 $$"));
  say_num("no such command", spawns_sh("/nonexistent 2>/dev/null"));
  say_num("is there a shell", spawns_sh(NULL) != 0);
  say_num("SIGINT as before", sigaction(SIGINT, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL);
  say_rc("send", send(SPAWNS_FD, "\0", 1, 0));
  say_num("peer got that", peer_do(PEER_RECV, 1) == -1); /* it is not of the pattern */
  close(SPAWNS_FD);
  spawns_over();
}

static void spawns_popen(void) {
  char line[64] = "";
  int fd = subject_accepted();
  need(dup2(fd, SPAWNS_FD) == SPAWNS_FD, "dup2");
  if (fd != SPAWNS_FD)
    close(fd);
  need(peer_do(PEER_SEND, 5000) == 5000, "peer sends");
  FILE *f = spawns_open("head -c 5000 <&7 | wc -c", "r");
  need(f != NULL, "popen");
  say_num("it says something", fgets(line, sizeof(line), f) != NULL);
  printf("bytes: %s", line);
  say_num("pclose", pclose(f));
  f = spawns_open("cat >&7; exit 5", "w");
  need(f != NULL, "popen");
  for (size_t i = 0; i < 3000; i++)
    fputc(peer_pattern(i), f);
  say_num("pclose", pclose(f));
  say_num("peer got bytes", peer_do(PEER_RECV, 3000));
  f = spawns_open("exit 6", "x");
  say_num("popen of another kind", f == NULL && errno == EINVAL);
  say_rc("send", send(SPAWNS_FD, "", 1, 0));
  say_num("peer got that", peer_do(PEER_RECV, 1) == -1);
  close(SPAWNS_FD);
  spawns_over();
}

void check_spawns(void) {
  for (int i = 0; i < 4; i++)
    spawns_dup(i & 1, i & 1, i & 2);
  spawns_beside();
  spawns_vfork(false);
  spawns_vfork(true);
  spawns_vfork_fails();
  spawns_system();
  spawns_popen();
}
