/*
 * UDP's way out: datagrams from tx fifos to frames (RFC 768, RFC 1122 4.1.3, RFC 8085). Worker thread; hot path.
 *
 * At most once: the bytes are copied, the head moves over them, then the frame is queued. One that fits a frame and the
 * path goes behind its header in one TX slot; a longer one is put together in the worker's scratch, gets its whole
 * checksum and leaves in fragments; one to ourselves that is too long for a slot is received from the scratch at once.
 */
#include "transport_udp.h"

#include "gate.h"

#include "base/bits.h"
#include "base/fault.h"
#include "wire/flow.h"

#include <errno.h>
#include <stdlib.h>

#define UDP_SLOT_MAX   (ABI_SLOT_SIZE - ABI_SLOT_HEAD - TXF_HEADROOM - UDP_HLEN) /* payload behind a header in a slot */
#define UDP_BURST      256u                                                      /* datagrams per look */
#define UDP_WAIT_US    1000u                                                     /* between looks for a neighbour … */
#define UDP_WAITS      3000u                                                     /* … as long as IP asks for it */
#define UDP_SCRATCH    (TXF_HEADROOM + UDP_HLEN + ABI_DGRAM_MAX + 1u)
#define UDP_FRAG_LEAST 552u

/* A send: where from, where to, and how. */
struct udp_send {
  struct abi_dgram d;
  struct ip_addr src, dst;
  uint16_t dport;
  uint32_t mtu;  /* of the path, bytes of IP packet */
  uint32_t most; /* payload that goes whole */
  uint8_t tos, ttl;
};

int udp_scratch_init(struct worker *w) {
  if (!w->udp.scratch)
    w->udp.scratch = malloc(UDP_SCRATCH);
  return w->udp.scratch ? 0 : -ENOMEM;
}

/* RFC 1122 4.1.3.5: the address that the app names, that the socket has, that the peer spoke to, or the route's. */
static int udp_source(struct worker *w, struct session *s, struct udp_send *o) {
  memcpy(&o->src, o->d.local, sizeof o->src);
  if (!ip_addr_is_any(&o->src)) {
    if (!ip_is_local(worker_ip(w, s->vrf), &o->src) || !gate_may_use(w, s->app->sh->ns, &o->src)) {
      UDP_COUNT(&w->udp, tx_not_ours);
      return -EINVAL;
    }
    return 0;
  }
  if (!ip_addr_is_any(&s->local) && !ip_addr_is_multicast(&s->local)) {
    o->src = s->local;
    return 0;
  }
  const struct ip_addr *heard = udp_reply_find(udp_of(s), &o->dst, o->dport);
  if (heard && ip_is_local(worker_ip(w, s->vrf), heard) && gate_may_use(w, s->app->sh->ns, heard)) {
    o->src = *heard;
    return 0;
  }
  return gate_source(w, s->app, &o->dst, o->d.ifindex, &o->src);
}

/* What the datagram's header asks for. 0, or -errno for the app to hear: it is dropped. */
static int udp_aim(struct worker *w, struct session *s, struct udp_send *o) {
  const struct udp_conn *c = udp_of(s);
  o->dst = s->remote;
  o->dport = s->rport;
  if (o->d.family != 0) {
    memcpy(&o->dst, o->d.ip, sizeof o->dst);
    o->dport = be16_get(o->d.port);
  }
  int four = ip_addr_is4(&o->dst);
  if ((o->d.family == 0 && !c->connected) || o->dport == 0 || ip_addr_is_any(&o->dst) ||
      (o->d.family != 0 && (o->d.family == 4) != four)) {
    UDP_COUNT(&w->udp, tx_no_peer);
    return -EDESTADDRREQ;
  }
  int rc = udp_source(w, s, o);
  if (rc || ip_addr_is4(&o->src) != four) {
    UDP_COUNT(&w->udp, tx_no_route);
    return rc ? rc : -ENETUNREACH;
  }
  rc = c->connected && o->d.family == 0 ? 0 : gate_send(w, s, &o->src, &o->dst, o->dport);
  if (rc) {
    UDP_COUNT(&w->udp, tx_gate);
    return rc;
  }
  if (ip_is_broadcast(worker_ip(w, s->vrf), &o->dst) && !(o->d.flags & ABI_DGRAM_BROADCAST)) {
    UDP_COUNT(&w->udp, tx_broadcast);
    return -EACCES;
  }
  int mtu = ip_mtu_from(worker_ip(w, s->vrf), &o->src, &o->dst);
  if (mtu < (int)UDP_FRAG_LEAST) {
    UDP_COUNT(&w->udp, tx_no_route);
    return mtu < 0 ? mtu : -EMSGSIZE;
  }
  uint32_t head = UDP_HLEN + (four ? IP4_HLEN : IP6_HLEN);
  o->mtu = udp_pmtu_min(&w->udp, s->vrf, &o->dst, (uint32_t)mtu, w->now);
  o->most = o->mtu - head;
  o->tos = o->d.tos ? o->d.tos : udp_of(s)->opt.tos;
  o->ttl = o->d.ttl ? o->d.ttl : ip_addr_is_multicast(&o->dst) ? 1 : udp_of(s)->opt.ttl;
  uint32_t piece = o->d.seg && o->d.seg < o->d.len ? o->d.seg : o->d.len;
  int whole = (o->d.flags & ABI_DGRAM_UNCUT) || udp_segments(&o->d) > 1;
  if (o->d.len > (four ? 65535u - IP4_HLEN - UDP_HLEN : ABI_DGRAM_MAX) || (whole && piece > o->most)) {
    UDP_COUNT(&w->udp, tx_too_long);
    return -EMSGSIZE;
  }
  return 0;
}

