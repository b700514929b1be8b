/*
 * Client and server are apps of one stack and the engine dies: both ends at the same instant, with all that was on its
 * way between them. At every fault point of their connection, and behind every frame for a while, with readers that
 * keep up, that are slow, and that read only when all they had to say is written. Both directions come to their end.
 */
#include "base/fault.h"
#include "engine_death.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOTAL     (290u * 1024u) /* more than a tx fifo of the rig, less than that and a receive window */
#define NAMES_MAX 256u
#define STEPS_MAX 400000u
#define FRAMES    160u /* of both directions: until the windows are full */

enum manner { KEEPS_UP, IS_SLOW, WRITES_FIRST, MANNERS };

struct end {
  struct rig_sess s;
  uint32_t sent, got;
  int open;
};

static uint8_t pattern(uint32_t pos, int from) {
  return (uint8_t)((pos * 2654435761u >> 13) ^ (pos >> 3) ^ (uint32_t)(from * 77));
}

static void end_write(struct end *n, int from) {
  static uint8_t buf[20011]; /* no multiple of a segment, nor of a window's unit */
  uint32_t len = TOTAL - n->sent < sizeof buf ? TOTAL - n->sent : (uint32_t)sizeof buf;
  for (uint32_t i = 0; i < len; i++)
    buf[i] = pattern(n->sent + i, from);
  if (len)
    n->sent += rig_write(&n->s, buf, len);
}

static void end_read(struct end *n, int from, uint32_t most) {
  static uint8_t buf[1 << 16];
  uint32_t len = rig_read(&n->s, buf, most < sizeof buf ? most : (uint32_t)sizeof buf);
  for (uint32_t i = 0; i < len; i++)
    if (buf[i] != pattern(n->got + i, from))
      fail_msg("after %s: byte %u is wrong", engine_death_where(), n->got + i);
  n->got += len;
}

static void end_turn(struct end *n, int from, enum manner m, uint32_t step) {
  if (!n->open)
    return;
  end_write(n, from);
  if (m == KEEPS_UP || (m == IS_SLOW && step % 64 == 0) || (m == WRITES_FIRST && n->sent == TOTAL))
    end_read(n, !from, m == IS_SLOW ? 5003 : UINT32_MAX);
  if (n->s.e->error)
    fail_msg("after %s: error %u", engine_death_where(), n->s.e->error);
}

/* The stack's receive windows are scaled as they are by default: by units that no segment is a multiple of. */
static void own_open(struct rig *r, uint64_t seed) {
  rig_open(r, seed);
  rig_engine_kill(&r->host[0]);
  r->host[0].cfg.rx_fifo_max = 4u << 20;
  rig_engine_start(&r->host[0]);
  rig_listen(&r->host[0], 1, 80, 4, 1);
}

/* Both write `len` bytes in the same turn. */
static void both_write(struct rig *r, struct end *c, struct end *s, uint32_t len) {
  static uint8_t buf[1 << 16];
  struct end *n[2] = {c, s};
  for (int k = 0; k < 2; k++) {
    for (uint32_t i = 0; i < len; i++)
      buf[i] = pattern(n[k]->sent + i, k);
    assert_int_equal(rig_write(&n[k]->s, buf, len), len);
    n[k]->sent += len;
  }
  engine_death_step(r, 100);
}

static void both_read(struct rig *r, struct end *c, struct end *s) {
  for (uint32_t i = 0; i < 2000 && (c->got < s->sent || s->got < c->sent); i++) {
    end_read(c, 1, UINT32_MAX);
    end_read(s, 0, UINT32_MAX);
    engine_death_step(r, 10000);
  }
  if (c->got < s->sent || s->got < c->sent)
    fail_msg("stuck: client got %u of %u, server got %u of %u", c->got, s->sent, s->got, c->sent);
}

/* Each end fills the other's window, and both fillings are on their way at once. Each then has all that the other sent,
 * and has last heard of a window whose edge, cut to the scale's unit, lies a little below that. */
