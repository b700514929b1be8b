/*
 * The end of all services, and the way back (vcl_rejoin.h).
 *
 * Called by worker.c (worker_pump) on the worker's thread or under its mutex, woken by the front: a timer, the attach
 * socket and, later, the new bell lie in it. While the stack is away connected sessions are over (ECONNRESET), unbound
 * ones and listeners keep their handles, sets and waiters; listeners are quiet. The conversation is made in a struct
 * broker of its own and becomes the worker's once it has a home, so a thread that still asks the old one is answered
 * by ESTALE and nothing else. Listeners are bound and registered anew one after the other; one that is refused (another
 * process of the family may be about to make it) is tried again.
 */
#include "vcl_rejoin.h"

#include "base/clock.h"
#include "vcl_app.h"
#include "vcl_branch.h"
#include "vcl_family.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define REJOIN_RETRY_US  (50 * CLOCK_US_PER_MS)
#define REJOIN_LISTEN_US (100 * CLOCK_US_PER_MS)
#define REJOIN_STEP_US   (10 * CLOCK_US_PER_S)   /* the engine may take that long to serve a worker */
#define REJOIN_HURRY_US  (200 * CLOCK_US_PER_MS) /* bind and listen: broker and engine are there by then */

enum rejoin_state { REJOIN_IDLE, REJOIN_HELLO, REJOIN_WORKER, REJOIN_MAPPED, REJOIN_ARRIVE, REJOIN_LISTENERS };

struct rejoin {
  struct broker b;
  enum rejoin_state state;
  usec_t next, limit;
  usec_t timer_at; /* what the timer is set to */
  int timer;
  int founding, have_refused;
  uint8_t refused[FAMILY_TOKEN];
  struct worker_view view;
  int have_view;
  uint64_t worker_id;
};

/** The front is readable at r->next; setting the timer also makes it unreadable until then. */
static void rejoin_set_timer(struct rejoin *r) {
  if (r->timer_at == r->next && clock_now_us() < r->next)
    return;
  r->timer_at = r->next;
  struct itimerspec its = {.it_value = {.tv_sec = (time_t)(r->next / CLOCK_US_PER_S),
                                        .tv_nsec = (long)(r->next % CLOCK_US_PER_S * 1000) + 1}};
  (void)timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &its, NULL);
}

static void rejoin_drop_view(struct rejoin *r) {
  if (r->have_view)
    worker_view_close(&r->view);
  r->have_view = 0;
}

/** This attempt came to nothing: another one after a while. */
static void rejoin_fail(struct rejoin *r) {
  if (r->founding)
    family_forgo();
  r->founding = 0;
  rejoin_drop_view(r);
  broker_fini(&r->b);
  broker_init(&r->b, &app_state.cfg, app_state.name);
  r->state = REJOIN_IDLE;
  r->next = clock_now_us() + REJOIN_RETRY_US;
}

static struct rejoin *rejoin_new(struct worker *w) {
  struct rejoin *r = calloc(1, sizeof *r);
  struct epoll_event ev = {.events = EPOLLIN};
  if (r == NULL)
    return NULL;
  r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (r->timer < 0 || worker_front(w) < 0 || epoll_ctl(w->front, EPOLL_CTL_ADD, r->timer, &ev) < 0) {
    if (r->timer >= 0)
      close(r->timer);
    free(r);
    return NULL;
  }
  broker_init(&r->b, &app_state.cfg, app_state.name);
  return r;
}

void rejoin_free(struct worker *w) {
  struct rejoin *r = w->rejoin;
  if (r == NULL)
    return;
  w->rejoin = NULL;
  if (r->founding)
    family_forgo();
  rejoin_drop_view(r);
  broker_fini(&r->b);
  (void)epoll_ctl(w->front, EPOLL_CTL_DEL, r->timer, NULL);
  close(r->timer);
  free(r);
}

void rejoin_fork_child(struct worker *w) {
  struct rejoin *r = w->rejoin;
  if (r == NULL)
    return;
  w->rejoin = NULL;
  rejoin_drop_view(r);
  broker_fini(&r->b);
  close(r->timer);
  free(r);
  if (w->home == NULL)
    rejoin_begin(w);
}

