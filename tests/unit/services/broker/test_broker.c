/*
 * hs-broker as a process, with doubles of the services and of apps: fresh start, attach, workers, listeners, kill -9
 * and restore, death of an app.
 */
#include "abi/registry.h"
#include "base/clock.h"
#include "base/err.h"
#include "broker_rig.h"
#include "control.pb-c.h"
#include "ctl/attach.h"
#include "ctl/rpc.h"
#include "shm/bell.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int setup(void **state) {
  return rig_setup(state, "");
}

static int setup_secret(void **state) {
  return rig_setup(state, "namespaces: [{id: blue, secret: 77}]");
}

static int setup_short(void **state) { /* all else has to be done within that time, too */
  return rig_setup(state, "app-timeout-ms: 1500");
}

static void test_fresh(void **state) {
  struct broker_rig *r = *state;
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS);
  assert_int_equal(rig_items(&r->nicio), RIG_CORE_ITEMS);
  rig_service_start(&r->api, CUSTODY_API);
  rig_until(r, &r->api.ready, 1);
  assert_int_equal(rig_items(&r->api), 5); /* TCB table and stats pages */
  const struct custody_item *tcb = custody_find(r->api.cust, ABI_ITEM_SEG, ABI_SEG_TCB, 0);
  const struct custody_item *own = custody_find(r->api.cust, ABI_ITEM_SEG, ABI_SEG_STATS, CUSTODY_API);
  assert_non_null(tcb);
  assert_non_null(own);
  assert_int_equal(fcntl(tcb->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(fcntl(own->fd, F_GETFL) & O_ACCMODE, O_RDWR);
}

static void test_second_instance(void **state) {
  struct broker_rig *r = *state;
  struct broker_rig two = *r;
  rig_start(&two, NULL);
  assert_int_equal(waitpid(two.pid, &two.status, 0), two.pid);
  assert_true(WIFEXITED(two.status) && WEXITSTATUS(two.status) == 1);
  struct rig_app a;
  rig_app_up(&a, r, NULL); /* the first one goes on */
  rig_app_die(&a);
}

static void test_service_comes_again(void **state) {
  struct broker_rig *r = *state;
  rig_service_stop(&r->engine);
  r->engine.ready = 0;
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  rig_until(r, &r->engine.ready, 1);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS);
  assert_int_equal(r->engine.epoch, 1);
}

static void test_hello(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  rig_app_init(&a, r);
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_add_worker(&a), -EPROTO); /* Hello comes first */
  assert_int_equal(rig_app_hello(&a), 0);
  assert_int_equal(rig_app_hello(&a), -EALREADY);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 2);
  const struct custody_item *bell = custody_find(r->engine.cust, ABI_ITEM_BELL, 0, a.proc_id);
  assert_non_null(bell);
  assert_int_equal(bell_drain(a.bell), 0);
  assert_int_equal(bell_ring_app(bell->fd), 0);
  assert_int_equal(bell_drain(a.bell), 1);
  rig_app_init(&b, r);
  assert_int_equal(rig_app_connect(&b), 0);
  b.have_token = 1; /* sixteen zeros */
  assert_int_equal(rig_app_hello(&b), -ESTALE);
  rig_app_die(&b);
  rig_app_die(&a);
}

static void test_hello_refused(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  Hoststack__Attach__Hello h = HOSTSTACK__ATTACH__HELLO__INIT;
  rig_app_init(&a, r);
  assert_int_equal(rig_app_connect(&a), 0);
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_HELLO;
  rq.hello = &h;
  h.abi_major = ABI_MAJOR + 1;
  assert_int_equal(rig_app_call(&a, &rq, NULL, NULL, NULL), -EPROTONOSUPPORT);
  h.abi_major = ABI_MAJOR;
  h.namespace_id = (char *)(uintptr_t) "green";
  assert_int_equal(rig_app_call(&a, &rq, NULL, NULL, NULL), -ENOENT);
  h.namespace_id = (char *)(uintptr_t) "blue";
  assert_int_equal(rig_app_call(&a, &rq, NULL, NULL, NULL), -EACCES);
  h.namespace_secret = 77;
  assert_int_equal(rig_app_call(&a, &rq, NULL, NULL, NULL), 0);
  rig_app_die(&a);
}

