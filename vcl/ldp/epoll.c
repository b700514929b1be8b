/*
 * Membership: epoll_create and epoll_ctl (epoll.h). Waiting is in epoll_wait.c.
 *
 * Called by the program and by sock.c, any thread. One lock for all memberships of the process, held briefly; calls
 * into vcl happen under it, never the other way round.
 */
#include "epoll.h"

#include "app.h"
#include "export.h"
#include "real.h"
#include "sock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

static pthread_mutex_t epoll_mutex = PTHREAD_MUTEX_INITIALIZER;

void epoll_lock(void) {
  pthread_mutex_lock(&epoll_mutex);
}
void epoll_unlock(void) {
  pthread_mutex_unlock(&epoll_mutex);
}

static int epoll_fork_one(int fd, struct fd_file *f, void *ctx) {
  (void)fd;
  (void)ctx;
  if (f->kind == FD_EPOLL && epoll_vep((struct epoll *)f) != INVALID_SESSION_ID)
    ((struct epoll *)f)->inherited = 1;
  return 0;
}

void epoll_fork_child(void) {
  pthread_mutex_init(&epoll_mutex, NULL);
  fd_each(NULL, epoll_fork_one, NULL);
}

/* --- sets --- */

static int epoll_register(int fd) {
  struct epoll *ep = (struct epoll *)fd_file_new(FD_EPOLL, sizeof(*ep));
  if (!ep)
    return -ENOMEM;
  ep->vep = INVALID_SESSION_ID;
  ep->kernel_fd = -1;
  ep->nudge_fd = ep->join_fd = -1;
  if (fd_set_file(fd, &ep->file, 0) < 0)
    fd_put(&ep->file); /* past 2^20: the set stays a plain kernel set */
  return 0;
}

int ldp_epoll_create1(int flags) {
  int fd = real.epoll_create1(flags);
  if (fd >= 0 && !fd_foreign_process() && epoll_register(fd) == -ENOMEM) {
    real.close(fd);
    errno = ENOMEM;
    return -1;
  }
  return fd;
}

int ldp_epoll_create(int size) {
  if (size <= 0)
    return ldp_result(-EINVAL);
  return ldp_epoll_create1(0);
}

