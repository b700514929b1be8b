/*
 * Whole engines against each other: handshakes, transfers, closes, and every kind of restart in the middle of them.
 */
#include "engine_rig.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

#define TRANSFER (3u << 20)
#define CHUNK    20000u

static uint8_t pattern(uint32_t pos, uint32_t salt) {
  return (uint8_t)((pos * 2654435761u >> 13) ^ (pos >> 3) ^ salt);
}

/* One direction: `from` writes total bytes, `to` checks each. */
struct stream {
  struct rig_sess *from, *to;
  uint32_t sent, got, total, salt;
};

static void stream_turn(struct stream *t) {
  static uint8_t buf[CHUNK];
  uint32_t n = t->total - t->sent < CHUNK ? t->total - t->sent : CHUNK;
  for (uint32_t i = 0; i < n; i++)
    buf[i] = pattern(t->sent + i, t->salt);
  if (n)
    t->sent += rig_write(t->from, buf, n);
  while ((n = rig_read(t->to, buf, CHUNK)) > 0) {
    for (uint32_t i = 0; i < n; i++)
      if (buf[i] != pattern(t->got + i, t->salt))
        fail_msg("byte %u of stream %u is wrong", t->got + i, t->salt);
    t->got += n;
  }
}

static void until(struct rig *r, int (*done)(void *), void *ctx, const char *what) {
  for (int i = 0; i < 400000; i++) {
    if (done(ctx))
      return;
    rig_step(r, 100);
  }
  fail_msg("never: %s", what);
}

static int is_ready(void *s) {
  return rig_state(s) == ABI_SESS_READY;
}
static int is_closed(void *s) {
  return rig_state(s) == ABI_SESS_CLOSED;
}

struct accept_wait {
  struct rig_host *h;
  uint32_t slot;
  struct rig_sess *s;
};
static int has_accepted(void *ctx) {
  struct accept_wait *a = ctx;
  return rig_accept(a->h, a->slot, a->s);
}

static void make_pair(struct rig *r, struct rig_sess *c, struct rig_sess *s, int family) {
  rig_listen(&r->host[1], 0, 80, family, 1);
  rig_step(r, 100);
  rig_connect(&r->host[0], c, 0, 1, 80, family);
  struct accept_wait a = {.h = &r->host[1], .slot = 0, .s = s};
  until(r, is_ready, c, "connected");
  until(r, has_accepted, &a, "accepted");
}

enum mishap { NONE, ENGINE_A, ENGINE_B, NICIO_A, NICIO_B, RINGS_A, RINGS_B, MISHAPS };

static void strike(struct rig *r, enum mishap m) {
  struct rig_host *h = &r->host[m == ENGINE_B || m == NICIO_B || m == RINGS_B];
  switch (m) {
  case ENGINE_A:
  case ENGINE_B:
    rig_engine_kill(h);
    for (int i = 0; i < 20; i++)
      rig_step(r, 100);
    rig_engine_start(h);
    break;
  case NICIO_A:
  case NICIO_B:
    rig_nicio_restart(h);
    break;
  case RINGS_A:
  case RINGS_B:
    worker_reset_rings(&h->w);
    break;
  default:
    break;
  }
}

/* Both ends on host 0. */
static void make_own_pair(struct rig *r, struct rig_sess *c, struct rig_sess *s, int family) {
  rig_listen(&r->host[0], 1, 80, family, 1);
  rig_step(r, 100);
  rig_connect_to(&r->host[0], c, 0, 1, 1, 80, family);
  struct accept_wait a = {.h = &r->host[0], .slot = 1, .s = s};
  until(r, is_ready, c, "connected to ourselves");
  until(r, has_accepted, &a, "accepted from ourselves");
}

static void stream_both(struct rig *r, struct rig_sess *c, struct rig_sess *s, enum mishap m, int strikes) {
  struct stream up = {.from = c, .to = s, .total = TRANSFER, .salt = 1};
  struct stream down = {.from = s, .to = c, .total = TRANSFER, .salt = 2};
  uint32_t next = TRANSFER / (uint32_t)(strikes + 1);
  for (uint32_t step = 0; up.got < up.total || down.got < down.total; step++) {
    if (step > 3000000)
      fail_msg("stuck at %u and %u", up.got, down.got);
    stream_turn(&up);
    stream_turn(&down);
    rig_step(r, 50);
    if (strikes && up.got >= next) {
      strike(r, m);
      next += TRANSFER / (uint32_t)(strikes + 1);
      strikes--;
    }
  }
  rig_want(c, ABI_WANT_CLOSE);
  for (int i = 0; i < 200000 && !rig_eof(s); i++)
    rig_step(r, 100);
  assert_true(rig_eof(s));
  rig_want(s, ABI_WANT_CLOSE);
  until(r, is_closed, c, "client record closed");
  until(r, is_closed, s, "server record closed");
}

