/*
 * Interposed exec: connections of the stack that are not close-on-exec go on in the program that is executed, and so do
 * listeners (heir.h) and sockets of datagrams (line.h).
 *
 * Called in the thread that executes. The process forks a relay (relay.h), a copy that keeps everything the library
 * has, and puts the ends of kernel socket pairs at the connections' numbers; the new program finds their addresses by
 * RELAY_ENV. exec closes all else, as every descriptor of the library is close-on-exec. If the program can't be
 * executed, the relay ends without a trace and the numbers are what they were.
 *
 * The relay is made by _Fork, which runs no handlers: it is not a child but the same holder under another process id.
 * spawn.c uses the same for posix_spawn, shell.c for system and popen. A vfork child has no table of its own and
 * executes without all this.
 */
#include "exec.h"

#include "app.h"
#include "epoll.h"
#include "export.h"
#include "fd.h"
#include "heir.h"
#include "kind.h"
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXEC_ARGS_MAX   1023 /* of execl and its like; more is E2BIG */
#define EXEC_DISMISS_NS 5000000000ll

/* True for a number that the program will have: not close-on-exec, or about to be dup()ed by a spawn's file actions. */
static bool exec_goes(const struct exec *x, int fd, const struct fd_file *f) {
  uint32_t flags = fd_flags(fd);
  return f->kind == FD_SOCK && (!(flags & FD_FLAG_CLOEXEC) || (x->spawns && (flags & FD_FLAG_SPAWN)));
}

/* What kind of socket it is that can't go along, or NULL. */
static const char *exec_ends(const struct exec *x, struct sock *s) {
  if (x->n == RELAY_MAX)
    return "socket beyond the 128th";
  if (sock_is_dgram(s) && x->blind)
    return "datagram socket that the program could not use";
  if (sock_is_dgram(s))
    return sock_flags(s) & (SOCK_F_BOUND | SOCK_F_NAMED | SOCK_F_HELD) ? NULL : "datagram socket without a port";
  return (sock_flags(s) & SOCK_F_LISTENING) || sock_is_connected(s) ? NULL : "socket without a connection";
}

/* True if the shell command reads from that number: "<&7", but not "<&75". */
static bool exec_names(const char *command, int fd) {
  char word[16];
  int n = snprintf(word, sizeof(word), "<&%d", fd);
  for (const char *at = command; at && (at = strstr(at, word)) != NULL; at += n)
    if (at[n] < '0' || at[n] > '9')
      return true;
  return false;
}

/* One number. */
static int exec_collect(int fd, struct fd_file *f, void *ctx) {
  struct exec *x = ctx;
  struct sock *s = (struct sock *)f;
  if (!exec_goes(x, fd, f))
    return 0;
  int i = 0;
  while (i < x->n && x->sock[i] != s)
    i++;
  const char *why = i < x->n ? NULL : exec_ends(x, s);
  if (why) {
    app_say(1, "fd %d: a %s on the stack ends with exec", fd, why);
    x->left++;
    return 0;
  }
  if (i == x->n) {
    x->sock[x->n++] = s;
    x->end[i] = (struct relay_end){
        .fd = fd, .line = -1, .listens = (sock_flags(s) & SOCK_F_LISTENING) != 0, .dgram = sock_is_dgram(s)};
  }
  x->end[i].eager |=
      fd <= STDERR_FILENO || exec_names(x->command, fd) || (x->spawns && (fd_flags(fd) & FD_FLAG_SPAWN_STD));
  return 0;
}

static void exec_close(int *fd) {
  if (*fd >= 0) {
    fd_clear_inner(*fd);
    real.close(*fd);
  }
  *fd = -1;
}

static void exec_close_all(struct exec *x) {
  for (int i = 0; i < x->n; i++) {
    exec_close(&x->end[i].line);
    exec_close(&x->far[i]);
  }
  exec_close(&x->go[0]);
  exec_close(&x->go[1]);
  free(x->env);
  x->env = NULL;
}

