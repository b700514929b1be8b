/*
 * fork: what a child keeps of its parent's worker (vcl_wait.h, vcl_fork_*).
 *
 * Called by the preload shim's pthread_atfork handlers, and of a program without the shim by those at the end. The
 * child's private memory is a copy of the parent's, so all handles stay valid. Its worker gets no home until it needs
 * one (`lazy`); then it says Hello with the parent's token. A listener moves into the new home as a share of the
 * parent's. A connected session stays in the home of whoever made it, which several processes now produce in: the
 * home's shared lock serialises them, and vcl_kin.h tells who holds it and who ends it. Its maker's bell stays open in
 * each process that holds such sessions, because the bell's end is the proof that all of them are gone.
 */
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_family.h"
#include "vcl_kin.h"
#include "vcl_parts.h"
#include "vcl_peers.h"
#include "vcl_rejoin.h"
#include "vcl_wait.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
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
  if (app_state.lock_mode && __libc_single_threaded)
    listen_rest(w);
  cut_flush(w);
  cut_pair_fork_prepare(w);
  parts_fork(w);
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
  kin_fork_prepare(w);
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
  s->armed_offer = s->took = s->missed = 0;
  if (s->quiet)
    s->w->n_quiet--;
  s->quiet = 0;
  s->bound = 0;
}

/** Sorts what the child inherited. */
static void fork_sort(struct worker *w) {
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
  }
}

/** What was the parent's own home is one more that was inherited. */
static void fork_inherit_home(struct worker *w) {
  w->home->inherited = 1;
  list_add_tail(&w->inherited, &w->home->link);
  w->home = NULL;
  w->lazy = 1;
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
  parts_fork_child(w);
  fork_broker(w);
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1))
    ((struct session *)pool_ref(&w->sessions, i))->pins = 0; /* of threads that are not here */
  cut_pair_fork_child(w);
  rejoin_fork_child(w);
  if (w->home != NULL) { /* else its parent never used the stack itself */
    fork_sort(w);
    cut_pair_fork_sorted(w);
    fork_inherit_home(w);
  }
  kin_fork_child(w);
  return 0;
}

void vcl_fork_again(void) {
  struct worker *w = worker_enter();
  if (w == NULL)
    return;
  kin_again(w);
  worker_leave(w);
}

/** Moves a session that the engine knows nothing of under this process into the own home. */
static int fork_move(struct worker *w, struct session *s) {
  int64_t slot = home_slot_get(w->home);
  if (slot < 0)
    return (int)slot;
  session_move(s, w->home, (uint32_t)slot);
  return 0;
}

/** Its parent is gone, but whoever made what it inherited is somebody whom the broker knows: by its bell, which we
 * hold. -ESTALE: nobody. */
static int fork_join(struct worker *w) {
  struct list *pos;
  uint8_t token[BROKER_TOKEN];
  int rc = -ESTALE;
  list_for_each(pos, &w->inherited) {
    const struct home *h = list_entry(pos, struct home, link);
    if (h->bell < 0 || rc != -ESTALE)
      continue;
    memcpy(token, h->token, sizeof token);
    rc = worker_attach(w, token);
  }
  return rc;
}

/** A child whose family has ended, before it needed the stack: it founds the application anew, or joins whoever has.
 * Not if it has listeners to make again: -ESTALE, as when somebody else is about to. */
static int fork_found(struct worker *w, const uint8_t *refused) {
  uint8_t token[BROKER_TOKEN];
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1))
    if (((struct session *)pool_ref(&w->sessions, i))->share_due)
      return -ESTALE;
  enum family_answer how = family_ask(refused, token);
  if (how == FAMILY_WAIT)
    return -ESTALE;
  if (how == FAMILY_JOIN)
    return worker_attach(w, token);
  w->broker.have_parent = 0;
  int rc = worker_attach(w, NULL);
  if (rc == 0)
    family_founded(w->broker.token);
  else
    family_forgo();
  return rc;
}

int worker_ready(struct worker *w) {
  uint8_t parent[BROKER_TOKEN];
  if (w->rejoin != NULL)
    rejoin_step(w);
  if (!w->lazy)
    return w->home != NULL ? 0 : -ENETDOWN;
  memcpy(parent, w->broker.parent, sizeof parent);
  int rc = worker_attach(w, parent);
  if (rc == -ESTALE)
    rc = fork_join(w);
  if (rc == -ESTALE) /* nobody whom the broker knows as ours is left, or the stack that did */
    rc = fork_found(w, parent);
  if (rc == -ESTALE)
    rejoin_begin(w);
  if (rc < 0)
    return rc;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (s->kind == SESSION_STREAM && s->home->inherited && s->home->pair == NULL &&
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

/* --- without the shim: the worker of the thread that forks goes on in the child; the others' threads are not there */

#define FORK_WAIT_MS 2000

static int fork_held;    /* between prepare and its two ends: the calling thread's worker is held */
static int fork_pipe[2]; /* told by the child once it holds what it inherited: its parent may close or exit at once */

static int fork_has_sessions(void) {
  struct worker *w = app_state.workers[app_thread_index()];
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1))
    if (((struct session *)pool_ref(&w->sessions, i))->kind == SESSION_STREAM)
      return 1;
  return 0;
}

static void fork_before(void) {
  if (app_state.lock_mode)
    return;
  pthread_mutex_lock(&app_state.lock);
  fork_pipe[0] = fork_pipe[1] = -1;
  fork_held = vcl_fork_prepare() == 0;
  if (fork_held && fork_has_sessions() && pipe2(fork_pipe, O_CLOEXEC) < 0)
    fork_pipe[0] = fork_pipe[1] = -1; /* the child still takes what it can, only nobody waits for it */
}

static void fork_in_parent(void) {
  int saved = errno;
  char byte;
  if (app_state.lock_mode)
    return;
  if (fork_held)
    (void)vcl_fork_parent();
  if (fork_pipe[0] >= 0) {
    struct pollfd p = {.fd = fork_pipe[0], .events = POLLIN};
    close(fork_pipe[1]);
    if (poll(&p, 1, FORK_WAIT_MS) > 0 && read(fork_pipe[0], &byte, 1) == 0)
      vcl_fork_unborn();
    close(fork_pipe[0]);
  }
  pthread_mutex_unlock(&app_state.lock);
  errno = saved;
}

static void fork_in_child(void) {
  int saved = errno;
  if (app_state.lock_mode)
    return;
  int own = fork_held ? app_thread_index() : -1;
  pthread_mutex_init(&app_state.lock, NULL);
  for (int i = 0; i < (int)WORKER_MAX; i++) {
    struct worker *w = app_state.workers[i];
    if (w == NULL || i == own)
      continue;
    app_state.workers[i] = NULL;
    worker_forget(w);
  }
  app_state.created = own >= 0 && vcl_fork_child() == 0;
  if (app_state.created && fork_pipe[1] >= 0)
    (void)vcl_fork_share();
  if (fork_pipe[1] >= 0) {
    (void)!write(fork_pipe[1], "", 1);
    close(fork_pipe[0]);
    close(fork_pipe[1]);
  }
  errno = saved;
}

void fork_watch(void) {
  static int watched;
  if (!watched && !app_state.lock_mode)
    watched = pthread_atfork(fork_before, fork_in_parent, fork_in_child) == 0;
}
