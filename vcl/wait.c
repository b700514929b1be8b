/*
 * The private face for the preload shim: waiters, facts without a wait, lock mode (vcl_wait.h says how to use it).
 *
 * Called by any thread of a shimmed program; everything runs under worker 0's mutex.
 */
#include "vcl_wait.h"

#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_session.h"
#include "vcl_vep.h"

#include <sys/epoll.h>
#include <unistd.h>

static struct waiter *wait_of(struct vcl_waiter *w) {
  return (struct waiter *)(void *)w->priv;
}

int vcl_lock_mode(int on) {
  int was = app_state.lock_mode;
  app_state.lock_mode = on != 0;
  return was;
}

uint32_t vcl_session_events(uint32_t h) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return 0;
  struct worker *w = s->w;
  if (s->kind == SESSION_SET || s->life == SESSION_LISTEN) {
    (void)worker_pump(w);
    if (s->kind == SESSION_SET)
      vep_wake_listeners(s->vep, VEP_DEPTH);
    if (listen_arm(s) == -EBADF) { /* closed meanwhile by another thread */
      worker_leave(w);
      return 0;
    }
  }
  if (session_is_dgram(s)) /* who polls without ever sleeping has the hints of branches from here alone */
    (void)cut_pump(w);
  uint32_t ev = ready_events(s);
  worker_leave(w);
  return ev;
}

int vcl_waiter_init(struct vcl_waiter *w) {
  struct worker *wk = worker_enter();
  w->fd = w->kick_fd = -1;
  w->priv = NULL;
  if (wk == NULL)
    return -ENODEV;
  int rc = worker_ready(wk);
  if (wk->rejoin != NULL) /* on its way to the next stack */
    rc = 0;
  struct waiter *wt = rc == 0 ? waiter_get(wk) : NULL;
  if (wt != NULL) {
    w->fd = waiter_bell(wk);
    w->kick_fd = wt->kick_fd;
    w->priv = (struct vcl_waiter_priv *)(void *)wt;
  } else if (rc == 0) {
    rc = errno == EMFILE || errno == ENFILE ? -EMFILE : -ENOMEM;
  }
  worker_leave(wk);
  return rc;
}

void vcl_waiter_fini(struct vcl_waiter *w) {
  if (w->priv == NULL)
    return;
  struct worker *wk = worker_enter();
  if (wk != NULL) {
    waiter_put(wait_of(w));
    worker_leave(wk);
  }
  w->priv = NULL;
  w->fd = w->kick_fd = -1;
}

int vcl_waiter_fds(struct vcl_waiter *w, int fds[2]) {
  int n = 0;
  fds[0] = fds[1] = -1;
  if (w->fd >= 0)
    fds[n++] = w->fd;
  if (w->kick_fd >= 0)
    fds[n++] = w->kick_fd;
  return n;
}

int vcl_waiter_fd(struct vcl_waiter *w) {
  struct waiter *wt = w->priv != NULL ? wait_of(w) : NULL;
  if (wt == NULL)
    return -EINVAL;
  if (wt->epoll_fd >= 0)
    return wt->epoll_fd;
  struct epoll_event ev = {.events = EPOLLIN};
  int fds[2];
  int n = vcl_waiter_fds(w, fds);
  int ep = epoll_create1(EPOLL_CLOEXEC);
  if (ep < 0)
    return -errno;
  for (int i = 0; i < n; i++) {
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev) == 0)
      continue;
    int rc = -errno;
    close(ep);
    return rc;
  }
  wt->epoll_fd = ep;
  return ep;
}

/** The list of watchers of a session or set. */
static struct list *wait_owners(struct session *s) {
  return s->kind == SESSION_SET ? &s->vep->watchers : &s->watchers;
}

int vcl_waiter_attach(struct vcl_waiter *w, uint32_t h) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *wk = s->w;
  int rc = waiter_watch(wait_of(w), wait_owners(s));
  (void)listen_arm(s);
  worker_leave(wk);
  return rc;
}

void vcl_waiter_detach(struct vcl_waiter *w, uint32_t h) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return;
  waiter_unwatch(wait_of(w), wait_owners(s));
  worker_leave(s->w);
}

int vcl_sleep_begin(struct vcl_waiter *w) {
  struct worker *wk = worker_enter();
  if (wk == NULL)
    return 1;
  int rc = waiter_sleep_begin(wait_of(w));
  worker_leave(wk);
  return rc;
}

void vcl_sleep_end(struct vcl_waiter *w) {
  struct worker *wk = worker_enter();
  if (wk == NULL)
    return;
  waiter_sleep_end(wait_of(w), 1);
  worker_leave(wk);
}

int vcl_spin(struct vcl_waiter *w) {
  struct worker *wk = worker_enter();
  if (wk == NULL)
    return 0;
  int rc = waiter_spin(wait_of(w));
  worker_leave(wk);
  return rc;
}

int vcl_pump(void) {
  struct worker *wk = worker_enter();
  if (wk == NULL)
    return 0;
  int rc = worker_pump(wk);
  worker_leave(wk);
  return rc;
}

void vcl_count_moved(void) {
  struct worker *wk = worker_enter();
  if (wk == NULL)
    return;
  worker_count(wk, -1, 1);
  worker_leave(wk);
}

int vcl_session_wait(uint32_t h, uint32_t events, int64_t timeout_us) {
  struct session *s = session_enter(h);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  if (s->life == SESSION_LISTEN || s->kind == SESSION_SET)
    (void)worker_pump(w);
  int rc = listen_arm(s);
  if (rc == 0)
    rc = ready_wait(s, events, timeout_us);
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}
