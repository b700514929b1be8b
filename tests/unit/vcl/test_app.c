/*
 * The application and its workers: create, destroy, register, the bell, and what a refused attach says.
 */
#include "vcl_rig.h"

#include "base/clock.h"
#include "vcl_app.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

static void test_create_twice(void **state) {
  (void)state;
  assert_int_equal(vppcom_app_create("again"), VPPCOM_EEXIST);
  assert_int_equal(vppcom_worker_index(), 0);
  assert_int_equal(vppcom_worker_register(), VPPCOM_EEXIST);
  assert_int_equal(vppcom_worker_is_detached(), 0);
}

static void test_mq_fd(void **state) {
  (void)state;
  int fd = vppcom_mq_epoll_fd();
  assert_true(fd >= 0);
  assert_int_equal(vppcom_worker_mqs_epfd(), fd);
}

static void test_mq_fd_rings(void **state) {
  struct rig *r = *state;
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET}, got[4];
  int ep = epoll_create1(EPOLL_CLOEXEC);
  int fd = vppcom_mq_epoll_fd();
  assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
  uint32_t l = rig_listen(7001, 1);
  int vep = vppcom_epoll_create();
  struct epoll_event want = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788ull};
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, l, &want), 0);
  for (int i = 0; i < 20; i++) { /* each connection is an edge, though nothing is ever read from the bell */
    assert_int_equal(vppcom_epoll_wait((uint32_t)vep, got, 4, 0), 0);
    assert_int_equal(fake_dial(&r->fake, 7001), 0);
    int n = 0;
    for (int k = 0; k < 50 && n == 0; k++) {
      assert_true(epoll_wait(ep, got, 4, 30000) > 0);
      n = vppcom_epoll_wait((uint32_t)vep, got, 4, 0);
    }
    assert_int_equal(n, 1);
    assert_true(got[0].data.u64 == 0x1122334455667788ull);
    int s = vppcom_session_accept(l, NULL, O_NONBLOCK);
    assert_true(s >= 0);
    assert_int_equal(vppcom_session_close((uint32_t)s), 0);
  }
  close(ep);
  vppcom_session_close((uint32_t)vep);
  vppcom_session_close(l);
}

static void *worker_thread(void *arg) {
  int *out = arg;
  out[0] = vppcom_worker_index();
  out[1] = vppcom_worker_register();
  out[2] = vppcom_worker_index();
  uint32_t l = rig_listen(7002, 0);
  out[3] = (int)l;
  out[4] = vppcom_mq_epoll_fd();
  return NULL; /* the thread's end takes the worker along */
}

static void test_workers(void **state) {
  struct rig *r = *state;
  int out[5];
  pthread_t t;
  int bell = vppcom_mq_epoll_fd();
  assert_int_equal(pthread_create(&t, NULL, worker_thread, out), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(out[0], -1);
  assert_int_equal(out[1], 0);
  assert_int_equal(out[2], 1);
  assert_int_equal(vppcom_session_worker((uint32_t)out[3]), 1);
  assert_true(vppcom_session_index((uint32_t)out[3]) >= 0);
  assert_true(out[4] >= 0 && out[4] != bell);
  uint32_t l = rig_listen(7002, 0); /* free again: the worker went with its thread */
  assert_int_equal(vppcom_session_close(l), 0);
  fake_lock(&r->fake);
  int joined = r->fake.proc[1].have_parent;
  fake_unlock(&r->fake);
  assert_true(joined);
}

static void test_index_set(void **state) {
  (void)state;
  uint32_t h = rig_session(1);
  uint32_t proto = 99, len = sizeof proto;
  vppcom_worker_index_set(0);
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_PROTOCOL, &proto, &len), 0);
  assert_int_equal(proto, VPPCOM_PROTO_TCP);
  vppcom_session_close(h);
}

static void test_no_app(void **state) {
  (void)state;
  struct epoll_event ev;
  assert_int_equal(vppcom_worker_index(), -1);
  assert_int_equal(vppcom_worker_register(), VPPCOM_EINVAL);
  assert_int_equal(vppcom_mq_epoll_fd(), VPPCOM_EINVAL);
  assert_int_equal(vppcom_session_create(VPPCOM_PROTO_TCP, 0), -1);
  assert_int_equal(vppcom_epoll_create(), VPPCOM_EINVAL);
  assert_int_equal(vppcom_epoll_wait(0, &ev, 1, 0), VPPCOM_EBADFD);
  assert_int_equal(vppcom_session_close(0), VPPCOM_EBADFD);
  assert_int_equal(vppcom_worker_is_detached(), 0);
  vppcom_worker_unregister();
  vppcom_app_destroy();
}

static void test_no_broker(void **state) {
  (void)state;
  setenv("VCL_VPP_SAPI_SOCKET", "/tmp/hs-no-such-folder/attach", 1);
  assert_int_equal(vppcom_app_create("x"), VPPCOM_ECONNREFUSED);
  assert_int_equal(vppcom_worker_index(), -1);
}

/** Killed, not stopped: it is on its way back, and a program that begins just then waits for longer than that takes. */
static void test_broker_restarts(void **state) {
  (void)state;
  static struct fake f;
  assert_int_equal(fake_start(&f), 0);
  fake_broker_kill(&f);
  usec_t begun = clock_now_us();
  assert_int_equal(vppcom_app_create("x"), VPPCOM_ECONNREFUSED);
  assert_true(clock_now_us() - begun >= 900 * CLOCK_US_PER_MS);
  fake_broker_up(&f);
  assert_int_equal(vppcom_app_create("x"), 0);
  vppcom_app_destroy();
  fake_stop(&f);
}

