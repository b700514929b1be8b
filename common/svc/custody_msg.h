/*
 * Custody messages: packing and the plain form of an item, shared by the client (custody.c) and the broker's vault.
 */
#ifndef HS_SVC_CUSTODY_MSG_H
#define HS_SVC_CUSTODY_MSG_H

#include "custody.pb-c.h"
#include "svc/chan.h"
#include "svc/custody.h"

#define CUSTODY_HAVE_MAX 1024 /* items in one Hello: stays below ATTACH_MSG_MAX; `more` says that another follows */
#define CUSTODY_QUEUE    (16u << 20) /* bytes that may wait for a slow service */

/** Pack and send, fd ≥ 0 beside it. 0 or -errno. */
int custody_msg_send(struct chan *ch, const Hoststack__Custody__Message *m, int fd);
void custody_msg_from_item(Hoststack__Custody__Item *pb, const struct custody_item *it);
void custody_msg_to_item(struct custody_item *it, const Hoststack__Custody__Item *pb, int fd);

#endif
