/*
 * Capture ring (capture.h): bytes of records one after the other in a private ring, free-running positions.
 */
#include "capture.h"

#include "base/bits.h"

#include <stdlib.h>

struct capture_ring {
  uint32_t cap;
  uint64_t head; /* atomic: taken by the control thread */
  uint64_t tail; /* atomic: put by the lcore */
  uint64_t lost; /* atomic */
  uint8_t data[];
};

struct capture_ring *capture_new(uint32_t bytes) {
  struct capture_ring *r;

  if (!bits_is_pow2(bytes) || bytes < 2 * PKT_LEN_MAX)
    return NULL;
  r = malloc(sizeof *r + bytes);
  if (r == NULL)
    return NULL;
  memset(r, 0, sizeof *r);
  r->cap = bytes;
  return r;
}

void capture_free(struct capture_ring *r) {
  free(r);
}

/** Copy into the ring at position pos. */
static void capture_write(struct capture_ring *r, uint64_t pos, const void *src, uint32_t n) {
  uint32_t at = (uint32_t)(pos & (r->cap - 1)), first = HS_MIN(n, r->cap - at);

  memcpy(r->data + at, src, first);
  memcpy(r->data, (const uint8_t *)src + first, n - first);
}

static void capture_read(const struct capture_ring *r, uint64_t pos, void *dst, uint32_t n) {
  uint32_t at = (uint32_t)(pos & (r->cap - 1)), first = HS_MIN(n, r->cap - at);

  memcpy(dst, r->data + at, first);
  memcpy((uint8_t *)dst + first, r->data, n - first);
}

void capture_put(struct capture_ring *r, const struct pkt *p, uint32_t port, uint32_t dir, uint32_t snaplen,
                 uint64_t wall_us) {
  struct capture_rec rec = {
      .wall_us = wall_us, .caplen = HS_MIN(p->len, snaplen), .origlen = p->len, .port = port, .dir = dir};
  uint64_t need = sizeof rec + bits_align_up(rec.caplen, 8);
  uint64_t head = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);

  if (r->tail + need - head > r->cap) {
    __atomic_store_n(&r->lost, r->lost + 1, __ATOMIC_RELAXED);
    return;
  }
  capture_write(r, r->tail, &rec, sizeof rec);
  uint64_t at = r->tail + sizeof rec;
  uint32_t left = rec.caplen;
  for (uint32_t i = 0; i < p->n && left > 0; i++) {
    uint32_t take = HS_MIN(left, (uint32_t)p->iov[i].iov_len);
    capture_write(r, at, p->iov[i].iov_base, take);
    at += take;
    left -= take;
  }
  __atomic_store_n(&r->tail, r->tail + need, __ATOMIC_RELEASE);
}

int capture_get(struct capture_ring *r, struct capture_rec *rec, uint8_t *buf, uint32_t room) {
  uint64_t tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);

  if (r->head == tail)
    return 0;
  capture_read(r, r->head, rec, sizeof *rec);
  uint64_t next = r->head + sizeof *rec + bits_align_up(rec->caplen, 8);
  rec->caplen = HS_MIN(rec->caplen, room);
  capture_read(r, r->head + sizeof *rec, buf, rec->caplen);
  __atomic_store_n(&r->head, next, __ATOMIC_RELEASE);
  return 1;
}

uint64_t capture_lost(const struct capture_ring *r) {
  return __atomic_load_n(&r->lost, __ATOMIC_RELAXED);
}
