/*
 * Messages with descriptors over AF_UNIX SOCK_SEQPACKET: the attach socket (apps) and the custody socket (services).
 *
 * Transport only: one datagram = one protobuf message, fds beside it. Blocking and non-blocking descriptors alike; any
 * thread. Used by the library too, so nothing here logs, aborts or allocates.
 */
#ifndef HS_CTL_ATTACH_H
#define HS_CTL_ATTACH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ATTACH_MSG_MAX 65536 /* bytes of one message */
#define ATTACH_FDS_MAX 4     /* descriptors beside one message */

struct attach_cred {
  int32_t pid;
  uint32_t uid, gid;
};

/** Listen at `path` (its folder is made, a stale socket replaced; one that answers is -EADDRINUSE). Non-blocking,
 * close-on-exec. fd or -errno. */
int attach_listen(const char *path, unsigned mode, int backlog);
/** Removes the socket file at `path` if nobody answers there: a program that finds none knows that there is no stack,
 * where it would wait for a broker that comes back. */
void attach_forget(const char *path);
/** Connect; blocking, close-on-exec. fd or -errno. */
int attach_connect(const char *path);
/** The same, non-blocking in connect and after (-EAGAIN: the listener's queue is full, try later). */
int attach_connect_nb(const char *path);
/** Accept one; non-blocking, close-on-exec. fd or -errno. */
int attach_accept(int fd);
/** SO_PEERCRED. 0 or -errno. */
int attach_peer(int fd, struct attach_cred *out);
/** Send one message with n_fds descriptors (they stay ours). 0 or -errno (-EAGAIN: queue full, nothing was sent;
 * -EPIPE: the other side is gone). MSG_NOSIGNAL. */
int attach_send(int fd, const void *msg, size_t len, const int *fds, int n_fds);
/** Receive one message. Returns its length, 0 at end of file, -errno; -EMSGSIZE for a truncated message or too many fds
 * (all closed). Received fds are close-on-exec, caller owns them. */
ssize_t attach_recv(int fd, void *buf, size_t cap, int *fds, int max_fds, int *n_fds);

#endif
