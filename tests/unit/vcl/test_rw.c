/*
 * The corners of reading and writing: peek, wait-all, truncation, low-water mark, segments, gathered writes, cork,
 * blocking ones across the sleep's ceiling, and signals.
 */
#include "vcl_rig.h"

#include "vcl_app.h"
#include "vcl_worker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

static void put(uint32_t h, const char *text) {
  assert_int_equal(vppcom_session_write(h, (void *)(uintptr_t)text, strlen(text)), (int)strlen(text));
}

static void wait_nread(uint32_t h, int n) {
  RIG_UNTIL(vppcom_session_attr(h, VPPCOM_ATTR_GET_NREAD, NULL, NULL) >= n);
  assert_int_equal(vppcom_session_attr(h, VPPCOM_ATTR_GET_NREAD, NULL, NULL), n);
}

static void test_flags(void **state) {
  struct rig *r = *state;
  char b[16];
  uint8_t ip[16];
  vppcom_endpt_t from;
  rig_pair(r, 7400, 0);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 4, MSG_DONTWAIT, NULL), VPPCOM_EAGAIN);
  put(r->client, "abcdef");
  wait_nread(r->server, 6);
  memset(&from, 0, sizeof from);
  from.ip = ip;
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 3, MSG_PEEK, NULL), 3);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 16, MSG_PEEK, &from), 6);
  assert_memory_equal(b, "abcdef", 6);
  assert_int_equal(from.is_ip4, 1);
  assert_int_not_equal(from.port, 0);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 0, 0, NULL), 0);
  assert_int_equal(vppcom_session_recvfrom(r->server, NULL, 2, MSG_TRUNC, NULL), 2);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 16, 0, NULL), 4);
  assert_memory_equal(b, "cdef", 4);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 1, MSG_OOB, NULL), -EINVAL);
  assert_int_equal(vppcom_session_sendto(r->server, b, 4, MSG_DONTWAIT | MSG_NOSIGNAL, NULL), 4);
  assert_int_equal(vppcom_session_write(r->client, b, 0), 0);
  rig_unpair(r);
  rig_settle(r);
}

static void *late_writer(void *p) {
  struct rig *r = p;
  for (int i = 0; i < 4; i++) {
    (void)poll(NULL, 0, 60);
    put(r->client, "1234");
  }
  return NULL;
}

/* Lock mode: a reader blocks over the sleep's ceiling while another thread writes on the same worker. */
static void test_waitall(void **state) {
  struct rig *r = *state;
  pthread_t t;
  char b[16];
  vcl_lock_mode(1);
  rig_pair(r, 7401, 0);
  assert_int_equal(pthread_create(&t, NULL, late_writer, r), 0);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, 16, MSG_WAITALL, NULL), 16);
  assert_memory_equal(b, "1234123412341234", 16);
  assert_int_equal(pthread_join(t, NULL), 0);
  rig_unpair(r);
  rig_settle(r);
  vcl_lock_mode(0);
}

static void test_lowat(void **state) {
  struct rig *r = *state;
  int lowat = 4;
  char b[16];
  rig_pair(r, 7402, 1);
  assert_int_equal(vcl_opt_set(r->server, VCL_OPT_RCVLOWAT, &lowat, sizeof lowat), 0);
  put(r->client, "ab");
  wait_nread(r->server, 2);
  vcl_poll_t p = {.sh = r->server, .events = POLLIN};
  assert_int_equal(vppcom_poll(&p, 1, 0.02), 0);
  put(r->client, "cd");
  assert_int_equal(rig_wait(r->server, POLLIN), POLLIN);
  assert_int_equal(vppcom_session_read(r->server, b, 16), 4);
  rig_unpair(r);
  rig_settle(r);
}

