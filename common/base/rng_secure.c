/*
 * The kernel's random numbers, for any thread. A file of its own: tests link tests/support/rng_repeat.c in its place,
 * so that a simulation with keys and secrets in it is repeatable.
 */
#include "base/rng.h"

#include <errno.h>
#include <sys/random.h>

int rng_secure(void *buf, size_t len) {
  uint8_t *p = buf;
  while (len > 0) {
    ssize_t n = getrandom(p, len, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return err_last();
    p += n;
    len -= (size_t)n;
  }
  return 0;
}
