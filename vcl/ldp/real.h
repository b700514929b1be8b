/*
 * The kernel's side: libc's own functions behind the ones that this library interposes.
 *
 * `real.read` and so on are pointers found with dlsym(RTLD_NEXT) by the constructor. A call that comes before it
 * (another library's constructor) lands in a resolver that does the same, so every pointer may be called at any time,
 * in any thread. Inside this library a plain `read(...)` from any file means the kernel too: the linker maps it to
 * inner.c.
 */
#ifndef HS_LDP_REAL_H
#define HS_LDP_REAL_H

#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* X(return type, name, parameters, arguments) */
#define LDP_REAL_LIST(X)                                                                                               \
  X(int, socket, (int d, int t, int p), (d, t, p))                                                                     \
  X(int, bind, (int fd, const struct sockaddr *a, socklen_t l), (fd, a, l))                                            \
  X(int, listen, (int fd, int n), (fd, n))                                                                             \
  X(int, accept, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))                                               \
  X(int, accept4, (int fd, struct sockaddr *a, socklen_t *l, int f), (fd, a, l, f))                                    \
  X(int, connect, (int fd, const struct sockaddr *a, socklen_t l), (fd, a, l))                                         \
  X(int, getsockname, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))                                          \
  X(int, getpeername, (int fd, struct sockaddr *a, socklen_t *l), (fd, a, l))                                          \
  X(int, getsockopt, (int fd, int lv, int o, void *v, socklen_t *l), (fd, lv, o, v, l))                                \
  X(int, setsockopt, (int fd, int lv, int o, const void *v, socklen_t l), (fd, lv, o, v, l))                           \
  X(int, shutdown, (int fd, int how), (fd, how))                                                                       \
  X(int, close, (int fd), (fd))                                                                                        \
  X(int, close_range, (unsigned a, unsigned b, int f), (a, b, f))                                                      \
  X(ssize_t, read, (int fd, void *b, size_t n), (fd, b, n))                                                            \
  X(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n))                                                \
  X(ssize_t, preadv2, (int fd, const struct iovec *v, int n, off_t o, int f), (fd, v, n, o, f))                        \
  X(ssize_t, recv, (int fd, void *b, size_t n, int f), (fd, b, n, f))                                                  \
  X(ssize_t, recvfrom, (int fd, void *b, size_t n, int f, struct sockaddr *a, socklen_t *l), (fd, b, n, f, a, l))      \
  X(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), (fd, m, f))                                                   \
  X(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned n, int f, struct timespec *t), (fd, m, n, f, t))               \
  X(ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n))                                                     \
  X(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))                                               \
  X(ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t o, int f), (fd, v, n, o, f))                       \
  X(ssize_t, send, (int fd, const void *b, size_t n, int f), (fd, b, n, f))                                            \
  X(ssize_t, sendto, (int fd, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t l),                  \
    (fd, b, n, f, a, l))                                                                                               \
  X(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f))                                             \
  X(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned n, int f), (fd, m, n, f))                                      \
  X(ssize_t, sendfile, (int o, int i, off_t *off, size_t n), (o, i, off, n))                                           \
  X(ssize_t, splice, (int i, off_t *io, int o, off_t *oo, size_t n, unsigned f), (i, io, o, oo, n, f))                 \
  X(int, dup, (int fd), (fd))                                                                                          \
  X(int, dup2, (int fd, int to), (fd, to))                                                                             \
  X(int, dup3, (int fd, int to, int f), (fd, to, f))                                                                   \
  X(int, poll, (struct pollfd * p, nfds_t n, int t), (p, n, t))                                                        \
  X(int, ppoll, (struct pollfd * p, nfds_t n, const struct timespec *t, const sigset_t *s), (p, n, t, s))              \
  X(int, select, (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t), (n, r, w, e, t))                         \
  X(int, pselect, (int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *t, const sigset_t *s),               \
    (n, r, w, e, t, s))                                                                                                \
  X(int, epoll_create1, (int f), (f))                                                                                  \
  X(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e), (ep, op, fd, e))                                  \
  X(int, epoll_wait, (int ep, struct epoll_event *e, int n, int t), (ep, e, n, t))                                     \
  X(int, epoll_pwait, (int ep, struct epoll_event *e, int n, int t, const sigset_t *s), (ep, e, n, t, s))              \
  X(int, epoll_pwait2, (int ep, struct epoll_event *e, int n, const struct timespec *t, const sigset_t *s),            \
    (ep, e, n, t, s))                                                                                                  \
  X(int, execve, (const char *p, char *const a[], char *const e[]), (p, a, e))                                         \
  X(int, execvpe, (const char *p, char *const a[], char *const e[]), (p, a, e))                                        \
  X(int, fexecve, (int fd, char *const a[], char *const e[]), (fd, a, e))                                              \
  X(int, posix_spawn,                                                                                                  \
    (pid_t * pid, const char *p, const posix_spawn_file_actions_t *f, const posix_spawnattr_t *t, char *const a[],     \
     char *const e[]),                                                                                                 \
    (pid, p, f, t, a, e))                                                                                              \
  X(int, posix_spawnp,                                                                                                 \
    (pid_t * pid, const char *p, const posix_spawn_file_actions_t *f, const posix_spawnattr_t *t, char *const a[],     \
     char *const e[]),                                                                                                 \
    (pid, p, f, t, a, e))                                                                                              \
  X(int, posix_spawn_file_actions_adddup2, (posix_spawn_file_actions_t * f, int fd, int to), (f, fd, to))              \
  X(int, system, (const char *c), (c))                                                                                 \
  X(FILE *, popen, (const char *c, const char *m), (c, m))                                                             \
  X(int, eventfd, (unsigned n, int f), (n, f))                                                                         \
  X(int, timerfd_create, (int clock, int f), (clock, f))                                                               \
  X(FILE *, fdopen, (int fd, const char *m), (fd, m))                                                                  \
  X(int, vdprintf, (int fd, const char *m, va_list a), (fd, m, a))                                                     \
  X(int, fileno, (FILE * f), (f))

struct ldp_real {
#define LDP_REAL_MEMBER(ret, name, params, args) ret(*name) params;
  LDP_REAL_LIST(LDP_REAL_MEMBER)
#undef LDP_REAL_MEMBER
  long (*syscall)(long number, ...);
  int (*fcntl)(int fd, int cmd, ...);
  int (*ioctl)(int fd, unsigned long req, ...);
};

extern struct ldp_real real;

/** Finds all functions; idempotent. A function that libc lacks then answers ENOSYS. */
void real_resolve(void);

#endif
