/*
 * TCP header and options, parse and build. Called per segment by the engine's tcp room; hot path. The common header of
 * a connection with timestamps (32 bytes: NOP NOP TS) takes a short way.
 */
#include "wire/tcp.h"
#include "base/bits.h"

enum tcp_opt_kind {
  TCP_OPT_END = 0,
  TCP_OPT_NOP = 1,
  TCP_OPT_MSS = 2,
  TCP_OPT_WSCALE = 3,
  TCP_OPT_SACK_OK = 4,
  TCP_OPT_SACK = 5,
  TCP_OPT_TS = 8,
  TCP_OPT_TFO = 34,
};

#define TCP_TS_WORD 0x0101080au /* NOP NOP kind 8 length 10 */

static uint32_t tcp_opt_sack(const uint8_t *p, unsigned size, struct tcp_opts *o) {
  unsigned n = (size - 2) / 8;
  if (size < 10 || (size - 2) % 8 != 0 || n > TCP_SACK_MAX)
    return TCP_OPT_HAS_BAD;
  for (unsigned i = 0; i < n; i++) {
    o->sack[i].l = load_be32(p + 2 + 8 * i);
    o->sack[i].r = load_be32(p + 6 + 8 * i);
  }
  o->n_sack = (uint8_t)n;
  return TCP_OPT_HAS_SACK;
}

static uint32_t tcp_opt_tfo(const uint8_t *p, unsigned size, struct tcp_opts *o) {
  unsigned n = size - 2;
  if (n != 0 && (n < TCP_TFO_MIN || n > TCP_TFO_MAX || n % 2 != 0)) /* RFC 7413 4.1.1 */
    return TCP_OPT_HAS_BAD;
  memcpy(o->tfo, p + 2, n);
  o->tfo_len = (uint8_t)n;
  return TCP_OPT_HAS_TFO;
}

/* One option of kind, length and body; returns its bit of `present`. */
static uint32_t tcp_opt_take(const uint8_t *p, unsigned size, struct tcp_opts *o) {
  switch (p[0]) {
  case TCP_OPT_MSS:
    if (size != 4)
      return TCP_OPT_HAS_BAD;
    o->mss = load_be16(p + 2);
    return TCP_OPT_HAS_MSS;
  case TCP_OPT_WSCALE:
    if (size != 3)
      return TCP_OPT_HAS_BAD;
    o->wscale = p[2];
    return TCP_OPT_HAS_WSCALE;
  case TCP_OPT_SACK_OK:
    return size == 2 ? TCP_OPT_HAS_SACK_OK : TCP_OPT_HAS_BAD;
  case TCP_OPT_SACK:
    return tcp_opt_sack(p, size, o);
  case TCP_OPT_TS:
    if (size != 10)
      return TCP_OPT_HAS_BAD;
    o->ts_val = load_be32(p + 2);
    o->ts_ecr = load_be32(p + 6);
    return TCP_OPT_HAS_TS;
  case TCP_OPT_TFO:
    return tcp_opt_tfo(p, size, o);
  default:
    return TCP_OPT_HAS_UNKNOWN; /* RFC 9293 3.1: MUST-6 */
  }
}

static uint32_t tcp_opts_walk(const uint8_t *p, unsigned end, struct tcp_opts *o) {
  uint32_t present = 0;
  for (unsigned at = TCP_HLEN; at < end && p[at] != TCP_OPT_END;) {
    if (p[at] == TCP_OPT_NOP) {
      at++;
      continue;
    }
    if (at + 2 > end || p[at + 1] < 2 || at + p[at + 1] > end)
      return present | TCP_OPT_HAS_BAD; /* no telling where the next one begins (MUST-7) */
    present |= tcp_opt_take(p + at, p[at + 1], o);
    at += p[at + 1];
  }
  return present;
}

int tcp_hdr_parse(const uint8_t *p, size_t len, struct tcp_hdr *out) {
  if (len < TCP_HLEN)
    return WIRE_SHORT;
  unsigned hdr_len = (p[12] >> 4) * 4u;
  if (hdr_len < TCP_HLEN)
    return WIRE_LENGTH;
  if (hdr_len > len)
    return WIRE_SHORT;
  out->sport = load_be16(p);
  out->dport = load_be16(p + 2);
  out->seq = load_be32(p + TCP_OFF_SEQ);
  out->ack = load_be32(p + TCP_OFF_ACK);
  out->flags = load_be16(p + 12) & 0x1ff;
  out->wnd = load_be16(p + TCP_OFF_WND);
  out->cksum = load_be16(p + TCP_OFF_CKSUM);
  out->urg = load_be16(p + 18);
  out->hdr_len = (uint8_t)hdr_len;
  struct tcp_opts *o = &out->opts;
  o->n_sack = o->tfo_len = 0;
  if (hdr_len == 32 && load_be32(p + TCP_HLEN) == TCP_TS_WORD) {
    o->present = TCP_OPT_HAS_TS;
    o->ts_val = load_be32(p + 24);
    o->ts_ecr = load_be32(p + 28);
  } else {
    o->present = tcp_opts_walk(p, hdr_len, o);
  }
  return (int)hdr_len;
}

