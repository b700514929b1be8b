/*
 * Parts: where they lie, and that mapping and clearing them under a reader shows bytes, zeros and nothing else.
 */
#include "abi/fifo.h"
#include "shm/part.h"
#include "shm/session.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MI ((uint64_t)ABI_CHUNK_MAX)

/** Places lie side by side from `first` to the end of the arena, and never more than PART_MAX of them. */
static void check_places(uint64_t arena, uint64_t first, uint64_t step) {
  uint64_t at = first, off, len;
  uint32_t n = 0;
  while (part_place(arena, first, step, n, &off, &len) == 0) {
    assert_int_equal(off, at);
    assert_true(len > 0 && len % MI == 0);
    at += len;
    n++;
  }
  assert_int_equal(at, arena);
  assert_true(n <= PART_MAX);
}

static void test_places(void **state) {
  uint64_t off, len;
  (void)state;
  check_places(4096 * MI, 4 * MI, 4 * MI);
  check_places(1048576 * MI, MI, MI); /* the last place takes what is left */
  check_places(64 * MI, 4 * MI, 60 * MI);
  check_places(9 * MI, MI, 3 * MI);
  assert_int_equal(part_place(64 * MI, 64 * MI, MI, 0, &off, &len), -EINVAL);
  assert_int_equal(part_place(64 * MI, MI, 0, 0, &off, &len), -EINVAL);
  assert_int_equal(part_place(64 * MI, MI, 5, 0, &off, &len), -EINVAL);
  assert_int_equal(part_place(64 * MI, MI, 65 * MI, 0, &off, &len), -EINVAL);
  assert_int_equal(part_place(UINT64_MAX, MI, MI, 0, &off, &len), -EINVAL);
  assert_int_equal(part_place(4096 * MI, MI, MI, PART_MAX, &off, &len), -EINVAL);
}

struct duo {
  struct abi_worker_geom g;
  struct seg app, reader;
};

/** A with 1 MB of a 4 MB arena, as its app and as a service map it. */
static void duo_open(struct duo *d) {
  struct seg made;
  uint64_t words[16];
  const char *why;
  uint64_t size = worker_geom_make(&d->g, ABI_SEG_APP, 1, 1, 16, 1, 4 * MI);
  memcpy(words, &d->g, sizeof words);
  assert_int_equal(seg_create(&made, "a", ABI_SEG_APP, 9, size - 3 * MI, words), 0);
  assert_int_equal(seg_attach(&d->app, dup(made.fd), ABI_SEG_APP, SEG_RDWR, &why), 0);
  assert_int_equal(seg_attach(&d->reader, dup(made.fd), ABI_SEG_APP, SEG_RDONLY, &why), 0);
  seg_detach(&made);
  d->app.base[d->g.arena_off] = 77;
  assert_int_equal(part_span(&d->app, size), 0);
  assert_int_equal(part_span(&d->reader, size), 0);
  assert_int_equal(d->app.size, size);
  assert_int_equal(d->app.file, size - 3 * MI);
  assert_int_equal(d->reader.base[d->g.arena_off], 77); /* moved, and still what it was */
}

static void duo_close(struct duo *d) {
  seg_detach(&d->app);
  seg_detach(&d->reader);
}

static void test_mapped(void **state) {
  struct duo d;
  uint64_t place;
  (void)state;
  duo_open(&d);
  place = d.g.arena_off + 2 * MI;
  for (uint64_t at = d.reader.file; at < d.reader.size; at += 4096)
    assert_int_equal(d.reader.base[at], 0); /* nothing there: zeros */
  for (int round = 1; round < 3; round++) {
    int fd = part_create(MI);
    assert_true(fd >= 0);
    assert_int_equal(part_map(&d.reader, fd, place, MI), -EPROTO); /* somebody could still become a writer */
    assert_int_equal(part_map(&d.app, fd, place, MI), 0);
    assert_int_equal(seg_seal_writers(fd), 0);
    assert_int_equal(part_map(&d.reader, fd, place, 2 * MI), -EPROTO);
    assert_int_equal(part_map(&d.reader, fd, place, MI), 0);
    memset(d.app.base + place, round, MI);
    assert_int_equal(d.reader.base[place], round);
    assert_int_equal(d.reader.base[place + MI - 1], round);
    assert_int_equal(d.reader.base[place - 1], 0);
    assert_int_equal(d.reader.base[place + MI], 0);
    assert_int_equal(part_map(&d.app, fd, place, MI), -EPERM); /* no second writer */
    assert_int_equal(part_clear(&d.app, place, MI), 0);
    assert_int_equal(part_clear(&d.reader, place, MI), 0);
    assert_int_equal(d.reader.base[place], 0);
    close(fd);
  }
  duo_close(&d);
}

