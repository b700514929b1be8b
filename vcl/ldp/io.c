/*
 * Receive and send (io.h). Called by rw.c, msg.c and move.c, any thread.
 *
 * The session below is always non-blocking; waiting happens here, so that O_NONBLOCK, MSG_DONTWAIT, the time-outs and
 * signals behave as on Linux. Errors follow Linux: the pending error is told once, after that reads return 0 and writes
 * EPIPE.
 */
#include "io.h"

#include "udp.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define IO_CALL_MAX (1u << 30) /* one vppcom call returns an int */
#define IO_SEGS     16u

ssize_t io_total(const struct iovec *iov, size_t n) {
  size_t total = 0;
  for (size_t i = 0; i < n; i++) {
    if (iov[i].iov_len > (size_t)SSIZE_MAX - total)
      return -EINVAL;
    total += iov[i].iov_len;
  }
  return (ssize_t)total;
}

static bool io_nonblock(struct sock *s, int flags) {
  return (flags & MSG_DONTWAIT) || (sock_flags(s) & SOCK_F_NONBLOCK);
}

/* What a failed receive or send of the session means to the program: told once, see above. */
static ssize_t io_error(struct sock *s, ssize_t rc, ssize_t after) {
  if (rc == -EAGAIN || rc == -EINTR || rc == -ENOMEM || rc == -EFAULT || rc == -EPIPE)
    return rc;
  if (rc == -EBADFD || rc == -EBADF) /* closed by another thread meanwhile */
    return -EBADF;
  if (sock_flags(s) & SOCK_F_ERR_TOLD)
    return after;
  sock_raise(s, SOCK_F_ERR_TOLD);
  if (sock_flags(s) & SOCK_F_CONNECTING) {
    sock_clear(s, SOCK_F_CONNECTING);
    sock_raise(s, SOCK_F_FAILED | SOCK_F_ENDED);
  }
  return rc;
}

/* --- receive --- */

static ssize_t io_recv_once(struct sock *s, void *buf, size_t len, int flags) {
  uint32_t n = len < IO_CALL_MAX ? (uint32_t)len : IO_CALL_MAX;
  int pass = flags & (MSG_PEEK | MSG_TRUNC);
  if (pass)
    return vppcom_session_recvfrom(s->h, buf, n, pass | MSG_DONTWAIT, NULL);
  return vppcom_session_read(s->h, buf, n);
}

/* A read that has got something ends before an urgent byte, also with MSG_WAITALL. */
static bool io_at_mark(struct sock *s) {
  int at = 0;
  uint32_t len = sizeof(at);
  return vcl_opt_get(s->h, VCL_OPT_ATMARK, &at, &len) == 0 && at != 0;
}

/* recv with MSG_OOB: the urgent byte, into the first buffer that has room. */
static ssize_t io_recv_urgent(struct sock *s, const struct iovec *iov, size_t n, int flags) {
  uint8_t byte = 0;
  size_t i = 0;
  while (i < n && iov[i].iov_len == 0)
    i++;
  if (!(sock_flags(s) & SOCK_F_CONNECTED))
    return -EINVAL;
  int rc = vppcom_session_recvfrom(s->h, &byte, i < n, (flags & MSG_PEEK) | MSG_OOB | MSG_DONTWAIT, NULL);
  if (rc > 0 && !(flags & MSG_TRUNC))
    *(uint8_t *)iov[i].iov_base = byte;
  return rc == -EBADFD || rc == -EBADF ? -EBADF : rc;
}

#define IO_ENDED 1
/* 0 = go on, IO_ENDED = there is nothing to receive any more and the call returns 0, or -errno. */
static ssize_t io_recv_check(struct sock *s, int flags) {
  if (flags & MSG_ERRQUEUE)
    return -EAGAIN;
  uint32_t f = sock_flags(s);
  if (f & SOCK_F_LISTENING)
    return -ENOTCONN;
  if (flags & MSG_OOB)
    return 0;
  if (!(f & (SOCK_F_CONNECTED | SOCK_F_CONNECTING)))
    return f & SOCK_F_ENDED ? IO_ENDED : -ENOTCONN;
  return 0;
}

/* Receives into one buffer; waits for the first byte if it may, for all of them if MSG_WAITALL. before: bytes that the
 * call has already. */
