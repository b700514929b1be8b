/*
 * Fork handlers (fork.h). They run in the thread that forks: prepare and parent in the parent, child in the child.
 *
 * daemon(3) and the like: the parent exits the moment fork returns, and its death would end the listeners that the
 * child goes on with. So in a process with listeners the child makes its shares of them inside its handler, and the
 * parent's handler waits for that (a byte, or the end of the pipe) for at most FORK_WAIT_MS. The same in a process
 * with connections, until the child holds them (vcl_kin.h), for at most FORK_HOLD_MS: a child that does not run for so
 * long may find them closed. A vfork child runs no handler; number.c and calls.c know it by its process id.
 */
#include "fork.h"

#include "app.h"
#include "epoll.h"
#include "real.h"
#include "share.h"
#include "sleep.h"
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define FORK_WAIT_MS 2000
#define FORK_HOLD_MS 10000

static int fork_listeners; /* atomic */
static int fork_pipe[2] = {-1, -1};
static bool fork_waits; /* for the child to hold its parent's connections, which the parent may close at once */
static bool fork_vcl;   /* the library beneath is held over this fork */

void fork_count_listener(int by) {
  __atomic_add_fetch(&fork_listeners, by, __ATOMIC_RELAXED);
}

static void fork_pipe_close(int end) {
  if (fork_pipe[end] >= 0) {
    fd_clear_inner(fork_pipe[end]);
    real.close(fork_pipe[end]);
  }
  fork_pipe[end] = -1;
}

static void fork_pipe_open(void) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0)
    return; /* the child still makes its shares, only the parent does not wait for it */
  fork_pipe[0] = fd_make_inner(fds[0]);
  fork_pipe[1] = fd_make_inner(fds[1]);
}

static void fork_prepare(void) {
  app_lock();
  fork_waits = app_attached() && share_any();
  if (app_attached() && (fork_waits || __atomic_load_n(&fork_listeners, __ATOMIC_RELAXED) > 0))
    fork_pipe_open();
  epoll_lock();
  fork_vcl = app_attached() && vcl_fork_prepare() >= 0;
  fd_lock();
}

/* Until the child says that it has what it inherits, or is no more. */
static void fork_wait(void) {
  struct pollfd p = {.fd = fork_pipe[0], .events = POLLIN};
  int64_t ms = fork_waits ? FORK_HOLD_MS : FORK_WAIT_MS;
  char byte;
  fork_pipe_close(1);
  int64_t end = epoll_now_ns() + ms * 1000000;
  while (real.poll(&p, 1, (int)ms) < 0 && errno == EINTR && epoll_now_ns() < end)
    ;
  if (p.revents != 0 && real.read(fork_pipe[0], &byte, 1) == 0)
    vcl_fork_unborn();
  fork_pipe_close(0);
}

static void fork_parent(void) {
  int saved = errno;
  fd_unlock();
  if (fork_vcl)
    (void)vcl_fork_parent();
  epoll_unlock();
  if (fork_pipe[0] >= 0)
    fork_wait();
  app_unlock();
  errno = saved;
}

/* Another thread of the parent may have held a socket's lock: that thread is not in the child. */
static int fork_free_sock(int fd, struct fd_file *f, void *ctx) {
  (void)fd;
  (void)ctx;
  if (f->kind == FD_SOCK)
    pthread_mutex_init(&((struct sock *)f)->lock, NULL);
  return 0;
}

static void fork_child(void) {
  int saved = errno;
  fd_lock_reinit();
  fd_own_process();
  fd_each(NULL, fork_free_sock, NULL);
  epoll_fork_child();
  sleep_fork_child();
  app_lock_reinit();
  if (app_attached()) {
    int rc = vcl_fork_child();
    if (rc < 0)
      app_say(1, "the child of a fork has no use of the parent's sockets: %s", strerror(-rc));
    if (rc >= 0 && __atomic_load_n(&fork_listeners, __ATOMIC_RELAXED) > 0) {
      rc = vcl_fork_share();
      if (rc < 0)
        app_say(1, "the child of a fork has no share of the parent's listeners: %s", strerror(-rc));
      else
        app_say(2, "the child of a fork shares %d listeners", rc);
    }
  }
  fork_pipe_close(0);
  if (fork_pipe[1] >= 0 && real.write(fork_pipe[1], "", 1) < 0)
    app_say(1, "the parent of a fork is gone already");
  fork_pipe_close(1);
  errno = saved;
}

__attribute__((constructor(103))) static void fork_constructor(void) {
  pthread_atfork(fork_prepare, fork_parent, fork_child);
}
