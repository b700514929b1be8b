/*
 * Two threads over a pair of hint rings with the sleep protocol for real: each pushes facts to the other, takes what it
 * is told, and sleeps on an eventfd when there is nothing. A wait that times out is a lost wake-up. Bounded by
 * iterations; made for tsan.
 */
#include "base/rng.h"
#include "shm/bell.h"
#include "shm/hint.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define SLOTS  50u
#define CAP    64u
#define PUSHES 60000u
#define WAIT   20000 /* ms; never reached unless a wake-up is lost */

struct half {
  struct abi_ring_prod pw;
  struct abi_ring_cons cw;
  uint32_t entries[CAP];
  uint32_t fact[SLOTS]; /* words with one writer, as in a session half */
  uint32_t pos[SLOTS];
  int bell; /* wakes this side */
};

struct side {
  struct half *mine, *peer;
  struct hint_prod p;
  struct hint_cons c;
  struct rng r;
  uint32_t seen[SLOTS], pushed, sleeps, lost;
};

static void look(struct side *s) {
  uint32_t slots[16];
  int n = hint_take(&s->c, slots, 16);
  if (n < 0)
    s->lost++;
  for (int i = 0; i < n; i++)
    s->seen[slots[i]] = __atomic_load_n(&s->peer->fact[slots[i]], __ATOMIC_RELAXED);
}

static void speak(struct side *s) {
  int ring = 0;
  uint32_t burst = (uint32_t)rng_range(&s->r, 1, 8);
  for (; burst != 0 && s->pushed < PUSHES; burst--, s->pushed++) {
    uint32_t slot = s->pushed + SLOTS >= PUSHES ? s->pushed % SLOTS : (uint32_t)rng_below(&s->r, SLOTS);
    __atomic_store_n(&s->mine->fact[slot], s->mine->fact[slot] + 1, __ATOMIC_RELAXED);
    if (hint_push(&s->p, slot, &s->mine->pos[slot], &ring) != 1)
      s->lost++;
  }
  if (ring)
    (void)bell_ring_service(s->peer->bell);
}

static int all_seen(struct side *s) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < SLOTS; i++)
    sum += s->seen[i];
  return sum == PUSHES; /* every fact counts one up per push */
}

/** Sleeps until the bell unless there is work. */
static int idle(struct side *s) {
  struct pollfd p = {.fd = s->mine->bell, .events = POLLIN};
  uint64_t n;
  int rc = 1;
  if (hint_arm(&s->c)) {
    rc = poll(&p, 1, WAIT);
    s->lost += rc == 0;
    (void)!read(s->mine->bell, &n, sizeof n);
    s->sleeps++;
  }
  hint_disarm(&s->c);
  return rc > 0;
}

/** Both speak and look; who has nothing more to say sleeps between looks. */
static void *loop(void *arg) {
  struct side *s = arg;
  for (;;) {
    look(s);
    if (s->pushed < PUSHES) {
      if (rng_below(&s->r, 8) == 0)
        (void)hint_arm(&s->c); /* armed while it speaks: the peer rings, which must do no harm */
      speak(s);
      hint_disarm(&s->c);
    } else if (all_seen(s) || !idle(s)) {
      return NULL;
    }
  }
}

static void no_hint_is_lost(void **state) {
  (void)state;
  static struct half h[2];
  static struct side s[2];
  pthread_t t[2];
  for (int i = 0; i < 2; i++)
    h[i].bell = bell_doorbell();
  for (int i = 0; i < 2; i++) {
    s[i] = (struct side){.mine = &h[i], .peer = &h[!i]};
    rng_init(&s[i].r, 77 + (uint64_t)i);
    hint_prod_init(&s[i].p, &h[i].pw, &h[!i].cw, h[i].entries, CAP);
    hint_cons_init(&s[i].c, &h[i].cw, &h[!i].pw, h[!i].entries, CAP);
  }
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&t[i], NULL, loop, &s[i]), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_join(t[i], NULL), 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(s[i].lost, 0);
    assert_int_equal(s[i].pushed, PUSHES);
    assert_memory_equal(s[i].seen, h[!i].fact, sizeof s[i].seen);
    close(h[i].bell);
  }
}

/** One side only speaks, the other only sleeps and looks: nearly every push meets a consumer about to sleep. */
static void *only_look(void *arg) {
  struct side *s = arg;
  while (!all_seen(s) && idle(s))
    look(s);
  return NULL;
}

static void no_wakeup_is_lost(void **state) {
  (void)state;
  static struct half h[2];
  static struct side a, b;
  pthread_t t;
  h[1].bell = bell_doorbell();
  a = (struct side){.mine = &h[0], .peer = &h[1]};
  b = (struct side){.mine = &h[1], .peer = &h[0]};
  rng_init(&a.r, 5);
  hint_prod_init(&a.p, &h[0].pw, &h[1].cw, h[0].entries, CAP);
  hint_cons_init(&b.c, &h[1].cw, &h[0].pw, h[0].entries, CAP);
  assert_int_equal(pthread_create(&t, NULL, only_look, &b), 0);
  while (a.pushed < PUSHES)
    speak(&a);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(a.lost + b.lost, 0);
  assert_memory_equal(b.seen, h[0].fact, sizeof b.seen);
  print_message("slept %u times\n", b.sleeps);
  close(h[1].bell);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(no_hint_is_lost), cmocka_unit_test(no_wakeup_is_lost)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
