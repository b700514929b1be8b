/*
 * The engine's half of the fake but for its sessions (fake_sess.c, fake_dgram.c): workers, hints, epochs; the thread
 * that runs both halves; and what tests do to it.
 *
 * See fake_engine.h. One lock around everything: correctness of the library is what is tested, not the fake's speed.
 */
#include "fake_sess.h"

#include "base/bits.h"
#include "ctl/attach.h"
#include "shm/bell.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FAKE_BURST 64

/* --- workers --- */

struct fake_worker *fake_worker_new(struct fake *f, int proc, int fds[2]) {
  struct abi_worker_geom ga, ge;
  struct seg a, e;
  const char *why = NULL;
  struct fake_worker *w = NULL;
  for (int i = 0; i < FAKE_PROCS && w == NULL; i++)
    if (!f->worker[i].used)
      w = &f->worker[i];
  if (w == NULL)
    return NULL;
  memset(w, 0, sizeof *w);
  w->id = f->next_id++;
  w->proc = proc;
  uint64_t size_a = worker_geom_make(&ga, ABI_SEG_APP, w->id, 1, f->n_slots, ABI_LANES_MAX, f->arena_size);
  uint64_t size_e = worker_geom_make(&ge, ABI_SEG_ENGINE, w->id, 1, f->n_slots, ABI_LANES_MAX, f->arena_size);
  if (f->tx_first != 0) {
    ga.arena_keep = f->tx_first;
    ga.arena_step = f->tx_step;
    size_a -= ga.arena_size - f->tx_first;
  }
  if (seg_create(&a, "fake-a", ABI_SEG_APP, f->next_id++, size_a, (const uint64_t *)&ga) < 0)
    return NULL;
  if (seg_create(&e, "fake-e", ABI_SEG_ENGINE, f->next_id++, size_e, (const uint64_t *)&ge) < 0) {
    seg_detach(&a);
    return NULL;
  }
  fds[0] = seg_reopen_rdonly(&e);
  fds[1] = dup(a.fd);
  int rc = worker_view_open(&w->v, dup(a.fd), SEG_RDONLY, dup(e.fd), SEG_RDWR, &why);
  seg_detach(&a);
  seg_detach(&e);
  if (rc < 0)
    return NULL;
  w->arena_book = malloc(arena_meta_size(ge.arena_size));
  w->arena = arena_init(w->arena_book, arena_meta_size(ge.arena_size), (uint32_t)(ge.arena_off / ABI_CHUNK_UNIT),
                        ge.arena_size);
  w->by_slot = calloc(f->n_slots, sizeof *w->by_slot);
  w->engine_free = calloc(f->n_slots, sizeof *w->engine_free);
  w->engine_next = (uint32_t)ge.n_slots_app;
  struct abi_lane_engine *mine = &w->v.engine->lane[0];
  const struct abi_lane_app *peer = &w->v.app->lane[0];
  hint_prod_init(&w->to_app, &mine->to_app, &peer->from_engine, worker_view_ring_engine(&w->v, 0),
                 (uint32_t)ge.ring_cap);
  hint_cons_init(&w->from_app, &mine->from_app, &peer->to_engine, worker_view_ring_app(&w->v, 0),
                 (uint32_t)ge.ring_cap);
  STORE(&w->v.engine->epoch, 1u);
  STORE(&w->v.engine->state, (uint32_t)ABI_WORKER_LIVE);
  w->used = 1;
  return w;
}

void fake_worker_free(struct fake *f, struct fake_worker *w) {
  fake_part_free(f, w);
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    if (!s->used || s->w != w)
      continue;
    fake_sess_unlink(s);
    s->used = 0;
  }
  for (int i = 0; i < FAKE_LISTENERS; i++)
    if (f->listener[i].w == w)
      f->listener[i].used = 0;
  worker_view_close(&w->v);
  free(w->arena_book);
  free(w->by_slot);
  free(w->engine_free);
  memset(w, 0, sizeof *w);
}

static void engine_flush(struct fake *f) {
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct fake_worker *w = &f->worker[i];
    if (!w->used || !w->ring_due)
      continue;
    w->ring_due = 0;
    if (!f->mute && f->proc[w->proc].bell >= 0)
      (void)bell_ring_app(f->proc[w->proc].bell);
  }
}

/** A worker whose app is gone goes with its last orphan. Its listeners go at once. */
static void engine_bury(struct fake *f, struct fake_worker *w) {
  for (int i = 0; i < FAKE_LISTENERS; i++) {
    struct fake_listener *l = &f->listener[i];
    if (!l->used || l->w != w)
      continue;
    l->used = 0;
    fake_listener_gone(f, l);
  }
  for (int i = 0; i < FAKE_SESSIONS; i++)
    if (f->session[i].used && f->session[i].w == w)
      return;
  fake_worker_free(f, w);
}

