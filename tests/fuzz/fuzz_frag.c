/*
 * Fuzz target over fragments of both families: the input is a program of fragments that lie about place, length and
 * content, of datagrams cut honestly and delivered in any order with duplicates, of our own datagrams cut by the stack
 * and given back to it, and of time. The oracle after every step: ip_check.h; a byte that is delivered was sent, at
 * that place of that datagram; an honest datagram is delivered as soon as its last fragment is there, once, whatever
 * else lies in the table.
 *
 * Content of byte i of datagram k: content(k, i), or its complement in a fragment that lies. RFC 791, 815, 8200 4.5,
 * 5722. Corpus in corpus/frag.
 */
#include "fuzz.h"
#include "ip_check.h"
#include "wire/eth.h"

#define STEPS_MAX 96u
#define KEYS      16u /* datagrams of the lying kind */
#define PARTS_MAX 12u

static uint8_t sent[KEYS][65536]; /* by key and place: 1 the truth was sent, 2 the lie */
static uint32_t sent_high[KEYS];  /* beyond this all is 0 */

struct frag {
  struct ip_rig *r;
  struct fuzz_input in;
  uint32_t fresh; /* ids of honest datagrams */
  uint32_t n_up;  /* deliveries looked at */
};

static const char *const peers[4] = {"10.0.0.2", "10.0.0.3", "2001:db8::2", "2001:db8::3"};

static uint8_t content(uint32_t key, uint32_t i) {
  uint32_t x = (key + 1) * 0x9e3779b9u + i * 0x85ebca6bu;
  return (uint8_t)((x ^ x >> 15) & 0x7f); /* the high bit tells lies apart */
}

static const char *own(const char *peer) {
  return peer[0] == '1' ? "10.0.0.1" : "2001:db8::1";
}

/* One frame to the stack, in an exact block, whole or in pieces. */
static void feed(struct frag *f, const uint8_t *frame, uint32_t len, uint32_t piece) {
  uint8_t *exact = malloc(len);
  REQUIRE(exact != NULL);
  memcpy(exact, frame, len);
  rig_in_pieces(f->r, exact, len, piece != 0 ? piece : len);
  free(exact);
}

/* Whether byte i was sent so for a key. */
static int was_sent(uint32_t key, uint32_t i, uint8_t byte) {
  uint8_t truth = content(key, i), lie = (uint8_t)~truth;
  return (byte == truth && (sent[key][i] & 1)) || (byte == lie && (sent[key][i] & 2));
}

/* What was delivered of lying datagrams: one of the keys must explain all bytes. */
static void explain(struct frag *f) {
  struct ip_rig *r = f->r;
  if (r->n_up == 0)
    return;
  REQUIRE(r->n_up == 1);
  uint32_t len = r->up[0].l4_len, i = 0;
  for (uint32_t k = 0; k < KEYS && (k == 0 || i < len); k++)
    for (i = 0; i < len && was_sent(k, i, r->last[i]);)
      i++;
  REQUIRE(i == len);
  r->n_up = 0;
}

static void lie(struct frag *f) {
  static uint8_t frame[65536 + 256], bytes[65536];
  uint32_t how = fuzz_take(&f->in, 1), key = how & 15, off = (fuzz_take(&f->in, 2) & 0x1fff) * 8;
  uint32_t len = fuzz_take(&f->in, 2) % 3000, more = how & 0x10, bad = (how & 0x20) != 0, piece = 0;
  const char *peer = peers[key & 3];
  if (how & 0x40)
    len = len / 8 * 8;
  if (how & 0x80) { /* small places meet more often */
    off %= 512;
    len %= 520;
    piece = fuzz_take(&f->in, 1);
  }
  for (uint32_t i = 0; i < len; i++) {
    uint8_t b = content(key, off + i);
    bytes[i] = bad ? (uint8_t)~b : b;
    if (off + i < 65536)
      sent[key][off + i] |= bad ? 2 : 1;
  }
  uint32_t n =
      rig_fragment(frame, peer, own(peer), key & 8 ? IP_PROTO_UDP : IP_PROTO_TCP, key >> 2, off, more != 0, bytes, len);
  feed(f, frame, n, piece);
  explain(f);
}

