/*
 * TCP header: the options a Linux SYN carries, SACK beside timestamps, damaged lists, limits of the builder.
 */
#include "test.h"
#include "wire/tcp.h"

#include <string.h>

/* ports 40000 → 80, SYN; MSS 1460, SACK_OK, TS 0x01020304 0, NOP, WS 7: a Linux SYN */
static const uint8_t syn[40] = {0x9c, 0x40, 0x00, 0x50, 0x11, 0x22, 0x33, 0x44, 0,    0,    0, 0, 0xa0, 0x02,
                                0xfa, 0xf0, 0,    0,    0,    0,    2,    4,    0x05, 0xb4, 4, 2, 8,    10,
                                1,    2,    3,    4,    0,    0,    0,    0,    1,    3,    3, 7};

static void linux_syn_both_ways(void **state) {
  (void)state;
  struct tcp_hdr h;
  uint8_t p[60];
  memset(&h, 0xee, sizeof h);
  assert_int_equal(tcp_hdr_parse(syn, 40, &h), 40);
  assert_int_equal(h.sport, 40000);
  assert_int_equal(h.dport, 80);
  assert_int_equal(h.seq, 0x11223344);
  assert_int_equal(h.flags, TCP_SYN);
  assert_int_equal(h.wnd, 64240);
  assert_int_equal(h.hdr_len, 40);
  assert_int_equal(h.opts.present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_TS | TCP_OPT_HAS_WSCALE);
  assert_int_equal(h.opts.mss, 1460);
  assert_int_equal(h.opts.wscale, 7);
  assert_int_equal(h.opts.ts_val, 0x01020304);
  assert_int_equal(tcp_hdr_build(p, sizeof p, &h), 40);
  assert_memory_equal(p, syn, 40);
  assert_int_equal(tcp_hdr_build(p, 39, &h), WIRE_ROOM);
  for (size_t n = 0; n < 40; n++)
    assert_int_equal(tcp_hdr_parse(syn, n, &h), WIRE_SHORT);
}

static void data_header_takes_the_short_way(void **state) {
  (void)state;
  struct tcp_hdr h = {.sport = 1, .dport = 2, .seq = 3, .ack = 4, .flags = TCP_ACK | TCP_PSH | TCP_AE, .wnd = 5}, g;
  uint8_t p[60];
  h.opts.present = TCP_OPT_HAS_TS;
  h.opts.ts_val = 77;
  h.opts.ts_ecr = 88;
  assert_int_equal(tcp_hdr_size(&h.opts), 32);
  assert_int_equal(tcp_hdr_build(p, 32, &h), 32);
  assert_int_equal(load_be32(p + 20), 0x0101080a);
  assert_int_equal(tcp_hdr_parse(p, 32, &g), 32);
  assert_int_equal(g.flags, TCP_ACK | TCP_PSH | TCP_AE);
  assert_int_equal(g.opts.present, TCP_OPT_HAS_TS);
  assert_int_equal(g.opts.ts_val, 77);
  assert_int_equal(g.opts.ts_ecr, 88);
  assert_int_equal(g.opts.n_sack, 0);
}

static void sack_fills_what_is_left(void **state) {
  (void)state;
  struct tcp_hdr h = {.flags = TCP_ACK}, g;
  uint8_t p[60];
  h.opts.present = TCP_OPT_HAS_TS | TCP_OPT_HAS_SACK;
  h.opts.n_sack = 4;
  for (uint32_t i = 0; i < 4; i++)
    h.opts.sack[i] = (struct tcp_sack){i * 1000, i * 1000 + 500};
  assert_int_equal(tcp_hdr_build(p, 60, &h), 60); /* 12 + 4 + 3 * 8 */
  assert_int_equal(tcp_hdr_parse(p, 60, &g), 60);
  assert_int_equal(g.opts.n_sack, 3);
  assert_memory_equal(g.opts.sack, h.opts.sack, 3 * sizeof h.opts.sack[0]);
  h.opts.present = TCP_OPT_HAS_SACK;
  assert_int_equal(tcp_hdr_build(p, 60, &h), 56);
  assert_int_equal(tcp_hdr_parse(p, 60, &g), 56);
  assert_int_equal(g.opts.n_sack, 4);
  assert_int_equal(g.opts.sack[3].r, 3500);
}