static void test_worker(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  rig_app_init(&a, r);
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  a.worker_id = 4711;
  assert_int_equal(rig_app_map(&a), -ENOENT);
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 3); /* bell, doorbell, E; A only when it is sealed */
  assert_int_equal(rig_app_map(&a), 0);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 4);
  assert_int_equal(r->engine.a_before_sealed, 0);
  const struct custody_item *seg_a = custody_find(r->engine.cust, ABI_ITEM_SEG, ABI_SEG_APP, a.worker_id);
  assert_non_null(seg_a);
  /* No new writer of A, but the app's map still writes and others see it. */
  assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, seg_a->fd, 0), MAP_FAILED);
  const char *why = NULL;
  struct seg ro;
  assert_int_equal(seg_attach(&ro, dup(seg_a->fd), ABI_SEG_APP, SEG_RDONLY, &why), 0);
  a.view.app->pid = 4242;
  assert_int_equal(((struct abi_worker_app *)(void *)(ro.base + a.view.ga.block_off))->pid, 4242);
  seg_detach(&ro);
  assert_int_equal(rig_app_map(&a), 0); /* said twice */
  rig_app_die(&a);
}

static void test_limits(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a[9];
  for (int i = 0; i < 9; i++) {
    rig_app_init(&a[i], r);
    assert_int_equal(rig_app_connect(&a[i]), 0);
    assert_int_equal(rig_app_hello(&a[i]), i < 8 ? 0 : -EUSERS);
  }
  for (int i = 0; i < 9; i++)
    assert_int_equal(rig_app_add_worker(&a[0]), i < 8 ? 0 : -EUSERS);
  for (int i = 0; i < 9; i++)
    rig_app_die(&a[i]);
}

static void test_bind(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  uint16_t got = 0;
  rig_app_up(&a, r, NULL);
  rig_app_up(&b, r, NULL);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, &got), 0);
  assert_int_equal(got, 80);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0); /* said twice */
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 81, 0, NULL), -EINVAL);
  assert_int_equal(rig_app_bind(&b, 0, 1, "10.1.0.1", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 0, 1, "0.0.0.0", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 0, 1, "::", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 0, 1, "::", 80, ABI_BIND_V6ONLY, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 1, 1, "10.1.0.1", 80, RIG_UDP, NULL), 0); /* a protocol of its own */
  assert_int_equal(rig_app_bind(&b, 2, 1, "10.1.0.2", 80, 0, NULL), -EADDRNOTAVAIL);
  assert_int_equal(rig_app_bind(&b, 2, 1, "10.1.0.1", 80, RIG_NO_FAMILY, NULL), -EINVAL);
  /* SO_REUSEADDR on both, none listening: both hold it; then one listens and the other may not. */
  assert_int_equal(rig_app_bind(&a, 3, 1, "0.0.0.0", 90, ABI_BIND_REUSEADDR, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 3, 1, "0.0.0.0", 90, ABI_BIND_REUSEADDR, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 3, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&b, 3, 1, 5, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 4, 1, "0.0.0.0", 90, ABI_BIND_REUSEADDR, NULL), -EADDRINUSE);
  /* SO_REUSEPORT on both, one uid: both listen. */
  assert_int_equal(rig_app_bind(&a, 5, 1, "::", 91, ABI_BIND_REUSEPORT, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 5, 1, "::", 91, ABI_BIND_REUSEPORT, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 5, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&b, 5, 1, 5, 0, NULL), 0);
  /* Given up, it is free. A slot used anew gives up what it held. */
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);
  assert_int_equal(rig_app_bind(&b, 6, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 6, 2, "10.1.0.1", 82, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&a, 0, 2, "10.1.0.1", 80, 0, NULL), 0);
  /* Somebody else's worker is nobody's. */
  uint64_t own = b.worker_id;
  b.worker_id = a.worker_id;
  assert_int_equal(rig_app_bind(&b, 9, 1, "10.1.0.1", 99, 0, NULL), -ENOENT);
  assert_int_equal(rig_app_unbind(&b, 0, 2), -ENOENT);
  b.worker_id = own;
  rig_app_die(&b);
  rig_app_die(&a);
}

