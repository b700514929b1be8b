/*
 * Request and response over TCP, for tests/bench: one program for both ends, natively or under the preload shim.
 *
 *   pingpong serve ADDRESS PORT SIZE                          echoes messages of SIZE bytes until SIGTERM
 *   pingpong ask ADDRESS PORT SIZE CONNECTIONS SECONDS RATE   messages over CONNECTIONS that stay open; RATE per second
 *                                                             over all of them, 0 = each as soon as it was answered
 *   pingpong connect ADDRESS PORT SIZE PARALLEL SECONDS MAX   a connection per message, PARALLEL at once, MAX in all
 *
 * One thread, one epoll set. Prints one JSON line: requests, seconds, rate, p50_us, p99_us, cpu_us (of this process).
 * Latency counts from the send; with RATE, from when it was due.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE_MAX_B 65536u
#define CONNS_MAX  4096u

struct conn {
  int fd, busy, up;
  uint32_t got;
  uint64_t since;
};

struct run {
  struct sockaddr_storage addr;
  socklen_t addr_len;
  uint32_t size, n_conns, idle[CONNS_MAX], n_idle;
  uint64_t seconds, rate, max, begun, done, start, end;
  int ep, reconnect;
  struct conn conn[CONNS_MAX];
  struct bench_times times;
  uint8_t buf[SIZE_MAX_B];
};

static void address(struct run *r, const char *host, const char *port) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&r->addr;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&r->addr;
  uint16_t p = htons((uint16_t)bench_number(port, 0, 65535));
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = p;
    r->addr_len = sizeof *v4;
  } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = p;
    r->addr_len = sizeof *v6;
  } else {
    fprintf(stderr, "pingpong: %s is no address\n", host);
    exit(2);
  }
}

static int stream(struct run *r) {
  int one = 1, fd = socket(r->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    bench_die("socket");
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
    bench_die("TCP_NODELAY");
  return fd;
}

/* --- server --- */

static void serve_accept(struct run *r, int lfd) {
  int one = 1;
  for (;;) {
    int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
      return;
    if (fd < 0)
      bench_die("accept4");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
      bench_die("calloc");
    c->fd = fd;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(r->ep, EPOLL_CTL_ADD, fd, &ev))
      bench_die("epoll_ctl");
  }
}

/* Messages are far smaller than socket buffers and each end waits for the other: a short write is a failure. */
static void serve_conn(struct run *r, struct conn *c) {
  ssize_t n = recv(c->fd, r->buf, sizeof r->buf, 0);
  if (n < 0 && errno == EAGAIN)
    return;
  if (n <= 0) {
    close(c->fd);
    free(c);
    return;
  }
  c->got += (uint32_t)n;
  uint32_t whole = c->got / r->size * r->size;
  c->got -= whole;
  if (whole && send(c->fd, r->buf, whole, MSG_NOSIGNAL) != (ssize_t)whole && errno != ECONNRESET && errno != EPIPE)
    bench_die("send");
}

static _Noreturn void serve(struct run *r) {
  struct epoll_event ev[64];
  struct conn listener = {.fd = stream(r)};
  int one = 1;
  (void)setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener.fd, (struct sockaddr *)&r->addr, r->addr_len) || listen(listener.fd, 4096))
    bench_die("bind or listen");
  ev[0] = (struct epoll_event){.events = EPOLLIN, .data.ptr = &listener};
  if (epoll_ctl(r->ep, EPOLL_CTL_ADD, listener.fd, &ev[0]))
    bench_die("epoll_ctl");
  for (;;) {
    int n = epoll_wait(r->ep, ev, 64, -1);
    if (n < 0 && errno != EINTR)
      bench_die("epoll_wait");
    for (int i = 0; i < n; i++) {
      if (ev[i].data.ptr == &listener)
        serve_accept(r, listener.fd);
      else
        serve_conn(r, ev[i].data.ptr);
    }
  }
}

/* --- client --- */

static void ask_open(struct run *r, uint32_t i) {
  struct conn *c = &r->conn[i];
  *c = (struct conn){.fd = stream(r), .since = bench_now_ns()};
  if (connect(c->fd, (struct sockaddr *)&r->addr, r->addr_len) && errno != EINPROGRESS)
    bench_die("connect");
  struct epoll_event ev = {.events = EPOLLOUT, .data.u32 = i};
  if (epoll_ctl(r->ep, EPOLL_CTL_ADD, c->fd, &ev))
    bench_die("epoll_ctl");
}

static void ask_send(struct run *r, uint32_t i, uint64_t due) {
  struct conn *c = &r->conn[i];
  c->busy = 1;
  c->got = 0;
  if (!r->reconnect)
    c->since = due;
  r->begun++;
  if (send(c->fd, r->buf, r->size, MSG_NOSIGNAL) != (ssize_t)r->size)
    bench_die("send");
}

static void ask_connected(struct run *r, uint32_t i) {
  struct conn *c = &r->conn[i];
  int err = 0;
  socklen_t len = sizeof err;
  if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len))
    bench_die("SO_ERROR");
  if (err) {
    errno = err;
    bench_die("connect");
  }
  c->up = 1;
  struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
  if (epoll_ctl(r->ep, EPOLL_CTL_MOD, c->fd, &ev))
    bench_die("epoll_ctl");
  if (r->reconnect)
    ask_send(r, i, 0);
  else
    r->idle[r->n_idle++] = i;
}

