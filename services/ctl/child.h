/*
 * A supervised service: started, watched by a pidfd, started again when it dies. A running one is adopted.
 */
#ifndef HS_CTL_CHILD_H
#define HS_CTL_CHILD_H

#include "base/bytes.h"
#include "hsctl.h"

#include <sys/types.h>

struct child {
  const char *service; /* nicio … */
  char bin[512];
  pid_t pid;    /* 0 = not running */
  int pidfd;    /* -1 = none */
  int ready_fd; /* readable or closed once it serves; -1 = known */
  int adopted;  /* was running when we came: not our child */
  int up;       /* said that it serves */
  usec_t started_at, again_at;
  uint32_t deaths; /* in a row, short-lived ones */
};

/** Find the binary beside hsctl, in ../sbin, or in the build tree. 0 or -ENOENT. */
int child_init(struct child *c, const char *service);
/** Adopt a running instance (RUN_DIR/NAME.pid is locked) or start one. 0 or -errno. */
int child_start(struct child *c, const struct hsctl *h);
/** It died: reap, say so, order the next start (at once the first time, then with a pause that grows to 1 s). */
void child_died(struct child *c);
/** SIGTERM, then SIGKILL after wait_ms. */
void child_stop(struct child *c, int wait_ms);
/** Pid of a running instance by its lock, 0 if none runs. */
pid_t child_running(const char *run_dir, const char *name);

#endif
