/*
 * Interposed select and pselect: the bits become poll entries and back. Called by the program, any thread.
 *
 * The sets are walked as words, not by FD_ISSET, so programs with sets beyond FD_SETSIZE work.
 */
#include "epoll.h"
#include "export.h"
#include "poll_any.h"
#include "real.h"
#include "sleep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SELECT_BITS     (8u * sizeof(unsigned long))
#define SELECT_ON_STACK 64
/* Which poll bits mean readable, writable, exceptional: as the kernel's select counts them. */
#define SELECT_IN  (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SELECT_OUT (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define SELECT_PRI POLLPRI

static bool select_test(const fd_set *set, int fd) {
  const unsigned long *words = (const unsigned long *)(const void *)set;
  return set && (words[(unsigned)fd / SELECT_BITS] >> ((unsigned)fd % SELECT_BITS)) & 1;
}

static void select_put(fd_set *set, int fd) {
  unsigned long *words = (unsigned long *)(void *)set;
  words[(unsigned)fd / SELECT_BITS] |= 1ul << ((unsigned)fd % SELECT_BITS);
}

static void select_zero(fd_set *set, int n) {
  if (set)
    memset(set, 0, ((unsigned)n + SELECT_BITS - 1) / SELECT_BITS * sizeof(unsigned long));
}

static short select_events(int fd, const fd_set *r, const fd_set *w, const fd_set *e) {
  unsigned events = (select_test(r, fd) ? (unsigned)POLLIN : 0) | (select_test(w, fd) ? (unsigned)POLLOUT : 0) |
                    (select_test(e, fd) ? (unsigned)POLLPRI : 0);
  return (short)events;
}

/* How many numbers below n are in a set, and whether one of them is ours. */
static nfds_t select_count(int n, const fd_set *r, const fd_set *w, const fd_set *e, bool *ours) {
  nfds_t count = 0;
  *ours = false;
  for (int fd = 0; fd < n; fd++) {
    if (!select_events(fd, r, w, e))
      continue;
    count++;
    *ours = *ours || fd_ours(fd);
  }
  return count;
}

/* Back into the sets. Number of bits, or -EBADF. */
static int select_result(const struct pollfd *p, nfds_t count, int n, fd_set *r, fd_set *w, fd_set *e) {
  int bits = 0;
  for (nfds_t i = 0; i < count; i++)
    if (p[i].revents & POLLNVAL)
      return -EBADF;
  select_zero(r, n);
  select_zero(w, n);
  select_zero(e, n);
  for (nfds_t i = 0; i < count; i++) {
    if ((p[i].events & POLLIN) && (p[i].revents & SELECT_IN)) {
      select_put(r, p[i].fd);
      bits++;
    }
    if ((p[i].events & POLLOUT) && (p[i].revents & SELECT_OUT)) {
      select_put(w, p[i].fd);
      bits++;
    }
    if ((p[i].events & POLLPRI) && (p[i].revents & SELECT_PRI)) {
      select_put(e, p[i].fd);
      bits++;
    }
  }
  return bits;
}

static int select_any(int n, fd_set *r, fd_set *w, fd_set *e, nfds_t count, int64_t deadline_ns, const sigset_t *mask) {
  struct pollfd few[SELECT_ON_STACK];
  struct pollfd *p = few;
  if (count > SELECT_ON_STACK && !(p = calloc(count, sizeof(*p))))
    return -ENOMEM;
  nfds_t at = 0;
  for (int fd = 0; fd < n && at < count; fd++) {
    short events = select_events(fd, r, w, e);
    if (events)
      p[at++] = (struct pollfd){.fd = fd, .events = events};
  }
  int rc;
  do { /* POLLHUP ends a poll that asked for POLLOUT only, but it is no bit of select's: on with the wait */
    rc = poll_any(p, at, deadline_ns, mask);
    if (rc < 0)
      break;
    if (rc == 0) {
      rc = select_result(p, at, n, r, w, e);
      break;
    }
    bool any = false;
    for (nfds_t i = 0; i < at; i++)
      any = any || (p[i].revents & (POLLNVAL | POLLERR | POLLPRI | POLLOUT | POLLWRNORM)) ||
            ((p[i].events & POLLIN) && (p[i].revents & SELECT_IN));
    if (any || (deadline_ns != INT64_MAX && epoll_now_ns() >= deadline_ns)) {
      rc = select_result(p, at, n, r, w, e);
      break;
    }
    for (nfds_t i = 0; i < at; i++)
      if (p[i].revents)
        p[i].fd = -p[i].fd - 1; /* negative: poll leaves it out */
  } while (true);
  if (p != few)
    free(p);
  return rc;
}

int ldp_pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout, const sigset_t *mask) {
  bool ours = false;
  nfds_t count = n > 0 ? select_count(n, r, w, e, &ours) : 0;
  if (!ours)
    return real.pselect(n, r, w, e, timeout, mask);
  int64_t deadline;
  int rc = sleep_deadline(timeout, &deadline);
  return ldp_result(rc < 0 ? rc : select_any(n, r, w, e, count, deadline, mask));
}

int ldp_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout) {
  bool ours = false;
  nfds_t count = n > 0 ? select_count(n, r, w, e, &ours) : 0;
  if (!ours)
    return real.select(n, r, w, e, timeout);
  int64_t deadline = INT64_MAX;
  if (timeout) {
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
      return ldp_result(-EINVAL);
    struct timespec ts = {timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000};
    (void)sleep_deadline(&ts, &deadline);
  }
  int rc = select_any(n, r, w, e, count, deadline, NULL);
  if (timeout && deadline != 0 && deadline != INT64_MAX) { /* Linux tells the time that is left */
    struct timespec left;
    (void)sleep_left(deadline, &left);
    timeout->tv_sec = left.tv_sec;
    timeout->tv_usec = left.tv_nsec / 1000;
  }
  return ldp_result(rc);
}

int ldp___select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout) {
  return ldp_select(n, r, w, e, timeout);
}
