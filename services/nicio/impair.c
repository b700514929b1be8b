/*
 * Impairment (impair.h): a heap of copies by the time they are due. Equal times leave in the order they came.
 */
#include "impair.h"

#include "base/bits.h"
#include "base/rng.h"
#include "gso.h"

#include <stdlib.h>

#define IMPAIR_PPM         10000.0      /* per percent */
#define IMPAIR_QUEUE_NS    200000000u   /* the queue before the rate limit, unless its size is told: 200 ms worth */
#define IMPAIR_QUEUE_BYTES (1ull << 30) /* no more of it */
#define IMPAIR_REORDER_US  1000u        /* with no delay set, a reordered packet is late by this */

struct impair_pkt {
  usec_t due;
  uint64_t seq; /* order of arrival */
  uint32_t len;
  uint16_t flags;
  uint16_t pad;
  uint8_t data[];
};

struct impair {
  uint32_t loss, reorder, duplicate, corrupt; /* ppm */
  uint32_t delay_us, jitter_us;
  uint64_t rate_bps;
  uint64_t queue_ns; /* rate: what may wait, as the time that the line needs for it */
  struct rng rng;
  uint64_t line_free; /* rate: when the line has sent all that was put, ns: a packet may take less than 1 µs */
  usec_t last_due;    /* without reordering, nothing overtakes */
  uint64_t seq;
  uint32_t n;
  struct impair_pkt *heap[IMPAIR_QUEUE_MAX];
};

int impair_wanted(const struct config_impair *c) {
  return c->loss_percent > 0 || c->reorder_percent > 0 || c->duplicate_percent > 0 || c->corrupt_percent > 0 ||
         c->delay_us > 0 || c->jitter_us > 0 || c->rate_bps > 0;
}

struct impair *impair_new(const struct config_impair *c) {
  struct impair *im = calloc(1, sizeof *im);

  if (im == NULL)
    return NULL;
  im->loss = (uint32_t)(c->loss_percent * IMPAIR_PPM);
  im->reorder = (uint32_t)(c->reorder_percent * IMPAIR_PPM);
  im->duplicate = (uint32_t)(c->duplicate_percent * IMPAIR_PPM);
  im->corrupt = (uint32_t)(c->corrupt_percent * IMPAIR_PPM);
  im->delay_us = c->delay_us;
  im->jitter_us = c->jitter_us;
  im->rate_bps = c->rate_bps;
  im->queue_ns = IMPAIR_QUEUE_NS;
  if (c->queue_bytes > 0 && c->rate_bps > 0)
    im->queue_ns = HS_MIN(c->queue_bytes, IMPAIR_QUEUE_BYTES) * 8000000000u / c->rate_bps;
  rng_init(&im->rng, c->seed);
  return im;
}

void impair_free(struct impair *im) {
  if (im == NULL)
    return;
  while (im->n > 0)
    free(im->heap[--im->n]);
  free(im);
}

static int impair_before(const struct impair_pkt *a, const struct impair_pkt *b) {
  return a->due != b->due ? a->due < b->due : a->seq < b->seq;
}

static void impair_push(struct impair *im, struct impair_pkt *k) {
  uint32_t i = im->n++;

  while (i > 0 && impair_before(k, im->heap[(i - 1) / 2])) {
    im->heap[i] = im->heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  im->heap[i] = k;
}

/** When a packet put now leaves: line rate, then delay and jitter; never before an earlier one unless reordered. */
static usec_t impair_due(struct impair *im, uint32_t len, usec_t now) {
  usec_t start = now;

  if (im->rate_bps > 0) {
    im->line_free = HS_MAX(im->line_free, now * 1000u) + (uint64_t)len * 8u * 1000000000u / im->rate_bps;
    start = (im->line_free + 999u) / 1000u;
  }
  if (im->reorder > 0 && rng_chance_ppm(&im->rng, im->reorder))
    return im->delay_us > 0 ? start : start + IMPAIR_REORDER_US;
  usec_t due = start + im->delay_us;
  if (im->jitter_us > 0)
    due += rng_below(&im->rng, (uint64_t)im->jitter_us * 2 + 1);
  due = im->jitter_us > 0 && due > start + im->jitter_us ? due - im->jitter_us : due;
  im->last_due = HS_MAX(im->last_due, due);
  return im->last_due;
}

/** One wire packet. Returns 1 when it was dropped. */
static uint32_t impair_put_wire(struct impair *im, const uint8_t *data, uint32_t len, uint16_t flags, usec_t now) {
  if (im->loss > 0 && rng_chance_ppm(&im->rng, im->loss))
    return 1;
  if (im->rate_bps > 0 && im->line_free > now * 1000u + im->queue_ns)
    return 1; /* drop-tail, as most routers */
  uint32_t copies = im->duplicate > 0 && rng_chance_ppm(&im->rng, im->duplicate) ? 2 : 1;
  for (uint32_t i = 0; i < copies; i++) {
    struct impair_pkt *k = im->n < IMPAIR_QUEUE_MAX ? malloc(sizeof *k + len) : NULL;
    if (k == NULL)
      return 1;
    k->due = impair_due(im, len, now);
    k->seq = im->seq++;
    k->len = len;
    k->flags = flags;
    memcpy(k->data, data, len);
    if (im->corrupt > 0 && len > PKT_LEN_MIN && rng_chance_ppm(&im->rng, im->corrupt)) {
      uint64_t at = rng_range(&im->rng, PKT_LEN_MIN, len - 1);
      k->data[at] = (uint8_t)(k->data[at] ^ (1u << rng_below(&im->rng, 8)));
      k->flags = 0; /* nobody vouches for it */
    }
    impair_push(im, k);
  }
  return 0;
}

uint32_t impair_put(struct impair *im, const struct pkt *p, usec_t now) {
  uint8_t wire[PKT_LEN_MAX];
  struct gso g;
  uint32_t dropped = 0;
  int len;

  if (gso_init(&g, p) < 0)
    return 1;
  while ((len = gso_next(&g, wire, sizeof wire)) > 0)
    dropped += impair_put_wire(im, wire, (uint32_t)len, p->flags & ABI_FR_CSUM_OK, now);
  return dropped;
}

int impair_peek(struct impair *im, struct pkt *out, usec_t now) {
  if (im->n == 0 || im->heap[0]->due > now)
    return 0;
  pkt_flat(out, im->heap[0]->data, im->heap[0]->len);
  out->flags = im->heap[0]->flags;
  return 1;
}

void impair_pop(struct impair *im) {
  if (im->n == 0)
    return;
  free(im->heap[0]);
  struct impair_pkt *k = im->heap[--im->n];
  uint32_t i = 0;
  for (;;) {
    uint32_t c = 2 * i + 1;
    if (c >= im->n)
      break;
    if (c + 1 < im->n && impair_before(im->heap[c + 1], im->heap[c]))
      c++;
    if (!impair_before(im->heap[c], k))
      break;
    im->heap[i] = im->heap[c];
    i = c;
  }
  im->heap[i] = k;
}

usec_t impair_next(const struct impair *im) {
  return im->n == 0 ? UINT64_MAX : im->heap[0]->due;
}
