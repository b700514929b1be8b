/*
 * Socket semantics as a list of lines: what a program sees on this machine's sockets, one "name: result" per check.
 *
 * Run twice, once with kernel sockets and once under the preload shim, the output must be the same, line by line
 * (compare.py). The subject is the program under test; the peer is a plain kernel process that the subject commands
 * over a unix socket, so that nothing depends on time: a step of the peer is over when its answer has come.
 */
#ifndef HS_CONFORM_H
#define HS_CONFORM_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* What the peer can be told to do; each answer is one int64. */
enum peer_op {
  PEER_LISTEN = 1, /* arg: backlog → port */
  PEER_ACCEPT,     /* takes a connection of its listener */
  PEER_CONNECT,    /* arg: port, to the subject's address */
  PEER_SEND,       /* arg: n bytes of the pattern → bytes sent */
  PEER_RECV,       /* arg: n bytes exactly (or until the end) → bytes got, -1 if the pattern is wrong */
  PEER_RECV_EOF,   /* → 0 at the end of the stream, -errno */
  PEER_SHUT_WR,
  PEER_CLOSE, /* the connection */
  PEER_RESET, /* closes with linger 0 */
  PEER_UNLISTEN,
  PEER_LISTEN6, /* as LISTEN and CONNECT, over IPv6 */
  PEER_CONNECT6,
  PEER_UDP,        /* a socket of datagrams at the peer's address → port */
  PEER_UDP_ECHO,   /* arg: that many datagrams go back where they came from → length of the last one */
  PEER_SEND_OOB,   /* as SEND, in one call with MSG_OOB, up to 64 bytes */
  PEER_URGENT,     /* waits for an urgent byte → its value, or -errno; 0x100 if SIOCATMARK says that it is next */
  PEER_TO_MARK,    /* reads up to the urgent byte → bytes before it, -1 if the pattern is wrong */
  PEER_STORM,      /* arg: count << 16 | port: so many connections, each says a byte → how many */
  PEER_UDP_SEND,   /* arg: count << 16 | port: so many datagrams, "0", "1" and so on → how many */
  PEER_UDP_RECV,   /* takes a datagram → its first byte */
  PEER_UDP_TRAIN,  /* arg: port: 3500 bytes of the pattern in datagrams of 1000 (UDP_SEGMENT) → bytes */
  PEER_STORM_OVER, /* on each the byte comes back, then the end → on how many */
  PEER_QUIT,
};

struct peer_msg {
  uint32_t op;
  int64_t arg;
};

struct conform {
  int control;                          /* to the peer */
  struct sockaddr_in peer_ip, my_ip;    /* ports 0 */
  struct sockaddr_in6 peer_ip6, my_ip6; /* family 0 if the run has none */
};

extern struct conform conform;

/** The peer's loop on a connected control socket. */
int peer_run(int control);
/** The answer of one command. */
int64_t peer_do(uint32_t op, int64_t arg);
/** The pattern byte of stream position n. */
static inline uint8_t peer_pattern(size_t n) {
  return (uint8_t)(n * 31 + (n >> 8));
}

/** "name: ok", "name: -1 ECONNREFUSED" or "name: 17". */
void say_rc(const char *name, long rc);
void say_num(const char *name, long value);
void say_bits(const char *name, unsigned bits);
/** Fails loudly: the set-up of a check did not work, so its result would mean nothing. */
void need(bool ok, const char *what);

/** A stream socket of the subject. */
int subject_socket(int flags);
/** Connected to the peer; the peer has accepted. */
int subject_connected(void);
/** Bound to the subject's address, any port, listening. *port in network order. */
int subject_listener(uint16_t *port);
/** One connection from the peer, accepted. */
int subject_accepted(void);
/** With CONFORM_ARMED set: looks at a listener once, so that who is about to connect finds somebody who accepts. On the
 * kernel it changes nothing. */
void arm_listener(int fd);
/** Waits (bounded) until poll says one of `events`; revents or 0. */
int subject_poll(int fd, short events, int timeout_ms);

void check_options(void);
void check_life(void);
void check_dgram(void);
void check_connect(void);
void check_data(void);
void check_calls(void);
void check_poll(void);
void check_epoll(void);
void check_process(void);
void check_six(void);
void check_urgent(void);
void check_waits(void);
void check_spawns(void);
void check_unanswered(void);
void check_heirs(void);
void check_corks(void);
void check_passed(void);
void check_beside(void);
/** Of the stack alone: Linux begins to note times a moment after it was told to. */
void check_arrived(void);
void check_kin(void);
void check_mixes(void);

/** What the program that check_heirs executes does: its exit status. */
int heirs_run(void);
/** The same of check_passed. */
int passed_run(void);

#endif
