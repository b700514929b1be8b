/*
 * Packets from the link: demultiplexing by Ethernet type, and what must hold of an IP packet before anybody above sees
 * it (RFC 1122 3.2.1, RFC 8200 4). Called by the worker loop for every frame; hot path.
 *
 * Every refusal has its counter. A TTL of 0 or 1 is no reason to refuse (RFC 1122 3.2.1.7). Fragments go
 * through reasm.c and come back whole.
 */
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"
#include "wire/icmp.h"

/* Parses and checks the header in itself; counted if it is refused. */
static int ip_input_header(struct ip_stack *s, struct pkt *p, const struct ip_view *v) {
  const uint8_t *h = v->h + p->l3_off;
  uint32_t avail = v->avail - p->l3_off;
  int len = ip_hdr_parse_quoted(h, avail, &p->ip); /* the payload may lie in other pieces */
  enum ip_counter why = IPC_RX_BAD_HDR;
  if (HS_UNLIKELY(len < 0)) {
    if (len == WIRE_LENGTH || len == WIRE_SHORT)
      why = IPC_RX_BAD_LEN;
    else if (len == WIRE_LIMIT)
      why = IPC_RX_LIMIT;
    else if (len == WIRE_VALUE)
      why = IPC_RX_MARTIAN_SRC;
    goto refuse;
  }
  if (HS_UNLIKELY(p->ip.version != (p->ethertype == ETH_TYPE_IP4 ? 4 : 6)))
    goto refuse;
  why = IPC_RX_BAD_LEN;
  if (HS_UNLIKELY(p->ip.total_len > p->len - p->l3_off))
    goto refuse;
  why = IPC_RX_BAD_CKSUM;
  if (p->ip.version == 4 && HS_UNLIKELY(!ip4_hdr_cksum_ok(h, p->ip.hdr_len)))
    goto refuse;
  p->l4_off = (uint16_t)(p->l3_off + p->ip.hdr_len);
  p->l4_len = p->ip.total_len - p->ip.hdr_len;
  return 0;
refuse:
  stack_count(s, why);
  return -EBADMSG;
}

/* A source that nobody can have (RFC 1122 3.2.1.3, RFC 6890), or that is ourselves. */
static int ip_input_source_bad(const struct ip_stack *s, const struct pkt *p) {
  const struct ip_addr *a = &p->ip.src;
  if (ip_addr_is_any(a)) /* only a duplicate address probe may come from :: */
    return p->ip.version == 4 || p->ip.proto != IP_PROTO_ICMP6;
  if (ip_addr_is_multicast(a) || ip_addr_is_loopback(a))
    return 1;
  if (HS_UNLIKELY(addr_find(s, a) != NULL)) /* who has our address too says so from it (RFC 4862 5.4.4) */
    return p->ip.version == 4 || p->ip.proto != IP_PROTO_ICMP6 || p->ip.ttl != 255;
  if (p->ip.version == 4)
    return a->b[12] == 0 || a->b[12] >= 240 || addr_is_subnet_broadcast(s, p->port, a);
  return 0;
}

/* Whether the destination is ours; sets to_us. Counted if not. */
static int ip_input_dest(struct ip_stack *s, struct pkt *p, const struct ip_view *v) {
  const struct ip_addr *a = &p->ip.dst;
  p->to_us = 0;
  if (HS_LIKELY(addr_find(s, a) != NULL)) {
    if (HS_UNLIKELY(mac_addr_is_multicast(&v->eth.dst))) { /* RFC 1122 3.3.6 */
      stack_count(s, IPC_RX_L2_GROUP);
      return -EBADMSG;
    }
    p->to_us = 1;
    return 0;
  }
  if (ip_addr_is_any(a) || ip_addr_is_loopback(a)) {
    stack_count(s, IPC_RX_MARTIAN_DST);
    return -EBADMSG;
  }
  int ours = ip_addr_is_multicast(a) ? addr_is_group(s, p->port, a)
                                     : ip_addr_is_broadcast(a) || addr_is_subnet_broadcast(s, p->port, a);
  if (!ours)
    stack_count(s, IPC_RX_NOT_OURS);
  return ours ? 0 : -EBADMSG;
}

/* Options and extension headers that we refuse; fragments go to reassembly. 0: p is whole and fit to go on. */
static int ip_input_extras(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  static const uint8_t codes[] = {
      [IP_OPT_PROBLEM] = 2, [IP_OPT_PROBLEM_UNICAST] = 2, [IP_OPT_ROUTING] = 0, [IP_OPT_NEXT_HEADER] = 1};
  unsigned e = p->ip.opt_error;
  if (e != IP_OPT_OK) { /* RFC 8200 4.2 */
    stack_count(s, IPC_RX_OPTION);
    if (e != IP_OPT_DISCARD)
      icmp6_send_error(s, p, v, ICMP6_PARAM_PROBLEM, codes[e], p->ip.opt_at, now);
    return -EBADMSG;
  }
  if (p->ip.flags & IP_FLAG_SRCROUTE) { /* deviates: RFC 1122 3.2.1.8 e; everybody refuses them (RFC 7126 4.3) */
    stack_count(s, IPC_RX_SRCROUTE);
    return -EBADMSG;
  }
  if (p->ip.flags & IP_FLAG_FRAG) {
    reasm_input(s, p, v, now);
    return -EBADMSG;
  }
  return 0;
}

