/*
 * Interposed recvmsg, sendmsg and their many-at-once forms. Called by the program, any thread.
 *
 * A stream carries no ancillary data here; a descriptor of ours can't travel over a unix socket (SCM_RIGHTS) and is
 * refused with EOPNOTSUPP, as the receiver would get an unconnected socket.
 */
#include "app.h"
#include "export.h"
#include "io.h"
#include "line.h"
#include "real.h"
#include "udp.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>

/* TCP_INQ, as Linux: bytes that can be read now; 1 if there are none because the peer has closed. */
static void msg_tell_inq(struct sock *s, struct msghdr *m) {
  int left = vppcom_session_attr(s->h, VPPCOM_ATTR_GET_NREAD, NULL, NULL);
  if (left <= 0)
    left = (vcl_session_events(s->h) & EPOLLRDHUP) != 0;
  size_t used = 0;
  udp_put_cmsg(m, &used, IPPROTO_TCP, TCP_INQ, &left, sizeof(left));
  m->msg_controllen = used;
}

static ssize_t msg_recv(struct sock *s, struct msghdr *m, int flags) {
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  if (sock_is_dgram(s))
    return udp_recvmsg(s, m, flags);
  ssize_t rc = io_recv(s, m->msg_iov, m->msg_iovlen, flags);
  if (rc >= 0) {
    m->msg_namelen = 0;
    m->msg_flags = flags & MSG_OOB && rc > 0 ? MSG_OOB : 0;
    if (opt_wants_inq(s) && !(flags & MSG_OOB))
      msg_tell_inq(s, m);
    else
      m->msg_controllen = 0;
  }
  return rc;
}

ssize_t ldp_recvmsg(int fd, struct msghdr *m, int flags) {
  struct sock *s = sock_get(fd);
  if (!s && m && line_is(fd))
    return ldp_result_long(line_recvmsg(fd, m, flags));
  if (!s)
    return real.recvmsg(fd, m, flags);
  ssize_t rc = m ? msg_recv(s, m, flags) : -EFAULT;
  sock_put(s);
  return ldp_result_long(rc);
}

static int64_t msg_now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int ldp_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout) {
  struct sock *s = sock_get(fd);
  if (!s && !line_is(fd))
    return real.recvmmsg(fd, m, n, flags, timeout);
  /* recvmmsg(2): the time-out is looked at after each message only. */
  int64_t end = timeout ? msg_now_ns() + (int64_t)timeout->tv_sec * 1000000000 + timeout->tv_nsec : INT64_MAX;
  unsigned got = 0;
  ssize_t rc = 0;
  for (; got < n && got < INT_MAX; got++) {
    int how = flags & ~MSG_WAITFORONE;
    rc = s ? msg_recv(s, &m[got].msg_hdr, how) : line_recvmsg(fd, &m[got].msg_hdr, how);
    if (rc < 0)
      break;
    m[got].msg_len = (unsigned)rc;
    if (flags & MSG_WAITFORONE)
      flags |= MSG_DONTWAIT;
    if ((rc == 0 && s && !sock_is_dgram(s)) || msg_now_ns() >= end) {
      got++;
      break;
    }
  }
  if (s)
    sock_put(s);
  return got > 0 ? (int)got : ldp_result((int)rc);
}

/* True if a descriptor of ours is about to be sent to another process. */
static bool msg_carries_ours(const struct msghdr *m) {
  if (!app_attached() || !m || m->msg_controllen < sizeof(struct cmsghdr))
    return false;
  struct msghdr copy = *m;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&copy); c; c = CMSG_NXTHDR(&copy, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
      continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      struct fd_file *f = fd_get_kind(fd, FD_SOCK);
      if (f) {
        fd_put(f);
        app_say(1, "fd %d is a socket on the stack and can't be passed by SCM_RIGHTS", fd);
        return true;
      }
    }
  }
  return false;
}

static ssize_t msg_send(struct sock *s, int fd, const struct msghdr *m, int flags) {
  if (sock_is_dgram(s))
    return udp_sendmsg(s, fd, m, flags);
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  return flags & MSG_FASTOPEN ? calls_send_fast(s, fd, m, flags) : io_send(s, m->msg_iov, m->msg_iovlen, flags);
}

ssize_t ldp_sendmsg(int fd, const struct msghdr *m, int flags) {
  struct sock *s = sock_get(fd);
  if (!s && m && line_is(fd))
    return ldp_result_long(line_sendmsg(fd, m, flags));
  if (!s)
    return msg_carries_ours(m) ? ldp_result_long(-EOPNOTSUPP) : real.sendmsg(fd, m, flags);
  ssize_t rc = m ? msg_send(s, fd, m, flags) : -EFAULT;
  sock_put(s);
  return ldp_result_long(rc);
}

int ldp_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags) {
  struct sock *s = sock_get(fd);
  if (!s && !line_is(fd))
    return real.sendmmsg(fd, m, n, flags);
  unsigned sent = 0;
  ssize_t rc = 0;
  for (; sent < n && sent < INT_MAX; sent++) {
    rc = s ? msg_send(s, fd, &m[sent].msg_hdr, flags) : line_sendmsg(fd, &m[sent].msg_hdr, flags);
    if (rc < 0)
      break;
    m[sent].msg_len = (unsigned)rc;
  }
  if (s)
    sock_put(s);
  return sent > 0 || rc >= 0 ? (int)sent : ldp_result((int)rc);
}
