/*
 * Segments: seals, what attach refuses, and that descriptors are always taken over.
 *
 * Real memfds; needs no privileges. Hostile headers at random: tests/fuzz/fuzz_seg.c.
 */
#include "base/err.h"
#include "shm/seg.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t geom[16] = {7, 8, 9, [15] = 16};

static int is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

/** A sealed memfd whose header is right, for tests to damage; returns its fd, the mapping in *hdr. */
static int make_raw(struct abi_seg_hdr **hdr, unsigned seals) {
  int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  assert_int_equal(ftruncate(fd, 8192), 0);
  assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
  *hdr = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_ptr_not_equal(*hdr, MAP_FAILED);
  **hdr = (struct abi_seg_hdr){.magic = ABI_MAGIC,
                               .kind = ABI_SEG_STATS,
                               .major = ABI_MAJOR,
                               .minor = ABI_MINOR,
                               .size = 8192,
                               .id = 5,
                               .state = ABI_SEG_READY};
  return fd;
}

static void makes_and_maps(void **state) {
  (void)state;
  struct seg a, b;
  const char *why = NULL;
  struct stat st;
  assert_int_equal(seg_create(&a, "t", ABI_SEG_STATS, 42, 5000, geom), 0);
  assert_int_equal(a.size, 8192);
  assert_int_equal(fstat(a.fd, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0400);
  assert_int_equal(fcntl(a.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_int_equal(seg_is_sealed(a.fd), 1);
  assert_true(ftruncate(a.fd, 4096) < 0 && errno == EPERM);
  assert_int_equal(seg_attach(&b, dup(a.fd), ABI_SEG_STATS, SEG_RDWR, &why), 0);
  assert_int_equal(b.id, 42);
  assert_int_equal(b.size, 8192);
  assert_memory_equal(b.geom, geom, sizeof geom);
  a.base[6000] = 77;
  assert_int_equal(b.base[6000], 77);
  assert_ptr_equal(seg_at(&b, 8000, 192), b.base + 8000);
  assert_null(seg_at(&b, 8000, 193));
  assert_null(seg_at(&b, UINT64_MAX, 2));
  assert_null(seg_at(&b, 8193, 0));
  int fd = b.fd;
  seg_detach(&b);
  seg_detach(&b);
  assert_false(is_open(fd));
  seg_detach(&a);
}

static void is_not_dumped(void **state) {
  (void)state;
  struct seg a;
  char line[256], head[32];
  int inside = 0, found = 0;
  assert_int_equal(seg_create(&a, "t", ABI_SEG_STATS, 1, 4096, geom), 0);
  snprintf(head, sizeof head, "%lx-", (unsigned long)(uintptr_t)a.base);
  FILE *f = fopen("/proc/self/smaps", "r");
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL) {
    if (strncmp(line, head, strlen(head)) == 0)
      inside = 1;
    else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
      found = strstr(line, " dd") != NULL;
      break;
    }
  }
  fclose(f);
  assert_true(found);
  seg_detach(&a);
}

static void refuses_bad_arguments(void **state) {
  (void)state;
  struct seg a;
  assert_int_equal(seg_create(&a, "t", ABI_SEG_STATS, 0, 4096, geom), -EINVAL);
  assert_int_equal(seg_create(&a, "t", ABI_SEG_FREE, 1, 4096, geom), -EINVAL);
  assert_int_equal(seg_create(&a, "t", ABI_SEG_STATS, 1, 0, geom), -EINVAL);
  assert_int_equal(seg_create(&a, "t", ABI_SEG_STATS, 1, 1ull << 50, geom), -EINVAL);
  seg_detach(&a);
  struct seg zero = {0};
  seg_detach(&zero); /* descriptor 0 is not ours */
  assert_true(is_open(0) || errno == EBADF);
}

static void refuses_lies(void **state) {
  (void)state;
  const unsigned seals = F_SEAL_SHRINK | F_SEAL_GROW;
  struct abi_seg_hdr *hdr;
  struct seg s;
  for (int i = 0; i < 9; i++) {
    int fd = make_raw(&hdr, i == 0 ? F_SEAL_SHRINK : seals);
    const char *why = NULL;
    int ok = 0;
    switch (i) {
    case 1:
      hdr->magic++;
      break;
    case 2:
      hdr->kind = ABI_SEG_TCB;
      break;
    case 3:
      hdr->major++;
      break;
    case 4:
      hdr->size = 4096;
      break;
    case 5:
      hdr->size = UINT64_MAX;
      break;
    case 6:
      hdr->id = 0;
      break;
    case 7:
      hdr->state = ABI_SEG_INIT;
      break;
    case 8:
      hdr->minor = 77; /* newer in reserved room: fine */
      ok = 1;
      break;
    default:
      break;
    }
    assert_int_equal(seg_attach(&s, fd, ABI_SEG_STATS, SEG_RDONLY, &why), ok ? 0 : -EPROTO);
    if (!ok) {
      assert_non_null(why);
      assert_false(is_open(fd));
      assert_null(s.base);
    }
    seg_detach(&s);
    munmap(hdr, 8192);
  }
  int pipes[2];
  assert_int_equal(pipe(pipes), 0);
  assert_int_equal(seg_attach(&s, pipes[0], ABI_SEG_STATS, SEG_RDONLY, NULL), -EPROTO);
  assert_false(is_open(pipes[0]));
  close(pipes[1]);
  assert_int_equal(seg_attach(&s, -1, ABI_SEG_STATS, SEG_RDONLY, NULL), -EPROTO);
}

static void reads_only(void **state) {
  (void)state;
  struct seg a, b;
  const char *why = NULL;
  assert_int_equal(seg_create(&a, "t", ABI_SEG_ENGINE, 3, 4096, geom), 0);
  int fd = seg_reopen_rdonly(&a);
  assert_true(fd >= 0);
  assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  assert_int_equal(seg_attach(&b, dup(fd), ABI_SEG_ENGINE, SEG_RDWR, &why), -EACCES);
  assert_string_equal(why, "mmap");
  assert_int_equal(seg_attach(&b, fd, ABI_SEG_ENGINE, SEG_RDONLY, &why), 0);
  a.base[300] = 9;
  assert_int_equal(b.base[300], 9);
  seg_detach(&b);
  seg_detach(&a);
}

static void seals_writers(void **state) {
  (void)state;
  struct seg a, b;
  const char *why = NULL;
  assert_int_equal(seg_create(&a, "t", ABI_SEG_APP, 3, 8192, geom), 0);
  assert_int_equal(seg_seal_writers(a.fd), 0);
  assert_int_equal(seg_seal_writers(a.fd), 0); /* again: its work is done */
  a.base[400] = 1;                             /* who has mapped it goes on */
  assert_int_equal(seg_attach(&b, dup(a.fd), ABI_SEG_APP, SEG_RDWR, &why), -EPERM);
  assert_int_equal(seg_attach(&b, dup(a.fd), ABI_SEG_APP, SEG_RDONLY, &why), 0);
  assert_int_equal(b.base[400], 1);
  assert_true(fallocate(a.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) < 0 && errno == EPERM);
  assert_true(fcntl(a.fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
  assert_true(pwrite(a.fd, "x", 1, 0) < 0);
  seg_detach(&b);
  seg_detach(&a);
  assert_int_equal(seg_seal_writers(-1), -EBADF);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(makes_and_maps), cmocka_unit_test(is_not_dumped), cmocka_unit_test(refuses_bad_arguments),
      cmocka_unit_test(refuses_lies),   cmocka_unit_test(reads_only),    cmocka_unit_test(seals_writers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