/** One session of a stack that is gone. */
static void rejoin_end_session(struct session *s) {
  if (s->life == SESSION_LISTEN) {
    listen_drop_offers(s);
    if (!s->share_due && !s->redo)
      s->share_of = s->listener_id; /* by which the family knows it */
    s->rearm |= s->armed_offer;
    s->redo = 1;
  } else if (s->life == SESSION_BOUND) {
    s->redo = 1;
  } else if (s->broken == 0 && (s->life == SESSION_OPEN || s->life == SESSION_CONNECT)) {
    s->broken = ECONNRESET;
  }
  if (session_is_dgram(s))
    branch_drop_all(s);
  s->share_due = s->armed_offer = s->bound = s->bind_unheard = 0;
  session_touch(s);
}

void rejoin_begin(struct worker *w) {
  struct home *h = w->home;
  if (w->rejoin == NULL)
    w->rejoin = rejoin_new(w);
  else
    rejoin_fail(w->rejoin);
  if (w->rejoin == NULL) {
    worker_detach(w);
    return;
  }
  w->rejoin->state = REJOIN_IDLE;
  w->rejoin->next = clock_now_us();
  rejoin_set_timer(w->rejoin);
  app_debug(1, "vcl.lost worker %u: every service is gone; it attaches anew", w->index);
  w->home = NULL;
  w->lazy = w->offers_missed = 0;
  worker_drop_unbinds(w);
  if (h != NULL) {
    worker_front_forget(w, h->bell);
    w->broker.bell = w->broker.doorbell = -1;
    home_let_go(h);
    h->detached = h->lost = 1;
    list_add_tail(&w->lost, &h->link);
    h->n_sessions++; /* held over the walk */
  }
  struct list *pos;
  list_for_each(pos, &w->inherited) {
    struct home *gone = list_entry(pos, struct home, link);
    gone->detached = 1;
    home_let_go(gone);
  }
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->life != SESSION_OFFER && s->cut == NULL)
      rejoin_end_session(s);
  }
  if (h != NULL)
    home_unref(h);
  waiter_notify_any(w);
}

/** Sends a step's request; its reply is looked for from now on. */
static int rejoin_ask(struct worker *w, struct rejoin *r, enum rejoin_state next, enum broker_step step) {
  struct epoll_event ev = {.events = EPOLLIN};
  int rc = broker_step_begin(&r->b, step, r->worker_id);
  if (rc == 0 && step == BROKER_STEP_HELLO && epoll_ctl(w->front, EPOLL_CTL_ADD, r->b.fd, &ev) < 0)
    rc = -errno;
  if (rc < 0) {
    rejoin_fail(r);
    return 0;
  }
  r->state = next;
  r->limit = clock_now_us() + REJOIN_STEP_US;
  r->next = r->limit;
  return 1;
}

static int rejoin_hello(struct worker *w, struct rejoin *r) {
  enum family_answer how = family_ask(r->have_refused ? r->refused : NULL, r->b.parent);
  if (how == FAMILY_WAIT) {
    r->next = clock_now_us() + REJOIN_RETRY_US;
    return 0;
  }
  r->b.have_parent = how == FAMILY_JOIN;
  r->founding = how == FAMILY_FOUND;
  return rejoin_ask(w, r, REJOIN_HELLO, BROKER_STEP_HELLO);
}

static int rejoin_welcomed(struct worker *w, struct rejoin *r) {
  if (r->founding)
    family_founded(r->b.token);
  r->founding = 0;
  return rejoin_ask(w, r, REJOIN_WORKER, BROKER_STEP_WORKER);
}

/** The segments came: mapped, said so. */
static int rejoin_map(struct worker *w, struct rejoin *r, const struct broker_worker *bw) {
  const char *why = NULL;
  int rc = worker_view_open(&r->view, bw->fd_a, SEG_RDWR, bw->fd_e, SEG_RDONLY, &why);
  r->have_view = rc == 0;
  r->worker_id = bw->id;
  if (rc < 0 || r->view.ga.worker_id != bw->id) {
    app_debug(1, "vcl.rejoin bad segments: %s", why != NULL ? why : "");
    rejoin_fail(r);
    return 0;
  }
  return rejoin_ask(w, r, REJOIN_MAPPED, BROKER_STEP_MAPPED);
}