/* What the kernel minds at the program's end. */
static void exec_dress(const struct sock *s, int far) {
  struct timeval rcv = opt_timeval(s->rcvtimeo_us), snd = opt_timeval(s->sndtimeo_us);
  if (sock_flags(s) & SOCK_F_NONBLOCK)
    (void)real.fcntl(far, F_SETFL, (long)O_NONBLOCK);
  if (s->rcvtimeo_us >= 0)
    (void)real.setsockopt(far, SOL_SOCKET, SO_RCVTIMEO, &rcv, sizeof(rcv));
  if (s->sndtimeo_us >= 0)
    (void)real.setsockopt(far, SOL_SOCKET, SO_SNDTIMEO, &snd, sizeof(snd));
}

static int exec_pairs(struct exec *x) {
  int two[2];
  unsigned room = relay_room(x->n);
  x->go[0] = x->go[1] = -1;
  for (int i = 0; i < x->n; i++)
    x->far[i] = -1;
  x->env = malloc(room); /* not in a vfork child: that one has returned */
  if (!x->env)
    return -ENOMEM;
  relay_begin(x->env, room);
  for (int i = 0; i < x->n; i++) {
    int type = x->end[i].dgram ? SOCK_SEQPACKET : SOCK_STREAM;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, two) < 0)
      return -errno;
    x->end[i].line = fd_make_inner(two[0]);
    x->far[i] = fd_make_inner(two[1]);
    exec_dress(x->sock[i], x->far[i]);
    int rc = relay_tell(x->env, room, x->far[i], &x->end[i]);
    if (rc == 0 && x->end[i].listens)
      rc = heir_tell(x->sock[i], x->end[i].line);
    if (rc < 0)
      return rc;
  }
  if (pipe2(x->go, O_CLOEXEC) < 0)
    return -errno;
  x->go[0] = fd_make_inner(x->go[0]);
  x->go[1] = fd_make_inner(x->go[1]);
  return 0;
}

/* In the relay: it holds what the process held that it is a copy of, whose own hold ends with exec or exit. */
static void exec_settle(struct exec *x, const int born[2]) {
  vcl_fork_again();
  real.close(born[0]);
  (void)!real.write(born[1], "", 1);
  real.close(born[1]);
  exec_close(&x->go[1]);
  for (int i = 0; i < x->n; i++)
    exec_close(&x->far[i]);
}

/* In the process between: ends as soon as the relay, if there is one, has settled or is dead. */
static void exec_between(const int born[2]) __attribute__((noreturn));
static void exec_between(const int born[2]) {
  char byte;
  real.close(born[1]);
  ssize_t n;
  while ((n = real.read(born[0], &byte, 1)) < 0 && errno == EINTR)
    ;
  if (n == 0)
    vcl_fork_unborn();
  for (;;)
    syscall(SYS_exit_group, 0);
}

/* In the relay, which no other thread is in: the locks that exec_fork took are given back. */
static void exec_relay(struct exec *x, bool vcl, const int born[2]) {
  fd_unlock();
  fd_own_process();
  if (vcl)
    (void)vcl_fork_parent();
  epoll_unlock();
  app_unlock();
  exec_settle(x, born);
  relay_run(x->end, x->n, x->go[0], false);
}

/* In the child of a fork that spawn.c made: the relay is a holder of its own. */
static void exec_child_relay(struct exec *x) {
  int born[2];
  if (pipe2(born, O_CLOEXEC) == 0) {
    if (_Fork() == 0) {
      fd_own_process();
      exec_settle(x, born);
      relay_run(x->end, x->n, x->go[0], true);
    }
    real.close(born[1]);
    char byte;
    while (real.read(born[0], &byte, 1) < 0 && errno == EINTR)
      ;
  }
  for (;;)
    syscall(SYS_exit_group, 0);
}

/* The process goes on, so its relay is another holder: one that comes by fork. 0 or -errno. */
static int exec_fork_apart(struct exec *x) {
  pid_t pid = fork();
  if (pid == 0)
    exec_child_relay(x);
  int rc = pid < 0 ? -errno : 0;
  while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
    ;
  return rc;
}

/* Twice, so that the relay is nobody's child here. 0 or -errno. */
static int exec_fork(struct exec *x) {
  app_lock();
  epoll_lock();
  bool vcl = vcl_fork_prepare() >= 0;
  fd_lock();
  int rc = 0;
  pid_t pid = _Fork();
  if (pid == 0) {
    int born[2];
    if (pipe2(born, O_CLOEXEC) == 0) {
      if (_Fork() == 0)
        exec_relay(x, vcl, born);
      exec_between(born);
    }
    syscall(SYS_exit_group, 0);
  }
  if (pid < 0) {
    rc = -errno;
    vcl_fork_unborn();
  }
  fd_unlock();
  if (vcl)
    (void)vcl_fork_parent();
  epoll_unlock();
  app_unlock();
  while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
    ;
  return rc;
}