static ssize_t io_recv_buf(struct sock *s, void *buf, size_t len, int flags, bool wait, size_t before) {
  size_t got = 0;
  for (;;) {
    ssize_t rc = io_recv_once(s, (char *)buf + (flags & MSG_TRUNC ? 0 : got), len - got, flags);
    if (rc > 0)
      got += (size_t)rc;
    bool more = (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && rc != 0 && got < len && !(rc > 0 && io_at_mark(s));
    if (rc >= 0 && !more)
      return (ssize_t)got;
    if (rc >= 0)
      continue;
    if (rc == -ENOTCONN && (sock_flags(s) & SOCK_F_CONNECTING))
      rc = -EAGAIN; /* still connecting: wait as for data */
    if (rc != -EAGAIN || !wait)
      return got ? (ssize_t)got : io_error(s, rc, 0);
    int waited = sock_wait(s, EPOLLIN | EPOLLRDHUP, s->rcvtimeo_us, before + got > 0);
    if (waited < 0)
      return got ? (ssize_t)got : waited;
  }
}

ssize_t io_recv(struct sock *s, const struct iovec *iov, size_t n, int flags) {
  if (sock_is_dgram(s))
    return udp_recv(s, iov, n, flags);
  ssize_t total = io_total(iov, n);
  ssize_t rc = total < 0 ? total : io_recv_check(s, flags);
  if (rc < 0)
    return rc;
  if (flags & MSG_OOB)
    return io_recv_urgent(s, iov, n, flags);
  if (rc == IO_ENDED)
    return 0;
  bool wait = !io_nonblock(s, flags);
  if (total == 0) {
    if (!(vcl_session_events(s->h) & (EPOLLIN | EPOLLHUP | EPOLLERR)))
      rc = wait ? sock_wait(s, EPOLLIN, s->rcvtimeo_us, false) : -EAGAIN;
    return rc;
  }
  size_t got = 0;
  for (size_t i = 0; i < n; i++) {
    if (iov[i].iov_len == 0)
      continue;
    if ((flags & MSG_PEEK) && got > 0)
      break; /* a peek looks at the front of the stream: one buffer's worth */
    bool wait_here = wait && (got == 0 || (flags & MSG_WAITALL));
    rc = io_recv_buf(s, iov[i].iov_base, iov[i].iov_len, flags, wait_here, got);
    if (rc > 0)
      got += (size_t)rc;
    if (rc < (ssize_t)iov[i].iov_len || (i + 1 < n && io_at_mark(s)))
      break;
  }
  return got ? (ssize_t)got : rc;
}

/* --- send --- */

static ssize_t io_pipe(int flags) {
  if (!(flags & MSG_NOSIGNAL))
    pthread_kill(pthread_self(), SIGPIPE);
  return -EPIPE;
}

static ssize_t io_send_check(struct sock *s) {
  uint32_t f = sock_flags(s);
  if ((f & SOCK_F_SHUT_WR) || !(f & (SOCK_F_CONNECTED | SOCK_F_CONNECTING)))
    return -EPIPE;
  return 0;
}

/* One attempt to hand over the rest that begins at byte `at` of the vector. */
static ssize_t io_send_once(struct sock *s, const struct iovec *iov, size_t n, size_t at, int flags) {
  vppcom_data_segment_t segs[IO_SEGS];
  uint32_t count = 0;
  size_t room = IO_CALL_MAX;
  size_t i = 0;
  for (; i < n && at >= iov[i].iov_len; i++)
    at -= iov[i].iov_len;
  for (; i < n && count < IO_SEGS && room > 0; i++) {
    size_t len = iov[i].iov_len - at;
    if (len > room)
      len = room;
    if (len > 0)
      segs[count++] = (vppcom_data_segment_t){(unsigned char *)iov[i].iov_base + at, (uint32_t)len};
    room -= len;
    at = 0;
  }
  if (count == 0)
    return 0;
  int pass = (flags & MSG_MORE) | (i == n && count == 1 ? flags & MSG_OOB : 0);
  if (pass)
    return vppcom_session_sendto(s->h, segs[0].data, segs[0].len, pass | MSG_DONTWAIT | MSG_NOSIGNAL, NULL);
  if (flags & MSG_OOB) /* its last byte is urgent: all but the last piece first */
    count -= i == n;
  if (count == 1)
    return vppcom_session_write(s->h, segs[0].data, segs[0].len);
  return vppcom_session_write_segments(s->h, segs, count);
}

static ssize_t io_send_all(struct sock *s, const struct iovec *iov, size_t n, size_t sent, size_t total, int flags) {
  bool nonblock = io_nonblock(s, flags);
  while (sent < total) {
    ssize_t rc = io_send_once(s, iov, n, sent, flags);
    if (rc > 0) {
      sent += (size_t)rc;
      continue;
    }
    if (rc == 0 || (rc == -ENOTCONN && (sock_flags(s) & SOCK_F_CONNECTING)))
      rc = -EAGAIN;
    if (rc == -EAGAIN && !nonblock)
      rc = sock_wait(s, EPOLLOUT, s->sndtimeo_us, sent > 0);
    else
      rc = io_error(s, rc, -EPIPE);
    if (rc < 0)
      return sent ? (ssize_t)sent : rc;
  }
  return (ssize_t)sent;
}

ssize_t io_send(struct sock *s, const struct iovec *iov, size_t n, int flags) {
  return io_send_from(s, iov, n, 0, flags);
}

ssize_t io_send_from(struct sock *s, const struct iovec *iov, size_t n, size_t at, int flags) {
  if (sock_is_dgram(s))
    return udp_send(s, iov, n, flags);
  ssize_t total = io_total(iov, n);
  ssize_t rc = total < 0 ? total : io_send_check(s);
  if (rc == 0 && total > 0)
    rc = io_send_all(s, iov, n, at, (size_t)total, flags);
  return rc == -EPIPE ? io_pipe(flags) : rc;
}

static ssize_t io_room_wait(struct sock *s, int flags) {
  ssize_t rc = io_send_check(s);
  while (rc == 0) {
    rc = vppcom_session_attr(s->h, VPPCOM_ATTR_GET_NWRITE, NULL, NULL);
    if (rc > 0)
      return rc;
    if (rc < 0)
      return io_error(s, rc, -EPIPE);
    if (vcl_session_events(s->h) & (EPOLLERR | EPOLLHUP))
      return 1; /* the send will tell which error */
    rc = io_nonblock(s, flags) ? -EAGAIN : sock_wait(s, EPOLLOUT, s->sndtimeo_us, false);
  }
  return rc;
}

ssize_t io_room(struct sock *s, int flags) {
  ssize_t rc = io_room_wait(s, flags);
  return rc == -EPIPE ? io_pipe(flags) : rc;
}
