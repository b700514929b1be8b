/*
 * Frame links: geometry, start-up, bells, chains, tags, lying tails. Deaths are in tests/prop/shm/prop_frame.c.
 *
 * One thread that plays nicio and engine over plain memory.
 */
#include "base/bits.h"
#include "base/err.h"
#include "shm/frame.h"
#include "test.h"

#include <stdlib.h>

#define N_RX 16u
#define N_TX 8u

struct fix {
  struct seg seg;
  struct frame_seg fs;
  struct frame_link n, e;
};

static int setup(void **state) {
  struct fix *f = calloc(1, sizeof *f);
  struct abi_packet_geom g;
  f->seg.size = frame_geom_make(&g, 1, N_RX, N_TX);
  f->seg.base = calloc(1, f->seg.size);
  f->seg.kind = ABI_SEG_PACKET;
  memcpy(f->seg.geom, &g, sizeof g);
  assert_int_equal(frame_seg_open(&f->fs, &f->seg, NULL), 0);
  assert_int_equal(frame_link_open(&f->n, &f->fs, 0, FRAME_NICIO), 0);
  assert_int_equal(frame_link_open(&f->e, &f->fs, 0, FRAME_ENGINE), 0);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  struct fix *f = *state;
  free(f->seg.base);
  free(f);
  return 0;
}

static void meet(struct fix *f) {
  for (int i = 0; i < 3; i++) {
    if (frame_link_poll(&f->n) == FRAME_PEER_NEW)
      frame_link_ack(&f->n);
    if (frame_link_poll(&f->e) == FRAME_PEER_NEW)
      frame_link_ack(&f->e);
  }
  assert_true(f->n.up && f->e.up);
}

static void send(struct frame_link *l, uint32_t slot, uint16_t flags) {
  struct abi_frame_desc d = {.off = slot * 4096ull, .slot = slot, .len = 60, .flags = flags};
  frame_push(l, &d, 1);
}

static void geometry(void **state) {
  (void)state;
  for (uint32_t links = 1; links <= ABI_LINKS_MAX; links++)
    for (uint32_t n = 1; n <= 4096; n *= 4) {
      struct abi_packet_geom g;
      struct seg s = {.kind = ABI_SEG_PACKET, .base = (uint8_t *)4096};
      struct frame_seg fs;
      s.size = frame_geom_make(&g, links, n * 2, n);
      memcpy(s.geom, &g, sizeof g);
      assert_int_equal(frame_seg_open(&fs, &s, NULL), 0);
      assert_true(bits_is_pow2(g.n_tx_desc) && g.n_tx_desc * links >= n);
      assert_int_equal(frame_rx_off(&fs, 2 * n), frame_tx_off(&fs, 0));
      assert_int_equal(frame_tx_off(&fs, n), s.size);
      for (size_t i = 0; i < 8; i++) { /* every number damaged, up and down */
        static const int64_t by[] = {-1, 1, INT64_MAX, INT64_MIN, -4096, 1 << 30};
        for (size_t k = 0; k < ARRAY_LEN(by); k++) {
          const char *why = NULL;
          memcpy(s.geom, &g, sizeof g);
          s.geom[i] += (uint64_t)by[k];
          int rc = frame_seg_open(&fs, &s, &why);
          if (rc == 0) /* fewer of something, or a block moved within its gap, may still be sound */
            assert_true(i <= 6 && s.geom[0] <= ABI_LINKS_MAX);
          else
            assert_true(rc == -EPROTO && why != NULL);
        }
      }
      memcpy(s.geom, &g, sizeof g);
      s.size -= 4096;
      assert_int_equal(frame_seg_open(&fs, &s, NULL), -EPROTO);
      s.size += 4096;
      s.kind = ABI_SEG_APP;
      assert_int_equal(frame_seg_open(&fs, &s, NULL), -EPROTO);
    }
}

static void comes_up(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[4];
  uint32_t slots[4];
  assert_int_equal(frame_link_open(&f->n, &f->fs, 1, FRAME_NICIO), -EINVAL);
  assert_int_equal(frame_link_poll(&f->n), FRAME_PEER_NEW);
  assert_int_equal(frame_link_poll(&f->n), FRAME_PEER_NEW);
  assert_int_equal(frame_room(&f->n), N_RX);
  assert_int_equal(frame_room(&f->e), 0);
  assert_int_equal(frame_take(&f->e, d, 4), 0);
  assert_int_equal(frame_done_take(&f->e, slots, 4), 0);
  frame_link_ack(&f->n);
  assert_int_equal(frame_link_poll(&f->n), FRAME_SAME);
  assert_int_equal(frame_link_poll(&f->e), FRAME_PEER_NEW);
  assert_int_equal(frame_room(&f->e), 0);
  frame_link_ack(&f->e);
  assert_int_equal(frame_link_poll(&f->e), FRAME_CAME_UP);
  assert_int_equal(frame_link_poll(&f->e), FRAME_SAME);
  assert_int_equal(frame_link_poll(&f->n), FRAME_CAME_UP);
  assert_int_equal(frame_room(&f->e), f->e.out_desc_cap);
  assert_int_equal(f->n.tag, f->e.tag);
}