static void test_segments(void **state) {
  struct rig *r = *state;
  static uint8_t big[40000];
  vppcom_data_segment_t ds[16], out[3];
  rig_pair(r, 7403, 1);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 16, 100), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_session_read_segments(r->server, NULL, 16, 100), VPPCOM_EFAULT);
  for (size_t i = 0; i < sizeof big; i++)
    big[i] = (uint8_t)(i * 13 + (i >> 8));
  out[0] = (vppcom_data_segment_t){.data = big, .len = 10};
  out[1] = (vppcom_data_segment_t){.data = big + 10, .len = 0};
  out[2] = (vppcom_data_segment_t){.data = big + 10, .len = sizeof big - 10};
  assert_int_equal(vppcom_session_write_segments(r->client, out, 3), (int)sizeof big);
  wait_nread(r->server, (int)sizeof big);
  size_t at = 0;
  while (at < sizeof big) {
    int n = vppcom_session_read_segments(r->server, ds, 16, 7000);
    assert_true(n > 0);
    uint32_t sum = 0;
    for (int i = 0; i < 16 && ds[i].data != NULL; i++) {
      assert_memory_equal(ds[i].data, big + at + sum, ds[i].len);
      sum += ds[i].len;
    }
    assert_int_equal(sum, n);
    vppcom_session_free_segments(r->server, (uint32_t)n);
    at += (size_t)n;
  }
  vppcom_session_close(r->client);
  assert_true((rig_wait(r->server, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 16, 100), 0);
  vppcom_session_free_segments(r->server, 100);
  vppcom_session_free_segments(4711, 100);
  vppcom_session_close(r->server);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

static void expect_segments(struct rig *r, const char *what, uint32_t max) {
  vppcom_data_segment_t ds[16];
  int n = vppcom_session_read_segments(r->server, ds, 16, max);
  assert_int_equal(n, (int)strlen(what));
  uint32_t at = 0;
  for (int i = 0; i < 16 && ds[i].data != NULL; at += ds[i].len, i++)
    assert_memory_equal(ds[i].data, what + at, ds[i].len);
  assert_int_equal(at, n);
}

/* As Envoy reads without copies: until -EAGAIN, and what it got is given back later, in other pieces. */
static void test_segments_kept(void **state) {
  struct rig *r = *state;
  vppcom_data_segment_t ds[16];
  vcl_poll_t p;
  struct epoll_event ev = {.events = EPOLLIN};
  rig_pair(r, 7404, 1);
  p = (vcl_poll_t){.sh = r->server, .events = POLLIN};
  int set = vppcom_epoll_create();
  assert_int_equal(vppcom_epoll_ctl((uint32_t)set, EPOLL_CTL_ADD, r->server, &ev), 0);
  put(r->client, "abcdefgh");
  wait_nread(r->server, 8);
  expect_segments(r, "abc", 3);
  assert_int_equal(vppcom_session_attr(r->server, VPPCOM_ATTR_GET_NREAD, NULL, NULL), 5);
  assert_int_equal(vppcom_poll(&p, 1, 0), 1);
  expect_segments(r, "defgh", 100);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 16, 100), VPPCOM_EAGAIN);
  assert_int_equal(vppcom_poll(&p, 1, 0), 0); /* else a loop would spin until they are given back */
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, 0), 0);
  vppcom_session_free_segments(r->server, 4);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 16, 100), VPPCOM_EAGAIN);
  put(r->client, "ij");
  assert_int_equal(vppcom_epoll_wait((uint32_t)set, &ev, 1, RIG_WAIT_S), 1);
  expect_segments(r, "ij", 100);
  vppcom_session_free_segments(r->server, 5);
  put(r->client, "kl");
  wait_nread(r->server, 2);
  vppcom_session_free_segments(r->server, 100); /* of "kl" nobody has seen anything */
  expect_segments(r, "kl", 100);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0);
  assert_true((rig_wait(r->server, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read_segments(r->server, ds, 16, 100), 0); /* the end, with bytes still out */
  vppcom_session_close((uint32_t)set);
  assert_int_equal(vppcom_session_close(r->server), 0); /* and they are no unread bytes: no reset */
  char b[4];
  assert_true((rig_wait(r->client, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read(r->client, b, 4), 0);
  vppcom_session_close(r->client);
  vppcom_session_close(r->listener);
  rig_settle(r);
}

/* More pieces than fit on the stack: one datagram all the same, and nothing of it missing. */
static void test_many_segments(void **state) {
  struct rig *r = *state;
  uint8_t ip[16], out[100], in[200];
  vppcom_data_segment_t ds[100];
  vppcom_endpt_t ep = rig_ep(ip, 0, 7405);
  for (size_t i = 0; i < 100; i++) {
    out[i] = (uint8_t)i;
    ds[i] = (vppcom_data_segment_t){.data = out + i, .len = 1};
  }
  uint32_t to = (uint32_t)vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  uint32_t from = (uint32_t)vppcom_session_create(VPPCOM_PROTO_UDP, 1);
  assert_int_equal(vppcom_session_bind(to, &ep), 0);
  assert_int_equal(rig_connect(from, 7405), 0);
  assert_int_equal(vppcom_session_write_segments(from, ds, 100), 100);
  assert_true((rig_wait(to, POLLIN) & POLLIN) != 0);
  assert_int_equal(vppcom_session_read(to, in, sizeof in), 100);
  assert_memory_equal(in, out, 100);
  vppcom_session_close(from);
  vppcom_session_close(to);
  rig_pair(r, 7406, 1);
  assert_int_equal(vppcom_session_write_segments(r->client, ds, 100), 100);
  wait_nread(r->server, 100);
  assert_int_equal(vppcom_session_read(r->server, in, sizeof in), 100);
  assert_memory_equal(in, out, 100);
  rig_unpair(r);
  rig_settle(r);
}

static void test_cork(void **state) {
  struct rig *r = *state;
  int on = 1, got = 0;
  uint32_t len = sizeof got;
  char b[8];
  rig_pair(r, 7404, 0);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CORK, &on, sizeof on), 0);
  assert_int_equal(vppcom_session_write_msg(r->client, "m", 1), 1);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 1);
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_CORK, &got, &len), 0);
  assert_int_equal(got, 1);
  assert_int_equal(vppcom_session_write(r->client, "n", 1), 1);
  assert_int_equal(vppcom_session_read(r->server, b, 8), 1);
  rig_unpair(r);
  rig_settle(r);
}

