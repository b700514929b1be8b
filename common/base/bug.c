/*
 * The end of a service that found itself wrong: one line, then abort(). Async-signal-safe, any thread.
 */
#include "base/bug.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void bug_abort(const char *file, int line, const char *func, const char *what) {
  char text[512];
  int n = snprintf(text, sizeof text, "bug: %s:%d %s(): %s\n", file, line, func, what);
  if (n > 0) {
    size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    ssize_t done = write(STDERR_FILENO, text, len);
    (void)done;
  }
  abort();
}
