/*
 * Random life of connections over a pair, beside a naive twin: two byte queues per connection and who has closed what.
 * What the library reads must be what the twin holds; a half that was closed reads as the end; the memory of the pair
 * comes back (slots are reused, nothing goes by TCP). Some clients are bound.
 */
#include "cut_rig.h"

#include "base/rng.h"

#define CONNS 6
#define STEPS 6000
#define QUEUE (3u << 20)

struct twin_dir {
  uint8_t *buf; /* ring of QUEUE bytes */
  uint64_t in, out;
  int fin; /* no more comes */
};

struct twin {
  int open;
  uint32_t h[2];        /* client, server */
  int closed[2];        /* by the program */
  int reset;            /* either side ended it abortively, or with bytes unread */
  struct twin_dir d[2]; /* d[i]: bytes that side i wrote */
};

struct prop {
  struct cut_rig *r;
  struct rng rng;
  uint32_t l;
  struct twin t[CONNS];
  uint64_t bytes, conns;
};

static uint8_t block[200000], got[200000];

static void prop_open(struct prop *p, struct twin *t) {
  t->h[0] = rng_below(&p->rng, 3) == 0 ? cut_dial_bound((uint16_t)(7600 + p->conns), 7500) : cut_dial(7500);
  t->h[1] = cut_accept(p->l);
  t->open = 1;
  t->closed[0] = t->closed[1] = t->reset = 0;
  for (int i = 0; i < 2; i++)
    t->d[i].in = t->d[i].out = 0, t->d[i].fin = 0;
  p->conns++;
}

static void prop_write(struct prop *p, struct twin *t, int side) {
  uint32_t n = 1 + (uint32_t)rng_below(&p->rng, rng_below(&p->rng, 4) == 0 ? sizeof block : 3000);
  if (t->closed[side] || t->closed[!side] || t->reset)
    return;
  for (uint32_t i = 0; i < n; i++)
    block[i] = (uint8_t)rng_u64(&p->rng);
  cut_as(side);
  int rc = vppcom_session_write(t->h[side], block, n);
  if (t->d[side].fin) {
    assert_int_equal(rc, VPPCOM_EPIPE);
    return;
  }
  assert_true(rc == VPPCOM_EAGAIN || (rc > 0 && (uint32_t)rc <= n));
  for (int i = 0; i < rc; i++)
    t->d[side].buf[t->d[side].in++ % QUEUE] = block[i];
  assert_true(t->d[side].in - t->d[side].out <= QUEUE);
}

static void prop_read(struct prop *p, struct twin *t, int side) {
  struct twin_dir *d = &t->d[!side];
  uint32_t n = 1 + (uint32_t)rng_below(&p->rng, rng_below(&p->rng, 3) == 0 ? sizeof got : 2000);
  if (t->closed[side])
    return;
  cut_as(side);
  int peek = rng_below(&p->rng, 8) == 0;
  int rc = vppcom_session_recvfrom(t->h[side], got, n, peek ? MSG_PEEK : 0, NULL);
  uint64_t left = d->in - d->out;
  if (left == 0) {
    if (t->reset)
      assert_true(rc == VPPCOM_ECONNRESET || rc == 0);
    else
      assert_int_equal(rc, d->fin ? 0 : VPPCOM_EAGAIN);
    return;
  }
  assert_int_equal(rc, left < n ? left : n);
  for (int i = 0; i < rc; i++)
    if (got[i] != d->buf[(d->out + (uint64_t)i) % QUEUE])
      fail_msg("wrong byte at %llu", (unsigned long long)d->out + (unsigned long long)i);
  if (!peek)
    d->out += (uint64_t)rc;
  p->bytes += peek ? 0 : (uint64_t)rc;
}

static void prop_shut(struct twin *t, int side) {
  if (t->closed[side] || t->closed[!side] || t->d[side].fin || t->d[!side].fin || t->reset)
    return;
  cut_as(side);
  assert_int_equal(vppcom_session_shutdown(t->h[side], SHUT_WR), 0);
  t->d[side].fin = 1;
}

static void prop_close(struct prop *p, struct twin *t, int side) {
  if (t->closed[side])
    return;
  cut_as(side);
  int hard = rng_below(&p->rng, 5) == 0;
  assert_int_equal(hard ? vppcom_session_terminate(t->h[side]) : vppcom_session_close(t->h[side]), 0);
  t->closed[side] = 1;
  t->d[side].fin = 1;
  if (hard || t->d[!side].in != t->d[!side].out)
    t->reset = 1;
  if (t->closed[0] && t->closed[1])
    t->open = 0;
}

static void prop_step(struct prop *p) {
  struct twin *t = &p->t[rng_below(&p->rng, CONNS)];
  int side = (int)rng_below(&p->rng, 2);
  if (!t->open) {
    prop_open(p, t);
    return;
  }
  uint32_t what = (uint32_t)rng_below(&p->rng, 41);
  if (what < 18)
    prop_write(p, t, side);
  else if (what < 37)
    prop_read(p, t, side);
  else if (what < 38)
    prop_shut(t, side);
  else
    prop_close(p, t, side);
}

static void test_twin(void **state) {
  struct prop p = {.r = *state};
  const char *only = getenv("PROP_SEED");
  uint64_t seed = only != NULL ? (uint64_t)strtoull(only, NULL, 0) : 1; /* others by hand */
  print_message("PROP_SEED=%llu\n", (unsigned long long)seed);
  rng_init(&p.rng, seed);
  p.l = cut_listen(7500);
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < 2; k++)
      assert_non_null(p.t[i].d[k].buf = malloc(QUEUE));
  for (int i = 0; i < STEPS; i++)
    prop_step(&p);
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < 2 && p.t[i].open; k++)
      prop_close(&p, &p.t[i], k);
  print_message("%llu bytes, %llu connections\n", (unsigned long long)p.bytes, (unsigned long long)p.conns);
  assert_true(p.conns > 64); /* of 64 slots: they came back */
  assert_int_equal(fake_live_sessions(&p.r->rig.fake), 0);
  cut_as(1);
  vppcom_session_close(p.l);
  for (int i = 0; i < CONNS; i++)
    for (int k = 0; k < 2; k++)
      free(p.t[i].d[k].buf);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_twin, cut_rig_setup, cut_rig_teardown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
