/*
 * Stages and small parts: impairment, capture ring and pcapng file, vnet header translation, header offsets, flow hash.
 */
#include "test.h"

#include "hdrs.h"
#include "impair.h"
#include "nicio_frame.h"
#include "pcapng.h"
#include "rss.h"
#include "vnet.h"

#include "base/rng.h"
#include "wire/tcp.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint8_t buf[70000];

static struct pkt flat(const struct frame_spec *s) {
  struct pkt p;
  pkt_flat(&p, buf, frame_build(buf, s));
  return p;
}

/* --- impairment --- */

struct seen {
  uint32_t n, dups, reordered, corrupt, last;
  usec_t last_at;
};

/** Push n packets numbered by seq, `gap` µs apart, and take out what is due. */
static struct seen run(struct config_impair *c, uint32_t n, usec_t gap) {
  struct impair *im = impair_new(c);
  struct frame_spec s = {.payload = 100, .tcp_flags = TCP_ACK}, got;
  struct seen v = {0};
  struct pkt out;

  assert_non_null(im);
  for (usec_t now = 1000000; v.n == 0 || impair_next(im) != UINT64_MAX || s.seq < n * 100; now += gap) {
    if (s.seq < n * 100) {
      struct pkt p = flat(&s);
      p.flags = ABI_FR_CSUM_OK;
      (void)impair_put(im, &p, now);
      s.seq += 100;
    } else if (impair_next(im) == UINT64_MAX) {
      break;
    }
    while (impair_peek(im, &out, now)) {
      int bad = frame_check(out.iov[0].iov_base, out.len, &got);
      v.n++;
      if (bad < 0) {
        assert_int_equal(out.flags, 0);
        v.corrupt++;
      } else {
        assert_int_equal(out.flags, ABI_FR_CSUM_OK);
        v.dups += v.n > 1 && got.seq == v.last;
        v.reordered += v.n > 1 && got.seq < v.last;
        v.last = got.seq;
      }
      v.last_at = now;
      impair_pop(im);
    }
  }
  impair_free(im);
  return v;
}

#define NEAR(got, want, slack) assert_in_range(got, (want) - (slack), (want) + (slack))

static void test_impair_chances(void **state) {
  (void)state;
  struct config_impair loss = {.loss_percent = 10, .seed = 1}, dup = {.duplicate_percent = 5, .seed = 2},
                       corrupt = {.corrupt_percent = 3, .seed = 3}, reorder = {.reorder_percent = 2, .seed = 4};
  NEAR(run(&loss, 10000, 10).n, 9000u, 150u);
  struct seen v = run(&dup, 10000, 10);
  NEAR(v.n, 10500u, 120u);
  assert_int_equal(v.dups, v.n - 10000);
  v = run(&corrupt, 10000, 10);
  assert_int_equal(v.n, 10000);
  NEAR(v.corrupt, 300u, 80u); /* a bit in the MAC or a spare field may go unseen */
  v = run(&reorder, 10000, 100);
  assert_int_equal(v.n, 10000);
  NEAR(v.reordered, 200u, 60u);
  struct config_impair again = {.loss_percent = 10, .seed = 1};
  assert_int_equal(run(&loss, 5000, 10).n, run(&again, 5000, 10).n);
}

