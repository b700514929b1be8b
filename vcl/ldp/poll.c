/*
 * Interposed poll, ppoll (select.c stands on poll_any). Called by the program, any thread.
 *
 * Without a stack descriptor the call is the kernel's. Otherwise: the facts of the stack's sessions first; when they
 * say something, the kernel's descriptors are looked at in the same turn without waiting; when they say nothing, one
 * ppoll sleeps on the kernel's descriptors and on the waiter's.
 */
#include "app.h"
#include "epoll.h"
#include "export.h"
#include "poll_any.h"
#include "real.h"
#include "share.h"
#include "sleep.h"
#include "sock.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* --- one call --- */

#define POLL_ON_STACK 32

struct poll_call {
  struct pollfd *fds;
  nfds_t n;
  struct fd_file **files; /* per entry: ours (referenced) or NULL */
  struct pollfd *kernel;  /* entries for the kernel, and two for the waiter */
  nfds_t n_kernel;
  uint32_t *index; /* kernel entry → entry */
  uint32_t n_ours;
};

/* poll's bits have epoll's values; the "normal band" ones are told beside IN and OUT if asked for. */
static short poll_revents(uint32_t facts, short events) {
  uint32_t asked = (uint32_t)(unsigned short)events;
  if (facts & POLLIN)
    facts |= POLLRDNORM;
  if (facts & POLLOUT)
    facts |= POLLWRNORM;
  return (short)(facts & (asked | POLLERR | POLLHUP));
}

static uint32_t poll_handle(const struct fd_file *f) {
  return f->kind == FD_SOCK ? ((const struct sock *)f)->h : epoll_vep((const struct epoll *)f);
}

/* Sets that hold no stack session are the kernel's alone; sets that do are watched on both sides. */
static void poll_sort(struct poll_call *c) {
  for (nfds_t i = 0; i < c->n; i++) {
    c->files[i] = c->fds[i].fd >= 0 ? fd_get(c->fds[i].fd) : NULL;
    struct fd_file *f = c->files[i];
    if (f && poll_handle(f) == INVALID_SESSION_ID) {
      fd_put(f);
      c->files[i] = f = NULL;
    }
    if (f)
      c->n_ours++;
    if (!f || f->kind == FD_EPOLL) {
      c->index[c->n_kernel] = (uint32_t)i;
      c->kernel[c->n_kernel++] = c->fds[i];
    }
  }
}

/* revents of all stack entries. Number of entries with something. */
static int poll_facts(struct poll_call *c) {
  int ready = 0;
  for (nfds_t i = 0; i < c->n; i++) {
    c->fds[i].revents = 0;
    if (c->files[i])
      c->fds[i].revents = poll_revents(vcl_session_events(poll_handle(c->files[i])), c->fds[i].events);
    ready += c->fds[i].revents != 0;
  }
  return ready;
}

/* The kernel's revents into the program's array. Entries that gained something. */
static int poll_merge(struct poll_call *c) {
  int more = 0;
  for (nfds_t k = 0; k < c->n_kernel; k++) {
    struct pollfd *p = &c->fds[c->index[k]];
    more += p->revents == 0 && c->kernel[k].revents != 0;
    p->revents |= c->kernel[k].revents;
  }
  return more;
}

static int poll_kernel_now(struct poll_call *c) {
  if (c->n_kernel == 0 || real.poll(c->kernel, c->n_kernel, 0) <= 0)
    return 0;
  return poll_merge(c);
}