/* Frames that this send takes; so many must be free before its first byte leaves. */
static uint32_t udp_frames(const struct udp_send *o) {
  uint32_t n = udp_segments(&o->d), len = o->d.len;
  if (n > 1 || len <= HS_MIN(o->most, UDP_SLOT_MAX))
    return n;
  return 2 + len / ((HS_MIN(o->mtu, UDP_SLOT_MAX) - IP6_HLEN - 8u) & ~7u);
}

static int udp_have_frames(const struct worker *w, uint32_t n) {
  return w->link.up && w->n_tx_free >= n && frame_room(&w->link) >= n + TXF_FIFO_PIECES + 1;
}

/* The head moves over the datagram: from here on it is sent at most once. */
static void udp_take(struct session *s, const struct udp_send *o) {
  fifo_cons_consume(&s->tx, (uint32_t)sizeof o->d + o->d.len);
  FAULT_POINT("udp.tx"); /* lost with the engine, as on the wire */
}

static struct ip_path *udp_path(struct session *s, const struct udp_send *o) {
  struct udp_conn *c = udp_of(s);
  if (!ip_addr_eq(&c->path_dst, &o->dst)) {
    c->path_dst = o->dst;
    s->path.gen = 0;
  }
  return &s->path;
}

/* One frame with payload that lies at `from` (NULL: at the tx fifo's head). Takes it off the fifo if so. */
static int udp_frame(struct worker *w, struct session *s, const struct udp_send *o, const uint8_t *from, uint32_t len) {
  struct txf t;
  int rc = frame_io_get(w, &t);
  if (rc)
    return rc;
  if (from) {
    memcpy(t.data + UDP_HLEN, from, len);
  } else {
    if (fifo_cons_peek(&s->tx, sizeof o->d, t.data + UDP_HLEN, len) != (int64_t)len) {
      frame_io_drop(w, &t);
      return -EPROTO;
    }
    udp_take(s, o);
  }
  udp_hdr_partial(t.data, &o->src, s->lport, &o->dst, o->dport, len);
  t.len = UDP_HLEN + len;
  t.csum_start = 0;
  t.csum_off = UDP_OFF_CKSUM;
  t.flags = ABI_FR_CSUM_PART;
  t.port = (uint8_t)ip_port_of(worker_ip(w, s->vrf), &o->src);
  rc = ip_output(worker_ip(w, s->vrf), &t, &o->src, &o->dst, IP_PROTO_UDP, o->tos, o->ttl, udp_path(s, o), w->now);
  if (rc) {
    UDP_COUNT(&w->udp, tx_failed);
    return 0; /* it is gone, and nobody sends it again */
  }
  UDP_COUNT(&w->udp, tx);
  w->udp.counters[UDP_tx_bytes] += len;
  return 0;
}

/* The datagram at the head, whole, in the scratch behind room for headers. Its UDP header, or NULL. */
static uint8_t *udp_gather(struct worker *w, struct session *s, const struct udp_send *o) {
  uint8_t *h = w->udp.scratch + TXF_HEADROOM;
  if (fifo_cons_peek(&s->tx, sizeof o->d, h + UDP_HLEN, o->d.len) != (int64_t)o->d.len)
    return NULL;
  udp_take(s, o);
  return h;
}

