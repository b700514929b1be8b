/*
 * TCP as a transport: the glue between the sans-I/O core (tcp/) and sessions, fifos, frames and timers.
 *
 * Worker thread; hot path. The core never sees a session; this file turns its ops into fifo and frame calls. A callback
 * may end a session: after each call into the core only `dead`, `ops` and `tcb` of the session may be looked at.
 */
#include "worker.h"

#include "base/bits.h"
#include "base/fault.h"
#include "fast.h"
#include "transport_tcp.h"
#include "tunables.h"
#include "wire/flow.h"

#include <errno.h>

#define TCP_GSO_PAYLOAD 65000u /* with headers and options a frame stays below 65536 (IPv4 total length) */

_Static_assert(sizeof(struct tcp_conn) <= TRANSPORT_PRIV, "fits the session's private room");

/* --- ops of the core: receive --- */

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct session *s = tcp_session(c);
  uint32_t placed = 0;
  if (!s->e)
    return 0;
  for (uint32_t i = 0; i < seg->n_pieces && placed < len; i++) {
    const struct tcp_piece *pc = &seg->pieces[i];
    if (skip >= pc->len) {
      skip -= pc->len;
      continue;
    }
    uint32_t n = pc->len - skip;
    if (n > len - placed)
      n = len - placed;
    int64_t got = fifo_prod_place(&s->rx, off + placed, pc->p + skip, n);
    skip = 0;
    if (got < 0)
      app_suspect(s->app, "rx fifo: impossible head");
    if (got > 0)
      placed += (uint32_t)got;
    if (got != (int64_t)n)
      break;
  }
  if (placed < len)
    worker_count(ctx, EC_RX_NO_CHUNK, 1);
  return placed;
}

static void op_rx_publish(void *ctx, struct tcp_conn *c, uint32_t n) {
  (void)ctx;
  fifo_prod_publish(&tcp_session(c)->rx, n);
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct session *s = tcp_session(c);
  struct worker *w = ctx;
  if (!s->e)
    return s->app_closed ? 0 : HS_MIN(c->rcv_fifo, w->cfg->rx_fifo_max);
  int64_t room = fifo_prod_room(&s->rx);
  if (room < 0)
    app_suspect(s->app, "rx fifo: impossible head");
  return room < 0 ? 0 : (uint32_t)room;
}

/* Position, then the flag that speaks of it: a later one is one store. */
static void op_urgent(void *ctx, struct tcp_conn *c, uint32_t off) {
  struct session *s = tcp_session(c);
  (void)ctx;
  if (!s->e)
    return;
  __atomic_store_n(&s->e->urg_pos, s->rx.tail + off, __ATOMIC_RELEASE);
  FAULT_POINT("session.urgent");
  session_set_flag(s, ABI_SE_URGENT);
}

static void op_rx_limit(void *ctx, struct tcp_conn *c, uint32_t bytes) {
  struct session *s = tcp_session(c);
  struct worker *w = ctx;
  if (s->e)
    fifo_prod_size_set(&s->rx, HS_MIN(bytes, w->cfg->rx_fifo_max));
}

/* --- transmit --- */

static uint32_t op_tx_used(void *ctx, struct tcp_conn *c) {
  struct session *s = tcp_session(c);
  (void)ctx;
  if (!s->believed || !s->e)
    return 0;
  int64_t used = fifo_cons_used(&s->tx);
  if (used < 0)
    app_suspect(s->app, "tx fifo: impossible tail");
  if (used <= 0)
    return 0;
  if (HS_UNLIKELY(__atomic_load_n(&s->a->want, __ATOMIC_RELAXED) & ABI_WANT_URGENT)) { /* behind the tail's acquire */
    uint32_t pos = __atomic_load_n(&s->a->tx_urg, __ATOMIC_RELAXED);
    if (pos - s->tx.head - 1 < (uint32_t)used)
      tcp_urgent(c, pos);
  }
  return (uint32_t)used;
}

static void op_tx_release(void *ctx, struct tcp_conn *c, uint32_t n) {
  struct session *s = tcp_session(c);
  (void)ctx;
  if (s->e)
    fifo_cons_consume(&s->tx, n);
}

/* --- events --- */

