/*
 * The end of a connection by an error: EPOLLERR comes together with EPOLLIN and EPOLLHUP, wherever a look falls between
 * the engine's stores (error → RESET → state CLOSED), and nothing tells of the error before.
 */
#include "vcl_rig.h"

#include "fake_sess.h"
#include "vcl_session.h"

#include <pthread.h>
#include <sys/epoll.h>

#define RESET_ALL    (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define RESET_ROUNDS 60

/** The engine's session of a handle of ours. */
static struct fake_session *engines(struct rig *r, uint32_t handle) {
  struct session *s = session_enter(handle);
  assert_non_null(s);
  uint32_t slot = s->slot;
  worker_leave(s->w);
  for (int i = 0; i < FAKE_SESSIONS; i++)
    if (r->fake.session[i].used && !r->fake.session[i].gone && r->fake.session[i].slot == slot)
      return &r->fake.session[i];
  fail_msg("no session of slot %u", slot);
  return NULL;
}

static int ready(uint32_t h) {
  vcl_poll_t p = {.sh = h, .events = (short)RESET_ALL};
  assert_true(vppcom_poll(&p, 1, 0) >= 0);
  return (uint16_t)p.revents;
}

static int pending_error(uint32_t h) {
  int err = -1;
  uint32_t len = sizeof err;
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_ERROR, &err, &len), 0);
  return err;
}

/** Nothing of it is to be seen. */
static void expect_alive(uint32_t set, uint32_t h) {
  struct epoll_event ev;
  char b;
  assert_int_equal(ready(h), EPOLLOUT);
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, 0), 0);
  assert_int_equal(vppcom_session_read(h, &b, 1), VPPCOM_EAGAIN);
  assert_int_equal(pending_error(h), 0);
}

/** The end, at once, in the set and to who asks. */
static void expect_end(uint32_t set, uint32_t h, int err) {
  struct epoll_event ev = {0};
  char b;
  assert_int_equal(vppcom_epoll_wait(set, &ev, 1, RIG_WAIT_S), 1);
  assert_int_equal(ev.events, EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  assert_int_equal(ready(h), RESET_ALL);
  assert_int_equal(vppcom_session_read(h, &b, 1), -err);
  assert_int_equal(vppcom_session_read(h, &b, 1), 0);
}

/** The server's end of a pair in a set. The client's is let alone, its peer is gone. */
static uint32_t watched(struct rig *r, uint16_t port) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP};
  rig_pair(r, port, 1);
  int set = vppcom_epoll_create();
  assert_true(set >= 0);
  assert_int_equal(vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, r->server, &ev), 0);
  return (uint32_t)set;
}

static void stored(struct rig *r, struct fake_session *s, uint32_t *word, uint32_t value) {
  fake_lock(&r->fake);
  STORE(word, value);
  if (word == &s->e->state) {
    s->gone = 1;
    fake_sess_unlink(s);
  }
  fake_sess_hint(s);
  fake_unlock(&r->fake);
  fake_run(&r->fake);
}

/* A reset, looked at between the stores. */
static void test_steps(void **state) {
  struct rig *r = *state;
  uint32_t set = watched(r, 7401);
  struct fake_session *s = engines(r, r->server);
  expect_alive(set, r->server);
  stored(r, s, &s->e->error, ECONNRESET);
  expect_alive(set, r->server);
  stored(r, s, &s->e->flags, s->e->flags | ABI_SE_RESET);
  expect_end(set, r->server, ECONNRESET);
  stored(r, s, &s->e->state, ABI_SESS_CLOSED);
  assert_int_equal(ready(r->server), RESET_ALL & ~EPOLLERR);
  vppcom_session_close(set);
  rig_unpair(r);
  rig_settle(r);
}

/* A time-out has no flag of its own: it comes with the state. */
static void test_timed_out(void **state) {
  struct rig *r = *state;
  uint32_t set = watched(r, 7402);
  struct fake_session *s = engines(r, r->server);
  stored(r, s, &s->e->error, ETIMEDOUT);
  expect_alive(set, r->server);
  stored(r, s, &s->e->state, ABI_SESS_CLOSED);
  expect_end(set, r->server, ETIMEDOUT);
  vppcom_session_close(set);
  rig_unpair(r);
  rig_settle(r);
}

struct storm {
  pthread_barrier_t turn;
  struct fake_session *s;
};

static void *storm_store(void *p) {
  struct storm *t = p;
  (void)pthread_barrier_wait(&t->turn);
  STORE(&t->s->e->error, (uint32_t)ECONNRESET);
  STORE(&t->s->e->flags, t->s->e->flags | ABI_SE_RESET);
  STORE(&t->s->e->state, (uint32_t)ABI_SESS_CLOSED);
  return NULL;
}

/* While another thread stores: whatever a look meets, it is nothing or all. */
static void test_meanwhile(void **state) {
  struct rig *r = *state;
  for (int i = 0; i < RESET_ROUNDS; i++) {
    pthread_t thread;
    rig_pair(r, (uint16_t)(7410 + i), 1);
    struct storm t = {.s = engines(r, r->server)};
    pthread_barrier_init(&t.turn, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, storm_store, &t), 0);
    (void)pthread_barrier_wait(&t.turn);
    int ev = 0;
    for (int k = 0; ev != RESET_ALL && k < 25000; k++) {
      if (k > 10000) /* on a busy machine the other thread comes late */
        (void)poll(NULL, 0, 2);
      ev = ready(r->server);
      if (ev != EPOLLOUT && ev != RESET_ALL)
        fail_msg("round %d: events %#x, not all of %#x", i, (unsigned)ev, (unsigned)RESET_ALL);
    }
    assert_int_equal(ev, RESET_ALL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&t.turn);
    stored(r, t.s, &t.s->e->state, ABI_SESS_CLOSED);
    rig_unpair(r);
    rig_settle(r);
  }
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_steps), RIG(test_timed_out), RIG(test_meanwhile)};
  return cmocka_run_group_tests_name("vcl reset", tests, NULL, NULL);
}
