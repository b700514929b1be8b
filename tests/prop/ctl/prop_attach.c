/*
 * Messages with descriptors against a naive twin, a queue of what was sent: random sends and receives with room enough
 * or too little. Each message comes once, in order, whole, with its own descriptors, or is refused with none of them
 * left open (ctl/attach.h).
 */
#include "base/rng.h"
#include "ctl/attach.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 6u
#define QUEUE 4096u
#define STEPS 3000

struct sent {
  uint64_t seed; /* of its bytes */
  size_t len;
  int n_fds;
  ino_t ino[ATTACH_FDS_MAX];
};

static struct {
  struct rng r;
  int pair[2], file[FILES];
  ino_t ino[FILES];
  struct sent queue[QUEUE];
  uint32_t head, tail;
  unsigned whole, refused, full;
} t;
static uint8_t out[ATTACH_MSG_MAX], in[ATTACH_MSG_MAX], expected[ATTACH_MSG_MAX];

static unsigned open_descriptors(void) {
  DIR *d = opendir("/proc/self/fd");
  unsigned n = 0;
  assert_non_null(d);
  while (readdir(d) != NULL)
    n++;
  closedir(d);
  return n;
}

static ino_t ino_of(int fd) {
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino;
}

static void fill(uint8_t *to, const struct sent *s) {
  struct rng r;
  rng_init(&r, s->seed);
  rng_fill(&r, to, s->len);
}

static void send_one(void) {
  struct sent *s = &t.queue[t.tail % QUEUE];
  int fds[ATTACH_FDS_MAX];
  s->seed = rng_u64(&t.r);
  s->len = (size_t)rng_range(&t.r, 1, rng_below(&t.r, 10) == 0 ? ATTACH_MSG_MAX : 200);
  s->n_fds = (int)rng_below(&t.r, ATTACH_FDS_MAX + 1);
  for (int i = 0; i < s->n_fds; i++) {
    uint32_t f = (uint32_t)rng_below(&t.r, FILES);
    fds[i] = t.file[f];
    s->ino[i] = t.ino[f];
  }
  fill(out, s);
  int rc = attach_send(t.pair[0], out, s->len, fds, s->n_fds);
  if (rc == -EAGAIN) { /* nothing of it comes */
    t.full++;
    return;
  }
  assert_int_equal(rc, 0);
  t.tail++;
}

static void receive_one(void) {
  int fds[ATTACH_FDS_MAX + 1], n = -1;
  unsigned before = open_descriptors();
  const struct sent *s = &t.queue[t.head % QUEUE];
  int some = t.head != t.tail;
  size_t cap = some && rng_below(&t.r, 4) != 0 ? s->len : (size_t)rng_range(&t.r, 1, ATTACH_MSG_MAX);
  int max = rng_below(&t.r, 4) != 0 ? ATTACH_FDS_MAX : (int)rng_below(&t.r, ATTACH_FDS_MAX);
  ssize_t got = attach_recv(t.pair[1], in, cap, fds, max, &n);
  if (!some) {
    assert_int_equal(got, -EAGAIN);
    return;
  }
  t.head++;
  if (s->len > cap || s->n_fds > max) {
    assert_int_equal(got, -EMSGSIZE);
    assert_int_equal(open_descriptors(), before);
    t.refused++;
    return;
  }
  assert_int_equal(got, s->len);
  assert_int_equal(n, s->n_fds);
  fill(expected, s);
  assert_memory_equal(in, expected, s->len);
  for (int i = 0; i < n; i++) {
    assert_true(ino_of(fds[i]) == s->ino[i]);
    close(fds[i]);
  }
  assert_int_equal(open_descriptors(), before);
  t.whole++;
}

static void attach_run(uint64_t seed) {
  memset(&t, 0, sizeof t);
  rng_init(&t.r, seed);
  unsigned before = open_descriptors();
  assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, t.pair), 0);
  for (uint32_t i = 0; i < FILES; i++) {
    t.file[i] = memfd_create("prop-attach", MFD_CLOEXEC);
    assert_true(t.file[i] >= 0);
    t.ino[i] = ino_of(t.file[i]);
  }
  for (int step = 0; step < STEPS; step++) {
    if (rng_below(&t.r, 100) < (step / 500 % 2 ? 35u : 60u))
      send_one();
    else
      receive_one();
  }
  while (t.head != t.tail)
    receive_one();
  receive_one();
  close(t.pair[0]);
  int n = -1, fds[ATTACH_FDS_MAX];
  assert_int_equal(attach_recv(t.pair[1], in, sizeof in, fds, ATTACH_FDS_MAX, &n), 0); /* end of file */
  close(t.pair[1]);
  for (uint32_t i = 0; i < FILES; i++)
    close(t.file[i]);
  assert_int_equal(open_descriptors(), before);
  assert_true(t.whole > 100 && t.refused > 100);
}

static void attach_equals_twin(void **state) {
  (void)state;
  for (uint64_t seed = 1; seed <= 10; seed++)
    attach_run(seed);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(attach_equals_twin)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