static void transfer(int family, double loss, enum mishap m, int strikes) {
  static struct rig r;
  struct rig_sess c, s;
  rig_open(&r, 7u + (uint64_t)m);
  make_pair(&r, &c, &s, family);
  r.loss = loss;
  stream_both(&r, &c, &s, m, strikes);
  rig_close(&r);
}

/* Client and server are apps of one stack: not one frame of theirs reaches the wire, large frames come as they went. */
static void transfer_own(int family, enum mishap m, int strikes) {
  static struct rig r;
  struct rig_sess c, s;
  rig_open(&r, 40u + (uint64_t)m);
  struct rig_host *h = &r.host[0];
  const uint64_t *ipc = h->counters + EC_N + TCP_N_COUNTERS;
  for (int i = 0; i < 100; i++)
    rig_step(&r, 100); /* the announcements are over */
  uint64_t wired = ipc[IPC_TX_PACKETS];
  make_own_pair(&r, &c, &s, family);
  stream_both(&r, &c, &s, m, strikes);
  assert_true(ipc[IPC_TX_LOOPED] > 0);
  if (m == NONE) {
    assert_true(ipc[IPC_TX_LOOPED] < 2 * TRANSFER / 1448); /* GSO frames stayed whole */
    assert_int_equal(ipc[IPC_RX_DELIVERED], ipc[IPC_TX_LOOPED]);
    assert_true(ipc[IPC_TX_PACKETS] - wired < 20); /* second announcements */
  }
  rig_close(&r);
}

static void test_own_address(void **state) {
  (void)state;
  transfer_own(4, NONE, 0);
  transfer_own(6, NONE, 0);
}
static void test_own_address_restarts(void **state) {
  (void)state;
  transfer_own(4, ENGINE_A, 3);
  transfer_own(6, NICIO_A, 3);
  transfer_own(4, RINGS_A, 3);
}
static void test_own_address_refused(void **state) {
  (void)state;
  static struct rig r;
  struct rig_sess c;
  rig_open(&r, 1);
  rig_step(&r, 100);
  rig_connect_to(&r.host[0], &c, 3, 1, 1, 81, 6);
  until(&r, is_closed, &c, "refused by ourselves");
  assert_int_equal(c.e->error, 111); /* ECONNREFUSED */
  rig_close(&r);
}

static void test_transfer_v4(void **state) {
  (void)state;
  transfer(4, 0, NONE, 0);
}
static void test_transfer_v6_lossy(void **state) {
  (void)state;
  transfer(6, 0.02, NONE, 0);
}
static void test_restarts(void **state) {
  (void)state;
  for (enum mishap m = ENGINE_A; m < MISHAPS; m++)
    transfer(m & 1 ? 4 : 6, 0, m, 3);
}
static void test_restarts_lossy(void **state) {
  (void)state;
  for (enum mishap m = ENGINE_A; m < MISHAPS; m++)
    transfer(4, 0.01, m, 3);
}

/* Both ends fill each other's window, and the end of both fillings is lost with all probes and ACKs for a while. What
 * is sent again first is what the other has already, and its ACK has the number behind our window. Nobody reads. */
static void test_full_windows_lost(void **state) {
  (void)state;
  static struct rig r;
  static uint8_t buf[12288];
  struct rig_sess n[2];
  rig_open(&r, 21);
  for (int i = 0; i < 2; i++) {
    r.host[i].w.tcp.cfg.rcv_buf = sizeof buf; /* less than the first congestion window */
    r.host[i].w.tcp.cfg.nodelay = 1;
    r.host[i].w.tcp.cfg.pacing = 0;
  }
  make_pair(&r, &n[0], &n[1], 4);
  rig_turns(&r, 2000);
  for (int i = 0; i < 2; i++)
    assert_int_equal(n[i].e->figures.snd_wnd, sizeof buf);
  for (int i = 0; i < 2; i++)
    assert_int_equal(rig_write(&n[i], buf, 6000), 6000);
  rig_turns(&r, 2);
  r.loss = 1;
  for (int i = 0; i < 2; i++)
    assert_int_equal(rig_write(&n[i], buf, 6288), 6288);
  rig_turns(&r, 1000);
  r.loss = 0;
  for (int i = 0; i < 1000; i++)
    rig_step(&r, 10000);
  for (int i = 0; i < 2; i++)
    assert_int_equal(n[i].e->tx_head, n[i].tx.tail);
  rig_close(&r);
}