/* A datagram of n parts in the order that a number says, with some sent twice: it arrives with the last missing one. */
static void honest(struct frag *f) {
  static uint8_t frame[65536 + 256], bytes[65536];
  uint32_t how = fuzz_take(&f->in, 1), n = 2 + how % (PARTS_MAX - 1), seed = fuzz_take(&f->in, 2), at[PARTS_MAX + 1];
  uint32_t unit = 8 * (1 + fuzz_take(&f->in, 1) % (5000 / n)), order[PARTS_MAX], last = 1 + seed % unit;
  const char *peer = peers[how >> 6];
  uint32_t id = ++f->fresh, total = (n - 1) * unit + last;
  for (uint32_t i = 0; i < total; i++)
    bytes[i] = content(id, i);
  for (uint32_t i = 0; i < n; i++) {
    at[i] = i * unit;
    order[i] = i;
  }
  at[n] = total;
  for (uint32_t i = n - 1; i > 0; i--) {
    uint32_t k = seed % (i + 1), x = order[i];
    order[i] = order[k];
    order[k] = x;
    seed = seed * 1103515245u + 12345u;
  }
  for (uint32_t i = 0; i < n; i++) {
    uint32_t k = order[i];
    REQUIRE(f->r->n_up == 0);
    for (uint32_t twice = 0; twice < (i + 1 < n && how & 0x20 ? 2u : 1u); twice++)
      feed(f, frame,
           rig_fragment(frame, peer, own(peer), IP_PROTO_UDP, id, at[k], k + 1 < n, bytes + at[k], at[k + 1] - at[k]),
           how & 0x10 ? 100 : 0);
  }
  REQUIRE(f->r->n_up == 1 && f->r->up[0].l4_len == total && memcmp(f->r->last, bytes, total) == 0);
  f->r->n_up = 0;
}

/* Addresses change places: our fragments come back as a peer's. The IPv4 sum stays. */
static uint32_t mirror(uint8_t *out, const struct rig_frame *in) {
  uint8_t *h = out + ETH_HLEN, x[16];
  memcpy(out, in->b, in->len);
  memcpy(out, rig_mac, 6);
  memcpy(out + 6, rig_peer, 6);
  uint32_t n = h[0] >> 4 == 4 ? 4 : 16, src = n == 4 ? 12 : 8;
  memcpy(x, h + src, n);
  memcpy(h + src, h + src + n, n);
  memcpy(h + src + n, x, n);
  return in->len;
}

/* Our own datagram, cut by the stack, comes back whole. */
static void round_trip(struct frag *f) {
  static uint8_t frame[ABI_SLOT_SIZE];
  uint32_t how = fuzz_take(&f->in, 1), len = 8 + fuzz_take(&f->in, 2) % 1700;
  const char *peer = how & 1 ? "10.0.0.4" : "2001:db8::4"; /* whose ids no lie meets */
  struct ip_addr d = rig_addr(peer), s = rig_addr(own(peer));
  struct txf t;
  struct ip_rig *r = f->r;
  memset(&t, 0, sizeof t);
  rig_resolve(r, peer, rig_peer);
  rig_clear(r);
  REQUIRE(rig_take(r, &t) == 0);
  for (uint32_t i = 0; i < len; i++)
    t.data[i] = content(0x10000 + len, i);
  t.len = len;
  t.frag_mtu = (uint16_t)(fuzz_take(&f->in, 2) % 1600);
  if (ip_output(r->s, &t, &s, &d, IP_PROTO_UDP, 0, 0, NULL, r->now) < 0 || r->n_sent > RIG_SENT) {
    rig_clear(r);
    return;
  }
  uint32_t n = r->n_sent, sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t k = how & 4 ? n - 1 - i : i;
    REQUIRE(r->sent[k].len <= ETH_HLEN + 1500);
    feed(f, frame, mirror(frame, &r->sent[k]), how & 8 ? 64 : 0);
    sum += r->n_up;
    REQUIRE(r->n_up == (i + 1 == n));
  }
  REQUIRE(sum == 1 && r->up[0].l4_len == len);
  for (uint32_t i = 0; i < len; i++)
    REQUIRE(r->last[i] == content(0x10000 + len, i));
  rig_clear(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct frag f = {.r = rig_new(), .in = {data, size}, .fresh = 100};
  for (uint32_t k = 0; k < KEYS; k++) {
    memset(sent[k], 0, sent_high[k]);
    sent_high[k] = 0;
  }
  ip_repeatable(f.r);
  for (unsigned step = 0; step < STEPS_MAX && f.in.left > 0; step++) {
    switch (fuzz_take(&f.in, 1) % 8) {
    default:
      lie(&f);
      break;
    case 5:
      honest(&f);
      break;
    case 6:
      round_trip(&f);
      break;
    case 7:
      rig_advance(f.r, (usec_t)fuzz_take(&f.in, 1) * 300000);
      break;
    }
    rig_loop(f.r);
    rig_clear(f.r);
    ip_check(f.r);
  }
  rig_free(f.r);
  return 0;
}
