/*
 * TCP as a transport: the glue between the sans-I/O core (tcp/) and sessions, fifos, frames and timers.
 *
 * Worker thread; hot path. The core never sees a session; this file turns its ops into fifo and frame calls. A callback
 * may end a session: after each call into the core only `dead`, `ops` and `tcb` of the session may be looked at.
 */
#include "worker.h"

#include "base/bits.h"
#include "base/fault.h"
#include "gate.h"
#include "shm/fence.h"
#include "tcp/tcp_tw.h"
#include "transport_tcp.h"
#include "tunables.h"
#include "wire/cksum.h"
#include "wire/flow.h"

#include <errno.h>

#define TCP_GSO_PAYLOAD 65000u /* with headers and options a frame stays below 65536 (IPv4 total length) */

static struct session *conn_session(struct tcp_conn *c) {
  return container_of((uint8_t *)c, struct session, priv[0]);
}

_Static_assert(sizeof(struct tcp_conn) <= TRANSPORT_PRIV, "fits the session's private room");

static struct abi_tcb *session_tcb(struct worker *w, const struct session *s) {
  return &w->tcbs.tcb[s->tcb];
}

/* --- ops of the core: receive --- */

static uint32_t op_rx_place(void *ctx, struct tcp_conn *c, uint32_t off, const struct tcp_seg_in *seg, uint32_t skip,
                            uint32_t len) {
  struct session *s = conn_session(c);
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
  fifo_prod_publish(&conn_session(c)->rx, n);
}

static uint32_t op_rx_room(void *ctx, struct tcp_conn *c) {
  struct session *s = conn_session(c);
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
  struct session *s = conn_session(c);
  (void)ctx;
  if (!s->e)
    return;
  __atomic_store_n(&s->e->urg_pos, s->rx.tail + off, __ATOMIC_RELEASE);
  FAULT_POINT("session.urgent");
  session_set_flag(s, ABI_SE_URGENT);
}

static void op_rx_limit(void *ctx, struct tcp_conn *c, uint32_t bytes) {
  struct session *s = conn_session(c);
  struct worker *w = ctx;
  if (s->e)
    fifo_prod_size_set(&s->rx, HS_MIN(bytes, w->cfg->rx_fifo_max));
}

/* --- transmit --- */

static uint32_t op_tx_used(void *ctx, struct tcp_conn *c) {
  struct session *s = conn_session(c);
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
  struct session *s = conn_session(c);
  (void)ctx;
  if (s->e)
    fifo_cons_consume(&s->tx, n);
}

/* Payload [off, off+len) of the tx fifo: small ones are copied behind the header, large ones referred to. */
static int send_payload(struct session *s, struct txf *t, const struct tcp_seg_out *out) {
  if (out->len == 0)
    return 0;
  if (out->len <= WORKER_TX_INLINE) {
    int64_t got = fifo_cons_peek(&s->tx, out->off, t->data + t->len, out->len);
    t->len += out->len;
    return got == (int64_t)out->len ? 0 : -EPROTO;
  }
  struct fifo_piece pc[TXF_FIFO_PIECES];
  uint32_t got = 0;
  int n = fifo_cons_pieces(&s->tx, out->off, out->len, pc, TXF_FIFO_PIECES, &got);
  if (n < 0 || got != out->len)
    return -EPROTO;
  for (int i = 0; i < n; i++) {
    t->fifo[i].region = (uint32_t)s->app->v.seg_a.id;
    t->fifo[i].off = pc[i].off;
    t->fifo[i].len = pc[i].len;
  }
  t->n_fifo = (uint32_t)n;
  t->fifo_len = out->len;
  return 0;
}

static int send_header(const struct ip_addr *local, uint16_t lport, const struct ip_addr *remote, uint16_t rport,
                       struct txf *t, const struct tcp_seg_out *out) {
  struct tcp_hdr h = {.sport = lport,
                      .dport = rport,
                      .seq = out->seq,
                      .ack = out->ack,
                      .flags = out->flags,
                      .wnd = out->wnd,
                      .urg = out->urg,
                      .opts = out->opts};
  int hlen = tcp_hdr_build(t->data, TCP_HLEN_MAX, &h);
  if (hlen < 0)
    return -EINVAL;
  t->len = (uint32_t)hlen;
  cksum_t pseudo = cksum_pseudo(local, remote, 6, (uint32_t)hlen + out->len);
  cksum_store(t->data + TCP_OFF_CKSUM, cksum_reduce(pseudo));
  t->csum_start = 0;
  t->csum_off = TCP_OFF_CKSUM;
  t->flags = ABI_FR_CSUM_PART;
  if (out->gso_size && out->len > out->gso_size) {
    t->flags |= ip_addr_is4(remote) ? ABI_FR_GSO_TCP4 : ABI_FR_GSO_TCP6;
    t->gso_size = out->gso_size;
  }
  return 0;
}

