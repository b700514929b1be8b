/*
 * Waiting on an epoll set of both kinds (epoll.h). Called by the program, any thread.
 *
 * A set without kernel members makes no kernel call while the stack has events for it. In a mixed set the kernel side
 * is looked at whenever it had something last time, else every 100 µs and before each sleep; each side gets half of the
 * room, so neither starves the other. The first thread in a set sleeps in the kernel's epoll, which holds the waiter's
 * descriptors; further threads use a waiter of their own and poll the set beside it.
 */
#include "epoll.h"

#include "app.h"
#include "export.h"
#include "real.h"
#include "share.h"
#include "sleep.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <time.h>

#define EPOLL_LOOK_NS 100000

int64_t epoll_now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct epoll_call {
  struct epoll *ep;
  int epfd;
  struct epoll_event *evs;
  int max;
  int64_t deadline_ns; /* INT64_MAX = none */
  const sigset_t *mask;
  bool fine; /* epoll_pwait2: the deadline is kept to the nanosecond as long as only the kernel is concerned */
  struct vcl_waiter *w; /* the set's, or one of the call's own */
  bool marked;          /* the kernel side showed our own mark: the bell wants to be drained */
};

/* Takes the waiter's own events out of n. */
static int epoll_unmark(struct epoll_call *c, struct epoll_event *evs, int n) {
  int kept = 0;
  uint64_t mark = epoll_mark(c->ep);
  for (int i = 0; i < n; i++) {
    if (evs[i].data.u64 == mark)
      c->marked = true;
    else
      evs[kept++] = evs[i];
  }
  return kept;
}

static int epoll_look_kernel(struct epoll_call *c, int at, int room) {
  int n = real.epoll_wait(c->epfd, c->evs + at, room, 0);
  n = n > 0 ? epoll_unmark(c, c->evs + at, n) : 0;
  c->ep->kernel_hot = n > 0;
  return n;
}

static int epoll_look_stack(struct epoll_call *c, int at, int room) {
  int n = vppcom_epoll_wait(c->ep->vep, c->evs + at, room, 0);
  return n > 0 ? n : 0;
}

/* Both sides, fairly. Number of events. */
static int epoll_look(struct epoll_call *c) {
  struct epoll *ep = c->ep;
  if (__atomic_load_n(&ep->kernel_n, __ATOMIC_RELAXED) == 0)
    return epoll_look_stack(c, 0, c->max);
  int64_t now = epoll_now_ns();
  bool due = ep->kernel_hot || now - ep->looked_ns >= EPOLL_LOOK_NS;
  bool stack_first = !due || (c->max == 1 && (ep->turn++ & 1));
  int n = 0;
  if (due)
    ep->looked_ns = now;
  if (!stack_first) {
    n = epoll_look_kernel(c, 0, c->max - c->max / 2);
    return n < c->max ? n + epoll_look_stack(c, n, c->max - n) : n;
  }
  n = epoll_look_stack(c, 0, c->max);
  if (n < c->max && (due || (n == 0 && c->deadline_ns == 0))) /* else the sleep that follows looks */
    n += epoll_look_kernel(c, n, c->max - n);
  return n;
}

/* Milliseconds to the deadline for epoll_pwait, rounded up so that no wait ends early. */
static int epoll_left_ms(int64_t deadline_ns) {
  if (deadline_ns == INT64_MAX)
    return -1;
  int64_t left = deadline_ns - epoll_now_ns();
  if (left <= 0)
    return 0;
  left = (left + 999999) / 1000000;
  return left > INT_MAX ? INT_MAX : (int)left;
}

/* One sleep of the thread that owns the set's waiter. Number of kernel events, or -EINTR. */
static int epoll_sleep_owner(struct epoll_call *c) {
  int ms = epoll_left_ms(c->deadline_ns);
  if (share_waiting() && (ms < 0 || ms > SHARE_SLICE_MS))
    ms = SHARE_SLICE_MS;
  int n = real.epoll_pwait(c->epfd, c->evs, c->max, ms, c->mask);
  int rc = n < 0 ? -errno : epoll_unmark(c, c->evs, n);
  c->ep->kernel_hot = rc > 0;
  return rc;
}

