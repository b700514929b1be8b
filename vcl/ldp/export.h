/*
 * The symbols that this library puts in front of libc's: C name ldp_X, symbol X (the version script repeats the list).
 *
 * Named so that no prototype, macro or inline of libc's headers gets in the way.
 */
#ifndef HS_LDP_EXPORT_H
#define HS_LDP_EXPORT_H

#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define LDP_API(ret, name, ...) ret ldp_##name(__VA_ARGS__) __asm__(#name) __attribute__((visibility("default")))

/* calls.c */
LDP_API(int, socket, int domain, int type, int proto);
LDP_API(int, bind, int fd, const struct sockaddr *sa, socklen_t len);
LDP_API(int, listen, int fd, int backlog);
LDP_API(int, accept, int fd, struct sockaddr *sa, socklen_t *len);
LDP_API(int, accept4, int fd, struct sockaddr *sa, socklen_t *len, int flags);
LDP_API(int, connect, int fd, const struct sockaddr *sa, socklen_t len);
LDP_API(int, __connect, int fd, const struct sockaddr *sa, socklen_t len);
LDP_API(int, getsockname, int fd, struct sockaddr *sa, socklen_t *len);
LDP_API(int, getpeername, int fd, struct sockaddr *sa, socklen_t *len);
LDP_API(int, getsockopt, int fd, int level, int name, void *val, socklen_t *len);
LDP_API(int, setsockopt, int fd, int level, int name, const void *val, socklen_t len);
LDP_API(int, shutdown, int fd, int how);

/* rw.c */
LDP_API(ssize_t, read, int fd, void *buf, size_t n);
LDP_API(ssize_t, __read, int fd, void *buf, size_t n);
LDP_API(ssize_t, __read_chk, int fd, void *buf, size_t n, size_t room);
LDP_API(ssize_t, readv, int fd, const struct iovec *iov, int n);
LDP_API(ssize_t, preadv2, int fd, const struct iovec *iov, int n, off_t off, int flags);
LDP_API(ssize_t, preadv64v2, int fd, const struct iovec *iov, int n, off_t off, int flags);
LDP_API(ssize_t, recv, int fd, void *buf, size_t n, int flags);
LDP_API(ssize_t, __recv, int fd, void *buf, size_t n, int flags);
LDP_API(ssize_t, __recv_chk, int fd, void *buf, size_t n, size_t room, int flags);
LDP_API(ssize_t, recvfrom, int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len);
LDP_API(ssize_t, __recvfrom_chk, int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *sa,
        socklen_t *len);
LDP_API(ssize_t, write, int fd, const void *buf, size_t n);
LDP_API(ssize_t, __write, int fd, const void *buf, size_t n);
LDP_API(ssize_t, writev, int fd, const struct iovec *iov, int n);
LDP_API(ssize_t, pwritev2, int fd, const struct iovec *iov, int n, off_t off, int flags);
LDP_API(ssize_t, pwritev64v2, int fd, const struct iovec *iov, int n, off_t off, int flags);
LDP_API(ssize_t, send, int fd, const void *buf, size_t n, int flags);
LDP_API(ssize_t, __send, int fd, const void *buf, size_t n, int flags);
LDP_API(ssize_t, sendto, int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len);

/* msg.c */
LDP_API(ssize_t, recvmsg, int fd, struct msghdr *m, int flags);
LDP_API(int, recvmmsg, int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *timeout);
LDP_API(ssize_t, sendmsg, int fd, const struct msghdr *m, int flags);
LDP_API(int, sendmmsg, int fd, struct mmsghdr *m, unsigned n, int flags);

/* move.c */
LDP_API(ssize_t, sendfile, int out, int in, off_t *off, size_t n);
LDP_API(ssize_t, sendfile64, int out, int in, off_t *off, size_t n);
LDP_API(ssize_t, splice, int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);

