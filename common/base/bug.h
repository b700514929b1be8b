/*
 * Our own bugs: the service aborts, with the place, and is restarted. For what a peer or an application can cause there
 * are errors; this is only for what our code alone guarantees. vcl never includes it.
 */
#ifndef HS_BASE_BUG_H
#define HS_BASE_BUG_H

/** Compile-time check with a text. */
#define HS_STATIC_ASSERT(cond, text) _Static_assert(cond, text)

/** Writes one line with the place to stderr and aborts. Async-signal-safe. */
_Noreturn void bug_abort(const char *file, int line, const char *func, const char *what);

/** Aborts the service if cond holds. */
#define BUG_ON(cond)                                                                                                   \
  do {                                                                                                                 \
    if (__builtin_expect(!!(cond), 0))                                                                                 \
      bug_abort(__FILE__, __LINE__, __func__, #cond);                                                                  \
  } while (0)

/** A place that is never reached. */
#define BUG_UNREACHABLE() bug_abort(__FILE__, __LINE__, __func__, "unreachable")

#endif
