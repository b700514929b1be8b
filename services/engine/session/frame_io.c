/*
 * Frames: TX slots, the RX burst, and what happens when nicio comes back. Worker thread; hot path.
 */
#include "worker.h"

#include "base/bits.h"

int frame_io_get(struct worker *w, struct txf *t) {
  if (!w->link.up) {
    worker_count(w, EC_TX_LINK_DOWN, 1);
    return -ENOBUFS;
  }
  if (w->n_tx_free == 0 || frame_room(&w->link) < TXF_FIFO_PIECES + 1) {
    worker_count(w, EC_TX_NO_SLOT, 1);
    return -ENOBUFS;
  }
  uint32_t slot = w->tx_free[--w->n_tx_free];
  w->tx_home[slot - w->tx_first] = 0;
  uint64_t off = frame_tx_off(&w->frames, slot);
  uint8_t *base = w->packet_seg.base + off;
  t->slot = slot;
  t->slot_off = off;
  t->slot_base = base;
  t->data = base + ABI_SLOT_HEAD + TXF_HEADROOM;
  t->len = 0;
  t->n_fifo = 0;
  t->fifo_len = 0;
  t->flags = 0;
  t->gso_size = 0;
  t->frag_mtu = 0;
  t->csum_start = 0;
  t->csum_off = 0;
  t->port = 0;
  return 0;
}

void frame_io_drop(struct worker *w, struct txf *t) {
  if (w->tx_home[t->slot - w->tx_first])
    return;
  w->tx_home[t->slot - w->tx_first] = 1;
  w->tx_free[w->n_tx_free++] = t->slot;
}

void frame_io_send(struct worker *w, struct txf *t) {
  struct abi_frame_desc d[TXF_FIFO_PIECES + 1];
  d[0] = (struct abi_frame_desc){.off = t->slot_off + (uint64_t)(t->data - t->slot_base),
                                 .region = ABI_REGION_PACKET,
                                 .slot = t->slot,
                                 .len = t->len,
                                 .flags = (uint16_t)(t->flags | (t->n_fifo ? ABI_FR_CHAIN : 0)),
                                 .gso_size = t->gso_size,
                                 .csum_start = t->csum_start,
                                 .csum_off = t->csum_off,
                                 .port = t->port};
  for (uint32_t i = 0; i < t->n_fifo; i++)
    d[i + 1] = (struct abi_frame_desc){.off = t->fifo[i].off,
                                       .region = t->fifo[i].region,
                                       .slot = ABI_SEG_NONE,
                                       .len = t->fifo[i].len,
                                       .flags = (uint16_t)(ABI_FR_NO_SLOT | (i + 1 < t->n_fifo ? ABI_FR_CHAIN : 0)),
                                       .port = t->port};
  if (!w->link.up || frame_room(&w->link) < t->n_fifo + 1) { /* came down while the frame was built */
    frame_io_drop(w, t);
    return;
  }
  frame_push(&w->link, d, t->n_fifo + 1);
  worker_count(w, EC_TX_FRAMES, 1);
  worker_count(w, EC_TX_BYTES, t->len + t->fifo_len);
}

/* --- to ourselves --- */

int frame_io_loop_put(struct worker *w, const struct txf *t) {
  if (w->loop_tail - w->loop_head == WORKER_LOOP_MAX)
    return -ENOBUFS;
  w->loop[w->loop_tail++ % WORKER_LOOP_MAX] = *t;
  return 0;
}

/* Address of payload in a tx fifo: its A segment stays mapped while the loop holds frames (worker_drain_apps). */
static const uint8_t *frame_io_fifo(const struct worker *w, uint32_t region, uint64_t off, uint32_t len) {
  for (uint32_t i = 0; i < w->n_apps; i++) {
    const struct seg *a = &w->app[i]->v.seg_a;
    if ((uint32_t)a->id == region)
      return seg_at(a, off, len);
  }
  return NULL;
}

/* A frame of ours as one that came. An acknowledged or reset sender's bytes may be others by now, as with any frame
 * that refers to a fifo: the receiver has them already, or reads a RST next. */
static int frame_io_loop_pkt(const struct worker *w, const struct txf *t, struct pkt *p) {
  p->piece[0] = (struct pkt_piece){.p = t->data, .len = t->len};
  p->n_pieces = 1;
  p->len = t->len + t->fifo_len;
  p->flags = ABI_FR_CSUM_OK;
  p->gso_size = t->gso_size;
  p->port = t->port;
  p->vrf = t->vrf;
  for (uint32_t i = 0; i < t->n_fifo; i++) {
    const uint8_t *at = frame_io_fifo(w, t->fifo[i].region, t->fifo[i].off, t->fifo[i].len);
    if (at == NULL || p->n_pieces == PKT_PIECES_MAX)
      return -EFAULT;
    p->piece[p->n_pieces++] = (struct pkt_piece){.p = at, .len = t->fifo[i].len};
  }
  return 0;
}

