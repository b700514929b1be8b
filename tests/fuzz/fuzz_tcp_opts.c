/*
 * Fuzz target over TCP options: the input is a program that writes an option list (known kinds with good and bad
 * lengths, doubled, nested in each other's bodies, cut off by the header's end), a header around it and a segment cut
 * short or not. The oracle is a naive twin: it lists the options as (kind, place, length) first and looks at each
 * afterwards. What was understood and can be built must be built to what is understood the same way.
 * RFC 9293 3.1, 3.2; RFC 7323, 2018, 7413. Corpus in corpus/tcp_opts.
 */
#include "base/bits.h"
#include "fuzz.h"
#include "wire/tcp.h"

struct twin_opt {
  unsigned kind, at, len;
};

struct twin {
  struct twin_opt o[TCP_OPTS_MAX];
  unsigned n;
  int broken; /* the list broke off */
};

/* The options of a header of hdr bytes, as far as one can tell where they are. */
static void twin_list(struct twin *t, const uint8_t *p, unsigned hdr) {
  unsigned at = 20;
  memset(t, 0, sizeof *t);
  while (at < hdr) {
    if (p[at] == 0)
      return;
    if (p[at] == 1) {
      at += 1;
      continue;
    }
    if (at + 1 >= hdr || p[at + 1] < 2 || p[at + 1] > hdr - at) {
      t->broken = 1;
      return;
    }
    t->o[t->n++] = (struct twin_opt){p[at], at, p[at + 1]};
    at += p[at + 1];
  }
}

static uint32_t twin_u32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int twin_len_ok(const struct twin_opt *o) {
  switch (o->kind) {
  case 2:
    return o->len == 4;
  case 3:
    return o->len == 3;
  case 4:
    return o->len == 2;
  case 5:
    return o->len == 10 || o->len == 18 || o->len == 26 || o->len == 34;
  case 8:
    return o->len == 10;
  case 34:
    return o->len == 2 || (o->len >= 6 && o->len <= 18 && o->len % 2 == 0);
  }
  return 0;
}

/* The last good option of a kind, or NULL. */
static const struct twin_opt *twin_last(const struct twin *t, unsigned kind) {
  const struct twin_opt *found = NULL;
  for (unsigned i = 0; i < t->n; i++)
    if (t->o[i].kind == kind && twin_len_ok(&t->o[i]))
      found = &t->o[i];
  return found;
}

static uint32_t twin_present(const struct twin *t) {
  static const struct {
    unsigned kind;
    uint32_t has;
  } known[] = {{2, TCP_OPT_HAS_MSS},  {3, TCP_OPT_HAS_WSCALE}, {4, TCP_OPT_HAS_SACK_OK},
               {5, TCP_OPT_HAS_SACK}, {8, TCP_OPT_HAS_TS},     {34, TCP_OPT_HAS_TFO}};
  uint32_t has = t->broken ? TCP_OPT_HAS_BAD : 0;
  for (unsigned i = 0; i < t->n; i++) {
    uint32_t bit = TCP_OPT_HAS_UNKNOWN;
    for (unsigned k = 0; k < 6; k++)
      if (t->o[i].kind == known[k].kind)
        bit = twin_len_ok(&t->o[i]) ? known[k].has : TCP_OPT_HAS_BAD;
    has |= bit;
  }
  return has;
}

static void compare(const uint8_t *p, const struct tcp_opts *o) {
  struct twin t;
  const struct twin_opt *x;
  twin_list(&t, p, (p[12] >> 4) * 4u);
  REQUIRE(o->present == twin_present(&t));
  if ((x = twin_last(&t, 2)) != NULL)
    REQUIRE(o->mss == (p[x->at + 2] << 8 | p[x->at + 3]));
  if ((x = twin_last(&t, 3)) != NULL)
    REQUIRE(o->wscale == p[x->at + 2]);
  x = twin_last(&t, 5);
  REQUIRE(o->n_sack == (x != NULL ? (x->len - 2) / 8 : 0));
  for (unsigned i = 0; i < o->n_sack; i++)
    REQUIRE(o->sack[i].l == twin_u32(p + x->at + 2 + 8 * i) && o->sack[i].r == twin_u32(p + x->at + 6 + 8 * i));
  if ((x = twin_last(&t, 8)) != NULL)
    REQUIRE(o->ts_val == twin_u32(p + x->at + 2) && o->ts_ecr == twin_u32(p + x->at + 6));
  x = twin_last(&t, 34);
  REQUIRE(o->tfo_len == (x != NULL ? x->len - 2 : 0));
  REQUIRE(o->tfo_len == 0 || memcmp(o->tfo, p + x->at + 2, o->tfo_len) == 0);
}

