/*
 * The broker killed at every fault point it passes, one run each: HS_FAULT="*:N:kill" for N = 1, 2, 3 … until a whole
 * scenario (start, attach, worker, ports, listener, death of the app) goes through without a kill. After each run the
 * app has what it asked for, exactly once, and nothing is left over in registry, policy table and vaults.
 */
#include "abi/registry.h"
#include "base/clock.h"
#include "base/err.h"
#include "broker_parts.h"
#include "shm/seg.h"
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS_MAX 2000u

static unsigned app_hellos;

/** Connected, known, on whatever broker there is. */
static void app_present(struct rig_app *a) {
  for (;;) {
    assert_int_equal(rig_app_connect(a), 0);
    int rc = rig_app_hello(a);
    app_hellos++;
    if (rc == 0)
      return;
    assert_int_equal(rc, -EPIPE);
  }
}

static void app_worker(struct rig_app *a) {
  for (;;) {
    int rc = rig_app_add_parted(a, ABI_CHUNK_MAX, ABI_CHUNK_MAX, 0);
    if (rc == -EPIPE) {
      app_present(a);
      continue;
    }
    assert_int_equal(rc, 0);
    while ((rc = rig_app_map(a)) == -EPIPE)
      app_present(a);
    if (rc == 0)
      return;
    assert_int_equal(rc, -ENOENT); /* A was not in a vault yet when the broker died: a new worker is asked for */
  }
}

/** Place n is there for use. */
static void app_part(struct rig_app *a, uint32_t n, uint64_t *place, uint64_t *size) {
  for (;;) {
    int rc = rig_app_add_part(a, n, 0, place, size);
    if (rc == -EPIPE) {
      app_present(a);
      continue;
    }
    assert_int_equal(rc, 0);
    while ((rc = rig_app_part_mapped(a, *place)) == -EPIPE)
      app_present(a);
    if (rc == 0)
      return;
    assert_int_equal(rc, -ENOENT); /* nobody had it when the broker died */
  }
}

static void app_unpart(struct rig_app *a, uint64_t place, uint64_t size) {
  int rc;
  while ((rc = rig_app_drop_part(a, place, size)) == -EPIPE)
    app_present(a);
  assert_int_equal(rc, 0);
}

static void app_bind(struct rig_app *a, uint32_t slot, uint32_t gen, uint16_t port) {
  int rc;
  while ((rc = rig_app_bind(a, slot, gen, "10.1.0.1", port, 0, NULL)) == -EPIPE)
    app_present(a);
  assert_int_equal(rc, 0);
}

static uint32_t app_listen(struct rig_app *a, uint32_t slot, uint32_t gen, uint32_t backlog) {
  uint32_t id = 0;
  int rc;
  while ((rc = rig_app_listen(a, slot, gen, backlog, 0, &id)) == -EPIPE)
    app_present(a);
  assert_int_equal(rc, 0);
  return id;
}

static void app_unbind(struct rig_app *a, uint32_t slot, uint32_t gen) {
  int rc;
  while ((rc = rig_app_unbind(a, slot, gen)) == -EPIPE)
    app_present(a);
  assert_int_equal(rc, 0);
}

static void until_items(struct broker_rig *r, unsigned want) {
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  while (rig_items(&r->engine) != want || rig_items(&r->nicio) != want) {
    if (clock_now_us() >= end)
      fail_msg("engine holds %u items, nicio %u, wanted %u", rig_items(&r->engine), rig_items(&r->nicio), want);
    rig_turn(r, 5);
  }
}

static unsigned policy_live(struct broker_rig *r, uint32_t id) {
  struct seg s;
  struct abi_policy *p;
  struct abi_listen_entry *e;
  unsigned n = 0;
  rig_policy(r, &s, &p, &e);
  for (uint32_t i = 0; i < p->listen_high; i++)
    n += e[i].live != 0 && (id == 0 || e[i].listener_id == id);
  seg_detach(&s);
  return n;
}

