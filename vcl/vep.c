/*
 * Epoll sets over sessions, as Linux does it: level and edge triggered, ONESHOT, RDHUP, HUP, ERR, nested sets.
 *
 * Called by vppcom_epoll_* under the worker's mutex; vep_item_touch also while hints are dispatched. Edge triggered: a
 * member is reported once per touch if its condition holds; ADD and MOD count as a touch. Level triggered: it stays on
 * the ready list while its condition holds.
 */
#include "vcl_vep.h"

#include "base/clock.h"
#include "vcl_app.h"

#include <stdlib.h>
#include <string.h>

#define VEP_MODES (EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE)

struct vep *vep_new(struct session *s) {
  struct vep *v = calloc(1, sizeof *v);
  if (v == NULL)
    return NULL;
  v->s = s;
  list_init(&v->members);
  list_init(&v->ready);
  list_init(&v->watchers);
  return v;
}

void vep_item_free(struct vep_item *it) {
  list_del(&it->set_link);
  list_del(&it->sess_link);
  list_del(&it->ready_link);
  it->vep->n--;
  free(it);
}

void vep_free(struct vep *v) {
  struct list *link;
  while ((link = list_first(&v->members)) != NULL)
    vep_item_free(list_entry(link, struct vep_item, set_link));
  waiter_owner_gone(&v->watchers);
  free(v);
}

void vep_item_touch(struct vep_item *it) {
  struct vep *v = it->vep;
  struct list *pos;
  if (!list_linked(&it->ready_link))
    list_add_tail(&v->ready, &it->ready_link);
  waiter_notify(&v->watchers);
  list_for_each(pos, &v->s->items) vep_item_touch(list_entry(pos, struct vep_item, sess_link));
  waiter_notify(&v->s->watchers);
}

/** What a member has to report now. */
static uint32_t vep_item_events(struct vep_item *it) {
  if (it->events == 0)
    return 0;
  return ready_events(it->s) & ((it->events & ~(uint32_t)VEP_MODES) | EPOLLERR | EPOLLHUP);
}

/** A member that is ready when it comes, or when it is asked for more, is an event that no bell tells of: its bytes
 * were there before. */
static void vep_item_changed(struct vep_item *it) {
  vep_item_touch(it);
  if (vep_item_events(it) != 0)
    worker_again(it->vep->s->w);
}

/** An inherited session's hints go to whoever made it (kin.c): its member is touched when its facts have moved since
 * the last look. Whoever sleeps on the set comes here every few milliseconds (waiter.c). */
static void vep_heir_look(struct vep *v) {
  struct list *pos;
  if (!v->s->w->heir)
    return;
  list_for_each(pos, &v->members) {
    struct vep_item *it = list_entry(pos, struct vep_item, set_link);
    struct session *s = it->s;
    if (s->kind == SESSION_SET)
      vep_heir_look(s->vep);
    if (s->kind != SESSION_STREAM || !s->home->inherited)
      continue;
    struct vep_facts now = {.events = ready_events(s)};
    now.rx_tail = s->rx.tail; /* as the line above saw them */
    now.tx_head = s->tx.head;
    if (memcmp(&now, &it->facts, sizeof now) == 0)
      continue;
    it->facts = now;
    if (!list_linked(&it->ready_link))
      vep_item_touch(it);
  }
}

void vep_wake_listeners(struct vep *v, int depth) {
  struct list *pos;
  if (v->s->w->n_quiet == 0 || depth == 0)
    return;
  list_for_each(pos, &v->members) {
    struct vep_item *it = list_entry(pos, struct vep_item, set_link);
    if (it->s->kind == SESSION_SET)
      vep_wake_listeners(it->s->vep, depth - 1);
    else if (it->s->quiet && (it->events & (EPOLLIN | EPOLLRDNORM)) != 0)
      (void)listen_arm(it->s);
  }
}

int vep_is_ready(struct vep *v) {
  struct list *pos, *tmp;
  vep_heir_look(v);
  list_for_each_safe(pos, tmp, &v->ready) {
    struct vep_item *it = list_entry(pos, struct vep_item, ready_link);
    if (vep_item_events(it) != 0)
      return 1;
    list_del(pos);
  }
  return 0;
}

/** Takes up to max events. What is not looked at stays in front, so that nobody starves. */
static int vep_collect(struct vep *v, struct epoll_event *events, int max) {
  struct list todo, again;
  struct list *link;
  int n = 0;
  vep_heir_look(v);
  list_init(&todo);
  list_init(&again);
  list_splice_tail(&todo, &v->ready);
  while (n < max && (link = list_pop_head(&todo)) != NULL) {
    struct vep_item *it = list_entry(link, struct vep_item, ready_link);
    uint32_t ev = vep_item_events(it);
    if (ev == 0)
      continue;
    events[n].events = ev;
    events[n].data.u64 = it->data;
    n++;
    if ((it->events & EPOLLONESHOT) != 0)
      it->events = 0; /* until MOD */
    else if ((it->events & EPOLLET) == 0)
      list_add_tail(&again, link);
  }
  list_splice_tail(&v->ready, &todo);
  list_splice_tail(&v->ready, &again);
  return n;
}

