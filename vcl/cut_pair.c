/*
 * A pair's life: mapped, served, dead, gone; and what a fork makes of it (vcl_cut.h).
 *
 * Called by cut.c, cut_dest.c and fork.c on the worker's thread or under its mutex. Everything of the other app is
 * hostile: its ring is taken with checked bounds, its words are loaded once; a lie ends the pair and is counted by the
 * broker (PairGone). The other app's death is the end of its socket, whatever else is up or down.
 */
#include "vcl_branch.h"

#include "base/clock.h"
#include "vcl_app.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define CUT_PAIR_BURST 64
#define CUT_PAIR_GIVE  (1u << 20) /* bytes of the arena that an unused pair may keep */

struct cut_pair *cut_pair_new(struct worker *w, uint64_t id, int client, const int fds[3]) {
  struct worker_view v;
  const char *why = NULL;
  struct cut_pair *p = calloc(1, sizeof *p);
  int rc = worker_pair_open(&v, fds[0], fds[1], &why); /* takes both over */
  if (rc == 0 && (p == NULL || (id != 0 && v.ga.worker_id != id))) {
    worker_view_close(&v);
    rc = -EPROTO;
  }
  id = rc == 0 ? v.ga.worker_id : id;
  if (rc == 0)
    rc = home_init_pair(&p->home, &v, id, client, fds[2], p); /* takes the view over */
  if (rc < 0) {
    app_debug(1, "vcl.pair %llu is no good: %s (%s)", (unsigned long long)id, why != NULL ? why : "", err_name(rc));
    close(fds[2]);
    free(p);
    return NULL;
  }
  p->w = w;
  p->id = id;
  p->client = client != 0;
  p->idle_since = clock_now_us();
  p->home.due = &w->cut->ring_due;
  list_init(&p->grants);
  list_add_tail(&w->cut->pairs, &p->link);
  w->cut->n_pairs++;
  struct epoll_event ev = {.events = EPOLLIN, .data.ptr = p};
  (void)epoll_ctl(w->front, EPOLL_CTL_ADD, p->home.bell, &ev);
  v.app->pid = (uint32_t)getpid();
  if (w->watched || w->n_asleep != 0) {
    w->cut->dirty = 1;
    (void)hint_arm(&p->home.from[0]);
  }
  app_debug(2, "vcl.pair %llu %s", (unsigned long long)id, client ? "to connect" : "to accept");
  return p;
}

/** Out of the way of everybody who looks for pairs. Grants are no good any more. */
static void cut_pair_unlink(struct cut_pair *p) {
  struct worker *w = p->w;
  struct cut_state *c = w->cut;
  struct list *link;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->home == &p->home && s->cut != NULL)
      s->cut->grant = NULL;
  }
  while ((link = list_pop_head(&p->grants)) != NULL) {
    struct cut_grant *g = list_entry(link, struct cut_grant, link);
    cut_dest_forget(c, g);
    free(g);
  }
  if (c->turn == p)
    c->turn = NULL;
  if (!list_linked(&p->link))
    return;
  list_del(&p->link);
  if (!p->home.inherited)
    c->n_pairs--;
}

static void cut_pair_say_gone(struct cut_pair *p) {
  struct cut_state *c = p->w->cut;
  if (p->home.inherited || c->n_gone == sizeof c->gone / sizeof c->gone[0])
    return; /* the broker finds out with the worker's end */
  c->gone[c->n_gone] = p->id;
  c->gone_lied[c->n_gone++] = p->lied;
}

void cut_pair_free(struct cut_pair *p) {
  struct worker *w = p->w;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_BRANCH && s->home == &p->home) {
      s->home = NULL;
      branch_free(s);
      continue;
    }
    if (s->kind != SESSION_STREAM || s->home != &p->home)
      continue;
    if (s->life == SESSION_OFFER) {
      if (list_linked(&s->offers))
        list_del(&s->offers);
    }
    s->home = NULL;
    session_free(s);
  }
  cut_pair_unlink(p);
  if (!p->home.detached)
    cut_pair_say_gone(p);
  if (!p->home.inherited)
    worker_front_forget(w, p->home.bell);
  home_let_go(&p->home);
  home_fini(&p->home);
  free(p);
}

void cut_pair_empty(struct cut_pair *p) {
  if (p->home.detached || p->home.inherited) {
    cut_pair_free(p);
    return;
  }
  p->idle_since = clock_now_us();
  struct home *h = &p->home;
  if (!p->touched)
    return;
  p->touched = 0; /* memory that bytes were in goes back; the next session gets fresh zeroes */
  uint8_t *arena = h->view.seg_a.base + h->view.ga.arena_off;
  (void)madvise(arena + CUT_PAIR_GIVE, h->view.ga.arena_size - CUT_PAIR_GIVE, MADV_REMOVE);
}

