/*
 * Channel over attach_send/attach_recv: drains what has come in bounded bursts, queues what can't go out yet.
 *
 * Called by custody.c and by the broker on the loop's thread. Messages keep their order: while anything is queued,
 * everything is.
 */
#include "svc/chan.h"

#include "base/err.h"
#include "base/list.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CHAN_BURST 64 /* messages taken in per turn of the loop */

struct chan_out {
  struct list link;
  size_t len;
  int fds[ATTACH_FDS_MAX];
  int n_fds;
  uint8_t buf[];
};

struct chan {
  struct loop *loop;
  int fd;
  int max_fds;
  size_t max_queue;
  size_t queued;
  struct list out;
  const struct chan_ops *ops;
  void *ctx;
  int busy;   /* inside chan_on_event */
  int freed;  /* chan_free was called inside it */
  int closed; /* ops->closed was called */
};

static void chan_out_free(struct chan *c, struct chan_out *o) {
  for (int i = 0; i < o->n_fds; i++)
    close(o->fds[i]);
  c->queued -= o->len;
  list_del(&o->link);
  free(o);
}

static void chan_drop_queue(struct chan *c) {
  struct list *link;
  while ((link = list_first(&c->out)) != NULL)
    chan_out_free(c, container_of(link, struct chan_out, link));
}

static void chan_close(struct chan *c, int why) {
  if (c->closed || c->freed)
    return;
  c->closed = 1;
  loop_del_fd(c->loop, c->fd);
  chan_drop_queue(c);
  c->ops->closed(c->ctx, why);
}

/** Sends what waits. 0, or -errno other than -EAGAIN. */
static int chan_flush(struct chan *c) {
  struct list *link;
  while ((link = list_first(&c->out)) != NULL) {
    struct chan_out *o = container_of(link, struct chan_out, link);
    int rc = attach_send(c->fd, o->buf, o->len, o->fds, o->n_fds);
    if (rc == -EAGAIN || rc == -ETOOMANYREFS)
      return 0;
    if (rc < 0)
      return rc;
    chan_out_free(c, o);
  }
  return loop_mod_fd(c->loop, c->fd, EPOLLIN);
}

static void chan_drain(struct chan *c) {
  uint8_t buf[ATTACH_MSG_MAX];
  for (int i = 0; i < CHAN_BURST && !c->freed && !c->closed; i++) {
    int fds[ATTACH_FDS_MAX], n_fds = 0;
    ssize_t n = attach_recv(c->fd, buf, sizeof buf, fds, c->max_fds, &n_fds);
    if (n == -EAGAIN)
      return;
    if (n <= 0) {
      chan_close(c, (int)n);
      return;
    }
    c->ops->msg(c->ctx, buf, (size_t)n, fds, n_fds);
  }
}

static void chan_on_event(void *ctx, int fd, uint32_t events) {
  struct chan *c = ctx;
  (void)fd;
  c->busy = 1;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
    chan_drain(c);
  if ((events & EPOLLOUT) != 0 && !c->freed && !c->closed) {
    int rc = chan_flush(c);
    if (rc < 0)
      chan_close(c, rc);
  }
  c->busy = 0;
  if (c->freed)
    free(c);
}

int chan_new(struct chan **out, struct loop *l, int fd, int max_fds, size_t max_queue, const struct chan_ops *ops,
             void *ctx) {
  struct chan *c = calloc(1, sizeof *c);
  if (c == NULL)
    return -ENOMEM;
  *c = (struct chan){.loop = l, .fd = fd, .max_fds = max_fds, .max_queue = max_queue, .ops = ops, .ctx = ctx};
  list_init(&c->out);
  int rc = loop_add_fd(l, fd, EPOLLIN, chan_on_event, c);
  if (rc < 0) {
    free(c);
    return rc;
  }
  *out = c;
  return 0;
}

void chan_free(struct chan *c) {
  if (c == NULL || c->freed)
    return;
  loop_del_fd(c->loop, c->fd);
  chan_drop_queue(c);
  close(c->fd);
  if (c->busy)
    c->freed = 1;
  else
    free(c);
}

static int chan_queue(struct chan *c, const void *buf, size_t len, const int *fds, int n_fds) {
  if (len > c->max_queue - c->queued)
    return -ENOBUFS;
  struct chan_out *o = malloc(sizeof *o + len);
  if (o == NULL)
    return -ENOMEM;
  memset(o, 0, sizeof *o);
  memcpy(o->buf, buf, len);
  o->len = len;
  for (; o->n_fds < n_fds; o->n_fds++) {
    o->fds[o->n_fds] = fcntl(fds[o->n_fds], F_DUPFD_CLOEXEC, 3);
    if (o->fds[o->n_fds] < 0)
      goto out;
  }
  c->queued += len;
  list_add_tail(&c->out, &o->link);
  return loop_mod_fd(c->loop, c->fd, EPOLLIN | EPOLLOUT);
out:;
  int rc = err_last();
  while (o->n_fds > 0)
    close(o->fds[--o->n_fds]);
  free(o);
  return rc;
}

int chan_send(struct chan *c, const void *buf, size_t len, const int *fds, int n_fds) {
  if (c->closed || c->freed)
    return -EPIPE;
  if (len == 0 || len > ATTACH_MSG_MAX || n_fds < 0 || n_fds > ATTACH_FDS_MAX)
    return -EMSGSIZE;
  if (list_empty(&c->out)) {
    int rc = attach_send(c->fd, buf, len, fds, n_fds);
    if (rc != -EAGAIN && rc != -ETOOMANYREFS)
      return rc;
  }
  return chan_queue(c, buf, len, fds, n_fds);
}

size_t chan_queued(const struct chan *c) {
  return c->queued;
}

int chan_fd(const struct chan *c) {
  return c->fd;
}
