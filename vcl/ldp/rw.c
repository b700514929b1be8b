/*
 * Interposed read, write, send and recv in all their spellings. Called by the program, any thread.
 */
#include "export.h"
#include "io.h"
#include "line.h"
#include "real.h"
#include "udp.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* What the fortified variants are for: the buffer is smaller than the length that is asked for. */
static void rw_check(size_t n, size_t room) {
  if (n > room)
    abort();
}

static ssize_t rw_recv(struct sock *s, void *buf, size_t n, int flags) {
  struct iovec iov = {buf, n};
  ssize_t rc = io_recv(s, &iov, 1, flags);
  sock_put(s);
  return ldp_result_long(rc);
}

static ssize_t rw_send(struct sock *s, const void *buf, size_t n, int flags) {
  struct iovec iov = {(void *)(uintptr_t)buf, n};
  ssize_t rc = io_send(s, &iov, 1, flags);
  sock_put(s);
  return ldp_result_long(rc);
}

/* A kernel's number, or a socket of datagrams that came by exec (line.h). */
static ssize_t rw_line_recv(int fd, void *buf, size_t n, int flags) {
  struct iovec iov = {buf, n};
  return ldp_result_long(line_recv(fd, &iov, 1, flags));
}

static ssize_t rw_line_send(int fd, const void *buf, size_t n, int flags) {
  struct iovec iov = {(void *)(uintptr_t)buf, n};
  return ldp_result_long(line_send(fd, &iov, 1, flags));
}

static ssize_t rw_line_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len) {
  struct iovec iov = {buf, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = sa, .msg_namelen = sa && len ? *len : 0};
  ssize_t rc = sa && !len ? -EFAULT : line_recvmsg(fd, &m, flags);
  if (rc >= 0 && sa)
    *len = m.msg_namelen;
  return ldp_result_long(rc);
}

static ssize_t rw_line_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len) {
  struct iovec iov = {(void *)(uintptr_t)buf, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = (void *)(uintptr_t)sa, .msg_namelen = sa ? len : 0};
  return ldp_result_long(line_sendmsg(fd, &m, flags));
}

static ssize_t rw_line_vector(int fd, const struct iovec *iov, int n, bool sends) {
  ssize_t rc = n < 0 || n > IOV_MAX ? -EINVAL
               : sends              ? line_send(fd, iov, (size_t)n, 0)
                                    : line_recv(fd, iov, (size_t)n, 0);
  return ldp_result_long(rc);
}

ssize_t ldp_read(int fd, void *buf, size_t n) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? n == 0 ? 0 : rw_line_recv(fd, buf, n, 0) : real.read(fd, buf, n);
  if (n == 0) { /* a read of nothing never waits; a recv of nothing does */
    sock_put(s);
    return 0;
  }
  return rw_recv(s, buf, n, 0);
}

ssize_t ldp___read(int fd, void *buf, size_t n) {
  return ldp_read(fd, buf, n);
}

ssize_t ldp___read_chk(int fd, void *buf, size_t n, size_t room) {
  rw_check(n, room);
  return ldp_read(fd, buf, n);
}

ssize_t ldp_recv(int fd, void *buf, size_t n, int flags) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return rw_line_recv(fd, buf, n, flags);
  return s ? rw_recv(s, buf, n, flags) : real.recv(fd, buf, n, flags);
}

ssize_t ldp___recv(int fd, void *buf, size_t n, int flags) {
  return ldp_recv(fd, buf, n, flags);
}

ssize_t ldp___recv_chk(int fd, void *buf, size_t n, size_t room, int flags) {
  rw_check(n, room);
  return ldp_recv(fd, buf, n, flags);
}

static ssize_t rw_recvfrom_dgram(struct sock *s, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len) {
  struct iovec iov = {buf, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = sa, .msg_namelen = sa && len ? *len : 0};
  ssize_t rc = sa && !len ? -EFAULT : udp_recvmsg(s, &m, flags);
  if (rc >= 0 && sa)
    *len = m.msg_namelen;
  sock_put(s);
  return ldp_result_long(rc);
}

