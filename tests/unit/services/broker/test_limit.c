/*
 * Limits of apps and namespaces, and what namespaces keep apart: hs-broker as a process, with doubles of the services
 * and of apps.
 */
#include "abi/registry.h"
#include "base/err.h"
#include "broker_rig.h"
#include "control.pb-c.h"
#include "ctl/rpc.h"
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int setup_app(void **state) { /* workers ask for 64 slots */
  return rig_setup(state, "app-limit: {sessions: 150, listeners: 2}, namespaces: [{id: blue}]");
}

static int setup_ns(void **state) {
  return rig_setup(state, "namespaces: [{id: blue, limit: {sessions: 100, listeners: 3}}, {id: red}]");
}

static int setup_addresses(void **state) {
  return rig_setup(state, "namespaces: [{id: blue, addresses: 10.1.0.1}, {id: red, addresses: ['fd00::/64']}]");
}

static int setup_memory(void **state) { /* what one worker's segments hold is more */
  return rig_setup(state, "namespaces: [{id: blue, limit: {memory: 1M}}, {id: red}]");
}

static Hoststack__Control__Reply *ask(struct broker_rig *r, Hoststack__Control__Request *rq) {
  char url[100];
  uint8_t req[64], *reply = NULL;
  size_t reply_len = 0;
  struct rpc_client *c;
  snprintf(url, sizeof url, "ipc://%s/broker.ctl", r->dir);
  assert_int_equal(rpc_client_new(&c, url), 0);
  size_t len = hoststack__control__request__pack(rq, req);
  assert_int_equal(rpc_client_call(c, req, len, &reply, &reply_len, 10000), 0);
  Hoststack__Control__Reply *rep = hoststack__control__reply__unpack(NULL, reply_len, reply);
  assert_non_null(rep);
  free(reply);
  rpc_client_free(c);
  return rep;
}

static Hoststack__Control__Reply *show_ns(struct broker_rig *r) {
  Hoststack__Control__Request rq = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowNamespace show = HOSTSTACK__CONTROL__SHOW_NAMESPACE__INIT;
  rq.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_NAMESPACE;
  rq.show_namespace = &show;
  Hoststack__Control__Reply *rep = ask(r, &rq);
  assert_int_equal(rep->body_case, HOSTSTACK__CONTROL__REPLY__BODY_NAMESPACES);
  return rep;
}

/** Turns until the namespace has so many workers: death is told by the bell, and the drained by the engine. */
static void until_workers(struct broker_rig *r, unsigned ns, unsigned want) {
  for (int i = 0;; i++) {
    Hoststack__Control__Reply *rep = show_ns(r);
    unsigned have = rep->namespaces->namespace_[ns]->workers;
    hoststack__control__reply__free_unpacked(rep, NULL);
    if (have == want)
      return;
    assert_true(i < 1000);
    rig_turn(r, 10);
  }
}

static uint64_t counter(struct broker_rig *r, const char *name) {
  Hoststack__Control__Request rq = HOSTSTACK__CONTROL__REQUEST__INIT;
  Hoststack__Control__ShowStats show = HOSTSTACK__CONTROL__SHOW_STATS__INIT;
  uint64_t value = UINT64_MAX;
  rq.body_case = HOSTSTACK__CONTROL__REQUEST__BODY_SHOW_STATS;
  rq.show_stats = &show;
  Hoststack__Control__Reply *rep = ask(r, &rq);
  for (size_t i = 0; i < rep->stats->n_counter; i++)
    if (strcmp(rep->stats->counter[i]->name, name) == 0)
      value = rep->stats->counter[i]->value;
  hoststack__control__reply__free_unpacked(rep, NULL);
  return value;
}

/** 64 + 64 + what is left of 150; then nothing, until a worker goes. Another app has its own. */
static void test_app_sessions(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  rig_app_known(&a, r, NULL);
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_int_equal(rig_app_add_worker(&a), 0);
  assert_int_equal(rig_app_map(&a), 0);
  assert_int_equal(a.view.ge.n_slots, 150 - 128);
  assert_int_equal(rig_app_add_worker(&a), -EMFILE);
  assert_int_equal(counter(r, "broker.limit-sessions"), 1);
  rig_app_up(&b, r, "blue");
  rig_app_die(&a);
  until_workers(r, 0, 0);
  rig_app_up(&a, r, NULL);
  assert_int_equal(a.view.ge.n_slots, 64);
  rig_app_die(&a);
  rig_app_die(&b);
}

