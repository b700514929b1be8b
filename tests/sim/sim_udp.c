/*
 * Datagrams between two whole engines: boundaries and contents, fragments, segments of one send, ICMP errors, shares of
 * a port, lies in a tx fifo, the engine's death at every fault point on the way; and a toy transport, which shows that
 * the session layer needs no change for another one, nor for the growth policy that it sets.
 */
#include "abi/dgram.h"
#include "base/fault.h"
#include "engine_death.h"
#include "test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UDP       1u
#define NAMES_MAX 256u

static void steps(struct rig *r, uint32_t n) {
  while (n--)
    engine_death_step(r, 200);
}

static uint8_t pattern(uint32_t number, uint32_t pos) {
  return (uint8_t)(((number * 131u + pos) * 2654435761u) >> 11);
}

/* One datagram of `len` bytes that says its number; 0 when there is no room. */
static int put(struct rig_sess *s, const struct abi_endpoint *to, uint32_t number, uint32_t len, uint16_t seg) {
  static uint8_t bytes[ABI_DGRAM_MAX];
  struct abi_dgram d = {.len = len, .seg = seg};
  if (to) {
    memcpy(d.ip, to->ip, 16);
    d.port = to->port;
    d.family = to->family;
  }
  if (fifo_prod_room(&s->tx) < (int64_t)(sizeof d + len))
    return 0;
  for (uint32_t i = 0; i < len; i++)
    bytes[i] = pattern(number, i);
  assert_int_equal(fifo_prod_place(&s->tx, 0, &d, sizeof d), sizeof d);
  assert_int_equal(fifo_prod_place(&s->tx, sizeof d, bytes, len), len);
  fifo_prod_publish(&s->tx, (uint32_t)sizeof d + len);
  rig_hint(s->h, s->slot);
  return 1;
}

/* The next datagram: its length, or -1. Its bytes are those of `number` from `off` on. */
static int64_t get(struct rig_sess *s, uint32_t number, uint32_t off, struct abi_dgram *d) {
  static uint8_t bytes[ABI_DGRAM_MAX];
  int64_t used = fifo_cons_used(&s->rx);
  assert_true(used >= 0);
  if (used == 0)
    return -1;
  assert_int_equal(fifo_cons_read(&s->rx, d, sizeof *d), sizeof *d);
  assert_true(d->len <= ABI_DGRAM_MAX);
  assert_int_equal(fifo_cons_read(&s->rx, bytes, d->len), d->len);
  for (uint32_t i = 0; number != UINT32_MAX && i < d->len; i++)
    if (bytes[i] != pattern(number, off + i))
      fail_msg("datagram %u, after %s: byte %u is wrong", number, engine_death_where(), i);
  return d->len;
}

static void request(struct rig_sess *s, uint8_t kind, const struct abi_endpoint *remote) {
  struct abi_request rq = {.id = 1, .proto = UDP, .kind = kind};
  if (remote)
    rq.remote = *remote;
  s->a->req = rq;
  __atomic_store_n(&s->a->req_seq, s->a->req_seq + 1, __ATOMIC_RELEASE);
  rig_hint(s->h, s->slot);
}

struct two {
  struct rig r;
  struct rig_sess c, s; /* c sends from host 0, s has port 53 on host 1 */
};
static struct two two;

static void two_open(uint64_t seed, int family) {
  memset(&two, 0, sizeof two);
  rig_open(&two.r, seed);
  rig_policy(&two.r.host[1], 3, 1, UDP, 53, 6);
  steps(&two.r, 2);
  rig_open_dgram(&two.r.host[1], &two.s, 3, 1, UDP, 6);
  rig_open_dgram(&two.r.host[0], &two.c, 5, 1, UDP, family);
  steps(&two.r, 2);
  assert_int_equal(two.s.e->state, ABI_SESS_READY);
  assert_int_equal(two.c.e->state, ABI_SESS_READY);
  assert_int_equal(be16_get(two.s.e->local.port), 53);
  assert_true(be16_get(two.c.e->local.port) >= 1024);
}

