/*
 * Frame links under deaths, resets and restarts of either side at any fault point, both sides in one process. The twin
 * keeps, apart from the rings, who holds which slot and what was pushed under which pair of epochs. It must hold:
 *   - what a side takes under a pair of epochs is a prefix, in order, of what the other pushed under the same pair;
 *   - nobody writes a slot that a living side holds, and what lies in a held slot does not change;
 *   - a frame that has not come home is delivered again to a new engine; in the end every frame is, and all come home;
 *   - a chain is never split.
 */
#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/rng.h"
#include "shm/frame.h"
#include "test.h"

#include <stdlib.h>

#define N_RX    64u
#define N_TX    64u
#define LINKS   2u
#define MY_TX   (N_TX / LINKS)
#define LOG_MAX 200000u

enum slot_state { HOME, LENT, REST /* not lent again, but only home when the link is up */ };

/** What was pushed in one direction under one tag, and how much of it was taken. */
struct log {
  uint32_t tag, n, taken;
  uint64_t *stamp;
  uint8_t *chain;
};

/** One service as far as slots go. */
struct side {
  struct frame_link l;
  int may_use;              /* own slots: false until a fresh side has come up */
  uint8_t own[N_RX];        /* enum slot_state of own slots */
  uint64_t own_seq[N_RX];   /* order in which they were lent first */
  uint64_t own_frame[N_RX]; /* own_seq of the first piece of the frame */
  uint32_t own_pieces[N_RX];
  uint8_t held[N_TX]; /* slots of the other side that I hold */
  uint64_t held_stamp[N_TX];
  uint32_t n_own, n_foreign;
  struct log log; /* of what I push */
};

struct world {
  struct rng r;
  struct seg seg;
  struct frame_seg fs;
  struct side s[2];          /* by enum frame_side */
  uint64_t content[2][N_RX]; /* of the slots whose home is side i */
  uint8_t cont[2][N_RX];     /* its piece goes on in the next */
  uint64_t next_stamp;
  uint64_t taken[2], deaths, resets, came_up;
};

static jmp_buf died;

static void die(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  longjmp(died, 1);
}

static void log_start(struct log *g, uint32_t tag) {
  g->tag = tag;
  g->n = g->taken = 0;
}

static void push_piece(struct side *s, uint32_t slot, uint64_t stamp, int chain) {
  struct abi_frame_desc d = {.off = stamp, .slot = slot, .len = 60, .flags = chain ? ABI_FR_CHAIN : 0};
  if (s->log.n == LOG_MAX)
    return;
  s->log.stamp[s->log.n] = stamp;
  s->log.chain[s->log.n++] = (uint8_t)chain;
  frame_push(&s->l, &d, 1);
}

/** A frame of which a piece came home was read by the engine: the others are not lent again. */
static void take_back_rests(struct side *s) {
  for (uint32_t i = 0; i < s->n_own; i++) {
    uint32_t lent = 0;
    for (uint32_t k = 0; k < s->n_own; k++)
      lent += s->own[k] == LENT && s->own_frame[k] == s->own_frame[i];
    if (s->own[i] == LENT && lent < s->own_pieces[i])
      for (uint32_t k = 0; k < s->n_own; k++)
        if (s->own[k] == LENT && s->own_frame[k] == s->own_frame[i])
          s->own[k] = REST;
  }
}

/** nicio lends again, in order, what has not come home. */
static void lend_again(struct world *w, struct side *s) {
  uint64_t last = 0;
  take_back_rests(s);
  for (;;) {
    uint32_t best = N_RX;
    for (uint32_t i = 0; i < s->n_own; i++)
      if (s->own[i] == LENT && s->own_seq[i] > last && (best == N_RX || s->own_seq[i] < s->own_seq[best]))
        best = i;
    if (best == N_RX)
      return;
    last = s->own_seq[best];
    assert_true(frame_room(&s->l) >= 1);
    push_piece(s, best, w->content[s->l.side][best], w->cont[s->l.side][best]);
  }
}

static void op_poll(struct world *w, struct side *s) {
  switch (frame_link_poll(&s->l)) {
  case FRAME_SAME:
    break;
  case FRAME_PEER_NEW:
    memset(s->held, 0, sizeof s->held);
    log_start(&s->log, s->l.tag);
    if (s->l.side == FRAME_ENGINE) {
      memset(s->own, HOME, sizeof s->own);
      frame_link_ack(&s->l);
    } else if (rng_below(&w->r, 2) == 0) { /* both orders are allowed */
      lend_again(w, s);
      frame_link_ack(&s->l);
    } else {
      frame_link_ack(&s->l);
      lend_again(w, s);
    }
    break;
  case FRAME_CAME_UP:
    w->came_up++;
    s->may_use = 1;
    for (uint32_t i = 0; i < s->n_own; i++)
      if (s->own[i] == REST)
        s->own[i] = HOME;
    break;
  }
}

