/*
 * Attach server: connections of app processes, one handler per message in a table, replies, and the requests that wait
 * for the engine.
 *
 * Main thread. What an app says is hostile until checked; descriptors from an app are never taken. The sockets are
 * bound at start, so that a connect waits in their queue, and served once the broker has its memory back
 * (attach_srv_open).
 */
#include "broker.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONN_QUEUE    (256u * 1024u) /* bytes of replies that an app may leave unread */
#define CONN_WAIT_MAX 256u           /* requests of one connection that wait at once */
#define CONN_SPARE    64u            /* connections beyond one per process */
#define CONN_TICK_US  1000000u
#define PEND_TICK_US  100000u

/* --- the table --- */

typedef int (*attach_handler)(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text);

static int on_hello(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return hello_on(b, c, r->seq, r->hello, text);
}
static int on_add_worker(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return workers_on_add(b, c, r->seq, r->add_worker, text);
}
static int on_mapped(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return workers_on_mapped(b, c, r->seq, r->worker_mapped->worker_id, text);
}
static int on_remove(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return workers_on_remove(b, c, r->seq, r->remove_worker->worker_id, text);
}
static int on_bind(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return listen_on_bind(b, c, r->seq, r->bind, text);
}
static int on_listen(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return listen_on_listen(b, c, r->seq, r->listen, text);
}
static int on_unbind(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return listen_on_unbind(b, c, r->seq, r->unbind, text);
}
static int on_pair(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return pair_on_pair(b, c, r->seq, r->pair, text);
}
static int on_pair_gone(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return pair_on_gone(b, c, r->seq, r->pair_gone, text);
}
static int on_add_part(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return parts_on_add(b, c, r->seq, r->add_part, text);
}
static int on_part_mapped(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return parts_on_mapped(b, c, r->seq, r->part_mapped, text);
}
static int on_drop_part(struct broker *b, struct conn *c, const Hoststack__Attach__Request *r, const char **text) {
  return parts_on_drop(b, c, r->seq, r->drop_part, text);
}

static const attach_handler attach_handlers[] = {
    [HOSTSTACK__ATTACH__REQUEST__BODY_HELLO] = on_hello,
    [HOSTSTACK__ATTACH__REQUEST__BODY_ADD_WORKER] = on_add_worker,
    [HOSTSTACK__ATTACH__REQUEST__BODY_WORKER_MAPPED] = on_mapped,
    [HOSTSTACK__ATTACH__REQUEST__BODY_REMOVE_WORKER] = on_remove,
    [HOSTSTACK__ATTACH__REQUEST__BODY_BIND] = on_bind,
    [HOSTSTACK__ATTACH__REQUEST__BODY_LISTEN] = on_listen,
    [HOSTSTACK__ATTACH__REQUEST__BODY_UNBIND] = on_unbind,
    [HOSTSTACK__ATTACH__REQUEST__BODY_PAIR] = on_pair,
    [HOSTSTACK__ATTACH__REQUEST__BODY_PAIR_GONE] = on_pair_gone,
    [HOSTSTACK__ATTACH__REQUEST__BODY_ADD_PART] = on_add_part,
    [HOSTSTACK__ATTACH__REQUEST__BODY_PART_MAPPED] = on_part_mapped,
    [HOSTSTACK__ATTACH__REQUEST__BODY_DROP_PART] = on_drop_part,
};

static void conn_close(struct conn *c) {
  struct broker *b = c->b;
  pend_drop(b, c);
  if (c->proc != REGISTRY_NONE && b->proc[c->proc].conn == c)
    b->proc[c->proc].conn = NULL; /* its process may come again; its death is the bell's to tell */
  list_del(&c->link);
  b->n_conns--;
  chan_free(c->ch);
  free(c);
}

void attach_srv_request(struct broker *b, struct conn *c, const uint8_t *buf, size_t len) {
  const char *text = NULL;
  int rc = -EPROTO;
  Hoststack__Attach__Request *r = hoststack__attach__request__unpack(NULL, len, buf);
  if (r == NULL || (unsigned)r->body_case >= sizeof attach_handlers / sizeof *attach_handlers ||
      attach_handlers[r->body_case] == NULL) {
    log_warn_rl("broker.attach", "pid %d, uid %u: unreadable message of %zu bytes", c->cred.pid, c->cred.uid, len);
    broker_count(b, BROKER_STAT_BAD_MESSAGE);
    if (r != NULL)
      attach_srv_answer(c, r->seq, -EPROTO, "unknown request");
    goto out;
  }
  if (c->proc == REGISTRY_NONE && r->body_case != HOSTSTACK__ATTACH__REQUEST__BODY_HELLO)
    text = "Hello comes first";
  else if (c->waiting >= CONN_WAIT_MAX)
    rc = -EBUSY;
  else
    rc = attach_handlers[r->body_case](b, c, r, &text);
  if (rc < 0)
    attach_srv_answer(c, r->seq, rc, text);
out:
  if (r != NULL)
    hoststack__attach__request__free_unpacked(r, NULL);
}

