/*
 * Copying out of a frame that lies in pieces (pkt.h). Lcore thread, hot path.
 */
#include "pkt.h"

uint32_t pkt_copy(const struct pkt *p, uint32_t off, void *dst, uint32_t len) {
  uint8_t *out = dst;
  uint32_t done = 0;

  for (uint32_t i = 0; i < p->n && done < len; i++) {
    uint32_t have = (uint32_t)p->iov[i].iov_len;
    if (off >= have) {
      off -= have;
      continue;
    }
    uint32_t take = have - off < len - done ? have - off : len - done;
    memcpy(out + done, (const uint8_t *)p->iov[i].iov_base + off, take);
    done += take;
    off = 0;
  }
  return done;
}
