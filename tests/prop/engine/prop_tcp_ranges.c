/*
 * Sets of sequence numbers against their definition, a state for each byte: the scoreboard of SACKed ranges
 * (tcp_sack.c), what is in the network and what is lost (tcp_sent.c), and what came out of order (tcp_ooo.c). Numbers
 * wrap in the midst of each. The answers to all questions are compared for every place.
 */
#include "base/rng.h"
#include "unit/services/engine/tcp/tcp_rig.h"

#include <stdlib.h>
#include <string.h>

#define BYTES 120u
#define BASE  0xffffffd0u /* wraps after 48 */

struct twin {
  uint8_t sacked[BYTES + 1];
  uint8_t out[BYTES + 1];   /* in an entry of the list */
  uint32_t sent[BYTES + 1]; /* when it left last */
  uint8_t again[BYTES + 1]; /* that was a retransmission */
  uint32_t was[BYTES + 1];  /* delivered by then */
  uint32_t una, nxt;
};

static struct tcp_conn *fresh(struct rig *r) {
  rig_init(r);
  rig_passive(r, RIG_SACK);
  struct tcp_conn *c = &r->conn;
  c->snd_una = c->snd_nxt = c->d->snd_max = BASE;
  c->srtt8 = 0;
  c->rcv_nxt = BASE;
  c->d->rcv_adv = BASE + BYTES;
  c->recovery = TCP_RECOVERY; /* bytes may be lost */
  c->recover = BASE;
  return c;
}

static uint32_t count(const uint8_t *set, uint32_t from) {
  uint32_t n = 0;
  for (uint32_t i = from; i < BYTES; i++)
    n += set[i];
  return n;
}

/* More ranges than the board remembers: the highest is forgotten. */
static void forget_highest(uint8_t *set, uint32_t most) {
  uint32_t ranges = 0;
  for (uint32_t i = 0; i < BYTES; i++)
    if (set[i] && (i == 0 || !set[i - 1]) && ++ranges > most) {
      memset(set + i, 0, BYTES - i);
      return;
    }
}

static void check_board(const struct tcp_conn *c, const struct twin *t) {
  assert_int_equal(tcp_sack_check(c), 0);
  assert_int_equal(c->b->board.bytes, count(t->sacked, 0));
  for (uint32_t at = 0; at <= BYTES; at++) {
    assert_int_equal(tcp_sack_above(c, BASE + at), count(t->sacked, at));
    uint32_t l = HS_MAX(at, t->una), r, len = 40, want = 40, skip = at;
    while (l < BYTES && t->sacked[l])
      l++;
    for (r = l; r < BYTES && !t->sacked[r]; r++)
      ;
    struct tcp_sack hole = {0};
    assert_int_equal(tcp_sack_hole(c, BASE + at, &hole), r < BYTES);
    if (r < BYTES) {
      assert_int_equal(hole.l, BASE + l);
      assert_int_equal(hole.r, BASE + r);
    }
    while (skip < BYTES && t->sacked[skip])
      skip++;
    for (uint32_t i = skip; i < BYTES; i++)
      if (t->sacked[i]) {
        want = HS_MIN(want, i - skip);
        break;
      }
    assert_int_equal(tcp_sack_skip(c, BASE + at, &len), BASE + skip);
    assert_int_equal(len, want);
  }
}

static void check_lost(const struct tcp_conn *c, const struct twin *t) {
  uint32_t lost = 0;
  for (uint32_t i = t->una; i < t->nxt; i++)
    lost += !t->sacked[i] && !t->out[i];
  assert_int_equal(tcp_sent_lost(c), lost);
  for (uint32_t at = 0; at <= BYTES; at++) {
    uint32_t l = HS_MAX(at, t->una), r;
    while (l < t->nxt && (t->sacked[l] || t->out[l]))
      l++;
    for (r = l; r < t->nxt && !t->sacked[r] && !t->out[r]; r++)
      ;
    struct tcp_sack got = {0};
    assert_int_equal(tcp_sent_lost_next(c, BASE + at, &got), l < t->nxt);
    if (l < t->nxt) {
      assert_int_equal(got.l, BASE + l);
      assert_int_equal(got.r, BASE + r);
    }
  }
}

