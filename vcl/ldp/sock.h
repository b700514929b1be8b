/*
 * A shimmed socket: one session of the stack and what Linux keeps beside it (flags, time-outs, options as set).
 *
 * Any number of descriptors (dup) refer to it. Made by socket() and accept(); it leaves the stack for the kernel
 * (sock_move_to_kernel) when the program binds or connects it to an address that is the kernel's. All fields after
 * creation are atomic words or change under the socket's lock.
 */
#ifndef HS_LDP_SOCK_H
#define HS_LDP_SOCK_H

#include "fd.h"
#include "opt.h"
#include "vcl_opt.h"
#include "vcl_wait.h"

#include <pthread.h>

struct epoll_member;

/* sock.flags, atomic */
#define SOCK_F_NONBLOCK   0x01u
#define SOCK_F_LISTENING  0x02u
#define SOCK_F_CONNECTING 0x04u /* connect() was begun and its outcome not yet told */
#define SOCK_F_CONNECTED  0x08u
#define SOCK_F_ERR_TOLD   0x10u /* the program has had the session's error once: from here on 0 and EPIPE */
#define SOCK_F_SHUT_RD    0x20u
#define SOCK_F_SHUT_WR    0x40u
#define SOCK_F_BOUND      0x80u
#define SOCK_F_FAILED     0x100u  /* a connect failed: the next one needs a new session */
#define SOCK_F_OPEN       0x400u  /* datagrams: the engine knows it */
#define SOCK_F_SPOKEN     0x800u  /* datagrams: it has exchanged something with the stack, and stays there */
#define SOCK_F_NAMED      0x1000u /* datagrams: it has a port that bind() did not give */
#define SOCK_F_HELD       (SOCK_F_CONNECTED | SOCK_F_CONNECTING | SOCK_F_OPEN) /* others may hold it after a fork */
#define SOCK_F_ENDED      0x200u /* ... and the program was told otherwise than by connect(): reads give 0 */

struct cork;

/* What a socket of datagrams has beside. */
struct sock_dgram {
  struct sockaddr_storage bound; /* as bind() was called */
  socklen_t bound_len;
  uint32_t want; /* ancillary data that recvmsg gives: udp.c */
  uint16_t segment;
  uint8_t mc_ttl, mc_no_loop;
  uint8_t uncut;
  uint8_t stamp; /* SO_TIMESTAMP or one of its kin, 0 = none */
  uint8_t gro;   /* UDP_GRO */
  uint8_t mc_if[16];
  uint8_t corked;    /* atomic: UDP_CORK */
  struct cork *held; /* atomic: parts of a datagram (cork.h) */
};

struct sock {
  struct fd_file file; /* first */
  uint32_t h;          /* session handle */
  uint32_t flags;      /* atomic */
  int domain;          /* AF_INET, AF_INET6 */
  int type;            /* SOCK_STREAM, SOCK_DGRAM */
  int64_t rcvtimeo_us; /* -1 = for ever */
  int64_t sndtimeo_us;
  struct opt_values opts;
  struct sock_dgram dgram;
  pthread_mutex_t lock;         /* options, members */
  struct epoll_member *members; /* epoll sets it is in; under epoll.c's lock */
};

/** A new socket with a fresh session, one reference; or NULL with errno. */
struct sock *sock_new(int domain, int type, uint32_t flags);
/** The same around an accepted session; options come from the listener. */
struct sock *sock_new_accepted(const struct sock *listener, uint32_t h, uint32_t flags);
/** The same around a session that is there already, with fresh options; h stays the caller's if it fails. */
struct sock *sock_new_taken(int domain, uint32_t h, uint32_t flags);
/** Puts s at a new descriptor; takes over the reference. fd or -errno (s is gone then). */
int sock_install(struct sock *s, bool cloexec);
/** The same at a seat that the caller has got from fd_seat. */
int sock_install_at(struct sock *s, int seat, bool cloexec);
/** The last reference is gone (called by fd_put). */
void sock_end(struct sock *s);

static inline struct sock *sock_get(int fd) {
  return (struct sock *)fd_get_kind(fd, FD_SOCK);
}
static inline bool sock_is_dgram(const struct sock *s) {
  return s->type == SOCK_DGRAM;
}
static inline void sock_put(struct sock *s) {
  fd_put(&s->file);
}
static inline uint32_t sock_flags(const struct sock *s) {
  return __atomic_load_n(&s->flags, __ATOMIC_RELAXED);
}
static inline void sock_raise(struct sock *s, uint32_t bits) {
  __atomic_or_fetch(&s->flags, bits, __ATOMIC_RELAXED);
}
static inline void sock_clear(struct sock *s, uint32_t bits) {
  __atomic_and_fetch(&s->flags, ~bits, __ATOMIC_RELAXED);
}

/** The session is thrown away for a fresh one with the same options (connect again, AF_UNSPEC). 0 or -errno. */
int sock_renew(struct sock *s);
/** All descriptors of s become one new kernel socket with the options set so far. 0 or -errno. */
int sock_move_to_kernel(struct sock *s);
/** Waits for `events`; timeout in µs, -1 = for ever. 0, -EAGAIN on time-out, -EINTR. Restarts where Linux would; not if
 * the call is halfway: then it ends and tells how far it came. */
int sock_wait(struct sock *s, uint32_t events, int64_t timeout_us, bool halfway);
/** Takes note of a finished connect. 0 connected, -EINPROGRESS, or the session's error (then consumed). */
int sock_connect_outcome(struct sock *s);
/** True if connect() said yes but the SYN waits for the first bytes (TCP_FASTOPEN_CONNECT). */
bool sock_is_deferred(const struct sock *s);
/** True if the session has an established past or present connection; looks at the session where needed. */
bool sock_is_connected(struct sock *s);

#endif