static void a_lone_side_waits(void **state) {
  struct fix *f = *state;
  f->fs.pkt->link[0].engine.epoch = 0; /* an engine never was */
  assert_int_equal(frame_link_poll(&f->n), FRAME_SAME);
  assert_int_equal(frame_room(&f->n), 0);
  frame_link_ack(&f->n); /* nothing to acknowledge */
  assert_int_equal(f->fs.pkt->link[0].nicio.seen, 0);
  assert_int_equal(frame_arm(&f->n), 1);
  f->fs.pkt->link[0].engine.epoch = 3;
  assert_int_equal(frame_arm(&f->n), 0); /* a new epoch is work */
}

static void epochs_skip_zero(void **state) {
  struct fix *f = *state;
  f->fs.pkt->link[0].nicio.epoch = 0xfffe;
  frame_link_reset(&f->n);
  assert_int_equal(f->n.epoch, 0xffff);
  frame_link_reset(&f->n);
  assert_int_equal(f->n.epoch, 0x10001);
  meet(f);
}

static void frames_go_round(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[N_RX];
  uint32_t slots[N_RX];
  meet(f);
  for (int round = 0; round < 40; round++) {
    for (uint32_t i = 0; i < N_RX; i++)
      send(&f->n, i, 0);
    assert_int_equal(frame_take(&f->e, d, N_RX), 0); /* not before the flush */
    assert_int_equal(frame_room(&f->n), 0);
    assert_int_equal(frame_flush(&f->n), 0);
    assert_int_equal(frame_take(&f->e, d, 5), 5);
    assert_int_equal(frame_take(&f->e, d + 5, N_RX), N_RX - 5);
    for (uint32_t i = 0; i < N_RX; i++) {
      assert_int_equal(d[i].slot, i);
      assert_int_equal(d[i].off, i * 4096ull);
      frame_done_push(&f->e, i);
    }
    assert_int_equal(frame_done_take(&f->n, slots, N_RX), 0);
    assert_int_equal(frame_flush(&f->e), 0);
    assert_int_equal(frame_done_take(&f->n, slots, N_RX), N_RX);
    assert_int_equal(slots[N_RX - 1], N_RX - 1);
    assert_int_equal(frame_room(&f->n), N_RX);
  }
}

static void bells(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[2];
  uint32_t slot;
  meet(f);
  assert_int_equal(frame_arm(&f->e), 1);
  assert_int_equal(frame_flush(&f->n), 0); /* nothing was pushed */
  frame_done_push(&f->n, 1);
  assert_int_equal(frame_flush(&f->n), 0);   /* done entries never ring … */
  assert_int_equal(frame_pending(&f->e), 0); /* … and are no work, unless one looks for slots */
  assert_int_equal(frame_arm_slots(&f->e), 0);
  assert_int_equal(frame_done_take(&f->e, &slot, 1), 1);
  assert_int_equal(frame_arm_slots(&f->e), 1);
  frame_done_push(&f->n, 1);
  assert_int_equal(frame_flush(&f->n), 1); /* … but for one who waits for a slot */
  send(&f->n, 0, 0);
  assert_int_equal(frame_flush(&f->n), 1);
  frame_disarm(&f->e);
  send(&f->n, 1, 0);
  assert_int_equal(frame_flush(&f->n), 0);
  assert_int_equal(frame_pending(&f->e), 1);
  assert_int_equal(frame_arm(&f->e), 0);
  assert_int_equal(frame_take(&f->e, d, 2), 2);
  assert_int_equal(frame_done_take(&f->e, &slot, 1), 1);
  assert_int_equal(frame_arm(&f->e), 1);
  assert_int_equal(frame_pending(&f->e), 0);
}

