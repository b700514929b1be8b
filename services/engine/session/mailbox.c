/*
 * Mailbox from the engine's control thread to its worker thread. See mailbox.h.
 */
#include "mailbox.h"
#include "shm/bell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int mailbox_init(struct mailbox *m) {
  *m = (struct mailbox){.tail = &m->head, .bell = -1};
  int rc = pthread_mutex_init(&m->lock, NULL);
  if (rc)
    return -rc;
  m->bell = bell_doorbell();
  return m->bell < 0 ? m->bell : 0;
}

void mailbox_fini(struct mailbox *m) {
  while (m->head) {
    struct mail *next = m->head->next;
    free(m->head);
    m->head = next;
  }
  if (m->bell >= 0)
    close(m->bell);
  m->bell = -1;
  pthread_mutex_destroy(&m->lock);
}

static int mailbox_add(struct mailbox *m, struct mail *mail) {
  pthread_mutex_lock(&m->lock);
  int first = m->head == NULL;
  *m->tail = mail;
  m->tail = &mail->next;
  __atomic_store_n(&m->n, m->n + 1, __ATOMIC_RELAXED);
  __atomic_store_n(&m->pending, 1, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&m->lock);
  return first ? bell_ring_service(m->bell) : 0; /* else whoever was first rang, or is about to */
}

int mailbox_post(struct mailbox *m, mail_fn fn, void *arg) {
  struct mail *mail = malloc(sizeof *mail);
  if (!mail)
    return -ENOMEM;
  *mail = (struct mail){.fn = fn, .arg = arg};
  return mailbox_add(m, mail);
}

int mailbox_post_copy(struct mailbox *m, mail_fn fn, const void *note, size_t size) {
  if (__atomic_load_n(&m->n, __ATOMIC_RELAXED) >= MAILBOX_COPIES)
    return -ENOBUFS;
  struct mail *mail = malloc(sizeof *mail + size);
  if (!mail)
    return -ENOMEM;
  *mail = (struct mail){.fn = fn, .arg = mail->copy};
  memcpy(mail->copy, note, size);
  return mailbox_add(m, mail);
}

static struct mail *mailbox_take(struct mailbox *m) {
  pthread_mutex_lock(&m->lock);
  struct mail *all = m->head;
  m->head = NULL;
  m->tail = &m->head;
  __atomic_store_n(&m->n, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&m->pending, 0, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&m->lock);
  return all;
}

uint32_t mailbox_run(struct mailbox *m, struct worker *w) {
  if (!__atomic_load_n(&m->pending, __ATOMIC_ACQUIRE))
    return 0;
  uint32_t n = 0;
  struct mail *all = mailbox_take(m);
  while (all) {
    struct mail *mail = all;
    all = all->next;
    mail->fn(w, mail->arg);
    free(mail);
    n++;
  }
  return n;
}
