/*
 * Segments: making, checking and mapping sealed memfds (shm/seg.h).
 *
 * Called by the broker (create, seal), and by every process that is handed a segment (attach). Never on the hot path.
 * The header of a received segment is hostile input: it is copied once and only the copy is checked and kept.
 */
#include "shm/seg.h"

#include "base/bits.h"
#include "base/err.h"
#include "base/fault.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SEG_PAGE     4096u
#define SEG_SIZE_MAX (1ull << 42) /* bytes; anything greater is a lie */
#define SEG_SEALS    (F_SEAL_SHRINK | F_SEAL_GROW)
#define SEG_WRSEALS  (F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static void seg_clear(struct seg *s) {
  memset(s, 0, sizeof *s);
  s->fd = -1;
}

/** Maps s->fd; a core file of a segment would delay the proof of death by seconds, hence DONTDUMP. */
static int seg_map(struct seg *s, int writable) {
  int prot = PROT_READ | (writable ? PROT_WRITE : 0);
  void *base = mmap(NULL, s->size, prot, MAP_SHARED, s->fd, 0);
  if (base == MAP_FAILED)
    return err_last();
  s->base = base;
  s->writable = writable;
  if (madvise(base, s->size, MADV_DONTDUMP) < 0)
    return err_last();
  return 0;
}

static uint64_t seg_wall_us(void) {
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/** Writes the header; READY is stored last. */
static void seg_header_write(const struct seg *s) {
  struct abi_seg_hdr *hdr = (struct abi_seg_hdr *)(void *)s->base;
  hdr->magic = ABI_MAGIC;
  hdr->kind = s->kind;
  hdr->major = ABI_MAJOR;
  hdr->minor = ABI_MINOR;
  hdr->size = s->size;
  hdr->id = s->id;
  hdr->created_us = seg_wall_us();
  hdr->creator_pid = (uint32_t)getpid();
  memcpy(hdr->geom, s->geom, sizeof hdr->geom);
  FAULT_POINT("seg.ready");
  __atomic_store_n(&hdr->state, (uint32_t)ABI_SEG_READY, __ATOMIC_RELEASE);
}

int seg_create(struct seg *s, const char *name, uint32_t kind, uint64_t id, uint64_t size, const uint64_t *geom) {
  int rc;
  seg_clear(s);
  if (id == 0 || kind == ABI_SEG_FREE || size == 0 || size > SEG_SIZE_MAX)
    return -EINVAL;
  s->size = s->file = bits_align_up(size, SEG_PAGE);
  s->kind = kind;
  s->id = id;
  memcpy(s->geom, geom, sizeof s->geom);
  s->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (s->fd < 0)
    return err_last();
  if (fchmod(s->fd, 0400) < 0 || ftruncate(s->fd, (off_t)s->size) < 0 || fcntl(s->fd, F_ADD_SEALS, SEG_SEALS) < 0) {
    rc = err_last();
    goto out;
  }
  rc = seg_map(s, 1);
  if (rc < 0)
    goto out;
  seg_header_write(s);
  return 0;
out:
  seg_detach(s);
  return rc;
}

int seg_is_sealed(int fd) {
  int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & SEG_SEALS) == SEG_SEALS;
}

/** Checks the copy of a header against what the kernel says of the file. NULL or what is wrong. */
static const char *seg_header_wrong(const struct abi_seg_hdr *hdr, uint64_t file_size, uint32_t kind) {
  if (hdr->magic != ABI_MAGIC)
    return "magic";
  if (hdr->state != ABI_SEG_READY)
    return "not ready";
  if (hdr->major != ABI_MAJOR)
    return "major version";
  if (hdr->kind != kind)
    return "kind";
  if (hdr->size != file_size)
    return "size";
  if (hdr->id == 0)
    return "id";
  return NULL;
}

int seg_attach(struct seg *s, int fd, uint32_t kind, int rw, const char **why) {
  struct abi_seg_hdr hdr;
  struct stat st;
  const char *wrong = "not a sealed memfd";
  int rc;
  seg_clear(s);
  s->fd = fd;
  if (!seg_is_sealed(fd)) {
    rc = -EPROTO;
    goto out;
  }
  if (fstat(fd, &st) < 0) {
    wrong = "fstat";
    rc = err_last();
    goto out;
  }
  s->size = s->file = (uint64_t)st.st_size;
  if (st.st_size < (off_t)SEG_PAGE || s->size % SEG_PAGE != 0 || s->size > SEG_SIZE_MAX) {
    wrong = "file size";
    rc = -EPROTO;
    goto out;
  }
  rc = seg_map(s, rw == SEG_RDWR);
  if (rc < 0) {
    wrong = "mmap";
    goto out;
  }
  /* The state first: whoever sees READY sees the whole header. Then one copy, and only the copy is believed. */
  (void)__atomic_load_n(&((const struct abi_seg_hdr *)(const void *)s->base)->state, __ATOMIC_ACQUIRE);
  memcpy(&hdr, s->base, sizeof hdr);
  wrong = seg_header_wrong(&hdr, s->size, kind);
  if (wrong != NULL) {
    rc = -EPROTO;
    goto out;
  }
  s->kind = kind;
  s->id = hdr.id;
  memcpy(s->geom, hdr.geom, sizeof s->geom);
  return 0;
out:
  if (why != NULL)
    *why = wrong;
  seg_detach(s);
  return rc;
}

void seg_detach(struct seg *s) {
  if (s->base != NULL)
    munmap(s->base, s->size);
  if (s->fd > 0 || (s->fd == 0 && s->size != 0)) /* a zero-filled struct seg owns no descriptor 0 */
    close(s->fd);
  seg_clear(s);
}

int seg_reopen_rdonly(const struct seg *s) {
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", s->fd);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? err_last() : fd;
}

int seg_seal_writers(int fd) {
  if (fcntl(fd, F_ADD_SEALS, SEG_WRSEALS) == 0)
    return 0;
  int rc = err_last();
  int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & SEG_WRSEALS) == SEG_WRSEALS ? 0 : rc; /* a second call finds its work done */
}
