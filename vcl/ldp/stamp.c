/*
 * Times of arrival (stamp.h). Called by opt.c under the socket's lock, and by udp.c; any thread.
 *
 * The engine notes the monotonic time at which it took a datagram from the link; the program gets it as wall time. One
 * that came before the option was set, or from another program over a pair, gets the time of the reading, as on Linux
 * (socket(7): a datagram that came while the option was being set).
 */
#include "stamp.h"

#include "real.h"
#include "udp.h"

#include <errno.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#ifndef SO_TIMESTAMP_NEW
#define SO_TIMESTAMP_NEW   63
#define SO_TIMESTAMPNS_NEW 64
#endif

static bool stamp_is(int level, int name) {
  return level == SOL_SOCKET &&
         (name == SO_TIMESTAMP || name == SO_TIMESTAMPNS || name == SO_TIMESTAMP_NEW || name == SO_TIMESTAMPNS_NEW);
}

int stamp_setsockopt(struct sock *s, int level, int name, const void *val, socklen_t len) {
  int value;
  if (!stamp_is(level, name))
    return -ENOENT;
  if (len < sizeof(value))
    return -EINVAL;
  memcpy(&value, val, sizeof(value));
  int on = value != 0;
  int rc = vcl_opt_set(s->h, VCL_OPT_STAMP, &on, sizeof(on));
  if (rc == 0) /* the one that was set last counts, and any of them ends them all */
    s->dgram.stamp = on ? (uint8_t)name : 0;
  return rc;
}

int stamp_getsockopt(const struct sock *s, int level, int name, int *value) {
  if (!stamp_is(level, name))
    return -ENOENT;
  int set = s->dgram.stamp;
  *value = set == name || (set == SO_TIMESTAMPNS_NEW && name == SO_TIMESTAMP_NEW);
  return 0;
}

/* Wall time of a monotonic one; none: now. In this order of reading what comes out is never before the arrival, nor
 * after now, however long it takes. */
static struct timespec stamp_wall(uint64_t us) {
  struct timespec wall, mono;
  clock_gettime(CLOCK_MONOTONIC, &mono);
  clock_gettime(CLOCK_REALTIME, &wall);
  if (us == 0)
    return wall;
  int64_t age = (int64_t)mono.tv_sec * 1000000000 + mono.tv_nsec - (int64_t)us * 1000;
  int64_t at = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec - (age > 0 ? age : 0);
  return (struct timespec){.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
}

void stamp_put(const struct sock *s, struct msghdr *m, size_t *used, const struct vcl_dgram *d) {
  int set = s->dgram.stamp;
  if (set == 0)
    return;
  struct timespec ts = stamp_wall(d->stamp_us);
  struct timeval tv = {.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
  if (set == SO_TIMESTAMP || set == SO_TIMESTAMP_NEW)
    udp_put_cmsg(m, used, SOL_SOCKET, set, &tv, sizeof(tv));
  else
    udp_put_cmsg(m, used, SOL_SOCKET, set, &ts, sizeof(ts));
}

void stamp_apply(const struct sock *s) {
  int on = 1;
  if (s->dgram.stamp)
    (void)vcl_opt_set(s->h, VCL_OPT_STAMP, &on, sizeof(on));
}

void stamp_replay(const struct sock *s, int fd) {
  int on = 1;
  if (s->dgram.stamp)
    (void)real.setsockopt(fd, SOL_SOCKET, s->dgram.stamp, &on, sizeof(on));
}