static void ip_input_deliver(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  if (HS_LIKELY(s->ops.deliver(s->ctx, p, now) == 0)) {
    stack_count(s, IPC_RX_DELIVERED);
    return;
  }
  stack_count(s, IPC_RX_NOBODY);
  if (p->ip.proto != IP_PROTO_UDP) /* TCP answers with RST, by itself */
    return;
  if (p->ip.version == 4)
    icmp4_send_error(s, p, v, ICMP4_UNREACH, ICMP4_UNREACH_PORT, now);
  else
    icmp6_send_error(s, p, v, ICMP6_UNREACH, ICMP6_UNREACH_PORT, 0, now);
}

/* Who gets it: p is for us and whole. */
static void ip_input_upper(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  unsigned proto = p->ip.proto;
  if (HS_LIKELY(proto == IP_PROTO_TCP || proto == IP_PROTO_UDP)) {
    if (HS_LIKELY(proto == IP_PROTO_TCP) || !s->dhcp[p->port].on || !dhcp_input(s, p, now))
      ip_input_deliver(s, p, v, now);
  } else if (proto == IP_PROTO_ICMP && p->ip.version == 4) {
    icmp4_input(s, p, v, now);
  } else if (proto == IP_PROTO_ICMP6 && p->ip.version == 6) {
    icmp6_input(s, p, v, now);
  } else if (proto == IP_PROTO_IGMP && p->ip.version == 4) {
    group_igmp_input(s, p, v);
  } else {
    stack_count(s, IPC_RX_PROTO);
    if (p->ip.version == 4) /* RFC 1122 3.2.2.1 */
      icmp4_send_error(s, p, v, ICMP4_UNREACH, ICMP4_UNREACH_PROTO, now);
    else if (proto != IP_PROTO_NONE) /* RFC 8200 4: code 1, pointing to the next-header byte */
      icmp6_send_error(s, p, v, ICMP6_PARAM_PROBLEM, 1, p->ip.nh_at, now);
  }
}

/* Where a packet comes from, which decides what need not be asked of it. */
enum input_from {
  FROM_LINK,
  FROM_REASM, /* its fragments were looked at, and nothing is fragmented twice */
  FROM_LOOP,  /* our own */
};

/* One function for all three, so that the compiler makes one piece of it. */
static void ip_input_packet(struct ip_stack *s, struct pkt *p, const struct ip_view *v, enum input_from from,
                            usec_t now) {
  if (ip_input_header(s, p, v) < 0)
    return;
  if (HS_UNLIKELY(from == FROM_REASM)) {
    if (p->ip.flags & (IP_FLAG_FRAG | IP_FLAG_ATOMIC)) {
      stack_count(s, IPC_REASM_BAD);
      return;
    }
  } else {
    if (HS_LIKELY(from == FROM_LINK) && HS_UNLIKELY(ip_input_source_bad(s, p))) {
      stack_count(s, IPC_RX_MARTIAN_SRC);
      return;
    }
    if (HS_UNLIKELY(ip_input_dest(s, p, v) < 0))
      return;
  }
  if (HS_UNLIKELY(p->ip.flags & (IP_FLAG_SRCROUTE | IP_FLAG_FRAG) || p->ip.opt_error != IP_OPT_OK) &&
      ip_input_extras(s, p, v, now) < 0)
    return;
  ip_input_upper(s, p, v, now);
}

void input_whole(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  ip_input_packet(s, p, v, FROM_REASM, now);
}

void ip_loop_input(struct ip_stack *s, struct pkt *p, usec_t now) {
  struct ip_view v = {.h = p->piece[0].p, .avail = p->piece[0].len}; /* no Ethernet: neither group nor stranger */
  p->l3_off = 0;
  p->ethertype = v.avail > 0 && v.h[0] >> 4 == 6 ? ETH_TYPE_IP6 : ETH_TYPE_IP4;
  p->flags |= ABI_FR_CSUM_OK;
  ip_input_packet(s, p, &v, FROM_LOOP, now);
}

void ip_input(struct ip_stack *s, struct pkt *p, usec_t now) {
  struct ip_view v;
  if (eth_input(s, p, &v) < 0)
    return;
  switch (v.eth.type) {
  case ETH_TYPE_IP4:
    stack_count(s, IPC_RX_IP4);
    ip_input_packet(s, p, &v, FROM_LINK, now);
    return;
  case ETH_TYPE_IP6:
    stack_count(s, IPC_RX_IP6);
    ip_input_packet(s, p, &v, FROM_LINK, now);
    return;
  case ETH_TYPE_ARP:
    arp_input(s, p, &v, now);
    return;
  default:
    stack_count(s, IPC_RX_ETHERTYPE);
  }
}
