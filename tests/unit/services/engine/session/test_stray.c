/*
 * Strays (session/stray.c): which proxy takes datagrams to ports that nobody has, and who may open sessions at such.
 */
#include "policy_rig.h"
#include "session/stray.h"

#include <string.h>

#define SLOTS 4

static const struct worker_control no_control = {0};
const struct worker_control *worker_control = &no_control;

struct fixture {
  struct worker w;
  struct seg policy;
  struct app_shared sh[SLOTS];
  struct app_worker app[SLOTS];
  struct abi_sess_app half[SLOTS][1];
};

/* App worker i is 100 + i, its slot 0 an open session of datagrams that listens. */
static int setup(void **state) {
  static struct fixture f;
  memset(&f, 0, sizeof f);
  policy_rig_open(&f.policy, &f.w.listeners);
  assert_int_equal(hash_tab_init(&f.w.flows, 16), 0);
  for (uint32_t i = 0; i < SLOTS; i++) {
    f.w.app[i] = &f.app[i];
    f.app[i].id = 100 + i;
    f.app[i].sh = &f.sh[i];
    f.app[i].v.seg_a.base = (uint8_t *)f.half[i];
    f.app[i].v.ga.n_slots = f.app[i].v.ga.n_slots_app = 1;
    f.half[i][0].gen = 7;
    f.half[i][0].op = ABI_OP_OPEN;
    f.half[i][0].opt.flags = ABI_OPT_STRAYS;
  }
  f.w.n_apps = SLOTS;
  *state = &f;
  return 0;
}

static int teardown(void **state) {
  struct fixture *f = *state;
  policy_rig_close(&f->policy, &f->w.listeners);
  hash_tab_fini(&f->w.flows);
  return 0;
}

/* Entry i is app worker i's. */
static void put(struct fixture *f, uint32_t i, const char *addr, uint16_t port, uint32_t id, uint32_t flags) {
  struct abi_policy *p = policy_rig_block(&f->policy);
  struct abi_listen_entry *e = policy_rig_entry(&f->policy, i);
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(addr, &a), 0);
  uint32_t gen = e->gen;
  *e = (struct abi_listen_entry){.gen = gen + 2,
                                 .live = 1,
                                 .worker_id = 100 + i,
                                 .slot_gen = 7,
                                 .listener_id = id,
                                 .proto = 1,
                                 .flags = flags,
                                 .addr = {.port = be16_from(port), .family = ip_addr_is4(&a) ? 4 : 6}};
  if (!ip_addr_is_any(&a))
    memcpy(e->addr.ip, a.b, 16);
  p->listen_high = SLOTS;
  p->policy_gen++;
  (void)listen_refresh(&f->w);
}

static int goal(struct fixture *f, const char *dst, uint32_t vrf, uint32_t hash) {
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(dst, &a), 0);
  struct listener *l = stray_listener(&f->w, vrf, &a, hash);
  return l ? (int)(l - f->w.listeners.l) : -1;
}

static int may(struct fixture *f, uint32_t app, const char *local, uint16_t port) {
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(local, &a), 0);
  return stray_may_use(&f->w, &f->app[app], &a, port);
}

/* The lowest id, whatever its place; of a TCP proxy and of who is none nothing. */
static void test_first(void **state) {
  struct fixture *f = *state;
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), -1);
  put(f, 0, "0.0.0.0", 80, 1, 0);
  put(f, 1, "0.0.0.0", 81, 9, ABI_LISTEN_PROXY);
  put(f, 2, "10.0.0.1", 82, 5, ABI_LISTEN_PROXY);
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 2);
  assert_int_equal(goal(f, "10.0.0.2", 0, 1), 1);
  assert_int_equal(goal(f, "fd00::1", 0, 1), -1);
  assert_int_equal(goal(f, "10.0.0.1", 1, 1), -1); /* another VRF */
  struct ip_addr a;
  assert_int_equal(ip_addr_parse("10.0.0.1", &a), 0);
  assert_null(listen_taker(&f->w, 0, 0, &a, 1, 1)); /* not for connections */
}

/* The app's half says that it accepts; one that died, or whose slot is another session's, does not. */
static void test_wanted(void **state) {
  struct fixture *f = *state;
  put(f, 1, "0.0.0.0", 81, 1, ABI_LISTEN_PROXY);
  put(f, 2, "0.0.0.0", 82, 2, ABI_LISTEN_PROXY);
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 1);
  f->half[1][0].opt.flags = ABI_OPT_STAMP; /* bound and no more */
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 2);
  f->half[1][0].opt.flags = ABI_OPT_STRAYS;
  f->half[1][0].gen = 8;
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 2);
  f->half[1][0].gen = 7;
  f->half[1][0].op = ABI_OP_NONE;
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 2);
  f->half[1][0].op = ABI_OP_OPEN;
  f->app[1].life = APP_DEAD;
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), 2);
  f->w.n_apps = 0;
  assert_int_equal(goal(f, "10.0.0.1", 0, 1), -1);
}

/* Workers of one proxy share its port: each flow always the same way, and no one without its part. */
static void test_shares(void **state) {
  struct fixture *f = *state;
  int seen[SLOTS] = {0};
  for (uint32_t i = 0; i < 3; i++)
    put(f, i, "0.0.0.0", 80, i + 1, ABI_LISTEN_PROXY | ABI_LISTEN_REUSEPORT);
  put(f, 3, "0.0.0.0", 81, 9, ABI_LISTEN_PROXY);
  for (uint32_t hash = 0; hash < 3000; hash++) {
    int at = goal(f, "10.0.0.1", 0, hash);
    assert_in_range(at, 0, 2);
    assert_int_equal(goal(f, "10.0.0.1", 0, hash), at);
    seen[at]++;
  }
  for (int i = 0; i < 3; i++)
    assert_in_range(seen[i], 700, 1300);
}

/* Sessions at a port that nobody has, for the app that takes strays to that address. */
static void test_may_use(void **state) {
  struct fixture *f = *state;
  assert_int_equal(may(f, 1, "10.0.0.1", 5001), 0);
  put(f, 1, "10.0.0.1", 81, 1, ABI_LISTEN_PROXY);
  put(f, 2, "0.0.0.0", 82, 2, 0);
  assert_int_equal(may(f, 1, "10.0.0.1", 5001), 1);
  assert_int_equal(may(f, 1, "10.0.0.2", 5001), 0);
  assert_int_equal(may(f, 2, "10.0.0.1", 5001), 0);
  assert_int_equal(may(f, 1, "10.0.0.1", 82), 0); /* somebody's */
  f->half[1][0].opt.flags = 0;
  assert_int_equal(may(f, 1, "10.0.0.1", 5001), 0);
}

int main(void) {
#define CASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
  const struct CMUnitTest tests[] = {CASE(test_first), CASE(test_wanted), CASE(test_shares), CASE(test_may_use)};
  return cmocka_run_group_tests_name("engine strays", tests, NULL, NULL);
}
