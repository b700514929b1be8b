/*
 * What dies and comes back: the engine (epochs, lost rings, absence), the worker's detachment, the end of everything.
 */
#include "vcl_rig.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void put(uint32_t h, const char *text) {
  assert_int_equal(vppcom_session_write(h, (void *)(uintptr_t)text, strlen(text)), (int)strlen(text));
}

static void test_engine_restart_idle(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7500, 0);
  for (int i = 0; i < 20; i++) {
    fake_engine_restart(&r->fake);
    put(r->client, "ping");
    assert_int_equal(vppcom_session_read(r->server, b, 8), 4);
    put(r->server, "pong");
    assert_int_equal(vppcom_session_read(r->client, b, 8), 4);
  }
  assert_int_equal(vppcom_worker_is_detached(), 0);
  rig_unpair(r);
  rig_settle(r);
}

/* While the engine is away, writes fill the fifo, reads of what is there go on; afterwards everything is said again. */
static void test_engine_away(void **state) {
  struct rig *r = *state;
  static char buf[64 * 1024];
  rig_pair(r, 7501, 1);
  put(r->server, "before");
  assert_int_equal(rig_wait(r->client, POLLIN), POLLIN);
  fake_lock(&r->fake);
  r->fake.engine_down = 1;
  fake_unlock(&r->fake);
  int n, total = 0;
  while ((n = vppcom_session_write(r->client, buf, sizeof buf)) > 0)
    total += n;
  assert_int_equal(n, VPPCOM_EAGAIN);
  assert_int_equal(total, 64 * 1024);
  assert_int_equal(vppcom_session_read(r->client, buf, 8), 6);
  uint32_t c = rig_session(1);
  assert_int_equal(rig_connect(c, 7501), VPPCOM_EINPROGRESS);
  fake_lock(&r->fake);
  r->fake.engine_down = 0;
  fake_unlock(&r->fake);
  fake_engine_restart(&r->fake);
  assert_int_equal(rig_wait(c, POLLOUT), POLLOUT);
  int got = 0;
  while (got < total) {
    n = vppcom_session_read(r->server, buf, sizeof buf);
    if (n == VPPCOM_EAGAIN) {
      (void)rig_wait(r->server, POLLIN);
      continue;
    }
    assert_true(n > 0);
    got += n;
  }
  vppcom_session_close(c);
  rig_unpair(r);
  rig_settle(r);
}

static void *restarter(void *p) {
  struct rig *r = p;
  for (int i = 0; i < 200; i++) {
    (void)poll(NULL, 0, 1);
    fake_engine_restart(&r->fake);
  }
  return NULL;
}

/* Hints are thrown away again and again during a checked transfer: every byte arrives, once, in order. */
static void test_restarts_under_load(void **state) {
  struct rig *r = *state;
  enum { TOTAL = 20 * 1000 * 1000 };
  static uint8_t out[30000], in[30000];
  size_t sent = 0, got = 0;
  pthread_t t;
  struct epoll_event ev[4], want = {.events = EPOLLIN | EPOLLOUT | EPOLLET};
  rig_pair(r, 7502, 1);
  int vep = vppcom_epoll_create();
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, r->client, &want), 0);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, r->server, &want), 0);
  assert_int_equal(pthread_create(&t, NULL, restarter, r), 0);
  while (got < TOTAL) {
    int n = 0, idle = 1;
    if (sent < TOTAL) {
      size_t len = TOTAL - sent < sizeof out ? TOTAL - sent : sizeof out;
      for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)((sent + i) ^ ((sent + i) >> 11));
      n = vppcom_session_write(r->client, out, len);
      assert_true(n > 0 || n == VPPCOM_EAGAIN);
      sent += n > 0 ? (size_t)n : 0;
      idle &= n < 0;
    }
    n = vppcom_session_read(r->server, in, sizeof in);
    assert_true(n > 0 || n == VPPCOM_EAGAIN);
    for (int i = 0; i < n; i++)
      assert_int_equal(in[i], (uint8_t)((got + (size_t)i) ^ ((got + (size_t)i) >> 11)));
    got += n > 0 ? (size_t)n : 0;
    idle &= n < 0;
    if (idle)
      assert_true(vppcom_epoll_wait((uint32_t)vep, ev, 4, RIG_WAIT_S) > 0);
  }
  assert_int_equal(pthread_join(t, NULL), 0);
  vppcom_session_close((uint32_t)vep);
  rig_unpair(r);
  rig_settle(r);
}

