/*
 * TCP Fast Open, RFC 7413. Server: the cookie is a keyed hash of the client's address (4.1.2), the key is configured or
 * made of the durable secret, so that cookies outlive the engine. Client: cookies in a small table of the env (4.1.3);
 * a SYN that had to be repeated goes without data and without the option, and so do that server's next ones for an hour
 * (4.1.3.1: something on the way throws such SYNs away).
 *
 * Called by tcp_open.c, tcp_output.c and session/syn.c, worker's thread.
 */
#include "tcp_tfo.h"

#include "tcp_int.h"

#include "base/hash.h"

#define COOKIE_LEN 8u
#define BAD_US     (3600ull * 1000000)

/* An address proves itself in its VRF alone. In VRF 0 the hash is what other hosts with the same key make, too.
 * `elder`: made with the second key. */
static void tfo_cookie(const struct tcp_env *e, const struct abi_tcb *d, int elder, uint8_t out[COOKIE_LEN]) {
  const uint8_t *key = e->tfo_key != NULL ? e->tfo_key : e->cfg.fastopen_keys ? e->cfg.fastopen_key : e->secret;
  if (elder)
    key += 16;
  uint8_t b[16 + 1 + 4];
  memcpy(b, d->remote.ip, 16);
  b[16] = 'F'; /* the secret makes other things too */
  memcpy(b + 17, &d->vrf, 4);
  uint64_t v = hash_siphash24(key, b, d->vrf ? 21 : 17);
  memcpy(out, &v, COOKIE_LEN);
}

/* RFC 7413 4.1.2: while a key is being changed the one before it counts, too. */
static int tfo_has_elder(const struct tcp_env *e) {
  return (e->tfo_key != NULL ? e->tfo_keys : e->cfg.fastopen_keys) == 2;
}

static int tfo_good(const struct tcp_env *e, const struct abi_tcb *d, int elder, const struct tcp_opts *o) {
  uint8_t good[COOKIE_LEN], differ = 0;
  tfo_cookie(e, d, elder, good);
  for (uint32_t i = 0; i < COOKIE_LEN; i++)
    differ |= good[i] ^ o->tfo[i];
  return differ == 0;
}

unsigned tcp_tfo_check(struct tcp_env *e, const struct abi_tcb *d, const struct tcp_seg_in *seg) {
  const struct tcp_opts *o = &seg->hdr.opts;
  if (!(e->cfg.fastopen & TCP_TFO_SERVER) || !(o->present & TCP_OPT_HAS_TFO))
    return 0;
  if (o->tfo_len == 0)
    return TCP_TFO_COOKIE;
  if (o->tfo_len == COOKIE_LEN && tfo_good(e, d, 0, o))
    return TCP_TFO_DATA;
  if (o->tfo_len == COOKIE_LEN && tfo_has_elder(e) && tfo_good(e, d, 1, o))
    return TCP_TFO_DATA | TCP_TFO_COOKIE; /* as Linux: still good, and a new one */
  TCP_COUNT(e, fastopen_bad);
  return TCP_TFO_COOKIE;
}

/** The SYN-ACK of a passive open gives a cookie; one that is sent again only if the key is not the listener's own,
 * which is not at hand then (Linux repeats none at all). */
void tcp_tfo_syn_ack(const struct tcp_env *e, const struct tcp_conn *c, struct tcp_opts *o) {
  if (!(c->tfo & TCP_TFO_COOKIE) || ((c->tfo & TCP_TFO_OWN) && e->tfo_key == NULL))
    return;
  o->present |= TCP_OPT_HAS_TFO;
  o->tfo_len = COOKIE_LEN;
  tfo_cookie(e, c->d, 0, o->tfo);
}

static struct tcp_tfo_entry *tfo_slot(const struct tcp_env *e, const uint8_t *remote, uint32_t vrf) {
  return &e->tfo->e[(hash_siphash24(e->secret, remote, 16) + vrf) % TCP_TFO_SLOTS];
}

