/*
 * bind, listen, accept: the broker reserves and registers, the engine offers, accept takes.
 *
 * Called by the program's threads. While the broker is asked, the worker's mutex is released (lock mode): an answer can
 * take as long as the application's time-out. Offers arrive as hints about engine slots and wait in their listener's
 * queue (session_offered).
 */
#include "base/fault.h"
#include "shm/fence.h"
#include "vcl_app.h"
#include "vcl_cut.h"
#include "vcl_peers.h"
#include "vcl_rejoin.h"

#include <fcntl.h>

#define LISTEN_BACKLOG_MAX  65535u
#define LISTEN_BACKLOG_NONE 4096u /* for who asks for none */

/** Our end of a broker request about a session: the mutex is released, the session pinned. *owed: the broker is still
 * to be told of a close. */
static struct broker_slot listen_ask_begin(struct session *s, int *owed) {
  struct worker *w = s->w;
  struct broker_slot slot = {.worker_id = s->home->worker_id, .slot = s->slot, .gen = s->gen};
  s->pins++;
  home_flush(s->home);
  worker_unlock(w);
  pthread_mutex_lock(&w->broker.lock);
  *owed = worker_flush_unbinds(w);
  return slot;
}

/** 0, or -EBADF when another thread closed the session meanwhile. The caller unpins. */
static int listen_ask_end(struct session *s) {
  struct worker *w = s->w;
  (void)worker_flush_unbinds(w); /* the broker may have come back meanwhile */
  pthread_mutex_unlock(&w->broker.lock);
  worker_lock(w);
  return s->life == SESSION_ZOMBIE ? -EBADF : 0;
}

/** A bind or listen that was not answered may have been heard all the same: what it made is given back at the end. */
static void listen_heard(struct session *s, int rc) {
  s->bind_unheard = rc == -EAGAIN || rc == -ETIMEDOUT;
}

/** Judges what a request about `slot` came to. -ESTALE: the stack that it was made to is gone, for the caller to repeat
 * it in the next one. */
static int listen_judge(struct session *s, const struct broker_slot *slot, int rc) {
  struct worker *w = s->w;
  int moved = s->home != w->home || s->home->worker_id != slot->worker_id || s->gen != slot->gen;
  if (rc == -ESTALE && !moved && !s->home->detached)
    rejoin_begin(w); /* the broker does not know us: every service was replaced */
  return moved || rc == -ESTALE ? -ESTALE : rc;
}

/** A session whose stack is gone waits for the next one. 0 or -errno. */
static int listen_place(struct session *s) {
  int rc = s->w->lazy ? worker_ready(s->w) : 0;
  return rc < 0 && s->w->rejoin == NULL ? rc : rejoin_wait(s);
}

static void listen_fill_request(struct session *s) {
  struct abi_request *rq = &s->a->req;
  memset(rq, 0, sizeof *rq);
  rq->proto = s->proto;
  rq->v6only = s->v6only;
  rq->reuse = s->reuse;
  rq->local = s->local;
  rq->vrf = s->opt.vrf;
  rq->id = s->listener_id;
}

uint8_t listen_reuse(const struct session *s) {
  return (uint8_t)(s->reuse | (app_state.lock_mode ? 0u : BROKER_APP_SHARE));
}

/** The broker has agreed, but by now the session is something else: another thread was faster. What Linux says to who
 * comes second. */
static int listen_overtaken(const struct session *s) {
  app_debug(2, "vcl.listen session %u is %s by now", s->index, stage_name(s->life));
  return VPPCOM_EINVAL;
}

static int listen_bind(struct session *s, const struct abi_endpoint *want) {
  struct abi_endpoint ep = *want;
  struct abi_request rq = {.proto = s->proto, .v6only = s->v6only, .reuse = listen_reuse(s)};
  int nowait = s->nonblock;
  int owed;
  struct worker *w = s->w;
  struct broker_slot slot = listen_ask_begin(s, &owed);
  int rc = broker_bind(&w->broker, &slot, &rq, &ep, nowait);
  if (rc == -EADDRINUSE && owed && !worker_flush_unbinds(w)) /* it came back in between: our own, closed before */
    rc = broker_bind(&w->broker, &slot, &rq, &ep, nowait);
  int gone = listen_ask_end(s);
  if (gone == 0)
    rc = listen_judge(s, &slot, rc);
  if (gone == 0)
    listen_heard(s, rc);
  if (rc == 0 && gone == 0 && s->life != SESSION_NEW)
    gone = listen_overtaken(s); /* meanwhile another thread bound, connected or listened */
  if (rc == 0 && gone == 0) {
    s->local = ep;
    session_bound(s);
    stage_set(s, SESSION_BOUND);
  } else if (rc == 0) {
    if (s->life != SESSION_BOUND && s->life != SESSION_LISTEN)
      (void)worker_later_unbind(w, &slot);
    rc = gone;
  }
  session_unpin(s);
  return rc;
}

