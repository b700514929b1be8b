/*
 * Adoption: a new engine takes every connection back from the durable table and the session records.
 *
 * Worker 0's thread, before the first frame is received and before the other workers run; a connection goes to the
 * worker that its packets will come to, whichever had it before and however many there were. Rules (ARCHITECTURE
 * section 3): a TCB whose record does not belong to it is aborted; a record without a TCB is reset, or set back when
 * its SYN had not left yet; chunks are claimed from the tables that live; everything else (hashes, free lists, timers)
 * is recounted.
 */
#include "worker.h"

#include "base/bug.h"
#include "base/fault.h"
#include "base/log.h"
#include "life.h"
#include "transport_tcp.h"
#include "wire/flow.h"

#include <errno.h>

static struct ip_addr addr_of(const struct abi_endpoint *ep) {
  struct ip_addr a;
  memcpy(&a, ep->ip, sizeof a);
  return a;
}

/* Whether the record that `d` names belongs to it. */
static int record_belongs(struct worker *w, const struct abi_tcb *d, struct app_worker **out) {
  struct app_worker *a = d->worker_id ? worker_app(w, d->worker_id) : NULL;
  struct abi_sess_engine *e = a ? worker_view_engine(&a->v, d->slot) : NULL;
  if (!e || e->gen != d->slot_gen || e->state == ABI_SESS_FREE || e->state == ABI_SESS_CLOSED)
    return 0;
  *out = a;
  return 1;
}

/* A passive open that was not offered yet, or whose offer did not get as far as the record's state. */
static int is_unoffered(const struct abi_tcb *d) {
  return (d->nego & ABI_TCB_PASSIVE) && d->state == ABI_TCP_SYN_RECEIVED;
}

static void adopt_listener(struct worker *w, struct session *s, const struct abi_tcb *d) {
  if (!(d->nego & ABI_TCB_PASSIVE))
    return;
  if (s->believed || (d->state != ABI_TCP_SYN_RECEIVED && d->accept != ABI_ACCEPT_OFFERED))
    return;
  struct listener *l = listen_by_slot(w, d->listener_worker, d->listener_slot, d->listener_gen);
  if (!l) /* it went while no engine ran: whoever listens there now */
    l = listen_taker(w, s->vrf, transport_tcp.proto, &s->local, s->lport, 0);
  offer_half_open(w, s, d->state == ABI_TCP_SYN_RECEIVED && d->accept == ABI_ACCEPT_NONE);
  if (l)
    offer_wait(w, s, l);
  if (d->accept == ABI_ACCEPT_PARKED)
    offer_park(w, s);
}

/* A handshake whose listener is gone ends with it. */
static int adopt_is_heirless(const struct session *s, const struct abi_tcb *d) {
  return (d->nego & ABI_TCB_PASSIVE) && !s->listener && !s->believed && d->accept != ABI_ACCEPT_TAKEN &&
         (d->state == ABI_TCP_SYN_RECEIVED || d->accept == ABI_ACCEPT_OFFERED);
}

/* Fifo cursors when no record is left (TIME_WAIT after close): from the sequence numbers. */
static void adopt_cursors(const struct session *s, const struct abi_tcb *d, uint32_t *tx_head, uint32_t *rx_tail) {
  if (s->e) {
    *tx_head = s->e->tx_head;
    *rx_tail = s->e->rx.tail;
    return;
  }
  *tx_head = d->state == ABI_TCP_SYN_RECEIVED ? 0 : d->snd_max - d->iss - 1 - ((d->fin & ABI_TCB_FIN_SENT) ? 1u : 0u);
  *rx_tail =
      d->state == ABI_TCP_SYN_RECEIVED ? 0 : d->last_ack_sent - d->irs - 1 - ((d->fin & ABI_TCB_FIN_RCVD) ? 1u : 0u);
}