static void test_impair_time(void **state) {
  struct frame_spec s = {.payload = 86 + 12, .tcp_flags = TCP_ACK}; /* 152 bytes on the wire */
  struct config_impair delay = {.delay_us = 5000}, jitter = {.delay_us = 5000, .jitter_us = 2000, .seed = 9};
  struct pkt out, p;

  (void)state;
  assert_false(impair_wanted(&(struct config_impair){.seed = 4}));
  struct impair *im = impair_new(&delay);
  p = flat(&s);
  assert_int_equal(impair_put(im, &p, 100), 0);
  assert_int_equal(impair_next(im), 5100);
  assert_false(impair_peek(im, &out, 5099));
  assert_true(impair_peek(im, &out, 5100));
  impair_free(im);

  im = impair_new(&jitter);
  usec_t last = 0;
  for (int i = 0; i < 1000; i++) {
    usec_t now = 1000000 + (usec_t)i * 1000;
    assert_int_equal(impair_put(im, &p, now), 0);
    while (impair_next(im) <= now)
      impair_pop(im);
    last = now;
  }
  assert_in_range(impair_next(im), last - 5000 - 2000, last + 7000);
  impair_free(im);

  struct config_impair rate = {.rate_bps = 152 * 8 * 1000}; /* 1000 packets per second */
  im = impair_new(&rate);
  uint32_t dropped = 0;
  for (int i = 0; i < 1000; i++)
    dropped += impair_put(im, &p, 1000000);
  uint32_t n = 0;
  while (impair_peek(im, &out, 2000000)) {
    impair_pop(im);
    n++;
  }
  assert_int_equal(n + dropped, 1000);
  NEAR(n, 201u, 2u); /* 200 ms of queue */
  impair_free(im);

  rate.queue_bytes = 152 * 50;
  rate.rate_bps = 152ull * 8 * 1000000; /* a packet per µs */
  im = impair_new(&rate);
  for (dropped = 0; dropped < 1000 && impair_put(im, &p, 1000000) == 0; dropped++)
    ;
  NEAR(dropped, 51u, 1u);
  assert_int_equal(impair_put(im, &p, 1000020), 0); /* twenty have left */
  impair_free(im);
}

/** A GSO frame is lost packet by packet, not as a whole. */
static void test_impair_cuts(void **state) {
  struct config_impair c = {.loss_percent = 50, .seed = 5};
  struct frame_spec s = {.payload = 60000, .tcp_flags = TCP_ACK, .partial = 1}, got;
  struct pkt out, p = flat(&s);
  uint32_t n = 0;

  (void)state;
  p.flags = ABI_FR_CSUM_PART | ABI_FR_CSUM_OK | ABI_FR_GSO_TCP4;
  p.gso_size = 1000;
  p.csum_start = 34;
  p.csum_off = 16;
  struct impair *im = impair_new(&c);
  assert_in_range(impair_put(im, &p, 1), 15, 45);
  for (; impair_peek(im, &out, 2); n++) {
    assert_int_equal(frame_check(out.iov[0].iov_base, out.len, &got), 0);
    assert_int_equal(got.payload, 1000);
    assert_int_equal(out.flags, ABI_FR_CSUM_OK);
    impair_pop(im);
  }
  assert_in_range(n, 15, 45);
  impair_free(im);
}

/* --- capture --- */

static void test_capture_ring(void **state) {
  struct capture_ring *r = capture_new(1u << 18);
  struct frame_spec s = {.payload = 5000, .tcp_flags = TCP_ACK};
  struct capture_rec rec;
  static uint8_t out[70000];
  uint32_t put = 0, got = 0;

  (void)state;
  assert_null(capture_new(1000));
  for (int round = 0; round < 50; round++) {
    for (int i = 0; i < 10; i++) {
      s.seq = put++;
      struct pkt p = flat(&s);
      p.iov[0].iov_len = 20; /* in three pieces */
      p.iov[1] = (struct iovec){.iov_base = buf + 20, .iov_len = 1000};
      p.iov[2] = (struct iovec){.iov_base = buf + 1020, .iov_len = p.len - 1020};
      p.n = 3;
      capture_put(r, &p, 1, CAPTURE_OUT, round & 1 ? 100 : 65599, 42);
    }
    while (capture_get(r, &rec, out, sizeof out)) {
      s.seq = got++;
      uint32_t len = frame_build(buf, &s);
      assert_int_equal(rec.origlen, len);
      assert_int_equal(rec.caplen, round & 1 ? 100 : len);
      assert_memory_equal(out, buf, rec.caplen);
    }
    assert_int_equal(put, got);
  }
  struct pkt p = flat(&s);
  for (int i = 0; i < 100; i++)
    capture_put(r, &p, 0, CAPTURE_IN, 65599, 1);
  assert_in_range(capture_lost(r), 40, 60); /* it never waits */
  capture_free(r);
}

static uint32_t word(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}

