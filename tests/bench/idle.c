/*
 * Many connections that do nothing, for memory.py: what one of them costs.
 *
 *   idle serve PORT N_PORTS N SIZE       on libvppcom: accepts N connections on N_PORTS ports
 *   idle reach ADDRESS PORT N_PORTS N SIZE   on libvppcom: says "ready", and opens N connections when a byte comes
 *   idle take PORT N SIZE                on the kernel's sockets: accepts N
 *   idle open ADDRESS PORT N SIZE        on the kernel's sockets: opens N
 *
 * With SIZE not 0 each client sends SIZE bytes and gets them back: the fifos were in use. "open" is printed when all N
 * are established (and have exchanged their bytes); at the end of stdin everything is closed.
 */
#include "bench.h"
#include "vppcom.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS_MAX 64u
#define SIZE_MAX_ (1u << 20)

static uint8_t buf[SIZE_MAX_];

static void die(const char *what, int err) {
  fprintf(stderr, "idle: %s: %s\n", what, strerror(err));
  exit(1);
}

static uint32_t number(const char *text, uint32_t max) {
  return (uint32_t)bench_number(text, 0, max);
}

static void say(const char *what) {
  printf("%s\n", what);
  fflush(stdout);
}

/** Until nobody needs the connections any more. A worker of the library has to be looked after meanwhile. */
static void hold(int mq) {
  struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = mq, .events = POLLIN}};
  struct epoll_event ev;
  uint32_t set = mq >= 0 ? (uint32_t)vppcom_epoll_create() : 0;
  char c;
  for (;;) {
    if (mq >= 0)
      (void)vppcom_epoll_wait(set, &ev, 1, 0);
    if (poll(p, mq >= 0 ? 2 : 1, 100) < 0 && errno != EINTR)
      die("poll", errno);
    if ((p[0].revents & (POLLIN | POLLHUP)) != 0 && read(STDIN_FILENO, &c, 1) <= 0)
      return;
  }
}

/* --- on libvppcom --- */

/** Bytes that are to come, all of them. */
static void get(uint32_t h, uint32_t size) {
  for (uint32_t got = 0; got < size;) {
    int n = vppcom_session_read(h, buf + got, size - got);
    if (n <= 0)
      die("read", n == 0 ? EPIPE : -n);
    got += (uint32_t)n;
  }
}

static void put(uint32_t h, uint32_t size) {
  for (uint32_t done = 0; done < size;) {
    int n = vppcom_session_write(h, buf + done, size - done);
    if (n <= 0)
      die("write", -n);
    done += (uint32_t)n;
  }
}

static uint32_t listen_on(uint16_t port) {
  uint8_t any[16] = {0};
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = any, .port = htons(port)};
  int l = vppcom_session_create(VPPCOM_PROTO_TCP, 1);
  if (l < 0)
    die("create", -l);
  int rc = vppcom_session_bind((uint32_t)l, &ep);
  if (rc == 0)
    rc = vppcom_session_listen((uint32_t)l, 4096);
  if (rc < 0)
    die("listen", -rc);
  return (uint32_t)l;
}

struct server {
  uint32_t set, size, n, n_open, n_done;
  uint32_t *conn, *got; /* handle; bytes that have come */
};

/** Takes what has come on a connection; the last byte is answered. */
static void serve_conn(struct server *v, uint32_t i) {
  int n = vppcom_session_read(v->conn[i], buf, sizeof buf);
  if (n == VPPCOM_EAGAIN)
    return;
  if (n <= 0)
    die("read", n == 0 ? EPIPE : -n);
  v->got[i] += (uint32_t)n;
  if (v->got[i] < v->size)
    return;
  (void)vppcom_epoll_ctl(v->set, EPOLL_CTL_DEL, v->conn[i], NULL);
  put(v->conn[i], v->size);
  v->n_done++;
}

static void serve_accept(struct server *v, uint32_t listener) {
  int h;
  while (v->n_open < v->n && (h = vppcom_session_accept(listener, NULL, O_NONBLOCK)) >= 0) {
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = PORTS_MAX + v->n_open};
    v->conn[v->n_open++] = (uint32_t)h;
    if (v->size == 0)
      v->n_done++;
    else
      (void)vppcom_epoll_ctl(v->set, EPOLL_CTL_ADD, (uint32_t)h, &ev);
  }
}