static void test_refused(void **state) {
  (void)state;
  static struct fake f;
  assert_int_equal(fake_start(&f), 0);
  fake_lock(&f);
  f.refuse = EACCES;
  fake_unlock(&f);
  assert_int_equal(vppcom_app_create("x"), -EACCES);
  vppcom_cfg_t cfg;
  memset(&cfg, 0, sizeof cfg);
  cfg.max_workers = 4;
  cfg.vpp_app_socket_api = (uint8_t *)f.path;
  assert_int_equal(vppcom_app_create_with_config(NULL), VPPCOM_EINVAL);
  assert_int_equal(vppcom_app_create_with_config(&cfg), 0);
  assert_int_equal(vppcom_worker_index(), 0);
  vppcom_app_destroy();
  assert_int_equal(vppcom_worker_index(), -1);
  fake_stop(&f);
}

static void test_create_again_after_destroy(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    vppcom_app_destroy();
    assert_int_equal(vppcom_app_create("test"), 0);
    uint32_t h = rig_session(0);
    assert_int_equal(vppcom_session_close(h), 0);
  }
}

struct outliver {
  pthread_barrier_t step;
  int was, is, rc, own;
};

static void *outlives_app(void *arg) {
  struct outliver *o = arg;
  assert_int_equal(vppcom_worker_register(), 0);
  pthread_barrier_wait(&o->step);
  pthread_barrier_wait(&o->step); /* meanwhile the application is another, and worker 1 is another thread's */
  o->is = vppcom_worker_index();
  o->rc = vppcom_worker_register();
  o->own = vppcom_worker_index();
  pthread_barrier_wait(&o->step);
  return NULL;
}

static void *second_worker(void *arg) {
  struct outliver *o = arg;
  assert_int_equal(vppcom_worker_register(), 0);
  o->was = vppcom_worker_index();
  pthread_barrier_wait(&o->step);
  pthread_barrier_wait(&o->step);
  pthread_barrier_wait(&o->step);
  vcl_session_handle_t h = rig_session(0); /* its worker is still there */
  assert_int_equal(vppcom_session_close(h), 0);
  return NULL;
}

/* A thread that was a worker of an application that is gone is none of the next one's, and takes none along. */
static void test_thread_outlives_app(void **state) {
  struct outliver a, b;
  pthread_t t, u;
  (void)state;
  assert_int_equal(pthread_barrier_init(&a.step, NULL, 2), 0);
  assert_int_equal(pthread_barrier_init(&b.step, NULL, 2), 0);
  assert_int_equal(pthread_create(&t, NULL, outlives_app, &a), 0);
  pthread_barrier_wait(&a.step);
  vppcom_app_destroy();
  assert_int_equal(vppcom_app_create("next"), 0);
  assert_int_equal(pthread_create(&u, NULL, second_worker, &b), 0);
  pthread_barrier_wait(&b.step);
  pthread_barrier_wait(&a.step);
  pthread_barrier_wait(&a.step);
  assert_int_equal(pthread_join(t, NULL), 0);
  pthread_barrier_wait(&b.step);
  pthread_barrier_wait(&b.step);
  assert_int_equal(pthread_join(u, NULL), 0);
  assert_int_equal(b.was, 1);
  assert_int_equal(a.is, -1);
  assert_int_equal(a.rc, 0);
  assert_int_equal(a.own, 2);
  pthread_barrier_destroy(&a.step);
  pthread_barrier_destroy(&b.step);
}

static void *acts_and_leaves(void *arg) {
  int *own = arg;
  if (*own)
    assert_int_equal(vppcom_worker_register(), 0);
  vppcom_worker_index_set(0);
  vppcom_worker_unregister();
  assert_int_equal(vppcom_worker_index(), -1);
  return NULL;
}

/* Who acts as worker 0 and unregisters ends its own worker, not that one. */
static void test_unregister_is_own(void **state) {
  (void)state;
  for (int own = 0; own < 2; own++) {
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, acts_and_leaves, &own), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    assert_int_equal(vppcom_worker_index(), 0);
    assert_null(app_state.workers[1]);
  }
}

static void test_worker_unregister(void **state) {
  (void)state;
  (void)rig_session(0);
  vppcom_worker_unregister();
  assert_int_equal(vppcom_worker_index(), -1);
  assert_int_equal(vppcom_worker_register(), 0);
  assert_int_equal(vppcom_worker_index(), 0);
}

int main(void) {
  const struct CMUnitTest bare[] = {cmocka_unit_test(test_no_app), cmocka_unit_test(test_no_broker),
                                    cmocka_unit_test(test_broker_restarts), cmocka_unit_test(test_refused)};
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_create_twice),      RIG(test_mq_fd),
                                     RIG(test_mq_fd_rings),       RIG(test_workers),
                                     RIG(test_index_set),         RIG(test_create_again_after_destroy),
                                     RIG(test_worker_unregister), RIG(test_thread_outlives_app),
                                     RIG(test_unregister_is_own)};
  int rc = cmocka_run_group_tests_name("vcl app, none", bare, NULL, NULL);
  return rc + cmocka_run_group_tests_name("vcl app", tests, NULL, NULL);
}
