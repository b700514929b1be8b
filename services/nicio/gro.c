/*
 * Software GRO (gro.h). RFC 9293, 791, 8200, 3168. Lcore thread, hot path.
 */
#include "gro.h"

#include "base/bits.h"
#include "hdrs.h"
#include "wire/cksum.h"
#include "wire/ip.h"
#include "wire/tcp.h"

#define GRO_FLOWS   16u /* followed at once in a burst; more are simply not merged */
#define GRO_BURST   1200u
#define GRO_NONE    0xffffu
#define GRO_LEN_MAX 65535u

/** A frame of the burst: its descriptors, or a segment that was appended to another. */
struct gro_item {
  uint16_t at, n; /* descriptors d[at..at+n) */
  uint16_t next;  /* item whose payload follows in the same merged frame */
};
/** A flow whose merged frame may still grow. */
struct gro_flow {
  uint16_t head, last; /* items */
  uint16_t pieces;
  uint16_t l3, l4, payload; /* offsets */
  uint8_t version;
  uint8_t psh;
  uint16_t mss;
  uint32_t ip_len; /* of the merged packet */
  uint32_t next_seq;
  uint8_t *p; /* first segment */
};
struct gro {
  struct gro_item item[GRO_BURST];
  struct gro_flow flow[GRO_FLOWS];
  uint32_t n_flows;
};

/** A segment that may be merged: plain TCP data of one piece, headers legible, sum right. */
static int gro_fits(uint8_t *p, const struct abi_frame_desc *d, struct hdrs *h) {
  if (hdrs_parse(p, d->len, h) < 0 || (d->flags & (ABI_FR_CHAIN | PKT_GSO_ANY)))
    return 0;
  if (h->payload == 0 || h->proto != IP_PROTO_TCP || h->frag || h->opts || h->l3 + h->ip_len > d->len ||
      h->payload >= h->l3 + h->ip_len)
    return 0;
  uint8_t flags = p[h->l4 + TCP_OFF_FLAGS];
  return (flags & ~TCP_PSH) == TCP_ACK;
}

static int gro_sum_ok(const uint8_t *p, const struct hdrs *h, uint16_t flags) {
  const uint8_t *ip = p + h->l3;
  uint32_t len = h->l3 + h->ip_len - h->l4;

  if (h->version == 4 && !ip4_hdr_cksum_ok(ip, IP4_HLEN))
    return 0;
  if (flags & (ABI_FR_CSUM_OK | ABI_FR_CSUM_PART))
    return 1;
  cksum_t sum;
  if (h->version == 4) {
    sum = cksum_pseudo4(load_be32(ip + 12), load_be32(ip + 16), IP_PROTO_TCP, len);
  } else {
    struct ip_addr src = ip_addr_load6(ip + 8), dst = ip_addr_load6(ip + 24);
    sum = cksum_pseudo6(&src, &dst, IP_PROTO_TCP, len);
  }
  return cksum_fold(cksum_add(sum, p + h->l4, len)) == 0;
}

/** Same flow: addresses and ports. */
static int gro_same_flow(const struct gro_flow *f, const uint8_t *p, const struct hdrs *h) {
  uint32_t at = h->version == 4 ? 12 : 8, n = h->version == 4 ? 8 : 32;

  return f->version == h->version && f->l3 == h->l3 && f->l4 == h->l4 &&
         memcmp(f->p + f->l3 + at, p + h->l3 + at, n) == 0 && memcmp(f->p + f->l4, p + h->l4, 4) == 0;
}

/** Everything else alike, and in order. */
static int gro_continues(const struct gro_flow *f, const uint8_t *p, const struct hdrs *h, uint32_t len) {
  const uint8_t *a = f->p, *b = p;
  uint32_t l3 = h->l3, l4 = h->l4;

  if (f->psh || f->payload != h->payload || f->pieces >= GRO_PIECES || f->ip_len + len > GRO_LEN_MAX || len > f->mss)
    return 0;
  if (memcmp(a, b, l3) != 0 || load_be32(b + l4 + TCP_OFF_SEQ) != f->next_seq)
    return 0;
  if (h->version == 4) { /* version, TOS; flags, TTL, protocol */
    if (memcmp(a + l3, b + l3, 2) != 0 || memcmp(a + l3 + 6, b + l3 + 6, 4) != 0)
      return 0;
  } else if (memcmp(a + l3, b + l3, 4) != 0 || memcmp(a + l3 + 6, b + l3 + 6, 2) != 0) {
    return 0;
  }
  /* ACK, data offset; window; urgent pointer and options */
  return memcmp(a + l4 + TCP_OFF_ACK, b + l4 + TCP_OFF_ACK, 5) == 0 &&
         memcmp(a + l4 + TCP_OFF_WND, b + l4 + TCP_OFF_WND, 2) == 0 &&
         memcmp(a + l4 + 18, b + l4 + 18, (size_t)(h->payload - l4 - 18)) == 0;
}

