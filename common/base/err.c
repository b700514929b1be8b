/*
 * Names of errors for logs and answers. Any thread; no allocation, no locale.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/err.h"

#include <string.h>

static int err_positive(int err) {
  if (err >= 0)
    return err;
  return err < -__INT_MAX__ ? __INT_MAX__ : -err;
}

const char *err_name(int err) {
  const char *name = err == 0 ? "OK" : strerrorname_np(err_positive(err));
  return name != NULL ? name : "EUNKNOWN";
}

const char *err_text(int err) {
  const char *text = strerrordesc_np(err_positive(err));
  return text != NULL ? text : "unknown error";
}
