/*
 * Fragments that come (orders, duplicates, overlaps, lies, time, bounds) and fragments that we make.
 */
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"
#include "wire/eth.h"

#include <stdio.h>

#define S 1000000ull

static uint8_t whole[65536];

static int setup(void **state) {
  for (uint32_t i = 0; i < sizeof whole; i++)
    whole[i] = (uint8_t)(i * 2654435761u >> 11);
  *state = rig_new();
  rig_resolve(*state, "10.0.0.2", rig_peer);
  rig_resolve(*state, "2001:db8::2", rig_peer);
  return 0;
}

/* Bytes [from, to) of `whole` as a fragment of datagram id to us. */
static void frag_from(struct ip_rig *r, const char *src, int six, uint32_t id, uint32_t from, uint32_t to, int more) {
  static uint8_t f[70000];
  rig_in(r, f,
         rig_fragment(f, src, six ? "2001:db8::1" : "10.0.0.1", IP_PROTO_UDP, id, from, more, whole + from, to - from));
}
static void frag(struct ip_rig *r, int six, uint32_t id, uint32_t from, uint32_t to, int more) {
  frag_from(r, six ? "2001:db8::2" : "10.0.0.2", six, id, from, to, more);
}

static void came_whole(struct ip_rig *r, uint32_t n_up, uint32_t len) {
  assert_int_equal(r->n_up, n_up);
  const struct pkt *p = &r->up[n_up - 1];
  assert_int_equal(p->l4_len, len);
  assert_memory_equal(r->last, whole, len);
  assert_int_equal(p->ip.flags & ~IP_FLAG_OPTS, 0);
  assert_int_equal(p->ip.proto, IP_PROTO_UDP);
  assert_int_equal(p->ip.total_len, p->ip.hdr_len + len);
  assert_int_equal(p->to_us, 1);
  assert_int_equal(p->flags, 0);
  assert_int_equal(r->s->reasm.n_open, 0);
}

static void orders(void **state) {
  struct ip_rig *r = *state;
  static const uint8_t order[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {0, 2, 3, 1}, {2, 0, 3, 1}};
  static const uint32_t at[] = {0, 1480, 2960, 4440, 4447};
  uint32_t n = 0;
  for (int six = 0; six < 2; six++) {
    for (uint32_t o = 0; o < ARRAY_LEN(order); o++) {
      for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(r->n_up, n);
        unsigned k = order[o][i];
        frag(r, six, o, at[k], at[k + 1], k != 3);
      }
      came_whole(r, ++n, 4447);
    }
  }
  assert_int_equal(r->c[IPC_REASM_DONE], 10);
  assert_int_equal(r->c[IPC_RX_FRAGMENT], 40);
}

/* Two at once are told apart by id, source and, in IPv4, protocol. */
static void many_at_once(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  frag(r, 0, 7, 0, 800, 1);
  frag(r, 0, 8, 0, 80, 1);
  frag_from(r, "10.0.0.3", 0, 7, 0, 160, 1);
  rig_in(r, f, rig_fragment(f, "10.0.0.2", "10.0.0.1", 99, 7, 0, 1, whole, 40));
  frag(r, 1, 7, 0, 240, 1);
  assert_int_equal(r->s->reasm.n_open, 5);
  frag(r, 1, 7, 240, 250, 0);
  assert_int_equal(r->up[0].l4_len, 250);
  frag_from(r, "10.0.0.3", 0, 7, 160, 170, 0);
  assert_int_equal(r->up[1].l4_len, 170);
  frag(r, 0, 8, 80, 90, 0);
  assert_int_equal(r->up[2].l4_len, 90);
  frag(r, 0, 7, 800, 810, 0);
  assert_int_equal(r->up[3].l4_len, 810);
  assert_int_equal(r->s->reasm.n_open, 1);
}

static void largest(void **state) {
  struct ip_rig *r = *state;
  for (int six = 0; six < 2; six++) {
    uint32_t end = six ? 65535 : 65515;
    frag(r, six, 1, 0, 40000, 1);
    frag(r, six, 1, 40000, end, 0);
    came_whole(r, (uint32_t)six + 1, end);
  }
  uint8_t l4[16] = {0}; /* a byte more cannot be (RFC 791 3.2) */
  static uint8_t f[256];
  rig_in(r, f, rig_fragment(f, "10.0.0.2", "10.0.0.1", IP_PROTO_UDP, 9, 65512, 0, l4, 16));
  assert_int_equal(r->c[IPC_RX_BAD_LEN], 1);
  assert_int_equal(r->s->reasm.n_open, 0);
}

