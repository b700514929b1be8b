/*
 * Socket options of a shimmed socket (opt.h). Called by setsockopt and getsockopt, any thread; the socket's lock guards
 * the remembered values. Ranges and errno values are those of socket(7), tcp(7), ip(7), ipv6(7) and the kernel's source
 * as observed by tests/conformance.
 */
#include "opt.h"

#include "addr.h"
#include "app.h"
#include "real.h"
#include "sock.h"
#include "stamp.h"
#include "udp.h"

#include <errno.h>
#include <limits.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define OPT_ORIGINAL_DST 80 /* SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST: their headers do not go with netinet/in.h */

#ifndef SO_RCVTIMEO_NEW
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif

enum opt_via {
  OPT_ATTR,   /* vppcom_session_attr(set), get the remembered value */
  OPT_VCL,    /* vcl_opt_set(set) */
  OPT_HERE,   /* has no effect on a TCP stream of this stack, or is acted on in the shim: remembered */
  OPT_REFUSE, /* `error` always: a kernel would need a right or a module that is not there */
};

#define OPT_BOOL    1u   /* any value, kept as 0 or 1 */
#define OPT_CLAMP   2u   /* out of range: the nearest in range */
#define OPT_TWICE   4u   /* read back doubled: SO_RCVBUF, SO_SNDBUF */
#define OPT_UNBOUND 8u   /* EINVAL once bound */
#define OPT_DGRAM   32u  /* of datagrams alone */
#define OPT_STREAM  64u  /* of streams alone */
#define OPT_ASK     128u /* Linux rounds what is set: the library tells what it made of it */
#define OPT_DSCP    16u  /* Linux keeps the two ECN bits of a stream socket itself */

struct opt_row {
  int level, name;
  enum opt_via via;
  uint32_t set; /* VPPCOM_ATTR_SET_* or VCL_OPT_* */
  uint32_t flags;
  int min, max;
  int initial; /* what getsockopt says when nothing was set */
  int error;   /* out of range, or OPT_REFUSE */
};

