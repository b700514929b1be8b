/*
 * Lending and links: nicio's side (link.c, lend.c, slots.c) against an engine's side in the same process, over every
 * order of deaths; and the check of TX descriptors. Slots are never owned twice, frames come in order.
 */
#include "test.h"

#include "link.h"
#include "rss.h"
#include "txq.h"

#include "abi/worker.h"
#include "base/bits.h"
#include "base/rng.h"
#include "shm/session.h"

#include <stdlib.h>
#include <unistd.h>

#define N_RX 64u
#define N_TX 32u

static struct seg packet;
static struct frame_seg fs;
static struct slots slots;
static struct links links;
static uint32_t stack[N_RX];
static struct lend_rec book[N_RX];
static struct frame_link engine;
static uint32_t purged;

static void purge(void *ctx, uint32_t link) {
  (void)ctx;
  (void)link;
  purged++;
}

static int set_up(void **state) {
  struct abi_packet_geom g;
  uint64_t geom[16];
  const char *why;

  (void)state;
  uint64_t size = frame_geom_make(&g, 1, N_RX, N_TX);
  memcpy(geom, &g, sizeof geom);
  assert_int_equal(seg_create(&packet, "t", ABI_SEG_PACKET, 5, size, geom), 0);
  assert_int_equal(frame_seg_open(&fs, &packet, &why), 0);
  slots_init(&slots, stack, N_RX, 0);
  assert_int_equal(link_open(&links, &fs, &slots, book, purge, NULL), 0);
  assert_int_equal(frame_link_open(&engine, &fs, 0, FRAME_ENGINE), 0);
  purged = 0;
  return 0;
}

/** The same with room for several links. */
static int set_up_many(void **state) {
  struct abi_packet_geom g;
  uint64_t geom[16];
  const char *why;

  (void)state;
  uint64_t size = frame_geom_make(&g, ABI_LINKS_MAX, N_RX, N_TX);
  memcpy(geom, &g, sizeof geom);
  assert_int_equal(seg_create(&packet, "t", ABI_SEG_PACKET, 5, size, geom), 0);
  assert_int_equal(frame_seg_open(&fs, &packet, &why), 0);
  slots_init(&slots, stack, N_RX, 0);
  assert_int_equal(link_open(&links, &fs, &slots, book, purge, NULL), 0);
  purged = 0;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  seg_detach(&packet);
  return 0;
}

/** Both sides look at each other until both are up. */
static void engine_poll(void) {
  if (frame_link_poll(&engine) == FRAME_PEER_NEW)
    frame_link_ack(&engine);
}
static void come_up(void) {
  for (int i = 0; i < 4; i++) {
    link_turn(&links);
    engine_poll();
  }
  assert_true(engine.up && links.link[0].fl.up && link_rx_ready(&links));
}

/** Lend a frame of n pieces; its number is in the first slot's bytes. */
static int lend(uint32_t number, uint32_t n) {
  struct abi_frame_desc d[8];

  if (slots.n_free < n)
    return 0;
  memset(d, 0, sizeof d);
  for (uint32_t i = 0; i < n; i++) {
    d[i].slot = slots_get(&slots);
    d[i].off = frame_rx_off(&fs, d[i].slot);
    d[i].len = 100 + i;
    d[i].flags = i + 1 < n ? ABI_FR_CHAIN : 0;
    memcpy(packet.base + d[i].off, &number, 4);
  }
  link_rx_lend(&links, 0, d, n);
  return 1;
}

static uint32_t number_of(const struct abi_frame_desc *d) {
  uint32_t v;
  memcpy(&v, packet.base + d->off, 4);
  return v;
}

/** The engine returns all these slots; nothing is lent any more. */
static void come_home(const struct abi_frame_desc *d, int n) {
  for (int i = 0; i < n; i++)
    frame_done_push(&engine, d[i].slot);
  frame_flush(&engine);
  link_turn(&links);
  assert_int_equal(slots.n_free, N_RX);
  assert_int_equal(lend_check(&links.lend), 0);
}

static void test_order(void **state) {
  struct abi_frame_desc d[64];

  (void)state;
  assert_false(link_rx_ready(&links));
  come_up();
  for (uint32_t i = 0; i < 20; i++)
    assert_true(lend(i, 1 + i % 3));
  assert_int_equal(lend_check(&links.lend), 0);
  link_flush(&links);
  int n = frame_take(&engine, d, 64);
  uint32_t want = 0;
  for (int i = 0; i < n; want++) {
    assert_int_equal(number_of(&d[i]), want);
    uint32_t pieces = txq_pieces(&d[i], (uint32_t)(n - i));
    assert_int_equal(pieces, 1 + want % 3);
    i += (int)pieces;
  }
  assert_int_equal(want, 20);
  come_home(d, n);
}

