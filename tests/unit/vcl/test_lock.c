/*
 * Lock mode, as the preload shim uses it: many threads on one worker, each with a waiter of its own; no wake-up is lost
 * when one thread drains the hints of another, closing wakes the waiting, references count.
 */
#include "vcl_rig.h"

#include "vcl_app.h"
#include "vcl_worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PAIRS  6
#define ROUNDS 3000

static int lock_setup(void **state) {
  vcl_lock_mode(1);
  return rig_setup(state);
}

static int lock_teardown(void **state) {
  int rc = rig_teardown(state);
  vcl_lock_mode(0);
  return rc;
}

struct side {
  uint32_t h;
  int first;
  int way; /* how it waits */
  int late;
};

/** The waiter's loop of vcl_wait.h. */
static void wait_with_waiter(struct vcl_waiter *w, uint32_t h, int one_fd) {
  for (;;) {
    int fds[2];
    if ((vcl_session_events(h) & EPOLLIN) != 0)
      return;
    if (!vcl_sleep_begin(w))
      continue;
    struct pollfd p[2] = {{.fd = -1}, {.fd = -1}};
    if (one_fd) {
      p[0] = (struct pollfd){.fd = vcl_waiter_fd(w), .events = POLLIN};
    } else {
      int n = vcl_waiter_fds(w, fds);
      for (int i = 0; i < n; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    int rc = poll(p, 2, 30000); /* a lost wake-up would last that long */
    vcl_sleep_end(w);
    assert_int_not_equal(rc, 0);
  }
}

static void wait_readable(struct side *s, struct vcl_waiter *w, uint32_t vep) {
  struct epoll_event ev;
  switch (s->way) {
  case 0:
    assert_int_equal(vcl_session_wait(s->h, EPOLLIN, 30000000), 0);
    return;
  case 1:
    wait_with_waiter(w, s->h, 0);
    return;
  case 2:
    wait_with_waiter(w, s->h, 1);
    return;
  case 3:
    assert_int_equal(vppcom_epoll_wait(vep, &ev, 1, RIG_WAIT_S), 1);
    return;
  case 4:
    if (!vcl_spin(w))
      wait_with_waiter(w, s->h, 0);
    return;
  default:
    assert_int_equal(rig_wait(s->h, POLLIN), POLLIN);
    return;
  }
}

static void *ping_pong(void *p) {
  struct side *s = p;
  struct vcl_waiter w = {0};
  struct epoll_event ev = {.events = EPOLLIN};
  char b = 'x';
  assert_int_equal(vcl_waiter_init(&w), 0);
  assert_int_equal(vcl_waiter_attach(&w, s->h), 0);
  int vep = vppcom_epoll_create();
  assert_true(vep >= 0);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)vep, EPOLL_CTL_ADD, s->h, &ev), 0);
  if (s->first)
    assert_int_equal(vppcom_session_write(s->h, &b, 1), 1);
  for (int i = 0; i < ROUNDS; i++) {
    int n;
    while ((n = vppcom_session_recvfrom(s->h, &b, 1, MSG_DONTWAIT, NULL)) == VPPCOM_EAGAIN)
      wait_readable(s, &w, (uint32_t)vep);
    assert_int_equal(n, 1);
    if (!s->first || i < ROUNDS - 1)
      assert_int_equal(vppcom_session_write(s->h, &b, 1), 1);
  }
  vppcom_session_close((uint32_t)vep);
  vcl_waiter_detach(&w, s->h);
  vcl_waiter_fini(&w);
  return NULL;
}

static void test_many_sleepers(void **state) {
  struct rig *r = *state;
  struct side side[2 * PAIRS];
  pthread_t t[2 * PAIRS];
  uint32_t l = rig_listen(7900, 0);
  for (int i = 0; i < PAIRS; i++) {
    uint32_t c = rig_session(1);
    (void)rig_connect(c, 7900);
    int s = vppcom_session_accept(l, NULL, O_NONBLOCK);
    assert_true(s >= 0);
    side[2 * i] = (struct side){.h = c, .first = 1, .way = i};
    side[2 * i + 1] = (struct side){.h = (uint32_t)s, .way = (i + 3) % 6};
    assert_int_equal(vcl_session_wait(c, EPOLLOUT, 30000000), 0);
  }
  for (int i = 0; i < 2 * PAIRS; i++)
    assert_int_equal(pthread_create(&t[i], NULL, ping_pong, &side[i]), 0);
  for (int i = 0; i < 2 * PAIRS; i++)
    assert_int_equal(pthread_join(t[i], NULL), 0);
  for (int i = 0; i < 2 * PAIRS; i++)
    vppcom_session_close(side[i].h);
  vppcom_session_close(l);
  rig_settle(r);
}

static void *blocked_reader(void *p) {
  char b;
  struct side *s = p;
  s->late = vppcom_session_read(s->h, &b, 1);
  return NULL;
}