uint32_t frame_io_loop(struct worker *w) {
  uint32_t n = w->loop_tail - w->loop_head;
  for (uint32_t i = 0; i < n; i++) {
    struct txf t = w->loop[w->loop_head++ % WORKER_LOOP_MAX];
    struct pkt p;
    if (frame_io_loop_pkt(w, &t, &p) == 0)
      ip_loop_input(worker_ip(w, p.vrf), &p, w->now);
    frame_io_drop(w, &t);
  }
  if (n > 0 && !list_empty(&w->starved))
    session_unstarve(w);
  return n;
}

uint32_t frame_io_done(struct worker *w) {
  uint32_t slots[WORKER_RX_BURST];
  int n = frame_done_take(&w->link, slots, WORKER_RX_BURST);
  for (int i = 0; i < n; i++) {
    uint32_t at = slots[i] - w->tx_first;
    if (at >= w->n_tx || w->tx_home[at])
      continue;
    w->tx_home[at] = 1;
    w->tx_free[w->n_tx_free++] = slots[i];
  }
  if (n > 0 && !list_empty(&w->starved))
    session_unstarve(w);
  return n > 0 ? (uint32_t)n : 0;
}

/* A descriptor as a piece of a packet, or 0 when it names memory outside the RX region. */
static int frame_io_piece(struct worker *w, const struct abi_frame_desc *d, struct pkt *p) {
  const struct abi_packet_geom *g = &w->frames.geom;
  uint64_t end = g->rx_off + g->n_rx * ABI_SLOT_SIZE;
  if (d->region != ABI_REGION_PACKET || d->off < g->rx_off || d->off > end || d->len > end - d->off ||
      p->n_pieces == PKT_PIECES_MAX)
    return 0;
  p->piece[p->n_pieces++] = (struct pkt_piece){.p = w->packet_seg.base + d->off, .len = d->len};
  p->len += d->len;
  return 1;
}

/* One frame of n descriptors. */
static void frame_io_frame(struct worker *w, const struct abi_frame_desc *d, uint32_t n) {
  struct pkt p;
  p.n_pieces = 0;
  p.len = 0;
  p.to_us = 0;
  p.flags = d->flags & (uint16_t)~PKT_STRAY;
  p.gso_size = d->gso_size;
  p.port = d->port;
  int good = 1;
  for (uint32_t i = 0; i < n; i++)
    good &= frame_io_piece(w, &d[i], &p);
  if (!good) {
    worker_count(w, EC_RX_BAD_DESC, 1);
    return;
  }
  worker_count(w, EC_RX_FRAMES, 1);
  worker_count(w, EC_RX_BYTES, p.len);
  p.vrf = HS_LIKELY(w->n_vrfs == 1) ? 0 : vrf_of_frame(w, &p);
  if (w->group->n > 1 && w->index == 0)
    pass_neighbour(w, &p);
  ip_input(worker_ip(w, p.vrf), &p, w->now);
}

uint32_t frame_io_rx(struct worker *w) {
  struct abi_frame_desc d[WORKER_RX_BURST];
  int n = frame_take(&w->link, d, WORKER_RX_BURST);
  for (int i = 0; i < n;) {
    int first = i;
    while (i + 1 < n && (d[i].flags & ABI_FR_CHAIN))
      i++;
    i++;
    frame_io_frame(w, &d[first], (uint32_t)(i - first));
    for (int k = first; k < i; k++)
      frame_done_push(&w->link, d[k].slot);
  }
  return n > 0 ? (uint32_t)n : 0;
}

void frame_io_reclaim(struct worker *w) {
  w->loop_head = w->loop_tail;
  vrf_drop_queued(w); /* or it would later send slots that are somebody else's by then */
  w->n_tx_free = 0;
  for (uint32_t i = w->n_tx; i > 0; i--) {
    w->tx_home[i - 1] = 1;
    w->tx_free[w->n_tx_free++] = w->tx_first + i - 1;
  }
}

void frame_io_poll(struct worker *w) {
  switch (frame_link_poll(&w->link)) {
  case FRAME_SAME:
    return;
  case FRAME_PEER_NEW: /* the death of the old one is proved: nothing of ours is in its hands */
    worker_count(w, EC_LINK_PEER_NEW, 1);
    frame_io_reclaim(w);
    frame_link_ack(&w->link);
    w->wake_peer = 1;
    worker_path_back(w);
    break;
  case FRAME_CAME_UP:
    frame_io_reclaim(w);
    break;
  }
  if (w->link.up)
    session_unstarve(w);
}
