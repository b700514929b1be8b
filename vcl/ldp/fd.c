/*
 * The table of fd.h: a directory of pages, 1024 numbers each, made when first needed; numbers up to 2^20.
 *
 * Called by every interposed function, any thread. The lock guards changes of the table and the free lists.
 */
#include "fd.h"

#include "epoll.h"
#include "real.h"
#include "sock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FD_PAGE  1024u
#define FD_PAGES 1024u

struct fd_slot {
  struct fd_file *file; /* atomic */
  uint32_t flags;       /* atomic */
};

static struct fd_slot *fd_dir[FD_PAGES]; /* atomic pointers */
static struct fd_file fd_inner_file = {.kind = FD_INNER, .refs = 1};
static struct fd_file *fd_free_list[4]; /* by kind */
static struct fd_file *fd_later;        /* atomic: nobody refers to them, they are to be ended */
static pthread_mutex_t fd_mutex = PTHREAD_MUTEX_INITIALIZER;
static int fd_seat_fd = -1;
static pid_t fd_pid;              /* 0 until the first change */
static __thread int fd_held_here; /* from fd_get, fd_take, fd_file_new to fd_put, fd_set_file */

int fd_held(void) {
  return fd_held_here;
}

void fd_lock(void) {
  pthread_mutex_lock(&fd_mutex);
}
void fd_unlock(void) {
  pthread_mutex_unlock(&fd_mutex);
}
void fd_lock_reinit(void) {
  pthread_mutex_init(&fd_mutex, NULL);
}

bool fd_foreign_process(void) {
  pid_t pid = __atomic_load_n(&fd_pid, __ATOMIC_RELAXED);
  return pid != 0 && pid != getpid();
}

void fd_own_process(void) {
  __atomic_store_n(&fd_pid, getpid(), __ATOMIC_RELAXED);
}

static struct fd_slot *fd_slot(int fd) {
  unsigned n = (unsigned)fd;
  if (n >= FD_PAGE * FD_PAGES)
    return NULL;
  struct fd_slot *page = __atomic_load_n(&fd_dir[n / FD_PAGE], __ATOMIC_ACQUIRE);
  return page ? &page[n % FD_PAGE] : NULL;
}

/* Under the lock. */
static struct fd_slot *fd_slot_make(int fd) {
  unsigned n = (unsigned)fd;
  if (n >= FD_PAGE * FD_PAGES)
    return NULL;
  struct fd_slot **dir = &fd_dir[n / FD_PAGE];
  if (!*dir) {
    struct fd_slot *page = calloc(FD_PAGE, sizeof(*page));
    __atomic_store_n(dir, page, __ATOMIC_RELEASE);
  }
  return *dir ? *dir + n % FD_PAGE : NULL;
}

