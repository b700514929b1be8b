/*
 * SYNs for listeners, see syn.h. RFC 9293 3.10.7.2, RFC 4987.
 */
#include "syn.h"

#include "gate.h"
#include "worker.h"

#include "tcp/tcp_cookie.h"
#include "transport_tcp.h"

#include <errno.h>

#define SYN_BURST_US 1000000ull /* a source may send a second's worth at once */

/* 1 = within the rate. One word per bucket: generic cell rate algorithm. */
static int syn_rate_ok(struct worker *w, uint32_t vrf, const struct ip_addr *src, usec_t now) {
  uint32_t rate = w->tcp.cfg.syn_rate;
  if (rate == 0)
    return 1;
  struct ip_addr net = *src, none = {{0}};
  if (!ip_addr_is4(src))
    memset(net.b + 8, 0, 8); /* a /64 is one subscriber */
  usec_t *next = &w->syn_gate.next[flow_hash(w, vrf, &none, 0, &net, 0) % SYN_SOURCES];
  usec_t at = *next > now ? *next : now;
  if (at - now > SYN_BURST_US) {
    worker_count(w, EC_SYN_RATE, 1);
    return 0;
  }
  *next = at + 1000000ull * w->group->n / rate; /* its SYNs come to all workers alike */
  return 1;
}

static struct abi_endpoint syn_endpoint(const struct ip_addr *a, uint16_t port) {
  struct abi_endpoint ep = {.port = be16_from(port), .family = ip_addr_is4(a) ? 4 : 6};
  memcpy(ep.ip, a->b, sizeof ep.ip);
  return ep;
}

static void syn_endpoints(const struct pkt *p, const struct tcp_seg_in *seg, struct abi_tcb *d) {
  d->local = syn_endpoint(&p->ip.dst, seg->hdr.dport);
  d->remote = syn_endpoint(&p->ip.src, seg->hdr.sport);
  d->vrf = p->vrf;
}

/* The answer that remembers nothing. */
static int syn_cookie_send(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, usec_t now) {
  struct abi_tcb scratch;
  struct tcp_seg_out out;
  int mtu = ip_path_mtu(worker_ip(w, p->vrf), &p->ip.src, w->now);
  if (mtu < 0 || tcb_cookie_key(&w->tcbs, now))
    return 0;
  memset(&scratch, 0, sizeof scratch);
  syn_endpoints(p, seg, &scratch);
  if (tcp_cookie_syn(&w->tcp, &scratch, seg, (uint32_t)mtu, w->cfg->rx_fifo_max, &out, now))
    return -ENOENT;
  struct abi_cookie *keys = &w->tcbs.block->cookie;
  if (now - keys->sent_at > 1000000u)
    __atomic_store_n(&keys->sent_at, now, __ATOMIC_RELAXED);
  transport_tcp_reply(w, p, seg, &out);
  return 0;
}

/* A connect of an app of ours that an egress rule led here: its slot says where it was meant to go. Both ends are of
 * one flow, so of one worker. */
static void syn_meant(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, struct abi_tcb *d) {
  if (!ip_is_local(worker_ip(w, p->vrf), &p->ip.src))
    return;
  const struct session *c =
      flow_find(w, p->vrf, transport_tcp.proto, &p->ip.src, seg->hdr.sport, &p->ip.dst, seg->hdr.dport);
  const struct abi_endpoint *meant =
      c && c->e && (c->e->flags & ABI_SE_REDIRECTED) ? worker_view_meant(&c->app->v, c->slot) : NULL;
  if (meant)
    d->meant = *meant;
}

/* A session that waits at `l`, its TCB not yet in use. NULL: no room. */
static struct session *syn_session(struct worker *w, struct listener *l, const struct pkt *p,
                                   const struct tcp_seg_in *seg) {
  struct session *s = session_new(w);
  struct abi_tcb *d = s ? tcb_get(&w->tcbs, &s->tcb) : NULL;
  if (!d)
    goto no_room;
  s->proto = transport_tcp.proto;
  s->vrf = p->vrf;
  s->local = p->ip.dst;
  s->remote = p->ip.src;
  s->lport = seg->hdr.dport;
  s->rport = seg->hdr.sport;
  syn_endpoints(p, seg, d);
  syn_meant(w, p, seg, d);
  offer_half_open(w, s, 1);
  offer_wait(w, s, l);
  if (flow_add(w, s))
    goto no_room;
  if (session_transport(w, s, &transport_tcp))
    goto no_room;
  return s;
no_room:
  worker_count(w, EC_SYN_NO_TCB, 1);
  if (d) {
    tcb_put(&w->tcbs, s->tcb);
    s->tcb = ABI_SEG_NONE;
  }
  if (s)
    session_free(w, s);
  return NULL;
}

