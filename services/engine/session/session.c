/*
 * Sessions: records, fifos, and acting on what the app's half says. Worker thread.
 *
 * An offered session reads nothing of the app's half until the app has stored the same gen there (accept): before that
 * the words still belong to the slot's previous life, so the fifos look at words of zeros.
 */
#include "worker.h"

#include "base/bug.h"
#include "base/fault.h"
#include "gate.h"
#include "life.h"
#include "transport.h"

#include <errno.h>

static const uint32_t session_zero_word;
static const struct abi_fifo_prod session_zero_prod;

struct session *session_new(struct worker *w) {
  uint32_t index;
  struct session *s = pool_get(&w->sessions, &index);
  if (!s)
    return NULL;
  s->index = index;
  s->tcb = ABI_SEG_NONE;
  list_init(&s->due);
  list_init(&s->waiting);
  list_init(&s->parked);
  worker_count(w, EC_SESS_OPENED, 1);
  return s;
}

int session_transport(struct worker *w, struct session *s, const struct transport_ops *ops) {
  if (ops->priv_size > sizeof s->priv) {
    uint32_t index;
    void *outer = pool_get(&w->outers, &index);
    if (!outer)
      return -ENOBUFS;
    s->outer = index + 1;
    memcpy(s->priv, &outer, sizeof outer);
  }
  s->ops = ops;
  s->proto = ops->proto;
  return 0;
}

/* From now on the app's half is believed (its gen is the session's). */
static int session_believe_app(struct session *s) {
  s->rx.peer_head = &s->a->rx_head;
  const struct worker_view *v = &s->app->v;
  uint32_t max = s->app->v.ga.arena_size > ABI_FIFO_MAX ? ABI_FIFO_MAX : (uint32_t)s->app->v.ga.arena_size;
  fifo_cons_init(&s->tx, &s->a->tx, s->a->tx_chunk, &s->e->tx_head, v->seg_a.base, v->ga.arena_off, v->ga.arena_size,
                 max);
  s->believed = 1;
  return 0;
}

static void session_clear_words(struct abi_sess_engine *e, uint32_t tx_limit) {
  /* state first: whoever sees a new gen must not read the state of the slot's previous life with it */
  life_set(e, ABI_SESS_FREE);
  FAULT_POINT("session.clear"); /* a FREE record: nobody believes the other words */
  struct abi_sess_engine fresh = {.hint_pos = e->hint_pos, .gen = e->gen, .tx_limit = tx_limit, .tcb = ABI_SEG_NONE};
  *e = fresh;
}

/* Where a redirected connect was meant to go; told to both ends. Before `gen`, so that it is there with the record. */
static void session_meant(struct session *s, const uint8_t *ip, be16_t port) {
  struct abi_endpoint *at = worker_view_meant(&s->app->v, s->slot);
  struct ip_addr to;
  memcpy(&to, ip, sizeof to);
  if (!at)
    return;
  *at = (struct abi_endpoint){.port = port, .family = ip_addr_is4(&to) ? 4 : 6};
  memcpy(at->ip, &to, sizeof at->ip);
  FAULT_POINT("session.meant"); /* without the flag nobody reads it */
  __atomic_store_n(&s->e->flags, s->e->flags | ABI_SE_REDIRECTED, __ATOMIC_RELEASE);
}

int session_bind_record(struct worker *w, struct session *s, struct app_worker *a, uint32_t slot, uint32_t gen,
                        int resume) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  const struct abi_sess_app *half = worker_view_app(&a->v, slot);
  if (!e || !half || a->by_slot[slot] != APP_NO_SESSION)
    return -EPROTO;
  s->app = a;
  s->e = e;
  s->a = half;
  s->slot = slot;
  s->gen = gen;
  if (!resume)
    session_clear_words(e, w->cfg->tx_fifo_max);
  if (!resume && s->tcb != ABI_SEG_NONE && w->tcbs.tcb[s->tcb].meant.family)
    session_meant(s, w->tcbs.tcb[s->tcb].meant.ip, w->tcbs.tcb[s->tcb].meant.port);
  app_give(a, slot, w->index); /* ours already, but for adoption */
  __atomic_store_n(&e->lane, w->index, __ATOMIC_RELEASE);
  const uint32_t *head = &session_zero_word;
  fifo_cons_init(&s->tx, &session_zero_prod, half->tx_chunk, &e->tx_head, a->v.seg_a.base, a->v.ga.arena_off,
                 a->v.ga.arena_size, ABI_CHUNK_UNIT);
  int believed = __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) == gen &&
                 (slot < a->v.ga.n_slots_app || __atomic_load_n(&half->accepted, __ATOMIC_ACQUIRE) == gen);
  if (believed)
    head = &half->rx_head;
  int rc = resume ? fifo_prod_resume(&s->rx, &e->rx, e->rx_chunk, head, a->v.seg_e.base, a->arena, w->cfg->rx_fifo_max)
                  : fifo_prod_init(&s->rx, &e->rx, e->rx_chunk, head, a->v.seg_e.base, a->arena, w->cfg->rx_fifo_max);
  if (rc) {
    s->app = NULL;
    s->e = NULL;
    s->a = NULL;
    return rc;
  }
  if (believed)
    rc = session_believe_app(s);
  a->by_slot[slot] = s->index + 1;
  a->n_sessions++;
  return rc;
}

