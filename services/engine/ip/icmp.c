/*
 * ICMP for IPv4 (RFC 792, RFC 1122 3.2.2): echo, errors that came, errors that we send; and the echo reply of both
 * families. Called by ip_input.c; worker thread.
 *
 * Source quench is ignored (RFC 6633). A redirect for a net counts for the host alone (RFC 1122 3.2.2.2).
 */
#include "wire/icmp.h"
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"

#define ICMP4_QUOTE_MAX 548u /* a whole error is at most 576 bytes (RFC 1812 4.3.2.3) */

/* A code of destination unreachable (RFC 1122 3.2.2.1, 4.2.3.9). Which of the soft ones a datagram's sender is told
 * (4.1.3.3 leaves that open) is as on Linux. */
static const struct icmp_verdict icmp4_unreach[] = {
    {0, ENETUNREACH, 0, 0},  /* 0 net */
    {0, EHOSTUNREACH, 0, 0}, /* 1 host */
    {1, ENOPROTOOPT, 0, 0},  /* 2 protocol */
    {1, ECONNREFUSED, 0, 0}, /* 3 port */
    {2, EMSGSIZE, 0, 0},     /* 4 fragmentation needed */
    {0, EOPNOTSUPP, 0, 0},   /* 5 source route failed */
    {0, ENETUNREACH, 0, 1},  /* 6 net unknown */
    {0, EHOSTDOWN, 0, 1},    /* 7 host unknown */
    {0, ENONET, 0, 1},       /* 8 source host isolated */
    {0, ENETUNREACH, 0, 1},  /* 9 net prohibited */
    {0, EHOSTUNREACH, 0, 1}, /* 10 host prohibited */
    {0, ENETUNREACH, 0, 0},  /* 11 net, for this type of service */
    {0, EHOSTUNREACH, 0, 0}, /* 12 host, for this type of service */
    {0, EHOSTUNREACH, 0, 1}, /* 13 filtered */
    {0, EHOSTUNREACH, 0, 1}, /* 14 precedence */
    {0, EHOSTUNREACH, 0, 1}, /* 15 precedence */
};

/* RFC 1191 7.1: what a router that names no MTU may have; the next below what we sent. */
static uint32_t icmp4_plateau(uint32_t sent) {
  static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68};
  for (unsigned i = 0; i < ARRAY_LEN(plateaus); i++) {
    if (plateaus[i] < sent)
      return plateaus[i];
  }
  return 68;
}

static int icmp4_judge(const struct icmp_hdr *h, const uint8_t *quote, uint32_t len, struct icmp_verdict *v) {
  switch (h->type) {
  case ICMP4_UNREACH:
    if (h->code >= ARRAY_LEN(icmp4_unreach))
      return -EBADMSG;
    *v = icmp4_unreach[h->code];
    if (v->kind != 2)
      return 0;
    v->mtu = h->mtu != 0 ? h->mtu : icmp4_plateau(len >= 4 ? load_be16(quote + 2) : 0);
    return v->mtu < 68 ? -EBADMSG : 0; /* RFC 1191 3 */
  case ICMP4_TIME_EXCEEDED:
    if (h->code != 0) /* a fragment was lost: loss is repaired, the way is open */
      return -EBADMSG;
    *v = (struct icmp_verdict){0, EHOSTUNREACH, 0, 0};
    return 0;
  default:
    *v = (struct icmp_verdict){0, EPROTO, 0, 1};
    return 0;
  }
}

/* Offset of the message in p is l4_off; at most STACK_MSG_MAX bytes of it are looked at. */
static void icmp4_error_in(struct ip_stack *s, const struct pkt *p, const struct icmp_hdr *h, usec_t now) {
  struct icmp_verdict v;
  uint32_t len = HS_MIN(p->l4_len, STACK_MSG_MAX) - ICMP_HLEN;
  const uint8_t *quote = pkt_read_at(p, p->l4_off + ICMP_HLEN, len, s->msg);
  if (quote == NULL || icmp4_judge(h, quote, len, &v) < 0) {
    stack_count(s, IPC_ICMP_ERROR_BAD);
    return;
  }
  icmp_error_tell(s, quote, len, &v, now);
}