/* It came to nothing. */
static void syn_undo(struct worker *w, struct session *s) {
  tcb_put(&w->tcbs, s->tcb);
  s->tcb = ABI_SEG_NONE;
  session_free(w, s);
}

/* A listener's half in its app's segment, or NULL if it is not this listener's any more. */
static const struct abi_sess_app *syn_half(struct worker *w, const struct listener *l) {
  struct app_worker *a = worker_app(w, l->entry.worker_id);
  const struct abi_sess_app *half = a && a->life == APP_LIVE ? worker_view_app(&a->v, l->entry.slot) : NULL;
  if (!half || __atomic_load_n(&half->gen, __ATOMIC_ACQUIRE) != l->entry.slot_gen)
    return NULL;
  return half;
}

/* TCP_FASTOPEN_KEY of a listener, copied once, for the SYN at hand. The app may be writing it: then this SYN's cookie
 * is good for nothing, as with a key that is just being changed. Returns opt.flags. */
static uint32_t syn_fast_key(struct worker *w, const struct abi_sess_app *half, uint8_t key[32]) {
  uint32_t flags = __atomic_load_n(&half->opt.flags, __ATOMIC_RELAXED);
  if (flags & ABI_OPT_TFO_KEY) {
    memcpy(key, half->fastopen_key, sizeof half->fastopen_key);
    w->tcp.tfo_key = key;
    w->tcp.tfo_keys = flags & ABI_OPT_TFO_ALT ? 2 : 1;
  }
  return flags;
}

/* TCP_DEFER_ACCEPT. */
static uint8_t syn_defer(struct worker *w, const struct listener *l) {
  const struct abi_sess_app *half = syn_half(w, l);
  return half ? __atomic_load_n(&half->opt.defer, __ATOMIC_RELAXED) : 0;
}

/* What Fast Open makes of a SYN: TCP_TFO_* bits. Beyond the limit it is a SYN like others (RFC 7413 5.1). */
static unsigned syn_fast(struct worker *w, struct listener *l, uint32_t hash, const struct abi_tcb *d,
                         const struct tcp_seg_in *seg, uint8_t key[32]) {
  if (!(seg->hdr.opts.present & TCP_OPT_HAS_TFO) && seg->len == 0)
    return 0;
  const struct abi_sess_app *half = l - w->listeners.l < UINT16_MAX ? syn_half(w, l) : NULL; /* session.fast names it */
  uint32_t limit = half ? __atomic_load_n(&half->opt.fastopen, __ATOMIC_RELAXED) : 0;
  if (limit == 0)
    return 0;
  uint32_t flags = syn_fast_key(w, half, key);
  unsigned tfo = tcp_tfo_check(&w->tcp, d, seg);
  if ((flags & ABI_OPT_TFO_BARE) && (w->tcp.cfg.fastopen & TCP_TFO_SERVER) && seg->len > 0)
    tfo = TCP_TFO_DATA; /* as Linux: whatever cookie it shows, or none */
  if ((tfo & TCP_TFO_COOKIE) && w->tcp.tfo_key)
    tfo |= TCP_TFO_OWN;
  if (!(tfo & TCP_TFO_DATA))
    return tfo;
  struct listener *to = listen_share(w, l, hash);
  struct app_worker *a = to ? worker_app(w, to->entry.worker_id) : NULL;
  int room = a && a->life == APP_LIVE && __atomic_load_n(l->n_fast, __ATOMIC_RELAXED) < limit && seg->len > 0;
  return room ? tfo : 0;
}

