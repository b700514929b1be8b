/*
 * Reassembly against its definition: datagrams cut at random places, shuffled together, doubled; each comes up once,
 * with its bytes. What was damaged never comes up at all.
 */
#include "base/bits.h"
#include "base/rng.h"
#include "ip/ip_stack.h"
#include "ip_rig.h"
#include "test.h"

#define DATAGRAMS 6u
#define CUTS_MAX  24u
#define ROUNDS    1500u

struct piece {
  uint32_t from, to;
  uint8_t datagram, more, lie;
};

struct round {
  struct piece piece[DATAGRAMS * (CUTS_MAX + 1) * 2 + 1];
  uint32_t n;
  uint8_t bytes[DATAGRAMS][8192];
  uint32_t len[DATAGRAMS];
  uint8_t damaged[DATAGRAMS], came[DATAGRAMS];
};

static void cut(struct rng *rng, struct round *x, uint32_t d) {
  uint32_t len = 16 + (uint32_t)rng_below(rng, 8100), at = 0;
  x->len[d] = len;
  for (uint32_t i = 0; i < len; i++)
    x->bytes[d][i] = (uint8_t)rng_u32(rng);
  for (uint32_t n = 0; at < len; n++) {
    uint32_t size = n == CUTS_MAX ? len : 8 * (1 + (uint32_t)rng_below(rng, 1 + len / 32));
    uint32_t to = HS_MIN(at + size, len);
    if (at == 0 && to == len) /* one piece is no fragment */
      to = 8;
    for (unsigned twice = 0; twice < 1 + (rng_below(rng, 5) == 0); twice++)
      x->piece[x->n++] = (struct piece){at, to, (uint8_t)d, to < len, 0};
    at = to;
  }
}

/* A piece with a wrong byte comes before all others, and then one that contradicts it: the liar might else be the only
 * one to say anything of these bytes when all the others are there. */
static void damage(struct rng *rng, struct round *x, uint32_t d) {
  uint32_t from = 8 * (uint32_t)rng_below(rng, x->len[d] / 8), to = HS_MIN(from + 8, x->len[d]);
  memmove(&x->piece[1], &x->piece[0], x->n++ * sizeof x->piece[0]);
  x->piece[0] = (struct piece){from, to, (uint8_t)d, to < x->len[d], 1};
  x->damaged[d] = 1;
  for (uint32_t i = 1; i < x->n; i++) {
    struct piece t = x->piece[i];
    if (t.datagram != d || t.from > from || t.to <= from)
      continue;
    x->piece[i] = x->piece[1];
    x->piece[1] = t;
  }
}

static void shuffle(struct rng *rng, struct round *x) {
  for (uint32_t i = x->n; i > 1; i--) {
    uint32_t k = (uint32_t)rng_below(rng, i);
    struct piece t = x->piece[i - 1];
    x->piece[i - 1] = x->piece[k];
    x->piece[k] = t;
  }
}

static void feed(struct ip_rig *r, struct round *x, const struct piece *p, uint32_t id, int six) {
  static uint8_t f[9000], bytes[8192];
  uint32_t up = r->n_up;
  memcpy(bytes, x->bytes[p->datagram] + p->from, p->to - p->from);
  if (p->lie)
    bytes[0] ^= 0x80;
  uint32_t n = rig_fragment(f, six ? "2001:db8::2" : "10.0.0.2", six ? "2001:db8::1" : "10.0.0.1", IP_PROTO_UDP,
                            id + p->datagram, p->from, p->more, bytes, p->to - p->from);
  rig_in_pieces(r, f, n, 300 + id % 900);
  if (r->n_up == up)
    return;
  assert_int_equal(r->n_up, up + 1);
  assert_int_equal(x->came[p->datagram], 0);
  assert_int_equal(x->damaged[p->datagram], 0);
  x->came[p->datagram] = 1;
  assert_int_equal(r->up[0].l4_len, x->len[p->datagram]);
  assert_memory_equal(r->last, x->bytes[p->datagram], x->len[p->datagram]);
  r->n_up = 0;
}

static void whole_once(void **state) {
  static struct round x;
  struct rng rng;
  (void)state;
  rng_init(&rng, 20261121);
  struct ip_rig *r = rig_new();
  for (uint32_t round = 0; round < ROUNDS; round++) {
    int six = (int)(round & 1);
    memset(&x, 0, sizeof x);
    for (uint32_t d = 0; d < DATAGRAMS; d++)
      cut(&rng, &x, d);
    shuffle(&rng, &x);
    if (round % 3 == 0)
      damage(&rng, &x, (uint32_t)rng_below(&rng, DATAGRAMS));
    for (uint32_t i = 0; i < x.n; i++) {
      if (x.came[x.piece[i].datagram])
        continue; /* a late double would begin a new one */
      feed(r, &x, &x.piece[i], round * DATAGRAMS, six);
    }
    for (uint32_t d = 0; d < DATAGRAMS; d++)
      assert_int_equal(x.came[d], !x.damaged[d]);
    rig_advance(r, 61000000);
    assert_int_equal(r->s->reasm.n_open, 0);
    r->n_sent = 0;
  }
  rig_free(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(whole_once)};
  return cmocka_run_group_tests_name("prop_reasm", tests, NULL, NULL);
}