/** One round over everything. Returns whether anything changed. */
static int engine_turn(struct fake *f) {
  uint32_t slots[FAKE_BURST];
  int busy = 0;
  if (f->engine_down)
    return 0;
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct fake_worker *w = &f->worker[i];
    int n;
    if (!w->used)
      continue;
    while ((n = hint_take(&w->from_app, slots, FAKE_BURST)) > 0) {
      busy = 1;
      for (int k = 0; k < n; k++)
        fake_sess_look(f, w, slots[k]);
    }
  }
  for (int i = 0; i < FAKE_SESSIONS; i++)
    if (f->session[i].used)
      busy |= fake_sess_step(f, &f->session[i]);
  for (int i = 0; i < FAKE_PROCS; i++)
    if (f->worker[i].used && f->worker[i].dying)
      engine_bury(f, &f->worker[i]);
  engine_flush(f);
  return busy;
}

static int engine_arm(struct fake *f) {
  int empty = 1;
  for (int i = 0; i < FAKE_PROCS; i++)
    if (f->worker[i].used)
      empty &= hint_arm(&f->worker[i].from_app);
  return empty || f->engine_down;
}

/* --- the thread --- */

static nfds_t fake_fds(struct fake *f, struct pollfd *p, int *what) {
  nfds_t n = 0;
  p[n] = (struct pollfd){.fd = f->wake, .events = POLLIN};
  what[n++] = -1;
  if (f->listen_fd >= 0) {
    p[n] = (struct pollfd){.fd = f->listen_fd, .events = POLLIN};
    what[n++] = -2;
  }
  for (int i = 0; i < FAKE_PROCS; i++) {
    if (!f->proc[i].used)
      continue;
    if (f->proc[i].live) {
      p[n] = (struct pollfd){.fd = f->proc[i].fd, .events = POLLIN};
      what[n++] = i;
    }
    if (f->proc[i].doorbell >= 0) {
      p[n] = (struct pollfd){.fd = f->proc[i].doorbell, .events = POLLIN};
      what[n++] = -3 - i;
    }
  }
  return n;
}

static void fake_serve(struct fake *f, const struct pollfd *p, const int *what, nfds_t n) {
  uint64_t v;
  for (nfds_t i = 0; i < n; i++) {
    if (p[i].revents == 0)
      continue;
    if (what[i] == -1 || what[i] <= -3) {
      const struct fake_proc *owner = what[i] == -1 ? NULL : &f->proc[-3 - what[i]];
      if (owner != NULL && (!owner->used || owner->doorbell != p[i].fd))
        continue; /* closed meanwhile, and the number is something else's */
      if (read(p[i].fd, &v, sizeof v) < 0)
        continue;
    } else if (what[i] == -2 && f->listen_fd == p[i].fd) {
      fake_broker_accept(f);
    } else if (what[i] >= 0 && f->proc[what[i]].live && f->proc[what[i]].fd == p[i].fd) {
      fake_broker_message(f, &f->proc[what[i]]);
    }
  }
}

static void *fake_thread(void *arg) {
  struct fake *f = arg;
  struct pollfd p[2 * FAKE_PROCS + 2];
  int what[2 * FAKE_PROCS + 2];
  pthread_mutex_lock(&f->lock);
  while (!f->stop) {
    while (engine_turn(f) || !engine_arm(f))
      ;
    nfds_t n = fake_fds(f, p, what);
    pthread_mutex_unlock(&f->lock);
    int rc = poll(p, n, 50);
    pthread_mutex_lock(&f->lock);
    if (rc > 0)
      fake_serve(f, p, what, n);
    if (f->deaths)
      fake_broker_deaths(f);
  }
  pthread_mutex_unlock(&f->lock);
  return NULL;
}

void fake_lock(struct fake *f) {
  pthread_mutex_lock(&f->lock);
}

void fake_unlock(struct fake *f) {
  uint64_t one = 1;
  pthread_mutex_unlock(&f->lock);
  if (write(f->wake, &one, sizeof one) < 0)
    return;
}

int fake_start(struct fake *f) {
  memset(f, 0, sizeof *f);
  f->n_slots = 1024;
  f->tx_limit = f->rx_limit = 64 * 1024;
  f->arena_size = 64u << 20;
  f->app_timeout_ms = 20000;
  f->next_id = 100;
  f->next_port = 33000;
  snprintf(f->dir, sizeof f->dir, "/tmp/hs-fake-%d-XXXXXX", (int)getpid());
  if (mkdtemp(f->dir) == NULL)
    return -errno;
  snprintf(f->path, sizeof f->path, "%s/attach", f->dir);
  pthread_mutex_init(&f->lock, NULL);
  f->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  f->listen_fd = attach_listen(f->path, 0600, 16);
  if (f->listen_fd < 0)
    return f->listen_fd;
  setenv("VCL_VPP_SAPI_SOCKET", f->path, 1);
  unsetenv("VCL_CONFIG");
  return -pthread_create(&f->thread, NULL, fake_thread, f);
}