static void test_refused(void **state) {
  (void)state;
  static struct rig r;
  struct rig_sess c;
  rig_open(&r, 1);
  rig_step(&r, 100);
  rig_connect(&r.host[0], &c, 3, 1, 81, 4);
  until(&r, is_closed, &c, "refused");
  assert_int_equal(c.e->error, 111); /* ECONNREFUSED */
  rig_close(&r);
}

/* Fifos shrink when they are drained: a connection that has carried data and is silent holds no chunk in E. */
static void test_idle_holds_nothing(void **state) {
  (void)state;
  static struct rig r;
  struct rig_sess c, s;
  static char b[50000];
  uint32_t got = 0;
  rig_open(&r, 5);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_step(&r, 100);
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  until(&r, is_ready, &c, "connected");
  rig_accept_at(&r, 0, &s);
  const struct arena *arena = r.host[1].w.app[0]->arena;
  uint64_t all = arena_free_bytes(arena);
  assert_int_equal(rig_write(&c, b, sizeof b), sizeof b);
  for (int i = 0; i < 1000; i++)
    rig_step(&r, 100);
  assert_true(arena_free_bytes(arena) + sizeof b <= all); /* nobody has read */
  while (got < sizeof b)
    got += (uint32_t)rig_read(&s, b, sizeof b);
  for (int i = 0; i < 1000 && arena_free_bytes(arena) != all; i++)
    rig_step(&r, 5000);
  assert_int_equal(arena_free_bytes(arena), all);
  assert_int_equal(rig_write(&c, "again", 5), 5);
  for (int i = 0; i < 100; i++)
    rig_step(&r, 100);
  assert_int_equal(rig_read(&s, b, sizeof b), 5);
  rig_close(&r);
}

static void test_parked_until_armed(void **state) {
  (void)state;
  static struct rig r;
  struct rig_sess c, s;
  rig_open(&r, 2);
  rig_listen(&r.host[1], 0, 80, 4, 0);
  rig_step(&r, 100);
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  until(&r, is_ready, &c, "client believes itself connected");
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 0);
  assert_int_equal(rig_write(&c, "hello", 5), 5);
  for (int i = 0; i < 100; i++)
    rig_step(&r, 100);
  rig_engine_kill(&r.host[1]); /* a parked handshake is durable */
  rig_engine_start(&r.host[1]);
  rig_arm(&r.host[1], 0);
  struct accept_wait a = {.h = &r.host[1], .slot = 0, .s = &s};
  until(&r, has_accepted, &a, "accepted after arming");
  char buf[8] = "";
  for (int i = 0; i < 100000 && rig_read(&s, buf, 5) == 0; i++)
    rig_step(&r, 100);
  assert_string_equal(buf, "hello");
  rig_close(&r);
}

/* An app that writes and dies: the bytes and a FIN arrive; the worker is drained afterwards. */
static void test_orphan(void **state) {
  (void)state;
  static struct rig r;
  struct rig_sess c, s;
  static uint8_t buf[200000], got[200000];
  rig_open(&r, 3);
  make_pair(&r, &c, &s, 4);
  for (uint32_t i = 0; i < sizeof buf; i++)
    buf[i] = pattern(i, 9);
  assert_int_equal(rig_write(&c, buf, sizeof buf), sizeof buf);
  app_dead(&r.host[0].w, r.host[0].w.app[0]);
  uint32_t n = 0;
  for (int i = 0; i < 100000 && !(n == sizeof buf && rig_eof(&s)); i++) {
    n += rig_read(&s, got + n, (uint32_t)sizeof got - n);
    rig_step(&r, 100);
  }
  assert_int_equal(n, sizeof buf);
  assert_memory_equal(buf, got, sizeof buf);
  assert_true(rig_eof(&s));
  rig_want(&s, ABI_WANT_CLOSE);
  for (int i = 0; i < 100000 && !r.host[0].worker_was_drained; i++)
    rig_step(&r, 100);
  assert_true(r.host[0].worker_was_drained);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transfer_v4),
      cmocka_unit_test(test_transfer_v6_lossy),
      cmocka_unit_test(test_restarts),
      cmocka_unit_test(test_restarts_lossy),
      cmocka_unit_test(test_full_windows_lost),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_idle_holds_nothing),
      cmocka_unit_test(test_parked_until_armed),
      cmocka_unit_test(test_orphan),
      cmocka_unit_test(test_own_address),
      cmocka_unit_test(test_own_address_restarts),
      cmocka_unit_test(test_own_address_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
