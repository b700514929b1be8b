/*
 * A frame link between two threads, nicio and engine, which throw their rings away now and then, sleep and ring. What
 * lies in a slot is plain memory: tsan finds any moment at which both think a slot is theirs. RX frames must arrive in
 * order, each at least once, whatever is thrown away. Bounded by frames.
 */
#include "base/bits.h"
#include "base/rng.h"
#include "shm/bell.h"
#include "shm/frame.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define N_RX   32u
#define N_TX   16u
#define FRAMES 100000u
#define WAIT   20000 /* ms; reached only if a wake-up is lost */

struct world {
  struct seg seg;
  struct frame_seg fs;
  uint64_t rx[N_RX], tx[N_TX]; /* what lies in the slots; not atomic on purpose */
  int bell[2];
  uint32_t stop; /* atomic */
  uint32_t resets, sleeps;
};

struct side {
  struct world *w;
  struct frame_link l;
  struct rng r;
  uint32_t n_own;
  uint8_t lent[N_RX];
  uint64_t seq[N_RX]; /* of lent RX slots */
  uint64_t next;      /* nicio: frames made; engine: next expected */
  uint64_t tx_done;
  uint32_t resets, sleeps, bad;
};

static void ring(struct side *s) {
  (void)bell_ring_service(s->w->bell[!s->l.side]);
}

static void flush(struct side *s) {
  if (frame_flush(&s->l))
    ring(s);
}

static void reset(struct side *s) {
  s->resets++;
  frame_link_reset(&s->l);
  ring(s);
}

/** Nothing to do: sleep until the bell. */
static void idle(struct side *s, int want_slots) {
  struct pollfd p = {.fd = s->w->bell[s->l.side], .events = POLLIN};
  uint64_t n;
  if ((want_slots ? frame_arm_slots(&s->l) : frame_arm(&s->l)) && !__atomic_load_n(&s->w->stop, __ATOMIC_ACQUIRE)) {
    s->sleeps++;
    if (poll(&p, 1, WAIT) == 0) {
      s->bad++;
      __atomic_store_n(&s->w->stop, 1u, __ATOMIC_RELEASE);
    }
    (void)!read(p.fd, &n, sizeof n);
  }
  frame_disarm(&s->l);
}

static void push(struct side *s, uint32_t slot, uint64_t stamp) {
  struct abi_frame_desc d = {.off = stamp, .slot = slot, .len = 60};
  frame_push(&s->l, &d, 1);
}

static void nicio_poll(struct side *s) {
  if (frame_link_poll(&s->l) != FRAME_PEER_NEW)
    return;
  for (uint64_t last = 0;;) { /* lend again, in order */
    uint32_t best = N_RX;
    for (uint32_t i = 0; i < N_RX; i++)
      if (s->lent[i] && s->seq[i] > last && (best == N_RX || s->seq[i] < s->seq[best]))
        best = i;
    if (best == N_RX)
      break;
    last = s->seq[best];
    push(s, best, last);
  }
  flush(s);
  frame_link_ack(&s->l);
  ring(s);
}

static int nicio_turn(struct side *s) {
  struct abi_frame_desc d[8];
  uint32_t slots[N_RX];
  int did = 0;
  nicio_poll(s);
  int n = frame_done_take(&s->l, slots, N_RX);
  for (int i = 0; i < n; i++, did++) {
    s->bad += !s->lent[slots[i]];
    s->lent[slots[i]] = 0;
  }
  int m = frame_take(&s->l, d, 8);
  for (int i = 0; i < m; i++, did++) {
    s->bad += s->w->tx[d[i].slot] != d[i].off;
    frame_done_push(&s->l, d[i].slot);
  }
  s->bad += n < 0 || m < 0;
  for (uint32_t i = 0, k = 0; i < N_RX && k < 6 && s->l.up && s->next < FRAMES; i++) {
    if (s->lent[i] || frame_room(&s->l) == 0)
      continue;
    s->w->rx[i] = ++s->next;
    s->lent[i] = 1;
    s->seq[i] = s->next;
    push(s, i, s->next);
    k++;
    did++;
  }
  flush(s);
  return did;
}

