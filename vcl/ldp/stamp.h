/*
 * SO_TIMESTAMP and SO_TIMESTAMPNS of sockets of datagrams: each comes with the time of its arrival, socket(7).
 */
#ifndef HS_LDP_STAMP_H
#define HS_LDP_STAMP_H

#include "sock.h"
#include "vcl_dgram.h"

/** One of the four options (also the _NEW ones). 0 or -errno; -ENOENT: it is none of these. */
int stamp_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len);
/** 0 and *value, or -ENOENT. */
int stamp_getsockopt(const struct sock *s, int level, int name, int *value);
/** Puts the time of d's arrival into m's ancillary data, if that was asked for; *used: bytes of m's room that are
 * taken, before and after. */
void stamp_put(const struct sock *s, struct msghdr *m, size_t *used, const struct vcl_dgram *d);
/** What was set, again, to a fresh session. */
void stamp_apply(const struct sock *s);
/** The same, to the kernel socket fd that takes its place. */
void stamp_replay(const struct sock *s, int fd);

#endif
