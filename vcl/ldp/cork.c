/*
 * Corked datagrams (cork.h). Called by udp.c and sock.c, any thread; the socket's lock guards what is held. Nothing of
 * it is in shared memory before it is complete.
 */
#include "cork.h"

#include "udp.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CORK_MAX4    65507u /* RFC 768, RFC 791: what one IPv4 packet holds */
#define CORK_MAX6    65527u /* RFC 8200 */
#define CORK_CONTROL 256u   /* bytes of ancillary data */

struct cork {
  struct sockaddr_storage to;
  socklen_t to_len;
  size_t control_len, len;
  _Alignas(struct cmsghdr) char control[CORK_CONTROL];
  char bytes[CORK_MAX6];
};

bool cork_takes(const struct sock *s, int flags) {
  return (flags & MSG_MORE) || __atomic_load_n(&s->dgram.corked, __ATOMIC_RELAXED) ||
         __atomic_load_n(&s->dgram.held, __ATOMIC_RELAXED) != NULL;
}

/* The first part says where to and how. */
static int cork_begin(struct sock *s, const struct msghdr *m, struct cork **out) {
  if (m->msg_namelen > sizeof((*out)->to) || m->msg_controllen > CORK_CONTROL)
    return -EINVAL;
  if (!(m->msg_name && m->msg_namelen > 0) && !(sock_flags(s) & SOCK_F_CONNECTED))
    return -EDESTADDRREQ;
  struct cork *c = malloc(sizeof(*c));
  if (!c)
    return -ENOBUFS;
  c->len = 0;
  c->to_len = m->msg_name ? m->msg_namelen : 0;
  c->control_len = m->msg_control ? m->msg_controllen : 0;
  if (c->to_len > 0)
    memcpy(&c->to, m->msg_name, c->to_len);
  if (c->control_len > 0)
    memcpy(c->control, m->msg_control, c->control_len);
  *out = c;
  return 0;
}

static ssize_t cork_add(const struct sock *s, struct cork *c, const struct msghdr *m) {
  size_t before = c->len, most = s->domain == AF_INET6 ? CORK_MAX6 : CORK_MAX4;
  for (size_t i = 0; i < m->msg_iovlen; i++) {
    if (m->msg_iov[i].iov_len > most - c->len)
      return -EMSGSIZE;
    memcpy(c->bytes + c->len, m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
    c->len += m->msg_iov[i].iov_len;
  }
  return (ssize_t)(c->len - before);
}

static ssize_t cork_go(struct sock *s, int fd, struct cork *c, int flags) {
  struct iovec v = {.iov_base = c->bytes, .iov_len = c->len};
  struct msghdr m = {.msg_name = c->to_len > 0 ? &c->to : NULL,
                     .msg_namelen = c->to_len,
                     .msg_iov = &v,
                     .msg_iovlen = 1,
                     .msg_control = c->control_len > 0 ? c->control : NULL,
                     .msg_controllen = c->control_len};
  ssize_t rc = udp_sendmsg_whole(s, fd, &m, flags & ~MSG_MORE);
  free(c);
  return rc;
}

ssize_t cork_sendmsg(struct sock *s, int fd, const struct msghdr *m, int flags) {
  if (m->msg_iovlen > IOV_MAX)
    return -EMSGSIZE;
  pthread_mutex_lock(&s->lock);
  struct cork *c = s->dgram.held;
  ssize_t added = c ? 0 : cork_begin(s, m, &c);
  if (added < 0) {
    pthread_mutex_unlock(&s->lock);
    return added;
  }
  added = cork_add(s, c, m);
  bool goes = !(flags & MSG_MORE) && !s->dgram.corked;
  __atomic_store_n(&s->dgram.held, added < 0 || goes ? NULL : c, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&s->lock);
  if (added < 0)
    free(c);
  if (added < 0 || !goes)
    return added;
  ssize_t rc = cork_go(s, fd, c, flags);
  return rc < 0 ? rc : added;
}

void cork_set(struct sock *s, bool on) {
  struct cork *c = s->dgram.held;
  __atomic_store_n(&s->dgram.corked, on, __ATOMIC_RELAXED);
  if (on || !c)
    return;
  __atomic_store_n(&s->dgram.held, NULL, __ATOMIC_RELAXED);
  (void)cork_go(s, -1, c, MSG_DONTWAIT);
}

void cork_drop(struct sock *s) {
  free(s->dgram.held);
  s->dgram.held = NULL;
  s->dgram.corked = 0;
}