/** Puts a frame of 1 to 3 pieces into own slots and pushes it. */
static void op_produce(struct world *w, struct side *s) {
  uint32_t slots[3], n = 0;
  uint32_t want = (uint32_t)rng_range(&w->r, 1, 3);
  const struct side *peer = &w->s[!s->l.side];
  if (!s->may_use || frame_room(&s->l) < 3 || s->l.tag != s->log.tag)
    return;
  if (s->l.side == FRAME_ENGINE && !s->l.up)
    return;
  for (uint32_t i = 0; i < s->n_own && n < want; i++)
    if (s->own[i] == HOME)
      slots[n++] = i;
  for (uint32_t i = 0; i < n; i++) {
    assert_false(peer->held[slots[i]]); /* nobody reads what is overwritten here */
    s->own[slots[i]] = LENT;
    s->own_seq[slots[i]] = ++w->next_stamp;
    s->own_frame[slots[i]] = w->next_stamp - i;
    s->own_pieces[slots[i]] = n;
    w->content[s->l.side][slots[i]] = w->next_stamp;
    w->cont[s->l.side][slots[i]] = i + 1 < n;
    push_piece(s, slots[i], w->next_stamp, i + 1 < n);
  }
}

static void op_take(struct world *w, struct side *s) {
  struct abi_frame_desc d[16];
  struct side *peer = &w->s[!s->l.side];
  int n = frame_take(&s->l, d, (uint32_t)rng_range(&w->r, 3, 16));
  assert_in_range(n, 0, 16);
  for (int i = 0; i < n; i++) {
    struct log *g = &peer->log;
    assert_int_equal(d[i].tag, g->tag);
    assert_int_equal(d[i].tag, s->l.tag);
    assert_true(g->taken < g->n);
    assert_int_equal(d[i].off, g->stamp[g->taken]);
    assert_int_equal((d[i].flags & ABI_FR_CHAIN) != 0, g->chain[g->taken]);
    g->taken++;
    assert_int_equal(w->content[!s->l.side][d[i].slot], d[i].off);
    assert_false(s->held[d[i].slot]); /* never owned twice */
    s->held[d[i].slot] = 1;
    s->held_stamp[d[i].slot] = d[i].off;
    w->taken[s->l.side]++;
  }
  if (n > 0)
    assert_int_equal(d[n - 1].flags & ABI_FR_CHAIN, 0);
}

static void op_return(struct world *w, struct side *s) {
  uint32_t first = (uint32_t)rng_below(&w->r, s->n_foreign);
  uint32_t max = (uint32_t)rng_range(&w->r, 1, 20);
  for (uint32_t i = 0; i < s->n_foreign && max != 0; i++) {
    uint32_t slot = (first + i) % s->n_foreign;
    if (!s->held[slot])
      continue;
    assert_int_equal(w->content[!s->l.side][slot], s->held_stamp[slot]);
    s->held[slot] = 0;
    frame_done_push(&s->l, slot);
    max--;
  }
}

static void op_home(struct world *w, struct side *s) {
  uint32_t slots[8];
  int n = frame_done_take(&s->l, slots, (uint32_t)rng_range(&w->r, 1, 8));
  assert_in_range(n, 0, 8);
  for (int i = 0; i < n; i++) {
    assert_in_range(slots[i], 0, s->n_own - 1);
    assert_int_equal(s->own[slots[i]], LENT);
    assert_false(w->s[!s->l.side].held[slots[i]]);
    s->own[slots[i]] = HOME;
  }
}

static void side_forget(struct side *s) {
  memset(s->held, 0, sizeof s->held);
  if (s->l.side == FRAME_ENGINE)
    memset(s->own, HOME, sizeof s->own); /* all its own again, once the link is up */
  s->log.tag = 0;
}

static void side_start(struct world *w, struct side *s) {
  enum frame_side side = s == &w->s[FRAME_NICIO] ? FRAME_NICIO : FRAME_ENGINE;
  s->l.side = side;
  side_forget(s);
  memset(s->own, HOME, sizeof s->own);
  s->may_use = 0;
  assert_int_equal(frame_link_open(&s->l, &w->fs, 1, side), 0);
}

static void op_reset(struct world *w, struct side *s) {
  side_forget(s);
  frame_link_reset(&s->l);
  if (s->l.side == FRAME_ENGINE)
    s->may_use = 0;
  w->resets++;
}