/* One SACK block; also what it tells of the delivery rate, when every byte has a time of its own. */
static void sack_one(struct rig *r, struct twin *t, uint32_t a, uint32_t b) {
  struct tcp_conn *c = &r->conn;
  struct tcp_seg_in s = {.segs = 1};
  struct tcp_sack_news news;
  uint32_t new = 0, before = count(t->sacked, 0), delivered = c->b->delivered, lo = HS_MAX(a, t->una);
  s.hdr.ack = BASE + t->una;
  s.hdr.opts.present = TCP_OPT_HAS_SACK;
  s.hdr.opts.n_sack = 1;
  s.hdr.opts.sack[0] = (struct tcp_sack){BASE + a, BASE + b};
  r->env.fack = c->b->board.n > 0 ? c->b->board.r[c->b->board.n - 1].r : c->snd_una;
  tcp_sack_update(&r->env, c, &s, 0, &news, r->now);
  if (b > t->nxt || a >= b) {
    assert_int_equal(news.bytes + news.dsack, 0);
    return;
  }
  if (b <= t->una) { /* RFC 2883 */
    assert_int_equal(news.dsack, b - a);
    return;
  }
  for (uint32_t i = lo; i < b; i++) {
    new += !t->sacked[i];
    t->sacked[i] = 1;
    t->out[i] = 0;
  }
  forget_highest(t->sacked, TCP_BOARD_MAX);
  uint32_t after = count(t->sacked, 0);
  assert_int_equal(news.dsack, 0);
  assert_int_equal(news.bytes, after > before ? after - before : 0);
  assert_int_equal(c->b->delivered - delivered, new);
}

/* The scoreboard, with no list behind it. */
static void test_board(void **state) {
  struct rig *r = *state;
  struct rng rng;
  rng_init(&rng, 1);
  for (int round = 0; round < 40; round++) {
    struct tcp_conn *c = fresh(r);
    struct twin t = {.nxt = BYTES};
    c->snd_nxt = c->d->snd_max = BASE + BYTES;
    for (int i = 0; i < 60; i++) {
      uint32_t a = (uint32_t)rng_below(&rng, BYTES + 1),
               b = a + (uint32_t)rng_below(&rng, 1 + BYTES / (1 + (uint32_t)i % 40));
      sack_one(r, &t, a, b);
      if (rng_below(&rng, 10) == 0) { /* an ACK: up to where something is missing */
        uint32_t to = t.una + (uint32_t)rng_below(&rng, 12);
        while (to < BYTES && t.sacked[to])
          to++;
        t.una = HS_MIN(to, BYTES);
        memset(t.sacked, 0, t.una);
        c->snd_una = BASE + t.una;
        tcp_sack_acked(c);
      }
      if (i % 4 == 0)
        check_board(c, &t);
    }
  }
}

static void send_one(struct rig *r, struct twin *t, uint32_t l, uint32_t to, uint8_t again) {
  struct tcp_conn *c = &r->conn;
  r->now += 1000;
  tcp_sent_add(&r->env, c, BASE + l, BASE + to, again, r->now);
  for (uint32_t i = l; i < to; i++) {
    t->out[i] = 1;
    t->sent[i] = (uint32_t)r->now;
    t->again[i] = again;
    t->was[i] = c->b->delivered;
  }
  t->nxt = HS_MAX(t->nxt, to);
  c->snd_nxt = c->d->snd_max = BASE + t->nxt;
}

/* A range arrives: the sample is of the byte that left when most had been delivered (rate estimation 3.3). */
static void arrive_one(struct rig *r, struct twin *t, uint32_t a, uint32_t b) {
  struct tcp_conn *c = &r->conn;
  uint32_t best = BYTES;
  for (uint32_t i = a; i < b; i++)
    if (t->out[i] &&
        (best == BYTES || t->was[i] > t->was[best] || (t->was[i] == t->was[best] && t->sent[i] > t->sent[best])))
      best = i;
  r->env.rate.valid = 0;
  r->now += 500;
  sack_one(r, t, a, b);
  if (best == BYTES) {
    assert_false(r->env.rate.valid);
    return;
  }
  assert_true(r->env.rate.valid);
  assert_int_equal(r->env.rate.prior_delivered, t->was[best]);
  assert_int_equal(r->env.rate.rtt_us, (uint32_t)r->now - t->sent[best]);
  assert_int_equal(r->env.rate.rexmit, t->again[best]);
  assert_int_equal(c->b->first_at, t->sent[best]);
  assert_int_equal(c->b->delivered_at, (uint32_t)r->now);
}

