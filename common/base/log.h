/*
 * Logging: one line per record to stderr, "2026-11-20T23:47:07.123456Z warn engine tcp.table-full text". The id is
 * dotted, stable and first, so that scripts can match it. Not on hot paths. Any thread; one write() per record.
 */
#ifndef HS_BASE_LOG_H
#define HS_BASE_LOG_H

#include "base/err.h"

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARN = 1, LOG_LEVEL_INFO = 2, LOG_LEVEL_DEBUG = 3 };

/** Per call site: at most one record per period. Zero-filled is ready. */
struct log_rl {
  uint64_t next_us;    /* atomic: not before this time */
  uint32_t suppressed; /* atomic: records swallowed since the last one written */
};

extern int log_level_now; /* read by the macros; set by log_set_level */

/** Records above this level are dropped before their arguments are evaluated. Default: info. */
void log_set_level(enum log_level level);

/** "error", "warn", "info", "debug" → level. Returns the level or -EINVAL. */
HS_MUST_CHECK int log_level_parse(const char *text);

/** Name of the service in each line, up to 31 characters; before threads start. Default: "hs". */
void log_set_name(const char *service);

/** Where records go; default 2 (stderr). */
void log_set_fd(int fd);

/** Writes one record; control characters of the text are escaped so that it stays one line, at most 2 KB. */
void log_write(enum log_level level, const char *id, const char *fmt, ...) HS_PRINTF(3, 4);

/** Whether the site may write now; *swallowed gets how many records were suppressed since the last one. */
int log_rl_pass(struct log_rl *rl, uint64_t every_us, uint32_t *swallowed);

#define LOG_AT_(level, id, ...)                                                                                        \
  do {                                                                                                                 \
    if ((int)(level) <= __atomic_load_n(&log_level_now, __ATOMIC_RELAXED))                                             \
      log_write(level, id, __VA_ARGS__);                                                                               \
  } while (0)

#define log_error(id, ...) LOG_AT_(LOG_LEVEL_ERROR, id, __VA_ARGS__)
#define log_warn(id, ...)  LOG_AT_(LOG_LEVEL_WARN, id, __VA_ARGS__)
#define log_info(id, ...)  LOG_AT_(LOG_LEVEL_INFO, id, __VA_ARGS__)
#define log_debug(id, ...) LOG_AT_(LOG_LEVEL_DEBUG, id, __VA_ARGS__)

/** At most one record per every_us from this call site; what was swallowed is told in a line of its own. */
#define LOG_EVERY_US(level, every_us, id, ...)                                                                         \
  do {                                                                                                                 \
    static struct log_rl log_site_;                                                                                    \
    uint32_t log_lost_ = 0;                                                                                            \
    if ((int)(level) <= __atomic_load_n(&log_level_now, __ATOMIC_RELAXED) &&                                           \
        log_rl_pass(&log_site_, every_us, &log_lost_)) {                                                               \
      if (log_lost_ != 0)                                                                                              \
        log_write(level, id, "%u like the next were suppressed", log_lost_);                                           \
      log_write(level, id, __VA_ARGS__);                                                                               \
    }                                                                                                                  \
  } while (0)

/** The usual limit: one per second and call site. */
#define LOG_RL_US             1000000u
#define log_error_rl(id, ...) LOG_EVERY_US(LOG_LEVEL_ERROR, LOG_RL_US, id, __VA_ARGS__)
#define log_warn_rl(id, ...)  LOG_EVERY_US(LOG_LEVEL_WARN, LOG_RL_US, id, __VA_ARGS__)
#define log_info_rl(id, ...)  LOG_EVERY_US(LOG_LEVEL_INFO, LOG_RL_US, id, __VA_ARGS__)

#endif