/** Again in the next stack if this one went meanwhile. */
static int listen_bind_placed(struct session *s, const struct abi_endpoint *want) {
  int rc;
  do {
    rc = listen_place(s);
    if (rc == 0)
      rc = listen_bind(s, want);
  } while (rc == -ESTALE && !s->nonblock);
  return rc == -ESTALE ? -EAGAIN : rc;
}

int vppcom_session_bind(uint32_t session_handle_in, vppcom_endpt_t *ep) {
  struct abi_endpoint want;
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  int rc = s->kind != SESSION_STREAM || s->life != SESSION_NEW ? VPPCOM_EINVAL : connect_endpoint(ep, &want);
  if (rc == 0)
    rc = listen_bind_placed(s, &want);
  if (rc == 0 && session_is_dgram(s))
    rc = dgram_bound(s);
  worker_leave(w);
  return rc;
}

void listen_registered(struct session *s, uint32_t id, uint32_t backlog) {
  s->listener_id = id;
  s->backlog = backlog;
  session_bound(s);
  stage_set(s, SESSION_LISTEN);
  listen_fill_request(s);
  (void)cut_ready(s->w); /* from here on somebody may want a pair with us */
  FAULT_POINT("vcl.listen");
  __atomic_store_n(&s->a->op, (uint32_t)ABI_OP_LISTEN, __ATOMIC_RELEASE);
  session_hint(s);
}

static int listen_register(struct session *s, uint32_t backlog, uint32_t share_of) {
  uint32_t id = 0;
  int nowait = s->nonblock;
  int owed;
  struct worker *w = s->w;
  struct broker_slot slot = listen_ask_begin(s, &owed);
  int rc = broker_listen(&w->broker, &slot, backlog, share_of, &id, nowait);
  int gone = listen_ask_end(s);
  if (rc == 0 && gone != 0) {
    (void)worker_later_unbind(w, &slot);
    rc = gone;
  }
  if (gone == 0)
    rc = listen_judge(s, &slot, rc);
  if (gone == 0)
    listen_heard(s, rc);
  if (rc == 0 && s->life != SESSION_BOUND && s->life != SESSION_LISTEN) {
    rc = listen_overtaken(s);
    s->bound = 0;
    (void)worker_later_unbind(w, &slot);
  }
  if (rc == 0)
    listen_registered(s, id, backlog);
  session_unpin(s);
  return rc;
}

/** listen() without bind() picks a port of the wildcard address, as on Linux. */
static int listen_bind_any(struct session *s) {
  struct abi_endpoint any;
  memset(&any, 0, sizeof any);
  any.family = s->domain == 6 ? 6 : 4;
  if (any.family == 4)
    any.ip[10] = any.ip[11] = 0xff;
  return listen_bind_placed(s, &any);
}

static int listen_register_placed(struct session *s, uint32_t backlog) {
  int rc;
  do {
    rc = listen_place(s);
    if (rc == 0)
      rc = listen_register(s, backlog, 0);
  } while (rc == -ESTALE && !s->nonblock);
  return rc == -ESTALE ? -EAGAIN : rc;
}

/** Datagrams: bind is enough to receive; from now on accept gives each peer a session. A backlog there is none. */
static int listen_dgram(struct session *s) {
  int rc = s->life == SESSION_NEW ? listen_bind_any(s) : 0;
  if (rc == 0 && s->life == SESSION_BOUND)
    rc = dgram_bound(s);
  return rc < 0 ? rc : peers_begin(s);
}

int vppcom_session_listen(uint32_t session_handle_in, uint32_t q_len) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  uint32_t least = app_state.lock_mode ? 1 : LISTEN_BACKLOG_NONE; /* VPP knows no backlog: its users say 0 */
  uint32_t backlog = q_len < 1 ? least : q_len > LISTEN_BACKLOG_MAX ? LISTEN_BACKLOG_MAX : q_len;
  int rc = 0;
  if (session_is_dgram(s)) {
    rc = listen_dgram(s);
    goto out;
  }
  if (s->kind != SESSION_STREAM || (s->life != SESSION_NEW && s->life != SESSION_BOUND && s->life != SESSION_LISTEN))
    rc = VPPCOM_EINVAL;
  else if (s->life == SESSION_LISTEN && (s->backlog == backlog || s->redo)) {
    s->backlog = backlog; /* redo: it is told to the next stack */
    goto out;
  }
  if (rc == 0 && s->life == SESSION_NEW)
    rc = listen_bind_any(s);
  if (rc == 0)
    rc = listen_register_placed(s, backlog);