/* The list of what is out, with room for every entry: sends, losses, SACKs of whole sends, ACKs. */
static void test_sent(void **state) {
  struct rig *r = *state;
  struct rng rng;
  rng_init(&rng, 2);
  for (int round = 0; round < 150; round++) {
    struct tcp_conn *c = fresh(r);
    struct twin t = {0};
    struct tcp_sack lost;
    uint32_t size = 6;
    for (int i = 0; i < 60 && c->n_sent < TCP_SENT_LOG_ENTRIES - 2; i++) {
      uint32_t k = (uint32_t)rng_below(&rng, 10), n = BYTES / size, at = size * (uint32_t)rng_below(&rng, n);
      if (k < 4 && t.nxt < BYTES) {
        send_one(r, &t, t.nxt, t.nxt + size, 0);
      } else if (k < 6 && at < t.nxt && at >= t.una && !t.sacked[at]) {
        arrive_one(r, &t, at, at + size);
      } else if (k == 6 && at < t.nxt) { /* found lost, and more than one send at once */
        uint32_t a = at + (uint32_t)rng_below(&rng, 3), b = HS_MIN(a + 1 + (uint32_t)rng_below(&rng, 9), t.nxt);
        tcp_sent_cut(&r->env, c, BASE + a, BASE + b);
        memset(t.out + a, 0, b - a);
      } else if (k == 7 && tcp_sent_lost_next(c, BASE + at, &lost)) {
        uint32_t a = lost.l - BASE;
        send_one(r, &t, a, lost.r - BASE, 1);
      } else if (k == 8) {
        uint32_t to = HS_MIN(t.una + (uint32_t)rng_below(&rng, 2) * size, t.nxt);
        while (to < t.nxt && t.sacked[to])
          to++;
        memset(t.out, 0, to);
        memset(t.sacked, 0, to);
        t.una = to;
        c->snd_una = BASE + to;
        tcp_sent_trim(c);
        tcp_sack_acked(c);
      }
      c->b->lost = tcp_sent_lost(c);
      assert_int_equal(tcp_sent_check(c), 0);
      check_lost(c, &t);
    }
  }
}

/* Ranges beyond a hole, the one that was touched last first; of `known` this order is remembered. */
struct latest {
  struct tcp_sack r[BYTES];
  uint32_t n, known;
  uint32_t most; /* ranges */
};

static int latest_add(struct latest *t, uint32_t l, uint32_t to) {
  uint32_t kept = 0, touched = 0;
  struct tcp_sack all = {l, to};
  for (int again = 1; again;) {
    again = 0;
    for (uint32_t i = 0; i < t->n; i++)
      if (t->r[i].l <= all.r && t->r[i].r >= all.l && (t->r[i].l < all.l || t->r[i].r > all.r)) {
        all = (struct tcp_sack){HS_MIN(all.l, t->r[i].l), HS_MAX(all.r, t->r[i].r)};
        again = 1;
      }
  }
  for (uint32_t i = 0; i < t->n; i++)
    touched += t->r[i].l <= all.r && t->r[i].r >= all.l;
  if (touched == 0 && t->n == t->most)
    return -ENOSPC;
  for (uint32_t i = 0, known = t->known; i < t->n; i++)
    if (!(t->r[i].l <= all.r && t->r[i].r >= all.l))
      t->r[kept++] = t->r[i];
    else if (i < known)
      t->known--;
  t->known = HS_MIN(t->known + 1, TCP_OOO_LATEST);
  memmove(&t->r[1], &t->r[0], kept * sizeof t->r[0]);
  t->r[0] = all;
  t->n = kept + 1;
  return 0;
}

static void check_ooo(struct tcp_conn *c, const struct latest *t) {
  struct tcp_opts o = {0};
  assert_int_equal(tcp_ooo_check(c), 0);
  assert_int_equal(tcp_ooo_empty(c), t->n == 0);
  tcp_ooo_options(c, &o);
  assert_int_equal(o.n_sack, HS_MIN(t->n, 4u));
  assert_int_equal((o.present & TCP_OPT_HAS_SACK) != 0, t->n > 0);
  for (uint32_t i = 0; i < o.n_sack; i++) {
    uint32_t k = i;
    while (i >= t->known && k < t->n && o.sack[i].l - BASE != t->r[k].l) /* any of those whose turn is forgotten */
      k++;
    assert_true(k < t->n);
    assert_int_equal(o.sack[i].l - BASE, t->r[k].l);
    assert_int_equal(o.sack[i].r - BASE, t->r[k].r);
    for (uint32_t j = 0; j < i; j++)
      assert_int_not_equal(o.sack[i].l, o.sack[j].l);
  }
  for (uint32_t at = 0; at < BYTES; at++) {
    uint32_t reach = at;
    for (int again = 1; again;) {
      again = 0;
      for (uint32_t i = 0; i < t->n; i++)
        if (t->r[i].l <= reach && t->r[i].r > reach) {
          reach = t->r[i].r;
          again = 1;
        }
    }
    assert_int_equal(tcp_ooo_reach(c, BASE + at), BASE + reach);
    int in = 0, in3 = 0;
    for (uint32_t i = 0; i < t->n; i++) {
      in |= t->r[i].l <= at && t->r[i].r >= at + 1;
      in3 |= t->r[i].l <= at && t->r[i].r >= at + 3;
    }
    assert_int_equal(tcp_ooo_covers(c, BASE + at, BASE + at + 1), in);
    assert_int_equal(tcp_ooo_covers(c, BASE + at, BASE + at + 3), in3);
  }
}

