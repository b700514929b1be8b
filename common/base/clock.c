/*
 * clock_gettime in microseconds. Any thread; answered by the vDSO, no system call.
 */
#include "base/clock.h"

#include <time.h>

static uint64_t clock_read_us(clockid_t id) {
  struct timespec ts;
  clock_gettime(id, &ts); /* cannot fail for these two ids */
  return (uint64_t)ts.tv_sec * CLOCK_US_PER_S + (uint64_t)ts.tv_nsec / 1000u;
}

usec_t clock_now_us(void) {
  return clock_read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void) {
  return clock_read_us(CLOCK_REALTIME);
}
