/*
 * The engine's half of the fake: hints, sessions joined in pairs, epochs; and the thread that runs both halves.
 *
 * See fake_engine.h. One lock around everything: correctness of the library is what is tested, not the fake's speed.
 */
#include "fake_engine.h"

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

#define FAKE_BURST  64
#define LOAD(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static const uint32_t zero_word;

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

static void engine_unlink(struct fake_session *s) {
  if (s->peer != NULL)
    s->peer->peer = NULL;
  s->peer = NULL;
}

void fake_worker_free(struct fake *f, struct fake_worker *w) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    if (!s->used || s->w != w)
      continue;
    engine_unlink(s);
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

static void engine_hint(struct fake_session *s) {
  int ring = 0;
  (void)hint_push(&s->w->to_app, s->slot, &s->e->hint_pos, &ring);
  s->w->ring_due |= ring;
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

/* --- sessions --- */

static struct fake_session *session_make(struct fake *f) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    if (f->session[i].used)
      continue;
    memset(&f->session[i], 0, sizeof f->session[i]);
    f->session[i].used = 1;
    return &f->session[i];
  }
  return NULL;
}

static void session_clear(struct fake *f, struct abi_sess_engine *e) {
  uint32_t hint_pos = e->hint_pos, gen = e->gen;
  STORE(&e->state, (uint32_t)ABI_SESS_FREE);
  memset((uint8_t *)e + 8, 0, sizeof *e - 8);
  e->hint_pos = hint_pos;
  e->gen = gen;
  e->tx_limit = f->tx_limit;
  e->figures.rcv_wnd = f->rx_limit;
  e->figures.snd_mss = 1448;
  e->figures.tcp_state = 1;
}

static void session_bind(struct fake *f, struct fake_session *s, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  s->w = w;
  s->slot = slot;
  s->gen = gen;
  s->a = worker_view_app(&w->v, slot);
  s->e = worker_view_engine(&w->v, slot);
  w->by_slot[slot] = s;
  session_clear(f, s->e);
  (void)fifo_prod_init(&s->rx, &s->e->rx, s->e->rx_chunk, &zero_word, w->v.seg_e.base, w->arena, f->rx_limit);
}

static void session_believe(struct fake_session *s) {
  const struct worker_view *v = &s->w->v;
  s->rx.peer_head = &s->a->rx_head;
  fifo_cons_init(&s->tx, &s->a->tx, s->a->tx_chunk, &s->e->tx_head, v->seg_a.base, v->ga.arena_off, v->ga.arena_size,
                 ABI_FIFO_MAX);
  s->believed = 1;
}

/** The record is let go of: CLOSED, nothing refers to the app half any more. */
static void session_unbind(struct fake_session *s) {
  engine_unlink(s);
  fifo_prod_fini(&s->rx);
  s->w->by_slot[s->slot] = NULL;
  STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
  engine_hint(s);
  s->used = 0;
}

static void session_reset(struct fake_session *s, uint32_t error) {
  if (s->e == NULL || s->gone)
    return;
  STORE(&s->e->error, error);
  STORE(&s->e->flags, s->e->flags | ABI_SE_RESET);
  STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
  s->gone = 1;
  engine_unlink(s);
  engine_hint(s);
}

static struct fake_listener *listener_find(struct fake *f, uint16_t port, int armed) {
  struct fake_listener *best = NULL;
  for (int i = 0; i < FAKE_LISTENERS; i++) {
    struct fake_listener *l = &f->listener[i];
    if (!l->used || !l->listening || l->port != port)
      continue;
    const struct abi_sess_app *a = worker_view_app(&l->w->v, l->slot);
    int is_armed = LOAD(&a->gen) == l->gen && LOAD(&a->listen_armed) == 1;
    if (is_armed >= armed && (best == NULL || l->turn < best->turn))
      best = l;
  }
  if (best != NULL && armed)
    best->turn++;
  return best;
}

/** A server's session that waits for a process that takes offers. */
static void session_offer(struct fake *f, struct fake_session *s) {
  struct fake_listener *l = listener_find(f, (uint16_t)s->silent, 1);
  if (l == NULL)
    return;
  struct fake_worker *w = l->w;
  uint32_t slot;
  if (w->n_engine_free != 0)
    slot = w->engine_free[--w->n_engine_free];
  else if (w->engine_next < w->v.ge.n_slots)
    slot = w->engine_next++;
  else
    return;
  STORE(&w->v.engine->slots_high, w->engine_next);
  struct abi_sess_engine *e = worker_view_engine(&w->v, slot);
  uint32_t gen = e->gen + 1;
  session_bind(f, s, w, slot, gen);
  s->silent = 0;
  e->listener = l->slot;
  e->listener_gen = l->gen;
  e->local = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}, .family = 4, .port = be16_from(l->port)};
  e->remote = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 2}, .family = 4, .port = be16_from(40000)};
  if (s->peer != NULL && s->peer->e != NULL)
    e->remote.port = s->peer->e->local.port;
  STORE(&e->gen, gen);
  STORE(&e->state, (uint32_t)ABI_SESS_OFFERED);
  engine_hint(s);
}

