/*
 * Hostile TX descriptors: bytes of the input are descriptors and header bytes as a mad engine would push them. Whatever
 * passes txq_check is resolved, cut, finished, captured and translated; nothing may read outside the segment (asan sees
 * the mapping's ends as the kernel does, and frames are copied out of exact allocations).
 */
#include "capture.h"
#include "gso.h"
#include "impair.h"
#include "txq.h"
#include "vnet.h"

#include "base/bits.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_TX 8u

static struct frame_seg fs;
static struct seg seg;
static struct regions regions;

static void set_up(void) {
  struct abi_packet_geom g;
  uint64_t size = frame_geom_make(&g, 1, 8, N_TX);

  seg.base = aligned_alloc(4096, size); /* asan guards both ends */
  seg.size = size;
  seg.kind = ABI_SEG_PACKET;
  memset(seg.base, 0, size);
  memcpy(seg.geom, &g, sizeof g);
  if (frame_seg_open(&fs, &seg, NULL) < 0 || region_init(&regions) < 0)
    abort();
}

/** Everything that may happen to a frame that passed the check. */
static void use(const struct pkt *p) {
  static uint8_t wire[PKT_LEN_MAX];
  static struct capture_ring *ring;
  struct virtio_net_hdr v;
  struct gso g;
  int len, turns = 0;

  vnet_out(&v, p);
  if (ring == NULL)
    ring = capture_new(1u << 18);
  capture_put(ring, p, 0, CAPTURE_OUT, 65599, 0);
  struct capture_rec rec;
  if (!capture_get(ring, &rec, wire, sizeof wire) || rec.caplen != p->len)
    abort();
  if (gso_init(&g, p) < 0)
    return;
  while ((len = gso_next(&g, wire, sizeof wire)) > 0) {
    if ((uint32_t)len > gso_longest(&g) || ++turns > 70000)
      abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct txq q;
  struct abi_frame_desc d[48];
  struct pkt pk[4];
  uint32_t n = 0;

  if (fs.seg == NULL)
    set_up();
  memset(seg.base + fs.geom.tx_off, 0, N_TX * ABI_SLOT_SIZE);
  size_t head = HS_MIN(size, (size_t)128);
  for (uint32_t s = 0; s < N_TX; s++)
    memcpy(seg.base + frame_tx_off(&fs, s), data, head);
  data += head;
  size -= head;
  for (; size >= sizeof d[0] && n < ARRAY_LEN(d); n++, data += sizeof d[0], size -= sizeof d[0]) {
    memcpy(&d[n], data, sizeof d[0]);
    if (d[n].tag & 1) { /* half of them near the truth, so that they get further */
      d[n].off = fs.geom.tx_off + d[n].off % (N_TX * ABI_SLOT_SIZE);
      d[n].region = ABI_REGION_PACKET;
      d[n].slot %= N_TX;
      d[n].len %= 5000;
    }
  }
  q.head = q.tail = 0;
  for (uint32_t at = 0; at < n;) {
    uint32_t pieces = txq_pieces(d + at, n - at);
    if (txq_check(d + at, pieces, &fs) == 0)
      txq_push(&q, 0, d + at, pieces);
    at += pieces;
  }
  uint32_t got = txq_peek(&q, &fs, &regions, pk, ARRAY_LEN(pk));
  for (uint32_t i = 0; i < got; i++)
    if (pk[i].len > 0)
      use(&pk[i]);
  return 0;
}
