/*
 * Life of a shimmed socket (sock.h). Called by the interposed functions, any thread.
 */
#include "sock.h"

#include "app.h"
#include "cork.h"
#include "epoll.h"
#include "fork.h"
#include "real.h"
#include "share.h"
#include "vcl_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

static struct sock *sock_alloc(int domain, int type, uint32_t flags) {
  struct sock *s = (struct sock *)fd_file_new(FD_SOCK, sizeof(*s));
  if (!s) {
    errno = ENOMEM;
    return NULL;
  }
  s->h = INVALID_SESSION_ID;
  s->domain = domain;
  s->type = type;
  s->dgram.mc_ttl = 1;
  s->flags = flags;
  s->rcvtimeo_us = s->sndtimeo_us = -1;
  pthread_mutex_init(&s->lock, NULL);
  return s;
}

static int sock_session(int type) {
  return vppcom_session_create(type == SOCK_DGRAM ? VPPCOM_PROTO_UDP : VPPCOM_PROTO_TCP, 1);
}

struct sock *sock_new(int domain, int type, uint32_t flags) {
  struct sock *s = sock_alloc(domain, type, flags);
  if (!s)
    return NULL;
  int h = sock_session(type);
  if (h < 0) {
    int err = h == -1 ? errno : -h;
    sock_put(s);
    errno = err == EPROTONOSUPPORT ? ENETDOWN : err;
    return NULL;
  }
  s->h = (uint32_t)h;
  opt_init(s);
  app_count(APP_STACK);
  return s;
}

struct sock *sock_new_taken(int domain, uint32_t h, uint32_t flags) {
  struct sock *s = sock_alloc(domain, SOCK_STREAM, flags);
  if (!s)
    return NULL;
  s->h = h;
  opt_init(s);
  app_count(APP_STACK);
  return s;
}

struct sock *sock_new_accepted(const struct sock *listener, uint32_t h, uint32_t flags) {
  struct sock *s = sock_alloc(listener->domain, SOCK_STREAM, flags | SOCK_F_CONNECTED);
  if (!s)
    return NULL;
  s->h = h;
  s->opts = listener->opts; /* the session itself has inherited them already */
  app_count(APP_ACCEPTED);
  return s;
}

int sock_install(struct sock *s, bool cloexec) {
  int fd = fd_seat();
  if (fd < 0) {
    sock_put(s);
    return fd;
  }
  return sock_install_at(s, fd, cloexec);
}

int sock_install_at(struct sock *s, int fd, bool cloexec) {
  int rc = fd_set_file(fd, &s->file, cloexec ? FD_FLAG_CLOEXEC : 0);
  if (rc < 0) {
    real.close(fd);
    sock_put(s);
    return rc;
  }
  return fd;
}

void sock_end(struct sock *s) {
  if (sock_flags(s) & SOCK_F_LISTENING)
    fork_count_listener(-1);
  epoll_forget_sock(s);
  cork_drop(s);
  if (s->h != INVALID_SESSION_ID)
    (void)vppcom_session_close(s->h); /* its end, unless others of the family hold it */
  s->h = INVALID_SESSION_ID;
}

int sock_renew(struct sock *s) {
  int h = sock_session(s->type);
  if (h < 0)
    return h == -1 ? -errno : h;
  uint32_t old = s->h;
  epoll_swap_session(s, (uint32_t)h);
  __atomic_store_n(&s->h, (uint32_t)h, __ATOMIC_RELEASE);
  sock_clear(s, ~SOCK_F_NONBLOCK);
  (void)vppcom_session_close(old);
  opt_apply_all(s);
  return 0;
}

struct sock_move {
  int from;  /* the new kernel socket */
  int error; /* of dup3 */
};

static int sock_move_one(int fd, struct fd_file *f, void *ctx) {
  struct sock_move *move = ctx;
  struct sock *s = (struct sock *)f;
  uint32_t flags = fd_flags(fd);
  if (real.dup3(move->from, fd, flags & FD_FLAG_CLOEXEC ? O_CLOEXEC : 0) < 0) {
    move->error = errno;
    return 1;
  }
  epoll_hand_to_kernel(s, fd);
  struct fd_file *taken = fd_take(fd);
  if (taken)
    fd_put(taken);
  return 0;
}

