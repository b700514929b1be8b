/*
 * Interposed calls of a socket's life: socket bind listen accept connect names options shutdown.
 *
 * Called by the program, any thread. A descriptor that is not ours goes straight to libc. RFC 9293 3.9.1 user calls
 * with the errno values of Linux' socket(2) family.
 */
#include "addr.h"
#include "app.h"
#include "export.h"
#include "fork.h"
#include "io.h"
#include "line.h"
#include "real.h"
#include "relay.h"
#include "share.h"
#include "sock.h"
#include "udp.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

int ldp_result(int rc) {
  if (rc >= 0)
    return rc;
  errno = -rc;
  return -1;
}

ssize_t ldp_result_long(ssize_t rc) {
  if (rc >= 0)
    return rc;
  errno = (int)-rc;
  return -1;
}

static bool calls_for_stack(int domain, int type, int proto) {
  int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  if ((domain != AF_INET && domain != AF_INET6) || fd_foreign_process())
    return false;
  return (kind == SOCK_STREAM && (proto == 0 || proto == IPPROTO_TCP)) ||
         (kind == SOCK_DGRAM && (proto == 0 || proto == IPPROTO_UDP));
}

int ldp_socket(int domain, int type, int proto) {
  if (!calls_for_stack(domain, type, proto))
    return real.socket(domain, type, proto);
  int rc = app_attach();
  if (rc < 0)
    return ldp_result(rc);
  if (rc == 0) {
    app_count(APP_KERNEL);
    return real.socket(domain, type, proto);
  }
  struct sock *s = sock_new(domain, type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), type & SOCK_NONBLOCK ? SOCK_F_NONBLOCK : 0);
  if (!s)
    return -1;
  return ldp_result(sock_install(s, (type & SOCK_CLOEXEC) != 0));
}

/* Sessions are nonblocking for the library beneath; bind and listen of a blocking socket wait for the broker, though,
 * at most the application's time-out (ETIMEDOUT). Nobody reads or accepts at that stage of its life. */
static void calls_may_wait(struct sock *s, bool may) {
  uint32_t flags = may ? 0 : O_NONBLOCK, len = sizeof(flags);
  if (!(sock_flags(s) & (SOCK_F_NONBLOCK | SOCK_F_LISTENING)))
    (void)vppcom_session_attr(s->h, VPPCOM_ATTR_SET_FLAGS, &flags, &len);
}

static int calls_bind(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len) {
  struct addr_ep e;
  struct sockaddr_in any;
  if (sa && s->domain == AF_INET && len >= sizeof(any) && sa->sa_family == AF_UNSPEC) {
    memcpy(&any, sa, sizeof(any)); /* bind(2) of Linux takes AF_UNSPEC with 0.0.0.0 for AF_INET */
    if (any.sin_addr.s_addr != INADDR_ANY)
      return -EAFNOSUPPORT;
    any.sin_family = AF_INET;
    sa = (const struct sockaddr *)&any;
  }
  if (sock_is_dgram(s))
    return udp_bind(s, fd, sa, len);
  int rc = addr_from_sockaddr(&e, s->domain, sa, len);
  if (rc < 0)
    return rc;
  if (sock_flags(s) & (SOCK_F_BOUND | SOCK_F_CONNECTING | SOCK_F_CONNECTED))
    return -EINVAL;
  if (addr_is_loopback(&e) && !app_env.loopback) {
    rc = sock_move_to_kernel(s);
    if (rc < 0)
      return rc;
    app_say(2, "fd %d: bound to loopback, so it is a kernel socket", fd);
    return real.bind(fd, sa, len) < 0 ? -errno : 0;
  }
  calls_may_wait(s, true);
  rc = vppcom_session_bind(s->h, &e.ep);
  calls_may_wait(s, false);
  if (rc >= 0)
    sock_raise(s, SOCK_F_BOUND);
  return rc > 0 ? 0 : rc;
}

int ldp_bind(int fd, const struct sockaddr *sa, socklen_t len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(line_address(fd, LINE_BIND, sa, len)) : real.bind(fd, sa, len);
  int rc = calls_bind(s, fd, sa, len);
  sock_put(s);
  return ldp_result(rc);
}

