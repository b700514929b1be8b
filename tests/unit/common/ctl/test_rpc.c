/*
 * Request and reply, and publish and subscribe, over NNG: on a loop, across a server's restart, with nobody there,
 * with clients that ask again before they have read.
 */
#include "base/clock.h"
#include "base/err.h"
#include "ctl/pubsub.h"
#include "ctl/rpc.h"
#include "svc/loop.h"
#include "test.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[64], url[100];

static int group_setup(void **state) {
  (void)state;
  snprintf(dir, sizeof dir, "/tmp/hs-rpc-test.XXXXXX");
  assert_non_null(mkdtemp(dir));
  snprintf(url, sizeof url, "ipc://%s/ctl", dir);
  return 0;
}

static int group_teardown(void **state) {
  (void)state;
  unlink(url + 6);
  return rmdir(dir);
}

/** Answers with the request turned round; "drop" gets none. */
static int reverse(void *ctx, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len) {
  ++*(unsigned *)ctx;
  if (len == 4 && memcmp(req, "drop", 4) == 0)
    return -ENOTSUP;
  uint8_t *r = malloc(len + 1);
  for (size_t i = 0; i < len; i++)
    r[i] = req[len - 1 - i];
  *reply = r;
  *reply_len = len;
  return 0;
}

struct call {
  const char *req;
  uint8_t *reply;
  size_t len;
  int rc, timeout_ms;
  int connected; /* not over before it was */
  int over;
};

static void *caller(void *arg) {
  struct call *c = arg;
  struct rpc_client *cl;
  assert_int_equal(rpc_client_new(&cl, url), 0);
  do
    c->rc = rpc_client_call(cl, c->req, strlen(c->req), &c->reply, &c->len, c->timeout_ms);
  while (c->connected && c->rc == -ECONNREFUSED);
  rpc_client_free(cl);
  __atomic_store_n(&c->over, 1, __ATOMIC_RELEASE);
  return NULL;
}

static int over(const struct call *c) {
  return __atomic_load_n(&c->over, __ATOMIC_ACQUIRE);
}

static void on_rpc(void *ctx, int fd, uint32_t events) {
  (void)fd;
  (void)events;
  rpc_server_run(ctx);
}