static const struct opt_row opt_table[] = {
    {SOL_SOCKET, SO_REUSEADDR, OPT_ATTR, VPPCOM_ATTR_SET_REUSEADDR, OPT_BOOL, 0, 1, 0, 0},
    {SOL_SOCKET, SO_REUSEPORT, OPT_ATTR, VPPCOM_ATTR_SET_REUSEPORT, OPT_BOOL, 0, 1, 0, 0},
    {SOL_SOCKET, SO_KEEPALIVE, OPT_ATTR, VPPCOM_ATTR_SET_KEEPALIVE, OPT_BOOL, 0, 1, 0, 0},
    {SOL_SOCKET, SO_BROADCAST, OPT_ATTR, VPPCOM_ATTR_SET_BROADCAST, OPT_BOOL, 0, 1, 0, 0},
    {SOL_SOCKET, SO_OOBINLINE, OPT_VCL, VCL_OPT_OOBINLINE, OPT_BOOL, 0, 1, 0, 0},
    {SOL_SOCKET, SO_RCVBUF, OPT_VCL, VCL_OPT_RCVBUF, OPT_CLAMP | OPT_TWICE, 1152, INT_MAX / 2, 65536, 0},
    {SOL_SOCKET, SO_SNDBUF, OPT_VCL, VCL_OPT_SNDBUF, OPT_CLAMP | OPT_TWICE, 2304, INT_MAX / 2, 43520, 0},
    {SOL_SOCKET, SO_RCVBUFFORCE, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
    {SOL_SOCKET, SO_SNDBUFFORCE, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
    {SOL_SOCKET, SO_RCVLOWAT, OPT_VCL, VCL_OPT_RCVLOWAT, OPT_CLAMP, 1, INT_MAX, 1, 0},
    {SOL_SOCKET, SO_PRIORITY, OPT_HERE, 0, 0, 0, 6, 0, EPERM},
    {SOL_SOCKET, SO_MARK, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
    {SOL_SOCKET, SO_BINDTODEVICE, OPT_REFUSE, 0, 0, 0, 0, 0, ENODEV},
    {IPPROTO_TCP, TCP_NODELAY, OPT_ATTR, VPPCOM_ATTR_SET_TCP_NODELAY, OPT_BOOL, 0, 1, 0, 0},
    {IPPROTO_TCP, TCP_CORK, OPT_VCL, VCL_OPT_CORK, OPT_BOOL, 0, 1, 0, 0},
    {IPPROTO_TCP, TCP_KEEPIDLE, OPT_ATTR, VPPCOM_ATTR_SET_TCP_KEEPIDLE, 0, 1, 32767, 7200, EINVAL},
    {IPPROTO_TCP, TCP_KEEPINTVL, OPT_ATTR, VPPCOM_ATTR_SET_TCP_KEEPINTVL, 0, 1, 32767, 75, EINVAL},
    {IPPROTO_TCP, TCP_KEEPCNT, OPT_VCL, VCL_OPT_KEEPCNT, 0, 1, 127, 9, EINVAL},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, OPT_VCL, VCL_OPT_USER_TIMEOUT, 0, 0, INT_MAX, 0, EINVAL},
    {IPPROTO_TCP, TCP_FASTOPEN, OPT_VCL, VCL_OPT_FASTOPEN, 0, 0, INT_MAX, 0, EINVAL},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, OPT_VCL, VCL_OPT_FASTOPEN_CONNECT, 0, 0, 1, 0, EINVAL},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, OPT_VCL, VCL_OPT_FASTOPEN_BARE, 0, 0, 1, 0, EINVAL},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, OPT_VCL, VCL_OPT_NOTSENT_LOWAT, 0, INT_MIN, INT_MAX, 0, 0},
    {IPPROTO_TCP, TCP_INQ, OPT_HERE, 0, 0, 0, 1, 0, EINVAL},
    {IPPROTO_TCP, TCP_QUICKACK, OPT_VCL, VCL_OPT_QUICKACK, OPT_BOOL, 0, 1, 1, 0},
    {IPPROTO_TCP, TCP_SYNCNT, OPT_VCL, VCL_OPT_SYNCNT, 0, 1, 127, 6, EINVAL},
    {IPPROTO_TCP, TCP_LINGER2, OPT_VCL, VCL_OPT_LINGER2, OPT_ASK, INT_MIN, INT_MAX, 60, 0},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, OPT_VCL, VCL_OPT_DEFER_ACCEPT, OPT_ASK, INT_MIN, INT_MAX, 0, 0},
    {SOL_SOCKET, SO_MAX_PACING_RATE, OPT_VCL, VCL_OPT_MAX_PACING, OPT_STREAM, INT_MIN, INT_MAX, -1, 0},
    {IPPROTO_TCP, TCP_MAXSEG, OPT_ATTR, VPPCOM_ATTR_SET_TCP_USER_MSS, 0, 88, 32767, 536, EINVAL},
    {IPPROTO_TCP, TCP_ULP, OPT_REFUSE, 0, 0, 0, 0, 0, ENOENT},
    {IPPROTO_TCP, TCP_REPAIR, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
    {IPPROTO_IP, IP_TOS, OPT_VCL, VCL_OPT_TOS, OPT_DSCP, 0, 255, 0, EINVAL},
    {IPPROTO_IP, IP_TTL, OPT_VCL, VCL_OPT_TTL, 0, 1, 255, 64, EINVAL},
    {IPPROTO_IP, IP_MTU_DISCOVER, OPT_HERE, 0, 0, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_WANT, EINVAL},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, OPT_HERE, 0, OPT_BOOL, 0, 1, 0, 0},
    {IPPROTO_IP, IP_PKTINFO, OPT_HERE, 0, OPT_BOOL, 0, 1, 0, 0},
    {IPPROTO_IP, IP_RECVTTL, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_IP, IP_RECVTOS, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_IP, IP_MULTICAST_TTL, OPT_HERE, 0, OPT_DGRAM, -1, 255, 1, EINVAL},
    {IPPROTO_IP, IP_MULTICAST_LOOP, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 1, 0},
    {IPPROTO_UDP, UDP_CORK, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_UDP, UDP_GRO, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_UDP, UDP_SEGMENT, OPT_HERE, 0, OPT_DGRAM, 0, 65535, 0, EINVAL},
    {IPPROTO_IP, IP_TRANSPARENT, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
    {IPPROTO_IPV6, IPV6_V6ONLY, OPT_ATTR, VPPCOM_ATTR_SET_V6ONLY, OPT_BOOL | OPT_UNBOUND, 0, 1, 0, 0},
    {IPPROTO_IPV6, IPV6_TCLASS, OPT_VCL, VCL_OPT_TOS, OPT_DSCP, 0, 255, 0, EINVAL},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, OPT_VCL, VCL_OPT_TTL, 0, 1, 255, 64, EINVAL},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, OPT_HERE, 0, 0, IPV6_PMTUDISC_WANT, IPV6_PMTUDISC_DO, IPV6_PMTUDISC_WANT, EINVAL},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, OPT_HERE, 0, OPT_BOOL, 0, 1, 0, 0},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 0, 0},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, OPT_HERE, 0, OPT_DGRAM, -1, 255, 1, EINVAL},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, OPT_HERE, 0, OPT_BOOL | OPT_DGRAM, 0, 1, 1, 0},
    {IPPROTO_IPV6, IPV6_TRANSPARENT, OPT_REFUSE, 0, 0, 0, 0, 0, EPERM},
};
#define OPT_ROWS (sizeof(opt_table) / sizeof(opt_table[0]))
_Static_assert(OPT_ROWS <= OPT_ROWS_MAX, "opt_values has room for every row");