int sock_move_to_kernel(struct sock *s) {
  int nonblock = sock_flags(s) & SOCK_F_NONBLOCK ? SOCK_NONBLOCK : 0;
  struct sock_move move = {.from = real.socket(s->domain, s->type | SOCK_CLOEXEC | nonblock, 0)};
  if (move.from < 0)
    return -errno;
  int rc = opt_replay(s, move.from);
  if (rc == 0) {
    fd_each(&s->file, sock_move_one, &move);
    rc = -move.error;
  }
  real.close(move.from);
  app_count(APP_MOVED);
  vcl_count_moved();
  return rc;
}

/* After an interrupted wait: does the kernel restart the call? It does when the handler that ran asked for it. Which
 * one ran is not known, so the call restarts only if every handler of the process was installed with SA_RESTART. */
static bool sock_restarts(void) {
  for (int sig = 1; sig < NSIG; sig++) {
    struct sigaction sa;
    if (sigaction(sig, NULL, &sa) != 0)
      continue;
    bool handled = (sa.sa_flags & SA_SIGINFO) || (sa.sa_handler != SIG_DFL && sa.sa_handler != SIG_IGN);
    if (handled && !(sa.sa_flags & SA_RESTART))
      return false;
  }
  return true;
}

int sock_wait(struct sock *s, uint32_t events, int64_t timeout_us, bool halfway) {
  for (;;) {
    bool sliced = share_waiting() && (timeout_us < 0 || timeout_us > SHARE_SLICE_MS * 1000);
    int rc = vcl_session_wait(s->h, events, sliced ? SHARE_SLICE_MS * 1000 : timeout_us);
    if (sliced && rc == -ETIMEDOUT) {
      share_sweep();
      timeout_us -= timeout_us < 0 ? 0 : SHARE_SLICE_MS * 1000;
      continue;
    }
    if (rc == -ETIMEDOUT)
      return -EAGAIN;
    /* signal(7): with SO_RCVTIMEO or SO_SNDTIMEO set a call is never restarted, nor is one that has moved bytes. */
    if (rc != -EINTR || timeout_us >= 0 || halfway || !sock_restarts())
      return rc < 0 ? rc : 0;
  }
}

int sock_connect_outcome(struct sock *s) {
  int state = VCL_STATE_CLOSED;
  uint32_t len = sizeof(state);
  int rc = vcl_opt_get(s->h, VCL_OPT_STATE, &state, &len);
  if (rc < 0)
    return rc;
  if (state == VCL_STATE_CONNECTING || state == VCL_STATE_DEFERRED)
    return -EINPROGRESS;
  int error = 0;
  len = sizeof(error);
  if (!(sock_flags(s) & SOCK_F_ERR_TOLD))
    rc = vcl_opt_get(s->h, VCL_OPT_ERROR, &error, &len);
  sock_clear(s, SOCK_F_CONNECTING);
  if (state == VCL_STATE_CONNECTED && error == 0) {
    sock_raise(s, SOCK_F_CONNECTED);
    return 0;
  }
  sock_raise(s, SOCK_F_FAILED | SOCK_F_ERR_TOLD);
  return rc < 0 ? rc : -(error ? error : ECONNABORTED);
}

bool sock_is_deferred(const struct sock *s) {
  int state = VCL_STATE_NEW;
  uint32_t len = sizeof(state);
  return vcl_opt_get(s->h, VCL_OPT_STATE, &state, &len) == 0 && state == VCL_STATE_DEFERRED;
}

bool sock_is_connected(struct sock *s) {
  uint32_t flags = sock_flags(s);
  if (flags & SOCK_F_CONNECTED)
    return true;
  if (!(flags & SOCK_F_CONNECTING))
    return false;
  int state = VCL_STATE_NEW;
  uint32_t len = sizeof(state);
  if (vcl_opt_get(s->h, VCL_OPT_STATE, &state, &len) < 0 || state != VCL_STATE_CONNECTED)
    return false;
  sock_raise(s, SOCK_F_CONNECTED); /* CONNECTING stays: the next connect() returns 0 once, as on Linux */
  return true;
}