static void op_any(struct world *w, struct side *s) {
  switch (rng_below(&w->r, 12)) {
  case 0 ... 2:
    op_poll(w, s);
    break;
  case 3 ... 4:
    op_produce(w, s);
    break;
  case 5 ... 6:
    op_take(w, s);
    break;
  case 7:
    op_return(w, s);
    break;
  case 8 ... 9:
    op_home(w, s);
    break;
  default:
    (void)frame_flush(&s->l);
    break;
  }
}

static void op_crash(struct world *w, struct side *s) {
  fault_set_hook(die, NULL);
  assert_int_equal(fault_arm("*", (uint32_t)rng_range(&w->r, 1, 6), FAULT_HOOK), 0);
  if (setjmp(died) == 0) {
    if (rng_below(&w->r, 3) == 0)
      side_start(w, s); /* dies while it starts */
    else
      for (int i = 0; i < 12; i++)
        op_any(w, s);
  }
  fault_disarm();
  w->deaths++;
  side_start(w, s);
}

static void step(struct world *w, uint32_t calm) {
  struct side *s = &w->s[rng_below(&w->r, 2)];
  uint64_t what = rng_below(&w->r, calm);
  if (what == 0)
    op_crash(w, s);
  else if (what == 1)
    op_reset(w, s);
  else
    op_any(w, s);
}

/** Nobody dies any more: everything has to arrive and come home. */
static void settle(struct world *w) {
  for (int i = 0; i < 400; i++)
    for (int k = 0; k < 2; k++) {
      op_poll(w, &w->s[k]);
      op_take(w, &w->s[k]);
      op_return(w, &w->s[k]);
      op_home(w, &w->s[k]);
      (void)frame_flush(&w->s[k].l);
    }
  for (int k = 0; k < 2; k++) {
    assert_true(w->s[k].l.up);
    assert_int_equal(w->s[k].log.taken, w->s[k].log.n);
    for (uint32_t i = 0; i < w->s[k].n_own; i++)
      assert_int_equal(w->s[k].own[i], HOME);
    assert_int_equal(frame_room(&w->s[k].l), w->s[k].l.out_desc_cap);
    assert_int_equal(frame_arm(&w->s[k].l), 1);
    frame_disarm(&w->s[k].l);
  }
}

static void world_init(struct world *w, uint64_t seed) {
  struct abi_packet_geom g;
  const char *why = NULL;
  memset(w, 0, sizeof *w);
  rng_init(&w->r, seed);
  w->seg.size = frame_geom_make(&g, LINKS, N_RX, N_TX);
  w->seg.base = calloc(1, w->seg.size);
  w->seg.kind = ABI_SEG_PACKET;
  memcpy(w->seg.geom, &g, sizeof g);
  assert_int_equal(frame_seg_open(&w->fs, &w->seg, &why), 0);
  for (int k = 0; k < 2; k++) {
    struct side *s = &w->s[k];
    s->n_own = k == FRAME_NICIO ? N_RX : MY_TX;
    s->n_foreign = k == FRAME_NICIO ? MY_TX : N_RX;
    s->log.stamp = calloc(LOG_MAX, sizeof *s->log.stamp);
    s->log.chain = calloc(LOG_MAX, 1);
  }
  w->fs.pkt->link[1].nicio.epoch = 0xfffd; /* the 16 bits of the tag come round */
  side_start(w, &w->s[rng_below(&w->r, 2)]);
  for (int k = 0; k < 2; k++)
    if (w->s[k].l.mine == NULL)
      side_start(w, &w->s[k]);
}

static void world_fini(struct world *w) {
  for (int k = 0; k < 2; k++) {
    free(w->s[k].log.stamp);
    free(w->s[k].log.chain);
  }
  free(w->seg.base);
}

static void frames_survive(void **state) {
  (void)state;
  static struct world w;
  uint64_t deaths = 0, taken[2] = {0, 0}, came_up = 0, resets = 0;
  for (uint64_t seed = 1; seed <= 100; seed++) {
    world_init(&w, seed);
    for (int round = 0; round < 10; round++) {
      uint32_t calm = 12u << rng_below(&w.r, 8);
      for (int i = 0; i < 1500; i++)
        step(&w, calm);
      settle(&w);
    }
    deaths += w.deaths;
    resets += w.resets;
    came_up += w.came_up;
    taken[0] += w.taken[0];
    taken[1] += w.taken[1];
    world_fini(&w);
  }
  print_message("%llu deaths, %llu resets, up %llu times, %llu tx and %llu rx frames\n", (unsigned long long)deaths,
                (unsigned long long)resets, (unsigned long long)came_up, (unsigned long long)taken[0],
                (unsigned long long)taken[1]);
  assert_true(deaths > 5000 && came_up > 5000 && taken[0] > 50000 && taken[1] > 50000);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(frames_survive)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