static int adopt_record(struct worker *w, struct session *s, struct abi_tcb *d) {
  struct app_worker *a = NULL;
  if (d->state == ABI_TCP_TIME_WAIT && d->worker_id == 0)
    return 0;
  int belongs = record_belongs(w, d, &a);
  if (is_unoffered(d) && (d->nego & ABI_TCB_TFO) && (!belongs || d->accept < ABI_ACCEPT_OFFERED)) {
    __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_NONE, __ATOMIC_RELEASE); /* as if the SYN had had no data */
    d->nego &= (uint8_t)~ABI_TCB_TFO;
  }
  if (is_unoffered(d) && (!belongs || d->accept < ABI_ACCEPT_OFFERED)) {
    if (d->accept >= ABI_ACCEPT_OFFERED) /* the offer did not get as far as the record: it is made again */
      __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_PARKED, __ATOMIC_RELEASE);
    FAULT_POINT("session.adopt.parked");
    __atomic_store_n(&d->worker_id, 0, __ATOMIC_RELEASE);
    return 0;
  }
  if (!belongs)
    return -ENOENT;
  int rc = session_bind_record(w, s, a, d->slot, d->slot_gen, 1);
  if (rc)
    return rc;
  uint32_t want = s->believed ? __atomic_load_n(&s->a->want, __ATOMIC_ACQUIRE) : 0;
  s->shut_wr = (want & (ABI_WANT_SHUT_WR | ABI_WANT_CLOSE)) != 0;
  s->app_closed = (d->fin & ABI_TCB_ORPHAN) != 0;
  if (!s->app_closed && !(want & ABI_WANT_CLOSE))
    s->shut_wr = 0; /* passed on again by the rescan: shutdown is idempotent */
  return 0;
}

/* What the record says of the transport is told after the durable step: tell it again. */
static void adopt_tell(struct session *s, const struct abi_tcb *d) {
  if (!s->e)
    return;
  if (d->fin & ABI_TCB_FIN_RCVD) {
    __atomic_store_n(&s->e->fin_pos, s->rx.tail, __ATOMIC_RELAXED);
    session_set_flag(s, ABI_SE_PEER_FIN);
  }
  if (d->fin & ABI_TCB_FIN_ACKED)
    session_set_flag(s, ABI_SE_FIN_ACKED);
  if (d->error)
    session_set_error(s, (int)d->error);
  if (d->error == ECONNRESET || d->error == ECONNREFUSED)
    session_set_flag(s, ABI_SE_RESET);
  if (s->e->state == ABI_SESS_CONNECTING && d->state != ABI_TCP_SYN_SENT && d->state != ABI_TCP_SYN_RECEIVED &&
      d->state != ABI_TCP_CLOSED)
    session_set_state(s, ABI_SESS_READY);
}

/* The connection was over, only its record was not told: what the app has not read yet stays. */
static int adopt_ended(struct worker *w, struct session *s, struct abi_tcb *d) {
  adopt_tell(s, d);
  session_transport_gone(w, s);
  FAULT_POINT("session.adopt.ended");
  s->tcb = ABI_SEG_NONE;
  tcp_tcb_free(d);
  return 0;
}

/* The TCB of a connection whose TIME_WAIT record was made already: 1 = it goes, its session record too. */
static int adopt_is_record(struct worker *w, struct abi_tcb *d) {
  struct ip_addr local = addr_of(&d->local), remote = addr_of(&d->remote);
  struct app_worker *a = NULL;
  if (d->state != ABI_TCP_TIME_WAIT ||
      timewait_find(w, d->vrf, &local, be16_get(d->local.port), &remote, be16_get(d->remote.port)) == TIMEWAIT_NONE)
    return 0;
  if (record_belongs(w, d, &a))
    life_set(worker_view_engine(&a->v, d->slot), ABI_SESS_CLOSED);
  FAULT_POINT("session.adopt.timewait");
  tcp_tcb_free(d);
  return 1;
}

/* The worker of the group that the packets of `d` will come to. */
static struct worker *adopt_owner(struct worker *w, const struct abi_tcb *d) {
  struct ip_addr local = addr_of(&d->local), remote = addr_of(&d->remote);
  return w->group->w[flow_worker(&local, be16_get(d->local.port), &remote, be16_get(d->remote.port), w->group->n)];
}