void session_set_state(struct session *s, uint32_t state) {
  if (!s->e)
    return;
  life_set(s->e, state);
  app_hint(s->app, s->slot);
}

void session_set_error(struct session *s, int err) {
  if (!s->e || !err)
    return;
  __atomic_store_n(&s->e->error, (uint32_t)err, __ATOMIC_RELEASE);
  app_hint(s->app, s->slot);
}

void session_set_flag(struct session *s, uint32_t flag) {
  if (!s->e)
    return;
  __atomic_store_n(&s->e->flags, s->e->flags | flag, __ATOMIC_RELEASE);
  app_hint(s->app, s->slot);
}

void session_unbind_record(struct worker *w, struct session *s, int error) {
  struct app_worker *a = s->app;
  if (!a)
    return;
  if (error)
    __atomic_store_n(&s->e->error, (uint32_t)error, __ATOMIC_RELAXED);
  fifo_prod_fini(&s->rx);
  FAULT_POINT("session.unbind");
  a->by_slot[s->slot] = APP_NO_SESSION;
  a->n_sessions--;
  session_set_state(s, ABI_SESS_CLOSED);
  /* an engine slot is free again once the app has let go of it, see session_look_idle */
  s->app = NULL;
  s->e = NULL;
  s->a = NULL;
  (void)w;
}

void session_dirty(struct worker *w, struct session *s) {
  if (s->queued || s->dead || !s->ops)
    return;
  s->queued = 1;
  list_add_tail(&w->dirty, &s->due);
}

static void session_unqueue(struct session *s) {
  if (s->queued)
    list_del(&s->due);
  s->queued = 0;
}

uint32_t session_output_due(struct worker *w) {
  uint32_t n = 0;
  while (!list_empty(&w->dirty)) {
    struct session *s = container_of(w->dirty.next, struct session, due);
    session_unqueue(s);
    n++;
    if (!s->ops || s->ops->output(w, s, w->now) == 0 || s->dead || s->queued)
      continue;
    s->queued = 2;
    list_add_tail(&w->starved, &s->due);
  }
  return n;
}

void session_unstarve(struct worker *w) {
  while (!list_empty(&w->starved)) {
    struct session *s = container_of(w->starved.next, struct session, due);
    session_unqueue(s);
    session_dirty(w, s);
  }
}

void session_orphan_end(struct worker *w, struct session *s) {
  w->n_orphans -= s->orphan;
  s->orphan = 0;
}

/* What a session without a transport is in no longer. */
static void session_leave(struct worker *w, struct session *s) {
  offer_leave(s);
  offer_half_open(w, s, 0);
  fast_done(w, s);
  session_orphan_end(w, s);
  session_unqueue(s);
  list_del(&s->figures);
  flow_del(w, s);
  timer_cancel(&w->wheel, &s->timer);
  s->ops = NULL;
}

void session_free(struct worker *w, struct session *s) {
  if (s->dead)
    return;
  session_leave(w, s);
  s->dead = 1;
  list_add_tail(&w->graveyard,
                &s->due); /* the present call may still look at it: back to the pool at the end of the turn */
  worker_count(w, EC_SESS_CLOSED, 1);
}