ssize_t ldp_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? rw_line_recvfrom(fd, buf, n, flags, sa, len) : real.recvfrom(fd, buf, n, flags, sa, len);
  if (sock_is_dgram(s))
    return rw_recvfrom_dgram(s, buf, n, flags, sa, len);
  ssize_t rc = rw_recv(s, buf, n, flags);
  if (rc >= 0 && sa && len)
    *len = 0; /* TCP gives no address, as on Linux */
  return rc;
}

ssize_t ldp___recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *sa, socklen_t *len) {
  rw_check(n, room);
  return ldp_recvfrom(fd, buf, n, flags, sa, len);
}

static ssize_t rw_readv(struct sock *s, const struct iovec *iov, int n, int flags) {
  ssize_t rc = n < 0 || n > IOV_MAX ? -EINVAL : io_total(iov, (size_t)n);
  if (rc > 0)
    rc = io_recv(s, iov, (size_t)n, flags);
  sock_put(s);
  return ldp_result_long(rc);
}

static ssize_t rw_writev(struct sock *s, const struct iovec *iov, int n, int flags) {
  ssize_t rc = n < 0 || n > IOV_MAX ? -EINVAL : io_send(s, iov, (size_t)n, flags);
  sock_put(s);
  return ldp_result_long(rc);
}

ssize_t ldp_readv(int fd, const struct iovec *iov, int n) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return rw_line_vector(fd, iov, n, false);
  return s ? rw_readv(s, iov, n, 0) : real.readv(fd, iov, n);
}

/* Offset -1 means the file's position; any other is ESPIPE on a socket, which the kernel says of the seat. */
ssize_t ldp_preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags) {
  struct sock *s = off == -1 ? sock_get(fd) : NULL;
  if (!s && off == -1 && line_is(fd))
    return rw_line_vector(fd, iov, n, false);
  return s ? rw_readv(s, iov, n, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0) : real.preadv2(fd, iov, n, off, flags);
}

ssize_t ldp_preadv64v2(int fd, const struct iovec *iov, int n, off_t off, int flags) {
  return ldp_preadv2(fd, iov, n, off, flags);
}

ssize_t ldp_write(int fd, const void *buf, size_t n) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return rw_line_send(fd, buf, n, 0);
  return s ? rw_send(s, buf, n, 0) : real.write(fd, buf, n);
}

ssize_t ldp___write(int fd, const void *buf, size_t n) {
  return ldp_write(fd, buf, n);
}

ssize_t ldp_send(int fd, const void *buf, size_t n, int flags) {
  if (flags & MSG_FASTOPEN)
    return ldp_sendto(fd, buf, n, flags, NULL, 0);
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return rw_line_send(fd, buf, n, flags);
  return s ? rw_send(s, buf, n, flags) : real.send(fd, buf, n, flags);
}

ssize_t ldp___send(int fd, const void *buf, size_t n, int flags) {
  return ldp_send(fd, buf, n, flags);
}

ssize_t ldp_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? rw_line_sendto(fd, buf, n, flags, sa, len) : real.sendto(fd, buf, n, flags, sa, len);
  if (!sock_is_dgram(s) && !(flags & MSG_FASTOPEN))
    return rw_send(s, buf, n, flags);
  struct iovec iov = {(void *)(uintptr_t)buf, n};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = (void *)(uintptr_t)sa, .msg_namelen = sa ? len : 0};
  ssize_t rc = sock_is_dgram(s) ? udp_sendmsg(s, fd, &m, flags) : calls_send_fast(s, fd, &m, flags);
  sock_put(s);
  return ldp_result_long(rc);
}

ssize_t ldp_writev(int fd, const struct iovec *iov, int n) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return rw_line_vector(fd, iov, n, true);
  return s ? rw_writev(s, iov, n, 0) : real.writev(fd, iov, n);
}

ssize_t ldp_pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags) {
  struct sock *s = off == -1 ? sock_get(fd) : NULL;
  if (!s && off == -1 && line_is(fd))
    return rw_line_vector(fd, iov, n, true);
  return s ? rw_writev(s, iov, n, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0) : real.pwritev2(fd, iov, n, off, flags);
}

ssize_t ldp_pwritev64v2(int fd, const struct iovec *iov, int n, off_t off, int flags) {
  return ldp_pwritev2(fd, iov, n, off, flags);
}
