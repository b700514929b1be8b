/*
 * The fake engine's sessions: streams joined in pairs as TCP would (accept queues, back pressure, FIN, RST, urgent
 * bytes), and the way in for those of datagrams (fake_dgram.c).
 *
 * Called by fake_engine.c on its thread, under the fake's lock. A server's session that no process has taken yet has
 * no record (e is NULL); `silent` is the port that it waits at.
 */
#include "fake_sess.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

static const uint32_t zero_word;

void fake_sess_unlink(struct fake_session *s) {
  if (s->peer != NULL)
    s->peer->peer = NULL;
  s->peer = NULL;
}

void fake_sess_hint(struct fake_session *s) {
  int ring = 0;
  (void)hint_push(&s->w->to_app, s->slot, &s->e->hint_pos, &ring);
  s->w->ring_due |= ring;
}

struct fake_session *fake_sess_make(struct fake *f) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    if (f->session[i].used)
      continue;
    memset(&f->session[i], 0, sizeof f->session[i]);
    f->session[i].used = 1;
    return &f->session[i];
  }
  return NULL;
}

static void fake_sess_clear(struct fake *f, struct abi_sess_engine *e) {
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

static void fake_sess_bind(struct fake *f, struct fake_session *s, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  s->w = w;
  s->slot = slot;
  s->gen = gen;
  s->a = worker_view_app(&w->v, slot);
  s->e = worker_view_engine(&w->v, slot);
  w->by_slot[slot] = s;
  fake_sess_clear(f, s->e);
  (void)fifo_prod_init(&s->rx, &s->e->rx, s->e->rx_chunk, &zero_word, w->v.seg_e.base, w->arena, f->rx_limit);
}

static void fake_sess_believe(struct fake_session *s) {
  const struct worker_view *v = &s->w->v;
  s->rx.peer_head = &s->a->rx_head;
  fifo_cons_init(&s->tx, &s->a->tx, s->a->tx_chunk, &s->e->tx_head, v->seg_a.base, v->ga.arena_off, v->ga.arena_size,
                 ABI_FIFO_MAX);
  s->believed = 1;
}

/** The record is let go of: CLOSED, nothing refers to the app half any more. */
static void fake_sess_unbind(struct fake_session *s) {
  fake_sess_unlink(s);
  fifo_prod_fini(&s->rx);
  s->w->by_slot[s->slot] = NULL;
  STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
  fake_sess_hint(s);
  s->used = 0;
}

static void fake_sess_reset(struct fake_session *s, uint32_t error) {
  if (s->e == NULL || s->gone)
    return;
  STORE(&s->e->error, error);
  STORE(&s->e->flags, s->e->flags | ABI_SE_RESET);
  STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
  s->gone = 1;
  fake_sess_unlink(s);
  fake_sess_hint(s);
}

struct fake_listener *fake_sess_listener(struct fake *f, uint16_t port, int armed) {
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
static void fake_sess_offer(struct fake *f, struct fake_session *s) {
  struct fake_listener *l = fake_sess_listener(f, (uint16_t)s->silent, 1);
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
  fake_sess_bind(f, s, w, slot, gen);
  s->silent = 0;
  e->listener = l->slot;
  e->listener_gen = l->gen;
  e->local = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 1}, .family = 4, .port = be16_from(l->port)};
  e->remote = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 2}, .family = 4, .port = be16_from(40000)};
  if (s->peer != NULL && s->peer->e != NULL)
    e->remote.port = s->peer->e->local.port;
  STORE(&e->gen, gen);
  STORE(&e->state, (uint32_t)ABI_SESS_OFFERED);
  fake_sess_hint(s);
}

/** Whether the app has accepted it, be it seen yet or not. */
static int fake_sess_taken(const struct fake_session *s) {
  return LOAD(&s->a->gen) == s->gen && LOAD(&s->a->accepted) == s->gen;
}

void fake_listener_gone(struct fake *f, const struct fake_listener *l) {
  for (int i = 0; i < FAKE_SESSIONS; i++) {
    struct fake_session *s = &f->session[i];
    int parked = s->used && s->e == NULL && s->silent == l->port && fake_sess_listener(f, l->port, 0) == NULL;
    int offered = s->used && s->e != NULL && s->w == l->w && !s->believed && !fake_sess_taken(s) &&
                  s->e->listener == l->slot && s->e->listener_gen == l->gen && s->slot >= s->w->v.ga.n_slots_app;
    if (!parked && !offered)
      continue;
    if (s->peer != NULL)
      fake_sess_reset(s->peer, ECONNRESET);
    if (offered)
      fake_sess_unbind(s);
    s->used = 0;
  }
}

static void fake_sess_connect(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  struct fake_session *s = fake_sess_make(f);
  if (s == NULL)
    return;
  fake_sess_bind(f, s, w, slot, gen);
  struct abi_request rq = s->a->req;
  uint16_t port = be16_get(rq.remote.port);
  s->e->remote = rq.remote;
  s->e->local = (struct abi_endpoint){.ip = {[10] = 0xff, 0xff, 10, 0, 0, 2}, .family = 4};
  s->e->local.port = be16_from(f->next_port++);
  if (rq.local.family != 0 && be16_get(rq.local.port) != 0)
    s->e->local.port = rq.local.port;
  STORE(&s->e->gen, gen);
  STORE(&s->e->state, (uint32_t)ABI_SESS_CONNECTING);
  fake_sess_believe(s);
  if (port == FAKE_PORT_SILENT)
    return;
  if (port != FAKE_PORT_RESET && fake_sess_listener(f, port, 0) == NULL) {
    fake_sess_reset(s, ECONNREFUSED);
    return;
  }
  STORE(&s->e->state, (uint32_t)ABI_SESS_READY);
  fake_sess_hint(s);
  if (port == FAKE_PORT_RESET) {
    fake_sess_reset(s, ECONNRESET);
    return;
  }
  struct fake_session *srv = fake_sess_make(f);
  if (srv == NULL)
    return;
  srv->silent = port;
  srv->peer = s;
  s->peer = srv;
}

