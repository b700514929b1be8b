/*
 * A session over a pair: what the other app's half says, as an engine's half would say it (vcl_cut.h).
 *
 * Called by session.c, rw.c, listen.c and cut_pair.c on the worker's thread or under its mutex. Each half has one
 * writer. A slot's life: the connecting side raises gen, fills req, accepted = gen, op = CONNECT (release), hint; it
 * counts as connected from then on, as TCP's does while it waits in a backlog. The accepting side takes it by gen
 * (release) in its own half, or refuses by gen with op = REFUSED. Bytes need no more than both fifos. A FIN is want's
 * SHUT_WR or CLOSE, a RST its ABORT, or CLOSE (or death) with bytes unread. The slot is free when both have CLOSE;
 * the connecting side then raises gen.
 */
#include "vcl_branch.h"

#include "base/fault.h"
#include "shm/fence.h"
#include "vcl_app.h"

#include <stdlib.h>

#define CUT_SESS_MSS 65483u /* what the kernel's loopback has: programs size their writes by it */

int cut_sess_attach(struct session *s, struct cut_pair *p, const struct abi_endpoint *local,
                    const struct abi_endpoint *remote) {
  struct cut *c = calloc(1, sizeof *c);
  if (c == NULL)
    return -ENOMEM;
  c->pair = p;
  c->client = p->client;
  c->peer = worker_view_partner(&p->home.view, s->slot);
  c->mirror.gen = s->gen;
  c->mirror.state = ABI_SESS_OFFERED;
  c->mirror.flags = ABI_SE_CUTTHROUGH;
  c->mirror.local = *local;
  c->mirror.remote = *remote;
  c->mirror.mss = CUT_SESS_MSS;
  c->mirror.tx_limit = c->client ? CUT_TX_FIRST : CUT_TX_LIMIT;
  c->mirror.figures = (struct abi_tcp_figures){.srtt_us = 1,
                                               .rto_us = 200000,
                                               .cwnd = CUT_TX_LIMIT,
                                               .snd_mss = CUT_SESS_MSS,
                                               .rcv_mss = CUT_SESS_MSS,
                                               .snd_wnd = CUT_TX_LIMIT,
                                               .rcv_wnd = CUT_TX_LIMIT,
                                               .pmtu = 65535,
                                               .tcp_state = 1};
  s->cut = c;
  s->e = &c->mirror;
  s->lane = 0;
  return 0;
}

/** It waits in no backlog any more. */
static void cut_sess_counted(struct cut *c) {
  if (c->grant != NULL && c->grant->pending != 0)
    c->grant->pending--;
  c->grant = NULL;
}

void cut_sess_free(struct session *s) {
  if (s->cut != NULL)
    cut_sess_counted(s->cut);
  free(s->cut);
  free(s->replay);
  s->cut = NULL;
  s->replay = NULL;
}

void cut_sess_open_rx(struct session *s) {
  struct worker_view *v = &s->home->view;
  struct cut *c = s->cut;
  int open = !c->client || c->accepted;
  fifo_cons_init(&s->rx, open ? &c->peer->tx : &c->nothing, c->peer->tx_chunk, &s->a->rx_head, v->seg_e.base,
                 v->ge.arena_off, v->ge.arena_size, ABI_FIFO_MAX);
}

void cut_sess_open_fifos(struct session *s) {
  struct worker_view *v = &s->home->view;
  struct cut *c = s->cut;
  int open = !c->client || c->accepted;
  home_lock(s->home);
  if (fifo_prod_init(&s->tx, &s->a->tx, s->a->tx_chunk, open ? &c->peer->rx_head : &c->zero, v->seg_a.base,
                     s->home->arena, 0) < 0)
    s->broken = ECONNRESET;
  home_unlock(s->home);
  cut_sess_open_rx(s);
  c->pair->touched = 1;
}

int cut_sess_refused(const struct session *s) {
  const struct cut *c = s->cut;
  return c != NULL && c->client && !c->accepted && __atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) == s->gen &&
         __atomic_load_n(&c->peer->op, __ATOMIC_RELAXED) == CUT_OP_REFUSED;
}

