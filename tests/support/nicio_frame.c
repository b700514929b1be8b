/*
 * Building and checking of test frames (nicio_frame.h).
 */
#include "nicio_frame.h"

#include "hdrs.h"
#include "wire/cksum.h"
#include "wire/eth.h"
#include "wire/ip.h"
#include "wire/tcp.h"
#include "wire/udp.h"

#include <stdlib.h>

static uint32_t frame_l4(const struct frame_spec *s) {
  return ETH_HLEN + (s->v6 ? IP6_HLEN : IP4_HLEN);
}

uint32_t frame_head(const struct frame_spec *s) {
  return frame_l4(s) + (s->udp ? UDP_HLEN : TCP_HLEN + (s->ts ? 12u : 0u));
}

static void frame_ip(const struct frame_spec *s, struct ip_hdr *ip, uint32_t len) {
  static const uint8_t a6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  static const uint8_t b6[16] = {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};

  memset(ip, 0, sizeof *ip);
  ip->version = s->v6 ? 6 : 4;
  ip->ttl = 64;
  ip->tos = s->tos;
  ip->proto = s->udp ? IP_PROTO_UDP : IP_PROTO_TCP;
  ip->total_len = len - ETH_HLEN;
  ip->frag_id = s->id;
  ip->flags = s->v6 ? 0 : IP_FLAG_DF;
  ip->src = s->v6 ? ip_addr_load6(a6) : ip_addr_from4(0x0a000001);
  ip->dst = s->v6 ? ip_addr_load6(b6) : ip_addr_from4(0x0a000002);
}

static void frame_tcp(const struct frame_spec *s, uint8_t *p, size_t room) {
  struct tcp_hdr h;

  memset(&h, 0, sizeof h);
  h.sport = s->sport;
  h.dport = 80;
  h.seq = s->seq;
  h.ack = s->ack;
  h.flags = s->tcp_flags;
  h.wnd = 1000;
  if (s->ts) {
    h.opts.present = TCP_OPT_HAS_TS;
    h.opts.ts_val = s->ts;
    h.opts.ts_ecr = 7;
  }
  if (tcp_hdr_build(p, room, &h) < 0)
    abort();
}

uint32_t frame_build(uint8_t *f, const struct frame_spec *s) {
  uint32_t head = frame_head(s), len = head + s->payload, l4 = frame_l4(s);
  struct ip_hdr ip;

  memset(f, 0, head);
  f[5] = 2;
  f[11] = 1;
  store_be16(f + 12, s->v6 ? ETH_TYPE_IP6 : ETH_TYPE_IP4);
  frame_ip(s, &ip, len);
  if (ip_hdr_build(f + ETH_HLEN, len, &ip) < 0)
    abort();
  if (s->udp) {
    struct udp_hdr u = {.sport = s->sport, .dport = 53, .len = (uint16_t)(len - l4)};
    if (udp_hdr_build(f + l4, len - l4, &u) < 0)
      abort();
  } else {
    frame_tcp(s, f + l4, len - l4);
  }
  for (uint32_t i = 0; i < s->payload; i++)
    f[head + i] = frame_byte(s->seq + i);
  uint8_t *field = f + l4 + (s->udp ? UDP_OFF_CKSUM : TCP_OFF_CKSUM);
  cksum_t sum = cksum_pseudo(&ip.src, &ip.dst, ip.proto, len - l4);
  cksum_store(field, 0);
  if (s->partial)
    cksum_store(field, cksum_reduce(sum));
  else
    cksum_store(field, cksum_fold(cksum_add(sum, f + l4, len - l4)));
  return len;
}

int frame_check(const uint8_t *f, uint32_t len, struct frame_spec *out) {
  struct hdrs h;
  struct ip_hdr ip;

  memset(out, 0, sizeof *out);
  if (hdrs_parse(f, len, &h) < 0 || h.l3 + h.ip_len != len || h.payload == 0)
    return -__LINE__;
  if (ip_hdr_parse(f + h.l3, len - h.l3, &ip) < 0)
    return -__LINE__;
  if (h.version == 4 && !ip4_hdr_cksum_ok(f + h.l3, IP4_HLEN))
    return -__LINE__;
  if (!cksum_l4_ok(&ip.src, &ip.dst, h.proto, f + h.l4, len - h.l4))
    return -__LINE__;
  out->v6 = h.version == 6;
  out->udp = h.proto == IP_PROTO_UDP;
  out->payload = len - h.payload;
  out->id = (uint16_t)ip.frag_id;
  if (out->udp)
    return load_be16(f + h.l4 + UDP_OFF_LEN) == len - h.l4 ? 0 : -__LINE__;
  out->seq = load_be32(f + h.l4 + TCP_OFF_SEQ);
  out->tcp_flags = f[h.l4 + TCP_OFF_FLAGS];
  for (uint32_t i = 0; i < out->payload; i++)
    if (f[h.payload + i] != frame_byte(out->seq + i))
      return -__LINE__;
  return 0;
}