static void test_refused(void **state) {
  struct duo d;
  (void)state;
  duo_open(&d);
  int fd = part_create(MI), other = memfd_create("b", MFD_CLOEXEC);
  assert_true(fd >= 0 && other >= 0);
  assert_int_equal(ftruncate(other, (off_t)MI), 0);
  assert_int_equal(part_map(&d.app, other, d.g.arena_off + MI, MI), -EPROTO); /* it could shrink */
  assert_int_equal(part_map(&d.app, fd, d.g.arena_off, MI), -EINVAL);         /* the file is there */
  assert_int_equal(part_map(&d.app, fd, d.g.arena_off + MI + 2048, MI), -EINVAL);
  assert_int_equal(part_map(&d.app, fd, d.g.arena_off + 4 * MI, MI), -EINVAL);
  assert_int_equal(part_map(&d.app, fd, UINT64_MAX - MI + 1, MI), -EINVAL);
  assert_int_equal(part_map(&d.app, fd, d.g.arena_off + MI, 0), -EINVAL);
  assert_int_equal(part_clear(&d.app, 0, MI), -EINVAL);
  assert_int_equal(part_span(&d.app, UINT64_MAX), -EINVAL);
  assert_int_equal(ftruncate(fd, 0), -1);
  close(fd);
  close(other);
  duo_close(&d);
}

#define TURNS 200

struct race {
  struct duo d;
  uint64_t place;
  uint32_t stop;
  uint64_t looks, bad;
};

static void *race_reader(void *arg) {
  struct race *r = arg;
  while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
    uint8_t got = __atomic_load_n(r->d.reader.base + r->place, __ATOMIC_RELAXED);
    r->bad += got != 0 && got != 5;
    __atomic_store_n(&r->looks, r->looks + 1, __ATOMIC_RELEASE);
  }
  return NULL;
}

/** A part comes and goes under a thread that reads there all the time: bytes or zeros, never a fault. */
static void test_under_a_reader(void **state) {
  struct race r = {.stop = 0};
  pthread_t t;
  (void)state;
  duo_open(&r.d);
  r.place = r.d.g.arena_off + MI;
  assert_int_equal(pthread_create(&t, NULL, race_reader, &r), 0);
  for (int i = 0; i < TURNS; i++) {
    int fd = part_create(MI);
    assert_true(fd >= 0);
    assert_int_equal(part_map(&r.d.app, fd, r.place, MI), 0);
    r.d.app.base[r.place] = 5;
    assert_int_equal(seg_seal_writers(fd), 0);
    assert_int_equal(part_map(&r.d.reader, fd, r.place, MI), 0);
    uint64_t before = __atomic_load_n(&r.looks, __ATOMIC_ACQUIRE);
    while (i % 50 == 0 && __atomic_load_n(&r.looks, __ATOMIC_ACQUIRE) == before)
      (void)sched_yield();
    assert_int_equal(part_clear(&r.d.reader, r.place, MI), 0);
    assert_int_equal(part_clear(&r.d.app, r.place, MI), 0);
    close(fd);
  }
  __atomic_store_n(&r.stop, 1u, __ATOMIC_RELEASE);
  assert_int_equal(pthread_join(t, NULL), 0);
  assert_int_equal(r.bad, 0);
  assert_true(r.looks > 0);
  duo_close(&r.d);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_places), cmocka_unit_test(test_mapped),
                                     cmocka_unit_test(test_refused), cmocka_unit_test(test_under_a_reader)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
