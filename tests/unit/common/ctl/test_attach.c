/*
 * Messages with descriptors over the attach socket, and the channel with its queue above it.
 */
#include "base/err.h"
#include "ctl/attach.h"
#include "svc/chan.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct ends {
  char dir[64], path[100];
  int listener, a, b;
};

static int n_open(void) {
  DIR *d = opendir("/proc/self/fd");
  int n = 0;
  assert_non_null(d);
  while (readdir(d) != NULL)
    n++;
  closedir(d);
  return n;
}

static int setup(void **state) {
  struct ends *e = calloc(1, sizeof *e);
  snprintf(e->dir, sizeof e->dir, "/tmp/hs-attach-test.XXXXXX");
  assert_non_null(mkdtemp(e->dir));
  snprintf(e->path, sizeof e->path, "%s/sub/sock", e->dir);
  e->listener = attach_listen(e->path, 0600, 8);
  assert_true(e->listener >= 0);
  e->a = attach_connect(e->path);
  assert_true(e->a >= 0);
  e->b = attach_accept(e->listener);
  assert_true(e->b >= 0);
  *state = e;
  return 0;
}

static int teardown(void **state) {
  struct ends *e = *state;
  char sub[80];
  close(e->a);
  close(e->b);
  close(e->listener);
  unlink(e->path);
  snprintf(sub, sizeof sub, "%s/sub", e->dir);
  rmdir(sub);
  rmdir(e->dir);
  free(e);
  return 0;
}

static void test_listen(void **state) {
  struct ends *e = *state;
  struct stat st;
  char longer[200];
  assert_int_equal(stat(e->path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0600);
  assert_int_equal(attach_listen(e->path, 0600, 8), -EADDRINUSE); /* somebody answers there */
  close(e->listener);
  e->listener = attach_listen(e->path, 0666, 8); /* nobody does: the stale file goes */
  assert_true(e->listener >= 0);
  assert_int_equal(stat(e->path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0666);
  assert_true((fcntl(e->listener, F_GETFD) & FD_CLOEXEC) != 0);
  memset(longer, 'x', sizeof longer);
  longer[0] = '/';
  longer[sizeof longer - 1] = '\0';
  assert_int_equal(attach_listen(longer, 0600, 8), -ENAMETOOLONG);
  assert_int_equal(attach_connect(longer), -ENAMETOOLONG);
  assert_int_equal(attach_connect(""), -EINVAL);
  snprintf(longer, sizeof longer, "%s/none", e->dir);
  assert_int_equal(attach_connect(longer), -ENOENT);
  assert_int_equal(attach_connect_nb(longer), -ENOENT);
  int f = open(longer, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  close(f);
  assert_int_equal(attach_listen(longer, 0600, 8), -EADDRINUSE); /* a file of somebody else's stays */
  unlink(longer);
}

static void test_messages(void **state) {
  struct ends *e = *state;
  struct attach_cred cred;
  char buf[64];
  int n = 7;
  assert_int_equal(attach_peer(e->b, &cred), 0);
  assert_int_equal(cred.pid, getpid());
  assert_int_equal(cred.uid, getuid());
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, NULL, 0, &n), -EAGAIN);
  assert_int_equal(n, 0);
  assert_int_equal(attach_send(e->a, "one", 3, NULL, 0), 0);
  assert_int_equal(attach_send(e->a, "two!", 4, NULL, 0), 0);
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, NULL, 0, NULL), 3); /* one message each */
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, NULL, 0, NULL), 4);
  assert_memory_equal(buf, "two!", 4);
  assert_int_equal(attach_send(e->a, "", 0, NULL, 0), -EINVAL);
  assert_int_equal(attach_send(e->a, buf, ATTACH_MSG_MAX + 1, NULL, 0), -EMSGSIZE);
  assert_int_equal(attach_send(e->a, "longer than that", 16, NULL, 0), 0);
  assert_int_equal(attach_recv(e->b, buf, 8, NULL, 0, NULL), -EMSGSIZE);
  close(e->a);
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, NULL, 0, NULL), 0);
  assert_int_equal(attach_send(e->b, "x", 1, NULL, 0), -EPIPE); /* and no signal */
  e->a = attach_connect(e->path);
}

static void test_fds(void **state) {
  struct ends *e = *state;
  char buf[64];
  int fds[ATTACH_FDS_MAX], n = 0, p[2];
  assert_int_equal(pipe2(p, O_CLOEXEC), 0);
  int before = n_open();
  int four[ATTACH_FDS_MAX + 1] = {p[0], p[1], p[0], p[1], p[0]};
  assert_int_equal(attach_send(e->a, "f", 1, four, 5), -EINVAL);
  assert_int_equal(attach_send(e->a, "f", 1, four, 4), 0);
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, fds, ATTACH_FDS_MAX, &n), 1);
  assert_int_equal(n, 4);
  assert_int_equal(n_open(), before + 4);
  assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
  assert_int_equal(write(fds[1], "y", 1), 1);
  assert_int_equal(read(p[0], buf, 1), 1);
  while (n > 0)
    close(fds[--n]);
  /* More than wanted: refused, all closed. None wanted: the kernel opens none. */
  assert_int_equal(attach_send(e->a, "f", 1, four, 3), 0);
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, fds, 2, &n), -EMSGSIZE);
  assert_int_equal(n, 0);
  assert_int_equal(attach_send(e->a, "f", 1, four, 1), 0);
  assert_int_equal(attach_recv(e->b, buf, sizeof buf, NULL, 0, &n), -EMSGSIZE);
  assert_int_equal(attach_send(e->a, "too long", 8, four, 2), 0);
  assert_int_equal(attach_recv(e->b, buf, 4, fds, ATTACH_FDS_MAX, &n), -EMSGSIZE);
  assert_int_equal(n_open(), before);
  close(p[0]);
  close(p[1]);
}

