/*
 * The bench that ip_rig.h describes.
 */
#include "ip_rig.h"

#include "base/bits.h"
#include "ip/pkt_read.h"
#include "rng_repeat.h"
#include "wire/arp.h"
#include "wire/eth.h"
#include "wire/nd.h"

#include <stdio.h>
#include <stdlib.h>

const uint8_t rig_mac[6] = {2, 0, 0, 0, 0, 1};
const uint8_t rig_peer[6] = {2, 0, 0, 0, 0, 2};

static void rig_must(int ok, const char *what) {
  if (ok)
    return;
  fprintf(stderr, "ip_rig: %s\n", what);
  abort();
}

static int rig_frame_get(void *ctx, struct txf *t) {
  struct ip_rig *r = ctx;
  for (uint32_t i = 0; i < r->slots; i++) {
    if (r->out[i])
      continue;
    r->out[i] = 1;
    r->n_out++;
    t->slot = i;
    t->slot_base = r->slot[i];
    t->slot_off = (uint64_t)i * ABI_SLOT_SIZE;
    t->data = r->slot[i] + ABI_SLOT_HEAD + TXF_HEADROOM;
    t->len = 0;
    return 0;
  }
  return -ENOBUFS;
}

static void rig_home(struct ip_rig *r, const struct txf *t) {
  rig_must(t->slot < RIG_SLOTS && r->out[t->slot], "slot came home twice");
  rig_must(t->data >= r->slot[t->slot] + ABI_SLOT_HEAD && t->data + t->len <= r->slot[t->slot] + ABI_SLOT_SIZE,
           "frame beyond its slot");
  r->out[t->slot] = 0;
  r->n_out--;
}

static void rig_frame_drop(void *ctx, struct txf *t) {
  struct ip_rig *r = ctx;
  rig_home(r, t);
  r->n_dropped++;
}

static void rig_frame_send(void *ctx, struct txf *t) {
  struct ip_rig *r = ctx;
  rig_home(r, t);
  if (r->n_sent < RIG_SENT) {
    struct rig_frame *f = &r->sent[r->n_sent];
    memcpy(f->b, t->data, t->len);
    f->len = t->len;
    f->fifo_len = t->fifo_len;
    f->n_fifo = t->n_fifo;
    for (uint32_t i = 0; i < HS_MIN(t->n_fifo, 2u); i++) {
      f->fifo[i].off = t->fifo[i].off;
      f->fifo[i].len = t->fifo[i].len;
    }
    f->flags = t->flags;
    f->gso_size = t->gso_size;
    f->csum_start = t->csum_start;
    f->csum_off = t->csum_off;
    f->port = t->port;
  }
  r->n_sent++;
}

static int rig_frame_loop(void *ctx, struct txf *t) {
  struct ip_rig *r = ctx;
  if (r->n_loop == r->loop_room)
    return -ENOBUFS;
  r->loop[r->n_loop++] = *t;
  return 0;
}

void rig_loop(struct ip_rig *r) {
  static const uint8_t payload[65536];
  while (r->n_loop != 0) {
    struct txf t = r->loop[0];
    struct pkt p;
    memset(&p, 0, sizeof p);
    memmove(&r->loop[0], &r->loop[1], --r->n_loop * sizeof r->loop[0]);
    p.piece[p.n_pieces++] = (struct pkt_piece){t.data, t.len};
    for (uint32_t i = 0; i < t.n_fifo; i++)
      p.piece[p.n_pieces++] = (struct pkt_piece){payload, t.fifo[i].len};
    p.len = t.len + t.fifo_len;
    p.gso_size = t.gso_size;
    p.port = t.port;
    ip_loop_input(r->s, &p, r->now);
    rig_home(r, &t);
  }
}

static int rig_deliver(void *ctx, struct pkt *p, usec_t now) {
  struct ip_rig *r = ctx;
  (void)now;
  if (r->n_up < RIG_EVENTS)
    r->up[r->n_up] = *p;
  rig_must(pkt_read_copy(p, p->l4_off, HS_MIN(p->l4_len, 65536u), r->last) == p->l4_len, "deliver: bytes are missing");
  r->n_up++;
  return r->up_result;
}

static void rig_error(void *ctx, uint8_t proto, const struct ip_addr *local, uint16_t lport,
                      const struct ip_addr *remote, uint16_t rport, uint32_t seq, int kind, int err, uint32_t mtu,
                      usec_t now) {
  struct ip_rig *r = ctx;
  (void)now;
  if (r->n_error < RIG_EVENTS)
    r->error[r->n_error] = (struct rig_error){.proto = proto,
                                              .local = *local,
                                              .remote = *remote,
                                              .lport = lport,
                                              .rport = rport,
                                              .seq = seq,
                                              .mtu = mtu,
                                              .kind = kind,
                                              .err = err};
  r->n_error++;
}