/** Records in use: items above the core, apps, processes, workers, binds. */
static unsigned registry_left(struct broker_rig *r) {
  const struct custody_item *it = custody_find(r->engine.cust, ABI_ITEM_SEG, ABI_SEG_REGISTRY, 0);
  struct abi_registry_geom g;
  struct seg s;
  const char *why = NULL;
  unsigned n = 0;
  assert_non_null(it);
  assert_int_equal(seg_attach(&s, dup(it->fd), ABI_SEG_REGISTRY, SEG_RDONLY, &why), 0);
  memcpy(&g, s.geom, sizeof g);
  const struct abi_item *item = seg_at(&s, g.items_off, g.n_items * sizeof *item);
  const struct abi_reg_app *app = seg_at(&s, g.apps_off, g.n_apps * sizeof *app);
  const struct abi_reg_proc *proc = seg_at(&s, g.procs_off, g.n_procs * sizeof *proc);
  const struct abi_reg_worker *worker = seg_at(&s, g.workers_off, g.n_workers * sizeof *worker);
  const struct abi_reg_bind *bind = seg_at(&s, g.binds_off, g.n_binds * sizeof *bind);
  for (uint64_t i = 0; i < g.n_items; i++)
    n += item[i].state != ABI_ITEM_FREE;
  assert_true(n >= RIG_CORE_ITEMS);
  n -= RIG_CORE_ITEMS;
  for (uint64_t i = 0; i < g.n_apps; i++)
    n += app[i].used != 0;
  for (uint64_t i = 0; i < g.n_procs; i++)
    n += proc[i].used != 0;
  for (uint64_t i = 0; i < g.n_workers; i++)
    n += worker[i].used != 0;
  for (uint64_t i = 0; i < g.n_binds; i++)
    n += bind[i].used != 0;
  seg_detach(&s);
  return n;
}

/** One run. Returns how often the broker was killed. */
static unsigned scenario(unsigned nth) {
  struct broker_rig r;
  struct rig_app a;
  char fault[32];
  rig_open(&r, "");
  r.respawn = 1;
  snprintf(fault, sizeof fault, "*:%u:kill", nth);
  rig_start(&r, fault);
  rig_service_start(&r.engine, CUSTODY_ENGINE);
  rig_service_start(&r.nicio, CUSTODY_NICIO);
  rig_app_init(&a, &r);
  app_present(&a);
  app_worker(&a);
  app_bind(&a, 0, 1, 80);
  uint32_t id = app_listen(&a, 0, 1, 5);
  assert_int_equal(app_listen(&a, 0, 1, 9), id);
  app_bind(&a, 1, 1, 81);
  uint32_t other = app_listen(&a, 1, 1, 5);
  assert_int_equal(policy_live(&r, id), 1);
  assert_int_equal(policy_live(&r, 0), 2);
  app_unbind(&a, 1, 1);
  assert_int_equal(policy_live(&r, other), 0);
  app_bind(&a, 1, 2, 81); /* free again, the slot's next life */
  uint64_t place[2], size;
  app_part(&a, 0, &place[0], &size);
  app_part(&a, 1, &place[1], &size);
  app_unpart(&a, place[0], size); /* the other one goes with its worker */
  until_items(&r, RIG_CORE_ITEMS + 5);
  assert_int_equal(r.engine.a_before_sealed, 0);
  rig_app_die(&a);
  until_items(&r, RIG_CORE_ITEMS);
  usec_t end = clock_now_us() + RIG_WAIT_MS * CLOCK_US_PER_MS;
  while (registry_left(&r) != 0) {
    assert_true(clock_now_us() < end);
    rig_turn(&r, 5);
  }
  assert_int_equal(policy_live(&r, 0), 0);
  unsigned killed = r.respawned;
  rig_close(&r);
  return killed;
}

static void test_every_fault_point(void **state) {
  unsigned n = 1;
  (void)state;
#ifndef HS_FAULT_POINTS
  skip(); /* this build has none */
#endif
  const char *only = getenv("HS_TEST_NTH"); /* one run, to look into it */
  if (only != NULL) {
    (void)scenario((unsigned)strtoul(only, NULL, 10));
    return;
  }
  for (;;) {
    print_message("kill at hit %u\n", n); /* what a failure belongs to */
    if (scenario(n) == 0)
      break;
    n++;
    assert_true(n < RUNS_MAX);
  }
  print_message("killed at %u places\n", n - 1);
  assert_true(n > 60); /* the points are there */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_fault_point)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