out:
  worker_leave(w);
  return rc;
}

int listen_share(struct session *s) {
  if (!s->share_due)
    return 0;
  s->share_due = 0;
  int rc = listen_register(s, s->backlog, s->share_of);
  if (rc < 0 && rc != -EBADF)
    s->share_due = 1;
  return rc;
}

static void listen_look_again(struct worker *w);

int listen_arm(struct session *s) {
  if (s->kind != SESSION_STREAM || s->life != SESSION_LISTEN || s->armed_offer)
    return 0;
  int rc = s->w->lazy ? worker_ready(s->w) : 0;
  if (s->redo) { /* quiet until the next stack is there */
    s->rearm = 1;
    return 0;
  }
  if (rc == 0)
    rc = listen_share(s);
  if (rc < 0)
    return rc;
  s->armed_offer = 1;
  __atomic_store_n(&s->a->listen_armed, 1u, __ATOMIC_RELEASE);
  session_hint(s);
  home_flush(s->home);
  if (s->quiet)
    s->w->n_quiet--;
  s->quiet = 0;
  if (s->missed)
    listen_look_again(s->w);
  s->missed = 0;
  return 0;
}

/** Whether this process, which is about to fork, may leave the listener to its child. */
static int listen_may_rest(const struct session *s) {
  return s->kind == SESSION_STREAM && s->life == SESSION_LISTEN && s->armed_offer && !s->took && !s->redo &&
         !s->listen_shut && s->home == s->w->home;
}

void listen_rest(struct worker *w) {
  int hurried = 0;
  for (uint32_t i = pool_next(&w->sessions, 0); i != POOL_NONE; i = pool_next(&w->sessions, i + 1)) {
    struct session *s = pool_ref(&w->sessions, i);
    if (!listen_may_rest(s))
      continue;
    if (!hurried) { /* connects over pairs that are on their way become offers, which go by TCP */
      cut_revoke(w);
      cut_hurry(w);
      hurried = 1;
    }
    s->missed = s->n_offers != 0;
    listen_drop_offers(s);
    s->armed_offer = 0;
    s->quiet = 1;
    w->n_quiet++;
    FAULT_POINT("vcl.listen.rest");
    __atomic_store_n(&s->a->listen_armed, 0u, __ATOMIC_RELEASE);
    session_hint(s);
  }
}

void listen_drop_offers(struct session *s) {
  struct list *link;
  while ((link = list_pop_head(&s->offers)) != NULL) {
    struct session *offer = list_entry(link, struct session, offers);
    if (offer->cut != NULL)
      cut_sess_refuse(offer);
    session_free(offer); /* never taken: the engine gives it to another share */
  }
  s->n_offers = 0;
}

/** Looks for offers that were not queued when their hint came. */
static void listen_look_again(struct worker *w) {
  struct home *h = w->home;
  if (h == NULL)
    return;
  uint32_t high = __atomic_load_n(&h->view.engine->slots_high, __ATOMIC_ACQUIRE);
  w->offers_missed = 0;
  for (uint32_t slot = h->n_slots_app; slot < high && slot < h->n_slots; slot++)
    if (h->owner[slot] == HOME_NO_OWNER)
      session_offered(
          w, h, slot,
          session_lane(h, slot, __atomic_load_n(&worker_view_engine(&h->view, slot)->gen, __ATOMIC_ACQUIRE)));
}

/** After `accepted`: whether the engine withdraws the offer at this moment (offer_withdraw in the engine). Then it is
 * given back: the engine offers it anew, or has moved it. */
