/*
 * Software GSO, checksum completion and GRO: what is cut is right on the wire, and merging gives back what was cut.
 */
#include "test.h"

#include "gro.h"
#include "gso.h"
#include "nicio_frame.h"

#include "base/bits.h"
#include "base/rng.h"
#include "wire/tcp.h"

static uint8_t big[70000], wire[70000];

/** A frame in pieces of random length, the headers in the first. */
static void in_pieces(struct pkt *p, uint8_t *f, uint32_t len, uint32_t head, struct rng *r) {
  uint32_t off = 0;

  memset(p, 0, offsetof(struct pkt, iov));
  p->len = len;
  while (off < len) {
    uint32_t take = off == 0 ? head : p->n == PKT_IOV_MAX - 1 ? len - off : (uint32_t)rng_range(r, 1, 5000);
    take = HS_MIN(take, len - off);
    p->iov[p->n++] = (struct iovec){.iov_base = f + off, .iov_len = take};
    off += take;
  }
}

static void offload(struct pkt *p, const struct frame_spec *s, uint16_t mss) {
  p->flags = ABI_FR_CSUM_PART;
  if (mss)
    p->flags |= s->udp ? ABI_FR_GSO_UDP : s->v6 ? ABI_FR_GSO_TCP6 : ABI_FR_GSO_TCP4;
  p->gso_size = mss;
  p->csum_start = (uint16_t)(14 + (s->v6 ? 40 : 20));
  p->csum_off = s->udp ? 6 : 16;
}

/** Cut a frame and check every packet. Returns packets. */
static uint32_t cut(const struct frame_spec *s, uint16_t mss, struct rng *r) {
  struct frame_spec got;
  struct pkt p;
  struct gso g;
  uint32_t n = 0, at = 0;
  int len;

  uint32_t total = frame_build(big, s);
  in_pieces(&p, big, total, frame_head(s), r);
  offload(&p, s, mss);
  assert_int_equal(gso_init(&g, &p), 0);
  while ((len = gso_next(&g, wire, sizeof wire)) > 0) {
    assert_true((uint32_t)len <= gso_longest(&g));
    assert_int_equal(frame_check(wire, (uint32_t)len, &got), 0);
    assert_int_equal(got.v6, s->v6);
    int last = at + got.payload == s->payload;
    if (mss && !last)
      assert_int_equal(got.payload, mss);
    if (!s->v6)
      assert_int_equal(got.id, (uint16_t)(s->id + n));
    if (!s->udp) {
      assert_int_equal(got.seq, s->seq + at);
      uint8_t want = s->tcp_flags;
      if (!last)
        want &= (uint8_t) ~(TCP_FIN | TCP_PSH);
      if (n > 0)
        want &= (uint8_t)~TCP_CWR;
      assert_int_equal(got.tcp_flags, want);
    }
    at += got.payload;
    n++;
  }
  assert_int_equal(len, 0);
  assert_int_equal(at, s->payload);
  return n;
}

static void test_cut(void **state) {
  struct rng r;

  (void)state;
  rng_init(&r, 1);
  for (int i = 0; i < 400; i++) {
    struct frame_spec s = {.v6 = i & 1,
                           .udp = (i & 6) == 6,
                           .payload = (uint32_t)rng_range(&r, 1, 64000),
                           .seq = rng_u32(&r),
                           .tcp_flags = TCP_ACK | TCP_PSH | (i % 3 == 0 ? TCP_FIN : 0) | (i % 5 == 0 ? TCP_CWR : 0),
                           .id = (uint16_t)rng_u32(&r),
                           .sport = 1234,
                           .ts = i & 8 ? 99 : 0,
                           .partial = 1};
    uint16_t mss = (uint16_t)rng_range(&r, 100, 9000);
    s.seq = s.udp ? 0 : s.seq;
    uint32_t n = cut(&s, mss, &r);
    assert_int_equal(n, (s.payload + mss - 1) / mss);
  }
}

static void test_whole(void **state) {
  struct rng r;

  (void)state;
  rng_init(&r, 2);
  for (int i = 0; i < 200; i++) {
    struct frame_spec s = {.v6 = i & 1,
                           .udp = i & 2,
                           .payload = (uint32_t)rng_range(&r, 0, 9000),
                           .sport = 7,
                           .tcp_flags = TCP_ACK | TCP_PSH | TCP_CWR,
                           .partial = 1};
    assert_int_equal(cut(&s, 0, &r), 1);
  }
}

/** Offload words that do not fit the headers are refused. */
static void test_refused(void **state) {
  struct frame_spec s = {.payload = 3000, .tcp_flags = TCP_ACK, .partial = 1};
  struct rng r;
  struct pkt p;
  struct gso g;

  (void)state;
  rng_init(&r, 3);
  uint32_t len = frame_build(big, &s);
  in_pieces(&p, big, len, frame_head(&s), &r);
  offload(&p, &s, 1000);
  p.gso_size = 0;
  assert_int_equal(gso_init(&g, &p), -1);
  offload(&p, &s, 1000);
  p.csum_start = 20;
  assert_int_equal(gso_init(&g, &p), -1);
  offload(&p, &s, 1000);
  p.flags = ABI_FR_CSUM_PART | ABI_FR_GSO_TCP6;
  assert_int_equal(gso_init(&g, &p), -1);
  offload(&p, &s, 1000);
  big[14 + 20 + 12] = 0x10; /* data offset below 20 */
  assert_int_equal(gso_init(&g, &p), -1);
  big[14 + 20 + 12] = 0x50;
  assert_int_equal(gso_init(&g, &p), 0);
  assert_int_equal(gso_next(&g, wire, 500), -1); /* no room */
}

/* --- GRO --- */

#define SLOTS 64u
static uint8_t region[SLOTS * 4096];