static void send_more(struct rig *r, const char *text, int flags, int held) {
  assert_int_equal(vppcom_session_sendto(r->client, (void *)(uintptr_t)text, (uint32_t)strlen(text), flags, NULL),
                   strlen(text));
  fake_run(&r->fake);
  (void)vcl_pump();
  int n = vppcom_session_attr(r->server, VPPCOM_ATTR_GET_NREAD, NULL, NULL);
  if ((n == 0) != held)
    fail_msg("\"%s\": %d bytes have come", text, n);
}

static void took(struct rig *r, const char *text) {
  char b[32];
  assert_int_equal(vppcom_session_read(r->server, b, sizeof b), strlen(text));
  assert_memory_equal(b, text, strlen(text));
}

/* MSG_MORE on a stream: held back until a call without it, or what else makes Linux send. */
static void test_more(void **state) {
  struct rig *r = *state;
  static char big[200000];
  int on = 1, off = 0, got = 1;
  uint32_t v = 1, len = sizeof got, v_len = sizeof v;
  rig_pair(r, 7407, 1);
  fake_lock(&r->fake);
  r->fake.corks = 1;
  fake_unlock(&r->fake);
  send_more(r, "a", MSG_MORE, 1);
  send_more(r, "b", MSG_MORE, 1);
  assert_int_equal(vcl_opt_get(r->client, VCL_OPT_CORK, &got, &len), 0);
  assert_int_equal(got, 0); /* it is not TCP_CORK */
  send_more(r, "c", 0, 0);
  took(r, "abc");
  send_more(r, "d", 0, 0); /* it was for that call */
  took(r, "d");
  send_more(r, "e", MSG_MORE, 1);
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CORK, &off, sizeof off), 0);
  send_more(r, "", 0, 0);
  took(r, "e");
  send_more(r, "f", MSG_MORE, 1);
  assert_int_equal(vppcom_session_attr(r->client, VPPCOM_ATTR_SET_TCP_NODELAY, &v, &v_len), 0);
  send_more(r, "", 0, 0);
  took(r, "f");
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CORK, &on, sizeof on), 0);
  send_more(r, "g", MSG_MORE, 1);
  send_more(r, "h", 0, 1); /* a cork stays */
  assert_int_equal(vcl_opt_set(r->client, VCL_OPT_CORK, &off, sizeof off), 0);
  send_more(r, "", 0, 0);
  took(r, "gh");
  int n =
      vppcom_session_sendto(r->client, big, sizeof big, MSG_MORE | MSG_DONTWAIT, NULL); /* who finds no room pushes */
  assert_true(n > 0 && n < (int)sizeof big);
  for (int left = n; left > 0; left -= n) {
    fake_run(&r->fake);
    (void)vcl_pump();
    n = vppcom_session_read(r->server, big, sizeof big);
    assert_true(n > 0);
  }
  send_more(r, "i", MSG_MORE, 1);
  assert_int_equal(vppcom_session_shutdown(r->client, SHUT_WR), 0); /* as the end of the stream does */
  fake_run(&r->fake);
  (void)vcl_pump();
  took(r, "i");
  assert_int_equal(vppcom_session_read(r->server, big, 1), 0);
  rig_unpair(r);
  rig_settle(r);
}

static void on_signal(int sig) {
  (void)sig;
}

static void test_eintr(void **state) {
  struct rig *r = *state;
  char b[8];
  struct sigaction sa = {.sa_handler = on_signal}, old;
  rig_pair(r, 7405, 0);
  sigaction(SIGALRM, &sa, &old);
  struct itimerspec its = {.it_value = {.tv_nsec = 30 * 1000 * 1000}, .it_interval = {.tv_nsec = 30 * 1000 * 1000}};
  struct sigevent se = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
  timer_t timer;
  assert_int_equal(timer_create(CLOCK_MONOTONIC, &se, &timer), 0);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  assert_int_equal(timer_settime(timer, 0, &its, NULL), 0);
  int rc = vppcom_session_read(r->server, b, 8);
  timer_delete(timer);
  sigaction(SIGALRM, &old, NULL);
  assert_int_equal(rc, -EINTR);
  rig_unpair(r);
  rig_settle(r);
}