/* A close that the engine missed is said again. */
static void test_close_while_away(void **state) {
  struct rig *r = *state;
  char b[8];
  rig_pair(r, 7503, 0);
  fake_lock(&r->fake);
  r->fake.engine_down = 1;
  fake_unlock(&r->fake);
  put(r->client, "last");
  vppcom_session_close(r->client);
  fake_lock(&r->fake);
  r->fake.engine_down = 0;
  fake_unlock(&r->fake);
  fake_engine_restart(&r->fake);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 4);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_offer_while_rings_are_lost(void **state) {
  struct rig *r = *state;
  uint32_t l = rig_listen(7504, 1);
  assert_int_equal(vppcom_session_accept(l, NULL, 0), VPPCOM_EAGAIN);
  for (int i = 0; i < 20; i++) {
    assert_int_equal(fake_dial(&r->fake, 7504), 0);
    (void)poll(NULL, 0, 2);
    fake_engine_restart(&r->fake);
    assert_true((rig_wait(l, POLLIN) & POLLIN) != 0);
    int s = vppcom_session_accept(l, NULL, 0);
    assert_true(s >= 0);
    vppcom_session_close((uint32_t)s);
  }
  vppcom_session_close(l);
  rig_settle(r);
}

static void ends(struct rig *r, int err) {
  char b[8];
  assert_true((rig_wait(r->server, POLLIN) & POLLERR) != 0);
  assert_int_equal(vppcom_session_read(r->server, b, 8), err);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  assert_int_equal(vppcom_session_write(r->client, b, 8), err);
  assert_int_equal(vppcom_session_write(r->client, b, 8), VPPCOM_EPIPE);
  assert_int_equal(vppcom_worker_is_detached(), 1);
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_TCP, 0), -1);
  assert_int_equal(errno, ENETDOWN);
  assert_int_equal(vppcom_session_accept(r->listener, NULL, 0), err);
  vppcom_session_close(r->server);
  vppcom_session_close(r->client);
  vppcom_session_close(r->listener);
}

static void test_detached(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7505, 1);
  fake_detach_all(&r->fake);
  ends(r, -ENETDOWN);
}

/* A set stays a set, a listener a listener: returns the set with r->listener in it, edge-triggered or not. */
static uint32_t set_with_listener(struct rig *r) {
  struct epoll_event want = {.events = EPOLLIN, .data.u64 = 77};
  int vep = vppcom_epoll_create();
  assert_true(vep >= 0);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, r->listener, &want), 0);
  return (uint32_t)vep;
}

static void nonblocking(uint32_t h) {
  uint32_t flags = O_NONBLOCK, len = sizeof flags;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_SET_FLAGS, &flags, &len), 0);
}

static void connections_are_over(struct rig *r) {
  char b[8];
  int want = POLLIN | POLLHUP | POLLERR;
  assert_int_equal(rig_wait(r->server, POLLRDHUP) & POLLRDHUP, POLLRDHUP);
  assert_int_equal(rig_wait(r->server, POLLIN) & want, want);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 6); /* what had come can still be read */
  assert_int_equal(vppcom_session_read(r->server, b, 8), VPPCOM_ECONNRESET);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 0);
  assert_int_equal(vppcom_session_write(r->client, b, 8), VPPCOM_ECONNRESET);
  assert_int_equal(vppcom_session_write(r->client, b, 8), VPPCOM_EPIPE);
  vppcom_session_close(r->server);
  vppcom_session_close(r->client);
}

