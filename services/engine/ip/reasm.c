/*
 * Reassembly of both families (RFC 791 3.2, 815, 1122 3.3.2; RFC 8200 4.5). Called by ip_input.c for every fragment and
 * by the stack's clock; worker thread. A whole datagram goes back to ip_input.c as one piece.
 *
 * Payload is copied once, to its offset; runs of bytes that are there are a sorted list. Bytes that overlap others end
 * the datagram (RFC 5722, for IPv4 too), unless they say the same. First fragments too short for their transport header
 * are refused (RFC 1858 3, 3128; RFC 7112 in IPv6).
 *
 * deviates: RFC 8200 4.5 wants a parameter problem for fragments of impossible length; they are counted and dropped.
 */
#include "ip/reasm.h"
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"
#include "wire/cksum.h"
#include "wire/icmp.h"

#define REASM_ECN_CE 3u

static uint8_t *reasm_payload(const struct reasm_table *t, const struct reasm *r) {
  return t->buf + (size_t)(r - t->r) * REASM_ROOM + REASM_HEAD;
}

void reasm_init(struct reasm_table *t, struct reasm *r, uint8_t *buf) {
  t->r = r;
  t->buf = buf;
  list_init(&t->open);
}

static void reasm_free(struct ip_stack *s, struct reasm *r) {
  timer_cancel(&s->wheel, &r->timer);
  list_del(&r->age);
  r->state = REASM_FREE;
  s->reasm.n_open--;
}

static int reasm_is(const struct reasm *r, const struct ip_hdr *h) {
  return r->id == h->frag_id && r->version == h->version && (h->version == 6 || r->proto == h->proto) &&
         ip_addr_eq(&r->src, &h->src) && ip_addr_eq(&r->dst, &h->dst);
}

/* Makes room: the oldest of a source that has too many, else the oldest of all if the table is full. */
static void reasm_make_room(struct ip_stack *s, const struct ip_addr *src) {
  struct reasm_table *t = &s->reasm;
  struct reasm *oldest = NULL;
  unsigned of_source = 0;
  for (struct list *l = t->open.next; l != &t->open; l = l->next) {
    struct reasm *r = list_entry(l, struct reasm, age);
    if (!ip_addr_eq(&r->src, src))
      continue;
    if (of_source++ == 0)
      oldest = r;
  }
  if (of_source < REASM_SOURCE_MAX) {
    if (t->n_open < REASM_MAX)
      return;
    oldest = list_entry(list_first(&t->open), struct reasm, age);
  }
  stack_count(s, IPC_REASM_EVICTED);
  reasm_free(s, oldest);
}

static struct reasm *reasm_get(struct ip_stack *s, const struct pkt *p, usec_t now) {
  struct reasm_table *t = &s->reasm;
  const struct ip_hdr *h = &p->ip;
  for (struct list *l = t->open.next; l != &t->open; l = l->next) {
    struct reasm *r = list_entry(l, struct reasm, age);
    if (reasm_is(r, h))
      return r;
  }
  reasm_make_room(s, &h->src);
  uint32_t i = 0;
  while (t->r[i].state != REASM_FREE)
    i++;
  struct reasm *r = &t->r[i];
  memset(r, 0, sizeof *r);
  r->src = h->src;
  r->dst = h->dst;
  r->id = h->frag_id;
  r->version = h->version;
  r->proto = h->proto;
  r->state = REASM_OPEN;
  r->total = UINT32_MAX;
  list_add_tail(&t->open, &r->age);
  t->n_open++;
  stack_arm(s, &r->timer, STACK_TIMER_REASM, i, now + (h->version == 4 ? REASM_IP4_US : REASM_IP6_US), now);
  return r;
}

static void reasm_spoil(struct ip_stack *s, struct reasm *r, enum ip_counter why) {
  stack_count(s, why);
  r->state = REASM_SPOILT;
}

/* Upper-layer bytes that a first fragment must have. */
static uint32_t reasm_least(uint8_t proto) {
  return proto == IP_PROTO_TCP ? 20 : proto == IP_PROTO_UDP || proto == IP_PROTO_ICMP6 ? 8 : 0;
}

/* Whether an IPv6 first fragment holds all headers through the upper layer's (RFC 7112 4). */
static int reasm_chain_whole(struct ip_stack *s, const struct pkt *p) {
  uint32_t len = HS_MIN(p->l4_len, STACK_MSG_MAX), at = 0;
  const uint8_t *b = pkt_read_at(p, p->l4_off, len, s->msg);
  uint8_t nh = p->ip.proto;
  while (b != NULL && (nh == IP_PROTO_DSTOPTS || nh == IP_PROTO_ROUTING)) {
    if (at + 2 > len)
      return 0;
    uint32_t size = (b[at + 1] + 1u) * 8u;
    nh = b[at];
    at += size;
  }
  return b != NULL && at <= len && len - at >= reasm_least(nh);
}