static void op_event(void *ctx, struct tcp_conn *c, enum tcp_event ev) {
  struct worker *w = ctx;
  struct session *s = tcp_session(c);
  switch (ev) {
  case TCP_EV_CONNECTED:
    figures_now(w, s); /* who sees it connected may ask at once */
    session_set_state(s, ABI_SESS_READY);
    break;
  case TCP_EV_READABLE:
    if (s->e && (!s->believed || fifo_prod_used(&s->rx) >= s->a->rx_lowat))
      app_hint(s->app, s->slot);
    break;
  case TCP_EV_PEER_FIN:
    if (s->e)
      __atomic_store_n(&s->e->fin_pos, s->rx.tail, __ATOMIC_RELAXED);
    session_set_flag(s, ABI_SE_PEER_FIN);
    break;
  case TCP_EV_WRITABLE:
    if (s->e && s->believed && __atomic_load_n(&s->a->tx_armed, __ATOMIC_ACQUIRE) &&
        (int32_t)(s->tx.head - __atomic_load_n(&s->a->tx_wake, __ATOMIC_RELAXED)) >= 0)
      app_hint(s->app, s->slot);
    break;
  case TCP_EV_CLOSING:
    session_set_flag(s, ABI_SE_FIN_ACKED);
    break;
  case TCP_EV_ERROR: {
    int err = (int)session_tcb(w, s)->error;
    session_set_error(s, err);
    if (err == ECONNRESET || err == ECONNREFUSED)
      session_set_flag(s, ABI_SE_RESET);
    break;
  }
  case TCP_EV_SOFT_ERROR:
    figures_soft_error(s, 1);
    break;
  case TCP_EV_ROUTE_BAD:
    s->path.gen = 0;
    break;
  case TCP_EV_CLOSED: { /* the record first: one without a TCB would be reset by a successor */
    uint32_t n = s->tcb;
    session_transport_gone(w, s);
    FAULT_POINT("session.gone");
    s->tcb = ABI_SEG_NONE;
    tcp_tcb_free(&w->tcbs.tcb[n]);
    tcb_put(&w->tcbs, n);
    break;
  }
  }
}

static void op_timer(void *ctx, struct tcp_conn *c, usec_t when) {
  struct worker *w = ctx;
  struct session *s = tcp_session(c);
  if (when == UINT64_MAX)
    timer_cancel(&w->wheel, &s->timer);
  else
    timer_set(&w->wheel, &s->timer, when);
}

static uint32_t op_path_mtu(void *ctx, struct tcp_conn *c, uint32_t found) {
  struct worker *w = ctx;
  const struct session *s = tcp_session(c);
  usec_t until = w->now + w->tcp.cfg.pmtu_life;
  if (found != 0 && ip_path_mtu_learn(worker_ip(w, s->vrf), &s->remote, found, until, w->now))
    pass_path_mtu(w, s->vrf, &s->remote, found, until);
  int mtu = ip_mtu(worker_ip(w, s->vrf), &s->remote);
  return mtu > 0 ? (uint32_t)mtu : c->d->pmtu;
}

static uint32_t op_gso_max(void *ctx, struct tcp_conn *c) {
  (void)ctx;
  (void)c;
  return TCP_GSO_PAYLOAD;
}

/*
 * Offer a finished handshake to a process. Order: record words → TCB names the record → accept = OFFERED → record state
 * (release) → hint. A crash before the state leaves a FREE slot and a TCB in SYN_RECEIVED whose record is not OFFERED:
 * adoption parks it again. A crash after it leaves both: adoption goes on with the connection.
 */