/** The file is what its specification says: blocks with their length at both ends, packets as they were put. */
static void test_pcapng(void **state) {
  char path[64];
  struct frame_spec s = {.payload = 77, .tcp_flags = TCP_ACK};
  int rc;
  static uint8_t file[1 << 16];

  (void)state;
  (void)snprintf(path, sizeof path, "/tmp/hs-pcapng-%d", (int)getpid());
  struct pcapng *c = pcapng_open(path, "net0", 60, 0, &rc);
  assert_non_null(c);
  struct pkt p = flat(&s);
  capture_put(c->ring, &p, 0, CAPTURE_IN, 60, 0x123456789abcull);
  capture_put(c->ring, &p, 0, CAPTURE_OUT, 60, 0x123456789abdull);
  assert_int_equal(pcapng_drain(c), 2);
  assert_int_equal(pcapng_close(c), 2);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = read(fd, file, sizeof file);
  close(fd);
  uint32_t at = 0, packets = 0, types[4] = {0};
  for (uint32_t i = 0; at < (uint32_t)n; i++) {
    uint32_t len = word(file + at + 4);
    assert_true(len % 4 == 0 && len >= 12 && at + len <= (uint32_t)n);
    assert_int_equal(word(file + at + len - 4), len);
    types[i] = word(file + at);
    if (types[i] == 6) {
      assert_int_equal(word(file + at + 12), 0x1234);
      assert_int_equal(word(file + at + 16), 0x56789abcu + packets);
      assert_int_equal(word(file + at + 20), 60);
      assert_int_equal(word(file + at + 24), p.len);
      assert_memory_equal(file + at + 28, buf, 60);
      assert_int_equal(word(file + at + 28 + 60 + 4), packets + 1); /* in, out */
      packets++;
    }
    at += len;
  }
  assert_int_equal(types[0], 0x0a0d0d0a);
  assert_int_equal(types[1], 1);
  assert_int_equal(packets, 2);
  /* a limit ends it */
  c = pcapng_open(path, "net0", 65599, 500, &rc);
  assert_non_null(c);
  for (int i = 0; i < 10; i++)
    capture_put(c->ring, &p, 0, CAPTURE_IN, 65599, 1);
  assert_int_equal(pcapng_drain(c), 2);
  assert_true(c->full);
  (void)pcapng_close(c);
  unlink(path);
  assert_null(pcapng_open("/nosuchdir/x", "net0", 1, 0, &rc));
  assert_int_equal(rc, -ENOENT);
}

/* --- vnet --- */

static void test_vnet(void **state) {
  struct frame_spec s = {.payload = 3000, .tcp_flags = TCP_ACK | TCP_CWR, .ts = 1, .partial = 1};
  struct virtio_net_hdr v;
  struct abi_frame_desc d;
  struct pkt p = flat(&s);

  (void)state;
  p.flags = ABI_FR_CSUM_PART | ABI_FR_GSO_TCP4;
  p.gso_size = 1400;
  p.csum_start = 34;
  p.csum_off = 16;
  vnet_out(&v, &p);
  assert_int_equal(v.gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN);
  assert_int_equal(v.hdr_len, frame_head(&s));
  memset(&d, 0xff, sizeof d);
  assert_int_equal(vnet_in(&v, &d, p.len), 0);
  assert_int_equal(d.flags, ABI_FR_CSUM_PART | ABI_FR_CSUM_OK | ABI_FR_GSO_TCP4);
  assert_int_equal(d.gso_size, 1400);
  assert_int_equal(d.csum_start, 34);
  assert_int_equal(d.csum_off, 16);
  p.flags = 0;
  vnet_out(&v, &p);
  assert_int_equal(vnet_in(&v, &d, p.len), 0);
  assert_int_equal(d.flags, 0);
  v.flags = VIRTIO_NET_HDR_F_DATA_VALID;
  assert_int_equal(vnet_in(&v, &d, p.len), 0);
  assert_int_equal(d.flags, ABI_FR_CSUM_OK);
  v.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  v.csum_start = 100;
  v.csum_offset = 16;
  assert_int_equal(vnet_in(&v, &d, 117), -1);
  assert_int_equal(vnet_in(&v, &d, 118), 0);
  v.gso_type = 9;
  assert_int_equal(vnet_in(&v, &d, 118), -1);
}

/* --- hash --- */

static void swap(uint8_t *a, uint8_t *b, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    uint8_t t = a[i];
    a[i] = b[i];
    b[i] = t;
  }
}

