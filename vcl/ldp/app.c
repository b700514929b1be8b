/*
 * Attach and diagnostics (app.h). Attaching happens at the first stream socket, under a lock, so that programs which
 * never open one (a shell, env) leave no trace with the broker. Without a broker the whole process stays with the
 * kernel, and LDP_DEBUG tells so.
 */
#include "app.h"

#include "fd.h"
#include "kind.h"
#include "real.h"
#include "share.h"
#include "vcl_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

struct app_env app_env;

static pthread_mutex_t app_mutex = PTHREAD_MUTEX_INITIALIZER;
static int app_state = -1; /* atomic: -1 not tried, else what app_attach returns */
static int app_err_fd = -1;
static uint64_t app_counts[APP_COUNTS];

void app_lock(void) {
  pthread_mutex_lock(&app_mutex);
}
void app_unlock(void) {
  pthread_mutex_unlock(&app_mutex);
}
void app_lock_reinit(void) {
  pthread_mutex_init(&app_mutex, NULL);
}

/* Set, and not to one of the words that say no (as in vcl.conf). */
static bool app_flag(const char *name) {
  static const char *const no[] = {"", "0", "off", "no", "false"};
  const char *value = getenv(name);
  for (size_t i = 0; value && i < sizeof(no) / sizeof(no[0]); i++)
    if (strcasecmp(value, no[i]) == 0)
      return false;
  return value != NULL;
}

__attribute__((constructor(102))) static void app_constructor(void) {
  const char *debug = getenv("LDP_DEBUG");
  app_env.debug = debug ? (int)strtol(debug, NULL, 10) : 0;
  app_env.require = app_flag("LDP_REQUIRE");
  app_env.loopback = app_flag("LDP_LOOPBACK");
  if (app_env.debug > 0 || app_env.require ||
      app_flag("LDP_TRANSPARENT_TLS")) { /* descriptor 2 may become a data file of the program later */
    int fd = real.fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3L);
    app_err_fd = fd_make_inner(fd);
  }
  if (app_env.debug > 0 && kind_is_go())
    app_say(1, "%s is a Go program, whose calls do not pass through libc: all its sockets are the kernel's",
            program_invocation_short_name);
}

static void app_write(const char *fmt, va_list ap) {
  char line[512];
  int at = snprintf(line, sizeof(line), "ldp[%d]: ", (int)getpid());
  int n = vsnprintf(line + at, sizeof(line) - (size_t)at - 1, fmt, ap);
  size_t len = (size_t)at + (n < 0 ? 0 : (size_t)n);
  if (len > sizeof(line) - 2)
    len = sizeof(line) - 2;
  line[len++] = '\n';
  int saved = errno;
  ssize_t rc = app_err_fd >= 0 ? real.write(app_err_fd, line, len) : 0;
  if (rc < 0 && errno == EBADF && fd_foreign_process()) /* a vfork child that closed all it does not know */
    rc = real.write(STDERR_FILENO, line, len);
  (void)rc; /* nowhere to say it */
  errno = saved;
}

void app_say(int level, const char *fmt, ...) {
  if (app_env.debug < level)
    return;
  va_list ap;
  va_start(ap, fmt);
  app_write(fmt, ap);
  va_end(ap);
}

/* One datagram to the system's log, at LDP_SYSLOG in place of /dev/log; nothing if nobody listens there. Whoever
 * wonders why a program is no faster finds it there: standard error may be a data file of the program's. */
static void app_tell_system(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void app_tell_system(const char *fmt, ...) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  const char *path = getenv("LDP_SYSLOG");
  char line[256];
  va_list ap;
  if (!path)
    path = "/dev/log";
  if (!*path || strlen(path) >= sizeof(to.sun_path))
    return;
  memcpy(to.sun_path, path, strlen(path) + 1);
  int at = snprintf(line, sizeof(line), "<%d>ldp[%d]: ", LOG_DAEMON | LOG_WARNING, (int)getpid());
  va_start(ap, fmt);
  int n = vsnprintf(line + at, sizeof(line) - (size_t)at, fmt, ap);
  va_end(ap);
  int fd = real.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || n < 0)
    return;
  (void)real.sendto(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to));
  real.close(fd);
}

/* What an application hears of a limit of its own, or of its namespace, is what Linux says at such a limit. */
static int app_errno(int rc) {
  return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM || rc == -ENOBUFS ? rc : -ENETDOWN;
}

static int app_try(void) {
  const char *name = getenv("LDP_APP_NAME");
  if (app_flag("LDP_TRANSPARENT_TLS")) { /* plain text would be the opposite of what was asked for */
    app_say(0, "LDP_TRANSPARENT_TLS is set and there is no TLS here: socket() fails with EPROTONOSUPPORT");
    return -EPROTONOSUPPORT;
  }
  vcl_lock_mode(1);
  int rc = vppcom_app_create(name && *name ? name : program_invocation_short_name);
  if (rc >= 0) {
    app_say(1, "attached to the stack as \"%s\"", name && *name ? name : program_invocation_short_name);
    return 1;
  }
  if (!app_env.require) {
    app_say(1, "no stack (%s): all sockets of this process stay with the kernel", strerror(-rc));
    app_tell_system("%s: no stack (%s): all sockets of this process stay with the kernel",
                    program_invocation_short_name, strerror(-rc));
    return 0;
  }
  app_say(0, "no stack (%s) and LDP_REQUIRE is set: socket() fails (%s)", strerror(-rc), strerror(-app_errno(rc)));
  return app_errno(rc);
}

int app_attach(void) {
  int state = __atomic_load_n(&app_state, __ATOMIC_ACQUIRE);
  if (state >= 0)
    return state;
  pthread_mutex_lock(&app_mutex);
  state = app_state;
  if (state < 0) {
    int saved = errno;
    state = app_try(); /* an error: the next socket() tries again */
    __atomic_store_n(&app_state, state, __ATOMIC_RELEASE);
    errno = saved;
  }
  pthread_mutex_unlock(&app_mutex);
  return state;
}

bool app_attached(void) {
  return __atomic_load_n(&app_state, __ATOMIC_ACQUIRE) == 1;
}

void app_count(enum app_count what) {
  __atomic_fetch_add(&app_counts[what], 1, __ATOMIC_RELAXED);
}

__attribute__((destructor)) static void app_destructor(void) {
  share_exit();
  if (app_attached())
    app_say(1,
            "stream sockets: %lu made for the stack, %lu accepted from it, %lu moved to the kernel, %lu of the kernel",
            (unsigned long)app_counts[APP_STACK], (unsigned long)app_counts[APP_ACCEPTED],
            (unsigned long)app_counts[APP_MOVED], (unsigned long)app_counts[APP_KERNEL]);
}
