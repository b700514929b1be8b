/*
 * Cut-through as the worker's loop sees it: rings, bells and deaths of all its pairs (vcl_cut.h).
 *
 * Called by worker.c and waiter.c on the worker's thread or under its mutex. A worker that sleeps is woken by the
 * pairs' sockets, which lie in its front beside the bell; one that never sleeps looks at a socket and at the bell every
 * millisecond or so, for deaths and for pairs that other apps' connects bring. What the broker is told here waits for
 * it shortly only, and never while another thread speaks to it.
 */
#include "vcl_cut.h"

#include "base/clock.h"
#include "shm/bell.h"
#include "vcl_app.h"
#include "vcl_rejoin.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CUT_TICK    (1u << 21)            /* cycles between two looks of a worker that does not sleep */
#define CUT_IDLE_US (10 * CLOCK_US_PER_S) /* a pair without sessions goes after that */
#define CUT_EVENTS  16

int cut_ready(struct worker *w) {
  if (w->cut != NULL)
    return 0;
  if (!app_state.cfg.scope_local)
    return -EOPNOTSUPP;
  struct cut_state *c = calloc(1, sizeof *c);
  if (c == NULL)
    return -ENOMEM;
  list_init(&c->pairs);
  list_init(&c->inherited);
  w->cut = c;
  return 0;
}

void cut_end(struct worker *w) {
  struct cut_state *c = w->cut;
  struct list *link;
  if (c == NULL)
    return;
  while ((link = list_first(&c->pairs)) != NULL)
    cut_pair_free(list_entry(link, struct cut_pair, link));
  while ((link = list_first(&c->inherited)) != NULL)
    cut_pair_free(list_entry(link, struct cut_pair, link));
  w->cut = NULL;
  free(c);
}

/** Tells the broker of pairs that went. */
static void cut_tell_gone(struct worker *w) {
  struct cut_state *c = w->cut;
  if (w->home == NULL || w->home->detached || pthread_mutex_trylock(&w->broker.lock) != 0)
    return;
  while (c->n_gone != 0) {
    int rc = broker_pair_gone(&w->broker, w->home->worker_id, c->gone[c->n_gone - 1], c->gone_lied[c->n_gone - 1]);
    if (rc == -EAGAIN || rc == -ETIMEDOUT)
      break;
    c->n_gone--;
  }
  pthread_mutex_unlock(&w->broker.lock);
}

int cut_hear(struct worker *w) {
  int fds[BELL_PAIR_FDS], rc;
  while ((rc = bell_drain_pair(w->home->bell, fds)) == BELL_PAIR) {
    if (cut_ready(w) == 0) {
      (void)cut_pair_new(w, 0, 0, fds);
      continue;
    }
    for (int i = 0; i < BELL_PAIR_FDS; i++) /* the other side sees the end of the socket, and goes by TCP */
      close(fds[i]);
  }
  return rc;
}

void cut_hurry(struct worker *w) {
  if (w->cut == NULL)
    return;
  w->cut->tick = 0;
  (void)worker_pump(w);
}

void cut_revoke(struct worker *w) {
  struct list *pos;
  if (w->cut == NULL)
    return;
  list_for_each(pos, &w->cut->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    struct abi_worker_app *block = p->home.view.app;
    if (!p->client)
      __atomic_store_n(&block->epoch_seen, block->epoch_seen + 1, __ATOMIC_RELEASE);
  }
}

/** One socket's bytes. The pair may be dead, and gone, afterwards. */
static void cut_look(struct cut_pair *p) {
  if (!p->home.detached && bell_drain(p->home.bell) == -EPIPE)
    cut_pair_dead(p, 0);
}

/** The children's look at pairs whose socket is their parent's to read. */
static void cut_look_inherited(struct cut_state *c) {
  struct list *pos, *tmp;
  list_for_each_safe(pos, tmp, &c->inherited) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    struct pollfd pfd = {.fd = p->home.bell};
    if (!p->home.detached && poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLHUP) != 0)
      cut_pair_dead(p, 0);
  }
}

