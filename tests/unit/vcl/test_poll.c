/*
 * poll and select over sessions.
 */
#include "vcl_rig.h"

static void test_poll(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7700, 1);
  vcl_poll_t p[4] = {{.fds_ndx = 1, .sh = r->client, .events = POLLIN},
                     {.fds_ndx = 2, .sh = r->server, .events = POLLIN},
                     {.fds_ndx = 3, .sh = r->listener, .events = POLLIN},
                     {.fds_ndx = 4, .sh = r->server, .events = 0}};
  assert_int_equal(vppcom_poll(p, 4, 0), 0);
  assert_int_equal(vppcom_poll(p, 4, 0.03), 0);
  assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
  assert_int_equal(vppcom_poll(p, 4, RIG_WAIT_S), 1);
  assert_int_equal(p[1].revents, POLLIN);
  assert_int_equal(p[1].fds_ndx, 2);
  assert_int_equal(p[0].revents | p[2].revents | p[3].revents, 0);
  assert_int_equal(fake_dial(&r->fake, 7700), 0);
  p[1].events = 0;
  assert_int_equal(vppcom_poll(p, 4, RIG_WAIT_S), 1);
  assert_int_equal(p[2].revents, POLLIN);
  p[0].sh = 99999;
  assert_int_equal(vppcom_poll(p, 4, RIG_WAIT_S), 2);
  assert_int_equal(p[0].revents, POLLNVAL);
  assert_int_equal(vppcom_poll(NULL, 1, 0), VPPCOM_EFAULT);
  int s = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(s >= 0);
  vppcom_session_close((uint32_t)s);
  rig_unpair(r);
  rig_settle(r);
}

static vcl_si_set bit(uint32_t h) {
  assert_true(h < 64);
  return (vcl_si_set)1 << h;
}

static void test_select(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7701, 1);
  vcl_si_set rd = bit(r->client) | bit(r->server), wr = 0, ex = bit(r->server);
  assert_int_equal(vppcom_select(64, &rd, &wr, &ex, 0), 0);
  assert_true(rd == 0 && wr == 0 && ex == 0);
  rd = bit(r->client) | bit(r->server);
  wr = bit(r->client);
  assert_int_equal(vppcom_select(64, &rd, &wr, NULL, RIG_WAIT_S), 1);
  assert_true(rd == 0 && wr == bit(r->client));
  assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
  rd = bit(r->client) | bit(r->server);
  assert_int_equal(vppcom_select(64, &rd, NULL, NULL, RIG_WAIT_S), 1);
  assert_true(rd == bit(r->server));
  rd = (vcl_si_set)1 << 60;
  assert_int_equal(vppcom_select(64, &rd, NULL, NULL, 0), VPPCOM_EBADFD);
  assert_int_equal(vppcom_select(-1, &rd, NULL, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_select(1000000, &rd, NULL, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_select(0, NULL, NULL, NULL, 0.02), 0);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_poll), RIG(test_select)};
  return cmocka_run_group_tests_name("vcl poll", tests, NULL, NULL);
}