/* --- replies --- */

int attach_srv_reply(struct conn *c, Hoststack__Attach__Reply *r, const int *fds, int n_fds) {
  uint8_t buf[1024];
  if (r->text == NULL)
    r->text = (char *)(uintptr_t)protobuf_c_empty_string;
  if (hoststack__attach__reply__get_packed_size(r) > sizeof buf)
    return -EMSGSIZE;
  size_t len = hoststack__attach__reply__pack(r, buf);
  int rc = c->ch != NULL ? chan_send(c->ch, buf, len, fds, n_fds) : 0;
  if (rc < 0 && rc != -EPIPE && rc != -ECONNRESET) {
    log_warn_rl("broker.attach", "reply to pid %d: %s", c->cred.pid, err_text(rc));
    shutdown(chan_fd(c->ch), SHUT_RDWR); /* an answer is lost: let it come again and repeat its requests */
  }
  return rc;
}

void attach_srv_answer(struct conn *c, uint32_t seq, int rc, const char *text) {
  Hoststack__Attach__Reply r = HOSTSTACK__ATTACH__REPLY__INIT;
  r.seq = seq;
  r.rc = -rc;
  if (rc < 0) {
    broker_count(c->b, BROKER_STAT_REFUSED);
    r.text = (char *)(uintptr_t)(text != NULL ? text : err_text(rc));
  }
  (void)attach_srv_reply(c, &r, NULL, 0);
}

/* --- requests that wait --- */

static void pend_free(struct pend *p) {
  if (p->app_fd >= 0)
    close(p->app_fd);
  p->conn->waiting--;
  list_del(&p->link);
  free(p);
}

/** Whether it is answered (or can be forgotten). */
static int pend_try(struct broker *b, struct pend *p) {
  switch (p->what) {
  case PEND_HELLO:
    return hello_done(b, p);
  case PEND_ADD:
    return workers_add_done(b, p);
  case PEND_LIVE:
    if (b->reg.worker[p->idx].used != REG_LIVE || b->reg.worker[p->idx].id != p->id) {
      attach_srv_answer(p->conn, p->seq, -ENOENT, "the worker is gone");
      return 1;
    }
    if (!b->worker[p->idx].live)
      return 0;
    attach_srv_answer(p->conn, p->seq, 0, NULL);
    return 1;
  case PEND_POLICY:
    return listen_done(b, p);
  case PEND_PART:
    return parts_done(b, p);
  case PEND_UNBIND: /* an engine that is away serves nobody */
    if (b->policy_seen_valid && (int32_t)(b->policy_seen - p->policy_gen) < 0)
      return 0;
    attach_srv_answer(p->conn, p->seq, 0, NULL);
    return 1;
  }
  return 1;
}

void pend_check(struct broker *b) {
  usec_t now = clock_now_us();
  for (struct list *l = b->pends.next, *next; l != &b->pends; l = next) {
    struct pend *p = container_of(l, struct pend, link);
    next = l->next;
    int done = pend_try(b, p);
    if (!done && now >= p->deadline) {
      broker_count(b, BROKER_STAT_TIMEOUTS);
      attach_srv_answer(p->conn, p->seq, -ETIMEDOUT, "the engine does not answer");
      done = 1;
    }
    if (done)
      pend_free(p);
  }
  if (list_empty(&b->pends) && b->pend_timer > 0) {
    loop_del_timer(b->svc.loop, b->pend_timer);
    b->pend_timer = 0;
  }
}

static void pend_tick(void *ctx) {
  pend_check(ctx);
}

struct pend *pend_new(struct conn *c, uint32_t seq, enum pend_what what, uint32_t idx, uint64_t id) {
  struct broker *b = c->b;
  struct pend *p = calloc(1, sizeof *p);
  if (p == NULL)
    return NULL;
  *p = (struct pend){.conn = c, .seq = seq, .what = what, .idx = idx, .id = id, .app_fd = -1};
  p->deadline = clock_now_us() + (usec_t)b->svc.cfg.app_timeout_ms * CLOCK_US_PER_MS;
  list_add_tail(&b->pends, &p->link);
  c->waiting++;
  if (b->pend_timer <= 0 && b->svc.loop != NULL)
    b->pend_timer = loop_add_timer(b->svc.loop, PEND_TICK_US, PEND_TICK_US, pend_tick, b);
  return p;
}

void pend_drop(struct broker *b, const struct conn *c) {
  for (struct list *l = b->pends.next, *next; l != &b->pends; l = next) {
    struct pend *p = container_of(l, struct pend, link);
    next = l->next;
    if (c == NULL || p->conn == c)
      pend_free(p);
  }
}