static void two_close(void) {
  rig_want(&two.c, ABI_WANT_CLOSE);
  rig_want(&two.s, ABI_WANT_CLOSE);
  for (int i = 0; i < 50; i++)
    engine_death_step(&two.r, 1000);
  assert_int_equal(two.c.e->state, ABI_SESS_CLOSED);
  assert_int_equal(two.s.e->state, ABI_SESS_CLOSED);
  for (int i = 0; i < 2; i++) {
    struct worker *w = &two.r.host[i].w;
    assert_int_equal(w->sessions.n_used, 0);
    assert_int_equal(arena_free_bytes(w->app[0]->arena), w->app[0]->v.ge.arena_size);
  }
  rig_close(&two.r);
}

static void test_there_and_back(void **state) {
  static const uint32_t sizes[] = {0, 1, 48, 1472, 1473, 3640, 3641, 9000, 65507};
  (void)state;
  for (int family = 4; family <= 6; family += 2) {
    two_open(7, family);
    struct abi_endpoint to = rig_endpoint(2, 53, family);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      struct abi_dgram d;
      assert_int_equal(put(&two.c, &to, i, sizes[i], 0), 1);
      steps(&two.r, 60);
      assert_int_equal(get(&two.s, i, 0, &d), sizes[i]);
      assert_int_equal(d.family, family);
      assert_int_equal(d.port.raw, two.c.e->local.port.raw);
      assert_memory_equal(d.local, to.ip, 16);
      struct abi_endpoint back = {.port = d.port, .family = d.family};
      memcpy(back.ip, d.ip, 16);
      assert_int_equal(put(&two.s, &back, i + 100, sizes[i], 0), 1);
      steps(&two.r, 60);
      assert_int_equal(get(&two.c, i + 100, 0, &d), sizes[i]);
      assert_memory_equal(d.ip, to.ip, 16); /* from the address that was asked */
    }
    two_close();
  }
}

/* The first datagram to a stranger is longer than a frame: it waits for the neighbour's address. */
static void test_long_one_first(void **state) {
  struct abi_endpoint to = rig_endpoint(2, 53, 4);
  struct abi_dgram d;
  (void)state;
  two_open(15, 4);
  assert_int_equal(put(&two.c, &to, 1, 8000, 0), 1);
  assert_int_equal(put(&two.c, &to, 2, 10, 0), 1);
  steps(&two.r, 60);
  assert_int_equal(get(&two.s, 1, 0, &d), 8000);
  assert_int_equal(get(&two.s, 2, 0, &d), 10);
  two_close();
}

static void test_segments(void **state) {
  struct abi_dgram d;
  (void)state;
  two_open(8, 4);
  struct abi_endpoint to = rig_endpoint(2, 53, 4);
  assert_int_equal(put(&two.c, &to, 1, 3500, 1000), 1);
  steps(&two.r, 40);
  for (uint32_t off = 0; off < 3500; off += 1000)
    assert_int_equal(get(&two.s, 1, off, &d), off == 3000 ? 500 : 1000);
  assert_int_equal(get(&two.s, 1, 0, &d), -1);
  two_close();
}

