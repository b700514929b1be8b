/*
 * Bells: making, ringing and draining (shm/bell.h, ARCHITECTURE section 7).
 *
 * Rung by whoever published something and saw `armed`; one system call each. Nothing the other end does to its
 * descriptor can make a ring block: towards an app it is a send with MSG_DONTWAIT on the services' own end, towards a
 * service an eventfd of which the service never depends on the flags.
 */
#include "shm/bell.h"

#include "base/err.h"

#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BELL_SNDBUF 4096 /* bytes; the kernel rounds up to its minimum: a few pending rings are as good as one */

int bell_pair(int fds[2]) {
  int small = BELL_SNDBUF;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
    return err_last();
  for (int i = 0; i < 2; i++) {
    if (setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) < 0) {
      int rc = err_last();
      close(fds[0]);
      close(fds[1]);
      fds[0] = fds[1] = -1;
      return rc;
    }
  }
  return 0;
}

int bell_ring_app(int fd) {
  static const uint8_t ding = 1;
  for (;;) {
    if (send(fd, &ding, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      return 0;
    if (errno == EINTR)
      continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
      return 0; /* full: it has been ringing for long */
    if (errno == EPIPE || errno == ECONNRESET)
      return -EPIPE;
    return err_last();
  }
}

int bell_ring_pair(int fd, const int pair[BELL_PAIR_FDS]) {
  uint8_t ding = BELL_PAIR;
  union {
    struct cmsghdr align;
    uint8_t buf[CMSG_SPACE(BELL_PAIR_FDS * sizeof(int))];
  } c;
  struct iovec iov = {.iov_base = &ding, .iov_len = 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c.buf};
  memset(&c, 0, sizeof c);
  struct cmsghdr *h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(BELL_PAIR_FDS * sizeof(int));
  memcpy(CMSG_DATA(h), pair, BELL_PAIR_FDS * sizeof(int));
  for (;;) {
    if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      return 0;
    if (errno != EINTR)
      return errno == EWOULDBLOCK ? -EAGAIN : err_last();
  }
}

/** Bytes of a read as the bell's functions see them. 1 there were some (`more`: perhaps not all), 0 none, -errno. */
static int bell_took(ssize_t n, size_t room, int any, int *more) {
  *more = n == (ssize_t)room || (n < 0 && errno == EINTR);
  if (n > 0 || *more || any || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)))
    return n > 0 || any;
  return n == 0 || errno == ECONNRESET ? -EPIPE : err_last();
}

int bell_drain(int fd) {
  uint8_t buf[256];
  int any = 0, more = 1;
  while (more && any >= 0) /* descriptors that come along are none of ours: recv drops them */
    any = bell_took(recv(fd, buf, sizeof buf, MSG_DONTWAIT), sizeof buf, any, &more);
  return any;
}

/** The descriptors of one message; anything but a whole pair is closed. 1 = a pair. */
static int bell_fds(struct msghdr *m, int pair[BELL_PAIR_FDS]) {
  struct cmsghdr *h = CMSG_FIRSTHDR(m);
  if (h == NULL || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
    return 0;
  size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < n && n != BELL_PAIR_FDS; i++) { /* cut short: no descriptors left in this process */
    int fd;
    memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
    close(fd);
  }
  if (n == BELL_PAIR_FDS)
    memcpy(pair, CMSG_DATA(h), n * sizeof(int));
  return n == BELL_PAIR_FDS;
}

int bell_drain_pair(int fd, int pair[BELL_PAIR_FDS]) {
  uint8_t buf[256];
  union {
    struct cmsghdr align;
    uint8_t buf[CMSG_SPACE(BELL_PAIR_FDS * sizeof(int))];
  } c;
  int any = 0, more = 1;
  while (more && any >= 0) {
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof buf};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c.buf};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n > 0 && bell_fds(&m, pair))
      return BELL_PAIR;
    any = bell_took(n, sizeof buf, any, &more);
    more |= n > 0; /* a read ends behind descriptors: there may be more */
  }
  return any;
}

int bell_doorbell(void) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd < 0 ? err_last() : fd;
}

int bell_ring_service(int fd) {
  uint64_t one = 1;
  for (;;) {
    if (write(fd, &one, sizeof one) >= 0)
      return 0;
    if (errno == EINTR)
      continue;
    return errno == EAGAIN ? 0 : err_last();
  }
}
