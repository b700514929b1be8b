/*
 * Random operations on a connected pair of sessions and, as the twin, on a pair of kernel sockets over loopback: reads,
 * ends, errors and epoll events must be the same after every step.
 *
 * Level-triggered events are compared exactly. Edge-triggered: what the kernel reports the library must report; the
 * library may report a condition that holds once more (Linux allows spurious edges too).
 */
#include "vcl_rig.h"

#include "base/rng.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEEDS 150
#define STEPS 250
#define SETS  2
#define SIDES 2
#define MASK  (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR)

struct twin {
  uint32_t h[SIDES], set[SETS];
  int fd[SIDES], kset[SETS];
  int closed[SIDES], shut_rd[SIDES], shut_wr[SIDES];
  uint32_t member[SETS][SIDES]; /* events asked for, 0 = not in */
  uint32_t seen[SETS][SIDES];   /* what was reported last since it was asked for */
  int in_set[SETS][SIDES];
  uint32_t sent[SIDES], got[SIDES];
  int wrote[SIDES], ended[SIDES]; /* in this step */
  int kernel_listener;
  uint32_t listener;
  struct rng rng;
  struct fake *fake;
};

static uint32_t pick(struct twin *t, uint32_t n) {
  return (uint32_t)rng_below(&t->rng, n);
}

/** PROP_TRACE=1 tells every step. */
static void trace(const char *what, int side, int64_t a, int64_t b) {
  if (getenv("PROP_TRACE") != NULL)
    fprintf(stderr, "%s side %d: %lld %lld\n", what, side, (long long)a, (long long)b);
}

static void twin_listeners(struct twin *t) {
  struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  t->kernel_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(t->kernel_listener, (struct sockaddr *)&sa, sizeof sa), 0);
  assert_int_equal(listen(t->kernel_listener, 4), 0);
  t->listener = rig_listen(7999, 0);
}