static void test_refused(void **state) {
  struct abi_endpoint nobody = rig_endpoint(2, 54, 4), to = rig_endpoint(2, 53, 4);
  struct abi_dgram d;
  (void)state;
  two_open(9, 4);
  assert_int_equal(put(&two.c, &nobody, 0, 10, 0), 1); /* not connected: nobody is told */
  steps(&two.r, 40);
  assert_int_equal(two.c.e->soft_error, 0);
  request(&two.c, ABI_REQ_CONNECT, &nobody);
  steps(&two.r, 4);
  assert_int_equal(two.c.e->req_seen, 2);
  assert_int_equal(two.c.e->req_error, 0);
  assert_memory_equal(two.c.e->local.ip, rig_endpoint(1, 0, 4).ip, 16);
  for (uint32_t i = 1; i <= 2; i++) {
    assert_int_equal(put(&two.c, NULL, 0, 10, 0), 1);
    steps(&two.r, 40);
    assert_int_equal(two.c.e->soft_error, i << 16 | ECONNREFUSED);
  }
  request(&two.c, ABI_REQ_CONNECT, &to);
  steps(&two.r, 4);
  assert_int_equal(put(&two.c, NULL, 5, 10, 0), 1);
  steps(&two.r, 10);
  assert_int_equal(get(&two.s, 5, 0, &d), 10);
  request(&two.c, ABI_REQ_CONNECT, NULL); /* dissolved: port and address go */
  steps(&two.r, 4);
  assert_int_equal(two.c.e->remote.family, 0);
  assert_int_equal(two.c.e->local.port.raw, 0);
  assert_int_equal(put(&two.c, &to, 6, 10, 0), 1);
  steps(&two.r, 10);
  assert_int_equal(get(&two.s, 6, 0, &d), 10);
  two_close();
}

static void test_connected_hears_its_peer_alone(void **state) {
  struct abi_endpoint to = rig_endpoint(2, 53, 4);
  struct rig_sess other;
  struct abi_dgram d;
  (void)state;
  two_open(10, 4);
  rig_open_dgram(&two.r.host[0], &other, 6, 1, UDP, 4);
  request(&two.c, ABI_REQ_CONNECT, &to);
  steps(&two.r, 4);
  struct abi_endpoint c = rig_endpoint(1, be16_get(two.c.e->local.port), 4);
  struct abi_endpoint peer = c;
  request(&two.s, ABI_REQ_CONNECT, &peer);
  steps(&two.r, 4);
  assert_int_equal(put(&other, &to, 1, 10, 0), 1);
  assert_int_equal(put(&two.c, NULL, 2, 20, 0), 1);
  steps(&two.r, 40);
  assert_int_equal(get(&two.s, 2, 0, &d), 20);
  assert_int_equal(get(&two.s, 2, 0, &d), -1);
  rig_want(&other, ABI_WANT_CLOSE);
  two_close();
}

static void test_shares_of_a_port(void **state) {
  struct rig_sess share[4];
  uint32_t got[4] = {0};
  struct abi_dgram d;
  (void)state;
  two_open(11, 4);
  for (uint32_t i = 0; i < 4; i++)
    rig_policy(&two.r.host[1], 10 + i, 1, UDP, 99, 6);
  steps(&two.r, 2);
  for (uint32_t i = 0; i < 4; i++)
    rig_open_dgram(&two.r.host[1], &share[i], 10 + i, 1, UDP, 6);
  struct abi_endpoint to = rig_endpoint(2, 99, 4), known = rig_endpoint(2, 53, 4);
  assert_int_equal(put(&two.c, &known, 0, 1, 0), 1);
  steps(&two.r, 40);
  for (uint32_t round = 0; round < 24; round++) { /* each from a port of its own, twice: to the same share */
    uint32_t who = 0;
    for (uint32_t twice = 0; twice < 2; twice++) {
      assert_int_equal(put(&two.c, &to, round, 10, 0), 1);
      steps(&two.r, 6);
      uint32_t n = 0;
      for (uint32_t i = 0; i < 4; i++) {
        if (get(&share[i], round, 0, &d) < 0)
          continue;
        got[i]++;
        n++;
        if (twice)
          assert_int_equal(who, i);
        who = i;
      }
      assert_int_equal(n, 1);
    }
    request(&two.c, ABI_REQ_CONNECT, &to); /* and dissolved: another port next time */
    steps(&two.r, 2);
    request(&two.c, ABI_REQ_CONNECT, NULL);
    steps(&two.r, 2);
  }
  for (uint32_t i = 0; i < 4; i++) {
    assert_true(got[i] > 0);
    rig_want(&share[i], ABI_WANT_CLOSE);
  }
  two_close();
}