static int adopt_one(struct worker *w, uint32_t n, usec_t now) {
  struct abi_tcb *d = &w->tcbs.tcb[n];
  if (adopt_is_record(w, d))
    return 0;
  struct session *s = session_new(w);
  if (!s)
    return -ENOBUFS;
  int there = d->vrf < ABI_VRFS && worker_ip(w, d->vrf) != NULL; /* else the configuration has it no more */
  s->tcb = n;
  s->vrf = there ? (uint8_t)d->vrf : 0;
  s->local = addr_of(&d->local);
  s->remote = addr_of(&d->remote);
  s->lport = be16_get(d->local.port);
  s->rport = be16_get(d->remote.port);
  int rc = adopt_record(w, s, d);
  adopt_listener(w, s, d);
  uint32_t tx_head, rx_tail;
  adopt_cursors(s, d, &tx_head, &rx_tail);
  int mtu = there ? ip_path_mtu(worker_ip(w, s->vrf), &s->remote, w->now) : -ENODEV;
  BUG_ON(session_transport(w, s, &transport_tcp) != 0); /* its room is in the session */
  if (there && flow_add(w, s))
    rc = -EEXIST;
  int bad = !there ? -ENODEV : tcp_adopt(&w->tcp, tcp_of(s), d, tx_head, rx_tail, mtu > 0 ? (uint32_t)mtu : 1500, now);
  if (bad && d->state == ABI_TCP_CLOSED)
    return adopt_ended(w, s, d);
  if (bad) {
    log_warn("engine.adopt.record", "TCB %u state %u vrf %u %s: freed", n, d->state, d->vrf,
             there ? "contradicts itself" : "is in a VRF without an interface");
    s->ops = NULL;
    s->tcb = ABI_SEG_NONE;
    tcp_tcb_free(d);
    session_unbind_record(w, s, ECONNRESET);
    session_free(w, s);
    return bad;
  }
  if (rc) {
    log_warn("engine.adopt.orphan", "TCB %u state %u: no record of worker %llu belongs to it (%d): reset", n, d->state,
             (unsigned long long)d->worker_id, rc);
    transport_tcp.abort(w, s, ECONNRESET, now);
    return rc;
  }
  adopt_tell(s, d);
  if (s->app_closed && d->state != ABI_TCP_TIME_WAIT) {
    s->orphan = 1;
    w->n_orphans++;
  }
  if (adopt_is_heirless(s, d))
    transport_tcp.abort(w, s, ECONNRESET, now);
  else
    session_dirty(w, s);
  return 0;
}

int tcp_transport_adopt(struct worker *w, usec_t now) {
  int n = 0;
  for (uint32_t i = 0, high = tcb_high(&w->tcbs); i < high; i++) {
    if (__atomic_load_n(&w->tcbs.tcb[i].life, __ATOMIC_ACQUIRE) != ABI_TCB_USED)
      continue;
    if (adopt_one(adopt_owner(w, &w->tcbs.tcb[i]), i, now))
      worker_count(w, EC_SESS_ADOPT_BAD, 1);
    else
      n++;
  }
  worker_count(w, EC_SESS_ADOPTED, (uint64_t)n);
  return n;
}

/* A closed session whose app still reads: its rx chunks stay claimed. It has no flow: the slot's owner takes it. */
static void adopt_closed(struct worker *first, struct app_worker *a, uint32_t slot, struct abi_sess_engine *e) {
  struct worker *w = first->group->w[app_owner(a, slot)];
  struct app_worker *mine = worker_app(w, a->id);
  const struct abi_sess_app *half = worker_view_app(&a->v, slot);
  int holds = __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) == e->gen &&
              !(__atomic_load_n(&half->want, __ATOMIC_ACQUIRE) & (ABI_WANT_CLOSE | ABI_WANT_ABORT));
  if (!holds || __atomic_load_n(&half->op, __ATOMIC_ACQUIRE) == ABI_OP_LISTEN || e->rx.tail == 0)
    return;
  struct session *s = session_new(w);
  if (s && session_bind_record(w, s, mine, slot, e->gen, 1))
    session_free(w, s);
}