int syn_input(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, seq32_t isn_floor, usec_t now) {
  uint32_t hash = flow_hash(w, p->vrf, &p->ip.dst, seg->hdr.dport, &p->ip.src, seg->hdr.sport);
  struct listener *l;
  const struct tcp_config *cfg = &w->tcp.cfg;
  if (gate_syn(w, transport_tcp.proto, p->vrf, &p->ip.src, &p->ip.dst, seg->hdr.dport, hash, &l))
    return 0;
  if (!l)
    return -ENOENT;
  if (!syn_rate_ok(w, p->vrf, &p->ip.src, now))
    return 0;
  if (listen_ready(l) > l->entry.backlog) { /* as Linux: backlog + 1 */
    worker_count(w, EC_SYN_ACCEPT_FULL, 1);
    return 0;
  }
  int full = listen_half(l) >= l->entry.backlog || w->n_half_open >= cfg->half_open_max / w->group->n;
  if (full && cfg->syncookies == 0) {
    worker_count(w, EC_SYN_BACKLOG, 1);
    return 0;
  }
  if (full || cfg->syncookies == 2)
    return syn_cookie_send(w, p, seg, now);
  int mtu = ip_path_mtu(worker_ip(w, p->vrf), &p->ip.src, w->now);
  struct session *s = mtu > 0 ? syn_session(w, l, p, seg) : NULL;
  if (!s)
    return 0;
  struct abi_tcb *d = &w->tcbs.tcb[s->tcb];
  d->iss = isn_floor;
  uint8_t key[32];
  unsigned tfo = syn_fast(w, l, hash, d, seg, key);
  int rc = tcp_passive_fast(&w->tcp, tcp_of(s), d, seg, (uint32_t)mtu, tfo, now);
  w->tcp.tfo_key = NULL;
  if (rc) {
    syn_undo(w, s);
    return -ENOENT;
  }
  tcp_of(s)->defer = syn_defer(w, l);
  if (d->nego & ABI_TCB_TFO)
    fast_begin(w, s, l);
  session_dirty(w, s); /* a SYN-ACK that found no frame */
  return 0;
}

/* 1 = a cookie may be under way: one was sent of late, by this engine or its predecessor. */
static int syn_cookie_recent(const struct worker *w, usec_t now) {
  const struct abi_cookie *keys = &w->tcbs.block->cookie;
  return keys->gen != 0 && now - keys->sent_at < TCP_COOKIE_LIFE + 2000000u;
}

struct session *syn_cookie_ack(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg, int *drop,
                               usec_t now) {
  struct abi_tcb key;
  *drop = 0;
  if ((seg->hdr.flags & (TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK || !syn_cookie_recent(w, now))
    return NULL;
  uint32_t hash = flow_hash(w, p->vrf, &p->ip.dst, seg->hdr.dport, &p->ip.src, seg->hdr.sport);
  struct listener *l;
  *drop = gate_syn(w, transport_tcp.proto, p->vrf, &p->ip.src, &p->ip.dst, seg->hdr.dport, hash, &l);
  if (*drop || !l)
    return NULL;
  memset(&key, 0, sizeof key);
  syn_endpoints(p, seg, &key);
  if (!tcp_cookie_valid(&w->tcp, &key, seg, now))
    return NULL;
  /* No room in the accept queue: the ACK is dropped, not the connection. It goes on as a half-open one, whose SYN-ACK
   * is repeated, or its peer would believe itself connected and, with nothing to say, wait for ever. */
  int overflow = listen_ready(l) > l->entry.backlog;
  if (overflow)
    worker_count(w, EC_ACCEPT_OVERFLOW, 1);
  if (overflow && (w->tcp.cfg.abort_on_overflow || listen_half(l) >= l->entry.backlog)) {
    *drop = !w->tcp.cfg.abort_on_overflow;
    return NULL;
  }
  int mtu = ip_path_mtu(worker_ip(w, p->vrf), &p->ip.src, w->now);
  struct session *s = mtu > 0 ? syn_session(w, l, p, seg) : NULL;
  *drop = 1;
  if (s && tcp_cookie_open(&w->tcp, tcp_of(s), &w->tcbs.tcb[s->tcb], seg, (uint32_t)mtu, now)) {
    syn_undo(w, s);
    s = NULL;
  }
  return overflow ? NULL : s;
}
