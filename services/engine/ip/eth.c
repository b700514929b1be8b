/*
 * Ethernet: which frames concern us, and the header of those we send. Called by ip_input.c and by everybody who sends;
 * worker thread, hot path. RFC 894, 2464; IEEE 802.1Q: a tagged frame belongs to the VLAN of its port that has this id,
 * or is dropped; VLAN 0 only carries a priority.
 */
#include "ip/ip_stack.h"
#include "ip/pkt_read.h"

/* The frame's head in one piece, copied together only if it is scattered. */
static int eth_head(struct ip_stack *s, const struct pkt *p, struct ip_view *v) {
  if (p->n_pieces == 0 || p->n_pieces > PKT_PIECES_MAX)
    return -EBADMSG;
  v->h = p->piece[0].p;
  v->avail = p->piece[0].len;
  if (HS_UNLIKELY(v->avail < STACK_HEAD_MAX && p->n_pieces > 1)) {
    v->avail = pkt_read_copy(p, 0, STACK_HEAD_MAX, s->head);
    v->h = s->head;
  }
  return 0;
}

/* Whose frame a tagged one is: p->port becomes the VLAN. */
static int eth_vlan(const struct ip_stack *s, struct pkt *p, const struct eth_hdr *h) {
  unsigned id = eth_vlan_id(h->tci[0]);
  if (h->n_tags > 1)
    return -ENOENT;
  if (id == 0)
    return 0;
  for (uint32_t i = ABI_PORTS_MAX; i < STACK_PORTS_MAX && s->port[i].vlan != 0; i++) {
    if (s->port[i].vlan != id || s->port[i].parent != p->port)
      continue;
    if (s->port[i].foreign)
      return -ENOENT;
    p->port = (uint8_t)i;
    return 0;
  }
  return -ENOENT;
}

int eth_input(struct ip_stack *s, struct pkt *p, struct ip_view *v) {
  if (HS_UNLIKELY(p->port >= ABI_PORTS_MAX || !s->port[p->port].used)) {
    stack_count(s, IPC_RX_NO_PORT);
    return -EBADMSG;
  }
  int err = eth_head(s, p, v);
  if (err < 0 || v->avail < ETH_HLEN) {
    stack_count(s, IPC_RX_SHORT);
    return -EBADMSG;
  }
  err = eth_hdr_parse(v->h, v->avail, &v->eth);
  if (err < 0 || mac_addr_is_multicast(&v->eth.src)) {
    stack_count(s, err == WIRE_LIMIT ? IPC_RX_VLAN : IPC_RX_BAD_ETH);
    return -EBADMSG;
  }
  if (HS_UNLIKELY(v->eth.n_tags != 0) && eth_vlan(s, p, &v->eth) < 0) {
    stack_count(s, IPC_RX_VLAN);
    return -EBADMSG;
  }
  if (HS_UNLIKELY(!mac_addr_is_multicast(&v->eth.dst) && memcmp(v->eth.dst.b, s->port[p->port].mac, 6) != 0)) {
    stack_count(s, IPC_RX_OTHER_MAC);
    return -EBADMSG;
  }
  if (HS_UNLIKELY(memcmp(v->eth.src.b, s->port[p->port].mac, 6) == 0)) { /* our own frame, looped back by the link */
    stack_count(s, IPC_RX_BAD_ETH);
    return -EBADMSG;
  }
  p->ethertype = v->eth.type;
  p->l3_off = v->eth.hdr_len;
  return 0;
}

void eth_output(struct ip_stack *s, struct txf *t, const uint8_t dst[6], uint16_t type) {
  const struct ip_port *port = &s->port[t->port];
  uint8_t *h = txf_push(t, port->vlan != 0 ? ETH_HLEN + ETH_VLAN_LEN : ETH_HLEN);
  memcpy(h, dst, 6);
  memcpy(h + 6, port->mac, 6);
  if (port->vlan != 0) {
    store_be16(h + 12, ETH_TYPE_VLAN);
    store_be16(h + 14, port->vlan);
    h += ETH_VLAN_LEN;
    t->port = port->parent;
  }
  store_be16(h + 12, type);
  s->ops.frame_send(s->ctx, t);
}
