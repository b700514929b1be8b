/*
 * Sessions of datagrams that borrow the port of a bound one of the same app worker (what the library's accept asks
 * for): whose datagrams come where, who may borrow what, and the engine's death at the points of such an open.
 */
#include "abi/dgram.h"
#include "base/fault.h"
#include "engine_death.h"
#include "test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define UDP     1u
#define BOUND   3u /* slot of the session that has PORT, on host 1 */
#define PORT    53
#define FOREIGN 54 /* a port that another app worker has */

struct peers {
  struct rig r;
  struct rig_sess l, a, b, lent; /* the bound one; two clients on host 0; one for the peer a */
};
static struct peers p;

static void steps(uint32_t n) {
  while (n--)
    engine_death_step(&p.r, 200);
}

static void send_byte(struct rig_sess *s, const struct abi_endpoint *to, uint8_t byte) {
  struct abi_dgram d = {.len = 1};
  if (to) {
    memcpy(d.ip, to->ip, 16);
    d.port = to->port;
    d.family = to->family;
  }
  assert_int_equal(fifo_prod_place(&s->tx, 0, &d, sizeof d), sizeof d);
  assert_int_equal(fifo_prod_place(&s->tx, sizeof d, &byte, 1), 1);
  fifo_prod_publish(&s->tx, (uint32_t)sizeof d + 1);
  rig_hint(s->h, s->slot);
  steps(20);
}

/* The next datagram's byte and its header, -1 if there is none. */
static int get_byte(struct rig_sess *s, struct abi_dgram *d) {
  uint8_t byte;
  if (fifo_cons_used(&s->rx) == 0)
    return -1;
  assert_int_equal(fifo_cons_read(&s->rx, d, sizeof *d), sizeof *d);
  assert_int_equal(d->len, 1);
  assert_int_equal(fifo_cons_read(&s->rx, &byte, 1), 1);
  return byte;
}

static void ask(struct rig_sess *s, uint32_t slot, uint8_t kind, const struct abi_endpoint *local,
                const struct abi_endpoint *remote) {
  rig_open_dgram(&p.r.host[1], s, slot, 1, UDP, 4);
  s->a->req.kind = kind; /* before the engine's next turn */
  s->a->req.local = *local;
  s->a->req.remote = *remote;
}

static struct abi_endpoint client(const struct rig_sess *s) {
  return rig_endpoint(1, be16_get(s->e->local.port), 4);
}

static void start(uint64_t seed) {
  memset(&p, 0, sizeof p);
  rig_open(&p.r, seed);
  rig_policy(&p.r.host[1], BOUND, 1, UDP, PORT, 6);
  p.r.host[1].number = 9; /* whose entry the next one is */
  rig_policy(&p.r.host[1], BOUND, 1, UDP, FOREIGN, 6);
  p.r.host[1].number = 2;
  steps(2);
  rig_open_dgram(&p.r.host[1], &p.l, BOUND, 1, UDP, 6);
  rig_open_dgram(&p.r.host[0], &p.a, 5, 1, UDP, 4);
  rig_open_dgram(&p.r.host[0], &p.b, 6, 1, UDP, 4);
  steps(4);
  assert_int_equal(p.l.e->state, ABI_SESS_READY);
  assert_int_equal(p.b.e->state, ABI_SESS_READY);
}

static void finish(void) {
  struct rig_sess *all[] = {&p.l, &p.a, &p.b, &p.lent};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    rig_want(all[i], ABI_WANT_CLOSE);
  for (int i = 0; i < 50; i++)
    engine_death_step(&p.r, 1000);
  assert_int_equal(p.r.host[0].w.sessions.n_used, 0);
  assert_int_equal(p.r.host[1].w.sessions.n_used, 0);
  rig_close(&p.r);
}

/* One opened for the peer a: what a sends comes there, what b sends to the bound one; it answers a alone. */
static void speak(void) {
  const struct abi_endpoint to = rig_endpoint(2, PORT, 4);
  struct abi_dgram d;
  struct abi_endpoint local = p.lent.e->local;
  assert_int_equal(p.lent.e->state, ABI_SESS_READY);
  assert_memory_equal(local.ip, to.ip, 16);
  assert_int_equal(be16_get(local.port), PORT);
  send_byte(&p.a, &to, 1);
  send_byte(&p.b, &to, 2);
  assert_int_equal(get_byte(&p.lent, &d), 1);
  assert_int_equal(get_byte(&p.lent, &d), -1);
  assert_int_equal(get_byte(&p.l, &d), 2);
  assert_int_equal(get_byte(&p.l, &d), -1);
  send_byte(&p.lent, NULL, 3);
  assert_int_equal(get_byte(&p.a, &d), 3);
  assert_int_equal(be16_get(d.port), PORT); /* from where it had sent to */
  assert_memory_equal(d.ip, to.ip, 16);
  assert_int_equal(get_byte(&p.b, &d), -1);
}

