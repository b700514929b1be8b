/*
 * Datagrams with everything that stands beside them: the private face of libvppcom, part three. For the preload shim;
 * vppcom_session_sendto and _recvfrom are made of the same.
 */
#ifndef HS_VCL_DGRAM_H
#define HS_VCL_DGRAM_H

#include "vppcom.h"

#include <sys/uio.h>

#define VCL_DGRAM_BROADCAST 0x01u /* send: the program set SO_BROADCAST */
#define VCL_DGRAM_UNCUT     0x02u /* send: never as fragments (IP_PMTUDISC_DO): EMSGSIZE instead */
#define VCL_DGRAM_NO_LOOP   0x04u /* send: a multicast is not for this host's own sockets */

#define VCL_DGRAM_MAX 65527u

/** What stands beside a datagram. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; family 4, 6 or 0 = none. */
struct vcl_dgram {
  uint8_t ip[16];    /* send: destination; receive: source */
  uint16_t port;     /* of it, network order */
  uint8_t family;    /* send: 0 = the connected peer */
  uint8_t flags;     /* VCL_DGRAM_* */
  uint8_t local[16]; /* send: source address, all zero = none; receive: where it was sent to */
  uint32_t ifindex;  /* 1 + interface number of the stack; send: of a multicast, 0 = any */
  uint16_t seg;      /* send: cut into datagrams of so many bytes, 0 = one */
  uint8_t tos, ttl;  /* send: 0 = the session's, the default */
  uint32_t len;      /* receive: true length, also of one that was cut off */
  uint64_t stamp_us; /* receive: CLOCK_MONOTONIC at its arrival, if VCL_OPT_STAMP was set by then; 0 = not known */
};

/** One datagram. MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT. Bytes put into iov (MSG_TRUNC: the true length), -EAGAIN, a pending
 * error (told once), -EBADFD. */
int vcl_dgram_recv(uint32_t h, const struct iovec *iov, int n, int flags, struct vcl_dgram *d);
/** The next datagram, if it came from and to where `first` did, in the same way, is no longer than first->len, and
 * fits. Bytes, -EAGAIN: there is none like it. */
int vcl_dgram_recv_like(uint32_t h, const struct iovec *iov, int n, const struct vcl_dgram *first);
/** One datagram, whole or not at all. Bytes, -EAGAIN, -EMSGSIZE, -EDESTADDRREQ, -EACCES, -ENETUNREACH (the first one of
 * a session that is not bound: there is no way to its destination, and the session is as new), a pending error, -EPIPE.
 */
int vcl_dgram_send(uint32_t h, const struct iovec *iov, int n, int flags, const struct vcl_dgram *d);
/** Connects (family 4 or 6) or dissolves (0). Waits for the engine. 0, -ENETUNREACH, -EACCES, -ETIMEDOUT. */
int vcl_dgram_connect(uint32_t h, const struct vcl_dgram *peer);
/** Membership of group d->ip on interface d->ifindex, or that of address d->local, or by route. 0, -EADDRINUSE,
 * -EADDRNOTAVAIL, -ENODEV, -ENOBUFS. */
int vcl_dgram_group(uint32_t h, const struct vcl_dgram *d, int join);

#endif
