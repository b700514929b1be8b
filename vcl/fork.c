/*
 * fork: what a child keeps of its parent's worker (vcl_wait.h, vcl_fork_*).
 *
 * Called by the preload shim's pthread_atfork handlers. The child's private memory is a copy of the parent's, so all
 * handles stay valid. Its worker gets no home until it needs one (`lazy`); then it says Hello with the parent's token.
 * A listener moves into the new home as a share of the parent's. A connected session stays in the parent's home, which
 * two processes now produce in: the home's shared lock serialises them. The parent's bell stays open in the child only
 * while such sessions exist, because the bell's end is the proof of the parent's death.
 */
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_family.h"
#include "vcl_peers.h"
#include "vcl_rejoin.h"
#include "vcl_wait.h"

#include <stdlib.h>
#include <unistd.h>

int vcl_fork_prepare(void) {
  int index = app_state.lock_mode ? 0 : app_thread_index();
  struct worker *w = index >= 0 ? app_state.workers[index] : NULL;
  if (w == NULL)
    return -ENODEV;
  if (app_state.lock_mode)
    pthread_mutex_lock(&w->broker.lock);
  worker_lock(w); /* both are held over the fork: the child's copy is consistent */
  w->bell_dirty = 1;
  worker_drain_bell(w); /* a stack that is gone is not handed on */
  worker_again(w);
  if (w->rejoin == NULL) /* else: no step towards the next stack that a sleeping parent would never finish */
    (void)worker_pump(w);
  cut_flush(w);
  cut_pair_fork_prepare(w);
  if (w->home != NULL) {
    home_flush(w->home);
    for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE && !w->home->forked;
         i = pool_next(&w->sessions, i + 1)) {
      struct session *s = pool_ref(&w->sessions, i);
      if (s->kind == SESSION_STREAM && s->home == w->home)
        session_seed(s);
    }
    w->home->forked = 1;
  }
  return 0;
}

int vcl_fork_parent(void) {
  int index = app_state.lock_mode ? 0 : app_thread_index();
  struct worker *w = index >= 0 ? app_state.workers[index] : NULL;
  if (w == NULL)
    return -ENODEV;
  worker_leave(w);
  if (app_state.lock_mode)
    pthread_mutex_unlock(&w->broker.lock);
  return 0;
}

/** A listener of the parent's becomes a share in the child: its slot comes with the child's home. */
static void fork_inherit_listener(struct session *s) {
  listen_drop_offers(s);
  s->share_due = 1;
  s->share_of = s->redo ? family_listener(s->share_of) : s->listener_id;
  s->redo = 0;
  s->armed_offer = 0;
  s->bound = 0;
}

/** Sorts what the child inherited. Number of sessions that stay in the parent's home. */
static uint32_t fork_sort(struct worker *w) {
  uint32_t stay = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    s->pins = 0;
    waiter_owner_gone(&s->watchers);
    if (s->kind != SESSION_STREAM)
      continue;
    peers_drop(s); /* the parent has them, too */
    if (s->life == SESSION_LISTEN)
      fork_inherit_listener(s);
  }
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM)
      continue;
    if (s->life == SESSION_ZOMBIE || s->life == SESSION_OFFER)
      session_free(s); /* the parent's to bury or to take */
    else if ((s->life == SESSION_CONNECT || s->life == SESSION_OPEN) && s->cut == NULL)
      stay++;
  }
  return stay;
}

/** A grandchild keeps what its parent owned itself; what that one had inherited ends here. */
static void fork_drop_inherited(struct worker *w) {
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->home != w->inherited)
      continue;
    s->pins = 0;
    if (s->life == SESSION_ZOMBIE)
      session_free(s);
    else
      session_close(s, 0);
  }
  home_let_go(w->inherited);
  home_fini(w->inherited);
  free(w->inherited);
  w->inherited = NULL;
}

/** The conversation starts anew, with the token of the nearest ancestor that had one. */
static void fork_broker(struct worker *w) {
  uint8_t parent[BROKER_TOKEN];
  memcpy(parent, w->broker.have_token ? w->broker.token : w->broker.parent, sizeof parent);
  if (w->broker.fd >= 0)
    close(w->broker.fd);
  broker_init(&w->broker, &app_state.cfg, app_state.name);
  memcpy(w->broker.parent, parent, sizeof parent);
  w->broker.have_parent = 1;
}

int vcl_fork_child(void) {
  int index = app_state.lock_mode ? 0 : app_thread_index();
  struct worker *w = index >= 0 ? app_state.workers[index] : NULL;
  if (w == NULL)
    return -ENODEV;
  app_state.fork_serial++;
  pthread_mutex_init(&w->lock, NULL);
  waiter_free_all(w);
  w->n_asleep = w->n_waiters = 0;
  w->n_stack = w->n_kernel = w->n_lost = 0; /* what it inherits was counted for its parent */
  if (w->heir_timer >= 0)
    close(w->heir_timer);
  if (w->front >= 0)
    close(w->front);
  if (w->again_fd >= 0)
    close(w->again_fd);
  w->heir_timer = w->front = w->again_fd = -1;
  w->again = 0;
  fork_broker(w);
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1))
    ((struct session *)pool_ref(&w->sessions, i))->pins = 0; /* of threads that are not here */
  cut_pair_fork_child(w);
  rejoin_fork_child(w);
  if (w->home == NULL) /* its parent never used the stack itself: nothing has changed */
    return 0;
  if (w->inherited != NULL)
    fork_drop_inherited(w);
  uint32_t stay = fork_sort(w);
  cut_pair_fork_sorted(w);
  w->inherited = w->home;
  w->inherited->inherited = 1;
  w->home = NULL;
  w->lazy = 1;
  if (stay == 0) /* nothing of the parent's is used: its death must show */
    home_let_go(w->inherited);
  return 0;
}

/** Moves a session that the engine knows nothing of under this process into the own home. */
static int fork_move(struct worker *w, struct session *s) {
  int64_t slot = home_slot_get(w->home);
  if (slot < 0)
    return (int)slot;
  session_move(s, w->home, (uint32_t)slot);
  return 0;
}

int worker_ready(struct worker *w) {
  uint8_t parent[BROKER_TOKEN];
  if (w->rejoin != NULL)
    rejoin_step(w);
  if (!w->lazy)
    return w->home != NULL ? 0 : -ENETDOWN;
  memcpy(parent, w->broker.parent, sizeof parent);
  int rc = worker_attach(w, parent);
  if (rc == -ESTALE) /* the stack that knew our parent is gone */
    rejoin_begin(w);
  if (rc < 0)
    return rc;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->home == w->inherited &&
        (s->life == SESSION_LISTEN || s->life == SESSION_NEW || s->life == SESSION_BOUND || s->life == SESSION_DEFER))
      (void)fork_move(w, s);
  }
  return 0;
}

int vcl_fork_share(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return -ENODEV;
  int n = 0;
  int rc = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE && rc == 0; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind != SESSION_STREAM || s->life != SESSION_LISTEN || !s->share_due)
      continue;
    rc = worker_ready(w);
    if (rc == 0)
      rc = listen_share(s);
    n += rc == 0;
  }
  worker_leave(w);
  return rc < 0 ? rc : n;
}