/* Fragments that only filters could want to be fooled by. 1: refuse; an IPv6 sender is told (RFC 8200 4.5). */
static int reasm_tiny(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  const struct ip_hdr *h = &p->ip;
  if (h->version == 4)
    return h->proto == IP_PROTO_TCP && (h->frag_off == 8 || (h->frag_off == 0 && p->l4_len < 20));
  if (h->frag_off != 0 || reasm_chain_whole(s, p))
    return 0;
  icmp6_send_error(s, p, v, ICMP6_PARAM_PROBLEM, 3, 0, now);
  return 1;
}

/* Whether [from, to) is there already with the same bytes. */
static int reasm_same(const struct ip_stack *s, const struct reasm *r, const struct pkt *p, uint32_t from) {
  const uint8_t *have = reasm_payload(&s->reasm, r) + from;
  uint8_t chunk[256];
  for (uint32_t at = 0; at < p->l4_len; at += (uint32_t)sizeof chunk) {
    uint32_t n = HS_MIN(p->l4_len - at, (uint32_t)sizeof chunk);
    const uint8_t *b = pkt_read_at(p, p->l4_off + at, n, chunk);
    if (b == NULL || memcmp(b, have + at, n) != 0)
      return 0;
  }
  return 1;
}

/* Notes [from, to). 0 noted, 1 nothing new, -errno: it overlaps, or there are too many runs. */
static int reasm_note(const struct ip_stack *s, struct reasm *r, const struct pkt *p, uint32_t from, uint32_t to) {
  uint32_t i = 0;
  while (i < r->n_ranges && r->range[i].to < from)
    i++;
  struct reasm_range *x = &r->range[i];
  if (i < r->n_ranges && from >= x->from && to <= x->to)
    return reasm_same(s, r, p, from) ? 1 : -EBADMSG;
  if (i < r->n_ranges && from == x->to) { /* goes on where run i ends; may close the gap to run i + 1 */
    if (i + 1 < r->n_ranges && to > x[1].from)
      return -EBADMSG;
    x->to = to;
    if (i + 1 < r->n_ranges && to == x[1].from) {
      x->to = x[1].to;
      r->n_ranges--;
      memmove(&x[1], &x[2], (r->n_ranges - i - 1) * sizeof *x);
    }
    return 0;
  }
  if (i < r->n_ranges && to > x->from)
    return -EBADMSG;
  if (i < r->n_ranges && to == x->from) {
    x->from = from;
    return 0;
  }
  if (r->n_ranges == REASM_RANGES)
    return -ENOSPC;
  memmove(&x[1], &x[0], (r->n_ranges - i) * sizeof *x);
  *x = (struct reasm_range){from, to};
  r->n_ranges++;
  return 0;
}

/* The first fragment's header, as it came, in front of the payload. */
static int reasm_keep_header(const struct ip_stack *s, struct reasm *r, const struct pkt *p) {
  if (p->ip.hdr_len > REASM_HEAD)
    return -EMSGSIZE;
  uint8_t *at = reasm_payload(&s->reasm, r) - p->ip.hdr_len;
  if (pkt_read_copy(p, p->l3_off, p->ip.hdr_len, at) != p->ip.hdr_len)
    return -EBADMSG;
  r->hdr_len = p->ip.hdr_len;
  r->frag_at = p->ip.frag_at;
  r->nh_at = p->ip.nh_at;
  r->first_to = (uint16_t)p->l4_len;
  return 0;
}

/* Takes a fragment in. 0, or -errno: the datagram is spoilt. */
static int reasm_take(struct ip_stack *s, struct reasm *r, const struct pkt *p) {
  uint32_t from = p->ip.frag_off, to = from + p->l4_len;
  if (to > 65535 || (r->total != UINT32_MAX && to > r->total))
    return -EMSGSIZE;
  if (!(p->ip.flags & IP_FLAG_MF)) { /* the last one says how long the whole is */
    if ((r->total != UINT32_MAX && r->total != to) || (r->n_ranges != 0 && r->range[r->n_ranges - 1].to > to))
      return -EMSGSIZE;
    r->total = to;
  }
  int err = reasm_note(s, r, p, from, to);
  if (err != 0)
    return err < 0 ? err : 0;
  if (pkt_read_copy(p, p->l4_off, p->l4_len, reasm_payload(&s->reasm, r) + from) != p->l4_len)
    return -EBADMSG;
  return from == 0 ? reasm_keep_header(s, r, p) : 0;
}

