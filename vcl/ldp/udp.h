/*
 * Sockets of datagrams under the shim: messages with addresses and ancillary data, groups, and the way to the kernel.
 */
#ifndef HS_LDP_UDP_H
#define HS_LDP_UDP_H

#include "sock.h"

#include <sys/types.h>
#include <sys/uio.h>

/** One datagram into m: name, buffers, ancillary data, flags. Bytes or -errno. */
ssize_t udp_recvmsg(struct sock *s, struct msghdr *m, int flags);
/** One datagram. A socket that has not spoken to the stack yet, and whose destination is the kernel's, moves there
 * with it; fd is then a kernel descriptor (-1: it may not move). Bytes or -errno. */
ssize_t udp_sendmsg(struct sock *s, int fd, const struct msghdr *m, int flags);
/** The same for a datagram that is whole: no MSG_MORE, no UDP_CORK. */
ssize_t udp_sendmsg_whole(struct sock *s, int fd, const struct msghdr *m, int flags);
ssize_t udp_recv(struct sock *s, const struct iovec *iov, size_t n, int flags);
ssize_t udp_send(struct sock *s, const struct iovec *iov, size_t n, int flags);
/** bind: also to addresses that only the kernel has. */
int udp_bind(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len);
int udp_connect(struct sock *s, int fd, const struct sockaddr *sa, socklen_t len);
/** Ancillary data into m's room behind *used bytes of it; MSG_CTRUNC if it does not fit. */
void udp_put_cmsg(struct msghdr *m, size_t *used, int level, int type, const void *data, size_t len);
/** Options that are datagrams' alone. -ENOENT: it is none of these. */
int udp_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len);
/** An int option was set: what of it is acted on here. */
void udp_option(struct sock *s, int level, int name, int value);

#endif