/* Nobody to be accepted, no spin, no new sessions: the stack is away. */
static void quiet(struct rig *r, uint32_t vep) {
  struct epoll_event ev;
  struct timespec a, b;
  assert_int_equal(vppcom_worker_is_detached(), 1);
  assert_int_equal(vppcom_session_accept(r->listener, NULL, 0), VPPCOM_EAGAIN);
  assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a), 0);
  assert_int_equal(vppcom_epoll_wait(vep, &ev, 1, 0.4), 0);
  assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b), 0);
  assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 100);
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_TCP, 0), -1);
  assert_int_equal(errno, ENETDOWN);
}

/* The listener is there again, at its port; a session connects to it. */
static void serves_again(struct rig *r, uint32_t vep) {
  struct epoll_event ev;
  char b[8];
  for (int i = 0; i < 3000 && vppcom_worker_is_detached(); i++)
    (void)vppcom_epoll_wait(vep, &ev, 1, 0.01);
  assert_int_equal(vppcom_worker_is_detached(), 0);
  uint32_t c = rig_session(0);
  int rc = rig_connect(c, r->port);
  for (int i = 0; i < 3000 && rc == VPPCOM_ECONNREFUSED; i++) { /* listeners come after the worker */
    (void)vppcom_epoll_wait(vep, &ev, 1, 0.01);
    rc = rig_connect(c, r->port);
  }
  assert_int_equal(rc, 0);
  assert_int_equal(vppcom_epoll_wait(vep, &ev, 1, RIG_WAIT_S), 1);
  assert_true(ev.data.u64 == 77 && (ev.events & EPOLLIN) != 0);
  int s = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(s >= 0);
  put(c, "hello");
  assert_int_equal(vppcom_session_read((uint32_t)s, b, 8), 5);
  vppcom_session_close(c);
  vppcom_session_close((uint32_t)s);
}

static void test_everything_new(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7506, 1);
  nonblocking(r->listener);
  uint32_t vep = set_with_listener(r);
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7510);
  uint32_t bound = rig_session(0), fresh = rig_session(0);
  assert_int_equal(vppcom_session_bind(bound, &ep), 0);
  int bell = vppcom_mq_epoll_fd();
  for (int i = 0; i < 3; i++) {
    if (i != 0) {
      r->client = rig_session(0);
      assert_int_equal(rig_connect(r->client, 7506), 0);
      assert_true((rig_wait(r->listener, POLLIN) & POLLIN) != 0);
      int h = vppcom_session_accept(r->listener, NULL, 0);
      assert_true(h >= 0);
      r->server = (uint32_t)h;
      nonblocking(r->client);
    }
    put(r->client, "before");
    assert_int_equal(rig_wait(r->server, POLLIN), POLLIN);
    fake_all_dead(&r->fake);
    connections_are_over(r);
    quiet(r, vep);
    fake_all_new(&r->fake);
    serves_again(r, vep);
    assert_int_equal(vppcom_mq_epoll_fd(), bell);
  }
  assert_int_equal(vppcom_session_listen(bound, 4), 0);
  assert_int_equal(fake_dial(&r->fake, 7510), 0);
  int s = vppcom_session_accept(bound, NULL, 0);
  assert_true(s >= 0);
  vppcom_session_close((uint32_t)s);
  assert_int_equal(rig_connect(fresh, 7506), 0);
  vppcom_session_close(fresh);
  vppcom_session_close(bound);
  vppcom_session_close(r->listener);
  vppcom_session_close(vep);
  rig_settle(r);
}