/** The one live entry of a listener, copied. */
static unsigned entries_of(struct broker_rig *r, uint32_t id, struct abi_listen_entry *out) {
  struct seg s;
  struct abi_policy *p;
  struct abi_listen_entry *e;
  unsigned n = 0;
  rig_policy(r, &s, &p, &e);
  for (uint32_t i = 0; i < p->listen_high; i++) {
    assert_int_equal(e[i].gen & 1, 0);
    if (e[i].live && e[i].listener_id == id && n++ == 0 && out != NULL)
      *out = e[i];
  }
  seg_detach(&s);
  return n;
}

/* Workers of one app that say so hold one address and port together; nobody else does. */
static void test_bind_of_one_app(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  struct abi_listen_entry e;
  uint32_t id[2];
  rig_app_up(&a, r, NULL);
  rig_app_up(&b, r, NULL);
  uint64_t first = a.worker_id;
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_int_equal(rig_app_map(&a), 0);
  uint64_t second = a.worker_id;
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 95, ABI_BIND_APP_SHARE, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id[1]), 0);
  assert_int_equal(rig_app_bind(&a, 1, 1, "10.1.0.1", 95, ABI_BIND_APP_SHARE, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 1, 1, "10.1.0.1", 95, ABI_BIND_APP_SHARE, NULL), -EADDRINUSE);
  a.worker_id = first;
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 95, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 95, ABI_BIND_APP_SHARE, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id[0]), 0);
  assert_int_not_equal(id[0], id[1]);
  assert_int_equal(entries_of(r, id[0], &e), 1);
  assert_int_equal(e.worker_id, first);
  assert_int_equal(e.flags, ABI_LISTEN_REUSEPORT); /* the engine spreads */
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);   /* one goes, the other stays */
  assert_int_equal(entries_of(r, id[0], NULL), 0);
  assert_int_equal(entries_of(r, id[1], &e), 1);
  assert_int_equal(e.worker_id, second);
  /* Datagrams have no accept to share: SO_REUSEPORT is theirs. */
  assert_int_equal(rig_app_bind(&a, 2, 1, "10.1.0.1", 96, RIG_UDP | ABI_BIND_APP_SHARE, NULL), 0);
  a.worker_id = second;
  assert_int_equal(rig_app_bind(&a, 2, 1, "10.1.0.1", 96, RIG_UDP | ABI_BIND_APP_SHARE, NULL), -EADDRINUSE);
  rig_app_die(&b);
  rig_app_die(&a);
}

static void test_ephemeral(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  unsigned seen = 0;
  rig_app_up(&a, r, NULL);
  for (uint32_t i = 0; i < 4; i++) {
    uint16_t port = 0;
    assert_int_equal(rig_app_bind(&a, i, 1, "0.0.0.0", 0, ABI_BIND_REUSEADDR, &port), 0);
    assert_in_range(port, 40000, 40003);
    seen |= 1u << (port - 40000);
  }
  assert_int_equal(seen, 0xf);
  assert_int_equal(rig_app_bind(&a, 5, 1, "0.0.0.0", 0, ABI_BIND_REUSEADDR, NULL), -EADDRINUSE);
  rig_app_die(&a);
}

static void test_listen(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  struct abi_listen_entry e;
  uint32_t id = 0, again = 0;
  rig_app_up(&a, r, NULL);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), -EDESTADDRREQ);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, ABI_BIND_REUSEPORT, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 70000, 0, &id), 0);
  assert_int_not_equal(id, 0);
  assert_int_equal(entries_of(r, id, &e), 1);
  assert_int_equal(e.backlog, 65535);
  assert_int_equal(e.worker_id, a.worker_id);
  assert_int_equal(e.slot, 0);
  assert_int_equal(e.slot_gen, 1);
  assert_int_equal(be16_get(e.addr.port), 80);
  assert_int_equal(e.addr.family, 4);
  assert_int_equal(e.addr.ip[12], 10);
  assert_int_equal(e.flags, ABI_LISTEN_REUSEPORT);
  assert_int_equal(rig_app_listen(&a, 0, 1, 0, 0, &again), 0); /* listen() again sets the backlog */
  assert_int_equal(again, id);
  assert_int_equal(entries_of(r, id, &e), 1);
  assert_int_equal(e.backlog, 1);
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);
  assert_int_equal(entries_of(r, id, NULL), 0);
  /* The wildcard is all zero in the table, for both families. */
  static const uint8_t zero[16];
  assert_int_equal(rig_app_bind(&a, 1, 1, "0.0.0.0", 81, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 1, 1, 1, 0, &id), 0);
  assert_int_equal(entries_of(r, id, &e), 1);
  assert_memory_equal(e.addr.ip, zero, 16);
  assert_int_equal(e.addr.family, 4);
  rig_app_die(&a);
}