static void test_call(void **state) {
  struct rpc_server *s;
  struct loop *l;
  struct stat st;
  unsigned n = 0;
  pthread_t th[3];
  struct call c[3] = {{.req = "stressed", .timeout_ms = 10000},
                      {.req = "drop", .timeout_ms = 300, .connected = 1},
                      {.req = "live", .timeout_ms = 10000}};
  (void)state;
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(rpc_server_new(&s, reverse, &n), 0);
  assert_int_equal(rpc_server_listen(s, url), 0);
  assert_int_equal(stat(url + 6, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(rpc_server_listen(s, "nonsense"), -EINVAL);
  assert_int_equal(loop_add_fd(l, rpc_server_fd(s), EPOLLIN, on_rpc, s), 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_create(&th[i], NULL, caller, &c[i]), 0);
  while (!over(&c[0]) || !over(&c[1]) || !over(&c[2])) /* "drop" may have given up before it came here */
    assert_true(loop_turn(l, 20) >= 0);
  for (int i = 0; i < 3; i++)
    assert_int_equal(pthread_join(th[i], NULL), 0);
  assert_int_equal(c[0].rc, 0);
  assert_int_equal(c[0].len, 8);
  assert_memory_equal(c[0].reply, "desserts", 8);
  assert_int_equal(c[1].rc, -ETIMEDOUT);
  assert_int_equal(c[2].rc, 0);
  assert_memory_equal(c[2].reply, "evil", 4);
  free(c[0].reply);
  free(c[2].reply);
  loop_del_fd(l, rpc_server_fd(s));
  rpc_server_free(s);
  loop_free(l);
}

static void test_nobody(void **state) {
  struct rpc_client *c;
  uint8_t *reply = NULL;
  size_t len = 0;
  (void)state;
  assert_int_equal(rpc_client_new(&c, url), 0);
  usec_t start = clock_now_us();
  assert_int_equal(rpc_client_call(c, "x", 1, &reply, &len, 100), -ECONNREFUSED);
  assert_true(clock_now_us() - start < 60 * CLOCK_US_PER_S);
  rpc_client_free(c);
}

/** The request goes out before there is a server: it is answered once there is one. */
static void test_server_comes_later(void **state) {
  struct rpc_server *s;
  unsigned n = 0;
  pthread_t th;
  struct call c = {.req = "part", .timeout_ms = 20000};
  (void)state;
  assert_int_equal(pthread_create(&th, NULL, caller, &c), 0);
  assert_int_equal(rpc_server_new(&s, reverse, &n), 0);
  assert_int_equal(rpc_server_listen(s, url), 0);
  struct pollfd p = {.fd = rpc_server_fd(s), .events = POLLIN};
  while (n == 0) {
    assert_int_equal(poll(&p, 1, 20000), 1);
    rpc_server_run(s);
  }
  assert_int_equal(pthread_join(th, NULL), 0);
  assert_int_equal(c.rc, 0);
  assert_memory_equal(c.reply, "trap", 4);
  free(c.reply);
  rpc_server_free(s);
}

/** A client of the wire itself (SP over IPC: a length of 8 bytes before each message), which asks before it has read.
 */
static int raw_open(void) {
  struct sockaddr_un sa = {.sun_family = AF_UNIX};
  const struct timeval most = {.tv_sec = 60};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memcpy(sa.sun_path, url + 6, strlen(url + 6));
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most), 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
  return fd;
}

static int raw_connect(void) {
  static const uint8_t hello[8] = {0, 'S', 'P', 0, 0, 0x30, 0, 0};
  uint8_t his[8];
  int fd = raw_open();
  assert_int_equal(write(fd, hello, sizeof hello), sizeof hello);
  assert_int_equal(recv(fd, his, sizeof his, MSG_WAITALL), sizeof his);
  return fd;
}

/** n requests of three letters in one write; the ids are 0x80000000 and up. */
static void raw_ask(int fd, const char *req, unsigned n) {
  uint8_t m[16 * 64];
  assert_true(n <= 64);
  for (unsigned i = 0; i < n; i++) {
    const uint8_t head[13] = {1, 0, 0, 0, 0, 0, 0, 0, 7, 0x80, 0, 0, (uint8_t)i};
    memcpy(m + 16 * i, head, sizeof head);
    memcpy(m + 16 * i + sizeof head, req, 3);
  }
  assert_int_equal(write(fd, m, 16 * n), 16 * n);
}

static void serve(struct rpc_server *s, const unsigned *n, unsigned until) {
  struct pollfd p = {.fd = rpc_server_fd(s), .events = POLLIN};
  while (*n < until) {
    assert_int_equal(poll(&p, 1, 60000), 1);
    rpc_server_run(s);
  }
}

/** The answer before is still on its way when the next one is ready: both arrive. */
static void test_asked_at_once(void **state) {
  struct rpc_server *s;
  unsigned n = 0;
  uint8_t m[16];
  (void)state;
  assert_int_equal(rpc_server_new(&s, reverse, &n), 0);
  assert_int_equal(rpc_server_listen(s, url), 0);
  int fd = raw_connect();
  for (unsigned round = 1; round <= 20; round++) {
    raw_ask(fd, "was", 12);
    serve(s, &n, round * 12);
    for (unsigned i = 0; i < 12; i++) {
      assert_int_equal(recv(fd, m, sizeof m, MSG_WAITALL), sizeof m);
      assert_int_equal(m[12], i);
      assert_memory_equal(m + 13, "saw", 3);
    }
  }
  close(fd);
  rpc_server_free(s);
}

/** A quarter of a megabyte for "big", else turned round. */
static int big(void *ctx, const uint8_t *req, size_t len, uint8_t **reply, size_t *reply_len) {
  if (len != 3 || memcmp(req, "big", 3) != 0)
    return reverse(ctx, req, len, reply, reply_len);
  ++*(unsigned *)ctx;
  *reply = calloc(1, 1u << 18);
  *reply_len = 1u << 18;
  return 0;
}

/** Who asks and does not read loses answers; everybody else has theirs, and either side can go first. */
static void test_deaf_client(void **state) {
  struct rpc_server *s;
  unsigned n = 0;
  pthread_t th;
  (void)state;
  assert_int_equal(rpc_server_new(&s, big, &n), 0);
  assert_int_equal(rpc_server_listen(s, url), 0);
  int fd[2] = {raw_connect(), raw_connect()};
  for (unsigned i = 0; i < 2; i++) {
    struct call c = {.req = "live", .timeout_ms = 60000};
    raw_ask(fd[i], "big", 50);
    serve(s, &n, 51 * i + 50);
    assert_int_equal(pthread_create(&th, NULL, caller, &c), 0);
    serve(s, &n, 51 * i + 51);
    assert_int_equal(pthread_join(th, NULL), 0);
    assert_int_equal(c.rc, 0);
    assert_memory_equal(c.reply, "evil", 4);
    free(c.reply);
    if (i == 0)
      close(fd[i]);
  }
  rpc_server_free(s);
  close(fd[1]);
}

/** Who connects and is gone before it was greeted is nobody's end but its own (nngerr.c). */
static void test_gone_at_once(void **state) {
  struct rpc_server *s;
  unsigned n = 0;
  pthread_t th;
  struct call c = {.req = "live", .timeout_ms = 60000};
  (void)state;
  assert_int_equal(rpc_server_new(&s, reverse, &n), 0);
  assert_int_equal(rpc_server_listen(s, url), 0);
  for (int i = 0; i < 3000; i++)
    close(raw_open());
  assert_int_equal(pthread_create(&th, NULL, caller, &c), 0);
  serve(s, &n, 1);
  assert_int_equal(pthread_join(th, NULL), 0);
  assert_int_equal(c.rc, 0);
  assert_memory_equal(c.reply, "evil", 4);
  free(c.reply);
  rpc_server_free(s);
}

static void test_pubsub(void **state) {
  struct pub *p;
  struct sub *s;
  char topic[16], body[16], purl[120];
  (void)state;
  snprintf(purl, sizeof purl, "ipc://%s/ev", dir);
  assert_int_equal(pub_new(&p, purl), 0);
  assert_int_equal(sub_new(&s, purl, "link."), 0);
  assert_int_equal(pub_send(p, "bad\ntopic", "", 0), -EINVAL);
  assert_int_equal(sub_recv(s, topic, sizeof topic, body, sizeof body), -EAGAIN);
  struct pollfd pfd = {.fd = sub_fd(s), .events = POLLIN};
  usec_t end = clock_now_us() + 30 * CLOCK_US_PER_S;
  int n = 0; /* the subscription takes a moment: an event before it is no loss, it can be asked for */
  while (n == 0 && clock_now_us() < end) {
    assert_int_equal(pub_send(p, "svc.up", "no", 2), 0);
    assert_int_equal(pub_send(p, "link.up", "e0", 2), 0);
    n = poll(&pfd, 1, 20);
  }
  assert_int_equal(n, 1);
  assert_int_equal(sub_recv(s, topic, sizeof topic, body, sizeof body), 2);
  assert_string_equal(topic, "link.up");
  assert_memory_equal(body, "e0", 2);
  assert_int_equal(pub_send(p, "link.down", "far too long for it", 19), 0);
  while ((n = sub_recv(s, topic, sizeof topic, body, sizeof body)) >= 0 || n == -EAGAIN) {
    if (n == -EAGAIN)
      assert_int_equal(poll(&pfd, 1, 30000), 1);
    else
      assert_string_equal(topic, "link.up"); /* those that were said again meanwhile */
  }
  assert_int_equal(n, -EMSGSIZE);
  sub_free(s);
  pub_free(p);
  unlink(purl + 6);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_call),
                                     cmocka_unit_test(test_nobody),
                                     cmocka_unit_test(test_server_comes_later),
                                     cmocka_unit_test(test_asked_at_once),
                                     cmocka_unit_test(test_deaf_client),
                                     cmocka_unit_test(test_gone_at_once),
                                     cmocka_unit_test(test_pubsub)};
  return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
