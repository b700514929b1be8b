/*
 * Parts of A segments: hs-broker as a process, with doubles of the services and of an app. What is given, when it may
 * be used, what is refused, what goes back, and what a new broker knows.
 */
#include "abi/registry.h"
#include "broker_parts.h"
#include "shm/part.h"
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MI ((uint64_t)ABI_CHUNK_MAX)

static int setup(void **state) {
  return rig_setup(state, "");
}

static int setup_limit(void **state) {
  return rig_setup(state, "app-limit: {memory: 8M}");
}

static int setup_ns(void **state) {
  return rig_setup(state, "namespaces: [{id: blue, limit: {memory: 8M}}, {id: red}]");
}

static void app_up_in(struct rig_app *a, struct broker_rig *r, const char *ns, uint64_t keep, uint64_t step,
                      int fixed) {
  rig_app_known(a, r, ns);
  assert_int_equal(rig_app_add_parted(a, keep, step, fixed), 0);
  assert_int_equal(rig_app_map(a), 0);
}

static void app_up(struct rig_app *a, struct broker_rig *r, uint64_t keep, uint64_t step, int fixed) {
  app_up_in(a, r, NULL, keep, step, fixed);
}

struct seen {
  uint64_t worker_id, place;
  const struct custody_item *it;
};

static void see(void *ctx, const struct custody_item *it) {
  struct seen *s = ctx;
  if (it->kind == ABI_ITEM_SEG && it->seg_kind == ABI_SEG_PART && it->owner == s->worker_id && it->place == s->place)
    s->it = it;
}

static const struct custody_item *held(struct rig_svc *svc, const struct rig_app *a, uint64_t place) {
  struct seen s = {.worker_id = a->worker_id, .place = place};
  custody_each(svc->cust, see, &s);
  return s.it;
}

static const struct custody_item *until_held(struct rig_svc *svc, const struct rig_app *a, uint64_t place) {
  const struct custody_item *it;
  for (int i = 0; (it = held(svc, a, place)) == NULL; i++) {
    assert_true(i < 1000);
    rig_turn(svc->rig, 10);
  }
  return it;
}

static void until_gone(struct broker_rig *r, const struct rig_app *a, uint64_t place) {
  for (int i = 0; held(&r->engine, a, place) != NULL || held(&r->nicio, a, place) != NULL; i++) {
    assert_true(i < 1000);
    rig_turn(r, 10);
  }
}

/** Once PartMapped is answered both services have it, sealed, at its place; dropped, nobody has. */
static void test_comes_and_goes(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint64_t place, size, again;
  app_up(&a, r, 2 * MI, MI, 0);
  assert_int_equal(a.view.ga.arena_keep, 2 * MI);
  assert_int_equal(a.view.seg_a.file, a.view.ga.arena_off + 2 * MI);
  for (int round = 0; round < 3; round++) {
    assert_int_equal(rig_app_add_part(&a, 3, 0, &place, &size), 0);
    assert_int_equal(place, a.view.ga.arena_off + 5 * MI);
    assert_int_equal(size, MI);
    assert_null(held(&r->engine, &a, place)); /* it could have other writers still */
    a.view.seg_a.base[place] = (uint8_t)(1 + round);
    assert_int_equal(rig_app_part_mapped(&a, place), 0);
    assert_int_equal(rig_app_part_mapped(&a, place), 0); /* said twice */
    const struct custody_item *e = held(&r->engine, &a, place), *n = held(&r->nicio, &a, place);
    assert_non_null(e);
    assert_non_null(n);
    assert_true(part_fd_ok(e->fd, size, 1));
    assert_int_equal(e->charge, size);
    uint8_t byte = 0;
    assert_int_equal(pread(n->fd, &byte, 1, 0), 1);
    assert_int_equal(byte, 1 + round);
    assert_int_equal(rig_app_add_part(&a, 3, 0, &again, &size), -EEXIST);
    assert_int_equal(rig_app_drop_part(&a, place, size), 0);
    assert_int_equal(rig_app_drop_part(&a, place, size), 0);
    until_gone(r, &a, place);
  }
  assert_int_equal(r->engine.a_before_sealed, 0);
  rig_app_die(&a);
}

