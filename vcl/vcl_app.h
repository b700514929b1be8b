/*
 * The application: one per process. Its workers, its configuration, which worker a thread acts as.
 */
#ifndef HS_VCL_APP_H
#define HS_VCL_APP_H

#include "vcl_worker.h"

struct app {
  int created;
  uint32_t life; /* grows when the application is destroyed */
  int lock_mode;
  struct vcl_config cfg;
  char name[64];
  pthread_mutex_t lock; /* registering and leaving of workers */
  pthread_key_t thread_end;
  int have_key;
  uint32_t fork_serial; /* grows in each forked child */
  uint8_t join[16];     /* token of the application to be joined */
  int have_join;
  struct worker *workers[WORKER_MAX];
};

extern struct app app_state;

/** Index that the calling thread acts as, -1 for none. */
int app_thread_index(void);
void app_thread_bind(int index);
/** A program without the shim that forks: fork.c's handlers, once. */
void fork_watch(void);
/** A line on stderr when VCL_DEBUG is at least `level`. */
void app_debug(int level, const char *fmt, ...) HS_PRINTF(2, 3);

#endif