static void test_app_listeners(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  uint32_t id = 0, again = 0;
  rig_app_up(&a, r, NULL);
  rig_app_up(&b, r, NULL);
  for (uint32_t i = 0; i < 3; i++)
    assert_int_equal(rig_app_bind(&a, i, 1, "10.1.0.1", (uint16_t)(80 + i), 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, &id), 0);
  assert_int_equal(rig_app_listen(&a, 1, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 2, 1, 5, 0, NULL), -ENOBUFS);
  assert_int_equal(counter(r, "broker.limit-listeners"), 1);
  assert_int_equal(rig_app_listen(&a, 0, 1, 9, 0, &again), 0); /* a backlog is no listener */
  assert_int_equal(again, id);
  assert_int_equal(rig_app_bind(&a, 5, 1, "10.1.0.1", 80, RIG_UDP, NULL), 0); /* nor is a datagram socket */
  assert_int_equal(rig_app_bind(&b, 0, 1, "10.1.0.1", 90, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&b, 0, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);
  assert_int_equal(rig_app_listen(&a, 2, 1, 5, 0, NULL), 0);
  rig_app_die(&a);
  rig_app_die(&b);
}

/** Two apps share what their namespace has; the broker's death changes nothing. */
static void test_ns_limits(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b, c, other;
  rig_app_up(&a, r, "blue");
  rig_app_up(&b, r, "blue");
  assert_int_equal(b.view.ge.n_slots, 36);
  rig_app_known(&c, r, "blue");
  assert_int_equal(rig_app_add_worker(&c), -ENFILE);
  rig_app_up(&other, r, "red");
  for (uint32_t i = 0; i < 3; i++) {
    struct rig_app *of = i < 2 ? &a : &b;
    assert_int_equal(rig_app_bind(of, i, 1, "10.1.0.1", (uint16_t)(80 + i), 0, NULL), 0);
    assert_int_equal(rig_app_listen(of, i, 1, 5, 0, NULL), 0);
  }
  assert_int_equal(rig_app_bind(&b, 7, 1, "10.1.0.1", 99, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&b, 7, 1, 5, 0, NULL), -ENOBUFS);
  Hoststack__Control__Reply *rep = show_ns(r);
  assert_int_equal(rep->namespaces->n_namespace_, 3);
  const Hoststack__Control__Namespace *blue = rep->namespaces->namespace_[1];
  assert_string_equal(rep->namespaces->namespace_[0]->namespace_id, "default");
  assert_string_equal(blue->namespace_id, "blue");
  assert_int_equal(blue->apps, 3);
  assert_int_equal(blue->workers, 2);
  assert_int_equal(blue->sessions->used, 100);
  assert_int_equal(blue->sessions->limit, 100);
  assert_int_equal(blue->listeners->used, 3);
  assert_int_equal(blue->listeners->limit, 3);
  assert_true(blue->memory_bytes->used > 0);
  assert_int_equal(blue->memory_bytes->limit, 0);
  assert_int_equal(rep->namespaces->namespace_[2]->sessions->used, 64);
  assert_int_equal(rep->namespaces->namespace_[2]->listeners->used, 0);
  hoststack__control__reply__free_unpacked(rep, NULL);
  rig_app_die(&b);
  until_workers(r, 1, 1);
  assert_int_equal(rig_app_add_worker(&c), 0);
  rig_app_die(&c);
  rig_app_die(&a);
  rig_app_die(&other);
}

/** Nothing is counted along: the next broker adds up the same. */
static void test_restart(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b;
  rig_app_up(&a, r, "blue");
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), 0);
  (void)rig_kill(r, SIGKILL);
  r->engine.ready = r->nicio.ready = 0;
  rig_start(r, NULL);
  rig_until(r, &r->engine.ready, 1);
  rig_until(r, &r->nicio.ready, 1);
  rig_app_up(&b, r, "blue");
  assert_int_equal(b.view.ge.n_slots, 36);
  Hoststack__Control__Reply *rep = show_ns(r);
  assert_int_equal(rep->namespaces->namespace_[1]->sessions->used, 100);
  assert_int_equal(rep->namespaces->namespace_[1]->listeners->used, 1);
  hoststack__control__reply__free_unpacked(rep, NULL);
  rig_app_die(&a);
  rig_app_die(&b);
}