/** The engine dies holding frames, some half returned: the next one gets, in order, those that had not come home. */
static void test_engine_dies(void **state) {
  struct abi_frame_desc d[64];

  (void)state;
  come_up();
  for (uint32_t i = 0; i < 10; i++)
    assert_true(lend(i, 3));
  link_flush(&links);
  assert_int_equal(frame_take(&engine, d, 64), 30);
  for (int i = 0; i < 9; i++) /* frames 0..2 */
    frame_done_push(&engine, d[i].slot);
  frame_done_push(&engine, d[9].slot);         /* of frame 3 only the first piece */
  frame_done_push(&engine, d[4 * 3 + 1].slot); /* of frame 4 the middle */
  frame_done_push(&engine, d[5 * 3 + 2].slot); /* of frame 5 the last */
  frame_flush(&engine);
  link_turn(&links);
  assert_int_equal(slots.n_free, N_RX - 30 + 12);
  assert_int_equal(frame_link_open(&engine, &fs, 0, FRAME_ENGINE), 0);
  assert_true(lend(100, 2)); /* arrives while nobody is there */
  come_up();
  assert_true(purged > 0);
  link_flush(&links);
  int n = frame_take(&engine, d, 64);
  assert_int_equal(n, 4 * 3 + 2); /* frames 6..9 and the new one; 3, 4, 5 had been copied by the dead */
  for (uint32_t i = 0; i < 4; i++)
    assert_int_equal(number_of(&d[3 * i]), 6 + i);
  assert_int_equal(number_of(&d[12]), 100);
  come_home(d, n);
}

/** Leavings of two frames that lie side by side are not taken for one. */
static void test_leavings(void **state) {
  struct abi_frame_desc d[64];

  (void)state;
  come_up();
  assert_true(lend(1, 2) && lend(2, 2) && lend(3, 1));
  link_flush(&links);
  assert_int_equal(frame_take(&engine, d, 64), 5);
  frame_done_push(&engine, d[1].slot); /* second of frame 1 */
  frame_done_push(&engine, d[2].slot); /* first of frame 2 */
  frame_flush(&engine);
  link_turn(&links);
  frame_link_reset(&engine);
  come_up();
  link_flush(&links);
  assert_int_equal(frame_take(&engine, d, 64), 1);
  assert_int_equal(number_of(&d[0]), 3);
  assert_int_equal(slots.n_free, N_RX - 1);
}

/** An engine that returns what it does not hold, twice, or out of the table, changes nothing. */
static void test_lies(void **state) {
  struct abi_frame_desc d[64];

  (void)state;
  come_up();
  assert_true(lend(1, 1) && lend(2, 1));
  link_flush(&links);
  assert_int_equal(frame_take(&engine, d, 64), 2);
  assert_true(lend(3, 1)); /* not shown yet */
  uint32_t hidden = links.lend.list[0].tail;
  uint32_t lies[] = {d[0].slot, d[0].slot, N_RX, 0xffffffffu, hidden, slots.stack[0]};
  for (size_t i = 0; i < ARRAY_LEN(lies); i++)
    frame_done_push(&engine, lies[i]);
  frame_flush(&engine);
  link_turn(&links);
  assert_int_equal(links.n_bad_done, 5);
  assert_int_equal(slots.n_free, N_RX - 2);
  assert_int_equal(lend_check(&links.lend), 0);
  /* a tail beyond the ring: the link rests until the next epoch */
  __atomic_store_n(&fs.pkt->link[0].engine.done_tail, 1u << 30, __ATOMIC_RELEASE);
  link_turn(&links);
  assert_true(links.link[0].lied);
  assert_int_equal(link_tx_take(&links, 0, d, 64), 0);
  assert_true(link_arm(&links, 0)); /* and does not keep us awake */
  link_disarm(&links);
  frame_link_reset(&engine);
  come_up();
  assert_false(links.link[0].lied);
}

