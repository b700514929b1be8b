/*
 * ICMP errors of both families, what they have in common: finding the flow that a quoted datagram belongs to, and the
 * rate limit of those that we send. Called by icmp.c, icmp6.c and by neigh.c when nobody answers; worker thread.
 * RFC 1122 3.2.2, RFC 4443 2.4, RFC 5927 (what TCP believes of it is TCP's matter).
 */
#include "ip/ip_stack.h"
#include "wire/tcp.h"

#define ICMP_ERROR_BURST    50u
#define ICMP_ERROR_EVERY_US 1000u /* 1000 per second (RFC 4443 2.4 f) */
#define ICMP_QUOTED_L4      8u    /* bytes of the L4 header that even the shortest quotation has */

int icmp_error_allowed(struct ip_stack *s, usec_t now) {
  uint64_t fresh = (now - s->err_at) / ICMP_ERROR_EVERY_US;
  if (fresh != 0) {
    s->err_tokens = (uint32_t)HS_MIN(fresh + s->err_tokens, (uint64_t)ICMP_ERROR_BURST);
    s->err_at = now;
  }
  if (s->err_tokens == 0) {
    stack_count(s, IPC_ICMP_TX_LIMITED);
    return 0;
  }
  s->err_tokens--;
  return 1;
}

void icmp_error_tell(struct ip_stack *s, const uint8_t *quote, uint32_t len, const struct icmp_verdict *v, usec_t now) {
  struct ip_hdr h;
  int at = ip_hdr_parse_quoted(quote, len, &h);
  if (at < 0 || len - (uint32_t)at < ICMP_QUOTED_L4 || h.frag_off != 0 ||
      (h.proto != IP_PROTO_TCP && h.proto != IP_PROTO_UDP) || addr_find(s, &h.src) == NULL) {
    stack_count(s, IPC_ICMP_ERROR_BAD);
    return;
  }
  const uint8_t *l4 = quote + at;
  uint32_t seq = h.proto == IP_PROTO_TCP ? load_be32(l4 + TCP_OFF_SEQ) : 0;
  int kind = h.proto == IP_PROTO_UDP && v->dgram ? 1 : v->kind;
  stack_count(s, IPC_ICMP_ERROR);
  s->ops.error(s->ctx, h.proto, &h.src, l4_sport(l4), &h.dst, l4_dport(l4), seq, kind, v->err, v->mtu, now);
}