/* --- connections --- */

static void conn_on_msg(void *ctx, const uint8_t *buf, size_t len, int *fds, int n_fds) {
  struct conn *c = ctx;
  (void)fds;
  (void)n_fds; /* the channel takes none */
  attach_srv_request(c->b, c, buf, len);
}

static void conn_on_closed(void *ctx, int why) {
  struct conn *c = ctx;
  if (why == -EMSGSIZE || why == -EPROTO) {
    log_warn_rl("broker.attach", "pid %d, uid %u sent what no client sends", c->cred.pid, c->cred.uid);
    broker_count(c->b, BROKER_STAT_BAD_MESSAGE);
  }
  conn_close(c);
}

static const struct chan_ops conn_ops = {.msg = conn_on_msg, .closed = conn_on_closed};

/** Every second: who was heard nothing of makes room, and a socket that was left alone for lack of descriptors is
 * looked at again. */
static void attach_srv_tick(void *ctx) {
  struct broker *b = ctx;
  usec_t now = clock_now_us();
  for (struct list *l = b->conns.next, *next; l != &b->conns; l = next) {
    struct conn *c = container_of(l, struct conn, link);
    next = l->next;
    if (c->proc == REGISTRY_NONE && c->waiting == 0 &&
        now - c->since > (usec_t)b->svc.cfg.app_timeout_ms * CLOCK_US_PER_MS)
      conn_close(c);
  }
  for (uint32_t i = 0; i < b->n_attach; i++)
    (void)loop_mod_fd(b->svc.loop, b->attach[i].fd, EPOLLIN);
  if (list_empty(&b->conns)) {
    loop_del_timer(b->svc.loop, b->conn_timer);
    b->conn_timer = 0;
  }
}

static void attach_srv_accept(void *ctx, int fd, uint32_t events) {
  struct attach_sock *as = ctx;
  struct broker *b = as->b;
  (void)events;
  if (b->conn_timer <= 0)
    b->conn_timer = loop_add_timer(b->svc.loop, CONN_TICK_US, CONN_TICK_US, attach_srv_tick, b);
  int s = attach_accept(fd);
  if (s < 0) {
    if (s != -EAGAIN && s != -ECONNABORTED) {
      log_warn_rl("broker.attach", "accept: %s", err_text(s));
      (void)loop_mod_fd(b->svc.loop, fd, 0); /* not again before the tick: no busy loop without descriptors */
    }
    return;
  }
  if (b->n_conns >= b->svc.cfg.max_workers + CONN_SPARE) {
    log_warn_rl("broker.attach", "%u connections: one more is closed", b->n_conns);
    broker_count(b, BROKER_STAT_REFUSED);
    close(s);
    return;
  }
  struct conn *c = calloc(1, sizeof *c);
  if (c == NULL || attach_peer(s, &c->cred) < 0 || chan_new(&c->ch, b->svc.loop, s, 0, CONN_QUEUE, &conn_ops, c) < 0) {
    free(c);
    close(s);
    return;
  }
  c->b = b;
  c->ns = as->ns;
  c->proc = REGISTRY_NONE;
  c->since = clock_now_us();
  b->n_conns++;
  list_add_tail(&b->conns, &c->link);
}

static int attach_srv_bind(struct broker *b, const char *path, uint32_t ns) {
  struct attach_sock *as = &b->attach[b->n_attach];
  *as = (struct attach_sock){.b = b, .ns = ns, .fd = attach_listen(path, b->svc.cfg.attach_mode, 1024)};
  if (as->fd < 0) {
    log_error("broker.attach", "%s: %s", path, err_text(as->fd));
    return as->fd;
  }
  b->n_attach++;
  return 0;
}

int attach_srv_start(struct broker *b) {
  int rc = attach_srv_bind(b, b->svc.cfg.attach, 0);
  for (uint32_t i = 0; rc == 0 && i < b->svc.cfg.n_ns; i++)
    if (b->svc.cfg.ns[i].attach[0] != '\0')
      rc = attach_srv_bind(b, b->svc.cfg.ns[i].attach, i + 1);
  return rc;
}

void attach_srv_open(struct broker *b) {
  for (uint32_t i = 0; i < b->n_attach; i++) {
    int rc = loop_add_fd(b->svc.loop, b->attach[i].fd, EPOLLIN, attach_srv_accept, &b->attach[i]);
    if (rc < 0)
      log_error("broker.attach", "%s", err_text(rc));
  }
}

void attach_srv_stop(struct broker *b) {
  struct list *l;
  while (b->conns.next != NULL && (l = list_first(&b->conns)) != NULL)
    conn_close(container_of(l, struct conn, link));
  for (uint32_t i = 0; i < b->n_attach; i++) {
    loop_del_fd(b->svc.loop, b->attach[i].fd);
    close(b->attach[i].fd);
  }
  b->n_attach = 0;
}