/* More than the receiver's fifo holds: what does not fit is dropped whole and counted. */
static void test_full(void **state) {
  struct abi_endpoint to = rig_endpoint(2, 53, 4);
  struct abi_dgram d;
  uint32_t sent = 0, got = 0;
  int64_t n;
  (void)state;
  two_open(12, 4);
  for (uint32_t i = 0; i < 400; i++) {
    sent += (uint32_t)put(&two.c, &to, i, 1400, 0);
    steps(&two.r, 4);
  }
  steps(&two.r, 20);
  while ((n = get(&two.s, UINT32_MAX, 0, &d)) >= 0) {
    assert_int_equal(n, 1400);
    got++;
  }
  assert_true(sent == 400 && got < sent && got > 100);
  assert_int_equal(got + two.s.e->figures.lost, sent);
  two_close();
}

static void test_lies(void **state) {
  static const struct abi_dgram lies[] = {
      {.len = ABI_DGRAM_MAX + 1}, {.len = 500}, {.len = 10, .family = 5}, {.len = 100, .seg = 0xffff, .family = 99}};
  (void)state;
  for (uint32_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    two_open(13, 4);
    two.r.host[0].may_lie = 1;
    assert_true(fifo_prod_write(&two.c.tx, &lies[i], sizeof lies[i]) > 0);
    assert_true(fifo_prod_write(&two.c.tx, lies, 100) > 0);
    rig_hint(&two.r.host[0], two.c.slot);
    steps(&two.r, 4);
    assert_non_null(two.r.host[0].lied);
    rig_close(&two.r);
  }
}

/* A life in which host `victim` dies at the nth passing of `name`: whatever was under way, both sockets go on. */
static int life(const char *name, int victim, uint32_t nth) {
  struct abi_endpoint to = rig_endpoint(2, 53, 4);
  struct abi_dgram d;
  memset(&two, 0, sizeof two);
  rig_open(&two.r, 20u + nth);
  rig_policy(&two.r.host[1], 3, 1, UDP, 53, 6);
  steps(&two.r, 2);
  engine_death_plan(&two.r.host[victim], name, nth);
  rig_open_dgram(&two.r.host[1], &two.s, 3, 1, UDP, 6);
  rig_open_dgram(&two.r.host[0], &two.c, 5, 1, UDP, 4);
  steps(&two.r, 4);
  uint32_t copies[12] = {0};
  for (uint32_t i = 0; i < 12; i++) {
    if (i == 4)
      request(&two.c, ABI_REQ_CONNECT, &to);
    if (i == 8) { /* the last request was acted on, perhaps twice */
      assert_int_equal(two.c.e->req_seen, two.c.a->req_seq);
      request(&two.c, ABI_REQ_CONNECT, NULL);
    }
    assert_int_equal(put(&two.c, i >= 4 && i < 8 ? NULL : &to, i, 100 + 900 * (i % 3), 0), 1);
    steps(&two.r, 30);
    int64_t n;
    while ((n = get(&two.s, i, 0, &d)) >= 0) {
      assert_int_equal(n, 100 + 900 * (i % 3));
      copies[i]++;
    }
  }
  int died = engine_death_over();
  uint32_t lost = 0;
  for (uint32_t i = 0; i < 12; i++) {
    lost += copies[i] == 0;
    if (copies[i] > (victim == 1 ? 2u : 1u)) /* the sender sends once; what had not come home comes again */
      fail_msg("died at %s: datagram %u came %u times", engine_death_where(), i, copies[i]);
  }
  if (lost > 2)
    fail_msg("host %d died at %s, passing %u: %u datagrams lost", victim, engine_death_where(), nth, lost);
  assert_int_equal(put(&two.c, &to, 77, 10, 0), 1);
  steps(&two.r, 30);
  assert_int_equal(get(&two.s, 77, 0, &d), 10);
  two_close();
  return died;
}

static void test_every_point(void **state) {
  static const char *const passed[] = {
      "udp.record",    "udp.open",  "udp.tx",    "udp.rx",    "session.request", "session.request.error",
      "session.clear", "fifo.head", "fifo.tail", "fifo.chunk"};
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) {
    int hit = 0;
    for (int victim = 0; victim < 2; victim++)
      for (uint32_t nth = 1; nth <= 7; nth += 2)
        hit |= life(passed[i], victim, nth);
    if (!hit)
      fail_msg("never passed: %s", passed[i]);
  }
}