/* The port is another worker's: with an IP header in front, as it would come from the link. */
static void udp_receive_elsewhere(struct worker *w, struct pkt *p, uint8_t *h, uint32_t to) {
  uint32_t hlen = ip_hdr_size(&p->ip);
  p->ip.total_len = hlen + p->len;
  if (ip_hdr_build(h - hlen, hlen, &p->ip) < 0)
    return;
  p->piece[0] = (struct pkt_piece){.p = h - hlen, .len = p->ip.total_len};
  p->len = p->ip.total_len;
  p->l3_off = 0;
  pass_packet(w, p, to);
}

/* To ourselves, from the scratch: received at once. */
static void udp_receive(struct worker *w, struct session *s, const struct udp_send *o, uint8_t *h, uint32_t len) {
  struct pkt p;
  memset(&p, 0, offsetof(struct pkt, ip));
  udp_hdr_partial(h, &o->src, s->lport, &o->dst, o->dport, len);
  p.piece[0] = (struct pkt_piece){.p = h, .len = UDP_HLEN + len};
  p.n_pieces = 1;
  p.len = p.l4_len = UDP_HLEN + len;
  p.flags = ABI_FR_CSUM_OK;
  p.port = (uint8_t)ip_port_of(worker_ip(w, s->vrf), &o->src);
  p.vrf = s->vrf;
  p.to_us = (uint8_t)ip_is_local(worker_ip(w, s->vrf), &o->dst);
  p.ip = (struct ip_hdr){.version = ip_addr_is4(&o->dst) ? 4 : 6,
                         .tos = o->tos,
                         .ttl = o->ttl ? o->ttl : 64,
                         .proto = IP_PROTO_UDP,
                         .src = o->src,
                         .dst = o->dst};
  uint32_t to = flow_udp(o->dport, w->group->n);
  if (HS_UNLIKELY(to != w->index))
    udp_receive_elsewhere(w, &p, h, to);
  else if (udp_input(w, &p, w->now) == -ENOENT && udp_of(s)->connected)
    udp_tell(s, ECONNREFUSED);
}

/* Longer than a frame or than the path takes. */
static int udp_long(struct worker *w, struct session *s, const struct udp_send *o) {
  struct txf t;
  uint8_t *h;
  if (ip_is_local(worker_ip(w, s->vrf), &o->dst)) {
    h = udp_gather(w, s, o);
    if (!h)
      return -EPROTO;
    udp_receive(w, s, o, h, o->d.len);
  } else {
    int rc = frame_io_get(w, &t);
    if (rc)
      return rc;
    h = udp_gather(w, s, o);
    if (!h) {
      frame_io_drop(w, &t);
      return -EPROTO;
    }
    udp_hdr_whole(h, &o->src, s->lport, &o->dst, o->dport, o->d.len);
    t.data = h;
    t.len = UDP_HLEN + o->d.len;
    t.frag_mtu = (uint16_t)HS_MIN(o->mtu, UDP_SLOT_MAX);
    t.port = (uint8_t)ip_port_of(worker_ip(w, s->vrf), &o->src);
    rc = ip_output(worker_ip(w, s->vrf), &t, &o->src, &o->dst, IP_PROTO_UDP, o->tos, o->ttl, NULL, w->now);
    if (rc) {
      UDP_COUNT(&w->udp, tx_failed);
      return 0;
    }
  }
  UDP_COUNT(&w->udp, tx);
  w->udp.counters[UDP_tx_bytes] += o->d.len;
  return 0;
}

/* UDP_SEGMENT: one send, several datagrams. */
static int udp_cut(struct worker *w, struct session *s, const struct udp_send *o) {
  const uint8_t *h = udp_gather(w, s, o);
  if (!h)
    return -EPROTO;
  UDP_COUNT(&w->udp, tx_cut);
  for (uint32_t off = 0; off < o->d.len; off += o->d.seg)
    (void)udp_frame(w, s, o, h + UDP_HLEN + off, HS_MIN((uint32_t)o->d.seg, o->d.len - off));
  return 0;
}

/* Groups and broadcasts are for our own apps, too (RFC 1112 6.1). Before the fifo's head moves. */
static void udp_loop_group(struct worker *w, struct session *s, const struct udp_send *o) {
  int group = ip_addr_is_multicast(&o->dst);
  if (!group && !ip_is_broadcast(worker_ip(w, s->vrf), &o->dst))
    return;
  if (group && ((o->d.flags & ABI_DGRAM_NO_LOOP) ||
                !ip_group_is(worker_ip(w, s->vrf), ip_port_of(worker_ip(w, s->vrf), &o->src), &o->dst)))
    return;
  uint8_t *h = w->udp.scratch + TXF_HEADROOM;
  if (fifo_cons_peek(&s->tx, sizeof o->d, h + UDP_HLEN, o->d.len) == (int64_t)o->d.len)
    udp_receive(w, s, o, h, o->d.len);
}