static void duplicates_are_harmless(void **state) {
  struct ip_rig *r = *state;
  for (int six = 0; six < 2; six++) {
    frag(r, six, 1, 0, 800, 1);
    frag(r, six, 1, 0, 800, 1);
    frag(r, six, 1, 1600, 2000, 0);
    frag(r, six, 1, 1600, 2000, 0);
    frag(r, six, 1, 80, 160, 1); /* within, the same bytes */
    frag(r, six, 1, 800, 1600, 1);
    came_whole(r, (uint32_t)six + 1, 2000);
  }
  assert_int_equal(r->c[IPC_REASM_OVERLAP], 0);
}

static void contradictions_spoil(void **state) {
  struct ip_rig *r = *state;
  uint32_t id = 0, overlap = 0, bad = 0;
  for (int six = 0; six < 2; six++) {
    static const struct {
      uint16_t a, b, c, d;
      uint8_t more, overlaps;
    } second[] = {
        {800, 1600, 792, 2000, 0, 1},  /* into the end */
        {800, 1600, 0, 808, 1, 1},     /* into the start */
        {800, 1600, 0, 2400, 1, 1},    /* over all of it */
        {800, 1600, 800, 1608, 1, 1},  /* the same start, longer */
        {800, 1600, 1600, 1700, 0, 0}, /* for comparison */
        {800, 1600, 0, 800, 1, 0},
    };
    for (uint32_t i = 0; i < ARRAY_LEN(second); i++) {
      frag(r, six, ++id, second[i].a, second[i].b, 1);
      frag(r, six, id, second[i].c, second[i].d, second[i].more);
      overlap += second[i].overlaps;
      assert_int_equal(r->c[IPC_REASM_OVERLAP], overlap);
    }
    frag(r, six, ++id, 800, 900, 0); /* two ends */
    frag(r, six, id, 80, 700, 0);
    assert_int_equal(r->c[IPC_REASM_BAD], ++bad);
    frag(r, six, ++id, 800, 900, 0); /* bytes beyond the end */
    frag(r, six, id, 904, 1000, 1);
    assert_int_equal(r->c[IPC_REASM_BAD], ++bad);
    frag(r, six, ++id, 1600, 2000, 1); /* an end before what is there */
    frag(r, six, id, 80, 1000, 0);
    assert_int_equal(r->c[IPC_REASM_BAD], ++bad);
    whole[100] ^= 1; /* a duplicate that says something else */
    frag(r, six, ++id, 0, 800, 1);
    whole[100] ^= 1;
    frag(r, six, id, 0, 800, 1);
    assert_int_equal(r->c[IPC_REASM_OVERLAP], ++overlap);
    frag(r, six, id, 800, 1000, 0); /* nothing of it counts any more (RFC 5722 4) */
    frag(r, six, id, 0, 800, 1);
    assert_int_equal(r->n_up, 0);
  }
}

static void too_scattered(void **state) {
  struct ip_rig *r = *state;
  for (uint32_t i = 0; i <= REASM_RANGES; i++)
    frag(r, 0, 1, 80 + i * 160, 80 + i * 160 + 80, 1);
  assert_int_equal(r->c[IPC_REASM_BAD], 1);
}

/* RFC 1858 3.2.1, RFC 3128; RFC 8200 4.5: the sender of a chain cut short is told. */
static void tiny_fragments(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  rig_in(r, f, rig_fragment(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, 1, 0, 1, whole, 16));
  rig_in(r, f, rig_fragment(f, "10.0.0.2", "10.0.0.1", IP_PROTO_TCP, 1, 8, 0, whole, 40));
  assert_int_equal(r->c[IPC_REASM_BAD], 2);
  assert_int_equal(r->s->reasm.n_open, 0);
  assert_int_equal(r->n_sent, 0);
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_TCP, 1, 0, 1, whole, 16));
  uint8_t opts[24] = {IP_PROTO_TCP, 0, 1, 4}; /* the chain may have more links */
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, 2, 0, 1, opts, 24));
  assert_int_equal(r->c[IPC_REASM_BAD], 4);
  assert_int_equal(r->n_sent, 2);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(r->sent[i].b[54], ICMP6_PARAM_PROBLEM);
    assert_int_equal(r->sent[i].b[55], 3);
    assert_int_equal(load_be32(r->sent[i].b + 58), 0);
  }
  uint8_t fine[32] = {IP_PROTO_TCP, 0, 1, 4};
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, 3, 0, 1, fine, 32));
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_DSTOPTS, 3, 32, 0, fine, 8));
  assert_int_equal(r->n_up, 1);
  assert_int_equal(r->up[0].ip.proto, IP_PROTO_TCP);
  assert_int_equal(r->up[0].l4_len, 32);
  assert_int_equal(r->up[0].l4_off, 48);
}

