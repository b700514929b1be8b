/*
 * VRFs of a worker: which stacks there are and what each has, whose a frame is, and that flows, TIME_WAIT records and
 * routes of one are not found in another.
 */
#include "ip/ip_counters.h"
#include "session/routes.h"
#include "session/worker.h"
#include "test.h"
#include "wire/eth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct worker_control no_control = {0};
const struct worker_control *worker_control = &no_control;

struct fixture {
  struct config cfg;
  struct worker w;
  uint64_t counters[EC_N + TCP_N_COUNTERS + IPC_N + UDP_N_COUNTERS];
};

static struct ip_addr addr(const char *text) {
  struct ip_addr a;
  assert_int_equal(ip_addr_parse(text, &a), 0);
  return a;
}

static void give(struct config *c, const char *port, const char *text) {
  struct config_addr *a = &c->addr[c->n_addrs++];
  struct ip_addr ip = addr(text);
  *a = (struct config_addr){.prefix = 24, .family = 4};
  snprintf(a->port, sizeof a->port, "%s", port);
  memcpy(a->ip, ip.b, sizeof a->ip);
}

/* Port a is in VRF 0 with VLAN 5 in VRF 3, port b in VRF 1; the same address in all. */
static int setup(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  assert_non_null(f);
  config_defaults(&f->cfg);
  f->cfg.max_connections = 1024;
  f->cfg.n_ports = 2;
  f->cfg.port[0] = (struct config_port){.name = "a", .mtu = 1500};
  f->cfg.port[1] = (struct config_port){.name = "b", .mtu = 1400, .vrf = 1};
  f->cfg.n_vlans = 2;
  f->cfg.vlan[0] = (struct config_vlan){.port = "a", .name = "v", .id = 5, .mtu = 1300, .vrf = 3};
  f->cfg.vlan[1] = (struct config_vlan){.port = "b", .name = "u", .id = 5, .vrf = 0};
  give(&f->cfg, "a", "10.0.0.1");
  give(&f->cfg, "b", "10.0.0.1");
  give(&f->cfg, "v", "10.0.0.1");
  give(&f->cfg, "b", "10.1.0.1");
  assert_int_equal(worker_init(&f->w, &f->cfg, 0, f->counters, NULL, NULL), 0);
  const uint8_t mac[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
  vrf_port_set(&f->w, 0, mac[0], 1500, 1);
  vrf_port_set(&f->w, 1, mac[1], 1400, 1);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  struct fixture *f = *state;
  worker_fini(&f->w);
  free(f);
  return 0;
}

static void test_stacks(void **state) {
  struct fixture *f = *state;
  struct ip_addr same = addr("10.0.0.1"), near = addr("10.0.0.9"), only = addr("10.1.0.1"),
                 v6 = addr("fe80::ff:fe00:1");
  const int mtu[] = {1500, 1400, 0, 1300};
  for (uint32_t n = 0; n < ABI_VRFS; n++) {
    struct ip_stack *ip = worker_ip(&f->w, n);
    assert_int_equal(ip != NULL, n == 0 || n == 1 || n == 3); /* none that nobody names */
    if (!ip)
      continue;
    assert_int_equal(ip_is_local(ip, &same), 1);
    assert_int_equal(ip_mtu(ip, &near), mtu[n]);
    assert_int_equal(ip_is_local(ip, &only), n == 1);
    assert_int_equal(ip_is_local(ip, &v6), n != 1); /* of port a's MAC: its own and its VLAN's */
  }
  assert_int_equal(f->w.n_vrfs, 4);
  assert_int_equal(config_ns_vrf(&f->cfg, 0), 0);
}

static uint8_t whose(struct fixture *f, uint8_t port, uint16_t type, uint16_t tci, uint32_t len) {
  uint8_t h[64] = {0};
  store_be16(h + 12, type);
  store_be16(h + 14, tci);
  struct pkt p = {.piece = {{.p = h, .len = len}}, .n_pieces = 1, .len = len, .port = port};
  return vrf_of_frame(&f->w, &p);
}

static void test_frames(void **state) {
  struct fixture *f = *state;
  assert_int_equal(whose(f, 0, ETH_TYPE_IP4, 5, 64), 0);
  assert_int_equal(whose(f, 1, ETH_TYPE_IP6, 5, 64), 1);
  assert_int_equal(whose(f, 0, ETH_TYPE_VLAN, 5, 64), 3);
  assert_int_equal(whose(f, 0, ETH_TYPE_VLAN, 0xe005, 64), 3); /* with a priority */
  assert_int_equal(whose(f, 1, ETH_TYPE_VLAN, 5, 64), 0);
  assert_int_equal(whose(f, 0, ETH_TYPE_VLAN, 6, 64), 0); /* no such VLAN: the port's stack counts it */
  assert_int_equal(whose(f, 1, ETH_TYPE_VLAN, 0, 64), 1); /* a priority alone */
  assert_int_equal(whose(f, 0, ETH_TYPE_VLAN, 5, 17), 0); /* too short to tell, and for anything */
  assert_int_equal(whose(f, 200, ETH_TYPE_IP4, 0, 64), 0);
}

static void test_flows(void **state) {
  struct fixture *f = *state;
  struct ip_addr local = addr("10.0.0.1"), remote = addr("10.0.0.2");
  struct session *s[ABI_VRFS];
  for (uint32_t n = 0; n < ABI_VRFS; n++) { /* the very same four numbers in each */
    s[n] = session_new(&f->w);
    s[n]->vrf = (uint8_t)n;
    s[n]->local = local;
    s[n]->remote = remote;
    s[n]->lport = 80;
    s[n]->rport = 999;
    assert_null(flow_find(&f->w, n, 0, &local, 80, &remote, 999));
    assert_int_equal(flow_add(&f->w, s[n]), 0);
  }
  for (uint32_t n = 0; n < ABI_VRFS; n++)
    assert_ptr_equal(flow_find(&f->w, n, 0, &local, 80, &remote, 999), s[n]);
  flow_del(&f->w, s[7]);
  assert_null(flow_find(&f->w, 7, 0, &local, 80, &remote, 999));
  assert_ptr_equal(flow_find(&f->w, 8, 0, &local, 80, &remote, 999), s[8]);
  for (uint32_t n = 0; n < ABI_VRFS; n++)
    flow_del(&f->w, s[n]);
}

static void test_time_waits(void **state) {
  struct fixture *f = *state;
  struct timewait *t = &f->w.timewait;
  struct ip_addr local = addr("10.0.0.1"), remote = addr("10.0.0.2");
  struct abi_tw tw[2] = {{.life = ABI_TW_USED, .lport = 80, .rport = 999, .nego = 1}};
  memcpy(tw[0].local, local.b, 16);
  memcpy(tw[0].remote, remote.b, 16);
  tw[1] = tw[0];
  tw[1].nego = 1 | 9u << ABI_TW_VRF_SHIFT;
  assert_int_equal(hash_tab_init(&t->index, 64), 0);
  t->tw = tw;
  t->n = t->used = 2;
  for (uint32_t i = 0; i < 2; i++)
    assert_int_equal(hash_tab_insert(&t->index, flow_hash(&f->w, i ? 9 : 0, &local, 80, &remote, 999), i), 0);
  assert_int_equal(timewait_find(&f->w, 0, &local, 80, &remote, 999), 0);
  assert_int_equal(timewait_find(&f->w, 9, &local, 80, &remote, 999), 1);
  assert_int_equal(timewait_find(&f->w, 1, &local, 80, &remote, 999), TIMEWAIT_NONE);
  t->tw = NULL;
}

static void test_routes(void **state) {
  struct fixture *f = *state;
  struct ip_addr dst = addr("10.9.0.0"), via = addr("10.0.0.7"), src;
  struct abi_route table[4] = {{0}};
  struct routes_change c = {.route = {.prefix = 16, .family = 4, .has_via = 4}};
  memcpy(c.route.dst, dst.b, 16);
  memcpy(c.route.via, via.b, 16);
  for (uint32_t n = 0; n <= ABI_VRFS; n++) {
    c.route.vrf = n;
    assert_int_equal(routes_put(&f->w, &c), n == 1 ? 0 : n == 0 || n == 3 ? 0 : -ENODEV);
  }
  c.none = 1;
  c.route.vrf = 0;
  assert_int_equal(routes_put(&f->w, &c), 0);
  assert_int_equal(ip_source(worker_ip(&f->w, 0), &dst, &src), -ENETUNREACH);
  assert_int_equal(ip_source(worker_ip(&f->w, 1), &dst, &src), 0);
  snprintf(c.route.port, sizeof c.route.port, "a");
  c.none = 0;
  c.route.vrf = 1; /* of another VRF's interface */
  assert_int_not_equal(routes_put(&f->w, &c), 0);
  assert_int_equal(ip_source(worker_ip(&f->w, 1), &dst, &src), 0); /* as before */
  c.route.port[0] = '\0';
  for (uint32_t n = 0; n < 4; n += 3) { /* kept apart, too */
    c.route.vrf = n;
    assert_int_equal(routes_keep(table, 4, &c.route, ABI_ROUTE_SET), 0);
  }
  c.route.vrf = 1;
  assert_null(routes_find(table, 4, &c.route));
  c.route.vrf = 3;
  assert_int_equal(routes_find(table, 4, &c.route)->vrf, 3);
  routes_forget(table, 4, &c.route);
  c.route.vrf = 0;
  assert_int_equal(routes_find(table, 4, &c.route)->vrf, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_stacks, setup, teardown),
      cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
      cmocka_unit_test_setup_teardown(test_flows, setup, teardown),
      cmocka_unit_test_setup_teardown(test_time_waits, setup, teardown),
      cmocka_unit_test_setup_teardown(test_routes, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
