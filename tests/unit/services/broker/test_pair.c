/*
 * Pairs for cut-through (pair.c): which listener is granted to whom, what each side gets, and when; hs-broker as a
 * process, with doubles of the services and of apps. The accepting side's descriptors are in its bell before the
 * connecting side has its own, and whatever dies then, bytes are there.
 */
#include "abi/registry.h"
#include "attach.pb-c.h"
#include "base/err.h"
#include "base/fault.h"
#include "broker_rig.h"
#include "ctl/attach.h"
#include "shm/bell.h"
#include "test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 80

struct grant {
  uint64_t id;
  uint32_t listener_id, slot, backlog, shares;
  int own_address, n_fds, fds[ATTACH_FDS_MAX];
};

static int setup(void **state) {
  return rig_setup(state, "namespaces: [{id: blue}, {id: red}]");
}

/** A listener that waits for connections. Its id. */
static uint32_t app_listens(struct rig_app *a, uint32_t slot, const char *ip, unsigned flags) {
  uint32_t id = 0;
  assert_int_equal(rig_app_bind(a, slot, 1, ip, PORT, flags, NULL), 0);
  assert_int_equal(rig_app_listen(a, slot, 1, 7, 0, &id), 0);
  worker_view_app(&a->view, slot)->listen_armed = 1;
  return id;
}

static int app_asks(struct rig_app *a, uint64_t worker_id, const char *ip, uint32_t port, uint64_t *have, size_t n_have,
                    struct grant *g) {
  Hoststack__Attach__Endpoint ep;
  Hoststack__Attach__Pair m = HOSTSTACK__ATTACH__PAIR__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *r = NULL;
  uint8_t addr[16];
  rig_endpoint(&ep, addr, ip, port);
  m.worker_id = worker_id;
  m.remote = &ep;
  m.have = have;
  m.n_have = n_have;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PAIR;
  rq.pair = &m;
  memset(g, 0, sizeof *g);
  int rc = rig_app_call(a, &rq, &r, g->fds, &g->n_fds);
  if (rc == 0) {
    assert_int_equal(r->body_case, HOSTSTACK__ATTACH__REPLY__BODY_PAIR);
    g->id = r->pair->pair_id;
    g->listener_id = r->pair->listener_id;
    g->slot = r->pair->slot;
    g->backlog = r->pair->backlog;
    g->shares = r->pair->shares;
    g->own_address = r->pair->own_address;
    int told = 0; /* all own addresses come with every answer */
    for (size_t i = 0; i < r->pair->n_own; i++)
      told += r->pair->own[i].len == sizeof addr && memcmp(r->pair->own[i].data, addr, sizeof addr) == 0;
    assert_int_equal(told, g->own_address);
    assert_true(r->pair->n_own != 0);
    assert_true(g->id != 0 ? g->n_fds == 0 || g->n_fds == BELL_PAIR_FDS : g->n_fds == 0);
  }
  if (r != NULL)
    hoststack__attach__reply__free_unpacked(r, NULL);
  return rc;
}

/** Asks for the usual endpoint with nothing at hand. */
static struct grant app_pair(struct rig_app *a) {
  struct grant g;
  assert_int_equal(app_asks(a, a->worker_id, "10.1.0.1", PORT, NULL, 0, &g), 0);
  return g;
}

static void grant_close(struct grant *g) {
  while (g->n_fds > 0)
    close(g->fds[--g->n_fds]);
}

static int app_gone(struct rig_app *a, uint64_t pair_id, int lied) {
  Hoststack__Attach__PairGone m = HOSTSTACK__ATTACH__PAIR_GONE__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  m.worker_id = a->worker_id;
  m.pair_id = pair_id;
  m.lied = lied;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PAIR_GONE;
  rq.pair_gone = &m;
  return rig_app_call(a, &rq, NULL, NULL, NULL);
}

/** The next pair out of an app's bell. 1, or 0 when there is none. */
static int bell_takes(struct rig_app *a, struct grant *g) {
  memset(g, 0, sizeof *g);
  if (bell_drain_pair(a->bell, g->fds) != BELL_PAIR)
    return 0;
  g->n_fds = BELL_PAIR_FDS;
  return 1;
}