static int op_offer(void *ctx, struct tcp_conn *c) {
  struct worker *w = ctx;
  struct session *s = tcp_session(c);
  struct abi_tcb *d = session_tcb(w, s);
  struct listener *l = s->listener && s->listener->live ? listen_share(w, s->listener, s->flow_hash) : NULL;
  struct app_worker *a = l ? worker_app(w, l->entry.worker_id) : NULL;
  int fast = (tcp_of(s)->tfo & TCP_TFO_DATA) != 0; /* the handshake is not complete: nothing to park */
  if (s->half_open && s->listener && listen_ready(s->listener) > s->listener->entry.backlog) {
    worker_count(w, EC_ACCEPT_OVERFLOW, 1);
    return w->tcp.cfg.abort_on_overflow ? -ECONNRESET : -EAGAIN;
  }
  if (!fast) {
    offer_half_open(w, s, 0);
    __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_PARKED, __ATOMIC_RELEASE);
    offer_park(w, s);
  }
  if (!a || a->life != APP_LIVE) {
    worker_count(w, EC_ACCEPT_PARKED, 1);
    return 0;
  }
  uint32_t slot = app_slot_get(a);
  if (slot == APP_NO_SLOT) {
    worker_count(w, EC_ACCEPT_NO_SLOT, 1);
    return 0;
  }
  struct abi_sess_engine *e = worker_view_engine(&a->v, slot);
  uint32_t gen = e->gen + 1 ? e->gen + 1 : 1;
  if (session_bind_record(w, s, a, slot, gen, 0)) {
    app_slot_put(a, slot);
    return 0;
  }
  op_rx_limit(w, c, c->rcv_fifo);
  __atomic_store_n(&e->tx_limit, w->tcp.cfg.snd_buf, __ATOMIC_RELAXED);
  offer_unpark(s);
  offer_half_open(w, s, 0);
  offer_wait(w, s, l);
  e->local = d->local;
  e->remote = d->remote;
  e->listener = l->entry.slot;
  e->listener_gen = l->entry.slot_gen;
  e->tcb = s->tcb;
  __atomic_store_n(&e->gen, gen, __ATOMIC_RELEASE);
  d->slot = slot;
  d->slot_gen = gen;
  FAULT_POINT("session.offer.record");
  __atomic_store_n(&d->worker_id, a->id, __ATOMIC_RELEASE);
  FAULT_POINT("session.offer.owner");
  __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_OFFERED, __ATOMIC_RELEASE);
  FAULT_POINT("session.offer.state");
  session_set_state(s, ABI_SESS_OFFERED);
  return 1;
}

const struct tcp_env_ops transport_tcp_ops = {.rx_place = op_rx_place,
                                              .rx_publish = op_rx_publish,
                                              .rx_room = op_rx_room,
                                              .rx_limit = op_rx_limit,
                                              .urgent = op_urgent,
                                              .tx_used = op_tx_used,
                                              .tx_release = op_tx_release,
                                              .send = transport_tcp_send,
                                              .event = op_event,
                                              .offer = op_offer,
                                              .timer = op_timer,
                                              .path_mtu = op_path_mtu,
                                              .gso_max = op_gso_max};

/* --- after each call into the core --- */

/* TIME_WAIT needs no fifo: once the app has closed, a small record takes the place of it all; without a table of those,
 * or while the last ACK waits for a frame, the TCB lives on without a session record. */
void transport_tcp_settle(struct worker *w, struct session *s) {
  if (s->dead || !s->ops)
    return;
  if (!s->app) {
    if (tcp_state(tcp_of(s)) == ABI_TCP_TIME_WAIT && !tcp_of(s)->ack_now)
      (void)timewait_take(w, s);
    return;
  }
  struct abi_tcb *d = session_tcb(w, s);
  if (s->app_closed && d->state == ABI_TCP_TIME_WAIT) {
    if (!tcp_of(s)->ack_now && timewait_take(w, s))
      return;
    __atomic_store_n(&d->worker_id, 0, __ATOMIC_RELEASE);
    FAULT_POINT("session.timewait");
    session_orphan_end(w, s);
    session_unbind_record(w, s, 0);
    return;
  }
  uint32_t limit = HS_MIN(tcp_send_buffer(&w->tcp, tcp_of(s), s->e->tx_limit), w->cfg->tx_fifo_max);
  if (limit != s->e->tx_limit) /* a writer that waits looks when what it waited for is acknowledged */
    __atomic_store_n(&s->e->tx_limit, limit, __ATOMIC_RELEASE);
  figures_due(w, s);
}

/* --- the transport --- */

static int tcp_transport_init(struct worker *w) {
  tunables_apply(w);
  w->tcp.ops = &transport_tcp_ops;
  w->tcp.ctx = w;
  w->tcp.tfo = &w->tfo;
  w->tcp.cookie = &w->tcbs.block->cookie;
  memcpy(w->tcp.secret, w->tcbs.block->secret, sizeof w->tcp.secret);
  return 0;
}

static int tcp_transport_early(struct worker *w, uint32_t vrf, const struct abi_endpoint *remote, uint32_t flags,
                               usec_t now) {
  struct ip_addr to;
  memcpy(&to, remote->ip, sizeof to);
  int mtu = ip_path_mtu(worker_ip(w, vrf), &to, w->now);
  if (mtu <= 0)
    return 0;
  return (flags & ABI_OPT_TFO_BARE ? tcp_tfo_room_bare : tcp_tfo_room)(&w->tcp, remote, vrf, (uint32_t)mtu, now);
}