static int exec_swap_one(int fd, struct fd_file *f, void *ctx) {
  struct exec *x = ctx;
  if (!exec_goes(x, fd, f))
    return 0;
  for (int i = 0; i < x->n; i++)
    if (x->sock[i] == (struct sock *)f)
      (void)real.dup3(x->far[i], fd, fd_flags(fd) & FD_FLAG_CLOEXEC ? O_CLOEXEC : 0);
  return 0;
}

static int exec_restore_one(int fd, struct fd_file *f, void *ctx) {
  struct exec *x = ctx;
  for (int i = 0; i < x->n && f->kind == FD_SOCK; i++) {
    int seat = x->sock[i] == (struct sock *)f ? fd_seat() : -1;
    if (seat < 0)
      continue;
    (void)real.dup3(seat, fd, O_CLOEXEC);
    real.close(seat);
  }
  return 0;
}

static int exec_would_one(int fd, struct fd_file *f, void *ctx) {
  bool *would = ctx;
  uint32_t wanted = SOCK_F_LISTENING | SOCK_F_BOUND | SOCK_F_NAMED | SOCK_F_HELD;
  if (f->kind == FD_SOCK && !(fd_flags(fd) & FD_FLAG_CLOEXEC) && (sock_flags((struct sock *)f) & wanted))
    *would = true;
  return *would;
}

bool exec_would(void) {
  bool would = false;
  if (app_attached() && !fd_foreign_process())
    fd_each(NULL, exec_would_one, &would);
  return would;
}

bool exec_begin(struct exec *x, bool spawns, bool blind, const char *command) {
  x->n = x->left = 0;
  x->spawns = spawns;
  x->blind = blind;
  x->command = command;
  x->env = NULL;
  if (!app_attached() || fd_foreign_process())
    return false;
  fd_each(NULL, exec_collect, x);
  if (x->n == 0)
    return false;
  int rc = exec_pairs(x);
  if (rc == 0)
    rc = spawns ? exec_fork_apart(x) : exec_fork(x);
  if (rc < 0) {
    app_say(1, "connections on the stack end with exec: %s", strerror(-rc));
    exec_close_all(x);
    return false;
  }
  fd_each(NULL, exec_swap_one, x);
  app_say(2, "%d sockets go on in the program that is executed", x->n);
  return true;
}

/* Until the relay, which has been told that it is not wanted, has ended: it holds what the process holds, and were it
 * the last to hold a connection that the process closes meanwhile, nobody would see that it is over. */
static void exec_dismiss(struct exec *x) {
  struct pollfd p = {.fd = x->go[1]}; /* POLLERR: nobody is left who could read */
  int64_t left, end = epoll_now_ns() + EXEC_DISMISS_NS;
  (void)!real.write(x->go[1], "", 1);
  exec_close(&x->go[0]);
  while ((left = end - epoll_now_ns()) > 0 && real.poll(&p, 1, (int)(left / 1000000) + 1) < 0 && errno == EINTR)
    ;
}

void exec_end(struct exec *x, bool executed) {
  int saved = errno;
  if (!executed)
    exec_dismiss(x);
  fd_each(NULL, exec_restore_one, x);
  exec_close_all(x);
  errno = saved;
}

char **exec_env(char *const *env, char *entry) {
  int n = 0;
  while (env && env[n])
    n++;
  char **to = malloc(((size_t)n + 2) * sizeof(*to)); /* not in a vfork child: that one has returned */
  n = 0;
  if (!to)
    return NULL;
  for (int i = 0; env && env[i]; i++)
    if (strncmp(env[i], RELAY_ENV "=", sizeof(RELAY_ENV)) != 0)
      to[n++] = env[i];
  to[n++] = entry;
  to[n] = NULL;
  return to;
}

enum exec_how { EXEC_PATH, EXEC_SEARCH, EXEC_FD };

