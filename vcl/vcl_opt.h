/*
 * Socket options beyond vppcom_session_attr that the preload shim honours: the private face of libvppcom, part two.
 *
 * vcl_opt_get and vcl_opt_set take the option's Linux value layout, so that the shim only maps (level, name) to a
 * number. Errors are negative errno values as Linux gives them: -EINVAL (value, length), -EDOM (range), -ENOPROTOOPT,
 * -EBADFD. Setting may happen before or after connect; accepted sessions inherit the listener's options.
 */
#ifndef HS_VCL_OPT_H
#define HS_VCL_OPT_H

#include "vppcom.h"

enum vcl_opt {
  VCL_OPT_LINGER = 0,       /* struct linger */
  VCL_OPT_RCVBUF,           /* int, bytes as set (the shim doubles on get, as Linux does) */
  VCL_OPT_SNDBUF,           /* int */
  VCL_OPT_RCVLOWAT,         /* int ≥ 1 */
  VCL_OPT_ERROR,            /* int, positive errno; get only, clears */
  VCL_OPT_KEEPCNT,          /* int 1..127 */
  VCL_OPT_USER_TIMEOUT,     /* unsigned int, milliseconds */
  VCL_OPT_CORK,             /* int 0/1 */
  VCL_OPT_QUICKACK,         /* int 0/1 */
  VCL_OPT_CONGESTION,       /* string up to 16 bytes: newreno (also reno), cubic, bbr; -ENOENT if unknown */
  VCL_OPT_TCP_INFO,         /* struct tcp_info of <netinet/tcp.h>, get only, *len cut to what fits */
  VCL_OPT_TOS,              /* int 0..255 (IP_TOS, IPV6_TCLASS) */
  VCL_OPT_TTL,              /* int 1..255, -1 = default (IP_TTL, IPV6_UNICAST_HOPS) */
  VCL_OPT_OOBINLINE,        /* int 0/1 */
  VCL_OPT_OUTQ,             /* int, get only: bytes not yet acknowledged (SIOCOUTQ) */
  VCL_OPT_OUTQNSD,          /* int, get only: bytes not yet sent (SIOCOUTQNSD) */
  VCL_OPT_STATE,            /* int, get only: enum vcl_state */
  VCL_OPT_PEEK_ERROR,       /* int, get only: as VCL_OPT_ERROR but stays */
  VCL_OPT_FASTOPEN,         /* int ≥ 0: listener, Fast Opens (RFC 7413) that may be pending; 0 = none */
  VCL_OPT_FASTOPEN_CONNECT, /* int 0/1: connect() leaves the SYN to the first write if the server's cookie is known */
  VCL_OPT_SYNCNT,           /* int 1..127 */
  VCL_OPT_LINGER2,          /* int seconds, 0 = default, < 0 = none */
  VCL_OPT_DEFER_ACCEPT,     /* int seconds; rounded up to SYN-ACK timeouts */
  VCL_OPT_MAX_PACING,       /* unsigned int bytes per second; UINT32_MAX = no limit */
  VCL_OPT_FASTOPEN_KEY,     /* 16 or 32 bytes: a listener's own key, and one before it; getting: 0 = none is set */
  VCL_OPT_FASTOPEN_BARE,    /* int 0/1: TCP_FASTOPEN_NO_COOKIE */
  VCL_OPT_NOTSENT_LOWAT,    /* unsigned int bytes, 0 = no limit: written and not sent, a write waits beyond it */
  VCL_OPT_ATMARK,           /* int, get only: the next byte to be read is the urgent one (SIOCATMARK) */
  VCL_OPT_SOFT_ERROR,       /* int, get only: stream: errno of an ICMP error that it outlived, told once, else 0 */
  VCL_OPT_STAMP,            /* int 0/1: datagrams come with the time of their arrival */
  VCL_OPT_N,
};

enum vcl_state {
  VCL_STATE_NEW = 0, /* neither bound nor connected */
  VCL_STATE_BOUND,   /* bind() done */
  VCL_STATE_LISTENING,
  VCL_STATE_CONNECTING,
  VCL_STATE_CONNECTED, /* data may flow (also half closed) */
  VCL_STATE_DEFERRED,  /* connect() said yes, the first write sends the SYN */
  VCL_STATE_CLOSED,    /* was connected or refused, is gone */
};

/** Read option `opt` into buf; *len in: room, out: bytes. 0 or -errno. */
int vcl_opt_get(uint32_t h, uint32_t opt, void *buf, uint32_t *len);
/** connect() for data that follow at once (MSG_FASTOPEN): 0 = write them now, they ride on the SYN (or go to a program
 * of this stack); -EINPROGRESS = connecting, the SYN asks for a cookie; -EOPNOTSUPP = switched off; other -errno as
 * connect(). */
int vcl_fastopen(uint32_t h, vppcom_endpt_t *ep);
/** Set option `opt` from len bytes at buf. 0 or -errno. */
int vcl_opt_set(uint32_t h, uint32_t opt, const void *buf, uint32_t len);

#endif