/* The eventfd by which a nested set is readable in the kernel. -1 if there can be none: then the outer set is late. */
static int epoll_make_nudge(struct epoll *ep) {
  struct epoll_event mark = {.events = EPOLLIN, .data.u64 = epoll_mark(ep)};
  int fd = fd_make_inner(real.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (fd >= 0)
    (void)real.epoll_ctl(ep->kernel_fd, EPOLL_CTL_ADD, fd, &mark);
  return fd;
}

void epoll_unsettle(struct epoll *ep) {
  uint64_t count;
  if (ep->idle_armed)
    vcl_sleep_end(&ep->w);
  ep->idle_armed = 0;
  if (ep->nudge_fd >= 0 && real.read(ep->nudge_fd, &count, sizeof(count)) < 0) {
    /* it was not raised */
  }
}

/* The caller owns `busy`. */
static void epoll_settle_owned(struct epoll *ep) {
  uint64_t one = 1;
  for (int i = 0; i < 8 && !(vcl_session_events(ep->vep) & EPOLLIN); i++) {
    if (vcl_sleep_begin(&ep->w)) {
      ep->idle_armed = 1;
      return;
    }
  }
  if (real.write(ep->nudge_fd, &one, sizeof(one)) < 0)
    app_say(1, "an epoll set in another one could not be made readable: errno %d", errno);
}

void epoll_settle(struct epoll *ep) {
  if (!ep->nested || epoll_vep(ep) == INVALID_SESSION_ID || ep->nudge_fd < 0)
    return;
  if (__atomic_exchange_n(&ep->busy, 1, __ATOMIC_ACQUIRE) != 0)
    return; /* who is in there settles at its end */
  epoll_unsettle(ep);
  epoll_settle_owned(ep);
  __atomic_store_n(&ep->busy, 0, __ATOMIC_RELEASE);
}

/* A set becomes a member of another one. */
static void epoll_nest(int fd) {
  struct epoll *inner = (struct epoll *)fd_get_kind(fd, FD_EPOLL);
  if (!inner)
    return;
  epoll_lock();
  if (!inner->nested && epoll_vep(inner) != INVALID_SESSION_ID)
    inner->nudge_fd = epoll_make_nudge(inner);
  inner->nested = 1;
  epoll_unlock();
  epoll_settle(inner);
  fd_put(&inner->file);
}

static void epoll_join_done(struct epoll *ep) {
  int fd = __atomic_exchange_n(&ep->join_fd, -1, __ATOMIC_SEQ_CST);
  if (fd < 0)
    return;
  (void)real.epoll_ctl(ep->kernel_fd, EPOLL_CTL_DEL, fd, NULL);
  fd_clear_inner(fd);
  real.close(fd);
}

/* The set has a vppcom half by now, and threads may sleep on the kernel's alone, where no waiter's kick reaches them:
 * they come out, all of them (raw_n and vep are each written before the other is read). */
static void epoll_join_call(struct epoll *ep) {
  struct epoll_event mark = {.events = EPOLLIN, .data.u64 = epoll_mark(ep)};
  if (__atomic_load_n(&ep->raw_n, __ATOMIC_SEQ_CST) == 0)
    return;
  int fd = fd_make_inner(real.eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  if (fd < 0 || real.epoll_ctl(ep->kernel_fd, EPOLL_CTL_ADD, fd, &mark) < 0)
    app_say(1, "a thread that waits in an epoll set may be late: errno %d", errno);
  __atomic_store_n(&ep->join_fd, fd, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&ep->raw_n, __ATOMIC_SEQ_CST) == 0)
    epoll_join_done(ep);
}

int epoll_raw_enter(struct epoll *ep) {
  (void)__atomic_add_fetch(&ep->raw_n, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&ep->vep, __ATOMIC_SEQ_CST) == INVALID_SESSION_ID)
    return 1;
  epoll_raw_leave(ep);
  return 0;
}

void epoll_raw_leave(struct epoll *ep) {
  if (__atomic_sub_fetch(&ep->raw_n, 1, __ATOMIC_SEQ_CST) == 0 && epoll_vep(ep) != INVALID_SESSION_ID)
    epoll_join_done(ep);
}

/* The vppcom half of a set, made when the first stack session joins. Under the lock. */
static int epoll_make_vep(struct epoll *ep, int epfd) {
  int fds[2];
  int vep = vppcom_epoll_create();
  if (vep < 0)
    return vep;
  memset(&ep->w, 0, sizeof(ep->w));
  int rc = vcl_waiter_init(&ep->w);
  if (rc < 0)
    goto out_vep;
  rc = vcl_waiter_attach(&ep->w, (uint32_t)vep);
  if (rc < 0)
    goto out_waiter;
  ep->kernel_fd = fd_make_inner(real.dup(epfd));
  if (ep->kernel_fd < 0) {
    rc = -errno;
    goto out_waiter;
  }
  int n = vcl_waiter_fds(&ep->w, fds);
  struct epoll_event mark = {.events = EPOLLIN, .data.u64 = epoll_mark(ep)};
  for (int i = 0; i < n; i++) {
    if (real.epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &mark) < 0) {
      rc = -errno;
      goto out_fd;
    }
  }
  ep->nudge_fd = ep->nested ? epoll_make_nudge(ep) : -1;
  __atomic_store_n(&ep->vep, (uint32_t)vep, __ATOMIC_SEQ_CST);
  epoll_join_call(ep);
  return 0;
out_fd:
  fd_clear_inner(ep->kernel_fd);
  real.close(ep->kernel_fd);
  ep->kernel_fd = -1;
