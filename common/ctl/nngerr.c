/*
 * NNG's error numbers as -errno, one table, and one of ours that NNG must not see. System errors that NNG passes
 * through carry their errno in the low bits.
 *
 * Called by rpc.c and pubsub.c on whatever thread uses them.
 */
#include "ctl/nngerr.h"

#include "base/bits.h"
#include "base/err.h"

#include <nng/nng.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
  int nng, err;
} nngerr_table[] = {
    {NNG_EINTR, EINTR},
    {NNG_ENOMEM, ENOMEM},
    {NNG_EINVAL, EINVAL},
    {NNG_EBUSY, EBUSY},
    {NNG_ETIMEDOUT, ETIMEDOUT},
    {NNG_ECONNREFUSED, ECONNREFUSED},
    {NNG_ECLOSED, EBADF},
    {NNG_EAGAIN, EAGAIN},
    {NNG_ENOTSUP, EOPNOTSUPP},
    {NNG_EADDRINUSE, EADDRINUSE},
    {NNG_ESTATE, EPROTO},
    {NNG_ENOENT, ENOENT},
    {NNG_EPROTO, EPROTO},
    {NNG_EUNREACHABLE, EHOSTUNREACH},
    {NNG_EADDRINVAL, EADDRNOTAVAIL},
    {NNG_EPERM, EACCES},
    {NNG_EMSGSIZE, EMSGSIZE},
    {NNG_ECONNABORTED, ECONNABORTED},
    {NNG_ECONNRESET, ECONNRESET},
    {NNG_ECANCELED, ECANCELED},
    {NNG_ENOFILES, EMFILE},
    {NNG_ENOSPC, ENOSPC},
    {NNG_EEXIST, EEXIST},
};

int nngerr_errno(int nng_rv) {
  if (nng_rv == 0)
    return 0;
  if ((nng_rv & NNG_ESYSERR) != 0)
    return -(nng_rv & ~(int)NNG_ESYSERR);
  for (unsigned i = 0; i < ARRAY_LEN(nngerr_table); i++)
    if (nngerr_table[i].nng == nng_rv)
      return -nngerr_table[i].err;
  return -EIO;
}

/**
 * libc's sendmsg, in front of it for the whole process, libnng included, but that EPIPE is ECONNRESET: the peer is gone
 * either way, and no code of ours tells the two apart. NNG 1.5.2 writes a greeting to each client that it accepts. If
 * that is EPIPE, because the client has left already, it takes it for the end of the listener itself and never accepts
 * again (its issue 1518, mended in 1.6): one that connects and closes would silence a service for good.
 */
__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
  ssize_t n = (ssize_t)syscall(SYS_sendmsg, fd, m, flags);
  if (n < 0 && errno == EPIPE)
    errno = ECONNRESET;
  return n;
}
