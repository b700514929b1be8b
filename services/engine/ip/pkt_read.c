/*
 * Reading a received frame that lies in pieces. The piece list is private memory, made by the frame link from checked
 * descriptors; lengths of single pieces are trusted, their sum is what counts. Worker thread, hot path.
 */
#include "ip/pkt_read.h"
#include "base/bits.h"

/* Piece that holds byte `off`; *at becomes the offset in it. n_pieces if there is none. */
static uint32_t pkt_read_seek(const struct pkt *p, uint32_t off, uint32_t *at) {
  uint32_t n = HS_MIN(p->n_pieces, PKT_PIECES_MAX), i = 0;
  while (i < n && off >= p->piece[i].len)
    off -= p->piece[i++].len;
  *at = off;
  return i;
}

uint32_t pkt_read_copy(const struct pkt *p, uint32_t off, uint32_t len, uint8_t *dst) {
  uint32_t done = 0, at;
  for (uint32_t i = pkt_read_seek(p, off, &at); i < p->n_pieces && i < PKT_PIECES_MAX && done < len; i++, at = 0) {
    uint32_t n = HS_MIN(p->piece[i].len - at, len - done);
    memcpy(dst + done, p->piece[i].p + at, n);
    done += n;
  }
  return done;
}

const uint8_t *pkt_read_at(const struct pkt *p, uint32_t off, uint32_t len, uint8_t *buf) {
  uint32_t at, i = pkt_read_seek(p, off, &at);
  if (i >= p->n_pieces || i >= PKT_PIECES_MAX)
    return NULL;
  if (p->piece[i].len - at >= len)
    return p->piece[i].p + at;
  return pkt_read_copy(p, off, len, buf) == len ? buf : NULL;
}

cksum_t pkt_read_sum(const struct pkt *p, uint32_t off, uint32_t len) {
  cksum_t sum = 0;
  uint32_t done = 0, at;
  for (uint32_t i = pkt_read_seek(p, off, &at); i < p->n_pieces && i < PKT_PIECES_MAX && done < len; i++, at = 0) {
    uint32_t n = HS_MIN(p->piece[i].len - at, len - done);
    sum = cksum_combine(sum, cksum_add(0, p->piece[i].p + at, n), (int)(done & 1));
    done += n;
  }
  return sum;
}

int pkt_read_l4_ok(const struct pkt *p) {
  cksum_t sum = cksum_pseudo(&p->ip.src, &p->ip.dst, p->ip.proto, p->l4_len);
  return cksum_fold(cksum_join(sum, pkt_read_sum(p, p->l4_off, p->l4_len))) == 0;
}