void session_transport_gone(struct worker *w, struct session *s) {
  session_leave(w, s);
  if (!s->app) {
    session_free(w, s);
    return;
  }
  int taken = s->believed && !s->app_closed && s->app->life == APP_LIVE;
  if (!taken) {
    session_unbind_record(w, s, 0);
    session_free(w, s);
    return;
  }
  session_set_state(s, ABI_SESS_CLOSED);
}

/* Bytes that the app left unread: closing then means RST (RFC 2525 2.17). */
static int session_unread(struct session *s) {
  return s->believed && fifo_prod_used(&s->rx) > 0;
}

void session_orphan(struct worker *w, struct session *s) {
  if (s->app_closed)
    return;
  if (s->ops && !s->believed) { /* offered, never taken: another share of the listener may have it */
    offer_rehome(w, s);
    return;
  }
  s->app_closed = 1;
  worker_count(w, EC_SESS_ORPHANED, 1);
  if (!s->ops) {
    session_unbind_record(w, s, 0);
    session_free(w, s);
    return;
  }
  int lingers = s->ops->lingers ? s->ops->lingers(w, s) : 0;
  if (lingers < 0) { /* as Linux: memory before manners */
    worker_count(w, EC_ORPHAN_LIMIT, 1);
    if (!s->shut_wr && s->ops->shutdown)
      s->ops->shutdown(w, s, w->now); /* what it has read so far was all: a FIN in front of the RST */
    s->ops->abort(w, s, 0, w->now);
    return;
  }
  s->orphan = (uint8_t)lingers;
  w->n_orphans += s->orphan;
  struct abi_options opt = s->a->opt;
  if (((opt.flags & ABI_OPT_LINGER) && opt.linger_s == 0 && transport_is_stream(s->ops)) || !s->ops->close)
    s->ops->abort(w, s, 0, w->now);
  else
    s->ops->close(w, s, w->now);
}

int session_close_unread(struct session *s) {
  if (s->e)
    (void)fifo_prod_room(&s->rx); /* refreshes the head seen */
  return session_unread(s);
}

/* The app took an offered session. */
static void session_accepted(struct worker *w, struct session *s) {
  if (!s->believed)
    (void)session_believe_app(s);
  offer_leave(s);
  if (s->ops && s->ops->accepted)
    s->ops->accepted(w, s);
  if (s->e->state == ABI_SESS_OFFERED)
    session_set_state(s, s->ops ? ABI_SESS_READY : ABI_SESS_CLOSED);
}

static void session_look_options(struct worker *w, struct session *s) {
  uint32_t gen = __atomic_load_n(&s->a->opt_gen, __ATOMIC_ACQUIRE);
  if (gen == s->opt_gen || (gen & 1u))
    return;
  struct abi_options copy = s->a->opt;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&s->a->opt_gen, __ATOMIC_RELAXED) != gen)
    return; /* the writer hints again after it */
  s->opt_gen = gen;
  if (s->ops->options)
    s->ops->options(w, s, &copy, w->now);
  __atomic_store_n(&s->e->opt_seen, gen, __ATOMIC_RELEASE);
}

/* A request of an open session: copied once, acted on, answered. */
static void session_look_request(struct worker *w, struct session *s) {
  uint32_t seq = __atomic_load_n(&s->a->req_seq, __ATOMIC_ACQUIRE);
  if (seq == s->e->req_seen || !s->ops->request)
    return;
  struct abi_request req = s->a->req;
  int rc = s->ops->request(w, s, &req, w->now);
  FAULT_POINT("session.request"); /* acted on and not told: a successor acts again */
  __atomic_store_n(&s->e->req_error, (uint32_t)-rc, __ATOMIC_RELAXED);
  FAULT_POINT("session.request.error");
  __atomic_store_n(&s->e->req_seen, seq, __ATOMIC_RELEASE);
  app_hint(s->app, s->slot);
}