static void fake_sess_open(struct fake *f, struct fake_worker *w, uint32_t slot, uint32_t gen) {
  struct fake_session *s = fake_sess_make(f);
  if (s == NULL)
    return;
  fake_sess_bind(f, s, w, slot, gen);
  s->dgram = 1;
  STORE(&s->e->gen, gen);
  fake_sess_believe(s);
  fake_dgram_request(f, s);
}

void fake_sess_look(struct fake *f, struct fake_worker *w, uint32_t slot) {
  if (slot >= w->v.ga.n_slots)
    return;
  struct fake_session *s = w->by_slot[slot];
  const struct abi_sess_app *a = worker_view_app(&w->v, slot);
  struct abi_sess_engine *e = worker_view_engine(&w->v, slot);
  uint32_t gen = LOAD(&a->gen);
  if (s != NULL && s->gen != gen && slot < w->v.ga.n_slots_app) {
    fake_sess_unbind(s);
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
    fake_sess_open(f, w, slot, gen);
  if (LOAD(&a->op) == ABI_OP_CONNECT && gen != 0 && (e->gen != gen || LOAD(&e->state) == ABI_SESS_FREE))
    fake_sess_connect(f, w, slot, gen);
}

/** Whether the app asks for its bytes to be held back. */
static int fake_sess_corked(const struct fake *f, const struct fake_session *s) {
  return f->corks && (LOAD(&s->a->opt_gen) & 1u) == 0 && (s->a->opt.flags & ABI_OPT_CORK) != 0 &&
         (LOAD(&s->a->want) & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) == 0;
}

/** Bytes from s to its peer. Returns bytes moved. */
static uint32_t fake_sess_move(struct fake *f, struct fake_session *s) {
  int64_t used = fifo_cons_used(&s->tx);
  struct fake_session *p = s->peer;
  if (used <= 0 || f->hold || fake_sess_corked(f, s))
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
    fake_sess_hint(p);
  }
  fifo_cons_consume(&s->tx, n);
  STORE(&s->e->tx_sent, s->tx.head);
  if (LOAD(&s->a->tx_armed) && (int32_t)(s->tx.head - LOAD(&s->a->tx_wake)) >= 0)
    fake_sess_hint(s);
  return n;
}

static void fake_sess_fin(struct fake_session *s) {
  struct fake_session *p = s->peer;
  s->fin_sent = 1;
  STORE(&s->e->flags, s->e->flags | ABI_SE_FIN_ACKED);
  fake_sess_hint(s);
  if (p == NULL || p->e == NULL)
    return;
  p->fin_seen = 1;
  STORE(&p->e->fin_pos, p->rx.tail);
  STORE(&p->e->flags, p->e->flags | ABI_SE_PEER_FIN);
  fake_sess_hint(p);
}

/** The app has closed. */
static void fake_sess_closing(struct fake_session *s) {
  (void)fifo_prod_room(&s->rx);
  if (fifo_prod_used(&s->rx) != 0 && s->peer != NULL)
    fake_sess_reset(s->peer, ECONNRESET);
  if (!s->gone && !s->fin_sent)
    return;
  fake_sess_unbind(s);
}

int fake_sess_step(struct fake *f, struct fake_session *s) {
  if (s->dgram) {
    int busy = fake_dgram_step(f, s);
    if ((LOAD(&s->a->want) & ABI_WANT_CLOSE) == 0 && !s->w->dying)
      return busy;
    fake_sess_unbind(s);
    return 1;
  }
  if (s->e == NULL) { /* parked */
    fake_sess_offer(f, s);
    return s->e != NULL;
  }
  if (!s->believed && fake_sess_taken(s)) {
    fake_sess_believe(s);
    if (!s->gone)
      STORE(&s->e->state, (uint32_t)ABI_SESS_READY);
    fake_sess_hint(s);
  }
  if (!s->believed && s->w->dying) {
    if (s->peer != NULL)
      fake_sess_reset(s->peer, ECONNRESET);
    fake_sess_unbind(s);
    return 1;
  }
  if (!s->believed)
    return 0;
  uint32_t want = LOAD(&s->a->want) | (s->w->dying ? ABI_WANT_CLOSE : 0u);
  int moved = 0;
  if (!s->gone)
    moved = fake_sess_move(f, s) != 0;
  if ((want & ABI_WANT_ABORT) != 0) {
    if (s->peer != NULL)
      fake_sess_reset(s->peer, ECONNRESET);
    fake_sess_unbind(s);
    return 1;
  }
  int drained = fifo_cons_used(&s->tx) == 0;
  if (!s->gone && (want & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0 && drained && !s->fin_sent &&
      (s->peer == NULL || s->peer->e != NULL))
    fake_sess_fin(s);
  if ((want & ABI_WANT_CLOSE) != 0) {
    fake_sess_closing(s);
    return moved || !s->used;
  }
  if (!s->gone && s->fin_sent && s->fin_seen) {
    s->gone = 1;
    STORE(&s->e->state, (uint32_t)ABI_SESS_CLOSED);
    fake_sess_hint(s);
  }
  return moved;
}