/** Every millisecond of a worker that goes on looking. */
static void cut_look_around(struct worker *w) {
  struct cut_state *c = w->cut;
  if (w->home != NULL && !w->home->detached && cut_hear(w) == -EPIPE)
    rejoin_begin(w);
  struct list *at = c->turn != NULL ? c->turn->link.next : c->pairs.next;
  if (at == &c->pairs)
    at = c->pairs.next;
  c->turn = at != &c->pairs ? list_entry(at, struct cut_pair, link) : NULL;
  struct cut_pair *p = c->turn;
  if (p != NULL && p->client && p->home.n_sessions == 0 && !p->home.detached &&
      clock_now_us() - p->idle_since > CUT_IDLE_US)
    cut_pair_free(p);
  else if (p != NULL)
    cut_look(p);
  if (c->n_gone != 0)
    cut_tell_gone(w);
  cut_look_inherited(c);
}

int cut_pump_slow(struct worker *w) {
  struct cut_state *c = w->cut;
  struct list *pos, *tmp;
  int n = 0;
  uint64_t now = __builtin_ia32_rdtsc();
  if (now - c->tick > CUT_TICK) {
    c->tick = now;
    cut_look_around(w);
  }
  list_for_each_safe(pos, tmp, &c->pairs) n += cut_pair_pump(list_entry(pos, struct cut_pair, link));
  return n;
}

int cut_pending_slow(const struct worker *w) {
  struct list *pos;
  list_for_each(pos, &w->cut->pairs) if (hint_pending(&list_entry(pos, struct cut_pair, link)->home.from[0])) return 1;
  return 0;
}

int cut_arm_slow(struct worker *w) {
  struct list *pos;
  int empty = 1;
  w->cut->dirty = 1;
  list_for_each(pos, &w->cut->pairs) empty &= hint_arm(&list_entry(pos, struct cut_pair, link)->home.from[0]);
  return empty;
}

void cut_disarm_slow(struct worker *w) {
  struct list *pos;
  list_for_each(pos, &w->cut->pairs) hint_disarm(&list_entry(pos, struct cut_pair, link)->home.from[0]);
}

void cut_flush_slow(struct worker *w) {
  struct list *pos;
  w->cut->ring_due = 0;
  list_for_each(pos, &w->cut->pairs) home_flush(&list_entry(pos, struct cut_pair, link)->home);
  list_for_each(pos, &w->cut->inherited) home_flush(&list_entry(pos, struct cut_pair, link)->home);
}

/** Whether the pair is one of ours still: what epoll remembers is an address only. */
static int cut_knows(const struct cut_state *c, const void *p) {
  struct list *pos;
  list_for_each(pos, &c->pairs) if (list_entry(pos, struct cut_pair, link) == p) return 1;
  return 0;
}

void cut_drain(struct worker *w) {
  struct cut_state *c = w->cut;
  struct epoll_event ev[CUT_EVENTS];
  if (c == NULL || c->n_pairs == 0 || !c->dirty)
    return;
  if (w->n_asleep == 0 && !w->watched)
    c->dirty = 0;
  if (c->n_pairs == 1) { /* no need to ask which */
    cut_look(list_entry(list_first(&c->pairs), struct cut_pair, link));
    return;
  }
  int n;
  do {
    n = epoll_wait(w->front, ev, CUT_EVENTS, 0);
    int mine = 0;
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr == NULL || !cut_knows(c, ev[i].data.ptr))
        continue;
      cut_look(ev[i].data.ptr);
      mine++;
    }
    n = mine == CUT_EVENTS ? n : 0;
  } while (n == CUT_EVENTS);
}

int cut_is_heir(const struct worker *w) {
  return w->cut != NULL && !list_empty(&w->cut->inherited);
}
