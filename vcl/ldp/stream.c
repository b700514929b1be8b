/*
 * stdio over a shimmed socket: fdopen gives a stream of our own making, since libc's reads and writes behind the back
 * of the interposed functions. Also dprintf. Called by the program, any thread.
 *
 * fileno of such a stream is looked up in a list; fclose ends in stream_close, which closes the descriptor.
 */
#include "export.h"
#include "io.h"
#include "number.h"
#include "real.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct stream {
  FILE *f;
  int fd;
  struct stream *next;
};

static pthread_mutex_t stream_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct stream *stream_list;
static int stream_count; /* atomic: the list is looked at only if there is something in it */

static ssize_t stream_read(void *cookie, char *buf, size_t n) {
  struct sock *sock = sock_get(((struct stream *)cookie)->fd);
  struct iovec iov = {buf, n};
  if (!sock)
    return ldp_result_long(-EBADF);
  ssize_t rc = n > 0 ? io_recv(sock, &iov, 1, 0) : 0;
  sock_put(sock);
  return ldp_result_long(rc);
}

/* All of it, if the socket blocks. Bytes, or -1 with errno when there are none. */
static ssize_t stream_put(int fd, const char *buf, size_t n) {
  struct sock *sock = sock_get(fd);
  struct iovec iov = {(void *)(uintptr_t)buf, n};
  if (!sock)
    return ldp_result_long(-EBADF);
  ssize_t rc = io_send(sock, &iov, 1, 0);
  sock_put(sock);
  return ldp_result_long(rc);
}

static ssize_t stream_write(void *cookie, const char *buf, size_t n) {
  ssize_t rc = stream_put(((struct stream *)cookie)->fd, buf, n);
  return rc < 0 ? 0 : rc; /* fopencookie: 0 or a short count is an error */
}

static int stream_close(void *cookie) {
  struct stream *s = cookie;
  pthread_mutex_lock(&stream_mutex);
  for (struct stream **at = &stream_list; *at; at = &(*at)->next) {
    if (*at == s) {
      *at = s->next;
      break;
    }
  }
  pthread_mutex_unlock(&stream_mutex);
  __atomic_sub_fetch(&stream_count, 1, __ATOMIC_RELAXED);
  int rc = number_close(s->fd);
  free(s);
  return rc;
}

FILE *ldp_fdopen(int fd, const char *mode) {
  static const cookie_io_functions_t calls = {stream_read, stream_write, NULL, stream_close};
  struct sock *sock = sock_get(fd);
  if (!sock)
    return real.fdopen(fd, mode);
  sock_put(sock);
  struct stream *s = calloc(1, sizeof(*s));
  if (!s)
    return NULL;
  s->fd = fd;
  s->f = fopencookie(s, mode, calls);
  if (!s->f) {
    free(s);
    return NULL;
  }
  pthread_mutex_lock(&stream_mutex);
  s->next = stream_list;
  stream_list = s;
  pthread_mutex_unlock(&stream_mutex);
  __atomic_add_fetch(&stream_count, 1, __ATOMIC_RELAXED);
  return s->f;
}

int ldp_fileno(FILE *f) {
  int fd = -1;
  if (__atomic_load_n(&stream_count, __ATOMIC_RELAXED) == 0)
    return real.fileno(f);
  pthread_mutex_lock(&stream_mutex);
  for (struct stream *s = stream_list; s; s = s->next)
    if (s->f == f)
      fd = s->fd;
  pthread_mutex_unlock(&stream_mutex);
  return fd >= 0 ? fd : real.fileno(f);
}

int ldp_fileno_unlocked(FILE *f) {
  return ldp_fileno(f);
}

int ldp_vdprintf(int fd, const char *fmt, va_list ap) {
  char *text = NULL;
  if (!fd_ours(fd))
    return real.vdprintf(fd, fmt, ap);
  int n = vasprintf(&text, fmt, ap);
  if (n > 0 && stream_put(fd, text, (size_t)n) < 0)
    n = -1;
  free(text);
  return n;
}

int ldp_dprintf(int fd, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int rc = ldp_vdprintf(fd, fmt, ap);
  va_end(ap);
  return rc;
}

int ldp___dprintf_chk(int fd, int flag, const char *fmt, ...) {
  va_list ap;
  (void)flag;
  va_start(ap, fmt);
  int rc = ldp_vdprintf(fd, fmt, ap);
  va_end(ap);
  return rc;
}

int ldp___vdprintf_chk(int fd, int flag, const char *fmt, va_list ap) {
  (void)flag;
  return ldp_vdprintf(fd, fmt, ap);
}
