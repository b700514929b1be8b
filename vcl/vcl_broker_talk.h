/*
 * What the files of the conversation with the broker share (broker.c, broker_part.c). Callers hold broker.lock.
 */
#ifndef HS_VCL_BROKER_TALK_H
#define HS_VCL_BROKER_TALK_H

#include "attach.pb-c.h"
#include "vcl_broker.h"

typedef Hoststack__Attach__Request broker_request;
typedef Hoststack__Attach__Reply broker_reply;

#define BROKER_FDS 3

/** One request on the open socket. 0, -EPIPE when the broker is gone, -ETIMEDOUT, -errno. */
int broker_send(struct broker *b, broker_request *rq, usec_t deadline);
/** Waits for the reply to the request `seq`; a part's is put by, replies to older ones are dropped. 0 with *out,
 * -errno; -EPIPE at EOF. */
int broker_receive(struct broker *b, uint32_t seq, broker_reply **out, int *fds, int *n_fds, usec_t deadline);
/** Negative errno of a reply; says why under VCL_DEBUG. */
int broker_result(const struct broker *b, const broker_reply *r);
void broker_hangup(struct broker *b);
void broker_close_fds(int *fds, int *n);
/** broker_part.c: whether this is the reply that a part waits for; its descriptors are taken then. */
int broker_part_put_by(struct broker *b, const broker_reply *r, int *fds, int *n_fds);

#endif