static struct tcp_tfo_entry *tfo_find(const struct tcp_env *e, const uint8_t *remote, uint32_t vrf) {
  struct tcp_tfo_entry *t = tfo_slot(e, remote, vrf);
  return t->vrf == vrf && memcmp(t->remote, remote, 16) == 0 ? t : NULL;
}

/* The slot of the TCB's peer, begun anew. */
static struct tcp_tfo_entry *tfo_begin(const struct tcp_env *e, const struct abi_tcb *d) {
  struct tcp_tfo_entry *t = tfo_slot(e, d->remote.ip, d->vrf);
  memset(t, 0, sizeof *t);
  memcpy(t->remote, d->remote.ip, 16);
  t->vrf = d->vrf;
  return t;
}

/* What a SYN may carry, RFC 7413 4.1.3.1; nothing known: RFC 9293 3.7.1. */
static uint32_t tfo_mss(const struct tcp_tfo_entry *t) {
  return t != NULL && t->mss != 0 ? t->mss : 536;
}

static int tfo_room(const struct tcp_env *e, const struct abi_endpoint *remote, uint32_t vrf, uint32_t mtu, int bare,
                    usec_t now) {
  if (!(e->cfg.fastopen & TCP_TFO_CLIENT) || e->tfo == NULL)
    return -EOPNOTSUPP;
  const struct tcp_tfo_entry *t = tfo_find(e, remote->ip, vrf);
  if (t != NULL ? t->bad_until > now || (t->len == 0 && !bare) : !bare)
    return 0;
  struct tcp_opts o = {.present = TCP_OPT_HAS_MSS};
  if (!bare) {
    o.present |= TCP_OPT_HAS_TFO;
    o.tfo_len = t->len;
  }
  o.present |= (e->cfg.sack ? TCP_OPT_HAS_SACK_OK : 0u) | (e->cfg.timestamps ? TCP_OPT_HAS_TS : 0u) |
               (e->cfg.wscale ? TCP_OPT_HAS_WSCALE : 0u);
  int head = tcp_hdr_size(&o);
  uint32_t ip = remote->family == 6 ? 40 : 20, most = mtu > ip + TCP_HLEN ? mtu - ip - TCP_HLEN : 0;
  uint32_t room = HS_MIN(tfo_mss(t), most), used = head < 0 ? room : (uint32_t)head - TCP_HLEN;
  return room > used ? (int)(room - used) : 0;
}

int tcp_tfo_room(const struct tcp_env *e, const struct abi_endpoint *remote, uint32_t vrf, uint32_t mtu, usec_t now) {
  return tfo_room(e, remote, vrf, mtu, 0, now);
}

int tcp_tfo_room_bare(const struct tcp_env *e, const struct abi_endpoint *remote, uint32_t vrf, uint32_t mtu,
                      usec_t now) {
  return tfo_room(e, remote, vrf, mtu, 1, now);
}

/** Our SYN: the option, and payload if a cookie is known. `again`: it was sent before; bare then. */
void tcp_tfo_syn(struct tcp_env *e, struct tcp_conn *c, struct tcp_seg_out *out, int again, usec_t now) {
  struct abi_tcb *d = c->d;
  if (!(d->nego & ABI_TCB_TFO) || e->tfo == NULL)
    return;
  struct tcp_tfo_entry *t = tfo_find(e, d->remote.ip, d->vrf);
  if (again) {
    if (t == NULL)
      t = tfo_begin(e, d);
    if (t->bad_until < now)
      TCP_COUNT(e, fastopen_fallback);
    t->bad_until = now + BAD_US;
    return;
  }
  if (t != NULL && t->bad_until > now)
    return;
  if (!(d->opt.flags & ABI_OPT_TFO_BARE)) {
    out->opts.present |= TCP_OPT_HAS_TFO;
    out->opts.tfo_len = 0; /* please give me one */
    if (t == NULL || t->len == 0)
      return;
    memcpy(out->opts.tfo, t->cookie, t->len);
    out->opts.tfo_len = t->len;
  }
  int head = tcp_hdr_size(&out->opts);
  uint32_t room = HS_MIN(tfo_mss(t), (uint32_t)d->rcv_mss);
  if (head < 0 || room <= (uint32_t)head - TCP_HLEN) { /* they do not fit beside the other options */
    out->opts.present &= ~(uint32_t)TCP_OPT_HAS_TFO;
    return;
  }
  out->len = HS_MIN(e->ops->tx_used(e->ctx, c), room - ((uint32_t)head - TCP_HLEN));
  if (out->len > 0)
    TCP_COUNT(e, fastopen_out);
}

