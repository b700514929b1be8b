/*
 * What becomes of connections that no app has taken yet: parked ones are offered again when somebody can take them,
 * those of a listener that goes are given to another share with the bytes that came already, or reset as on Linux. And
 * orphans beyond the configured limit are reset.
 */
#include "base/fault.h"
#include "engine_rig.h"
#include "shm/bell.h"
#include "test.h"

#include <setjmp.h>
#include <string.h>

static struct rig r;

static struct abi_listen_entry *entry(uint32_t i) {
  return (struct abi_listen_entry *)seg_at(&r.host[1].policy, 4096, 16 * sizeof(struct abi_listen_entry)) + i;
}

/* What the broker does: entry i goes, or is another listener's from now on. */
static void unlisten(uint32_t i, uint32_t slot, uint16_t port) {
  entry(i)->gen++;
  entry(i)->live = port != 0;
  entry(i)->slot = slot;
  if (port)
    entry(i)->addr.port = be16_from(port);
  entry(i)->gen++;
  (void)listen_refresh(&r.host[1].w);
}

static void read_exactly(struct rig_sess *s, const char *what) {
  char buf[64] = "";
  uint32_t got = 0, len = (uint32_t)strlen(what);
  for (int i = 0; i < 20000 && got < len; i++) {
    got += rig_read(s, buf + got, len - got);
    rig_step(&r, 100);
  }
  assert_string_equal(buf, what);
}

/* The offer and its bytes go to the share that is left; the old slot is free again. */
static void test_listener_goes_other_share(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_meet(&r, 1, &c);
  assert_int_equal(rig_write(&c, "hello", 5), 5);
  rig_turns(&r, 50);
  rig_listen(&r.host[1], 1, 80, 4, 1);
  rig_turns(&r, 2);
  unlisten(0, 0, 0);
  assert_int_equal(r.host[1].w.listeners.l[0].pending, 0);
  assert_int_equal(r.host[1].w.listeners.l[1].pending, 1);
  rig_accept_at(&r, 1, &s);
  read_exactly(&s, "hello");
  assert_int_equal(rig_write(&c, " world", 6), 6);
  read_exactly(&s, " world");
  assert_int_equal(rig_write(&s, "answer", 6), 6);
  read_exactly(&c, "answer");
  assert_int_equal(r.host[1].w.app[0]->n_sessions, 1);
  assert_int_equal(r.host[1].w.listeners.l[1].pending, 0);
  rig_close(&r);
}

static jmp_buf died;
static void die_here(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  longjmp(died, 1);
}

/* The engine dies while it moves the offer: the successor moves it, or has it moved already. */
static void test_move_cut_off(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  static const char *const points[] = {"session.clear", "fifo.tail", "session.move.record", "session.move.owner",
                                       "session.listener"};
  for (volatile size_t i = 0; i < sizeof points / sizeof *points; i++) {
    static struct rig_sess c, s;
    rig_meet(&r, 9, &c);
    assert_int_equal(rig_write(&c, "hello", 5), 5);
    rig_turns(&r, 50);
    rig_listen(&r.host[1], 1, 80, 4, 1);
    rig_turns(&r, 2);
    fault_set_hook(die_here, NULL);
    assert_int_equal(fault_arm(points[i], 1, FAULT_HOOK), 0);
    if (setjmp(died) == 0) {
      unlisten(0, 0, 0);
      fail_msg("%s was never passed", points[i]);
    }
    fault_disarm();
    rig_engine_kill(&r.host[1]);
    rig_engine_start(&r.host[1]);
    rig_accept_at(&r, 1, &s);
    read_exactly(&s, "hello");
    assert_int_equal(rig_accept(&r.host[1], 0, &s), 0);
    assert_int_equal(r.host[1].w.app[0]->n_sessions, 1);
    assert_int_equal(app_slots_used(r.host[1].w.app[0]), 1);
    assert_int_equal(c.e->error, 0);
    rig_close(&r);
  }
}

/* The share stops taking offers, its listener lives: the armed one gets them. */
static void test_disarmed(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_meet(&r, 2, &c);
  rig_turns(&r, 20);
  rig_listen(&r.host[1], 1, 80, 4, 1);
  rig_turns(&r, 2);
  __atomic_store_n(&worker_view_app(&r.host[1].view, 0)->listen_armed, 0, __ATOMIC_RELEASE);
  rig_hint(&r.host[1], 0);
  rig_turns(&r, 5);
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 0);
  rig_accept_at(&r, 1, &s);
  assert_int_equal(rig_write(&c, "x", 1), 1);
  read_exactly(&s, "x");
  rig_close(&r);
}

/* Its process waits for connections, or does not. */
static void arm(uint32_t listener, uint32_t armed) {
  __atomic_store_n(&worker_view_app(&r.host[1].view, listener)->listen_armed, armed, __ATOMIC_RELEASE);
  rig_hint(&r.host[1], listener);
  rig_turns(&r, 5);
}

/* A process looks once at its listener and leaves it to its children: the first of them that looks gets what was
 * offered to it, with the bytes that came already. */
