/*
 * Inheriting listeners over exec (heir.h). heir_tell: in the thread that executes; heir_take: in the constructor of
 * relay.c, one thread.
 *
 * The line holds one struct heir_line. The relay keeps the old share until the line has hung up, so that there is
 * no moment without a listener; then it closes, and what had been offered to it comes to the new share.
 */
#include "heir.h"

#include "app.h"
#include "fork.h"
#include "real.h"
#include "vcl_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEIR_MAGIC 0x68656933u
#define HEIR_FDS   1024 /* numbers that are looked at for more of the same */

struct heir_line {
  uint32_t magic, flags; /* SOCK_F_NONBLOCK */
  int32_t domain;
  struct vcl_heir heir;
  struct opt_pass opts;
};

int heir_tell(const struct sock *s, int line) {
  struct heir_line l;
  memset(&l, 0, sizeof(l));
  l.magic = HEIR_MAGIC;
  l.flags = sock_flags(s) & SOCK_F_NONBLOCK;
  l.domain = s->domain;
  opt_pass(s, &l.opts);
  int rc = vcl_heir_tell(s->h, &l.heir);
  if (rc < 0)
    return rc;
  ssize_t n = real.send(line, &l, sizeof(l), MSG_DONTWAIT | MSG_NOSIGNAL);
  return n < 0 ? -errno : n == (ssize_t)sizeof(l) ? 0 : -EPIPE;
}

static int heir_sock(const struct heir_line *l, struct sock **out) {
  vcl_heir_join(l->heir.token);
  int rc = app_attach();
  if (rc <= 0)
    return rc < 0 ? rc : -ENETDOWN;
  int h = vcl_heir_listen(&l->heir);
  if (h < 0)
    return h;
  *out = sock_new_taken(l->domain, (uint32_t)h, l->flags | SOCK_F_BOUND | SOCK_F_LISTENING);
  if (*out) {
    opt_take(*out, &l->opts);
    return 0;
  }
  (void)vppcom_session_close((uint32_t)h);
  return -ENOMEM;
}

/* One number of it. */
static int heir_install(int fd, struct sock *s) {
  int seat = fd_seat();
  if (seat < 0)
    return seat;
  int rc = real.dup3(seat, fd, O_CLOEXEC) < 0 ? -errno : 0;
  real.close(seat);
  if (rc < 0)
    return rc;
  fd_more(&s->file);
  rc = fd_set_file(fd, &s->file, 0);
  if (rc < 0)
    fd_put(&s->file);
  return rc;
}

static bool heir_is(int fd, ino_t ino) {
  struct stat st;
  return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == ino && !fd_ours(fd);
}

/* What the line says; it stays in there for another try. */
static int heir_read(int fd, struct heir_line *l) {
  ssize_t n = real.recv(fd, l, sizeof(*l), MSG_DONTWAIT | MSG_PEEK);
  return n == (ssize_t)sizeof(*l) && l->magic == HEIR_MAGIC ? 0 : -ENOENT;
}

int heir_take(ino_t ino) {
  struct heir_line l;
  struct sock *s = NULL;
  int fd = 0;
  while (fd < HEIR_FDS && !heir_is(fd, ino))
    fd++;
  if (fd == HEIR_FDS)
    return -ENOENT;
  int rc = heir_read(fd, &l);
  rc = rc < 0 ? rc : heir_sock(&l, &s);
  if (rc < 0) {
    app_say(1, "fd %d: a listener that came by exec is lost: %s", fd, strerror(-rc));
    return rc;
  }
  fork_count_listener(1);
  app_say(2, "fd %d: a listener on the stack came by exec", fd);
  for (; fd < HEIR_FDS && rc == 0; fd++)
    if (heir_is(fd, ino))
      rc = heir_install(fd, s);
  fd_put(&s->file);
  return rc;
}
