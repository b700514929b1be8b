/*
 * NNG's error numbers as -errno. Used by rpc.c and pubsub.c only; any thread.
 */
#ifndef HS_CTL_NNGERR_H
#define HS_CTL_NNGERR_H

/** 0 for 0, else -errno; -EIO for what has no counterpart. */
int nngerr_errno(int nng_rv);

#endif