/** Whether the app has accepted it, be it seen yet or not. */
static int session_taken(const struct fake_session *s) {
  return LOAD(&s->a->gen) == s->gen && LOAD(&s->a->accepted) == s->gen;
}

void fake_listener_gone(struct fake *f, const struct fake_listener *l) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    int parked = s->used && s->e == NULL && s->silent == l->port && listener_find(f, l->port, 0) == NULL;
    int offered = s->used && s->e != NULL && s->w == l->w && !s->believed && !session_taken(s) &&
                  s->e->listener == l->slot && s->e->listener_gen == l->gen && s->slot >= s->w->v.ga.n_slots_app;
    if (!parked && !offered)
      continue;
    if (s->peer != NULL)
      session_reset(s->peer, ECONNRESET);
    if (offered)
      session_unbind(s);
    s->used = 0;
  }
}

static void session_connect(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  struct fake_session *s = session_make(f);
  if (s == NULL)
    return;
  session_bind(f, s, w, slot, gen);
  struct abi_request rq = s->a->req;
  uint16_t port = be16_get(rq.remote.port);
  s->e->remote = rq.remote;
  s->e->local = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 2}, .family = 4};
  s->e->local.port = be16_from(f->next_port++);
  if (rq.local.family != 0 && be16_get(rq.local.port) != 0)
    s->e->local.port = rq.local.port;
  STORE(&s->e->gen, gen);
  STORE(&s->e->state, (uint32_t)ABI_SESS_CONNECTING);
  session_believe(s);
  if (port == FAKE_PORT_SILENT)
    return;
  if (port != FAKE_PORT_RESET && listener_find(f, port, 0) == NULL) {
    session_reset(s, ECONNREFUSED);
    return;
  }
  STORE(&s->e->state, (uint32_t)ABI_SESS_READY);
  engine_hint(s);
  if (port == FAKE_PORT_RESET) {
    session_reset(s, ECONNRESET);
    return;
  }
  struct fake_session *srv = session_make(f);
  if (srv == NULL)
    return;
  srv->silent = port;
  srv->peer = s;
  s->peer = srv;
}

static void session_open(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  struct fake_session *s = session_make(f);
  if (s == NULL)
    return;
  session_bind(f, s, w, slot, gen);
  s->dgram = 1;
  STORE(&s->e->gen, gen);
  session_believe(s);
  fake_dgram_request(f, s);
}

static void session_look(struct fake *f, struct fake_worker *w, uint32_t slot) {
  if (slot >= w->v.ga.n_slots)
    return;
  struct fake_session *s = w->by_slot[slot];
  const struct abi_sess_app *a = worker_view_app(&w->v, slot);
  struct abi_sess_engine *e = worker_view_engine(&w->v, slot);
  uint32_t gen = LOAD(&a->gen);
  if (s != NULL && s->gen != gen && slot < w->v.ga.n_slots_app) {
    session_unbind(s);
    s = NULL;
  }
  if (s != NULL)
    return; /* its step looks at the words */
  if (slot >= w->v.ga.n_slots_app) {
    if (e->gen == gen && LOAD(&e->state) == ABI_SESS_CLOSED && (LOAD(&a->want) & ABI_WANT_FREED) != 0) {
      STORE(&e->state, (uint32_t)ABI_SESS_FREE);
      w->engine_free[w->n_engine_free++] = slot;
    }
    return;
  }
  if (LOAD(&a->op) == ABI_OP_OPEN && gen != 0 && (e->gen != gen || LOAD(&e->state) == ABI_SESS_FREE))
    session_open(f, w, slot, gen);
  if (LOAD(&a->op) == ABI_OP_CONNECT && gen != 0 && (e->gen != gen || LOAD(&e->state) == ABI_SESS_FREE))
    session_connect(f, w, slot, gen);
}

/** Whether the app asks for its bytes to be held back. */
static int session_corked(const struct fake *f, const struct fake_session *s) {
  return f->corks && (LOAD(&s->a->opt_gen) & 1u) == 0 && (s->a->opt.flags & ABI_OPT_CORK) != 0 &&
         (LOAD(&s->a->want) & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) == 0;
}

