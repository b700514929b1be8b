/*
 * Which descriptor numbers are ours: the table fd number → file, and the references of a file.
 *
 * A file is a socket on the stack, an epoll set that holds some, or an inner descriptor of the library itself, which
 * the program can neither see nor close. A number's owner in the kernel is a dup() of the seat, one unconnected socket
 * of the process, so numbers never collide with the kernel's. Lookups take no lock: memory of files is never given
 * back, a reference is taken only if the count is above zero, then the table is looked at again. Changes take the lock.
 */
#ifndef HS_LDP_FD_H
#define HS_LDP_FD_H

#include <stdbool.h>
#include <stdint.h>

enum fd_kind { FD_FREE = 0, FD_SOCK = 1, FD_EPOLL = 2, FD_INNER = 3 };

struct fd_file {
  uint32_t kind;        /* enum fd_kind; constant while refs > 0 */
  int32_t refs;         /* atomic: table entries + calls in flight */
  struct fd_file *next; /* free list, or those that end later */
};

#define FD_FLAG_CLOEXEC   1u /* as the program sees it; in the kernel the seat is always close-on-exec */
#define FD_FLAG_SPAWN     2u /* a spawn's file actions dup() it */
#define FD_FLAG_SPAWN_STD 4u /* ... to standard input, output or error */

/** The file behind fd with one more reference, or NULL (also for inner descriptors). Any thread, no lock. */
struct fd_file *fd_get(int fd);
/** As fd_get, but NULL if the file is of another kind. */
struct fd_file *fd_get_kind(int fd, uint32_t kind);
/** One more reference to a file that the caller has one of. */
void fd_more(struct fd_file *f);
/** Gives the reference back; the last one ends the file (sock_end, epoll_end), at the end of the outermost call: a
 * signal handler that closes may have broken into one that has locks. */
void fd_put(struct fd_file *f);
/** References that the calling thread holds: above zero it is inside a call of ours (or in a handler that broke in). */
int fd_held(void);
/** True if fd is in the table, of any kind but inner; a guess the moment it returns. */
bool fd_ours(int fd);
bool fd_is_inner(int fd);

/** Enters f at fd, taking over one reference. fd must be ours in the kernel already. 0 or -EMFILE, -ENOMEM. */
int fd_set_file(int fd, struct fd_file *f, uint32_t flags);
/** Takes fd out of the table: the file with the table's reference, or NULL. The kernel's fd is not touched. */
struct fd_file *fd_take(int fd);
uint32_t fd_flags(int fd);
void fd_flags_set(int fd, uint32_t flags);

/** Marks fd as the library's own; no further bookkeeping. */
void fd_mark_inner(int fd);
void fd_clear_inner(int fd);
/** Moves a fresh descriptor of the library out of the program's way (high, close-on-exec) and marks it. New number. */
int fd_make_inner(int fd);

/** A new kernel descriptor for a file: dup of the seat. fd or -errno. */
int fd_seat(void);

/** Calls fn for each fd whose file is f (any file if NULL), lowest first; stops when fn returns non-zero. */
void fd_each(const struct fd_file *f, int (*fn)(int fd, struct fd_file *f, void *ctx), void *ctx);
/** The lowest number in [from, to] that is in the table (any kind), or -1. */
int fd_next(unsigned from, unsigned to);

/** A zeroed file of `size` bytes and this kind, with one reference; from the kind's free list if there is one. */
struct fd_file *fd_file_new(uint32_t kind, unsigned size);

/** fork: held over it, made anew in the child. */
void fd_lock(void);
void fd_unlock(void);
void fd_lock_reinit(void);
/** True in a vfork child (or any child that ran no fork handler): the table is the parent's, hands off. */
bool fd_foreign_process(void);
/** The process that the table belongs to is the calling one from now on. */
void fd_own_process(void);

#endif