static void gro_start(struct gro *g, uint16_t item, uint8_t *p, const struct hdrs *h) {
  if (g->n_flows == GRO_FLOWS)
    return;
  uint32_t len = h->l3 + h->ip_len - h->payload;
  g->flow[g->n_flows++] = (struct gro_flow){.head = item,
                                            .last = item,
                                            .pieces = 1,
                                            .l3 = h->l3,
                                            .l4 = h->l4,
                                            .payload = h->payload,
                                            .version = h->version,
                                            .psh = p[h->l4 + TCP_OFF_FLAGS] & TCP_PSH,
                                            .mss = (uint16_t)len,
                                            .ip_len = h->ip_len,
                                            .next_seq = load_be32(p + h->l4 + TCP_OFF_SEQ) + len,
                                            .p = p};
}

/** The flow's merged frame is complete: write its lengths and flags into the first segment and its descriptor. */
static void gro_finish(struct gro_flow *f, struct abi_frame_desc *first) {
  if (f->pieces == 1)
    return;
  uint8_t *ip = f->p + f->l3;
  if (f->version == 4)
    ip_hdr_set_len(ip, f->ip_len, load_be16(ip + 4));
  else
    store_be16(ip + 4, (uint16_t)(f->ip_len - IP6_HLEN));
  f->p[f->l4 + TCP_OFF_FLAGS] |= f->psh;
  first->gso_size = f->mss;
  first->flags = (uint16_t)(ABI_FR_CSUM_OK | ABI_FR_CHAIN | (f->version == 4 ? ABI_FR_GSO_TCP4 : ABI_FR_GSO_TCP6));
  first->csum_start = 0;
  first->csum_off = 0;
}

static void gro_close(struct gro *g, uint32_t i, struct abi_frame_desc *d) {
  gro_finish(&g->flow[i], &d[g->item[g->flow[i].head].at]);
  g->flow[i] = g->flow[--g->n_flows];
}

/** One frame of the burst. Returns 1 when it was appended to another. */
static uint32_t gro_frame(struct gro *g, uint8_t *base, struct abi_frame_desc *d, uint16_t item) {
  struct abi_frame_desc *me = &d[g->item[item].at];
  uint8_t *p = base + me->off;
  struct hdrs h;
  uint32_t i;

  int fits = gro_fits(p, me, &h);
  if (!fits && (h.payload == 0 || h.proto != IP_PROTO_TCP))
    return 0; /* no TCP segment: it cannot get before one of its own flow */
  for (i = 0; i < g->n_flows && !gro_same_flow(&g->flow[i], p, &h); i++)
    ;
  fits = fits && gro_sum_ok(p, &h, me->flags);
  if (i == g->n_flows) {
    if (fits)
      gro_start(g, item, p, &h);
    return 0;
  }
  struct gro_flow *f = &g->flow[i];
  uint32_t len = h.l3 + h.ip_len - h.payload;
  if (!fits || !gro_continues(f, p, &h, len)) {
    gro_close(g, i, d);
    if (fits)
      gro_start(g, item, p, &h);
    return 0;
  }
  g->item[f->last].next = item;
  f->last = item;
  f->pieces++;
  f->ip_len += len;
  f->next_seq += len;
  f->psh = p[h.l4 + TCP_OFF_FLAGS] & TCP_PSH;
  if (len < f->mss) /* a short one ends the train, as PSH does */
    f->psh |= 0x80u;
  me->off += h.payload;
  me->len = len;
  me->flags = 0;
  g->item[item].at |= 0x8000u;
  return 1;
}

/** Descriptors of one frame with all that was appended to it. */
static uint32_t gro_emit(const struct gro *g, const struct abi_frame_desc *d, uint16_t item,
                         struct abi_frame_desc *out) {
  uint32_t n = 0;

  for (uint16_t i = item; i != GRO_NONE; i = g->item[i].next) {
    memcpy(&out[n], &d[g->item[i].at & 0x7fffu], g->item[i].n * sizeof *out);
    n += g->item[i].n;
    if (g->item[i].next != GRO_NONE)
      out[n - 1].flags |= ABI_FR_CHAIN;
  }
  return n;
}

uint32_t gro_merge(uint8_t *base, const struct abi_frame_desc *d, uint32_t n, struct abi_frame_desc *out,
                   uint32_t *merged) {
  static __thread struct gro g;
  static __thread struct abi_frame_desc work[GRO_BURST];
  uint16_t items = 0;
  uint32_t done = 0;

  *merged = 0;
  if (n > GRO_BURST || n < 2) {
    memcpy(out, d, n * sizeof *out);
    return n;
  }
  memcpy(work, d, n * sizeof *work);
  g.n_flows = 0;
  for (uint32_t at = 0; at < n; items++) {
    uint32_t end = at;
    while (end < n - 1 && (work[end].flags & ABI_FR_CHAIN))
      end++;
    g.item[items] = (struct gro_item){.at = (uint16_t)at, .n = (uint16_t)(end + 1 - at), .next = GRO_NONE};
    *merged += gro_frame(&g, base, work, items);
    at = end + 1;
  }
  while (g.n_flows > 0)
    gro_close(&g, 0, work);
  for (uint16_t i = 0; i < items; i++)
    if (!(g.item[i].at & 0x8000u))
      done += gro_emit(&g, work, i, out + done);
  return done;
}