/* A fragment header inside the fragmented part. */
static void nested(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256], l4[32] = {IP_PROTO_UDP};
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_FRAGMENT, 3, 0, 1, l4, 32));
  rig_in(r, f, rig_fragment(f, "2001:db8::2", "2001:db8::1", IP_PROTO_FRAGMENT, 3, 32, 0, l4, 8));
  assert_int_equal(r->c[IPC_REASM_BAD], 1);
  assert_int_equal(r->n_up, 0);
  assert_int_equal(r->s->reasm.n_open, 0);
}

static void congestion_marks(void **state) {
  struct ip_rig *r = *state;
  uint8_t f[256];
  for (int six = 0; six < 2; six++) {
    static const struct {
      uint8_t a, b;
      int want; /* ECN of the whole, -1 dropped */
    } t[] = {{2, 2, 2}, {2, 3, 3}, {3, 1, 3}, {0, 0, 0}, {0, 3, -1}, {3, 0, -1}, {1, 2, 1}};
    for (uint32_t i = 0; i < ARRAY_LEN(t); i++) {
      struct ip_hdr h = {.version = six ? 6 : 4, .ttl = 9, .proto = IP_PROTO_UDP, .frag_id = i};
      h.src = rig_addr(six ? "2001:db8::2" : "10.0.0.2");
      h.dst = rig_addr(six ? "2001:db8::1" : "10.0.0.1");
      h.flags = IP_FLAG_FRAG | IP_FLAG_MF;
      h.tos = t[i].a;
      rig_clear(r);
      rig_in(r, f, rig_build_hdr(f, &h, rig_mac, whole, 40));
      h.flags = IP_FLAG_FRAG;
      h.frag_off = 40;
      h.tos = t[i].b;
      rig_in(r, f, rig_build_hdr(f, &h, rig_mac, whole + 40, 4));
      assert_int_equal(r->n_up, t[i].want >= 0);
      if (t[i].want >= 0)
        assert_int_equal(r->up[0].ip.tos, t[i].want);
    }
  }
}

static void time_is_up(void **state) {
  struct ip_rig *r = *state;
  for (int six = 0; six < 2; six++) {
    usec_t wait = six ? 60 * S : 30 * S;
    rig_clear(r);
    frag(r, six, 1, 0, 80, 1);
    frag(r, six, 2, 80, 160, 1); /* without its first fragment nobody is told */
    rig_advance(r, wait - S);
    assert_int_equal(r->s->reasm.n_open, 2);
    rig_resolve(r, six ? "2001:db8::2" : "10.0.0.2", rig_peer); /* stale by now */
    rig_advance(r, 2 * S);
    assert_int_equal(r->s->reasm.n_open, 0);
    assert_int_equal(r->c[IPC_REASM_TIMEOUT], 2 * (six + 1));
    assert_int_equal(r->c[IPC_ICMP_TX_ERROR], six + 1);
    uint32_t i = 0;
    while (i < r->n_sent && r->sent[i].b[six ? 54 : 34] != (six ? ICMP6_TIME_EXCEEDED : ICMP4_TIME_EXCEEDED))
      i++;
    assert_true(i < r->n_sent);
    assert_int_equal(r->sent[i].b[six ? 55 : 35], 1);
    struct ip_hdr h; /* the quotation: the first fragment as it came */
    const uint8_t *quote = r->sent[i].b + (six ? 62 : 42);
    assert_int_equal(ip_hdr_parse_quoted(quote, 200, &h), six ? 48 : 20);
    assert_true(h.flags & IP_FLAG_MF);
    assert_memory_equal(quote + h.hdr_len, whole, 80);
  }
}