/** A forked child: an app process of its own in the parent's app, sharing the listener. */
static void test_share(void **state) {
  struct broker_rig *r = *state;
  struct rig_app parent, child, stranger;
  uint32_t id = 0, got = 0;
  rig_app_up(&parent, r, NULL);
  assert_int_equal(rig_app_bind(&parent, 0, 1, "0.0.0.0", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&parent, 0, 1, 5, 0, &id), 0);
  rig_app_init(&child, r);
  assert_int_equal(rig_app_connect(&child), 0);
  Hoststack__Attach__Hello h = HOSTSTACK__ATTACH__HELLO__INIT;
  rig_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  rig_reply *reply = NULL;
  int fds[ATTACH_FDS_MAX], n = 0;
  h.abi_major = ABI_MAJOR;
  h.parent_token = (ProtobufCBinaryData){.data = parent.token, .len = 16};
  rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_HELLO;
  rq.hello = &h;
  assert_int_equal(rig_app_call(&child, &rq, &reply, fds, &n), 0);
  assert_int_equal(reply->hello->app_id, parent.app_id);
  child.app_id = reply->hello->app_id;
  child.bell = fds[0];
  child.door = fds[1];
  hoststack__attach__reply__free_unpacked(reply, NULL);
  assert_int_equal(rig_app_add_worker(&child), 0);
  assert_int_equal(rig_app_map(&child), 0);
  assert_int_equal(rig_app_listen(&child, 7, 1, 5, id, &got), 0);
  assert_int_equal(got, id);
  assert_int_equal(entries_of(r, id, NULL), 2);
  rig_app_up(&stranger, r, NULL);
  assert_int_equal(rig_app_listen(&stranger, 7, 1, 5, id, &got), -ENOENT);
  rig_app_die(&parent); /* the child's share stays */
  while (entries_of(r, id, NULL) == 2)
    rig_turn(r, 20);
  assert_int_equal(entries_of(r, id, NULL), 1);
  rig_app_die(&child);
  rig_app_die(&stranger);
}

static void test_engine_away(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  rig_app_up(&a, r, NULL);
  assert_int_equal(rig_app_bind(&a, 0, 1, "0.0.0.0", 80, 0, NULL), 0);
  r->engine.auto_policy = 0; /* it does not say what it serves */
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), -ETIMEDOUT);
  rig_service_stop(&r->engine);
  rig_app_init(&b, r);
  assert_int_equal(rig_app_connect(&b), 0);
  assert_int_equal(rig_app_hello(&b), -ETIMEDOUT);
  r->engine.auto_policy = 1;
  r->engine.ready = 0;
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  int rc = rig_app_listen(&a, 0, 1, 5, 0, NULL); /* waits, then goes on */
  for (int i = 0; i < 20 && rc == -ETIMEDOUT; i++)
    rc = rig_app_listen(&a, 0, 1, 5, 0, NULL);
  assert_int_equal(rc, 0);
  rig_app_die(&a);
  rig_app_die(&b);
}