/* Facts of a live session, most final last. */
static void session_look_live(struct worker *w, struct session *s) {
  int untold = !s->believed || s->e->state == ABI_SESS_OFFERED; /* OFFERED: taken while no engine looked */
  if (untold && __atomic_load_n(&s->a->accepted, __ATOMIC_ACQUIRE) == s->gen)
    session_accepted(w, s);
  if (!s->believed)
    return;
  uint32_t want = __atomic_load_n(&s->a->want, __ATOMIC_ACQUIRE);
  if (s->ops)
    session_look_options(w, s);
  if (s->ops)
    session_look_request(w, s);
  if (s->ops && s->ops->consumed)
    s->ops->consumed(w, s, w->now);
  if (s->ops && (want & ABI_WANT_ABORT)) {
    s->app_closed = 1;
    s->ops->abort(w, s, 0, w->now);
    return;
  }
  /* close() brings its own FIN, or a RST in its place: unread bytes, linger 0 */
  if (s->ops && (want & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) == ABI_WANT_SHUT_WR && !s->shut_wr) {
    s->shut_wr = 1;
    if (s->ops->shutdown)
      s->ops->shutdown(w, s, w->now);
  }
  if (want & ABI_WANT_CLOSE)
    session_orphan(w, s);
  session_dirty(w, s);
}

/* Engine worker that a request belongs to: where the answers will come. With a port of our choice it is ours. */
static uint32_t session_home(struct worker *w, const struct app_worker *a, const struct abi_request *req) {
  const struct transport_ops *ops = transport_of(w, req->proto);
  struct ip_addr local = {{0}}, remote;
  if (w->group->n == 1 || !ops || ops->spread == TRANSPORT_FIRST)
    return 0;
  int by_flow = ops->spread == TRANSPORT_FLOW;
  if (be16_get(req->local.port) == 0 || (by_flow && req->local.family == 0))
    return w->index;
  memcpy(&remote, req->remote.ip, sizeof remote);
  memcpy(&local, req->local.ip, sizeof local);
  if (by_flow && ip_addr_is_any(&local) && gate_source(w, a, &remote, IP_BY_ROUTE, &local))
    return w->index; /* which tells the app why */
  return transport_worker(w, ops, &local, be16_get(req->local.port), &remote, be16_get(req->remote.port));
}

/* A request that cannot be served: the app finds the error in its record. */
static void session_refuse(struct app_worker *a, uint32_t slot, uint32_t gen, int err, uint32_t mss) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  BUG_ON(e == NULL); /* the caller has looked at the app's half of that slot */
  session_clear_words(e, 0);
  e->mss = mss;
  __atomic_store_n(&e->gen, gen, __ATOMIC_RELEASE);
  FAULT_POINT("session.refuse"); /* prefix: FREE, the request is served anew */
  __atomic_store_n(&e->error, (uint32_t)err, __ATOMIC_RELAXED);
  life_set(e, ABI_SESS_CLOSED);
  app_hint(a, slot);
}

/* A slot without a session: a listener, a connect that was not begun yet, or one that the app has let go of. */
static void session_look_idle(struct worker *w, struct app_worker *a, uint32_t slot, const struct abi_sess_app *half,
                              uint32_t gen) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  uint32_t state = __atomic_load_n(&e->state, __ATOMIC_RELAXED);
  if (slot >= a->v.ga.n_slots_app) {
    if (state == ABI_SESS_CLOSED && gen == e->gen &&
        (__atomic_load_n(&half->want, __ATOMIC_ACQUIRE) & ABI_WANT_FREED)) {
      app_slot_put(a, slot);
      w->offers_due = 1;
    }
    return;
  }
  uint32_t op = __atomic_load_n(&half->op, __ATOMIC_ACQUIRE);
  if (op == ABI_OP_LISTEN)
    listen_look(w, a->id, slot, gen, __atomic_load_n(&half->listen_armed, __ATOMIC_ACQUIRE));
  if ((op != ABI_OP_CONNECT && op != ABI_OP_OPEN) || gen == 0 || (e->gen == gen && state != ABI_SESS_FREE))
    return;
  struct abi_request req = half->req;
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  if (__atomic_load_n(&half->gen, __ATOMIC_RELAXED) != gen)
    return; /* `op` and `req` are those of the slot's next life, which ends with a hint of its own */
  struct abi_endpoint meant = req.remote;
  int connects = req.remote.family && (req.kind == ABI_REQ_CONNECT || req.kind == ABI_REQ_FAST);
  int rc = req.vrf != 0 && req.vrf != a->sh->vrf ? -ENODEV : connects ? gate_connect(w, a, &req) : 0;
  if (rc) {
    session_refuse(a, slot, gen, -rc, 0);
    return;
  }
  uint32_t to = session_home(w, a, &req);
  if (to == w->index) {
    session_begin(w, a, slot, gen, op, &req, &meant);
    return;
  }
  app_give(a, slot, to);
  app_pass(w, a, slot);
}