static void bounds(void **state) {
  struct ip_rig *r = *state;
  for (uint32_t i = 0; i < REASM_SOURCE_MAX + 1; i++)
    frag(r, 0, i, 0, 80, 1);
  assert_int_equal(r->s->reasm.n_open, REASM_SOURCE_MAX);
  assert_int_equal(r->c[IPC_REASM_EVICTED], 1);
  frag(r, 0, 0, 80, 160, 0); /* its own oldest went, and the next one for this */
  frag(r, 0, 2, 80, 160, 0);
  assert_int_equal(r->n_up, 1);
  for (uint32_t i = 0; i < 2 * REASM_MAX; i++) {
    char src[20];
    snprintf(src, sizeof src, "10.0.0.%u", 10 + i);
    frag_from(r, src, 0, 5, 0, 80, 1);
    assert_true(r->s->reasm.n_open <= REASM_MAX);
  }
  assert_int_equal(r->s->reasm.n_open, REASM_MAX);
  frag_from(r, "10.0.0.137", 0, 5, 80, 100, 0);
  assert_int_equal(r->n_up, 2);
}

/* Port unreachable quotes the whole datagram's header; echo of both sizes is answered in fragments. */
static void answers(void **state) {
  struct ip_rig *r = *state;
  struct ip_hdr h;
  r->up_result = -ENOENT;
  frag(r, 0, 1, 0, 800, 1);
  frag(r, 0, 1, 800, 1000, 0);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->sent[0].b[34], ICMP4_UNREACH);
  assert_int_equal(ip4_hdr_parse(r->sent[0].b + 42, 1020, &h), 20);
  assert_int_equal(h.total_len, 1020);
  assert_true(ip4_hdr_cksum_ok(r->sent[0].b + 42, 20));
  static uint8_t f[4096], msg[3000];
  for (int six = 0; six < 2; six++) {
    struct icmp_hdr e = {.type = six ? ICMP6_ECHO : ICMP4_ECHO, .id = 1, .seq = 2};
    const char *src = six ? "2001:db8::2" : "10.0.0.2", *dst = six ? "2001:db8::1" : "10.0.0.1";
    struct ip_addr s = rig_addr(src), d = rig_addr(dst);
    memcpy(msg, whole, sizeof msg);
    assert_int_equal(six ? icmp6_hdr_build(msg, 8, &e) : icmp4_hdr_build(msg, 8, &e), 8);
    if (six)
      icmp6_cksum_set(msg, sizeof msg, &s, &d);
    else
      icmp4_cksum_set(msg, sizeof msg);
    uint8_t proto = six ? IP_PROTO_ICMP6 : IP_PROTO_ICMP;
    rig_clear(r);
    rig_in(r, f, rig_fragment(f, src, dst, proto, 77, 1480, 0, msg + 1480, 1520));
    rig_in(r, f, rig_fragment(f, src, dst, proto, 77, 0, 1, msg, 1480));
    assert_int_equal(r->n_sent, 3);
    uint32_t off = 0;
    for (uint32_t i = 0; i < 3; i++) { /* put them together by hand */
      int hlen = ip_hdr_parse(r->sent[i].b + 14, r->sent[i].len - 14, &h);
      assert_int_equal(hlen, six ? 48 : 20);
      assert_true(h.total_len <= 1500);
      assert_int_equal(h.frag_off, off);
      assert_int_equal((h.flags & IP_FLAG_MF) != 0, i != 2);
      assert_int_equal(h.flags & IP_FLAG_DF, 0);
      memcpy(f + off, r->sent[i].b + 14 + hlen, h.total_len - h.hdr_len);
      off += h.total_len - h.hdr_len;
    }
    assert_int_equal(off, sizeof msg);
    assert_int_equal(f[0], six ? ICMP6_ECHO_REPLY : ICMP4_ECHO_REPLY);
    assert_true(six ? icmp6_cksum_ok(f, off, &d, &s) : icmp4_cksum_ok(f, off));
    assert_memory_equal(f + 8, whole + 8, off - 8);
  }
  assert_int_equal(r->c[IPC_TX_FRAGMENTED], 2);
  assert_int_equal(r->c[IPC_TX_FRAGMENTS], 6);
}

static int out_cut(struct ip_rig *r, const char *dst, uint32_t slot_len, uint32_t fifo1, uint32_t fifo2, uint16_t mtu,
                   uint16_t flags) {
  struct txf t;
  struct ip_addr d = rig_addr(dst), src = rig_addr(ip_addr_is4(&d) ? "10.0.0.1" : "2001:db8::1");
  memset(&t, 0, sizeof t);
  assert_int_equal(r->s->ops.frame_get(r, &t), 0);
  memcpy(t.data, whole, slot_len);
  t.len = slot_len;
  t.fifo[0].off = 1000000;
  t.fifo[0].len = fifo1;
  t.fifo[1].off = 5000000;
  t.fifo[1].len = fifo2;
  t.n_fifo = 2;
  t.fifo_len = fifo1 + fifo2;
  t.frag_mtu = mtu;
  t.flags = flags;
  return ip_output(r->s, &t, &src, &d, IP_PROTO_UDP, 0, 0, NULL, r->now);
}