static void twin_connect(struct twin *t) {
  struct sockaddr_in sa;
  socklen_t len = sizeof sa;
  int on = 1;
  assert_int_equal(getsockname(t->kernel_listener, (struct sockaddr *)&sa, &len), 0);
  t->fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(connect(t->fd[0], (struct sockaddr *)&sa, len), 0);
  t->fd[1] = accept4(t->kernel_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  assert_true(t->fd[1] >= 0);
  assert_int_equal(fcntl(t->fd[0], F_SETFL, O_RDWR | O_NONBLOCK), 0);
  for (int i = 0; i < SIDES; i++) /* what is written leaves at once */
    assert_int_equal(setsockopt(t->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  t->h[0] = rig_session(0);
  assert_int_equal(rig_connect(t->h[0], 7999), 0);
  int s = vppcom_session_accept(t->listener, NULL, O_NONBLOCK);
  assert_true(s >= 0);
  t->h[1] = (uint32_t)s;
  uint32_t flags = O_NONBLOCK, flen = sizeof flags;
  assert_int_equal(vppcom_session_attr(t->h[0], VPPCOM_ATTR_SET_FLAGS, &flags, &flen), 0);
  memset(t->closed, 0, sizeof t->closed);
  memset(t->in_set, 0, sizeof t->in_set);
  memset(t->shut_rd, 0, sizeof t->shut_rd);
  memset(t->shut_wr, 0, sizeof t->shut_wr);
  memset(t->sent, 0, sizeof t->sent);
  memset(t->got, 0, sizeof t->got);
}

/** Whether something of side !i has not come to side i yet, in the kernel: bytes, or an end. */
static int kernel_busy(const struct twin *t, int i) {
  int have = -1;
  struct tcp_info ti;
  socklen_t len = sizeof ti;
  struct pollfd p = {.fd = t->fd[i], .events = POLLIN};
  uint32_t want = t->sent[!i] - t->got[i];
  if (t->closed[i])
    return 0;
  assert_int_equal(getsockopt(t->fd[i], IPPROTO_TCP, TCP_INFO, &ti, &len), 0);
  if ((t->closed[!i] || t->shut_wr[!i]) &&
      (ti.tcpi_state == TCP_ESTABLISHED || ti.tcpi_state == TCP_FIN_WAIT1 || ti.tcpi_state == TCP_FIN_WAIT2))
    return 1;
  return ioctl(t->fd[i], FIONREAD, &have) == 0 && (uint32_t)have < want &&
         !(poll(&p, 1, 0) > 0 && (p.revents & POLLHUP) != 0);
}

/** Both worlds at rest: the fake by running it; what the kernel sends over loopback may be under way for a while. */
static void twin_settle(struct twin *t) {
  fake_run(t->fake);
  (void)vcl_pump();
  for (int k = 0; k < 30000 && (kernel_busy(t, 0) || kernel_busy(t, 1)); k++)
    (void)poll(NULL, 0, k < 10 ? 0 : 1);
}

static void step_write(struct twin *t, int i) {
  uint8_t buf[200];
  uint32_t n = 1 + pick(t, sizeof buf);
  if (t->closed[!i] || t->shut_rd[!i])
    return; /* the answer is a reset, which is the engine's business */
  for (uint32_t k = 0; k < n; k++)
    buf[k] = (uint8_t)((t->sent[i] + k) * 5);
  int a = vppcom_session_write(t->h[i], buf, n);
  ssize_t b = send(t->fd[i], buf, n, MSG_NOSIGNAL);
  trace("write", i, a, b);
  assert_int_equal(a, b < 0 ? -errno : (int)b);
  if (a > 0)
    t->sent[i] += (uint32_t)a;
  t->wrote[i] = a > 0;
}

static void step_read(struct twin *t, int i) {
  uint8_t x[300], y[300];
  uint32_t n = 1 + pick(t, sizeof x);
  int peek = pick(t, 5) == 0 ? MSG_PEEK : 0;
  int a = vppcom_session_recvfrom(t->h[i], x, n, peek, NULL);
  ssize_t b = recv(t->fd[i], y, n, peek);
  trace("read", i, a, b);
  assert_int_equal(a, b < 0 ? -errno : (int)b);
  if (a > 0)
    assert_memory_equal(x, y, (size_t)a);
  if (a > 0 && !peek)
    t->got[i] += (uint32_t)a;
}

static void step_shutdown(struct twin *t, int i) {
  int how = (int)pick(t, 3);
  int a = vppcom_session_shutdown(t->h[i], how);
  int b = shutdown(t->fd[i], how);
  t->ended[i] = 1;
  t->shut_rd[i] |= how != SHUT_WR;
  t->shut_wr[i] |= how != SHUT_RD && b == 0;
  trace("shutdown", i, how, b);
  assert_int_equal(a, b < 0 ? -errno : 0);
}

static void step_close(struct twin *t, int i) {
  if (pick(t, 6) != 0 || t->sent[!i] != t->got[i])
    return; /* unread data: a reset again */
  assert_int_equal(vppcom_session_close(t->h[i]), 0);
  close(t->fd[i]);
  trace("close", i, 0, 0);
  t->ended[i] = 1;
  t->closed[i] = 1;
  for (int k = 0; k < SETS; k++)
    t->in_set[k][i] = 0;
}

static void step_ctl(struct twin *t, int i) {
  static const uint32_t wants[] = {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLRDHUP, EPOLLIN | EPOLLRDHUP, 0};
  uint32_t k = pick(t, SETS);
  uint32_t op = 1 + pick(t, 3); /* ADD DEL MOD */
  uint32_t events = wants[pick(t, 6)] | (pick(t, 2) ? EPOLLET : 0u) | (pick(t, 4) == 0 ? EPOLLONESHOT : 0u);
  struct epoll_event ev = {.events = events, .data.u64 = (uint64_t)i};
  int a = vppcom_epoll_ctl(t->set[k], (int)op, t->h[i], &ev);
  int b = epoll_ctl(t->kset[k], (int)op, t->fd[i], &ev);
  trace(op == EPOLL_CTL_ADD ? "add" : op == EPOLL_CTL_DEL ? "del" : "mod", i, events, a);
  assert_int_equal(a, b < 0 ? -errno : 0);
  if (a < 0)
    return;
  t->in_set[k][i] = op != EPOLL_CTL_DEL;
  t->member[k][i] = events;
  t->seen[k][i] = 0;
}

static uint32_t events_of(const struct epoll_event *ev, int n, uint64_t data) {
  for (int i = 0; i < n; i++)
    if (ev[i].data.u64 == data)
      return ev[i].events;
  return 0;
}

/** The ACK of a FIN comes when the peer reads, or writes, or some time later: the kernel then says once more what
 * holds, though nothing is new. */
static int kernel_repeats(const struct twin *t, int k, int i, uint32_t theirs) {
  if (t->shut_wr[i] == 0 || (theirs & ~t->seen[k][i]) != 0)
    return 0;
  return (theirs & EPOLLHUP) != 0 || (!t->ended[0] && !t->ended[1] && !(t->wrote[!i] && (theirs & EPOLLIN) != 0));
}

static void step_wait(struct twin *t) {
  struct epoll_event x[8], y[8];
  for (int k = 0; k < SETS; k++) {
    int a = vppcom_epoll_wait(t->set[k], x, 8, 0);
    int b = epoll_wait(t->kset[k], y, 8, 0);
    assert_true(a >= 0 && b >= 0);
    for (int i = 0; i < SIDES; i++) {
      if (!t->in_set[k][i])
        continue;
      uint32_t ours = events_of(x, a, (uint64_t)i), theirs = events_of(y, b, (uint64_t)i);
      int edge = (t->member[k][i] & (EPOLLET | EPOLLONESHOT)) != 0;
      if (edge && theirs == 0 && ours != 0) { /* once more: it must hold, and be what was asked for */
        uint32_t asked = (t->member[k][i] & MASK) | EPOLLHUP | EPOLLERR;
        assert_int_equal(ours & ~asked, 0);
        assert_int_equal(ours & ~vcl_session_events(t->h[i]), 0);
        if ((t->member[k][i] & EPOLLONESHOT) != 0) { /* keep both worlds alike: fired here, so disarm there */
          struct epoll_event ev = {.events = t->member[k][i], .data.u64 = (uint64_t)i};
          assert_int_equal(vppcom_epoll_ctl(t->set[k], EPOLL_CTL_MOD, t->h[i], &ev), 0);
          assert_int_equal(epoll_ctl(t->kset[k], EPOLL_CTL_MOD, t->fd[i], &ev), 0);
        }
        continue;
      }
      if (edge && ours == 0 && kernel_repeats(t, k, i, theirs))
        continue;
      assert_int_equal(ours, theirs);
      if (ours != 0)
        t->seen[k][i] = ours;
    }
  }
}

static void step_error(struct twin *t, int i) {
  int a = -1, b = -1;
  uint32_t alen = sizeof a;
  socklen_t blen = sizeof b;
  assert_int_equal(vcl_opt_get(t->h[i], VCL_OPT_ERROR, &a, &alen), 0);
  assert_int_equal(getsockopt(t->fd[i], SOL_SOCKET, SO_ERROR, &b, &blen), 0);
  trace("so_error", i, a, b);
  assert_int_equal(a, b);
}

static void step(struct twin *t) {
  int i = (int)pick(t, SIDES);
  memset(t->wrote, 0, sizeof t->wrote);
  memset(t->ended, 0, sizeof t->ended);
  if (t->closed[i])
    i = !i;
  if (t->closed[i]) {
    twin_connect(t);
    return;
  }
  switch (pick(t, 12)) {
  case 0:
  case 1:
  case 2:
    step_write(t, i);
    break;
  case 3:
  case 4:
    step_read(t, i);
    break;
  case 5:
    if (pick(t, 4) == 0)
      step_shutdown(t, i);
    break;
  case 6:
    step_close(t, i);
    break;
  case 7:
  case 8:
  case 9:
    step_ctl(t, i);
    break;
  case 10:
    step_error(t, i);
    break;
  default:
    break;
  }
  twin_settle(t);
  step_wait(t);
}

static void one_seed(struct rig *r, uint64_t seed) {
  struct twin t;
  memset(&t, 0, sizeof t);
  t.fake = &r->fake;
  rng_init(&t.rng, seed);
  twin_listeners(&t);
  for (int k = 0; k < SETS; k++) {
    t.set[k] = (uint32_t)vppcom_epoll_create();
    t.kset[k] = epoll_create1(EPOLL_CLOEXEC);
  }
  twin_connect(&t);
  for (int n = 0; n < STEPS; n++)
    step(&t);
  for (int i = 0; i < SIDES; i++) {
    if (t.closed[i])
      continue;
    vppcom_session_close(t.h[i]);
    close(t.fd[i]);
  }
  for (int k = 0; k < SETS; k++) {
    vppcom_session_close(t.set[k]);
    close(t.kset[k]);
  }
  close(t.kernel_listener);
  vppcom_session_close(t.listener);
  rig_settle(r);
}

static void test_twin(void **state) {
  struct rig *r = *state;
  const char *only = getenv("PROP_SEED");
  uint64_t first = only != NULL ? strtoull(only, NULL, 0) : 1;
  for (uint64_t seed = first; seed < first + (only != NULL ? 1 : SEEDS); seed++) {
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    one_seed(r, seed);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_twin, rig_setup, rig_teardown)};
  return cmocka_run_group_tests_name("vcl epoll twin", tests, NULL, NULL);
}