static void test_ooo(void **state) {
  struct rig *r = *state;
  struct rng rng;
  rng_init(&rng, 3);
  for (int round = 0; round < 100; round++) {
    struct tcp_conn *c = fresh(r);
    struct latest t = {.most = round % 2 ? 510 : ABI_TCB_OOO};
    if (round % 2 == 0)
      tcp_env_memory(&r->env, NULL, 0); /* no log is to be had */
    uint32_t nxt = 0;
    for (int i = 0; i < 60; i++) {
      uint32_t k = (uint32_t)rng_below(&rng, 20);
      if (k == 0) {
        tcp_ooo_clear(&r->env, c);
        t.n = t.known = 0;
      } else if (k < 4) { /* the hole is filled up to here */
        uint32_t kept = 0;
        nxt = tcp_ooo_reach(c, BASE + HS_MIN(nxt + k, BYTES - 10)) - BASE;
        c->rcv_nxt = BASE + nxt;
        tcp_ooo_trim(&r->env, c);
        for (uint32_t j = 0, known = t.known; j < t.n; j++)
          if (t.r[j].l > nxt)
            t.r[kept++] = t.r[j];
          else if (j < known)
            t.known--;
        t.n = kept;
      } else if (nxt + 2 < BYTES) {
        uint32_t l = nxt + 1 + (uint32_t)rng_below(&rng, BYTES - nxt - 2);
        uint32_t to = HS_MIN(l + 1 + (uint32_t)rng_below(&rng, k), BYTES);
        assert_int_equal(tcp_ooo_add(&r->env, c, BASE + l, BASE + to), latest_add(&t, l, to));
      }
      check_ooo(c, &t);
    }
  }
}

/* A DSACK goes first, once, and takes a place; with timestamps there are three places. */
static void test_options(void **state) {
  struct rig *r = *state;
  struct tcp_conn *c = fresh(r);
  for (uint32_t i = 0; i < 6; i++)
    assert_int_equal(tcp_ooo_add(&r->env, c, BASE + 10 + 10 * i, BASE + 15 + 10 * i), 0);
  for (unsigned ts = 0; ts < 2; ts++) {
    struct tcp_opts o = {0}, o2 = {0};
    c->d->nego = ABI_TCB_SACK | (ts ? ABI_TCB_TS : 0);
    tcp_ooo_dsack(c, BASE + 2, BASE + 5);
    tcp_ooo_options(c, &o);
    assert_int_equal(o.n_sack, 4 - ts);
    assert_int_equal(o.sack[0].l, BASE + 2);
    assert_int_equal(o.sack[0].r, BASE + 5);
    assert_int_equal(o.sack[1].l, BASE + 60);
    tcp_ooo_options(c, &o2);
    assert_int_equal(o2.n_sack, 4 - ts);
    assert_int_equal(o2.sack[0].l, BASE + 60);
    assert_int_equal(o2.sack[2].r, BASE + 45);
  }
  c->d->nego = 0;
  struct tcp_opts none = {0};
  tcp_ooo_dsack(c, BASE + 2, BASE + 5);
  tcp_ooo_options(c, &none);
  assert_int_equal(none.n_sack, 0);
  assert_int_equal(c->b->dsack.l, c->b->dsack.r);
}

int main(void) {
  const struct CMUnitTest tests[] = {RIG_TEST(test_board), RIG_TEST(test_sent), RIG_TEST(test_ooo),
                                     RIG_TEST(test_options)};
  return cmocka_run_group_tests_name("tcp_ranges", tests, NULL, NULL);
}
