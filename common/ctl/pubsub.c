/*
 * Events over NNG pub/sub: "topic\n" and then the body in one message. What a subscriber misses it can ask for by rpc.
 *
 * Publishers: the services' main loops. Subscribers: api and hsctl, through a pollable descriptor. One thread each.
 */
#include "ctl/pubsub.h"

#include "base/err.h"
#include "ctl/nngerr.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PUB_SENDBUF 1024 /* messages; the default of NNG drops bursts (PLATFORM.md) */

struct pub {
  nng_socket sock;
};

struct sub {
  nng_socket sock;
  int fd;
};

int pub_new(struct pub **out, const char *url) {
  struct pub *p = calloc(1, sizeof *p);
  if (p == NULL)
    return -ENOMEM;
  int rc = nngerr_errno(nng_pub0_open(&p->sock));
  if (rc < 0) {
    free(p);
    return rc;
  }
  rc = nngerr_errno(nng_socket_set_int(p->sock, NNG_OPT_SENDBUF, PUB_SENDBUF));
  if (rc == 0) {
    mode_t old = umask(0177);
    rc = nngerr_errno(nng_listen(p->sock, url, NULL, 0));
    umask(old);
  }
  if (rc < 0) {
    pub_free(p);
    return rc;
  }
  *out = p;
  return 0;
}

int pub_send(struct pub *p, const char *topic, const void *body, size_t len) {
  nng_msg *m;
  if (strchr(topic, '\n') != NULL)
    return -EINVAL;
  int rc = nngerr_errno(nng_msg_alloc(&m, 0));
  if (rc < 0)
    return rc;
  rc = nngerr_errno(nng_msg_append(m, topic, strlen(topic)));
  if (rc == 0)
    rc = nngerr_errno(nng_msg_append(m, "\n", 1));
  if (rc == 0 && len > 0)
    rc = nngerr_errno(nng_msg_append(m, body, len));
  if (rc == 0)
    rc = nngerr_errno(nng_sendmsg(p->sock, m, NNG_FLAG_NONBLOCK));
  if (rc < 0)
    nng_msg_free(m);
  return rc;
}

void pub_free(struct pub *p) {
  if (p == NULL)
    return;
  nng_close(p->sock);
  free(p);
}

int sub_new(struct sub **out, const char *url, const char *topic_prefix) {
  struct sub *s = calloc(1, sizeof *s);
  if (s == NULL)
    return -ENOMEM;
  int rc = nngerr_errno(nng_sub0_open(&s->sock));
  if (rc < 0) {
    free(s);
    return rc;
  }
  rc = nngerr_errno(nng_socket_set(s->sock, NNG_OPT_SUB_SUBSCRIBE, topic_prefix, strlen(topic_prefix)));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_set_ms(s->sock, NNG_OPT_RECONNMINT, 20));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_set_ms(s->sock, NNG_OPT_RECONNMAXT, 200));
  if (rc == 0)
    rc = nngerr_errno(nng_socket_get_int(s->sock, NNG_OPT_RECVFD, &s->fd));
  if (rc == 0)
    rc = nngerr_errno(nng_dial(s->sock, url, NULL, NNG_FLAG_NONBLOCK));
  if (rc < 0) {
    sub_free(s);
    return rc;
  }
  *out = s;
  return 0;
}

int sub_fd(const struct sub *s) {
  return s->fd;
}

int sub_recv(struct sub *s, char *topic, size_t topic_cap, void *body, size_t cap) {
  nng_msg *m;
  int rc = nngerr_errno(nng_recvmsg(s->sock, &m, NNG_FLAG_NONBLOCK));
  if (rc < 0)
    return rc;
  const char *p = nng_msg_body(m);
  size_t len = nng_msg_len(m);
  const char *nl = memchr(p, '\n', len);
  if (nl == NULL) {
    rc = -EPROTO;
  } else if ((size_t)(nl - p) >= topic_cap || len - (size_t)(nl - p) - 1 > cap) {
    rc = -EMSGSIZE;
  } else {
    size_t n_topic = (size_t)(nl - p), n_body = len - n_topic - 1;
    memcpy(topic, p, n_topic);
    topic[n_topic] = '\0';
    if (n_body > 0)
      memcpy(body, nl + 1, n_body);
    rc = (int)n_body;
  }
  nng_msg_free(m);
  return rc;
}

void sub_free(struct sub *s) {
  if (s == NULL)
    return;
  nng_close(s->sock);
  free(s);
}
