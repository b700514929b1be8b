/*
 * Frames of the packet suite, built and read byte by byte: nothing of common/wire is used, so that the code under test
 * is not its own judge. Called by run.c.
 */
#include "pkt.h"

#include <string.h>

static void put16(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 8);
  p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v) {
  put16(p, v >> 16);
  put16(p + 2, v & 0xffff);
}

static uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p) {
  return (uint32_t)get16(p) << 16 | get16(p + 2);
}

uint8_t pkt_byte(uint32_t pos) {
  return (uint8_t)(pos * 31 + (pos >> 8) + 7);
}

static uint32_t sum_add(uint32_t sum, const uint8_t *p, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

/* RFC 1071; pseudo-header RFC 9293 3.1, RFC 8200 8.1. */
static uint16_t l4_sum(const uint8_t *src, const uint8_t *dst, unsigned alen, uint8_t proto, const uint8_t *p,
                       uint32_t n) {
  uint8_t tail[4] = {0, proto, (uint8_t)(n >> 8), (uint8_t)n};
  uint32_t sum = sum_add(0, src, alen);
  sum = sum_add(sum, dst, alen);
  sum = sum_add(sum, tail, 4);
  sum = sum_add(sum, p, n);
  return (uint16_t)~sum;
}

void pkt_addr_init(struct pkt_addr *a, int family) {
  memset(a, 0, sizeof *a);
  a->family = family;
  memcpy(a->dut_mac, "\2\0\0\0\0\1", 6);
  memcpy(a->peer_mac, "\2\0\0\0\0\2", 6);
  if (family == 4) {
    memcpy(a->dut, "\x0a\0\0\1", 4);
    memcpy(a->peer, "\x0a\0\0\2", 4);
  } else {
    a->dut[0] = a->peer[0] = 0xfd;
    a->dut[15] = 1;
    a->peer[15] = 2;
  }
}

static uint32_t head(uint8_t *f, const struct pkt_addr *a, uint8_t proto, uint8_t ecn, uint32_t len) {
  memcpy(f, a->dut_mac, 6);
  memcpy(f + 6, a->peer_mac, 6);
  uint8_t *ip = f + 14;
  if (a->family == 4) {
    put16(f + 12, 0x0800);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[1] = ecn;
    put16(ip + 2, 20 + len);
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = proto;
    memcpy(ip + 12, a->peer, 4);
    memcpy(ip + 16, a->dut, 4);
    put16(ip + 10, (uint16_t)~sum_add(0, ip, 20));
    return 34;
  }
  put16(f + 12, 0x86dd);
  memset(ip, 0, 40);
  ip[0] = 0x60;
  ip[1] = (uint8_t)(ecn << 4);
  put16(ip + 4, len);
  ip[6] = proto;
  ip[7] = 64;
  memcpy(ip + 8, a->peer, 16);
  memcpy(ip + 24, a->dut, 16);
  return 54;
}

uint32_t pkt_frame_build(uint8_t *out, const struct pkt_addr *a, const struct pkt_build *b) {
  uint32_t n = 20 + b->n_opt + b->len, off = head(out, a, 6, b->ecn, n);
  uint8_t *t = out + off;
  memset(t, 0, 20);
  put16(t, b->sport);
  put16(t + 2, b->dport);
  put32(t + 4, b->seq);
  put32(t + 8, b->ack);
  t[12] = (uint8_t)((5 + b->n_opt / 4) << 4);
  t[13] = b->flags;
  put16(t + 14, b->win);
  put16(t + 18, b->urg);
  if (b->n_opt)
    memcpy(t + 20, b->opt, b->n_opt);
  for (uint32_t i = 0; i < b->len; i++)
    t[20 + b->n_opt + i] = pkt_byte(b->pos + i);
  uint16_t sum = l4_sum(a->peer, a->dut, a->family == 4 ? 4 : 16, 6, t, n);
  put16(t + 16, b->badsum ? sum ^ 0x0101u : sum);
  return off + n;
}

uint32_t pkt_frame_extend(uint8_t *f, uint32_t n, const struct pkt_addr *a) {
  static const uint8_t nops[4] = {1, 1, 1, 0}, options[16] = {60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0};
  uint8_t *ip = f + 14;
  uint32_t off = a->family == 4 ? 34 : 54, more = a->family == 4 ? sizeof nops : sizeof options;
  memmove(f + off + more, f + off, n - off);
  memcpy(f + off, a->family == 4 ? nops : options, more);
  if (a->family == 4) {
    ip[0] = 0x46;
    put16(ip + 2, get16(ip + 2) + more);
    put16(ip + 10, 0);
    put16(ip + 10, (uint16_t)~sum_add(0, ip, 24));
  } else {
    ip[6] = 0;
    put16(ip + 4, get16(ip + 4) + more);
  }
  return n + more;
}

uint32_t pkt_frame_part(uint8_t *out, const uint8_t *f, uint32_t n, const struct pkt_addr *a, unsigned part) {
  uint32_t head_len = a->family == 4 ? 14 + (uint32_t)(f[14] & 15) * 4 : f[20] ? 54 : 62, cut = 40;
  uint32_t from = part ? cut : 0, len = part ? n - head_len - cut : cut, off = head_len;
  uint8_t *ip = out + 14;
  memcpy(out, f, head_len);
  if (a->family == 4) {
    put16(ip + 2, head_len - 14 + len);
    put16(ip + 4, 4711);
    put16(ip + 6, part ? cut / 8 : 0x2000);
    put16(ip + 10, 0);
    put16(ip + 10, (uint16_t)~sum_add(0, ip, head_len - 14));
  } else {
    uint8_t *next = ip[6] ? ip + 6 : ip + 40; /* behind the hop-by-hop options, if there are any */
    put16(ip + 4, off - 54 + 8 + len);
    out[off] = *next;
    *next = 44;
    out[off + 1] = 0;
    put16(out + off + 2, part ? cut : 1);
    put32(out + off + 4, 4711);
    off += 8;
  }
  memcpy(out + off, f + head_len + from, len);
  return off + len;
}

uint32_t pkt_frame_icmp(uint8_t *out, const struct pkt_addr *a, uint8_t type, uint8_t code, uint32_t rest,
                        uint16_t sport, uint16_t dport, uint32_t seq) {
  uint8_t quote[60] = {0};
  uint32_t iph = a->family == 4 ? 20 : 40, n = 8 + iph + 20;
  struct pkt_addr back = *a; /* the device's own segment, as it left */
  uint8_t frame[128];
  memcpy(back.peer, a->dut, 16);
  memcpy(back.dut, a->peer, 16);
  (void)head(frame, &back, 6, 0, 20);
  memcpy(quote, frame + 14, iph);
  put16(quote + iph, sport);
  put16(quote + iph + 2, dport);
  put32(quote + iph + 4, seq);
  quote[iph + 12] = 0x50;
  quote[iph + 13] = TH_ACK;
  uint32_t off = head(out, a, a->family == 4 ? 1 : 58, 0, n);
  uint8_t *p = out + off;
  memset(p, 0, 8);
  p[0] = type;
  p[1] = code;
  put32(p + 4, rest);
  memcpy(p + 8, quote, iph + 20);
  put16(p + 2, a->family == 4 ? (uint16_t)~sum_add(0, p, n) : l4_sum(a->peer, a->dut, 16, 58, p, n));
  return off + n;
}

static int parse_option(const uint8_t *o, uint32_t n, struct pkt_wire *w) {
  switch (o[0]) {
  case 2:
    w->has |= PKT_HAS_MSS;
    w->mss = get16(o + 2);
    return n == 4;
  case 3:
    w->has |= PKT_HAS_WS;
    w->ws = o[2];
    return n == 3;
  case 4:
    w->has |= PKT_HAS_SACKOK;
    return n == 2;
  case 5:
    w->has |= PKT_HAS_SACK;
    w->n_sack = (n - 2) / 8;
    if (n < 10 || n > 34 || (n - 2) % 8)
      return 0;
    for (unsigned i = 0; i < w->n_sack; i++) {
      w->sack[i][0] = get32(o + 2 + 8 * i);
      w->sack[i][1] = get32(o + 6 + 8 * i);
    }
    return 1;
  case 8:
    w->has |= PKT_HAS_TS;
    if (n != 10)
      return 0;
    w->ts = get32(o + 2);
    w->ecr = get32(o + 6);
    return 1;
  case 34:
    w->has |= PKT_HAS_COOKIE;
    w->n_cookie = n - 2;
    if (n > 18)
      return 0;
    memcpy(w->cookie, o + 2, n - 2);
    return 1;
  default:
    return 0;
  }
}

/* 0 = options that no stack should send */
static int parse_options(const uint8_t *o, uint32_t n, struct pkt_wire *w) {
  for (uint32_t i = 0; i < n;) {
    if (o[i] == 0)
      return 1;
    if (o[i] == 1) {
      i++;
      continue;
    }
    if (i + 1 >= n || o[i + 1] < 2 || i + o[i + 1] > n || !parse_option(o + i, o[i + 1], w))
      return 0;
    i += o[i + 1];
  }
  return 1;
}

int pkt_frame_parse(const uint8_t *f, uint32_t len, const struct pkt_addr *a, int sum, struct pkt_wire *w) {
  memset(w, 0, sizeof *w);
  const uint8_t *ip = f + 14, *t;
  uint32_t n;
  if (a->family == 4) {
    if (len < 54 || get16(f + 12) != 0x0800 || ip[0] != 0x45 || ip[9] != 6 || memcmp(ip + 16, a->peer, 4))
      return 0;
    w->ecn = ip[1] & 3;
    w->ttl = ip[8];
    n = get16(ip + 2) - 20u;
    t = ip + 20;
    w->sum_bad = sum && sum_add(0, ip, 20) != 0xffff;
  } else {
    if (len < 74 || get16(f + 12) != 0x86dd || ip[6] != 6 || memcmp(ip + 24, a->peer, 16))
      return 0;
    w->ecn = ip[1] >> 4 & 3;
    w->ttl = ip[7];
    n = get16(ip + 4);
    t = ip + 40;
  }
  uint32_t off = (uint32_t)(t[12] >> 4) * 4;
  if (n > len - (uint32_t)(t - f) || n < 20 || off < 20 || off > n)
    return 0;
  if (sum && l4_sum(a->family == 4 ? ip + 12 : ip + 8, a->peer, a->family == 4 ? 4 : 16, 6, t, n) != 0)
    w->sum_bad = 1;
  w->sport = get16(t);
  w->dport = get16(t + 2);
  w->seq = get32(t + 4);
  w->ack = get32(t + 8);
  w->flags = t[13];
  w->win = get16(t + 14);
  w->urg = get16(t + 18);
  if (!parse_options(t + 20, off - 20, w))
    w->sum_bad = 1;
  w->data = t + off;
  w->len = n - off;
  return 1;
}

static uint32_t arp(uint8_t *out, const struct pkt_addr *a, unsigned op, const uint8_t *to_mac) {
  memset(out, 0, 60);
  memcpy(out, to_mac, 6);
  memcpy(out + 6, a->peer_mac, 6);
  put16(out + 12, 0x0806);
  memcpy(out + 14, "\0\1\x08\0\6\4", 6);
  put16(out + 20, op);
  memcpy(out + 22, a->peer_mac, 6);
  memcpy(out + 28, a->peer, 4);
  if (op == 2)
    memcpy(out + 32, a->dut_mac, 6);
  memcpy(out + 38, a->dut, 4);
  return 60;
}

/* Neighbour solicitation (135) or advertisement (136), RFC 4861 4.3, 4.4. */
static uint32_t nd(uint8_t *out, const struct pkt_addr *a, uint8_t type) {
  uint32_t off = head(out, a, 58, 0, 32);
  uint8_t *p = out + off;
  out[14 + 7] = 255;
  memset(p, 0, 32);
  p[0] = type;
  if (type == 136)
    p[4] = 0x60;
  memcpy(p + 8, type == 136 ? a->peer : a->dut, 16);
  p[24] = type == 136 ? 2 : 1;
  p[25] = 1;
  memcpy(p + 26, a->peer_mac, 6);
  put16(p + 2, l4_sum(a->peer, a->dut, 16, 58, p, 32));
  return off + 32;
}

uint32_t pkt_frame_answer(const uint8_t *f, uint32_t len, const struct pkt_addr *a, uint8_t *out) {
  if (a->family == 4)
    return len >= 42 && get16(f + 12) == 0x0806 && get16(f + 20) == 1 && !memcmp(f + 38, a->peer, 4)
               ? arp(out, a, 2, a->dut_mac)
               : 0;
  return len >= 78 && get16(f + 12) == 0x86dd && f[20] == 58 && f[54] == 135 && !memcmp(f + 62, a->peer, 16) &&
                 !memcmp(f + 22, a->dut, 16)
             ? nd(out, a, 136)
             : 0;
}

uint32_t pkt_frame_ask(uint8_t *out, const struct pkt_addr *a) {
  return a->family == 4 ? arp(out, a, 1, (const uint8_t *)"\xff\xff\xff\xff\xff\xff") : nd(out, a, 135);
}
