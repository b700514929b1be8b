/*
 * Listener table: which entry takes a destination, who is offered what, and how policy changes arrive.
 */
#include "policy_rig.h"

#include <string.h>

static const struct worker_control no_control = {0};
const struct worker_control *worker_control = &no_control;

struct fixture {
  struct worker w;
  struct seg policy;
};

static struct abi_listen_entry *entry_of(struct fixture *f, uint32_t i) {
  return policy_rig_entry(&f->policy, i);
}

static int setup(void **state) {
  static struct fixture f;
  memset(&f, 0, sizeof f);
  policy_rig_open(&f.policy, &f.w.listeners);
  *state = &f;
  return 0;
}

static int teardown(void **state) {
  struct fixture *f = *state;
  policy_rig_close(&f->policy, &f->w.listeners);
  return 0;
}

static void put(struct fixture *f, uint32_t i, const char *addr, int family, uint16_t port, uint32_t flags) {
  struct abi_listen_entry *e = entry_of(f, i);
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(addr, &a), 0);
  e->gen++;
  e->live = 1;
  e->worker_id = 100 + i;
  e->slot = i;
  e->slot_gen = 1;
  e->listener_id = i + 1;
  e->backlog = 5;
  e->addr = (struct abi_endpoint){.port = be16_from(port), .family = (uint8_t)family};
  memcpy(e->addr.ip, a.b, 16);
  e->flags = flags;
  e->gen++;
  struct abi_policy *p = policy_rig_block(&f->policy);
  if (p->listen_high <= i)
    p->listen_high = i + 1;
  p->policy_gen++;
}

static int find(struct fixture *f, const char *dst, uint16_t port, uint32_t hash) {
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(dst, &a), 0);
  struct listener *l = listen_find(&f->w, 0, 0, &a, port, hash);
  return l ? (int)l->entry.slot : -1;
}

static void test_specific_before_wildcard(void **state) {
  struct fixture *f = *state;
  put(f, 0, "0.0.0.0", 4, 80, 0);
  put(f, 1, "10.0.0.1", 4, 80, 0);
  put(f, 2, "::", 6, 80, 0);
  assert_int_equal(listen_refresh(&f->w), 3);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), 1);
  assert_int_equal(find(f, "10.0.0.2", 80, 1), 0); /* an IPv4 wildcard before a dual-stack one */
  assert_int_equal(find(f, "fd00::1", 80, 1), 2);
  assert_int_equal(find(f, "10.0.0.1", 81, 1), -1);
}

static void test_dual_stack(void **state) {
  struct fixture *f = *state;
  put(f, 0, "::", 6, 80, 0);
  put(f, 1, "::", 6, 81, ABI_LISTEN_V6ONLY);
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), 0);
  assert_int_equal(find(f, "10.0.0.1", 81, 1), -1);
  assert_int_equal(find(f, "fd00::9", 81, 1), 1);
}

static void test_reuseport_spreads(void **state) {
  struct fixture *f = *state;
  int seen[4] = {0};
  for (uint32_t i = 0; i < 4; i++)
    put(f, i, "0.0.0.0", 4, 80, ABI_LISTEN_REUSEPORT);
  (void)listen_refresh(&f->w);
  for (uint32_t hash = 0; hash < 4000; hash++)
    seen[find(f, "10.0.0.1", 80, hash)]++;
  for (int i = 0; i < 4; i++)
    assert_in_range(seen[i], 700, 1300);
  for (uint32_t hash = 0; hash < 100; hash++) /* the same flow always the same way */
    assert_int_equal(find(f, "10.0.0.1", 80, hash), find(f, "10.0.0.1", 80, hash));
}

static void test_removal_and_rewrite(void **state) {
  struct fixture *f = *state;
  put(f, 0, "0.0.0.0", 4, 80, 0);
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), 0);
  assert_int_equal(listen_has_port(&f->w, 0, 0, 80), 1);
  entry_of(f, 0)->gen++; /* odd: being written, the old copy still serves */
  entry_of(f, 0)->live = 0;
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), 0);
  entry_of(f, 0)->gen++;
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), -1);
  put(f, 0, "0.0.0.0", 4, 8080, 0);
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.0.1", 8080, 1), 0);
  assert_int_equal(listen_has_port(&f->w, 0, 0, 80), 0);
}

static void test_armed_share_is_offered(void **state) {
  struct fixture *f = *state;
  for (uint32_t i = 0; i < 3; i++)
    put(f, i, "0.0.0.0", 4, 80, 0);
  put(f, 3, "0.0.0.0", 4, 81, 0);
  (void)listen_refresh(&f->w);
  struct listener *master = &f->w.listeners.l[0];
  assert_null(listen_share(&f->w, master, 5)); /* nobody takes offers: parked */
  f->w.listeners.l[3].armed = 1;
  assert_null(listen_share(&f->w, master, 5)); /* another port is no share */
  f->w.listeners.l[2].armed = 1;
  assert_ptr_equal(listen_share(&f->w, master, 5), &f->w.listeners.l[2]);
  assert_int_equal(find(f, "10.0.0.1", 80, 77), 2); /* an armed one is preferred at once */
  master->armed = 1;
  assert_ptr_equal(listen_share(&f->w, master, 5), master);
}

/** [::]:80 for IPv6 alone and 0.0.0.0:80 look alike in the table; between namespaces no connection goes from one to the
 * other. */