static void serve(uint16_t port, uint32_t n_ports, uint32_t n, uint32_t size) {
  struct epoll_event ev[64];
  uint32_t listener[PORTS_MAX];
  struct server v = {.size = size, .n = n, .conn = calloc(n, sizeof *v.conn), .got = calloc(n, sizeof *v.got)};
  v.set = (uint32_t)vppcom_epoll_create();
  if (n_ports > PORTS_MAX || !v.conn || !v.got)
    die("serve", EINVAL);
  for (uint32_t i = 0; i < n_ports; i++) {
    listener[i] = listen_on((uint16_t)(port + i));
    ev[0] = (struct epoll_event){.events = EPOLLIN, .data.u64 = i};
    (void)vppcom_epoll_ctl(v.set, EPOLL_CTL_ADD, listener[i], &ev[0]);
  }
  say("listening");
  while (v.n_done < n) {
    int k = vppcom_epoll_wait(v.set, ev, 64, 1.0);
    for (int i = 0; i < k; i++)
      if (ev[i].data.u64 < PORTS_MAX)
        serve_accept(&v, listener[ev[i].data.u64]);
      else
        serve_conn(&v, (uint32_t)(ev[i].data.u64 - PORTS_MAX));
  }
  say("open");
  hold(vppcom_mq_epoll_fd());
  for (uint32_t i = 0; i < n; i++)
    (void)vppcom_session_close(v.conn[i]);
  for (uint32_t i = 0; i < n_ports; i++)
    (void)vppcom_session_close(listener[i]);
  say("closed");
}

static void reach(const char *address, uint16_t port, uint32_t n_ports, uint32_t n, uint32_t size) {
  uint8_t ip[16];
  char go;
  vppcom_endpt_t ep = {.is_ip4 = VPPCOM_IS_IP4, .ip = ip};
  uint32_t *conn = calloc(n, sizeof *conn);
  if (!conn || n_ports == 0 || inet_pton(AF_INET, address, ip) != 1)
    die(address, EINVAL);
  say("ready");
  if (read(STDIN_FILENO, &go, 1) != 1)
    die("stdin", EPIPE);
  for (uint32_t i = 0; i < n; i++) {
    ep.port = htons((uint16_t)(port + i % n_ports));
    int h = vppcom_session_create(VPPCOM_PROTO_TCP, 0);
    int rc = h < 0 ? h : vppcom_session_connect((uint32_t)h, &ep);
    if (rc < 0)
      die("connect", -rc);
    conn[i] = (uint32_t)h;
    put(conn[i], size);
    get(conn[i], size);
  }
  say("open");
  hold(vppcom_mq_epoll_fd());
  for (uint32_t i = 0; i < n; i++)
    (void)vppcom_session_close(conn[i]);
  say("closed");
}

/* --- on the kernel's sockets --- */

/** All bytes of a message, in or out. */
static void whole(int fd, uint32_t size, ssize_t (*op)(int, void *, size_t)) {
  for (uint32_t done = 0; done < size;) {
    ssize_t k = op(fd, buf + done, size - done);
    if (k <= 0)
      die("peer", k == 0 ? EPIPE : errno);
    done += (uint32_t)k;
  }
}

static ssize_t send_some(int fd, void *p, size_t n) {
  return write(fd, p, n);
}

static void open_kernel(const char *address, uint16_t port, uint32_t n, uint32_t size) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
    die(address, EINVAL);
  for (uint32_t i = 0; i < n; i++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
      die("connect", errno);
    whole(fd, size, send_some);
    whole(fd, size, read);
  }
  say("open");
  hold(-1);
}

static void take_kernel(uint16_t port, uint32_t n, uint32_t size) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (l < 0 || setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
      bind(l, (struct sockaddr *)&at, sizeof at) < 0 || listen(l, 4096) < 0)
    die("listen", errno);
  say("listening");
  for (uint32_t i = 0; i < n; i++) {
    int fd = accept(l, NULL, NULL);
    if (fd < 0)
      die("accept", errno);
    whole(fd, size, read);
    whole(fd, size, send_some);
  }
  say("open");
  hold(-1);
}

int main(int argc, char **argv) {
  struct rlimit r;
  const char *what = argc > 1 ? argv[1] : "";
  if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
  }
  if (strcmp(what, "open") == 0 && argc == 6)
    open_kernel(argv[2], (uint16_t)number(argv[3], 65535), number(argv[4], 1u << 20), number(argv[5], SIZE_MAX_));
  else if (strcmp(what, "take") == 0 && argc == 5)
    take_kernel((uint16_t)number(argv[2], 65535), number(argv[3], 1u << 20), number(argv[4], SIZE_MAX_));
  else if ((argc == 6 && strcmp(what, "serve") == 0) || (argc == 7 && strcmp(what, "reach") == 0)) {
    int rc = vppcom_app_create("idle");
    if (rc < 0)
      die("app_create", -rc);
    if (what[0] == 's')
      serve((uint16_t)number(argv[2], 65535), number(argv[3], PORTS_MAX), number(argv[4], 1u << 20),
            number(argv[5], SIZE_MAX_));
    else
      reach(argv[2], (uint16_t)number(argv[3], 65535), number(argv[4], PORTS_MAX), number(argv[5], 1u << 20),
            number(argv[6], SIZE_MAX_));
    vppcom_app_destroy();
  } else {
    die("usage: see the top of idle.c", EINVAL);
  }
  return 0;
}