static void test_refused(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b, c;
  uint64_t place, size;
  app_up(&a, r, 2 * MI, MI, 0);
  assert_int_equal(rig_app_add_part(&a, PART_MAX, 0, &place, &size), -EINVAL);
  assert_int_equal(rig_app_part_mapped(&a, a.view.ga.arena_off + 2 * MI), -ENOENT);
  assert_int_equal(rig_app_add_part(&a, 1, 1, &place, &size), 0); /* all from place 1 on */
  assert_int_equal(place + size, a.view.seg_a.size);
  assert_int_equal(rig_app_part_mapped(&a, place), 0);
  uint64_t p2, s2;
  assert_int_equal(rig_app_add_part(&a, 5, 0, &p2, &s2), -EEXIST); /* inside it */
  assert_int_equal(rig_app_add_part(&a, 0, 0, &p2, &s2), 0);
  app_up(&b, r, 2 * MI, MI, 1); /* fixed: there is no place */
  assert_int_equal(b.view.ga.arena_size, 2 * MI);
  assert_int_equal(rig_app_add_part(&b, 0, 0, &place, &size), -EINVAL);
  c = a; /* another process's worker */
  c.fd = b.fd;
  c.seq = b.seq;
  assert_int_equal(rig_app_part_mapped(&c, p2), -ENOENT);
  rig_app_die(&a);
  rig_app_die(&b);
}

/** Parts until there are no more; how many, with their places and the last one's size. The rest of the limit is what
 * the segments themselves hold. */
static unsigned fill_up(struct rig_app *a, uint64_t place[8], uint64_t *size, unsigned least) {
  unsigned n = 0;
  int rc;
  while ((rc = rig_app_add_part(a, n, 0, &place[n], size)) == 0) {
    assert_int_equal(rig_app_part_mapped(a, place[n]), 0);
    n++;
    assert_true(n < 8);
  }
  assert_int_equal(rc, -ENOMEM);
  assert_true(n >= least);
  return n;
}

/** A limit counts what was promised from the start; room that is given back can be asked for again. */
static void test_limit(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint64_t place[8], size;
  app_up(&a, r, MI, MI, 0);
  unsigned n = fill_up(&a, place, &size, 5);
  assert_int_equal(rig_app_drop_part(&a, place[n - 1], size), 0);
  assert_int_equal(rig_app_add_part(&a, n - 1, 0, &place[n - 1], &size), 0);
  assert_int_equal(rig_app_part_mapped(&a, place[n - 1]), 0);
  rig_app_die(&a);
}

/** A namespace's limit is one for all of its apps, and nobody else's. */
static void test_limit_ns(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a, b, c;
  uint64_t place[8], size, other;
  app_up_in(&a, r, "blue", MI, MI, 0);
  app_up_in(&b, r, "blue", MI, MI, 0);
  app_up_in(&c, r, "red", MI, MI, 0);
  unsigned n = fill_up(&a, place, &size, 3);
  assert_int_equal(rig_app_add_part(&b, 0, 0, &other, &size), -ENOMEM);
  assert_int_equal(rig_app_add_part(&c, 0, 0, &other, &size), 0);
  assert_int_equal(rig_app_part_mapped(&c, other), 0);
  assert_int_equal(rig_app_drop_part(&a, place[n - 1], size), 0);
  assert_int_equal(rig_app_add_part(&b, 0, 0, &other, &size), 0);
  assert_int_equal(rig_app_part_mapped(&b, other), 0);
  assert_int_equal(rig_app_add_part(&a, n - 1, 0, &other, &size), -ENOMEM);
  rig_app_die(&a);
  rig_app_die(&b);
  rig_app_die(&c);
}

/** A broker that is killed: the next one has the parts from the vaults, and gives them to services that lost theirs. */
static void test_restored(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint64_t place, size, second;
  app_up(&a, r, MI, MI, 0);
  assert_int_equal(rig_app_add_part(&a, 0, 0, &place, &size), 0);
  assert_int_equal(rig_app_part_mapped(&a, place), 0);
  assert_int_equal(rig_app_add_part(&a, 1, 0, &second, &size), 0); /* not mapped yet: goes with the broker */
  memset(a.view.seg_a.base + place, 9, size);
  (void)rig_kill(r, SIGKILL);
  rig_service_stop(&r->engine); /* nicio's copy is enough */
  rig_start(r, NULL);
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  assert_int_equal(rig_app_part_mapped(&a, second), -ENOENT);
  const struct custody_item *e = until_held(&r->engine, &a, place);
  uint8_t byte = 0;
  assert_int_equal(pread(e->fd, &byte, 1, (off_t)size - 1), 1);
  assert_int_equal(byte, 9);
  assert_null(held(&r->engine, &a, second));
  assert_int_equal(rig_app_add_part(&a, 1, 0, &second, &size), 0);
  assert_int_equal(rig_app_part_mapped(&a, second), 0);
  rig_app_die(&a);
  until_gone(r, &a, place);
  until_gone(r, &a, second);
}