/* The program's own epoll set around the mq fd, edge-triggered, outlives the stack. */
static void test_mq_fd_in_a_kernel_set(void **state) {
  struct rig *r = *state;
  struct epoll_event ev, want = {.events = EPOLLIN | EPOLLET};
  r->port = 7511;
  r->listener = rig_listen(7511, 1);
  uint32_t vep = set_with_listener(r);
  int ep = epoll_create1(EPOLL_CLOEXEC);
  assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, vppcom_mq_epoll_fd(), &want), 0);
  fake_all_dead(&r->fake);
  fake_all_new(&r->fake);
  for (int i = 0; i < 1500 && vppcom_worker_is_detached() == 0; i++) {
    (void)epoll_wait(ep, &ev, 1, 20);
    (void)vppcom_epoll_wait(vep, &ev, 1, 0);
  }
  for (int i = 0; i < 1500 && vppcom_worker_is_detached(); i++) {
    assert_int_equal(epoll_wait(ep, &ev, 1, 30000), 1);
    (void)vppcom_epoll_wait(vep, &ev, 1, 0);
  }
  for (int i = 0; i < 100 && epoll_wait(ep, &ev, 1, 150) == 1; i++)
    (void)vppcom_epoll_wait(vep, &ev, 1, 0);
  int dialled = -1;
  RIG_UNTIL(((void)vppcom_epoll_wait(vep, &ev, 1, 0), (dialled = fake_dial(&r->fake, 7511)) == 0));
  assert_int_equal(dialled, 0);
  int n = 0;
  for (int i = 0; i < 100 && n == 0; i++) {
    assert_int_equal(epoll_wait(ep, &ev, 1, 30000), 1);
    n = vppcom_epoll_wait(vep, &ev, 1, 0);
  }
  assert_int_equal(n, 1);
  int s = vppcom_session_accept(r->listener, NULL, 0);
  assert_true(s >= 0);
  close(ep);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(r->listener);
  vppcom_session_close(vep);
  rig_settle(r);
}

/* Closed or shut while the stack is away: nothing comes back. */
static void test_closed_while_all_is_dead(void **state) {
  struct rig *r = *state;
  rig_pair(r, 7512, 1);
  uint32_t shut = rig_listen(7513, 1);
  uint32_t pending = rig_session(1);
  assert_int_equal(rig_connect(pending, FAKE_PORT_SILENT), VPPCOM_EINPROGRESS);
  nonblocking(r->listener);
  fake_all_dead(&r->fake);
  int want = POLLOUT | POLLHUP | POLLERR;
  assert_int_equal(rig_wait(pending, POLLOUT) & want, want);
  assert_int_equal(rig_connect(pending, 7512), VPPCOM_ECONNRESET);
  assert_int_equal(vppcom_session_shutdown(shut, SHUT_RD), 0);
  vppcom_session_close(r->listener);
  uint32_t vep = (uint32_t)vppcom_epoll_create();
  struct epoll_event ev;
  fake_all_new(&r->fake);
  for (int i = 0; i < 3000 && vppcom_worker_is_detached(); i++)
    (void)vppcom_epoll_wait(vep, &ev, 1, 0.01);
  assert_int_equal(fake_dial(&r->fake, 7512), -ENOENT);
  assert_int_equal(fake_dial(&r->fake, 7513), -ENOENT);
  r->listener = rig_listen(7514, 1);
  assert_int_equal(rig_connect(pending, 7514), VPPCOM_EINPROGRESS); /* the same handle, in the new stack */
  assert_int_equal(rig_wait(pending, POLLOUT), POLLOUT);
  vppcom_session_close(pending);
  vppcom_session_close(shut);
  vppcom_session_close(vep);
  rig_unpair(r);
  rig_settle(r);
}

static void *late_stack(void *p) {
  struct rig *r = p;
  (void)poll(NULL, 0, 150);
  fake_all_new(&r->fake);
  return NULL;
}

