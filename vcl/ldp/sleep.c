/*
 * Waiters and deadlines (sleep.h). Called by poll.c, select.c and epoll_wait.c, any thread.
 */
#include "sleep.h"

#include "epoll.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* --- deadlines --- */

int sleep_deadline(const struct timespec *timeout, int64_t *deadline_ns) {
  *deadline_ns = INT64_MAX;
  if (!timeout)
    return 0;
  if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)
    return -EINVAL;
  if (timeout->tv_sec == 0 && timeout->tv_nsec == 0)
    *deadline_ns = 0;
  else if (timeout->tv_sec < INT32_MAX)
    *deadline_ns = epoll_now_ns() + (int64_t)timeout->tv_sec * 1000000000 + timeout->tv_nsec;
  return 0;
}

struct timespec *sleep_left(int64_t deadline_ns, struct timespec *left) {
  if (deadline_ns == INT64_MAX)
    return NULL;
  int64_t ns = deadline_ns - epoll_now_ns();
  if (ns < 0)
    ns = 0;
  left->tv_sec = ns / 1000000000;
  left->tv_nsec = ns % 1000000000;
  return left;
}

/* --- cached waiters --- */

#define SLEEP_CACHE 8
static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct vcl_waiter *sleep_cache[SLEEP_CACHE];
static unsigned sleep_cached;

struct vcl_waiter *sleep_waiter_get(void) {
  struct vcl_waiter *w = NULL;
  pthread_mutex_lock(&sleep_mutex);
  if (sleep_cached > 0)
    w = sleep_cache[--sleep_cached];
  pthread_mutex_unlock(&sleep_mutex);
  if (w)
    return w;
  w = calloc(1, sizeof(*w));
  if (w && vcl_waiter_init(w) < 0) {
    free(w);
    w = NULL;
  }
  return w;
}

void sleep_waiter_put(struct vcl_waiter *w) {
  pthread_mutex_lock(&sleep_mutex);
  bool kept = sleep_cached < SLEEP_CACHE;
  if (kept)
    sleep_cache[sleep_cached++] = w;
  pthread_mutex_unlock(&sleep_mutex);
  if (!kept) {
    vcl_waiter_fini(w);
    free(w);
  }
}

void sleep_fork_child(void) {
  pthread_mutex_init(&sleep_mutex, NULL);
  sleep_cached = 0;
}
