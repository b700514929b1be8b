/*
 * Cutting a datagram that is longer than its path into fragments (RFC 791 3.2, RFC 8200 4.5, RFC 6864). Called by
 * ip_output.c for datagrams whose sender allows it (txf.frag_mtu); worker thread, not on TCP's way.
 *
 * Each fragment is a frame of its own: bytes from the datagram's slot are copied, fifo pieces are referred to. Ids are
 * counters under a keyed hash, so that a stranger cannot foresee them (RFC 7739 5.4).
 */
#include "base/hash.h"
#include "ip/ip_stack.h"

static uint32_t frag_id(struct ip_stack *s, const struct ip_addr *src, const struct ip_addr *dst, uint8_t proto) {
  uint8_t key[33];
  memcpy(key, src->b, 16);
  memcpy(key + 16, dst->b, 16);
  key[32] = proto;
  uint64_t h = hash_siphash24(s->neigh.key, key, sizeof key);
  return (uint32_t)(h >> 32) + s->frag_count[h % STACK_FRAG_COUNTERS]++;
}

/* Bytes [off, off + n) of the datagram t become the payload of f. 0 or -EMSGSIZE. */
static int frag_fill(const struct txf *t, uint32_t off, uint32_t n, struct txf *f) {
  if (off < t->len) {
    f->len = HS_MIN(n, t->len - off);
    memcpy(f->data, t->data + off, f->len);
  }
  uint32_t at = t->len, end = off + n;
  for (uint32_t i = 0; i < t->n_fifo && at < end; i++) {
    uint32_t from = HS_MAX(off, at), to = HS_MIN(end, at + t->fifo[i].len);
    if (from < to) {
      f->fifo[f->n_fifo] = t->fifo[i];
      f->fifo[f->n_fifo].off += from - at;
      f->fifo[f->n_fifo++].len = to - from;
      f->fifo_len += to - from;
    }
    at += t->fifo[i].len;
  }
  return f->len + f->fifo_len == n ? 0 : -EMSGSIZE;
}

static int frag_send(struct ip_stack *s, const struct txf *t, struct ip_hdr *h, uint32_t off, uint32_t n,
                     const uint8_t mac[6]) {
  struct txf f;
  int err = stack_frame(s, &f, t->port);
  if (err < 0)
    return err;
  h->frag_off = (uint16_t)off;
  h->flags = (uint16_t)(IP_FLAG_FRAG | (off + n < t->len + t->fifo_len ? IP_FLAG_MF : 0));
  unsigned hlen = ip_hdr_size(h);
  h->total_len = hlen + n;
  err = frag_fill(t, off, n, &f);
  if (err == 0 && ip_hdr_build(txf_push(&f, hlen), hlen, h) < 0)
    err = -EMSGSIZE;
  if (err < 0) {
    s->ops.frame_drop(s->ctx, &f);
    return err;
  }
  stack_count(s, IPC_TX_FRAGMENTS);
  stack_count(s, IPC_TX_PACKETS);
  eth_output(s, &f, mac, h->version == 4 ? ETH_TYPE_IP4 : ETH_TYPE_IP6);
  return 0;
}

int frag_output(struct ip_stack *s, struct txf *t, struct ip_hdr *h, uint32_t mtu, const uint8_t mac[6]) {
  uint32_t l4 = t->len + t->fifo_len, hlen = h->version == 4 ? IP4_HLEN : IP6_HLEN + IP6_FRAG_LEN, off = 0;
  int err = -EMSGSIZE;
  /* the checksum of the whole cannot be finished by whoever sees but a part */
  if (t->flags & (ABI_FR_CSUM_PART | ABI_FR_GSO_UDP) || t->gso_size != 0 || mtu < hlen + 8)
    goto out;
  if (l4 + (h->version == 4 ? IP4_HLEN : 0u) > 65535) /* RFC 8200 4.5: of the whole, without fragment header */
    goto out;
  uint32_t most = HS_MIN((mtu - hlen) & ~7u, STACK_SLOT_ROOM & ~7u);
  h->frag_id = frag_id(s, &h->src, &h->dst, h->proto);
  err = 0;
  for (; err == 0 && off < l4; off += most)
    err = frag_send(s, t, h, off, HS_MIN(most, l4 - off), mac);
out:
  stack_count(s, err == 0 ? IPC_TX_FRAGMENTED : err == -ENOBUFS ? IPC_TX_NO_FRAME : IPC_TX_TOO_LONG);
  s->ops.frame_drop(s->ctx, t);
  return err;
}