/** One side's view; takes the segments' descriptors. The pair's id is what its own segment says. */
static void side_open(struct grant *g, struct worker_view *v) {
  const char *why = NULL;
  assert_int_equal(fcntl(g->fds[0], F_GETFL) & O_ACCMODE, O_RDWR);
  assert_int_equal(fcntl(g->fds[1], F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(worker_pair_open(v, g->fds[0], g->fds[1], &why), 0);
  g->id = v->ga.worker_id;
  assert_int_equal(v->ge.worker_id, g->id);
  g->fds[0] = g->fds[2];
  g->n_fds = 1;
}

/* Each side writes its own segment and reads the other's; the socket joins them. Asked again: nothing more is made. */
static void test_handed_over_once(void **state) {
  struct rig_app a, b;
  struct worker_view va, vb;
  struct grant more, there;
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  uint32_t id = app_listens(&b, 3, "10.1.0.1", 0);
  struct grant g = app_pair(&a);
  assert_true(g.id != 0);
  assert_int_equal(g.listener_id, id);
  assert_int_equal(g.slot, 3);
  assert_int_equal(g.backlog, 7);
  assert_int_equal(g.shares, 1);
  uint64_t have[2] = {7777, g.id};
  assert_true(bell_takes(&b, &there)); /* it was there before the answer */
  side_open(&g, &va);
  side_open(&there, &vb);
  assert_int_equal(there.id, have[1]);
  va.app->pid = 1234;
  assert_int_equal(vb.partner->pid, 1234);
  vb.app->pid = 4321;
  assert_int_equal(va.partner->pid, 4321);
  assert_int_equal(bell_ring_app(g.fds[0]), 0);
  assert_int_equal(bell_drain(there.fds[0]), 1);
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", PORT, have, 2, &more), 0);
  assert_int_equal(more.id, have[1]);
  assert_int_equal(more.n_fds, 0);
  assert_false(bell_takes(&b, &more));
  grant_close(&g);
  assert_int_equal(bell_drain(there.fds[0]), -EPIPE); /* the broker kept no end of it */
  more = app_pair(&a);                                /* not at hand any more: another one */
  assert_true(more.id != 0 && more.id != have[1]);
  grant_close(&more);
  grant_close(&there);
  worker_view_close(&va);
  worker_view_close(&vb);
  rig_app_die(&a);
  rig_app_die(&b);
}

/* The connecting app and the broker are gone before the other one looks: what was written is there. */
static void test_bytes_outlive(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  struct worker_view va, vb;
  struct grant there;
  rig_app_up(&a, r, NULL);
  rig_app_up(&b, r, NULL);
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  struct grant g = app_pair(&a);
  side_open(&g, &va);
  worker_view_app(&va, 5)->tx_wake = 0x600df00d;
  rig_app_die(&a);
  rig_kill(r, SIGKILL);
  worker_view_close(&va);
  grant_close(&g);
  assert_true(bell_takes(&b, &there));
  side_open(&there, &vb);
  assert_int_equal(worker_view_partner(&vb, 5)->tx_wake, 0x600df00d);
  assert_int_equal(bell_drain(there.fds[0]), -EPIPE);
  grant_close(&there);
  worker_view_close(&vb);
  rig_start(r, NULL);
  rig_until(r, &r->engine.ready, 2);
  rig_app_die(&b);
}

static void refused(struct rig_app *a, const char *ip, int own) {
  struct grant g;
  assert_int_equal(app_asks(a, a->worker_id, ip, PORT, NULL, 0, &g), 0);
  assert_int_equal(g.id, 0);
  assert_int_equal(g.own_address, own);
}

/* Not to one's own listener, nor to one of another namespace, nor where nobody waits; not to other addresses. */
static void test_by_tcp(void **state) {
  struct rig_app a, b, red;
  rig_app_up(&a, *state, "blue");
  rig_app_up(&b, *state, "blue");
  rig_app_up(&red, *state, "red");
  refused(&a, "10.1.0.1", 1); /* nobody listens */
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  refused(&b, "10.1.0.1", 1);
  refused(&red, "10.1.0.1", 1);
  refused(&a, "10.1.0.2", 0);
  refused(&a, "fd00::1", 1); /* ours, but not what it listens on */
  worker_view_app(&b.view, 0)->listen_armed = 0;
  refused(&a, "10.1.0.1", 1);
  worker_view_app(&b.view, 0)->listen_armed = 1;
  struct grant g = app_pair(&a);
  assert_true(g.id != 0);
  grant_close(&g);
  assert_int_equal(rig_app_unbind(&b, 0, 1), 0);
  refused(&a, "10.1.0.1", 1);
  rig_app_die(&a);
  rig_app_die(&b);
  rig_app_die(&red);
}

/* A listener that wants none of it (app-scope-local off). */
static void test_no_cut(void **state) {
  struct rig_app a, b;
  Hoststack__Attach__Listen m = HOSTSTACK__ATTACH__LISTEN__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  assert_int_equal(rig_app_bind(&b, 0, 1, "10.1.0.1", PORT, 0, NULL), 0);
  m.worker_id = b.worker_id;
  m.gen = 1;
  m.backlog = 7;
  m.no_cut = 1;
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN;
  rq.listen = &m;
  assert_int_equal(rig_app_call(&b, &rq, NULL, NULL, NULL), 0);
  worker_view_app(&b.view, 0)->listen_armed = 1;
  refused(&a, "10.1.0.1", 1);
  rig_app_die(&a);
  rig_app_die(&b);
}

static void test_bad_requests(void **state) {
  struct rig_app a, b;
  struct grant g;
  uint64_t many[65] = {0};
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  assert_int_equal(app_asks(&a, b.worker_id, "10.1.0.1", PORT, NULL, 0, &g), -ENOENT); /* another's worker */
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", 0, NULL, 0, &g), -EINVAL);
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", 65536, NULL, 0, &g), -EINVAL);
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", PORT, many, 65, &g), -EINVAL);
  uint64_t mine = a.worker_id;
  a.worker_id = b.worker_id;
  assert_int_equal(app_gone(&a, 1, 1), -ENOENT);
  a.worker_id = mine;
  assert_int_equal(app_gone(&a, 4711, 1), 0); /* of no pair: nothing to do */
  rig_app_die(&a);
  rig_app_die(&b);
}

/* As the engine chooses: the exact address before the wildcard, of its own family before the other's. */
static void test_best_listener(void **state) {
  struct rig_app a, wild, six, exact;
  struct grant g;
  rig_app_up(&a, *state, NULL);
  rig_app_up(&six, *state, NULL);
  uint32_t id6 = app_listens(&six, 1, "::", ABI_BIND_REUSEPORT);
  g = app_pair(&a); /* both families */
  assert_int_equal(g.listener_id, id6);
  grant_close(&g);
  rig_app_up(&wild, *state, NULL);
  uint32_t id4 = app_listens(&wild, 2, "0.0.0.0", ABI_BIND_REUSEPORT);
  g = app_pair(&a);
  assert_int_equal(g.listener_id, id4);
  grant_close(&g);
  rig_app_up(&exact, *state, NULL);
  uint32_t id = app_listens(&exact, 0, "10.1.0.1", ABI_BIND_REUSEPORT);
  g = app_pair(&a);
  assert_int_equal(g.listener_id, id);
  grant_close(&g);
  refused(&exact, "10.1.0.1", 1); /* its own is the best one: no other instead */
  assert_int_equal(app_asks(&exact, exact.worker_id, "fd00::1", PORT, NULL, 0, &g), 0);
  assert_int_equal(g.listener_id, id6);
  grant_close(&g);
  rig_app_die(&a);
  rig_app_die(&wild);
  rig_app_die(&six);
  rig_app_die(&exact);
}

/* Two that share a port take turns; who asks hears how many there are. */
static void test_turns(void **state) {
  struct rig_app a, b, c;
  uint64_t have[2] = {0};
  struct grant g;
  unsigned n[2] = {0, 0};
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  rig_app_up(&c, *state, NULL);
  uint32_t id = app_listens(&b, 0, "10.1.0.1", ABI_BIND_REUSEPORT);
  (void)app_listens(&c, 0, "10.1.0.1", ABI_BIND_REUSEPORT);
  for (unsigned i = 0; i < 8; i++) {
    assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", PORT, have, 2, &g), 0);
    assert_int_equal(g.shares, 2);
    assert_int_equal(g.n_fds != 0, i < 2); /* one pair with each */
    n[g.listener_id == id]++;
    if (i < 2)
      have[i] = g.id;
    grant_close(&g);
  }
  assert_int_equal(n[0], 4);
  assert_int_equal(n[1], 4);
  rig_app_die(&a);
  rig_app_die(&b);
  rig_app_die(&c);
}

/* What either side gave up is not handed out again; a stranger's word changes nothing. */
static void test_gone(void **state) {
  struct rig_app a, b, stranger;
  struct grant g, there;
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  rig_app_up(&stranger, *state, NULL);
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  g = app_pair(&a);
  uint64_t first = g.id;
  assert_int_equal(app_gone(&stranger, first, 1), 0);
  struct grant again;
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", PORT, &first, 1, &again), 0);
  assert_int_equal(again.id, first);
  assert_int_equal(app_gone(&b, first, 1), 0);
  grant_close(&g);
  assert_int_equal(app_asks(&a, a.worker_id, "10.1.0.1", PORT, &first, 1, &g), 0);
  assert_true(g.id != first && g.n_fds == BELL_PAIR_FDS);
  grant_close(&g);
  int n = 0;
  while (bell_takes(&b, &there)) {
    n++;
    grant_close(&there);
  }
  assert_int_equal(n, 2);
  rig_app_die(&a);
  rig_app_die(&b);
  rig_app_die(&stranger);
}

/* An app that never looks at its bell: a few pairs wait in it, then connects go by TCP; nobody else is any the worse.
 */
static void test_full_bell(void **state) {
  struct rig_app a, b;
  struct grant g, there;
  int n = 0;
  rig_app_up(&a, *state, NULL);
  rig_app_up(&b, *state, NULL);
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  for (g = app_pair(&a); g.id != 0 && n < 1000; g = app_pair(&a), n++)
    grant_close(&g);
  assert_in_range(n, 1, 100);
  assert_int_equal(g.own_address, 1);
  for (int k = n; bell_takes(&b, &there); k--) {
    assert_int_equal(bell_drain(there.fds[2]), -EPIPE);
    grant_close(&there);
    assert_true(k > 0);
  }
  g = app_pair(&a);
  assert_true(g.id != 0);
  grant_close(&g);
  rig_app_die(&a);
  rig_app_die(&b);
}

/* The broker is killed in the middle of handing over: who asked asks the next one, whose pair is whole. */
static void test_killed_between(void **state) {
  static const char *const at[] = {"broker.pair.other-side:1:kill", "broker.pair.hand-over:1:kill",
                                   "broker.pair.handed-over:1:kill"};
  struct broker_rig *r = *state;
  struct rig_app a, b;
  struct worker_view va, vb;
  if (fault_list(NULL, 0) == 0)
    skip(); /* a release build */
  rig_app_up(&a, r, NULL);
  rig_app_up(&b, r, NULL);
  (void)app_listens(&b, 0, "10.1.0.1", 0);
  for (unsigned i = 0; i < 3; i++) {
    struct grant g, there;
    rig_kill(r, SIGKILL);
    rig_start(r, at[i]);
    rig_until(r, &r->engine.ready, 2 + 2 * i);
    assert_int_equal(rig_app_connect(&a), 0);
    assert_int_equal(rig_app_hello(&a), 0);
    int rc = app_asks(&a, a.worker_id, "10.1.0.1", PORT, NULL, 0, &g);
    assert_int_equal(rc, i < 2 ? -EPIPE : 0);
    grant_close(&g);
    while (!rig_died(r))
      rig_turn(r, 5);
    rig_start(r, NULL);
    rig_until(r, &r->engine.ready, 3 + 2 * i);
    assert_int_equal(rig_app_connect(&a), 0);
    assert_int_equal(rig_app_hello(&a), 0);
    g = app_pair(&a);
    assert_true(g.id != 0);
    side_open(&g, &va);
    int n = 0, live = 0;
    for (; bell_takes(&b, &there); n++) {
      side_open(&there, &vb);
      if (there.id == g.id)
        live += bell_drain(there.fds[0]) == 0;
      else
        assert_int_equal(bell_drain(there.fds[0]), -EPIPE); /* nobody is at its other end */
      grant_close(&there);
      worker_view_close(&vb);
    }
    assert_int_equal(live, 1);
    assert_int_equal(n, i == 0 ? 1 : 2);
    grant_close(&g);
    worker_view_close(&va);
  }
  rig_app_die(&a);
  rig_app_die(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)
      T(test_handed_over_once), T(test_bytes_outlive), T(test_by_tcp), T(test_no_cut),    T(test_bad_requests),
      T(test_best_listener),    T(test_turns),         T(test_gone),   T(test_full_bell), T(test_killed_between),
#undef T
  };
  return cmocka_run_group_tests_name("broker pair", tests, NULL, NULL);
}
