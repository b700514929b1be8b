/*
 * Interposed sendfile and splice: bytes between a file or pipe and a shimmed socket, in steps of 64 KB.
 *
 * Called by the program, any thread. No byte is taken from a pipe before the socket has room for it, none from the
 * socket before the pipe has taken it.
 */
#include "export.h"
#include "io.h"
#include "line.h"
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#define MOVE_STEP 65536u

/* --- sendfile --- */

static ssize_t move_file_to_sock(struct sock *out, int in, off_t *at, size_t n, char *buf) {
  size_t done = 0;
  while (done < n) {
    ssize_t room = io_room(out, done ? MSG_NOSIGNAL : 0);
    if (room < 0)
      return done ? (ssize_t)done : room;
    size_t step = n - done < MOVE_STEP ? n - done : MOVE_STEP;
    if ((size_t)room < step)
      step = (size_t)room;
    ssize_t got = pread(in, buf, step, *at);
    if (got <= 0)
      return done ? (ssize_t)done : (got < 0 ? -errno : 0);
    struct iovec iov = {buf, (size_t)got};
    ssize_t sent = io_send(out, &iov, 1, MSG_DONTWAIT);
    if (sent < 0 && sent != -EAGAIN)
      return done ? (ssize_t)done : sent;
    if (sent > 0) {
      *at += sent;
      done += (size_t)sent;
    }
  }
  return (ssize_t)done;
}

ssize_t ldp_sendfile(int out, int in, off_t *off, size_t n) {
  struct sock *s = sock_get(out);
  if (!s)
    return fd_ours(in) || line_is(out) ? ldp_result_long(-EINVAL) : real.sendfile(out, in, off, n);
  char *buf = malloc(MOVE_STEP);
  ssize_t rc = -ENOMEM;
  if (buf) {
    off_t at = off ? *off : lseek(in, 0, SEEK_CUR);
    rc = at < 0 ? (off ? -EINVAL : -errno) : move_file_to_sock(s, in, &at, n > SSIZE_MAX ? SSIZE_MAX : n, buf);
    if (rc == -ESPIPE)
      rc = -EINVAL; /* sendfile(2): the input must be a file */
    if (rc > 0 && off)
      *off = at;
    else if (rc > 0 && lseek(in, at, SEEK_SET) < 0)
      rc = -errno;
  }
  free(buf);
  sock_put(s);
  return ldp_result_long(rc);
}

ssize_t ldp_sendfile64(int out, int in, off_t *off, size_t n) {
  return ldp_sendfile(out, in, off, n);
}

/* --- splice --- */

static ssize_t move_pipe_to_sock(struct sock *out, int in, size_t n, unsigned flags, char *buf) {
  int send_flags = flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0;
  ssize_t room = io_room(out, send_flags);
  if (room < 0)
    return room;
  size_t step = n < MOVE_STEP ? n : MOVE_STEP;
  if ((size_t)room < step)
    step = (size_t)room;
  if (flags & SPLICE_F_NONBLOCK) {
    struct pollfd p = {.fd = in, .events = POLLIN};
    if (real.poll(&p, 1, 0) == 0)
      return -EAGAIN;
  }
  ssize_t got = real.read(in, buf, step);
  if (got <= 0)
    return got < 0 ? -errno : 0;
  struct iovec iov = {buf, (size_t)got};
  return io_send(out, &iov, 1, flags & SPLICE_F_MORE ? MSG_MORE : 0);
}

static ssize_t move_sock_to_pipe(struct sock *in, int out, size_t n, unsigned flags, char *buf) {
  struct iovec iov = {buf, n < MOVE_STEP ? n : MOVE_STEP};
  ssize_t got = io_recv(in, &iov, 1, MSG_PEEK | (flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0));
  if (got <= 0)
    return got;
  if (flags & SPLICE_F_NONBLOCK) {
    struct pollfd p = {.fd = out, .events = POLLOUT};
    if (real.poll(&p, 1, 0) == 0)
      return -EAGAIN;
    if (got > 4096)
      got = 4096; /* PIPE_BUF: a writable pipe takes that much without waiting */
  }
  ssize_t put = real.write(out, buf, (size_t)got);
  if (put <= 0)
    return put < 0 ? -errno : 0;
  struct iovec took = {buf, (size_t)put};
  return io_recv(in, &took, 1, MSG_DONTWAIT);
}

ssize_t ldp_splice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags) {
  struct sock *from = sock_get(in), *to = sock_get(out);
  if (!from && !to && (line_is(in) || line_is(out)))
    return ldp_result_long(-EINVAL); /* a datagram that came by exec is no stream of bytes */
  if (!from && !to)
    return real.splice(in, in_off, out, out_off, n, flags);
  ssize_t rc = -ENOMEM;
  char *buf = NULL;
  if (from && to)
    rc = -EINVAL; /* splice(2): one end must be a pipe */
  else if ((from && in_off) || (to && out_off))
    rc = -ESPIPE;
  else if (n == 0)
    rc = 0;
  else if ((buf = malloc(MOVE_STEP)))
    rc = from ? move_sock_to_pipe(from, out, n, flags, buf) : move_pipe_to_sock(to, in, n, flags, buf);
  free(buf);
  if (from)
    sock_put(from);
  if (to)
    sock_put(to);
  return ldp_result_long(rc);
}