/** Bytes from s to its peer. Returns bytes moved. */
static uint32_t session_move(struct fake *f, struct fake_session *s) {
  int64_t used = fifo_cons_used(&s->tx);
  struct fake_session *p = s->peer;
  if (used <= 0 || f->hold || session_corked(f, s))
    return 0;
  uint32_t n = (uint32_t)used;
  if (p != NULL) {
    if (p->e == NULL)
      return 0;
    int64_t room = fifo_prod_room(&p->rx);
    n = (uint32_t)HS_MIN(used, room < 0 ? 0 : room);
    uint8_t buf[16384];
    n = HS_MIN(n, (uint32_t)sizeof buf);
    if (n == 0)
      return 0;
    (void)fifo_cons_peek(&s->tx, 0, buf, n);
    if (LOAD(&s->a->want) & ABI_WANT_URGENT) {
      STORE(&p->e->urg_pos, LOAD(&s->a->tx_urg));
      STORE(&p->e->flags, p->e->flags | ABI_SE_URGENT);
    }
    int64_t put = fifo_prod_place(&p->rx, 0, buf, n);
    n = put > 0 ? (uint32_t)put : 0;
    fifo_prod_publish(&p->rx, n);
    engine_hint(p);
  }
  fifo_cons_consume(&s->tx, n);
  STORE(&s->e->tx_sent, s->tx.head);
  if (LOAD(&s->a->tx_armed) && (int32_t)(s->tx.head - LOAD(&s->a->tx_wake)) >= 0)
    engine_hint(s);
  return n;
}

static void session_fin(struct fake_session *s) {
  struct fake_session *p = s->peer;
  s->fin_sent = 1;
  STORE(&s->e->flags, s->e->flags | ABI_SE_FIN_ACKED);
  engine_hint(s);
  if (p == NULL || p->e == NULL)
    return;
  p->fin_seen = 1;
  STORE(&p->e->fin_pos, p->rx.tail);
  STORE(&p->e->flags, p->e->flags | ABI_SE_PEER_FIN);
  engine_hint(p);
}

/** The app has closed. */
static void session_closing(struct fake_session *s) {
  (void)fifo_prod_room(&s->rx);
  if (fifo_prod_used(&s->rx) != 0 && s->peer != NULL)
    session_reset(s->peer, ECONNRESET);
  if (!s->gone && !s->fin_sent)
    return;
  session_unbind(s);
}

/** Acts on the app's words and moves bytes. Returns whether anything changed. */
static int session_step(struct fake *f, struct fake_session *s) {
  if (s->dgram) {
    int busy = fake_dgram_step(f, s);
    if ((LOAD(&s->a->want) & ABI_WANT_CLOSE) == 0 && !s->w->dying)
      return busy;
    session_unbind(s);
    return 1;
  }
  if (s->e == NULL) { /* parked */
    session_offer(f, s);
    return s->e != NULL;
  }
  if (!s->believed && session_taken(s)) {
    session_believe(s);
    if (!s->gone)
      STORE(&s->e->state, (uint32_t)ABI_SESS_READY);
    engine_hint(s);
  }
  if (!s->believed && s->w->dying) {
    if (s->peer != NULL)
      session_reset(s->peer, ECONNRESET);
    session_unbind(s);
    return 1;
  }
  if (!s->believed)
    return 0;
  uint32_t want = LOAD(&s->a->want) | (s->w->dying ? ABI_WANT_CLOSE : 0u);
  int moved = 0;
  if (!s->gone)
    moved = session_move(f, s) != 0;
  if ((want & ABI_WANT_ABORT) != 0) {
    if (s->peer != NULL)
      session_reset(s->peer, ECONNRESET);
    session_unbind(s);
    return 1;
  }
  int drained = fifo_cons_used(&s->tx) == 0;
  if (!s->gone && (want & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0 && drained && !s->fin_sent &&
      (s->peer == NULL || s->peer->e != NULL))
    session_fin(s);
  if ((want & ABI_WANT_CLOSE) != 0) {
    session_closing(s);
    return moved || !s->used;
  }
  if (!s->gone && s->fin_sent && s->fin_seen) {
    s->gone = 1;
    STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
    engine_hint(s);
  }
  return moved;
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
        session_look(f, w, slots[k]);
    }
  }
  for (int i = 0; i < FAKE_SESSIONS; i++)
    if (f->session[i].used)
      busy |= session_step(f, &f->session[i]);
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
  f->listen_fd = attach_listen(f->path, 0600, 16);
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
      session_look(f, w, slot);
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
  struct fake_session *s = listener_find(f, port, 0) != NULL ? session_make(f) : NULL;
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
