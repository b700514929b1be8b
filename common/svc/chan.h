/*
 * Channel: one end of an AF_UNIX seqpacket conversation in a loop, with an output queue, so that nothing is lost or
 * waited for when the other side is slow. Below the custody client, the broker's custody server and its attach server.
 * One thread, the loop's.
 */
#ifndef HS_SVC_CHAN_H
#define HS_SVC_CHAN_H

#include "ctl/attach.h"
#include "svc/loop.h"

struct chan;

struct chan_ops {
  /** One message. The descriptors belong to the callee. The channel may be freed inside. */
  void (*msg)(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds);
  /** The other side is gone, or lied to the transport (why < 0). Called once; the callee frees the channel. */
  void (*closed)(void *ctx, int why);
};

/** Takes over fd (non-blocking). max_fds descriptors are taken in with a message, more is a lie; max_queue bytes may
 * wait for a slow reader. 0 or -errno (fd stays the caller's). */
int chan_new(struct chan **out, struct loop *l, int fd, int max_fds, size_t max_queue, const struct chan_ops *ops,
             void *ctx);
/** Closes the descriptor, forgets what is queued. Fine inside a callback. */
void chan_free(struct chan *c);
/** Send or queue; the descriptors are dup'ed if they must wait. 0, -ENOBUFS past max_queue, -EPIPE and other -errno
 * when the other side is gone (`closed` follows from the loop). */
int chan_send(struct chan *c, const void *buf, size_t len, const int *fds, int n_fds);
/** Bytes waiting. */
size_t chan_queued(const struct chan *c);
int chan_fd(const struct chan *c);

#endif
