/*
 * Mailbox: how the control thread has something done on the worker's thread. A list under a mutex; the worker looks at
 * one atomic flag per turn and takes the lock only when it is set, so the hot path holds no lock.
 */
#ifndef HS_ENGINE_MAILBOX_H
#define HS_ENGINE_MAILBOX_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct worker;
typedef void (*mail_fn)(struct worker *w, void *arg);

struct mail {
  struct mail *next;
  mail_fn fn;
  void *arg;
  uint64_t copy[]; /* mailbox_post_copy: what arg points to */
};

struct mailbox {
  uint32_t pending; /* atomic */
  pthread_mutex_t lock;
  uint32_t n; /* posted and not taken */
  struct mail *head, **tail;
  int bell; /* eventfd in the worker's epoll */
};

int mailbox_init(struct mailbox *m);
void mailbox_fini(struct mailbox *m);
/** Post; `mail` is malloc'ed by the mailbox. 0 or -ENOMEM. Any thread. */
int mailbox_post(struct mailbox *m, mail_fn fn, void *arg);
/** Post with a copy of `size` bytes at `note` as arg, freed with the mail: for what one worker has another do. 0,
 * -ENOMEM; -ENOBUFS when MAILBOX_COPIES wait already. Any thread. */
int mailbox_post_copy(struct mailbox *m, mail_fn fn, const void *note, size_t size);
#define MAILBOX_COPIES 65536u
/** Run everything posted. Worker thread. Returns the number run. */
uint32_t mailbox_run(struct mailbox *m, struct worker *w);

#endif
