/*
 * Bytes of a shimmed socket: one receive and one send behind all read, recv, write and send variants.
 */
#ifndef HS_LDP_IO_H
#define HS_LDP_IO_H

#include "sock.h"

#include <sys/types.h>
#include <sys/uio.h>

/** MSG_PEEK, DONTWAIT, WAITALL, TRUNC; others as Linux treats them on TCP. Bytes, 0 at the end, or -errno. */
ssize_t io_recv(struct sock *s, const struct iovec *iov, size_t n, int flags);
/** MSG_DONTWAIT, NOSIGNAL, MORE. Bytes or -errno; raises SIGPIPE with -EPIPE unless MSG_NOSIGNAL. */
ssize_t io_send(struct sock *s, const struct iovec *iov, size_t n, int flags);
/** The same from byte `at` of the vector on; returns `at` more. */
ssize_t io_send_from(struct sock *s, const struct iovec *iov, size_t n, size_t at, int flags);
/** MSG_FASTOPEN on a stream (calls.c): connects to m->msg_name and sends. Bytes, -EINPROGRESS (nothing was taken) or
 * -errno. */
ssize_t calls_send_fast(struct sock *s, int fd, const struct msghdr *m, int flags);
/** shutdown(2) of a socket on the stack. 0 or -errno. */
int calls_shutdown(struct sock *s, int how);
/** Bytes that a send takes now without waiting; waits for at least one if the socket blocks. > 0 or -errno. */
ssize_t io_room(struct sock *s, int flags);
/** Sum of the lengths, or -EINVAL. */
ssize_t io_total(const struct iovec *iov, size_t n);

#endif