static const struct opt_row *opt_find(int level, int name) {
  for (size_t i = 0; i < OPT_ROWS; i++)
    if (opt_table[i].level == level && opt_table[i].name == name)
      return &opt_table[i];
  return NULL;
}

/* Rows of the other kind of socket are not there. */
static const struct opt_row *opt_find_for(const struct sock *s, int level, int name) {
  const struct opt_row *row = opt_find(level, name);
  if (!row || (sock_is_dgram(s) ? level == IPPROTO_TCP : (row->flags & OPT_DGRAM) != 0) ||
      (sock_is_dgram(s) && (row->flags & OPT_STREAM)))
    return NULL;
  return row;
}

static int opt_apply(struct sock *s, const struct opt_row *row, int value) {
  uint32_t len = sizeof(value);
  if (row->via == OPT_ATTR)
    return vppcom_session_attr(s->h, row->set, &value, &len);
  if (row->via == OPT_VCL)
    return vcl_opt_set(s->h, row->set, &value, len);
  return 0;
}

void opt_init(struct sock *s) {
  memset(&s->opts, 0, sizeof(s->opts));
}

void opt_apply_all(struct sock *s) {
  stamp_apply(s);
  for (size_t i = 0; i < OPT_ROWS; i++)
    if (s->opts.set & (1ull << i))
      (void)opt_apply(s, &opt_table[i], s->opts.value[i]);
  if (s->opts.fastopen_key_len > 0)
    (void)vcl_opt_set(s->h, VCL_OPT_FASTOPEN_KEY, s->opts.fastopen_key, s->opts.fastopen_key_len);
  if (s->opts.special & OPT_HAS_LINGER)
    (void)vcl_opt_set(s->h, VCL_OPT_LINGER, &s->opts.linger, sizeof(s->opts.linger));
  if (s->opts.special & OPT_HAS_CC)
    (void)vcl_opt_set(s->h, VCL_OPT_CONGESTION, s->opts.congestion, (uint32_t)strnlen(s->opts.congestion, OPT_CC_MAX));
}