static struct vep_item *vep_find(const struct vep *v, const struct session *s) {
  struct list *pos;
  list_for_each(pos, &s->items) {
    struct vep_item *it = list_entry(pos, struct vep_item, sess_link);
    if (it->vep == v)
      return it;
  }
  return NULL;
}

/** Whether `inner` holds `v` at any depth. */
static int vep_holds(const struct vep *inner, const struct vep *v, int depth) {
  struct list *pos;
  if (inner == v || depth == 0)
    return 1;
  list_for_each(pos, &inner->members) {
    const struct session *s = list_entry(pos, struct vep_item, set_link)->s;
    if (s->kind == SESSION_SET && vep_holds(s->vep, v, depth - 1))
      return 1;
  }
  return 0;
}

static int vep_add(struct vep *v, struct session *s, const struct epoll_event *event) {
  if (vep_find(v, s) != NULL)
    return -EEXIST;
  if (s->kind == SESSION_SET && vep_holds(s->vep, v, VEP_DEPTH))
    return s->vep == v ? -EINVAL : -ELOOP;
  struct vep_item *it = calloc(1, sizeof *it);
  if (it == NULL)
    return -ENOMEM;
  it->s = s;
  it->vep = v;
  it->events = event->events | EPOLLERR | EPOLLHUP;
  it->data = event->data.u64;
  list_add_tail(&v->members, &it->set_link);
  list_add_tail(&s->items, &it->sess_link);
  v->n++;
  vep_item_changed(it);
  return 0;
}

static int vep_ctl(struct vep *v, int op, struct session *s, const struct epoll_event *event) {
  struct vep_item *it;
  if (op != EPOLL_CTL_DEL && event == NULL)
    return -EFAULT;
  if (s == v->s)
    return -EINVAL;
  switch (op) {
  case EPOLL_CTL_ADD:
    return vep_add(v, s, event);
  case EPOLL_CTL_MOD:
    it = vep_find(v, s);
    if (it == NULL)
      return -ENOENT;
    it->events = event->events | EPOLLERR | EPOLLHUP;
    it->data = event->data.u64;
    vep_item_changed(it);
    return 0;
  case EPOLL_CTL_DEL:
    it = vep_find(v, s);
    if (it == NULL)
      return -ENOENT;
    vep_item_free(it);
    return 0;
  default:
    return -EINVAL;
  }
}

int vppcom_epoll_create(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return VPPCOM_EINVAL;
  int rc = VPPCOM_ENOMEM;
  struct session *s = session_new(w, SESSION_SET);
  if (s != NULL) {
    s->vep = vep_new(s);
    stage_set(s, SESSION_OPEN);
    if (s->vep != NULL)
      rc = (int)session_handle(s);
    else
      session_free(s);
  }
  worker_leave(w);
  return rc;
}

int vppcom_epoll_ctl(uint32_t vep_handle, int op, uint32_t session_handle_in, struct epoll_event *event) {
  struct session *set = session_enter(vep_handle);
  if (set == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = set->w;
  struct session *s = session_find(w, session_handle_in);
  int rc = s == NULL ? VPPCOM_EBADFD : set->kind != SESSION_SET ? VPPCOM_EINVAL : 0;
  if (rc == 0)
    rc = vep_ctl(set->vep, op, s, event);
  if (rc == 0 && op != EPOLL_CTL_DEL)
    (void)listen_arm(s);
  worker_leave(w);
  return rc;
}

/** Sleeps until something is ready. Number of events, 0 at the deadline, -EINTR, -EBADFD when the set was closed. */
static int vep_wait(struct session *set, struct epoll_event *events, int max, usec_t deadline) {
  struct worker *w = set->w;
  struct waiter *wt = waiter_get(w);
  int n = 0;
  int rc = wt == NULL ? -ENOMEM : waiter_watch(wt, &set->vep->watchers);
  set->pins++;
  while (rc == 0) {
    rc = waiter_wait(wt, deadline);
    if (set->life == SESSION_ZOMBIE) {
      rc = VPPCOM_EBADFD;
      break;
    }
    n = vep_collect(set->vep, events, max);
    if (n != 0)
      break;
  }
  if (wt != NULL)
    waiter_put(wt);
  session_unpin(set);
  if (n > 0)
    return n;
  return rc == -ETIMEDOUT ? 0 : rc;
}

int vppcom_epoll_wait(uint32_t vep_handle, struct epoll_event *events, int maxevents, double wait_for_time) {
  struct session *set = session_enter(vep_handle);
  if (set == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = set->w;
  int n = set->kind != SESSION_SET || maxevents <= 0 ? VPPCOM_EINVAL : events == NULL ? VPPCOM_EFAULT : 0;
  if (n < 0)
    goto out;
  if (w->watched)
    worker_drain_bell(w);
  (void)worker_pump(w);
  vep_wake_listeners(set->vep, VEP_DEPTH);
  n = vep_collect(set->vep, events, maxevents);
  if (n > 0 && !list_empty(&set->vep->ready))
    worker_again(w); /* more than were asked for, or level-triggered: Envoy takes 128 at a time and sleeps */
  if (n == 0 && wait_for_time != 0) {
    int forever = !(wait_for_time >= 0) || wait_for_time > 1e9;
    n = vep_wait(set, events, maxevents, forever ? 0 : clock_now_us() + (usec_t)(wait_for_time * 1e6));
  }
out:
  worker_leave(w);
  return n;
}