/** Random work of both sides with resets of either: no slot is ever owned twice, nothing is lost for good. */
static void test_random(void **state) {
  struct abi_frame_desc d[16], held[N_RX];
  struct rng r;
  uint32_t next = 0, n_held = 0, last = 0, fresh = 1;

  (void)state;
  rng_init(&r, 11);
  come_up();
  for (int step = 0; step < 200000; step++) {
    switch (rng_below(&r, 8)) {
    case 0:
    case 1:
      if (link_rx_ready(&links))
        next += (uint32_t)lend(next + 1, 1 + (uint32_t)rng_below(&r, 4));
      break;
    case 2:
      link_flush(&links);
      break;
    case 3:
      link_turn(&links);
      break;
    case 4: {
      int n = frame_take(&engine, d, ARRAY_LEN(d));
      assert_true(n >= 0);
      for (int i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n_held; k++)
          assert_int_not_equal(held[k].slot, d[i].slot);
        held[n_held++] = d[i];
        if (i == 0 || !(d[i - 1].flags & ABI_FR_CHAIN)) {
          assert_true(fresh || number_of(&d[i]) > last);
          last = number_of(&d[i]);
          fresh = 0;
        }
      }
      break;
    }
    case 5:
      while (engine.up && n_held > 0 && rng_below(&r, 4))
        frame_done_push(&engine, held[--n_held].slot);
      frame_flush(&engine);
      break;
    case 6: {
      enum frame_change c = frame_link_poll(&engine);
      if (c == FRAME_PEER_NEW) {
        n_held = 0; /* nothing of the old nicio's is held any more */
        fresh = 1;
        frame_link_ack(&engine);
      }
      break;
    }
    default:
      if (rng_below(&r, 200) == 0) {
        n_held = 0;
        fresh = 1;
        frame_link_reset(&engine);
      } else if (rng_below(&r, 200) == 0) {
        link_reset(&links);
      }
      break;
    }
    if (step % 1000 == 0)
      assert_int_equal(lend_check(&links.lend), 0);
    assert_int_equal(slots.n_free + links.lend.list[0].n, N_RX);
  }
  assert_true(next > 1000);
}

/* --- TX descriptors --- */

static struct abi_frame_desc good(void) {
  uint64_t off = frame_tx_off(&fs, 3);

  memset(packet.base + off, 0, 100);
  packet.base[off + 34 + 12] = 0x50;
  return (struct abi_frame_desc){.off = off,
                                 .slot = 3,
                                 .len = 100,
                                 .flags = ABI_FR_CSUM_PART | ABI_FR_GSO_TCP4,
                                 .gso_size = 40,
                                 .csum_start = 34,
                                 .csum_off = 16};
}

#define BAD(change)                                                                                                    \
  do {                                                                                                                 \
    struct abi_frame_desc d = good();                                                                                  \
    assert_int_equal(txq_check(&d, 1, &fs), 0);                                                                        \
    change;                                                                                                            \
    assert_true(txq_check(&d, 1, &fs) < 0);                                                                            \
  } while (0)

static void test_check(void **state) {
  (void)state;
  BAD(d.len = 0);
  BAD(d.len = 13);
  BAD(d.len = 70000);
  BAD(d.len = 0xffffffff);
  BAD(d.off = frame_rx_off(&fs, 0));
  BAD(d.off = 0);
  BAD(d.off = UINT64_MAX - 10);
  BAD(d.off = frame_tx_off(&fs, N_TX) - 50);
  BAD(d.slot = N_TX);
  BAD(d.flags |= ABI_FR_CHAIN);
  BAD(d.flags = ABI_FR_GSO_TCP4);
  BAD(d.flags |= ABI_FR_GSO_TCP6);
  BAD(d.gso_size = 0);
  BAD(d.csum_start = 90);
  BAD(d.csum_start = 3);
  BAD(d.csum_off = 6);
  BAD(d.csum_start = 0xffff);
  BAD(packet.base[d.off + 34 + 12] = 0x40);
  BAD(packet.base[d.off + 34 + 12] = 0xf0; d.len = 90);
  BAD(d.flags = ABI_FR_CSUM_PART | ABI_FR_GSO_UDP);
  struct abi_frame_desc many[PKT_IOV_MAX + 1];
  for (uint32_t i = 0; i <= PKT_IOV_MAX; i++) {
    many[i] = good();
    many[i].flags = (uint16_t)((i == 0 ? many[i].flags : 0) | (i < PKT_IOV_MAX ? ABI_FR_CHAIN : 0));
  }
  assert_true(txq_check(many, PKT_IOV_MAX + 1, &fs) < 0);
  assert_int_equal(txq_check(many + 1, PKT_IOV_MAX, &fs), 0);
}

