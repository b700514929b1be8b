/*
 * Socket options: a table (level, name) → how it is honoured; what is not in the table is refused as Linux refuses it.
 *
 * Options with an int value are rows of one table; struct, string and computed ones have a function of their own. What
 * a program set is remembered, so that it can be set again on a fresh session or on a kernel socket.
 */
#ifndef HS_LDP_OPT_H
#define HS_LDP_OPT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>

#define OPT_ROWS_MAX 60
#define OPT_CC_MAX   16

struct sock;

/** What was set on a socket. */
struct opt_values {
  uint64_t set;                /* bit per row of the table */
  int32_t value[OPT_ROWS_MAX]; /* as the program gave it */
  struct linger linger;        /* valid if special has OPT_HAS_LINGER */
  char congestion[OPT_CC_MAX]; /* valid if special has OPT_HAS_CC */
  uint32_t special;            /* OPT_HAS_* */
  uint32_t fastopen_key_len;   /* 0 = not set */
  uint8_t fastopen_key[32];
};
#define OPT_HAS_LINGER 1u
#define OPT_HAS_CC     2u

/** Tells a fresh session of what the program may observe (nothing set yet). */
void opt_init(struct sock *s);
/** Everything that was set, to the socket's present session. */
void opt_apply_all(struct sock *s);
/** Everything that was set, to a kernel socket. 0; options that the kernel refuses are told under LDP_DEBUG=2. */
int opt_replay(struct sock *s, int fd);
/** A time-out as setsockopt takes it; none is zero. */
struct timeval opt_timeval(int64_t us);
/** True if recvmsg tells what is left to be read (TCP_INQ). */
bool opt_wants_inq(const struct sock *s);
/** What was set, in a form that another program with this library takes up (heir.h). */
struct opt_pass {
  int64_t rcvtimeo_us, sndtimeo_us;
  struct linger linger;
  uint32_t special, fastopen_key_len, n;
  char congestion[OPT_CC_MAX];
  uint8_t fastopen_key[32];
  struct {
    int32_t level, name, value;
  } row[OPT_ROWS_MAX];
};
/** Writes all of it that is set on s. */
void opt_pass(const struct sock *s, struct opt_pass *out);
/** Sets all of it on a socket that has nothing set yet; what this library does not know is left out. */
void opt_take(struct sock *s, const struct opt_pass *in);
/** setsockopt and getsockopt: 0 or -errno. */
int opt_set(struct sock *s, int level, int name, const void *val, socklen_t len);
int opt_get(struct sock *s, int level, int name, void *val, socklen_t *len);

#endif