static void test_close_wakes(void **state) {
  struct rig *r = *state;
  pthread_t t[2];
  struct side a[2];
  rig_pair(r, 7901, 0);
  a[0] = (struct side){.h = r->server};
  a[1] = (struct side){.h = r->client};
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&t[i], NULL, blocked_reader, &a[i]), 0);
  (void)poll(NULL, 0, 30);
  assert_int_equal(vppcom_session_close(r->server), 0);
  assert_int_equal(pthread_join(t[0], NULL), 0);
  assert_int_equal(a[0].late, VPPCOM_EBADFD);
  assert_int_equal(pthread_join(t[1], NULL), 0);
  assert_int_equal(a[1].late, 0);
  vppcom_session_close(r->client);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void test_shutdown_wakes(void **state) {
  struct rig *r = *state;
  pthread_t t;
  struct side a;
  rig_pair(r, 7902, 0);
  a = (struct side){.h = r->server};
  assert_int_equal(pthread_create(&t, NULL, blocked_reader, &a), 0);
  (void)poll(NULL, 0, 30);
  assert_int_equal(vppcom_session_shutdown(r->server, SHUT_RDWR), 0);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(a.late, 0);
  rig_unpair(r);
  rig_settle(r);
}

struct binding {
  uint32_t h;
  int rc;
};

static void *binder(void *p) {
  struct binding *b = p;
  uint8_t ip[16];
  vppcom_endpt_t ep = rig_ep(ip, 1, 7906);
  b->rc = vppcom_session_bind(b->h, &ep);
  return NULL;
}

/* One thread's bind waits for the broker, another connects meanwhile: the connect stands, and the address is let go. */
static void test_overtaken(void **state) {
  struct rig *r = *state;
  uint8_t ip[16];
  pthread_t t;
  struct binding b = {.h = (uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 0)};
  uint32_t flags = O_NONBLOCK, len = sizeof flags;
  app_state.cfg.scope_local = 0; /* a connect that asks the broker nothing */
  fake_lock(&r->fake);
  assert_int_equal(pthread_create(&t, NULL, binder, &b), 0);
  pthread_mutex_t *asked = &app_state.workers[0]->broker.lock;
  for (int i = 0; i < 30000 && pthread_mutex_trylock(asked) == 0; i++) {
    pthread_mutex_unlock(asked);
    (void)poll(NULL, 0, 1);
  }
  assert_int_equal(pthread_mutex_trylock(asked), EBUSY);
  assert_int_equal(vppcom_session_attr(b.h, VPPCOM_ATTR_SET_FLAGS, &flags, &len), 0);
  vppcom_endpt_t to = rig_ep(ip, 2, 7907);
  assert_int_equal(vppcom_session_connect(b.h, &to), VPPCOM_EINPROGRESS);
  fake_unlock(&r->fake);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(b.rc, VPPCOM_EINVAL);
  assert_int_equal(vcl_session_wait(b.h, EPOLLOUT, 30000000), 0);
  assert_int_equal(vppcom_session_get_error(b.h), VPPCOM_ECONNREFUSED);
  vppcom_session_close(b.h);
  uint32_t l = (uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  vppcom_endpt_t ep = rig_ep(ip, 1, 7906);
  assert_int_equal(vppcom_session_bind(l, &ep), 0); /* nobody has it */
  vppcom_session_close(l);
  rig_settle(r);
}

static void test_waiter_on_set(void **state) {
  struct rig *r = *state;
  struct vcl_waiter w = {0};
  struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
  rig_pair(r, 7904, 1);
  uint32_t set = (uint32_t)vppcom_epoll_create();
  assert_int_equal(vppcom_epoll_ctl(set, EPOLL_CTL_ADD, r->server, &ev), 0);
  assert_int_equal(vcl_waiter_init(&w), 0);
  assert_int_equal(vcl_waiter_attach(&w, set), 0);
  assert_int_equal(vcl_waiter_attach(&w, 4711), VPPCOM_EBADFD);
  for (int i = 0; i < 100; i++) {
    assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 0);
    assert_int_equal(vppcom_session_write(r->client, "x", 1), 1);
    while (vppcom_epoll_wait(set, &ev, 1, 0) == 0) {
      if (!vcl_sleep_begin(&w))
        continue;
      struct pollfd p = {.fd = vcl_waiter_fd(&w), .events = POLLIN};
      int rc = poll(&p, 1, 30000);
      vcl_sleep_end(&w);
      assert_int_equal(rc, 1);
    }
    char b;
    assert_int_equal(vppcom_session_read(r->server, &b, 1), 1);
  }
  assert_int_equal(vppcom_session_close(set), 0); /* detaches */
  vcl_waiter_fini(&w);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, lock_setup, lock_teardown)
  const struct CMUnitTest tests[] = {RIG(test_many_sleepers), RIG(test_close_wakes), RIG(test_shutdown_wakes),
                                     RIG(test_overtaken), RIG(test_waiter_on_set)};
  return cmocka_run_group_tests_name("vcl lock", tests, NULL, NULL);
}
