/*
 * A socket of datagrams that came by exec: its number is one end of a kernel socket pair (the line), its session and
 * all its state are the relay's (relay.h), and every call is a question that the relay answers.
 *
 * The line says one thing to the program: a byte lies in it while the session can be read, so that the kernel's own
 * poll, select, epoll, O_NONBLOCK and SO_RCVTIMEO work on the number. A question goes over a socket pair made for it,
 * whose other end is passed over the line (SCM_RIGHTS): nothing is shared by threads, forked children or dup()ed
 * numbers. No datagram is read ahead of the program: what it leaves is left for the others who hold the socket (inetd's
 * wait services), and none is lost or given twice.
 */
#ifndef HS_LDP_LINE_H
#define HS_LDP_LINE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define LINE_MAGIC   0x6c696e31u
#define LINE_DATA    65536u /* bytes of a datagram */
#define LINE_CONTROL 1024u  /* of ancillary data, and of an option's value */
#define LINE_PARKED  16u    /* questions that wait for room to send; more are told to try again */

enum line_op {
  LINE_RECV = 1, /* never waits */
  LINE_SEND,     /* never waits */
  LINE_ROOM,     /* answered when there is room to send */
  LINE_BIND,
  LINE_CONNECT,
  LINE_LISTEN,
  LINE_SHUTDOWN,
  LINE_SOCKNAME,
  LINE_PEERNAME,
  LINE_GETOPT,
  LINE_SETOPT,
  LINE_IOCTL, /* of those that answer one int */
};

/* A question: this, then name, control (or an option's value), data. */
struct line_ask {
  uint32_t magic, op;
  int32_t a, b;         /* flags; level and name; how; the request */
  uint32_t name_len;    /* given, or room for it */
  uint32_t control_len; /* the same */
  uint32_t len;         /* the same */
  uint32_t has_name;    /* the answer is to tell a name */
};

/* The answer: this, then name, control, data. */
struct line_answer {
  int64_t rc; /* as the call's, or -errno */
  uint32_t name_len, control_len, len;
  int32_t msg_flags;
  uint32_t drained; /* nothing is left to be read: the byte in the line is to be taken */
};

/* What goes over the line to the relay: one byte, and with it the end of the question's own pair. */
struct line_parcel {
  struct msghdr m;
  struct iovec v;
  char byte;
  union {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
};

/** Makes p->m ready to be sent or received. It points into *p, which stays where it is. */
static inline void line_parcel_init(struct line_parcel *p) {
  memset(p, 0, sizeof(*p));
  p->v = (struct iovec){&p->byte, 1};
  p->m.msg_iov = &p->v;
  p->m.msg_iovlen = 1;
  p->m.msg_control = p->control.room;
  p->m.msg_controllen = sizeof(p->control.room);
}

/* --- the program's side (line.c), any thread --- */

extern uint32_t line_known; /* numbers of lines that came by exec; constant after the constructors */
bool line_look(int fd);
/** True if fd is the line of a socket of datagrams. */
static inline bool line_is(int fd) {
  return __builtin_expect(line_known != 0, 0) && line_look(fd);
}
/** As the calls of the same names: result or -errno. */
ssize_t line_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t line_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t line_recv(int fd, const struct iovec *iov, size_t n, int flags);
ssize_t line_send(int fd, const struct iovec *iov, size_t n, int flags);
/** LINE_BIND, LINE_CONNECT. */
int line_address(int fd, enum line_op op, const struct sockaddr *sa, socklen_t len);
/** LINE_SOCKNAME, LINE_PEERNAME. */
int line_name(int fd, enum line_op op, struct sockaddr *sa, socklen_t *len);
/** LINE_LISTEN, LINE_SHUTDOWN. */
int line_call(int fd, enum line_op op, int arg);
int line_getsockopt(int fd, int level, int name, void *val, socklen_t *len);
int line_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
/** -ENOSYS: the kernel is to answer. */
int line_ioctl(int fd, unsigned long req, void *arg);

/* --- the relay's side (line_serve.c), its one thread --- */

struct sock;

struct line_end {
  struct sock *s;
  int fd, line; /* of the socket, in the table; of the pair */
  bool gone;    /* all numbers of the program are closed */
  bool told;    /* the program was told to take the byte, and has not said yet that it did */
  uint32_t n_parked;
  int parked[LINE_PARKED];
};

/** What poll is to look at. Milliseconds until the next look, or -1. */
int line_serve_wait(const struct line_end *l, struct pollfd *sock, struct pollfd *line);
/** Answers what was asked, and says in the line whether there is something to be read. */
void line_serve(struct line_end *l, short sock_events, short line_events);

#endif
