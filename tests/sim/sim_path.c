/*
 * The simulated path: serialises segments with checksums, cuts bursts as a device would (or leaves them whole), loses,
 * delays, reorders, duplicates and corrupts them, and delivers what is due in bursts. Used by sim.c.
 */
#include "sim.h"

#include "base/bits.h"
#include "sim_digest.h"
#include "wire/cksum.h"
#include "wire/ip.h"
#include "wire/tcp.h"

#include <stdlib.h>
#include <string.h>

/* --- heap by (time, order) --- */

static int pkt_before(const struct sim_pkt *a, const struct sim_pkt *b) {
  return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(struct sim *s, struct sim_pkt p) {
  if (s->n_heap == s->heap_room) {
    s->heap_room = s->heap_room ? s->heap_room * 2 : 256;
    s->heap = realloc(s->heap, s->heap_room * sizeof *s->heap);
    if (s->heap == NULL)
      abort();
  }
  uint32_t i = s->n_heap++;
  while (i > 0 && pkt_before(&p, &s->heap[(i - 1) / 2])) {
    s->heap[i] = s->heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  s->heap[i] = p;
}

static struct sim_pkt heap_pop(struct sim *s) {
  struct sim_pkt top = s->heap[0], last = s->heap[--s->n_heap];
  uint32_t i = 0, k;
  while ((k = 2 * i + 1) < s->n_heap) {
    if (k + 1 < s->n_heap && pkt_before(&s->heap[k + 1], &s->heap[k]))
      k++;
    if (!pkt_before(&s->heap[k], &last))
      break;
    s->heap[i] = s->heap[k];
    i = k;
  }
  s->heap[i] = last;
  return top;
}

/* --- sending --- */

/* A router's mark (RFC 3168 5), on what may be marked. */
static void path_mark(struct sim *s, uint8_t *ip) {
  int four = ip[0] >> 4 == 4;
  uint8_t *at = &ip[1], ect = four ? *at & 3u : *at >> 4 & 3u;
  if (ect == 0 || ect == 3)
    return;
  *at |= four ? 3u : 0x30u;
  if (four) {
    cksum_store(ip + 10, 0);
    cksum_store(ip + 10, cksum_fold(cksum_add(0, ip, (size_t)(ip[0] & 15u) * 4)));
  }
  s->marked++;
}

/* Gilbert's model: `loss` of all packets, in bursts of `burst` on average. */
static int path_loses(struct sim *s, int to) {
  const struct sim_case *c = &s->cfg;
  if (c->burst <= 1)
    return rng_chance_ppm(&s->rng, c->loss);
  if (s->bad[to] != 0 && (s->now > s->bad[to] + 20000 || rng_chance_ppm(&s->rng, 1000000 / c->burst)))
    s->bad[to] = 0;
  else if (s->bad[to] == 0 && rng_chance_ppm(&s->rng, c->loss / c->burst))
    s->bad[to] = s->now;
  return s->bad[to] != 0;
}

static void path_emit(struct sim *s, int to, uint8_t *bytes, uint32_t len, uint32_t gso) {
  const struct sim_case *c = &s->cfg;
  sim_digest(s->now, bytes, len);
  if (to == 1 && len > 120) {
    s->client_data++;
    if ((c->lose_every != 0 && s->client_data % c->lose_every == 0) || s->client_data == c->lose_at) {
      s->lost++;
      return;
    }
  }
  usec_t at = s->now + c->delay;
  if (c->rate) {
    usec_t start = HS_MAX(s->line_free[to], s->now);
    if (c->queue && (start - s->now) * c->rate / 1000 > c->queue) { /* tail drop */
      s->lost++;
      return;
    }
    if (c->mark_queue && (start - s->now) * c->rate / 1000 > c->mark_queue)
      path_mark(s, bytes);
    if (to == 1)
      s->queue_max = HS_MAX(s->queue_max, start - s->now);
    s->line_free[to] = start + (usec_t)len * 1000 / c->rate;
    at = s->line_free[to] + c->delay;
  }
  if (rng_chance_ppm(&s->rng, c->mark_ce))
    path_mark(s, bytes);
  if (c->jitter)
    at += rng_below(&s->rng, c->jitter);
  if (rng_chance_ppm(&s->rng, c->late))
    at += c->late_by;
  if (!(c->data_only && to == 0) && path_loses(s, to)) {
    s->lost++;
    return;
  }
  int copies = rng_chance_ppm(&s->rng, c->dup) ? 2 : 1;
  for (int i = 0; i < copies; i++) {
    struct sim_pkt p = {.at = at + (i ? rng_below(&s->rng, c->jitter + 1) : 0),
                        .order = s->order++,
                        .to = to,
                        .len = len,
                        .gso = gso,
                        .bytes = malloc(len)};
    if (p.bytes == NULL)
      abort();
    memcpy(p.bytes, bytes, len);
    if (rng_chance_ppm(&s->rng, c->corrupt)) /* one bit: the Internet checksum finds it for certain */
      p.bytes[rng_below(&s->rng, len)] ^= (uint8_t)(1u << rng_below(&s->rng, 8));
    heap_push(s, p);
  }
}

/* One packet of [off, off + len) of the burst. 0 or a negative wire error. */
static int path_packet(struct sim *s, int from, const struct tcp_seg_out *out, uint32_t off, uint32_t len) {
  static uint8_t buf[80000];
  struct sim_host *h = &s->host[from];
  struct tcp_hdr th = {.sport = from ? 80 : 40000,
                       .dport = from ? 40000 : 80,
                       .seq = out->seq + off,
                       .ack = out->ack,
                       .flags = out->flags,
                       .wnd = out->wnd,
                       .urg = out->urg,
                       .opts = out->opts};
  if (off + len < out->len)
    th.flags &= (uint16_t) ~(TCP_FIN | TCP_PSH); /* only the last one ends the burst */
  struct ip_hdr ih = {.version = s->cfg.family,
                      .ttl = 64,
                      .proto = IP_PROTO_TCP,
                      .tos = out->tos,
                      .src = s->addr[from],
                      .dst = s->addr[!from],
                      .flags = IP_FLAG_DF};
  uint32_t ihl = ip_hdr_size(&ih);
  int thl = tcp_hdr_build(buf + ihl, TCP_HLEN_MAX, &th);
  if (thl < 0)
    return thl;
  ih.total_len = ihl + (uint32_t)thl + len;
  int r = ip_hdr_build(buf, ihl, &ih);
  if (r < 0)
    return r;
  sim_fifo_peek(&h->tx, out->off + off, buf + ihl + thl, len);
  cksum_t sum = cksum_pseudo(&ih.src, &ih.dst, IP_PROTO_TCP, (uint32_t)thl + len);
  sum = cksum_add(sum, buf + ihl, (uint32_t)thl + len);
  cksum_store(buf + ihl + TCP_OFF_CKSUM, cksum_fold(sum));
  path_emit(s, !from, buf, ih.total_len, out->gso_size);
  return 0;
}

int sim_path_send(struct sim *s, int from, const struct tcp_seg_out *out) {
  uint32_t step = out->gso_size && !s->cfg.gro ? out->gso_size : HS_MAX(out->len, 1u), off = 0;
  if (out->len > 0 && out->off + out->len > s->host[from].tx.tail - s->host[from].tx.head) {
    sim_fail(s, "host %d sends %u+%u of %u bytes in its fifo", from, out->off, out->len,
             s->host[from].tx.tail - s->host[from].tx.head);
    return 0;
  }
  uint32_t mtu = s->cfg.mtu ? s->cfg.mtu : 1500;
  do {
    uint32_t len = HS_MIN(step, out->len - off);
    int opts = tcp_hdr_size(&out->opts);
    uint32_t wire = out->gso_size ? out->gso_size : len;
    if (opts < 0 || wire + (uint32_t)opts + (s->cfg.family == 6 ? 40u : 20u) > mtu) {
      sim_fail(s, "host %d sends a segment of %u + %d bytes over mtu %u", from, wire, opts, mtu);
      return 0;
    }
    if (path_packet(s, from, out, off, len) < 0) {
      sim_fail(s, "host %d: segment cannot be built", from);
      return 0;
    }
    off += len;
  } while (off < out->len);
  return 0;
}

/* --- receiving --- */

/* As nicio and ip would: 1 = good. */
static int path_parse(struct sim *s, const struct sim_pkt *p, struct tcp_seg_in *seg, struct tcp_piece pieces[2]) {
  struct ip_hdr ih;
  int ihl = ip_hdr_parse(p->bytes, p->len, &ih);
  if (ihl < 0 || ih.proto != IP_PROTO_TCP || ih.opt_error || (ih.flags & IP_FLAG_FRAG))
    return 0;
  if (ih.version == 4 && !ip4_hdr_cksum_ok(p->bytes, (size_t)ihl))
    return 0;
  if (!ip_addr_eq(&ih.src, &s->addr[!p->to]) || !ip_addr_eq(&ih.dst, &s->addr[p->to]))
    return 0;
  uint32_t len = ih.total_len - (uint32_t)ihl;
  if (!cksum_l4_ok(&ih.src, &ih.dst, IP_PROTO_TCP, p->bytes + ihl, len))
    return 0;
  memset(seg, 0, sizeof *seg);
  int thl = tcp_hdr_parse(p->bytes + ihl, len, &seg->hdr);
  if (thl < 0)
    return 0;
  seg->len = len - (uint32_t)thl;
  seg->ce = (ih.tos & 3u) == 3u;
  uint32_t cut = seg->len / 3; /* two pieces, as from scattered slots */
  pieces[0] = (struct tcp_piece){p->bytes + ihl + thl, cut};
  pieces[1] = (struct tcp_piece){p->bytes + ihl + thl + cut, seg->len - cut};
  seg->pieces = pieces;
  seg->n_pieces = 2;
  seg->segs = p->gso ? (uint32_t)bits_div_up(HS_MAX(seg->len, 1u), p->gso) : 1;
  return 1;
}

int sim_path_due(const struct sim *s, usec_t now) {
  return s->n_heap > 0 && s->heap[0].at <= now;
}

usec_t sim_path_next(const struct sim *s) {
  return s->n_heap > 0 ? s->heap[0].at : UINT64_MAX;
}

void sim_path_deliver(struct sim *s) {
  struct sim_pkt p = heap_pop(s);
  struct tcp_seg_in seg;
  struct tcp_piece pieces[2];
  if (s->host[p.to].down) {
    s->lost++;
  } else if (!path_parse(s, &p, &seg, pieces)) {
    s->corrupted_dropped++;
  } else {
    s->delivered++;
    sim_host_input(s, p.to, &seg);
  }
  free(p.bytes);
}

void sim_path_fini(struct sim *s) {
  for (uint32_t i = 0; i < s->n_heap; i++)
    free(s->heap[i].bytes);
  free(s->heap);
  s->heap = NULL;
  s->n_heap = 0;
}
