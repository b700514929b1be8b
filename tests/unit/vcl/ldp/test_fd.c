/*
 * vcl/ldp/fd.c: entries, references, inner descriptors, ranges, and lookups that race with closes.
 */
#include "test.h"

#include "fakes.h"
#include "ldp/real.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_entries(void **state) {
  (void)state;
  struct sock *s = fakes_sock(0);
  int fd = fd_seat(), copy = fd_seat();
  assert_true(fd >= 0 && copy >= 0);
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  assert_true(S_ISSOCK(st.st_mode));
  assert_null(fd_get(fd));
  assert_int_equal(fd_set_file(fd, &s->file, FD_FLAG_CLOEXEC), 0);
  assert_int_equal(fd_flags(fd), FD_FLAG_CLOEXEC);
  assert_true(fd_ours(fd));
  assert_null(fd_get_kind(fd, FD_EPOLL));
  struct fd_file *f = fd_get_kind(fd, FD_SOCK);
  assert_ptr_equal(f, s);
  assert_int_equal(f->refs, 2);
  assert_int_equal(fd_held(), 1);
  assert_int_equal(fd_set_file(copy, f, 0), 0); /* the table takes the reference */
  assert_ptr_equal(fd_take(fd), s);
  fd_put(&s->file);
  assert_int_equal(fakes_socks_ended, 0);
  assert_null(fd_take(fd));
  assert_int_equal(fd_held(), 0);
  fd_put(fd_take(copy));
  assert_int_equal(fakes_socks_ended, 1);
  assert_int_equal(fd_held(), 0);
  assert_false(fd_ours(copy));
  close(fd);
  close(copy);
}

static void test_bounds(void **state) {
  (void)state;
  struct sock *s = fakes_sock(0);
  static const int odd[] = {-1, -5, 1 << 20, INT32_MAX};
  for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
    assert_null(fd_get(odd[i]));
    assert_null(fd_take(odd[i]));
    assert_false(fd_ours(odd[i]) || fd_is_inner(odd[i]));
    assert_int_equal(fd_flags(odd[i]), 0);
    assert_int_equal(fd_set_file(odd[i], &s->file, 0), -EMFILE);
  }
  assert_int_equal(fd_set_file((1 << 20) - 1, &s->file, 0), 0);
  assert_int_equal(fd_next(0, UINT32_MAX - 1) >= 0, 1);
  assert_ptr_equal(fd_take((1 << 20) - 1), s);
  fd_put(&s->file);
}

static void test_inner(void **state) {
  (void)state;
  int fd = fd_make_inner(open("/dev/null", O_RDONLY | O_CLOEXEC));
  assert_true(fd >= 100); /* out of the way of numbers that programs choose */
  assert_true(fd_is_inner(fd));
  assert_false(fd_ours(fd));
  assert_null(fd_get(fd));
  assert_null(fd_take(fd)); /* the program can't close it */
  assert_true(fd_is_inner(fd));
  assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
  assert_int_equal(fd_next((unsigned)fd, (unsigned)fd), fd);
  fd_clear_inner(fd);
  assert_int_equal(fd_next((unsigned)fd, (unsigned)fd), -1);
  close(fd);
  assert_int_equal(fd_make_inner(-1), -1);
}

static int count_each(int fd, struct fd_file *f, void *ctx) {
  (void)f;
  int *got = ctx;
  got[0]++;
  assert_true(fd > got[1]);
  got[1] = fd;
  return got[0] == got[2];
}

static void test_each(void **state) {
  (void)state;
  struct sock *a = fakes_sock(0), *b = fakes_sock(0);
  assert_int_equal(fd_set_file(700, &a->file, 0), 0);
  assert_int_equal(fd_set_file(1500, &b->file, 0), 0);
  assert_ptr_equal(fd_get(700), a);
  assert_int_equal(fd_set_file(1024, &a->file, 0), 0);
  fd_mark_inner(900);
  int all[3] = {0, -1, -1}, mine[3] = {0, -1, -1}, first[3] = {0, -1, 1};
  fd_each(NULL, count_each, all);
  fd_each(&a->file, count_each, mine);
  fd_each(NULL, count_each, first);
  assert_int_equal(all[0], 3);
  assert_int_equal(mine[0], 2);
  assert_int_equal(first[0], 1);
  assert_int_equal(fd_next(701, 899), -1);
  assert_int_equal(fd_next(701, 2000), 900);
  assert_int_equal(fd_next(1025, 1499), -1);
  fd_clear_inner(900);
  fd_put(fd_take(700));
  fd_put(fd_take(1024));
  fd_put(fd_take(1500));
}

/* Readers look up a number while the main thread closes and reopens it: a reference is always to a live file. */
struct race {
  int fd;
  int stop;
  long hits;
};

static void *race_reader(void *arg) {
  struct race *race = arg;
  while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
    struct fd_file *f = fd_get(race->fd);
    if (!f)
      continue;
    struct sock *s = (struct sock *)f;
    /* `h` is 1 from before the file is entered until its end; a freed file has refs 0. */
    if (__atomic_load_n(&f->refs, __ATOMIC_RELAXED) < 1 || s->h != 1)
      abort();
    race->hits++;
    fd_put(f);
  }
  return NULL;
}

static void test_race(void **state) {
  (void)state;
  struct race race[2] = {{.fd = 333}, {.fd = 333}};
  pthread_t threads[2];
  int before = fakes_socks_ended;
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, race_reader, &race[i]), 0);
  for (int i = 0; i < 20000; i++) {
    struct sock *s = fakes_sock(0);
    s->h = 1;
    assert_int_equal(fd_set_file(333, &s->file, 0), 0);
    struct fd_file *f = fd_take(333);
    assert_ptr_equal(f, s);
    fd_put(f);
  }
  for (int i = 0; i < 2; i++) {
    __atomic_store_n(&race[i].stop, 1, __ATOMIC_RELAXED);
    pthread_join(threads[i], NULL);
  }
  assert_int_equal(fakes_socks_ended - before, 20000); /* each ended exactly once */
}

static void test_vfork(void **state) {
  (void)state;
  fd_own_process();
  assert_false(fd_foreign_process());
  pid_t pid = fork(); /* no handler ran in this child: as after vfork */
  if (pid == 0)
    _exit(fd_foreign_process() ? 0 : 1);
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_entries), cmocka_unit_test(test_bounds),
                                     cmocka_unit_test(test_inner),   cmocka_unit_test(test_each),
                                     cmocka_unit_test(test_race),    cmocka_unit_test(test_vfork)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