void opt_pass(const struct sock *s, struct opt_pass *out) {
  memset(out, 0, sizeof(*out));
  out->rcvtimeo_us = s->rcvtimeo_us;
  out->sndtimeo_us = s->sndtimeo_us;
  out->linger = s->opts.linger;
  out->special = s->opts.special;
  out->fastopen_key_len = s->opts.fastopen_key_len;
  memcpy(out->congestion, s->opts.congestion, sizeof(out->congestion));
  memcpy(out->fastopen_key, s->opts.fastopen_key, sizeof(out->fastopen_key));
  for (size_t i = 0; i < OPT_ROWS; i++) {
    if (!(s->opts.set & (1ull << i)))
      continue;
    out->row[out->n].level = opt_table[i].level;
    out->row[out->n].name = opt_table[i].name;
    out->row[out->n++].value = s->opts.value[i];
  }
}

void opt_take(struct sock *s, const struct opt_pass *in) {
  s->rcvtimeo_us = in->rcvtimeo_us;
  s->sndtimeo_us = in->sndtimeo_us;
  s->opts.linger = in->linger;
  s->opts.special = in->special;
  memcpy(s->opts.congestion, in->congestion, sizeof(s->opts.congestion));
  memcpy(s->opts.fastopen_key, in->fastopen_key, sizeof(s->opts.fastopen_key));
  if (in->fastopen_key_len <= sizeof(s->opts.fastopen_key))
    s->opts.fastopen_key_len = in->fastopen_key_len;
  for (uint32_t i = 0; i < in->n && i < OPT_ROWS_MAX; i++) {
    const struct opt_row *row = opt_find_for(s, in->row[i].level, in->row[i].name);
    size_t at = row ? (size_t)(row - opt_table) : OPT_ROWS;
    if (at == OPT_ROWS)
      continue;
    s->opts.value[at] = in->row[i].value;
    s->opts.set |= 1ull << at;
  }
  opt_apply_all(s);
}

static void opt_replay_one(int fd, int level, int name, const void *val, size_t len) {
  if (real.setsockopt(fd, level, name, val, (socklen_t)len) < 0)
    app_say(2, "fd %d goes to the kernel, which refuses option (%d, %d): errno %d", fd, level, name, errno);
}

struct timeval opt_timeval(int64_t us) {
  struct timeval tv = {0, 0};
  if (us > 0) {
    tv.tv_sec = us / 1000000;
    tv.tv_usec = us % 1000000;
  }
  return tv;
}

int opt_replay(struct sock *s, int fd) {
  for (size_t i = 0; i < OPT_ROWS; i++)
    if (s->opts.set & (1ull << i))
      opt_replay_one(fd, opt_table[i].level, opt_table[i].name, &s->opts.value[i], sizeof(s->opts.value[i]));
  if (s->opts.fastopen_key_len > 0)
    opt_replay_one(fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, s->opts.fastopen_key, s->opts.fastopen_key_len);
  if (s->opts.special & OPT_HAS_LINGER)
    opt_replay_one(fd, SOL_SOCKET, SO_LINGER, &s->opts.linger, sizeof(s->opts.linger));
  if (s->opts.special & OPT_HAS_CC)
    opt_replay_one(fd, IPPROTO_TCP, TCP_CONGESTION, s->opts.congestion, strnlen(s->opts.congestion, OPT_CC_MAX));
  stamp_replay(s, fd);
  struct timeval rcv = opt_timeval(s->rcvtimeo_us), snd = opt_timeval(s->sndtimeo_us);
  if (s->rcvtimeo_us >= 0)
    opt_replay_one(fd, SOL_SOCKET, SO_RCVTIMEO, &rcv, sizeof(rcv));
  if (s->sndtimeo_us >= 0)
    opt_replay_one(fd, SOL_SOCKET, SO_SNDTIMEO, &snd, sizeof(snd));
  return 0;
}

/* --- setting --- */

