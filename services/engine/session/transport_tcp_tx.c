/*
 * TCP's segments on their way out: header and payload into a frame, and what the app hears of it.
 *
 * Worker thread; hot path. Called by the core (tcp_output, through its ops) and for replies that no connection sends.
 */
#include "transport_tcp.h"

#include "base/bits.h"
#include "shm/fence.h"
#include "wire/cksum.h"

#include <errno.h>

/* Payload [off, off+len) of the tx fifo: small ones are copied behind the header, large ones referred to. */
static int send_payload(struct session *s, struct txf *t, const struct tcp_seg_out *out) {
  if (out->len == 0)
    return 0;
  if (out->len <= WORKER_TX_INLINE) {
    int64_t got = fifo_cons_peek(&s->tx, out->off, t->data + t->len, out->len);
    t->len += out->len;
    return got == (int64_t)out->len ? 0 : -EPROTO;
  }
  struct fifo_piece pc[TXF_FIFO_PIECES];
  uint32_t got = 0;
  int n = fifo_cons_pieces(&s->tx, out->off, out->len, pc, TXF_FIFO_PIECES, &got);
  if (n < 0 || got != out->len)
    return -EPROTO;
  for (int i = 0; i < n; i++) {
    t->fifo[i].region = (uint32_t)s->app->v.seg_a.id;
    t->fifo[i].off = pc[i].off;
    t->fifo[i].len = pc[i].len;
  }
  t->n_fifo = (uint32_t)n;
  t->fifo_len = out->len;
  return 0;
}

static int send_header(const struct ip_addr *local, uint16_t lport, const struct ip_addr *remote, uint16_t rport,
                       struct txf *t, const struct tcp_seg_out *out) {
  struct tcp_hdr h = {.sport = lport,
                      .dport = rport,
                      .seq = out->seq,
                      .ack = out->ack,
                      .flags = out->flags,
                      .wnd = out->wnd,
                      .urg = out->urg,
                      .opts = out->opts};
  int hlen = tcp_hdr_build(t->data, TCP_HLEN_MAX, &h);
  if (hlen < 0)
    return -EINVAL;
  t->len = (uint32_t)hlen;
  cksum_t pseudo = cksum_pseudo(local, remote, 6, (uint32_t)hlen + out->len);
  cksum_store(t->data + TCP_OFF_CKSUM, cksum_reduce(pseudo));
  t->csum_start = 0;
  t->csum_off = TCP_OFF_CKSUM;
  t->flags = ABI_FR_CSUM_PART;
  if (out->gso_size && out->len > out->gso_size) {
    t->flags |= ip_addr_is4(remote) ? ABI_FR_GSO_TCP4 : ABI_FR_GSO_TCP6;
    t->gso_size = out->gso_size;
  }
  return 0;
}

/* Bytes up to `to` have left, perhaps not for the first time. A writer that waits for them alone is woken (below half
 * of TCP_NOTSENT_LOWAT, as on Linux). */
static void send_note(struct session *s, const struct tcp_conn *c, uint32_t to) {
  if ((int32_t)(to - s->e->tx_sent) <= 0)
    return;
  __atomic_store_n(&s->e->tx_sent, to, __ATOMIC_RELAXED);
  uint32_t lowat = c->d->opt.notsent_lowat;
  if (HS_LIKELY(lowat == 0) || !s->believed)
    return;
  shm_fence(); /* the app: armed, then this word once more */
  int64_t unsent = fifo_cons_used(&s->tx) - (int64_t)(to - s->e->tx_head);
  if (2 * unsent < (int64_t)lowat && __atomic_load_n(&s->a->tx_armed, __ATOMIC_ACQUIRE))
    app_hint(s->app, s->slot);
}

int transport_tcp_send(void *ctx, struct tcp_conn *c, const struct tcp_seg_out *out) {
  struct worker *w = ctx;
  struct session *s = tcp_session(c);
  struct txf t;
  int rc = frame_io_get(w, &t);
  if (rc)
    return rc;
  rc = send_header(&s->local, s->lport, &s->remote, s->rport, &t, out);
  if (rc == 0)
    rc = send_payload(s, &t, out);
  if (rc) {
    frame_io_drop(w, &t);
    if (rc == -EPROTO)
      app_suspect(s->app, "tx fifo: impossible chunk");
    return 0; /* the session is aborted at the end of the turn */
  }
  if (s->e && out->len)
    send_note(s, c, s->e->tx_head + out->off + out->len);
  rc = ip_output(worker_ip(w, s->vrf), &t, &s->local, &s->remote, 6, out->tos, c->d->opt.ttl, &s->path, w->now);
  return rc == -EAGAIN ? 0 : rc; /* neighbour being asked: retransmission follows */
}

void transport_tcp_reply(struct worker *w, const struct pkt *p, const struct tcp_seg_in *seg,
                         const struct tcp_seg_out *out) {
  struct txf t;
  if (frame_io_get(w, &t))
    return;
  if (send_header(&p->ip.dst, seg->hdr.dport, &p->ip.src, seg->hdr.sport, &t, out)) {
    frame_io_drop(w, &t);
    return;
  }
  (void)ip_output(worker_ip(w, p->vrf), &t, &p->ip.dst, &p->ip.src, 6, out->tos, 0, NULL, w->now);
}
