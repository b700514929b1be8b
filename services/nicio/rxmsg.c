/*
 * Receiving into RX slots (rxmsg.h). Lcore thread, hot path.
 */
#include "rxmsg.h"

#include "base/bits.h"

#define RXMSG_TAG 4u /* bytes of an 802.1Q tag */

void rxmsg_init(struct rxmsg *m) {
  memset(m, 0, sizeof *m);
  m->iov[0] = (struct iovec){.iov_base = &m->vnet, .iov_len = sizeof m->vnet};
  for (uint32_t i = 0; i < RXMSG_SLOTS; i++)
    m->iov[i + 1].iov_len = ABI_SLOT_SIZE - RXMSG_FRONT;
}

int rxmsg_arm(struct port *p, struct rxmsg *m) {
  while (m->n < RXMSG_SLOTS) {
    uint32_t slot = slots_get(p->slots);
    if (slot == ABI_SEG_NONE)
      return 0;
    m->slot[m->n] = slot;
    m->iov[m->n + 1].iov_base = p->fs->seg->base + frame_rx_off(p->fs, slot) + RXMSG_FRONT;
    m->n++;
  }
  return 1;
}

/* The two addresses move up, the tag takes their place. */
static void rxmsg_tag(const struct port *p, const struct rxmsg *m, struct abi_frame_desc *d) {
  uint8_t *at = p->fs->seg->base + d->off - RXMSG_TAG;
  memmove(at, at + RXMSG_TAG, 12);
  store_be16(at + 12, m->vlan_tpid);
  store_be16(at + 14, m->vlan_tci);
  d->off -= RXMSG_TAG;
  d->len += RXMSG_TAG;
  if (d->flags & ABI_FR_CSUM_PART)
    d->csum_start = (uint16_t)(d->csum_start + RXMSG_TAG);
}

uint32_t rxmsg_deliver(struct port *p, struct rxmsg *m, uint32_t got, struct abi_frame_desc *d) {
  uint32_t n = 0, len = got - (uint32_t)sizeof m->vnet;

  if (got < sizeof m->vnet + PKT_LEN_MIN || len > PKT_LEN_MAX || vnet_in(&m->vnet, d, len) < 0) {
    port_count(p, ABI_PC_RX_ERROR, 1);
    return 0;
  }
  port_count(p, ABI_PC_RX_FRAMES, 1);
  port_count(p, ABI_PC_RX_BYTES, len);
  for (; len > 0; n++) {
    uint32_t take = HS_MIN(len, ABI_SLOT_SIZE - RXMSG_FRONT);
    if (n > 0)
      d[n] = (struct abi_frame_desc){0};
    d[n].off = frame_rx_off(p->fs, m->slot[n]) + RXMSG_FRONT;
    d[n].region = ABI_REGION_PACKET;
    d[n].slot = m->slot[n];
    d[n].tag = 0;
    d[n].len = take;
    d[n].port = p->index;
    len -= take;
    if (len > 0)
      d[n].flags |= ABI_FR_CHAIN;
  }
  if (m->vlan_tpid != 0)
    rxmsg_tag(p, m, d);
  for (uint32_t s = n; s < m->n; s++) { /* the unused ones stay armed */
    m->slot[s - n] = m->slot[s];
    m->iov[s - n + 1].iov_base = m->iov[s + 1].iov_base;
  }
  m->n -= n;
  return n;
}

void rxmsg_fini(struct port *p, struct rxmsg *m) {
  while (m->n > 0)
    slots_put(p->slots, m->slot[--m->n]);
}