/* Options of the IP levels may be given as one byte, as ip(7) says. */
static int opt_int_arg(int level, const void *val, socklen_t len, int *out) {
  if (len >= sizeof(int)) {
    memcpy(out, val, sizeof(int));
    return 0;
  }
  if (level != IPPROTO_IP || len < 1)
    return -EINVAL;
  *out = *(const unsigned char *)val;
  return 0;
}

/* Datagrams may also be sent as if no path MTU had been learned (DONT, INTERFACE, OMIT), or never be cut (PROBE). */
static bool opt_is_any_discover(const struct sock *s, const struct opt_row *row, int value) {
  bool discover = (row->level == IPPROTO_IP && row->name == IP_MTU_DISCOVER) ||
                  (row->level == IPPROTO_IPV6 && row->name == IPV6_MTU_DISCOVER);
  return discover && sock_is_dgram(s) && value >= IP_PMTUDISC_DONT && value <= IP_PMTUDISC_OMIT;
}

static int opt_set_row(struct sock *s, const struct opt_row *row, const void *val, socklen_t len) {
  int value;
  if (row->via == OPT_REFUSE)
    return -row->error;
  int rc = opt_int_arg(row->level, val, len, &value);
  if (rc < 0)
    return rc;
  if ((row->flags & OPT_UNBOUND) && (sock_flags(s) & SOCK_F_BOUND))
    return -EINVAL;
  if (row->flags & OPT_BOOL)
    value = value != 0;
  if (row->name == SO_RCVLOWAT && row->level == SOL_SOCKET && value < 0)
    value = INT_MAX;
  bool unset = (row->set == VCL_OPT_TTL && row->via == OPT_VCL && value == -1) ||
               (row->level == IPPROTO_IPV6 && row->name == IPV6_TCLASS && value == -1) ||
               (row->level == IPPROTO_TCP && row->name == TCP_MAXSEG && value == 0);
  if (opt_is_any_discover(s, row, value))
    unset = false;
  else if (!unset && (value < row->min || value > row->max)) {
    if (!(row->flags & OPT_CLAMP))
      return -row->error;
    value = value < row->min ? row->min : row->max;
  }
  if ((row->flags & OPT_DSCP) && !sock_is_dgram(s))
    value = unset ? 0 : value & ~3;
  rc = opt_apply(s, row, value);
  if (rc < 0)
    return rc;
  uint32_t got = sizeof(value);
  if ((row->flags & OPT_ASK) && (rc = vcl_opt_get(s->h, row->set, &value, &got)) < 0)
    return rc;
  size_t i = (size_t)(row - opt_table);
  s->opts.value[i] = value;
  s->opts.set = unset ? s->opts.set & ~(1ull << i) : s->opts.set | (1ull << i);
  if (sock_is_dgram(s))
    udp_option(s, row->level, row->name, value);
  return 0;
}

static int opt_set_linger(struct sock *s, const void *val, socklen_t len) {
  if (len < sizeof(struct linger))
    return -EINVAL;
  struct linger linger;
  memcpy(&linger, val, sizeof(linger));
  int rc = vcl_opt_set(s->h, VCL_OPT_LINGER, &linger, sizeof(linger));
  if (rc < 0)
    return rc;
  s->opts.linger = linger;
  s->opts.special |= OPT_HAS_LINGER;
  return 0;
}

static int opt_set_congestion(struct sock *s, const void *val, socklen_t len) {
  char name[OPT_CC_MAX] = {0};
  if (len < 1)
    return -EINVAL;
  memcpy(name, val, len < OPT_CC_MAX ? len : OPT_CC_MAX - 1);
  int rc = vcl_opt_set(s->h, VCL_OPT_CONGESTION, name, (uint32_t)strlen(name));
  if (rc < 0)
    return rc;
  memcpy(s->opts.congestion, name, sizeof(name));
  s->opts.special |= OPT_HAS_CC;
  return 0;
}

