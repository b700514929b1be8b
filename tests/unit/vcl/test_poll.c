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
  assert_int_equal(vppcom_select((1 << 24) + 1, &rd, NULL, NULL, 0), VPPCOM_EINVAL);
  assert_int_equal(vppcom_select(0, NULL, NULL, NULL, 0.02), 0);
  rig_unpair(r);
  rig_settle(r);
}

/* As many sessions as a worker may have, not FD_SETSIZE: VPP's maps have no limit either. */
static void test_select_many(void **state) {
  enum { SELECT_BITS = 5000, WORD = 8 * sizeof(vcl_si_set) };
  static vcl_si_set rd[SELECT_BITS / WORD + 1], wr[SELECT_BITS / WORD + 1];
  static uint32_t idle[1500];
  struct rig *r = *state;
  for (size_t i = 0; i < 1500; i++)
    idle[i] = (uint32_t)vppcom_epoll_create();
  rig_pair(r, 7702, 1);
  int at = vppcom_session_index(r->server);
  assert_true(at > 1024 && at < SELECT_BITS);
  for (int round = 0; round < 2; round++) {
    memset(rd, 0, sizeof rd);
    memset(wr, 0, sizeof wr);
    rd[(size_t)at / WORD] = wr[(size_t)at / WORD] = (vcl_si_set)1 << ((size_t)at % WORD);
    assert_int_equal(vppcom_select(SELECT_BITS, rd, round ? wr : NULL, NULL, round ? RIG_WAIT_S : 0.01), round * 2);
    assert_int_equal((rd[(size_t)at / WORD] >> ((size_t)at % WORD)) & 1, round);
    if (round == 0)
      assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
    if (round == 0)
      assert_int_equal(rig_wait(r->server, POLLIN) & POLLIN, POLLIN);
  }
  for (size_t i = 0; i < 1500; i++)
    assert_int_equal(vppcom_session_close(idle[i]), 0);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_poll), RIG(test_select), RIG(test_select_many)};
  return cmocka_run_group_tests_name("vcl poll", tests, NULL, NULL);
}