int ldp_listen(int fd, int backlog) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(line_call(fd, LINE_LISTEN, backlog)) : real.listen(fd, backlog);
  int rc = 0;
  uint32_t flags = sock_flags(s);
  if (sock_is_dgram(s)) {
    rc = -EOPNOTSUPP;
  } else if (flags & (SOCK_F_CONNECTED | SOCK_F_CONNECTING)) {
    rc = -EINVAL;
  } else {
    calls_may_wait(s, true);
    if (!(flags & SOCK_F_BOUND)) { /* listen on an unbound socket takes any address and a free port */
      struct addr_ep any;
      addr_ep_init(&any);
      any.ep.is_ip4 = s->domain == AF_INET;
      rc = vppcom_session_bind(s->h, &any.ep);
    }
    if (rc >= 0)
      rc = vppcom_session_listen(s->h, backlog < 0 ? SOMAXCONN : (uint32_t)backlog);
    calls_may_wait(s, false);
    if (rc >= 0 && !(flags & SOCK_F_LISTENING))
      fork_count_listener(1);
    if (rc >= 0)
      sock_raise(s, SOCK_F_BOUND | SOCK_F_LISTENING);
  }
  sock_put(s);
  return ldp_result(rc > 0 ? 0 : rc);
}

/* Next connection of the listener: a session handle or -errno. With a handle *seat is its number to be: got first, so
 * that a process without a free number leaves the connection in the queue (EMFILE), as on Linux. */
static int calls_accept_session(struct sock *s, struct addr_ep *peer, int *seat) {
  share_sweep();
  for (;;) {
    if (!(sock_flags(s) & SOCK_F_LISTENING)) /* shut down, perhaps while we waited */
      return -EINVAL;
    *seat = fd_seat();
    if (*seat < 0)
      return *seat;
    addr_ep_init(peer);
    int h = vppcom_session_accept(s->h, &peer->ep, O_NONBLOCK);
    if (h >= 0)
      return h;
    real.close(*seat);
    if (h != -EAGAIN || (sock_flags(s) & SOCK_F_NONBLOCK))
      return h;
    int rc = sock_wait(s, EPOLLIN, s->rcvtimeo_us, false);
    if (rc < 0 && rc != -EBADF && rc != -EBADFD)
      return rc;
  }
}

static int calls_accept(struct sock *s, struct sockaddr *sa, socklen_t *len, int flags) {
  struct addr_ep peer;
  int seat;
  if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
    return -EINVAL;
  if (sock_is_dgram(s))
    return -EOPNOTSUPP;
  int h = calls_accept_session(s, &peer, &seat);
  if (h < 0)
    return h;
  struct sock *a = sock_new_accepted(s, (uint32_t)h, flags & SOCK_NONBLOCK ? SOCK_F_NONBLOCK : 0);
  if (!a) {
    (void)vppcom_session_close((uint32_t)h);
    real.close(seat);
    return -ENOMEM;
  }
  int fd = sock_install_at(a, seat, (flags & SOCK_CLOEXEC) != 0);
  if (fd >= 0 && sa && len)
    (void)addr_to_sockaddr(&peer, s->domain, sa, len);
  return fd;
}

int ldp_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(-EOPNOTSUPP) : real.accept4(fd, sa, len, flags);
  int rc = calls_accept(s, sa, len, flags);
  sock_put(s);
  return ldp_result(rc);
}

int ldp_accept(int fd, struct sockaddr *sa, socklen_t *len) {
  if (!fd_ours(fd) && !line_is(fd))
    return real.accept(fd, sa, len);
  return ldp_accept4(fd, sa, len, 0);
}

/* Blocks until the connect under way is done: as connect(2), EINPROGRESS when SO_SNDTIMEO ran out. */
static int calls_connect_wait(struct sock *s) {
  for (;;) {
    int rc = sock_connect_outcome(s);
    if (rc != -EINPROGRESS)
      return rc;
    if (sock_flags(s) & SOCK_F_NONBLOCK)
      return -EINPROGRESS;
    rc = sock_wait(s, EPOLLOUT, s->sndtimeo_us, false);
    if (rc < 0)
      return rc == -EAGAIN ? -EINPROGRESS : rc;
  }
}

static int calls_connect_kernel(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len) {
  int rc = sock_move_to_kernel(s);
  if (rc < 0)
    return rc;
  app_say(2, "fd %d: connects to loopback, so it is a kernel socket", fd);
  return real.connect(fd, sa, len) < 0 ? -errno : 0;
}

