/*
 * Urgent data through the library: MSG_OOB both ways, the mark that reading stops at, SO_OOBINLINE, EPOLLPRI, segments,
 * and a mark that is replaced. tests/conformance compares the same with the kernel; here each step is exact.
 */
#include "vcl_opt.h"
#include "vcl_rig.h"

#include <poll.h>
#include <sys/socket.h>

static void put(uint32_t h, const char *text, int flags) {
  int n = (int)strlen(text);
  assert_int_equal(vppcom_session_sendto(h, (void *)(uintptr_t)text, (uint32_t)n, flags | MSG_NOSIGNAL, NULL), n);
}

static uint32_t events(uint32_t h) {
  vcl_poll_t p = {.fds_ndx = 0, .sh = h, .events = POLLIN | POLLPRI, .revents = 0};
  return vppcom_poll(&p, 1, 0) > 0 ? (uint32_t)(uint16_t)p.revents : 0;
}

static void wait_for(uint32_t h, uint32_t event) {
  RIG_UNTIL((events(h) & event) != 0);
  assert_true((events(h) & event) != 0);
}

/** The fake has done all that it will: the urgent byte, and what came with it. */
static void wait_pri(struct rig *r) {
  fake_run(&r->fake);
  wait_for(r->server, POLLPRI);
}

static int nread(uint32_t h) {
  return vppcom_session_attr(h, VPPCOM_ATTR_GET_NREAD, NULL, NULL);
}

static void wait_nread(uint32_t h, int n) {
  RIG_UNTIL(nread(h) >= n);
  assert_int_equal(nread(h), n);
}

static int at_mark(uint32_t h) {
  int at = -1;
  uint32_t len = sizeof at;
  assert_int_equal(vcl_opt_get(h, VCL_OPT_ATMARK, &at, &len), 0);
  return at;
}

static int get(uint32_t h, char *b, uint32_t n, int flags) {
  return vppcom_session_recvfrom(h, b, n, flags | MSG_DONTWAIT, NULL);
}

static void test_apart(void **state) {
  struct rig *r = *state;
  char b[16];
  rig_pair(r, 7410, 0);
  put(r->client, "abc", MSG_OOB);
  wait_pri(r);
  assert_int_equal(nread(r->server), 2);
  assert_int_equal(at_mark(r->server), 0);
  assert_int_equal(get(r->server, b, 16, MSG_PEEK), 2);
  assert_int_equal(get(r->server, b, 1, MSG_OOB | MSG_PEEK), 1);
  assert_int_equal(b[0], 'c');
  assert_int_equal(get(r->server, b, 16, 0), 2);
  assert_int_equal(at_mark(r->server), 1);
  assert_int_equal(events(r->server), POLLPRI);
  assert_int_equal(get(r->server, b, 0, MSG_OOB | MSG_PEEK), 0);
  assert_int_equal(get(r->server, b, 4, MSG_OOB), 1);
  assert_int_equal(b[0], 'c');
  assert_int_equal(get(r->server, b, 4, MSG_OOB), -EINVAL);
  assert_int_equal(events(r->server), 0);
  assert_int_equal(at_mark(r->server), 1);
  put(r->client, "de", 0);
  wait_nread(r->server, 0); /* counted up to the mark, which is here */
  fake_run(&r->fake);
  wait_for(r->server, POLLIN);
  assert_int_equal(get(r->server, b, 16, MSG_PEEK), 2);
  assert_memory_equal(b, "de", 2);
  assert_int_equal(get(r->server, b, 16, 0), 2);
  assert_memory_equal(b, "de", 2);
  assert_int_equal(at_mark(r->server), 0);
  assert_int_equal(get(r->server, b, 4, MSG_OOB), -EINVAL);
  rig_unpair(r);
  rig_settle(r);
}

static void test_inline(void **state) {
  struct rig *r = *state;
  char b[16];
  int one = 1;
  rig_pair(r, 7411, 0);
  assert_int_equal(vcl_opt_set(r->server, VCL_OPT_OOBINLINE, &one, sizeof one), 0);
  put(r->client, "ab", 0);
  put(r->client, "c", MSG_OOB);
  put(r->client, "d", 0);
  wait_nread(r->server, 4);
  assert_true(events(r->server) & POLLPRI);
  assert_int_equal(get(r->server, b, 1, MSG_OOB), -EINVAL);
  assert_int_equal(get(r->server, b, 16, MSG_WAITALL), 2);
  assert_int_equal(at_mark(r->server), 1);
  assert_int_equal(get(r->server, b, 16, 0), 2);
  assert_memory_equal(b, "cd", 2);
  assert_int_equal(events(r->server), 0);
  rig_unpair(r);
  rig_settle(r);
}

/* Read over, in pieces, and replaced by another while reading stands at it. */
static void test_mark(void **state) {
  struct rig *r = *state;
  vppcom_data_segment_t ds[4];
  char b[16];
  rig_pair(r, 7412, 0);
  put(r->client, "a", MSG_OOB);
  wait_pri(r);
  assert_int_equal(at_mark(r->server), 1);
  put(r->client, "bcX", MSG_OOB);
  wait_nread(r->server, 2);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 4, 16), 2);
  assert_memory_equal(ds[0].data, "bc", 2);
  vppcom_session_free_segments(r->server, 2);
  assert_int_equal(at_mark(r->server), 1);
  put(r->client, "ef", 0);
  fake_run(&r->fake);
  wait_for(r->server, POLLIN);
  wait_nread(r->server, 0);
  assert_int_equal(get(r->server, b, 1, 0), 1);
  assert_int_equal(b[0], 'e');
  assert_int_equal(get(r->server, b, 4, MSG_OOB), -EINVAL);
  assert_int_equal(get(r->server, b, 4, 0), 1);
  assert_int_equal(events(r->server), 0);
  rig_unpair(r);
  rig_settle(r);
}

/* Without copies: an urgent byte alone is no end of the stream, and what is behind it is told of once all before it was
 * given back. */
static void test_segments(void **state) {
  struct rig *r = *state;
  vppcom_data_segment_t ds[4];
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  rig_pair(r, 7413, 1);
  put(r->client, "X", MSG_OOB);
  wait_pri(r);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 4, 16), VPPCOM_EAGAIN);
  put(r->client, "abY", MSG_OOB);
  wait_nread(r->server, 2);
  put(r->client, "cd", 0);
  fake_run(&r->fake);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 4, 16), 2);
  assert_memory_equal(ds[0].data, "ab", 2);
  int set = vppcom_epoll_create();
  assert_int_equal(vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, r->server, &ev), 0);
  while (vppcom_epoll_wait((uint32_t)set, &ev, 1, 0.02) == 1)
    assert_int_equal(vppcom_session_read_segments(r->server, ds, 4, 16), VPPCOM_EAGAIN);
  vppcom_session_free_segments(r->server, 2);
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, 5), 1);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 4, 16), 2);
  assert_memory_equal(ds[0].data, "cd", 2);
  vppcom_session_free_segments(r->server, 2);
  vppcom_session_close((uint32_t)set);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_apart, rig_setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_inline, rig_setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_mark, rig_setup, rig_teardown),
      cmocka_unit_test_setup_teardown(test_segments, rig_setup, rig_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
