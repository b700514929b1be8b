/*
 * The heart of poll and select: entries of both kinds, one deadline.
 */
#ifndef HS_LDP_POLL_ANY_H
#define HS_LDP_POLL_ANY_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/** True if one of the descriptors is in our table. */
bool poll_any_ours(const struct pollfd *fds, nfds_t n);
/** As ppoll, with an absolute deadline (CLOCK_MONOTONIC ns; 0 = do not wait, INT64_MAX = none). Entries or -errno. */
int poll_any(struct pollfd *fds, nfds_t n, int64_t deadline_ns, const sigset_t *mask);

#endif
