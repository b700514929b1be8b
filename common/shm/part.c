/*
 * Parts: making, placing and mapping the memfds of an A segment's arena (shm/part.h).
 *
 * Called by the broker (make), engine and nicio on their control threads while their data threads read the segment, and
 * by the library under its worker's mutex. Never on the hot path.
 */
#include "shm/part.h"

#include "abi/fifo.h"
#include "base/bits.h"
#include "base/err.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART_EVERY    8u           /* places of one size */
#define PART_SPAN_MAX (1ull << 40) /* bytes; broker.arena-size goes no further */
#define PART_SEALS    (F_SEAL_SHRINK | F_SEAL_GROW)
#define PART_WRSEALS  (PART_SEALS | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

int part_place(uint64_t arena, uint64_t first, uint64_t step, uint32_t n, uint64_t *off, uint64_t *len) {
  uint64_t at = first;
  if (n >= PART_MAX || step == 0 || step % ABI_CHUNK_MAX != 0 || first % ABI_CHUNK_MAX != 0 || arena > PART_SPAN_MAX ||
      arena % ABI_CHUNK_MAX != 0 || step > arena)
    return -EINVAL;
  for (uint32_t i = 0; at < arena; i++) {
    uint64_t size = HS_MIN(step << (i / PART_EVERY), arena - at);
    if (i == PART_MAX - 1)
      size = arena - at;
    if (i == n) {
      *off = at;
      *len = size;
      return 0;
    }
    at += size;
  }
  return -EINVAL;
}

int part_create(uint64_t size) {
  int fd = memfd_create("hs-a", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0)
    return err_last();
  if (fchmod(fd, 0400) == 0 && ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, PART_SEALS) == 0)
    return fd;
  int rc = err_last();
  close(fd);
  return rc;
}

int part_fd_ok(int fd, uint64_t size, int no_writers) {
  struct stat st;
  int want = no_writers ? PART_WRSEALS : PART_SEALS;
  int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & want) == want && (seals & F_SEAL_WRITE) == 0 && fstat(fd, &st) == 0 &&
         (uint64_t)st.st_size == size;
}

/** Private zeros that can't be written, at `at` or anywhere. MAP_FAILED with errno. */
static void *part_zeros(void *at, uint64_t size) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at != NULL ? MAP_FIXED : 0);
  void *p = mmap(at, size, PROT_READ, flags, -1, 0);
  if (p != MAP_FAILED)
    (void)madvise(p, size, MADV_DONTDUMP);
  return p;
}

int part_span(struct seg *s, uint64_t span) {
  if (span <= s->size)
    return 0;
  if (span > 2 * PART_SPAN_MAX || span % ABI_CHUNK_UNIT != 0)
    return -EINVAL;
  uint8_t *base = part_zeros(NULL, span);
  if (base == MAP_FAILED)
    return err_last();
  if (mremap(s->base, s->size, s->size, MREMAP_MAYMOVE | MREMAP_FIXED, base) == MAP_FAILED) {
    int rc = err_last();
    munmap(base, span);
    return rc;
  }
  s->base = base;
  s->size = span;
  return 0;
}

/** Whether there is room for a part at [place, place+size). */
static int part_fits(const struct seg *s, uint64_t place, uint64_t size) {
  return size != 0 && place % ABI_CHUNK_MAX == 0 && size % ABI_CHUNK_MAX == 0 && place >= s->file && place <= s->size &&
         size <= s->size - place;
}

int part_map(struct seg *s, int fd, uint64_t place, uint64_t size) {
  if (!part_fits(s, place, size))
    return -EINVAL;
  if (!part_fd_ok(fd, size, !s->writable))
    return -EPROTO;
  int prot = PROT_READ | (s->writable ? PROT_WRITE : 0);
  if (mmap(s->base + place, size, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
    return err_last();
  (void)madvise(s->base + place, size, MADV_DONTDUMP);
  return 0;
}

int part_clear(struct seg *s, uint64_t place, uint64_t size) {
  if (!part_fits(s, place, size))
    return -EINVAL;
  return part_zeros(s->base + place, size) == MAP_FAILED ? err_last() : 0;
}