static void test_lent(void **state) {
  (void)state;
  start(1);
  struct abi_endpoint here = rig_endpoint(2, PORT, 4), peer = client(&p.a);
  ask(&p.lent, 7, ABI_REQ_CONNECT, &here, &peer);
  steps(4);
  speak();
  rig_engine_kill(&p.r.host[1]);
  rig_engine_start(&p.r.host[1]);
  steps(10);
  speak();
  struct abi_dgram d;
  rig_want(&p.l, ABI_WANT_CLOSE); /* it does not need the bound one any more */
  steps(4);
  send_byte(&p.a, &here, 4);
  assert_int_equal(get_byte(&p.lent, &d), 4);
  finish();
}

static uint32_t connect_again(const struct abi_endpoint *to) {
  p.lent.a->req = (struct abi_request){.id = 1, .proto = UDP, .kind = ABI_REQ_CONNECT, .remote = *to};
  __atomic_store_n(&p.lent.a->req_seq, p.lent.a->req_seq + 1, __ATOMIC_RELEASE);
  rig_hint(p.lent.h, p.lent.slot);
  steps(4);
  assert_int_equal(p.lent.e->req_seen, p.lent.a->req_seq);
  return p.lent.e->req_error;
}

/* Another peer, from the same port, while it is lent; once it is not any more the peer that it has stays all. */
static void test_other_peer(void **state) {
  (void)state;
  for (int killed = 0; killed < 2; killed++) {
    start(4);
    struct abi_endpoint here = rig_endpoint(2, PORT, 4), a = client(&p.a), b = client(&p.b);
    struct abi_dgram d;
    ask(&p.lent, 7, ABI_REQ_CONNECT, &here, &b);
    steps(4);
    assert_int_equal(connect_again(&a), 0);
    speak();
    rig_want(&p.l, ABI_WANT_CLOSE);
    rig_policy_gone(&p.r.host[1], PORT);
    steps(4);
    if (killed) {
      rig_engine_kill(&p.r.host[1]);
      rig_engine_start(&p.r.host[1]);
      steps(10);
    }
    assert_int_equal(connect_again(&b), EACCES);
    send_byte(&p.b, &here, 1);
    assert_int_equal(get_byte(&p.lent, &d), -1);
    send_byte(&p.a, &here, 2);
    assert_int_equal(get_byte(&p.lent, &d), 2);
    finish();
  }
}

static void test_refused(void **state) {
  struct rig_sess s;
  (void)state;
  start(2);
  struct abi_endpoint here = rig_endpoint(2, PORT, 4), peer = client(&p.a), none = {.family = 0};
  const struct {
    struct abi_endpoint local;
    uint8_t kind;
    const struct abi_endpoint *remote;
    uint32_t error;
  } row[] = {
      {here, ABI_REQ_CONNECT, &peer, EADDRINUSE}, /* the peer has one */
      {here, ABI_REQ_PROBE, &peer, EACCES},
      {here, ABI_REQ_CONNECT, &none, EACCES}, /* bound already, and not by this slot */
      {rig_endpoint(2, FOREIGN, 4), ABI_REQ_CONNECT, &peer, EACCES},
      {rig_endpoint(2, 999, 4), ABI_REQ_CONNECT, &peer, EACCES},
      {rig_endpoint(2, PORT, 6), ABI_REQ_CONNECT, &peer, EINVAL}, /* a source of another family */
  };
  ask(&p.lent, 7, ABI_REQ_CONNECT, &here, &peer);
  steps(4);
  for (uint32_t i = 0; i < sizeof row / sizeof *row; i++) {
    ask(&s, 8 + i, row[i].kind, &row[i].local, row[i].remote);
    steps(4);
    assert_int_equal(s.e->state, ABI_SESS_CLOSED);
    if (s.e->error != row[i].error)
      fail_msg("row %u: error %u, not %u", i, s.e->error, row[i].error);
  }
  speak();
  finish();
}

/* An address that is none of ours, as a group's datagram has it: the route says which. */
static void test_group(void **state) {
  (void)state;
  start(3);
  struct abi_endpoint group = rig_endpoint(2, PORT, 4), peer = client(&p.a);
  group.ip[12] = 239;
  ask(&p.lent, 7, ABI_REQ_CONNECT, &group, &peer);
  steps(4);
  speak();
  finish();
}

static void test_every_point(void **state) {
  static const char *const at[] = {"udp.record", "udp.open", "session.clear", "udp.rx", "udp.tx"};
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  for (uint32_t i = 0; i < sizeof at / sizeof *at; i++) {
    start(10 + i);
    struct abi_endpoint here = rig_endpoint(2, PORT, 4), peer = client(&p.a);
    engine_death_plan(&p.r.host[1], at[i], 1);
    ask(&p.lent, 7, ABI_REQ_CONNECT, &here, &peer);
    steps(10);
    send_byte(&p.a, &here, 9); /* may be lost, or come again */
    send_byte(&p.lent, NULL, 9);
    assert_true(engine_death_over());
    struct abi_dgram d;
    while (get_byte(&p.lent, &d) >= 0 || get_byte(&p.l, &d) >= 0 || get_byte(&p.a, &d) >= 0)
      ;
    speak();
    finish();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_lent), cmocka_unit_test(test_other_peer),
                                     cmocka_unit_test(test_refused), cmocka_unit_test(test_group),
                                     cmocka_unit_test(test_every_point)};
  return cmocka_run_group_tests_name("peers of a port", tests, NULL, NULL);
}