static void ask_done(struct run *r, uint32_t i) {
  struct conn *c = &r->conn[i];
  uint64_t t = bench_now_ns();
  c->busy = 0;
  r->done++;
  bench_times_add(&r->times, t - c->since);
  if (r->reconnect) {
    close(c->fd);
    c->fd = -1;
    if (t < r->end && r->begun < r->max)
      ask_open(r, i);
  } else if (r->rate || t >= r->end) {
    r->idle[r->n_idle++] = i;
  } else {
    ask_send(r, i, t);
  }
}

static void ask_event(struct run *r, uint32_t i) {
  struct conn *c = &r->conn[i];
  if (!c->up) {
    ask_connected(r, i);
    return;
  }
  ssize_t n = recv(c->fd, r->buf + c->got, r->size - c->got, 0);
  if (n < 0 && errno == EAGAIN)
    return;
  if (n <= 0)
    bench_die(n ? "recv" : "recv: end of file");
  c->got += (uint32_t)n;
  if (c->busy && c->got == r->size)
    ask_done(r, i);
}

/** Sends what is due; returns nanoseconds until the next is. */
static uint64_t ask_due(struct run *r) {
  for (;;) {
    uint64_t t = bench_now_ns(), due = r->start + r->begun * BENCH_NS / r->rate;
    if (t >= r->end || due >= r->end)
      return BENCH_NS / 10;
    if (due > t)
      return due - t;
    if (!r->n_idle)
      return BENCH_NS / 10;
    ask_send(r, r->idle[--r->n_idle], due);
  }
}

static int ask_busy(const struct run *r) {
  if (r->reconnect) {
    for (uint32_t i = 0; i < r->n_conns; i++)
      if (r->conn[i].fd >= 0)
        return 1;
    return 0;
  }
  return r->begun != r->done;
}

static void ask_turn(struct run *r, uint64_t wait_ns) {
  struct epoll_event ev[64];
  struct timespec t = {.tv_sec = (time_t)(wait_ns / BENCH_NS), .tv_nsec = (long)(wait_ns % BENCH_NS)};
  int n = epoll_pwait2(r->ep, ev, 64, &t, NULL);
  if (n < 0 && errno != EINTR)
    bench_die("epoll_pwait2");
  for (int i = 0; i < n; i++)
    ask_event(r, ev[i].data.u32);
}

static uint64_t cpu_us(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
         (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int ask(struct run *r) {
  uint64_t give_up;
  bench_times_init(&r->times);
  r->start = bench_now_ns();
  r->end = r->start + r->seconds * BENCH_NS;
  for (uint32_t i = 0; i < r->n_conns; i++)
    ask_open(r, i);
  while (!r->reconnect && r->n_idle < r->n_conns)
    ask_turn(r, BENCH_NS);
  uint64_t cpu = cpu_us();
  r->start = bench_now_ns();
  r->end = r->start + r->seconds * BENCH_NS;
  give_up = r->end + 20 * BENCH_NS;
  if (!r->rate && !r->reconnect)
    while (r->n_idle)
      ask_send(r, r->idle[--r->n_idle], bench_now_ns());
  for (;;) {
    uint64_t wait = r->rate ? ask_due(r) : BENCH_NS / 10, t = bench_now_ns();
    if (r->reconnect || t >= r->end ? !ask_busy(r) : 0)
      break;
    if (t > give_up) {
      fprintf(stderr, "pingpong: %llu requests without answer\n", (unsigned long long)(r->begun - r->done));
      return 1;
    }
    ask_turn(r, wait);
  }
  double seconds = (double)(bench_now_ns() - r->start) / 1e9;
  cpu = cpu_us() - cpu;
  if (!r->times.n)
    return 1;
  bench_times_sort(&r->times);
  printf(
      "{\"requests\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"cpu_us\": %llu}\n",
      (unsigned long long)r->done, seconds, (double)r->done / seconds, bench_times_us(&r->times, 50),
      bench_times_us(&r->times, 99), (unsigned long long)cpu);
  return 0;
}

int main(int argc, char **argv) {
  static struct run r;
  int server = argc == 5 && strcmp(argv[1], "serve") == 0;
  r.reconnect = argc == 8 && strcmp(argv[1], "connect") == 0;
  if (!server && !r.reconnect && !(argc == 8 && strcmp(argv[1], "ask") == 0)) {
    fprintf(stderr, "usage: pingpong serve ADDRESS PORT SIZE\n"
                    "       pingpong ask ADDRESS PORT SIZE CONNECTIONS SECONDS RATE\n"
                    "       pingpong connect ADDRESS PORT SIZE PARALLEL SECONDS MAX\n");
    return 2;
  }
  address(&r, argv[2], argv[3]);
  r.size = (uint32_t)bench_number(argv[4], 0, SIZE_MAX_B);
  if (!r.size)
    return 2;
  r.ep = epoll_create1(EPOLL_CLOEXEC);
  if (r.ep < 0)
    bench_die("epoll_create1");
  if (server)
    serve(&r);
  r.n_conns = (uint32_t)bench_number(argv[5], 0, CONNS_MAX);
  r.seconds = bench_number(argv[6], 0, 3600);
  r.rate = r.reconnect ? 0 : bench_number(argv[7], 0, 100000000);
  r.max = r.reconnect ? bench_number(argv[7], 0, UINT64_MAX) : UINT64_MAX;
  return ask(&r);
}
