/*
 * Bells: nothing that the rung side does can block the ringing one; death is told apart from silence.
 *
 * One thread that plays both ends; real socketpairs and eventfds, no sleeping.
 */
#include "base/err.h"
#include "shm/bell.h"
#include "test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

static int readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

static void rings_and_drains(void **state) {
  (void)state;
  int fd[2];
  assert_int_equal(bell_pair(fd), 0);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(fcntl(fd[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(fd[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  }
  assert_int_equal(bell_drain(fd[1]), 0);
  assert_false(readable(fd[1]));
  assert_int_equal(bell_ring_app(fd[0]), 0);
  assert_int_equal(bell_ring_app(fd[0]), 0);
  assert_true(readable(fd[1]));
  assert_int_equal(bell_drain(fd[1]), 1);
  assert_int_equal(bell_drain(fd[1]), 0);
  assert_false(readable(fd[1]));
  close(fd[0]);
  assert_int_equal(bell_drain(fd[1]), -EPIPE);
  close(fd[1]);
}

static void never_blocks(void **state) {
  (void)state;
  int fd[2];
  assert_int_equal(bell_pair(fd), 0);
  /* The app makes its end blocking and never reads. */
  assert_int_equal(fcntl(fd[1], F_SETFL, 0), 0);
  for (int i = 0; i < 20000; i++)
    assert_int_equal(bell_ring_app(fd[0]), 0);
  assert_true(readable(fd[1]));
  assert_int_equal(bell_drain(fd[1]), 1); /* and a drain of a blocking end ends */
  assert_int_equal(bell_drain(fd[1]), 0);
  close(fd[1]);
  assert_int_equal(bell_ring_app(fd[0]), -EPIPE);
  close(fd[0]);
}

static void last_ring_before_death_is_heard(void **state) {
  (void)state;
  int fd[2];
  assert_int_equal(bell_pair(fd), 0);
  assert_int_equal(bell_ring_app(fd[0]), 0);
  close(fd[0]);
  assert_int_equal(bell_drain(fd[1]), 1);
  assert_int_equal(bell_drain(fd[1]), -EPIPE);
  close(fd[1]);
}

static void doorbell_makes_an_edge_each_time(void **state) {
  (void)state;
  int fd = bell_doorbell(), ep = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET}, got;
  assert_true(fd >= 0);
  assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
  assert_int_equal(epoll_wait(ep, &got, 1, 0), 0);
  for (int i = 0; i < 3; i++) { /* never read, and still heard */
    assert_int_equal(bell_ring_service(fd), 0);
    assert_int_equal(epoll_wait(ep, &got, 1, 0), 1);
    assert_int_equal(epoll_wait(ep, &got, 1, 0), 0);
  }
  uint64_t most = UINT64_MAX - 1 - 3;
  assert_int_equal(write(fd, &most, sizeof most), sizeof most); /* full */
  assert_int_equal(bell_ring_service(fd), 0);
  close(fd);
  assert_int_equal(bell_ring_service(fd), -EBADF);
  close(ep);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rings_and_drains),
      cmocka_unit_test(never_blocks),
      cmocka_unit_test(last_ring_before_death_is_heard),
      cmocka_unit_test(doorbell_makes_an_edge_each_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
