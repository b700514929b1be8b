/*
 * Questions to a worker, see ask.h. The room is shared by two threads, and the last one frees it, since the control
 * thread may have stopped waiting.
 */
#include "ask.h"

#include "base/clock.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#define ASK_TIMEOUT_MS 500u /* a worker that lives answers in its next turn */

struct ask {
  uint32_t refs; /* atomic */
  mail_fn fn;
  sem_t done;
  uint64_t room[] __attribute__((aligned(16)));
};

static struct ask *ask_of(void *room) {
  return (struct ask *)(void *)((uint8_t *)room - offsetof(struct ask, room));
}

void *ask_new(size_t size) {
  struct ask *a = calloc(1, sizeof *a + size);
  if (!a)
    return NULL;
  a->refs = 1;
  sem_init(&a->done, 0, 0);
  return a->room;
}

void ask_free(void *room) {
  struct ask *a = room ? ask_of(room) : NULL;
  if (!a || __atomic_sub_fetch(&a->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  sem_destroy(&a->done);
  free(a);
}

static void mail_ask(struct worker *w, void *arg) {
  struct ask *a = arg;
  a->fn(w, a->room);
  sem_post(&a->done);
  ask_free(a->room);
}

int ask_worker(struct engine *e, mail_fn fn, void *room) {
  struct ask *a = ask_of(room);
  a->fn = fn;
  __atomic_add_fetch(&a->refs, 1, __ATOMIC_ACQ_REL);
  int rc = mailbox_post(&e->worker.mail, mail_ask, a);
  if (rc == -ENOMEM) { /* not posted */
    ask_free(room);
    return rc;
  }
  usec_t at = clock_now_us() + ASK_TIMEOUT_MS * 1000u;
  struct timespec until = {.tv_sec = (time_t)(at / 1000000u), .tv_nsec = (long)(at % 1000000u) * 1000};
  while ((rc = sem_clockwait(&a->done, CLOCK_MONOTONIC, &until)) != 0 && errno == EINTR)
    ;
  return rc ? -errno : 0;
}
