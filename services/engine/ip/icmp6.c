/*
 * ICMPv6 (RFC 4443): echo, errors that came, errors that we send; neighbour discovery goes on to nd.c. Called by
 * ip_input.c; worker thread.
 */
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"
#include "wire/icmp.h"

#define ICMP6_QUOTE_MAX (1280u - IP6_HLEN - ICMP_HLEN) /* RFC 4443 2.4 c */
#define ICMP6_MTU_MIN   1280u                          /* RFC 8201 4: less is not to be believed */

static int icmp6_judge(const struct icmp_hdr *h, struct icmp_verdict *v) {
  static const struct icmp_verdict unreach[] = {
      {0, ENETUNREACH, 0, 0},  /* 0 no route */
      {0, EACCES, 0, 1},       /* 1 prohibited */
      {0, EHOSTUNREACH, 0, 0}, /* 2 beyond scope of source address */
      {0, EHOSTUNREACH, 0, 0}, /* 3 address */
      {1, ECONNREFUSED, 0, 0}, /* 4 port */
      {0, EACCES, 0, 1},       /* 5 source address failed policy */
      {0, EACCES, 0, 1},       /* 6 route is rejected */
  };
  switch (h->type) {
  case ICMP6_UNREACH:
    *v = h->code < ARRAY_LEN(unreach) ? unreach[h->code] : (struct icmp_verdict){0, EPROTO, 0, 1};
    return 0;
  case ICMP6_TOO_BIG:
    *v = (struct icmp_verdict){2, EMSGSIZE, h->mtu, 0};
    return h->mtu < ICMP6_MTU_MIN ? -EBADMSG : 0;
  case ICMP6_TIME_EXCEEDED:
    *v = (struct icmp_verdict){0, EHOSTUNREACH, 0, 0};
    return 0;
  case ICMP6_PARAM_PROBLEM: /* code 1: the peer does not know our protocol */
    *v = (struct icmp_verdict){h->code == 1, EPROTO, 0, 1};
    return 0;
  default:
    return -EBADMSG; /* RFC 4443 2.4 a: an unknown error; no transport of ours would know it either */
  }
}

static void icmp6_error_in(struct ip_stack *s, const struct icmp_hdr *h, const uint8_t *msg, uint32_t len, usec_t now) {
  struct icmp_verdict v;
  if (icmp6_judge(h, &v) < 0) {
    stack_count(s, IPC_ICMP_ERROR_BAD);
    return;
  }
  icmp_error_tell(s, msg + ICMP_HLEN, len - ICMP_HLEN, &v, now);
}

void icmp6_input(struct ip_stack *s, struct pkt *p, const struct ip_view *v, usec_t now) {
  struct icmp_hdr h;
  uint32_t len = HS_MIN(p->l4_len, STACK_MSG_MAX);
  const uint8_t *msg = p->l4_len >= ICMP_HLEN ? pkt_read_at(p, p->l4_off, len, s->msg) : NULL;
  stack_count(s, IPC_ICMP_RX);
  if (msg == NULL || icmp6_hdr_parse(msg, len, &h) < 0 || (!(p->flags & ABI_FR_CSUM_OK) && !pkt_read_l4_ok(p))) {
    stack_count(s, IPC_ICMP_BAD);
    return;
  }
  int any = ip_addr_is_any(&p->ip.src);
  if (h.type >= ICMP6_RS && h.type <= ICMP6_REDIRECT) {
    nd_input(s, p, v, msg, p->l4_len <= STACK_MSG_MAX ? len : 0, now);
  } else if (h.type == ICMP6_MLD_QUERY) {
    mld_query(s, p, msg, len, now);
  } else if (h.type == ICMP6_ECHO && p->to_us && !any) { /* RFC 4443 4.2: to a group it may be ignored */
    icmp_echo(s, p, ICMP6_ECHO_REPLY, now);
  } else if (icmp6_is_error(h.type) && p->to_us && !any) {
    icmp6_error_in(s, &h, msg, len, now);
  } else {
    stack_count(s, IPC_ICMP_IGNORED);
  }
}

void icmp6_send_error(struct ip_stack *s, struct pkt *p, const struct ip_view *v, uint8_t type, uint8_t code,
                      uint32_t ptr, usec_t now) {
  struct txf t;
  struct icmp_hdr h = {.type = type, .code = code, .ptr = ptr};
  struct ip_addr src = p->ip.dst;
  int group_ok = type == ICMP6_PARAM_PROBLEM && code == 2 && p->ip.opt_error == IP_OPT_PROBLEM;
  /* RFC 4443 2.4 e: nothing about errors and redirects, groups (but e.3), or senders who are not one node */
  if (ip_addr_is_any(&p->ip.src) || p->ip.proto == IP_PROTO_ICMP6)
    return; /* deviates: not about informational ICMPv6 either; nothing of ours depends on it */
  if ((!p->to_us || mac_addr_is_multicast(&v->eth.dst)) && !group_ok)
    return;
  if (!p->to_us) {
    const struct ip_local *l = addr_pick(s, p->port, &p->ip.src, NULL);
    if (l == NULL)
      return;
    src = l->addr;
  }
  if (!icmp_error_allowed(s, now) || stack_frame(s, &t, p->port) < 0)
    return;
  uint32_t quoted = HS_MIN(p->ip.total_len, ICMP6_QUOTE_MAX);
  t.len = ICMP_HLEN + pkt_read_copy(p, p->l3_off, quoted, t.data + ICMP_HLEN);
  if (icmp6_hdr_build(t.data, ICMP_HLEN, &h) < 0) {
    s->ops.frame_drop(s->ctx, &t);
    return;
  }
  icmp6_cksum_set(t.data, t.len, &src, &p->ip.src);
  stack_count(s, IPC_ICMP_TX_ERROR);
  (void)ip_output(s, &t, &src, &p->ip.src, IP_PROTO_ICMP6, 0, STACK_TTL, NULL, now);
}
