/*
 * Example: libvppcom under libevent, with several workers. Each thread registers as a worker, has an event base, binds
 * and listens on the one port, and has the base watch its vppcom_mq_epoll_fd() edge-triggered; what happened is then
 * taken from a session epoll with time-out 0. This is how Envoy's VCL socket interface works (docs/ENVOY.md): the main
 * thread holds the bind, the workers read its address and listen themselves.
 *
 * event_workers PORT WORKERS   echoes on every connection. Commands on stdin: "close N": worker N closes its listener;
 *                              "count": accepted so far, per worker; end of file: the end.
 */
#include "vppcom.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define WORKERS_MAX 16
#define BATCH       8 /* small, so that a wake-up often leaves events behind; Envoy's is 128 */
#define ROOM        65536

enum order { ORDER_CLOSE = 1, ORDER_END = 2 }; /* bits, by eventfd */

struct conn {
  LIST_ENTRY(conn) link;
  uint32_t h;
  int have, at;
  char buf[ROOM];
};

struct worker {
  pthread_t thread;
  struct event_base *base;
  struct event *mq;
  struct conn listener; /* in the set like any other */
  LIST_HEAD(, conn) conns;
  uint32_t set;
  int orders, listens;
  unsigned accepted; /* atomic */
};

static struct worker workers[WORKERS_MAX];
static uint32_t main_session; /* worker 0's: bound, never listens */
static pthread_barrier_t all_listen;

static void check(const char *what, int rc) {
  if (rc >= 0)
    return;
  fprintf(stderr, "event_workers: %s: %s\n", what, vppcom_retval_str(rc));
  exit(1);
}

/** To the set; an event that is there already is the set's, but no edge of the mq fd: so look again soon. */
static void watch(const struct worker *w, struct conn *c) {
  struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
  check("epoll_ctl", vppcom_epoll_ctl(w->set, EPOLL_CTL_ADD, c->h, &ev));
  event_active(w->mq, EV_READ, 0);
}

static void accept_all(struct worker *w) {
  int h;
  while (w->listens && (h = vppcom_session_accept(w->listener.h, NULL, O_NONBLOCK)) >= 0) {
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL)
      abort();
    c->h = (uint32_t)h;
    LIST_INSERT_HEAD(&w->conns, c, link);
    watch(w, c);
    (void)__atomic_add_fetch(&w->accepted, 1, __ATOMIC_RELAXED);
  }
}

static void conn_end(struct conn *c) {
  (void)vppcom_session_close(c->h);
  LIST_REMOVE(c, link);
  free(c);
}

/** Echoes until something would block; the connection ends with its peer. */
static void echo(struct conn *c) {
  int n;
  do {
    while (c->at < c->have) {
      n = vppcom_session_write(c->h, c->buf + c->at, (size_t)(c->have - c->at));
      if (n == VPPCOM_EAGAIN)
        return;
      if (n < 0)
        goto over;
      c->at += n;
    }
    n = vppcom_session_read(c->h, c->buf, sizeof c->buf);
    c->at = 0;
    c->have = n > 0 ? n : 0;
  } while (n > 0);
  if (n == VPPCOM_EAGAIN)
    return;
over:
  conn_end(c);
}

/** At most one batch per wake-up: what is left must wake us again. */
static void on_mq(evutil_socket_t fd, short what, void *arg) {
  struct worker *w = arg;
  struct epoll_event ev[BATCH];
  (void)fd;
  (void)what;
  for (int left = BATCH, n; left > 0; left -= n) {
    n = vppcom_epoll_wait(w->set, ev, left, 0);
    if (n <= 0)
      break;
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr == &w->listener)
        accept_all(w);
      else
        echo(ev[i].data.ptr);
    }
  }
}