void cut_sess_settle(struct session *s) {
  struct cut *c = s->cut;
  c->mirror.tx_sent = s->tx.tail;
  if (!c->client || c->accepted || __atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) != s->gen ||
      __atomic_load_n(&c->peer->op, __ATOMIC_RELAXED) == CUT_OP_REFUSED)
    return;
  c->accepted = 1;
  c->mirror.tx_limit = CUT_TX_LIMIT;
  cut_sess_counted(c);
  if (!s->fifos_open)
    return;
  s->tx.peer_head = &c->peer->rx_head;
  cut_sess_open_rx(s);
}

/** Whether bytes of ours lie unread. */
static int cut_sess_unread(const struct session *s) {
  if (!s->fifos_open)
    return 0;
  uint32_t tail = __atomic_load_n(&s->a->tx.tail, __ATOMIC_RELAXED);
  return tail != __atomic_load_n(s->tx.peer_head, __ATOMIC_ACQUIRE);
}

/** ABI_WANT_* of the other side; its death is a close. *died: it did not say so itself. */
static uint32_t cut_sess_want(const struct session *s, int *died) {
  const struct cut *c = s->cut;
  uint32_t want = 0;
  *died = 0;
  if (c->client && !c->accepted)
    return 0; /* in a backlog, or about to be taken elsewhere */
  int dead = s->home->detached;
  if (__atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) == s->gen || !c->client)
    want = __atomic_load_n(&c->peer->want, __ATOMIC_ACQUIRE);
  if (__atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) != s->gen)
    want = ABI_WANT_CLOSE; /* it has let go of the slot, which only comes after both have closed */
  if (dead && (want & ABI_WANT_CLOSE) == 0) {
    *died = 1;
    want |= ABI_WANT_CLOSE;
  }
  return want;
}

