/*
 * The two clocks, in microseconds. Called by the loops of services, once per turn; protocol code gets `now` as an
 * argument instead. Any thread.
 */
#ifndef HS_BASE_CLOCK_H
#define HS_BASE_CLOCK_H

#include "base/bytes.h"

#define CLOCK_US_PER_MS 1000ull
#define CLOCK_US_PER_S  1000000ull

/** CLOCK_MONOTONIC: the same for all processes of the machine, goes on while a service is restarted. */
usec_t clock_now_us(void);

/** Wall time since 1970-01-01 UTC, for logs, captures and certificates only: it may jump. */
uint64_t clock_wall_us(void);

#endif