static int calls_connect(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len) {
  struct addr_ep e;
  if (!sa)
    return -EFAULT;
  if (len < sizeof(sa_family_t))
    return -EINVAL;
  if (sock_is_dgram(s))
    return udp_connect(s, fd, sa, len);
  uint32_t flags = sock_flags(s);
  if (sa->sa_family == AF_UNSPEC) /* dissolves the association, connect(2) */
    return sock_renew(s);
  if (flags & SOCK_F_CONNECTING) {
    if (sock_is_deferred(s))
      return -EISCONN;
    int rc = calls_connect_wait(s);
    return rc == -EINPROGRESS ? -EALREADY : rc;
  }
  if (flags & (SOCK_F_LISTENING | SOCK_F_CONNECTED))
    return -EISCONN;
  int rc = addr_from_sockaddr(&e, s->domain, sa, len);
  if (rc < 0)
    return rc;
  if ((addr_is_loopback(&e) || addr_is_any(&e)) && !app_env.loopback)
    return calls_connect_kernel(s, fd, sa, len);
  if ((flags & SOCK_F_FAILED) && (rc = sock_renew(s)) < 0)
    return rc;
  rc = vppcom_session_connect(s->h, &e.ep);
  if (rc < 0 && rc != -EINPROGRESS && rc != -EAGAIN) {
    sock_raise(s, SOCK_F_FAILED);
    return rc;
  }
  sock_raise(s, SOCK_F_CONNECTING | SOCK_F_BOUND);
  if (rc == 0 && sock_is_deferred(s)) /* TCP_FASTOPEN_CONNECT: the first write connects */
    return 0;
  if (sock_flags(s) & SOCK_F_NONBLOCK) /* also when it is done by now: programs expect the one answer */
    return -EINPROGRESS;
  return calls_connect_wait(s);
}

/* MSG_FASTOPEN before anything is sent: as connect(), but 0 also means that the bytes may be written now. */
static int calls_fast_begin(struct sock *s, const struct sockaddr *sa, socklen_t len, struct addr_ep *e) {
  uint32_t flags = sock_flags(s);
  if (flags & SOCK_F_CONNECTING)
    return -EALREADY;
  if (flags & (SOCK_F_LISTENING | SOCK_F_CONNECTED))
    return -EISCONN;
  if (!sa || len < sizeof(sa_family_t))
    return -EINVAL;
  if (sa->sa_family == AF_UNSPEC)
    return -EOPNOTSUPP;
  return addr_from_sockaddr(e, s->domain, sa, len);
}

ssize_t calls_send_fast(struct sock *s, int fd, const struct msghdr *m, int flags) {
  struct addr_ep e;
  int plain = flags & ~MSG_FASTOPEN, nonblock = (flags & MSG_DONTWAIT) || (sock_flags(s) & SOCK_F_NONBLOCK);
  int rc = calls_fast_begin(s, m->msg_name, m->msg_namelen, &e);
  if (rc < 0)
    return rc;
  if ((addr_is_loopback(&e) || addr_is_any(&e)) && !app_env.loopback) {
    rc = sock_move_to_kernel(s);
    ssize_t sent = rc < 0 ? rc : real.sendmsg(fd, m, flags);
    return sent < 0 && rc == 0 ? -errno : sent;
  }
  if ((sock_flags(s) & SOCK_F_FAILED) && (rc = sock_renew(s)) < 0)
    return rc;
  rc = vcl_fastopen(s->h, &e.ep);
  if (rc < 0 && rc != -EINPROGRESS) {
    if (rc != -EOPNOTSUPP)
      sock_raise(s, SOCK_F_FAILED);
    return rc;
  }
  sock_raise(s, SOCK_F_CONNECTING | SOCK_F_BOUND);
  ssize_t sent = 0;
  if (rc == 0)
    sent = io_send(s, m->msg_iov, m->msg_iovlen, plain | MSG_DONTWAIT);
  if (sent < 0 && sent != -EAGAIN)
    return sent;
  if (nonblock)
    return sent > 0 ? sent : -EINPROGRESS;
  rc = calls_connect_wait(s);
  if (rc < 0)
    return rc;
  ssize_t more = io_send_from(s, m->msg_iov, m->msg_iovlen, sent > 0 ? (size_t)sent : 0, plain);
  return more < 0 && sent > 0 ? sent : more;
}

int ldp_connect(int fd, const struct sockaddr *sa, socklen_t len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(line_address(fd, LINE_CONNECT, sa, len)) : real.connect(fd, sa, len);
  int rc = calls_connect(s, fd, sa, len);
  sock_put(s);
  return ldp_result(rc);
}