/* nicio's choice for a frame is the engine's for the connection, whichever end is ours. */
static void check_agrees(const uint8_t *frame, int v6, uint32_t n) {
  const uint8_t *src = frame + (v6 ? 22 : 26), *l4 = frame + (v6 ? 54 : 34);
  struct ip_addr a = v6 ? ip_addr_load6(src) : ip_addr_load4(src);
  struct ip_addr b = v6 ? ip_addr_load6(src + 16) : ip_addr_load4(src + 4);
  uint32_t link = rss_link(frame, v6 ? 74 : 54, n);

  assert_int_equal(flow_worker(&a, load_be16(l4), &b, load_be16(l4 + 2), n), link);
  assert_int_equal(flow_worker(&b, load_be16(l4 + 2), &a, load_be16(l4), n), link);
}

static void test_rss(void **state) {
  uint32_t count[4] = {0};

  (void)state;
  for (uint32_t i = 0; i < 4000; i++) {
    struct frame_spec s = {.v6 = i & 1, .sport = (uint16_t)(1000 + i), .tcp_flags = TCP_ACK};
    uint32_t len = frame_build(buf, &s), addr = s.v6 ? 16 : 4, l4 = s.v6 ? 54 : 34;
    uint32_t link = rss_link(buf, len, 4);
    uint8_t *src = buf + (s.v6 ? 22 : 26);
    for (uint32_t n = 1; n <= ABI_LINKS_MAX; n++)
      check_agrees(buf, s.v6, n);
    swap(src, src + addr, addr);
    swap(buf + l4, buf + l4 + 2, 2);
    assert_int_equal(rss_link(buf, len, 4), link);
    assert_int_equal(rss_link(buf, len, 1), 0);
    count[link]++;
  }
  for (int i = 0; i < 4; i++)
    assert_in_range(count[i], 850, 1150);
}

/* A datagram belongs to the worker of the port that it is sent to, wherever it comes from; DHCP's to worker 0. */
static void test_rss_udp(void **state) {
  uint32_t count[4] = {0};

  (void)state;
  for (uint32_t i = 0; i < 4000; i++) {
    uint16_t port = (uint16_t)(1000 + i / 2);
    struct frame_spec s = {.v6 = i & 1, .udp = 1, .payload = 100, .sport = (uint16_t)(i * 7919)};
    uint32_t len = frame_build(buf, &s), l4 = s.v6 ? 54 : 34;
    store_be16(buf + l4 + 2, port);
    uint32_t link = rss_link(buf, len, 4);
    assert_int_equal(link, flow_udp(port, 4));
    assert_int_equal(rss_link(buf, len, 1), 0);
    store_be16(buf + l4 + 2, 68);
    assert_int_equal(rss_link(buf, len, 4), 0);
    count[link]++;
  }
  for (int i = 0; i < 4; i++)
    assert_in_range(count[i], 850, 1150);
}

/* What is neither a whole TCP segment nor a whole datagram is worker 0's. */
static void test_rss_others(void **state) {
  (void)state;
  for (uint32_t i = 0; i < 64; i++) {
    struct frame_spec udp = {.udp = 1, .payload = 100, .sport = (uint16_t)(9 + i)};
    struct frame_spec tcp = {.payload = 100, .sport = (uint16_t)(9 + i), .tcp_flags = TCP_ACK};
    uint32_t len = frame_build(buf, &udp);
    buf[20] = 0x20;
    assert_int_equal(rss_link(buf, len, 8), 0);
    buf[23] = 1; /* ICMP */
    assert_int_equal(rss_link(buf, len, 8), 0);
    len = frame_build(buf, &tcp);
    buf[20] = 0x20; /* first fragment */
    assert_int_equal(rss_link(buf, len, 8), 0);
    buf[20] = 0x00;
    buf[21] = 0x10; /* a later one */
    assert_int_equal(rss_link(buf, len, 8), 0);
    for (uint32_t l = 0; l < len; l++) /* nothing beyond the length is read: asan watches */
      (void)rss_link(memcpy(buf + 60000 - l, buf, l), l, 8);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_impair_chances),
      cmocka_unit_test(test_impair_time),
      cmocka_unit_test(test_impair_cuts),
      cmocka_unit_test(test_capture_ring),
      cmocka_unit_test(test_pcapng),
      cmocka_unit_test(test_vnet),
      cmocka_unit_test(test_rss),
      cmocka_unit_test(test_rss_udp),
      cmocka_unit_test(test_rss_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