/* Bytes up to `to` have left, perhaps not for the first time. A writer that waits for them alone is woken (below half
 * of TCP_NOTSENT_LOWAT, as on Linux). */
static void send_note(struct session *s, const struct tcp_conn *c, uint32_t to) {
  if ((int32_t)(to - s->e->tx_sent) <= 0)
    return;
  __atomic_store_n(&s->e->tx_sent, to, __ATOMIC_RELAXED);
  uint32_t lowat = c->d->opt.notsent_lowat;
  if (HS_LIKELY(lowat == 0) || !s->believed)
    return;
  shm_fence(); /* the app: armed, then this word once more */
  int64_t unsent = fifo_cons_used(&s->tx) - (int64_t)(to - s->e->tx_head);
  if (2 * unsent < (int64_t)lowat && __atomic_load_n(&s->a->tx_armed, __ATOMIC_ACQUIRE))
    app_hint(s->app, s->slot);
}

static int op_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out) {
  struct worker *w = ctx;
  struct session *s = conn_session(c);
  struct txf t;
  int rc = frame_io_get(w, &t);
  if (rc)
    return rc;
  rc = send_header(&s->local, s->lport, &s->remote, s->rport, &t, out);
  if (rc == 0)
    rc = send_payload(s, &t, out);
  if (rc) {
    frame_io_drop(w, &t);
    if (rc == -EPROTO)
      app_suspect(s->app, "tx fifo: impossible chunk");
    return 0; /* the session is aborted at the end of the turn */
  }
  if (s->e && out->len)
    send_note(s, c, s->e->tx_head + out->off + out->len);
  rc = ip_output(worker_ip(w, s->vrf), &t, &s->local, &s->remote, 6, out->tos, c->d->opt.ttl, &s->path, w->now);
  return rc == -EAGAIN ? 0 : rc; /* neighbour being asked: retransmission follows */
}

/* --- events --- */

static void op_event(void *ctx, struct tcp_conn *c, enum tcp_event ev) {
  struct worker *w = ctx;
  struct session *s = conn_session(c);
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
  struct session *s = conn_session(c);
  if (when == UINT64_MAX)
    timer_cancel(&w->wheel, &s->timer);
  else
    timer_set(&w->wheel, &s->timer, when);
}

static uint32_t op_path_mtu(void *ctx, struct tcp_conn *c, uint32_t found) {
  struct worker *w = ctx;
  const struct session *s = conn_session(c);
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
  struct session *s = conn_session(c);
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
                                              .send = op_send,
                                              .event = op_event,
                                              .offer = op_offer,
                                              .timer = op_timer,
                                              .path_mtu = op_path_mtu,
                                              .gso_max = op_gso_max};

/* --- after each call into the core --- */

/* TIME_WAIT needs no fifo: once the app has closed, a small record takes the place of it all; without a table of those,
 * or while the last ACK waits for a frame, the TCB lives on without a session record. */