void cut_pair_dead(struct cut_pair *p, int lied) {
  struct worker *w = p->w;
  struct home *h = &p->home;
  if (h->detached)
    return;
  h->n_sessions++; /* held to the end */
  if (!lied && !h->inherited)
    (void)cut_pair_pump(p); /* what it said before it went, which may be a lie */
  if (h->detached) {
    home_unref(h);
    return;
  }
  h->detached = 1;
  p->lied = lied != 0;
  cut_pair_unlink(p);
  cut_pair_say_gone(p);
  if (!h->inherited)
    worker_front_forget(w, h->bell);
  home_let_go(h);
  app_debug(lied ? 1 : 2, "vcl.pair %llu: the other side %s", (unsigned long long)p->id, lied ? "lied" : "is gone");
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_BRANCH && s->home == h) {
      branch_dead(s, lied);
      continue;
    }
    if (s->kind != SESSION_STREAM || s->home != h)
      continue;
    if (lied && s->broken == 0)
      s->broken = ECONNRESET;
    session_settle(s);
    if (!lied && s->cut->client && !s->cut->accepted && s->life != SESSION_ZOMBIE && !h->inherited)
      cut_sess_return(s);
    else if (s->life != SESSION_OFFER)
      session_touch(s);
  }
  home_unref(h);
  waiter_notify_any(w);
}

/** One hint: the slot's session is told; a slot that nobody has may bring a connect. */
static void cut_pair_hint(struct cut_pair *p, uint32_t slot) {
  struct worker *w = p->w;
  struct home *h = &p->home;
  if (slot >= h->n_slots)
    return;
  if (h->owner[slot] != HOME_NO_OWNER) {
    struct session *s = pool_ref(&w->sessions, h->owner[slot] - 1);
    if (s->kind == SESSION_BRANCH) {
      branch_touch(s);
    } else if (cut_sess_refused(s) && s->life != SESSION_ZOMBIE) {
      cut_dest_forget(w->cut, s->cut->grant);
      cut_sess_return(s);
    } else if (s->life != SESSION_OFFER) {
      session_touch(s);
    }
  }
  if (!p->client && h->owner[slot] == HOME_NO_OWNER)
    cut_sess_offered(p, slot);
}

int cut_pair_pump(struct cut_pair *p) {
  struct home *h = &p->home;
  uint32_t slots[CUT_PAIR_BURST];
  int k, n = 0;
  if (!hint_pending(&h->from[0]))
    return 0;
  h->n_sessions++; /* held: the last session may go meanwhile */
  while ((k = hint_take(&h->from[0], slots, CUT_PAIR_BURST)) > 0) {
    for (int i = 0; i < k; i++)
      cut_pair_hint(p, slots[i]);
    n += k;
  }
  if (k < 0)
    cut_pair_dead(p, 1);
  home_unref(h);
  return n;
}

void cut_pair_fork_prepare(struct worker *w) {
  struct list *pos;
  branch_fork_prepare(w);
  if (w->cut == NULL)
    return;
  list_for_each(pos, &w->cut->pairs) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE && !p->home.forked;
         i = pool_next(&w->sessions, i + 1)) {
      struct session *s = pool_ref(&w->sessions, i);
      if (s->kind != SESSION_SET && s->home == &p->home)
        session_seed(s);
    }
    if (p->home.n_sessions != 0)
      p->home.forked = 1;
  }
}

void cut_pair_fork_child(struct worker *w) {
  struct cut_state *c = w->cut;
  struct list *link;
  if (c == NULL)
    return;
  memset(c->dest, 0, sizeof c->dest); /* connects of its own go over pairs of its own */
  c->n_gone = 0;
  c->turn = NULL;
  c->n_pairs = 0;
  while ((link = list_pop_head(&c->pairs)) != NULL) {
    struct cut_pair *p = list_entry(link, struct cut_pair, link);
    p->home.inherited = 1;
    list_add_tail(&c->inherited, link);
  }
  branch_fork_child(w);
}

void cut_pair_fork_sorted(struct worker *w) {
  struct list *pos, *tmp;
  if (w->cut == NULL)
    return;
  list_for_each_safe(pos, tmp, &w->cut->inherited) {
    struct cut_pair *p = list_entry(pos, struct cut_pair, link);
    if (p->home.n_sessions == 0)
      cut_pair_free(p);
  }
}
