/*
 * Requests about parts of A (AddPart, PartMapped, DropPart) on the attach socket, which nobody waits for.
 *
 * Called by parts.c with broker.lock held. One is under way at a time; whoever else speaks with the broker meanwhile
 * may take its reply off the socket, and puts it by here. A connection that ends takes the request with it (-EPIPE): it
 * is said again on the next one.
 */
#include "vcl_broker_talk.h"

#include "base/err.h"

#include <unistd.h>

void broker_part_forget(struct broker *b) {
  if (b->part.have && b->part.fd >= 0)
    close(b->part.fd);
  b->part = (struct broker_part){.fd = -1};
}

int broker_part_put_by(struct broker *b, const broker_reply *r, int *fds, int *n_fds) {
  if (b->part.seq == 0 || r->seq != b->part.seq)
    return 0;
  b->part.seq = 0;
  b->part.have = 1;
  b->part.rc = broker_result(b, r);
  b->part.fd = -1;
  if (b->part.rc == 0 && b->part.ask == BROKER_PART_ADD) {
    b->part.rc = r->body_case == HOSTSTACK__ATTACH__REPLY__BODY_ADD_PART && *n_fds == 1 ? 0 : -EPROTO;
    if (b->part.rc == 0) {
      b->part.place = r->add_part->place;
      b->part.size = r->add_part->size;
      b->part.fd = fds[--*n_fds];
    }
  }
  broker_close_fds(fds, n_fds);
  return 1;
}

int broker_part_begin(struct broker *b, enum broker_part_ask ask, uint64_t worker_id, uint32_t n, int whole,
                      uint64_t place) {
  Hoststack__Attach__AddPart add = HOSTSTACK__ATTACH__ADD_PART__INIT;
  Hoststack__Attach__PartMapped mapped = HOSTSTACK__ATTACH__PART_MAPPED__INIT;
  Hoststack__Attach__DropPart drop = HOSTSTACK__ATTACH__DROP_PART__INIT;
  broker_request rq = HOSTSTACK__ATTACH__REQUEST__INIT;
  broker_part_forget(b);
  if (ask == BROKER_PART_ADD) {
    add.worker_id = worker_id;
    add.n = n;
    add.whole = whole;
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_ADD_PART;
    rq.add_part = &add;
  } else if (ask == BROKER_PART_MAPPED) {
    mapped.worker_id = worker_id;
    mapped.place = place;
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_PART_MAPPED;
    rq.part_mapped = &mapped;
  } else {
    drop.worker_id = worker_id;
    drop.place = place;
    rq.body_case = HOSTSTACK__ATTACH__REQUEST__BODY_DROP_PART;
    rq.drop_part = &drop;
  }
  int rc = broker_send(b, &rq, 0);
  if (rc < 0) {
    broker_hangup(b);
    return -EPIPE;
  }
  b->part.ask = ask;
  b->part.seq = b->seq;
  return 0;
}

int broker_part_end(struct broker *b, struct broker_part *out) {
  broker_reply *r = NULL;
  int fds[BROKER_FDS], n_fds = 0;
  if (!b->part.have) {
    if (b->part.seq == 0 || b->fd < 0)
      return -EPIPE;
    int rc = broker_receive(b, b->part.seq, &r, fds, &n_fds, 0);
    if (rc == -ETIMEDOUT)
      return -EAGAIN;
    if (rc < 0) {
      broker_hangup(b);
      return -EPIPE;
    }
    (void)broker_part_put_by(b, r, fds, &n_fds);
    hoststack__attach__reply__free_unpacked(r, NULL);
  }
  *out = b->part;
  b->part = (struct broker_part){.fd = -1};
  return out->rc;
}