static void tcp_settle(struct worker *w, struct session *s) {
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

/* A new connection takes over a TIME_WAIT. */
static void port_over(struct worker *w, uint32_t tw, seq32_t *floor) {
  *floor = tcp_tw_isn_floor(&w->timewait.tw[tw]);
  timewait_end(w, tw);
  worker_count(w, EC_TW_REUSED, 1);
}

static uint32_t port_gcd(uint32_t a, uint32_t b) {
  while (b) {
    uint32_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

/* RFC 6056 3.3.4, double hash, on a shuffled range: each destination walks all ports in an order of its own (start and
 * stride are keyed hashes) and goes on where it stopped, so that a run of ports in use costs nobody a long search. A
 * port whose connection is in TIME_WAIT is taken only if there is no other, and by the rule of tcp_tw_may_connect.
 * *floor: as tcp_tw_isn_floor. */
static int port_choose(struct worker *w, struct session *s, seq32_t *floor) {
  uint32_t lo = w->cfg->port_lo, n = w->cfg->port_hi - lo + 1, waiting = TIMEWAIT_NONE;
  uint32_t start = flow_hash(w, s->vrf, &s->local, 0, &s->remote, s->rport);
  uint32_t other = flow_hash(w, s->vrf, &s->local, 1, &s->remote, s->rport), stride = n > 1 ? 1 + other % (n - 1) : 1;
  uint16_t *moves = &w->port_moves[(other >> 16) % WORKER_PORT_MOVES];
  while (port_gcd(stride, n) != 1)
    stride++;
  for (uint32_t i = 0; i < n; i++) {
    uint16_t port = (uint16_t)(lo + (start + (uint64_t)(*moves + i) * stride) % n);
    if (flow_worker(&s->local, port, &s->remote, s->rport, w->group->n) != w->index)
      continue; /* its answers would come to another worker */
    if (flow_find(w, s->vrf, transport_tcp.proto, &s->local, port, &s->remote, s->rport) ||
        listen_has_port(w, s->vrf, transport_tcp.proto, port))
      continue;
    uint32_t tw = timewait_find(w, s->vrf, &s->local, port, &s->remote, s->rport);
    if (tw != TIMEWAIT_NONE) {
      if (waiting == TIMEWAIT_NONE && tcp_tw_may_connect(&w->tcp, &w->timewait.tw[tw], w->now))
        waiting = tw;
      continue;
    }
    s->lport = port;
    *moves = (uint16_t)(*moves + i + 1);
    return 0;
  }
  if (waiting == TIMEWAIT_NONE)
    return -EADDRNOTAVAIL;
  s->lport = w->timewait.tw[waiting].lport;
  port_over(w, waiting, floor);
  return 0;
}

/* A port that the app has bound: free, or in a TIME_WAIT that may be taken over. */
static int port_given(struct worker *w, struct session *s, seq32_t *floor) {
  uint32_t tw = timewait_find(w, s->vrf, &s->local, s->lport, &s->remote, s->rport);
  if (flow_find(w, s->vrf, transport_tcp.proto, &s->local, s->lport, &s->remote, s->rport))
    return -EADDRNOTAVAIL; /* as Linux */
  if (tw == TIMEWAIT_NONE)
    return 0;
  if (!tcp_tw_may_connect(&w->tcp, &w->timewait.tw[tw], w->now))
    return -EADDRNOTAVAIL;
  port_over(w, tw, floor);
  return 0;
}

static struct abi_endpoint endpoint_of(const struct ip_addr *a, uint16_t port) {
  struct abi_endpoint ep = {.port = be16_from(port), .family = ip_addr_is4(a) ? 4 : 6};
  memcpy(ep.ip, a->b, sizeof ep.ip);
  return ep;
}

static int connect_endpoints(struct worker *w, struct session *s, seq32_t *floor) {
  if (ip_addr_is_any(&s->remote) || ip_addr_is_multicast(&s->remote) || ip_addr_is_broadcast(&s->remote))
    return -ENETUNREACH;
  struct ip_addr source;
  int rc = gate_source(w, s->app, &s->remote, IP_BY_ROUTE, &source);
  if (rc)
    return rc;
  if (ip_addr_is_any(&s->local))
    s->local = source;
  else if (ip_addr_is4(&s->local) != ip_addr_is4(&s->remote))
    return -EINVAL;
  else if (!ip_is_local(worker_ip(w, s->vrf), &s->local) || !gate_may_use(w, s->app->sh->ns, &s->local))
    return -EADDRNOTAVAIL;
  if (s->lport == 0)
    return port_choose(w, s, floor);
  return port_given(w, s, floor);
}

/* Order: record words → state CONNECTING (release) → TCB, which names the record, by tcp_connect → SYN. A crash between
 * leaves a CONNECTING record without TCB: no SYN has left, adoption sets it back and the request is served anew. */
static int tcp_transport_connect(struct worker *w, struct session *s, usec_t now) {
  seq32_t floor = 0;
  int rc = connect_endpoints(w, s, &floor);
  if (rc)
    return rc;
  int mtu = ip_path_mtu(worker_ip(w, s->vrf), &s->remote, w->now);
  if (mtu < 0)
    return mtu;
  struct abi_tcb *d = tcb_get(&w->tcbs, &s->tcb);
  if (!d)
    return -ENOBUFS;
  rc = flow_add(w, s);
  if (rc) {
    tcb_put(&w->tcbs, s->tcb);
    return rc;
  }
  d->local = s->e->local = endpoint_of(&s->local, s->lport);
  d->remote = s->e->remote = endpoint_of(&s->remote, s->rport);
  d->vrf = s->vrf;
  d->worker_id = s->app->id;
  d->slot = s->slot;
  d->slot_gen = s->gen;
  s->e->tcb = s->tcb;
  __atomic_store_n(&s->e->gen, s->gen, __ATOMIC_RELEASE);
  __atomic_store_n(&s->e->tx_limit, w->tcp.cfg.snd_buf, __ATOMIC_RELAXED);
  FAULT_POINT("session.connect.record");
  session_set_state(s, ABI_SESS_CONNECTING);
  FAULT_POINT("session.connect.tcb");
  struct abi_options opt = s->a->opt; /* behind opt_gen: options that change meanwhile are looked at again */
  if (s->opt_gen)
    d->opt = opt; /* before the SYN: MSS and TOS are the SYN's too */
  d->iss = floor;
  (void)tcp_connect(&w->tcp, tcp_of(s), d, (uint32_t)mtu, now); /* a SYN that could not leave is retransmitted */
  session_dirty(w, s);                                          /* … as soon as there is a frame */
  if (s->opt_gen && s->ops)
    tcp_options(&w->tcp, tcp_of(s), &opt, now);
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
  tcp_settle(w, s);
  return starved;
}

static void tcp_transport_consumed(struct worker *w, struct session *s, usec_t now) {
  tcp_rx_consumed(&w->tcp, tcp_of(s), now);
  if (!s->dead && s->ops && tcp_of(s)->b == NULL) /* at rest: no figures are due that would see to it */
    tcp_trim(s);
}

static void tcp_transport_shutdown(struct worker *w, struct session *s, usec_t now) {
  tcp_shutdown(&w->tcp, tcp_of(s), now);
  tcp_settle(w, s);
}

static void tcp_transport_close(struct worker *w, struct session *s, usec_t now) {
  tcp_close(&w->tcp, tcp_of(s), session_close_unread(s), now);
  tcp_settle(w, s);
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
  tcp_settle(w, s);
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
  return session_tcb(w, s)->state != ABI_TCP_TIME_WAIT;
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

/* --- input --- */

static int cksum_is_good(const struct pkt *p) {
  if (p->flags & (ABI_FR_CSUM_OK | ABI_FR_CSUM_PART))
    return 1;
  cksum_t sum = cksum_pseudo(&p->ip.src, &p->ip.dst, 6, p->l4_len);
  uint32_t skip = p->l4_off, left = p->l4_len;
  int odd = 0;
  for (uint32_t i = 0; i < p->n_pieces && left; i++) {
    uint32_t len = p->piece[i].len;
    if (skip >= len) {
      skip -= len;
      continue;
    }
    uint32_t n = len - skip < left ? len - skip : left;
    sum = cksum_combine(sum, cksum_add(0, p->piece[i].p + skip, n), odd);
    odd ^= (int)(n & 1);
    left -= n;
    skip = 0;
  }
  return cksum_fold(sum) == 0;
}

/* Header at l4_off must lie in the first piece (nicio delivers at least 256 bytes there). */
static int seg_parse(const struct pkt *p, struct tcp_seg_in *seg, struct tcp_piece *pieces) {
  if (p->l4_off >= p->piece[0].len)
    return -EINVAL;
  uint32_t in_first = p->piece[0].len - p->l4_off;
  int hlen = tcp_hdr_parse(p->piece[0].p + p->l4_off, in_first < p->l4_len ? in_first : p->l4_len, &seg->hdr);
  if (hlen < 0)
    return -EINVAL;
  uint32_t skip = p->l4_off + (uint32_t)hlen, left = p->l4_len - (uint32_t)hlen;
  seg->len = left;
  seg->n_pieces = 0;
  seg->pieces = pieces;
  for (uint32_t i = 0; i < p->n_pieces && left; i++) {
    if (skip >= p->piece[i].len) {
      skip -= p->piece[i].len;
      continue;
    }
    uint32_t n = p->piece[i].len - skip < left ? p->piece[i].len - skip : left;
    pieces[seg->n_pieces++] = (struct tcp_piece){.p = p->piece[i].p + skip, .len = n};
    left -= n;
    skip = 0;
  }
  seg->segs = p->gso_size ? (seg->len + p->gso_size - 1u) / p->gso_size : 1;
  seg->ce = (p->ip.tos & 3u) == 3u;
  return 0;
}

void transport_tcp_reply(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg,
                         const struct tcp_seg_out *out) {
  struct txf t;
  if (frame_io_get(w, &t))
    return;
  if (send_header(&p->ip.dst, seg->hdr.dport, &p->ip.src, seg->hdr.sport, &t, out)) {
    frame_io_drop(w, &t);
    return;
  }
  (void)ip_output(worker_ip(w, p->vrf), &t, &p->ip.dst, &p->ip.src, 6, out->tos, 0, NULL, w->now);
}

/* RFC 9293 3.10.7.1: a segment for no connection. */
static void reply_closed(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg) {
  struct tcp_seg_out out;
  memset(&out, 0, sizeof out);
  if (!tcp_reply_closed(seg, &out))
    return;
  worker_count(w, EC_RX_NO_LISTENER, 1);
  transport_tcp_reply(w, p, seg, &out);
}

static void input_session(struct worker *w, struct session *s, const struct tcp_seg_in *seg, usec_t now) {
  if (HS_UNLIKELY(s->fast))
    fast_input(w, s, seg, now);
  else
    tcp_input(&w->tcp, tcp_of(s), seg, now);
  if (s->dead || !s->ops)
    return;
  ip_confirm(worker_ip(w, s->vrf), &s->path, now);
  session_dirty(w, s);
  tcp_settle(w, s);
}

static int tcp_transport_input(struct worker *w, struct pkt *p, usec_t now) {
  struct tcp_seg_in seg;
  struct tcp_piece pieces[PKT_PIECES_MAX];
  if (seg_parse(p, &seg, pieces)) {
    worker_count(w, EC_RX_BAD_TCP, 1);
    return 0;
  }
  if (!cksum_is_good(p)) {
    worker_count(w, EC_RX_BAD_L4_CKSUM, 1);
    return 0;
  }
  seq32_t isn_floor = 0;
  struct session *s = flow_find(w, p->vrf, transport_tcp.proto, &p->ip.dst, seg.hdr.dport, &p->ip.src, seg.hdr.sport);
  if (s && tcp_time_wait_reuse(tcp_of(s), &seg)) { /* RFC 6191, RFC 1122 4.2.2.13 */
    isn_floor = tcp_of(s)->d->snd_max + 65538u;
    tcp_abort(&w->tcp, tcp_of(s), 0, now); /* no RST in TIME_WAIT */
    worker_count(w, EC_TW_REUSED, 1);
    s = NULL;
  }
  if (s) {
    input_session(w, s, &seg, now);
    return 0;
  }
  uint32_t to = flow_worker(&p->ip.dst, seg.hdr.dport, &p->ip.src, seg.hdr.sport, w->group->n);
  if (HS_UNLIKELY(to != w->index)) { /* it was in fragments, or behind headers that nicio does not follow */
    pass_packet(w, p, to);
    return 0;
  }
  if (timewait_input(w, p, &seg, &isn_floor, now))
    return 0;
  if ((seg.hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
    if (syn_input(w, p, &seg, isn_floor, now))
      reply_closed(w, p, &seg);
    return 0;
  }
  if (!(seg.hdr.flags & (TCP_ACK | TCP_RST)) &&
      listen_find(w, p->vrf, transport_tcp.proto, &p->ip.dst, seg.hdr.dport, 0))
    return 0; /* RFC 9293 3.10.7.2 fourth: LISTEN drops what has neither SYN nor ACK */
  int drop;
  s = syn_cookie_ack(w, p, &seg, &drop, now);
  if (s)
    input_session(w, s, &seg, now);
  else if (!drop)
    reply_closed(w, p, &seg);
  return 0;
}

const struct transport_ops transport_tcp = {.name = "tcp",
                                            .proto = 0,
                                            .ip_proto = 6,
                                            .priv_size = sizeof(struct tcp_conn),
                                            .init = tcp_transport_init,
                                            .connect = tcp_transport_connect,
                                            .early = tcp_transport_early,
                                            .input = tcp_transport_input,
                                            .output = tcp_transport_output,
                                            .consumed = tcp_transport_consumed,
                                            .shutdown = tcp_transport_shutdown,
                                            .close = tcp_transport_close,
                                            .abort = tcp_transport_abort,
                                            .options = tcp_transport_options,
                                            .path_back = tcp_transport_path_back,
                                            .lingers = tcp_transport_lingers,
                                            .accepted = tcp_transport_accepted,
                                            .accept_ready = tcp_transport_accept_ready,
                                            .timer = tcp_transport_timer,
                                            .icmp = tcp_transport_icmp,
                                            .adopt = tcp_transport_adopt};