/* Fifo pieces are divided, not copied; each fragment's bytes are those it should have. */
static void cutting(void **state) {
  struct ip_rig *r = *state;
  struct ip_hdr h;
  assert_int_equal(out_cut(r, "10.0.0.2", 20, 3000, 2000, UINT16_MAX, 0), 0);
  assert_int_equal(r->n_sent, 4);
  uint32_t off = 0;
  for (uint32_t i = 0; i < 4; i++) {
    const struct rig_frame *f = &r->sent[i];
    assert_int_equal(ip_hdr_parse_quoted(f->b + 14, f->len - 14, &h), 20);
    assert_int_equal(f->len, i == 0 ? 54 : 34);
    assert_int_equal(h.total_len, f->len - 14 + f->fifo_len);
    assert_int_equal(h.frag_off, off);
    assert_int_equal((h.flags & IP_FLAG_MF) != 0, i != 3);
    assert_int_equal(f->flags, 0);
    uint32_t n = h.total_len - 20, at = off;
    for (uint32_t k = 0; k < f->n_fifo; k++) { /* piece k begins where the last one ended */
      uint32_t begin = HS_MAX(at, 20u);
      uint64_t want = begin < 3020 ? 1000000 + begin - 20 : 5000000 + begin - 3020;
      assert_int_equal(f->fifo[k].off, want);
      at = begin + f->fifo[k].len;
    }
    off += n;
    assert_int_equal(at, off);
  }
  assert_int_equal(off, 5020);
  rig_clear(r); /* a narrower path, and one byte less than needs cutting */
  assert_int_equal(out_cut(r, "2001:db8::2", 20, 1220, 0, 1280, 0), 0);
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(r->c[IPC_TX_FRAGMENTED], 1);
  assert_int_equal(out_cut(r, "2001:db8::2", 20, 1221, 0, 1280, 0), 0);
  assert_int_equal(r->n_sent, 3);
  assert_int_equal(r->c[IPC_TX_FRAGMENTED], 2);
}

static void cutting_refused(void **state) {
  struct ip_rig *r = *state;
  assert_int_equal(out_cut(r, "10.0.0.2", 20, 3000, 0, UINT16_MAX, ABI_FR_CSUM_PART), -EMSGSIZE);
  assert_int_equal(out_cut(r, "10.0.0.2", 20, 65520, 0, UINT16_MAX, 0), -EMSGSIZE);
  assert_int_equal(out_cut(r, "10.0.0.9", 20, 3000, 0, UINT16_MAX, 0), -EAGAIN); /* the neighbour is asked first */
  assert_int_equal(r->n_sent, 1);
  assert_int_equal(load_be16(r->sent[0].b + 12), ETH_TYPE_ARP);
  rig_clear(r);
  r->slots = 3; /* the datagram, and two of its four fragments */
  assert_int_equal(out_cut(r, "10.0.0.2", 20, 5000, 0, UINT16_MAX, 0), 0); /* the rig's frames come home at once */
  r->slots = 1;
  assert_int_equal(out_cut(r, "10.0.0.2", 20, 5000, 0, UINT16_MAX, 0), -ENOBUFS);
  assert_int_equal(out_cut(r, "10.0.0.1", 20, 5000, 0, UINT16_MAX, 0), 0); /* to ourselves nothing is cut */
  rig_loop(r);
  assert_int_equal(r->up[0].l4_len, 5020);
  assert_int_equal(out_cut(r, "10.0.0.255", 20, 0, 0, UINT16_MAX, 0), 0);
  r->slots = RIG_SLOTS;
  rig_clear(r);
  assert_int_equal(out_cut(r, "10.0.0.255", 20, 2000, 0, UINT16_MAX, 0), 0); /* groups need no neighbour */
  assert_int_equal(r->n_sent, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(orders, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(many_at_once, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(largest, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(duplicates_are_harmless, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(contradictions_spoil, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(too_scattered, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(tiny_fragments, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(nested, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(congestion_marks, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(time_is_up, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(bounds, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(answers, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(cutting, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(cutting_refused, setup, rig_teardown),
  };
  return cmocka_run_group_tests_name("ip_reasm", tests, NULL, NULL);
}
