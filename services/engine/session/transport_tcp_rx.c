/*
 * TCP's segments on their way in: checksum, header, and who they are for (RFC 9293 3.10.7): a connection, a TIME_WAIT,
 * a listener, a SYN cookie, or nobody.
 *
 * Worker thread; hot path. Called by the worker for each packet of protocol 6.
 */
#include "transport_tcp.h"

#include "base/bits.h"
#include "tcp/tcp_tw.h"
#include "wire/cksum.h"
#include "wire/flow.h"

#include <errno.h>

static int cksum_is_good(const struct pkt *p) {
  if (p->flags & (ABI_FR_CSUM_OK | ABI_FR_CSUM_PART))
    return 1;
  cksum_t sum = cksum_pseudo(&p->ip.src, &p->ip.dst, 6, p->l4_len);
  uint32_t skip = p->l4_off, left = p->l4_len;
  int odd = 0;
  for (uint32_t i = 0; i < p->n_pieces && left; i++) {
    uint32_t len = p->piece[i].len;
    if (skip >= len) {
      skip -= len;
      continue;
    }
    uint32_t n = len - skip < left ? len - skip : left;
    sum = cksum_combine(sum, cksum_add(0, p->piece[i].p + skip, n), odd);
    odd ^= (int)(n & 1);
    left -= n;
    skip = 0;
  }
  return cksum_fold(sum) == 0;
}

/* Header at l4_off must lie in the first piece (nicio delivers at least 256 bytes there). */
static int seg_parse(const struct pkt *p, struct tcp_seg_in *seg, struct tcp_piece *pieces) {
  if (p->l4_off >= p->piece[0].len)
    return -EINVAL;
  uint32_t in_first = p->piece[0].len - p->l4_off;
  int hlen = tcp_hdr_parse(p->piece[0].p + p->l4_off, in_first < p->l4_len ? in_first : p->l4_len, &seg->hdr);
  if (hlen < 0)
    return -EINVAL;
  uint32_t skip = p->l4_off + (uint32_t)hlen, left = p->l4_len - (uint32_t)hlen;
  seg->len = left;
  seg->n_pieces = 0;
  seg->pieces = pieces;
  for (uint32_t i = 0; i < p->n_pieces && left; i++) {
    if (skip >= p->piece[i].len) {
      skip -= p->piece[i].len;
      continue;
    }
    uint32_t n = p->piece[i].len - skip < left ? p->piece[i].len - skip : left;
    pieces[seg->n_pieces++] = (struct tcp_piece){.p = p->piece[i].p + skip, .len = n};
    left -= n;
    skip = 0;
  }
  seg->segs = p->gso_size ? (seg->len + p->gso_size - 1u) / p->gso_size : 1;
  seg->ce = (p->ip.tos & 3u) == 3u;
  return 0;
}

/* RFC 9293 3.10.7.1: a segment for no connection. */
static void reply_closed(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg) {
  struct tcp_seg_out out;
  memset(&out, 0, sizeof out);
  if (!tcp_reply_closed(seg, &out))
    return;
  worker_count(w, EC_RX_NO_LISTENER, 1);
  transport_tcp_reply(w, p, seg, &out);
}

static void input_session(struct worker *w, struct session *s, const struct tcp_seg_in *seg, usec_t now) {
  if (HS_UNLIKELY(s->fast))
    fast_input(w, s, seg, now);
  else
    tcp_input(&w->tcp, tcp_of(s), seg, now);
  if (s->dead || !s->ops)
    return;
  ip_confirm(worker_ip(w, s->vrf), &s->path, now);
  session_dirty(w, s);
  transport_tcp_settle(w, s);
}

int transport_tcp_input(struct worker *w, struct pkt *p, usec_t now) {
  struct tcp_seg_in seg;
  struct tcp_piece pieces[PKT_PIECES_MAX];
  if (seg_parse(p, &seg, pieces)) {
    worker_count(w, EC_RX_BAD_TCP, 1);
    return 0;
  }
  if (!cksum_is_good(p)) {
    worker_count(w, EC_RX_BAD_L4_CKSUM, 1);
    return 0;
  }
  seq32_t isn_floor = 0;
  struct session *s = flow_find(w, p->vrf, transport_tcp.proto, &p->ip.dst, seg.hdr.dport, &p->ip.src, seg.hdr.sport);
  if (s && tcp_time_wait_reuse(tcp_of(s), &seg)) { /* RFC 6191, RFC 1122 4.2.2.13 */
    isn_floor = tcp_of(s)->d->snd_max + 65538u;
    tcp_abort(&w->tcp, tcp_of(s), 0, now); /* no RST in TIME_WAIT */
    worker_count(w, EC_TW_REUSED, 1);
    s = NULL;
  }
  if (s) {
    input_session(w, s, &seg, now);
    return 0;
  }
  uint32_t to = flow_worker(&p->ip.dst, seg.hdr.dport, &p->ip.src, seg.hdr.sport, w->group->n);
  if (HS_UNLIKELY(to != w->index)) { /* it was in fragments, or behind headers that nicio does not follow */
    pass_packet(w, p, to);
    return 0;
  }
  if (timewait_input(w, p, &seg, &isn_floor, now))
    return 0;
  if ((seg.hdr.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN) {
    if (syn_input(w, p, &seg, isn_floor, now))
      reply_closed(w, p, &seg);
    return 0;
  }
  if (!(seg.hdr.flags & (TCP_ACK | TCP_RST)) &&
      listen_taker(w, p->vrf, transport_tcp.proto, &p->ip.dst, seg.hdr.dport, 0))
    return 0; /* RFC 9293 3.10.7.2 fourth: LISTEN drops what has neither SYN nor ACK */
  int drop;
  s = syn_cookie_ack(w, p, &seg, &drop, now);
  if (s)
    input_session(w, s, &seg, now);
  else if (!drop)
    reply_closed(w, p, &seg);
  return 0;
}
