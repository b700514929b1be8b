/*
 * Tests of the library that fork: checks in children, which have no test around them to fail, and how a child ended.
 */
#ifndef HS_TESTS_FORK_RIG_H
#define HS_TESTS_FORK_RIG_H

#include "vcl_rig.h"

#include <sys/wait.h>
#include <unistd.h>

/** In children a failed check is an exit code: the line it stands on. */
#define CHECK(c)                                                                                                       \
  do {                                                                                                                 \
    if (!(c))                                                                                                          \
      _exit(__LINE__ & 0x7f ? __LINE__ & 0x7f : 1);                                                                    \
  } while (0)

/** Waits for a child. The signal that ended it, 0 if it exited with 0, -1 after a failed check. */
static inline int fork_ended_by(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || (WIFEXITED(status) && WEXITSTATUS(status) != 0))
    return -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

#endif
