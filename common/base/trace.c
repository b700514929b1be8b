/*
 * The trace ring. A writer takes a number by fetch-add, claims the record (seq TRACE_BUSY), fills it, and stores the
 * number + 1 with release; a reader takes a record only if its seq is the expected one before and after the copy.
 * All fields are relaxed atomics, so a reader that is overtaken sees a mixture, and throws it away. A writer that finds
 * its record still claimed, by a thread that was stopped for a whole round, drops its own. Any thread.
 */
#include "base/trace.h"
#include "base/bits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACE_BUSY UINT64_MAX

uint32_t trace_on;
__thread usec_t trace_now;

static struct trace_rec *trace_ring;
static uint64_t trace_mask;
static uint64_t trace_head; /* atomic: numbers given out */

static const char *const trace_names[TRACE_N_EVENTS] = {
#define TRACE_EVENT(name, a, b, c, d) #name,
#include "base/trace_list.h"
#undef TRACE_EVENT
};
static const char *const trace_args[TRACE_N_EVENTS][4] = {
#define TRACE_EVENT(name, a, b, c, d) {#a, #b, #c, #d},
#include "base/trace_list.h"
#undef TRACE_EVENT
};

const char *trace_name(uint32_t id) {
  return id < TRACE_N_EVENTS ? trace_names[id] : NULL;
}

int trace_start(uint32_t n) {
  if (n < 64 || n > 1u << 20)
    return -EINVAL;
  trace_stop();
  trace_free();
  uint64_t size = bits_pow2_up(n);
  trace_ring = aligned_alloc(64, (size_t)size * sizeof *trace_ring);
  if (trace_ring == NULL)
    return -ENOMEM;
  memset(trace_ring, 0, (size_t)size * sizeof *trace_ring);
  trace_mask = size - 1;
  __atomic_store_n(&trace_head, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&trace_on, 1, __ATOMIC_RELEASE);
  return 0;
}

void trace_stop(void) {
  __atomic_store_n(&trace_on, 0, __ATOMIC_SEQ_CST);
}

void trace_free(void) {
  free(trace_ring);
  trace_ring = NULL;
  trace_mask = 0;
}

void trace_put(uint32_t id, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  if (__atomic_load_n(&trace_on, __ATOMIC_ACQUIRE) == 0)
    return;
  uint64_t n = __atomic_fetch_add(&trace_head, 1, __ATOMIC_RELAXED);
  struct trace_rec *r = &trace_ring[n & trace_mask];
  uint64_t seq = __atomic_load_n(&r->seq, __ATOMIC_RELAXED);
  if (seq == TRACE_BUSY ||
      !__atomic_compare_exchange_n(&r->seq, &seq, TRACE_BUSY, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
    return;
  __atomic_thread_fence(__ATOMIC_RELEASE);
  __atomic_store_n(&r->time, trace_now, __ATOMIC_RELAXED);
  __atomic_store_n(&r->id, id, __ATOMIC_RELAXED);
  __atomic_store_n(&r->arg[0], a, __ATOMIC_RELAXED);
  __atomic_store_n(&r->arg[1], b, __ATOMIC_RELAXED);
  __atomic_store_n(&r->arg[2], c, __ATOMIC_RELAXED);
  __atomic_store_n(&r->arg[3], d, __ATOMIC_RELAXED);
  __atomic_store_n(&r->seq, n + 1, __ATOMIC_RELEASE);
}

/* Copies the record of number n; 0, or -1 if it is unfinished or already overwritten. */
static int trace_take(uint64_t n, struct trace_rec *out) {
  struct trace_rec *r = &trace_ring[n & trace_mask];
  if (__atomic_load_n(&r->seq, __ATOMIC_ACQUIRE) != n + 1)
    return -1;
  memset(out, 0, sizeof *out);
  out->seq = n + 1;
  out->time = __atomic_load_n(&r->time, __ATOMIC_RELAXED);
  out->id = __atomic_load_n(&r->id, __ATOMIC_RELAXED);
  for (int i = 0; i < 4; i++)
    out->arg[i] = __atomic_load_n(&r->arg[i], __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return __atomic_load_n(&r->seq, __ATOMIC_RELAXED) == n + 1 ? 0 : -1;
}

size_t trace_read(struct trace_rec *out, size_t room) {
  if (trace_ring == NULL)
    return 0;
  uint64_t head = __atomic_load_n(&trace_head, __ATOMIC_ACQUIRE);
  uint64_t n = HS_MIN(head, trace_mask + 1);
  n = HS_MIN(n, (uint64_t)room);
  size_t got = 0;
  for (uint64_t i = head - n; i < head; i++)
    if (trace_take(i, &out[got]) == 0)
      got++;
  return got;
}

int trace_format(const struct trace_rec *rec, char *buf, size_t room) {
  char fields[512];
  size_t len = 0;
  const char *name = trace_name(rec->id);
  fields[0] = 0;
  for (unsigned i = 0; name != NULL && i < 4; i++) {
    const char *arg = trace_args[rec->id][i];
    if (arg[0] == 0 || arg[0] == '"') /* "" in the list: not used */
      continue;
    int n = snprintf(fields + len, sizeof fields - len, ",\"%s\":%llu", arg, (unsigned long long)rec->arg[i]);
    if (n < 0 || (size_t)n >= sizeof fields - len)
      return -ENOSPC;
    len += (size_t)n;
  }
  int n = snprintf(buf, room, "{\"seq\":%llu,\"time_us\":%llu,\"event\":\"%s\"%s}", (unsigned long long)rec->seq,
                   (unsigned long long)rec->time, name != NULL ? name : "unknown", fields);
  return n < 0 || (size_t)n >= room ? -ENOSPC : n;
}

static int trace_write_all(int fd, const char *p, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, p, len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return err_last();
    p += n;
    len -= (size_t)n;
  }
  return 0;
}

int trace_dump(int fd, size_t max) {
  if (trace_ring == NULL)
    return 0;
  size_t room = HS_MIN(max, (size_t)trace_mask + 1);
  struct trace_rec *recs = malloc((room + 1) * sizeof *recs);
  if (recs == NULL)
    return -ENOMEM;
  size_t n = trace_read(recs, room);
  int err = 0;
  for (size_t i = 0; i < n && err == 0; i++) {
    char line[768];
    int len = trace_format(&recs[i], line, sizeof line - 1);
    if (len < 0) {
      err = len;
      break;
    }
    line[len] = '\n';
    err = trace_write_all(fd, line, (size_t)len + 1);
  }
  free(recs);
  return err < 0 ? err : (int)n;
}
