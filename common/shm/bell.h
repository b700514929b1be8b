/*
 * Bells: how a producer wakes a sleeping consumer in another process.
 *
 * Towards an app: a byte on the services' end of its socketpair, MSG_DONTWAIT, EAGAIN counts as rung. Towards a
 * service: an eventfd that the service watches edge-triggered and never reads. Between services: an eventfd as well.
 */
#ifndef HS_SHM_BELL_H
#define HS_SHM_BELL_H

/** Make the app's socketpair: fds[0] services' end, fds[1] the app's. Non-blocking, close-on-exec, small buffers. 0 or
 * -errno. */
int bell_pair(int fds[2]);
/** Ring an app. 0 rung (or already ringing), -EPIPE the app is gone, other -errno. */
int bell_ring_app(int fd);
/** App side: take all pending bytes. Returns 1 if any, 0 if none, -EPIPE when the services' end is closed everywhere.
 */
int bell_drain(int fd);
#define BELL_PAIR     2 /* a byte that says more than "look": one side of a pair comes with it */
#define BELL_PAIR_FDS 3 /* [own segment read-write, the other's read-only, socket to the other] */
/** Rings with BELL_PAIR and the three descriptors, which stay ours: from then on they lie in the app's socket, whoever
 * of the services dies. -EAGAIN when there is no room, -ETOOMANYREFS when too many descriptors are on their way. */
int bell_ring_pair(int fd, const int pair[BELL_PAIR_FDS]);
/** As bell_drain, but returns BELL_PAIR as soon as it took a pair, whose descriptors (close-on-exec) are the caller's:
 * to be called again. Only for a bell whose other end the services hold. */
int bell_drain_pair(int fd, int pair[BELL_PAIR_FDS]);
/** Eventfd, non-blocking, close-on-exec. fd or -errno. */
int bell_doorbell(void);
int bell_ring_service(int fd);

#endif