/** Parts of an A segment come and go behind the same addresses; where none is, a hostile app's bytes are zeros. */
static void test_parts(void **state) {
  struct abi_worker_geom wg;
  struct regions rg;
  struct seg a;
  uint64_t geom[16], part = ABI_CHUNK_MAX;

  (void)state;
  uint64_t size = worker_geom_make(&wg, ABI_SEG_APP, 41, 1, 16, 1, 3 * part);
  memcpy(geom, &wg, sizeof geom);
  assert_int_equal(seg_create(&a, "a", ABI_SEG_APP, 0x700000009ull, size - 2 * part, geom), 0);
  assert_int_equal(region_init(&rg), 0);
  assert_int_equal(region_add(&rg, a.id, a.fd, 0), -EPROTO); /* more arena than there is to be */
  assert_int_equal(region_add(&rg, a.id, a.fd, size - part), -EPROTO);
  assert_int_equal(region_part(&rg, 41, a.fd, wg.arena_off, part), -ENOENT);
  assert_int_equal(region_add(&rg, a.id, a.fd, size), 0);
  region_refresh(&rg);
  const uint8_t *p = region_at(&rg, 9, wg.arena_off + part, 2 * ABI_CHUNK_MAX);
  assert_non_null(p);
  for (uint64_t i = 0; i < 2 * part; i += 4096)
    assert_int_equal(p[i], 0);
  for (int round = 0; round < 2; round++) {
    int fd = part_create(part);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
    assert_int_equal(region_part(&rg, 41, fd, wg.arena_off + part, part), -EPROTO); /* not sealed against writers */
    assert_int_equal(seg_seal_writers(fd), 0);
    assert_int_equal(region_part(&rg, 41, fd, wg.arena_off, part), -EINVAL);
    assert_int_equal(region_part(&rg, 41, fd, wg.arena_off + part, part), 0);
    assert_int_equal(p[5], 'x');
    assert_int_equal(p[part], 0);
    assert_int_equal(region_unpart(&rg, 41, wg.arena_off + part, part), 0);
    assert_int_equal(p[5], 0);
    close(fd);
  }
  region_fini(&rg);
  seg_detach(&a);
}

/** Frames wait, go, are forgotten with their link; payload is found in an A segment only inside its arena. */
static void test_queue(void **state) {
  static struct txq q;
  struct abi_worker_geom wg;
  struct regions rg;
  struct pkt pk[TXQ_BURST];
  struct seg a;
  uint64_t geom[16];
  int before = dup(0);

  (void)state;
  close(before);
  uint64_t size = worker_geom_make(&wg, ABI_SEG_APP, 1, 1, 16, 1, ABI_CHUNK_MAX);
  memcpy(geom, &wg, sizeof geom);
  assert_int_equal(seg_create(&a, "a", ABI_SEG_APP, 0x700000009ull, size, geom), 0);
  assert_int_equal(region_init(&rg), 0);
  assert_int_equal(region_add(&rg, a.id, a.fd, 0), 0);
  assert_int_equal(region_add(&rg, a.id, a.fd, 0), 0);
  assert_null(region_at(&rg, 9, wg.arena_off, 1)); /* the lcore has not looked yet */
  region_refresh(&rg);
  assert_non_null(region_at(&rg, 9, wg.arena_off, 1));
  assert_non_null(region_at(&rg, 9, wg.arena_off + ABI_CHUNK_MAX - 5, 5));
  assert_null(region_at(&rg, 9, wg.arena_off + ABI_CHUNK_MAX - 5, 6));
  assert_null(region_at(&rg, 9, wg.arena_off - 1, 1));
  assert_null(region_at(&rg, 9, UINT64_MAX, 1));
  assert_null(region_at(&rg, 8, wg.arena_off, 1));

  memset(&q, 0, sizeof q);
  struct abi_frame_desc d[2] = {
      good(), {.region = 9, .off = wg.arena_off, .len = 1000, .slot = ABI_SEG_NONE, .flags = ABI_FR_NO_SLOT}};
  d[0].flags |= ABI_FR_CHAIN;
  assert_int_equal(txq_check(d, 2, &fs), 0);
  for (uint32_t i = 0; i < 6; i++)
    txq_push(&q, i % 2, d, 2);
  assert_int_equal(txq_room(&q), TXQ_CAP - 12);
  txq_purge(&q, 1);
  assert_int_equal(txq_room(&q), TXQ_CAP - 6);
  assert_int_equal(txq_peek(&q, &fs, &rg, pk, TXQ_BURST), 3);
  assert_int_equal(pk[0].len, 1100);
  assert_int_equal(pk[0].n, 2);
  assert_int_equal(pk[2].gso_size, 40);
  assert_int_equal(region_drop(&rg, a.id), 0);
  region_refresh(&rg);
  assert_int_equal(region_collect(&rg), 0);
  assert_int_equal(txq_peek(&q, &fs, &rg, pk, TXQ_BURST), 3);
  assert_int_equal(pk[0].len, 0); /* the segment is gone: to be dropped */
  come_up();
  txq_pop(&q, &links, 3);
  assert_true(txq_empty(&q));
  link_flush(&links);
  uint32_t home[8];
  assert_int_equal(frame_done_take(&engine, home, 8), 3);
  region_fini(&rg);
  seg_detach(&a);
  int after = dup(0);
  close(after);
  assert_int_equal(before, after); /* no descriptor left behind */
}