/** A service that is away, or that a new broker has not heard of yet, may be reading: no answer before it has the part.
 */
static void test_service_away(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint64_t place, size, second;
  app_up(&a, r, MI, MI, 0);
  rig_service_stop(&r->nicio);
  rig_service_stop(&r->engine);
  assert_int_equal(rig_app_add_part(&a, 0, 0, &place, &size), 0);
  rig_service_start(&r->engine, CUSTODY_ENGINE);
  rig_service_start(&r->nicio, CUSTODY_NICIO);
  assert_int_equal(rig_app_part_mapped(&a, place), 0);
  assert_non_null(held(&r->engine, &a, place));
  assert_non_null(held(&r->nicio, &a, place));
  (void)rig_kill(r, SIGKILL);
  rig_service_stop(&r->nicio);
  rig_start(r, NULL);
  assert_int_equal(rig_app_connect(&a), 0);
  assert_int_equal(rig_app_hello(&a), 0);
  assert_int_equal(rig_app_add_part(&a, 1, 0, &second, &size), 0);
  rig_service_start(&r->nicio, CUSTODY_NICIO);
  assert_int_equal(rig_app_part_mapped(&a, second), 0);
  assert_non_null(held(&r->nicio, &a, place));
  assert_non_null(held(&r->nicio, &a, second));
  rig_app_die(&a);
  until_gone(r, &a, place);
}

static void again(struct broker_rig *r, struct rig_svc *s, enum custody_service who) {
  unsigned ready = s->ready;
  rig_service_stop(s);
  rig_service_start(s, who);
  rig_until(r, &s->ready, ready + 1);
}

/** Services that come back between the app's answer and its PartMapped don't get what could have other writers; they
 * could not map it, and would never be given it again. The same for A itself. */
static void test_service_back_between(void **state) {
  struct broker_rig *r = *state;
  struct rig_app a;
  uint64_t place, size;
  rig_app_known(&a, r, NULL);
  assert_int_equal(rig_app_add_parted(&a, MI, MI, 0), 0);
  again(r, &r->engine, CUSTODY_ENGINE);
  again(r, &r->nicio, CUSTODY_NICIO);
  assert_null(custody_find(r->engine.cust, ABI_ITEM_SEG, ABI_SEG_APP, a.worker_id));
  assert_null(custody_find(r->nicio.cust, ABI_ITEM_SEG, ABI_SEG_APP, a.worker_id));
  assert_int_equal(rig_app_map(&a), 0);
  assert_non_null(custody_find(r->engine.cust, ABI_ITEM_SEG, ABI_SEG_APP, a.worker_id));
  assert_int_equal(rig_app_add_part(&a, 0, 0, &place, &size), 0);
  again(r, &r->engine, CUSTODY_ENGINE);
  again(r, &r->nicio, CUSTODY_NICIO);
  assert_null(held(&r->engine, &a, place));
  assert_null(held(&r->nicio, &a, place));
  assert_int_equal(rig_app_part_mapped(&a, place), 0);
  assert_true(part_fd_ok(held(&r->engine, &a, place)->fd, size, 1));
  assert_true(part_fd_ok(held(&r->nicio, &a, place)->fd, size, 1));
  assert_int_equal(r->engine.a_before_sealed, 0);
  assert_int_equal(r->nicio.a_before_sealed, 0);
  rig_app_die(&a);
  until_gone(r, &a, place);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_comes_and_goes, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_refused, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_limit, setup_limit, rig_teardown),
      cmocka_unit_test_setup_teardown(test_limit_ns, setup_ns, rig_teardown),
      cmocka_unit_test_setup_teardown(test_restored, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_service_away, setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_service_back_between, setup, rig_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
