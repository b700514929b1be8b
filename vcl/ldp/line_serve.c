/*
 * The relay's side of a line (line.h): answers the questions about a socket of datagrams. In the relay's one thread.
 *
 * What a question says was written by the program that was executed, which may be another one than the question's
 * format is known to: lengths are checked, and what is no question is thrown away. No call waits, but connect and
 * memberships, which wait for the engine. (The interposed recvmsg and their like would be the kernel's in here.)
 *
 * Whether a byte lies in the line is asked of the kernel (SIOCOUTQ), never remembered: whoever holds the other end may
 * die at any time.
 */
#include "line.h"

#include "app.h"
#include "base/bits.h"
#include "export.h"
#include "fd.h"
#include "io.h"
#include "real.h"
#include "sock.h"
#include "udp.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LINE_LOOK_MS 50 /* until the byte is known to be taken */

/* One question at a time: name, control, data of question and answer. */
static struct {
  struct line_ask q;
  _Alignas(16) char name[sizeof(struct sockaddr_storage)];
  _Alignas(16) char control[LINE_CONTROL];
  char data[LINE_DATA];
} line_in;

static bool line_has_byte(const struct line_end *l) {
  int n = 0;
  return real.ioctl(l->line, SIOCOUTQ, &n) == 0 && n > 0;
}

