/*
 * The kernel for the library's own use (inner.h). Any thread; no lock beyond the table's.
 */
#include "inner.h"

#include "fd.h"

#include <string.h>

int inner_socket(int d, int t, int p) {
  return fd_make_inner(real.socket(d, t, p));
}
int inner_eventfd(unsigned n, int f) {
  return fd_make_inner(real.eventfd(n, f));
}
int inner_timerfd_create(int clock, int f) {
  return fd_make_inner(real.timerfd_create(clock, f));
}
int inner_epoll_create1(int f) {
  return fd_make_inner(real.epoll_create1(f));
}
int inner_dup(int fd) {
  return fd_make_inner(real.dup(fd));
}

int inner_close(int fd) {
  fd_clear_inner(fd);
  return real.close(fd);
}

/* Descriptors that came with the message: raised in place. */
ssize_t inner_recvmsg(int fd, struct msghdr *m, int f) {
  ssize_t rc = real.recvmsg(fd, m, f);
  if (rc < 0 || m->msg_controllen < sizeof(struct cmsghdr))
    return rc;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
      continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int got;
      memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
      got = fd_make_inner(got);
      memcpy(CMSG_DATA(c) + i * sizeof(int), &got, sizeof(got));
    }
  }
  return rc;
}

ssize_t inner_sendmsg(int fd, const struct msghdr *m, int f) {
  return real.sendmsg(fd, m, f);
}
ssize_t inner_read(int fd, void *b, size_t n) {
  return real.read(fd, b, n);
}
ssize_t inner_write(int fd, const void *b, size_t n) {
  return real.write(fd, b, n);
}
ssize_t inner_recv(int fd, void *b, size_t n, int f) {
  return real.recv(fd, b, n, f);
}
ssize_t inner_send(int fd, const void *b, size_t n, int f) {
  return real.send(fd, b, n, f);
}
int inner_connect(int fd, const struct sockaddr *a, socklen_t l) {
  return real.connect(fd, a, l);
}
int inner_poll(struct pollfd *p, nfds_t n, int t) {
  return real.poll(p, n, t);
}
int inner_shutdown(int fd, int how) {
  return real.shutdown(fd, how);
}

int inner_setsockopt(int fd, int lv, int o, const void *v, socklen_t l) {
  return real.setsockopt(fd, lv, o, v, l);
}
int inner_getsockopt(int fd, int lv, int o, void *v, socklen_t *l) {
  return real.getsockopt(fd, lv, o, v, l);
}

int inner_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *s) {
  return real.ppoll(p, n, t, s);
}

int inner_epoll_ctl(int ep, int op, int fd, struct epoll_event *e) {
  return real.epoll_ctl(ep, op, fd, e);
}
int inner_epoll_wait(int ep, struct epoll_event *e, int n, int t) {
  return real.epoll_wait(ep, e, n, t);
}

int inner_fcntl(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  long arg = va_arg(ap, long);
  va_end(ap);
  return real.fcntl(fd, cmd, arg);
}

int inner_fcntl64(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  long arg = va_arg(ap, long);
  va_end(ap);
  return real.fcntl(fd, cmd, arg);
}

int inner_ioctl(int fd, unsigned long req, ...) {
  va_list ap;
  va_start(ap, req);
  long arg = va_arg(ap, long);
  va_end(ap);
  return real.ioctl(fd, req, arg);
}
