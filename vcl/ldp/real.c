/*
 * Finds libc's functions (real.h). Until the constructor has run, each pointer leads to a resolver of its own.
 *
 * A resolver must not allocate or call anything interposed: dlsym on a library that is loaded does neither. Any thread;
 * two threads that resolve at once store the same values.
 */
#include "real.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* What stands in for a function that this libc does not have. */
static long real_missing(void) {
  errno = ENOSYS;
  return -1;
}

#define REAL_FIRST(ret, name, params, args)                                                                            \
  static ret real_first_##name params {                                                                                \
    real_resolve();                                                                                                    \
    return real.name args;                                                                                             \
  }
LDP_REAL_LIST(REAL_FIRST)

static int real_first_fcntl(int fd, int cmd, ...) {
  va_list ap;
  va_start(ap, cmd);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  real_resolve();
  return real.fcntl(fd, cmd, arg);
}

static int real_first_ioctl(int fd, unsigned long req, ...) {
  va_list ap;
  va_start(ap, req);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  real_resolve();
  return real.ioctl(fd, req, arg);
}

static long real_first_syscall(long number, ...) {
  long a[6];
  va_list ap;
  va_start(ap, number);
  for (int i = 0; i < 6; i++)
    a[i] = va_arg(ap, long);
  va_end(ap);
  real_resolve();
  return real.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

struct ldp_real real = {
#define REAL_INIT(ret, name, params, args) .name = real_first_##name,
    LDP_REAL_LIST(REAL_INIT).fcntl = real_first_fcntl,
    .ioctl = real_first_ioctl,
    .syscall = real_first_syscall,
};

static void *real_find(const char *name) {
  void *p = dlsym(RTLD_NEXT, name);
  return p ? p : (void *)real_missing;
}

void real_resolve(void) {
  struct ldp_real found;
#define REAL_FIND(ret, name, params, args) *(void **)&found.name = real_find(#name);
  LDP_REAL_LIST(REAL_FIND)
  *(void **)&found.fcntl = real_find("fcntl64");
  *(void **)&found.ioctl = real_find("ioctl");
  *(void **)&found.syscall = real_find("syscall");
  int saved = errno;
  memcpy(&real, &found, sizeof(real));
  errno = saved;
}

__attribute__((constructor(101))) static void real_constructor(void) {
  real_resolve();
}
