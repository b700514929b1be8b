/*
 * Carries bytes between connections of the stack and the pairs' ends of an executed program (relay.h).
 *
 * relay_run is a process of its own, a copy of the one that executed the program; relay_name is called by
 * getsockname and getpeername of that program, any thread.
 *
 * A connection that the program merely happens to have inherited (not as standard input or output, and others hold it
 * too) is not read before the program writes to it or is its only holder: the bytes may be meant for another process.
 */
#include "relay.h"

#include "app.h"
#include "epoll.h"
#include "export.h"
#include "fd.h"
#include "heir.h"
#include "io.h"
#include "line.h"
#include "number.h"
#include "poll_any.h"
#include "real.h"
#include "share.h"
#include "sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RELAY_ROOM    65536
#define RELAY_LOOK_MS 50 /* whether a connection has become ours alone */

struct relay_buf {
  size_t at, n;
  char b[RELAY_ROOM];
};

struct relay {
  struct relay_end end;
  struct line_end dgram;
  struct sock *s;
  bool active;    /* the connection is read */
  bool up_over;   /* the program writes no more */
  bool down_over; /* the peer writes no more */
  bool gone;      /* the program has closed its end */
  bool reset;     /* … with bytes unread */
  bool done;
  struct relay_buf up, down;
};

/* --- bytes --- */