void fake_stop(struct fake *f) {
  fake_lock(f);
  f->stop = 1;
  fake_unlock(f);
  pthread_join(f->thread, NULL);
  fake_broker_drop_pairs(f);
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct fake_proc *p = &f->proc[i];
    if (f->worker[i].used)
      fake_worker_free(f, &f->worker[i]);
    if (p->used && p->live)
      close(p->fd);
    if (p->used && p->bell >= 0)
      close(p->bell);
    if (p->used && p->doorbell >= 0)
      close(p->doorbell);
  }
  if (f->listen_fd >= 0)
    close(f->listen_fd);
  close(f->wake);
  unlink(f->path);
  rmdir(f->dir);
  pthread_mutex_destroy(&f->lock);
}

/* --- what tests do to it --- */

void fake_broker_kill(struct fake *f) {
  fake_lock(f);
  close(f->listen_fd);
  f->listen_fd = -1;
  fake_broker_drop_pairs(f);
  for (int i = 0; i < FAKE_PROCS; i++) {
    if (!f->proc[i].used || !f->proc[i].live)
      continue;
    close(f->proc[i].fd);
    f->proc[i].fd = -1;
    f->proc[i].live = 0;
  }
  fake_unlock(f);
}

void fake_broker_up(struct fake *f) {
  fake_lock(f);
  while ((f->listen_fd = attach_listen(f->path, 0600, 16)) ==
         -EADDRINUSE) { /* the thread may hold the old one in poll, a moment longer than we do */
    fake_unlock(f);
    (void)poll(NULL, 0, 1);
    fake_lock(f);
  }
  fake_unlock(f);
}

void fake_engine_restart(struct fake *f) {
  fake_lock(f);
  for (int i = 0; i < FAKE_PROCS; i++) {
    struct fake_worker *w = &f->worker[i];
    if (!w->used)
      continue;
    uint32_t head = LOAD(&w->to_app.peer->head);
    for (uint32_t at = head; at != w->to_app.tail; at++)
      STORE(&w->to_app.entries[at & (w->to_app.cap - 1)], UINT32_MAX); /* lost */
    w->from_app.head = LOAD(&w->from_app.peer->tail);
    STORE(&w->from_app.mine->head, w->from_app.head);
    STORE(&w->v.engine->epoch, w->v.engine->epoch + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint32_t slot = 0; slot < f->n_slots; slot++)
      fake_sess_look(f, w, slot);
    w->ring_due = 1;
  }
  engine_flush(f);
  fake_unlock(f);
}

void fake_detach_all(struct fake *f) {
  fake_lock(f);
  for (int i = 0; i < FAKE_PROCS; i++) {
    if (!f->worker[i].used)
      continue;
    STORE(&f->worker[i].v.engine->state, (uint32_t)ABI_WORKER_DETACHED);
    f->worker[i].ring_due = 1;
  }
  engine_flush(f);
  fake_unlock(f);
}

void fake_all_dead(struct fake *f) {
  fake_broker_kill(f);
  fake_lock(f);
  f->engine_down = 1;
  for (int i = 0; i < FAKE_PROCS; i++) {
    if (!f->proc[i].used || f->proc[i].bell < 0)
      continue;
    close(f->proc[i].bell);
    f->proc[i].bell = -1;
  }
  fake_unlock(f);
}

void fake_all_new(struct fake *f) {
  fake_lock(f);
  memset(f->listener, 0, sizeof f->listener);
  memset(f->session, 0, sizeof f->session);
  for (int i = 0; i < FAKE_PROCS; i++) {
    if (f->worker[i].used)
      fake_worker_free(f, &f->worker[i]);
    if (f->proc[i].used && f->proc[i].doorbell >= 0)
      close(f->proc[i].doorbell);
    f->proc[i].used = 0;
  }
  f->next_id = 100; /* the same ids again, for other things */
  f->engine_down = 0;
  while ((f->listen_fd = attach_listen(f->path, 0600, 16)) ==
         -EADDRINUSE) { /* the thread's poll still has the old one */
    fake_unlock(f);
    (void)poll(NULL, 0, 1);
    fake_lock(f);
  }
  fake_unlock(f);
}

int fake_dial(struct fake *f, uint16_t port) {
  int rc = -ENOENT;
  fake_lock(f);
  struct fake_session *s = fake_sess_listener(f, port, 0) != NULL ? fake_sess_make(f) : NULL;
  if (s != NULL) {
    s->silent = port;
    rc = 0;
  }
  fake_unlock(f);
  return rc;
}

void fake_run(struct fake *f) {
  pthread_mutex_lock(&f->lock);
  while (engine_turn(f))
    ;
  pthread_mutex_unlock(&f->lock);
}

int fake_live_sessions(struct fake *f) {
  int n = 0;
  fake_lock(f);
  for (int i = 0; i < FAKE_SESSIONS; i++)
    n += f->session[i].used;
  fake_unlock(f);
  return n;
}