static int poll_sleep(struct poll_call *c, struct vcl_waiter *w, int64_t deadline_ns, const sigset_t *mask) {
  int fds[2];
  struct timespec left;
  int n = vcl_waiter_fds(w, fds);
  for (int i = 0; i < n; i++)
    c->kernel[c->n_kernel + (nfds_t)i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
  struct timespec *t = sleep_left(deadline_ns, &left);
  if (share_waiting() && (!t || t->tv_sec > 0 || t->tv_nsec > SHARE_SLICE_MS * 1000000)) {
    left = (struct timespec){0, SHARE_SLICE_MS * 1000000};
    t = &left;
  }
  int rc = real.ppoll(c->kernel, c->n_kernel + (nfds_t)n, t, mask);
  return rc < 0 ? -errno : 0;
}

static int poll_loop(struct poll_call *c, struct vcl_waiter *w, int64_t deadline_ns, const sigset_t *mask) {
  for (;;) {
    int ready = poll_facts(c);
    if (ready > 0 || (deadline_ns != INT64_MAX && epoll_now_ns() >= deadline_ns))
      return ready + poll_kernel_now(c);
    if (!mask && vcl_spin(w))
      continue;
    if (!vcl_sleep_begin(w))
      continue;
    int rc = poll_sleep(c, w, deadline_ns, mask);
    vcl_sleep_end(w);
    share_sweep();
    if (rc < 0)
      return rc;
    ready = poll_facts(c);
    ready += poll_merge(c);
    if (ready > 0)
      return ready;
  }
}

static int poll_wait_all(struct poll_call *c, int64_t deadline_ns, const sigset_t *mask) {
  int ready = poll_facts(c);
  if (ready > 0 || deadline_ns == 0)
    return ready + poll_kernel_now(c);
  struct vcl_waiter *w = sleep_waiter_get();
  if (!w)
    return -ENOMEM;
  int rc = 0;
  for (nfds_t i = 0; rc >= 0 && i < c->n; i++)
    if (c->files[i])
      rc = vcl_waiter_attach(w, poll_handle(c->files[i]));
  if (rc >= 0)
    rc = poll_loop(c, w, deadline_ns, mask);
  for (nfds_t i = 0; i < c->n; i++)
    if (c->files[i])
      vcl_waiter_detach(w, poll_handle(c->files[i]));
  sleep_waiter_put(w);
  return rc;
}

/* The commonest call by far: one socket, no signal mask. */
static int poll_wait_one(struct poll_call *c, int64_t deadline_ns) {
  uint32_t h = poll_handle(c->files[0]);
  for (;;) {
    int ready = poll_facts(c);
    if (ready > 0 || deadline_ns == 0)
      return ready;
    struct timespec left;
    struct timespec *t = sleep_left(deadline_ns, &left);
    int64_t us = t ? (int64_t)t->tv_sec * 1000000 + (t->tv_nsec + 999) / 1000 : -1;
    if (us == 0)
      return 0;
    int rc = vcl_session_wait(h, (uint32_t)(unsigned short)c->fds[0].events, us);
    if (rc == -EINTR)
      return rc;
    if (rc < 0 && rc != -ETIMEDOUT) { /* closed by another thread */
      c->fds[0].revents = POLLNVAL;
      return 1;
    }
  }
}

bool poll_any_ours(const struct pollfd *fds, nfds_t n) {
  if (!app_attached())
    return false;
  for (nfds_t i = 0; i < n; i++)
    if (fds[i].fd >= 0 && fd_ours(fds[i].fd))
      return true;
  return false;
}

int poll_any(struct pollfd *fds, nfds_t n, int64_t deadline_ns, const sigset_t *mask) {
  struct fd_file *files[POLL_ON_STACK];
  struct pollfd kernel[POLL_ON_STACK + 2];
  uint32_t index[POLL_ON_STACK];
  struct poll_call c = {.fds = fds, .n = n, .files = files, .kernel = kernel, .index = index};
  char *big = NULL;
  if (n > POLL_ON_STACK) {
    if (n > INT_MAX / 32)
      return -EINVAL;
    big = malloc(n * (sizeof(*c.files) + sizeof(*c.kernel) + sizeof(*c.index)) + 2 * sizeof(*c.kernel));
    if (!big)
      return -ENOMEM;
    c.files = (struct fd_file **)(void *)big;
    c.kernel = (struct pollfd *)(void *)(c.files + n);
    c.index = (uint32_t *)(void *)(c.kernel + n + 2);
  }
  poll_sort(&c);
  int rc;
  if (n == 1 && c.n_ours == 1 && c.n_kernel == 0 && !mask)
    rc = poll_wait_one(&c, deadline_ns);
  else
    rc = poll_wait_all(&c, deadline_ns, mask);
  for (nfds_t i = 0; i < n; i++)
    if (c.files[i])
      fd_put(c.files[i]);
  free(big);
  return rc;
}

int ldp_poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
  if (!poll_any_ours(fds, n))
    return real.poll(fds, n, timeout_ms);
  int64_t deadline = INT64_MAX;
  if (timeout_ms >= 0)
    deadline = timeout_ms == 0 ? 0 : epoll_now_ns() + (int64_t)timeout_ms * 1000000;
  return ldp_result(poll_any(fds, n, deadline, NULL));
}

int ldp___poll(struct pollfd *fds, nfds_t n, int timeout_ms) {
  return ldp_poll(fds, n, timeout_ms);
}

int ldp___poll_chk(struct pollfd *fds, nfds_t n, int timeout_ms, size_t room) {
  if (room / sizeof(*fds) < n)
    abort();
  return ldp_poll(fds, n, timeout_ms);
}

int ldp_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
  if (!poll_any_ours(fds, n))
    return real.ppoll(fds, n, timeout, mask);
  int64_t deadline;
  int rc = sleep_deadline(timeout, &deadline);
  return ldp_result(rc < 0 ? rc : poll_any(fds, n, deadline, mask));
}

int ldp___ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room) {
  if (room / sizeof(*fds) < n)
    abort();
  return ldp_ppoll(fds, n, timeout, mask);
}
