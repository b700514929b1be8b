/*
 * NNG's error numbers as -errno, one table. System errors that NNG passes through carry their errno in the low bits.
 *
 * Called by rpc.c and pubsub.c on whatever thread uses them.
 */
#include "ctl/nngerr.h"

#include "base/bits.h"
#include "base/err.h"

#include <nng/nng.h>

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