static void test_armed_later(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_meet(&r, 10, &c);
  assert_int_equal(rig_write(&c, "hello", 5), 5);
  rig_turns(&r, 50);
  rig_listen(&r.host[1], 1, 80, 4, 0);
  rig_turns(&r, 2);
  arm(0, 0);
  assert_int_equal(r.host[1].w.listeners.l[0].pending, 1); /* nobody else waits */
  arm(1, 1);
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 0);
  rig_accept_at(&r, 1, &s);
  read_exactly(&s, "hello");
  assert_int_equal(r.host[1].counters[EC_ACCEPT_MOVED], 1);
  assert_int_equal(app_slots_used(r.host[1].w.app[0]), 1);
  rig_close(&r);
}

static struct rig_sess taken;
static void take_it(const char *name, void *ctx) {
  (void)name;
  (void)ctx;
  fault_disarm();
  assert_int_equal(rig_accept(&r.host[1], 0, &taken), 1);
}

/* The first process looks again, and takes the offer, while the engine withdraws it: it stays there. */
static void test_taken_while_withdrawn(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  struct rig_sess c, s;
  rig_meet(&r, 11, &c);
  rig_turns(&r, 50);
  rig_listen(&r.host[1], 1, 80, 4, 0);
  rig_turns(&r, 2);
  arm(0, 0);
  fault_set_hook(take_it, NULL);
  assert_int_equal(fault_arm("session.move.withdrawn", 1, FAULT_HOOK), 0);
  arm(1, 1);
  assert_int_equal(taken.e->listener_gen, 1); /* by which the process knows that it has it */
  assert_int_equal(rig_accept(&r.host[1], 1, &s), 0);
  assert_int_equal(rig_write(&c, "x", 1), 1);
  read_exactly(&taken, "x");
  assert_int_equal(rig_state(&taken), ABI_SESS_READY);
  assert_int_equal(r.host[1].counters[EC_ACCEPT_MOVED], 0);
  rig_close(&r);
}

/* The engine dies while it withdraws the offer, or the share was armed while no engine ran. */
static void test_armed_later_cut_off(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  for (volatile int down = 0; down < 2; down++) {
    static struct rig_sess c, s;
    rig_meet(&r, 12, &c);
    assert_int_equal(rig_write(&c, "hello", 5), 5);
    rig_turns(&r, 50);
    rig_listen(&r.host[1], 1, 80, 4, 0);
    rig_turns(&r, 2);
    arm(0, 0);
    fault_set_hook(die_here, NULL);
    if (down)
      __atomic_store_n(&worker_view_app(&r.host[1].view, 1)->listen_armed, 1, __ATOMIC_RELEASE);
    else
      assert_int_equal(fault_arm("session.move.withdrawn", 1, FAULT_HOOK), 0);
    if (!down && setjmp(died) == 0) {
      arm(1, 1);
      fail_msg("never withdrawn");
    }
    fault_disarm();
    rig_engine_kill(&r.host[1]);
    rig_engine_start(&r.host[1]);
    rig_accept_at(&r, 1, &s);
    read_exactly(&s, "hello");
    assert_int_equal(app_slots_used(r.host[1].w.app[0]), 1);
    assert_int_equal(c.e->error, 0);
    rig_close(&r);
  }
}

/* Nobody else listens: reset, for offered and parked alike, and never given to a listener of another port. */
static void test_listener_goes_alone(void **state) {
  (void)state;
  for (int armed = 0; armed < 2; armed++) {
    struct rig_sess c, s;
    rig_open(&r, 3);
    rig_listen(&r.host[1], 0, 80, 4, armed);
    rig_turns(&r, 2);
    rig_connect(&r.host[0], &c, 0, 1, 80, 4);
    rig_until(&r, &c, ABI_SESS_READY);
    rig_turns(&r, 20);
    struct abi_sess_app *a = worker_view_app(&r.host[1].view, 1);
    a->gen = 1;
    a->listen_armed = 1;
    __atomic_store_n(&a->op, ABI_OP_LISTEN, __ATOMIC_RELEASE);
    r.host[1].view.app->slots_high = 2;
    unlisten(0, 1, 81); /* the entry is another listener's now */
    rig_turns(&r, 20);
    assert_int_equal(rig_accept(&r.host[1], 1, &s), 0);
    assert_int_equal(r.host[1].w.listeners.l[0].pending, 0);
    rig_until(&r, &c, ABI_SESS_CLOSED);
    assert_int_equal(c.e->error, 104); /* ECONNRESET */
    rig_close(&r);
  }
}

/* A slot becomes free: who waited for one is offered, though its client says nothing. */
static void test_slot_becomes_free(void **state) {
  (void)state;
  static struct rig_sess c[33], s[33];
  rig_open(&r, 4);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  for (uint32_t i = 0; i < 33; i++) { /* the rig's geometry has 32 engine slots */
    if (i == 32) {                    /* its app slots are as many: one is used anew */
      rig_want(&c[0], ABI_WANT_CLOSE | ABI_WANT_ABORT);
      rig_turns(&r, 5);
      rig_connect(&r.host[0], &c[32], 0, 2, 80, 4);
    } else {
      rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
    }
    rig_until(&r, &c[i], ABI_SESS_READY);
    if (i < 32)
      rig_accept_at(&r, 0, &s[i]);
  }
  rig_turns(&r, 500);
  assert_true(r.host[1].counters[EC_ACCEPT_NO_SLOT] > 0);
  assert_int_equal(rig_accept(&r.host[1], 0, &s[32]), 0);
  rig_want(&s[0], ABI_WANT_CLOSE | ABI_WANT_FREED);
  rig_accept_at(&r, 0, &s[32]);
  rig_close(&r);
}

