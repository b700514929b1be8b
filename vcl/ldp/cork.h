/*
 * Datagrams that are put together by several calls: MSG_MORE and UDP_CORK, udp(7).
 */
#ifndef HS_LDP_CORK_H
#define HS_LDP_CORK_H

#include "sock.h"

/** True if a send with these flags is a part of a datagram, or completes one. */
bool cork_takes(const struct sock *s, int flags);
/** Adds a part; without MSG_MORE and UDP_CORK the datagram goes. Destination and ancillary data are the first part's.
 * Bytes of this part, or -errno: then all parts are gone, as on Linux. */
ssize_t cork_sendmsg(struct sock *s, int fd, const struct msghdr *m, int flags);
/** UDP_CORK is set or cleared: then what is held goes. The socket's lock is held. */
void cork_set(struct sock *s, bool on);
/** The socket ends: what is held is lost. */
void cork_drop(struct sock *s);

#endif
