/*
 * The application's shared page (vcl_family.h).
 *
 * Called by app.c, which makes it, fork.c and rejoin.c under a worker's mutex, in any process of the application.
 * Without the page (no memory for it) each process comes back for itself alone.
 */
#include "vcl_family.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define FAMILY_CLAIM_US  (15 * CLOCK_US_PER_S) /* a founder that says nothing for so long is dead */
#define FAMILY_LISTENERS 504u

struct family_pair {
  uint32_t was, is;
};

struct family {
  pthread_mutex_t lock;
  uint64_t claimed_us; /* 0 = nobody founds */
  uint32_t have;
  uint32_t next; /* pair that is overwritten when all are in use */
  uint8_t token[FAMILY_TOKEN];
  struct family_pair pair[FAMILY_LISTENERS];
};

static struct family *family_page;

int family_make(void) {
  pthread_mutexattr_t attr;
  if (family_page != NULL)
    return 0;
  struct family *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (f == MAP_FAILED)
    return -ENOMEM;
  int rc = pthread_mutexattr_init(&attr);
  if (rc == 0) {
    rc = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    if (rc == 0)
      rc = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    if (rc == 0)
      rc = pthread_mutex_init(&f->lock, &attr);
    pthread_mutexattr_destroy(&attr);
  }
  if (rc != 0) {
    (void)munmap(f, sizeof *f);
    return -rc;
  }
  family_page = f;
  return 0;
}

static int family_lock(void) {
  if (family_page == NULL)
    return 0;
  if (pthread_mutex_lock(&family_page->lock) == EOWNERDEAD)
    (void)pthread_mutex_consistent(&family_page->lock); /* a token or id half written is refused by the broker */
  return 1;
}

static void family_unlock(void) {
  (void)pthread_mutex_unlock(&family_page->lock);
}

enum family_answer family_ask(const uint8_t *refused, uint8_t *token) {
  enum family_answer how = FAMILY_WAIT;
  if (!family_lock())
    return FAMILY_FOUND;
  struct family *f = family_page;
  usec_t now = clock_now_us();
  if (f->have && (refused == NULL || memcmp(refused, f->token, FAMILY_TOKEN) != 0)) {
    memcpy(token, f->token, FAMILY_TOKEN);
    how = FAMILY_JOIN;
  } else if (f->claimed_us == 0 || now - f->claimed_us > FAMILY_CLAIM_US) {
    f->claimed_us = now;
    how = FAMILY_FOUND;
  }
  family_unlock();
  return how;
}

void family_founded(const uint8_t *token) {
  if (!family_lock())
    return;
  struct family *f = family_page;
  memcpy(f->token, token, FAMILY_TOKEN);
  memset(f->pair, 0, sizeof f->pair); /* ids of an earlier broker */
  f->next = 0;
  f->have = 1;
  f->claimed_us = 0;
  family_unlock();
}

void family_forgo(void) {
  if (!family_lock())
    return;
  family_page->claimed_us = 0;
  family_unlock();
}

uint32_t family_listener(uint32_t was) {
  uint32_t is = 0;
  if (was == 0 || !family_lock())
    return 0;
  for (uint32_t i = 0; i < FAMILY_LISTENERS && is == 0; i++)
    if (family_page->pair[i].was == was)
      is = family_page->pair[i].is;
  family_unlock();
  return is;
}

void family_listener_set(uint32_t was, uint32_t is) {
  if (was == 0 || !family_lock())
    return;
  struct family *f = family_page;
  struct family_pair *at = NULL;
  for (uint32_t i = 0; i < FAMILY_LISTENERS && (at == NULL || at->was != was); i++)
    if (f->pair[i].was == was || (f->pair[i].was == 0 && at == NULL))
      at = &f->pair[i];
  if (at == NULL)
    at = &f->pair[f->next++ % FAMILY_LISTENERS];
  *at = (struct family_pair){.was = is != 0 ? was : 0, .is = is};
  family_unlock();
}