/** Sessions that outlived the old home get slots in the new one. */
static void rejoin_move(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->home == w->home ||
        (s->life != SESSION_LISTEN && s->life != SESSION_NEW && s->life != SESSION_BOUND))
      continue;
    int had_options = s->a->opt_gen != 0;
    int64_t slot = home_slot_get(w->home);
    if (slot < 0) {
      s->broken = ENETDOWN;
      s->redo = 0;
      session_touch(s);
      continue;
    }
    session_move(s, w->home, (uint32_t)slot);
    s->a->rx_lowat = s->lowat;
    if (had_options)
      session_publish_options(s);
  }
}

/** The engine serves the new worker: its home and its conversation become ours. Caller holds w->broker.lock. */
static int rejoin_settle(struct worker *w, struct rejoin *r) {
  struct home *h = calloc(1, sizeof *h);
  if (h == NULL)
    return -ENOMEM;
  int rc = home_init(h, &r->view, r->worker_id, r->b.bell, r->b.doorbell);
  r->have_view = 0;
  if (rc < 0) {
    free(h);
    return rc;
  }
  (void)epoll_ctl(w->front, EPOLL_CTL_DEL, r->b.fd, NULL);
  broker_take(&w->broker, &r->b);
  h->view.app->pid = (uint32_t)getpid();
  memcpy(h->token, w->broker.token, sizeof h->token);
  w->home = h;
  worker_front_watch(w, h->bell);
  rejoin_move(w);
  w->bell_dirty = 1;
  if (!app_state.lock_mode)
    w->watched = 1;
  if (w->watched || w->n_asleep != 0)
    (void)home_arm(h);
  app_debug(1, "vcl.back worker %u is %llu now", w->index, (unsigned long long)h->worker_id);
  return 0;
}

/** A share of a listener that another process of the family made anew. -ENOENT: nobody has. */
static int rejoin_share(struct worker *w, struct session *s, const struct broker_slot *slot, uint32_t *id) {
  uint32_t is = family_listener(s->share_of);
  if (s->life != SESSION_LISTEN || is == 0)
    return -ENOENT;
  int rc = broker_listen(&w->broker, slot, s->backlog, is, id, 1);
  if (rc == -ENOENT)
    family_listener_set(s->share_of, 0); /* whoever had it is gone */
  return rc;
}

/** Binds and registers one session anew. 0 or -errno. */
static int rejoin_listener(struct worker *w, struct session *s) {
  struct broker_slot slot = {.worker_id = s->home->worker_id, .slot = s->slot, .gen = s->gen};
  struct abi_request rq = {.proto = s->proto, .v6only = s->v6only, .reuse = listen_reuse(s)};
  struct abi_endpoint ep = s->local;
  uint32_t id = 0;
  int rc = rejoin_share(w, s, &slot, &id);
  if (rc == -ENOENT) {
    rc = broker_bind(&w->broker, &slot, &rq, &ep, 1);
    if (rc < 0)
      return rc;
    s->local = ep;
    session_bound(s);
    if (s->life == SESSION_LISTEN)
      rc = broker_listen(&w->broker, &slot, s->backlog, 0, &id, 1);
    if (rc == 0 && s->life == SESSION_LISTEN)
      family_listener_set(s->share_of, id);
  }
  if (rc < 0)
    return rc;
  s->redo = 0;
  if (s->life != SESSION_LISTEN)
    return 0;
  listen_registered(s, id, s->backlog);
  if (s->rearm)
    (void)listen_arm(s);
  s->rearm = 0;
  return 0;
}

