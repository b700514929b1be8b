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
#include <sys/resource.h>
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

/* A pair among other rings: taken once, in order; descriptors that nobody asked for are closed. */
static void pairs_come_along(void **state) {
  (void)state;
  int fd[2], got[BELL_PAIR_FDS], mine[2];
  assert_int_equal(bell_pair(fd), 0);
  assert_int_equal(bell_pair(mine), 0);
  int side[BELL_PAIR_FDS] = {fd[0], fd[1], mine[1]};
  assert_int_equal(bell_ring_app(fd[0]), 0);
  for (int i = 0; i < 2; i++)
    assert_int_equal(bell_ring_pair(fd[0], side), 0);
  assert_int_equal(bell_ring_app(fd[0]), 0);
  close(mine[1]); /* what lies in the socket is alive without it */
  for (int i = 0; i < 2; i++) {
    assert_int_equal(bell_drain(mine[0]), 0);
    assert_int_equal(bell_drain_pair(fd[1], got), BELL_PAIR);
    assert_int_equal(fcntl(got[2], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(bell_ring_app(got[2]), 0);
    assert_int_equal(bell_drain(mine[0]), 1);
    for (int k = 0; k < BELL_PAIR_FDS; k++)
      close(got[k]);
  }
  assert_int_equal(bell_drain_pair(fd[1], got), 1);
  assert_int_equal(bell_drain_pair(fd[1], got), 0);
  assert_int_equal(bell_drain(mine[0]), -EPIPE);
  close(mine[0]);
  assert_int_equal(bell_pair(mine), 0); /* and with who does not know of them */
  side[2] = mine[1];
  assert_int_equal(bell_ring_pair(fd[0], side), 0);
  close(mine[1]);
  assert_int_equal(bell_drain(fd[1]), 1);
  assert_int_equal(bell_drain(mine[0]), -EPIPE);
  int n = 0;
  side[2] = fd[0];
  while (bell_ring_pair(fd[0], side) == 0 && n < 1000)
    n++;
  assert_true(n > 0 && n < 1000); /* the rung side never looks: no more than its socket holds */
  close(fd[0]);
  close(fd[1]);
  close(mine[0]);
}

/* No room for descriptors: the bell rings all the same, and nothing is left open. */
static void pairs_without_descriptors(void **state) {
  (void)state;
  int fd[2], got[BELL_PAIR_FDS];
  struct rlimit was;
  assert_int_equal(bell_pair(fd), 0);
  int side[BELL_PAIR_FDS] = {fd[0], fd[0], fd[1]};
  assert_int_equal(bell_ring_pair(fd[0], side), 0);
  int next = dup(fd[0]);
  close(next);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
  struct rlimit few = {.rlim_cur = (rlim_t)next + 2, .rlim_max = was.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
  assert_int_equal(bell_drain_pair(fd[1], got), 1);
  int after = dup(fd[0]);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
  assert_int_equal(after, next);
  close(after);
  close(fd[0]);
  close(fd[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rings_and_drains),
      cmocka_unit_test(never_blocks),
      cmocka_unit_test(last_ring_before_death_is_heard),
      cmocka_unit_test(pairs_come_along),
      cmocka_unit_test(pairs_without_descriptors),
      cmocka_unit_test(doorbell_makes_an_edge_each_time),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