static void windows_cross(int death) {
  static struct rig r;
  static struct end c, s;
  memset(&c, 0, sizeof c);
  memset(&s, 0, sizeof s);
  own_open(&r, 3);
  struct worker *w = &r.host[0].w;
  w->tcp.cfg.rcv_buf = 12288; /* less than the first congestion window */
  w->tcp.cfg.nodelay = 1;
  w->tcp.cfg.pacing = 0;
  rig_turns(&r, 2);
  rig_connect_to(&r.host[0], &c.s, 0, 1, 1, 80, 4);
  rig_until(&r, &c.s, ABI_SESS_READY);
  while (!rig_accept(&r.host[0], 1, &s.s))
    rig_step(&r, 100);
  for (int i = 0; i < 30; i++) { /* acknowledgements learn to wait for data that goes the other way */
    both_write(&r, &c, &s, 128);
    both_read(&r, &c, &s);
  }
  rig_turns(&r, 1000);
  uint32_t wnd = c.s.e->figures.snd_wnd;
  both_write(&r, &c, &s, 1000);
  both_write(&r, &c, &s, wnd - 1000);
  if (death) {
    rig_engine_kill(&r.host[0]);
    rig_engine_start(&r.host[0]);
  }
  both_write(&r, &c, &s, 50000); /* can leave only when what is out is acknowledged */
  both_read(&r, &c, &s);
  rig_close(&r);
}

static void test_windows_cross(void **state) {
  (void)state;
  windows_cross(0);
}

static void test_windows_cross_death(void **state) {
  (void)state;
  windows_cross(1);
}

/* The engine dies at hit `nth` of `name`. 1 if it did. */
static int life(const char *name, uint32_t nth, enum manner m) {
  static struct rig r;
  static struct end c, s;
  memset(&c, 0, sizeof c);
  memset(&s, 0, sizeof s);
  own_open(&r, 5u + nth);
  engine_death_step(&r, 100);
  engine_death_step(&r, 100);
  engine_death_plan(&r.host[0], name, nth);
  rig_connect_to(&r.host[0], &c.s, 0, 1, 1, 80, 4);
  for (uint32_t i = 0; c.got < TOTAL || s.got < TOTAL; i++) {
    if (i > STEPS_MAX)
      fail_msg("%s, hit %u, manner %u, died at %s: stuck, client sent %u got %u, server sent %u got %u", name, nth, m,
               engine_death_where(), c.sent, c.got, s.sent, s.got);
    c.open = c.open || rig_state(&c.s) == ABI_SESS_READY;
    s.open = s.open || rig_accept(&r.host[0], 1, &s.s);
    end_turn(&c, 0, m, i);
    end_turn(&s, 1, m, i);
    engine_death_step(&r, i < 20000 ? 100 : 2000);
  }
  int died = engine_death_over();
  rig_close(&r);
  return died;
}

static int is_connections(const char *name) {
  static const char *const rooms[] = {"session.", "tcp.", "fifo."};
  for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
    if (strncmp(name, rooms[i], strlen(rooms[i])) == 0)
      return 1;
  return 0;
}

static void test_every_point(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  const char *names[NAMES_MAX];
  size_t n = fault_list(names, NAMES_MAX);
  uint32_t died = 0;
  assert_true(n > 0 && n <= NAMES_MAX);
  for (size_t i = 0; i < n; i++)
    for (uint32_t nth = 1; is_connections(names[i]) && nth <= 64; nth *= 4)
      for (enum manner m = KEEPS_UP; m < MANNERS; m++)
        died += (uint32_t)life(names[i], nth, m);
  assert_true(died > 150);
}

static void test_every_frame(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip();
#endif
  for (uint32_t nth = 1; nth <= FRAMES; nth++)
    for (enum manner m = KEEPS_UP; m < MANNERS; m++)
      (void)life("tcp.output.sent", nth, m);
}

static void test_no_death(void **state) {
  (void)state;
  for (enum manner m = KEEPS_UP; m < MANNERS; m++)
    (void)life("tcp.output.sent", UINT32_MAX, m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_windows_cross), cmocka_unit_test(test_windows_cross_death), cmocka_unit_test(test_no_death),
      cmocka_unit_test(test_every_point),   cmocka_unit_test(test_every_frame),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