static void udp_drop(struct session *s, const struct udp_send *o, int err) {
  fifo_cons_consume(&s->tx, (uint32_t)sizeof o->d + o->d.len);
  udp_tell(s, err);
}

/* A next hop that is not known yet: single frames wait there, what is longer waits here. 0 goes on, 1 waits. */
static int udp_wait(struct worker *w, struct session *s, const struct udp_send *o) {
  struct udp_conn *c = udp_of(s);
  if (udp_frames(o) == 1)
    return 0;
  int rc = ip_ready(worker_ip(w, s->vrf), &o->src, &o->dst, w->now);
  if (rc == 0 && c->waits++ < UDP_WAITS) {
    timer_set(&w->wheel, &s->timer, w->now + UDP_WAIT_US);
    return 1;
  }
  c->waits = 0;
  if (rc > 0)
    return 0;
  UDP_COUNT(&w->udp, tx_no_neighbour);
  udp_drop(s, o, rc < 0 && udp_of(s)->connected ? -rc : 0);
  return -1;
}

/* The datagram at the head. 0 done, 1 later, 2 it waits for a neighbour, -EPROTO. */
static int udp_one(struct worker *w, struct session *s, uint32_t used) {
  struct udp_send o;
  if (used < sizeof o.d || fifo_cons_peek(&s->tx, 0, &o.d, sizeof o.d) != (int64_t)sizeof o.d ||
      udp_dgram_check(&o.d, used))
    return -EPROTO;
  if (s->lport == 0) {
    int rc = udp_port_choose(w, s);
    if (rc == 0)
      rc = flow_add(w, s);
    if (rc) {
      udp_drop(s, &o, -rc);
      return 0;
    }
    s->e->local.port = be16_from(s->lport);
  }
  int rc = udp_aim(w, s, &o);
  if (rc) {
    udp_drop(s, &o, -rc);
    return 0;
  }
  if (!w->link.up && !ip_is_local(worker_ip(w, s->vrf), &o.dst)) /* nor could the neighbour be asked */
    return 1;
  rc = udp_wait(w, s, &o);
  if (rc)
    return rc > 0 ? 2 : 0;
  uint32_t n = udp_frames(&o);
  if (n > w->n_tx / 2) {
    UDP_COUNT(&w->udp, tx_too_long);
    udp_drop(s, &o, ENOBUFS);
    return 0;
  }
  if (!udp_have_frames(w, n))
    return 1;
  udp_loop_group(w, s, &o);
  rc = udp_segments(&o.d) > 1                    ? udp_cut(w, s, &o)
       : o.d.len <= HS_MIN(o.most, UDP_SLOT_MAX) ? udp_frame(w, s, &o, NULL, o.d.len)
                                                 : udp_long(w, s, &o);
  return rc == -ENOBUFS ? 1 : rc;
}

static void udp_tell_room(struct session *s) {
  if (__atomic_load_n(&s->a->tx_armed, __ATOMIC_ACQUIRE) &&
      (int32_t)(s->tx.head - __atomic_load_n(&s->a->tx_wake, __ATOMIC_RELAXED)) >= 0)
    app_hint(s->app, s->slot);
}

int udp_output(struct worker *w, struct session *s, usec_t now) {
  int rc = 0;
  uint32_t n = 0;
  (void)now;
  if (!s->e || !s->believed)
    return 0;
  while (n < UDP_BURST) {
    int64_t used = fifo_cons_used(&s->tx);
    if (used < 0) {
      app_suspect(s->app, "tx fifo: impossible tail");
      return 0;
    }
    if (used == 0) {
      rc = 3;
      break;
    }
    rc = udp_one(w, s, (uint32_t)used);
    if (rc == -EPROTO) {
      app_suspect(s->app, "tx fifo: impossible datagram");
      return 0;
    }
    if (rc)
      break;
    n++;
  }
  if (n)
    udp_tell_room(s);
  if (rc == 3 && udp_of(s)->closing) {
    udp_end(w, s);
    return 0;
  }
  if (rc == 0) /* others first */
    session_dirty(w, s);
  return rc == 1;
}