static void *nicio_loop(void *arg) {
  struct side *s = arg;
  for (;;) {
    uint32_t lent = 0;
    int did = nicio_turn(s);
    for (uint32_t i = 0; i < N_RX; i++)
      lent += s->lent[i];
    if (__atomic_load_n(&s->w->stop, __ATOMIC_ACQUIRE) || (s->next == FRAMES && lent == 0))
      break;
    if (rng_below(&s->r, 400) == 0)
      reset(s);
    else if (did == 0)
      idle(s, 1);
  }
  __atomic_store_n(&s->w->stop, 1u, __ATOMIC_RELEASE);
  ring(s);
  return NULL;
}

static int engine_turn(struct side *s) {
  struct abi_frame_desc d[8];
  uint32_t slots[N_TX];
  int did = 0;
  if (frame_link_poll(&s->l) == FRAME_PEER_NEW) {
    memset(s->lent, 0, sizeof s->lent);
    frame_link_ack(&s->l);
    ring(s);
  }
  int n = frame_done_take(&s->l, slots, N_TX);
  for (int i = 0; i < n; i++, did++) {
    s->bad += !s->lent[slots[i]];
    s->lent[slots[i]] = 0;
    s->tx_done++;
  }
  int m = frame_take(&s->l, d, 8);
  for (int i = 0; i < m; i++, did++) {
    s->bad += s->w->rx[d[i].slot] != d[i].off;
    s->bad += d[i].off > s->next + 1; /* a frame was left out */
    s->next = HS_MAX(s->next, d[i].off);
    frame_done_push(&s->l, d[i].slot);
  }
  s->bad += n < 0 || m < 0;
  for (uint32_t i = 0, k = 0; i < N_TX && k < 3 && frame_room(&s->l) != 0; i++) {
    if (s->lent[i] || rng_below(&s->r, 2) == 0)
      continue;
    s->w->tx[i] = rng_u64(&s->r);
    s->lent[i] = 1;
    push(s, i, s->w->tx[i]);
    k++;
    did++;
  }
  flush(s);
  return did;
}

static void *engine_loop(void *arg) {
  struct side *s = arg;
  while (!__atomic_load_n(&s->w->stop, __ATOMIC_ACQUIRE)) {
    int did = engine_turn(s);
    if (rng_below(&s->r, 400) == 0) {
      memset(s->lent, 0, sizeof s->lent);
      reset(s);
    } else if (did == 0) {
      idle(s, 1);
    }
  }
  return NULL;
}

static void frames_cross_threads(void **state) {
  (void)state;
  static struct world w;
  static struct side s[2];
  struct abi_packet_geom g;
  pthread_t t[2];
  w.seg.size = frame_geom_make(&g, 1, N_RX, N_TX);
  w.seg.base = calloc(1, w.seg.size);
  w.seg.kind = ABI_SEG_PACKET;
  memcpy(w.seg.geom, &g, sizeof g);
  assert_int_equal(frame_seg_open(&w.fs, &w.seg, NULL), 0);
  for (int i = 0; i < 2; i++) {
    s[i].w = &w;
    w.bell[i] = bell_doorbell();
    rng_init(&s[i].r, 9 + (uint64_t)i);
    assert_int_equal(frame_link_open(&s[i].l, &w.fs, 0, i == 0 ? FRAME_NICIO : FRAME_ENGINE), 0);
  }
  assert_int_equal(pthread_create(&t[0], NULL, nicio_loop, &s[0]), 0);
  assert_int_equal(pthread_create(&t[1], NULL, engine_loop, &s[1]), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_join(t[i], NULL), 0);
  print_message("%u + %u resets, %u + %u sleeps, %llu tx frames\n", s[0].resets, s[1].resets, s[0].sleeps, s[1].sleeps,
                (unsigned long long)s[1].tx_done);
  assert_int_equal(s[0].bad + s[1].bad, 0);
  assert_int_equal(s[1].next, FRAMES);
  assert_true(s[0].resets != 0 && s[1].resets != 0);
  for (int i = 0; i < 2; i++)
    close(w.bell[i]);
  free(w.seg.base);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(frames_cross_threads)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
