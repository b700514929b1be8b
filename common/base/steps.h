/*
 * A table of the changes that a state may make, each with the reason for it. Two rooms have one: the shared session
 * record (services/engine/session/life.c) and the library's session (vcl/stage.c). Pure functions, any thread.
 */
#ifndef HS_BASE_STEPS_H
#define HS_BASE_STEPS_H

#include <stdint.h>

struct step {
  uint8_t from, to;
  const char *when;
};

/** 1 if one of n rows has the change; staying as it is always is. */
static inline int steps_may(const struct step *row, uint32_t n, uint32_t from, uint32_t to) {
  if (from == to)
    return 1;
  for (uint32_t i = 0; i < n; i++)
    if (row[i].from == from && row[i].to == to)
      return 1;
  return 0;
}

#endif