static void on_order(evutil_socket_t fd, short what, void *arg) {
  struct worker *w = arg;
  uint64_t orders = 0;
  (void)what;
  if (read(fd, &orders, sizeof orders) != (ssize_t)sizeof orders)
    return;
  if (w->listens && (orders & (ORDER_CLOSE | ORDER_END)) != 0) {
    w->listens = 0;
    check("close", vppcom_session_close(w->listener.h));
  }
  if ((orders & ORDER_END) != 0)
    (void)event_base_loopbreak(w->base);
}

/** Binds and listens where the main thread's session is bound. */
static void listen_too(struct worker *w) {
  uint8_t ip[16];
  vppcom_endpt_t ep = {.ip = ip};
  uint32_t len = sizeof ep;
  int self = vppcom_worker_index();
  vppcom_worker_index_set(vppcom_session_worker(main_session));
  check("GET_LCL_ADDR", vppcom_session_attr(main_session, VPPCOM_ATTR_GET_LCL_ADDR, &ep, &len));
  vppcom_worker_index_set(self);
  w->listener.h = (uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  check("bind", vppcom_session_bind(w->listener.h, &ep));
  check("listen", vppcom_session_listen(w->listener.h, 0));
  w->listens = 1;
}

static void *work(void *arg) {
  static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
  struct worker *w = arg;
  pthread_mutex_lock(&one); /* worker_index_set looks at another worker's session: one at a time */
  check("worker_register", vppcom_worker_register());
  w->set = (uint32_t)vppcom_epoll_create();
  listen_too(w);
  pthread_mutex_unlock(&one);
  w->base = event_base_new();
  w->mq = event_new(w->base, vppcom_mq_epoll_fd(), EV_READ | EV_PERSIST | EV_ET, on_mq, w);
  struct event *order = event_new(w->base, w->orders, EV_READ | EV_PERSIST, on_order, w);
  if (w->mq == NULL || order == NULL || event_add(w->mq, NULL) < 0 || event_add(order, NULL) < 0)
    abort();
  watch(w, &w->listener);
  (void)pthread_barrier_wait(&all_listen);
  (void)event_base_dispatch(w->base);
  while (!LIST_EMPTY(&w->conns))
    conn_end(LIST_FIRST(&w->conns));
  event_free(w->mq);
  event_free(order);
  event_base_free(w->base);
  vppcom_worker_unregister();
  return NULL;
}

static void tell(int n, enum order order) {
  uint64_t word = order;
  if (write(workers[n].orders, &word, sizeof word) != (ssize_t)sizeof word)
    abort();
}

static void obey(int n_workers) {
  char line[64];
  while (fgets(line, sizeof line, stdin) != NULL) {
    int n = strncmp(line, "close ", 6) == 0 ? (int)strtol(line + 6, NULL, 10) : -1;
    if (n >= 0 && n < n_workers)
      tell(n, ORDER_CLOSE);
    printf("accepted");
    for (int i = 0; i < n_workers; i++)
      printf(" %u", __atomic_load_n(&workers[i].accepted, __ATOMIC_RELAXED));
    printf("\n");
    fflush(stdout);
  }
}

int main(int argc, char **argv) {
  uint8_t any[16] = {0};
  int n = argc == 3 ? (int)strtol(argv[2], NULL, 10) : 0;
  if (n < 1 || n > WORKERS_MAX)
    return 2;
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = any, .port = htons((uint16_t)strtol(argv[1], NULL, 10))};
  check("app_create", vppcom_app_create("event_workers"));
  main_session = (uint32_t)vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  check("bind", vppcom_session_bind(main_session, &ep));
  pthread_barrier_init(&all_listen, NULL, (unsigned)n + 1);
  for (int i = 0; i < n; i++) {
    workers[i].orders = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (workers[i].orders < 0 || pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
      abort();
  }
  (void)pthread_barrier_wait(&all_listen);
  printf("listening\n");
  fflush(stdout);
  obey(n);
  for (int i = 0; i < n; i++) {
    tell(i, ORDER_END);
    (void)pthread_join(workers[i].thread, NULL);
    close(workers[i].orders);
  }
  vppcom_app_destroy();
  printf("over\n");
  return 0;
}