void session_look(struct worker *w, struct app_worker *a, uint32_t slot) {
  const struct abi_sess_app *half = worker_view_app(&a->v, slot);
  if (!half)
    return;
  uint32_t gen = __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE);
  FAULT_POINT("session.look"); /* not a publish step: here the app may go on to the slot's next life */
  uint32_t index = a->by_slot[slot];
  if (index != APP_NO_SESSION) {
    struct session *s = pool_ref(&w->sessions, index - 1);
    int reused = s->gen != gen && slot < a->v.ga.n_slots_app;
    if (reused && s->ops) {
      app_suspect(a, "session slot used anew while its session lives");
      return;
    }
    if (!reused) {
      session_look_live(w, s);
      if (a->by_slot[slot] != APP_NO_SESSION)
        return;
    } else { /* the app let go of a closed session and goes on with the slot */
      session_unbind_record(w, s, 0);
      session_free(w, s);
    }
  }
  session_look_idle(w, a, slot, half, gen);
}

/* Whether the endpoints of a request make sense for `op`. */
static int session_endpoints_ok(uint32_t op, const struct abi_request *req) {
  if (req->remote.family == 0)
    return op == ABI_OP_OPEN;
  return (req->remote.family == 4 || req->remote.family == 6) && req->remote.port.raw != 0;
}

void session_begin(struct worker *w, struct app_worker *a, uint32_t slot, uint32_t gen, uint32_t op,
                   const struct abi_request *req, const struct abi_endpoint *meant) {
  int rc = -EPROTONOSUPPORT;
  struct session *s = NULL;
  const struct transport_ops *ops = transport_of(w, req->proto);
  if (!ops || (op == ABI_OP_CONNECT ? !ops->connect : !ops->open))
    goto refuse;
  rc = -EINVAL;
  if (!session_endpoints_ok(op, req))
    goto refuse;
  if (op == ABI_OP_CONNECT && req->kind == ABI_REQ_FAST && ops->early) {
    rc = ops->early(w, a->sh->vrf, &req->remote,
                    __atomic_load_n(&worker_view_app(&a->v, slot)->opt.flags, __ATOMIC_RELAXED), w->now);
    if (rc > 0) {
      session_refuse(a, slot, gen, ENODATA, (uint32_t)rc);
      return;
    }
    if (rc < 0)
      goto refuse;
  }
  rc = -ENOBUFS;
  s = session_new(w);
  if (!s)
    goto refuse;
  s->vrf = (uint8_t)a->sh->vrf;
  memcpy(&s->remote, req->remote.ip, sizeof s->remote);
  s->rport = be16_get(req->remote.port);
  if (req->local.family)
    memcpy(&s->local, req->local.ip, sizeof s->local);
  s->lport = be16_get(req->local.port);
  /* the generation first: options that change meanwhile are then applied by the look at their hint */
  s->opt_gen = __atomic_load_n(&worker_view_app(&a->v, slot)->opt_gen, __ATOMIC_ACQUIRE) & ~1u;
  rc = session_bind_record(w, s, a, slot, gen, 0);
  if (rc)
    goto refuse;
  rc = session_transport(w, s, ops);
  if (rc)
    goto refuse;
  s->e->proto = ops->proto;
  s->e->req_seen = __atomic_load_n(&s->a->req_seq, __ATOMIC_RELAXED); /* `op` is the first one */
  if (op == ABI_OP_CONNECT &&
      (memcmp(meant->ip, req->remote.ip, sizeof meant->ip) != 0 || meant->port.raw != req->remote.port.raw))
    session_meant(s, meant->ip, meant->port);
  rc = op == ABI_OP_CONNECT ? ops->connect(w, s, w->now) : ops->open(w, s, req, w->now);
  if (rc == 0)
    return;
refuse:
  if (s) {
    session_unbind_record(w, s, 0);
    session_free(w, s);
  }
  session_refuse(a, slot, gen, -rc, 0);
}

void session_bury(struct worker *w) {
  while (!list_empty(&w->graveyard)) {
    struct session *s = container_of(w->graveyard.next, struct session, due);
    list_del(&s->due);
    if (s->outer)
      BUG_ON(pool_put(&w->outers, s->outer - 1) != 0);
    BUG_ON(pool_put(&w->sessions, s->index) != 0);
  }
}