/* --- a transport of another kind: what is written comes back, each byte plus one --- */

#define TOY_FIRST 2048u
#define TOY_MOST  8192u

/* Its growth policy: who reads a whole room at once gets twice of it, up to TOY_MOST, and may write twice of what fits.
 */
static void toy_room(struct session *s, uint32_t room) {
  fifo_prod_size_set(&s->rx, room);
  __atomic_store_n(&s->e->tx_limit, 2 * room, __ATOMIC_RELEASE);
}

static int toy_open(struct worker *w, struct session *s, const struct abi_request *req, usec_t now) {
  (void)w;
  (void)req;
  (void)now;
  s->priv[0] = 1; /* what it adds */
  s->e->gen = s->gen;
  toy_room(s, TOY_FIRST);
  session_set_state(s, ABI_SESS_READY);
  return 0;
}

static int toy_output(struct worker *w, struct session *s, usec_t now) {
  uint8_t bytes[256];
  int64_t n, room;
  (void)w;
  (void)now;
  while ((room = fifo_prod_room(&s->rx)) > 0 &&
         (n = fifo_cons_read(&s->tx, bytes, room < (int64_t)sizeof bytes ? (uint32_t)room : sizeof bytes)) > 0) {
    for (int64_t i = 0; i < n; i++)
      bytes[i] = (uint8_t)(bytes[i] + s->priv[0]);
    (void)fifo_prod_write(&s->rx, bytes, (uint32_t)n);
    app_hint(s->app, s->slot);
  }
  return 0;
}

static void toy_consumed(struct worker *w, struct session *s, usec_t now) {
  uint32_t head = s->rx.head;
  (void)fifo_prod_room(&s->rx);
  if (s->rx.head - head == s->rx.size && s->rx.size < TOY_MOST)
    toy_room(s, s->rx.size * 2);
  (void)toy_output(w, s, now);
}

static int toy_request(struct worker *w, struct session *s, const struct abi_request *req, usec_t now) {
  (void)w;
  (void)now;
  s->priv[0] = (uint8_t)req->ifindex;
  return req->ifindex == 0 ? -ERANGE : 0;
}

static void toy_abort(struct worker *w, struct session *s, int err, usec_t now) {
  (void)err;
  (void)now;
  s->app_closed = 1;
  session_transport_gone(w, s);
}

static const struct transport_ops toy = {.name = "toy",
                                         .proto = 6,
                                         .priv_size = 1,
                                         .open = toy_open,
                                         .request = toy_request,
                                         .output = toy_output,
                                         .consumed = toy_consumed,
                                         .abort = toy_abort};

/* Port 9 is a session's of namespace 1. */
static int toy_port_ns(struct worker *w, uint32_t vrf, const struct ip_addr *dst, uint16_t port, uint32_t *ns) {
  (void)w;
  (void)dst;
  assert_int_equal(vrf, 0);
  *ns = 1;
  return port == 9;
}

/* Opens a session that has a peer at this host's own address, of an app that keeps to its namespace. errno. */
static uint32_t toy_wall(struct rig *r, uint32_t slot, uint8_t proto, uint16_t port) {
  struct rig_sess s;
  rig_open_dgram(&r->host[0], &s, slot, 1, proto, 4);
  s.a->req.remote = rig_endpoint(1, port, 4);
  s.a->req.reuse = ABI_REQ_LOCAL;
  steps(r, 4);
  assert_int_equal(s.e->state, s.e->error ? ABI_SESS_CLOSED : ABI_SESS_READY);
  uint32_t error = s.e->error;
  rig_want(&s, ABI_WANT_CLOSE);
  steps(r, 4);
  return error;
}