static int opt_set_fastopen_key(struct sock *s, const void *val, socklen_t len) {
  int rc = vcl_opt_set(s->h, VCL_OPT_FASTOPEN_KEY, val, len);
  if (rc < 0)
    return rc;
  memcpy(s->opts.fastopen_key, val, len);
  s->opts.fastopen_key_len = len;
  return 0;
}

bool opt_wants_inq(const struct sock *s) {
  const struct opt_row *row = opt_find(IPPROTO_TCP, TCP_INQ);
  size_t i = (size_t)(row - opt_table);
  return row && (s->opts.set & (1ull << i)) && s->opts.value[i] != 0;
}

/* socket(7): zero means no time-out; EDOM if the microseconds are none. */
static int opt_set_timeo(int64_t *us, const void *val, socklen_t len) {
  struct timeval tv;
  if (len < sizeof(tv))
    return -EINVAL;
  memcpy(&tv, val, sizeof(tv));
  if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
    return -EDOM;
  if (tv.tv_sec < 0)
    *us = 0; /* the kernel: a negative time-out never waits */
  else if (tv.tv_sec == 0 && tv.tv_usec == 0)
    *us = -1;
  else
    *us = tv.tv_sec >= INT32_MAX ? -1 : (int64_t)tv.tv_sec * 1000000 + tv.tv_usec;
  return 0;
}

static int opt_set_locked(struct sock *s, int level, int name, const void *val, socklen_t len) {
  if (level == SOL_SOCKET) {
    switch (name) {
    case SO_LINGER:
      return opt_set_linger(s, val, len);
    case SO_RCVTIMEO:
    case SO_RCVTIMEO_NEW:
      return opt_set_timeo(&s->rcvtimeo_us, val, len);
    case SO_SNDTIMEO:
    case SO_SNDTIMEO_NEW:
      return opt_set_timeo(&s->sndtimeo_us, val, len);
    default:
      break;
    }
  }
  uint32_t rate;
  if (level == SOL_SOCKET && name == SO_MAX_PACING_RATE && len >= sizeof(uint64_t)) { /* as wide as the kernel's long */
    uint64_t wide;
    memcpy(&wide, val, sizeof(wide));
    rate = wide < UINT32_MAX ? (uint32_t)wide : UINT32_MAX;
    val = &rate;
    len = sizeof(rate);
  }
  if (level == IPPROTO_TCP && name == TCP_CONGESTION && !sock_is_dgram(s))
    return opt_set_congestion(s, val, len);
  if (level == IPPROTO_TCP && name == TCP_FASTOPEN_KEY && !sock_is_dgram(s))
    return opt_set_fastopen_key(s, val, len);
  if (sock_is_dgram(s)) {
    int rc = udp_setsockopt(s, level, name, val, len);
    if (rc == -ENOENT)
      rc = stamp_setsockopt(s, level, name, val, len);
    if (rc != -ENOENT)
      return rc;
  }
  const struct opt_row *row = opt_find_for(s, level, name);
  return row ? opt_set_row(s, row, val, len) : -ENOPROTOOPT;
}

int opt_set(struct sock *s, int level, int name, const void *val, socklen_t len) {
  if ((int)len < 0)
    return -EINVAL;
  if (!val && len > 0)
    return -EFAULT;
  if (level == IPPROTO_IPV6 && s->domain != AF_INET6)
    return -ENOPROTOOPT;
  pthread_mutex_lock(&s->lock);
  int rc = opt_set_locked(s, level, name, val, len);
  pthread_mutex_unlock(&s->lock);
  if (rc < 0)
    app_say(2, "setsockopt(%d, %d) is refused: errno %d", level, name, -rc);
  return rc;
}

/* --- getting --- */

static int opt_put(void *val, socklen_t *len, const void *from, size_t size) {
  socklen_t n = *len < size ? *len : (socklen_t)size;
  if (n > 0)
    memcpy(val, from, n);
  *len = n;
  return 0;
}

