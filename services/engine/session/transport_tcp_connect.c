/*
 * TCP's active open: source address, port (RFC 6056), what may take over a TIME_WAIT, and the order of the stores that
 * make the connection's records.
 *
 * Worker thread. Called by session.c for a connect of an app.
 */
#include "transport_tcp.h"

#include "base/fault.h"
#include "gate.h"
#include "tcp/tcp_tw.h"
#include "wire/flow.h"

#include <errno.h>

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
int transport_tcp_connect(struct worker *w, struct session *s, usec_t now) {
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