struct session_facts cut_sess_facts(const struct session *s) {
  struct session_facts f = {.state = ABI_SESS_READY, .flags = ABI_SE_CUTTHROUGH, .error = 0};
  struct cut *c = s->cut;
  int died;
  uint32_t want = cut_sess_want(s, &died);
  uint32_t mine = __atomic_load_n(&s->a->want, __ATOMIC_RELAXED);
  int unread = (want & ABI_WANT_CLOSE) != 0 && cut_sess_unread(s);
  int no_fin = (want & ABI_WANT_ABORT) != 0 || (died && unread); /* a RST and nothing before it */
  if ((want & ABI_WANT_SHUT_WR) != 0 || ((want & ABI_WANT_CLOSE) != 0 && !no_fin))
    f.flags |= ABI_SE_PEER_FIN;
  if ((mine & ABI_WANT_SHUT_WR) != 0)
    f.flags |= ABI_SE_FIN_ACKED; /* it lies where the other side looks */
  if (c->error != 0)
    f.error = (uint32_t)c->error;
  else if ((want & ABI_WANT_ABORT) != 0)
    f.error = ECONNRESET;
  else if (unread)
    f.error = died ? ECONNRESET : EPIPE; /* a RST after a FIN is EPIPE on Linux */
  if (f.error != 0) {
    f.flags |= ABI_SE_RESET;
    f.state = ABI_SESS_CLOSED;
  } else if ((f.flags & ABI_SE_PEER_FIN) != 0 && (mine & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0) {
    f.state = ABI_SESS_CLOSED;
  }
  return f;
}

int cut_sess_swallow(struct session *s) {
  int died;
  if (s->cut->error != 0 || (cut_sess_want(s, &died) & ABI_WANT_CLOSE) == 0)
    return 0;
  s->cut->error = EPIPE;
  session_touch(s);
  return 1;
}

void cut_sess_consumed(struct session *s) {
  const struct abi_sess_app *peer = s->cut->peer;
  shm_fence(); /* our head before its wish: it looks the other way round */
  if (__atomic_load_n(&peer->tx_armed, __ATOMIC_RELAXED) != 1)
    return;
  if ((int32_t)(s->rx.head - __atomic_load_n(&peer->tx_wake, __ATOMIC_RELAXED)) >= 0)
    session_hint(s);
}

uint32_t cut_sess_close_bits(struct session *s) {
  if (!s->fifos_open)
    return ABI_WANT_CLOSE;
  session_lock(s);
  int64_t unread = fifo_cons_used(&s->rx);
  session_unlock(s);
  return ABI_WANT_CLOSE | (unread != 0 ? ABI_WANT_ABORT : 0u); /* RFC 1122 4.2.2.13 */
}

int cut_sess_over(const struct session *s) {
  const struct cut *c = s->cut;
  if (s->home->detached)
    return 1;
  if (__atomic_load_n(&c->peer->gen, __ATOMIC_ACQUIRE) != s->gen)
    return !c->client || c->accepted;
  return (__atomic_load_n(&c->peer->want, __ATOMIC_ACQUIRE) & ABI_WANT_CLOSE) != 0;
}

/** Answers a connect with "not here". */
static void cut_sess_answer_no(struct cut_pair *p, uint32_t slot, uint32_t gen) {
  struct abi_sess_app *a = worker_view_app(&p->home.view, slot);
  home_slot_clear(a);
  __atomic_store_n(&a->op, CUT_OP_REFUSED, __ATOMIC_RELAXED);
  __atomic_store_n(&a->want, ABI_WANT_CLOSE, __ATOMIC_RELAXED);
  FAULT_POINT("vcl.cut_refuse");
  __atomic_store_n(&a->gen, gen, __ATOMIC_RELEASE);
  home_hint(&p->home, 0, slot, a);
}

void cut_sess_refuse(struct session *s) {
  if (!s->home->inherited && !s->home->detached)
    cut_sess_answer_no(s->cut->pair, s->slot, s->gen);
}

void cut_sess_refuse_rest(struct cut_pair *p) {
  struct home *h = &p->home;
  uint32_t high = __atomic_load_n(&h->view.partner->slots_high, __ATOMIC_ACQUIRE);
  for (uint32_t slot = 0; !p->client && slot < high && slot < h->n_slots; slot++) {
    const struct abi_sess_app *peer = worker_view_partner(&h->view, slot);
    uint32_t gen = __atomic_load_n(&peer->gen, __ATOMIC_ACQUIRE);
    if (gen != 0 && __atomic_load_n(&peer->op, __ATOMIC_ACQUIRE) == ABI_OP_CONNECT &&
        __atomic_load_n(&peer->accepted, __ATOMIC_RELAXED) == gen && worker_view_app(&h->view, slot)->gen != gen)
      cut_sess_answer_no(p, slot, gen);
  }
}

/** The listener that a connect names by `slot` and may name, or NULL. */
static struct session *cut_sess_listener(struct worker *w, const struct abi_request *rq, uint32_t slot) {
  static const uint8_t zero[16];
  static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
  struct session *l = NULL;
  if (w->home == NULL || slot >= w->home->n_slots_app || w->home->owner[slot] == HOME_NO_OWNER)
    return NULL;
  l = pool_ref(&w->sessions, w->home->owner[slot] - 1);
  if (l->kind != SESSION_STREAM || l->life != SESSION_LISTEN || l->listener_id != rq->id || l->listen_shut || l->redo ||
      l->quiet)
    return NULL;
  int wild = memcmp(l->local.ip, zero, 16) == 0 || memcmp(l->local.ip, any4, 16) == 0;
  if ((!wild && memcmp(l->local.ip, rq->remote.ip, 16) != 0) || be16_get(l->local.port) != be16_get(rq->remote.port) ||
      memcmp(rq->local.ip, rq->remote.ip, 16) != 0 || be16_get(rq->local.port) == 0)
    return NULL; /* an address that its stack does not have */
  return l;
}

void cut_sess_offered(struct cut_pair *p, uint32_t slot) {
  struct worker *w = p->w;
  struct abi_sess_app *mine = worker_view_app(&p->home.view, slot);
  const struct abi_sess_app *peer = worker_view_partner(&p->home.view, slot);
  uint32_t gen = __atomic_load_n(&peer->gen, __ATOMIC_ACQUIRE);
  if (gen == 0 || mine->gen == gen || __atomic_load_n(&peer->op, __ATOMIC_ACQUIRE) != ABI_OP_CONNECT ||
      __atomic_load_n(&peer->accepted, __ATOMIC_RELAXED) != gen)
    return; /* an old hint, or the slot is being written */
  struct abi_request rq = peer->req;
  uint32_t goal = __atomic_load_n(&peer->pair_slot, __ATOMIC_RELAXED);
  int dgram = rq.proto == VPPCOM_PROTO_UDP;
  struct session *l = dgram ? branch_goal(w, &rq, goal) : cut_sess_listener(w, &rq, goal);
  struct session *s = l != NULL ? session_new_offer(w, &p->home, slot, gen) : NULL;
  if (s != NULL && cut_sess_attach(s, p, &rq.remote, &rq.local) < 0) {
    session_free(s);
    s = NULL;
  }
  if (s == NULL) {
    cut_sess_answer_no(p, slot, gen);
    return;
  }
  if (dgram) {
    branch_take(l, s);
    return;
  }
  s->listener = l->index;
  s->listener_serial = l->serial;
  list_add_tail(&l->offers, &s->offers);
  l->n_offers++;
  session_touch(l);
}

/** All that was written, out of the own fifo. 0 or -errno. */
static int cut_sess_save(struct session *s) {
  struct fifo_cons mine;
  struct worker_view *v = &s->home->view;
  uint32_t zero = 0;
  uint32_t len = s->fifos_open ? s->tx.tail : 0;
  if (len == 0)
    return 0;
  s->replay = malloc(len);
  if (s->replay == NULL)
    return -ENOMEM;
  fifo_cons_init(&mine, &s->a->tx, s->a->tx_chunk, &zero, v->seg_a.base, v->ga.arena_off, v->ga.arena_size,
                 ABI_FIFO_MAX);
  int64_t used = fifo_cons_used(&mine);
  if (used != (int64_t)len || fifo_cons_peek(&mine, 0, s->replay, len) != (int64_t)len)
    return -EPROTO;
  s->replay_len = len;
  return 0;
}

/** The slot that was kept for a bound client, or -ENOENT: none, or its stack is gone. */
static int64_t cut_sess_kept(const struct session *s) {
  const struct broker_slot *k = &s->cut->kept;
  const struct home *h = s->w->home;
  if (k->gen == 0 || h == NULL || h->detached || h->worker_id != k->worker_id ||
      worker_view_app(&h->view, k->slot)->gen != k->gen)
    return -ENOENT;
  return k->slot;
}

void cut_sess_unkeep(struct session *s, struct broker_slot *slot) {
  int64_t kept = cut_sess_kept(s);
  *slot = s->cut->kept;
  s->cut->kept.gen = 0;
  if (kept >= 0)
    home_slot_put(s->w->home, (uint32_t)kept);
}

/** A slot of the worker's own home for s, or -errno. A bound one has its own still, or its reservation is gone. */
static int64_t cut_sess_own_slot(struct session *s) {
  struct home *h = s->w->home;
  int64_t kept = cut_sess_kept(s);
  if (kept >= 0)
    return kept;
  s->bound = 0;
  return h != NULL && !h->detached ? home_slot_get(h) : -ENETDOWN;
}

void cut_sess_return(struct session *s) {
  struct worker *w = s->w;
  struct home *old = s->home;
  uint32_t old_slot = s->slot;
  struct abi_endpoint remote = s->cut->mirror.remote;
  int64_t slot = !s->home->forked ? cut_sess_own_slot(s) : -ENETDOWN;
  if (slot < 0 || cut_sess_save(s) < 0) {
    if (slot >= 0 && slot != cut_sess_kept(s))
      home_slot_put(w->home, (uint32_t)slot);
    s->cut->error = ECONNRESET;
    s->cut->accepted = 1;
    session_touch(s);
    return;
  }
  if (s->fifos_open)
    fifo_prod_fini(&s->tx);
  s->fifos_open = 0;
  uint8_t *replay = s->replay;
  s->replay = NULL;
  s->redial = s->told || s->cut->seen ? 2 : 1;
  cut_sess_free(s);
  s->replay = replay;
  home_slot_put(old, old_slot);
  session_move(s, w->home, (uint32_t)slot);
  stage_set(s, SESSION_NEW);
  s->tx_armed = 0;
  s->a->rx_lowat = s->lowat;
  session_publish_options(s);
  connect_ask(s, &remote, 0);
}

void cut_sess_replay(struct session *s) {
  int told = s->redial == 2;
  s->redial = 0;
  if (s->failed || s->broken != 0) {
    if (told && s->broken == 0)
      s->broken = ECONNRESET; /* the program knows it as connected */
  } else if (s->replay_len != 0) {
    fifo_prod_size_set(&s->tx, ABI_FIFO_MAX);
    held_note(s);
    if (fifo_prod_write(&s->tx, s->replay, s->replay_len) != (int64_t)s->replay_len)
      s->broken = ECONNRESET;
    session_hint(s);
  }
  if (s->shut_wr)
    session_want(s, ABI_WANT_SHUT_WR);
  free(s->replay);
  s->replay = NULL;
  s->replay_len = 0;
}
