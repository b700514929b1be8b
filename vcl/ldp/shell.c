/*
 * Interposed system and popen: stack connections that are not close-on-exec go on in the command, as with posix_spawn
 * (exec.h), whose own caller in libc nobody can stand in front of. While no such socket is there both are libc's.
 *
 * system: the same as POSIX (system) words it, with our posix_spawn beneath. popen: libc's own, so that pclose and
 * fclose know the stream, while the pairs' ends lie at the sockets' numbers; what the command's programs are to know
 * (RELAY_ENV) stands before the command, as libc gives the environment as it is. A command that names a number
 * ("<&7") is meant to read from it. Any thread.
 */
#include "exec.h"
#include "export.h"
#include "fd.h"
#include "real.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL_PATH "/bin/sh"

static pthread_mutex_t shell_mutex = PTHREAD_MUTEX_INITIALIZER;
static int shell_running; /* calls of system, which share what the signals did before the first; under the mutex */
static struct sigaction shell_int, shell_quit;

/* --- system --- */

struct shell_call {
  sigset_t before;
  pid_t pid; /* 0 = none yet */
};

static void shell_signals_ignore(struct shell_call *c, posix_spawnattr_t *attr) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  sigset_t child, dfl;
  (void)sigemptyset(&ignore.sa_mask);
  (void)sigemptyset(&dfl);
  (void)sigemptyset(&child);
  (void)sigaddset(&child, SIGCHLD);
  pthread_mutex_lock(&shell_mutex);
  if (shell_running++ == 0) {
    (void)sigaction(SIGINT, &ignore, &shell_int);
    (void)sigaction(SIGQUIT, &ignore, &shell_quit);
  }
  if (shell_int.sa_handler != SIG_IGN)
    (void)sigaddset(&dfl, SIGINT);
  if (shell_quit.sa_handler != SIG_IGN)
    (void)sigaddset(&dfl, SIGQUIT);
  pthread_mutex_unlock(&shell_mutex);
  (void)pthread_sigmask(SIG_BLOCK, &child, &c->before);
  (void)posix_spawnattr_setsigmask(attr, &c->before);
  (void)posix_spawnattr_setsigdefault(attr, &dfl);
  (void)posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

static void shell_signals_back(const struct shell_call *c) {
  pthread_mutex_lock(&shell_mutex);
  if (--shell_running == 0) {
    (void)sigaction(SIGINT, &shell_int, NULL);
    (void)sigaction(SIGQUIT, &shell_quit, NULL);
  }
  pthread_mutex_unlock(&shell_mutex);
  (void)pthread_sigmask(SIG_SETMASK, &c->before, NULL);
}

/* The thread that waits is cancelled: the shell ends with it, as in libc. */
static void shell_cancelled(void *ctx) {
  struct shell_call *c = ctx;
  int state;
  (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  if (c->pid > 0) {
    (void)kill(c->pid, SIGKILL);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
      ;
  }
  shell_signals_back(c);
  (void)pthread_setcancelstate(state, NULL);
}

static int shell_system(const char *command) {
  char sh[] = "sh", dash_c[] = "-c", end[] = "--";
  char *argv[] = {sh, dash_c, end, (char *)(uintptr_t)command, NULL};
  struct shell_call c = {.pid = 0};
  posix_spawnattr_t attr;
  int status = 127 << 8; /* as if the shell had not been found */
  if (posix_spawnattr_init(&attr) != 0)
    return ldp_result(-ENOMEM);
  shell_signals_ignore(&c, &attr);
  pthread_cleanup_push(shell_cancelled, &c);
  if (spawn_command(&c.pid, SHELL_PATH, &attr, argv, command) != 0)
    c.pid = 0;
  while (c.pid > 0 && waitpid(c.pid, &status, 0) < 0)
    if (errno != EINTR) {
      status = -1;
      break;
    }
  pthread_cleanup_pop(0);
  int saved = errno;
  shell_signals_back(&c);
  (void)posix_spawnattr_destroy(&attr);
  errno = saved;
  return status;
}

int ldp_system(const char *command) {
  return command && exec_would() ? shell_system(command) : real.system(command);
}

/* --- popen --- */

/* "export RELAY_ENV='...'; command", on the heap. NULL: no memory. */
static char *shell_prefixed(const char *env, const char *command) {
  static const char before[] = "export ", between[] = "; ";
  size_t n = strlen(env), m = strlen(command);
  char *to = malloc(sizeof(before) + n + sizeof(between) + m);
  if (!to)
    return NULL;
  memcpy(to, before, sizeof(before) - 1);
  memcpy(to + sizeof(before) - 1, env, n);
  memcpy(to + sizeof(before) - 1 + n, between, sizeof(between) - 1);
  memcpy(to + sizeof(before) - 1 + n + sizeof(between) - 1, command, m + 1);
  return to;
}

FILE *ldp_popen(const char *command, const char *mode) {
  struct exec x;
  if (!command || !exec_would() || !exec_begin(&x, true, false, command))
    return real.popen(command, mode);
  char *with = shell_prefixed(x.env, command);
  FILE *f = with ? real.popen(with, mode) : NULL;
  int saved = with ? errno : ENOMEM;
  exec_end(&x, f != NULL);
  free(with);
  errno = saved;
  return f;
}