static unsigned tcp_sack_fit(const struct tcp_opts *o, unsigned used) {
  if (!(o->present & TCP_OPT_HAS_SACK) || used + 12 > TCP_OPTS_MAX)
    return 0;
  return HS_MIN((unsigned)o->n_sack, (TCP_OPTS_MAX - used - 4) / 8);
}

/* Bytes of all options but SACK, in multiples of 4. */
static unsigned tcp_opts_size(const struct tcp_opts *o) {
  unsigned n = 0;
  if (o->present & TCP_OPT_HAS_MSS)
    n += 4;
  if (o->present & TCP_OPT_HAS_TS)
    n += 12; /* with its two bytes of NOP or SACK_OK */
  else if (o->present & TCP_OPT_HAS_SACK_OK)
    n += 4;
  if (o->present & TCP_OPT_HAS_WSCALE)
    n += 4;
  if (o->present & TCP_OPT_HAS_TFO)
    n += (unsigned)bits_align_up(2u + o->tfo_len, 4);
  return n;
}

int tcp_hdr_size(const struct tcp_opts *o) {
  if (o->present & TCP_OPT_HAS_WSCALE && o->wscale > TCP_WSCALE_MAX)
    return WIRE_VALUE;
  if (o->present & TCP_OPT_HAS_SACK && (o->n_sack == 0 || o->n_sack > TCP_SACK_MAX))
    return WIRE_VALUE;
  if (o->present & TCP_OPT_HAS_TFO && o->tfo_len != 0 &&
      (o->tfo_len < TCP_TFO_MIN || o->tfo_len > TCP_TFO_MAX || o->tfo_len % 2 != 0))
    return WIRE_VALUE;
  unsigned size = tcp_opts_size(o);
  if (size > TCP_OPTS_MAX)
    return WIRE_LIMIT;
  unsigned n_sack = tcp_sack_fit(o, size);
  return (int)(TCP_HLEN + size + (n_sack != 0 ? 4 + 8 * n_sack : 0));
}

static uint8_t *tcp_put_ts(uint8_t *p, const struct tcp_opts *o) {
  store_be32(p, TCP_TS_WORD);
  if (o->present & TCP_OPT_HAS_SACK_OK)
    store_be16(p, TCP_OPT_SACK_OK << 8 | 2);
  store_be32(p + 4, o->ts_val);
  store_be32(p + 8, o->ts_ecr);
  return p + 12;
}

static uint8_t *tcp_put_tfo(uint8_t *p, const struct tcp_opts *o) {
  unsigned size = 2u + o->tfo_len;
  uint8_t *end = p + bits_align_up(size, 4);
  p[0] = TCP_OPT_TFO;
  p[1] = (uint8_t)size;
  memcpy(p + 2, o->tfo, o->tfo_len);
  for (p += size; p < end; p++)
    *p = TCP_OPT_NOP;
  return end;
}

static void tcp_put_sack(uint8_t *p, const struct tcp_opts *o, unsigned n) {
  store_be32(p, 0x01010500u | (2 + 8 * n));
  for (unsigned i = 0; i < n; i++) {
    store_be32(p + 4 + 8 * i, o->sack[i].l);
    store_be32(p + 8 + 8 * i, o->sack[i].r);
  }
}

/* Options in the order that other stacks use; the sizes are those of tcp_opts_size. */
static void tcp_opts_put(uint8_t *p, const struct tcp_opts *o) {
  unsigned n_sack = tcp_sack_fit(o, tcp_opts_size(o));
  if (o->present & TCP_OPT_HAS_MSS) {
    store_be32(p, TCP_OPT_MSS << 24 | 4u << 16 | o->mss);
    p += 4;
  }
  if (o->present & TCP_OPT_HAS_TS) {
    p = tcp_put_ts(p, o);
  } else if (o->present & TCP_OPT_HAS_SACK_OK) {
    store_be32(p, 0x01010000u | TCP_OPT_SACK_OK << 8 | 2);
    p += 4;
  }
  if (o->present & TCP_OPT_HAS_WSCALE) {
    store_be32(p, 0x01000000u | TCP_OPT_WSCALE << 16 | 3u << 8 | o->wscale);
    p += 4;
  }
  if (o->present & TCP_OPT_HAS_TFO)
    p = tcp_put_tfo(p, o);
  if (n_sack != 0)
    tcp_put_sack(p, o, n_sack);
}

int tcp_hdr_build(uint8_t *p, size_t room, const struct tcp_hdr *in) {
  int size = tcp_hdr_size(&in->opts);
  if (size < 0)
    return size;
  if ((size_t)size > room)
    return WIRE_ROOM;
  store_be16(p, in->sport);
  store_be16(p + 2, in->dport);
  store_be32(p + TCP_OFF_SEQ, in->seq);
  store_be32(p + TCP_OFF_ACK, in->ack);
  store_be16(p + 12, (uint16_t)((unsigned)size / 4u << 12 | (in->flags & 0x1ffu)));
  store_be16(p + TCP_OFF_WND, in->wnd);
  store_be16(p + TCP_OFF_CKSUM, 0);
  store_be16(p + 18, in->urg);
  if (size > (int)TCP_HLEN)
    tcp_opts_put(p + TCP_HLEN, &in->opts);
  return size;
}