static void test_death(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint32_t id = 0;
  r->engine.auto_drain = 0;
  rig_app_up(&a, r, NULL);
  uint64_t worker = a.worker_id;
  assert_int_equal(rig_app_bind(&a, 0, 1, "0.0.0.0", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id), 0);
  close(a.fd); /* the end of the connection is no death */
  a.fd = -1;
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  assert_int_equal(r->engine.n_dead, 0);
  rig_app_die(&a);
  rig_until(r, &r->engine.n_dead, 1);
  assert_int_equal(r->engine.dead[0], worker);
  assert_int_equal(entries_of(r, id, NULL), 0);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 4); /* its orphans still need them */
  assert_int_equal(custody_worker_drained(r->engine.cust, worker), 0);
  rig_until(r, &r->engine.drops, 4);
  rig_until(r, &r->nicio.drops, 4);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS);
  struct rig_app b; /* the port is free again */
  rig_app_up(&b, r, NULL);
  assert_int_equal(rig_app_bind(&b, 0, 1, "0.0.0.0", 80, 0, NULL), 0);
  rig_app_die(&b);
}

static void test_lied(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  rig_app_up(&a, r, NULL);
  assert_int_equal(custody_worker_lied(r->engine.cust, a.worker_id, "tail rewound"), 0);
  rig_until(r, &r->engine.drops, 2);
  assert_int_equal(rig_app_bind(&a, 0, 1, "0.0.0.0", 80, 0, NULL), -ENOENT);
  rig_app_die(&a);
}

static void test_restart(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, dead;
  struct abi_listen_entry before, after;
  uint32_t id = 0, again = 0;
  uint16_t port = 0;
  rig_app_up(&a, r, NULL);
  rig_app_up(&dead, r, NULL);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id), 0);
  assert_int_equal(rig_app_bind(&a, 1, 1, "10.1.0.1", 0, 0, &port), 0);
  assert_int_equal(entries_of(r, id, &before), 1);
  uint64_t gone = dead.worker_id;
  rig_kill(r, SIGKILL);
  rig_app_die(&dead); /* dies while there is no broker */
  rig_start(r, NULL);
  rig_until(r, &r->engine.ready, 2);
  rig_until(r, &r->nicio.ready, 2);
  assert_int_equal(r->engine.epoch, 2);
  rig_until(r, &r->engine.n_dead, 1);
  assert_int_equal(r->engine.dead[0], gone);
  rig_until(r, &r->engine.drops, 4);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 4);
  assert_int_equal(entries_of(r, id, &after), 1);
  assert_memory_equal(&before, &after, sizeof before);
  /* The app comes back with its token; what it says again changes nothing. */
  uint64_t app_id = a.app_id;
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  assert_int_equal(a.app_id, app_id);
  assert_int_equal(rig_app_map(&a), 0);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &again), 0);
  assert_int_equal(again, id);
  assert_int_equal(rig_app_listen(&a, 1, 1, 5, 0, NULL), 0); /* the bind before the crash was kept */
  uint64_t worker = a.worker_id;
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_true(a.worker_id > worker);
  rig_app_die(&a);
}

static void test_restart_with_engine(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint32_t id = 0;
  rig_app_up(&a, r, NULL);
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id), 0);
  rig_kill(r, SIGKILL);
  rig_service_stop(&r->engine); /* both lost together: nicio's copy is left */
  r->engine.ready = 0;
  rig_start(r, NULL);
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  rig_until(r, &r->engine.ready, 1);
  assert_int_equal(rig_items(&r->engine), RIG_CORE_ITEMS + 4);
  assert_int_equal(entries_of(r, id, NULL), 1);
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  rig_app_die(&a);
}

static void test_deposit(void **state) {
  struct broker_rig *r = *state;
  int fd = memfd_create("port", MFD_CLOEXEC);
  assert_true(fd >= 0);
  assert_int_equal(custody_deposit(r->nicio.cust, ABI_ITEM_PORT, 0, fd), 0);
  close(fd);
  rig_until(r, &r->engine.items, RIG_CORE_ITEMS + 1);
  rig_until(r, &r->nicio.items, RIG_CORE_ITEMS + 1);
  rig_kill(r, SIGKILL);
  rig_service_stop(&r->nicio);
  r->nicio.ready = 0;
  rig_start(r, NULL);
  rig_service_start(&r->nicio, CUSTODY_NICIO);
  rig_until(r, &r->nicio.ready, 1);
  assert_non_null(custody_find(r->nicio.cust, ABI_ITEM_PORT, 0, 0));
}