static void test_share_of_own_namespace(void **state) {
  struct fixture *f = *state;
  put(f, 0, "0.0.0.0", 4, 80, 0);
  entry_of(f, 1)->ns = 1;
  put(f, 1, "::", 6, 80, ABI_LISTEN_V6ONLY);
  (void)listen_refresh(&f->w);
  struct listener *red = &f->w.listeners.l[0], *blue = &f->w.listeners.l[1];
  blue->armed = 1;
  assert_int_equal(blue->entry.ns, 1);
  assert_null(listen_share(&f->w, red, 5));
  assert_ptr_equal(listen_share(&f->w, blue, 5), blue);
  put(f, 2, "0.0.0.0", 4, 80, 0);
  (void)listen_refresh(&f->w);
  f->w.listeners.l[2].armed = 1;
  assert_ptr_equal(listen_share(&f->w, red, 5), &f->w.listeners.l[2]);
}

/** Namespaces with addresses: wildcards of one port side by side, each for its own. A rule may lead anywhere. */
static void test_addresses_of_namespaces(void **state) {
  struct fixture *f = *state;
  static struct config cfg;
  memset(&cfg, 0, sizeof cfg);
  cfg.n_ns = 2;
  cfg.ns[0] =
      (struct config_ns){.n_nets = 1, .net = {{.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 1, 0}, .bits = 96 + 24}}};
  cfg.ns[1] = (struct config_ns){
      .n_nets = 2,
      .net = {{.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 2, 1}, .bits = 128}, {.ip = {0xfd, 0}, .bits = 16}}};
  f->w.cfg = &cfg;
  entry_of(f, 0)->ns = 1;
  put(f, 0, "::", 6, 80, 0);
  entry_of(f, 1)->ns = 2;
  put(f, 1, "::", 6, 80, 0);
  entry_of(f, 2)->ns = 1;
  entry_of(f, 2)->app_tag = 99;
  put(f, 2, "10.0.2.1", 4, 81, 0); /* the address was its own, before the configuration changed */
  (void)listen_refresh(&f->w);
  for (uint32_t hash = 0; hash < 64; hash++) {
    assert_int_equal(find(f, "10.0.1.7", 80, hash), 0);
    assert_int_equal(find(f, "10.0.2.1", 80, hash), 1);
    assert_int_equal(find(f, "10.0.2.2", 80, hash), -1);
    assert_int_equal(find(f, "fd00::1", 80, hash), 1);
    assert_int_equal(find(f, "fe80::1", 80, hash), -1);
  }
  assert_int_equal(find(f, "10.0.2.1", 81, 1), -1);
  struct ip_addr a;
  assert_int_equal(ip_addr_parse("10.0.2.1", &a), 0);
  assert_ptr_equal(listen_find_app(&f->w, 0, 0, 99, &a, 81, 1), &f->w.listeners.l[2]);
  put(f, 3, "0.0.0.0", 4, 80, 0); /* the default namespace has them all */
  (void)listen_refresh(&f->w);
  assert_int_equal(find(f, "10.0.2.2", 80, 1), 3);
  f->w.cfg = NULL;
}

/* The same address and port in each VRF; redirects and port choosing stay within one, too. */
static void test_vrfs(void **state) {
  struct fixture *f = *state;
  struct ip_addr a;
  put(f, 0, "10.0.0.1", 4, 80, 0);
  put(f, 1, "10.0.0.1", 4, 80, 0);
  put(f, 2, "0.0.0.0", 4, 80, 0);
  put(f, 3, "0.0.0.0", 4, 81, 0);
  entry_of(f, 1)->vrf = entry_of(f, 2)->vrf = 1;
  entry_of(f, 3)->vrf = 15;
  entry_of(f, 1)->app_tag = 99;
  (void)listen_refresh(&f->w);
  assert_int_equal(ip_addr_parse("10.0.0.1", &a), 0);
  assert_int_equal(find(f, "10.0.0.1", 80, 1), 0);
  assert_ptr_equal(listen_find(&f->w, 1, 0, &a, 80, 1), &f->w.listeners.l[1]);
  assert_null(listen_find(&f->w, 2, 0, &a, 80, 1));
  assert_null(listen_find_app(&f->w, 0, 0, 99, &a, 80, 1));
  assert_ptr_equal(listen_find_app(&f->w, 1, 0, 99, &a, 80, 1), &f->w.listeners.l[1]);
  assert_ptr_equal(listen_next(&f->w, 0, 0, &a, 80, NULL), &f->w.listeners.l[0]);
  assert_null(listen_next(&f->w, 0, 0, &a, 80, &f->w.listeners.l[0]));
  assert_int_equal(find(f, "10.0.0.2", 80, 1), -1);
  assert_int_equal(listen_has_port(&f->w, 0, 0, 81), 0);
  assert_int_equal(listen_has_port(&f->w, 15, 0, 81), 1);
  f->w.listeners.l[1].armed = 1;
  assert_null(listen_share(&f->w, &f->w.listeners.l[0], 5)); /* not the other VRF's */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_specific_before_wildcard, setup, teardown),
      cmocka_unit_test_setup_teardown(test_dual_stack, setup, teardown),
      cmocka_unit_test_setup_teardown(test_reuseport_spreads, setup, teardown),
      cmocka_unit_test_setup_teardown(test_removal_and_rewrite, setup, teardown),
      cmocka_unit_test_setup_teardown(test_armed_share_is_offered, setup, teardown),
      cmocka_unit_test_setup_teardown(test_share_of_own_namespace, setup, teardown),
      cmocka_unit_test_setup_teardown(test_addresses_of_namespaces, setup, teardown),
      cmocka_unit_test_setup_teardown(test_vrfs, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