struct ip_addr rig_addr(const char *text) {
  struct ip_addr a = {{0}};
  rig_must(ip_addr_parse(text, &a) == 0, text);
  return a;
}

void rig_clear(struct ip_rig *r) {
  r->n_sent = r->n_dropped = r->n_up = r->n_error = 0;
}

struct ip_rig *rig_new(void) {
  static const struct ip_ops ops = {.frame_get = rig_frame_get,
                                    .frame_drop = rig_frame_drop,
                                    .frame_send = rig_frame_send,
                                    .frame_loop = rig_frame_loop,
                                    .deliver = rig_deliver,
                                    .error = rig_error};
  struct ip_rig *r = calloc(1, sizeof *r);
  rig_must(r != NULL, "no memory");
  r->now = 1000000000ull;
  r->slots = RIG_SLOTS;
  r->loop_room = RIG_LOOP;
  rng_repeat(1); /* each rig, and so each fuzz input, begins alike */
  rig_must(ip_new(&r->s, &ops, r, r->c) == 0, "ip_new");
  struct ip_addr a4 = rig_addr("10.0.0.1"), a6 = rig_addr("2001:db8::1");
  rig_must(ip_port_set(r->s, 0, rig_mac, 1500, 1) == 0, "ip_port_set");
  rig_must(ip_addr_add(r->s, 0, &a4, 24) == 0 && ip_addr_add(r->s, 0, &a6, 64) == 0, "ip_addr_add");
  rig_advance(r, 10000000);
  rig_clear(r);
  memset(r->c, 0, sizeof r->c);
  return r;
}

void rig_free(struct ip_rig *r) {
  ip_free(r->s);
  rig_must(r->n_out == 0, "slots that never came home");
  free(r);
}

int rig_setup(void **state) {
  *state = rig_new();
  return 0;
}

int rig_teardown(void **state) {
  rig_free(*state);
  return 0;
}

void rig_in_pieces(struct ip_rig *r, const uint8_t *frame, uint32_t len, uint32_t piece) {
  struct pkt p;
  memset(&p, 0, sizeof p);
  p.len = len;
  for (uint32_t at = 0; at < len || p.n_pieces == 0; at += piece) {
    uint32_t n = len - at < piece || p.n_pieces == PKT_PIECES_MAX - 1 ? len - at : piece;
    p.piece[p.n_pieces++] = (struct pkt_piece){frame + at, n};
    if (n == len - at)
      break;
  }
  ip_input(r->s, &p, r->now);
}

void rig_in(struct ip_rig *r, const uint8_t *frame, uint32_t len) {
  rig_in_pieces(r, frame, len, len);
}

void rig_advance(struct ip_rig *r, usec_t by) {
  usec_t end = r->now + by;
  for (unsigned turns = 0; turns < 1000000; turns++) {
    usec_t next = ip_timer(r->s, r->now);
    if (r->now == end)
      return;
    r->now = next <= r->now ? r->now + 1000 : next;
    if (r->now > end)
      r->now = end;
  }
  rig_must(0, "the timer never rests");
}

uint32_t rig_build_hdr(uint8_t *f, const struct ip_hdr *h, const uint8_t mac[6], const void *l4, uint32_t l4_len) {
  struct eth_hdr e = {
      .dst = mac_addr_load(mac), .src = mac_addr_load(rig_peer), .type = h->version == 4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6};
  struct ip_hdr in = *h;
  in.total_len = ip_hdr_size(h) + l4_len;
  rig_must(eth_hdr_build(f, ETH_HLEN, &e) == ETH_HLEN, "eth");
  int n = ip_hdr_build(f + ETH_HLEN, 60, &in);
  rig_must(n > 0, "ip");
  memcpy(f + ETH_HLEN + n, l4, l4_len);
  return ETH_HLEN + (uint32_t)n + l4_len;
}

uint32_t rig_build(uint8_t *f, const char *src, const char *dst, uint8_t proto, const void *l4, uint32_t l4_len) {
  static const uint8_t all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  struct ip_hdr h = {.ttl = 64, .proto = proto, .src = rig_addr(src), .dst = rig_addr(dst)};
  struct mac_addr group = ip_addr_mcast_mac(&h.dst);
  h.version = ip_addr_is4(&h.dst) ? 4 : 6;
  const uint8_t *mac = ip_addr_is_multicast(&h.dst) ? group.b : ip_addr_is_broadcast(&h.dst) ? all : rig_mac;
  return rig_build_hdr(f, &h, mac, l4, l4_len);
}

