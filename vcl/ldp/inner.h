/*
 * System calls that this library itself makes: the linker's --wrap sends every undefined `close`, `poll`, ... inside it
 * to `__wrap_close`, ..., so that vcl and libprotobuf-c beneath never meet the interposed functions. Descriptors that
 * come into being here are moved out of the program's way and marked (fd_make_inner).
 */
#ifndef HS_LDP_INNER_H
#define HS_LDP_INNER_H

#include "real.h"

#define INNER(ret, name, ...) ret inner_##name(__VA_ARGS__) __asm__("__wrap_" #name)

INNER(int, socket, int d, int t, int p);
INNER(int, eventfd, unsigned n, int f);
INNER(int, timerfd_create, int clock, int f);
INNER(int, epoll_create1, int f);
INNER(int, dup, int fd);
INNER(int, close, int fd);
INNER(ssize_t, recvmsg, int fd, struct msghdr *m, int f);
INNER(ssize_t, sendmsg, int fd, const struct msghdr *m, int f);
INNER(ssize_t, read, int fd, void *b, size_t n);
INNER(ssize_t, write, int fd, const void *b, size_t n);
INNER(ssize_t, recv, int fd, void *b, size_t n, int f);
INNER(ssize_t, send, int fd, const void *b, size_t n, int f);
INNER(int, connect, int fd, const struct sockaddr *a, socklen_t l);
INNER(int, setsockopt, int fd, int lv, int o, const void *v, socklen_t l);
INNER(int, getsockopt, int fd, int lv, int o, void *v, socklen_t *l);
INNER(int, poll, struct pollfd *p, nfds_t n, int t);
INNER(int, ppoll, struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *s);
INNER(int, epoll_ctl, int ep, int op, int fd, struct epoll_event *e);
INNER(int, epoll_wait, int ep, struct epoll_event *e, int n, int t);
INNER(int, fcntl, int fd, int cmd, ...);
INNER(int, fcntl64, int fd, int cmd, ...);
INNER(int, ioctl, int fd, unsigned long req, ...);
INNER(int, shutdown, int fd, int how);

#endif