out_waiter:
  vcl_waiter_fini(&ep->w);
out_vep:
  (void)vppcom_session_close((uint32_t)vep);
  return rc;
}

/* --- members; all under the lock --- */

static struct epoll_member *epoll_find(struct epoll *ep, struct sock *s, int fd) {
  for (struct epoll_member *m = s->members; m; m = m->next_in_sock)
    if (m->ep == ep && (fd < 0 || m->fd == fd))
      return m;
  return NULL;
}

static void epoll_link(struct epoll_member *m) {
  m->next_in_sock = m->s->members;
  m->s->members = m;
  m->next_in_ep = m->ep->members;
  m->at_in_ep = &m->ep->members;
  if (m->next_in_ep)
    m->next_in_ep->at_in_ep = &m->next_in_ep;
  m->ep->members = m;
}

static void epoll_unlink(struct epoll_member *m) {
  struct epoll_member **at = &m->s->members;
  while (*at != m)
    at = &(*at)->next_in_sock;
  *at = m->next_in_sock;
  *m->at_in_ep = m->next_in_ep;
  if (m->next_in_ep)
    m->next_in_ep->at_in_ep = m->at_in_ep;
  free(m);
}

static int epoll_add(struct epoll *ep, int epfd, struct sock *s, int fd, struct epoll_event *ev) {
  struct epoll_member *m = epoll_find(ep, s, fd);
  if (m)
    return -EEXIST;
  if (epoll_find(ep, s, -1)) {
    app_say(1, "fd %d: a second number of the same socket in one epoll set is not supported on the stack", fd);
    return -EEXIST;
  }
  int rc = epoll_vep(ep) == INVALID_SESSION_ID ? epoll_make_vep(ep, epfd) : 0;
  if (rc < 0)
    return rc;
  m = calloc(1, sizeof(*m));
  if (!m)
    return -ENOMEM;
  rc = vppcom_epoll_ctl(ep->vep, EPOLL_CTL_ADD, s->h, ev);
  if (rc < 0) {
    free(m);
    return rc;
  }
  m->ep = ep;
  m->s = s;
  m->fd = fd;
  m->ev = *ev;
  epoll_link(m);
  return 0;
}

/* epoll_ctl(2): exclusive from the first, and with these others only. That all sets are woken, not one of them, is
 * within its promise ("at least one"). */
#define EPOLL_WITH_EXCLUSIVE                                                                                           \
  ((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE))

static int epoll_change(struct epoll *ep, int epfd, int op, struct sock *s, int fd, const struct epoll_event *in) {
  struct epoll_event ev = {0};
  if (op != EPOLL_CTL_DEL) {
    if (!in)
      return -EFAULT;
    ev = *in;
    if ((ev.events & EPOLLEXCLUSIVE) && (op == EPOLL_CTL_MOD || (ev.events & ~EPOLL_WITH_EXCLUSIVE)))
      return -EINVAL;
    ev.events &= ~(uint32_t)EPOLLWAKEUP;
  }
  if (op == EPOLL_CTL_ADD)
    return epoll_add(ep, epfd, s, fd, &ev);
  struct epoll_member *m = epoll_find(ep, s, fd);
  if (!m)
    return -ENOENT;
  if (op == EPOLL_CTL_MOD && (m->ev.events & EPOLLEXCLUSIVE))
    return -EINVAL;
  int rc = vppcom_epoll_ctl(ep->vep, op, s->h, op == EPOLL_CTL_DEL ? NULL : &ev);
  if (op == EPOLL_CTL_DEL) {
    epoll_unlink(m);
    return 0;
  }
  if (rc >= 0)
    m->ev = ev;
  return rc > 0 ? 0 : rc;
}

