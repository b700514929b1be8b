/*
 * Log records: formatted on the stack, one write() each, so that lines of several threads and processes never mix.
 * Any thread. Name and level are set before threads start; the level may be changed later.
 */
#include "base/log.h"
#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048u

int log_level_now = LOG_LEVEL_INFO;

static char log_name[32] = "hs";
static int log_fd = STDERR_FILENO;
static const char *const log_level_names[] = {"error", "warn", "info", "debug"};

void log_set_level(enum log_level level) {
  __atomic_store_n(&log_level_now, (int)level, __ATOMIC_RELAXED);
}

int log_level_parse(const char *text) {
  for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++)
    if (strcmp(text, log_level_names[i]) == 0)
      return i;
  return -EINVAL;
}

void log_set_name(const char *service) {
  snprintf(log_name, sizeof log_name, "%s", service);
}

void log_set_fd(int fd) {
  log_fd = fd;
}

static size_t log_stamp(char *buf, size_t room) {
  uint64_t us = clock_wall_us();
  time_t sec = (time_t)(us / CLOCK_US_PER_S);
  struct tm tm;
  if (gmtime_r(&sec, &tm) == NULL)
    memset(&tm, 0, sizeof tm);
  size_t n = strftime(buf, room, "%Y-%m-%dT%H:%M:%S", &tm);
  int m = snprintf(buf + n, room - n, ".%06uZ", (unsigned)(us % CLOCK_US_PER_S));
  return n + (m > 0 ? (size_t)m : 0);
}

/* Appends text; what would break the line or a terminal is written as \xNN. Returns the new length, < room. */
static size_t log_append_escaped(char *line, size_t len, size_t room, const char *text) {
  static const char hex[] = "0123456789abcdef";
  for (const unsigned char *p = (const unsigned char *)text; *p != 0; p++) {
    if (*p >= 0x20 && *p != 0x7f) {
      if (len + 1 >= room)
        break;
      line[len++] = (char)*p;
    } else {
      if (len + 4 >= room)
        break;
      line[len++] = '\\';
      line[len++] = 'x';
      line[len++] = hex[*p >> 4];
      line[len++] = hex[*p & 15];
    }
  }
  return len;
}

void log_write(enum log_level level, const char *id, const char *fmt, ...) {
  int saved = errno;
  char line[LOG_LINE_MAX], text[LOG_LINE_MAX];
  size_t len = log_stamp(line, sizeof line);
  int n = snprintf(line + len, sizeof line - len, " %s %s %s ", log_level_names[level & 3], log_name, id);
  if (n > 0)
    len = len + (size_t)n < sizeof line ? len + (size_t)n : sizeof line - 2;
  va_list ap;
  va_start(ap, fmt);
  errno = saved; /* %m means the caller's */
  if (vsnprintf(text, sizeof text, fmt, ap) < 0)
    text[0] = 0;
  va_end(ap);
  len = log_append_escaped(line, len, sizeof line - 1, text);
  line[len++] = '\n';
  ssize_t done = write(log_fd, line, len);
  (void)done; /* nowhere to tell it */
  errno = saved;
}

int log_rl_pass(struct log_rl *rl, uint64_t every_us, uint32_t *swallowed) {
  uint64_t now = clock_now_us();
  uint64_t next = __atomic_load_n(&rl->next_us, __ATOMIC_RELAXED);
  if (now < next ||
      !__atomic_compare_exchange_n(&rl->next_us, &next, now + every_us, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    __atomic_add_fetch(&rl->suppressed, 1, __ATOMIC_RELAXED);
    return 0;
  }
  *swallowed = __atomic_exchange_n(&rl->suppressed, 0, __ATOMIC_RELAXED);
  return 1;
}