static int opt_put_int(int level, void *val, socklen_t *len, int value) {
  if (level == IPPROTO_IP && *len > 0 && *len < sizeof(int) && value >= 0 && value <= 255) {
    unsigned char byte = (unsigned char)value;
    return opt_put(val, len, &byte, 1);
  }
  return opt_put(val, len, &value, sizeof(value));
}

static int opt_info(struct sock *s, struct tcp_info *info) {
  uint32_t len = sizeof(*info);
  memset(info, 0, sizeof(*info));
  return vcl_opt_get(s->h, VCL_OPT_TCP_INFO, info, &len);
}

static int opt_get_row(struct sock *s, const struct opt_row *row, int *value) {
  struct tcp_info info;
  size_t i = (size_t)(row - opt_table);
  if (row->via == OPT_REFUSE)
    return row->error == EPERM ? 0 : -ENOPROTOOPT; /* reading SO_MARK and its like needs no right: 0 */
  *value = s->opts.set & (1ull << i) ? s->opts.value[i] : row->initial;
  if (row->level == IPPROTO_TCP && row->name == TCP_MAXSEG && sock_is_connected(s) && opt_info(s, &info) == 0 &&
      info.tcpi_snd_mss > 0)
    *value = (int)info.tcpi_snd_mss;
  if (row->flags & OPT_TWICE)
    *value = *value > INT_MAX / 2 ? INT_MAX : *value * 2;
  return 0;
}

static int opt_get_error(struct sock *s, int *value) {
  uint32_t len = sizeof(*value);
  *value = 0;
  if (sock_flags(s) & SOCK_F_CONNECTING) {
    int rc = sock_connect_outcome(s);
    *value = rc < 0 && rc != -EINPROGRESS ? -rc : 0;
    if (*value != 0)
      sock_raise(s, SOCK_F_ENDED);
    return 0;
  }
  if (sock_is_dgram(s))
    return vcl_opt_get(s->h, VCL_OPT_ERROR, value, &len);
  if (sock_flags(s) & SOCK_F_ERR_TOLD)
    return 0;
  int rc = vcl_opt_get(s->h, VCL_OPT_ERROR, value, &len);
  if (rc == 0 && *value != 0)
    sock_raise(s, SOCK_F_ERR_TOLD);
  else if (rc == 0)
    rc = vcl_opt_get(s->h, VCL_OPT_SOFT_ERROR, value, &len);
  return rc < 0 ? rc : 0;
}

/* SOL_SOCKET options that are computed. -ENOENT: it is none of these. */
static int opt_get_socket(struct sock *s, int name, int *value) {
  switch (name) {
  case SO_ERROR:
    return opt_get_error(s, value);
  case SO_TYPE:
    *value = s->type;
    return 0;
  case SO_DOMAIN:
    *value = s->domain;
    return 0;
  case SO_PROTOCOL:
    *value = sock_is_dgram(s) ? IPPROTO_UDP : IPPROTO_TCP;
    return 0;
  case SO_ACCEPTCONN:
    *value = (sock_flags(s) & SOCK_F_LISTENING) != 0;
    return 0;
  case SO_SNDLOWAT:
    *value = 1;
    return 0;
  case SO_INCOMING_CPU:
    *value = -1;
    return 0;
  default:
    return -ENOENT;
  }
}

static int opt_get_ip_mtu(struct sock *s, int *value) {
  struct tcp_info info;
  if (!sock_is_connected(s))
    return -ENOTCONN;
  int rc = opt_info(s, &info);
  *value = (int)info.tcpi_pmtu;
  return rc;
}

/* Where the client meant to connect to, before a session rule redirected it. IPv6 sockets ask at their own level. */
static int opt_original(struct sock *s, int level, void *val, socklen_t *len) {
  struct addr_ep e;
  addr_ep_init(&e);
  uint32_t n = sizeof(e.ep);
  int domain = level == IPPROTO_IP ? AF_INET : AF_INET6;
  if (*len < (domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)))
    return -EINVAL;
  int rc = vppcom_session_attr(s->h, VPPCOM_ATTR_GET_ORIGINAL_DST, &e.ep, &n);
  if (rc == 0 && (domain == AF_INET) != (e.ep.is_ip4 == VPPCOM_IS_IP4))
    rc = -ENOENT;
  return rc < 0 ? rc : addr_to_sockaddr(&e, domain, val, len);
}

