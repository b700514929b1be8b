/*
 * Mailbox: how the control thread has something done on the worker's thread. A list under a mutex; the worker looks at
 * one atomic flag per turn and takes the lock only when it is set, so the hot path holds no lock.
 */
#ifndef HS_ENGINE_MAILBOX_H
#define HS_ENGINE_MAILBOX_H

#include <pthread.h>
#include <stdint.h>

struct worker;
typedef void (*mail_fn)(struct worker *w, void *arg);

struct mail {
  struct mail *next;
  mail_fn fn;
  void *arg;
};

struct mailbox {
  uint32_t pending; /* atomic */
  pthread_mutex_t lock;
  struct mail *head, **tail;
  int bell; /* eventfd in the worker's epoll */
};

int mailbox_init(struct mailbox *m);
void mailbox_fini(struct mailbox *m);
/** Post; `mail` is malloc'ed by the mailbox. 0 or -ENOMEM. Any thread. */
int mailbox_post(struct mailbox *m, mail_fn fn, void *arg);
/** Run everything posted. Worker thread. Returns the number run. */
uint32_t mailbox_run(struct mailbox *m, struct worker *w);

#endif
