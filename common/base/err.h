/*
 * How functions fail: int, ≥ 0 on success or -errno, and the caller must look.
 *
 * Included by everything above base; inline only, any thread.
 */
#ifndef HS_BASE_ERR_H
#define HS_BASE_ERR_H

#include <errno.h>

/** On a prototype: ignoring the result is a compile error. */
#define HS_MUST_CHECK __attribute__((warn_unused_result))
/** On a prototype like printf's; fmt and first are argument positions from 1. */
#define HS_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/** The negative errno of the libc call that has just failed; never 0, so that a failure can't read as success. */
static inline int err_last(void) {
  return errno > 0 ? -errno : -EIO;
}

/** Short name ("ECONNREFUSED") and text of an error, given as errno or -errno; static storage, never NULL. */
const char *err_name(int err);
const char *err_text(int err);

#endif
