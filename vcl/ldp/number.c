/*
 * Interposed calls about descriptor numbers: close dup fcntl ioctl.
 *
 * The kernel's side of a shimmed number is always done too (the seat is closed, duplicated), so that numbers stay the
 * kernel's business. In a vfork child the table is the parent's: only the kernel's side is done there. The library's
 * own descriptors look closed to the program: it gets EBADF, or EBUSY where it would overwrite one.
 */
#include "number.h"
#include "app.h"
#include "epoll.h"
#include "export.h"
#include "line.h"
#include "real.h"
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* --- close --- */

int number_close(int fd) {
  if (fd_ours(fd)) {
    struct fd_file *f = fd_foreign_process() ? NULL : fd_take(fd);
    int rc = real.close(fd);
    if (f)
      fd_put(f);
    return rc;
  }
  if (fd_is_inner(fd))
    return ldp_result(-EBADF);
  return real.close(fd);
}

int ldp_close(int fd) {
  return number_close(fd);
}
int ldp___close(int fd) {
  return number_close(fd);
}

/* One number of ours inside the range. */
static void number_range_one(int fd, int flags) {
  if (fd_is_inner(fd))
    return; /* not the program's; close-on-exec already */
  if ((unsigned)flags & CLOSE_RANGE_CLOEXEC) {
    fd_flags_set(fd, fd_flags(fd) | FD_FLAG_CLOEXEC);
    (void)real.close_range((unsigned)fd, (unsigned)fd, flags);
  } else {
    (void)number_close(fd);
  }
}

int ldp_close_range(unsigned from, unsigned to, int flags) {
  if (from > to || ((unsigned)flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE)) || fd_foreign_process())
    return real.close_range(from, to, flags);
  for (;;) {
    int fd = fd_next(from, to);
    if (fd < 0)
      return real.close_range(from, to, flags);
    unsigned at = (unsigned)fd;
    if (at > from && real.close_range(from, at - 1, flags) < 0)
      return -1;
    number_range_one(fd, flags);
    if (at == to)
      return 0;
    from = at + 1;
  }
}

void ldp_closefrom(int from) {
  (void)ldp_close_range(from < 0 ? 0 : (unsigned)from, ~0u, 0);
}

/* --- dup --- */

/* `to` is in the kernel a copy of fd already; the table follows. f comes with a reference, which the table takes. */
static int number_adopt(int to, struct fd_file *f, bool cloexec) {
  int rc = fd_set_file(to, f, cloexec ? FD_FLAG_CLOEXEC : 0);
  if (rc < 0) {
    real.close(to);
    fd_put(f);
    return rc;
  }
  return to;
}

/* Whether a copy in the kernel is close-on-exec: a stack socket's always, an epoll set's as asked. */
static bool number_seat_cloexec(const struct fd_file *f, bool cloexec) {
  return f->kind == FD_SOCK || cloexec;
}

static int number_dup_from(int fd, int lowest, bool cloexec, struct fd_file *f) {
  int cmd = number_seat_cloexec(f, cloexec) ? F_DUPFD_CLOEXEC : F_DUPFD;
  int to = real.fcntl(fd, cmd, (long)lowest);
  if (to < 0) {
    int err = errno;
    fd_put(f);
    return -err;
  }
  return number_adopt(to, f, cloexec);
}

int ldp_dup(int fd) {
  struct fd_file *f = fd_foreign_process() ? NULL : fd_get(fd);
  if (!f)
    return fd_is_inner(fd) ? ldp_result(-EBADF) : real.dup(fd);
  return ldp_result(number_dup_from(fd, 0, false, f));
}

static int number_dup_to(int fd, int to, int flags) {
  struct fd_file *f = fd_get(fd);
  if (fd_is_inner(to) || fd_is_inner(fd)) {
    if (f)
      fd_put(f);
    return fd_is_inner(to) ? -EBUSY : -EBADF;
  }
  if (!f && !fd_ours(to))
    return real.dup3(fd, to, flags) < 0 ? -errno : to;
  /* What was at `to` leaves the table first, then the kernel replaces it. */
  struct fd_file *old = NULL;
  if (real.fcntl(fd, F_GETFD) >= 0)
    old = fd_take(to);
  bool cloexec = (flags & O_CLOEXEC) != 0;
  int rc = real.dup3(fd, to, f && number_seat_cloexec(f, cloexec) ? flags | O_CLOEXEC : flags);
  if (rc >= 0) {
    rc = f ? number_adopt(to, f, cloexec) : to;
  } else {
    rc = -errno;
    if (f)
      fd_put(f);
  }
  if (old)
    fd_put(old);
  return rc;
}

int ldp_dup2(int fd, int to) {
  if (fd_foreign_process())
    return real.dup2(fd, to);
  if (fd == to)
    return real.dup2(fd, to);
  return ldp_result(number_dup_to(fd, to, 0));
}

int ldp___dup2(int fd, int to) {
  return ldp_dup2(fd, to);
}

int ldp_dup3(int fd, int to, int flags) {
  if (fd_foreign_process() || fd == to || (flags & ~O_CLOEXEC))
    return real.dup3(fd, to, flags);
  return ldp_result(number_dup_to(fd, to, flags));
}

/* --- fcntl --- */

static void number_set_nonblock(struct sock *s, bool on) {
  if (on)
    sock_raise(s, SOCK_F_NONBLOCK);
  else
    sock_clear(s, SOCK_F_NONBLOCK);
}