static int epoll_ctl_kernel(struct epoll *ep, int epfd, int op, int fd, struct epoll_event *ev) {
  if (fd_is_inner(fd))
    return -EBADF;
  if (real.epoll_ctl(epfd, op, fd, ev) < 0)
    return -errno;
  if (op == EPOLL_CTL_ADD)
    epoll_nest(fd);
  if (op == EPOLL_CTL_ADD)
    __atomic_add_fetch(&ep->kernel_n, 1, __ATOMIC_RELAXED);
  else if (op == EPOLL_CTL_DEL && __atomic_load_n(&ep->kernel_n, __ATOMIC_RELAXED) > 0)
    __atomic_sub_fetch(&ep->kernel_n, 1, __ATOMIC_RELAXED);
  return 0;
}

int ldp_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev) {
  struct epoll *ep = fd_foreign_process() ? NULL : (struct epoll *)fd_get_kind(epfd, FD_EPOLL);
  struct sock *s = sock_get(fd);
  int rc;
  if (!ep) {
    /* Not a set, or one that was not made under the shim: never put a seat into the kernel's set. */
    rc = real.epoll_ctl(epfd, s ? EPOLL_CTL_DEL : op, fd, ev) < 0 ? -errno : 0;
  } else if (!s) {
    rc = epoll_ctl_kernel(ep, epfd, op, fd, ev);
  } else if (op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD && op != EPOLL_CTL_DEL) {
    rc = -EINVAL;
  } else if (ep->inherited) {
    app_say(1, "epoll fd %d with stack sessions was inherited over fork: not usable in the child", epfd);
    rc = -EINVAL;
  } else {
    epoll_lock();
    rc = epoll_change(ep, epfd, op, s, fd, ev);
    epoll_unlock();
    epoll_settle(ep);
  }
  if (s)
    sock_put(s);
  if (ep)
    fd_put(&ep->file);
  return ldp_result(rc > 0 ? 0 : rc);
}

/* --- what sockets and sets tell each other --- */

void epoll_end(struct epoll *ep) {
  epoll_lock();
  while (ep->members)
    epoll_unlink(ep->members);
  epoll_unlock();
  if (ep->vep == INVALID_SESSION_ID)
    return;
  epoll_join_done(ep);
  vcl_waiter_fini(&ep->w);
  (void)vppcom_session_close(ep->vep);
  fd_clear_inner(ep->kernel_fd);
  real.close(ep->kernel_fd);
  if (ep->nudge_fd >= 0) {
    fd_clear_inner(ep->nudge_fd);
    real.close(ep->nudge_fd);
  }
  ep->vep = INVALID_SESSION_ID;
}

void epoll_forget_sock(struct sock *s) {
  if (!s->members)
    return;
  epoll_lock();
  while (s->members) {
    (void)vppcom_epoll_ctl(s->members->ep->vep, EPOLL_CTL_DEL, s->h, NULL);
    epoll_unlink(s->members);
  }
  epoll_unlock();
}

void epoll_swap_session(struct sock *s, uint32_t h) {
  epoll_lock();
  for (struct epoll_member *m = s->members; m; m = m->next_in_sock) {
    (void)vppcom_epoll_ctl(m->ep->vep, EPOLL_CTL_DEL, s->h, NULL);
    (void)vppcom_epoll_ctl(m->ep->vep, EPOLL_CTL_ADD, h, &m->ev);
  }
  epoll_unlock();
}

void epoll_hand_to_kernel(struct sock *s, int fd) {
  epoll_lock();
  for (struct epoll_member *m = s->members, *next; m; m = next) {
    next = m->next_in_sock;
    if (m->fd != fd)
      continue;
    (void)vppcom_epoll_ctl(m->ep->vep, EPOLL_CTL_DEL, s->h, NULL);
    if (real.epoll_ctl(m->ep->kernel_fd, EPOLL_CTL_ADD, fd, &m->ev) == 0)
      __atomic_add_fetch(&m->ep->kernel_n, 1, __ATOMIC_RELAXED);
    epoll_unlink(m);
  }
  epoll_unlock();
}