static bool line_readable(const struct line_end *l) {
  return (vcl_session_events(l->s->h) & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0;
}

static bool line_has_room(const struct line_end *l) {
  return (vcl_session_events(l->s->h) & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0;
}

/* --- one question --- */

/* Reads it whole. 0 or -EPROTO. */
static int line_take_question(int fd) {
  static char all[sizeof(struct line_ask) + sizeof(struct sockaddr_storage) + LINE_CONTROL + LINE_DATA];
  ssize_t n = real.recv(fd, all, sizeof(all), MSG_DONTWAIT);
  struct line_ask *q = &line_in.q;
  if (n < (ssize_t)sizeof(*q))
    return -EPROTO;
  memcpy(q, all, sizeof(*q));
  if (q->magic != LINE_MAGIC || q->name_len > sizeof(line_in.name) || q->control_len > LINE_CONTROL ||
      q->len > LINE_DATA)
    return -EPROTO;
  size_t given = (size_t)n - sizeof(*q);
  const char *from = all + sizeof(*q);
  if (given == 0) /* lengths are rooms */
    return 0;
  size_t data = q->op == LINE_SEND ? q->len : 0;
  if (given != (size_t)q->name_len + q->control_len + data)
    return -EPROTO;
  memcpy(line_in.name, from, q->name_len);
  memcpy(line_in.control, from + q->name_len, q->control_len);
  memcpy(line_in.data, from + q->name_len + q->control_len, data);
  return 0;
}

static int64_t line_result(ssize_t rc) {
  return rc < 0 ? -(int64_t)errno : rc;
}

static void line_do_recv(const struct line_end *l, struct line_answer *r) {
  struct line_ask *q = &line_in.q;
  struct iovec v = {line_in.data, q->len};
  struct msghdr m = {.msg_iov = &v,
                     .msg_iovlen = 1,
                     .msg_name = q->has_name ? line_in.name : NULL,
                     .msg_namelen = q->name_len,
                     .msg_control = q->control_len ? line_in.control : NULL,
                     .msg_controllen = q->control_len};
  r->rc = udp_recvmsg(l->s, &m, (q->a & ~(MSG_WAITALL | MSG_WAITFORONE)) | MSG_DONTWAIT);
  if (r->rc >= 0) {
    r->name_len = q->has_name ? m.msg_namelen : 0;
    r->control_len = (uint32_t)m.msg_controllen;
    r->len = r->rc < (int64_t)q->len ? (uint32_t)r->rc : q->len;
    r->msg_flags = m.msg_flags;
  }
}

static void line_do_send(const struct line_end *l, struct line_answer *r) {
  struct line_ask *q = &line_in.q;
  struct iovec v = {line_in.data, q->len};
  struct msghdr m = {.msg_iov = &v,
                     .msg_iovlen = 1,
                     .msg_name = q->name_len ? line_in.name : NULL,
                     .msg_namelen = q->name_len,
                     .msg_control = q->control_len ? line_in.control : NULL,
                     .msg_controllen = q->control_len};
  r->rc = udp_sendmsg(l->s, -1, &m, q->a | MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void line_do_name(const struct line_end *l, struct line_answer *r, bool peer) {
  socklen_t len = sizeof(line_in.name);
  struct sockaddr *sa = (struct sockaddr *)line_in.name;
  r->rc = line_result(peer ? ldp_getpeername(l->fd, sa, &len) : ldp_getsockname(l->fd, sa, &len));
  r->name_len = r->rc < 0 ? 0 : len;
}

static int line_do_ioctl(const struct line_end *l, unsigned long req) {
  int n = 0;
  uint32_t len = sizeof(n);
  if (req == FIONREAD)
    return HS_MAX(vppcom_session_attr(l->s->h, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 0);
  int rc = vcl_opt_get(l->s->h, VCL_OPT_OUTQ, &n, &len);
  return rc < 0 ? rc : n;
}

static void line_do(const struct line_end *l, struct line_answer *r) {
  struct line_ask *q = &line_in.q;
  const struct sockaddr *sa = (const struct sockaddr *)line_in.name;
  socklen_t len = q->control_len;
  switch (q->op) {
  case LINE_RECV:
    line_do_recv(l, r);
    return;
  case LINE_SEND:
    line_do_send(l, r);
    return;
  case LINE_BIND:
    r->rc = line_result(ldp_bind(l->fd, sa, q->name_len));
    return;
  case LINE_CONNECT:
    r->rc = q->name_len < sizeof(sa_family_t) ? -EINVAL : udp_connect(l->s, l->fd, sa, q->name_len);
    return;
  case LINE_LISTEN:
    r->rc = line_result(ldp_listen(l->fd, q->a));
    return;
  case LINE_SHUTDOWN:
    r->rc = calls_shutdown(l->s, q->a);
    return;
  case LINE_SOCKNAME:
  case LINE_PEERNAME:
    line_do_name(l, r, q->op == LINE_PEERNAME);
    return;
  case LINE_GETOPT:
    r->rc = opt_get(l->s, q->a, q->b, line_in.control, &len);
    r->control_len = r->rc < 0 ? 0 : len;
    return;
  case LINE_SETOPT:
    r->rc = opt_set(l->s, q->a, q->b, line_in.control, len);
    return;
  case LINE_IOCTL:
    r->rc = line_do_ioctl(l, (unsigned long)(uint32_t)q->a);
    return;
  default:
    r->rc = -EOPNOTSUPP;
  }
}

static void line_tell(int fd, const struct line_answer *r) {
  struct iovec v[4] = {{(void *)(uintptr_t)r, sizeof(*r)},
                       {line_in.name, r->name_len < line_in.q.name_len ? r->name_len : line_in.q.name_len},
                       {line_in.control, r->control_len},
                       {line_in.data, r->len}};
  struct msghdr m = {.msg_iov = v, .msg_iovlen = 4};
  (void)real.sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
  real.close(fd);
}

static void line_park(struct line_end *l, int fd) {
  struct line_answer r = {.rc = -EBUSY};
  line_in.q.name_len = 0;
  if (l->n_parked < LINE_PARKED && !line_has_room(l)) {
    l->parked[l->n_parked++] = fd;
    return;
  }
  r.rc = line_has_room(l) ? 0 : -EBUSY;
  line_tell(fd, &r);
}

static void line_serve_one(struct line_end *l, int fd) {
  struct line_answer r;
  memset(&r, 0, sizeof(r));
  if (line_take_question(fd) < 0) {
    real.close(fd);
    return;
  }
  if (line_in.q.op == LINE_ROOM) {
    line_park(l, fd);
    return;
  }
  line_do(l, &r);
  if (line_in.q.op == LINE_RECV && line_has_byte(l) && !line_readable(l))
    r.drained = l->told = true;
  line_tell(fd, &r);
}

/* The next message of the line: a descriptor, -1: a byte was taken, -EAGAIN, -EPIPE: the program has closed it. */
static int line_next(int line) {
  struct line_parcel pl;
  line_parcel_init(&pl);
  ssize_t n = real.recvmsg(line, &pl.m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0)
    return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
  struct cmsghdr *c = CMSG_FIRSTHDR(&pl.m);
  if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
  }
  return n == 0 ? -EPIPE : -1;
}

/* --- the line --- */

int line_serve_wait(const struct line_end *l, struct pollfd *sock, struct pollfd *line) {
  bool waits = !l->told && !line_has_byte(l);
  sock->events = (short)((waits ? POLLIN : 0) | (l->n_parked ? POLLOUT : 0));
  sock->fd = sock->events ? l->fd : -1;
  line->events = POLLIN;
  line->fd = l->line;
  return l->told ? LINE_LOOK_MS : -1;
}

void line_serve(struct line_end *l, short sock_events, short line_events) {
  int fd;
  if (line_events == 0 && l->told)
    l->told = line_has_byte(l); /* who was to take it may have died */
  while ((fd = line_next(l->line)) != -EAGAIN) {
    if (fd == -EPIPE) {
      l->gone = true;
      break;
    }
    if (fd >= 0)
      line_serve_one(l, fd);
    else
      l->told = false;
  }
  if (!l->gone && l->n_parked && (sock_events & (POLLOUT | POLLERR | POLLHUP))) {
    struct line_answer r = {.rc = 0};
    line_in.q.name_len = 0;
    while (l->n_parked)
      line_tell(l->parked[--l->n_parked], &r);
  }
  while (l->gone && l->n_parked)
    real.close(l->parked[--l->n_parked]);
  if (!l->gone && !l->told && !line_has_byte(l) && line_readable(l))
    (void)real.send(l->line, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}