static void test_memory(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, other;
  rig_app_up(&a, r, "blue");
  rig_app_up(&other, r, "red");
  assert_int_equal(rig_app_bind(&a, 0, 1, "10.1.0.1", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), 0);
  memset((uint8_t *)a.view.seg_a.base + a.view.ga.arena_off, 1, 1u << 20); /* the app fills its memory */
  assert_int_equal(rig_app_add_worker(&a), -ENOMEM);
  assert_int_equal(rig_app_bind(&a, 1, 1, "10.1.0.1", 81, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 1, 1, 5, 0, NULL), -ENOBUFS);
  assert_int_equal(counter(r, "broker.limit-memory"), 2);
  assert_int_equal(rig_app_add_worker(&other), 0);
  rig_app_die(&a);
  until_workers(r, 1, 0);
  rig_app_up(&a, r, "blue");
  rig_app_die(&a);
  rig_app_die(&other);
}

/** SO_REUSEPORT and SO_REUSEADDR share with apps of one's own namespace alone: else one takes from the other. */
static void test_no_takeover(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b, mate;
  rig_app_up(&a, r, "red");
  rig_app_up(&b, r, NULL);
  rig_app_up(&mate, r, "red");
  assert_int_equal(rig_app_bind(&a, 0, 1, "0.0.0.0", 80, ABI_BIND_REUSEPORT, NULL), 0);
  assert_int_equal(rig_app_listen(&a, 0, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 0, 1, "10.1.0.1", 80, ABI_BIND_REUSEPORT, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&b, 0, 1, "::", 80, ABI_BIND_REUSEPORT, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&mate, 0, 1, "0.0.0.0", 80, ABI_BIND_REUSEPORT, NULL), 0);
  assert_int_equal(rig_app_bind(&a, 1, 1, "0.0.0.0", 53, ABI_BIND_REUSEADDR | RIG_UDP, NULL), 0);
  assert_int_equal(rig_app_bind(&b, 1, 1, "10.1.0.1", 53, ABI_BIND_REUSEADDR | RIG_UDP, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&mate, 1, 1, "10.1.0.1", 53, ABI_BIND_REUSEADDR | RIG_UDP, NULL), 0);
  assert_int_equal(rig_app_unbind(&a, 0, 1), 0);
  assert_int_equal(rig_app_unbind(&mate, 0, 1), 0);
  assert_int_equal(rig_app_bind(&b, 0, 1, "10.1.0.1", 80, ABI_BIND_REUSEPORT, NULL), 0); /* free again */
  rig_app_die(&a);
  rig_app_die(&b);
  rig_app_die(&mate);
}

/** Addresses of namespaces: no others can be bound, and wildcards divide a port if they have none in common. */
static void test_addresses(void **state) {
  struct broker_rig *r = *state;
  struct rig_app blue, red, all;
  rig_app_up(&blue, r, "blue");
  rig_app_up(&red, r, "red");
  rig_app_up(&all, r, NULL);
  assert_int_equal(rig_app_bind(&red, 0, 1, "10.1.0.1", 80, 0, NULL), -EADDRNOTAVAIL);
  assert_int_equal(rig_app_bind(&blue, 0, 1, "fd00::1", 80, 0, NULL), -EADDRNOTAVAIL);
  assert_int_equal(rig_app_bind(&blue, 0, 1, "fd00::1", 80, RIG_UDP, NULL), -EADDRNOTAVAIL);
  assert_int_equal(rig_app_bind(&blue, 0, 1, "::", 80, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&red, 0, 1, "::", 80, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&blue, 0, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_listen(&red, 0, 1, 5, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&all, 0, 1, "::", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&all, 0, 1, "10.1.0.1", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&all, 0, 1, "fd00::1", 80, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&all, 0, 1, "10.1.0.1", 81, 0, NULL), 0);
  assert_int_equal(rig_app_bind(&blue, 1, 1, "0.0.0.0", 81, 0, NULL), -EADDRINUSE);
  assert_int_equal(rig_app_bind(&red, 1, 1, "::", 81, 0, NULL), 0);
  rig_app_die(&blue);
  rig_app_die(&red);
  rig_app_die(&all);
}

int main(void) {
#define T(f, s) cmocka_unit_test_setup_teardown(f, s, rig_teardown)
  const struct CMUnitTest tests[] = {
      T(test_app_sessions, setup_app),    T(test_app_listeners, setup_app), T(test_ns_limits, setup_ns),
      T(test_restart, setup_ns),          T(test_memory, setup_memory),     T(test_no_takeover, setup_ns),
      T(test_addresses, setup_addresses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
