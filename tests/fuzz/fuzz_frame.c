/*
 * Fuzz target over one side of a frame link whose peer writes whatever it likes into its words and its rings: nothing
 * is read outside the segment, no call returns more than it was asked for or an entry of another pair of epochs, and
 * the own words are written by nobody else. Corpus in corpus/frame.
 */
#include "base/err.h"
#include "fuzz.h"
#include "shm/frame.h"

#define N_RX 8u
#define N_TX 4u

/** One entry of a ring of the peer, with the right tag or any other. */
static void scribble(struct fuzz_input *in, const struct frame_link *l, uint8_t op) {
  struct abi_frame_desc *d = (struct abi_frame_desc *)(uintptr_t)l->in_desc;
  struct abi_frame_done *g = (struct abi_frame_done *)(uintptr_t)l->in_done;
  uint32_t i = fuzz_take_le(in, 1);
  if (op & 0x10) {
    d += i % l->in_desc_cap;
    d->slot = fuzz_take_le(in, 1);
    d->flags = (uint16_t)fuzz_take_le(in, 1);
    d->tag = op & 0x20 ? l->tag : fuzz_take_le(in, 4);
  } else {
    g += i % l->in_done_cap;
    g->slot = fuzz_take_le(in, 4);
    g->tag = op & 0x20 ? l->tag : fuzz_take_le(in, 4);
  }
}

static void peer_word(struct fuzz_input *in, struct abi_link_side *p, uint8_t op) {
  uint32_t *word[] = {&p->epoch, &p->seen, &p->desc_tail, &p->done_tail, &p->desc_head, &p->done_head, &p->armed};
  uint32_t *w = word[(op >> 4) % 7];
  *w = op & 8 ? fuzz_take_le(in, 4) : *w + fuzz_take_le(in, 1) % 10;
}

static void check_take(struct frame_link *l, struct fuzz_input *in) {
  struct abi_frame_desc d[16];
  uint32_t n = fuzz_take_le(in, 1) % 17;
  int got = frame_take(l, d, n);
  REQUIRE(got == -EPROTO || (got >= 0 && got <= (int)n));
  for (int i = 0; i < got; i++)
    REQUIRE(d[i].tag == l->tag);
}

static void check_done(struct frame_link *l, struct fuzz_input *in) {
  uint32_t slots[16];
  uint32_t n = fuzz_take_le(in, 1) % 17;
  int got = frame_done_take(l, slots, n);
  REQUIRE(got == -EPROTO || (got >= 0 && got <= (int)n));
}

static void step(struct fuzz_input *in, struct frame_link *l) {
  static const struct abi_frame_desc d[4];
  struct abi_link_side *peer = (struct abi_link_side *)(uintptr_t)l->peer;
  uint8_t op = (uint8_t)fuzz_take_le(in, 1);
  switch (op & 7) {
  case 0:
    peer_word(in, peer, op);
    break;
  case 1:
    scribble(in, l, op);
    break;
  case 2:
    if (frame_link_poll(l) == FRAME_PEER_NEW && (op & 0x10))
      frame_link_ack(l);
    break;
  case 3:
    check_take(l, in);
    break;
  case 4:
    check_done(l, in);
    break;
  case 5:
    if (frame_room(l) >= 4) {
      frame_push(l, d, (op >> 4) % 5);
      frame_done_push(l, op);
    }
    REQUIRE(frame_room(l) <= l->out_desc_cap);
    break;
  case 6:
    (void)frame_flush(l);
    (void)frame_pending(l);
    REQUIRE(frame_arm(l) >= 0);
    frame_disarm(l);
    break;
  default:
    if (op & 0x10)
      frame_link_reset(l);
    else if (op & 0x20) /* a peer that behaves: both sides see each other */
      peer->seen = l->epoch;
    else
      peer->epoch++;
    break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input in = {.p = data, .left = size};
  struct abi_packet_geom g;
  struct frame_seg fs;
  struct frame_link l;
  struct seg seg = {.kind = ABI_SEG_PACKET};
  seg.size = frame_geom_make(&g, 1, N_RX, N_TX);
  seg.size = g.rx_off; /* of the slots nothing is touched here: the heap block ends with the rings */
  seg.base = calloc(1, seg.size);
  seg.size += (uint64_t)(N_RX + N_TX) * ABI_SLOT_SIZE;
  memcpy(seg.geom, &g, sizeof g);
  REQUIRE(seg.base != NULL && frame_seg_open(&fs, &seg, NULL) == 0);
  REQUIRE(frame_link_open(&l, &fs, 0, fuzz_take_le(&in, 1) & 1 ? FRAME_ENGINE : FRAME_NICIO) == 0);
  while (in.left != 0) {
    step(&in, &l);
    REQUIRE(l.mine->epoch == l.epoch && l.mine->desc_head == l.in_desc_head && l.mine->done_head == l.in_done_head);
  }
  free(seg.base);
  return 0;
}