static int tcp_transport_output(struct worker *w, struct session *s, usec_t now) {
  int starved = tcp_output(&w->tcp, tcp_of(s), now);
  transport_tcp_settle(w, s);
  return starved;
}

static void tcp_transport_consumed(struct worker *w, struct session *s, usec_t now) {
  tcp_rx_consumed(&w->tcp, tcp_of(s), now);
  if (!s->dead && s->ops && tcp_of(s)->b == NULL) /* at rest: no figures are due that would see to it */
    tcp_trim(s);
}

static void tcp_transport_shutdown(struct worker *w, struct session *s, usec_t now) {
  tcp_shutdown(&w->tcp, tcp_of(s), now);
  transport_tcp_settle(w, s);
}

static void tcp_transport_close(struct worker *w, struct session *s, usec_t now) {
  tcp_close(&w->tcp, tcp_of(s), session_close_unread(s), now);
  transport_tcp_settle(w, s);
}

static void tcp_transport_abort(struct worker *w, struct session *s, int err, usec_t now) {
  tcp_abort(&w->tcp, tcp_of(s), err, now);
}

static void tcp_transport_options(struct worker *w, struct session *s, const struct abi_options *opt, usec_t now) {
  tcp_options(&w->tcp, tcp_of(s), opt, now);
  if (opt->notsent_lowat && s->e) /* what left before this was known woke nobody */
    app_hint(s->app, s->slot);
}

static void tcp_transport_timer(struct worker *w, struct session *s, usec_t now) {
  tcp_timer(&w->tcp, tcp_of(s), now);
  if (!s->dead && s->ops) {
    if (tcp_of(s)->b == NULL)
      tcp_trim(s);
    session_dirty(w, s);
  }
  transport_tcp_settle(w, s);
}

static void tcp_transport_icmp(struct worker *w, struct session *s, int kind, int err, uint32_t mtu, uint32_t seq,
                               usec_t now) {
  tcp_icmp(&w->tcp, tcp_of(s), kind, err, mtu, seq, now);
}

static void tcp_transport_path_back(struct worker *w, struct session *s) {
  if (tcp_synchronized(tcp_state(tcp_of(s))))
    return;
  tcp_path_back(&w->tcp, tcp_of(s));
  session_dirty(w, s);
}

static int tcp_transport_lingers(struct worker *w, struct session *s) {
  if (session_tcb(w, s)->state == ABI_TCP_TIME_WAIT)
    return 0;
  return w->n_orphans < w->tcp.cfg.orphans_max / w->group->n ? 1 : -ENOBUFS;
}

static void tcp_transport_accepted(struct worker *w, struct session *s) {
  if (s->tcb != ABI_SEG_NONE)
    __atomic_store_n(&session_tcb(w, s)->accept, (uint8_t)ABI_ACCEPT_TAKEN, __ATOMIC_RELEASE);
}

static void tcp_transport_accept_ready(struct worker *w, struct session *s, usec_t now) {
  tcp_accept_ready(&w->tcp, tcp_of(s), now);
  if (!s->dead && s->ops)
    session_dirty(w, s);
}

const struct transport_ops transport_tcp = {.name = "tcp",
                                            .proto = 0,
                                            .ip_proto = 6,
                                            .spread = TRANSPORT_FLOW,
                                            .priv_size = sizeof(struct tcp_conn),
                                            .init = tcp_transport_init,
                                            .connect = transport_tcp_connect,
                                            .early = tcp_transport_early,
                                            .input = transport_tcp_input,
                                            .output = tcp_transport_output,
                                            .consumed = tcp_transport_consumed,
                                            .shutdown = tcp_transport_shutdown,
                                            .close = tcp_transport_close,
                                            .abort = tcp_transport_abort,
                                            .options = tcp_transport_options,
                                            .path_back = tcp_transport_path_back,
                                            .lingers = tcp_transport_lingers,
                                            .accepted = tcp_transport_accepted,
                                            .unlisten = fast_forget,
                                            .accept_ready = tcp_transport_accept_ready,
                                            .timer = tcp_transport_timer,
                                            .icmp = tcp_transport_icmp,
                                            .adopt = tcp_transport_adopt};