static int exec_call(enum exec_how how, const char *file, int fd, char *const argv[], char *const env[]) {
  switch (how) {
  case EXEC_PATH:
    return real.execve(file, argv, env);
  case EXEC_SEARCH:
    return real.execvpe(file, argv, env);
  default:
    return real.fexecve(fd, argv, env);
  }
}

static int exec_is_dgram(int fd, struct fd_file *f, void *ctx) {
  bool *found = ctx;
  (void)fd;
  *found = *found || (f->kind == FD_SOCK && sock_is_dgram((struct sock *)f));
  return *found;
}

bool exec_say(bool search, const char *file, int fd, char *const argv[], char *const env[]) {
  bool matters = app_env.debug >= 1;
  if (!matters && app_attached() && !fd_foreign_process())
    fd_each(NULL, exec_is_dgram, &matters);
  const char *why = matters ? kind_unpreloaded(file, fd, search, env) : NULL;
  if (why)
    app_say(1, "%s: %s: all its sockets are the kernel's", file ? file : argv && argv[0] ? argv[0] : "a program", why);
  return why != NULL;
}

static int exec_any(enum exec_how how, const char *file, int fd, char *const argv[], char *const env[]) {
  struct exec x;
  bool blind = exec_say(how == EXEC_SEARCH, file, fd, argv, env);
  if (!exec_begin(&x, false, blind, NULL))
    return exec_call(how, file, fd, argv, env);
  char **with = exec_env(env, x.env);
  int rc = exec_call(how, file, fd, argv, with ? with : (char **)(uintptr_t)env);
  free(with);
  exec_end(&x, false);
  return rc;
}

int ldp_execve(const char *path, char *const argv[], char *const env[]) {
  return exec_any(EXEC_PATH, path, -1, argv, env);
}

int ldp_execv(const char *path, char *const argv[]) {
  return exec_any(EXEC_PATH, path, -1, argv, environ);
}

int ldp_execvpe(const char *file, char *const argv[], char *const env[]) {
  return exec_any(EXEC_SEARCH, file, -1, argv, env);
}

int ldp_execvp(const char *file, char *const argv[]) {
  return exec_any(EXEC_SEARCH, file, -1, argv, environ);
}

int ldp_fexecve(int fd, char *const argv[], char *const env[]) {
  return exec_any(EXEC_FD, NULL, fd, argv, env);
}

/* The list forms: arguments up to NULL. They may come from a vfork child, whose heap is another process's. */
struct exec_list {
  char *argv[EXEC_ARGS_MAX + 1];
};

/* 0 or -E2BIG. */
static int exec_list_take(struct exec_list *l, const char *arg, va_list ap) {
  memcpy(&l->argv[0], &arg, sizeof(arg));
  for (int i = 0; i < EXEC_ARGS_MAX; i++) {
    if (l->argv[i] == NULL)
      return 0;
    l->argv[i + 1] = va_arg(ap, char *);
  }
  return l->argv[EXEC_ARGS_MAX] == NULL ? 0 : -E2BIG;
}

static int exec_listed(enum exec_how how, const char *file, const char *arg, va_list ap, bool has_env) {
  struct exec_list l;
  va_list rest;
  va_copy(rest, ap);
  int rc = exec_list_take(&l, arg, rest);
  char **env = rc == 0 && has_env ? va_arg(rest, char **) : environ;
  va_end(rest);
  return rc < 0 ? ldp_result(rc) : exec_any(how, file, -1, l.argv, env);
}

#define EXEC_LISTED(how, file, arg, has_env)                                                                           \
  do {                                                                                                                 \
    va_list ap;                                                                                                        \
    va_start(ap, arg);                                                                                                 \
    int rc = exec_listed(how, file, arg, ap, has_env);                                                                 \
    va_end(ap);                                                                                                        \
    return rc;                                                                                                         \
  } while (0)

int ldp_execl(const char *path, const char *arg, ...) {
  EXEC_LISTED(EXEC_PATH, path, arg, false);
}

int ldp_execlp(const char *file, const char *arg, ...) {
  EXEC_LISTED(EXEC_SEARCH, file, arg, false);
}

int ldp_execle(const char *path, const char *arg, ...) {
  EXEC_LISTED(EXEC_PATH, path, arg, true);
}