static void put(struct abi_frame_desc *d, uint32_t slot, const struct frame_spec *s) {
  uint32_t off = slot * 4096 + 320;
  *d = (struct abi_frame_desc){.off = off, .slot = slot, .len = frame_build(region + off, s)};
}

static struct frame_spec segment(uint32_t i, uint32_t mss) {
  return (struct frame_spec){
      .payload = mss, .seq = 1000 + i * mss, .tcp_flags = TCP_ACK, .sport = 5, .ack = 77, .ts = 5};
}

/** The merged frame's bytes: headers, then the stream. */
static void check_merged(const struct abi_frame_desc *out, uint32_t pieces, uint32_t seq, uint32_t payload) {
  uint32_t at = 0;
  struct frame_spec s = {.ts = 5};
  uint32_t head = frame_head(&s);

  for (uint32_t i = 0; i < pieces; i++) {
    assert_int_equal(!!(out[i].flags & ABI_FR_CHAIN), i + 1 < pieces);
    for (uint32_t b = i == 0 ? head : 0; b < out[i].len; b++, at++)
      assert_int_equal(region[out[i].off + b], frame_byte(seq + at));
  }
  assert_int_equal(at, payload);
  assert_int_equal(load_be16(region + out[0].off + 16), payload + head - 14);
}

static void test_gro_merges(void **state) {
  struct abi_frame_desc d[SLOTS], out[SLOTS];
  uint32_t merged;

  (void)state;
  for (uint32_t i = 0; i < 10; i++) {
    struct frame_spec s = segment(i, 1448);
    if (i == 9)
      s.tcp_flags |= TCP_PSH;
    put(&d[i], i, &s);
  }
  assert_int_equal(gro_merge(region, d, 10, out, &merged), 10);
  assert_int_equal(merged, 9);
  assert_int_equal(out[0].gso_size, 1448);
  assert_int_equal(out[0].flags, ABI_FR_CSUM_OK | ABI_FR_GSO_TCP4 | ABI_FR_CHAIN);
  assert_int_equal(region[out[0].off + 34 + 13], TCP_ACK | TCP_PSH);
  check_merged(out, 10, 1000, 14480);
}

/** Two flows and a UDP frame between: each flow in order, nothing lost. */
static void test_gro_interleaved(void **state) {
  struct abi_frame_desc d[SLOTS], out[SLOTS];
  uint32_t merged, n = 0;

  (void)state;
  for (uint32_t i = 0; i < 8; i++) {
    struct frame_spec a = segment(i, 500), b = segment(i, 500), u = {.udp = 1, .payload = 10, .sport = 9};
    b.sport = 6;
    put(&d[n], n, &a);
    n++;
    put(&d[n], n, &b);
    n++;
    if (i == 4) {
      put(&d[n], n, &u);
      n++;
    }
  }
  assert_int_equal(gro_merge(region, d, n, out, &merged), n);
  assert_int_equal(merged, 14);
  check_merged(out, 8, 1000, 4000);
  check_merged(out + 8, 8, 1000, 4000);
  assert_int_equal(out[16].flags, 0);
}

/** Each of these ends a train. */
static void test_gro_keeps_apart(void **state) {
  struct abi_frame_desc d[4], out[4];
  uint32_t merged;

  (void)state;
  for (int what = 0; what < 9; what++) {
    struct frame_spec a = segment(0, 500), b = segment(1, 500);
    switch (what) {
    case 0:
      b.seq += 1; /* a gap */
      break;
    case 1:
      b.ts = 4; /* timestamps differ */
      break;
    case 2:
      b.ack++;
      break;
    case 3:
      b.tos = 3; /* CE */
      break;
    case 4:
      b.tcp_flags |= TCP_FIN;
      break;
    case 5:
      a.tcp_flags |= TCP_PSH;
      break;
    case 6:
      b.payload = 600; /* longer than the first: not what one segmentation makes */
      break;
    case 7:
      a.payload = 400;
      b.seq = a.seq; /* a retransmission */
      break;
    default:
      b.tcp_flags |= TCP_URG;
      break;
    }
    put(&d[0], 0, &a);
    put(&d[1], 1, &b);
    assert_int_equal(gro_merge(region, d, 2, out, &merged), 2);
    assert_int_equal(merged, 0);
    assert_memory_equal(d, out, 2 * sizeof *d);
  }
  struct frame_spec a = segment(0, 500), b = segment(1, 500);
  put(&d[0], 0, &a);
  put(&d[1], 1, &b);
  region[d[1].off + 100] ^= 1; /* a broken checksum is left to the engine to see */
  assert_int_equal(gro_merge(region, d, 2, out, &merged), 2);
  assert_int_equal(merged, 0);
}

/** A train longer than the engine follows is two. */
static void test_gro_limits(void **state) {
  struct abi_frame_desc d[SLOTS], out[SLOTS];
  uint32_t merged;

  (void)state;
  for (uint32_t i = 0; i < 50; i++) {
    struct frame_spec s = segment(i, 1400);
    put(&d[i], i, &s);
  }
  assert_int_equal(gro_merge(region, d, 50, out, &merged), 50);
  check_merged(out, GRO_PIECES, 1000, GRO_PIECES * 1400);
  check_merged(out + GRO_PIECES, GRO_PIECES, 1000 + GRO_PIECES * 1400, GRO_PIECES * 1400);
  check_merged(out + 2 * GRO_PIECES, 10, 1000 + 2 * GRO_PIECES * 1400, 14000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cut),        cmocka_unit_test(test_whole),           cmocka_unit_test(test_refused),
      cmocka_unit_test(test_gro_merges), cmocka_unit_test(test_gro_interleaved), cmocka_unit_test(test_gro_keeps_apart),
      cmocka_unit_test(test_gro_limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