/** A SYN-ACK for a SYN of ours: the cookie it brings, and the MSS, RFC 7413 4.1.3. */
void tcp_tfo_learn(struct tcp_env *e, const struct tcp_conn *c, const struct tcp_seg_in *seg) {
  const struct tcp_opts *o = &seg->hdr.opts;
  const struct abi_tcb *d = c->d;
  if (!(d->nego & ABI_TCB_TFO) || e->tfo == NULL)
    return;
  struct tcp_tfo_entry *t = tfo_find(e, d->remote.ip, d->vrf);
  if ((o->present & TCP_OPT_HAS_TFO) && o->tfo_len >= TCP_TFO_MIN && o->tfo_len <= TCP_TFO_MAX) {
    if (t == NULL)
      t = tfo_begin(e, d);
    memcpy(t->cookie, o->tfo, o->tfo_len);
    t->len = o->tfo_len;
  }
  if (t != NULL)
    t->mss = o->present & TCP_OPT_HAS_MSS ? o->mss : 536;
}

/** A server may answer before the handshake is complete (RFC 7413 4.2.2), if its app was given the connection: only
 * then does snd_una count the fifo's bytes. */
int tcp_tfo_may_send(const struct tcp_env *e, struct tcp_conn *c) {
  return (c->d->nego & (ABI_TCB_TFO | ABI_TCB_PASSIVE)) == (ABI_TCB_TFO | ABI_TCB_PASSIVE) &&
         tcp_state(c) == ABI_TCP_SYN_RECEIVED && c->snd_una != c->d->iss && c->snd_nxt != c->d->iss &&
         c->d->snd_wnd > 0 && e->ops->tx_used(e->ctx, c) > 0;
}

/** Passive open with a good cookie: offer the connection and take the SYN's data. Stores: see ops->offer, then rx
 * tail. Prefix: SYN_RECEIVED, offered, without data: the SYN-ACK acknowledges the SYN alone. */
void tcp_tfo_accept(struct tcp_env *e, struct tcp_conn *c, const struct tcp_seg_in *seg) {
  struct abi_tcb *d = c->d;
  if (seg->len == 0 || e->ops->offer(e->ctx, c) != 1)
    return;
  c->snd_una = d->iss + 1; /* what counts from here on are the fifo's bytes; the SYN-ACK's timer looks after itself */
  if (d->accept < ABI_ACCEPT_OFFERED)
    __atomic_store_n(&d->accept, (uint8_t)ABI_ACCEPT_OFFERED, __ATOMIC_RELEASE);
  FAULT_POINT("tcp.tfo.offered");
  uint32_t room = tcp_wnd_current(c), len = HS_MIN(seg->len, room);
  uint32_t placed = len > 0 ? e->ops->rx_place(e->ctx, c, 0, seg, 0, len) : 0;
  if (placed > 0) {
    FAULT_POINT("tcp.tfo.placed");
    e->ops->rx_publish(e->ctx, c, placed);
    FAULT_POINT("tcp.tfo.published");
    c->rcv_nxt += placed;
    c->tfo |= TCP_TFO_TAKEN;
    e->ops->event(e->ctx, c, TCP_EV_READABLE);
  }
  TCP_COUNT(e, fastopen_in);
}