/** The bytes that are held move once the library's worker sleeps. */
static void *late_mover(void *p) {
  struct rig *r = p;
  const uint32_t *armed = &app_state.workers[0]->home->from[0].mine->armed;
  while (__atomic_load_n(armed, __ATOMIC_ACQUIRE) == 0)
    (void)poll(NULL, 0, 1);
  (void)poll(NULL, 0, 10);
  fake_lock(&r->fake);
  r->fake.hold = 0;
  fake_unlock(&r->fake);
  return NULL;
}

/* A bell that never comes: the sleep's ceiling finds the bytes, and that is counted. */
static void test_late(void **state) {
  struct rig *r = *state;
  char b;
  rig_pair(r, 7408, 0);
  uint32_t *late = &app_state.workers[0]->home->from[0].mine->late_wakeup;
  waiter_late_ms = 50;
  for (int i = 0; i < 20 && *late == 0; i++) { /* one that had not slept yet when they moved saw them itself */
    pthread_t t;
    fake_lock(&r->fake);
    r->fake.mute = r->fake.hold = 1;
    fake_unlock(&r->fake);
    put(r->client, "x");
    assert_int_equal(pthread_create(&t, NULL, late_mover, r), 0);
    assert_int_equal(vppcom_session_read(r->server, &b, 1), 1);
    assert_int_equal(pthread_join(t, NULL), 0);
  }
  assert_int_equal(*late, 1);
  *late = 0; /* the rig's end wants none */
  fake_lock(&r->fake);
  r->fake.mute = 0;
  fake_unlock(&r->fake);
  rig_unpair(r);
  rig_settle(r);
}

/* Memory: many idle sessions must not hold the arena against the ones that write. */
static void test_arena_is_shared(void **state) {
  struct rig *r = *state;
  enum { N = 200 };
  static uint32_t c[N], s[N];
  static uint8_t buf[60000], in[65536];
  uint32_t l = rig_listen(7406, 0);
  for (int i = 0; i < N; i++) {
    c[i] = rig_session(0);
    assert_int_equal(rig_connect(c[i], 7406), 0);
    int h = vppcom_session_accept(l, NULL, 0);
    assert_true(h >= 0);
    s[i] = (uint32_t)h;
    for (int k = 0; k < 10; k++) { /* 120 MB through a 64 MB arena */
      assert_int_equal(vppcom_session_write(c[i], buf, sizeof buf), (int)sizeof buf);
      assert_int_equal(vppcom_session_recvfrom(s[i], in, sizeof buf, MSG_WAITALL, NULL), (int)sizeof buf);
    }
  }
  for (int i = 0; i < N; i++) {
    vppcom_session_close(c[i]);
    vppcom_session_close(s[i]);
  }
  vppcom_session_close(l);
  rig_settle(r);
}

/* What was written and acknowledged holds no memory after a while. */
static void test_idle_holds_nothing(void **state) {
  struct rig *r = *state;
  static char b[60000];
  rig_pair(r, 7407, 1);
  const struct worker *w = app_state.workers[0];
  uint64_t all = arena_free_bytes(w->home->arena);
  assert_int_equal(vppcom_session_write(r->client, b, sizeof b), sizeof b);
  wait_nread(r->server, sizeof b);
  assert_int_equal(vppcom_session_recvfrom(r->server, b, sizeof b, MSG_WAITALL, NULL), sizeof b);
  RIG_UNTIL(((void)vcl_pump(), w->n_held == 0));
  assert_int_equal(w->n_held, 0);
  assert_int_equal(arena_free_bytes(w->home->arena), all);
  put(r->client, "again"); /* and it goes on */
  wait_nread(r->server, 5);
  rig_unpair(r);
  rig_settle(r);
}

int main(void) {
#define RIG(t) cmocka_unit_test_setup_teardown(t, rig_setup, rig_teardown)
  const struct CMUnitTest tests[] = {RIG(test_flags),
                                     RIG(test_waitall),
                                     RIG(test_lowat),
                                     RIG(test_segments),
                                     RIG(test_segments_kept),
                                     RIG(test_many_segments),
                                     RIG(test_cork),
                                     RIG(test_more),
                                     RIG(test_eintr),
                                     RIG(test_late),
                                     RIG(test_arena_is_shared),
                                     RIG(test_idle_holds_nothing)};
  return cmocka_run_group_tests_name("vcl rw", tests, NULL, NULL);
}