/* One sleep of any further thread. 0 or -EINTR. */
static int epoll_sleep_guest(struct epoll_call *c) {
  int fds[2];
  struct pollfd p[3] = {{.fd = c->epfd, .events = POLLIN}};
  int n = vcl_waiter_fds(c->w, fds);
  for (int i = 0; i < n; i++)
    p[1 + i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
  struct timespec left, *t = sleep_left(c->deadline_ns, &left);
  return real.ppoll(p, (nfds_t)(1 + n), t, c->mask) < 0 ? -errno : 0;
}

static int epoll_loop(struct epoll_call *c) {
  bool owner = c->w == &c->ep->w;
  for (;;) {
    int n = epoll_look(c);
    if (n > 0)
      return n;
    if (c->deadline_ns != INT64_MAX && epoll_now_ns() >= c->deadline_ns)
      return 0;
    if (vcl_spin(c->w))
      continue;
    if (!vcl_sleep_begin(c->w))
      continue;
    n = owner ? epoll_sleep_owner(c) : epoll_sleep_guest(c);
    vcl_sleep_end(c->w);
    share_sweep();
    c->marked = false;
    if (n < 0)
      return n;
    if (n > 0)
      return n < c->max ? n + epoll_look_stack(c, n, c->max - n) : n;
  }
}

/* A set that has (or gets while we wait) stack sessions. */
static int epoll_mixed(struct epoll_call *c) {
  struct epoll *ep = c->ep;
  struct vcl_waiter *guest = NULL;
  bool owner = __atomic_exchange_n(&ep->busy, 1, __ATOMIC_ACQUIRE) == 0;
  c->w = &ep->w;
  if (!owner) {
    guest = sleep_waiter_get();
    if (!guest)
      return -ENOMEM;
    c->w = guest;
    (void)vcl_waiter_attach(guest, ep->vep);
  }
  if (owner && ep->nested)
    epoll_unsettle(ep);
  int rc = epoll_loop(c);
  if (c->marked && owner && vcl_sleep_begin(&ep->w)) /* the kernel's set must not stay readable for our sake */
    vcl_sleep_end(&ep->w);
  if (owner) {
    __atomic_store_n(&ep->busy, 0, __ATOMIC_RELEASE);
    epoll_settle(ep);
  } else {
    vcl_waiter_detach(guest, ep->vep);
    sleep_waiter_put(guest);
  }
  return rc;
}

/* One sleep on the kernel's set alone. Number of events, marks among them, or -errno. */
static int epoll_sleep_raw(struct epoll_call *c) {
  struct timespec left;
  if (!epoll_raw_enter(c->ep))
    return 0;
  int n = c->fine ? real.epoll_pwait2(c->epfd, c->evs, c->max, sleep_left(c->deadline_ns, &left), c->mask)
                  : real.epoll_pwait(c->epfd, c->evs, c->max, epoll_left_ms(c->deadline_ns), c->mask);
  int rc = n < 0 ? -errno : n;
  epoll_raw_leave(c->ep);
  return rc;
}

static int epoll_wait_for(struct epoll_call *c) {
  if (c->max <= 0 || c->max > (int)(INT_MAX / sizeof(struct epoll_event)))
    return -EINVAL;
  if (!c->evs)
    return -EFAULT;
  for (;;) {
    if (epoll_vep(c->ep) != INVALID_SESSION_ID) {
      if (c->ep->inherited) {
        app_say(1, "epoll fd %d with stack sessions was inherited over fork: not usable in the child", c->epfd);
        return -EINVAL;
      }
      return epoll_mixed(c);
    }
    int n = epoll_sleep_raw(c);
    if (n < 0)
      return n;
    int kept = epoll_unmark(c, c->evs, n); /* a stack session joined while we slept, or is just about to */
    if (kept == n && epoll_vep(c->ep) == INVALID_SESSION_ID)
      return n;
    if (kept > 0 || (c->deadline_ns != INT64_MAX && epoll_now_ns() >= c->deadline_ns))
      return kept;
  }
}

static int64_t epoll_deadline_ms(int timeout_ms) {
  if (timeout_ms < 0)
    return INT64_MAX;
  return timeout_ms == 0 ? 0 : epoll_now_ns() + (int64_t)timeout_ms * 1000000;
}

static int epoll_enter(struct epoll *ep, int epfd, struct epoll_event *evs, int max, int64_t deadline_ns,
                       const sigset_t *mask, bool fine) {
  struct epoll_call c = {.ep = ep, .epfd = epfd, .evs = evs, .max = max, .deadline_ns = deadline_ns, .mask = mask};
  c.fine = fine;
  int rc = epoll_wait_for(&c);
  fd_put(&ep->file);
  return ldp_result(rc);
}

int ldp_epoll_wait(int epfd, struct epoll_event *evs, int max, int timeout_ms) {
  struct epoll *ep = (struct epoll *)fd_get_kind(epfd, FD_EPOLL);
  if (!ep)
    return real.epoll_wait(epfd, evs, max, timeout_ms);
  return epoll_enter(ep, epfd, evs, max, epoll_deadline_ms(timeout_ms), NULL, false);
}

int ldp_epoll_pwait(int epfd, struct epoll_event *evs, int max, int timeout_ms, const sigset_t *mask) {
  struct epoll *ep = (struct epoll *)fd_get_kind(epfd, FD_EPOLL);
  if (!ep)
    return real.epoll_pwait(epfd, evs, max, timeout_ms, mask);
  return epoll_enter(ep, epfd, evs, max, epoll_deadline_ms(timeout_ms), mask, false);
}

int ldp_epoll_pwait2(int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask) {
  struct epoll *ep = (struct epoll *)fd_get_kind(epfd, FD_EPOLL);
  if (!ep)
    return real.epoll_pwait2(epfd, evs, max, timeout, mask);
  int64_t deadline;
  int rc = sleep_deadline(timeout, &deadline);
  if (rc < 0) {
    fd_put(&ep->file);
    return ldp_result(rc);
  }
  return epoll_enter(ep, epfd, evs, max, deadline, mask, true);
}
