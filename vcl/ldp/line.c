/*
 * Calls on a socket of datagrams that came by exec: each is a question to the relay (line.h).
 *
 * Called by the interposed functions of the executed program, any thread, also in forked children. No lock and no
 * state but the line: options, names and queues are the relay's. SO_RCVTIMEO, SO_SNDTIMEO and O_NONBLOCK are the
 * line's own, as it is the kernel that waits.
 */
#include "line.h"

#include "base/bits.h"
#include "real.h"
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define LINE_IOV_MAX 4
#define LINE_SMALL   4096 /* bytes of a question or answer that need no heap: a signal handler may call */

uint32_t line_known;

bool line_look(int fd) {
  return relay_is_dgram(fd);
}

/* Passes one end of a question's own socket pair. 0 or -errno. */
static int line_pass(int fd, int end) {
  struct line_parcel pl;
  line_parcel_init(&pl);
  struct cmsghdr *c = CMSG_FIRSTHDR(&pl.m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(end));
  memcpy(CMSG_DATA(c), &end, sizeof(end));
  for (;;) {
    if (real.sendmsg(fd, &pl.m, MSG_NOSIGNAL) >= 0)
      return 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (errno == EAGAIN)
      (void)real.poll(&p, 1, -1);
    else if (errno != EINTR)
      return errno == EPIPE || errno == ECONNRESET ? -ENETDOWN : -errno;
  }
}

/* Asks. body: what follows the question; out: where the answer's name, control and data go. 0 or -errno: the relay is
 * gone (ENETDOWN). may_break: a signal may end the wait, as it changes nothing. */