static void fast_open(void **state) {
  (void)state;
  struct tcp_hdr h = {.flags = TCP_SYN}, g;
  uint8_t p[60];
  h.opts.present = TCP_OPT_HAS_MSS | TCP_OPT_HAS_TS | TCP_OPT_HAS_SACK_OK | TCP_OPT_HAS_WSCALE | TCP_OPT_HAS_TFO;
  h.opts.mss = 1460;
  for (uint8_t len = 0; len <= 18; len++) {
    h.opts.tfo_len = len;
    memset(h.opts.tfo, 0x30 + len, TCP_TFO_MAX);
    if (len != 0 && (len < 4 || len > 16 || len % 2)) {
      assert_int_equal(tcp_hdr_build(p, 60, &h), WIRE_VALUE);
      continue;
    }
    int n = tcp_hdr_build(p, 60, &h);
    assert_int_equal(n, 20 + 20 + (2 + len + 3) / 4 * 4);
    assert_int_equal(tcp_hdr_parse(p, 60, &g), n);
    assert_int_equal(g.opts.present, h.opts.present);
    assert_int_equal(g.opts.tfo_len, len);
    assert_memory_equal(g.opts.tfo, h.opts.tfo, len);
  }
}

static int parse_opts(const uint8_t *opts, size_t n, struct tcp_hdr *g) {
  uint8_t p[60] = {0};
  size_t len = 20 + (n + 3) / 4 * 4;
  p[12] = (uint8_t)(len / 4 << 4);
  memcpy(p + 20, opts, n);
  return tcp_hdr_parse(p, len, g);
}

static void damaged_lists_keep_what_is_legible(void **state) {
  (void)state;
  struct tcp_hdr g;
  assert_int_equal(parse_opts((uint8_t[]){2, 4, 5, 180, 8, 9, 1, 1}, 8, &g), 28); /* TS runs over the end */
  assert_int_equal(g.opts.present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_BAD);
  assert_int_equal(g.opts.mss, 1460);
  assert_int_equal(parse_opts((uint8_t[]){3, 1, 7, 0}, 4, &g), 24); /* length 1 */
  assert_int_equal(g.opts.present, TCP_OPT_HAS_BAD);
  assert_int_equal(parse_opts((uint8_t[]){3, 4, 7, 7, 2, 4, 1, 1}, 8, &g), 28); /* WS of wrong length, then MSS */
  assert_int_equal(g.opts.present, TCP_OPT_HAS_MSS | TCP_OPT_HAS_BAD);
  assert_int_equal(g.opts.mss, 257);
  assert_int_equal(parse_opts((uint8_t[]){1, 1, 1, 3}, 4, &g), 24); /* no room for a length */
  assert_int_equal(g.opts.present, TCP_OPT_HAS_BAD);
  assert_int_equal(parse_opts((uint8_t[]){99, 6, 1, 2, 3, 4, 4, 2}, 8, &g), 28);
  assert_int_equal(g.opts.present, TCP_OPT_HAS_UNKNOWN | TCP_OPT_HAS_SACK_OK);
  assert_int_equal(parse_opts((uint8_t[]){0, 2, 4, 5}, 4, &g), 24); /* nothing counts after the end */
  assert_int_equal(g.opts.present, 0);
  assert_int_equal(parse_opts((uint8_t[]){2, 4, 1, 1, 2, 4, 2, 2}, 8, &g), 28);
  assert_int_equal(g.opts.mss, 514);
  assert_int_equal(parse_opts((uint8_t[]){5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9}, 12, &g), 32); /* 1.25 SACK blocks */
  assert_int_equal(g.opts.present, TCP_OPT_HAS_BAD);
  assert_int_equal(g.opts.n_sack, 0);
  assert_int_equal(parse_opts((uint8_t[]){4, 3, 0, 34, 3, 1, 5, 2}, 8, &g), 28);
  assert_int_equal(g.opts.present, TCP_OPT_HAS_BAD);
}

static void header_length_is_checked(void **state) {
  (void)state;
  uint8_t p[40];
  struct tcp_hdr g;
  memcpy(p, syn, 40);
  p[12] = 0x40;
  assert_int_equal(tcp_hdr_parse(p, 40, &g), WIRE_LENGTH);
  p[12] = 0xf0;
  assert_int_equal(tcp_hdr_parse(p, 40, &g), WIRE_SHORT);
}

static void builder_refuses(void **state) {
  (void)state;
  struct tcp_opts o = {.present = TCP_OPT_HAS_WSCALE, .wscale = 15};
  assert_int_equal(tcp_hdr_size(&o), WIRE_VALUE);
  o = (struct tcp_opts){.present = TCP_OPT_HAS_SACK, .n_sack = 0};
  assert_int_equal(tcp_hdr_size(&o), WIRE_VALUE);
  o.n_sack = 5;
  assert_int_equal(tcp_hdr_size(&o), WIRE_VALUE);
  o = (struct tcp_opts){.present = TCP_OPT_HAS_UNKNOWN | TCP_OPT_HAS_BAD};
  assert_int_equal(tcp_hdr_size(&o), 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linux_syn_both_ways),
      cmocka_unit_test(data_header_takes_the_short_way),
      cmocka_unit_test(sack_fills_what_is_left),
      cmocka_unit_test(fast_open),
      cmocka_unit_test(damaged_lists_keep_what_is_legible),
      cmocka_unit_test(header_length_is_checked),
      cmocka_unit_test(builder_refuses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