/* A broker that knows nothing says ESTALE before any bell hung up; a blocking bind waits for the new stack. */
static void test_bind_finds_a_new_broker(void **state) {
  struct rig *r = *state;
  pthread_t t;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7516);
  r->listener = rig_listen(7515, 1);
  uint32_t h = rig_session(0);
  fake_all_dead(&r->fake);
  assert_int_equal(pthread_create(&t, NULL, late_stack, r), 0);
  assert_int_equal(vppcom_session_bind(h, &ep), 0);
  assert_int_equal(vppcom_session_listen(h, 4), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(fake_dial(&r->fake, 7516), 0);
  int dialled = -1;
  RIG_UNTIL(((void)vcl_pump(), (dialled = fake_dial(&r->fake, 7515)) == 0));
  assert_int_equal(dialled, 0);
  int s = vppcom_session_accept(h, NULL, 0);
  assert_true(s >= 0);
  vppcom_session_close((uint32_t)s);
  vppcom_session_close(h);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

/* The broker dies between AddWorker and WorkerMapped: asked for anew, at the first attach and after the end of all. */
static void test_worker_is_forgotten(void **state) {
  struct rig *r = *state;
  struct epoll_event ev;
  vppcom_app_destroy();
  fake_lock(&r->fake);
  r->fake.forget_mapped = 2;
  int before = r->fake.n_add_worker;
  fake_unlock(&r->fake);
  assert_int_equal(vppcom_app_create("test"), 0);
  assert_int_equal(r->fake.n_add_worker, before + 3);
  r->port = 7517;
  r->listener = rig_listen(7517, 1);
  uint32_t vep = set_with_listener(r);
  fake_all_dead(&r->fake);
  for (int i = 0; i < 3000 && !vppcom_worker_is_detached(); i++)
    (void)vppcom_epoll_wait(vep, &ev, 1, 0.01);
  fake_lock(&r->fake);
  r->fake.forget_mapped = 2;
  fake_unlock(&r->fake);
  fake_all_new(&r->fake);
  serves_again(r, vep);
  vppcom_session_close(r->listener);
  vppcom_session_close(vep);
  rig_settle(r);
}

/* An engine with other workers than the last one, while the program sleeps on the mq fd: every lane rings. */
static void test_other_engine_workers(void **state) {
  struct rig *r = *state;
  static const uint32_t workers[] = {3, 1, 8, 2, 1}; /* the fake itself is number 0 alone */
  struct epoll_event ev, want = {.events = EPOLLIN | EPOLLET};
  r->listener = rig_listen(7512, 1);
  uint32_t vep = set_with_listener(r);
  int ep = epoll_create1(EPOLL_CLOEXEC);
  assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, vppcom_mq_epoll_fd(), &want), 0);
  const struct worker_view *v = &r->fake.worker[0].v;
  for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
    fake_lock(&r->fake);
    __atomic_store_n(&v->engine->lanes_used, workers[i], __ATOMIC_RELEASE);
    fake_unlock(&r->fake);
    fake_engine_restart(&r->fake);
    uint32_t epoch = __atomic_load_n(&v->engine->epoch, __ATOMIC_ACQUIRE);
    for (int k = 0; k < 600 && __atomic_load_n(&v->app->epoch_seen, __ATOMIC_ACQUIRE) != epoch; k++) {
      (void)epoll_wait(ep, &ev, 1, 50);
      (void)vppcom_epoll_wait(vep, &ev, 1, 0);
    }
    for (uint32_t lane = 0; lane < workers[i]; lane++)
      assert_int_equal(__atomic_load_n(&v->app->lane[lane].from_engine.armed, __ATOMIC_ACQUIRE), 1);
  }
  close(ep);
  vppcom_session_close(r->listener);
  vppcom_session_close(vep);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_engine_restart_idle),
                                     RIG(test_engine_away),
                                     RIG(test_restarts_under_load),
                                     RIG(test_close_while_away),
                                     RIG(test_offer_while_rings_are_lost),
                                     RIG(test_detached),
                                     RIG(test_everything_new),
                                     RIG(test_mq_fd_in_a_kernel_set),
                                     RIG(test_other_engine_workers),
                                     RIG(test_closed_while_all_is_dead),
                                     RIG(test_bind_finds_a_new_broker),
                                     RIG(test_worker_is_forgotten)};
  return cmocka_run_group_tests_name("vcl restart", tests, NULL, NULL);
}