static int listen_is_withdrawn(const struct session *l, struct session *s) {
  shm_fence();
  if (s->cut != NULL || __atomic_load_n(&s->e->listener_gen, __ATOMIC_ACQUIRE) == l->gen)
    return 0;
  __atomic_store_n(&s->a->accepted, 0u, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.accept.back");
  __atomic_store_n(&s->a->gen, 0u, __ATOMIC_RELEASE);
  return 1;
}

/** Makes the offer ours: words → gen → accepted. 0, or -EAGAIN when the engine has withdrawn it. */
static int listen_take(struct session *l, struct session *s, uint32_t flags) {
  uint32_t gen = __atomic_load_n(&s->e->gen, __ATOMIC_ACQUIRE);
  uint32_t state = __atomic_load_n(&s->e->state, __ATOMIC_ACQUIRE);
  if (gen != s->gen || (state != ABI_SESS_OFFERED && state != ABI_SESS_CLOSED))
    return -EAGAIN;
  home_slot_clear(s->a);
  s->proto = l->proto;
  s->nonblock = (flags & O_NONBLOCK) != 0;
  s->opt = l->opt;
  s->lowat = l->lowat;
  s->bound = 0;
  stage_set(s, SESSION_OPEN);
  s->told = 1;
  session_open_fifos(s);
  if (l->a->opt_gen != 0)
    session_publish_options(s);
  s->a->rx_lowat = l->lowat;
  __atomic_store_n(&s->a->gen, s->gen, __ATOMIC_RELEASE);
  FAULT_POINT("vcl.accept");
  __atomic_store_n(&s->a->accepted, s->gen, __ATOMIC_RELEASE);
  if (listen_is_withdrawn(l, s))
    return -EAGAIN;
  if (s->cut == NULL) /* who connected over a pair has been connected all along */
    session_hint(s);
  return 0;
}

/** The next offer that still stands, NULL when there is none. */
static struct session *listen_next(struct session *l, uint32_t flags) {
  struct list *link;
  while ((link = list_pop_head(&l->offers)) != NULL) {
    struct session *s = list_entry(link, struct session, offers);
    l->n_offers--;
    list_init(&s->offers);
    if (listen_take(l, s, flags) == 0)
      return s;
    session_free(s);
    l->w->offers_missed = 1; /* its slot may have been offered anew while this one had it */
  }
  return NULL;
}

static int listen_accept(struct session *l, uint32_t flags, struct session **out) {
  struct worker *w = l->w;
  int rc = listen_arm(l);
  if (rc < 0)
    return rc;
  for (;;) {
    if (l->listen_shut)
      return -EINVAL;
    if (l->n_offers == 0)
      (void)worker_pump(w);
    *out = l->n_offers != 0 ? listen_next(l, flags) : NULL;
    if (*out == NULL && w->offers_missed) {
      listen_look_again(w);
      *out = listen_next(l, flags);
    }
    if (*out != NULL)
      return 0;
    if (l->broken != 0)
      return -l->broken;
    if (l->nonblock)
      return -EAGAIN;
    rc = ready_wait(l, EPOLLIN, -1);
    if (rc < 0)
      return rc;
  }
}

int vppcom_session_accept(uint32_t listen_session_handle, vppcom_endpt_t *client_ep, uint32_t flags) {
  struct session *l = session_enter(listen_session_handle);
  if (l == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = l->w;
  struct session *s = NULL;
  int rc = session_is_dgram(l)                                      ? peers_accept(l, flags, &s)
           : l->kind != SESSION_STREAM || l->life != SESSION_LISTEN ? VPPCOM_EINVAL
                                                                    : listen_accept(l, flags, &s);
  if (rc == 0) {
    struct abi_endpoint remote = s->e->remote;
    l->n_accepted++;
    l->took = 1;
    if (!session_is_dgram(s)) /* counted as it was made */
      worker_count(w, 1, 0);
    if (client_ep != NULL)
      connect_fill(&remote, client_ep);
    rc = (int)session_handle(s);
  }
  worker_leave(w);
  return rc == -EBADF ? VPPCOM_EBADFD : rc;
}

int vppcom_session_listener(uint32_t session_handle_in) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  struct worker *w = s->w;
  struct session *l = s->listener != UINT32_MAX ? pool_at(&w->sessions, s->listener) : NULL;
  int rc = l != NULL && l->serial == s->listener_serial && (l->life == SESSION_LISTEN || peers_listens(l))
               ? (int)session_handle(l)
               : VPPCOM_ENOENT;
  worker_leave(w);
  return rc;
}

int vppcom_session_n_accepted(uint32_t session_handle_in) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  int rc = (int)s->n_accepted;
  worker_leave(s->w);
  return rc;
}

int vppcom_session_is_connectable_listener(uint32_t session_handle_in) {
  struct session *s = session_enter(session_handle_in);
  if (s == NULL)
    return VPPCOM_EBADFD;
  worker_leave(s->w);
  return 0; /* only multiplexed transports have such sessions */
}
