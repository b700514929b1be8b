/*
 * Custody messages (proto/custody.proto): packing and the plain form of an item.
 *
 * Called by custody.c in engine, nicio and api and by vault.c in the broker, on the loop's thread.
 */
#include "svc/custody_msg.h"

#include "base/err.h"

#include <stdlib.h>

int custody_msg_send(struct chan *ch, const Hoststack__Custody__Message *m, int fd) {
  size_t len = hoststack__custody__message__get_packed_size(m);
  uint8_t small[512], *buf = small;
  if (len > ATTACH_MSG_MAX)
    return -EMSGSIZE;
  if (len > sizeof small) {
    buf = malloc(len);
    if (buf == NULL)
      return -ENOMEM;
  }
  hoststack__custody__message__pack(m, buf);
  int rc = chan_send(ch, buf, len, &fd, fd >= 0 ? 1 : 0);
  if (buf != small)
    free(buf);
  return rc;
}

void custody_msg_from_item(Hoststack__Custody__Item *pb, const struct custody_item *it) {
  hoststack__custody__item__init(pb);
  pb->id = it->id;
  pb->kind = it->kind;
  pb->owner = it->owner;
  pb->seg_kind = it->seg_kind;
  pb->size = it->size;
  pb->place = it->place;
  pb->charge = it->charge;
}

void custody_msg_to_item(struct custody_item *it, const Hoststack__Custody__Item *pb, int fd) {
  *it = (struct custody_item){.id = pb->id,
                              .kind = pb->kind,
                              .seg_kind = pb->seg_kind,
                              .owner = pb->owner,
                              .size = pb->size,
                              .place = pb->place,
                              .charge = pb->charge,
                              .fd = fd};
}