struct fd_file *fd_get(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  if (!slot)
    return NULL;
  for (;;) {
    struct fd_file *f = __atomic_load_n(&slot->file, __ATOMIC_ACQUIRE);
    if (!f || f == &fd_inner_file)
      return NULL;
    int32_t refs = __atomic_load_n(&f->refs, __ATOMIC_RELAXED);
    if (refs <= 0 || !__atomic_compare_exchange_n(&f->refs, &refs, refs + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      continue;
    fd_held_here++;
    if (__atomic_load_n(&slot->file, __ATOMIC_ACQUIRE) == f)
      return f;
    fd_put(f); /* closed, perhaps reused, meanwhile */
  }
}

struct fd_file *fd_get_kind(int fd, uint32_t kind) {
  struct fd_file *f = fd_get(fd);
  if (f && f->kind != kind) {
    fd_put(f);
    return NULL;
  }
  return f;
}

void fd_more(struct fd_file *f) {
  __atomic_add_fetch(&f->refs, 1, __ATOMIC_RELAXED);
  fd_held_here++;
}

static void fd_end(struct fd_file *f) {
  uint32_t kind = f->kind;
  if (kind == FD_SOCK)
    sock_end((struct sock *)f);
  else
    epoll_end((struct epoll *)f);
  fd_lock();
  f->next = fd_free_list[kind];
  fd_free_list[kind] = f;
  fd_unlock();
}

/* Ends are for outermost calls: a handler's close may have broken into one that has locks. */
static void fd_end_all(void) {
  struct fd_file *next, *f = __atomic_exchange_n(&fd_later, NULL, __ATOMIC_ACQUIRE);
  for (; f; f = next) {
    next = f->next;
    fd_end(f);
  }
}

void fd_put(struct fd_file *f) {
  int last = __atomic_sub_fetch(&f->refs, 1, __ATOMIC_ACQ_REL) == 0;
  if (last && fd_held_here > 1) {
    f->next = __atomic_load_n(&fd_later, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&fd_later, &f->next, f, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
      ;
  } else if (last) {
    fd_end(f);
  }
  if (fd_held_here == 1 && __atomic_load_n(&fd_later, __ATOMIC_RELAXED))
    fd_end_all();
  fd_held_here--;
}

bool fd_ours(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  struct fd_file *f = slot ? __atomic_load_n(&slot->file, __ATOMIC_ACQUIRE) : NULL;
  return f && f != &fd_inner_file;
}

bool fd_is_inner(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  return slot && __atomic_load_n(&slot->file, __ATOMIC_ACQUIRE) == &fd_inner_file;
}

int fd_set_file(int fd, struct fd_file *f, uint32_t flags) {
  int rc = -EMFILE;
  fd_lock();
  if (fd_pid == 0)
    fd_own_process();
  struct fd_slot *slot = fd_slot_make(fd);
  if (slot) {
    __atomic_store_n(&slot->flags, flags, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->file, f, __ATOMIC_RELEASE);
    rc = 0;
  }
  fd_unlock();
  if (rc == 0 && f != &fd_inner_file)
    fd_held_here--;
  return rc;
}

struct fd_file *fd_take(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  if (!slot)
    return NULL;
  fd_lock();
  struct fd_file *f = slot->file;
  if (f == &fd_inner_file)
    f = NULL;
  else
    __atomic_store_n(&slot->file, NULL, __ATOMIC_RELEASE);
  fd_unlock();
  if (f)
    fd_held_here++;
  return f;
}

uint32_t fd_flags(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  return slot ? __atomic_load_n(&slot->flags, __ATOMIC_RELAXED) : 0;
}

void fd_flags_set(int fd, uint32_t flags) {
  struct fd_slot *slot = fd_slot(fd);
  if (slot)
    __atomic_store_n(&slot->flags, flags, __ATOMIC_RELAXED);
}

void fd_mark_inner(int fd) {
  (void)fd_set_file(fd, &fd_inner_file, 0);
}

void fd_clear_inner(int fd) {
  struct fd_slot *slot = fd_slot(fd);
  struct fd_file *inner = &fd_inner_file;
  if (slot)
    (void)__atomic_compare_exchange_n(&slot->file, &inner, NULL, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

int fd_make_inner(int fd) {
  if (fd < 0)
    return fd;
  struct rlimit lim;
  long top = getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < FD_PAGE * FD_PAGES ? (long)lim.rlim_cur : 65536;
  long from = top > 512 ? top - 160 : top / 2;
  int high = real.fcntl(fd, F_DUPFD_CLOEXEC, from);
  if (high >= 0) {
    real.close(fd);
    fd = high;
  }
  fd_mark_inner(fd);
  return fd;
}

int fd_seat(void) {
  int seat = __atomic_load_n(&fd_seat_fd, __ATOMIC_ACQUIRE);
  if (seat < 0) {
    seat = real.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (seat < 0)
      return -errno;
    seat = fd_make_inner(seat);
    int none = -1;
    if (!__atomic_compare_exchange_n(&fd_seat_fd, &none, seat, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      fd_clear_inner(seat);
      real.close(seat);
      seat = none;
    }
  }
  int fd = real.fcntl(seat, F_DUPFD_CLOEXEC, 0L);
  return fd < 0 ? -errno : fd;
}

int fd_next(unsigned from, unsigned to) {
  for (unsigned n = from; n <= to && n < FD_PAGE * FD_PAGES; n++) {
    struct fd_slot *page = __atomic_load_n(&fd_dir[n / FD_PAGE], __ATOMIC_ACQUIRE);
    if (!page) {
      n |= FD_PAGE - 1;
      continue;
    }
    if (__atomic_load_n(&page[n % FD_PAGE].file, __ATOMIC_ACQUIRE))
      return (int)n;
  }
  return -1;
}

void fd_each(const struct fd_file *f, int (*fn)(int fd, struct fd_file *f, void *ctx), void *ctx) {
  for (int fd = fd_next(0, UINT32_MAX); fd >= 0; fd = fd_next((unsigned)fd + 1, UINT32_MAX)) {
    struct fd_file *got = fd_get(fd);
    int stop = got && (!f || got == f) ? fn(fd, got, ctx) : 0;
    if (got)
      fd_put(got);
    if (stop)
      return;
  }
}

struct fd_file *fd_file_new(uint32_t kind, unsigned size) {
  fd_lock();
  struct fd_file *f = fd_free_list[kind];
  if (f)
    fd_free_list[kind] = f->next;
  fd_unlock();
  if (!f && !(f = calloc(1, size)))
    return NULL;
  /* refs stays 0 until all else is in place: lookups that still hold a stale pointer retry on 0. */
  memset((char *)f + sizeof(*f), 0, size - sizeof(*f));
  f->next = NULL;
  f->kind = kind;
  __atomic_store_n(&f->refs, 1, __ATOMIC_RELEASE);
  fd_held_here++;
  return f;
}