/* The engine dies while it offers; neither client nor listener says anything afterwards. */
static void test_silent_client(void **state) {
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  static const char *const points[] = {"session.offer.record", "session.offer.owner", "session.offer.state",
                                       "tcp.open.offered"};
  for (volatile size_t i = 0; i < sizeof points / sizeof *points; i++) {
    static struct rig_sess c, s;
    rig_open(&r, 5);
    rig_listen(&r.host[1], 0, 80, 4, 1);
    rig_turns(&r, 2);
    rig_connect(&r.host[0], &c, 0, 1, 80, 4);
    fault_set_hook(die_here, NULL);
    assert_int_equal(fault_arm(points[i], 1, FAULT_HOOK), 0);
    if (setjmp(died) == 0) {
      rig_turns(&r, 1000);
      fail_msg("%s was never passed", points[i]);
    }
    fault_disarm();
    rig_engine_kill(&r.host[1]);
    rig_engine_start(&r.host[1]);
    rig_until(&r, &c, ABI_SESS_READY);
    rig_accept_at(&r, 0, &s);
    assert_int_equal(r.host[1].w.listeners.l[0].pending, 1);
    rig_turns(&r, 5);
    assert_int_equal(r.host[1].w.listeners.l[0].pending, 0);
    rig_close(&r);
  }
}

/* The engine dies between accept() and its own look at it. */
static void test_accepted_while_down(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_meet(&r, 6, &c);
  rig_turns(&r, 20);
  rig_engine_kill(&r.host[1]);
  assert_int_equal(rig_accept(&r.host[1], 0, &s), 1);
  rig_engine_start(&r.host[1]);
  rig_turns(&r, 20);
  assert_int_equal(rig_state(&s), ABI_SESS_READY);
  assert_int_equal(r.host[1].w.listeners.l[0].pending, 0);
  rig_close(&r);
}

static void test_orphan_limit(void **state) {
  (void)state;
  struct rig_sess c[3], s[3];
  rig_open(&r, 7);
  r.host[0].cfg.tcp.orphans_max = r.host[0].w.tcp.cfg.orphans_max = 2;
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  for (uint32_t i = 0; i < 3; i++) {
    rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
    rig_until(&r, &c[i], ABI_SESS_READY);
    rig_accept_at(&r, 0, &s[i]);
    rig_want(&c[i], ABI_WANT_CLOSE); /* the server does not close: FIN_WAIT_2 */
    rig_turns(&r, 50);
    assert_int_equal(r.host[0].w.n_orphans, i < 2 ? i + 1 : 2);
  }
  assert_true(rig_eof(&s[0]) && rig_eof(&s[1]) && s[0].e->error == 0);
  assert_int_equal(s[2].e->error, 32); /* EPIPE: the FIN went before the RST, as on Linux */
  rig_engine_kill(&r.host[0]);
  rig_engine_start(&r.host[0]);
  assert_int_equal(r.host[0].w.n_orphans, 2);
  rig_want(&s[0], ABI_WANT_CLOSE); /* TIME_WAIT is no orphan */
  rig_turns(&r, 50);
  assert_int_equal(r.host[0].w.n_orphans, 1);
  rig_close(&r);
}

/* A lie frees what the app had left closed and unread too. */
static void test_lie_frees_all(void **state) {
  (void)state;
  struct rig_sess c, s;
  rig_open(&r, 8);
  r.host[0].may_lie = 1;
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  assert_int_equal(rig_write(&s, "unread", 6), 6);
  rig_turns(&r, 50);
  rig_want(&s, ABI_WANT_CLOSE | ABI_WANT_ABORT);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  assert_int_equal(r.host[0].w.sessions.n_used, 1);
  r.host[0].view.app->lane[0].to_engine.tail += 1u << 20;
  assert_int_equal(bell_ring_service(r.host[0].doorbell), 0);
  rig_turns(&r, 50);
  assert_non_null(r.host[0].lied);
  assert_int_equal(r.host[0].w.sessions.n_used, 0);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_listener_goes_other_share),
      cmocka_unit_test(test_move_cut_off),
      cmocka_unit_test(test_disarmed),
      cmocka_unit_test(test_armed_later),
      cmocka_unit_test(test_taken_while_withdrawn),
      cmocka_unit_test(test_armed_later_cut_off),
      cmocka_unit_test(test_listener_goes_alone),
      cmocka_unit_test(test_slot_becomes_free),
      cmocka_unit_test(test_silent_client),
      cmocka_unit_test(test_accepted_while_down),
      cmocka_unit_test(test_orphan_limit),
      cmocka_unit_test(test_lie_frees_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