/* The datagram that is quoted must be one of ours. */
static void icmp4_redirect_in(struct ip_stack *s, const struct pkt *p, const struct icmp_hdr *h, usec_t now) {
  struct ip_hdr quoted;
  struct ip_addr to = ip_addr_from4(h->gateway);
  uint32_t len = HS_MIN(p->l4_len, STACK_MSG_MAX) - ICMP_HLEN;
  const uint8_t *quote = pkt_read_at(p, p->l4_off + ICMP_HLEN, len, s->msg);
  if (h->code > 3 || quote == NULL || ip_hdr_parse_quoted(quote, len, &quoted) < 0 || quoted.version != 4 ||
      addr_find(s, &quoted.src) == NULL) {
    stack_count(s, IPC_REDIRECT_REFUSED);
    return;
  }
  (void)redirect_input(s, p->port, &p->ip.src, &quoted.dst, &to, now);
}

void icmp_echo(struct ip_stack *s, struct pkt *p, uint8_t reply, usec_t now) {
  struct txf t;
  if (p->l4_len > STACK_SLOT_ROOM) {
    stack_count(s, IPC_ICMP_ECHO_LONG);
    return;
  }
  if (stack_frame(s, &t, p->port) < 0)
    return;
  t.len = pkt_read_copy(p, p->l4_off, p->l4_len, t.data);
  t.data[0] = reply;
  if (p->ip.version == 4)
    icmp4_cksum_set(t.data, t.len);
  else
    icmp6_cksum_set(t.data, t.len, &p->ip.dst, &p->ip.src);
  t.frag_mtu = UINT16_MAX; /* as the request may have come in fragments */
  stack_count(s, IPC_ICMP_ECHO);
  (void)ip_output(s, &t, &p->ip.dst, &p->ip.src, p->ip.proto, p->ip.tos, STACK_TTL, NULL, now);
}

void icmp4_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  struct icmp_hdr h;
  uint8_t first[ICMP_HLEN];
  const uint8_t *msg = p->l4_len >= ICMP_HLEN ? pkt_read_at(p, p->l4_off, ICMP_HLEN, first) : NULL;
  (void)v;
  stack_count(s, IPC_ICMP_RX);
  if (msg == NULL || icmp4_hdr_parse(msg, ICMP_HLEN, &h) < 0 ||
      (!(p->flags & ABI_FR_CSUM_OK) && cksum_fold(pkt_read_sum(p, p->l4_off, p->l4_len)) != 0)) {
    stack_count(s, IPC_ICMP_BAD);
    return;
  }
  if (h.type == ICMP4_ECHO && p->to_us) { /* RFC 1122 3.2.2.6: to a group it may be ignored */
    icmp_echo(s, p, ICMP4_ECHO_REPLY, now);
  } else if (h.type == ICMP4_REDIRECT && p->to_us) {
    icmp4_redirect_in(s, p, &h, now);
  } else if (p->to_us && (h.type == ICMP4_UNREACH || h.type == ICMP4_TIME_EXCEEDED || h.type == ICMP4_PARAM_PROBLEM)) {
    icmp4_error_in(s, p, &h, now);
  } else {
    stack_count(s, IPC_ICMP_IGNORED);
  }
}

void icmp4_send_error(struct ip_stack *s, struct pkt *p, const struct ip_view *v, uint8_t type, uint8_t code,
                      usec_t now) {
  struct txf t;
  struct icmp_hdr h = {.type = type, .code = code};
  /* RFC 1122 3.2.2: never about a group address; ICMP itself never gets here */
  if (!p->to_us || mac_addr_is_multicast(&v->eth.dst) || !icmp_error_allowed(s, now) || stack_frame(s, &t, p->port) < 0)
    return;
  uint32_t quoted = HS_MIN(p->ip.total_len, ICMP4_QUOTE_MAX);
  t.len = ICMP_HLEN + pkt_read_copy(p, p->l3_off, quoted, t.data + ICMP_HLEN);
  if (icmp4_hdr_build(t.data, ICMP_HLEN, &h) < 0) {
    s->ops.frame_drop(s->ctx, &t);
    return;
  }
  icmp4_cksum_set(t.data, t.len);
  stack_count(s, IPC_ICMP_TX_ERROR);
  (void)ip_output(s, &t, &p->ip.dst, &p->ip.src, IP_PROTO_ICMP, 0, STACK_TTL, NULL, now);
}