struct chan_seen {
  struct chan *ch;
  unsigned n, closed, n_fds;
  int why, last, free_at;
};

static void seen_msg(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds) {
  struct chan_seen *s = ctx;
  uint32_t v;
  assert_true(len >= sizeof v);
  memcpy(&v, buf, sizeof v);
  assert_int_equal(v, s->n);
  s->n++;
  for (int i = 0; i < n_fds; i++, s->n_fds++)
    close(fds[i]);
  if ((unsigned)s->free_at == s->n) {
    chan_free(s->ch);
    s->ch = NULL;
  }
}

static void seen_closed(void *ctx, int why) {
  struct chan_seen *s = ctx;
  s->closed++;
  s->why = why;
  chan_free(s->ch);
  s->ch = NULL;
}

static const struct chan_ops seen_ops = {.msg = seen_msg, .closed = seen_closed};

/** Far more than the socket's buffer takes: queued, in order, with their descriptors, then delivered. */
static void test_chan_queue(void **state) {
  struct ends *e = *state;
  struct loop *l;
  struct chan *out;
  struct chan_seen in = {.n = 0}, far = {.n = 0};
  uint8_t msg[4096] = {0};
  enum { N = 600 };
  assert_int_equal(loop_new(&l), 0);
  int before = n_open(), fd = dup(0);
  assert_int_equal(chan_new(&out, l, dup(e->b), 1, 8u << 20, &seen_ops, &far), 0);
  far.ch = out;
  for (uint32_t i = 0; i < N; i++) {
    memcpy(msg, &i, sizeof i);
    assert_int_equal(chan_send(out, msg, sizeof msg, &fd, i % 50 == 0), 0);
  }
  assert_true(chan_queued(out) > 0);
  close(fd);
  assert_int_equal(fcntl(e->a, F_SETFL, O_NONBLOCK), 0);
  assert_int_equal(chan_new(&in.ch, l, dup(e->a), 1, 4096, &seen_ops, &in), 0);
  while (in.n < N)
    assert_true(loop_turn(l, 1000) >= 0);
  assert_int_equal(in.n_fds, N / 50);
  assert_int_equal(chan_queued(out), 0);
  /* A queue that is full refuses. */
  chan_free(in.ch);
  int rc = 0;
  for (unsigned i = 0; i < 10000 && rc == 0; i++)
    rc = chan_send(out, msg, sizeof msg, NULL, 0);
  assert_int_equal(rc, -ENOBUFS);
  chan_free(out);
  assert_int_equal(n_open(), before);
  loop_free(l);
}

static void test_chan_end(void **state) {
  struct ends *e = *state;
  struct loop *l;
  struct chan_seen in = {.n = 0};
  uint32_t v = 0;
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(chan_new(&in.ch, l, dup(e->b), 0, 4096, &seen_ops, &in), 0);
  assert_int_equal(attach_send(e->a, &v, sizeof v, NULL, 0), 0);
  shutdown(e->a, SHUT_RDWR);
  while (in.closed == 0)
    assert_true(loop_turn(l, 1000) >= 0);
  assert_int_equal(in.n, 1); /* what was said before the end is heard */
  assert_int_equal(in.why, 0);
  loop_free(l);
}

static void test_chan_freed_inside(void **state) {
  struct ends *e = *state;
  struct loop *l;
  struct chan_seen in = {.free_at = 2};
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(chan_new(&in.ch, l, dup(e->b), 0, 4096, &seen_ops, &in), 0);
  for (uint32_t i = 0; i < 4; i++)
    assert_int_equal(attach_send(e->a, &i, sizeof i, NULL, 0), 0);
  while (in.ch != NULL)
    assert_true(loop_turn(l, 1000) >= 0);
  assert_int_equal(in.n, 2);
  assert_int_equal(in.closed, 0);
  loop_free(l);
}

static void test_chan_lie(void **state) {
  struct ends *e = *state;
  struct loop *l;
  struct chan_seen in = {.n = 0};
  int fd = 0;
  assert_int_equal(loop_new(&l), 0);
  assert_int_equal(chan_new(&in.ch, l, dup(e->b), 0, 4096, &seen_ops, &in), 0);
  assert_int_equal(attach_send(e->a, "descriptor", 10, &fd, 1), 0);
  while (in.closed == 0)
    assert_true(loop_turn(l, 1000) >= 0);
  assert_int_equal(in.why, -EMSGSIZE);
  loop_free(l);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {T(test_listen),   T(test_messages),          T(test_fds),     T(test_chan_queue),
                                     T(test_chan_end), T(test_chan_freed_inside), T(test_chan_lie)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
