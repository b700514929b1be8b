/*
 * TIME_WAIT as small records: that they take the place of sessions and TCBs, end by time, survive the engine, go oldest
 * first when there is no room, let a SYN or a connect take over, and answer what comes late. And handshakes that were
 * under way when nicio died: they go on at once.
 */
#include "engine_rig.h"
#include "test.h"

#include <string.h>

static struct rig r;

static void let_go(struct rig_sess *s) {
  rig_want(s, ABI_WANT_CLOSE | ABI_WANT_FREED);
}

/* Connect, accept, the client closes first: it has the TIME_WAIT. */
static void short_life(uint32_t slot, uint32_t gen) {
  struct rig_sess c, s;
  rig_connect(&r.host[0], &c, slot, gen, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  rig_want(&c, ABI_WANT_CLOSE);
  for (int i = 0; i < 3000 && !rig_eof(&s); i++)
    rig_step(&r, 100);
  let_go(&s);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  rig_until(&r, &s, ABI_SESS_CLOSED);
  rig_turns(&r, 20);
}

static void open_with_listener(uint64_t seed) {
  rig_time_waits = 16;
  rig_open(&r, seed);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
}

static uint64_t count(int host, enum engine_counter c) {
  return r.host[host].counters[c];
}

static uint64_t tcp_count(int host, enum tcp_counter c) {
  return r.host[host].counters[EC_N + c];
}

static void test_record_takes_the_place(void **state) {
  (void)state;
  open_with_listener(1);
  struct worker *w = &r.host[0].w;
  for (uint32_t i = 0; i < 5; i++)
    short_life(i, 1);
  assert_int_equal(w->timewait.used, 5);
  assert_int_equal(w->sessions.n_used, 0);
  assert_int_equal(tcb_n_used(&w->tcbs), 0);
  assert_int_equal(tcp_count(0, TCP_C_state_time_wait), 5);
  for (int i = 0; i < 30; i++)
    rig_step(&r, 100000); /* 2 s and a bucket's length */
  assert_int_equal(w->timewait.used, 0);
  assert_int_equal(tcp_count(0, TCP_C_state_time_wait), 0);
  short_life(0, 2); /* a freed record is used again */
  assert_int_equal(w->tcbs.block->tw_high, 5);
  rig_close(&r);
}

static void test_survives_the_engine(void **state) {
  (void)state;
  open_with_listener(2);
  for (uint32_t i = 0; i < 4; i++)
    short_life(i, 1);
  rig_engine_kill(&r.host[0]);
  memset(r.host[0].counters, 0, sizeof r.host[0].counters);
  rig_engine_start(&r.host[0]);
  assert_int_equal(r.host[0].w.timewait.used, 4);
  assert_int_equal(tcp_count(0, TCP_C_state_time_wait), 4);
  for (int i = 0; i < 30; i++)
    rig_step(&r, 100000);
  assert_int_equal(r.host[0].w.timewait.used, 0);
  rig_close(&r);
}

static int has_time_wait(uint16_t lport) {
  const struct timewait *t = &r.host[0].w.timewait;
  int n = 0;
  for (uint32_t i = 0; i < t->n; i++)
    n += t->tw[i].life == ABI_TW_USED && t->tw[i].lport == lport;
  return n;
}

/* Room for two, three in the two seconds that each has to stay: the third one's place is that of the first. */
static void test_full_oldest_goes(void **state) {
  uint16_t port[3] = {0};
  (void)state;
  rig_time_waits = 2;
  rig_open(&r, 3);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  const struct timewait *t = &r.host[0].w.timewait;
  for (uint32_t i = 0; i < 3; i++) {
    short_life(i, 1);
    usec_t last = 0;
    for (uint32_t k = 0; k < t->n; k++)
      if (t->tw[k].life == ABI_TW_USED && t->tw[k].end > last) {
        last = t->tw[k].end;
        port[i] = t->tw[k].lport;
      }
    assert_int_equal(t->used, i < 2 ? i + 1 : 2);
    assert_int_equal(count(0, EC_TW_FULL), i == 2);
    for (uint32_t k = 0; k < 6 && i < 2; k++)
      rig_step(&r, 100000); /* to another bucket */
  }
  assert_int_equal(has_time_wait(port[0]), 0);
  assert_int_equal(has_time_wait(port[1]), 1);
  assert_int_equal(has_time_wait(port[2]), 1);
  rig_close(&r);
}

static void test_full_counts(void **state) {
  (void)state;
  rig_time_waits = 3;
  rig_open(&r, 4);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  for (uint32_t i = 0; i < 5; i++)
    short_life(i, 1);
  assert_int_equal(r.host[0].w.timewait.used, 3);
  assert_int_equal(count(0, EC_TW_FULL), 2);
  rig_close(&r);
}

#define MANY 600000u /* ten thousand closes a second, for a minute */

static void many_tuple(uint32_t i, struct ip_addr *remote, uint16_t *port) {
  *remote = ip_addr_from4(0x0b000000u + i / 50000);
  *port = (uint16_t)(1024 + i % 50000);
}

/* Mean number of further cells that a look-up of something in the index looks at. */
static double index_detour(const struct hash_tab *t) {
  uint64_t sum = 0, n = 0;
  for (uint32_t i = 0; i <= t->now.mask; i++) {
    if (t->now.slots[i].cell == 0)
      continue;
    sum += (i - t->now.slots[i].hash) & t->now.mask;
    n++;
  }
  return n ? (double)sum / (double)n : 0;
}

/* The table as large as it is by default, and full: each record is found, what is not there is not, memory is as
 * stated, a further connection pushes one out, and all end in time, a bounded number per turn. */
static void test_six_hundred_thousand(void **state) {
  (void)state;
  rig_time_waits = MANY;
  rig_open(&r, 10);
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  struct worker *w = &r.host[0].w;
  struct ip_addr local = ip_addr_from4(0x0a000001u), remote;
  uint16_t port;
  for (uint32_t i = 0; i < MANY; i++) {
    struct abi_tw *tw = &w->timewait.tw[i];
    many_tuple(i, &remote, &port);
    *tw = (struct abi_tw){.life = ABI_TW_USED, .lport = 80, .rport = port, .end = rig_now() + 1000000 + i};
    memcpy(tw->local, &local, sizeof tw->local);
    memcpy(tw->remote, &remote, sizeof tw->remote);
  }
  w->tcbs.block->tw_high = MANY;
  rig_engine_kill(&r.host[0]);
  rig_engine_start(&r.host[0]); /* which takes them back */
  struct timewait *t = &w->timewait;
  assert_int_equal(t->used, MANY);
  for (uint32_t i = 0; i < MANY; i += 61) {
    many_tuple(i, &remote, &port);
    assert_int_equal(timewait_find(w, 0, &local, 80, &remote, port), i);
    assert_int_equal(timewait_find(w, 0, &local, 81, &remote, port), TIMEWAIT_NONE);
  }
  assert_null(t->index.old.slots);
  assert_true(index_detour(&t->index) < 2);
  size_t soft = sizeof *t->link + sizeof *t->free->next + (t->index.now.mask + 1ull) * sizeof(struct hash_slot) / MANY;
  assert_true(sizeof(struct abi_tw) + soft <= 90);
  short_life(0, 1);
  assert_int_equal(t->used, MANY);
  assert_int_equal(count(0, EC_TW_FULL), 1);
  many_tuple(MANY - 1, &remote, &port);
  for (uint32_t left = t->used, turns = 0; left > 0; turns++) {
    rig_step(&r, 1000);
    assert_true(left - t->used <= 4 * 512); /* a step is a few turns */
    assert_true(turns < 5000);
    left = t->used;
  }
  assert_int_equal(timewait_find(w, 0, &local, 80, &remote, port), TIMEWAIT_NONE);
  rig_close(&r);
}

/* One ephemeral port: it is refused while the TIME_WAIT is fresh, and taken over by timestamps after a second. */
static void test_connect_takes_over(void **state) {
  (void)state;
  rig_time_waits = 16;
  rig_open(&r, 5);
  r.host[0].cfg.port_lo = r.host[0].cfg.port_hi = 40000;
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  short_life(0, 1);
  struct rig_sess c, s;
  seq32_t old = r.host[0].w.timewait.tw[0].snd_nxt;
  rig_connect(&r.host[0], &c, 1, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  assert_int_equal(c.e->error, 99); /* EADDRNOTAVAIL */
  for (int i = 0; i < 11; i++)
    rig_step(&r, 100000);
  rig_connect(&r.host[0], &c, 2, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  assert_int_equal(count(0, EC_TW_REUSED), 1);
  assert_int_equal(r.host[0].w.timewait.used, 0);
  assert_true(seq_gt(r.host[0].w.tcbs.tcb[c.e->tcb].iss, old));
  rig_close(&r);
}

/* The server closes first and has the TIME_WAIT; the client comes again from the same port. */
static void test_syn_takes_over(void **state) {
  (void)state;
  rig_time_waits = 16;
  rig_open(&r, 6);
  r.host[0].cfg.port_lo = r.host[0].cfg.port_hi = 40000;
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  struct rig_sess c, s;
  rig_connect(&r.host[0], &c, 0, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  let_go(&s);
  for (int i = 0; i < 3000 && !rig_eof(&c); i++)
    rig_step(&r, 100);
  rig_want(&c, ABI_WANT_CLOSE);
  rig_until(&r, &c, ABI_SESS_CLOSED);
  rig_turns(&r, 50);
  assert_int_equal(r.host[1].w.timewait.used, 1);
  seq32_t old = r.host[1].w.timewait.tw[0].snd_nxt;
  rig_connect(&r.host[0], &c, 1, 1, 80, 4);
  rig_until(&r, &c, ABI_SESS_READY);
  rig_accept_at(&r, 0, &s);
  assert_int_equal(count(1, EC_TW_REUSED), 1);
  assert_int_equal(r.host[1].w.timewait.used, 0);
  assert_true(seq_gt(r.host[1].w.tcbs.tcb[s.e->tcb].iss, old));
  rig_close(&r);
}

/* Many destinations' worth of connects in a small range: all ports are used, none twice, then EADDRNOTAVAIL. */
static void test_ports_all_used(void **state) {
  (void)state;
  rig_open(&r, 7);
  r.host[0].cfg.port_lo = 50000;
  r.host[0].cfg.port_hi = 50007;
  rig_listen(&r.host[1], 0, 80, 4, 1);
  rig_turns(&r, 2);
  static struct rig_sess c[9];
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 9; i++) {
    rig_connect(&r.host[0], &c[i], i, 1, 80, 4);
    rig_until(&r, &c[i], i < 8 ? ABI_SESS_READY : ABI_SESS_CLOSED);
    if (i < 8)
      seen |= 1u << (be16_get(c[i].e->local.port) - 50000);
  }
  assert_int_equal(seen, 0xff);
  assert_int_equal(c[8].e->error, 99); /* EADDRNOTAVAIL */
  rig_close(&r);
}

/* nicio dies with the SYN in its hands: the connect is through a few ms after the successor came, not after the RTO. */
static void test_connect_while_nicio_dies(void **state) {
  (void)state;
  open_with_listener(8);
  struct rig_sess c;
  for (int i = 0; i < 50; i++)
    rig_step(&r, 100); /* neighbours are known, announcements over */
  short_life(0, 1);
  r.loss = 1;
  rig_connect(&r.host[0], &c, 1, 1, 80, 4);
  rig_turns(&r, 5);
  assert_int_equal(rig_state(&c), ABI_SESS_CONNECTING);
  r.loss = 0;
  rig_nicio_restart(&r.host[0]);
  usec_t began = rig_now();
  rig_until(&r, &c, ABI_SESS_READY);
  assert_true(rig_now() - began < 20000);
  rig_close(&r);
}

/* No frame left when the app connects: the SYN goes out when there is one. */
static void test_connect_without_frame(void **state) {
  (void)state;
  open_with_listener(9);
  short_life(0, 1);
  struct rig_sess c;
  struct worker *w = &r.host[0].w;
  rig_turns(&r, 50); /* all are home */
  uint32_t frames = w->n_tx_free;
  w->n_tx_free = 0;
  rig_connect(&r.host[0], &c, 1, 1, 80, 4);
  rig_turns(&r, 2);
  assert_true(tcp_count(0, TCP_C_send_failed) > 0);
  assert_int_equal(rig_state(&c), ABI_SESS_CONNECTING);
  w->n_tx_free = frames;
  session_unstarve(w);
  usec_t began = rig_now();
  rig_until(&r, &c, ABI_SESS_READY);
  assert_true(rig_now() - began < 20000);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_record_takes_the_place),   cmocka_unit_test(test_survives_the_engine),
      cmocka_unit_test(test_full_oldest_goes),         cmocka_unit_test(test_full_counts),
      cmocka_unit_test(test_six_hundred_thousand),     cmocka_unit_test(test_connect_takes_over),
      cmocka_unit_test(test_syn_takes_over),           cmocka_unit_test(test_ports_all_used),
      cmocka_unit_test(test_connect_while_nicio_dies), cmocka_unit_test(test_connect_without_frame),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