/** All that are due. Number of those that were refused. Caller holds w->broker.lock. */
static int rejoin_listeners(struct worker *w) {
  int left = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || !s->redo || s->home != w->home || s->life == SESSION_ZOMBIE)
      continue;
    if (s->listen_shut) {
      s->redo = 0;
      continue;
    }
    w->broker.hurry_us = REJOIN_HURRY_US;
    int rc = rejoin_listener(w, s);
    w->broker.hurry_us = 0;
    if (rc < 0) {
      app_debug(2, "vcl.rejoin listener %u: %s", s->index, strerror(-rc));
      left++;
    }
    session_touch(s);
  }
  return left;
}

/** Home and listeners, as soon as no other thread asks the old broker. 1 = all done. */
static int rejoin_arrive(struct worker *w, struct rejoin *r) {
  r->next = clock_now_us() + REJOIN_RETRY_US;
  if (pthread_mutex_trylock(&w->broker.lock) != 0)
    return 0;
  int left = 1;
  if (r->state == REJOIN_ARRIVE && rejoin_settle(w, r) < 0) {
    rejoin_fail(r);
  } else {
    r->state = REJOIN_LISTENERS;
    left = rejoin_listeners(w);
    r->next = clock_now_us() + REJOIN_LISTEN_US;
    waiter_notify_any(w);
  }
  pthread_mutex_unlock(&w->broker.lock);
  return left == 0;
}

/** Looks at what the state waits for. 1 = went on, look again; 0 = later. */
static int rejoin_once(struct worker *w, struct rejoin *r) {
  struct broker_worker bw = {0, -1, -1};
  usec_t now = clock_now_us();
  if (r->state == REJOIN_IDLE)
    return now >= r->next ? rejoin_hello(w, r) : 0;
  if (r->state == REJOIN_ARRIVE || r->state == REJOIN_LISTENERS) {
    if (now >= r->next && rejoin_arrive(w, r))
      rejoin_free(w);
    return 0;
  }
  enum broker_step step = r->state == REJOIN_HELLO    ? BROKER_STEP_HELLO
                          : r->state == REJOIN_WORKER ? BROKER_STEP_WORKER
                                                      : BROKER_STEP_MAPPED;
  int rc = broker_step_end(&r->b, step, &bw);
  if (rc == -EAGAIN && now < r->limit)
    return 0;
  if (rc == 0 && step == BROKER_STEP_HELLO)
    return rejoin_welcomed(w, r);
  if (rc == 0 && step == BROKER_STEP_WORKER)
    return rejoin_map(w, r, &bw);
  if (rc == 0) {
    r->state = REJOIN_ARRIVE;
    r->next = now;
    return 1;
  }
  if (rc == -ESTALE && step == BROKER_STEP_HELLO && r->b.have_parent) { /* that one has died, too */
    memcpy(r->refused, r->b.parent, sizeof r->refused);
    r->have_refused = 1;
    rejoin_fail(r);
    r->next = now;
    return 1;
  }
  rejoin_fail(r);
  return 0;
}

void rejoin_step(struct worker *w) {
  while (w->rejoin != NULL && rejoin_once(w, w->rejoin) > 0)
    ;
  if (w->rejoin != NULL)
    rejoin_set_timer(w->rejoin);
}

int rejoin_wait(struct session *s) {
  struct worker *w = s->w;
  if (s->home == w->home && !s->redo)
    return 0;
  rejoin_step(w);
  if (s->home == w->home && !s->redo)
    return 0;
  if (w->rejoin == NULL)
    return -ENETDOWN;
  if (s->nonblock)
    return -EAGAIN;
  usec_t deadline = broker_deadline(&w->broker);
  struct waiter *wt = waiter_get(w);
  int rc = wt == NULL ? -ENOMEM : 0;
  if (wt != NULL)
    wt->any = 1;
  s->pins++;
  while (rc == 0 && s->life != SESSION_ZOMBIE && (s->home != w->home || s->redo))
    rc = w->rejoin == NULL ? -ENETDOWN : waiter_wait(wt, deadline);
  if (wt != NULL)
    waiter_put(wt);
  int gone = s->life == SESSION_ZOMBIE;
  session_unpin(s);
  return gone ? -EBADF : rc;
}