uint32_t rig_fragment(uint8_t *f, const char *src, const char *dst, uint8_t proto, uint32_t id, uint32_t off, int more,
                      const void *bytes, uint32_t len) {
  struct ip_hdr h = {.ttl = 64,
                     .proto = proto,
                     .flags = (uint16_t)(IP_FLAG_FRAG | (more ? IP_FLAG_MF : 0)),
                     .frag_id = id,
                     .frag_off = (uint16_t)off,
                     .src = rig_addr(src),
                     .dst = rig_addr(dst)};
  h.version = ip_addr_is4(&h.dst) ? 4 : 6;
  return rig_build_hdr(f, &h, rig_mac, bytes, len);
}

uint32_t rig_arp(uint8_t *f, const uint8_t to[6], unsigned op, const uint8_t sha[6], const char *spa,
                 const uint8_t tha[6], const char *tpa) {
  struct eth_hdr e = {.dst = mac_addr_load(to), .src = mac_addr_load(sha), .type = ETH_TYPE_ARP};
  struct arp_pkt a = {.op = (uint16_t)op,
                      .sha = mac_addr_load(sha),
                      .tha = mac_addr_load(tha),
                      .spa = rig_addr(spa),
                      .tpa = rig_addr(tpa)};
  rig_must(eth_hdr_build(f, ETH_HLEN, &e) > 0 && arp_pkt_build(f + ETH_HLEN, ARP_LEN, &a) > 0, "arp");
  return ETH_HLEN + ARP_LEN;
}

uint32_t rig_nd(uint8_t *f, uint8_t type, uint8_t flags, const char *src, const char *dst, const char *target,
                const uint8_t *mac) {
  uint8_t msg[ND_LEN_MAX];
  struct nd_msg m = {.type = type, .flags = flags, .target = rig_addr(target)};
  struct ip_hdr h = {.version = 6, .ttl = 255, .proto = IP_PROTO_ICMP6, .src = rig_addr(src), .dst = rig_addr(dst)};
  struct mac_addr group = ip_addr_mcast_mac(&h.dst);
  if (mac != NULL) {
    m.present = type == ICMP6_NS ? ND_HAS_SLLA : ND_HAS_TLLA;
    m.slla = m.tlla = mac_addr_load(mac);
  }
  int n = nd_msg_build(msg, sizeof msg, &m);
  rig_must(n > 0, "nd");
  icmp6_cksum_set(msg, (size_t)n, &h.src, &h.dst);
  return rig_build_hdr(f, &h, ip_addr_is_multicast(&h.dst) ? group.b : rig_mac, msg, (uint32_t)n);
}

int rig_take(struct ip_rig *r, struct txf *t) {
  return rig_frame_get(r, t);
}

int rig_out(struct ip_rig *r, const char *dst, uint8_t proto, uint32_t len, uint32_t fifo, struct ip_path *path) {
  struct txf t;
  struct ip_addr d = rig_addr(dst), src = rig_addr(ip_addr_is4(&d) ? "10.0.0.1" : "2001:db8::1");
  memset(&t, 0, sizeof t);
  rig_must(rig_frame_get(r, &t) == 0, "out of slots");
  memset(t.data, 0x55, len);
  store_be16(t.data, 1000);
  store_be16(t.data + 2, 2000);
  store_be32(t.data + 4, 0xabcd1234);
  t.len = len;
  if (fifo != 0) {
    t.n_fifo = 1;
    t.fifo[0].len = t.fifo_len = fifo;
  }
  return ip_output(r->s, &t, &src, &d, proto, 0, 0, path, r->now);
}

void rig_resolve(struct ip_rig *r, const char *dst, const uint8_t mac[6]) {
  uint8_t f[256];
  struct ip_addr d = rig_addr(dst);
  rig_must(rig_out(r, dst, IP_PROTO_UDP, 8, 0, NULL) == 0, "rig_resolve");
  uint32_t n = ip_addr_is4(&d) ? rig_arp(f, rig_mac, ARP_REPLY, mac, dst, rig_mac, "10.0.0.1")
                               : rig_nd(f, ICMP6_NA, ND_NA_SOLICITED | ND_NA_OVERRIDE, dst, "2001:db8::1", dst, mac);
  rig_in(r, f, n);
  rig_clear(r);
}