int ldp___connect(int fd, const struct sockaddr *sa, socklen_t len) {
  return ldp_connect(fd, sa, len);
}

static int calls_name(struct sock *s, uint32_t attr, struct sockaddr *sa, socklen_t *len) {
  struct addr_ep e;
  uint32_t size = sizeof(e.ep);
  addr_ep_init(&e);
  if (attr == VPPCOM_ATTR_GET_PEER_ADDR && !sock_is_connected(s))
    return -ENOTCONN;
  bool named = sock_flags(s) & (SOCK_F_BOUND | SOCK_F_CONNECTED | SOCK_F_CONNECTING | SOCK_F_NAMED);
  int rc = named ? vppcom_session_attr(s->h, attr, &e.ep, &size) : 0;
  return rc < 0 ? rc : addr_to_sockaddr(&e, s->domain, sa, len);
}

int ldp_getsockname(int fd, struct sockaddr *sa, socklen_t *len) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return ldp_result(line_name(fd, LINE_SOCKNAME, sa, len));
  if (!s)
    return relay_name(fd, false, sa, len) == 0 ? 0 : real.getsockname(fd, sa, len);
  int rc = calls_name(s, VPPCOM_ATTR_GET_LCL_ADDR, sa, len);
  sock_put(s);
  return ldp_result(rc);
}

int ldp_getpeername(int fd, struct sockaddr *sa, socklen_t *len) {
  struct sock *s = sock_get(fd);
  if (!s && line_is(fd))
    return ldp_result(line_name(fd, LINE_PEERNAME, sa, len));
  if (!s)
    return relay_name(fd, true, sa, len) == 0 ? 0 : real.getpeername(fd, sa, len);
  int rc = calls_name(s, VPPCOM_ATTR_GET_PEER_ADDR, sa, len);
  sock_put(s);
  return ldp_result(rc);
}

/* The kernel's numbers, and those that came by exec. */
static int calls_getsockopt_kernel(int fd, int level, int name, void *val, socklen_t *len) {
  int value;
  if (line_is(fd))
    return ldp_result(line_getsockopt(fd, level, name, val, len));
  if (!val || !len || *len < sizeof(value) || relay_option(fd, level, name, &value) < 0)
    return real.getsockopt(fd, level, name, val, len);
  memcpy(val, &value, sizeof(value));
  *len = sizeof(value);
  return 0;
}

int ldp_getsockopt(int fd, int level, int name, void *val, socklen_t *len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return calls_getsockopt_kernel(fd, level, name, val, len);
  int rc = opt_get(s, level, name, val, len);
  sock_put(s);
  return ldp_result(rc);
}

int ldp_setsockopt(int fd, int level, int name, const void *val, socklen_t len) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(line_setsockopt(fd, level, name, val, len))
                       : real.setsockopt(fd, level, name, val, len);
  int rc = opt_set(s, level, name, val, len);
  sock_put(s);
  return ldp_result(rc);
}

/* With RD the listener stops listening: who waits in accept() gets EINVAL, who connects is refused. */
static int calls_shutdown_listener(struct sock *s, int how) {
  if (how == SHUT_WR)
    return 0;
  sock_clear(s, SOCK_F_LISTENING);
  fork_count_listener(-1);
  int rc = vppcom_session_shutdown(s->h, how);
  return rc < 0 ? rc : sock_renew(s);
}

int calls_shutdown(struct sock *s, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR)
    return -EINVAL;
  if (sock_flags(s) & SOCK_F_LISTENING)
    return calls_shutdown_listener(s, how);
  if (!sock_is_connected(s))
    return -ENOTCONN;
  int rc = vppcom_session_shutdown(s->h, how);
  if (rc < 0)
    return rc;
  sock_raise(s, (how != SHUT_WR ? SOCK_F_SHUT_RD : 0) | (how != SHUT_RD ? SOCK_F_SHUT_WR : 0));
  return 0;
}

int ldp_shutdown(int fd, int how) {
  struct sock *s = sock_get(fd);
  if (!s)
    return line_is(fd) ? ldp_result(line_call(fd, LINE_SHUTDOWN, how)) : real.shutdown(fd, how);
  int rc = calls_shutdown(s, how);
  sock_put(s);
  return ldp_result(rc);
}