/* Commands of a stack socket. -ENOSYS: let the kernel answer for the seat. */
static int number_fcntl(struct sock *s, int fd, int cmd, long arg) {
  switch (cmd) {
  case F_GETFD:
    return fd_flags(fd) & FD_FLAG_CLOEXEC ? FD_CLOEXEC : 0;
  case F_SETFD:
    fd_flags_set(fd, arg & FD_CLOEXEC ? FD_FLAG_CLOEXEC : 0);
    return 0;
  case F_GETFL:
    return O_RDWR | (sock_flags(s) & SOCK_F_NONBLOCK ? O_NONBLOCK : 0);
  case F_SETFL:
    if (arg & O_ASYNC) {
      app_say(1, "fd %d: O_ASYNC (SIGIO) is not to be had for a socket on the stack", fd);
      return -EINVAL;
    }
    number_set_nonblock(s, (arg & O_NONBLOCK) != 0);
    return 0;
  case F_SETOWN:
  case F_SETOWN_EX:
  case F_SETSIG:
    return -EINVAL; /* no SIGIO and SIGURG either */
  case F_GETOWN:
  case F_GETSIG:
    return 0;
  default:
    return -ENOSYS;
  }
}

static int number_fcntl_any(int fd, int cmd, long arg) {
  struct fd_file *f = fd_foreign_process() ? NULL : fd_get(fd);
  if (!f)
    return fd_is_inner(fd) ? ldp_result(-EBADF) : real.fcntl(fd, cmd, arg);
  if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)
    return ldp_result(number_dup_from(fd, (int)arg, cmd == F_DUPFD_CLOEXEC, f));
  int rc = f->kind == FD_SOCK ? number_fcntl((struct sock *)f, fd, cmd, arg) : -ENOSYS;
  fd_put(f);
  return rc == -ENOSYS ? real.fcntl(fd, cmd, arg) : ldp_result(rc);
}

#define NUMBER_VA_LONG(last, out)                                                                                      \
  do {                                                                                                                 \
    va_list ap;                                                                                                        \
    va_start(ap, last);                                                                                                \
    out = va_arg(ap, long);                                                                                            \
    va_end(ap);                                                                                                        \
  } while (0)

int ldp_fcntl(int fd, int cmd, ...) {
  long arg;
  NUMBER_VA_LONG(cmd, arg);
  return number_fcntl_any(fd, cmd, arg);
}

int ldp_fcntl64(int fd, int cmd, ...) {
  long arg;
  NUMBER_VA_LONG(cmd, arg);
  return number_fcntl_any(fd, cmd, arg);
}

int ldp___fcntl(int fd, int cmd, ...) {
  long arg;
  NUMBER_VA_LONG(cmd, arg);
  return number_fcntl_any(fd, cmd, arg);
}

/* --- ioctl --- */

static int number_ioctl_get(struct sock *s, uint32_t opt, int *out) {
  uint32_t len = sizeof(*out);
  if (sock_flags(s) & SOCK_F_LISTENING)
    return -EINVAL;
  *out = 0;
  if (!(sock_flags(s) & SOCK_F_HELD))
    return 0;
  if (opt != VCL_OPT_N)
    return vcl_opt_get(s->h, opt, out, &len);
  int n = vppcom_session_attr(s->h, VPPCOM_ATTR_GET_NREAD, NULL, NULL);
  *out = n > 0 ? n : 0;
  return 0;
}

/* Requests of a stack socket. -ENOSYS: let the kernel answer for the seat (interface requests, ENOTTY). */
static int number_ioctl(struct sock *s, int fd, unsigned long req, void *arg) {
  switch (req) {
  case FIONBIO:
    number_set_nonblock(s, *(int *)arg != 0);
    return 0;
  case FIONREAD: /* = SIOCINQ */
    return number_ioctl_get(s, VCL_OPT_N, arg);
  case SIOCOUTQ: /* = TIOCOUTQ */
    return number_ioctl_get(s, VCL_OPT_OUTQ, arg);
  case SIOCOUTQNSD:
    return number_ioctl_get(s, VCL_OPT_OUTQNSD, arg);
  case SIOCATMARK:
    *(int *)arg = 0;
    return number_ioctl_get(s, VCL_OPT_ATMARK, arg);
  case FIOCLEX:
    fd_flags_set(fd, FD_FLAG_CLOEXEC);
    return 0;
  case FIONCLEX:
    fd_flags_set(fd, 0);
    return 0;
  case FIOASYNC:
    return *(int *)arg ? -EOPNOTSUPP : 0;
  case FIOSETOWN:
  case SIOCSPGRP:
    return -EOPNOTSUPP;
  default:
    return -ENOSYS;
  }
}

int ldp_ioctl(int fd, unsigned long req, ...) {
  long arg;
  NUMBER_VA_LONG(req, arg);
  struct sock *s = sock_get(fd);
  if (!s) {
    int asked = line_is(fd) ? line_ioctl(fd, req, (void *)arg) : -ENOSYS;
    return asked == -ENOSYS ? real.ioctl(fd, req, arg) : ldp_result(asked);
  }
  int rc = number_ioctl(s, fd, req, (void *)arg);
  sock_put(s);
  return rc == -ENOSYS ? real.ioctl(fd, req, arg) : ldp_result(rc);
}