static void chains_stay_whole(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[N_RX];
  meet(f);
  send(&f->n, 0, 0);
  send(&f->n, 1, ABI_FR_CHAIN);
  send(&f->n, 2, ABI_FR_CHAIN);
  send(&f->n, 3, 0);
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, 3), 1);
  assert_int_equal(frame_take(&f->e, d, 2), 2); /* longer than n: in parts */
  assert_int_equal(d[1].slot, 2);
  assert_int_equal(frame_take(&f->e, d, 2), 1);
  assert_int_equal(d[0].slot, 3);
  send(&f->n, 4, ABI_FR_CHAIN); /* published in two steps: held back until it is whole */
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, N_RX), 0);
  send(&f->n, 5, 0);
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, N_RX), 2);
  for (uint32_t i = 0; i < N_RX; i++) /* a chain that fills the ring does not stop it for ever */
    send(&f->n, i, ABI_FR_CHAIN);
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, N_RX), N_RX);
}

static void foreign_tags_are_skipped(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[N_RX];
  uint32_t slots[4];
  meet(f);
  for (uint32_t i = 0; i < 6; i++) {
    send(&f->n, i, i == 1 ? ABI_FR_CHAIN : 0);
    frame_done_push(&f->n, i);
  }
  struct abi_frame_desc *ring = f->n.out_desc;
  ring[0].tag++;
  ring[2].tag--;
  ring[5].tag = 0;
  f->n.out_done[1].tag++;
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, N_RX), 3);
  assert_true(d[0].slot == 1 && d[1].slot == 3 && d[2].slot == 4);
  assert_int_equal(frame_take(&f->e, d, N_RX), 0);
  assert_int_equal(frame_done_take(&f->e, slots, 4), 4);
  assert_true(slots[0] == 0 && slots[1] == 2);
}

static void lying_tails(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[N_RX];
  uint32_t slots[4];
  struct abi_link_side *nicio = &f->fs.pkt->link[0].nicio;
  meet(f);
  nicio->desc_tail = N_RX + 1;
  nicio->done_tail = 0u - 1;
  assert_int_equal(frame_take(&f->e, d, N_RX), -EPROTO);
  assert_int_equal(frame_done_take(&f->e, slots, 4), -EPROTO);
  nicio->desc_head = 5; /* a consumer ahead of what was pushed: no room, no harm */
  assert_int_equal(frame_room(&f->e), 0);
  frame_link_reset(&f->n); /* the same words, but of one that has restarted: poll tells */
  assert_int_equal(frame_take(&f->e, d, N_RX), 0);
  assert_int_equal(frame_done_take(&f->e, slots, 4), 0);
  assert_int_equal(frame_link_poll(&f->e), FRAME_PEER_NEW);
  frame_link_ack(&f->e);
  meet(f);
  assert_int_equal(frame_take(&f->e, d, N_RX), 0);
}

/** As nicio lends again: in order, under the new tag, room for all. */
static void engine_death(void **state) {
  struct fix *f = *state;
  struct abi_frame_desc d[N_RX];
  meet(f);
  for (uint32_t i = 0; i < N_RX; i++)
    send(&f->n, i, 0);
  (void)frame_flush(&f->n);
  assert_int_equal(frame_take(&f->e, d, 7), 7);
  assert_int_equal(frame_link_open(&f->e, &f->fs, 0, FRAME_ENGINE), 0);
  assert_int_equal(frame_link_poll(&f->e), FRAME_PEER_NEW);
  frame_link_ack(&f->e);
  assert_int_equal(frame_link_poll(&f->e), FRAME_SAME); /* its predecessor had been seen, it has not */
  assert_int_equal(frame_take(&f->e, d, N_RX), 0);
  assert_int_equal(frame_link_poll(&f->n), FRAME_PEER_NEW);
  assert_int_equal(frame_room(&f->n), N_RX);
  for (uint32_t i = 0; i < N_RX; i++)
    send(&f->n, i, 0);
  (void)frame_flush(&f->n);
  frame_link_ack(&f->n);
  assert_int_equal(frame_link_poll(&f->n), FRAME_CAME_UP);
  assert_int_equal(frame_link_poll(&f->e), FRAME_CAME_UP);
  assert_int_equal(frame_take(&f->e, d, N_RX), N_RX);
  assert_int_equal(d[0].slot, 0);
  assert_int_equal(d[0].tag, f->e.tag);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(geometry),
      cmocka_unit_test_setup_teardown(comes_up, setup, teardown),
      cmocka_unit_test_setup_teardown(a_lone_side_waits, setup, teardown),
      cmocka_unit_test_setup_teardown(epochs_skip_zero, setup, teardown),
      cmocka_unit_test_setup_teardown(frames_go_round, setup, teardown),
      cmocka_unit_test_setup_teardown(bells, setup, teardown),
      cmocka_unit_test_setup_teardown(chains_stay_whole, setup, teardown),
      cmocka_unit_test_setup_teardown(foreign_tags_are_skipped, setup, teardown),
      cmocka_unit_test_setup_teardown(lying_tails, setup, teardown),
      cmocka_unit_test_setup_teardown(engine_death, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