/* RFC 3168 5.3: one congested fragment makes the whole congested, but not one of a sender without ECN. */
static int reasm_ecn(struct reasm *r, uint8_t *h) {
  if (!(r->ecn & 1u << REASM_ECN_CE))
    return 0;
  if (r->ecn & 1u)
    return -EBADMSG;
  if (r->version == 4)
    h[1] |= REASM_ECN_CE;
  else
    h[1] |= REASM_ECN_CE << 4;
  return 0;
}

/* The header of the whole datagram, in place of the first fragment's. Returns its length or -errno. */
static int reasm_header(struct reasm *r, uint8_t *payload) {
  uint8_t *h = payload - r->hdr_len;
  uint32_t len = r->hdr_len;
  if (r->version == 6) { /* RFC 8200 4.5: the unfragmentable part, and what followed the fragment header */
    uint8_t nh = h[r->frag_at];
    h[r->nh_at] = nh;
    memmove(h + IP6_FRAG_LEN, h, r->frag_at);
    h += IP6_FRAG_LEN;
    len -= IP6_FRAG_LEN;
    if (len - IP6_HLEN + r->total > 65535)
      return -EMSGSIZE;
    store_be16(h + 4, (uint16_t)(len - IP6_HLEN + r->total));
    return reasm_ecn(r, h) < 0 ? -EBADMSG : (int)len;
  }
  if (len + r->total > 65535 || reasm_ecn(r, h) < 0)
    return -EMSGSIZE;
  store_be16(h + 2, (uint16_t)(len + r->total));
  memset(h + 6, 0, 2); /* neither DF nor MF nor offset */
  memset(h + 10, 0, 2);
  cksum_store(h + 10, cksum_fold(cksum_add(0, h, len)));
  return (int)len;
}

static void reasm_deliver(struct ip_stack *s, struct reasm *r, const struct pkt *last, const struct ip_view *v,
                          usec_t now) {
  uint8_t *payload = reasm_payload(&s->reasm, r);
  int len = reasm_header(r, payload);
  if (len < 0) {
    reasm_spoil(s, r, IPC_REASM_BAD);
    return;
  }
  struct pkt p = {.n_pieces = 1,
                  .len = (uint32_t)len + r->total,
                  .port = last->port,
                  .to_us = r->to_us,
                  .ethertype = last->ethertype};
  p.piece[0] = (struct pkt_piece){payload - len, p.len};
  struct ip_view whole = {.h = payload - len, .avail = p.len, .eth = v->eth};
  stack_count(s, IPC_REASM_DONE);
  input_whole(s, &p, &whole, now);
  reasm_free(s, r);
}

void reasm_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  stack_count(s, IPC_RX_FRAGMENT);
  if (reasm_tiny(s, p, v, now)) {
    stack_count(s, IPC_REASM_BAD);
    return;
  }
  struct reasm *r = reasm_get(s, p, now);
  if (r->state == REASM_SPOILT)
    return;
  int err = reasm_take(s, r, p);
  if (err < 0) {
    reasm_spoil(s, r, err == -EBADMSG ? IPC_REASM_OVERLAP : IPC_REASM_BAD);
    return;
  }
  r->port = p->port;
  r->to_us = p->to_us;
  r->l2_group |= (uint8_t)mac_addr_is_multicast(&v->eth.dst);
  r->ecn |= (uint8_t)(1u << (p->ip.tos & 3u));
  if (r->hdr_len != 0 && r->n_ranges == 1 && r->range[0].from == 0 && r->range[0].to == r->total)
    reasm_deliver(s, r, p, v, now);
}

/* Time is up: the sender is told if the first fragment came (RFC 792, RFC 8200 4.5), with that as quotation. */
void reasm_timer(struct ip_stack *s, struct reasm *r, usec_t now) {
  uint8_t *payload = reasm_payload(&s->reasm, r);
  struct ip_view v = {.h = payload - r->hdr_len};
  struct pkt p = {.n_pieces = 1, .port = r->port, .to_us = r->to_us};
  if (r->state == REASM_OPEN)
    stack_count(s, IPC_REASM_TIMEOUT);
  int icmp = r->version == 4 && r->proto == IP_PROTO_ICMP; /* it may be an error (RFC 1122 3.2.2) */
  if (r->state == REASM_OPEN && r->hdr_len != 0 && !r->l2_group && !icmp) {
    v.avail = p.len = (uint32_t)r->hdr_len + r->first_to;
    p.piece[0] = (struct pkt_piece){v.h, p.len};
    if (ip_hdr_parse_quoted(v.h, v.avail, &p.ip) < 0)
      p.to_us = 0;
    if (r->version == 4)
      icmp4_send_error(s, &p, &v, ICMP4_TIME_EXCEEDED, 1, now);
    else
      icmp6_send_error(s, &p, &v, ICMP6_TIME_EXCEEDED, 1, 0, now);
  }
  reasm_free(s, r);
}
