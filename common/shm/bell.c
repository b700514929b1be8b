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

int bell_ring_pair(int fd) {
  static const uint8_t ding = BELL_PAIR;
  for (;;) {
    if (send(fd, &ding, 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      return 0;
    if (errno != EINTR)
      return errno == EWOULDBLOCK ? -EAGAIN : err_last();
  }
}

int bell_drain(int fd) {
  int pair;
  return bell_drain_pair(fd, &pair);
}

int bell_drain_pair(int fd, int *pair) {
  uint8_t buf[256];
  int any = 0;
  for (;;) {
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n > 0) {
      any = 1;
      if (memchr(buf, BELL_PAIR, (size_t)n) != NULL)
        *pair = 1;
      if ((size_t)n < sizeof buf)
        return 1;
      continue;
    }
    if (n < 0 && errno == EINTR)
      continue;
    if (any || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)))
      return any;
    return n == 0 || errno == ECONNRESET ? -EPIPE : err_last();
  }
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
