/*
 * Segments: sealed memfds, made by the broker, mapped by others.
 *
 * A process keeps a `struct seg` per mapping: its private copy of what it checked at attach. Nothing here is called on
 * the hot path except seg_at(). Any thread; a struct seg is not shared between threads while it is opened or closed.
 */
#ifndef HS_SHM_SEG_H
#define HS_SHM_SEG_H

#include "abi/seg.h"
#include <stddef.h>

#define SEG_RDONLY 0
#define SEG_RDWR   1

/** A mapped segment. Geometry is the checked private copy. */
struct seg {
  uint8_t *base;
  uint64_t size; /* bytes mapped */
  uint64_t file; /* of them in the file; less than size only after part_span (shm/part.h) */
  uint64_t id;
  uint32_t kind;
  int fd; /* owned; -1 when not open */
  int writable;
  uint64_t geom[16];
};

/** Make a memfd of `size` bytes (rounded up to 4096), sealed against shrink and grow, header written, state READY. The
 * fd is close-on-exec, mode 0400 on the inode. Returns 0 or -errno. `geom` is 16 words. */
int seg_create(struct seg *s, const char *name, uint32_t kind, uint64_t id, uint64_t size, const uint64_t *geom);
/** Map a received fd (taken over, also on failure closed). Checks seals, size, magic, version, kind, READY. -EPROTO
 * with a reason in *why when the header lies; -errno from mmap/fcntl. */
int seg_attach(struct seg *s, int fd, uint32_t kind, int rw, const char **why);
/** Unmap and close. Idempotent. */
void seg_detach(struct seg *s);
/** A read-only descriptor of the same memfd (reopened through /proc), for an app. Returns fd or -errno. */
int seg_reopen_rdonly(const struct seg *s);
/** Add F_SEAL_FUTURE_WRITE | F_SEAL_SEAL: present writable maps stay, no new ones, no more seals. Returns 0 or -errno.
 */
int seg_seal_writers(int fd);
/** 1 when the fd is a memfd sealed against shrink and grow. */
int seg_is_sealed(int fd);

/** [off, off+len) of the mapping, or NULL. */
static inline void *seg_at(const struct seg *s, shm_off_t off, uint64_t len) {
  return abi_seg_at(s->base, s->size, off, len);
}

#endif