/** Descriptors from an app, and bytes that are no message. */
static void test_hostile_messages(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint8_t junk[64];
  memset(junk, 0xff, sizeof junk);
  rig_app_init(&a, r);
  assert_int_equal(rig_app_connect(&a), 0);
  int fds[1] = {0};
  assert_int_equal(attach_send(a.fd, junk, sizeof junk, fds, 1), 0);
  assert_int_equal(rig_app_hello(&a), -EPIPE); /* thrown out */
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(attach_send(a.fd, junk, sizeof junk, NULL, 0), 0);
  assert_int_equal(rig_app_hello(&a), 0); /* unreadable: no answer, but no harm */
  rig_app_die(&a);
}

/** Whoever connects and says nothing makes room; more than may be are closed at once; others are served meanwhile. */
static void test_silent_connections(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  enum { N = 100 };
  int fd[N];
  char c;
  rig_app_up(&a, r, NULL);
  for (int i = 0; i < N; i++) {
    fd[i] = attach_connect(r->attach);
    assert_true(fd[i] >= 0);
  }
  assert_int_equal(rig_app_bind(&a, 0, 1, "0.0.0.0", 80, 0, NULL), 0);
  for (int i = 0; i < N; i++) { /* blocking: ends when the broker closes it, at the latest after app-timeout */
    assert_int_equal(attach_recv(fd[i], &c, 1, NULL, 0, NULL), 0);
    close(fd[i]);
  }
  assert_int_equal(rig_app_bind(&a, 1, 1, "0.0.0.0", 81, 0, NULL), 0);
  rig_app_die(&a);
}

static void test_show(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  char url[100];
  uint8_t req[64], *reply = NULL;
  size_t reply_len = 0;
  struct rpc_client *c;
  Hoststack__Control__Request rq = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowApp show = HOSTSTACK__CONTROL__SHOW_APP__INIT;
  rig_app_up(&a, r, NULL);
  assert_int_equal(rig_app_bind(&a, 0, 1, "fd00::1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), 0);
  snprintf(url, sizeof url, "ipc://%s/broker.ctl", r->dir);
  assert_int_equal(rpc_client_new(&c, url), 0);
  rq.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_APP;
  rq.show_app = &show;
  size_t len = hoststack__control__request__pack(&rq, req);
  assert_int_equal(rpc_client_call(c, req, len, &reply, &reply_len, 10000), 0);
  Hoststack__Control__Reply *rep = hoststack__control__reply__unpack(NULL, reply_len, reply);
  assert_non_null(rep);
  assert_int_equal(rep->body_case, HOSTSTACK__CONTROL__REPLY__BODY_APPS);
  assert_int_equal(rep->apps->n_app, 1);
  assert_string_equal(rep->apps->app[0]->name, "rig");
  assert_string_equal(rep->apps->app[0]->namespace_id, "default");
  assert_int_equal(rep->apps->app[0]->n_worker, 1);
  assert_string_equal(rep->apps->app[0]->worker[0]->state, "live");
  assert_int_equal(rep->apps->app[0]->worker[0]->pid, getpid());
  assert_int_equal(rep->apps->app[0]->n_listener, 1);
  assert_string_equal(rep->apps->app[0]->listener[0]->local, "[fd00::1]:80");
  hoststack__control__reply__free_unpacked(rep, NULL);
  free(reply);
  rpc_client_free(c);
  rig_app_die(&a);
}

int main(void) {
#define T(f, s) cmocka_unit_test_setup_teardown(f, s, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(test_fresh, setup),
      T(test_second_instance, setup),
      T(test_service_comes_again, setup),
      T(test_hello, setup),
      T(test_hello_refused, setup_secret),
      T(test_worker, setup),
      T(test_limits, setup),
      T(test_bind, setup),
      T(test_bind_of_one_app, setup),
      T(test_ephemeral, setup),
      T(test_listen, setup),
      T(test_share, setup),
      T(test_engine_away, setup_short),
      T(test_death, setup),
      T(test_lied, setup),
      T(test_restart, setup),
      T(test_restart_with_engine, setup),
      T(test_deposit, setup),
      T(test_hostile_messages, setup),
      T(test_show, setup),
      T(test_silent_connections, setup_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