/* stream.c */
LDP_API(FILE *, fdopen, int fd, const char *mode);
LDP_API(int, fileno, FILE *f);
LDP_API(int, fileno_unlocked, FILE *f);
LDP_API(int, dprintf, int fd, const char *fmt, ...);
LDP_API(int, vdprintf, int fd, const char *fmt, va_list ap);
LDP_API(int, __dprintf_chk, int fd, int flag, const char *fmt, ...);
LDP_API(int, __vdprintf_chk, int fd, int flag, const char *fmt, va_list ap);

/* number.c */
LDP_API(int, close, int fd);
LDP_API(int, __close, int fd);
LDP_API(int, close_range, unsigned from, unsigned to, int flags);
LDP_API(void, closefrom, int from);
LDP_API(int, dup, int fd);
LDP_API(int, dup2, int fd, int to);
LDP_API(int, __dup2, int fd, int to);
LDP_API(int, dup3, int fd, int to, int flags);
LDP_API(int, fcntl, int fd, int cmd, ...);
LDP_API(int, fcntl64, int fd, int cmd, ...);
LDP_API(int, __fcntl, int fd, int cmd, ...);
LDP_API(int, ioctl, int fd, unsigned long req, ...);

/* raw.c */
LDP_API(long, syscall, long number, ...);

/* exec.c */
LDP_API(int, execve, const char *path, char *const argv[], char *const env[]);
LDP_API(int, execv, const char *path, char *const argv[]);
LDP_API(int, execvpe, const char *file, char *const argv[], char *const env[]);
LDP_API(int, execvp, const char *file, char *const argv[]);
LDP_API(int, fexecve, int fd, char *const argv[], char *const env[]);
LDP_API(int, execl, const char *path, const char *arg, ...);
LDP_API(int, execlp, const char *file, const char *arg, ...);
LDP_API(int, execle, const char *path, const char *arg, ...);

/* spawn.c; vfork, __vfork: in assembly there */
LDP_API(int, posix_spawn, pid_t *pid, const char *path, const posix_spawn_file_actions_t *fa,
        const posix_spawnattr_t *attr, char *const argv[], char *const env[]);
LDP_API(int, posix_spawnp, pid_t *pid, const char *file, const posix_spawn_file_actions_t *fa,
        const posix_spawnattr_t *attr, char *const argv[], char *const env[]);
LDP_API(int, posix_spawn_file_actions_adddup2, posix_spawn_file_actions_t *fa, int fd, int to);

/* shell.c */
LDP_API(int, system, const char *command);
LDP_API(FILE *, popen, const char *command, const char *mode);

/* exit.c */
LDP_API(void, _exit, int status) __attribute__((noreturn));
LDP_API(void, _Exit, int status) __attribute__((noreturn));

/* poll.c */
LDP_API(int, poll, struct pollfd *fds, nfds_t n, int timeout_ms);
LDP_API(int, __poll, struct pollfd *fds, nfds_t n, int timeout_ms);
LDP_API(int, __poll_chk, struct pollfd *fds, nfds_t n, int timeout_ms, size_t room);
LDP_API(int, ppoll, struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask);
LDP_API(int, __ppoll_chk, struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
        size_t room);
LDP_API(int, select, int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout);
LDP_API(int, __select, int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout);
LDP_API(int, pselect, int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout, const sigset_t *mask);

/* epoll.c */
LDP_API(int, epoll_create, int size);
LDP_API(int, epoll_create1, int flags);
LDP_API(int, epoll_ctl, int epfd, int op, int fd, struct epoll_event *ev);
LDP_API(int, epoll_wait, int epfd, struct epoll_event *evs, int max, int timeout_ms);
LDP_API(int, epoll_pwait, int epfd, struct epoll_event *evs, int max, int timeout_ms, const sigset_t *mask);
LDP_API(int, epoll_pwait2, int epfd, struct epoll_event *evs, int max, const struct timespec *timeout,
        const sigset_t *mask);

/** A result of this library (≥ 0 or -errno) as libc gives it: -1 and errno. */
int ldp_result(int rc);
ssize_t ldp_result_long(ssize_t rc);

#endif