/* What can be built says the same; SACK blocks may be left off at the end. */
static void rebuild(const struct tcp_hdr *h) {
  struct tcp_hdr in = *h, g;
  uint8_t out[TCP_HLEN_MAX];
  memset(&g, 0, sizeof g);
  in.opts.present &= ~(uint32_t)(TCP_OPT_HAS_UNKNOWN | TCP_OPT_HAS_BAD);
  int size = tcp_hdr_size(&in.opts), n = tcp_hdr_build(out, sizeof out, &in);
  REQUIRE(size == n);
  if (n < 0) {
    REQUIRE(n == WIRE_LIMIT || ((in.opts.present & TCP_OPT_HAS_WSCALE) && in.opts.wscale > TCP_WSCALE_MAX));
    return;
  }
  REQUIRE(n % 4 == 0 && tcp_hdr_build(out, (size_t)n - 1, &in) == WIRE_ROOM);
  REQUIRE(tcp_hdr_build(out, sizeof out, &in) == n && tcp_hdr_parse(out, (size_t)n, &g) == n);
  struct twin t;
  twin_list(&t, out, (unsigned)n);
  REQUIRE(!t.broken && twin_present(&t) == g.opts.present);
  REQUIRE((in.opts.present & ~(uint32_t)TCP_OPT_HAS_SACK) == (g.opts.present & ~(uint32_t)TCP_OPT_HAS_SACK));
  REQUIRE(g.opts.n_sack <= in.opts.n_sack);
  REQUIRE(g.opts.n_sack == in.opts.n_sack || n + 8 > (int)TCP_HLEN_MAX - (g.opts.n_sack == 0 ? 4 : 0));
  compare(out, &g.opts);
  REQUIRE(memcmp(g.opts.sack, in.opts.sack, g.opts.n_sack * sizeof g.opts.sack[0]) == 0);
  REQUIRE(!(in.opts.present & TCP_OPT_HAS_MSS) || g.opts.mss == in.opts.mss);
  REQUIRE(!(in.opts.present & TCP_OPT_HAS_WSCALE) || g.opts.wscale == in.opts.wscale);
  REQUIRE(!(in.opts.present & TCP_OPT_HAS_TS) || (g.opts.ts_val == in.opts.ts_val && g.opts.ts_ecr == in.opts.ts_ecr));
  REQUIRE(g.opts.tfo_len == in.opts.tfo_len && memcmp(g.opts.tfo, in.opts.tfo, g.opts.tfo_len) == 0);
  REQUIRE(g.seq == in.seq && g.ack == in.ack && g.flags == in.flags && g.wnd == in.wnd && g.urg == in.urg);
}

/* One option as the program says. Returns the bytes written, at most 255. */
static unsigned put(struct fuzz_input *in, uint8_t *p, unsigned room) {
  static const struct {
    uint8_t kind, len;
  } kinds[] = {{1, 1}, {0, 1}, {2, 4}, {3, 3}, {4, 2}, {5, 10}, {8, 10}, {34, 10}, {253, 4}, {30, 12}, {1, 1}};
  uint32_t op = fuzz_take(in, 1), k = (op & 15) % (uint32_t)(sizeof kinds / sizeof kinds[0]);
  unsigned len = kinds[k].len;
  if (op & 0x10) { /* another length that is good for some */
    static const uint8_t more[] = {2, 6, 10, 12, 18, 26, 34, 8};
    len = more[op >> 5];
  } else if (op & 0x20) {
    len = fuzz_take(in, 1);
  }
  unsigned body = len > 2 ? len - 2 : 0, n = 0;
  uint8_t b[2] = {kinds[k].kind, (uint8_t)len};
  for (; n < 2 && n < room && (n == 0 || kinds[k].kind > 1); n++)
    p[n] = b[n];
  if (kinds[k].kind <= 1)
    return n;
  for (unsigned i = 0; i < body && n < room; i++, n++)
    p[n] = op & 0x40 ? (uint8_t)fuzz_take(in, 1) : (uint8_t)(op + i);
  return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct fuzz_input in = {data, size};
  struct tcp_hdr h;
  uint8_t seg[TCP_HLEN_MAX] = {0};
  uint32_t how = fuzz_take(&in, 1);
  fuzz_take_bytes(&in, seg, how & 1 ? TCP_HLEN : 0);
  seg[13] = how & 2 ? 0x02 : 0x10;
  unsigned len = TCP_HLEN;
  while (in.left > 0 && len < sizeof seg)
    len += put(&in, seg + len, (unsigned)sizeof seg - len);
  unsigned hdr = how & 4 ? (how >> 4) * 4 : (len + 3) / 4 * 4; /* as long as it should be, or not */
  seg[12] = (uint8_t)(hdr / 4 << 4 | (seg[12] & 0xf));
  unsigned have = how & 8 ? HS_MIN(hdr + fuzz_take(&in, 1) % 8, (unsigned)sizeof seg) : sizeof seg;
  uint8_t *exact = malloc(have != 0 ? have : 1); /* the address sanitizer sees one byte too many */
  REQUIRE(exact != NULL);
  memcpy(exact, seg, have);
  memset(&h, 0, sizeof h);
  int n = tcp_hdr_parse(exact, have, &h);
  if (n < 0) {
    REQUIRE(n == WIRE_SHORT ? have < TCP_HLEN || hdr > have : n == WIRE_LENGTH && hdr < TCP_HLEN);
  } else {
    REQUIRE((unsigned)n == hdr && h.hdr_len == hdr && hdr >= TCP_HLEN && hdr <= have);
    compare(exact, &h.opts);
    rebuild(&h);
  }
  free(exact);
  return 0;
}