/* Datagrams: the worker to which what is sent to the record's port comes; any one until it has a port. */
static uint32_t adopt_worker_of(const struct worker *w, const struct abi_sess_engine *e) {
  uint16_t port = be16_get(e->local.port);
  const struct transport_ops *ops = transport_of(w, e->proto);
  return ops && ops->spread == TRANSPORT_PORT && port ? flow_udp(port, w->group->n) : w->index;
}

/* A session of which the record is all there is (datagrams): its transport goes on from it. 0 or -errno. */
static int adopt_open(struct worker *first, struct app_worker *of, uint32_t slot, struct abi_sess_engine *e) {
  struct worker *w = first->group->w[adopt_worker_of(first, e)];
  struct app_worker *a = w == first ? of : worker_app(w, of->id);
  const struct transport_ops *ops = transport_of(w, e->proto);
  const struct abi_sess_app *half = worker_view_app(&a->v, slot);
  if (e->state != ABI_SESS_READY || !ops || !ops->adopt_record)
    return -ENOENT;
  if (__atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) != e->gen) /* the app has let go of it */
    return -ENOENT;
  struct session *s = session_new(w);
  if (!s)
    return -ENOBUFS;
  int rc = session_bind_record(w, s, a, slot, e->gen, 1);
  if (rc == 0) {
    rc = session_transport(w, s, ops);
  }
  if (rc == 0) {
    s->vrf = (uint8_t)a->sh->vrf;
    s->local = addr_of(&e->local);
    s->remote = addr_of(&e->remote);
    s->lport = be16_get(e->local.port);
    s->rport = be16_get(e->remote.port);
    rc = ops->adopt_record(w, s, w->now);
  }
  if (rc) {
    worker_count(w, EC_SESS_ADOPT_BAD, 1);
    session_unbind_record(w, s, ECONNRESET);
    session_free(w, s);
    return 0; /* the record says so by now */
  }
  worker_count(w, EC_SESS_ADOPTED, 1);
  session_dirty(w, s);
  return 0;
}

/* Records that no TCB claimed. */
static void adopt_slot(struct worker *w, struct app_worker *a, uint32_t slot) {
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  if (a->by_slot[slot] != APP_NO_SESSION)
    return;
  switch (e->state) {
  case ABI_SESS_CONNECTING: /* no SYN has left: the rescan begins it anew */
    life_set(e, ABI_SESS_FREE);
    break;
  case ABI_SESS_OFFERED:
    if (__atomic_load_n(&worker_view_app(&a->v, slot)->accepted, __ATOMIC_ACQUIRE) != e->gen) {
      life_set(e, ABI_SESS_FREE); /* nobody took it: it is withdrawn */
      break;
    }
    /* fall through */
  case ABI_SESS_READY:
  case ABI_SESS_CLOSING:
    if (adopt_open(w, a, slot, e) == 0)
      break;
    __atomic_store_n(&e->error, ECONNRESET, __ATOMIC_RELAXED);
    life_set(e, ABI_SESS_CLOSED);
    adopt_closed(w, a, slot, e);
    break;
  case ABI_SESS_CLOSED:
    adopt_closed(w, a, slot, e);
    break;
  default:
    break;
  }
}

void adopt_records(struct worker *w, struct app_worker *a) {
  uint32_t n_app = (uint32_t)a->v.ga.n_slots_app;
  uint32_t high = __atomic_load_n(&a->v.app->slots_high, __ATOMIC_ACQUIRE);
  for (uint32_t slot = 0; slot < n_app && slot < high; slot++)
    adopt_slot(w, a, slot);
  high = __atomic_load_n(&a->v.engine->slots_high, __ATOMIC_ACQUIRE);
  for (uint32_t slot = n_app; slot < a->v.ge.n_slots && slot < high; slot++)
    adopt_slot(w, a, slot);
}