static bool relay_again(ssize_t n) {
  return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* A plain send or recv in here would be the kernel's. */
static ssize_t relay_conn_send(struct relay *r, char *b, size_t n) {
  struct iovec v = {.iov_base = b, .iov_len = n};
  return ldp_result_long(io_send(r->s, &v, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static ssize_t relay_conn_recv(struct relay *r, char *b, size_t n) {
  struct iovec v = {.iov_base = b, .iov_len = n};
  return ldp_result_long(io_recv(r->s, &v, 1, MSG_DONTWAIT));
}

/* From the program to the connection. */
static void relay_up(struct relay *r) {
  struct relay_buf *b = &r->up;
  if (b->n == 0 && !r->up_over) {
    ssize_t n = real.recv(r->end.line, b->b, RELAY_ROOM, MSG_DONTWAIT);
    if (n > 0) {
      b->at = 0;
      b->n = (size_t)n;
      r->active = true;
    } else if (!relay_again(n)) {
      r->reset = n < 0;
      r->up_over = true;
      if (!r->gone && n == 0)
        (void)vppcom_session_shutdown(r->s->h, SHUT_WR);
    }
  }
  if (b->n == 0)
    return;
  ssize_t n = relay_conn_send(r, b->b + b->at, b->n);
  if (n > 0) {
    b->at += (size_t)n;
    b->n -= (size_t)n;
  } else if (!relay_again(n)) {
    r->done = true; /* the program learns it by the end of its pair */
  }
}

/* From the connection to the program. */
static void relay_down(struct relay *r) {
  struct relay_buf *b = &r->down;
  if (r->gone || !r->active)
    return;
  if (b->n == 0 && !r->down_over) {
    ssize_t n = relay_conn_recv(r, b->b, RELAY_ROOM);
    if (n > 0) {
      b->at = 0;
      b->n = (size_t)n;
    } else if (n == 0) {
      r->down_over = true;
      (void)real.shutdown(r->end.line, SHUT_WR);
    } else if (!relay_again(n)) {
      r->done = true;
    }
  }
  if (b->n == 0)
    return;
  ssize_t n = real.send(r->end.line, b->b + b->at, b->n, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n > 0) {
    b->at += (size_t)n;
    b->n -= (size_t)n;
  } else if (!relay_again(n)) {
    r->gone = true;
  }
}

static void relay_drop(struct relay *r) {
  sock_put(r->s);
  (void)number_close(r->end.fd);
  real.close(r->end.line);
  r->done = true;
}

static void relay_step(struct relay *r, short conn_events, short line_events) {
  if (r->end.dgram) {
    line_serve(&r->dgram, conn_events, line_events);
    if (r->dgram.gone)
      relay_drop(r);
    return;
  }
  if (line_events & POLLHUP)
    r->gone = true;
  if (r->end.listens) {
    if (r->gone)
      relay_drop(r);
    return;
  }
  if (!r->active)
    r->active = r->end.eager || vcl_session_alone(r->s->h);
  relay_up(r);
  if (!r->done)
    relay_down(r);
  bool sent = r->up_over && r->up.n == 0;
  if (!r->done && !(sent && (r->gone || (r->down_over && r->down.n == 0))))
    return;
  struct linger hard = {.l_onoff = 1};
  if (r->reset) /* as on TCP when a program closes with bytes unread */
    (void)vcl_opt_set(r->s->h, VCL_OPT_LINGER, &hard, sizeof(hard));
  relay_drop(r);
}

static int relay_wait(struct relay *r, struct pollfd *p, int n) {
  int timeout = -1, left = 0;
  nfds_t all = (nfds_t)n * 2;
  for (int i = 0; i < n; i++, r++) {
    struct pollfd *conn = &p[2 * i], *line = &p[2 * i + 1];
    *conn = *line = (struct pollfd){.fd = -1};
    if (r->done)
      continue;
    left++;
    if (r->end.listens) {
      line->fd = r->end.line; /* POLLHUP */
      continue;
    }
    if (r->end.dgram) {
      int look = line_serve_wait(&r->dgram, conn, line);
      timeout = look >= 0 ? look : timeout;
      continue;
    }
    bool reads = r->active && !r->gone && !r->down_over && r->down.n == 0;
    conn->events = (short)((reads ? POLLIN : 0) | (r->up.n != 0 ? POLLOUT : 0));
    conn->fd = conn->events ? r->end.fd : -1;
    line->events = (short)((r->up.n == 0 && !r->up_over ? POLLIN : 0) | (r->down.n != 0 && !r->gone ? POLLOUT : 0));
    line->fd = line->events ? r->end.line : -1;
    if (!r->active)
      timeout = RELAY_LOOK_MS;
  }
  int64_t deadline = timeout < 0 ? INT64_MAX : epoll_now_ns() + (int64_t)timeout * 1000000;
  if (left != 0 && poll_any_ours(p, all))
    (void)poll_any(p, all, deadline, NULL);
  else if (left != 0)
    (void)real.poll(p, all, timeout);
  return left;
}

/* --- the process --- */

/* All that is neither the library's nor a relayed connection is closed here too: what the program that was executed
 * holds must end with it, and what it does not hold ended with exec. */
static void relay_close_rest(const struct relay_end *ends, int n) {
  unsigned at = 0;
  for (;;) {
    int fd = fd_next(at, ~0u);
    if (fd < 0) {
      (void)real.close_range(at, ~0u, 0);
      return;
    }
    if ((unsigned)fd > at)
      (void)real.close_range(at, (unsigned)fd - 1, 0);
    bool keep = fd_is_inner(fd);
    for (int i = 0; i < n; i++)
      keep = keep || ends[i].fd == fd;
    if (!keep)
      (void)number_close(fd);
    at = (unsigned)fd + 1;
  }
}

static void relay_settle(void) {
  struct sigaction dfl = {.sa_handler = SIG_DFL};
  sigset_t none;
  for (int sig = 1; sig < NSIG; sig++)
    (void)sigaction(sig, &dfl, NULL);
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, NULL);
  (void)setsid();
  (void)!chdir("/");
  (void)prctl(PR_SET_NAME, "ldp-relay");
}

void relay_run(struct relay_end *ends, int n, int go, bool apart) {
  char byte;
  ssize_t rc;
  while ((rc = real.read(go, &byte, 1)) < 0 && errno == EINTR)
    ;
  struct relay *r = rc == 0 ? calloc((size_t)n, sizeof(*r)) : NULL;
  if (r) {
    relay_settle();
    relay_close_rest(ends, n);
    for (int i = 0; i < n; i++) {
      fd_clear_inner(ends[i].line);
      r[i].end = ends[i];
      r[i].s = sock_get(ends[i].fd);
      r[i].dgram = (struct line_end){.s = r[i].s, .fd = ends[i].fd, .line = ends[i].line};
      r[i].done = r[i].s == NULL;
      if (r[i].s && r[i].end.dgram) /* it can't become a kernel socket any more */
        sock_raise(r[i].s, SOCK_F_SPOKEN);
    }
    app_say(2, "relays %d sockets for the program that was executed", n);
    struct pollfd p[2 * RELAY_MAX];
    while (relay_wait(r, p, n) != 0)
      for (int i = 0; i < n; i++)
        if (!r[i].done)
          relay_step(&r[i], p[2 * i].revents, p[2 * i + 1].revents);
    ldp__exit(0);
  }
  if (apart)
    ldp__exit(0);
  vcl_kin_forget(); /* the program was not executed: its process goes on with everything, once it sees our end */
  for (;;)
    syscall(SYS_exit_group, 0);
}

/* --- names --- */

enum relay_kind { RELAY_CONN = 0, RELAY_LISTENER = 1, RELAY_DGRAM = 2 };

struct relay_known {
  ino_t ino;
  uint64_t kind;               /* enum relay_kind */
  struct sockaddr_in6 name[2]; /* own, peer's; or sockaddr_in */
};

#define RELAY_KNOWN (2 * RELAY_MAX) /* more that came by earlier programs is forgotten */

static struct relay_known relay_known[RELAY_KNOWN];
static int relay_n_known;

static int relay_hex(char *to, const void *from, unsigned n) {
  static const char digits[] = "0123456789abcdef";
  const unsigned char *p = from;
  for (unsigned i = 0; i < n; i++) {
    *to++ = digits[p[i] >> 4];
    *to++ = digits[p[i] & 15];
  }
  return (int)n * 2;
}

static const char *relay_unhex(void *to, const char *from, unsigned n) {
  unsigned char *p = to;
  for (unsigned i = 0; i < n; i++, from += 2) {
    unsigned v;
    if (sscanf(from, "%2x", &v) != 1)
      return NULL;
    p[i] = (unsigned char)v;
  }
  return from;
}

int relay_tell(char *text, unsigned room, int line, const struct relay_end *e) {
  struct relay_known k;
  struct stat st;
  socklen_t len[2] = {sizeof(k.name[0]), sizeof(k.name[1])};
  memset(&k, 0, sizeof(k));
  if (fstat(line, &st) < 0 || ldp_getsockname(e->fd, (struct sockaddr *)&k.name[0], &len[0]) < 0 ||
      (!e->listens && !e->dgram && ldp_getpeername(e->fd, (struct sockaddr *)&k.name[1], &len[1]) < 0))
    return -errno;
  k.ino = st.st_ino;
  k.kind = e->dgram ? RELAY_DGRAM : e->listens ? RELAY_LISTENER : RELAY_CONN;
  unsigned at = (unsigned)strlen(text);
  if (at + 2 * sizeof(k) + 1 > room)
    return -ENOSPC;
  at += (unsigned)relay_hex(text + at, &k, sizeof(k));
  text[at] = '\0';
  return 0;
}

unsigned relay_room(int n) {
  return (unsigned)(sizeof(RELAY_ENV "=") + 2 * sizeof(struct relay_known) * (size_t)(n + relay_n_known));
}

void relay_begin(char *text, unsigned room) {
  unsigned at = sizeof(RELAY_ENV "=") - 1;
  memcpy(text, RELAY_ENV "=", sizeof(RELAY_ENV "="));
  for (int i = 0; i < relay_n_known && at + 2 * sizeof(relay_known[i]) + 1 <= room; i++)
    at += (unsigned)relay_hex(text + at, &relay_known[i], sizeof(relay_known[i]));
  text[at] = '\0';
}

__attribute__((constructor(105))) static void relay_constructor(void) {
  const char *text = getenv(RELAY_ENV);
  while (text && relay_n_known < RELAY_KNOWN && strlen(text) >= 2 * sizeof(struct relay_known)) {
    text = relay_unhex(&relay_known[relay_n_known], text, sizeof(struct relay_known));
    relay_n_known += text != NULL;
  }
  for (int i = 0; i < relay_n_known; i++) {
    if (relay_known[i].kind == RELAY_LISTENER)
      (void)heir_take(relay_known[i].ino);
    line_known += relay_known[i].kind == RELAY_DGRAM;
  }
}

/* What fd stands for, or NULL: none of these. */
static const struct relay_known *relay_find(int fd) {
  struct stat st;
  if (relay_n_known == 0 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
    return NULL;
  for (int i = 0; i < relay_n_known; i++)
    if (relay_known[i].ino == st.st_ino)
      return &relay_known[i];
  return NULL;
}

bool relay_is_dgram(int fd) {
  const struct relay_known *k = relay_find(fd);
  return k && k->kind == RELAY_DGRAM;
}

int relay_option(int fd, int level, int name, int *value) {
  const struct relay_known *k =
      level == SOL_SOCKET && (name == SO_DOMAIN || name == SO_PROTOCOL) ? relay_find(fd) : NULL;
  if (!k || k->kind == RELAY_DGRAM)
    return -ENOENT;
  *value = name == SO_PROTOCOL ? IPPROTO_TCP : k->name[0].sin6_family;
  return 0;
}

int relay_name(int fd, bool peer, struct sockaddr *sa, socklen_t *len) {
  const struct relay_known *k = relay_find(fd);
  if (!k || (peer && k->kind == RELAY_LISTENER))
    return -ENOENT;
  const struct sockaddr_in6 *name = &k->name[peer];
  socklen_t size = name->sin6_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
  memcpy(sa, name, *len < size ? *len : size);
  *len = size;
  return 0;
}