/* Whose a port is that no listener has: the transport says, or it is nobody's. */
static void test_toy_wall(void **state) {
  static struct rig r;
  struct transport_ops walled = toy, bad = toy;
  (void)state;
  walled.proto = 5;
  walled.port_ns = toy_port_ns;
  bad.proto = 4;
  bad.ip_proto = 250; /* and no input */
  rig_open(&r, 1);
  assert_int_equal(transport_add(&r.host[0].w, &bad), -EINVAL);
  assert_int_equal(transport_add(&r.host[0].w, &toy), 0);
  assert_int_equal(transport_add(&r.host[0].w, &walled), 0);
  assert_int_equal(toy_wall(&r, 0, toy.proto, 9), 0);
  assert_int_equal(toy_wall(&r, 1, walled.proto, 8), 0);
  assert_int_equal(toy_wall(&r, 2, walled.proto, 9), ECONNREFUSED);
  rig_close(&r);
}

/* The fifos of a toy session grow as the toy has it: each row writes, finds the room full, and reads that. */
static void toy_grows(struct rig_sess *s, struct rig *r) {
  static const struct {
    uint32_t write, room, left;
  } row[] = {{2058, 2048, 10}, {5000, 4096, 914}, {10000, 8192, 2722}, {8192, 8192, 2722}};
  static char bytes[16384];
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    assert_int_equal(s->e->tx_limit, 2 * row[i].room);
    assert_int_equal(rig_write(s, bytes, row[i].write), row[i].write);
    steps(r, 4);
    assert_int_equal(fifo_cons_used(&s->rx), row[i].room); /* the rest waits in the tx fifo */
    assert_int_equal(rig_read(s, bytes, row[i].room), row[i].room);
    steps(r, 4);
    assert_int_equal(fifo_cons_used(&s->rx), row[i].left);
  }
  assert_int_equal(rig_read(s, bytes, sizeof bytes), row[3].left);
  steps(r, 4);
}

static void test_toy(void **state) {
  static struct rig r;
  struct rig_sess s, none;
  char back[6] = {0};
  (void)state;
  rig_open(&r, 1);
  assert_int_equal(transport_add(&r.host[0].w, &toy), 0);
  assert_int_equal(transport_add(&r.host[0].w, &toy), -EEXIST);
  rig_open_dgram(&r.host[0], &s, 0, 1, toy.proto, 4);
  rig_open_dgram(&r.host[0], &none, 1, 1, 7, 4); /* a transport that is not there */
  steps(&r, 4);
  assert_int_equal(s.e->state, ABI_SESS_READY);
  toy_grows(&s, &r);
  assert_int_equal(none.e->state, ABI_SESS_CLOSED);
  assert_int_equal(none.e->error, EPROTONOSUPPORT);
  assert_int_equal(rig_write(&s, "HAL", 3), 3);
  steps(&r, 4);
  assert_int_equal(rig_read(&s, back, 5), 3);
  assert_string_equal(back, "IBM");
  s.a->req = (struct abi_request){.proto = toy.proto, .ifindex = 0};
  s.a->req_seq = 2;
  rig_hint(&r.host[0], 0);
  steps(&r, 2);
  assert_int_equal(s.e->req_seen, 2);
  assert_int_equal(s.e->req_error, ERANGE);
  rig_want(&s, ABI_WANT_CLOSE); /* it has no close: aborted */
  steps(&r, 4);
  assert_int_equal(s.e->state, ABI_SESS_CLOSED);
  assert_int_equal(r.host[0].w.sessions.n_used, 0);
  rig_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back),
                                     cmocka_unit_test(test_long_one_first),
                                     cmocka_unit_test(test_segments),
                                     cmocka_unit_test(test_refused),
                                     cmocka_unit_test(test_connected_hears_its_peer_alone),
                                     cmocka_unit_test(test_shares_of_a_port),
                                     cmocka_unit_test(test_full),
                                     cmocka_unit_test(test_lies),
                                     cmocka_unit_test(test_every_point),
                                     cmocka_unit_test(test_toy),
                                     cmocka_unit_test(test_toy_wall)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