static int line_question(int fd, struct line_ask *q, const struct iovec *body, int n_body, struct line_answer *a,
                         const struct iovec *out, int n_out, bool may_break) {
  struct iovec ask[LINE_IOV_MAX] = {{q, sizeof(*q)}}, got[LINE_IOV_MAX] = {{a, sizeof(*a)}};
  struct msghdr m = {.msg_iov = ask, .msg_iovlen = (size_t)n_body + 1};
  struct msghdr r = {.msg_iov = got, .msg_iovlen = (size_t)n_out + 1};
  struct timeval tv;
  socklen_t len = sizeof(tv);
  int two[2];
  q->magic = LINE_MAGIC;
  for (int i = 0; i < n_body; i++)
    ask[i + 1] = body[i];
  for (int i = 0; i < n_out; i++)
    got[i + 1] = out[i];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, two) < 0)
    return -errno;
  if (may_break && real.getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) == 0)
    (void)real.setsockopt(two[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
  int rc = real.sendmsg(two[0], &m, MSG_NOSIGNAL) < 0 ? -errno : line_pass(fd, two[1]);
  real.close(two[1]);
  while (rc == 0) {
    ssize_t n = real.recvmsg(two[0], &r, 0);
    if (n == (ssize_t)-1 && errno == EINTR && !may_break)
      continue;
    if (n < 0)
      rc = errno == ECONNRESET ? -ENETDOWN : -errno; /* the relay died with the question unread */
    else if (n < (ssize_t)sizeof(*a))
      rc = -ENETDOWN;
    break;
  }
  real.close(two[0]);
  return rc;
}

/* A question with nothing but numbers. Its result or -errno. */
static int line_plain(int fd, enum line_op op, int a, int b, bool may_break) {
  struct line_ask q = {.op = op, .a = a, .b = b};
  struct line_answer r;
  int rc = line_question(fd, &q, NULL, 0, &r, NULL, 0, may_break);
  return rc < 0 ? rc : (int)r.rc;
}

/* --- datagrams --- */

/* The byte is taken, and the relay hears of it: it looks again. */
static void line_drain(int fd) {
  char byte;
  if (real.recv(fd, &byte, 1, MSG_DONTWAIT) == 1)
    (void)real.send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void line_scatter(const struct msghdr *m, const char *from, size_t n) {
  for (size_t i = 0; i < m->msg_iovlen && n > 0; i++) {
    size_t part = m->msg_iov[i].iov_len < n ? m->msg_iov[i].iov_len : n;
    if (part > 0)
      memcpy(m->msg_iov[i].iov_base, from, part);
    from += part;
    n -= part;
  }
}

static size_t line_room(const struct msghdr *m) {
  size_t room = 0;
  for (size_t i = 0; i < m->msg_iovlen && room < LINE_DATA; i++)
    room += m->msg_iov[i].iov_len;
  return room < LINE_DATA ? room : LINE_DATA;
}

/* body: room for an answer to this. */
static ssize_t line_recv_once(int fd, struct msghdr *m, int flags, char *body) {
  struct line_ask q = {.op = LINE_RECV, .a = flags, .has_name = m->msg_name != NULL, .len = (uint32_t)line_room(m)};
  if (m->msg_name)
    q.name_len = HS_MIN(m->msg_namelen, (socklen_t)sizeof(struct sockaddr_storage));
  if (m->msg_control)
    q.control_len = (uint32_t)HS_MIN(m->msg_controllen, (size_t)LINE_CONTROL);
  struct line_answer r;
  struct iovec out = {body, sizeof(struct sockaddr_storage) + LINE_CONTROL + q.len};
  int rc = line_question(fd, &q, NULL, 0, &r, &out, 1, false);
  if (rc < 0)
    return rc;
  if (r.drained)
    line_drain(fd);
  if (r.rc < 0)
    return (ssize_t)r.rc;
  uint32_t named = r.name_len < q.name_len ? r.name_len : q.name_len;
  if (named > sizeof(struct sockaddr_storage) || r.control_len > q.control_len || r.len > q.len)
    return -EPROTO;
  if (m->msg_name)
    memcpy(m->msg_name, body, named);
  m->msg_namelen = m->msg_name ? r.name_len : m->msg_namelen;
  if (m->msg_control)
    memcpy(m->msg_control, body + named, r.control_len);
  m->msg_controllen = r.control_len;
  m->msg_flags = r.msg_flags;
  line_scatter(m, body + named + r.control_len, r.len);
  return (ssize_t)r.rc;
}

static ssize_t line_recv_wait(int fd, struct msghdr *m, int flags, char *body) {
  for (;;) {
    char byte;
    ssize_t rc = line_recv_once(fd, m, flags, body);
    if (rc != -EAGAIN || (flags & (MSG_DONTWAIT | MSG_ERRQUEUE)))
      return rc;
    rc = real.recv(fd, &byte, 1, MSG_PEEK); /* the kernel waits, or does not */
    if (rc <= 0)
      return rc < 0 ? -errno : -ENETDOWN;
  }
}

ssize_t line_recvmsg(int fd, struct msghdr *m, int flags) {
  char small[LINE_SMALL];
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  size_t most = sizeof(struct sockaddr_storage) + LINE_CONTROL + line_room(m);
  char *body = most <= sizeof(small) ? small : malloc(most);
  if (!body)
    return -ENOMEM;
  ssize_t rc = line_recv_wait(fd, m, flags, body);
  if (body != small)
    free(body);
  return rc;
}

ssize_t line_recv(int fd, const struct iovec *iov, size_t n, int flags) {
  struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
  return line_recvmsg(fd, &m, flags);
}

static ssize_t line_send_wait(int fd, const struct msghdr *m, int flags, char *body, size_t n) {
  int fl = real.fcntl(fd, F_GETFL);
  bool waits = !(flags & MSG_DONTWAIT) && !(fl >= 0 && (fl & O_NONBLOCK));
  for (;;) {
    struct line_ask q = {.op = LINE_SEND, .a = flags, .len = (uint32_t)n};
    struct line_answer r;
    q.name_len = m->msg_name ? m->msg_namelen : 0;
    q.control_len = m->msg_control ? (uint32_t)m->msg_controllen : 0;
    struct iovec all[3] = {{m->msg_name, q.name_len}, {m->msg_control, q.control_len}, {body, n}};
    int rc = line_question(fd, &q, all, 3, &r, NULL, 0, false);
    if (rc < 0 || r.rc != -EAGAIN || !waits)
      return rc < 0 ? rc : (ssize_t)r.rc;
    rc = line_plain(fd, LINE_ROOM, 0, 0, true);
    if (rc < 0 && rc != -EBUSY)
      return rc;
  }
}

ssize_t line_sendmsg(int fd, const struct msghdr *m, int flags) {
  char small[LINE_SMALL];
  size_t at = 0, total = 0;
  if (m->msg_iovlen > IOV_MAX || m->msg_controllen > LINE_CONTROL)
    return m->msg_iovlen > IOV_MAX ? -EMSGSIZE : -ENOBUFS;
  if (m->msg_name && m->msg_namelen > sizeof(struct sockaddr_storage))
    return -EINVAL;
  for (size_t i = 0; i < m->msg_iovlen; i++) {
    if (m->msg_iov[i].iov_len > LINE_DATA - total)
      return -EMSGSIZE;
    total += m->msg_iov[i].iov_len;
  }
  char *body = total <= sizeof(small) ? small : malloc(total);
  if (!body)
    return -ENOBUFS;
  for (size_t i = 0; i < m->msg_iovlen; i++) {
    if (m->msg_iov[i].iov_len > 0)
      memcpy(body + at, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
    at += m->msg_iov[i].iov_len;
  }
  ssize_t rc = line_send_wait(fd, m, flags, body, total);
  if (body != small)
    free(body);
  return rc;
}

ssize_t line_send(int fd, const struct iovec *iov, size_t n, int flags) {
  struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
  return line_sendmsg(fd, &m, flags);
}

/* --- all else --- */

int line_address(int fd, enum line_op op, const struct sockaddr *sa, socklen_t len) {
  struct line_ask q = {.op = op, .name_len = len};
  struct line_answer r;
  struct iovec v = {(void *)(uintptr_t)sa, len};
  if (!sa)
    return -EFAULT;
  if (len > sizeof(struct sockaddr_storage))
    return -EINVAL;
  int rc = line_question(fd, &q, &v, 1, &r, NULL, 0, false);
  return rc < 0 ? rc : (int)r.rc;
}

int line_name(int fd, enum line_op op, struct sockaddr *sa, socklen_t *len) {
  char body[sizeof(struct sockaddr_storage)];
  struct line_ask q = {.op = op, .name_len = sizeof(body)};
  struct line_answer r;
  struct iovec v = {body, sizeof(body)};
  int rc = line_question(fd, &q, NULL, 0, &r, &v, 1, false);
  if (rc < 0 || r.rc < 0)
    return rc < 0 ? rc : (int)r.rc;
  if (r.name_len > sizeof(body))
    return -EPROTO;
  memcpy(sa, body, *len < r.name_len ? *len : r.name_len);
  *len = r.name_len;
  return 0;
}

int line_call(int fd, enum line_op op, int arg) {
  return line_plain(fd, op, arg, 0, false);
}

static bool line_is_timeo(int level, int name) {
  return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO || name == 66 || name == 67);
}

int line_getsockopt(int fd, int level, int name, void *val, socklen_t *len) {
  char body[LINE_CONTROL];
  if (!len || (!val && *len > 0))
    return -EFAULT;
  if (line_is_timeo(level, name))
    return real.getsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
  if ((int)*len < 0)
    return -EINVAL;
  struct line_ask q = {.op = LINE_GETOPT, .a = level, .b = name};
  struct line_answer r;
  q.control_len = *len < sizeof(body) ? *len : sizeof(body);
  struct iovec v = {body, sizeof(body)};
  int rc = line_question(fd, &q, NULL, 0, &r, &v, 1, false);
  if (rc < 0 || r.rc < 0)
    return rc < 0 ? rc : (int)r.rc;
  if (r.control_len > q.control_len)
    return -EPROTO;
  memcpy(val, body, r.control_len);
  *len = r.control_len;
  return 0;
}

int line_setsockopt(int fd, int level, int name, const void *val, socklen_t len) {
  if (line_is_timeo(level, name))
    return real.setsockopt(fd, level, name, val, len) < 0 ? -errno : 0;
  if ((int)len < 0 || len > LINE_CONTROL)
    return -EINVAL;
  if (!val && len > 0)
    return -EFAULT;
  struct line_ask q = {.op = LINE_SETOPT, .a = level, .b = name, .control_len = len};
  struct line_answer r;
  struct iovec v = {(void *)(uintptr_t)val, len};
  int rc = line_question(fd, &q, &v, 1, &r, NULL, 0, false);
  return rc < 0 ? rc : (int)r.rc;
}

int line_ioctl(int fd, unsigned long req, void *arg) {
  if (req != FIONREAD && req != SIOCOUTQ)
    return -ENOSYS;
  int rc = line_plain(fd, LINE_IOCTL, (int)req, 0, false);
  if (rc < 0)
    return rc;
  *(int *)arg = rc;
  return 0;
}