/* A TCP frame of flow `f`, the number in its sequence number, into the book. */
static void lend_flow(uint32_t f, uint32_t number) {
  uint8_t *p;
  struct abi_frame_desc d = {.slot = slots_get(&slots), .len = 54};

  d.off = frame_rx_off(&fs, d.slot);
  p = packet.base + d.off;
  memset(p, 0, 54);
  store_be16(p + 12, 0x0800);
  p[14] = 0x45;
  store_be16(p + 16, 40);
  p[23] = 6;
  store_be32(p + 26, 0x0a000001);
  store_be32(p + 30, 0x0a000002);
  store_be16(p + 34, (uint16_t)(1000 + f));
  store_be16(p + 36, 80);
  store_be32(p + 38, number);
  p[46] = 0x50;
  link_rx_lend(&links, rss_link(p, 54, links.n), &d, 1);
}

/* An engine with n workers; all links come up. */
static void engine_starts(struct frame_link *e, uint32_t n) {
  frame_boot(&fs, n);
  for (uint32_t i = 0; i < n; i++)
    assert_int_equal(frame_link_open(&e[i], &fs, i, FRAME_ENGINE), 0);
  for (int turn = 0; turn < 4; turn++) {
    link_turn(&links);
    for (uint32_t i = 0; i < n; i++)
      if (frame_link_poll(&e[i]) == FRAME_PEER_NEW)
        frame_link_ack(&e[i]);
  }
  assert_int_equal(links.n, n);
  assert_true(link_rx_ready(&links));
}

/** Engines come and go with different numbers of workers: each gets all frames that had not come home, each flow's in
 * order and at the worker that the hash names. */
static void test_other_numbers(void **state) {
  static const uint32_t numbers[] = {2, 4, 1, 8, 3};
  struct frame_link e[ABI_LINKS_MAX];
  uint32_t lent = 0;

  (void)state;
  assert_false(link_rx_ready(&links));
  for (uint32_t k = 0; k < ARRAY_LEN(numbers); k++) {
    uint32_t n = numbers[k], last[5] = {0}, got = 0;
    engine_starts(e, n);
    assert_true(k == 0 || purged >= ABI_LINKS_MAX);
    for (uint32_t i = 0; i < 5; i++)
      lend_flow(lent % 5, lent + 1), lent++;
    assert_int_equal(lend_check(&links.lend), 0);
    uint32_t ring = link_flush(&links);
    assert_int_equal(ring >> n, 0);
    for (uint32_t i = 0; i < n; i++) {
      struct abi_frame_desc d[64];
      int taken = frame_take(&e[i], d, 64);
      assert_true(taken >= 0);
      for (int j = 0; j < taken; j++, got++) {
        const uint8_t *p = packet.base + d[j].off;
        uint32_t f = load_be16(p + 34) - 1000u, number = load_be32(p + 38);
        assert_int_equal(rss_link(p, 54, n), i);
        assert_true(number > last[f]);
        last[f] = number;
      }
    }
    assert_int_equal(got, lent); /* none has come home yet */
    purged = 0;
  }
  assert_int_equal(slots.n_free, N_RX - lent);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_engine_dies, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_leavings, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_lies, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_random, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_check, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_queue, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_other_numbers, set_up_many, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