/* Options whose value is no int. -ENOENT: it is none of these. */
static int opt_get_struct(struct sock *s, int level, int name, void *val, socklen_t *len) {
  if (level == SOL_SOCKET && name == SO_LINGER) {
    return opt_put(val, len, &s->opts.linger, sizeof(s->opts.linger));
  }
  if (level == SOL_SOCKET &&
      (name == SO_RCVTIMEO || name == SO_SNDTIMEO || name == SO_RCVTIMEO_NEW || name == SO_SNDTIMEO_NEW)) {
    bool rcv = name == SO_RCVTIMEO || name == SO_RCVTIMEO_NEW;
    struct timeval tv = opt_timeval(rcv ? s->rcvtimeo_us : s->sndtimeo_us);
    return opt_put(val, len, &tv, sizeof(tv));
  }
  if (level == SOL_SOCKET && name == SO_BINDTODEVICE) {
    *len = 0;
    return 0;
  }
  if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && name == OPT_ORIGINAL_DST && !sock_is_dgram(s)) {
    return opt_original(s, level, val, len);
  }
  if (level == IPPROTO_TCP && name == TCP_INFO && !sock_is_dgram(s)) {
    struct tcp_info info;
    int rc = opt_info(s, &info);
    return rc < 0 ? rc : opt_put(val, len, &info, sizeof(info));
  }
  if (level == IPPROTO_TCP && name == TCP_FASTOPEN_KEY && !sock_is_dgram(s))
    return opt_put(val, len, s->opts.fastopen_key, s->opts.fastopen_key_len);
  if (level == IPPROTO_TCP && name == TCP_CONGESTION && !sock_is_dgram(s)) {
    char cc[OPT_CC_MAX] = {0};
    uint32_t n = sizeof(cc);
    int rc = vcl_opt_get(s->h, VCL_OPT_CONGESTION, cc, &n);
    return rc < 0 ? rc : opt_put(val, len, cc, sizeof(cc));
  }
  return -ENOENT;
}

static int opt_get_locked(struct sock *s, int level, int name, void *val, socklen_t *len) {
  int value = 0;
  int rc = opt_get_struct(s, level, name, val, len);
  if (rc != -ENOENT)
    return rc;
  if (sock_is_dgram(s) && stamp_getsockopt(s, level, name, &value) == 0)
    rc = 0;
  else if (level == SOL_SOCKET)
    rc = opt_get_socket(s, name, &value);
  else if ((level == IPPROTO_IP && name == IP_MTU) || (level == IPPROTO_IPV6 && name == IPV6_MTU))
    rc = opt_get_ip_mtu(s, &value);
  if (rc == -ENOENT) {
    const struct opt_row *row = opt_find_for(s, level, name);
    int none = sock_is_dgram(s) && level == IPPROTO_TCP ? -EOPNOTSUPP : -ENOPROTOOPT; /* as Linux */
    rc = row ? opt_get_row(s, row, &value) : none;
  }
  return rc < 0 ? rc : opt_put_int(level, val, len, value);
}

int opt_get(struct sock *s, int level, int name, void *val, socklen_t *len) {
  if (!len || (!val && *len > 0))
    return -EFAULT;
  if ((int)*len < 0)
    return -EINVAL;
  if (level == IPPROTO_IPV6 && s->domain != AF_INET6)
    return -EOPNOTSUPP; /* as Linux; setting is ENOPROTOOPT */
  pthread_mutex_lock(&s->lock);
  int rc = opt_get_locked(s, level, name, val, len);
  pthread_mutex_unlock(&s->lock);
  if (rc < 0)
    app_say(2, "getsockopt(%d, %d) is refused: errno %d", level, name, -rc);
  return rc;
}
